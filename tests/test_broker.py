"""The embedded broker: who may do what, and what survives. Every broker here is the real nats-server."""

import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from ingest.broker import Broker, BrokerFailed, Tls, nats_server
from ingest.connection import Address
from ingest.credentials import Keyring
from monitor.devices import topic
from tests.brokers import Client, as_device, nats_broker, now_ms
from tests.patience import until
from tests.programs import free_port, needs

EVENT = b'{"boot":1,"seq":0,"at":1,"event":"started"}'


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with nats_broker(tmp_path_factory.mktemp("home")) as broker:
        yield broker


@pytest.fixture
def witness(broker: Broker) -> Iterator[Client]:
    """Hears what the service would hear, in a session of its own."""
    address, client_id = broker.service(now_ms())
    with Client(address, f"{client_id}-witness") as witness:
        for kind in ("telemetry", "event", "status", "reply"):
            assert witness.subscribe(f"fettle/v1/+/+/{kind}")
        yield witness


def as_service(broker: Broker) -> Client:
    """The service's own session, as the subscriber takes it up."""
    address, client_id = broker.service(now_ms())
    return Client(address, client_id, clean_session=False)


# --- signing in ----------------------------------------------------------------------------------------------------


def test_nobody_comes_in_without_a_credential(broker: Broker) -> None:
    with Client(Address("127.0.0.1", broker.port), "anybody") as stranger:
        assert stranger.answer == "Not authorized"
    with Client(Address("127.0.0.1", broker.port, "gen-1", "letmein"), "anybody") as stranger:
        assert stranger.answer == "Not authorized"


def test_a_tampered_token_is_refused(broker: Broker) -> None:
    ours, theirs = broker.mint("gen-1", now_ms()), broker.mint("gen-2", now_ms())
    head, _, seal = ours.password.split(".")
    stranger = ".".join((head, theirs.password.split(".")[1], seal))
    with as_device(broker, replace(ours, password=stranger)) as client:
        assert client.answer == "Not authorized"


def test_a_token_of_another_installation_is_refused(broker: Broker, tmp_path: Path) -> None:
    with as_device(broker, Keyring(tmp_path).mint("gen-1", now_ms())) as client:
        assert client.answer == "Not authorized"


def test_a_device_token_does_not_open_the_nats_protocol(broker: Broker) -> None:
    card = broker.mint("gen-1", now_ms())
    assert broker.pid
    ports = {held.laddr.port for held in psutil.Process(broker.pid).net_connections("tcp") if held.status == "LISTEN"}
    (port,) = ports - {broker.port}
    with socket.create_connection(("127.0.0.1", port), 5) as plain:
        plain.recv(4096)
        plain.sendall(b'CONNECT {"verbose":false,"jwt":"%s"}\r\nPING\r\n' % card.password.encode())
        assert b"Authorization Violation" in plain.recv(4096)


# --- rights --------------------------------------------------------------------------------------------------------


def test_a_forged_publish_never_arrives(broker: Broker, witness: Client) -> None:
    mine, theirs = topic("gen-1"), topic("gen-2")
    with as_device(broker, broker.mint("gen-1", now_ms())) as device:
        device.publish(f"{theirs}/telemetry", "forged")
        device.publish(f"{theirs}/status", "forged", retain=True)
        device.publish(f"{theirs}/command", "forged")
        device.publish(f"{mine}/command", "forged")
        device.publish(f"{mine}/telemetry", "honest")
        until(lambda: witness.heard)
    assert witness.heard == [(f"{mine}/telemetry", b"honest")]
    # Nor did the broker keep the retained one for whoever comes later.
    address, client_id = broker.service(now_ms())
    with Client(address, f"{client_id}-late") as late, as_device(broker, broker.mint("gen-1", now_ms())) as device:
        assert late.subscribe("fettle/v1/+/+/status")
        device.publish(f"{mine}/status", "honest")
        until(lambda: late.heard)
        assert late.heard == [(f"{mine}/status", b"honest")]


def test_a_forged_will_never_arrives(broker: Broker, witness: Client) -> None:
    forged = as_device(broker, broker.mint("gen-1", now_ms()), will=(f"{topic('gen-2')}/status", b"forged"))
    honest = as_device(broker, broker.mint("gen-3", now_ms()), will=(f"{topic('gen-3')}/status", b"lost"))
    forged.cut()
    honest.cut()
    until(lambda: witness.heard)
    assert witness.heard == [(f"{topic('gen-3')}/status", b"lost")]


