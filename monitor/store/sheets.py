"""Registers in and out as CSV (monitor/fleet/sheets.py): what is checked against the record, and the one transaction
that a file is taken in by. Nothing is half-imported."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.devices import Profile
from monitor.fleet import sheets
from monitor.fleet.maintenance import SERVICE, shipped_policy
from monitor.fleet.sheets import Column, Row, Sheet, Values, Wrong
from monitor.store import schema
from monitor.store.cases import note_changes
from monitor.store.database import Database
from monitor.store.maintenance import own_plans
from monitor.store.registry import LANGS, NOTES_LENGTH, Refused, raise_version, write_audits

IN_ONE_QUERY = 500
"""Names that are looked up at a time: databases bound the parameters of a statement."""
MOST_PARTS = 50
NO_PLAN = "(none)"
"""What stands for work that was done for no plan: no plan can have this code."""


class Register(StrEnum):
    """What can be read in and written out. Files that name each other are read in this order."""

    SITES = "sites"
    CUSTOMERS = "customers"
    DEVICES = "devices"
    RENTALS = "rentals"
    MAINTENANCE = "maintenance"


def sheet(kind: Register, zone: ZoneInfo, profiles: Mapping[str, Profile]) -> Sheet:
    """The columns of a file of this kind. Times without an offset are of `zone`."""
    at = sheets.moment(zone)
    name, site_name = sheets.text(200), sheets.text(120)
    columns: dict[Register, tuple[Column, ...]] = {
        Register.SITES: (
            Column("name", site_name, "what it is called; unique"),
            Column("remote", sheets.yes_no, "yes: far away, and diagnosed from afar first (R8)", False, False),
            Column("timezone", sheets.zone_name, "IANA name; the company's own where empty", False, str(zone)),
            Column("lat_deg", sheets.number(-90, 90), "WGS 84, with lon_deg", False),
            Column("lon_deg", sheets.number(-180, 180), "WGS 84, with lat_deg", False),
            Column("access_notes", sheets.text(NOTES_LENGTH, lines=True), "how to get in", False, ""),
        ),
        Register.CUSTOMERS: (
            Column("name", name, "what they are called; unique"),
            Column("email", sheets.email, "where their notices go", False, ""),
            Column("lang", sheets.one_of(LANGS), "the language of their notices; zh where empty", False, "zh"),
        ),
        Register.DEVICES: (
            Column("device_id", sheets.device_id, "1 to 64 of A-Z a-z 0-9 _ -; unique"),
            Column("profile", sheets.one_of(profiles), "its model"),
            Column("site", site_name, "the name of the site that it stands at", False),
            Column("added_at", at, "since when it is in the fleet; now where empty", False, time=True),
            Column("retired_at", at, "since when it is not any more", False, time=True),
        ),
        Register.RENTALS: (
            Column("device_id", sheets.device_id, "the machine"),
            Column("customer", name, "the customer's name"),
            Column("contract", sheets.text(60), "the contract's number; a new one is added", False),
            Column("starts_at", at, "from when on it is on hire", time=True),
            Column("ends_at", at, "until when; empty: until it is ended", False, time=True),
        ),
        Register.MAINTENANCE: (
            Column("device_id", sheets.device_id, "the machine"),
            Column("done_at", at, "when it was done", time=True),
            Column("plan", _plan_code, f"the code of the machine's plan that it was done for; {NO_PLAN}: for none; "
                   f"{SERVICE} where empty", False, SERVICE),
            Column("title", sheets.text(120), "what was done, in a few words"),
            Column("title_zh", sheets.text(120), "the same in Chinese; as the other where empty", False),
            Column("meter_h", sheets.number(0, 1_000_000), "what the hour meter showed", False),
            Column("done_by", sheets.text(80), "who did it", False, ""),
            Column("parts", sheets.text(4000, lines=True), "parts fitted, one a line of the cell", False, ""),
            Column("note", sheets.text(4000, lines=True), "whatever else there is to say", False, ""),
        ),
    }  # fmt: skip
    keys = {
        Register.SITES: ("name",), Register.CUSTOMERS: ("name",), Register.DEVICES: ("device_id",),
    }  # fmt: skip
    return Sheet(str(kind), columns[kind], keys.get(kind, ()))


def _plan_code(cell: str) -> sheets.Value:
    return "" if cell.strip() == NO_PLAN else sheets.text(40)(cell.strip())


# --- in ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Taken:
    """What became of a file. Where anything is wrong, nothing was taken."""

    rows: list[Row]
    wrong: list[Wrong]

    @property
    def added(self) -> int:
        return 0 if self.wrong else len(self.rows)


@dataclass(frozen=True)
class Intake:
    """Takes files in, each in one transaction. `actor` is who gives them."""

    database: Database
    zone: ZoneInfo
    profiles: Mapping[str, Profile]
    actor: str = "cli"

    def look(self, kind: Register, data: bytes, now: int) -> Taken:
        """What would become of a file: everything that is wrong with it. Nothing is changed."""
        rows, wrong = sheets.read(data, sheet(kind, self.zone, self.profiles))
        with self.database.connect() as connection:
            return Taken(rows, _in_order([*wrong, *CHECKS[kind](connection, rows, now)]))

    def take(
        self, kind: Register, data: bytes, now: int, beside: Callable[[Connection], None] = lambda _: None
    ) -> Taken:  # fmt: skip
        """Take a file in, whole, or not at all where anything is wrong with it; with it what `beside` writes. Raises
        Refused where somebody wrote the same at the same moment."""
        rows, wrong = sheets.read(data, sheet(kind, self.zone, self.profiles))
        try:
            with self.database.begin() as connection:
                found = _in_order([*wrong, *CHECKS[kind](connection, rows, now)])
                if not found:
                    WRITERS[kind](connection, rows, self.actor, now)
                    beside(connection)
                    raise_version(connection)
        except sa.exc.IntegrityError as clash:
            raise Refused("the record changed meanwhile, and nothing was taken in; try again") from clash
        return Taken(rows, found)


def _in_order(wrong: Iterable[Wrong]) -> list[Wrong]:
    return sorted(wrong, key=lambda one: one.line)


# --- what the record says to a file ---


def _check_sites(connection: Connection, rows: Sequence[Row], _: int) -> Iterator[Wrong]:
    there = _known(connection, schema.site.c.name, schema.site.c.id, [row.values["name"] for row in rows])
    for row in rows:
        if row.values["name"] in there:
            yield row.wrong("name", "there is a site of this name already")
        if (row.values["lat_deg"] is None) != (row.values["lon_deg"] is None):
            yield row.wrong("lat_deg", "lat_deg and lon_deg: both or none are known")


def _check_customers(connection: Connection, rows: Sequence[Row], _: int) -> Iterator[Wrong]:
    there = _known(connection, schema.customer.c.name, schema.customer.c.id, [row.values["name"] for row in rows])
    for row in rows:
        if row.values["name"] in there:
            yield row.wrong("name", "there is a customer of this name already")


def _check_devices(connection: Connection, rows: Sequence[Row], now: int) -> Iterator[Wrong]:
    there = _machines(connection, rows)
    sites = _known(connection, schema.site.c.name, schema.site.c.id, [row.values["site"] for row in rows])
    for row in rows:
        added_at, retired_at = row.values["added_at"], row.values["retired_at"]
        if row.values["device_id"] in there:
            yield row.wrong("device_id", "there is a machine of this id already")
        if row.values["site"] is not None and row.values["site"] not in sites:
            yield row.wrong("site", "there is no site of this name; fettle import FILE --kind sites brings sites in")
        if _later(added_at, now):
            yield row.wrong("added_at", "must not lie ahead")
        if retired_at is not None and (_later(retired_at, now) or not _later(retired_at, added_at)):
            yield row.wrong("retired_at", "must lie after added_at, and not ahead")


def _check_rentals(connection: Connection, rows: Sequence[Row], _: int) -> Iterator[Wrong]:
    machines = _machines(connection, rows)
    names = [row.values["customer"] for row in rows]
    customers = _known(connection, schema.customer.c.name, schema.customer.c.id, names)
    yield from _missing_machines(rows, machines)
    for row in rows:
        starts_at, ends_at = row.values["starts_at"], row.values["ends_at"]
        if row.values["customer"] not in customers:
            yield row.wrong(
                "customer", "there is no customer of this name; fettle import FILE --kind customers brings them in"
            )
        if ends_at is not None and _later(starts_at, ends_at):
            yield row.wrong("ends_at", "must not lie before starts_at")
        retired_at = machines.get(row.values["device_id"])
        if retired_at is not None and (ends_at is None or _later(ends_at, retired_at)):
            yield row.wrong("device_id", "the machine is retired; a rental of it must have ended by then")
    yield from _check_contracts(connection, rows, customers)
    yield from _check_overlaps(connection, rows)


def _check_contracts(connection: Connection, rows: Sequence[Row], customers: Mapping[Any, Any]) -> Iterator[Wrong]:
    """A contract is one customer's."""
    c = schema.contract.c
    of = dict(_known(connection, c.number, c.customer_id, [row.values["contract"] for row in rows]))
    for row in rows:
        number, customer = row.values["contract"], customers.get(row.values["customer"])
        if number is None or customer is None:
            continue
        if of.setdefault(number, customer) != customer:
            yield row.wrong("contract", "this contract is another customer's")


