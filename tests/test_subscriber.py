"""The service's ear on real brokers: nothing is acknowledged before it is stored, nothing acknowledged is lost."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest.broker import Broker
from ingest.connection import Address, BadAddress
from ingest.credentials import Credential
from ingest.message import parse
from ingest.passwords import PasswordFiles
from ingest.subscriber import Subscriber, begin_session
from monitor.devices import topic
from monitor.readings import Arrival, Reading, Rejected, Status
from tests.brokers import Client, as_device, mosquitto, nats_broker, now_ms
from tests.patience import PATIENCE_S, until
from tests.programs import free_port

DEVICE = topic("gen-1")


class Store:
    """What observe was given; a test may have it fail, or hold it."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.batches: list[int] = []
        self.calls = 0
        self.failures_left = 0
        self.open = threading.Event()
        self.open.set()

    def observe(self, arrivals: Sequence[Arrival], now: int) -> None:
        assert all(arrival.received_at <= now for arrival in arrivals)
        self.calls += 1
        assert self.open.wait(PATIENCE_S)
        if self.failures_left:
            self.failures_left -= 1
            raise RuntimeError("the disk is full")
        self.arrivals += arrivals
        self.batches.append(len(arrivals))

    @property
    def seqs(self) -> list[int]:
        return [arrival.body.seq for arrival in self.arrivals if isinstance(arrival.body, Reading)]


def reading(seq: int) -> str:
    return json.dumps({"boot": 1, "seq": seq, "at": now_ms(), "state": "running", "values": {"rpm": 1500}})


@contextmanager
def listening(address: Address, client_id: str, store: Store, **options: Any) -> Iterator[Subscriber]:
    subscriber = Subscriber(address, client_id, store.observe, **options)
    subscriber.start()
    try:
        until(lambda: subscriber.connected, what="the subscriber is connected")
        yield subscriber
    finally:
        store.open.set()
        subscriber.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with nats_broker(tmp_path) as broker:
        yield broker


@pytest.fixture
def card(broker: Broker) -> Credential:
    return broker.mint("gen-1", now_ms())


@pytest.fixture
def device(broker: Broker, card: Credential) -> Iterator[Client]:
    with as_device(broker, card) as device:
        yield device


@pytest.fixture
def session(broker: Broker) -> tuple[Address, str]:
    return broker.service(now_ms())


# --- nothing is lost -----------------------------------------------------------------------------------------------


def test_messages_come_in_order_and_are_acked(session: tuple[Address, str], device: Client) -> None:
    store = Store()
    with listening(*session, store) as subscriber:
        for seq in range(200):
            device.paho.publish(f"{DEVICE}/telemetry", reading(seq), qos=1)
        until(lambda: subscriber.counts.acked == 200)
        assert store.seqs == list(range(200))
        assert sum(store.batches) == 200
        assert subscriber.counts.sessions_begun == 0


def test_messages_a_few_milliseconds_apart_share_a_commit(session: tuple[Address, str], device: Client) -> None:
    store = Store()
    with listening(*session, store, linger_s=0.2) as subscriber:
        for seq in range(20):
            device.publish(f"{DEVICE}/telemetry", reading(seq))
        until(lambda: subscriber.counts.acked == 20)
        assert len(store.batches) < 10


def test_what_cannot_be_stored_is_tried_again_and_not_acked(session: tuple[Address, str], device: Client) -> None:
    store = Store()
    store.failures_left = 3
    with listening(*session, store) as subscriber:
        device.publish(f"{DEVICE}/telemetry", reading(0))
        until(lambda: store.calls >= 2)
        assert (subscriber.counts.acked, store.seqs) == (0, [])
        until(lambda: subscriber.counts.acked == 1)
        assert subscriber.counts.observe_failures == 3
        device.publish(f"{DEVICE}/telemetry", reading(1))
        until(lambda: store.seqs == [0, 1])


def test_what_was_not_stored_comes_again_to_the_next_service(session: tuple[Address, str], device: Client) -> None:
    failing, store = Store(), Store()
    failing.failures_left = 10**9
    with listening(*session, failing) as subscriber:
        for seq in range(30):
            device.publish(f"{DEVICE}/telemetry", reading(seq))
        until(lambda: subscriber.counts.received == 30)
    assert subscriber.counts.acked == 0
    device.publish(f"{DEVICE}/telemetry", reading(30))
    with listening(*session, store):
        until(lambda: sorted(set(store.seqs)) == list(range(31)))


