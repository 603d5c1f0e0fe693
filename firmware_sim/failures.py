"""What can go wrong with a simulated machine, and how to add one more.

A failure is one function that turns its depth into ailments, and one line in `FAILURES`. Depth runs from 0 (nothing
yet) to the injection's `size`; it gets there at once, or straight along `ramp_s`. The physics, the sensors and the
radio read the ailments only: none of them knows a failure by its name.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import msgspec

MINUTE_S = 60.0
HOUR_S = 3600.0
DAY_S = 86400.0
FOR_EVER = 2**62


@dataclass(slots=True)
class Ailments:
    """All that is wrong with a machine at one moment. Shares run from 0 (healthy) to 1 (all of it)."""

    battery_loss: float = 0.0
    fuel_lost: float = 0.0
    coolant_lost: float = 0.0
    oil_lost: float = 0.0
    bearing_wear: float = 0.0
    radiator_clogged: float = 0.0
    filter_clogged: float = 0.0
    charge_lost: float = 0.0
    """How much of its voltage the alternator has lost."""
    output_lost: float = 0.0
    """How much of what the engine drives for comes out no more: voltage, air, water."""
    starter_dead: bool = False
    start_blocked: bool = False
    """The key turns and nothing follows, not even a crank: an interlock, a relay."""
    fuel_cut: bool = False
    """The fuel valve is shut, whatever the controller wants."""
    box_dead: bool = False
    """The controller has no power: the engine stops, and nothing is said any more."""
    mute: bool = False
    """The controller shows its state but says no events."""
    stuck: set[str] = field(default_factory=set)
    """Sensors that show for ever what they showed last."""
    drift: dict[str, float] = field(default_factory=dict)
    """Sensors that show too much, by this share of their value."""
    open_circuit: set[str] = field(default_factory=set)
    """Sensors whose wire is broken: they show the end of their range."""
    reboot_every_s: float = 0.0
    radio_out: bool = False
    clock_ahead_ms: int = 0
    duplicate_share: float = 0.0
    """Share of messages that the radio sends twice."""
    reorder_share: float = 0.0
    """Share of messages that the radio lets the next one overtake."""
    away: Literal["", "transport", "powered_off"] = ""
    """Switched off politely by its people, and why: no failure at all."""
    moved_c: float = 0.0
    """By how much the place is warmer to which it is being moved."""


HEALTHY = Ailments()

Effect = Callable[[Ailments, float, str], None]


def weak_battery(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.battery_loss = min(depth, 1.0)


def fuel_starved(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.fuel_lost = min(depth, 1.0)


def coolant_leak(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.coolant_lost = min(depth, 1.0)


def oil_leak(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.oil_lost = min(depth, 1.0)


def bearing_wear(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.bearing_wear = min(depth, 1.5)


def clogged_radiator(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.radiator_clogged = min(depth, 1.0)


def clogged_filter(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.filter_clogged = min(depth, 1.0)


def dead_starter(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.starter_dead = depth > 0


def blocked_start(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.start_blocked = depth > 0


def fuel_valve_shut(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.fuel_cut = depth > 0


def dead_controller(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.box_dead = depth > 0


def alternator_failing(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.charge_lost = min(depth, 1.0)


def output_loss(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.output_lost = min(depth, 1.0)


def mute_controller(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.mute = depth > 0


def broken_wire(hurt: Ailments, depth: float, sensor: str) -> None:
    if depth > 0:
        hurt.open_circuit.add(sensor)


def transport(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.away, hurt.moved_c = "transport", depth


def service_visit(hurt: Ailments, _depth: float, _sensor: str) -> None:
    hurt.away = "powered_off"


def stuck_sensor(hurt: Ailments, depth: float, sensor: str) -> None:
    if depth > 0:
        hurt.stuck.add(sensor)


def drifting_sensor(hurt: Ailments, depth: float, sensor: str) -> None:
    hurt.drift[sensor] = 0.4 * depth


def boot_loop(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.reboot_every_s = 20.0 / depth if depth > 0 else 0.0


def radio_outage(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.radio_out = depth > 0


def wrong_clock(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.clock_ahead_ms = round(2 * HOUR_S * 1000 * depth)


def duplicate(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.duplicate_share = min(0.3 * depth, 1.0)


def reorder(hurt: Ailments, depth: float, _sensor: str) -> None:
    hurt.reorder_share = min(0.3 * depth, 1.0)


@dataclass(frozen=True, slots=True)
class Kind:
    """A failure that can be injected by name, with the speed it has where none is asked for."""

    effect: Effect
    ramp_s: float = 0.0
    sensor: str = ""
    """The sensor it strikes where none is named; only failures of sensors have one."""
    wears: bool = False
    """Whether it is a breakdown once its depth is 1 and the machine runs: damage, or a sensor that is of no use."""


FAILURES: dict[str, Kind] = {
    "weak_battery": Kind(weak_battery, ramp_s=5 * DAY_S),
    "alternator_failing": Kind(alternator_failing, ramp_s=4 * DAY_S, wears=True),
    "fuel_starved": Kind(fuel_starved, ramp_s=10 * MINUTE_S),
    "coolant_leak": Kind(coolant_leak, ramp_s=6 * HOUR_S, wears=True),
    "oil_leak": Kind(oil_leak, ramp_s=12 * HOUR_S, wears=True),
    "bearing_wear": Kind(bearing_wear, ramp_s=10 * DAY_S, wears=True),
    "clogged_radiator": Kind(clogged_radiator, ramp_s=3 * DAY_S, wears=True),
    "clogged_filter": Kind(clogged_filter, ramp_s=5 * DAY_S, wears=True),
    "dead_starter": Kind(dead_starter),
    "blocked_start": Kind(blocked_start),
    "fuel_valve_shut": Kind(fuel_valve_shut),
    "dead_controller": Kind(dead_controller),
    "mute_controller": Kind(mute_controller),
    "output_loss": Kind(output_loss),
    "stuck_sensor": Kind(stuck_sensor, sensor="coolant_temp_c"),
    "broken_wire": Kind(broken_wire, sensor="oil_pressure_bar"),
    "drifting_sensor": Kind(drifting_sensor, ramp_s=2 * DAY_S, sensor="oil_pressure_bar", wears=True),
    "boot_loop": Kind(boot_loop),
    "radio_outage": Kind(radio_outage),
    "wrong_clock": Kind(wrong_clock),
    "duplicate": Kind(duplicate),
    "reorder": Kind(reorder),
}
ORDINARY: dict[str, Kind] = {
    "transport": Kind(transport),
    "service_visit": Kind(service_visit),
}
"""What belongs to the life of a healthy machine. `size` of a transport: by how many °C the new place is warmer."""
_KINDS = FAILURES | ORDINARY
REPAIRED = FAILURES.keys() - {"radio_outage", "wrong_clock", "duplicate", "reorder", "mute_controller"}
"""What ends with a technician at the machine; the others pass."""


class Injection(msgspec.Struct, frozen=True):
    """One failure on one machine, from `from_at` until `to_at` (repaired; for ever where it is not given).

    `ramp_s` is its speed: 0 strikes at once, None takes the failure's own. `size` 1 is what is plainly broken in
    the end; a clock's and a drift's are signed (-1: two hours behind, showing too little).
    """

    failure: str
    from_at: int
    to_at: int = FOR_EVER
    size: float = 1.0
    ramp_s: float | None = None
    sensor: str = ""

    def __post_init__(self) -> None:
        if self.failure not in _KINDS:
            raise ValueError(f"no failure is called {self.failure!r}; there are: {', '.join(sorted(FAILURES))}")

    def depth(self, at: int) -> float:
        """How far the failure has come at this moment, 0 before and after it."""
        if not self.from_at <= at < self.to_at:
            return 0.0
        ramp_s = self.speed_s
        elapsed_s = (at - self.from_at) / 1000
        return self.size if elapsed_s >= ramp_s else self.size * elapsed_s / ramp_s

    @property
    def speed_s(self) -> float:
        """How long it takes to its full size."""
        return _KINDS[self.failure].ramp_s if self.ramp_s is None else self.ramp_s

    def worn_out(self, at: int) -> bool:
        """Whether its depth is 1 by then, and that alone is a breakdown of a machine that runs."""
        return _KINDS[self.failure].wears and abs(self.depth(at)) >= 1


def ailments(injections: Iterable[Injection], at: int) -> Ailments:
    """What all the injected failures together do to a machine at this moment."""
    hurt = HEALTHY
    for injection in injections:
        depth = injection.depth(at)
        if depth:
            if hurt is HEALTHY:
                hurt = Ailments()
            kind = _KINDS[injection.failure]
            kind.effect(hurt, depth, injection.sensor or kind.sensor)
    return hurt


class Truth(msgspec.Struct, frozen=True):
    """One line of the truth: what was really wrong with which machine, from when to when (`to_at` null: still is).

    `breakdown_at` is when it stopped the machine, kept it from starting or damaged it; null: it has not come to that.
    Where a failure ends earlier than it was to, or breaks the machine, a later line with the same device, failure and
    `from_at` says so:
    the last such line counts.
    """

    device_id: str
    failure: str
    from_at: int
    to_at: int | None
    size: float
    ramp_s: float
    sensor: str = ""
    breakdown_at: int | None = None

    @classmethod
    def of(cls, device_id: str, injection: Injection, broke_at: int | None = None) -> "Truth":
        """`broke_at`: when the machine broke down of it (Box.broke)."""
        to_at = None if injection.to_at == FOR_EVER else injection.to_at
        sensor = injection.sensor or FAILURES[injection.failure].sensor
        return cls(
            device_id, injection.failure, injection.from_at, to_at, injection.size, injection.speed_s, sensor, broke_at
        )

    def line(self) -> bytes:
        """This truth as one JSON line."""
        return msgspec.json.encode(self) + b"\n"
