"""Stuck: a sensor that stands still for far longer than it ever does, while the machine's other sensors go on."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from monitor.detect.detector import Detector, Ended, Fields, Records, Rows, State, gathered, scatter
from monitor.detect.finding import Evidence, Reason, Report
from monitor.detect.models import Models
from monitor.detect.operation import Operation
from monitor.devices import FaultKind
from monitor.readings import STATE_CODE, Floats, Ints

SETTLE_MS = 60_000
"""So long after it began to run a machine is in its start still."""
FLAT_SHARE = 0.2
"""Of the usual movement: less than this is standing still, as of a transducer that died and left its converter's
own noise."""
LEARNT = 200
"""So many movements must have been seen before standing still is held against a sensor."""
MEMORY = 256
"""Movements over which the usual one is averaged."""
TURNS = 8
"""With so many known, one row of so many is learnt from: it is the slow change that is left to learn."""
CLIP = 4.0
"""A movement counts for no more than so many usual ones: a change of the load is not noise."""
FORGET = 1 - 1 / 4096
"""What is left, with each time that a sensor stands, of the longest that it ever stood."""
GROW = 1.002
"""By how much the finest movement known grows with each movement, so that a single freak is forgotten."""
FINE = 2.5
"""A usual movement of more than so many finest ones is noise, which only a dead sensor lacks. A sensor that moves by
its finest step each time may stand for as long as its cause does."""
MOVED = 5.0
"""So many usual movements away from where it was, a sensor has moved with its cause, and not with its noise."""
FAR = 4.0
"""Times the longest usual standing that are far longer than usual; of the neighbours' moves half of that."""
FLAT_SAMPLES, FLAT_S, NEIGHBOUR_MOVES = 30, 300.0, 4
"""Less than this is never called stuck, however lively the sensor."""
BREAKS = 3
"""So many movements, and no long stand between them, show that it lives."""
HUGE = 1e30
"""Values are taken no further than this from 0, so that they stay finite in single precision."""

Mask = npt.NDArray[np.bool_]


