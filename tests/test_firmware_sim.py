"""The simulated machines against the wire contract and the machine profiles, all in virtual time."""

import copy
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim import FAILURES, MODELS, Injection, Truth, simulate
from firmware_sim.demo import AT_ONCE, story
from firmware_sim.device import Duty, Machine, park, settle, step
from firmware_sim.failures import HEALTHY, Ailments, ailments
from firmware_sim.sensors import Run, Sensors
from firmware_sim.simulate import connected, course
from firmware_sim.wire import Box, Happened, Message, Readings, Suffix
from ingest.message import parse
from monitor.devices import Limits, Profile, Sensor, topic
from monitor.readings import Event, Reading, Rejected, Reply, Status

START_AT = 1_763_864_214_000
HOUR_MS = 3_600_000
HOUR_S = 3600
DAY_S = 24 * HOUR_S
PROFILES = sorted(MODELS)
Heard = tuple[int, Suffix, bytes]


def profile_of(name: str) -> Profile:
    path = Path(__file__).parent.parent / "monitor" / "profiles" / f"{name}.toml"
    return msgspec.toml.decode(path.read_bytes(), type=Profile)


def bodies(heard: Iterable[Heard], device_id: str = "M1") -> Iterator[Reading | Event | Status | Reply]:
    """What the service's own parser makes of it; anything that breaks the contract fails the test."""
    for at, suffix, payload in heard:
        for arrival in parse(f"{topic(device_id)}/{suffix}", payload, at):
            assert not isinstance(arrival.body, Rejected), arrival.body
            yield arrival.body


def readings(heard: Iterable[Heard]) -> Iterator[Reading]:
    return (body for body in bodies(heard) if isinstance(body, Reading))


def events(heard: Iterable[Heard]) -> list[Event]:
    return [body for body in bodies(heard) if isinstance(body, Event)]


def names(heard: Iterable[Heard]) -> list[tuple[int, int]]:
    return [(body.boot, body.seq) for body in bodies(heard) if isinstance(body, Reading | Event)]


def wrong_by(reading: Reading, sensor: Sensor, limits: Limits) -> bool:
    if sensor.states and reading.state not in sensor.states:
        return False
    value = reading.values[sensor.name]
    return (limits.low is not None and value < limits.low) or (limits.high is not None and value > limits.high)


def limit_faults(profile: Profile, heard: Iterable[Heard]) -> dict[str, int]:
    """Sensor → times it lay beyond its limit for its hold, as the words of the profile say it, not as the service
    does."""
    since: dict[str, int] = {}
    faults: Counter[str] = Counter()
    for reading in readings(heard):
        for sensor in profile.sensors:
            if sensor.limits is None or not wrong_by(reading, sensor, sensor.limits):
                since.pop(sensor.name, None)
            elif reading.at - since.setdefault(sensor.name, reading.at) >= sensor.limits.hold_s * 1000:
                faults[sensor.name] += 1
    return dict(faults)


# Profiles


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_names_what_its_machine_shows(name: str) -> None:
    profile = profile_of(name)
    assert profile.name == name
    assert profile.title_zh
    assert all(sensor.title_zh and sensor.unit for sensor in profile.sensors)
    shown = next(readings(simulate(name, "M1", 1, START_AT, 60))).values
    assert set(shown) == {sensor.name for sensor in profile.sensors}


@pytest.mark.parametrize("name", PROFILES)
def test_nominal_values_lie_well_inside_the_limits(name: str) -> None:
    for sensor in profile_of(name).sensors:
        if sensor.nominal is None or sensor.limits is None:
            continue
        limits = sensor.limits
        low = -math.inf if limits.low is None else limits.low + 1.5 * limits.clear_margin
        high = math.inf if limits.high is None else limits.high - 1.5 * limits.clear_margin
        assert low < sensor.nominal < high, sensor.name


@pytest.mark.parametrize("name", PROFILES)
def test_nominal_is_what_a_healthy_machine_shows_at_half_load(name: str) -> None:
    machine = Box.fresh("M1", name, 1, START_AT, report_s=60, duty="always", climate_c=20.0, fixed_load=0.5, spread=0)
    seen = defaultdict(list)
    while machine.at < START_AT + 2 * DAY_S * 1000:
        heard = [(message.at, message.suffix, message.payload) for message in machine.advance(machine.at + 60_000)]
        # Warm, and on a day as mild as the nominal values are meant for.
        if machine.machine.mode_s > 1800 and abs(machine.machine.ambient_c - 20) < 1.5:
            for reading in readings(heard):
                for sensor_name, value in reading.values.items():
                    seen[sensor_name].append(value)
    for sensor in profile_of(name).sensors:
        if sensor.nominal is not None and sensor.name != "fuel_level_pct":
            mean = sum(seen[sensor.name]) / len(seen[sensor.name])
            assert mean == pytest.approx(sensor.nominal, rel=0.04), sensor.name


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize(("climate_c", "days"), [(-8.0, 7), (35.0, 2)], ids=["winter_week", "hot_days"])
def test_an_ordinary_life_breaks_no_limit(name: str, climate_c: float, days: int) -> None:
    heard = list(simulate(name, "M1", 7, START_AT, days * DAY_S, climate_c=climate_c))
    assert limit_faults(profile_of(name), heard) == {}
    happened = Counter(event.event for event in events(heard))
    assert happened["started"] >= days
    assert happened["start_requested"] - happened["started"] <= 1  # one may be under way at the end
    assert set(happened) <= {"start_requested", "started", "stopped"}
    states = {reading.state for reading in readings(heard)}
    assert states >= {"off", "running"}
    assert states <= {"off", "cranking", "running", "stopping"}


