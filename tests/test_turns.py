"""What keeps a core busy is done for one at a time."""

import pytest

from api.problems import Problem
from api.turns import OneAtATime, Turns


def test_of_two_who_come_at_once_one_is_sent_away_and_told_when_to_come_again() -> None:
    door = OneAtATime()
    with door.turn(0, "Busy.", status=409, again_s=60):
        with pytest.raises(Problem) as refused, door.turn(0.01, "Busy.", status=409, again_s=60):
            pytest.fail("two at once")
        assert (refused.value.status, refused.value.detail, refused.value.headers) == (
            409, "Busy.", {"Retry-After": "60"}
        )  # fmt: skip
    with pytest.raises(ZeroDivisionError), door.turn(0, "Busy."):
        _ = 1 / 0
    with door.turn(0, "Busy."):
        pass


def test_each_kind_has_a_door_of_its_own() -> None:
    turns = Turns()
    doors = (turns.papers, turns.backtests, turns.reliability, turns.reports)
    assert len(set(map(id, doors))) == 4
