"""Registers as CSV, to be kept, worked on in a spreadsheet, and read in again (fettle import)."""

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import StreamingResponse

from api.access import ForOffice, KnownQuery
from api.context import Parts
from api.problems import documented
from monitor.store import sheets
from monitor.store.sheets import Register

router = APIRouter(prefix="/api/v1", tags=["registers"], dependencies=[KnownQuery])

CSV = "text/csv; charset=utf-8"
RESPONSES: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


@router.get(
    "/exports/{kind}.csv", response_class=StreamingResponse, responses={**documented(401, 403, 422), **RESPONSES}
)
def export(api: Parts, _: ForOffice, kind: Annotated[Register, Path()]) -> StreamingResponse:
    """All devices, sites, customers, rentals or done maintenance. Cells that a spreadsheet would run as a formula have
    an apostrophe before them, which an import takes away again."""

    def lines() -> Iterator[str]:
        with api.reading() as connection:
            yield from sheets.export(connection, kind, api.zone, api.profiles)

    headers = {"Content-Disposition": f'attachment; filename="{kind}.csv"'}
    return StreamingResponse(lines(), media_type=CSV, headers=headers)