def test_a_working_week_has_loads_nights_and_fuel_trucks() -> None:
    week = list(readings(simulate("diesel_generator", "M1", 7, START_AT, 7 * DAY_S, 60)))
    load = [reading.values["load_pct"] for reading in week if reading.state == "running"]
    fuel = [reading.values["fuel_level_pct"] for reading in week]
    assert max(load) > 80
    assert min(load) < 25
    assert min(fuel) > 15
    assert any(later - earlier > 5 for earlier, later in pairwise(fuel))
    assert 0.2 < sum(reading.state == "running" for reading in week) / len(week) < 0.6
    hours = [reading.values["engine_hours_h"] for reading in week]
    assert hours == sorted(hours)


# Physics


def test_step_leaves_the_given_machine_as_it_was() -> None:
    model = MODELS["water_pump"]
    machine = Machine(START_AT)
    settle(model, machine, Random(1), "always")
    before = copy.deepcopy(machine)
    after, _ = step(model, machine, 10.0, Random(1), Ailments(coolant_lost=0.9, battery_loss=0.9))
    assert machine == before
    assert after != before


@pytest.mark.parametrize("name", PROFILES)
def test_long_and_short_steps_end_in_nearly_the_same_place(name: str) -> None:
    def after_20_min(dt_s: float) -> dict[str, float]:
        model, machine, rng = MODELS[name], Machine(START_AT, fixed_load=0.8), Random(3)
        settle(model, machine, rng, "always")
        for _ in range(round(1200 / dt_s)):
            machine, _ = step(model, machine, dt_s, rng)
        return model.show(machine)

    short, long = after_20_min(0.5), after_20_min(10.0)
    for sensor, value in short.items():
        assert long[sensor] == pytest.approx(value, rel=0.04, abs=0.2), sensor


def test_load_drives_heat_and_fuel() -> None:
    def hours_at(load: float) -> list[Reading]:
        return list(readings(simulate("diesel_generator", "M1", 1, START_AT, 2 * HOUR_S, duty="always", load=load)))

    light, heavy = hours_at(0.2), hours_at(0.9)
    assert heavy[-1].values["coolant_temp_c"] > light[-1].values["coolant_temp_c"] + 1
    assert heavy[-1].values["winding_temp_c"] > light[-1].values["winding_temp_c"] + 20

    def burnt(course: list[Reading]) -> float:
        return course[0].values["fuel_level_pct"] - course[-1].values["fuel_level_pct"]

    assert burnt(heavy) > 2 * burnt(light)


def key_turned(failures: Sequence[Injection] = (), **options: Any) -> list[Heard]:
    """A standing generator whose key is turned after five seconds, heard each second for 70."""
    return list(
        simulate(
            "diesel_generator", "M1", 1, START_AT, 70, 1.0, failures, duty="hand", key_at=START_AT + 5000, **options
        )
    )


@pytest.mark.parametrize("climate_c", [-10.0, 30.0])
def test_a_healthy_start(climate_c: float) -> None:
    heard = key_turned(climate_c=climate_c)
    said = events(heard)
    assert [event.event for event in said] == ["start_requested", "started"]
    assert said[1].at - said[0].at < 6000
    course = list(readings(heard))
    lowest = min(reading.values["battery_voltage_v"] for reading in course)
    assert 8.5 < lowest < 11.5  # the starter draws it down
    assert course[-1].values["battery_voltage_v"] > 13.5
    assert course[-1].values["output_frequency_hz"] == pytest.approx(50, abs=1)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [("weak_battery", "slow_crank"), ("dead_starter", "no_crank"), ("fuel_starved", "no_ignition")],
)
def test_a_start_that_fails_says_so_within_the_start_timeout(failure: str, reason: str) -> None:
    heard = key_turned([Injection(failure, START_AT, ramp_s=0)])
    said = [event for event in events(heard) if not event.event.startswith("fault_")]
    assert [event.event for event in said] == ["start_requested", "start_failed"]
    assert said[1].detail == {"attempts": 3, "reason": reason}
    assert said[1].at - said[0].at < profile_of("diesel_generator").start_timeout_s * 1000
    assert list(readings(heard))[-1].state == "fault"
    assert max(reading.values["engine_speed_rpm"] for reading in readings(heard)) < 400


# Failures


