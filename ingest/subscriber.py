"""The service's ear: takes messages from the broker and acknowledges each once it is stored and decided.

Two threads. The network thread alone touches the paho client (through its public loop_read, loop_write, loop_misc):
it puts what arrives on a bounded queue and sends acks. The worker takes batches off the queue, parses them, has them
observed, and hands their acks back. Driving paho's loop here rather than by loop_start() saves a wake-up and a select
for each message and ack, and it makes "is this ack still for this connection?" a question without a race.
"""

import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from ingest.bulk import BulkClient
from ingest.connection import KEEPALIVE_S, Address
from ingest.message import KINDS, parse, unreadable
from monitor.readings import Arrival

log = structlog.get_logger()

TOPICS = tuple(f"fettle/v1/+/+/{kind}" for kind in KINDS)
"""What the service's session holds. It never unsubscribes: the session is where messages are kept for it."""

Observe = Callable[[Sequence[Arrival], int], None]
"""Stores and decides these arrivals as of now (ms); returns when both are committed, raises when they are not."""

Read = Callable[[str, bytes, int], list[Arrival]]
"""What a topic and a payload, heard at this moment (ms), mean: a wire format."""

BATCH_BYTES = 4 * 1024 * 1024
QUEUE_BYTES = 64 * 1024 * 1024
BURST = 500
"""Packets read before acks get their turn again."""
RECONNECT_S = (0.1, 10.0)
RETRY_S = (0.1, 10.0)
LAG_MS = 1000
FAREWELL_S = 5.0


class _Heard(NamedTuple):
    """One message as it came off the wire."""

    generation: int
    mid: int
    topic: str
    payload: bytes
    received_at: int
    retained: bool


@dataclass
class Counts:
    """What happened since the start, for the metrics."""

    received: int = 0
    received_bytes: int = 0
    retained: int = 0
    batches: int = 0
    acked: int = 0
    stale_acks: int = 0
    """Acks withheld since their connection was gone; those messages come again."""
    observe_failures: int = 0
    connects: int = 0
    connect_failures: int = 0
    sessions_begun: int = 0
    """Connects at which the broker knew no session of ours: what it took before is not kept for us."""


