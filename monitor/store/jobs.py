"""What a technician carries and is asked to take, and what is known of a job before they go: rows for api/jobs.py."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.escalation import What
from monitor.desk.tickets import ARRANGED, Status
from monitor.store import schema
from monitor.store.queries import Scope, tickets_seen

Row = sa.Row[*tuple[Any, ...]]

LOOKED_THROUGH = 1_000
"""So many repairs of the same fault are looked through for those of the same model, the newest ones."""
LIKE_IT = 100
"""So many repairs of the same fault on the same model are looked at, the newest ones."""
LOOKED_BACK = 20
"""So many of a machine's earlier tickets."""


def held(connection: Connection, person_id: int, now: int, limit: int) -> Sequence[Row]:
    """The tickets that somebody has taken and not finished, the one with the least time left first."""
    t = schema.ticket.c
    theirs = tickets_seen(Scope(now)).where(t.technician_id == person_id, t.status.in_((*ARRANGED, Status.WAITING)))
    return connection.execute(theirs.order_by(*_by_time_left()).limit(limit)).all()


def offered(connection: Connection, person_id: int, now: int, limit: int) -> Sequence[Row]:
    """The tickets that wait for somebody's yes or no, each with until when (`until_at`; null: it does not end).

    They were sent there by a person, or were asked in the present round, maybe with others, and have not said no.
    """
    t, m, p = schema.ticket.c, schema.move.c, schema.paging.c
    # Asked of the few tickets that wait for somebody: what a person was asked in all their years is not looked through.
    asked = (
        sa.select(m.until_at)
        .join(schema.paging, sa.and_(p.ticket_id == m.ticket_id, p.round == m.round))
        .where(m.person_id == person_id, m.ticket_id == t.id, m.what == What.ASK, m.declined_at.is_(None))
        .correlate(schema.ticket)
    )
    until_at = asked.with_only_columns(sa.func.max(m.until_at)).scalar_subquery()
    waiting = (
        tickets_seen(Scope(now))
        .add_columns(until_at.label("until_at"))
        .where(t.status == Status.DISPATCHED, sa.or_(t.technician_id == person_id, asked.exists()))
    )
    return connection.execute(waiting.order_by(*_by_time_left()).limit(limit)).all()


def _by_time_left() -> tuple[sa.ColumnElement[Any], ...]:
    t = schema.ticket.c
    return t.due_at.is_(None), t.due_at, t.id


# --- one job -------------------------------------------------------------------------------------------------------


def place(connection: Connection, ticket_id: int) -> Row | None:
    """Where a ticket is: how to get in, and where on earth. None where it is at no site that is known."""
    t, d, s = schema.ticket.c, schema.device.c, schema.site.c
    return connection.execute(
        sa.select(s.name, s.access_notes, s.lat_deg, s.lon_deg)
        .select_from(schema.ticket)
        .outerjoin(schema.device, d.device_id == t.device_id)
        .join(schema.site, s.id == sa.func.coalesce(t.site_id, d.site_id))
        .where(t.id == ticket_id)
    ).one_or_none()


def to_call(connection: Connection, ticket_id: int) -> Sequence[Row]:
    """The customer's people who can be called, with their numbers."""
    t, r, p = schema.ticket.c, schema.rental.c, schema.person.c
    return connection.execute(
        sa.select(p.name, p.phone)
        .join(schema.rental, r.customer_id == p.customer_id)
        .join(schema.ticket, t.rental_id == r.id)
        .where(t.id == ticket_id, p.phone != "", p.disabled_at.is_(None))
        .order_by(p.id)
    ).all()


def like_it(connection: Connection, profile: str, kind: str, subject: str, but: int) -> Sequence[Row]:
    """How the same fault of the same model was repaired before, the newest first."""
    t, d = schema.ticket.c, schema.device.c
    # The outcome is said as the index ix_ticket_repair has it: a database takes no parameter for it.
    alike = (
        sa.select(t.id, t.device_id, t.resolution_cause, t.resolution_action, t.parts, t.resolved_at)
        .where(t.kind == kind, t.subject == subject, t.resolved_at.is_not(None), sa.text(schema.REPAIRED))
        .order_by(t.resolved_at.desc()).limit(LOOKED_THROUGH).subquery()
    )  # fmt: skip
    r = alike.c
    return connection.execute(
        sa.select(r.resolution_cause, r.resolution_action, r.parts, r.resolved_at)
        .join(schema.device, d.device_id == r.device_id)
        .where(d.profile == profile, r.id != but)
        .order_by(r.resolved_at.desc(), r.id.desc()).limit(LIKE_IT)
    ).all()  # fmt: skip


def before(connection: Connection, device_id: str, but: int, now: int) -> Sequence[Row]:
    """The machine's other tickets, the newest first."""
    t = schema.ticket.c
    earlier = tickets_seen(Scope(now)).where(t.device_id == device_id, t.id != but, t.merged_into.is_(None))
    return connection.execute(earlier.order_by(t.opened_at.desc(), t.id.desc()).limit(LOOKED_BACK)).all()


def notes(connection: Connection, ticket_id: int) -> Sequence[Row]:
    """What people wrote on a ticket, oldest first, with who did. What was taken back is gone."""
    s, p = schema.step.c, schema.person.c
    return connection.execute(
        sa.select(s.happened_at.label("at"), s.event, s.note.label("text"), sa.func.coalesce(p.name, "").label("by"))
        .outerjoin(schema.person, s.actor == sa.literal("person:").concat(sa.cast(p.id, sa.String)))
        .where(s.ticket_id == ticket_id, s.note != "", s.corrected_by.is_(None),
               s.actor.not_in(("self-test", "triage", "desk")))
        .order_by(s.happened_at, s.id)
    ).all()  # fmt: skip
