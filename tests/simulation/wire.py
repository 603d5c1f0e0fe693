"""The wire, by MQTT's rules for QoS 1: machines' links, and a broker that keeps what the service has not acknowledged.

A machine says again what was not acknowledged to it, and buffers while it has no network. The broker delivers again
what the service has not acknowledged `ack_wait` after the delivery before (not at a reconnect: so nats-server does it),
and newer messages overtake it meanwhile. Packet ids begin again with each connection.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from monitor.devices import topic
from tests.simulation.lives import Life, Said
from tests.simulation.perils import Fate

ACK_WAIT_MS = 2_000
KEEPALIVE_MS = 22_500
"""One and a half keep-alives of a machine: so long after its network went, the broker publishes its will."""


class Letter(NamedTuple):
    """A message that the broker has taken, and with that promised to deliver."""

    number: int
    device_id: str
    topic: str
    payload: bytes


@dataclass
class _Held:
    """A letter that the service has not acknowledged."""

    letter: Letter
    due_at: int
    retained: bool = False


class Broker:
    """Keeps one durable session: the service's."""

    def __init__(self, fate: Fate) -> None:
        self.fate = fate
        self.taken: list[Letter] = []
        """Everything that was acknowledged to a machine, for ever."""
        self.released: list[Letter] = []
        """What the service has acknowledged, since somebody last looked."""
        self.stale_acks = 0
        """Acks for packets of this connection that were never sent."""
        self._held: dict[int, _Held] = {}
        self._retained: dict[str, Letter] = {}
        self._flying: dict[int, int] = {}
        self._mid = 0
        self._copies = 0
        self.up = False

    @property
    def unacked(self) -> int:
        return sum(not held.retained for held in self._held.values())

    def publish(self, device_id: str, address: str, payload: bytes, at: int, *, retain: bool) -> None:
        """A machine's message is taken, and acknowledged to it."""
        letter = Letter(len(self.taken), device_id, address, payload)
        self.taken.append(letter)
        if retain:
            self._retained[address] = letter
        late = self.fate.rng.randrange(50, 3_000) if self.fate.strikes("delivery_late") else 0
        self._held[letter.number] = _Held(letter, at + self.fate.rng.randrange(1, 50) + late)

    def connect(self, now: int) -> None:
        """The service is there again. Retained messages are sent to every new subscription, as copies."""
        self.up, self._mid = True, 0
        self._flying.clear()
        self._held = {number: held for number, held in self._held.items() if not held.retained}
        for letter in self._retained.values():
            self._copies -= 1
            self._held[self._copies] = _Held(letter._replace(number=self._copies), now, retained=True)

    def cut(self) -> None:
        """The connection to the service is gone, with whatever was in it."""
        self.up = False
        self._flying.clear()

    def due(self, until: int) -> Iterator[tuple[int, int, Letter, bool]]:
        """What reaches the service until then: (moment, packet id, letter, whether it is a retained copy)."""
        if not self.up:
            return
        waiting = [(held.due_at, number) for number, held in self._held.items() if held.due_at <= until]
        heapify(waiting)
        while waiting:
            moment, number = heappop(waiting)
            held = self._held[number]
            held.due_at = moment + ACK_WAIT_MS
            if self.fate.strikes("delivery_lost"):
                if held.due_at <= until:
                    heappush(waiting, (held.due_at, number))
                continue
            # Acks go out at the end of a stride: until then nothing is delivered again.
            held.due_at = max(held.due_at, until)
            for _ in range(2 if self.fate.strikes("delivery_twice") else 1):
                self._mid += 1
                self._flying[self._mid] = held.letter.number
                yield moment, self._mid, held.letter, held.retained

    def puback(self, mids: Sequence[int]) -> None:
        """The service acknowledges these packets of the present connection."""
        for mid in mids:
            number = self._flying.pop(mid, None)
            if number is None:
                self.stale_acks += 1
                continue
            held = self._held.pop(number, None)
            if held is not None and not held.retained:
                self.released.append(held.letter)


