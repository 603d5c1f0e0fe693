# ruff: noqa: N802 (the names begin with the row of the standard)
"""People report what machines cannot: by the customer's page and by the label on the machine (R7, R9)."""

import threading

import pytest

from monitor.engine.desk import Report
from monitor.links import read_customer, read_label
from monitor.store import schema
from monitor.store.links import Links
from tests.patience import PATIENCE_S
from tests.standard.world import HOUR, MINUTE, World


def say(world: World, text: str = "It smokes", *, origin: str = "customer", stopped: bool = False) -> int:
    return world.desk.report(Report("m1", text, origin, "Mr Li", stopped), f"{origin}:1", world.now)


def due_minutes(world: World, ticket_id: int) -> dict[str, int]:
    return {kind: (clock.due_at - world.now) // MINUTE for kind, clock in world.clocks(ticket_id).items()}


def said(world: World) -> list[str]:
    return [row.note for row in world.rows(schema.step, event="report")]


@pytest.mark.parametrize("origin", ["customer", "label"])
def test_R7_a_problem_that_a_customer_reports_has_the_same_clocks(world: World, origin: str) -> None:
    world.machine("m1").goes_hot()
    world.machine("m2")
    found = due_minutes(world, world.ticket("limit").id)
    told = world.desk.report(Report("m2", "It smokes", origin, "Mr Li"), f"{origin}:1", world.now)
    assert due_minutes(world, told) == found == {"dispatch": 60}
    ticket = world.ticket("reported")
    assert (ticket.id, ticket.origin, ticket.severity, ticket.reported_by) == (told, origin, "urgent", "Mr Li")


@pytest.mark.parametrize("origin", ["customer", "label"])
def test_R9_a_machine_that_its_customer_says_has_stopped_is_an_emergency(world: World, origin: str) -> None:
    world.machine("m1")
    ticket_id = say(world, origin=origin, stopped=True)
    assert world.ticket("reported").severity == "emergency"
    assert due_minutes(world, ticket_id) == {"dispatch": 60, "repair_start": 240}


def test_R9_a_machine_that_stops_after_all_gets_its_clock_then(world: World) -> None:
    world.machine("m1")
    ticket_id = say(world)
    world.now += 20 * MINUTE
    assert say(world, "Now it has stopped", stopped=True) == ticket_id
    assert world.ticket("reported").severity == "emergency"
    assert due_minutes(world, ticket_id) == {"dispatch": 40, "repair_start": 240}


def test_R9_a_machine_that_is_not_on_hire_gets_a_ticket_without_clocks(world: World) -> None:
    world.machine("m1", on_hire=False)
    assert world.clocks(say(world, origin="label", stopped=True)) == {}
    assert world.ticket("reported").severity == "urgent"


def test_R7_what_people_say_joins_the_ticket_of_the_machine(world: World) -> None:
    machine = world.machine("m1")
    machine.fails_to_start()
    ticket = world.ticket("startup_failure")
    before = world.clocks(ticket.id)
    assert say(world, "It does not start", stopped=True) == ticket.id
    assert [row.id for row in world.tickets()] == [ticket.id], "one machine, one job"
    assert {kind: clock.due_at for kind, clock in world.clocks(ticket.id).items()} == {
        kind: clock.due_at for kind, clock in before.items()
    }
    assert said(world) == ["It does not start"]
    assert world.ticket("startup_failure").origin == "detected", "we had found it ourselves"


def test_R7_a_routine_ticket_does_not_swallow_what_people_say(world: World) -> None:
    world.machine("m1").says()
    world.forward(minutes=11)
    routine = world.ticket("silent")
    told = say(world)
    assert routine.severity == "routine"
    assert told != routine.id
    assert set(world.clocks(told)) == {"dispatch"}


def test_R7_a_ticket_from_the_yard_gets_its_clocks_when_the_customer_speaks(world: World) -> None:
    world.machine("m1", on_hire=False).goes_hot()
    ticket_id = world.ticket("limit").id
    assert world.clocks(ticket_id) == {}
    world.now += HOUR
    world.registry.add_rental("m1", "Metro JV", "site@metro.example", lang="en", now=world.now)
    world.now += HOUR
    assert say(world) == ticket_id
    assert due_minutes(world, ticket_id) == {"dispatch": 60}
    assert world.ticket("limit").rental_id is not None
    say(world, "It still does")
    assert due_minutes(world, ticket_id) == {"dispatch": 60}, "promised once"


def test_R7_sent_twice_it_is_one_report(world: World) -> None:
    world.machine("m1")
    first = say(world)
    assert [say(world), say(world, "It smokes more")] == [first, first]
    assert said(world) == ["It smokes", "It smokes more"]
    world.now += HOUR
    assert say(world, "It smokes more") == first, "said again later, it is news"
    assert said(world) == ["It smokes", "It smokes more", "It smokes more"]


def test_R7_ten_who_report_at_once_open_one_ticket(world: World) -> None:
    world.machine("m1")
    told: list[int] = []
    ready = threading.Barrier(10)

    def report(n: int) -> None:
        ready.wait(PATIENCE_S)
        told.append(say(world, f"It smokes, says {n}"))

    people = [threading.Thread(target=report, args=(n,)) for n in range(10)]
    for one in people:
        one.start()
    for one in people:
        one.join(PATIENCE_S)
    assert len(told) == 10
    assert set(told) == {world.ticket("reported").id}
    assert len(said(world)) == 10
    assert set(world.clocks(told[0])) == {"dispatch"}


def test_R7_what_is_said_after_the_ticket_was_resolved_is_a_promise_of_its_own(world: World) -> None:
    world.machine("m1")
    first = say(world)
    for verb in ("verify", "accept", "arrive", "start-repair", "resolve"):
        world.act(first, verb, **({"technician_id": 1} if verb == "accept" else {}))
    world.now += HOUR
    again = say(world)
    assert again != first
    assert due_minutes(world, again) == {"dispatch": 60}
    assert [row.ticket_id for row in world.faults("reported", cleared_at=None)] == [again]
    (link,) = world.rows(schema.ticket_link)
    assert (link.ticket_id, link.other_id, link.kind) == (again, first, "returned")


def test_R7_notices_to_a_customer_bring_the_link_to_their_page(world: World) -> None:
    world.machine("m1")
    say(world)
    (notice,) = world.rows(schema.notice, kind="fault_noticed")
    address, _, path = notice.link.rpartition("/c/")
    token, _, ticket = path.partition("/")
    assert ticket == str(notice.ticket_id)
    signer = world.desk.addresses.signer
    assert signer is not None
    assert address == "http://fettle.example"
    assert notice.link in notice.body
    assert read_customer(signer, token, world.now) == (1, 0)
    assert read_label(signer, token, world.now) is None
    assert read_customer(signer, token, world.now + 30 * 24 * HOUR) is None


def test_R7_a_link_that_was_ended_is_not_handed_out_again(world: World) -> None:
    world.machine("m1")
    Links(world.database, "test").customer(1, world.now, renew=True)
    say(world)
    (notice,) = world.rows(schema.notice, kind="fault_noticed")
    signer = world.desk.addresses.signer
    assert signer is not None
    assert read_customer(signer, notice.link.split("/")[-2], world.now) == (1, 1)
