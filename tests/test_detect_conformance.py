"""What every registered detector must do, whatever comes: never raise, and never depend on how the stream is cut."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.detect import EVERY_KIND, Bank, Finding
from monitor.detect import limits as detect_limits
from monitor.detect.detector import Detector
from monitor.detect.operation import Operation
from monitor.detect.registry import DETECTORS
from monitor.detect.startup import Startup
from monitor.detect.trend import Trend
from monitor.devices import Channel, Device, Joint, Learn, Limits, Profile, Sensor
from monitor.readings import STATES, Batch, Event, Message, Reading
from tests.detecting import T0

SMALL = Profile(
    name="small", title="", title_zh="", report_interval_s=1, start_timeout_s=3, start_window_s=60, boot_loop_boots=2,
    battery_sensor="b", battery_rest_low_v=0.4, fuel_sensor="a",
    learn=Learn(warmup_samples=8, joint=Joint(hold_samples=2, threshold_sigma=2.0), channel=Channel()),
    sensors=(
        Sensor("a", limits=Limits(low=0, high=1, hold_s=2, clear_margin=0.1), states=("running",)),
        Sensor("b", limits=Limits(high=5)),
    ),
)  # fmt: skip
WIDE = Profile(
    name="wide", title="", title_zh="", learn=SMALL.learn,
    sensors=tuple(Sensor(name, limits=Limits(high=2, clear_margin=0.5)) for name in "bcd"),
)  # fmt: skip
DEVICES = [Device("m1", "small"), Device("m2", "wide"), Device("m3", "small")]

Stream = Sequence[Message]


def fresh(detectors: Sequence[type[Detector]] = DETECTORS) -> Bank:
    bank = Bank({"small": SMALL, "wide": WIDE}, detectors)
    bank.place(DEVICES)
    return bank


def run(bank: Bank, stream: Stream, cuts: Sequence[int] = ()) -> list[Finding]:
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += bank.step(Batch.of(start, stream[start:end]))
    return found


def course(values: Sequence[float], state: str = "running", device: str = "m1") -> Stream:
    return [
        Message(device, 0, T0 + i * 1000, False, Reading(0, i, T0 + i * 1000, state, {"a": v, "b": v, "zz": v}))  # type: ignore[arg-type]
        for i, v in enumerate(values)
    ]


noise = np.random.default_rng(0).normal(0.5, 0.2, 60)
STREAMS: dict[str, Callable[[], Stream]] = {
    "empty": list,
    "one sample": lambda: course([0.5]),
    "constant": lambda: course([0.5] * 60),
    "zero": lambda: course([0.0] * 60),
    "NaN": lambda: course([float("nan")] * 60),
    "infinite": lambda: course([float("inf"), float("-inf")] * 30),
    "huge": lambda: course([1e308, -1e308, 1e-308, 5e-324] * 15),
    "huge from a calm beginning": lambda: course([*noise[:30], *[1e308] * 30]),
    "noise": lambda: course(noise.tolist()),
    "clock shuffled": lambda: [
        Message("m1", 0, T0 + i, False, Reading(0, i, T0 + int(at) * 1000, "running", {"a": 9.0, "b": 9.0}))
        for i, at in enumerate(np.random.default_rng(1).permutation(60))
    ],
    "clock extreme": lambda: [
        Message("m1", 0, T0, False, Reading(i, i, at, "cranking", {"a": 9.0}))
        for i, at in enumerate([0, 1, 2**52, 0, -(2**52), 2**52])
    ],
    "no values": lambda: [Message("m1", 0, T0 + i, False, Reading(0, i, T0 + i, "running", {})) for i in range(9)],
    "late only": lambda: [m._replace(late=True) for m in course([9.0] * 20)],
}


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: detector.name)
@pytest.mark.parametrize("name", STREAMS)
def test_never_raises_deterministic_split_and_restored_anywhere(detector: type[Detector], name: str) -> None:
    """Each detector by itself (with Startup, which Silence reads, and Trend, which Peers reads)."""
    detectors = tuple({Operation: None, Startup: None, Trend: None, detector: None})
    stream = STREAMS[name]()
    whole, again = fresh(detectors), fresh(detectors)
    found = run(whole, stream)
    assert run(again, stream, range(1, len(stream))) == found
    assert again.dump() == whole.dump()
    half = fresh(detectors)
    first = run(half, stream[: len(stream) // 2])
    resumed = fresh(detectors)
    assert resumed.restore(half.dump()) == {}
    assert first + run(resumed, stream[len(stream) // 2 :]) == found
    assert resumed.dump() == whole.dump()
    assert resumed.tick(T0 + 10**7, T0) == whole.tick(T0 + 10**7, T0)


values = st.dictionaries(
    st.sampled_from("abcdx"),
    st.one_of(st.sampled_from([0.5, 0.95, 3.0, 9.0, -1.0]), st.floats(allow_nan=True, allow_infinity=True)),
    max_size=4,
)
EVENTS = ["start_requested", "started", "start_failed", "stopped", "fault_set", "fault_cleared"]
details = st.one_of(
    st.fixed_dictionaries({"code": st.one_of(st.integers(0, 3), st.text(max_size=3))}, optional={"lamp": st.text()}),
    st.dictionaries(st.text(max_size=4), st.one_of(st.none(), st.booleans(), st.integers(), st.text()), max_size=3),
)


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Messages of three machines in (boot, seq) order for each, as ingest hands them on."""
    clock, boot, out = dict.fromkeys(("m1", "m2", "m3", "m4"), T0), dict.fromkeys(("m1", "m2", "m3", "m4"), 0), []
    received_at = T0
    for seq in range(draw(st.integers(0, 40))):
        device = draw(st.sampled_from(["m1", "m1", "m2", "m3", "m4"]))  # m4 is not placed
        clock[device] += draw(st.sampled_from([0, 500, 1000, 1000, 1000, 4000, -2000, 400_000]))
        boot[device] += draw(st.sampled_from([0, 0, 0, 0, 1]))
        received_at += draw(st.sampled_from([0, 100, 1000]))
        body: Reading | Event
        if draw(st.integers(0, 3)):
            body = Reading(boot[device], seq, clock[device], draw(st.sampled_from(STATES)), draw(values))  # type: ignore[arg-type]
        else:
            body = Event(boot[device], seq, clock[device], draw(st.sampled_from(EVENTS)), draw(details))  # type: ignore[arg-type]
        out.append(Message(device, 0, received_at, draw(st.integers(0, 5)) == 0, body))
    return out


