"""Trend: a sensor that drifts toward its limit, and when it will get there."""

import math
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.detect.detector import Detector, Ended, Fields, Rows, State, gathered, scatter
from monitor.detect.finding import Evidence, Report
from monitor.detect.models import Models
from monitor.detect.operation import Operation
from monitor.devices import FaultKind, Profile, Sensor
from monitor.readings import STATE_CODE, Floats, Ints

HOUR_MS = 3_600_000
BUCKET_MS = 600_000
"""So much steady operation goes into one mean; readings that come seldom make it longer."""
BUCKET_READINGS = 6
MOST_READINGS = 30_000
"""A bucket ends with so many readings, whatever a clock that stands still says."""
MEMORY_H = (1.0, 3.0, 24.0, 192.0)
"""The pasts that are looked at: a leak shows in hours, a clogging filter in days, wear in weeks."""
PIECES = 4
"""A past of τ hours holds independent evidence every τ / PIECES hours, however often it was measured: what lies closer
together shares its weather, its work and its tank of fuel."""
LEAST_SPAN = 1.0
"""A past is judged from so many τ on that the readings span."""
LEAST_BUCKETS = 4
REACH = (1.5, 0.75, 1.5, 2.5)
"""A drift is carried on no further than so many times the span in which it was seen. Within hours: not further than a
warm day goes on getting warmer."""
LEAST_T = (3.0, 4.0, 4.0, 4.0)
"""The slope, in standard errors."""
PERSISTS = 3
"""Buckets in a row that must foretell the limit."""
CALM_BUCKETS = 36
"""Buckets in a row (six hours of work) that foretell nothing any more."""
RECEDES = 1.5
"""The forecast has receded when it lies so many times further than one that would open."""
CLIP_SIGMA = 5.0
CLIP_SHARE = 0.05
"""A bucket pulls a fit no further than CLIP_SIGMA, or this share of the way to the limit: the dust of one bad hour."""
SWING_SIGMA = 2.0
"""How far from its mean a machine's ordinary work goes, in standard deviations of the load."""
STANDARD = 2
"""The memory whose level is compared with other machines."""
STANDARD_BUCKETS = 24
SETTLED = 0.95
"""Of the way from cold to settled, which a cold machine has gone after the profile's `settle_s`."""
HUGE = 1e12
RESUMED = 2
"""`open` of a fault that a service has dealt with: the next bucket clears it."""

_W, _T, _X, _Y, _TT, _XX, _YY, _TX, _TY, _XY = range(10)
_TAU, _LEAST_T = np.array(MEMORY_H), np.array(LEAST_T)

Mask = npt.NDArray[np.bool_]


class Line(NamedTuple):
    """What a fit says, (cells, memories): level now, at the mean work and at its two ordinary ends; slope an hour."""

    level: Floats
    load_effect: Floats
    load_swing: Floats
    slope: Floats
    slope_error: Floats
    noise: Floats
    pieces: Floats
    span_h: Floats


class Outlook(NamedTuple):
    """Of each cell's most urgent memory: whether it foretells, whether it has receded, and the forecast."""

    due: Mask
    receded: Mask
    memory: Ints
    up: Mask
    limit: Floats
    distance: Floats
    allowed_h: Floats


