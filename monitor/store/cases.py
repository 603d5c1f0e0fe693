"""Faults, tickets, steps, commitments and notices: what the desk loads and saves, inside its caller's transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.choices import Choice, shipped_choices
from monitor.desk.commitments import Commitment, Ledger, Pause, next_at
from monitor.desk.notices import Person
from monitor.desk.tickets import DESK, Advance, Resolution, Status, Step, Taken, Ticket, Verb, ended_at, moved, turns
from monitor.desk.triage import Case, Fault, Standing, channels_of
from monitor.devices import FaultKind, Profile, Severity
from monitor.store import schema
from monitor.store.database import insert_new, runs
from monitor.store.registry import raise_version

Row = sa.Row[*tuple[Any, ...]]


IDS_A_QUERY = 500


def is_retired(connection: Connection, device_id: str) -> bool:
    """Whether a machine left the fleet."""
    c = schema.device.c
    return bool(connection.execute(sa.select(c.retired_at.is_not(None)).where(c.device_id == device_id)).scalar())


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
        # The lock comes first: what is open is read as the one before us left it.
        machines = _machines(connection, some, now)
        tickets = _open_tickets(connection, some)
        faults = _faults(connection, some, [case.id for cases in tickets.values() for case in cases])
        for row in machines:
            profile = profiles.get(row.profile)
            found[row.device_id] = Standing(
                row.device_id, row.site_id, bool(row.remote), row.rental_id, profile,
                tuple(_fault(one, profile) for one in faults.get(row.device_id, {}).values()),
                tuple(tickets.get(row.device_id, ())), timezone=row.timezone or "", window_until=row.window_until,
            )  # fmt: skip
    return found


def _machines(connection: Connection, device_ids: Sequence[str], now: int) -> Sequence[Row]:
    """These machines, each with its running rental, and until when it is in declared maintenance or transport."""
    return connection.execute(_machines_query(), {"ids": device_ids, "now": now}).all()


@cache
def _machines_query() -> sa.Select[Any]:
    d, s, r, w = schema.device, schema.site.c, schema.rental.c, schema.maintenance_window.c
    now: sa.BindParameter[int] = sa.bindparam("now")
    rental = sa.select(r.id).where(r.device_id == d.c.device_id, runs(r, now)).order_by(r.starts_at.desc()).limit(1)
    window = sa.select(sa.func.max(w.ends_at)).where(
        sa.or_(w.device_id == d.c.device_id, w.site_id == d.c.site_id), w.starts_at <= now, w.ends_at > now,
        w.cancelled_at.is_(None),
    )  # fmt: skip
    return (
        sa.select(
            d.c.device_id, d.c.profile, d.c.site_id, sa.func.coalesce(s.remote, False).label("remote"), s.timezone,
            rental.scalar_subquery().label("rental_id"), window.scalar_subquery().label("window_until"),
        )
        .select_from(d.outerjoin(schema.site))
        .where(d.c.device_id.in_(sa.bindparam("ids", expanding=True)))
        .order_by(d.c.device_id)
        .with_for_update(of=d)
    )  # fmt: skip


def _open_tickets(connection: Connection, device_ids: Sequence[str]) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {}
    for row in connection.execute(_open_tickets_query(), {"ids": device_ids}):
        case = Case(
            row.id, FaultKind(row.kind), row.subject, Severity(row.severity), row.opened_at, row.status == Status.OPEN
        )
        found.setdefault(row.device_id, []).append(case)
    return found


@cache
def _open_tickets_query() -> sa.Select[Any]:
    t = schema.ticket.c
    return (
        sa.select(t.id, t.device_id, t.kind, t.subject, t.severity, t.opened_at, t.status)
        .where(t.device_id.in_(sa.bindparam("ids", expanding=True)), sa.text(schema.OPEN_TICKET)).order_by(t.id)
    )  # fmt: skip


def _faults(
    connection: Connection, device_ids: Sequence[str], ticket_ids: Sequence[int]
) -> dict[str, dict[tuple[str, str], Row]]:
    """Of each machine and key the latest fault that is open, or belongs to one of these tickets."""
    f = schema.fault
    rows = list(connection.execute(_open_faults_query(), {"ids": device_ids}))
    if ticket_ids:
        latest = sa.select(sa.func.max(f.c.id)).where(f.c.ticket_id.in_(ticket_ids), f.c.cleared_at.is_not(None))
        rows += connection.execute(
            sa.select(f).where(f.c.id.in_(latest.group_by(f.c.device_id, f.c.kind, f.c.subject)))
        )
    found: dict[str, dict[tuple[str, str], Row]] = {}
    for row in sorted(rows, key=lambda row: row.id):
        found.setdefault(row.device_id, {})[row.kind, row.subject] = row
    return found


@cache
def _open_faults_query() -> sa.Select[Any]:
    f = schema.fault
    return sa.select(f).where(f.c.device_id.in_(sa.bindparam("ids", expanding=True)), f.c.cleared_at.is_(None))


def _fault(row: Row, profile: Profile | None) -> Fault:
    evidence = row.evidence or {}
    return Fault(
        row.id, FaultKind(row.kind), row.subject, Severity(row.held_severity or row.severity), row.confidence,
        row.occurred_at, row.ticket_id, row.cleared_at is None,
        channels_of(row.kind, row.subject, evidence, profile), str(evidence.get("state", "")), evidence,
    )  # fmt: skip


def insert_fault(connection: Connection, **values: Any) -> int:
    return _insert(connection, schema.fault, values)


def insert_ticket(connection: Connection, **values: Any) -> Row:
    return connection.execute(sa.insert(schema.ticket).returning(schema.ticket), values).one()


def _insert(connection: Connection, table: sa.Table, values: dict[str, Any]) -> int:
    key = connection.execute(sa.insert(table), values).inserted_primary_key
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
    revision = schema.ticket.c.revision + 1
    connection.execute(sa.update(schema.ticket).where(schema.ticket.c.id == row.id).values(**values, revision=revision))
    return note_step(connection, row, "raise", "triage", step, now)


def merge_ticket(connection: Connection, row: Row, into: int, now: int) -> None:
    """A ticket that nobody has touched gives its faults, and what is kept of them, to another, and ends."""
    give_faults(connection, row.id, into)
    connection.execute(
        sa.update(schema.ticket).where(schema.ticket.c.id == row.id)
        .values(status=Status.CANCELLED, closed_at=now, merged_into=into, revision=schema.ticket.c.revision + 1)
    )  # fmt: skip
    note_step(connection, row, "merge", "triage", f"#{into}", now, status=Status.CANCELLED, other_id=into)


def give_faults(connection: Connection, ticket_id: int, into: int) -> None:
    """All faults of a ticket, with what is kept of them, go to another; its notices that wait are not sent, but those
    of a promise that was broken."""
    for table in (schema.fault, schema.evidence_copy):
        connection.execute(sa.update(table).where(table.c.ticket_id == ticket_id).values(ticket_id=into))
    f, t, c = schema.fault.c, schema.ticket.c, schema.notice.c
    stands = sa.exists().where(f.ticket_id == into, f.cleared_at.is_(None))
    connection.execute(sa.update(schema.ticket).where(t.id == into, stands).values(cleared_at=None))
    connection.execute(
        sa.update(schema.notice)
        .where(c.ticket_id == ticket_id, c.status == "queued", c.kind != "breach").values(status="withdrawn")
    )  # fmt: skip


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


def lock_tickets(connection: Connection, ticket_ids: Collection[int]) -> None:
    """On PostgreSQL: nobody else decides on these tickets or their machines before we are done. Everybody takes the
    machines first, and each by its number, so that no two wait for one another. SQLite has one writer anyway."""
    if connection.dialect.name != "postgresql":
        return
    t, d = schema.ticket.c, schema.device.c
    of = sa.select(t.device_id).where(t.id.in_(ticket_ids))
    connection.execute(sa.select(d.device_id).where(d.device_id.in_(of)).order_by(d.device_id).with_for_update())
    connection.execute(sa.select(t.id).where(t.id.in_(ticket_ids)).order_by(t.id).with_for_update())


def load_ticket(connection: Connection, ticket_id: int) -> Row | None:
    """A ticket for changing: on PostgreSQL its row is locked until the transaction ends."""
    return connection.execute(
        sa.select(schema.ticket).where(schema.ticket.c.id == ticket_id).with_for_update()
    ).first()  # fmt: skip


def ticket_of(connection: Connection, row: Row) -> Ticket:
    taken = load_taken(connection, row)
    # What triage or the desk itself did is no step of a person, and what moved nothing (a diagnosis that was written
    # meanwhile, a link) is none on the way: somebody may still record what they did before it.
    people = [step.happened_at for step in taken if step.verb in set(Verb) and step.actor != DESK and moved(step)]
    last_step_at = max(people, default=row.opened_at)
    return Ticket(
        row.id, Status(row.status), row.technician_id, row.opened_at, last_step_at, row.cleared_at,
        Status(row.resumes_to) if row.resumes_to else None, row.closed_at or row.resolved_at, row.merged_into,
        row.resolved_at,
        tuple(step for step in taken if step.verb in set(Verb) - {Verb.LINK}),
    )  # fmt: skip


def load_taken(connection: Connection, row: Row) -> list[Taken]:
    """The steps of a ticket since it was opened or last reopened, in the order of recording, but the corrected ones and
    the corrections themselves."""
    c = schema.step.c
    rows = connection.execute(
        sa.select(schema.step)
        .where(c.ticket_id == row.id, c.turn == row.turn, c.corrected_by.is_(None), c.event != Verb.CORRECT)
        .order_by(c.id)
    )
    return [
        Taken(one.id, one.event, Status(one.from_status), Status(one.to_status), one.happened_at, one.recorded_at,
              one.technician_id, one.note, one.actor)
        for one in rows
    ]  # fmt: skip


def save_step(connection: Connection, before: Ticket, advance: Advance, step: Step, turn: int, now: int) -> int:
    """Save where a step led, and the step itself; a correction marks the step that it takes back."""
    after = advance.ticket
    values: dict[str, Any] = {
        "status": after.status, "technician_id": after.technician_id, "resumes_to": after.resumes_to, "turn": turn,
        "cleared_at": after.cleared_at, "merged_into": after.merged_into, "revision": schema.ticket.c.revision + 1,
    }  # fmt: skip
    if step.visit_at is not None or after.technician_id != before.technician_id:
        values["visit_at"] = step.visit_at
    if after.status.is_open or before.status.is_open:
        values["closed_at"] = None if after.status.is_open else now
    if step.verb is not Verb.LINK:
        values["resolved_at"] = _resolved_at(before, after, now)
    connection.execute(sa.update(schema.ticket).where(schema.ticket.c.id == after.id).values(**values))
    step_id = _insert(connection, schema.step, {
        "ticket_id": after.id, "event": step.verb, "from_status": before.status, "to_status": after.status,
        "actor": step.actor, "technician_id": step.technician_id, "note": step.note, "reason": step.reason,
        "other_id": step.other_id, "turn": turn, "happened_at": step.happened_at, "recorded_at": now,
    })  # fmt: skip
    if advance.undoes is not None:
        connection.execute(
            sa.update(schema.step).where(schema.step.c.id == advance.undoes.id).values(corrected_by=step_id)
        )
    return step_id


def _resolved_at(before: Ticket, after: Ticket, now: int) -> int | None:
    """Since when a ticket counts as done."""
    if after.status.is_open and after.status is not Status.RESOLVED:
        return None
    return before.resolved_at or now


def note_step(
    connection: Connection, row: Row, event: str, actor: str, note: str, now: int, *, status: str | None = None,
    happened_at: int | None = None, **values: Any,
) -> int:  # fmt: skip
    """Note a step that no person took: what triage, the desk's clocks or the machine itself did. Answers its id."""
    return _insert(connection, schema.step, {
        "ticket_id": row.id, "event": event, "from_status": row.status, "to_status": status or row.status,
        "actor": actor, "technician_id": None, "note": note, "turn": row.turn,
        "happened_at": now if happened_at is None else happened_at, "recorded_at": now, **values,
    })  # fmt: skip


