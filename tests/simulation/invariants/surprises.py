"""Nothing fails but what was made to fail: an exception that the service survives is a defect all the same."""

from typing import TYPE_CHECKING

from tests.simulation.invariants import Checker, require

if TYPE_CHECKING:
    from tests.simulation.world import World


class Surprises(Checker):
    """What the service logs as failed follows from the world's doing."""

    def after_step(self, world: "World") -> None:
        require(not world.failures, f"the service failed by itself: {'; '.join(world.failures[:3])}")
