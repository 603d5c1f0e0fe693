"""What a detector is: declared state, and a step over all machines of a round at once."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.detect.finding import Report
from monitor.detect.models import Models
from monitor.devices import FaultKind
from monitor.readings import Floats, Ints, Status

Records = npt.NDArray[np.void]
Fields = list[tuple[str, str]] | list[tuple[str, str, tuple[int, ...]]] | list[Any]


class Attended(NamedTuple):
    """Since when (server, ms) the service has been listening without a gap of its own, and how long that gap was."""

    since: int
    away_ms: int = 0


class Ended(NamedTuple):
    """A fault of one machine that the desk has ended, as when a person closed or cancelled its ticket.

    `cell` is that of the sensor `subject`, where it is one.
    """

    row: int
    cell: int | None
    subject: str


@dataclass(frozen=True)
class Rows:
    """One round: at most one message of each machine, R rows; and their values, S samples, each of another cell.

    `position` is the row's place in the batch, `device` the machine's row in the state, `model` its model's number.
    Of the samples, `of` points into the round's rows, `sensor` is the sensor's number (Models), `cell` its row in the
    state. A value that is not finite arrives as NaN; metrics that the profile does not name are gone.
    """

    position: Ints
    device: Ints
    model: Ints
    at: Ints
    received_at: Ints
    boot: Ints
    what: Ints
    state: Ints
    late: npt.NDArray[np.bool_]
    detail: list[dict[str, Any] | None]  # of the whole batch: read it by position
    of: Ints
    cell: Ints
    sensor: Ints
    value: Floats

    def __len__(self) -> int:
        return len(self.device)

    def heads(self, kept: Ints) -> "Rows":
        """These rows of the round, without their samples."""
        none = np.zeros(0, dtype=np.int64)
        return Rows(
            self.position[kept], self.device[kept], self.model[kept], self.at[kept], self.received_at[kept],
            self.boot[kept], self.what[kept], self.state[kept], self.late[kept], self.detail,
            none, none, none, np.zeros(0),
        )  # fmt: skip

    @cached_property
    def live(self) -> "Rows":
        """The same round without what was found late."""
        if not self.late.any():
            return self
        kept = np.flatnonzero(~self.late)
        place = np.cumsum(~self.late) - 1
        s = np.flatnonzero(~self.late[self.of])
        return Rows(
            self.position[kept], self.device[kept], self.model[kept], self.at[kept], self.received_at[kept],
            self.boot[kept], self.what[kept], self.state[kept], self.late[kept], self.detail,
            place[self.of[s]], self.cell[s], self.sensor[s], self.value[s],
        )  # fmt: skip


def gathered(records: Records, rows: Ints) -> Records:
    """The same as records[rows], one contiguous copy of whole records, to work on and to `scatter` back.

    They are copied as plain bytes: numpy takes twenty times as long over records where it minds their fields (0.177
    instead of 0.009 µs a record of Stuck).
    """
    return records.view(f"V{records.itemsize}")[rows].view(records.dtype)


def scatter(records: Records, rows: Ints, changed: Records) -> None:
    """The same as records[rows] = changed, as plain bytes for the same reason."""
    plain = f"V{records.itemsize}"
    records.view(plain)[rows] = changed.view(plain)


@dataclass(frozen=True, slots=True)
class State:
    """The memory of the bank as one detector sees it. Arrays are written in place."""

    name: str
    devices: Records
    cells: Records
    model: Ints
    """(N,) number of each machine's model; -1 in rows that no machine uses."""
    first: Ints
    """(N,) where each machine's cells begin; they stand in the order of its model's sensors."""
    width: Ints
    """(models,) how many sensors a model has."""

    @property
    def device(self) -> Records:
        """(N,) this detector's record of each machine."""
        return self.devices[self.name]

    @property
    def cell(self) -> Records:
        """(C,) this detector's record of each (machine, sensor)."""
        return self.cells[self.name]

    def cells_of(self, row: int) -> slice:
        """Where one machine's cells stand."""
        first = int(self.first[row])
        return slice(first, first + int(self.width[self.model[row]]))

    def of(self, other: "type[Detector]") -> Records:
        """Another detector's record of each machine, to read."""
        return self.devices[other.name]


class Detector:
    """Base of all detectors. Override what is needed; the bank calls everything, the registry names the classes.

    A change of fields, or of what they mean, takes a new `version`: state stored by another version starts fresh.
    `open` is a reserved cell field: other than 0 while a fault of `cell_kind` on that sensor stands open.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    device_fields: ClassVar[Fields] = []
    cell_fields: ClassVar[Fields] = []
    blank: ClassVar[dict[str, float]] = {}
    """What fields hold before anything is known, where that is not 0."""
    takes_late: ClassVar[bool] = False
    """Whether rows found late reach step() too. They may prove life, and nothing else."""
    kind: ClassVar[FaultKind | None] = None
    """The kind of fault that it opens, if it opens any."""
    cell_kind: ClassVar[str] = ""

    @property
    def rule(self) -> str:
        return f"{self.name}/{self.version}"

    def configure(self, models: Models) -> None:
        """Lay out what the profiles say, once at start and whenever they change."""

    def step(self, state: State, rows: Rows, report: Report) -> None:
        """Take in one round."""

    def status(self, state: State, row: int, status: Status, received_at: int, report: Report, /) -> None:
        """Take in what a machine's connection says."""

    def alive(self, state: State, rows: Ints, received_at: int) -> None:
        """Something was heard of these machines that says nothing else."""

    def clock_ahead(self, state: State, row: int, at: int, received_at: int, report: Report) -> None:
        """A message was rejected because its time lies ahead of ours."""

    def tick(self, state: State, now: int, attended: Attended, report: Report) -> None:
        """Find what shows in nothing being heard. Changes state only where it finds something."""

    def release(self, state: State, ended: Ended) -> None:
        """Let go of a fault of this detector's `kind`, so that it is found anew if it is still there."""

    def serviced(self, state: State, row: int) -> None:
        """The machine was serviced or repaired: what was learnt of how it behaves may hold no longer."""

    def adopt(self, state: State, rows: Ints, kin: Ints) -> None:
        """Machines that are new here (`rows`) begin from what machines of their model (`kin`) have learnt, if anything.

        Called once, when they are placed; what it changes is saved before they are stepped.
        """

    def standing(self, state: State, row: int) -> int:
        """How many faults it has open on this machine. Override where they are not in a field called `open`."""
        device = state.devices[self.name][row] if self.device_fields else None
        count = (
            int(np.count_nonzero(device["open"])) if device is not None and "open" in (device.dtype.names or ()) else 0
        )
        if self.cell_kind:
            count += int(np.count_nonzero(state.cells[self.name]["open"][state.cells_of(row)]))
        return count

    def renew(self, state: State, row: int) -> None:
        """The box on this machine was replaced: its boots begin again."""
