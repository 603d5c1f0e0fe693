"""The hand-over gate (E2, E3), as a table: what stands in the way, and when it no longer does."""

from dataclasses import replace

import pytest

from monitor.fleet.gate import (
    HOUR_MS,
    MINUTE_MS,
    Code,
    Inspected,
    Obstacle,
    SelfTest,
    Standing,
    obstacles,
    shipped_policy,
)

NOW = 1_795_000_000_000
POLICY = shipped_policy()
BACK_AT = NOW - 30 * HOUR_MS
READY = Standing(
    rental_id=7, starts_at=NOW, ends_at=None, handed_over_at=None, since_at=BACK_AT,
    for_hand_over=Inspected(3, NOW - HOUR_MS, passed=True), newest=Inspected(3, NOW - HOUR_MS, passed=True),
    self_test=SelfTest("c1", NOW - 10 * MINUTE_MS, ok=True), live_at=NOW - MINUTE_MS,
)  # fmt: skip


def found(**otherwise: object) -> list[Code]:
    return [one.code for one in obstacles(replace(READY, **otherwise), POLICY, NOW)]  # type: ignore[arg-type]


def test_a_machine_that_is_ready_may_go() -> None:
    assert obstacles(READY, POLICY, NOW) == ()


WEEK = round(POLICY.inspection_h * HOUR_MS)
TEST = round(POLICY.self_test_min * MINUTE_MS)
HEARD = round(POLICY.heard_min * MINUTE_MS)
AHEAD = round(POLICY.ahead_h * HOUR_MS)


@pytest.mark.parametrize(
    ("otherwise", "codes"),
    [
        ({"for_hand_over": None, "newest": None}, ["no_inspection"]),
        ({"for_hand_over": Inspected(3, NOW - WEEK, True), "since_at": 0}, []),
        ({"for_hand_over": Inspected(3, NOW - WEEK - 1, True), "since_at": 0}, ["inspection_old"]),
        ({"for_hand_over": Inspected(3, NOW - 5, False), "newest": Inspected(3, NOW - 5, False)},
         ["inspection_failed"]),
        # Something else that was found later speaks against an inspection that was passed.
        ({"newest": Inspected(4, NOW - 5, False)}, ["inspection_failed"]),
        ({"for_hand_over": None, "newest": Inspected(4, NOW - 5, False)}, ["no_inspection", "inspection_failed"]),
        ({"for_hand_over": None, "newest": Inspected(4, NOW - 5, True)}, ["no_inspection"]),
        ({"self_test": None}, ["no_self_test"]),
        ({"self_test": SelfTest("c1", NOW - TEST, True)}, []),
        ({"self_test": SelfTest("c1", NOW - TEST - 1, True)}, ["no_self_test"]),
        ({"self_test": SelfTest("c1", NOW - 1, False)}, ["self_test_failed"]),
        ({"live_at": NOW - HEARD}, []),
        ({"live_at": NOW - HEARD - 1}, ["not_heard"]),
        ({"live_at": None}, ["not_heard"]),
        # An answer is a sign of life, too.
        ({"live_at": None, "self_test": SelfTest("c1", NOW - HEARD, True)}, []),
        ({"retired_at": 1}, ["retired"]),
        ({"revoked_at": 1}, ["cut_off"]),
        ({"other_rental_id": 9}, ["on_hire"]),
        ({"ends_at": NOW}, ["rental_over"]),
        ({"ends_at": NOW + 1}, []),
        ({"starts_at": NOW + AHEAD}, []),
        ({"starts_at": NOW + AHEAD + 1}, ["too_early"]),
        ({"windows": ({"window_id": 1},)}, ["in_window"]),
        ({"overdue": ({"plan": "service"}, {"plan": "oil"})}, ["maintenance_overdue", "maintenance_overdue"]),
        ({"faults": ({"kind": "limit"},)}, ["critical_fault"]),
        ({"handed_over_at": NOW - 1, "self_test": None}, ["handed_over"]),
        ({"for_hand_over": None, "newest": None, "self_test": None, "live_at": None, "retired_at": 1},
         ["retired", "no_inspection", "no_self_test", "not_heard"]),
    ],
)  # fmt: skip
def test_what_stands_in_the_way(otherwise: dict[str, object], codes: list[str]) -> None:
    assert found(**otherwise) == codes


def test_an_obstacle_says_what_it_is_about() -> None:
    standing = replace(READY, for_hand_over=None, newest=None, other_rental_id=9)
    assert obstacles(standing, POLICY, NOW) == (
        Obstacle(Code.ON_HIRE, {"rental_id": 9}), Obstacle(Code.NO_INSPECTION, {"since_at": BACK_AT}),
    )  # fmt: skip
