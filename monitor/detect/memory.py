"""The bank's memory: one record a machine, one record a (machine, sensor), as two growing arrays.

A machine's cells stand together, in the order of its profile's sensors, so a snapshot is two memory copies.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from monitor.detect.detector import Detector, Records
from monitor.devices import FaultKind
from monitor.readings import Ints

Bytes = npt.NDArray[np.uint8]

_FORMAT = "fettle-bank/1"


class _Part(NamedTuple):
    """Where one detector's fields stand in the records, in bytes."""

    name: str
    version: int
    device_offset: int
    device_size: int
    cell_offset: int
    cell_size: int
    kind: str = ""


class _Header(msgspec.Struct, frozen=True):
    """First line of a snapshot: enough to read it after detectors or sensors have changed."""

    format: str
    device_size: int
    cell_size: int
    parts: tuple[_Part, ...]
    sensors: tuple[str, ...]


class Unpacked(NamedTuple):
    """What could be read of a snapshot, laid out for the machine's sensors of today."""

    device: Records
    cells: Records
    removed: list[tuple[str, str]]
    """(detector, sensor) of open faults on sensors that are gone."""
    fresh: frozenset[FaultKind]
    """The kinds of fault whose detectors could not go on from what was stored."""


EVERY_KIND = frozenset(FaultKind) - {FaultKind.REPORTED}
"""All that detectors find; what people report is not theirs."""


def _record(detectors: Sequence[Detector], table: str) -> tuple[np.dtype[np.void], Records]:
    """The record of one table with a part for each detector, and the record of which nothing is known yet."""
    parts = {d.name: np.dtype(getattr(d, table), align=True) for d in detectors if getattr(d, table)}
    dtype: np.dtype[np.void] = np.dtype(list(parts.items()) or [("nothing", "u1")], align=True)
    blank = np.zeros(1, dtype=dtype)
    for detector in detectors:
        part = parts.get(detector.name)
        for field in detector.blank.keys() & set(part.names or () if part else ()):
            blank[detector.name][field] = detector.blank[field]
    return dtype, blank


