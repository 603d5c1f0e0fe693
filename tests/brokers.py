"""Real brokers on free ports for tests: the embedded nats-server, and Debian's mosquitto."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt import client as mqtt

from ingest.broker import Broker
from ingest.connection import Address
from ingest.credentials import Credential
from tests.patience import PATIENCE_S, until
from tests.programs import free_port, needs


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def nats_broker(home: Path, **options: Any) -> Iterator[Broker]:
    """The embedded broker of a data folder, stopped afterwards. `broker.service(now)` says how to subscribe."""
    broker = Broker(home, free_port(), **options)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@dataclass
class Mosquitto:
    """A running mosquitto."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.port)

    def reload(self) -> None:
        """Reads its password and acl files anew."""
        self.process.send_signal(signal.SIGHUP)


@contextmanager
def mosquitto(
    folder: Path,
    passwd: Path | None = None,
    acl: Path | None = None,
    anonymous: bool = True,
    port: int | None = None,
    persistence: Path | None = None,
) -> Iterator[Mosquitto]:
    """Debian's mosquitto with the limits that docs/wire-contract.md asks for."""
    program = needs("mosquitto")
    port = port or free_port()
    lines = [
        f"listener {port} 127.0.0.1",
        f"allow_anonymous {str(anonymous).lower()}",
        "max_queued_messages 0",
        "max_inflight_messages 8000",
        *([f"password_file {passwd}", "use_username_as_clientid true"] if passwd else []),
        *([f"acl_file {acl}"] if acl else []),
        *([f"persistence true\npersistence_location {persistence}/\nautosave_interval 1"] if persistence else []),
        *(["user root"] if os.geteuid() == 0 else []),
    ]
    config = folder / f"mosquitto-{port}.conf"
    config.write_text("\n".join(lines) + "\n")
    with (folder / f"mosquitto-{port}.log").open("ab") as output:
        process = subprocess.Popen([program, "-c", str(config)], stdout=output, stderr=output)
    try:
        until(lambda: _answers(port), what=f"mosquitto on port {port}")
        yield Mosquitto(port, process)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Client:
    """A bare paho client as a firmware would use it, whose every answer can be waited for."""

    def __init__(
        self, address: Address, client_id: str, clean_session: bool = True, will: tuple[str, bytes] | None = None
    ):
        self.heard: list[tuple[str, bytes]] = []
        self.granted: list[int] = []
        self.answer: str = ""
        self.connects = 0
        self.disconnects = 0
        self._subscribed = threading.Event()
        self.paho = address.client(client_id, clean_session=clean_session)
        self.paho.on_connect = self._on_connect
        self.paho.on_disconnect = self._on_disconnect
        self.paho.on_subscribe = self._on_subscribe
        self.paho.on_message = lambda _, __, message: self.heard.append((message.topic, bytes(message.payload)))
        if will:
            self.paho.will_set(will[0], will[1], qos=1, retain=True)
        self.paho.connect(address.host, address.port, 30)
        self.paho.loop_start()
        until(lambda: self.answer, what="an answer to CONNECT")

    def _on_connect(self, _: mqtt.Client, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        self.answer = str(reason)
        self.connects += not reason.is_failure

    def _on_disconnect(self, *_: Any) -> None:
        self.disconnects += 1

    def _on_subscribe(self, _: mqtt.Client, __: Any, ___: int, granted: list[Any], ____: Any) -> None:
        self.granted = [code.value for code in granted]
        self._subscribed.set()

    def subscribe(self, topic: str, qos: int = 1) -> bool:
        """Whether the broker granted it."""
        self._subscribed.clear()
        self.paho.subscribe(topic, qos)
        assert self._subscribed.wait(PATIENCE_S)
        return self.granted[0] < 128

    def publish(self, topic: str, payload: bytes | str, retain: bool = False) -> None:
        """Returns when the broker has acknowledged it."""
        sent = self.paho.publish(topic, payload, qos=1, retain=retain)
        sent.wait_for_publish(10)
        assert sent.is_published()

    def cut(self) -> None:
        """Ends the connection without a word, as a lost radio does."""
        sock: Any = self.paho.socket()
        self.paho.loop_stop()
        sock.close()

    def close(self) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def as_device(broker: Broker, card: Credential, **options: Any) -> Client:
    """Connects to an embedded broker with a device's card."""
    service, _ = broker.service(now_ms())
    address = Address(
        service.host, broker.port, card.username, card.password, service.tls, service.ca_file, service.pinned
    )
    return Client(address, card.client_id, **options)
