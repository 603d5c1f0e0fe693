"""The benches of detection: that what they count is what happened, and that each still runs."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from bench import detect
from bench.lives import BEGIN_AT, COLDEST_C, HOUR_MS, WARMEST_C, Group, gradual_fleet, ordinary_fleet, sudden_fleet
from bench.stream import Source, heard
from bench.truth import (
    AFTERMATH_MS,
    CODES,
    MOVES,
    SENSOR_FAILURES,
    Case,
    Job,
    Outcome,
    _awake,
    counts,
    details,
    explains,
    in_time,
    jobs,
    lived,
    poisson,
    summary,
    table_of,
    wilson,
)
from firmware_sim import Injection, simulate
from firmware_sim.device import CODES as CONTROLLER_CODES
from firmware_sim.wire import Box
from ingest.message import parse
from monitor.devices import topic
from monitor.engine.rehearsal import Repaired
from monitor.readings import Arrival, Batch, Event, Reading

MINUTE_MS = 60_000


# The stream


def box(device_id: str) -> Box:
    made = Box.fresh(device_id, "water_pump", 5, BEGIN_AT, report_s=60.0, duty="always")
    made.injections = [Injection("radio_outage", BEGIN_AT + 90 * MINUTE_MS, BEGIN_AT + 150 * MINUTE_MS)]
    return made


def test_the_stream_is_what_a_broker_would_have_heard_in_its_order() -> None:
    end_at = BEGIN_AT + 5 * HOUR_MS
    sources = [Source(box("M1"), end_at, [BEGIN_AT + HOUR_MS]), Source(box("M2"), end_at)]
    stream = list(heard(sources, BEGIN_AT, end_at))
    said: dict[str, list[tuple[int, Reading | Event]]] = defaultdict(list)
    clock: list[int] = []
    for one in stream:
        if isinstance(one, Batch):
            clock += one.received_at.tolist()
            for message in one.messages():
                said[message.device_id].append((message.received_at, message.body))
                assert message.late == (message.received_at - message.body.at > 5 * MINUTE_MS)
        else:
            clock.append(one.at if isinstance(one, Repaired) else one.received_at)
    assert clock == sorted(clock)
    assert [one for one in stream if isinstance(one, Repaired)] == [Repaired("M1", BEGIN_AT + HOUR_MS)]
    statuses = [one.body.state for one in stream if isinstance(one, Arrival) and one.device_id == "M2"]  # type: ignore[union-attr]
    assert statuses == ["online", "lost", "online", "offline"]
    for device_id in ("M1", "M2"):
        assert said[device_id] == wired(device_id)


def wired(device_id: str) -> list[tuple[int, Reading | Event]]:
    failures = box(device_id).injections
    course = simulate("water_pump", device_id, 5, BEGIN_AT, 5 * 3600, 60.0, failures, duty="always")
    arrivals = [
        arrival for at, suffix, payload in course for arrival in parse(f"{topic(device_id)}/{suffix}", payload, at)
    ]
    return [(a.received_at, a.body) for a in arrivals if isinstance(a.body, Reading | Event)]


# The fleets


def injections(fleet: Any) -> list[list[Injection]]:
    return [life.source.box.injections for life in fleet.lives]


def test_the_same_seed_draws_the_same_fleet_and_another_one_another() -> None:
    assert injections(ordinary_fleet(1, 10, 20, 60.0)) == injections(ordinary_fleet(1, 10, 20, 60.0))
    assert injections(ordinary_fleet(1, 10, 20, 60.0)) != injections(ordinary_fleet(2, 10, 20, 60.0))


def test_run_b_has_its_minimum_of_failures_whatever_run_a_is_sized_to() -> None:
    work = jobs(1, 1, 5, 1.0)
    sudden = [sudden_fleet(str(job.seed), job.machines, job.failures, 60.0) for job in work if job.run == "sudden"]
    gradual = [gradual_fleet(str(job.seed), job.machines, 4.0, 60.0) for job in work if job.run == "gradual"]
    assert sum(len(life.struck) for fleet in sudden for life in fleet.lives) >= 620
    struck = [each for fleet in gradual for life in fleet.lives for each in life.struck]
    assert len(struck) >= 310
    sizes = [abs(each.injection.size) for each in struck]
    speeds_h = [each.injection.speed_s / 3600 for each in struck]
    assert max(sizes) > 1.25
    assert np.ptp(sizes) > 0.25
    assert min(speeds_h) < 6
    assert max(speeds_h) > 100


# What counts


@pytest.mark.parametrize(
    ("failure", "sensor", "kind", "subject", "expected"),
    [
        ("weak_battery", "", "startup_failure", "", True),
        ("weak_battery", "", "limit", "battery_voltage_v", True),
        ("weak_battery", "", "limit", "coolant_temp_c", False),
        ("weak_battery", "", "fault_code", "SPN168-FMI1", True),
        ("weak_battery", "", "fault_code", "SPN110-FMI0", False),
        ("weak_battery", "", "sensor", "battery_voltage_v", False),  # the sensor is right, the battery is not
        ("weak_battery", "", "silent", "", False),
        ("dead_controller", "", "silent", "", True),
        ("coolant_leak", "", "anomaly", "", True),
        ("coolant_leak", "", "anomaly", "fuel_level_pct", False),
        ("drifting_sensor", "oil_pressure_bar", "trend", "oil_pressure_bar", True),
        ("drifting_sensor", "oil_pressure_bar", "sensor", "oil_pressure_bar", True),
        ("drifting_sensor", "oil_pressure_bar", "trend", "coolant_temp_c", False),
        ("drifting_sensor", "oil_pressure_bar", "fault_code", "SPN100-FMI1", False),
        ("stuck_sensor", "coolant_temp_c", "startup_failure", "", False),
    ],
)
def test_a_ticket_is_explained_by_what_can_lead_to_it(
    failure: str, sensor: str, kind: str, subject: str, expected: bool
) -> None:
    assert explains(failure, sensor, kind, subject) is expected


def test_every_code_of_the_controller_and_every_failure_drawn_is_known_to_the_rule() -> None:
    assert CODES.keys() == CONTROLLER_CODES.keys()
    fleets = [sudden_fleet("1", 9, 9, 60.0), gradual_fleet("1", 16, 1.0, 60.0), ordinary_fleet(1, 50, 200, 60.0)]
    drawn = {each.injection.failure for fleet in fleets for life in fleet.lives for each in life.struck}
    assert drawn <= MOVES.keys() | SENSOR_FAILURES
    assert len(drawn) >= 14


def case(group: Group, found_s: float | None, *, struck_s: float | None = 0, broke_s: float | None = None) -> Case:
    def at(seconds: float | None) -> int | None:
        return None if seconds is None else BEGIN_AT + round(seconds * 1000)

    return Case("oil_leak", group, "M1", 1.0, 0.0, BEGIN_AT, at(struck_s), at(broke_s), at(found_s), "")


@pytest.mark.parametrize(
    ("group", "found_s", "broke_s", "expected"),
    [
        ("start", 60, 0, True),
        ("start", 61, 0, False),
        ("stop", None, 0, False),
        ("gradual", 3600, 3601, True),
        ("gradual", 3601, 3601, False),
        ("sensor", 86_400, None, True),
        ("sensor", 86_401, None, False),
    ],
)
def test_found_in_time(group: Group, found_s: float | None, broke_s: float | None, expected: bool) -> None:
    assert in_time(case(group, found_s, broke_s=broke_s)) is expected


def test_what_was_never_felt_is_no_failure_to_find() -> None:
    assert not counts(case("start", None, struck_s=None))


def test_intervals() -> None:
    # scipy.stats.binomtest(k, n).proportion_ci(method="wilson"); Garwood's exact interval of a count
    assert wilson(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-3)
    assert wilson(600, 600) == pytest.approx((0.9936, 1.0), abs=1e-3)
    assert poisson(0) == pytest.approx((0.0, 3.69), abs=0.05)
    assert poisson(10) == pytest.approx((4.80, 18.39), abs=0.05)


def test_the_figures_of_a_run() -> None:
    sudden = Outcome("sudden 1", 9.0, [case("start", 5, broke_s=20), case("start", 90, broke_s=20)], [], 2, 0.0)
    gradual = Outcome("gradual 1", 9.0, [case("gradual", 60, struck_s=3600, broke_s=3600)], [], 1, 0.0)
    ordinary = Outcome("A 1", 500.0, [case("start", 5, broke_s=20)], [("M1", "limit", "", 5, "")] * 2, 3, 0.0)  # type: ignore[list-item]
    figures = summary([sudden, gradual, ordinary])
    assert figures["false_tickets_per_1000_machine_days"] == 4.0
    assert figures["sudden_found_share"] == 0.5
    assert figures["gradual_found_before_breakdown_share"] == 1.0
    assert figures["failures"]["oil_leak_slow"] == {
        "injected": 1, "found": 1, "median_detect_s": 60.0, "median_lead_s": 3540.0
    }  # fmt: skip
    assert figures["failures"]["oil_leak_sudden"]["injected"] == 2
    assert figures["in_ordinary_life"]["start"] == {"injected": 1, "found": 1}
    assert "50.0%" in table_of([sudden, gradual, ordinary])


# The benches themselves, as small as they go


def test_failures_to_start_are_found_on_the_service_s_own_path() -> None:
    out = lived(Job("sudden", 1, 3, days=0.02, failures=1))
    by_name = {each.failure: each for each in out.cases}
    assert {"dead_starter", "blocked_start", "weak_battery"} == set(by_name)
    assert all(in_time(each) for each in out.cases if counts(each))
    assert any(each.found_by == "startup_failure" for each in out.cases)
    assert "Missed or late: 0" in details([out])


def test_a_ticket_long_after_the_repair_is_false() -> None:
    out = lived(Job("A", 1, 3, 0.25, report_s=60.0))
    assert out.machine_days == pytest.approx(0.75)
    assert out.cases == []
    assert AFTERMATH_MS < 24 * HOUR_MS


def test_the_cost_of_a_step_is_measured_on_judged_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "FLEETS", (256,))
    world = detect.World()
    bank, fleet = world.set_out(512)
    out = detect.measure(bank, fleet, passes=1, batch=256)
    assert 0 < out.us < 100
    assert out.findings < 20
    assert 500 < world.bytes_per_device() <= 8192
    assert len(bank.dump()) == 512


def test_machines_are_moved_within_the_climates_that_people_build_in() -> None:
    fleet = ordinary_fleet(1, 20, 200, 60.0)
    for life in fleet.lives:
        climate_c = life.source.box.machine.climate_c
        for move in (each for each in life.source.box.injections if each.failure == "transport"):
            assert abs(move.size) <= 15
            climate_c += move.size
            assert COLDEST_C <= climate_c <= WARMEST_C


@pytest.mark.parametrize(("away", "expected"), [(0, 5), (2, 3), (3, 2)])
def test_a_dead_gateway_is_missed_by_the_machines_that_are_awake(away: int, expected: int) -> None:
    """With fewer than three the service cannot know that it is the site, and opens a ticket for each."""
    fleet = ordinary_fleet(1, 5, 1, 60.0)
    for number, life in enumerate(fleet.lives):
        life.source.box.machine.sleeps = False
        gone = [Injection("transport", BEGIN_AT, BEGIN_AT + HOUR_MS)] if number < away else []
        life.source.box.injections = gone
    assert _awake(fleet, 1, BEGIN_AT + MINUTE_MS) == expected
    assert _awake(fleet, 2, BEGIN_AT + MINUTE_MS) == 0
