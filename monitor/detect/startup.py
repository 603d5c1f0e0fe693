"""Start-up: a machine that was asked to run and is not running."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from monitor.detect.detector import Attended, Detector, Ended, Fields, Records, Rows, State, gathered, scatter
from monitor.detect.finding import Evidence, Reason, Report
from monitor.detect.models import Models
from monitor.devices import FaultKind
from monitor.readings import STATE_CODE, Floats, Ints, Status, What

REMEMBERED = 8
"""So many attempts and boots are remembered; a profile that asks for more is held to this many."""

_CODES: tuple[Reason, ...] = (
    Reason.TIMEOUT, Reason.NEVER_ATTEMPTED, Reason.NO_SIGNAL, Reason.START_FAILED, Reason.FAULT_STATE, Reason.ATTEMPTS,
    Reason.BOOT_LOOP, Reason.SHUT_DOWN,
)  # fmt: skip
BROKEN_OFF_SHARE = 0.1
"""Of the profile's time: an attempt that was stopped sooner was broken off, and says nothing of the machine."""

_CODE = {reason: code for code, reason in enumerate(_CODES, start=1)}

_UNKNOWN, _OFF, _CRANKING, _RUNNING, _FAULT = 0, *(1 + STATE_CODE[s] for s in ("off", "cranking", "running", "fault"))

Mask = npt.NDArray[np.bool_]


