"""Silence: who was heard when, and who is silent now."""

import pytest

from monitor.detect import Bank, Reason
from monitor.devices import Device
from monitor.readings import Status
from tests.detecting import PUMP, T0, bank, event, reading, say, told

OPENED = [("silent", "", "opened")]
CLEARED = [("silent", "", "cleared")]
HOURS = 3_600_000


def heard(*, seconds: float = 0) -> Bank:
    b = bank(PUMP)
    say(b, [reading(seconds)])
    return b


def at(seconds: float) -> int:
    return T0 + round(seconds * 1000)


@pytest.mark.parametrize(
    ("now_s", "attended_s", "silent"),
    [
        (30, -60, False),  # three reports are just due
        (30.001, -60, True),
        (3600, 3590, False),  # it was we who were away
        (3600, 3569, True),
    ],
)
def test_three_missed_reports(now_s: float, attended_s: float, silent: bool) -> None:
    found = heard().tick(at(now_s), at(attended_s))
    assert told(found) == (OPENED if silent else [])
    if silent:
        assert (found[0].occurred_at, found[0].evidence) == (
            T0, {"reason": Reason.MISSED_REPORTS, "last_heard_at": T0},
        )  # fmt: skip


@pytest.mark.parametrize(("known_s", "sure"), [(60, True), (899, True), (900, False), (86_400, False)])
@pytest.mark.parametrize("lost", [True, False])
def test_a_silence_may_be_a_gap_unless_the_machine_is_being_put_into_service(
    known_s: float, sure: bool, lost: bool
) -> None:
    b = heard()
    say(b, [reading(known_s)])
    will = Status("lost", at(0), 0)
    found = b.status("m1", will, at(known_s)) if lost else b.tick(at(known_s + 60), T0)
    assert told(found) == OPENED
    assert (found[0].confidence == 1.0) is sure


def test_a_replaced_box_is_put_into_service_anew() -> None:
    b = heard()
    b.place([Device("m1", PUMP.name, generation=1)])
    say(b, [reading(86_400)])
    assert b.tick(at(86_500), T0)[0].confidence == 1.0


def test_silence_is_said_once_and_cleared_by_a_reading() -> None:
    b = heard()
    assert told(b.tick(at(60), T0)) == OPENED
    assert b.tick(at(600), T0) == []
    assert told(say(b, [reading(700)])) == CLEARED


@pytest.mark.parametrize(
    "message",
    [reading(50), event(50, "stopped"), reading(10, late=True, lag_s=40)],
    ids=["reading", "event", "late reading"],
)
def test_what_proves_life(message) -> None:  # type: ignore[no-untyped-def]
    b = heard()
    assert told(b.tick(at(45), T0)) == OPENED
    assert told(say(b, [message])) == CLEARED


def test_rejected_messages_and_replies_prove_life() -> None:
    b = heard()
    b.alive(["m1", "m1", "stranger"], at(25))
    assert b.tick(at(50), T0) == []
    assert told(b.tick(at(56), T0)) == OPENED
    b.alive(["m1"], at(57))
    assert told(b.tick(at(58), T0)) == CLEARED


def test_a_machine_never_heard_is_not_silent() -> None:
    b = bank(PUMP)
    assert b.tick(at(24 * 3600), T0) == []
    assert b.status("m1", Status("lost", T0), at(5)) == []


def test_a_last_will_is_silence_at_once() -> None:
    b = heard()
    (found,) = b.status("m1", Status("lost", at(-100)), at(4))
    assert (found.occurred_at, found.evidence["reason"]) == (at(4), Reason.LOST)
    assert b.tick(at(4000), T0) == []
    assert told(b.status("m1", Status("online", at(4001)), at(4001))) == CLEARED


@pytest.mark.parametrize(
    ("will", "received_s", "silent"),
    [
        (Status("lost", at(100), boot=3), 130, True),
        (Status("lost", at(99), boot=3), 130, False),  # of the connection before the last `online`
        (Status("lost", at(100), boot=2), 130, False),  # of an earlier boot
        (Status("lost", at(100), boot=3), 119, False),  # telemetry was heard after it
    ],
)
def test_stale_wills(will: Status, received_s: float, silent: bool) -> None:
    b = bank(PUMP)
    b.status("m1", Status("online", at(100), boot=3), at(100))
    say(b, [reading(120, boot=3)])
    assert told(b.status("m1", will, at(received_s))) == (OPENED if silent else [])


def test_a_polite_goodbye_is_not_silence_until_the_machine_is_heard_again() -> None:
    b = heard()
    assert b.status("m1", Status("offline", at(5), reason="powered_off"), at(5)) == []
    assert b.status("m1", Status("lost", at(-50)), at(6)) == []
    say(b, [reading(4, late=True, lag_s=6)])  # said before the goodbye, arrived after it
    assert b.tick(T0 + 90 * 24 * HOURS, T0) == []
    say(b, [reading(9_000_000)])
    assert told(b.tick(at(9_000_100), T0)) == OPENED


def test_a_goodbye_ends_a_silence() -> None:
    b = heard()
    assert told(b.tick(at(60), T0)) == OPENED
    assert told(b.status("m1", Status("offline", at(61), reason="sleeping"), at(61))) == CLEARED


def test_silence_waits_while_a_start_is_pending_and_joins_after_it_failed() -> None:
    b = bank(PUMP)
    say(b, [reading(0, state="off"), event(5, "start_requested")])
    assert b.status("m1", Status("lost", at(-60)), at(8)) == []
    assert b.tick(at(20), T0) == []
    assert told(b.tick(at(40), T0)) == [("startup_failure", "", "opened"), *OPENED]


def test_a_tick_that_finds_nothing_changes_nothing() -> None:
    b = heard()
    b.snapshot()
    before = b.dump()
    assert b.tick(at(10), T0) == []
    assert (b.dump(), b.snapshot()) == (before, {})


def test_only_the_silent_machine_is_called_silent() -> None:
    b = bank(PUMP, devices=["m1", "m2", "m3"])
    say(b, [reading(0, device="m1"), reading(0, device="m2"), reading(50, device="m3")])
    assert [f.device_id for f in b.tick(at(60), T0)] == ["m1", "m2"]
    b.remove(["m2"])
    b.place([Device("m4", "pump")])
    assert b.tick(at(70), T0) == []
