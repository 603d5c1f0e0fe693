"""What is rented out: machines, the models they are of, where they stand, and who has them on hire.

All times (`…_at`) are integer epoch milliseconds UTC; durations carry their unit (`…_s`, `…_days`).
"""

import re
import zlib
from enum import StrEnum

import msgspec

DEVICE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
LONGEST_SERVICE_DAYS = 90
"""E4: at least once a quarter, the shortest of which is that long."""


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
    WEAK_BATTERY = "weak_battery"
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
    FaultKind.WEAK_BATTERY: Severity.ROUTINE,
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
    """How the joint detector judges all channels of a machine together, in samples.

    Deviations are smoothed over `hold_samples`, and must last for as many to open a fault; `clear_samples` without
    any end it (0: as many as `hold_samples`). The level of a channel follows over `follow_samples` (0: as many as the
    warm-up). `threshold_sigma` is for each channel; `together_sigma` for all at once (0: not judged at once).
    """

    hold_samples: int
    threshold_sigma: float = 6.0
    together_sigma: float = 0.0
    follow_samples: int = 0
    clear_samples: int = 0
    settle_s: float = 0.0
    """How long after a start, or a gap, a running machine is not yet itself: no sample of then is learnt or judged."""

    def __post_init__(self) -> None:
        if self.hold_samples < 1:
            raise ValueError(f"hold_samples = {self.hold_samples} must be at least 1")
        if min(self.follow_samples, self.clear_samples, self.settle_s, self.together_sigma) < 0:
            raise ValueError("follow_samples, clear_samples, settle_s and together_sigma must not be negative")
        if not self.threshold_sigma > 0:
            raise ValueError(f"threshold_sigma = {self.threshold_sigma} must be above 0")


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the channel detector judges each channel by its own past, in samples."""

    threshold_decades: float = 7.0
    """How rare a sample must be to be an alarm: 7 is one in ten million."""
    raise_decades: float = 0.5
    """By how much each alarm raises the threshold of its channel; it wears off over `raise_samples`."""
    raise_samples: float = 60_000.0
    fast_samples: float = 6.0
    """Samples that the level is smoothed over."""
    slow_samples: float = 60.0
    """Samples that the deviation from the usual of the hour is smoothed over."""
    season_samples: float = 3_600.0
    """Samples of one hour of the day that the mean of that hour is taken from."""
    memory_samples: float = 60_000.0
    """Samples that the picture of what is rare is taken from."""
    calm_samples: int = 30
    """So many samples in a row below the threshold clear."""
    settle_s: float = 900.0
    """So long after it began to run a machine still warms up, and is neither judged nor learnt."""
    accept_samples: int | None = None
    """After so many samples with an open fault what it shows is learnt as the new normal; None: never."""

    def __post_init__(self) -> None:
        for samples in ("raise_samples", "fast_samples", "slow_samples", "season_samples", "memory_samples"):
            if getattr(self, samples) < 1:
                raise ValueError(f"{samples} = {getattr(self, samples)} must be at least 1")
        if self.memory_samples > 1_000_000:
            raise ValueError(f"memory_samples = {self.memory_samples} must be at most 1000000")
        if min(self.raise_decades, self.settle_s, self.calm_samples - 1, self.accept_samples or 0) < 0:
            raise ValueError("raise_decades, settle_s and accept_samples must not be negative, calm_samples at least 1")
        if self.threshold_decades < 2:
            raise ValueError(f"threshold_decades = {self.threshold_decades} must be at least 2")


class Learn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the learning detectors take the measure of a machine from: its own first healthy samples.

    Counted in samples, not seconds, so that a recording means the same at any speed. A table that is absent leaves its
    detector off.
    """

    warmup_samples: int
    joint: Joint | None = None
    channel: Channel | None = None


class Possible(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What physics allows a sensor to show in any state of the machine, broken ones too, and with room for its noise.

    Beyond it the sensor is at fault, and not the machine. `change_per_s` is for quantities that cannot jump, such as
    temperatures and levels; it holds while the machine stays in one state.
    """

    low: float | None = None
    high: float | None = None
    change_per_s: float | None = None

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low {self.low} must lie below high {self.high}")
        if self.change_per_s is not None and not self.change_per_s > 0:
            raise ValueError("change_per_s must be above 0")


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
    spn: int | None = None
    """The quantity's number in SAE J1939: by it the controller's fault codes speak of this sensor."""
    possible: Possible | None = None
    may_stand: bool = False
    """Whether a healthy running machine may hold it at one value for hours: a full tank, no load, an hour meter between
    two ticks, a set point. It is called stuck only for noise that it has lost, and never at 0 or at an end of what is
    possible."""
    trend: bool = True
    """Whether its level tells of the machine's health. That of a tank, which sinks and is filled again, does not."""
    trend_low: float | None = None
    trend_high: float | None = None
    """Where a slow drift counts as failed, if not only at the limits: where the last reserve is used up, say."""
    trend_share: float | None = None
    """By what share of the machine's own mean of the last weeks a drift counts as failed, whatever the limits."""
    peer_margin: float | None = None
    """How far (in its unit) it may lie from the other machines of its model under the same load, whatever their spread.
    Absent: three tenths of the way from `nominal` to the nearer limit; without these it is not compared."""

    def __post_init__(self) -> None:
        if self.peer_margin is not None and not self.peer_margin > 0:
            raise ValueError(f"{self.name}: peer_margin {self.peer_margin} must be positive")
        if self.trend_share is not None and not self.trend_share > 0:
            raise ValueError(f"{self.name}: trend_share {self.trend_share} must be positive")
        if self.trend_low is not None and self.trend_high is not None and not self.trend_low < self.trend_high:
            raise ValueError(f"{self.name}: trend_low {self.trend_low} must lie below trend_high {self.trend_high}")


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
    battery_rest_low_v: float | None = None
    """What a battery at rest shows at least while it still starts the engine surely; absent: not looked at."""
    fuel_sensor: str = ""
    load_sensor: str = ""
    """What explains most of the other sensors' values: load itself, or the speed where the engine follows the load."""
    settle_s: float = 1800.0
    """How long after a start, or a stop, until warmth and pressures have settled and can be compared."""
    trend_horizon_days: float = 14.0
    """A drift that reaches its limit within this time is worth a ticket now."""
    service_interval_days: int = 90
    service_interval_h: float | None = None
    learn: Learn | None = None

    def __post_init__(self) -> None:
        names = [sensor.name for sensor in self.sensors]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"sensor names must be unique, {', '.join(twice)} stands more than once")
        for role in ("battery_sensor", "fuel_sensor", "load_sensor"):
            if getattr(self, role) and getattr(self, role) not in names:
                raise ValueError(f"{role} = {getattr(self, role)!r} is not among the sensors: {', '.join(names)}")
        if self.battery_rest_low_v is not None and not (self.battery_sensor and self.battery_rest_low_v > 0):
            raise ValueError("battery_rest_low_v must be positive, and needs a battery_sensor")
        if not 1 <= self.service_interval_days <= LONGEST_SERVICE_DAYS:
            raise ValueError(
                f"service_interval_days = {self.service_interval_days}: every machine is served at least once a "
                f"quarter (E4), so 1 to {LONGEST_SERVICE_DAYS}"
            )
        if self.service_interval_h is not None and not self.service_interval_h > 0:
            raise ValueError("service_interval_h must be positive")
        if not (self.settle_s >= 0 and self.trend_horizon_days > 0):
            raise ValueError("settle_s must not be negative, and trend_horizon_days must be positive")

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
