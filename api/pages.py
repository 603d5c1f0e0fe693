"""The pages: HTML from the server that works without scripts, and stays live with them."""

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ConfigDict, Field, ValidationError

from api import commands, fleet, tickets
from api.access import DESK, DOERS, ForAll, ForDoers, Open, guesses_of, session_cookie_name
from api.context import Api, Parts, api_of
from api.devices import HOUR_MS, DeviceId, device_detail, device_shape, list_devices, profile_shape, series
from api.drawing import views
from api.labels import N_, Labels, labels_of
from api.problems import Problem, is_api
from api.shapes import Act, DeviceShape, Given, ReadingShape, ReportBody, SensorShape, SeriesShape, TicketShape
from api.words import LANG_COOKIE, Words, wanted_lang
from monitor.desk.choices import LISTS
from monitor.desk.tickets import Outcome, Status, Verb
from monitor.devices import Profile
from monitor.store import cases, inspections, queries
from monitor.store.access import SESSION_HOURS, Role, Visitor, end_session, redeem_login_link

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

RANGES = {"15m": 15 * 60_000, "1h": HOUR_MS, "6h": 6 * HOUR_MS, "24h": 24 * HOUR_MS}
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
OPEN_SHOWN = 200
DRAWN = 2_000
INSPECTIONS_LOOKED_AT = 10


class StepForm(Given):
    """A step as the ticket's page sends it."""

    model_config = ConfigDict(extra="ignore")
    in_lines = frozenset({"note", "parts"})

    technician_id: int | None = Field(None, ge=1, lt=2**63)
    note: str = Field("", max_length=2000)
    reason: str = Field("", max_length=40)
    wait_h: Literal["", "1", "2", "4", "8", "24", "48", "168"] = ""
    other_id: int | None = Field(None, ge=1, lt=2**63)
    cause: str = Field("", max_length=40)
    action: str = Field("", max_length=40)
    borne_by: str = Field("", max_length=40)
    parts: str = Field("", max_length=4000)
    outcome: Outcome | None = None

    def act(self, verb: Verb, now: int) -> Act:
        """The same, as the API knows it. Raises the 422 Problem where a part's name is too long."""
        # One form holds several buttons, and the technician in it is for those that send somebody.
        sends = verb in (Verb.DISPATCH, Verb.ACCEPT)
        parts = [" ".join(line.split()) for line in self.parts.splitlines() if line.strip()]
        if len(parts) > 50 or any(len(part) > 120 for part in parts):
            raise Problem(422, "The request is not valid", "parts: at most 50, each of at most 120 characters")
        until_at = now + int(self.wait_h) * HOUR_MS if self.wait_h else None
        rest = self.model_dump(exclude={"parts", "wait_h"} if sends else {"parts", "wait_h", "technician_id"})
        return Act(parts=parts, until_at=until_at, **rest)


class NewTicketForm(Given):
    """What somebody told the office, as the page sends it."""

    in_lines = frozenset({"text"})

    device_id: str = Field("", max_length=64)
    text: str = Field("", max_length=4000)
    stopped: bool = False
    origin: Literal["phone", "office"] = "phone"
    reported_by: str = Field("", max_length=200)


@dataclass(frozen=True)
class Ticking:
    """An open ticket as the lists show it: with its most pressing clock."""

    ticket: TicketShape
    headline: str
    due_at: int | None
    started_at: int
    warn_ms: int
    urgency: str
    """late, soon or calm; none where no clock runs."""
    step: str


def render(
    request: Request, template: str, *, visitor: Visitor | None = None, status: int = 200, **known: object
) -> HTMLResponse:
    """Answer by a page in the reader's language."""
    api = api_of(request)
    lang = wanted_lang(request, api.lang)
    words: Words = request.app.state.words[lang]
    other = "en" if lang == "zh" else "zh"
    html = request.app.state.templates[lang].get_template(template).render(
        known,
        labels=Labels(words, api.profiles),
        now=api.clock(),
        visitor=visitor,
        path=request.url.path,
        other_lang="?" + urlencode([*_kept(request), ("lang", other)]),
        open_count=_open_count(api, visitor),
        hotline=api.hotline,
    )  # fmt: skip
    response = HTMLResponse(html, status)
    if request.query_params.get("lang") == lang:
        response.set_cookie(
            LANG_COOKIE, lang, max_age=365 * 86_400, samesite="lax", httponly=True, secure=api.secure_cookies
        )
    return response


