"""Two at once change how somebody signs in, and erasing, where several may write: PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import sqlalchemy as sa

from monitor.store import jobs, passwords, schema
from monitor.store.access import By, Role, begin_session, end_other_sessions, hashed, hold, visitor_of_session
from monitor.store.database import Database, migrate, open_database
from monitor.store.erasure import Erasure
from monitor.store.registry import Refused
from tests.e2e.postgres import postgresql
from tests.patience import PATIENCE_S, until

NOW = 1_795_000_000_000
WAITS = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with postgresql() as url:
        database = open_database(url)
        migrate(database)
        yield database
        database.close()


def add(database: Database, name: str, email: str) -> int:
    with database.begin() as connection:
        return connection.execute(
            sa.insert(schema.person)
            .values(name=name, role="technician", email=email, phone="+49 170 555", lang="en", added_at=1)
            .returning(schema.person.c.id)
        ).scalar_one()


def running(database: Database, person_id: int) -> int:
    c = schema.session.c
    with database.connect() as connection:
        return connection.execute(
            sa.select(sa.func.count()).where(c.person_id == person_id, c.ended_at.is_(None))
        ).scalar_one()


def test_what_a_session_begins_is_ended_by_who_ends_all_of_them(database: Database) -> None:
    person_id = add(database, "Olga", "olga@example.com")
    with database.begin() as connection:
        secret = begin_session(connection, Role.TECHNICIAN, person_id, By.PASSWORD, NOW)
        visitor = visitor_of_session(connection, hashed(secret), NOW)
    assert visitor is not None

    def end_all() -> None:
        with database.begin() as connection:
            end_other_sessions(connection, person_id, "", "test", NOW)

    with ThreadPoolExecutor() as others:
        with database.begin() as connection:
            assert hold(connection, visitor, NOW)
            ended = others.submit(end_all)
            until(lambda: _waits(database), "the other one waits")
            passwords.set_password(connection, person_id, "$argon2id$x", NOW, "test")
            begin_session(connection, Role.TECHNICIAN, person_id, By.PASSWORD, NOW)
        ended.result(PATIENCE_S)
    assert running(database, person_id) == 0
    with database.begin() as connection:
        assert not hold(connection, visitor, NOW)


def _waits(database: Database) -> bool:
    with database.connect() as connection:
        return bool(connection.execute(WAITS).scalar())


def test_of_two_who_share_an_address_one_sets_a_password(database: Database) -> None:
    people = [add(database, f"Crew {n}", "crew@example.com") for n in range(2)]
    together = Barrier(2)

    def set_one(person_id: int) -> bool:
        together.wait(60)
        try:
            with database.begin() as connection:
                passwords.set_password(connection, person_id, "$argon2id$x", NOW, "test")
        except Refused:
            return False
        return True

    with ThreadPoolExecutor() as crew:
        assert sorted(crew.map(set_one, people)) == [False, True]


def test_erasing_and_a_phone_s_jobs_do_the_same_here(database: Database) -> None:
    person_id = add(database, "Zoë Ölmüller", "zoe@example.com")
    with database.begin() as connection:
        connection.execute(sa.insert(schema.device).values(device_id="G1", profile="pump", added_at=1))
        connection.execute(sa.insert(schema.ticket).values(
            device_id="G1", kind="limit", subject="", severity="urgent", status="closed", opened_at=1, occurred_at=1,
            evidence={"text": "Zoë Ölmüller (zoe@example.com) called"}, standard_version="t", outcome="real",
            resolved_at=5, resolution_cause="c", resolution_action="a", parts=["belt"],
        ))  # fmt: skip
    with database.connect() as connection:
        assert (jobs.held(connection, person_id, NOW, 9), jobs.offered(connection, person_id, NOW, 9)) == ([], [])
        assert [row.parts for row in jobs.like_it(connection, "pump", "limit", "", 0)] == [["belt"]]
    Erasure(database, "test").person(person_id, "Zoë Ölmüller", NOW)
    with database.connect() as connection:
        evidence = connection.execute(sa.select(schema.ticket.c.evidence)).scalar_one()
    assert evidence == {"text": f"person {person_id} (erased) (…) called"}
