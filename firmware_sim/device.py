"""A rented machine with a diesel engine: how it lives from one moment to the next, without a clock, a wire or a file.

`step` is pure: the machine it is given stays as it was. What all three models share stands here (duty, start
sequence, engine, battery, protection); what an engine drives, and the numbers of each model, stand in models.py.

Every quantity relaxes towards where its causes push it (load → speed → heat → pressure → fuel), by the exact
exponential of the step's length, so that a step of 10 s and ten of 1 s end in nearly the same place.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Literal, NamedTuple

import msgspec

from firmware_sim.failures import HEALTHY, Ailments

Mode = Literal["off", "cranking", "running", "stopping", "fault"]
Duty = Literal["day", "site", "always", "hand"]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NEVER = 2**62

CRANK_S = 5.0
REST_S = 4.0
ATTEMPTS = 3
WARM_UP_S = 45.0
COOL_DOWN_S = 20.0
WAKES_S = 120.0
"""A box that slept is switched on so long before the engine."""
RESERVE_PCT = 25.0
"""Below this the fuel truck is called."""
SEIZED = 1.25
"""Bearing wear at which the crankshaft turns no more."""
OIL_TRIP_BAR = 1.0
COOLANT_TRIP_C = 108.0


class Machine(msgspec.Struct):
    """Everything that is true of one machine at `at` (epoch ms UTC), measured or not."""

    at: int
    duty: Duty = "day"
    utc_offset_h: int = 8
    climate_c: float = 15.0
    """Mean temperature of the place; the day swings about it."""
    fixed_load: float | None = None

    mode: Mode = "off"
    mode_s: float = 0.0
    attempt: int = 0
    resting: bool = False
    phase_s: float = 0.0
    fired_s: float = 0.0
    ignites_after_s: float = 1.5
    trip_s: float = 0.0
    fickle: float = 0.0
    """Share of starts that its people break off at once, to try again a moment later."""
    breaks_off: bool = False
    tries: int = 0
    """How often it has failed its people since it last worked."""
    sleeps: bool = False
    """Whether its battery is switched off over the night, after a goodbye."""
    usual_load: float = 0.5
    warmth: float = 1.0
    """How warm what the engine drives becomes, beside others of its model."""
    steady_s: float = 0.0
    """How long the wanted load has been what it is."""
    switch_at: int = NEVER
    """When its people next turn it on or off."""
    load_at: int = 0
    """When the work next changes."""
    refuelling: bool = False

    weather: tuple[float, float] = (0.0, 0.0)
    """Where the two waves of its weather stand (radians), one of five days and one of two."""
    ambient_c: float = 15.0
    wanted_load: float = 0.5
    load: float = 0.0
    rpm: float = 0.0
    coolant_c: float = 15.0
    coolant_level: float = 1.0
    oil_level: float = 1.0
    oil_bar: float = 0.0
    charge: float = 0.95
    battery_v: float = 12.7
    fuel_pct: float = 80.0
    hours: float = 500.0
    vibration_mm_s: float = 0.0

    flow: float = 0.0
    suction_bar: float = 0.0
    delivery_bar: float = 0.0
    delivery_c: float = 15.0
    separator_bar: float = 0.0

    codes: tuple[str, ...] = ()
    """The controller's own fault codes that stand at the moment."""
    suspected_s: dict[str, float] = {}
    """How long the causes of codes that do not stand yet have lasted. Replaced, never changed in place."""


class Happening(NamedTuple):
    """Something the controller noticed, in the words of the wire contract."""

    event: Literal["start_requested", "started", "start_failed", "stopped", "fault_set", "fault_cleared"]
    detail: dict[str, str | int | float]


Events = list[Happening]


