"""Joint: a rig that shows its healthy self first, then is throttled."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from monitor.detect import Bank, Finding
from monitor.detect import joint as detect_joint
from monitor.detect.limits import Limits as LimitsDetector
from monitor.detect.operation import Operation
from monitor.devices import Device, FaultKind, Joint, Learn, Limits, Profile, Sensor
from monitor.readings import Floats, Message
from tests.detecting import T0, outcome, reading, say

RIG = msgspec.convert(tomllib.loads(Path("monitor/profiles/skab_pump.toml").read_text(encoding="utf-8")), Profile)
ANOMALY = ("anomaly", "")
FAULT = 574


def bank(profile: Profile, devices: Sequence[str] = ("m1",)) -> Bank:
    """A bank of this detector, the one that it reads, and one that it is told of."""
    made = Bank({profile.name: profile}, (Operation, LimitsDetector, detect_joint.Joint))
    made.place([Device(device_id, profile.name) for device_id in devices])
    return made


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


PAIR = Profile(
    name="pair", title="", title_zh="",
    learn=Learn(warmup_samples=400, joint=Joint(hold_samples=5, threshold_sigma=6, together_sigma=6)),
    sensors=(Sensor("load"), Sensor("rpm"), Sensor("heat")),
)  # fmt: skip


def pair(rows: int, slip: float = 0.0, slip_from: int = 0, seed: int = 5, noise: float = 0.1) -> Floats:
    """Load explains speed and heat; from `slip_from` on the speed lies `slip` beside what the load explains."""
    rng = np.random.default_rng(seed)
    load = rng.normal(50, 5, rows)
    off = slip * (np.arange(rows) >= slip_from) * rng.choice([-1, 1], rows)
    return np.column_stack([load, 2 * load + off, load / 2]) + rng.normal(0, noise, (rows, 3))


def test_what_no_channel_shows_by_itself_shows_in_all_together() -> None:
    """The speed stays well within its own spread; it only no longer belongs to the load."""
    broken = messages(pair(700, slip=6, slip_from=500), PAIR)
    opened = [f for f in say(bank(PAIR), broken) if f.opened]
    assert [f.subject for f in opened] == [""]
    assert (opened[0].occurred_at - T0) / 1000 >= 500
    assert opened[0].evidence["signs"][0]["sensor"] in {"rpm", "load"}
    assert 0.5 <= opened[0].confidence <= 1
    alone = msgspec.structs.replace(
        PAIR, learn=Learn(warmup_samples=400, joint=Joint(hold_samples=5, threshold_sigma=6))
    )
    assert say(bank(alone), broken) == []


def test_channels_that_belong_together_are_quiet_while_they_do() -> None:
    assert say(bank(PAIR), messages(pair(1500), PAIR)) == []


@pytest.mark.parametrize("channels", [8, 52])
def test_neighbours_and_cuts_change_nothing_to_the_last_bit(channels: int) -> None:
    """Wide machines are multiplied as matrices; a machine's sums must not depend on who steps beside it."""
    learn = Learn(warmup_samples=60, joint=Joint(hold_samples=2, threshold_sigma=3, together_sigma=2))
    wide, small = (
        Profile(name=name, title="", title_zh="", learn=learn, sensors=tuple(Sensor(f"s{k}") for k in range(width)))
        for name, width in (("wide", channels), ("small", 3))
    )
    rng = np.random.default_rng(8)
    rows = {f"m{n}": messages(rng.normal(5, 1, (90, channels)), wide, device=f"m{n}") for n in range(3)}
    rows["m3"] = messages(rng.normal(5, 1, (90, 3)), small, device="m3")
    detectors = (Operation, detect_joint.Joint)
    together, alone = Bank({"wide": wide, "small": small}, detectors), Bank({"wide": wide}, detectors)
    together.place([*(Device(f"m{n}", "wide") for n in range(3)), Device("m3", "small")])
    alone.place([Device("m0", "wide")])
    found = [f for batch in zip(*rows.values(), strict=True) for f in say(together, batch) if f.device_id == "m0"]
    assert say(alone, rows["m0"]) == found
    assert alone.dump()["m0"] == together.dump()["m0"]


