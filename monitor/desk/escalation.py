"""Escalation: who is asked to take a ticket, who next, and when an acceptance that leads nowhere expires. Pure.

The policy stands in `escalation.toml`. A **round** is one search for somebody: it begins when the ticket opens, is
raised, is dispatched by a person, is withdrawn or goes on after a wait, and ends with an acceptance. Within a round the
levels of a ladder follow one another, each at a moment that depends on the ladder and the answers alone; a look that
comes late makes the moves of looks that came in time, but asks nobody for a level that is over.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Annotated

import msgspec

from monitor.devices import Severity

Seconds = Annotated[float, msgspec.Meta(gt=0, le=30 * 86400)]

NAMED = 0
"""The level of a person whom an operator has named; the levels of a ladder count from 1."""


# --- the policy ----------------------------------------------------------------------------------------------------


class Who(StrEnum):
    """Whom a level concerns. The first three are asked for an answer, the others are told."""

    NAMED = "named"
    NEXT = "next"
    ON_CALL = "on_call"
    OPS = "ops"
    MANAGER = "manager"

    @property
    def is_asked(self) -> bool:
        return self not in (Who.OPS, Who.MANAGER)


class Start(StrEnum):
    """What sets a ladder going."""

    OPENING = "opening"
    DISPATCH = "dispatch"


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step of a ladder. `wait_s` None: the last one, which does not end by itself."""

    who: Who
    wait_s: Seconds | None = None


class Ladder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"levels": "level"}):
    """The levels for tickets of these severities, on hire or not (None: either).

    `auto_dispatch` False: nobody is asked before a person has named somebody. Operators are told in the place of the
    first level that asks, and the others that ask are left out.
    """

    severities: tuple[Severity, ...]
    starts: Start
    named_answer_s: Seconds
    levels: Annotated[tuple[Level, ...], msgspec.Meta(min_length=1, max_length=20)]
    on_hire: bool | None = None
    auto_dispatch: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError where somebody could wait for ever, or nobody in charge would hear of it."""
        *before, last = self.levels
        told = (Who.MANAGER,) if any(one.makes_bad for one in self.severities) else (Who.OPS, Who.MANAGER)
        if last.who not in told or last.wait_s is not None:
            raise ValueError(f"the last level tells {' or '.join(told)} and has no wait_s")
        if any(level.wait_s is None or level.who is Who.NAMED for level in before):
            raise ValueError("every level before the last has a wait_s, and who is next, on_call, ops or manager")

    def climbed(self, *, named: bool) -> Iterator[tuple[int, Level]]:
        """The levels that are climbed, with their numbers; `named`: somebody was named in this round."""
        told = False
        for number, level in enumerate(self.levels, NAMED + 1):
            if self.auto_dispatch or named or not level.who.is_asked:
                yield number, level
            elif not told:
                told = True
                yield number, Level(Who.OPS, level.wait_s)

    def fits(self, severity: Severity, *, on_hire: bool) -> bool:
        return severity in self.severities and self.on_hire in (None, on_hire)


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How soon somebody who has accepted must be on the way, and then on site; and how long before that they are
    reminded."""

    severities: tuple[Severity, ...]
    depart_within_s: Seconds
    arrive_within_s: Seconds
    remind_before_s: Seconds


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"ladders": "ladder"}):
    """The escalation, in one version (escalation.toml)."""

    version: str
    most_asked: Annotated[int, msgspec.Meta(ge=1, le=200)]
    travel_factor: Annotated[float, msgspec.Meta(ge=1, le=10)]
    ladders: tuple[Ladder, ...]
    progress: tuple[Progress, ...]

    def __post_init__(self) -> None:
        """Raises ValueError where a ticket that pages has no ladder that begins with it."""
        for severity in (one for one in Severity if one.makes_bad):
            for on_hire in (True, False):
                ladder = self.ladder(severity, on_hire=on_hire)
                if ladder is None or ladder.starts is not Start.OPENING:
                    where = "on hire" if on_hire else "in the yard"
                    raise ValueError(f"no ladder starts when a ticket opens: {severity}, {where}")

    def ladder(self, severity: Severity, *, on_hire: bool) -> Ladder | None:
        return next((one for one in self.ladders if one.fits(severity, on_hire=on_hire)), None)

    def progress_of(self, severity: Severity) -> Progress | None:
        return next((one for one in self.progress if severity in one.severities), None)


def read_policy(text: bytes) -> Policy:
    """A policy from its TOML. Raises msgspec.ValidationError, which says what is wrong and where."""
    return msgspec.toml.decode(text, type=Policy)


@cache
def shipped_policy() -> Policy:
    """The escalation that ships with the program."""
    return read_policy(files("monitor.desk").joinpath("escalation.toml").read_bytes())


