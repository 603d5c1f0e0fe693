"""Availability (E1) as a table: machine time, clipped, unioned, with unknown time between the bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.fleet.availability import DAY_MS, History, Period, availability, bounds, by_day, merged, overlap

NOW = 1_000 * DAY_MS
START = NOW - 30 * DAY_MS


def days_ago(days: float) -> int:
    return int(NOW - days * DAY_MS)


ALWAYS: list[Period] = [(0, None)]


@pytest.mark.parametrize(
    ("bad", "unknown", "lower", "upper"),
    [
        ([], [], 1, 1),
        ([(days_ago(3), days_ago(0))], [], 0.9, 0.9),
        ([(days_ago(3), None)], [], 0.9, 0.9),  # still running
        ([(days_ago(99), days_ago(27))], [], 0.9, 0.9),  # began before the window
        ([(days_ago(99), days_ago(40))], [], 1, 1),  # ended before the window
        ([(days_ago(6), days_ago(3)), (days_ago(5), days_ago(3))], [], 0.9, 0.9),  # two at once count once
        ([], [(days_ago(3), None)], 0.9, 1),  # nobody knows
        ([(days_ago(3), None)], [(days_ago(3), None)], 0.9, 0.9),  # bad and silent is bad
        ([(days_ago(3), None)], [(days_ago(6), None)], 0.8, 0.9),
        ([(0, None)], [], 0, 0),
    ],
)
def test_one_machine(bad: list[Period], unknown: list[Period], lower: float, upper: float) -> None:
    found = bounds([History(ALWAYS, bad, unknown)], START, NOW)
    assert found == pytest.approx((lower, upper))


def test_machines_are_weighed_by_their_time() -> None:
    old = History([(0, None)], [], [])
    new = History([(days_ago(10), None)], [(days_ago(10), None)], [])
    assert bounds([old, new], START, NOW) == pytest.approx((0.75, 0.75))


def test_only_time_on_hire_counts() -> None:
    hired_for_ten_days = History([(days_ago(20), days_ago(10))], [(days_ago(15), None)], [])
    assert bounds([hired_for_ten_days], START, NOW) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize(
    ("lower", "met"),
    [(3, True), (3.0001, False)],
)
def test_the_target_is_met_by_what_is_certain(lower: float, met: bool) -> None:
    found = availability([History(ALWAYS, [(days_ago(lower), None)], [])], NOW)
    assert found.met is met


def test_a_share_of_no_machines_is_none() -> None:
    found = availability([], NOW)
    assert (found.now, found.lower, found.upper, found.met) == (None, None, None, None)
    given_back = availability([History([(days_ago(9), days_ago(8))], [], [])], NOW)
    assert (given_back.now, given_back.upper) == (None, 1)


def test_now_counts_machines_and_takes_silence_for_no_good_sign() -> None:
    good, bad = History(ALWAYS, [], []), History(ALWAYS, [(days_ago(1), None)], [])
    silent, mended = History(ALWAYS, [], [(days_ago(1), None)]), History(ALWAYS, [(days_ago(1), NOW)], [])
    assert availability([good, bad, silent, mended], NOW).now == 0.5


def test_each_day_for_itself() -> None:
    course = by_day([History([(days_ago(2), None)], [(days_ago(1), None)], [])], NOW, days=3)
    assert course == [(None, None), (1, 1), (0, 0)]


periods = st.lists(
    st.tuples(st.integers(0, 300), st.none() | st.integers(0, 300)).map(
        lambda pair: (pair[0], None if pair[1] is None else pair[0] + pair[1])
    ),
    max_size=6,
)


@given(counted=periods, bad=periods, unknown=periods)
def test_the_bounds_agree_with_counting_each_moment(
    counted: list[Period], bad: list[Period], unknown: list[Period]
) -> None:
    def within(spans: list[Period], moment: int) -> bool:
        return any(start <= moment and (end is None or moment < end) for start, end in spans)

    moments = [moment for moment in range(50, 250) if within(counted, moment)]
    found = bounds([History(counted, bad, unknown)], 50, 250)
    if not moments:
        assert found == (None, None)
        return
    good = sum(not within(bad, moment) and not within(unknown, moment) for moment in moments)
    not_bad = sum(not within(bad, moment) for moment in moments)
    assert found == pytest.approx((good / len(moments), not_bad / len(moments)))


def test_pieces() -> None:
    assert merged([(5, 9), (1, 3), (8, None), (3, 4)], 0, 12) == [(1, 4), (5, 12)]
    assert overlap([(0, 5), (7, 9)], [(3, 8)]) == [(3, 5), (7, 8)]
