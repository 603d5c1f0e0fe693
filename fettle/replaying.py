"""Publishing recorded rows as a machine: a real recording through the real wire."""

import csv
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from fettle.cards import drop_ended_logins, issue_credential
from fettle.house import House, broker_address, clock
from ingest.connection import Address
from monitor.devices import Profile
from monitor.readings import Reading
from monitor.store.registry import Refused, Registry
from monitor.store.watching import newest_boot

log = structlog.get_logger()

SEND_TIMEOUT_S = 30.0
MAX_IN_FLIGHT = 20


def replay(rooms: House, path: Path, device_id: str, profile_name: str, speed: float) -> int:
    """Publish every row of a CSV (first column time, then sensors) and answer how many were acknowledged.

    Each row is stamped with the moment of sending: stamped in the past it would be late data, which must not page.
    """
    registry = Registry(rooms.database)
    device = registry.device(device_id)
    if device.profile != profile_name:
        raise Refused(f"{device_id} is a {device.profile}, not a {profile_name}")
    if profile_name not in rooms.profiles:
        raise Refused(f"profile {profile_name!r} is not known; known are: {', '.join(sorted(rooms.profiles))}")
    try:
        rows = list(_rows(path, rooms.profiles[profile_name]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"{path.name} cannot be read as CSV in UTF-8: {error}") from None
    credential = issue_credential(rooms, registry, device)
    service, _ = broker_address(rooms.settings)
    address = replace(service, username=credential.username, password=credential.password)
    with rooms.database.connect() as connection:
        # As if the machine had started once more: a boot of another measure would make its own box late for ever.
        boot = newest_boot(connection, device_id, device.generation) + 1
    try:
        return _publish(address, credential.client_id, credential.topic, boot, rows, speed)
    except OSError as error:
        raise Refused(f"the broker at {address.host}:{address.port} cannot be reached: {error}") from None
    finally:
        # The recording's own credential is of no use afterwards.
        registry.end_credential(credential.public_key, clock())
        drop_ended_logins(rooms)


def _rows(path: Path, profile: Profile) -> Iterator[tuple[float, dict[str, float]]]:
    """Seconds since the first row, and the values of the sensors that the profile names."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        delimiter = ";" if ";" in file.readline() else ","
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter)
        header = next(reader, [])
        known = {sensor.name for sensor in profile.sensors}
        columns = [(index, name) for index, name in enumerate(header) if index and name in known]
        if not columns:
            raise Refused(f"{path.name} has none of the sensors of {profile.name}: {', '.join(sorted(known))}")
        first: float | None = None
        for number, row in enumerate(reader, start=2):
            at, values = _row(path, number, row, columns)
            first = at if first is None else first
            yield at - first, values


def _row(path: Path, number: int, row: list[str], columns: list[tuple[int, str]]) -> tuple[float, dict[str, float]]:
    try:
        at = _seconds(row[0])
        return at, {name: float(row[index]) for index, name in columns if row[index].strip()}
    except (ValueError, IndexError) as error:
        raise Refused(f"{path.name}, line {number}: {error}") from error


def _seconds(text: str) -> float:
    """A time column as seconds: a number, or an ISO date and time."""
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text).timestamp()


def _publish(
    address: Address, client_id: str, topic: str, boot: int, rows: list[tuple[float, dict[str, float]]], speed: float
) -> int:
    client = address.client(client_id, clean_session=True)
    client.max_inflight_messages_set(MAX_IN_FLIGHT)
    client.connect(address.host, address.port)
    client.loop_start()
    sent = []
    encode = msgspec.json.Encoder().encode
    begun = time.monotonic()
    try:
        for seq, (elapsed_s, values) in enumerate(rows):
            time.sleep(max(0.0, begun + elapsed_s / speed - time.monotonic()))
            reading = Reading(boot, seq, clock(), "running", values)
            sent.append(client.publish(f"{topic}/telemetry", encode(reading), qos=1))
        for message in sent:
            message.wait_for_publish(SEND_TIMEOUT_S)
            if not message.is_published():
                break
    finally:
        client.disconnect()
        client.loop_stop()
    acknowledged = sum(message.is_published() for message in sent)
    if acknowledged < len(rows):
        raise Refused(f"the broker acknowledged {acknowledged} of {len(rows)} rows; is it reachable?")
    return acknowledged
