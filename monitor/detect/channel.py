"""Channel: a sensor unlike its own past, seen in three ways, where its profile lets it be learnt."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from monitor import devices
from monitor.detect.detector import Detector, Ended, Fields, Records, Rows, State
from monitor.detect.finding import Evidence, Reason, Report
from monitor.detect.models import Models
from monitor.detect.operation import Operation
from monitor.devices import FaultKind, Profile
from monitor.readings import STATE_CODE, Floats, Ints

VIEWS = (Reason.LEVEL, Reason.HOUR, Reason.LASTING)
"""In the order in which memory holds them: where it stands, how far from this hour's usual, how far for a while."""
HOURS = 24
HOUR_MS = 3_600_000
TAIL_SHARE = 0.02
"""The outermost share of what was seen, on either side: from its distances the rarity of the never seen is judged."""
TAIL_DECADES = -math.log10(TAIL_SHARE)
CLIP_TAILS = 5.0
"""So many usual distances into the tail is the most that one sample counts for when the tail is learnt."""
CLIP_AFTER = 10
"""Samples of a tail after which it is known well enough to clip by."""
CLIP_SIGMA = 4.0
POOLED = 20.0
"""Samples that the spread of all hours is worth beside the spread of one."""
SETTLED = 50
"""Samples that measure the spread before anything is weighed by it."""
FLOOR_SHARE = 1e-3
"""The least spread, as a share of the mean: a channel that stood still has not shown how far it may move."""
FLOOR_TAIL = 0.1
"""The least mean distance into a tail, in spreads."""
HUGE = 1e15
"""Values are taken no further than this from 0, so that squares stay finite in single precision."""
LOWEST = 1e-12
MOST_SIGMA = 1e6
MOST_DECADES = 300.0
CONFIDENCE, MOST_CONFIDENCE = 0.2, 0.45
"""How sure it is at its threshold, and ten decades beyond it: one odd channel is a weak sign by itself."""