@dataclass(frozen=True, slots=True)
class Model:
    """The numbers of a machine model, and what its engine drives."""

    profile: str
    title: str
    firmware: str
    idle_rpm: float
    span_rpm: float
    """What full load adds to the idle speed; 0 where a governor holds one speed, as for a generator."""
    heat_kw: float
    """Heat into the coolant at full load."""
    oil_bar: float
    """Oil pressure, warm, at `rated_rpm`."""
    vibration_mm_s: float
    """Vibration at half load."""
    fuel_pct_per_h: float
    """Share of the tank burnt in an hour at half load."""
    drive: "Callable[[Machine, float, Ailments], None]"
    show: "Callable[[Machine], dict[str, float]]"
    """What the sensors would show without noise: name → value, in the order of the profile."""
    noise: dict[str, float]
    """Standard deviation of each sensor's noise; sensors without one are exact."""
    resolution: dict[str, float] = field(default_factory=dict)
    """The steps in which a sensor shows its value; 0.01 where none is named."""
    thermostat_c: float = 80.0
    """Where the thermostat begins to open."""
    radiator: float = 0.034
    alternator_v: float = 14.15
    battery_ohm: float = 0.0075

    @property
    def rated_rpm(self) -> float:
        return self.idle_rpm + 0.5 * self.span_rpm


def relax(value: float, target: float, dt_s: float, tau_s: float) -> float:
    """Where a quantity has come after `dt_s` on its way to `target`."""
    return target + (value - target) * math.exp(-dt_s / tau_s)


def clip(value: float, low: float, high: float) -> float:
    return low if value < low else high if value > high else value


def step(model: Model, machine: Machine, dt_s: float, rng: Random, hurt: Ailments = HEALTHY) -> tuple[Machine, Events]:
    """The machine `dt_s` later, and what its controller noticed on the way. Ask `longest_step_s` how far to go."""
    new = copy.copy(machine)
    new.at += round(dt_s * 1000)
    new.mode_s += dt_s
    new.ambient_c = _ambient_c(new)
    _tank(model, new, dt_s, hurt)
    _battery(model, new, dt_s, hurt)
    _engine(model, new, dt_s, hurt)
    model.drive(new, dt_s, hurt)
    # Decided at the end, so that a long step is lived in the mode it began in.
    events = _SEQUENCE[new.mode](model, new, dt_s, rng, hurt)
    return new, events + _complain(new, dt_s)


def longest_step_s(machine: Machine, hurt: Ailments = HEALTHY) -> float:
    """How long the next step may be without blurring what is going on, or passing what is planned."""
    if machine.mode == "cranking":
        return 0.5
    if machine.mode == "stopping" or machine.trip_s > 0 or machine.suspected_s:
        return 1.0
    idle = machine.mode in ("off", "fault")
    if machine.mode_s < 60:
        # A standing machine has nothing to settle but what coasts down.
        longest_s = 5.0 if idle and machine.mode_s > 15 else 1.0
    elif idle:
        longest_s = 10.0 if machine.mode_s < 600 or machine.refuelling else 60.0 if machine.mode_s < 3600 else 300.0
    else:
        longest_s = 10.0 if machine.steady_s < 180 or machine.refuelling else 30.0
    if not idle and min(machine.oil_level, machine.coolant_level) < 0.6:
        # What its protection looks at may go fast now.
        return 1.0
    if hurt is not HEALTHY:
        longest_s = min(longest_s, 60.0 if idle else 10.0)
    return min(longest_s, max(0.5, _planned_in_s(machine)))


def _planned_in_s(machine: Machine) -> float:
    """Until its people next do something with it."""
    planned_s = (machine.switch_at - machine.at) / 1000
    if machine.mode == "running" and machine.fixed_load is None and machine.mode_s >= WARM_UP_S:
        return min(planned_s, (machine.load_at - machine.at) / 1000)
    # A box that sleeps wakes up before its machine is needed.
    return planned_s - WAKES_S if machine.sleeps and planned_s > WAKES_S else planned_s


def asleep(machine: Machine) -> bool:
    """Whether the battery is switched off, as it is half an hour after work on machines that have that habit."""
    off = machine.sleeps and machine.mode == "off" and machine.mode_s > 1800
    return off and machine.switch_at - machine.at > WAKES_S * 1000 + 500


# What the people do


