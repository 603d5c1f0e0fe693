"""Drift toward a limit: which courses foretell it, when, and how it ends."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest

from firmware_sim import Injection, simulate
from monitor.detect import Bank, Finding, trend
from monitor.detect.limits import Limits as LimitsDetector
from monitor.detect.operation import Operation
from monitor.detect.trend import Trend
from monitor.devices import Device, Limits, Profile, Sensor
from monitor.readings import Batch, Message, Reading
from monitor.store.profiles import load_profiles
from tests.detecting import T0

DAY_H = 24
STEP_S = 300
MACHINE = Profile(
    name="machine", title="", title_zh="", report_interval_s=STEP_S, load_sensor="load", settle_s=3600,
    sensors=(
        Sensor("load", "%", nominal=50, limits=Limits(high=110)),
        Sensor("heat", "°C", nominal=50, limits=Limits(low=0, high=95), states=("running",)),
        Sensor("tank", "%", nominal=60, limits=Limits(low=8), trend=False),
        Sensor("early", "°C", nominal=50, limits=Limits(high=1000), trend_high=95),
        Sensor("free", "°C", nominal=50),
    ),
)  # fmt: skip

Course = Callable[[float, float], float]
"""What `heat` shows, by hours since the beginning and load in percent."""


def live(
    course: Course, days: float, *, device: str = "m", shift: tuple[float, float] = (0, 24), busier: float = 0.0
) -> list[Message]:
    """A machine's readings: a load that wanders (and grows by `busier` percent a day), noise, off out of its shift."""
    rng = np.random.default_rng(5)
    load, out = 50.0, []
    for number in range(int(days * 86400 / STEP_S)):
        hours, at = number * STEP_S / 3600, T0 + number * STEP_S * 1000
        load += 0.1 * (50 + busier * hours / DAY_H - load) + rng.normal(0, 4)
        state = "running" if shift[0] <= hours % DAY_H < shift[1] else "off"
        heat = course(hours, load) + rng.normal(0, 0.5)
        values = {"load": load, "heat": heat, "early": heat, "free": heat, "tank": 100 - (hours * 4) % 92}
        out.append(Message(device, 0, at, False, Reading(0, number, at, state, values)))  # type: ignore[arg-type]
    return out


def fresh(*devices: str, profile: Profile = MACHINE) -> Bank:
    bank = Bank({profile.name: profile}, (Operation, Trend))
    bank.place(Device(device, profile.name) for device in devices)
    return bank


def run(bank: Bank, stream: Sequence[Message], cuts: Sequence[int] = ()) -> list[Finding]:
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += bank.step(Batch.of(start, stream[start:end]))
    return found


def hours(finding: Finding) -> float:
    return (finding.occurred_at - T0) / 3_600_000


def of_heat(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.subject == "heat"]


HEALTHY: dict[str, tuple[Course, dict[str, float]]] = {
    "steady": (lambda _, load: 50 + 0.3 * load, {}),
    "busier every day": (lambda _, load: 30 + 0.4 * load, {"busier": 3.0}),
    "warm days and cold nights": (lambda h, load: 45 + 0.3 * load - 6 * np.cos((h - 3) / 24 * 2 * np.pi), {}),
    "drifting away from a limit that is not there": (lambda h, _: 75 - 0.05 * h, {}),
    "drifting, but far too slowly to matter": (lambda h, load: 45 + 0.3 * load + 0.01 * h, {}),
    "a step of a sixth of the way": (lambda h, load: 50 + 0.3 * load + 5 * (h > 120), {}),
    "noise that grows": (lambda h, _: 50 + np.sin(7 * h) * h / 30, {}),
}


def test_healthy_courses_foretell_nothing() -> None:
    bank = fresh(*HEALTHY)
    stream = [m for name, (course, work) in HEALTHY.items() for m in live(course, 14, device=name, **work)]  # type: ignore[arg-type]
    assert [(f.device_id, hours(f), f.evidence) for f in run(bank, stream)] == []


FAILING: dict[str, tuple[Course, tuple[float, float], float, float]] = {
    # course, shift, when it meets the limit (h), the least warning (h)
    "worn in three weeks": (lambda h, load: 30 + 0.3 * load + 0.1 * h, (0, 24), 500, 100),
    "worn in three weeks, by day": (lambda h, load: 30 + 0.3 * load + 0.1 * h, (7, 17), 500, 100),
    "worn under warm days": (lambda h, _: 45 + 0.1 * h - 4 * np.cos((h - 3) / 24 * 2 * np.pi), (0, 24), 490, 60),
    "ever faster": (lambda h, _: 50 + 45 * (h / 400) ** 3, (0, 24), 400, 40),
    "leak of a day": (lambda h, load: 35 + 0.3 * load + 2 * max(h - 100, 0), (0, 24), 122, 4),
    "sinking": (lambda h, load: 35 + 0.3 * load - 0.15 * h, (0, 24), 330, 60),
}


