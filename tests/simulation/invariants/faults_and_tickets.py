"""Invariant 2: at most one open fault for each (device, kind, subject), and exactly one open ticket for each open fault
that deserves one."""

from typing import TYPE_CHECKING

from tests.simulation.invariants import Checker, require

if TYPE_CHECKING:
    from tests.simulation.world import World

CERTAIN = ("startup_failure", "limit", "fault_code", "reported")
"""Kinds that wait for nothing: a fault of these that is sure deserves its ticket at once."""
GRACE_MS = 90 * 60_000
"""A hold whose end no tick has come to yet."""


class FaultsAndTickets(Checker):
    """Looks at the faults that stand open, and at the tickets that do."""

    number = 2

    def after_step(self, world: "World") -> None:
        seen: set[tuple[str, str, str]] = set()
        rows = world.ask(
            "SELECT fault.*, ticket.status, ticket.cleared_at AS ticket_cleared_at, ticket.merged_into FROM fault "
            "LEFT JOIN ticket ON ticket.id = fault.ticket_id WHERE fault.cleared_at IS NULL"
        )
        for row in rows:
            key = row["device_id"], row["kind"], row["subject"]
            named = " ".join(filter(None, (row["kind"], row["subject"], "of", row["device_id"])))
            require(key not in seen, f"{named} is open twice")
            seen.add(key)
            if row["ticket_id"] is None:
                self._without(world, row, named)
                continue
            require(
                row["status"] not in ("closed", "cancelled"), f"{named} is open on a ticket that is {row['status']}"
            )
            require(row["ticket_cleared_at"] is None, f"{named} is open on a ticket that is called cleared")
        self._tickets_are_alone(world)

    def _without(self, world: "World", row: object, named: str) -> None:
        fault: dict[str, object] = dict(row)  # type: ignore[call-overload]
        certain = fault["kind"] in CERTAIN and fault["confidence"] == 1
        require(not certain, f"{named} deserves a ticket, and has none")
        require(fault["severity"] == "note", f"{named} is held, and makes its machine bad")
        held_until = fault["held_until"]
        overdue = isinstance(held_until, int) and held_until + GRACE_MS * world.pace < world.now and world.deaths == 0
        require(not overdue or world.skew_ms, f"{named} was to be held until long ago")

    def _tickets_are_alone(self, world: "World") -> None:
        twice = world.ask(
            "SELECT device_id, site_id, kind, subject FROM ticket "
            "WHERE status NOT IN ('resolved', 'closed', 'cancelled') "
            "GROUP BY coalesce(device_id, 'site ' || site_id), kind, subject HAVING count(*) > 1"
        )
        require(not twice, f"two open tickets for one fault: {[tuple(row) for row in twice]}")
