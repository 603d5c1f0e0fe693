"""Notices and the contacts they go to: what telling loads and saves, inside its caller's transaction."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.notices import SECRET
from monitor.desk.telling import Delivery, How
from monitor.store import schema
from monitor.store.database import insert_new

Row = sa.Row[*tuple[Any, ...]]
IDS_A_QUERY = 500


class Way(NamedTuple):
    """A row of `contact`, or (id 0) the e-mail of the person's own row. Quiet hours: minutes of the person's day."""

    id: int
    channel: str
    address: str
    rank: int = 0
    quiet_from_minute: int = 0
    quiet_until_minute: int = 0
    bounced_at: int | None = None


class Told(NamedTuple):
    """A person who may be told something, and every way to them."""

    id: int
    name: str
    lang: str
    timezone: str
    email: str
    ways: tuple[Way, ...]


def known_causes(connection: Connection, causes: Collection[str]) -> set[str]:
    """Those of them that have a notice already."""
    found, wanted = set[str](), sorted(causes)
    for first in range(0, len(wanted), IDS_A_QUERY):
        found.update(connection.scalars(_known_causes_query(), {"causes": wanted[first : first + IDS_A_QUERY]}))
    return found


@cache
def _known_causes_query() -> sa.Select[Any]:
    c = schema.notice.c.cause
    return sa.select(c).where(c.in_(sa.bindparam("causes", expanding=True)))


def people(connection: Connection, person_ids: Collection[int]) -> dict[int, Told]:
    """Those of these people who have not left, with their contacts in their own order."""
    found: dict[int, Told] = {}
    for row in connection.execute(_people_query(), {"ids": sorted(person_ids)}):
        told = found.setdefault(row.id, Told(row.id, row.name, row.lang, row.timezone, row.email, ()))
        if row.way_id is not None:
            found[told.id] = told._replace(ways=(*told.ways, Way(*row[5:])))
    return found


@cache
def _people_query() -> sa.Select[Any]:
    p, c = schema.person.c, schema.contact.c
    way = (c.id.label("way_id"), c.channel, c.address, c.position, c.quiet_from_minute, c.quiet_until_minute,
           c.bounced_at)  # fmt: skip
    return (
        sa.select(p.id, p.name, p.lang, p.timezone, p.email, *way)
        .outerjoin(schema.contact, c.person_id == p.id)
        .where(p.id.in_(sa.bindparam("ids", expanding=True)), p.disabled_at.is_(None))
        .order_by(p.id, c.position, c.id)
    )


def heard_since(
    connection: Connection, person_ids: Collection[int], since: int, counted: int, but: Collection[int] = ()
) -> list[Delivery]:
    """The messages to each of these people that went out since, or will: not those of the rows in `but`, and of those
    that were told at once the latest `counted` only, for in a storm there are more than anybody counts."""
    c = schema.notice.c
    columns = c.person_id, c.how, c.deliver_at, c.contact_id, c.cause
    at_once = c.how == How.AT_ONCE
    found: list[Delivery] = []
    for person_id in sorted(person_ids):
        theirs = sa.select(*columns).where(
            c.person_id == person_id, c.deliver_at > since, c.gathered_in.is_(None),
            c.status.in_(("queued", "sent")), c.id.not_in(but),
        )  # fmt: skip
        latest = theirs.where(at_once).order_by(c.deliver_at.desc()).limit(counted).subquery()
        rows = connection.execute(sa.union_all(sa.select(latest), theirs.where(~at_once)))
        found += [Delivery(row.person_id, How(row.how), row.deliver_at, row.contact_id or 0, (row.cause,))
                  for row in rows]  # fmt: skip
    return found


def insert(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Into the outbox; the same cause is queued once."""
    insert_new(connection, schema.notice, rows)


def move(connection: Connection, notice_id: int, values: Mapping[str, Any]) -> None:
    """Another way for a notice that could not be told by the one before."""
    connection.execute(sa.update(schema.notice).where(schema.notice.c.id == notice_id).values(**values))


