"""Lives through many seeds, or replays one.

python -m tests.simulation --seeds 1000 --base 1     # seeds 1 to 1000; says which broke what, and how to replay it
python -m tests.simulation --seed 4711 --trace       # one seed, with all that happens
python -m tests.simulation --month --seed 7          # one machine for thirty days
"""

import argparse
import sys
import time
from collections import Counter

from tests.simulation.invariants import Broken
from tests.simulation.world import World, month, run


def main() -> int:
    asked = _asked()
    if asked.seed is not None:
        return _replay(asked)
    return _many(range(asked.base, asked.base + asked.seeds))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--base", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="print what happens")
    parser.add_argument(
        "--month", action="store_true", help="one machine for thirty days, instead of a fleet for a shift"
    )
    return parser.parse_args()


def _replay(asked: argparse.Namespace) -> int:
    begun = time.process_time()
    try:
        world = month(asked.seed, trace=asked.trace) if asked.month else run(asked.seed, trace=asked.trace)
    except Broken as broken:
        print(broken)
        return 1
    print(f"seed {asked.seed}: all holds after {_extent(world)}; trace {world.trace}; "
          f"{time.process_time() - begun:.1f} s of CPU")  # fmt: skip
    return 0


def _extent(world: World) -> str:
    return f"{world.step_number} steps, {len(world.broker.taken)} messages, {world.deaths} deaths"


def _many(seeds: range) -> int:
    broken, struck, begun = 0, Counter[str](), time.monotonic()
    for done, seed in enumerate(seeds, 1):
        try:
            struck.update(run(seed).fate.struck)
        except Exception as error:  # noqa: BLE001 (whatever it is, the next seed is another world)
            known = isinstance(error, Broken)
            print(error if known else f"seed {seed} broke the simulation itself: {type(error).__name__}: {error}")
            print(f"  replay it: .venv/bin/python -m tests.simulation --seed {seed} --trace", flush=True)
            broken += 1
        if done % 100 == 0:
            print(f"{done} seeds, {broken} broken, {time.monotonic() - begun:.0f} s", flush=True)
    print(f"{len(seeds)} seeds from {seeds.start}: {broken} broken. What struck: "
          + ", ".join(f"{name} {times}" for name, times in struck.most_common()))  # fmt: skip
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
