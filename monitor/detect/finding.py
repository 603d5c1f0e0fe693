"""What a detector has to say: that a condition began, or that it ended, with the facts for people."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
    SHUT_DOWN = "shut_down"
    """It was running, and stalled or was stopped by its own protection."""
    LOST = "lost"
    """The broker sent its last will."""
    MISSED_REPORTS = "missed_reports"
    """Three reports in a row did not come."""
    CLOCK_AHEAD = "clock_ahead"
    CLOCK_BEHIND = "clock_behind"
    SENSOR_REMOVED = "sensor_removed"
    """The profile no longer has this sensor, so nothing can be said of it."""
    STUCK = "stuck"
    """It stands still, while the machine's other sensors go on."""
    JUMP = "jump"
    """It went faster than the quantity can change, and stayed there."""
    SPIKES = "spikes"
    """It did so again and again, and came back each time."""
    IMPOSSIBLE = "impossible"
    """It shows what cannot be."""
    LEVEL = "level"
    """It stands where it hardly ever stood."""
    HOUR = "hour"
    """It is unlike what it usually is at this hour of the day."""
    LASTING = "lasting"
    """It has for some time been unlike what it usually is at these hours."""


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
    # trend, with value, expected, limit, side and unit as above
    slope_per_h: float
    reaches_at: int
    reaches_between: tuple[int, int]
    # peer
    peers: int
    # sensor
    flat_s: float
    flat_samples: int
    usual_flat_s: float  # the longest that it usually stands
    usual_flat_samples: int
    noise: float  # how far it usually moves when it moves
    change_per_s: float  # that the quantity is capable of
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
    rule is that this is what it says; what the machine says itself, and what a profile forbids, is certain. `state` is
    what the machine was doing when it was found, '' where that is not known.
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
    state: str = ""


class Report:
    """The findings of one step, gathered detector by detector and handed out in the order of the rows."""

    def __init__(self, ids: list[str]) -> None:
        self._ids = ids
        self._found: list[tuple[int, Finding]] = []
        self._rows: list[int] = []
        """Rows of the findings that do not say yet what the machine was doing."""
        self.turned: set[int] = set()
        """Rows of the machines that something was found on since this was last emptied."""

    def add(
        self, row: int, position: int, kind: FaultKind, subject: str, opened: bool, occurred_at: int, rule: str,
        evidence: Evidence, severity: Severity | None = None, confidence: float = 1.0,
    ) -> None:  # fmt: skip
        """Note a finding of the machine in `row`, made at `position` of the batch (0 where there is no batch)."""
        finding = Finding(self._ids[row], kind, subject, opened, int(occurred_at), rule, severity, evidence, confidence)
        self.turned.add(row)
        self._rows.append(row)
        self._found.append((position, finding))

    def note_states(self, state_of: Callable[[int], str]) -> None:
        """Note on what was found since the last time what its machine was doing, by the machine's row."""
        first = len(self._found) - len(self._rows)
        for place, row in enumerate(self._rows, start=first):
            position, finding = self._found[place]
            self._found[place] = position, replace(finding, state=state_of(row))
        self._rows.clear()

    def by_position(self) -> list[Finding]:
        """In the order of the batch's rows, so that the cut of the stream into batches cannot be seen."""
        return [finding for _, finding in sorted(self._found, key=lambda found: found[0])]

    def by_device(self) -> list[Finding]:
        return sorted((finding for _, finding in self._found), key=lambda finding: finding.device_id)
