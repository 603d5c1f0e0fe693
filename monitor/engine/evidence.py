"""The copyist: copies the readings of tickets out of telemetry, beside the intake and never within it.

What is due is a row in the database; a tick looks which rows are due, and makes them. So a crash at any point leaves
a row that is made later, and a store that is away is tried again. It runs where telemetry is at hand.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog
from sqlalchemy.engine import Connection

from monitor.desk import evidence as desk
from monitor.desk.record import Record, Stretch, record_of
from monitor.devices import Profile
from monitor.readings import Message, Reading
from monitor.store import cases
from monitor.store import evidence as store
from monitor.store.database import Database
from monitor.store.telemetry import Series, Telemetry, TelemetryUnavailable

log = structlog.get_logger()

PLANNED_A_TICK = 200
COPIES_A_TICK = 20
LOOK_BACK_MS = 7 * 86_400_000
"""Faults that cleared longer ago than this, while no copyist ran, keep no readings."""
CLAIM_MS = 60_000
"""A copy that was begun and not ended (a crash) is begun again after this."""
FIRST_WAIT_MS, LONGEST_WAIT_MS = 5_000, 300_000
AWAY_MS = 7 * 86_400_000
"""A copy that could not be made for so long is given up."""
VALUES_A_COPY = 100_000
"""So many values a copy holds at full rate, those next to its end; what lies before them is reduced."""
MESSAGES_A_READ = 2_000
BUCKETS = 600
"""A reduced stretch has at most so many points a metric."""
METRICS_REDUCED = 24
TICKET_BYTES = 4 * 1024 * 1024
"""So much a ticket keeps, compressed; what comes after that (a fault that flaps for days) is not copied."""
MACHINES_A_TICKET = 12
"""Of the machines of a site's ticket so many keep readings."""