class Trend(Detector):
    """Means of ten minutes of settled running, regressed on load and time together.

    Four regressions a sensor, discounted over an hour to a week, so that a leak and wear both have their time scale.
    Load (a profile's `load_sensor`) stands in the regression, so that a busier week is no drift. A limit is foretold
    when the slope is beyond chance, and the line, at the heavier or lighter end of the machine's ordinary work, meets
    the limit within the profile's horizon and within a small multiple of the time in which the drift was seen, three
    buckets in a row. Where machines of a model differ more than a healthy one ever changes, the profile's
    `trend_share` of the machine's own mean of the last weeks is a limit too. A forecast that has receded for six hours
    of work clears; so does a service.

    Learning goes on while faults stand open: a drift is followed to its end.
    """

    name: ClassVar[str] = "trend"
    version: ClassVar[int] = 1
    kind: ClassVar[FaultKind | None] = FaultKind.TREND
    cell_kind: ClassVar[str] = FaultKind.TREND
    device_fields: ClassVar[Fields] = [
        ("bucket_at", "<i8"),  # device, first reading of the present bucket
        ("last_at", "<i8"),  # device, its last reading
        ("read_at", "<i8"),  # device, the latest reading of any state; 0: none yet
        ("warmth", "<f4"),  # how settled the machine is: 0 cold, 1 as if it had always run
        ("load", "<f8"),  # sum of the load sensor's values in it
        ("loads", "<i4"),  # how many
        ("count", "<i4"),  # readings in it; 0: there is no bucket
    ]
    cell_fields: ClassVar[Fields] = [
        ("sum", "<f4"),  # of the values in the machine's present bucket
        ("count", "<u2"),  # how many
        ("run", "u1"),  # buckets in a row that foretell the limit
        ("calm", "u1"),  # buckets in a row that do not
        ("open", "u1"),
        ("level", "<f4"),  # mean of the last days as it would be at the profile's nominal load; NaN: not known
        ("usual", "<f4"),  # the same of the last weeks
        ("level_error", "<f4"),  # standard error of `level`
        ("at", "<i8"),  # device, middle of the last bucket taken in; 0: none
        ("fit", "<f4", (len(MEMORY_H), 10)),  # weight, means and covariances of time, load and value: _W … _XY
    ]
    blank: ClassVar[dict[str, float]] = {"level": np.nan, "usual": np.nan}

    def configure(self, models: Models) -> None:
        self._sensors = models.sensors
        self._first_sensor, self._width = models.first_sensor, models.width
        self._settle_ms = models.of_model(lambda profile: max(1, profile.settle_s * 1000))
        self._bucket_ms = models.of_model(
            lambda profile: max(BUCKET_MS, BUCKET_READINGS * profile.report_interval_s * 1000)
        )
        self._horizon_h = models.of_model(lambda profile: profile.trend_horizon_days * 24, np.float64)
        self._nominal_load = models.of_model(_nominal_load, np.float64)
        self._is_load = models.of_sensor(lambda profile, sensor: sensor.name == profile.load_sensor, np.bool_)
        self._by_load = models.of_model(lambda profile: bool(profile.load_sensor), np.bool_)
        self._watched = models.of_sensor(_watched, np.bool_)
        self._low = models.of_sensor(lambda _, sensor: limit_of(sensor, "low", -np.inf), np.float64)
        self._high = models.of_sensor(lambda _, sensor: limit_of(sensor, "high", np.inf), np.float64)
        self._share = models.of_sensor(lambda _, sensor: sensor.trend_share or np.nan, np.float64)
        self._way = models.of_sensor(lambda _, sensor: way_to_limit(sensor), np.float64)

    def step(self, state: State, rows: Rows, report: Report) -> None:
        own, since_at = gathered(state.device, rows.device), state.of(Operation)["since_at"][rows.device]
        at, read = rows.at, rows.state >= 0
        running = rows.state == STATE_CODE["running"]
        self._warm(own, rows, read, running & (since_at < at))
        steady = running & (own["warmth"] >= SETTLED)
        bucket_ms = self._bucket_ms[rows.model]
        ends = read & (own["count"] > 0)
        ends &= ~steady | (own["count"] >= MOST_READINGS) | (at < own["last_at"]) | (at - own["bucket_at"] >= bucket_ms)
        closing = np.flatnonzero(ends)
        if len(closing):
            self._close(state, rows, own, closing, bucket_ms, report)
        begins = steady & (own["count"] == 0)
        own["bucket_at"] = np.where(begins, at, own["bucket_at"])
        own["last_at"] = np.where(steady, at, own["last_at"])
        own["count"] += steady
        self._gather(state, rows, own, steady)
        scatter(state.device, rows.device, own)

    def _warm(self, own: npt.NDArray[np.void], rows: Rows, read: Mask, went_on: Mask) -> None:
        """A machine that goes on running comes nearer to its settled state; one that stood, or may have, falls back."""
        elapsed_ms = np.clip(rows.at - own["read_at"], 0, None) * (own["read_at"] > 0)
        left = np.exp(math.log(1 - SETTLED) * elapsed_ms / self._settle_ms[rows.model])
        warmth = went_on + (own["warmth"] - went_on) * left
        own["warmth"] = np.where(read, warmth, own["warmth"])
        own["read_at"] = np.where(read, rows.at, own["read_at"])

    def _gather(self, state: State, rows: Rows, own: npt.NDArray[np.void], steady: Mask) -> None:
        """Add the values of settled machines to their buckets."""
        says = steady[rows.of] & ~np.isnan(rows.value)
        pick = np.flatnonzero(self._watched[rows.sensor] & says)
        cell, value = rows.cell[pick], np.clip(rows.value[pick], -HUGE, HUGE)
        state.cell["sum"][cell] += value
        state.cell["count"][cell] += 1
        load = np.flatnonzero(self._is_load[rows.sensor] & says)
        own["load"][rows.of[load]] += np.clip(rows.value[load], -HUGE, HUGE)
        own["loads"][rows.of[load]] += 1

    def release(self, state: State, ended: Ended) -> None:
        if ended.cell is not None:
            for field in ("run", "calm", "open"):
                state.cell[field][ended.cell] = 0

    def serviced(self, state: State, row: int) -> None:
        cells, own = state.cell[state.cells_of(row)], state.device[row]
        own["count"] = own["loads"] = own["load"] = 0
        for field in ("sum", "count", "run", "calm", "at", "fit"):
            cells[field] = 0
        cells["level"] = cells["usual"] = np.nan
        cells["open"] = np.where(cells["open"] > 0, RESUMED, 0)

    def _close(
        self, state: State, rows: Rows, own: npt.NDArray[np.void], closing: Ints, bucket_ms: Ints, report: Report
    ) -> None:
        """End these machines' buckets, and take those that lasted into the fits of their sensors."""
        model = rows.model[closing]
        of = np.repeat(np.arange(len(closing)), self._width[model])
        column = np.arange(len(of)) - np.repeat(np.cumsum(self._width[model]) - self._width[model], self._width[model])
        cell = state.first[rows.device[closing]][of] + column
        sensor = self._first_sensor[model][of] + column
        record = own[closing]
        lasted = record["last_at"] - record["bucket_at"] >= bucket_ms[closing] // 2
        count = state.cell["count"][cell]
        counts = lasted[of] & (2 * count >= record["count"][of]) & self._watched[sensor]
        counts &= ~self._by_load[model][of] | (record["loads"][of] > 0)
        gone = (state.cell["open"][cell] > 0) & ~self._watched[sensor]
        pick = np.flatnonzero(counts | gone)
        middle = (record["bucket_at"] + record["last_at"]) // 2
        load = (record["load"] / np.maximum(record["loads"], 1))[of[pick]]
        value = state.cell["sum"][cell[pick]] / np.maximum(count[pick], 1)
        self._judge(state, rows, closing[of[pick]], cell[pick], sensor[pick], middle[of[pick]], load, value, report)
        state.cell["sum"][cell] = 0
        state.cell["count"][cell] = 0
        for field in ("load", "loads", "count"):
            own[field][closing] = 0

    def _judge(
        self, state: State, rows: Rows, of: Ints, cell: Ints, sensor: Ints, at: Ints, load: Floats, value: Floats,
        report: Report,
    ) -> None:  # fmt: skip
        """Take one bucket of each of these cells into its fits, and open or clear by what they foretell then."""
        own = gathered(state.cell, cell)
        elapsed_h = np.clip((at - own["at"]) / HOUR_MS, 0, 1e6)
        fit = own["fit"].astype(np.float64)
        _take(fit, elapsed_h, load, value, CLIP_SHARE * self._way[sensor])
        own["at"], own["fit"] = at, np.where(self._watched[sensor][:, None, None], fit, 0)
        line = _line(fit)
        own["level"], own["usual"], own["level_error"] = _at_load(fit, line, self._nominal_load[rows.model[of]])
        ends = self._low[sensor], self._high[sensor]
        outlook = _outlook(line, fit, ends, self._share[sensor], self._horizon_h[rows.model[of]])
        own["run"] = np.where(outlook.due, np.minimum(own["run"], 250) + 1, 0)
        own["calm"] = np.where(outlook.receded, np.minimum(own["calm"], 250) + 1, 0)
        opens = (own["open"] == 0) & (own["run"] >= PERSISTS)
        clears = (own["open"] > 0) & ((own["calm"] >= CALM_BUCKETS) | (own["open"] == RESUMED) | ~self._watched[sensor])
        own["open"] = np.where(opens, 1, np.where(clears, 0, own["open"]))
        scatter(state.cell, cell, own)
        for i in np.flatnonzero(opens | clears).tolist():
            facts, confidence = Evidence(value=_rounded(float(value[i])), since_at=int(at[i])), 1.0
            if opens[i]:
                expected = _expected(line, outlook, fit, float(load[i]), i)
                facts |= _forecast(line, outlook, i, int(at[i])) | Evidence(expected=expected)
                confidence = _confidence(line, outlook, i)
            self._tell(rows, int(of[i]), int(sensor[i]), bool(opens[i]), int(at[i]), facts, confidence, report)

    def _tell(
        self, rows: Rows, of: int, sensor: int, opened: bool, at: int, facts: Evidence, confidence: float,
        report: Report,
    ) -> None:  # fmt: skip
        named = self._sensors[sensor]
        if named.unit:
            facts["unit"] = named.unit
        row, position = int(rows.device[of]), int(rows.position[of])
        report.add(
            row, position, FaultKind.TREND, named.name, opened, at, self.rule, facts, confidence=confidence
        )  # fmt: skip