def resolve(connection: Connection, ticket_id: int, resolution: Resolution | None) -> None:
    """What a ticket turned out to be; None: that was taken back."""
    found = resolution
    connection.execute(sa.update(schema.ticket).where(schema.ticket.c.id == ticket_id).values(
        resolution_cause=found.cause if found else None, resolution_action=found.action if found else None,
        borne_by=found.borne_by if found else None, parts=list(found.parts) if found else None,
        outcome=found.outcome if found else None,
    ))  # fmt: skip


def note_report(connection: Connection, row: Row, origin: str, by: str) -> None:
    """Who told us first, where nobody had before, of what we had not found ourselves."""
    if row.kind == FaultKind.REPORTED and not row.reported_by:
        connection.execute(
            sa.update(schema.ticket).where(schema.ticket.c.id == row.id).values(origin=origin, reported_by=by)
        )


def give_rental(connection: Connection, ticket_id: int, rental_id: int | None) -> None:
    """A ticket is this rental's now."""
    c = schema.ticket.c
    connection.execute(
        sa.update(schema.ticket).where(c.id == ticket_id).values(rental_id=rental_id, revision=c.revision + 1)
    )


def was_told(connection: Connection, row: Row, text: str, origin: str, since: int) -> bool:
    """Whether the same words came in the same way since then."""
    c = schema.step.c
    found = sa.select(c.id).where(
        c.ticket_id == row.id, c.event == "report", c.note == text, c.reason == origin, c.recorded_at >= since
    )
    return connection.execute(found.limit(1)).first() is not None


