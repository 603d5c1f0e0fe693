"""The broker, the service and the logins that a bench runs with, all in a folder of their own."""

import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb
import httpx
import psutil

from bench.load import MODELS, Login
from ingest.broker import Broker
from ingest.credentials import Keyring
from monitor.store.database import migrate, open_database
from monitor.store.registry import Registry
from tests.brokers import mosquitto, nats_broker
from tests.programs import free_port

ROOT = Path(__file__).parents[1]
SERVICE_ROOT, BARE_ROOT = "fettle", "mirror"
"""Each side has topics of its own, of the same length, so that no message is delivered twice."""
HIRED_OUT = {"customer": "Bench Ltd", "email": "bench@example.com", "lang": "en"}

T = TypeVar("T")


def eventually(what: str, found: Callable[[], T], within_s: float = 60.0, every_s: float = 0.01) -> T:
    """What `found` answers as soon as it is true."""
    deadline = time.monotonic() + within_s
    while not (answer := found()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:.0f} s: {what}")
        time.sleep(every_s)
    return answer


@dataclass(frozen=True)
class RunningBroker:
    """A broker with a login that may publish for every device, and the URL that the service finds it by."""

    login: Login
    url: str
    process: psutil.Process


@contextmanager
def nats(home: Path) -> Iterator[RunningBroker]:
    """The embedded broker as the service configures it, here started by the bench: it has to outlive the service."""
    with nats_broker(home) as broker:
        login = Login("127.0.0.1", broker.port, "bench", _bench_token(broker))
        yield RunningBroker(login, f"own://127.0.0.1:{broker.port}", psutil.Process(broker.pid))


def _bench_token(broker: Broker) -> str:
    """One login for many devices exists in no fleet, so the product does not mint such; the bench does."""
    keyring = Keyring(broker.folder)
    mirror = f"{BARE_ROOT}.v1.*.*.telemetry"
    publish = ["fettle.v1.*.*.telemetry", "fettle.v1.*.*.event", mirror]
    seed = Keyring(broker.folder / f"bench-{secrets.token_hex(4)}")._keys.service
    return keyring._user_token(seed, "bench", publish, [mirror], time.time_ns() // 1_000_000)


@contextmanager
def debian_mosquitto(home: Path) -> Iterator[RunningBroker]:
    """Debian's mosquitto with persistence, without passwords and rights (which only make it slower)."""
    storage = home / "mosquitto-storage"
    storage.mkdir(parents=True)
    with mosquitto(home, persistence=storage) as broker:
        login = Login("127.0.0.1", broker.port)
        yield RunningBroker(login, f"mqtt://127.0.0.1:{broker.port}", psutil.Process(broker.process.pid))


BROKERS = {"nats": nats, "mosquitto": debian_mosquitto}


def furnish(home: Path, devices: list[str], hired: list[str]) -> None:
    """Register machines, put some on hire, and name a technician, as operators do."""
    database = open_database(f"sqlite:///{home / 'fettle.db'}")
    try:
        migrate(database)
        registry, now = Registry(database), time.time_ns() // 1_000_000
        registry.add_person("Bench Technician", "technician", "tech@example.com", phone="", lang="en",
                            customer=None, now=now)  # fmt: skip
        for i, device_id in enumerate(devices + hired):
            registry.add_device(device_id, MODELS[i % len(MODELS)], None, now)
        for device_id in hired:
            registry.add_rental(device_id, **HIRED_OUT, now=now)
    finally:
        database.close()


class Service:
    """`fettle up` as a child process, on an outside broker."""

    def __init__(self, home: Path, broker_url: str) -> None:
        self.home = home
        self.port = free_port()
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FETTLE_")},
            "FETTLE_HOME": str(home), "FETTLE_HTTP_PORT": str(self.port), "FETTLE_MQTT_URL": broker_url,
        }  # fmt: skip
        self._log = home / "service.log"

    @contextmanager
    def running(self) -> Iterator[psutil.Process]:
        with self._log.open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "fettle", "up"], env=self._environment, cwd=ROOT, stdout=log, stderr=log
            )
        try:
            eventually("the service is ready", lambda: self._ready(child), every_s=0.1)
            yield psutil.Process(child.pid)
        finally:
            child.send_signal(signal.SIGINT)
            child.wait(30)

    def redelivered(self) -> int:
        """So many messages came to this process a second time."""
        figures = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=10).text
        line = next(line for line in figures.splitlines() if line.startswith("fettle_messages_redelivered_total"))
        return int(float(line.split()[-1]))

    def _ready(self, child: subprocess.Popen[bytes]) -> bool:
        if child.poll() is not None:
            raise RuntimeError(f"fettle up ended:\n{self._log.read_text()[-4000:]}")
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False


class Ledger:
    """The service's database, read from outside: what is visible here is committed."""

    def __init__(self, home: Path) -> None:
        self._database = sqlite3.connect(f"file:{home / 'fettle.db'}?mode=ro", uri=True, timeout=20)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def taken(self, boot: int) -> int:
        return int(self._database.execute("SELECT sum(received) FROM seen WHERE boot = ?", [boot]).fetchone()[0] or 0)

    def tickets_after(self, ticket_id: int) -> list[tuple[int, str]]:
        sql = "SELECT id, device_id FROM ticket WHERE id > ? AND kind = 'fault_code' ORDER BY id"
        return self._database.execute(sql, [ticket_id]).fetchall()


def stored_once(home: Path, values: int) -> dict[tuple[str, int], int]:
    """(device, boot) → how many of its messages stand in telemetry exactly once, readings with all their values.

    The service has to be stopped: a DuckDB file belongs to one process.
    """
    with duckdb.connect(str(home / "telemetry.duckdb"), read_only=True) as telemetry:
        rows = telemetry.execute(
            """
            WITH named AS (
                SELECT device, boot, seq, count(*) AS copies, min(serial) AS serial, min(what) AS what
                FROM message GROUP BY device, boot, seq),
            counted AS (SELECT serial, count(*) AS n FROM sample GROUP BY serial)
            SELECT device.name, boot, count(*) FILTER (copies = 1 AND (what > 0 OR n = ?))
            FROM named LEFT JOIN counted USING (serial) JOIN device ON device.id = named.device
            GROUP BY device.name, boot
            """,
            [values],
        ).fetchall()
    return {(name, boot): count for name, boot, count in rows}
