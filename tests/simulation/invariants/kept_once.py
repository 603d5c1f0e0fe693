"""Invariant 1: every PUBACKed, permitted message is stored once, or stands in the dead-letter table with a reason."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from ingest.message import parse
from monitor.readings import Event, Message, Reading, Rejected, Reply
from tests.simulation.invariants import Checker, require
from tests.simulation.wire import Letter

if TYPE_CHECKING:
    from tests.simulation.world import World

Body = Reading | Event


class KeptOnce(Checker):
    """What the service has acknowledged to the broker is in telemetry and decided, parked, or rejected."""

    number = 1

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int, int], Body] = {}
        """What was kept under a name, as it was first said."""

    def after_step(self, world: "World") -> None:
        require(not world.broker.stale_acks, "an ack for a packet that this connection never carried")
        for letter in world.broker.released if world.service is not None else ():
            self._look(world, letter)

    def _look(self, world: "World", letter: Letter) -> None:
        wanted = [(device_id, body) for device_id, body in _said(letter) if (device_id, body.boot, body.seq) not in
                  self._kept or self._kept[device_id, body.boot, body.seq] != body]  # fmt: skip
        if not wanted:
            return
        found = world.disk.find([(device_id, 0, body.boot, body.seq, body.at) for device_id, body in wanted])
        for device_id, body in wanted:
            name = f"{device_id} boot {body.boot} seq {body.seq}"
            stored = found.get((device_id, 0, body.boot, body.seq, body.at))
            if stored is not None and stored.body == body:
                self._kept[device_id, body.boot, body.seq] = body
                continue
            require(_parked(world, device_id, body) or _rejected(world, device_id, body),
                    f"{name} was acknowledged, and is neither stored nor parked nor rejected")  # fmt: skip

    def at_end(self, world: "World") -> None:
        """Everything that was acknowledged to a machine, whole; and nothing twice."""
        stored = [one for batch in world.disk.replay(0) for one in batch.messages()]
        often = Counter(one.name for one in stored)
        twice = [name for name, times in often.items() if times > 1]
        require(not twice, f"stored more than once: {twice[:3]}")
        last = world.ask("SELECT last_batch FROM progress")[0][0]
        require(max((batch.number for batch in world.disk.replay(last)), default=0) == 0,
                "telemetry that was never decided")  # fmt: skip
        bodies: dict[tuple[str, int, int], Message] = {
            (one.device_id, one.body.boot, one.body.seq): one for one in stored
        }
        for letter in world.broker.taken:
            for device_id, body in _said(letter):
                kept = bodies.get((device_id, body.boot, body.seq))
                same = kept is not None and kept.body == body
                name = f"{device_id} boot {body.boot} seq {body.seq}"
                require(same or _rejected(world, device_id, body), f"{name} was taken by the broker, and is not stored")
        self._replies_are_kept(world)

    def _replies_are_kept(self, world: "World") -> None:
        kept = {(row["device_id"], row["command_id"]) for row in world.ask("SELECT device_id, command_id FROM reply")}
        for letter in world.broker.taken:
            for arrival in parse(letter.topic, letter.payload, 0):
                if isinstance(arrival.body, Reply):
                    there = (arrival.device_id, arrival.body.id) in kept
                    require(there or _rejected(world, arrival.device_id, arrival.body),
                            f"a reply of {arrival.device_id} is lost")  # fmt: skip


def _said(letter: Letter) -> Iterator[tuple[str, Body]]:
    for arrival in parse(letter.topic, letter.payload, 0):
        require(not isinstance(arrival.body, Rejected), f"firmware_sim breaks the contract: {arrival.body}")
        if isinstance(arrival.body, Reading | Event):
            yield arrival.device_id, arrival.body


def _parked(world: "World", device_id: str, body: Body) -> bool:
    found = world.ask(
        "SELECT 1 FROM parked WHERE device_id = ? AND boot = ? AND seq = ?", device_id, body.boot, body.seq
    )
    return bool(found)


def _rejected(world: "World", device_id: str, body: Body | Reply) -> bool:
    """Whether this very content is a dead letter, with a reason."""
    found = world.ask("SELECT reason FROM rejected WHERE device_id = ? AND payload = ?", device_id,
                      msgspec.json.encode(body)[:4096])  # fmt: skip
    return any(row["reason"] for row in found)
