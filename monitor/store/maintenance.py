"""Maintenance: operators' plans, meters, what is due and when, work orders, calendars; in the caller's transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.devices import FaultKind, Severity
from monitor.fleet.maintenance import DAY_MS, Anchor, Due, Plan, Reading, Sure, Trigger
from monitor.store import schema
from monitor.store.database import insert_new, upsert
from monitor.store.registry import Conflict, Refused, tag_of

Row = sa.Row[*tuple[Any, ...]]

READINGS_KEPT_MS = 400 * DAY_MS
"""Daily readings older than that tell nothing that the orders since do not."""
FORGOTTEN_AT_ONCE = 5_000
WEEK_MS = 7 * DAY_MS


# --- what others ask -----------------------------------------------------------------------------------------------


class Overdue(NamedTuple):
    """Maintenance of a machine that is overdue: which plan, since when it was due, since when it is overdue."""

    device_id: str
    plan: str
    title_en: str
    title_zh: str
    due_at: int
    overdue_at: int


class Counts(NamedTuple):
    """Of how many machines something is due within seven days (or is already), or overdue."""

    due_7_days: int
    overdue: int


def overdue_machines(connection: Connection, at: int, *, limit: int) -> list[Overdue]:
    """What was overdue on any machine at this moment, as far as it still is, the longest overdue first."""
    m, d = schema.maintenance_due.c, schema.device.c
    columns = m.device_id, m.plan, m.title_en, m.title_zh, m.certain_at, m.overdue_at
    statement = (
        sa.select(*columns).join(schema.device, d.device_id == m.device_id)
        .where(m.overdue_at <= at, d.retired_at.is_(None))
        .order_by(m.overdue_at, m.device_id, m.plan).limit(limit)
    )  # fmt: skip
    return [Overdue(*row) for row in connection.execute(statement)]


def counts(connection: Connection, now: int) -> Counts:
    """How many machines in use have maintenance due within seven days (or already), and overdue."""
    m, d = schema.maintenance_due.c, schema.device.c

    def machines_with(what: sa.ColumnElement[bool]) -> int:
        # Asked machine by machine: few are due, and a join would begin with all machines that there are.
        retired = sa.exists().where(d.device_id == m.device_id, d.retired_at.is_not(None))
        counted = sa.select(sa.func.count(sa.distinct(m.device_id))).where(what, ~retired)
        return int(connection.execute(counted).scalar_one())

    # What is overdue is due as well, and counts once.
    late = machines_with(m.overdue_at <= now)
    return Counts(machines_with(m.due_at < now + WEEK_MS) - late, late)


# --- plans ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OwnPlans:
    """The plans that operators keep, by (scope, of)."""

    plans: Mapping[tuple[str, str], Mapping[str, Plan]]

    def of(self, device_id: str, profile: str) -> dict[str, Plan]:
        """Those of one machine, by code: the nearest counts."""
        scopes = ("all", ""), ("profile", profile), ("device", device_id)
        return {code: plan for scope in scopes for code, plan in self.plans.get(scope, {}).items()}


def own_plans(connection: Connection) -> OwnPlans:
    found: dict[tuple[str, str], dict[str, Plan]] = {}
    for row in plan_rows(connection):
        found.setdefault((row.scope, row.of), {})[row.code] = plan_of(row)
    return OwnPlans(found)


def plan_of(row: Row) -> Plan:
    return msgspec.convert(row.plan, Plan)


def plan_rows(connection: Connection) -> Sequence[Row]:
    p = schema.maintenance_plan
    return connection.execute(sa.select(p).order_by(p.c.code, p.c.scope, p.c.of)).all()


def plan_row(connection: Connection, code: str, scope: str, of: str, *, lock: bool = False) -> Row | None:
    p = schema.maintenance_plan
    statement = sa.select(p).where(p.c.code == code, p.c.scope == scope, p.c.of == of)
    return connection.execute(statement.with_for_update() if lock else statement).first()


def as_kept(plan: Plan) -> dict[str, Any]:
    """A plan as its row keeps it."""
    kept: dict[str, Any] = msgspec.to_builtins(plan)
    return kept


def plan_tag(row: Row | None) -> str:
    """What an If-Match may name; of a plan that is not there yet '0'."""
    return "0" if row is None else tag_of((row.plan, row.changed_at))


def put_plan(connection: Connection, plan: Plan, scope: str, of: str, actor: str, now: int) -> None:
    p = schema.maintenance_plan
    values = {"plan": as_kept(plan), "changed_at": now, "changed_by": actor}
    if plan_row(connection, plan.code, scope, of) is None:
        connection.execute(sa.insert(p).values(code=plan.code, scope=scope, of=of, **values))
    else:
        here = p.c.code == plan.code, p.c.scope == scope, p.c.of == of
        connection.execute(sa.update(p).where(*here).values(**values))
    look_again(connection, scope, of)


def remove_plan(connection: Connection, code: str, scope: str, of: str) -> None:
    p = schema.maintenance_plan
    connection.execute(sa.delete(p).where(p.c.code == code, p.c.scope == scope, p.c.of == of))
    look_again(connection, scope, of)


def look_again(connection: Connection, scope: str, of: str) -> None:
    """What is due on the machines that a plan concerns is reckoned anew with the next tick."""
    m, d = schema.maintenance_due, schema.device.c
    statement = sa.update(m).values(look_at=0)
    if scope == "device":
        statement = statement.where(m.c.device_id == of)
    elif scope == "profile":
        statement = statement.where(m.c.device_id.in_(sa.select(d.device_id).where(d.profile == of)))
    connection.execute(statement)


# --- meters --------------------------------------------------------------------------------------------------------


def neighbours(connection: Connection, device_id: str, at: int) -> tuple[Reading | None, Reading | None]:
    """The readings before and after a moment; of a meter that was replaced after it there is none after."""
    r = schema.meter_reading.c
    ours = r.device_id == device_id, r.doubt == ""
    before = connection.execute(
        sa.select(schema.meter_reading).where(*ours, r.at <= at).order_by(r.at.desc()).limit(1)
    ).first()
    after = connection.execute(
        sa.select(schema.meter_reading).where(*ours, r.at > at).order_by(r.at).limit(1)
    ).first()  # fmt: skip
    return reading_of(before) if before else None, reading_of(after) if after and not after.replaced else None


def counted(connection: Connection, device_id: str, until_at: int) -> Reading | None:
    """The newest reading until a moment at which starts were counted: telemetry's own. People count none."""
    r = schema.meter_reading.c
    row = connection.execute(
        sa.select(schema.meter_reading)
        .where(r.device_id == device_id, r.doubt == "", r.source == "telemetry", r.at <= until_at)
        .order_by(r.at.desc()).limit(1)
    ).first()  # fmt: skip
    return reading_of(row) if row else None