def test_stop_finishes_the_batch_in_hand(session: tuple[Address, str], device: Client) -> None:
    store = Store()
    store.open.clear()
    with listening(*session, store) as subscriber:
        device.publish(f"{DEVICE}/telemetry", reading(0))
        until(lambda: store.calls == 1)
        stopping = threading.Thread(target=subscriber.stop)
        stopping.start()
        store.open.set()
        stopping.join(PATIENCE_S)
        assert (store.seqs, subscriber.counts.acked) == ([0], 1)
        # The context stops it once more: that is allowed.
    again = Store()
    with listening(*session, again):
        device.publish(f"{DEVICE}/telemetry", reading(1))
        until(lambda: again.seqs)
        assert again.seqs == [1]


def test_an_ack_never_reaches_a_later_connection(
    broker: Broker, session: tuple[Address, str], card: Credential
) -> None:
    """After the broker's restart packet ids begin again: a late ack for the old 1 would swallow the new 1."""
    store = Store()
    store.open.clear()
    with listening(*session, store, linger_s=0.3) as subscriber:
        with as_device(broker, card) as device:
            for seq in range(10):
                device.publish(f"{DEVICE}/telemetry", reading(seq))
        until(lambda: store.calls == 1)
        assert broker.pid
        os.kill(broker.pid, signal.SIGKILL)
        until(lambda: subscriber.counts.connects == 2 and subscriber.connected)
        store.open.set()
        until(lambda: subscriber.counts.stale_acks >= 1)
        with as_device(broker, card) as device:
            device.publish(f"{DEVICE}/telemetry", reading(10))
        # Those withheld come again, are stored again (the engine knows them by name), and are acked then.
        until(lambda: subscriber.counts.acked >= 11)
        assert subscriber.counts.stale_acks == store.batches[0]
        assert set(store.seqs) == set(range(11))


def test_a_full_queue_holds_the_broker_back(session: tuple[Address, str], device: Client) -> None:
    store = Store()
    store.open.clear()
    with listening(*session, store, queue_limit=50, batch_limit=10) as subscriber:
        for seq in range(400):
            device.paho.publish(f"{DEVICE}/telemetry", reading(seq), qos=1)
        until(lambda: subscriber.waiting >= 50)
        until(lambda: not device.paho._out_messages, what="the broker has all 400")
        assert subscriber.counts.received <= 62  # the queue, the batch in hand, and the one that found it full
        store.open.set()
        until(lambda: set(store.seqs) == set(range(400)))
        assert max(store.batches) <= 10


# --- what is not a reading -----------------------------------------------------------------------------------------


def test_what_breaks_the_contract_is_handed_on_and_acked(session: tuple[Address, str], device: Client) -> None:
    store = Store()
    with listening(*session, store) as subscriber:
        device.publish(f"{DEVICE}/telemetry", b"\xff\x00 no json")
        device.publish(f"{DEVICE}/event", b"x" * (300 * 1024))
        device.publish(f"{DEVICE}/telemetry", reading(0))
        until(lambda: subscriber.counts.acked == 3)
    # The broker promises order within a topic, not between two.
    reasons = sorted(arrival.body.reason for arrival in store.arrivals if isinstance(arrival.body, Rejected))
    assert (reasons, store.seqs) == (["bad_json", "too_large"], [0])


def test_a_message_at_which_reading_itself_breaks_holds_up_no_other(
    session: tuple[Address, str], device: Client
) -> None:
    def brittle(topic: str, payload: bytes, received_at: int) -> list[Arrival]:
        if payload == b"boom":
            raise ZeroDivisionError
        return parse(topic, payload, received_at)

    store = Store()
    with listening(*session, store, read=brittle) as subscriber:
        for payload in (reading(0), "boom", reading(1)):
            device.publish(f"{DEVICE}/telemetry", payload)
        until(lambda: subscriber.counts.acked == 3)
    (rejected,) = [arrival.body for arrival in store.arrivals if isinstance(arrival.body, Rejected)]
    assert (rejected.reason, rejected.topic, rejected.payload) == ("unreadable", f"{DEVICE}/telemetry", b"boom")
    assert store.seqs == [0, 1]


@contextmanager
def either_broker(kind: str, folder: Path) -> Iterator[tuple[tuple[Address, str], Address, str]]:
    """A broker with the service's session made: where and as whom the service connects, and a device."""
    if kind == "nats":
        with nats_broker(folder) as nats:
            (address, client_id), card = nats.service(now_ms()), nats.mint("gen-1", now_ms())
            device = Address("127.0.0.1", nats.port, card.username, card.password)
            yield (address, client_id), device, card.client_id
    else:
        with mosquitto(folder) as other:
            begin_session(other.address, "fettle", 10)
            yield (other.address, "fettle"), other.address, "gen-1"


