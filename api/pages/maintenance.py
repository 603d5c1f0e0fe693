"""Maintenance: the week's plan, a work order with its checklist, and the addresses of calendars."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from types import MappingProxyType
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import Field

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
    list_due,
    list_orders,
    open_order,
    order_shape,
)
from api.pages.shell import pages, render
from api.problems import Problem
from api.shapes import Given
from api.words import Words, wanted_lang
from monitor.fleet.maintenance import DAY_MS, SERVICE, State, Sure
from monitor.store import maintenance as store
from monitor.store import queries
from monitor.store.access import Visitor

router = pages()

NOTHING: Mapping[str, str] = MappingProxyType({})

LISTED = 200
SITES_OFFERED = 500
FORM_FIELDS = 200


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


class TripForm(Given):
    """Who is to do a whole trip: `job` names each as `machine plan`."""

    assignee_id: int = Field(ge=1, lt=2**63)
    job: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64} [a-z][a-z0-9_]{0,39}$")]] = Field(
        min_length=1, max_length=LISTED
    )


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
    complaint: str = "",
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
        request, "maintenance.html", visitor=visitor, status=409 if complaint else 200, complaint=complaint,
        stretches=list(_stretches(listed.items, api.clock(), words)), following=listed.next, chosen=chosen,
        further=[one for one in orders.items if not one.plan] if chosen.state is None and cursor is None else [],
        states=list(State), sites=sites, profiles=sorted(api.profiles), counted=counted, feeds=feeds,
        technicians=technicians, may_open=visitor.role in DESK, signs=api.desk.addresses.signer is not None,
    )  # fmt: skip


def _stretches(items: Sequence[DueShape], now: int, words: Words) -> Iterator[Stretch]:
    """The plan in its parts; those with nothing in them are left out."""
    monday = _monday(now, words)
    following, after = (_monday(now + n * 7 * DAY_MS, words) for n in (1, 2))

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


def _monday(at: int, words: Words) -> int:
    day = datetime.fromtimestamp(at / 1000, UTC).astimezone(words.zone).date()
    begins = datetime.combine(day - timedelta(days=day.weekday()), time(), words.zone)
    return round(begins.timestamp() * 1000)


@router.post("/maintenance/trips")
def give_trip(request: Request, api: Parts, visitor: ForDesk, form: Annotated[TripForm, Form()]) -> Response:
    """Give all that is due at a site to one person; what has no work order yet gets one. Where one of them is refused,
    the page says so, and the others are given."""
    refused: list[str] = []
    for job in dict.fromkeys(form.job):
        device_id, _, plan = job.partition(" ")
        try:
            _give(api, visitor, device_id, plan, form.assignee_id)
        except Problem as problem:
            if problem.status not in (404, 409, 422):
                raise
            refused.append(f"{device_id}: {problem.detail}")
    if refused:
        return _plan(request, api, visitor, complaint=" ".join(refused))
    return RedirectResponse("/maintenance", 303)


def _give(api: Api, visitor: Visitor, device_id: str, plan: str, assignee_id: int) -> None:
    found = list_due(api, visitor, device_id=device_id, limit=LISTED).items
    order_id = next((one.order_id for one in found if one.plan == plan), None)
    if order_id is None:
        order_id = open_order(api, visitor, Response(), NewOrder(device_id=device_id, plan=plan)).id
    assign(api, visitor, Response(), order_id, Assignment(assignee_id=assignee_id))


@router.post("/maintenance")
def order_service(
    api: Parts, visitor: ForDesk, device_id: Annotated[str, Form(min_length=1, max_length=64)],
    plan: Annotated[str, Form(max_length=40)] = SERVICE,
) -> Response:  # fmt: skip
    made = open_order(api, visitor, Response(), NewOrder(device_id=device_id, plan=plan))
    return RedirectResponse(f"/maintenance/{made.id}", 303)


@router.get("/maintenance/{order_id}")
def order_page(request: Request, api: Parts, visitor: ForStaff, order_id: OrderId) -> HTMLResponse:
    return _show(request, api, visitor, order_id)


@router.post("/maintenance/{order_id}/assign")
def assign_by_form(
    request: Request, api: Parts, visitor: ForDesk, order_id: OrderId,
    assignee_id: Annotated[str, Form(pattern=r"^[0-9]{0,18}$")] = "",
) -> Response:  # fmt: skip
    body = Assignment(assignee_id=int(assignee_id) if assignee_id else None)
    try:
        assign(api, visitor, Response(), order_id, body)
    except Problem as problem:
        return _shown_again(request, api, visitor, order_id, problem)
    return RedirectResponse(f"/maintenance/{order_id}", 303)


@router.post("/maintenance/{order_id}/cancel")
def cancel_by_form(
    request: Request, api: Parts, visitor: ForDesk, order_id: OrderId,
    reason: Annotated[str, Form(min_length=1, max_length=200)],
) -> Response:  # fmt: skip
    try:
        cancel(api, visitor, Response(), order_id, CancelBody(reason=reason))
    except Problem as problem:
        return _shown_again(request, api, visitor, order_id, problem)
    return RedirectResponse(f"/maintenance/{order_id}", 303)


async def filled(request: Request) -> dict[str, str]:
    """The fields of a form whose names are not known beforehand."""
    form = await request.form(max_fields=FORM_FIELDS)
    return {name: value.strip() for name, value in form.items() if isinstance(value, str)}


@router.post("/maintenance/{order_id}/done")
def finish_by_form(
    request: Request,
    api: Parts,
    visitor: ForDoers,
    order_id: OrderId,
    given: Annotated[dict[str, str], Depends(filled)],
) -> Response:
    """The checklist as the page sends it: `result.CODE` and `note.CODE` of each thing."""
    try:
        finish_order(api, visitor, order_id, _done_body(given))
    except Problem as problem:
        return _shown_again(request, api, visitor, order_id, problem, given)
    return RedirectResponse(f"/maintenance/{order_id}", 303)


def _done_body(given: dict[str, str]) -> DoneBody:
    """Raises the 422 Problem where something cannot be."""
    results = [
        {"code": name.removeprefix("result."), "result": value, "note": given.get(f"note.{name[7:]}", "")}
        for name, value in given.items() if name.startswith("result.")
    ]  # fmt: skip
    parts = [" ".join(line.split()) for line in given.get("parts", "").splitlines() if line.strip()]
    hours = given.get("meter_hours", "").replace(",", ".")
    try:
        return DoneBody.model_validate({
            "results": results, "parts": parts, "note": given.get("note", ""), "meter_hours": hours or None,
            "replaced": given.get("replaced") == "true",
        })  # fmt: skip
    except ValueError as error:
        raise Problem(422, "The request is not valid", _said(error)) from error


def _said(error: ValueError) -> str:
    errors: Sequence[dict[str, object]] = getattr(error, "errors", list)()
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in errors)[:500]  # type: ignore[call-overload]


def _shown_again(
    request: Request, api: Api, visitor: Visitor, order_id: int, problem: Problem, given: Mapping[str, str] = NOTHING
) -> HTMLResponse:
    """The order with what was wrong, and with what had been filled in."""
    if problem.status not in (409, 422):
        raise problem
    return _show(request, api, visitor, order_id, problem.detail, problem.status, given)


def _show(
    request: Request, api: Api, visitor: Visitor, order_id: int, complaint: str = "", status: int = 200,
    given: Mapping[str, str] = NOTHING,
) -> HTMLResponse:  # fmt: skip
    order = order_shape(api, order_id)
    with api.reading() as connection:
        technicians = queries.technicians(connection)
        due = [one for one in store.listed(connection, api.clock(), device_id=order.device_id, limit=LISTED)
               if one.plan == order.plan]  # fmt: skip
    return render(
        request, "work_order.html", visitor=visitor, status=status, order=order, complaint=complaint, given=given,
        technicians=technicians, due=due_shape(due[0], api.clock()) if due else None,
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
def make_by_form(
    request: Request, api: Parts, visitor: ForStaff, mine: Annotated[bool, Form()] = False,
    site_id: Annotated[str, Form(pattern=r"^[0-9]{0,18}$")] = "",
) -> Response:  # fmt: skip
    """The address, shown once: it is not kept."""
    made = calendar.make_feed(api, visitor, calendar.NewFeed(site_id=int(site_id) if site_id else None, mine=mine))
    return render(request, "calendar_made.html", visitor=visitor, url=made.url, expires_at=made.expires_at)
