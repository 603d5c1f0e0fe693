"""Stuck: a sensor that stands still while the others go on, on machines that have shown what is usual."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import Phase, given, settings
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
from monitor.readings import Batch, Floats, Message, Reading
from monitor.store.profiles import load_profiles
from tests.detecting import T0, bank, outcome, reading, say, told

DETECTORS = (Operation, Limits, Stuck, Implausible)
RIG = Profile(
    name="rig", title="", title_zh="", sensors=(
        Sensor("temp_c", "°C", possible=Possible(low=-40, high=200)),
        Sensor("pressure_bar", "bar", limits=Band(high=90, clear_margin=1)),
        Sensor("coarse_c", "°C"),
        Sensor("flow"),
        Sensor("level_pct", "%", possible=Possible(high=100), may_stand=True),
        Sensor("hours_h", "h", may_stand=True),
    ),
)  # fmt: skip
NAMES = [sensor.name for sensor in RIG.sensors]
LEARNING = 900


def course(rows: int, seed: int = 0, first: int = 0, *, steady: bool = False) -> Floats:
    """(rows, 6): a load that changes now and then, and what follows it; one reading every ten seconds."""
    rng = np.random.default_rng(seed)
    load = np.full(rows, 0.5) if steady else np.repeat(rng.uniform(0.2, 0.9, rows // 40 + 1), 40)[:rows]
    count = first + np.arange(rows)
    return np.column_stack([
        np.round(80 + 10 * load + rng.normal(0, 0.25, rows), 2),
        np.round(4 - load + rng.normal(0, 0.04, rows), 2),
        # A degree is all that it resolves, and it lies between two degrees: noise shows as a flicker.
        np.round(60 + 30 * load + rng.normal(0, 0.3, rows)) if not steady else np.full(rows, 75.0),
        np.round(30 * load + rng.normal(0, 0.3, rows), 1),
        np.round(70 + rng.normal(0, 0.15, rows), 2),
        np.round(1200 + count * 10 / 3600, 2),
    ])  # fmt: skip


def messages(values: Floats, *, first: int = 0, state: str = "running", device: str = "m1") -> list[Message]:
    return [
        reading(10 * (first + i), dict(zip(NAMES, row, strict=True)), state=state, device=device)
        for i, row in enumerate(values.tolist())
    ]


def fresh() -> Bank:
    made = Bank({"rig": RIG}, DETECTORS)
    made.place([Device("m1", "rig")])
    return made


@pytest.fixture(scope="module")
def known() -> dict[str, bytes]:
    """What a bank knows of a machine that has run for two hours and a half."""
    watching = fresh()
    assert say(watching, messages(course(LEARNING))) == []
    return watching.dump()


Watching = Callable[[], Bank]


@pytest.fixture
def watching(known: dict[str, bytes]) -> Watching:
    def again() -> Bank:
        made = fresh()
        made.restore(known)
        return made

    return again


def later(rows: int = 120, seed: int = 1, **frozen: float) -> Floats:
    """How it goes on, with some sensors that stand."""
    values = course(rows, seed, LEARNING)
    for name, value in frozen.items():
        values[:, NAMES.index(name)] = value
    return values


def test_a_sensor_that_stands_is_stuck_and_comes_free(watching: Watching) -> None:
    rig = watching()
    found = say(rig, messages(later(temp_c=84.21), first=LEARNING))
    assert told(found) == [("sensor", "temp_c", "opened")]
    evidence, since_at = found[0].evidence, T0 + LEARNING * 10_000
    assert (evidence["reason"], found[0].occurred_at, evidence["since_at"]) == ("stuck", since_at, since_at)
    assert 300 <= evidence["flat_s"] < 600
    assert evidence["flat_samples"] >= 30 > 4 * evidence["usual_flat_samples"]
    assert evidence["noise"] == pytest.approx(0.3, rel=0.3)
    assert evidence["unit"] == "°C"
    assert 0.5 < found[0].confidence < 1
    cleared = say(rig, messages(later(10), first=LEARNING + 120))
    assert told(cleared) == [("sensor", "temp_c", "cleared")]
    assert say(rig, messages(later(100, 2), first=LEARNING + 130)) == []


@pytest.mark.parametrize(("rows", "stands"), [(29, "none"), (60, "open")])
def test_it_takes_samples(watching: Watching, rows: int, stands: str) -> None:
    assert outcome(say(watching(), messages(later(rows, temp_c=84.21), first=LEARNING)), "sensor", "temp_c") == stands


def test_it_takes_seconds_too(watching: Watching) -> None:
    rows = [m._replace(body=Reading(0, 0, T0 + LEARNING * 10_000 + i * 1000, "running", m.body.values))  # type: ignore[union-attr]
            for i, m in enumerate(messages(later(200, temp_c=84.21)))]  # fmt: skip
    assert say(watching(), rows) == []


def test_it_takes_more_samples_where_a_sensor_usually_stands(watching: Watching) -> None:
    """Reports that come less often make the seconds pass, but show no more than they show."""
    rows = [m._replace(body=Reading(0, 0, T0 + LEARNING * 10_000 + i * 29_000, "running", m.body.values))  # type: ignore[union-attr]
            for i, m in enumerate(messages(later(700, coarse_c=75.0)))]  # fmt: skip
    (found,) = say(watching(), rows)
    assert found.evidence["usual_flat_samples"] > 12
    assert found.evidence["flat_samples"] == pytest.approx(4 * found.evidence["usual_flat_samples"], abs=3)


def test_a_dead_sensor_may_tremble(watching: Watching) -> None:
    values = later()
    values[:, 0] = np.round(71.3 + np.random.default_rng(3).normal(0, 0.01, len(values)), 2)
    assert outcome(say(watching(), messages(values, first=LEARNING)), "sensor", "temp_c") == "open"


def test_a_machine_at_perfect_rest_is_not_stuck(watching: Watching) -> None:
    values = np.repeat(later(1), 400, axis=0)
    assert say(watching(), messages(values, first=LEARNING)) == []


def test_a_coarse_sensor_may_stand_under_a_steady_load(watching: Watching) -> None:
    rig, values = watching(), course(400, 5, LEARNING, steady=True)
    assert say(rig, messages(values, first=LEARNING)) == []
    # Then the load changes, again and again, and still it stands.
    found = say(rig, messages(later(400, coarse_c=75.0), first=LEARNING + 400))
    assert told(found) == [("sensor", "coarse_c", "opened")]
    assert found[0].evidence["flat_s"] > 4000
    assert found[0].confidence < 0.9


@pytest.mark.parametrize(
    ("name", "value", "stands"),
    [
        ("hours_h", 1202.5, "none"),
        ("level_pct", 70.0, "open"),  # it had noise, and has none
        ("level_pct", 100.0, "none"),  # full to the brim
        ("level_pct", 0.0, "none"),
    ],
)
def test_what_may_stand(watching: Watching, name: str, value: float, stands: str) -> None:
    found = say(watching(), messages(later(200, **{name: value}), first=LEARNING))
    assert outcome(found, "sensor", name) == stands


def test_zero_is_where_a_transducer_holds_what_is_too_small_for_it(watching: Watching) -> None:
    rig, quiet = watching(), course(200, 5, LEARNING, steady=True)
    quiet[:, 3] = 0.0
    assert say(rig, messages(quiet, first=LEARNING)) == []
    assert outcome(say(rig, messages(later(200, flow=0.0), first=LEARNING + 200)), "sensor", "flow") == "open"


@pytest.mark.parametrize("state", ["off", "cranking", "stopping", "fault", "unknown"])
def test_only_a_running_machine_is_judged(watching: Watching, state: str) -> None:
    assert say(watching(), messages(later(300, temp_c=84.21), first=LEARNING, state=state)) == []


def test_no_stand_goes_on_across_a_gap_or_a_start(watching: Watching) -> None:
    rig, part = watching(), later(25, temp_c=84.21)
    for first, state in ((0, "running"), (30, "running"), (55, "off"), (60, "running")):
        assert say(rig, messages(part[: 5 if state == "off" else 25], first=LEARNING + first, state=state)) == []


def test_nothing_is_held_against_a_sensor_that_is_not_known() -> None:
    assert say(fresh(), messages(np.vstack([course(150), later(300, temp_c=84.21)]))) == []


def test_a_service_begins_learning_anew(watching: Watching) -> None:
    rig = watching()
    rig.serviced("m1")
    assert say(rig, messages(later(200, temp_c=84.21), first=LEARNING)) == []


def test_nothing_is_learnt_from_a_faulty_machine() -> None:
    rig, values = fresh(), course(LEARNING)
    values[:, 1] += 90
    assert told(say(rig, messages(values))) == [("limit", "pressure_bar", "opened")]
    found = say(rig, messages(later(200, temp_c=84.21), first=LEARNING))
    assert told(found) == [("limit", "pressure_bar", "cleared")]


def test_a_sensor_has_one_fault_at_a_time(watching: Watching) -> None:
    rig = watching()
    beyond = say(rig, messages(later(100, temp_c=655.35), first=LEARNING))
    assert [(f.opened, f.evidence["reason"]) for f in beyond] == [(True, "impossible")]
    within = say(rig, messages(later(100, temp_c=120.0), first=LEARNING + 100))
    assert [(f.opened, f.evidence["reason"]) for f in within] == [(False, "impossible"), (True, "stuck")]
    back = say(rig, messages(later(100, 2), first=LEARNING + 200))
    assert [(f.opened, f.evidence["reason"]) for f in back] == [(False, "stuck")]


def test_a_stuck_sensor_that_goes_beyond_physics_has_its_fault_already(watching: Watching) -> None:
    rig = watching()
    assert len(say(rig, messages(later(60, temp_c=84.21), first=LEARNING))) == 1
    assert say(rig, messages(later(60, temp_c=655.35), first=LEARNING + 60)) == []


def test_what_a_person_closed_is_found_anew(watching: Watching) -> None:
    rig = watching()
    assert len(say(rig, messages(later(60, temp_c=84.21), first=LEARNING))) == 1
    rig.release("m1", FaultKind.SENSOR, "temp_c")
    assert say(rig, messages(later(20, temp_c=84.21), first=LEARNING + 60)) == []
    found = say(rig, messages(later(40, temp_c=84.21), first=LEARNING + 80))
    assert told(found) == [("sensor", "temp_c", "opened")]


def told_in_parts(rig: Bank, stream: Sequence[Message], cuts: Sequence[int]) -> list[Finding]:
    """The findings with a restart at each cut."""
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += say(rig, stream[start:end])
        stored, rig = rig.dump(), fresh()
        rig.restore(stored)
    return found


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(0, 240), max_size=4).map(sorted))
def test_any_cut_and_restart_gives_the_same(known: dict[str, bytes], cuts: list[int]) -> None:
    values = np.vstack([later(60, temp_c=84.21), later(20, 2), later(100, 3, temp_c=655.35), later(60, temp_c=99.0)])
    stream, whole = messages(values, first=LEARNING), fresh()
    whole.restore(known)
    found, parts = say(whole, stream), fresh()
    parts.restore(known)
    assert len(found) == 5
    assert told_in_parts(parts, stream, cuts) == found


@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.sampled_from([1e-6, 1e-2, 1.0, 1e4]), st.sampled_from([-1e3, 0.0, 1e5]), st.integers(0, 99))
def test_units_do_not_matter(scale: float, offset: float, seed: int) -> None:
    """The same course in other units, and far from zero: nothing while it moves, and something when it stands."""
    pair = Profile(name="p", title="", title_zh="", sensors=(Sensor("x"), Sensor("y")))
    rng = np.random.default_rng(seed)
    values = (rng.normal(0, 1, (420, 2)) + offset) * scale
    values[360:, 0] = values[360, 0]
    rig = Bank({"p": pair}, (Operation, Stuck))
    rig.place([Device("m1", "p")])
    rows = [reading(10 * i, {"x": x, "y": y}) for i, (x, y) in enumerate(values.tolist())]
    assert say(rig, rows[:360]) == []
    assert told(say(rig, rows[360:])) == [("sensor", "x", "opened")]


def test_every_detector_together_has_nothing_against_it(known: dict[str, bytes]) -> None:
    rig = bank(RIG)
    rig.restore(known)
    found = say(rig, messages(later(200, temp_c=84.21), first=LEARNING))
    assert [f for f in found if f.kind == "sensor" and f.rule == "stuck/1"] == [f for f in found if f.kind == "sensor"]
    assert outcome(found, "sensor", "temp_c") == "open"


START_AT, DAY_S = 1_763_864_214_000, 86_400
SIMULATED = load_profiles()


def simulated(model: str, days: float, failures: Sequence[Injection] = (), seed: int = 3) -> list[Finding]:
    heard = simulate(model, "s1", seed, START_AT, days * DAY_S, failures=failures, duty="always")
    arrivals = [a for at, suffix, payload in heard for a in parse(f"{topic('s1')}/{suffix}", payload, at)]
    said = [Message("s1", 0, a.received_at, False, a.body) for a in arrivals if isinstance(a.body, Reading)]
    watching = Bank(SIMULATED, (Operation, Stuck, Implausible))
    watching.place([Device("s1", model)])
    return watching.step(Batch.of(1, said))


@pytest.mark.parametrize(
    ("model", "sensor", "within_s"),
    [
        ("air_compressor", "coolant_temp_c", 900),
        ("water_pump", "vibration_mm_s", 900),
        ("diesel_generator", "oil_pressure_bar", 3600),  # it resolves 0.04 bar, which is all its noise
    ],
)
def test_a_stuck_sensor_of_the_simulator_is_found(model: str, sensor: str, within_s: float) -> None:
    from_at = START_AT + round(0.7 * DAY_S) * 1000
    found = simulated(model, 0.95, [Injection("stuck_sensor", from_at, sensor=sensor)])
    assert told(found) == [("sensor", sensor, "opened")]
    # It may have stopped meanwhile, and begins its stand anew then.
    assert found[0].evidence["flat_s"] <= within_s
