"""What arrives from machines: single arrivals as the wire gave them, and batches as the detectors take them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

STATES = ("off", "cranking", "running", "stopping", "fault", "unknown")
State = Literal["off", "cranking", "running", "stopping", "fault", "unknown"]
STATE_CODE = {state: code for code, state in enumerate(STATES)}

EVENTS = ("start_requested", "started", "start_failed", "stopped", "fault_set", "fault_cleared")
EventName = Literal["start_requested", "started", "start_failed", "stopped", "fault_set", "fault_cleared"]


class What(IntEnum):
    """What a row of a batch is: a reading, or one of the events. Stored as these numbers: never renumber."""

    READING = 0
    START_REQUESTED = 1
    STARTED = 2
    START_FAILED = 3
    STOPPED = 4
    FAULT_SET = 5
    FAULT_CLEARED = 6


WHAT_OF_EVENT = {name: What(1 + code) for code, name in enumerate(EVENTS)}


class Reading(msgspec.Struct, frozen=True, gc=False):
    """One telemetry message: the values a machine measured at one moment of its own clock."""

    boot: int
    seq: int
    at: int
    state: State
    values: dict[str, float]


class Event(msgspec.Struct, frozen=True):
    """Something a machine says has happened to it."""

    boot: int
    seq: int
    at: int
    event: EventName
    detail: dict[str, Any] = {}


CONNECTING_MS = 1_000


class Status(msgspec.Struct, frozen=True):
    """Whether a machine's connection stands: `online`, `lost` (its last will), `offline` (a polite goodbye)."""

    state: Literal["online", "lost", "offline"]
    at: int
    boot: int = 0
    reason: Literal["powered_off", "sleeping", "transport", ""] = ""
    firmware: str = ""
    model: str = ""

    def precedes(self, online_at: int) -> bool:
        """Whether this was said by (or left by) a connection older than the one that came `online` then.

        A will carries its connect time, which a firmware may take a moment before it comes to say `online`.
        """
        connecting_ms = CONNECTING_MS if self.state == "lost" else 1
        return self.at + connecting_ms <= online_at


class Reply(msgspec.Struct, frozen=True):
    """A machine's answer to a command."""

    id: str
    at: int
    ok: bool
    result: dict[str, Any] = {}


class Rejected(NamedTuple):
    """What broke the wire contract, and how. It still proves that the machine is alive."""

    reason: str
    """A short word for counting (`bad_json`, `clock_ahead`, …)."""
    detail: str
    """A sentence for people: what was wrong, where, and what is allowed."""
    topic: str
    payload: bytes
    payload_bytes: int = 0
    """How long it was where `payload` is only its beginning; 0 where that is the whole."""


class Arrival(NamedTuple):
    """One thing a device said, with the moment (server clock) at which it was heard."""

    device_id: str
    received_at: int
    body: Reading | Event | Status | Reply | Rejected


class Message(NamedTuple):
    """A reading or event with its full name `(device, generation, boot, seq)`, ready to be stored."""

    device_id: str
    generation: int
    received_at: int
    late: bool
    """Found late: it amends the history, but never steps a detector and never pages anybody."""
    body: Reading | Event

    @property
    def name(self) -> tuple[str, int, int, int]:
        return self.device_id, self.generation, self.body.boot, self.body.seq


Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages as a struct of arrays: what one commit stores and one step of the detectors reads.

    M rows, one a message, in the order in which they happened for each device; S samples, one a value.
    """

    number: int
    device_ids: list[str]
    """Distinct devices of this batch; `device` points into it."""
    metrics: list[str]
    """Distinct metrics of this batch; `metric` points into it."""
    device: Ints  # (M,)
    generation: Ints  # (M,)
    boot: Ints  # (M,)
    seq: Ints  # (M,)
    at: Ints  # (M,) device clock, epoch ms
    received_at: Ints  # (M,) server clock, epoch ms
    what: Ints  # (M,) What
    state: Ints  # (M,) index into STATES; -1 on events
    late: npt.NDArray[np.bool_]  # (M,)
    detail: list[dict[str, Any] | None]  # (M,) of events
    row: Ints  # (S,) the message a value belongs to
    metric: Ints  # (S,)
    value: Floats  # (S,)

    def __len__(self) -> int:
        return len(self.at)

    @classmethod
    def of(cls, number: int, messages: Sequence[Message]) -> "Batch":
        """Lay messages out as arrays. Costs a few microseconds a message: the one Python loop of the hot path."""
        building = _Building()
        for message in messages:
            building.add(message)
        return building.batch(number)

    def messages(self) -> Iterator[Message]:
        """The messages again, one by one: what `of` was given, for recovery and evidence."""
        values: list[dict[str, float]] = [{} for _ in range(len(self))]
        for row, metric, value in zip(self.row.tolist(), self.metric.tolist(), self.value.tolist(), strict=True):
            values[row][self.metrics[metric]] = value
        columns = zip(
            self.device.tolist(), self.generation.tolist(), self.boot.tolist(), self.seq.tolist(), self.at.tolist(),
            self.received_at.tolist(), self.what.tolist(), self.state.tolist(), self.late.tolist(), self.detail, values,
            strict=True,
        )  # fmt: skip
        for device, generation, boot, seq, at, received_at, what, state, late, detail, measured in columns:
            body: Reading | Event
            if what == What.READING:
                body = Reading(boot, seq, at, STATES[state], measured)  # type: ignore[arg-type]
            else:
                body = Event(boot, seq, at, EVENTS[what - 1], detail or {})  # type: ignore[arg-type]
            yield Message(self.device_ids[device], generation, received_at, late, body)


@dataclass(slots=True)
class _Building:
    """The columns of a batch while it is laid out."""

    devices: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, int] = field(default_factory=dict)
    layouts: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    """A machine names the same metrics in the same order each time: what they are in `metrics`, looked up once."""
    heads: list[tuple[int, int, int, int, int, int, int, int, bool]] = field(default_factory=list)
    detail: list[dict[str, Any] | None] = field(default_factory=list)
    count: list[int] = field(default_factory=list)
    """How many values each message has."""
    metric: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)

    def add(self, message: Message) -> None:
        device_id, generation, received_at, late, body = message
        device = self.devices.setdefault(device_id, len(self.devices))
        if isinstance(body, Reading):
            what, state, detail, values = 0, STATE_CODE[body.state], None, body.values
            names = tuple(values)
            self.metric += self.layouts.get(names) or self._lay_out(names)
            self.value += values.values()
            self.count.append(len(names))
        else:
            what, state, detail = int(WHAT_OF_EVENT[body.event]), -1, body.detail
            self.count.append(0)
        self.heads.append((device, generation, body.boot, body.seq, body.at, received_at, what, state, late))
        self.detail.append(detail)

    def _lay_out(self, names: tuple[str, ...]) -> list[int]:
        metrics = self.metrics
        layout = self.layouts[names] = [metrics.setdefault(name, len(metrics)) for name in names]
        return layout

    def batch(self, number: int) -> Batch:
        heads = np.array(self.heads, dtype=np.int64).reshape(-1, 9).T
        device, generation, boot, seq, at, received_at, what, state, late = np.ascontiguousarray(heads)
        return Batch(
            number, list(self.devices), list(self.metrics), device, generation, boot, seq, at, received_at, what, state,
            late.astype(bool), self.detail,
            np.repeat(np.arange(len(self.count)), self.count), np.array(self.metric, dtype=np.int64),
            np.array(self.value, dtype=np.float64),
        )  # fmt: skip