def _check_overlaps(connection: Connection, rows: Sequence[Row]) -> Iterator[Wrong]:
    """A machine has one rental at a time; one that ended when it began covers no moment."""
    r = schema.rental.c
    spans: dict[Any, list[tuple[Any, float, Row | None, int]]] = {}
    for row in rows:
        ends_at = row.values["ends_at"]
        span = (row.values["starts_at"], FOREVER if ends_at is None else float(ends_at), row, 0)
        spans.setdefault(row.values["device_id"], []).append(span)
    for some in _chunks(spans):
        for one in connection.execute(
            sa.select(r.id, r.device_id, r.starts_at, r.ends_at).where(r.device_id.in_(some))
        ):
            ends_at = FOREVER if one.ends_at is None else float(one.ends_at)
            spans[one.device_id].append((one.starts_at, ends_at, None, one.id))
    for of_machine in spans.values():
        yield from _overlaps([span for span in of_machine if span[0] < span[1]])


FOREVER = float("inf")


def _overlaps(spans: list[tuple[Any, float, Row | None, int]]) -> Iterator[Wrong]:
    spans.sort(key=lambda span: (span[0], span[2].line if span[2] else 0))
    longest = None
    for span in spans:
        if longest is not None and span[0] < longest[1]:
            yield from _overlap(longest, span)
        if longest is None or span[1] > longest[1]:
            longest = span


