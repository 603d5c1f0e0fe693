"""A desk by itself, in virtual time and on a database in memory: findings go in, faults and tickets come out."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from monitor.desk.commitments import service_standard
from monitor.desk.tickets import Resolution, Status, Verb
from monitor.detect import Evidence, Finding
from monitor.devices import FaultKind, Severity
from monitor.engine import Desk
from monitor.engine.desk import Addresses
from monitor.store import schema
from monitor.store.database import open_database
from monitor.store.profiles import load_profiles
from monitor.store.registry import Registry

T0 = 1_760_000_000_000
"""When the tests begin: a Thursday in October 2025."""


profiles = cache(load_profiles)


class Office:
    """Generating sets at sites (`sites`: name and number of machines; without a name each stands alone), on hire.

    `remote`: the sites that are far out."""

    def __init__(
        self, sites: Sequence[tuple[str, int]] = (("", 1),), *, on_hire: bool = True, url: str = "sqlite://",
        remote: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.now = T0
        self.database = open_database(url)
        schema.metadata.create_all(self.database.engine)
        self.registry = Registry(self.database)
        self.machines: list[str] = []
        for site, count in sites:
            if site:
                self.registry.add_site(site, remote=site in remote, timezone="Asia/Shanghai", now=T0)
            for _ in range(count):
                self._add(f"GX-{len(self.machines) + 1}", site or None, on_hire=on_hire)
        self.registry.add_person("Tian", "technician", "tian@example.com", phone="", lang="en", customer=None, now=T0)
        self.open()

    def _add(self, device_id: str, site: str | None, *, on_hire: bool) -> None:
        self.machines.append(device_id)
        self.registry.add_device(device_id, "diesel_generator", site, T0)
        if on_hire:
            self.registry.add_rental(device_id, "Metro JV", "site@metro.example", lang="en", now=T0)
        with self.database.begin() as connection:
            connection.execute(
                sa.update(schema.device).where(schema.device.c.device_id == device_id).values(first_heard_at=T0)
            )

    def open(self) -> None:
        """A desk as a fresh process has it: all it knows stands in the database."""
        addresses = Addresses("http://fettle.example", "Asia/Shanghai")
        self.desk = Desk(self.database, service_standard(), profiles(), addresses)

    def close(self) -> None:
        self.database.close()

    # --- what happens ---

    def finds(self, kind: str, subject: str = "", **how: Any) -> None:
        """A detector finds that a condition began, now. `device`, `confidence`, `severity`, `state`, and evidence."""
        self.record(finding(kind, subject, at=self.now, **how))

    def clears(self, kind: str, subject: str = "", device: str = "GX-1") -> None:
        self.record(Finding(device, FaultKind(kind), subject, False, self.now, "test/1"))

    def record(self, *findings: Finding) -> None:
        with self.database.begin() as connection:
            self.desk.record(connection, findings, self.now)

    def forward(self, seconds: float, every_s: float = 1) -> None:
        """Let time pass, with the ticks of the desk."""
        end = self.now + round(seconds * 1000)
        while self.now < end:
            self.now = min(end, self.now + round(every_s * 1000))
            self.desk.tick(self.now)

    def act(self, ticket_id: int, *verbs: str) -> None:
        for verb in verbs:
            self.desk.act(
                ticket_id, Verb(verb), "test", self.now, technician_id=1 if verb in ("dispatch", "accept") else None,
                reason="other" if verb == "cancel" else "",
                resolution=Resolution("other", "repaired", "wear") if verb == "resolve" else None,
            )  # fmt: skip

    # --- what stands in the record ---

    def rows(self, table: sa.Table, **where: object) -> list[Any]:
        clauses = [table.c[name] == value for name, value in where.items()]
        with self.database.connect() as connection:
            return list(connection.execute(sa.select(table).where(*clauses).order_by(table.c.id)))

    def tickets(self) -> list[Any]:
        """The tickets that are open."""
        return [row for row in self.rows(schema.ticket) if Status(row.status).is_open]

    def told(self) -> list[tuple[str, str]]:
        """(kind, first word of the subject) of every notice that goes out, in the order of writing."""
        rows = self.rows(schema.notice)
        return [(row.kind, row.subject.split()[0]) for row in rows if row.status == "queued"]

    def jobs(self) -> set[tuple[str, str, str, frozenset[str]]]:
        """The open tickets: kind, subject, severity, and the faults that stand open on each."""
        faults = self.rows(schema.fault, cleared_at=None)
        return {
            (t.kind, t.subject, t.severity, frozenset(_short(f) for f in faults if f.ticket_id == t.id))
            for t in self.tickets()
        }

    def held(self) -> set[str]:
        """The open faults without a ticket."""
        return {_short(row) for row in self.rows(schema.fault, cleared_at=None, ticket_id=None)}

    def check(self) -> None:
        """What must hold at any time (invariants of faults and tickets)."""
        tickets = {row.id: row for row in self.rows(schema.ticket)}
        for fault in self.rows(schema.fault, cleared_at=None):
            if fault.ticket_id is None:
                assert fault.severity == "note", "what is held must not make its machine bad"
                continue
            ticket = tickets[fault.ticket_id]
            assert ticket.status not in ("closed", "cancelled"), "an open fault on a ticket that has ended"
            assert ticket.cleared_at is None, "an open fault on a ticket that is called cleared"
            assert _GRAVITY.index(fault.severity) >= _GRAVITY.index(ticket.severity), "graver than its ticket"
        for ticket in tickets.values():
            if ticket.merged_into is not None:
                assert ticket.status == "cancelled"
                assert not self.rows(schema.fault, ticket_id=ticket.id)


_GRAVITY = ("emergency", "urgent", "routine", "note")


def _short(row: Any) -> str:
    return f"{row.kind} {row.subject}".strip()


def finding(
    kind: str, subject: str = "", *, at: int = T0, device: str = "GX-1", confidence: float = 1.0,
    severity: str | None = None, state: str = "", **evidence: Any,
) -> Finding:  # fmt: skip
    facts = Evidence(**evidence)
    graver = Severity(severity) if severity else None
    return Finding(device, FaultKind(kind), subject, True, at, "test/1", graver, facts, confidence, state)
