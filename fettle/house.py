"""The rooms that every command has: settings, database, profiles. Light to import, since most commands are short."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fettle.settings import Settings
from ingest.connection import Address
from ingest.credentials import Keyring
from ingest.passwords import PasswordFiles
from monitor.devices import Profile
from monitor.store import access, schema
from monitor.store.access import Role
from monitor.store.database import Database, migrate, open_database
from monitor.store.profiles import load_profiles


class CannotStart(Exception):
    """Why a process cannot start as it is set up, in words for the operator."""


def clock() -> int:
    """Now, in epoch milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class House:
    """What every process shares."""

    settings: Settings
    database: Database
    profiles: dict[str, Profile]


@contextmanager
def house(settings: Settings) -> Iterator[House]:
    """Open the data folder and the database, brought to the newest schema."""
    settings.prepare_home()
    try:
        database = open_database(settings.database)
    except (ValueError, OSError) as error:
        raise CannotStart(f"FETTLE_DATABASE_URL: {error}") from None
    try:
        _bring_up_to_date(database)
        yield House(settings, database, load_profiles(settings.home / "profiles"))
    finally:
        database.close()


def _bring_up_to_date(database: Database) -> None:
    try:
        migrate(database)
    except sa.exc.DatabaseError as error:
        # Not there, not reached, not a database; a statement of ours that is wrong is no matter of the operator's.
        if isinstance(error, sa.exc.ProgrammingError | sa.exc.IntegrityError):
            raise
        why = " ".join(str(error.orig).split())
        raise CannotStart(f"FETTLE_DATABASE_URL: the database cannot be opened: {why}") from None


def broker_address(settings: Settings) -> tuple[Address, str]:
    """Where and as whom the service listens: the address with its sign-in, and its secret client id."""
    if not settings.own_broker and settings.mqtt_url is not None:
        outside = Address.parse(settings.mqtt_url.get_secret_value(), settings.mqtt_ca)
        return PasswordFiles(settings.home).service(outside)
    own = Keyring(settings.home.absolute() / "broker").service(clock())
    pinned = settings.mqtt_tls_cert
    host, port = settings.broker_host, settings.mqtt_port
    if settings.mqtt_url is not None:
        there = Address.parse(settings.mqtt_url.get_secret_value().replace("own://", "mqtt://", 1))
        host, port = there.host, there.port
    here = Address(host, port, own.username, own.password, pinned is not None, pinned, pinned=pinned is not None)
    return here, own.client_id


def sign_in_url(
    connection: Connection, settings: Settings, *, role: Role | None = None, person: int | None = None
) -> str:
    """A link that signs in once: as a built-in account of a role, or as a person."""
    if person is not None:
        role = Role(
            connection.execute(sa.select(schema.person.c.role).where(schema.person.c.id == person)).scalar_one()
        )
    secret = access.create_login_link(connection, role or Role.OPS, clock(), person_id=person)
    return f"{settings.public}/sign-in/{secret}"
