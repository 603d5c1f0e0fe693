"""What the service asks of machines: rows of `command`, inside their caller's transaction.

A row is written in the transaction of what caused it, sent until it is answered or given up, and answered once.
"""

import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.diagnosis import Why
from monitor.desk.tickets import Status
from monitor.devices import Device
from monitor.store import schema
from monitor.store.database import insert_new

Row = sa.Row[*tuple[Any, ...]]

DIAGNOSE = "diagnose"
MERGES_FOLLOWED = 10
DAY_MS = 86_400_000
LOOSE_DAYS = 30
"""How long commands are kept that belong to no ticket."""

_ENDED = (Status.CLOSED, Status.CANCELLED)


def machine(connection: Connection, device_id: str, ticket_id: int | None) -> Row | None:
    """Of a machine: generation, and whether it can be spoken to at all (`speaks`); beside it the kind of its ticket,
    null where there is no such ticket of it."""
    return connection.execute(_machine_query(), {"device": device_id, "ticket": ticket_id}).first()


@cache
def _machine_query() -> sa.Select[Any]:
    d, t = schema.device.c, schema.ticket.c
    its = sa.and_(t.device_id == d.device_id, t.id == sa.bindparam("ticket", type_=t.id.type))
    return (
        sa.select(
            d.generation, sa.and_(d.retired_at.is_(None), d.revoked_at.is_(None)).label("speaks"),
            t.kind, t.status, t.technician_id,
        )
        .select_from(schema.device.outerjoin(schema.ticket, its))
        .where(d.device_id == sa.bindparam("device"))
    )  # fmt: skip


def under_way(connection: Connection, device_id: str, ticket_id: int | None) -> Row | None:
    """The command that is neither answered nor given up: of this ticket, or of this machine without one."""
    c = schema.command.c
    return connection.execute(
        sa.select(schema.command).where(
            c.device_id == device_id, c.ticket_id.is_not_distinct_from(ticket_id), c.next_send_at.is_not(None)
        )
    ).first()


def insert(
    connection: Connection, device_id: str, generation: int, ticket_id: int | None, asked_by: str, now: int
) -> str:  # fmt: skip
    """Ask a machine to test itself, due at once; answers the command's id. Where somebody else has just asked for the
    same (PostgreSQL), theirs stands, and no row has this id."""
    command_id = str(uuid.uuid4())
    insert_new(connection, schema.command, [{
        "id": command_id, "device_id": device_id, "generation": generation, "ticket_id": ticket_id,
        "command": DIAGNOSE, "args": {}, "asked_by": asked_by, "asked_at": now, "next_send_at": now, "sends": 0,
    }])  # fmt: skip
    return command_id


def due(connection: Connection, now: int, limit: int) -> Sequence[Row]:
    """What is to be sent by now, the longest due first. What `hopeless` names is not."""
    c = schema.command.c
    return connection.execute(
        _standing(schema.command).where(c.next_send_at <= now, ~_hopeless())
        .order_by(c.next_send_at, c.asked_at, c.ticket_id, c.device_id, c.id).limit(limit)
    ).all()  # fmt: skip


def note_sent(connection: Connection, sent: Mapping[str, int], now: int) -> None:
    """The broker has taken these; until when (ms) an answer is waited for before each is sent again."""
    c = schema.command.c
    if sent:
        again: sa.BindParameter[int] = sa.bindparam("again")
        connection.execute(
            # The answer may be quicker than this note.
            sa.update(schema.command).where(c.id == sa.bindparam("command_id")).values(
                sends=c.sends + 1, sent_at=now, next_send_at=sa.case((c.next_send_at.is_not(None), again)),
            ),
            [{"command_id": command_id, "again": at} for command_id, at in sent.items()],
        )  # fmt: skip


def postpone(connection: Connection, command_id: str, next_send_at: int) -> None:
    """The broker did not take it."""
    c = schema.command.c
    connection.execute(
        sa.update(schema.command).where(c.id == command_id, c.next_send_at.is_not(None))
        .values(next_send_at=next_send_at)
    )  # fmt: skip


