"""A seed is one course of events: the same each time, in any process."""

import os
import subprocess
import sys

import pytest

from tests.simulation.world import run

AGAIN = "from tests.simulation.world import run; print(run({seed}, hours=2).trace)"


@pytest.mark.parametrize("seed", [3, 20])
def test_a_seed_is_replayed_exactly(seed: int) -> None:
    """Here, again, and in another process, whose sets of strings lie in another order."""
    here = run(seed, hours=2).trace
    assert run(seed, hours=2).trace == here
    there = subprocess.run(
        [sys.executable, "-c", AGAIN.format(seed=seed)], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONHASHSEED": "42"},
    )  # fmt: skip
    assert there.stdout.strip() == here


def test_another_seed_is_another_course() -> None:
    assert run(3, hours=1).trace != run(4, hours=1).trace
