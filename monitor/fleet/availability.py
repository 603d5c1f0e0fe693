"""Availability (E1, 完好率): the share of machine time in good order, with honest bounds where nobody knows.

Figures are sums over the fleet's ledger (`monitor/fleet/ledger.py`): clipped to the period, running intervals included.
A day is a calendar day of the company's time zone. What is kept beside the ledger are its sums by day, so that a figure
over a month needs no interval to be read; sums are of whole milliseconds and therefore exact.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import accumulate
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from monitor.fleet.ledger import Condition, Interval, Place

TARGET = 0.90
WINDOW_DAYS = 30
DAY_MS = 86_400_000


class Group(NamedTuple):
    """Whose time is summed together: machines of one model, on hire or not."""

    profile: str
    hired: bool


class Spent(NamedTuple):
    """Machine time by condition, in ms."""

    good: int = 0
    bad: int = 0
    unknown: int = 0

    @property
    def total(self) -> int:
        return self.good + self.bad + self.unknown

    @property
    def lower(self) -> float | None:
        """The share that was surely good; None is the share of no time."""
        return self.good / self.total if self.total else None

    @property
    def upper(self) -> float | None:
        """The share that may have been good."""
        return (self.good + self.unknown) / self.total if self.total else None

    def plus(self, other: "Spent") -> "Spent":
        return Spent(self.good + other.good, self.bad + other.bad, self.unknown + other.unknown)


class Availability(msgspec.Struct, frozen=True):
    """Shares between 0 and 1; None is the share of no machines."""

    now: float | None
    window_days: int
    lower: float | None
    """Unknown time counted as bad: what is certain."""
    upper: float | None
    """Unknown time counted as good: what is possible."""
    target: float
    met: bool | None
    """Whether what is certain reaches the target."""


def availability(
    spent: Spent, good: int, machines: int, window_days: int = WINDOW_DAYS, target: float = TARGET
) -> Availability:
    """A group's availability: over the window, and now, when so many of so many machines are good."""
    met = None if spent.lower is None else spent.lower >= target
    now = good / machines if machines else None
    return Availability(now, window_days, spent.lower, spent.upper, target, met)


def summed(spent: Iterable[Spent]) -> Spent:
    total = Spent()
    for one in spent:
        total = total.plus(one)
    return total


# --- days ---


@cache
def _midnights(timezone: str) -> list[int]:
    """Every local midnight from 2000 to the end of the century, as epoch ms."""
    zone, day, end = ZoneInfo(timezone), date(2000, 1, 1), date(2100, 1, 1)
    found = []
    while day <= end:
        # Where a day begins an hour late (the clock is set forward at midnight), fold 0 names the same moment.
        local = datetime(day.year, day.month, day.day, tzinfo=zone)
        found.append(round(local.astimezone(UTC).timestamp() * 1000))
        day += timedelta(days=1)
    return found


def day_of(at: int, timezone: str) -> int:
    """The midnight at which the local day of this moment began (epoch ms)."""
    midnights = _midnights(timezone)
    return midnights[max(0, bisect_right(midnights, at) - 1)]


def days(start_at: int, end_at: int, timezone: str) -> list[int]:
    """The midnights of the days that [start_at, end_at) touches, in order."""
    midnights = _midnights(timezone)
    first = max(0, bisect_right(midnights, start_at) - 1)
    return midnights[first : max(first, bisect_right(midnights, end_at - 1))]


def window(now: int, timezone: str, window_days: int = WINDOW_DAYS) -> list[int]:
    """The midnights of the last so many whole days, and of today."""
    midnights = _midnights(timezone)
    today = max(0, bisect_right(midnights, now) - 1)
    return midnights[max(0, today - window_days) : today + 1]


def month_of(at: int, timezone: str) -> str:
    """The calendar month of a moment, such as `2026-11`."""
    return datetime.fromtimestamp(at / 1000, ZoneInfo(timezone)).strftime("%Y-%m")


def month(name: str, timezone: str) -> tuple[int, int]:
    """[from, to) of a calendar month `2026-11` (epoch ms). Raises ValueError."""
    first = datetime.strptime(name, "%Y-%m").replace(tzinfo=ZoneInfo(timezone))
    following = (first.replace(day=28) + timedelta(days=4)).replace(day=1)
    return tuple(round(at.astimezone(UTC).timestamp() * 1000) for at in (first, following))  # type: ignore[return-value]


# --- sums that are kept ---


class DayKey(NamedTuple):
    """A sum of what intervals that have ended spent on one day."""

    group: Group
    condition: Condition
    day_at: int


class RunKey(NamedTuple):
    """Intervals that run, by the day on which they began: how many, and the sum of how long after its midnight."""

    group: Group
    condition: Condition
    day_at: int


class NowKey(NamedTuple):
    """Machines as they stand now."""

    profile: str
    site_id: int
    """0: at no site."""
    hired: bool
    condition: Condition


KEPT_DAYS = 62
"""So many days are summed: a window and the month that it reaches into."""


def kept_since(now: int, timezone: str) -> int:
    """The first day whose sums are kept."""
    return window(now, timezone, KEPT_DAYS)[0]


