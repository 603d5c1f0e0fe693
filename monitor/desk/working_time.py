"""Working time: when a length of time has passed, if it passes only while the company works. Pure.

A calendar is `always` (24 by 7) or `working`: opening hours by weekday as the clock on the wall shows them in an IANA
time zone, public holidays and moved working days of a country, and days that the company declares
(`working_time.toml`).
Instants are int epoch ms UTC, lengths int ms; both are exact.

Three readings. An opening hour begins at the first instant at which the wall shows it or, where a change of the clocks
skips it, something later; so what is open while the clocks change lasts as long as it really does. A length ends with
the last millisecond of it: nine hours from 09:00 end at 18:00, not at 09:00 of the next day. The day on which
something starts does not count among its working days, and the last one ends with the close of business (as in the
Civil Code of China, articles 201 and 203).
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache, lru_cache
from importlib.resources import files
from itertools import accumulate, pairwise
from typing import Annotated, Literal, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from holidays import country_holidays

FIRST_YEAR, LAST_YEAR = 2000, 2099
"""The years that a working calendar covers: those for which the holiday library knows the lunar dates."""
DAY_MS = 86_400_000
LONGEST_DECLARED_DAYS = 366
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOURS = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")

Hours = tuple[tuple[int, int], ...]
"""Opening hours of one day, in minutes since the wall showed 00:00: (from, until), in order, apart from each other."""


class BeyondCalendar(ValueError):
    """A moment that a working calendar does not reach."""

    def __init__(self, year: int) -> None:
        super().__init__(f"{year} lies outside the working calendar, which covers {FIRST_YEAR} to {LAST_YEAR}")


# --- the policy ----------------------------------------------------------------------------------------------------


class Week(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Opening hours by weekday, each a list of "HH:MM-HH:MM"; `made_up`: on working days that the state has moved."""

    monday: tuple[str, ...] = ()
    tuesday: tuple[str, ...] = ()
    wednesday: tuple[str, ...] = ()
    thursday: tuple[str, ...] = ()
    friday: tuple[str, ...] = ()
    saturday: tuple[str, ...] = ()
    sunday: tuple[str, ...] = ()
    made_up: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not any(self.weekdays):
            raise ValueError("the hours open on no weekday")
        hours_of(self.made_up)

    @property
    def weekdays(self) -> tuple[Hours, ...]:
        """Monday first."""
        texts = (self.monday, self.tuesday, self.wednesday, self.thursday, self.friday, self.saturday, self.sunday)
        return tuple(hours_of(one) for one in texts)


class Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Days that the company itself declares, `first` to `last` (absent: one day). No hours: closed."""

    first: date
    last: date | None = None
    hours: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        hours_of(self.hours)
        if not 0 <= self._length <= LONGEST_DECLARED_DAYS - 1:
            raise ValueError(f"a declared day's last must lie 0 to {LONGEST_DECLARED_DAYS - 1} days after {self.first}")

    @property
    def _length(self) -> int:
        return ((self.last or self.first) - self.first).days

    @property
    def days(self) -> Iterator[date]:
        return (self.first + timedelta(days=n) for n in range(self._length + 1))


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"declared": "day"}):
    """The company's working time, in one version (working_time.toml)."""

    version: str
    hours: Week
    public_holidays: str = ""
    announced_until: int | None = None
    declared: Annotated[tuple[Declared, ...], msgspec.Meta(max_length=1000)] = ()

    def __post_init__(self) -> None:
        named = sorted(day for one in self.declared for day in one.days)
        twice = next((day for day, following in pairwise(named) if day == following), None)
        if twice is not None:
            raise ValueError(f"{twice} is declared twice")


@cache
def shipped_policy() -> Policy:
    """The working time that ships with the program."""
    return policy_from(files("monitor.desk").joinpath("working_time.toml").read_bytes())


def policy_from(text: bytes) -> Policy:
    """The working time as a file like working_time.toml puts it; ValueError says what is wrong with it."""
    return msgspec.toml.decode(text, type=Policy)


@lru_cache(maxsize=256)
def hours_of(texts: tuple[str, ...]) -> Hours:
    """Opening hours from texts such as "09:00-12:00"; "24:00" is the end of the day."""
    hours = tuple(_minutes(one) for one in texts)
    if any(until >= following for (_, until), (following, _) in pairwise(hours)):
        raise ValueError(f"hours {', '.join(texts)}: each must begin after the one before has ended")
    return hours


