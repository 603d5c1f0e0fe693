"""The fleet's ledger (E1): every machine's time as a gapless sequence of intervals, each of one condition at one place.

`course` derives it from the record, whole and pure; `amend` says what that changes of what was said before. Times are
epoch milliseconds UTC; an interval is half-open, `[from_at, to_at)`, and the last one runs on (`to_at` None).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Condition(StrEnum):
    """Good: nothing urgent is known of it. Bad: an open fault of severity urgent or higher. Unknown: it is silent, or
    was never heard; that counts neither as good nor as bad."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


class Place(StrEnum):
    """Where a machine is in its life. What is declared goes before the rental, for it says more."""

    ON_HIRE = "on_hire"
    YARD = "yard"
    TRANSPORT = "transport"
    MAINTENANCE = "maintenance"
    RETIRED = "retired"


class Wrong(NamedTuple):
    """A fault that makes a machine bad. `gravity`: 0 is the gravest."""

    from_at: int
    to_at: int | None
    fault_id: int
    gravity: int


class Span(NamedTuple):
    """From when to when; None: it still lasts."""

    from_at: int
    to_at: int | None


class Hire(NamedTuple):
    from_at: int
    to_at: int | None
    rental_id: int
    customer_id: int


class Declared(NamedTuple):
    """A maintenance window; `what`: maintenance or transport. One of a site holds for the machines that stand there."""

    from_at: int
    to_at: int | None
    what: str
    site_id: int | None = None


class Stay(NamedTuple):
    """Since when a machine stands at a site (None: at none), until its next stay begins."""

    from_at: int
    site_id: int | None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a machine's course depends on."""

    profile: str
    added_at: int
    retired_at: int | None = None
    first_heard_at: int | None = None
    wrong: Sequence[Wrong] = ()
    silent: Sequence[Span] = ()
    heard_late: Sequence[Span] = ()
    """What was silence, until its readings came after all."""
    hires: Sequence[Hire] = ()
    declared: Sequence[Declared] = ()
    stays: Sequence[Stay] = ()


class Interval(NamedTuple):
    """One machine, one condition, one place."""

    from_at: int
    to_at: int | None
    condition: Condition
    place: Place
    profile: str
    fault_id: int | None = None
    """What makes it bad: the gravest, the oldest of those."""
    site_id: int | None = None
    rental_id: int | None = None
    customer_id: int | None = None

    @property
    def hired(self) -> bool:
        """Counted among the machines on hire: what is declared in the middle of a rental hides nothing of it."""
        return self.rental_id is not None and self.place is not Place.RETIRED


def course(facts: Facts, now: int) -> list[Interval]:
    """A machine's whole course until now, from the day it was added."""
    active = _Active(facts)
    found: list[Interval] = []
    for at, changes in _turns(facts, now):
        for change in changes:
            active.apply(change)
        here = active.interval(at)
        if found and found[-1][2:] == here[2:]:
            continue
        if found:
            found[-1] = found[-1]._replace(to_at=at)
        found.append(here)
    return found


def next_turn(facts: Facts, now: int) -> int | None:
    """When something that stands in the record already changes a machine's course next: a rental that is planned, a
    declared window that ends, and whatever was noted before our own clock was set back. None where nothing does."""
    periods: tuple[Sequence[Wrong | Span | Hire | Declared], ...] = (
        facts.hires, facts.declared, facts.wrong, facts.silent, facts.heard_late
    )  # fmt: skip
    moments = [at for some in periods for one in some for at in (one.from_at, one.to_at)]
    moments += [one.from_at for one in facts.stays] + [facts.retired_at, facts.first_heard_at]
    return min((at for at in moments if at is not None and at > now), default=None)


# --- how a course comes about ---

_Item = Wrong | Span | Hire | Declared | Stay | str
_Change = tuple[str, bool, _Item]


