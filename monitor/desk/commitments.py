"""Commitments: what the service standard promises for a fault, as clocks with a due time. Pure.

Source: the fault rows R7, R8, R9 of the service standard, as `service_standard.toml` puts them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.resources import files
from typing import Literal, NamedTuple

import msgspec

from monitor.desk.working_time import Calendar
from monitor.devices import Severity


class Turn(StrEnum):
    """The turns of a ticket's life that start and stop clocks."""

    TICKET_OPENED = "ticket_opened"
    TECHNICIAN_ARRANGED = "technician_arranged"
    DIAGNOSIS_GIVEN = "diagnosis_given"
    REPAIR_BEGUN = "repair_begun"


class Clause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One promise of the standard: from which turn to which, within what time, and for which tickets.

    Its length is `length_s` of its calendar's time, or ends with the `length_days`-th working day.
    """

    standard_id: str
    kind: str
    start: Turn
    stop: Turn
    warn_before_s: float
    warns: tuple[str, ...]
    length_s: float | None = None
    length_days: int | None = None
    calendar: Literal["always", "working"] = "always"
    remote: bool | None = None
    severities: tuple[Severity, ...] = (Severity.EMERGENCY, Severity.URGENT)

    def __post_init__(self) -> None:
        if (self.length_s is None) == (self.length_days is None):
            raise ValueError(f"{self.standard_id} {self.kind}: one of length_s and length_days says how long it is")
        if self.length_days is not None and self.calendar != "working":
            raise ValueError(f"{self.standard_id} {self.kind}: length_days are working days, so calendar is working")
        if min(self.length_s or 1, self.length_days or 1) <= 0 or self.warn_before_s < 0:
            raise ValueError(f"{self.standard_id} {self.kind}: lengths must be positive")

    def concerns(self, severity: Severity, *, remote: bool) -> bool:
        return severity in self.severities and self.remote in (None, remote)


class Standard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"clauses": "commitment"}):
    """The service standard's fault clocks, in one version."""

    version: str
    clauses: tuple[Clause, ...]


def service_standard() -> Standard:
    """The standard that ships with the program."""
    text = files("monitor.desk").joinpath("service_standard.toml").read_bytes()
    return msgspec.toml.decode(text, type=Standard)


@dataclass(frozen=True, slots=True)
class Commitment:
    """A clock of one ticket. `…_at` are epoch ms UTC; None: has not happened.

    What was promised stands in it whole, so that a changed standard changes nothing of it. `turn` counts how often the
    ticket was opened: a reopened one promises anew. While the customer keeps us waiting (`paused_since`), `due_at` is
    when it would be due if the pause were over at once.
    """

    ticket_id: int
    standard_id: str
    kind: str
    started_at: int
    due_at: int
    warn_before_s: float
    warned_at: int | None = None
    met_at: int | None = None
    breached_at: int | None = None
    voided_at: int | None = None
    stop: str = ""
    length_s: float | None = None
    length_days: int | None = None
    calendar: str = "always"
    timezone: str = "UTC"
    warns: tuple[str, ...] = ()
    turn: int = 0
    paused_since: int | None = None

    @property
    def running(self) -> bool:
        return self.met_at is None and self.voided_at is None


class Turned(NamedTuple):
    """A turn that a ticket took, or (`taken_back`) lost again. Times are epoch ms UTC."""

    turn: Turn
    happened_at: int
    recorded_at: int
    taken_back: bool = False


class Pause(NamedTuple):
    """A ticket waited, from one moment to another (None: it still does). Only reasons on the customer's side stop its
    clocks."""

    from_at: int
    to_at: int | None
    reason: str
    actor: str
    stops_clocks: bool
    until_at: int | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """All that the clocks of a ticket depend on, since it was opened or last reopened."""

    turned: tuple[Turned, ...] = ()
    pauses: tuple[Pause, ...] = ()
    ended_at: int | None = None
    """When it was closed, cancelled or merged."""


class Part(NamedTuple):
    """One step of how a due time came about: from when to when the clock ran, or stood still (`reason`)."""

    from_at: int
    to_at: int
    ran_ms: int
    reason: str = ""
    actor: str = ""


def promised(
    standard: Standard, ticket_id: int, severity: Severity, calendar: Callable[[str], Calendar], *, on_hire: bool,
    remote: bool, opened_at: int, timezone: str = "UTC", turn: int = 0,
) -> list[Commitment]:  # fmt: skip
    """The clocks that start when a ticket opens. A machine that is not on hire carries none (R7 to R9)."""
    if not on_hire:
        return []
    return [
        _begun(clause, ticket_id, calendar(clause.calendar), opened_at, timezone, turn)
        for clause in standard.clauses
        if clause.start is Turn.TICKET_OPENED and clause.concerns(severity, remote=remote)
    ]