def judge(connection: Connection, ticket_id: int, outcome: str) -> None:
    connection.execute(sa.update(schema.ticket).where(schema.ticket.c.id == ticket_id).values(outcome=outcome))


def choices(connection: Connection, which: str) -> list[Choice]:
    """One of the lists that operators keep: what is in use of it; as it ships, where nobody has changed it."""
    c = schema.choice.c
    rows = connection.execute(sa.select(schema.choice).where(c.list == which).order_by(c.position, c.id)).all()
    if not rows:
        return list(shipped_choices()[which])
    return [Choice(row.code, row.title_en, row.title_zh) for row in rows if row.retired_at is None]


def link_tickets(connection: Connection, ticket_id: int, other_id: int, kind: str, actor: str, now: int) -> None:
    """Two tickets belong together; linked already, they stay as they are."""
    insert_new(connection, schema.ticket_link, [
        {"ticket_id": ticket_id, "other_id": other_id, "kind": kind, "at": now, "actor": actor}
    ])  # fmt: skip


def reopenable(connection: Connection, row: Row) -> int | None:
    """The ticket that is open now for what this one was, if there is one."""
    t = schema.ticket.c
    return connection.execute(
        sa.select(t.id).where(
            t.device_id == row.device_id, t.kind == row.kind, t.subject == row.subject, t.id != row.id,
            sa.text(schema.OPEN_TICKET),
        )
    ).scalar()  # fmt: skip


