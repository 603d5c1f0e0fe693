"""R8: a machine at a remote site is asked to test itself, and its answer is the remote diagnosis; in virtual time."""

# ruff: noqa: N802 (the names begin with the row of the standard)
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from monitor.desk.diagnosis import shipped_policy
from monitor.devices import topic
from monitor.engine import diagnosis
from monitor.readings import Arrival, Reply
from monitor.store import schema
from tests.office import finding
from tests.standard.world import HOUR, MINUTE, Broken, Machine, World

WEAK = {"state": "off", "checks": {"battery": "weak", "fuel": "ok"}, "codes": ["P0562"], "battery_voltage_v": 10.9}
GIVE_UP_S = shipped_policy().give_up_s


def at_the_quarry(world: World, device_id: str = "m1") -> tuple[Machine, int]:
    """A machine on hire at a remote site goes hot: itself, and its ticket."""
    if not world.rows(schema.site):
        world.site("Quarry", remote=True)
    machine = world.machine(device_id, site="Quarry")
    machine.goes_hot()
    (ticket,) = [row for row in world.tickets("limit") if row.device_id == device_id]
    return machine, ticket.id


def asked(world: World) -> Any:
    """The one command that there is."""
    (command,) = world.rows(schema.command)
    return command


def answers(machine: Machine, command_id: str, *, ok: bool = True, result: dict[str, Any] | None = None) -> None:
    machine.send(Reply(command_id, machine.world.now, ok, WEAK if result is None else result))


def notes(world: World, ticket_id: int) -> list[tuple[str, str, str]]:
    """What the self-test left on a ticket: (event, note, actor)."""
    rows = world.rows(schema.step, ticket_id=ticket_id, actor="self-test")
    return [(row.event, row.note, row.actor) for row in rows]


def diagnosis_clock(world: World, ticket_id: int) -> tuple[int | None, int | None]:
    """(met_at, breached_at) of the clock of the remote diagnosis."""
    clock = world.clocks(ticket_id)["remote_diagnosis"]
    return clock.met_at, clock.breached_at


# --- asking --------------------------------------------------------------------------------------------------------


def test_R8_a_machine_at_a_remote_site_is_asked_at_once(world: World) -> None:
    _, ticket_id = at_the_quarry(world)
    opened_at = world.now
    world.forward(seconds=1, every_s=1)
    command = asked(world)
    assert (command.ticket_id, command.asked_at, command.sends) == (ticket_id, opened_at, 1)
    said = {"id": command.id, "at": opened_at, "command": "diagnose", "args": {}}
    assert world.radio.sent == [(f"{topic('m1')}/command", said)]


@pytest.mark.parametrize("site", [None, "Harbour"])
def test_R8_elsewhere_nothing_is_asked(world: World, site: str | None) -> None:
    if site:
        world.site(site, remote=False)
    world.machine(site=site).goes_hot()
    world.forward(minutes=2)
    assert world.tickets("limit")
    assert world.rows(schema.command) == []


def test_R8_a_machine_that_is_silent_is_not_asked(world: World) -> None:
    world.machine(site=world.site("Quarry", remote=True)).says()
    world.forward(minutes=6)
    assert world.tickets("silent")
    assert world.rows(schema.command) == []


def test_R8_a_ticket_that_becomes_graver_asks_again_once_it_was_answered(world: World) -> None:
    machine, ticket_id = at_the_quarry(world)
    world.forward(seconds=5)
    grows_graver(world, "m1")
    assert len(world.rows(schema.command)) == 1, "it is being asked already"
    answers(machine, asked(world).id)
    grows_graver(world, "m1", severity="emergency")
    waiting = [row.ticket_id for row in world.rows(schema.command) if row.answered_at is None]
    assert waiting == [ticket_id]


def grows_graver(world: World, device_id: str, **how: Any) -> None:
    with world.database.begin() as connection:
        world.desk.record(connection, [finding("limit", "temp_c", at=world.now, device=device_id, **how)], world.now)


# --- answers -------------------------------------------------------------------------------------------------------


def test_R8_an_answer_is_the_diagnosis_and_says_what_the_machine_found(world: World) -> None:
    machine, ticket_id = at_the_quarry(world)
    world.forward(seconds=5)
    answers(machine, asked(world).id)
    assert diagnosis_clock(world, ticket_id) == (world.now, None)
    told = "battery: weak · fuel: ok · codes: P0562 · state: off · battery_voltage_v: 10.9"
    assert notes(world, ticket_id) == [("diagnose", told, "self-test")]
    command = asked(world)
    assert (command.ok, command.answered_at, command.result) == (True, world.now, WEAK)
    assert world.ticket("limit").status == "open", "a machine verifies nothing"
    assert world.clocks(ticket_id)["dispatch"].met_at is None
    world.forward(hours=2, every_s=300)
    assert len(world.radio.sent) == 1, "who has answered is not asked again"
    assert diagnosis_clock(world, ticket_id)[1] is None


