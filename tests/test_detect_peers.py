"""Machines beside others of their model: who is unlike them, and who only looks so."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
import pytest

from monitor.detect import Bank, Finding
from monitor.detect.operation import Operation
from monitor.detect.peers import PERIOD_S, Peers
from monitor.detect.trend import Trend
from monitor.devices import Device, FaultKind, Limits, Profile, Sensor, Severity
from monitor.readings import Batch, Message, Reading
from tests.detecting import T0

STEP_S = 300
MODEL = Profile(
    name="model", title="", title_zh="", report_interval_s=STEP_S, load_sensor="load",
    sensors=(
        Sensor("load", "%", nominal=50),
        Sensor("oil_bar", "bar", nominal=4, limits=Limits(low=2, high=9)),
        Sensor("tank", "%", nominal=60, limits=Limits(low=8), trend=False),
        Sensor("free", "°C", nominal=50),
        Sensor("named", "°C", peer_margin=3),
    ),
)  # fmt: skip
Shift = Callable[[float], float]
"""By how much a machine's oil pressure lies higher, by hours since the beginning."""


def as_the_rest(_: float) -> float:
    return 0.0


def live(
    fleet: Mapping[str, Shift],
    days: float,
    *,
    begin: float = 0,
    spread: float = 0.05,
    load: Mapping[str, float] | None = None,
) -> list[Message]:
    """A fleet whose machines differ by `spread` (bar), their oil pressure falling with their own load."""
    rng, out = np.random.default_rng(7), []
    own = dict(zip(fleet, spread * np.linspace(-1, 1, len(fleet)), strict=True))
    for number in range(int(begin * 86400 / STEP_S), int((begin + days) * 86400 / STEP_S)):
        at, hours = T0 + number * STEP_S * 1000, number * STEP_S / 3600
        for device, shift in fleet.items():
            work = (load or {}).get(device, 50) + rng.normal(0, 5)
            bar = 4.5 - 0.01 * work + own[device] + shift(hours) + rng.normal(0, 0.02)
            off = 20 * shift(hours)
            values = {"load": work, "oil_bar": bar, "tank": 50 + off, "free": 50 + off, "named": 70 + off}
            out.append(Message(device, 0, at, False, Reading(0, number, at, "running", values)))
    return out


def fresh(fleet: Mapping[str, Shift], profile: Profile = MODEL) -> Bank:
    bank = Bank({profile.name: profile}, (Operation, Trend, Peers))
    bank.place(Device(device, profile.name) for device in fleet)
    return bank


def hear(bank: Bank, stream: Sequence[Message]) -> None:
    """Take the stream in; what Trend finds on the way is not asked here."""
    assert {f.kind for f in bank.step(Batch.of(1, list(stream)))} <= {FaultKind.TREND}


def compared(bank: Bank, days: float) -> list[Finding]:
    """What a whole period of ticks finds so long after the beginning, that of oil pressure."""
    now = T0 + round(days * 86_400_000)
    found = [finding for second in range(PERIOD_S) for finding in bank.tick(now + second * 1000, 0)]
    return [finding for finding in found if finding.subject == "oil_bar"]


def others(count: int) -> dict[str, Shift]:
    return {f"n{number}": as_the_rest for number in range(count)}


def test_a_machine_unlike_the_others_is_found_once() -> None:
    fleet = {**others(6), "odd": lambda _: 1.0}
    bank = fresh(fleet)
    hear(bank, live(fleet, 1))
    (found,) = compared(bank, 1)
    assert (found.device_id, found.kind, found.opened) == ("odd", "peer", True)
    facts = found.evidence
    assert facts["value"] == pytest.approx(5.0, abs=0.1)
    assert facts["expected"] == pytest.approx(4.0, abs=0.1)
    assert facts["band"][0] < 4 < facts["band"][1] < 5
    assert (facts["peers"], facts["side"], facts["limit"], facts["unit"]) == (6, "above", 9, "bar")
    assert 0.5 < found.confidence <= 0.9
    assert compared(bank, 1.1) == []


@pytest.mark.parametrize(
    ("shift", "severity"),
    [(1.0, Severity.ROUTINE), (-0.8, Severity.ROUTINE), (-1.6, None)],  # None: the kind's own, urgent
)
def test_only_what_comes_near_its_limit_is_urgent(shift: float, severity: Severity | None) -> None:
    fleet = {**others(6), "odd": lambda _: shift}
    bank = fresh(fleet)
    hear(bank, live(fleet, 1))
    assert [(f.device_id, f.severity) for f in compared(bank, 1)] == [("odd", severity)]


