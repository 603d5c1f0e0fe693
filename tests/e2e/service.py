"""The real program in a folder of its own, and people and machines outside it: an operator's command line, an API
client, and bare MQTT devices that know nothing but their card."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import httpx
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.patience import PATIENCE_S, until
from tests.programs import free_port

ROOT = Path(__file__).parents[2]


class Service:
    """`fettle up` as a child process. Started again, it goes on with the same data."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.http_port = free_port()
        self.mqtt_port = free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FETTLE_")},
            "FETTLE_HOME": str(home), "FETTLE_HTTP_PORT": str(self.http_port), "FETTLE_MQTT_PORT": str(self.mqtt_port),
            **environment,
        }  # fmt: skip
        self.child: subprocess.Popen[str] | None = None
        self.log = home.with_name(f"{home.name}.log")
        self._tokens: dict[str, str] = {}

    def __enter__(self) -> "Service":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, *arguments: str) -> "Service":
        """Start it and wait until it is ready."""
        with self.log.open("a") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "fettle", "up", *arguments],
                env=self.environment, cwd=ROOT, stdout=log, stderr=log, text=True,
            )  # fmt: skip
        until(self.is_ready, "the service is ready")
        return self

    def is_ready(self) -> bool:
        assert self.child is not None
        assert self.child.poll() is None, f"fettle ended with {self.child.returncode}:\n{self.log.read_text()[-4000:]}"
        try:
            return httpx.get(f"{self.url}/readyz", timeout=PATIENCE_S).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """SIGKILL: no goodbye, no flush."""
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            self.child = None

    def interrupt(self, timeout_s: float = PATIENCE_S) -> int:
        """Ctrl-C; answers the exit status."""
        assert self.child is not None
        self.child.send_signal(signal.SIGINT)
        status = self.child.wait(timeout_s)
        self.child = None
        return status

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def run(self, *arguments: str) -> str:
        """One command of the operator, while the service runs or not."""
        done = subprocess.run(
            [sys.executable, "-m", "fettle", *arguments],
            env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"fettle {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def answer(self, *arguments: str) -> dict[str, Any]:
        """The same, answering with data."""
        return json.loads(self.run(*arguments, "--json"))

    def refused(self, *arguments: str) -> str:
        """A command that must be refused; answers what it says."""
        done = subprocess.run(
            [sys.executable, "-m", "fettle", *arguments],
            env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
        return done.stderr

    # --- the API ---

    def get(self, path: str, role: str = "ops", **parameters: Any) -> Any:
        return self.call("GET", path, role, params=parameters).raise_for_status().json()

    def post(self, path: str, role: str = "ops", **body: Any) -> httpx.Response:
        return self.call("POST", path, role, json=body)

    def call(self, method: str, path: str, role: str = "ops", **how: Any) -> httpx.Response:
        if role not in self._tokens:
            self._tokens[role] = self.run("token", "create", "--role", role, "--name", f"test-{role}").split()[-1]
        headers = {"Authorization": f"Bearer {self._tokens[role]}"}
        return httpx.request(method, f"{self.url}/api/v1/{path}", headers=headers, timeout=PATIENCE_S, **how)

    def tickets(self, device_id: str, **parameters: Any) -> list[dict[str, Any]]:
        return self.get("tickets", device_id=device_id, **parameters)["items"]

    def add_device(self, device_id: str, profile: str, *options: str) -> "BareDevice":
        return BareDevice(self.answer("device", "add", device_id, "--profile", profile, *options))


class BareDevice:
    """A machine that publishes with plain paho, from nothing but its card."""

    def __init__(self, card: dict[str, Any], *, boot: int = 1, will: bool = False) -> None:
        self.device_id = card["device_id"]
        self.mqtt = card["mqtt"]
        self.topic = self.mqtt["topic"]
        self.boot = boot
        self.seq = 0
        self.refusal: str = ""
        self._connected = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self.mqtt["client_id"], clean_session=True)
        self.client.username_pw_set(self.mqtt["username"], self.mqtt["password"])
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = lambda *_: self._connected.clear()
        if will:
            lost = {"state": "lost", "boot": boot, "at": now_ms()}
            self.client.will_set(f"{self.topic}/status", json.dumps(lost), qos=1, retain=True)

    def _on_connect(self, _client: object, _userdata: object, _flags: object, reason: Any, _more: object) -> None:
        self.refusal = str(reason) if reason.is_failure else ""
        if not reason.is_failure:
            self._connected.set()

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    def connect(self, timeout_s: float = PATIENCE_S) -> "BareDevice":
        self.client.connect(self.mqtt["host"], self.mqtt["port"], keepalive=20)
        self.client.loop_start()
        assert self._connected.wait(timeout_s), f"{self.device_id} could not connect: {self.refusal}"
        return self

    def disconnect(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def drop(self) -> None:
        """The radio goes dead: no goodbye."""
        self.client.loop_stop()
        self.client.socket().close()

    def reading(self, values: dict[str, float], state: str = "running", at: int | None = None) -> dict[str, Any]:
        named = {"boot": self.boot, "seq": self.seq, "at": now_ms() if at is None else at}
        self.seq += 1
        return {**named, "state": state, "values": values}

    def publish(self, suffix: str, payload: object, topic: str | None = None) -> mqtt.MQTTMessageInfo:
        """Publish and wait for the PUBACK."""
        raw = payload if isinstance(payload, bytes) else json.dumps(payload)
        sent = self.client.publish(f"{topic or self.topic}/{suffix}", raw, qos=1)
        sent.wait_for_publish(10)
        assert sent.is_published()
        return sent

    def tell(self, values: dict[str, float], state: str = "running", at: int | None = None) -> None:
        self.publish("telemetry", self.reading(values, state, at))

    def event(self, name: str, **detail: object) -> None:
        named = {"boot": self.boot, "seq": self.seq, "at": now_ms()}
        self.seq += 1
        self.publish("event", {**named, "event": name, "detail": detail})


def topic_of(device_id: str) -> str:
    """A device's topic, reckoned from the wire contract alone."""
    return f"fettle/v1/{zlib.crc32(device_id.encode()) % 256:02x}/{device_id}"


def now_ms() -> int:
    return time.time_ns() // 1_000_000
