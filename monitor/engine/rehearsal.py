"""A rehearsal: the service's own detectors and desk in virtual time, on a database in memory that nobody else sees.

What machines said (recorded, or made by a simulator) goes through the same `Bank` and `Desk` that a `Watch` drives, in
the same order: step, status, record, tick. So a ticket here is the ticket that the service would have opened. What a
watch does beside that (storing, sorting out what came twice, snapshots) decides nothing and is left out, which makes
weeks of a fleet pass in minutes. Nobody is told anything, though notices are written as ever.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.commitments import Standard, service_standard
from monitor.desk.tickets import Resolution, Verb
from monitor.detect import Bank, Finding
from monitor.devices import Device, FaultKind, Profile
from monitor.engine.desk import Addresses, Desk
from monitor.readings import Arrival, Batch, Rejected, Status
from monitor.store import registry, schema, watching
from monitor.store.database import Database, open_database

TICK_MS = 10_000
"""How much virtual time passes between two ticks where nothing else is said. The service ticks twice a second."""
DESK_TICK_MS = 60_000
"""The desk's clocks are looked at this often, and at each tick while a fault is held."""
QUIET_TICK_MS = 3_600_000
"""As often it ticks while nothing is heard of anybody, and whatever that means has been concluded."""
CONCLUDING_MS = 2 * 3_600_000
"""So long beyond the patience of every profile something may still be concluded from silence: a fault may be held."""
TECHNICIAN, TECHNICIAN_ID = "rehearsal", 1
REPAIRED = Resolution("other", "repaired", "wear")
REPAIR = (Verb.ACCEPT, Verb.START_REPAIR, Verb.RESOLVE, Verb.CLOSE)


class Place(NamedTuple):
    """A site where machines stand."""

    site_id: int
    name: str = ""
    remote: bool = False
    timezone: str = "Asia/Shanghai"


class Hire(NamedTuple):
    """A rental: [starts_at, ends_at), epoch ms; `ends_at` None while it runs."""

    device_id: str
    starts_at: int
    ends_at: int | None = None


class Repaired(NamedTuple):
    """Somebody saw to a machine: its tickets, or only that of one fault, are resolved and closed."""

    device_id: str
    at: int
    kind: str | None = None
    """Of the fault; None: whatever is open on the machine."""
    subject: str = ""
    serviced: bool = True
    """Whether it was repaired or serviced, so that it is learnt anew."""


@dataclass(frozen=True)
class Company:
    """Who takes part."""

    profiles: Mapping[str, Profile]
    devices: Sequence[Device]
    sites: Sequence[Place] = ()
    hires: Sequence[Hire] = ()
    standard: Standard = field(default_factory=service_standard)


class FaultTold(NamedTuple):
    """A fault as the desk recorded it. `opened_at`, `cleared_at`: when the service knew; the others: device's clock."""

    device_id: str
    kind: str
    subject: str
    severity: str
    opened_at: int
    occurred_at: int
    ended_at: int | None
    cleared_at: int | None


class TicketTold(NamedTuple):
    """A ticket as the desk recorded it. `device_id` None: a whole site's."""

    ticket_id: int
    device_id: str | None
    site_id: int | None
    kind: str
    subject: str
    severity: str
    status: str
    opened_at: int
    occurred_at: int
    cleared_at: int | None
    recurrences: int
    faults: tuple[FaultTold, ...]


Heard = Batch | Arrival | Repaired


