# ruff: noqa: N802, N999 (names begin with the row of the standard)
"""E6: damaged machines are analysed statistically for causes. Everything is counted from what the desk recorded."""

import pytest
import sqlalchemy as sa

from monitor.desk.tickets import Outcome, Resolution
from monitor.fleet.reliability import Reliability, reliability, shipped_policy
from monitor.store import reliability as store
from monitor.store import schema
from monitor.store.profiles import load_profiles
from monitor.store.reliability import By, Period
from tests.standard.world import DAY, HOUR, T0, World

WEAR, NUISANCE = (
    Resolution("cooling", "repaired", "wear"),
    Resolution("other", "repaired", "wear", (), Outcome.NUISANCE),
)


def analysed(world: World, by: By = By.PROFILE, *, start: int = T0, end: int | None = None) -> Reliability:
    period = Period(start, world.now if end is None else end, world.now)
    policy = shipped_policy()
    with world.database.connect() as connection:
        facts = store.load(connection, period, by, policy, load_profiles(world.home / "profiles"))
    return reliability(facts, policy, world.now)


def fails(world: World, device_id: str, resolution: Resolution = WEAR) -> int:
    """A machine runs hot, a technician accepts after an hour, begins after three, and is done after five."""
    machine = world.known(device_id)
    began = world.now
    machine.goes_hot()
    ticket_id: int = world.tickets("limit")[-1].id
    (tian,) = [row.id for row in world.rows(schema.person) if row.name == "Tian"]
    for hours, verb, how in ((1, "accept", {"technician_id": tian}), (3, "start-repair", {}),
                             (5, "resolve", {"resolution": resolution})):  # fmt: skip
        world.now = began + hours * HOUR
        world.act(ticket_id, verb, **how)
    machine.recovers()
    world.act(ticket_id, "close")
    return ticket_id


@pytest.fixture
def fleet(world: World) -> World:
    """Three machines, each failing every ten days of the first twenty; the world then waits for forty days more."""
    world.site("Yard", remote=False)
    for n in range(3):
        world.machine(f"m{n}", site="Yard" if n else None, on_hire=n != 2)
    for day in (1, 11):
        for n in range(3):
            world.now = T0 + day * DAY + n * 6 * HOUR
            fails(world, f"m{n}")
    world.now = T0 + 60 * DAY
    return world


def test_E6_every_failure_is_counted_and_timed(fleet: World) -> None:
    """Six failures in three times 60 days; accepted after one hour, repaired in two, gone after five."""
    found = analysed(fleet).whole
    assert (found.calendar.failures, found.calendar.machines) == (6, 3)
    assert found.calendar.hours == 3 * 60 * 24
    assert found.calendar.mtbf_h == 720.0
    assert (found.dispatch.count, found.dispatch.median_h, found.dispatch.p90_h) == (6, 1.0, 1.0)
    assert (found.repair.count, found.repair.mean_h) == (6, 2.0)
    assert (found.restore.count, found.restore.mean_h) == (6, 5.0)


def test_E6_a_fault_that_comes_back_within_thirty_days_is_a_repeat(fleet: World) -> None:
    """Each machine's first repair lasted ten days, its second one until today."""
    found = analysed(fleet).whole.repeats
    assert (found.repairs, found.repeated.count, found.repeated.share, found.pending) == (6, 3, 0.5, 0)
    # Asked earlier, the second repairs were too young to say, and of three nothing is concluded.
    early = T0 + 33 * DAY
    with fleet.database.connect() as connection:
        facts = store.load(connection, Period(T0, early, early), By.PROFILE, shipped_policy(), {})
    young = reliability(facts, shipped_policy(), early).whole.repeats
    assert (young.repairs, young.repeated.count, young.pending, young.enough) == (3, 3, 3, False)


def test_E6_a_ticket_that_is_opened_again_was_not_repaired(world: World) -> None:
    world.machine()
    ticket_id = fails(world, "m1")
    world.now += 2 * HOUR
    world.act(ticket_id, "reopen")
    world.now += 40 * DAY
    found = analysed(world).whole
    assert (found.calendar.failures, found.repeats.repairs, found.repeats.repeated.count) == (1, 1, 1)
    # The repair belongs to the hour in which it was done, though the ticket was opened before and is open again.
    hour = analysed(world, start=T0 + 4 * HOUR, end=T0 + 6 * HOUR).whole
    assert (hour.calendar.failures, hour.repeats.repairs) == (0, 1)


