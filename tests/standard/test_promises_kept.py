# ruff: noqa: N802 (the names begin with the row of the standard)
"""R7, R8, R9 where the simple course ends: what was promised is neither lost nor doubled when rentals change, tickets
come back or go into one another, and steps arrive late."""

import pytest

from monitor.desk.tickets import Incomplete, NotPossible
from monitor.store import schema
from monitor.store.hire import Hire
from tests.standard.test_remote_diagnosis import answers, asked
from tests.standard.world import DAY, HOUR, MINUTE, World


def hot(world: World, device_id: str = "m1", *, on_hire: bool = True, site: str | None = None) -> int:
    """The ticket of a machine that goes beyond a limit now: urgent, R7."""
    world.machine(device_id, on_hire=on_hire, site=site).goes_hot()
    return int(next(row.id for row in world.tickets("limit") if row.device_id == device_id))


def hire(world: World, customer: str, device_id: str = "m1") -> None:
    address = f"{customer.split()[0].lower()}@example.com"
    world.registry.add_rental(device_id, customer, address, lang="en", now=world.now)


# --- told each time it is true -------------------------------------------------------------------------------------


def test_R7_a_reopened_ticket_is_warned_of_and_broken_again(world: World) -> None:
    ticket_id = hot(world)
    world.forward(minutes=61, every_s=60)
    world.act(ticket_id, "accept", technician_id=1)
    world.act(ticket_id, "resolve")
    told = len(world.told("breach")), len(world.told("breach_warning"))
    world.act(ticket_id, "reopen")
    world.forward(minutes=61, every_s=60)
    assert (len(world.told("breach")), len(world.told("breach_warning"))) == (2 * told[0], 2 * told[1])
    assert told[0] > 0


def test_R7_a_due_time_that_moved_is_warned_of_again(world: World) -> None:
    ticket_id = hot(world)
    world.forward(minutes=50, every_s=60)
    warned = len(world.told("breach_warning"))
    world.act(ticket_id, "pause", reason="no_access")
    world.forward(hours=2, every_s=300)
    world.act(ticket_id, "resume")
    world.forward(minutes=6, every_s=60)
    assert len(world.told("breach_warning")) == 2 * warned > 0


def test_R8_a_breach_that_was_none_takes_no_other_breach_with_it(world: World) -> None:
    ticket_id = hot(world, site=world.site("Quarry", remote=True))
    world.forward(minutes=239, every_s=300)
    world.now += 2 * MINUTE
    world.desk.tick(world.now)
    queued = [row.cause for row in world.rows(schema.notice, kind="breach", status="queued")]
    assert {cause.split(":")[2].split("-")[0] for cause in queued} == {"dispatch"}
    world.act(ticket_id, "verify", note="The fan stands still", happened_at=world.now - 200 * MINUTE)
    assert world.clocks(ticket_id)["remote_diagnosis"].breached_at is None
    assert [row.cause for row in world.rows(schema.notice, kind="breach", status="queued")] == queued


def test_R7_the_customer_hears_again_that_it_runs_and_that_the_first_technician_comes_after_all(world: World) -> None:
    world.person("Wu", "technician")
    ticket_id = hot(world)
    for technician_id in (1, 3, 1):
        world.act(ticket_id, "accept", technician_id=technician_id)
        world.forward(seconds=30)
        if technician_id == 3 or len(world.told("technician_arranged")) == 1:
            world.act(ticket_id, "decline")
    assert len(world.told("technician_arranged")) == 3
    world.act(ticket_id, "resolve")
    world.forward(minutes=1)
    world.act(ticket_id, "reopen")
    world.act(ticket_id, "accept", technician_id=1)
    world.act(ticket_id, "resolve")
    world.forward(minutes=1)
    assert len(world.told("fault_resolved")) == 2


# --- rentals change ------------------------------------------------------------------------------------------------


def test_R9_a_rental_that_begins_while_a_ticket_is_open_has_its_clocks_from_then(world: World) -> None:
    world.machine(on_hire=False).fails_to_start()
    ticket = world.ticket("startup_failure")
    world.forward(minutes=20, every_s=60)
    assert (ticket.severity, world.clocks(ticket.id)) == ("urgent", {})
    hire(world, "Metro JV")
    began = world.now
    world.forward(seconds=5)
    assert world.ticket("startup_failure").severity == "emergency"
    promised = {(c.standard_id, c.started_at - began) for c in world.clocks(ticket.id).values()}
    assert {row for row, _ in promised} == {"R7", "R9"}
    assert all(0 <= late <= 5_000 for _, late in promised)
    assert world.told_to("metro@example.com") == ["fault_noticed"]
    assert [row.what for row in world.rows(schema.audit, subject=f"ticket:{ticket.id}")][:2] == [
        "ticket_rental", "ticket_raised"
    ]  # fmt: skip


