"""The search for somebody who takes a ticket, and what the technicians carry: rows for monitor/engine/paging.py and
dispatching.py, inside their caller's transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.dispatch import Decline, Load, Position, position_of
from monitor.desk.escalation import Move, Phase, What, Who
from monitor.desk.feasibility import FORESEEN, Spare
from monitor.desk.tickets import Status
from monitor.devices import Severity
from monitor.store import schema
from monitor.store.database import insert_new, runs, upsert

Row = sa.Row[*tuple[Any, ...]]

CARRIED = (Status.DISPATCHED, Status.ACCEPTED, Status.ON_THE_WAY, Status.ON_SITE, Status.REPAIRING)
MOST_SPARES = 500
BEFORE_ANY_ROUND = 0
"""The round of what was done about a ticket that nobody was sought for."""


@dataclass(frozen=True, slots=True)
class Search:
    """How the search stands (a row of `paging`). `next_at` None: until something happens there is nothing to do."""

    ticket_id: int
    round: int
    phase: Phase
    since_at: int
    named_id: int | None = None
    next_at: int | None = None


def load(connection: Connection, ticket_id: int) -> Search | None:
    row = connection.execute(sa.select(schema.paging).where(schema.paging.c.ticket_id == ticket_id)).first()
    if row is None:
        return None
    return Search(row.ticket_id, row.round, Phase(row.phase), row.since_at, row.named_id, row.next_at)


def save(connection: Connection, search: Search) -> None:
    values = {name: getattr(search, name) for name in Search.__slots__}
    upsert(connection, schema.paging, [values])


def due(connection: Connection, now: int, limit: int) -> list[int]:
    """The tickets whose search is to be looked at by now, the longest due first."""
    c = schema.paging.c
    rows = connection.execute(
        sa.select(c.ticket_id).where(c.next_at <= now).order_by(c.next_at, c.ticket_id).limit(limit)
    )
    return list(rows.scalars())


def unsought(connection: Connection, limit: int) -> list[int]:
    """Tickets that ought to have somebody, and that nobody was ever sought for, the oldest first."""
    c = schema.ticket.c
    return list(connection.execute(sa.select(c.id).where(*_unsought()).order_by(c.id).limit(limit)).scalars())


def untold(connection: Connection, opened_by: Mapping[tuple[Severity, bool], int], limit: int) -> list[int]:
    """Those that nobody is sought for, and that nobody in charge has heard of, though they were opened by then. The
    moment depends on (severity, on hire)."""
    t, m = schema.ticket.c, schema.move.c
    told = sa.exists().where(m.ticket_id == t.id, m.round == BEFORE_ANY_ROUND)
    long_open = sa.or_(*(
        sa.and_(t.severity == severity, t.rental_id.is_not(None) == on_hire, t.opened_at <= moment)
        for (severity, on_hire), moment in opened_by.items()
    ))  # fmt: skip
    wanted = sa.select(t.id).where(*_unsought(), long_open, ~told).order_by(t.id).limit(limit)
    return list(connection.execute(wanted).scalars())


def _unsought() -> tuple[sa.ColumnElement[bool], ...]:
    """A whole site's silence is no technician's matter."""
    t, p = schema.ticket.c, schema.paging.c
    return (
        t.status.in_((Status.OPEN, Status.VERIFIED, Status.DISPATCHED)), t.severity.in_(_BAD), t.device_id.is_not(None),
        ~sa.exists().where(p.ticket_id == t.id),
    )  # fmt: skip


def postpone(connection: Connection, ticket_id: int, next_at: int) -> None:
    c = schema.paging.c
    connection.execute(sa.update(schema.paging).where(c.ticket_id == ticket_id).values(next_at=next_at))


# --- moves ---


def moves(connection: Connection, ticket_id: int) -> list[Move]:
    """All moves of a ticket, oldest first."""
    c = schema.move.c
    rows = connection.execute(sa.select(schema.move).where(c.ticket_id == ticket_id).order_by(c.id))
    return [
        Move(row.round, row.level, What(row.what), row.due_at, Who(row.who) if row.who else None, row.person_id,
             row.until_at, row.declined_at)
        for row in rows
    ]  # fmt: skip


def add_moves(connection: Connection, ticket_id: int, made: Sequence[Move], now: int) -> None:
    insert_new(connection, schema.move, [
        {**{name: getattr(one, name) for name in Move.__slots__}, "ticket_id": ticket_id, "made_at": now}
        for one in made
    ])  # fmt: skip


def decline(connection: Connection, ticket_id: int, round_: int, person_id: int, now: int) -> None:
    """Somebody who was asked in this round said no; who was not asked, and gave the ticket back, counts as asked."""
    c = schema.move.c
    answered = connection.execute(
        sa.update(schema.move)
        .where(c.ticket_id == ticket_id, c.round == round_, c.person_id == person_id, c.what == What.ASK,
               c.declined_at.is_(None))
        .values(declined_at=now)
    )  # fmt: skip
    if answered.rowcount == 0:
        given_back = Move(round_, 0, What.ASK, now, Who.NAMED, person_id, now, now)
        add_moves(connection, ticket_id, [given_back], now)


def is_asked(connection: Connection, ticket_id: int, person_id: int) -> bool:
    """Whether this person was asked in the present round, and has not said no."""
    m, p = schema.move.c, schema.paging.c
    found = connection.execute(
        sa.select(m.id)
        .join(schema.paging, sa.and_(p.ticket_id == m.ticket_id, p.round == m.round))
        .where(m.ticket_id == ticket_id, m.person_id == person_id, m.what == What.ASK, m.declined_at.is_(None))
        .limit(1)
    ).first()  # fmt: skip
    return found is not None


def revision(connection: Connection, ticket_id: int) -> int:
    """What a ticket's next step is to name, where what is looked at before that has to hold still."""
    c = schema.ticket.c
    return int(connection.execute(sa.select(c.revision).where(c.id == ticket_id)).scalar() or 0)


