"""Implausible: sequences of values, and whether the sensor is to blame for them."""

import json
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim import Injection, simulate
from ingest.message import parse
from monitor.detect import Bank, Finding
from monitor.detect.implausible import Implausible
from monitor.detect.limits import Limits
from monitor.detect.operation import Operation
from monitor.detect.stuck import Stuck
from monitor.devices import Device, FaultKind, Possible, Profile, Sensor, topic
from monitor.devices import Limits as Band
from monitor.readings import Batch, Message, Reading
from monitor.store.profiles import load_profiles
from tests.detecting import T0, outcome, reading, say, told

RIG = Profile(
    name="rig", title="", title_zh="", sensors=(
        Sensor("temp_c", "°C", limits=Band(high=100, hold_s=20, clear_margin=2),
               possible=Possible(low=-40, high=150, change_per_s=1)),
        Sensor("speed_rpm", "rpm", possible=Possible(low=-50, high=4000)),
        Sensor("free"),
    ),
)  # fmt: skip
NAN = float("nan")
DETECTORS = (Operation, Limits, Stuck, Implausible)
SETTLED = 10
"""Readings, one every ten seconds, after which the state is old enough."""


def rig(profile: Profile = RIG) -> Bank:
    made = Bank({"rig": profile}, DETECTORS)
    made.place([Device("m1", "rig")])
    return made


def course(values: Sequence[float], sensor: str = "temp_c", *, first: int = 0, state: str = "running") -> list[Message]:
    return [reading(10 * (first + i), {sensor: value}, state=state) for i, value in enumerate(values)]


def reasons(found: Sequence[Finding]) -> list[tuple[str, str]]:
    return [(str(f.evidence["reason"]), "opened" if f.opened else "cleared") for f in found if f.kind == "sensor"]


CALM = [80.0] * SETTLED


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([80] * 20, []),
        ([80, 85, 90, 95, 97], []),  # as fast as it can be
        ([80, 300, 80, 80, 80], []),  # one spike on the wire
        ([80, 120, 120, 80, 80], []),  # two samples long
        ([80, 300, NAN, 80, 80], []),
        ([80, 300, 310], ["impossible opened"]),
        ([80, -50, -50], ["impossible opened"]),
        ([80, 300, NAN, 310], ["impossible opened"]),  # a missing value is no evidence
        ([80, 300, 310, 80, 80, 80, 80], ["impossible opened"]),
        ([80, 300, 310, 80, 80, 80, 80, 80], ["impossible opened", "impossible cleared"]),
        ([80, 300, 310, 80, 80, 300, 80, 80, 80, 80], ["impossible opened"]),  # five in a row
        ([80, 40, 40, 40], []),  # it may come back yet
        ([80, 40, 40, 40, 40], ["jump opened"]),
        ([80, 40, 45, 50, 40, *[45] * 400], ["jump opened"]),  # nothing brings it back
        ([80, 40, 41, 42, 41, 79, 80, 81, 80, 80], ["jump opened", "jump cleared"]),
        ([80, 40, 41, 42, 41, 79, 80, 81, 45, 80, 80], ["jump opened"]),
        ([80, 40, 80, 80, 40, 80, 80, 80], []),
        ([80, 40, 80, 80, 40, 80, 80, 120, 80], ["spikes opened"]),
        ([80, 300, 80, 80, 300, 80, 80, 300, 80], ["spikes opened"]),
        ([80, 40, 80, *[80] * 360, 40, 80, 40, 80], []),  # not within one hour
        ([80, 40, 80, 40, 80, 40, 80, *[80] * 361], ["spikes opened", "spikes cleared"]),
        ([80, 40, 80, 40, 80, 40, 80, *[80] * 300, 40, 80, *[80] * 300], ["spikes opened"]),
    ],
)
def test_values_of_a_running_machine(values: list[float], said: list[str]) -> None:
    found = say(rig(), course([*CALM, *values]))
    assert [" ".join(each) for each in reasons(found)] == said
    assert {f.subject for f in found} <= {"temp_c"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1500, 0, 0, 0, 0, 0], []),  # an engine may stall
        ([1500, 9000, 1500], []),
        ([1500, 9000, 9000], ["impossible opened"]),
        ([1500, 9000, 800, 800, 1500, 9000, 1400, 1500, 9000, 1500], ["spikes opened"]),
    ],
)
def test_a_quantity_that_may_change_at_once(values: list[float], said: list[str]) -> None:
    found = say(rig(), course([*[1500] * SETTLED, *values], "speed_rpm"))
    assert [" ".join(each) for each in reasons(found)] == said


