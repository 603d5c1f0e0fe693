"""One box for everything: machines, tickets, customers, sites and people by what somebody types of them."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.store import queries
from monitor.store.queries import AnyRow, Scope
from monitor.store.schema import customer, device, person, rental, site, ticket

ESCAPE = "\\"
MOST_ID = 2**63 - 1


@dataclass(frozen=True)
class Found:
    """What was found, of each kind at most so many as were asked for, the best first."""

    machines: list[AnyRow]
    tickets: list[AnyRow]
    customers: list[AnyRow]
    sites: list[AnyRow]
    people: list[AnyRow]


def search(connection: Connection, scope: Scope, wanted: str, *, limit: int, people: bool) -> Found:
    """What has these words in its name or number; `wanted` is one line of text, its case does not matter.

    Machines are found by their id, site and customer; tickets by their number, and those open by their machine's id.
    A customer finds their own machines and tickets only. `people`: whether people may be looked for too. Costs one
    pass over each register.
    """
    wanted = " ".join(wanted.split())
    if not wanted:
        return Found([], [], [], [], [])
    office = scope.customer_id is None
    return Found(
        _machines(connection, scope, wanted, limit),
        _tickets(connection, scope, wanted, limit),
        _customers(connection, wanted, limit) if office else [],
        _named(connection, site, wanted, limit) if office else [],
        _named(connection, person, wanted, limit, person.c.disabled_at.is_(None)) if office and people else [],
    )


def _machines(connection: Connection, scope: Scope, wanted: str, limit: int) -> list[AnyRow]:
    one = queries.machines_seen(scope).where(device.c.retired_at.is_(None)).subquery()
    has = sa.or_(*(_has(column, wanted) for column in (one.c.device_id, one.c.site_name, one.c.customer_name)))
    exact = sa.func.lower(one.c.device_id) == wanted.lower()
    begins = _has(one.c.device_id, wanted, anywhere=False)
    statement = sa.select(one).where(has).order_by(exact.desc(), begins.desc(), one.c.device_id).limit(limit)
    return list(connection.execute(statement))


def _tickets(connection: Connection, scope: Scope, wanted: str, limit: int) -> list[AnyRow]:
    number = wanted.removeprefix("#")
    is_number = number.isascii() and number.isdigit() and int(number) <= MOST_ID
    statement = queries.tickets_seen(scope)
    by_number = list(connection.execute(statement.where(ticket.c.id == int(number)))) if is_number else []
    rest = statement.where(queries.NOT_ENDED, _has(ticket.c.device_id, wanted)).order_by(ticket.c.id.desc())
    others = connection.execute(rest.limit(limit))
    return [*by_number, *(row for row in others if row.id not in {one.id for one in by_number})][:limit]


def _customers(connection: Connection, wanted: str, limit: int) -> list[AnyRow]:
    """Customers with how many machines they have had on hire."""
    hired = sa.select(sa.func.count()).where(rental.c.customer_id == customer.c.id).scalar_subquery()
    statement = sa.select(customer.c.id, customer.c.name, hired.label("rentals")).where(_has(customer.c.name, wanted))
    return list(connection.execute(statement.order_by(customer.c.name).limit(limit)))


def _named(
    connection: Connection, table: sa.Table, wanted: str, limit: int, *clauses: sa.ColumnElement[bool]
) -> list[AnyRow]:  # fmt: skip
    statement = sa.select(table).where(_has(table.c.name, wanted), *clauses).order_by(table.c.name).limit(limit)
    return list(connection.execute(statement))


def _has(column: sa.ColumnElement[Any], wanted: str, *, anywhere: bool = True) -> sa.ColumnElement[bool]:
    """Whatever somebody types is text: per cent signs and underscores too."""
    plain = wanted.lower()
    for sign in (ESCAPE, "%", "_"):
        plain = plain.replace(sign, ESCAPE + sign)
    return sa.func.lower(column).like(f"{'%' if anywhere else ''}{plain}%", escape=ESCAPE)