def is_elsewhere(connection: Connection, ticket_id: int, person_id: int) -> bool:
    """Whether a ticket waits for the answer of somebody else, and not of this person."""
    t = schema.ticket.c
    holder = connection.execute(
        sa.select(t.technician_id).where(t.id == ticket_id, t.status == Status.DISPATCHED)
    ).scalar()
    return holder not in (None, person_id) and not is_asked(connection, ticket_id, person_id)


def asked(connection: Connection, ticket_id: int) -> Sequence[Row]:
    """Who was asked in the present round, with their names and what became of it."""
    m, p, n = schema.move.c, schema.paging.c, schema.person.c
    return connection.execute(
        sa.select(m.person_id, n.name, m.level, m.due_at, m.until_at, m.declined_at)
        .join(schema.paging, sa.and_(p.ticket_id == m.ticket_id, p.round == m.round))
        .join(schema.person, n.id == m.person_id)
        .where(m.ticket_id == ticket_id, m.what == What.ASK).order_by(m.id)
    ).all()  # fmt: skip


def declines(connection: Connection, ticket_id: int) -> tuple[Decline, ...]:
    c = schema.move.c
    rows = connection.execute(
        sa.select(c.person_id, c.declined_at).where(
            c.ticket_id == ticket_id, c.what == What.ASK, c.declined_at.is_not(None), c.person_id.is_not(None)
        )
    )
    return tuple(Decline(*row) for row in rows)


# --- the ticket as it is offered ---


def read_tickets(connection: Connection, ticket_ids: Collection[int]) -> Sequence[Row]:
    """Tickets as they stand, to look at only."""
    c = schema.ticket.c
    return connection.execute(sa.select(schema.ticket).where(c.id.in_(ticket_ids)).order_by(c.id)).all()


def offer(connection: Connection, ticket_id: int, person_id: int | None) -> None:
    """The ticket is offered: to this person, or to several (None), each of whom may take it."""
    c = schema.ticket.c
    connection.execute(
        sa.update(schema.ticket)
        .where(c.id == ticket_id)
        .values(status=Status.DISPATCHED, technician_id=person_id, revision=c.revision + 1)
    )


def place_of(connection: Connection, site_id: int | None) -> Position | None:
    c = schema.site.c
    row = connection.execute(sa.select(c.lat_deg, c.lon_deg).where(c.id == site_id)).first()
    return position_of(*row) if row else None


def access_notes(connection: Connection, site_id: int | None) -> str:
    """How to get in where a ticket is."""
    c = schema.site.c
    return connection.execute(sa.select(c.access_notes).where(c.id == site_id)).scalar() or ""


def loads(connection: Connection) -> dict[int, tuple[Load, ...]]:
    """What each technician carries: the open tickets that they were sent to, or that they have taken."""
    t, s, p = schema.ticket.c, schema.site.c, schema.step.c
    since = sa.select(sa.func.max(p.happened_at)).where(p.ticket_id == t.id, p.to_status == t.status).scalar_subquery()
    rows = connection.execute(
        sa.select(t.technician_id, t.id, t.status, t.severity, t.opened_at, since.label("since_at"), s.lat_deg,
                  s.lon_deg)
        .outerjoin(schema.site, s.id == t.site_id)
        .where(t.status.in_(CARRIED), t.technician_id.is_not(None)).order_by(t.id)
    )  # fmt: skip
    found: dict[int, list[Load]] = {}
    for row in rows:
        load = Load(row.id, Status(row.status), Severity(row.severity), row.opened_at, row.since_at or row.opened_at,
                    position_of(row.lat_deg, row.lon_deg))  # fmt: skip
        found.setdefault(row.technician_id, []).append(load)
    return {person_id: tuple(theirs) for person_id, theirs in found.items()}


# --- promises that may not be kept ---