def reading_of(row: Row) -> Reading:
    return Reading(row.at, row.hours, row.total_h, row.starts)


def insert_reading(
    connection: Connection, device_id: str, reading: Reading, now: int, *, source: str, actor: str,
    replaced: bool = False, doubt: str = "",
) -> None:  # fmt: skip
    """A reading; the one that is there of the same moment stays."""
    insert_new(connection, schema.meter_reading, [{
        "device_id": device_id, "at": reading.at, "hours": reading.hours, "total_h": reading.total_h,
        "starts": reading.starts, "source": source, "replaced": replaced, "doubt": doubt, "actor": actor,
        "recorded_at": now,
    }])  # fmt: skip


def readings_of(
    connection: Connection, device_ids: Collection[str], since: int, *, oldest_at: int
) -> dict[str, list[Reading]]:
    """What the meters of these machines showed since, and the last reading before where it is no older than
    `oldest_at`, in the order of time; those in doubt are left out."""
    r, d, one = schema.meter_reading.c, schema.device.c, schema.meter_reading.alias("one").c
    last_at = sa.select(sa.func.max(one.at)).where(
        one.device_id == d.device_id, one.at >= oldest_at, one.at < since, one.doubt == ""
    ).scalar_subquery()  # fmt: skip
    last = sa.select(d.device_id, last_at.label("at")).where(d.device_id.in_(device_ids)).subquery()
    columns = sa.select(r.device_id, r.at, r.hours, r.total_h, r.starts)
    asked = (
        columns.join(last, sa.and_(r.device_id == last.c.device_id, r.at == last.c.at)),
        columns.where(r.device_id.in_(device_ids), r.at >= since, r.doubt == "").order_by(r.device_id, r.at),
    )
    found: dict[str, list[Reading]] = {}
    for statement in asked:
        for device_id, *read in connection.execute(statement):
            found.setdefault(device_id, []).append(Reading(*read))
    return found