class Rehearsal:
    """One rehearsal, from `begin_at` on. Of one thread: its database lives in the memory of that thread.

    `closes_after_ms`: a dispatcher closes a ticket so long after its faults cleared by themselves; None: nobody does.
    """

    def __init__(
        self, company: Company, begin_at: int, *, tick_ms: int = TICK_MS, closes_after_ms: int | None = None
    ) -> None:
        self.now = begin_at
        self.findings = 0
        self._tick_ms = tick_ms
        self._closes_after_ms = closes_after_ms
        self._tick_at = (begin_at // tick_ms + 1) * tick_ms
        patience_s = [max(4 * p.report_interval_s, p.start_timeout_s) for p in company.profiles.values()]
        self._concluded_ms = round(1000 * max(patience_s, default=0)) + CONCLUDING_MS
        self._heard_at: int | None = None
        self._heard: dict[str, int] = {}
        self._attended_since = begin_at
        self._desk_tick_at = begin_at
        self._holding = False
        self._devices = {device.device_id: device for device in company.devices}
        self._generation = {device.device_id: device.generation for device in company.devices}
        self.bank = Bank(company.profiles)
        self.bank.place(company.devices)
        self._database = open_database("sqlite://")
        _furnish(self._database, company, begin_at)
        addresses = Addresses("http://rehearsal.invalid", "UTC")
        self.desk = Desk(self._database, company.standard, company.profiles, addresses)

    def hear(self, heard: Heard) -> None:
        """Take in what comes next. Time passes up to it, with the ticks that fall due; it never goes back."""
        if isinstance(heard, Batch):
            for moment, part in slices(heard, self._tick_ms):
                self._reach(moment)
                self._note_life()
                said_by = [part.device_ids[device] for device in part.device.tolist()]
                self._heard.update(zip(said_by, part.received_at.tolist(), strict=True))
                self._record(self.bank.step(self._renewed(part)))
        elif isinstance(heard, Arrival):
            self._reach(heard.received_at)
            self._note_life()
            self._record(self._said(heard))
        else:
            self._reach(heard.at)
            self.repair(heard)

    def until(self, now: int) -> None:
        """Let time pass up to and with this moment, with the ticks that fall due."""
        end_at = max(self.now, now)
        self._reach(end_at + 1)
        self.now = end_at

    def repair(self, done: Repaired) -> None:
        """Somebody has been there, now: tickets are resolved and closed, and detectors let go."""
        t = schema.ticket.c
        which = sa.true() if done.kind is None else sa.and_(t.kind == done.kind, t.subject == done.subject)
        with self._database.connect() as connection:
            mine = connection.execute(
                sa.select(t.id).where(t.device_id == done.device_id, which, sa.text(schema.OPEN_TICKET))
            ).scalars().all()  # fmt: skip
        for ticket_id in mine:
            self._end(ticket_id, repaired=done.serviced)
        self._let_go()
        if done.serviced:
            self.bank.serviced(done.device_id)

    def tickets(self, since_at: int = 0) -> list[TicketTold]:
        """The tickets opened from then on, in the order in which they were opened."""
        with self._database.connect() as connection:
            return load_tickets(connection, since_at)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> "Rehearsal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reach(self, moment: int) -> None:
        """Let time pass up to this moment. What falls due at the moment itself comes after what is heard then."""
        if self._heard_at is None:
            self._tick_at = self.now = max(self.now, moment)
            return
        while self._tick_at < moment:
            self.now = max(self.now, self._tick_at)
            quiet = self.now - self._heard_at > self._concluded_ms
            self._tick_at += QUIET_TICK_MS if quiet else self._tick_ms
            self._tick()
        self.now = max(self.now, moment)

    def _note_life(self) -> None:
        """From now on it ticks often again, until what silence could mean has been concluded."""
        self._heard_at = self.now
        self._tick_at = min(self._tick_at, (self.now // self._tick_ms + 1) * self._tick_ms)

    def _said(self, arrival: Arrival) -> list[Finding]:
        self._heard[arrival.device_id] = arrival.received_at
        if isinstance(arrival.body, Status):
            self._save_status(arrival.device_id, arrival.received_at, arrival.body)
            return self.bank.status(arrival.device_id, arrival.body, arrival.received_at)
        if isinstance(arrival.body, Rejected):
            self.bank.alive([arrival.device_id], arrival.received_at)
            return []
        raise TypeError(f"a {type(arrival.body).__name__} comes in a Batch, where its order among others is known")

    def _save_status(self, device_id: str, received_at: int, status: Status) -> None:
        if device_id in self._devices:
            with self._database.begin() as connection:
                watching.save_statuses(connection, [(self._devices[device_id], received_at, status)])

    def _save_heard(self, connection: Connection) -> None:
        """The desk asks the record who is alive."""
        watching.save_heard(connection, self._heard, {})
        self._heard.clear()

    def _tick(self) -> None:
        self._record(self.bank.tick(self.now, self._attended_since))
        if self._holding or self.now >= self._desk_tick_at:
            self._tick_desk()

    def _tick_desk(self) -> None:
        self._desk_tick_at = self.now + DESK_TICK_MS
        with self._database.begin() as connection:
            self._save_heard(connection)
        self.desk.tick(self.now)
        if self._closes_after_ms is not None:
            self._close_cleared(self.now - self._closes_after_ms)
        f = schema.fault.c
        with self._database.connect() as connection:
            held = sa.select(f.id).where(f.held_until.is_not(None), f.cleared_at.is_(None)).limit(1)
            self._holding = connection.execute(held).first() is not None

    def _record(self, findings: Sequence[Finding]) -> None:
        self.findings += len(findings)
        if findings:
            with self._database.begin() as connection:
                self._save_heard(connection)
                self.desk.record(connection, findings, self.now)
            self._holding = True

    def _renewed(self, batch: Batch) -> Batch:
        """Machines whose box was replaced begin a new generation, as the registry would have said."""
        if batch.generation.any():
            for device, generation in zip(batch.device.tolist(), batch.generation.tolist(), strict=True):
                device_id = batch.device_ids[device]
                if generation > self._generation.get(device_id, generation):
                    self._generation[device_id] = generation
                    self.bank.place([msgspec.structs.replace(self._devices[device_id], generation=generation)])
        return batch

    def _close_cleared(self, before_at: int) -> None:
        t = schema.ticket.c
        with self._database.connect() as connection:
            cleared = connection.execute(
                sa.select(t.id).where(t.cleared_at <= before_at, sa.text(schema.OPEN_TICKET))
            ).scalars().all()  # fmt: skip
        for ticket_id in cleared:
            self.desk.act(ticket_id, Verb.CLOSE, TECHNICIAN, self.now)
        if cleared:
            self._let_go()

    def _end(self, ticket_id: int, *, repaired: bool) -> None:
        """Walk a ticket to its end: by a repair, or because somebody says that there is nothing to repair."""
        for verb in REPAIR if repaired else (Verb.CANCEL,):
            self.desk.act(
                ticket_id, verb, TECHNICIAN, self.now, technician_id=TECHNICIAN_ID if verb is Verb.ACCEPT else None,
                resolution=REPAIRED if verb is Verb.RESOLVE else None, reason="other" if verb is Verb.CANCEL else "",
            )  # fmt: skip

    def _let_go(self) -> None:
        """The detectors follow what the desk ended and who was repaired, as the watch makes them."""
        with self._database.begin() as connection:
            released, serviced = watching.load_released(connection), watching.load_serviced(connection)
            for told in (schema.released, schema.serviced):
                connection.execute(sa.delete(told))
        for ended in released:
            self.bank.release(ended.device_id, FaultKind(ended.kind), ended.subject)
        for repaired in serviced:
            self.bank.serviced(repaired.device_id)


def rehearse(
    company: Company, heard: Iterable[Heard], begin_at: int, end_at: int,
    *, tick_ms: int = TICK_MS, closes_after_ms: int | None = None,
) -> list[TicketTold]:  # fmt: skip
    """Everything that was heard from `begin_at` to `end_at`, in the order of time, and the tickets it led to."""
    with Rehearsal(company, begin_at, tick_ms=tick_ms, closes_after_ms=closes_after_ms) as rehearsal:
        for one in heard:
            rehearsal.hear(one)
        rehearsal.until(end_at)
        return rehearsal.tickets()


def slices(batch: Batch, window_ms: int) -> Iterator[tuple[int, Batch]]:
    """A batch in parts, none of which reaches over an edge of a window: when each was heard, and its messages.

    A message that stands behind a later one (it was parked) was taken in no sooner than that.
    """
    if not len(batch):
        return
    if np.any(np.diff(batch.row) < 0):
        raise ValueError("the samples of a batch that is cut must stand in the order of their messages")
    heard_at = np.maximum.accumulate(batch.received_at)
    edges = np.flatnonzero(np.diff(heard_at // window_ms)) + 1
    if not len(edges):
        yield int(heard_at[-1]), batch
        return
    samples = np.searchsorted(batch.row, edges)
    starts, ends = [0, *edges.tolist()], [*edges.tolist(), len(batch)]
    firsts, lasts = [0, *samples.tolist()], [*samples.tolist(), len(batch.row)]
    for start, end, first, last in zip(starts, ends, firsts, lasts, strict=True):
        yield int(heard_at[end - 1]), _part(batch, start, end, first, last)


def _part(batch: Batch, start: int, end: int, first: int, last: int) -> Batch:
    """Messages [start, end) of a batch whose samples stand in the order of their messages, at [first, last)."""
    columns = {
        name: getattr(batch, name)[start:end]
        for name in ("device", "generation", "boot", "seq", "at", "received_at", "what", "state", "late", "detail")
    }
    return replace(
        batch, **columns, row=batch.row[first:last] - start, metric=batch.metric[first:last],
        value=batch.value[first:last],
    )  # fmt: skip


def load_tickets(connection: Connection, since_at: int = 0, until_at: int | None = None) -> list[TicketTold]:
    """The tickets opened in [since_at, until_at), each with its faults, in the order in which they were opened."""
    t, f = schema.ticket, schema.fault
    opened = t.c.opened_at >= since_at, t.c.opened_at < until_at if until_at is not None else sa.true()
    faults: dict[int, list[FaultTold]] = {}
    columns = [f.c[name] for name in FaultTold._fields]
    for ticket_id, *told in connection.execute(
        sa.select(f.c.ticket_id, *columns).join(t, t.c.id == f.c.ticket_id).where(*opened).order_by(f.c.id)
    ):
        faults.setdefault(ticket_id, []).append(FaultTold(*told))
    columns = [t.c[name] for name in TicketTold._fields[1:-1]]
    rows = connection.execute(sa.select(t.c.id, *columns).where(*opened).order_by(t.c.opened_at, t.c.id)).all()
    return [TicketTold._make((*row, tuple(faults.get(row[0], ())))) for row in rows]


def _furnish(database: Database, company: Company, begin_at: int) -> None:
    """The tables, and those who take part."""
    places = {place.site_id: place for place in company.sites}
    for device in company.devices:
        if device.site_id is not None:
            places.setdefault(device.site_id, Place(device.site_id))
    sites = [
        {"id": p.site_id, "name": p.name or f"site {p.site_id}", "remote": p.remote, "timezone": p.timezone}
        for p in places.values()
    ]
    devices = [
        {"device_id": d.device_id, "profile": d.profile, "site_id": d.site_id, "generation": d.generation,
         "added_at": begin_at}
        for d in company.devices
    ]  # fmt: skip
    # One customer stands for all: who it is decides nothing.
    hires = [{**hire._asdict(), "customer_id": 1} for hire in company.hires]
    schema.metadata.create_all(database.engine)
    with database.begin() as connection:
        _insert(connection, schema.site, sites)
        _insert(connection, schema.device, devices)
        _insert(connection, schema.customer, [{"id": 1, "name": "customer", "email": "", "lang": "en"}])
        # He is told nothing: the rehearsal acts in his name only.
        _insert(connection, schema.person, [{
            "id": TECHNICIAN_ID, "name": TECHNICIAN, "role": "technician", "email": "", "lang": "en",
            "added_at": begin_at, "disabled_at": begin_at,
        }])  # fmt: skip
        _insert(connection, schema.rental, hires)
        registry.raise_version(connection)


def _insert(connection: Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(sa.insert(table), rows)
