"""Joint: a machine unlike its own healthy past, channel by channel and in how its channels move together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from monitor import devices
from monitor.detect.detector import Detector, Ended, Fields, Records, Rows, State, gathered, scatter
from monitor.detect.finding import Evidence, Report, Sign
from monitor.detect.models import Models
from monitor.detect.operation import Operation
from monitor.devices import FaultKind, Profile
from monitor.readings import STATE_CODE, Floats, Ints

WIDEST = 64
"""Sensors of the widest machine whose channels are judged together; of a wider one each is judged by itself."""
CLIP_AFTER = 20
"""Samples after which an outlier can no longer pull the level and the spread along."""
CLIP_SIGMA = 4.0
REACH_SIGMA = 30.0
"""No single reading counts for more than this: one outlier is gone again before a hold has passed."""
TOGETHER_SIGMA = 10.0
"""The same for readings taken together, where they are squared."""
HUGE = 1e100
"""Values are taken no further than this from 0, so that a square stays finite."""
FLOOR_SHARE = 1e-3
"""The least spread, as a share of the level: a channel that stood still has not shown how far it may move."""
LASTING_FREEDOM = 3.0
"""How many independent times a warm-up is taken to have shown what lasts: heat, drift, a slow load."""
CALM_SHARE = 0.7
"""Of the threshold: what was beyond it is well again below this much of it."""
DOUBT_SHARE = 0.5
"""Of the threshold: from here on a fault may be beginning, and the level follows at DOUBT_PACE only."""
DOUBT_PACE = 0.1
MOST_SHRINKAGE = 0.5
"""Correlations are drawn towards none by channels / samples, at most so far: the fewer samples, the more is chance."""
FITTED_SHARE = 0.75
"""Of the warm-up: correlations are taken from it, and the rest shows how far a healthy machine strays from them."""
CALIBRATED = 20
"""Samples of that rest below which nothing is judged together."""
KEPT_SHARE = 0.25
"""Of a warm-up: what former spread and correlations count for when a machine is learnt anew after a service, and what
those of its model count for when it is new."""
KIN = 3
"""So many machines of a model must have been learnt before the next one begins from them."""
MOST_KIN = 32
SIGNS = 3

_OWN = [
    ("level", "<f8"),  # where the channel stands, following slowly
    ("square", "<f8"),  # sum of squared deviations from the level, of the warm-up
    ("product", "<f8"),  # sum of deviation times smoothed deviation before it: how much of it lasts
    ("smooth", "<f8"),  # deviation from the level, smoothed
    ("smooth_square", "<f8"),  # sum of its squares, over the last three quarters of the warm-up
    ("count", "<i4"),  # samples learnt from
    ("kept", "<i4"),  # so many more are in the sums from before a service
    ("out", "<i4"),  # while the fault is open: to which side (-1, 1) the channel was beyond
]  # fmt: skip
"""What every sample reads and writes: the beginning of a cell, gathered and written back as one piece."""
_OWN_RECORD = np.dtype(_OWN)
_RUNNING = STATE_CODE["running"]
Bools = npt.NDArray[np.bool_]
Bond = npt.NDArray[np.float32]
_NOWHERE = -(2**62)


@dataclass(slots=True)
class _Known:
    """The numbers of _OWN of many channels, each in an array of its own: strided ones take twice as long."""

    level: Floats
    square: Floats
    product: Floats
    smooth: Floats
    smooth_square: Floats
    count: Floats
    kept: Floats
    out: Floats

    @classmethod
    def of(cls, records: Records) -> "_Known":
        """A copy of what these records hold."""
        return cls(*(records[name].astype(np.float64) for name, _ in _OWN))

    def into(self, records: Records) -> None:
        for name, _ in _OWN:
            records[name] = getattr(self, name)

    def take(self, places: Ints) -> "_Known":
        """A copy of those channels, counted through all machines."""
        return _Known(*(getattr(self, name).take(places) for name, _ in _OWN))

    def put(self, places: Ints, numbers: "_Known") -> None:
        for name, _ in _OWN:
            getattr(self, name).put(places, getattr(numbers, name))


@dataclass(slots=True)
class _Group:
    """The machines of a round that are as wide as each other: R machines, W channels; state gathered from memory."""

    row: Ints  # (R,) of the bank's memory
    position: Ints  # (R,) in the batch
    model: Ints
    at: Ints
    sensor: Ints  # (R,) number of the first sensor
    cells: Ints  # (R, W)
    value: Floats  # (R, W), NaN where there is none
    present: Bools  # (R, W) where there is one
    device: Records  # (R,)
    known: _Known  # (R, W) each
    quiet: Bools  # (R,) no fault of another detector stands open, so it may be learnt from


class Pairs:
    """Where a symmetric matrix of W channels is kept: each cell holds its channel's numbers with itself and with the
    W // 2 channels after it, around the circle, so that all cells hold as many and hardly any number stands twice."""

    def __init__(self, width: int) -> None:
        self._held = width // 2 + 1
        one, after = np.indices((width, self._held))
        self._one, self._other = one, (one + after) % width
        self._place = np.zeros((width, width), dtype=np.int64)
        self._place[self._other, one] = self._place[one, self._other] = one * self._held + after

    def of(self, bond: Bond, cells: Ints) -> Floats:
        """(R, W, W) of the machines whose cells are (R, W)."""
        held = self._counting(bond)[cells].view(np.float32)
        return np.asarray(held[:, self._place], dtype=np.float64)

    def put(self, bond: Bond, cells: Ints, matrix: npt.NDArray[np.floating]) -> None:
        """Keep (R, W, W), or (W, W) for all of them."""
        held = np.ascontiguousarray(matrix[..., self._one, self._other], dtype=np.float32)
        self._counting(bond)[cells] = held.view(f"V{4 * self._held}")[..., 0]

    def _counting(self, bond: Bond) -> Records:
        """Of each cell what counts at this width, as one piece: gathered many times faster so."""
        return bond[:, : self._held].view(f"V{4 * self._held}")[:, 0]


