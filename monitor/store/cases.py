"""Faults, tickets, steps, commitments and notices: what the desk loads and saves, inside its caller's transaction."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.commitments import Commitment
from monitor.desk.faults import Standing
from monitor.desk.notices import Person
from monitor.desk.tickets import Status, Step, Ticket
from monitor.devices import FaultKind
from monitor.store import schema
from monitor.store.database import insert_new
from monitor.store.registry import raise_version

Row = sa.Row[*tuple[Any, ...]]


def load_standing(connection: Connection, device_id: str, now: int) -> Standing:
    """What the desk knows of a machine: where it stands, who has it on hire now, what is open."""
    d, s, r = schema.device.c, schema.site.c, schema.rental.c
    device = connection.execute(
        sa.select(d.site_id, sa.func.coalesce(s.remote, False)).select_from(schema.device.outerjoin(schema.site))
        .where(d.device_id == device_id)
    ).one()  # fmt: skip
    rental = connection.execute(
        sa.select(r.id, r.customer_id)
        .where(r.device_id == device_id, r.starts_at <= now, sa.or_(r.ends_at.is_(None), r.ends_at > now))
        .order_by(r.starts_at.desc())
    ).first()
    return Standing(
        device_id, device[0], bool(device[1]), rental.id if rental else None, rental.customer_id if rental else None,
        _open_keys(connection, schema.fault, device_id, schema.fault.c.cleared_at.is_(None)),
        _open_keys(connection, schema.ticket, device_id, sa.text(schema.OPEN_TICKET)),
    )  # fmt: skip


def _open_keys(
    connection: Connection, table: sa.Table, device_id: str, is_open: sa.ColumnElement[bool] | sa.TextClause
) -> dict[tuple[str, str], int]:
    c = table.c
    rows = connection.execute(sa.select(c.kind, c.subject, c.id).where(c.device_id == device_id, is_open))
    return {(row.kind, row.subject): row.id for row in rows}


def insert_fault(connection: Connection, **values: Any) -> int:
    return _insert(connection, schema.fault, values)


def insert_ticket(connection: Connection, **values: Any) -> int:
    return _insert(connection, schema.ticket, values)


def _insert(connection: Connection, table: sa.Table, values: dict[str, Any]) -> int:
    key = connection.execute(sa.insert(table).values(**values)).inserted_primary_key
    assert key is not None  # noqa: S101 (a table with a serial id always answers with it)
    return int(key[0])


def clear_fault(connection: Connection, fault_id: int, ended_at: int, now: int) -> int | None:
    """Clear a fault; answers the ticket it belongs to."""
    c = schema.fault.c
    connection.execute(sa.update(schema.fault).where(c.id == fault_id).values(ended_at=ended_at, cleared_at=now))
    return connection.execute(sa.select(c.ticket_id).where(c.id == fault_id)).scalar()


def end_faults(connection: Connection, ticket_id: int, now: int) -> None:
    """A ticket that is closed or cancelled takes its open faults along, and the detectors let go of them."""
    c = schema.fault.c
    standing = c.ticket_id == ticket_id, c.cleared_at.is_(None)
    ended = connection.execute(sa.select(c.device_id, c.kind, c.subject).where(*standing)).all()
    if not ended:
        return
    connection.execute(sa.update(schema.fault).where(*standing).values(cleared_at=now))
    connection.execute(sa.insert(schema.released), [row._asdict() for row in ended])
    raise_version(connection)


def forget_faults(connection: Connection, device_ids: Collection[str], now: int) -> list[Row]:
    """Clear what detectors had found on machines that they no longer remember. Answers the rows."""
    c = schema.fault.c
    found = connection.execute(
        sa.select(c.id, c.device_id, c.ticket_id)
        .where(c.device_id.in_(device_ids), c.cleared_at.is_(None), c.kind != FaultKind.REPORTED)
    ).all()  # fmt: skip
    for fault in found:
        connection.execute(sa.update(schema.fault).where(c.id == fault.id).values(cleared_at=now))
    return list(found)


def mark_cleared(connection: Connection, ticket_id: int, now: int) -> bool:
    """Note on a ticket that its last fault has cleared; False while one is still open."""
    f, t = schema.fault.c, schema.ticket.c
    still = sa.select(f.id).where(f.ticket_id == ticket_id, f.cleared_at.is_(None)).limit(1)
    if connection.execute(still).first():
        return False
    connection.execute(sa.update(schema.ticket).where(t.id == ticket_id).values(cleared_at=now))
    return True


def mark_recurred(connection: Connection, ticket_id: int) -> None:
    """A fault came back while its ticket was still open: one ticket, with a count."""
    t = schema.ticket.c
    connection.execute(
        sa.update(schema.ticket).where(t.id == ticket_id).values(recurrences=t.recurrences + 1, cleared_at=None)
    )


def load_ticket(connection: Connection, ticket_id: int) -> Row | None:
    """A ticket for changing: on PostgreSQL its row is locked until the transaction ends."""
    return connection.execute(
        sa.select(schema.ticket).where(schema.ticket.c.id == ticket_id).with_for_update()
    ).first()  # fmt: skip


def ticket_of(connection: Connection, row: Row) -> Ticket:
    last = connection.execute(
        sa.select(sa.func.max(schema.step.c.happened_at)).where(schema.step.c.ticket_id == row.id)
    ).scalar()
    return Ticket(row.id, Status(row.status), row.technician_id, row.opened_at, last or row.opened_at, row.cleared_at)


def save_step(connection: Connection, before: Ticket, after: Ticket, step: Step, now: int) -> int:
    """Save where a step led, and the step itself."""
    connection.execute(
        sa.update(schema.ticket).where(schema.ticket.c.id == after.id).values(
            status=after.status, technician_id=after.technician_id, closed_at=None if after.status.is_open else now,
        )
    )  # fmt: skip
    return _insert(connection, schema.step, {
        "ticket_id": after.id, "event": step.verb, "from_status": before.status, "to_status": after.status,
        "actor": step.actor, "technician_id": step.technician_id, "note": step.note,
        "happened_at": step.happened_at, "recorded_at": now,
    })  # fmt: skip


# --- clocks ---


def insert_commitments(connection: Connection, commitments: Sequence[Commitment]) -> None:
    if commitments:
        connection.execute(sa.insert(schema.commitment), [
            {name: getattr(commitment, name) for name in Commitment.__slots__} for commitment in commitments
        ])  # fmt: skip


def _commitment(row: Row) -> Commitment:
    return Commitment(*(getattr(row, name) for name in Commitment.__slots__))


def load_commitments(connection: Connection, ticket_id: int) -> list[Commitment]:
    c = schema.commitment.c
    rows = connection.execute(sa.select(schema.commitment).where(c.ticket_id == ticket_id).order_by(c.due_at, c.kind))
    return [_commitment(row) for row in rows]


def crossing_commitments(connection: Connection, now: int, limit: int) -> list[Commitment]:
    """Running clocks that may have run into something by now and have not noted it."""
    c = schema.commitment.c
    warning_due = sa.and_(c.warned_at.is_(None), c.due_at - c.warn_before_s * 1000 <= now)
    breach_due = sa.and_(c.breached_at.is_(None), c.due_at <= now)
    rows = connection.execute(
        sa.select(schema.commitment)
        .where(c.met_at.is_(None), c.voided_at.is_(None), sa.or_(warning_due, breach_due))
        .order_by(c.due_at)
        .limit(limit)
    )
    return [_commitment(row) for row in rows]


def note_crossing(connection: Connection, commitment: Commitment, column: str, moment: int) -> bool:
    """Store a crossing once: False where it stands already, or the clock has stopped meanwhile."""
    c = schema.commitment.c
    changed = connection.execute(
        sa.update(schema.commitment)
        .where(*_is(commitment), c[column].is_(None), c.met_at.is_(None), c.voided_at.is_(None))
        .values({column: moment})
    )
    return changed.rowcount == 1


def _is(commitment: Commitment) -> tuple[sa.ColumnElement[bool], ...]:
    c = schema.commitment.c
    return c.ticket_id == commitment.ticket_id, c.kind == commitment.kind


def meet(connection: Connection, ticket_id: int, kinds: set[str], met_at: int) -> None:
    c = schema.commitment.c
    connection.execute(
        sa.update(schema.commitment)
        .where(c.ticket_id == ticket_id, c.kind.in_(kinds), c.met_at.is_(None), c.voided_at.is_(None))
        .values(met_at=met_at)
    )


def annul_breaches(connection: Connection, ticket_id: int, step: Step, now: int) -> bool:
    """A clock that was met in time, though that was recorded after its breach, was never broken: the breach is
    annulled by an amendment, and both are kept. True where there was such a clock."""
    c = schema.commitment.c
    untrue = c.ticket_id == ticket_id, c.breached_at.is_not(None), c.met_at <= c.due_at
    annulled = connection.execute(sa.select(c.standard_id, c.kind, c.breached_at, c.met_at).where(*untrue)).all()
    if not annulled:
        return False
    connection.execute(sa.update(schema.commitment).where(*untrue).values(breached_at=None))
    connection.execute(sa.insert(schema.amendment), [
        {**row._asdict(), "ticket_id": ticket_id, "recorded_at": now, "actor": step.actor} for row in annulled
    ])  # fmt: skip
    return True


def withdraw(connection: Connection, ticket_id: int, kinds: set[str]) -> None:
    """A stop was taken back: the clock runs again, with its original due time."""
    c = schema.commitment.c
    connection.execute(
        sa.update(schema.commitment).where(c.ticket_id == ticket_id, c.kind.in_(kinds)).values(met_at=None)
    )


def void(connection: Connection, ticket_id: int, now: int) -> None:
    """Nothing is promised any more; a breach that has happened stays."""
    c = schema.commitment.c
    connection.execute(
        sa.update(schema.commitment)
        .where(c.ticket_id == ticket_id, c.met_at.is_(None), c.voided_at.is_(None), c.breached_at.is_(None))
        .values(voided_at=now)
    )


# --- who hears of it ---


def insert_notices(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Into the outbox; the same cause is queued once."""
    insert_new(connection, schema.notice, rows)


