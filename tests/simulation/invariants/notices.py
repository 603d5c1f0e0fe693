"""Invariant 4: every notice is delivered, or visibly failed after its last try; none is queued twice for one cause."""

from typing import TYPE_CHECKING

from tests.simulation.invariants import Checker, require

if TYPE_CHECKING:
    from tests.simulation.world import World


class Notices(Checker):
    """Compares what was queued since the last step, and what the post took, with the rows."""

    number = 4

    def __init__(self) -> None:
        self._notice_id = 0
        self._letters = 0
        self._row_of: dict[str, int] = {}

    def after_step(self, world: "World") -> None:
        fresh = world.ask("SELECT id, cause, kind, ticket_id, person_id, recipient FROM notice WHERE id > ?",
                          self._notice_id)  # fmt: skip
        for row in fresh:
            self._notice_id = max(self._notice_id, row["id"])
            before = self._row_of.get(row["cause"])
            # What was withdrawn may come true again: it is told then.
            gone = before is None or world.ask("SELECT status FROM notice WHERE id = ?", before)[0][0] == "withdrawn"
            require(gone, f"{row['cause']} is queued twice")
            self._row_of[row["cause"]] = row["id"]
        self._what_was_taken(world)

    def _what_was_taken(self, world: "World") -> None:
        for _, cause, _ in world.post.log[self._letters :]:
            # One that was withdrawn on its way makes room for another of its cause.
            rows = world.ask(
                "SELECT tries FROM notice WHERE cause = ? OR cause LIKE ? ORDER BY cause", cause, f"{cause}~%"
            )
            require(rows, f"{cause} was sent, and stands in no row")
            # After a confirmed one another can only go out if the service never learnt, or could not write down, that
            # the first did.
            doubts = world.deaths + world.database.unsure + world.fate.struck["commit_refused"]
            times = world.post.confirmed[cause]
            require(times <= 1 + doubts, f"{cause} was delivered {times} times")
            require(times <= 1 or times <= 1 + world.deaths or rows[0]["tries"] >= times, f"{cause} went out too often")
        self._letters = len(world.post.log)

    def at_end(self, world: "World") -> None:
        left = world.ask("SELECT cause FROM notice WHERE status = 'queued'")
        require(not left, f"never delivered, and never failed: {[row[0] for row in left[:5]]}")
        silent = world.ask(
            "SELECT cause FROM notice WHERE status = 'failed' AND last_error = '' AND gathered_in IS NULL"
        )
        require(not silent, f"failed, and does not say why: {[row[0] for row in silent[:5]]}")
        sent = {row[0] for row in world.ask("SELECT cause FROM notice WHERE status = 'sent' AND gathered_in IS NULL")}
        unsent = sorted(sent - {cause.partition("~")[0] for cause in world.post.taken} - set(world.post.taken))
        require(not unsent, f"called sent, and the post never took it: {unsent[:5]}")
        self._breaches_are_told(world)

    def _breaches_are_told(self, world: "World") -> None:
        """Each of those in charge hears of each promise that is broken, once."""
        in_charge = [row[0] for row in world.ask("SELECT id FROM person WHERE role IN ('ops', 'manager')")]
        broken = world.ask("SELECT ticket_id, kind, turn FROM commitment WHERE breached_at IS NOT NULL")
        for row in broken:
            for person_id in in_charge:
                told = world.ask(
                    "SELECT count(*) FROM notice WHERE kind = 'breach' AND ticket_id = ? AND person_id = ? "
                    "AND cause LIKE ? AND status <> 'withdrawn'",
                    row["ticket_id"], person_id, f"breach:{row['ticket_id']}:{row['kind']}%",
                )[0][0]  # fmt: skip
                require(
                    told, f"person {person_id} never heard that {row['kind']} of ticket {row['ticket_id']} is broken"
                )