def ended_lately(connection: Connection, device_id: str, kind: str, subject: str, since: int) -> int | None:
    """The latest ticket of the same fault that was resolved or closed since then: the fault has come back."""
    wanted = {"device_id": device_id, "kind": kind, "subject": subject, "since": since}
    return connection.execute(_ended_lately(), wanted).scalar()


@cache
def _ended_lately() -> sa.Select[Any]:
    t = schema.ticket.c
    same = [t[name] == sa.bindparam(name) for name in ("device_id", "kind", "subject")]
    ended = t.status.in_(("resolved", "closed")), t.resolved_at >= sa.bindparam("since")
    return sa.select(t.id).where(*same, *ended, t.merged_into.is_(None)).order_by(t.id.desc()).limit(1)


# --- waiting ---


def begin_pause(connection: Connection, ticket_id: int, turn: int, step: Step, now: int, *, stops_clocks: bool) -> None:
    connection.execute(sa.insert(schema.pause).values(
        ticket_id=ticket_id, turn=turn, reason=step.reason, actor=step.actor, stops_clocks=stops_clocks,
        from_at=step.happened_at, until_at=step.until_at, recorded_at=now,
    ))  # fmt: skip


def end_pause(connection: Connection, ticket_id: int, to_at: int) -> None:
    c = schema.pause.c
    connection.execute(
        sa.update(schema.pause).where(c.ticket_id == ticket_id, c.to_at.is_(None))
        .values(to_at=sa.case((c.from_at > to_at, c.from_at), else_=to_at))
    )  # fmt: skip