@pytest.mark.parametrize("qos", [0, 1])
def test_a_device_reads_its_own_commands_only(broker: Broker, qos: int) -> None:
    mine, theirs = topic("gen-1"), topic("gen-2")
    address, client_id = broker.service(now_ms())
    with (
        as_device(broker, broker.mint("gen-1", now_ms())) as device,
        as_device(broker, broker.mint("gen-2", now_ms())) as other,
        Client(address, f"{client_id}-speaker") as service,
    ):
        for wish in ("#", "+/#", "fettle/#", f"{theirs}/command", f"{theirs}/telemetry", f"{mine}/telemetry",
                     "fettle/v1/+/+/command", "$MQTT/#", "$MQTT/sub/#", "$JS/#", "$SYS/#", "$share/g/#"):  # fmt: skip
            assert not device.subscribe(wish, qos), wish
        assert device.subscribe(f"{mine}/command", qos)
        assert other.subscribe(f"{theirs}/command", qos)
        service.publish(f"{theirs}/command", "for gen-2")
        service.publish(f"{mine}/command", "for gen-1")
        until(lambda: device.heard and other.heard)
        assert device.heard == [(f"{mine}/command", b"for gen-1")]
        assert other.heard == [(f"{theirs}/command", b"for gen-2")]


def test_a_command_waits_for_a_device_with_a_session(broker: Broker) -> None:
    card = broker.mint("gen-1", now_ms())
    with as_device(broker, card, clean_session=False) as device:
        assert device.subscribe(f"{card.topic}/command")
    address, client_id = broker.service(now_ms())
    with Client(address, f"{client_id}-speaker") as service:
        service.publish(f"{card.topic}/command", "diagnose")
    with as_device(broker, card, clean_session=False) as device:
        until(lambda: device.heard)
        assert device.heard == [(f"{card.topic}/command", b"diagnose")]


# --- client ids ----------------------------------------------------------------------------------------------------


def test_client_ids_cannot_be_guessed(broker: Broker, tmp_path: Path) -> None:
    cards = [broker.mint("gen-1", now_ms()) for _ in range(50)]
    assert len({card.client_id for card in cards}) == 50
    assert all(len(card.client_id) - len("gen-1-") == 32 for card in cards)
    service_id = broker.service(now_ms())[1]
    assert service_id != Keyring(tmp_path).service(now_ms()).client_id
    assert all(service_id not in str(card) + card.password for card in cards)


def test_a_device_takes_neither_the_services_session_nor_anothers_place(broker: Broker) -> None:
    card, other = broker.mint("gen-1", now_ms()), broker.mint("gen-2", now_ms())
    guesses = ["gen-2", "fettle", "service", other.public_key, topic("gen-2"), broker.service(now_ms())[0].username]
    with as_service(broker) as service, as_device(broker, other) as victim:
        for guess in guesses:
            with as_device(broker, replace(card, client_id=guess)) as thief:
                assert thief.answer == "Success"
        victim.publish(f"{other.topic}/event", EVENT)
        until(lambda: (f"{other.topic}/event", EVENT) in service.heard)
        assert (service.disconnects, victim.disconnects) == (0, 0)


def test_two_credentials_of_one_device_live_side_by_side(broker: Broker) -> None:
    with as_device(broker, broker.mint("gen-1", now_ms())) as box, as_device(broker, broker.mint("gen-1", now_ms())):
        box.publish(f"{topic('gen-1')}/event", EVENT)
        assert box.disconnects == 0


# --- revoking ------------------------------------------------------------------------------------------------------


