"""Implausible: a sensor that shows what physics forbids. The sensor is at fault then, whatever the machine does."""

from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.detect.detector import Detector, Ended, Fields, Records, Rows, State, gathered, scatter
from monitor.detect.finding import Evidence, Reason, Report
from monitor.detect.models import Models
from monitor.detect.operation import Operation
from monitor.detect.stuck import SETTLE_MS, Stuck, taken
from monitor.devices import FaultKind, Sensor
from monitor.readings import Floats, Ints

LEAST_MS = 5_000
"""A change is measured over no less than this: in a shorter time it is the sensor's noise and not the quantity."""
STAYED = 3
"""So many samples after a jump without having come back, it stays."""
SPIKE_WINDOW_MS = 3_600_000
"""Three spikes within this are a fault, and this long without another ends it."""
NEIGHBOURS = 2
"""So many moves of other sensors confirm that a jump was real."""
WRONG = 2
GOOD = 5

_CODES: tuple[Reason, ...] = (Reason.IMPOSSIBLE, Reason.JUMP, Reason.SPIKES)
_IMPOSSIBLE, _JUMP, _SPIKES = (1 + code for code in range(3))
_CONFIDENCE = {Reason.IMPOSSIBLE: 0.98, Reason.JUMP: 0.8, Reason.SPIKES: 0.85}

Mask = npt.NDArray[np.bool_]


class _Seen(NamedTuple):
    """What one round shows of the sensors that are worth a look, a sample each."""

    own: Records
    place: Ints
    """Place of each among the samples of the round."""
    at: Ints
    value: Floats
    moves: npt.NDArray[Any]
    """Moves of the machine's sensors before this round, and with it, as Stuck counts them."""
    moves_now: npt.NDArray[Any]
    out: Mask
    """Beyond what is possible."""
    torn: Mask
    """After a gap: nothing in a row goes on across it."""
    steady: Mask
    """The machine goes on doing what it did, and nothing else is wrong with the sensor: a jump means something."""
    leaps: Mask
    """Further from the last sample than the quantity can have come."""