def _begun(clause: Clause, ticket_id: int, calendar: Calendar, opened_at: int, timezone: str, turn: int) -> Commitment:
    begun = Commitment(
        ticket_id, clause.standard_id, clause.kind, opened_at, opened_at, clause.warn_before_s, stop=clause.stop,
        length_s=clause.length_s, length_days=clause.length_days, calendar=clause.calendar, timezone=timezone,
        warns=clause.warns, turn=turn,
    )  # fmt: skip
    return reckon(begun, Ledger(), calendar)


def reckon(commitment: Commitment, ledger: Ledger, calendar: Calendar) -> Commitment:
    """This clock as the ledger alone has it: when it is due, met or void. What was noted of it (`warned_at`, a breach
    that is still true) stays; a breach that is not true any more is gone, and the desk keeps it as an amendment."""
    due_at, paused_since = _due(commitment, ledger, calendar)
    met_at = _met_at(commitment, ledger)
    in_time = met_at is not None and met_at <= due_at
    ended_at = ledger.ended_at if met_at is None else None
    voided_at = ended_at if ended_at is not None and (ended_at < due_at or paused_since is not None) else None
    true_still = commitment.breached_at == due_at and not in_time and voided_at is None and paused_since is None
    return replace(
        commitment, due_at=due_at, met_at=met_at, voided_at=voided_at,
        paused_since=paused_since if met_at is None and voided_at is None else None,
        breached_at=due_at if true_still else None,
        warned_at=commitment.warned_at if due_at <= commitment.due_at else None,
    )  # fmt: skip


def _due(commitment: Commitment, ledger: Ledger, calendar: Calendar) -> tuple[int, int | None]:
    """When it is due, and since when it stands still, if it does."""
    due_at = explain(commitment, ledger, calendar)[-1].to_at
    standing = next((one for one in ledger.pauses if one.to_at is None and one.stops_clocks), None)
    since = max(standing.from_at, commitment.started_at) if standing else due_at
    return due_at, since if since < due_at else None


def explain(commitment: Commitment, ledger: Ledger, calendar: Calendar) -> list[Part]:
    """How the due time came about, step by step: the spans in which the clock ran, and those in which it stood."""
    parts: list[Part] = []
    at, left_ms = commitment.started_at, None if commitment.length_s is None else round(commitment.length_s * 1000)
    for pause in ledger.pauses:
        from_at = max(pause.from_at, at)
        over = pause.to_at is not None and pause.to_at <= from_at
        if not pause.stops_clocks or over or _end(commitment, calendar, at, left_ms, parts) <= from_at:
            continue
        ran_ms = calendar.between(at, from_at)
        parts.append(Part(at, from_at, ran_ms))
        left_ms = None if left_ms is None else left_ms - ran_ms
        at = from_at if pause.to_at is None else pause.to_at
        parts.append(Part(from_at, at, 0, pause.reason, pause.actor))
    due_at = _end(commitment, calendar, at, left_ms, parts)
    return [*parts, Part(at, due_at, calendar.between(at, due_at))]


def _end(commitment: Commitment, calendar: Calendar, at: int, left_ms: int | None, parts: Sequence[Part]) -> int:
    """When a clock that goes on at this moment is due. Working days are counted from the first, and what it stood still
    is added."""
    if left_ms is not None:
        return calendar.after(at, left_ms)
    stood_ms = sum(calendar.between(part.from_at, part.to_at) for part in parts if part.reason)
    return calendar.after(calendar.days_after(commitment.started_at, commitment.length_days or 1), stood_ms)


def _met_at(commitment: Commitment, ledger: Ledger) -> int | None:
    met_at = None
    for turned in ledger.turned:
        # Once nothing is promised any more, nothing keeps a promise.
        in_force = ledger.ended_at is None or turned.happened_at <= ledger.ended_at
        if turned.turn == commitment.stop and in_force:
            # What happened first may well be recorded last.
            earlier = turned.happened_at if met_at is None else met_at
            met_at = None if turned.taken_back else min(turned.happened_at, earlier)
    # What had happened before it was promised was kept from the first.
    return None if met_at is None else max(met_at, commitment.started_at)


class Crossing(StrEnum):
    """What a running clock runs into."""

    WARNING = "warning"
    BREACH = "breach"


def next_at(commitment: Commitment) -> int | None:
    """When this clock runs into something next that nobody has noted yet (epoch ms); None where nothing is to come."""
    return next((moment for _, moment in _ahead(commitment)), None)


def crossings(commitment: Commitment, now: int) -> Iterator[tuple[Crossing, int]]:
    """What this clock has run into until `now` and nobody has noted yet, each with its own moment, the first first.

    A tick that comes late reports the same crossings as ticks that came in time: a breach is stamped `due_at`.
    A warning that the breach has overtaken is still reported, so that the record is whole.
    """
    return ((what, moment) for what, moment in _ahead(commitment) if moment <= now)


def _ahead(commitment: Commitment) -> Iterator[tuple[Crossing, int]]:
    if not commitment.running or commitment.paused_since is not None:
        return
    if commitment.warned_at is None:
        yield Crossing.WARNING, commitment.due_at - round(commitment.warn_before_s * 1000)
    if commitment.breached_at is None:
        yield Crossing.BREACH, commitment.due_at