def test_R7_a_ticket_that_is_reopened_on_another_rental_is_that_ones(world: World) -> None:
    ticket_id = hot(world)
    world.act(ticket_id, "accept", technician_id=1)
    world.act(ticket_id, "resolve")
    world.forward(minutes=5, every_s=60)
    (rental,) = world.rows(schema.rental)
    Hire(world.database, "test").end_rental(rental.id, None, world.now)
    hire(world, "River Works")
    before = len(world.told_to("site@metro.example"))
    world.act(ticket_id, "reopen")
    world.forward(minutes=1)
    (ticket,) = world.rows(schema.ticket, id=ticket_id)
    assert ticket.rental_id not in (None, rental.id)
    assert world.told_to("river@example.com") == ["fault_noticed"]
    assert len(world.told_to("site@metro.example")) == before


# --- what is over --------------------------------------------------------------------------------------------------


def test_R8_what_comes_after_the_end_neither_keeps_nor_breaks_a_promise(world: World) -> None:
    ticket_id = hot(world, site=world.site("Quarry", remote=True))
    world.act(ticket_id, "verify")
    world.act(ticket_id, "resolve")
    clock = world.clocks(ticket_id)["remote_diagnosis"]
    assert (clock.voided_at, clock.met_at) == (world.now, None)
    world.forward(minutes=75, every_s=60)
    with pytest.raises(NotPossible):
        world.act(ticket_id, "verify", note="It was the fan")
    world.act(ticket_id, "close")
    assert world.clocks(ticket_id)["remote_diagnosis"] == clock
    assert world.told("breach") == []


def test_R7_two_tickets_that_become_one_keep_the_earlier_promise(world: World) -> None:
    first = hot(world)
    began = world.now
    world.forward(minutes=50, every_s=60)
    world.machines["m1"].event("fault_set", code="P1", text="Filter", severity="routine")
    world.forward(seconds=10)
    (other,) = world.rows(schema.ticket, kind="fault_code")
    assert world.clocks(other.id)["dispatch"].due_at == began + HOUR + 50 * MINUTE
    world.act(first, "merge", other_id=other.id)
    clock = world.clocks(other.id)["dispatch"]
    assert (clock.due_at, clock.breached_at) == (began + HOUR, None)
    world.forward(minutes=11, every_s=60)
    assert world.clocks(other.id)["dispatch"].breached_at == began + HOUR


def test_R7_a_link_changes_nothing_of_how_a_ticket_ended_or_waits(world: World) -> None:
    first, second = hot(world), hot(world, "m2")
    world.act(first, "accept", technician_id=1)
    world.act(first, "resolve")
    world.act(first, "close")
    (ended,) = world.rows(schema.ticket, id=first)
    world.act(second, "pause", reason="parts")
    world.forward(hours=80, every_s=3600)
    for one, other in ((first, second), (second, first)):
        world.act(one, "link", other_id=other)
    assert world.rows(schema.ticket, id=first)[0].closed_at == ended.closed_at
    with pytest.raises(NotPossible, match="more than 72 h ago"):
        world.act(first, "reopen")


def test_R7_a_new_wait_is_not_ended_by_the_old_ones_hour(world: World) -> None:
    ticket_id = hot(world)
    world.act(ticket_id, "pause", reason="no_access", until_at=world.now + 30 * MINUTE)
    world.now += 30 * MINUTE
    world.act(ticket_id, "resume")
    world.act(ticket_id, "pause", reason="no_access", until_at=world.now + DAY)
    world.forward(minutes=10, every_s=60)
    assert world.rows(schema.ticket, id=ticket_id)[0].status == "waiting"


# --- who has begun -------------------------------------------------------------------------------------------------


def test_R9_a_repair_is_handed_to_another_technician_and_nothing_promised_is_lost(world: World) -> None:
    world.person("Wu", "technician")
    world.machine().fails_to_start()
    ticket_id = world.ticket("startup_failure").id
    world.act(ticket_id, "accept", technician_id=1)
    world.act(ticket_id, "start-repair")
    kept = world.clocks(ticket_id)
    world.forward(hours=2, every_s=300)
    world.act(ticket_id, "decline", note="Parts come on Monday")
    world.act(ticket_id, "accept", technician_id=3)
    assert world.rows(schema.ticket, id=ticket_id)[0].technician_id == 3
    assert {name: clock.met_at for name, clock in world.clocks(ticket_id).items()} == {
        name: clock.met_at for name, clock in kept.items()
    }
    assert world.told("breach") == []


