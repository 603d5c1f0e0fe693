"""The dispatch dialogue: who could go to a ticket, why, and since when somebody is being asked."""

from fastapi import Request
from fastapi.responses import HTMLResponse

from api import tickets
from api.access import ForDesk
from api.context import Api, Parts
from api.dispatching import proposed
from api.labels import labels_of
from api.pages.filling import Complaint
from api.pages.shell import pages, render
from api.words import wanted_lang
from monitor.desk.tickets import Verb
from monitor.store.access import Visitor

router = pages()


@router.get("/tickets/{ticket_id}/dispatch")
def dispatch_page(request: Request, api: Parts, visitor: ForDesk, ticket_id: tickets.TicketId) -> HTMLResponse:
    return show_dispatch(request, api, visitor, ticket_id)


def show_dispatch(
    request: Request, api: Api, visitor: Visitor, ticket_id: int, complaint: Complaint | None = None
) -> HTMLResponse:
    """The dialogue; where it was refused, with the reason."""
    labels = labels_of(request, wanted_lang(request, api.lang))
    ticket, _ = tickets.ticket_detail(api, visitor, ticket_id, labels, with_readings=False)
    proposal = proposed(api, visitor, ticket_id, labels, lambda at, _zone, _lang: labels.words.moment(at))
    return render(
        request, "dispatch.html", visitor=visitor, ticket=ticket, proposal=proposal, complaint=complaint,
        may=Verb.DISPATCH in ticket.allowed,
        sendable=[one for one in proposal.excluded if one.may_be_sent],
        barred=[one for one in proposal.excluded if not one.may_be_sent],
    )  # fmt: skip
