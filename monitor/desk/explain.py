"""What else a fault may be, how sure it is, and what speaks for and against. Pure: codes and figures, no words.

A technician who knows the likely other causes takes the right part along. Nothing here decides whether a ticket opens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from monitor.desk.record import Record, between, completeness
from monitor.devices import FaultKind, Profile, Sensor
from monitor.readings import Floats, Ints

BEFORE_MS, AFTER_MS = 15 * 60_000, 5 * 60_000
LEAST_SAMPLES = 5
MOVED_SIGMA = 4.0
MOVED_SHARE = 0.03
"""A sensor that changed by less than this share of its usual value has not moved, however steady it was."""
SUDDEN_SHARE = 0.6
SUDDEN_NOISE = 8.0
SLOW_UNITS = ("°C", "K", "%")
"""Heat and levels do not jump from one reading to the next; voltages, speeds and pressures may. For sensors of which
the model does not say how fast they can change."""
WEAK_UNDER_CRANK = 0.62
"""Of the battery's nominal charging voltage: 8.8 V on a 12 V set, under which a starter hardly turns."""
WEAK_AT_REST = 0.84
LITTLE_FUEL_PCT = 5.0
LOAD_HIGH = 1.3
"""Times the nominal load."""
HOUR_S = 3600.0
CLOCK_RESET_S = 180 * 86_400
MANY_SIGNS = 3
NEIGHBOURS_TOLD = 3
LAPSES = 3


class Certainty(StrEnum):
    """How sure a rule is, in a word."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


def certainty(confidence: float) -> Certainty:
    """The word for a confidence of 0 to 1."""
    if confidence >= 0.95:
        return Certainty.CERTAIN
    return Certainty.LIKELY if confidence >= 0.7 else Certainty.POSSIBLE


class Clue(NamedTuple):
    """Something in the evidence that speaks for or against a cause."""

    code: str
    sensor: str = ""
    value: float | None = None
    """In the sensor's unit; of `gradual` in minutes."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another cause that the same evidence allows, with what speaks for it and what against."""

    code: str
    speaks_for: tuple[Clue, ...] = ()
    against: tuple[Clue, ...] = ()

    @property
    def weight(self) -> int:
        return len(self.speaks_for) - len(self.against)


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of a fault: its finding, its machine's model, and what the machine showed, if that is there."""

    kind: str
    subject: str
    occurred_at: int
    evidence: Mapping[str, object]
    profile: Profile | None = None
    record: Record | None = None

    def number(self, key: str) -> float | None:
        found = self.evidence.get(key)
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None

    def sensor(self, name: str) -> Sensor | None:
        return next((one for one in self.profile.sensors if one.name == name), None) if self.profile else None

    def course(self, metric: str) -> tuple[Ints, Floats]:
        return self.record.course(metric) if self.record else (np.empty(0, dtype=np.int64), np.empty(0))


def alternatives(case: Case) -> list[Alternative]:
    """Other causes, the likeliest first; where nothing tells them apart, the commoner first."""
    of_kind = KINDS.get(case.kind)
    return sorted(of_kind(case), key=lambda one: -one.weight) if of_kind else []


# --- what the readings show ----------------------------------------------------------------------------------------


def _shift(case: Case, metric: str) -> float | None:
    """By how much a sensor's mean changed when the fault occurred, in its own standard deviations; 0: not at all.

    None where too little was measured on either side.
    """
    at, value = case.course(metric)
    before = value[(at >= case.occurred_at - BEFORE_MS) & (at < case.occurred_at - 60_000)]
    after = value[(at >= case.occurred_at) & (at < case.occurred_at + AFTER_MS)]
    if len(before) < LEAST_SAMPLES or not len(after):
        return None
    change = abs(float(after.mean() - before.mean()))
    if change < MOVED_SHARE * max(abs(float(before.mean())), 1e-9):
        return 0.0
    return change / max(float(before.std()), 1e-9)


