"""R7, R8, R9: the service standard's clocks on faults, walked through in virtual time."""

# ruff: noqa: N802 (the names begin with the row of the standard)
import random

import pytest

from monitor.store import schema
from tests.standard.world import HOUR, MINUTE, WELL, World


def at_risk(world: World, *, on_hire: bool = True, site: str | None = None) -> int:
    """The ticket of a machine that goes beyond a limit now: urgent."""
    world.machine(on_hire=on_hire, site=site).goes_hot()
    ticket_id: int = world.ticket("limit").id
    return ticket_id


def dead(world: World, *, on_hire: bool = True, site: str | None = None) -> int:
    """The ticket of a machine that did not start: an emergency on hire."""
    world.machine(on_hire=on_hire, site=site).fails_to_start()
    ticket_id: int = world.ticket("startup_failure").id
    return ticket_id


def due(world: World, ticket_id: int) -> dict[tuple[str, str], float]:
    """When each clock of a ticket is due, in hours after its opening."""
    opened_at = world.rows(schema.ticket, id=ticket_id)[0].opened_at
    return {(c.standard_id, c.kind): (c.due_at - opened_at) / HOUR for c in world.clocks(ticket_id).values()}


# --- which clocks there are ----------------------------------------------------------------------------------------


def test_R7_a_technician_is_due_within_an_hour(world: World) -> None:
    assert due(world, at_risk(world)) == {("R7", "dispatch"): 1}


def test_R8_at_a_remote_site_a_diagnosis_is_due_within_an_hour_and_the_visit_within_four(world: World) -> None:
    ticket_id = at_risk(world, site=world.site("Quarry", remote=True))
    assert due(world, ticket_id) == {("R8", "remote_diagnosis"): 1, ("R8", "dispatch"): 4}


def test_R7_a_step_that_happened_in_time_annuls_the_breach_recorded_before_it(world: World) -> None:
    ada = world.person("Ada", "technician")
    ticket_id = at_risk(world)
    in_time = world.now + 50 * MINUTE
    world.forward(minutes=90, every_s=60)
    assert world.clocks(ticket_id)["dispatch"].breached_at is not None
    world.act(ticket_id, "accept", technician_id=ada, happened_at=in_time)
    clock = world.clocks(ticket_id)["dispatch"]
    assert (clock.met_at, clock.breached_at) == (in_time, None)
    (amended,) = world.rows(schema.amendment)
    assert (amended.kind, amended.breached_at, amended.met_at) == ("dispatch", clock.due_at, in_time)
    world.forward(hours=2, every_s=600)
    assert world.clocks(ticket_id)["dispatch"].breached_at is None


def test_R7_a_step_that_happened_too_late_annuls_nothing(world: World) -> None:
    ada = world.person("Ada", "technician")
    ticket_id = at_risk(world)
    late = world.now + 61 * MINUTE
    world.forward(minutes=90, every_s=60)
    world.act(ticket_id, "accept", technician_id=ada, happened_at=late)
    clock = world.clocks(ticket_id)["dispatch"]
    assert (clock.met_at, clock.breached_at) == (late, clock.due_at)
    assert world.rows(schema.amendment) == []


def test_R8_the_diagnosis_is_given_when_a_person_has_written_one(world: World) -> None:
    ticket_id = at_risk(world, site=world.site("Quarry", remote=True))
    world.forward(minutes=20)
    written_at = world.now
    world.act(ticket_id, "verify", note="Coolant lost, hose at the pump; bring hose 32 mm and 10 l")
    clocks = world.clocks(ticket_id)
    assert clocks["remote_diagnosis"].met_at == written_at
    assert clocks["dispatch"].met_at is None


def test_R9_a_machine_that_does_not_start_is_under_repair_within_four_hours(world: World) -> None:
    assert due(world, dead(world)) == {("R7", "dispatch"): 1, ("R9", "repair_start"): 4}


def test_R9_goes_beside_R8_at_a_remote_site(world: World) -> None:
    ticket_id = dead(world, site=world.site("Quarry", remote=True))
    assert due(world, ticket_id) == {
        ("R8", "remote_diagnosis"): 1, ("R8", "dispatch"): 4, ("R9", "repair_start"): 4,
    }  # fmt: skip


