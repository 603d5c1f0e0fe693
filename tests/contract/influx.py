"""A real InfluxDB for the contract tests: Debian's influxd 1.6 on free ports.

That version knows /write and /query but not /api/v2/write, to which influxdb-client writes; a small proxy in front
of it rewrites that one path. Everything else goes through as it is.
"""

import http.client
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import urllib3

from tests.patience import PATIENCE_S, until
from tests.programs import free_port, needs

CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
[continuous_queries]
  enabled = false
"""


class Influx:
    """One influxd with its data in a folder: it can be stopped and started again on the same data and port."""

    def __init__(self, folder: Path) -> None:
        self.program = needs("influxd")
        self.folder = folder
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        config = CONFIG.format(folder=folder, port=self.port, rpc=free_port())
        (folder / "influxdb.conf").write_text(config, encoding="utf-8")
        self.proxy = _proxy(self.port)
        self.base = f"http://127.0.0.1:{self.proxy.server_port}"
        self.start()

    def start(self) -> None:
        with (self.folder / "influxd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, "-config", str(self.folder / "influxdb.conf")], stdout=log, stderr=log
            )
        until(self._up, "influxd answers", every_s=0.05)

    def _up(self) -> bool:
        assert self.process.poll() is None, (self.folder / "influxd.log").read_text(encoding="utf-8")
        return self._answers()

    def _answers(self) -> bool:
        try:
            return urllib3.request("GET", f"http://127.0.0.1:{self.port}/ping", retries=False).status == 204
        except urllib3.exceptions.HTTPError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=PATIENCE_S)

    def database(self, name: str) -> str:
        """A fresh empty database; answers its telemetry URL."""
        made = urllib3.request("POST", f"{self.base}/query?{urlencode({'q': f'CREATE DATABASE {name}'})}")
        assert made.status == 200, made.data
        return f"influxdb:{self.base}/{name}"

    def close(self) -> None:
        self.stop()
        self.proxy.shutdown()
        self.proxy.server_close()


def _proxy(port: int) -> ThreadingHTTPServer:
    class Rewrite(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = _forward(port, _as_v1(self.path), body, self.headers.get("Content-Type", ""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Rewrite)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def _as_v1(path: str) -> str:
    parts = urlsplit(path)
    if parts.path != "/api/v2/write":
        return path
    asked = parse_qs(parts.query)
    return f"/write?{urlencode({'db': asked['bucket'][0], 'precision': asked['precision'][0]})}"


def _forward(port: int, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
    upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        upstream.request("POST", path, body, {"Content-Type": content_type})
        response = upstream.getresponse()
        return response.status, response.read()
    except ConnectionError:
        return 503, b"influxd is not there"
    finally:
        upstream.close()