class Stuck(Detector):
    """Judges and learns only while the machine runs, from a minute after its start, and never across a gap.

    What a sensor usually does is learnt from itself: how far it moves when it moves, how finely, and how long it
    stands (in samples, in seconds, in moves of its neighbours). Standing is usual for a coarse sensor under a steady
    load, so that one is stuck only when its neighbours have moved with the load as well. A sensor with noise of its own
    is stuck when the noise is gone and the neighbours still have theirs; at exactly 0, where many a transducer holds
    what is too small for it, it counts as coarse. Where everything stands nothing is stuck: then the machine rests, or
    its controller repeats itself.

    Learning stops while any fault stands open on the machine, and begins anew with a service.
    """

    name: ClassVar[str] = "stuck"
    version: ClassVar[int] = 1
    kind: ClassVar[FaultKind | None] = FaultKind.SENSOR
    cell_kind: ClassVar[str] = FaultKind.SENSOR
    device_fields: ClassVar[Fields] = [
        ("moves", "<u4"),  # sensors that moved with their causes, counted over all rows; runs over, and may
        ("fresh", "<u4"),  # sensors that did not stand still, counted alike
        ("turn", "u1"),  # rows since those that were last learnt from
    ]
    cell_fields: ClassVar[Fields] = [
        ("since_at", "<i8"),  # `at` of the first sample of the present stand; 0: none yet
        ("level", "<f8"),  # where it stands
        ("anchor", "<f8"),  # where it was when it last moved with its cause
        ("noise", "<f4"),  # how far it usually moves when it moves
        ("grain", "<f4"),  # the finest of its movements
        ("longest", "<f4"),  # usual stand, samples
        ("longest_s", "<f4"),
        ("longest_moves", "<f4"),  # moves of the machine's sensors meanwhile
        ("run", "<i4"),  # samples of the present stand
        ("moves_at", "<u4"),  # the machine's counters when it began
        ("fresh_at", "<u4"),
        ("count", "<u2"),  # movements learnt from; no further than LEARNT and MEMORY need
        ("breaks", "u1"),  # movements since a fault was opened
        ("open", "u1"),
    ]

    def configure(self, models: Models) -> None:
        self._sensors = models.sensors
        self._may_stand = models.of_sensor(lambda _, sensor: sensor.may_stand, np.bool_)
        self._ends = models.of_sensor(
            lambda _, sensor: [np.nan if end is None else end for end in (sensor.possible.low, sensor.possible.high)]
            if sensor.possible else [np.nan, np.nan], np.float64,
        ).reshape(-1, 2)  # fmt: skip

    def step(self, state: State, rows: Rows, report: Report) -> None:
        machine = state.of(Operation)
        from_at = machine["since_at"][rows.device] + SETTLE_MS
        steady = (machine["state"][rows.device] == STATE_CODE["running"]) & (rows.at >= from_at)
        pick = np.flatnonzero(steady[rows.of] & ~np.isnan(rows.value))
        if not len(pick):
            return
        of, cell = rows.of[pick], rows.cell[pick]
        at, value = rows.at[of], np.clip(rows.value[pick], -HUGE, HUGE)
        own = gathered(state.cell, cell)
        since_at, noise, was_open = own["since_at"], own["noise"].astype(np.float64), own["open"] > 0
        torn = ((since_at < from_at[of]) | (since_at > at)) & ~was_open
        moved_by = np.abs(value - own["level"])
        leaves = ~torn & (moved_by > FLAT_SHARE * noise)
        # An hour meter goes on and a tank sinks whatever the load does.
        shifts = ~(torn | self._may_stand[rows.sensor[pick]]) & (own["count"] >= LEARNT)
        shifts &= np.abs(value - own["anchor"]) > MOVED * noise
        moves, fresh, turn = self._count(state, rows, of, shifts, leaves)
        learns = leaves & ~was_open & (machine["faults"][rows.device] == 0)[of]
        _learn_movement(own, np.flatnonzero(learns & ((own["count"] < MEMORY) | turn)), moved_by)
        _learn_stand(own, np.flatnonzero(learns & (own["run"] > 1)), at, moves)
        _stand(own, torn | leaves, {"since_at": at, "level": value, "moves_at": moves, "fresh_at": fresh})
        own["anchor"] = np.where(torn | shifts, value, own["anchor"])
        clears = self._live(own, leaves, was_open)
        long = np.flatnonzero((own["run"] >= FLAT_SAMPLES) & ~was_open)
        opens = long[self._stands_out(own[long], rows.sensor[pick[long]], at[long], moves[long], fresh[long])]
        opens = opens[~taken(state, "implausible", cell[opens])]
        own["open"][opens] = 1
        own["breaks"][opens] = 0
        scatter(state.cell, cell, own)
        for i in np.sort(np.concatenate([opens, clears])).tolist():
            self._tell(rows, int(pick[i]), own[i], report)

    def release(self, state: State, ended: Ended) -> None:
        if ended.cell is not None:
            for field in ("since_at", "run", "breaks", "open"):
                state.cell[field][ended.cell] = 0

    def serviced(self, state: State, row: int) -> None:
        cells = state.cell[state.cells_of(row)]
        for field in ("noise", "grain", "longest", "longest_s", "longest_moves", "count"):
            cells[field] = 0

    def _count(self, state: State, rows: Rows, of: Ints, shifts: Mask, leaves: Mask) -> tuple[Ints, Ints, Mask]:
        """Count what goes on in each machine; answers the counters of each sample's machine, and whether it is its turn
        to learn."""
        counters = []
        for field, counted in (("moves", shifts), ("fresh", leaves)):
            counter = state.device[field][rows.device] + np.bincount(of, counted, len(rows)).astype(np.uint32)
            state.device[field][rows.device] = counter
            counters.append(counter[of])
        turn = (state.device["turn"][rows.device] + 1) % TURNS
        state.device["turn"][rows.device] = turn
        return counters[0], counters[1], (turn == 0)[of]

    def _live(self, own: Records, leaves: Mask, was_open: Mask) -> Ints:
        """Count the signs of life of sensors called stuck; answers those that have shown enough, and clears them."""
        i = np.flatnonzero(was_open)
        breaks = np.where(own["run"][i] >= FLAT_SAMPLES, 0, own["breaks"][i] + leaves[i])
        own["breaks"][i] = breaks
        alive = i[breaks >= BREAKS]
        own["open"][alive] = 0
        return alive

    def _stands_out(self, own: Records, sensor: Ints, at: Ints, moves: Ints, fresh: Ints) -> Mask:
        """Which of these have stood for far too long, while others did not."""
        long: Mask = (own["count"] >= LEARNT) & (own["run"] >= FAR * own["longest"])
        long &= (at - own["since_at"]) / 1000 >= np.fmax(FLAT_S, FAR * own["longest_s"])
        lively = fresh - own["fresh_at"] >= own["run"] // 2
        busy = moves - own["moves_at"] >= np.fmax(NEIGHBOUR_MOVES, FAR / 2 * own["longest_moves"])
        zero = own["level"] == 0
        rests = self._may_stand[sensor] & (zero | (own["level"] == self._ends[sensor].T).any(axis=0))
        noisy = (own["noise"] > FINE * own["grain"]) & (~zero | busy)
        result: Mask = long & lively & ~rests & (noisy | (busy & ~self._may_stand[sensor]))
        return result

    def _tell(self, rows: Rows, i: int, own: Records, report: Report) -> None:
        of, sensor = int(rows.of[i]), self._sensors[rows.sensor[i]]
        opened, at = bool(own["open"]), int(rows.at[of])
        evidence = Evidence(reason=Reason.STUCK, value=float(rows.value[i]))
        if opened:
            evidence |= Evidence(
                since_at=int(own["since_at"]), flat_s=(at - int(own["since_at"])) / 1000, flat_samples=int(own["run"]),
                usual_flat_s=round(float(own["longest_s"]), 1), usual_flat_samples=round(float(own["longest"])),
                noise=float(f"{own['noise']:.3g}"),
            )  # fmt: skip
        if sensor.unit:
            evidence["unit"] = sensor.unit
        confidence = 0.9 if own["noise"] > FINE * own["grain"] else 0.75
        row, position = int(rows.device[of]), int(rows.position[of])
        began = int(own["since_at"]) if opened else at
        report.add(row, position, FaultKind.SENSOR, sensor.name, opened, began, self.rule, evidence,
                   confidence=confidence)  # fmt: skip


