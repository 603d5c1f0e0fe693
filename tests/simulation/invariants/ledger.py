"""Invariant 5: for each device and period, good + bad + unknown = the period, and each moment has one place; unknown
never counts as good."""

from typing import TYPE_CHECKING

from tests.simulation.invariants import Checker, require

if TYPE_CHECKING:
    from tests.simulation.world import World

PLACES = ("on_hire", "yard", "transport", "maintenance", "retired")


class Ledger(Checker):
    """Looks at machines whose course was written since, and at the interval in which each of them stands now."""

    number = 5

    def __init__(self) -> None:
        self._interval_id = 0

    def after_step(self, world: "World") -> None:
        fresh = world.ask("SELECT id, device_id FROM fleet_interval WHERE id > ?", self._interval_id)
        self._interval_id = max((row["id"] for row in fresh), default=self._interval_id)
        for device_id in sorted({row["device_id"] for row in fresh}):
            self._is_whole(world, device_id)

    def _is_whole(self, world: "World", device_id: str) -> None:
        rows = world.ask("SELECT * FROM fleet_interval WHERE device_id = ? AND superseded_at IS NULL ORDER BY from_at",
                         device_id)  # fmt: skip
        (added_at,) = world.ask("SELECT added_at FROM device WHERE device_id = ?", device_id)[0]
        until = added_at
        for row in rows:
            require(row["from_at"] == until, f"the course of {device_id} has a gap, or says two things, at {until}")
            require(
                row["condition"] in ("good", "bad", "unknown") and row["place"] in PLACES, f"{device_id}: {tuple(row)}"
            )
            until = row["to_at"]
        require(until is None, f"the course of {device_id} has an end")

    def at_end(self, world: "World") -> None:
        for row in world.ask("SELECT device_id FROM device"):
            self._is_whole(world, row[0])
        self._says_what_the_faults_say(world)
        self._sums(world)

    def _says_what_the_faults_say(self, world: "World") -> None:
        rows = world.ask(
            "SELECT i.device_id, i.condition, "
            "(SELECT count(*) FROM fault f WHERE f.device_id = i.device_id AND f.cleared_at IS NULL "
            " AND f.severity IN ('emergency', 'urgent')) AS wrong, "
            "(SELECT count(*) FROM fault f WHERE f.device_id = i.device_id AND f.cleared_at IS NULL "
            " AND f.kind = 'silent') AS silent, d.first_heard_at "
            "FROM fleet_interval i JOIN device d USING (device_id) WHERE i.to_at IS NULL AND i.superseded_at IS NULL"
        )
        for row in rows:
            unheard = row["silent"] or row["first_heard_at"] is None
            wanted = "bad" if row["wrong"] else "unknown" if unheard else "good"
            require(row["condition"] == wanted, f"{row['device_id']} is called {row['condition']}, and is {wanted}")

    def _sums(self, world: "World") -> None:
        """What is kept beside the ledger adds up to it."""
        kept = dict(world.ask("SELECT condition, sum(ms) FROM day_sum GROUP BY condition HAVING sum(ms) <> 0"))
        spent = dict(world.ask("SELECT condition, sum(to_at - from_at) FROM fleet_interval WHERE to_at IS NOT NULL "
                               "AND superseded_at IS NULL GROUP BY condition"))  # fmt: skip
        require(kept == spent, f"the days add up to {kept}, and the ledger to {spent}")