class Copyist:
    """Makes the copies that are due. Everything takes `now` (epoch ms UTC)."""

    def __init__(
        self, database: Database, telemetry: Telemetry, profiles: Mapping[str, Profile], *, retention_days: int,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self.database = database
        self.telemetry = telemetry
        self.profiles = profiles
        self.retention_ms = retention_days * 86_400_000
        self._stopping = stopping

    def tick(self, now: int) -> None:
        """Plan what the faults that opened, lasted or cleared are due, and copy what is due by now."""
        self._plan(now)
        with self.database.connect() as connection:
            rows = store.due(connection, now, COPIES_A_TICK)
        for row in rows:
            if self._stopping() or not self._copy(row, now):
                return

    # --- planning ---

    def _plan(self, now: int) -> None:
        since = now - LOOK_BACK_MS
        with self.database.connect() as connection:
            pending = (
                store.unopened(connection, since, 1) or store.uncleared(connection, since, 1)
                or any(self._weeks(row, now) for row in store.long_open(connection, now - desk.WEEK_MS))
            )  # fmt: skip
        if not pending:
            return
        with self.database.begin() as connection:
            for fault in store.unopened(connection, since, PLANNED_A_TICK):
                self._plan_opening(connection, fault)
            for fault in store.long_open(connection, now - desk.WEEK_MS):
                store.plan(connection, fault, self._weeks(fault, now))
            for fault in store.uncleared(connection, since, PLANNED_A_TICK):
                window = desk.at_clearing(store.course_of(fault), fault.weeks)
                store.plan(connection, fault, [window], self._refusal(connection, fault))

    def _plan_opening(self, connection: Connection, fault: store.Row) -> None:
        covered = store.covered(connection, fault.ticket_id, fault.device_id)
        windows = desk.at_opening(store.course_of(fault), covered)
        store.plan(connection, fault, windows, self._refusal(connection, fault))

    @staticmethod
    def _weeks(fault: store.Row, now: int) -> list[desk.Window]:
        return desk.in_its_course(store.course_of(fault), fault.weeks, now)

    @staticmethod
    def _refusal(connection: Connection, fault: store.Row) -> str:
        """Why nothing more is copied for this ticket, if so."""
        machines = store.machines(connection, fault.ticket_id)
        full = fault.device_id not in machines and len(machines) >= MACHINES_A_TICKET
        return "enough_machines" if full else ""

    # --- copying ---

    def _copy(self, row: store.Row, now: int) -> bool:
        """Make one copy. False where telemetry is away, so that others need not be tried now."""
        with self.database.begin() as connection:
            if not store.claim(connection, row, now + CLAIM_MS):
                return True
            refused = self._hopeless(connection, row, now)
            if refused:
                self._give_up(connection, row, refused, now)
                return True
        try:
            record = self._read(row)
        except TelemetryUnavailable as error:
            self._put_off(row, str(error), now)
            return False
        body, reason = store.packed(record), self._lack(row, record, now)
        with self.database.begin() as connection:
            if store.save_made(connection, row.id, body, now, reason=reason):
                cases.note_change(connection, now, "evidence", row.device_id, row.ticket_id)
        return True

    def _hopeless(self, connection: Connection, row: store.Row, now: int) -> str:
        if row.end_at < now - self.retention_ms:
            return "expired"
        if row.tries and now - row.due_at > AWAY_MS:
            return "unavailable"
        if store.kept_bytes(connection, row.ticket_id) >= TICKET_BYTES:
            return "ticket_full"
        return ""

    @staticmethod
    def _give_up(connection: Connection, row: store.Row, reason: str, now: int) -> None:
        log.warning("evidence_given_up", ticket=row.ticket_id, device=row.device_id, phase=row.phase, reason=reason)
        store.give_up(connection, row.id, reason)
        cases.note_change(connection, now, "evidence", row.device_id, row.ticket_id)

    def _put_off(self, row: store.Row, error: str, now: int) -> None:
        wait_ms = min(FIRST_WAIT_MS << min(row.tries, 10), LONGEST_WAIT_MS)
        log.warning("evidence_waits", ticket=row.ticket_id, device=row.device_id, phase=row.phase, error=error)
        with self.database.begin() as connection:
            store.put_off(connection, row.id, "unavailable", now + wait_ms)
            if not row.tries:
                cases.note_change(connection, now, "evidence", row.device_id, row.ticket_id)

    def _lack(self, row: store.Row, record: Record, now: int) -> str:
        """Why a copy holds less than its window, if so."""
        if row.start_at < now - self.retention_ms:
            return "partly_expired"
        if record.full_from > row.full_from:
            return "reduced"
        return "left_out" if record.left_out else ""

    # --- reading ---

    def _read(self, row: store.Row) -> Record:
        profile = self.profiles.get(row.profile)
        first = [sensor.name for sensor in profile.sensors] if profile else []
        messages, full_from = read_back(self.telemetry, row.device_id, row.full_from, row.end_at)
        record = record_of(messages, row.start_at, row.end_at, full_from, first)
        if full_from <= row.start_at:
            return record
        metrics = record.metrics or self.telemetry.metrics(row.device_id)
        # What the model names comes first, and stands first in the record too.
        wanted = sorted(metrics, key=lambda name: first.index(name) if name in first else len(first))
        found = [
            _stretch(name, self.telemetry.series(row.device_id, name, row.start_at, full_from, BUCKETS))
            for name in wanted[:METRICS_REDUCED]
        ]
        return replace(
            record, reduced=tuple(one for one in found if len(one.at)),
            left_out=record.left_out + max(0, len(wanted) - METRICS_REDUCED),
        )  # fmt: skip


def read_back(
    telemetry: Telemetry, device_id: str, start_at: int, end_at: int, values: int = VALUES_A_COPY
) -> tuple[list[Message], int]:
    """A machine's messages in [start_at, end_at), backwards from the end until so many values are together.

    Answers them in order, and from when on they are all there.
    """
    found: list[Sequence[Message]] = []
    full_from, slice_ms = end_at, end_at - start_at
    while full_from > start_at and values > 0:
        begin = max(start_at, full_from - slice_ms)
        part = telemetry.messages(device_id, begin, full_from, MESSAGES_A_READ + 1)
        if len(part) > MESSAGES_A_READ and full_from - begin > 1:
            slice_ms = (full_from - begin) // 2
            continue
        if len(part) < MESSAGES_A_READ // 4:
            slice_ms *= 2
        found.append(part[:MESSAGES_A_READ])
        full_from = begin
        values -= sum(len(one.body.values) if isinstance(one.body, Reading) else 1 for one in part)
    return [message for part in reversed(found) for message in part], full_from


def _stretch(metric: str, series: Series) -> Stretch:
    return Stretch(metric, series.bucket_ms, series.at, series.low, series.mean, series.high)
