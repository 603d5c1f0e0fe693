"""How reliable the fleet is (E6): time between failures, how long they take, what comes back, what they come from."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from api.access import ForOffice, KnownQuery
from api.context import Parts
from api.problems import Problem, documented
from api.quality import ShareShape
from api.shapes import AskedMoment, Moment, Shape
from api.turns import turns_of
from monitor.fleet import reliability as reckoning
from monitor.fleet.reliability import Reliability, shipped_policy
from monitor.store import reliability
from monitor.store.reliability import By, Period

router = APIRouter(prefix="/api/v1", tags=["fleet"], dependencies=[KnownQuery])

DAY_MS = 86_400_000
WAIT_S = 30.0
DEFAULT_DAYS, LONGEST_DAYS = 365, 3 * 366


class BetweenShape(Shape):
    """Hours between failures, with the exact 95 % interval (Poisson) of their count."""

    failures: int
    hours: float = Field(description="Hours in service, or run by the hour meter, that the failures are set against.")
    machines: int
    mtbf_h: float | None = Field(description="hours / failures; null: too few failures to say")
    lower_h: float | None
    upper_h: float | None = Field(description="null: without any failure there is no upper limit")


class SpreadShape(Shape):
    """How long it took, in hours; null where there are too few cases to say."""

    count: int
    mean_h: float | None
    median_h: float | None
    p90_h: float | None = Field(description="Nine of ten took no longer: the ⌈0.9 n⌉th shortest.")
    not_measured: int = Field(description="Cases whose beginning or end is not on record, or not yet.")


class RepeatsShape(Shape):
    """After how many repairs the same machine had the same fault again within the days."""

    repairs: int = Field(description="Repairs whose days are over.")
    repeated: ShareShape
    enough: bool = Field(description="false: too few to say")
    pending: int = Field(description="Repairs too young to say; they count in nothing.")


class FiguresShape(Shape):
    group: str = Field(description="Profile, site id or customer id; 'none': of none; '': the whole fleet.")
    name: str
    calendar: BetweenShape
    metered: BetweenShape
    dispatch: SpreadShape = Field(description="Opened until the technician who came had accepted.")
    repair: SpreadShape = Field(description="Repair begun until resolved.")
    restore: SpreadShape = Field(description="Opened until cleared or resolved, whichever was first.")
    repeats: RepeatsShape


class LineShape(Shape):
    name: str
    count: int
    share: ShareShape
    cumulative: float


class ParetoShape(Shape):
    by: str = Field(description="model, component or cause")
    count: int
    enough: bool = Field(description="false: too few for an order of causes")
    not_known: int = Field(description="Failures of which it is not on record; in no line.")
    lines: list[LineShape]


class ReliabilityShape(Shape):
    """Figures of the failures of [start_at, end_at); docs/fleet.md says how each is counted."""

    start_at: Moment
    end_at: Moment
    as_of: Moment
    by: By
    few: int = Field(description="Below so many cases a figure is null: they are no law.")
    repeat_days: int
    whole: FiguresShape
    groups: list[FiguresShape]
    paretos: list[ParetoShape]


@router.get("/fleet/reliability", responses=documented(401, 403, 422))
def fleet_reliability(
    request: Request,
    api: Parts,
    _: ForOffice,
    start: Annotated[AskedMoment | None, Query(alias="from", description="Default: a year before `to`.")] = None,
    end: Annotated[AskedMoment | None, Query(alias="to", description="Default: now.")] = None,
    by: By = By.PROFILE,
) -> ReliabilityShape:
    """MTBF, MTTR, time to dispatch, faults that came back, and what failures come from: each with its count."""
    now, policy = api.clock(), shipped_policy()
    end_at = now if end is None else end
    start_at = max(0, end_at - DEFAULT_DAYS * DAY_MS) if start is None else start
    if not start_at < end_at <= start_at + LONGEST_DAYS * DAY_MS:
        raise Problem(
            422, "The request is not valid", f"from must lie before to, by at most {LONGEST_DAYS} days"
        )  # fmt: skip
    # A year of a large fleet keeps a core busy for seconds.
    turn = turns_of(request).reliability.turn(WAIT_S, "Other figures are being reckoned.")
    with turn, api.reading() as connection:
        facts = reliability.load(connection, Period(start_at, end_at, now), by, policy, api.profiles)
        names = reliability.names(connection, by)
        found = reckoning.reliability(facts, policy, now)
    return _shape(found, names, start_at=start_at, end_at=end_at, as_of=now, by=by)


def _shape(
    found: Reliability, names: dict[str, str], *, start_at: int, end_at: int, as_of: int, by: By
) -> ReliabilityShape:
    policy = shipped_policy()
    groups = [_figures(one, names.get(one.group, one.group)) for one in found.groups]
    return ReliabilityShape(
        start_at=start_at, end_at=end_at, as_of=as_of, by=by, few=policy.few, repeat_days=policy.repeat_days,
        whole=_figures(found.whole, ""), groups=groups,
        paretos=[ParetoShape.model_validate(one) for one in found.paretos],
    )  # fmt: skip


def _figures(one: reckoning.Figures, name: str) -> FiguresShape:
    parts = {part: getattr(one, part) for part in ("calendar", "metered", "dispatch", "repair", "restore", "repeats")}
    return FiguresShape.model_validate({"group": one.group, "name": name, **parts}, from_attributes=True)
