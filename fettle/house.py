"""The rooms that every command has: settings, database, profiles. Light to import, since most commands are short."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fettle.settings import Settings
from ingest.connection import Address
from ingest.credentials import Keyring, locked, write_private
from ingest.passwords import PasswordFiles
from monitor.devices import Profile
from monitor.links import Signer, customer_token, label_token
from monitor.store import access, registry, schema
from monitor.store.access import Role
from monitor.store.database import Database, migrate, open_database
from monitor.store.links import Links
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


def link_signer(settings: Settings) -> Signer:
    """What links to customers and technicians are signed with: the secret that is set, or the key in the data folder,
    made at the first start."""
    if settings.link_secret is not None:
        return Signer(settings.link_secret.get_secret_value().strip().encode())
    try:
        if settings.link_secret_file is not None:
            return Signer(settings.link_secret_file.read_bytes().strip())
        return Signer(_own_link_key(settings.home / "links.key"))
    except (OSError, ValueError) as error:
        raise CannotStart(f"FETTLE_LINK_SECRET_FILE, or links.key in FETTLE_HOME: {error}") from None


def _own_link_key(path: Path) -> bytes:
    # Two processes that start at once must not go on with a key each.
    with locked(path.with_name(".links.lock")):
        if not path.exists():
            write_private(path, secrets.token_hex(32).encode())
        return path.read_bytes()


def customer_url(rooms: House, name: str, *, renew: bool) -> str:
    """A link to the page of the customer of this name; with `renew` all earlier ones end."""
    now = clock()
    with rooms.database.connect() as connection:
        customer = registry.customer_id(connection, name)
    epoch = Links(rooms.database, "cli").customer(customer, now, renew=renew)
    return f"{rooms.settings.public}/c/{customer_token(link_signer(rooms.settings), customer, epoch, now)}"


def label_url(rooms: House, device_id: str, *, renew: bool) -> str:
    """The address for a machine's label; with `renew` all earlier labels end."""
    try:
        epoch = Links(rooms.database, "cli").label(device_id, clock(), renew=renew)
    except LookupError as missing:
        raise registry.Refused(f"device {device_id!r} is not known, or retired") from missing
    return f"{rooms.settings.public}/m/{label_token(link_signer(rooms.settings), device_id, epoch)}"


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
