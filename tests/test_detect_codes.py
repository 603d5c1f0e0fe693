"""Codes: what a machine's controller says is wrong."""

from typing import Any

import pytest

from tests.detecting import PUMP, T0, bank, event, say, told


def test_a_code_opens_once_and_clears() -> None:
    detail = {"code": "P0217", "spn": 110, "fmi": 0, "text": "Coolant", "lamp": "amber", "more": ["x"]}
    b = bank(PUMP)
    opened, cleared = say(
        b, [event(0, "fault_set", detail), event(1, "fault_set", detail), event(2, "fault_cleared", {"code": "P0217"})]
    )
    assert (opened.subject, opened.opened, opened.severity, opened.occurred_at) == ("P0217", True, "urgent", T0)
    assert opened.evidence == {"code": "P0217", "spn": 110, "fmi": 0, "text": "Coolant", "lamp": "amber"}
    assert (cleared.subject, cleared.opened, cleared.occurred_at) == ("P0217", False, T0 + 2000)
    assert say(b, [event(3, "fault_cleared", {"code": "P0217"})]) == []


@pytest.mark.parametrize(
    ("lamp", "severity"),
    [
        ("Red stop lamp", "emergency"), ("STOP", "emergency"), ("amber", "urgent"), ("Warning", "urgent"),
        ("protect", "routine"), ("MIL", "routine"), ("malfunction indicator", "routine"),
        (None, None), ("violet", None), (3, None),
    ],
)  # fmt: skip
def test_the_lamp_says_how_much_it_matters(lamp: object, severity: str | None) -> None:
    (found,) = say(bank(PUMP), [event(0, "fault_set", {"code": 7, "lamp": lamp})])
    assert (found.subject, found.severity) == ("7", severity)


@pytest.mark.parametrize("detail", [{}, {"code": None}, {"code": True}, {"code": {"a": 1}}, {"code": ""}, {"spn": 1}])
def test_an_event_without_a_code_is_let_pass(detail: dict[str, Any]) -> None:
    assert say(bank(PUMP), [event(0, "fault_set", detail), event(1, "fault_cleared", detail)]) == []


def test_strange_details_do_no_harm() -> None:
    (found,) = say(bank(PUMP), [event(0, "fault_set", {"code": "x" * 999, "spn": "a", "fmi": [], "text": "t" * 999})])
    assert len(found.subject) == 64
    assert found.evidence == {"code": "x" * 64, "text": "t" * 200}
    assert say(bank(PUMP), [event(0, "fault_set", {"code": 10**5000})]) == []


def test_a_controller_that_invents_codes_opens_no_more_than_32() -> None:
    b = bank(PUMP)
    assert len(say(b, [event(i, "fault_set", {"code": i}) for i in range(100)])) == 32
    room = say(b, [event(100, "fault_cleared", {"code": 5}), event(101, "fault_set", {"code": 77})])
    assert told(room) == [("fault_code", "5", "cleared"), ("fault_code", "77", "opened")]


def test_a_code_that_is_taken_back_late_is_cleared_all_the_same() -> None:
    b = bank(PUMP)
    say(b, [event(0, "fault_set", {"code": 7})])
    late = event(600, "fault_cleared", {"code": 7})._replace(late=True)
    (cleared,) = say(b, [late])
    assert (cleared.subject, cleared.opened, cleared.occurred_at) == ("7", False, T0 + 600_000)
    assert say(b, [late]) == []


def test_a_code_that_was_set_again_is_not_cleared_by_what_is_found_late() -> None:
    b = bank(PUMP)
    say(b, [event(0, "fault_set", {"code": 7}), event(900, "fault_set", {"code": 7})])
    assert say(b, [event(600, "fault_cleared", {"code": 7})._replace(late=True)]) == []
    assert len(say(b, [event(901, "fault_cleared", {"code": 7})])) == 1


def test_a_code_that_is_set_late_opens_nothing() -> None:
    assert say(bank(PUMP), [event(0, "fault_set", {"code": 7})._replace(late=True)]) == []
