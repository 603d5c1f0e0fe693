"""How fast the pipeline is: messages a second of `fettle up`, everything stored, decided and acknowledged, beside a
bare paho subscriber on the same broker under the same load; and how soon a fault is a ticket (docs/performance.md).

The load is closed: at most AHEAD messages are published and not yet taken, so each side is always busy and never
drowned. The sides take turns (bare, pipeline, bare, pipeline), because a machine's mood drifts.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from bench import bare, load
from bench.board import Board
from bench.house import (
    BARE_ROOT,
    BROKERS,
    ROOT,
    SERVICE_ROOT,
    Ledger,
    RunningBroker,
    Service,
    furnish,
    stored_once,
)
from bench.tickets import Faults, drain

AHEAD = 6_000
"""Less than what the broker hands out unacknowledged (8,000): a broker that holds more than that waiting works twice
as hard for each message, on either side."""
WARM_UP_S = 3.0
ROUNDS = 2
POLL_S = 0.02
FAULTS = 300


@dataclass(frozen=True)
class Run:
    """One side's turn. CPU: user and system time of all threads, in µs a message."""

    msg_s: float
    subscriber_us: float
    broker_us: float
    load_us: float
    rss_mib: float


@dataclass
class Result:
    """`published`: (device, boot) → messages of it that the broker has acknowledged."""

    bare: list[Run] = field(default_factory=list)
    pipeline: list[Run] = field(default_factory=list)
    published: dict[tuple[str, int], int] = field(default_factory=dict)
    ticket_ms: list[float] = field(default_factory=list)
    redelivered: int = 0
    lost: int = 0


