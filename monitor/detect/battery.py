"""Battery: a starter battery that no longer holds its charge, seen while the machine stands."""

from typing import ClassVar

import numpy as np

from monitor.detect.detector import Detector, Ended, Fields, Rows, State, gathered, scatter
from monitor.detect.finding import Evidence, Report
from monitor.detect.models import Models
from monitor.detect.operation import Operation
from monitor.devices import FaultKind, Profile, Sensor
from monitor.readings import STATE_CODE

REST_MS = 1_800_000
"""So long after the engine stopped, or was cranked, the charge on the plates' surface has gone."""
HOLD_MS = 600_000
CLEARS_V = 0.15


class Battery(Detector):
    """Less than the profile's `battery_rest_low_v` for ten minutes, half an hour and more after the engine stopped.

    The voltage of a battery at rest says how much charge it holds (12.4 V of a 12 V lead-acid battery: three quarters);
    one that charges well and is low again after every night is worn. While the engine runs the alternator hides it,
    so this shows only at rest, and is over only when it rests CLEARS_V higher, twice in a row.
    """

    name: ClassVar[str] = "battery"
    version: ClassVar[int] = 1
    kind: ClassVar[FaultKind | None] = FaultKind.WEAK_BATTERY
    cell_kind: ClassVar[str] = FaultKind.WEAK_BATTERY
    cell_fields: ClassVar[Fields] = [
        ("since_at", "<i8"),  # device, first reading of the present run below; 0: not below
        ("inside_at", "<i8"),  # device, a first reading that is high enough to clear; 0: the last one was not
        ("open", "u1"),
    ]

    def configure(self, models: Models) -> None:
        self._sensors = models.sensors
        self._low_v = models.of_sensor(_rest_low_v, np.float64)

    def step(self, state: State, rows: Rows, report: Report) -> None:
        concerned = (self._low_v[rows.sensor] > -np.inf) | (state.cell["open"][rows.cell] > 0)
        pick = np.flatnonzero(concerned & ~np.isnan(rows.value))
        of, cell, value, low_v = rows.of[pick], rows.cell[pick], rows.value[pick], self._low_v[rows.sensor[pick]]
        at, own = rows.at[of], gathered(state.cell, cell)
        rests = rows.state[of] == STATE_CODE["off"]
        rests &= at - state.of(Operation)["since_at"][rows.device[of]] >= REST_MS
        below, inside = rests & (value < low_v), rests & (value >= low_v + CLEARS_V)
        since_at = np.where(below, np.where(own["since_at"] > 0, own["since_at"], at), 0)
        opens = below & (own["open"] == 0) & (at - since_at >= HOLD_MS)
        clears = inside & (own["open"] > 0) & (own["inside_at"] > 0)
        began_at = np.where(opens, since_at, own["inside_at"])
        own["since_at"] = since_at
        own["inside_at"] = np.where(inside & ~clears, np.where(own["inside_at"] > 0, own["inside_at"], at), 0)
        own["open"] = (own["open"] > 0) & ~clears | opens
        scatter(state.cell, cell, own)
        for i in np.flatnonzero(opens | clears).tolist():
            sensor = self._sensors[rows.sensor[pick[i]]]
            evidence = Evidence(value=float(value[i]), since_at=int(began_at[i]))
            if opens[i]:
                evidence |= Evidence(limit=float(low_v[i]), side="below", hold_s=HOLD_MS / 1000)
            if sensor.unit:
                evidence["unit"] = sensor.unit
            row, position = int(rows.device[of[i]]), int(rows.position[of[i]])
            began = int(began_at[i])
            report.add(row, position, FaultKind.WEAK_BATTERY, sensor.name, bool(opens[i]), began, self.rule, evidence)

    def release(self, state: State, ended: Ended) -> None:
        if ended.cell is not None:
            for field in ("since_at", "inside_at", "open"):
                state.cell[field][ended.cell] = 0


def _rest_low_v(profile: Profile, sensor: Sensor) -> float:
    low_v = profile.battery_rest_low_v if sensor.name == profile.battery_sensor else None
    return -np.inf if low_v is None else low_v
