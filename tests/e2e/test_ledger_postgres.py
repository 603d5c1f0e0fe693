"""The fleet's ledger on PostgreSQL: its triggers mark every change, several that keep it at once keep it once, and a
change that comes in between is not lost."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from monitor.engine.bookkeeping import Bookkeeping
from monitor.fleet.availability import Sums, kept_since
from monitor.fleet.ledger import course
from monitor.store import ledger, schema
from monitor.store.database import Database, migrate, open_database
from monitor.store.hire import Hire
from monitor.store.registry import Registry
from tests.e2e.postgres import postgresql

NOW, HOUR = 1_795_000_000_000, 3_600_000
ZONE = "Asia/Shanghai"
MACHINES = [f"GX-{n}" for n in range(12)]


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with postgresql() as url:
        opened = open_database(url)
        migrate(opened)
        registry = Registry(opened)
        registry.add_site("Quarry", remote=False, timezone=ZONE, now=NOW)
        for device_id in MACHINES:
            registry.add_device(device_id, "diesel_generator", "Quarry", NOW)
        yield opened
        opened.close()


def check(database: Database, now: int) -> None:
    with database.connect() as connection:
        facts, found = ledger.load_facts(connection, MACHINES), ledger.load_intervals(connection, MACHINES)
        since_at = kept_since(now, ZONE)
        sums, anew = ledger.load_sums(connection, since_at), Sums.none(since_at)
    for device_id in MACHINES:
        assert [one.interval for one in found[device_id]] == course(facts[device_id], now)
        for one in found[device_id]:
            anew.add(one.interval, ZONE)
    assert [{k: v for k, v in one.items() if v} for one in sums[1:]] == [
        {k: v for k, v in one.items() if v} for one in anew[1:]
    ]


def fault(connection: sa.Connection, device_id: str, at: int, ticket_id: int | None = None) -> None:
    connection.execute(sa.insert(schema.fault).values(
        device_id=device_id, kind="limit", subject="oil_pressure_bar", severity="urgent", confidence=1.0,
        occurred_at=at, opened_at=at, evidence={}, ticket_id=ticket_id,
    ))  # fmt: skip


def test_every_change_is_marked_and_kept_once_by_several(database: Database) -> None:
    books = Bookkeeping(database, ZONE)
    books.keep(NOW + 1)
    check(database, NOW + 1)
    for n, device_id in enumerate(MACHINES):
        Registry(database).add_rental(device_id, "Metro JV", "site@metro.example", lang="en", now=NOW + n)
        with database.begin() as connection:
            fault(connection, device_id, NOW + HOUR)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: books.keep(NOW + 2 * HOUR), range(4)))
    check(database, NOW + 2 * HOUR)
    with database.connect() as connection:
        assert ledger.due(connection, NOW + 2 * HOUR, 9) == []
    rental_id = 1
    Hire(database, "test").end_rental(rental_id, None, NOW + 3 * HOUR)
    books.keep(NOW + 4 * HOUR)
    check(database, NOW + 4 * HOUR)


def test_a_change_that_comes_while_a_course_is_worked_out_is_worked_out_next(database: Database) -> None:
    books = Bookkeeping(database, ZONE)
    books.keep(NOW + 5 * HOUR)
    with database.begin() as connection:
        connection.execute(
            sa.update(schema.fault).where(schema.fault.c.device_id == "GX-3").values(cleared_at=NOW + HOUR)
        )

    def change() -> None:
        with database.begin() as theirs:
            theirs.execute(sa.update(schema.fault).where(schema.fault.c.device_id == "GX-3").values(severity="note"))

    with ThreadPoolExecutor(1) as pool, database.begin() as ours:
        due = ledger.due(ours, NOW + 6 * HOUR, 9)
        assert [one.device_id for one in due] == ["GX-3"]
        changed = pool.submit(change)
        ledger.done(ours, due, {"GX-3": None})
        ours.commit()
        changed.result(20)
    with database.connect() as connection:
        assert [one.device_id for one in ledger.due(connection, NOW + 6 * HOUR, 9)] == ["GX-3"]
    books.keep(NOW + 6 * HOUR)
    check(database, NOW + 6 * HOUR)


def test_what_a_ticket_turned_out_to_have_been_marks_the_machines_of_its_faults(database: Database) -> None:
    books = Bookkeeping(database, ZONE)
    registry, ours = Registry(database), ["TX-1", "TX-2"]
    for device_id in ours:
        registry.add_device(device_id, "diesel_generator", "Quarry", NOW)
    with database.begin() as connection:
        ticket_id = connection.execute(sa.insert(schema.ticket).values(
            site_id=1, kind="limit", severity="urgent", status="open", opened_at=NOW + HOUR, occurred_at=NOW + HOUR,
            evidence={}, standard_version="test",
        ).returning(schema.ticket.c.id)).scalar_one()  # fmt: skip
        for device_id in ours:
            fault(connection, device_id, NOW + HOUR, ticket_id)

    def bad() -> int:
        books.keep(NOW + 3 * HOUR)
        with database.connect() as connection:
            return sum(one.interval.condition == "bad" for some in ledger.load_intervals(connection, ours).values()
                       for one in some)  # fmt: skip

    assert bad() == 2
    for outcome, number in (("nuisance", 0), (None, 2)):
        with database.begin() as connection:
            connection.execute(
                sa.update(schema.ticket).where(schema.ticket.c.id == ticket_id).values(outcome=outcome)
            )  # fmt: skip
        assert bad() == number
