"""The load: many machines over few connections, as raw MQTT packets, because the load shares the cores with what is
measured. A packet is one format of bytes; paho would cost as much here as on the other side.

Every packet of a device has the same length. QoS 1, at most WINDOW unacknowledged on each connection.
"""

import json
import random
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from bench.board import Board
from monitor.devices import Profile, shard
from monitor.store.profiles import load_profiles

MODELS = ("diesel_generator", "air_compressor", "water_pump")
# 1,000 messages under way in all, as of a fleet that sends 20,000 a second and waits 50 ms for each PUBACK.
CONNECTIONS = 50
WINDOW = 20
TURN = 10
"""So many devices of a connection speak in one write."""
VALUES = 8
PATTERNS = 64
PUBLISH_QOS_1, PUBACK = 0x32, 0x40


class Login(msgspec.Struct, frozen=True):
    """Where the load and the bare subscriber sign in."""

    host: str
    port: int
    username: str = ""
    password: str = ""


class Plan(msgspec.Struct):
    """What a load process is told on its standard input."""

    board: str
    login: Login
    root: str
    boot: int
    devices: list[str]
    """The model of the device at index i is MODELS[i % 3]."""


class Line:
    """One MQTT connection: sends packets, counts PUBACKs."""

    def __init__(self, login: Login, client_id: str) -> None:
        self.socket = socket.create_connection((login.host, login.port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flags, login = (0xC2, [login.username, login.password]) if login.username else (0x02, [])
        # MQTT 3.1.1, clean session, no keep-alive.
        body = _text("MQTT") + bytes([4, flags, 0, 0]) + b"".join(map(_text, [client_id, *login]))
        self.socket.sendall(b"\x10" + _length(len(body)) + body)
        answer = self.socket.recv(4, socket.MSG_WAITALL)
        if answer != b"\x20\x02\x00\x00":
            raise ConnectionError(f"the broker refused the load: CONNACK {answer.hex()}")
        self.sent = 0
        self.acked = 0
        self._rest = b""

    @property
    def room(self) -> int:
        return WINDOW - (self.sent - self.acked)

    def send(self, packets: bytes, count: int) -> None:
        # What is not yet acknowledged always fits into the socket's buffer, so this never waits.
        self.socket.sendall(packets)
        self.sent += count

    def hear(self) -> int:
        """Read what is there; answers how many PUBACKs that were."""
        heard = self._rest + self.socket.recv(65536)
        if not heard:
            raise ConnectionError("the broker closed a connection of the load")
        whole = len(heard) // 4
        assert heard[: 4 * whole : 4] == bytes([PUBACK]) * whole, "the broker sent something else than PUBACKs"
        self._rest = heard[4 * whole :]
        self.acked += whole
        return whole


class Speaker:
    """A line and the devices that speak through it in turn, each with its own count."""

    def __init__(self, line: Line, heads: Sequence[bytes], tails: Sequence[Sequence[bytes]]) -> None:
        self.line = line
        self.counts = [0] * len(heads)
        self._heads = heads
        self._tails = tails
        self._next = 0

    def turn(self, count: int) -> None:
        at, sent, n = time.time_ns() // 1_000_000, self.line.sent, len(self._heads)
        packets = []
        for _ in range(count):
            d = self._next
            self._next = (d + 1) % n
            seq, mid = self.counts[d], sent % 65535 + 1
            packets += [self._heads[d] % (mid >> 8, mid & 255, seq, at), self._tails[d][(seq + d) % PATTERNS]]
            self.counts[d] += 1
            sent += 1
        self.line.send(b"".join(packets), count)


def packet(topic: str, payload: bytes, mid: int = 1) -> bytes:
    """One QoS 1 PUBLISH."""
    body = _text(topic) + mid.to_bytes(2, "big") + payload
    return bytes([PUBLISH_QOS_1]) + _length(len(body)) + body


def tails(profile: Profile) -> list[bytes]:
    """The end of a reading: 8 values of a healthy running machine, each pattern with noise of its own."""
    rng = random.Random(profile.name)
    sensors = [sensor for sensor in profile.sensors if sensor.nominal is not None][:VALUES]
    assert len(sensors) == VALUES, f"{profile.name} has fewer than {VALUES} sensors with a nominal value"
    patterns = [
        json.dumps({sensor.name: round(sensor.nominal * rng.uniform(0.998, 1.002), 3) for sensor in sensors})
        for _ in range(PATTERNS)
    ]
    longest = max(map(len, patterns))
    return [f'"state":"running","values":{pattern.ljust(longest)}}}'.encode() for pattern in patterns]


def head(root: str, device_id: str, boot: int, tail: bytes) -> bytes:
    """The beginning of a reading's packet, to be filled in with the packet id's two bytes, seq and at."""
    topic = f"{root}/v1/{shard(device_id)}/{device_id}/telemetry"
    named = b'{"boot":%d,"seq":%%8d,"at":%%13d,' % boot
    length = 2 + len(topic) + 2 + len(named % (0, 0)) + len(tail)
    start = bytes([PUBLISH_QOS_1]) + _length(length) + _text(topic)
    return start.replace(b"%", b"%%") + b"%c%c" + named


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _length(number: int) -> bytes:
    """MQTT's remaining length."""
    out = bytearray()
    while True:
        number, low = number // 128, number % 128
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def _speakers(plan: Plan) -> Iterator[Speaker]:
    profiles = load_profiles()
    of_model = [tails(profiles[model]) for model in MODELS]
    for n in range(min(CONNECTIONS, len(plan.devices))):
        line = Line(plan.login, f"load-{plan.boot}-{n}")
        mine = range(n, len(plan.devices), CONNECTIONS)
        ends = [of_model[i % len(MODELS)] for i in mine]
        heads = [head(plan.root, plan.devices[i], plan.boot, end[0]) for i, end in zip(mine, ends, strict=True)]
        yield Speaker(line, heads, ends)


def _publish(speakers: list[Speaker], board: Board) -> None:
    """Publish what the board allows until it says stop, and until everything is acknowledged then."""
    waiting = select.epoll()
    by_socket = {speaker.line.socket.fileno(): speaker for speaker in speakers}
    for number in by_socket:
        waiting.register(number, select.EPOLLIN)
    ready, published, acked = deque(speakers), 0, 0
    while not board["stop"] or acked < published:
        for number, _ in waiting.poll(0.001):
            speaker = by_socket[number]
            if not speaker.line.room:
                ready.append(speaker)
            acked += speaker.line.hear()
        allowed = published if board["stop"] else board["allowed"]
        for _ in range(len(ready)):
            if published >= allowed:
                break
            speaker = ready.popleft()
            count = min(TURN, speaker.line.room, allowed - published, max(1, len(speaker.counts)))
            speaker.turn(count)
            published += count
            if speaker.line.room:
                ready.append(speaker)
        board["published"], board["acked"] = published, acked


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.readline(), type=Plan)
    speakers = list(_speakers(plan))
    print("ready", flush=True)
    _publish(speakers, Board(Path(plan.board)))
    # Speaker n has the devices n, n + 200, …
    counts = {
        plan.devices[n + CONNECTIONS * k]: count
        for n, speaker in enumerate(speakers)
        for k, count in enumerate(speaker.counts)
    }
    print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main()
