"""The machine's file (E5): one time line, read from the same tables that everything else is read from.

A source is one small function: it selects what one table says of a machine, as `at`, `key` and whatever is worth
telling, and is found by `SOURCES`. Each is read by an index of its own and only as far as a page needs, so that a file
of years is as quick as one of days. A table that names machines is a source, or stands in `TECHNICAL` with the reason
why not; a test holds the schema to that.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.fleet.file import Entry, Key, Kind, Place, matches, newest_first
from monitor.store import schema

Statement = sa.Select[*tuple[Any, ...]]
Row = sa.Row[*tuple[Any, ...]]
SEARCHED_AT_ONCE, MOST_SEARCHED = 500, 20_000
"""How many entries a search looks through at a time, and for one page."""

TECHNICAL = {
    "seen": "which numbers of a box's messages came; told in sum (Heard)",
    "parked": "messages that wait some seconds for one before them",
    "rejected": "what broke the wire contract: no word of it can be trusted, and it is kept for a while only",
    "reply": "what came in answer to commands, for a month; the answer that counts stands with its command",
    "snapshot": "the memory of detectors",
    "released": "word to the detectors, gone once they have heard it",
    "serviced": "word to the detectors, gone once they have heard it; the repair stands with its ticket",
    "evidence_copy": "readings that a ticket keeps; they are shown with it",
    "change": "what pages follow, kept for a day",
    "fleet_interval": "the ledger of condition and place: it follows from faults, stays, rentals and windows told here",
    "ledger_due": "whose ledger is to be worked out anew",
    "heard_late": "readings that came after all; the ledger is amended by them",
    "meter_asked": "when telemetry was last asked for a meter; what it said is a meter reading",
    "maintenance_due": "a forecast, reckoned anew from plans, meters and work orders",
}
"""Tables that name a machine and are no part of its file, each with why."""


@dataclass(frozen=True)
class Source:
    """What one table says of a machine. `what` is its code where the rows do not name one themselves."""

    table: str
    kind: Kind
    what: str
    select: Callable[[str], Statement]

    def entry(self, row: Row, rank: int) -> Entry:
        told = {name: value for name, value in row._mapping.items() if value is not None}
        at, key = told.pop("at"), told.pop("key")
        what, actor, text, link = (str(told.pop(name, "")) for name in ("what", "actor", "text", "link"))
        return Entry(
            at, self.kind, what or self.what, f"{self.table}:{key}", (at, rank, key), told, actor, text, link
        )  # fmt: skip


SOURCES: list[Source] = []


def _source(table: sa.Table, kind: Kind, what: str = "") -> Callable[[Callable[[str], Statement]], None]:
    """Registers the function below it. Its statement has the columns `at` and `key`; `what`, `actor`, `text` and `link`
    go to the fields of that name, all others are facts."""

    def register(select: Callable[[str], Statement]) -> None:
        SOURCES.append(Source(table.name, kind, what, select))

    return register


# --- reading -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """What is wanted of a file: [from_at, to_at), only some kinds (none: all), and `before`, where the page before
    ended. Words that are sought are looked for in what `said` makes of an entry, too."""

    from_at: int
    to_at: int
    kinds: Collection[Kind] = ()
    words: str = ""
    before: Place | None = None


@dataclass(frozen=True)
class Found:
    entries: list[Entry]
    following: Place | None
    """Where the next page begins; None: there is none."""


def read(
    connection: Connection, device_id: str, asked: Asked, limit: int, said: Callable[[Entry], str] = lambda _: ""
) -> Found:
    """A page of a machine's file, the newest first. A search that finds too little in MOST_SEARCHED entries answers by
    what it has, and where to go on."""
    if not asked.words.strip():
        return _page(connection, device_id, asked, limit)
    found: list[Entry] = []
    looked = 0
    while True:
        part = _page(connection, device_id, asked, SEARCHED_AT_ONCE)
        found += [entry for entry in part.entries if matches(entry, asked.words, said)]
        looked += len(part.entries)
        if len(found) > limit:
            return Found(found[:limit], found[limit - 1].place)
        if part.following is None or looked >= MOST_SEARCHED:
            return Found(found, part.following)
        asked = replace(asked, before=part.following)


def number(connection: Connection, device_id: str, asked: Asked) -> int:
    """How many entries a file has of this, words aside."""
    return sum(
        connection.execute(sa.select(sa.func.count()).select_from(
            _part(source.select(device_id), rank, asked, None).order_by(None).subquery()
        )).scalar_one()
        for rank, source in enumerate(SOURCES) if not asked.kinds or source.kind in asked.kinds
    )  # fmt: skip


def _page(connection: Connection, device_id: str, asked: Asked, limit: int) -> Found:
    entries = [
        source.entry(row, rank)
        for rank, source in enumerate(SOURCES)
        if not asked.kinds or source.kind in asked.kinds
        for row in connection.execute(_part(source.select(device_id), rank, asked, limit + 1))
    ]
    ordered = newest_first(entries)
    more = len(ordered) > limit
    return Found(ordered[:limit], ordered[limit - 1].place if more else None)


def _part(statement: Statement, rank: int, asked: Asked, limit: int | None) -> Statement:
    """The newest rows of a source that come after the page before."""
    at, key = (statement.exported_columns[name] for name in ("at", "key"))
    at, key = _inner(at), _inner(key)
    statement = statement.where(at.is_not(None), at >= asked.from_at, at < asked.to_at)
    if asked.before is not None:
        statement = statement.where(_behind(at, key, rank, asked.before))
    return statement.order_by(at.desc(), key.desc()).limit(limit)


def _behind(
    at: sa.ColumnElement[Any], key: sa.ColumnElement[Any], rank: int, before: Place
) -> sa.ColumnElement[bool]:  # fmt: skip
    """In the order of places: by moment, then by the rank of the source, then by key."""
    last_at, last_rank, last_key = before
    if rank != last_rank:
        return at <= last_at if rank < last_rank else at < last_at
    return sa.or_(at < last_at, sa.and_(at == last_at, key < last_key))


def _inner(column: Any) -> Any:
    """What a label stands for: conditions on it find the index."""
    return column.element if isinstance(column, sa.Label) else column


def key_of_source(rank: int, text: str) -> Key:
    """The key of a row of this source, as a cursor wrote it. Raises ValueError where it can be none."""
    if not 0 <= rank < len(SOURCES):
        raise ValueError(f"there is no source {rank}")
    key = _inner(SOURCES[rank].select("").exported_columns["key"])
    return text if isinstance(key.type, sa.String) else int(text)


# --- the machine itself --------------------------------------------------------------------------------------------

d, y, v, k = schema.device.c, schema.stay.c, schema.firmware_seen.c, schema.credential.c


def _of_machine(device_id: str, at: sa.ColumnElement[Any], *more: sa.ColumnElement[Any]) -> Statement:
    return sa.select(at.label("at"), d.device_id.label("key"), *more).where(d.device_id == device_id)


@_source(schema.device, Kind.MACHINE, "added")
def _added(device_id: str) -> Statement:
    return _of_machine(device_id, d.added_at, d.profile)


@_source(schema.device, Kind.MACHINE, "first_heard")
def _first_heard(device_id: str) -> Statement:
    return _of_machine(device_id, d.first_heard_at)


@_source(schema.device, Kind.MACHINE, "retired")
def _retired(device_id: str) -> Statement:
    return _of_machine(device_id, d.retired_at)


@_source(schema.device, Kind.CREDENTIAL, "revoked")
def _revoked(device_id: str) -> Statement:
    return _of_machine(device_id, d.revoked_at)


@_source(schema.credential, Kind.CREDENTIAL, "issued")
def _issued(device_id: str) -> Statement:
    chosen = sa.select(k.issued_at.label("at"), k.public_key.label("key"), k.generation)
    return chosen.where(k.device_id == device_id)


@_source(schema.credential, Kind.CREDENTIAL, "ended")
def _ended(device_id: str) -> Statement:
    chosen = sa.select(k.revoked_at.label("at"), k.public_key.label("key"), k.generation)
    return chosen.where(k.device_id == device_id)


@_source(schema.stay, Kind.MOVE, "stands")
def _stays(device_id: str) -> Statement:
    return (
        sa.select(y.from_at.label("at"), y.id.label("key"), y.site_id, schema.site.c.name.label("site_name"),
                  y.actor, y.recorded_at)
        .outerjoin(schema.site, schema.site.c.id == y.site_id).where(y.device_id == device_id)
    )  # fmt: skip


@_source(schema.firmware_seen, Kind.FIRMWARE, "runs")
def _firmware(device_id: str) -> Statement:
    chosen = sa.select(v.from_at.label("at"), v.id.label("key"), v.firmware, v.model, v.recorded_at)
    return chosen.where(v.device_id == device_id)


# --- on hire -------------------------------------------------------------------------------------------------------

r = schema.rental.c
_other = schema.rental.alias("other")


def _rental(device_id: str, at: sa.ColumnElement[Any], *more: sa.ColumnElement[Any]) -> Statement:
    return (
        sa.select(at.label("at"), r.id.label("key"), r.customer_id, schema.customer.c.name.label("customer_name"),
                  schema.contract.c.number.label("contract"), *more)
        .join(schema.customer, schema.customer.c.id == r.customer_id)
        .outerjoin(schema.contract, schema.contract.c.id == r.contract_id)
        .where(r.device_id == device_id)
    )  # fmt: skip


@_source(schema.rental, Kind.RENTAL, "began")
def _hired(device_id: str) -> Statement:
    """In exchange for another machine, where it says so."""
    statement = _rental(device_id, r.starts_at, r.ends_at, _other.c.device_id.label("instead_of"))
    return statement.outerjoin(_other, _other.c.id == r.replaces_id)


@_source(schema.rental, Kind.RENTAL, "ended")
def _given_back(device_id: str) -> Statement:
    """Exchanged for another machine, where it was."""
    statement = _rental(device_id, r.ends_at, r.starts_at, _other.c.device_id.label("exchanged_for"))
    return statement.outerjoin(_other, _other.c.replaces_id == r.id)


@_source(schema.rental, Kind.RENTAL, "returned")
def _came_back(device_id: str) -> Statement:
    """When the machine was there again, which may be before its hire ended, or after."""
    return _rental(device_id, r.returned_at, r.ends_at)


# --- what was wrong, and what was done -----------------------------------------------------------------------------

f, t, p = schema.fault.c, schema.ticket.c, schema.step.c


@_source(schema.fault, Kind.FAULT, "opened")
def _fault_opened(device_id: str) -> Statement:
    return sa.select(
        f.opened_at.label("at"), f.id.label("key"), f.kind.label("fault"), f.subject, f.severity, f.confidence,
        f.occurred_at, f.evidence, f.ticket_id,
    ).where(f.device_id == device_id)  # fmt: skip


@_source(schema.fault, Kind.FAULT, "cleared")
def _fault_cleared(device_id: str) -> Statement:
    return sa.select(
        f.cleared_at.label("at"), f.id.label("key"), f.kind.label("fault"), f.subject, f.severity, f.opened_at,
        f.ended_at, f.evidence, f.ticket_id,
    ).where(f.device_id == device_id)  # fmt: skip


def _ticket(device_id: str, at: sa.ColumnElement[Any], *more: sa.ColumnElement[Any]) -> Statement:
    chosen = sa.select(at.label("at"), t.id.label("key"), t.id.label("ticket_id"), *more)
    return chosen.where(t.device_id == device_id)


@_source(schema.ticket, Kind.TICKET, "opened")
def _ticket_opened(device_id: str) -> Statement:
    statement = _ticket(
        device_id, t.opened_at, t.kind.label("fault"), t.subject, t.severity, t.occurred_at, t.evidence, t.rental_id
    )
    return statement.where(t.origin == "detected")


@_source(schema.ticket, Kind.REPORT, "reported")
def _reported(device_id: str) -> Statement:
    """What a person told us: by telephone, on the customer's page, from the label on the machine."""
    statement = _ticket(
        device_id, t.opened_at, t.kind.label("fault"), t.severity, t.origin, t.reported_by, t.rental_id,
        t.evidence["text"].as_string().label("text"),
    )  # fmt: skip
    return statement.where(t.origin != "detected")


