"""Maintenance (E4): what is due on which machine, the work orders of it, plans, and hour meters."""

from typing import Annotated, ClassVar, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from api.access import ForDesk, ForDoers, ForOps, ForStaff, KnownQuery
from api.context import Api, Parts
from api.devices import DeviceId
from api.paging import Cursor, Limit, cursor_of, cut, key_of
from api.problems import Problem, documented, not_found
from api.refusals import IfMatch, give_tag, refusals_told, seen_tag
from api.shapes import Given, Moment, Page, PlannedMoment, Shape
from monitor.engine.meters import hours_of
from monitor.engine.upkeep import Done
from monitor.fleet.maintenance import Item, Plan, Resets, State
from monitor.store import maintenance as store
from monitor.store import queries
from monitor.store.access import Role, Visitor
from monitor.store.registry import Refused
from monitor.store.telemetry import TelemetryUnavailable

router = APIRouter(prefix="/api/v1", tags=["maintenance"], dependencies=[KnownQuery])

OrderId = Annotated[int, Path(ge=1, lt=2**63)]
Id = Annotated[int, Field(ge=1, lt=2**63)]
Code = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
PlanCode = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Title = Annotated[str, Field(min_length=1, max_length=120)]
MOST_HOURS = 1_000_000
MOST_JOBS = 200
"""So many jobs a trip may have."""


# --- shapes --------------------------------------------------------------------------------------------------------


class DueShape(Shape):
    """One plan of one machine: when it is due, and by what."""

    device_id: str
    profile: str
    site_id: int | None
    site_name: str | None
    plan: str
    title_en: str
    title_zh: str
    state: State
    due_at: Moment = Field(description="A forecast until then; the calendar bounds it.")
    overdue_at: Moment = Field(description="From then on the machine cannot be handed over.")
    trigger: str = Field(description="What makes it due first: calendar, hours, starts or condition (a trend).")
    sure: str = Field(
        description="known; by_use: reckoned from the use of late; calendar_only: of use too little is known"
    )
    left_h: float | None = Field(description="Running hours until its meter makes it due.")
    left_starts: int | None
    use_h_per_day: float | None
    meter_h: float | None
    done_at: Moment | None = Field(description="When it was last done; null: never.")
    order_id: int | None = Field(description="The work order that is open for it.")
    assignee_id: int | None
    assignee_name: str | None


class ItemShape(BaseModel):
    code: str
    title_en: str
    title_zh: str


class ResultShape(BaseModel):
    code: str
    result: str = Field(description="ok, not_ok or not_applicable")
    note: str = ""


class OrderShape(Shape):
    """A work order."""

    id: int
    kind: str = Field(description="maintenance or spot_check")
    device_id: str
    profile: str
    site_id: int | None
    site_name: str | None
    plan: str = Field(description="'': of no plan")
    title_en: str
    title_zh: str
    reason: str = Field(description="What brought it: calendar, hours, starts, condition, by_hand, or a draw.")
    status: Literal["open", "done", "cancelled"]
    due_at: Moment
    opened_at: Moment
    opened_by: str
    assignee_id: int | None
    assignee_name: str | None
    checklist: list[ItemShape]
    results: list[ResultShape]
    parts: list[str]
    note: str = Field(description="Of a cancelled one: why.")
    done_at: Moment | None
    done_by: str
    meter_hours: float | None
    revision: int


class PlanItem(Given):
    code: Code
    title_en: Title
    title_zh: Title


class PlanBody(Given):
    """How often. `every_days` bounds it: 90 at most, but for what comes beside the quarterly service (E4)."""

    title_en: Title
    title_zh: Title
    every_days: int = Field(ge=1, le=3660)
    every_h: float | None = Field(None, gt=0, le=MOST_HOURS, allow_inf_nan=False)
    every_starts: int | None = Field(None, ge=1, le=MOST_HOURS)
    condition: bool = Field(False, description="A trend in the machine's readings makes it due.")
    resets_from: Literal["due", "done"] = "done"
    additional: bool = Field(False, description="It comes beside the quarterly service, and may be less often.")
    checklist: list[PlanItem] = Field(max_length=60)


