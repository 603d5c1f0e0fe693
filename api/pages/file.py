"""A machine's file, as it is read: one time line with a search."""

from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import HTMLResponse

from api.access import ForStaff
from api.context import Parts
from api.devices import DeviceId
from api.file import SUMMED_MS, Teller, cursor_at, known, place, until
from api.labels import labels_of
from api.pages.shell import pages, render
from api.words import wanted_lang
from monitor.fleet.file import Kind
from monitor.store import file

router = pages()


@router.get("/machines/{device_id}/file")
def file_page(
    request: Request, api: Parts, visitor: ForStaff, device_id: DeviceId, q: Annotated[str, Query(max_length=200)] = "",
    kind: Annotated[str, Query(max_length=20)] = "", cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> HTMLResponse:  # fmt: skip
    kinds = [one for one in Kind if one == kind]
    asked = file.Asked(0, until(api, None), kinds, q, place(cursor))
    with api.reading() as connection:
        row = known(connection, device_id)
        teller = Teller.of(connection, labels_of(request, wanted_lang(request, api.lang)), row)
        found = file.read(connection, device_id, asked, 100, teller.words)
        heard = file.heard(connection, device_id)
        months = file.months(connection, device_id, api.zone, api.clock() - SUMMED_MS)
    return render(
        request, "file.html", visitor=visitor, machine=row, lines=[teller.line(entry) for entry in found.entries],
        kinds=list(Kind), chosen=kind if kinds else "", sought=q, heard=heard, months=months[:12],
        following=cursor_at(found.following),
    )  # fmt: skip