def meter_rows(connection: Connection, device_id: str, *, before: int | None = None, limit: int) -> Sequence[Row]:
    """What a machine's meter showed, the latest first, those in doubt too."""
    r = schema.meter_reading
    statement = sa.select(r).where(r.c.device_id == device_id).order_by(r.c.at.desc()).limit(limit)
    return connection.execute(statement if before is None else statement.where(r.c.at < before)).all()


def meters_to_ask(connection: Connection, asked_before: int, limit: int) -> list[Row]:
    """(device_id, profile, asked_at, starts_at) of machines that were heard since their meter was last asked for, which
    is before this moment or never: those that wait for the longest first."""
    d, a = schema.device.c, schema.meter_asked.c
    never = a.at.is_(None)
    statement = (
        sa.select(d.device_id, d.profile, a.at.label("asked_at"))
        .outerjoin(schema.meter_asked, a.device_id == d.device_id)
        .where(
            d.retired_at.is_(None), d.last_heard_at.is_not(None),
            sa.or_(never, sa.and_(a.at <= asked_before, d.last_heard_at > a.at)),
        )
        .order_by(a.at.is_not(None), a.at, d.device_id).limit(limit)
    )  # fmt: skip
    return list(connection.execute(statement))


def note_asked(connection: Connection, device_ids: Iterable[str], now: int) -> None:
    upsert(connection, schema.meter_asked, [{"device_id": one, "at": now} for one in device_ids])


def forget_readings(connection: Connection, now: int) -> None:
    """Daily readings that are too old to tell anything go; what people read stays."""
    r = schema.meter_reading.c
    old = sa.select(r.id).where(r.at < now - READINGS_KEPT_MS, r.source == "telemetry").limit(FORGOTTEN_AT_ONCE)
    connection.execute(sa.delete(schema.meter_reading).where(r.id.in_(old)))


# --- what is due ---------------------------------------------------------------------------------------------------


class News(NamedTuple):
    """Whether the time has come to reckon any machine anew, and the newest entry of where machines stand: each new one
    has one."""

    due: bool
    stay_id: int


def news(connection: Connection, now: int) -> News:
    """What every tick asks, by indexes alone."""
    due = sa.exists().where(schema.maintenance_due.c.look_at <= now)
    row = connection.execute(sa.select(due, sa.select(sa.func.max(schema.stay.c.id)).scalar_subquery())).one()
    return News(bool(row[0]), row[1] or 0)


def machines_since(connection: Connection, stay_id: int, limit: int) -> list[tuple[int, str]]:
    """(entry of where it stands, machine) of machines in use of which nothing is reckoned yet, after that entry."""
    s, d = schema.stay.c, schema.device.c
    known = sa.exists().where(schema.maintenance_due.c.device_id == s.device_id)
    statement = (
        sa.select(s.id, s.device_id).join(schema.device, d.device_id == s.device_id)
        .where(s.id > stay_id, d.retired_at.is_(None), ~known).order_by(s.id).limit(limit)
    )  # fmt: skip
    return [(row[0], row[1]) for row in connection.execute(statement)]


def machines_due(connection: Connection, now: int, limit: int) -> list[str]:
    """Machines whose time to be reckoned anew has come, or of which somebody said so; the first first."""
    m = schema.maintenance_due.c
    rows = connection.execute(sa.select(m.device_id).where(m.look_at <= now).order_by(m.look_at).limit(limit))
    return list(dict.fromkeys(rows.scalars()))


def machines_unknown(connection: Connection, limit: int) -> list[str]:
    """Machines in use of which nothing is reckoned, whatever says where they stand. It looks at all of them."""
    m, d = schema.maintenance_due.c, schema.device.c
    known = sa.exists().where(m.device_id == d.device_id)
    return list(connection.execute(sa.select(d.device_id).where(d.retired_at.is_(None), ~known).limit(limit)).scalars())


