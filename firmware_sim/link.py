"""One machine's MQTT connection, fed by hand from a loop that many share.

The queue is ours, not paho's: paho sends what it is given before the broker has accepted the connection, and lets
new messages overtake old ones after a reconnect. So every connection is a client of its own, a message is handed to
it only while it stands, at most `IN_FLIGHT` wait for their PUBACK, and after a break those go first again, in order.
"""

import logging
from collections import deque
from collections.abc import Iterable

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from firmware_sim.wire import Message

IN_FLIGHT = 20
QUEUE_LIMIT = 5_000
INBOX_LIMIT = 16
KEEPALIVE_S = 15
CONNECT_TIMEOUT_S = 2.0
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0)

log = logging.getLogger("firmware_sim")


class Mqtt(msgspec.Struct, frozen=True):
    """Where and as whom a machine connects, as `fettle device add` prints it."""

    host: str
    port: int
    client_id: str
    username: str
    password: str
    topic: str

    def __repr__(self) -> str:
        return f"Mqtt({self.host}:{self.port} {self.topic})"


class Card(msgspec.Struct, frozen=True):
    """All that a machine's firmware is told about the service."""

    device_id: str
    profile: str
    mqtt: Mqtt


class Link:
    """Connection and outgoing queue of one machine. Nothing here blocks but `connect`, for two seconds at most."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.up = False
        """Whether the broker has accepted the connection and it still stands."""
        self.boot = -1
        """The boot whose greeting this connection carries."""
        self.queue: deque[Message] = deque()
        self.inbox: deque[bytes] = deque(maxlen=INBOX_LIMIT)
        self.dropped = 0
        """Messages given up because the queue was full."""
        self._sent: dict[int, Message] = {}
        self._returned = 0
        self._client: paho.Client | None = None
        self._greeting: Message | None = None
        self._failures = 0
        self._retry_at_s = 0.0

    # Connecting

    def may_connect(self, now_s: float) -> bool:
        """Whether it is time to try (again); `now_s` is any monotonic time."""
        return self._client is None and now_s >= self._retry_at_s

    def connect(self, greeting: Message, will: Message, boot: int, now_s: float) -> bool:
        """Open the connection; the greeting follows once the broker has accepted. False: try again later."""
        mqtt = self.card.mqtt
        self._retry_at_s = now_s + BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
        self._failures += 1
        self.boot, self._greeting = boot, greeting
        client = paho.Client(
            CallbackAPIVersion.VERSION2, mqtt.client_id, clean_session=True, reconnect_on_failure=False
        )
        client.username_pw_set(mqtt.username, mqtt.password)
        client.will_set(self._topic(will), will.payload, qos=1, retain=True)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish, client.on_message = self._on_publish, self._on_message
        try:
            client.connect(mqtt.host, mqtt.port, KEEPALIVE_S)
        except OSError as error:
            log.debug("%s cannot reach the broker: %s", self.card.device_id, error)
            return False
        self._client = client
        return True

    def cut(self) -> None:
        """Break the connection as a dead radio does, without a word: the broker will publish the will."""
        client, self._client = self._client, None
        if client is None:
            return
        self._fallen()
        sock = client.socket()
        if sock is not None:
            sock.close()

    def part(self) -> None:
        """Close the connection politely: the broker forgets the will."""
        if self._client is not None:
            self._client.disconnect()
        self._client, self.up = None, False

    # The queue

    def offer(self, messages: Iterable[Message]) -> None:
        """Queue messages behind what waits; where the queue is full the oldest go, counted in `dropped`."""
        self.queue.extend(messages)
        while len(self.queue) > QUEUE_LIMIT:
            self.queue.popleft()
            self.dropped += 1

    @property
    def waiting(self) -> int:
        """How many messages have no PUBACK yet."""
        return len(self.queue) + len(self._sent)

    def fill(self) -> None:
        """Hand messages on while the connection stands and few are under way."""
        while self.up and self.queue and len(self._sent) < IN_FLIGHT:
            self._publish(self.queue.popleft())

    def _publish(self, message: Message) -> None:
        if self._client is None:
            self.queue.appendleft(message)
            return
        mid = self._client.publish(self._topic(message), message.payload, qos=1, retain=message.retain).mid
        if self.up:
            self._sent[mid] = message
        elif message.suffix != "status":
            # The write itself found the connection broken, and what was under way is back in the queue before it.
            self.queue.insert(self._returned, message)

    def _fallen(self) -> None:
        """What has no PUBACK goes back to the head of the queue, but for words about a connection that is no more."""
        back = [message for message in self._sent.values() if message.suffix != "status"]
        self._returned = len(back)
        self.queue.extendleft(reversed(back))
        self._sent.clear()
        self.up = False

    def _topic(self, message: Message) -> str:
        return f"{self.card.mqtt.topic}/{message.suffix}"

    # The loop's side

    def fileno(self) -> int:
        """The socket to wait on, -1 where there is none."""
        sock = self._client.socket() if self._client else None
        return sock.fileno() if sock is not None else -1

    def wants_write(self) -> bool:
        return self._client is not None and self._client.want_write()

    def serve(self, readable: bool, writable: bool) -> None:
        """Move what the socket is ready for."""
        if self._client and readable:
            self._client.loop_read()
        if self._client and writable:
            self._client.loop_write()

    def tick(self) -> None:
        """Keep-alive; call it about once a second."""
        if self._client:
            self._client.loop_misc()

    # What paho calls, always from within the loop

    def _on_connect(
        self,
        client: paho.Client,
        _data: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            log.warning("the broker refuses %s: %s", self.card.device_id, reason)
            return
        self.up, self._failures = True, 0
        client.subscribe(f"{self.card.mqtt.topic}/command", qos=1)
        if self._greeting is not None:
            self._publish(self._greeting)

    def _on_disconnect(
        self,
        client: paho.Client,
        _data: object,
        _flags: paho.DisconnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if client is self._client:
            self._client = None
            self._fallen()

    def _on_publish(
        self, client: paho.Client, _data: object, mid: int, _reason: ReasonCode, _properties: Properties
    ) -> None:
        if client is self._client:
            self._sent.pop(mid, None)

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if not message.retain:
            self.inbox.append(bytes(message.payload))
