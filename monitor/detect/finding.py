"""What a detector has to say: that a condition began, or that it ended, with the facts for people."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypedDict

from monitor.devices import FaultKind, Severity


class Reason(StrEnum):
    """Why a finding was made, where its kind alone does not say it."""

    TIMEOUT = "timeout"
    """It cranked, and was not running within the profile's time."""
    NEVER_ATTEMPTED = "never_attempted"
    """A start was requested and data went on, but it never cranked."""
    NO_SIGNAL = "no_signal"
    """Nothing was heard after the start."""
    START_FAILED = "start_failed"
    """The machine says so itself."""
    FAULT_STATE = "fault_state"
    """It went into state fault while starting."""
    ATTEMPTS = "attempts"
    """Attempt after attempt without running in between."""
    BOOT_LOOP = "boot_loop"
    """Its controller boots again and again without having run steadily."""
    LOST = "lost"
    """The broker sent its last will."""
    MISSED_REPORTS = "missed_reports"
    """Three reports in a row did not come."""
    CLOCK_AHEAD = "clock_ahead"
    CLOCK_BEHIND = "clock_behind"
    SENSOR_REMOVED = "sensor_removed"
    """The profile no longer has this sensor, so nothing can be said of it."""


class Sign(TypedDict):
    """How far one channel stood from what this machine had taught."""

    sensor: str
    value: float
    expected: float
    sigma: float


class Evidence(TypedDict, total=False):
    """The facts of a finding, as JSON takes them. Each kind fills in its own part."""

    reason: Reason
    since_at: int
    # what a sensor should have shown, for whatever judges by an expectation
    expected: float
    band: tuple[float, float]
    # limit
    value: float
    limit: float
    side: str
    hold_s: float
    unit: str
    # startup_failure
    requested_at: int
    attempts: int
    boots: int
    cranked: bool
    battery_crank_low: float
    battery_last: float
    fuel_last: float
    # fault_code
    code: str
    spn: int
    fmi: int
    text: str
    lamp: str
    # silent
    last_heard_at: int
    # wrong_clock
    lag_s: float
    # anomaly
    score: float
    threshold: float
    signs: list[Sign]


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition of one machine that began (`opened`) or ended.

    `occurred_at` is the device's clock, in ms; for `silent` and `wrong_clock`, which are seen from here and not from
    there, it is the server's. `severity` None means the default of the kind. `confidence` (0 to 1) is how sure the
    rule is that this is what it says; what the machine says itself, and what a profile forbids, is certain.
    """

    device_id: str
    kind: FaultKind
    subject: str
    opened: bool
    occurred_at: int
    rule: str
    severity: Severity | None = None
    evidence: Evidence = field(default_factory=Evidence)
    confidence: float = 1.0


class Report:
    """The findings of one step, gathered detector by detector and handed out in the order of the rows."""

    def __init__(self, ids: list[str]) -> None:
        self._ids = ids
        self._found: list[tuple[int, Finding]] = []
        self.turned: set[int] = set()
        """Rows of the machines that something was found on since this was last emptied."""

    def add(
        self, row: int, position: int, kind: FaultKind, subject: str, opened: bool, occurred_at: int, rule: str,
        evidence: Evidence, severity: Severity | None = None, confidence: float = 1.0,
    ) -> None:  # fmt: skip
        """Note a finding of the machine in `row`, made at `position` of the batch (0 where there is no batch)."""
        finding = Finding(self._ids[row], kind, subject, opened, int(occurred_at), rule, severity, evidence, confidence)
        self.turned.add(row)
        self._found.append((position, finding))

    def by_position(self) -> list[Finding]:
        """In the order of the batch's rows, so that the cut of the stream into batches cannot be seen."""
        return [finding for _, finding in sorted(self._found, key=lambda found: found[0])]

    def by_device(self) -> list[Finding]:
        return sorted((finding for _, finding in self._found), key=lambda finding: finding.device_id)
