"""The readings of a ticket as drawings: laid out here, drawn by the template as SVG, so that no script is needed.

A drawing is WIDTH wide and HEIGHT high and is stretched to its place; what is text stands beside it, in per cent.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from api.evidence import Evidence
from monitor.desk.explain import Case, alternatives
from monitor.desk.record import Record
from monitor.devices import FaultKind
from monitor.readings import Floats, Ints

WIDTH, HEIGHT = 1000, 300
COLUMNS = 400
"""More points than this across are drawn as lowest, mean and highest of each column."""
DRAWN = 4
ONE_VIEW_MS = 2 * 3_600_000
"""A fault that cleared within this time is drawn whole, with its end."""
PADDING = 0.1
LEAST_SHARE = 0.05
"""The height stands for at least this share of what is drawn."""
STATES_TOLD = 6

Scale = Callable[[float], float]
"""From a moment or a value to a place in the drawing."""


class Points(NamedTuple):
    """What is to be drawn of one metric, in the order of time."""

    at: Ints
    low: Floats
    mean: Floats
    high: Floats
    width_ms: Ints
    """How long each point stands for; 0 for a single reading."""


class Mark(NamedTuple):
    """A moment that matters: `occurred`, `opened` or `cleared`."""

    what: str
    at: int
    x: float


class Level(NamedTuple):
    """A figure to compare with: `limit` or `expected`."""

    what: str
    value: float
    y: float


class Span(NamedTuple):
    x: float
    width: float


@dataclass(frozen=True)
class Drawing:
    """One metric over one view."""

    metric: str
    lines: list[str]
    bands: list[str]
    dots: list[tuple[float, float]]
    """Readings that stand alone between two gaps."""
    gaps: list[Span]
    marks: list[Mark]
    levels: list[Level]
    ordinary: tuple[float, float] | None
    """(y, height) of the range within which it would have been ordinary."""
    ticks: list[tuple[float, float]]
    """(value, per cent of the height)."""
    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class View:
    """Some metrics over the same time, one below the other."""

    what: str
    """opening, or course: the whole of a long fault."""
    start_at: int
    end_at: int
    drawings: list[Drawing]
    states: list[tuple[int, str]]
    reduced: bool

    @property
    def long(self) -> bool:
        """Whether its times need their day."""
        return self.end_at - self.start_at > 86_400_000

    @property
    def middle_at(self) -> int:
        return (self.start_at + self.end_at) // 2


def views(found: Evidence) -> list[View]:
    """What the page of a ticket draws: the opening; and where the fault lasted long, its whole course."""
    record, ticket = found.record, found.ticket
    opening = found.span("opening", "after")
    if record is None or opening is None:
        return []
    start_at, end_at = opening
    metrics = drawn_metrics(found.case)
    ended = found.span("opening", "after", "course", "clearing") or opening
    if ended[1] - ticket.opened_at <= ONE_VIEW_MS:
        return [_view("opening", found, record, metrics, start_at, max(end_at, ended[1]))]
    return [
        _view("opening", found, record, metrics, start_at, end_at),
        _view("course", found, record, metrics[:1], start_at, ended[1]),
    ]


def drawn_metrics(case: Case) -> list[str]:
    """Which sensors show the fault best: its own, those of its signs, those that other causes speak of."""
    record, profile = case.record, case.profile
    if record is None:
        return []
    signs = case.evidence.get("signs")
    wanted = [case.subject]
    wanted += [str(sign.get("sensor")) for sign in signs if isinstance(sign, dict)] if isinstance(signs, list) else []
    if profile and case.kind in (FaultKind.STARTUP_FAILURE, FaultKind.SILENT):
        wanted += [profile.battery_sensor, profile.fuel_sensor]
    wanted += [clue.sensor for one in alternatives(case) for clue in (*one.speaks_for, *one.against)]
    wanted += [profile.load_sensor] if profile else []
    ordinary = [sensor.name for sensor in profile.sensors] if profile else list(record.metrics)
    there = {*record.metrics, *(stretch.metric for stretch in record.reduced)}
    found = list(dict.fromkeys(name for name in wanted if name in there))
    return found[:DRAWN] or [name for name in ordinary if name in there][:2]


def _view(what: str, found: Evidence, record: Record, metrics: Sequence[str], start_at: int, end_at: int) -> View:
    drawings = [one for name in metrics if (one := _drawing(found, record, name, start_at, end_at)) is not None]
    states = [(at, state) for at, state in record.states() if at < end_at]
    before = [(at, state) for at, state in states if at <= start_at][-1:]
    inside = before + [(at, state) for at, state in states if at > start_at]
    reduced = any(len(one.at) and one.bucket_ms and int(one.at[0]) < end_at for one in record.reduced)
    return View(what, start_at, end_at, drawings, inside[-STATES_TOLD:], reduced)


def _drawing(found: Evidence, record: Record, metric: str, start_at: int, end_at: int) -> Drawing | None:
    points = _points(record, metric, start_at, end_at)
    if not len(points.at):
        return None
    span = max(end_at - start_at, 1)
    points = _thinned(points, start_at, span)
    levels, band = _levels(found.case, metric)
    low, high = _range(points, [value for _, value in levels], band)
    longest_ms = 3 * found.interval_s * 1000

    def x(at: float) -> float:
        return round(min(max((at - start_at) / span, 0.0), 1.0) * WIDTH, 1)

    def y(value: float) -> float:
        return round(HEIGHT * (1 - min(max((value - low) / (high - low), 0.0), 1.0)), 1)

    stretches = list(_stretches(points, longest_ms))
    lines = [" ".join(f"{x(points.at[n])},{y(points.mean[n])}" for n in part) for part in stretches if len(part) > 1]
    dots = [(x(points.at[part[0]]), y(points.mean[part[0]])) for part in stretches if len(part) == 1]
    bands = [_outline(points, part, x, y) for part in stretches if len(part) > 1 and _is_wide(points, part)]
    marks = [Mark(what, at, x(at)) for what, at in _moments(found) if start_at <= at <= end_at]
    ordinary = None if band is None else (y(band[1]), round(y(band[0]) - y(band[1]), 1))
    holes = _holes(points, stretches, start_at, end_at, longest_ms)
    return Drawing(
        metric, lines, bands, dots, [Span(x(a), round(x(b) - x(a), 1)) for a, b in holes], marks,
        [Level(what, value, y(value)) for what, value in levels], ordinary, _ticks(low, high, y),
        float(points.low.min()), float(points.mean.mean()), float(points.high.max()),
    )  # fmt: skip


def _points(record: Record, metric: str, start_at: int, end_at: int) -> Points:
    """Single readings and reduced stretches of a metric within the view."""
    at, value = record.course(metric)
    parts = [Points(at, value, value, value, np.zeros(len(at), dtype=np.int64))]
    for one in record.reduced:
        if one.metric == metric:
            width = np.full(len(one.at), one.bucket_ms)
            parts.append(Points(one.at + one.bucket_ms // 2, one.low, one.mean, one.high, width))
    whole = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
    order = np.argsort(whole[0], kind="stable")
    order = order[(whole[0][order] >= start_at) & (whole[0][order] < end_at)]
    return Points(*(column[order] for column in whole))


def _thinned(points: Points, start_at: int, span: int) -> Points:
    """At most COLUMNS points, each the lowest, mean and highest of its column."""
    if len(points.at) <= COLUMNS:
        return points
    column = (points.at - start_at) * COLUMNS // span
    first = np.flatnonzero(np.diff(column, prepend=-1))
    count = np.diff(first, append=len(column))
    # A column stands for the time that its points span, so that a gap wider than reports are apart stays one.
    last = np.append(first[1:], len(column)) - 1
    return Points(
        points.at[first], np.minimum.reduceat(points.low, first), np.add.reduceat(points.mean, first) / count,
        np.maximum.reduceat(points.high, first), points.at[last] - points.at[first] + points.width_ms[last],
    )  # fmt: skip


def _stretches(points: Points, longest_ms: float) -> Iterator[list[int]]:
    """Runs of points with no gap in them."""
    allowed = np.maximum(points.width_ms[:-1] + longest_ms, 2 * points.width_ms[:-1])
    breaks = np.flatnonzero(np.diff(points.at) > allowed) + 1
    for part in np.split(np.arange(len(points.at)), breaks):
        yield part.tolist()


def _holes(
    points: Points, stretches: Sequence[list[int]], start_at: int, end_at: int, longest_ms: float
) -> Iterator[tuple[int, int]]:
    """From when to when nothing was measured, at the edges of the view too."""
    edges = [start_at]
    for part in stretches:
        edges += [int(points.at[part[0]]), int(points.at[part[-1]] + points.width_ms[part[-1]])]
    edges.append(end_at)
    for low, high in zip(edges[::2], edges[1::2], strict=True):
        if high - low > longest_ms:
            yield low, high


def _is_wide(points: Points, part: list[int]) -> bool:
    return bool((points.high[part] > points.low[part]).any())


def _outline(points: Points, part: list[int], x: Scale, y: Scale) -> str:
    there = [f"{x(points.at[n])},{y(points.high[n])}" for n in part]
    back = [f"{x(points.at[n])},{y(points.low[n])}" for n in reversed(part)]
    return " ".join(there + back)


def _moments(found: Evidence) -> list[tuple[str, int]]:
    row = found.ticket
    moments = [("occurred", row.occurred_at), ("opened", row.opened_at)]
    return moments + ([("cleared", row.cleared_at)] if row.cleared_at is not None else [])


def _levels(case: Case, metric: str) -> tuple[list[tuple[str, float]], tuple[float, float] | None]:
    """What a metric is to be compared with: the limit that it crossed, what was expected, and its ordinary range."""
    levels: list[tuple[str, float]] = []
    band = None
    if metric == case.subject:
        levels = [(what, value) for what in ("limit", "expected") if (value := case.number(what)) is not None]
        given = case.evidence.get("band")
        if isinstance(given, list | tuple) and len(given) == 2 and all(isinstance(end, int | float) for end in given):
            band = (float(given[0]), float(given[1]))
    signs = case.evidence.get("signs")
    for sign in signs if isinstance(signs, list) else []:
        if isinstance(sign, dict) and sign.get("sensor") == metric and isinstance(sign.get("expected"), int | float):
            levels.append(("expected", float(sign["expected"])))
    return levels, band


def _range(points: Points, levels: Sequence[float], band: tuple[float, float] | None) -> tuple[float, float]:
    low = min(float(points.low.min()), *levels, *(band or ()), np.inf)
    high = max(float(points.high.max()), *levels, *(band or ()), -np.inf)
    # A steady sensor is drawn steady: its noise is not blown up to the whole height.
    least = LEAST_SHARE * max(abs(low), abs(high)) or 1.0
    room = max(PADDING * (high - low), (least - (high - low)) / 2)
    return low - room, high + room


def _ticks(low: float, high: float, y: Scale) -> list[tuple[float, float]]:
    """A few round figures up the side."""
    raw = (high - low) / 4
    magnitude = 10.0 ** np.floor(np.log10(raw))
    step = float(magnitude * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw))
    first = np.ceil(low / step)
    values = [float((first + n) * step) for n in range(6)]
    return [(value, round(y(value) / HEIGHT * 100, 1)) for value in values if low < value < high]