class Startup(Detector):
    """A start is pending from its request, or from cranking, until the machine runs or says that it was stopped.

    It fails: when the machine is not running within the profile's time (by its own clock where data goes on, by the
    server's where none comes: this one rule counts on through missing data); when the machine says so, or goes into
    state fault; with the last attempt that the profile allows without running in between. So does a controller that
    boots again and again. Falling back to off settles nothing, for that is what an engine that did not catch looks
    like; an explicit `stopped` does, though the attempt stays counted, unless it was broken off at once. Running
    clears; a boot loop is over when the machine has run for as long as a start may take.

    So is a machine that was running and goes into state fault: it stalled, or its protection stopped it.
    """

    name: ClassVar[str] = "startup"
    version: ClassVar[int] = 2
    kind: ClassVar[FaultKind | None] = FaultKind.STARTUP_FAILURE
    device_fields: ClassVar[Fields] = [
        ("pending_at", "<i8"),  # device, when the pending start began; 0: none
        ("pending_received", "<i8"),  # server, of the same
        ("requested_at", "<i8"),  # device, of the request; 0 where only cranking was seen
        ("ran_since", "<i8"),  # device, first of the unbroken running readings of this boot; 0: not running
        ("boot", "<i8"),  # 1 + the latest boot heard of; 0: none
        ("attempts", "<i8", (REMEMBERED,)),  # device, of the latest attempts since it last ran, newest last
        ("boots", "<i8", (REMEMBERED,)),  # device, of the latest boots since it ran steadily, newest last
        ("battery_low", "<f8"),  # lowest while cranking, in the pending start
        ("battery", "<f8"),  # last
        ("fuel", "<f8"),  # last
        ("state", "u1"),  # 1 + the last state; 0: unknown
        ("open", "u1"),  # 1 + index into _CODES; 0: no open failure
        ("cranked", "u1"),  # whether the pending start cranked
        ("heard", "u1"),  # whether anything came after the message that began it
        ("uncranked", "u1"),  # whether the last request still waits for its first crank
        ("halted", "u1"),  # whether it said `stopped` while running, and has not said since what it is doing
    ]
    blank: ClassVar[dict[str, float]] = {"battery_low": np.nan, "battery": np.nan, "fuel": np.nan}

    def configure(self, models: Models) -> None:
        self._timeout_ms = models.of_model(lambda profile: profile.start_timeout_s * 1000)
        self._window_ms = models.of_model(lambda profile: profile.start_window_s * 1000)
        self._attempts = models.of_model(lambda profile: min(profile.start_attempts, REMEMBERED))
        self._boots = models.of_model(lambda profile: min(profile.boot_loop_boots, REMEMBERED))
        self._is_battery = models.of_sensor(lambda profile, sensor: sensor.name == profile.battery_sensor, np.bool_)
        self._is_fuel = models.of_sensor(lambda profile, sensor: sensor.name == profile.fuel_sensor, np.bool_)

    def step(self, state: State, rows: Rows, report: Report) -> None:
        own = gathered(state.device, rows.device)
        battery = self._note_supply(own, rows)
        for field in ("battery", "fuel"):
            state.device[field][rows.device] = own[field]
        busy = np.flatnonzero(~_goes_on(own, rows))
        if len(busy):
            those = gathered(own, busy)
            self._follow(those, rows.heads(busy), battery[busy], report)
            scatter(state.device, rows.device[busy], those)

    def _follow(self, own: Records, rows: Rows, battery: Floats, report: Report) -> None:
        """Take machines a message further, each with the battery it reports (NaN: none), all rules in order."""
        at = rows.at
        timeout_ms, window_ms = self._timeout_ms[rows.model], self._window_ms[rows.model]
        running = (rows.state + 1 == _RUNNING) | (rows.what == What.STARTED)
        was_open = own["open"].copy()
        own["heard"] |= own["pending_at"] > 0
        late = (own["pending_at"] > 0) & ~running & (at >= own["pending_at"] + timeout_ms)
        overdue = np.where(own["cranked"] > 0, _CODE[Reason.TIMEOUT], _CODE[Reason.NEVER_ATTEMPTED])
        self._open(own, rows, np.where(late, overdue, 0), report)

        booted = _boot(own, rows.boot, at)
        attempted = _begin(own, rows)
        own["battery_low"] = np.where(
            rows.state + 1 == _CRANKING, np.fmin(own["battery_low"], battery), own["battery_low"]
        )
        faulted = rows.state + 1 == _FAULT
        ran = (own["state"] == _RUNNING) | (own["halted"] > 0)
        causes = {
            Reason.BOOT_LOOP: booted & (_within(own["boots"], at, window_ms) >= self._boots[rows.model]),
            Reason.START_FAILED: rows.what == What.START_FAILED,
            Reason.FAULT_STATE: (own["pending_at"] > 0) & faulted,
            Reason.SHUT_DOWN: (own["pending_at"] == 0) & faulted & ran,
            Reason.ATTEMPTS: attempted & (_within(own["attempts"], at, window_ms) >= self._attempts[rows.model]),
        }
        self._open(own, rows, np.select(list(causes.values()), [_CODE[reason] for reason in causes], 0), report)

        steady = _run(own, rows, running, timeout_ms)
        clears = running & (was_open > 0) & (steady | (was_open != _CODE[Reason.BOOT_LOOP]))
        own["open"][clears] = 0
        _break_off(own, rows, BROKEN_OFF_SHARE * timeout_ms)
        _settle(own, running | (rows.what == What.STOPPED))
        for i in np.flatnonzero(clears).tolist():
            row, position = int(rows.device[i]), int(rows.position[i])
            report.add(row, position, FaultKind.STARTUP_FAILURE, "", False, int(at[i]), self.rule, Evidence())

    def status(self, state: State, row: int, status: Status, _: int, report: Report, /) -> None:
        # A controller that boots again and again may come no further than `online`.
        if status.state != "online":
            return
        own, model = state.device[row : row + 1], int(state.model[row])
        at, window_ms = np.array([status.at]), int(self._window_ms[model])
        booted = _boot(own, np.array([status.boot]), at)
        if booted[0] and not own["open"][0] and _within(own["boots"], at, window_ms)[0] >= self._boots[model]:
            own["open"] = _CODE[Reason.BOOT_LOOP]
            self._tell(own, row, 0, status.at, window_ms, report)
            own["pending_at"] = 0

    def tick(self, state: State, now: int, attended: Attended, report: Report) -> None:
        own = state.device
        # While we were not listening nobody could be heard to start: the time begins again with our own return.
        waited_ms = now - np.maximum(own["pending_received"], attended.since)
        due = (state.model >= 0) & (own["pending_at"] > 0) & (waited_ms >= self._timeout_ms[state.model])
        for row in np.flatnonzero(due).tolist():
            record = own[row : row + 1]
            late = Reason.TIMEOUT if record["cranked"][0] else Reason.NEVER_ATTEMPTED
            record["open"] = _CODE[late if record["heard"][0] else Reason.NO_SIGNAL]
            window_ms = int(self._window_ms[state.model[row]])
            self._tell(record, row, 0, int(record["pending_at"][0]), window_ms, report)
            record["pending_at"] = 0

    def release(self, state: State, ended: Ended) -> None:
        for field in ("open", "pending_at", "uncranked", "attempts", "boots"):
            state.device[field][ended.row] = 0

    def renew(self, state: State, row: int) -> None:
        state.device["boot"][row] = 0
        state.device["boots"][row] = 0

    def _note_supply(self, own: Records, rows: Rows) -> Floats:
        """Battery and fuel: the first two questions when an engine does not start. Answers each row's battery."""
        supply = np.flatnonzero((self._is_battery | self._is_fuel)[rows.sensor])
        supply = supply[~np.isnan(rows.value[supply])]
        battery = np.full(len(rows), np.nan)
        for field, wanted in (("battery", self._is_battery), ("fuel", self._is_fuel)):
            those = supply[wanted[rows.sensor[supply]]]
            own[field][rows.of[those]] = rows.value[those]
            if field == "battery":
                battery[rows.of[those]] = rows.value[those]
        return battery

    def _open(self, own: Records, rows: Rows, reason: Ints, report: Report) -> None:
        """Fail the starts that have a reason (0: none), and wait for them no longer. What stands open stays so."""
        failing = (reason > 0) & (own["open"] == 0)
        own["open"] = np.where(failing, reason, own["open"])
        for i in np.flatnonzero(failing).tolist():
            row, position, window_ms = int(rows.device[i]), int(rows.position[i]), int(self._window_ms[rows.model[i]])
            self._tell(own[i : i + 1], row, position, int(rows.at[i]), window_ms, report)
        _settle(own, failing)

    def _tell(self, own: Records, row: int, position: int, at: int, window_ms: int, report: Report) -> None:
        """Report the failure that was just opened in this one record."""
        reason, moment = _CODES[int(own["open"][0]) - 1], np.array([at])
        evidence = Evidence(reason=reason)
        if reason is not Reason.SHUT_DOWN:
            evidence["cranked"] = bool(own["cranked"][0])
            evidence["attempts"] = int(_within(own["attempts"], moment, window_ms)[0])
        if reason is Reason.BOOT_LOOP:
            evidence["boots"] = int(_within(own["boots"], moment, window_ms)[0])
        if own["requested_at"][0]:
            evidence["requested_at"] = int(own["requested_at"][0])
        for field, fact in (("battery_low", "battery_crank_low"), ("battery", "battery_last"), ("fuel", "fuel_last")):
            if not np.isnan(own[field][0]):
                evidence[fact] = float(own[field][0])  # type: ignore[literal-required]
        began = int(own["pending_at"][0]) or at
        report.add(row, position, FaultKind.STARTUP_FAILURE, "", True, began, self.rule, evidence)


