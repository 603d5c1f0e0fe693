"""Which readings a ticket keeps for itself, so that retention does not take the evidence away. Pure.

Of each fault of a ticket: what led there and the first minutes after, at full rate; week by week the course while it
lasts, reduced; and the end of it, at full rate again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from monitor.devices import FaultKind

BEFORE_MS = 15 * 60_000
"""What led there: so long before the fault occurred."""
AFTER_MS = 5 * 60_000
"""So long after the opening, and on both sides of the clearing, the readings are kept at full rate."""
FULL_BEFORE_MS = 2 * 60 * 60_000
"""What a slow fault looks back on is kept at full rate for its last two hours only."""
LONGEST_LEAD_MS = 14 * 86_400_000
WEEK_MS = 7 * 86_400_000
WEEKS = 52
SETTLE_MS = 30_000
"""A copy waits so long after the end of its window: a message may be parked, or under way."""
OPENING_TO_AFTER_MS = AFTER_MS + SETTLE_MS
"""So long after the opening its `after` copy is due."""
OVERLAP_MS = 60_000


class Phase(StrEnum):
    """Which part of a fault a copy holds."""

    OPENING = "opening"
    """What led there, until the ticket knew."""
    AFTER = "after"
    """The first minutes after."""
    COURSE = "course"
    """A week of a long fault, reduced."""
    CLEARING = "clearing"
    """The rest of its course, reduced, and the minutes around its end."""


@dataclass(frozen=True, slots=True)
class Window:
    """What is to be copied: [start_at, end_at), at full rate from `full_from` on; not before `due_at` (our clock)."""

    phase: Phase
    number: int
    start_at: int
    full_from: int
    end_at: int
    due_at: int


@dataclass(frozen=True, slots=True)
class Course:
    """When a fault began and ended, as far as copies depend on it. `opened_at` is when its ticket knew of it."""

    kind: str
    opened_at: int
    occurred_at: int
    cleared_at: int | None
    evidence: Mapping[str, object]


def at_opening(fault: Course, covered: Iterable[tuple[int, int]] = ()) -> list[Window]:
    """The copies that a fault is due when it opens. `covered`: what its ticket keeps of this machine at full rate."""
    shift_ms = _clock_shift_ms(fault)
    opened_at = fault.opened_at - shift_ms
    began_at = min(_since(fault), fault.occurred_at - shift_ms, opened_at)
    start_at = max(began_at, opened_at - LONGEST_LEAD_MS) - BEFORE_MS
    for low, high in sorted(covered):
        # A fault that comes and goes looks back on what is kept already.
        if low <= start_at < high:
            start_at = min(high - OVERLAP_MS, opened_at)
    end_at = opened_at + 1
    after_at = opened_at + AFTER_MS
    return [
        Window(Phase.OPENING, 0, start_at, max(start_at, end_at - FULL_BEFORE_MS), end_at, fault.opened_at),
        # It begins a little earlier: what was parked or under way at the opening is there by now.
        Window(Phase.AFTER, 0, opened_at - OVERLAP_MS, opened_at - OVERLAP_MS, after_at,
               fault.opened_at + OPENING_TO_AFTER_MS),
    ]  # fmt: skip


def in_its_course(fault: Course, kept: int, now: int) -> list[Window]:
    """The weeks of a long fault that have passed, after the `kept` that are copied or planned already."""
    shift_ms = _clock_shift_ms(fault)
    found = []
    for number in range(kept, WEEKS):
        start_at, end_at = _week(fault, number)
        if end_at + SETTLE_MS > now:
            break
        window = Window(Phase.COURSE, number, start_at - shift_ms, end_at - shift_ms, end_at - shift_ms, end_at)
        found.append(window)
    return found


def at_clearing(fault: Course, weeks: int) -> Window:
    """The copy that a fault is due when it has cleared, after so many `weeks` of its course were kept."""
    if fault.cleared_at is None:
        raise ValueError("a fault that has not cleared has no clearing")
    shift_ms = _clock_shift_ms(fault)
    start_at = _week(fault, weeks)[0]
    end_at = max(fault.cleared_at, fault.opened_at) + AFTER_MS
    full_from = max(start_at, fault.cleared_at - AFTER_MS)
    return Window(
        Phase.CLEARING, 0, start_at - shift_ms, full_from - shift_ms, end_at + 1 - shift_ms, end_at + SETTLE_MS
    )  # fmt: skip


def _week(fault: Course, number: int) -> tuple[int, int]:
    start_at = fault.opened_at + AFTER_MS + number * WEEK_MS
    return start_at, start_at + WEEK_MS


def _since(fault: Course) -> int:
    """Since when the rule itself looks at it; a slow trend began long before it was found."""
    since = fault.evidence.get("since_at")
    if fault.kind in (FaultKind.SILENT, FaultKind.WRONG_CLOCK) or not isinstance(since, int):
        return fault.occurred_at
    return since


def _clock_shift_ms(fault: Course) -> int:
    """By how much the machine's clock is behind ours, where that is the fault: its readings lie so much earlier."""
    lag_s = fault.evidence.get("lag_s")
    if fault.kind != FaultKind.WRONG_CLOCK or not isinstance(lag_s, int | float):
        return 0
    return round(max(float(lag_s), 0.0) * 1000)
