"""Clock: readings with their lag, and whether the machine's clock is to blame."""

from collections.abc import Iterable

import pytest

from monitor.detect import Reason
from monitor.readings import Message
from tests.detecting import PUMP, T0, bank, outcome, reading, say, told

WRONG = ("wrong_clock", "")


def lags(pairs: Iterable[tuple[float, float]]) -> list[Message]:
    """(heard so many seconds after T0, lagging by so many): late rows, as ingest marks them."""
    return [reading(heard - lag, late=lag > 300, lag_s=lag) for heard, lag in pairs]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (lags((i * 10, 3600) for i in range(8)), "open"),
        (lags((i * 10, 3600) for i in range(6)), "none"),  # 50 s
        (lags((i * 30, 3600) for i in range(4)), "none"),  # four messages
        (lags((i * 10, 300) for i in range(20)), "none"),  # within tolerance
        (lags((i * 10, 3600 + (i % 3) * 2) for i in range(12)), "open"),  # a jittering network
        (lags((i * 0.1, 36_000 - i * 9.9) for i in range(3000)), "none"),  # a backlog sent at 100 times real time
        (lags((i * 1.0, 86_400 - i * 1.0) for i in range(600)), "none"),  # a long backlog at twice real time
        (lags((i * 5, 3600 if i % 2 else 1) for i in range(30)), "none"),  # a backlog between live readings
        (lags([*((i * 10, 3600) for i in range(8)), *((80 + i * 10, 0) for i in range(2))]), "open"),
        (lags([*((i * 10, 3600) for i in range(8)), *((80 + i * 10, 0) for i in range(3))]), "cleared"),
    ],
)
def test_behind(rows: list[Message], fault: str) -> None:
    assert outcome(say(bank(PUMP), rows), *WRONG) == fault


def test_ahead_is_said_once_and_cleared_by_three_sane_readings() -> None:
    b = bank(PUMP)
    (found,) = b.clock_ahead("m1", T0 + 900_000, T0)
    assert (found.kind, found.occurred_at) == ("wrong_clock", T0)
    assert found.evidence == {"reason": Reason.CLOCK_AHEAD, "lag_s": -900}
    assert b.clock_ahead("m1", T0 + 910_000, T0 + 10_000) == []
    assert b.clock_ahead("stranger", T0 + 910_000, T0 + 10_000) == []
    assert say(b, [reading(20), reading(30)]) == []
    assert b.clock_ahead("m1", T0 + 910_000, T0 + 35_000) == []
    assert told(say(b, [reading(40), reading(50), reading(60)])) == [("wrong_clock", "", "cleared")]