def _goes_on(own: Records, rows: Rows) -> Mask:
    """Which machines go on doing what they did, with no start, attempt, boot or failure to follow: nearly all of them,
    nearly always, and nothing of what is known of them changes."""
    running = rows.state + 1 == _RUNNING
    same: Mask = (rows.what == What.READING) & (rows.state + 1 == own["state"]) & (rows.state + 1 != _CRANKING)
    same &= (rows.boot < own["boot"]) & ((own["ran_since"] > 0) == running)
    same &= (own["pending_at"] | own["open"] | own["uncranked"] | own["halted"]) == 0
    # Running takes back what was counted towards a failure.
    same &= ~(running & (own["attempts"].any(axis=1) | own["boots"].any(axis=1)))
    return same


def _boot(own: Records, boot: Ints, at: Ints) -> Mask:
    """Which of these machines have booted since they were last heard."""
    booted: Mask = (own["boot"] > 0) & (boot + 1 > own["boot"])
    own["boot"] = np.maximum(own["boot"], boot + 1)
    own["state"][booted] = _UNKNOWN
    own["ran_since"][booted] = 0
    _push(own["boots"], booted, at)
    return booted


def _begin(own: Records, rows: Rows) -> Mask:
    """Take in requests and cranking; answers which rows are an attempt of their own."""
    before, cranking = own["state"], rows.state + 1 == _CRANKING
    requested, idle = rows.what == What.START_REQUESTED, own["pending_at"] == 0
    # The first crank after a request belongs to it. A single cranking reading after running may be stale.
    edge = (before != _CRANKING) & (before != _RUNNING)
    unseen = (before == _CRANKING) & idle & (own["open"] == 0)
    attempted: Mask = requested | (cranking & (edge | unseen) & (own["uncranked"] == 0))
    own["uncranked"] = requested | ((own["uncranked"] > 0) & ~cranking)
    _push(own["attempts"], attempted, rows.at)

    # A new request has the full time of its own; further cranks belong to the start that is pending. Where a failure
    # stands open there is nothing to wait for.
    begins = (requested | (attempted & idle)) & (own["open"] == 0)
    own["pending_at"] = np.where(begins, rows.at, own["pending_at"])
    own["pending_received"] = np.where(begins, rows.received_at, own["pending_received"])
    own["requested_at"] = np.where(begins, rows.at * requested, own["requested_at"])
    own["cranked"] = np.where(begins, 0, own["cranked"]) | cranking
    own["heard"] = np.where(begins, 0, own["heard"])
    own["battery_low"] = np.where(begins, np.nan, own["battery_low"])
    return attempted


