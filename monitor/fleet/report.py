"""The monthly report: one month against every row of the service standard. Pure: tallies in, rows out.

A report tells of a month as it was known at a moment (`as_of`). The same month as of the same moment is the same report
to the last byte, whenever it is built. Times are epoch milliseconds UTC, shares lie between 0 and 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

from monitor.fleet.availability import DAY_MS, TARGET, month, month_of
from monitor.fleet.satisfaction import TARGET as SATISFIED

TREND_MONTHS = 12
"""So many months stand before the one that is told of."""
BREACHES_NAMED = 50

Measure = Literal["share", "count", "none"]
"""What a row's figure is: a share of its cases, a count without a target, or nothing, for want of data."""


class Tally(NamedTuple):
    """The cases of one month: how many were decided, how many of those were kept (`may`: and may have been kept, for
    all we know), and how many were still open. Of availability the cases are machine time in ms. `taken_over`: rentals
    that are no case, since the customer had the machine before it was ours to check."""

    n: int = 0
    kept: int = 0
    open: int = 0
    may: int = 0
    taken_over: int = 0


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something on record that says why: a step or a wait of the ticket, an amendment, a fault."""

    what: str
    at: int | None = None
    to_at: int | None = None
    reason: str = ""
    note: str = ""
    ms: int | None = None


class Breach(msgspec.Struct, frozen=True, omit_defaults=True):
    """One case in which the standard was not kept, with what is on record of why."""

    link: str
    ticket_id: int | None = None
    device_id: str | None = None
    clock: str = ""
    due_at: int | None = None
    met_at: int | None = None
    ms: int | None = None
    """Of availability: for how long the machine was bad."""
    why: tuple[Reason, ...] = ()


class Point(msgspec.Struct, frozen=True):
    """A month of a trend. `figure` None: nothing to count."""

    month: str
    figure: float | None
    n: int


class Line(msgspec.Struct, frozen=True):
    """One line of a statistic: what, how many, and how much machine time it cost."""

    what: str
    subject: str
    count: int
    ms: int


class Row(msgspec.Struct, frozen=True):
    """One row of the standard in one month."""

    code: str
    """The row, and which of its figures: `R8.visit`."""
    standard_id: str
    measure: Measure
    target: float | None
    figure: float | None
    """What is certain."""
    upper: float | None
    """What is possible, where nobody knows all of it (availability)."""
    n: int
    n_of: str
    """What is counted."""
    kept: int
    open: int
    """Cases that were not decided at `as_of`; they count in nothing."""
    taken_over: int
    """Rentals that were taken over while they ran, or later; they count in nothing either."""
    met: bool | None
    breaches: tuple[Breach, ...]
    breaches_left_out: int
    trend: tuple[Point, ...]
    """The months before, the oldest first, and this one; all as of the same moment."""
    before: float | None
    """The figure of the month before."""
    change: float | None
    lines: tuple[Line, ...]
    link: str
    """Where the rows are that the figure came from; '' where there is no data."""


class Report(msgspec.Struct, frozen=True):
    """A month's report. `to_at` lies before the month's end where that had not come at `as_of`."""

    month: str
    from_at: int
    to_at: int
    as_of: int
    timezone: str
    rows: tuple[Row, ...]
    newly_missed: tuple[str, ...]
    """Rows that are missed, and were not in the month before."""
    newly_met: tuple[str, ...]


class Spec(NamedTuple):
    """What is reported of a row."""

    code: str
    target: float | None
    n_of: str
    measure: Measure = "share"

    @property
    def standard_id(self) -> str:
        return self.code.partition(".")[0]


def _no_data(*codes: str) -> tuple[Spec, ...]:
    return tuple(Spec(code, None, "", "none") for code in codes)


SPECS = (
    *_no_data("R1", "R2", "R3", "R4", "R5", "R6"),
    Spec("R7", 1.0, "promises"),
    Spec("R8.diagnosis", 1.0, "promises"),
    Spec("R8.visit", 1.0, "promises"),
    Spec("R9", 1.0, "promises"),
    Spec("E1.fleet", TARGET, "machine_days"),
    Spec("E1.on_hire", TARGET, "machine_days"),
    Spec("E2", 1.0, "hand_overs"),
    Spec("E3", 1.0, "hand_overs"),
    Spec("E4", 1.0, "machines"),
    Spec("E5", 1.0, "ended_rentals"),
    Spec("E6.spot_checks", 1.0, "drawn_machines"),
    Spec("E6.damage", None, "faults", "count"),
    Spec("P1", 1.0, "jobs"),
    Spec("P2", SATISFIED, "answers"),
    *_no_data("P3", "C1", "C2", "C3"),
    *_no_data(*(f"K{n}" for n in range(1, 14))),
)
"""Every row of the service standard, in its order; none is left out."""
CODES = tuple(spec.code for spec in SPECS if spec.measure != "none")
CLOCKS = {"R7": ("R7", "dispatch"), "R8.diagnosis": ("R8", "remote_diagnosis"), "R8.visit": ("R8", "dispatch"),
          "R9": ("R9", "repair_start")}  # fmt: skip
"""(row, kind) of the clocks that a row's figure is made from."""


