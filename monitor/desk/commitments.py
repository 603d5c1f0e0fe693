"""Commitments: what the service standard promises for a fault, as clocks with a due time. Pure.

Source: the fault rows R7, R8, R9 of the service standard, as `service_standard.toml` puts them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Literal

import msgspec

from monitor.devices import Severity


class Turn(StrEnum):
    """The turns of a ticket's life that start and stop clocks."""

    TICKET_OPENED = "ticket_opened"
    TECHNICIAN_ARRANGED = "technician_arranged"
    DIAGNOSIS_GIVEN = "diagnosis_given"
    REPAIR_BEGUN = "repair_begun"


class Clause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One promise of the standard: from which turn to which, within what time, and for which tickets."""

    standard_id: str
    kind: str
    start: Turn
    stop: Turn
    length_s: float
    calendar: Literal["always"]
    warn_before_s: float
    warns: tuple[str, ...]
    remote: bool | None = None
    severities: tuple[Severity, ...] = (Severity.EMERGENCY, Severity.URGENT)

    def concerns(self, severity: Severity, *, remote: bool) -> bool:
        return severity in self.severities and self.remote in (None, remote)


class Standard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"clauses": "commitment"}):
    """The service standard's fault clocks, in one version."""

    version: str
    clauses: tuple[Clause, ...]

    def warns(self, standard_id: str, kind: str) -> tuple[str, ...]:
        """The roles that are warned before this promise is broken; none where this version has no such clause."""
        found = (one.warns for one in self.clauses if (one.standard_id, one.kind) == (standard_id, kind))
        return next(found, ())


def service_standard() -> Standard:
    """The standard that ships with the program."""
    text = files("monitor.desk").joinpath("service_standard.toml").read_bytes()
    return msgspec.toml.decode(text, type=Standard)


@dataclass(frozen=True, slots=True)
class Commitment:
    """A clock of one ticket. `…_at` are epoch ms UTC; None: has not happened."""

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

    @property
    def running(self) -> bool:
        return self.met_at is None and self.voided_at is None


def promised(
    standard: Standard, ticket_id: int, severity: Severity, *, on_hire: bool, remote: bool, opened_at: int
) -> list[Commitment]:
    """The clocks that start when a ticket opens. A machine that is not on hire carries none (R7 to R9)."""
    if not on_hire:
        return []
    return [
        Commitment(
            ticket_id, clause.standard_id, clause.kind, opened_at,
            opened_at + round(clause.length_s * 1000), clause.warn_before_s,
        )
        for clause in standard.clauses
        if clause.start is Turn.TICKET_OPENED and clause.concerns(severity, remote=remote)
    ]  # fmt: skip


class Crossing(StrEnum):
    """What a running clock runs into."""

    WARNING = "warning"
    BREACH = "breach"


def crossings(commitment: Commitment, now: int) -> Iterator[tuple[Crossing, int]]:
    """What this clock has run into until `now` and nobody has noted yet, each with its own moment.

    A tick that comes late reports the same crossings as ticks that came in time: a breach is stamped `due_at`.
    A warning that the breach has overtaken is still reported, so that the record is whole.
    """
    if not commitment.running:
        return
    warn_at = commitment.due_at - round(commitment.warn_before_s * 1000)
    if commitment.warned_at is None and warn_at <= now:
        yield Crossing.WARNING, warn_at
    if commitment.breached_at is None and commitment.due_at <= now:
        yield Crossing.BREACH, commitment.due_at


def stopped_by(standard: Standard, turns: Sequence[Turn]) -> set[str]:
    """The kinds of commitment that these turns of a ticket meet."""
    return {clause.kind for clause in standard.clauses if clause.stop in turns}
