"""Lists in pages: `limit`, and an opaque `cursor` that says after which row the next page begins."""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Annotated, TypeVar

from fastapi import Query
from pydantic import AfterValidator, BaseModel

from api.problems import Problem

MAX_ITEMS = 500
Limit = Annotated[
    int,
    Query(ge=1, description=f"Items a page; more than {MAX_ITEMS} are given as {MAX_ITEMS}."),
    AfterValidator(lambda asked: min(asked, MAX_ITEMS)),
]
Cursor = Annotated[
    str | None, Query(max_length=200, description="`next` of the previous page; without it, the first page.")
]

Item = TypeVar("Item", bound=BaseModel)
Key = TypeVar("Key", int, str)


def cursor_of(key: int | str) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def key_of(cursor: str | None, kind: type[Key]) -> Key | None:
    """The key of the last row already seen. Raises the 422 Problem where the cursor is not one of ours."""
    if cursor is None:
        return None
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error):
        key = None
    beyond = not key.isprintable() if isinstance(key, str) else isinstance(key, int) and abs(key) >= 2**63
    if type(key) is not kind or beyond:
        raise Problem(422, "The request is not valid", "cursor: take it unchanged from `next` of the previous page")
    return key


def cut(items: Sequence[Item], limit: int, key: str) -> tuple[list[Item], str | None]:
    """Of `limit + 1` items the first `limit`, and where the next page begins; None where there is none."""
    page = list(items[:limit])
    return page, cursor_of(getattr(page[-1], key)) if len(items) > limit else None