def _overlap(one: tuple[Any, float, Row | None, int], other: tuple[Any, float, Row | None, int]) -> Iterator[Wrong]:
    """Told of the later line of the file, with what it runs into."""
    (first, first_id), (second, second_id) = (one[2], one[3]), (other[2], other[3])
    if first is not None and second is not None:
        later, earlier = (second, first) if second.line > first.line else (first, second)
        yield later.wrong("device_id", f"it is on hire in this period already: line {earlier.line}")
    elif first is not None or second is not None:
        row = first if first is not None else second
        if row is not None:
            yield row.wrong("device_id", f"it is on hire in this period already: rental {first_id or second_id}")


def _check_maintenance(connection: Connection, rows: Sequence[Row], now: int) -> Iterator[Wrong]:
    yield from _missing_machines(rows, _machines(connection, rows))
    yield from _check_plans(connection, rows)
    yield from _check_done(connection, rows)
    for row in rows:
        if _later(row.values["done_at"], now):
            yield row.wrong("done_at", "must not lie ahead")
        if len(_parts(row.values)) > MOST_PARTS or any(len(part) > 120 for part in _parts(row.values)):
            yield row.wrong("parts", f"at most {MOST_PARTS} parts, each of at most 120 characters, are allowed")


def _check_plans(connection: Connection, rows: Sequence[Row]) -> Iterator[Wrong]:
    """What was done for a plan that its machine has not got would count for nothing."""
    d, own = schema.device.c, own_plans(connection)
    profiles = _known(connection, d.device_id, d.profile, [row.values["device_id"] for row in rows])
    shipped = {plan.code for plan in shipped_policy().plans}
    for row in rows:
        device_id, plan = row.values["device_id"], row.values["plan"]
        if device_id not in profiles or plan == "":
            continue
        codes = shipped | own.of(str(device_id), profiles[device_id]).keys()
        if plan not in codes:
            yield row.wrong("plan", f"allowed on this machine are {', '.join(sorted(codes))}, and {NO_PLAN}")


