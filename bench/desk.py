"""The desk under load: 10,000 open tickets with 30,000 running clocks, on a database file, as `fettle up` has it.

Measured: a tick of the desk, opening one more ticket with its clocks and notices, and the list of the 50 most urgent.
Beside each stands what the same database takes for the least that it could be: the bare statement behind it.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from api.tickets import with_clocks
from monitor.desk.commitments import service_standard
from monitor.detect import Evidence, Finding
from monitor.devices import FaultKind
from monitor.engine import Desk
from monitor.engine.desk import Addresses
from monitor.store import queries, schema
from monitor.store.database import migrate, open_database
from monitor.store.profiles import load_profiles
from monitor.store.registry import Registry

HOUR_MS = 3_600_000
BEGIN_AT = 1_795_000_000_000
SITES = 200
PEOPLE = (("Tian", "technician"), ("Wu", "technician"), ("Mei", "ops"), ("Lin", "manager"))
CUSTOMERS = 100
TICKETS_A_TRANSACTION = 200
SPREAD_MS = 40 * 60_000
"""The tickets were opened over so long, so that warnings and breaches come all the time while it is measured."""


class Figure(NamedTuple):
    """What one thing takes, in ms: in the middle, and what 19 in 20 stay below; and the bare statement's middle."""

    median_ms: float
    p95_ms: float
    bare_ms: float


class Office:
    """The company, with as many tickets open as asked for, each of an emergency at a remote site: three clocks."""

    def __init__(self, folder: Path, tickets: int) -> None:
        self.database = open_database(f"sqlite:///{folder / 'desk.db'}")
        migrate(self.database)
        self.now = BEGIN_AT
        self.tickets = tickets
        self._people()
        self._machines(tickets + 2_000)
        self.desk = Desk(self.database, service_standard(), load_profiles(), Addresses("http://bench", "Asia/Shanghai"))
        self._open(tickets)

    def _people(self) -> None:
        registry = Registry(self.database)
        for name, role in PEOPLE:
            address = f"{name.lower()}@example.com"
            registry.add_person(name, role, address, phone="", lang="en", customer=None, now=BEGIN_AT)
        for number in range(SITES):
            registry.add_site(f"Site {number}", remote=True, timezone="Asia/Shanghai", now=BEGIN_AT)

    def _machines(self, count: int) -> None:
        with self.database.begin() as connection:
            connection.execute(sa.insert(schema.customer), [
                {"name": f"Customer {n}", "email": f"c{n}@example.com", "lang": "zh"} for n in range(CUSTOMERS)
            ])  # fmt: skip
            connection.execute(sa.insert(schema.device), [
                {"device_id": f"GX-{n:05d}", "profile": "diesel_generator", "site_id": n % SITES + 1, "generation": 0,
                 "added_at": 0, "first_heard_at": BEGIN_AT, "connection": "online"} for n in range(count)
            ])  # fmt: skip
            connection.execute(sa.insert(schema.rental), [
                {"device_id": f"GX-{n:05d}", "customer_id": n % CUSTOMERS + 1, "starts_at": 0} for n in range(count)
            ])  # fmt: skip

    def _open(self, count: int) -> None:
        for first in range(0, count, TICKETS_A_TRANSACTION):
            with self.database.begin() as connection:
                for number in range(first, min(first + TICKETS_A_TRANSACTION, count)):
                    at = BEGIN_AT + SPREAD_MS * number // count
                    self.desk.record(connection, [_failed(number, at)], at)
        self.now = BEGIN_AT + SPREAD_MS
        with self.database.begin() as connection:
            connection.execute(sa.update(schema.notice).values(status="sent", sent_at=self.now))

    # --- what is measured ---

    def tick(self) -> None:
        self.now += 1_000
        self.desk.tick(self.now)

    def open_one(self) -> None:
        number, self.tickets = self.tickets, self.tickets + 1
        with self.database.begin() as connection:
            self.desk.record(connection, [_failed(number, self.now)], self.now)

    def most_urgent(self) -> None:
        with self.database.connect() as connection:
            found = queries.pressing_tickets(connection, queries.Scope(self.now), limit=50)
            assert len(with_clocks(connection, found)) == 50

    def running(self) -> int:
        with self.database.connect() as connection:
            return connection.execute(
                sa.select(sa.func.count()).select_from(schema.commitment).where(sa.text(schema.RUNNING))
            ).scalar_one()

    # --- the least that it could be ---

    def bare_tick(self) -> None:
        c = schema.commitment.c
        due = sa.select(c.id).where(sa.text(schema.RUNNING), c.due_at <= BEGIN_AT).order_by(c.due_at).limit(1000)
        with self.database.connect() as connection:
            connection.execute(due).all()

    def bare_open(self) -> None:
        with self.database.begin() as connection:
            connection.execute(sa.insert(schema.change).values(at=self.now, what="ticket"))

    def bare_urgent(self) -> None:
        first = sa.select(schema.commitment).where(sa.text(schema.RUNNING))
        with self.database.connect() as connection:
            connection.execute(first.order_by(schema.commitment.c.due_at).limit(50)).all()


