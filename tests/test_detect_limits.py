"""Limits: sequences of values, and what stands after each."""

from math import inf, nan

import pytest

from monitor.detect import Bank
from monitor.devices import Device, Limits, Profile, Sensor
from monitor.readings import Message
from tests.detecting import PUMP, T0, bank, outcome, reading, say, told

COOLANT = ("limit", "coolant_c")


def coolant(*values: float, every_s: float = 10, state: str = "running") -> list[Message]:
    return [reading(i * every_s, {"coolant_c": value}, state=state) for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ([90, 97, 99, 99, 99], "open"),  # beyond 98 for 20 s
        ([90, 99, 99], "none"),  # for 10 s only
        ([99, 99, 97, 99, 99], "none"),  # the hold begins anew
        ([98, 98, 98, 98], "none"),  # on the limit is not beyond it
        ([90, 99, nan, 99, 99], "none"),  # a missing value is no evidence
        ([90, 99, inf, 99, 99], "none"),
        ([90, 99, nan, 99, 99, 99], "open"),
        ([99, 99, 99, 97, 97], "open"),  # inside the limit, not yet inside the margin
        ([99, 99, 99, 94, 99, 94], "open"),  # two inside, but not in a row
        ([99, 99, 99, 94, nan, 94], "cleared"),  # a missing value lies neither inside nor outside
        ([99, 99, 99, 94, 94], "cleared"),
        ([99, 99, 99, 96, 96], "cleared"),  # inside by exactly the margin
        ([99, 99, 99, 94, 94, 99, 99, 99], "open"),
        ([1e300, 1e300, 1e300], "open"),
        ([], "none"),
        ([99], "none"),
    ],
)
def test_coolant_limit(values: list[float], fault: str) -> None:
    assert outcome(say(bank(PUMP), coolant(*values)), *COOLANT) == fault


@pytest.mark.parametrize(
    ("seconds", "fault"),
    [
        ([0, 10, 20], "open"),
        ([0, 5, 15, 19.999], "none"),
        ([0, 30, 60], "open"),  # three missed reports are the longest pause that still counts as one course
        ([0, 31, 62, 93], "none"),  # a gap each time: never seen to last
        ([0, 40, 50, 60], "open"),  # lasts since after the gap
        ([0, 10, 5, 15], "none"),  # the clock went back
        ([0, 10, 5, 15, 25], "open"),
        ([0, 0, 20], "open"),
    ],
)
def test_hold_is_time_on_the_machines_clock_and_never_spans_a_gap(seconds: list[float], fault: str) -> None:
    found = say(bank(PUMP), [reading(second, {"coolant_c": 99}) for second in seconds])
    assert outcome(found, *COOLANT) == fault


@pytest.mark.parametrize(
    ("course", "fault"),
    [
        ([("off", 99)] * 5, "none"),  # the limit means nothing while it is off
        ([("running", 99), ("off", 99), ("running", 99), ("running", 99)], "none"),  # the hold begins anew
        ([("running", 99)] * 3 + [("off", 20)] * 9, "open"),  # a machine switched off has not shown that it is well
        ([("running", 99)] * 3 + [("off", 20)] * 9 + [("running", 90)] * 2, "cleared"),
    ],
)
def test_only_states_in_which_the_limit_means_something_count(course: list[tuple[str, float]], fault: str) -> None:
    rows = [reading(i * 10, {"coolant_c": value}, state=state) for i, (state, value) in enumerate(course)]
    assert outcome(say(bank(PUMP), rows), *COOLANT) == fault


def test_a_message_that_leaves_the_sensor_out_neither_holds_nor_breaks_the_hold() -> None:
    rows = [reading(i * 10, {"coolant_c": 99} if i % 2 == 0 else {"fuel_pct": 50}) for i in range(3)]
    assert outcome(say(bank(PUMP), rows), *COOLANT) == "open"


