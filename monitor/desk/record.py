"""The record of a machine around a fault: what it showed, at full rate where that is kept, and what is missing. Pure.

Times are the device's clock, epoch ms.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from monitor.readings import STATE_CODE, STATES, Event, Floats, Ints, Message, Reading

METRICS_KEPT = 64
EVENTS_KEPT = 200
DETAIL_KEPT = ("code", "spn", "fmi", "text", "lamp", "reason")
TEXT_KEPT = 200
GAPS_TOLD = 200


class Happened(NamedTuple):
    """An event of the machine. Of its detail only what a fault code has is kept."""

    at: int
    event: str
    detail: dict[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Stretch:
    """One metric, reduced: lowest, mean and highest of each bucket that has samples."""

    metric: str
    bucket_ms: int
    at: Ints  # (B,) where a bucket begins
    low: Floats  # (B,)
    mean: Floats  # (B,)
    high: Floats  # (B,)


@dataclass(frozen=True, slots=True)
class Record:
    """What one machine said in [start_at, end_at): M messages at full rate from `full_from` on, before that reduced."""

    start_at: int
    end_at: int
    full_from: int
    metrics: tuple[str, ...]
    heads: Ints  # (5, M) at (rising), generation, boot, seq, state (index into STATES; -1 on events)
    value: Floats  # (M, K) NaN where a message leaves a metric out
    reduced: tuple[Stretch, ...] = ()
    events: tuple[Happened, ...] = ()
    left_out: int = 0
    """Metrics and events beyond what a record keeps."""

    def __len__(self) -> int:
        return int(self.heads.shape[1])

    @property
    def at(self) -> Ints:
        moments: Ints = self.heads[0]
        return moments

    def course(self, metric: str) -> tuple[Ints, Floats]:
        """When a metric was measured at full rate, and what it was."""
        if metric not in self.metrics:
            return self.at[:0], np.empty(0)
        value = self.value[:, self.metrics.index(metric)]
        measured = ~np.isnan(value)
        return self.at[measured], value[measured]

    def states(self) -> list[tuple[int, str]]:
        """The state at the beginning, and each change after it."""
        told = np.flatnonzero(self.heads[4] >= 0)
        code = self.heads[4][told]
        turns = np.flatnonzero(np.diff(code, prepend=-1))
        return [(int(self.at[told[n]]), STATES[int(code[n])]) for n in turns]


def record_of(
    messages: Sequence[Message], start_at: int, end_at: int, full_from: int, first: Iterable[str] = ()
) -> Record:
    """Lay messages (by at, boot, seq) out as a record. The metrics `first` are kept before any other."""
    named = dict.fromkeys(first)
    seen: dict[str, None] = {}
    for message in messages:
        if isinstance(message.body, Reading):
            seen.update(dict.fromkeys(message.body.values))
    wanted = [name for name in named if name in seen] + [name for name in seen if name not in named]
    metrics = tuple(wanted[:METRICS_KEPT])
    place = {name: n for n, name in enumerate(metrics)}
    value = np.full((len(messages), len(metrics)), np.nan)
    heads = np.empty((5, len(messages)), dtype=np.int64)
    events: list[Happened] = []
    for row, message in enumerate(messages):
        body = message.body
        if isinstance(body, Reading):
            state = STATE_CODE[body.state]
            for name, number in body.values.items():
                if name in place:
                    value[row, place[name]] = number
        else:
            state = -1
            events.append(_happened(body))
        heads[:, row] = body.at, message.generation, body.boot, body.seq, state
    left_out = len(wanted) - len(metrics) + max(0, len(events) - EVENTS_KEPT)
    return Record(start_at, end_at, full_from, metrics, heads, value, (), tuple(events[:EVENTS_KEPT]), left_out)


def _happened(event: Event) -> Happened:
    detail: dict[str, str | int | float | bool] = {}
    for key in DETAIL_KEPT:
        found = event.detail.get(key)
        if isinstance(found, str):
            detail[key] = found[:TEXT_KEPT]
        elif isinstance(found, bool | int | float):
            detail[key] = found
    return Happened(event.at, event.event, detail)


def joined(records: Sequence[Record]) -> Record | None:
    """Several copies as one record: what two of them hold stands in it once."""
    if len(records) < 2:
        return records[0] if records else None
    metrics = tuple(dict.fromkeys(name for record in records for name in record.metrics))
    heads = np.concatenate([record.heads for record in records], axis=1)
    value = np.full((heads.shape[1], len(metrics)), np.nan)
    row = 0
    for record in records:
        value[row : row + len(record), [metrics.index(name) for name in record.metrics]] = record.value
        row += len(record)
    # Of two rows of one name either will do: a name has one content for ever.
    order = np.lexsort((heads[3], heads[2], heads[1], heads[0]))
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (np.diff(heads[:4, order], axis=1) != 0).any(axis=0)
    kept = order[fresh]
    events = {(one.at, one.event, str(one.detail)): one for record in records for one in record.events}
    return Record(
        min(record.start_at for record in records), max(record.end_at for record in records),
        min(record.full_from for record in records), metrics, heads[:, kept], value[kept],
        tuple(stretch for record in records for stretch in record.reduced),
        tuple(sorted(events.values(), key=lambda one: one.at)), sum(record.left_out for record in records),
    )  # fmt: skip


def between(record: Record, start_at: int, end_at: int) -> Record:
    """The part of a record at full rate that lies in [start_at, end_at)."""
    low, high = np.searchsorted(record.at, [start_at, end_at])
    events = tuple(one for one in record.events if start_at <= one.at < end_at)
    full_from = min(max(record.full_from, start_at), end_at)
    return replace(
        record, start_at=start_at, end_at=end_at, full_from=full_from, heads=record.heads[:, low:high],
        value=record.value[low:high], reduced=(), events=events,
    )  # fmt: skip


# --- how complete it is --------------------------------------------------------------------------------------------


class Gap(NamedTuple):
    """[start_at, end_at): nothing came for longer than reports are apart. `missing`: messages that never came."""

    start_at: int
    end_at: int
    missing: int


@dataclass(frozen=True, slots=True)
class Completeness:
    """Of the messages that a window should hold: how many came, how many did not, and where the holes are."""

    received: int
    missing: int
    gaps: tuple[Gap, ...]

    @property
    def share(self) -> float | None:
        """None where nothing was due at all."""
        total = self.received + self.missing
        return self.received / total if total else None


def completeness(record: Record, interval_s: float) -> Completeness:
    """How complete the messages at full rate are.

    Within one boot the numbers themselves say what is missing; before the first message, between two boots and after
    the last one it is as many reports as the model's interval would have made.
    """
    interval_ms = max(interval_s * 1000, 1.0)
    at, generation, boot, seq, _ = record.heads[:, np.lexsort(record.heads[[0, 3, 2, 1]])]
    gaps = _between_messages(at, generation, boot, seq, interval_ms)
    edges = [(record.full_from, int(record.at[0])), (int(record.at[-1]), record.end_at)] if len(record) else [
        (record.full_from, record.end_at)
    ]  # fmt: skip
    gaps += [
        Gap(start, end, _reports(start, end, interval_ms)) for start, end in edges if end - start > 3 * interval_ms
    ]
    missing = sum(gap.missing for gap in gaps)
    told = tuple(sorted(gaps, key=lambda gap: gap.end_at - gap.start_at, reverse=True)[:GAPS_TOLD])
    return Completeness(len(record), missing, tuple(sorted(told)))


def _between_messages(at: Ints, generation: Ints, boot: Ints, seq: Ints, interval_ms: float) -> list[Gap]:
    pause, skipped = np.diff(at), np.diff(seq) - 1
    booted = (np.diff(boot) != 0) | (np.diff(generation) != 0)
    long = pause > 3 * interval_ms
    found = []
    for n in np.flatnonzero(long | (~booted & (skipped > 0))).tolist():
        start, end = int(at[n]), int(at[n + 1])
        missing = _reports(start, end, interval_ms) if booted[n] else max(int(skipped[n]), 0)
        found.append(Gap(min(start, end), max(start, end), missing))
    return found


def _reports(start_at: int, end_at: int, interval_ms: float) -> int:
    return max(round((end_at - start_at) / interval_ms) - 1, 0)