def pauses_over(connection: Connection, now: int, limit: int) -> list[int]:
    """The tickets that were to wait until now at the latest."""
    c = schema.pause.c
    rows = connection.execute(
        sa.select(c.ticket_id).where(c.to_at.is_(None), c.until_at <= now).order_by(c.until_at).limit(limit)
    )
    return list(rows.scalars())


def pause_over(connection: Connection, ticket_id: int, now: int) -> int | None:
    """Until when a ticket was to wait, where that is over and it still waits."""
    c = schema.pause.c
    return connection.execute(
        sa.select(c.until_at).where(c.ticket_id == ticket_id, c.to_at.is_(None), c.until_at <= now)
    ).scalar()


# --- what time brings ---


class Waiting(NamedTuple):
    """Whether anything is due of each kind: courses of the ledger, sites that fall silent or are, faults that were
    held, tickets whose machine was taken on hire, waits that are over, clocks that run into something."""

    courses: bool
    sites: bool
    holds: bool
    hired: bool
    waits: bool
    clocks: bool


def waiting(connection: Connection, now: int) -> Waiting:
    """What a tick has to look at: one question, for most ticks find nothing."""
    return Waiting(*map(bool, connection.execute(_waiting(), {"now": now}).one()))


@cache
def _waiting() -> sa.Select[*tuple[Any, ...]]:
    now: sa.BindParameter[int] = sa.bindparam("now")
    f, t, p, c = schema.fault.c, schema.ticket.c, schema.pause.c, schema.commitment.c
    silent = f.kind == FaultKind.SILENT.value
    site = t.device_id.is_(None), t.kind == FaultKind.SILENT.value, t.cleared_at.is_(None), sa.text(schema.OPEN_TICKET)
    return sa.select(
        sa.exists().where(schema.ledger_due.c.due_at <= now),
        sa.or_(sa.exists().where(silent, sa.text(schema.HELD)), sa.exists().where(*site)),
        sa.exists().where(f.held_until <= now, sa.text(schema.HELD)),
        sa.select(t.id).where(sa.text(schema.UNHIRED)).exists(),
        sa.exists().where(p.to_at.is_(None), p.until_at <= now),
        sa.exists().where(c.next_at <= now),
    )


# --- clocks ---


_CLOCK = tuple(Commitment.__slots__)


def insert_commitments(connection: Connection, commitments: Sequence[Commitment]) -> None:
    if commitments:
        connection.execute(sa.insert(schema.commitment), [_columns(commitment) for commitment in commitments])


def _columns(commitment: Commitment) -> dict[str, Any]:
    named = {name: getattr(commitment, name) for name in _CLOCK}
    return named | {"warns": list(commitment.warns), "next_at": next_at(commitment)}


def _commitment(row: Row) -> Commitment:
    return Commitment(**{name: getattr(row, name) for name in _CLOCK} | {"warns": tuple(row.warns)})


def load_commitments(connection: Connection, ticket_id: int) -> list[Commitment]:
    """Its clocks, those of earlier turns too, the first due first."""
    c = schema.commitment.c
    rows = connection.execute(sa.select(schema.commitment).where(c.ticket_id == ticket_id).order_by(c.due_at, c.kind))
    return [_commitment(row) for row in rows]


def load_ledger(connection: Connection, row: Row) -> Ledger:
    """What the clocks of a ticket's present turn are reckoned from."""
    c = schema.pause.c
    pauses = connection.execute(
        sa.select(c.from_at, c.to_at, c.reason, c.actor, c.stops_clocks, c.until_at)
        .where(c.ticket_id == row.id, c.turn == row.turn).order_by(c.from_at, c.id)
    )  # fmt: skip
    taken = load_taken(connection, row)
    return Ledger(tuple(turns(taken)), tuple(Pause(*one) for one in pauses), ended_at(taken))