@_source(schema.ticket, Kind.TICKET, "resolution")
def _resolution(device_id: str) -> Statement:
    statement = _ticket(
        device_id, t.resolved_at, t.kind.label("fault"), t.subject, t.evidence,
        t.resolution_cause, t.resolution_action, t.borne_by, t.outcome, t.opened_at,
    )  # fmt: skip
    return statement.where(t.resolution_cause.is_not(None))


@_source(schema.ticket, Kind.PART, "fitted")
def _parts(device_id: str) -> Statement:
    written = sa.cast(t.parts, sa.String)
    return _ticket(device_id, t.resolved_at, t.parts).where(written.not_in(("[]", "null", "")))


@_source(schema.step, Kind.TICKET)
def _steps(device_id: str) -> Statement:
    technician = schema.person.alias("technician")
    return (
        sa.select(p.happened_at.label("at"), p.id.label("key"), p.event.label("what"), p.actor, p.note.label("text"),
                  p.ticket_id, p.from_status, p.to_status, p.reason, p.recorded_at, p.corrected_by,
                  technician.c.name.label("technician"))
        .join(schema.ticket, t.id == p.ticket_id)
        .outerjoin(technician, technician.c.id == p.technician_id)
        .where(t.device_id == device_id)
    )  # fmt: skip


