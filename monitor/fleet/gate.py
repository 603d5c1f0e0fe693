"""The hand-over gate (E2, E3): whether a machine may go to its customer, and all that stands in the way. Pure; the
numbers stand in gate.toml.

Every obstacle is named at once: who is told one after the other drives to the yard four times.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.resources import files

import msgspec

MINUTE_MS, HOUR_MS = 60_000, 3_600_000

Facts = dict[str, int | str]
"""What an obstacle names, for people and for the record; times end in `_at`."""


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gate, in one version (gate.toml)."""

    version: str
    inspection_h: float
    self_test_min: float
    heard_min: float
    ahead_h: float
    return_inspection_h: float
    recorded_within_h: float


@cache
def shipped_policy() -> Policy:
    """The gate that ships with the program."""
    return msgspec.toml.decode(files("monitor.fleet").joinpath("gate.toml").read_bytes(), type=Policy)


class Code(StrEnum):
    """What can stand in the way."""

    HANDED_OVER = "handed_over"
    RENTAL_OVER = "rental_over"
    TOO_EARLY = "too_early"
    RETIRED = "retired"
    CUT_OFF = "cut_off"
    ON_HIRE = "on_hire"
    IN_WINDOW = "in_window"
    NO_INSPECTION = "no_inspection"
    INSPECTION_OLD = "inspection_old"
    INSPECTION_FAILED = "inspection_failed"
    MAINTENANCE_OVERDUE = "maintenance_overdue"
    CRITICAL_FAULT = "critical_fault"
    NO_SELF_TEST = "no_self_test"
    SELF_TEST_FAILED = "self_test_failed"
    NOT_HEARD = "not_heard"


# In which order what stands in the way is best cleared: what cannot be helped first, the self-test last, for its answer
# counts for minutes; it is a sign of life as well.
FIRST_THINGS_FIRST = (
    Code.HANDED_OVER, Code.RETIRED, Code.RENTAL_OVER, Code.TOO_EARLY, Code.ON_HIRE, Code.CUT_OFF, Code.IN_WINDOW,
    Code.CRITICAL_FAULT, Code.MAINTENANCE_OVERDUE, Code.NO_INSPECTION, Code.INSPECTION_OLD, Code.INSPECTION_FAILED,
    Code.NO_SELF_TEST, Code.SELF_TEST_FAILED, Code.NOT_HEARD,
)  # fmt: skip


class Stands(StrEnum):
    """How a rental stands: agreed for later, to be handed over, out, over and not back, back, or over and never went
    out."""

    COMING = "coming"
    WAITING = "waiting"
    OUT = "out"
    OVER = "over"
    BACK = "back"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One thing that stands in the way, with what it is about."""

    code: Code
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inspected:
    """An inspection of the machine, as far as the gate asks."""

    id: int
    at: int
    passed: bool


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The newest self-test that the machine answered."""

    command_id: str
    answered_at: int
    ok: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """What the record says of a machine that is to be handed over, and of the rental that it is for.

    `since_at`: when it last left or came back by another rental, or was added. `for_hand_over` and `newest`: of the
    inspections since then that were not voided the newest for a hand-over, and the newest of any kind. `live_at`: when
    its newest live telemetry came.
    """

    rental_id: int
    starts_at: int
    ends_at: int | None
    handed_over_at: int | None
    since_at: int
    retired_at: int | None = None
    revoked_at: int | None = None
    for_hand_over: Inspected | None = None
    newest: Inspected | None = None
    self_test: SelfTest | None = None
    live_at: int | None = None
    other_rental_id: int | None = None
    """Another rental by which the machine is out, or that runs now."""
    windows: tuple[Facts, ...] = ()
    overdue: tuple[Facts, ...] = ()
    faults: tuple[Facts, ...] = ()


def stands(
    starts_at: int, ends_at: int | None, handed_over_at: int | None, returned_at: int | None, now: int
) -> Stands:  # fmt: skip
    """How a rental stands now, as far as it says itself. Times are epoch ms UTC."""
    if returned_at is not None:
        return Stands.BACK
    if ends_at is not None and ends_at <= now:
        return Stands.NEVER if handed_over_at is None else Stands.OVER
    if handed_over_at is not None:
        return Stands.OUT
    return Stands.COMING if starts_at > now else Stands.WAITING


