"""The fleet's figures at size: 100,000 machines with two years of history, on a database file, as `fettle up` has.

Each machine: four rentals with their hand-overs and inspections, six faults with their tickets, a service a quarter;
one in twenty has an open ticket. Measured: `fleet/health`, one machine's file, one monthly report, a tick of the desk's
upkeep that looks for everything, and the memory of the process that did all that; another process has made the record.
Beside health stands what reading its sums takes as bare statements.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa

from api.context import Api
from api.fleet import health
from monitor.desk.commitments import service_standard
from monitor.engine import Desk
from monitor.engine.bookkeeping import Bookkeeping
from monitor.engine.desk import Addresses
from monitor.engine.reporting import build
from monitor.engine.upkeep import PACE_MS
from monitor.fleet.availability import window
from monitor.store import file, ledger, schema
from monitor.store.access import Role, Visitor
from monitor.store.database import migrate, open_database
from monitor.store.profiles import load_profiles

DAY_MS = 86_400_000
NOW = 1_795_000_000_000
HOUR_MS = 3_600_000
BEGAN = NOW - 730 * DAY_MS
ZONE = "Asia/Shanghai"
PROFILES = ("diesel_generator", "water_pump", "air_compressor")
SITES, CUSTOMERS, TECHNICIANS = 1_000, 500, 200
SERVED_DAYS, DUE_DAYS = 88, 90
OPEN_EACH = 20
"""One machine in so many has an open ticket."""
HEAVY = "GX-000000"
"""The machine whose file is read: a restless one."""
ROWS_AT_ONCE = 50_000
COUNTED = (
    schema.fleet_interval, schema.rental, schema.inspection, schema.hand_over, schema.ticket, schema.commitment,
    schema.work_order, schema.maintenance_due,
)  # fmt: skip


CHECKLIST = [{"code": f"check_{n}", "title_en": f"Check number {n}", "title_zh": f"检查 {n}"} for n in range(10)]
ITEMS = [
    {"code": f"item_{n}", "what": "check", "title": f"Item number {n}", "title_zh": f"项目 {n}", "verdict": "ok"}
    for n in range(12)
]


class Outage(NamedTuple):
    """A fault: `n` is the machine's number; no `end`: it stands open."""

    n: int
    kind: str
    at: int
    end: int | None


class Fleet:
    """The company's record."""

    def __init__(self, folder: Path, machines: int) -> None:
        self.machines = machines
        self.now = NOW
        self.database = open_database(f"sqlite:///{folder / 'fleet.db'}")
        self.desk = Desk(self.database, service_standard(), load_profiles(), Addresses("http://bench", ZONE))
        self.api = Api(self.database, None, self.desk, self.desk.profiles, lambda: NOW, "http://bench", timezone=ZONE)  # type: ignore[arg-type]

    # --- what is measured ---

    def health(self) -> None:
        found = health(self.api, Visitor(Role.OPS, "bench", "token", ""))
        assert (found.devices.total, found.tickets.open > 0) == (self.machines, True)

    def file(self) -> None:
        with self.database.connect() as connection:
            found = file.read(connection, HEAVY, file.Asked(0, NOW, ()), 100)
        assert len(found.entries) == 100

    def report(self) -> None:
        with self.database.connect() as connection:
            assert build(connection, "2026-10", NOW, self.desk).month == "2026-10"

    def upkeep(self) -> None:
        self.now += PACE_MS
        self.desk.upkeep.tick(self.now)

    def bare_health(self) -> None:
        since_at = window(NOW, ZONE)[0]
        with self.database.connect() as connection:
            for table in (schema.now_sum, schema.running_sum):
                connection.execute(sa.select(table)).all()
            connection.execute(sa.select(schema.day_sum).where(schema.day_sum.c.day_at >= since_at)).all()