# --- looked at, and looked after -----------------------------------------------------------------------------------

i, h, o, m = schema.inspection.c, schema.hand_over.c, schema.work_order.c, schema.meter_reading.c


def _inspection(device_id: str, at: sa.ColumnElement[Any], *more: sa.ColumnElement[Any]) -> Statement:
    return (
        sa.select(at.label("at"), i.id.label("key"), i.id.label("inspection_id"), i.passed, i.rental_id, *more)
        .where(i.device_id == device_id)
    )  # fmt: skip


@_source(schema.inspection, Kind.INSPECTION)
def _inspections(device_id: str) -> Statement:
    statement = _inspection(
        device_id, i.at, i.kind.label("what"), schema.person.c.name.label("inspector"), i["items"],
        i.note.label("text"), i.checklist_version, i.signature, i.signed_at, i.recorded_at,
    )  # fmt: skip
    return statement.outerjoin(schema.person, schema.person.c.id == i.inspector_id)


@_source(schema.inspection, Kind.INSPECTION, "voided")
def _voided(device_id: str) -> Statement:
    return _inspection(device_id, i.voided_at, i.voided_by.label("actor"), i.void_reason.label("text"),
                       i.kind.label("inspection"))  # fmt: skip


@_source(schema.hand_over, Kind.RENTAL, "handed_over")
def _handed_over(device_id: str) -> Statement:
    return (
        sa.select(h.at.label("at"), h.id.label("key"), h.rental_id, h.inspection_id, h.actor, h.gate)
        .join(schema.rental, r.id == h.rental_id).where(r.device_id == device_id)
    )  # fmt: skip