def _minutes(text: str) -> tuple[int, int]:
    found = _HOURS.fullmatch(text)
    if found is None:
        raise ValueError(f'hours "{text}": must be as "09:00-18:00"')
    hour, minute, until_hour, until_minute = (int(part) for part in found.groups())
    begin, end = hour * 60 + minute, until_hour * 60 + until_minute
    if not begin < end <= 24 * 60:
        raise ValueError(f'hours "{text}": must begin before they end, on one day (24:00 at the latest)')
    return begin, end


# --- public holidays -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PublicDays:
    """A country's public holidays and the rest days that are worked instead, FIRST_YEAR to LAST_YEAR.

    `announced_until`: the last year for which the library knows moved days; None: this country moves none. Later years
    have the holidays of the law alone, which is an estimate.
    """

    off: frozenset[date] = frozenset()
    worked: frozenset[date] = frozenset()
    announced_until: int | None = None


@cache
def public_days(region: str) -> PublicDays:
    """Those of a country, or of a part of one ("DE-BY"). About 0.1 s, once a process.

    All years are taken at once: a year's notice may move a day of the year before, so what the library answers for a
    date would otherwise depend on which years it had been asked for.
    """
    if not region:
        return PublicDays()
    country, _, part = region.partition("-")
    try:
        known = country_holidays(country, subdiv=part or None, years=range(FIRST_YEAR, LAST_YEAR + 1), expand=False)
    except NotImplementedError as unknown:
        raise ValueError(f'public_holidays "{region}": {unknown}') from unknown
    worked = frozenset(day for day in known.weekend_workdays if known.is_working_day(day))
    last = max((day.year for day in known.weekend_workdays), default=None)
    return PublicDays(frozenset(known) - worked, worked, last)


# --- calendars -----------------------------------------------------------------------------------------------------


class DayKind(StrEnum):
    """Why a day is worked or not."""

    WORKDAY = "workday"
    REST = "rest"
    HOLIDAY = "holiday"
    MADE_UP = "made_up"
    """A rest day that the state has made a working day."""
    DECLARED_WORKED = "declared_worked"
    DECLARED_OFF = "declared_off"


@dataclass(frozen=True, slots=True)
class Spell:
    """A stretch of open time, half-open."""

    opens_at: int
    closes_at: int


@dataclass(frozen=True, slots=True)
class Day:
    """One day of a working calendar: what it is, and when it is open."""

    on: date
    kind: DayKind
    spells: tuple[Spell, ...]


class Calendar(Protocol):
    """How time passes for a clock. `…_at` epoch ms UTC, lengths ms, none negative.

    A working calendar raises BeyondCalendar where a moment, or the answer, lies outside FIRST_YEAR to LAST_YEAR.
    """

    @property
    def announced_until(self) -> int | None:
        """The last year whose holidays are final; None: all are."""
        ...

    def estimated(self, at: int) -> bool:
        """Whether a due time at that moment leans on holidays that the state has not announced yet."""
        ...

    def after(self, from_at: int, length_ms: int) -> int:
        """The first moment at which so much of this calendar's time has passed."""
        ...

    def before(self, to_at: int, length_ms: int) -> int:
        """The last moment from which so much of this calendar's time still passes until `to_at`: when to warn."""
        ...

    def between(self, from_at: int, to_at: int) -> int:
        """How much of this calendar's time passes, in ms; negative where `to_at` comes first."""
        ...

    def days_after(self, from_at: int, days: int) -> int:
        """The close of business of the n-th (from 1) working day after the day of `from_at`; always: n times 24 h."""
        ...

    def is_open(self, at: int) -> bool: ...

    def spells(self, from_at: int, to_at: int) -> Iterator[Spell]:
        """The open time between two moments, cut to them."""
        ...

    def days(self, from_at: int, to_at: int) -> Iterator[Day]:
        """The days from that of `from_at` to that of `to_at`, whole; always: none, as no day differs."""
        ...


def calendar_named(name: Literal["always", "working"], policy: Policy, timezone: str) -> Calendar:
    """The calendar that a clause names, in a time zone. ValueError: the policy or the zone cannot be followed."""
    return Always() if name == "always" else _working(policy, timezone)


