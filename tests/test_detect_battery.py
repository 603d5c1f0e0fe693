"""The starter battery at rest: nights of different batteries, and what stands in the morning."""

from math import nan

import msgspec
import pytest

from monitor.detect import Bank
from monitor.devices import FaultKind, Profile, Sensor
from monitor.readings import Message
from tests.detecting import PUMP, T0, bank, outcome, reading, say, told

WEAK = ("weak_battery", "battery_v")
WATCHED = msgspec.structs.replace(PUMP, report_interval_s=300, battery_rest_low_v=12.4)
SLOT_S = 300


def nights(*courses: tuple[str, list[float]]) -> list[Message]:
    """A reading every five minutes: each course a state and the voltages shown in it."""
    shown = [(state, volts) for state, course in courses for volts in course]
    return [reading(i * SLOT_S, {"battery_v": volts}, state=state) for i, (state, volts) in enumerate(shown)]


def heard(*courses: tuple[str, list[float]]) -> str:
    return outcome(say(bank(WATCHED), nights(*courses)), *WEAK)


@pytest.mark.parametrize(
    ("courses", "fault"),
    [
        ([("off", [12.3] * 9)], "open"),  # half an hour of rest, then ten minutes below
        ([("off", [12.3] * 8)], "none"),  # below for five minutes only
        ([("off", [12.4] * 40)], "none"),  # on the limit is not below it
        ([("off", [12.3] * 6 + [12.5] + [12.3] * 2)], "none"),  # the ten minutes begin anew
        ([("off", [12.3] * 7 + [nan] + [12.3])], "open"),  # a missing value says nothing
        ([("running", [12.3] * 40)], "none"),  # what an alternator lacks is another fault
        ([("cranking", [9.0] * 40)], "none"),
        ([("off", [12.3] * 5), ("cranking", [9.5]), ("off", [12.3] * 5)], "none"),  # cranked: the rest begins anew
        ([("off", [12.3] * 9), ("running", [14.2] * 20)], "open"),  # charging does not show that it holds
        ([("off", [12.3] * 9), ("running", [14.2] * 20), ("off", [12.8] * 6)], "open"),  # not rested yet
        ([("off", [12.3] * 9), ("running", [14.2] * 20), ("off", [12.8] * 9)], "cleared"),
        ([("off", [12.3] * 9 + [12.5] * 20)], "open"),  # not higher by the margin
        ([("off", [12.3] * 9 + [12.8, 12.3] * 10)], "open"),  # not twice in a row
        ([("off", [12.3] * 9 + [12.8] * 2 + [12.3] * 3)], "open"),  # cleared, and found again
    ],
)
def test_a_battery_at_rest(courses: list[tuple[str, list[float]]], fault: str) -> None:
    assert heard(*courses) == fault


def test_it_says_how_low_and_since_when() -> None:
    (found,) = say(bank(WATCHED), nights(("running", [14.2]), ("off", [12.2] * 9)))
    assert (found.rule, found.severity, found.confidence, found.state) == ("battery/1", None, 1.0, "off")
    since_at = T0 + 7 * SLOT_S * 1000
    assert found.occurred_at == since_at
    assert found.evidence == {
        "value": 12.2, "limit": 12.4, "side": "below", "since_at": since_at, "hold_s": 600, "unit": "V",
    }  # fmt: skip


def opened() -> Bank:
    b = bank(WATCHED)
    assert told(say(b, nights(("off", [12.3] * 9)))) == [(*WEAK, "opened")]
    return b


@pytest.mark.parametrize(
    ("after", "readings"),
    [
        (
            msgspec.structs.replace(WATCHED, battery_rest_low_v=None),
            2,
        ),  # the model's batteries are not looked at any more
        (msgspec.structs.replace(WATCHED, battery_sensor="other_v", sensors=(*PUMP.sensors, Sensor("other_v"))), 2),
        (Profile(name="pump", title="", title_zh="", sensors=(Sensor("coolant_c"),)), 0),
    ],
)
def test_what_is_no_longer_looked_at_clears(after: Profile, readings: int) -> None:
    b = opened()
    b.update_profiles({"pump": after})
    night = nights(("off", [12.3] * 12))[9 : 9 + readings]
    found = say(b, night) or b.tick(T0 + 10**7, T0)
    assert told(found) == [(*WEAK, "cleared")]


def test_a_cancelled_ticket_is_found_again() -> None:
    b = opened()
    b.release("m1", FaultKind.WEAK_BATTERY, "battery_v")
    rest = nights(("off", [12.3] * 15))[9:]
    assert told(say(b, rest)) == [(*WEAK, "opened")]


@pytest.mark.parametrize("given", [{"battery_rest_low_v": 0.0}, {"battery_rest_low_v": 12.4, "battery_sensor": ""}])
def test_a_profile_says_which_battery_and_how_low(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="battery_rest_low_v must be positive, and needs a battery_sensor"):
        msgspec.structs.replace(PUMP, **given)  # type: ignore[arg-type]