def withdraw_notices(connection: Connection, ticket_id: int, kind: str) -> bool:
    """What has not been sent yet and is not true any more is not sent. True where there was such a notice."""
    c = schema.notice.c
    withdrawn = connection.execute(
        sa.update(schema.notice)
        .where(c.ticket_id == ticket_id, c.kind == kind, c.status == "queued")
        .values(status="withdrawn")
    )
    return withdrawn.rowcount > 0


def load_people(connection: Connection) -> list[Person]:
    """Everybody who may be told something."""
    c = schema.person.c
    rows = connection.execute(
        sa.select(c.id, c.role, c.email, c.lang, c.customer_id).where(c.disabled_at.is_(None)).order_by(c.id)
    )
    return [Person(*row) for row in rows]


def load_customer(connection: Connection, rental_id: int | None) -> Row | None:
    """The customer of a rental: id, name, email, lang."""
    c, r = schema.customer.c, schema.rental.c
    found: Row | None = connection.execute(
        sa.select(c.id, c.name, c.email, c.lang).join(schema.rental, r.customer_id == c.id).where(r.id == rental_id)
    ).first()
    return found


def profile_name(connection: Connection, device_id: str | None) -> str:
    c = schema.device.c
    return connection.execute(sa.select(c.profile).where(c.device_id == device_id)).scalar() or ""


def load_recurrences(connection: Connection, ticket_id: int) -> int:
    c = schema.ticket.c
    return connection.execute(sa.select(c.recurrences).where(c.id == ticket_id)).scalar() or 0


def note_change(connection: Connection, now: int, what: str, device_id: str | None, ticket_id: int | None) -> None:
    """For the pages that follow along."""
    connection.execute(sa.insert(schema.change).values(at=now, what=what, device_id=device_id, ticket_id=ticket_id))
