"""Cards: all that a machine's firmware needs to connect."""

from collections.abc import Sequence
from typing import TypedDict

import sqlalchemy as sa

from fettle.house import House, clock
from ingest.connection import Address
from ingest.credentials import Credential, Keyring
from ingest.passwords import PasswordFiles
from monitor.devices import Device, topic
from monitor.store import schema
from monitor.store.registry import Registry


class Mqtt(TypedDict):
    host: str
    port: int
    client_id: str
    username: str
    password: str
    topic: str


class Card(TypedDict):
    device_id: str
    mqtt: Mqtt


def issue_credential(rooms: House, registry: Registry, device: Device) -> Credential:
    """A new credential for a machine, beside those that it has; noted, so that it can be refused later."""
    credential = mint(rooms, device.device_id)
    registry.note_credential(device, credential.public_key, credential.username, clock())
    return credential


def issue_card(rooms: House, registry: Registry, device: Device) -> Card:
    """A new credential, and where to connect with it."""
    return card_of(rooms, issue_credential(rooms, registry, device))


def card_of(rooms: House, credential: Credential) -> Card:
    """What a firmware is told of its credential."""
    host, port = _advertised(rooms)
    return {
        "device_id": credential.device_id,
        "mqtt": {
            "host": host,
            "port": port,
            "client_id": credential.client_id,
            "username": credential.username,
            "password": credential.password,
            "topic": topic(credential.device_id),
        },
    }


def drop_ended_logins(rooms: House) -> None:
    """Take what was ended out of an outside broker's files; it refuses them once it has read the files again. Our own
    broker asks the database by itself."""
    if rooms.settings.own_broker:
        return
    c = schema.credential.c
    with rooms.database.connect() as connection:
        rows = connection.execute(sa.select(c.username, c.public_key).where(c.revoked_at.is_not(None)))
        # Only names that these files gave: our own broker's are those of the devices.
        ended = [row.username for row in rows if row.username.endswith(f"-{row.public_key}")]
    PasswordFiles(rooms.settings.home).revoke(ended)


def unmint(rooms: House, credentials: Sequence[Credential]) -> None:
    """These were never handed out, nor noted. Our own broker keeps none of what it mints."""
    if not rooms.settings.own_broker:
        PasswordFiles(rooms.settings.home).revoke([one.username for one in credentials])


def mint(rooms: House, device_id: str) -> Credential:
    """A new credential of which nobody knows yet."""
    if rooms.settings.own_broker:
        return Keyring(rooms.settings.home.absolute() / "broker").mint(device_id, clock())
    return PasswordFiles(rooms.settings.home).mint(device_id, clock())


def _advertised(rooms: House) -> tuple[str, int]:
    """Where devices are told to connect."""
    settings = rooms.settings
    if settings.mqtt_url is not None:
        url = settings.mqtt_url.get_secret_value().replace("own://", "mqtt://", 1)
        address = Address.parse(url)
        host, port = address.host, address.port
    else:
        host, port = settings.broker_host, settings.mqtt_port
    if settings.mqtt_advertised:
        told = Address.parse(f"mqtt://{settings.mqtt_advertised}")
        return told.host, told.port if ":" in settings.mqtt_advertised else port
    return host, port