def to_foresee(connection: Connection, before: int, now: int, limit: int) -> list[tuple[int, str, int]]:
    """(ticket, kind, turn) of running clocks that people have to come for, and that were not looked at since."""
    c = schema.commitment.c
    rows = connection.execute(
        sa.select(c.ticket_id, c.kind, c.turn)
        .where(sa.text(schema.FORESEEN), c.foreseen_at <= before, c.due_at > now, c.stop.in_(FORESEEN))
        .order_by(c.foreseen_at, c.due_at).limit(limit)
    )  # fmt: skip
    return [(row.ticket_id, row.kind, row.turn) for row in rows]


def note_foreseen(connection: Connection, clocks: Collection[tuple[int, str, int]], now: int) -> None:
    c = schema.commitment.c
    for ticket_id, kind, turn in clocks:
        connection.execute(
            sa.update(schema.commitment)
            .where(c.ticket_id == ticket_id, c.kind == kind, c.turn == turn).values(foreseen_at=now)
        )  # fmt: skip


def note_feared(connection: Connection, ticket_id: int, kind: str, turn: int, now: int) -> bool:
    """Note that a running clock is in doubt; False where that is known, or it has stopped meanwhile."""
    c = schema.commitment.c
    changed = connection.execute(
        sa.update(schema.commitment)
        .where(c.ticket_id == ticket_id, c.kind == kind, c.turn == turn, sa.text(schema.FORESEEN))
        .values(feared_at=now)
    )
    return changed.rowcount == 1


def spares(connection: Connection, profile: str, now: int) -> list[Spare]:
    """Machines of a model that stand at a site, fit and not on hire."""
    d, r, f, s = schema.device.c, schema.rental.c, schema.fault.c, schema.site.c
    hired = sa.exists().where(r.device_id == d.device_id, runs(r, now))
    # Silent is unknown, and what is not heard is not sent out either.
    wrong = sa.exists().where(
        f.device_id == d.device_id, f.cleared_at.is_(None), f.severity.in_(_BAD) | (f.kind == "silent")
    )
    rows = connection.execute(
        sa.select(d.device_id, d.profile, d.site_id, s.lat_deg, s.lon_deg)
        .join(schema.site, s.id == d.site_id)
        .where(d.profile == profile, d.retired_at.is_(None), d.revoked_at.is_(None), d.first_heard_at.is_not(None),
               ~hired, ~wrong)
        .order_by(d.device_id).limit(MOST_SPARES)
    )  # fmt: skip
    return [Spare(row.device_id, row.profile, row.site_id, position_of(row.lat_deg, row.lon_deg)) for row in rows]


_BAD = tuple(severity.value for severity in Severity if severity.makes_bad)


# --- shifts ---


def handover_facts(
    connection: Connection, start_at: int, end_at: int
) -> tuple[Sequence[Row], Sequence[Row], Sequence[Row]]:
    """Tickets, steps and clocks of a hand-over: the open tickets, and those that changed in the shift."""
    t, s, c, p, d = schema.ticket.c, schema.step.c, schema.commitment.c, schema.pause.c, schema.site.c
    changed = sa.exists().where(s.ticket_id == t.id, s.recorded_at >= start_at, s.recorded_at < end_at)
    missed = sa.exists().where(c.ticket_id == t.id, c.due_at >= start_at, c.due_at < end_at)
    changed, missed = changed.correlate(schema.ticket), missed.correlate(schema.ticket)
    opened = sa.and_(t.opened_at >= start_at, t.opened_at < end_at)
    wanted = sa.or_(t.status.not_in(("closed", "cancelled")), changed, missed, opened)
    tickets = connection.execute(
        sa.select(schema.ticket, sa.func.coalesce(d.name, "").label("site_name"), p.reason.label("waits_for"),
                  p.until_at.label("waits_until"))
        .outerjoin(schema.site, d.id == t.site_id)
        .outerjoin(schema.pause, sa.and_(p.ticket_id == t.id, p.to_at.is_(None)))
        .where(wanted).order_by(t.id)
    ).all()  # fmt: skip
    steps = connection.execute(
        sa.select(schema.step).where(s.recorded_at >= start_at, s.recorded_at < end_at).order_by(s.id)
    ).all()
    clocks = connection.execute(
        sa.select(schema.commitment)
        .join(schema.ticket, t.id == c.ticket_id)
        .where(wanted, c.voided_at.is_(None)).order_by(c.due_at)
    ).all()  # fmt: skip
    return tickets, steps, clocks


def note_handed_over(connection: Connection, rotation_id: int, was: int, now: int) -> bool:
    """Until when hand-overs of a rotation are told; False where another process did so."""
    c = schema.rotation.c
    noted = connection.execute(
        sa.update(schema.rotation).where(c.id == rotation_id, c.handed_over_at == was).values(handed_over_at=now)
    )
    return noted.rowcount == 1


def to_hand_over(connection: Connection, now: int) -> Mapping[int, int]:
    """Rotations that run, and until when their hand-overs have been told."""
    c = schema.rotation.c
    rows = connection.execute(sa.select(c.id, c.handed_over_at).where(c.handed_over_at < now, runs(c, now)))
    return {row.id: row.handed_over_at for row in rows}
