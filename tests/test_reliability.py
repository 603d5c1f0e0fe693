"""Reliability, reckoned by hand beside: intervals against published tables, spreads, repeats, Pareto tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.fleet.reliability import (
    DAY_MS,
    HOUR_MS,
    NONE,
    Facts,
    Failure,
    InService,
    Metered,
    Policy,
    Repair,
    between,
    component_of,
    in_service,
    pareto,
    poisson_limits,
    reliability,
    repeats,
    shipped_policy,
    spread,
)
from monitor.store.reliability import Step, arranged_at, repairs_of

POLICY = Policy(few=5, repeat_days=30, lines=2)


# The exact limits of a Poisson count at 95 %, as they stand in Pearson and Hartley, Biometrika Tables, table 40.
@pytest.mark.parametrize(
    ("count", "low", "high"),
    [
        (0, 0.0, 3.689), (1, 0.0253, 5.572), (2, 0.242, 7.225), (3, 0.619, 8.767), (4, 1.090, 10.242),
        (5, 1.623, 11.668), (10, 4.795, 18.390), (20, 12.217, 30.888), (30, 20.241, 42.827), (50, 37.111, 65.919),
    ],
)  # fmt: skip
def test_poisson_limits_are_those_of_the_table(count: int, low: float, high: float) -> None:
    assert poisson_limits(count) == pytest.approx((low, high), abs=6e-4)


@given(st.integers(0, 20_000))
def test_poisson_limits_hold_the_count_and_rise_with_it(count: int) -> None:
    low, high = poisson_limits(count)
    assert low <= count < high
    more_low, more_high = poisson_limits(count + 1)
    assert low < more_low
    assert high < more_high


def test_many_failures_have_nearly_the_normal_interval() -> None:
    low, high = poisson_limits(1_000_000)
    assert (low, high) == pytest.approx((1_000_000 - 1960, 1_000_000 + 1960), abs=5)


# 1,000 hours: ten failures are 100 hours apart; the interval is 1000 / 18.390 to 1000 / 4.795.
@pytest.mark.parametrize(
    ("failures", "hours", "mtbf", "lower", "upper"),
    [
        (10, 1000.0, 100.0, 54.38, 208.5),
        (5, 1000.0, 200.0, 85.70, 615.96),
        (4, 1000.0, None, 97.64, 917.5),  # too few to say: only how far it may reach
        (0, 1000.0, None, 271.1, None),  # never yet: at least this
        (3, 0.0, None, None, None),  # no time in service at all
    ],
)
def test_time_between_failures(
    failures: int, hours: float, mtbf: float | None, lower: float | None, upper: float | None
) -> None:
    found = between(failures, hours, 1, POLICY)
    for value, expected in ((found.mtbf_h, mtbf), (found.lower_h, lower), (found.upper_h, upper)):
        assert value == (None if expected is None else pytest.approx(expected, rel=1e-3))


@pytest.mark.parametrize(
    ("hours", "missing", "mean", "median", "p90"),
    [
        ([1, 2, 3, 4, 10], 0, 4.0, 3.0, 10.0),
        ([10, 4, 3, 2, 1, 1], 2, 3.5, 2.5, 10.0),  # in any order; ⌈5.4⌉ = the 6th
        (list(range(1, 11)), 0, 5.5, 5.5, 9.0),
        ([1, 2, 3, 4], 1, None, None, None),
        ([], 0, None, None, None),
    ],
)
def test_how_long_it_takes(
    hours: list[int], missing: int, mean: float | None, median: float | None, p90: float | None
) -> None:
    cases: list[tuple[int | None, int | None]] = [(7, 7 + one * HOUR_MS) for one in hours]
    found = spread(cases + [(7, None)] * missing, POLICY)
    assert (found.count, found.not_measured) == (len(hours), missing)
    assert (found.mean_h, found.median_h, found.p90_h) == (mean, median, p90)


HOT, COLD, OTHER = ("m1", "limit", "temp_c"), ("m1", "limit", "pressure_bar"), ("m2", "limit", "temp_c")


@pytest.mark.parametrize(
    ("openings", "back"),
    [
        ([], 0),
        ([(HOT, 30)], 1),  # on the last day still
        ([(HOT, 31)], 0),
        ([(HOT, 0)], 0),  # at the very moment: it is the failure itself
        ([(COLD, 10), (OTHER, 10)], 0),  # another fault, and another machine
        ([(HOT, 10), (HOT, 20)], 1),  # one repair did not last, however often it came back
    ],
)
def test_a_repeat_is_the_same_fault_within_the_days(
    openings: list[tuple[tuple[str, str, str], int]], back: int
) -> None:
    repairs = [Repair(1, HOT, "g", 0)]
    found = repeats(repairs, [(fault, day * DAY_MS) for fault, day in openings], POLICY, 40 * DAY_MS)
    assert (found.repairs, found.repeated.count, found.pending, found.enough) == (1, back, 0, False)


def test_a_repair_counts_only_once_its_days_are_over() -> None:
    repairs = [Repair(n, HOT, "g", n * DAY_MS) for n in range(6)]
    found = repeats(repairs, [(HOT, 6 * DAY_MS)], POLICY, 34 * DAY_MS)
    assert (found.repairs, found.repeated.count, found.pending, found.enough) == (5, 5, 1, True)


def test_a_pareto_table_adds_up() -> None:
    found = pareto("cause", ["wear"] * 5 + ["oil"] * 2 + ["belt", "cable", None], POLICY)
    assert [(line.name, line.count, round(line.cumulative, 4)) for line in found.lines] == [
        ("wear", 5, 0.5556), ("oil", 2, 0.7778), ("others", 2, 1.0),
    ]  # fmt: skip
    assert (found.count, found.not_known, found.enough) == (9, 1, True)
    # Wilson, 5 of 9: (5/9 + z²/18) / (1 + z²/9) ± …
    assert (found.lines[0].share.lower, found.lines[0].share.upper) == pytest.approx((0.2667, 0.8112), abs=1e-4)
    assert not pareto("cause", ["wear"] * 3, POLICY).enough
    assert pareto("cause", [], POLICY).lines == []


@pytest.mark.parametrize(
    ("kind", "subject", "spn", "component"),
    [
        ("limit", "oil_pressure_bar", None, "oil_pressure_bar"),
        ("startup_failure", "", None, "kind:startup_failure"),
        ("fault_code", "E-7", None, "code:E-7"),
        ("fault_code", "110-0", 110, "coolant_temp_c"),
        ("fault_code", "91-3", 91, "spn:91"),
        ("fault_code", "", None, "kind:fault_code"),
    ],
)
def test_the_component_is_what_the_record_says(kind: str, subject: str, spn: int | None, component: str) -> None:
    assert component_of(kind, subject, spn, {110: "coolant_temp_c"}) == component


def test_time_in_service_is_split_without_gap_or_overlap() -> None:
    parts = [(50, 70, "b"), (-5, 20, "a"), (90, 500, "a"), (20, 20, "c")]
    found = [(one.group, one.from_at, one.to_at) for one in in_service("m", (0, 100), parts)]
    assert found == [("a", 0, 20), (NONE, 20, 50), ("b", 50, 70), (NONE, 70, 90), ("a", 90, 100)]
    assert list(in_service("m", (0, 0), [])) == []


def step(verb: str, to: str, at: int, turn: int = 0) -> Step:
    return Step(verb, to, turn, at)


def test_who_gave_the_ticket_back_was_not_the_one_arranged() -> None:
    accepted, declined, again = (
        step("accept", "accepted", 5),
        step("decline", "verified", 6),
        step("accept", "accepted", 9),
    )
    assert arranged_at([accepted, step("depart", "on_the_way", 7)]) == 5
    assert arranged_at([accepted, declined]) is None
    assert arranged_at([accepted, declined, again]) == 9
    assert arranged_at([step("reopen", "open", 20, 1), step("accept", "accepted", 30, 1)]) is None


def test_a_ticket_that_was_reopened_has_two_repairs() -> None:
    taken = [
        step("start-repair", "repairing", 3), step("resolve", "resolved", 8), step("reopen", "open", 20, 1),
        step("resolve", "resolved", 25, 1),
    ]  # fmt: skip
    assert repairs_of(taken) == [(3, 8), (None, 25)]


def test_figures_of_a_period_by_hand() -> None:
    """Two machines for 100 hours each; m1 fails five times, each an hour after the other, and m2 never."""
    failures = [
        Failure(n, HOT, "A", "rig", "temp_c", n * HOUR_MS, "wear" if n else None, (n + 1) * HOUR_MS,
                (n + 2) * HOUR_MS)
        for n in range(5)
    ]  # fmt: skip
    facts = Facts(
        failures,
        [Repair(n, HOT, "A", (n + 4) * HOUR_MS, (n + 1) * HOUR_MS) for n in range(5)],
        [InService("m1", "A", 0, 100 * HOUR_MS), InService("m2", "B", 0, 100 * HOUR_MS)],
        [Metered("m1", "A", HOUR_MS, 50 * HOUR_MS, 20.0)],
        [(one.fault, one.opened_at) for one in failures],
    )
    found = reliability(facts, shipped_policy(), 40 * DAY_MS)
    assert (found.whole.calendar.mtbf_h, found.whole.calendar.machines) == (40.0, 2)
    # Of the five failures four lie between the readings of the meter: too few to say.
    assert (found.whole.metered.failures, found.whole.metered.mtbf_h, found.whole.metered.hours) == (4, None, 20.0)
    a, b = found.groups
    assert (a.group, a.calendar.mtbf_h, a.calendar.machines) == ("A", 20.0, 1)
    assert (b.group, b.calendar.failures, b.calendar.mtbf_h, b.calendar.upper_h) == ("B", 0, None, None)
    assert (a.dispatch.median_h, a.restore.mean_h, a.repair.mean_h) == (1.0, 2.0, 3.0)
    # Resolved after 4 to 8 hours; nothing was opened after the fourth hour.
    assert (a.repeats.repairs, a.repeats.repeated.count) == (5, 0)
    model, component, cause = found.paretos
    assert [(one.by, one.count, one.not_known) for one in (model, component, cause)] == [
        ("model", 5, 0), ("component", 5, 0), ("cause", 4, 1),
    ]  # fmt: skip