def save_commitment(connection: Connection, commitment: Commitment) -> None:
    """Store what a clock says now."""
    connection.execute(sa.update(schema.commitment).where(*_is(commitment)).values(**_columns(commitment)))


def save_met(connection: Connection, commitment: Commitment) -> None:
    connection.execute(
        sa.update(schema.commitment).where(*_is(commitment))
        .values(met_at=commitment.met_at, paused_since=None, next_at=None)
    )  # fmt: skip


def note_due(connection: Connection, ticket_id: int) -> None:
    """Keep with a ticket when the first of its running clocks is due, after they have changed."""
    connection.execute(_note_due(), {"of": ticket_id})


@cache
def _note_due() -> sa.Update:
    c, t = schema.commitment.c, schema.ticket.c
    first = sa.select(sa.func.min(c.due_at)).where(
        c.ticket_id == t.id, c.turn == t.turn, c.met_at.is_(None), c.voided_at.is_(None)
    ).scalar_subquery()  # fmt: skip
    ended = t.status.in_((Status.CLOSED, Status.CANCELLED))
    due_at = sa.case((ended, sa.null()), else_=first)
    return sa.update(schema.ticket).where(t.id == sa.bindparam("of")).values(due_at=due_at)


def crossing_commitments(connection: Connection, now: int, limit: int) -> list[Commitment]:
    """Running clocks that have run into something by now and have not noted it."""
    c = schema.commitment.c
    rows = connection.execute(
        sa.select(schema.commitment).where(c.next_at <= now).order_by(c.next_at, c.id).limit(limit)
    )
    return [_commitment(row) for row in rows]


def note_crossing(connection: Connection, commitment: Commitment, noted: Commitment) -> bool:
    """Store what a clock has run into (`noted` beside what it was), once: False where that stands already, or the
    clock has stopped or moved meanwhile."""
    c = schema.commitment.c
    changed = connection.execute(
        sa.update(schema.commitment)
        .where(
            *_is(commitment), c.due_at == commitment.due_at, c.warned_at.is_not_distinct_from(commitment.warned_at),
            c.breached_at.is_not_distinct_from(commitment.breached_at), sa.text(schema.RUNNING),
        )
        .values(warned_at=noted.warned_at, breached_at=noted.breached_at, next_at=next_at(noted))
    )  # fmt: skip
    return changed.rowcount == 1


def _is(commitment: Commitment) -> tuple[sa.ColumnElement[bool], ...]:
    c = schema.commitment.c
    return c.ticket_id == commitment.ticket_id, c.kind == commitment.kind, c.turn == commitment.turn


def amend(connection: Connection, was: Commitment, commitment: Commitment, actor: str, now: int) -> None:
    """A breach turned out not to be one: what was said, and what is true instead, are both kept."""
    connection.execute(sa.insert(schema.amendment).values(
        ticket_id=was.ticket_id, standard_id=was.standard_id, kind=was.kind, breached_at=was.breached_at,
        met_at=commitment.met_at, due_at=commitment.due_at, recorded_at=now, actor=actor,
    ))  # fmt: skip


# --- who hears of it ---


def withdraw_notices(connection: Connection, ticket_id: int, kind: str, name: str = "") -> bool:
    """What has not been sent yet and is not true any more is not sent: of this kind, or of these only the one of this
    name. True where there was such a notice. Should it come true again, it is told."""
    c = schema.notice.c
    withdrawn = connection.execute(
        sa.update(schema.notice)
        .where(c.ticket_id == ticket_id, c.kind == kind, c.status == "queued",
               c.cause.startswith(f"{kind}:{ticket_id}:{name}:" if name else "", autoescape=True))
        .values(status="withdrawn", cause=c.cause + "~" + sa.cast(c.id, sa.String))
    )  # fmt: skip
    return withdrawn.rowcount > 0


def load_people(connection: Connection) -> list[Person]:
    """Everybody who may be told something."""
    return [Person(*row) for row in connection.execute(_people_query())]