@dataclass(frozen=True, slots=True)
class Always:
    """24 by 7: plain elapsed time."""

    announced_until: int | None = None

    def estimated(self, at: int) -> bool:  # noqa: ARG002
        return False

    def after(self, from_at: int, length_ms: int) -> int:
        return from_at + _length(length_ms)

    def before(self, to_at: int, length_ms: int) -> int:
        return to_at - _length(length_ms)

    def between(self, from_at: int, to_at: int) -> int:
        return to_at - from_at

    def days_after(self, from_at: int, days: int) -> int:
        return from_at + _days(days) * DAY_MS

    def is_open(self, at: int) -> bool:  # noqa: ARG002
        return True

    def spells(self, from_at: int, to_at: int) -> Iterator[Spell]:
        if from_at < to_at:
            yield Spell(from_at, to_at)

    def days(self, from_at: int, to_at: int) -> Iterator[Day]:  # noqa: ARG002
        return iter(())


@dataclass(frozen=True, slots=True)
class _Year:
    """The open time of one year, in order. `passed[n]` is how much of it has passed when spell n opens.

    `first_opens` and `last_closes` have one entry for each working day.
    """

    opens: tuple[int, ...]
    closes: tuple[int, ...]
    passed: tuple[int, ...]
    total: int
    first_opens: tuple[int, ...]
    last_closes: tuple[int, ...]

    def passed_at(self, at: int) -> int:
        n = bisect_right(self.opens, at) - 1
        return 0 if n < 0 else self.passed[n] + min(at, self.closes[n]) - self.opens[n]

    def first_at(self, passed: int) -> int:
        """When so much, more than 0, has just passed: at a break, its beginning."""
        n = bisect_left(self.passed, passed) - 1
        return self.opens[n] + passed - self.passed[n]

    def last_at(self, passed: int) -> int:
        """When so much, less than `total`, has still only passed: at a break, its end."""
        n = bisect_right(self.passed, passed) - 1
        return self.opens[n] + passed - self.passed[n]


@dataclass(frozen=True, slots=True)
class Working:
    """Opening hours in a time zone (see calendar_named).

    A year costs some milliseconds when it is first touched and is remembered; after that every question costs a binary
    search and one addition for each year between its moments, however many days those have. `spells` and `days` cost
    what they yield.
    """

    zone: ZoneInfo
    week: tuple[Hours, ...]
    made_up: Hours
    declared: Mapping[date, Hours] = field(repr=False)
    public: PublicDays = field(repr=False)
    announced_until: int | None
    _years: dict[int, _Year] = field(default_factory=dict, init=False, repr=False, compare=False)

    def estimated(self, at: int) -> bool:
        return self.announced_until is not None and _wall(at, self.zone).year > self.announced_until

    def after(self, from_at: int, length_ms: int) -> int:
        if _length(length_ms) == 0:
            return from_at
        year = self._year_at(from_at)
        passed = self._year(year).passed_at(from_at) + length_ms
        while passed > self._year(year).total:
            passed -= self._year(year).total
            year += 1
        return self._year(year).first_at(passed)

    def before(self, to_at: int, length_ms: int) -> int:
        if _length(length_ms) == 0:
            return to_at
        year = self._year_at(to_at)
        passed = self._year(year).passed_at(to_at) - length_ms
        while passed < 0:
            year -= 1
            passed += self._year(year).total
        return self._year(year).last_at(passed)

    def between(self, from_at: int, to_at: int) -> int:
        if to_at < from_at:
            return -self.between(to_at, from_at)
        first, last = self._year_at(from_at), self._year_at(to_at)
        whole = sum(self._year(year).total for year in range(first, last))
        return whole + self._year(last).passed_at(to_at) - self._year(first).passed_at(from_at)

    def days_after(self, from_at: int, days: int) -> int:
        tomorrow = _wall(from_at, self.zone).date() + timedelta(days=1)
        year = tomorrow.year
        n = bisect_left(self._year(year).first_opens, first_instant(tomorrow, 0, self.zone)) + _days(days) - 1
        while n >= len(self._year(year).last_closes):
            n -= len(self._year(year).last_closes)
            year += 1
        return self._year(year).last_closes[n]

    def is_open(self, at: int) -> bool:
        year = self._year(self._year_at(at))
        n = bisect_right(year.opens, at) - 1
        return n >= 0 and at < year.closes[n]

    def spells(self, from_at: int, to_at: int) -> Iterator[Spell]:
        if from_at >= to_at:
            return
        for number in range(self._year_at(from_at), self._year_at(to_at) + 1):
            year = self._year(number)
            for n in range(bisect_right(year.closes, from_at), bisect_left(year.opens, to_at)):
                yield Spell(max(year.opens[n], from_at), min(year.closes[n], to_at))

    def days(self, from_at: int, to_at: int) -> Iterator[Day]:
        first, last = _wall(from_at, self.zone).date(), _wall(to_at, self.zone).date()
        return (self.day(first + timedelta(days=n)) for n in range((last - first).days + 1))

    def day(self, on: date) -> Day:
        """What a day is, and when it is open."""
        kind, hours = self.hours(on)
        edges = ((first_instant(on, begin, self.zone), first_instant(on, end, self.zone)) for begin, end in hours)
        # Hours that a change of the clocks skips altogether are none.
        return Day(on, kind, tuple(Spell(opens, closes) for opens, closes in edges if opens < closes))

    def hours(self, on: date) -> tuple[DayKind, Hours]:
        """What a day is, and its opening hours on the wall."""
        if on in self.declared:
            hours = self.declared[on]
            return (DayKind.DECLARED_WORKED if hours else DayKind.DECLARED_OFF), hours
        usual = self.week[on.weekday()]
        if on in self.public.worked:
            hours = self.made_up or usual
            return (DayKind.MADE_UP if hours else DayKind.REST), hours
        if on in self.public.off:
            return DayKind.HOLIDAY, ()
        return (DayKind.WORKDAY if usual else DayKind.REST), usual

    def _year_at(self, at: int) -> int:
        return _wall(at, self.zone).year

    def _year(self, number: int) -> _Year:
        known = self._years.get(number)
        if known is None:
            if not FIRST_YEAR <= number <= LAST_YEAR:
                raise BeyondCalendar(number)
            known = self._years[number] = self._laid_out(number)
        return known

    def _laid_out(self, number: int) -> _Year:
        days = [day.spells for day in map(self.day, days_of(number)) if day.spells]
        spells = [spell for day in days for spell in day]
        *passed, total = accumulate((one.closes_at - one.opens_at for one in spells), initial=0)
        return _Year(
            tuple(one.opens_at for one in spells), tuple(one.closes_at for one in spells), tuple(passed), total,
            tuple(day[0].opens_at for day in days), tuple(day[-1].closes_at for day in days),
        )  # fmt: skip