def test_P1_nobody_is_put_on_a_ticket_but_by_sending_them(world: World) -> None:
    ticket_id = hot(world)
    world.act(ticket_id, "accept", technician_id=1)
    for verb in ("arrive", "link"):
        with pytest.raises(Incomplete, match="technician_id"):
            world.act(ticket_id, verb, technician_id=2, other_id=99)


def test_R7_whatever_breaks_in_a_tick_the_clocks_go_on(world: World) -> None:
    ticket_id = hot(world)
    world.desk.shifts.tick = world.desk.paging.tick = _breaks  # type: ignore[method-assign]
    world.now += 59 * MINUTE
    world.forward(minutes=2, every_s=60)
    assert world.clocks(ticket_id)["dispatch"].breached_at is not None


def _breaks(now: int) -> None:
    raise OverflowError(now)


# --- what the random courses of test_desk_life.py found ------------------------------------------------------------


def test_R8_what_happened_first_counts_though_it_was_recorded_last(world: World) -> None:
    ticket_id = hot(world, site=world.site("Quarry", remote=True))
    opened_at = world.rows(schema.ticket, id=ticket_id)[0].opened_at
    world.forward(minutes=70, every_s=60)
    answers(world.machines["m1"], asked(world).id)
    assert world.clocks(ticket_id)["remote_diagnosis"].breached_at == opened_at + HOUR
    world.act(ticket_id, "verify", note="The fan", happened_at=opened_at + 30 * MINUTE)
    clock = world.clocks(ticket_id)["remote_diagnosis"]
    assert (clock.met_at, clock.breached_at) == (opened_at + 30 * MINUTE, None)


def test_R7_a_step_that_concerns_no_other_ticket_names_none(world: World) -> None:
    ticket_id = hot(world)
    with pytest.raises(Incomplete, match="other_id"):
        world.act(ticket_id, "verify", other_id=99)


def test_R7_a_broken_promise_is_told_though_its_ticket_went_into_another(world: World) -> None:
    first = hot(world)
    world.forward(minutes=59, every_s=60)
    world.machines["m1"].event("fault_set", code="P1", text="Filter")
    world.forward(seconds=10)
    second = world.ticket("fault_code").id
    world.now += 2 * MINUTE
    world.desk.tick(world.now)
    world.act(first, "merge", other_id=second)
    world.forward(seconds=10)
    assert world.told("breach") == [("breach", "mei@example.com"), ("breach", "olga@example.com")]


def test_R7_tickets_that_were_one_before_the_breach_keep_the_earlier_promise(world: World) -> None:
    first = hot(world)
    due_at = world.clocks(first)["dispatch"].due_at
    world.forward(minutes=57, every_s=60)
    world.machines["m1"].event("fault_set", code="P1", text="Filter")
    world.forward(minutes=5, every_s=60)
    second = world.ticket("fault_code").id
    assert world.clocks(first)["dispatch"].breached_at == due_at
    world.act(first, "merge", other_id=second, happened_at=due_at - MINUTE)
    clock = world.clocks(second)["dispatch"]
    assert (clock.due_at, clock.breached_at) == (due_at, due_at), "one fault, and what was promised of it first"
    assert world.clocks(first)["dispatch"].breached_at is None


def test_R7_a_ticket_that_took_over_an_open_fault_has_not_cleared(world: World) -> None:
    first = hot(world)
    world.machines["m1"].event("fault_set", code="P1", text="Filter")
    world.forward(seconds=10)
    other = world.ticket("fault_code").id
    world.machines["m1"].event("fault_cleared", code="P1")
    world.forward(seconds=10)
    assert world.ticket("fault_code").cleared_at is not None
    world.act(first, "merge", other_id=other)
    assert world.ticket("fault_code").cleared_at is None


def test_R7_nothing_has_two_open_tickets_because_a_resolution_is_taken_back(world: World) -> None:
    first = hot(world)
    world.act(first, "accept", technician_id=1)
    world.act(first, "resolve")
    world.machines["m1"].recovers()
    world.forward(minutes=5)
    world.machines["m1"].goes_hot()
    assert [row.status for row in world.tickets("limit")] == ["resolved", "open"]
    with pytest.raises(NotPossible, match="is open for this fault already"):
        world.act(first, "correct")
