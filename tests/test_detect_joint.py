"""Joint: a rig that shows its healthy self first, then is throttled."""

import tomllib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from monitor.detect import Finding
from monitor.devices import Joint, Learn, Profile, Sensor
from monitor.readings import Floats, Message
from tests.detecting import bank, outcome, reading, say

RIG = msgspec.convert(tomllib.loads(Path("monitor/profiles/skab_pump.toml").read_text(encoding="utf-8")), Profile)
ANOMALY = ("anomaly", "")
FAULT = 574


def rig(rng: np.random.Generator, rows: int = 1100, *, throttled: bool = True, drift: float = 0.0) -> Floats:
    """(rows, 8) channels as such a rig gives them: white noise, a coarse flow, slow heat; the valve closes at 574."""
    slow = np.cumsum(rng.normal(0, 0.02, rows))
    flow = np.round(rng.normal(30, 0.5, rows))
    if throttled:
        flow[FAULT:950] = np.round(rng.normal(27, 0.5, rows))[FAULT:950]
    t = np.arange(rows)
    return np.column_stack([
        rng.normal(0.03, 0.0004, rows), rng.normal(0.05, 0.001, rows), rng.normal(2, 0.3, rows),
        rng.normal(0.1, 0.2, rows), 70 + slow + drift * t + rng.normal(0, 0.1, rows), 25 + slow / 5,
        rng.normal(228, 9, rows), flow,
    ])  # fmt: skip


def messages(channels: Floats, profile: Profile = RIG, state: str = "running", device: str = "m1") -> list[Message]:
    names = [sensor.name for sensor in profile.sensors]
    return [
        reading(row, dict(zip(names, values, strict=True)), state=state, device=device)
        for row, values in enumerate(channels.tolist())
    ]


def judge(*runs: Floats, profile: Profile = RIG) -> list[list[tuple[int, Finding]]]:
    """Each run as a machine of its own, row by row; for each its findings with the row on which they were made."""
    devices = [f"m{number}" for number in range(len(runs))]
    watching = bank(profile, devices=devices)
    said = [messages(channels, profile, device=device) for channels, device in zip(runs, devices, strict=True)]
    found = [(row, f) for row, batch in enumerate(zip(*said, strict=True)) for f in say(watching, batch)]
    return [[(row, f) for row, f in found if f.device_id == device] for device in devices]


def test_nothing_before_the_fault_and_something_soon_after() -> None:
    for found in judge(*(rig(np.random.default_rng(seed), drift=-0.002) for seed in range(20))):
        opened, cleared = ([row for row, finding in found if finding.opened is way] for way in (True, False))
        assert len(opened) == len(cleared) == 1
        assert FAULT <= opened[0] < FAULT + 40
        assert 950 <= cleared[0] < 1100
        evidence = found[0][1].evidence
        assert evidence["signs"][0]["sensor"] == "Volume Flow RateRMS"
        assert evidence["signs"][0]["expected"] == pytest.approx(30, abs=0.3)


def test_long_healthy_runs_are_quiet() -> None:
    runs = [rig(np.random.default_rng(seed), 2000, throttled=False, drift=(seed % 3 - 1) * 0.004) for seed in range(20)]
    alarms = [(number, row) for number, found in enumerate(judge(*runs)) for row, f in found if f.opened]
    assert alarms == []


def test_nothing_is_learnt_or_judged_but_running() -> None:
    off, healthy = np.zeros((300, 8)), rig(np.random.default_rng(2), 500, throttled=False)
    rows = [*messages(off, state="off"), *messages(healthy), *messages(off, state="off"), *messages(healthy)]
    assert [finding for finding in say(bank(RIG), rows) if finding.kind == "anomaly"] == []


LEARNER = Profile(
    name="l", title="", title_zh="", learn=Learn(warmup_samples=100, joint=Joint(hold_samples=4, threshold_sigma=6)),
    sensors=(Sensor("x"), Sensor("y"), Sensor("z", learn=False)),
)  # fmt: skip


def steps(*levels: tuple[int, float], jitter: float = 0.1) -> Floats:
    """So many samples around each level, of x; y stays, z goes wild."""
    x = np.concatenate([np.full(count, level) for count, level in levels])
    noise = np.random.default_rng(3).normal(0, jitter, (len(x), 3))
    return np.column_stack([x, x * 0, np.arange(len(x)) ** 2]) + noise


@pytest.mark.parametrize(
    ("levels", "fault"),
    [
        ([(300, 5)], "none"),
        ([(200, 5), (30, 6)], "open"),
        ([(200, 5), (4, 6)], "none"),  # the smoothing takes its time, and the hold too
        ([(200, 5), (1, 1e12), (50, 5)], "none"),  # an outlier is an outlier
        ([(50, 5), (1, 1e9), (100, 5), (30, 6)], "open"),  # and teaches nothing
        ([(200, 5), (2000, 6)], "open"),  # a fault is never learnt as normal
        ([(200, 5), (30, 6), (30, 5)], "cleared"),
        ([(60, 5), (39, 9)], "none"),  # not yet learnt
    ],
)
def test_levels(levels: list[tuple[int, float]], fault: str) -> None:
    assert outcome(say(bank(LEARNER), messages(steps(*levels), LEARNER)), *ANOMALY) == fault


@pytest.mark.parametrize(
    "course",
    [
        [*[("running", 6.0)] * 3, ("off", 0.0)] * 10,  # never long enough in one go
        [*[("running", 9.0)] * 3, ("off", 0.0), *[("running", 5.0)] * 9],  # what was smoothed before is gone
    ],
)
def test_leaving_the_state_ends_the_course_of_events(course: list[tuple[str, float]]) -> None:
    b = bank(
        msgspec.structs.replace(
            LEARNER, learn=Learn(warmup_samples=100, joint=Joint(hold_samples=4, threshold_sigma=3))
        )
    )
    say(b, messages(steps((200, 5)), LEARNER))
    assert say(b, [reading(200 + i, {"x": x}, state=state) for i, (state, x) in enumerate(course)]) == []


def test_a_constant_channel_that_moves_is_unlike_itself() -> None:
    assert outcome(say(bank(LEARNER), messages(steps((200, 5), (30, 6), jitter=0), LEARNER)), *ANOMALY) == "open"


def test_a_profile_that_is_no_longer_learnt_clears() -> None:
    b = bank(LEARNER)
    assert outcome(say(b, messages(steps((200, 5), (30, 6)), LEARNER)), *ANOMALY) == "open"
    b.update_profiles({"l": msgspec.structs.replace(LEARNER, learn=None)})
    assert outcome(say(b, [reading(300, {"x": 6})]), *ANOMALY) == "cleared"
