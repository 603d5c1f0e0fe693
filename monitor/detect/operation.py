"""Operation: what a machine is doing, since when, and how many faults stand open on it. Other detectors read it."""

from typing import ClassVar

import numpy as np

from monitor.detect.detector import Detector, Fields, Rows, State, gathered, scatter
from monitor.detect.models import Models


class Operation(Detector):
    """Finds nothing. It keeps what several detectors need to know before they judge.

    `since_at` begins anew with another state, another boot, a clock that goes back, and a gap: in none of them is it
    known that the machine went on as before. `faults` is kept by the bank (Detector.standing), from one round to the
    next: what is learnt while it is not 0 would be learnt from a faulty machine.
    """

    name: ClassVar[str] = "operation"
    version: ClassVar[int] = 1
    device_fields: ClassVar[Fields] = [
        ("since_at", "<i8"),  # device, first reading of the present state; 0: none yet
        ("last_at", "<i8"),  # device, the latest reading; 0: none yet
        ("boot", "<i8"),  # of that reading
        ("faults", "<i4"),  # findings of any detector that stand open
        ("state", "i1"),  # index into STATES; -1: none yet
    ]
    blank: ClassVar[dict[str, float]] = {"state": -1}

    def configure(self, models: Models) -> None:
        self._max_gap_ms = models.of_model(lambda profile: profile.max_gap_s * 1000)

    def step(self, state: State, rows: Rows, _: object, /) -> None:
        read = np.flatnonzero(rows.state >= 0)  # events carry no state
        row, at = rows.device[read], rows.at[read]
        own = gathered(state.device, row)
        torn = (own["last_at"] == 0) | (at < own["last_at"]) | (rows.boot[read] != own["boot"])
        torn |= at - own["last_at"] > self._max_gap_ms[rows.model[read]]
        own["since_at"] = np.where(torn | (rows.state[read] != own["state"]), at, own["since_at"])
        own["last_at"], own["boot"], own["state"] = at, rows.boot[read], rows.state[read]
        scatter(state.device, row, own)

    def renew(self, state: State, row: int) -> None:
        state.device["since_at"][row] = state.device["last_at"][row] = 0
