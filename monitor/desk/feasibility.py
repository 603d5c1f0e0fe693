"""Which promises of a ticket will be missed, before they are: how soon each could be kept, and what would help. Pure.

With whoever has the ticket; where nobody has it yet, with the best of those who could go. The figures are those of the
dispatch (`dispatch.toml`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from monitor.desk.commitments import Turn
from monitor.desk.dispatch import (
    Candidate,
    Chance,
    Code,
    Excluded,
    Job,
    Policy,
    Position,
    Proposal,
    Reach,
    Reason,
    Technician,
    chance,
    consider,
    distance_km,
    propose,
)

FORESEEN = (Turn.TECHNICIAN_ARRANGED, Turn.REPAIR_BEGUN)
"""The turns that people have to be found, or to travel, for."""


@dataclass(frozen=True, slots=True)
class Clock:
    """A running promise of a ticket: what stops it, and until when."""

    standard_id: str
    kind: str
    stop: Turn
    due_at: int


@dataclass(frozen=True, slots=True)
class Spare:
    """A machine that stands in a yard, fit to be sent out instead."""

    device_id: str
    profile: str
    site_id: int
    yard: Position | None


class Outlook(StrEnum):
    """What is to be expected of a promise."""

    IN_TIME = "in_time"
    AT_RISK = "at_risk"
    UNKNOWN = "unknown"
    """It can still be kept, but a position is missing to tell whether it will."""
    MISSED = "missed"
    """It is past its due time; how late it will be is still foretold."""


@dataclass(frozen=True, slots=True)
class OtherTechnician:
    """Somebody else who would make it, with so much to spare."""

    person_id: int
    earliest_at: int
    margin_s: float


@dataclass(frozen=True, slots=True)
class ExchangeMachine:
    """A machine of the same model that could be brought instead; None: its way is not known."""

    device_id: str
    site_id: int
    distance_km: float | None
    travel_s: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What becomes of one promise. `person_id` is whom it was reckoned with; `margin_s` is negative where it fails.

    The reasons come with what costs the most time first; reasons and helps are empty where it will be kept.
    """

    clock: Clock
    outlook: Outlook
    person_id: int | None
    earliest_at: int | None
    margin_s: float | None
    reasons: tuple[Reason, ...] = ()
    others: tuple[OtherTechnician, ...] = ()
    exchanges: tuple[ExchangeMachine, ...] = ()


def foresee(
    job: Job, clocks: Sequence[Clock], assigned_id: int | None, technicians: Sequence[Technician],
    spares: Sequence[Spare], policy: Policy, now: int,
) -> list[Forecast]:  # fmt: skip
    """What becomes of each running clock that a person's coming stops, in the order given.

    `assigned_id`: who has the ticket (asked, accepted, or further).
    """
    foreseen = [clock for clock in clocks if clock.stop in FORESEEN]
    if not foreseen:
        return []
    given = [] if assigned_id is None else [_assigned(job, assigned_id, technicians, policy, now)]
    rest = propose(job, [one for one in technicians if one.person_id != assigned_id], policy, now)
    nearest = exchange_machines(job, spares, policy)
    return [_foreseen(clock, assigned_id, given, rest, nearest, policy, now) for clock in foreseen]


def _assigned(
    job: Job, person_id: int, technicians: Iterable[Technician], policy: Policy, now: int
) -> Candidate | Excluded:
    """Who has the ticket, though they may have declined it once. Of somebody who is not among the technicians no
    certificate is known (P1)."""
    for technician in technicians:
        if technician.person_id == person_id:
            return consider(replace(job, declines=()), technician, policy, now)
    return Excluded(person_id, (Reason(Code.NOT_CERTIFIED),))


def exchange_machines(job: Job, spares: Iterable[Spare], policy: Policy) -> tuple[ExchangeMachine, ...]:
    """The nearest machines of the job's model; those whose way is unknown come last."""
    found = []
    for spare in spares:
        if spare.profile == job.profile:
            km = None if spare.yard is None or job.site is None else distance_km(spare.yard, job.site)
            travel_s = None if km is None else policy.travel_s(km)
            found.append(ExchangeMachine(spare.device_id, spare.site_id, km, travel_s))
    found.sort(key=lambda one: (one.distance_km is None, one.distance_km or 0.0, one.device_id))
    return tuple(found[: policy.most_helps])


