"""What several API processes do to one PostgreSQL at the same moment is done once."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa

from monitor.desk.choices import Choice, shipped_choices
from monitor.desk.rota import WorkingHours
from monitor.fleet.quality import qualities
from monitor.store import choices, idempotency, people, queries, schema
from monitor.store.choices import Choices
from monitor.store.database import Database, migrate, open_database, witnessed
from monitor.store.hire import Hire
from monitor.store.idempotency import Attempt, Found, TakenOver
from monitor.store.people import People
from monitor.store.registry import Conflict, Registry, Stale
from monitor.store.windows import Window, Windows
from tests.e2e.postgres import postgresql
from tests.patience import PATIENCE_S

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
        began.wait(PATIENCE_S)
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


# --- rentals -------------------------------------------------------------------------------------------------------


def rented(database: Database, device_id: str) -> list[tuple[int, int | None]]:
    r = schema.rental.c
    with database.connect() as connection:
        found = connection.execute(
            sa.select(r.starts_at, r.ends_at)
            .where(r.device_id == device_id, sa.or_(r.ends_at.is_(None), r.ends_at > r.starts_at)).order_by(r.starts_at)
        )  # fmt: skip
        return [(row.starts_at, row.ends_at) for row in found]


def test_a_rental_that_is_made_longer_and_the_next_one_do_not_overlap(database: Database) -> None:
    """Whichever comes first: the other one waits for it, and is refused."""
    for round_ in range(8):
        device_id = f"L-{round_}"
        Registry(database).add_device(device_id, "diesel_generator", None, NOW)
        hire = Hire(database, "test")
        rental_id = hire.add_rental(device_id, NOW, NOW + HOUR, NOW, customer_id=1)

        def either(n: int, hire: Hire = hire, device_id: str = device_id, rental_id: int = rental_id) -> bool:
            try:
                if n:
                    hire.add_rental(device_id, NOW + HOUR, NOW + 3 * HOUR, NOW, customer_id=1)
                else:
                    hire.end_rental(rental_id, NOW + 2 * HOUR, NOW)
            except Conflict:
                return False
            return True

        assert sorted(at_once(2, either)) == [False, True]  # type: ignore[type-var]
        periods = rented(database, device_id)
        assert all(one[1] <= other[0] for one, other in pairwise(periods)), periods  # type: ignore[operator]


def test_two_machines_are_exchanged_for_each_other_by_nobody_and_nothing_stands_still(database: Database) -> None:
    for device_id in ("X-1", "X-2"):
        Registry(database).add_device(device_id, "diesel_generator", None, NOW)
    hire = Hire(database, "test")
    rentals = [hire.add_rental(one, NOW, NOW + HOUR, NOW, customer_id=1) for one in ("X-1", "X-2")]

    def exchange(n: int) -> bool:
        try:
            hire.exchange(rentals[n], f"X-{2 - n}", NOW + 1, NOW)
        except Conflict:
            return False
        return True

    assert at_once(2, exchange) == [False, False]


def test_of_those_who_hire_a_machine_out_by_the_command_line_at_once_each_ends_the_one_before(
    database: Database,
) -> None:
    Registry(database).add_device("C-1", "diesel_generator", None, NOW)

    def rent(n: int) -> object:
        return Registry(database).add_rental("C-1", f"Firm {n}", "a@example.com", lang="en", now=NOW)

    assert len(set(at_once(6, rent))) == 6
    assert [ends_at for _, ends_at in rented(database, "C-1")].count(None) == 1


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_the_record_itself_takes_no_second_rental(database: Database, tmp_path: Path, engine: str) -> None:
    kept = database
    if engine == "sqlite":
        kept = open_database(f"sqlite:///{tmp_path / 'fettle.db'}")
        migrate(kept)
        Hire(kept, "test").add_customer("Metro JV", "site@metro.example", "en", NOW)
    Registry(kept).add_device("R-1", "diesel_generator", None, NOW)
    common = {"device_id": "R-1", "customer_id": 1}

    def put(starts_at: int, ends_at: int | None) -> None:
        with kept.begin() as connection:
            connection.execute(sa.insert(schema.rental).values(**common, starts_at=starts_at, ends_at=ends_at))

    put(NOW, NOW + HOUR)
    put(NOW + HOUR, NOW + 2 * HOUR)
    put(NOW + 1, NOW + 1)
    for starts_at, ends_at in ((NOW - 1, NOW + 1), (NOW + 2 * HOUR - 1, None), (NOW - 1, None)):
        with pytest.raises(sa.exc.IntegrityError):
            put(starts_at, ends_at)
    r = schema.rental.c
    longer = sa.update(schema.rental).where(r.device_id == "R-1", r.starts_at == NOW).values(ends_at=NOW + HOUR + 1)
    with pytest.raises(sa.exc.IntegrityError), kept.begin() as connection:
        connection.execute(longer)
    assert rented(kept, "R-1") == [(NOW, NOW + HOUR), (NOW + HOUR, NOW + 2 * HOUR)]
    if engine == "sqlite":
        kept.close()


# --- what pages follow ---------------------------------------------------------------------------------------------


def test_a_change_that_is_committed_late_is_followed_all_the_same(database: Database) -> None:
    scope = queries.Scope(NOW)

    def note(connection: sa.Connection, what: str) -> None:
        connection.execute(sa.insert(schema.change).values(at=NOW, what=what, device_id=None, ticket_id=None))

    def follow(after: int) -> tuple[int, list[str]]:
        with database.connect() as connection:
            rows = queries.changes(connection, scope, after=after, limit=100)
        return (rows[-1].id if rows else after), [row.what for row in rows]

    with database.connect() as connection:
        last = queries.last_change(connection)
    for first_numbered, first_known in ((True, False), (False, True), (True, True)):
        heard: list[str] = []
        with database.engine.connect() as slow:
            transaction = slow.begin()
            if first_known:
                slow.execute(sa.update(schema.version).values(number=schema.version.c.number))
            if first_numbered:
                note(slow, "slow")
            with database.engine.begin() as quick:
                note(quick, "quick")
            last, words = follow(last)
            heard += words
            with database.connect() as connection:
                assert queries.last_change(connection) == last
            if not first_numbered:
                note(slow, "slow")
            transaction.commit()
        last, words = follow(last)
        assert sorted([*heard, *words]) == ["quick", "slow"]
        assert follow(last) == (last, [])


def test_two_who_replace_the_same_list_hear_of_each_other(database: Database) -> None:
    Registry(database).add_person("Tian", "technician", "t@example.com", phone="", lang="en", customer=None, now=NOW)
    with database.connect() as connection:
        person = connection.execute(sa.select(schema.person.c.id)).scalar_one()
        seen = people.person_tag(people.person_row(connection, person), people.parts_of(connection, person))
        lists = choices.lists_tag(choices.listed(connection))

    def set_hours(n: int) -> bool:
        try:
            People(database, "test").set_hours(person, [WorkingHours(n, 0, 600)], NOW, seen=seen)
        except Stale:
            return False
        return True

    def put(n: int) -> bool:
        try:
            Choices(database, "test").put("action", Choice(f"late_{n}", "Late", "晚"), None, NOW, seen=lists)
        except Stale:
            return False
        return True

    for write in (set_hours, put):
        assert sorted(at_once(4, write)) == [False] * 3 + [True]  # type: ignore[type-var]
