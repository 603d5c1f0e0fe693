"""How the fleet stands: counts, availability with its bounds (E1), the month's budget, and what presses."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
from fastapi import APIRouter, Query
from sqlalchemy.engine import Connection

from api.access import ForAll, ForStaff, KnownQuery
from api.context import Api, Parts
from api.paging import Cursor, Limit, cut, key_of
from api.problems import Problem, documented, not_found
from api.shapes import (
    AskedMoment,
    AvailabilityShape,
    Budgets,
    Counts,
    FleetHealth,
    GroupShape,
    IntervalShape,
    MaintenanceCounts,
    ModelCounts,
    PaceShape,
    Page,
    Shares,
    ShareShape,
    SiteCounts,
    SpentShape,
    TicketCounts,
)
from monitor.fleet.availability import (
    DAY_MS,
    TARGET,
    WINDOW_DAYS,
    Spent,
    availability,
    month_course,
    month_pace,
    spent_by_day,
    summed,
    window,
)
from monitor.store import ledger, maintenance, people, queries
from monitor.store.access import Visitor

router = APIRouter(prefix="/api/v1", tags=["fleet"], dependencies=[KnownQuery])


@router.get("/fleet/health", responses=documented(401, 403))
def fleet_health(api: Parts, visitor: ForAll) -> FleetHealth:
    """Counts, availability now and over the last 30 days and today against the 90 % of the service standard (E1), the
    month's budget of time that may be lost, open tickets.

    A customer's figures are those of the machines on hire to them, since each of those rentals began.
    """
    return health(api, visitor)


def health(api: Api, visitor: Visitor) -> FleetHealth:
    scope = api.scope(visitor)
    staff = scope.customer_id is None
    with api.reading() as connection:
        rows = ledger.machines_now(connection) if staff else queries.tally(connection, scope)
        on_hire = spent_lately(api, connection, scope, hired=True)
        fleet = spent_lately(api, connection, scope, hired=False) if staff else on_hire
        pressing = queries.open_tickets(connection, scope)
        rota_kept = people.keeps_rota(connection) if staff else None
        upkeep = maintenance.counts(connection, scope.now)._asdict() if staff else {}
    found = tallied(rows)
    total = Counts(**found.whole)
    return FleetHealth(
        as_of=scope.now,
        devices=total,
        availability=Shares(
            on_hire=_share(on_hire, total.good_on_hire, total.on_hire), fleet=_share(fleet, total.good, total.total)
        ),
        budget=_budgets(api, scope.now, on_hire, fleet, total) if staff else None,
        tickets=TicketCounts.model_validate(pressing),
        maintenance=MaintenanceCounts(**upkeep),
        rota_kept=rota_kept,
        by_model=[ModelCounts(profile=name, **numbers) for name, numbers in found.models.items()],
        by_site=[SiteCounts(site_id=key, site_name=name, **numbers) for (key, name), numbers in found.sites.items()],
    )


def spent_lately(api: Api, connection: Connection, scope: queries.Scope, *, hired: bool) -> list[Spent]:
    """What each of the last 30 days, and today, was spent in: from the sums that are kept; a customer's from the
    intervals of the rentals that run."""
    if scope.customer_id is None:
        return ledger.spent_lately(connection, scope.now, api.timezone, hired=hired)
    sums = ledger.sums_of_customer(connection, scope.customer_id, scope.now, api.timezone)
    return spent_by_day(window(scope.now, api.timezone), scope.now, *sums)


def course(api: Api, visitor: Visitor) -> list[tuple[float | None, float | None]]:
    """Availability of the machines on hire, day by day over the window: (lower, upper), oldest first."""
    with api.reading() as connection:
        spent = spent_lately(api, connection, api.scope(visitor), hired=True)
    return [(one.lower, one.upper) for one in spent]


def _share(days: Sequence[Spent], good: int, total: int) -> ShareShape:
    return ShareShape.model_validate(availability(summed(days), good, total))


def _budgets(api: Api, now: int, on_hire: Sequence[Spent], fleet: Sequence[Spent], machines: Counts) -> Budgets:
    return Budgets(on_hire=_pace(on_hire, machines.on_hire, now, api), fleet=_pace(fleet, machines.total, now, api))


def _pace(days: Sequence[Spent], machines: int, now: int, api: Api) -> PaceShape:
    found = msgspec.structs.asdict(month_pace(days, machines, now, api.timezone))
    return PaceShape.model_validate({**found, "course": month_course(days, machines, now, api.timezone)})


@router.get("/fleet/availability", responses=documented(401, 403, 422))
def fleet_availability(
    api: Parts,
    _visitor: ForStaff,
    from_: Annotated[AskedMoment | None, Query(alias="from", description="30 days ago, where not given.")] = None,
    to: Annotated[AskedMoment | None, Query(description="`as_of`, where not given; never later.")] = None,
    as_of: Annotated[AskedMoment | None, Query(description="As it was known then; now, where not given.")] = None,
    of: Annotated[Literal["fleet", "on_hire"], Query(description="Which machines are counted.")] = "fleet",
    by: Annotated[Literal["", "profile", "site", "customer"], Query(description="Groups beside the whole.")] = "",
) -> AvailabilityShape:
    """Availability by machine time over any period, as it was known at any moment: good, bad and unknown time, and the
    share that was surely and possibly good (E1). The sums of the ledger's intervals, which `devices/{id}/intervals`
    lists, so that each figure can be reckoned again by hand."""
    now = api.clock()
    known_at = min(now, now if as_of is None else as_of)
    end_at = known_at if to is None else min(known_at, to)
    start_at = end_at - WINDOW_DAYS * DAY_MS if from_ is None else from_
    if start_at >= end_at:
        raise Problem(422, "The request is not valid", "from: must lie before to, before as_of and before now")
    column = {"site": "site_id", "customer": "customer_id"}.get(by, by)
    with api.reading() as connection:
        found = ledger.spent(connection, start_at, end_at, known_at, by=column, hired=of == "on_hire")
        names = ledger.names(connection, column, found)
    whole = summed(found.values())
    groups = [GroupShape(key=key, name=names.get(key, ""), **_figures(spent)) for key, spent in found.items()]
    groups.sort(key=lambda one: (one.lower is None, one.lower, one.name))
    return AvailabilityShape.model_validate({
        "of": of, "by": by, "from": start_at, "to": end_at, "as_of": known_at, "total": _figures(whole),
        "groups": groups if by else [],
    })  # fmt: skip


def _figures(spent: Spent) -> dict[str, object]:
    met = None if spent.lower is None else spent.lower >= TARGET
    return SpentShape(
        good_s=spent.good / 1000, bad_s=spent.bad / 1000, unknown_s=spent.unknown / 1000, lower=spent.lower,
        upper=spent.upper, target=TARGET, met=met,
    ).model_dump()  # fmt: skip


@router.get("/devices/{device_id}/intervals", responses=documented(401, 403, 404, 422))
def device_intervals(
    api: Parts,
    _visitor: ForStaff,
    device_id: str,
    from_: Annotated[AskedMoment | None, Query(alias="from", description="30 days ago, where not given.")] = None,
    to: Annotated[AskedMoment | None, Query(description="Now, where not given.")] = None,
    as_of: Annotated[AskedMoment | None, Query(description="As it was known then; now, where not given.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[IntervalShape]:
    """A machine's time in the fleet's ledger: gapless intervals of one condition at one place, as they were known at a
    moment. What was amended later carries when (`superseded_at`)."""
    now = api.clock()
    end_at = now if to is None else to
    start_at = end_at - WINDOW_DAYS * DAY_MS if from_ is None else from_
    known_at = min(now, now if as_of is None else as_of)
    after = key_of(cursor, int)
    with api.reading() as connection:
        if queries.device_row(connection, queries.Scope(now), device_id) is None:
            raise not_found("machine")
        rows = ledger.intervals(connection, device_id, start_at, end_at, known_at, limit + 1, after)
    items, following = cut([IntervalShape.model_validate(row) for row in rows], limit, "id")
    return Page(items=items, next=following)


def counts(rows: queries.Rows) -> Counts:
    """Sums over a tally of machines."""
    return Counts(**tallied(rows).whole)


class Tally(NamedTuple):
    """Machines counted: all of them, by model, by site (its number and name)."""

    whole: dict[str, int]
    models: dict[str, dict[str, int]]
    sites: dict[tuple[int | None, str | None], dict[str, int]]


def tallied(rows: queries.Rows) -> Tally:
    """One pass over a tally of machines: (profile, site_id, site_name, condition, hired, number)."""
    found = Tally(_nothing(), defaultdict(_nothing), defaultdict(_nothing))
    for profile, site_id, site_name, condition, hired, number in rows:
        for into in (found.whole, found.models[profile], found.sites[site_id, site_name]):
            into["total"] += number
            into[condition] += number
            if hired:
                into["on_hire"] += number
                into["good_on_hire"] += number if condition == "good" else 0
    return found


def _nothing() -> dict[str, int]:
    return {"total": 0, "good": 0, "bad": 0, "unknown": 0, "on_hire": 0, "good_on_hire": 0}
