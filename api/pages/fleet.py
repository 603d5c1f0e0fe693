"""The fleet at a glance."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import HTMLResponse

from api import fleet
from api.access import OFFICE, ForAll
from api.context import Api, Parts
from api.maintenance import coming_up
from api.pages import customers
from api.pages.shell import pages, render_shared
from api.pages.ticking import open_tickets
from api.shapes import FleetHealth, PaceShape, SiteCounts
from monitor.fleet.availability import DAY_MS, TARGET, month
from monitor.store import queries
from monitor.store.access import Role, Visitor
from monitor.store.queries import AnyRow

router = pages()

PRESSING_SHOWN = 12
SITES_SHOWN = 24
SQUARES_A_SITE = 60
MAINTENANCE_SHOWN = 6
WIDTH, HEIGHT = 600, 100


@router.get("/")
def fleet_page(request: Request, api: Parts, visitor: ForAll) -> HTMLResponse:
    if visitor.role is Role.CUSTOMER:
        return customers.home(request, api, visitor)
    return render_shared(request, "fleet.html", visitor, lambda: _shown(request, api, visitor))


def _shown(request: Request, api: Api, visitor: Visitor) -> dict[str, object]:
    health = fleet.health(api, visitor)
    with api.reading() as connection:
        not_reporting = queries.not_reporting(connection, api.scope(visitor))
    return {
        "health": health,
        "course": Course.of(fleet.course(api, visitor)),
        "burn": Burn.of(health.budget.on_hire, api.timezone) if health.budget else None,
        "not_reporting": not_reporting,
        "sites": drawn_sites(api, visitor, health),
        "sites_left_out": max(0, len(health.by_site) - SITES_SHOWN),
        "tickets": open_tickets(api, visitor, request, limit=PRESSING_SHOWN),
        "upkeep": coming_up(api, MAINTENANCE_SHOWN) if visitor.role in OFFICE else [],
    }


# --- availability over the days ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Course:
    """Availability day by day, laid out for a drawing 0 to 600 wide and 0 to 100 high."""

    band: list[str]
    """One closed outline a stretch of days that are known."""
    line: list[str]
    target_y: float
    known: int
    """Of how many days anything is known."""

    WIDTH, HEIGHT, FLOOR = WIDTH, HEIGHT, 0.8

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
        return cls(band, line, cls.y(TARGET), sum(map(len, stretches)))

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


@dataclass(frozen=True)
class Burn:
    """What is left of the month's budget, day by day, beside an even pace; laid out like a `Course`."""

    line: str
    end: tuple[float, float] | None
    """Where the line stands now."""
    pace: PaceShape

    @classmethod
    def of(cls, pace: PaceShape, timezone: str) -> "Burn":
        start_at, end_at = month(pace.month, timezone)
        step = WIDTH * DAY_MS / (end_at - start_at)
        points = [(0.0, 0.0), *((n * step, cls.y(left)) for n, left in enumerate(pace.course, start=1))]
        if len(points) == 1:
            return cls("", None, pace)
        return cls(" ".join(f"{x:.1f},{y:.1f}" for x, y in points), points[-1], pace)

    @staticmethod
    def y(left: float) -> float:
        """A budget that is overdrawn is drawn as empty; its figure says by how much."""
        return round(HEIGHT * (1 - min(max(left, 0), 1)), 1)


# --- machines by site ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """A site with its machines as squares, the worst first; `more` of them are not drawn."""

    counts: SiteCounts
    machines: Sequence[AnyRow]

    @property
    def more(self) -> int:
        return self.counts.total - len(self.machines)


def drawn_sites(api: Api, visitor: Visitor, health: FleetHealth) -> list[Site]:
    """The sites where most is wrong come first. Costs the machines of the sites that are drawn."""
    chosen = sorted(health.by_site, key=_wrong)[:SITES_SHOWN]
    with api.reading() as connection:
        rows = queries.squares(connection, api.scope(visitor), [one.site_id for one in chosen], SQUARES_A_SITE)
    return [Site(one, _of_site(rows, one.site_id)) for one in chosen]


def _wrong(site: SiteCounts) -> tuple[int, int, bool, int, str]:
    return -site.bad, -site.unknown, site.site_id is None, -site.total, site.site_name or ""


def _of_site(rows: Iterable[AnyRow], site_id: int | None) -> list[AnyRow]:
    return [row for row in rows if row.site_id == site_id]
