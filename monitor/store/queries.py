"""What the API and the pages read. Read-only; every answer is cut to what the asker may see.

Rows keep the column names of the schema; times are epoch milliseconds. Lists take `after`, the key of the last row
already seen, and `limit`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Row,
    ScalarSelect,
    Select,
    String,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
)

from monitor.devices import FaultKind, Severity
from monitor.store.database import runs
from monitor.store.schema import (
    UNENDED,
    amendment,
    change,
    commitment,
    customer,
    device,
    fault,
    notice,
    pause,
    person,
    rejected,
    rental,
    seen,
    site,
    step,
    ticket,
    ticket_link,
)

AnyRow = Row[*tuple[Any, ...]]
Rows = Sequence[AnyRow]

NOT_ENDED = text(f"ticket.{UNENDED}")
"""Said as the index of these has it, which holds nothing else."""
BAD = tuple(severity.value for severity in Severity if severity.makes_bad)


@dataclass(frozen=True)
class Scope:
    """Whose eyes: everybody of the company (`customer_id` None), or one customer, who sees the machines on hire to
    them at `now`, and of those only what happened since that rental began."""

    now: int
    customer_id: int | None = None


# --- machines ------------------------------------------------------------------------------------------------------


def devices(
    connection: Connection,
    scope: Scope,
    *,
    site_id: int | None = None,
    profile: str | None = None,
    condition: str | None = None,
    after: str | None = None,
    limit: int,
) -> Rows:
    """Machines that are not retired, by id, each with its condition, its site and its running rental."""
    statement = _machines(scope).where(device.c.retired_at.is_(None)).order_by(device.c.device_id).limit(limit)
    if site_id is not None:
        statement = statement.where(device.c.site_id == site_id)
    if profile is not None:
        statement = statement.where(device.c.profile == profile)
    if condition is not None:
        statement = statement.where(condition_now == condition)
    if after is not None:
        statement = statement.where(device.c.device_id > after)
    return connection.execute(statement).all()


def tally(connection: Connection, scope: Scope) -> Rows:
    """How many machines there are of each profile, site and condition, on hire or not: `hired`, `number`."""
    one = _machines(scope).where(device.c.retired_at.is_(None)).subquery()
    groups = (one.c.profile, one.c.site_id, one.c.site_name, one.c.condition, one.c.rental_id.is_not(None))
    columns = (*groups[:4], groups[4].label("hired"), func.count().label("number"))
    return connection.execute(select(*columns).group_by(*groups).order_by(one.c.profile, one.c.site_name)).all()


def not_reporting(connection: Connection, scope: Scope) -> int:
    """How many machines are silent or were never heard, bad ones too: those that are bad count as bad only."""
    one = _machines(scope).where(device.c.retired_at.is_(None), unheard).subquery()
    number: int = connection.execute(select(func.count()).select_from(one)).scalar_one()
    return number


def device_row(connection: Connection, scope: Scope, device_id: str) -> AnyRow | None:
    """One machine, or None where there is none that the asker may see."""
    return connection.execute(_machines(scope).where(device.c.device_id == device_id)).one_or_none()


def open_faults(connection: Connection, device_id: str, since: int = 0) -> Rows:
    statement = select(fault).where(
        fault.c.device_id == device_id, fault.c.cleared_at.is_(None), fault.c.opened_at >= since
    )
    return connection.execute(statement.order_by(fault.c.opened_at, fault.c.id)).all()


def completeness(connection: Connection, device_id: str) -> tuple[int, int]:
    """(received, missing): distinct messages taken in, and numbers that never came."""
    rows = connection.execute(select(seen.c.received, seen.c.next_seq).where(seen.c.device_id == device_id)).all()
    return sum(row.received for row in rows), sum(row.next_seq - row.received for row in rows)


def _open_fault(*clauses: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(fault.c.device_id == device.c.device_id, fault.c.cleared_at.is_(None), *clauses)


unheard = or_(device.c.first_heard_at.is_(None), _open_fault(fault.c.kind == FaultKind.SILENT.value))
condition_now: ColumnElement[str] = case(
    (_open_fault(fault.c.severity.in_(BAD)), literal("bad")),
    (unheard, literal("unknown")),
    else_=literal("good"),
)


def _running(now: int) -> ColumnElement[bool]:
    return runs(rental.c, now)


def _rental_now(now: int) -> ScalarSelect[int]:
    """A machine's running rental, and only one, so that whatever the record says no machine is there twice."""
    r = rental.alias()
    latest = select(r.c.id).where(r.c.device_id == device.c.device_id, runs(r.c, now))
    return latest.order_by(r.c.starts_at.desc(), r.c.id.desc()).limit(1).correlate(device).scalar_subquery()


