"""Tokens, sign-in links and sessions: given out once, kept hashed, ended when they should."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from monitor.store import schema
from monitor.store.access import (
    LINK_MINUTES,
    SESSION_HOURS,
    Role,
    create_login_link,
    create_token,
    end_session,
    hashed,
    redeem_login_link,
    revoke_token,
    still_valid,
    visitor_of_session,
    visitor_of_token,
)
from monitor.store.database import Database, open_database

NOW = 1_795_000_000_000
MINUTE = 60_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(f"sqlite:///{tmp_path / 'fettle.db'}")
    with database.begin() as connection:
        schema.metadata.create_all(connection)
    yield database
    database.close()


def person(database: Database, name: str = "Tang", role: str = "technician") -> int:
    values = {"name": name, "role": role, "email": "t@example.com", "added_at": NOW}
    with database.begin() as connection:
        return connection.execute(sa.insert(schema.person).values(values).returning(schema.person.c.id)).scalar_one()


def redeemed(connection: sa.Connection, link: str, now: int) -> str | None:
    """The session that a link begins."""
    entry = redeem_login_link(connection, link, now)
    assert entry is None or entry.complete
    return entry and entry.secret


def everything_stored(database: Database) -> str:
    with database.connect() as connection:
        return repr([connection.execute(sa.select(table)).all() for table in schema.metadata.sorted_tables])


def test_a_token_is_random_enough_and_kept_hashed(database: Database) -> None:
    with database.begin() as connection:
        secret = create_token(connection, Role.OPS, "desk", NOW)
        assert create_token(connection, Role.OPS, "desk 2", NOW) != secret
        visitor = visitor_of_token(connection, hashed(secret))
    assert len(secret) >= len("fettle_") + 22  # 22 characters of base64 are 128 bits
    assert visitor is not None
    assert (visitor.role, visitor.actor) == (Role.OPS, "token:1")
    assert secret not in everything_stored(database)


def test_a_revoked_token_is_worth_nothing(database: Database) -> None:
    with database.begin() as connection:
        secret = create_token(connection, Role.OPS, "desk", NOW)
        visitor = visitor_of_token(connection, hashed(secret))
        assert visitor is not None
        assert revoke_token(connection, "desk", NOW)
        assert not revoke_token(connection, "desk", NOW)
        assert visitor_of_token(connection, hashed(secret)) is None
        assert not still_valid(connection, visitor, NOW)


def test_a_customers_token_names_its_customer(database: Database) -> None:
    with database.begin() as connection:
        with pytest.raises(ValueError, match="customer"):
            create_token(connection, Role.CUSTOMER, "nobody's", NOW)
        with pytest.raises(ValueError, match="customer"):
            create_token(connection, Role.OPS, "two hats", NOW, customer_id=1)


def test_a_technicians_token_is_the_technicians_of_that_name(database: Database) -> None:
    tang = person(database)
    with database.begin() as connection:
        visitor = visitor_of_token(connection, hashed(create_token(connection, Role.TECHNICIAN, "Tang", NOW)))
        nobody = visitor_of_token(connection, hashed(create_token(connection, Role.TECHNICIAN, "tablet", NOW)))
    assert visitor is not None
    assert nobody is not None
    assert (visitor.person_id, nobody.person_id) == (tang, None)


def test_a_technicians_token_ends_when_they_leave(database: Database) -> None:
    tang = person(database)
    with database.begin() as connection:
        secret = create_token(connection, Role.TECHNICIAN, "Tang", NOW)
        assert visitor_of_token(connection, hashed(secret)) is not None
        connection.execute(sa.update(schema.person).where(schema.person.c.id == tang).values(disabled_at=NOW))
        assert visitor_of_token(connection, hashed(secret)) is None


def test_a_link_works_once(database: Database) -> None:
    with database.begin() as connection:
        secret = create_login_link(connection, Role.OPS, NOW)
        session = redeemed(connection, secret, NOW + MINUTE)
        assert session is not None
        assert redeemed(connection, secret, NOW + MINUTE) is None
        assert redeemed(connection, "x" + secret, NOW + MINUTE) is None
        visitor = visitor_of_session(connection, hashed(session), NOW + MINUTE)
    assert visitor is not None
    assert (visitor.role, visitor.actor, visitor.via) == (Role.OPS, "role:ops", "session")
    stored = everything_stored(database)
    assert secret not in stored
    assert session not in stored


@pytest.mark.parametrize(("late_ms", "works"), [(-1, True), (0, False)])
def test_a_link_expires(database: Database, late_ms: int, works: bool) -> None:
    with database.begin() as connection:
        secret = create_login_link(connection, Role.OPS, NOW)
        found = redeemed(connection, secret, NOW + LINK_MINUTES * MINUTE + late_ms)
    assert (found is not None) is works


def test_of_two_clicks_at_once_one_signs_in(database: Database) -> None:
    with database.begin() as connection:
        secret = create_login_link(connection, Role.OPS, NOW)
    together, found = threading.Barrier(4), []

    def click() -> None:
        together.wait()
        with database.begin() as connection:
            found.append(redeemed(connection, secret, NOW))

    clicks = [threading.Thread(target=click) for _ in range(4)]
    for one in clicks:
        one.start()
    for one in clicks:
        one.join()
    assert sum(session is not None for session in found) == 1


@pytest.mark.parametrize(("late_ms", "works"), [(-1, True), (0, False)])
def test_a_session_expires(database: Database, late_ms: int, works: bool) -> None:
    with database.begin() as connection:
        session = redeemed(connection, create_login_link(connection, Role.OPS, NOW), NOW)
        assert session is not None
        found = visitor_of_session(connection, hashed(session), NOW + SESSION_HOURS * 3_600_000 + late_ms)
    assert (found is not None) is works


def test_a_session_ends_with_its_person(database: Database) -> None:
    tang = person(database)
    with database.begin() as connection:
        unused = create_login_link(connection, Role.TECHNICIAN, NOW, person_id=tang)
        link = create_login_link(connection, Role.TECHNICIAN, NOW, person_id=tang)
        session = redeemed(connection, link, NOW)
        assert session is not None
        visitor = visitor_of_session(connection, hashed(session), NOW)
        assert visitor is not None
        assert visitor.actor == f"person:{tang}"
        connection.execute(sa.update(schema.person).values(disabled_at=NOW))
        assert visitor_of_session(connection, hashed(session), NOW) is None
        assert not still_valid(connection, visitor, NOW)
        assert redeemed(connection, unused, NOW) is None


def test_signing_out_ends_the_session_and_is_remembered(database: Database) -> None:
    with database.begin() as connection:
        session = redeemed(connection, create_login_link(connection, Role.OPS, NOW), NOW)
        assert session is not None
        visitor = visitor_of_session(connection, hashed(session), NOW)
        assert visitor is not None
        end_session(connection, visitor, NOW)
        assert visitor_of_session(connection, hashed(session), NOW) is None
        audited = connection.execute(sa.select(schema.audit.c.what).order_by(schema.audit.c.id)).scalars().all()
    assert audited == ["signed_in", "signed_out"]
