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
    statement = machines_seen(scope).where(device.c.retired_at.is_(None)).order_by(device.c.device_id).limit(limit)
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
    one = machines_seen(scope).where(device.c.retired_at.is_(None)).subquery()
    groups = (one.c.profile, one.c.site_id, one.c.site_name, one.c.condition, one.c.rental_id.is_not(None))
    columns = (*groups[:4], groups[4].label("hired"), func.count().label("number"))
    return connection.execute(select(*columns).group_by(*groups).order_by(one.c.profile, one.c.site_name)).all()


def squares(connection: Connection, scope: Scope, site_ids: Collection[int | None], each: int) -> Rows:
    """The machines of these sites (None: those of no site), at most so many of each: the worst first, those not on hire
    last. Rows of (device_id, profile, site_id, condition, hired)."""
    one = machines_seen(scope).where(device.c.retired_at.is_(None), _at_sites(site_ids)).subquery()
    hired = one.c.rental_id.is_not(None)
    gravity = case({"bad": 0, "unknown": 1}, value=one.c.condition, else_=2)
    place = func.row_number().over(partition_by=one.c.site_id, order_by=(hired.desc(), gravity, one.c.device_id))
    c = one.c
    ranked = select(
        c.device_id, c.profile, c.site_id, c.condition, hired.label("hired"), place.label("rank")
    ).subquery()
    statement = select(*list(ranked.c)[:5]).where(ranked.c.rank <= each).order_by(ranked.c.site_id, ranked.c.rank)
    return connection.execute(statement).all()


def _at_sites(site_ids: Collection[int | None]) -> ColumnElement[bool]:
    named = device.c.site_id.in_([one for one in site_ids if one is not None])
    return or_(named, device.c.site_id.is_(None)) if None in site_ids else named


def not_reporting(connection: Connection, scope: Scope) -> int:
    """How many machines are silent or were never heard, bad ones too: those that are bad count as bad only."""
    one = machines_seen(scope).where(device.c.retired_at.is_(None), unheard).subquery()
    number: int = connection.execute(select(func.count()).select_from(one)).scalar_one()
    return number


def device_row(connection: Connection, scope: Scope, device_id: str) -> AnyRow | None:
    """One machine, or None where there is none that the asker may see."""
    return connection.execute(machines_seen(scope).where(device.c.device_id == device_id)).one_or_none()


def open_faults(connection: Connection, device_id: str, since: int = 0) -> Rows:
    statement = select(fault).where(
        fault.c.device_id == device_id, fault.c.cleared_at.is_(None), fault.c.opened_at >= since
    )
    return connection.execute(statement.order_by(fault.c.opened_at, fault.c.id)).all()


def faults_between(connection: Connection, device_id: str, start_at: int, end_at: int, limit: int) -> Rows:
    """Faults of a machine that were open at some moment of [start_at, end_at), the newest first."""
    f = fault.c
    touches = f.occurred_at < end_at, or_(f.cleared_at.is_(None), f.cleared_at > start_at)
    statement = select(fault).where(f.device_id == device_id, *touches)
    return connection.execute(statement.order_by(f.occurred_at.desc(), f.id.desc()).limit(limit)).all()


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


def machines_seen(scope: Scope) -> Select[*tuple[Any, ...]]:
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


@dataclass(frozen=True)
class Wanted:
    """Which tickets are asked for. What is left out asks for all."""

    device_id: str | None = None
    statuses: Collection[str] = ()
    severity: str | None = None
    site_id: int | None = None
    technician_id: int | None = None
    unassigned: bool = False
    """Those that nobody has; what is resolved needs nobody."""
    due_until: int | None = None
    """Their first running clock is due by then, or was."""
    ids: Collection[int] | None = None


EVERY_TICKET = Wanted()


def _where(wanted: Wanted) -> list[ColumnElement[bool]]:
    c = ticket.c
    found: list[ColumnElement[bool]] = []
    for column, value in ((c.device_id, wanted.device_id), (c.severity, wanted.severity),
                          (site.c.id, wanted.site_id), (c.technician_id, wanted.technician_id)):  # fmt: skip
        if value is not None:
            found.append(column == value)
    if wanted.statuses:
        found.append(c.status.in_(wanted.statuses))
    if wanted.unassigned:
        found.append(UNASSIGNED)
    if wanted.ids is not None:
        found.append(c.id.in_(wanted.ids))
    if wanted.due_until is not None:
        found.append(c.due_at <= wanted.due_until)
    return found


UNASSIGNED = and_(ticket.c.technician_id.is_(None), ticket.c.status.not_in(("resolved", "closed", "cancelled")))