def _machines(scope: Scope) -> Select[*tuple[Any, ...]]:
    statement = (
        select(
            device,
            condition_now.label("condition"),
            site.c.name.label("site_name"),
            func.coalesce(site.c.remote, False).label("remote"),
            rental.c.id.label("rental_id"),
            rental.c.starts_at,
            rental.c.ends_at,
            customer.c.id.label("customer_id"),
            customer.c.name.label("customer_name"),
        )
        .outerjoin(site, site.c.id == device.c.site_id)
        .outerjoin(rental, rental.c.id == _rental_now(scope.now))
        .outerjoin(customer, customer.c.id == rental.c.customer_id)
    )
    return statement if scope.customer_id is None else statement.where(rental.c.customer_id == scope.customer_id)


# --- tickets -------------------------------------------------------------------------------------------------------


def tickets(
    connection: Connection,
    scope: Scope,
    *,
    device_id: str | None = None,
    statuses: Collection[str] = (),
    before: int | None = None,
    limit: int,
) -> Rows:
    """Tickets, the newest first."""
    statement = _tickets(scope).order_by(ticket.c.id.desc()).limit(limit)
    if device_id is not None:
        statement = statement.where(ticket.c.device_id == device_id)
    if statuses:
        statement = statement.where(ticket.c.status.in_(statuses))
    if before is not None:
        statement = statement.where(ticket.c.id < before)
    return connection.execute(statement).all()


def pressing_tickets(connection: Connection, scope: Scope, *, device_id: str | None = None, limit: int) -> Rows:
    """Open tickets, the one with the least time left first; those without a running clock last, by severity."""
    gravity = case({severity.value: n for n, severity in enumerate(Severity)}, value=ticket.c.severity)
    statement = _tickets(scope).where(NOT_ENDED)
    if device_id is not None:
        statement = statement.where(ticket.c.device_id == device_id)
    c = ticket.c
    # Two statements, for each finds its own by an index, and together they would sort all that is open.
    pressing = statement.where(c.due_at.is_not(None)).order_by(c.due_at, gravity, c.id).limit(limit)
    rows = list(connection.execute(pressing))
    if len(rows) < limit:
        others = statement.where(c.due_at.is_(None)).order_by(gravity, c.id).limit(limit - len(rows))
        rows += connection.execute(others)
    return rows


def ticket_row(connection: Connection, scope: Scope, ticket_id: int) -> AnyRow | None:
    return connection.execute(_tickets(scope).where(ticket.c.id == ticket_id)).one_or_none()


def commitments(connection: Connection, ticket_ids: Iterable[int]) -> dict[int, list[AnyRow]]:
    """The clocks of each of these tickets, the first due first."""
    statement = select(commitment).where(commitment.c.ticket_id.in_(list(ticket_ids)))
    clocks: dict[int, list[AnyRow]] = defaultdict(list)
    for row in connection.execute(statement.order_by(commitment.c.due_at, commitment.c.id)):
        clocks[row.ticket_id].append(row)
    return clocks


def faults_of_ticket(connection: Connection, ticket_id: int) -> Rows:
    return connection.execute(select(fault).where(fault.c.ticket_id == ticket_id).order_by(fault.c.id)).all()


def amendments(connection: Connection, ticket_id: int) -> Rows:
    """Breaches that were annulled, oldest first."""
    statement = select(amendment).where(amendment.c.ticket_id == ticket_id)
    return connection.execute(statement.order_by(amendment.c.id)).all()