def _run(own: Records, rows: Rows, running: Mask, timeout_ms: Ints) -> Mask:
    """Note the state; answers which machines have run for as long as a start may take."""
    said = rows.state >= 0
    halted = (rows.what == What.STOPPED) & (own["state"] == _RUNNING)
    own["halted"] = np.where(said, 0, own["halted"] | halted)
    own["state"] = np.where(said, rows.state + 1, np.where(running, _RUNNING, own["state"]))
    own["state"] = np.where(rows.what == What.STOPPED, _OFF, own["state"])
    own["ran_since"] = np.where(running, np.where(own["ran_since"] > 0, own["ran_since"], rows.at), own["ran_since"])
    own["ran_since"] = np.where(said & ~running, 0, own["ran_since"])
    steady: Mask = running & (rows.at - own["ran_since"] >= timeout_ms)
    own["attempts"][running] = 0
    own["boots"][steady] = 0
    return steady


def _break_off(own: Records, rows: Rows, at_once_ms: Floats) -> None:
    """Forget the latest attempt where somebody thought better of it at once."""
    stopped = (rows.what == What.STOPPED) & (own["pending_at"] > 0) & (own["attempts"][:, -1] > 0)
    broken_off = np.flatnonzero(stopped & (rows.at - own["pending_at"] < at_once_ms))
    own["attempts"][broken_off, 1:] = own["attempts"][broken_off, :-1]
    own["attempts"][broken_off, 0] = 0


def _settle(own: Records, settled: Mask) -> None:
    own["pending_at"] = np.where(settled, 0, own["pending_at"])
    own["uncranked"] = np.where(settled, 0, own["uncranked"])


def _push(ring: Ints, which: Mask, at: Ints) -> None:
    """Put a moment at the end of these rings, and let their oldest go."""
    rows = np.flatnonzero(which)
    ring[rows, :-1] = ring[rows, 1:]
    ring[rows, -1] = at[rows]


def _within(ring: Ints, at: Ints, window_ms: Ints | int) -> Ints:
    """How many moments of each ring lie in the window around its `at` (a clock may have gone back)."""
    near = np.abs(ring - at[:, None]) <= np.reshape(window_ms, (-1, 1))
    return np.asarray(np.count_nonzero(near & (ring > 0), axis=1), dtype=np.int64)
