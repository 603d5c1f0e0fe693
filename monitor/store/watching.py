"""What the watch keeps between two batches: progress, courses, parked and rejected messages, detector state."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.devices import Device
from monitor.readings import Arrival, Event, Message, Reading, Rejected, Reply, Status
from monitor.sequence import Course, Stream
from monitor.store import commands, idempotency, schema
from monitor.store.database import insert_new, upsert

MAX_REJECTED = 100_000
MAX_REPLIES = 100_000
DAY_MS = 86_400_000
REPLY_DAYS = 30
LOOK_BACK = 200
_encode = msgspec.json.Encoder().encode
_BODY: dict[str, type[Reading] | type[Event]] = {"reading": Reading, "event": Event}


class OwnerChanged(Exception):
    """Another process has taken this watch over; this one must not write any more."""


class Progress(NamedTuple):
    """How far a watch came. `attended_at`: until then it was surely listening (epoch ms)."""

    last_batch: int
    epoch: int
    attended_at: int | None


def take_over(connection: Connection, owner: str) -> Progress:
    """Become the owner: a new epoch begins, and commits of an earlier owner fail from now on."""
    p = schema.progress
    row = connection.execute(sa.select(p).where(p.c.owner == owner)).first()
    if row is None:
        connection.execute(sa.insert(p).values(owner=owner, last_batch=0, epoch=1))
        return Progress(0, 1, None)
    connection.execute(sa.update(p).where(p.c.owner == owner).values(epoch=row.epoch + 1))
    return Progress(row.last_batch, row.epoch + 1, row.attended_at)


def save_progress(connection: Connection, owner: str, progress: Progress) -> None:
    """Note how far we came; OwnerChanged where the watch is no longer ours."""
    p = schema.progress
    changed = connection.execute(
        sa.update(p)
        .where(p.c.owner == owner, p.c.epoch == progress.epoch)
        .values(last_batch=progress.last_batch, attended_at=progress.attended_at)
    )
    if changed.rowcount != 1:
        raise OwnerChanged(f"watch {owner!r} has another owner than epoch {progress.epoch}")


def last_batch(connection: Connection, owner: str, epoch: int) -> int:
    """The last batch that was committed in this epoch; OwnerChanged where the watch is no longer ours."""
    p = schema.progress
    row = connection.execute(sa.select(p).where(p.c.owner == owner, p.c.epoch == epoch)).first()
    if row is None:
        raise OwnerChanged(f"watch {owner!r} has another owner than epoch {epoch}")
    return int(row.last_batch)


def load_streams(connection: Connection, devices: Mapping[str, Device]) -> dict[str, Stream]:
    """The newest boot of every device, with what is parked.

    What is parked was acknowledged, so it is taken in even where its device has been renewed or revoked since.
    """
    parked = _load_parked(connection)
    generation = {device_id: device.generation for device_id, device in devices.items()}
    generation |= {message.device_id: message.generation for message in parked}
    streams: dict[str, Stream] = {}
    for row in connection.execute(sa.select(schema.seen)):
        if row.generation != generation.get(row.device_id):
            continue
        stream = streams.setdefault(row.device_id, Stream(row.generation))
        if row.boot > stream.boot:
            stream.boot, stream.course = row.boot, _course(row)
    for message in parked:
        stream = streams.setdefault(message.device_id, Stream(message.generation))
        if message.body.boot > stream.boot:
            stream.boot, stream.course = message.body.boot, Course()
        stream.parked[message.body.seq] = message
        stream.waiting_since = message.received_at
    return streams


def heard_generations(connection: Connection) -> dict[str, int]:
    """The newest generation of each device that a message was taken of."""
    c = schema.seen.c
    newest = sa.select(c.device_id, sa.func.max(c.generation).label("newest")).group_by(c.device_id)
    return {row.device_id: row.newest for row in connection.execute(newest)}


def newest_boot(connection: Connection, device_id: str, generation: int) -> int:
    """The newest boot that was taken in of this generation of a device; 0 where none was."""
    c = schema.seen.c
    newest = sa.select(sa.func.max(c.boot)).where(c.device_id == device_id, c.generation == generation)
    return connection.execute(newest).scalar() or 0


def load_course(connection: Connection, device_id: str, generation: int, boot: int) -> Course:
    """What was taken of one boot; an empty course where nothing was."""
    c = schema.seen.c
    row = connection.execute(
        sa.select(schema.seen).where(c.device_id == device_id, c.generation == generation, c.boot == boot)
    ).first()
    return _course(row) if row else Course()


def _course(row: sa.Row[*tuple[Any, ...]]) -> Course:
    return Course(row.next_seq, row.received, [(start, end) for start, end in row.gaps])


def save_courses(connection: Connection, courses: Mapping[tuple[str, int, int], Course]) -> None:
    """Note how far each device has come: a row for every device of every batch.

    As rows ready for the driver: SQLAlchemy's own preparation costs four times what the database does with them.
    """
    rows = [
        (device_id, generation, boot, course.next_seq, course.received, _encode(course.gaps).decode())
        for (device_id, generation, boot), course in courses.items()
    ]
    if rows:
        connection.exec_driver_sql(_SAVE_COURSES[connection.dialect.paramstyle], rows)


_SAVE_COURSES = {
    style: f"INSERT INTO seen (device_id, generation, boot, next_seq, received, gaps) VALUES ({marks}) "  # noqa: S608
    "ON CONFLICT (device_id, generation, boot) "
    "DO UPDATE SET next_seq = excluded.next_seq, received = excluded.received, gaps = excluded.gaps"
    for style, marks in (("qmark", "?, ?, ?, ?, ?, ?"), ("pyformat", "%s, %s, %s, %s, %s, %s"))
}


def save_parked(
    connection: Connection, parked: Iterable[Message], unparked: Sequence[tuple[str, int, int, int]]
) -> None:
    c = schema.parked.c
    insert_new(connection, schema.parked, [
        {"device_id": m.device_id, "generation": m.generation, "boot": m.body.boot, "seq": m.body.seq,
         "received_at": m.received_at, "late": m.late, "what": type(m.body).__name__.lower(), "body": _encode(m.body)}
        for m in parked
    ])  # fmt: skip
    if unparked:
        connection.execute(
            sa.delete(schema.parked).where(
                c.device_id == sa.bindparam("d"), c.generation == sa.bindparam("g"),
                c.boot == sa.bindparam("b"), c.seq == sa.bindparam("s"),
            ),
            [{"d": d, "g": g, "b": b, "s": s} for d, g, b, s in unparked],
        )  # fmt: skip


def _load_parked(connection: Connection) -> list[Message]:
    c = schema.parked.c
    rows = connection.execute(sa.select(schema.parked).order_by(c.device_id, c.boot, c.seq))
    return [
        Message(
            row.device_id, row.generation, row.received_at, row.late,
            msgspec.json.decode(row.body, type=_BODY[row.what]),
        )
        for row in rows
    ]  # fmt: skip


def save_rejected(connection: Connection, arrivals: Sequence[Arrival]) -> None:
    """Into the dead-letter table, which keeps the newest MAX_REJECTED."""
    rows = []
    for device_id, received_at, body in arrivals:
        assert isinstance(body, Rejected)  # noqa: S101 (the intake sorts by type)
        rows.append({
            "received_at": received_at, "device_id": device_id[:64], "topic": body.topic[:400],
            "reason": body.reason, "detail": body.detail, "payload": body.payload[:4096],
            "payload_bytes": body.payload_bytes or len(body.payload),
        })  # fmt: skip
    if rows:
        connection.execute(sa.insert(schema.rejected), rows)


def is_dead_letter(connection: Connection, device_id: str, payload: bytes) -> bool:
    """Whether this very content was rejected lately (it stands among the device's newest dead letters)."""
    c = schema.rejected.c
    newest = sa.select(c.payload).where(c.device_id == device_id).order_by(c.id.desc()).limit(LOOK_BACK)
    return payload[:4096] in set(connection.execute(newest).scalars())


def prune(connection: Connection, now: int) -> None:
    """Bound what grows by itself: dead letters by number, replies by number and age, commands without a ticket by age,
    the change log and kept answers by age (a day), and what signed people in a day after it expired."""
    c = schema.rejected.c
    newest = connection.execute(sa.select(sa.func.max(c.id))).scalar() or 0
    connection.execute(sa.delete(schema.rejected).where(c.id <= newest - MAX_REJECTED))
    connection.execute(sa.delete(schema.change).where(schema.change.c.at < now - DAY_MS))
    _prune_replies(connection, now)
    commands.prune(connection, now)
    idempotency.prune(connection, now)
    for table in (schema.login_link, schema.session):
        connection.execute(sa.delete(table).where(table.c.expires_at < now - DAY_MS))


def _prune_replies(connection: Connection, now: int) -> None:
    c = schema.reply.c
    connection.execute(sa.delete(schema.reply).where(c.received_at < now - REPLY_DAYS * DAY_MS))
    beyond = sa.select(c.received_at).order_by(c.received_at.desc()).offset(MAX_REPLIES).limit(1)
    newest_too_many = connection.execute(beyond).scalar()
    if newest_too_many is not None:
        # Of those that came in the same millisecond as the first one too many, none is kept.
        connection.execute(sa.delete(schema.reply).where(c.received_at <= newest_too_many))


def save_statuses(connection: Connection, statuses: Sequence[tuple[Device, int, Status]]) -> None:
    """What machines last said of their connection; what an older connection left behind changes nothing."""
    c = schema.device.c
    for device, received_at, status in statuses:
        of_device = c.device_id == device.device_id
        known = connection.execute(sa.select(c.online_at, c.firmware, c.model).where(of_device)).first()
        if known is None or (known.online_at is not None and status.precedes(known.online_at)):
            continue
        values: dict[str, Any] = {"connection": status.state, "connection_reason": status.reason}
        if status.state == "online":
            runs = {"firmware": status.firmware[:120], "model": status.model[:120]}
            values |= {"online_at": status.at, **runs}
            if (known.firmware, known.model) != (runs["firmware"], runs["model"]):
                seen = {"device_id": device.device_id, "from_at": status.at, "recorded_at": received_at, **runs}
                connection.execute(sa.insert(schema.firmware_seen).values(**seen))
        connection.execute(sa.update(schema.device).where(of_device).values(**values))


def save_replies(connection: Connection, replies: Sequence[tuple[Device, int, Reply]]) -> None:
    insert_new(connection, schema.reply, [
        {"device_id": device.device_id, "command_id": reply.id[:64], "at": reply.at, "received_at": received_at,
         "ok": reply.ok, "result": reply.result}
        for device, received_at, reply in replies
    ])  # fmt: skip


def save_heard(connection: Connection, heard: Mapping[str, int], live: Mapping[str, int]) -> None:
    """When machines were heard: for the first time, and last; and when their newest live telemetry came."""
    if heard:
        c = schema.device.c
        at: sa.BindParameter[int] = sa.bindparam("at")
        live_at = sa.func.coalesce(sa.bindparam("live", type_=c.live_at.type), c.live_at)
        connection.execute(
            sa.update(schema.device)
            .where(c.device_id == sa.bindparam("d"))
            .values(first_heard_at=sa.func.coalesce(c.first_heard_at, at), last_heard_at=at, live_at=live_at),
            [{"d": device_id, "at": at, "live": live.get(device_id)} for device_id, at in heard.items()],
        )


def first_heard(connection: Connection) -> set[str]:
    c = schema.device.c
    return set(connection.execute(sa.select(c.device_id).where(c.first_heard_at.is_not(None))).scalars())


def load_released(connection: Connection) -> list[sa.Row[*tuple[Any, ...]]]:
    """Faults that the desk ended and the detectors have not let go of yet."""
    return list(connection.execute(sa.select(schema.released).order_by(schema.released.c.id)))


def load_serviced(connection: Connection) -> list[sa.Row[*tuple[Any, ...]]]:
    """Repairs that the detectors do not know of yet."""
    return list(connection.execute(sa.select(schema.serviced).order_by(schema.serviced.c.id)))


def drop_released(connection: Connection, until: int) -> None:
    if until:
        connection.execute(sa.delete(schema.released).where(schema.released.c.id <= until))


def drop_serviced(connection: Connection, until: int) -> None:
    if until:
        connection.execute(sa.delete(schema.serviced).where(schema.serviced.c.id <= until))


def save_snapshots(connection: Connection, batch: int, states: Mapping[str, bytes]) -> None:
    rows = [{"device_id": device_id, "batch": batch, "state": state} for device_id, state in states.items()]
    upsert(connection, schema.snapshot, rows)


def load_snapshots(connection: Connection) -> tuple[int, dict[str, bytes]]:
    """The batch that detector state stands at, and the state of every device."""
    states, batch = {}, 0
    for device_id, at_batch, state in connection.execute(sa.select(schema.snapshot)):
        states[device_id] = state
        batch = max(batch, at_batch)
    return batch, states
