"""What is known of somebody goes, and what they did stays: under a name that is nobody's ("person 12 (erased)").

One transaction an erasure. It takes their row's own facts, contacts, hours, absences, secrets and sessions, and their
name, addresses and numbers out of every text that is kept. The audit has none of these in it and stays as it is; so
does the signature under a safety inspection, which is a document. What is kept, and for how long: docs/privacy.md.
"""

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.tickets import Status
from monitor.store import passwords, schema, second_factor
from monitor.store.access import end_other_sessions
from monitor.store.database import Database
from monitor.store.people import lock
from monitor.store.registry import Conflict, Refused, changing, write_audit

OVER = (Status.CLOSED, Status.CANCELLED)
GONE = "…"
"""In the place of an address or a number."""
FIGURES = 6
"""So many figures are somebody's number; fewer stand everywhere."""
TOLD = 5
"""So many open things are named in a refusal."""
TEXTS: tuple[tuple[sa.Table, tuple[str, ...]], ...] = (
    (schema.notice, ("recipient", "subject", "body", "html", "link", "last_error")),
    (schema.step, ("note",)),
    (schema.ticket, ("reported_by", "evidence")),
    (schema.fault, ("evidence",)),
    (schema.satisfaction, ("words",)),
    (schema.work_order, ("note", "results")),
    (schema.maintenance_window, ("reason",)),
    (schema.site, ("access_notes",)),
)
"""Where people write, and what is written to them."""


class Erasure:
    """Erases people and customers. `actor` is who asks for it."""

    def __init__(self, database: Database, actor: str) -> None:
        self.database = database
        self.actor = actor

    def person(self, person_id: int, name: str, now: int) -> None:
        """Erase a person; `name` confirms who is meant. Once more changes nothing.

        Raises LookupError where there is nobody, Refused where the name is not theirs, and Conflict while they carry
        open work.
        """
        with changing(self.database) as connection:
            lock(connection, person_id)
            row = _row(connection, schema.person, person_id)
            if row.erased_at is not None:
                return
            _check_name(row.name, name)
            _refuse_open("person", person_id, _carried(connection, person_id))
            self._erase_person(connection, row, now)

    def customer(self, customer_id: int, name: str, now: int) -> None:
        """Erase a customer with all their people. Raises as `person` does; open work are rentals that are not over, and
        open tickets of theirs."""
        with changing(self.database) as connection:
            c = schema.customer.c
            connection.execute(sa.select(c.id).where(c.id == customer_id).with_for_update())
            row = _row(connection, schema.customer, customer_id)
            if row.erased_at is not None:
                return
            _check_name(row.name, name)
            _refuse_open("customer", customer_id, _on_hire(connection, customer_id, now))
            p = schema.person.c
            theirs = sa.select(schema.person).where(p.customer_id == customer_id, p.erased_at.is_(None)).order_by(p.id)
            for person in connection.execute(theirs).all():
                self._erase_person(connection, person, now)
            self._erase_customer(connection, row, now)

    def _erase_person(self, connection: Connection, row: sa.Row[Any], now: int) -> None:
        k, pseudonym = schema.contact.c, pseudonym_of("person", row.id)
        addresses = list(connection.scalars(sa.select(k.address).where(k.person_id == row.id)))
        passwords.remove_password(connection, row.id)
        second_factor.turn_off(connection, row.id, now, self.actor)
        end_other_sessions(connection, row.id, "", self.actor, now)
        for table in (schema.session, schema.login_link, schema.contact, schema.working_hours, schema.absence):
            connection.execute(sa.delete(table).where(table.c.person_id == row.id))
        _silence(connection, schema.notice.c.person_id == row.id)
        _end_token(connection, row, pseudonym, now)
        f, c = schema.calendar_feed.c, schema.person.c
        ends = sa.or_(f.person_id == row.id, f.made_by == f"person:{row.id}"), f.ended_at.is_(None)
        connection.execute(sa.update(schema.calendar_feed).where(*ends).values(ended_at=now))
        connection.execute(sa.update(schema.person).where(c.id == row.id).values(
            name=pseudonym, email="", phone="", lat_deg=None, lon_deg=None, timezone="",
            disabled_at=sa.func.coalesce(c.disabled_at, now), erased_at=now,
        ))  # fmt: skip
        given = [one for one in (row.email, row.phone, *addresses) if not _is_others(connection, one)]
        theirs = [one for address in given for one in _personal(address)]
        number = _take_out(connection, {**dict.fromkeys(theirs, GONE), row.name: pseudonym})
        write_audit(connection, now, self.actor, "person_erased", f"person:{row.id}", after={"texts": number})

    def _erase_customer(self, connection: Connection, row: sa.Row[Any], now: int) -> None:
        c, s, pseudonym = schema.customer.c, schema.satisfaction.c, pseudonym_of("customer", row.id)
        connection.execute(sa.update(schema.satisfaction).where(s.customer_id == row.id).values(words=""))
        connection.execute(
            sa.update(schema.customer).where(c.id == row.id)
            .values(name=pseudonym, email="", link_epoch=c.link_epoch + 1, erased_at=now)
        )  # fmt: skip
        own = bool(row.email) and not _is_others(connection, row.email)
        if own:
            _silence(connection, sa.and_(schema.notice.c.recipient == row.email, schema.notice.c.person_id.is_(None)))
        number = _take_out(connection, {row.name: pseudonym} | ({row.email: GONE} if own else {}))
        write_audit(connection, now, self.actor, "customer_erased", f"customer:{row.id}", after={"texts": number})