@pytest.mark.parametrize("width", [1, 2, 3, 8, 9, 52, 64])
def test_half_of_a_symmetric_matrix_is_all_of_it(width: int) -> None:
    """Three machines stand side by side; the first and the last are kept, and the one between is not touched."""
    half = np.random.default_rng(width).normal(size=(2, width, width)).astype(np.float32)
    matrix = half + half.transpose(0, 2, 1)
    bond = np.full((3 * width, detect_joint.WIDEST // 2 + 1), 7, dtype=np.float32)
    cells = np.arange(3 * width).reshape(3, width)
    pairs = detect_joint.Pairs(width)
    pairs.put(bond, cells[[2, 0]], matrix)
    assert (pairs.of(bond, cells[[0, 2]]) == matrix[::-1]).all()
    assert (bond[cells[1]] == 7).all()


def test_a_channel_is_remembered_in_few_bytes() -> None:
    """All detectors share 8 KiB for a machine of 8 sensors."""
    assert np.dtype(detect_joint.Joint.cell_fields, align=True).itemsize <= 200


def test_missing_values_are_no_evidence_and_a_late_channel_learns_for_itself() -> None:
    rng = np.random.default_rng(4)
    full = pair(1500)
    gappy = [
        reading(row, {name: value for name, value in zip(("load", "rpm", "heat"), values, strict=True)
                      if rng.random() > 0.3 and not (name == "heat" and row < 600)})
        for row, values in enumerate(full.tolist())
    ]  # fmt: skip
    b = bank(PAIR)
    assert say(b, gappy) == []
    hot = [reading(1500 + i, {"heat": 60}) for i in range(20)]
    assert outcome(say(b, hot), *ANOMALY) == "open"
    silent = [reading(1520 + i, {"load": 50, "rpm": 100}) for i in range(50)]
    assert say(b, silent) == []  # the channel that was out has not shown that it is well


def test_a_start_is_given_time_to_settle() -> None:
    settling = msgspec.structs.replace(
        LEARNER, learn=Learn(warmup_samples=100, joint=Joint(hold_samples=4, threshold_sigma=6, settle_s=30))
    )
    b = bank(settling)
    say(b, messages(steps((300, 5)), settling))
    off = [reading(300, {"x": 0}, state="off")]
    assert say(b, off + [reading(301 + i, {"x": 9}) for i in range(30)]) == []
    assert outcome(say(b, [reading(331 + i, {"x": 9}) for i in range(20)]), *ANOMALY) == "open"


def test_the_fault_is_latched_to_the_side_it_was_on() -> None:
    """What swings over to the other side on its way back is not the same fault, and is judged by itself."""
    levels = steps((300, 5), (60, 6), (30, 3))
    assert [f.opened for f in say(bank(LEARNER), messages(levels, LEARNER))] == [True, False, True]


def test_a_slow_drift_is_followed_and_a_step_is_not() -> None:
    learn = Learn(warmup_samples=200, joint=Joint(hold_samples=5, threshold_sigma=6, follow_samples=40))
    following = msgspec.structs.replace(LEARNER, learn=learn)
    drift = np.column_stack([5 + np.arange(2000) * 0.001, np.zeros(2000), np.zeros(2000)])
    drift += np.random.default_rng(6).normal(0, 0.1, drift.shape)
    assert say(bank(following), messages(drift, following)) == []
    drift[1000:, 0] += 1
    found = say(bank(following), messages(drift, following))
    assert [f.opened for f in found] == [True]
    assert (found[0].occurred_at - T0) / 1000 == pytest.approx(1002, abs=3)


def test_while_any_fault_is_open_nothing_is_learnt() -> None:
    """The first fault is another detector's; what is measured under it is not how the machine is."""
    limited = msgspec.structs.replace(
        LEARNER, sensors=(*LEARNER.sensors, Sensor("p", limits=Limits(high=1, clear_margin=0.1)))
    )
    b = bank(limited)
    say(b, messages(np.column_stack([steps((90, 5)), np.zeros(90)]), limited))
    say(b, [reading(90 + i, {"x": 9, "p": 2}) for i in range(300)])
    healthy = [*messages(np.column_stack([steps((60, 5)), np.zeros(60)]), limited)]
    assert outcome(say(b, healthy), *ANOMALY) == "none"
    assert outcome(say(b, [reading(500 + i, {"x": 6, "p": 0}) for i in range(30)]), *ANOMALY) == "open"


def test_a_serviced_machine_is_learnt_anew_and_still_knows_how_much_is_much() -> None:
    b = bank(LEARNER)
    say(b, messages(steps((200, 5)), LEARNER))
    b.serviced("m1")
    assert say(b, [reading(200 + i, {"x": x}) for i, x in enumerate(steps((110, 7))[:, 0])]) == []
    assert outcome(say(b, [reading(310 + i, {"x": 8}) for i in range(20)]), *ANOMALY) == "open"


QUIET = np.column_stack([np.full(110, 5.0), np.zeros(110), np.zeros(110)])
"""A warm-up in which nothing moves."""


def kin(profile: Profile = LEARNER) -> Bank:
    """A bank in which three machines of the model have been learnt."""
    b = bank(profile, ("k1", "k2", "k3"))
    for number, name in enumerate(("k1", "k2", "k3")):
        say(b, messages(steps((200, 4 + number)), profile, device=name))
    return b


def test_a_new_machine_knows_from_its_model_how_much_is_much() -> None:
    alone, among = bank(LEARNER), kin()
    among.place([Device("m1", LEARNER.name)])
    swing = [reading(110 + i, {"x": 5.15}) for i in range(30)]
    for b, stands in ((alone, "open"), (among, "none")):
        say(b, messages(QUIET, LEARNER))
        assert outcome(say(b, swing), *ANOMALY) == stands
    assert outcome(say(among, [reading(140 + i, {"x": 6}) for i in range(30)]), *ANOMALY) == "open"


def test_what_a_model_has_shown_together_goes_to_the_next_machine_too() -> None:
    b = bank(PAIR, ("k1", "k2", "k3"))
    for number, name in enumerate(("k1", "k2", "k3")):
        say(b, messages(pair(500, seed=number), PAIR, device=name))
    b.place([Device("m1", PAIR.name)])
    load, speed, _ = b._memory.cells_of(b._memory.row["m1"])["joint"]["bond"]  # with itself, with the next one
    assert load[1] / np.sqrt(load[0] * speed[0]) > 0.5  # load and speed belong together
    assert [f for f in say(b, messages(pair(700, seed=9), PAIR)) if f.opened] == []


def test_a_model_is_known_only_from_enough_machines_that_were_learnt() -> None:
    b = bank(LEARNER, ("k1", "k2", "k3"))
    say(b, messages(steps((200, 4)), LEARNER, device="k1"))
    b.place([Device("m1", LEARNER.name)])
    assert not b._memory.cells_of(b._memory.row["m1"])["joint"]["kept"].any()


def test_what_was_adopted_survives_a_restart() -> None:
    b = kin()
    b.snapshot()
    b.place([Device("m1", LEARNER.name)])
    stored, again = b.snapshot(), bank(LEARNER)
    assert again.restore(stored) == {}
    assert again.dump()["m1"] == b.dump()["m1"]


def test_a_fault_that_a_service_ended_clears_when_the_machine_has_shown_itself() -> None:
    b = bank(LEARNER)
    assert outcome(say(b, messages(steps((200, 5), (40, 7)), LEARNER)), *ANOMALY) == "open"
    b.serviced("m1")
    found = say(b, [reading(240 + i, {"x": x}) for i, x in enumerate(steps((150, 5))[:, 0])])
    assert [f.opened for f in found] == [False]


def test_a_released_fault_that_is_still_there_is_found_anew() -> None:
    b = bank(LEARNER)
    say(b, messages(steps((200, 5), (40, 7)), LEARNER))
    b.release("m1", FaultKind.ANOMALY, "")
    assert outcome(say(b, [reading(240 + i, {"x": 7}) for i in range(20)]), *ANOMALY) == "open"


@pytest.mark.parametrize(
    "wrong", [{"hold_samples": 0}, {"hold_samples": 1, "settle_s": -1}, {"hold_samples": 1, "threshold_sigma": 0}]
)
def test_a_table_that_means_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"must"):
        msgspec.convert(wrong, Joint)
