# ruff: noqa: N802 (the names begin with the row of the standard)
"""R7, R9: one trouble is one ticket, one promise and one alert, from what the machine says to who hears of it."""

import pytest

from monitor.detect import Finding
from monitor.devices import FaultKind
from monitor.store import queries, schema
from tests.standard.world import MINUTE, Machine, World

RUNNING = {
    "coolant_temp_c": 82.0, "oil_pressure_bar": 4.0, "engine_speed_rpm": 1500.0, "battery_voltage_v": 14.1,
    "fuel_level_pct": 60.0, "vibration_mm_s": 2.6, "load_pct": 50.0, "output_voltage_v": 400.0,
    "output_frequency_hz": 50.0, "winding_temp_c": 63.0,
}  # fmt: skip
STANDING = RUNNING | {
    "oil_pressure_bar": 0.0, "engine_speed_rpm": 0.0, "battery_voltage_v": 12.7, "vibration_mm_s": 0.0, "load_pct": 0.0,
    "output_voltage_v": 0.0, "output_frequency_hz": 0.0,
}  # fmt: skip
EMPTY = {"battery_voltage_v": 9.2}
BATTERY_CODE = {"code": "SPN168-FMI1", "spn": 168, "fmi": 1, "text": "Battery potential low", "lamp": "amber"}


def genset(world: World, device_id: str = "GX-1", site: str | None = None) -> Machine:
    return world.machine(device_id, "diesel_generator", site=site)


def hangs(machine: Machine, seconds: int = 105) -> None:
    """It stands with a battery that is too weak, until that has lasted beyond its hold."""
    for _ in range(seconds // 5):
        machine.world.forward(seconds=5)
        machine.says(STANDING | EMPTY, state="off")


def complains(machine: Machine) -> None:
    machine.event("fault_set", **BATTERY_CODE)


def fails(machine: Machine) -> None:
    machine.event("start_failed")


@pytest.mark.parametrize("order", [(fails, complains, hangs), (hangs, complains, fails), (complains, fails, hangs)])
def test_R9_a_start_that_fails_for_a_dead_battery_is_one_ticket(world: World, order) -> None:
    machine = genset(world)
    machine.says(STANDING, state="off")
    machine.event("start_requested")
    machine.says(STANDING | {"battery_voltage_v": 7.1}, state="cranking")
    for happens in order:
        happens(machine)
    assert len(world.faults("startup_failure") + world.faults("fault_code") + world.faults("limit")) == 3
    (ticket,) = world.tickets()
    assert (ticket.kind, ticket.severity) == ("startup_failure", "emergency")
    assert set(world.clocks(ticket.id)) == {"dispatch", "repair_start"}
    assert {row.ticket_id for row in world.rows(schema.fault)} == {ticket.id}


def test_R7_the_code_that_comes_seconds_before_its_cause_pages_nobody_by_itself(world: World) -> None:
    machine = genset(world)
    machine.says(STANDING, state="off")
    machine.event("start_requested")
    complains(machine)
    world.forward(seconds=10)
    fails(machine)
    world.forward(minutes=1)
    assert len(world.told("dispatch_alert")) == 1
    assert len(world.told("fault_noticed")) == 1
    (sent,) = [row for row in world.rows(schema.notice, kind="dispatch_alert") if row.status == "sent"]
    assert sent.subject.startswith("Emergency")


def test_R7_a_code_that_stands_alone_is_alerted_a_quarter_of_a_minute_later(world: World) -> None:
    complains(genset(world))
    world.forward(seconds=10)
    assert world.told() == []
    world.forward(seconds=10)
    assert [kind for kind, _ in world.told()] == ["dispatch_alert", "fault_noticed"]


def test_R7_an_engine_that_stands_raises_no_alarm_for_what_only_a_running_one_has(world: World) -> None:
    machine = genset(world)
    for _ in range(2):
        for values, state in ((RUNNING, "running"), (STANDING, "off")):
            for _ in range(90):
                world.now += 10_000
                # Whatever is alive moves a little.
                wobble = (world.now // 10_000 * 7919) % 13 / 1000
                machine.says({name: value * (1 + wobble) for name, value in values.items()}, state=state)
            world.forward(seconds=1)
    assert world.tickets() == []


def test_E1_a_dead_gateway_is_one_ticket_of_its_site_over_a_restart(world: World) -> None:
    site = world.site("Quarry", remote=True)
    machines = [genset(world, f"GX-{n}", site) for n in range(4)]
    for machine in machines:
        machine.says(STANDING, state="off")
    world.forward(seconds=20, every_s=1)
    machines[3].says(STANDING, state="off")
    world.forward(seconds=15, every_s=1)
    world.restart()
    world.forward(minutes=1, every_s=1)
    (ticket,) = world.tickets()
    assert (ticket.kind, ticket.device_id, ticket.severity) == ("silent", None, "routine")
    assert [row.ticket_id for row in world.faults("silent")] == [ticket.id] * 4
    for machine in machines:
        machine.says(STANDING, state="off")
    assert world.ticket("silent").cleared_at == world.now


def test_E1_a_weak_sign_does_not_make_its_machine_bad_until_it_has_lasted(world: World) -> None:
    """What is held counts for nothing in availability; once it has proved itself it counts from its beginning."""
    genset(world).says(RUNNING)
    found = Finding("GX-1", FaultKind.ANOMALY, "vibration_mm_s", True, world.now, "test/1", confidence=0.6)
    with world.database.begin() as connection:
        world.desk.record(connection, [found], world.now)

    def condition() -> str:
        with world.database.connect() as connection:
            return str(queries.device_row(connection, queries.Scope(world.now), "GX-1").condition)

    assert condition() == "good"
    machine = world.machines["GX-1"]
    for _ in range(31):
        world.now += MINUTE
        machine.says(RUNNING)
        world.tick()
    assert condition() == "bad"
    assert world.ticket("anomaly").severity == "urgent"