def pseudonym_of(what: str, number: int) -> str:
    return f"{what} {number} (erased)"


# --- what stands in the way ----------------------------------------------------------------------------------------


def _row(connection: Connection, table: sa.Table, number: int) -> sa.Row[Any]:
    row = connection.execute(sa.select(table).where(table.c.id == number)).one_or_none()
    if row is None:
        raise LookupError(f"there is no {table.name} {number}")
    return row


def _check_name(kept: str, given: str) -> None:
    if given.strip() != kept:
        raise Refused("confirm: it has to be their name as it stands here")


def _refuse_open(what: str, number: int, found: Sequence[str]) -> None:
    if found:
        more = " and more" if len(found) > TOLD else ""
        raise Conflict(f"{what} {number} has open work: {', '.join(found[:TOLD])}{more}")


def _carried(connection: Connection, person_id: int) -> list[str]:
    t, w = schema.ticket.c, schema.work_order.c
    tickets = sa.select(t.id).where(t.technician_id == person_id, t.status.not_in(OVER)).order_by(t.id)
    orders = sa.select(w.id).where(w.assignee_id == person_id, w.status == "open").order_by(w.id)
    return [
        *(f"ticket {one}" for one in connection.scalars(tickets.limit(TOLD + 1))),
        *(f"work order {one}" for one in connection.scalars(orders.limit(TOLD + 1))),
    ]


def _on_hire(connection: Connection, customer_id: int, now: int) -> list[str]:
    r, t = schema.rental.c, schema.ticket.c
    out = sa.and_(r.handed_over_at.is_not(None), r.returned_at.is_(None))
    lasts = sa.or_(r.ends_at.is_(None), r.ends_at > now, out)
    rentals = sa.select(r.id).where(r.customer_id == customer_id, lasts).order_by(r.id)
    tickets = (
        sa.select(t.id).join(schema.rental, r.id == t.rental_id)
        .where(r.customer_id == customer_id, t.status.not_in(OVER)).order_by(t.id)
    )  # fmt: skip
    return [
        *(f"rental {one}" for one in connection.scalars(rentals.limit(TOLD + 1))),
        *(f"ticket {one}" for one in connection.scalars(tickets.limit(TOLD + 1))),
    ]


# --- what goes -----------------------------------------------------------------------------------------------------


def _silence(connection: Connection, which: sa.ColumnElement[bool]) -> None:
    """What was told stays, without to where; what waits goes nowhere."""
    n = schema.notice.c
    waiting = sa.update(schema.notice).where(which, n.status == "queued")
    connection.execute(waiting.values(status="withdrawn", claimed_until=None))
    connection.execute(sa.update(schema.notice).where(which).values(recipient="", last_error="", contact_id=None))


