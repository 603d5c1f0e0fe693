"""Who works when: working times, absences, and the on-call rotation with its overrides. Pure.

Hours are wall-clock times of a named zone: 08:00 stays 08:00 when the clocks change. A time that a change leaves out is
the moment of the change; of a time that comes twice, a spell begins at the first and ends at the last. Spans are
half-open, in epoch ms UTC.

Nothing here raises for facts that the tables can hold, however far off their moments lie: before FIRST_AT and from
LAST_AT on nobody is on duty.
"""

import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAY_MIN = 1440
EVERY_DAY = frozenset(range(7))
MAX_WINDOW_MS = 400 * 86_400_000
"""The longest window that duty is worked out for at once: its cost grows with the days in it."""
MAX_SHIFT_H = 24 * 366

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
FIRST_AT = (datetime(1900, 1, 1, tzinfo=UTC) - _EPOCH) // _MS
LAST_AT = (datetime(9000, 1, 1, tzinfo=UTC) - _EPOCH) // _MS
"""Clocks on walls show the moments between these two: far enough from the ends of the calendar for any turn."""


class Span(NamedTuple):
    """A stretch of time, half-open."""

    start_at: int
    end_at: int


class Duty(StrEnum):
    """What somebody is there for."""

    WORKING = "working"
    ON_CALL = "on_call"


class DutySpan(NamedTuple):
    """A stretch of time on duty, half-open."""

    start_at: int
    end_at: int
    duty: Duty


# --- the facts, as the tables hold them ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkingHours:
    """One spell of work a week: minutes of the wall clock after midnight of that weekday (0 is Monday).

    An end that is not after the start lies on the next day: 1320 to 360 is a night shift, 0 to 1440 a whole day.
    """

    weekday: int
    start_min: int
    end_min: int

    def __post_init__(self) -> None:
        if self.weekday not in EVERY_DAY:
            raise ValueError(f"weekday {self.weekday} must be 0 (Monday) to 6 (Sunday)")
        _check_hours(self.start_min, self.end_min)


@dataclass(frozen=True, slots=True)
class Absence:
    """Somebody is away: on leave, ill, at a training."""

    from_at: int
    until_at: int

    def __post_init__(self) -> None:
        _check_order(self.from_at, self.until_at)

    def covers(self, at: int) -> bool:
        return self.from_at <= at < self.until_at


@dataclass(frozen=True, slots=True)
class Worker:
    """One person's working times. `keeps_holidays`: whether the rota's special days apply to them."""

    person_id: int
    timezone: str
    hours: tuple[WorkingHours, ...] = ()
    absences: tuple[Absence, ...] = ()
    keeps_holidays: bool = True

    def __post_init__(self) -> None:
        zone_named(self.timezone)

    def is_absent(self, at: int) -> bool:
        return any(absence.covers(at) for absence in self.absences)


@dataclass(frozen=True, slots=True)
class Override:
    """This person is on call from..until instead of whoever's turn it is. Of several, the last in the list counts."""

    person_id: int
    from_at: int
    until_at: int

    def __post_init__(self) -> None:
        _check_order(self.from_at, self.until_at)

    def covers(self, at: int) -> bool:
        return self.from_at <= at < self.until_at


@dataclass(frozen=True, slots=True)
class Rotation:
    """People who take turns at being on call, `shift_h` hours of the wall clock each.

    Turns are handed over at `handover_min` after midnight, counted from the last `handover_weekday` at or before the
    start: the first person's first turn is shorter by what of it had passed by then. With a shift of 12 h there are two
    handovers a day. Another order of people is another rotation, which starts when this one ends.
    """

    rotation_id: int
    timezone: str
    people: tuple[int, ...]
    shift_h: int
    handover_weekday: int
    handover_min: int
    start_at: int
    ends_at: int | None = None
    overrides: tuple[Override, ...] = ()

    def __post_init__(self) -> None:
        zone_named(self.timezone)
        if not self.people:
            raise ValueError(f"rotation {self.rotation_id} has nobody who could take a turn")
        if not 1 <= self.shift_h <= MAX_SHIFT_H:
            raise ValueError(f"rotation {self.rotation_id}: shift_h {self.shift_h} must be 1 to {MAX_SHIFT_H}")
        if self.handover_weekday not in EVERY_DAY or not 0 <= self.handover_min < DAY_MIN:
            raise ValueError(
                f"rotation {self.rotation_id}: the handover must be a weekday 0 to 6 and a minute 0 to 1439"
            )
        if self.ends_at is not None:
            _check_order(self.start_at, self.ends_at)


