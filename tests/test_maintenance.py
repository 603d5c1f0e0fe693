"""When a plan is due: tables of courses and what follows from them, and what holds for every course."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.devices import Profile
from monitor.fleet.maintenance import (
    DAY_MS,
    HOUR_MS,
    Anchor,
    Course,
    Doubt,
    Plan,
    Policy,
    Reading,
    Resets,
    State,
    Sure,
    Trigger,
    based,
    completed,
    doubt,
    forecast,
    plans_of,
    read_on,
    shipped_policy,
)

POLICY = shipped_policy()
T0 = 1_760_000_000_000
PUMP = Profile("pump", "Pump", "泵", (), service_interval_days=60, service_interval_h=200)


def plan(**how: object) -> Plan:
    return Plan("service", "Service", "保养", **{"every_days": 90} | how)  # type: ignore[arg-type]


def day(days: float) -> int:
    return T0 + round(days * DAY_MS)


def readings(*pairs: tuple[float, float], starts: bool = False) -> list[Reading]:
    """(day, hours); with `starts` the same number is that of its starts."""
    return [Reading(day(at), hours, hours, int(hours) if starts else None) for at, hours in pairs]


DAILY = [(n, 100 + 10 * n) for n in range(8)]
"""Ten hours a day for a week, from 100."""


@pytest.mark.parametrize(
    ("how", "read", "at", "trigger", "due_day", "state", "sure"),
    [
        # Nothing but the calendar.
        ({}, [], 10, "calendar", 90, "not_due", "known"),
        ({}, [], 75.9, "calendar", 90, "not_due", "known"),
        ({}, [], 76, "calendar", 90, "due_soon", "known"),
        ({}, [], 90, "calendar", 90, "due", "known"),
        ({}, [], 91.9, "calendar", 90, "due", "known"),
        ({}, [], 92, "calendar", 90, "overdue", "known"),
        # 250 hours at ten a day from the first reading.
        ({"every_h": 250}, DAILY, 7, "hours", 25, "not_due", "by_use"),
        ({"every_h": 250}, DAILY, 20.1, "hours", 25, "due_soon", "by_use"),
        # The forecast has come, but no reading has said so: soon, and never due in the past.
        ({"every_h": 250}, DAILY, 28, "hours", 28, "due_soon", "by_use"),
        # Too few, or too close together, to tell a pace.
        ({"every_h": 250}, DAILY[:2], 7, "calendar", 90, "not_due", "calendar_only"),
        ({"every_h": 250}, DAILY[:5], 5, "calendar", 90, "not_due", "calendar_only"),
        # Readings of long ago tell no pace either.
        ({"every_h": 250}, DAILY, 60, "calendar", 90, "not_due", "calendar_only"),
        # The meter says that it is due: since between the two readings where it came to that.
        ({"every_h": 65}, DAILY, 7, "hours", 6.5, "due", "known"),
        ({"every_h": 65}, DAILY, 8.4, "hours", 6.5, "due", "known"),
        ({"every_h": 65}, DAILY, 8.5, "hours", 6.5, "overdue", "known"),
        # A tenth is left: soon, however far the calendar.
        ({"every_h": 77}, DAILY, 7, "hours", 7.7, "due_soon", "by_use"),
        # It stands.
        ({"every_h": 250}, [(n, 100) for n in range(8)], 8, "calendar", 90, "not_due", "by_use"),
        # A gap of weeks in between counts for what the meter says, and no more.
        ({"every_h": 250}, [(0, 100), (21, 120), (22, 120), (28, 121)], 28, "calendar", 90, "not_due", "by_use"),
    ],
)
def test_what_comes_first_makes_it_due(
    how: dict[str, object], read: list[tuple[float, float]], at: float, trigger: str, due_day: float, state: str,
    sure: str,
) -> None:  # fmt: skip
    course = readings(*read)
    due = forecast(plan(**how), based(Anchor(T0), course), Course(course), POLICY, day(at))
    assert (due.trigger, (due.due_at - T0) / DAY_MS) == (trigger, pytest.approx(due_day, abs=0.01))
    assert (due.state(day(at)), due.sure) == (state, sure)


def test_starts_count_as_hours_do() -> None:
    course = readings(*DAILY, starts=True)
    due = forecast(plan(every_starts=65), Anchor(T0, None, 100), Course(course), POLICY, day(7))
    assert (due.trigger, due.left_starts, due.state(day(7))) == ("starts", -5, "due")


@pytest.mark.parametrize(
    ("condition", "trend_day", "trigger", "state"),
    [(True, 30, "condition", "due"), (False, 30, "calendar", "not_due"), (True, 22, "condition", "overdue")],
)
def test_a_trend_makes_it_due(condition: bool, trend_day: float, trigger: str, state: str) -> None:
    due = forecast(plan(condition=condition), Anchor(T0), Course((), day(trend_day)), POLICY, day(30))
    assert (due.trigger, due.state(day(30))) == (trigger, state)


def test_a_short_interval_is_not_due_soon_for_most_of_it() -> None:
    due = forecast(plan(every_days=7), Anchor(T0), Course(), POLICY, T0)
    assert due.soon_at == day(7 - 0.2 * 7)


@pytest.mark.parametrize(
    ("resets", "done_day", "hours", "next_day", "left_h"),
    [
        ("done", 80, 180, 170, 250),
        ("done", 95, 180, 185, 250),
        # Early: not later for it. Late: it keeps its rhythm. Far too late: what was left out stays left out.
        ("due", 80, 180, 170, 250),
        ("due", 95, 180, 180, 250),
        ("due", 200, 180, 270, 250),
        # The hours came first, and their rhythm is kept: due at 350, done at 380.
        ("due", 40, 380, 130, 220),
        ("due", 40, 900, 130, 200),
        ("done", 40, 380, 130, 250),
    ],
)
def test_it_is_due_again_by_its_own_rule(
    resets: str, done_day: float, hours: float, next_day: float, left_h: float
) -> None:  # fmt: skip
    of = plan(every_h=250, resets_from=Resets(resets))
    last = Reading(day(done_day), hours, hours)
    since = completed(of, Anchor(T0, 100), POLICY, day(done_day), last)
    due = forecast(of, since, Course([last]), POLICY, day(done_day))
    assert ((due.certain_at - T0) / DAY_MS, due.left_h) == (next_day, left_h)
    assert since.done_at == day(done_day)


# --- plans ---------------------------------------------------------------------------------------------------------


def test_the_shipped_plan_goes_by_the_profiles_intervals() -> None:
    (shipped,) = plans_of("pump", PUMP, {}, POLICY)
    assert (shipped.code, shipped.every_days, shipped.every_h) == ("service", 60, 200)
    (unknown,) = plans_of("no_such", None, {}, POLICY)
    assert (unknown.every_days, unknown.every_h) == (90, None)
    assert {"oil", "compressor"} <= {one.code for one in plans_of("air_compressor", PUMP, {}, POLICY)[0].checklist}
    assert "oil" not in {one.code for one in shipped.checklist}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"longest_days": 91}, "have to lie within a quarter"),
        ({"quarter_days": 120}, "quarter_days"),
        ({"plan": []}, "service"),
        ({"lead": 1}, "unknown field"),
        ({"lead_share": 2}, "lead_share"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(change: dict[str, object], why: str) -> None:
    written = {**msgspec.to_builtins(POLICY), **change}
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert(written, Policy)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"code": "Service"}, "code 'Service'"),
        ({"title_zh": " "}, "title"),
        ({"checklist": [{"code": "a", "title_en": "A", "title_zh": "甲"}] * 2}, "more than once"),
        ({"additional": True}, "regular plan"),
        ({"by_profile": True, "every_h": 5}, "the profile's"),
        ({"every_h": 0}, "every_h"),
        ({"every_days": 4000}, "every_days"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(how: dict[str, object], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert({"code": "service", "title_en": "S", "title_zh": "保养"} | how, Plan)


# --- meters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "after", "wrong"),
    [
        (100, None, None),
        (124, None, None),
        (125.1, None, Doubt.FAST),
        (99.5, None, None),  # read to the full hour
        (98, None, Doubt.BACK),
        (124, 120, Doubt.BACK),
        (100, 126, Doubt.FAST),
        (110, 120, None),
    ],
)
def test_what_a_meter_can_show(hours: float, after: float | None, wrong: Doubt | None) -> None:
    before, at = Reading(T0, 100, 100), T0 + 24 * HOUR_MS
    following = None if after is None else Reading(at + 24 * HOUR_MS, after, after)
    assert doubt(before, following, at, hours) is wrong


def test_the_sum_goes_on_over_another_meter() -> None:
    shown = [(1000, False), (1040, False), (3, True), (13, False), (12.6, False)]
    course: list[Reading] = []
    for n, (hours, replaced) in enumerate(shown):
        course.append(read_on(course[-1] if course else None, day(n), hours, None, replaced=replaced))
    assert [one.total_h for one in course] == [1000, 1040, 1040, 1050, 1050]


# --- what holds for every course -----------------------------------------------------------------------------------

intervals = st.builds(
    plan, every_days=st.integers(1, 90), every_h=st.none() | st.floats(0.5, 5000),
    every_starts=st.none() | st.integers(1, 1000), condition=st.booleans(), resets_from=st.sampled_from(Resets),
)  # fmt: skip


@st.composite
def courses(draw: st.DrawFn) -> list[Reading]:
    at, hours, starts = T0 - 10 * DAY_MS, draw(st.floats(0, 20_000)), 0
    found: list[Reading] = []
    for passed, gained, started in draw(
        st.lists(st.tuples(st.integers(1, 40 * DAY_MS), st.floats(0, 24), st.integers(0, 50)), max_size=12)
    ):
        at, hours, starts = at + passed, hours + gained, starts + started
        found.append(Reading(at, hours, hours, starts))
    return found


@given(intervals, courses(), st.none() | st.integers(0, 100), st.integers(0, 500))
def test_the_calendar_bounds_every_forecast(of: Plan, course: list[Reading], trend: int | None, days: int) -> None:
    now = day(days)
    seen = [one for one in course if one.at <= now]
    trend_since = None if trend is None or day(trend) > now else day(trend)
    due = forecast(of, based(Anchor(T0), seen), Course(seen, trend_since), POLICY, now)
    bound = T0 + (of.every_days or 0) * DAY_MS
    assert due.due_at <= due.certain_at <= bound
    assert due.soon_at <= due.certain_at <= due.overdue_at
    assert due.overdue_at <= bound + POLICY.grace_days.ms(Trigger.CALENDAR)
    # What is a forecast lies ahead; what is certain has a moment that holds.
    assert due.due_at == due.certain_at or due.due_at >= now
    assert (due.state(now) in (State.DUE, State.OVERDUE)) is (due.certain_at <= now)
    assert due.state(now) is not State.OVERDUE or due.sure is Sure.KNOWN


@given(intervals, courses(), st.integers(0, 500))
def test_states_follow_each_other_and_each_change_is_foretold(of: Plan, course: list[Reading], days: int) -> None:
    now = day(days)
    seen = [one for one in course if one.at <= now]
    due = forecast(of, based(Anchor(T0), seen), Course(seen), POLICY, now)
    order = list(State)
    state, at = due.state(now), now
    while (then := due.changes_at(at)) is not None:
        assert due.state(then - 1) is state
        assert order.index(due.state(then)) > order.index(state)
        state, at = due.state(then), then
    assert state is State.OVERDUE


@given(intervals, courses(), st.integers(1, 500))
def test_what_is_done_is_due_later(of: Plan, course: list[Reading], days: int) -> None:
    now = day(days)
    seen = [one for one in course if one.at <= now]
    anchor = based(Anchor(T0), seen)
    before = forecast(of, anchor, Course(seen), POLICY, now)
    since = completed(of, anchor, POLICY, now, seen[-1] if seen else None)
    after = forecast(of, since, Course(seen), POLICY, now)
    assert after.certain_at > now
    assert after.certain_at >= before.certain_at
    assert after.due_at >= before.due_at
    assert after.certain_at <= now + (of.every_days or 0) * DAY_MS
    assert since.at > anchor.at or since.at == now