def _take(fit: Floats, elapsed_h: Floats, load: Floats, value: Floats, reach: Floats) -> None:
    """Discount the past of each memory, and take in one more (time, load, value): exponentially weighted means and
    covariances, updated as by West (1979). Time is counted from now, so means of time are negative."""
    kept = np.exp(-elapsed_h[:, None] / _TAU) * fit[:, :, _W]
    fit[:, :, _W] = kept + 1
    share = 1 / (kept + 1)
    fit[:, :, _T] -= elapsed_h[:, None]
    t, x, y = -fit[:, :, _T], load[:, None] - fit[:, :, _X], value[:, None] - fit[:, :, _Y]
    bound = CLIP_SIGMA * np.sqrt(fit[:, :, _YY]) + reach[:, None]
    y = np.where(kept >= LEAST_BUCKETS, np.clip(y, -bound, bound), y)
    for mean, off in ((_T, t), (_X, x), (_Y, y)):
        fit[:, :, mean] += share * off
    for both, product in ((_TT, t * t), (_XX, x * x), (_YY, y * y), (_TX, t * x), (_TY, t * y), (_XY, x * y)):
        fit[:, :, both] = (1 - share) * (fit[:, :, both] + share * product)


def _line(fit: Floats) -> Line:
    """Least squares of value on load and time. What load does, the memories of hours take from that of days: in hours
    work may rise or fall steadily, and would pass for the cause. A load that never changed explains nothing (ridge)."""
    tt, xx, yy, tx, ty, xy = (fit[:, :, k] for k in (_TT, _XX, _YY, _TX, _TY, _XY))
    tt = np.maximum(tt, 1e-9)
    ridge = xx - tx * tx / tt + 1e-4 * (fit[:, :, _X] ** 2 + 1e-6)
    effect = (xy - tx * ty / tt) / ridge
    effect[:, :STANDARD] = effect[:, STANDARD, None]
    along = ty - effect * tx
    slope = along / tt
    left = yy - 2 * effect * xy + effect * effect * xx - slope * along
    noise = np.sqrt(np.maximum(left, 1e-6 * yy + 1e-10 * fit[:, :, _Y] ** 2 + 1e-18))
    span_h = np.sqrt(12 * tt)
    pieces = np.maximum(1.0, np.minimum(fit[:, :, _W], span_h * PIECES / _TAU))
    level = fit[:, :, _Y] - slope * fit[:, :, _T]
    swing = SWING_SIGMA * np.abs(effect) * np.sqrt(xx)
    return Line(level, effect, swing, slope, noise / np.sqrt(pieces * tt), noise, pieces, span_h)


