"""Machines that publish numbered messages and keep book of every PUBACK, on a few lines of MQTT 3.1.1 of their own:
what the service is checked against must not rest on a client library's queue.

Each keeps what has no PUBACK and sends it again, in order and under the same name, after a new connection; at most
20 wait for their PUBACK at a time, and nothing is sent while there is no connection.
"""

import json
import random
import select
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from tests.e2e.service import now_ms

IN_FLIGHT = 20
RECONNECT_S = 0.1
NORMAL, BEYOND = 50.0, 150.0
"""Values inside and beyond the limit of the profile below (100, cleared at 95)."""

RIG = """
name = "rig"
title = "Test rig"
title_zh = "试验台"
report_interval_s = 20
boot_loop_boots = 8
[[sensor]]
name = "temp_c"
unit = "°C"
limits = { high = 100, clear_margin = 5 }
"""


class Name(NamedTuple):
    """What names a message for ever, beside its device."""

    boot: int
    seq: int


class _Packet(NamedTuple):
    name: Name | None
    topic: str
    payload: bytes
    retained: bool = False


class Machine:
    """One machine: what it has made, what is acknowledged, and its connection."""

    def __init__(self, card: dict[str, Any], rng: random.Random, rate_s: float, *, limits: bool, reboots: bool) -> None:
        self.device_id: str = card["device_id"]
        self.made: dict[Name, float] = {}
        """Every message: its name and its value, in the order of making."""
        self.acked: set[Name] = set()
        self.republished = 0
        self.connects = 0
        self._mqtt = card["mqtt"]
        self._rng = rng
        self._pause_s = 1 / rate_s
        self._limits = limits
        self._reboots = reboots
        self._boot, self._seq, self._beyond = 1, 0, 0
        self._queue: deque[_Packet] = deque()
        self._in_flight: OrderedDict[int, _Packet] = OrderedDict()
        self._mid = 0
        self._next_at = self._retry_at = time.monotonic() + rng.random()
        self._up = False
        self._read = self._written = b""
        self.socket: socket.socket | None = None

    @property
    def waiting(self) -> int:
        return len(self._queue) + len(self._in_flight)

    @property
    def excursions(self) -> int:
        """How often the value went beyond its limit: the truth that the faults are counted against."""
        values = list(self.made.values())
        return sum(now > 100 >= before for before, now in zip([NORMAL, *values], values, strict=False))

    def make(self, now: float, *, calm: bool = False) -> None:
        """Measure, if it is time to. `calm`: nothing goes wrong any more."""
        while self._next_at <= now:
            self._next_at += self._pause_s * self._rng.uniform(0.5, 1.5)
            if self._reboots and not calm and self._boot < 5 and self._rng.random() < 0.008:
                self._boot, self._seq = self._boot + 1, 0
            self._measure(calm=calm)

    def _measure(self, *, calm: bool) -> None:
        if self._limits and not calm and self._beyond <= -5 and self._rng.random() < 0.04:
            self._beyond = self._rng.randrange(1, 12)
        value = BEYOND if self._beyond > 0 and not calm else NORMAL
        self._beyond -= 1
        name = Name(self._boot, self._seq)
        self._seq += 1
        self.made[name] = value
        said = {"boot": name.boot, "seq": name.seq, "at": now_ms(), "state": "running", "values": {"temp_c": value}}
        self._queue.append(_Packet(name, f"{self._mqtt['topic']}/telemetry", json.dumps(said).encode()))

    # --- the connection ---

    def serve(self, now: float) -> None:
        """Connect if it is time to, and hand on what may go."""
        if self.socket is None and now >= self._retry_at:
            self._retry_at = now + RECONNECT_S
            self._connect()
        while self._up and self._queue and len(self._in_flight) < IN_FLIGHT:
            self._publish(self._queue.popleft())
        self._flush()

    def _connect(self) -> None:
        try:
            self.socket = socket.create_connection((self._mqtt["host"], self._mqtt["port"]), timeout=1)
        except OSError:
            return
        self.socket.setblocking(False)
        self._read = b""
        connected_at = now_ms()
        topic = f"{self._mqtt['topic']}/status"
        will = json.dumps({"state": "lost", "boot": self._boot, "at": connected_at}).encode()
        words = (self._mqtt["client_id"].encode(), topic.encode(), will, self._mqtt["username"].encode(),
                 self._mqtt["password"].encode())  # fmt: skip
        # Clean session, a retained will of QoS 1, user name and password; keep-alive 60 s.
        self._written = _packet(0x10, _text(b"MQTT") + b"\x04\xee\x00\x3c" + b"".join(map(_text, words)))
        online = {"state": "online", "boot": self._boot, "at": connected_at, "firmware": "1", "model": "rig"}
        self._queue.appendleft(_Packet(None, topic, json.dumps(online).encode(), retained=True))

    def _publish(self, packet: _Packet) -> None:
        self._mid = self._mid % 65_000 + 1
        self._in_flight[self._mid] = packet
        head = 0x33 if packet.retained else 0x32
        self._written += _packet(head, _text(packet.topic.encode()) + self._mid.to_bytes(2, "big") + packet.payload)

    def _flush(self) -> None:
        if self.socket is None or not self._written:
            return
        try:
            self._written = self._written[self.socket.send(self._written) :]
        except BlockingIOError:
            return
        except OSError:
            self.drop()

    def hear(self) -> None:
        """Take in what the broker says."""
        if self.socket is None:
            return
        try:
            said = self.socket.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self.drop()
            return
        self._read += said
        # Every packet that a broker sends to a machine without subscriptions is shorter than 128 bytes.
        while len(self._read) >= 2 and len(self._read) >= 2 + self._read[1]:
            kind, body = self._read[0] >> 4, self._read[2 : 2 + self._read[1]]
            self._read = self._read[2 + len(body) :]
            self._take(kind, body)

    def _take(self, kind: int, body: bytes) -> None:
        if kind == 2:
            assert body[1] == 0, f"{self.device_id} was refused: {body[1]}"
            self._up = True
            self.connects += 1
        elif kind == 4:
            packet = self._in_flight.pop(int.from_bytes(body, "big"))
            if packet.name is not None:
                self.acked.add(packet.name)

    def drop(self) -> None:
        """The connection is gone: what has no PUBACK goes first again, in order."""
        if self.socket is not None:
            self.socket.close()
        self.socket, self._up = None, False
        back = [packet for packet in (*self._in_flight.values(), *self._queue) if packet.name is not None]
        self.republished += sum(packet.name is not None for packet in self._in_flight.values())
        self._in_flight.clear()
        self._queue = deque(back)


