"""/healthz, /readyz and /metrics of the processes that serve no pages, on FETTLE_PROBE_PORT. No sign-in, no names."""

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from fettle.house import CannotStart
from fettle.settings import Settings
from ingest.connection import Address

log = structlog.get_logger()

ASKED_S = 5.0
"""So long a prober may take to ask, and the broker to answer."""

Checks = Mapping[str, Callable[[], object]]
"""What has to work, by the name that a probe may tell; a check that is false or raises does not."""


@contextmanager
def answering_probes(settings: Settings, checks: Checks, registry: CollectorRegistry | None = None) -> Iterator[None]:
    """Answer probes on FETTLE_PROBE_PORT; nothing where it is not set."""
    if settings.probe_port is None:
        yield
        return
    try:
        server = _Probes(settings.bind, settings.probe_port, checks, registry or CollectorRegistry())
    except OSError as error:
        where = f"{settings.bind}:{settings.probe_port}"
        raise CannotStart(f"FETTLE_BIND, FETTLE_PROBE_PORT: cannot listen on {where}: {error.strerror}") from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="probes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def failing(checks: Checks) -> list[str]:
    """The names of what does not work."""
    return [name for name, check in checks.items() if not _works(name, check)]


def signs_in(address: Address) -> bool:
    """Whether the broker accepts this sign-in: a whole CONNECT and CONNACK, under a name of its own and without a
    session, so that nobody is thrown out and nothing stays behind."""
    client = address.client(f"probe-{secrets.token_hex(16)}", clean_session=True)
    answers: list[bool] = []
    answered = threading.Event()

    def on_connect(_client: object, _data: object, _flags: object, reason: Any, _properties: object) -> None:
        answers.append(not reason.is_failure)
        answered.set()

    client.on_connect = on_connect
    client.connect_timeout = ASKED_S
    client.connect(address.host, address.port)
    client.loop_start()
    answered.wait(ASKED_S)
    client.disconnect()
    client.loop_stop()
    return answers == [True]


def _works(name: str, check: Callable[[], object]) -> bool:
    try:
        return bool(check())
    except Exception as error:  # noqa: BLE001 whatever is wrong, the probe answers; who asks learns no more
        log.warning("not_ready", part=name, error=repr(error))
        return False


class _Probes(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, bind: str, port: int, checks: Checks, registry: CollectorRegistry) -> None:
        self.address_family = AF_INET6 if ":" in bind else AF_INET
        self.checks = checks
        self.registry = registry
        super().__init__((bind, port), _Answer)


class _Answer(BaseHTTPRequestHandler):
    server: _Probes
    timeout = ASKED_S

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._json(200, {"status": "ok"})
        elif self.path == "/readyz":
            self._ready(failing(self.server.checks))
        elif self.path == "/metrics":
            self._send(200, CONTENT_TYPE_LATEST, generate_latest(self.server.registry))
        else:
            self._json(404, {"status": "there are /healthz, /readyz and /metrics"})

    def _ready(self, broken: list[str]) -> None:
        if broken:
            self._json(503, {"status": "not ready", "failing": broken})
        else:
            self._json(200, {"status": "ready"})

    def _json(self, status: int, answer: dict[str, object]) -> None:
        self._send(status, "application/json", json.dumps(answer).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "fettle"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Probes come every few seconds and are not worth a line."""