def carrier(connection: Connection, values: Mapping[str, Any]) -> int:
    """The row that carries what is gathered under this cause, made if it is not there, woken if it was empty."""
    c = schema.notice.c
    insert_new(connection, schema.notice, [values])
    connection.execute(
        sa.update(schema.notice)
        .where(c.cause == values["cause"], c.status.in_(("withdrawn", "failed")))
        .values(status="queued", tries=0, next_try_at=values["next_try_at"])
    )
    found: int = connection.execute(sa.select(c.id).where(c.cause == values["cause"])).scalar_one()
    return found


def load(connection: Connection, notice_id: int) -> Row:
    return connection.execute(sa.select(schema.notice).where(schema.notice.c.id == notice_id)).one()


FORGOTTEN = {"body": "", "html": "", "link": ""}


def forget_secrets(connection: Connection, notice_id: int) -> None:
    """What a notice said is not kept where it is a secret and the notice goes nowhere any more."""
    c = schema.notice.c
    over = c.id == notice_id, c.kind.in_(SECRET), c.status != "queued"
    connection.execute(sa.update(schema.notice).where(*over).values(**FORGOTTEN))


def stale_secrets(connection: Connection, since: int, now: int) -> list[int]:
    """Notices with a secret that have waited from before `since` on, and are not on their way."""
    return list(connection.scalars(sa.select(schema.notice.c.id).where(*_stale(since, now))))


def withdraw_stale_secrets(connection: Connection, since: int, now: int) -> int:
    """These are sent no more: what they say is worth nothing by now. Answers how many they were."""
    late = sa.update(schema.notice).where(*_stale(since, now))
    return connection.execute(late.values(status="withdrawn", last_error="too late to be of use", **FORGOTTEN)).rowcount


def _stale(since: int, now: int) -> tuple[sa.ColumnElement[bool], ...]:
    c = schema.notice.c
    free = sa.or_(c.claimed_until.is_(None), c.claimed_until <= now)
    # In these words the index of what is queued serves.
    return c.status == sa.literal_column("'queued'"), c.kind.in_(SECRET), c.queued_at <= since, free


def carried(connection: Connection, notice_id: int) -> list[Row]:
    """What a message that was given up had gathered."""
    c = schema.notice.c
    return list(
        connection.execute(
            sa.select(schema.notice).where(c.gathered_in == notice_id, c.status == "failed").order_by(c.id)
        )
    )


def waiting_for(connection: Connection, person_id: int, contact_id: int | None, now: int) -> list[Row]:
    """What still waits to be told by this contact, and is not on its way; carriers are not among it, their load is."""
    c = schema.notice.c
    query = sa.select(schema.notice).where(
        c.person_id == person_id, c.contact_id.is_not_distinct_from(contact_id), c.status == "queued",
        c.kind != "digest", sa.or_(c.claimed_until.is_(None), c.claimed_until <= now),
    )  # fmt: skip
    return list(connection.execute(query.order_by(c.id)))


def note_bounce(connection: Connection, row: Row, why: str, now: int) -> bool:
    """A contact cannot be reached. True where that is news.

    A person's own e-mail becomes a contact that bounced, so that everybody sees it and somebody can mend it.
    """
    c = schema.contact.c
    contact_id = row.contact_id
    if contact_id is None:
        contact_id = _own_as_contact(connection, row)
    marked = connection.execute(
        sa.update(schema.contact).where(c.id == contact_id, c.bounced_at.is_(None)).values(bounced_at=now, bounce=why)
    )
    return marked.rowcount == 1


def _own_as_contact(connection: Connection, row: Row) -> int:
    c = schema.contact.c
    is_it = sa.and_(c.person_id == row.person_id, c.channel == row.channel, c.address == row.recipient)
    position = connection.execute(
        sa.select(sa.func.coalesce(sa.func.max(c.position), -1) + 1).where(c.person_id == row.person_id)
    ).scalar_one()
    values = {"person_id": row.person_id, "channel": row.channel, "address": row.recipient, "position": position}
    insert_new(connection, schema.contact, [values])
    found: int = connection.execute(sa.select(c.id).where(is_it)).scalar_one()
    return found


