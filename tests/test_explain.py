"""What else a fault may be, and how complete a record is: pure decisions over facts and readings."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from monitor.desk.evidence import AFTER_MS, BEFORE_MS, WEEK_MS, Course, Phase, at_clearing, at_opening, in_its_course
from monitor.desk.explain import KINDS, Case, Certainty, alternatives, certainty
from monitor.desk.record import Gap, Record, between, completeness, joined, record_of
from monitor.devices import FaultKind
from monitor.readings import Event, Message, Reading
from monitor.store.profiles import load_profiles
from tests.detecting import T0

GENERATOR = load_profiles()["diesel_generator"]
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
Curve = Callable[[int], float]


def record(
    coolant: Curve, *, oil: Curve = lambda _: 4.0, load: float = 50, state: str = "running",
    minutes: tuple[int, int] = (-15, 5), step_s: int = 10,
) -> Record:  # fmt: skip
    """A generator's readings around T0; the courses take seconds from T0. All sensors have a little noise."""
    rng = np.random.default_rng(7)
    messages = []
    for n, second in enumerate(range(minutes[0] * 60, minutes[1] * 60, step_s)):
        noise = float(rng.normal())
        values = {
            "coolant_temp_c": coolant(second) + 0.2 * noise, "oil_pressure_bar": oil(second) + 0.02 * noise,
            "load_pct": load + noise, "battery_voltage_v": 13.9, "engine_speed_rpm": 1500 + noise,
        }  # fmt: skip
        at = T0 + second * 1000
        messages.append(Message("m1", 0, at, False, Reading(1, n, at, state, values)))  # type: ignore[arg-type]
    return record_of(messages, T0 + minutes[0] * MINUTE, T0 + minutes[1] * MINUTE, T0 + minutes[0] * MINUTE)


def case(kind: str, subject: str = "", readings: Record | None = None, **evidence: object) -> Case:
    return Case(kind, subject, T0, evidence, GENERATOR, readings)


def clues(found: Case, code: str) -> tuple[set[str], set[str]]:
    """What speaks for and against one cause."""
    (one,) = [one for one in alternatives(found) if one.code == code]
    return {clue.code for clue in one.speaks_for}, {clue.code for clue in one.against}


def test_a_jump_that_nothing_else_follows_points_to_the_sensor() -> None:
    found = case("limit", "coolant_temp_c", record(lambda s: 80 if s < 0 else 125))
    assert clues(found, "sensor_fault") == ({"sudden", "still"}, set())
    assert alternatives(found)[0].code == "sensor_fault"


def test_a_slow_rise_that_others_follow_points_to_the_machine() -> None:
    found = case("limit", "coolant_temp_c",
                 record(lambda s: 80 + max(0, s + 600) / 30, oil=lambda s: 4.0 if s < 0 else 3.2, load=92))  # fmt: skip
    assert clues(found, "sensor_fault") == (set(), {"gradual", "moved"})
    assert clues(found, "high_load") == ({"load_high"}, set())
    assert [one.code for one in alternatives(found)][0::2] == ["high_load", "sensor_fault"]


def test_a_pressure_may_fall_at_once() -> None:
    """Only what cannot jump is a sign against its sensor when it does."""
    fell = record(lambda _: 80, oil=lambda s: 4.0 if s < 0 else 1.0)
    assert "sudden" not in clues(case("limit", "oil_pressure_bar", fell), "sensor_fault")[0]


@pytest.mark.parametrize(
    ("evidence", "first"),
    [
        ({"reason": "timeout", "cranked": True, "battery_crank_low": 7.9, "fuel_last": 60.0}, "weak_battery"),
        ({"reason": "timeout", "cranked": True, "battery_crank_low": 10.4, "fuel_last": 2.0, "attempts": 3},
         "engine_fuel_supply"),
        ({"reason": "timeout", "fuel_last": 2.0}, "no_fuel"),
        ({"reason": "never_attempted", "cranked": False, "battery_last": 13.0, "fuel_last": 60.0}, "starter"),
        ({"reason": "no_signal"}, "no_connection"),
        ({"reason": "shut_down", "fuel_last": 60.0}, "protection"),
        ({"reason": "shut_down", "fuel_last": 2.0}, "no_fuel"),
        ({"reason": "timeout", "cranked": True, "battery_crank_low": 10.4, "fuel_last": 70.0, "attempts": 1},
         "engine_fuel_supply"),
    ],
)  # fmt: skip
def test_why_an_engine_may_not_start(evidence: dict[str, Any], first: str) -> None:
    found = alternatives(case("startup_failure", **evidence))
    assert found[0].code == first
    assert [one.weight for one in found] == sorted((one.weight for one in found), reverse=True)