def _kept(request: Request) -> list[tuple[str, str]]:
    return [(name, value) for name, value in request.query_params.multi_items() if name != "lang"]


def _open_count(api: Api, visitor: Visitor | None) -> int:
    if visitor is None:
        return 0
    with api.reading() as connection:
        return queries.open_tickets(connection, api.scope(visitor)).open


# --- the fleet -----------------------------------------------------------------------------------------------------


@router.get("/")
def fleet_page(request: Request, api: Parts, visitor: ForAll) -> HTMLResponse:
    scope = api.scope(visitor)
    with api.reading() as connection:
        machines = [device_shape(row) for row in queries.devices(connection, scope, limit=DRAWN)]
        not_reporting = queries.not_reporting(connection, scope)
    return render(
        request,
        "fleet.html",
        visitor=visitor,
        health=fleet.health(api, visitor),
        course=Course.of(fleet.course(api, visitor)),
        not_reporting=not_reporting,
        sites=_by_site(machines),
        shown=len(machines),
        tickets=open_tickets(api, visitor, request),
    )


@dataclass(frozen=True)
class Course:
    """Availability day by day, laid out for a drawing 0 to 600 wide and 0 to 100 high."""

    band: list[str]
    """One closed outline a stretch of days that are known."""
    line: list[str]
    target_y: float
    known: int
    """Of how many days anything is known."""

    WIDTH, HEIGHT, FLOOR = 600, 100, 0.8

    @classmethod
    def of(cls, days: list[tuple[float | None, float | None]]) -> "Course":
        step = cls.WIDTH / max(len(days) - 1, 1)
        stretches: list[list[tuple[float, float, float]]] = [[]]
        for n, (lower, upper) in enumerate(days):
            if lower is None or upper is None:
                stretches.append([])
            else:
                stretches[-1].append((round(n * step, 1), cls.y(lower), cls.y(upper)))
        known = [_visible(stretch, step / 3, cls.WIDTH) for stretch in stretches if stretch]
        band = [_outline(stretch) for stretch in known]
        line = [" ".join(f"{x},{(low + high) / 2:.1f}" for x, low, high in stretch) for stretch in known]
        return cls(band, line, cls.y(0.9), sum(map(len, stretches)))

    @classmethod
    def y(cls, share: float) -> float:
        """What lies below the floor is drawn on it."""
        return round(cls.HEIGHT * (1 - (max(share, cls.FLOOR) - cls.FLOOR) / (1 - cls.FLOOR)), 1)


def _visible(
    stretch: list[tuple[float, float, float]], reach: float, width: float
) -> list[tuple[float, float, float]]:  # fmt: skip
    """A day alone is drawn as a dash: a line through one point is nothing."""
    if len(stretch) > 1:
        return stretch
    x, low, high = stretch[0]
    return [(round(max(x - reach, 0), 1), low, high), (round(min(x + reach, width), 1), low, high)]


def _outline(stretch: list[tuple[float, float, float]]) -> str:
    there = [f"{x},{high}" for x, _, high in stretch]
    back = [f"{x},{low}" for x, low, _ in reversed(stretch)]
    return " ".join(there + back)


def _by_site(machines: list[DeviceShape]) -> list[tuple[str, list[DeviceShape]]]:
    """Machines by site name; within a site the worst first, those not on hire last."""
    order = {"bad": 0, "unknown": 1, "good": 2}
    sites: dict[str, list[DeviceShape]] = {}
    for machine in sorted(machines, key=lambda one: (one.rental is None, order[one.condition], one.device_id)):
        sites.setdefault(machine.place, []).append(machine)
    return sorted(sites.items(), key=lambda entry: (entry[0] == "", entry[0]))


# --- machines ------------------------------------------------------------------------------------------------------


@router.get("/machines")
def machines_page(
    request: Request, api: Parts, visitor: ForAll, cursor: Annotated[str | None, Query(max_length=200)] = None
) -> HTMLResponse:
    listed = list_devices(api, visitor, limit=100, cursor=cursor)
    return render(request, "machines.html", visitor=visitor, machines=listed.items, following=listed.next)


