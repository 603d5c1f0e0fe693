"""The tickets: those that press, one with its whole course, and the next step with it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from fastapi import Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ConfigDict, Field, ValidationError

from api import commands, satisfaction, tickets
from api.access import DESK, DOERS, STAFF, ForAll, ForDoers
from api.context import Api, Parts
from api.devices import HOUR_MS
from api.drawing import views
from api.labels import N_, labels_of
from api.pages.course import course
from api.pages.dispatch import Typed, show_dispatch
from api.pages.filling import local_input
from api.pages.narrowing import Asked, facets, shown, unassigned, whose_facet
from api.pages.shell import pages, render
from api.pages.ticking import OPEN_SHOWN, TO_SEND, ticking
from api.problems import Problem, is_api
from api.shapes import Act, Given, ReportBody
from api.words import wanted_lang
from monitor.desk.choices import LISTS
from monitor.desk.tickets import Outcome, Status, Verb
from monitor.store import cases, queries
from monitor.store.access import Role, Visitor

router = pages()

FORWARD = {
    Status.OPEN: Verb.VERIFY,
    Status.VERIFIED: Verb.DISPATCH,
    Status.DISPATCHED: Verb.ACCEPT,
    Status.ACCEPTED: Verb.DEPART,
    Status.ON_THE_WAY: Verb.ARRIVE,
    Status.ON_SITE: Verb.START_REPAIR,
    Status.REPAIRING: Verb.RESOLVE,
    Status.RESOLVED: Verb.CLOSE,
}
FOLDED = (Verb.RESOLVE, Verb.PAUSE, Verb.CANCEL, Verb.MERGE, Verb.LINK, Verb.CORRECT)
"""Steps that need to be told something, or are seldom taken: each is a fold with a form of its own."""
MACHINES_OFFERED = 2_000
PAST_SHOWN = 50
LOCAL_TIME = r"^(\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?)?$"
"""What a form's field for date and time sends; empty where it was left alone."""
OF_PAGE = {"parts", "wait_h", "until", "visit", "agreed"}
"""Fields of the form that the API knows by other names."""


class StepForm(Given):
    """A step as the ticket's page sends it."""

    model_config = ConfigDict(extra="ignore")
    in_lines = frozenset({"note", "parts"})

    technician_id: int | None = Field(None, ge=1, lt=2**63)
    note: str = Field("", max_length=2000)
    reason: str = Field("", max_length=40)
    wait_h: Literal["", "1", "2", "4", "8", "24", "48", "168"] = ""
    until: str = Field("", pattern=LOCAL_TIME)
    visit: str = Field("", pattern=LOCAL_TIME)
    agreed: bool = False
    other_id: int | None = Field(None, ge=1, lt=2**63)
    cause: str = Field("", max_length=40)
    action: str = Field("", max_length=40)
    borne_by: str = Field("", max_length=40)
    parts: str = Field("", max_length=4000)
    outcome: Outcome | None = None

    def act(self, verb: Verb, now: int, zone: ZoneInfo) -> Act:
        """The same, as the API knows it; times are those of the reader's zone. Raises the 422 Problem where a part's
        name is too long, or a time lies beyond all plans."""
        # One form holds several buttons, and the technician in it is for those that send somebody.
        sends = verb in (Verb.DISPATCH, Verb.ACCEPT)
        parts = [" ".join(line.split()) for line in self.parts.splitlines() if line.strip()]
        if len(parts) > 50 or any(len(part) > 120 for part in parts):
            raise Problem(422, "The request is not valid", "parts: at most 50, each of at most 120 characters")
        # A date says more than a number of hours.
        until_at = (
            local_ms(self.until, zone) if self.until else now + int(self.wait_h) * HOUR_MS if self.wait_h else None
        )
        rest = self.model_dump(exclude=OF_PAGE if sends else OF_PAGE | {"technician_id"})
        try:
            return Act(parts=parts, until_at=until_at, visit_at=local_ms(self.visit, zone) if sends else None, **rest)
        except ValidationError as wrong:
            first = wrong.errors()[0]
            raise Problem(422, "The request is not valid", f"{first['loc'][0]}: {first['msg']}") from wrong