def test_E6_false_alarms_and_cancelled_tickets_are_no_failures(fleet: World) -> None:
    fails(fleet, "m0", NUISANCE)
    fleet.known("m1").goes_hot()
    fleet.act(fleet.tickets("limit")[-1].id, "cancel")
    fleet.now += HOUR
    with fleet.database.begin() as connection:
        for status, merged_into, severity in (("cancelled", None, "urgent"), ("resolved", 1, "urgent"),
                                              ("open", None, "routine")):  # fmt: skip
            connection.execute(
                sa.insert(schema.ticket).values(
                    device_id="m0", kind="trend", severity=severity, status=status, merged_into=merged_into,
                    opened_at=fleet.now - 1, occurred_at=T0, evidence={}, standard_version="test",
                )
            )  # fmt: skip
    assert analysed(fleet).whole.calendar.failures == 6


def test_E6_three_cases_are_no_law(fleet: World) -> None:
    """The first ten days have three failures: their number and how far it may reach, and no figure."""
    found = analysed(fleet, end=T0 + 10 * DAY)
    assert (found.whole.calendar.failures, found.whole.calendar.mtbf_h) == (3, None)
    assert found.whole.calendar.lower_h == pytest.approx(3 * 240 / 8.767, rel=1e-3)
    assert (found.whole.repair.count, found.whole.repair.mean_h) == (3, None)
    assert [one.enough for one in found.paretos] == [False, False, False]


def test_E6_failures_are_told_by_model_component_and_cause(fleet: World) -> None:
    fails(fleet, "m0", Resolution("other", "repaired", "wear"))
    model, component, cause = analysed(fleet).paretos
    assert [(line.name, line.count) for line in model.lines] == [("rig", 7)]
    assert [(line.name, line.count) for line in component.lines] == [("temp_c", 7)]
    assert [(line.name, line.count, round(line.cumulative, 3)) for line in cause.lines] == [
        ("cooling", 6, 0.857), ("other", 1, 1.0),
    ]  # fmt: skip


def test_E6_each_group_has_its_own_failures_and_its_own_time(fleet: World) -> None:
    """m0 stands nowhere known, m1 and m2 in the yard; m2 is on nobody's hire, the others are Metro's."""
    for by, expected in (
        (By.SITE, {"1": (4, 2 * 1440.0), "none": (2, 1440.0)}),
        (By.CUSTOMER, {"1": (4, 2 * 1440.0), "none": (2, 1440.0)}),
        (By.PROFILE, {"rig": (6, 3 * 1440.0)}),
    ):
        groups = {one.group: (one.calendar.failures, one.calendar.hours) for one in analysed(fleet, by).groups}
        assert groups == expected, by


def test_E6_a_machine_that_moved_counts_where_it_stood(fleet: World) -> None:
    fleet.registry.move_device("m0", 1, T0 + 30 * DAY, fleet.now)
    groups = {one.group: (one.calendar.failures, one.calendar.hours) for one in analysed(fleet, By.SITE).groups}
    assert groups == {"1": (4, 2.5 * 1440), "none": (2, 0.5 * 1440)}


def test_E6_hours_of_the_meter_are_a_basis_of_their_own(fleet: World) -> None:
    """m0 ran 300 hours between its readings of day 5 and day 50, one of its two failures lies between them; a reading
    in doubt counts for nothing, and a single one tells no hours."""
    readings = [("m0", 5, 100.0, ""), ("m0", 30, 9000.0, "fast"), ("m0", 50, 400.0, ""), ("m1", 9, 50.0, "")]
    with fleet.database.begin() as connection:
        for device_id, day, hours, doubt in readings:
            connection.execute(
                sa.insert(schema.meter_reading).values(
                    device_id=device_id, at=T0 + day * DAY, hours=hours, total_h=hours, source="manual", doubt=doubt,
                    actor="test", recorded_at=fleet.now,
                )
            )  # fmt: skip
    for found in (analysed(fleet).whole.metered, analysed(fleet).groups[0].metered):
        assert (found.machines, found.hours, found.failures, found.mtbf_h) == (1, 300.0, 1, None)
    # Of five failures in those hours it is told.
    for day in (20, 25, 30, 35):
        fleet.now = max(fleet.now, T0 + 61 * DAY)
        with fleet.database.begin() as connection:
            connection.execute(
                sa.insert(schema.ticket).values(
                    device_id="m0", kind="limit", subject=f"s{day}", severity="urgent", status="closed",
                    opened_at=T0 + day * DAY, occurred_at=T0, evidence={"spn": 10**30}, standard_version="test",
                )
            )  # fmt: skip
    assert analysed(fleet).whole.metered.mtbf_h == 60.0
