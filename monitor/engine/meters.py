"""Meters: takes machines' hour meters out of telemetry, once a day each, beside the intake and never within it.

It runs where telemetry is at hand. What it finds are rows that the desk reckons maintenance from (upkeep.py).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from sqlalchemy.engine import Connection

from monitor.devices import Profile
from monitor.fleet.maintenance import DAY_MS, doubt, read_on
from monitor.fleet.maintenance import Reading as MeterReading
from monitor.readings import Reading
from monitor.store import maintenance as store
from monitor.store.database import Database
from monitor.store.telemetry import Telemetry

PACE_MS = 60_000
MACHINES_A_LOOK = 100
"""So many meters are read every PACE_MS; a hundred thousand machines take seventeen hours of the day."""
HOUR_METER = "engine_hours_h"
"""The sensor that is a machine's own hour meter."""


COUNTED_AGAIN_MS = 7 * DAY_MS
"""So far back starts are counted once more: a box that was cut off tells of some of them days later."""


class Found(NamedTuple):
    """What a machine's meter showed. `starts`: how often it was started since its first reading, as far as is known."""

    at: int
    hours: float
    starts: int


class Before(NamedTuple):
    """What was read of a machine before: last of all, last with its starts counted, and so a week ago."""

    last: MeterReading | None
    counted: MeterReading | None
    a_week_ago: MeterReading | None


class MeterReader:
    """Reads the meters of machines that were heard since it last did. Everything takes `now` (epoch ms UTC)."""

    def __init__(
        self, database: Database, telemetry: Telemetry, profiles: Mapping[str, Profile], *,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self.database = database
        self.telemetry = telemetry
        self.profiles = profiles
        self._stopping = stopping
        self._looked_at = 0

    def tick(self, now: int) -> None:
        """Read those that are due. A store that is away is asked again with the next look."""
        if abs(now - self._looked_at) < PACE_MS:
            return
        self._looked_at = now
        with self.database.connect() as connection:
            due = store.meters_to_ask(connection, now - DAY_MS, MACHINES_A_LOOK)
            before = {row.device_id: _before(connection, row.device_id, now) for row in due}
        asked: dict[str, Found | None] = {}
        for row in due:
            if self._stopping():
                break
            metered = has_meter(self.profiles.get(row.profile))
            asked[row.device_id] = self._ask(row.device_id, before[row.device_id]) if metered else None
        if asked:
            self._keep(asked, now)

    def _ask(self, device_id: str, before: Before) -> Found | None:
        found = hours_of(self.telemetry, device_id)
        if found is None or (before.last is not None and found[0] <= before.last.at):
            return None
        at, hours = found
        # Two counts: the longer one knows of what came late, the shorter one does not miss what has expired.
        since = {one for one in (before.counted or before.last, before.a_week_ago) if one is not None}
        starts = [(one.starts or 0) + self.telemetry.starts(device_id, one.at + 1, at + 1) for one in since]
        return Found(at, hours, max(starts, default=0))

    def _keep(self, asked: Mapping[str, Found | None], now: int) -> None:
        with self.database.begin() as connection:
            store.note_asked(connection, asked, now)
            for device_id, found in asked.items():
                if found is not None:
                    keep(connection, device_id, found, now)


def _before(connection: Connection, device_id: str, now: int) -> Before:
    last = store.neighbours(connection, device_id, now)[0]
    counted, a_week_ago = (store.counted(connection, device_id, at) for at in (now, now - COUNTED_AGAIN_MS))
    return Before(last, counted, a_week_ago)


def keep(connection: Connection, device_id: str, found: Found, now: int) -> None:
    """Keep what a meter showed; what it cannot have shown is kept too, in doubt, and counts for nothing."""
    before, after = store.neighbours(connection, device_id, found.at)
    if before is not None and before.at == found.at:
        return
    wrong = doubt(before, after, found.at, found.hours)
    reading = read_on(before, found.at, found.hours, found.starts, replaced=wrong is not None)
    store.insert_reading(
        connection, device_id, reading, now, source="telemetry", actor="meter", doubt=wrong or "",
    )  # fmt: skip
    if wrong is None:
        store.look_again(connection, "device", device_id)


def hours_of(telemetry: Telemetry, device_id: str) -> tuple[int, float] | None:
    """(at, hours) of a machine's own meter, as it showed last. Raises TelemetryUnavailable."""
    message = telemetry.latest(device_id)
    if message is None or not isinstance(message.body, Reading):
        return None
    hours = message.body.values.get(HOUR_METER)
    return None if hours is None or hours < 0 else (message.body.at, hours)


def has_meter(profile: Profile | None) -> bool:
    return profile is not None and any(one.name == HOUR_METER for one in profile.sensors)
