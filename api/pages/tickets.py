"""The tickets: those that press, one with its whole course, and the next step with it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api import commands, satisfaction, tickets
from api.access import DESK, DOERS, STAFF, ForAll, ForDoers
from api.context import Api, Parts
from api.devices import HOUR_MS
from api.drawing import views
from api.labels import N_, labels_of
from api.pages.course import course
from api.pages.dispatch import show_dispatch
from api.pages.filling import Complaint, Form, Sent, Wrong, complaint_of, local_input, made, words_for
from api.pages.narrowing import Asked, facets, shown, unassigned, whose_facet
from api.pages.refused import NO_SUCH_CHOICE
from api.pages.shell import pages, render
from api.pages.ticking import OPEN_SHOWN, TO_SEND, ticking
from api.problems import Problem, is_api
from api.shapes import Act, ReportBody
from api.words import wanted_lang
from monitor.desk.choices import LISTS
from monitor.desk.tickets import Status, Verb
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
WAITS_H = (1, 2, 4, 8, 24, 48, 168)
"""For so many hours a ticket is set to wait; any other time is said by its day."""
AS_TYPED = ("note", "reason", "cause", "action", "borne_by", "outcome")


def act_of(form: Form, verb: Verb, now: int) -> Act:
    """A step as a page's form sends it, as the API knows it. Raises the 422 Problem where something cannot be."""
    # One form holds several buttons, and the technician in it is for those that send somebody.
    sends = verb in (Verb.DISPATCH, Verb.ACCEPT)
    given = {name: form.text(name) for name in AS_TYPED if form.text(name)}
    return made(Act, {
        **given, "parts": form.lines("parts"), "until_at": _until(form, now), "other_id": form.whole("other_id"),
        "technician_id": form.whole("technician_id") if sends else None,
        "visit_at": form.moment("visit") if sends else None,
    })  # fmt: skip


def _until(form: Form, now: int) -> int | None:
    """Until when it waits: a day says more than a number of hours."""
    wait_h = form.whole("wait_h")
    if wait_h not in (None, *WAITS_H):
        raise Wrong("wait_h", NO_SUCH_CHOICE)
    return form.moment("until") or (now + wait_h * HOUR_MS if wait_h else None)


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
        site_name = queries.site_name(connection, asked.site) if visitor.role in STAFF else None
    return render(
        request, "tickets.html", visitor=visitor, past=past, asked=asked, open_now=open_now,
        nobodys=unassigned(tally), beyond=0 if past else max(shown(asked, tally, visitor) - len(found), 0),
        may_report=visitor.role in DOERS, may_board=visitor.role in STAFF,
        tickets=ticking(api, visitor, found, request),
        whose=whose_facet(asked, tally, visitor, labels, "/tickets"),
        facets=facets(asked, tally, visitor, labels, "/tickets", staged=True, site_name=site_name),
        past_href=asked.link("/tickets", show="all"), open_href=asked.link("/tickets"),
        board_href=asked.at("").link("/tickets/board"),
        next_href=asked.link("/tickets", show="all", cursor=listed.next) if listed and listed.next else "",
    )  # fmt: skip


@router.get("/tickets/new")
def new_ticket_page(
    request: Request, api: Parts, visitor: ForDoers, device: Annotated[str, Query(max_length=64)] = ""
) -> HTMLResponse:
    return _new_ticket_page(request, api, visitor, device)


@router.post("/tickets/new")
def open_ticket(request: Request, api: Parts, visitor: ForDoers, form: Sent) -> Response:
    """Open the ticket, or join the machine's, and show it."""
    given = {name: form.text(name) for name in ("device_id", "text", "reported_by")}
    try:
        origin, stopped = form.text("origin") or "phone", form.text("stopped") == "true"
        body = made(ReportBody, {**given, "origin": origin, "stopped": stopped})
        ticket_id = tickets.report(request, api, visitor, body).id
    except Problem as problem:
        missing = not (given["device_id"] and given["text"])
        said = N_("Name the machine, and say what is wrong with it.") if missing else ""
        complaint = _of_new(problem, words_for(request).say(said) if said else "")
        return _new_ticket_page(request, api, visitor, given["device_id"], complaint)
    return RedirectResponse(f"/tickets/{ticket_id}", 303)


def _of_new(problem: Problem, said: str) -> Complaint:
    """That there is no such machine is a slip of whoever typed its name, and no page that is not there."""
    if problem.status == 404:
        problem = Wrong("device_id", N_("There is no such machine."))
    return complaint_of(problem, said)


def _new_ticket_page(
    request: Request, api: Api, visitor: Visitor, device_id: str, complaint: Complaint | None = None
) -> HTMLResponse:
    with api.reading() as connection:
        machines = queries.devices(connection, api.scope(visitor), limit=MACHINES_OFFERED)
    return render(
        request, "ticket_new.html", visitor=visitor, device_id=device_id, machines=machines, complaint=complaint
    )


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
    form: Sent,
) -> Response:
    """Take the step and show the ticket again; a step that is no longer possible, or lacks something, is explained
    where it was asked for."""
    # Who has said yes already need not be asked.
    taken = Verb.ACCEPT if verb is Verb.DISPATCH and form.text("agreed") else verb
    try:
        act = act_of(form, taken, api.clock())
        tickets.take_step(api, visitor, ticket_id, taken, act, tickets.revision_of(form.tag))
    except Problem as problem:
        if is_api(request):
            raise
        complaint = complaint_of(problem, _why_not(request, api, visitor, ticket_id, problem, form))
        show = show_dispatch if verb is Verb.DISPATCH and visitor.role in DESK else show_ticket
        return show(request, api, visitor, ticket_id, complaint)
    return RedirectResponse(f"/tickets/{ticket_id}", 303)


def _why_not(
    request: Request, api: Api, visitor: Visitor, ticket_id: int, problem: Problem, form: Form
) -> str:  # fmt: skip
    """Why a step is not possible as the ticket stands, and which are; or what was done since it was read. '' where the
    problem says it better."""
    if problem.status not in (409, 412):
        return ""
    labels = labels_of(request, wanted_lang(request, api.lang))
    ticket, _ = tickets.ticket_detail(api, visitor, ticket_id, labels, with_readings=False)
    if problem.status == 409:
        return labels.refusal(ticket.status, ticket.allowed)
    read_at = form.whole("read_at") or 0
    since = [one for one in ticket.steps if one.recorded_at > read_at]
    return labels.words.say("Since then: %(what)s.", what=labels.listed(map(labels.step_told, since))) if since else ""


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
    request: Request, api: Api, visitor: Visitor, ticket_id: int, complaint: Complaint | None = None
) -> HTMLResponse:
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
        ticket=ticket,
        views=[view for view in views(found) if view.drawings] if found else [],
        technicians=technicians,
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