def _text(word: bytes) -> bytes:
    return len(word).to_bytes(2, "big") + word


def _packet(head: int, body: bytes) -> bytes:
    length, size = b"", len(body)
    while True:
        size, digit = divmod(size, 128)
        length += bytes([digit | (0x80 if size else 0)])
        if not size:
            return bytes([head]) + length + body


class Fleet:
    """Machines in one thread. `calm` keeps them talking with nothing wrong; `hush` has them only finish sending."""

    def __init__(self, machines: Iterable[Machine]) -> None:
        self.machines = list(machines)
        self.calm = False
        self.hush = False
        self.failure: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="machines", daemon=True)

    def __enter__(self) -> "Fleet":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        for machine in self.machines:
            machine.drop()

    @property
    def waiting(self) -> int:
        assert self.failure is None, self.failure
        return sum(machine.waiting for machine in self.machines)

    @property
    def acked(self) -> int:
        assert self.failure is None, self.failure
        return sum(len(machine.acked) for machine in self.machines)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._turn()
        except BaseException as failure:  # noqa: BLE001 (told by whoever waits for the machines)
            self.failure = failure

    def _turn(self) -> None:
        now = time.monotonic()
        for machine in self.machines:
            if not self.hush:
                machine.make(now, calm=self.calm)
            machine.serve(now)
        open_ones = [machine for machine in self.machines if machine.socket is not None]
        with suppress(OSError):
            readable, _, _ = select.select([machine.socket for machine in open_ones], [], [], 0.005)
            for machine in open_ones:
                if machine.socket in readable:
                    machine.hear()
