"""The fleet's ledger and the sums kept beside it: what monitor/engine/bookkeeping.py loads and saves, and the figures
that are read from them, inside their caller's transaction."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.tickets import Outcome, Status, Verb
from monitor.devices import FaultKind, Severity
from monitor.fleet.availability import (
    DayKey,
    Group,
    NowKey,
    RunKey,
    Running,
    Spent,
    Sums,
    spent_by_day,
    window,
)
from monitor.fleet.ledger import Amendment, Condition, Declared, Facts, Hire, Interval, Kept, Place, Span, Stay, Wrong
from monitor.store import schema
from monitor.store.database import add_up, runs

Row = sa.Row[*tuple[Any, ...]]

GRAVITY = {severity.value: place for place, severity in enumerate(Severity) if severity.makes_bad}
EVER = 1 << 62
DUPLICATE = "duplicate"
"""The reason of a cancelled ticket (monitor/desk/choices.toml) that says that there was a fault all the same."""


# --- whose course is due ---


class Due(NamedTuple):
    device_id: str
    mark: int


def due(connection: Connection, now: int, limit: int) -> list[Due]:
    """The machines whose course is to be worked out anew by now. On PostgreSQL they are ours until the transaction
    ends: others leave them out, and what changes meanwhile is marked after it."""
    c = schema.ledger_due.c
    wanted = sa.select(c.device_id, c.mark).where(c.due_at <= now).order_by(c.due_at, c.device_id).limit(limit)
    rows = connection.execute(wanted.with_for_update(skip_locked=True))
    return [Due(*row) for row in rows]


def done(connection: Connection, worked: Sequence[Due], next_at: Mapping[str, int | None]) -> None:
    """These are worked out, until their next turn; one that changed meanwhile stays due."""
    c = schema.ledger_due.c
    named = [{"of": one.device_id, "seen": one.mark, "then": next_at[one.device_id] or EVER} for one in worked]
    if named:
        connection.execute(
            sa.update(schema.ledger_due)
            .where(c.device_id == sa.bindparam("of"), c.mark == sa.bindparam("seen"))
            .values(due_at=sa.bindparam("then")),
            named,
        )


def mark_all(connection: Connection) -> None:
    """Every machine's course is to be worked out anew."""
    connection.execute(sa.delete(schema.ledger_due))
    everybody = sa.select(schema.device.c.device_id, sa.literal(0), sa.literal(0))
    connection.execute(sa.insert(schema.ledger_due).from_select(["device_id", "due_at", "mark"], everybody))


# --- what a course depends on ---


def load_facts(connection: Connection, device_ids: Collection[str]) -> dict[str, Facts]:
    """All that stands in the record of these machines' courses."""
    d, ids = schema.device.c, list(device_ids)
    wrong, silent = _faults(connection, ids)
    late = _spans(connection, ids)
    hires, declared, stays = _hires(connection, ids), _declared(connection, ids), _stays(connection, ids)
    rows = connection.execute(
        sa.select(d.device_id, d.profile, d.added_at, d.retired_at, d.first_heard_at, d.site_id)
        .where(d.device_id.in_(ids))
    )  # fmt: skip
    return {
        row.device_id: Facts(
            row.profile, row.added_at, row.retired_at, row.first_heard_at, wrong[row.device_id], silent[row.device_id],
            late[row.device_id], hires[row.device_id], declared[row.device_id],
            stays[row.device_id] or [Stay(row.added_at, row.site_id)],
        )
        for row in rows
    }  # fmt: skip


def _false_alarm() -> sa.ColumnElement[bool]:
    """Whether a ticket turned out to have been about nothing. One that was cancelled as a duplicate was not: its fault
    was there, and known already."""
    t, p = schema.ticket.c, schema.step.c
    duplicate = sa.exists().where(
        p.ticket_id == t.id, p.turn == t.turn, p.event == Verb.CANCEL.value, p.reason == DUPLICATE
    )
    # Of a fault without a ticket nobody has said so: null counts as no.
    return sa.and_(t.outcome == Outcome.NUISANCE.value, ~sa.and_(t.status == Status.CANCELLED.value, duplicate))


