"""Silence: a machine that ought to be heard and is not."""

from typing import ClassVar

import numpy as np

from monitor.detect.detector import Attended, Detector, Ended, Fields, Rows, State
from monitor.detect.finding import Evidence, Reason, Report
from monitor.detect.models import Models
from monitor.detect.startup import Startup
from monitor.devices import FaultKind
from monitor.readings import Ints, Status

MISSED_REPORTS = 3
COMMISSIONING_MS = 900_000
"""So long after a machine was first heard somebody is likely to stand beside it: its silence is told at once."""
GAP_CONFIDENCE = 0.5
"""That a silence is more than a gap of the radio, which ends by itself. Lasting makes it certain (triage)."""
LONGEST_BACK_OFF_MS = 120_000
"""What docs/wire-contract.md asks of firmware: back off up to two minutes."""


class Silence(Detector):
    """A last will, or three missed reports on the server's clock while we ourselves were listening.

    Not after a polite goodbye, not for a machine that was never heard, and not while a start is pending: the start's
    own time-out says more. A silence may be a gap of the radio, so it is a weak sign until it has lasted; but not
    while a machine is being put into service.
    """

    name: ClassVar[str] = "silence"
    version: ClassVar[int] = 2
    kind: ClassVar[FaultKind | None] = FaultKind.SILENT
    takes_late: ClassVar[bool] = True
    device_fields: ClassVar[Fields] = [
        ("first_at", "<i8"),  # server, when it was first heard; 0: never
        ("heard_at", "<i8"),  # server; 0: never
        ("lost_at", "<i8"),  # server, when a last will came that still stands; 0: none
        ("silent_at", "<i8"),  # server, since when an open silence lasts
        ("online_at", "<i8"),  # device, of the latest `online`
        ("goodbye_at", "<i8"),  # device, of a polite `offline` that still stands; 0: none
        ("boot", "<i8"),  # 1 + the latest boot heard of; 0: none
        ("open", "u1"),
    ]

    def configure(self, models: Models) -> None:
        self._patience_ms = models.of_model(lambda profile: MISSED_REPORTS * profile.report_interval_s * 1000)

    def step(self, state: State, rows: Rows, report: Report) -> None:
        own, here, boot = state.device, rows.device, rows.boot + 1
        # What was said before the goodbye and arrives after it does not take the goodbye back.
        goodbye_at, known_boot = own["goodbye_at"][here], own["boot"][here]
        stands = (rows.at <= goodbye_at) & (boot <= known_boot)
        own["goodbye_at"][here] = np.where(stands, goodbye_at, 0)
        own["boot"][here] = np.maximum(known_boot, boot)
        for i in self._hear(state, here, rows.received_at):
            self._clear(state, int(here[i]), int(rows.position[i]), report)

    def alive(self, state: State, rows: Ints, received_at: int) -> None:
        # An open silence is cleared by the next tick: this says that there is life, and nobody waits for an answer.
        own = state.device
        own["heard_at"][rows] = np.maximum(own["heard_at"][rows], received_at)
        own["first_at"][rows] = np.where(own["first_at"][rows] > 0, own["first_at"][rows], received_at)
        own["lost_at"][rows] *= own["lost_at"][rows] > received_at

    def status(self, state: State, row: int, status: Status, received_at: int, report: Report, /) -> None:
        own = state.device[row]
        if status.state == "lost":
            self._lost(state, row, status, received_at, report)
            return
        if status.state == "online":
            own["online_at"] = max(own["online_at"], status.at)
            own["goodbye_at"] *= own["goodbye_at"] > status.at
        else:
            own["goodbye_at"] = status.at
        own["boot"] = max(own["boot"], status.boot + 1)
        for _ in self._hear(state, np.array([row]), np.array([received_at])):
            self._clear(state, row, 0, report)

    def tick(self, state: State, now: int, attended: Attended, report: Report) -> None:
        own, heard_at = state.device, state.device["heard_at"]
        waits = (state.model < 0) | (heard_at == 0) | (own["open"] > 0) | (state.of(Startup)["pending_at"] > 0)
        lost = ~waits & (own["lost_at"] > 0)
        missing_ms = now - np.maximum(heard_at, attended.since)
        # A firmware that backs off by doubling may wait as long again as we were away before it tries to connect.
        returning_ms = min(attended.away_ms, LONGEST_BACK_OFF_MS) + self._patience_ms // MISSED_REPORTS
        patience_ms = np.where(
            heard_at < attended.since,
            np.maximum(self._patience_ms, returning_ms)[state.model],
            self._patience_ms[state.model],
        )
        missed = ~waits & ~lost & (own["goodbye_at"] == 0) & (missing_ms > patience_ms)
        for row in np.flatnonzero(lost).tolist():
            self._open(state, row, int(own["lost_at"][row]), Reason.LOST, report)
        for row in np.flatnonzero(missed).tolist():
            self._open(state, row, int(heard_at[row]), Reason.MISSED_REPORTS, report)
        for row in np.flatnonzero((state.model >= 0) & (own["open"] > 0) & (heard_at > own["silent_at"])).tolist():
            self._clear(state, row, 0, report)

    def release(self, state: State, ended: Ended) -> None:
        state.device["open"][ended.row] = 0
        state.device["lost_at"][ended.row] = 0

    def renew(self, state: State, row: int) -> None:
        state.device["boot"][row] = state.device["first_at"][row] = 0

    def _hear(self, state: State, here: Ints, received_at: Ints) -> list[int]:
        """Note life; answers which of these machines were silent until now."""
        own = state.device
        own["heard_at"][here] = np.maximum(own["heard_at"][here], received_at)
        own["first_at"][here] = np.where(own["first_at"][here] > 0, own["first_at"][here], received_at)
        own["lost_at"][here] *= own["lost_at"][here] > received_at
        return np.flatnonzero((own["open"][here] > 0) & (received_at > own["silent_at"][here])).tolist()

    def _lost(self, state: State, row: int, status: Status, received_at: int, report: Report) -> None:
        own = state.device[row]
        of_an_older_connection = status.precedes(int(own["online_at"])) or status.boot + 1 < own["boot"]
        if own["heard_at"] == 0 or own["goodbye_at"] or of_an_older_connection or received_at < own["heard_at"]:
            return
        own["lost_at"] = received_at
        if not own["open"] and not state.of(Startup)["pending_at"][row]:
            self._open(state, row, received_at, Reason.LOST, report)

    def _open(self, state: State, row: int, since: int, reason: Reason, report: Report) -> None:
        own = state.device[row]
        own["open"], own["silent_at"] = 1, since
        evidence = Evidence(reason=reason, last_heard_at=int(own["heard_at"]))
        attended = since - int(own["first_at"]) < COMMISSIONING_MS
        confidence = 1.0 if attended else GAP_CONFIDENCE
        report.add(row, 0, FaultKind.SILENT, "", True, since, self.rule, evidence, confidence=confidence)

    def _clear(self, state: State, row: int, position: int, report: Report) -> None:
        own = state.device[row]
        own["open"] = 0
        heard_at, silent_at = int(own["heard_at"]), int(own["silent_at"])
        report.add(row, position, FaultKind.SILENT, "", False, heard_at, self.rule, Evidence(since_at=silent_at))
