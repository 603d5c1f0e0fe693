"""Limits: a sensor beyond its profile's band for as long as the profile says."""

from typing import ClassVar

import numpy as np

from monitor.detect.detector import Detector, Ended, Fields, Rows, State, gathered, scatter
from monitor.detect.finding import Evidence, Report
from monitor.detect.models import Models
from monitor.devices import FaultKind, Profile, Sensor
from monitor.readings import STATES


class Limits(Detector):
    """Beyond the band for `hold_s` opens; two samples in a row inside it by `clear_margin` clear.

    What counts is time on the machine's clock between samples that say something. A gap, a clock that goes back, a
    value that is no number, and a state in which the limit means nothing: each begins the hold anew, for in none of
    them was the condition seen to last. An open fault outlives them all, a switched-off machine too: it is over when
    the machine has shown that it is over. A metric that a message merely leaves out says nothing, within the gap.
    """

    name: ClassVar[str] = "limits"
    version: ClassVar[int] = 1
    kind: ClassVar[FaultKind | None] = FaultKind.LIMIT
    cell_kind: ClassVar[str] = FaultKind.LIMIT
    cell_fields: ClassVar[Fields] = [
        ("since", "<i8"),  # `at` of the first sample of the present run beyond the band; 0: not beyond
        ("last_at", "<i8"),  # `at` of the last sample that said something; 0: none yet
        ("inside_at", "<i8"),  # `at` of a first sample inside by the margin; 0: the last one was not
        ("open", "u1"),
    ]

    def configure(self, models: Models) -> None:
        def bound(sensor: Sensor, end: str, absent: float) -> float:
            value = getattr(sensor.limits, end) if sensor.limits else None
            return absent if value is None else value

        self._sensors = models.sensors
        self._max_gap_ms = models.of_model(lambda profile: profile.max_gap_s * 1000)
        self._limited = models.of_sensor(lambda _, sensor: sensor.limits is not None, np.bool_)
        self._low = models.of_sensor(lambda _, sensor: bound(sensor, "low", -np.inf), np.float64)
        self._high = models.of_sensor(lambda _, sensor: bound(sensor, "high", np.inf), np.float64)
        self._hold_ms = models.of_sensor(lambda _, sensor: bound(sensor, "hold_s", 0) * 1000)
        # A margin as wide as the band would leave nothing inside, and the fault could never clear.
        margin = models.of_sensor(lambda _, sensor: bound(sensor, "clear_margin", 0), np.float64)
        self._margin = np.fmin(margin, (self._high - self._low) / 4)
        self._means = models.of_sensor(_meaningful, np.bool_).reshape(-1, len(STATES))

    def step(self, state: State, rows: Rows, report: Report) -> None:
        memory = state.cell
        pick = np.flatnonzero(self._limited[rows.sensor] | (memory["open"][rows.cell] > 0))
        of, cell, sensor, value = rows.of[pick], rows.cell[pick], rows.sensor[pick], rows.value[pick]
        own = gathered(memory, cell)
        at, last_at, since, inside_at, was_open = (
            rows.at[of], own["last_at"], own["since"], own["inside_at"], own["open"].copy()
        )  # fmt: skip
        low, high, margin = self._low[sensor], self._high[sensor], self._margin[sensor]
        said = self._means[sensor, rows.state[of]] & ~np.isnan(value)
        beyond = said & ((value < low) | (value > high))
        inside = said & (value >= low + margin) & (value <= high - margin)
        torn = (at < last_at) | (at - last_at > self._max_gap_ms[rows.model[of]])
        since = np.where(beyond, np.where(torn | (since == 0), at, since), 0)
        opens = beyond & (was_open == 0) & (at - since >= self._hold_ms[sensor])
        clears = inside & (was_open > 0) & (inside_at > 0)

        turned = np.flatnonzero(opens | clears).tolist()
        began_at = np.where(opens, since, inside_at)
        own["since"] = since
        own["last_at"] = np.where(said, at, last_at)
        own["inside_at"] = np.where(inside & ~clears, np.where(inside_at > 0, inside_at, at), inside_at * ~said)
        own["open"] = (was_open | opens) & ~clears
        scatter(memory, cell, own)
        for i in turned:
            began = int(began_at[i])
            self._tell(rows, int(of[i]), self._sensors[sensor[i]], float(value[i]), bool(opens[i]), began, report)

    def release(self, state: State, ended: Ended) -> None:
        if ended.cell is not None:
            for field in ("since", "inside_at", "open"):
                state.cell[field][ended.cell] = 0

    def _tell(
        self, rows: Rows, of: int, sensor: Sensor, value: float, opened: bool, since_at: int, report: Report
    ) -> None:
        evidence = Evidence(value=value, since_at=since_at)
        limits = sensor.limits
        if opened and limits:
            above = limits.high is not None and value > limits.high
            crossed = limits.high if above else limits.low
            evidence |= Evidence(side="above" if above else "below", hold_s=limits.hold_s)
            if crossed is not None:
                evidence["limit"] = crossed
        if sensor.unit:
            evidence["unit"] = sensor.unit
        row, position = int(rows.device[of]), int(rows.position[of])
        report.add(row, position, FaultKind.LIMIT, sensor.name, opened, since_at, self.rule, evidence)


def _meaningful(_: Profile, sensor: Sensor) -> list[bool]:
    return [not sensor.states or state in sensor.states for state in STATES]
