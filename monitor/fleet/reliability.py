"""Reliability (E6): how often machines fail, how long they stand, what comes back, and what it comes from. Pure.

A **failure** is a ticket of one machine, of severity urgent or emergency, that was neither cancelled nor merged into
another nor judged a nuisance. Every figure carries the number of cases it stands on; below the policy's `few` the
figure itself is left out (None), and only the count and the interval are told. docs/fleet.md says how to reckon each
by hand. Periods are half-open, times epoch milliseconds, durations hours.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import msgspec

from monitor.devices import FaultKind
from monitor.fleet.quality import Share, share_of

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
TAIL = 0.025
"""What lies beyond each end of a 95 % interval."""
Z_REACH = 9.0
"""So many standard deviations from its count a limit of the Poisson interval is looked for."""
OTHERS = "others"
NONE = "none"
"""The group of what belongs to none: no site, nobody's hire."""

Span = tuple[int, int]

Fault = tuple[str, str, str]
"""(device_id, kind, subject): what makes two failures the same one come back."""


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers of reliability.toml."""

    few: int
    repeat_days: int
    lines: int

    def __post_init__(self) -> None:
        if self.few < 1 or self.lines < 1 or not 1 <= self.repeat_days <= 366:
            raise ValueError("few and lines must be at least 1, repeat_days 1 to 366")


@cache
def shipped_policy() -> Policy:
    return msgspec.toml.decode(files("monitor.fleet").joinpath("reliability.toml").read_bytes(), type=Policy)


# --- what is counted -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure that was opened in the period. `group` is what it is counted under (a model, a site, a customer)."""

    ticket_id: int
    fault: Fault
    group: str
    model: str
    component: str
    opened_at: int
    cause: str | None = None
    """The code of its resolution; None: nobody has said yet."""
    arranged_at: int | None = None
    """When a technician first accepted it."""
    restored_at: int | None = None
    """When it cleared or was resolved, whichever was first."""


@dataclass(frozen=True, slots=True)
class Repair:
    """One resolution of a failure in the period; a ticket that was reopened may have several."""

    ticket_id: int
    fault: Fault
    group: str
    resolved_at: int
    begun_at: int | None = None
    """When the repair began; None where nobody noted it."""


@dataclass(frozen=True, slots=True)
class InService:
    """A stretch in which a machine was in service under a group, clipped to the period."""

    device_id: str
    group: str
    from_at: int
    to_at: int


@dataclass(frozen=True, slots=True)
class Metered:
    """What a machine's hour meter ran between its first and its last reading within the period."""

    device_id: str
    group: str
    from_at: int
    to_at: int
    hours: float


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the figures of one period are reckoned from."""

    failures: Sequence[Failure] = ()
    repairs: Sequence[Repair] = ()
    service: Sequence[InService] = ()
    metered: Sequence[Metered] = ()
    openings: Sequence[tuple[Fault, int]] = ()
    """When failures were opened, or reopened: from the period's beginning until `repeat_days` after its end."""


# --- what is told --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Between:
    """Hours between failures: `hours / failures`, with the exact Poisson interval of the count (Garwood)."""

    failures: int
    hours: float
    mtbf_h: float | None
    """None: too few failures to say."""
    lower_h: float | None
    upper_h: float | None
    """None with no failures: it may be as long as you like."""
    machines: int