@cache
def _people_query() -> sa.Select[Any]:
    c = schema.person.c
    reached = sa.exists().where(schema.contact.c.person_id == c.id)
    told = sa.select(c.id, c.role, c.email, c.lang, c.customer_id, sa.false(), reached)
    return told.where(c.disabled_at.is_(None)).order_by(c.id)


def about(connection: Connection, row: Row) -> Row:
    """What notices say of a ticket beside what it is: its site, its technician's name, its machine's profile, and its
    customer, each null where there is none."""
    named = {name: getattr(row, name) for name in ("site_id", "technician_id", "device_id", "rental_id")}
    return connection.execute(_about_query(), named).one()


@cache
def _about_query() -> sa.Select[Any]:
    s, p, d, r, c = (table.c for table in (schema.site, schema.person, schema.device, schema.rental, schema.customer))
    return (
        sa.select(
            s.name.label("site"), s.remote, s.timezone, p.name.label("technician"), d.profile,
            c.id.label("customer_id"), c.name.label("customer"), c.email, c.lang, c.link_epoch,
        )
        .select_from(sa.select(sa.literal(1)).subquery())
        .outerjoin(schema.site, s.id == sa.bindparam("site_id"))
        .outerjoin(schema.person, p.id == sa.bindparam("technician_id"))
        .outerjoin(schema.device, d.device_id == sa.bindparam("device_id"))
        .outerjoin(schema.rental, r.id == sa.bindparam("rental_id"))
        .outerjoin(schema.customer, c.id == r.customer_id)
    )  # fmt: skip


def profile_name(connection: Connection, device_id: str | None) -> str:
    c = schema.device.c
    return connection.execute(sa.select(c.profile).where(c.device_id == device_id)).scalar() or ""


def given_back(connection: Connection, row: Row) -> int:
    """How often technicians gave a ticket back since it was opened or last reopened."""
    c = schema.step.c
    return connection.execute(
        sa.select(sa.func.count()).select_from(schema.step)
        .where(c.ticket_id == row.id, c.turn == row.turn, c.event == Verb.DECLINE, c.corrected_by.is_(None))
    ).scalar_one()  # fmt: skip


def load_turns(connection: Connection, ticket_id: int) -> int:
    """How often faults have joined a ticket: a number that every return raises."""
    c = schema.fault.c
    return connection.execute(
        sa.select(sa.func.count()).select_from(schema.fault).where(c.ticket_id == ticket_id)
    ).scalar_one()


def tickets_at_work(connection: Connection, device_id: str) -> list[int]:
    """The tickets of a machine that somebody is to see to still."""
    t = schema.ticket.c
    ended = t.status.in_((Status.RESOLVED, Status.CLOSED, Status.CANCELLED))
    return list(connection.execute(sa.select(t.id).where(t.device_id == device_id, ~ended).order_by(t.id)).scalars())


ASKED = "asked"
"""What a change is called by which somebody was asked to take a ticket, or sent: a phone that shows other jobs follows
it too."""


def note_change(connection: Connection, now: int, what: str, device_id: str | None, ticket_id: int | None) -> None:
    """For the pages that follow along."""
    values = {"at": now, "what": what, "device_id": device_id, "ticket_id": ticket_id}
    connection.execute(sa.insert(schema.change), values)


def note_changes(connection: Connection, now: int, what: str, device_ids: Iterable[str]) -> None:
    """The same of many machines at once."""
    rows = [{"at": now, "what": what, "device_id": one, "ticket_id": None} for one in device_ids]
    if rows:
        connection.execute(sa.insert(schema.change), rows)


# --- sites ---------------------------------------------------------------------------------------------------------


_LIVE = (
    schema.device.c.retired_at.is_(None), schema.device.c.revoked_at.is_(None),
    schema.device.c.first_heard_at.is_not(None), schema.device.c.connection.is_distinct_from("offline"),
)  # fmt: skip
"""A machine that ought to be heard: watched, heard before, and not gone with a goodbye."""


