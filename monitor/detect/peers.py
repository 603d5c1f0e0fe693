"""Peers: a machine unlike the others of its model at the same work."""

from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.detect.detector import Attended, Detector, Ended, Fields, State
from monitor.detect.finding import Evidence, Report
from monitor.detect.models import Models
from monitor.detect.trend import Trend, limit_of, way_to_limit
from monitor.devices import FaultKind, Profile, Sensor, Severity
from monitor.readings import Floats, Ints

PERIOD_S = 600
"""Each sensor of each model is compared once in so many seconds; few of them in the same second."""
LEAST_MACHINES = 6
"""A machine and five others."""
FRESH_MS = 3 * 86_400_000
"""What was measured longer ago is not compared: another season, another site."""
OPENS_SIGMA = 6.0
CLEARS_SIGMA = 3.0
CLEARS_SHARE = 0.7
MARGIN_SHARE = 0.3
"""Of the way from the nominal value to the nearer limit, where a profile names no margin."""
MAD_TO_SIGMA = 1.4826
URGENT_SHARE = 0.6
"""Of the way from the peers to the limit: from here on it is urgent; before, and on the safe side, it is routine."""
MOST_SURE = 0.9
"""Weather and work of another place can look like a fault; no count of peers says more than this."""
ENDED = 2
"""`open` of a fault that a service has dealt with: the next comparison clears it."""

Mask = npt.NDArray[np.bool_]


class Comparison(NamedTuple):
    """One sensor of all machines of one model, beside each other; by machine where not said otherwise."""

    row: Ints
    cell: Ints
    level: Floats
    off: Floats
    """From the peers' median."""
    spread: Floats
    """Standard deviation of such an offset: the peers' own, and how well this machine's level is known."""
    unlike: Mask
    like: Mask
    centre: float  # of all
    peers: int