def _faults(connection: Connection, ids: list[str]) -> tuple[dict[str, list[Wrong]], dict[str, list[Span]]]:
    c, t = schema.fault.c, schema.ticket.c
    wrong: dict[str, list[Wrong]] = defaultdict(list)
    silent: dict[str, list[Span]] = defaultdict(list)
    wanted = sa.or_(c.severity.in_(GRAVITY), c.kind == FaultKind.SILENT.value)
    columns = c.id, c.device_id, c.kind, c.severity, c.occurred_at, c.opened_at, c.cleared_at
    rows = connection.execute(
        sa.select(*columns, _false_alarm().label("false_alarm")).outerjoin(schema.ticket, t.id == c.ticket_id)
        .where(c.device_id.in_(ids), wanted).order_by(c.id)
    )  # fmt: skip
    for row in rows:
        # A device's clock may run ahead; a fault did not begin after the service knew of it.
        span = Span(min(row.occurred_at, row.opened_at), row.cleared_at)
        if row.severity in GRAVITY and not row.false_alarm:
            wrong[row.device_id].append(Wrong(*span, row.id, GRAVITY[row.severity]))
        if row.kind == FaultKind.SILENT.value:
            silent[row.device_id].append(span)
    return wrong, silent


def _spans(connection: Connection, ids: list[str]) -> dict[str, list[Span]]:
    c = schema.heard_late.c
    found: dict[str, list[Span]] = defaultdict(list)
    for row in connection.execute(sa.select(schema.heard_late).where(c.device_id.in_(ids)).order_by(c.from_at, c.id)):
        found[row.device_id].append(Span(row.from_at, row.to_at))
    return found


def _hires(connection: Connection, ids: list[str]) -> dict[str, list[Hire]]:
    c = schema.rental.c
    found: dict[str, list[Hire]] = defaultdict(list)
    for row in connection.execute(sa.select(schema.rental).where(c.device_id.in_(ids)).order_by(c.starts_at, c.id)):
        found[row.device_id].append(Hire(row.starts_at, row.ends_at, row.id, row.customer_id))
    return found


def _declared(connection: Connection, ids: list[str]) -> dict[str, list[Declared]]:
    w, t = schema.maintenance_window.c, schema.stay.c
    found: dict[str, list[Declared]] = defaultdict(list)
    sites: dict[int, set[str]] = defaultdict(set)
    for row in connection.execute(
        sa.select(t.device_id, t.site_id).where(t.device_id.in_(ids), t.site_id.is_not(None))
    ):
        sites[row.site_id].add(row.device_id)
    rows = connection.execute(
        sa.select(schema.maintenance_window).where(sa.or_(w.device_id.in_(ids), w.site_id.in_(sites)))
        .order_by(w.starts_at, w.id)
    )  # fmt: skip
    for row in rows:
        # One that was called off held until then.
        ends_at = row.ends_at if row.cancelled_at is None else min(row.ends_at, row.cancelled_at)
        for device_id in [row.device_id] if row.device_id else sorted(sites[row.site_id]):
            if ends_at > row.starts_at:
                found[device_id].append(Declared(row.starts_at, ends_at, row.what, row.site_id))
    return found


def _stays(connection: Connection, ids: list[str]) -> dict[str, list[Stay]]:
    c = schema.stay.c
    found: dict[str, list[Stay]] = defaultdict(list)
    for row in connection.execute(sa.select(schema.stay).where(c.device_id.in_(ids)).order_by(c.from_at, c.id)):
        found[row.device_id].append(Stay(row.from_at, row.site_id))
    return found


