"""Who has which machine, and when: customers, contracts, and rentals with their half-open periods (UTC).

A machine has one rental at a time. Every change is audited, without names and addresses, and raises the registry's
version.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.store import schema
from monitor.store.database import Database, runs
from monitor.store.registry import (
    LANGS,
    Conflict,
    Refused,
    changing,
    check_email,
    check_text,
    lock_machines,
    refuse_stale,
    rental_between,
    tag_of,
    write_audit,
)

Row = sa.Row[*tuple[Any, ...]]


class Hire:
    """Commands about rentals, each one transaction. `actor` is who gives them.

    They raise LookupError where what they are about is not there, Conflict where something else stands in the way,
    Stale where `seen`, the tag of a rental as it was read, is not its tag any more, and Refused where what was said
    cannot be taken.
    """

    def __init__(self, database: Database, actor: str) -> None:
        self.database = database
        self.actor = actor

    def add_customer(self, name: str, email: str, lang: str, now: int) -> int:
        check_text("name", name, 200)
        check_email(email)
        if lang not in LANGS:
            raise Refused(f"lang {lang!r}: allowed are {', '.join(LANGS)}")
        with changing(self.database) as connection:
            c = schema.customer.c
            there = connection.execute(sa.select(c.id).where(c.name == name)).scalar()
            if there is not None:
                raise Conflict(f"customer {there} has this name already")
            customer_id = _insert(connection, schema.customer, {"name": name, "email": email, "lang": lang})
            write_audit(connection, now, self.actor, "customer_added", f"customer:{customer_id}", after={"lang": lang})
        return customer_id

    def change_customer(
        self, customer_id: int, changes: Mapping[str, str], now: int, *, seen: str | None = None
    ) -> None:  # fmt: skip
        """Change some of name, email ('': they are told nothing) and lang."""
        if "name" in changes:
            check_text("name", changes["name"], 200)
        if changes.get("email"):
            check_email(changes["email"])
        if changes.get("lang", LANGS[0]) not in LANGS:
            raise Refused(f"lang {changes['lang']!r}: allowed are {', '.join(LANGS)}")
        with changing(self.database) as connection:
            c = schema.customer.c
            row = connection.execute(sa.select(schema.customer).where(c.id == customer_id).with_for_update()).first()
            if row is None:
                raise LookupError(f"there is no customer {customer_id}")
            if row.erased_at is not None:
                raise Conflict(f"customer {customer_id} was erased")
            refuse_stale(f"customer {customer_id}", seen, customer_tag(row))
            changed = {name: value for name, value in changes.items() if row._mapping[name] != value}
            if not changed:
                return
            there = connection.execute(sa.select(c.id).where(c.name == changed.get("name", ""))).scalar()
            if there is not None:
                raise Conflict(f"customer {there} has this name already")
            connection.execute(sa.update(schema.customer).where(c.id == customer_id).values(**changed))
            write_audit(connection, now, self.actor, "customer_changed", f"customer:{customer_id}",
                        after={"fields": sorted(changed)})  # fmt: skip

    def add_contract(self, number: str, customer_id: int, signed_at: int | None, now: int) -> int:
        """`number` is the one on the paper."""
        check_text("number", number, 60)
        with changing(self.database) as connection:
            _known(connection, schema.customer, "customer_id", customer_id)
            c = schema.contract.c
            there = connection.execute(sa.select(c.id).where(c.number == number)).scalar()
            if there is not None:
                raise Conflict(f"contract {there} has the number {number} already")
            values = {"number": number, "customer_id": customer_id, "signed_at": signed_at}
            contract_id = _insert(connection, schema.contract, {**values, "added_at": now})
            write_audit(connection, now, self.actor, "contract_added", f"contract:{contract_id}", after=values)
        return contract_id

    def add_rental(
        self, device_id: str, starts_at: int, ends_at: int | None, now: int, *, contract_id: int | None = None,
        customer_id: int | None = None,
    ) -> int:  # fmt: skip
        """A machine is on hire in [starts_at, ends_at), under a contract or to a customer without one. `ends_at` None:
        until it is ended."""
        with changing(self.database) as connection:
            if contract_id is not None:
                of = _known(connection, schema.contract, "contract_id", contract_id).customer_id
                if customer_id not in (None, of):
                    raise Refused(f"customer_id: contract {contract_id} is customer {of}'s")
                customer_id = of
            elif customer_id is None:
                raise Refused("contract_id or customer_id: one of them is needed")
            if _known(connection, schema.customer, "customer_id", customer_id).erased_at is not None:
                raise Refused(f"customer_id: customer {customer_id} was erased")
            values = {
                "device_id": device_id, "customer_id": customer_id, "contract_id": contract_id,
                "starts_at": starts_at, "ends_at": ends_at,
            }  # fmt: skip
            return self._begin(connection, values, "rental_added", now)

    def end_rental(self, rental_id: int, at: int | None, now: int, *, seen: str | None = None) -> None:
        """A rental ends at `at` (None: now); one that has not begun by then never does."""
        with changing(self.database) as connection:
            row = _rental(connection, rental_id, seen)
            if row.ends_at is not None and row.ends_at <= now:
                raise Conflict(f"rental {rental_id} is over already")
            ends_at = max(now if at is None else at, row.starts_at)
            _refuse_other(connection, row.device_id, row.starts_at, ends_at, but=rental_id)
            self._end(connection, row, ends_at, "rental_ended", now)

    def take_back(self, rental_id: int, at: int | None, now: int, *, seen: str | None = None) -> None:
        """The machine of a rental came back at `at` (None: now): the rental ends then, unless it had ended before.

        One that came back before the rental began was never on hire by it: the rental ends when it begins.
        """
        moment = now if at is None else at
        with changing(self.database) as connection:
            row = _rental(connection, rental_id, seen)
            if row.returned_at is not None:
                raise Conflict(f"the machine of rental {rental_id} came back already")
            if row.handed_over_at is None and (row.starts_at > now or row.ends_at == row.starts_at):
                raise Conflict(f"rental {rental_id} has not begun: no machine can come back from it")
            went_at = row.starts_at if row.handed_over_at is None else row.handed_over_at
            if not went_at <= moment <= now:
                raise Refused("at: must lie between the hand-over (or else the beginning of the rental) and now")
            c = schema.rental.c
            connection.execute(sa.update(schema.rental).where(c.id == rental_id).values(returned_at=moment))
            ends_at = moment if row.ends_at is None else min(row.ends_at, moment)
            self._end(connection, row, max(row.starts_at, ends_at), "rental_returned", now)

    def exchange(
        self, rental_id: int, device_id: str, at: int | None, now: int, *, seen: str | None = None
    ) -> int:  # fmt: skip
        """Another machine takes a rental's place at `at` (None: now), for the rest of its period. Answers its rental.

        Open tickets of the machine that is taken away stay, with their clocks: it is to be repaired all the same.
        """
        moment = now if at is None else at
        with changing(self.database) as connection:
            row = _rental(connection, rental_id, seen, device_id)
            if not row.starts_at <= moment or (row.ends_at is not None and moment >= row.ends_at):
                raise Conflict(f"rental {rental_id} does not run at that moment")
            if device_id == row.device_id:
                raise Refused(f"device_id: {device_id} is the machine that is to be exchanged")
            self._end(connection, row, moment, "rental_exchanged", now)
            values = {
                "device_id": device_id, "customer_id": row.customer_id, "contract_id": row.contract_id,
                "replaces_id": rental_id, "starts_at": moment, "ends_at": row.ends_at,
            }  # fmt: skip
            return self._begin(connection, values, "rental_added", now)

    def _begin(self, connection: Connection, values: Mapping[str, Any], what: str, now: int) -> int:
        starts_at, ends_at = values["starts_at"], values["ends_at"]
        if ends_at is not None and ends_at <= starts_at:
            raise Refused("ends_at: must lie after starts_at")
        _lock_for_hire(connection, values["device_id"])
        _refuse_other(connection, values["device_id"], starts_at, ends_at)
        rental_id = _insert(connection, schema.rental, values)
        write_audit(connection, now, self.actor, what, f"rental:{rental_id}", after=dict(values))
        _tell_pages(connection, values["device_id"], now)
        return rental_id

    def _end(self, connection: Connection, row: Row, ends_at: int, what: str, now: int) -> None:
        connection.execute(sa.update(schema.rental).where(schema.rental.c.id == row.id).values(ends_at=ends_at))
        before, after = {"ends_at": row.ends_at}, {"ends_at": ends_at}
        write_audit(connection, now, self.actor, what, f"rental:{row.id}", before, after)
        _tell_pages(connection, row.device_id, now)


# --- what is read --------------------------------------------------------------------------------------------------


def customers(connection: Connection, *, after: int = 0, limit: int) -> list[Row]:
    c = schema.customer.c
    return list(connection.execute(sa.select(schema.customer).where(c.id > after).order_by(c.id).limit(limit)))


def customer(connection: Connection, customer_id: int) -> Row | None:
    c = schema.customer.c
    return connection.execute(sa.select(schema.customer).where(c.id == customer_id)).first()


def customer_tag(row: Row) -> str:
    """What may be changed of a customer, as a short hash (ETag)."""
    return tag_of((row.name, row.email, row.lang))


def on_hire(connection: Connection, now: int) -> dict[int, int]:
    """How many machines each customer has on hire now."""
    c = schema.rental.c
    rows = connection.execute(
        sa.select(c.customer_id, sa.func.count()).where(runs(c, now)).group_by(c.customer_id)
    )  # fmt: skip
    return {row[0]: row[1] for row in rows}


def contracts(
    connection: Connection, *, customer_id: int | None = None, before: int | None = None, limit: int
) -> list[Row]:  # fmt: skip
    """Contracts with their customers, the newest first."""
    c = schema.contract.c
    statement = (
        sa.select(schema.contract, schema.customer.c.name.label("customer_name"))
        .join(schema.customer, schema.customer.c.id == c.customer_id).order_by(c.id.desc()).limit(limit)
    )  # fmt: skip
    if customer_id is not None:
        statement = statement.where(c.customer_id == customer_id)
    if before is not None:
        statement = statement.where(c.id < before)
    return list(connection.execute(statement))


def rental(connection: Connection, rental_id: int) -> Row | None:
    c = schema.rental.c
    return connection.execute(sa.select(schema.rental).where(c.id == rental_id)).first()


# --- what is refused -----------------------------------------------------------------------------------------------


def _known(connection: Connection, table: sa.Table, field: str, key: int) -> Row:
    row = connection.execute(sa.select(table).where(table.c.id == key)).first()
    if row is None:
        raise Refused(f"{field}: there is no {table.name} {key}")
    return row


def _rental(connection: Connection, rental_id: int, seen: str | None, *other_machines: str) -> Row:
    """A rental, locked with its machine and these others."""
    c = schema.rental.c
    machine = connection.execute(sa.select(c.device_id).where(c.id == rental_id)).scalar()
    if machine is None:
        raise LookupError(f"there is no rental {rental_id}")
    lock_machines(connection, {machine, *other_machines})
    row = connection.execute(sa.select(schema.rental).where(c.id == rental_id).with_for_update()).one()
    refuse_stale(f"rental {rental_id}", seen, tag_of(row))
    return row


def _lock_for_hire(connection: Connection, device_id: str) -> None:
    row = lock_machines(connection, [device_id]).get(device_id)
    if row is None:
        raise Refused(f"device_id: there is no machine {device_id!r}")
    if row.retired_at is not None:
        raise Conflict(f"machine {device_id} is retired")


def _refuse_other(
    connection: Connection, device_id: str, starts_at: int, ends_at: int | None, *, but: int = 0
) -> None:  # fmt: skip
    other = rental_between(connection, device_id, starts_at, ends_at, but=but)
    if other is not None:
        raise Conflict(f"machine {device_id} is on hire in this period already: rental {other.id}")


def _insert(connection: Connection, table: sa.Table, values: Mapping[str, Any]) -> int:
    key = connection.execute(sa.insert(table).values(**values)).inserted_primary_key
    assert key is not None  # noqa: S101 (a table with a serial id always answers with it)
    return int(key[0])


def _tell_pages(connection: Connection, device_id: str, now: int) -> None:
    connection.execute(sa.insert(schema.change).values(at=now, what="rental", device_id=device_id, ticket_id=None))