def _foreseen(
    clock: Clock, assigned_id: int | None, given: Sequence[Candidate | Excluded], rest: Proposal,
    nearest: tuple[ExchangeMachine, ...], policy: Policy, now: int,
) -> Forecast:  # fmt: skip
    candidates = [one for one in given if isinstance(one, Candidate)] if given else rest.ranked
    # Of those who are equally sure to make it, the one who would be proposed.
    one = min(candidates, key=lambda one: _chance(clock, one.reach, policy), default=None)
    earliest_at = _moment(clock, one.reach, policy)[0] if one else None
    made = _chance(clock, one.reach, policy) if one else Chance.MISSES_IT
    outlook = _outlook(clock, made, now)
    forecast = Forecast(
        clock,
        outlook,
        one.person_id if one else assigned_id,
        earliest_at,
        None if earliest_at is None else (clock.due_at - earliest_at) / 1000,
    )
    if outlook is Outlook.IN_TIME:
        return forecast
    reasons = _delays(clock, one.reach, policy, now) if one else _nobody(given, rest)
    others = _others(clock, rest, policy)
    # A machine that stands in for the broken one helps whoever waits for a repair, not the search for a technician.
    exchanges = nearest if clock.stop is Turn.REPAIR_BEGUN else ()
    return replace(forecast, reasons=tuple(reasons), others=others, exchanges=exchanges)


def _moment(clock: Clock, reach: Reach, policy: Policy) -> tuple[int | None, int]:
    """When this clock would be stopped, None where that is unknown; and before when certainly not."""
    if clock.stop is Turn.REPAIR_BEGUN:
        return reach.ready_at, reach.leave_at
    # To arrange takes a call and an answer, wherever they are and whatever they are at.
    answered_at = reach.on_duty_at + round(policy.answer_s * 1000)
    return answered_at, answered_at


def _chance(clock: Clock, reach: Reach, policy: Policy) -> Chance:
    return chance(*_moment(clock, reach, policy), clock.due_at, policy)


def _outlook(clock: Clock, made: Chance, now: int) -> Outlook:
    if clock.due_at <= now:
        return Outlook.MISSED
    return {Chance.MAKES_IT: Outlook.IN_TIME, Chance.UNKNOWN: Outlook.UNKNOWN}.get(made, Outlook.AT_RISK)


def _delays(clock: Clock, reach: Reach, policy: Policy, now: int) -> list[Reason]:
    """What keeps this promise from being kept in time: what is unknown, then what costs the most time."""
    repair = clock.stop is Turn.REPAIR_BEGUN
    unknown = [
        one for one in reach.reasons
        if repair and one.code in (Code.TECHNICIAN_POSITION_UNKNOWN, Code.SITE_POSITION_UNKNOWN)
    ]  # fmt: skip
    least_s = policy.answer_s + policy.reserve_s + (policy.set_up_s if repair else 0.0)
    left_s = (clock.due_at - now) / 1000
    little = [Reason(Code.LITTLE_TIME, s=max(left_s, 0.0))] if left_s < least_s else []
    taken = _on_the_way(reach, policy, now) if repair else _waiting(reach.on_duty_at, now)
    return unknown + little + sorted(taken, key=lambda one: -(one.s or 0.0))


def _on_the_way(reach: Reach, policy: Policy, now: int) -> Iterator[Reason]:
    busy = next((one for one in reach.reasons if one.code is Code.BUSY), None)
    if busy and reach.free_at > now:
        yield replace(busy, s=(reach.free_at - now) / 1000)
    ready_at = max(reach.free_at, now + round(policy.answer_s * 1000))
    yield from _waiting(reach.leave_at, ready_at)
    if reach.travel_s:
        yield Reason(Code.DISTANCE, km=reach.distance_km, s=reach.travel_s)


def _waiting(on_duty_at: int, from_at: int) -> Iterator[Reason]:
    if on_duty_at > from_at:
        yield Reason(Code.OFF_DUTY, at=on_duty_at, s=(on_duty_at - from_at) / 1000)


_CERTIFICATE = (Code.NOT_CERTIFIED, Code.CERTIFICATE_LAPSED, Code.CERTIFICATE_LAPSES)


def _nobody(given: Sequence[Candidate | Excluded], rest: Proposal) -> tuple[Reason, ...]:
    """Why there is nobody to reckon with: what is against who has it, or what all have in common."""
    if given:
        return given[0].reasons
    against = [{reason.code for reason in one.reasons} for one in rest.excluded]
    certified = [codes for codes in against if not codes.intersection(_CERTIFICATE)]
    if not certified:
        return (Reason(Code.NOBODY_CERTIFIED, count=len(against)),)
    off = all(Code.OFF_DUTY in codes for codes in certified)
    return (Reason(Code.NOBODY_ON_DUTY if off else Code.NOBODY_LEFT, count=len(certified)),)


def _others(clock: Clock, rest: Proposal, policy: Policy) -> tuple[OtherTechnician, ...]:
    """Who else would surely make it, those with the most to spare first."""
    found = []
    for one in rest.ranked:
        at, _ = _moment(clock, one.reach, policy)
        if at is not None and _chance(clock, one.reach, policy) is Chance.MAKES_IT:
            found.append(OtherTechnician(one.person_id, at, (clock.due_at - at) / 1000))
    found.sort(key=lambda one: (one.earliest_at, one.person_id))
    return tuple(found[: policy.most_helps])