def _failed(number: int, at: int) -> Finding:
    evidence = Evidence(reason="timeout", requested_at=at - 30_000, battery_last=12.1, fuel_last=55.0)  # type: ignore[typeddict-item]
    return Finding(f"GX-{number:05d}", FaultKind.STARTUP_FAILURE, "", opened=True, occurred_at=at - 30_000,
                   rule="startup/2", evidence=evidence)  # fmt: skip


def timed(run: Callable[[], object], bare: Callable[[], object], rounds: int) -> Figure:
    """Take turns, so that what the machine does beside it strikes both."""
    took: list[float] = []
    least: list[float] = []
    for _ in range(rounds):
        for what, times in ((bare, least), (run, took)):
            began = time.perf_counter()
            what()
            times.append((time.perf_counter() - began) * 1000)
    return Figure(
        round(statistics.median(took), 2), round(statistics.quantiles(took, n=20)[-1], 2),
        round(statistics.median(least), 3),
    )  # fmt: skip


def measure(database_of: Path, tickets: int, rounds: int) -> tuple[dict[str, Figure], int]:
    office = Office(database_of, tickets)
    try:
        figures = {
            "tick_ms": timed(office.tick, office.bare_tick, rounds),
            "open_ms": timed(office.open_one, office.bare_open, rounds),
            "urgent50_ms": timed(office.most_urgent, office.bare_urgent, rounds),
        }
        return figures, office.running()
    finally:
        office.database.close()


LEVELS = {"tick_ms": 50, "open_ms": 5, "urgent50_ms": 20}
NAMES = {"tick_ms": "a tick of the desk", "open_ms": "opening a ticket", "urgent50_ms": "the 50 most urgent"}


def table_of(figures: dict[str, Figure]) -> str:
    lines = [f"{'':<24}{'median':>10}{'95 %':>10}{'level':>10}{'bare statement':>17}"]
    lines += [
        f"{NAMES[name]:<24}{one.median_ms:>7.2f} ms{one.p95_ms:>7.2f} ms{LEVELS[name]:>7} ms{one.bare_ms:>14.3f} ms"
        for name, one in figures.items()
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.desk", description="The desk with many tickets open.")
    parser.add_argument("--tickets", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of the table")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures, running = measure(Path(folder), options.tickets, options.rounds)
    if options.json:
        told: dict[str, Any] = {name: one.median_ms for name, one in figures.items()}
        p95 = {name.replace("_ms", "_p95_ms"): one.p95_ms for name, one in figures.items()}
        print(json.dumps({**told, **p95, "tickets": options.tickets, "running_clocks": running}))
    else:
        print(f"{options.tickets:,} open tickets, {running:,} clocks run; warnings and breaches come meanwhile\n")
        print(table_of(figures))


if __name__ == "__main__":
    main()