def _order(device_id: str, at: sa.ColumnElement[Any], kind: str, *more: sa.ColumnElement[Any]) -> Statement:
    return (
        sa.select(at.label("at"), o.id.label("key"), o.id.label("work_order_id"), o.plan, o.title_en, o.title_zh, *more)
        .where(o.device_id == device_id, o.kind == kind)
    )  # fmt: skip


def _ordered(device_id: str, kind: str) -> Statement:
    return _order(device_id, o.opened_at, kind, o.opened_by.label("actor"), o.reason, o.due_at, o.status)


def _done(device_id: str, kind: str) -> Statement:
    return _order(
        device_id, o.done_at, kind, o.done_by.label("actor"), o.results, o.parts, o.note.label("text"), o.meter_hours,
        o.recorded_at,
    )  # fmt: skip


@_source(schema.work_order, Kind.MAINTENANCE, "ordered")
def _maintenance_ordered(device_id: str) -> Statement:
    return _ordered(device_id, "maintenance")


@_source(schema.work_order, Kind.MAINTENANCE, "done")
def _maintenance_done(device_id: str) -> Statement:
    return _done(device_id, "maintenance")


@_source(schema.work_order, Kind.SPOT_CHECK, "drawn")
def _drawn(device_id: str) -> Statement:
    return _ordered(device_id, "spot_check")


@_source(schema.work_order, Kind.SPOT_CHECK, "done")
def _checked(device_id: str) -> Statement:
    return _done(device_id, "spot_check")


def _cancelled(device_id: str, kind: str) -> Statement:
    # Nothing is recorded of a cancelled order any more.
    told = _order(device_id, o.recorded_at, kind, o.done_by.label("actor"), o.note.label("text"))
    return told.where(o.status == "cancelled")


@_source(schema.work_order, Kind.MAINTENANCE, "cancelled")
def _maintenance_cancelled(device_id: str) -> Statement:
    return _cancelled(device_id, "maintenance")


@_source(schema.work_order, Kind.SPOT_CHECK, "cancelled")
def _check_cancelled(device_id: str) -> Statement:
    return _cancelled(device_id, "spot_check")


