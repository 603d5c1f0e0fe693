"""What pages left open cost the pipeline: its messages a second with 200 of them open, beside those without one.

The turns alternate. In both, a machine reports a fault every few seconds, so that tickets open and pages refresh.
"""

import argparse
import json
import statistics
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import load, watchers
from bench.house import Ledger, Service, furnish, nats
from bench.ingest import Bench, Run, child_process
from bench.tickets import Faults
from monitor.store.access import Role, create_token
from monitor.store.database import open_database

PAGES, READERS = 200, 20
TURNS = 3
FAULT_EVERY_S = 4.0
FAULTS_A_TURN = 40


class Live(Bench):
    """The pipeline under load, with and without pages that are open."""

    def turns(self, tokens: list[str], pages: int) -> tuple[list[Run], list[Run], list[float]]:
        without, beside, answers = list[Run](), list[Run](), list[float]()
        service = Service(self.home, self.broker.url)
        with service.running():
            pass  # Its durable session has to exist before anything is published for it.
        for turn in range(2 * TURNS):
            boot = turn + 1
            hired = self.hired[turn * FAULTS_A_TURN : (turn + 1) * FAULTS_A_TURN]
            with service.running() as process, Ledger(self.home) as ledger, self._faults(hired, boot):
                if turn % 2:
                    plan = watchers.Plan(service.port, tokens, pages, "/")
                    with child_process("bench.watchers", plan) as child:
                        beside.append(self._pipeline(boot, ledger, process))
                        assert child.stdin
                        assert child.stdout
                        child.stdin.write(b"stop\n")
                        child.stdin.flush()
                        answers += json.loads(child.stdout.readline())
                else:
                    without.append(self._pipeline(boot, ledger, process))
        return without, beside, answers

    @contextmanager
    def _faults(self, hired: Sequence[str], boot: int) -> Iterator[None]:
        """A fault every few seconds, for as long as it lasts."""
        faults, over = (
            Faults(load.Line(self.broker.login, f"bench-faults-{boot}"), list(hired), boot),
            threading.Event(),
        )

        def tell() -> None:
            faults.say_hello()
            for device_id in hired:
                if over.wait(FAULT_EVERY_S):
                    return
                faults.break_down(device_id)

        telling = threading.Thread(target=tell)
        telling.start()
        try:
            yield
        finally:
            over.set()
            telling.join()


def measured(devices: int, pages: int, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="fettle-bench-") as folder:
        home = Path(folder)
        names = [f"bench-{n:05d}" for n in range(devices)]
        hired = [f"hired-{n:05d}" for n in range(2 * TURNS * FAULTS_A_TURN)]
        furnish(home, names, hired)
        database = open_database(f"sqlite:///{home / 'fettle.db'}")
        with database.begin() as connection:
            tokens = [create_token(connection, Role.OPS, f"reader {n}", 1) for n in range(READERS)]
        database.close()
        with nats(home) as broker:
            without, beside, answers = Live(home, broker, names, hired, seconds).turns(tokens, pages)
    alone, watched = (statistics.median(run.msg_s for run in runs) for runs in (without, beside))
    return {
        "alone_msg_s": round(alone), "watched_msg_s": round(watched), "ratio": round(watched / alone, 3),
        "alone_us": round(statistics.median(run.subscriber_us for run in without), 1),
        "watched_us": round(statistics.median(run.subscriber_us for run in beside), 1),
        "refreshes": len(answers), "refresh_p50_ms": round(statistics.median(answers), 1),
        "refresh_p99_ms": round(statistics.quantiles(answers, n=100)[98], 1), "pages": pages,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.live", description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--pages", type=int, default=PAGES)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each measurement")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    asked = parser.parse_args(arguments)
    found = measured(asked.devices, asked.pages, asked.seconds)
    if asked.json:
        print(json.dumps(found))
        return
    for figure, number in found.items():
        print(f"{figure:16} {number:>10,}")


if __name__ == "__main__":
    main()