UNSUSPICIOUS: dict[str, tuple[dict[str, Shift], dict[str, object]]] = {
    "too few others": ({**others(4), "odd": lambda _: 1.0}, {}),
    "less than the margin": ({**others(6), "odd": lambda _: 0.5}, {}),
    "a fleet of which no two are alike": ({**others(9), "odd": lambda _: 1.0}, {"spread": 1.2}),
    "a machine that works harder": ({**others(6), "hard": as_the_rest}, {"load": {"hard": 90}}),
    "weather that all of them share": (dict.fromkeys(others(8), lambda h: 1.2 * (h > 12)), {}),
}


@pytest.mark.parametrize("name", UNSUSPICIOUS)
def test_nothing_is_found_on(name: str) -> None:
    fleet, more = UNSUSPICIOUS[name]
    bank = fresh(fleet)
    hear(bank, live(fleet, 1, **more))  # type: ignore[arg-type]
    assert compared(bank, 1) == []


def test_a_change_is_found_where_no_two_are_alike() -> None:
    """Its level lies among the others' all the time; its own history tells."""
    fleet = {**others(9), "changed": lambda h: -1.6 * (h > 96)}
    bank = fresh(fleet)
    hear(bank, live(fleet, 4, spread=1.2))
    assert compared(bank, 4) == []
    hear(bank, live(fleet, 1.5, begin=4, spread=1.2))
    assert [(f.device_id, f.opened) for f in compared(bank, 5.5)] == [("changed", True)]


def test_it_clears_when_it_is_like_the_others_again() -> None:
    fleet = {**others(6), "odd": lambda h: 1.0 * (h < 24)}
    bank = fresh(fleet)
    hear(bank, live(fleet, 1))
    assert [f.opened for f in compared(bank, 1)] == [True]
    hear(bank, live(fleet, 0.2, begin=1))
    assert compared(bank, 1.2) == []
    hear(bank, live(fleet, 5, begin=1.2))
    assert [(f.device_id, f.opened) for f in compared(bank, 6.2)] == [("odd", False)]


def test_a_service_clears_it_and_old_levels_say_nothing() -> None:
    fleet = {**others(6), "odd": lambda _: 1.0}
    bank = fresh(fleet)
    hear(bank, live(fleet, 1))
    assert [f.opened for f in compared(bank, 1)] == [True]
    bank.serviced("odd")
    assert [f.opened for f in compared(bank, 1)] == [False]
    assert compared(bank, 1) == []
    again = fresh(fleet)
    hear(again, live(fleet, 1))
    assert compared(again, 5) == []


def test_what_the_desk_ended_is_found_anew() -> None:
    fleet = {**others(6), "odd": lambda _: 1.0}
    bank = fresh(fleet)
    hear(bank, live(fleet, 1))
    assert len(compared(bank, 1)) == 1
    bank.release("odd", FaultKind.PEER, "oil_bar")
    assert [f.opened for f in compared(bank, 1)] == [True]


def test_ticks_that_find_nothing_change_nothing_and_each_sensor_has_its_second() -> None:
    fleet = {**others(6), "odd": lambda _: 1.0}
    bank = fresh(fleet)
    hear(bank, live(fleet, 1))
    bank.snapshot()
    before, finding_seconds = bank.dump(), set()
    now = (T0 // (PERIOD_S * 1000) + 200) * PERIOD_S * 1000
    for second in range(PERIOD_S):
        found = bank.tick(now + second * 1000, 0)
        finding_seconds |= {(second, f.subject) for f in found}
        assert (bank.snapshot() == {}) == (not found)
    assert finding_seconds == {(1, "oil_bar"), (4, "named")}  # tank and free are nobody's measure
    after = bank.dump()
    assert {device for device in fleet if after[device] != before[device]} == {"odd"}


def test_a_restart_between_goes_on_the_same() -> None:
    fleet = {**others(6), "odd": lambda h: 1.0 * (h < 24)}
    stream = live(fleet, 6)
    straight, stopped, resumed = fresh(fleet), fresh(fleet), fresh(fleet)
    half = len(stream) // 6
    hear(straight, stream[:half])
    hear(stopped, stream[:half])
    first = compared(straight, 1)
    assert compared(stopped, 1) == first != []
    assert not resumed.restore(stopped.dump())
    hear(straight, stream[half:])
    hear(resumed, stream[half:])
    assert compared(resumed, 6) == compared(straight, 6) != []
    assert resumed.dump() == straight.dump()


def test_machines_of_another_model_are_no_peers() -> None:
    other = msgspec.structs.replace(MODEL, name="other")
    fleet = {**others(6), "odd": lambda _: 1.0}
    bank = Bank({"model": MODEL, "other": other}, (Operation, Trend, Peers))
    bank.place([Device(device, "other" if device == "odd" else "model") for device in fleet])
    hear(bank, live(fleet, 1))
    assert compared(bank, 1) == []
