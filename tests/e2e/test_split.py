"""The other shape of the program: broker, ingest, monitor and API as processes of their own, on PostgreSQL and
InfluxDB; and the whole program beside a Mosquitto of somebody else."""

import math
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from fettle import wiring
from fettle.house import CannotStart
from fettle.settings import Settings
from tests.brokers import Mosquitto, mosquitto
from tests.contract.influx import Influx
from tests.e2e.postgres import postgresql
from tests.e2e.service import ROOT, BareDevice, Service, now_ms
from tests.patience import PATIENCE_S, until
from tests.programs import free_port, needs

SENSOR = "coolant_temp_c"
APART = ("broker", "ingest", "monitor")
"""The processes that answer probes on a port of their own."""


class Apart(Service):
    """The four processes on one data folder, MQTT by TLS, as docker-compose.yml runs them."""

    def __init__(self, home: Path, database: str, telemetry: str) -> None:
        super().__init__(home, FETTLE_DATABASE_URL=database, FETTLE_TELEMETRY_URL=telemetry)
        self.certificate, key = home.with_name("cert.pem"), home.with_name("key.pem")
        certify(self.certificate, key)
        self.environment["FETTLE_MQTT_URL"] = f"own://127.0.0.1:{self.mqtt_port}"
        self.environment["FETTLE_MQTT_TLS_CERT"] = str(self.certificate)
        self.environment["FETTLE_MQTT_TLS_KEY"] = str(key)
        self.probes = {name: free_port() for name in APART}
        self.children: dict[str, subprocess.Popen[str]] = {}

    def start(self, *_: str) -> "Apart":
        # All at once on an empty database: whichever comes first makes the schema.
        for name in (*APART, "api"):
            self.launch(name)
        until(self.is_ready, "all four are ready", every_s=0.2)
        return self

    def launch(self, name: str) -> None:
        probe = {"FETTLE_PROBE_PORT": str(self.probes[name])} if name in self.probes else {}
        with self.log.open("a") as log:
            self.children[name] = subprocess.Popen(
                [sys.executable, "-m", "fettle", name],
                env={**self.environment, **probe}, cwd=ROOT, stdout=log, stderr=log, text=True,
            )  # fmt: skip

    def is_ready(self) -> bool:
        ended = [name for name, child in self.children.items() if child.poll() is not None]
        assert not ended, f"{ended} ended:\n{self.log.read_text()[-4000:]}"
        return all(self.probe(name)["status"] == "ready" for name in (*APART, "api"))

    def probe(self, name: str) -> dict[str, Any]:
        """What a process says about itself; empty words while it does not listen."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.probes.get(name, self.http_port)}/readyz", timeout=PATIENCE_S)
            return answer.json()
        except httpx.TransportError:
            return {"status": ""}

    def connected(self, device_id: str, profile: str) -> BareDevice:
        machine = self.add_device(device_id, profile)
        machine.client.tls_set(str(self.certificate))
        return machine.connect()

    def stop(self, name: str) -> int:
        """SIGTERM, as a container is stopped; answers the exit status."""
        child = self.children.pop(name)
        child.send_signal(signal.SIGTERM)
        return child.wait(PATIENCE_S)

    def kill(self) -> None:
        for child in self.children.values():
            child.kill()
            child.wait()
        self.children.clear()


def certify(certificate: Path, key: Path) -> None:
    subprocess.run(
        [needs("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", key, "-out", certificate],
        capture_output=True, check=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("apart")
    influx = Influx(folder / "influx")
    try:
        with postgresql() as database, Apart(folder / "var", database, influx.database("fettle")) as running:
            yield running
    finally:
        influx.close()


def overheat(machine: BareDevice, profile: dict[str, Any]) -> list[float]:
    """Beyond the coolant's limit for its hold, in the device's own time; answers the temperatures told."""
    sensors = {sensor["name"]: sensor for sensor in profile["sensors"]}
    limits = sensors[SENSOR]["limits"]
    hold_ms = math.ceil(limits["hold_s"] * 1000)
    told = []
    for at in range(now_ms() - hold_ms - 2000, now_ms(), 1000):
        told.append(limits["high"] + 10 + len(told))
        machine.tell({SENSOR: told[-1]}, at=at)
    return told


def test_a_hot_machine_gets_its_ticket_and_its_chart_through_four_processes(apart):
    machine = apart.connected("GX-9", "diesel_generator")
    apart.run("rental", "add", "GX-9", "--customer", "Lindqvist Bau", "--email", "site@lindqvist.example")
    told = overheat(machine, apart.get("profiles/diesel_generator"))
    ticket = until(lambda: apart.tickets("GX-9"), "its ticket")[0]
    assert (ticket["kind"], ticket["subject"], ticket["severity"]) == ("limit", SENSOR, "urgent")
    assert [clock["kind"] for clock in ticket["commitments"]] == ["dispatch"]

    until(lambda: chart(apart, "GX-9") == told, "its chart")
    kept = until(lambda: readings(apart, ticket["id"]), "its readings, kept")
    points = kept["metrics"][SENSOR]["points"]
    assert [value for _, value in points] == told[: len(points)]
    # The notice that ingest queued is delivered by the monitor: here to its log, since no SMTP server is set.
    until(lambda: "site@lindqvist.example" in notices_log(apart), "the notice")
    machine.disconnect()


def chart(apart: Apart, device_id: str) -> list[float]:
    return [point["max"] for point in apart.get(f"devices/{device_id}/telemetry", metric=SENSOR)["items"]]


def readings(apart: Apart, ticket_id: int) -> dict[str, Any] | None:
    """What the ticket keeps of its machine's readings, once they are copied."""
    return apart.get(f"tickets/{ticket_id}")["evidence"]["readings"]


