"""Short worlds, 1 of 5: a file each, so that they spread over the workers."""

import pytest

from tests.simulation.world import run


@pytest.mark.parametrize("seed", range(1, 51, 5))
def test_the_invariants_hold_whatever_goes_wrong(seed: int) -> None:
    run(seed)
