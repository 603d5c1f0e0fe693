# ruff: noqa: N802 (the names begin with the row of the standard)
"""R7, R8, R9 through the life of a ticket: waiting, mistakes, merging, reopening, and promises that outlive a change of
the standard."""

import msgspec
import pytest
import sqlalchemy as sa

from monitor.desk.tickets import Incomplete, NotPossible, Outcome, Resolution
from monitor.engine import Desk
from monitor.engine.desk import Report
from monitor.store import schema
from tests.standard.world import HOUR, MINUTE, Machine, World


def hot(world: World, device_id: str = "m1") -> int:
    """The ticket of a machine that goes beyond a limit now: urgent, R7."""
    world.machine(device_id).goes_hot()
    ticket_id: int = next(row.id for row in world.tickets("limit") if row.device_id == device_id)
    return ticket_id


def due_minutes(world: World, ticket_id: int, kind: str = "dispatch") -> float:
    """When a clock is due, in minutes after its start."""
    clock = world.clocks(ticket_id)[kind]
    return (clock.due_at - clock.started_at) / MINUTE


# --- waiting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("no_access", 90), ("customer_asked", 90), ("parts", 60), ("weather", 60), ("other", 60)],
)
def test_R7_only_waiting_for_the_customer_moves_the_due_time(world: World, reason: str, expected: float) -> None:
    ticket_id = hot(world)
    world.forward(minutes=10, every_s=60)
    world.act(ticket_id, "pause", reason=reason)
    world.forward(minutes=30, every_s=60)
    world.act(ticket_id, "resume")
    assert due_minutes(world, ticket_id) == expected
    (waited,) = world.rows(schema.pause)
    assert (waited.actor, waited.to_at - waited.from_at) == ("test", 30 * MINUTE)


def test_R7_a_clock_that_stands_still_warns_nobody_and_is_not_broken(world: World) -> None:
    ticket_id = hot(world)
    world.forward(minutes=10, every_s=60)
    world.act(ticket_id, "pause", reason="no_access")
    world.forward(hours=5, every_s=300)
    clock = world.clocks(ticket_id)["dispatch"]
    assert (clock.warned_at, clock.breached_at, clock.paused_since) == (None, None, clock.started_at + 10 * MINUTE)
    assert world.told("breach") == world.told("breach_warning") == []
    world.act(ticket_id, "resume")
    world.forward(minutes=49, every_s=60)
    assert world.clocks(ticket_id)["dispatch"].breached_at is None
    world.forward(minutes=1, every_s=60)
    clock = world.clocks(ticket_id)["dispatch"]
    assert clock.breached_at == clock.due_at == clock.started_at + 6 * HOUR


def test_R7_what_waits_until_a_moment_goes_on_by_itself_then(world: World) -> None:
    ticket_id = hot(world)
    world.act(ticket_id, "pause", reason="customer_asked", until_at=world.now + 2 * HOUR)
    world.forward(hours=2, minutes=10, every_s=600)
    assert world.ticket("limit").status == "open"
    assert due_minutes(world, ticket_id) == 180
    went_on = world.rows(schema.step)[-1]
    assert (went_on.event, went_on.actor) == ("resume", "desk")


def test_R7_a_service_that_was_away_resumes_at_the_moment_that_was_agreed(world: World) -> None:
    ticket_id = hot(world)
    until = world.now + 2 * HOUR
    world.act(ticket_id, "pause", reason="customer_asked", until_at=until)
    world.restart(away_s=10 * 3600)
    world.tick()
    clock = world.clocks(ticket_id)["dispatch"]
    assert clock.breached_at == clock.due_at == until + HOUR
    assert world.rows(schema.pause)[0].to_at == until