def request_start(machine: Machine, rng: Random, by: str = "operator") -> Events:
    """Turn the key. Changes the machine in place; nothing happens where it is on already."""
    if machine.mode not in ("off", "fault"):
        return []
    _enter(machine, "cranking")
    machine.attempt, machine.resting, machine.phase_s, machine.fired_s = 1, False, 0.0, 0.0
    # A cold engine needs longer until it fires.
    machine.ignites_after_s = rng.uniform(1.0, 1.8) + 0.05 * max(0.0, 15.0 - machine.coolant_c)
    return [Happening("start_requested", {"by": by})]


def halt(machine: Machine) -> None:
    """Cut the fuel at once, without a word: what happens when the controller itself goes down."""
    if machine.mode != "off":
        _enter(machine, "off")
    # Nobody turns the key while the panel is dark.
    planned_at = 0 if machine.switch_at == NEVER else machine.switch_at
    machine.switch_at = NEVER if machine.duty == "hand" else max(planned_at, machine.at + 60_000)


def settle(model: Model, machine: Machine, rng: Random, duty: Duty) -> None:
    """Give the machine its duty and a first plan, and let it stand as it would at this hour of the day."""
    machine.duty = duty
    machine.weather = rng.uniform(0, math.tau), rng.uniform(0, math.tau)
    machine.ambient_c = machine.coolant_c = machine.delivery_c = _ambient_c(machine)
    machine.switch_at = NEVER if duty == "hand" else _next_start(machine, rng)
    if duty == "always":
        warm(model, machine, rng)


def warm(model: Model, machine: Machine, rng: Random) -> None:
    """Put the machine in the middle of its work: running, warm, at some load."""
    _enter(machine, "running")
    machine.mode_s = 600.0
    machine.wanted_load = machine.load = rng.uniform(0.3, 0.7) if machine.fixed_load is None else machine.fixed_load
    machine.rpm, machine.coolant_c, machine.oil_bar = model.rated_rpm, model.thermostat_c + 4, model.oil_bar
    machine.battery_v = model.alternator_v
    machine.vibration_mm_s = model.vibration_mm_s
    machine.switch_at = _next_stop(machine, rng)
    for _ in range(600):
        model.drive(machine, 10.0, HEALTHY)


def park(machine: Machine, key_at: int) -> None:
    """Let the machine stand since an hour, its key to be turned at that moment. Changes it in place."""
    _enter(machine, "off")
    machine.mode_s, machine.switch_at = 3600.0, key_at
    machine.rpm = machine.load = machine.oil_bar = machine.vibration_mm_s = 0.0
    machine.battery_v = 12.6


def _local_h(machine: Machine) -> float:
    return (machine.at / HOUR_MS + machine.utc_offset_h) % 24


def _next_start(machine: Machine, rng: Random) -> int:
    if machine.duty == "always":
        return machine.at + round(rng.uniform(120, 300) * 1000)
    if 7.5 <= _local_h(machine) < 15 and _works_on(machine, machine.at):
        return machine.at + round(rng.uniform(20, 40) * 60_000)
    start_at = machine.at + round(((7.0 - _local_h(machine)) % 24 + rng.uniform(0, 1)) * HOUR_MS)
    while not _works_on(machine, start_at):
        start_at += DAY_MS
    return start_at


def _works_on(machine: Machine, at: int) -> bool:
    """Building sites rest on Saturdays and Sundays; the epoch began on a Thursday."""
    day = (at + machine.utc_offset_h * HOUR_MS) // DAY_MS
    return machine.duty != "site" or (day + 3) % 7 < 5


def _next_try(machine: Machine, rng: Random) -> int:
    """When its people try again after it failed them."""
    if machine.duty == "hand":
        return NEVER
    if machine.duty != "always":
        return _next_start(machine, rng)
    # Each time they wait longer: nobody cranks a battery flat all day.
    machine.tries = min(machine.tries + 1, 6)
    return machine.at + round(rng.uniform(180, 360) * (1 << machine.tries) * 1000)