def notices_log(apart: Apart) -> str:
    path = apart.home / "notices.log"
    return path.read_text() if path.exists() else ""


def test_revoking_reaches_the_broker_in_its_own_process(apart):
    machine = apart.connected("WP-1", "water_pump")
    apart.run("device", "revoke", "WP-1")
    assert until(lambda: machine.refusal, "it is cut off") == "Not authorized"
    machine.disconnect()


def test_metrics_of_a_process_without_pages(apart):
    figures = httpx.get(f"http://127.0.0.1:{apart.probes['ingest']}/metrics").text
    assert "fettle_broker_connected 1.0" in figures
    assert httpx.get(f"http://127.0.0.1:{apart.probes['ingest']}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"http://127.0.0.1:{apart.probes['ingest']}/api/v1/devices").status_code == 404


def test_a_second_ingest_on_the_same_data_is_refused(apart):
    assert f"another fettle ingest runs in {apart.home} already" in apart.refused("ingest")


def test_without_its_broker_ingest_says_what_is_missing_and_all_end_cleanly(apart):
    assert apart.stop("broker") == 0
    missing = {"status": "not ready", "failing": ["broker"]}
    until(lambda: apart.probe("ingest") == missing, "ingest says so")
    assert {name: apart.stop(name) for name in ("ingest", "monitor", "api")} == {"ingest": 0, "monitor": 0, "api": 0}


@pytest.mark.parametrize("process", [wiring.ingest, wiring.monitor, wiring.api])
def test_a_process_of_its_own_refuses_duckdb(tmp_path, process):
    with pytest.raises(CannotStart, match="set FETTLE_TELEMETRY_URL to influxdb:http://host:port/database"):
        process(Settings(home=tmp_path / "var"))
    assert not (tmp_path / "var").exists()


def test_the_whole_program_beside_mosquitto(tmp_path):
    port = free_port()
    service = Service(tmp_path / "var", FETTLE_MQTT_URL=f"mqtt://127.0.0.1:{port}")
    files = service.home / "mosquitto"
    with ThreadPoolExecutor(1) as starting:
        started = starting.submit(service.start)
        # fettle writes its own login first; then Mosquitto can be pointed to the files.
        until(lambda: (files / "acl").exists() and (files / "acl").read_text(), "its login")
        with mosquitto(tmp_path, files / "passwd", files / "acl", anonymous=False, port=port) as broker:
            try:
                started.result()
                speak_and_be_revoked(service, broker)
                assert service.interrupt() == 0
            finally:
                service.kill()


def speak_and_be_revoked(service: Service, broker: Mosquitto) -> None:
    card = service.answer("device", "add", "GX-1", "--profile", "diesel_generator")
    broker.reload()
    machine = BareDevice(card)
    # Mosquitto may still be reading its files; paho tries again by itself.
    machine.connect()
    overheat(machine, service.get("profiles/diesel_generator"))
    ticket = until(lambda: service.tickets("GX-1"), "its ticket")[0]
    assert (ticket["kind"], ticket["subject"]) == ("limit", SENSOR)
    service.run("device", "revoke", "GX-1")
    broker.reload()
    assert until(lambda: machine.refusal, "it is cut off") == "Not authorized"
    machine.disconnect()
