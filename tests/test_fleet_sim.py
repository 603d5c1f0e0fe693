"""The simulated fleet against a real broker: what arrives, in which order, and what a restart leaves."""

import json
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from firmware_sim import MODELS, Fleet
from firmware_sim.link import IN_FLIGHT, QUEUE_LIMIT, Card, Link, Mqtt
from firmware_sim.wire import Message
from ingest.message import KINDS, parse
from monitor.devices import topic
from monitor.readings import Event, Reading, Rejected, Status
from tests.brokers import Client, Mosquitto, mosquitto, nats_broker, now_ms
from tests.patience import until
from tests.programs import free_port

MQTT = Mqtt("127.0.0.1", 1, "c", "u", "sesame", "t")


def cards(port: int, count: int) -> list[dict[str, Any]]:
    profiles = sorted(MODELS)
    return [card(f"S{number}", profiles[number % len(profiles)], port) for number in range(count)]


def card(device_id: str, profile: str, port: int) -> dict[str, Any]:
    mqtt = {"host": "127.0.0.1", "port": port, "client_id": f"c-{device_id}", "username": device_id, "password": "x"}
    return {"device_id": device_id, "profile": profile, "mqtt": mqtt | {"topic": topic(device_id)}}


@contextmanager
def running(*args: Any, **options: Any) -> Iterator[Fleet]:
    fleet = Fleet(*args, **options)
    fleet.start()
    try:
        yield fleet
    finally:
        fleet.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as running_broker:
        yield running_broker


def listening(broker: Mosquitto, client_id: str = "witness", clean_session: bool = True) -> Client:
    client = Client(broker.address, client_id, clean_session=clean_session)
    assert client.subscribe("fettle/v1/#")
    return client


def said(witness: Client) -> Iterator[tuple[str, Any]]:
    for heard_topic, payload in list(witness.heard):
        if not heard_topic.endswith("/command"):
            for arrival in parse(heard_topic, payload, 0):
                assert not isinstance(arrival.body, Rejected), arrival.body
                yield arrival.device_id, arrival.body


def statuses(witness: Client, device_id: str) -> list[Status]:
    return [body for name, body in said(witness) if name == device_id and isinstance(body, Status)]


def numbers(witness: Client) -> dict[str, list[tuple[int, int]]]:
    """Device → (boot, seq) in order of first arrival."""
    heard: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for name, body in said(witness):
        if isinstance(body, Reading | Event) and (body.boot, body.seq) not in heard[name]:
            heard[name].append((body.boot, body.seq))
    return heard


def test_a_fleet_connects_reports_and_says_goodbye(broker: Mosquitto, tmp_path: Path) -> None:
    threads = threading.active_count()
    with listening(broker) as witness:
        before = threading.active_count()
        with running(cards(broker.port, 9), home=tmp_path / "sim", report_s=0.5) as fleet:
            assert threading.active_count() == before + 1
            until(lambda: len(numbers(witness)) == 9 and min(map(len, numbers(witness).values())) > 3)
            assert fleet.connected == 9
        until(lambda: all(statuses(witness, f"S{n}")[-1].state == "offline" for n in range(9)))
        for number in range(9):
            assert [status.state for status in statuses(witness, f"S{number}")] == ["online", "offline"]
            heard = numbers(witness)[f"S{number}"]
            assert heard == [(1, seq) for seq in range(len(heard))]
    assert threading.active_count() == threads
    with listening(broker, "latecomer") as late:  # the goodbyes are retained
        until(lambda: len(list(said(late))) == 9)
        assert {body.state for _, body in said(late)} == {"offline"}


def test_a_second_start_goes_on_with_the_next_boot_and_the_same_machine(broker: Mosquitto, tmp_path: Path) -> None:
    home, deck = tmp_path / "sim", cards(broker.port, 1)
    with listening(broker) as witness:

        def hours() -> list[float]:
            return [body.values["engine_hours_h"] for _, body in said(witness) if isinstance(body, Reading)]

        for boot in (1, 2, 3):
            with running(deck, home=home, report_s=0.2, seed=boot):
                until(lambda boot=boot: (boot, 3) in numbers(witness)["S0"])  # type: ignore[misc]
        assert hours() == sorted(hours())
        assert hours()[-1] - hours()[0] < 0.1
        assert [status.boot for status in statuses(witness, "S0") if status.state == "online"] == [1, 2, 3]


