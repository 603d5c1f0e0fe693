"""Maintenance (E4): which plans a machine has, when each is due, and by what: the calendar, its hours, its starts, or
what its readings tell; whichever comes first. Pure.

The policy and the plans that ship stand in `maintenance.toml`. Every machine has the plan `service`, at least once a
quarter; operators may put their own in its place, for all machines, a model or one machine, but none less often.

Hours are those of the machine's own meter, or of readings that people took, and never a sum of states: those have gaps.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Annotated, NamedTuple

import msgspec

from monitor.devices import Profile

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
SERVICE = "service"
"""The plan that every machine has."""
CODE = re.compile(r"[a-z][a-z0-9_]{0,39}")
MOST_ITEMS = 60
MOST_DAYS = 3660
STANDS_STILL = 1e-6
"""A use a day that is as good as none."""
METER_SLACK_H = 1.0
"""A meter read to the full hour, or a moment earlier or later."""

Days = Annotated[int, msgspec.Meta(ge=1, le=MOST_DAYS)]
Hours = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
Starts = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Grace = Annotated[float, msgspec.Meta(ge=0, le=92)]


class Trigger(StrEnum):
    """What makes a plan due."""

    CALENDAR = "calendar"
    HOURS = "hours"
    STARTS = "starts"
    CONDITION = "condition"
    """A trend in its readings that stands open."""


class State(StrEnum):
    """How a plan of a machine stands."""

    NOT_DUE = "not_due"
    DUE_SOON = "due_soon"
    DUE = "due"
    OVERDUE = "overdue"


class Sure(StrEnum):
    """How sure it is when a plan will be due."""

    KNOWN = "known"
    """It is due already, or goes by the calendar."""
    BY_USE = "by_use"
    """From how much the machine was used lately."""
    CALENDAR_ONLY = "calendar_only"
    """It goes by use as well, and too little is known of that."""


class Resets(StrEnum):
    """From when the next time is reckoned."""

    DUE = "due"
    """From when it was due: it keeps its rhythm."""
    DONE = "done"
    """From when it was done."""


# --- plans and policy ----------------------------------------------------------------------------------------------


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing to be looked at. `profiles`: only on these models; empty: on all."""

    code: str
    title_en: str
    title_zh: str
    profiles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_named(self.code, self.title_en, self.title_zh)


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is done again and again. `every_days` is its bound; hours, starts or a trend make it due sooner, where they
    are given. `additional`: it comes beside the quarterly service, and may be less often than that."""

    code: str
    title_en: str
    title_zh: str
    every_days: Days | None = None
    every_h: Hours | None = None
    every_starts: Starts | None = None
    condition: bool = False
    """Whether a trend in the machine's readings makes it due."""
    resets_from: Resets = Resets.DONE
    additional: bool = False
    by_profile: bool = False
    """Its days and hours are the profile's service intervals."""
    checklist: tuple[Item, ...] = ()

    def __post_init__(self) -> None:
        _check_named(self.code, self.title_en, self.title_zh)
        codes = [item.code for item in self.checklist]
        if twice := sorted({code for code in codes if codes.count(code) > 1}):
            raise ValueError(f"checklist: {', '.join(twice)} stands more than once")
        if len(codes) > MOST_ITEMS:
            raise ValueError(f"checklist: at most {MOST_ITEMS} things, not {len(codes)}")
        if self.by_profile and (self.every_days is not None or self.every_h is not None):
            raise ValueError("by_profile: every_days and every_h are the profile's then")
        if self.additional and self.code == SERVICE:
            raise ValueError(f"additional: {SERVICE!r} is the regular plan that the others come beside")

    def title(self, lang: str) -> str:
        return self.title_zh if lang == "zh" else self.title_en