@dataclass(frozen=True, slots=True)
class Spread:
    """Durations of `count` cases, in hours; None where those are too few to say. p90 is the ⌈0.9 n⌉th shortest."""

    count: int
    mean_h: float | None
    median_h: float | None
    p90_h: float | None
    not_measured: int = 0
    """Cases whose beginning or end is not on record, or not yet."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """Of repairs whose days are over, those after which the same fault came back within them."""

    repairs: int
    repeated: Share
    enough: bool
    pending: int
    """Repairs that are too young to say: their days are not over. They count in nothing."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one group; '' is the whole fleet."""

    group: str
    calendar: Between
    metered: Between
    dispatch: Spread
    repair: Spread
    restore: Spread
    repeats: Repeats


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a Pareto table. `cumulative` is the share of this line and those above it."""

    name: str
    count: int
    share: Share
    cumulative: float


@dataclass(frozen=True, slots=True)
class Pareto:
    """Failures by what they have in common, the commonest first."""

    by: str
    count: int
    lines: list[Line]
    enough: bool
    """False: too few for an order of causes; the counts are told, and no more should be read from them."""
    not_known: int = 0
    """Failures of which it is not on record; they are in none of the lines."""


@dataclass(frozen=True, slots=True)
class Reliability:
    whole: Figures
    groups: list[Figures]
    paretos: list[Pareto]


def reliability(facts: Facts, policy: Policy, as_of: int) -> Reliability:
    """All figures of a period as they stood at `as_of`: for the whole fleet, by group, and where failures come from."""
    names = sorted({one.group for some in (facts.failures, facts.repairs, facts.service) for one in some})
    split = {name: _of_group(facts, name) for name in names}
    return Reliability(
        figures("", facts, policy, as_of),
        [figures(name, part, policy, as_of) for name, part in split.items()],
        [
            pareto("model", [one.model for one in facts.failures], policy),
            pareto("component", [one.component for one in facts.failures], policy),
            pareto("cause", [one.cause for one in facts.failures], policy),
        ],
    )


def _of_group(facts: Facts, group: str) -> Facts:
    return Facts(
        [one for one in facts.failures if one.group == group],
        [one for one in facts.repairs if one.group == group],
        [one for one in facts.service if one.group == group],
        [one for one in facts.metered if one.group == group],
        facts.openings,
    )


def figures(group: str, facts: Facts, policy: Policy, as_of: int) -> Figures:
    failures = facts.failures
    return Figures(
        group,
        calendar=_by_calendar(facts, policy),
        metered=_by_meter(facts, policy),
        dispatch=spread([(one.opened_at, one.arranged_at) for one in failures], policy),
        repair=spread([(one.begun_at, one.resolved_at) for one in facts.repairs], policy),
        restore=spread([(one.opened_at, one.restored_at) for one in failures], policy),
        repeats=repeats(facts.repairs, facts.openings, policy, as_of),
    )


# --- from the record -----------------------------------------------------------------------------------------------


def component_of(kind: str, subject: str, spn: int | None, sensors: Mapping[int, str]) -> str:
    """What of a machine failed, as far as the record says: a sensor's name, the sensor that a code's SPN speaks of
    (`sensors` by SPN), `spn:110`, `code:P0301`, or `kind:startup_failure`."""
    if kind != FaultKind.FAULT_CODE:
        return subject or f"kind:{kind}"
    if spn is not None:
        return sensors.get(spn, f"spn:{spn}")
    return f"code:{subject}" if subject else f"kind:{kind}"


def in_service(device_id: str, owned: Span, parts: Iterable[tuple[int, int, str]]) -> Iterator[InService]:
    """A machine's time by group: each part (from, to, group) within `owned`, and what lies between them under NONE.
    Parts do not overlap."""
    start, end = owned
    for from_at, to_at, group in sorted(parts):
        begins, ends = max(from_at, start), min(to_at, end)
        if begins >= ends:
            continue
        if start < begins:
            yield InService(device_id, NONE, start, begins)
        yield InService(device_id, group, begins, ends)
        start = ends
    if start < end:
        yield InService(device_id, NONE, start, end)


# --- between failures ----------------------------------------------------------------------------------------------


def between(failures: int, hours: float, machines: int, policy: Policy) -> Between:
    """Mean time between failures. Interval: the hours by the limits of the count, so that no failure at all in a long
    time says something too."""
    low, high = poisson_limits(failures)
    known = hours > 0
    return Between(
        failures, hours,
        mtbf_h=hours / failures if known and failures >= policy.few else None,
        lower_h=hours / high if known else None,
        upper_h=hours / low if known and low > 0 else None,
        machines=machines,
    )  # fmt: skip


def _by_calendar(facts: Facts, policy: Policy) -> Between:
    hours = sum(one.to_at - one.from_at for one in facts.service) / HOUR_MS
    return between(len(facts.failures), hours, len({one.device_id for one in facts.service}), policy)


def _by_meter(facts: Facts, policy: Policy) -> Between:
    """Only what happened between a machine's two meter readings belongs to the hours between them."""
    opened: dict[str, list[int]] = defaultdict(list)
    for failure in facts.failures:
        opened[failure.fault[0]].append(failure.opened_at)
    count = sum(sum(one.from_at <= at <= one.to_at for at in opened.get(one.device_id, ())) for one in facts.metered)
    hours = sum(one.hours for one in facts.metered)
    return between(count, hours, len({one.device_id for one in facts.metered}), policy)