def repair(machine: Machine, rng: Random) -> None:
    """A technician has been there: the battery is charged, and whoever needs the machine tries it soon. In place."""
    machine.charge, machine.tries = max(machine.charge, 0.9), 0
    if machine.duty == "always" and machine.mode in ("off", "fault"):
        machine.switch_at = machine.at + round(rng.uniform(120, 600) * 1000)


def switch_off(machine: Machine, until_at: int) -> Events:
    """Its people stop it and leave it off until then. Changes the machine in place."""
    events = [] if machine.mode in ("off", "fault") else [Happening("stopped", {"reason": "operator"})]
    if machine.mode != "off":
        _enter(machine, "off")
    if machine.duty != "hand":
        machine.switch_at = max(machine.switch_at, until_at) if machine.switch_at != NEVER else until_at
    return events


def _next_stop(machine: Machine, rng: Random) -> int:
    if machine.duty == "hand":
        return NEVER
    if machine.duty == "always":
        return machine.at + round(rng.uniform(1, 4) * HOUR_MS)
    # Half of the shifts break for lunch; every other one ends in the evening.
    end_h = rng.choice((12.0, 17.5)) if _local_h(machine) < 11 else 17.5
    return machine.at + round((max(end_h - _local_h(machine), 0.5) + rng.uniform(-0.3, 0.5)) * HOUR_MS)


def _work(machine: Machine, dt_s: float, rng: Random) -> None:
    """The load the work asks for: none while warming up, then some level that lasts for minutes."""
    before = machine.wanted_load
    if machine.mode != "running" or machine.mode_s < WARM_UP_S:
        machine.wanted_load, machine.load_at = 0.0, machine.at
    elif machine.fixed_load is not None:
        machine.wanted_load = machine.fixed_load
    elif machine.at >= machine.load_at:
        machine.wanted_load = rng.triangular(0.15, 0.95, machine.usual_load)
        machine.load_at = machine.at + round(rng.expovariate(1 / 480) * 1000)
    machine.steady_s = machine.steady_s + dt_s if machine.wanted_load == before else 0.0


# The start sequence and its ends


def _enter(machine: Machine, mode: Mode) -> None:
    machine.mode, machine.mode_s, machine.trip_s, machine.steady_s = mode, 0.0, 0.0, 0.0


def _idle(_model: Model, machine: Machine, _dt_s: float, rng: Random, hurt: Ailments) -> Events:
    if machine.at < machine.switch_at:
        return []
    if hurt.start_blocked:
        machine.switch_at = _next_try(machine, rng)
        return [Happening("start_requested", {"by": "operator"})]
    machine.switch_at = NEVER
    machine.breaks_off = machine.fickle > 0 and rng.random() < machine.fickle
    return request_start(machine, rng)


def _crank(_model: Model, machine: Machine, dt_s: float, rng: Random, hurt: Ailments) -> Events:
    machine.phase_s += dt_s
    if machine.breaks_off and machine.phase_s >= 1:
        machine.breaks_off = False
        _enter(machine, "off")
        machine.switch_at = machine.at + round(rng.uniform(20, 120) * 1000)
        return [Happening("stopped", {"reason": "operator"})]
    if machine.resting:
        if machine.phase_s >= REST_S:
            machine.resting, machine.phase_s, machine.fired_s = False, 0.0, 0.0
            machine.attempt += 1
        return []
    if machine.rpm >= 110 and machine.fuel_pct > 0.5 and not hurt.fuel_cut:
        machine.fired_s += dt_s
    if machine.fired_s >= machine.ignites_after_s:
        _enter(machine, "running")
        machine.switch_at = _next_stop(machine, rng)
        return [Happening("started", {"attempts": machine.attempt})]
    if machine.phase_s < CRANK_S:
        return []
    machine.resting, machine.phase_s = True, 0.0
    return _give_up(machine, rng, hurt) if machine.attempt >= ATTEMPTS else []


