"""Faults, tickets, steps, commitments and notices: what the desk loads and saves, inside its caller's transaction."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.commitments import Commitment
from monitor.desk.notices import Person
from monitor.desk.tickets import Status, Step, Ticket, Verb
from monitor.desk.triage import Case, Fault, Standing, channels_of
from monitor.devices import FaultKind, Profile, Severity
from monitor.store import schema
from monitor.store.database import insert_new
from monitor.store.registry import raise_version

Row = sa.Row[*tuple[Any, ...]]


IDS_A_QUERY = 500


def load_standings(
    connection: Connection, device_ids: Collection[str], profiles: Mapping[str, Profile], now: int
) -> dict[str, Standing]:
    """What the desk knows of these machines: where they stand, who has them on hire now, what is open.

    On PostgreSQL their rows are locked until the transaction ends, for what is decided of a machine is decided by one
    process at a time.
    """
    found: dict[str, Standing] = {}
    ids = sorted(device_ids)
    for first in range(0, len(ids), IDS_A_QUERY):
        some = ids[first : first + IDS_A_QUERY]
        rentals, tickets = _rentals(connection, some, now), _open_tickets(connection, some)
        faults = _faults(connection, some, [case.id for cases in tickets.values() for case in cases])
        for row in _machines(connection, some):
            profile = profiles.get(row.profile)
            found[row.device_id] = Standing(
                row.device_id, row.site_id, bool(row.remote), rentals.get(row.device_id), profile,
                tuple(_fault(one, profile) for one in faults.get(row.device_id, {}).values()),
                tuple(tickets.get(row.device_id, ())),
            )  # fmt: skip
    return found


def _machines(connection: Connection, device_ids: Sequence[str]) -> Sequence[Row]:
    d, s = schema.device, schema.site.c
    return connection.execute(
        sa.select(d.c.device_id, d.c.profile, d.c.site_id, sa.func.coalesce(s.remote, False).label("remote"))
        .select_from(d.outerjoin(schema.site))
        .where(d.c.device_id.in_(device_ids))
        .order_by(d.c.device_id)
        .with_for_update(of=d)
    ).all()


def _rentals(connection: Connection, device_ids: Sequence[str], now: int) -> dict[str, int]:
    r = schema.rental.c
    running = r.starts_at <= now, sa.or_(r.ends_at.is_(None), r.ends_at > now)
    rows = connection.execute(
        sa.select(r.device_id, r.id).where(r.device_id.in_(device_ids), *running).order_by(r.starts_at)
    )
    return {row.device_id: row.id for row in rows}


def _open_tickets(connection: Connection, device_ids: Sequence[str]) -> dict[str, list[Case]]:
    t = schema.ticket.c
    rows = connection.execute(
        sa.select(t.id, t.device_id, t.kind, t.subject, t.severity, t.opened_at, t.status)
        .where(t.device_id.in_(device_ids), sa.text(schema.OPEN_TICKET)).order_by(t.id)
    )  # fmt: skip
    found: dict[str, list[Case]] = {}
    for row in rows:
        case = Case(
            row.id, FaultKind(row.kind), row.subject, Severity(row.severity), row.opened_at, row.status == Status.OPEN
        )
        found.setdefault(row.device_id, []).append(case)
    return found


def _faults(
    connection: Connection, device_ids: Sequence[str], ticket_ids: Sequence[int]
) -> dict[str, dict[tuple[str, str], Row]]:
    """Of each machine and key the latest fault that is open, or belongs to one of these tickets."""
    f = schema.fault
    rows = list(connection.execute(sa.select(f).where(f.c.device_id.in_(device_ids), f.c.cleared_at.is_(None))))
    if ticket_ids:
        latest = sa.select(sa.func.max(f.c.id)).where(f.c.ticket_id.in_(ticket_ids), f.c.cleared_at.is_not(None))
        rows += connection.execute(
            sa.select(f).where(f.c.id.in_(latest.group_by(f.c.device_id, f.c.kind, f.c.subject)))
        )
    found: dict[str, dict[tuple[str, str], Row]] = {}
    for row in sorted(rows, key=lambda row: row.id):
        found.setdefault(row.device_id, {})[row.kind, row.subject] = row
    return found


def _fault(row: Row, profile: Profile | None) -> Fault:
    evidence = row.evidence or {}
    return Fault(
        row.id, FaultKind(row.kind), row.subject, Severity(row.held_severity or row.severity), row.confidence,
        row.occurred_at, row.ticket_id, row.cleared_at is None,
        channels_of(row.kind, row.subject, evidence, profile), str(evidence.get("state", "")), evidence,
    )  # fmt: skip


def insert_fault(connection: Connection, **values: Any) -> int:
    return _insert(connection, schema.fault, values)


def insert_ticket(connection: Connection, **values: Any) -> int:
    return _insert(connection, schema.ticket, values)


def _insert(connection: Connection, table: sa.Table, values: dict[str, Any]) -> int:
    key = connection.execute(sa.insert(table).values(**values)).inserted_primary_key
    assert key is not None  # noqa: S101 (a table with a serial id always answers with it)
    return int(key[0])


def give_ticket(connection: Connection, fault_id: int, ticket_id: int, severity: Severity) -> bool:
    """A fault that was held has its ticket now. False where it has cleared meanwhile, or somebody was faster."""
    c = schema.fault.c
    given = connection.execute(
        sa.update(schema.fault)
        .where(c.id == fault_id, c.ticket_id.is_(None), c.cleared_at.is_(None))
        .values(ticket_id=ticket_id, severity=severity, held_severity=None, held_until=None)
    )
    return given.rowcount == 1


def strengthen_fault(connection: Connection, fault_id: int, **values: Any) -> None:
    """An open fault is surer, or graver, than it was."""
    connection.execute(sa.update(schema.fault).where(schema.fault.c.id == fault_id).values(**values))


def raise_ticket(connection: Connection, row: Row, step: str, now: int, **values: Any) -> int:
    """A ticket is named by another of its faults, or matters more: its row changes, and a step says what it was.
    Answers the step."""
    connection.execute(sa.update(schema.ticket).where(schema.ticket.c.id == row.id).values(**values))
    return _triage_step(connection, row, "raise", row.status, step, now)


def merge_ticket(connection: Connection, row: Row, into: int, now: int) -> None:
    """A ticket that nobody has touched gives its faults, and what is kept of them, to another, and ends."""
    for table in (schema.fault, schema.evidence_copy):
        connection.execute(sa.update(table).where(table.c.ticket_id == row.id).values(ticket_id=into))
    connection.execute(
        sa.update(schema.ticket).where(schema.ticket.c.id == row.id)
        .values(status=Status.CANCELLED, closed_at=now, merged_into=into)
    )  # fmt: skip
    void(connection, row.id, now)
    _triage_step(connection, row, "merge", Status.CANCELLED, f"#{into}", now)
    c = schema.notice.c
    connection.execute(
        sa.update(schema.notice).where(c.ticket_id == row.id, c.status == "queued").values(status="withdrawn")
    )


def _triage_step(connection: Connection, row: Row, event: str, status: str, note: str, now: int) -> int:
    return _insert(connection, schema.step, {
        "ticket_id": row.id, "event": event, "from_status": row.status, "to_status": status, "actor": "triage",
        "technician_id": None, "note": note, "happened_at": now, "recorded_at": now,
    })  # fmt: skip


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


def forget_faults(
    connection: Connection, kinds: Mapping[str, Collection[FaultKind]], now: int
) -> list[Row]:  # fmt: skip
    """Clear what detectors of these kinds had found, machine by machine. Answers the rows."""
    c = schema.fault.c
    forgotten: list[Row] = []
    ids = sorted(kinds)
    for first in range(0, len(ids), IDS_A_QUERY):
        some = ids[first : first + IDS_A_QUERY]
        found = connection.execute(
            sa.select(c.id, c.device_id, c.kind, c.subject, c.ticket_id)
            .where(c.device_id.in_(some), c.cleared_at.is_(None)).order_by(c.id)
        )  # fmt: skip
        forgotten += [row for row in found if row.kind in kinds[row.device_id]]
    for fault in forgotten:
        connection.execute(sa.update(schema.fault).where(c.id == fault.id).values(cleared_at=now))
    return forgotten


def note_service(connection: Connection, device_id: str, learnt: Collection[FaultKind], now: int) -> list[Row]:
    """A machine was repaired: it is learnt anew, and what was judged by the learnt is void. Answers those faults."""
    void_now = forget_faults(connection, {device_id: learnt}, now)
    for row in void_now:
        connection.execute(sa.insert(schema.released).values(device_id=device_id, kind=row.kind, subject=row.subject))
    connection.execute(sa.insert(schema.serviced).values(device_id=device_id, at=now))
    raise_version(connection)
    return void_now


def mark_cleared(connection: Connection, ticket_id: int, now: int) -> bool:
    """Note on a ticket that its last fault has cleared; False while one is still open."""
    f, t = schema.fault.c, schema.ticket.c
    still = sa.select(f.id).where(f.ticket_id == ticket_id, f.cleared_at.is_(None)).limit(1)
    if connection.execute(still).first():
        return False
    connection.execute(sa.update(schema.ticket).where(t.id == ticket_id).values(cleared_at=now))
    return True


def note_return(connection: Connection, ticket_id: int, fault_id: int, device_id: str, kind: str, subject: str) -> None:
    """A fault (`fault_id` 0: not recorded yet) joins a ticket that is still open. Where it was there before, that is a
    recurrence: the ticket counts those of its most restless fault."""
    f, t = schema.fault.c, schema.ticket.c
    before = connection.execute(
        sa.select(sa.func.count())
        .select_from(schema.fault)
        .where(
            f.ticket_id == ticket_id, f.id != fault_id, f.device_id == device_id, f.kind == kind, f.subject == subject
        )
    ).scalar_one()
    recurrences = sa.case((t.recurrences < before, before), else_=t.recurrences)
    connection.execute(
        sa.update(schema.ticket).where(t.id == ticket_id).values(recurrences=recurrences, cleared_at=None)
    )


def load_ticket(connection: Connection, ticket_id: int) -> Row | None:
    """A ticket for changing: on PostgreSQL its row is locked until the transaction ends."""
    return connection.execute(
        sa.select(schema.ticket).where(schema.ticket.c.id == ticket_id).with_for_update()
    ).first()  # fmt: skip


def ticket_of(connection: Connection, row: Row) -> Ticket:
    c = schema.step.c
    # What triage did is no step of a person: somebody may still record what they did before it.
    last = connection.execute(
        sa.select(sa.func.max(c.happened_at)).where(c.ticket_id == row.id, c.event.in_(list(Verb)))
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


def load_turns(connection: Connection, ticket_id: int) -> int:
    """How often faults have joined a ticket: a number that every return raises."""
    c = schema.fault.c
    return connection.execute(
        sa.select(sa.func.count()).select_from(schema.fault).where(c.ticket_id == ticket_id)
    ).scalar_one()


def note_change(connection: Connection, now: int, what: str, device_id: str | None, ticket_id: int | None) -> None:
    """For the pages that follow along."""
    connection.execute(sa.insert(schema.change).values(at=now, what=what, device_id=device_id, ticket_id=ticket_id))


# --- sites ---------------------------------------------------------------------------------------------------------


_LIVE = (
    schema.device.c.retired_at.is_(None), schema.device.c.revoked_at.is_(None),
    schema.device.c.first_heard_at.is_not(None), schema.device.c.connection.is_distinct_from("offline"),
)  # fmt: skip
"""A machine that ought to be heard: watched, heard before, and not gone with a goodbye."""


def live_machines(connection: Connection, site_ids: Collection[int], silent_before: int) -> dict[int, int]:
    """How many machines of each site ought to be heard, but those that were known to be silent before then."""
    d, f = schema.device.c, schema.fault.c
    long_silent = sa.exists().where(
        f.device_id == d.device_id, f.kind == FaultKind.SILENT.value, f.cleared_at.is_(None),
        f.opened_at < silent_before,
    )  # fmt: skip
    rows = connection.execute(
        sa.select(d.site_id, sa.func.count())
        .where(d.site_id.in_(site_ids), *_LIVE, ~long_silent).group_by(d.site_id)
    )  # fmt: skip
    return {row[0]: row[1] for row in rows}


def site_tickets(connection: Connection, site_ids: Collection[int] | None = None) -> dict[int, Row]:
    """The open ticket of each site as a whole: of these sites, or of all that stand and have not cleared."""
    t = schema.ticket.c
    which = t.cleared_at.is_(None) if site_ids is None else t.site_id.in_(site_ids)
    rows = connection.execute(
        sa.select(schema.ticket).where(
            t.device_id.is_(None), t.kind == FaultKind.SILENT.value, which, sa.text(schema.OPEN_TICKET)
        )
    )
    return {row.site_id: row for row in rows}


def falling_sites(connection: Connection) -> list[int]:
    """The sites with machines whose silence is held, because the whole site may be falling silent."""
    d, f = schema.device.c, schema.fault.c
    rows = connection.execute(
        sa.select(d.site_id).distinct().join(schema.fault, f.device_id == d.device_id)
        .where(f.kind == FaultKind.SILENT.value, d.site_id.is_not(None), sa.text(schema.HELD)).order_by(d.site_id)
    )  # fmt: skip
    return list(rows.scalars())


def lock_site(connection: Connection, site_id: int) -> None:
    """On PostgreSQL: one decision on a site at a time."""
    connection.execute(sa.select(schema.site.c.id).where(schema.site.c.id == site_id).with_for_update())


def silent_at(connection: Connection, site_id: int) -> tuple[int, list[Row]]:
    """How many machines of a site ought to be heard, and the open silences among them, each with its ticket."""
    d, f, t = schema.device.c, schema.fault.c, schema.ticket.c
    machines = connection.execute(sa.select(sa.func.count()).where(d.site_id == site_id, *_LIVE)).scalar_one()
    rows = connection.execute(
        sa.select(f.id, f.device_id, f.occurred_at, f.opened_at, f.ticket_id, f.held_until, t.kind, t.status,
                  t.device_id.label("ticket_of"))
        .join(schema.device, d.device_id == f.device_id)
        .outerjoin(schema.ticket, t.id == f.ticket_id)
        .where(d.site_id == site_id, *_LIVE, f.kind == FaultKind.SILENT.value, f.cleared_at.is_(None))
        .order_by(f.id)
    ).all()  # fmt: skip
    return machines, list(rows)


def course_of_outage(connection: Connection, ticket_id: int) -> tuple[int, list[Row], int]:
    """How many machines a site's ticket took along, the faults of those that are silent still, and when one of them
    last fell silent or came back."""
    f = schema.fault.c
    taken, changed_at = connection.execute(
        sa.select(sa.func.count(f.device_id.distinct()), sa.func.max(sa.func.coalesce(f.cleared_at, f.opened_at)))
        .where(f.ticket_id == ticket_id)
    ).one()  # fmt: skip
    silent = connection.execute(
        sa.select(schema.fault).where(f.ticket_id == ticket_id, f.cleared_at.is_(None)).order_by(f.id)
    ).all()
    return taken, list(silent), changed_at or 0


def due_faults(connection: Connection, now: int, limit: int) -> list[tuple[str, int]]:
    """(device, fault) of what has been held for long enough, on machines that have been heard since: what stands
    because nothing comes has not persisted. Silence needs nobody to be heard."""
    d, f = schema.device.c, schema.fault.c
    heard = sa.or_(
        f.kind == FaultKind.SILENT.value, d.last_heard_at.is_(None), d.last_heard_at >= f.held_until - HEARD_WITHIN_MS
    )
    rows = connection.execute(
        sa.select(f.device_id, f.id).join(schema.device, d.device_id == f.device_id)
        .where(f.held_until <= now, heard, sa.text(schema.HELD)).order_by(f.held_until, f.id).limit(limit)
    )  # fmt: skip
    return [(row.device_id, row.id) for row in rows]


HEARD_WITHIN_MS = 60_000
"""When a machine was last heard is known some seconds late, and some report once a minute."""


def move_fault(connection: Connection, fault_id: int, ticket_id: int) -> None:
    """A fault goes from one ticket to another, with what is kept of it."""
    f, e = schema.fault.c, schema.evidence_copy.c
    connection.execute(sa.update(schema.fault).where(f.id == fault_id).values(ticket_id=ticket_id))
    connection.execute(sa.update(schema.evidence_copy).where(e.fault_id == fault_id).values(ticket_id=ticket_id))