class Memory:
    """Rows and cells, handed out and taken back. Rows that no machine uses have an empty id and model -1."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self._detectors = detectors
        device, self._blank_device = _record(detectors, "device_fields")
        cell, self._blank_cell = _record(detectors, "cell_fields")
        self.device: Records = np.zeros(16, dtype=device)
        self.cell: Records = np.zeros(128, dtype=cell)
        self.row: dict[str, int] = {}
        self.ids: list[str] = []
        self.sensors: list[tuple[str, ...]] = []
        self.model: Ints = np.full(16, -1, dtype=np.int64)
        self.first: Ints = np.zeros(16, dtype=np.int64)
        self.changed = np.zeros(16, dtype=np.bool_)
        self._cells_used = 0
        self._free_rows: list[int] = []
        self._free_blocks: dict[int, list[int]] = {}
        self._headers: dict[tuple[str, ...], bytes] = {}
        self._parts = self._layout()

    def add(self, device_id: str, model: int, sensors: tuple[str, ...]) -> int:
        """A row for a machine not known before, with nothing known of it."""
        row = self._free_rows.pop() if self._free_rows else self._next_row()
        self.row[device_id], self.ids[row], self.sensors[row] = row, device_id, sensors
        self.model[row], self.first[row] = model, self._block(len(sensors))
        self.device[row] = self._blank_device[0]
        self.changed[row] = True
        return row

    def drop(self, device_id: str) -> None:
        row = self.row.pop(device_id)
        self._free_blocks.setdefault(len(self.sensors[row]), []).append(int(self.first[row]))
        self.ids[row], self.sensors[row], self.model[row], self.changed[row] = "", (), -1, False
        self._free_rows.append(row)

    def lay_out(self, row: int, sensors: tuple[str, ...]) -> list[tuple[str, str]]:
        """Give a machine the cells of other sensors; what is known of sensors of the same name goes along.

        Answers the open faults (detector, sensor) of sensors that are gone.
        """
        if sensors == self.sensors[row]:
            return []
        before, old, first = self.sensors[row], self.cells_of(row).copy(), int(self.first[row])
        self._free_blocks.setdefault(len(before), []).append(first)
        self.first[row], self.sensors[row] = self._block(len(sensors)), sensors
        kept = [name for name in sensors if name in before]
        cells = self.cells_of(row)
        cells[[sensors.index(name) for name in kept]] = old[[before.index(name) for name in kept]]
        self.changed[row] = True
        gone = [number for number, name in enumerate(before) if name not in sensors]
        return [(d, before[number]) for number in gone for d in self._open_in(old[number])]

    def cells_of(self, row: int) -> Records:
        """The machine's own cells, to be written in place."""
        first = self.first[row]
        return self.cell[first : first + len(self.sensors[row])]

    def pack(self, row: int) -> bytes:
        """Everything known of one machine, with the words needed to read it again."""
        sensors = self.sensors[row]
        header = self._headers.get(sensors)
        if header is None:
            header = self._headers[sensors] = msgspec.json.encode(self._header(sensors)) + b"\n"
        body: bytes = self.device[row].tobytes() + self.cells_of(row).tobytes()
        return header + body

    def unpack(self, row: int, packed: bytes) -> bool:
        """Take over a snapshot laid out exactly as memory is now; False if it is laid out in another way."""
        header = self._headers.get(self.sensors[row]) or self.pack(row)[: -self._size(row)]
        if not packed.startswith(header) or len(packed) != len(header) + self._size(row):
            return False
        split = len(header) + self.device.itemsize
        self.device[row] = np.frombuffer(packed[len(header) : split], dtype=self.device.dtype)[0]
        self.cells_of(row)[:] = np.frombuffer(packed[split:], dtype=self.cell.dtype)
        return True

    def convert(self, row: int, packed: bytes) -> Unpacked:
        """Read a snapshot of other detectors or other sensors, as far as it can be read."""
        device, cells = self._blank_device.copy(), np.repeat(self._blank_cell, len(self.sensors[row]))
        line, _, body = packed.partition(b"\n")
        try:
            header = msgspec.json.decode(line, type=_Header)
        except msgspec.MsgspecError:  # not a snapshot, or one of a format that is no longer known
            return Unpacked(device, cells, [], EVERY_KIND)
        stored = {part.name: part for part in header.parts}
        if header.format != _FORMAT or len(body) != header.device_size + len(header.sensors) * header.cell_size:
            return Unpacked(device, cells, [], EVERY_KIND)
        old = np.frombuffer(body, dtype=np.uint8)
        removed: list[tuple[str, str]] = []
        fresh = self._lost_kinds(stored)
        for part in self._parts:
            was = stored.get(part.name)
            if was is not None and part.kind not in fresh and self._fits(part, was):
                removed += self._convert_part(row, part, was, header, old, device, cells)
        return Unpacked(device, cells, removed, fresh)

    def _lost_kinds(self, stored: Mapping[str, _Part]) -> frozenset[FaultKind]:
        """The kinds of those detectors that cannot go on, or are no more. A fault tells its kind, not its detector: so
        where one of a kind forgets what it had open, all of that kind have to."""
        here = {part.name: part for part in self._parts}
        lost = {was.kind for name, was in stored.items() if name not in here or not self._fits(here[name], was)}
        lost |= {part.kind for name, part in here.items() if name in stored and not self._fits(part, stored[name])}
        return frozenset(kind for kind in FaultKind if kind in lost)

    def _convert_part(
        self, row: int, part: _Part, was: _Part, header: _Header, old: Bytes, device: Records, cells: Records
    ) -> list[tuple[str, str]]:
        here, there = device.view(np.uint8), old[: header.device_size]
        _copy(here, part.device_offset, there, was.device_offset, part.device_size)
        removed = []
        for number, sensor in enumerate(header.sensors):
            start = header.device_size + number * header.cell_size
            cell = self._blank_cell.copy()
            _copy(cell.view(np.uint8), part.cell_offset, old[start:], was.cell_offset, part.cell_size)
            if sensor in self.sensors[row]:
                into = cells[self.sensors[row].index(sensor) :][:1].view(np.uint8)
                _copy(into, part.cell_offset, old[start:], was.cell_offset, part.cell_size)
            elif part.name in self._open_in(cell[0]):
                removed.append((part.name, sensor))
        return removed

    def _open_in(self, cell: np.void) -> list[str]:
        """The detectors that have a fault standing open in this cell."""
        return [d.name for d in self._detectors if d.cell_kind and d.cell_fields and cell[d.name]["open"]]

    def _fits(self, part: _Part, was: _Part) -> bool:
        sizes = (part.device_size, part.cell_size)
        return part.version == was.version and sizes == (was.device_size, was.cell_size)

    def _size(self, row: int) -> int:
        return self.device.itemsize + len(self.sensors[row]) * self.cell.itemsize

    def _header(self, sensors: tuple[str, ...]) -> _Header:
        return _Header(_FORMAT, self.device.itemsize, self.cell.itemsize, self._parts, sensors)

    def _layout(self) -> tuple[_Part, ...]:
        def place(table: Records, name: str) -> tuple[int, int]:
            field = dict(table.dtype.fields or {}).get(name)
            return (field[1], field[0].itemsize) if field else (0, 0)

        return tuple(
            _Part(d.name, d.version, *place(self.device, d.name), *place(self.cell, d.name), d.kind or d.cell_kind)
            for d in self._detectors
        )

    def _next_row(self) -> int:
        row = len(self.ids)
        self.ids.append("")
        self.sensors.append(())
        if row == len(self.device):
            self.device = _doubled(self.device)
            self.model, self.first = _doubled(self.model), _doubled(self.first)
            self.changed = _doubled(self.changed)
            self.model[row:] = -1
        return row

    def _block(self, width: int) -> int:
        """First of `width` free cells that stand together."""
        free = self._free_blocks.get(width)
        if free:
            first = free.pop()
        else:
            first = self._cells_used
            self._cells_used += width
            while self._cells_used > len(self.cell):
                self.cell = _doubled(self.cell)
        self.cell[first : first + width] = self._blank_cell[0]
        return first


def _copy(into: Bytes, at: int, source: Bytes, start: int, size: int) -> None:
    into[at : at + size] = source[start : start + size]


def _doubled(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same array with as much room again."""
    grown = np.zeros(2 * len(array), dtype=array.dtype)
    grown[: len(array)] = array
    return grown
