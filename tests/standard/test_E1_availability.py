# ruff: noqa: N802, N999 (the names begin with the row of the standard)
"""E1 (完好率): what counts as good, bad and unknown, for whom, and how early those in charge hear of a month that will
miss its 90 %; in virtual time."""

import pytest

from monitor.store import ledger, schema
from tests.standard.world import HOUR, MINUTE, T0, WELL, World


def spent(world: World, start_at: int, *, hired: bool = False, as_of: int | None = None) -> tuple[float, float, float]:
    """(good, bad, unknown) machine hours from then until now."""
    with world.database.connect() as connection:
        found = ledger.spent(connection, start_at, world.now, world.now if as_of is None else as_of, hired=hired)
    times = found.get(None)
    return tuple(round(one / HOUR, 2) for one in times) if times else (0, 0, 0)  # type: ignore[return-value]


def test_E1_a_machine_is_bad_from_the_fault_until_it_clears_and_good_otherwise(world: World) -> None:
    machine = world.machine()
    machine.talking = WELL
    world.forward(minutes=5, every_s=10)
    machine.goes_hot()
    machine.talking = None
    world.now += MINUTE
    machine.recovers()
    machine.talking = WELL
    world.forward(minutes=5, every_s=10)
    good, bad, unknown = spent(world, T0)
    assert bad == pytest.approx(1 / 60, abs=0.01)
    assert unknown == pytest.approx(0, abs=0.01)
    assert good + bad + unknown == pytest.approx((world.now - T0) / HOUR, abs=0.02)


def test_E1_a_broken_machine_in_the_yard_counts_in_the_fleet_and_not_on_hire(world: World) -> None:
    world.machine("m1").says()
    world.machine("m2", on_hire=False).goes_hot()
    began = world.now
    world.forward(hours=5, every_s=900)
    assert spent(world, began)[1] == pytest.approx(5, abs=0.05)
    assert spent(world, began, hired=True)[1] == 0


def test_E1_silence_is_neither_good_nor_bad_and_readings_that_come_after_all_amend_it(world: World) -> None:
    machine = world.machine()
    machine.talking = WELL
    world.forward(minutes=10)
    machine.talking = None
    left_at = world.now
    world.forward(minutes=1)
    world.forward(minutes=29, every_s=60)
    _, bad, unknown = spent(world, left_at)
    assert (bad, unknown) == (0, pytest.approx(0.5, abs=0.02))
    asked_at = world.now
    machine.send(*(machine.reading(WELL, at=left_at + minute * MINUTE) for minute in range(1, 30)))
    world.forward(seconds=10)
    assert spent(world, left_at)[2] == pytest.approx(0, abs=0.07)
    with world.database.connect() as connection:
        before = ledger.spent(connection, left_at, asked_at, asked_at)[None]
    assert before.unknown / HOUR == pytest.approx(0.5, abs=0.02), "what was said then can still be asked for"


def test_E1_declared_maintenance_hides_no_broken_machine_on_hire(world: World) -> None:
    machine = world.machine()
    machine.goes_hot()
    began = world.now
    with world.database.begin() as connection:
        connection.execute(schema.maintenance_window.insert().values(
            device_id="m1", what="maintenance", starts_at=began, ends_at=began + 4 * HOUR, declared_by="test",
            declared_at=began,
        ))  # fmt: skip
    world.forward(hours=2, every_s=600)
    assert spent(world, began, hired=True)[1] == pytest.approx(2, abs=0.05)
    with world.database.connect() as connection:
        places = {row.place for row in ledger.intervals(connection, "m1", began + MINUTE, world.now, world.now, 9)}
    assert places == {"maintenance"}


def test_E1_those_in_charge_hear_once_and_in_time_that_a_month_will_miss_its_target(world: World) -> None:
    for name in ("m1", "m2", "m3"):
        world.machine(name).says()
    world.machines["m1"].goes_hot()
    world.forward(hours=2, every_s=3600)
    assert world.told("availability_at_risk") == []
    world.forward(hours=72, every_s=3600)
    (told,) = {letter["subject"] for letter in world.letters("availability_at_risk") if "fleet" in letter["subject"]}
    assert "90%" in told
    assert world.told("availability_at_risk").count(("availability_at_risk", "mei@example.com")) == 2
    world.restart()
    world.forward(hours=30, every_s=3600)
    assert len(world.told("availability_at_risk")) == 4, "the fleet and the machines on hire, to two people, once"