def _give_up(machine: Machine, rng: Random, hurt: Ailments) -> Events:
    reason = "no_crank" if hurt.starter_dead else "slow_crank" if machine.rpm < 110 else "no_ignition"
    _enter(machine, "fault")
    machine.switch_at = _next_try(machine, rng)
    return [Happening("start_failed", {"attempts": machine.attempt, "reason": reason})]


def _run(model: Model, machine: Machine, dt_s: float, rng: Random, _hurt: Ailments) -> Events:
    _work(machine, dt_s, rng)
    machine.hours += dt_s / 3600
    if machine.mode_s > 10 and machine.rpm < 0.5 * model.idle_rpm:
        return _shut_down(machine, rng, "stalled")
    # Protection looks at what is, not at what the sensors show: a controller's own switches are wired apart.
    tripped = machine.coolant_c > COOLANT_TRIP_C or (machine.mode_s > 10 and machine.oil_bar < OIL_TRIP_BAR)
    machine.trip_s = machine.trip_s + dt_s if tripped else 0.0
    if machine.trip_s >= 3:
        return _shut_down(machine, rng, "protection")
    if machine.at >= machine.switch_at:
        _enter(machine, "stopping")
    return []


def _shut_down(machine: Machine, rng: Random, reason: str) -> Events:
    _enter(machine, "fault")
    machine.switch_at = _next_try(machine, rng)
    return [Happening("stopped", {"reason": reason})]


def _stop(_model: Model, machine: Machine, dt_s: float, rng: Random, _hurt: Ailments) -> Events:
    _work(machine, dt_s, rng)
    machine.hours += dt_s / 3600
    if machine.mode_s < COOL_DOWN_S:
        return []
    _enter(machine, "off")
    machine.tries = 0
    machine.switch_at = NEVER if machine.duty == "hand" else _next_start(machine, rng)
    return [Happening("stopped", {"reason": "operator"})]


_SEQUENCE = {"off": _idle, "fault": _idle, "cranking": _crank, "running": _run, "stopping": _stop}


# What nature does


def _ambient_c(machine: Machine) -> float:
    """Coldest at three in the night, warmest at three in the afternoon, and warmer and colder days."""
    day, (slow, quick) = machine.at / DAY_MS, machine.weather
    weather_c = 3.6 * math.sin(day / 5.3 * math.tau + slow) + 1.6 * math.sin(day / 1.9 * math.tau + quick)
    return machine.climate_c + weather_c - 6.0 * math.cos((_local_h(machine) - 3.0) / 24 * math.tau)


def _tank(model: Model, machine: Machine, dt_s: float, hurt: Ailments) -> None:
    machine.coolant_level, machine.oil_level = 1.0 - hurt.coolant_lost, 1.0 - hurt.oil_lost
    if machine.mode in ("running", "stopping"):
        burnt = model.fuel_pct_per_h * (0.3 + 1.4 * machine.load)
        machine.fuel_pct -= burnt * dt_s / 3600
    if hurt.fuel_lost:
        machine.fuel_pct, machine.refuelling = min(machine.fuel_pct, 100 * (1 - hurt.fuel_lost)), False
    elif machine.fuel_pct < RESERVE_PCT:
        machine.refuelling = True
    if machine.refuelling:
        machine.fuel_pct += 15 / 60 * dt_s
        machine.refuelling = machine.fuel_pct < 92
    machine.fuel_pct = clip(machine.fuel_pct, 0.0, 100.0)


def _engine(model: Model, machine: Machine, dt_s: float, hurt: Ailments) -> None:
    burning = machine.mode in ("running", "stopping")
    before = machine.load
    machine.load = relax(machine.load, machine.wanted_load if burning else 0.0, dt_s, 4.0)
    machine.rpm = _speed(model, machine, dt_s, before, hurt)
    _heat(model, machine, dt_s, burning, hurt)
    turning = machine.rpm / model.rated_rpm
    # Cold oil is thick: more pressure at the same speed. Half the oil gone, the pump begins to draw air.
    thickness = clip(1 + 0.005 * (85 - machine.coolant_c), 0.85, 1.4)
    oil_left = clip(machine.oil_level / 0.5, 0.0, 1.0) * (1 - 0.25 * min(hurt.bearing_wear, 1.0))
    machine.oil_bar = relax(machine.oil_bar, model.oil_bar * turning**0.6 * thickness * oil_left, dt_s, 1.2)
    rough = 0.7 + 0.6 * machine.load + 6.0 * hurt.bearing_wear**2
    machine.vibration_mm_s = relax(machine.vibration_mm_s, model.vibration_mm_s * turning * rough, dt_s, 3.0)