class GraceDays(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many days after it was due it is overdue, by what made it due."""

    calendar: Grace
    hours: Grace
    starts: Grace
    condition: Grace

    def ms(self, trigger: Trigger) -> int:
        return round(float(getattr(self, trigger)) * DAY_MS)


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"plans": "plan"}):
    """How maintenance is reckoned, in one version (maintenance.toml)."""

    version: str
    quarter_days: Annotated[int, msgspec.Meta(ge=90, le=92)]
    longest_days: Days
    lead_days: Annotated[float, msgspec.Meta(ge=0, le=92)]
    lead_share: Annotated[float, msgspec.Meta(ge=0, le=0.9)]
    lead_cycle: Annotated[float, msgspec.Meta(gt=0, le=0.9)]
    use_days: Days
    few_readings: Annotated[int, msgspec.Meta(ge=2, le=1000)]
    few_days: Annotated[float, msgspec.Meta(gt=0, le=366)]
    overdue_at_min: Annotated[int, msgspec.Meta(ge=0, lt=1440)]
    grace_days: GraceDays
    plans: tuple[Plan, ...]

    def __post_init__(self) -> None:
        if self.longest_days + self.grace_days.calendar > self.quarter_days:
            raise ValueError(
                f"longest_days {self.longest_days} and grace_days.calendar {self.grace_days.calendar:g} have to lie "
                f"within a quarter of {self.quarter_days} days (E4)"
            )
        if SERVICE not in [plan.code for plan in self.plans]:
            raise ValueError(f"plan: {SERVICE!r}, the one that every machine has, is missing")
        for plan in self.plans:
            self.check(plan)

    def check(self, plan: Plan) -> None:
        """Raises ValueError where a plan has no bound, or is less often than the standard has it (E4)."""
        if plan.by_profile:
            return
        beside = "" if plan.code == SERVICE else "; what comes beside that, and less often, says additional"
        often = f"every machine is served at least once a quarter (E4): 1 to {self.longest_days} days{beside}"
        if plan.every_days is None:
            raise ValueError(f"every_days is missing: whatever else makes it due, {often}")
        if plan.every_days > self.longest_days and not plan.additional:
            raise ValueError(f"every_days {plan.every_days}: {often}")


def read_policy(text: bytes) -> Policy:
    """A policy from its TOML. Raises msgspec.ValidationError, which says what is wrong and where."""
    return msgspec.toml.decode(text, type=Policy)


@cache
def shipped_policy() -> Policy:
    """The policy that ships with the program."""
    return read_policy(files("monitor.fleet").joinpath("maintenance.toml").read_bytes())


def plans_of(
    profile_name: str, profile: Profile | None, own: Mapping[str, Plan], policy: Policy
) -> tuple[Plan, ...]:  # fmt: skip
    """The plans of a machine: those that ship, and the operators' `own` in their place or beside them, by code."""
    there = {plan.code: plan for plan in policy.plans} | dict(own)
    return tuple(_as_on(profile_name, profile, there[code], policy) for code in sorted(there))


def _as_on(profile_name: str, profile: Profile | None, plan: Plan, policy: Policy) -> Plan:
    """A plan as it is on a model: its intervals, and the things to be looked at there."""
    checklist = tuple(one for one in plan.checklist if not one.profiles or profile_name in one.profiles)
    if not plan.by_profile:
        return msgspec.structs.replace(plan, checklist=checklist)
    days = profile.service_interval_days if profile else policy.longest_days
    return msgspec.structs.replace(
        plan, checklist=checklist, by_profile=False, every_days=max(1, min(days, policy.longest_days)),
        every_h=profile.service_interval_h if profile else None,
    )  # fmt: skip


def _check_named(code: str, title_en: str, title_zh: str) -> None:
    if not CODE.fullmatch(code):
        raise ValueError(f"code {code!r}: allowed are a to z, 0 to 9 and _, at most 40, a letter first")
    if not (title_en.strip() and title_zh.strip()) or max(len(title_en), len(title_zh)) > 120:
        raise ValueError(f"{code}: a title of 1 to 120 characters is needed in both languages")


# --- meters --------------------------------------------------------------------------------------------------------


class Doubt(StrEnum):
    """Why a reading cannot be the machine's."""

    BACK = "back"
    """It shows less than one before."""
    FAST = "fast"
    """It shows more than time has passed."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a machine's meter showed. `total_h` goes on where the meter was replaced; `starts` are those since the first
    reading, None where nobody counts them."""

    at: int
    hours: float
    total_h: float
    starts: int | None = None


def doubt(before: Reading | None, after: Reading | None, at: int, hours: float) -> Doubt | None:
    """Why a meter cannot show this between its neighbours; None: it can. No meter runs back, nor faster than time."""
    spans: list[tuple[int, float]] = []
    if before is not None:
        spans.append((at - before.at, hours - before.hours))
    if after is not None:
        spans.append((after.at - at, after.hours - hours))
    if any(gained < -METER_SLACK_H for _, gained in spans):
        return Doubt.BACK
    return Doubt.FAST if any(gained > passed / HOUR_MS + METER_SLACK_H for passed, gained in spans) else None


def read_on(before: Reading | None, at: int, hours: float, starts: int | None, *, replaced: bool) -> Reading:
    """A reading that follows another one; of a meter that was `replaced` the hours begin anew, and the sum goes on."""
    gained = 0.0 if before is None or replaced else max(0.0, hours - before.hours)
    return Reading(at, hours, (before.total_h if before else hours) + gained, starts)


# --- when it is due ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Anchor:
    """From when a plan is reckoned: the calendar from `at`, hours and starts from what stood then (None: not known).
    `done_at`: when it was last done; None: never, and then it is reckoned from when the machine was added."""

    at: int
    total_h: float | None = None
    starts: int | None = None
    done_at: int | None = None


def based(anchor: Anchor, readings: Sequence[Reading]) -> Anchor:
    """The same, with what is not known of it taken from the first reading since."""
    first = next((one for one in readings if one.at >= anchor.at), None)
    if first is None:
        return anchor
    return Anchor(
        anchor.at, first.total_h if anchor.total_h is None else anchor.total_h,
        first.starts if anchor.starts is None else anchor.starts, anchor.done_at,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Course:
    """What a machine did since: its meter, in the order of time, and since when a trend stands open that began after
    the plan was last done."""

    readings: Sequence[Reading] = ()
    trend_since: int | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """When a plan is due, as it looks now. All moments are epoch ms; which of them have passed is its state."""

    soon_at: int
    due_at: int
    """The earliest that anything makes it due; while that is a forecast, never in the past."""
    certain_at: int
    """When it is due whatever the machine does: by the calendar, or by what has been read already."""
    overdue_at: int
    trigger: Trigger
    sure: Sure
    left_h: float | None = None
    """Hours until its meter makes it due; negative: so many too late. None: it goes by none, or none are known."""
    left_starts: int | None = None
    use_h_per_day: float | None = None
    """How much the machine ran lately; None where too little is known."""

    def state(self, now: int) -> State:
        if self.overdue_at <= now:
            return State.OVERDUE
        if self.certain_at <= now:
            return State.DUE
        return State.DUE_SOON if self.soon_at <= now else State.NOT_DUE

    def changes_at(self, now: int) -> int | None:
        """When its state is another one by time alone."""
        return min((at for at in (self.soon_at, self.certain_at, self.overdue_at) if at > now), default=None)


class _Use(NamedTuple):
    """How far one kind of use has come. `crossed_at`: when it was used up; `soon_at`: when little was left;
    `will_at`: when it will be used up, at the pace of late."""

    left: float | None = None
    per_day: float | None = None
    crossed_at: int | None = None
    soon_at: int | None = None
    will_at: int | None = None


def forecast(plan: Plan, anchor: Anchor, course: Course, policy: Policy, now: int) -> Due:
    """When this plan of a machine is due. The calendar bounds it: use and condition make it sooner, never later."""
    hours = _use(plan.every_h, anchor.total_h, [(one.at, one.total_h) for one in course.readings], policy, now)
    counted = [(one.at, float(one.starts)) for one in course.readings if one.starts is not None]
    starts = _use(plan.every_starts, anchor.starts, counted, policy, now)
    calendar_at = anchor.at + (plan.every_days or policy.longest_days) * DAY_MS
    certain = {Trigger.CALENDAR: calendar_at}
    if plan.condition and course.trend_since is not None:
        certain[Trigger.CONDITION] = course.trend_since
    likely: dict[Trigger, int] = {}
    for trigger, use in ((Trigger.HOURS, hours), (Trigger.STARTS, starts)):
        if use.crossed_at is not None:
            certain[trigger] = use.crossed_at
        elif use.will_at is not None:
            likely[trigger] = use.will_at
    trigger, due_at = min((certain | likely).items(), key=lambda found: found[1])
    certain_at = min(certain.values())
    soon = [at for at in (hours.soon_at, starts.soon_at) if at is not None]
    return Due(
        soon_at=min(_ahead(due_at, anchor, policy), certain_at, *soon), due_at=due_at, certain_at=certain_at,
        overdue_at=min(at + policy.grace_days.ms(one) for one, at in certain.items()), trigger=trigger,
        sure=_sure(plan, certain_at, (hours, starts), now), left_h=hours.left,
        left_starts=None if starts.left is None else round(starts.left), use_h_per_day=hours.per_day,
    )  # fmt: skip


def _ahead(due_at: int, anchor: Anchor, policy: Policy) -> int:
    """When to begin to speak of what is due then: not for most of a short interval."""
    return due_at - round(min(policy.lead_days * DAY_MS, policy.lead_cycle * max(0, due_at - anchor.at)))


def _sure(plan: Plan, certain_at: int, uses: Iterable[_Use], now: int) -> Sure:
    if certain_at <= now or (plan.every_h is None and plan.every_starts is None):
        return Sure.KNOWN
    return Sure.BY_USE if any(use.per_day is not None for use in uses) else Sure.CALENDAR_ONLY


def _use(
    every: float | None, begins: float | None, counted: Sequence[tuple[int, float]], policy: Policy, now: int
) -> _Use:
    """How far a count has come that makes a plan due `every` so much since it `begins` (None: not known)."""
    per_day = _pace(counted, policy, now)
    if every is None or begins is None or not counted:
        return _Use(per_day=per_day)
    last_at, last = counted[-1]
    left = begins + every - last
    soon_at = _crossed(counted, begins + every * (1 - policy.lead_share))
    if left <= 0:
        return _Use(left, per_day, _crossed(counted, begins + every), soon_at)
    will_at = max(now, last_at + round(left / per_day * DAY_MS)) if per_day and per_day > STANDS_STILL else None
    return _Use(left, per_day, None, soon_at, will_at)


def _pace(counted: Sequence[tuple[int, float]], policy: Policy, now: int) -> float | None:
    """How much it grew a day lately; None where that rests on too little."""
    lately = [(at, count) for at, count in counted if at >= now - policy.use_days * DAY_MS]
    if len(lately) < policy.few_readings:
        return None
    days = (lately[-1][0] - lately[0][0]) / DAY_MS
    return max(0.0, lately[-1][1] - lately[0][1]) / days if days >= policy.few_days else None


def _crossed(counted: Sequence[tuple[int, float]], mark: float) -> int | None:
    """When a count came to the mark, evenly between the readings around that; None: it has not yet."""
    before: tuple[int, float] | None = None
    for at, count in counted:
        if count >= mark:
            if before is None or count <= before[1]:
                return at
            return before[0] + round((at - before[0]) * (mark - before[1]) / (count - before[1]))
        before = (at, count)
    return None


# --- done, and due again -------------------------------------------------------------------------------------------


def completed(plan: Plan, anchor: Anchor, policy: Policy, done_at: int, last: Reading | None) -> Anchor:
    """From when a plan is reckoned once it is done; `last` is the meter then.

    Where it keeps its rhythm, times that were left out stay left out, and what is done early is not due later for it.
    """
    total_h, starts = (last.total_h, last.starts) if last else (None, None)
    if plan.resets_from is Resets.DONE:
        return Anchor(done_at, total_h, starts, done_at)
    every_ms = (plan.every_days or policy.longest_days) * DAY_MS
    return Anchor(
        round(_in_rhythm(anchor.at, every_ms, done_at) or done_at), _in_rhythm(anchor.total_h, plan.every_h, total_h),
        None if starts is None else round(_in_rhythm(anchor.starts, plan.every_starts, starts) or starts), done_at,
    )  # fmt: skip


def _in_rhythm(began: float | None, every: float | None, reached: float | None) -> float | None:
    """The last multiple that was reached, or what was reached where that is the first one not yet."""
    if began is None or every is None or reached is None or reached < began + every:
        return reached
    return began + (reached - began) // every * every
