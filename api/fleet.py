"""How the fleet stands: counts, availability with its bounds (E1), and what presses."""

from collections import defaultdict
from collections.abc import Iterable

from fastapi import APIRouter
from msgspec.structs import replace

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
from monitor.fleet.availability import Availability
from monitor.store import people, queries
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
    past = api.past(scope)
    with api.reading() as connection:
        rows = queries.tally(connection, scope)
        pressing = queries.open_tickets(connection, scope)
        rota_kept = people.keeps_rota(connection) if scope.customer_id is None else None
    total = counts(rows)
    models, sites = _grouped(rows, "profile"), _grouped(rows, "site_id")
    return FleetHealth(
        as_of=scope.now,
        devices=total,
        availability=Shares(
            on_hire=_share(past.on_hire, total.good_on_hire, total.on_hire),
            fleet=_share(past.fleet, total.good, total.total),
        ),
        tickets=TicketCounts.model_validate(pressing),
        maintenance=MaintenanceCounts(),
        rota_kept=rota_kept,
        by_model=[ModelCounts(profile=name, **dict(counts(group))) for name, group in models.items()],
        by_site=[
            SiteCounts(site_id=key, site_name=group[0].site_name, **dict(counts(group))) for key, group in sites.items()
        ],
    )


def course(api: Api, visitor: Visitor) -> list[tuple[float | None, float | None]]:
    """Availability of the machines on hire, day by day over the window: (lower, upper), oldest first."""
    return api.past(api.scope(visitor)).days


def _share(over_days: Availability, good: int, total: int) -> ShareShape:
    """What holds now is counted now; only the days may be some seconds old."""
    return ShareShape.model_validate(replace(over_days, now=good / total if total else None))


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