def status(at: int) -> str:
    return json.dumps({"state": "online", "boot": 1, "at": at})


@pytest.mark.parametrize("kind", ["nats", "mosquitto"])
def test_a_status_is_news_once_and_its_retained_copies_are_not(kind: str, tmp_path: Path) -> None:
    with either_broker(kind, tmp_path) as (session, address, client_id), Client(address, client_id) as device:
        for at in (10, 20):
            device.publish(f"{DEVICE}/status", status(at), retain=True)
            store = Store()
            assert _heard_beside_a_copy(session, store, device, at + 1) == {at, at + 1}


def _heard_beside_a_copy(session: tuple[Address, str], store: Store, device: Client, at: int) -> set[int]:
    """Status times that were news: said while the service was away, and said (`at`) while it listened."""
    with listening(*session, store) as subscriber:
        until(lambda: subscriber.counts.retained == 1, what="the copy kept for whoever comes")
        device.publish(f"{DEVICE}/status", status(at), retain=True)
        until(lambda: len(store.arrivals) == 2)
        until(lambda: subscriber.counts.acked == 3)
    return {arrival.body.at for arrival in store.arrivals if isinstance(arrival.body, Status)}


# --- attention -----------------------------------------------------------------------------------------------------


def test_attending_means_connected_settled_and_not_behind(
    broker: Broker, session: tuple[Address, str], device: Client
) -> None:
    store = Store()
    with listening(*session, store, settle_s=0.5) as subscriber:
        assert not subscriber.attending(now_ms())
        until(lambda: subscriber.attending(now_ms()))
        store.open.clear()
        device.publish(f"{DEVICE}/telemetry", reading(0))
        until(lambda: store.calls == 1)
        heard_at = now_ms()
        assert not subscriber.attending(heard_at + 2000)
        store.open.set()
        until(lambda: subscriber.attending(now_ms() + 2000))
        assert broker.pid
        os.kill(broker.pid, signal.SIGKILL)
        until(lambda: not subscriber.attending(now_ms()))
        until(lambda: subscriber.attending(now_ms()))


def test_it_connects_whenever_the_broker_comes(tmp_path: Path) -> None:
    port = free_port()
    store = Store()
    subscriber = Subscriber(Address("127.0.0.1", port), "fettle", store.observe)
    subscriber.start()
    try:
        until(lambda: subscriber.counts.connect_failures >= 2)
        for _ in range(2):
            with mosquitto(tmp_path, port=port) as broker:
                until(lambda: subscriber.connected)
                with Client(broker.address, "gen-1") as device:
                    device.publish(f"{DEVICE}/telemetry", reading(0))
                until(lambda: store.arrivals)
                assert store.seqs == [0]
                store.arrivals.clear()
            until(lambda: not subscriber.connected)
    finally:
        subscriber.stop()


# --- commands ------------------------------------------------------------------------------------------------------


def test_commands_reach_the_device(session: tuple[Address, str], device: Client) -> None:
    device.subscribe(f"{DEVICE}/command")
    with listening(*session, Store()) as subscriber:
        assert subscriber.publish(f"{DEVICE}/command", b'{"command":"diagnose"}')
        until(lambda: device.heard)
    assert device.heard == [(f"{DEVICE}/command", b'{"command":"diagnose"}')]
    assert not subscriber.publish(f"{DEVICE}/command", b"{}"), "there is no connection any more"


# --- the example of the wire contract ------------------------------------------------------------------------------