def machines_changed(connection: Connection, limit: int) -> list[str]:
    """Machines that anything happened to which no mark tells of: they were retired, or a trend began or ended."""
    m, d, f = schema.maintenance_due.c, schema.device.c, schema.fault.c
    trend = f.kind == FaultKind.TREND, f.cleared_at.is_(None), f.severity != Severity.NOTE
    on_machine = sa.exists().where(f.device_id == m.device_id, *trend)
    asked = (
        # Of thousands of open faults few are trends, and this index tells.
        sa.select(f.device_id).join(schema.maintenance_due, m.device_id == f.device_id)
        .where(*trend, f.opened_at >= m.computed_at)
        .with_hint(schema.fault, "INDEXED BY uq_fault_open", "sqlite"),
        # Written out, so that SQLite finds the index of just these.
        sa.select(m.device_id).where(m.trigger == sa.literal_column(f"'{Trigger.CONDITION}'"), ~on_machine),
        sa.select(d.device_id).where(d.retired_at.is_not(None), sa.exists().where(m.device_id == d.device_id)),
    )  # fmt: skip
    found: dict[str, None] = {}
    for statement in asked:
        if len(found) >= limit:
            break
        found |= dict.fromkeys(connection.execute(statement.limit(limit)).scalars())
    return list(found)[:limit]


def machines(connection: Connection, device_ids: Collection[str]) -> list[Row]:
    """(device_id, profile, added_at, retired_at), locked until the transaction ends (PostgreSQL), always in the same
    order."""
    d = schema.device.c
    columns = sa.select(d.device_id, d.profile, d.added_at, d.retired_at)
    return list(
        connection.execute(
            columns.where(d.device_id.in_(device_ids)).order_by(d.device_id).with_for_update(key_share=True)
        )
    )


def anchors(connection: Connection, device_ids: Collection[str]) -> dict[tuple[str, str], Anchor]:
    """From when the plans of these machines are reckoned, by (machine, plan): where they were done."""
    w = schema.work_order.c
    order = sa.func.row_number().over(partition_by=(w.device_id, w.plan), order_by=(w.done_at.desc(), w.id.desc()))
    done = (
        sa.select(w.device_id, w.plan, w.from_at, w.from_h, w.from_starts, w.done_at, order.label("place"))
        .where(w.device_id.in_(device_ids), w.status == "done", w.from_at.is_not(None)).subquery()
    )  # fmt: skip
    rows = connection.execute(sa.select(done).where(done.c.place == 1))
    return {(r.device_id, r.plan): Anchor(r.from_at, r.from_h, r.from_starts, r.done_at) for r in rows}


def open_trends(connection: Connection, device_ids: Collection[str]) -> dict[str, list[int]]:
    """When the trends that stand open on these machines opened; weak signs that are held are none yet."""
    f = schema.fault.c
    trend = f.kind == FaultKind.TREND, f.cleared_at.is_(None), f.severity != Severity.NOTE
    open_now = f.device_id.in_(device_ids), *trend
    found: dict[str, list[int]] = {}
    for device_id, opened_at in connection.execute(sa.select(f.device_id, f.opened_at).where(*open_now)):
        found.setdefault(device_id, []).append(opened_at)
    return found


class DueRow(NamedTuple):
    """When a plan of a machine is due, to be kept."""

    device_id: str
    plan: Plan
    anchor: Anchor
    due: Due
    meter_h: float | None


def due_rows(connection: Connection, device_ids: Collection[str]) -> dict[tuple[str, str], Row]:
    """What is kept of these machines, by (machine, plan)."""
    m = schema.maintenance_due
    rows = connection.execute(sa.select(m).where(m.c.device_id.in_(device_ids)))
    return {(row.device_id, row.plan): row for row in rows}


def due_of(row: Row) -> Due:
    """The reckoning of a row of maintenance_due."""
    return Due(
        row.soon_at, row.due_at, row.certain_at, row.overdue_at, Trigger(row.trigger), Sure(row.sure), row.left_h,
        row.left_starts, row.use_h_per_day,
    )  # fmt: skip


def save_due(connection: Connection, found: Sequence[DueRow], now: int) -> None:
    upsert(connection, schema.maintenance_due, [
        {
            "device_id": one.device_id, "plan": one.plan.code, "title_en": one.plan.title_en,
            "title_zh": one.plan.title_zh, "cycle_at": one.anchor.at, "done_at": one.anchor.done_at,
            "soon_at": one.due.soon_at, "due_at": one.due.due_at, "certain_at": one.due.certain_at,
            "overdue_at": one.due.overdue_at, "trigger": one.due.trigger, "sure": one.due.sure,
            "left_h": one.due.left_h, "left_starts": one.due.left_starts, "use_h_per_day": one.due.use_h_per_day,
            "meter_h": one.meter_h, "look_at": min(now + DAY_MS, one.due.changes_at(now) or now + DAY_MS),
            "computed_at": now,
        }
        for one in found
    ])  # fmt: skip


