"""Messages that broke the wire contract: which, why, and what to do about them."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Request
from fastapi.responses import HTMLResponse

from api.access import ForOps
from api.context import Parts
from api.pages.shell import pages, render
from api.registers import count_rejected, list_rejected

router = pages()

SHOWN = 50


@router.get("/rejected")
def rejected_page(
    request: Request,
    api: Parts,
    visitor: ForOps,
    device_id: Annotated[str, Query(max_length=64)] = "",
    reason: Annotated[str, Query(max_length=40)] = "",
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> HTMLResponse:
    found = list_rejected(api, visitor, device_id or None, reason or None, SHOWN, cursor)
    kept = {"device_id": device_id, "reason": reason}
    return render(
        request, "rejected.html", visitor=visitor, messages=found.items, following=found.next, device_id=device_id,
        reason=reason, counts=count_rejected(api, visitor),
        link=lambda **other: "?" + urlencode({name: value for name, value in (kept | other).items() if value}),
    )  # fmt: skip