def _speed(model: Model, machine: Machine, dt_s: float, load_before: float, hurt: Ailments) -> float:
    if machine.mode == "cranking" and not machine.resting:
        stuck = hurt.starter_dead or hurt.bearing_wear >= SEIZED
        pull = 0.0 if stuck else clip((machine.battery_v - 5.5) / 4.5, 0.0, 1.15)
        return relax(machine.rpm, 200.0 * pull, dt_s, 0.4)
    seized = hurt.bearing_wear >= SEIZED
    if machine.mode not in ("running", "stopping") or machine.fuel_pct < 0.5 or hurt.fuel_cut or seized:
        return relax(machine.rpm, 0.0, dt_s, 1.5)
    # The governor lets the speed droop a little with load, and is late where the load jumps.
    governed = model.idle_rpm + model.span_rpm * machine.load
    governed *= 1 - 0.01 * (machine.load - 0.5) if model.span_rpm == 0 else 1.0
    starving = clip(machine.fuel_pct / 2.0, 0.55, 1.0)
    rpm = relax(machine.rpm, governed * starving, dt_s, 1.2)
    # In a long step the governor has caught up long before its end.
    return rpm - 40.0 * (machine.load - load_before) / max(dt_s, 1.0)


def _heat(model: Model, machine: Machine, dt_s: float, burning: bool, hurt: Ailments) -> None:
    """The heat balance of the block: what the load puts in, what the thermostat lets out to the air."""
    excess_c = machine.coolant_c - machine.ambient_c
    if not burning:
        machine.coolant_c = relax(machine.coolant_c, machine.ambient_c, dt_s, 2.0 * 3600)
        return
    heat_kw = model.heat_kw * (0.22 + 0.78 * machine.load) * (1 + 0.15 * hurt.bearing_wear)
    coolant = clip((machine.coolant_level - 0.05) / 0.6, 0.03, 1.0)
    radiator = model.heat_kw * model.radiator * coolant * (1 - 0.85 * hurt.radiator_clogged)
    opened = clip((machine.coolant_c - model.thermostat_c) / 10.0, 0.0, 1.0)
    lost_kw_per_c = model.heat_kw * 0.001 + radiator * opened
    # Where the balance is headed if it goes on as here: exact for a step that stays on this side of the thermostat.
    steepness = lost_kw_per_c + (radiator * 0.1 * max(excess_c, 0.0) if 0 < opened < 1 else 0.0)
    reach_c = (heat_kw - lost_kw_per_c * excess_c) / steepness
    machine.coolant_c += reach_c * (1 - math.exp(-steepness / (model.heat_kw * 3.5) * dt_s))