@router.get("/machines/{device_id}")
def machine_page(
    request: Request,
    api: Parts,
    visitor: ForAll,
    device_id: DeviceId,
    metric: Annotated[str, Query(max_length=64)] = "",
    span: Annotated[str, Query(alias="range", max_length=3)] = "1h",
) -> HTMLResponse:
    machine = device_detail(api, visitor, device_id)
    profile = api.profiles.get(machine.profile)
    sensors = _sensors(api, machine.profile, machine.latest.values if machine.latest else {})
    chosen = next((sensor for sensor in sensors if sensor.name == metric), sensors[0] if sensors else None)
    span = span if span in RANGES else "1h"
    now = api.clock()
    found = series(api, visitor, device_id, chosen.name, now - RANGES[span], now + 1) if chosen else None
    return render(
        request,
        "machine.html",
        visitor=visitor,
        machine=machine,
        sensors=sensors,
        chosen=chosen,
        beyond=_beyond(profile, machine.latest),
        ranges=RANGES,
        span=span,
        summary=_summary(found),
        may_label=visitor.role in DESK,
        may_inspect=visitor.role in DOERS,
        inspected=_last_inspection(api, visitor, device_id),
        max_gap_s=profile.max_gap_s if profile else 30,
        tickets=open_tickets(api, visitor, request, device_id),
        zone=api.timezone,
    )


def _last_inspection(api: Api, visitor: Visitor, device_id: str) -> inspections.Row | None:
    """The newest that counts, for those who inspect."""
    if visitor.role not in DOERS:
        return None
    with api.reading() as connection:
        found = inspections.listed(connection, device_id=device_id, limit=INSPECTIONS_LOOKED_AT)
    return next((row for row in found if row.voided_at is None), None)


def _sensors(api: Api, profile_name: str, values: dict[str, float]) -> list[SensorShape]:
    """The model's sensors in its own order, and whatever else the machine sends."""
    profile = api.profiles.get(profile_name)
    known = profile_shape(profile).sensors if profile else []
    names = {sensor.name for sensor in known}
    return known + [SensorShape(name=name) for name in sorted(values) if name not in names]


def _beyond(profile: Profile | None, latest: ReadingShape | None) -> dict[str, str]:
    """Which sensors lie beyond their limits now, and on which side. Limits mean something in certain states only."""
    beyond: dict[str, str] = {}
    for sensor in profile.sensors if profile and latest else ():
        value, limits = latest.values.get(sensor.name) if latest else None, sensor.limits
        idle = bool(sensor.states) and latest is not None and latest.state not in sensor.states
        if value is None or limits is None or idle:
            continue
        if limits.high is not None and value > limits.high:
            beyond[sensor.name] = "high"
        elif limits.low is not None and value < limits.low:
            beyond[sensor.name] = "low"
    return beyond


def _summary(found: SeriesShape | None) -> tuple[float, float, float] | None:
    """Lowest, mean and highest of a chart: what it says to those who do not see it."""
    if found is None or not found.items:
        return None
    points = found.items
    mean = sum(point.mean for point in points) / len(points)
    return min(point.min for point in points), mean, max(point.max for point in points)


# --- tickets -------------------------------------------------------------------------------------------------------