@pytest.mark.parametrize("frozen", [False, True], ids=["goes", "freezes_and_dies"])
def test_nothing_is_lost_and_nothing_overtakes_while_the_broker_is_away(tmp_path: Path, frozen: bool) -> None:
    kept, port = tmp_path / "kept", free_port()
    kept.mkdir()
    with mosquitto(tmp_path, port=port, persistence=kept) as broker:
        witness = listening(broker, clean_session=False)
        fleet = Fleet(cards(port, 5), home=tmp_path / "sim", report_s=0.05)
        fleet.start()
        until(lambda: len(numbers(witness)) == 5)
        if frozen:  # what is under way then has no PUBACK, and dies with the broker
            until((kept / "mosquitto.db").exists)
            broker.process.send_signal(signal.SIGSTOP)
            until(lambda: fleet.waiting > 5 * 2 * IN_FLIGHT)
            broker.process.kill()
    until(lambda: fleet.connected == 0)
    away = max(seq for _, seq in numbers(witness)["S0"])
    # The outage itself: messages pile up, more than may be under way at once.
    until(lambda: fleet.waiting > 5 * 3 * IN_FLIGHT)
    with mosquitto(tmp_path, port=port, persistence=kept):
        until(lambda: fleet.connected == 5 and max(seq for _, seq in numbers(witness)["S0"]) > away + 2 * IN_FLIGHT)
        fleet.stop()
        until(lambda: all(statuses(witness, f"S{n}")[-1].state == "offline" for n in range(5)))
        for heard in numbers(witness).values():
            assert heard == [(1, seq) for seq in range(len(heard))]
        witness.close()


def test_a_radio_outage_is_a_lost_will_and_a_backlog(broker: Mosquitto, tmp_path: Path) -> None:
    home = tmp_path / "sim"
    with listening(broker) as witness, running(cards(broker.port, 2), home=home, report_s=0.1) as fleet:
        until(lambda: len(numbers(witness)) == 2)
        fleet.inject("S1", "radio_outage")
        until(lambda: [s.state for s in statuses(witness, "S1")] == ["online", "lost"])
        until(lambda: max(numbers(witness)["S0"])[1] > max(numbers(witness)["S1"])[1] + 10)
        fleet.heal("S1", "radio_outage")
        until(lambda: any(payload.startswith(b"[") for _, payload in witness.heard))
        until(lambda: [s.state for s in statuses(witness, "S1")] == ["online", "lost", "online"])
        first, will, again = statuses(witness, "S1")
        assert will.at == first.at < again.at
        heard = numbers(witness)["S1"]
        assert heard == [(1, seq) for seq in range(len(heard))]
    struck, healed = map(json.loads, (home / "truth.jsonl").read_text().splitlines())
    assert struck["to_at"] is None
    assert healed["to_at"] > healed["from_at"] == struck["from_at"]


def test_a_boot_loop_reconnects_with_every_boot(broker: Mosquitto, tmp_path: Path) -> None:
    with listening(broker) as witness, running(cards(broker.port, 1), home=tmp_path / "sim", report_s=0.2) as fleet:
        until(lambda: fleet.connected == 1)
        fleet.inject("S0", "boot_loop", size=20)
        until(lambda: [s.boot for s in statuses(witness, "S0") if s.state == "online"][:3] == [1, 2, 3])
        until(lambda: {boot for boot, _ in numbers(witness)["S0"]} >= {1, 2, 3})
        assert {s.boot for s in statuses(witness, "S0") if s.state == "lost"} >= {1, 2}
        kept = json.loads((tmp_path / "sim" / "machines.json").read_bytes())
        assert kept["S0"]["boot"] >= 3  # written down at once: no boot may come twice after a crash