def test_R7_a_pause_recorded_after_the_breach_annuls_it_when_it_began_in_time(world: World) -> None:
    ticket_id = hot(world)
    world.forward(minutes=70, every_s=60)
    broken = world.clocks(ticket_id)["dispatch"]
    assert broken.breached_at is not None
    world.act(ticket_id, "pause", reason="no_access", happened_at=world.now - 40 * MINUTE)
    (amended,) = world.rows(schema.amendment)
    assert (amended.breached_at, amended.met_at) == (broken.due_at, None)
    world.act(ticket_id, "resume")
    clock = world.clocks(ticket_id)["dispatch"]
    assert (clock.breached_at, clock.due_at) == (None, broken.due_at + 40 * MINUTE)
    world.forward(hours=1, every_s=60)
    assert world.clocks(ticket_id)["dispatch"].breached_at == clock.due_at


def test_R9_work_that_waits_for_parts_goes_on_where_it_stood(world: World) -> None:
    ada = world.person("Ada", "technician")
    world.machine().fails_to_start()
    ticket_id = world.ticket("startup_failure").id
    for verb in ("accept", "arrive", "start-repair"):
        world.act(ticket_id, verb, technician_id=ada)
    met = {kind: clock.met_at for kind, clock in world.clocks(ticket_id).items()}
    world.act(ticket_id, "pause", reason="parts", note="starter ordered")
    world.forward(hours=20, every_s=1200)
    world.act(ticket_id, "resume")
    assert world.ticket("startup_failure").status == "repairing"
    assert {kind: clock.met_at for kind, clock in world.clocks(ticket_id).items()} == met


# --- mistakes ------------------------------------------------------------------------------------------------------


def test_R7_an_acceptance_tapped_by_mistake_sets_the_clock_running_towards_its_first_due_time(world: World) -> None:
    ada = world.person("Ada", "technician")
    ticket_id = hot(world)
    first_due = world.clocks(ticket_id)["dispatch"].due_at
    world.forward(minutes=5, every_s=60)
    world.act(ticket_id, "accept", technician_id=ada)
    assert world.clocks(ticket_id)["dispatch"].met_at == world.now
    world.act(ticket_id, "correct", note="wrong ticket")
    clock = world.clocks(ticket_id)["dispatch"]
    assert (clock.met_at, clock.due_at, world.ticket("limit").status) == (None, first_due, "open")
    assert world.ticket("limit").technician_id is None
    accepted, corrected = world.rows(schema.step)[-2:]
    assert (accepted.corrected_by, corrected.event, corrected.note) == (corrected.id, "correct", "wrong ticket")
    world.forward(hours=1, every_s=60)
    assert world.clocks(ticket_id)["dispatch"].breached_at == first_due


def test_R9_a_repair_that_was_begun_by_a_slip_of_the_thumb_is_not_begun(world: World) -> None:
    ada = world.person("Ada", "technician")
    world.machine().fails_to_start()
    ticket_id = world.ticket("startup_failure").id
    world.act(ticket_id, "accept", technician_id=ada)
    world.act(ticket_id, "start-repair")
    world.act(ticket_id, "correct")
    assert world.clocks(ticket_id)["repair_start"].met_at is None
    assert world.clocks(ticket_id)["dispatch"].met_at is not None


def test_R9_who_says_that_it_is_repaired_has_begun_to(world: World) -> None:
    ada = world.person("Ada", "technician")
    world.machine().fails_to_start()
    ticket_id = world.ticket("startup_failure").id
    world.act(ticket_id, "accept", technician_id=ada)
    world.forward(minutes=30, every_s=60)
    world.act(ticket_id, "resolve")
    assert world.clocks(ticket_id)["repair_start"].met_at == world.now


def test_R7_what_was_solved_from_afar_needs_nobody_to_come(world: World) -> None:
    ticket_id = hot(world)
    world.act(ticket_id, "verify", note="air filter door was open; the customer has shut it")
    world.act(ticket_id, "resolve", resolution=Resolution("operation", "solved_remotely", "wear"))
    world.forward(hours=3, every_s=600)
    clock = world.clocks(ticket_id)["dispatch"]
    assert (clock.met_at, clock.breached_at) == (None, None)
    assert clock.voided_at is not None