class Peers(Detector):
    """Levels at nominal load (Trend keeps them, discounted over days) beside the other machines' of the model.

    A machine is unlike the others when its level lies further from their median than six robust standard deviations
    (1.4826 MAD) and than the sensor's margin; or when the change of its level against its own last weeks does, which
    needs no machine to be like another and takes out a change of weather that all share. Levels move slowly, so what
    has moved them has lasted for hours. At least five peers with fresh levels are needed; the median of their offsets
    is moved by none of them alone.

    Everything is decided in tick from what Trend has stored, one sensor of a model at a time, by the clock's second.
    """

    name: ClassVar[str] = "peers"
    version: ClassVar[int] = 1
    kind: ClassVar[FaultKind | None] = FaultKind.PEER
    cell_kind: ClassVar[str] = FaultKind.PEER
    cell_fields: ClassVar[Fields] = [("open", "u1")]

    def configure(self, models: Models) -> None:
        self._sensors = models.sensors
        self._model = np.repeat(np.arange(len(models.width)), models.width)
        self._column = np.arange(len(self._model)) - models.first_sensor[self._model]
        self._margin = models.of_sensor(_margin, np.float64)
        self._low = models.of_sensor(lambda _, sensor: limit_of(sensor, "low", -np.inf), np.float64)
        self._high = models.of_sensor(lambda _, sensor: limit_of(sensor, "high", np.inf), np.float64)

    def tick(self, state: State, now: int, attended: Attended, report: Report) -> None:
        del attended
        for sensor in range(now // 1000 % PERIOD_S, len(self._model), PERIOD_S):
            self._compare(state, sensor, now, report)

    def release(self, state: State, ended: Ended) -> None:
        if ended.cell is not None:
            state.cell["open"][ended.cell] = 0

    def serviced(self, state: State, row: int) -> None:
        cells = state.cell[state.cells_of(row)]
        cells["open"] = np.where(cells["open"] > 0, ENDED, 0)

    def _compare(self, state: State, sensor: int, now: int, report: Report) -> None:
        row = np.flatnonzero(state.model == self._model[sensor])
        cell = state.first[row] + self._column[sensor]
        open_before = state.cell["open"][cell]
        for i in np.flatnonzero(open_before == ENDED).tolist():
            self._clear(state, int(row[i]), int(cell[i]), sensor, Evidence(), now, report)
        compared = _beside_each_other(state, row, cell, float(self._margin[sensor]), now)
        if compared is None:
            return
        stands = state.cell["open"][compared.cell] > 0
        for i in np.flatnonzero(compared.unlike & ~stands).tolist():
            self._open(state, compared, i, sensor, now, report)
        for i in np.flatnonzero(compared.like & stands).tolist():
            facts = self._facts(compared, i, sensor)
            self._clear(state, int(compared.row[i]), int(compared.cell[i]), sensor, facts, now, report)

    def _open(self, state: State, compared: Comparison, i: int, sensor: int, now: int, report: Report) -> None:
        state.cell["open"][compared.cell[i]] = 1
        off, facts = float(compared.off[i]), self._facts(compared, i, sensor)
        limit = float(self._high[sensor] if off > 0 else self._low[sensor])
        near = abs(off) >= URGENT_SHARE * abs(limit - compared.centre)
        if np.isfinite(limit):
            facts["limit"] = limit
        facts["side"] = "above" if off > 0 else "below"
        # No more than 4/(9 z²) of any distribution with one peak lies beyond z standard deviations.
        sure = 1 - 4 / (9 * max((off / float(compared.spread[i])) ** 2, 1.0))
        report.add(
            int(compared.row[i]), 0, FaultKind.PEER, self._sensors[sensor].name, True, now, self.rule, facts,
            severity=None if near else Severity.ROUTINE, confidence=round(min(sure, MOST_SURE), 3),
        )  # fmt: skip

    def _clear(self, state: State, row: int, cell: int, sensor: int, facts: Evidence, now: int, report: Report) -> None:
        state.cell["open"][cell] = 0
        report.add(row, 0, FaultKind.PEER, self._sensors[sensor].name, False, now, self.rule, facts)

    def _facts(self, compared: Comparison, i: int, sensor: int) -> Evidence:
        reach = max(float(self._margin[sensor]), OPENS_SIGMA * float(compared.spread[i]))
        facts = Evidence(
            value=round(float(compared.level[i]), 4),
            expected=round(compared.centre, 4),
            band=(round(compared.centre - reach, 4), round(compared.centre + reach, 4)),
            peers=compared.peers,
        )
        if self._sensors[sensor].unit:
            facts["unit"] = self._sensors[sensor].unit
        return facts


def _beside_each_other(state: State, row: Ints, cell: Ints, margin: float, now: int) -> Comparison | None:
    """Hold the machines with fresh levels beside each other; None where they are too few, or no margin is known."""
    if np.isnan(margin) or len(row) < LEAST_MACHINES:
        return None
    known = state.cells[Trend.name]
    level, at = known["level"][cell].astype(np.float64), known["at"][cell]
    fresh = np.flatnonzero(np.isfinite(level) & (np.abs(now - at) < FRESH_MS))
    if len(fresh) < LEAST_MACHINES:
        return None
    row, cell, level = row[fresh], cell[fresh], level[fresh]
    error, usual = known["level_error"][cell].astype(np.float64), known["usual"][cell].astype(np.float64)
    centre, off, spread = _robust(level, error)
    _, change, change_spread = _robust(np.where(np.isfinite(usual), level - usual, 0.0), error)
    unlike = np.abs(off) > np.maximum(margin, OPENS_SIGMA * spread)
    unlike |= np.abs(change) > np.maximum(margin, OPENS_SIGMA * change_spread)
    like = np.abs(off) < CLEARS_SHARE * np.maximum(margin, CLEARS_SIGMA * spread)
    like &= np.abs(change) < CLEARS_SHARE * np.maximum(margin, CLEARS_SIGMA * change_spread)
    return Comparison(row, cell, level, off, spread, unlike, like, centre, len(row) - 1)


def _robust(value: Floats, error: Floats) -> tuple[float, Floats, Floats]:
    """The median, the offsets from it, and each offset's standard deviation (MAD, and the error of the value)."""
    centre = float(np.median(value))
    off = value - centre
    mad = float(np.median(np.abs(off)))
    return centre, off, np.sqrt((MAD_TO_SIGMA * mad) ** 2 + error * error) + 1e-12


def _margin(profile: Profile, sensor: Sensor) -> float:
    """How far one machine may lie from the others in any case; NaN where the sensor is not compared."""
    if not sensor.trend or sensor.name == profile.load_sensor:
        return float("nan")
    if sensor.peer_margin is not None:
        return sensor.peer_margin
    return MARGIN_SHARE * way_to_limit(sensor) or float("nan")
