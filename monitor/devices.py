"""What is rented out: machines, the models they are of, where they stand, and who has them on hire.

All times (`…_at`) are integer epoch milliseconds UTC; durations carry their unit (`…_s`, `…_days`).
"""

import re
import zlib
from enum import StrEnum

import msgspec

DEVICE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def shard(device_id: str) -> str:
    """The two hex digits that stand in a device's topics for ever: crc32 of its id, modulo 256."""
    return f"{zlib.crc32(device_id.encode()) % 256:02x}"


def topic(device_id: str) -> str:
    """The topic below which this device publishes and is spoken to (docs/wire-contract.md)."""
    return f"fettle/v1/{shard(device_id)}/{device_id}"


class Severity(StrEnum):
    """How much a fault matters. Emergency and urgent tickets of machines on hire carry R7 to R9."""

    EMERGENCY = "emergency"
    URGENT = "urgent"
    ROUTINE = "routine"
    NOTE = "note"

    @property
    def makes_bad(self) -> bool:
        """Whether a machine with an open fault of this severity counts as bad (E1)."""
        return self in (Severity.EMERGENCY, Severity.URGENT)


class FaultKind(StrEnum):
    """What can be wrong. The subject beside it (a sensor, a code) makes two faults of one kind two."""

    STARTUP_FAILURE = "startup_failure"
    LIMIT = "limit"
    FAULT_CODE = "fault_code"
    SILENT = "silent"
    SENSOR = "sensor"
    TREND = "trend"
    ANOMALY = "anomaly"
    PEER = "peer"
    WRONG_CLOCK = "wrong_clock"
    REPORTED = "reported"


DEFAULT_SEVERITY = {
    FaultKind.STARTUP_FAILURE: Severity.EMERGENCY,
    FaultKind.LIMIT: Severity.URGENT,
    FaultKind.FAULT_CODE: Severity.URGENT,
    FaultKind.ANOMALY: Severity.URGENT,
    FaultKind.PEER: Severity.URGENT,
    FaultKind.REPORTED: Severity.URGENT,
    FaultKind.SILENT: Severity.ROUTINE,
    FaultKind.SENSOR: Severity.ROUTINE,
    FaultKind.TREND: Severity.ROUTINE,
    FaultKind.WRONG_CLOCK: Severity.ROUTINE,
}


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The band a sensor must stay in. Beyond it for `hold_s` opens a fault; two samples inside it by
    `clear_margin` (in the sensor's unit) clear it."""

    low: float | None = None
    high: float | None = None
    hold_s: float = 0.0
    clear_margin: float = 0.0

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low {self.low} must lie below high {self.high}")
        if self.hold_s < 0 or self.clear_margin < 0:
            raise ValueError("hold_s and clear_margin must not be negative")


class Joint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the joint detector judges all channels of a machine together, in samples."""

    hold_samples: int
    threshold_sigma: float = 6.0


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the channel detector judges each channel by its own past, in samples."""


class Learn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the learning detectors take the measure of a machine from: its own first healthy samples.

    Counted in samples, not seconds, so that a recording means the same at any speed. A table that is absent leaves its
    detector off.
    """

    warmup_samples: int
    joint: Joint | None = None
    channel: Channel | None = None


class Sensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One measured quantity. `nominal` is its value on a healthy running machine at half load."""

    name: str
    unit: str = ""
    nominal: float | None = None
    title_zh: str = ""
    limits: Limits | None = None
    states: tuple[str, ...] = ()
    """The machine states in which the limits mean anything; empty: in every state."""
    learn: bool = True
    """Whether the learning detectors, where the profile has them, watch this sensor."""


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"sensors": "sensor"}):
    """A machine model: what it measures, how often it reports, and how long a start may take."""

    name: str
    title: str
    title_zh: str
    sensors: tuple[Sensor, ...]
    report_interval_s: float = 10.0
    start_timeout_s: float = 30.0
    start_attempts: int = 3
    """So many start attempts without running are a startup failure, whatever the time left."""
    start_window_s: float = 600.0
    """The time within which attempts, and boots of a boot loop, are counted together."""
    boot_loop_boots: int = 4
    battery_sensor: str = ""
    fuel_sensor: str = ""
    service_interval_days: int = 90
    service_interval_h: float | None = None
    learn: Learn | None = None

    def __post_init__(self) -> None:
        names = [sensor.name for sensor in self.sensors]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"sensor names must be unique, {', '.join(twice)} stands more than once")
        for role in ("battery_sensor", "fuel_sensor"):
            if getattr(self, role) and getattr(self, role) not in names:
                raise ValueError(f"{role} = {getattr(self, role)!r} is not among the sensors: {', '.join(names)}")

    @property
    def max_gap_s(self) -> float:
        """Longest pause between two readings over which they still count as one course of events."""
        return 3 * self.report_interval_s


class Device(msgspec.Struct, frozen=True):
    """A machine as the watch knows it. A replaced box begins a new generation (device renew)."""

    device_id: str
    profile: str
    generation: int = 0
    site_id: int | None = None
    renewed_at: int = 0
    """When this generation began, 0 for the first: what was said or heard before is the earlier box's."""