def tickets(
    connection: Connection,
    scope: Scope,
    *,
    wanted: Wanted = EVERY_TICKET,
    before: int | None = None,
    limit: int,
) -> Rows:
    """Tickets, the newest first."""
    statement = tickets_seen(scope).where(*_where(wanted)).order_by(ticket.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(ticket.c.id < before)
    return connection.execute(statement).all()


def pressing_tickets(
    connection: Connection, scope: Scope, *, device_id: str | None = None, wanted: Wanted = EVERY_TICKET, limit: int
) -> Rows:  # fmt: skip
    """Open tickets, the one with the least time left first; those without a running clock last, by severity."""
    gravity = case({severity.value: n for n, severity in enumerate(Severity)}, value=ticket.c.severity)
    statement = tickets_seen(scope).where(NOT_ENDED, *_where(wanted))
    if device_id is not None:
        statement = statement.where(ticket.c.device_id == device_id)
    c = ticket.c
    # Two statements, for each finds its own by an index, and together they would sort all that is open.
    pressing = statement.where(c.due_at.is_not(None)).order_by(c.due_at, gravity, c.id).limit(limit)
    rows = list(connection.execute(pressing))
    if len(rows) < limit and wanted.due_until is None:
        others = statement.where(c.due_at.is_(None)).order_by(gravity, c.id).limit(limit - len(rows))
        rows += connection.execute(others)
    return rows


def tally_tickets(connection: Connection, scope: Scope) -> Rows:
    """How many tickets are open of each status, severity, site and technician. Rows of (status, severity, place_id,
    site_name, technician_id, count)."""
    one = tickets_seen(scope).where(NOT_ENDED).subquery().c
    groups = one.status, one.severity, one.place_id, one.site_name, one.technician_id
    return connection.execute(select(*groups, func.count().label("count")).group_by(*groups)).all()


def due_by(connection: Connection, until: int) -> int:
    """How many open tickets have their first running clock due by then, or past."""
    statement = select(func.count()).select_from(ticket).where(NOT_ENDED, ticket.c.due_at <= until)
    number: int = connection.execute(statement).scalar_one()
    return number


def ticket_row(connection: Connection, scope: Scope, ticket_id: int) -> AnyRow | None:
    return connection.execute(tickets_seen(scope).where(ticket.c.id == ticket_id)).one_or_none()


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


def tickets_seen(scope: Scope) -> Select[*tuple[Any, ...]]:
    statement = (
        select(
            ticket,
            device.c.profile,
            site.c.id.label("place_id"),
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


def rentals(
    connection: Connection, scope: Scope, *, customer_id: int | None = None, device_id: str | None = None,
    before: int | None = None, limit: int,
) -> Rows:  # fmt: skip
    """Rentals with their customers, the newest first. A customer sees those that run now."""
    statement = select(rental, customer.c.name.label("customer_name")).join(
        customer, customer.c.id == rental.c.customer_id
    )
    if scope.customer_id is not None:
        statement = statement.where(rental.c.customer_id == scope.customer_id, _running(scope.now))
    for column, value in ((rental.c.customer_id, customer_id), (rental.c.device_id, device_id)):
        if value is not None:
            statement = statement.where(column == value)
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


def site_name(connection: Connection, site_id: int | None) -> str | None:
    """None where there is no such site."""
    row = site_row(connection, site_id) if site_id is not None else None
    return row.name if row else None


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
    connection: Connection, *, device_id: str | None = None, reason: str | None = None, before: int | None = None,
    limit: int, excerpt_bytes: int,
) -> Rows:  # fmt: skip
    """What broke the wire contract, the newest first, each with the beginning of its payload."""
    excerpt = func.substr(rejected.c.payload, 1, excerpt_bytes).label("excerpt")
    columns = [column for column in rejected.c if column is not rejected.c.payload]
    statement = select(*columns, excerpt).order_by(rejected.c.id.desc()).limit(limit)
    for column, value in ((rejected.c.device_id, device_id), (rejected.c.reason, reason)):
        if value is not None:
            statement = statement.where(column == value)
    if before is not None:
        statement = statement.where(rejected.c.id < before)
    return connection.execute(statement).all()


def rejections_by_reason(connection: Connection, since: int, newest: int) -> Rows:
    """How many messages were rejected since, by reason and the commonest first: rows of (reason, number, machines,
    last_at). At most the newest so many are looked at: in a storm nobody counts further."""
    c = rejected.c
    lately = select(c.reason, c.device_id, c.received_at).order_by(c.id.desc()).limit(newest).subquery().c
    # Under '' come those of which nobody knows whose they are.
    whose = func.count(func.nullif(lately.device_id, "").distinct()).label("machines")
    statement = select(
        lately.reason, func.count().label("number"), whose, func.max(lately.received_at).label("last_at")
    )
    counted = statement.where(lately.received_at >= since).group_by(lately.reason)
    return connection.execute(counted.order_by(func.count().desc(), lately.reason)).all()


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
