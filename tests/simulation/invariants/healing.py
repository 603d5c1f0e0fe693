"""Invariant 7: after the last fault heals, the queue drains and every fault that cleared is cleared."""

from typing import TYPE_CHECKING

from monitor.readings import Event
from tests.simulation.invariants import Checker, require
from tests.simulation.lives import MINUTE, REPORT_S

if TYPE_CHECKING:
    from tests.simulation.wire import Link
    from tests.simulation.world import World


class Healing(Checker):
    """Looks once, when the world has been well for a while."""

    number = 7

    def at_end(self, world: "World") -> None:
        require(world.service is not None, "the service is not there")
        assert world.service is not None
        require(not world.broker.unacked, f"{world.broker.unacked} messages were never acknowledged")
        require(not world.service.subscriber.waiting, "messages wait in the service")
        for table in ("parked", "released", "serviced"):
            left = world.ask(f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608 (names of our own)
            require(not left, f"{left} rows are left in {table}")
        due = world.ask("SELECT count(*) FROM ledger_due WHERE due_at <= ?", world.clock() - MINUTE)[0][0]
        require(not due, f"the courses of {due} machines were not worked out")
        asked = world.ask("SELECT count(*) FROM command WHERE next_send_at < ?", world.clock() - 15 * MINUTE)[0][0]
        require(not asked, f"{asked} commands were neither answered nor given up")
        copies = world.ask("SELECT count(*) FROM evidence_copy WHERE status = 'due' AND next_try_at < ?",
                           world.clock() - 30 * MINUTE)[0][0]  # fmt: skip
        require(not copies, f"{copies} copies of readings are overdue")
        for link in world.links.values():
            self._is_cleared(world, link)

    def _is_cleared(self, world: "World", link: "Link") -> None:
        sql = "SELECT kind, subject, occurred_at FROM fault WHERE device_id = ? AND cleared_at IS NULL"
        open_faults = world.ask(sql, link.device_id)
        kinds = {(row["kind"], row["subject"]) for row in open_faults}
        talks = link.last is not None and link.last.at > world.now - 2 * REPORT_S * 1000
        require(not talks or ("silent", "") not in kinds, f"{link.device_id} talks, and is called silent")
        started_at, codes = self._controller_says(world, link.device_id)
        for row in open_faults:
            failed = row["kind"] == "startup_failure" and row["occurred_at"] < started_at
            require(not failed, f"{link.device_id} has started since, and its failed start is still open")
            gone = row["kind"] == "fault_code" and row["subject"] not in codes
            require(not gone, f"{link.device_id} took {row['subject']} back, and the fault is still open")

    def _controller_says(self, world: "World", device_id: str) -> tuple[int, set[str]]:
        """When it last started (its clock), and the codes that stand, by all that was taken in of it."""
        started_at, codes = 0, set[str]()
        said = [one.body for one in world.disk.messages(device_id, 0, 1 << 60, 1_000_000)]
        for body in sorted((one for one in said if isinstance(one, Event)), key=lambda one: (one.boot, one.seq)):
            if body.event == "started":
                started_at = body.at
            elif body.event == "fault_set":
                codes.add(str(body.detail["code"]))
            elif body.event == "fault_cleared":
                codes.discard(str(body.detail["code"]))
        return started_at, codes
