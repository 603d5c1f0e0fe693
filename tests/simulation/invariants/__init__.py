"""What must hold of the simulated world after every step: the seven invariants of the architecture, one a file.

A checker remembers what it has seen and looks only at what is new or still open, so that a step costs the same at the
end of a month as at its beginning. Its words say what is wrong, with whom; the world adds when, in which seed and step.
"""

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from tests.simulation.world import World


class Broken(AssertionError):
    """An invariant does not hold."""

    def __init__(self, words: str, number: int = 0, where: str = "") -> None:
        super().__init__(words)
        self.number = number
        self.where = where


class Checker:
    """Looks after one invariant. `number` is the architecture's; 0: what no invariant names."""

    number: ClassVar[int] = 0

    def at_start(self, world: "World") -> None:
        """The service has just been started on its files."""

    def after_step(self, world: "World") -> None:
        """A step is over."""

    def at_end(self, world: "World") -> None:
        """The world has healed, and time has passed."""


def require(holds: object, words: str) -> None:
    """Raise Broken with these words unless it holds."""
    if not holds:
        raise Broken(words)


def checkers() -> list[Checker]:
    """One of each, as of the beginning of a world."""
    from tests.simulation.invariants.clocks import Clocks
    from tests.simulation.invariants.faults_and_tickets import FaultsAndTickets
    from tests.simulation.invariants.healing import Healing
    from tests.simulation.invariants.kept_once import KeptOnce
    from tests.simulation.invariants.ledger import Ledger
    from tests.simulation.invariants.notices import Notices
    from tests.simulation.invariants.same_state import SameState
    from tests.simulation.invariants.surprises import Surprises

    return [Surprises(), KeptOnce(), FaultsAndTickets(), Clocks(), Notices(), Ledger(), SameState(), Healing()]
