"""Clock: a machine whose time is not ours."""

from typing import ClassVar

import numpy as np

from monitor.detect.detector import Detector, Ended, Fields, Rows, State, gathered, scatter
from monitor.detect.finding import Evidence, Reason, Report
from monitor.devices import FaultKind
from monitor.readings import What

TOLERANCE_MS = 300_000
STEADY_MS = 60_000
STEADY_MESSAGES = 5
STEADY_SHARE = 0.2
JITTER_MS = 2_000
SANE_READINGS = 3

AHEAD, BEHIND = 1, 2


class Clock(Detector):
    """Ahead: ingest had to reject a message from the future. Behind: readings lag by more than five minutes, and go on
    lagging by the same amount while time passes; a backlog that is being sent catches up instead.

    Three readings in a row with a sane clock clear.
    """

    name: ClassVar[str] = "clock"
    version: ClassVar[int] = 1
    kind: ClassVar[FaultKind | None] = FaultKind.WRONG_CLOCK
    takes_late: ClassVar[bool] = True
    device_fields: ClassVar[Fields] = [
        ("from_at", "<i8"),  # device, of the first reading of the present run of equal lag
        ("from_received", "<i8"),  # server, of the same
        ("count", "<i4"),  # readings of that run; 0: the clock is sane
        ("sane", "u1"),  # sane readings in a row
        ("open", "u1"),
    ]

    def step(self, state: State, rows: Rows, report: Report) -> None:
        own = gathered(state.device, rows.device)
        # A clock that has long been sane and still is changes nothing; nearly all of them are.
        doubted = (own["open"] | own["count"] | own["from_at"] | own["from_received"]) != 0
        doubted |= (own["sane"] <= SANE_READINGS) | (np.abs(rows.received_at - rows.at) > TOLERANCE_MS)
        readings = np.flatnonzero(doubted & (rows.what == What.READING))
        if not len(readings):
            return
        here, at, received_at = rows.device[readings], rows.at[readings], rows.received_at[readings]
        own = gathered(own, readings)
        lag = received_at - at
        behind, sane = lag > TOLERANCE_MS, np.abs(lag) <= TOLERANCE_MS
        run_at, run_received = at - own["from_at"], received_at - own["from_received"]
        lag_then = own["from_received"] - own["from_at"]
        steady = (own["count"] > 0) & (np.abs(lag - lag_then) <= STEADY_SHARE * lag_then)
        steady &= np.abs(run_at - run_received) <= STEADY_SHARE * run_received + JITTER_MS
        own["count"] = np.where(behind, np.where(steady, np.minimum(own["count"], 1_000_000) + 1, 1), 0)
        own["from_at"] = np.where(steady & behind, own["from_at"], at * behind)
        own["from_received"] = np.where(steady & behind, own["from_received"], received_at * behind)
        own["sane"] = np.where(sane, np.minimum(own["sane"], SANE_READINGS) + 1, 0)
        lasted = steady & (own["count"] >= STEADY_MESSAGES) & (run_received >= STEADY_MS)
        opens = behind & lasted & (own["open"] == 0)
        clears = (own["open"] > 0) & (own["sane"] >= SANE_READINGS)
        own["open"] = np.where(opens, BEHIND, np.where(clears, 0, own["open"]))
        scatter(state.device, here, own)

        for i in np.flatnonzero(opens | clears).tolist():
            since = int(own["from_received"][i] if opens[i] else received_at[i])
            evidence = Evidence(lag_s=float(lag[i]) / 1000)
            if opens[i]:
                evidence["reason"] = Reason.CLOCK_BEHIND
            position = int(rows.position[readings[i]])
            report.add(
                int(here[i]), position, FaultKind.WRONG_CLOCK, "", bool(opens[i]), since, self.rule, evidence
            )  # fmt: skip

    def release(self, state: State, ended: Ended) -> None:
        for field in ("open", "count", "sane"):
            state.device[field][ended.row] = 0

    def clock_ahead(self, state: State, row: int, at: int, received_at: int, report: Report) -> None:
        own = state.device[row]
        own["sane"] = 0
        if own["open"]:
            return
        own["open"] = AHEAD
        evidence = Evidence(reason=Reason.CLOCK_AHEAD, lag_s=(received_at - at) / 1000)
        report.add(row, 0, FaultKind.WRONG_CLOCK, "", True, received_at, self.rule, evidence)