def answer(
    connection: Connection, command_id: str, device: Device, received_at: int, ok: bool, result: Mapping[str, Any]
) -> Row | None:
    """Store an answer. None where this machine was asked nothing of the kind, or has answered it before."""
    c = schema.command.c
    return connection.execute(
        sa.update(schema.command)
        .where(c.id == command_id, c.device_id == device.device_id, c.generation == device.generation,
               c.answered_at.is_(None))
        .values(answered_at=received_at, ok=ok, result=result, next_send_at=None)
        .returning(schema.command)
    ).first()  # fmt: skip


def hopeless(connection: Connection, asked_before: int, limit: int) -> Sequence[Row]:
    """Commands to give up: asked so long ago, or such as nobody can answer any more; `why` says which."""
    c, d, t = schema.command.c, schema.device.c, schema.ticket.c
    why = sa.case(
        (d.generation != c.generation, Why.BOX_REPLACED.value),
        (sa.or_(d.retired_at.is_not(None), d.revoked_at.is_not(None)), Why.CUT_OFF.value),
        (t.status.in_(_ENDED), Why.TICKET_ENDED.value),
        (c.sends == 0, Why.NOT_SENT.value),
        else_=Why.NO_ANSWER.value,
    )
    return connection.execute(
        _standing(schema.command, why.label("why"))
        .where(c.next_send_at.is_not(None), sa.or_(c.asked_at <= asked_before, _hopeless()))
        .order_by(c.asked_at, c.id).limit(limit)
    ).all()  # fmt: skip


def give_up(connection: Connection, command_id: str, why: Why, now: int) -> bool:
    """False where it was answered meanwhile."""
    c = schema.command.c
    given_up = connection.execute(
        sa.update(schema.command).where(c.id == command_id, c.next_send_at.is_not(None))
        .values(given_up_at=now, reason=why, next_send_at=None)
    )  # fmt: skip
    return given_up.rowcount == 1


def _standing(*columns: Any) -> sa.Select[*tuple[Any, ...]]:
    """Commands, each beside its machine and its ticket."""
    c, d, t = schema.command.c, schema.device.c, schema.ticket.c
    joined = schema.command.join(schema.device, d.device_id == c.device_id).outerjoin(
        schema.ticket, t.id == c.ticket_id
    )
    return sa.select(*columns).select_from(joined)


def _hopeless() -> sa.ColumnElement[bool]:
    c, d, t = schema.command.c, schema.device.c, schema.ticket.c
    ended = sa.and_(t.id.is_not(None), t.status.in_(_ENDED))
    return sa.or_(d.generation != c.generation, d.retired_at.is_not(None), d.revoked_at.is_not(None), ended)


def move(connection: Connection, command_id: str, ticket_id: int) -> None:
    """Its ticket went into another one."""
    c = schema.command.c
    connection.execute(sa.update(schema.command).where(c.id == command_id).values(ticket_id=ticket_id))


def prune(connection: Connection, now: int) -> None:
    """Commands stay with their tickets; those that have none go after a while."""
    c = schema.command.c
    connection.execute(sa.delete(schema.command).where(c.ticket_id.is_(None), c.asked_at < now - LOOSE_DAYS * DAY_MS))


# --- what the API reads --------------------------------------------------------------------------------------------


def of_device(connection: Connection, device_id: str, limit: int) -> Sequence[Row]:
    """What a machine was asked, the newest first."""
    c = schema.command.c
    newest = sa.select(schema.command).where(c.device_id == device_id).order_by(c.asked_at.desc(), c.id).limit(limit)
    return connection.execute(newest).all()


def of_ticket(connection: Connection, ticket_id: int) -> tuple[Row | None, Row | None]:
    """For a ticket: the newest command, and the newest that was answered."""
    c = schema.command.c
    mine = sa.select(schema.command).where(c.ticket_id == ticket_id)
    newest = connection.execute(mine.order_by(c.asked_at.desc(), c.id).limit(1)).first()
    if newest is None or newest.answered_at is not None:
        return newest, newest
    answered = mine.where(c.answered_at.is_not(None)).order_by(c.answered_at.desc(), c.id).limit(1)
    return newest, connection.execute(answered).first()
