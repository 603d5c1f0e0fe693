"""Start-up: what a machine says after it was asked to start, and what stands then."""

import pytest

from monitor.detect import Reason
from monitor.devices import Device
from monitor.readings import Message, Status
from tests.detecting import PUMP, T0, bank, event, outcome, reading, say, told

START = ("startup_failure", "")


def course(text: str) -> list[Message]:
    """`0 request, 5 cranking, 12 running`: states are readings, other words are events."""
    events = {"request": "start_requested", "started": "started", "start_failed": "start_failed", "stopped": "stopped"}
    said = [item.split() for item in text.split(",")]
    return [event(float(s), events[word]) if word in events else reading(float(s), state=word) for s, word in said]


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("0 off, 5 request, 8 cranking, 12 running", "none"),
        ("0 request, 8 cranking, 29 started, 40 off", "none"),
        ("0 request, 10 off, 20 off, 29 off", "none"),  # there is still time
        ("0 request, 10 off, 20 off, 30 off", "open"),
        ("0 request, 10 cranking, 20 off, 30 off", "open"),  # back to off settles nothing
        ("0 request, 10 cranking, 20 stopped, 30 off, 60 off", "none"),  # somebody thought better of it
        ("0 cranking, 10 cranking, 30 off", "open"),  # a start that nobody announced
        ("0 running, 10 cranking, 50 running", "none"),  # a single stale state is no start
        ("0 running, 10 cranking, 20 cranking, 55 off", "open"),
        ("0 request, 5 cranking, 8 start_failed", "open"),
        ("0 start_failed", "open"),
        ("0 fault, 5 request, 9 fault", "open"),
        ("0 fault, 10 fault", "none"),  # a machine in fault that nobody starts
        ("0 request, 30 off, 40 off, 50 cranking, 55 running", "cleared"),
        ("0 request, 30 off, 40 stopped, 50 off", "open"),  # only running shows that it starts
        ("0 request, 5 request, 10 request", "open"),  # the third attempt
        ("0 request, 5 cranking, 8 off, 12 cranking, 15 off, 18 cranking", "open"),
        ("0 request, 5 cranking, 6 cranking, 7 cranking, 8 cranking, 9 running", "none"),  # one long attempt
        ("0 cranking, 5 stopped, 10 cranking, 15 stopped, 20 cranking", "open"),  # stopped, but counted
        ("0 request, 1 cranking, 2 stopped, 10 request, 11 stopped, 20 request, 22 cranking, 25 running", "none"),
        (
            "0 request, 1 stopped, 10 request, 15 stopped, 20 request, 25 stopped, 30 request",
            "open",
        ),  # three that count
        ("0 running, 10 fault", "open"),  # it stalled, or its protection stopped it
        ("0 running, 10 stopped, 15 fault", "open"),
        ("0 running, 10 stopped, 15 off, 20 fault", "none"),  # stopped as it was asked to
        ("0 running, 10 fault, 20 off, 600 fault", "open"),  # only running shows that it runs
        ("0 running, 10 fault, 40 running", "cleared"),
        ("0 off, 10 fault", "none"),  # it was not running
        ("0 cranking, 5 stopped, 10 cranking, 15 running, 20 stopped, 25 cranking", "none"),
        ("0 cranking, 5 stopped, 400 cranking, 405 stopped, 700 cranking", "none"),  # not within one window
        ("0 request, 20 request, 35 off, 49 running", "none"),  # a new request has its own time
    ],
)
def test_start(said: str, fault: str) -> None:
    assert outcome(say(bank(PUMP), course(said)), *START) == fault


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("0 request, 40 off", Reason.NEVER_ATTEMPTED),
        ("0 request, 5 cranking, 40 off", Reason.TIMEOUT),
        ("0 request, 5 start_failed", Reason.START_FAILED),
        ("0 request, 5 fault", Reason.FAULT_STATE),
        ("0 request, 5 request, 9 request", Reason.ATTEMPTS),
        ("0 request, 40 request", Reason.NEVER_ATTEMPTED),  # of the first, though the second is heard with it
    ],
)
def test_why(said: str, reason: Reason) -> None:
    (found,) = say(bank(PUMP), course(said))
    assert found.evidence["reason"] is reason


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("0 off, 5 request", Reason.NO_SIGNAL),
        ("5 cranking", Reason.NO_SIGNAL),
        ("5 request, 15 off", Reason.NEVER_ATTEMPTED),
        ("5 request, 15 cranking", Reason.TIMEOUT),
    ],
)
def test_the_servers_clock_counts_on_where_nothing_is_heard(said: str, reason: Reason) -> None:
    b = bank(PUMP)
    assert say(b, course(said)) == []
    assert b.tick(T0 + 34_999, T0) == []
    (found,) = b.tick(T0 + 35_000, T0)
    assert (found.kind, found.opened, found.occurred_at) == ("startup_failure", True, T0 + 5_000)
    assert found.evidence["reason"] is reason
    assert "startup_failure" not in {kind for kind, _, _ in told(b.tick(T0 + 900_000, T0))}


