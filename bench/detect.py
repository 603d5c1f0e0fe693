"""What a step of the detectors costs: microseconds a sample with all of them on, beside one bare pass of numpy.

Messages of 8 values come in batches of 1,000, each from another machine, over 1,000, 10,000 and 100,000 machines.
Every registered detector is on and every table of the profile that a detector reads is set. The machines are past
their warm-up, so what is measured is judging. A fleet of 256 is warmed up message by message; the others go on from
copies of its state, each on the course of the machine that it was copied from.

CPU time of this process, batches laid out beforehand, the median of several passes over all machines. Whoever else
uses the processor's caches meanwhile shows in it.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from monitor.detect import Bank
from monitor.detect.detector import Detector, Rows, State
from monitor.detect.finding import Report
from monitor.detect.operation import Operation
from monitor.detect.registry import DETECTORS
from monitor.detect.startup import Startup
from monitor.devices import Channel, Device, Joint, Learn, Profile
from monitor.readings import STATE_CODE, Batch, Floats

PROFILE = Path(__file__).parent.parent / "monitor" / "profiles" / "diesel_generator.toml"
CHANNELS = {
    # sensor: what full load adds to its nominal value, its noise, its value when the machine is off
    "coolant_temp_c": (5.0, 0.25, 20.0),
    "oil_pressure_bar": (-0.3, 0.04, 0.0),
    "engine_speed_rpm": (-15.0, 3.0, 0.0),
    "battery_voltage_v": (0.0, 0.03, 12.7),
    "fuel_level_pct": (0.0, 0.15, 60.0),
    "vibration_mm_s": (1.5, 0.05, 0.0),
    "load_pct": (100.0, 0.6, 0.0),
    "winding_temp_c": (70.0, 0.3, 20.0),
}
WARMUP_SAMPLES = 400
WARM_MACHINES = 256
WARM_MESSAGES = 640
BATCH = 1_000
FLEETS = (1_000, 10_000, 100_000)
BEGIN_AT = 1_763_864_214_000
SITE_MACHINES = 20

Detectors = tuple[type[Detector], ...]


def profile() -> Profile:
    """The generator of the house, its eight busiest sensors, with every table that turns a detector on."""
    made = msgspec.toml.decode(PROFILE.read_bytes(), type=Profile)
    learn = made.learn or Learn(WARMUP_SAMPLES)
    learn = msgspec.structs.replace(
        learn,
        warmup_samples=min(learn.warmup_samples, WARMUP_SAMPLES),
        joint=learn.joint or Joint(hold_samples=6),
        channel=learn.channel or Channel(),
    )
    sensors = tuple(sensor for sensor in made.sensors if sensor.name in CHANNELS)
    return msgspec.structs.replace(made, sensors=sensors, learn=learn)


class Course:
    """How the machines go on: loads that wander, machines that are switched off and on, noise, rounding.

    Machines with the same remainder by 256 share their constants, so that the state of one fits the others.
    """

    def __init__(self, of: Profile, machines: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        own = np.random.default_rng(0)
        kin = np.arange(machines) % WARM_MACHINES
        facts = np.array([CHANNELS[sensor.name] for sensor in of.sensors])
        self._slope, self._noise, self._off = facts.T
        nominal = np.array([sensor.nominal or 0.0 for sensor in of.sensors])
        self._level = (nominal * own.normal(1.0, 0.01, (WARM_MACHINES, len(nominal))))[kin]
        self._load = own.uniform(0.3, 0.7, WARM_MACHINES)[kin]
        self._on = (own.random(WARM_MACHINES) < 0.8)[kin]

    def next(self) -> tuple[npt.NDArray[np.int64], Floats]:
        """State codes (machines,) and values (machines, sensors) of the next report of every machine."""
        machines = len(self._load)
        self._load += 0.02 * (0.5 - self._load) + self._rng.normal(0.0, 0.02, machines)
        self._on ^= self._rng.random(machines) < 0.001
        running = self._level + np.outer(self._load - 0.5, self._slope)
        value = np.where(self._on[:, None], running, self._off)
        value += self._rng.normal(0.0, 1.0, value.shape) * self._noise
        code = np.where(self._on, STATE_CODE["running"], STATE_CODE["off"]).astype(np.int64)
        rounded = np.asarray(np.round(value, 2), dtype=np.float64)
        return code, rounded


@dataclass
class Fleet:
    """So many machines and where they stand in time."""

    profile: Profile
    machines: int
    course: Course
    cycle: int = 0
    seed: int = 1

    def devices(self) -> list[Device]:
        name = self.profile.name
        return [Device(f"d{n:06d}", name, site_id=n // SITE_MACHINES) for n in range(self.machines)]

    def batches(self, size: int) -> Iterator[Batch]:
        """The next report of every machine, the machines in a new random order."""
        code, value = self.course.next()
        sensors = [sensor.name for sensor in self.profile.sensors]
        order = np.random.default_rng((self.seed, self.cycle)).permutation(self.machines)
        at = BEGIN_AT + self.cycle * round(self.profile.report_interval_s * 1000) + np.arange(self.machines) % 5000
        for start in range(0, self.machines, size):
            these = order[start : start + size]
            rows = len(these)
            yield Batch(
                self.cycle, [f"d{n:06d}" for n in these.tolist()], sensors, np.arange(rows),
                np.zeros(rows, dtype=np.int64), np.ones(rows, dtype=np.int64), np.full(rows, self.cycle),
                at[these], at[these] + 150, np.zeros(rows, dtype=np.int64), code[these],
                np.zeros(rows, dtype=np.bool_), [None] * rows, np.repeat(np.arange(rows), len(sensors)),
                np.tile(np.arange(len(sensors)), rows), value[these].reshape(-1),
            )  # fmt: skip
        self.cycle += 1


def warmed(of: Profile) -> tuple[dict[str, bytes], int]:
    """The state of 256 machines past their warm-up, and how many reports they have sent by then."""
    fleet = Fleet(of, WARM_MACHINES, Course(of, WARM_MACHINES, 1))
    bank = Bank({of.name: of})
    bank.place(fleet.devices())
    for _ in range(WARM_MESSAGES):
        for batch in fleet.batches(WARM_MACHINES):
            bank.step(batch)
    return bank.dump(), fleet.cycle


@dataclass
class Measured:
    """CPU microseconds a sample, by pass; and in how many findings the measured passes ended."""

    passes: list[float] = field(default_factory=list)
    findings: int = 0

    @property
    def us(self) -> float:
        return statistics.median(self.passes)


def measure(bank: Bank, fleet: Fleet, passes: int, batch: int = BATCH) -> Measured:
    """Step over all machines once unmeasured, then `passes` times (at least 20 batches each)."""
    rounds = max(1, 20 * batch // fleet.machines)
    out = Measured()
    for number in range(passes + 1):
        batches = [b for _ in range(rounds) for b in fleet.batches(batch)]
        began = time.process_time()
        found = [len(bank.step(b)) for b in batches]
        spent = time.process_time() - began
        if number:
            out.passes.append(spent / sum(len(b.value) for b in batches) * 1e6)
            out.findings += sum(found)
    return out


class World:
    """A warmed fleet that banks of any detectors can be set on."""

    def __init__(self) -> None:
        self.profile = profile()
        self.states, self.cycle = warmed(self.profile)
        self._costs: dict[Detectors, float] = {}

    def set_out(self, machines: int, detectors: Detectors = DETECTORS) -> tuple[Bank, Fleet]:
        fleet = Fleet(self.profile, machines, Course(self.profile, machines, 2), self.cycle)
        bank = Bank({self.profile.name: self.profile}, detectors)
        devices = fleet.devices()
        bank.place(devices)
        states = list(self.states.values())
        bank.restore({device.device_id: states[n % len(states)] for n, device in enumerate(devices)})
        return bank, fleet

    def bytes_per_device(self) -> int:
        """What all detectors together remember of one machine (a snapshot's body: its header is the bank's)."""
        return len(next(iter(self.states.values())).partition(b"\n")[2])

    def alone(self, detector: type[Detector], passes: int) -> float:
        """What a detector adds to a bank of the two that others read, µs a sample."""
        ground = tuple(each for each in (Operation, Startup) if each is not detector)
        return self._cost((*ground, detector), passes) - self._cost(ground, passes)

    def _cost(self, detectors: Detectors, passes: int) -> float:
        # The quickest pass: the difference of two medians would be mostly the mood of the machine.
        if detectors not in self._costs:
            self._costs[detectors] = min(measure(*self.set_out(10_000, detectors), passes).passes)
        return self._costs[detectors]

    def shares(self, passes: int) -> dict[str, float]:
        """What each detector's step takes within the whole bank, µs a sample."""
        clock: dict[str, float] = {}
        bank, fleet = self.set_out(10_000, tuple(_timed(detector, clock) for detector in DETECTORS))
        out = measure(bank, fleet, passes)
        samples = (passes + 1) * max(20 * BATCH, fleet.machines) * len(self.profile.sensors)
        return {name: spent / samples * 1e6 for name, spent in clock.items()} | {"(bank)": out.us}


