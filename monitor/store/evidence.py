"""The copies of readings that tickets keep: what is due, what was made, and how one is packed."""

import zlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.evidence import OPENING_TO_AFTER_MS, Course, Phase, Window
from monitor.desk.record import Happened, Record, Stretch
from monitor.readings import Floats, Ints
from monitor.store import schema
from monitor.store.database import insert_new

Row = sa.Row[*tuple[Any, ...]]

BODY_VERSION = 1
UNPACKED_AT_MOST = 64 * 1024 * 1024
"""No body that we made is nearly as large; what a damaged one claims to be is not believed."""

_copy, _fault = schema.evidence_copy, schema.fault
_HEAD = [column for column in _copy.c if column is not _copy.c.body]


class UnknownBody(ValueError):
    """A body of another version, or a damaged one."""


# --- what is due ---------------------------------------------------------------------------------------------------


def course_of(row: Row) -> Course:
    """A row of these queries as the copies see it."""
    return Course(row.kind, row.known_at, row.occurred_at, row.cleared_at, row.evidence or {})


def unopened(connection: Connection, since: int, limit: int) -> list[Row]:
    """Faults of a ticket, open or cleared since then, whose opening copy is not planned yet.

    `known_at` is when there was a ticket for it: a weak sign is held for a while before it has one.
    """
    opened_at = schema.ticket.c.opened_at
    known_at = sa.case((opened_at > _fault.c.opened_at, opened_at), else_=_fault.c.opened_at)
    statement = sa.select(_fault, known_at.label("known_at")).join(schema.ticket)
    alive = sa.or_(_fault.c.cleared_at.is_(None), _fault.c.cleared_at >= since)
    return _ordered(connection, statement.where(alive, ~_planned(Phase.OPENING)), limit)


def uncleared(connection: Connection, since: int, limit: int) -> list[Row]:
    """Faults of a ticket that have cleared since then, whose clearing copy is not planned yet but whose opening is;
    each with the number of `weeks` that are planned."""
    return _ordered(connection, _followed().where(_fault.c.cleared_at >= since, ~_planned(Phase.CLEARING)), limit)


def long_open(connection: Connection, before: int) -> list[Row]:
    """Open faults of a ticket that opened before then, each with the number of `weeks` that are planned."""
    return _ordered(connection, _followed().where(_fault.c.cleared_at.is_(None), _fault.c.opened_at < before))


def _planned(phase: Phase) -> sa.ColumnElement[bool]:
    return sa.exists().where(_copy.c.fault_id == _fault.c.id, _copy.c.phase == phase)


def _followed() -> sa.Select[*tuple[Any, ...]]:
    """Faults whose opening is planned; what follows is reckoned from the opening as it was planned, whatever ticket
    the fault belongs to by now."""
    after = _copy.alias("after")
    weeks = sa.select(sa.func.count()).where(_copy.c.fault_id == _fault.c.id, _copy.c.phase == Phase.COURSE)
    return (
        sa.select(_fault, (after.c.due_at - OPENING_TO_AFTER_MS).label("known_at"),
                  weeks.scalar_subquery().label("weeks"))
        .join(after, sa.and_(after.c.fault_id == _fault.c.id, after.c.phase == Phase.AFTER))
        .where(_fault.c.ticket_id.is_not(None))
    )  # fmt: skip


def _ordered(connection: Connection, statement: sa.Select[*tuple[Any, ...]], limit: int | None = None) -> list[Row]:
    # Ordered here and not there: for an order by id, databases walk the whole history of faults.
    return sorted(connection.execute(statement.limit(limit)), key=lambda row: row.id)


def covered(connection: Connection, ticket_id: int, device_id: str) -> list[tuple[int, int]]:
    """What a ticket keeps, or will keep, of a machine at full rate."""
    statement = sa.select(_copy.c.full_from, _copy.c.end_at).where(
        _copy.c.ticket_id == ticket_id, _copy.c.device_id == device_id, _copy.c.status != "given_up"
    )
    return [(row.full_from, row.end_at) for row in connection.execute(statement)]


def machines(connection: Connection, ticket_id: int) -> set[str]:
    """Of which machines a ticket keeps readings."""
    statement = sa.select(_copy.c.device_id).where(_copy.c.ticket_id == ticket_id, _copy.c.status != "given_up")
    return set(connection.execute(statement.distinct()).scalars())


def plan(connection: Connection, fault: Row, windows: Iterable[Window], given_up: str = "") -> None:
    """Note what is to be copied of a fault, once; or, with a reason, that it never will be."""
    insert_new(connection, _copy, [
        {
            "ticket_id": fault.ticket_id, "fault_id": fault.id, "device_id": fault.device_id, "phase": window.phase,
            "number": window.number, "start_at": window.start_at, "full_from": window.full_from,
            "end_at": window.end_at, "due_at": window.due_at, "next_try_at": window.due_at,
            "status": "given_up" if given_up else "due", "reason": given_up,
        }
        for window in windows
    ])  # fmt: skip


def due(connection: Connection, now: int, limit: int) -> Sequence[Row]:
    """Copies to be made now, the one that has waited longest first, with the profile of their machines."""
    statement = (
        sa.select(*_HEAD, schema.device.c.profile)
        .join(schema.device, schema.device.c.device_id == _copy.c.device_id)
        .where(_copy.c.status == "due", _copy.c.next_try_at <= now)
        .order_by(_copy.c.next_try_at, _copy.c.id)
        .limit(limit)
    )
    return connection.execute(statement).all()


