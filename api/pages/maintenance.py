"""Maintenance: the week's plan, a work order with its checklist, and the addresses of calendars."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api import calendar
from api.access import DESK, DOERS, ForDesk, ForDoers, ForStaff
from api.context import Api, Parts
from api.labels import labels_of
from api.maintenance import (
    Assignment,
    CancelBody,
    DoneBody,
    DueShape,
    NewOrder,
    OrderId,
    assign,
    cancel,
    due_shape,
    finish_order,
    give_trip,
    list_due,
    list_orders,
    open_order,
    order_shape,
)
from api.maintenance import Trip as GivenTrip
from api.pages.filling import Complaint, Form, Sent, complaint_of, done_or_told, made
from api.pages.shell import pages, render
from api.problems import Problem
from api.words import Words, wanted_lang
from monitor.fleet.maintenance import SERVICE, State, Sure
from monitor.store import maintenance as store
from monitor.store import queries
from monitor.store.access import Visitor

router = pages()

LISTED = 200
SITES_OFFERED = 500


@dataclass(frozen=True)
class Job:
    """Something that is due, as the plan shows it. `forecast`: its day is reckoned from use, and may move."""

    due: DueShape
    forecast: bool


@dataclass(frozen=True)
class Trip:
    """What is due at one site in one stretch of time: one way for all of it."""

    site_name: str
    jobs: list[Job]

    @property
    def machines(self) -> int:
        return len({job.due.device_id for job in self.jobs})

    @property
    def unassigned(self) -> list[Job]:
        return [job for job in self.jobs if job.due.assignee_id is None]


@dataclass(frozen=True)
class Stretch:
    """A part of the plan: what is overdue, this week, the next one, later. `from_at`: where it begins, of a week."""

    code: str
    title: str
    from_at: int | None
    trips: list[Trip]


@router.get("/maintenance")
def due_page(
    request: Request,
    api: Parts,
    visitor: ForStaff,
    state: Annotated[str, Query(max_length=10)] = "",
    site: Annotated[str, Query(pattern=r"^[0-9]{0,18}$")] = "",
    profile: Annotated[str, Query(max_length=64)] = "",
    mine: bool = False,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> HTMLResponse:
    """The plan of the week: what is overdue, then week by week and site by site; filtered."""
    return _plan(request, api, visitor, Chosen.of(state, site, profile, mine=mine), cursor)


@dataclass(frozen=True)
class Chosen:
    """What somebody narrowed the plan to."""

    state: State | None = None
    site_id: int | None = None
    profile: str = ""
    mine: bool = False

    @classmethod
    def of(cls, state: str, site: str, profile: str, *, mine: bool) -> "Chosen":
        return cls(State(state) if state in set(State) else None, int(site) if site else None, profile, mine)

    @property
    def query(self) -> str:
        said = {"state": self.state or "", "site": self.site_id or "", "profile": self.profile,
                "mine": "true" if self.mine else ""}  # fmt: skip
        return urlencode({name: value for name, value in said.items() if value})


NOTHING_CHOSEN = Chosen()


def _plan(
    request: Request, api: Api, visitor: Visitor, chosen: Chosen = NOTHING_CHOSEN, cursor: str | None = None,
    complaint: Complaint | None = None,
) -> HTMLResponse:  # fmt: skip
    words = labels_of(request, wanted_lang(request, api.lang)).words
    own = visitor.person_id if chosen.mine else None
    listed = list_due(
        api, visitor, state=chosen.state, site_id=chosen.site_id, profile=chosen.profile or None, assignee_id=own,
        limit=LISTED, cursor=cursor,
    )  # fmt: skip
    orders = list_orders(api, visitor, kind="maintenance", status="open", assignee_id=own, site_id=chosen.site_id,
                         limit=LISTED)  # fmt: skip
    with api.reading() as connection:
        counted = store.counts(connection, api.clock())
        # The desk may end anybody's.
        made_by = None if visitor.role in DESK else visitor.actor
        feeds = store.feed_rows(connection, made_by=made_by, now=api.clock())
        sites = queries.sites(connection, limit=SITES_OFFERED)
        technicians = queries.technicians(connection) if visitor.role in DESK else []
    return render(
        request, "maintenance.html", visitor=visitor, complaint=complaint,
        stretches=list(_stretches(listed.items, api.clock(), words)), following=listed.next, chosen=chosen,
        further=[one for one in orders.items if not one.plan] if chosen.state is None and cursor is None else [],
        states=list(State), sites=sites, profiles=sorted(api.profiles), counted=counted, feeds=feeds,
        technicians=technicians, may_open=visitor.role in DESK, signs=api.desk.addresses.signer is not None,
    )  # fmt: skip


def _stretches(items: Sequence[DueShape], now: int, words: Words) -> Iterator[Stretch]:
    """The plan in its parts; those with nothing in them are left out."""
    monday = _monday(now, words)
    following, after = (_monday(now, words, weeks=n) for n in (1, 2))

    def part_of(one: DueShape) -> str:
        if one.state is State.OVERDUE:
            return "overdue"
        return "this" if one.due_at < following else "next" if one.due_at < after else "later"

    titles = {
        "overdue": (words.say("Overdue"), None), "this": (words.say("This week"), monday),
        "next": (words.say("Next week"), following), "later": (words.say("Later"), None),
    }  # fmt: skip
    for code, (title, from_at) in titles.items():
        some = [one for one in items if part_of(one) == code]
        if some:
            yield Stretch(code, title, from_at, _trips(some))


def _trips(items: Sequence[DueShape]) -> list[Trip]:
    """By site, that where most is due first; what stands at none that is known comes last."""
    by_site: dict[str, list[Job]] = {}
    for one in items:
        by_site.setdefault(one.site_name or "", []).append(
            Job(one, one.sure == Sure.BY_USE and one.state is not State.DUE)
        )
    return [Trip(name, by_site[name]) for name in sorted(by_site, key=lambda it: (not it, -len(by_site[it]), it))]


def _monday(at: int, words: Words, weeks: int = 0) -> int:
    """When the week of a moment begins by the reader's clock, or one so many weeks later: weeks are counted in days of
    the calendar, for one with a change of the clock has an hour more or less."""
    day = datetime.fromtimestamp(at / 1000, UTC).astimezone(words.zone).date()
    begins = datetime.combine(day + timedelta(days=7 * weeks - day.weekday()), time(), words.zone)
    return round(begins.timestamp() * 1000)


@router.post("/maintenance/trips")
def give_trip_by_form(request: Request, api: Parts, visitor: ForDesk, form: Sent) -> Response:
    """Give all that is due at a site to one person: `job` names each as `machine plan`."""

    def give() -> None:
        named = [one.partition(" ") for one in dict.fromkeys(form.all("job"))]
        jobs = [{"device_id": device_id, "plan": plan} for device_id, _, plan in named]
        give_trip(api, visitor, made(GivenTrip, {"assignee_id": form.whole("assignee_id"), "jobs": jobs}))

    return done_or_told(give, "/maintenance", lambda told: _plan(request, api, visitor, complaint=told))


@router.post("/maintenance")
def order_by_form(request: Request, api: Parts, visitor: ForDesk, form: Sent) -> Response:
    try:
        wanted = {"device_id": form.text("device_id"), "plan": form.text("plan") or SERVICE}
        order = open_order(api, visitor, Response(), made(NewOrder, wanted))
    except Problem as problem:
        return _plan(request, api, visitor, complaint=complaint_of(problem))
    return RedirectResponse(f"/maintenance/{order.id}", 303)


@router.get("/maintenance/{order_id}")
def order_page(request: Request, api: Parts, visitor: ForStaff, order_id: OrderId) -> HTMLResponse:
    return _show(request, api, visitor, order_id)


@router.post("/maintenance/{order_id}/assign")
def assign_by_form(request: Request, api: Parts, visitor: ForDesk, order_id: OrderId, form: Sent) -> Response:
    def give() -> None:
        body = made(Assignment, {"assignee_id": form.whole("assignee_id")})
        assign(api, visitor, Response(), order_id, body, form.tag)

    return _done_or_told(request, api, visitor, order_id, give)


@router.post("/maintenance/{order_id}/cancel")
def cancel_by_form(request: Request, api: Parts, visitor: ForDesk, order_id: OrderId, form: Sent) -> Response:
    def end() -> None:
        cancel(api, visitor, Response(), order_id, made(CancelBody, {"reason": form.text("reason")}), form.tag)

    return _done_or_told(request, api, visitor, order_id, end)


@router.post("/maintenance/{order_id}/done")
def finish_by_form(request: Request, api: Parts, visitor: ForDoers, order_id: OrderId, form: Sent) -> Response:
    """The checklist as the page sends it: `result.CODE` and `note.CODE` of each thing."""
    return _done_or_told(
        request, api, visitor, order_id, lambda: finish_order(api, visitor, order_id, _done_body(form), form.tag)
    )  # fmt: skip


def _done_body(form: Form) -> DoneBody:
    """Raises the 422 Problem where something cannot be."""
    codes = [name.removeprefix("result.") for name in form.fields if name.startswith("result.")]
    results = [
        {"code": code, "result": form.text(f"result.{code}"), "note": form.text(f"note.{code}")} for code in codes
    ]  # fmt: skip
    at = {f"results.{n}.{name}": f"{name}.{code}" for n, code in enumerate(codes) for name in ("result", "note")}
    return made(DoneBody, {
        "results": results, "parts": form.lines("parts"), "note": form.text("note"),
        "meter_hours": form.number("meter_hours"), "replaced": form.text("replaced") == "true",
    }, at)  # fmt: skip


def _done_or_told(
    request: Request, api: Api, visitor: Visitor, order_id: int, do: Callable[[], object]
) -> Response:  # fmt: skip
    def again(told: Complaint) -> Response:
        if told.status == 412:
            order, labels = order_shape(api, order_id), labels_of(request, wanted_lang(request, api.lang))
            stands = [labels.order_status(order.status), order.assignee_name or labels.words.say("nobody yet")]
            told = replace(told, said=labels.words.say("Now: %(now)s", now=labels.listed(stands)))
        return _show(request, api, visitor, order_id, told)

    return done_or_told(do, f"/maintenance/{order_id}", again)


def _show(
    request: Request, api: Api, visitor: Visitor, order_id: int, complaint: Complaint | None = None
) -> HTMLResponse:  # fmt: skip
    order = order_shape(api, order_id)
    with api.reading() as connection:
        technicians = queries.technicians(connection)
        due = [one for one in store.listed(connection, api.clock(), device_id=order.device_id, limit=LISTED)
               if one.plan == order.plan]  # fmt: skip
    return render(
        request, "work_order.html", visitor=visitor, order=order, complaint=complaint, technicians=technicians,
        due=due_shape(due[0], api.clock()) if due else None,
        may_finish=visitor.role in DOERS and order.status == "open" and order.kind == "maintenance",
        may_direct=visitor.role in DESK and order.status == "open",
        found={one.code: one for one in order.results},
    )  # fmt: skip


# --- calendars -----------------------------------------------------------------------------------------------------


@router.post("/maintenance/calendars/{feed_id}/end")
def end_by_form(api: Parts, visitor: ForStaff, feed_id: calendar.FeedId) -> Response:
    calendar.end_feed(api, visitor, feed_id)
    return RedirectResponse("/maintenance", 303)


@router.post("/maintenance/calendars")
def make_by_form(request: Request, api: Parts, visitor: ForStaff, form: Sent) -> Response:
    """The address, shown once: it is not kept."""
    try:
        wish = made(calendar.NewFeed, {"site_id": form.whole("site_id"), "mine": form.text("mine") == "true"})
        feed = calendar.make_feed(api, visitor, wish)
    except Problem as problem:
        return _plan(request, api, visitor, complaint=complaint_of(problem))
    return render(request, "calendar_made.html", visitor=visitor, url=feed.url, expires_at=feed.expires_at)