def taken(state: State, other: str, cell: Ints) -> Mask:
    """On which of these sensors another detector's fault stands open. One sensor has one fault, whatever is wrong."""
    known = other in (state.cells.dtype.names or ())
    return state.cells[other]["open"][cell] > 0 if known else np.zeros(len(cell), dtype=np.bool_)


def _learn_movement(own: Records, i: Ints, moved_by: Floats) -> None:
    """How far sensors move when they move, and how finely."""
    count, noise, moved_by = own["count"][i], own["noise"][i], moved_by[i]
    usual = np.where(count < LEARNT // 8, moved_by, np.fmin(moved_by, CLIP * noise))
    own["noise"][i] = noise + (usual - noise) / (np.fmin(count, MEMORY - 1) + 1)
    own["grain"][i] = np.where(count == 0, moved_by, np.fmin(moved_by, GROW * own["grain"][i]))
    own["count"][i] = np.fmin(count + 1, MEMORY)


def _learn_stand(own: Records, i: Ints, at: Ints, moves: Ints) -> None:
    """How long sensors stand, from stands that have ended."""
    stood_s, moved = (at[i] - own["since_at"][i]) / 1000, moves[i] - own["moves_at"][i]
    for field, stand in (("longest", own["run"][i]), ("longest_s", stood_s), ("longest_moves", moved)):
        own[field][i] = np.fmax(FORGET * own[field][i], stand)


def _stand(own: Records, begins: Mask, now: dict[str, npt.NDArray[Any]]) -> None:
    """Go on with the present stand, or begin another one."""
    for field, begun in now.items():
        own[field] = np.where(begins, begun, own[field])
    own["run"] = np.where(begins, 1, np.fmin(own["run"] + 1, 2**30))