def _check_done(connection: Connection, rows: Sequence[Row]) -> Iterator[Wrong]:
    """A plan is done once at a moment; of work for no plan there may be more, by its title."""
    o = schema.work_order.c
    there: set[tuple[Any, ...]] = set()
    for some in _chunks({row.values["device_id"] for row in rows}):
        found = sa.select(o.device_id, o.plan, o.done_at, o.title_en).where(
            o.device_id.in_(some), o.done_at.is_not(None)
        )
        there.update(_place(*one) for one in connection.execute(found))
    lines: dict[tuple[Any, ...], int] = {}
    for row in rows:
        place = _place(*(row.values[name] for name in ("device_id", "plan", "done_at", "title")))
        if place in there:
            yield row.wrong("done_at", "this is on record already")
        elif place in lines:
            yield row.wrong("device_id", f"line {lines[place]} has it already")
        lines.setdefault(place, row.line)


def _place(device_id: Any, plan: Any, done_at: Any, title: Any) -> tuple[Any, ...]:
    return device_id, plan, done_at, "" if plan else title


def _missing_machines(rows: Iterable[Row], machines: Mapping[Any, Any]) -> Iterator[Wrong]:
    for row in rows:
        if row.values["device_id"] not in machines:
            yield row.wrong(
                "device_id", "there is no machine of this id; fettle import FILE --kind devices brings machines in"
            )


def _machines(connection: Connection, rows: Iterable[Row]) -> dict[Any, Any]:
    """When those of a file's machines that there are were retired, if they were."""
    d = schema.device.c
    return _known(connection, d.device_id, d.retired_at, [row.values["device_id"] for row in rows])


def _known(
    connection: Connection, name: sa.ColumnElement[Any], key: sa.ColumnElement[Any], names: Iterable[Any]
) -> dict[Any, Any]:
    """Those of these names that are on record, with their keys."""
    found: dict[Any, Any] = {}
    for some in _chunks({one for one in names if one is not None}):
        found.update((row[0], row[1]) for row in connection.execute(sa.select(name, key).where(name.in_(some))))
    return found


def _chunks(names: Iterable[Any]) -> Iterator[list[Any]]:
    ordered = sorted(names)
    for start in range(0, len(ordered), IN_ONE_QUERY):
        yield ordered[start : start + IN_ONE_QUERY]


def _later(one: Any, than: Any) -> bool:
    """Whether a moment lies after another; what is not known lies nowhere."""
    return one is not None and (than is None or one > than)


# --- what is written ---


def _write_sites(connection: Connection, rows: Sequence[Row], actor: str, now: int) -> None:
    values = [dict(row.values) for row in rows]
    keys = _insert(connection, schema.site, values)
    told = [{**one, "access_notes": f"{len(str(one['access_notes']))} characters"} for one in values]
    _audit(connection, "site_added", [f"site:{key}" for key in keys], told, actor, now)


def _write_customers(connection: Connection, rows: Sequence[Row], actor: str, now: int) -> None:
    keys = _insert(connection, schema.customer, [dict(row.values) for row in rows])
    told = [{"lang": row.values["lang"]} for row in rows]
    _audit(connection, "customer_added", [f"customer:{key}" for key in keys], told, actor, now)