@dataclass
class Link:
    """A machine's network and its queue. What it says is its life's; when that reaches the broker is the wire's."""

    device_id: str
    life: Life
    broker: Broker
    fate: Fate
    place: int = 0
    """How far its life has been told."""
    cut_until: int = 0
    stalled_until: int = 0
    will_at: int = 0
    connected_at: int = 0
    last: Said | None = None
    """The last that its controller said of itself, its connection apart."""
    state: str = "online"
    """What its life last said of its connection."""
    mute: bool = False
    """Whether its life stands still."""
    told: bool = False
    """Whether the will of the present gap is out."""
    waiting: deque[Said] = field(default_factory=deque)

    @property
    def cut(self) -> bool:
        return self.cut_until > 0

    def say(self, until: int, now: int) -> None:
        """Live until then; what reaches the broker does so at its moment, or now if it had to wait."""
        if not self.cut and self.fate.strikes("machine_cut_off"):
            self._break(now, now + round(10_000 * 360 ** self.fate.rng.random()))
        if not self.mute:
            self._hear_life(until)
        if self.cut and self.cut_until <= until:
            self._return(self.cut_until)
        if self.cut:
            self._leave_will(until)
            return
        self._send(until, now)

    def heal(self, now: int) -> None:
        """The network is good from now on."""
        if self.cut:
            self.cut_until = now

    def _hear_life(self, until: int) -> None:
        said = self.life.said
        while self.place < len(said) and said[self.place].at <= until:
            one = said[self.place]
            self.place += 1
            if one.suffix == "status":
                self.state = json.loads(one.payload)["state"]
                self.connected_at = one.clock_at if self.state == "online" else self.connected_at
                if self.cut:
                    continue
            else:
                self.last = one
            self.waiting.append(one)

    def _send(self, until: int, now: int) -> None:
        while self.waiting:
            moment = max(self.waiting[0].at, now, self.stalled_until)
            if moment > until:
                return
            if self.fate.strikes("link_stalls"):
                self.stalled_until = moment + self.fate.rng.randrange(1_000, 20_000)
                continue
            one = self.waiting.popleft()
            self._publish(one.suffix, one.payload, moment, retain=one.retain)

    def _publish(self, suffix: str, payload: bytes, at: int, *, retain: bool = False) -> None:
        address = f"{topic(self.device_id)}/{suffix}"
        self.broker.publish(self.device_id, address, payload, at, retain=retain)
        if self.fate.strikes("puback_lost"):
            self.broker.publish(
                self.device_id, address, payload, at + self.fate.rng.randrange(10, 1_500), retain=retain
            )

    def _break(self, now: int, until: int) -> None:
        self.cut_until, self.will_at, self.told = until, now + KEEPALIVE_MS, False
        # Words about a connection that is no more are not said afterwards.
        self.waiting = deque(one for one in self.waiting if one.suffix != "status")

    def _leave_will(self, until: int) -> None:
        if not self.told and self.will_at <= until and self.state == "online":
            self.told = True
            body = {"state": "lost", "boot": self._boot, "at": self.connected_at}
            self._publish("status", json.dumps(body).encode(), self.will_at, retain=True)

    def _return(self, at: int) -> None:
        self.cut_until = 0
        if self.state != "online":
            return
        ahead_ms = self.last.clock_at - self.last.at if self.last else 0
        self.connected_at = at + ahead_ms
        body = {"state": "online", "boot": self._boot, "at": self.connected_at, "firmware": "1.0", "model": "sim"}
        self.waiting.appendleft(Said(at, self.connected_at, self._boot, "status", json.dumps(body).encode(), True))

    @property
    def _boot(self) -> int:
        return self.last.boot if self.last else 1

    def command(self, payload: bytes, now: int) -> None:
        """Something was asked of the machine."""
        if self.cut or self.state != "online" or self.fate.strikes("command_lost"):
            return
        for reply in self.life.answer(payload, now):
            self._publish("reply", reply, now + 500)


class Wire:
    """What the service's subscriber takes for its MQTT client (ingest/bulk.py): this broker's other end."""

    def __init__(self, broker: Broker, command: Callable[[str, bytes], None]) -> None:
        self._broker = broker
        self._command = command
        self.on_connect: Any = None
        self.on_disconnect: Any = None
        self.on_subscribe: Any = None
        self.on_message: Any = None
        self.on_socket_register_write: Any = None

    def connect(self, now: int) -> None:
        """The broker accepts the connection."""
        self._broker.connect(now)
        self.on_connect(self, None, _Flags(), _Reason(), None)

    def cut(self) -> None:
        """The connection breaks."""
        self._broker.cut()
        self.on_disconnect(self, None, None, _Reason(), None)

    def hand_over(self, mid: int, letter: Letter, *, retained: bool) -> None:
        """A packet comes out of the socket."""
        self.on_message(self, None, _Packet(mid, letter.topic, letter.payload, retained))

    # What ingest/subscriber.py asks of it.

    def subscribe(self, topics: Sequence[tuple[str, int]]) -> None:
        self.on_subscribe(self, None, 1, [_Granted(qos) for _, qos in topics], None)

    def ack_all(self, mids: Sequence[int]) -> None:
        self._broker.puback(mids)

    def publish(self, address: str, payload: bytes, qos: int) -> "_Sent":  # noqa: ARG002 (paho's signature)
        self._command(address, payload)
        return _Sent()


class _Flags(NamedTuple):
    session_present: bool = True


class _Reason(NamedTuple):
    is_failure: bool = False


class _Granted(NamedTuple):
    value: int


class _Packet(NamedTuple):
    mid: int
    topic: str
    payload: bytes
    retain: bool


class _Sent:
    rc = 0

    def wait_for_publish(self, _timeout_s: float) -> None:
        """It is out at once."""

    def is_published(self) -> bool:
        return True
