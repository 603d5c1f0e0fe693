"""Invariant 6: a crash at any commit, redelivery, duplication, or reordering within that wait ends in the same state
(receive times aside)."""

from typing import TYPE_CHECKING, Any

from tests.simulation.invariants import Checker, require

if TYPE_CHECKING:
    from tests.simulation.world import World

State = dict[str, set[tuple[Any, ...]]]
AT_ONCE_MS = 5 * 60_000
"""What is heard so soon after it was said was overtaken on the way, if anything, and is not late."""
BY_RECEIVE_TIME = ("silent",)
"""Kinds of faults that are about when something was heard."""


class SameState(Checker):
    """In gentle worlds: what is stored and what was found is what a world without perils stores and finds."""

    number = 6

    def at_end(self, world: "World") -> None:
        if world.beside is None:
            return
        here, there = found(world), world.beside
        for what in here:
            missing, added = sorted(there[what] - here[what]), sorted(here[what] - there[what])
            require(not missing and not added, f"another state, {what}: missing {missing[:3]}, too much {added[:3]}")


def found(world: "World") -> State:
    """The state that must not depend on what went wrong."""
    kinds = ", ".join(repr(kind) for kind in BY_RECEIVE_TIME)
    # A clock that is far ahead is noticed by when its messages came.
    moments = ", ".join(f"CASE kind WHEN 'wrong_clock' THEN 0 ELSE {at} END" for at in ("occurred_at", "ended_at"))
    faults = world.ask(f"SELECT device_id, kind, subject, {moments} FROM fault WHERE kind NOT IN ({kinds})")  # noqa: S608
    tickets = world.ask(f"SELECT device_id, kind, subject, severity FROM ticket WHERE kind NOT IN ({kinds})")  # noqa: S608
    seen = world.ask("SELECT device_id, generation, boot, next_seq, received FROM seen")
    messages = [one for batch in world.disk.replay(0) for one in batch.messages()]
    stored = {(*one.name, one.late and one.received_at - one.body.at < AT_ONCE_MS, repr(one.body)) for one in messages}
    return {
        "messages": stored, "courses": {tuple(row) for row in seen}, "faults": {tuple(row) for row in faults},
        "tickets": {tuple(row) for row in tickets},
    }  # fmt: skip
