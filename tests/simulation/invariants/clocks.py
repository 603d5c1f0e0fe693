"""Invariant 3: every commitment has at most one stop, one breach, or one void; a breach carries the time `due_at`;
never early; amendments are kept beside what they amend."""

import sqlite3
from typing import TYPE_CHECKING

from tests.simulation.invariants import Checker, require

if TYPE_CHECKING:
    from tests.simulation.world import World

GRACE_MS = 90 * 60_000
"""A clock whose due time no tick has come to yet: the service may be away, or its commits be refused."""


class Clocks(Checker):
    """Looks at clocks that can still change, and at those that were changed since (their tickets stand in the log)."""

    number = 3

    def __init__(self) -> None:
        self._change_id = 0
        self._broken: dict[tuple[int, str, int], set[int]] = {}
        self._started: dict[tuple[int, str, int], int] = {}

    def after_step(self, world: "World") -> None:
        touched = world.ask("SELECT id, ticket_id FROM change WHERE id > ?", self._change_id)
        self._change_id = max((row["id"] for row in touched), default=self._change_id)
        tickets = sorted({row["ticket_id"] for row in touched if row["ticket_id"] is not None})
        marks = ", ".join("?" * len(tickets))
        still_open = "met_at IS NULL AND voided_at IS NULL AND breached_at IS NULL"
        sql = f"SELECT * FROM commitment WHERE ({still_open}) OR ticket_id IN ({marks})"  # noqa: S608 (words of our own)
        rows = world.ask(sql, *tickets)
        for row in rows:
            self._look(world, row)
        for ticket_id in tickets:
            self._amendments(world, ticket_id)

    def _look(self, world: "World", row: sqlite3.Row) -> None:
        key = row["ticket_id"], row["kind"], row["turn"]
        named = f"{row['kind']} of ticket {row['ticket_id']} (turn {row['turn']})"
        require(row["met_at"] is None or row["voided_at"] is None, f"{named} is both kept and void")
        require(row["breached_at"] in (None, row["due_at"]), f"{named} was broken at another time than it was due")
        require(row["breached_at"] is None or row["breached_at"] <= world.latest, f"{named} is broken early")
        require(row["breached_at"] is None or row["voided_at"] is None, f"{named} is both broken and void")
        late = row["met_at"] is not None and row["met_at"] > row["due_at"]
        require(not late or row["breached_at"] is not None, f"{named} was kept late, and is not called broken")
        if row["breached_at"] is not None:
            self._broken.setdefault(key, set()).add(row["breached_at"])
        begun = self._started.setdefault(key, row["started_at"])
        require(row["started_at"] <= begun, f"{named} begins later than it did")
        self._started[key] = row["started_at"]
        running = row["met_at"] is None and row["voided_at"] is None and row["paused_since"] is None
        overdue = running and row["breached_at"] is None and row["due_at"] + GRACE_MS * world.pace < world.clock()
        require(not overdue or self._was_away(world), f"{named} is long due, and nobody noted it")
        ended = running and row["breached_at"] is None and self._ended(world, row["ticket_id"])
        require(not ended, f"{named} runs on though its ticket has ended")

    def _was_away(self, world: "World") -> bool:
        return world.service is None or world.skew_ms != 0 or world.now - world.restart_at < GRACE_MS * world.pace

    def _ended(self, world: "World", ticket_id: int) -> bool:
        return world.ask("SELECT status FROM ticket WHERE id = ?", ticket_id)[0][0] in ("closed", "cancelled")

    def _amendments(self, world: "World", ticket_id: int) -> None:
        for (of, kind, turn), moments in self._broken.items():
            if of != ticket_id:
                continue
            found = world.ask("SELECT breached_at FROM commitment WHERE ticket_id = ? AND kind = ? AND turn = ?",
                              of, kind, turn)  # fmt: skip
            gone = moments - {row[0] for row in found}
            kept = {row[0] for row in world.ask("SELECT breached_at FROM amendment WHERE ticket_id = ? AND kind = ?",
                                                of, kind)} if gone else set()  # fmt: skip
            require(gone <= kept, f"a breach of {kind} of ticket {of} was taken back, and nobody can see that")

    def at_end(self, world: "World") -> None:
        left = world.ask(
            "SELECT ticket_id, kind FROM commitment WHERE met_at IS NULL AND voided_at IS NULL AND breached_at IS NULL "
            "AND paused_since IS NULL AND due_at < ?", world.clock() - 60_000,
        )  # fmt: skip
        require(not left, f"past due without a breach: {[tuple(row) for row in left]}")