class PlanShape(BaseModel):
    code: str
    scope: str = Field(description="shipped, all, profile or device; the nearest counts")
    of: str
    title_en: str
    title_zh: str
    every_days: int | None = Field(description="null: by the profile's service intervals, as every_h then")
    every_h: float | None
    every_starts: int | None
    condition: bool
    resets_from: str
    additional: bool
    checklist: list[ItemShape]
    changed_at: Moment | None
    changed_by: str
    tag: str = Field(description="What an If-Match may name.")


class MeterShape(Shape):
    id: int
    at: Moment
    hours: float
    total_h: float = Field(description="Goes on where the meter was replaced.")
    starts: int | None
    source: str
    replaced: bool
    doubt: str = Field(description="back or fast: the meter cannot have shown it, and it counts for nothing.")
    actor: str


class NewOrder(Given):
    device_id: str = Field(min_length=1, max_length=64)
    plan: str = Field("", max_length=40, description="Its plan; or a title.")
    title: str = Field("", max_length=120)
    due_at: PlannedMoment | None = Field(None, description="Now, without it.")


class Assignment(Given):
    assignee_id: Id | None = Field(description="null: nobody any more.")


class TripJob(Given):
    device_id: str = Field(min_length=1, max_length=64)
    plan: Code


class Trip(Given):
    """All that one person is to do on one way."""

    assignee_id: Id
    jobs: list[TripJob] = Field(min_length=1, max_length=MOST_JOBS)


class Result(Given):
    code: Code
    result: Literal["ok", "not_ok", "not_applicable"]
    note: str = Field("", max_length=500)


class DoneBody(Given):
    in_lines: ClassVar[frozenset[str]] = frozenset({"note"})

    results: list[Result] = Field(default=[], max_length=60, description="One of each thing of the checklist.")
    meter_hours: float | None = Field(
        None, ge=0, le=MOST_HOURS, allow_inf_nan=False,
        description="Without it the machine's own meter is asked, where it has one.",
    )  # fmt: skip
    replaced: bool = Field(False, description="The meter was replaced; meter_hours is what the new one shows.")
    parts: list[Annotated[str, Field(min_length=1, max_length=120)]] = Field(default=[], max_length=50)
    note: str = Field("", max_length=2000)
    done_at: PlannedMoment | None = Field(None, description="Now, without it.")


class CancelBody(Given):
    reason: str = Field(min_length=1, max_length=200)


class NewReading(Given):
    hours: float = Field(ge=0, le=MOST_HOURS, allow_inf_nan=False)
    at: PlannedMoment | None = Field(None, description="Now, without it.")
    replaced: bool = Field(False, description="It is another meter than at the reading before; the sum goes on.")


# --- what is due ---------------------------------------------------------------------------------------------------


@router.get("/maintenance", responses=documented(401, 403, 422))
def list_due(
    api: Parts,
    _: ForStaff,
    state: State | None = None,
    site_id: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    profile: Annotated[str | None, Query(max_length=64)] = None,
    device_id: Annotated[str | None, Query(max_length=64)] = None,
    assignee_id: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DueShape]:
    """What is due on machines in use, by when: each plan of each machine."""
    now = api.clock()
    with api.reading() as connection:
        rows = store.listed(
            connection, now, state=state, site_id=site_id, profile=profile, device_id=device_id,
            assignee_id=assignee_id, after=_place(cursor), limit=limit + 1,
        )  # fmt: skip
    following = None
    if len(rows) > limit:
        last = rows[limit - 1]
        following = cursor_of(f"{last.due_at} {last.device_id} {last.plan}")
    return Page(items=[due_shape(row, now) for row in rows[:limit]], next=following)