def in_charge(connection: Connection, but: int | None = None) -> list[Row]:
    """Id and language of those who hear of trouble with telling: operators, else managers, else administrators."""
    p = schema.person.c
    rows = connection.execute(
        sa.select(p.id, p.lang, p.role)
        .where(p.role.in_(("ops", "manager", "admin")), p.disabled_at.is_(None), p.id != (but or 0)).order_by(p.id)
    ).all()  # fmt: skip
    roles = [one for one in ("ops", "manager", "admin") if any(row.role == one for row in rows)]
    return [row for row in rows if row.role == roles[0]] if roles else []


def customer_at(connection: Connection, address: str) -> str:
    """Whose office has this address; '' where it is nobody's that we know."""
    c = schema.customer.c
    return connection.execute(sa.select(c.name).where(c.email == address).limit(1)).scalar() or ""


def of_cause(connection: Connection, cause: str) -> int:
    """The row of a cause that is there."""
    found: int = connection.execute(sa.select(schema.notice.c.id).where(schema.notice.c.cause == cause)).scalar_one()
    return found


# --- how the ways stand --------------------------------------------------------------------------------------------


def say_channels(connection: Connection, channels: Mapping[str, tuple[str, Sequence[str]]], now: int) -> None:
    """These are the ways out that there are: by name what carries it, and the rooms that it knows."""
    connection.execute(sa.delete(schema.notice_channel))
    if channels:
        rows = [{"name": name, "carrier": carrier, "rooms": list(rooms), "since_at": now}
                for name, (carrier, rooms) in channels.items()]  # fmt: skip
        connection.execute(sa.insert(schema.notice_channel), rows)


def channels(connection: Connection) -> list[Row]:
    """Those that whoever delivers last said it has."""
    return list(connection.execute(sa.select(schema.notice_channel).order_by(schema.notice_channel.c.name)))


def tally(connection: Connection, since: int, newest: int) -> list[Row]:
    """By channel what became of the notices queued since, at most the newest so many: rows of (channel, sent, failed,
    queued, sent_at)."""
    c = schema.notice.c
    lately = sa.select(c.channel, c.status, c.sent_at, c.queued_at).where(c.gathered_in.is_(None))
    one = lately.order_by(c.id.desc()).limit(newest).subquery().c
    counts = [sa.func.count().filter(one.status == status).label(status) for status in ("sent", "failed", "queued")]
    return list(
        connection.execute(
            sa.select(one.channel, *counts, sa.func.max(one.sent_at).label("sent_at"))
            .where(one.queued_at >= since).group_by(one.channel)
        )
    )  # fmt: skip


def last_failures(connection: Connection, newest: int) -> dict[str, Row]:
    """The latest notice of each channel that was given up, or failed a try, among the newest so many."""
    c = schema.notice.c
    one = sa.select(c.id, c.channel, c.last_error, c.queued_at).order_by(c.id.desc()).limit(newest).subquery()
    rows = connection.execute(sa.select(one).where(one.c.last_error != "").order_by(one.c.id))
    return {row.channel: row for row in rows}


def bounced(connection: Connection, limit: int) -> list[Row]:
    """Contacts that do not work, with whose they are, the latest first."""
    c, p = schema.contact.c, schema.person.c
    return list(
        connection.execute(
            sa.select(schema.contact, p.name).join(schema.person, p.id == c.person_id)
            .where(c.bounced_at.is_not(None), p.disabled_at.is_(None)).order_by(c.bounced_at.desc()).limit(limit)
        )
    )  # fmt: skip


def begun_with(connection: Connection, causes: str, newest: int, limit: int) -> list[Row]:
    """Notices whose cause begins so, the newest first, among the newest so many of all."""
    c = schema.notice.c
    last = sa.select(sa.func.max(c.id)).scalar_subquery()
    found = sa.select(schema.notice).where(c.id > last - newest, c.cause.startswith(causes, autoescape=True))
    return list(connection.execute(found.order_by(c.id.desc()).limit(limit)))