def local_ms(text: str, zone: ZoneInfo) -> int | None:
    """A moment as a form's field for date and time writes it, in the reader's zone. Raises the 422 Problem where the
    calendar has no such moment."""
    if not text:
        return None
    try:
        return round(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise Problem(422, "The request is not valid", f"{text[:16]}: there is no such date and time") from error


class NewTicketForm(Given):
    """What somebody told the office, as the page sends it."""

    in_lines = frozenset({"text"})

    device_id: str = Field("", max_length=64)
    text: str = Field("", max_length=4000)
    stopped: bool = False
    origin: Literal["phone", "office"] = "phone"
    reported_by: str = Field("", max_length=200)


@router.get("/tickets")
def tickets_page(
    request: Request,
    api: Parts,
    visitor: ForAll,
    asked: Asked,
    show: Annotated[str, Query(max_length=8)] = "open",
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> HTMLResponse:
    past = show == "all"
    labels = labels_of(request, wanted_lang(request, api.lang))
    wanted = asked.wanted(visitor)
    listed = tickets.newest(api, visitor, wanted, PAST_SHOWN, cursor) if past else None
    found = listed.items if listed else tickets.by_time_left(api, visitor, wanted, OPEN_SHOWN)
    tally = tickets.count_tickets(api, visitor).items
    with api.reading() as connection:
        open_now = queries.open_tickets(connection, api.scope(visitor))
    return render(
        request, "tickets.html", visitor=visitor, past=past, asked=asked, open_now=open_now,
        nobodys=unassigned(tally), beyond=0 if past else max(shown(asked, tally, visitor) - len(found), 0),
        may_report=visitor.role in DOERS, may_board=visitor.role in STAFF,
        tickets=ticking(api, visitor, found, request),
        whose=whose_facet(asked, tally, visitor, labels, "/tickets"),
        facets=facets(asked, tally, visitor, labels, "/tickets", staged=True),
        past_href=asked.link("/tickets", show="all"), open_href=asked.link("/tickets"),
        board_href=asked.at("").link("/tickets/board"),
        next_href=asked.link("/tickets", show="all", cursor=listed.next) if listed and listed.next else "",
    )  # fmt: skip


@router.get("/tickets/new")
def new_ticket_page(
    request: Request, api: Parts, visitor: ForDoers, device: Annotated[str, Query(max_length=64)] = ""
) -> HTMLResponse:
    return _new_ticket_page(request, api, visitor, NewTicketForm(device_id=device))


@router.post("/tickets/new")
def open_ticket(
    request: Request, api: Parts, visitor: ForDoers, form: Annotated[NewTicketForm, Form()]
) -> Response:  # fmt: skip
    """Open the ticket, or join the machine's, and show it."""
    try:
        body = ReportBody(**{**form.model_dump(), "device_id": form.device_id.strip(), "text": form.text.strip()})
        ticket_id = tickets.report(request, api, visitor, body).id
    except ValidationError:
        return _new_ticket_page(request, api, visitor, form, N_("Name the machine, and say what is wrong with it."))
    except Problem as problem:
        if problem.status != 404:
            raise
        return _new_ticket_page(request, api, visitor, form, N_("There is no such machine."))
    return RedirectResponse(f"/tickets/{ticket_id}", 303)


def _new_ticket_page(
    request: Request, api: Api, visitor: Visitor, form: NewTicketForm, complaint: str = ""
) -> HTMLResponse:  # fmt: skip
    with api.reading() as connection:
        machines = queries.devices(connection, api.scope(visitor), limit=MACHINES_OFFERED)
    words = labels_of(request, wanted_lang(request, api.lang)).words
    return render(
        request, "ticket_new.html", visitor=visitor, status=422 if complaint else 200, form=form, machines=machines,
        complaint=words.say(complaint) if complaint else "",
    )  # fmt: skip


@router.get("/tickets/{ticket_id}")
def ticket_page(request: Request, api: Parts, visitor: ForAll, ticket_id: tickets.TicketId) -> HTMLResponse:
    return show_ticket(request, api, visitor, ticket_id)


@router.post("/tickets/{ticket_id}/{verb}")
def ticket_step(
    request: Request,
    api: Parts,
    visitor: ForDoers,
    ticket_id: tickets.TicketId,
    verb: Verb,
    form: Annotated[StepForm, Form()],
) -> Response:
    """Take the step and show the ticket again; a step that is no longer possible, or lacks something, is explained
    where it was asked for."""
    # Who has said yes already need not be asked.
    taken = Verb.ACCEPT if verb is Verb.DISPATCH and form.agreed else verb
    zone = labels_of(request, wanted_lang(request, api.lang)).words.zone
    try:
        tickets.take_step(api, visitor, ticket_id, taken, form.act(taken, api.clock(), zone))
    except Problem as problem:
        if problem.status not in (409, 422) or is_api(request):
            raise
        # Whom to send is asked for in the page's own words; the other fields are required by the form itself.
        sends_nobody = taken in (Verb.DISPATCH, Verb.ACCEPT) and form.technician_id is None
        complaint = problem.detail if problem.status == 422 and not sends_nobody else ""
        if verb is Verb.DISPATCH and complaint and visitor.role in DESK:
            typed = Typed(form.note, form.visit, form.agreed)
            return show_dispatch(request, api, visitor, ticket_id, typed, complaint)
        return show_ticket(request, api, visitor, ticket_id, refused=taken, complaint=complaint)
    return RedirectResponse(f"/tickets/{ticket_id}", 303)


@dataclass(frozen=True)
class Ways:
    """How a ticket can go on, as its page offers it."""

    buttons: list[str]
    """Steps that need no more than a note."""
    lead: str
    """The likely next step where that needs to be told something: a form that stands open."""
    more: list[str]
    """What is seldom done, under one fold."""
    sends: bool
    """Somebody can be sent: the dialogue says whom."""


def ways_of(status: str, allowed: list[str], forward: str, *, may_send: bool) -> Ways:
    """What is wrong is verified once; what somebody writes of it later is a diagnosis. Who is sent, and who has agreed
    to go, is chosen in the dialogue."""
    folded = FOLDED if status == Status.OPEN else (Verb.VERIFY, *FOLDED)
    aside = [str(verb) for verb in folded if verb in allowed]
    chosen = (Verb.DISPATCH, Verb.ACCEPT) if may_send and status in TO_SEND else (Verb.DISPATCH,) if may_send else ()
    buttons = [verb for verb in allowed if verb not in aside and verb not in chosen]
    lead = forward if forward in aside else ""
    more = [verb for verb in aside if verb != lead]
    sends = may_send and Verb.DISPATCH in allowed
    # One form with a note is enough: beside a longer one the others stand under the fold too.
    return Ways([], lead, [*buttons, *more], sends) if lead else Ways(buttons, lead, more, sends)


def show_ticket(
    request: Request, api: Api, visitor: Visitor, ticket_id: int, refused: Verb | None = None, complaint: str = ""
) -> HTMLResponse:  # fmt: skip
    """The ticket; where a step with it was refused, with the reason."""
    labels = labels_of(request, wanted_lang(request, api.lang))
    ticket, found = tickets.ticket_detail(api, visitor, ticket_id, labels, with_readings=False)
    with api.reading() as connection:
        technicians = queries.technicians(connection) if ticket.allowed else []
        lists = {name: cases.choices(connection, name) for name in LISTS}
        said = satisfaction.of_ticket(connection, ticket_id) if visitor.role in STAFF else []
    titles = {choice.code: choice.title(labels.words.lang) for some in lists.values() for choice in some}

    def chosen(code: str) -> str:
        return titles.get(code, code)

    forward = _forward(ticket.status, ticket.allowed, cleared=ticket.cleared_at is not None)
    explained = {(one.kind, one.turn): one for one in tickets.explained_clocks(api, visitor, ticket_id)}
    return render(
        request,
        "ticket.html",
        visitor=visitor,
        status=422 if complaint else 409 if refused else 200,
        ticket=ticket,
        views=[view for view in views(found) if view.drawings] if found else [],
        technicians=technicians,
        refused=refused,
        complaint=complaint,
        choices=lists,
        chosen=chosen,
        course=course(ticket, labels, chosen),
        explained=explained,
        said=said,
        forward=forward,
        ways=ways_of(ticket.status, ticket.allowed, forward, may_send=visitor.role in DESK),
        may_ask=commands.may_ask(visitor, ticket),
        names_technician=visitor.role is not Role.TECHNICIAN and ticket.technician_id is None,
        earliest=local_input(api.clock(), labels.words.zone),
    )


def _forward(status: str, allowed: list[str], *, cleared: bool) -> str:
    """The step that most likely comes next: a cleared fault's ticket is closed, any other goes on with its life."""
    likely = Verb.CLOSE if cleared else FORWARD.get(Status(status))
    if likely in allowed:
        return str(likely)
    aside = (Verb.VERIFY, Verb.DECLINE, *FOLDED)
    return next((verb for verb in allowed if verb not in aside), allowed[0] if allowed else "")