class Past:
    """Two years of it, made with one seed."""

    def __init__(self, folder: Path, machines: int) -> None:
        self.machines = machines
        self.rng = np.random.default_rng(7)
        self.database = open_database(f"sqlite:///{folder / 'fleet.db'}")
        migrate(self.database)
        self._registers()
        self._histories()
        books = Bookkeeping(self.database, ZONE)
        with self.database.begin() as connection:
            connection.execute(sa.update(schema.ledger_due).values(due_at=ledger.EVER))
            ledger.clear_sums(connection)
            ledger.add_sums(connection, books.summed_anew(ledger.all_current(connection), NOW))
            connection.exec_driver_sql("ANALYZE")
        self.database.close()

    def _write(self, table: sa.Table, rows: Iterator[dict[str, Any]]) -> None:
        some: list[dict[str, Any]] = []
        for row in rows:
            some.append(row)
            if len(some) == ROWS_AT_ONCE:
                self._insert(table, some)
                some = []
        self._insert(table, some)

    def _insert(self, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
        if rows:
            with self.database.begin() as connection:
                connection.execute(sa.insert(table), list(rows))

    def _registers(self) -> None:
        self._write(schema.site, ({"name": f"Site {n}", "remote": n % 5 == 0, "timezone": ZONE} for n in range(SITES)))
        self._write(schema.customer, ({"name": f"Customer {n}", "lang": "zh"} for n in range(CUSTOMERS)))
        self._write(schema.person, (
            {"name": f"Technician {n}", "role": "technician", "email": f"t{n}@example.com", "added_at": BEGAN}
            for n in range(TECHNICIANS)
        ))  # fmt: skip
        self._write(schema.certificate, (
            {"person_id": n + 1, "profile": profile, "since_at": BEGAN} for n in range(TECHNICIANS)
            for profile in PROFILES
        ))  # fmt: skip
        self._write(schema.device, (
            {"device_id": name(n), "profile": PROFILES[n % 3], "site_id": n % SITES + 1, "added_at": BEGAN,
             "first_heard_at": BEGAN, "connection": "online"} for n in range(self.machines)
        ))  # fmt: skip
        self._write(schema.stay, (
            {"device_id": name(n), "site_id": n % SITES + 1, "from_at": BEGAN, "recorded_at": BEGAN, "actor": "bench"}
            for n in range(self.machines)
        ))  # fmt: skip

    def _histories(self) -> None:
        """Every machine is rented out four times, and bad or silent in between: some sixteen intervals."""
        faults = list(self._outages())
        numbers = {place: number for number, place in enumerate(
            (place for place, one in enumerate(faults) if one.kind == "limit"), 1)}  # fmt: skip
        jobs = [faults[place] for place in numbers]
        self._write(schema.rental, self._rentals())
        self._write(schema.inspection, self._inspections())
        self._write(schema.hand_over, (
            {"rental_id": one["id"], "inspection_id": one["id"] * 2, "command_id": f"c{one['id']}",
             "at": one["starts_at"], "actor": "bench", "gate": {"version": "bench", "obstacles": []}}
            for one in self._rentals()
        ))  # fmt: skip
        self._write(schema.ticket, map(self._ticket, jobs))
        self._write(schema.fault, (
            {"device_id": name(one.n), "kind": one.kind, "subject": "", "confidence": 1.0, "occurred_at": one.at,
             "severity": "urgent" if one.kind == "limit" else "routine", "opened_at": one.at, "cleared_at": one.end,
             "evidence": {"rule": "bench/1"}, "ticket_id": numbers.get(place)}
            for place, one in enumerate(faults)
        ))  # fmt: skip
        self._write(schema.commitment, (self._clock(number, one) for number, one in enumerate(jobs, 1)))
        self._write(schema.step, (
            {"ticket_id": number, "event": event, "from_status": "open", "to_status": "accepted", "actor": "bench",
             "technician_id": number % TECHNICIANS + 1, "happened_at": one.at + 600_000,
             "recorded_at": one.at + 600_000}
            for number, one in enumerate(jobs, 1)
            for event in (("accept",) if one.end is None else ("accept", "resolve"))
        ))  # fmt: skip
        self._write(schema.fleet_interval, self._intervals(faults))
        self._write(schema.work_order, self._orders())
        self._write(schema.maintenance_due, self._due())

    def _ticket(self, one: "Outage") -> dict[str, Any]:
        over = one.end is not None
        return {"device_id": name(one.n), "site_id": one.n % SITES + 1, "rental_id": one.n * 4 + 1, "kind": "limit",
                "subject": "", "severity": "urgent", "status": "closed" if over else "accepted", "opened_at": one.at,
                "occurred_at": one.at, "resolved_at": one.end, "closed_at": one.end, "evidence": {},
                "standard_version": "bench", "resolution_cause": "wear" if over else None,
                "outcome": "real" if over else None}  # fmt: skip

    def _clock(self, number: int, one: "Outage") -> dict[str, Any]:
        return {"ticket_id": number, "standard_id": "R7", "kind": "dispatch", "started_at": one.at,
                "due_at": one.at + HOUR_MS, "warn_before_s": 900.0, "met_at": one.at + (1 + number % 20) * 200_000,
                "stop": "technician_arranged", "length_s": 3600.0, "calendar": "always", "timezone": ZONE,
                "warns": []}  # fmt: skip

    def _inspections(self) -> Iterator[dict[str, Any]]:
        """One before each rental and one after it; that of the rental with the id n has the id 2n, or 2n + 1."""
        for one in self._rentals():
            kinds = {"hand_over": one["starts_at"] - HOUR_MS, "return": one["ends_at"]}
            for number, (kind, at) in enumerate(kinds.items()):
                if at is not None:
                    yield {"id": one["id"] * 2 + number, "kind": kind, "device_id": one["device_id"],
                           "rental_id": one["id"], "checklist_version": "bench", "items": ITEMS, "passed": True,
                           "inspector_id": one["id"] % TECHNICIANS + 1, "signature": "T", "signed_at": at, "at": at,
                           "recorded_at": at}  # fmt: skip

    def _served(self, n: int) -> list[int]:
        """When a machine was served; one in fifty has been left out of late."""
        times = [BEGAN + (n % SERVED_DAYS + k * SERVED_DAYS) * DAY_MS for k in range(1, 9)]
        times = [at for at in times if at < NOW]
        return times[:-1] if n % 50 == 0 else times

    def _orders(self) -> Iterator[dict[str, Any]]:
        """A service each time, and the open order of what is due within two weeks."""
        for n in range(self.machines):
            times = self._served(n)
            for at in times:
                yield self._order(n, at) | {
                    "status": "done", "done_at": at, "from_at": at, "done_by": "bench", "recorded_at": at,
                    "results": [{"code": one["code"], "result": "ok", "note": ""} for one in CHECKLIST],
                    "cycle_at": at - 1,
                }  # fmt: skip
            if times[-1] + (DUE_DAYS - 14) * DAY_MS <= NOW:
                yield self._order(n, times[-1] + DUE_DAYS * DAY_MS) | {
                    "status": "open", "done_at": None, "from_at": None, "done_by": "", "recorded_at": NOW,
                    "results": [], "cycle_at": times[-1],
                }  # fmt: skip

    def _order(self, n: int, due_at: int) -> dict[str, Any]:
        return {"kind": "maintenance", "device_id": name(n), "plan": "service", "title_en": "Regular service",
                "title_zh": "定期保养", "reason": "calendar", "due_at": due_at, "opened_at": min(due_at, NOW),
                "opened_by": "upkeep", "checklist": CHECKLIST}  # fmt: skip

    def _due(self) -> Iterator[dict[str, Any]]:
        for n in range(self.machines):
            done_at = self._served(n)[-1]
            due_at = done_at + DUE_DAYS * DAY_MS
            yield {"device_id": name(n), "plan": "service", "title_en": "Regular service", "title_zh": "定期保养",
                   "cycle_at": done_at, "done_at": done_at, "soon_at": due_at - 14 * DAY_MS, "due_at": due_at,
                   "certain_at": due_at, "overdue_at": due_at + 2 * DAY_MS, "trigger": "calendar", "sure": "known",
                   "look_at": NOW + DAY_MS, "computed_at": NOW}  # fmt: skip

    def _outages(self) -> Iterator["Outage"]:
        for n in range(self.machines):
            number = 150 if name(n) == HEAVY else 6
            starts = np.sort(self.rng.integers(0, 728, number)) * DAY_MS + BEGAN + HOUR_MS
            for place, at in enumerate(np.unique(starts)):
                end = int(at) + int(self.rng.integers(1, 20)) * HOUR_MS
                yield Outage(n, "silent" if place % 3 == 2 else "limit", int(at), end)
            if n % OPEN_EACH == 1:
                yield Outage(n, "limit", NOW - int(self.rng.integers(1, 20)) * HOUR_MS, None)

    def _rentals(self) -> Iterator[dict[str, Any]]:
        for n in range(self.machines):
            for place in range(4):
                starts_at = BEGAN + (n % 90 + place * 180) * DAY_MS
                ends_at = None if place == 3 and n % 3 else min(starts_at + 150 * DAY_MS, NOW - DAY_MS)
                yield {"id": n * 4 + place + 1, "device_id": name(n), "customer_id": (n + place) % CUSTOMERS + 1,
                       "starts_at": starts_at, "ends_at": ends_at, "handed_over_at": starts_at,
                       "returned_at": ends_at}  # fmt: skip

    def _intervals(self, faults: Sequence["Outage"]) -> Iterator[dict[str, Any]]:
        """As the ledger would have them: good, but for each outage; the rental is that of the last 180 days."""
        since: dict[int, int | None] = dict.fromkeys(range(self.machines), BEGAN)
        for one in faults:
            good_at = since[one.n]
            assert good_at is not None
            yield self._interval(one.n, good_at, one.at, "good")
            yield self._interval(one.n, one.at, one.end, "unknown" if one.kind == "silent" else "bad")
            since[one.n] = one.end
        for n, at in since.items():
            if at is not None:
                yield self._interval(n, at, None, "good")

    def _interval(self, n: int, from_at: int, to_at: int | None, condition: str) -> dict[str, Any]:
        place = max(0, min(3, ((from_at - BEGAN) // DAY_MS - n % 90) // 180))
        return {"device_id": name(n), "from_at": from_at, "to_at": to_at, "condition": condition,
                "place": "on_hire" if n % 3 else "yard", "profile": PROFILES[n % 3], "site_id": n % SITES + 1,
                "rental_id": n * 4 + place + 1 if n % 3 else None, "customer_id": (n + place) % CUSTOMERS + 1,
                "recorded_at": from_at, "end_recorded_at": to_at}  # fmt: skip


def name(n: int) -> str:
    return f"GX-{n:06d}"


def middle(run: Callable[[], object], rounds: int) -> float:
    """The middle time of so many rounds, in ms."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        took.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(took), 2)


def made(folder: Path, machines: int) -> None:
    """Make the record in a process of its own, so that the memory of this one is that of a service."""
    making = multiprocessing.get_context("spawn").Process(target=Past, args=(folder, machines))
    making.start()
    making.join()
    assert making.exitcode == 0


def measured(machines: int, rounds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        made(Path(folder), machines)
        fleet = Fleet(Path(folder), machines)
        fleet.health()
        found = {
            "health_ms": middle(fleet.health, rounds),
            "bare_health_ms": middle(fleet.bare_health, rounds),
            "file_ms": middle(fleet.file, rounds),
            "report_s": round(middle(fleet.report, 1) / 1000, 2),
            "upkeep_ms": middle(fleet.upkeep, 5),
        }
        found["rss_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        with fleet.database.connect() as connection:
            for table in COUNTED:
                found[table.name] = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    return found | {"machines": machines}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--machines", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    asked = parser.parse_args(arguments)
    found = measured(asked.machines, asked.rounds)
    if asked.json:
        print(json.dumps(found))
        return
    for figure, number in found.items():
        print(f"{figure:16} {number:>12,}")


if __name__ == "__main__":
    main()
