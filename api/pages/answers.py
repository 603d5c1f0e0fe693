"""The page that an alert's link opens: what the ticket is about, and two buttons, yes and no.

The signed link is its own proof. Opening it changes nothing, since programs that scan messages open links too.
"""

from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Form, Path, Request
from fastapi.responses import HTMLResponse

from api.access import Open, guesses_of
from api.context import Api, Parts
from api.denials import note_denial, stranger
from api.pages.shell import render
from api.problems import Problem
from api.shapes import plain
from api.tickets import with_clocks
from api.words import wanted_lang
from monitor.desk.notices import headline
from monitor.desk.tickets import ARRANGED, NotPossible, Status
from monitor.engine import NoSuchTicket
from monitor.engine.paging import Offered
from monitor.links import LONGEST
from monitor.store import paging, queries
from monitor.store.queries import AnyRow, Scope

log = structlog.get_logger()
router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse, dependencies=[Open])

Token = Annotated[str, Path(max_length=LONGEST)]


@router.get("/answer/{token}")
def offer(request: Request, api: Parts, token: Token) -> HTMLResponse:
    """What somebody is asked to take, with the two buttons while it can be taken."""
    return _page(request, api, _offered(request, api, token))


@router.post("/answer/{token}")
def answer(
    request: Request, api: Parts, token: Token, says: Annotated[Literal["yes", "no"], Form()]
) -> HTMLResponse:  # fmt: skip
    """Take the answer, and show how the ticket stands now."""
    offered = _offered(request, api, token)
    try:
        if says == "yes":
            api.desk.paging.accept(offered, api.clock())
        else:
            api.desk.paging.decline(offered, f"person:{offered.person_id}", api.clock())
    except NotPossible:
        return _page(request, api, offered, status=409)
    return _page(request, api, offered)


def _offered(request: Request, api: Api, token: str) -> Offered:
    """Forged, too old, or of somebody who has left: it is all the same to whoever holds it. Raises the 404 Problem, or
    the 429 one after too many."""
    found = api.desk.paging.offered(token, api.clock())
    if found is not None:
        with api.reading() as connection:
            known = found.person_id in {row.id for row in queries.technicians(connection)}
            row = queries.ticket_row(connection, Scope(api.clock()), found.ticket_id)
        if known and row is not None:
            return found
    log.warning("link_refused", link="answer")
    note_denial(request, api, stranger(request), "link_refused", "answer")
    guesses_of(request).refuse(request.client.host if request.client else "")
    raise Problem(404, "Not found")


def _page(request: Request, api: Api, offered: Offered, *, status: int = 200) -> HTMLResponse:
    with api.reading() as connection:
        row = queries.ticket_row(connection, Scope(api.clock()), offered.ticket_id)
        if row is None:
            raise NoSuchTicket(f"there is no ticket {offered.ticket_id}")
        asked = paging.is_asked(connection, row.id, offered.person_id)
        ticket = with_clocks(connection, [row])[0]
        notes = paging.access_notes(connection, row.site_id)
    lang = wanted_lang(request, api.lang)
    what = headline(row.kind, row.subject, plain(row.evidence), api.profiles.get(row.profile or ""), lang)
    return render(
        request, "answer.html", status=status, ticket=ticket, what=what, state=_state(row, offered, asked=asked),
        promises=[one for one in ticket.commitments if one.running], access_notes=notes,
    )  # fmt: skip


def _state(row: AnyRow, offered: Offered, *, asked: bool) -> str:
    """How the ticket stands for whoever holds the link: offered, free, theirs, or gone."""
    mine = row.technician_id == offered.person_id
    if row.status in ARRANGED or row.status == Status.RESOLVED:
        return "theirs" if mine else "gone"
    if row.status not in (Status.OPEN, Status.VERIFIED, Status.DISPATCHED):
        return "gone"
    if mine or asked:
        return "offered"
    return "free" if row.technician_id is None else "gone"