def test_the_example_firmware_speaks_the_contract(
    tmp_path: Path, session: tuple[Address, str], card: Credential
) -> None:
    page = (Path(__file__).parent.parent / "docs" / "wire-contract.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    host, port = session[0].host, session[0].port
    mqtt = {"host": host, "port": port, "client_id": card.client_id, "topic": card.topic}
    mqtt |= {"username": card.username, "password": card.password}
    (tmp_path / "card.json").write_text(json.dumps({"device_id": "gen-1", "mqtt": mqtt}))
    store = Store()
    with listening(*session, store), subprocess.Popen([sys.executable, "-c", example], cwd=tmp_path) as firmware:
        until(lambda: len(store.arrivals) == 2)
        firmware.kill()
        assert {type(arrival.body) for arrival in store.arrivals} == {Status, Reading}
        until(lambda: len(store.arrivals) == 3, what="its last will")
        assert getattr(store.arrivals[-1].body, "state", "") == "lost"


# --- an outside broker ---------------------------------------------------------------------------------------------


def test_mosquitto_with_our_password_and_acl_files(tmp_path: Path) -> None:
    files = PasswordFiles(tmp_path)
    mine, theirs, thiefs = (files.mint(name, now_ms()) for name in ("gen-1", "gen-2", "gen-1"))
    with mosquitto(tmp_path, files.passwd, files.acl, anonymous=False) as broker:
        address, client_id = files.service(broker.address)
        broker.reload()
        # The login was made after mosquitto's start, so it may take the reload a moment to know it.
        until(lambda: _signs_in(address))
        store = Store()
        begin_session(address, client_id, 10)
        # This version of mosquitto may disconnect whoever publishes what is denied, so that is a login of its own.
        with _client(broker.address, thiefs) as thief:
            thief.publish(f"{theirs.topic}/telemetry", reading(1))
        with (
            listening(address, client_id, store) as subscriber,
            _client(broker.address, mine) as device,
            _client(broker.address, theirs) as other,
        ):
            device.publish(f"{mine.topic}/telemetry", reading(2))
            assert device.subscribe(f"{mine.topic}/command")
            device.subscribe("#")
            device.subscribe(f"{theirs.topic}/command")
            assert other.subscribe(f"{theirs.topic}/command")
            until(lambda: store.arrivals)
            assert subscriber.publish(f"{theirs.topic}/command", b"for gen-2")
            until(lambda: other.heard)
            assert subscriber.publish(f"{mine.topic}/command", b"for gen-1")
            until(lambda: device.heard)
            assert {payload for _, payload in device.heard} == {b"for gen-1"}
            assert (store.seqs, {arrival.device_id for arrival in store.arrivals}) == ([2], {"gen-1"})
            files.revoke([mine.username])
            broker.reload()
            until(lambda: device.answer == "Not authorized", what="the revoked device is cut off")
            assert (other.disconnects, subscriber.counts.connects) == (0, 1)
        with Client(broker.address, "stranger") as stranger:
            assert stranger.answer == "Not authorized"


def _client(address: Address, card: Credential) -> Client:
    return Client(Address(address.host, address.port, card.username, card.password), card.client_id)


def _signs_in(address: Address) -> bool:
    with Client(address, "probe") as probe:
        return probe.answer == "Success"


def test_the_files_know_the_service_by_the_name_in_its_url(tmp_path: Path) -> None:
    files = PasswordFiles(tmp_path)
    files.mint("gen-1", now_ms())
    address, client_id = files.service(Address("127.0.0.1", 1, "plant", "pass:word"))
    written = files.passwd.read_text()
    assert files.service(address) == (address, client_id)
    assert files.passwd.read_text() == written, "nothing new, nothing written"
    assert files.passwd.stat().st_mode & 0o777 == 0o600
    files.passwd.chmod(0o640)
    with mosquitto(tmp_path, files.passwd, files.acl, anonymous=False) as broker:
        assert _signs_in(Address("127.0.0.1", broker.port, "plant", "pass:word"))
        assert not _signs_in(Address("127.0.0.1", broker.port, "plant", "password"))
        with listening(Address("127.0.0.1", broker.port, "plant", "pass:word"), client_id, Store()):
            pass
    files.mint("gen-2", now_ms())
    assert files.passwd.stat().st_mode & 0o777 == 0o640


def test_mosquitto_keeps_what_came_while_the_service_was_away(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        begin_session(broker.address, "fettle", 10)
        with Client(broker.address, "gen-1") as device:
            for seq in range(2000):
                device.paho.publish(f"{DEVICE}/telemetry", reading(seq), qos=1)
            until(lambda: not device.paho._out_messages)
        store = Store()
        with listening(broker.address, "fettle", store) as subscriber:
            until(lambda: subscriber.counts.acked == 2000)
            assert store.seqs == list(range(2000))


# --- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://broker", Address("broker")),
        ("mqtt://broker:1884/", Address("broker", 1884)),
        ("mqtts://broker", Address("broker", 8883, tls=True)),
        ("mqtt://me:p%40ss%3A@[::1]:1883", Address("::1", 1883, "me", "p@ss:")),
        ("mqtts://me@10.0.0.1", Address("10.0.0.1", 8883, "me", tls=True)),
    ],
)
def test_addresses(url: str, address: Address) -> None:
    assert Address.parse(url) == address


@pytest.mark.parametrize(
    "url",
    ["", "broker:1883", "http://broker", "mqtt://", "mqtt://broker:x", "mqtt://me:secret@broker/topic", "mqtt://b?x"],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(BadAddress, match="mqtt://") as error:
        Address.parse(url)
    assert "secret" not in str(error.value)
