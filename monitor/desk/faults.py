"""From a finding to a fault and its ticket: what opens, what joins, what clears. Pure."""

from dataclasses import dataclass
from typing import Any

from monitor.devices import DEFAULT_SEVERITY, FaultKind, Severity

Key = tuple[str, str]
"""(kind, subject): with the device it names a fault while that is open."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the desk knows of a machine when a finding comes in. Values are row ids."""

    device_id: str
    site_id: int | None
    remote: bool
    rental_id: int | None
    customer_id: int | None
    open_faults: dict[Key, int]
    open_tickets: dict[Key, int]

    @property
    def on_hire(self) -> bool:
        return self.rental_id is not None


@dataclass(frozen=True, slots=True)
class Opening:
    """A fault that opens, and its ticket: one to join, or a new one, or none where it deserves none."""

    severity: Severity
    joins_ticket: int | None
    opens_ticket: bool


def severity_of(kind: FaultKind, found: Severity | None, *, on_hire: bool) -> Severity:
    """How much a fault matters: as the detector says, else by its kind.

    What is an emergency on hire is urgent in the yard: nobody stands before a dead machine there (R9 speaks of
    customers), but the machine is bad all the same (E1).
    """
    severity = found or DEFAULT_SEVERITY[kind]
    return Severity.URGENT if severity is Severity.EMERGENCY and not on_hire else severity


def opening(kind: FaultKind, subject: str, found: Severity | None, standing: Standing) -> Opening | None:
    """What a finding opens; None where the same fault is open already (it joins that one, and nothing changes)."""
    if (kind, subject) in standing.open_faults:
        return None
    severity = severity_of(kind, found, on_hire=standing.on_hire)
    joins = standing.open_tickets.get((kind, subject))
    dead = (FaultKind.STARTUP_FAILURE, "")
    if joins is None and kind is FaultKind.SILENT and dead in standing.open_faults:
        # A machine that failed to start and then fell silent is one job for one technician.
        joins = standing.open_tickets.get(dead)
    return Opening(severity, joins, opens_ticket=joins is None and severity is not Severity.NOTE)


Evidence = dict[str, Any]
"""Facts for people, as JSON. Its keys are those of monitor.detect."""
