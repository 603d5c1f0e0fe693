"""The monthly spot check of machines in use (E6): which ones are drawn. Pure; the numbers stand in spot_checks.toml.

Nobody chooses. Each machine's place in the draw is a hash of the seed and its id, so that anybody who knows the month,
the constant and the machines that were on hire draws the same ones again, and nobody can leave one out unseen.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from itertools import pairwise

import msgspec

DAY_MS = 86_400_000

Stratum = tuple[str, int]
"""(model, number of the age band): machines that are drawn from together."""


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The spot check, in one version (spot_checks.toml)."""

    version: str
    share: float
    least: int
    most: int
    within_days: int
    age_days: tuple[int, ...]
    constant: str

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not 0 <= self.least <= self.most:
            raise ValueError("share lies between 0 and 1, and least between 0 and most")
        if not self.age_days or self.age_days[0] != 0 or any(a >= b for a, b in pairwise(self.age_days)):
            raise ValueError("age_days begins with 0 and rises")

    def band(self, age_ms: int) -> int:
        """The number of the age band; what is not added yet is new."""
        return max(0, bisect_right(self.age_days, age_ms // DAY_MS) - 1)

    def seed(self, month: str) -> str:
        return f"{month} {self.constant}"


@cache
def shipped_policy() -> Policy:
    """The spot check that ships with the program."""
    return msgspec.toml.decode(files("monitor.fleet").joinpath("spot_checks.toml").read_bytes(), type=Policy)


@dataclass(frozen=True, slots=True)
class InUse:
    """A machine on hire, as the draw sees it."""

    device_id: str
    profile: str
    added_at: int


class Share(msgspec.Struct, frozen=True):
    """One stratum: how many machines it has, and how many of them were drawn."""

    profile: str
    from_days: int
    frame: int
    drawn: int


@dataclass(frozen=True, slots=True)
class Draw:
    """A drawn sample, with all that it takes to draw it again. `fingerprint`: of the machines it was drawn from."""

    month: str
    at: int
    seed: str
    policy_version: str
    frame: int
    fingerprint: str
    strata: tuple[Share, ...]
    machines: tuple[str, ...]


def draw(machines: Sequence[InUse], month: str, at: int, policy: Policy) -> Draw:
    """The machines to be checked in a month (`2026-11`), from those that are in use at `at`; in whatever order those
    are given, and each at most once."""
    known = {machine.device_id: machine for machine in machines}
    strata: dict[Stratum, list[str]] = defaultdict(list)
    for device_id, machine in known.items():
        strata[machine.profile, policy.band(at - machine.added_at)].append(device_id)
    seed = policy.seed(month)
    counts = allocate({stratum: len(ids) for stratum, ids in strata.items()}, size(len(known), policy))
    chosen = [
        device_id
        for stratum, ids in strata.items()
        for device_id in sorted(ids, key=lambda one: _place(seed, one))[: counts[stratum]]
    ]
    return Draw(
        month, at, seed, policy.version, len(known), fingerprint(known),
        tuple(
            Share(profile, policy.age_days[band], len(strata[profile, band]), counts[profile, band])
            for profile, band in sorted(strata)
        ),
        tuple(sorted(chosen)),
    )  # fmt: skip


def size(frame: int, policy: Policy) -> int:
    """How many of so many machines are drawn."""
    return min(frame, policy.most, max(policy.least, math.ceil(policy.share * frame)))


def allocate(sizes: Mapping[Stratum, int], wanted: int) -> dict[Stratum, int]:
    """How many are drawn from each stratum: one from each that has any, as far as `wanted` reaches (the largest first),
    and the rest so that each has, as nearly as can be, its share of the whole."""
    largest_first = sorted((one for one in sizes if sizes[one] > 0), key=lambda one: (-sizes[one], one))
    counts = dict.fromkeys(sizes, 0) | dict.fromkeys(largest_first[:wanted], 1)
    total = sum(sizes.values())
    for _ in range(min(wanted, total) - sum(counts.values())):
        short = [one for one in largest_first if counts[one] < sizes[one]]
        # Whole numbers, so that no rounding decides who is drawn.
        counts[max(short, key=lambda one: min(wanted, total) * sizes[one] - counts[one] * total)] += 1
    return counts


def fingerprint(device_ids: Mapping[str, object] | Sequence[str]) -> str:
    """Of the machines that a sample was drawn from: their ids, sorted, one a line, as SHA-256."""
    return sha256("\n".join(sorted(device_ids)).encode()).hexdigest()


def _place(seed: str, device_id: str) -> bytes:
    return sha256(f"{seed}\n{device_id}".encode()).digest()
