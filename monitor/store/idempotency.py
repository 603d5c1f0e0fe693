"""What requests with an Idempotency-Key were answered: rows of `idempotency`, inside their caller's transaction.

A row is claimed by one attempt at a time, marked in the transaction that does what was asked, and answered once.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.store.database import insert_new
from monitor.store.schema import idempotency

KEPT_MS = 86_400_000
LEASE_MS = 30_000
"""So long an attempt that is not heard of again keeps others from trying. One that takes longer than that and was
taken over meanwhile commits nothing any more."""


class TakenOver(Exception):
    """Another attempt has taken the request over; this one must not write any more."""


class Attempt(NamedTuple):
    """One try at one request: who asks, by which key, and which try it is."""

    actor: str
    key: str
    number: str


class Answer(NamedTuple):
    """What a request was answered, with the headers that belong to its meaning."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Found(StrEnum):
    """How a request stands."""

    OURS = "ours"
    """It is for this attempt to do."""
    ANSWERED = "answered"
    UNDER_WAY = "under_way"
    """Another attempt is at it."""
    LOST = "lost"
    """It was done, and nobody could note the answer."""
    ANOTHER = "another"
    """The key was used for another request."""


def claim(connection: Connection, attempt: Attempt, request: str, now: int) -> tuple[Found, Answer | None]:
    """Take a request on, unless it was done or another attempt is at it. `request` says (hashed) what is asked."""
    prune(connection, now)
    insert_new(connection, idempotency, [{
        "actor": attempt.actor, "key": attempt.key, "request": request, "at": now, "attempt": attempt.number,
        "until_at": now + LEASE_MS,
    }])  # fmt: skip
    row = connection.execute(sa.select(idempotency).where(*_is(attempt)).with_for_update()).one()
    if row.request != request:
        return Found.ANOTHER, None
    if row.status is not None:
        return Found.ANSWERED, Answer(row.status, row.headers or {}, row.body)
    if row.attempt == attempt.number:
        return Found.OURS, None
    if row.until_at > now:
        return Found.UNDER_WAY, None
    if row.done_at is not None:
        return Found.LOST, None
    again = sa.update(idempotency).where(*_is(attempt))
    connection.execute(again.values(attempt=attempt.number, until_at=now + LEASE_MS))
    return Found.OURS, None


def mark_done(connection: Connection, attempt: Attempt, now: int) -> None:
    """Note, in the transaction that does it, that it is done. Raises TakenOver where it is not ours to do any more."""
    c = idempotency.c
    marked = connection.execute(
        sa.update(idempotency).where(*_is(attempt), c.attempt == attempt.number, c.status.is_(None))
        .values(done_at=sa.func.coalesce(c.done_at, now))
    )  # fmt: skip
    if marked.rowcount != 1:
        raise TakenOver(f"attempt {attempt.number} was taken over")


def keep(connection: Connection, attempt: Attempt, answer: Answer) -> None:
    """Keep what was answered."""
    connection.execute(
        sa.update(idempotency).where(*_is(attempt), idempotency.c.attempt == attempt.number)
        .values(status=answer.status, headers=dict(answer.headers), body=answer.body)
    )  # fmt: skip


def release(connection: Connection, attempt: Attempt) -> None:
    """Nothing was done: the next attempt need not wait. What was done stays marked."""
    c = idempotency.c
    connection.execute(
        sa.delete(idempotency).where(
            *_is(attempt), c.attempt == attempt.number, c.done_at.is_(None), c.status.is_(None)
        )
    )


def prune(connection: Connection, now: int) -> None:
    """Forget what is older than a day."""
    connection.execute(sa.delete(idempotency).where(idempotency.c.at <= now - KEPT_MS))


def _is(attempt: Attempt) -> tuple[sa.ColumnElement[bool], ...]:
    return idempotency.c.actor == attempt.actor, idempotency.c.key == attempt.key