@pytest.mark.parametrize("fault", [at_risk, dead])
def test_R7_R9_nothing_is_promised_for_a_machine_in_the_yard(world: World, fault) -> None:
    assert due(world, fault(world, on_hire=False)) == {}


def test_R7_a_routine_ticket_carries_no_clock(world: World) -> None:
    machine = world.machine()
    machine.says()
    world.forward(minutes=2)
    assert world.clocks(world.ticket("silent").id) == {}
    assert world.told() == []


# --- what they run into --------------------------------------------------------------------------------------------


def test_R7_one_warning_15_minutes_before_and_one_breach_when_due(world: World) -> None:
    ticket_id = at_risk(world)
    opened_at = world.now
    world.forward(minutes=44.5, every_s=30)
    assert world.clocks(ticket_id)["dispatch"].warned_at is None
    world.forward(minutes=1, every_s=30)
    assert world.clocks(ticket_id)["dispatch"].warned_at == opened_at + 45 * MINUTE
    assert world.told("breach_warning") == [
        ("breach_warning", "olga@example.com"), ("breach_warning", "tian@example.com"),
    ]  # fmt: skip
    world.forward(minutes=14, every_s=30)
    assert world.clocks(ticket_id)["dispatch"].breached_at is None
    world.forward(hours=3, every_s=60)
    assert world.clocks(ticket_id)["dispatch"].breached_at == opened_at + HOUR
    assert len(world.told("breach_warning")) == 2
    assert world.told("breach") == [("breach", "mei@example.com"), ("breach", "olga@example.com")]


@pytest.mark.parametrize("odd", range(5))
def test_R7_R9_ticks_at_odd_moments_and_restarts_find_the_same(world: World, odd: int) -> None:
    ticket_id = dead(world)
    opened_at = world.ticket("startup_failure").opened_at
    rng = random.Random(odd)
    while world.now < opened_at + 5 * HOUR:
        world.now += rng.choice([1, 999, 60_000, 420_001, 1_700_000])
        if rng.random() < 0.3:
            world.restart()
        world.tick()
    clocks = world.clocks(ticket_id)
    assert (clocks["dispatch"].warned_at, clocks["dispatch"].breached_at) == (
        opened_at + 45 * MINUTE, opened_at + HOUR,
    )  # fmt: skip
    assert (clocks["repair_start"].warned_at, clocks["repair_start"].breached_at) == (
        opened_at + 225 * MINUTE, opened_at + 4 * HOUR,
    )  # fmt: skip
    assert world.told("breach") == sorted(2 * [("breach", "mei@example.com"), ("breach", "olga@example.com")])


def test_R7_a_service_that_was_away_stamps_the_breach_when_it_was_due(world: World) -> None:
    ticket_id = at_risk(world)
    opened_at = world.now
    world.restart(away_s=6 * 3600)
    world.tick()
    clock = world.clocks(ticket_id)["dispatch"]
    assert (clock.warned_at, clock.breached_at) == (opened_at + 45 * MINUTE, opened_at + HOUR)
    assert world.told("breach_warning") == []  # "15 minutes left" is not true any more
    assert len(world.told("breach")) == 2


# --- what stops them -----------------------------------------------------------------------------------------------


def test_R7_is_met_when_a_technician_accepts(world: World) -> None:
    ticket_id = at_risk(world)
    world.forward(minutes=20, every_s=60)
    world.act(ticket_id, "dispatch", technician_id=1)
    assert world.clocks(ticket_id)["dispatch"].met_at is None
    world.forward(minutes=5, every_s=60)
    world.act(ticket_id, "accept")
    accepted_at = world.now
    world.forward(hours=2, every_s=60)
    clock = world.clocks(ticket_id)["dispatch"]
    assert (clock.met_at, clock.warned_at, clock.breached_at) == (accepted_at, None, None)


def test_R7_runs_again_towards_its_first_due_time_when_the_technician_declines(world: World) -> None:
    ticket_id = at_risk(world)
    opened_at = world.now
    world.forward(minutes=10, every_s=60)
    world.act(ticket_id, "accept", technician_id=1)
    world.forward(minutes=10, every_s=60)
    world.act(ticket_id, "decline")
    world.forward(minutes=50, every_s=60)
    clock = world.clocks(ticket_id)["dispatch"]
    assert (clock.due_at, clock.met_at) == (opened_at + HOUR, None)
    assert (clock.warned_at, clock.breached_at) == (opened_at + 45 * MINUTE, opened_at + HOUR)


