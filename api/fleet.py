"""How the fleet stands: counts, availability with its bounds (E1), and what presses."""

from collections import defaultdict
from collections.abc import Iterable

from fastapi import APIRouter

from api.access import ForAll, KnownQuery
from api.context import Api, Parts
from api.problems import documented
from api.shapes import (
    Counts,
    FleetHealth,
    MaintenanceCounts,
    ModelCounts,
    Shares,
    ShareShape,
    SiteCounts,
    TicketCounts,
)
from monitor.fleet.availability import DAY_MS, WINDOW_DAYS, availability, by_day
from monitor.store import queries
from monitor.store.access import Visitor

router = APIRouter(prefix="/api/v1", tags=["fleet"], dependencies=[KnownQuery])


@router.get("/fleet/health", responses=documented(401, 403))
def fleet_health(api: Parts, visitor: ForAll) -> FleetHealth:
    """Counts, availability now and over 30 days against the 90 % of the service standard (E1), open tickets.

    A customer's figures are those of the machines on hire to them, since each of those rentals began.
    """
    return health(api, visitor)


def health(api: Api, visitor: Visitor) -> FleetHealth:
    scope = api.scope(visitor)
    with api.reading() as connection:
        rows = queries.tally(connection, scope)
        history = queries.fleet_history(connection, scope, scope.now - WINDOW_DAYS * DAY_MS)
        pressing = queries.open_tickets(connection, scope)
    on_hire, fleet = (availability(group, scope.now) for group in (history.on_hire, history.fleet))
    models, sites = _grouped(rows, "profile"), _grouped(rows, "site_id")
    return FleetHealth(
        as_of=scope.now,
        devices=counts(rows),
        availability=Shares(on_hire=ShareShape.model_validate(on_hire), fleet=ShareShape.model_validate(fleet)),
        tickets=TicketCounts.model_validate(pressing),
        maintenance=MaintenanceCounts(),
        by_model=[ModelCounts(profile=name, **dict(counts(group))) for name, group in models.items()],
        by_site=[
            SiteCounts(site_id=key, site_name=group[0].site_name, **dict(counts(group))) for key, group in sites.items()
        ],
    )


def course(api: Api, visitor: Visitor) -> list[tuple[float | None, float | None]]:
    """Availability of the machines on hire, day by day over the window: (lower, upper), oldest first."""
    scope = api.scope(visitor)
    with api.reading() as connection:
        history = queries.fleet_history(connection, scope, scope.now - WINDOW_DAYS * DAY_MS)
    return by_day(history.on_hire, scope.now)


def counts(rows: queries.Rows) -> Counts:
    """Sums over a tally of machines."""

    def number(condition: str = "", *, hired: bool = False) -> int:
        return sum(row.number for row in rows if condition in ("", row.condition) and (row.hired or not hired))

    return Counts(
        total=number(),
        good=number("good"),
        bad=number("bad"),
        unknown=number("unknown"),
        on_hire=number(hired=True),
        good_on_hire=number("good", hired=True),
    )


def _grouped(rows: Iterable[queries.AnyRow], column: str) -> dict[object, list[queries.AnyRow]]:
    groups: dict[object, list[queries.AnyRow]] = defaultdict(list)
    for row in rows:
        groups[getattr(row, column)].append(row)
    return groups