NOW: Fields = [
    ("base", "<f4"),  # about the first value: all else is counted from it, so that single precision is enough
    ("level", "<f4"),  # NaN: no sample before this one to smooth with
    ("lasting", "<f4"),
    ("mean", "<f4"),
    ("square", "<f4"),  # mean squared deviation from the hours' means
    ("raised", "<f4"),  # decades by which past alarms have raised the threshold
    ("count", "<f4"),  # samples learnt from
    ("spread", "<f4", (len(VIEWS),)),  # mean distance of each view from its middle
    ("tail_from", "<f4", (2 * len(VIEWS),)),  # where the outermost samples of each view begin, above and below
    ("tail_reach", "<f4", (2 * len(VIEWS),)),  # mean distance of the samples beyond
    ("tail_count", "<u2", (2 * len(VIEWS),)),
    ("calm_at", "<u4"),  # `at` of the first sample of the present calm, its low 32 bits
    ("open", "<u4"),  # 0, or 1 + the samples that the fault has stood, beside those below the threshold in a row
]
"""What every sample reads and writes: gathered and written back at once, in words of 4 bytes."""
HOUR: Fields = [
    ("mean", "<f4"),
    ("packed", "<u4"),  # the mean square without its last bits, and a code of the count
]
CALM_BITS = 12
"""Of the word `open`, for the samples in a row below the threshold; the others are for how long it has stood."""
MOST_CALM, MOST_STAY = 2**CALM_BITS - 1, 2 ** (32 - CALM_BITS) - 2
"""A profile that asks for more of either gets this: 4,095 and a million samples."""
COUNT_BITS = 12
"""Of the word `packed`, for the code of a count; the others are for the mean square."""
_FINE = 2**8
CODED: Final = np.array([n if n < _FINE else (n % _FINE + _FINE) << n // _FINE - 1 for n in range(2**COUNT_BITS)])
"""What a code of a count stands for: exact up to 512, from there on in steps of a 256th or less."""
CHANCE: Final = np.append(2**31 // np.diff(CODED), 0).astype(np.uint32)
"""By code, of 2**31: how likely one more sample takes it to the next."""
COUNTS: Final = CODED.astype(np.float32)
_CODE = np.uint32(2**COUNT_BITS - 1)
_REST = np.uint32(2 ** (COUNT_BITS - 1) - 1)  # the bits of a mean square for which there is no room beside it
MOST_COUNT = 2.0**24
"""Single precision counts no further."""
SPAN_MS, BACK_MS = 2**32, 86_400_000
"""A calm may have begun this long before now less a day, or up to a day after: clocks are set back."""

Mask = npt.NDArray[np.bool_]
Singles = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]
Own = dict[str, npt.NDArray[Any]]
"""The fields of NOW for the S samples of a round: (S,) each, or (width, S). Views of one array."""


class Channel(Detector):
    """Three views of each channel, each judged by how rare it is among all that this channel has shown.

    `level` is the value smoothed over a few samples, `hour` the deviation from the mean of this hour of the day (UTC)
    in spreads of that hour, `lasting` that deviation smoothed. Of each view memory holds, for either side, where the
    outermost 2 % begin and how far into them samples usually reach. Rarity falls off exponentially from there; the
    score is that of the rarest view, in decades (3: one sample in a thousand).

    A score above `threshold_decades` opens. Each alarm raises the threshold, and that wears off slowly: a channel that
    keeps crying wolf has to cry louder. So many samples in a row below it (`calm_samples`) clear.

    It learns and judges while the machine runs, `settle_s` after its start, and learns nothing while any fault stands
    open on the machine, unless the profile lets what has lasted `accept_samples` be learnt as the new normal. What
    stood open for as long as a warm-up and is ended by the desk is learnt anew as well.
    """

    name: ClassVar[str] = "channel"
    version: ClassVar[int] = 1
    kind: ClassVar[FaultKind | None] = FaultKind.ANOMALY
    cell_kind: ClassVar[str] = FaultKind.ANOMALY
    cell_fields: ClassVar[Fields] = [*NOW, ("hour", HOUR, (HOURS,))]
    blank: ClassVar[dict[str, float]] = {"base": np.nan, "level": np.nan}

    def configure(self, models: Models) -> None:
        self._sensors = models.sensors
        self._watched = models.of_sensor(
            lambda profile, sensor: _channel(profile) is not None and sensor.learn, np.bool_
        )
        self._settle_ms = models.of_model(lambda profile: (_channel(profile) or devices.Channel()).settle_s * 1000)
        self._rules = models.of_model(_rules, np.float32).T.copy()

    def step(self, state: State, rows: Rows, report: Report) -> None:
        self._let_go(state, rows, report)
        machine = state.of(Operation)
        runs_ms = rows.at - machine["since_at"][rows.device]
        ready = (rows.state == STATE_CODE["running"]) & (runs_ms >= self._settle_ms[rows.model])
        pick = np.flatnonzero(self._watched[rows.sensor] & ~np.isnan(rows.value))
        judged = ready[rows.of[pick]]
        state.cell["level"][rows.cell[pick[~judged]]] = np.nan
        pick = pick[judged]
        if not len(pick):
            return
        of, cell = rows.of[pick], rows.cell[pick]
        rules = self._rules_of(rows.model, of)
        now, hours = _plain(state.cell, _NOW_BYTES), state.cell["hour"].view(_HOUR_BYTES)
        of_hour = cell, (rows.at // HOUR_MS % HOURS)[of]
        together = now[cell].view(np.float32).reshape(len(cell), -1).T.copy()
        own, hour = _fields(together), hours[of_hour].view(np.float32).reshape(-1, 2).T.copy()
        seen = _look(own, hour, rules, rows.value[pick])
        own["raised"] *= rules.wear
        threshold = rules.threshold + own["raised"]
        beyond = (seen.score > threshold) & (own["count"] >= rules.warmup)
        opens, clears, learns = _turn(own, beyond, rows.at[of], rules)
        own["raised"] += opens * rules.raise_by
        found = np.flatnonzero(opens | clears).tolist()
        told = [seen.evidence(own, i, float(threshold[i])) for i in found]
        state.cell["open"][cell[found]] = own["open"][found]
        learns &= ~self._hindered(state, rows, machine["faults"][rows.device])[of]
        _learn(own, hour, seen, learns, rules)
        now[cell] = together.T.copy().view(_NOW_BYTES)[:, 0]
        hours[of_hour] = hour.T.copy().view(_HOUR_BYTES)[:, 0]
        for i, evidence in zip(found, told, strict=True):
            at = int(rows.at[of[i]])
            since_at = at if opens[i] else _recent(int(own["calm_at"][i]), at)
            self._tell(rows, int(pick[i]), bool(opens[i]), since_at, evidence, report)

    def release(self, state: State, ended: Ended) -> None:
        if ended.cell is None:
            return
        own = state.cell[ended.cell : ended.cell + 1]
        if int(own["open"][0] >> CALM_BITS) - 1 >= min(self._rules[0, state.model[ended.row]], MOST_STAY):
            _forget(own)
        own["open"] = 0

    def serviced(self, state: State, row: int) -> None:
        _forget(state.cell[state.cells_of(row)])

    def _rules_of(self, model: Ints, of: Ints) -> "_Rules":
        """The rules by sample; one column for all, where all machines are of one model, as they mostly are."""
        same = (model == model[0]).all()
        return _Rules(*self._rules[:, model[:1] if same else model[of]])

    def _hindered(self, state: State, rows: Rows, faults: Ints) -> Mask:
        """Which machines have an open fault that nothing may be learnt from."""
        faults = faults.copy()
        accept = _Rules(*self._rules).accept[rows.model]
        for i in np.flatnonzero((faults > 0) & np.isfinite(accept)).tolist():
            cells = state.cell[state.cells_of(int(rows.device[i]))]
            faults[i] -= np.count_nonzero(cells["open"] >> CALM_BITS > accept[i])
        return np.asarray(faults > 0)

    def _tell(self, rows: Rows, i: int, opened: bool, at: int, evidence: Evidence, report: Report) -> None:
        of, sensor = int(rows.of[i]), self._sensors[rows.sensor[i]]
        evidence["since_at"] = at
        if sensor.unit:
            evidence["unit"] = sensor.unit
        surplus = min(max(evidence["score"] - evidence["threshold"], 0.0), 10.0) / 10
        confidence = CONFIDENCE + (MOST_CONFIDENCE - CONFIDENCE) * surplus
        report.add(int(rows.device[of]), int(rows.position[of]), FaultKind.ANOMALY, sensor.name, opened, at, self.rule,
                   evidence, confidence=round(confidence, 3))  # fmt: skip

    def _let_go(self, state: State, rows: Rows, report: Report) -> None:
        """Clear what stands open on sensors that the profile no longer has learnt."""
        stray = np.flatnonzero(~self._watched[rows.sensor])
        for i in stray[state.cell["open"][rows.cell[stray]] > 0].tolist():
            of = int(rows.of[i])
            state.cell["open"][rows.cell[i]] = 0
            report.add(int(rows.device[of]), int(rows.position[of]), FaultKind.ANOMALY,
                       self._sensors[rows.sensor[i]].name, False, int(rows.at[of]), self.rule, Evidence())  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Rules:
    """What the profile says, by sample or one for all; rates and counts as they are used."""

    warmup: Singles
    fast: Singles
    slow: Singles
    season: Singles
    memory: Singles
    threshold: Singles
    raise_by: Singles
    wear: Singles
    """What is left of a raise after one sample."""
    calm: Singles
    accept: Singles


def _rules(profile: Profile) -> list[float]:
    channel = _channel(profile) or devices.Channel()
    return [
        max(2, profile.learn.warmup_samples) if profile.learn else 2,
        1 / channel.fast_samples,
        1 / channel.slow_samples,
        1 / channel.season_samples,
        channel.memory_samples,
        channel.threshold_decades,
        channel.raise_decades,
        math.exp(-1 / channel.raise_samples),
        min(channel.calm_samples, MOST_CALM),
        math.inf if channel.accept_samples is None else min(channel.accept_samples, MOST_STAY),
    ]


def _channel(profile: Profile) -> devices.Channel | None:
    return profile.learn.channel if profile.learn else None


@dataclass(frozen=True, slots=True)
class _Seen:
    """The S samples of a round in their three views, and how rare each sample is."""

    base: Singles
    value: Singles  # all from here on counted from `base`
    expected: Singles
    hour_count: Singles
    hour_square: Singles
    sigma: Singles
    settled: Mask
    views: Singles  # (V, S)
    beyond: Singles  # (V * 2, S) how far into the tail, both sides counted outwards; negative outside of it
    hits: Ints  # where `beyond` is above 0, in its flat order
    tail: Ints  # of which of the V * 2 tails that is
    sample: Ints  # and of which of the samples
    score: Singles  # decades; 0 outside of all tails

    def evidence(self, own: Own, i: int, threshold: float) -> Evidence:
        """The rarest view of a sample in the sensor's own unit, and the band in which it would have been usual."""
        reach = np.fmax(
            own["tail_reach"][:, i], _floor(self, np.arange(len(self.beyond)), np.full(len(self.beyond), i))
        )
        view = int(np.argmax(self.beyond[:, i] / reach)) // 2
        edge = own["tail_from"][:, i] + reach * math.log(10) * (threshold - TAIL_DECADES)
        base = expected = float(self.base[i])
        if VIEWS[view] is Reason.LEVEL:
            expected, unit = base + float(own["mean"][i]), 1.0
        else:
            base = expected = base + float(self.expected[i])
            unit = float(self.sigma[i])
        high, low = base + unit * float(edge[2 * view]), base - unit * float(edge[2 * view + 1])
        return Evidence(
            reason=VIEWS[view], value=_short(base + unit * float(self.views[view, i])), expected=_short(expected),
            band=(_short(low), _short(high)), score=round(min(float(self.score[i]), MOST_DECADES), 2),
            threshold=round(threshold, 2),
        )  # fmt: skip


_NOW_BYTES = f"V{np.dtype(NOW).itemsize}"
_HOUR_BYTES = f"V{np.dtype(HOUR).itemsize}"


def _plain(records: Records, kind: str) -> Records:
    """The first fields of records as plain bytes: numpy takes twenty times as long where it minds the fields."""
    return records.getfield(kind)


def _fields(together: Singles) -> Own:
    """`together` (W, S) by field. Fields of half words come as their pairs: `tail_count` is (W, S, 2), of words W."""
    own: Own = {}
    for name, (dtype, start) in _PLACES.items():
        words = together[start // 4 : (start + dtype.itemsize) // 4].view(dtype.base)
        own[name] = words.reshape(*words.shape[:1], -1, 2) if dtype.base.itemsize < 4 else words
        if not dtype.shape:
            own[name] = own[name][0]
    return own


_PLACES = {name: (field[0], field[1]) for name, field in dict(np.dtype(NOW).fields or {}).items()}


def _look(own: Own, hour: Singles, rules: _Rules, raw: Floats) -> _Seen:
    """Move the views on by a sample, and weigh them by what was known before it."""
    raw = np.clip(raw, -HUGE, HUGE)
    begins = np.flatnonzero(np.isnan(own["level"]))
    first = begins[np.isnan(own["base"][begins])]
    own["base"][first] = raw[first]
    value = (raw - own["base"]).astype(np.float32)
    packed = hour[1].view(np.uint32)
    count, square = COUNTS[packed & _CODE], _unpacked(packed)
    expected = np.where(count > 0, hour[0], own["mean"])
    least = np.float32(FLOOR_SHARE) * np.abs(own["mean"] + own["base"]) + np.float32(LOWEST)
    pooled = (square * count + own["square"] * np.float32(POOLED)) / (count + np.float32(POOLED))
    sigma: Singles = np.maximum(np.sqrt(pooled), least)
    settled = own["count"] >= np.fmin(SETTLED, rules.warmup // 2)
    views = np.empty((len(VIEWS), len(raw)), dtype=np.float32)
    deviation = np.clip((value - expected) / sigma, -MOST_SIGMA, MOST_SIGMA, out=views[1])
    deviation[~settled] = 0
    own["level"][begins] = value[begins]
    own["level"] += (value - own["level"]) * rules.fast
    own["lasting"] += (deviation - own["lasting"]) * rules.slow
    own["lasting"][begins] = 0
    views[0], views[2] = own["level"], own["lasting"]
    beyond = _beyond(own, views)
    hits = np.flatnonzero(beyond > 0)
    tail, sample = np.divmod(hits, len(raw))
    seen = _Seen(own["base"], value, expected, count, square, sigma, settled, views, beyond, hits, tail, sample,
                 np.zeros(len(raw), dtype=np.float32))  # fmt: skip
    reach = np.maximum(own["tail_reach"].reshape(-1)[hits], _floor(seen, tail, sample))
    decades = beyond.reshape(-1)[hits] / (reach * np.float32(math.log(10))) + np.float32(TAIL_DECADES)
    np.maximum.at(seen.score, sample, decades)
    return seen


def _beyond(own: Own, views: Singles) -> Singles:
    """How far into each tail, (V * 2, S)."""
    both = np.empty((len(VIEWS), 2, views.shape[1]), dtype=np.float32)
    edge = own["tail_from"].reshape(both.shape)
    np.subtract(views, edge[:, 0], out=both[:, 0])
    np.add(views, edge[:, 1], out=both[:, 1])
    np.negative(both[:, 1], out=both[:, 1])
    return both.reshape(2 * len(VIEWS), -1)


def _unpacked(packed: Words) -> Singles:
    """The mean square: single precision without its sign, which it lacks, and its last bits."""
    bits: Words = packed >> np.uint32(1)
    bits -= bits & _REST
    return bits.view(np.float32)


def _packed(packed: Words, square: Singles, learns: Mask, count: Singles) -> Words:
    """Another mean square, and one sample more where it `learns`.

    What fits no more is rounded by chance, so that changes smaller than that add up as they should. The chance is drawn
    from the number of the sample: the same samples lead to the same state, wherever they are taken in.
    """
    chance: Words = count.astype(np.uint32) * np.uint32(0x9E3779B1)
    chance ^= chance >> 15
    chance *= np.uint32(0x85EBCA77)
    chance ^= chance >> 13
    code: Words = packed & _CODE
    code += learns & (chance >> 1 < CHANCE[code])
    bits: Words = square.view(np.uint32) + (chance & _REST)
    bits <<= 1
    bits -= bits & _CODE
    bits += code
    return bits


def _recent(low: int, at: int) -> int:
    """The time with these low 32 bits that is nearest to what came before `at`."""
    return at + BACK_MS - (at + BACK_MS - low) % SPAN_MS


def _floor(seen: _Seen, tail: Ints, sample: Ints) -> Singles:
    """The least reach of a tail, in the unit of its view."""
    unit = np.where(tail < 2, seen.sigma[sample], np.float32(1))
    return np.asarray(unit * np.float32(FLOOR_TAIL))


def _turn(own: Own, beyond: Mask, at: Ints, rules: _Rules) -> tuple[Mask, Mask, Mask]:
    """Which samples open a fault, which clear one, and from which the sensor's own fault lets it learn.

    Counts how long it has stood, and how long it has been calm.
    """
    was_open = own["open"] > 0
    opens = beyond & ~was_open
    clears, learns = np.zeros_like(opens), ~opens | (rules.accept <= 0)
    i = np.flatnonzero(was_open)
    if len(i):
        calm = np.where(beyond[i], 0, np.minimum((own["open"][i] & MOST_CALM) + 1, MOST_CALM))
        stay = np.minimum(own["open"][i] >> CALM_BITS, MOST_STAY)
        clears[i] = calm >= np.broadcast_to(rules.calm, beyond.shape)[i]
        learns[i] = clears[i] | (stay >= np.broadcast_to(rules.accept, beyond.shape)[i])
        own["open"][i] = np.where(clears[i], 0, (stay + 1 << CALM_BITS) | calm)
        begins = i[calm == 1]
        own["calm_at"][begins] = at[begins] % SPAN_MS
    own["open"][opens] = 1 << CALM_BITS
    return opens, clears, learns


def _learn(own: Own, hour: Singles, seen: _Seen, learns: Mask, rules: _Rules) -> None:
    """Take the samples into what is usual, where `learns`."""
    once = learns.astype(np.float32)
    own["count"][:] = np.minimum(own["count"] + once, np.float32(MOST_COUNT))
    rate = once / np.minimum(np.maximum(own["count"], 1), rules.memory)
    _learn_tails(own, seen, learns, rules)
    distance = np.abs(seen.views)
    np.abs(own["level"] - own["mean"], out=distance[0])
    distance -= own["spread"]
    distance *= rate
    own["spread"] += distance
    newest = once / np.maximum(seen.hour_count + once, 1)
    most = np.float32(CLIP_SIGMA) * np.sqrt(own["square"])
    most[~seen.settled] = 2 * HUGE
    square = np.minimum(np.abs(seen.value - seen.expected), most) ** 2
    hour[0] += (seen.value - hour[0]) * np.maximum(newest, once * rules.season)
    hour_square = seen.hour_square + (square - seen.hour_square) * np.maximum(newest, once * (rules.season / 2))
    hour[1].view(np.uint32)[:] = _packed(hour[1].view(np.uint32), hour_square, learns, own["count"])
    slowly = np.maximum(rate, once * (10 / rules.memory))
    own["square"] += (square - own["square"]) * slowly
    own["mean"] += (seen.value - own["mean"]) * slowly


def _learn_tails(own: Own, seen: _Seen, learns: Mask, rules: _Rules) -> None:
    """Follow where each tail begins (a quantile, stepwise), and how far samples reach into it (a clipped mean)."""
    most = rules.memory * np.float32(TAIL_SHARE)
    pace = learns * np.maximum(5 / np.maximum(own["count"], 1), 0.5 / most) * own["spread"]
    edge = own["tail_from"].reshape(len(VIEWS), 2, -1)
    edge -= (pace * np.float32(TAIL_SHARE))[:, None]
    within = learns[seen.sample] & (own["count"][seen.sample] > 1)
    hits, tail, sample = seen.hits[within], seen.tail[within], seen.sample[within]
    own["tail_from"].reshape(-1)[hits] += pace[tail // 2, sample]
    first = np.flatnonzero(learns & (own["count"] == 1))
    edge[:, 0, first], edge[:, 1, first] = seen.views[:, first], -seen.views[:, first]
    counts, reaches = own["tail_count"].reshape(-1), own["tail_reach"].reshape(-1)
    pair = (tail - tail % 2) * len(learns) + 2 * sample + tail % 2
    known = np.minimum(counts[pair] + np.float32(1), np.broadcast_to(most, learns.shape)[sample])
    reach, deep = reaches[hits], seen.beyond.reshape(-1)[hits]
    deep = np.where(known > CLIP_AFTER, np.minimum(deep, np.float32(CLIP_TAILS) * reach), deep)
    reaches[hits] = reach + (deep - reach) / np.maximum(known, 1)
    counts[pair] = known


def _forget(cells: Records) -> None:
    """Begin to learn anew. What was usual before counts as one sample of each hour, until there are others."""
    cells["count"] = cells["tail_count"] = 0
    cells["level"] = np.nan
    packed = cells["hour"]["packed"]
    code = packed & _CODE
    packed += np.minimum(code, 1) - code


def _short(value: float) -> float:
    """A number as people read it."""
    return float(f"{value:.6g}")
