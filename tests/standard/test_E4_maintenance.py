# ruff: noqa: N802, N999 (the names begin with the row of the standard)
"""E4: every machine is served once a quarter at least; what is due is seen before, what is overdue is named daily."""

from contextlib import suppress
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.event import listen
from sqlalchemy.exc import IntegrityError, OperationalError

from monitor.devices import FaultKind, Severity
from monitor.engine.meters import MeterReader
from monitor.engine.upkeep import Done, Upkeep
from monitor.fleet.maintenance import Plan, Reading, Resets
from monitor.fleet.sheets import rfc3339
from monitor.readings import Event
from monitor.store import maintenance as store
from monitor.store import schema
from monitor.store.registry import Conflict, Refused
from monitor.store.sheets import Intake, Register
from tests.standard.world import DAY, HOUR, MINUTE, Broken, World


def pass_time(world: World, days: float, step_h: float = 0) -> None:
    """Let time pass for maintenance alone, with a tick every so many hours: daily, or every five days of many."""
    step_h = step_h or (24 if days <= 30 else 120)
    end = world.now + round(days * DAY)
    while world.now < end:
        world.now = min(end, world.now + round(step_h * HOUR))
        world.desk.upkeep.tick(world.now)
    world.outbox.deliver_due(world.now)


def tick(world: World) -> None:
    """One tick, whatever was looked at a moment ago."""
    world.now += 10 * MINUTE
    world.desk.tick(world.now)
    world.outbox.deliver_due(world.now)


def due(world: World, device_id: str = "m1", plan: str = "service") -> str:
    with world.database.connect() as connection:
        row = store.due_rows(connection, [device_id])[device_id, plan]
    return str(store.due_of(row).state(world.now))


def order(world: World) -> store.Row:
    """The one work order that is open."""
    (found,) = world.rows(schema.work_order, status="open")
    return found


def finish(world: World, order_id: int, *, by: int | None = None, **how: object) -> None:
    row = world.rows(schema.work_order, id=order_id)[0]
    results = [{"code": one["code"], "result": "ok", "note": ""} for one in row.checklist]
    done = Done(**{"done_at": world.now, "results": results} | how)  # type: ignore[arg-type]
    world.desk.upkeep.finish(order_id, done, "test", world.now, by=by)


def overdue(world: World, device_id: str = "m1") -> list[str]:
    with world.database.connect() as connection:
        (machine,) = store.machines(connection, [device_id])
        return [one.title_en for one in world.desk.upkeep.overdue(connection, machine, world.now)]


def counts(world: World) -> tuple[int, int]:
    with world.database.connect() as connection:
        return tuple(store.counts(connection, world.now))


def run(world: World, reader: MeterReader, hours: float, device_id: str = "g1") -> None:
    """A day in the life of a machine with an hour meter: it says what that shows, and the service takes it down."""
    world.now += DAY
    world.known(device_id).says({"engine_hours_h": hours})
    world.watch.tick(world.now, attending=True)
    world.now += MINUTE
    reader.tick(world.now)
    tick(world)


@pytest.fixture
def reader(world: World) -> MeterReader:
    return MeterReader(world.database, world.telemetry, world.desk.profiles)


# --- by the calendar -----------------------------------------------------------------------------------------------


def test_E4_a_machine_is_due_after_a_quarter_and_an_order_asks_for_it_two_weeks_before(world: World) -> None:
    world.machine(on_hire=False)
    tick(world)
    assert (due(world), counts(world), world.rows(schema.work_order)) == ("not_due", (0, 0), [])
    pass_time(world, 75)
    assert due(world) == "not_due"
    pass_time(world, 2)
    asked = order(world)
    assert (due(world), asked.plan, asked.reason) == ("due_soon", "service", "calendar")
    assert [one["code"] for one in asked.checklist] == ["leaks", "safety", "test_run"]
    pass_time(world, 7)
    assert counts(world) == (1, 0)
    pass_time(world, 7)
    assert (due(world), overdue(world), counts(world)) == ("due", [], (1, 0))
    pass_time(world, 2)
    assert (due(world), overdue(world), counts(world)) == ("overdue", ["Regular service"], (0, 1))
    assert len(world.rows(schema.work_order)) == 1