@pytest.mark.parametrize(("ok", "result"), [(False, {"error": "no such command"}), (True, {})])
def test_R8_an_answer_that_says_nothing_is_noted_and_is_no_diagnosis(
    world: World, ok: bool, result: dict[str, Any]
) -> None:
    machine, ticket_id = at_the_quarry(world)
    answers(machine, asked(world).id, ok=ok, result=result)
    assert diagnosis_clock(world, ticket_id) == (None, None)
    assert [event for event, _, _ in notes(world, ticket_id)] == ["diagnose_failed"]
    world.forward(minutes=61, every_s=60)
    assert diagnosis_clock(world, ticket_id)[1] == world.clocks(ticket_id)["remote_diagnosis"].due_at


def test_R8_what_answers_nothing_that_was_asked_changes_nothing(world: World) -> None:
    machine, ticket_id = at_the_quarry(world)
    other = world.machine("m2")
    command_id = asked(world).id
    answers(other, command_id)
    answers(machine, "c-unheard-of")
    assert (asked(world).answered_at, notes(world, ticket_id)) == (None, [])
    answers(machine, command_id)
    first = asked(world)
    world.forward(seconds=30)
    answers(machine, command_id, result={"checks": {"fuel": "empty"}})
    assert asked(world) == first
    assert len(notes(world, ticket_id)) == 1
    assert diagnosis_clock(world, ticket_id)[0] == first.answered_at


def test_R8_a_batch_that_could_not_be_stored_is_recorded_once(world: World) -> None:
    machine, ticket_id = at_the_quarry(world)
    arrival = Arrival("m1", world.now + 1000, Reply(asked(world).id, world.now, True, WEAK))
    world.now += 2000
    with Broken(world, "step"), pytest.raises(IntegrityError, match="disk is full"):
        world.observe(arrival)
    assert asked(world).answered_at is None
    world.observe(arrival)
    world.observe(arrival)
    assert diagnosis_clock(world, ticket_id)[0] == arrival.received_at
    assert len(notes(world, ticket_id)) == 1
    assert machine.device_id == asked(world).device_id


# --- no answer -----------------------------------------------------------------------------------------------------


def test_R8_no_answer_is_noted_and_the_clock_runs_out(world: World) -> None:
    _, ticket_id = at_the_quarry(world)
    opened_at = world.now
    world.forward(seconds=GIVE_UP_S - 5, every_s=30)
    assert notes(world, ticket_id) == []
    world.forward(seconds=10)
    assert notes(world, ticket_id) == [("no_answer", "no_answer", "self-test")]
    command = asked(world)
    assert (command.reason, command.next_send_at, command.sends) == ("no_answer", None, len(world.radio.sent))
    assert command.given_up_at < world.clocks(ticket_id)["remote_diagnosis"].due_at - 15 * MINUTE
    world.forward(hours=1, every_s=60)
    assert diagnosis_clock(world, ticket_id) == (None, opened_at + HOUR)
    assert len(world.radio.sent) == command.sends, "nobody is asked any more"


