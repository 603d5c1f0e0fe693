"""The readings that a ticket keeps: on real stores, through crashes, outages and retention."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.desk.evidence import AFTER_MS, BEFORE_MS, SETTLE_MS, WEEK_MS
from monitor.desk.record import Record, joined
from monitor.engine import Copyist
from monitor.engine import evidence as copying
from monitor.readings import Arrival, Batch, Message, Reading
from monitor.store import evidence as store
from monitor.store import schema
from monitor.store.profiles import load_profiles
from monitor.store.telemetry import Telemetry, TelemetryUnavailable
from monitor.store.telemetry_opening import open_telemetry
from tests.standard.world import HOT, HOUR, MINUTE, T0, WELL, World

DAYS = 400


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "home")
    yield world
    world.close()


def copyist(world: World, telemetry: Telemetry | None = None, days: int = DAYS) -> Copyist:
    profiles = load_profiles(world.home / "profiles")
    return Copyist(world.database, telemetry or world.telemetry, profiles, retention_days=days)


def copies(world: World) -> dict[str, Any]:
    return {row.phase: row for row in world.rows(schema.evidence_copy)}


def kept(world: World, *phases: str) -> Record:
    """What the ticket has of its readings."""
    rows = world.rows(schema.evidence_copy)
    record = joined([store.unpacked(row.body) for row in rows if row.body and (not phases or row.phase in phases)])
    assert record is not None
    return record


def runs_hot(world: World, minutes: float = 16) -> None:
    """A machine that reports for a while, and then goes beyond its limit."""
    machine = world.machine()
    machine.talking = WELL
    world.forward(minutes=minutes, every_s=10)
    machine.talking = HOT
    world.forward(seconds=10)


def test_the_readings_before_and_after_stay_when_telemetry_is_gone(world: World) -> None:
    runs_hot(world)
    ticket = world.ticket("limit")
    copyist(world).tick(world.now)
    assert {phase: row.status for phase, row in copies(world).items()} == {"opening": "made", "after": "due"}
    world.forward(minutes=6, every_s=10)
    copyist(world).tick(world.now)
    world.machines["m1"].talking = WELL
    world.forward(minutes=10, every_s=10)
    copyist(world).tick(world.now)

    assert world.telemetry.expire(world.now + 1) > 0
    assert world.telemetry.messages("m1", 0, world.now) == []
    assert {(row.phase, row.status, row.complete) for row in world.rows(schema.evidence_copy)} == {
        ("opening", "made", True), ("after", "made", True), ("clearing", "made", True),
    }  # fmt: skip
    record, cleared_at = kept(world), world.ticket("limit").cleared_at
    at, value = record.course("temp_c")
    assert at.tolist() == list(range(int(at[0]), int(at[-1]) + 1, 10_000))
    assert ticket.occurred_at - BEFORE_MS <= at[0] < ticket.occurred_at - BEFORE_MS + 10_000
    assert at[-1] >= cleared_at + AFTER_MS - 10_000
    assert [v == 120.0 for v in value.tolist()] == [ticket.occurred_at <= t < cleared_at - 10_000 for t in at.tolist()]
    assert record.states() == [(int(at[0]), "running")]


def test_a_restart_between_opening_and_copy_loses_nothing(world: World) -> None:
    runs_hot(world)
    assert world.rows(schema.evidence_copy) == []
    world.restart(away_s=40)
    copyist(world).tick(world.now)
    assert copies(world)["opening"].complete
    for _ in range(3):
        copyist(world).tick(world.now)
    assert len(world.rows(schema.evidence_copy)) == 2


class Away:
    """A telemetry store that cannot be reached, before the real one."""

    def __getattr__(self, name: str) -> Any:
        raise TelemetryUnavailable(f"connection refused at {name}")


def test_a_copy_waits_for_telemetry_that_is_away(world: World) -> None:
    runs_hot(world)
    away: Any = Away()
    copyist(world, away).tick(world.now)
    row = copies(world)["opening"]
    assert (row.status, row.reason, row.tries) == ("due", "unavailable", 1)
    copyist(world).tick(world.now)
    assert copies(world)["opening"].status == "due", "not before its next try"
    world.now = row.next_try_at
    copyist(world).tick(world.now)
    row = copies(world)["opening"]
    assert (row.status, row.reason, row.complete, row.tries) == ("made", "", True, 2)


def test_a_copy_is_given_up_with_its_reason(world: World) -> None:
    runs_hot(world)
    away: Any = Away()
    for _ in range(2):
        copyist(world, away).tick(world.now)
        world.now += copying.AWAY_MS + HOUR
    copyist(world, away).tick(world.now)
    assert (copies(world)["opening"].status, copies(world)["opening"].reason) == ("given_up", "unavailable")
    told = len(world.rows(schema.change, what="evidence"))
    copyist(world, days=1).tick(world.now)
    assert (copies(world)["after"].status, copies(world)["after"].reason) == ("given_up", "expired")
    assert len(world.rows(schema.change, what="evidence")) > told, "the page hears of it"


def test_a_crash_while_copying_is_made_good(world: World) -> None:
    runs_hot(world)
    working = copyist(world)
    working._plan(world.now)
    with world.database.begin() as connection:
        (row,) = store.due(connection, world.now, 10)
        assert store.claim(connection, row, world.now + copying.CLAIM_MS)
        assert not store.claim(connection, row, world.now + copying.CLAIM_MS), "another process is faster"
    working.tick(world.now)
    assert copies(world)["opening"].status == "due"
    world.now += copying.CLAIM_MS
    working.tick(world.now)
    assert copies(world)["opening"].complete
    with world.database.begin() as connection:
        assert not store.save_made(connection, row.id, b"again", world.now, reason="")


def values(names: list[str], n: int) -> dict[str, float]:
    return {name: (n * 7919 + place) % 1000 / 7 for place, name in enumerate(names)}


def pour(world: World, since: int, until: int, step_ms: int, metrics: int = 11) -> None:
    """Telemetry of a machine that says much more than its model."""
    names = ["temp_c", "pressure_bar", *(f"x{n}" for n in range(metrics - 2))]
    messages = [
        Message("m1", 0, at, False, Reading(9, n, at, "running", values(names, n)))
        for n, at in enumerate(range(since, until, step_ms))
    ]
    world.telemetry.store(Batch.of(1_000_000, messages))


def test_a_copy_of_ten_readings_a_second_is_bounded(world: World) -> None:
    runs_hot(world, minutes=1)
    opened_at = world.ticket("limit").opened_at
    world.telemetry.expire(world.now + HOUR)
    pour(world, opened_at - 16 * MINUTE, opened_at + 6 * MINUTE, 100)
    copyist(world).tick(world.now)
    row, record = copies(world)["opening"], kept(world)
    assert len(record) * 11 <= copying.VALUES_A_COPY + 11 * copying.MESSAGES_A_READ
    assert record.at[-1] == opened_at
    assert len(record) >= (opened_at - record.full_from) // 100, "nothing is missing from full_from on"
    # 15 minutes of 10 readings a second and 11 values are a little less than the budget: nothing is reduced yet
    assert (row.complete, row.reason) == (True, "")
    assert row.bytes < 1_000_000

    # ten times as many: what lies next to the opening is whole, what lies before is reduced and said to be
    world.telemetry.expire(world.now + HOUR)
    pour(world, opened_at - 16 * MINUTE, opened_at + 6 * MINUTE, 25, metrics=14)
    world.now += 6 * MINUTE
    copyist(world).tick(world.now)
    row, record = copies(world)["after"], kept(world, "after")
    assert (row.status, row.complete, row.reason) == ("made", False, "reduced")
    assert len(record) * 14 <= copying.VALUES_A_COPY + 14 * copying.MESSAGES_A_READ
    assert {one.metric for one in record.reduced} >= {"temp_c", "pressure_bar", "x3"}
    assert max(len(one.at) for one in record.reduced) <= copying.BUCKETS
    assert record.full_from - record.start_at > MINUTE


def test_a_full_ticket_takes_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "TICKET_BYTES", 100)
    runs_hot(world)
    copyist(world).tick(world.now)
    assert copies(world)["opening"].bytes > 100
    world.forward(minutes=6, every_s=10)
    copyist(world).tick(world.now)
    assert (copies(world)["after"].status, copies(world)["after"].reason) == ("given_up", "ticket_full")


def test_a_fault_that_comes_again_adds_its_own_window(world: World) -> None:
    runs_hot(world)
    copyist(world).tick(world.now)
    world.machines["m1"].talking = WELL
    world.forward(minutes=30, every_s=10)
    copyist(world).tick(world.now)
    world.machines["m1"].talking = HOT
    world.forward(seconds=10)
    copyist(world).tick(world.now)
    (ticket,) = world.tickets("limit")
    openings = world.rows(schema.evidence_copy, phase="opening")
    assert [row.ticket_id for row in openings] == [ticket.id] * 2
    assert len({row.fault_id for row in openings}) == 2
    assert all(row.complete for row in openings)
    # the same again, five minutes after: it looks back no further than what is kept already
    world.machines["m1"].talking = WELL
    world.forward(minutes=5, every_s=10)
    world.machines["m1"].talking = HOT
    world.forward(seconds=10)
    copyist(world).tick(world.now)
    third = world.rows(schema.evidence_copy, phase="opening")[-1]
    assert third.end_at - third.start_at < 8 * MINUTE
    at = kept(world).course("temp_c")[0].tolist()
    assert len(at) == len(set(at))


def test_a_long_fault_is_kept_week_by_week(world: World) -> None:
    runs_hot(world)
    opened_at = world.now
    copyist(world).tick(world.now)
    step = HOUR
    messages = [
        Message("m1", 0, at, False, Reading(1, 10_000 + n, at, "running", {"temp_c": 110.0 + n % 5}))
        for n, at in enumerate(range(opened_at + 10 * MINUTE, opened_at + 2 * WEEK_MS + HOUR, step))
    ]
    world.telemetry.store(Batch.of(2_000_000, messages))
    world.now = opened_at + WEEK_MS + AFTER_MS + SETTLE_MS + 1
    copyist(world).tick(world.now)
    assert copies(world)["course"].complete
    world.now = opened_at + 2 * WEEK_MS + HOUR
    copyist(world).tick(world.now)
    world.machines["m1"].recovers()
    world.now += AFTER_MS + SETTLE_MS
    for _ in range(2):
        copyist(world).tick(world.now)
    rows = world.rows(schema.evidence_copy)
    assert [(row.phase, row.number) for row in rows] == [("opening", 0), ("after", 0), ("course", 0), ("course", 1),
                                                         ("clearing", 0)]  # fmt: skip
    reduced = [int(at) for row in rows for one in store.unpacked(row.body).reduced for at in one.at]
    assert len(reduced) == pytest.approx(len(messages), abs=3)
    assert reduced == sorted(set(reduced)), "each reading stands in one stretch"


def test_a_cancelled_ticket_keeps_its_end_too(world: World) -> None:
    runs_hot(world)
    world.act(world.ticket("limit").id, "cancel")
    world.forward(minutes=7, every_s=10)
    copyist(world).tick(world.now)
    assert {phase: row.status for phase, row in copies(world).items()} == dict.fromkeys(
        ("opening", "after", "clearing"), "made"
    )


def test_telemetry_goes_on_while_a_copy_is_made(world: World) -> None:
    """A copy holds no transaction while it reads: the intake commits meanwhile."""
    runs_hot(world)

    class Busy:
        def __getattr__(self, name: str) -> Any:
            def read(*args: Any) -> Any:
                world.now += 1_000
                world.observe(Arrival("m1", world.now, world.machines["m1"].reading(HOT)))
                return getattr(world.telemetry, name)(*args)

            return read

    busy: Any = Busy()
    copyist(world, busy).tick(world.now)
    assert copies(world)["opening"].complete


def test_a_body_is_read_as_it_was_written(world: World) -> None:
    runs_hot(world)
    world.machines["m1"].event("fault_set", code="P0217", text="t" * 400, other={"not": "kept"})
    world.telemetry.close()
    world.telemetry = open_telemetry(f"duckdb:{world.home / 'telemetry.duckdb'}")
    copyist(world).tick(world.now)
    record = kept(world, "opening")
    again = store.unpacked(store.packed(record))
    assert again.heads.tolist() == record.heads.tolist()
    assert (again.metrics, again.events) == (record.metrics, record.events)
    assert str(again.value.tolist()) == str(record.value.tolist())
    body = copies(world)["opening"].body
    for wrong in (b"", b"\x09" + body[1:], body[:-20], body[:1] + b"no zlib"):
        with pytest.raises(store.UnknownBody):
            store.unpacked(wrong)
    assert record.at[0] > T0


def test_a_fault_that_was_held_is_kept_up_to_its_ticket(world: World) -> None:
    """A weak sign waits for its ticket; what is kept reaches to where the ticket opened, and what follows goes on there
    whatever ticket takes the fault over."""
    runs_hot(world)
    ticket = world.ticket("limit")
    held_until = ticket.opened_at + 40 * MINUTE
    with world.database.begin() as connection:
        connection.execute(schema.ticket.update().values(opened_at=held_until))
    world.now = held_until
    copyist(world).tick(world.now)
    opening = copies(world)["opening"]
    assert (opening.end_at, opening.complete) == (held_until + 1, True)
    assert opening.start_at == ticket.occurred_at - BEFORE_MS
    with world.database.begin() as connection:
        connection.execute(schema.ticket.update().values(opened_at=held_until + 9 * MINUTE))
    world.machines["m1"].recovers()
    world.now += 20 * MINUTE
    copyist(world).tick(world.now)
    assert copies(world)["clearing"].start_at == copies(world)["after"].end_at == held_until + AFTER_MS
