"""The pages at size: the Fleet page of 10,000 machines, what a first visit weighs, a sensor over 30 days.

A real server (uvicorn on a port of its own) over the record of bench/fleet.py; asked over HTTP as a browser asks.
Beside each page stands `/healthz` of the same server: what the way there and back takes.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin

import httpx
import numpy as np
import sqlalchemy as sa
import uvicorn

from api.app import create_app
from bench.fleet import NOW, Fleet, made
from monitor.readings import STATE_CODE, Batch, Ints, What
from monitor.store import schema
from monitor.store.access import Role, create_token
from monitor.store.telemetry import Telemetry
from monitor.store.telemetry_opening import open_telemetry

MACHINES = 10_000
DAYS, STEP_MS = 30, 10_000
DAY_MS = 86_400_000
METRICS = ("coolant_temp_c", "oil_pressure_bar", "engine_rpm", "battery_v", "fuel_pct", "load_pct", "output_v",
           "frequency_hz")  # fmt: skip
CHARTED = "GX-000000"
SAYING = 20
"""So many machines have 30 days of readings, one is charted."""
LEVELS = {"fleet_ms": 500.0, "chart_ms": 300.0, "weight_kb": 250.0}


def measured(machines: int, rounds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        made(Path(folder), machines)
        telemetry = open_telemetry(f"duckdb:{folder}/telemetry.duckdb")
        remember(telemetry)
        fleet = Fleet(Path(folder), machines)
        api = replace(fleet.api, telemetry=telemetry, clock=lambda: NOW)
        with fleet.database.begin() as connection:
            token = create_token(connection, Role.OPS, "bench", NOW)
        with serving(create_app(api)) as url, httpx.Client(base_url=url, timeout=60) as client:
            client.headers["Authorization"] = f"Bearer {token}"
            chart = f"/api/v1/devices/{CHARTED}/telemetry?metric=coolant_temp_c&from={NOW - DAYS * DAY_MS}&to={NOW}"
            found = {
                "fleet_ms": middle(client, "/", rounds, lambda: changed(fleet)),
                "fleet_again_ms": middle(client, "/", rounds),
                "machines_ms": middle(client, "/machines", rounds),
                "machine_ms": middle(client, f"/machines/{CHARTED}?range=30d", rounds),
                "tickets_ms": middle(client, "/tickets", rounds),
                "chart_ms": middle(client, chart, rounds),
                "bare_ms": middle(client, "/healthz", rounds),
                "weight_kb": round(weight(client, "/") / 1000, 1),
                "machine_weight_kb": round(weight(client, f"/machines/{CHARTED}?range=30d") / 1000, 1),
            }
        telemetry.close()
        fleet.database.close()
    return found


@contextmanager
def serving(app: object) -> Iterator[str]:
    config = uvicorn.Config(app, port=0, log_level="warning", access_log=False)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def changed(fleet: Fleet) -> None:
    """Something happened: pages that are kept for all are laid out anew."""
    with fleet.database.begin() as connection:
        connection.execute(sa.insert(schema.change).values(at=NOW, what="ticket"))


def middle(client: httpx.Client, path: str, rounds: int, before: Callable[[], None] = lambda: None) -> float:
    """The median of so many answers, in ms, after one that warms up; `before` each of them, untimed."""
    took = []
    for _ in range(rounds + 1):
        before()
        began = time.perf_counter()
        client.get(path).raise_for_status()
        took.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(took[1:]), 1)


def weight(client: httpx.Client, path: str) -> int:
    """Bytes on the wire of a page and all that it loads, with nothing kept from before."""
    wanted = {"Accept-Encoding": "gzip"}
    page = client.get(path, headers=wanted)
    total = _bytes_of(page)
    for attribute in ("src", "href"):
        for part in page.text.split(f'{attribute}="/static/')[1:]:
            total += _bytes_of(client.get(urljoin("/static/", part.split('"')[0]), headers=wanted))
    return total


def _bytes_of(answer: httpx.Response) -> int:
    answer.raise_for_status()
    return answer.num_bytes_downloaded


def remember(telemetry: Telemetry) -> None:
    """30 days of readings, one a machine each 10 s, in batches of an hour."""
    rng = np.random.default_rng(1)
    names = [f"GX-{n:06d}" for n in range(SAYING)]
    steps = 3_600_000 // STEP_MS
    for hour in range(DAYS * 24):
        at = NOW - DAYS * DAY_MS + hour * 3_600_000 + np.arange(steps, dtype=np.int64) * STEP_MS
        telemetry.store(_batch(hour + 1, names, np.repeat(at, SAYING), hour * steps, steps, rng))


def _batch(
    number: int, names: list[str], at: Ints, first_seq: int, steps: int, rng: np.random.Generator
) -> Batch:  # fmt: skip
    messages, samples = len(at), len(at) * len(METRICS)
    nothing = np.zeros(messages, dtype=np.int64)
    return Batch(
        number=number, device_ids=names, metrics=list(METRICS),
        device=np.tile(np.arange(len(names)), steps), generation=nothing, boot=nothing + 1,
        seq=np.repeat(np.arange(first_seq, first_seq + steps), len(names)) + 1, at=at, received_at=at + 50,
        what=nothing + What.READING, state=nothing + STATE_CODE["running"], late=np.zeros(messages, dtype=np.bool_),
        detail=[None] * messages, row=np.repeat(np.arange(messages), len(METRICS)),
        metric=np.tile(np.arange(len(METRICS)), messages), value=rng.normal(80, 5, samples),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--machines", type=int, default=MACHINES)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    asked = parser.parse_args(arguments)
    found = measured(asked.machines, asked.rounds)
    if asked.json:
        print(json.dumps(found))
        return
    for figure, number in found.items():
        level = f"   level {LEVELS[figure]:,.0f}" if figure in LEVELS else ""
        print(f"{figure:20} {number:>10,.1f}{level}")


if __name__ == "__main__":
    main()