def _timed(detector: type[Detector], clock: dict[str, float]) -> type[Detector]:
    """The same detector with a stop watch on its step."""

    def step(self: Detector, state: State, rows: Rows, report: Report) -> None:
        began = time.process_time()
        detector.step(self, state, rows, report)
        clock[detector.name] = clock.get(detector.name, 0.0) + time.process_time() - began

    return type(detector.__name__, (detector,), {"step": step})


def reference(machines: int, sensors: int, passes: int) -> float:
    """One exponentially weighted mean and variance a sample, gathered and scattered as one record: µs a sample."""
    cells = np.zeros((machines * sensors, 4))
    rng = np.random.default_rng(3)
    value = rng.normal(0.0, 1.0, BATCH * sensors)
    spent = []
    for _ in range(passes + 1):
        picks = [
            (rng.permutation(machines)[:BATCH, None] * sensors + np.arange(sensors)).reshape(-1) for _ in range(20)
        ]
        began = time.process_time()
        for pick in picks:
            cell = cells[pick]
            deviation = value - cell[:, 0]
            cell[:, 0] += 0.05 * deviation
            cell[:, 1] += 0.05 * (deviation * deviation - cell[:, 1])
            cell[:, 2] = deviation
            cell[:, 3] += 1
            cells[pick] = cell
        spent.append((time.process_time() - began) / (len(picks) * len(value)) * 1e6)
    return statistics.median(spent[1:])