def test_who_fell_silent_while_running_was_hardly_switched_off() -> None:
    quiet = record(lambda _: 80, minutes=(-15, -1))
    assert "was_running" in clues(case("silent", "", quiet), "power_off")[1]
    off = record(lambda _: 20, state="off", minutes=(-15, -1))
    assert "was_not_running" in clues(case("silent", "", off), "power_off")[0]
    assert clues(case("silent", scope="site"), "power_off") == (set(), {"whole_site"})


def test_lapses_before_a_silence_point_to_the_radio() -> None:
    whole = record(lambda _: 80, minutes=(-15, -1))
    spoken = np.flatnonzero((np.arange(len(whole)) // 12) % 2 == 0)
    torn = Record(
        whole.start_at, whole.end_at, whole.full_from, whole.metrics, whole.heads[:, spoken], whole.value[spoken]
    )  # fmt: skip
    assert "gaps_before" in clues(case("silent", "", torn), "radio")[0]
    assert alternatives(case("silent", "", whole, reason="lost"))[0].code != "radio"


@pytest.mark.parametrize(
    ("lag_s", "code", "clue"),
    [(28_803.0, "timezone_set", "whole_hours"), (1.6e9, "clock_battery", "clock_reset"), (700.0, "no_time_source", "")],
)
def test_a_clock_tells_by_how_much_it_is_off(lag_s: float, code: str, clue: str) -> None:
    assert alternatives(case("wrong_clock", lag_s=lag_s))[0].code == code
    assert clue in {*clues(case("wrong_clock", lag_s=lag_s), code)[0], ""}


@pytest.mark.parametrize("kind", list(FaultKind))
@pytest.mark.parametrize(
    "evidence",
    [
        {},
        {"reason": None, "value": "x", "signs": 3, "cranked": "y", "lag_s": True},
        {"signs": [{}, None, {"sensor": 1}]},
    ],
)
def test_whatever_the_evidence_lacks_there_is_an_answer(kind: FaultKind, evidence: dict[str, Any]) -> None:
    for readings in (None, record(lambda _: 80, minutes=(0, 0)), record(lambda _: 80, minutes=(-1, 1))):
        for profile in (GENERATOR, None):
            found = alternatives(Case(kind, "coolant_temp_c", T0, evidence, profile, readings))
            assert bool(found) == (kind in KINDS)
    assert (kind in KINDS) == (kind is not FaultKind.REPORTED)


@pytest.mark.parametrize(
    ("confidence", "word"),
    [(1.0, Certainty.CERTAIN), (0.95, Certainty.CERTAIN), (0.94, Certainty.LIKELY), (0.7, Certainty.LIKELY),
     (0.69, Certainty.POSSIBLE), (0.0, Certainty.POSSIBLE)],
)  # fmt: skip
def test_how_certain_in_a_word(confidence: float, word: Certainty) -> None:
    assert certainty(confidence) is word


# --- how complete a record is --------------------------------------------------------------------------------------


def said(*numbered: tuple[int, int, int], until_s: int) -> Record:
    """Messages as (boot, seq, second) in a window that begins at T0."""
    messages = [
        Message("m1", 0, T0 + s * 1000, False, Reading(b, n, T0 + s * 1000, "running", {})) for b, n, s in numbered
    ]
    return record_of(messages, T0, T0 + until_s * 1000, T0)


@pytest.mark.parametrize(
    ("numbered", "until_s", "received", "missing", "gaps"),
    [
        ([(1, n, 10 * n) for n in range(6)], 60, 6, 0, []),
        # numbers 2 and 3 never came
        ([(1, 0, 0), (1, 1, 10), (1, 4, 40), (1, 5, 50)], 60, 4, 2, [(10, 40, 2)]),
        # it paused, and counted on: nothing is missing, and nothing was said
        ([(1, 0, 0), (1, 1, 10), (1, 2, 200)], 210, 3, 0, [(10, 200, 0)]),
        # it fell silent: what its interval would have brought
        ([(1, 0, 0), (1, 1, 10)], 110, 2, 9, [(10, 110, 9)]),
        # between two boots no numbers are compared
        ([(1, 40, 0), (2, 0, 20), (2, 1, 30)], 40, 3, 0, []),
        ([(1, 40, 0), (2, 0, 100)], 110, 2, 9, [(0, 100, 9)]),
        ([], 100, 0, 9, [(0, 100, 9)]),
    ],
)  # fmt: skip
def test_completeness(
    numbered: list[tuple[int, int, int]], until_s: int, received: int, missing: int, gaps: list[tuple[int, int, int]]
) -> None:
    found = completeness(said(*numbered, until_s=until_s), 10)
    assert (found.received, found.missing) == (received, missing)
    assert list(found.gaps) == [Gap(T0 + low * 1000, T0 + high * 1000, n) for low, high, n in gaps]
    assert found.share == (received / (received + missing) if received + missing else None)


def test_two_copies_that_overlap_are_one_record() -> None:
    whole = record(lambda s: 80 + s / 100)
    first, second = between(whole, whole.start_at, T0 + MINUTE), between(whole, T0 - MINUTE, whole.end_at)
    again = joined([second, first])
    assert again is not None
    assert again.heads.tolist() == whole.heads.tolist()
    assert again.value.tolist() == whole.value.tolist()
    assert joined([]) is None


def test_events_keep_what_a_code_has_and_no_more() -> None:
    detail = {"code": "P0217", "text": "t" * 500, "lamp": "amber", "inner": {"a": 1}, "spn": 110}
    messages = [Message("m1", 0, T0, False, Event(1, n, T0, "fault_set", detail)) for n in range(300)]
    found = record_of(messages, T0, T0 + 1, T0)
    assert found.events[0].detail == {"code": "P0217", "spn": 110, "text": "t" * 200, "lamp": "amber"}
    assert (len(found.events), found.left_out) == (200, 100)


# --- which readings are kept ---------------------------------------------------------------------------------------


def test_the_windows_of_a_fault_follow_one_another() -> None:
    fault = Course("limit", T0, T0 - 15_000, T0 + 15 * DAY, {})
    opening, after = at_opening(fault)
    weeks = in_its_course(fault, 0, T0 + 15 * DAY)
    clearing = at_clearing(fault, len(weeks))
    assert opening.start_at == T0 - 15_000 - BEFORE_MS
    assert opening.full_from == opening.start_at
    assert after.start_at < opening.end_at <= after.end_at
    edges = [(one.start_at, one.end_at) for one in (*weeks, clearing)]
    assert [low for low, _ in edges[1:]] == [high for _, high in edges[:-1]]
    assert edges[0][0] == after.end_at
    assert [one.phase for one in weeks] == [Phase.COURSE, Phase.COURSE]
    assert clearing.full_from == T0 + 15 * DAY - AFTER_MS
    assert in_its_course(fault, 2, T0 + 15 * DAY) == []


def test_a_slow_fault_looks_back_to_where_it_began() -> None:
    opening, _ = at_opening(Course("trend", T0, T0, None, {"since_at": T0 - 3 * DAY}))
    assert opening.start_at == T0 - 3 * DAY - BEFORE_MS
    assert opening.full_from == T0 + 1 - 2 * HOUR
    opening, _ = at_opening(Course("trend", T0, T0, None, {"since_at": 0}))
    assert opening.start_at == T0 - 2 * WEEK_MS - BEFORE_MS


def test_a_clock_that_is_behind_is_looked_for_in_its_own_time() -> None:
    opening, after = at_opening(Course("wrong_clock", T0, T0, None, {"lag_s": 7200.0}))
    assert (opening.end_at, opening.due_at) == (T0 - 2 * HOUR + 1, T0)
    assert after.end_at == T0 - 2 * HOUR + AFTER_MS


def test_what_clears_at_once_is_kept_without_a_hole() -> None:
    for cleared_at in (T0 - 1, T0, T0 + 1000, T0 + AFTER_MS, T0 + HOUR):
        fault = Course("limit", T0, T0, cleared_at, {})
        (_, after), clearing = at_opening(fault), at_clearing(fault, 0)
        assert after.end_at == clearing.start_at < clearing.end_at
        assert clearing.start_at <= clearing.full_from <= clearing.end_at