def drop_due(connection: Connection, gone: Iterable[tuple[str, str]]) -> None:
    """Plans that these machines have no more, by (machine, plan)."""
    m = schema.maintenance_due
    rows = [{"machine": device_id, "of": plan} for device_id, plan in gone]
    if rows:
        here = m.c.device_id == sa.bindparam("machine"), m.c.plan == sa.bindparam("of")
        connection.execute(sa.delete(m).where(*here), rows)


def listed(
    connection: Connection, now: int, *, state: str | None = None, site_id: int | None = None,
    profile: str | None = None, device_id: str | None = None, assignee_id: int | None = None,
    after: tuple[int, str, str] | None = None, limit: int | None,
) -> Sequence[Row]:  # fmt: skip
    """What is due on machines in use, by when, with their site and the open order of it; filtered."""
    m, d, s, w = schema.maintenance_due.c, schema.device.c, schema.site.c, schema.work_order.c
    of_plan = sa.and_(w.device_id == m.device_id, w.plan == m.plan, w.status == "open")
    statement = (
        sa.select(
            schema.maintenance_due, d.profile, d.site_id, s.name.label("site_name"), w.id.label("order_id"),
            w.assignee_id, schema.person.c.name.label("assignee_name"),
        )
        .join(schema.device, d.device_id == m.device_id)
        .outerjoin(schema.site, s.id == d.site_id)
        .outerjoin(schema.work_order, of_plan)
        .outerjoin(schema.person, schema.person.c.id == w.assignee_id)
        .where(d.retired_at.is_(None)).order_by(m.due_at, m.device_id, m.plan).limit(limit)
    )  # fmt: skip
    wanted = ((d.site_id, site_id), (d.profile, profile), (m.device_id, device_id), (w.assignee_id, assignee_id))
    statement = statement.where(*(column == value for column, value in wanted if value is not None))
    if state is not None:
        statement = statement.where(*_in_state(state, now))
    if after is not None:
        statement = statement.where(sa.tuple_(m.due_at, m.device_id, m.plan) > sa.tuple_(*after))
    return connection.execute(statement).all()


def _in_state(state: str, now: int) -> tuple[sa.ColumnElement[bool], ...]:
    """The same as monitor/fleet/maintenance.Due.state, for the database."""
    m = schema.maintenance_due.c
    if state == "overdue":
        return (m.overdue_at <= now,)
    if state == "due":
        return m.overdue_at > now, m.certain_at <= now
    soon = m.soon_at <= now if state == "due_soon" else m.soon_at > now
    return m.overdue_at > now, m.certain_at > now, soon


# --- work orders ---------------------------------------------------------------------------------------------------


def order_row(connection: Connection, order_id: int, *, lock: bool = False) -> Row | None:
    """A work order with its machine's model and site, and who is to do it."""
    statement = _orders().where(schema.work_order.c.id == order_id)
    return connection.execute(statement.with_for_update(of=schema.work_order) if lock else statement).first()


def orders(
    connection: Connection, *, kind: str | None = None, status: str | None = None, device_id: str | None = None,
    site_id: int | None = None, assignee_id: int | None = None, before: int | None = None, limit: int,
) -> Sequence[Row]:  # fmt: skip
    """Work orders, the newest first."""
    w, d = schema.work_order.c, schema.device.c
    wanted = ((w.kind, kind), (w.status, status), (w.device_id, device_id), (d.site_id, site_id),
              (w.assignee_id, assignee_id))  # fmt: skip
    statement = _orders().where(*(column == value for column, value in wanted if value is not None))
    if before is not None:
        statement = statement.where(w.id < before)
    return connection.execute(statement.order_by(w.id.desc()).limit(limit)).all()


def _orders() -> sa.Select[Any]:
    w, d, s, p = schema.work_order, schema.device.c, schema.site.c, schema.person.c
    return (
        sa.select(w, d.profile, d.site_id, s.name.label("site_name"), p.name.label("assignee_name"))
        .join(schema.device, d.device_id == w.c.device_id)
        .outerjoin(schema.site, s.id == d.site_id)
        .outerjoin(schema.person, p.id == w.c.assignee_id)
    )


def insert_order(connection: Connection, **values: Any) -> int:
    """A new work order; its id. Raises Conflict where one of its plan is open on the machine."""
    w = schema.work_order
    if values.get("plan"):
        there = open_order(connection, values["device_id"], values["plan"])
        if there is not None:
            raise Conflict(f"work order {there} is open for {values['plan']!r} on {values['device_id']} already")
    return int(connection.execute(sa.insert(w).values(**values).returning(w.c.id)).scalar_one())


