"""How soon a fault is a ticket: from the publish of a `fault_set` to the moment its ticket can be read by others."""

import json
import time
from collections.abc import Callable

from bench.board import Board
from bench.house import Ledger, eventually
from bench.load import Line, packet
from monitor.devices import topic

FAULTS_PER_S = 15
BACKGROUND_PER_S = 1_000
VALUES = [f"measured_{n}" for n in range(8)]


class Faults:
    """Machines on hire, each of which says once that it has a fault, while the load goes on beside them."""

    def __init__(self, line: Line, devices: list[str], boot: int) -> None:
        self.published = 0
        self._line = line
        self._devices = devices
        self._boot = boot
        self._said_at: dict[str, float] = {}
        self._seen_at: dict[str, float] = {}
        self._last_ticket = 0

    def measure(self, board: Board, ledger: Ledger) -> list[float]:
        """Milliseconds from publish to a committed ticket, one for each machine."""
        self.say_hello()
        began = time.monotonic()
        while len(self._seen_at) < len(self._devices):
            elapsed = time.monotonic() - began
            board["allowed"] = int(elapsed * BACKGROUND_PER_S)
            if len(self._said_at) < min(len(self._devices), int((elapsed - 3) * FAULTS_PER_S)):
                self.break_down(self._devices[len(self._said_at)])
            self._look(ledger)
            if elapsed > 60 + len(self._devices) / FAULTS_PER_S:
                raise TimeoutError(f"{len(self._devices) - len(self._seen_at)} faults did not become tickets")
            time.sleep(0.001)
        return [(self._seen_at[device_id] - said) * 1000 for device_id, said in self._said_at.items()]

    def say_hello(self) -> None:
        """Each machine is heard once, as one that runs."""
        for device_id in self._devices:
            self._say(device_id, "telemetry", 0, {"state": "running", "values": dict.fromkeys(VALUES, 1.0)})

    def break_down(self, device_id: str) -> None:
        """A machine says that it has a fault."""
        self._said_at[device_id] = time.monotonic()
        fault = {"code": "P0217", "text": "Coolant too hot", "lamp": "red"}
        self._say(device_id, "event", 1, {"event": "fault_set", "detail": fault})

    def _look(self, ledger: Ledger) -> None:
        now = time.monotonic()
        for ticket_id, device_id in ledger.tickets_after(self._last_ticket):
            self._last_ticket = ticket_id
            self._seen_at.setdefault(device_id, now)

    def _say(self, device_id: str, kind: str, seq: int, said: dict[str, object]) -> None:
        named = {"boot": self._boot, "seq": seq, "at": time.time_ns() // 1_000_000}
        self.published += 1
        self._line.send(packet(f"{topic(device_id)}/{kind}", json.dumps(named | said).encode(), self.published), 1)
        self._line.hear()


def drain(board: Board, taken: Callable[[], int]) -> None:
    """Wait until everything that was published is taken."""
    board["allowed"] = board["published"]
    eventually("everything published is acknowledged", lambda: board["acked"] == board["published"])
    eventually("everything published is taken", lambda: taken() >= board["published"], every_s=0.05)
