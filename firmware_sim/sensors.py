"""What the sensors of one machine make of the truth: noise, calibration, slow drift, stray spikes, steps, ailments.

Everything comes in blocks of rows, one a reading; how a course is cut into blocks changes nothing.
"""

import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from firmware_sim.device import DAY_MS, Model
from firmware_sim.failures import HEALTHY, Ailments

Floats = npt.NDArray[np.float64]

RESOLUTION = 0.01
CALIBRATION = 0.004
"""Standard deviation of a sensor's error as a share of its value."""
DRIFT = 0.003
"""How far a healthy sensor wanders over weeks, as a share of its value."""
SPIKE_SIGMA = 4.1
"""About one reading in 24,000 is a stray one: every third day at one every ten seconds."""
OPEN_CIRCUIT = {
    "coolant_temp_c": -40.0,
    "oil_pressure_bar": 10.2,
    "vibration_mm_s": 51.2,
    "fuel_level_pct": 102.0,
    "winding_temp_c": 250.0,
    "discharge_temp_c": 210.0,
    "bearing_temp_c": 210.0,
    "discharge_pressure_bar": 25.0,
    "flow_m3_h": 320.0,
}
"""What an input shows when its wire is broken: the end of its range, up or down as the circuit has it."""
_OPEN_ELSEWHERE = 655.35


class Run(NamedTuple):
    """Rows of a block over which the same is wrong."""

    start: int
    end: int
    hurt: Ailments


class Sensors:
    """The sensors of one machine, each with errors of its own. `spread` 0: none but noise and steps."""

    def __init__(self, model: Model, names: Sequence[str], seed: str, spread: float) -> None:
        # Python's own hash of a text is another one in every process.
        self._chance = np.random.default_rng(zlib.crc32(f"{seed}/noise".encode()))
        make = np.random.default_rng(zlib.crc32(f"{seed}/sensors".encode()))
        self._names = tuple(names)
        self._place = {name: place for place, name in enumerate(names)}
        count = len(names)
        noise = np.array([model.noise.get(name, 0.0) for name in names])
        alive = noise > 0
        self._noise = noise * np.exp(spread * make.normal(0.0, 0.15, count))
        self._rests_at_zero = alive & np.array([not name.endswith("_temp_c") for name in names])
        self._step = np.array([model.resolution.get(name, RESOLUTION) for name in names])
        self._scale = 1 + spread * CALIBRATION * make.normal(0.0, 1.0, count) * alive
        self._drift = spread * DRIFT * make.random(count) * alive
        self._turn = math.tau / (DAY_MS * make.uniform(6, 40, count))
        self._phase = make.uniform(0, math.tau, count)
        self._spiky = np.flatnonzero(alive) if spread else np.zeros(0, dtype=np.int64)
        self._last: Floats | None = None

    def read(self, at: npt.NDArray[np.int64], truth: Floats, hurts: Sequence[Run] = ()) -> Floats:
        """What is shown at these moments (epoch ms), (rows, sensors)."""
        drawn = self._chance.standard_normal((len(at), truth.shape[1] + 1))
        wander = 1 + self._drift * np.sin(self._turn * at[:, None] + self._phase)
        shown: Floats = truth * self._scale * wander + drawn[:, :-1] * self._noise
        # At rest a transducer sits at its zero; for a temperature 0 is a value like any other.
        shown[(np.abs(truth) <= 2 * self._noise) & self._rests_at_zero] = 0.0
        self._spike(shown, drawn[:, -1])
        for run in hurts:
            if run.hurt is not HEALTHY:
                self._fail(shown, run)
        shown = np.round(np.round(shown / self._step) * self._step, 3) + 0.0
        self._freeze(shown, hurts)
        self._last = shown[-1].copy() if len(shown) else self._last
        return shown

    def _spike(self, shown: Floats, drawn: Floats) -> None:
        """Single readings that mean nothing: the starter next door, a loose plug. The draw itself says where."""
        if len(self._spiky):
            for row in np.flatnonzero(np.abs(drawn) > SPIKE_SIGMA).tolist():
                fraction = abs(drawn[row]) * 1e4 % 1
                column = self._spiky[int(fraction * len(self._spiky))]
                shown[row, column] *= 1 + math.copysign(0.2 + fraction, drawn[row])

    def _fail(self, shown: Floats, run: Run) -> None:
        for name, share in run.hurt.drift.items():
            if name in self._place:
                shown[run.start : run.end, self._place[name]] *= 1 + share
        for name in run.hurt.open_circuit & self._place.keys():
            shown[run.start : run.end, self._place[name]] = OPEN_CIRCUIT.get(name, _OPEN_ELSEWHERE)

    def _freeze(self, shown: Floats, hurts: Sequence[Run]) -> None:
        """Stuck sensors show what they showed before; the noise was drawn all the same, so that others stay as they
        were."""
        for run in hurts:
            before = shown[run.start - 1] if run.start else self._last
            if before is not None:
                for name in run.hurt.stuck & self._place.keys():
                    shown[run.start : run.end, self._place[name]] = before[self._place[name]]