def note_heard_late(connection: Connection, device_id: str, from_at: int, to_at: int, apart_ms: int, now: int) -> None:
    """Readings came of a time that was past: kept where the machine counted as silent then. What adjoins, by less than
    `apart_ms`, becomes one span."""
    f, c = schema.fault.c, schema.heard_late.c
    silent = sa.select(f.id).where(
        f.device_id == device_id, f.kind == FaultKind.SILENT.value, f.occurred_at < to_at,
        sa.or_(f.cleared_at.is_(None), f.cleared_at > from_at),
    )  # fmt: skip
    if connection.execute(silent.limit(1)).first() is None:
        return
    beside = connection.execute(
        sa.select(schema.heard_late)
        .where(c.device_id == device_id, c.from_at <= to_at + apart_ms, c.to_at >= from_at - apart_ms).limit(1)
    ).first()  # fmt: skip
    if beside is None:
        connection.execute(
            sa.insert(schema.heard_late).values(device_id=device_id, from_at=from_at, to_at=to_at, recorded_at=now)
        )
    elif from_at < beside.from_at or to_at > beside.to_at:
        connection.execute(
            sa.update(schema.heard_late).where(c.id == beside.id)
            .values(from_at=min(from_at, beside.from_at), to_at=max(to_at, beside.to_at))
        )  # fmt: skip


# --- intervals ---


def load_intervals(connection: Connection, device_ids: Collection[str]) -> dict[str, list[Kept]]:
    """What the ledger says of these machines now, each in order."""
    c = schema.fleet_interval.c
    found: dict[str, list[Kept]] = defaultdict(list)
    rows = connection.execute(
        sa.select(schema.fleet_interval)
        .where(c.device_id.in_(list(device_ids)), c.superseded_at.is_(None)).order_by(c.device_id, c.from_at)
    )  # fmt: skip
    for row in rows:
        found[row.device_id].append(Kept(row.id, interval_of(row)))
    return found


def interval_of(row: Row) -> Interval:
    return Interval(
        row.from_at, row.to_at, Condition(row.condition), Place(row.place), row.profile, row.fault_id, row.site_id,
        row.rental_id, row.customer_id,
    )  # fmt: skip


def save(connection: Connection, amendments: Mapping[str, Amendment], now: int) -> None:
    """Write what changed. What is superseded goes first: only one interval of a machine runs."""
    t, c = schema.fleet_interval, schema.fleet_interval.c
    superseded = [{"of": kept.id} for one in amendments.values() for kept in one.superseded]
    ended = [{"of": kept.id, "end": to_at} for one in amendments.values() for kept, to_at in one.ended]
    added = [
        {"device_id": device_id, **interval._asdict(), "recorded_at": now,
         "end_recorded_at": None if interval.to_at is None else now}
        for device_id, one in amendments.items() for interval in one.added
    ]  # fmt: skip
    if superseded:
        connection.execute(sa.update(t).where(c.id == sa.bindparam("of")).values(superseded_at=now), superseded)
    if ended:
        end = sa.update(t).where(c.id == sa.bindparam("of"))
        connection.execute(end.values(to_at=sa.bindparam("end"), end_recorded_at=now), ended)
    if added:
        connection.execute(sa.insert(t), added)


# --- sums ---


def add_sums(connection: Connection, sums: Sums) -> None:
    """Add to the sums that are kept; what comes to nothing goes."""
    ended = [{**_key(key), "ms": ms} for key, ms in sums.ended_ms.items() if ms]
    running = [
        {**_key(key), "number": number, "from_ms": sums.running_from[key]}
        for key, number in sums.running.items() if number or sums.running_from[key]
    ]  # fmt: skip
    now = [{**key._asdict(), "number": number} for key, number in sums.now.items() if number]
    for table, rows in ((schema.day_sum, ended), (schema.running_sum, running), (schema.now_sum, now)):
        add_up(connection, table, rows)
    for table in (schema.running_sum, schema.now_sum):
        connection.execute(sa.delete(table).where(table.c.number == 0))
    connection.execute(sa.delete(schema.day_sum).where(schema.day_sum.c.day_at < sums.since_at))


def _key(key: DayKey | RunKey) -> dict[str, object]:
    return {**key.group._asdict(), "condition": key.condition, "day_at": key.day_at}


def clear_sums(connection: Connection) -> None:
    for table in (schema.day_sum, schema.running_sum, schema.now_sum):
        connection.execute(sa.delete(table))


def all_current(connection: Connection) -> Iterable[Interval]:
    """Every interval that the ledger says now."""
    rows = connection.execute(
        sa.select(schema.fleet_interval).where(sa.text(schema.CURRENT)), execution_options={"yield_per": 10_000}
    )
    return (interval_of(row) for row in rows)