def links(connection: Connection, ticket_id: int) -> Rows:
    """The tickets that this one was linked with, from either side."""
    c = ticket_link.c
    other = case((c.ticket_id == ticket_id, c.other_id), else_=c.ticket_id).label("other_id")
    statement = select(other, c.kind, c.at).where(or_(c.ticket_id == ticket_id, c.other_id == ticket_id))
    return connection.execute(statement.order_by(c.id)).all()


def pause_now(connection: Connection, ticket_id: int) -> AnyRow | None:
    """Why a ticket waits, if it does."""
    return connection.execute(select(pause).where(pause.c.ticket_id == ticket_id, pause.c.to_at.is_(None))).first()


def steps(connection: Connection, ticket_id: int) -> Rows:
    """Every turn of a ticket, in the order in which it happened, with the names of those who took it."""
    technician = person.alias("technician")
    statement = (
        select(
            step,
            step.c.corrected_by.is_not(None).label("corrected"),
            person.c.name.label("actor_name"),
            technician.c.name.label("technician_name"),
        )
        .outerjoin(person, step.c.actor == literal("person:").concat(cast(person.c.id, String)))
        .outerjoin(technician, technician.c.id == step.c.technician_id)
        .where(step.c.ticket_id == ticket_id)
    )
    return connection.execute(statement.order_by(step.c.happened_at, step.c.id)).all()


def _tickets(scope: Scope) -> Select[*tuple[Any, ...]]:
    statement = (
        select(
            ticket,
            device.c.profile,
            site.c.name.label("site_name"),
            func.coalesce(site.c.remote, False).label("remote"),
            customer.c.name.label("customer_name"),
            person.c.name.label("technician_name"),
        )
        .outerjoin(device, device.c.device_id == ticket.c.device_id)
        .outerjoin(site, site.c.id == func.coalesce(ticket.c.site_id, device.c.site_id))
        .outerjoin(rental, rental.c.id == ticket.c.rental_id)
        .outerjoin(customer, customer.c.id == rental.c.customer_id)
        .outerjoin(person, person.c.id == ticket.c.technician_id)
    )
    if scope.customer_id is None:
        return statement
    return statement.where(rental.c.customer_id == scope.customer_id, _running(scope.now))


def rule_outcomes(connection: Connection, start_at: int, end_at: int) -> list[tuple[str, str | None, int]]:
    """(rule, outcome, number of tickets) of the tickets that were opened in [start_at, end_at). A ticket counts once
    for each rule that found one of its faults."""
    rule = func.coalesce(fault.c.evidence["rule"].as_string(), "").label("rule")
    found = (
        select(rule, ticket.c.id, ticket.c.outcome).distinct()
        .join(ticket, ticket.c.id == fault.c.ticket_id)
        .where(ticket.c.opened_at >= start_at, ticket.c.opened_at < end_at)
        .subquery()
    )  # fmt: skip
    rows = connection.execute(
        select(found.c.rule, found.c.outcome, func.count()).group_by(found.c.rule, found.c.outcome)
    )
    return [(row[0], row[1], row[2]) for row in rows]


# --- the fleet as a whole ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenTickets:
    """How many tickets are open, and how many of them press."""

    open: int
    emergency: int
    due_within_15_min: int
    breached: int


def open_tickets(connection: Connection, scope: Scope) -> OpenTickets:
    """`due_within_15_min` counts tickets whose first running clock is due soon; `breached`, those of which one is past
    its due time and still not met."""
    c = ticket.c
    statement = select(
        func.count(), func.count().filter(c.severity == Severity.EMERGENCY.value),
        func.count().filter(c.due_at > scope.now, c.due_at <= scope.now + 15 * 60_000),
        func.count().filter(c.due_at <= scope.now),
    ).where(NOT_ENDED)  # fmt: skip
    if scope.customer_id is not None:
        statement = statement.join(rental, rental.c.id == c.rental_id).where(
            rental.c.customer_id == scope.customer_id, _running(scope.now)
        )
    return OpenTickets(*connection.execute(statement).one())


# --- registers -----------------------------------------------------------------------------------------------------


