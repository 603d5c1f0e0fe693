"""What can go wrong in the simulated world, and how often: the whole list, as data.

A seed does not suffer from everything. As in swarm testing, each peril is left out of about half of the worlds and is
far more frequent in some: rare combinations come about sooner than if everything always happened a little.
"""

from collections import Counter
from collections.abc import Collection
from random import Random
from typing import NamedTuple


class Peril(NamedTuple):
    """`chance`: how likely it is at each occasion; `gentle`: whether the state in the end must be the same as without
    it (invariant 6), since it is over within the wait for a gap."""

    chance: float
    occasion: str
    gentle: bool = False


PERILS = {
    # the wire between a machine and the broker
    "link_stalls": Peril(0.02, "a message of a machine: it and what follows wait for some seconds"),
    "puback_lost": Peril(0.02, "a message of a machine: it says it once more", gentle=True),
    "machine_cut_off": Peril(0.015, "a step of a machine: no network for ten seconds to an hour; it buffers"),
    "command_lost": Peril(0.2, "a command or its answer"),
    # the wire between the broker and the service
    "delivery_lost": Peril(0.02, "a delivery: it comes again after the broker's ack_wait", gentle=True),
    "delivery_twice": Peril(0.02, "a delivery", gentle=True),
    "delivery_late": Peril(0.05, "a delivery: others overtake it, by at most three seconds", gentle=True),
    "service_cut_off": Peril(0.01, "a step: the service loses its broker for a second to half an hour"),
    "acks_lost": Peril(0.02, "a step: the connection breaks with the acks in it", gentle=True),
    # the process
    "dies_before_ack": Peril(0.005, "a batch that is committed and not acknowledged yet", gentle=True),
    "dies_in_tick": Peril(0.0005, "a job of the scheduler, before or after it", gentle=True),
    "dies_before_commit": Peril(0.001, "a commit: nothing of it is there", gentle=True),
    "dies_after_commit": Peril(0.001, "a commit: it is there, and nobody knows", gentle=True),
    "stays_dead": Peril(0.3, "a death: it is started again only minutes later, not at once"),
    # the stores
    "commit_refused": Peril(0.004, "a commit: the database says that it could not", gentle=True),
    "commit_unsaid": Peril(0.003, "a commit: it is done, and the database says that it could not", gentle=True),
    "telemetry_away": Peril(0.006, "a batch: telemetry is not written", gentle=True),
    "telemetry_unsaid": Peril(0.006, "a batch: telemetry is written, and says that it is not", gentle=True),
    "dies_storing": Peril(0.004, "a batch: telemetry is written, and the process dies", gentle=True),
    # notices
    "post_slow": Peril(0.08, "a notice: it is taken, and the answer does not come in time", gentle=True),
    "post_down": Peril(0.02, "a step: the mail server does not answer for some minutes", gentle=True),
    "post_refuses": Peril(0.01, "a notice: it is refused for good", gentle=True),
    "dies_sending": Peril(0.01, "a notice: it is taken, and the process dies", gentle=True),
    # clocks
    "service_clock_jumps": Peril(0.006, "a step: the service's clock is set, by up to ten minutes either way"),
}
SOMETIMES = (0.0, 0.0, 1.0, 1.0, 4.0)
"""By how much a world multiplies the chance of a peril."""


class Fate:
    """Decides, from a seed, what strikes and when."""

    def __init__(self, seed: str, *, spared: Collection[str] = (), calm: bool = False) -> None:
        """`spared`: what never happens in this world; `calm`: nothing does."""
        self.rng = Random(f"{seed}/fate")
        self.struck: Counter[str] = Counter()
        self._chance = {name: 0.0 if calm or name in spared else peril.chance * self.rng.choice(SOMETIMES)
                        for name, peril in PERILS.items()}  # fmt: skip

    def strikes(self, name: str) -> bool:
        """Whether a peril strikes at this occasion."""
        chance = self._chance[name]
        found = chance > 0 and self.rng.random() < chance
        self.struck[name] += found
        return found

    def spares(self) -> None:
        """From now on nothing goes wrong any more."""
        self._chance = dict.fromkeys(self._chance, 0.0)


HARSH = frozenset(name for name, peril in PERILS.items() if not peril.gentle)
