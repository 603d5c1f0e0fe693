"""The story that the demonstration fleet tells: one machine does not start, then this and that goes wrong elsewhere."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from firmware_sim.failures import Injection

KEY_AFTER_S = 6.0
"""When the first machine's key is turned; three attempts later, 23 s on, its controller gives up."""
FIRST_LASTS_S = 1800.0
AT_ONCE = 8
"""One machine in so many may have something wrong with it at the same moment."""


class Scene(NamedTuple):
    """A failure as the demonstration plays it: faster than life."""

    failure: str
    ramp_s: float
    lasts_s: float
    size: float = 1.0


SCENES = (
    Scene("coolant_leak", 60, 480),
    Scene("oil_leak", 90, 420),
    Scene("bearing_wear", 120, 480),
    Scene("clogged_filter", 120, 420),
    Scene("clogged_radiator", 60, 600),
    Scene("fuel_starved", 90, 420),
    Scene("radio_outage", 0, 100),
    Scene("boot_loop", 0, 150),
    Scene("stuck_sensor", 0, 300),
    Scene("drifting_sensor", 120, 300),
    Scene("wrong_clock", 0, 120),
    Scene("duplicate", 0, 300),
    Scene("reorder", 0, 300),
)


class Act(NamedTuple):
    """One thing that goes wrong with one machine. `key`: its key is turned `KEY_AFTER_S` later."""

    device_id: str
    injection: Injection
    key: bool = False


def story(device_ids: Sequence[str], seed: int, start_at: int) -> Iterator[Act]:
    """All that will go wrong, by its moment, without end: the first machine's weak battery at `start_at`, then a
    random failure of a healthy machine every one or two minutes, few at once."""
    rng = Random(f"{seed}/story")
    yield Act(
        device_ids[0], Injection("weak_battery", start_at, start_at + round(FIRST_LASTS_S * 1000), ramp_s=0), key=True
    )
    busy_until = dict.fromkeys(device_ids, 0)
    busy_until[device_ids[0]] = start_at + round(FIRST_LASTS_S * 1000)
    at = start_at + round(rng.uniform(50, 70) * 1000)
    while True:
        free = [device_id for device_id, until_at in busy_until.items() if until_at <= at]
        room = max(1, len(device_ids) // AT_ONCE) - (len(device_ids) - len(free))
        if free and room > 0:
            device_id, scene = rng.choice(free), rng.choice(SCENES)
            to_at = at + round(scene.lasts_s * 1000)
            # Some minutes to recover before the next blow.
            busy_until[device_id] = to_at + 300_000
            yield Act(device_id, Injection(scene.failure, at, to_at, scene.size, scene.ramp_s))
        at += round(rng.uniform(60, 120) * 1000)