def _check_hours(start_min: int, end_min: int) -> None:
    if not (0 <= start_min < DAY_MIN and 0 <= end_min <= DAY_MIN) or start_min == end_min:
        raise ValueError(
            f"hours {start_min} to {end_min} must be two minutes of a day, 0 to 1440 (a whole day is 0 to 1440)"
        )


def _check_order(from_at: int, until_at: int) -> None:
    if from_at >= until_at:
        raise ValueError(f"from_at {from_at} must lie before its end, {until_at}")


# --- the wall clock ------------------------------------------------------------------------------------------------


@cache
def zone_named(name: str) -> ZoneInfo:
    """The zone of this IANA name. Raises ValueError where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not a time zone (expected a name such as Asia/Shanghai)") from error


def wall_clock(at: int, zone: ZoneInfo) -> datetime:
    """What a clock on the wall shows then, as a naive datetime; before FIRST_AT and after LAST_AT it stands still."""
    return _local(at, zone).replace(tzinfo=None, fold=0)


def _local(at: int, zone: ZoneInfo) -> datetime:
    return (_EPOCH + timedelta(milliseconds=min(max(at, FIRST_AT), LAST_AT))).astimezone(zone)


def _within(from_at: int, until_at: int) -> tuple[int, int]:
    """What of a window clocks can show; nothing where it ends before it begins."""
    if until_at - from_at > MAX_WINDOW_MS:
        raise ValueError(f"a window of {(until_at - from_at) // 86_400_000} days is too long; at most 400")
    return max(from_at, FIRST_AT), min(until_at, LAST_AT)


def moment_of(wall: datetime, zone: ZoneInfo, *, last: bool = False) -> int:
    """When a clock on the wall shows this: the first time, or the last, if it does so twice. Epoch ms."""
    first_at = (wall.replace(tzinfo=zone, fold=0) - _EPOCH) // _MS
    last_at = (wall.replace(tzinfo=zone, fold=1) - _EPOCH) // _MS
    if first_at > last_at:
        # Left out: the two readings, with the offset before and the one after, enclose the change.
        return _change_between(last_at, first_at, zone)
    return last_at if last else first_at


def _change_between(early_at: int, late_at: int, zone: ZoneInfo) -> int:
    """The moment in (early, late] at which the zone's clocks are changed. It is a whole second."""

    def changed(second: int) -> bool:
        return _offset(second * 1000, zone) != before

    before = _offset(early_at, zone)
    seconds = range(early_at // 1000, late_at // 1000 + 1)
    return seconds[bisect.bisect_left(seconds, True, key=changed)] * 1000


def _offset(at: int, zone: ZoneInfo) -> timedelta | None:
    return _local(at, zone).utcoffset()


Plan = Callable[[date], Iterable[tuple[int, int]]]
"""The hours (start_min, end_min) that begin on a day."""


def _planned(plan: Plan, zone: ZoneInfo, from_at: int, until_at: int) -> list[Span]:
    """The spells of a plan within a window, in order, those that touch made one."""
    from_at, until_at = _within(from_at, until_at)
    if from_at >= until_at:
        return []
    # What began the evening before may reach into the window.
    day = wall_clock(from_at, zone).date() - timedelta(days=1)
    last_day = wall_clock(until_at, zone).date()
    spans = []
    while day <= last_day:
        spans += [_spell(day, start_min, end_min, zone) for start_min, end_min in plan(day)]
        day += timedelta(days=1)
    return _merged(_clipped(spans, from_at, until_at))


def _spell(day: date, start_min: int, end_min: int, zone: ZoneInfo) -> Span:
    midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - a reading of the wall clock has no zone
    length = timedelta(minutes=end_min if end_min > start_min else end_min + DAY_MIN)
    return Span(
        moment_of(midnight + timedelta(minutes=start_min), zone),
        moment_of(midnight + length, zone, last=True),
    )


def _clipped(spans: Iterable[Span], from_at: int, until_at: int) -> Iterator[Span]:
    for start_at, end_at in spans:
        clipped = Span(max(start_at, from_at), min(end_at, until_at))
        if clipped.start_at < clipped.end_at:
            yield clipped


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.start_at <= merged[-1].end_at:
            merged[-1] = Span(merged[-1].start_at, max(merged[-1].end_at, span.end_at))
        else:
            merged.append(span)
    return merged


def _without(spans: Iterable[Span], holes: Iterable[Span]) -> list[Span]:
    """What is left of these spans outside the holes."""
    left = list(spans)
    for hole in holes:
        left = [
            part
            for span in left
            for part in (Span(span.start_at, min(span.end_at, hole.start_at)),
                         Span(max(span.start_at, hole.end_at), span.end_at))
            if part.start_at < part.end_at
        ]  # fmt: skip
    return left


# --- on call -------------------------------------------------------------------------------------------------------


class Because(StrEnum):
    """Why it is this person who is on call."""

    TURN = "turn"
    OVERRIDE = "override"
    STAND_IN = "stand_in"
    """Whose turn it is is away, and this is the next in the order who is not."""


class OnCall(NamedTuple):
    """Who is on call from..until, and why."""

    start_at: int
    end_at: int
    rotation_id: int
    person_id: int
    because: Because


def _turn(rotation: Rotation, at: int) -> int:
    """The number of the turn that this moment lies in, from 0."""
    zone = zone_named(rotation.timezone)
    number = (wall_clock(at, zone) - _anchor(rotation)) // timedelta(hours=rotation.shift_h)
    # Between the first and the last time that the wall shows a handover's hour, it reads as if that were to come.
    while _handover_at(rotation, number + 1) <= at:
        number += 1
    return number


def _anchor(rotation: Rotation) -> datetime:
    """The wall clock at the beginning of turn 0: the last handover weekday and time at or before the start."""
    start = wall_clock(rotation.start_at, zone_named(rotation.timezone))
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    anchor = midnight + timedelta(days=rotation.handover_weekday - start.weekday(), minutes=rotation.handover_min)
    return anchor if anchor <= start else anchor - timedelta(days=7)


def _handover_at(rotation: Rotation, number: int) -> int:
    wall = _anchor(rotation) + number * timedelta(hours=rotation.shift_h)
    return moment_of(wall, zone_named(rotation.timezone))


def _on_call(rotation: Rotation, away: Callable[[int, int], bool], at: int) -> tuple[int, Because] | None:
    """Who it is at this moment: the last override, else whose turn it is, else the next in the order; and not away."""
    ends_at = LAST_AT if rotation.ends_at is None else min(rotation.ends_at, LAST_AT)
    if not max(rotation.start_at, FIRST_AT) <= at < ends_at:
        return None
    for override in reversed(rotation.overrides):
        if override.covers(at) and not away(override.person_id, at):
            return override.person_id, Because.OVERRIDE
    number = _turn(rotation, at)
    for later in range(len(rotation.people)):
        person_id = rotation.people[(number + later) % len(rotation.people)]
        if not away(person_id, at):
            return person_id, Because.STAND_IN if later else Because.TURN
    return None


# --- the rota ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rota:
    """Everybody's times. `special_days` are the company's: a day that is worked like this weekday, or not at all."""

    workers: tuple[Worker, ...]
    rotations: tuple[Rotation, ...] = ()
    special_days: Mapping[date, int | None] = field(default_factory=dict)

    def on_call_at(self, at: int) -> list[int]:
        """Who is on call at this moment: one person a rotation, in the rotations' order, nobody twice."""
        away = self._away()
        found = (_on_call(rotation, away, at) for rotation in self.rotations)
        return list(dict.fromkeys(person_id for person_id, _ in filter(None, found)))

    def on_call(self, from_at: int, until_at: int) -> list[OnCall]:
        """Who is on call in this window, rotation by rotation. Where a stretch is missing, nobody is."""
        return [spell for rotation in self.rotations for spell in self._spells(rotation, from_at, until_at)]

    def working(self, worker: Worker, from_at: int, until_at: int) -> list[Span]:
        """When somebody works in this window, absences taken out."""
        special = self.special_days if worker.keeps_holidays else {}

        def plan(day: date) -> Iterator[tuple[int, int]]:
            like = special.get(day, day.weekday())
            return ((one.start_min, one.end_min) for one in worker.hours if one.weekday == like)

        planned = _planned(plan, zone_named(worker.timezone), from_at, until_at)
        return _without(planned, [Span(absence.from_at, absence.until_at) for absence in worker.absences])

    def duties(self, from_at: int, until_at: int) -> dict[int, tuple[DutySpan, ...]]:
        """Everybody's duty in this window, by person: in order, without overlap. Who works then is not on call."""
        calls: dict[int, list[Span]] = defaultdict(list)
        for spell in self.on_call(from_at, until_at):
            calls[spell.person_id].append(Span(spell.start_at, spell.end_at))
        works = {worker.person_id: self.working(worker, from_at, until_at) for worker in self.workers}
        return {
            person_id: tuple(_duty(works.get(person_id, []), _merged(calls.get(person_id, []))))
            for person_id in sorted({*works, *calls})
        }

    def duty_at(self, person_id: int, at: int) -> Duty | None:
        """What this person is on duty for at this moment, if they are."""
        worker = next((one for one in self.workers if one.person_id == person_id), None)
        if worker is not None and self.working(worker, at, at + 1):
            return Duty.WORKING
        return Duty.ON_CALL if person_id in self.on_call_at(at) else None

    def next_duty(self, person_id: int, from_at: int, until_at: int) -> DutySpan | None:
        """What of this person's duty comes first in the window; it begins at `from_at` where they are on duty."""
        return next(iter(self.duties(from_at, until_at).get(person_id, ())), None)

    def _away(self) -> Callable[[int, int], bool]:
        workers = {worker.person_id: worker for worker in self.workers}
        return lambda person_id, at: person_id in workers and workers[person_id].is_absent(at)

    def _spells(self, rotation: Rotation, from_at: int, until_at: int) -> list[OnCall]:
        away = self._away()
        spells: list[OnCall] = []
        for start_at, end_at in pairwise(self._changes(rotation, from_at, until_at)):
            found = _on_call(rotation, away, start_at)
            if found is None:
                continue
            if spells and spells[-1].end_at == start_at and spells[-1][3:] == found:
                spells[-1] = spells[-1]._replace(end_at=end_at)
            else:
                spells.append(OnCall(start_at, end_at, rotation.rotation_id, *found))
        return spells

    def _changes(self, rotation: Rotation, from_at: int, until_at: int) -> list[int]:
        """The moments in a window at which somebody else may be on call, its own ends included."""
        from_at, until_at = _within(from_at, until_at)
        if from_at >= until_at or rotation.start_at >= until_at:
            return []
        changes = {from_at, until_at, rotation.start_at, until_at if rotation.ends_at is None else rotation.ends_at}
        number = _turn(rotation, max(from_at, rotation.start_at))
        while (handover_at := _handover_at(rotation, number)) < until_at:
            changes.add(handover_at)
            number += 1
        for override in rotation.overrides:
            changes |= {override.from_at, override.until_at}
        for worker in self.workers:
            changes |= {at for absence in worker.absences for at in (absence.from_at, absence.until_at)}
        return sorted(at for at in changes if from_at <= at <= until_at)


def _duty(works: Sequence[Span], calls: Sequence[Span]) -> list[DutySpan]:
    spans = [DutySpan(*span, Duty.WORKING) for span in works]
    spans += [DutySpan(*span, Duty.ON_CALL) for span in _without(calls, works)]
    return sorted(spans)