def _outlook(line: Line, fit: Floats, ends: tuple[Floats, Floats], share: Floats, horizon_h: Floats) -> Outlook:
    """Which memory meets a limit first in proportion to the time it may be carried on, and whether it may be."""
    up = line.slope > 0
    limit = np.where(up, ends[1][:, None], ends[0][:, None])
    distance = np.where(up, limit - line.level, line.level - limit) - line.load_swing
    usual = fit[:, -1:, _Y] + line.load_effect[:, -1:] * (fit[:, :, _X] - fit[:, -1:, _X])
    usual = np.where(fit[:, -1:, _W] >= STANDARD_BUCKETS, usual, np.nan)
    changed = np.where(up, line.level - usual, usual - line.level)
    own = share[:, None] * np.abs(usual) - changed
    nearer = own < distance
    limit = np.where(nearer, np.where(up, line.level + own, line.level - own), limit)
    distance = np.where(nearer, own, distance)
    hours = np.maximum(distance, 0) / np.maximum(np.abs(line.slope), 1e-12)
    allowed = np.minimum(horizon_h[:, None], line.span_h * REACH)
    known = (fit[:, :, _W] >= LEAST_BUCKETS) & (line.span_h >= LEAST_SPAN * _TAU)
    sure = np.abs(line.slope) / np.maximum(line.slope_error, 1e-30)
    urgency = np.where(known & (sure >= _LEAST_T), hours / allowed, np.inf)
    loosely = np.where(known & (sure >= _LEAST_T / 2), hours / allowed, np.inf)
    memory = np.argmin(urgency, axis=1)
    place = (np.arange(len(fit)), memory)
    receded = loosely.min(axis=1) > RECEDES
    return Outlook(urgency[place] <= 1, receded, memory, up[place], limit[place], distance[place], allowed[place])