class Subscriber:
    """A durable MQTT session whose messages go to `observe` in batches and are acknowledged after it returns."""

    def __init__(
        self,
        address: Address,
        client_id: str,
        observe: Observe,
        *,
        read: Read = parse,
        queue_limit: int = 20_000,
        batch_limit: int = 4_000,
        linger_s: float = 0.005,
        settle_s: float = 3.0,
        now: Callable[[], int] | None = None,
        client: BulkClient | None = None,
    ) -> None:
        """`settle_s`: so long after a connect, messages that an earlier connection left unacked may still come.

        `now` is the service's clock (epoch ms). Whoever has a `client` and a clock of their own starts no threads:
        they call the client's callbacks, and then `work_off`, `send_acks` and `note_quiet`, one step at a time.
        """
        self.counts = Counts()
        self._observe = observe
        self._read = read
        self._queue_limit = queue_limit
        self._batch_limit = batch_limit
        self._linger_s = linger_s
        self._settle_ms = int(settle_s * 1000)
        self._queue: deque[_Heard] = deque()
        self._taken_bytes = 0
        self._in_hand: tuple[list[_Heard], list[Arrival]] | None = None
        self._acks: deque[tuple[int, int]] = deque()
        self._generation = 0
        self._connected_at: int | None = None
        self._subscribed = False
        self._caught_up = False
        self._in_hand_since: int | None = None
        self._arrived = threading.Event()
        self._stopping = threading.Event()
        self._closing = threading.Event()
        self._closing_since = 0.0
        self._woken, self._waker = _wake_up_line()
        self._now = now or _now
        self._client = self._with_callbacks(client or _new_client(address, client_id))
        self._threads = [
            threading.Thread(target=self._listen, name="mqtt", daemon=True),
            threading.Thread(target=self._work, name="ingest", daemon=True),
        ]

    def _with_callbacks(self, client: BulkClient) -> BulkClient:
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        # With this callback set, paho only notes that it wants to write; else every ack would write at once.
        client.on_socket_register_write = self._on_wants_write
        return client

    # --- what the rest of the service needs ------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to connect, for ever; returns at once."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finishes the batch in hand, sends its acks, disconnects. The session stays and keeps what comes."""
        self._stopping.set()
        self._arrived.set()
        listen, work = self._threads
        if work.ident is not None:
            work.join()
            self._closing_since = time.monotonic()
            self._closing.set()
            self._wake()
            listen.join()
        self._woken.close()
        self._waker.close()

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection and all subscriptions."""
        return self._connected_at is not None and self._subscribed

    @property
    def waiting(self) -> int:
        """Messages taken from the broker that no batch has taken up yet."""
        return len(self._queue)

    def lag_ms(self, now: int) -> int:
        """How long the oldest message has waited that is not yet stored and decided."""
        since = self._in_hand_since
        if since is None:
            try:
                since = self._queue[0].received_at
            except IndexError:
                return 0
        return max(0, now - since)

    def attending(self, now: int) -> bool:
        """Whether silence means something: connected, the backlog taken in, and nothing waiting over a second."""
        return self.connected and self._caught_up and self.lag_ms(now) <= LAG_MS

    def publish(self, topic: str, payload: bytes, timeout_s: float = 5.0) -> bool:
        """Sends a command with QoS 1. True: the broker has it. False: not connected, or not acknowledged in time
        (then it may still arrive)."""
        if not self.connected:
            return False
        sent = self._client.publish(topic, payload, qos=1)
        self._wake()
        if sent.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
            return False
        try:
            sent.wait_for_publish(timeout_s)
            return sent.is_published()
        except (RuntimeError, ValueError):
            return False

    # --- network thread --------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        pause_s, longest_s = RECONNECT_S
        while not self._closing.is_set():
            connects = self.counts.connects
            self._connect_and_pump()
            pause_s = RECONNECT_S[0] if self.counts.connects > connects else min(2 * pause_s, longest_s)
            self._closing.wait(pause_s)

    def _connect_and_pump(self) -> None:
        try:
            self._client.reconnect()
            self._pump()
        except OSError as error:
            log.warning("mqtt_unreachable", why=str(error))
        except Exception:
            # paho passes on whatever a packet or a callback raised; the ear must survive that and connect anew.
            log.exception("mqtt_failed")
        if self._connected_at is None:
            self.counts.connect_failures += not self._closing.is_set()
        self._forget_connection()

    def _pump(self) -> None:
        """Moves packets both ways until the connection ends."""
        while (sock := self._client.socket()) is not None:
            if self._closing.is_set() and self._said_everything():
                self._client.disconnect()
                self._client.loop_write()
                return
            readable = self._await_traffic(sock)
            self.send_acks()
            if readable:
                self._read_burst()
            if self._client.want_write():
                self._client.loop_write()
            self._client.loop_misc()

    def _said_everything(self) -> bool:
        """Whether the last acks are out, or the broker has had its time to take them."""
        nothing_left = not self._acks and not self._client.want_write()
        return nothing_left or time.monotonic() - self._closing_since > FAREWELL_S

    def _await_traffic(self, sock: Any) -> bool:
        """Waits until there is something to do; True when the socket is to be read."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        # With the queue full the socket is left alone: the broker feels the back-pressure, not our memory.
        full = self._full()
        events = (0 if full else select.POLLIN) | (select.POLLOUT if self._client.want_write() else 0)
        poll.register(sock.fileno(), events)
        pending = not full and (self._client.has_read_ahead or (isinstance(sock, ssl.SSLSocket) and sock.pending() > 0))
        ready = dict(poll.poll(0 if pending else 500))
        if self._woken.fileno() in ready:
            self._woken.recv(4096)
        gone = ready.get(sock.fileno(), 0) & (select.POLLHUP | select.POLLERR | select.POLLNVAL)
        readable = pending or bool(ready.get(sock.fileno(), 0) & select.POLLIN)
        if not readable:
            self.note_quiet()
        return bool(gone) or (readable and not full)

    def _full(self) -> bool:
        return len(self._queue) >= self._queue_limit or self.counts.received_bytes - self._taken_bytes > QUEUE_BYTES

    def note_quiet(self) -> None:
        """There is nothing to read now. The broker sends faster than we read, so some time after the connect that
        means that there is no backlog."""
        if not self._caught_up:
            settled = self._connected_at is not None and self._now() - self._connected_at >= self._settle_ms
            self._caught_up = settled and len(self._queue) < self._batch_limit

    def _read_burst(self) -> None:
        """Reads what is there. loop_read() takes one packet; no new message after it means there was none."""
        counts = self.counts
        for _ in range(BURST):
            before = counts.received
            if self._client.loop_read() or counts.received == before or self._full():
                break
        self._arrived.set()

    def send_acks(self) -> None:
        """Hand the acks of what is done to the client. Those whose connection is gone are withheld: after a reconnect
        packet ids begin again, and a stale ack would stand for another message. Connects and disconnects happen in this
        very thread, never in between."""
        acks, mids = self._acks, []
        while acks:
            theirs, mid = acks.popleft()
            if theirs == self._generation:
                mids.append(mid)
            else:
                self.counts.stale_acks += 1
        if mids:
            self._client.ack_all(mids)
            self.counts.acked += len(mids)

    def _wake(self) -> None:
        # A full line is full of wake-ups already; a closed one leads to nobody.
        with suppress(OSError):
            self._waker.send(b"!")

    def _forget_connection(self) -> None:
        self._generation += 1
        self._connected_at = None
        self._subscribed = False
        self._caught_up = False

    # --- paho's callbacks, in the network thread -------------------------------------------------------------------

    def _on_connect(self, client: mqtt.Client, _: Any, flags: Any, reason: Any, __: Any) -> None:
        self._forget_connection()
        if reason.is_failure:
            log.error("mqtt_refused", why=str(reason))
            return
        self.counts.connects += 1
        if not flags.session_present:
            self.counts.sessions_begun += 1
            log.warning("mqtt_session_begun")
        self._connected_at = self._now()
        client.subscribe([(topic, 1) for topic in TOPICS])

    def _on_disconnect(self, _: mqtt.Client, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        if self._connected_at is not None and not self._closing.is_set():
            log.warning("mqtt_disconnected", why=str(reason))
        self._forget_connection()

    def _on_subscribe(self, _: mqtt.Client, __: Any, ___: int, granted: list[Any], ____: Any) -> None:
        self._subscribed = _all_granted(granted)
        if not self._subscribed:
            log.error("mqtt_subscription_refused", granted=[str(code) for code in granted])

    def _on_message(self, _: mqtt.Client, __: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # Rejected as a bad topic, like any other.
        # QoS 0 has no packet id and gets no ack.
        heard = _Heard(self._generation, message.mid, topic, bytes(message.payload), self._now(), message.retain)
        self._queue.append(heard)
        self.counts.received += 1
        self.counts.received_bytes += len(message.payload)

    def _on_wants_write(self, _: mqtt.Client, __: Any, ___: Any) -> None:
        """Whoever queues a packet from another thread wakes the network thread itself: once, not once a packet."""

    # --- worker thread ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while self._await_messages():
            pause_s, longest_s = RETRY_S
            while not self.work_off():
                if self._stopping.wait(pause_s):
                    return
                pause_s = min(2 * pause_s, longest_s)

    def work_off(self) -> bool:
        """Take a batch off the queue, have it stored and decided, and its acks made ready. False where it could not
        be: then it stays in hand, and the next call tries it again."""
        if self._in_hand is None:
            batch = self._take()
            if not batch:
                return True
            self._in_hand_since = batch[0].received_at
            self._in_hand = batch, self._read_all(batch)
        batch, arrivals = self._in_hand
        if arrivals and not self._observed(arrivals):
            return False
        self.counts.batches += 1
        self._acks.extend((heard.generation, heard.mid) for heard in batch if heard.mid)
        self._wake()
        self._in_hand = self._in_hand_since = None
        return True

    def _await_messages(self) -> bool:
        """True once there is something to do; False when asked to stop: what is queued stays with the broker."""
        while not self._queue and not self._stopping.is_set():
            self._arrived.wait()
            self._arrived.clear()
        if len(self._queue) < self._batch_limit:
            # Messages a few milliseconds apart share one commit.
            self._stopping.wait(self._linger_s)
        return not self._stopping.is_set()

    def _take(self) -> list[_Heard]:
        batch: list[_Heard] = []
        size = 0
        while self._queue and len(batch) < self._batch_limit and size < BATCH_BYTES:
            heard = self._queue.popleft()
            size += len(heard.payload)
            batch.append(heard)
        self._taken_bytes += size
        return batch

    def _read_all(self, batch: list[_Heard]) -> list[Arrival]:
        arrivals: list[Arrival] = []
        for heard in batch:
            if heard.retained:
                self.counts.retained += 1  # A copy of what was heard when it happened: no news.
            else:
                arrivals += self._arrivals(heard)
        return arrivals

    def _arrivals(self, heard: _Heard) -> list[Arrival]:
        try:
            return self._read(heard.topic, heard.payload, heard.received_at)
        except Exception:
            # Reading is meant never to raise. Where it does, one message must not hold up all that come after it.
            log.exception("read_failed", bytes=len(heard.payload))
            return [unreadable(heard.topic, heard.payload, heard.received_at)]

    def _observed(self, arrivals: Sequence[Arrival]) -> bool:
        try:
            self._observe(arrivals, self._now())
        except Exception:
            # Whatever it was, nothing is acked and nothing is lost; the same batch is tried again.
            self.counts.observe_failures += 1
            log.exception("observe_failed", arrivals=len(arrivals))
            return False
        return True


def _new_client(address: Address, client_id: str) -> BulkClient:
    client = BulkClient(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False, manual_ack=True)
    address.set_up(client)
    client.connect_async(address.host, address.port, KEEPALIVE_S)
    return client


def begin_session(address: Address, client_id: str, timeout_s: float) -> None:
    """Makes the durable session of this client id and its subscriptions, and leaves it behind.

    Done before devices may connect: a broker keeps nothing for a subscriber that it does not know.
    """
    client = address.client(client_id, clean_session=False)
    outcome: deque[str] = deque()
    done = threading.Event()

    def on_connect(client: mqtt.Client, _: Any, __: Any, reason: Any, ___: Any) -> None:
        if reason.is_failure:
            outcome.append(f"the broker refused the service: {reason}")
            done.set()
        else:
            client.subscribe([(topic, 1) for topic in TOPICS])

    def on_subscribe(_: mqtt.Client, __: Any, ___: int, granted: list[Any], ____: Any) -> None:
        if not _all_granted(granted):
            outcome.append("the broker refused the service's subscriptions")
        done.set()

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.connect(address.host, address.port, KEEPALIVE_S)
    client.loop_start()
    answered = done.wait(timeout_s)
    client.disconnect()
    client.loop_stop()
    if outcome or not answered:
        raise ConnectionError(outcome[0] if outcome else f"the broker did not answer within {timeout_s:.0f} s")


def _all_granted(granted: list[Any]) -> bool:
    return len(granted) == len(TOPICS) and all(code.value == 1 for code in granted)


def _wake_up_line() -> tuple[socket.socket, socket.socket]:
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    return woken, waker


def _now() -> int:
    return time.time_ns() // 1_000_000
