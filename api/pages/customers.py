"""Pages for customers, by a signed link or signed in, and the page that a machine's label opens.

A signed link is its own proof: no cookie is looked at, and whatever is wrong with a link is answered alike.
"""

from dataclasses import dataclass
from typing import Annotated, TypeVar

import structlog
from fastapi import Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api import customers, satisfaction
from api.access import Open, guesses_of, reports_of
from api.context import Api, Parts, api_of
from api.customers import CustomerForm, HowForm, ReportForm
from api.denials import note_denial, stranger
from api.labels import N_, Labels, labels_of
from api.links import signer_of
from api.pages.filling import Complaint, Form, Sent, Wrong, complaint_of, made
from api.pages.shell import pages, render
from api.problems import Problem, not_found
from api.refusals import refusals_told
from api.satisfaction import ForCustomers
from api.words import wanted_lang
from monitor.engine.desk import Report
from monitor.engine.satisfaction import Answer
from monitor.links import LONGEST, read_customer, read_label
from monitor.store import links, queries
from monitor.store.access import Visitor
from monitor.store.links import Row

log = structlog.get_logger()
router = pages()

Token = Annotated[str, Path(max_length=LONGEST)]
TicketId = Annotated[int, Path(ge=1, lt=2**63)]
Reported = TypeVar("Reported", bound=ReportForm)
ToldId = Annotated[int | None, Query(ge=1, lt=2**63)]


@dataclass(frozen=True)
class Door:
    """By which way a customer came in. `base`: what their addresses begin with; `actor`: what the audit says."""

    customer_id: int
    name: str
    base: str
    actor: str
    visitor: Visitor | None = None


# --- by a link -----------------------------------------------------------------------------------------------------


@router.get("/c/{token}", dependencies=[Open])
def customer_page(request: Request, api: Parts, token: Token, told: ToldId = None) -> HTMLResponse:
    """`told`: the ticket that a report has just led to."""
    return _home(request, api, _by_link(request, api, token), told=told)


@router.post("/c/{token}", dependencies=[Open])
def customer_reports(request: Request, api: Parts, token: Token, form: Sent) -> Response:
    return _reported(request, api, _by_link(request, api, token), form)


@router.get("/c/{token}/{ticket_id}", dependencies=[Open])
def notice_page(request: Request, api: Parts, token: Token, ticket_id: TicketId) -> HTMLResponse:
    """A ticket's course, to be left open."""
    return _notice(request, api, _by_link(request, api, token), ticket_id)


@router.get("/c/{token}/{ticket_id}/how", dependencies=[Open])
def how_page(request: Request, api: Parts, token: Token, ticket_id: TicketId) -> HTMLResponse:
    """The question alone: what a notice's link opens. Opening it answers nothing."""
    return _how(request, api, _by_link(request, api, token), ticket_id)


@router.post("/c/{token}/{ticket_id}/how", dependencies=[Open])
def says_how(request: Request, api: Parts, token: Token, ticket_id: TicketId, form: Sent) -> Response:
    return _answered(request, api, _by_link(request, api, token), ticket_id, form)


def _by_link(request: Request, api: Api, token: str) -> Door:
    found = read_customer(signer_of(api), token, api.clock())
    with api.reading() as connection:
        customer = links.customer(connection, *found) if found else None
    customer = customer or _refuse(request, "customer")
    return Door(customer.id, customer.name, f"/c/{token}", f"customer:{customer.id}")


# --- signed in -----------------------------------------------------------------------------------------------------


@router.get("/mine")
def own_page(request: Request, api: Parts, visitor: ForCustomers, told: ToldId = None) -> HTMLResponse:
    return home(request, api, visitor, told)


@router.post("/mine")
def own_report(
    request: Request, api: Parts, visitor: ForCustomers, form: Sent
) -> Response:  # fmt: skip
    return _reported(request, api, _signed_in(api, visitor), form)


@router.get("/mine/{ticket_id}")
def own_notice(request: Request, api: Parts, visitor: ForCustomers, ticket_id: TicketId) -> HTMLResponse:
    return _notice(request, api, _signed_in(api, visitor), ticket_id)


@router.get("/mine/{ticket_id}/how")
def own_how(request: Request, api: Parts, visitor: ForCustomers, ticket_id: TicketId) -> HTMLResponse:
    return _how(request, api, _signed_in(api, visitor), ticket_id)


@router.post("/mine/{ticket_id}/how")
def own_answer(request: Request, api: Parts, visitor: ForCustomers, ticket_id: TicketId, form: Sent) -> Response:
    return _answered(request, api, _signed_in(api, visitor), ticket_id, form)


def home(request: Request, api: Api, visitor: Visitor, told: int | None = None) -> HTMLResponse:
    """How a signed-in customer's machines are: what stands at "/" for them."""
    return _home(request, api, _signed_in(api, visitor), told=told)


def _signed_in(api: Api, visitor: Visitor) -> Door:
    """An account that belongs to no customer sees nothing."""
    customer_id = api.scope(visitor).customer_id or 0
    with api.reading() as connection:
        name = links.customer_name(connection, customer_id)
    return Door(customer_id, name, "/mine", visitor.actor, visitor)


# --- what both show ------------------------------------------------------------------------------------------------