def _write_devices(connection: Connection, rows: Sequence[Row], actor: str, now: int) -> None:
    s = schema.site.c
    sites = _known(connection, s.name, s.id, [row.values["site"] for row in rows])
    machines, stays = [], []
    for row in rows:
        added_at = row.values["added_at"] if row.values["added_at"] is not None else now
        site_id = sites.get(row.values["site"])
        machines.append({
            "device_id": row.values["device_id"], "profile": row.values["profile"], "site_id": site_id,
            "generation": 0, "added_at": added_at, "retired_at": row.values["retired_at"],
        })  # fmt: skip
        stays.append({
            "device_id": row.values["device_id"], "site_id": site_id, "from_at": added_at, "recorded_at": now,
            "actor": actor,
        })  # fmt: skip
    if machines:
        connection.execute(sa.insert(schema.device), machines)
        connection.execute(sa.insert(schema.stay), stays)
    _audit(connection, "device_added", [f"device:{one['device_id']}" for one in machines], machines, actor, now)


def _taken_over(starts_at: Any, ends_at: Any, now: int) -> dict[str, Any]:
    """Of a rental that has begun: its customer has, or had, the machine already, and it goes through no gate."""
    begun = not _later(starts_at, now)
    out = begun and (ends_at is None or _later(ends_at, now))
    return {"taken_over": begun, "handed_over_at": starts_at if out else None}


def _write_rentals(connection: Connection, rows: Sequence[Row], actor: str, now: int) -> None:
    c, n = schema.customer.c, schema.contract.c
    customers = _known(connection, c.name, c.id, [row.values["customer"] for row in rows])
    contracts = _known(connection, n.number, n.id, [row.values["contract"] for row in rows])
    new = {row.values["contract"]: customers[row.values["customer"]] for row in rows
           if row.values["contract"] is not None and row.values["contract"] not in contracts}  # fmt: skip
    added = [{"number": number, "customer_id": of, "added_at": now} for number, of in new.items()]
    keys = _insert(connection, schema.contract, added)
    _audit(connection, "contract_added", [f"contract:{key}" for key in keys], added, actor, now)
    contracts.update(zip(new, keys, strict=True))
    values = [
        {
            "device_id": row.values["device_id"], "customer_id": customers[row.values["customer"]],
            "contract_id": contracts.get(row.values["contract"]), "starts_at": row.values["starts_at"],
            "ends_at": row.values["ends_at"],
            **_taken_over(row.values["starts_at"], row.values["ends_at"], now),
        }
        for row in rows
    ]  # fmt: skip
    keys = _insert(connection, schema.rental, values)
    _audit(connection, "rental_added", [f"rental:{key}" for key in keys], values, actor, now)
    running = [one["device_id"] for one in values if one["ends_at"] is None or one["ends_at"] > now]
    note_changes(connection, now, "rental", running)


def _write_maintenance(connection: Connection, rows: Sequence[Row], actor: str, now: int) -> None:
    """Done work orders, from which the plans of the machines are reckoned anew. What the meter showed tells from which
    hour, unless the meter was replaced: then the next reading does."""
    replaced = _replaced(connection, {row.values["device_id"] for row in rows})
    values = []
    for row in rows:
        told, done_at = row.values, row.values["done_at"]
        values.append({
            "kind": "maintenance", "device_id": told["device_id"], "plan": told["plan"], "title_en": told["title"],
            "title_zh": told["title"] if told["title_zh"] is None else told["title_zh"], "reason": "imported",
            "due_at": done_at, "opened_at": done_at, "opened_by": actor, "status": "done", "checklist": [],
            "results": [], "parts": _parts(told), "note": told["note"], "done_at": done_at, "done_by": told["done_by"],
            "meter_hours": told["meter_h"], "from_at": done_at if told["plan"] else None, "recorded_at": now,
            "from_h": told["meter_h"] if told["plan"] and told["device_id"] not in replaced else None,
        })  # fmt: skip
    keys = _insert(connection, schema.work_order, values)
    told_of = [{"device_id": one["device_id"], "plan": one["plan"], "done_at": one["done_at"]} for one in values]
    _audit(connection, "work_order_imported", [f"work_order:{key}" for key in keys], told_of, actor, now)
    u = schema.maintenance_due
    for some in _chunks({row.values["device_id"] for row in rows}):
        connection.execute(sa.update(u).where(u.c.device_id.in_(some)).values(look_at=0))