def test_of_what_the_profile_does_not_say_nothing_is_judged() -> None:
    assert say(rig(), course([1e300, -1e300] * 20, "free")) == []


def test_evidence() -> None:
    jump = say(rig(), course([*CALM, 40, 40, 41, 41]))[0]
    assert (jump.kind, jump.subject, jump.rule) == (FaultKind.SENSOR, "temp_c", "implausible/1")
    assert jump.occurred_at == T0 + SETTLED * 10_000
    assert jump.evidence == {
        "reason": "jump", "value": 41, "since_at": jump.occurred_at, "expected": 80, "change_per_s": 1, "unit": "°C",
    }  # fmt: skip
    beyond = say(rig(), course([*CALM, 300, 301]))[0]
    assert beyond.evidence == {
        "reason": "impossible", "value": 301, "since_at": jump.occurred_at, "side": "above", "limit": 150, "unit": "°C",
    }  # fmt: skip
    assert 0.5 < jump.confidence < beyond.confidence < 1
    json.dumps([jump.evidence, beyond.evidence], allow_nan=False)


def test_a_limit_opens_whatever_jump_led_there() -> None:
    found = say(rig(), course([*CALM, *[120] * 6]))
    assert told(found) == [("limit", "temp_c", "opened"), ("sensor", "temp_c", "opened")]


@pytest.mark.parametrize("gap_s", [31, 3600, -3600])
def test_across_a_gap_a_jump_means_nothing(gap_s: float) -> None:
    last_s = (SETTLED - 1) * 10
    after = [reading(last_s + gap_s + 10 * i, {"temp_c": 40.0}) for i in range(20)]
    assert say(rig(), [*course(CALM), *after]) == []


def test_a_sensor_may_be_missing_while_the_others_go_on() -> None:
    without = [reading(10 * (SETTLED + i), {"free": 1.0}) for i in range(4)]
    assert say(rig(), [*course(CALM), *without, *course([10.0] * 9, first=SETTLED + 4)]) == []


def test_impossible_samples_on_both_sides_of_a_gap_are_not_in_a_row() -> None:
    before, after = course([*CALM, 300]), course([300, 80, 80], first=500)
    assert say(rig(), [*before, *after]) == []


@pytest.mark.parametrize(("readings", "stands"), [(3, "none"), (6, "open")])
def test_a_change_of_state_takes_a_minute(readings: int, stands: str) -> None:
    cold, warm = course([20.0] * SETTLED, state="off"), [*[20.0] * readings, *[60.0] * 6]
    assert outcome(say(rig(), [*cold, *course(warm, first=SETTLED)]), "sensor", "temp_c") == stands


def test_impossible_is_impossible_in_any_state() -> None:
    found = say(rig(), course([300, 300], state="cranking"))
    assert told(found) == [("sensor", "temp_c", "opened")]


NEIGHBOURS = Profile(
    name="rig", title="", title_zh="",
    sensors=(RIG.sensors[0], *(Sensor(name) for name in ("a", "b", "c"))),
)  # fmt: skip


@pytest.mark.parametrize(
    ("moving", "stands"), [(("a", "b", "c"), "none"), (("a", "b"), "none"), (("a",), "open"), ((), "open")]
)
def test_what_the_neighbours_confirm_did_happen(moving: tuple[str, ...], stands: str) -> None:
    rows = []
    for i in range(300):
        values = {name: 5 + (i * 7 + k) % 5 * 0.1 + 20 * (i >= 280 and name in moving) for k, name in enumerate("abc")}
        rows.append(reading(10 * i, values | {"temp_c": 80 - 40 * (i >= 280) + i % 3 * 0.1}))
    assert outcome(say(rig(NEIGHBOURS), rows), "sensor", "temp_c") == stands


def test_a_stuck_sensor_may_leap_when_it_comes_free() -> None:
    """It stands while its neighbours go on, and is then where it should have been all the time."""
    made, rows, noise = rig(NEIGHBOURS), [], np.random.default_rng(0).normal(0, 0.25, 420)
    for i in range(420):
        neighbours = {name: 5 + (i * 7 + k) % 5 * 0.1 for k, name in enumerate("abc")}
        truth = 80 + float(noise[i]) + min(max(i - 300, 0), 60) / 2
        rows.append(reading(10 * i, neighbours | {"temp_c": 80.3 if 300 <= i < 380 else truth}))
    found = [(f.opened, str(f.evidence["reason"])) for f in say(made, rows) if f.kind == "sensor"]
    assert found == [(True, "stuck"), (False, "stuck")]


