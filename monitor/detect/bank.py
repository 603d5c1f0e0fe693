"""The bank: every detector's state for every device, stepped over all devices of a batch at once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat

import numpy as np

from monitor.detect.detector import Attended, Detector, Ended, Rows, State
from monitor.detect.finding import Evidence, Finding, Reason, Report
from monitor.detect.memory import Memory
from monitor.detect.models import Models
from monitor.detect.operation import Operation
from monitor.detect.registry import DETECTORS
from monitor.devices import Device, FaultKind, Profile
from monitor.readings import STATES, Batch, Floats, Ints, Status


class Bank:
    """Readings in, findings out. It reads no clock: every moment is handed in, epoch ms.

    Machines that were not placed are not watched, and what is said of them is let pass.
    """

    def __init__(self, profiles: Mapping[str, Profile], detectors: Sequence[type[Detector]] = DETECTORS) -> None:
        self._detectors = [detector() for detector in detectors]
        self._memory = Memory(self._detectors)
        self._generation: dict[str, int] = {}
        self._placed: dict[str, Device] = {}
        self._farewells: list[tuple[str, str, str]] = []
        self._learn_models(profiles)

    def place(self, devices: Iterable[Device]) -> None:
        """Watch these machines. What is known of a machine stays; under another profile, by the sensors' names."""
        memory, known, new = self._memory, len(self._memory.row), []
        for device in devices:
            before = self._placed.get(device.device_id)
            self._placed[device.device_id] = device
            model = self._models.number.get(device.profile, 0)
            row = memory.row.get(device.device_id)
            if row is None:
                new.append(memory.add(device.device_id, model, self._models.names[model]))
                continue
            memory.model[row] = model
            self._bid_farewell(device.device_id, memory.lay_out(row, self._models.names[model]))
            self._count_faults(row)
            if before and before.generation != device.generation:
                self._renew(row)
        if known and new:
            self._adopt(np.array(new, dtype=np.int64))

    def _adopt(self, new: Ints) -> None:
        """What machines of a model have learnt is a beginning for the next one."""
        model = self._memory.model
        others = np.flatnonzero(model > 0)
        others = others[~np.isin(others, new)]
        for number in np.unique(model[new]).tolist():
            kin, rows = others[model[others] == number], new[model[new] == number]
            if number and len(kin):
                for detector, state in self._each():
                    detector.adopt(state, rows, kin)

    def update_profiles(self, profiles: Mapping[str, Profile]) -> None:
        """Go on with other profiles; sensors that keep their name keep what is known of them."""
        self._learn_models(profiles)
        self.place(list(self._placed.values()))

    def remove(self, device_ids: Iterable[str]) -> None:
        """Watch these machines no longer, and forget them. Their open faults are left to whoever removed them."""
        for device_id in device_ids:
            if self._placed.pop(device_id, None):
                self._memory.drop(device_id)

    def step(self, batch: Batch) -> list[Finding]:
        """Take in a batch; its findings in the order of its rows. How a stream is cut into batches changes nothing."""
        report = self._report()
        # Nonsense far beyond any physics may overflow on its way to a verdict; the verdict holds all the same.
        with np.errstate(over="ignore", invalid="ignore"):
            for rows in self._rounds(batch):
                state = self._states()
                for detector in self._detectors:
                    detector.step(state[detector.name], rows if detector.takes_late else rows.live, report)
                self._recount(report)
        return self._leave(int(batch.received_at.max(initial=0))) + report.by_position()

    def alive(self, device_ids: Sequence[str], received_at: int) -> None:
        """These machines were heard in a way that no detector reads: a rejected message, a reply."""
        rows = self._rows_of(device_ids)
        rows = np.unique(rows[rows >= 0])
        self._memory.changed[rows] = True
        for detector, state in self._each():
            detector.alive(state, rows, received_at)

    def status(self, device_id: str, status: Status, received_at: int) -> list[Finding]:
        """What a machine's connection says: `online`, `lost` (its last will), `offline` (a polite goodbye)."""
        report, row = self._report(), self._memory.row.get(device_id)
        if row is None:
            return []
        self._memory.changed[row] = True
        for detector, state in self._each():
            detector.status(state, row, status, received_at, report)
        self._recount(report)
        return report.by_position()

    def clock_ahead(self, device_id: str, at: int, received_at: int) -> list[Finding]:
        """A message was rejected because its `at` lies too far ahead of the server's clock."""
        report, row = self._report(), self._memory.row.get(device_id)
        if row is None:
            return []
        self._memory.changed[row] = True
        for detector, state in self._each():
            detector.clock_ahead(state, row, at, received_at, report)
        self._recount(report)
        return report.by_position()

    def release(self, device_id: str, kind: FaultKind, subject: str) -> None:
        """Let go of a fault that the desk has ended; what is still wrong is found anew."""
        memory = self._memory
        row = memory.row.get(device_id)
        if row is None:
            return
        names = self._models.names[memory.model[row]]
        cell = int(memory.first[row]) + names.index(subject) if subject in names else None
        memory.changed[row] = True
        for detector, state in self._each():
            if detector.kind is kind:
                detector.release(state, Ended(row, cell, subject))
        self._count_faults(row)

    def serviced(self, device_id: str) -> None:
        """This machine was serviced or repaired: what is learnt of a machine is learnt anew."""
        row = self._memory.row.get(device_id)
        if row is None:
            return
        self._memory.changed[row] = True
        for detector, state in self._each():
            detector.serviced(state, row)
        self._count_faults(row)

    def tick(self, now: int, attended_since: int, away_ms: int = 0) -> list[Finding]:
        """What shows in nothing being heard. `attended_since`: since when we listen without a gap of our own;
        `away_ms`: how long that gap was."""
        report, attended = self._report(), Attended(attended_since, away_ms)
        for detector, state in self._each():
            detector.tick(state, now, attended, report)
        self._recount(report)
        found = self._leave(now) + report.by_device()
        rows = self._rows_of([finding.device_id for finding in found])
        self._memory.changed[rows[rows >= 0]] = True
        return found

    def snapshot(self) -> dict[str, bytes]:
        """What is known of the machines that changed since the last snapshot."""
        rows = np.flatnonzero(self._memory.changed).tolist()
        self._memory.changed[:] = False
        return {self._memory.ids[row]: self._memory.pack(row) for row in rows}

    def dump(self) -> dict[str, bytes]:
        """What is known of every machine."""
        return {device_id: self._memory.pack(row) for device_id, row in self._memory.row.items()}

    def restore(self, states: Mapping[str, bytes]) -> dict[str, frozenset[FaultKind]]:
        """Go on from snapshots of machines that are placed. Answers, for those of which something could not be read,
        the kinds of fault that nothing is remembered of: all detectors of a kind begin fresh together.

        That is so for a detector of another version, for one that is no more, and for all where bytes are damaged.
        """
        fresh: dict[str, frozenset[FaultKind]] = {}
        for device_id, packed in states.items():
            row = self._memory.row.get(device_id)
            if row is None:
                continue
            self._memory.changed[row] = False
            if not self._memory.unpack(row, packed) and (kinds := self._convert(device_id, row, packed)):
                fresh[device_id] = kinds
        return fresh

    def _convert(self, device_id: str, row: int, packed: bytes) -> frozenset[FaultKind]:
        stored = self._memory.convert(row, packed)
        self._memory.device[row] = stored.device[0]
        self._memory.cells_of(row)[:] = stored.cells
        self._memory.changed[row] = True
        self._count_faults(row)
        self._bid_farewell(device_id, stored.removed)
        return stored.fresh

    def _learn_models(self, profiles: Mapping[str, Profile]) -> None:
        self._models = Models(profiles)
        for detector in self._detectors:
            detector.configure(self._models)

    def _renew(self, row: int) -> None:
        self._memory.changed[row] = True
        for detector, state in self._each():
            detector.renew(state, row)

    def _bid_farewell(self, device_id: str, removed: list[tuple[str, str]]) -> None:
        """A fault on a sensor that the profile no longer has could never clear: the next findings clear it."""
        self._farewells += [(device_id, detector, sensor) for detector, sensor in removed]

    def _leave(self, now: int) -> list[Finding]:
        farewells, self._farewells = self._farewells, []
        by_name = {detector.name: detector for detector in self._detectors}
        return [
            Finding(device_id, FaultKind(by_name[name].cell_kind), sensor, False, now, by_name[name].rule, None,
                    Evidence(reason=Reason.SENSOR_REMOVED))
            for device_id, name, sensor in farewells
        ]  # fmt: skip

    def _recount(self, report: Report) -> None:
        report.note_states(self._doing)
        for row in report.turned:
            self._count_faults(row)
        report.turned.clear()

    def _count_faults(self, row: int) -> None:
        """How many faults stand open on a machine, for whoever learns from it (Operation)."""
        if Operation.name in self._memory.device.dtype.names:  # type: ignore[operator]
            faults = sum(detector.standing(state, row) for detector, state in self._each())
            self._memory.device[Operation.name]["faults"][row] = faults

    def _doing(self, row: int) -> str:
        """What this machine was doing when it was last heard; '' where nobody keeps that, or it never said."""
        if Operation.name not in self._memory.device.dtype.names:  # type: ignore[operator]
            return ""
        state = int(self._memory.device[Operation.name]["state"][row])
        return STATES[state] if state >= 0 else ""

    def _report(self) -> Report:
        return Report(self._memory.ids)

    def _states(self) -> dict[str, State]:
        memory = self._memory
        return {d.name: State(d.name, memory.device, memory.cell, memory.model, memory.first, self._models.width)
                for d in self._detectors}  # fmt: skip

    def _each(self) -> Iterator[tuple[Detector, State]]:
        states = self._states()
        return ((detector, states[detector.name]) for detector in self._detectors)

    def _rows_of(self, device_ids: Sequence[str]) -> Ints:
        rows = map(self._memory.row.get, device_ids, repeat(-1))
        return np.fromiter(rows, dtype=np.int64, count=len(device_ids))

    def _rounds(self, batch: Batch) -> Iterator[Rows]:
        """The k-th message of every machine, for k = 0, 1, …: so many machines step at once, each in its own order."""
        device = self._rows_of(batch.device_ids)[batch.device]
        placed = np.flatnonzero(device >= 0)
        self._memory.changed[device[placed]] = True
        if 0 < len(placed) == len(batch) and np.bincount(batch.device).max() == 1:
            yield self._only_round(batch, device)
            return
        order, ends = _ranked(device, placed)
        sample, sample_ends, column = self._samples(batch, device, order, ends)
        place = np.empty(len(batch), dtype=np.int64)
        starts, sample_starts = ends - np.diff(ends, prepend=0), sample_ends - np.diff(sample_ends, prepend=0)
        for start, end, first, last in zip(starts, ends, sample_starts, sample_ends, strict=True):
            here, those = order[start:end], sample[first:last]
            place[here] = np.arange(len(here))
            yield self._round(
                batch, here, device[here], place[batch.row[those]], column[first:last], batch.value[those]
            )

    def _only_round(self, batch: Batch, device: Ints) -> Rows:
        """The whole batch, where every machine comes once: nothing to sort, and seldom anything to leave out."""
        column, of, value = self._columns(batch, self._memory.model[device]), batch.row, batch.value
        if len(column) and column.min() < 0:
            known = np.flatnonzero(column >= 0)
            column, of, value = column[known], of[known], value[known]
        return self._round(batch, np.arange(len(batch)), device, of, column, value)

    def _round(self, batch: Batch, here: Ints, row: Ints, of: Ints, column: Ints, value: Floats) -> Rows:
        """The round of the batch's rows `here`, of the machines `row`; its samples by their row of the round."""
        memory = self._memory
        model = memory.model[row]
        return Rows(
            here, row, model, batch.at[here], batch.received_at[here], batch.boot[here], batch.what[here],
            batch.state[here], batch.late[here], batch.detail, of, memory.first[row][of] + column,
            self._models.first_sensor[model][of] + column, np.where(np.isfinite(value), value, np.nan),
        )  # fmt: skip

    def _columns(self, batch: Batch, model: Ints) -> Ints:
        """Where each sample stands among the sensors of its machine; -1 where its model does not name it. `model` is
        that of each row."""
        used = np.flatnonzero(np.bincount(model))
        columns = self._models.columns(used, batch.metrics)
        return columns[used[0]][batch.metric] if len(used) == 1 else columns[model[batch.row], batch.metric]

    def _samples(self, batch: Batch, device: Ints, order: Ints, ends: Ints) -> tuple[Ints, Ints, Ints]:
        """The samples that mean something, round by round: their places in the batch, where each round ends, and
        their columns among the sensors of their machine."""
        rank = np.full(len(batch), -1)
        rank[order] = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
        model = np.where(device >= 0, self._memory.model[device], 0)
        column = self._columns(batch, model)
        sample = np.flatnonzero((column >= 0) & (rank[batch.row] >= 0))
        sample = sample[np.argsort(rank[batch.row[sample]], kind="stable")]
        sample_ends = np.cumsum(np.bincount(rank[batch.row[sample]], minlength=len(ends)))
        return sample, sample_ends.astype(np.int64), column[sample]


def _ranked(device: Ints, placed: Ints) -> tuple[Ints, Ints]:
    """Rows by how many rows of the same device stand before them, and where each such round ends."""
    by_device = placed[np.argsort(device[placed], kind="stable")]
    sorted_device = device[by_device]
    begins = np.flatnonzero(np.r_[True, sorted_device[1:] != sorted_device[:-1]]) if len(by_device) else by_device
    rank = np.arange(len(by_device)) - np.repeat(begins, np.diff(np.r_[begins, len(by_device)]))
    order = by_device[np.argsort(rank, kind="stable")]
    return order, np.cumsum(np.bincount(rank)) if len(rank) else np.zeros(0, dtype=np.int64)
