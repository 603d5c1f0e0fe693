"""What every detector may know of a machine: what it is doing, since when, and whether a fault stands open on it."""

import pytest

from monitor.detect import Bank
from monitor.detect.operation import Operation
from monitor.devices import FaultKind
from monitor.readings import Message, Status
from tests.detecting import PUMP, T0, bank, event, reading, say

START = [reading(0, state="off"), reading(10, state="running")]


def operation(of: Bank) -> dict[str, int]:
    record = of._memory.device[Operation.name][0]
    return {name: int(record[name]) for name in record.dtype.names}


@pytest.mark.parametrize(
    ("then", "since_s"),
    [
        ([reading(20), reading(30)], 10),
        ([reading(20), reading(30, state="off")], 30),
        ([reading(20), reading(61)], 61),  # longer than three reports: nobody knows what it did meanwhile
        ([reading(20), reading(50)], 10),
        ([reading(20), reading(15)], 15),  # the clock went back
        ([reading(20), reading(30, boot=1)], 30),
        ([event(20, "stopped"), reading(30)], 10),  # an event carries no state
        ([reading(20, late=True, state="off"), reading(30)], 10),
    ],
)
def test_since_when_a_machine_does_what_it_does(then: list[Message], since_s: int) -> None:
    watching = bank(PUMP)
    say(watching, [*START, *then])
    assert operation(watching)["since_at"] == T0 + since_s * 1000


def test_counts_the_faults_of_every_detector_until_they_clear() -> None:
    watching = bank(PUMP)
    hot = [reading(s, {"coolant_c": 120, "pressure_bar": 12}) for s in range(20, 60, 10)]
    say(watching, [*START, *hot, event(60, "fault_set", {"code": "a"}), event(61, "fault_set", {"code": "b"})])
    assert operation(watching)["faults"] == 4
    say(
        watching,
        [event(62, "fault_cleared", {"code": "a"}), reading(70, {"pressure_bar": 5}), reading(80, {"pressure_bar": 5})],
    )
    assert operation(watching)["faults"] == 2
    watching.release("m1", FaultKind.LIMIT, "coolant_c")
    watching.release("m1", FaultKind.LIMIT, "coolant_c")
    assert operation(watching)["faults"] == 1


def test_counts_what_shows_in_nothing_being_heard() -> None:
    watching = bank(PUMP)
    say(watching, START)
    watching.tick(T0 + 3_600_000, T0)
    assert operation(watching)["faults"] == 1
    watching.status("m1", Status("online", T0 + 3_600_000), T0 + 3_600_000)
    assert operation(watching)["faults"] == 0