def load_sums(connection: Connection, since_at: int = 0) -> Sums:
    """The sums as they are kept."""
    sums = Sums.none(since_at)
    for row in connection.execute(sa.select(schema.day_sum).where(schema.day_sum.c.ms != 0)):
        sums.ended_ms[DayKey(Group(row.profile, row.hired), Condition(row.condition), row.day_at)] = row.ms
    for row in connection.execute(sa.select(schema.running_sum)):
        key = RunKey(Group(row.profile, row.hired), Condition(row.condition), row.day_at)
        sums.running[key], sums.running_from[key] = row.number, row.from_ms
    for row in connection.execute(sa.select(schema.now_sum)):
        sums.now[NowKey(row.profile, row.site_id, row.hired, Condition(row.condition))] = row.number
    return sums


# --- figures ---


def said_at(as_of: int, c: Any = schema.fleet_interval.c) -> sa.ColumnElement[bool]:
    """What the ledger said at a moment."""
    return sa.and_(c.recorded_at <= as_of, sa.or_(c.superseded_at.is_(None), c.superseded_at > as_of))


def known_end(as_of: int, otherwise: int) -> sa.ColumnElement[int]:
    """Where an interval ended, as far as that was known at a moment; else where we stop looking."""
    c = schema.fleet_interval.c
    return sa.case((sa.and_(c.end_recorded_at <= as_of, c.to_at < otherwise), c.to_at), else_=otherwise)


class DaySums(NamedTuple):
    """What a group's days are worked out from (availability.spent_by_day)."""

    ended: dict[tuple[int, Condition], int]
    running: list[Running]


def day_sums(connection: Connection, since_at: int, *, hired: bool) -> DaySums:
    """Of the whole fleet, or (`hired`) of the machines on hire, from the day `since_at` on."""
    e, r = schema.day_sum.c, schema.running_sum.c
    ended = sa.select(e.day_at, e.condition, sa.func.sum(e.ms)).where(e.day_at >= since_at)
    running = sa.select(r.condition, r.day_at, sa.func.sum(r.number), sa.func.sum(r.from_ms))
    if hired:
        ended, running = ended.where(e.hired), running.where(r.hired)
    return DaySums(
        {(row[0], Condition(row[1])): int(row[2])
         for row in connection.execute(ended.group_by(e.day_at, e.condition))},
        [Running(Condition(row[0]), row[1], int(row[2]), int(row[3]))
         for row in connection.execute(running.group_by(r.condition, r.day_at))],
    )  # fmt: skip


def spent_lately(connection: Connection, now: int, timezone: str, *, hired: bool) -> list[Spent]:
    """What each of the last 30 days, and today, was spent in: by the whole fleet, or (`hired`) by the machines on
    hire."""
    midnights = window(now, timezone)
    return spent_by_day(midnights, now, *day_sums(connection, midnights[0], hired=hired))


def machines(connection: Connection, *, hired: bool) -> int:
    """How many machines there are now, or are on hire."""
    c = schema.now_sum.c
    counted = sa.select(sa.func.coalesce(sa.func.sum(c.number), 0))
    return int(connection.execute(counted.where(c.hired) if hired else counted).scalar_one())


def sums_of_customer(connection: Connection, customer_id: int, now: int, timezone: str) -> DaySums:
    """Of the machines on hire to a customer now, since each of those rentals began: summed from their intervals."""
    c, r = schema.fleet_interval.c, schema.rental.c
    running = sa.select(r.id).where(r.customer_id == customer_id, runs(r, now))
    rows = connection.execute(
        sa.select(schema.fleet_interval).where(c.rental_id.in_(running), c.superseded_at.is_(None))
    )
    sums = Sums.none(window(now, timezone)[0])
    for row in rows:
        sums.add(interval_of(row), timezone)
    ended: Counter[tuple[int, Condition]] = Counter()
    for key, ms in sums.ended_ms.items():
        ended[key.day_at, key.condition] += ms
    running_now = [Running(key.condition, key.day_at, number, sums.running_from[key])
                   for key, number in sums.running.items()]  # fmt: skip
    return DaySums(dict(ended), running_now)