def run(world: World, passes: int) -> dict[str, Any]:
    """The figures of `--json`."""
    cost = {machines: measure(*world.set_out(machines), passes) for machines in FLEETS}
    return {
        "us_per_sample": round(cost[10_000].us, 3),
        "us_per_sample_1k_devices": round(cost[1_000].us, 3),
        "us_per_sample_100k_devices": round(cost[100_000].us, 3),
        "bytes_per_device": world.bytes_per_device(),
        "reference_us_per_sample": round(reference(10_000, len(CHANNELS), passes), 3),
        "findings_in_measured_passes": sum(each.findings for each in cost.values()),
    }


def table(figures: dict[str, Any], world: World, passes: int) -> str:
    """The same for people, and what each detector costs."""
    learn = world.profile.learn
    configured = [name for name in learn.__struct_fields__ if getattr(learn, name) is not None] if learn else []
    by_size = [figures[f"us_per_sample{suffix}"] for suffix in ("_1k_devices", "", "_100k_devices")]
    shares = world.shares(passes)
    total = shares.pop("(bank)")
    return "\n".join(
        (
            f"{world.profile.name}, {len(world.profile.sensors)} sensors, learn: {', '.join(configured)}",
            f"detectors: {', '.join(detector.name for detector in DETECTORS)}",
            "",
            f"{'µs CPU a sample':<30}{'1,000':>9}{'10,000':>9}{'100,000 machines':>18}",
            f"{'all detectors':<30}{by_size[0]:>9.3f}{by_size[1]:>9.3f}{by_size[2]:>18.3f}",
            f"{'reference: one EWMA':<30}{'':>9}{figures['reference_us_per_sample']:>9.3f}",
            f"{'largest / smallest':<30}{max(by_size) / min(by_size):>9.2f}",
            "",
            f"state {figures['bytes_per_device']} bytes a machine (8 KiB at most)",
            f"{figures['findings_in_measured_passes']} findings while measured",
            "",
            f"{'by detector, 10,000 machines':<30}{'in the bank':>12}{'alone':>9}",
            *(f"{each.name:<30}{shares[each.name]:>12.3f}{world.alone(each, passes):>9.3f}" for each in DETECTORS),
            f"{'(laying out the rounds)':<30}{total - sum(shares.values()):>12.3f}",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.detect", description=str(__doc__).split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of the table")
    parser.add_argument("--passes", type=int, default=5, metavar="N", help="measured passes; their median counts")
    options = parser.parse_args()
    world = World()
    figures = run(world, options.passes)
    print(json.dumps(figures) if options.json else table(figures, world, options.passes))


if __name__ == "__main__":
    main()
