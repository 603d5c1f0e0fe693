"""Availability (E1): the share of machine time in good order, with honest bounds where nobody knows.

A period is half-open, `[from, to)` in epoch milliseconds; `to` is None while it runs. Everything is clipped to the
window, unioned, and weighed by machine time, so an outage that began before the window or still runs counts for the
part inside it, and two faults at once count once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

TARGET = 0.90
WINDOW_DAYS = 30
DAY_MS = 86_400_000

Period = tuple[int, int | None]


@dataclass(frozen=True)
class History:
    """One machine's course as far as it counts."""

    counted: Sequence[Period]
    """When the machine belonged to the group: since it was added, or while it was on hire."""
    bad: Sequence[Period]
    """Open faults of severity urgent or emergency."""
    unknown: Sequence[Period]
    """Silence, and the time before the machine was first heard."""


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
    machines: Iterable[History], now: int, window_days: int = WINDOW_DAYS, target: float = TARGET
) -> Availability:
    """The group's availability at this moment and over the window that ends now."""
    machines = list(machines)
    lower, upper = bounds(machines, now - window_days * DAY_MS, now)
    met = None if lower is None else lower >= target
    return Availability(_share_now(machines, now), window_days, lower, upper, target, met)


def bounds(machines: Iterable[History], start_at: int, end_at: int) -> tuple[float | None, float | None]:
    """The lowest and the highest share of machine time that may have been good in [start_at, end_at)."""
    total = bad = unclear = 0
    for machine in machines:
        counted = merged(machine.counted, start_at, end_at)
        bad_periods = overlap(counted, merged(machine.bad, start_at, end_at))
        not_good = overlap(counted, merged([*machine.bad, *machine.unknown], start_at, end_at))
        total += _length(counted)
        bad += _length(bad_periods)
        unclear += _length(not_good)
    if total == 0:
        return None, None
    return (total - unclear) / total, (total - bad) / total


def by_day(machines: Iterable[History], now: int, days: int = WINDOW_DAYS) -> list[tuple[float | None, float | None]]:
    """The bounds of each of the last so many times 24 hours, oldest first."""
    machines = list(machines)
    return [bounds(machines, now - ago * DAY_MS, now - (ago - 1) * DAY_MS) for ago in range(days, 0, -1)]


def covers(periods: Iterable[Period], moment: int) -> bool:
    return any(start <= moment and (end is None or moment < end) for start, end in periods)


def merged(periods: Iterable[Period], start_at: int, end_at: int) -> list[tuple[int, int]]:
    """The union of the periods within [start_at, end_at), as disjoint pieces in order."""
    clipped = sorted(
        (max(start, start_at), end_at if end is None else min(end, end_at)) for start, end in periods
    )  # fmt: skip
    union: list[tuple[int, int]] = []
    for start, end in clipped:
        if start >= end:
            continue
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return union


def overlap(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where both hold; each side disjoint and in order."""
    both: list[tuple[int, int]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if start < end:
            both.append((start, end))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return both


def _share_now(machines: Iterable[History], now: int) -> float | None:
    here = [machine for machine in machines if covers(machine.counted, now)]
    if not here:
        return None
    good = sum(not covers(machine.bad, now) and not covers(machine.unknown, now) for machine in here)
    return good / len(here)


def _length(pieces: list[tuple[int, int]]) -> int:
    return sum(end - start for start, end in pieces)