@pytest.mark.parametrize("name", FAILING)
def test_failing_courses_are_foretold_in_time(name: str) -> None:
    course, shift, fails_h, least_h = FAILING[name]
    found = of_heat(run(fresh("m"), live(course, fails_h / DAY_H, shift=shift)))
    assert [(f.kind, f.opened) for f in found] == [("trend", True)]
    assert fails_h - hours(found[0]) >= least_h
    facts, sinking = found[0].evidence, name == "sinking"
    assert (facts["limit"], facts["side"], facts["unit"]) == ((0, "below", "°C") if sinking else (95, "above", "°C"))
    assert (facts["slope_per_h"] < 0) == sinking
    assert facts["since_at"] < found[0].occurred_at <= facts["reaches_between"][0] <= facts["reaches_at"]
    assert facts["reaches_at"] <= facts["reaches_between"][1]
    assert 0.5 <= found[0].confidence < 1
    assert abs(facts["value"] - facts["expected"]) < 6


def test_a_straight_drift_is_forecast_about_right() -> None:
    (opened,) = of_heat(run(fresh("m"), live(lambda h, _: 50 + 0.1 * h, 14)))
    meets_h, opened_h = 450, hours(opened)
    reaches_h = (opened.evidence["reaches_at"] - T0) / 3_600_000
    assert abs(reaches_h - meets_h) < 0.15 * (meets_h - opened_h)
    assert opened.evidence["slope_per_h"] == pytest.approx(0.1, rel=0.1)


def test_only_sensors_with_a_limit_and_no_tank() -> None:
    """`early` counts as failed at its trend_high, `free` has no limit, `tank` is refilled, `load` explains itself."""
    found = run(fresh("m"), live(lambda h, _: 50 + 0.1 * h, 18, busier=3))
    assert {f.subject for f in found} == {"heat", "early"}
    assert {f.evidence["limit"] for f in found} == {95.0}


OWN = msgspec.structs.replace(
    MACHINE, sensors=(MACHINE.sensors[0], Sensor("heat", "°C", nominal=50, limits=Limits(high=1000), trend_share=0.2))
)
"""What its model's machines may show says little of one of them: a fifth of its own usual level is its limit."""


@pytest.mark.parametrize("a_day", [2.4, -2.4])
def test_a_drift_away_from_its_own_level_is_foretold(a_day: float) -> None:
    """35 + 0.3 of the load for five days, then 5 % a day: a fifth of that is met on the ninth, and not far from it."""
    course = live(lambda h, load: 35 + 0.3 * load + a_day * max(h / DAY_H - 5, 0), 10)
    (found,) = of_heat(run(fresh("m", profile=OWN), course))
    assert 5 < hours(found) / DAY_H < 9
    assert (found.evidence["side"], found.evidence["slope_per_h"] > 0) == ("above" if a_day > 0 else "below", a_day > 0)
    # At the load of those hours, and its usual level is the mean of weeks to which the drift belongs already.
    assert found.evidence["limit"] == pytest.approx(50 * (1.2 if a_day > 0 else 0.8), abs=3)


@pytest.mark.parametrize("name", ["steady", "busier every day", "noise that grows"])
def test_healthy_courses_stay_near_their_own_level(name: str) -> None:
    course, work = HEALTHY[name]
    assert of_heat(run(fresh("m", profile=OWN), live(course, 14, **work))) == []  # type: ignore[arg-type]


def test_a_level_that_is_hardly_known_yet_has_no_limit_of_its_own() -> None:
    """Twelve hours of work are 24 buckets, at a reading every five minutes: from then on it has a usual level."""
    found = of_heat(run(fresh("m", profile=OWN), live(lambda h, _: 50 + h, 1)))
    assert 12 < hours(found[0]) < 15


def test_warming_up_after_a_start_is_no_drift() -> None:
    """Each morning it warms by 40 degrees in some hours: exactly what `settle_s` is for."""

    def course(h: float, load: float) -> float:
        return 50 + 0.3 * load - 40 * np.exp(-max(h % 24 - 7, 0))

    stream = live(course, 4, shift=(7, 17))
    patient, hasty = (msgspec.structs.replace(MACHINE, settle_s=settle_s) for settle_s in (4 * 3600, 0))
    assert run(fresh("m", profile=patient), stream) == []
    assert run(fresh("m", profile=hasty), stream) != []


def test_after_a_short_stop_it_is_still_warm() -> None:
    """Five minutes off in every two hours: with three hours to settle after each, nothing would ever be seen."""
    stream = [
        m._replace(body=msgspec.structs.replace(m.body, state="off")) if m.body.seq % 24 == 0 else m
        for m in live(lambda h, _: 50 + 0.1 * h, 14)
    ]
    patient = msgspec.structs.replace(MACHINE, settle_s=3 * 3600)
    assert {f.subject for f in run(fresh("m", profile=patient), stream)} == {"heat", "early"}