def coming_up(api: Api, limit: int) -> list[DueShape]:
    """What is due first, of all machines in use."""
    now = api.clock()
    with api.reading() as connection:
        return [due_shape(row, now) for row in store.listed(connection, now, limit=limit)]


def _place(cursor: str | None) -> tuple[int, str, str] | None:
    key = key_of(cursor, str)
    if key is None:
        return None
    at, _, rest = key.partition(" ")
    device_id, _, plan = rest.partition(" ")
    if not at.lstrip("-").isdecimal() or len(at) > 18:
        raise Problem(422, "The request is not valid", "cursor: take it unchanged from `next` of the previous page")
    return int(at), device_id, plan


def due_shape(row: store.Row, now: int) -> DueShape:
    return DueShape.model_validate({**row._mapping, "state": store.due_of(row).state(now)})


# --- work orders ---------------------------------------------------------------------------------------------------


@router.get("/work-orders", responses=documented(401, 403, 422))
def list_orders(
    api: Parts,
    _: ForStaff,
    kind: Literal["maintenance", "spot_check"] | None = None,
    status: Literal["open", "done", "cancelled"] | None = None,
    device_id: Annotated[str | None, Query(max_length=64)] = None,
    site_id: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    assignee_id: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[OrderShape]:
    """Work orders, the newest first."""
    with api.reading() as connection:
        rows = store.orders(
            connection, kind=kind, status=status, device_id=device_id, site_id=site_id, assignee_id=assignee_id,
            before=key_of(cursor, int), limit=limit + 1,
        )  # fmt: skip
    items, following = cut([OrderShape.model_validate(row) for row in rows], limit, "id")
    return Page(items=items, next=following)


@router.post("/maintenance", status_code=201, responses=documented(401, 403, 404, 409, 422))
def open_order(api: Parts, visitor: ForDesk, response: Response, body: NewOrder) -> OrderShape:
    """Have something done that no plan asks for yet: a plan's work now, or something that is none of a plan's."""
    now = api.clock()
    with refusals_told("machine"):
        order_id = api.desk.upkeep.open_by_hand(
            body.device_id, visitor.actor, now, due_at=now if body.due_at is None else body.due_at,
            plan_code=body.plan, title=body.title.strip(),
        )  # fmt: skip
    return order_shape(api, order_id, response)


@router.post("/maintenance/trips", responses=documented(401, 403, 404, 409, 422))
def give_trip(api: Parts, visitor: ForDesk, body: Trip) -> Page[OrderShape]:
    """Give one person all of a trip: what has no work order yet gets one that is due now. All is given, or nothing: 409
    where one of them was given to somebody else."""
    jobs = [(one.device_id, one.plan) for one in body.jobs]
    with refusals_told("machine"):
        given = api.desk.upkeep.give_trip(jobs, body.assignee_id, visitor.actor, api.clock())
    return Page(items=[order_shape(api, order_id) for order_id in given], next=None)


@router.get("/maintenance/{order_id}", responses=documented(401, 403, 404))
def one_order(api: Parts, _: ForStaff, response: Response, order_id: OrderId) -> OrderShape:
    """One work order, with the ETag that a change may name."""
    return order_shape(api, order_id, response)


@router.post("/maintenance/{order_id}/assign", responses=documented(401, 403, 404, 409, 412, 422))
def assign(
    api: Parts, visitor: ForDesk, response: Response, order_id: OrderId, body: Assignment, if_match: IfMatch = None
) -> OrderShape:
    """Somebody is to do it: who is certified for the model (P1). They hear of it."""
    with refusals_told("work order"):
        api.desk.upkeep.assign(order_id, body.assignee_id, visitor.actor, api.clock(), seen=seen_tag(if_match))
    return order_shape(api, order_id, response)


@router.post("/maintenance/{order_id}/done", responses=documented(401, 403, 404, 409, 412, 422))
def finish(
    api: Parts, visitor: ForDoers, response: Response, order_id: OrderId, body: DoneBody, if_match: IfMatch = None
) -> OrderShape:
    """It is done, with how each thing was found. Its plan is reckoned from then on, by its own rule."""
    finish_order(api, visitor, order_id, body, seen_tag(if_match))
    return order_shape(api, order_id, response)


@router.post("/maintenance/{order_id}/cancel", responses=documented(401, 403, 404, 409, 412, 422))
def cancel(
    api: Parts, visitor: ForDesk, response: Response, order_id: OrderId, body: CancelBody, if_match: IfMatch = None
) -> OrderShape:
    """It is not to be done. What is due stays due: a machine that is overdue stays so until the work is done."""
    with refusals_told("work order"):
        api.desk.upkeep.cancel(order_id, body.reason, visitor.actor, api.clock(), seen=seen_tag(if_match))
    return order_shape(api, order_id, response)


def finish_order(api: Api, visitor: Visitor, order_id: int, body: DoneBody, seen: str | None = None) -> None:
    """Raises the Problem where it cannot be."""
    now = api.clock()
    if visitor.role is Role.TECHNICIAN and visitor.person_id is None:
        raise Problem(403, "Not allowed", "A technician says that it is done with an account of their own.")
    done = Done(
        now if body.done_at is None else body.done_at, [one.model_dump() for one in body.results], body.parts,
        body.note, body.meter_hours if body.meter_hours is not None else _own_meter(api, order_id, body.done_at),
        body.replaced,
    )  # fmt: skip
    by = visitor.person_id if visitor.role is Role.TECHNICIAN else None
    with refusals_told("work order"):
        if body.replaced and body.meter_hours is None:
            raise Refused("meter_hours: what does the new meter show?")
        api.desk.upkeep.finish(order_id, done, visitor.actor, now, by=by, seen=seen)


def _own_meter(api: Api, order_id: int, done_at: int | None) -> float | None:
    """What the machine's own meter shows; None where it has none, cannot be asked, or another moment is meant."""
    with api.reading() as connection:
        row = store.order_row(connection, order_id)
    if row is None or done_at is not None:
        return None
    try:
        found = hours_of(api.telemetry, row.device_id)
    except TelemetryUnavailable:
        return None
    with api.reading() as connection:
        before = store.neighbours(connection, row.device_id, api.clock())[0]
    # What cannot be is not taken from a machine that nobody has looked at.
    plausible = found is not None and (before is None or api.desk.upkeep.can_show(before, api.clock(), found[1]))
    return found[1] if found and plausible else None


def order_shape(api: Api, order_id: int, response: Response | None = None) -> OrderShape:
    with api.reading() as connection:
        row = store.order_row(connection, order_id)
    if row is None:
        raise not_found("work order")
    if response is not None:
        give_tag(response, row.revision)
    return OrderShape.model_validate(row)


# --- meters --------------------------------------------------------------------------------------------------------


@router.get("/devices/{device_id}/meter-readings", responses=documented(401, 403, 404, 422))
def list_readings(
    api: Parts, visitor: ForStaff, device_id: DeviceId, limit: Limit = 50, cursor: Cursor = None
) -> Page[MeterShape]:
    """What a machine's hour meter showed, the latest first: once a day by itself, and when somebody read it."""
    with api.reading() as connection:
        if queries.device_row(connection, api.scope(visitor), device_id) is None:
            raise not_found("machine")
        rows = store.meter_rows(connection, device_id, before=key_of(cursor, int), limit=limit + 1)
    following = cursor_of(rows[limit - 1].at) if len(rows) > limit else None
    return Page(items=[MeterShape.model_validate(row) for row in rows[:limit]], next=following)


@router.post("/devices/{device_id}/meter-readings", status_code=201, responses=documented(401, 403, 404, 422))
def read_meter(api: Parts, visitor: ForDoers, device_id: DeviceId, body: NewReading) -> MeterShape:
    """Somebody read the hour meter. One that shows less than before, or more than time has passed, is refused, but for
    another meter (`replaced`)."""
    now = api.clock()
    at = now if body.at is None else body.at
    with refusals_told("machine"):
        if at > now:
            raise Refused("at: nobody has read it yet then")
        api.desk.upkeep.read_meter(device_id, at, body.hours, visitor.actor, now, replaced=body.replaced)
    with api.reading() as connection:
        rows = store.meter_rows(connection, device_id, before=at + 1, limit=1)
    return MeterShape.model_validate(rows[0])


# --- plans ---------------------------------------------------------------------------------------------------------


Scope = Annotated[Literal["all", "profile", "device"], Query(description="For all machines, a model, or one machine.")]
Of = Annotated[str, Query(max_length=64, description="The profile or the machine; '' for all.")]


@router.get("/maintenance-plans", responses=documented(401, 403))
def list_plans(api: Parts, _: ForStaff) -> Page[PlanShape]:
    """The plans that ship and those that operators put in their place or beside them."""
    with api.reading() as connection:
        rows = store.plan_rows(connection)
    shipped = [_plan_shape(plan, "shipped", "", None) for plan in api.desk.upkeep.policy.plans]
    return Page(items=shipped + [_plan_shape(store.plan_of(row), row.scope, row.of, row) for row in rows], next=None)


@router.put("/maintenance-plans/{code}", responses=documented(401, 403, 404, 412, 422))
def put_plan(
    api: Parts, visitor: ForOps, response: Response, code: PlanCode, body: PlanBody, scope: Scope = "all", of: Of = "",
    if_match: IfMatch = None,
) -> PlanShape:  # fmt: skip
    """Put a plan in the place of what was there. One that would leave a machine longer than a quarter is refused (E4).
    What is due is reckoned anew within minutes."""
    with refusals_told("machine"):
        _check_scope(scope, of)
        plan = _plan(code, body)
        api.desk.upkeep.put_plan(plan, scope, of, visitor.actor, api.clock(), seen=seen_tag(if_match))
    with api.reading() as connection:
        row = store.plan_row(connection, code, scope, of)
    give_tag(response, store.plan_tag(row))
    return _plan_shape(plan, scope, of, row)


@router.delete("/maintenance-plans/{code}", status_code=204, responses=documented(401, 403, 404, 412, 422))
def remove_plan(
    api: Parts, visitor: ForOps, code: PlanCode, scope: Scope = "all", of: Of = "", if_match: IfMatch = None
) -> None:
    """Go back to what counts further out: the model's plan, all machines', or the one that ships."""
    with refusals_told("maintenance plan"):
        _check_scope(scope, of)
        api.desk.upkeep.remove_plan(code, scope, of, visitor.actor, api.clock(), seen=seen_tag(if_match))


def _check_scope(scope: str, of: str) -> None:
    if (scope == "all") != (of == ""):
        raise Refused("of: the profile or the machine, and '' where the plan is for all")


def _plan(code: str, body: PlanBody) -> Plan:
    items = tuple(Item(one.code, one.title_en.strip(), one.title_zh.strip()) for one in body.checklist)
    try:
        return Plan(
            code, body.title_en.strip(), body.title_zh.strip(), body.every_days, body.every_h, body.every_starts,
            body.condition, Resets(body.resets_from), body.additional, checklist=items,
        )  # fmt: skip
    except ValueError as error:
        raise Refused(str(error)) from error


def _plan_shape(plan: Plan, scope: str, of: str, row: store.Row | None) -> PlanShape:
    return PlanShape(
        code=plan.code, scope=scope, of=of, title_en=plan.title_en, title_zh=plan.title_zh,
        every_days=plan.every_days, every_h=plan.every_h, every_starts=plan.every_starts, condition=plan.condition,
        resets_from=plan.resets_from, additional=plan.additional,
        checklist=[ItemShape(code=one.code, title_en=one.title_en, title_zh=one.title_zh) for one in plan.checklist],
        changed_at=row.changed_at if row else None, changed_by=row.changed_by if row else "",
        tag=store.plan_tag(row),
    )  # fmt: skip
