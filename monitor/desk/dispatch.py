"""Whom to send: the technicians for a ticket in order, each with why, and those who cannot go, each with why not. Pure.

P1: who is not certified for the machine's model, or would no longer be when the work begins, is never proposed. All
numbers stand in `dispatch.toml`. What is not known (a position) is said, not guessed.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import msgspec

from monitor.desk.rota import Duty, DutySpan, Span
from monitor.desk.tickets import Status
from monitor.devices import Severity

EARTH_RADIUS_KM = 6371.0088

_GRAVITY = {Severity.NOTE: 0, Severity.ROUTINE: 1, Severity.URGENT: 2, Severity.EMERGENCY: 3}


# --- the policy ----------------------------------------------------------------------------------------------------


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What speaks against a technician, each as so many seconds of a later arrival."""

    carried_s: float
    on_call_s: float
    off_duty_s: float

    def __post_init__(self) -> None:
        _check_not_negative(self, "carried_s", "on_call_s", "off_duty_s")


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How people are proposed, in one version (dispatch.toml)."""

    version: str
    speed_km_h: float
    detour_factor: float
    set_up_s: float
    job_s: float
    answer_s: float
    decline_lasts_s: float
    look_ahead_s: float
    on_call_for: frozenset[Severity]
    reserve_s: float
    most_helps: int
    cost: Cost

    def __post_init__(self) -> None:
        _check_not_negative(self, "set_up_s", "job_s", "answer_s", "decline_lasts_s", "reserve_s", "most_helps")
        if not 1 <= self.speed_km_h <= 300:
            raise ValueError(f"speed_km_h = {self.speed_km_h} must be 1 to 300")
        if not 1 <= self.detour_factor <= 10:
            raise ValueError(f"detour_factor = {self.detour_factor} must be 1 to 10: no road is shorter than the line")
        if not 3600 <= self.look_ahead_s <= 30 * 86_400:
            raise ValueError(f"look_ahead_s = {self.look_ahead_s} must be 3600 (an hour) to 2592000 (30 days)")

    def travel_s(self, distance_km: float) -> float:
        """How long the way takes for this straight-line distance."""
        return distance_km * self.detour_factor / self.speed_km_h * 3600


def _check_not_negative(struct: msgspec.Struct, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(struct, name) < math.inf:
            raise ValueError(f"{name} = {getattr(struct, name)} must be a number that is not negative")


@cache
def shipped_policy() -> Policy:
    """The policy that ships with the program."""
    return msgspec.toml.decode(files("monitor.desk").joinpath("dispatch.toml").read_bytes(), type=Policy)


# --- places --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Position:
    """A place on earth (WGS 84)."""

    lat_deg: float
    lon_deg: float

    def __post_init__(self) -> None:
        if not (-90 <= self.lat_deg <= 90 and -180 <= self.lon_deg <= 180):
            raise ValueError(f"position {self.lat_deg}, {self.lon_deg} must lie within ±90° and ±180°")


def position_of(lat_deg: float | None, lon_deg: float | None) -> Position | None:
    """The place of two columns that may be empty."""
    return None if lat_deg is None or lon_deg is None else Position(lat_deg, lon_deg)


def distance_km(one: Position, other: Position) -> float:
    """The straight line over the ground (haversine)."""
    lat, other_lat = math.radians(one.lat_deg), math.radians(other.lat_deg)
    half_lat, half_lon = (other_lat - lat) / 2, math.radians(other.lon_deg - one.lon_deg) / 2
    chord = math.sin(half_lat) ** 2 + math.cos(lat) * math.cos(other_lat) * math.sin(half_lon) ** 2
    # Rounding may take two places opposite each other beyond 1.
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(chord, 1.0)))


# --- the facts, as the tables hold them ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Certificate:
    """Somebody may work on this model (a profile's name), until then; None: without end."""

    profile: str
    until_at: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """A ticket that a technician carries. `since_at`: when it came to this status; `work_s`: what its repair takes,
    None where that is not known."""

    ticket_id: int
    status: Status
    severity: Severity
    opened_at: int
    since_at: int
    site: Position | None = None
    work_s: float | None = None


@dataclass(frozen=True, slots=True)
class Technician:
    """Somebody who can be sent. `duty`: theirs from now on, as `Rota.duties` answers, over the policy's look-ahead."""

    person_id: int
    certificates: tuple[Certificate, ...] = ()
    home: Position | None = None
    loads: tuple[Load, ...] = ()
    duty: tuple[DutySpan, ...] = ()


class Decline(NamedTuple):
    """Somebody would not take this ticket."""

    person_id: int
    at: int


QUARTER_MS = 900_000
HALF_AN_HOUR_MS = 1_800_000


@dataclass(frozen=True, slots=True)
class Job:
    """A ticket that somebody is needed for. `profile` is None where it is about no machine (a site's outage): then any
    certificate will do. `begin_due_at`: when its repair was promised to begin, if it was."""

    ticket_id: int
    profile: str | None
    site: Position | None
    severity: Severity
    opened_at: int
    begin_due_at: int | None = None
    declines: tuple[Decline, ...] = ()


# --- the answer ----------------------------------------------------------------------------------------------------


class Code(StrEnum):
    """What speaks for or against somebody, or puts a promise at risk. Its figures stand beside it in a Reason."""

    CERTIFIED = "certified"
    """`at`: until then; absent: without end."""
    NOT_CERTIFIED = "not_certified"
    CERTIFICATE_LAPSED = "certificate_lapsed"
    """`at`: since then."""
    CERTIFICATE_LAPSES = "certificate_lapses"
    """`at`: then, before the work could begin."""
    DECLINED = "declined"
    """`at`: not asked again before then."""
    WORKING = "working"
    ON_CALL = "on_call"
    """`at` of both: until then."""
    OFF_DUTY = "off_duty"
    """`at`: on duty, or on duty for long enough, from then; absent: not in the time that is looked ahead."""
    FREE = "free"
    BUSY = "busy"
    """`count`: tickets that come first; `at`: free from then, absent: all their duty is taken."""
    CARRIES = "carries"
    """`count`: tickets in all."""
    DISTANCE = "distance"
    """`km`, straight, and `s` of travel."""
    TOO_FAR = "too_far"
    """The same: no duty of theirs is long enough for the way."""
    TECHNICIAN_POSITION_UNKNOWN = "technician_position_unknown"
    SITE_POSITION_UNKNOWN = "site_position_unknown"
    ON_THE_WAY = "on_the_way"
    ON_SITE = "on_site"
    """`at` of both: since then."""
    MAKES_IT = "makes_it"
    MISSES_IT = "misses_it"
    """`at` of both: when the repair was promised to begin; `s`: to spare, or too late."""
    NOBODY_CERTIFIED = "nobody_certified"
    NOBODY_ON_DUTY = "nobody_on_duty"
    NOBODY_LEFT = "nobody_left"
    """`count` of all three: people who were looked at."""
    LITTLE_TIME = "little_time"
    """`s`: what is left; somebody free, on duty and next door would hardly make it."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that speaks for or against, with its figures (see Code)."""

    code: Code
    at: int | None = None
    km: float | None = None
    s: float | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """How soon somebody can begin: on duty, free, off on the way, there, and at work.

    `distance_km` is a straight line. What hangs on an unknown position is None; `leave_at` is then the earliest
    possible.
    """

    on_duty_at: int
    free_at: int
    leave_at: int
    distance_km: float | None
    travel_s: float | None
    arrives_at: int | None
    ready_at: int | None
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody who could go. `duty` is what they are on duty for now, if it counts for such a ticket; None: who would
    go when their duty begins, and cannot be asked yet. `carries` counts all their tickets."""

    person_id: int
    duty: Duty | None
    carries: int
    reach: Reach
    cost_s: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Excluded:
    """Somebody who cannot go, and all that is against it."""

    person_id: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """Who should go, the best first, and who cannot (by id). Everybody asked about is in one of the two."""

    ticket_id: int
    made_at: int
    ranked: tuple[Candidate, ...]
    excluded: tuple[Excluded, ...]

    @property
    def best(self) -> Candidate | None:
        return self.ranked[0] if self.ranked else None


class Chance(IntEnum):
    """Whether somebody keeps a promise, the best first."""

    MAKES_IT = 0
    TIGHT = 1
    """With less to spare than the policy's reserve."""
    UNKNOWN = 2
    MISSES_IT = 3


def chance(at: int | None, not_before: int, due_at: int | None, policy: Policy) -> Chance:
    """What becomes of a promise that is kept at that moment, or, where this is unknown, not before the other one."""
    if due_at is not None and (not_before if at is None else at) > due_at:
        return Chance.MISSES_IT
    if at is None:
        return Chance.UNKNOWN
    return Chance.TIGHT if due_at is not None and due_at - at < policy.reserve_s * 1000 else Chance.MAKES_IT


def propose(job: Job, candidates: Iterable[Technician], policy: Policy, now: int) -> Proposal:
    """Rank these technicians for a ticket. The order they come in does not matter."""

    def rank(one: Candidate) -> tuple[Chance, bool, float, int]:
        reach = one.reach
        made = chance(reach.ready_at, reach.leave_at, job.begin_due_at, policy)
        return made, reach.ready_at is None, one.cost_s, one.person_id

    answers = [consider(job, technician, policy, now) for technician in candidates]
    ranked = [answer for answer in answers if isinstance(answer, Candidate)]
    excluded = [answer for answer in answers if isinstance(answer, Excluded)]
    by_id = sorted(excluded, key=lambda one: one.person_id)
    return Proposal(job.ticket_id, now, tuple(sorted(ranked, key=rank)), tuple(by_id))


def consider(job: Job, technician: Technician, policy: Policy, now: int) -> Candidate | Excluded:
    """Whether this technician could go, and why, or why not."""
    reach, hindrance = _reach(job, technician, policy, now)
    begins_at = now if reach is None else reach.ready_at or reach.leave_at
    certified = _certified(job, technician, begins_at, now)
    against = [certified] if certified.code is not Code.CERTIFIED else []
    against += _declined(job, technician, policy, now)
    if reach is None or against:
        return Excluded(technician.person_id, (*against, *hindrance))
    present = _present(job, technician, policy, now)
    carries = len(_others(job, technician))
    reasons = (
        certified,
        *_duty_reason(present, reach, now),
        *reach.reasons,
        *([Reason(Code.CARRIES, count=carries)] if carries else []),
        *_promise(job, reach),
    )
    duty = present.duty if present else None
    return Candidate(technician.person_id, duty, carries, reach, _cost_s(duty, carries, reach, policy, now), reasons)


def window(reach: Reach) -> tuple[int, int] | None:
    """Between when and when somebody is expected, in quarters of an hour; None where the way is unknown.

    Nobody comes sooner than reckoned. Half the way more is not late, and half an hour never is.
    """
    if reach.arrives_at is None or reach.travel_s is None:
        return None
    latest_at = reach.arrives_at + max(HALF_AN_HOUR_MS, round(reach.travel_s * 500))
    return reach.arrives_at // QUARTER_MS * QUARTER_MS, -(-latest_at // QUARTER_MS) * QUARTER_MS


def _duty_reason(present: DutySpan | None, reach: Reach, now: int) -> Iterator[Reason]:
    if present:
        yield Reason(Code(present.duty), at=present.end_at)
    elif reach.on_duty_at > now:
        yield Reason(Code.OFF_DUTY, at=reach.on_duty_at)


def _cost_s(duty: Duty | None, carries: int, reach: Reach, policy: Policy, now: int) -> float:
    there_at = reach.leave_at if reach.arrives_at is None else reach.arrives_at
    disturbs_s = {Duty.WORKING: 0.0, Duty.ON_CALL: policy.cost.on_call_s, None: policy.cost.off_duty_s}[duty]
    return max(there_at - now, 0) / 1000 + carries * policy.cost.carried_s + disturbs_s


def _promise(job: Job, reach: Reach) -> Iterator[Reason]:
    if job.begin_due_at is not None and reach.ready_at is not None:
        spare_s = (job.begin_due_at - reach.ready_at) / 1000
        yield Reason(Code.MAKES_IT if spare_s >= 0 else Code.MISSES_IT, at=job.begin_due_at, s=abs(spare_s))


# --- may they ------------------------------------------------------------------------------------------------------


def _certified(job: Job, technician: Technician, begins_at: int, now: int) -> Reason:
    """Whether somebody is certified for the job's machine when the work begins (P1): Code.CERTIFIED, or why not."""
    fitting = [one.until_at for one in technician.certificates if job.profile in (None, one.profile)]
    if not fitting:
        return Reason(Code.NOT_CERTIFIED)
    limited = [until_at for until_at in fitting if until_at is not None]
    if len(limited) < len(fitting):
        return Reason(Code.CERTIFIED)
    until_at = max(limited)
    if until_at <= now:
        return Reason(Code.CERTIFICATE_LAPSED, at=until_at)
    return Reason(Code.CERTIFIED if begins_at < until_at else Code.CERTIFICATE_LAPSES, at=until_at)


def _declined(job: Job, technician: Technician, policy: Policy, now: int) -> Iterator[Reason]:
    declined = [one.at for one in job.declines if one.person_id == technician.person_id]
    again_at = max(declined, default=0) + round(policy.decline_lasts_s * 1000)
    if declined and now < again_at:
        yield Reason(Code.DECLINED, at=again_at)


def _counts(span: DutySpan, job: Job, policy: Policy) -> bool:
    return span.duty is Duty.WORKING or job.severity in policy.on_call_for


def _present(job: Job, technician: Technician, policy: Policy, now: int) -> DutySpan | None:
    """The duty that somebody is on now, as far as it counts for such a job."""
    return next(
        (one for one in technician.duty if one.start_at <= now < one.end_at and _counts(one, job, policy)), None
    )


def _stretches(job: Job, technician: Technician, policy: Policy, now: int) -> list[Span]:
    """When somebody is there for such a job, from now on: from work straight into being on call is one stretch."""
    horizon = now + round(policy.look_ahead_s * 1000)
    stretches: list[Span] = []
    for span in sorted(one for one in technician.duty if _counts(one, job, policy)):
        start_at, end_at = max(span.start_at, now), min(span.end_at, horizon)
        if start_at >= end_at:
            continue
        if stretches and start_at <= stretches[-1].end_at:
            stretches[-1] = Span(stretches[-1].start_at, max(end_at, stretches[-1].end_at))
        else:
            stretches.append(Span(start_at, end_at))
    return stretches


# --- how soon ------------------------------------------------------------------------------------------------------

_THERE = (Status.ON_SITE, Status.REPAIRING)
_UNDER_WAY = (*_THERE, Status.ON_THE_WAY)
_TO_COME = (Status.ACCEPTED, Status.DISPATCHED)

_Found = tuple[Reach | None, tuple[Reason, ...]]
"""How soon, or what hinders it."""


class _Free(NamedTuple):
    """From when somebody is free, where they are then, and after how many tickets. Where the ways until then are not
    all known, the place is not either."""

    at: int
    where: Position | None
    tickets: int


def _reach(job: Job, technician: Technician, policy: Policy, now: int) -> _Found:
    """How soon this technician can begin with the job, certified or not.

    Who has this very ticket already goes on from where they stand with it, whatever else they carry.
    """
    own = next((load for load in technician.loads if load.ticket_id == job.ticket_id), None)
    if own and own.status in _UNDER_WAY:
        return _under_way(job, own, technician, policy, now), ()
    stretches = _stretches(job, technician, policy, now)
    if not stretches:
        return None, (Reason(Code.OFF_DUTY),)
    first = [load for load in _others(job, technician) if _comes_first(load, job)]
    free = _free(first, technician.home, stretches, policy, now)
    if free is None:
        return None, (Reason(Code.BUSY, count=len(first)),)
    # Nobody leaves before they have said that they will go.
    answer_s = 0.0 if own and own.status is Status.ACCEPTED else policy.answer_s
    answered_at = stretches[0].start_at + round(answer_s * 1000)
    return _departure(job, free, max(free.at, answered_at), stretches, policy)


def _others(job: Job, technician: Technician) -> list[Load]:
    return [load for load in technician.loads if load.ticket_id != job.ticket_id]


def _comes_first(load: Load, job: Job) -> bool:
    """What is under way is finished; of what has not been begun, only what matters as much comes before the job."""
    return load.status in _UNDER_WAY or (load.status in _TO_COME and _GRAVITY[load.severity] >= _GRAVITY[job.severity])


def _order(load: Load) -> tuple[int, int, int, int]:
    place = (_THERE, (Status.ON_THE_WAY,), _TO_COME)
    stage = next(number for number, statuses in enumerate(place) if load.status in statuses)
    return stage, -_GRAVITY[load.severity], load.opened_at, load.ticket_id


def _free(
    loads: Iterable[Load], home: Position | None, stretches: Sequence[Span], policy: Policy, now: int
) -> _Free | None:
    """When the last of these tickets is done, one after the other and within duty; None: not in the time that is
    looked ahead."""
    at, where, known, tickets = now, home, True, 0
    for load in sorted(loads, key=_order):
        km = 0.0 if load.status in _THERE else _between(where, load.site)
        done_at = _spent(stretches, at, _left_ms(load, km, policy, now))
        if done_at is None:
            return None
        at, where, known, tickets = done_at, load.site, known and km is not None, tickets + 1
    return _Free(at, where if known else None, tickets)


def _left_ms(load: Load, km: float | None, policy: Policy, now: int) -> int:
    """What a ticket still takes. A way that is not known is left out, so that this is the least."""
    work_s = policy.job_s if load.work_s is None else load.work_s
    if load.status not in _THERE:
        work_s += policy.set_up_s + policy.travel_s(km or 0.0)
    begun_ms = max(now - load.since_at, 0) if load.status in _UNDER_WAY else 0
    return max(round(work_s * 1000) - begun_ms, 0)


def _spent(stretches: Iterable[Span], at: int, length_ms: int) -> int | None:
    """When so much duty has passed since then."""
    for start_at, end_at in stretches:
        start_at = max(start_at, at)
        if start_at + length_ms <= end_at:
            return start_at + length_ms
        length_ms -= max(end_at - start_at, 0)
    return None


def _under_way(job: Job, own: Load, technician: Technician, policy: Policy, now: int) -> Reach:
    """Somebody who is there, or left for it then, from home for all that is known. Who is late comes any moment."""
    set_up_ms = round(policy.set_up_s * 1000)
    if own.status in _THERE:
        ready_at = own.since_at if own.status is Status.REPAIRING else max(own.since_at + set_up_ms, now)
        return Reach(now, now, own.since_at, 0.0, 0.0, own.since_at, ready_at, (Reason(Code.ON_SITE, own.since_at),))
    km, way = _way(technician.home, job, policy)
    reasons = (Reason(Code.ON_THE_WAY, at=own.since_at), *way)
    if km is None:
        return Reach(now, now, own.since_at, None, None, None, None, reasons)
    arrives_at = max(own.since_at + round(policy.travel_s(km) * 1000), now)
    return Reach(now, now, own.since_at, km, policy.travel_s(km), arrives_at, arrives_at + set_up_ms, reasons)


def _departure(job: Job, free: _Free, earliest_at: int, stretches: Sequence[Span], policy: Policy) -> _Found:
    """Leaving as soon as possible for work that begins within the same stretch of duty."""
    km, way = _way(free.where, job, policy)
    travel_ms = 0 if km is None else round(policy.travel_s(km) * 1000)
    takes_ms = travel_ms + round(policy.set_up_s * 1000)
    starts = ((max(earliest_at, start_at), end_at) for start_at, end_at in stretches)
    leave_at = next((start_at for start_at, end_at in starts if start_at + takes_ms <= end_at), None)
    busy = Reason(Code.BUSY, at=free.at, count=free.tickets) if free.tickets else Reason(Code.FREE)
    if leave_at is None:
        too_far = () if km is None else (Reason(Code.TOO_FAR, km=km, s=policy.travel_s(km)),)
        return None, (busy, *too_far) if free.tickets else too_far or (Reason(Code.OFF_DUTY),)
    on_duty_at, reasons = stretches[0].start_at, (busy, *way)
    if km is None:
        return Reach(on_duty_at, free.at, leave_at, None, None, None, None, reasons), ()
    arrives_at, ready_at = leave_at + travel_ms, leave_at + takes_ms
    return Reach(on_duty_at, free.at, leave_at, km, policy.travel_s(km), arrives_at, ready_at, reasons), ()


def _between(one: Position | None, other: Position | None) -> float | None:
    return None if one is None or other is None else distance_km(one, other)


def _way(where: Position | None, job: Job, policy: Policy) -> tuple[float | None, tuple[Reason, ...]]:
    """The distance to the job, and what is to be said of it."""
    km = _between(where, job.site)
    if km is not None:
        return km, (Reason(Code.DISTANCE, km=km, s=policy.travel_s(km)),)
    unknown = [Reason(Code.TECHNICIAN_POSITION_UNKNOWN)] if where is None else []
    unknown += [Reason(Code.SITE_POSITION_UNKNOWN)] if job.site is None else []
    return None, tuple(unknown)