def test_diagnose_over_the_wire(broker: Mosquitto, tmp_path: Path) -> None:
    with listening(broker) as witness, running(cards(broker.port, 2), home=tmp_path / "sim") as fleet:
        until(lambda: fleet.connected == 2)
        command = {"id": "a1", "at": 1, "command": "diagnose", "args": {}}
        replies = f"{topic('S1')}/reply"

        def answered() -> list[bytes]:
            witness.publish(f"{topic('S1')}/command", json.dumps(command))
            return [payload for heard, payload in witness.heard if heard == replies]

        until(answered)
        body = json.loads(answered()[0])
        assert (body["id"], body["ok"]) == ("a1", True)
        assert not any(heard == f"{topic('S0')}/reply" for heard, _ in witness.heard)


def test_the_demonstration_turns_the_key_of_the_first_card(broker: Mosquitto, tmp_path: Path) -> None:
    options = {"home": tmp_path / "sim", "report_s": 0.5, "scenario": "demo"}
    with listening(broker) as witness, running(cards(broker.port, 6), **options):

        def requested() -> list[str]:
            return [n for n, body in said(witness) if isinstance(body, Event) and body.event == "start_requested"]

        until(requested)
        assert requested() == ["S0"]
        states = {name: body.state for name, body in said(witness) if isinstance(body, Reading) and name != "S0"}
        assert states == dict.fromkeys([f"S{n}" for n in range(1, 6)], "running")
    planned, ended = map(json.loads, (tmp_path / "sim" / "truth.jsonl").read_text().splitlines())
    assert (planned["device_id"], planned["failure"]) == ("S0", "weak_battery")
    assert planned["from_at"] == ended["from_at"] < ended["to_at"] < planned["to_at"]  # it stopped with the fleet


def test_forty_machines_on_the_embedded_broker(tmp_path: Path) -> None:
    with nats_broker(tmp_path / "home") as broker:
        deck = [card(f"S{number}", sorted(MODELS)[number % 3], broker.port) for number in range(40)]
        for each in deck:
            minted = broker.mint(each["device_id"], now_ms())
            each["mqtt"] |= {name: getattr(minted, name) for name in ("client_id", "username", "password", "topic")}
        address, client_id = broker.service(now_ms())
        with Client(address, client_id, clean_session=False) as service:
            assert all(service.subscribe(f"fettle/v1/+/+/{kind}") for kind in KINDS)
            with running(deck, home=tmp_path / "sim", report_s=0.5) as fleet:
                until(lambda: len(numbers(service)) == 40 and min(map(len, numbers(service).values())) > 2)
                assert fleet.connected == 40
            until(lambda: sum(s.state == "offline" for n in range(40) for s in statuses(service, f"S{n}")) == 40)
            for heard in numbers(service).values():
                assert heard == [(1, seq) for seq in range(len(heard))]


def test_a_fleet_without_a_broker_stops_at_once(tmp_path: Path) -> None:
    fleet = Fleet(cards(free_port(), 3), home=tmp_path / "sim")
    fleet.start()
    kept = json.loads((tmp_path / "sim" / "machines.json").read_bytes())
    assert [machine["boot"] for machine in kept.values()] == [1, 1, 1]  # used up, whatever happens from here on
    began = time.monotonic()
    fleet.stop()
    assert time.monotonic() - began < 2
    assert fleet.connected == 0


def test_a_card_of_an_unknown_model_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="diesel_generator"):
        Fleet([card("S0", "steam_engine", 1)], home=tmp_path)


def test_a_full_queue_drops_the_oldest_and_counts_them() -> None:
    link = Link(Card("S0", "water_pump", MQTT))
    link.offer(Message(number, "telemetry", b"{}") for number in range(QUEUE_LIMIT + 7))
    assert link.dropped == 7
    assert link.queue[0].at == 7


def test_a_card_s_password_stays_out_of_repr() -> None:
    assert "sesame" not in repr(Card("S0", "water_pump", MQTT))