def names(connection: Connection, by: str, keys: Iterable[object]) -> dict[object, str]:
    """What the groups of a figure are called: a site's or customer's name, or a profile's own."""
    if by not in ("site_id", "customer_id"):
        return {key: str(key) for key in keys if key is not None}
    table = schema.site if by == "site_id" else schema.customer
    wanted = [key for key in keys if key is not None]
    rows = connection.execute(sa.select(table.c.id, table.c.name).where(table.c.id.in_(wanted)))
    return {row.id: row.name for row in rows}


def machines_now(connection: Connection) -> Sequence[Row]:
    """How many machines there are of each profile, site and condition, on hire or not: as the ledger has it."""
    c, s = schema.now_sum.c, schema.site.c
    return connection.execute(
        sa.select(c.profile, sa.func.nullif(c.site_id, 0).label("site_id"), s.name.label("site_name"), c.condition,
                  c.hired, c.number)
        .outerjoin(schema.site, s.id == c.site_id).where(c.number > 0).order_by(c.profile, s.name)
    ).all()  # fmt: skip


BY = ("profile", "site_id", "customer_id")


def spent(
    connection: Connection, start_at: int, end_at: int, as_of: int, *, by: str = "", hired: bool = False,
    customer_id: int | None = None,
) -> dict[object, Spent]:  # fmt: skip
    """Machine time by condition in [start_at, end_at), as it was known at `as_of`, by group (`by`: one of BY;
    empty: all in one, under None). Read from the intervals themselves; what lies after `as_of` was not known, and
    counts in nothing."""
    c, end_at = schema.fleet_interval.c, min(end_at, as_of)
    until = known_end(as_of, end_at)
    since = sa.case((c.from_at > start_at, c.from_at), else_=start_at)
    key = c[by] if by else sa.null()
    wanted = [
        said_at(as_of), c.from_at < end_at, until > start_at, c.place != Place.RETIRED.value,
    ]  # fmt: skip
    if hired:
        wanted.append(c.rental_id.is_not(None))
    if customer_id is not None:
        wanted.append(c.customer_id == customer_id)
    rows = connection.execute(
        sa.select(key.label("key"), c.condition, sa.func.sum(until - since)).where(*wanted)
        .group_by(*([key] if by else []), c.condition)
    )  # fmt: skip
    found: dict[object, Counter[str]] = defaultdict(Counter)
    for group, condition, ms in rows:
        found[group][condition] += int(ms)
    return {group: Spent(*(times[condition] for condition in Condition)) for group, times in found.items()}


def lately(connection: Connection, device_ids: Collection[str], since_at: int) -> dict[str, list[Row]]:
    """Of each of these machines its time since then as it is known now: rows of (device_id, from_at, to_at, condition),
    in order."""
    c = schema.fleet_interval.c
    rows = connection.execute(
        sa.select(c.device_id, c.from_at, c.to_at, c.condition)
        .where(c.device_id.in_(device_ids), sa.or_(c.to_at.is_(None), c.to_at > since_at), c.superseded_at.is_(None))
        .order_by(c.device_id, c.from_at)
    )  # fmt: skip
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.device_id].append(row)
    return found


def intervals(
    connection: Connection, device_id: str, start_at: int, end_at: int, as_of: int, limit: int, after: int | None = None
) -> Sequence[Row]:
    """A machine's intervals that touch [start_at, end_at), as they were known at `as_of`, in order: an end that was
    recorded later was none yet. `after`: the id of the last one that was seen."""
    t, c = schema.fleet_interval, schema.fleet_interval.c
    known = c.end_recorded_at <= as_of
    ends = {name: sa.case((known, c[name])).label(name) for name in ("to_at", "end_recorded_at")}
    wanted = [c.device_id == device_id, said_at(as_of), c.from_at < end_at, known_end(as_of, EVER) > start_at]
    if after is not None:
        last = t.alias("last")
        since = sa.select(last.c.from_at).where(last.c.id == after).scalar_subquery()
        wanted.append(sa.or_(c.from_at > since, sa.and_(c.from_at == since, c.id > after)))
    columns = [ends.get(column.name, column) for column in c]
    return connection.execute(sa.select(*columns).where(*wanted).order_by(c.from_at, c.id).limit(limit)).all()