def first(found: Sequence[Obstacle]) -> Obstacle | None:
    """What is best cleared first of all that stands in the way."""
    return min(found, key=lambda one: FIRST_THINGS_FIRST.index(one.code), default=None)


def obstacles(standing: Standing, policy: Policy, now: int) -> tuple[Obstacle, ...]:
    """All that stands in the way of handing the machine over now; none: it may go."""
    if standing.handed_over_at is not None:
        # What the machine is like now is no question of this hand-over any more.
        facts: Facts = {"rental_id": standing.rental_id, "handed_over_at": standing.handed_over_at}
        return (Obstacle(Code.HANDED_OVER, facts),)
    return (
        *_rental(standing, policy, now),
        *_machine(standing),
        *_inspection(standing, policy, now),
        *(Obstacle(Code.MAINTENANCE_OVERDUE, facts) for facts in standing.overdue),
        *(Obstacle(Code.CRITICAL_FAULT, facts) for facts in standing.faults),
        *_life(standing, policy, now),
    )


def _rental(standing: Standing, policy: Policy, now: int) -> Iterator[Obstacle]:
    if standing.ends_at is not None and standing.ends_at <= now:
        yield Obstacle(Code.RENTAL_OVER, {"rental_id": standing.rental_id, "ends_at": standing.ends_at})
    elif standing.starts_at - now > policy.ahead_h * HOUR_MS:
        yield Obstacle(Code.TOO_EARLY, {"rental_id": standing.rental_id, "starts_at": standing.starts_at})


def _machine(standing: Standing) -> Iterator[Obstacle]:
    if standing.retired_at is not None:
        yield Obstacle(Code.RETIRED, {"retired_at": standing.retired_at})
    if standing.revoked_at is not None:
        yield Obstacle(Code.CUT_OFF, {"revoked_at": standing.revoked_at})
    if standing.other_rental_id is not None:
        yield Obstacle(Code.ON_HIRE, {"rental_id": standing.other_rental_id})
    yield from (Obstacle(Code.IN_WINDOW, facts) for facts in standing.windows)


def _inspection(standing: Standing, policy: Policy, now: int) -> Iterator[Obstacle]:
    """E2: the newest inspection for a hand-over was passed, lately, and nothing that was found since speaks against
    it."""
    last, newest = standing.for_hand_over, standing.newest
    failed = next((one for one in (last, newest) if one is not None and not one.passed), None)
    if last is None:
        yield Obstacle(Code.NO_INSPECTION, {"since_at": standing.since_at})
    elif last.passed and now - last.at > policy.inspection_h * HOUR_MS:
        yield Obstacle(Code.INSPECTION_OLD, {"inspection_id": last.id, "inspected_at": last.at})
    if failed is not None:
        yield Obstacle(Code.INSPECTION_FAILED, {"inspection_id": failed.id, "inspected_at": failed.at})


def _life(standing: Standing, policy: Policy, now: int) -> Iterator[Obstacle]:
    """E3: the machine has just answered a self-test, and still sends. An answer is a sign of life as well."""
    test = standing.self_test
    if test is None or now - test.answered_at > policy.self_test_min * MINUTE_MS:
        facts: Facts = {} if test is None else {"command_id": test.command_id, "answered_at": test.answered_at}
        yield Obstacle(Code.NO_SELF_TEST, facts)
    elif not test.ok:
        facts = {"command_id": test.command_id, "answered_at": test.answered_at}
        yield Obstacle(Code.SELF_TEST_FAILED, facts)
    signs = (standing.live_at, None if test is None else test.answered_at)
    heard_at = max((at for at in signs if at is not None), default=None)
    if heard_at is None or now - heard_at > policy.heard_min * MINUTE_MS:
        yield Obstacle(Code.NOT_HEARD, {} if heard_at is None else {"last_heard_at": heard_at})