@dataclass(frozen=True)
class Months:
    """The months of a report: `names[n]` is [edges[n], edges[n + 1]). The last one is told of, and ends at the month's
    end or at `as_of`, whichever comes first."""

    names: tuple[str, ...]
    edges: tuple[int, ...]

    @property
    def from_at(self) -> int:
        return self.edges[-2]

    @property
    def to_at(self) -> int:
        return self.edges[-1]


def months(name: str, as_of: int, timezone: str) -> Months:
    """A month and the twelve before it. Raises ValueError where it is no month, or lies ahead of `as_of`."""
    start_at, end_at = month(name, timezone)
    if start_at >= as_of:
        raise ValueError(f"{name} has not begun by then")
    names, edges = [name], [start_at, min(end_at, as_of)]
    for _ in range(TREND_MONTHS):
        names.insert(0, month_of(edges[0] - 1, timezone))
        edges.insert(0, month(names[0], timezone)[0])
    return Months(tuple(names), tuple(edges))


@dataclass(frozen=True)
class Facts:
    """What a report is made from. `tallies`: by row, one for each of the months."""

    tallies: Mapping[str, Sequence[Tally]]
    breaches: Mapping[str, Sequence[Breach]] = field(default_factory=dict)
    """Of the month that is told of: at most BREACHES_NAMED of each row."""
    lines: Mapping[str, Sequence[Line]] = field(default_factory=dict)


def report(over: Months, as_of: int, timezone: str, facts: Facts) -> Report:
    """The month's report."""
    rows = tuple(_row(spec, over, as_of, facts) for spec in SPECS)
    was = {row.code: _verdict(row.target, row.before) for row in rows}
    return Report(
        over.names[-1], over.from_at, over.to_at, as_of, timezone, rows,
        tuple(row.code for row in rows if row.met is False and was[row.code] is not False),
        tuple(row.code for row in rows if row.met and was[row.code] is False),
    )  # fmt: skip


def as_json(told: Report) -> bytes:
    """As it is kept, and compared with when it is built again."""
    return msgspec.json.encode(told)


def from_json(body: bytes) -> Report:
    return msgspec.json.decode(body, type=Report)


def _row(spec: Spec, over: Months, as_of: int, facts: Facts) -> Row:
    tallies = facts.tallies.get(spec.code, ()) if spec.measure != "none" else ()
    trend = tuple(
        Point(name, _figure(spec, one), _cases(spec, one.n)) for name, one in zip(over.names, tallies, strict=False)
    )
    now = tallies[-1] if tallies else Tally()
    figure, before = (trend[-1].figure, trend[-2].figure) if trend else (None, None)
    upper = now.may / now.n if now.n and spec.standard_id == "E1" else None
    breaches = tuple(facts.breaches.get(spec.code, ()))[:BREACHES_NAMED]
    # Of availability the machines that cost most are named; there is no number of breaches.
    left_out = max(0, now.n - now.kept - len(breaches)) if spec.measure == "share" and upper is None else 0
    return Row(
        spec.code, spec.standard_id, spec.measure, spec.target, figure, upper, _cases(spec, now.n), spec.n_of,
        _cases(spec, now.kept), now.open, now.taken_over, _verdict(spec.target, figure), breaches, left_out, trend,
        before, None if figure is None or before is None else figure - before,
        tuple(facts.lines.get(spec.code, ())), _link(spec, over, as_of),
    )  # fmt: skip


def _figure(spec: Spec, tally: Tally) -> float | None:
    if spec.measure == "count":
        return float(tally.n)
    return tally.kept / tally.n if tally.n else None


def _cases(spec: Spec, number: int) -> int:
    return number // DAY_MS if spec.n_of == "machine_days" else number


def _verdict(target: float | None, figure: float | None) -> bool | None:
    return None if target is None or figure is None else figure >= target


def _link(spec: Spec, over: Months, as_of: int) -> str:
    if spec.measure == "none":
        return ""
    if spec.standard_id == "E1":
        group = spec.code.removeprefix("E1.")
        return f"/api/v1/fleet/availability?of={group}&from={over.from_at}&to={over.to_at}&as_of={as_of}"
    return f"/api/v1/reports/{over.names[-1]}/rows/{spec.code}?as_of={as_of}"