def _turns(facts: Facts, now: int) -> Iterator[tuple[int, list[_Change]]]:
    """Each moment at which something begins or ends, in order, what was before the machine was added at that moment."""
    changes: list[tuple[int, _Change]] = [(facts.added_at, ("", True, "added"))]
    periods: list[tuple[str, Iterable[Wrong | Span | Hire | Declared]]] = [
        ("wrong", facts.wrong), ("silent", facts.silent), ("late", facts.heard_late), ("hire", facts.hires),
        ("declared", facts.declared),
    ]  # fmt: skip
    if facts.first_heard_at is None or facts.first_heard_at > facts.added_at:
        periods.append(("silent", [Span(facts.added_at, facts.first_heard_at)]))
    for what, some in periods:
        for one in some:
            if one.to_at is not None and one.to_at <= max(one.from_at, facts.added_at):
                continue
            changes.append((one.from_at, (what, True, one)))
            if one.to_at is not None:
                changes.append((one.to_at, (what, False, one)))
    changes += [(one.from_at, ("stay", True, one)) for one in facts.stays]
    if facts.retired_at is not None:
        changes.append((facts.retired_at, ("retired", True, "retired")))
    by_moment: dict[int, list[_Change]] = {}
    for at, change in changes:
        if at <= now or change[0] == "":
            by_moment.setdefault(max(at, facts.added_at), []).append(change)
    for at in sorted(by_moment):
        yield at, by_moment[at]


class _Active:
    """What holds at one moment, as the sweep goes on."""

    def __init__(self, facts: Facts) -> None:
        self.profile = facts.profile
        self.wrong: list[Wrong] = []
        self.silent: list[Span] = []
        self.late: list[Span] = []
        self.hire: list[Hire] = []
        self.declared: list[Declared] = []
        self.stay: list[Stay] = []
        self.retired: list[str] = []

    def apply(self, change: _Change) -> None:
        what, begins, item = change
        if not what:
            return
        held: list[_Item] = getattr(self, what)
        if begins:
            held.append(item)
        else:
            held.remove(item)

    def interval(self, at: int) -> Interval:
        stay = max(self.stay, key=lambda one: one.from_at, default=None)
        place = self._place(stay.site_id if stay else None)
        condition, fault_id = self._condition()
        if place is Place.RETIRED:
            condition, fault_id = Condition.UNKNOWN, None
        hire = max(self.hire, key=lambda one: (one.from_at, one.rental_id), default=None)
        return Interval(
            at, None, condition, place, self.profile, fault_id, stay.site_id if stay else None,
            hire.rental_id if hire else None, hire.customer_id if hire else None,
        )  # fmt: skip

    def _condition(self) -> tuple[Condition, int | None]:
        if self.wrong:
            gravest = min(self.wrong, key=lambda one: (one.gravity, one.from_at, one.fault_id))
            return Condition.BAD, gravest.fault_id
        return (Condition.UNKNOWN if self.silent and not self.late else Condition.GOOD), None

    def _place(self, site_id: int | None) -> Place:
        if self.retired:
            return Place.RETIRED
        said = {one.what for one in self.declared if one.site_id in (None, site_id)}
        for place in (Place.TRANSPORT, Place.MAINTENANCE):
            if place in said:
                return place
        return Place.ON_HIRE if self.hire else Place.YARD


# --- what was said before ---


class Kept(NamedTuple):
    """An interval as it stands in the record."""

    id: int
    interval: Interval


class Amendment(NamedTuple):
    """What makes the record say the new course: intervals that ended meanwhile, those that were not true, new ones."""

    ended: list[tuple[Kept, int]]
    superseded: list[Kept]
    added: list[Interval]


def amend(kept: Sequence[Kept], found: Sequence[Interval]) -> Amendment:
    """Compare what stands (in order) with what is true. What agrees is left alone; an interval that ran and has ended
    is ended; everything else that differs is superseded, and the true one recorded beside it."""
    true = set(found)
    begun = {one._replace(to_at=None): one for one in found}
    ended: list[tuple[Kept, int]] = []
    superseded: list[Kept] = []
    said: set[Interval] = set()
    for one in kept:
        meant = begun.get(one.interval) if one.interval.to_at is None else None
        if one.interval in true:
            said.add(one.interval)
        elif meant is not None and meant.to_at is not None:
            ended.append((one, meant.to_at))
            said.add(meant)
        else:
            superseded.append(one)
    return Amendment(ended, superseded, [one for one in found if one not in said])
