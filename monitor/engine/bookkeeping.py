"""Bookkeeping: the fleet's ledger follows the record.

Triggers of the database mark the machines whose faults, rentals, windows, stays or silence have changed, in the
transaction of the change (monitor/store/triggers.py), so that nothing can forget to. A tick works their courses out
anew and writes what differs, with the sums kept beside, in one transaction.
"""

from collections.abc import Iterable

from monitor.fleet.availability import Sums, kept_since
from monitor.fleet.ledger import Interval, amend, course, next_turn
from monitor.store import ledger
from monitor.store.database import Database

MACHINES_A_ROUND = 100
ROUNDS_A_TICK = 5


class Bookkeeping:
    """Keeps the ledger. `timezone`: the company's, whose days are summed."""

    def __init__(self, database: Database, timezone: str) -> None:
        self.database = database
        self.timezone = timezone

    def tick(self, now: int) -> None:
        """Work out whose course has changed, so many machines at a time that nobody waits for it."""
        for _ in range(ROUNDS_A_TICK):
            if not self._round(now):
                return

    def keep(self, now: int) -> None:
        """Work out everything that is due."""
        while self._round(now):
            pass

    def rebuild(self, now: int) -> None:
        """Sum anew (the company's days have changed, say), and look at every machine."""
        with self.database.begin() as connection:
            ledger.clear_sums(connection)
            ledger.add_sums(connection, self.summed_anew(ledger.all_current(connection), now))
            ledger.mark_all(connection)
        self.keep(now)

    def summed_anew(self, intervals: Iterable[Interval], now: int) -> Sums:
        sums = Sums.none(kept_since(now, self.timezone))
        for one in intervals:
            sums.add(one, self.timezone)
        return sums

    def _round(self, now: int) -> bool:
        """Some machines that are due; False where none is left."""
        with self.database.begin() as connection:
            due = ledger.due(connection, now, MACHINES_A_ROUND)
            if not due:
                return False
            ids = [one.device_id for one in due]
            facts, kept = ledger.load_facts(connection, ids), ledger.load_intervals(connection, ids)
            sums, amendments = Sums.none(kept_since(now, self.timezone)), {}
            for device_id, known in facts.items():
                found = amend(kept[device_id], course(known, now))
                amendments[device_id] = found
                for was in found.superseded:
                    sums.add(was.interval, self.timezone, -1)
                for was, to_at in found.ended:
                    sums.add(was.interval, self.timezone, -1)
                    sums.add(was.interval._replace(to_at=to_at), self.timezone)
                for one in found.added:
                    sums.add(one, self.timezone)
            ledger.save(connection, amendments, now)
            ledger.add_sums(connection, sums)
            ledger.done(connection, due, {one: next_turn(facts[one], now) if one in facts else None for one in ids})
        return len(due) == MACHINES_A_ROUND
