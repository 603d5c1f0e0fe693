"""Backtests: what other rules would have made of what was stored; as the engine comes to it, and by the API."""

import threading
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from api.shapes import rfc3339
from monitor.engine.backtest import (
    NEAR_MS,
    SAME_MS,
    Against,
    Answer,
    Question,
    Stopped,
    backtest,
    differences,
    kept,
)
from monitor.engine.rehearsal import TicketTold
from monitor.readings import Batch, Message, Reading
from monitor.store import profiles
from tests import api_world
from tests.patience import PATIENCE_S
from tests.standard.world import HOT, MINUTE, RIG, T0, WELL, World

HOUR, DAY = 3_600_000, 86_400_000

# --- what is told of two lists of tickets ---


def ticket(
    number: int, minutes: float, *, device: str = "m1", kind: str = "limit", severity: str = "urgent"
) -> TicketTold:
    opened_at = T0 + round(minutes * 60_000)
    return TicketTold(number, device, None, kind, "temp_c", severity, "open", opened_at, opened_at, None, 0, ())


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ([ticket(1, 5)], [ticket(7, 5)], ([], [], [], 1)),
        ([ticket(1, 5)], [ticket(7, 5 + SAME_MS / 60_000)], ([], [], [], 1)),
        ([ticket(1, 5)], [ticket(7, 6.1)], ([], [(1, 7)], [], 0)),
        ([ticket(1, 5)], [ticket(7, 5, severity="routine")], ([], [(1, 7)], [], 0)),
        ([ticket(1, 5)], [], ([], [], [1], 0)),
        ([], [ticket(7, 5)], ([7], [], [], 0)),
        ([ticket(1, 5)], [ticket(7, 5, device="m2")], ([7], [], [1], 0)),
        # The nearest in time first: 1 became 7, and 8 is new.
        ([ticket(1, 10)], [ticket(8, 2), ticket(7, 12)], ([8], [(1, 7)], [], 0)),
        ([ticket(1, 5), ticket(2, 50)], [ticket(7, 49.5), ticket(8, 5)], ([], [], [], 2)),
        ([ticket(1, 5)], [ticket(7, 6 + NEAR_MS / 60_000)], ([7], [], [1], 0)),
        # What stored telemetry does not show is no difference.
        ([ticket(1, 5, kind="silent"), ticket(2, 5, kind="reported")], [ticket(7, 9, kind="wrong_clock")],
         ([], [], [], 0)),
        # Outside the time asked for; a pair counts when one of the two lies inside.
        ([ticket(1, -5)], [ticket(7, -2000)], ([], [], [], 0)),
        ([ticket(1, -5)], [ticket(7, 5)], ([], [(1, 7)], [], 0)),
        ([ticket(1, 60)], [ticket(7, -1)], ([], [(1, 7)], [], 0)),
    ],
)  # fmt: skip
def test_what_opened_moved_and_vanished(
    before: list[TicketTold], after: list[TicketTold], told: tuple[list[int], list[tuple[int, int]], list[int], int]
) -> None:
    found = differences(before, after, T0, T0 + 10 * DAY)

    assert (
        [ticket.ticket_id for ticket in found.opened],
        [(pair.before.ticket_id, pair.after.ticket_id) for pair in found.moved],
        [ticket.ticket_id for ticket in found.vanished],
        found.unchanged,
    ) == told


def test_messages_kept_of_a_batch_keep_their_samples_in_order() -> None:
    said = [Message("m1", 0, T0 + n, False, Reading(1, n, T0, "running", {"a": n, "b": -n})) for n in range(6)]
    batch = Batch.of(1, said)
    which = np.array([True, False, True, True, False, True])

    assert list(kept(batch, which).messages()) == [message for message, kept in zip(said, which, strict=True) if kept]


