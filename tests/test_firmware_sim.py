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
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim import FAILURES, MODELS, Injection, Truth, simulate
from firmware_sim.demo import AT_ONCE, story
from firmware_sim.device import Machine, measure, park, settle, step
from firmware_sim.failures import HEALTHY, Ailments, ailments
from firmware_sim.wire import Box, Message, Suffix
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
    machine = Box.fresh("M1", name, 1, START_AT, report_s=60, duty="always", climate_c=20.0, fixed_load=0.5)
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
    assert set(limit_faults(PUMP, heard)) >= {"fuel_level_pct", "engine_speed_rpm"}
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
        assert of_code[0].at < START_AT + 5 * HOUR_MS // 2 < of_code[-1].at
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
        assert here == there
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


# The wire


@pytest.mark.parametrize("failure", ["duplicate", "reorder", "radio_outage"])
def test_a_bad_radio_muddles_messages_but_changes_and_loses_none(failure: str) -> None:
    plain = list(simulate("water_pump", "M1", 5, START_AT, 4 * HOUR_S, 10.0, duty="always"))
    muddled = three_hours(failure)

    def said(heard: Sequence[Heard]) -> list[Reading | Event]:
        return [body for body in bodies(heard) if isinstance(body, Reading | Event)]

    expected, arrived = said(plain), said(muddled)
    assert {body.seq: body for body in arrived} == {body.seq: body for body in expected}
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
        "sensor": "oil_pressure_bar",
    }  # fmt: skip


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
    shown = measure(model, machine, Random(1), Ailments(stuck={"coolant_temp_c"}), {})
    assert shown["coolant_temp_c"] == pytest.approx(machine.coolant_c, abs=1.5)


def test_messages_carry_true_time_beside_the_box_s_own() -> None:
    machine = box(duty="hand")
    machine.inject(Injection("wrong_clock", START_AT))
    said: list[Message] = machine.advance(START_AT + 30_000)
    assert all(START_AT < message.at <= START_AT + 30_000 for message in said)