def claim(connection: Connection, row: Row, next_try_at: int) -> bool:
    """Take a copy on until then; False where another process was faster, or it is made."""
    changed = connection.execute(
        sa.update(_copy)
        .where(_copy.c.id == row.id, _copy.c.status == "due", _copy.c.tries == row.tries)
        .values(tries=row.tries + 1, next_try_at=next_try_at)
    )
    return changed.rowcount == 1


def kept_bytes(connection: Connection, ticket_id: int) -> int:
    """How much a ticket keeps already."""
    statement = sa.select(sa.func.coalesce(sa.func.sum(_copy.c.bytes), 0)).where(_copy.c.ticket_id == ticket_id)
    return int(connection.execute(statement).scalar_one())


def _end(connection: Connection, copy_id: int, **values: object) -> bool:
    changed = connection.execute(sa.update(_copy).where(_copy.c.id == copy_id, _copy.c.status == "due").values(values))
    return changed.rowcount == 1


def save_made(connection: Connection, copy_id: int, body: bytes, now: int, *, reason: str) -> bool:
    """Keep a copy, once. `reason` says why it holds less than its window, '' where it is complete."""
    return _end(
        connection, copy_id, status="made", body=body, bytes=len(body), made_at=now, reason=reason,
        complete=not reason,
    )  # fmt: skip


def give_up(connection: Connection, copy_id: int, reason: str) -> bool:
    return _end(connection, copy_id, status="given_up", reason=reason)


def put_off(connection: Connection, copy_id: int, reason: str, next_try_at: int) -> bool:
    return _end(connection, copy_id, reason=reason, next_try_at=next_try_at)


# --- what is there -------------------------------------------------------------------------------------------------


def copies(connection: Connection, ticket_id: int) -> Sequence[Row]:
    """All copies of a ticket's faults but their bodies, in the order of their windows, each with the kind and subject
    of its fault and the profile of its machine."""
    statement = (
        sa.select(*_HEAD, _fault.c.kind, _fault.c.subject, schema.device.c.profile)
        .join(_fault, _fault.c.id == _copy.c.fault_id)
        .join(schema.device, schema.device.c.device_id == _copy.c.device_id)
        .where(_fault.c.ticket_id == ticket_id)
    )
    return connection.execute(statement.order_by(_copy.c.start_at, _copy.c.id)).all()


def bodies(connection: Connection, copy_ids: Collection[int]) -> dict[int, bytes]:
    """What the made ones of these copies hold."""
    statement = sa.select(_copy.c.id, _copy.c.body).where(_copy.c.id.in_(copy_ids), _copy.c.status == "made")
    return {row.id: row.body for row in connection.execute(statement)}


# --- how one is packed ---------------------------------------------------------------------------------------------


class _Bucketed(msgspec.Struct, array_like=True):
    metric: str
    bucket_ms: int
    at: bytes
    figures: bytes  # lowest, mean, highest


class _Body(msgspec.Struct, array_like=True):
    start_at: int
    end_at: int
    full_from: int
    metrics: tuple[str, ...]
    messages: int
    heads: bytes
    value: bytes
    reduced: list[_Bucketed]
    events: list[tuple[int, str, dict[str, str | int | float | bool]]]
    left_out: int


def packed(record: Record) -> bytes:
    """A record as it is stored: a byte that says the version, then MessagePack of columns, compressed.

    Whole numbers stand as differences from row to row, values metric by metric, so that they compress well; nothing
    is rounded.
    """
    body = _Body(
        record.start_at, record.end_at, record.full_from, record.metrics, len(record), _differences(record.heads),
        record.value.T.astype("<f8").tobytes(),
        [
            _Bucketed(one.metric, one.bucket_ms, _differences(one.at[np.newaxis]),
                      np.stack([one.low, one.mean, one.high]).astype("<f8").tobytes())
            for one in record.reduced
        ],
        [(one.at, one.event, one.detail) for one in record.events], record.left_out,
    )  # fmt: skip
    return bytes([BODY_VERSION]) + zlib.compress(msgspec.msgpack.encode(body), 6)


def unpacked(stored: bytes) -> Record:
    """Raises UnknownBody."""
    if not stored or stored[0] != BODY_VERSION:
        raise UnknownBody(f"a copy of version {stored[0] if stored else None}; this program reads {BODY_VERSION}")
    inflating = zlib.decompressobj()
    try:
        body = msgspec.msgpack.decode(inflating.decompress(stored[1:], UNPACKED_AT_MOST), type=_Body)
        heads = _sums(body.heads, 5)
        value = np.frombuffer(body.value, dtype="<f8").reshape(len(body.metrics), body.messages).T
        reduced = tuple(_stretch(one) for one in body.reduced)
    except (zlib.error, msgspec.DecodeError, ValueError) as error:
        raise UnknownBody(f"a damaged copy: {error}") from error
    events = tuple(Happened(*one) for one in body.events)
    return Record(
        body.start_at, body.end_at, body.full_from, body.metrics, heads, value, reduced, events, body.left_out
    )  # fmt: skip


def _stretch(one: _Bucketed) -> Stretch:
    low, mean, high = np.frombuffer(one.figures, dtype="<f8").reshape(3, -1)
    return Stretch(one.metric, one.bucket_ms, _sums(one.at, 1)[0], low, mean, high)


def _differences(columns: Ints | Floats) -> bytes:
    return np.diff(columns, prepend=0, axis=1).astype("<i8").tobytes()


def _sums(stored: bytes, columns: int) -> Ints:
    return np.cumsum(np.frombuffer(stored, dtype="<i8").reshape(columns, -1), axis=1)