def _battery(model: Model, machine: Machine, dt_s: float, hurt: Ailments) -> None:
    """Charge, and the voltage at the terminals: resting, charging, or with the starter drawing it down."""
    cold = max(0.0, 20.0 - machine.ambient_c)
    charging = machine.mode in ("running", "stopping") and machine.rpm > 500
    if charging:
        target = model.alternator_v - 0.8 * hurt.battery_loss + 0.006 * cold - 2.4 * hurt.charge_lost
        # Below what the battery itself would show it is not charged: it feeds the machine.
        if hurt.charge_lost > 0.6:
            machine.charge = max(0.0, machine.charge - dt_s / 3600 * 0.25 * hurt.charge_lost)
        else:
            machine.charge = relax(machine.charge, 1.0, dt_s, 2400.0)
    else:
        machine.charge = max(0.0, machine.charge - dt_s / 3600 * (0.002 + 0.02 * hurt.battery_loss))
        target = 11.8 + 1.0 * machine.charge - 1.2 * hurt.battery_loss
    if machine.mode == "cranking" and not machine.resting:
        machine.charge = max(0.0, machine.charge - 0.0012 * dt_s)
        # 250 A through the inner resistance, which grows in the cold, as the battery ages, and as it runs empty.
        empty = max(0.0, 0.4 - machine.charge) / 0.4
        target -= 250 * model.battery_ohm * (1 + 0.015 * cold) * (1 + 2.2 * hurt.battery_loss) * (1 + 4 * empty)
    # The starter's current drops the voltage at once; chemistry takes its time.
    tau_s = 0.05 if machine.mode == "cranking" else 4.0
    machine.battery_v = max(relax(machine.battery_v, target, dt_s, tau_s), 5.0)


# What the controller complains about


@dataclass(frozen=True, slots=True)
class Code:
    """A fault code of the controller (SAE J1939: suspect parameter and failure mode), and when it comes and goes."""

    spn: int
    fmi: int
    text: str
    lamp: Literal["amber", "red"]
    hold_s: float
    comes: Callable[[Machine], bool]
    goes: Callable[[Machine], bool]

    @property
    def name(self) -> str:
        return f"SPN{self.spn}-FMI{self.fmi}"


def _turning(machine: Machine) -> bool:
    return machine.mode == "running" and machine.mode_s > 8


_CODES = (
    Code(
        110, 0, "Engine coolant temperature high", "red", 3,
        lambda m: _turning(m) and m.coolant_c >= 103, lambda m: m.coolant_c < 97,
    ),
    Code(
        100, 1, "Engine oil pressure low", "red", 2,
        lambda m: _turning(m) and m.oil_bar < 1.4, lambda m: _turning(m) and m.oil_bar > 1.9,
    ),
    Code(
        111, 1, "Engine coolant level low", "amber", 5,
        lambda m: m.coolant_level < 0.5, lambda m: m.coolant_level > 0.8,
    ),
    Code(
        168, 1, "Battery potential low", "amber", 30,
        lambda m: m.mode != "cranking" and m.battery_v < 11.8, lambda m: m.battery_v > 12.4,
    ),
    Code(96, 1, "Fuel level low", "amber", 30, lambda m: m.fuel_pct < 5, lambda m: m.fuel_pct > 10),
)  # fmt: skip
CODES = {code.name: code for code in _CODES}


def _comes_any(machine: Machine) -> bool:
    for code in _CODES:  # noqa: SIM110 (a plain loop: this is asked at every step, and a generator costs as much again)
        if code.comes(machine):
            return True
    return False


def _complain(machine: Machine, dt_s: float) -> Events:
    """Set the codes whose causes have lasted, clear those whose causes are gone."""
    events: Events = []
    if not machine.codes and not machine.suspected_s and not _comes_any(machine):
        return events
    for name, code in CODES.items():
        if name in machine.codes:
            if code.goes(machine):
                machine.codes = tuple(other for other in machine.codes if other != name)
                events.append(Happening("fault_cleared", {"code": name}))
        elif code.comes(machine):
            lasted_s = machine.suspected_s.get(name, 0.0) + dt_s
            machine.suspected_s = machine.suspected_s | {name: lasted_s}
            if lasted_s >= code.hold_s:
                machine.codes, machine.suspected_s = (*machine.codes, name), _without(machine.suspected_s, name)
                events.append(Happening("fault_set", _spelled_out(code)))
        elif name in machine.suspected_s:
            machine.suspected_s = _without(machine.suspected_s, name)
    return events


def _without(timers: dict[str, float], name: str) -> dict[str, float]:
    return {other: lasted_s for other, lasted_s in timers.items() if other != name}


def _spelled_out(code: Code) -> dict[str, str | int | float]:
    return {"code": code.name, "spn": code.spn, "fmi": code.fmi, "text": code.text, "lamp": code.lamp}