def test_without_hold_the_first_sample_opens_and_says_what_was_crossed() -> None:
    (found,) = say(bank(PUMP), [reading(0, {"pressure_bar": 0.4, "unheard_of": 7})])
    assert (found.kind, found.subject, found.opened, found.occurred_at) == ("limit", "pressure_bar", True, T0)
    assert (found.rule, found.severity) == ("limits/1", None)
    assert found.evidence == {
        "value": 0.4, "limit": 1, "side": "below", "since_at": T0, "hold_s": 0, "unit": "bar",
    }  # fmt: skip


def test_it_began_with_the_first_sample_beyond_and_ended_with_the_first_inside() -> None:
    opened, cleared = say(bank(PUMP), coolant(90, 99, 99, 101, 94, 93))
    assert (opened.occurred_at, cleared.occurred_at) == (T0 + 10_000, T0 + 40_000)
    assert opened.evidence["value"] == 101


def test_two_sensors_are_two_faults_each_for_itself() -> None:
    b = bank(PUMP)
    both = [reading(i * 10, {"coolant_c": 99, "pressure_bar": 10}) for i in range(3)]
    assert told(say(b, both)) == [("limit", "pressure_bar", "opened"), ("limit", "coolant_c", "opened")]
    one_well = [reading(30 + i * 10, {"coolant_c": 99, "pressure_bar": 5}) for i in range(3)]
    assert told(say(b, one_well)) == [("limit", "pressure_bar", "cleared")]


def test_late_rows_step_nothing() -> None:
    assert say(bank(PUMP), [reading(0, {"pressure_bar": 10}, late=True)]) == []


def test_a_limit_that_is_taken_away_clears() -> None:
    b = bank(PUMP)
    assert say(b, [reading(0, {"pressure_bar": 10})])
    free = Profile(name="pump", title="", title_zh="", sensors=(Sensor("pressure_bar"),))
    b.update_profiles({"pump": free})
    found = say(b, [reading(10, {"pressure_bar": 10}), reading(20, {"pressure_bar": 10})])
    assert told(found) == [("limit", "pressure_bar", "cleared")]


def test_a_sensor_that_is_taken_away_clears_with_the_next_findings() -> None:
    b = bank(PUMP)
    assert say(b, [reading(0, {"pressure_bar": 10})])
    without = Profile(name="dry", title="", title_zh="", sensors=(Sensor("coolant_c"),))
    b.update_profiles({"pump": PUMP, "dry": without})
    b.place([Device("m1", "dry")])
    assert told(b.tick(T0 + 1000, T0)) == [("limit", "pressure_bar", "cleared")]


def test_a_changed_profile_keeps_what_is_known_of_sensors_of_the_same_name() -> None:
    b = bank(PUMP)
    assert say(b, coolant(99, 99)) == []
    more = Profile(name="pump", title="", title_zh="", sensors=(Sensor("new_one"), *PUMP.sensors[:1]))
    b.update_profiles({"pump": more})
    found = say(b, [reading(20, {"coolant_c": 99, "new_one": 1})])
    assert told(found) == [("limit", "coolant_c", "opened")]
    assert found[0].occurred_at == T0


def test_a_margin_wider_than_the_band_still_lets_the_fault_clear() -> None:
    narrow = Profile(
        name="n", title="", title_zh="", sensors=(Sensor("x", limits=Limits(low=0, high=10, clear_margin=50)),)
    )
    assert (
        outcome(say(bank(narrow), [reading(i, {"x": x}) for i, x in enumerate([11, 5, 5])]), "limit", "x") == "cleared"
    )


def test_machines_of_an_unknown_profile_or_not_placed_are_no_trouble() -> None:
    b = Bank({})
    b.place([Device("m1", "nobody_knows")])
    rows = [reading(0, {"x": 1}), reading(0, {"x": 1}, device="stranger")]
    assert say(b, rows) == []
    assert list(b.dump()) == ["m1"]