def _home(
    request: Request, api: Api, door: Door, *, told: int | None = None, complaint: Complaint | None = None
) -> HTMLResponse:
    labels = _labels(request, api)
    machines = customers.machines_of(api, door.customer_id, labels)
    answer = next((one for machine in machines for one in machine.tickets if one.id == told), None)
    return render(
        request, "customer.html", visitor=door.visitor, door=door, complaint=complaint, told=told,
        answer=answer, machines=machines, summary=customers.summary(machines, labels),
        questions=customers.questions_of(api, door.customer_id, labels),
    )  # fmt: skip


def _notice(request: Request, api: Api, door: Door, ticket_id: int) -> HTMLResponse:
    """After the machine went back there is no course to follow any more, but still the question."""
    notice = customers.notice_of(api, door.customer_id, ticket_id, _labels(request, api))
    if notice is None:
        return _how(request, api, door, ticket_id)
    return render(request, "customer_notice.html", visitor=door.visitor, door=door, notice=notice)


def _how(
    request: Request, api: Api, door: Door, ticket_id: int, *, status: int = 200, late: bool = False,
    complaint: Complaint | None = None,
) -> HTMLResponse:  # fmt: skip
    question = customers.question_of(api, door.customer_id, ticket_id, _labels(request, api))
    if question is None:
        raise not_found("ticket")
    return render(
        request, "customer_how.html", visitor=door.visitor, status=status, door=door, question=question, late=late,
        complaint=complaint,
    )  # fmt: skip


def _reported(request: Request, api: Api, door: Door, form: Form) -> Response:
    try:
        report = _report(CustomerForm, form)
    except Problem as problem:
        return _home(request, api, door, complaint=complaint_of(problem))
    with api.reading() as connection:
        there = queries.device_row(connection, queries.Scope(api.clock(), door.customer_id), report.device_id)
    if there is None:
        raise not_found("machine")
    reports_of(request).refuse(f"customer:{door.customer_id} {report.device_id}")
    ticket_id = customers.report(api, door.customer_id, report, door.name, door.actor)
    return RedirectResponse(f"{door.base}?told={ticket_id}", 303)


def _report(shape: type[Reported], form: Form) -> Reported:
    """Raises the 422 Problem where it cannot be taken, or says nothing."""
    report = made(shape, {name: text for name, text in form.fields.items() if text})
    if not report.words:
        raise Wrong("text", N_("Please say in a few words what is wrong."))
    return report


def _answered(request: Request, api: Api, door: Door, ticket_id: int, form: Form) -> Response:
    if customers.question_of(api, door.customer_id, ticket_id, _labels(request, api)) is None:
        raise not_found("ticket")
    try:
        given = made(HowForm, form.fields)
    except Problem as problem:
        return _how(request, api, door, ticket_id, complaint=complaint_of(problem))
    reports_of(request).refuse(f"how:{door.customer_id} {ticket_id}")
    lang = wanted_lang(request, api.lang)
    answer = Answer(ticket_id, door.customer_id, given.satisfied == "yes", given.said, lang)
    try:
        satisfaction.take(api, answer, door.actor)
    except Problem as problem:
        if problem.status != 409:
            raise
        return _how(request, api, door, ticket_id, status=409, late=True)
    return RedirectResponse(f"{door.base}/{ticket_id}/how", 303)


def _labels(request: Request, api: Api) -> Labels:
    return labels_of(request, wanted_lang(request, api.lang))


# --- the label's page ----------------------------------------------------------------------------------------------


@router.get("/m/{token}", dependencies=[Open])
def machine_by_label(request: Request, api: Parts, token: Token) -> HTMLResponse:
    """A stranger before a machine sees which one it is, and can say what is wrong with it."""
    return render(request, "at_machine.html", machine=_machine(request, api, token), complaint=None, told=None)


@router.post("/m/{token}", dependencies=[Open])
def stranger_reports(request: Request, api: Parts, token: Token, form: Sent) -> HTMLResponse:
    machine = _machine(request, api, token)
    try:
        said = _report(ReportForm, form)
    except Problem as problem:
        return render(request, "at_machine.html", machine=machine, complaint=complaint_of(problem), told=None)
    reports_of(request).refuse(f"label:{machine.device_id}")
    report = Report(machine.device_id, said.words, "label", said.by, said.stopped)
    with refusals_told("machine"):
        ticket_id = api.desk.report(report, f"label:{machine.device_id}", api.clock())
    with api.reading() as connection:
        clocks = queries.commitments(connection, [ticket_id])[ticket_id]
    promises = customers.promises_of(clocks, api.clock(), wanted_lang(request, api.lang))
    return render(request, "at_machine.html", machine=machine, complaint=None, told=ticket_id, promises=promises)


def _machine(request: Request, api: Api, token: str) -> Row:
    found = read_label(signer_of(api), token, api.clock())
    with api.reading() as connection:
        machine = links.machine(connection, *found) if found else None
    return machine or _refuse(request, "label")


def _refuse(request: Request, what: str) -> Row:
    """Forged, too old, ended, or of something that is not there: it is all the same to whoever holds it. Raises the
    404 Problem, or the 429 one after too many."""
    log.warning("link_refused", link=what)
    note_denial(request, api_of(request), stranger(request), "link_refused", what)
    guesses_of(request).refuse(request.client.host if request.client else "")
    raise Problem(404, "Not found")