def rentals(connection: Connection, scope: Scope, *, before: int | None = None, limit: int) -> Rows:
    """Rentals with their customers, the newest first. A customer sees those that run now."""
    statement = select(rental, customer.c.name.label("customer_name")).join(
        customer, customer.c.id == rental.c.customer_id
    )
    if scope.customer_id is not None:
        statement = statement.where(rental.c.customer_id == scope.customer_id, _running(scope.now))
    if before is not None:
        statement = statement.where(rental.c.id < before)
    return connection.execute(statement.order_by(rental.c.id.desc()).limit(limit)).all()


def rental_row(connection: Connection, rental_id: int) -> AnyRow | None:
    statement = select(rental, customer.c.name.label("customer_name")).join(
        customer, customer.c.id == rental.c.customer_id
    )
    return connection.execute(statement.where(rental.c.id == rental_id)).one_or_none()


def sites(connection: Connection, *, after: int = 0, limit: int) -> Rows:
    return connection.execute(select(site).where(site.c.id > after).order_by(site.c.id).limit(limit)).all()


def site_row(connection: Connection, site_id: int) -> AnyRow | None:
    return connection.execute(select(site).where(site.c.id == site_id)).one_or_none()


def people(connection: Connection, *, after: int = 0, limit: int) -> Rows:
    return connection.execute(select(person).where(person.c.id > after).order_by(person.c.id).limit(limit)).all()


def technicians(connection: Connection) -> Rows:
    """Those who can be sent."""
    statement = select(person.c.id, person.c.name).where(person.c.role == "technician", person.c.disabled_at.is_(None))
    return connection.execute(statement.order_by(person.c.name)).all()


def notices(
    connection: Connection, *, ticket_id: int | None = None, before: int | None = None, limit: int
) -> Rows:  # fmt: skip
    statement = select(notice).order_by(notice.c.id.desc()).limit(limit)
    if ticket_id is not None:
        statement = statement.where(notice.c.ticket_id == ticket_id)
    if before is not None:
        statement = statement.where(notice.c.id < before)
    return connection.execute(statement).all()


def rejections(
    connection: Connection, *, device_id: str | None = None, before: int | None = None, limit: int, excerpt_bytes: int
) -> Rows:
    """What broke the wire contract, the newest first, each with the beginning of its payload."""
    excerpt = func.substr(rejected.c.payload, 1, excerpt_bytes).label("excerpt")
    columns = [column for column in rejected.c if column is not rejected.c.payload]
    statement = select(*columns, excerpt).order_by(rejected.c.id.desc()).limit(limit)
    if device_id is not None:
        statement = statement.where(rejected.c.device_id == device_id)
    if before is not None:
        statement = statement.where(rejected.c.id < before)
    return connection.execute(statement).all()


# --- what pages follow ---------------------------------------------------------------------------------------------


NOT_ON_THE_WAY = "change.id < pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 20"
"""On PostgreSQL a change is numbered by its transaction first (see the migration), and its number may come later than
higher ones. What is below all transactions that still run is complete."""


def _complete(connection: Connection) -> tuple[ColumnElement[bool], ...]:
    """What nothing can come before any more; SQLite commits one transaction after the other anyway."""
    return (literal_column(NOT_ON_THE_WAY, Boolean),) if connection.dialect.name == "postgresql" else ()


def last_change(connection: Connection) -> int:
    """The last change that all before it are known of."""
    newest: int | None = connection.execute(select(func.max(change.c.id)).where(*_complete(connection))).scalar_one()
    return newest or 0


def changes(connection: Connection, scope: Scope, *, after: int, limit: int) -> Rows:
    """What changed since, the oldest first. A customer hears what happened to the machines on hire to them now, and
    to the tickets of those rentals, since each rental began."""
    statement = select(change).where(change.c.id > after, *_complete(connection))
    if scope.customer_id is not None:
        of_ticket = (
            select(ticket.c.rental_id).where(ticket.c.id == change.c.ticket_id).correlate(change).scalar_subquery()
        )
        theirs = exists().where(
            rental.c.customer_id == scope.customer_id,
            _running(scope.now),
            rental.c.starts_at <= change.c.at,
            or_(
                rental.c.device_id == change.c.device_id,
                and_(change.c.device_id.is_(None), rental.c.id == of_ticket),
            ),
        )
        statement = statement.where(theirs)
    return connection.execute(statement.order_by(change.c.id).limit(limit)).all()