def test_what_a_person_closed_is_found_anew() -> None:
    made = rig()
    assert reasons(say(made, course([*CALM, 300, 300, 300]))) == [("impossible", "opened")]
    made.release("m1", FaultKind.SENSOR, "temp_c")
    assert reasons(say(made, course([300, 300], first=13))) == [("impossible", "opened")]


def test_a_fault_clears_though_the_profile_no_longer_says_what_is_possible() -> None:
    made = rig()
    assert len(say(made, course([*CALM, 300, 300]))) == 1
    loose = tuple(msgspec.structs.replace(sensor, possible=None, limits=None) for sensor in RIG.sensors)
    made.update_profiles({"rig": msgspec.structs.replace(RIG, sensors=loose)})
    assert told(say(made, course([300] * 5, first=12))) == [("sensor", "temp_c", "cleared")]


WALK = st.lists(st.sampled_from([80.0, 80.0, 80.0, 81.0, 40.0, 300.0, -99.0, NAN, 1e308]), max_size=40)


@settings(max_examples=60, deadline=None)
@given(WALK, st.sampled_from([1, 10, 40]), st.data())
def test_any_cut_and_restart_gives_the_same(values: list[float], step_s: int, data: st.DataObject) -> None:
    stream = [reading(10 * i, {"temp_c": 80.0}) for i in range(SETTLED)]
    stream += [reading(10 * SETTLED + step_s * i, {"temp_c": v, "speed_rpm": v}) for i, v in enumerate(values)]
    whole, part = rig(), rig()
    found, cut = say(whole, stream), data.draw(st.integers(0, len(stream)))
    first, after = say(part, stream[:cut]), rig()
    after.restore(part.dump())
    assert first + say(after, stream[cut:]) == found
    for subject in ("temp_c", "speed_rpm"):
        turns = [f.opened for f in found if f.kind == "sensor" and f.subject == subject]
        assert turns == [i % 2 == 0 for i in range(len(turns))]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-0.99, 0.99), min_size=1, max_size=60))
def test_what_physics_allows_is_never_blamed(steps: list[float]) -> None:
    """A quantity that changes by less than it can, each second, on a machine that does what it did."""
    values = [80.0]
    for each in steps:
        values.append(min(max(values[-1] + 10 * each, -39.0), 149.0))
    assert reasons(say(rig(), course([*CALM, *values]))) == []


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"low": 5, "high": 5}, "must lie below"),
        ({"change_per_s": 0}, "above 0"),
        ({"change_per_s": -1}, "above 0"),
        ({"hihg": 5}, "hihg"),
    ],
)
def test_a_profile_says_what_can_be(wrong: dict[str, float], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert({"name": "x", "possible": wrong}, Sensor)


START_AT = 1_763_864_214_000
SIMULATED = load_profiles()


@pytest.mark.parametrize("model", ["diesel_generator", "air_compressor", "water_pump"])
def test_the_profiles_leave_room_between_limits_and_physics(model: str) -> None:
    for sensor in SIMULATED[model].sensors:
        assert sensor.possible, sensor.name
        for end, limit in (("low", min), ("high", max)):
            ends = getattr(sensor.limits, end, None), getattr(sensor.possible, end)
            if None not in ends:
                assert ends[0] != ends[1] == limit(ends), sensor.name


@pytest.mark.parametrize("model", ["diesel_generator", "air_compressor", "water_pump"])
def test_a_broken_wire_of_the_simulator_is_the_sensors(model: str) -> None:
    from_at = START_AT + 4 * 3_600_000
    injection = Injection("broken_wire", from_at, sensor="coolant_temp_c")
    heard = simulate(model, "s1", 3, START_AT, 5 * 3600, failures=[injection], duty="always")
    arrivals = [a for at, suffix, payload in heard for a in parse(f"{topic('s1')}/{suffix}", payload, at)]
    said = [Message("s1", 0, a.received_at, False, a.body) for a in arrivals if isinstance(a.body, Reading)]
    watching = Bank(SIMULATED, DETECTORS)
    watching.place([Device("s1", model)])
    found = [f for f in watching.step(Batch.of(1, said)) if f.kind == "sensor"]
    assert told(found) == [("sensor", "coolant_temp_c", "opened")]
    assert found[0].evidence["reason"] == "impossible"
    assert 0 <= found[0].occurred_at - from_at < 20_000