# --- on what a service stored ---


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Half an hour, only read by the tests: hot from minute 10 to 12, repaired at 15, hot again from 20 to 22, and
    warm all the time after."""
    world = World(tmp_path_factory.mktemp("backtest") / "home")
    machine = world.machine("m1")
    for minute in range(30):
        hot = 10 <= minute < 12 or 20 <= minute < 22
        if minute == 15:
            _end(world)
        for _ in range(6):
            machine.says(HOT if hot else {**WELL, "temp_c": 90} if minute > 22 else WELL)
            world.forward(seconds=10, every_s=10)
    yield world
    world.close()


def _end(world: World) -> None:
    [ticket] = world.tickets("limit")
    for verb in ("verify", "resolve", "close"):
        world.act(ticket.id, verb)


def _ask(world: World, changed: str | None = None, against: Against = Against.HAPPENED, from_at: int = T0) -> Answer:
    profile = profiles.parse_profile("rig", changed) if changed else None
    question = Question(T0 - HOUR, from_at, world.now, profile, against)
    return backtest(question, world.database, world.telemetry, world.desk.profiles)


def _counts(answer: Answer) -> tuple[int, int, int, int]:
    found = answer.differences
    return len(found.opened), len(found.moved), len(found.vanished), found.unchanged


def test_the_present_rules_come_to_what_happened(world: World) -> None:
    """The ticket that was closed in between and the one after it are two, here as there."""
    answer = _ask(world)

    assert len(world.tickets("limit")) == 2
    assert _counts(answer) == (0, 0, 0, 2)
    assert (answer.machines, answer.messages) == (1, 180)


@pytest.mark.parametrize("against", list(Against))
@pytest.mark.parametrize(
    ("high", "hold_s", "counts"),
    [
        (100, 0, (0, 0, 0, 2)),
        (130, 0, (0, 0, 2, 0)),
        (100, 90, (0, 2, 0, 0)),
        (100, 300, (0, 0, 2, 0)),
    ],
)
def test_changed_rules_beside_the_present_ones(
    world: World, against: Against, high: int, hold_s: int, counts: tuple[int, int, int, int]
) -> None:
    changed = RIG.replace("high = 100", f"high = {high}, hold_s = {hold_s}")

    assert _counts(_ask(world, changed, against)) == counts


def test_a_stricter_limit_holds_on_longer(world: World) -> None:
    """With a limit of 85 °C the warm readings after the second spell are beyond it too, long enough for any hold."""
    changed = RIG.replace("high = 100", "high = 85, hold_s = 200")
    [moved] = _ask(world, changed, Against.CURRENT).differences.moved

    assert moved.before.opened_at == T0 + 20 * MINUTE
    assert moved.after.opened_at > moved.before.opened_at + 3 * MINUTE


def test_only_tickets_from_then_on_count(world: World) -> None:
    assert _counts(_ask(world, from_at=T0 + 18 * MINUTE)) == (0, 0, 0, 1)


def test_it_stops_when_it_is_told_to(world: World) -> None:
    question = Question(T0 - HOUR, T0, world.now)
    calls = iter([False] * 60)

    with pytest.raises(Stopped) as stopped:
        backtest(question, world.database, world.telemetry, world.desk.profiles, lambda: next(calls, True))
    assert T0 + 5 * MINUTE < stopped.value.at < T0 + 15 * MINUTE


def test_it_changes_nothing(world: World) -> None:
    def everything() -> list[str]:
        with world.database.connect() as connection:
            return list(connection.connection.driver_connection.iterdump())  # type: ignore[union-attr]

    before = everything()
    _ask(world, RIG.replace("high = 100", "high = 50"))
    assert everything() == before


# --- by the API ---

GENERATOR = """
name = "diesel_generator"
title = "Generator"
title_zh = "发电机"
[[sensor]]
name = "coolant_temp_c"
limits = { high = 90, clear_margin = 3 }
"""


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[api_world.World]:
    with api_world.world(tmp_path_factory.mktemp("backtests")) as company:
        api_world.furnish(company)
        yield company


def _post(company: api_world.World, who: str = "ops", **body: object) -> httpx.Response:
    given = {"from": company.began - HOUR, "to": company.began, "learn_days": 0, **body}
    with company.client(who) as client:
        return client.post("/api/v1/backtests", json=given)


def test_the_api_tells_what_would_have_opened(company: api_world.World) -> None:
    """Coolant swings between 79 and 93 °C: nothing today, and a ticket a machine with a limit of 90."""
    answer = _post(company, profile=GENERATOR, against="current").json()

    assert {ticket["device_id"] for ticket in answer["opened"]} == {"gen-a", "gen-b"}
    first = answer["opened"][0]
    assert (first["kind"], first["subject"], first["severity"]) == ("limit", "coolant_temp_c", "urgent")
    assert first["opened_at"].endswith("Z")
    assert (answer["profile"], answer["against"]) == ("diesel_generator", "current")
    assert (answer["moved"], answer["vanished"], answer["unchanged"]) == ([], [], 0)
    assert answer["not_compared"] == ["silent", "wrong_clock", "reported"]
    # An hour of two machines, a message each ten seconds.
    assert answer["messages"] == 2 * 360
    assert answer["from"] == rfc3339(company.began - HOUR)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"from": "yesterday"}, "RFC 3339"),
        ({"from": 4_000_000_000_000}, "from must lie before to"),
        ({"from": 1_000_000_000_000}, "at most 92 days"),
        ({"learn_days": 32}, "less than or equal to 31"),
        ({"against": "tomorrow"}, "'happened' or 'current'"),
        ({"against": "current"}, "needs a profile"),
        ({"speed": 3}, "Extra inputs"),
        ({"profile": "name = "}, "profile: "),
        ({"profile": "x = " + "[" * 19_000}, "nested deeper"),
        ({"profile": GENERATOR + "colour = 3"}, "colour"),
        ({"profile": GENERATOR.replace("diesel_generator", "rocket")}, "'rocket' replaces none; known are: "),
        ({"profile": GENERATOR.replace("title_zh", "report_interval_s = 1e300\ntitle_zh")}, "out of all range"),
        ({"profile": "#" * 20_001}, "at most 20000"),
    ],
)
def test_what_cannot_be_asked_is_told(company: api_world.World, body: dict[str, object], said: str) -> None:
    answer = _post(company, **body)

    assert answer.status_code == 422, answer.text
    assert said in answer.json()["detail"]


def test_one_runs_at_a_time_and_ends_when_nobody_waits(company: api_world.World) -> None:
    company.measure("gen-yard", since=company.began - 3 * DAY, until=company.began)
    given_up = threading.Event()

    def impatient() -> None:
        """Asks for days of readings, and does not wait for the answer."""
        with company.client("ops") as client:
            while not given_up.is_set():
                try:
                    client.post("/api/v1/backtests", json={"from": company.began - 80 * DAY}, timeout=1.5)
                except httpx.ReadTimeout:
                    given_up.set()

    first = threading.Thread(target=impatient)
    first.start()
    found: list[int] = []
    deadline = time.monotonic() + PATIENCE_S
    while not (given_up.is_set() and found[-1:] == [200]):
        assert time.monotonic() < deadline, found
        found.append(_post(company, "manager", **{"from": company.began - 30_000}).status_code)
    first.join()

    assert set(found) == {200, 409}
