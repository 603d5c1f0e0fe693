"""Channel: a sensor that shows its usual self for some days, then something else."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest

from monitor.detect import Bank, Finding, channel
from monitor.detect.channel import Channel as Detector
from monitor.detect.finding import Reason
from monitor.detect.limits import Limits as LimitsDetector
from monitor.detect.operation import Operation
from monitor.devices import Channel, Device, FaultKind, Learn, Limits, Profile, Sensor
from monitor.readings import Floats, Message
from tests.detecting import T0, reading, say

STEP_S = 900
DAY = 86_400 // STEP_S
WARMUP = 3 * DAY
FAULT = 8 * DAY + DAY // 2
RULES = Channel(
    threshold_decades=6, raise_decades=0.5, raise_samples=3000, fast_samples=4, slow_samples=8, season_samples=20,
    memory_samples=10_000, calm_samples=30, settle_s=0,
)  # fmt: skip


def learner(rules: Channel = RULES, *more: Sensor) -> Profile:
    return Profile(
        name="l", title="", title_zh="", report_interval_s=STEP_S, sensors=(Sensor("x", "bar"), *more),
        learn=Learn(warmup_samples=WARMUP, channel=rules),
    )  # fmt: skip


def bank(profile: Profile, devices: Sequence[str] = ("m1",)) -> Bank:
    watching = Bank({profile.name: profile}, (Operation, LimitsDetector, Detector))
    watching.place(Device(device, profile.name) for device in devices)
    return watching


def usual(seed: int, days: int = 10, drift: float = 0.0) -> Floats:
    """A daily course with noise, on a level that may drift (a unit a day)."""
    t = np.arange(days * DAY)
    noise = np.random.default_rng(seed).normal(0, 0.3, len(t))
    return 50 + 5 * np.sin(2 * np.pi * t / DAY) + drift * t / DAY + noise


def messages(values: Floats, state: str = "running", device: str = "m1", begin: int = 0) -> list[Message]:
    at = (np.arange(len(values)) + begin) * STEP_S
    return [reading(s, {"x": v}, state=state, device=device) for s, v in zip(at.tolist(), values.tolist(), strict=True)]


def judge(*courses: Floats, rules: Channel = RULES) -> list[list[tuple[int, Finding]]]:
    """Each course on a machine of its own: its findings, each with the row on which what it says began."""
    devices = [f"m{number}" for number in range(len(courses))]
    said = [messages(course, device=device) for course, device in zip(courses, devices, strict=True)]
    found = say(bank(learner(rules), devices), [message for messages in said for message in messages])
    return [
        [((f.occurred_at - T0) // (STEP_S * 1000), f) for f in found if f.device_id == device] for device in devices
    ]


def turns(found: list[tuple[int, Finding]]) -> list[bool]:
    return [finding.opened for _, finding in found]


def spike(values: Floats) -> None:
    values[FAULT] += 6


def step(values: Floats) -> None:
    values[FAULT:] += 4


def unrest(values: Floats) -> None:
    values[FAULT:] += np.random.default_rng(99).normal(0, 1.5, len(values) - FAULT)


def a_day_off(values: Floats) -> None:
    values[FAULT - DAY // 4 : FAULT + DAY // 2] = 50


@pytest.mark.parametrize(("happens", "within"), [(spike, 1), (step, 4), (unrest, DAY), (a_day_off, 24)])
def test_what_is_unlike_its_past_is_found_soon(happens: Callable[[Floats], None], within: int) -> None:
    courses = [usual(seed) for seed in range(6)]
    for course in courses:
        happens(course)
    for found in judge(*courses):
        row, finding = found[0]
        assert finding.opened
        assert FAULT - DAY // 4 <= row < FAULT + within


def test_what_is_slight_but_lasts_is_found_unless_it_is_interrupted() -> None:
    values = usual(1)
    values[FAULT:] += 1.1
    (found,) = judge(values)
    assert next((f.opened, f.evidence["reason"]) for _, f in found) == (True, Reason.LASTING)
    broken = messages(values)
    broken[FAULT::2] = [messages(values[n : n + 1], "off", begin=n)[0] for n in range(FAULT, len(values), 2)]
    assert not any(f.evidence["reason"] is Reason.LASTING for f in say(bank(learner()), broken))


def test_a_finding_says_what_was_expected_and_how_sure_it_is() -> None:
    values = usual(1)
    spike(values)
    ((_, finding), *_), *_ = judge(values)
    evidence = finding.evidence
    assert (finding.kind, finding.subject, finding.rule) == (FaultKind.ANOMALY, "x", "channel/1")
    assert evidence["reason"] is Reason.HOUR
    assert evidence["value"] == pytest.approx(values[FAULT], rel=1e-4)
    assert evidence["expected"] == pytest.approx(50, abs=1.5)
    low, high = evidence["band"]
    assert 40 < low < evidence["expected"] < high < evidence["value"]
    assert evidence["score"] > evidence["threshold"] == 6
    assert evidence["unit"] == "bar"
    assert 0.2 < finding.confidence < 0.5


def test_healthy_machines_give_few_alarms() -> None:
    """20 machines for 30 days (57,600 samples) with a season, noise and a slow drift: none at 6 decades."""
    courses = [usual(number, 30, drift=(number % 3 - 1) * 0.01) for number in range(20)]
    for decades, most in ((6, 0), (4, 45)):
        found = judge(*courses, rules=msgspec.structs.replace(RULES, threshold_decades=decades))
        assert sum(turn for machine in found for turn in turns(machine)) <= most


def test_an_outlier_clears_and_a_shift_stands_until_it_is_accepted() -> None:
    once, shifted = usual(2, 16), usual(2, 16)
    spike(once)
    step(shifted)
    assert [turns(found) for found in judge(once, shifted)] == [[True, False], [True]]
    (accepting,) = judge(shifted, rules=msgspec.structs.replace(RULES, accept_samples=DAY))
    assert turns(accepting)[:2] == [True, False]
    assert accepting[1][0] > FAULT + DAY


LEARNT = ["mean", "square", "count", "spread", "tail_from", "tail_reach", "tail_count", "hour"]


def learnt(of: Bank, cell: int = 0) -> tuple[object, ...]:
    """What a sensor taught, without the running means that every sample moves on."""
    record = of._memory.cell[Detector.name][cell]
    return tuple(record[field].tolist() for field in LEARNT)


def test_nothing_is_learnt_while_its_fault_stands_open() -> None:
    values = usual(3)
    step(values)
    watching = bank(learner())
    say(watching, messages(values[: FAULT + 10]))
    before = learnt(watching)
    assert say(watching, messages(values[FAULT + 10 :], begin=FAULT + 10)) == []
    assert learnt(watching) == before


def test_nothing_is_learnt_while_another_fault_stands_open() -> None:
    hot = Sensor("hot_c", limits=Limits(high=90), learn=False)
    watching = bank(learner(RULES, hot))
    values = usual(4)
    say(watching, messages(values[: 4 * DAY]))
    say(watching, [reading(4 * DAY * STEP_S, {"hot_c": 120.0})])
    before = learnt(watching)
    say(watching, messages(values[4 * DAY + 1 :], begin=4 * DAY + 1))
    assert learnt(watching) == before


def test_nothing_is_judged_or_learnt_but_running_and_settled() -> None:
    watching = bank(learner(msgspec.structs.replace(RULES, settle_s=3 * STEP_S)))
    values = usual(5)
    say(watching, messages(values[:FAULT]))
    before = learnt(watching)
    assert say(watching, messages(np.zeros(50), "off", begin=FAULT)) == []
    assert say(watching, messages(np.zeros(3), begin=FAULT + 50)) == []  # it has only begun to run
    assert learnt(watching) == before
    assert [f.opened for f in say(watching, messages(np.zeros(1), begin=FAULT + 53))] == [True]


def test_what_the_desk_ends_is_found_anew_or_after_long_learnt_anew() -> None:
    values = usual(6, 20)
    step(values)
    for open_for, found in ((10, True), (WARMUP + 10, False)):
        watching = bank(learner())
        end = FAULT + open_for
        assert [f.opened for f in say(watching, messages(values[:end]))] == [True]
        watching.release("m1", FaultKind.ANOMALY, "x")
        assert [f.opened for f in say(watching, messages(values[end:], begin=end))] == [True] * found


def test_a_service_restarts_learning() -> None:
    values = usual(7, 20)
    values[FAULT:] += 4
    watching = bank(learner())
    say(watching, messages(values[:FAULT]))
    watching.serviced("m1")
    assert say(watching, messages(values[FAULT : 18 * DAY], begin=FAULT)) == []
    assert [f.opened for f in say(watching, messages(values[18 * DAY :] - 4, begin=18 * DAY))] == [True]


def test_a_channel_that_keeps_crying_wolf_has_to_cry_louder() -> None:
    values = usual(8, 30)
    values[WARMUP + 50 :: 50] += np.random.default_rng(8).uniform(2, 4, len(values[WARMUP + 50 :: 50]))
    patient = msgspec.structs.replace(RULES, threshold_decades=3, memory_samples=1e6)
    never = msgspec.structs.replace(patient, raise_decades=0)
    louder, same = (sum(turns(judge(values, rules=rules)[0])) for rules in (patient, never))
    assert louder < 0.7 * same


def test_memory_stays_small() -> None:
    """Every sensor of every machine has one, and all detectors share 8 KiB for a machine of 8 sensors."""
    assert np.dtype(Detector.cell_fields, align=True).itemsize <= 300


@pytest.mark.parametrize("samples", [1, 300, 5_000, 30_000])
def test_counts_and_spreads_are_kept_well_enough_in_half_the_room(samples: int) -> None:
    """A slow mean of squares around 9, each change smaller than what memory tells apart."""
    cells = 200
    learns = np.ones(cells, dtype=np.bool_)
    packed = np.zeros(cells, dtype=np.uint32)
    squares = np.random.default_rng(1).uniform(0, 18, (samples, 1)).astype(np.float32)
    exact = np.zeros(1, dtype=np.float64)
    for n, square in enumerate(squares, 1):
        rate = np.float32(max(1 / n, 1 / 7200))
        exact += (square - exact) * rate
        kept = channel._unpacked(packed)
        number = np.full(cells, n) + np.arange(cells) * 1000  # of the sample, by which chance is drawn
        packed = channel._packed(packed, kept + (square - kept) * rate, learns, number.astype(np.float32))
    count = channel.COUNTS[packed & channel._CODE]
    assert count == pytest.approx(samples, rel=0 if samples <= 512 else 0.3)
    assert count.mean() == pytest.approx(samples, rel=0.02)
    assert channel._unpacked(packed) == pytest.approx(exact[0], rel=0.04)
    assert channel._unpacked(packed).mean() == pytest.approx(exact[0], rel=0.004)


def test_what_is_not_learnt_leaves_what_is_kept_as_it_was() -> None:
    packed = np.random.default_rng(2).integers(0, 2**31, 1000).astype(np.uint32)
    number = np.arange(1000, dtype=np.float32)
    assert (channel._packed(packed, channel._unpacked(packed), number < 0, number) == packed).all()


@pytest.mark.parametrize("ago", [0, 5_000, 40 * 86_400_000, -60_000])
def test_the_time_of_a_calm_comes_back_whole(ago: int) -> None:
    assert channel._recent((T0 - ago) % 2**32, T0) == T0 - ago


def test_clears_when_the_profile_no_longer_has_it_learnt() -> None:
    values = usual(9)
    step(values)
    watching = bank(learner())
    say(watching, messages(values[: FAULT + 10]))
    watching.update_profiles({"l": msgspec.structs.replace(learner(), learn=None)})
    assert [(f.subject, f.opened) for f in say(watching, messages(values[-1:], begin=len(values)))] == [("x", False)]


@pytest.mark.parametrize(
    "wrong", [{"fast_samples": 0}, {"memory_samples": 1e9}, {"calm_samples": 0}, {"threshold_decades": 1}]
)
def test_nonsense_in_a_profile_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Channel(**wrong)  # type: ignore[arg-type]
