"""Many simulated machines as one stream: what the service hears of them, in the order in which it hears it.

The messages of a window are laid out as one `Batch`, as ingest would have after parsing and sorting them; what
connections say (greetings, wills, goodbyes) stands between as arrivals, parsed by ingest's own parser.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from firmware_sim.simulate import course
from firmware_sim.wire import Box, Happened, Message, Readings
from ingest.message import parse
from monitor.devices import topic
from monitor.engine.intake import LATE_MS
from monitor.engine.rehearsal import Heard, Repaired
from monitor.readings import STATE_CODE, WHAT_OF_EVENT, Arrival, Batch, Floats, Ints, What

WINDOW_MS = 3_600_000


Said = tuple[int, Readings | Happened | Message]
"""When something was heard, and what."""


@dataclass
class Source:
    """One machine: its box, and the moments at which somebody repaired or serviced it."""

    box: Box
    end_at: int
    repaired_at: Sequence[int] = ()

    def __post_init__(self) -> None:
        self._story = self._told()
        self._ahead: Said | None = None

    def until(self, window_at: int) -> list[Said]:
        """What is heard of it before that moment and was not handed out yet."""
        out: list[Said] = []
        # A box lives some hours at a time: what it has said goes on until something belongs to a later window.
        while (one := self._ahead or next(self._story, None)) is not None:
            (heard_at, said), self._ahead = one, None
            if isinstance(said, Readings) and heard_at == said.at[0]:
                before, after = _split(said, window_at)
                out += [(heard_at, before)] if len(before) else []
                self._ahead = (int(after.at[0]), after) if len(after) else None
            elif heard_at < window_at:
                out.append(one)
            else:
                self._ahead = one
            if self._ahead is not None:
                break
        return out

    def _told(self) -> Iterator[Said]:
        """Its greeting, its course, and at the end a goodbye, so that nobody waits for it."""
        yield self.box.at, self.box.online(self.box.clock())
        yield from course(self.box, self.end_at)
        if not self.box.dark:
            yield self.box.at, self.box.goodbye("powered_off")


def _split(said: Readings, at: int) -> tuple[Readings, Readings]:
    cut = int(np.searchsorted(said.at, at))
    return _rows(said, 0, cut), _rows(said, cut, len(said))


def _rows(said: Readings, start: int, end: int) -> Readings:
    part = slice(start, end)
    return replace(
        said, at=said.at[part], clock_at=said.clock_at[part], modes=said.modes[part], values=said.values[part],
        seq=said.seq + start,
    )  # fmt: skip


def heard(sources: Sequence[Source], begin_at: int, end_at: int) -> Iterator[Heard]:
    """Everything that is heard of these machines, and their repairs, in the order of time."""
    sheet = _Sheet(sources)
    # What is heard at the very end belongs to the window after it.
    for window_at in range(begin_at + WINDOW_MS, end_at + WINDOW_MS + 1, WINDOW_MS):
        for number, source in enumerate(sources):
            for heard_at, said in source.until(window_at):
                sheet.take(number, heard_at, said)
            for at in source.repaired_at:
                if window_at - WINDOW_MS <= at < window_at:
                    sheet.between.append((at, len(sheet.between), Repaired(source.box.device_id, at)))
        yield from sheet.turn(window_at)


class _Sheet:
    """The messages of one window while they are laid out."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._boxes = [source.box for source in sources]
        self._ids = [box.device_id for box in self._boxes]
        self._metrics = list(dict.fromkeys(name for box in self._boxes for name in box.names))
        self._columns = [np.array([self._metrics.index(name) for name in box.names]) for box in self._boxes]
        self._clear()

    def _clear(self) -> None:
        self._heads: list[Ints] = []
        self._detail: list[dict[str, Any] | None] = []
        self._count: list[Ints] = []
        self._metric: list[Ints] = []
        self._value: list[Floats] = []
        self.between: list[tuple[int, int, Arrival | Repaired]] = []

    def take(self, number: int, heard_at: int, said: Readings | Happened | Message) -> None:
        if isinstance(said, Message):
            device_id = self._ids[number]
            for arrival in parse(f"{topic(device_id)}/{said.suffix}", said.payload, said.at):
                self.between.append((said.at, len(self.between), arrival))
        elif isinstance(said, Readings):
            rows, width = said.values.shape
            received_at = said.at if heard_at == said.at[0] else np.full(rows, heard_at)
            state = [STATE_CODE[mode] for mode in said.modes]
            self._head(number, said.boot, said.seq + np.arange(rows), said.clock_at, received_at, What.READING, state)
            self._detail += [None] * rows
            self._count.append(np.full(rows, width))
            self._metric.append(np.tile(self._columns[number], rows))
            self._value.append(said.values.reshape(-1))
        else:
            what = WHAT_OF_EVENT[said.event]
            at = np.array([heard_at])
            self._head(number, said.boot, np.array([said.seq]), np.array([said.clock_at]), at, what, [-1])
            self._detail.append(dict(said.detail))
            self._count.append(np.zeros(1, dtype=np.int64))

    def _head(
        self, number: int, boot: int, seq: Ints, at: Ints, received_at: Ints, what: int, state: list[int]
    ) -> None:
        head = np.empty((7, len(seq)), dtype=np.int64)
        head[0], head[1], head[2], head[3], head[4], head[5], head[6] = number, boot, seq, at, received_at, what, state
        self._heads.append(head)

    def turn(self, number: int) -> Iterator[Heard]:
        """The window as parts of one batch with what was said between them; begins a new sheet."""
        between = sorted(self.between, key=lambda one: one[:2])
        if not self._heads:
            yield from (one for _, _, one in between)
            self._clear()
            return
        head = np.concatenate(self._heads, axis=1)
        # Stable: the messages of one machine stay in their own order.
        order = np.argsort(head[4], kind="stable")
        counts = np.concatenate(self._count)
        starts = np.cumsum(counts) - counts
        counts = counts[order]
        ends = np.cumsum(counts)
        take = np.repeat(starts[order] - (ends - counts), counts) + np.arange(ends[-1])
        metric = np.concatenate([*self._metric, np.zeros(0, dtype=np.int64)])[take]
        value = np.concatenate([*self._value, np.zeros(0)])[take]
        whole = self._batch(number, head[:, order], counts, metric, value, order)
        cuts = np.searchsorted(whole.received_at, [at for at, _, _ in between]).tolist()
        first = 0
        for cut, (_, _, one) in zip(cuts, between, strict=True):
            if cut > first:
                yield _part(whole, first, cut)
                first = cut
            yield one
        if first < len(whole):
            yield _part(whole, first, len(whole))
        self._clear()

    def _batch(self, number: int, head: Ints, counts: Ints, metric: Ints, value: Floats, order: Ints) -> Batch:
        device, boot, seq, at, received_at, what, state = head
        detail = [self._detail[place] for place in order.tolist()]
        return Batch(
            number, self._ids, self._metrics, device, np.zeros_like(device), boot, seq, at, received_at, what, state,
            received_at - at > LATE_MS, detail, np.repeat(np.arange(len(at)), counts), metric, value,
        )  # fmt: skip


def _part(batch: Batch, start: int, end: int) -> Batch:
    first, last = np.searchsorted(batch.row, (start, end)).tolist()
    rows, samples = slice(start, end), slice(first, last)
    return Batch(
        batch.number, batch.device_ids, batch.metrics, batch.device[rows], batch.generation[rows], batch.boot[rows],
        batch.seq[rows], batch.at[rows], batch.received_at[rows], batch.what[rows], batch.state[rows],
        batch.late[rows], batch.detail[rows], batch.row[samples] - start, batch.metric[samples],
        batch.value[samples],
    )  # fmt: skip