def test_R8_it_is_asked_again_at_intervals_that_are_bounded(world: World) -> None:
    at_the_quarry(world)
    moments = []
    while len(moments) < 8:
        before = len(world.radio.sent)
        world.forward(seconds=5)
        moments += [world.now] * (len(world.radio.sent) - before)
    pauses = [(later - sooner) // 1000 for sooner, later in pairwise(moments)]
    assert pauses == [10, 20, 40, 60, 60, 60, 60]
    assert {said["id"] for _, said in world.radio.sent} == {asked(world).id}


def test_R8_a_written_diagnosis_meets_the_clock_without_the_machine(world: World) -> None:
    _, ticket_id = at_the_quarry(world)
    world.forward(seconds=GIVE_UP_S + 60, every_s=30)
    world.act(ticket_id, "verify", note="Coolant hose burst, says the operator on site")
    assert diagnosis_clock(world, ticket_id) == (world.now, None)


def test_R8_an_answer_after_the_breach_is_met_late(world: World) -> None:
    machine, ticket_id = at_the_quarry(world)
    due_at = world.clocks(ticket_id)["remote_diagnosis"].due_at
    world.forward(minutes=70, every_s=60)
    answers(machine, asked(world).id)
    assert diagnosis_clock(world, ticket_id) == (world.now, due_at)
    command = asked(world)
    assert (command.reason, command.ok) == ("no_answer", True), "both facts are kept"
    assert [event for event, _, _ in notes(world, ticket_id)] == ["no_answer", "diagnose"]


def test_R8_a_breach_that_no_tick_has_seen_is_noted_before_the_late_answer(world: World) -> None:
    machine, ticket_id = at_the_quarry(world)
    clock = world.clocks(ticket_id)["remote_diagnosis"]
    world.now = clock.due_at + 5000
    answers(machine, asked(world).id)
    assert diagnosis_clock(world, ticket_id) == (world.now, clock.due_at)


def test_R8_an_answer_that_came_in_time_and_was_stored_after_the_breach_annuls_it(world: World) -> None:
    _, ticket_id = at_the_quarry(world)
    clock = world.clocks(ticket_id)["remote_diagnosis"]
    arrival = Arrival("m1", clock.due_at - 100, Reply(asked(world).id, clock.due_at - 200, True, WEAK))
    world.forward(minutes=61, every_s=60)
    assert diagnosis_clock(world, ticket_id) == (None, clock.due_at)
    world.observe(arrival)
    assert diagnosis_clock(world, ticket_id) == (clock.due_at - 100, None)


def test_R8_nothing_is_asked_or_noted_on_a_ticket_that_has_ended(world: World) -> None:
    machine, ticket_id = at_the_quarry(world)
    command_id = asked(world).id
    cancel(world, ticket_id)
    world.forward(minutes=2)
    assert (asked(world).reason, world.radio.sent) == ("ticket_ended", [])
    answers(machine, command_id)
    assert asked(world).ok is True
    assert notes(world, ticket_id) == []


@pytest.mark.parametrize(("change", "reason"), [("renew_device", "box_replaced"), ("revoke_device", "cut_off")])
def test_R8_a_box_that_cannot_answer_any_more_is_given_up_at_once(world: World, change: str, reason: str) -> None:
    _, ticket_id = at_the_quarry(world)
    getattr(world.registry, change)("m1", world.now)
    world.forward(seconds=2, every_s=1)
    assert (asked(world).reason, world.radio.sent) == (reason, [])
    assert notes(world, ticket_id) == [("no_answer", reason, "self-test")]


def test_R8_another_box_on_the_machine_cannot_answer_for_the_one_that_was_asked(world: World) -> None:
    machine, ticket_id = at_the_quarry(world)
    world.registry.renew_device("m1", world.now)
    answers(machine, asked(world).id)
    assert (asked(world).answered_at, notes(world, ticket_id)) == (None, [])


def test_R8_the_answer_for_a_ticket_that_was_merged_is_for_the_one_it_went_into(world: World) -> None:
    machine, first = at_the_quarry(world)
    world.forward(seconds=5)
    machine.fails_to_start()
    (second,) = [row.id for row in world.tickets("startup_failure")]
    (command,) = world.rows(schema.command, ticket_id=first)
    world.act(first, "merge", other_id=second)
    answers(machine, command.id)
    assert diagnosis_clock(world, second) == (world.now, None)
    assert [event for event, _, _ in notes(world, second)] == ["diagnose"]
    assert notes(world, first) == []
    assert {row.ticket_id for row in world.rows(schema.command)} == {second}


def test_R8_a_merged_ticket_that_was_not_answered_leaves_no_note_on_the_other(world: World) -> None:
    machine, first = at_the_quarry(world)
    machine.fails_to_start()
    (second,) = [row.id for row in world.tickets("startup_failure")]
    world.act(first, "merge", other_id=second)
    world.forward(seconds=10)
    (command,) = world.rows(schema.command, ticket_id=first)
    assert command.reason == "ticket_ended"
    assert notes(world, second) == []


# --- away and back -------------------------------------------------------------------------------------------------


def test_R8_a_restart_between_asking_and_sending_sends(world: World) -> None:
    _, ticket_id = at_the_quarry(world)
    world.restart(away_s=20)
    world.forward(seconds=1, every_s=1)
    ((_, said),) = world.radio.sent
    assert said["id"] == asked(world).id
    assert asked(world).ticket_id == ticket_id


def test_R8_an_answer_may_be_quicker_than_our_note_that_it_was_sent(world: World) -> None:
    machine, ticket_id = at_the_quarry(world)
    command_id = asked(world).id

    def publish(_topic: str, _payload: bytes) -> bool:
        answers(machine, command_id)
        return True

    diagnosis.send_due(world.database, publish, shipped_policy(), world.now)
    command = asked(world)
    assert (command.sends, command.sent_at, command.ok, command.next_send_at) == (1, world.now, True, None)
    assert diagnosis_clock(world, ticket_id) == (world.now, None)


def test_R8_while_the_broker_is_away_it_stays_due_and_then_goes_out(world: World) -> None:
    world.radio.up = False
    _, ticket_id = at_the_quarry(world)
    world.forward(minutes=5, every_s=10)
    assert asked(world).sends == 0
    world.radio.up = True
    world.forward(seconds=10)
    assert (asked(world).sends, len(world.radio.sent)) == (1, 1)
    assert notes(world, ticket_id) == []


def test_R8_a_broker_that_stays_away_is_told_apart_from_a_machine_that_does_not_answer(world: World) -> None:
    world.radio.up = False
    _, ticket_id = at_the_quarry(world)
    world.forward(seconds=GIVE_UP_S + 10, every_s=30)
    assert notes(world, ticket_id) == [("no_answer", "not_sent", "self-test")]


def cancel(world: World, ticket_id: int) -> None:
    world.act(ticket_id, "cancel", reason="sensor_wrong")
