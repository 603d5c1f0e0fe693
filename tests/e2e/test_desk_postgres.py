"""What several API processes do to one PostgreSQL at the same moment is done once."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import sqlalchemy as sa

from monitor.desk.choices import Choice, shipped_choices
from monitor.fleet.quality import qualities
from monitor.store import idempotency, queries, schema
from monitor.store.choices import Choices
from monitor.store.database import Database, migrate, open_database, witnessed
from monitor.store.hire import Hire
from monitor.store.idempotency import Attempt, Found, TakenOver
from monitor.store.registry import Conflict, Registry
from monitor.store.windows import Window, Windows
from tests.e2e.postgres import postgresql

NOW = 1_795_000_000_000
HOUR = 3_600_000


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with postgresql() as url:
        opened = open_database(url)
        migrate(opened)
        registry = Registry(opened)
        registry.add_device("GX-1", "diesel_generator", None, NOW)
        registry.add_device("GX-2", "diesel_generator", None, NOW)
        Hire(opened, "test").add_customer("Metro JV", "site@metro.example", "en", NOW)
        yield opened
        opened.close()


def at_once(number: int, do: Callable[[int], object]) -> list[object]:
    began = Barrier(number)

    def one(n: int) -> object:
        began.wait(20)
        return do(n)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))


def test_of_eight_that_claim_a_request_one_has_it(database: Database) -> None:
    def claim(n: int) -> Found:
        with database.begin() as connection:
            return idempotency.claim(connection, Attempt("person:1", "a", str(n)), "hash", NOW)[0]

    assert sorted(map(str, at_once(8, claim))) == ["ours", *["under_way"] * 7]


def test_an_attempt_that_was_overtaken_commits_nothing(database: Database) -> None:
    slow, quick = Attempt("person:1", "b", "slow"), Attempt("person:1", "b", "quick")
    for attempt, now in ((slow, NOW), (quick, NOW + idempotency.LEASE_MS)):
        with database.begin() as connection:
            assert idempotency.claim(connection, attempt, "hash", now)[0] is Found.OURS

    def work(attempt: Attempt) -> None:
        with witnessed(lambda connection: idempotency.mark_done(connection, attempt, NOW)):
            Registry(database, attempt.number).add_site(
                f"by the {attempt.number}", remote=False, timezone="UTC", now=NOW
            )

    with pytest.raises(TakenOver):
        work(slow)
    work(quick)
    with database.connect() as connection:
        assert connection.execute(sa.select(schema.site.c.name)).scalars().all() == ["by the quick"]


def test_of_six_rentals_at_once_one_is_taken(database: Database) -> None:
    def rent(_: int) -> bool:
        try:
            Hire(database, "test").add_rental("GX-1", NOW, NOW + HOUR, NOW, customer_id=1)
        except Conflict:
            return False
        return True

    assert sorted(at_once(6, rent)) == [False] * 5 + [True]  # type: ignore[type-var]


def test_a_list_that_two_change_first_is_copied_once(database: Database) -> None:
    def put(n: int) -> object:
        return Choices(database, "test").put("cause", Choice(f"new_{n}", "New", "新"), None, NOW)

    assert at_once(4, put) == [True] * 4
    with database.connect() as connection:
        codes = connection.execute(sa.select(schema.choice.c.code)).scalars().all()
    assert sorted(codes) == sorted([one.code for one in shipped_choices()["cause"]] + [f"new_{n}" for n in range(4)])


def test_windows_and_quality_are_asked_for_in_its_dialect(database: Database) -> None:
    windows = Windows(database, "test")
    window_id = windows.declare(Window("maintenance", NOW, NOW + HOUR, device_id="GX-2"), NOW)
    common = {"device_id": "GX-2", "kind": "limit", "subject": "x", "opened_at": NOW, "occurred_at": NOW}
    with database.begin() as connection:
        ticket_id = connection.execute(
            sa.insert(schema.ticket)
            .values(**common, severity="urgent", status="open", outcome="real", evidence={}, standard_version="test")
            .returning(schema.ticket.c.id)
        ).scalar_one()
        facts = {**common, "severity": "note", "evidence": {"rule": "limits/1"}}
        connection.execute(sa.insert(schema.fault).values(**facts, held_until=NOW + HOUR, held_severity="urgent"))
        connection.execute(sa.insert(schema.fault).values(**{**facts, "kind": "trend"}, ticket_id=ticket_id))
    windows.end_now(window_id, NOW + 1000)
    with database.connect() as connection:
        held = connection.execute(sa.select(schema.fault.c.held_until).where(schema.fault.c.kind == "limit")).scalar()
        (found,) = qualities(queries.rule_outcomes(connection, NOW, NOW + 1))
    assert held == NOW + 1000
    assert (found.rule, found.tickets, found.real.count) == ("limits/1", 1, 1)
