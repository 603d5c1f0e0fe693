"""What the store refuses, as problems: 404, 409, 412 or 422."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Header, Response

from api.problems import Problem, not_found
from monitor.store.registry import Conflict, Refused, Stale

IfMatch = Annotated[str | None, Header(max_length=80, description="The ETag of what you read; another one is refused.")]


@contextmanager
def refusals_told(what: str) -> Iterator[None]:
    """Within, a command's refusal is answered; `what` names the thing in the address."""
    try:
        yield
    except LookupError as missing:
        raise not_found(what) from missing
    except Stale as newer:
        raise Problem(412, f"The {what} has changed", str(newer), headers={"ETag": f'"{newer.tag}"'}) from newer
    except Conflict as conflict:
        raise Problem(409, "This is not possible now", str(conflict)) from conflict
    except Refused as refusal:
        raise Problem(422, "The request is not valid", str(refusal)) from refusal


def give_tag(response: Response, tag: object) -> None:
    """Say as what the thing in the answer can be named by an If-Match (ETag)."""
    response.headers["ETag"] = f'"{tag}"'


def seen_tag(if_match: str | None) -> str | None:
    """The tag that an If-Match names; None: any will do."""
    if if_match is None or if_match.strip() == "*":
        return None
    return if_match.strip().removeprefix("W/").strip('"')
