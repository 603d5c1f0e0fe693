# ruff: noqa: N802, N999 (the names begin with the row of the standard)
"""E1 in the monthly report: what a month was is told on the first working day after it, once, and stays as told."""

import json
from contextlib import suppress

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from monitor.engine import reporting
from monitor.fleet.report import as_json, from_json
from monitor.store import report, schema
from tests.standard.world import DAY, HOUR, MINUTE, T0, Broken, World

NOVEMBER = 1_761_926_400_000
"""Midnight of 1 November 2025 in Shanghai, a Saturday."""
MORNING = NOVEMBER + 2 * DAY + 6 * HOUR
"""Monday, 06:00."""


def month_with_an_outage(world: World) -> None:
    """Two machines on hire; one is too hot for three days of October."""
    hot, _ = world.machine("m1"), world.machine("m2")
    for machine in world.machines.values():
        machine.says()
    world.desk.reporting.tick(world.now)
    world.now = T0 + 10 * DAY
    hot.goes_hot()
    keep(world)
    world.now = T0 + 13 * DAY
    hot.recovers()
    keep(world)


def keep(world: World) -> None:
    world.desk.books.keep(world.now)


def tick(world: World, now: int) -> None:
    world.now = now
    world.desk.reporting.tick(now)
    world.outbox.deliver_due(now)


def test_E1_the_month_is_told_on_the_first_working_day(world: World) -> None:
    month_with_an_outage(world)
    for now in (NOVEMBER, NOVEMBER + 9 * HOUR, MORNING + MINUTE - 1):
        tick(world, now)
    assert world.letters("monthly_report") == []
    for now in range(MORNING + MINUTE, MORNING + HOUR, 10 * MINUTE):
        tick(world, now)
    (letter,) = world.letters("monthly_report")
    assert letter["recipient"] == "mei@example.com"
    assert "2025-10" in letter["subject"]
    assert "http://fettle.example/reports/2025-10" in json.dumps(letter)
    (row,) = world.rows(schema.monthly_report)
    assert (row.month, row.as_of, row.sent_at) == ("2025-10", MORNING, MORNING + MINUTE)
    told = {one.code: one for one in from_json(row.body.encode()).rows}["E1.on_hire"]
    known = 2 * (NOVEMBER - T0)
    # It was hot until its second good reading, a second later.
    assert told.figure == (known - 3 * DAY - 1000) / known
    assert told.met is (told.figure >= 0.9)
    assert [one.device_id for one in told.breaches] == ["m1"]


def test_E1_a_crash_between_report_and_notices_leaves_neither(world: World) -> None:
    month_with_an_outage(world)
    with Broken(world, "notice"):
        with suppress(IntegrityError, OperationalError):
            world.desk.reporting.tick(MORNING + MINUTE)
        assert world.rows(schema.monthly_report) == []
    world.restart()
    for minutes in (2, 5, 13, 14, 30):
        tick(world, MORNING + minutes * MINUTE)
    assert len(world.letters("monthly_report")) == len(world.rows(schema.monthly_report)) == 1
    world.restart()
    tick(world, MORNING + HOUR)
    tick(world, MORNING + 2 * HOUR)
    assert len(world.letters("monthly_report")) == len(world.rows(schema.monthly_report)) == 1


def test_E1_two_that_build_at_once_keep_and_tell_one(world: World) -> None:
    """After an outage each builds as of its own moment."""
    month_with_an_outage(world)
    tick(world, MORNING + MINUTE)
    with world.database.begin() as connection, pytest.raises(IntegrityError):
        report.insert(connection, "2025-10", MORNING + 1, b"{}", world.now, sent=True)


def test_E1_what_comes_late_changes_no_report_that_was_told(world: World) -> None:
    month_with_an_outage(world)
    tick(world, MORNING + MINUTE)
    (row,) = world.rows(schema.monthly_report)
    world.now = MORNING + DAY
    late = {
        "device_id": "m2", "kind": "limit", "subject": "x", "severity": "urgent", "evidence": {},
        "occurred_at": T0 + DAY, "opened_at": world.now, "cleared_at": world.now,
    }  # fmt: skip
    with world.database.begin() as connection:
        connection.execute(schema.fault.insert().values(**late))
    keep(world)
    with world.database.connect() as connection:
        again = reporting.build(connection, "2025-10", row.as_of, world.desk)
        now = reporting.build(connection, "2025-10", world.now, world.desk)
    assert as_json(again) == row.body.encode()
    was, told = ({one.code: one for one in some.rows}["E1.fleet"].figure for some in (again, now))
    assert was is not None
    assert told is not None
    assert told < was