@dataclass(slots=True)
class _Verdict:
    """How far each machine of a group is from itself; -1 where that is not judged."""

    channel: Floats  # (R, W) sigmas of a normal distribution of the same rarity, signed
    size: Floats  # (R, W) the same unsigned
    worst: Floats  # (R,) the largest of them
    judged: Bools  # (R, W)
    expected: Floats  # (R, W)
    together: Floats  # (R,) the same for all channels at once
    share: Floats  # (R, W) what each channel adds to that


class Joint(Detector):
    """One joint fault a machine: its channels disturb each other, and one cause should send one technician.

    **Each channel.** Its level follows it over `follow_samples`; the deviation from there is smoothed over
    `hold_samples`. In the first `warmup_samples` readings in steady state running, with no fault open, the very same
    figures show how far it wanders when healthy, and how much of that lasts. A channel that wanders slowly has shown
    only a few independent values, so its deviations are weighed as Student's t with as few degrees of freedom: what it
    has had no time to show is not held against it.

    **All together** (where `together_sigma` is given): Hotelling's T² of the deviations as they come, smoothed, for
    correlations that break and for jitter; and of the smoothed deviations, for small shifts of many. Correlations are
    those of the first three quarters of the warm-up, drawn towards none; the rest of it, not looked at by then, shows
    how large both are on a healthy machine (a scaled chi-square of the same mean and spread, told in sigmas).

    Anything beyond its threshold for `hold_samples` readings in a row opens. The fault is latched to its causes: it
    clears when no channel has been out any more, on the side to which it was, for `clear_samples` readings. The level
    hardly follows what may be a fault in its beginning, and not at all while any fault is open on the machine. All is
    counted in samples, never in seconds.
    """

    name: ClassVar[str] = "joint"
    version: ClassVar[int] = 2
    kind: ClassVar[FaultKind | None] = FaultKind.ANOMALY
    device_fields: ClassVar[Fields] = [
        ("beyond_at", "<i8"),  # `at` of the first reading of the present run beyond the threshold
        ("calm_at", "<i8"),  # `at` of the first reading of the present run with nothing out
        ("swing", "<f8"),  # T² of the deviations as they come, smoothed
        ("swing_sum", "<f8"),  # its sum and that of its squares, of the last part of the warm-up
        ("swing_square", "<f8"),
        ("shift_sum", "<f8"),  # the same of T² of the smoothed deviations
        ("shift_square", "<f8"),
        ("beyond", "<i4"),  # length of that run
        ("calm", "<i4"),
        ("count", "<i4"),  # readings learnt from
        ("kept", "<i4"),  # so many more are in the products from before a service
        ("open", "u1"),
        ("paused", "u1"),  # it was told that the machine does not run
    ]
    cell_fields: ClassVar[Fields] = [
        *_OWN,
        # To itself and to the channels after it, half of all (Pairs): sum of products of deviations, later inverse
        # correlation.
        ("bond", "<f4", (WIDEST // 2 + 1,)),
    ]

    def configure(self, models: Models) -> None:
        def of_model(fact: Callable[[devices.Joint], Any], without: Any, dtype: npt.DTypeLike = np.int64) -> Any:
            return models.of_model(lambda profile: fact(joint) if (joint := _joint(profile)) else without, dtype)

        self._names = [sensor.name for sensor in models.sensors]
        self._first_sensor = models.first_sensor
        self._pairs = {width: Pairs(width) for width in set(models.width.tolist()) if 0 < width <= WIDEST}
        self._watched = models.of_sensor(lambda profile, sensor: _joint(profile) is not None and sensor.learn, np.bool_)
        self._watches = models.of_model(
            lambda profile: _joint(profile) is not None and any(sensor.learn for sensor in profile.sensors), np.bool_
        )
        self._warmup = models.of_model(lambda profile: max(2, profile.learn.warmup_samples) if profile.learn else 2)
        self._settle_ms = of_model(lambda joint: joint.settle_s * 1000, 0)
        self._hold = of_model(lambda joint: joint.hold_samples, 1)
        self._clear = of_model(lambda joint: joint.clear_samples or joint.hold_samples, 1)
        follow = of_model(lambda joint: joint.follow_samples, 0)
        self._follow = np.where(follow > 0, follow, self._warmup)
        self._threshold = of_model(lambda joint: joint.threshold_sigma, np.inf, np.float64)
        self._together = of_model(lambda joint: joint.together_sigma or np.inf, np.inf, np.float64)
        self._together[models.width > WIDEST] = np.inf

    def step(self, state: State, rows: Rows, report: Report) -> None:
        self._let_go(state, rows, report)
        read = np.flatnonzero((rows.state >= 0) & self._watches[rows.model])
        if not len(read):
            return
        machine = gathered(state.of(Operation), rows.device[read])
        settled = rows.at[read] - machine["since_at"] >= self._settle_ms[rows.model[read]]
        steady = (rows.state[read] == _RUNNING) & settled
        self._pause(state, rows.device[read[~steady]])
        read, faults = read[steady], machine["faults"][steady]
        # Machines of one width at a time: a sum over padding would round differently beside other machines.
        width = state.width[rows.model[read]]
        for channels in np.flatnonzero(np.bincount(width)).tolist():
            alike = width == channels
            group = self._gather(state, rows, read[alike], channels, faults[alike])
            turned, verdict = self._take_in(state, group)
            scatter(state.device, group.row, group.device)
            _put_back(state, group)
            for i in turned:
                self._tell(group, verdict, i, report)

    def release(self, state: State, ended: Ended) -> None:
        if ended.subject:  # an anomaly of one sensor: not ours
            return
        for name in ("open", "beyond", "calm"):
            state.device[name][ended.row] = 0
        state.cell["out"][state.cells_of(ended.row)] = 0

    def serviced(self, state: State, row: int) -> None:
        """Learn anew, with the machine's former spread and correlations as a beginning: it still knows what much is.

        A fault of ours that stands open clears once the machine, learnt anew, has shown itself calm.
        """
        model, cells = state.model[row], state.cells_of(row)
        own, device = _Known.of(state.cell[cells]), state.device[row : row + 1]
        kept = int(KEPT_SHARE * self._warmup[model])
        learnt = own.count >= self._warmup[model]
        sigma, weight = _sigma(own), own.count + own.kept
        together = bool(np.isfinite(self._together[model]) and device["count"][0] >= self._warmup[model])
        if together:
            numbers, pairs = np.arange(cells.start, cells.stop), self._pairs[len(sigma)]
            correlation = np.linalg.inv(pairs.of(state.cell["bond"], numbers[None])[0])
            pairs.put(state.cell["bond"], numbers, correlation * np.outer(sigma, sigma) * kept)
        else:
            state.cell["bond"][cells] = 0
        own.square *= np.where(learnt, kept / np.maximum(weight, 1), 0)
        own.product *= np.where(learnt, kept / np.maximum(weight, 1), 0)
        own.smooth_square *= np.where(learnt, kept / np.maximum(weight - own.count // 4, 1), 0)
        own.kept = np.where(learnt, kept, 0.0)
        own.count[:] = own.smooth[:] = 0
        own.into(state.cell[cells])
        device["count"], device["kept"] = 0, kept if together else 0
        for name in ("swing", "swing_sum", "swing_square", "shift_sum", "shift_square", "beyond", "calm"):
            device[name] = 0

    def adopt(self, state: State, rows: Ints, kin: Ints) -> None:
        """A new machine begins with the middle of the spreads and correlations that its model has shown: a warm-up in
        which a channel stands still does not mean that it always will. Its levels are its own."""
        model = int(state.model[kin[0]])
        watched = self._watched[self._first_sensor[model] + np.arange(state.width[model])]
        cells = state.first[kin][:, None] + np.arange(len(watched))
        learnt = ((state.cell["count"][cells] >= self._warmup[model]) | ~watched).all(axis=1)
        kin, cells = kin[learnt][:MOST_KIN], cells[learnt][:MOST_KIN]
        if not self._watches[model] or len(kin) < KIN:
            return
        own, kept = _Known.of(state.cell[cells]), int(KEPT_SHARE * self._warmup[model])
        weight = np.maximum(own.count + own.kept, 1)
        wandered = own.smooth_square / np.maximum(weight - own.count // 4, 1)
        shown = {"square": own.square / weight, "product": own.product / weight, "smooth_square": wandered}
        to = state.first[rows][:, None] + np.arange(len(watched))
        for name, sums in shown.items():
            state.cell[name][to] = kept * np.median(sums, axis=0) * watched
        state.cell["kept"][to] = kept * watched
        bound = cells[state.device["count"][kin] >= self._warmup[model]]
        if np.isfinite(self._together[model]) and len(bound) >= KIN:
            pairs = self._pairs[len(watched)]
            correlation = np.linalg.inv(pairs.of(state.cell["bond"], bound)).mean(axis=0)
            sigma = np.sqrt(np.median(shown["square"], axis=0))
            pairs.put(state.cell["bond"], to, correlation * np.outer(sigma, sigma) * kept)
            state.device["kept"][rows] = kept

    def _pause(self, state: State, rows: Ints) -> None:
        """Leaving the state ends the course of events: what follows is judged from its own beginning."""
        rows = rows[state.device["paused"][rows] == 0]
        if not len(rows):
            return
        cells = _ranges(state.first[rows], state.width[state.model[rows]])
        state.cell["smooth"][cells] = 0
        state.device["paused"][rows] = 1
        for name in ("beyond", "calm"):
            state.device[name][rows] = 0
        state.device["swing"][rows] = _mean_swing(state.device[rows], self._calibrated(state.model[rows]))

    def _gather(self, state: State, rows: Rows, read: Ints, channels: int, faults: Ints) -> _Group:
        row, model = rows.device[read], rows.model[read]
        first = state.first[row]
        cells = first[:, None] + np.arange(channels)
        begins = np.full(len(rows), _NOWHERE)  # where a row's values begin among those of the group, less its cells
        begins[read] = np.arange(len(read)) * channels - first
        place = begins[rows.of] + rows.cell
        pick = np.flatnonzero((place >= 0) & self._watched[rows.sensor])
        value = np.full(cells.shape, np.nan)
        value.reshape(-1)[place[pick]] = np.clip(rows.value[pick], -HUGE, HUGE)
        device = gathered(state.device, row)
        device["paused"] = 0
        # A machine that is learnt anew after a service may still have its own fault open, until it has shown itself.
        quiet = faults <= device["open"]
        known = _Known.of(_own(state)[cells].view(_OWN_RECORD))
        return _Group(
            row, rows.position[read], model, rows.at[read], self._first_sensor[model], cells, value, ~np.isnan(value),
            device, known, quiet,
        )  # fmt: skip

    def _take_in(self, state: State, group: _Group) -> tuple[list[int], _Verdict]:
        own, present = group.known, group.present
        warmup, follow, fast = self._warmup[group.model], self._follow[group.model], 1 / self._hold[group.model]
        learnt = own.count >= warmup[:, None]
        expected = own.level.copy()
        learning = present & ~learnt & group.quiet[:, None]
        deviation = np.zeros_like(group.value)
        if learning.any():
            _learn(group, learning, deviation, warmup, follow, fast)
        judged = present & learnt
        sigma = _sigma(own)
        channel = _weigh(group, judged, deviation, sigma, fast)
        together, share = self._take_together(state, group, deviation, sigma, fast)
        size = np.abs(channel)
        worst = np.where(judged, size, -1.0).max(axis=1, initial=-1.0)
        verdict = _Verdict(channel, size, worst, judged, expected, together, share)
        self._adapt(group, verdict, sigma, follow)
        return self._judge(group, verdict), verdict

    def _take_together(
        self, state: State, group: _Group, deviation: Floats, sigma: Floats, fast: Floats
    ) -> tuple[Floats, Floats]:
        """Learn and judge all channels at once, where the profile says so. Deviations of missing values are 0."""
        score, share = np.full(len(group.row), -1.0), np.zeros_like(group.value)
        wanted = np.isfinite(self._together[group.model])
        if not wanted.any():
            return score, share
        wanted &= group.present.any(axis=1)
        device, warmup = group.device, self._warmup[group.model]
        fitted = (FITTED_SHARE * warmup).astype(np.int64)
        learning = wanted & group.quiet & (device["count"] < warmup)
        device["count"] += learning
        begins = learning & (device["count"] <= fitted)
        if begins.any():
            self._bind(state, group, np.flatnonzero(begins), deviation, fitted)
        ready = np.flatnonzero(wanted & (device["count"] > fitted) & (group.quiet | (device["count"] >= warmup)))
        if not len(ready):
            return score, share
        bond = self._pairs[group.value.shape[1]].of(state.cell["bond"], group.cells[ready])
        spread = sigma[ready]
        apart = np.clip(deviation[ready] / spread, -TOGETHER_SIGMA, TOGETHER_SIGMA)
        smooth = group.known.smooth[ready] / spread
        # Each machine's matrix times both its vectors.
        bound = np.matmul(bond, np.stack([apart, smooth], axis=2))
        adds, shifts = apart * bound[:, :, 0], smooth * bound[:, :, 1]
        mine = gathered(device, ready)
        mine["swing"] += (adds.sum(axis=1) - mine["swing"]) * fast[ready]
        shift = shifts.sum(axis=1)
        learnt = self._calibrate(mine, shift, learning[ready], group.model[ready])
        scatter(device, ready, mine)
        number = self._calibrated(group.model[ready])
        scores = np.maximum(
            _rarity(mine["swing"], mine["swing_sum"], mine["swing_square"], number),
            _rarity(shift, mine["shift_sum"], mine["shift_square"], number),
        )
        score[ready] = np.where(learnt & (number >= CALIBRATED), scores, -1.0)
        share[ready] = adds + shifts / np.maximum(fast[ready], 1e-9)[:, None]
        return score, share

    def _bind(self, state: State, group: _Group, begins: Ints, deviation: Floats, fitted: Ints) -> None:
        """Gather how the channels deviate together; with enough of it, make it the inverse correlation."""
        cells, pairs = group.cells[begins], self._pairs[group.value.shape[1]]
        bond = pairs.of(state.cell["bond"], cells)
        apart = deviation[begins]
        bond += apart[:, :, None] * apart[:, None, :]
        enough = group.device["count"][begins] == fitted[begins]
        sigma = _sigma(group.known)[begins]
        count = fitted[begins] + group.device["kept"][begins]
        for k in np.flatnonzero(enough).tolist():
            bond[k] = _inverse_correlation(bond[k], sigma[k], int(count[k]))
        pairs.put(state.cell["bond"], cells, np.clip(bond, -1e37, 1e37))

    def _calibrate(self, mine: Records, shift: Floats, learning: Bools, model: Ints) -> Bools:
        """Sum up how far a healthy machine strays; answer which machines have shown that."""
        settled = mine["count"] > self._warmup[model] - self._calibrated(model)
        takes = learning & settled
        for name, score in (("swing", mine["swing"]), ("shift", shift)):
            mine[f"{name}_sum"] += np.where(takes, score, 0)
            mine[f"{name}_square"] += np.where(takes, score * score, 0)
        return (mine["count"] >= self._warmup[model]) & ~learning

    def _calibrated(self, model: Ints) -> Ints:
        """Readings that show how far a healthy machine strays: the end of the warm-up, once the smoothing has begun."""
        warmup = self._warmup[model]
        return np.asarray(warmup - (FITTED_SHARE * warmup).astype(np.int64) - self._hold[model])

    def _adapt(self, group: _Group, verdict: _Verdict, sigma: Floats, follow: Ints) -> None:
        """Let the level follow; a fault, or what is about to become one, is never learnt as normal."""
        own, threshold = group.known, self._threshold[group.model]
        doubtful = verdict.size >= DOUBT_SHARE * threshold[:, None]
        doubtful |= (verdict.together >= DOUBT_SHARE * self._together[group.model])[:, None]
        pace = np.where(doubtful, DOUBT_PACE, 1.0) / follow[:, None]
        calm = verdict.judged & (group.quiet & (group.device["open"] == 0))[:, None]
        reach = 3 * sigma
        own.level += np.clip(np.where(calm, group.value - own.level, 0), -reach, reach) * pace

    def _judge(self, group: _Group, verdict: _Verdict) -> list[int]:
        """Count the runs beyond and below; turn the machines that have lasted, and answer them."""
        device, model = group.device, group.model
        threshold, together, hold = self._threshold[model], self._together[model], self._hold[model]
        opened, still = device["open"] > 0, verdict.together >= CALM_SHARE * together
        standing = np.flatnonzero(opened)
        still[standing] |= _still_out(group.known, verdict, standing, threshold[standing, None])
        judged = (verdict.worst >= 0) | (verdict.together >= 0)
        beyond = (verdict.worst >= threshold) | (verdict.together >= together)
        needed = (("beyond", beyond, hold), ("calm", opened & ~still, self._clear[model]))
        for run, holds, enough in needed:
            since = f"{run}_at"
            device[since] = np.where(judged & holds & (device[run] == 0), group.at, device[since])
            device[run] = np.where(judged, np.where(holds, np.minimum(device[run], enough) + 1, 0), device[run])
        opens = judged & ~opened & (device["beyond"] >= hold)
        clears = judged & opened & (device["calm"] >= self._clear[model])
        device["open"] = (opened | opens) & ~clears
        turned = np.flatnonzero(opens | clears)
        out = opens[turned, None] & verdict.judged[turned]
        out &= verdict.size[turned] >= CALM_SHARE * threshold[turned, None]
        group.known.out[turned] = np.where(out, np.sign(verdict.channel[turned]), 0)
        device["calm"][turned] = np.where(opens[turned], 0, device["calm"][turned])
        answer: list[int] = turned.tolist()
        return answer

    def _tell(self, group: _Group, verdict: _Verdict, i: int, report: Report) -> None:
        threshold, together = float(self._threshold[group.model[i]]), float(self._together[group.model[i]])
        worst, all_at_once = float(verdict.worst[i]), float(verdict.together[i])
        # Told against the limit that is exceeded the most.
        score = max(worst, 0.0, all_at_once / together * threshold)
        opened = bool(group.device["open"][i])
        since_at = int(group.device["beyond_at" if opened else "calm_at"][i])
        rank = verdict.share[i] if all_at_once / together > worst / threshold else np.abs(verdict.channel[i])
        evidence = Evidence(
            score=round(score, 3), threshold=threshold, since_at=since_at, signs=self._signs(group, verdict, i, rank)
        )
        confidence = round(1 - 0.5 * min(1.0, threshold / max(score, 1e-9)) ** 2, 3) if opened else 1.0
        report.add(
            int(group.row[i]), int(group.position[i]), FaultKind.ANOMALY, "", opened, since_at, self.rule, evidence,
            confidence=confidence,
        )  # fmt: skip

    def _signs(self, group: _Group, verdict: _Verdict, i: int, rank: Floats) -> list[Sign]:
        """The channels that stood out most, most first."""
        seen = np.flatnonzero(verdict.judged[i])
        most = seen[np.argsort(-rank[seen], kind="stable")][:SIGNS].tolist()
        return [
            Sign(sensor=self._names[group.sensor[i] + k], value=float(group.value[i, k]),
                 expected=float(verdict.expected[i, k]), sigma=round(abs(float(verdict.channel[i, k])), 3))
            for k in most
        ]  # fmt: skip

    def _let_go(self, state: State, rows: Rows, report: Report) -> None:
        """Clear what stands open on machines whose profile is no longer learnt."""
        unwatched = np.flatnonzero(~self._watches[rows.model])
        for i in unwatched[state.device["open"][rows.device[unwatched]] > 0].tolist():
            row, at = int(rows.device[i]), int(rows.at[i])
            state.device["open"][row] = 0
            report.add(row, int(rows.position[i]), FaultKind.ANOMALY, "", False, at, self.rule, Evidence())


def _joint(profile: Profile) -> devices.Joint | None:
    return profile.learn.joint if profile.learn else None


def _own(state: State) -> Records:
    """The beginning of each cell, as plain bytes: numpy takes many times as long where it minds the fields."""
    return state.cell.getfield(f"V{_OWN_RECORD.itemsize}")


def _put_back(state: State, group: _Group) -> None:
    records = np.empty(group.cells.shape, dtype=_OWN_RECORD)
    group.known.into(records)
    _own(state)[group.cells] = records.view(f"V{_OWN_RECORD.itemsize}")


def _still_out(own: _Known, verdict: _Verdict, i: Ints, threshold: Floats) -> Bools:
    """Which of these machines, whose fault stands open, have a channel on the side to which it was out. Others join."""
    out, channel, judged = own.out[i], verdict.channel[i], verdict.judged[i]
    joins = judged & (verdict.size[i] >= threshold) & (out == 0)
    out = np.where(joins, np.sign(channel), out)
    own.out[i] = out
    # A channel that was beyond and says nothing now has not shown that it is well.
    back = judged & (channel * out < CALM_SHARE * threshold)
    return np.asarray(((out != 0) & ~back).any(axis=1))


def _ranges(first: Ints, width: Ints) -> Ints:
    """All numbers of the ranges that begin at `first` and are `width` long, one after the other."""
    ends = np.cumsum(width)
    return np.asarray(np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - (ends - width), width))


def _learn(group: _Group, learning: Bools, deviation: Floats, warmup: Ints, follow: Ints, fast: Floats) -> None:
    """Take samples of the warm-up into the channel's level, spread and wandering (outliers clipped)."""
    places = np.flatnonzero(learning)
    of = places // learning.shape[1]
    cell, value = group.known.take(places), group.value.take(places)
    reach = np.where(cell.count >= CLIP_AFTER, CLIP_SIGMA * _sigma(cell), 2 * HUGE)
    value = np.clip(value, cell.level - reach, cell.level + reach)
    cell.count += 1
    cell.level += (value - cell.level) * np.maximum(1 / cell.count, 1 / follow[of])
    apart = value - cell.level
    cell.square += apart * apart
    cell.product += apart * cell.smooth
    cell.smooth += (apart - cell.smooth) * fast[of]
    cell.smooth_square += np.where(cell.count > warmup[of] // 4, cell.smooth**2, 0)
    group.known.put(places, cell)
    deviation.put(places, apart)


def _weigh(group: _Group, judged: Bools, deviation: Floats, sigma: Floats, fast: Floats) -> Floats:
    """Smooth the deviation on, and weigh it: sigmas of a normal distribution of the same rarity, signed."""
    own, fast = group.known, fast[:, None]
    weight = np.maximum(own.count + own.kept, 2)
    reach = REACH_SIGMA * sigma
    apart = np.clip(np.where(judged, group.value - own.level, 0), -reach, reach)
    np.copyto(deviation, apart, where=judged)
    own.smooth = np.where(judged, own.smooth + (apart - own.smooth) * fast, own.smooth)
    wandered = own.smooth_square / np.maximum(weight - own.count // 4, 1)
    t = own.smooth / np.maximum(np.sqrt(wandered), sigma * np.sqrt(fast / (2 - fast)))
    # The share of the wandering that lasts (0 for white noise, 1 for a walk): the slope of the deviation over the
    # smoothed deviation before it. What lasts has been seen but a few times; the degrees of freedom are pooled as
    # Satterthwaite does.
    lasting = np.clip(own.product / np.maximum(wandered * weight, 1e-18), 0, 1)
    freedom = 1 / (lasting**2 / LASTING_FREEDOM + (1 - lasting) ** 2 / weight)
    return np.where(judged, np.sign(t) * np.sqrt(freedom * np.log1p(t * t / freedom)), 0.0)


def _sigma(own: _Known) -> Floats:
    """The spread of single samples, never quite nothing."""
    spread = np.sqrt(own.square / np.maximum(own.count + own.kept, 1))
    return np.asarray(np.maximum(spread, np.maximum(FLOOR_SHARE * np.abs(own.level), 1e-9)))


def _inverse_correlation(products: Floats, sigma: Floats, count: int) -> Floats:
    """Of one machine's channels, from its sums of products: (W, W)."""
    shrinkage = min(MOST_SHRINKAGE, len(sigma) / count)
    correlation = np.clip(products / count / np.outer(sigma, sigma), -1, 1) * (1 - shrinkage)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(np.linalg.inv(correlation))


def _mean_swing(device: Records, number: Ints) -> Floats:
    return np.asarray(device["swing_sum"] / np.maximum(number, 1))


def _rarity(score: Floats, total: Floats, squares: Floats, number: Ints) -> Floats:
    """Sigmas of a normal distribution as rare as this score is on a healthy machine.

    The score is taken for a multiple of a chi-square with the mean and variance shown (Box), and its cube root for
    normal (Wilson and Hilferty).
    """
    mean = np.maximum(total / np.maximum(number, 1), 1e-9)
    variance = np.maximum(squares / np.maximum(number, 1) - mean * mean, 1e-6 * mean * mean)
    narrow = variance / (9 * mean * mean)
    return np.asarray((np.cbrt(score / mean) - (1 - narrow)) / np.sqrt(narrow))