class Implausible(Detector):
    """Three ways of being implausible, of which one stands open on a sensor at a time.

    Impossible: two samples in a row beyond what the profile calls possible, in any state; over after five within it.
    A jump: further than the quantity can change, and three samples later it has not come back. Where at least two
    moves of other sensors go with it something did happen to the machine, and it is no matter of the sensor. Over when
    the sensor is back for five samples. Spikes: jumps and single impossible samples that come back. One is not a fault,
    it may have happened on the wire; three within an hour are, until an hour goes by without one.

    Across a gap, within a minute of a change of state, and on a sensor that is called stuck (which is to leap when it
    comes free) a jump means nothing.
    """

    name: ClassVar[str] = "implausible"
    version: ClassVar[int] = 1
    kind: ClassVar[FaultKind | None] = FaultKind.SENSOR
    cell_kind: ClassVar[str] = FaultKind.SENSOR
    device_fields: ClassVar[Fields] = [("moves", "<u4")]  # Stuck's counter of moves at the last row
    cell_fields: ClassVar[Fields] = [
        ("last_at", "<i8"),  # `at` of the last sample; 0: none yet
        ("since_at", "<i8"),  # `at` of the jump that is looked at, or of the first impossible sample
        ("spikes_at", "<i8", (2,)),  # `at` of the latest spikes, newest last; 0: none
        ("last", "<f8"),
        ("before", "<f8"),  # where it was before the jump
        ("reach", "<f8"),  # half of the jump: nearer to `before` than this it is back
        ("moves_at", "<u4"),  # the machine's counter of moves before the jump
        ("waited", "u1"),  # samples since the jump, with its own; 0: none is looked at
        ("wrong", "u1"),  # impossible samples in a row
        ("good", "u1"),  # good ones in a row, on an open fault
        ("open", "u1"),  # 1 + index into _CODES; 0: no open fault
    ]

    def configure(self, models: Models) -> None:
        def allowed(sensor: Sensor, fact: str, absent: float) -> float:
            value = getattr(sensor.possible, fact) if sensor.possible else None
            return absent if value is None else value

        self._sensors = models.sensors
        self._max_gap_ms = models.of_model(lambda profile: profile.max_gap_s * 1000)
        self._watched = models.of_sensor(lambda _, sensor: sensor.possible is not None, np.bool_)
        self._low = models.of_sensor(lambda _, sensor: allowed(sensor, "low", -np.inf), np.float64)
        self._high = models.of_sensor(lambda _, sensor: allowed(sensor, "high", np.inf), np.float64)
        self._per_ms = models.of_sensor(lambda _, sensor: allowed(sensor, "change_per_s", np.inf) / 1000, np.float64)

    def step(self, state: State, rows: Rows, report: Report) -> None:
        cells = state.cell
        # What the profile no longer calls possible is looked at until its fault is over.
        pick = np.flatnonzero((self._watched[rows.sensor] | (cells["open"][rows.cell] > 0)) & ~np.isnan(rows.value))
        seen = self._look(state, rows, pick)
        cells["last"][rows.cell[pick]], cells["last_at"][rows.cell[pick]] = rows.value[pick], rows.at[rows.of[pick]]
        if not len(seen.place):
            return
        own, was_open = seen.own, seen.own["open"].copy()
        spikes, stays = _follow(seen)
        many = spikes & (own["spikes_at"][:, 0] > 0) & (seen.at - own["spikes_at"][:, 0] <= SPIKE_WINDOW_MS)
        own["wrong"] = np.where(seen.out, np.where(seen.torn, 1, np.fmin(own["wrong"], WRONG) + 1), 0)
        own["since_at"] = np.where((own["wrong"] == 1) & (was_open == 0), seen.at, own["since_at"])
        found = np.where(many, _SPIKES, np.where(stays, _JUMP, 0))
        found = np.where(own["wrong"] >= WRONG, _IMPOSSIBLE, found) * (was_open == 0)
        turned = np.flatnonzero(found)
        turned = turned[~taken(state, "stuck", rows.cell[seen.place[turned]])]
        own["open"][turned] = found[turned]
        own["waited"][turned] = own["good"][turned] = 0
        cleared = _recover(seen, np.flatnonzero(was_open), spikes)
        for i in turned.tolist():
            self._tell(rows, seen, i, Reason(_CODES[found[i] - 1]), True, report)
        for i in cleared.tolist():
            self._tell(rows, seen, i, Reason(_CODES[was_open[i] - 1]), False, report)
        again = np.flatnonzero(spikes)
        own["spikes_at"][again] = np.stack([own["spikes_at"][again, 1], seen.at[again]], axis=1)
        own["last"], own["last_at"] = seen.value, seen.at
        scatter(cells, rows.cell[seen.place], own)

    def release(self, state: State, ended: Ended) -> None:
        if ended.cell is not None:
            for field in ("waited", "wrong", "good", "open"):
                state.cell[field][ended.cell] = 0
            state.cell["spikes_at"][ended.cell] = 0

    def _look(self, state: State, rows: Rows, pick: Ints) -> _Seen:
        """Look at every sample, and take those that something is wrong with, or was until now."""
        of, cell, sensor, value, cells = rows.of[pick], rows.cell[pick], rows.sensor[pick], rows.value[pick], state.cell
        last_at, at = cells["last_at"][cell], rows.at[of]
        elapsed_ms = at - last_at
        torn = (last_at == 0) | (elapsed_ms < 0) | (elapsed_ms > self._max_gap_ms[rows.model][of])
        out = (value < self._low[sensor]) | (value > self._high[sensor])
        leaps = np.abs(value - cells["last"][cell]) > self._per_ms[sensor] * np.fmax(elapsed_ms, LEAST_MS)
        steady = (rows.at - state.of(Operation)["since_at"][rows.device] >= SETTLE_MS)[of] & ~torn
        busy = (cells["waited"][cell] > 0) | (cells["wrong"][cell] > 0) | (cells["open"][cell] > 0)
        i = np.flatnonzero(busy | out | (leaps & steady))
        steady = steady[i] & ~taken(state, "stuck", cell[i])
        before, now = self._moves(state, rows)
        return _Seen(gathered(cells, cell[i]), pick[i], at[i], value[i], before[of[i]], now[of[i]], out[i], torn[i],
                     steady, leaps[i])  # fmt: skip

    def _moves(self, state: State, rows: Rows) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Each machine's counter of moves, as it was at its last row and as it is."""
        before = state.device["moves"][rows.device]
        if Stuck.name not in (state.devices.dtype.names or ()):
            return before, before
        now = state.of(Stuck)["moves"][rows.device]
        state.device["moves"][rows.device] = now
        return before, now

    def _tell(self, rows: Rows, seen: _Seen, i: int, reason: Reason, opened: bool, report: Report) -> None:
        place, own = int(seen.place[i]), seen.own[i]
        of, sensor, value = int(rows.of[place]), self._sensors[rows.sensor[place]], float(seen.value[i])
        began = int(seen.at[i])
        evidence = Evidence(reason=reason, value=value)
        if opened:
            began = int(own["spikes_at"][0] if reason is Reason.SPIKES else own["since_at"])
            evidence |= Evidence(since_at=began) | _expectation(reason, sensor, value, own)
        if sensor.unit:
            evidence["unit"] = sensor.unit
        row, position = int(rows.device[of]), int(rows.position[of])
        report.add(row, position, FaultKind.SENSOR, sensor.name, opened, began, self.rule, evidence,
                   confidence=_CONFIDENCE[reason])  # fmt: skip