def test_after_a_gap_of_our_own_the_start_has_its_full_time_again() -> None:
    b = bank(PUMP)
    say(b, course("0 request"))
    assert b.tick(T0 + 60_000, T0 + 40_000) == []
    assert told(b.tick(T0 + 70_000, T0 + 40_000)) == [("startup_failure", "", "opened")]


def test_the_facts_tell_battery_and_fuel() -> None:
    said = [
        event(0, "start_requested"),
        reading(4, {"battery_v": 12.4, "fuel_pct": 7}, state="off"),
        reading(5, {"battery_v": 8.1}, state="cranking"),
        reading(6, {"battery_v": 9.0}, state="cranking"),
        reading(31, {"battery_v": 11.9}, state="off"),
    ]
    (found,) = say(bank(PUMP), said)
    assert found.evidence == {
        "reason": "timeout", "cranked": True, "attempts": 1, "requested_at": T0, "battery_crank_low": 8.1,
        "battery_last": 11.9, "fuel_last": 7,
    }  # fmt: skip


def boots(*states: str, every_s: float = 60, readings: int = 1) -> list[Message]:
    """A boot each `every_s`, with so many readings 10 s apart after it."""
    return [
        reading(number * every_s + i * 10, state=state, boot=number)
        for number, state in enumerate(states)
        for i in range(readings)
    ]


def test_a_boot_loop_is_a_startup_failure() -> None:
    (found,) = say(bank(PUMP), boots(*["off"] * 6))
    assert (found.evidence["reason"], found.evidence["boots"], found.occurred_at) == ("boot_loop", 4, T0 + 240_000)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (boots(*["off"] * 4), "none"),
        (boots(*["off"] * 6, every_s=201), "none"),  # not within one window
        (boots(*["running"] * 6), "open"),  # a moment of running each time is not a machine that runs
        (boots(*["running"] * 6, readings=4), "none"),  # it ran for 30 s each time
        ([*boots(*["off"] * 5), *(reading(300 + i * 10, boot=4) for i in range(3))], "open"),
        ([*boots(*["off"] * 5), *(reading(300 + i * 10, boot=4) for i in range(4))], "cleared"),
    ],
)
def test_boots(rows: list[Message], fault: str) -> None:
    assert outcome(say(bank(PUMP), rows), *START) == fault


def test_boots_that_get_no_further_than_online_count() -> None:
    b = bank(PUMP)
    say(b, [reading(0, state="off")])
    online = [Status("online", T0 + i * 20_000, boot=i) for i in range(1, 5)]
    assert [told(b.status("m1", status, status.at)) for status in online] == [
        [], [], [], [("startup_failure", "", "opened")],
    ]  # fmt: skip


def test_a_replaced_box_begins_its_boots_again() -> None:
    b = bank(PUMP)
    say(b, [reading(0, state="off", boot=77)])
    b.place([Device("m1", "pump", generation=1)])
    assert say(b, boots(*["off"] * 4)) == []
    assert outcome(say(b, [reading(600, boot=n, state="off") for n in range(4, 9)]), *START) == "open"
