"""Inspections, hand-over and draw on the databases that the migrations make: SQLite and PostgreSQL alike."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from monitor.desk.commitments import service_standard
from monitor.engine import Desk, inspecting
from monitor.engine.desk import Addresses
from monitor.engine.inspecting import Blocked, Inspector, Report
from monitor.engine.spot_checking import SpotChecking, drawn_again
from monitor.fleet.inspection import Answer, Kind, Says, What, shipped_checklists
from monitor.fleet.spot_checks import shipped_policy
from monitor.store import inspections, schema
from monitor.store.database import Database, migrate, open_database
from monitor.store.hire import Hire
from monitor.store.registry import Conflict, Refused, Registry
from tests.e2e.postgres import postgresql

NOW = 1_795_000_000_000
HOUR, DAY = 3_600_000, 86_400_000
LISTS = shipped_checklists()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        yield from opened(f"sqlite:///{tmp_path / 'fettle.db'}")
        return
    with postgresql() as url:
        yield from opened(url)


def opened(url: str) -> Iterator[Database]:
    database = open_database(url)
    migrate(database)
    yield database
    database.close()


def well(kind: Kind, **otherwise: Answer) -> list[Answer]:
    made = {What.CHECK: (Says.PASS, None, ""), What.VALUE: (None, 1.0, ""), What.PHOTO: (None, None, "a.jpg")}
    items = LISTS.of("rig", kind).items
    return [otherwise.get(item.code) or Answer(item.code, *made[item.what]) for item in items]


def test_from_inspection_to_spot_check(database: Database) -> None:
    office = Registry(database)
    tian = Inspector(office.add_person("Tian", "technician", "t@example.com", phone="", lang="zh", customer=None,
                                       now=NOW), "person:1")  # fmt: skip
    office.add_device("m1", "rig", None, NOW - DAY)
    hire = Hire(database, "test")
    customer_id = hire.add_customer("Metro", "m@example.com", "zh", NOW)
    rental_id = hire.add_rental("m1", NOW, None, NOW, customer_id=customer_id)

    upkeep = Desk(database, service_standard(), {}, Addresses("http://fettle.example", "Asia/Shanghai")).upkeep

    def sign(kind: Kind, at: int, **otherwise: Answer) -> int:
        return inspecting.inspect(database, Report(kind, "m1", well(kind, **otherwise), "Tian"), tian, LISTS, at)

    with pytest.raises(Blocked, match="no_inspection, no_self_test, not_heard"):
        inspecting.hand_over(database, upkeep, rental_id, "test", NOW)
    wrong = sign(Kind.HAND_OVER, NOW, outside=Answer("outside", Says.FAIL))
    _heard(database)
    with pytest.raises(Blocked, match=r"^inspection_failed$"):
        inspecting.hand_over(database, upkeep, rental_id, "test", NOW)
    inspecting.void(database, wrong, "looked at m2", "test", NOW)
    good = sign(Kind.HAND_OVER, NOW)
    assert inspecting.hand_over(database, upkeep, rental_id, "test", NOW).obstacles == ()
    with pytest.raises(Blocked, match=r"^handed_over$"):
        inspecting.hand_over(database, upkeep, rental_id, "test", NOW)
    i = schema.inspection
    for statement in (sa.update(i).values(passed=True), sa.delete(i), sa.update(i).values(voided_at=None)):
        with pytest.raises(sa.exc.DatabaseError), database.begin() as connection:
            connection.execute(statement)

    checks = SpotChecking(database, "Asia/Shanghai")
    assert (checks.tick(NOW), checks.tick(NOW + 1), SpotChecking(database, "UTC").tick(NOW)) == (1, 0, 0)
    spot = sign(Kind.SPOT_CHECK, NOW + HOUR)
    assert [(row.status, row.done_at) for row in _orders(database)] == [("done", NOW + HOUR)]
    inspecting.void(database, spot, "the neighbour's", "test", NOW + HOUR)
    assert [(row.status, row.done_at) for row in _orders(database)] == [("open", None)]
    with database.connect() as connection:
        recorded = inspections.drawn(connection, "2026-11")
        assert recorded is not None
        again = drawn_again(connection, recorded, shipped_policy())
        assert (list(again.machines), again.fingerprint) == (recorded.machines, recorded.fingerprint)
        assert again.machines == ("m1",)

    hire.take_back(rental_id, None, NOW + DAY)
    with database.connect() as connection:
        assert [row.id for row in inspections.uninspected(connection, limit=9)] == [rental_id]
    back = sign(Kind.RETURN, NOW + DAY + HOUR, guards=Answer("guards", Says.FAIL))
    with database.connect() as connection:
        row = inspections.one(connection, back)
        assert row is not None
        changes = inspecting.compared(connection, row)
        went = inspections.went_out_with(connection, rental_id)
        assert inspections.uninspected(connection, limit=9) == []
    assert (went is not None and went.id) == good
    assert [change.code for change in changes or () if change.course == "damage"] == ["guards"]
    with pytest.raises(Conflict, match="voided already"):
        inspecting.void(database, spot, "again", "test", NOW)
    with pytest.raises(LookupError):
        inspecting.void(database, 999, "x", "test", NOW)
    with pytest.raises(Refused, match="signature"):
        inspecting.inspect(database, Report(Kind.RETURN, "m1", [], "Olga"), tian, LISTS, NOW)
    with pytest.raises(Refused, match="note"):
        inspecting.inspect(database, Report(Kind.RETURN, "m1", [], "Tian", note="x" * 2001), tian, LISTS, NOW)


def _heard(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(sa.insert(schema.command).values(
            id="c1", device_id="m1", generation=0, command="diagnose", args={}, asked_by="t", asked_at=NOW, sends=1,
            answered_at=NOW, ok=True, result={},
        ))  # fmt: skip
        connection.execute(sa.update(schema.device).values(live_at=NOW))


def _orders(database: Database) -> list[sa.Row]:  # type: ignore[type-arg]
    with database.connect() as connection:
        return list(connection.execute(sa.select(schema.work_order).where(schema.work_order.c.kind == "spot_check")))