def open_order(connection: Connection, device_id: str, plan: str) -> int | None:
    """The order of a plan that is open on a machine."""
    w = schema.work_order.c
    found: int | None = connection.execute(
        sa.select(w.id).where(w.device_id == device_id, w.plan == plan, w.status == "open")
    ).scalar()
    return found


def asked_for(connection: Connection, device_ids: Collection[str]) -> set[tuple[str, str, int]]:
    """(machine, plan, time of it) that an order was opened for, whatever became of it, and of each plan with an open
    order the time -1."""
    w = schema.work_order.c
    rows = connection.execute(
        sa.select(w.device_id, w.plan, w.cycle_at, w.status).where(w.device_id.in_(device_ids), w.plan != "")
    )
    found: set[tuple[str, str, int]] = set()
    for device_id, plan, cycle_at, status in rows:
        found |= {(device_id, plan, cycle_at)} if cycle_at is not None else set()
        found |= {(device_id, plan, -1)} if status == "open" else set()
    return found


def insert_asked(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Orders that plans ask for; one that was asked for already stays as it is, whoever did."""
    insert_new(connection, schema.work_order, rows)


def move_due(connection: Connection, found: Iterable[tuple[str, str, int]]) -> None:
    """Open orders of these (machine, plan) are due then, as it looks now."""
    w = schema.work_order.c
    rows = [{"machine": device_id, "of": plan, "then": due_at} for device_id, plan, due_at in found]
    if rows:
        here = w.device_id == sa.bindparam("machine"), w.plan == sa.bindparam("of"), w.status == "open"
        connection.execute(
            sa.update(schema.work_order).where(*here, w.due_at != sa.bindparam("then"))
            .values(due_at=sa.bindparam("then")), rows,
        )  # fmt: skip


def save_order(connection: Connection, row: Row, **values: Any) -> None:
    w = schema.work_order
    connection.execute(sa.update(w).where(w.c.id == row.id).values(revision=row.revision + 1, **values))


def open_orders_of(connection: Connection, device_ids: Collection[str]) -> Sequence[Row]:
    """The open work orders of these machines, spot checks too."""
    w = schema.work_order.c
    statement = _orders().where(w.device_id.in_(device_ids), w.status == "open")
    return connection.execute(statement.order_by(w.id)).all()


# --- calendars -----------------------------------------------------------------------------------------------------


def insert_feed(connection: Connection, **values: Any) -> int:
    if values.get("site_id") is not None:
        s = schema.site.c
        if connection.execute(sa.select(s.id).where(s.id == values["site_id"])).first() is None:
            raise Refused(f"site_id: there is no site {values['site_id']}")
    c = schema.calendar_feed
    return int(connection.execute(sa.insert(c).values(**values).returning(c.c.id)).scalar_one())


def feed_row(connection: Connection, feed_id: int, now: int) -> Row | None:
    """A calendar that is good now: not ended, not expired, and its person has not left."""
    c, p = schema.calendar_feed.c, schema.person.c
    statement = (
        sa.select(schema.calendar_feed).outerjoin(schema.person, p.id == c.person_id)
        .where(c.id == feed_id, c.ended_at.is_(None), c.expires_at > now, p.disabled_at.is_(None))
    )  # fmt: skip
    return connection.execute(statement).first()


def feed_rows(connection: Connection, *, made_by: str | None = None, now: int, limit: int = 100) -> Sequence[Row]:
    """The calendars that were not ended nor expired, the newest first, with the name of who made each where that is a
    person; or those that somebody made."""
    c, p = schema.calendar_feed.c, schema.person.c
    maker = sa.literal("person:") + sa.cast(p.id, sa.String) == c.made_by
    statement = (
        sa.select(schema.calendar_feed, p.name.label("maker_name")).outerjoin(schema.person, maker)
        .where(c.ended_at.is_(None), c.expires_at > now)
    )  # fmt: skip
    if made_by is not None:
        statement = statement.where(c.made_by == made_by)
    return connection.execute(statement.order_by(c.id.desc()).limit(limit)).all()


def end_feed(connection: Connection, feed_id: int, now: int) -> None:
    c = schema.calendar_feed.c
    connection.execute(sa.update(schema.calendar_feed).where(c.id == feed_id).values(ended_at=now))
