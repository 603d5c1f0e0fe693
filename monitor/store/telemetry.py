"""Telemetry: every accepted message for as long as it is kept. One protocol, two stores behind it.

`duckdb:PATH` is one file for one process; `influxdb:http://host:port/database` serves many. What both promise is
said here and tested by one suite (tests/contract/test_telemetry.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from monitor.readings import Batch, Floats, Ints, Message

Name = tuple[str, int, int, int, int]
"""(device_id, generation, boot, seq, at): a message's name, with the time at which to look for it."""


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

    def history(self, start_at: int, end_at: int) -> Iterator[Batch]:
        """All that all devices said, slice after slice of device time: one batch (numbered 0) each, an empty one where
        nothing was said, its messages in the order in which they were stored. Long ranges never lie in memory as a
        whole."""

    def latest(self, device_id: str) -> Message | None:
        """The reading with the latest device time: what came last may be an old backlog."""

    def starts(self, device_id: str, start_at: int, end_at: int) -> int:
        """How often it said that it had started."""

    def metrics(self, device_id: str) -> list[str]:
        """What this device measures, by its latest readings, sorted."""

    def expire(self, before_at: int) -> int:
        """Delete what is older than this (device time). Answers how many messages went."""

    def close(self) -> None:
        """Let go of the file or the connections."""


def refuse_what_is_no_number(batch: Batch) -> None:
    """Neither store keeps NaN or infinity: ingest rejects them, and one that came this far must be seen."""
    if not np.isfinite(batch.value).all():
        worst = int(np.flatnonzero(~np.isfinite(batch.value))[0])
        metric, device = batch.metrics[batch.metric[worst]], batch.device_ids[batch.device[batch.row[worst]]]
        raise TelemetryRefused(f"batch {batch.number}: {metric!r} of {device!r} is {batch.value[worst]}, not a number")


SLICE_MESSAGES = 50_000
SHORTEST_SLICE_MS, LONGEST_SLICE_MS = 10_000, 6 * 3_600_000


def in_slices(read: Callable[[int, int], Batch], start_at: int, end_at: int) -> Iterator[Batch]:
    """A range, read in slices that are made longer or shorter so that each holds about SLICE_MESSAGES."""
    slice_ms = 60_000
    while start_at < end_at:
        until = min(start_at + slice_ms, end_at)
        batch = read(start_at, until)
        yield batch
        fits = slice_ms * SLICE_MESSAGES // max(1, len(batch))
        slice_ms = min(max(fits, SHORTEST_SLICE_MS), 2 * slice_ms, LONGEST_SLICE_MS)
        start_at = until


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