def repaired(h: float, load: float) -> float:
    return 35 + 0.3 * load + (0.15 * h if h < 200 else 0)


def test_a_drift_that_ends_clears_once() -> None:
    found = of_heat(run(fresh("m"), live(repaired, 25)))
    assert [f.opened for f in found] == [True, False]
    assert hours(found[0]) < 200 < hours(found[1])


def test_a_service_clears_and_begins_anew() -> None:
    bank, stream = fresh("m"), live(repaired, 14)
    half = 200 * 3600 // STEP_S
    assert [f.opened for f in of_heat(run(bank, stream[:half]))] == [True]
    bank.serviced("m")
    found = of_heat(run(bank, stream[half:]))
    assert [f.opened for f in found] == [False]
    assert hours(found[0]) - 200 < 2
    bank.serviced("m")
    assert run(bank, live(repaired, 0.2)) == []


def test_what_the_desk_ended_is_found_anew() -> None:
    bank, stream = fresh("m"), live(lambda h, _: 50 + 0.1 * h, 18)
    half = 330 * 3600 // STEP_S
    assert [f.opened for f in of_heat(run(bank, stream[:half]))] == [True]
    bank.release("m", Trend.kind, "heat")  # type: ignore[arg-type]
    again = of_heat(run(bank, stream[half:]))
    assert [f.opened for f in again] == [True]
    assert hours(again[0]) - 330 < 3


def test_any_cut_and_any_restart_gives_the_same() -> None:
    a, b = live(repaired, 17, device="a"), live(FAILING["ever faster"][0], 17, device="b")
    stream = [message for pair in zip(a, b, strict=True) for message in pair]
    whole = fresh("a", "b")
    found = run(whole, stream)
    assert len(found) >= 4
    parts, resumed = fresh("a", "b"), fresh("a", "b")
    cuts = sorted(np.random.default_rng(2).integers(0, len(stream), 60).tolist())
    assert run(parts, stream, cuts) == found
    stopped = fresh("a", "b")
    first = run(stopped, stream[: cuts[30]])
    assert not resumed.restore(stopped.dump())
    assert first + run(resumed, stream[cuts[30] :]) == found
    assert resumed.dump() == whole.dump()


def test_a_flood_under_a_clock_that_stands_still_ends_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = msgspec.structs.replace(MACHINE, settle_s=0)
    bank = fresh("m", profile=profile)
    monkeypatch.setattr(trend, "MOST_READINGS", 100)
    day = live(lambda *_: 50, 1)
    assert run(bank, [*day, *day[-1:] * 1_050]) == []
    assert 0 < bank._memory.device["trend"]["count"][0] < 100


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"load_sensor": "weight"}, "load_sensor = 'weight' is not among the sensors"),
        ({"settle_s": -1.0}, "settle_s"),
        ({"trend_horizon_days": 0.0}, "trend_horizon_days"),
        ({"trend_horizon_days": float("nan")}, "trend_horizon_days"),
    ],
)
def test_wrong_profiles_are_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        msgspec.structs.replace(MACHINE, **change)  # type: ignore[arg-type]


def test_wrong_sensors_are_refused() -> None:
    with pytest.raises(ValueError, match="trend_low 5 must lie below trend_high 4"):
        Sensor("x", trend_low=5, trend_high=4)
    with pytest.raises(ValueError, match="peer_margin"):
        Sensor("x", peer_margin=0)
    with pytest.raises(ValueError, match="x: trend_share 0 must be positive"):
        Sensor("x", trend_share=0)


def simulated(failures: Sequence[Injection], days: int) -> list[Finding]:
    """A simulated pump of the house's own profile, by trend and limits."""
    profile = msgspec.structs.replace(load_profiles()["water_pump"], report_interval_s=60)
    bank = Bank({profile.name: profile}, (Operation, LimitsDetector, Trend))
    bank.place([Device("p", profile.name)])
    heard = simulate("water_pump", "p", 3, T0, days * 86400, 60, failures, duty="always")
    said = (msgspec.json.decode(payload, type=Reading) for _, suffix, payload in heard if suffix == "telemetry")
    return run(bank, [Message("p", 0, reading.at, False, reading) for reading in said])


def test_a_simulated_bearing_is_foretold_before_it_shakes_too_much() -> None:
    wear = Injection("bearing_wear", T0 + 2 * 86_400_000, ramp_s=5 * 86400)
    found = simulated([wear], 5)
    shakes = [f for f in found if f.subject == "vibration_mm_s" and f.opened]
    assert [f.kind for f in shakes[:2]] == ["trend", "limit"]
    assert shakes[1].occurred_at - shakes[0].occurred_at > 6 * 3_600_000
    assert min(f.occurred_at for f in found) > wear.from_at


def test_a_simulated_healthy_machine_foretells_nothing() -> None:
    assert [f for f in simulated([], 5) if f.kind == "trend"] == []
