"""Words for detector tests: a machine says things one after the other, and the bank answers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monitor.detect import Bank, Finding
from monitor.devices import Device, Limits, Profile, Sensor
from monitor.readings import Batch, Event, Message, Reading

T0 = 1_760_000_000_000
"""When the tests begin: a Thursday in October 2025."""

PUMP = Profile(
    name="pump", title="Pump", title_zh="泵", report_interval_s=10, start_timeout_s=30, start_attempts=3,
    start_window_s=600, boot_loop_boots=4, battery_sensor="battery_v", fuel_sensor="fuel_pct",
    sensors=(
        Sensor("coolant_c", "°C", limits=Limits(high=98, hold_s=20, clear_margin=2), states=("running",)),
        Sensor("pressure_bar", "bar", limits=Limits(low=1, high=9, clear_margin=0.5)),
        Sensor("battery_v", "V"),
        Sensor("fuel_pct", "%"),
    ),
)  # fmt: skip


def bank(*profiles: Profile, devices: Sequence[str] = ("m1",)) -> Bank:
    """A bank that watches these devices, all of the first profile."""
    made = Bank({profile.name: profile for profile in profiles})
    made.place([Device(device_id, profiles[0].name) for device_id in devices])
    return made


def reading(
    seconds: float, values: Mapping[str, float] | None = None, *, state: str = "running", device: str = "m1",
    boot: int = 0, late: bool = False, lag_s: float = 0,
) -> Message:  # fmt: skip
    """What a machine measured so many seconds after T0, heard `lag_s` later."""
    at = T0 + round(seconds * 1000)
    body = Reading(boot, 0, at, state, dict(values or {}))  # type: ignore[arg-type]
    return Message(device, 0, at + round(lag_s * 1000), late, body)


def event(seconds: float, name: str, detail: dict[str, Any] | None = None, *, device: str = "m1") -> Message:
    at = T0 + round(seconds * 1000)
    return Message(device, 0, at, False, Event(0, 0, at, name, detail or {}))  # type: ignore[arg-type]


def say(to: Bank, messages: Iterable[Message]) -> list[Finding]:
    """Everything in one batch."""
    return to.step(Batch.of(1, list(messages)))


def told(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    """Findings in short: kind, subject, opened or cleared."""
    return [(f.kind.value, f.subject, "opened" if f.opened else "cleared") for f in findings]


def outcome(findings: Iterable[Finding], kind: str, subject: str = "") -> str:
    """How a fault stands after all that was found: none, open, or cleared."""
    stands = "none"
    for finding in findings:
        if (finding.kind, finding.subject) == (kind, subject):
            stands = "open" if finding.opened else "cleared"
    return stands
