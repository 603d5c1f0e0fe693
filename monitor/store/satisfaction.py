"""How customers found what we did (P2): who was asked, what they answered; inside the caller's transaction."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.tickets import Outcome
from monitor.store import schema
from monitor.store.database import insert_new

Row = sa.Row[*tuple[Any, ...]]
s, t, k = schema.satisfaction.c, schema.ticket.c, schema.customer.c
IN_EARNEST = t.outcome.is_distinct_from(Outcome.NUISANCE.value)
"""Nobody is asked how a false alarm was dealt with, and one that turned out to be one later counts no more."""
STANDING = sa.text(f"satisfaction.{schema.STANDING}")
"""Said as its index has it."""


class Counts(NamedTuple):
    asked: int
    answered: int
    satisfied: int


def ask(connection: Connection, ticket_id: int, customer_id: int, lang: str, now: int) -> None:
    """A customer is asked about a ticket: once, however often it is dealt with."""
    insert_new(connection, schema.satisfaction, [
        {"ticket_id": ticket_id, "customer_id": customer_id, "asked_at": now, "words": "", "lang": lang[:8]}
    ])  # fmt: skip


def one(connection: Connection, ticket_id: int, customer_id: int, *, lock: bool = False) -> Row | None:
    """What a customer was asked about a ticket, and answers now, with when they first did (`first_at`) and when it was
    last dealt with (`dealt_with_at`); None: they were not asked, or it was a false alarm."""
    first = schema.satisfaction.alias("first").c
    first_at = (
        sa.select(sa.func.min(first.answered_at))
        .where(first.ticket_id == ticket_id, first.customer_id == customer_id).scalar_subquery()
    )  # fmt: skip
    dealt_with_at = sa.func.coalesce(t.closed_at, t.resolved_at).label("dealt_with_at")
    statement = (
        sa.select(schema.satisfaction, first_at.label("first_at"), dealt_with_at)
        .join(schema.ticket, t.id == s.ticket_id)
        .where(s.ticket_id == ticket_id, s.customer_id == customer_id, STANDING, IN_EARNEST)
    )
    if not lock:
        return connection.execute(statement).first()
    locked = statement.with_for_update(of=schema.satisfaction)
    # Another answer at the same moment may have taken the place of the one that we waited for (PostgreSQL).
    return connection.execute(locked).first() or connection.execute(locked).first()


def answer(connection: Connection, row: Row, score: int, words: str, lang: str, now: int) -> None:
    """Keep an answer; one that stood before it stays without its words, and counts until now."""
    said = {"score": score, "words": words, "answered_at": now, "lang": lang[:8]}
    if row.score is None:
        connection.execute(sa.update(schema.satisfaction).where(s.id == row.id).values(**said))
        return
    connection.execute(sa.update(schema.satisfaction).where(s.id == row.id).values(replaced_at=now, words=""))
    connection.execute(sa.insert(schema.satisfaction).values(
        ticket_id=row.ticket_id, customer_id=row.customer_id, asked_at=row.asked_at, **said
    ))  # fmt: skip


def answered(connection: Connection, ticket_id: int) -> bool:
    """Whether a ticket's customer has said how it was."""
    there = sa.select(s.id).where(s.ticket_id == ticket_id, s.score.is_not(None), STANDING).limit(1)
    return connection.execute(there).first() is not None


def unanswered(connection: Connection, customer_id: int, since: int, limit: int) -> Sequence[Row]:
    """The tickets that a customer was asked about since then, and said nothing of, the newest first: those that are
    still dealt with, and were no false alarm."""
    statement = (
        sa.select(schema.ticket, schema.device.c.profile, s.asked_at)
        .join(schema.satisfaction, s.ticket_id == t.id)
        .outerjoin(schema.device, schema.device.c.device_id == t.device_id)
        .where(s.customer_id == customer_id, s.asked_at >= since, s.score.is_(None), STANDING,
               t.status.in_(("resolved", "closed")), IN_EARNEST)
        .order_by(s.asked_at.desc(), s.id.desc()).limit(limit)
    )  # fmt: skip
    return connection.execute(statement).all()


def of_ticket(connection: Connection, ticket_id: int) -> Sequence[Row]:
    """What a ticket's customers were asked and answer now, with their names."""
    return connection.execute(_listed().where(s.ticket_id == ticket_id).order_by(s.id)).all()


def answers(
    connection: Connection, start_at: int, end_at: int, *, before: int | None, limit: int
) -> Sequence[Row]:  # fmt: skip
    """Answers of those who were asked in [start_at, end_at), the newest first."""
    statement = _listed().where(s.asked_at >= start_at, s.asked_at < end_at, s.score.is_not(None))
    if before is not None:
        statement = statement.where(s.id < before)
    return connection.execute(statement.order_by(s.id.desc()).limit(limit)).all()


def counts(connection: Connection, start_at: int, end_at: int) -> Counts:
    """How many were asked in [start_at, end_at), have answered, and are satisfied."""
    statement = (
        sa.select(sa.func.count(), sa.func.count(s.score), sa.func.coalesce(sa.func.sum(s.score), 0))
        .join(schema.ticket, t.id == s.ticket_id)
        .where(s.asked_at >= start_at, s.asked_at < end_at, STANDING, IN_EARNEST)
    )
    return Counts(*(int(one) for one in connection.execute(statement).one()))


def _listed() -> sa.Select[*tuple[Any, ...]]:
    return (
        sa.select(schema.satisfaction, k.name.label("customer_name"), t.device_id)
        .join(schema.customer, k.id == s.customer_id).join(schema.ticket, t.id == s.ticket_id)
        .where(STANDING, IN_EARNEST)
    )  # fmt: skip
