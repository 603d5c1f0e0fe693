"""The watch on real stores: what it takes in, what it decides, and that neither a crash nor a redelivery shows."""

import random
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError, OperationalError

from monitor.detect import Bank
from monitor.detect.detector import Detector, Fields, State
from monitor.detect.limits import Limits
from monitor.detect.registry import DETECTORS
from monitor.engine.intake import AHEAD_MS, LATE_MS
from monitor.readings import Arrival, Event, Reading, Rejected, Reply, Status
from monitor.sequence import GAP_WAIT_MS
from monitor.store import schema
from monitor.store.watching import OwnerChanged
from tests.standard.world import HOT, HOUR, MINUTE, T0, WELL, Broken, Machine, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "home")
    yield world
    world.close()


# --- a restart does not show ---------------------------------------------------------------------------------------


class Say(NamedTuple):
    """One thing that comes in: which machine, which number, and how long after the one before."""

    device: int
    what: str
    pause_ms: int
    number: int


SAYINGS = st.lists(
    st.builds(
        Say,
        st.integers(0, 2),
        st.sampled_from(["well", "hot", "low", "late", "again", "swap", "boot", "ahead", "bad", "reply", "start",
                         "code", "online", "lost", "offline", "tick", "older"]),
        st.sampled_from([0, 10, 1_000, 4_000, 7_000, 31_000]),
        st.integers(0, 3),
    ),
    min_size=5, max_size=60,
)  # fmt: skip


class Script:
    """Turns sayings into arrivals and ticks: the same for every world that it is played to."""

    def __init__(self, sayings: list[Say]) -> None:
        self.moments: list[tuple[int, Arrival | None]] = []
        self.now = T0
        self.boot, self.seq = [1, 1, 1], [0, 0, 0]
        self.said: list[list[Arrival]] = [[], [], []]
        for say in sayings:
            self.now += say.pause_ms
            self._put(say)
        # In peace at the end: every gap is given up after its wait, which our own absence prolongs.
        self.troubled = len(self.moments)
        self.moments += [(self.now + wait, None) for wait in (GAP_WAIT_MS, GAP_WAIT_MS + 1_000, 2 * GAP_WAIT_MS)]

    def _put(self, say: Say) -> None:
        if say.what == "tick":
            self.moments.append((self.now, None))
            return
        device, said = say.device, self.said[say.device]
        if say.what == "again":
            self.moments += [(self.now, said[-1 - say.number]._replace(received_at=self.now))] if len(said) > 3 else []
        elif say.what == "swap":
            for values in (HOT, WELL):
                self._say(device, self._reading(device, values))
            self.moments[-2:] = reversed(self.moments[-2:])
        else:
            self._say(device, self._body(say))

    def _say(self, device: int, body: Reading | Event | Status | Reply | Rejected) -> None:
        arrival = Arrival(f"m{device}", self.now, body)
        if isinstance(body, Reading | Event):
            self.said[device].append(arrival)
        self.moments.append((self.now, arrival))

    def _body(self, say: Say) -> Reading | Event | Status | Reply | Rejected:
        device, boot = say.device, self.boot[say.device]
        if say.what in ("online", "lost", "offline"):
            return Status(say.what, self.now - say.number, boot, "powered_off" if say.what == "offline" else "")  # type: ignore[arg-type]
        if say.what == "reply":
            return Reply(f"r{self.now}", self.now, True)
        if say.what == "bad":
            return Rejected("bad_json", "no JSON", f"m{device}/telemetry", b"{")
        if say.what in ("start", "code"):
            event = "start_requested" if say.what == "start" else ("fault_set", "fault_cleared")[say.number % 2]
            return Event(boot, self._next(device), self.now, event, {"code": "P0217"} if say.what == "code" else {})  # type: ignore[arg-type]
        if say.what == "boot":
            self.boot[device] += 1
            self.seq[device] = 0
        if say.what == "older":
            return Reading(max(0, boot - 1), 1_000 + say.number, self.now, "running", WELL)
        at = {"late": self.now - LATE_MS - 2 * HOUR, "ahead": self.now + AHEAD_MS + 1 + say.number}.get(
            say.what, self.now
        )
        return self._reading(device, {"hot": HOT, "low": {"pressure_bar": 0.5}}.get(say.what, WELL), at)

    def _reading(self, device: int, values: dict[str, float], at: int | None = None) -> Reading:
        return Reading(self.boot[device], self._next(device), self.now if at is None else at, "running", values)

    def _next(self, device: int) -> int:
        self.seq[device] += 1
        return self.seq[device] - 1

    def play(self, world: World, breaks: set[int], *, restarting: bool) -> None:
        """Play it; before the moments in `breaks` there is a tick, and if `restarting`, the service ends without a
        goodbye before that and starts again at once.

        Not while a message is parked: its gap is then given up later than without a restart, and what it meets by
        then may rightly differ (the tests below walk through that by hand).
        """
        for number, (now, arrival) in enumerate(self.moments):
            world.now = now
            if number in breaks and not world.rows(schema.parked):
                if restarting:
                    world.restart()
                world.watch.tick(now, attending=True)
            if arrival is None:
                world.watch.tick(now, attending=True)
            else:
                world.watch.observe([arrival], now)