def _replaced(connection: Connection, device_ids: Iterable[Any]) -> set[Any]:
    m = schema.meter_reading.c
    return {
        one for some in _chunks(device_ids)
        for one in connection.execute(sa.select(m.device_id).where(m.device_id.in_(some), m.replaced)).scalars()
    }  # fmt: skip


def _parts(values: Values) -> list[str]:
    return [line for line in str(values["parts"] or "").split("\n") if line.strip()]


def _insert(connection: Connection, table: sa.Table, values: Sequence[Mapping[str, Any]]) -> list[int]:
    """The new rows' ids, in their order."""
    if not values:
        return []
    statement = sa.insert(table).returning(table.c.id, sort_by_parameter_order=True)
    return list(connection.execute(statement, list(values)).scalars())


def _audit(
    connection: Connection, what: str, subjects: Sequence[str], after: Sequence[Mapping[str, Any]], actor: str, now: int
) -> None:
    write_audits(connection, now, actor, what, zip(subjects, map(dict, after), strict=True))


CHECKS: dict[Register, Callable[[Connection, Sequence[Row], int], Iterator[Wrong]]] = {
    Register.SITES: _check_sites,
    Register.CUSTOMERS: _check_customers,
    Register.DEVICES: _check_devices,
    Register.RENTALS: _check_rentals,
    Register.MAINTENANCE: _check_maintenance,
}
WRITERS: dict[Register, Callable[[Connection, Sequence[Row], str, int], None]] = {
    Register.SITES: _write_sites,
    Register.CUSTOMERS: _write_customers,
    Register.DEVICES: _write_devices,
    Register.RENTALS: _write_rentals,
    Register.MAINTENANCE: _write_maintenance,
}


# --- out -----------------------------------------------------------------------------------------------------------


def export(
    connection: Connection, kind: Register, zone: ZoneInfo, profiles: Mapping[str, Profile]
) -> Iterator[str]:  # fmt: skip
    """The whole register, as `Intake.take` reads it, in pieces."""
    rows = connection.execute(_SELECTS[kind]())
    told = ({**row._mapping, **_as_lines(row)} for row in rows)
    yield from sheets.write(sheet(kind, zone, profiles), told)


def _as_lines(row: sa.Row[*tuple[Any, ...]]) -> dict[str, str]:
    parts = row._mapping.get("parts")
    return {} if parts is None else {"parts": "\n".join(str(part) for part in parts)}


def _sites() -> sa.Select[*tuple[Any, ...]]:
    return sa.select(schema.site).order_by(schema.site.c.id)


def _customers() -> sa.Select[*tuple[Any, ...]]:
    return sa.select(schema.customer).order_by(schema.customer.c.id)


def _devices() -> sa.Select[*tuple[Any, ...]]:
    d, s = schema.device.c, schema.site.c
    chosen = sa.select(d.device_id, d.profile, s.name.label("site"), d.added_at, d.retired_at)
    return chosen.outerjoin(schema.site, s.id == d.site_id).order_by(d.device_id)


def _rentals() -> sa.Select[*tuple[Any, ...]]:
    r, c, n = schema.rental.c, schema.customer.c, schema.contract.c
    return (
        sa.select(r.device_id, c.name.label("customer"), n.number.label("contract"), r.starts_at, r.ends_at)
        .join(schema.customer, c.id == r.customer_id).outerjoin(schema.contract, n.id == r.contract_id).order_by(r.id)
    )  # fmt: skip


def _maintenance() -> sa.Select[*tuple[Any, ...]]:
    o = schema.work_order.c
    plan = sa.case((o.plan == "", NO_PLAN), else_=o.plan).label("plan")
    return (
        sa.select(o.device_id, o.done_at, plan, o.title_en.label("title"), o.title_zh,
                  o.meter_hours.label("meter_h"), o.done_by, o.parts, o.note)
        .where(o.status == "done", o.kind == "maintenance").order_by(o.done_at, o.id)
    )  # fmt: skip


_SELECTS: dict[Register, Callable[[], sa.Select[*tuple[Any, ...]]]] = {
    Register.SITES: _sites,
    Register.CUSTOMERS: _customers,
    Register.DEVICES: _devices,
    Register.RENTALS: _rentals,
    Register.MAINTENANCE: _maintenance,
}
