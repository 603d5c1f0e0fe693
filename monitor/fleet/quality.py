"""How good each rule is, as far as people have judged what it found. Pure."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, and what that says of the rule itself: the 95 % interval. Of nothing, nothing is known."""

    count: int
    share: float | None
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class RuleQuality:
    """The tickets that one rule in one version has led to. `judged` are those with an outcome."""

    rule: str
    tickets: int
    judged: int
    real: Share
    nuisance: Share
    wrong_cause: Share

    @property
    def not_judged(self) -> int:
        return self.tickets - self.judged


def share_of(count: int, of: int) -> Share:
    """Wilson's interval: unlike the plain one it holds for three cases too, and says how little those are."""
    if not of:
        return Share(0, None, 0.0, 1.0)
    share, tail = count / of, Z_95 * Z_95 / of
    middle = (share + tail / 2) / (1 + tail)
    reach = Z_95 * math.sqrt(share * (1 - share) / of + tail / of / 4) / (1 + tail)
    return Share(count, share, max(0.0, middle - reach), min(1.0, middle + reach))


def qualities(outcomes: Iterable[tuple[str, str | None, int]]) -> list[RuleQuality]:
    """From (rule, outcome or None, number of tickets), by rule."""
    counts: dict[str, Counter[str | None]] = {}
    for rule, outcome, number in outcomes:
        counts.setdefault(rule, Counter())[outcome] += number
    return [_quality(rule, counts[rule]) for rule in sorted(counts)]


def _quality(rule: str, counted: Counter[str | None]) -> RuleQuality:
    judged = counted.total() - counted[None]
    real, nuisance, wrong = (share_of(counted[name], judged) for name in ("real", "nuisance", "wrong_cause"))
    return RuleQuality(rule, counted.total(), judged, real, nuisance, wrong)