def test_R7_is_breached_at_once_when_the_technician_declines_after_the_due_time(world: World) -> None:
    ticket_id = at_risk(world)
    opened_at = world.now
    world.act(ticket_id, "accept", technician_id=1)
    world.forward(minutes=90, every_s=60)
    world.act(ticket_id, "decline")
    world.forward(seconds=5)
    assert world.clocks(ticket_id)["dispatch"].breached_at == opened_at + HOUR


def test_R7_met_late_stays_breached(world: World) -> None:
    ticket_id = at_risk(world)
    opened_at = world.now
    world.forward(minutes=70, every_s=60)
    world.act(ticket_id, "accept", technician_id=1)
    clock = world.clocks(ticket_id)["dispatch"]
    assert (clock.breached_at, clock.met_at) == (opened_at + HOUR, opened_at + 70 * MINUTE)


@pytest.mark.parametrize("verb", ["accept", "cancel"])
def test_R7_is_breached_even_where_the_step_comes_before_the_tick(world: World, verb: str) -> None:
    ticket_id = at_risk(world)
    opened_at = world.now
    world.forward(minutes=40, every_s=60)
    world.restart(away_s=30 * 60)
    world.act(ticket_id, verb, **({"technician_id": 1} if verb == "accept" else {}))
    world.forward(seconds=5)
    assert world.clocks(ticket_id)["dispatch"].breached_at == opened_at + HOUR
    assert len(world.told("breach")) == 2


def test_R7_a_step_that_happened_in_time_is_no_breach_however_late_it_is_recorded(world: World) -> None:
    ticket_id = at_risk(world)
    opened_at = world.now
    world.restart(away_s=70 * 60)
    world.act(ticket_id, "accept", technician_id=1, happened_at=opened_at + 50 * MINUTE)
    world.forward(seconds=5)
    clock = world.clocks(ticket_id)["dispatch"]
    assert (clock.met_at, clock.breached_at) == (opened_at + 50 * MINUTE, None)
    assert world.told("breach") == []
    assert world.told("breach_warning") == []


def test_R9_is_met_when_the_repair_begins_and_not_before(world: World) -> None:
    ticket_id = dead(world)
    world.act(ticket_id, "accept", technician_id=1)
    world.forward(hours=1, every_s=300)
    world.act(ticket_id, "arrive")
    assert world.clocks(ticket_id)["repair_start"].met_at is None
    world.act(ticket_id, "start-repair")
    assert world.clocks(ticket_id)["repair_start"].met_at == world.now


def test_R7_a_fault_that_clears_by_itself_stops_no_clock(world: World) -> None:
    ticket_id = at_risk(world)
    world.machines["m1"].recovers()
    assert world.ticket("limit").cleared_at is not None
    world.forward(minutes=70, every_s=60)
    assert world.clocks(ticket_id)["dispatch"].breached_at is not None


@pytest.mark.parametrize("verb", ["close", "cancel"])
def test_R7_R9_the_end_of_a_ticket_voids_what_still_runs(world: World, verb: str) -> None:
    ticket_id = dead(world)
    opened_at = world.ticket("startup_failure").opened_at
    world.forward(minutes=65, every_s=60)
    machine = world.machines["m1"]
    machine.says(WELL)  # it runs after all, so a person may close
    world.act(ticket_id, verb)
    ended_at = world.now
    world.forward(hours=5, every_s=300)
    clocks = world.clocks(ticket_id)
    assert (clocks["dispatch"].breached_at, clocks["dispatch"].voided_at) == (opened_at + HOUR, None)
    repair = clocks["repair_start"]
    assert (repair.voided_at, repair.warned_at, repair.breached_at) == (ended_at, None, None)


def test_R7_a_recurrence_joins_its_ticket_and_starts_no_new_clock(world: World) -> None:
    ticket_id = at_risk(world)
    before = world.clocks(ticket_id)
    world.machines["m1"].recovers()
    world.forward(minutes=5)
    world.machines["m1"].goes_hot()
    assert world.ticket("limit").recurrences == 1
    assert world.clocks(ticket_id) == before
