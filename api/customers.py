"""Pages for those who have no account: a customer's own page, and the page that a machine's label opens.

A signed link is its own proof: no cookie is looked at, and whatever is wrong with a link is answered alike.
"""

import unicodedata
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import APIRouter, Form, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from api.access import Open, guesses_of, reports_of
from api.context import Api, Parts
from api.devices import device_shape
from api.links import signer_of
from api.pages import render
from api.problems import Problem, not_found
from api.shapes import DeviceShape, plain
from api.words import wanted_lang
from monitor.desk import notices
from monitor.desk.tickets import Status
from monitor.devices import Severity
from monitor.engine.desk import Report
from monitor.links import LONGEST, read_customer, read_label
from monitor.store import links, queries
from monitor.store.links import Row
from monitor.store.queries import Scope

log = structlog.get_logger()
router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse, dependencies=[Open])

MACHINES_SHOWN = 200
TICKETS_SHOWN = 500
TEXT_CHARS, NAME_CHARS, PHONE_CHARS = 2000, 80, 40
THEIR_WORDS = ("customer", "label")
Token = Annotated[str, Path(max_length=LONGEST)]


class ReportForm(BaseModel):
    """A problem with a machine, as the pages send it. Browsers send line breaks as two characters."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field("", max_length=2 * TEXT_CHARS)
    stopped: bool = False
    name: str = Field("", max_length=NAME_CHARS)
    phone: str = Field("", max_length=PHONE_CHARS)

    @property
    def words(self) -> str:
        return _clean(self.text)[:TEXT_CHARS].strip()

    @property
    def by(self) -> str:
        return ", ".join(filter(None, (_one_line(self.name), _one_line(self.phone))))


class CustomerForm(ReportForm):
    device_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")


@dataclass(frozen=True)
class Promise:
    """What is promised, and by when, in words; `late`: it was not kept."""

    words: str
    due: str
    late: bool


@dataclass(frozen=True)
class Told:
    """A ticket as its customer reads it: no codes, no notes, nobody's address."""

    id: int
    what: str
    status: str
    opened_at: int
    technician: str
    promises: list[Promise]
    said: str
    """What was reported, where that is in the words of those who stood before the machine, and not in the office's."""


@dataclass(frozen=True)
class Machine:
    device: DeviceShape
    tickets: list[Told]


# --- the customer's page -------------------------------------------------------------------------------------------


@router.get("/c/{token}")
def customer_page(
    request: Request, api: Parts, token: Token, told: Annotated[int | None, Query(ge=1, lt=2**63)] = None
) -> HTMLResponse:
    """`told`: the ticket that a report has just led to."""
    return _customer_page(request, api, _customer(request, api, token), told=told)


@router.post("/c/{token}")
def customer_reports(request: Request, api: Parts, token: Token, form: Annotated[CustomerForm, Form()]) -> Response:
    customer = _customer(request, api, token)
    with api.reading() as connection:
        machine = queries.device_row(connection, Scope(api.clock(), customer.id), form.device_id)
    if machine is None:
        raise not_found("machine")
    if not form.words:
        return _customer_page(request, api, customer, status=422, lacking=form.device_id)
    reports_of(request).refuse(f"customer:{customer.id} {machine.device_id}")
    report = Report(machine.device_id, form.words, "customer", form.by or customer.name, form.stopped)
    ticket_id = api.desk.report(report, f"customer:{customer.id}", api.clock())
    return RedirectResponse(f"/c/{token}?told={ticket_id}", 303)


def _customer(request: Request, api: Api, token: str) -> Row:
    found = read_customer(signer_of(api), token, api.clock())
    with api.reading() as connection:
        customer = links.customer(connection, *found) if found else None
    return customer or _refuse(request, "customer")