# --- several tickets -----------------------------------------------------------------------------------------------


def report(world: World, device_id: str = "m1", *, stopped: bool = False, text: str = "It smokes") -> int:
    return world.desk.report(Report(device_id, text, "phone", "Mr Li", stopped), "person:2", world.now)


def test_R7_a_problem_told_on_the_phone_has_the_same_clocks(world: World) -> None:
    world.machine()
    ticket_id = report(world)
    ticket = world.ticket("reported")
    assert (ticket.origin, ticket.reported_by, ticket.severity) == ("phone", "Mr Li", "urgent")
    assert due_minutes(world, ticket_id) == 60
    assert report(world, text="It still smokes") == ticket_id
    assert [row.note for row in world.rows(schema.step, event="report")] == ["It smokes", "It still smokes"]


def test_R9_a_machine_that_somebody_says_has_stopped_is_an_emergency_on_hire_only(world: World) -> None:
    world.machine("m1")
    world.machine("m2", on_hire=False)
    assert set(world.clocks(report(world, "m1", stopped=True))) == {"dispatch", "repair_start"}
    assert world.clocks(report(world, "m2", stopped=True)) == {}
    assert [row.severity for row in world.tickets()] == ["emergency", "urgent"]


def test_R7_a_merged_ticket_promises_nothing_more_and_gives_its_faults_to_the_other(world: World) -> None:
    machine: Machine = world.machine()
    first = report(world)
    machine.goes_hot()
    second = world.ticket("limit").id
    world.act(second, "merge", other_id=first)
    assert all(clock.voided_at for clock in world.clocks(second).values())
    assert {row.ticket_id for row in world.rows(schema.fault)} == {first}
    (link,) = world.rows(schema.ticket_link)
    assert (link.ticket_id, link.other_id, link.kind) == (second, first, "merged")
    with pytest.raises(NotPossible, match=f"merged into {first}"):
        world.act(second, "reopen")


def test_R7_tickets_of_two_machines_are_linked_and_not_merged(world: World) -> None:
    one, other = hot(world, "m1"), hot(world, "m2")
    with pytest.raises(Incomplete, match="another machine; link them instead"):
        world.act(one, "merge", other_id=other)
    world.act(one, "link", other_id=other)
    assert [(row.ticket_id, row.other_id, row.kind) for row in world.rows(schema.ticket_link)] == [
        (one, other, "related")
    ]


def test_R7_a_ticket_that_is_reopened_promises_anew(world: World) -> None:
    ada = world.person("Ada", "technician")
    ticket_id = hot(world)
    for verb in ("accept", "start-repair", "resolve", "close"):
        world.act(ticket_id, verb, technician_id=ada)
    world.forward(hours=20, every_s=3600)
    world.act(ticket_id, "reopen", note="the customer calls: as before")
    clocks = world.rows(schema.commitment)
    assert [(row.turn, row.met_at is None, row.started_at == world.now) for row in clocks] == [
        (0, False, False), (1, True, True),
    ]  # fmt: skip
    assert world.ticket("limit").technician_id is None
    assert world.ticket("limit").outcome is None
    world.forward(hours=1, every_s=60)
    assert world.clocks(ticket_id)["dispatch"].breached_at is not None


def test_R7_a_fault_that_comes_back_soon_is_a_new_promise_and_names_the_earlier_ticket(world: World) -> None:
    machine = world.machine()
    machine.goes_hot()
    first = world.ticket("limit").id
    for verb in ("accept", "start-repair", "resolve", "close"):
        world.act(first, verb, technician_id=1)
    machine.recovers()
    world.forward(hours=30, every_s=3600)
    machine.goes_hot()
    second = world.tickets("limit")[-1].id
    assert second != first
    assert due_minutes(world, second) == 60
    (link,) = world.rows(schema.ticket_link)
    assert (link.ticket_id, link.other_id, link.kind) == (second, first, "returned")
    with pytest.raises(NotPossible, match=f"Ticket {second} is open for this fault"):
        world.act(first, "reopen")


