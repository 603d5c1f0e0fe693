"""The fleet's figures at size: 100,000 machines with two years of intervals, on a database file, as `fettle up` has.

Measured: `fleet/health`, one machine's file, one monthly report, and the memory of the process that did all that.
Beside health stands what reading its sums takes as bare statements.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from api.context import Api
from api.fleet import health
from monitor.desk.commitments import service_standard
from monitor.engine import Desk
from monitor.engine.desk import Addresses
from monitor.engine.reporting import build
from monitor.fleet.availability import window
from monitor.store import file, ledger, schema
from monitor.store.access import Role, Visitor
from monitor.store.database import migrate, open_database
from monitor.store.profiles import load_profiles

DAY_MS = 86_400_000
NOW = 1_795_000_000_000
BEGAN = NOW - 730 * DAY_MS
ZONE = "Asia/Shanghai"
PROFILES = ("diesel_generator", "water_pump", "air_compressor")
SITES, CUSTOMERS = 1_000, 500
HEAVY = "GX-000000"
"""The machine whose file is read: a restless one."""
ROWS_AT_ONCE = 50_000


class Fleet:
    """The company's record, made with one seed."""

    def __init__(self, folder: Path, machines: int) -> None:
        self.machines = machines
        self.rng = np.random.default_rng(7)
        self.database = open_database(f"sqlite:///{folder / 'fleet.db'}")
        migrate(self.database)
        self.desk = Desk(self.database, service_standard(), load_profiles(), Addresses("http://bench", ZONE))
        self.api = Api(self.database, None, self.desk, self.desk.profiles, lambda: NOW, "http://bench", timezone=ZONE)  # type: ignore[arg-type]
        self._registers()
        self._histories()
        with self.database.begin() as connection:
            connection.execute(sa.update(schema.ledger_due).values(due_at=ledger.EVER))
            ledger.clear_sums(connection)
            ledger.add_sums(connection, self.desk.books.summed_anew(ledger.all_current(connection), NOW))
            connection.exec_driver_sql("ANALYZE")

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
        self._write(schema.device, (
            {"device_id": name(n), "profile": PROFILES[n % 3], "site_id": n % SITES + 1, "added_at": BEGAN,
             "first_heard_at": BEGAN, "connection": "online"} for n in range(self.machines)
        ))  # fmt: skip

    def _histories(self) -> None:
        """Every machine is rented out four times, and bad or silent in between: some sixteen intervals."""
        faults = list(self._outages())
        self._write(schema.rental, self._rentals())
        self._write(schema.fault, (
            {"device_id": name(n), "kind": kind, "subject": "", "severity": severity, "confidence": 1.0,
             "occurred_at": at, "opened_at": at, "cleared_at": end, "evidence": {"rule": "bench/1"}}
            for n, kind, severity, at, end in faults
        ))  # fmt: skip
        bad = [one for one in faults if one[2] == "urgent"]
        self._write(schema.ticket, (
            {"device_id": name(n), "site_id": n % SITES + 1, "rental_id": n * 4 + 1, "kind": "limit", "subject": "",
             "severity": "urgent", "status": "closed", "opened_at": at, "occurred_at": at, "resolved_at": end,
             "closed_at": end, "evidence": {}, "standard_version": "bench", "resolution_cause": "wear"}
            for n, _, _, at, end in bad
        ))  # fmt: skip
        self._write(schema.commitment, (
            {"ticket_id": place + 1, "standard_id": "R7", "kind": "dispatch", "started_at": at,
             "due_at": at + 3_600_000, "warn_before_s": 900.0, "met_at": at + (1 + place % 20) * 200_000,
             "stop": "technician_arranged", "length_s": 3600.0, "calendar": "always", "timezone": ZONE, "warns": []}
            for place, (_, _, _, at, _) in enumerate(bad)
        ))  # fmt: skip
        self._write(schema.step, (
            {"ticket_id": place + 1, "event": event, "from_status": "open", "to_status": "accepted", "actor": "bench",
             "happened_at": at + 600_000, "recorded_at": at + 600_000}
            for place, (_, _, _, at, _) in enumerate(bad) for event in ("accept", "resolve")
        ))  # fmt: skip
        self._write(schema.fleet_interval, self._intervals(faults))

    def _outages(self) -> Iterator[tuple[int, str, str, int, int]]:
        for n in range(self.machines):
            number = 150 if name(n) == HEAVY else 6
            starts = np.sort(self.rng.integers(0, 729, number)) * DAY_MS + BEGAN + 3_600_000
            for place, at in enumerate(np.unique(starts)):
                silent = place % 3 == 2
                end = int(at) + int(self.rng.integers(1, 20)) * 3_600_000
                yield n, "silent" if silent else "limit", "routine" if silent else "urgent", int(at), end

    def _rentals(self) -> Iterator[dict[str, Any]]:
        for n in range(self.machines):
            for place in range(4):
                starts_at = BEGAN + (n % 90 + place * 180) * DAY_MS
                ends_at = None if place == 3 and n % 3 else min(starts_at + 150 * DAY_MS, NOW - DAY_MS)
                yield {"device_id": name(n), "customer_id": (n + place) % CUSTOMERS + 1, "starts_at": starts_at,
                       "ends_at": ends_at}  # fmt: skip

    def _intervals(self, faults: Sequence[tuple[int, str, str, int, int]]) -> Iterator[dict[str, Any]]:
        """As the ledger would have them: good, but for each outage; the rental is that of the last 180 days."""
        at_of = dict.fromkeys(range(self.machines), BEGAN)
        for n, kind, _, at, end in faults:
            yield self._interval(n, at_of[n], at, "good")
            yield self._interval(n, at, end, "unknown" if kind == "silent" else "bad")
            at_of[n] = end
        for n, at in at_of.items():
            yield self._interval(n, at, None, "good")

    def _interval(self, n: int, from_at: int, to_at: int | None, condition: str) -> dict[str, Any]:
        place = max(0, min(3, ((from_at - BEGAN) // DAY_MS - n % 90) // 180))
        return {"device_id": name(n), "from_at": from_at, "to_at": to_at, "condition": condition,
                "place": "on_hire" if n % 3 else "yard", "profile": PROFILES[n % 3], "site_id": n % SITES + 1,
                "rental_id": n * 4 + place + 1 if n % 3 else None, "customer_id": (n + place) % CUSTOMERS + 1,
                "recorded_at": from_at, "end_recorded_at": to_at}  # fmt: skip

    # --- what is measured ---

    def health(self) -> None:
        assert health(self.api, Visitor(Role.OPS, "bench", "token", "")).devices.total == self.machines

    def file(self) -> None:
        with self.database.connect() as connection:
            found = file.read(connection, HEAVY, file.Asked(0, NOW, ()), 100)
        assert len(found.entries) == 100

    def report(self) -> None:
        with self.database.connect() as connection:
            assert build(connection, "2026-10", NOW, self.desk).month == "2026-10"

    def bare_health(self) -> None:
        since_at = window(NOW, ZONE)[0]
        with self.database.connect() as connection:
            for table in (schema.now_sum, schema.running_sum):
                connection.execute(sa.select(table)).all()
            connection.execute(sa.select(schema.day_sum).where(schema.day_sum.c.day_at >= since_at)).all()


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


def measured(machines: int, rounds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder), machines)
        fleet.health()
        found = {
            "health_ms": middle(fleet.health, rounds),
            "bare_health_ms": middle(fleet.bare_health, rounds),
            "file_ms": middle(fleet.file, rounds),
            "report_s": round(middle(fleet.report, 1) / 1000, 2),
        }
        found["rss_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        with fleet.database.connect() as connection:
            found["intervals"] = connection.execute(
                sa.select(sa.func.count()).select_from(schema.fleet_interval)
            ).scalar_one()
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
