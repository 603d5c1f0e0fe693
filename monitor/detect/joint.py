"""Joint: a machine unlike its own healthy beginning, where its profile lets it be learnt."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from monitor import devices
from monitor.detect.detector import Detector, Ended, Fields, Rows, State
from monitor.detect.finding import Evidence, Report, Sign
from monitor.detect.models import Models
from monitor.devices import FaultKind, Profile
from monitor.readings import STATE_CODE, Floats, Ints

CLIP_AFTER = 20
"""Samples after which an outlier can no longer pull the mean and the spread along."""
CLIP_SIGMA = 4.0
HUGE = 1e100
"""Values are taken no further than this from 0, so that a square stays finite."""
FLOOR_SHARE = 1e-3
"""The least spread, as a share of the mean: a channel that stood still has not shown how far it may move."""
LASTING_FREEDOM = 5.0
"""How many independent times a warm-up is taken to have shown what lasts: heat, drift, a slow load."""
CALM_SHARE = 0.7
"""Of the threshold: a channel that was beyond it is well again below this much of it."""
SIGNS = 3

_FIELDS = ("mean", "square", "product", "smooth", "smooth_square", "count", "out")
Cells = dict[str, npt.NDArray[Any]]


class Joint(Detector):
    """One joint fault a machine: its channels disturb each other, and one cause should send one technician.

    Learning, for the first `warmup_samples` readings in state running: the mean and spread of each channel, how far
    its smoothed deviation wanders (noise that is autocorrelated wanders further), and how much of that lasts. A
    channel that drifts slowly has shown only a few independent values, so its deviations are weighed as Student's t
    with as few degrees of freedom: what it has had no time to show is not held against it.

    Judging: the deviation smoothed over `hold_samples`, in sigmas of a normal distribution of the same rarity. Any
    channel beyond `threshold_sigma` for `hold_samples` readings in a row opens; none out any more for as many clears.
    The mean follows slowly, as seasons do, but never while its channel is out: a fault is not learnt as normal. All is
    counted in samples, never in seconds.
    """

    name: ClassVar[str] = "joint"
    version: ClassVar[int] = 1
    kind: ClassVar[FaultKind | None] = FaultKind.ANOMALY
    device_fields: ClassVar[Fields] = [
        ("beyond_at", "<i8"),  # `at` of the first reading of the present run beyond the threshold
        ("calm_at", "<i8"),  # `at` of the first reading of the present run with no channel out
        ("beyond", "<i4"),  # length of that run
        ("calm", "<i4"),
        ("open", "u1"),
    ]
    cell_fields: ClassVar[Fields] = [
        ("mean", "<f8"),
        ("square", "<f8"),  # sum of squared deviations from the mean, of the warm-up
        ("product", "<f8"),  # sum of deviation times smoothed deviation before it: how much of it lasts
        ("smooth", "<f8"),  # deviation from the mean, smoothed
        ("smooth_square", "<f8"),  # sum of its squares, over the last three quarters of the warm-up
        ("count", "<i4"),  # samples learnt from
        ("out", "u1"),  # 1 from the threshold up, until well below it
    ]

    def configure(self, models: Models) -> None:
        self._names = [sensor.name for sensor in models.sensors]
        self._watched = models.of_sensor(lambda profile, sensor: _joint(profile) is not None and sensor.learn, np.bool_)
        self._watches = models.of_model(
            lambda profile: _joint(profile) is not None and any(sensor.learn for sensor in profile.sensors), np.bool_
        )
        self._warmup = models.of_model(lambda profile: max(2, profile.learn.warmup_samples) if profile.learn else 2)
        self._hold = models.of_model(lambda profile: max(1, joint.hold_samples) if (joint := _joint(profile)) else 1)
        self._threshold = models.of_model(
            lambda profile: joint.threshold_sigma if (joint := _joint(profile)) else np.inf, np.float64
        )

    def step(self, state: State, rows: Rows, report: Report) -> None:
        self._let_go(state, rows, report)
        pick = np.flatnonzero(self._watched[rows.sensor] & ~np.isnan(rows.value))
        if not len(pick):
            return
        of, place, sensor = rows.of[pick], rows.cell[pick], rows.sensor[pick]
        running = rows.state[of] == STATE_CODE["running"]
        # Leaving the state ends the course of events: what follows is judged from its own beginning.
        state.cell["smooth"][place[~running]] = 0
        state.device["beyond"][rows.device[of[~running]]] = 0
        state.device["calm"][rows.device[of[~running]]] = 0
        of, place, sensor, pick = of[running], place[running], sensor[running], pick[running]
        value = np.clip(rows.value[pick], -HUGE, HUGE)
        cell: Cells = {field: state.cell[field][place] for field in _FIELDS}
        model = rows.model[of]
        warmup, fast, slow = self._warmup[model], 1 / self._hold[model], 1 / self._warmup[model]
        learning = cell["count"] < warmup
        expected = cell["mean"].copy()
        _learn(cell, value, learning, fast, warmup)
        score = _follow(cell, value, ~learning, fast)
        worst = np.full(len(rows), -1.0)
        np.maximum.at(worst, of, score)
        threshold = self._threshold[model]
        cell["out"] = (score >= threshold) | ((score >= CALM_SHARE * threshold) & (cell["out"] > 0))
        still = np.zeros(len(rows), dtype=np.bool_)
        still[of[cell["out"] > 0]] = True
        _adapt(cell, value, ~learning & (cell["out"] == 0), slow)
        for field in _FIELDS:
            state.cell[field][place] = cell[field]
        for i in self._judge(state, rows, worst, ~still):
            mine = np.flatnonzero((of == i) & (score >= 0))
            signs = self._signs(sensor[mine], value[mine], expected[mine], score[mine])
            self._tell(state, rows, i, float(worst[i]), signs, report)

    def release(self, state: State, ended: Ended) -> None:
        for field in ("open", "beyond", "calm"):
            state.device[field][ended.row] = 0

    def _judge(self, state: State, rows: Rows, worst: Floats, calm: npt.NDArray[np.bool_]) -> list[int]:
        """Count the runs beyond and below; turn the machines that have lasted, and answer them."""
        own, threshold, hold = state.device[rows.device], self._threshold[rows.model], self._hold[rows.model]
        judged, beyond = worst >= 0, worst >= threshold
        for run, holds, since in (("beyond", beyond, "beyond_at"), ("calm", calm, "calm_at")):
            own[since] = np.where(judged & holds & (own[run] == 0), rows.at, own[since])
            own[run] = np.where(judged, np.where(holds, np.minimum(own[run], hold) + 1, 0), own[run])
        opens = judged & (own["open"] == 0) & (own["beyond"] >= hold)
        clears = judged & (own["open"] > 0) & (own["calm"] >= hold)
        own["open"] = (own["open"] | opens) & ~clears
        state.device[rows.device] = own
        return np.flatnonzero(opens | clears).tolist()

    def _tell(self, state: State, rows: Rows, i: int, score: float, signs: list[Sign], report: Report) -> None:
        row, position = int(rows.device[i]), int(rows.position[i])
        own, threshold = state.device[row], float(self._threshold[rows.model[i]])
        opened = bool(own["open"])
        since_at = int(own["beyond_at" if opened else "calm_at"])
        evidence = Evidence(score=round(score, 3), threshold=threshold, since_at=since_at, signs=signs)
        report.add(row, position, FaultKind.ANOMALY, "", opened, since_at, self.rule, evidence)

    def _signs(self, sensor: Ints, value: Floats, expected: Floats, score: Floats) -> list[Sign]:
        """The channels that stood out most, most first."""
        most = np.argsort(-score, kind="stable")[:SIGNS].tolist()
        return [
            Sign(sensor=self._names[sensor[k]], value=float(value[k]), expected=float(expected[k]),
                 sigma=round(float(score[k]), 3))
            for k in most
        ]  # fmt: skip

    def _let_go(self, state: State, rows: Rows, report: Report) -> None:
        """Clear what stands open on machines whose profile is no longer learnt."""
        open_here = state.device["open"][rows.device] > 0
        for i in np.flatnonzero(open_here & ~self._watches[rows.model]).tolist():
            row, at = int(rows.device[i]), int(rows.at[i])
            state.device["open"][row] = 0
            report.add(row, int(rows.position[i]), FaultKind.ANOMALY, "", False, at, self.rule, Evidence())


def _joint(profile: Profile) -> devices.Joint | None:
    return profile.learn.joint if profile.learn else None


def _learn(cell: Cells, value: Floats, learning: npt.NDArray[np.bool_], fast: Floats, warmup: Ints) -> None:
    """Take the samples of the warm-up into the machine's own mean and spread (Welford's sums, outliers clipped)."""
    reach = np.where(cell["count"] >= CLIP_AFTER, CLIP_SIGMA * _sigma(cell), HUGE)
    value = np.clip(value, cell["mean"] - reach, cell["mean"] + reach)
    count = cell["count"] + learning
    before = value - cell["mean"]
    mean = cell["mean"] + before / np.maximum(count, 1)
    after = value - mean
    smooth = cell["smooth"] + (after - cell["smooth"]) * fast
    wandering = np.where(count > warmup // 4, smooth * smooth, 0)
    learnt = {
        "mean": mean,
        "square": cell["square"] + before * after,
        "product": cell["product"] + after * cell["smooth"],
        "smooth": smooth,
        "smooth_square": cell["smooth_square"] + wandering,
        "count": count,
    }
    for field, sums in learnt.items():
        cell[field] = np.where(learning, sums, cell[field])


def _follow(cell: Cells, value: Floats, judging: npt.NDArray[np.bool_], fast: Floats) -> Floats:
    """Smooth the deviation on, and weigh it: sigmas of a normal distribution of the same rarity; -1: not judged."""
    sigma, count = _sigma(cell), np.maximum(cell["count"], 2)
    deviation = np.clip(value - cell["mean"], -10 * sigma, 10 * sigma)
    cell["smooth"] = np.where(judging, cell["smooth"] + (deviation - cell["smooth"]) * fast, cell["smooth"])
    shown = np.sqrt(cell["smooth_square"] / np.maximum(count - count // 4, 1))
    t = cell["smooth"] / np.maximum(shown, sigma * np.sqrt(fast / (2 - fast)))
    # The share of the wandering that lasts (0 for white noise, 1 for a walk): the slope of the deviation over the
    # smoothed deviation before it. What lasts has been seen but a few times; the degrees of freedom are pooled as
    # Satterthwaite does.
    wandered = np.maximum(cell["smooth_square"] * count / np.maximum(count - count // 4, 1), 1e-18)
    lasting = np.clip(cell["product"] / wandered, 0, 1)
    freedom = 1 / (lasting**2 / LASTING_FREEDOM + (1 - lasting) ** 2 / count)
    return np.where(judging, np.sqrt(freedom * np.log1p(t * t / freedom)), -1.0)


def _adapt(cell: Cells, value: Floats, calm: npt.NDArray[np.bool_], slow: Floats) -> None:
    """Let the mean follow slowly; a fault, or what is about to become one, is never learnt as normal."""
    sigma = _sigma(cell)
    step = np.clip(value - cell["mean"], -3 * sigma, 3 * sigma) * slow
    cell["mean"] = np.where(calm, cell["mean"] + step, cell["mean"])


def _sigma(cell: Cells) -> Floats:
    """The spread of single samples, never quite nothing."""
    spread = np.sqrt(cell["square"] / np.maximum(cell["count"], 1))
    return np.asarray(np.maximum(spread, np.maximum(FLOOR_SHARE * np.abs(cell["mean"]), 1e-9)))