class Sums(NamedTuple):
    """What intervals add to the sums that are kept beside the ledger (or, negated, take from them). What lies before
    the day `since_at` is not summed."""

    since_at: int
    ended_ms: Counter[DayKey]
    running: Counter[RunKey]
    running_from: Counter[RunKey]
    now: Counter[NowKey]

    @classmethod
    def none(cls, since_at: int = 0) -> "Sums":
        return cls(since_at, Counter(), Counter(), Counter(), Counter())

    def add(self, one: Interval, timezone: str, sign: int = 1) -> None:
        """Add an interval (`sign` 1), or take it away (-1). A retired machine is counted no more."""
        if one.place is Place.RETIRED:
            return
        group = Group(one.profile, one.hired)
        if one.to_at is None:
            key = RunKey(group, one.condition, day_of(one.from_at, timezone))
            self.running[key] += sign
            self.running_from[key] += sign * (one.from_at - key.day_at)
            self.now[NowKey(one.profile, one.site_id or 0, one.hired, one.condition)] += sign
            return
        if one.to_at <= self.since_at:
            return
        for day_at, ms in by_day(max(one.from_at, self.since_at), one.to_at, timezone):
            self.ended_ms[DayKey(group, one.condition, day_at)] += sign * ms


def by_day(from_at: int, to_at: int, timezone: str) -> Iterator[tuple[int, int]]:
    """(day, ms) of a span, day by day."""
    touched = days(from_at, to_at, timezone)
    for place, day_at in enumerate(touched):
        end_at = to_at if place + 1 == len(touched) else touched[place + 1]
        # What lies before the first day we know of counts on it.
        yield day_at, end_at - (from_at if place == 0 else day_at)


class Running(NamedTuple):
    """So many intervals of a condition that run and began on this day, and the sum of how long after its midnight."""

    condition: Condition
    day_at: int
    number: int
    from_ms: int


def spent_by_day(
    midnights: Sequence[int], now: int, ended: Mapping[tuple[int, Condition], int], running: Iterable[Running]
) -> list[Spent]:
    """What each of these days (in order, the last one ends now) was spent in, from the sums."""
    ends = [*midnights[1:], now]
    sums = {condition: [ended.get((day_at, condition), 0) for day_at in midnights] for condition in Condition}
    begun = {condition: [0] * (len(midnights) + 1) for condition in Condition}
    for run in running:
        place = bisect_right(midnights, run.day_at) - 1
        if place >= 0:
            sums[run.condition][place] += run.number * (ends[place] - run.day_at) - run.from_ms
        begun[run.condition][place + 1] += run.number
    for condition, numbers in begun.items():
        whole_days = accumulate(numbers)
        for place, (number, day_at) in enumerate(zip(whole_days, midnights, strict=False)):
            sums[condition][place] += number * (ends[place] - day_at)
    return [Spent(*one) for one in zip(*(sums[condition] for condition in Condition), strict=True)]


# --- the month's budget ---


class Pace(msgspec.Struct, frozen=True):
    """How a month goes against its target. `budget_ms` is the machine time that may be not good in the whole month,
    as far as can be said now; `spent_ms` the time that surely or possibly was not; `burn_rate` 1 spends exactly the
    budget by the month's end, more misses the target."""

    month: str
    target: float
    lower: float | None
    budget_ms: int
    spent_ms: int
    left_share: float | None
    burn_rate: float | None
    misses: bool | None
    """At this pace the month will miss its target. None while nothing can be said."""


EARLIEST_WARNING_DAYS = 3
"""So long each machine has to have been there, on the average, before a month's pace says anything."""


def month_pace(lately: Sequence[Spent], machines: int, now: int, timezone: str) -> Pace:
    """How the present month goes, by the days of a `window` that ends now: whatever day it is, the month's are among
    them."""
    name = month_of(now, timezone)
    start_at, end_at = month(name, timezone)
    over = sum(day_at >= start_at for day_at in window(now, timezone))
    return pace(name, summed(lately[-over:]), machines, now, end_at)


def month_course(lately: Sequence[Spent], machines: int, now: int, timezone: str) -> list[float]:
    """What share of the present month's budget was left at the end of each of its days so far, today's as it is now;
    nothing where there is no budget. Reckoned with the budget as it stands now, so that the last is `left_share`."""
    budget_ms = month_pace(lately, machines, now, timezone).budget_ms
    if not budget_ms:
        return []
    start_at, _ = month(month_of(now, timezone), timezone)
    over = sum(day_at >= start_at for day_at in window(now, timezone))
    not_good = accumulate(one.total - one.good for one in lately[-over:])
    return [1 - spent_ms / budget_ms for spent_ms in not_good]


def pace(month_name: str, spent: Spent, machines: int, now: int, end_at: int, target: float = TARGET) -> Pace:
    """The pace of a month that has `spent` so far; `machines` are counted on until it ends."""
    if not spent.total:
        return Pace(month_name, target, None, 0, 0, None, None, None)
    not_good = spent.total - spent.good
    budget_ms = round((1 - target) * (spent.total + machines * max(0, end_at - now)))
    burn_rate = not_good / spent.total / (1 - target)
    left = 1 - not_good / budget_ms if budget_ms else None
    says = spent.total >= EARLIEST_WARNING_DAYS * DAY_MS * max(1, machines)
    return Pace(month_name, target, spent.lower, budget_ms, not_good, left, burn_rate, burn_rate > 1 if says else None)
