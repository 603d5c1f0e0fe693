"""Telemetry: every accepted message for as long as it is kept. One protocol, two stores behind it.

`duckdb:PATH` is one file for one process; `influxdb:http://host:port/database` serves many. What both promise is
said here and tested by one suite (tests/contract/test_telemetry.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import numpy as np

from monitor.readings import Batch, Floats, Ints, Message

Name = tuple[str, int, int, int, int]
"""(device_id, generation, boot, seq, at): a message's name, with the time at which to look for it."""

INFLUXDB_PARAMETERS = ("org", "password_file", "token", "token_file")


class TelemetryUnavailable(Exception):
    """The store cannot be reached or cannot write just now. Nothing is wrong with the data: keep it, try again."""


class TelemetryRefused(Exception):
    """The store answered that it will never take this data. Trying again is useless."""


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of one device over time, one entry a bucket that has samples: gaps stay gaps.

    `bucket_ms` 0 means that these are the samples themselves. `at` is where a bucket begins.
    """

    bucket_ms: int
    at: Ints  # (N,) device clock, epoch ms, rising
    low: Floats  # (N,)
    mean: Floats  # (N,)
    high: Floats  # (N,)
    count: Ints  # (N,) samples in the bucket

    def __len__(self) -> int:
        return len(self.at)

    @classmethod
    def raw(cls, at: Ints, value: Floats) -> "Series":
        """Samples as they are, where there are few enough."""
        return cls(0, at, value, value, value, np.ones(len(at), dtype=np.int64))


class Telemetry(Protocol):
    """Where messages are kept. Every range is half-open, [start_at, end_at), in device time (epoch ms)."""

    def store(self, batch: Batch) -> None:
        """Keep a batch; it is on disk when this returns. The same batch again changes nothing.

        A batch without messages leaves no trace.
        """

    def forget_after(self, batch_number: int) -> None:
        """Batches above this number were never decided: `replay` will not give them, and they come again.

        DuckDB deletes their rows. InfluxDB leaves them until the same messages, redelivered, take their places.
        """

    def find(self, names: Sequence[Name]) -> dict[Name, Message]:
        """What is stored under exactly these names."""

    def replay(self, after: int) -> Iterator[Batch]:
        """Stored batches above this number in order, each with its messages in the order in which it was stored."""

    def series(self, device_id: str, metric: str, start_at: int, end_at: int, max_points: int = 2000) -> Series:
        """One metric for a chart: the samples where they are at most `max_points`, else that many buckets at most."""

    def messages(self, device_id: str, start_at: int, end_at: int, limit: int = 10_000) -> list[Message]:
        """A device's messages at full rate, by (at, boot, seq), the oldest first when there are more than `limit`."""

    def latest(self, device_id: str) -> Message | None:
        """The reading with the latest device time: what came last may be an old backlog."""

    def metrics(self, device_id: str) -> list[str]:
        """What this device measures, by its latest readings, sorted."""

    def expire(self, before_at: int) -> int:
        """Delete what is older than this (device time). Answers how many messages went."""

    def close(self) -> None:
        """Let go of the file or the connections."""


def open_telemetry(url: str, *, owner: str = "", memory_limit: str = "512MB", threads: int = 2) -> Telemetry:
    """The store at `duckdb:PATH` or `influxdb:http://host:port/database`.

    `owner` names the process whose batches these are, where several number theirs in one InfluxDB. Memory and
    threads bound DuckDB. A wrong address is a ValueError that repeats no secret.
    """
    scheme, colon, rest = url.partition(":")
    if scheme == "duckdb" and colon:
        from monitor.store.telemetry_duckdb import DuckDBTelemetry

        return DuckDBTelemetry(_duckdb_path(rest), memory_limit=memory_limit, threads=threads)
    if scheme == "influxdb" and colon:
        from monitor.store.telemetry_influx import InfluxTelemetry

        return InfluxTelemetry(influx_address(rest), owner=owner)
    raise ValueError(f"the telemetry URL begins with {scheme[:20]!r}: the scheme must be duckdb: or influxdb:")


def _duckdb_path(rest: str) -> Path:
    path = rest.removeprefix("//") if rest.startswith("///") else rest
    if not path or path == ":memory:" or path.startswith("//"):
        raise ValueError(
            "the telemetry URL names no file: it must be duckdb:PATH, such as duckdb:./var/telemetry.duckdb"
        )
    return Path(path).expanduser()


@dataclass(frozen=True, slots=True)
class InfluxAddress:
    """Where an InfluxDB is, and what opens it: a token, or a user with a password, or nothing."""

    base: str
    database: str
    org: str = "-"
    token: str = ""
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"InfluxAddress({self.base}/{self.database})"


def influx_address(rest: str) -> InfluxAddress:
    """Take `http://[user:password@]host[:port]/database[?token=…&token_file=…&password_file=…&org=…]` apart."""
    parts = urlsplit(rest)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(given.keys() - set(INFLUXDB_PARAMETERS))
    if unknown:
        raise ValueError(
            f"the telemetry URL has a parameter {unknown[0]!r}: allowed are {', '.join(INFLUXDB_PARAMETERS)}"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the telemetry URL must be influxdb:http://host:port/database (or https)")
    database = unquote(parts.path.strip("/"))
    if not database or "/" in database:
        raise ValueError("the telemetry URL must name one database: influxdb:http://host:port/database")
    token = _secret_of(given.get("token", ""), given.get("token_file", ""), "token_file")
    password = _secret_of(unquote(parts.password or ""), given.get("password_file", ""), "password_file")
    return InfluxAddress(_base(parts), database, given.get("org", "-"), token, unquote(parts.username or ""), password)


def _base(parts: SplitResult) -> str:
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise ValueError("the port in the telemetry URL must be a number from 1 to 65535") from None
    return f"{parts.scheme}://{host}{port}"


def _secret_of(here: str, file: str, parameter: str) -> str:
    if not file:
        return here
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"{parameter} in the telemetry URL cannot be read: {error.strerror}: {file}") from None


def refuse_what_is_no_number(batch: Batch) -> None:
    """Neither store keeps NaN or infinity: ingest rejects them, and one that came this far must be seen."""
    if not np.isfinite(batch.value).all():
        worst = int(np.flatnonzero(~np.isfinite(batch.value))[0])
        metric, device = batch.metrics[batch.metric[worst]], batch.device_ids[batch.device[batch.row[worst]]]
        raise TelemetryRefused(f"batch {batch.number}: {metric!r} of {device!r} is {batch.value[worst]}, not a number")


def spans(at: Sequence[int], gap_ms: int) -> list[tuple[int, int]]:
    """The times as few half-open ranges, split wherever nothing lies for longer than the gap.

    A store that is ordered by time then reads around these times and nothing between.
    """
    found: list[tuple[int, int]] = []
    for moment in sorted(at):
        if found and moment - found[-1][1] < gap_ms:
            found[-1] = (found[-1][0], moment + 1)
        else:
            found.append((moment, moment + 1))
    return found