# --- what is known of a ticket, and what was done ------------------------------------------------------------------


class Phase(StrEnum):
    """How far a ticket is, as far as paging goes."""

    SEEKING = "seeking"
    """Open, verified or dispatched: nobody has accepted."""
    ACCEPTED = "accepted"
    ON_THE_WAY = "on_the_way"
    STOPPED = "stopped"
    """On site or further, waiting, closed, cancelled or merged: nobody is paged."""


@dataclass(frozen=True, slots=True)
class Job:
    """What paging needs to know of a ticket.

    `since_at`: when its phase began; while seeking, from when on people may be asked. `proposed`: the ranked proposal,
    best first; `on_call`: who is on call now. `named_id`: whom an operator dispatched in this round. `visit_at`: the
    beginning of an agreed visit; `travel_s`: how long the way takes, where that is known.
    """

    ticket_id: int
    severity: Severity
    on_hire: bool
    phase: Phase
    round: int
    since_at: int
    proposed: tuple[int, ...] = ()
    on_call: tuple[int, ...] = ()
    named_id: int | None = None
    technician_id: int | None = None
    visit_at: int | None = None
    travel_s: float | None = None

    def sought_again(self, at: int, named_id: int | None = None) -> "Job":
        """The ticket in its next round: its acceptance was withdrawn or has expired, or a person dispatched anew."""
        return replace(
            self, phase=Phase.SEEKING, round=self.round + 1, since_at=at, named_id=named_id, technician_id=None
        )  # fmt: skip


class What(StrEnum):
    """What a move does. Each stands at most once for a round, level and person."""

    ASK = "ask"
    TELL = "tell"
    SKIP_LATE = "skip_late"
    """The level was over before anybody looked."""
    SKIP_NOBODY = "skip_nobody"
    """There was nobody to ask, or nobody else."""
    REMIND_TO_DEPART = "remind_to_depart"
    REMIND_TO_ARRIVE = "remind_to_arrive"
    EXPIRE = "expire"
    """The acceptance is withdrawn: the ticket is offered again, its clocks run on with their original due times."""


@dataclass(frozen=True, slots=True)
class Move:
    """One move of paging, to be made or made already (then a row, with when it was declined).

    `due_at`: when its moment was, whenever it was made. `person_id`: who is asked, is reminded or loses the ticket.
    `until_at`: until when an answer, or progress, is expected; None: it does not end by itself.
    """

    round: int
    level: int
    what: What
    due_at: int
    who: Who | None = None
    person_id: int | None = None
    until_at: int | None = None
    declined_at: int | None = None


# --- what comes next -----------------------------------------------------------------------------------------------


def next_moves(job: Job, made: Sequence[Move], policy: Policy, now: int) -> list[Move]:
    """What is to be done now, oldest first; `made` are all moves of this ticket so far, of earlier rounds too.

    Save what this answers together with its notices: asked again with it in `made`, it answers nothing. After an EXPIRE
    the ticket is sought again as of that move's `due_at` (`Job.sought_again`), and this is to be asked once more.
    """
    new: list[Move] = []
    while (found := _next(job, [*made, *new], policy)) is not None and found.due_at <= now:
        new += found.moves(job, [*made, *new], policy, now)
    return new


def next_at(job: Job, made: Sequence[Move], policy: Policy) -> int | None:
    """When this ticket needs to be looked at again (ms; maybe past already); None: not before something happens."""
    found = _next(job, made, policy)
    return found.due_at if found else None


def unanswered(job: Job, made: Sequence[Move]) -> list[int]:
    """Who was asked in this round and has not declined: they hear it when somebody else took the ticket."""
    asked = [move for move in made if move.round == job.round and move.what is What.ASK]
    declined = {move.person_id for move in asked if move.declined_at is not None}
    people = (move.person_id for move in asked if move.person_id is not None)
    return [one for one in _each_once(people) if one not in declined]


@dataclass(frozen=True, slots=True)
class _Rung:
    """A level whose moment is known."""

    number: int
    level: Level
    due_at: int

    @property
    def until_at(self) -> int | None:
        return None if self.level.wait_s is None else self.due_at + round(self.level.wait_s * 1000)

    def moves(self, job: Job, made: Sequence[Move], policy: Policy, now: int) -> list[Move]:
        if not self.level.who.is_asked:
            return [self._move(job, What.TELL), *self._caught_up(job, made, policy)]
        people = _people(self.level.who, job, made)[: policy.most_asked]
        if not people:
            return [self._move(job, What.SKIP_NOBODY)]
        if self.until_at is not None and self.until_at <= now:
            return [self._move(job, What.SKIP_LATE)]
        return [self._move(job, What.ASK, one) for one in people]

    def _caught_up(self, job: Job, made: Sequence[Move], policy: Policy) -> list[Move]:
        """Whoever is on call and was not asked, where a level was slept over: nobody who is told must be the only one
        who knows."""
        here = [move for move in made if move.round == job.round]
        if not any(move.what is What.SKIP_LATE for move in here):
            return []
        asked = {move.person_id for move in here if move.what is What.ASK}
        people = [one for one in _people(Who.ON_CALL if job.on_call else Who.NEXT, job, made) if one not in asked]
        return [self._move(job, What.ASK, one) for one in people[: policy.most_asked]]

    def _move(self, job: Job, what: What, person_id: int | None = None) -> Move:
        return Move(job.round, self.number, what, self.due_at, self.level.who, person_id, self.until_at)