def _end_token(connection: Connection, row: sa.Row[Any], pseudonym: str, now: int) -> None:
    """A technician's token has their name (`access.visitor_of_token`)."""
    t = schema.token.c
    theirs = t.name == row.name, t.role == row.role
    connection.execute(sa.update(schema.token).where(*theirs, t.revoked_at.is_(None)).values(revoked_at=now))
    connection.execute(sa.update(schema.token).where(*theirs).values(name=pseudonym))


def _is_others(connection: Connection, address: str) -> bool:
    """Whether it is somebody's still: people share mailboxes and phones, and must go on being told. Whoever is erased
    has none any more."""
    p, k, c = schema.person.c, schema.contact.c, schema.customer.c
    wanted = address.lower()
    uses = sa.or_(
        sa.exists().where(sa.or_(sa.func.lower(p.email) == wanted, p.phone == address)),
        sa.exists().where(sa.func.lower(k.address) == wanted),
        sa.exists().where(sa.func.lower(c.email) == wanted),
    )
    return bool(connection.execute(sa.select(uses)).scalar())


def _personal(address: str) -> list[str]:
    """What of an address names somebody: all of it, and a number behind a robot's room. The room alone ("yard") is many
    people's, and a word like others."""
    room, at, number = address.partition("@")
    known = [address, number] if at and _is_number(number) else [address] if at or _is_number(room) else []
    return [one for one in known if one.strip()]


def _is_number(text: str) -> bool:
    return sum(char.isdigit() for char in text) >= FIGURES


def _take_out(connection: Connection, said: Mapping[str, str]) -> int:
    """Put something else in the place of words, wherever people write. Answers in how many rows they stood."""
    wanted = {word: other for word, other in said.items() if word.strip()}
    return sum(_rewrite(connection, table, columns, wanted) for table, columns in TEXTS)


def _rewrite(connection: Connection, table: sa.Table, columns: Iterable[str], said: Mapping[str, str]) -> int:
    kept = [table.c[name] for name in columns]
    traces = dict.fromkeys(_trace(form) for word in said for form in (word, _in_json(word), html.escape(word)))
    stands = sa.or_(*(
        sa.func.lower(sa.cast(column, sa.Text)).contains(trace, autoescape=True) for column in kept for trace in traces
    ))  # fmt: skip
    number = 0
    for row in connection.execute(sa.select(table.c.id, *kept).where(stands)).all():
        values = {column.name: _without(getattr(row, column.name), said) for column in kept}
        if any(values[column.name] != getattr(row, column.name) for column in kept):
            connection.execute(sa.update(table).where(table.c.id == row.id).values(**values))
            number += 1
    return number


def _trace(form: str) -> str:
    """What is looked for in the database: the longest part whose capitals every database knows; what is found is
    looked at in full."""
    longest = max(re.findall(r"[\x20-\x7e]+", form), key=len, default="")
    return longest.lower() if len(longest) > 2 else form


def _in_json(word: str) -> str:
    return json.dumps(word)[1:-1]


def _without(value: Any, said: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for word, other in sorted(said.items(), key=lambda one: -len(one[0])):
            for form in dict.fromkeys((word, html.escape(word))):
                # Addresses are written either way; a name with small letters is mostly a word.
                flags = re.IGNORECASE if "@" in form else re.NOFLAG
                value = re.sub(_whole(form), other.replace("\\", r"\\"), value, flags=flags)
        return value
    if isinstance(value, list):
        return [_without(one, said) for one in value]
    if isinstance(value, dict):
        return {name: _without(one, said) for name, one in value.items()}
    return value


def _whole(word: str) -> str:
    """Li is not to be taken out of Lindqvist; Chinese stands without spaces between."""
    before, after = (r"(?<![0-9A-Za-z])" if word[0].isascii() else "", r"(?![0-9A-Za-z])" if word[-1].isascii() else "")
    return f"{before}{re.escape(word)}{after}"