def _forecast(line: Line, outlook: Outlook, i: int, at: int) -> Evidence:
    """What the most urgent memory of cell `i` foretells, for people."""
    place = (i, int(outlook.memory[i]))
    slope, error, distance = float(line.slope[place]), float(line.slope_error[place]), float(outlook.distance[i])
    earliest, reaches, latest = (
        at + round(min(max(distance, 0) / max(abs(slope) + sigmas * error, 1e-12), 1e6) * HOUR_MS)
        for sigmas in (2, 0, -2)
    )
    since_at = at - round(float(line.span_h[place]) * HOUR_MS)
    return Evidence(
        limit=_rounded(float(outlook.limit[i])),
        side="above" if outlook.up[i] else "below",
        slope_per_h=_rounded(slope),
        since_at=since_at,
        reaches_at=reaches,
        reaches_between=(earliest, latest),
    )


def _at_load(fit: Floats, line: Line, load: Floats) -> tuple[Floats, Floats, Floats]:
    """The means of days and of weeks as they would be at this load, and the standard error of the first; NaN where
    little is known."""
    off = load[:, None] - fit[:, :, _X]
    level = fit[:, :, _Y] + line.load_effect * off
    spread = 1 + off * off / np.maximum(fit[:, :, _XX], 1e-4 * fit[:, :, _X] ** 2 + 1e-9)
    error = line.noise * np.sqrt(spread / line.pieces)
    level = np.where(fit[:, :, _W] >= STANDARD_BUCKETS, level, np.nan)
    return level[:, STANDARD], level[:, -1], error[:, STANDARD]


def _expected(line: Line, outlook: Outlook, fit: Floats, load: float, i: int) -> float:
    """What the line says for now, at the work that the machine does now."""
    place = (i, int(outlook.memory[i]))
    off = load - float(fit[(*place, _X)])
    return _rounded(float(line.level[place]) + float(line.load_effect[place]) * off)


def _confidence(line: Line, outlook: Outlook, i: int) -> float:
    """How likely the slope really is steep enough to meet the limit in the time allowed (normal, by its error)."""
    place = (i, int(outlook.memory[i]))
    needed = max(float(outlook.distance[i]), 0.0) / (1.25 * float(outlook.allowed_h[i]))
    sigmas = (abs(float(line.slope[place])) - needed) / max(float(line.slope_error[place]), 1e-12)
    return round(min(0.99, 0.5 * math.erfc(-sigmas / math.sqrt(2))), 3)


def _watched(profile: Profile, sensor: Sensor) -> bool:
    """Whether the level means something, and there is something to hold it against."""
    means = sensor.trend and sensor.name != profile.load_sensor and (not sensor.states or "running" in sensor.states)
    known = (sensor.limits, sensor.trend_low, sensor.trend_high, sensor.trend_share, sensor.peer_margin)
    return means and any(fact is not None for fact in known)


def limit_of(sensor: Sensor, end: str, absent: float) -> float:
    """Where a drift counts as failed: `trend_low` and `trend_high`, or the limits themselves."""
    value = getattr(sensor, f"trend_{end}")
    if value is None and sensor.limits:
        value = getattr(sensor.limits, end)
    return absent if value is None else float(value)


def way_to_limit(sensor: Sensor) -> float:
    """From the nominal value to the nearer of its limits; 0 where that is not known."""
    if sensor.nominal is None or sensor.limits is None:
        return 0.0
    ends = (sensor.limits.low, sensor.limits.high)
    return min((abs(end - sensor.nominal) for end in ends if end is not None), default=0.0)


def _nominal_load(profile: Profile) -> float:
    nominal = [sensor.nominal for sensor in profile.sensors if sensor.name == profile.load_sensor]
    return nominal[0] if nominal and nominal[0] is not None else 0.0


def _rounded(value: float) -> float:
    """Six digits: more would only look exact."""
    return float(f"{value:.6g}")