def poisson_limits(count: int) -> tuple[float, float]:
    """The exact 95 % interval of the mean of a Poisson count (Garwood 1936): the means under which so many or more, or
    so many or fewer, would come about with 2.5 %."""
    reach = Z_REACH * math.sqrt(count + 1) + 10
    low = _bisect(lambda mean: _at_least(count, mean) > TAIL, max(0.0, count - reach), count) if count else 0.0
    return low, _bisect(lambda mean: _at_most(count, mean) < TAIL, count, count + reach)


def _bisect(beyond: Callable[[float], bool], low: float, high: float) -> float:
    """Where `beyond` turns true between low, where it is not, and high, where it is."""
    while high - low > 1e-10 * (1 + high):
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return (low + high) / 2


def _term(count: int, mean: float) -> float:
    """The probability of exactly `count`."""
    if mean <= 0:
        return 1.0 if count == 0 else 0.0
    return math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))


def _at_most(count: int, mean: float) -> float:
    """For mean >= count: terms only shrink on the way down, and what is too small to matter ends the sum."""
    total = term = _term(count, mean)
    for k in range(count, 0, -1):
        term *= k / mean
        total += term
        if term < total * 1e-17:
            break
    return total


def _at_least(count: int, mean: float) -> float:
    """For mean <= count: the same upwards."""
    total = term = _term(count, mean)
    k = count
    while term > total * 1e-17:
        k += 1
        term *= mean / k
        total += term
    return total


# --- how long it takes ---------------------------------------------------------------------------------------------


def spread(cases: Iterable[tuple[int | None, int | None]], policy: Policy) -> Spread:
    """Of (beginning, end): how long they took. Cases without one of them are counted as not measured."""
    all_cases = list(cases)
    took = sorted(max(0, end - start) / HOUR_MS for start, end in all_cases if start is not None and end is not None)
    missing = len(all_cases) - len(took)
    if len(took) < policy.few:
        return Spread(len(took), None, None, None, missing)
    rank = math.ceil(0.9 * len(took)) - 1
    return Spread(len(took), statistics.fmean(took), statistics.median(took), took[rank], missing)


# --- what comes back -----------------------------------------------------------------------------------------------


def repeats(repairs: Sequence[Repair], openings: Iterable[tuple[Fault, int]], policy: Policy, as_of: int) -> Repeats:
    """How many repairs did not last: the same machine had the same fault (kind and subject) again within the days."""
    opened: dict[Fault, list[int]] = defaultdict(list)
    for fault, at in openings:
        opened[fault].append(at)
    days_ms = policy.repeat_days * DAY_MS
    # One that came back early counts no sooner than one that did not: else what is young would only ever look bad.
    ripe = [one for one in repairs if one.resolved_at + days_ms <= as_of]
    back = sum(
        any(one.resolved_at < at <= one.resolved_at + days_ms for at in opened.get(one.fault, ())) for one in ripe
    )
    return Repeats(len(ripe), share_of(back, len(ripe)), len(ripe) >= policy.few, len(repairs) - len(ripe))


# --- where it comes from -------------------------------------------------------------------------------------------


def pareto(by: str, names: Iterable[str | None], policy: Policy) -> Pareto:
    """How many failures have each name, the commonest first, those of equal count by name; beyond the policy's lines
    they are one line, `others`. None is not known, and in no line."""
    counted = Counter(names)
    not_known = counted.pop(None, 0)
    known: Mapping[str, int] = {name: count for name, count in counted.items() if name is not None}
    total = sum(known.values())
    ranked = sorted(known.items(), key=lambda entry: (-entry[1], entry[0]))
    shown, rest = ranked[: policy.lines], ranked[policy.lines :]
    if rest:
        shown = [*shown, (OTHERS, sum(count for _, count in rest))]
    lines, so_far = [], 0
    for name, count in shown:
        so_far += count
        lines.append(Line(name, count, share_of(count, total), so_far / total))
    return Pareto(by, total, lines, total >= policy.few, not_known)