@settings(max_examples=80, deadline=None)
@given(streams(), st.data())
def test_any_cut_of_any_stream_gives_the_same(stream: Stream, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    whole, parts = fresh(), fresh()
    assert run(whole, stream) == run(parts, stream, cuts)
    assert whole.dump() == parts.dump()


@settings(max_examples=40, deadline=None)
@given(streams(), st.data())
def test_snapshots_of_what_changed_carry_everything(stream: Stream, data: st.DataObject) -> None:
    """Snapshots taken now and then, ticks between, a restart in the middle: as if nothing had happened."""
    cut = data.draw(st.integers(0, len(stream)))
    straight, before, stored = fresh(), fresh(), {}
    found = run(straight, stream[:cut]) + straight.tick(T0 + 20_000, T0)
    first = []
    for message in stream[:cut]:
        first += run(before, [message])
        if data.draw(st.booleans()):
            stored |= before.snapshot()
    first += before.tick(T0 + 20_000, T0)
    stored |= before.snapshot()
    after = fresh()
    assert after.restore(stored) == {}
    assert after.snapshot() == {}
    found += run(straight, stream[cut:]) + straight.tick(T0 + 10**7, T0)
    assert first + run(after, stream[cut:]) + after.tick(T0 + 10**7, T0) == found
    assert after.dump() == straight.dump()


@settings(max_examples=40, deadline=None)
@given(streams())
def test_machines_do_not_influence_each_other(stream: Stream) -> None:
    together = fresh()
    found = run(together, stream) + together.tick(T0 + 10**7, T0)
    for device in DEVICES:
        alone = fresh()
        own = run(alone, [m for m in stream if m.device_id == device.device_id]) + alone.tick(T0 + 10**7, T0)
        assert own == [f for f in found if f.device_id == device.device_id]
        assert alone.dump()[device.device_id] == together.dump()[device.device_id]


@settings(max_examples=40, deadline=None)
@given(streams())
def test_opened_and_cleared_take_turns(stream: Stream) -> None:
    standing = set()
    for finding in run(fresh(), stream):
        fault = (finding.device_id, finding.kind, finding.subject)
        assert finding.opened == (fault not in standing)
        standing ^= {fault}


@settings(max_examples=40, deadline=None)
@given(streams())
def test_late_rows_prove_life_and_nothing_else(stream: Stream) -> None:
    found = run(fresh(), [message._replace(late=True) for message in stream])
    assert {finding.kind for finding in found} <= {"wrong_clock"}


def test_many_machines_come_and_go() -> None:
    bank = Bank({"small": SMALL, "wide": WIDE})
    bank.place(Device(f"d{i}", "small" if i % 3 else "wide") for i in range(500))
    run(bank, [m for i in range(500) for m in course([9.0, 9.0], device=f"d{i}")])
    kept = {device_id: packed for device_id, packed in bank.dump().items() if int(device_id[1:]) % 2}
    bank.remove(f"d{i}" for i in range(0, 500, 2))
    bank.place(Device(f"e{i}", "wide" if i % 3 else "small") for i in range(400))
    blank = Bank({"small": SMALL, "wide": WIDE})
    blank.place([Device("e0", "small"), Device("e1", "wide")])
    after = bank.dump()
    assert {device_id: after[device_id] for device_id in kept} == kept
    assert (after["e0"], after["e1"]) == (blank.dump()["e0"], blank.dump()["e1"])
    assert len(after) == 650
    assert set(bank.snapshot()) == set(after)
    assert bank.snapshot() == {}


class LimitsNext(detect_limits.Limits):
    """The same detector as its next version would be."""

    version = 2


def test_another_version_begins_fresh_and_the_others_go_on() -> None:
    old = fresh()
    run(old, course([9.0] * 20))
    upgraded = tuple(LimitsNext if d.name == "limits" else d for d in DETECTORS)
    new = fresh(upgraded)
    assert new.restore(old.dump()) == {device: {"limit"} for device in ("m1", "m2", "m3")}
    assert {f.kind for f in run(new, course([9.0] * 20)[-1:])} == {"limit"}  # it opens anew; nothing else does
    assert set(new.snapshot()) == {"m1", "m2", "m3"}


def test_a_detector_that_is_no_more_takes_its_kind_along_and_others_of_that_kind_begin_fresh() -> None:
    old = fresh()
    run(old, course(noise.tolist()))
    without_codes = fresh(tuple(d for d in DETECTORS if d.name != "codes"))
    assert without_codes.restore(old.dump())["m1"] == {"fault_code"}
    sharing = [d for d in DETECTORS if (d.kind or d.cell_kind) == "anomaly"]
    forgot = 0
    for gone in sharing:
        without = fresh(tuple(d for d in DETECTORS if d is not gone))
        assert without.restore(old.dump())["m1"] == {"anomaly"}
        for other in set(sharing) - {gone}:
            assert _known(without, other, "m1") == _known(fresh(), other, "m1")
            forgot += _known(old, other, "m1") != _known(fresh(), other, "m1")
    assert forgot


def _known(bank: Bank, detector: type[Detector], device_id: str) -> str:
    """What a detector remembers of a machine."""
    memory = bank._memory
    row = memory.row[device_id]
    tables = (memory.device[row : row + 1], memory.cells_of(row))
    return repr([table[detector.name].tolist() for table in tables if detector.name in (table.dtype.names or ())])


@pytest.mark.parametrize("packed", [b"", b"\n", b"{}", b"nonsense\n123", b"\xff" * 99, "half"])
def test_damaged_state_begins_fresh(packed: bytes | str) -> None:
    old, new = fresh(), fresh()
    run(old, course([9.0] * 20))
    damaged = old.dump()["m1"][:-3] if isinstance(packed, str) else packed
    assert new.restore({"m1": damaged, "stranger": b""}) == {"m1": EVERY_KIND}
    assert new.dump() == fresh().dump()


def test_state_of_other_sensors_goes_on_by_name() -> None:
    old = fresh()
    run(old, course([9.0] * 20))
    more = Profile(
        name="small", title="", title_zh="", report_interval_s=1, learn=SMALL.learn,
        sensors=(Sensor("n"), SMALL.sensors[1]),
    )  # fmt: skip
    new = Bank({"small": more, "wide": WIDE})
    new.place(DEVICES)
    assert new.restore(old.dump()) == {}
    found = new.tick(T0 + 20_000, T0) + new.step(Batch.of(1, list(course([1.0] * 25)[20:])))
    assert [(f.subject, f.opened) for f in found if f.kind == "limit"] == [("a", False), ("b", False)]