# --- what it was ---------------------------------------------------------------------------------------------------


def test_R7_a_false_alarm_is_cancelled_with_what_was_wrong(world: World) -> None:
    ticket_id = hot(world)
    with pytest.raises(Incomplete, match="'moon' is not among: sensor_wrong"):
        world.act(ticket_id, "cancel", reason="moon")
    world.act(ticket_id, "cancel", reason="sensor_wrong")
    assert world.ticket("limit").outcome == "nuisance"
    assert world.clocks(ticket_id)["dispatch"].voided_at == world.now


def test_E6_a_resolution_says_cause_action_parts_and_who_bears_it(world: World) -> None:
    ticket_id = hot(world)
    world.act(ticket_id, "accept", technician_id=1)
    was = Resolution("cooling", "part_replaced", "customer_damage", ("Radiator hose", "Clamp"), Outcome.WRONG_CAUSE)
    world.act(ticket_id, "resolve", resolution=was)
    row = world.ticket("limit")
    found = (row.resolution_cause, row.resolution_action, row.borne_by, tuple(row.parts), row.outcome)
    assert found == ("cooling", "part_replaced", "customer_damage", ("Radiator hose", "Clamp"), "wrong_cause")
    world.act(ticket_id, "correct")
    assert world.ticket("limit").outcome is None


# --- a changed standard --------------------------------------------------------------------------------------------


def test_R7_a_changed_standard_applies_to_new_tickets_only(world: World) -> None:
    old = hot(world, "m1")
    clauses = tuple(
        msgspec.structs.replace(one, length_s=1800.0) if one.standard_id == "R7" else one
        for one in world.desk.standard.clauses
    )
    changed = msgspec.structs.replace(world.desk.standard, version="2027-1", clauses=clauses)
    world.desk = Desk(world.database, changed, world.desk.profiles, world.desk.addresses)
    world.watch.desk = world.desk
    new = hot(world, "m2")
    assert (due_minutes(world, old), due_minutes(world, new)) == (60, 30)
    assert [row.standard_version for row in world.tickets()] == ["2026-1", "2027-1"]
    world.act(old, "pause", reason="no_access")
    world.forward(minutes=20, every_s=60)
    world.act(old, "resume")
    assert due_minutes(world, old) == 80


def test_K9_every_step_is_traceable_who_what_before_and_after(world: World) -> None:
    ada = world.person("Ada", "technician")
    ticket_id = hot(world)
    world.act(ticket_id, "accept", technician_id=ada)
    world.act(ticket_id, "start-repair")
    told = [(row.actor, row.what, row.before["status"], row.after["status"])
            for row in world.rows(schema.audit, subject=f"ticket:{ticket_id}")]  # fmt: skip
    assert told == [
        ("test", "ticket_accept", "open", "accepted"), ("test", "ticket_start_repair", "accepted", "repairing"),
    ]  # fmt: skip


@pytest.mark.parametrize("verb", ["dispatch", "accept"])
def test_P1_nobody_is_sent_to_a_model_without_a_certificate_that_is_valid(world: World, verb: str) -> None:
    ada, bo = world.person("Ada", "technician"), world.person("Bo", "technician")
    ticket_id = hot(world)
    world.act(ticket_id, verb, technician_id=bo)  # a company that keeps no certificates asks for none
    world.act(ticket_id, "correct")
    with world.database.begin() as connection:
        for person_id, profile, until_at in ((ada, "rig", None), (bo, "rig", world.now), (bo, "crane", None)):
            connection.execute(sa.insert(schema.certificate).values(
                person_id=person_id, profile=profile, since_at=0, until_at=until_at
            ))  # fmt: skip
    with pytest.raises(Incomplete, match=f"person {bo} has no valid certificate for rig"):
        world.act(ticket_id, verb, technician_id=bo)
    world.act(ticket_id, verb, technician_id=ada)
    assert world.ticket("limit").technician_id == ada