@router.get("/tickets")
def tickets_page(
    request: Request,
    api: Parts,
    visitor: ForAll,
    show: Annotated[str, Query(max_length=8)] = "open",
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> HTMLResponse:
    past = show == "all"
    listed = tickets.list_tickets(api, visitor, limit=50, cursor=cursor) if past else None
    return render(
        request,
        "tickets.html",
        visitor=visitor,
        past=past,
        may_report=visitor.role in DOERS,
        tickets=ticking(api, listed.items, request) if listed else open_tickets(api, visitor, request),
        following=listed.next if listed else None,
    )


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
        machines = queries.devices(connection, api.scope(visitor), limit=DRAWN)
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
    on it."""
    try:
        tickets.take_step(api, visitor, ticket_id, verb, form.act(verb, api.clock()))
    except Problem as problem:
        if problem.status not in (409, 422) or is_api(request):
            raise
        # Whom to send is asked for in the page's own words; the other fields are required by the form itself.
        sends_nobody = verb in (Verb.DISPATCH, Verb.ACCEPT) and form.technician_id is None
        complaint = problem.detail if problem.status == 422 and not sends_nobody else ""
        return show_ticket(request, api, visitor, ticket_id, refused=verb, complaint=complaint)
    return RedirectResponse(f"/tickets/{ticket_id}", 303)


def show_ticket(
    request: Request, api: Api, visitor: Visitor, ticket_id: int, refused: Verb | None = None, complaint: str = ""
) -> HTMLResponse:  # fmt: skip
    """The ticket; where a step with it was refused, with the reason."""
    labels = labels_of(request, wanted_lang(request, api.lang))
    ticket, found = tickets.ticket_detail(api, visitor, ticket_id, labels, with_readings=False)
    with api.reading() as connection:
        technicians = queries.technicians(connection) if ticket.allowed else []
        lists = {name: cases.choices(connection, name) for name in LISTS}
    titles = {choice.code: choice.title(labels.words.lang) for some in lists.values() for choice in some}
    return render(
        request,
        "ticket.html",
        visitor=visitor,
        status=422 if complaint else 409 if refused else 200,
        ticket=ticket,
        views=views(found) if found else [],
        technicians=technicians,
        refused=refused,
        complaint=complaint,
        choices=lists,
        chosen=lambda code: titles.get(code, code),
        # What is wrong is verified once; what somebody writes of it later is a diagnosis.
        folded=FOLDED if ticket.status == Status.OPEN else (Verb.VERIFY, *FOLDED),
        may_ask=commands.may_ask(visitor, ticket),
        forward=_forward(ticket.status, ticket.allowed, cleared=ticket.cleared_at is not None),
        names_technician=visitor.role is not Role.TECHNICIAN,
    )


def _forward(status: str, allowed: list[str], *, cleared: bool) -> str:
    """The step that most likely comes next: a cleared fault's ticket is closed, any other goes on with its life."""
    likely = Verb.CLOSE if cleared else FORWARD.get(Status(status))
    if likely in allowed:
        return str(likely)
    aside = (Verb.VERIFY, Verb.DECLINE, *FOLDED)
    return next((verb for verb in allowed if verb not in aside), allowed[0] if allowed else "")


def open_tickets(api: Api, visitor: Visitor, request: Request, device_id: str | None = None) -> list[Ticking]:
    """Open tickets by time left; those without a running clock last."""
    with api.reading() as connection:
        rows = queries.pressing_tickets(connection, api.scope(visitor), device_id=device_id, limit=OPEN_SHOWN)
        found = tickets.with_clocks(connection, rows)
    return ticking(api, found, request)


def ticking(api: Api, found: list[TicketShape], request: Request) -> list[Ticking]:
    labels = labels_of(request, wanted_lang(request, api.lang))
    return [_ticking(api, one, labels) for one in found]


def _ticking(api: Api, one: TicketShape, labels: Labels) -> Ticking:
    clock = one.next_clock
    headline = labels.headline(one)
    if clock is None:
        return Ticking(one, headline, None, one.opened_at, 0, "none", labels.next_step(one.status, None))
    left_ms, warn_ms = clock.due_at - api.clock(), int(clock.warn_before_s * 1000)
    urgency = "late" if left_ms <= 0 else "soon" if left_ms <= warn_ms else "calm"
    step = labels.next_step(one.status, clock.kind)
    return Ticking(one, headline, clock.due_at, clock.started_at, warn_ms, urgency, step)


# --- coming in and going out ---------------------------------------------------------------------------------------


@router.get("/sign-in", dependencies=[Open])
@router.get("/sign-in/{secret}", dependencies=[Open])
def sign_in_page(request: Request, secret: str = "") -> HTMLResponse:
    """Shows one button and changes nothing: programs that scan mail open links too."""
    return render(request, "sign_in.html", secret=secret[:200], failed=False)


@router.post("/sign-in", dependencies=[Open])
def sign_in(request: Request, api: Parts, secret: Annotated[str, Form(max_length=200)]) -> Response:
    """Use the link up and begin a session; from here on its secret is only in the cookie."""
    with api.database.begin() as connection:
        begun = redeem_login_link(connection, secret.strip(), api.clock())
    if begun is None:
        guesses_of(request).refuse(request.client.host if request.client else "")
        return render(request, "sign_in.html", status=403, secret="", failed=True)
    response = RedirectResponse("/", 303)
    response.set_cookie(
        session_cookie_name(api),
        begun,
        max_age=SESSION_HOURS * 3600,
        path="/",
        secure=api.secure_cookies,
        httponly=True,
        samesite="lax",
    )
    return response


@router.post("/sign-out")
def sign_out(api: Parts, visitor: ForAll) -> Response:
    if visitor.via == "session":
        with api.database.begin() as connection:
            end_session(connection, visitor, api.clock())
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(session_cookie_name(api), path="/", secure=api.secure_cookies, httponly=True)
    return response