def _declared(now: int) -> sa.ColumnElement[bool]:
    """A machine that is in declared maintenance or transport, where silence is no news."""
    d, w = schema.device.c, schema.maintenance_window.c
    return sa.exists().where(
        sa.or_(w.device_id == d.device_id, w.site_id == d.site_id), w.starts_at <= now, w.ends_at > now,
        w.cancelled_at.is_(None),
    )  # fmt: skip


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


def falling_sites(connection: Connection, now: int) -> list[int]:
    """The sites with machines whose silence is held, because the whole site may be falling silent."""
    d, f = schema.device.c, schema.fault.c
    rows = connection.execute(
        sa.select(d.site_id).distinct().join(schema.fault, f.device_id == d.device_id)
        .where(f.kind == FaultKind.SILENT.value, d.site_id.is_not(None), sa.text(schema.HELD), ~_declared(now))
        .order_by(d.site_id)
    )  # fmt: skip
    return list(rows.scalars())


def lock_site(connection: Connection, site_id: int) -> None:
    """On PostgreSQL: one decision on a site at a time."""
    connection.execute(sa.select(schema.site.c.id).where(schema.site.c.id == site_id).with_for_update())


def silent_at(connection: Connection, site_id: int, now: int) -> tuple[int, list[Row]]:
    """How many machines of a site ought to be heard, and the open silences among them, each with its ticket."""
    d, f, t = schema.device.c, schema.fault.c, schema.ticket.c
    live = (d.site_id == site_id, *_LIVE, ~_declared(now))
    machines = connection.execute(sa.select(sa.func.count()).where(*live)).scalar_one()
    rows = connection.execute(
        sa.select(f.id, f.device_id, f.occurred_at, f.opened_at, f.ticket_id, f.held_until, t.kind, t.status,
                  t.device_id.label("ticket_of"))
        .join(schema.device, d.device_id == f.device_id)
        .outerjoin(schema.ticket, t.id == f.ticket_id)
        .where(*live, f.kind == FaultKind.SILENT.value, f.cleared_at.is_(None))
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


def hired_since(connection: Connection, now: int, limit: int) -> list[int]:
    """Open tickets of no rental, whose machine is on hire now."""
    t, r = schema.ticket.c, schema.rental.c
    hired = sa.exists().where(r.device_id == t.device_id, runs(r, now))
    rows = connection.execute(sa.select(t.id).where(sa.text(schema.UNHIRED), hired).order_by(t.id).limit(limit))
    return list(rows.scalars())


def due_faults(connection: Connection, now: int, limit: int) -> list[tuple[str, int, int]]:
    """(device, fault, opened_at) of what has been held for long enough, on machines that have been heard since: what
    stands because nothing comes has not persisted. Silence needs nobody to be heard."""
    d, f = schema.device.c, schema.fault.c
    heard = sa.or_(
        f.kind == FaultKind.SILENT.value, d.last_heard_at.is_(None), d.last_heard_at >= f.held_until - HEARD_WITHIN_MS
    )
    rows = connection.execute(
        sa.select(f.device_id, f.id, f.opened_at).join(schema.device, d.device_id == f.device_id)
        .where(f.held_until <= now, heard, sa.text(schema.HELD)).order_by(f.held_until, f.id).limit(limit)
    )  # fmt: skip
    return [(row.device_id, row.id, row.opened_at) for row in rows]


def hold_fault(connection: Connection, fault_id: int, until: int | None) -> None:
    """A fault that was due to have its ticket is held on; None: until something changes."""
    connection.execute(sa.update(schema.fault).where(schema.fault.c.id == fault_id).values(held_until=until))


HEARD_WITHIN_MS = 60_000
"""When a machine was last heard is known some seconds late, and some report once a minute."""


def move_fault(connection: Connection, fault_id: int, ticket_id: int) -> None:
    """A fault goes from one ticket to another, with what is kept of it."""
    f, e = schema.fault.c, schema.evidence_copy.c
    connection.execute(sa.update(schema.fault).where(f.id == fault_id).values(ticket_id=ticket_id))
    connection.execute(sa.update(schema.evidence_copy).where(e.fault_id == fault_id).values(ticket_id=ticket_id))