@lru_cache(maxsize=64)
def _working(policy: Policy, timezone: str) -> Working:
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as unknown:
        raise ValueError(f'"{timezone}" is no IANA time zone') from unknown
    public = public_days(policy.public_holidays)
    declared = {day: hours_of(one.hours) for one in policy.declared for day in one.days}
    final = [year for year in (policy.announced_until, public.announced_until) if year is not None]
    calendar = Working(
        zone, policy.hours.weekdays, hours_of(policy.hours.made_up), declared, public, max(final, default=None)
    )  # fmt: skip
    for year in range(FIRST_YEAR, LAST_YEAR + 1):
        # So a search for open time ends within the next year.
        if not any(calendar.hours(day)[1] for day in days_of(year)):
            raise ValueError(f"working time {policy.version} is never open in {year}")
    return calendar


# --- the clock on the wall -----------------------------------------------------------------------------------------


def first_instant(day: date, minute: int, zone: ZoneInfo) -> int:
    """The first instant (epoch ms) at which the wall shows that minute of the day or, where it is skipped, a later one.

    So instants never run backwards along the wall's hours: of an hour that comes twice it is the first.
    """
    wall = datetime.combine(day, time()) + timedelta(minutes=minute)
    local = wall.replace(tzinfo=zone)
    at = _at(local)
    if _wall(at, zone) == wall:
        return at
    # Skipped. Read by the offset after the change (fold 1) it is an instant before the change, and the other way round.
    around = range(_at(local.replace(fold=1)), at + 1, 1000)
    return around[bisect_left(around, wall, key=lambda instant: _wall(instant, zone))]


def days_of(year: int) -> Iterator[date]:
    first = date(year, 1, 1)
    return (first + timedelta(days=n) for n in range((date(year + 1, 1, 1) - first).days))


def _at(local: datetime) -> int:
    return (local - _EPOCH) // timedelta(milliseconds=1)


def _wall(at: int, zone: ZoneInfo) -> datetime:
    """What the clock on the wall shows, naive."""
    try:
        return (_EPOCH + timedelta(milliseconds=at)).astimezone(zone).replace(tzinfo=None, fold=0)
    except OverflowError as far:
        raise BeyondCalendar(1970 + at // (365 * DAY_MS)) from far


def _length(length_ms: int) -> int:
    if length_ms < 0:
        raise ValueError(f"a length of {length_ms} ms: must not be negative")
    return length_ms


def _days(days: int) -> int:
    if days < 1:
        raise ValueError(f"{days} days: must be 1 at least")
    return days