def test_E4_overdue_machines_are_named_to_operations_every_morning_in_one_message(world: World) -> None:
    for name in ("m1", "m2", "m3"):
        world.machine(name, on_hire=False)
    pass_time(world, 92)
    assert world.told("maintenance_overdue") == []
    pass_time(world, 3, step_h=1)
    letters = world.letters("maintenance_overdue")
    assert [one["recipient"] for one in letters] == ["olga@example.com"] * 3
    assert all(name in letters[0]["body"] for name in ("m1", "m2", "m3"))
    # At eight in the morning in Shanghai, which is midnight UTC, each on another day.
    queued = [row.queued_at for row in world.rows(schema.notice, kind="maintenance_overdue")]
    assert all(at % DAY < HOUR for at in queued)
    assert len({at // DAY for at in queued}) == 3
    for row in world.rows(schema.work_order, status="open"):
        finish(world, row.id)
    pass_time(world, 3, step_h=1)
    assert len(world.letters("maintenance_overdue")) == 3


def test_E4_a_restart_at_any_moment_opens_and_tells_nothing_twice(world: World) -> None:
    world.machine(on_hire=False)
    pass_time(world, 70)
    for _ in range(26 * 2):
        pass_time(world, 0.5, step_h=12)
        # What a restart forgets.
        world.desk.upkeep = Upkeep(world.desk)
        world.desk.upkeep.tick(world.now)
    world.restart()
    world.desk.tick(world.now)
    assert len(world.rows(schema.work_order)) == 1
    causes = [row.cause for row in world.rows(schema.notice, kind="maintenance_overdue")]
    # T0 is in the afternoon, and it is overdue 92 days later: the mornings of days 93 to 96.
    assert len(causes) == len(set(causes)) == 4


@pytest.mark.parametrize("table", ["maintenance_due", "work_order", "notice"])
def test_E4_what_the_database_refuses_is_done_by_the_next_tick(world: World, table: str) -> None:
    world.machine(on_hire=False)
    with Broken(world, table):
        for _ in range(19):
            world.now += 5 * DAY
            with suppress(OperationalError, IntegrityError):
                world.desk.upkeep.tick(world.now)
    assert world.rows(schema.notice, kind="maintenance_overdue") == []
    tick(world)
    assert (due(world), len(world.rows(schema.work_order))) == ("overdue", 1)
    assert len(world.letters("maintenance_overdue")) == 1


def test_E4_no_plan_may_leave_a_machine_longer_than_a_quarter(world: World) -> None:
    world.machine()
    upkeep = world.desk.upkeep
    lazy = Plan("service", "Service", "保养", every_days=120)
    with pytest.raises(Refused, match=r"every_days 120: .* at least once a quarter \(E4\)"):
        upkeep.put_plan(lazy, "device", "m1", "test", world.now)
    with pytest.raises(Refused, match="every_days is missing"):
        upkeep.put_plan(Plan("service", "Service", "保养", every_h=500), "all", "", "test", world.now)
    with pytest.raises(Refused, match="says additional"):
        upkeep.put_plan(Plan("overhaul", "Overhaul", "大修", every_days=365), "profile", "rig", "test", world.now)
    overhaul = Plan("overhaul", "Overhaul", "大修", every_days=365, additional=True)
    upkeep.put_plan(overhaul, "profile", "rig", "test", world.now)
    tick(world)
    assert {row.plan for row in world.rows(schema.maintenance_due)} == {"service", "overhaul"}


def test_E4_the_nearest_plan_counts_and_its_end_brings_back_the_one_before(world: World) -> None:
    for name in ("m1", "m2"):
        world.machine(name, on_hire=False)
    upkeep = world.desk.upkeep
    upkeep.put_plan(Plan("service", "Monthly", "每月", every_days=30), "profile", "rig", "test", world.now)
    upkeep.put_plan(Plan("service", "Weekly", "每周", every_days=7), "device", "m1", "test", world.now)
    tick(world)
    rows = {row.device_id: row for row in world.rows(schema.maintenance_due)}
    added = {row.device_id: row.added_at for row in world.rows(schema.device)}
    assert {name: (row.due_at - added[name]) // DAY for name, row in rows.items()} == {"m1": 7, "m2": 30}
    upkeep.remove_plan("service", "device", "m1", "test", world.now)
    tick(world)
    assert {row.title_en for row in world.rows(schema.maintenance_due)} == {"Monthly"}


# --- a large fleet -------------------------------------------------------------------------------------------------


def add_machines(world: World, number: int, days_ago: float = 0) -> None:
    lines = "".join(f"n{n:04},rig,{rfc3339(world.now - round(days_ago * DAY))}\n" for n in range(number))
    intake = Intake(world.database, ZoneInfo("Asia/Shanghai"), world.desk.profiles)
    taken = intake.take(Register.DEVICES, f"device_id,profile,added_at\n{lines}".encode(), world.now)
    assert taken.added == number


def reckoned(world: World) -> int:
    return len(world.rows(schema.maintenance_due))


def test_E4_a_new_machine_is_seen_by_the_next_tick_and_many_by_one_after_the_other(world: World) -> None:
    world.machine(on_hire=False)
    world.desk.upkeep.tick(world.now)
    world.machine("m2", on_hire=False)
    world.now += 1000
    world.desk.upkeep.tick(world.now)
    assert (due(world, "m2"), reckoned(world)) == ("not_due", 2)
    add_machines(world, 250, days_ago=95)
    seen = []
    for _ in range(4):
        world.now += 1000
        world.desk.upkeep.tick(world.now)
        seen.append(reckoned(world))
    assert seen == [102, 202, 252, 252]
    assert len(world.rows(schema.work_order, status="open")) == 250
    world.machine("m3", on_hire=False)
    # What a restart forgets.
    Upkeep(world.desk).tick(world.now)
    assert reckoned(world) == 253


def test_E4_a_new_machine_waits_for_no_other(world: World) -> None:
    add_machines(world, 250)
    for _ in range(3):
        world.desk.upkeep.tick(world.now)
    monthly = Plan("service", "Monthly", "每月", every_days=30)
    world.desk.upkeep.put_plan(monthly, "all", "", "test", world.now)
    world.machine("m2", on_hire=False)
    world.now += 1000
    world.desk.upkeep.tick(world.now)
    assert due(world, "m2") == "not_due"


def test_E4_a_plan_that_is_put_elsewhere_counts_with_the_next_tick(world: World) -> None:
    """The API is another process than the desk."""
    world.machine(on_hire=False)
    world.desk.upkeep.tick(world.now)
    Upkeep(world.desk).put_plan(Plan("service", "Weekly", "每周", every_days=7), "all", "", "test", world.now)
    world.now += 1000
    world.desk.upkeep.tick(world.now)
    assert [row.title_en for row in world.rows(schema.maintenance_due)] == ["Weekly"]


def test_E4_reckoning_many_asks_the_database_no_more_often_than_reckoning_few(world: World) -> None:
    add_machines(world, 60, days_ago=95)
    asked: list[str] = []
    ids = [row.device_id for row in world.rows(schema.device)]
    listen(world.database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    numbers = []
    for some in (ids[:5], ids[5:]):
        asked.clear()
        with world.database.begin() as connection:
            world.desk.upkeep.reckon(connection, some, world.now)
        numbers.append(len(asked))
    assert numbers[0] == numbers[1]
    assert len(world.rows(schema.audit, what="work_order_opened")) == 60


# --- by use, and by condition --------------------------------------------------------------------------------------


def test_E4_running_hours_make_it_due_when_the_machines_own_meter_says_so(world: World, reader: MeterReader) -> None:
    world.machine("g1", "diesel_generator", on_hire=False)
    for day in range(10):
        run(world, reader, 1000 + day * 20)
    (row,) = world.rows(schema.maintenance_due)
    # 250 hours at 20 a day: some twelve days and a half after the first reading, long before the calendar.
    assert (row.trigger, row.sure, row.left_h) == ("hours", "by_use", 70)
    first = world.rows(schema.meter_reading)[0].at
    assert row.due_at == pytest.approx(first + 12.5 * DAY, abs=4 * HOUR)
    for day in range(10, 14):
        run(world, reader, 1000 + day * 20)
    (row,) = world.rows(schema.maintenance_due)
    assert (due(world, "g1"), row.trigger, row.left_h) == ("due", "hours", -10)
    assert row.certain_at == pytest.approx(first + 12.5 * DAY, abs=4 * HOUR)
    assert order(world).reason == "hours"


def test_E4_a_machine_that_stands_is_due_by_the_calendar_alone(world: World, reader: MeterReader) -> None:
    world.machine("g1", "diesel_generator", on_hire=False)
    for _ in range(8):
        run(world, reader, 1000)
    (row,) = world.rows(schema.maintenance_due)
    assert (row.trigger, row.use_h_per_day) == ("calendar", 0)


def test_E4_without_readings_the_calendar_counts_and_the_forecast_says_so(world: World, reader: MeterReader) -> None:
    world.machine("g1", "diesel_generator", on_hire=False)
    run(world, reader, 1000)
    (row,) = world.rows(schema.maintenance_due)
    assert (row.trigger, row.sure, row.use_h_per_day) == ("calendar", "calendar_only", None)


def test_E4_a_meter_is_read_once_a_day_and_what_it_cannot_show_counts_for_nothing(
    world: World, reader: MeterReader
) -> None:
    world.machine("g1", "diesel_generator", on_hire=False)
    run(world, reader, 1000)
    for _ in range(3):
        world.now += HOUR
        world.known("g1").says({"engine_hours_h": 1001})
        reader.tick(world.now)
    assert len(world.rows(schema.meter_reading)) == 1
    run(world, reader, 3000)
    run(world, reader, 12)
    rows = world.rows(schema.meter_reading)
    assert [(row.hours, row.doubt, row.total_h) for row in rows] == [
        (1000, "", 1000), (3000, "fast", 1000), (12, "back", 1000)
    ]  # fmt: skip
    with world.database.begin() as connection:
        world.desk.upkeep.reckon(connection, ["g1"], world.now)
    (reckoned,) = world.rows(schema.maintenance_due)
    assert (reckoned.meter_h, reckoned.left_h) == (1000, 250)
    # Somebody says that there is another meter: from then on it counts, and the sum goes on.
    world.desk.upkeep.read_meter("g1", world.now, 12, "test", world.now, replaced=True)
    run(world, reader, 30)
    last = world.rows(schema.meter_reading)[-1]
    assert (last.hours, last.doubt, last.total_h) == (30, "", 1018)


def test_E4_starts_are_counted_and_make_a_plan_due(world: World, reader: MeterReader) -> None:
    world.machine("g1", "diesel_generator", on_hire=False)
    starter = Plan("starter", "Starter motor", "起动机", every_days=365, every_starts=10, additional=True)
    world.desk.upkeep.put_plan(starter, "all", "", "test", world.now)
    run(world, reader, 1000)
    for _ in range(6):
        for _ in range(2):
            world.now += MINUTE
            world.known("g1").event("started")
        run(world, reader, 1000)
    row = {one.plan: one for one in world.rows(schema.maintenance_due)}["starter"]
    assert (row.trigger, row.left_starts, due(world, "g1", "starter")) == ("starts", -2, "due")


def test_E4_starts_are_counted_whoever_reads_the_meter_between_and_however_late_they_come(
    world: World, reader: MeterReader
) -> None:
    machine = world.machine("g1", "diesel_generator", on_hire=False)
    run(world, reader, 1000)
    world.now += MINUTE
    machine.event("started")
    world.desk.upkeep.read_meter("g1", world.now, 1000, "test", world.now)
    run(world, reader, 1000)
    assert world.rows(schema.meter_reading)[-1].starts == 1, "before somebody read it, too"
    for day in range(7):
        run(world, reader, 1000)
        if day == 2:
            kept_back = world.now - HOUR
    machine.send(Event(machine.boot, machine.seq, kept_back, "started", {}))
    machine.seq += 1
    run(world, reader, 1000)
    assert world.rows(schema.meter_reading)[-1].starts == 2, "told of days after it was"
    run(world, reader, 1000)
    assert world.rows(schema.meter_reading)[-1].starts == 2


def test_E4_readings_that_people_take_count_where_a_machine_has_no_meter(world: World) -> None:
    world.machine(on_hire=False)
    plan = Plan("service", "Service", "保养", every_days=90, every_h=100)
    world.desk.upkeep.put_plan(plan, "all", "", "test", world.now)
    for hours in (500, 530, 560, 590):
        world.desk.upkeep.read_meter("m1", world.now, hours, "test", world.now)
        pass_time(world, 2)
    (row,) = world.rows(schema.maintenance_due)
    assert (row.trigger, row.sure, row.left_h, due(world)) == ("hours", "by_use", 10, "due_soon")
    world.desk.upkeep.read_meter("m1", world.now, 605, "test", world.now)
    assert due(world) == "due"


def test_E4_the_last_reading_counts_however_long_before_the_service_it_was(world: World) -> None:
    world.machine(on_hire=False)
    with world.database.begin() as connection:
        for days_ago, hours in ((200, 480), (150, 500)):
            read = Reading(world.now - days_ago * DAY, hours, hours)
            store.insert_reading(connection, "m1", read, world.now, source="manual", actor="test")
        found = store.readings_of(connection, ["m1"], world.now - 30 * DAY, oldest_at=world.now - 400 * DAY)["m1"]
    assert [one.hours for one in found] == [500]
    world.now += DAY
    plan = Plan("service", "Service", "保养", every_days=90, every_h=100)
    world.desk.upkeep.put_plan(plan, "all", "", "test", world.now)
    order_id = world.desk.upkeep.open_by_hand("m1", "test", world.now, due_at=world.now, plan_code="service")
    finish(world, order_id)
    (row,) = world.rows(schema.maintenance_due)
    assert (row.meter_h, row.left_h) == (500, 100)


@pytest.mark.parametrize(
    ("hours", "days_ago", "why"),
    [
        (490, 0, "below what the meter showed before"),
        (600, 0, "more hours than have passed"),
        (506, 5, "below what the meter showed before"),
        (500.5, 4, "this very moment"),
    ],
)
def test_E4_no_meter_shows_that(world: World, hours: float, days_ago: int, why: str) -> None:
    world.machine(on_hire=False)
    upkeep = world.desk.upkeep
    began = world.now
    upkeep.read_meter("m1", began, 500, "test", began)
    world.now += 4 * DAY
    with pytest.raises(Refused, match=why):
        upkeep.read_meter("m1", world.now - days_ago * DAY, hours, "test", world.now)


def test_E4_a_trend_makes_it_due_and_is_forgotten_once_it_is_done(world: World) -> None:
    world.machine(on_hire=False)
    pass_time(world, 10)
    with world.database.begin() as connection:
        connection.execute(
            schema.fault.insert().values(
                device_id="m1", kind=FaultKind.TREND, subject="temp_c", severity=Severity.ROUTINE,
                opened_at=world.now, occurred_at=world.now, evidence={},
            )
        )  # fmt: skip
    tick(world)
    (row,) = world.rows(schema.maintenance_due)
    assert (due(world), row.trigger) == ("due", "condition")
    asked = order(world)
    finish(world, asked.id)
    assert due(world) == "not_due"
    pass_time(world, 1)
    assert (due(world), world.rows(schema.work_order, status="open")) == ("not_due", [])


def test_E4_a_trend_that_clears_makes_nothing_due(world: World) -> None:
    world.machine(on_hire=False)
    tick(world)
    with world.database.begin() as connection:
        connection.execute(
            schema.fault.insert().values(
                device_id="m1", kind=FaultKind.TREND, subject="temp_c", severity=Severity.ROUTINE,
                opened_at=world.now + 1, occurred_at=world.now, evidence={},
            )
        )  # fmt: skip
    tick(world)
    assert due(world) == "due"
    with world.database.begin() as connection:
        connection.execute(schema.fault.update().values(cleared_at=world.now))
    tick(world)
    assert due(world) == "not_due"


# --- done, and due again -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("resets", "days"), [(Resets.DONE, 95 + 90), (Resets.DUE, 90 + 90)])
def test_E4_what_is_done_is_due_again_by_the_plans_own_rule(world: World, resets: Resets, days: int) -> None:
    plan = Plan("service", "Service", "保养", every_days=90, resets_from=resets)
    world.desk.upkeep.put_plan(plan, "all", "", "test", world.now)
    world.machine(on_hire=False)
    added = world.now
    pass_time(world, 95)
    finish(world, order(world).id)
    (row,) = world.rows(schema.maintenance_due)
    assert row.due_at == added + days * DAY
    assert (due(world), overdue(world)) == ("not_due", [])


def test_E4_hours_begin_anew_where_it_is_done(world: World, reader: MeterReader) -> None:
    world.machine("g1", "diesel_generator", on_hire=False)
    for day in range(14):
        run(world, reader, 1000 + day * 20)
    finish(world, order(world).id, meter_hours=1261, parts=["oil filter"], note="well")
    row = world.rows(schema.work_order)[0]
    assert (row.status, row.from_h, row.meter_hours, row.parts) == ("done", 1261, 1261, ["oil filter"])
    assert world.rows(schema.maintenance_due)[0].left_h == 250
    run(world, reader, 1280)
    assert world.rows(schema.maintenance_due)[0].left_h == pytest.approx(231)


def test_E4_nothing_is_done_without_its_checklist(world: World) -> None:
    world.machine(on_hire=False)
    pass_time(world, 80)
    asked = order(world)
    ok = [{"code": code, "result": "ok", "note": ""} for code in ("leaks", "safety", "test_run")]
    for results, why in (
        (ok[:2], "test_run"), ([*ok, {"code": "x", "result": "ok"}], "x: not on the checklist"),
        ([*ok[:2], {"code": "test_run", "result": "fine"}], "allowed are ok"),
        ([*ok[:2], {"code": "test_run", "result": "not_ok", "note": ""}], "needs a note"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=why):
            finish(world, asked.id, results=results)
    with pytest.raises(Refused, match="done_at"):
        finish(world, asked.id, done_at=world.now + 1)
    finish(world, asked.id)
    with pytest.raises(Conflict, match="is done"):
        finish(world, asked.id)
    assert [row.what for row in world.rows(schema.audit) if row.subject == f"work_order:{asked.id}"] == [
        "work_order_done"
    ]


def test_E4_P1_only_who_is_certified_for_the_model_is_given_it_or_says_it_is_done(world: World) -> None:
    world.machine(on_hire=False)
    other = world.person("Wang", "technician")
    with world.database.begin() as connection:
        connection.execute(schema.certificate.insert().values(person_id=1, profile="rig", since_at=world.now))
    pass_time(world, 80)
    asked = order(world)
    with pytest.raises(Refused, match="no valid certificate for rig"):
        world.desk.upkeep.assign(asked.id, other, "test", world.now)
    with pytest.raises(Refused, match="no valid certificate for rig"):
        finish(world, asked.id, by=other)
    world.desk.upkeep.assign(asked.id, 1, "test", world.now)
    pass_time(world, 1, step_h=1)
    assert world.told("work_assigned") == [("work_assigned", "tian@example.com")]
    finish(world, asked.id, by=1)
    assert due(world) == "not_due"


def test_E4_a_cancelled_order_comes_not_back_but_what_is_due_stays_due(world: World) -> None:
    world.machine(on_hire=False)
    pass_time(world, 80)
    world.desk.upkeep.cancel(order(world).id, "sold next week", "test", world.now)
    pass_time(world, 20)
    assert (world.rows(schema.work_order, status="open"), due(world)) == ([], "overdue")
    assert len(world.rows(schema.audit, what="work_order_opened")) == 1
    by_hand = world.desk.upkeep.open_by_hand("m1", "test", world.now, due_at=world.now, plan_code="service")
    with pytest.raises(Conflict, match="is open"):
        world.desk.upkeep.open_by_hand("m1", "test", world.now, due_at=world.now, plan_code="service")
    finish(world, by_hand)
    assert due(world) == "not_due"


def test_E4_retired_machines_have_nothing_due(world: World) -> None:
    world.machine(on_hire=False)
    pass_time(world, 95)
    assert counts(world) == (0, 1)
    with world.database.begin() as connection:
        connection.execute(schema.device.update().values(retired_at=world.now))
    assert (counts(world), overdue(world)) == ((0, 0), [])
    pass_time(world, 1)
    assert (world.rows(schema.maintenance_due), world.rows(schema.work_order, status="open")) == ([], [])


def test_E4_two_desks_open_one_order_and_write_one_message(world: World) -> None:
    world.machine(on_hire=False)
    other = Upkeep(world.desk)
    pass_time(world, 70)
    for _ in range(25):
        pass_time(world, 1)
        other.tick(world.now)
    assert len(world.rows(schema.work_order)) == 1
    causes = [row.cause for row in world.rows(schema.notice, kind="maintenance_overdue")]
    assert len(causes) == len(set(causes))
