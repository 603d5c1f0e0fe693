"""Shift hand-over as a page: what whoever comes on takes over, to read and to print."""

from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import HTMLResponse

from api import tickets
from api.access import ForStaff
from api.context import Api, Parts
from api.handover import told_of_shift
from api.labels import labels_of
from api.pages.shell import pages, render
from api.shapes import AskedMoment, TicketShape
from api.words import wanted_lang
from monitor.desk.handover import Handover
from monitor.store.access import Visitor
from monitor.store.queries import Wanted

router = pages()

LOOKED_AT = 700


@router.get("/handover")
def handover_page(
    request: Request, api: Parts, visitor: ForStaff, shift: Annotated[AskedMoment | None, Query()] = None
) -> HTMLResponse:
    found, told, name = told_of_shift(api, shift)
    labels, now = labels_of(request, wanted_lang(request, api.lang)), api.clock()
    known = {one.id: one for one in _tickets(api, visitor, told)}
    return render(
        request, "handover.html", visitor=visitor, told=told, person_name=name,
        headlines={ticket_id: labels.headline(one) for ticket_id, one in known.items()},
        names={ticket_id: one.technician_name or "" for ticket_id, one in known.items()},
        waiting=[case for case in told.open if case.waits_for],
        going=[case for case in told.open if not case.waits_for],
        past=shift is not None, earlier=found.start_at - 1,
        later=found.end_at if shift is not None and found.end_at <= now else None,
    )  # fmt: skip


def _tickets(api: Api, visitor: Visitor, told: Handover) -> list[TicketShape]:
    """Every ticket that is told of, as it stands now."""
    cases = [*told.open, *(one.case for one in told.promised), *(one.case for one in told.happened)]
    wanted = Wanted(ids={case.ticket_id for case in cases})
    return tickets.newest(api, visitor, wanted, LOOKED_AT, None).items