def test_a_revoked_device_is_cut_off_at_once_and_for_good(tmp_path: Path) -> None:
    with nats_broker(tmp_path) as broker:
        old, renewed, other = (broker.mint(name, now_ms()) for name in ("gen-1", "gen-1", "gen-2"))
        with as_device(broker, old) as device, as_device(broker, other) as bystander:
            started = time.monotonic()
            broker.revoke({old.public_key: now_ms() // 1000})
            until(lambda: device.disconnects)
            print(f"cut off after {time.monotonic() - started:.3f} s")
            until(lambda: device.answer == "Not authorized")
            bystander.publish(f"{other.topic}/event", EVENT)
            assert bystander.disconnects == 0
        with as_device(broker, renewed) as box:
            assert box.answer == "Success"
    with nats_broker(tmp_path) as broker, as_device(broker, old) as device:
        assert device.answer == "Not authorized"


def test_a_reload_that_fails_becomes_a_restart(tmp_path: Path) -> None:
    """A broker that kept its old rights would go on serving a revoked device."""
    with nats_broker(tmp_path) as broker:
        old, other = broker.mint("gen-1", now_ms()), broker.mint("gen-2", now_ms())
        # A change that nats-server takes only at its start, so that it refuses to reload.
        broker._sync_interval = "2s"
        with as_device(broker, old) as device, as_device(broker, other) as bystander:
            broker.revoke({old.public_key: now_ms() // 1000})
            until(lambda: device.answer == "Not authorized")
            until(lambda: bystander.connects == 2)
        assert broker.restarts == 1


# --- what survives -------------------------------------------------------------------------------------------------


def test_what_comes_before_the_service_ever_connected_is_kept(tmp_path: Path) -> None:
    with nats_broker(tmp_path) as broker:
        card = broker.mint("gen-1", now_ms())
        with as_device(broker, card) as device:
            for number in range(20):
                device.publish(f"{card.topic}/event", str(number))
        with as_service(broker) as service:
            until(lambda: len(service.heard) == 20)
            assert [payload for _, payload in service.heard] == [str(number).encode() for number in range(20)]


def test_a_session_lost_with_its_storage_is_made_anew(tmp_path: Path) -> None:
    with nats_broker(tmp_path) as broker:
        card = broker.mint("gen-1", now_ms())
    (tmp_path / "broker" / "storage").rename(tmp_path / "lost")
    with nats_broker(tmp_path) as broker:
        with as_device(broker, card) as device:
            device.publish(f"{card.topic}/event", EVENT)
        with as_service(broker) as service:
            until(lambda: service.heard)
            assert service.heard == [(f"{card.topic}/event", EVENT)]


def test_a_killed_broker_comes_back_with_everything_acknowledged(tmp_path: Path) -> None:
    with nats_broker(tmp_path) as broker:
        card = broker.mint("gen-1", now_ms())
        with as_device(broker, card) as device:
            for number in range(50):
                device.publish(f"{card.topic}/event", str(number))
            killed = broker.pid
            assert killed
            os.kill(killed, signal.SIGKILL)
            until(lambda: device.connects == 2, what="the device is back")
            device.publish(f"{card.topic}/event", "50")
        assert broker.restarts == 1
        with as_service(broker) as service:
            until(lambda: len({payload for _, payload in service.heard}) == 51)


def test_stopped_it_is_gone_and_its_port_free(tmp_path: Path) -> None:
    with nats_broker(tmp_path) as broker:
        pid = broker.pid
        assert pid
    assert not psutil.pid_exists(pid)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", broker.port))


SERVICE = """
import sys, threading
from pathlib import Path
from ingest.broker import Broker
broker = Broker(Path(sys.argv[1]), int(sys.argv[2]))
broker.start()
print(broker.pid, flush=True)
threading.Event().wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_it_dies_with_a_killed_service_and_the_next_one_starts(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", SERVICE, str(tmp_path), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout
        pid = next(int(line) for line in service.stdout if line.strip().isdigit())
        service.kill()
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    broker = Broker(tmp_path, port)
    broker.start()
    broker.stop()


def test_a_broker_left_over_is_stopped_first(tmp_path: Path) -> None:
    with nats_broker(tmp_path) as broker:
        card = broker.mint("gen-1", now_ms())
    leftover = subprocess.Popen([nats_server(), "-c", str(broker.folder / "nats.conf")])
    (broker.folder / "nats.pid").write_text(str(leftover.pid))
    until(lambda: _connects(broker.port))
    # Reaps it as init would, were its parent dead.
    threading.Thread(target=leftover.wait).start()
    again = Broker(tmp_path, broker.port)
    again.start()
    try:
        assert leftover.poll() is not None
        with as_device(again, card) as device:
            assert device.answer == "Success"
    finally:
        again.stop()


def test_the_pid_of_a_stranger_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with stranger, nats_broker(tmp_path) as broker:
        (broker.folder / "nats.pid").write_text(str(stranger.pid))
        broker.stop()
        again = Broker(tmp_path, broker.port)
        again.start()
        again.stop()
        assert stranger.poll() is None
        stranger.kill()


def _connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- starting ------------------------------------------------------------------------------------------------------


def test_one_service_a_folder(tmp_path: Path) -> None:
    with nats_broker(tmp_path), pytest.raises(BrokerFailed, match="in use by another running service"):
        Broker(tmp_path, free_port()).start()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with pytest.raises(BrokerFailed, match="address already in use"):
            Broker(tmp_path, holder.getsockname()[1]).start()


def test_a_program_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerFailed, match="no-such-server is not a program"):
        Broker(tmp_path, free_port(), program=tmp_path / "no-such-server").start()
    with pytest.raises(BrokerFailed, match="ended at once: see"):
        Broker(tmp_path, free_port(), program=Path(needs("true"))).start()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 is not ours")
def test_bound_to_one_address_it_is_reached_there(tmp_path: Path) -> None:
    with nats_broker(tmp_path, bind="127.0.0.2") as broker, as_service(broker) as service:
        assert service.answer == "Success"
        assert not _connects(broker.port)


MINT = """
import sys
from pathlib import Path
from ingest.credentials import Keyring
keyring = Keyring(Path(sys.argv[1]))
print(keyring.account, keyring.mint("gen-1", 1_700_000_000_000).password)
"""


def test_cards_are_minted_before_the_first_start_by_many_processes_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    command = [sys.executable, "-c", MINT, str(folder)]
    minting = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate()[0].split() for process in minting]
    assert len({account for account, _ in said}) == 1
    with nats_broker(tmp_path) as broker:
        for number, (_, token) in enumerate(said):
            with Client(Address("127.0.0.1", broker.port, "gen-1", token), f"gen-1-{number}") as device:
                assert device.answer == "Success"


@pytest.mark.parametrize("device_id", ["a.b", "a>b", "*", "a/b", "a b", "", "x" * 65, "a\n", "gen-1\0"])
def test_ids_that_would_reach_into_other_topics_get_no_card(tmp_path: Path, device_id: str) -> None:
    with pytest.raises(ValueError, match="device_id"):
        Keyring(tmp_path).mint(device_id, now_ms())


def test_secrets_are_for_the_owner_only(broker: Broker) -> None:
    broker.revoke({})
    for name in ("keys.json", "nats.conf", "revocations.json"):
        assert stat.S_IMODE((broker.folder / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(broker.folder.stat().st_mode) == 0o700
    assert broker.mint("gen-1", now_ms()).password not in repr(broker.mint("gen-1", now_ms()))
    assert "password" not in repr(broker.service(now_ms())[0])


# --- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    folder = tmp_path_factory.mktemp("tls")
    made = Tls(folder / "cert.pem", folder / "key.pem")
    subprocess.run(
        [needs("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", "/CN=mqtt.example", "-addext", "subjectAltName=DNS:mqtt.example,DNS:localhost",
         "-keyout", made.key_file, "-out", made.cert_file],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
def test_tls_is_1_2_or_newer_and_nothing_else(tmp_path: Path, tls: Tls) -> None:
    with nats_broker(tmp_path, tls=tls) as broker:
        card = broker.mint("gen-1", now_ms())
        trusted = Address("localhost", broker.port, card.username, card.password, tls=True, ca_file=tls.cert_file)
        with Client(trusted, card.client_id) as device:
            device.publish(f"{card.topic}/event", EVENT)
        with as_service(broker) as service:
            until(lambda: service.heard)
        with pytest.raises(ssl.SSLCertVerificationError):
            Client(replace(trusted, ca_file=None), card.client_id)
        with pytest.raises(ssl.SSLCertVerificationError):
            Client(replace(trusted, host="127.0.0.1"), card.client_id)
        for version, spoken in [
            (ssl.TLSVersion.TLSv1_1, False),
            (ssl.TLSVersion.TLSv1_2, True),
            (ssl.TLSVersion.TLSv1_3, True),
        ]:
            assert _shakes_hands(broker.port, version) is spoken, version


def _shakes_hands(port: int, version: ssl.TLSVersion) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as plain, context.wrap_socket(plain):
            return True
    except (ssl.SSLError, ConnectionError):
        return False