class Bench:
    """One bench in a folder of its own."""

    def __init__(self, home: Path, broker: RunningBroker, devices: list[str], hired: list[str], seconds: float) -> None:
        self.home = home
        self.broker = broker
        self.devices = devices
        self.hired = hired
        self.seconds = seconds
        self.board = Board(home / "board")
        self.result = Result()

    def run(self) -> Result:
        service = Service(self.home, self.broker.url)
        with service.running():
            pass  # Its durable session has to exist before anything is published for it.
        for boot in range(1, ROUNDS + 1):
            self.result.bare.append(self._bare(boot))
            with service.running() as process, Ledger(self.home) as ledger:
                self.result.pipeline.append(self._pipeline(boot, ledger, process))
                if boot == ROUNDS:
                    self._tickets(boot + 1, ledger)
                self.result.redelivered += service.redelivered()
        stored = stored_once(self.home, load.VALUES)
        self.result.lost = sum(max(0, n - stored.get(name, 0)) for name, n in self.result.published.items())
        return self.result

    def _bare(self, boot: int) -> Run:
        plan = bare.Plan(str(self.board.path), self.broker.login, "bench-bare", f"{BARE_ROOT}/v1/+/+/telemetry")
        self.board.clear()
        with child_process("bench.bare", plan) as subscriber, self._loading(BARE_ROOT, boot) as loading:
            return self._measure(lambda: self.board["taken"], psutil.Process(subscriber.pid), loading)

    def _pipeline(self, boot: int, ledger: Ledger, process: psutil.Process) -> Run:
        with self._loading(SERVICE_ROOT, boot) as loading:
            return self._measure(lambda: ledger.taken(boot), process, loading)

    def _tickets(self, boot: int, ledger: Ledger) -> None:
        faults = Faults(load.Line(self.broker.login, "bench-faults"), self.hired, boot)
        with self._loading(SERVICE_ROOT, boot):
            self.result.ticket_ms = faults.measure(self.board, ledger)
            drain(self.board, lambda: ledger.taken(boot) - faults.published)
        self.result.published |= {(device_id, boot): 2 for device_id in self.hired}

    @contextmanager
    def _loading(self, root: str, boot: int) -> Iterator[psutil.Process]:
        """The load process; at its end it tells how much of each device was acknowledged."""
        self.board.clear()
        with child_process(
            "bench.load", load.Plan(str(self.board.path), self.broker.login, root, boot, self.devices)
        ) as child:
            yield psutil.Process(child.pid)
            self.board["stop"] = 1
            assert child.stdout
            counts: dict[str, int] = json.loads(child.stdout.readline())
        if root == SERVICE_ROOT:
            self.result.published |= {(device_id, boot): n for device_id, n in counts.items()}

    def _measure(self, taken: Callable[[], int], subscriber: psutil.Process, loading: psutil.Process) -> Run:
        processes = (subscriber, self.broker.process, loading)
        self._feed(taken, WARM_UP_S)
        began, before = self._edge(taken), [_cpu_s(process) for process in processes]
        self._feed(taken, self.seconds)
        ended, after = self._edge(taken), [_cpu_s(process) for process in processes]
        messages = ended[1] - began[1]
        cpu_us = [(late - early) / messages * 1e6 for early, late in zip(before, after, strict=True)]
        rss_mib = subscriber.memory_info().rss / 2**20
        drain(self.board, taken)
        return Run(messages / (ended[0] - began[0]), *cpu_us, rss_mib)

    def _feed(self, taken: Callable[[], int], seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.board["allowed"] = taken() + AHEAD
            time.sleep(POLL_S)

    def _edge(self, taken: Callable[[], int]) -> tuple[float, int]:
        """The next moment at which the count moves: a batch is committed as a whole."""
        before = taken()
        while (now := taken()) == before:
            time.sleep(0.001)
        self.board["allowed"] = now + AHEAD
        return time.monotonic(), now


@contextmanager
def child_process(module: str, plan: msgspec.Struct) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the bench, told its plan on its standard input, where no list of processes shows it."""
    with subprocess.Popen(
        [sys.executable, "-m", module], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin
        assert child.stdout
        try:
            child.stdin.write(msgspec.json.encode(plan) + b"\n")
            child.stdin.flush()
            if child.stdout.readline() != b"ready\n":
                raise RuntimeError(f"{module} could not start")
            yield child
        finally:
            child.terminate()


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def summary(result: Result) -> dict[str, float]:
    """The figures of `--json`."""
    pipeline = statistics.median(run.msg_s for run in result.pipeline)
    reference = statistics.median(run.msg_s for run in result.bare)
    percentiles = statistics.quantiles(result.ticket_ms, n=100)
    return {
        "pipeline_msg_s": round(pipeline),
        "bare_subscriber_msg_s": round(reference),
        "ratio": round(pipeline / reference, 3),
        "lost": result.lost,
        "ticket_p50_ms": round(percentiles[49], 1),
        "ticket_p99_ms": round(percentiles[98], 1),
        "cpu_us_per_msg": round(statistics.median(run.subscriber_us for run in result.pipeline), 1),
        "rss_mib": round(max(run.rss_mib for run in result.pipeline), 1),
    }


def table(result: Result) -> str:
    """The same for people, each turn for itself."""
    lines = [f"{'':<16}{'msg/s':>10}{'µs CPU/msg':>12}{'broker':>9}{'load':>7}{'RSS MiB':>9}"]
    for n, turns in enumerate(zip(result.bare, result.pipeline, strict=True), start=1):
        for name, run in zip(("bare subscriber", "pipeline"), turns, strict=True):
            lines.append(f"{name + f' {n}':<16}{run.msg_s:>10,.0f}{run.subscriber_us:>12.1f}{run.broker_us:>9.1f}"
                         f"{run.load_us:>7.1f}{run.rss_mib:>9.0f}")  # fmt: skip
    found = summary(result)
    kept = f"lost {found['lost']} of {sum(result.published.values()):,} acknowledged, {result.redelivered:,} came twice"
    speeds = f"pipeline {found['pipeline_msg_s']:,} msg/s, bare subscriber {found['bare_subscriber_msg_s']:,} msg/s"
    waits = f"p50 {found['ticket_p50_ms']} ms, p99 {found['ticket_p99_ms']} ms ({len(result.ticket_ms)} faults)"
    lines += [
        "",
        f"{speeds}, ratio {found['ratio']}; {kept}",
        f"publish to committed ticket: {waits}",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ingest", description="The pipeline beside a bare subscriber."
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of the table")
    parser.add_argument("--broker", choices=sorted(BROKERS), default="nats")
    parser.add_argument("--devices", type=int, default=1000, metavar="N")
    parser.add_argument("--seconds", type=float, default=15.0, metavar="S", help="length of each measurement")
    options = parser.parse_args()
    devices = [f"bench-{n:05d}" for n in range(options.devices)]
    hired = [f"hired-{n:05d}" for n in range(FAULTS)]
    with tempfile.TemporaryDirectory(prefix="fettle-bench-") as folder:
        home = Path(folder)
        furnish(home, devices, hired)
        with BROKERS[options.broker](home) as broker:
            result = Bench(home, broker, devices, hired, options.seconds).run()
    if options.json:
        print(json.dumps(summary(result)))
    else:
        print(f"{options.devices} devices, {load.VALUES} values a message, QoS 1, {options.broker}, "
              f"{os.cpu_count()} cores with broker and load beside it\n\n{table(result)}")  # fmt: skip


if __name__ == "__main__":
    main()
