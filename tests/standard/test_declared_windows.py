# ruff: noqa: N802 (the names begin with the row of the standard)
"""R7 to R9, E1: what is declared beforehand calls nobody, and what still stands afterwards does; what matters on hire
matters less in the yard."""

import pytest

from monitor.store import schema
from monitor.store.queries import Scope, devices
from monitor.store.windows import Window, Windows
from tests.office import finding
from tests.standard.world import HOT, MINUTE, WELL, World


def declare(
    world: World, minutes: int = 6, *, device_id: str | None = "m1", site_id: int | None = None,
    what: str = "maintenance", in_minutes: int = 0,
) -> int:  # fmt: skip
    """A window of so many minutes, from now on or from later."""
    starts_at = world.now + in_minutes * MINUTE
    window = Window(what, starts_at, starts_at + minutes * MINUTE, "", device_id, site_id)
    return Windows(world.database, "test").declare(window, world.now)


@pytest.mark.parametrize("what", ["maintenance", "transport"])
def test_R7_a_fault_during_declared_maintenance_is_noted_and_calls_nobody(world: World, what: str) -> None:
    machine = world.machine()
    machine.says()
    window_id = declare(world, what=what)
    machine.talking = HOT
    world.forward(minutes=5, every_s=10)
    (fault,) = world.faults("limit")
    assert (fault.severity, fault.held_severity, fault.ticket_id) == ("note", "urgent", None)
    assert (world.tickets(), world.told()) == ([], [])
    world.forward(minutes=2, every_s=10)
    ticket = world.ticket("limit")
    ends_at = world.rows(schema.maintenance_window, id=window_id)[0].ends_at
    assert ends_at <= ticket.opened_at <= ends_at + 10_000
    clock = world.clocks(ticket.id)["dispatch"]
    assert (clock.started_at, clock.due_at) == (ticket.opened_at, ticket.opened_at + 60 * MINUTE)
    assert ticket.occurred_at < ends_at - 5 * MINUTE
    assert {kind for kind, _ in world.told()} == {"dispatch_alert", "fault_noticed"}


def test_R7_a_fault_that_is_gone_when_the_maintenance_ends_calls_nobody(world: World) -> None:
    machine = world.machine()
    declare(world)
    machine.goes_hot()
    world.forward(minutes=1, every_s=10)
    machine.recovers()
    machine.talking = WELL
    world.forward(minutes=10, every_s=10)
    assert (world.tickets(), world.told()) == ([], [])
    assert world.faults("limit")[0].cleared_at is not None


@pytest.mark.parametrize("how", ["end_now", "cancel"])
def test_R9_maintenance_that_ends_early_is_followed_at_once(world: World, how: str) -> None:
    machine = world.machine()
    window_id = declare(world, minutes=600)
    machine.fails_to_start()
    world.forward(minutes=10, every_s=60)
    machine.says({}, state="off")
    assert world.tickets("startup_failure") == []
    getattr(Windows(world.database, "test"), how)(window_id, world.now)
    ended_at = world.now
    world.forward(seconds=1, every_s=1)
    ticket = world.ticket("startup_failure")
    assert (ticket.severity, ticket.opened_at) == ("emergency", ended_at + 1_000)
    assert world.clocks(ticket.id)["repair_start"].started_at == ticket.opened_at


def test_R7_maintenance_that_goes_on_under_another_window_goes_on(world: World) -> None:
    machine = world.machine()
    declare(world, minutes=3)
    machine.talking = HOT
    world.forward(minutes=2, every_s=10)
    declare(world, minutes=6)
    world.forward(minutes=5, every_s=10)
    assert (world.tickets(), world.told()) == ([], [])
    # It waits for the end of the other one, and is not asked about with every tick until then.
    assert world.faults("limit")[0].held_until > world.now
    world.forward(minutes=2, every_s=10)
    assert world.ticket("limit").status == "open"


def test_R7_a_restart_within_the_maintenance_changes_nothing(world: World) -> None:
    machine = world.machine()
    declare(world)
    machine.talking = HOT
    world.forward(minutes=2, every_s=10)
    world.restart(away_s=5)
    world.forward(minutes=3, every_s=10)
    assert world.tickets() == []
    world.forward(minutes=2, every_s=10)
    assert world.ticket("limit").severity == "urgent"
    assert len(world.told("dispatch_alert")) == 1


def test_R7_a_window_counts_within_its_time_and_for_its_machine(world: World) -> None:
    for device_id in ("m1", "m2", "m3"):
        world.machine(device_id).says()
    declare(world, in_minutes=30)
    declare(world, device_id="m2")
    for machine in world.machines.values():
        machine.goes_hot()
    assert {ticket.device_id for ticket in world.tickets("limit")} == {"m1", "m3"}


def test_R7_a_weak_sign_in_maintenance_has_to_last_all_the_same(world: World) -> None:
    """A sign that would be held for a while anyhow is no surer because a window ended."""
    world.machine().talking = WELL
    declare(world, minutes=2)
    world.forward(minutes=1, every_s=10)
    with world.database.begin() as connection:
        sign = finding("sensor", "temp_c", at=world.now, device="m1", confidence=0.5)
        world.desk.record(connection, [sign], world.now)
    world.forward(minutes=14, every_s=20)
    assert world.tickets() == []
    world.forward(minutes=3, every_s=10)
    assert world.ticket("sensor").severity == "routine"


def test_R7_a_whole_site_in_maintenance_is_no_outage(world: World) -> None:
    site = world.site("Tunnel North", remote=False)
    for n in range(4):
        world.machine(f"m{n}", site=site).says()
    declare(world, minutes=4, device_id=None, site_id=1)
    world.forward(seconds=230, every_s=2)
    assert len(world.faults("silent")) == 4
    assert world.tickets() == []
    world.forward(seconds=20, every_s=2)
    (ticket,) = world.tickets("silent")
    assert (ticket.device_id, ticket.site_id) == (None, 1)


def test_R7_machines_on_the_road_make_no_outage_of_the_one_that_stays(world: World) -> None:
    site = world.site("Tunnel North", remote=False)
    for n in range(4):
        world.machine(f"m{n}", site=site).says()
    for n in range(3):
        declare(world, minutes=60, device_id=f"m{n}", what="transport")
    world.forward(minutes=12, every_s=5)
    assert len(world.faults("silent")) == 4
    assert [ticket.device_id for ticket in world.tickets()] == ["m3"]


def test_R9_what_is_an_emergency_on_hire_is_urgent_in_the_yard_and_promises_nothing(world: World) -> None:
    world.machine("hired").fails_to_start()
    world.machine("m1", on_hire=False).fails_to_start()
    hired, yard = world.tickets("startup_failure")
    assert (hired.severity, yard.severity) == ("emergency", "urgent")
    assert set(world.clocks(hired.id)) >= {"dispatch", "repair_start"}
    assert world.clocks(yard.id) == {}


def test_E1_a_machine_that_does_not_start_is_bad_in_the_yard_and_not_in_maintenance(world: World) -> None:
    for device_id in ("m1", "m2"):
        world.machine(device_id, on_hire=False)
    declare(world)
    for machine in world.machines.values():
        machine.fails_to_start()
    for machine in world.machines.values():
        machine.says({}, state="off")
    with world.database.connect() as connection:
        found = {row.device_id: row.condition for row in devices(connection, Scope(world.now), limit=9)}
    assert found == {"m1": "good", "m2": "bad"}