@dataclass(frozen=True, slots=True)
class _Leg:
    """A reminder that is due, or the end of an acceptance."""

    what: What
    due_at: int
    expires_at: int

    def moves(self, job: Job, _made: Sequence[Move], _policy: Policy, now: int) -> list[Move]:
        late = self.expires_at <= now
        what, due_at = (What.EXPIRE, self.expires_at) if late else (self.what, self.due_at)
        return [Move(job.round, NAMED, what, due_at, person_id=job.technician_id, until_at=self.expires_at)]


def _next(job: Job, made: Sequence[Move], policy: Policy) -> _Rung | _Leg | None:
    here = [move for move in made if move.round == job.round]
    if job.phase is Phase.SEEKING:
        return _next_rung(job, here, policy)
    if job.phase in (Phase.ACCEPTED, Phase.ON_THE_WAY):
        return _next_leg(job, here, policy)
    return None


def _next_rung(job: Job, here: Sequence[Move], policy: Policy) -> _Rung | None:
    due_at = job.since_at
    for number, level in _levels(job, policy):
        moves = [move for move in here if move.level == number]
        if not moves:
            return _Rung(number, level, due_at)
        over_at = _over_at(moves)
        if over_at is None:
            return None
        due_at = over_at
    return None


def _levels(job: Job, policy: Policy) -> Iterator[tuple[int, Level]]:
    ladder = policy.ladder(job.severity, on_hire=job.on_hire)
    if ladder is None or (ladder.starts is Start.DISPATCH and job.named_id is None):
        return
    if job.named_id is not None:
        yield NAMED, Level(Who.NAMED, ladder.named_answer_s)
    yield from ladder.climbed(named=job.named_id is not None)


def _over_at(moves: Sequence[Move]) -> int | None:
    """When a level is over: at once where nobody was there to ask, or all who were asked have declined; else after its
    wait. What was saved counts, so that an answer that is noted late moves no later level."""
    first = moves[0]
    if first.what is What.SKIP_NOBODY:
        return first.due_at
    declined = [move.declined_at for move in moves if move.declined_at is not None]
    if len(declined) < len(moves):
        return first.until_at
    last_at = max(first.due_at, *declined)
    return last_at if first.until_at is None else min(last_at, first.until_at)


def _people(who: Who, job: Job, made: Sequence[Move]) -> list[int]:
    """Who is asked at such a level, best first."""
    here = [move for move in made if move.round == job.round and move.what is What.ASK]
    if who is Who.NAMED:
        return [] if job.named_id is None else [job.named_id]
    if who is Who.ON_CALL:
        declined = {move.person_id for move in here if move.declined_at is not None}
        return [one for one in _each_once(job.on_call) if one not in declined]
    asked = {move.person_id for move in here}
    unwilling = {move.person_id for move in made if move.declined_at is not None or move.what is What.EXPIRE}
    left = [one for one in _each_once(job.proposed) if one not in asked]
    # Whoever gave this ticket back comes after everybody else.
    return sorted(left, key=unwilling.__contains__)[:1]


def _each_once(people: Iterable[int]) -> list[int]:
    return list(dict.fromkeys(people))


def _next_leg(job: Job, here: Sequence[Move], policy: Policy) -> _Leg | None:
    done = {move.what for move in here}
    progress = policy.progress_of(job.severity)
    if progress is None or What.EXPIRE in done:
        return None
    leaving = job.phase is Phase.ACCEPTED
    travel_s = policy.travel_factor * (job.travel_s or 0)
    within_s = progress.depart_within_s if leaving else max(progress.arrive_within_s, travel_s)
    expires_at = max(job.since_at + round(within_s * 1000), job.visit_at or 0)
    remind = What.REMIND_TO_DEPART if leaving else What.REMIND_TO_ARRIVE
    if remind in done:
        return _Leg(What.EXPIRE, expires_at, expires_at)
    return _Leg(remind, max(job.since_at, expires_at - round(progress.remind_before_s * 1000)), expires_at)