def _follow(seen: _Seen) -> tuple[Mask, Mask]:
    """Notice jumps, and what becomes of them: which samples end a spike, and which show that a jump stays."""
    own, steady = seen.own, seen.steady & ((seen.own["open"] == 0) | (seen.own["open"] == _SPIKES))
    watching = own["waited"] > 0
    jumps = steady & ~watching & (seen.leaps | seen.out)
    spikes = steady & watching & ~seen.out & (np.abs(seen.value - own["before"]) <= own["reach"])
    for field, here in (("before", own["last"].copy()), ("reach", np.abs(seen.value - own["last"]) / 2),
                        ("since_at", seen.at), ("moves_at", seen.moves)):  # fmt: skip
        own[field] = np.where(jumps, here, own[field])
    own["waited"] = np.where(jumps, 1, np.where(steady & watching & ~spikes, own["waited"] + 1, 0))
    waited = own["waited"] > STAYED
    own["waited"][waited] = 0
    # The sensor's own jump is one of the moves.
    return spikes, waited & (seen.moves_now - own["moves_at"] <= NEIGHBOURS)


def _recover(seen: _Seen, i: Ints, spikes: Mask) -> Ints:
    """Count what speaks for sensors with an open fault; answers those that have shown enough, and clears them."""
    own, out, at = seen.own, seen.out[i], seen.at[i]
    back = np.abs(seen.value[i] - own["before"][i]) <= own["reach"][i]
    was_open = own["open"][i]
    good = np.where(~out & ((was_open == _IMPOSSIBLE) | back), np.fmin(own["good"][i], GOOD) + 1, 0)
    # An hour with a gap in it has not been seen to be quiet.
    newest = np.where(spikes[i] | seen.torn[i] | out, at, own["spikes_at"][i, 1])
    quiet = np.abs(at - newest) > SPIKE_WINDOW_MS
    own["spikes_at"][i, 1] = np.where(was_open == _SPIKES, newest, own["spikes_at"][i, 1])
    own["good"][i] = good
    cleared = i[np.where(was_open == _SPIKES, quiet, good >= GOOD)]
    for field in ("open", "good", "waited", "wrong"):
        own[field][cleared] = 0
    return cleared


def _expectation(reason: Reason, sensor: Sensor, value: float, own: Records) -> Evidence:
    """What the sensor should have shown."""
    possible = sensor.possible
    if possible is None:
        return Evidence()
    if reason is Reason.IMPOSSIBLE:
        above = possible.high is not None and value > possible.high
        crossed = possible.high if above else possible.low
        evidence = Evidence(side="above" if above else "below")
        return evidence if crossed is None else evidence | Evidence(limit=crossed)
    evidence = Evidence(expected=float(own["before"]))
    return evidence if possible.change_per_s is None else evidence | Evidence(change_per_s=possible.change_per_s)