def _customer_page(
    request: Request, api: Api, customer: Row, *, status: int = 200, told: int | None = None, lacking: str = ""
) -> HTMLResponse:
    """`lacking`: the machine whose report said nothing."""
    scope, lang = Scope(api.clock(), customer.id), wanted_lang(request, api.lang)
    with api.reading() as connection:
        devices = [device_shape(row) for row in queries.devices(connection, scope, limit=MACHINES_SHOWN)]
        tickets = queries.pressing_tickets(connection, scope, limit=TICKETS_SHOWN)
        clocks = queries.commitments(connection, [row.id for row in tickets])
    by_machine: dict[str, list[Told]] = {}
    for row in tickets:
        if row.severity != Severity.NOTE:
            by_machine.setdefault(row.device_id, []).append(_told(api, row, clocks[row.id], lang))
    machines = [Machine(device, by_machine.get(device.device_id, [])) for device in devices]
    answer = next((one for machine in machines for one in machine.tickets if one.id == told), None)
    return render(
        request, "customer.html", status=status, customer=customer, lacking=lacking, told=told, answer=answer,
        machines=sorted(machines, key=lambda one: (not one.tickets, one.device.condition != "bad")),
    )  # fmt: skip


def _told(api: Api, row: queries.AnyRow, clocks: queries.Rows, lang: str) -> Told:
    what = notices.plain(row.kind, row.subject, plain(row.evidence), api.profiles.get(row.profile or ""), lang)
    promised_to_come = row.status not in (Status.OPEN, Status.VERIFIED, Status.DISPATCHED)
    return Told(
        row.id, _capital(what), row.status, row.opened_at,
        row.technician_name or "" if promised_to_come else "", _promises(clocks, api.clock(), lang),
        str(row.evidence.get("text", "")) if row.origin in THEIR_WORDS else "",
    )  # fmt: skip


def _promises(clocks: queries.Rows, now: int, lang: str) -> list[Promise]:
    """What is still to come of what was promised. A clock that waits for the customer has no due time for now."""
    running = [one for one in clocks if one.met_at is None and one.voided_at is None and one.paused_since is None]
    return [
        Promise(_capital(notices.say(lang, f"promise.{one.kind}")), notices.moment(one.due_at, one.timezone, lang),
                one.due_at <= now)
        for one in running
    ]  # fmt: skip


# --- the label's page ----------------------------------------------------------------------------------------------


@router.get("/m/{token}")
def machine_by_label(request: Request, api: Parts, token: Token) -> HTMLResponse:
    """A stranger before a machine sees which one it is, and can say what is wrong with it."""
    return render(request, "at_machine.html", machine=_machine(request, api, token), lacking=False, told=None)


@router.post("/m/{token}")
def stranger_reports(request: Request, api: Parts, token: Token, form: Annotated[ReportForm, Form()]) -> HTMLResponse:
    machine = _machine(request, api, token)
    if not form.words:
        return render(request, "at_machine.html", status=422, machine=machine, lacking=True, told=None)
    reports_of(request).refuse(f"label:{machine.device_id}")
    report = Report(machine.device_id, form.words, "label", form.by, form.stopped)
    ticket_id = api.desk.report(report, f"label:{machine.device_id}", api.clock())
    with api.reading() as connection:
        clocks = queries.commitments(connection, [ticket_id])[ticket_id]
    promises = _promises(clocks, api.clock(), wanted_lang(request, api.lang))
    return render(request, "at_machine.html", machine=machine, lacking=False, told=ticket_id, promises=promises)


def _machine(request: Request, api: Api, token: str) -> Row:
    found = read_label(signer_of(api), token, api.clock())
    with api.reading() as connection:
        machine = links.machine(connection, *found) if found else None
    return machine or _refuse(request, "label")


# --- what both refuse and keep out ---------------------------------------------------------------------------------


def _refuse(request: Request, what: str) -> Row:
    """Forged, too old, ended, or of something that is not there: it is all the same to whoever holds it. Raises the
    404 Problem, or the 429 one after too many."""
    log.warning("link_refused", link=what)
    guesses_of(request).refuse(request.client.host if request.client else "")
    raise Problem(404, "Not found")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _clean(text: str) -> str:
    """Text from anywhere without control characters and those that turn the writing round; lines stay lines."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char for char in lines if char == "\n" or unicodedata.category(char)[0] != "C")


def _one_line(text: str) -> str:
    return " ".join(_clean(text).split())