def _neighbours(case: Case) -> tuple[Clue, ...]:
    """The other sensors that moved when this one did; one clue `still` where none of several did."""
    if case.record is None:
        return ()
    learnt = {one.name for one in case.profile.sensors if one.learn} if case.profile else set(case.record.metrics)
    others = [name for name in case.record.metrics if name != case.subject and name in learnt]
    shifts = [(name, shift) for name in others if (shift := _shift(case, name)) is not None]
    moved = sorted((pair for pair in shifts if pair[1] > MOVED_SIGMA), key=lambda pair: -pair[1])
    if moved:
        return tuple(Clue("moved", name) for name, _ in moved[:NEIGHBOURS_TOLD])
    return (Clue("still"),) if len(shifts) > 1 else ()


def _manner(case: Case) -> Clue | None:
    """Whether the sensor came there in one jump, or over time."""
    at, value = case.course(case.subject)
    near = (at >= case.occurred_at - BEFORE_MS) & (at <= case.occurred_at + 60_000)
    at, value = at[near], value[near]
    if len(value) < 2 * LEAST_SAMPLES:
        return None
    usual = float(np.median(value[: len(value) // 2]))
    reached = float(value[at >= case.occurred_at][0]) if (at >= case.occurred_at).any() else float(value[-1])
    way, steps = abs(reached - usual), np.abs(np.diff(value))
    largest = float(steps.max())
    if largest >= SUDDEN_SHARE * way and way > SUDDEN_NOISE * float(np.median(steps)):
        return Clue("sudden", case.subject, largest)
    left = at[(np.abs(value - usual) < 0.2 * way) & (at < case.occurred_at)]
    since = int(left[-1]) if len(left) else int(at[0])
    return Clue("gradual", case.subject, (case.occurred_at - since) / 60_000)


def _load(case: Case) -> Clue | None:
    """How hard the machine was working."""
    name = case.profile.load_sensor if case.profile else ""
    sensor = case.sensor(name)
    at, value = case.course(name)
    now = value[(at >= case.occurred_at - 60_000) & (at < case.occurred_at + AFTER_MS)]
    if not name or name == case.subject or sensor is None or not sensor.nominal or not len(now):
        return None
    level = float(now.mean())
    return Clue("load_high" if level > LOAD_HIGH * sensor.nominal else "load_ordinary", name, level)


def _state_changed(case: Case) -> Clue | None:
    """Whether the machine had just gone from one state to another."""
    turns = [at for at, _ in case.record.states()[1:]] if case.record else []
    near = [at for at in turns if case.occurred_at - BEFORE_MS <= at <= case.occurred_at]
    return Clue("state_changed", value=(case.occurred_at - near[-1]) / 60_000) if near else None


def _state_before(case: Case) -> str:
    """What the machine was doing just before."""
    told = [state for at, state in case.record.states() if at < case.occurred_at] if case.record else []
    return told[-1] if told else ""


def _last(case: Case, metric: str) -> float | None:
    at, value = case.course(metric)
    earlier = value[at <= case.occurred_at]
    return float(earlier[-1]) if len(earlier) else None


def _only(*clues: Clue | None) -> tuple[Clue, ...]:
    return tuple(clue for clue in clues if clue is not None)


def _named(clues: tuple[Clue, ...] | Clue | None, *codes: str) -> tuple[Clue, ...]:
    """Those of the clues that have one of these codes."""
    found = (clues,) if isinstance(clues, Clue) else clues or ()
    return tuple(clue for clue in found if clue.code in codes)


# --- kind by kind --------------------------------------------------------------------------------------------------


def _sensor_fault(case: Case, manner: Clue | None) -> Alternative:
    """The machine is well, and its sensor or the wire to it is not."""
    neighbours, slow = _neighbours(case), _cannot_jump(case.sensor(case.subject))
    return Alternative(
        "sensor_fault",
        (_named(manner, "sudden") if slow else ()) + _named(neighbours, "still"),
        _named(manner, "gradual") + _named(neighbours, "moved"),
    )


def _cannot_jump(sensor: Sensor | None) -> bool:
    if sensor is None:
        return False
    bounded = sensor.possible is not None and sensor.possible.change_per_s is not None
    return bounded or sensor.unit in SLOW_UNITS


def _of_limit(case: Case) -> list[Alternative]:
    manner, load, profile = _manner(case), _load(case), case.profile
    wrong = _sensor_fault(case, manner)
    if profile and case.subject == profile.fuel_sensor:
        return [
            Alternative("fuel_used_up", _named(manner, "gradual"), _named(manner, "sudden")),
            Alternative("fuel_lost", _named(manner, "sudden"), _named(manner, "gradual")),
            wrong,
        ]
    if profile and case.subject == profile.battery_sensor and case.evidence.get("side") == "below":
        running = _state_before(case) == "running"
        state = (Clue("was_running"),) if running else (Clue("was_not_running"),) if _state_before(case) else ()
        return [
            Alternative("not_charging", _named(state, "was_running"), _named(state, "was_not_running")),
            Alternative("battery_worn", _named(state, "was_not_running"), ()),
            wrong,
        ]
    return [
        Alternative("high_load", _named(load, "load_high"), _named(load, "load_ordinary")),
        wrong,
        Alternative("new_operation", _only(_state_changed(case)), ()),
    ]


def _of_startup(case: Case) -> list[Alternative]:
    profile, reason = case.profile, str(case.evidence.get("reason", ""))
    battery = case.sensor(profile.battery_sensor) if profile else None
    low, rest, fuel = case.number("battery_crank_low"), case.number("battery_last"), case.number("fuel_last")
    nominal = battery.nominal if battery and battery.nominal else None
    power: list[Clue] = []
    for value, share, name in ((low, WEAK_UNDER_CRANK, "crank"), (rest, WEAK_AT_REST, "battery")):
        if value is not None and nominal:
            code = f"{name}_weak" if value < share * nominal else f"{name}_well"
            power.append(Clue(code, battery.name if battery else "", value))
    fuel_name = profile.fuel_sensor if profile else ""
    tank = () if fuel is None else (Clue("fuel_low" if fuel < LITTLE_FUEL_PCT else "fuel_there", fuel_name, fuel),)
    supply = tuple(power)
    weak, well = _named(supply, "crank_weak", "battery_weak"), _named(supply, "crank_well", "battery_well")
    if reason == "shut_down":
        return [
            Alternative("protection", (), ()),
            Alternative("no_fuel", _named(tank, "fuel_low"), _named(tank, "fuel_there")),
            Alternative("stalled", (), ()),
            Alternative("stopped_by_hand", (), ()),
        ]
    cranked = case.evidence.get("cranked")
    turned = Clue("cranked") if cranked is True else Clue("not_cranked") if cranked is False else None
    attempts = case.number("attempts")
    once = Clue("one_attempt") if attempts is not None and attempts <= 1 else None
    again = Clue("many_attempts", value=attempts) if attempts is not None and attempts > 1 else None
    told = _only(Clue(reason) if reason in ("boot_loop", "never_attempted", "no_signal", "start_failed") else None)
    return [
        Alternative("weak_battery", weak + _named(told, "boot_loop"), well),
        Alternative("no_fuel", _named(tank, "fuel_low"), _named(tank, "fuel_there")),
        Alternative("starter", _named(turned, "not_cranked") + _named(told, "never_attempted"),
                    _named(turned, "cranked")),
        Alternative("engine_fuel_supply", _named(turned, "cranked") + _named(supply, "crank_well"),
                    _named(turned, "not_cranked")),
        Alternative("controller", _named(told, "boot_loop", "never_attempted"), _named(turned, "cranked")),
        Alternative("no_connection", _named(told, "no_signal"), _named(told, "boot_loop", "start_failed")),
        Alternative("aborted_by_hand", _only(once), _only(again)),
    ]  # fmt: skip


def _of_battery(case: Case) -> list[Alternative]:
    return [Alternative("battery_worn"), Alternative("not_charging"), _sensor_fault(case, _manner(case))]


def _of_silent(case: Case) -> list[Alternative]:
    profile = case.profile
    battery = case.sensor(profile.battery_sensor) if profile else None
    voltage = _last(case, battery.name) if battery else None
    weak: tuple[Clue, ...] = ()
    if battery and battery.nominal and voltage is not None:
        code = "battery_weak" if voltage < WEAK_AT_REST * battery.nominal else "battery_well"
        weak = (Clue(code, battery.name, voltage),)
    state = _state_before(case)
    before = _only(Clue("was_running") if state == "running" else Clue("was_not_running") if state else None)
    lapses: tuple[Clue, ...] = ()
    if case.record is not None and profile is not None:
        earlier = between(case.record, case.record.full_from, case.occurred_at)
        holes = len(completeness(earlier, profile.report_interval_s).gaps) if len(earlier) else 0
        lapses = (Clue("gaps_before", value=holes),) if holes >= LAPSES else (Clue("no_gaps_before"),)
    cut = _only(Clue("lost") if case.evidence.get("reason") == "lost" else None)
    site = _only(Clue("whole_site") if case.evidence.get("scope") == "site" else None)
    return [
        Alternative("radio", _named(lapses, "gaps_before") + site, ()),
        Alternative("power_off", _named(before, "was_not_running") + _named(weak, "battery_weak"),
                    _named(before, "was_running") + site),
        Alternative("battery_empty", _named(weak, "battery_weak"), _named(weak, "battery_well") + site),
        Alternative("sim_or_network", cut + site, _named(lapses, "gaps_before")),
    ]  # fmt: skip


def _of_trend(case: Case) -> list[Alternative]:
    neighbours, load = _neighbours(case), _load(case)
    return [
        Alternative("load_or_season", _named(load, "load_high") + _named(neighbours, "moved"),
                    _named(load, "load_ordinary")),
        Alternative("sensor_drift", _named(neighbours, "still"), _named(neighbours, "moved")),
    ]  # fmt: skip


def _of_anomaly(case: Case) -> list[Alternative]:
    signs = case.evidence.get("signs")
    count = len(signs) if isinstance(signs, list | tuple) else 0
    many = _only(Clue("many_signs", value=count) if count >= MANY_SIGNS else None)
    one = _only(Clue("one_sign") if count == 1 else None)
    return [
        Alternative("new_operation", _only(_state_changed(case)) + many + _named(_load(case), "load_high"), one),
        Alternative("sensor_fault", one, many),
    ]


def _of_peer(case: Case) -> list[Alternative]:
    load = _load(case)
    return [
        Alternative("other_surroundings"),
        Alternative("high_load", _named(load, "load_high"), _named(load, "load_ordinary")),
        Alternative("sensor_fault"),
    ]


def _of_sensor(case: Case) -> list[Alternative]:
    neighbours = _neighbours(case)
    return [
        Alternative("wiring", _named(_manner(case), "sudden"), ()),
        Alternative("real_change", _named(neighbours, "moved"), _named(neighbours, "still")),
    ]


def _of_code(case: Case) -> list[Alternative]:
    neighbours, lamp = _neighbours(case), case.evidence.get("lamp")
    unlit = _only(Clue("no_lamp") if lamp in ("none", "off", "") else None)
    return [
        Alternative("passing_code", unlit + _named(neighbours, "still"), _named(neighbours, "moved")),
        Alternative("wiring", _named(neighbours, "still"), ()),
    ]


def _of_clock(case: Case) -> list[Alternative]:
    lag_s = case.number("lag_s")
    reset = _only(Clue("clock_reset") if lag_s is not None and lag_s > CLOCK_RESET_S else None)
    hours = lag_s is not None and abs(lag_s) >= HOUR_S / 2 and abs(lag_s - round(lag_s / HOUR_S) * HOUR_S) < 60
    whole = _only(Clue("whole_hours", value=round((lag_s or 0) / HOUR_S)) if hours and not reset else None)
    return [
        Alternative("no_time_source"),
        Alternative("clock_battery", reset, whole),
        Alternative("timezone_set", whole, reset),
    ]


KINDS: dict[str, Callable[[Case], list[Alternative]]] = {
    FaultKind.STARTUP_FAILURE: _of_startup,
    FaultKind.LIMIT: _of_limit,
    FaultKind.FAULT_CODE: _of_code,
    FaultKind.WEAK_BATTERY: _of_battery,
    FaultKind.SILENT: _of_silent,
    FaultKind.SENSOR: _of_sensor,
    FaultKind.TREND: _of_trend,
    FaultKind.ANOMALY: _of_anomaly,
    FaultKind.PEER: _of_peer,
    FaultKind.WRONG_CLOCK: _of_clock,
}