def company(folder: Path) -> World:
    world = World(folder)
    for number in range(3):
        world.machine(f"m{number}")
    return world


def record(world: World) -> dict[str, object]:
    """All that must be the same however often the service was restarted."""
    return {
        "bank": world.watch.bank.dump(),
        "history": [sorted(world.history(f"m{number}"), key=lambda message: message.name) for number in range(3)],
        "seen": [world.seen(f"m{number}") for number in range(3)],
        "faults": [tuple(row) for row in world.rows(schema.fault)],
        "tickets": [tuple(row) for row in world.rows(schema.ticket)],
        "notices": [row.cause for row in world.rows(schema.notice)],
        "rejected": world.rejected(),
    }


@settings(max_examples=12, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(SAYINGS, st.randoms(use_true_random=False))
def test_restarts_at_any_moment_end_in_the_same_state(sayings: list[Say], rng: random.Random) -> None:
    script = Script(sayings)
    breaks = {number for number in range(script.troubled) if rng.random() < 0.15}
    with tempfile.TemporaryDirectory() as folder:
        one, other = company(Path(folder) / "steady"), company(Path(folder) / "restarted")
        script.play(one, breaks, restarting=False)
        script.play(other, breaks, restarting=True)
        other.restart()
        steady, restarted = record(one), record(other)
        one.close()
        other.close()
    for what, value in steady.items():
        assert restarted[what] == value, what


@pytest.mark.parametrize(
    "said",
    [
        Rejected("bad_json", "no JSON", "m0/telemetry", b"{"),
        Reply("r1", T0, True),
        Reading(1, 1, T0 + HOUR, "running", WELL),
        Status("online", T0, 1),
    ],
)
def test_what_no_replay_brings_back_is_saved_at_once(tmp_path: Path, said: Rejected | Reply | Reading | Status) -> None:
    world = company(tmp_path / "home")
    world.known("m0").says()
    world.now += 4_000
    world.known("m0").send(said)  # type: ignore[arg-type]
    before = record(world)
    world.restart()
    assert record(world) == before
    world.close()


# --- a commit that fails -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["progress", "ticket", "notice", "snapshot", "change"])
def test_a_commit_that_fails_decides_nothing_and_its_retry_everything_once(tmp_path: Path, table: str) -> None:
    smooth, rough = company(tmp_path / "smooth"), company(tmp_path / "rough")
    for world in (smooth, rough):
        world.known("m0").says()
        world.watch.tick(world.now, attending=True)
        world.person("Tian", "technician")
    heat = [Arrival("m0", T0, body) for body in (rough.known("m0").reading(HOT), rough.known("m0").reading(HOT))]
    before = record(rough) | {"bank": None}
    with Broken(rough, table), pytest.raises(IntegrityError):
        rough.watch.observe(heat, T0)
    assert record(rough) | {"bank": None, "history": before["history"]} == before
    for world in (smooth, rough):
        world.watch.observe(heat, T0)
    assert len(rough.tickets("limit")) == 1
    assert record(rough) == record(smooth)
    smooth.close()
    rough.close()


def test_a_database_locked_by_another_takes_nothing_and_loses_nothing(world: World) -> None:
    machine = world.machine()
    machine.says()
    late = Arrival("m1", T0, machine.reading(HOT))
    with world.database.engine.connect() as impatient:
        impatient.exec_driver_sql("PRAGMA busy_timeout=50")
    other = sqlite3.connect(world.home / "fettle.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    # The pool hands the watch the connection that was made impatient above.
    with pytest.raises(OperationalError, match="locked"):
        world.watch.observe([late], T0)
    assert world.tickets() == []
    other.close()
    world.watch.observe([late], T0)
    assert len(world.tickets("limit")) == 1
    assert [message.body.seq for message in world.history("m1")] == [0, 1]


def test_a_tick_that_could_not_be_saved_finds_the_silence_again(world: World) -> None:
    world.machine().says()
    world.forward(seconds=25)
    with Broken(world, "ticket"), pytest.raises(IntegrityError):
        world.forward(seconds=10)
    assert world.tickets() == []
    world.forward(seconds=10)
    assert len(world.faults("silent")) == 1


def test_a_watch_whose_place_was_taken_writes_nothing_more(world: World) -> None:
    machine = world.machine()
    old = world.watch
    world.open()
    with pytest.raises(OwnerChanged):
        old.observe([Arrival("m1", T0, machine.reading(HOT))], T0)
    machine.seq = 0
    machine.says()
    assert world.tickets() == []
    assert world.seen("m1") == [(0, 1, 1, 0)]


# --- redelivered, reordered, missing -------------------------------------------------------------------------------


def test_duplicates_change_nothing(world: World) -> None:
    machine = world.machine()
    bodies = [machine.reading(values) for values in (WELL, HOT, WELL, WELL, HOT)]
    machine.send(*bodies)
    before = record(world)
    machine.send(*bodies, bodies[0], bodies[4])
    world.restart()
    machine.send(*reversed(bodies))
    assert record(world) == before
    assert world.watch.counters.redelivered == 5


def test_a_name_used_twice_is_rejected_and_shown(world: World) -> None:
    machine = world.machine()
    machine.says()
    machine.seq = 0
    machine.says(HOT)
    machine.seq = 0
    machine.says(WELL, at=world.now - 1)
    assert world.rejected() == ["boot_reused", "boot_reused"]
    assert world.tickets() == []
    assert [message.body.values for message in world.history("m1")] == [WELL]


def test_what_is_missing_is_counted_and_waited_for_no_longer_than_agreed(world: World) -> None:
    machine = world.machine()
    listening(world)
    machine.says()
    machine.seq = 4
    machine.says(HOT)
    world.forward(seconds=5, every_s=1)
    assert world.tickets() == []
    world.forward(seconds=1, every_s=1)
    assert len(world.tickets("limit")) == 1
    assert world.seen("m1") == [(0, 1, 2, 3)]


def test_a_missing_message_that_comes_after_all_fills_its_gap_and_pages_nobody(world: World) -> None:
    machine = world.machine()
    listening(world)
    machine.says()
    missing = [machine.reading(HOT), machine.reading(HOT)]
    machine.says()
    world.forward(seconds=7, every_s=1)
    machine.send(*missing)
    assert world.seen("m1") == [(0, 1, 4, 0)]
    assert [(m.body.seq, m.late) for m in world.history("m1")] == [(0, False), (3, False), (1, True), (2, True)]
    assert world.tickets() == []


def test_a_gap_is_not_given_up_while_nobody_could_listen(world: World) -> None:
    """What is missing comes again once the broker is back, so its wait begins anew."""
    machine = world.machine()
    listening(world)
    machine.says()
    missing = machine.reading(HOT)
    machine.says(HOT)
    world.forward(seconds=2, every_s=1)
    world.forward(seconds=30, every_s=1, attending=False)
    world.forward(seconds=3, every_s=1)
    machine.send(missing)
    assert [(m.body.seq, m.late) for m in world.history("m1")] == [(0, False), (1, False), (2, False)]
    assert len(world.tickets("limit")) == 1


@pytest.mark.parametrize("away_s", [0, 60])
def test_a_gap_is_not_given_up_over_a_restart(world: World, away_s: int) -> None:
    machine = world.machine()
    listening(world)
    machine.says()
    missing = machine.reading(HOT)
    machine.says(HOT)
    world.forward(seconds=4, every_s=1)
    world.restart(away_s)
    world.forward(seconds=4, every_s=1)
    machine.send(missing)
    assert [(m.body.seq, m.late) for m in world.history("m1")] == [(0, False), (1, False), (2, False)]


def listening(world: World) -> None:
    """A watch that has been listening for a while."""
    world.forward(seconds=10, every_s=1)


# --- whom it takes something from ----------------------------------------------------------------------------------


def test_only_live_telemetry_says_that_a_machine_still_sends(world: World) -> None:
    def live() -> int | None:
        world.forward(seconds=6)
        return world.rows(schema.device)[0].live_at

    machine = world.machine()
    machine.status("online")
    assert live() is None
    machine.says()
    said_at = world.now
    assert live() == said_at
    world.now += 10 * MINUTE
    machine.status("lost")
    machine.says(at=world.now - LATE_MS - 1)
    assert live() == said_at
    # While we were away it went on, and ended: what its broker kept for us is news, and old.
    world.restart(away_s=1200)
    machine.says(at=world.now - LATE_MS - 1)
    assert not world.history("m1")[-1].late
    assert live() == said_at
    machine.says()
    assert live() == world.now - 6_000


def test_an_unknown_device_is_rejected_and_taken_as_soon_as_it_is_known(world: World) -> None:
    stranger = world.known("m1")
    stranger.says()
    assert world.rejected() == ["unknown_device"]
    world.machine("m1")
    stranger.seq = 0
    stranger.says(HOT)
    assert len(world.tickets("limit")) == 1
    assert world.seen("m1") == [(0, 1, 1, 0)]


def test_a_revoked_device_is_rejected(world: World) -> None:
    machine = world.machine()
    machine.says()
    world.registry.revoke_device("m1", world.now)
    world.tick()
    machine.says(HOT)
    assert world.rejected() == ["unknown_device"]
    assert world.tickets() == []
    world.registry.renew_device("m1", world.now)
    machine.seq = 0
    machine.says(HOT)
    assert len(world.tickets("limit")) == 1


def test_a_renewed_device_begins_a_new_generation(world: World) -> None:
    machine = world.machine()
    machine.boot = 7
    machine.says()
    machine.says()
    world.registry.renew_device("m1", world.now)
    world.tick()
    machine.boot, machine.seq = 1, 0
    machine.says()
    assert world.seen("m1") == [(0, 7, 2, 0), (1, 1, 1, 0)]
    assert world.rejected() == []
    assert [message.late for message in world.history("m1")] == [False] * 3


@pytest.mark.parametrize("away_when", ["it is renewed", "it has been heard"])
def test_a_restart_around_a_renewal_does_not_show(tmp_path: Path, away_when: str) -> None:
    steady, away = company(tmp_path / "steady"), company(tmp_path / "away")
    for world in (steady, away):
        machine = world.known("m0")
        machine.boot = 7
        machine.says()
        world.watch.tick(world.now, attending=True)
        world.registry.renew_device("m0", world.now)
        if world is away and away_when == "it is renewed":
            world.restart()
        machine.boot, machine.seq = 1, 0
        machine.says()
    away.restart()
    assert record(away) == record(steady)
    steady.close()
    away.close()


@pytest.mark.parametrize("end", ["renew_device", "revoke_device"])
@pytest.mark.parametrize("restarted", [False, True])
def test_what_waits_behind_a_gap_is_kept_when_its_device_is_renewed_or_revoked(
    world: World, end: str, restarted: bool
) -> None:
    machine = world.machine()
    machine.says()
    machine.seq += 1
    machine.says()
    getattr(world.registry, end)("m1", world.now)
    world.tick()
    if restarted:
        world.restart()
    world.forward(seconds=10, every_s=1)
    assert world.rows(schema.parked) == []
    assert [message.body.seq for message in world.history("m1")] == [0, 2]
    assert world.seen("m1") == [(0, 1, 2, 1)]


# --- clocks that are wrong -----------------------------------------------------------------------------------------


def test_a_clock_too_far_ahead_is_rejected_and_a_fault_of_its_own(world: World) -> None:
    machine = world.machine()
    machine.says(at=world.now + AHEAD_MS)
    assert world.rejected() == []
    machine.says(HOT, at=world.now + AHEAD_MS + 1)
    assert world.rejected() == ["clock_ahead"]
    assert world.tickets("limit") == []
    assert world.ticket("wrong_clock").severity == "routine"
    for _ in range(3):
        machine.says()
    assert world.ticket("wrong_clock").cleared_at is not None


def test_a_rejected_message_that_comes_again_later_is_rejected_once(world: World) -> None:
    """Its clock may look right by then, and its name is used up all the same."""
    machine = world.machine()
    machine.says()
    ahead = machine.says(at=world.now + AHEAD_MS + 1)
    world.restart(away_s=10)
    machine.send(ahead)
    assert world.rejected() == ["clock_ahead"]
    assert len(world.history("m1")) == 1


def test_what_waited_behind_a_gap_and_is_then_rejected_becomes_a_dead_letter(world: World) -> None:
    machine = world.machine()
    listening(world)
    machine.says()
    machine.seq += 1
    machine.says(at=world.now + AHEAD_MS + 1)
    world.forward(seconds=7, every_s=1)
    assert world.rejected() == ["clock_ahead"]
    assert world.rows(schema.parked) == []
    assert len(world.tickets("wrong_clock")) == 1


# --- late data -----------------------------------------------------------------------------------------------------


def test_a_backlog_pages_nobody(world: World) -> None:
    machine = world.machine()
    listening(world)
    machine.says()
    for minutes in (8, 7, 6):
        machine.says(HOT, at=world.now - minutes * MINUTE)
    assert world.tickets() == []
    assert [message.late for message in world.history("m1")] == [False, True, True, True]
    machine.says(HOT, at=world.now - 4 * MINUTE)
    assert len(world.tickets("limit")) == 1


def test_a_backlog_of_our_own_making_is_judged_as_if_it_had_come_in_time(world: World) -> None:
    machine = world.machine()
    listening(world)
    machine.says()
    held = []
    for _ in range(20):
        world.now += MINUTE
        held.append(machine.reading(HOT if len(held) == 2 else WELL))
    world.restart()
    machine.send(*held)
    assert [message.late for message in world.history("m1")] == [False] * 21
    assert len(world.faults("limit")) == 1
    assert world.ticket("limit").cleared_at is not None


def test_the_excuse_of_our_own_gap_ends(world: World) -> None:
    machine = world.machine()
    listening(world)
    machine.says()
    left_at = world.now
    world.restart(away_s=20 * 60)
    world.forward(minutes=11, every_s=4)
    machine.says(HOT, at=left_at + MINUTE)
    assert world.tickets("limit") == []


# --- silence, ours and theirs --------------------------------------------------------------------------------------


def test_a_machine_that_falls_silent_is_found(world: World) -> None:
    world.machine().says()
    world.forward(seconds=29, every_s=1)
    assert world.tickets() == []
    world.forward(seconds=3, every_s=1)
    assert [fault.kind for fault in world.rows(schema.fault)] == ["silent"]


@pytest.mark.parametrize("how", ["no ticks", "not attending", "restart"])
def test_our_own_gap_is_nobodys_silence(world: World, how: str) -> None:
    quiet, talking = world.machine("quiet"), world.machine("talking")
    listening(world)
    quiet.says()
    talking.says()
    if how == "no ticks":
        world.now += 10 * MINUTE
    elif how == "not attending":
        world.forward(minutes=10, every_s=5, attending=False)
    else:
        world.restart(away_s=600)
    talking.talking = WELL
    # A firmware that backs off by doubling may come back two minutes after us, and then has a report to make.
    world.forward(seconds=125, every_s=1)
    assert world.tickets() == []
    world.forward(seconds=15, every_s=1)
    assert [ticket.device_id for ticket in world.tickets()] == ["quiet"]


def test_after_a_short_gap_of_our_own_silence_is_found_as_ever(world: World) -> None:
    quiet = world.machine("quiet")
    quiet.says()
    world.restart(away_s=8)
    world.forward(seconds=29, every_s=1)
    assert world.tickets() == []
    world.forward(seconds=3, every_s=1)
    assert [ticket.device_id for ticket in world.tickets()] == ["quiet"]


def test_a_polite_goodbye_is_no_silence_and_a_last_will_is(world: World) -> None:
    polite, lost = world.machine("polite"), world.machine("lost")
    for machine in (polite, lost):
        machine.status("online")
        machine.says()
    world.now += 1000
    polite.status("offline")
    lost.status("lost", at=T0)
    world.restart()
    world.forward(minutes=2, every_s=5)
    assert [ticket.device_id for ticket in world.tickets("silent")] == ["lost"]


def test_a_rejected_message_proves_life(world: World) -> None:
    world.machine().says()
    for _ in range(4):
        world.forward(seconds=20, every_s=1)
        world.observe(Arrival("m1", world.now, Rejected("bad_json", "no JSON", "m1/telemetry", b"{")))
    assert world.tickets() == []


# --- starts --------------------------------------------------------------------------------------------------------


def test_the_start_time_out_counts_through_missing_data_and_silence_joins_its_ticket(world: World) -> None:
    world.machine().fails_to_start()
    failed = world.ticket("startup_failure")
    assert failed.severity == "emergency"
    world.forward(minutes=2, every_s=2)
    assert [fault.ticket_id for fault in world.faults("silent")] == [failed.id]
    assert len(world.tickets()) == 1


def test_a_pending_start_survives_a_restart(world: World) -> None:
    machine = world.machine()
    machine.says({}, state="off")
    machine.event("start_requested")
    world.forward(seconds=10, every_s=1)
    world.restart()
    world.forward(seconds=31, every_s=1)
    assert len(world.tickets("startup_failure")) == 1


def test_replay_at_start_opens_and_clears_nothing_twice(world: World) -> None:
    machine = world.machine()
    world.person("Tian", "technician")
    for _ in range(5):
        machine.goes_hot()
        machine.recovers()
        machine.event("fault_set", code="P0217")
        machine.event("fault_cleared", code="P0217")
        world.restart()
    before = record(world)
    for _ in range(3):
        world.restart()
    assert record(world) == before
    assert (len(world.faults("limit")), world.ticket("limit").recurrences) == (5, 4)
    assert (len(world.faults("fault_code")), world.ticket("fault_code").recurrences) == (5, 4)
    assert len(world.tickets()) == 2


def test_two_sensors_are_two_faults_and_clear_each_for_itself(world: World) -> None:
    machine = world.machine()
    both = {"temp_c": 120.0, "pressure_bar": 1.0}
    for _ in range(4):
        machine.says(both)
        world.now += 10_000
    assert {(t.subject, t.cleared_at) for t in world.tickets("limit")} == {("temp_c", None), ("pressure_bar", None)}
    machine.says(both | {"temp_c": 60.0})
    machine.says(both | {"temp_c": 60.0})
    assert [t.subject for t in world.tickets("limit") if t.cleared_at is not None] == ["temp_c"]


# --- detectors that begin anew ---------------------------------------------------------------------------------------


class LimitsNext(Limits):
    """The same detector as its next version would be."""

    version = 2


def test_a_new_version_of_one_detector_loses_no_fault_of_another(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A code is said once; whoever forgot it would never hear of it again."""
    machine = world.machine()
    machine.event("fault_set", code="P0217")
    machine.goes_hot()
    upgraded = tuple(LimitsNext if detector is Limits else detector for detector in DETECTORS)
    monkeypatch.setattr(Bank.__init__, "__defaults__", (upgraded,))
    world.restart()
    world.tick()
    assert [fault.kind for fault in world.rows(schema.fault, cleared_at=None)] == ["fault_code"]
    world.now += 10_000
    machine.goes_hot()
    machine.event("fault_cleared", code="P0217")
    assert [fault.kind for fault in world.rows(schema.fault, cleared_at=None)] == ["limit"]
    assert (len(world.tickets("limit")), world.ticket("limit").recurrences) == (1, 1)


def test_a_snapshot_that_is_damaged_forgets_every_fault_of_its_machine_and_of_no_other(world: World) -> None:
    for device_id in ("m1", "m2"):
        world.machine(device_id).event("fault_set", code="P0217")
    with world.database.begin() as connection:
        connection.execute(schema.snapshot.update().where(schema.snapshot.c.device_id == "m1").values(state=b"?"))
    world.restart()
    world.tick()
    assert [fault.device_id for fault in world.rows(schema.fault, cleared_at=None)] == ["m2"]


class Told(Detector):
    """Counts how often it was told of a repair."""

    name = "told"
    device_fields: ClassVar[Fields] = [("times", "<i4")]

    def serviced(self, state: State, row: int) -> None:
        state.device["times"][row] += 1


@pytest.mark.parametrize("end", [["resolve"], ["resolve", "close"], ["cancel"]])
@pytest.mark.parametrize("breaks", ["no", "restart", "commit"])
def test_a_repair_is_told_to_the_detectors_exactly_once(
    world: World, monkeypatch: pytest.MonkeyPatch, end: list[str], breaks: str
) -> None:
    monkeypatch.setattr(Bank.__init__, "__defaults__", ((*DETECTORS, Told),))
    world.restart()
    ada = world.person("Ada", "technician")
    machine = world.machine()
    machine.goes_hot()
    for verb in ("accept", "start-repair", *end):
        world.act(world.tickets()[0].id, verb, technician_id=ada if verb == "accept" else None)
    if breaks == "commit":
        with Broken(world, "snapshot"), pytest.raises(IntegrityError):
            world.tick()
    if breaks != "no":
        world.restart()
    for _ in range(3):
        world.tick()
    world.restart()
    world.tick()
    row = world.watch.bank._memory.row["m1"]
    assert world.watch.bank._memory.device["told"]["times"][row] == (0 if end == ["cancel"] else 1)
    assert world.rows(schema.serviced) == []


# --- what the desk ends, and what comes back ------------------------------------------------------------------------


@pytest.mark.parametrize("end", [["cancel"], ["accept", "start-repair", "resolve", "close"]])
def test_a_start_that_fails_again_after_its_ticket_ended_is_a_new_ticket(world: World, end: list[str]) -> None:
    ada = world.person("Ada", "technician")
    machine = world.machine()
    machine.event("start_failed")
    first = world.ticket("startup_failure")
    for verb in end:
        world.act(first.id, verb, technician_id=ada if verb == "accept" else None)
    world.now += MINUTE
    machine.event("start_requested")
    machine.event("start_failed")
    assert [ticket.status for ticket in world.tickets("startup_failure")] == [world.tickets()[0].status, "open"]
    assert len(world.faults("startup_failure", cleared_at=None)) == 1
    assert set(world.clocks(world.tickets()[1].id)) == {"dispatch", "repair_start"}


def test_what_is_still_wrong_after_a_cancelled_ticket_is_found_anew_over_a_restart(world: World) -> None:
    machine = world.machine()
    machine.goes_hot()
    world.act(world.ticket("limit").id, "cancel", note="sensor on the bench")
    world.restart()
    world.now += 10_000
    machine.goes_hot()
    assert [ticket.status for ticket in world.tickets("limit")] == ["cancelled", "open"]
    assert world.rows(schema.released) == []


def test_a_fault_that_comes_back_after_it_was_resolved_alerts_again(world: World) -> None:
    ada = world.person("Ada", "technician")
    machine = world.machine()
    machine.goes_hot()
    first = world.ticket("limit").id
    for verb in ("accept", "start-repair", "resolve"):
        world.act(first, verb, technician_id=ada if verb == "accept" else None)
    for _ in range(2):
        world.now += 10_000
        machine.recovers()
    world.now += 10_000
    machine.goes_hot()
    world.tick()
    again = world.tickets("limit")[1]
    assert (again.status, world.clocks(again.id)["dispatch"].due_at) == ("open", world.now + HOUR)
    assert len(world.told("dispatch_alert")) == 2


def test_a_box_that_is_replaced_while_the_old_one_still_talks_is_heard(world: World) -> None:
    old = world.machine("m1")
    old.boot = 12
    old.says()
    world.now += 1_000
    world.registry.renew_device("m1", world.now)
    queued = [old.reading(at=world.now - 500) for _ in range(3)]
    world.now += 1_000
    new = Machine(world, "m1")
    old.send(queued[0])
    new.says()
    old.send(*queued[1:])
    new.goes_hot()
    assert [ticket.kind for ticket in world.tickets()] == ["limit"]
    assert world.seen("m1") == [(0, 12, 4, 0), (1, 1, 2, 0)]
    assert world.rejected() == []


def test_a_machine_that_was_revoked_and_comes_back_carries_no_fault_that_nobody_watches(world: World) -> None:
    machine = world.machine()
    machine.goes_hot()
    world.registry.revoke_device("m1", world.now)
    world.tick()
    world.registry.renew_device("m1", world.now)
    world.tick()
    assert world.faults("limit", cleared_at=None) == []
    assert world.ticket("limit").cleared_at is not None
    world.now += 10_000
    Machine(world, "m1").goes_hot()
    assert world.ticket("limit").recurrences == 1


@pytest.mark.parametrize("state", ["online", "offline"])
def test_a_status_from_the_future_is_rejected_and_believed_in_nothing(world: World, state: str) -> None:
    machine = world.machine()
    listening(world)
    machine.says()
    machine.status(state, at=world.now + AHEAD_MS + 1)
    assert world.rejected() == ["clock_ahead"]
    assert [fault.kind for fault in world.rows(schema.fault)] == ["wrong_clock"]
    machine.says()
    world.forward(seconds=40, every_s=1)
    assert "silent" in [fault.kind for fault in world.rows(schema.fault)]