def three_hours(failure: str, **options: Any) -> list[Heard]:
    """A running pump on which the failure grows from the first half hour on, for two hours, and is then repaired."""
    ramp_s = HOUR_S if FAILURES[failure].ramp_s else 0
    injection = Injection(failure, START_AT + HOUR_MS // 2, START_AT + 5 * HOUR_MS // 2, ramp_s=ramp_s)
    return list(simulate("water_pump", "M1", 5, START_AT, 4 * HOUR_S, 10.0, [injection], duty="always", **options))


PUMP = profile_of("water_pump")
MARKS = {
    "coolant_leak": {"coolant_temp_c"},
    "clogged_radiator": {"coolant_temp_c"},
    "oil_leak": {"oil_pressure_bar"},
    "bearing_wear": {"vibration_mm_s", "bearing_temp_c"},
    "clogged_filter": {"suction_pressure_bar", "flow_m3_h"},
}


@pytest.mark.parametrize(("failure", "sensors"), MARKS.items())
def test_a_failure_of_the_machine_breaks_its_limits_and_no_others(failure: str, sensors: set[str]) -> None:
    heard = three_hours(failure)
    assert set(limit_faults(PUMP, heard)) == sensors
    last = [reading for reading in readings(heard) if reading.at > START_AT + 3.8 * HOUR_MS]
    assert {reading.state for reading in last} <= {"running", "off", "stopping"}  # repaired


def test_an_empty_tank_shows_in_the_level_and_then_in_the_speed() -> None:
    heard = three_hours("fuel_starved")
    assert "fuel_level_pct" in limit_faults(PUMP, heard)
    low = next(reading for reading in readings(heard) if reading.values["fuel_level_pct"] < 8)
    slow = next(reading for reading in readings(heard) if reading.values["engine_speed_rpm"] < 1000)
    assert low.at < slow.at


@pytest.mark.parametrize(
    ("failure", "codes", "ends"),
    [
        ("coolant_leak", ["SPN111-FMI1", "SPN110-FMI0"], "protection"),
        ("clogged_radiator", ["SPN110-FMI0"], "protection"),
        ("oil_leak", ["SPN100-FMI1"], "protection"),
        ("fuel_starved", ["SPN96-FMI1"], "stalled"),
    ],
)
def test_the_controller_sets_its_codes_stops_the_engine_and_clears_them(
    failure: str, codes: list[str], ends: str
) -> None:
    said = events(three_hours(failure))
    for code in codes:
        of_code = [event for event in said if event.detail.get("code") == code]
        # A hot engine that is tried again once it has cooled down says the same again.
        assert [event.event for event in of_code] == ["fault_set", "fault_cleared"] * (len(of_code) // 2)
        assert set(of_code[0].detail) == {"code", "spn", "fmi", "text", "lamp"}
        assert START_AT + HOUR_MS // 2 < of_code[0].at < START_AT + 5 * HOUR_MS // 2
    assert ends in {event.detail["reason"] for event in said if event.event == "stopped"}


@pytest.mark.parametrize(
    ("failure", "sensor"), [("stuck_sensor", "coolant_temp_c"), ("drifting_sensor", "oil_pressure_bar")]
)
def test_a_sensor_failure_changes_that_sensor_only(failure: str, sensor: str) -> None:
    plain = list(readings(simulate("water_pump", "M1", 5, START_AT, 4 * HOUR_S, 10.0, duty="always")))
    failing = list(readings(three_hours(failure)))
    shown = {}
    for here, there in zip(plain, failing, strict=True):
        true, shown[here.at] = here.values.pop(sensor), there.values.pop(sensor)
        assert here.values == pytest.approx(there.values, rel=0.01, abs=0.1)  # steps end where failures begin
        assert (here.at, here.state) == (there.at, there.state)
        if here.at < START_AT + HOUR_MS // 2 or here.at > START_AT + 5 * HOUR_MS // 2:
            assert shown[here.at] == true
        elif failure == "stuck_sensor":
            assert shown[here.at] == shown[min(at for at in shown if at > START_AT + HOUR_MS // 2 - 10_000)]
        elif here.at > START_AT + 3 * HOUR_MS // 2:
            assert shown[here.at] == pytest.approx(1.4 * true, abs=0.02)


def test_weak_battery_wears_down_gradually() -> None:
    injection = Injection("weak_battery", START_AT, ramp_s=2 * DAY_S)
    said = events(simulate("air_compressor", "M1", 5, START_AT, 3 * DAY_S, 60.0, [injection]))
    kinds = [event.event for event in said]
    assert kinds.index("started") < kinds.index("start_failed")  # first it still starts


def test_a_boot_loop_counts_up_and_the_engine_stands() -> None:
    heard = three_hours("boot_loop")
    loop = [r for r in readings(heard) if START_AT + HOUR_MS < r.at < START_AT + 2 * HOUR_MS]
    boots = [reading.boot for reading in loop]
    assert boots == sorted(boots)
    assert len(set(boots)) == pytest.approx(180, abs=3)
    assert {reading.state for reading in loop} == {"off"}
    for (boot, seq), (next_boot, next_seq) in pairwise(names(heard)):
        assert (next_boot, next_seq) in ((boot, seq + 1), (boot + 1, 0))
    statuses = [body for body in bodies(heard) if isinstance(body, Status)]
    for lost, online in zip(statuses[1:-1:2], statuses[2:-1:2], strict=True):
        assert (lost.state, online.state, online.boot) == ("lost", "online", lost.boot + 1)


@pytest.mark.parametrize("size", [1.0, -1.0])
def test_a_wrong_clock_is_wrong_in_readings_and_events_alike(size: float) -> None:
    injection = Injection("wrong_clock", START_AT, size=size)
    heard = simulate("water_pump", "M1", 5, START_AT, HOUR_S, 10.0, [injection], duty="always")
    for at, suffix, payload in heard:
        told = msgspec.json.decode(payload)["at"]
        assert told - at == size * 2 * HOUR_MS, suffix


def test_a_blocked_start_is_a_request_and_nothing_else() -> None:
    heard = key_turned([Injection("blocked_start", START_AT)])
    assert [event.event for event in events(heard)] == ["start_requested"]
    assert {reading.state for reading in readings(heard)} == {"off"}


@pytest.mark.parametrize("key", [True, False], ids=["standing", "running"])
def test_a_shut_fuel_valve_stops_the_engine_or_keeps_it_from_firing(key: bool) -> None:
    if key:
        said = events(key_turned([Injection("fuel_valve_shut", START_AT)]))
        assert said[-1].detail == {"attempts": 3, "reason": "no_ignition"}
        return
    failure = Injection("fuel_valve_shut", START_AT + HOUR_MS)
    heard = list(simulate("water_pump", "M1", 5, START_AT, 1.1 * HOUR_S, 10.0, [failure], duty="always"))
    stopped = next(event for event in events(heard) if event.event == "stopped")
    assert stopped.detail == {"reason": "stalled"}
    assert 0 < stopped.at - failure.from_at < 20_000


def test_a_dead_controller_says_nothing_and_remembers_nothing() -> None:
    heard = three_hours("dead_controller")
    struck_at, repaired_at = START_AT + HOUR_MS // 2, START_AT + 5 * HOUR_MS // 2
    meanwhile = [(at, payload) for at, _, payload in heard if struck_at < at < repaired_at]
    assert [at - struck_at for at, _ in meanwhile] == [45_000]
    assert b'"lost"' in meanwhile[0][1]
    assert not any(struck_at < reading.at < repaired_at for reading in readings(heard))
    assert {boot for boot, _ in names(heard)} == {1, 2}


def test_a_mute_controller_shows_its_states_and_says_no_events() -> None:
    heard = key_turned([Injection("mute_controller", START_AT), Injection("dead_starter", START_AT)])
    assert events(heard) == []
    assert list(dict.fromkeys(reading.state for reading in readings(heard))) == ["off", "cranking", "fault"]


@pytest.mark.parametrize(
    ("profile", "sensor"),
    [("diesel_generator", "output_voltage_v"), ("air_compressor", "discharge_pressure_bar"),
     ("water_pump", "flow_m3_h")],
)  # fmt: skip
def test_a_lost_output_is_gone_while_the_engine_runs_on(profile: str, sensor: str) -> None:
    failure = Injection("output_loss", START_AT + HOUR_MS)
    heard = list(readings(simulate(profile, "M1", 5, START_AT, 1.2 * HOUR_S, 10.0, [failure], duty="always")))
    before, after = heard[355], heard[-1]
    assert before.state == after.state == "running"
    assert before.values[sensor] > 1
    assert after.values[sensor] < 0.05 * before.values[sensor]
    assert after.values["engine_speed_rpm"] > 1000


def test_a_failing_alternator_empties_the_battery_until_the_next_start_fails() -> None:
    failure = Injection("alternator_failing", START_AT, ramp_s=6 * HOUR_S)
    heard = list(simulate("air_compressor", "M1", 5, START_AT, DAY_S, 60.0, [failure], duty="always"))
    running = [reading.values["battery_voltage_v"] for reading in readings(heard) if reading.state == "running"]
    assert max(running[:60]) > 13.8
    assert min(running) < 12.3
    assert "start_failed" in {event.event for event in events(heard)}


def test_a_broken_wire_shows_the_end_of_the_range() -> None:
    course = list(readings(three_hours("broken_wire")))
    broken = [reading for reading in course if START_AT + HOUR_MS // 2 <= reading.at < START_AT + 5 * HOUR_MS // 2]
    assert {reading.values["oil_pressure_bar"] for reading in broken} == {10.2}
    assert course[-1].values["oil_pressure_bar"] < 6


def test_people_try_less_and_less_often_and_a_repair_charges_the_battery() -> None:
    failure = Injection("dead_starter", START_AT, START_AT + 12 * HOUR_MS)
    said = events(simulate("water_pump", "M1", 5, START_AT, 16 * HOUR_S, 60.0, [failure], duty="always"))
    tries = [event.at for event in said if event.event == "start_requested" and event.at < failure.to_at]
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert 3 < len(tries) < 10
    assert max(waits) > 3 * min(waits)
    again = next(event for event in said if event.event == "start_requested" and event.at > failure.to_at)
    assert again.at - failure.to_at < 11 * 60_000
    assert next(event for event in said if event.at > again.at).event == "started"


def test_a_worn_bearing_seizes_at_last() -> None:
    failure = Injection("bearing_wear", START_AT, size=1.4, ramp_s=2 * HOUR_S)
    heard = list(simulate("water_pump", "M1", 5, START_AT, 3 * HOUR_S, 10.0, [failure], duty="always"))
    assert "stalled" in {event.detail["reason"] for event in events(heard) if event.event == "stopped"}


# The life of a healthy machine


def test_a_site_rests_on_saturday_and_sunday() -> None:
    course = list(readings(simulate("diesel_generator", "M1", 3, START_AT, 9 * DAY_S, 300.0, duty="site")))
    ran = {(reading.at + 8 * HOUR_MS) // (24 * HOUR_MS) for reading in course if reading.state == "running"}
    # The epoch began on a Thursday: day 2 was a Saturday.
    assert {(day + 3) % 7 for day in ran} == {0, 1, 2, 3, 4}


def lived(days: float, failures: Sequence[Injection] = (), **habits: Any) -> list[Heard]:
    """What is heard of a generator with these habits that works in the daytime."""
    machine = box(duty="day", report_s=60.0)
    machine.injections = list(failures)
    for habit, value in habits.items():
        setattr(machine.machine, habit, value)
    said = connected(machine, START_AT + round(days * DAY_S * 1000), machine.advance)
    return [(message.at, message.suffix, message.payload) for message in said]


def test_a_machine_that_sleeps_says_goodbye_and_wakes_up_before_work() -> None:
    heard = lived(5, sleeps=True)
    said = [body for body in bodies(heard) if isinstance(body, Status)]
    assert [status.state for status in said][:4] == ["offline", "online", "offline", "online"]
    assert {status.reason for status in said if status.state == "offline"} == {"sleeping"}
    assert [status.boot for status in said if status.state == "online"] == list(range(2, 2 + len(said) // 2))
    for asleep, awake in zip(said[::2], said[1::2], strict=False):
        assert not any(asleep.at < reading.at < awake.at for reading in readings(heard))
        started = next(event for event in events(heard) if event.at > awake.at)
        assert started.event == "start_requested"
        assert started.at - awake.at == pytest.approx(120_000, abs=1500)


def test_people_break_a_start_off_and_try_again() -> None:
    said = events(lived(5, fickle=0.4))
    kinds = [event.event for event in said]
    broken = [i for i, (one, two) in enumerate(pairwise(kinds)) if (one, two) == ("start_requested", "stopped")]
    assert broken
    assert "start_failed" not in kinds
    for i in broken:
        assert said[i + 1].detail == {"reason": "operator"}
        assert said[i + 1].at - said[i].at < 3000
        assert 20_000 <= said[i + 2].at - said[i + 1].at <= 121_000


def test_a_transport_is_polite_and_ends_in_another_climate() -> None:
    away = Injection("transport", START_AT + 30 * HOUR_MS, START_AT + 36 * HOUR_MS, size=14.0)
    plain, moved = lived(4), lived(4, [away])
    goodbye, hello = [body for body in bodies(moved) if isinstance(body, Status)]
    assert (goodbye.state, goodbye.reason, hello.state, hello.boot) == ("offline", "transport", "online", 2)
    assert not any(away.from_at < reading.at < away.to_at for reading in readings(moved))

    def coldest(heard: list[Heard]) -> float:
        return min(reading.values["coolant_temp_c"] for reading in readings(heard) if reading.at > away.to_at)

    assert coldest(moved) > coldest(plain) + 8


def test_machines_of_a_model_differ_by_some_per_cent() -> None:
    def warm(device_id: str, spread: float) -> dict[str, float]:
        course = simulate("water_pump", device_id, 1, START_AT, HOUR_S, duty="always", load=0.5, spread=spread)
        return list(readings(course))[-1].values

    def apart(spread: float) -> dict[str, float]:
        one, two = warm("M1", spread), warm("M2", spread)
        return {name: abs(two[name] / one[name] - 1) for name in ("oil_pressure_bar", "vibration_mm_s")}

    assert all(0.015 < share < 0.5 for share in apart(1.0).values())
    assert apart(0.0)["oil_pressure_bar"] < 0.05


def sensors_of(spread: float = 1.0) -> tuple[Sensors, np.ndarray[Any, Any]]:
    model = MODELS["air_compressor"]
    truth = model.show(Machine(START_AT, coolant_c=84.0, oil_bar=4.2, rpm=1800.0, battery_v=14.1, fuel_pct=60.0))
    return Sensors(model, tuple(truth), "1", spread), np.array(list(truth.values()))


def test_how_a_course_is_cut_into_blocks_changes_nothing_of_what_is_shown() -> None:
    at, hurt = START_AT + 10_000 * np.arange(400), Ailments(stuck={"coolant_temp_c"}, drift={"oil_pressure_bar": 0.1})
    whole, truth = sensors_of()
    block = np.repeat(truth[None, :], 400, axis=0)
    expected = whole.read(at, block, [Run(100, 300, hurt)])
    parts, _ = sensors_of()
    shown = [parts.read(at[:100], block[:100]), parts.read(at[100:101], block[:1], [Run(0, 1, hurt)]),
             parts.read(at[101:300], block[:199], [Run(0, 199, hurt)]), parts.read(at[300:], block[:100])]  # fmt: skip
    assert np.array_equal(np.concatenate(shown), expected)


def test_stray_readings_are_rare_single_and_plain_to_see() -> None:
    sensors, truth = sensors_of()
    at = START_AT + 10_000 * np.arange(100_000)
    shown = sensors.read(at, np.repeat(truth[None, :], len(at), axis=0))
    alive = truth > 10  # far enough from 0 for a share of the value to say something
    wild = (np.abs(shown[:, alive] / truth[alive] - 1) > 0.15).any(axis=1)
    assert 1 <= wild.sum() < 30
    assert not (wild[1:] & wild[:-1]).any()


def test_a_course_carries_what_goes_over_the_wire() -> None:
    """The typed course that benches read, and the messages that a broker hears, are the same life."""
    failures = [Injection("radio_outage", START_AT + 2 * HOUR_MS, START_AT + 3 * HOUR_MS)]
    heard = list(simulate("water_pump", "M1", 5, START_AT, 8 * HOUR_S, 10.0, failures, duty="always"))
    machine = Box.fresh("M1", "water_pump", 5, START_AT, report_s=10.0, duty="always")
    machine.injections = list(failures)
    typed: dict[tuple[int, int], tuple[int, object]] = {}
    for heard_at, said in course(machine, START_AT + 8 * HOUR_MS):
        if isinstance(said, Readings):
            for row in range(len(said)):
                at = int(said.at[row]) if heard_at == said.at[0] else heard_at
                values = dict(zip(machine.names, said.values[row].tolist(), strict=True))
                typed[said.boot, said.seq + row] = (at, (said.modes[row], values))
        elif isinstance(said, Happened):
            typed[said.boot, said.seq] = (heard_at, (said.event, said.detail))
    wired: dict[tuple[int, int], tuple[int, object]] = {}
    for at, suffix, payload in heard:
        for body in bodies([(at, suffix, payload)]):
            if isinstance(body, Reading):
                wired[body.boot, body.seq] = (at, (body.state, body.values))
            elif isinstance(body, Event):
                wired[body.boot, body.seq] = (at, (body.event, body.detail))
    assert typed == wired


# The wire


@pytest.mark.parametrize("failure", ["duplicate", "reorder", "radio_outage"])
def test_a_bad_radio_muddles_messages_but_changes_and_loses_none(failure: str) -> None:
    plain = list(simulate("water_pump", "M1", 5, START_AT, 4 * HOUR_S, 10.0, duty="always"))
    muddled = three_hours(failure)

    def said(heard: Sequence[Heard]) -> list[Reading | Event]:
        return [body for body in bodies(heard) if isinstance(body, Reading | Event)]

    expected, arrived = said(plain), said(muddled)
    assert {(body.seq, body.at) for body in arrived} == {(body.seq, body.at) for body in expected}
    shown = {body.seq: body.values for body in expected if isinstance(body, Reading)}
    for body in arrived:
        if isinstance(body, Reading):
            assert body.values == pytest.approx(shown[body.seq], rel=0.01, abs=0.1)  # steps end where outages begin
    in_order = [body.seq for body in arrived] == sorted(body.seq for body in arrived)
    assert in_order == (failure != "reorder")
    assert (len(arrived) > len(expected)) == (failure == "duplicate")


def test_an_outage_ends_in_arrays_in_order_after_the_greeting() -> None:
    heard = three_hours("radio_outage")
    back = next(
        i for i, (at, suffix, _) in enumerate(heard) if suffix == "status" and at >= START_AT + 5 * HOUR_MS // 2
    )
    lost = next(i for i, (_, _, payload) in enumerate(heard) if b'"lost"' in payload)
    assert back == lost + 1  # nothing is heard in between
    arrays = [payload for _, _, payload in heard if payload.startswith(b"[")]
    assert [len(msgspec.json.decode(payload)) for payload in arrays][:2] == [250, 250]
    assert max(map(len, arrays)) < 200_000
    assert [seq for _, seq in names(heard)] == list(range(len(names(heard))))
    will, greeting = (msgspec.json.decode(payload) for _, _, payload in heard[lost : back + 1])
    assert will["at"] == msgspec.json.decode(heard[0][2])["at"]  # the connect time of the connection that broke
    assert greeting["state"] == "online"


def test_events_keep_their_place_in_a_backlog() -> None:
    outage = Injection("radio_outage", START_AT + 2000, START_AT + 60_000)
    heard = [(suffix, payload) for _, suffix, payload in key_turned([outage]) if suffix in ("telemetry", "event")]
    assert [seq for _, seq in names((0, suffix, payload) for suffix, payload in heard)] == list(range(72))
    stored = heard[2:7]
    assert [suffix for suffix, _ in stored] == ["telemetry", "event", "telemetry", "event", "telemetry"]
    assert [payload[:1] for suffix, payload in stored if suffix == "telemetry"] == [b"["] * 3


def test_a_short_outage_breaks_no_connection() -> None:
    injection = Injection("radio_outage", START_AT + 60_000, START_AT + 90_000)
    heard = list(simulate("water_pump", "M1", 5, START_AT, 300, 10.0, [injection], duty="always"))
    assert [body.state for body in bodies(heard) if isinstance(body, Status)] == ["online", "offline"]
    assert len(names(heard)) == 30


@pytest.mark.parametrize("name", PROFILES)
def test_a_day_speaks_the_contract(name: str) -> None:
    heard = list(simulate(name, "M1", 9, START_AT, DAY_S, 10.0, boot=12))
    assert [at for at, _, _ in heard] == sorted(at for at, _, _ in heard)
    assert names(heard) == [(12, seq) for seq in range(len(names(heard)))]
    said = list(bodies(heard))
    assert said[0] == Status("online", START_AT, 12, "", MODELS[name].firmware, MODELS[name].title)
    assert said[-1] == Status("offline", START_AT + DAY_S * 1000, 12, "powered_off")
    reported = [at for at, suffix, _ in heard if suffix == "telemetry"]
    assert {later - earlier for earlier, later in pairwise(reported)} == {10_000}


@pytest.mark.parametrize("failure", sorted(FAILURES))
def test_the_same_seed_gives_the_same_bytes(failure: str) -> None:
    injection = Injection(failure, START_AT + 600_000, ramp_s=600)

    def run(seed: int) -> list[Heard]:
        return list(simulate("air_compressor", "M1", seed, START_AT, HOUR_S, 10.0, [injection], duty="always"))

    first = run(1)
    assert first == run(1)
    assert first != run(2)
    assert first != list(simulate("air_compressor", "M1", 1, START_AT, HOUR_S, 10.0, duty="always")) or (
        failure in ("weak_battery", "dead_starter")  # which nobody sees while the engine runs
    )


def box(**options: Any) -> Box:
    return Box.fresh("M1", "diesel_generator", 1, START_AT, **options)


def test_diagnose_is_answered_with_a_self_test() -> None:
    machine = box(duty="hand")
    machine.inject(Injection("weak_battery", START_AT, ramp_s=0))
    machine.advance(START_AT + 120_000)
    said = machine.answer(b'{"id": "7f", "at": 1, "command": "diagnose", "args": {}}')
    (reply,) = bodies([(m.at, m.suffix, m.payload) for m in said])
    assert isinstance(reply, Reply)
    assert (reply.id, reply.ok, reply.at) == ("7f", True, START_AT + 120_000)
    assert reply.result["checks"]["battery"] == "weak"
    assert reply.result["checks"]["fuel"] == "ok"
    assert reply.result["codes"] == ["SPN168-FMI1"]


def test_an_unknown_command_is_refused_by_name() -> None:
    (reply,) = box().answer(b'{"id": "8", "at": 1, "command": "self_destruct"}')
    assert msgspec.json.decode(reply.payload)["ok"] is False


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode) | st.just(b"[" * 5000))
def test_nonsense_on_the_command_topic_is_ignored(raw: bytes) -> None:
    assert BOX.answer(raw) == []


BOX = box()


def test_a_backlog_is_bounded_and_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware_sim.wire.BACKLOG_LIMIT", 10)
    machine = box(duty="hand", report_s=1.0)
    machine.inject(Injection("radio_outage", START_AT, START_AT + 60_000))
    assert machine.advance(START_AT + 60_000) == []
    seqs = [seq for _, seq in names((m.at, m.suffix, m.payload) for m in machine.advance(START_AT + 61_500))]
    assert seqs == list(range(seqs[0], seqs[0] + 11))
    assert seqs[-1] >= 59


# Injections, truth, story


@pytest.mark.parametrize(
    ("ramp_s", "after_s", "depth"),
    [(0, 0, 1), (100, 0, 0), (100, 50, 0.5), (100, 100, 1), (100, 199, 1), (100, 200, 0)],
)
def test_depth_grows_along_the_ramp_and_ends_with_the_repair(ramp_s: float, after_s: int, depth: float) -> None:
    injection = Injection("oil_leak", START_AT, START_AT + 200_000, ramp_s=ramp_s)
    assert injection.depth(START_AT + after_s * 1000) == depth
    assert injection.depth(START_AT - 1) == 0


def test_an_unknown_failure_is_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match="weak_battery"):
        Injection("gremlins", START_AT)


def test_every_failure_does_something_and_health_stays_untouched() -> None:
    assert len(FAILURES) >= 12
    for failure in FAILURES:
        assert ailments([Injection(failure, START_AT, ramp_s=0)], START_AT) != Ailments(), failure
    assert Ailments() == HEALTHY


def test_truth_is_one_json_line() -> None:
    line = Truth.of("M1", Injection("drifting_sensor", 5, 9)).line()
    assert line.endswith(b"\n")
    assert msgspec.json.decode(line) == {
        "device_id": "M1", "failure": "drifting_sensor", "from_at": 5, "to_at": 9, "size": 1.0, "ramp_s": 2 * DAY_S,
        "sensor": "oil_pressure_bar", "breakdown_at": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("failure", "size", "duty", "hours"),
    [
        ("bearing_wear", 1.0, "always", 2.0),  # worn out at the end of its ramp
        ("bearing_wear", 1.6, "always", 1.25),
        ("bearing_wear", 0.9, "always", None),  # never all of it
        ("bearing_wear", 1.0, "hand", None),  # nothing is worn out that stands
        ("oil_leak", 1.0, "always", 1.8),  # its protection is quicker
        ("drifting_sensor", -1.0, "always", 2.0),  # showing too little is as bad
        ("stuck_sensor", 1.0, "always", None),
    ],
)
def test_the_truth_knows_the_breakdown(failure: str, size: float, duty: Duty, hours: float | None) -> None:
    machine = box(duty=duty)
    injection = Injection(failure, START_AT, size=size, ramp_s=2 * HOUR_S)
    machine.inject(injection)
    machine.advance(START_AT + 3 * HOUR_MS)
    breakdown_at = Truth.of("M1", injection, machine.broke.get(injection)).breakdown_at
    assert (None if breakdown_at is None else (breakdown_at - START_AT) / HOUR_MS) == (
        None if hours is None else pytest.approx(hours, abs=0.1)
    )


def test_a_box_keeps_when_the_key_was_turned_in_vain_and_when_it_broke() -> None:
    machine = box(duty="hand")
    failure = Injection("dead_starter", START_AT)
    machine.inject(failure)
    machine.machine.switch_at = START_AT + 60_000
    machine.advance(START_AT + 120_000)
    assert machine.asked == {failure: START_AT + 60_000}
    assert machine.broke[failure] - machine.asked[failure] == pytest.approx(23_000, abs=1000)


def test_healing_ends_a_failure_and_says_when() -> None:
    machine = box()
    machine.inject(Injection("oil_leak", START_AT, ramp_s=0))
    machine.advance(START_AT + 5000)
    assert machine.hurt.oil_lost == 1.0
    assert [injection.to_at for injection in machine.heal("oil_leak")] == [START_AT + 5000]
    assert machine.hurt is HEALTHY


def test_the_story_begins_with_a_start_that_fails_and_leaves_most_machines_alone() -> None:
    device_ids = [f"M{number}" for number in range(40)]
    acts = story(device_ids, 1, START_AT)
    told = [next(acts) for _ in range(60)]
    assert [act.injection.from_at for act in told] == sorted(act.injection.from_at for act in told)
    assert (told[0].device_id, told[0].injection.failure, told[0].key) == ("M0", "weak_battery", True)
    assert told[1].injection.from_at - START_AT > 45_000
    assert len({act.injection.failure for act in told}) > 8
    for act in told:
        at = act.injection.from_at
        failing = [other for other in told if other.injection.from_at <= at < other.injection.to_at]
        assert len({other.device_id for other in failing}) == len(failing) <= len(device_ids) // AT_ONCE


def test_the_story_s_first_act_is_over_within_half_a_minute() -> None:
    machine = box(duty="always", report_s=2.0)
    act = next(story(["M1"], 1, START_AT))
    machine.inject(act.injection)
    park(machine.machine, START_AT + 6000)
    heard = [(m.at, m.suffix, m.payload) for m in machine.advance(START_AT + 60_000)]
    (failed,) = [event for event in events(heard) if event.event == "start_failed"]
    assert failed.at - START_AT < 32_000


def test_two_machines_of_one_seed_live_differently() -> None:
    def values(device_id: str) -> list[bytes]:
        return [payload for _, _, payload in simulate("water_pump", device_id, 1, START_AT, 600)]

    assert values("M1") != values("M2")


def test_measure_does_not_invent_values_for_a_sensor_stuck_from_the_start() -> None:
    model, machine = MODELS["water_pump"], Machine(START_AT)
    truth = model.show(machine)
    sensors = Sensors(model, tuple(truth), "1", 1.0)
    runs = [Run(0, 1, Ailments(stuck={"coolant_temp_c"}))]
    shown = sensors.read(np.array([START_AT]), np.array([list(truth.values())]), runs)
    assert dict(zip(truth, shown[0], strict=True))["coolant_temp_c"] == pytest.approx(machine.coolant_c, abs=1.5)


def test_messages_carry_true_time_beside_the_box_s_own() -> None:
    machine = box(duty="hand")
    machine.inject(Injection("wrong_clock", START_AT))
    said: list[Message] = machine.advance(START_AT + 30_000)
    assert all(START_AT < message.at <= START_AT + 30_000 for message in said)