@_source(schema.meter_reading, Kind.METER, "read")
def _meter(device_id: str) -> Statement:
    """What people read, and where a meter was replaced or is in doubt; what telemetry says each day is summed up
    (months)."""
    told = sa.or_(m.source == "manual", m.replaced, m.doubt != "")
    return sa.select(
        m.at.label("at"), m.id.label("key"), m.hours, m.total_h, m.source.label("meter"), m.replaced, m.doubt,
        m.actor, m.recorded_at,
    ).where(m.device_id == device_id, told)  # fmt: skip


# --- declared, and asked -------------------------------------------------------------------------------------------

w, c = schema.maintenance_window.c, schema.command.c


def _window(where: sa.ColumnElement[bool]) -> Statement:
    return sa.select(
        w.starts_at.label("at"), w.id.label("key"), w.what, w.ends_at, w.reason.label("text"), w.site_id,
        w.declared_by.label("actor"), w.declared_at, w.cancelled_at,
    ).where(where)  # fmt: skip


@_source(schema.maintenance_window, Kind.WINDOW)
def _windows(device_id: str) -> Statement:
    return _window(w.device_id == device_id)


@_source(schema.maintenance_window, Kind.WINDOW)
def _windows_of_sites(device_id: str) -> Statement:
    """Those of the sites that it stood at within them."""
    of_site, later = schema.maintenance_window.alias("of_site"), schema.stay.alias("later")
    left = sa.exists().where(
        later.c.device_id == device_id, later.c.from_at > y.from_at, later.c.from_at <= of_site.c.starts_at
    )
    stood = sa.select(of_site.c.id).join(schema.stay, y.site_id == of_site.c.site_id).where(
        y.device_id == device_id, y.from_at < of_site.c.ends_at, ~left
    )  # fmt: skip
    return _window(w.id.in_(stood))


@_source(schema.command, Kind.SELF_TEST)
def _self_tests(device_id: str) -> Statement:
    return sa.select(
        c.asked_at.label("at"), c.id.label("key"), c.command.label("what"), c.asked_by.label("actor"), c.ticket_id,
        c.answered_at, c.ok, c.result, c.given_up_at, c.reason,
    ).where(c.device_id == device_id)  # fmt: skip


# --- in sum --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """What came of a machine's messages, since it was added."""

    first_at: int | None
    last_at: int | None
    received: int
    missing: int
    """Numbers that never came."""

    @property
    def completeness(self) -> float | None:
        """The share that came; None where nothing did."""
        total = self.received + self.missing
        return self.received / total if total else None


def machine(connection: Connection, device_id: str) -> Row | None:
    """The machine that a file is of; retired ones have theirs still."""
    return connection.execute(
        sa.select(schema.device, schema.site.c.name.label("site_name"))
        .outerjoin(schema.site, schema.site.c.id == d.site_id).where(d.device_id == device_id)
    ).first()  # fmt: skip


def names(connection: Connection) -> dict[str, str]:
    """Who `person:7` is, as actors are written."""
    c = schema.person.c
    return {f"person:{row.id}": row.name for row in connection.execute(sa.select(c.id, c.name))}


@dataclass(frozen=True)
class Month:
    """What a machine's hour meter ran in a month: from the last reading before it to the last one within it."""

    month: str
    hours: float


def months(connection: Connection, device_id: str, zone: ZoneInfo, since: int) -> list[Month]:
    """Hours by month, the newest first, of the months since this moment that have a reading."""
    rows = connection.execute(
        sa.select(m.at, m.total_h).where(m.device_id == device_id, m.doubt == "").order_by(m.at)
    ).all()
    last: dict[str, float] = {}
    for row in rows:
        last[f"{datetime.fromtimestamp(row.at / 1000, zone):%Y-%m}"] = row.total_h
    before = rows[0].total_h if rows else 0.0
    found = []
    for month, total_h in last.items():
        found.append(Month(month, max(0.0, total_h - before)))
        before = total_h
    earliest = f"{datetime.fromtimestamp(since / 1000, zone):%Y-%m}"
    return [one for one in reversed(found) if one.month >= earliest]


def heard(connection: Connection, device_id: str) -> Heard:
    s = schema.seen.c
    received, upto = connection.execute(
        sa.select(sa.func.coalesce(sa.func.sum(s.received), 0), sa.func.coalesce(sa.func.sum(s.next_seq), 0))
        .where(s.device_id == device_id)
    ).one()  # fmt: skip
    row = connection.execute(sa.select(d.first_heard_at, d.last_heard_at).where(d.device_id == device_id)).first()
    first_at, last_at = row if row else (None, None)
    return Heard(first_at, last_at, int(received), int(upto) - int(received))
