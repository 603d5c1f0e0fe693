"""The simulated world: one seed, one course of events, the same each time.

Time goes in strides. In each the machines say what they have to say, the broker hands over what is due, the service
takes it in and acknowledges it, the scheduler runs what is due, people do something, and the checkers look at what is
new (invariants/). What goes wrong meanwhile stands in perils.py. In the end the world heals, and nothing may be left.
"""

import gc
import hashlib
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from random import Random
from typing import Any

import structlog
from sqlalchemy.exc import OperationalError

from monitor.store.telemetry import Telemetry, TelemetryUnavailable
from monitor.store.telemetry_opening import open_telemetry
from tests.simulation.company import MACHINES, founded
from tests.simulation.crew import Crew
from tests.simulation.invariants import Broken, Checker, checkers
from tests.simulation.invariants.same_state import State, found
from tests.simulation.lives import HOUR, LIFE_MS, LIVES, MINUTE, MODELS, T0, Life, life
from tests.simulation.perils import HARSH, Fate
from tests.simulation.service import STRIDE_MS, Post, Service
from tests.simulation.stores import Died, Ground, MadeToFail, MortalDatabase, Shelf
from tests.simulation.wire import Broker, Link, Wire

GENTLE_EVERY = 10
"""Of so many seeds one suffers only what is over within the wait for a gap: its end is compared (invariant 6)."""
DUCKDB_EVERY = 100
CREW_SHARE = 0.55
HEALING_MS = 65 * MINUTE
ground = cache(Ground)


class World:
    """A company, its machines and the service. Times are epoch ms; `now` is true, `clock()` what the service has."""

    def __init__(
        self, seed: int, *, hours: float = 6.0, calm: bool = False, gentle: bool | None = None, trace: bool = False,
        machines: Sequence[str] = MACHINES, beside: State | None = None, pace: float = 1.0,
    ) -> None:  # fmt: skip
        """`gentle`: only what must leave no difference; by itself every fifth seed is. `calm`: nothing goes wrong.
        `beside`: the state in which the same world ends when it is calm. `pace`: by how much its strides are longer."""
        self.seed, self.now, self.step_number = seed, T0, 0
        self.gentle = seed % GENTLE_EVERY == 0 if gentle is None else gentle
        self.state: State = {}
        self.fate = Fate(f"{seed}", spared=HARSH if self.gentle else (), calm=calm)
        self.end_at = self._edge_at = T0 + round(hours * HOUR)
        self.skew_ms = 0
        self.latest = T0
        """The latest that the service's clock has shown."""
        self.deaths = 0
        self.shows, self.beside = trace, beside
        self._trace = hashlib.blake2b(digest_size=16)
        self._strides = Random(f"{seed}/strides")
        self.pace = pace
        self._crew = Crew(Random(f"{seed}/crew"), 0.0 if self.gentle else CREW_SHARE / pace**2, machines)
        self.ground = ground()
        self.ground.clear(founded(self.ground))
        self.disk: Telemetry = Shelf()
        self._on_duckdb = seed % DUCKDB_EVERY == 53
        self.database = MortalDatabase(self.ground.engine, self.fate)
        self.broker, self.post = Broker(self.fate), Post(self.fate)
        self.links = dict(self._machines(machines))
        self.service: Service | None = None
        self.wire = Wire(self.broker, self._command)
        self.restart_at = self.connect_at = self.post_until = T0
        self.failures: list[str] = []
        """What the service said had failed, and nobody had made it fail."""
        self.reader = self.ground.reader()
        self.checkers: list[Checker] = checkers()
        self._bank_at_death: dict[str, bytes] | None = None

    def _machines(self, machines: Sequence[str]) -> Iterator[tuple[str, Link]]:
        choice = Random(f"{self.seed}/machines")
        lasts_ms = max(LIFE_MS, self.end_at - T0 + 3 * HOUR)
        for number, device_id in enumerate(machines):
            lived = self._drawn(choice, number % len(MODELS), lasts_ms)
            # Whether a backlog still counts as news depends on when the service was last away.
            while self.gentle and any(one.failure == "radio_outage" for one in lived.injections):
                lived = self._drawn(choice, number % len(MODELS), lasts_ms)
            yield device_id, Link(device_id, lived, self.broker, self.fate)

    def _drawn(self, choice: Random, model: int, lasts_ms: int) -> Life:
        return life(choice.randrange(LIVES // len(MODELS)) * len(MODELS) + model, lasts_ms)

    # --- looking ---

    def clock(self) -> int:
        """What the service takes for now."""
        return self.now + self.skew_ms

    def ask(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """What stands in the database now."""
        return self.reader.execute(sql, values).fetchall()

    def note(self, *words: object) -> None:
        """Into the trace."""
        line = " ".join(map(str, (self.step_number, self.now - T0, *words)))
        self._trace.update(line.encode())
        if self.shows:
            print(line)

    @property
    def trace(self) -> str:
        """A hash of everything that happened until now."""
        return self._trace.hexdigest()

    # --- the course of events ---

    def run(self) -> None:
        """Live the whole course. Raises Broken where an invariant is."""
        gc.disable()  # A world is short, and half of its time would go into looking for what it has thrown away.
        with self._listening_to_the_log():
            try:
                while self.now < self.end_at:
                    self.step()
                self.heal()
                for checker in self.checkers:
                    self._say_where(checker, checker.at_end)
                self.state = found(self) if self.gentle else {}
                self._close_book()
            finally:
                self.close()
                gc.enable()

    def step(self) -> None:
        """One stride, and whatever it brings."""
        self.step_number += 1
        until = min(self.now + self._stride(), self._edge_at)
        self._strike()
        for link in self.links.values():
            link.say(until, self.now)
        self._hand_over(until)
        self.now = until
        self.latest = max(self.latest, self.clock())
        try:
            self._serve()
        except Died:
            self._die()
        for checker in self.checkers:
            self._say_where(checker, checker.after_step)
        if self.service is not None:
            self.broker.released.clear()
        self.note(len(self.broker.taken), self.broker.unacked, self.deaths, sum(self.post.taken.values()))

    def _stride(self) -> int:
        under_way = self.broker.up and self.broker.unacked
        if under_way or self._strides.random() < 0.06:
            return self._strides.randrange(500, 5_000)
        return round(self._strides.uniform(0.4, 1.0) * STRIDE_MS * self.pace)

    def _strike(self) -> None:
        if self.service is not None and self.broker.up and self.fate.strikes("service_cut_off"):
            self._cut_off(round(1_000 * 1_800 ** self.fate.rng.random()))
        if self.fate.strikes("post_down"):
            self.post_until = self.now + self.fate.rng.randrange(1, 15) * MINUTE
        self.post.down = self.now < self.post_until
        if self.fate.strikes("service_clock_jumps"):
            self.skew_ms = self.fate.rng.choice((-600_000, -90_000, -2_000, 0, 0, 3_000, 240_000, 600_000))
            self.note("clock", self.skew_ms)

    def _cut_off(self, for_ms: int) -> None:
        self.note("cut_off", for_ms)
        self.connect_at = self.now + for_ms
        self.wire.cut()

    def _hand_over(self, until: int) -> None:
        for moment, mid, letter, retained in self.broker.due(until):
            self.now = max(self.now, moment)
            self.wire.hand_over(mid, letter, retained=retained)

    def _serve(self) -> None:
        service = self._alive()
        if service is None:
            return
        if not self.broker.up and self.now >= self.connect_at:
            self.wire.connect(self.now)
        if self.broker.up:
            service.subscriber.note_quiet()
        worked = service.subscriber.work_off()
        if worked and self.fate.strikes("dies_before_ack"):
            raise Died
        if self.fate.strikes("acks_lost"):
            self._cut_off(500)
        service.subscriber.send_acks()
        service.scheduler.run_due()
        self._crew.work(service, self.clock())

    def _alive(self) -> Service | None:
        if self.service is None and self.now >= self.restart_at:
            try:
                self._start()
            except (OperationalError, TelemetryUnavailable) as error:
                # A process that cannot start ends, and is started again.
                if not made_to_fail(error):
                    raise
                raise Died from error
        return self.service

    def _start(self) -> None:
        self.note("start")
        self.wire = Wire(self.broker, self._command)
        if self._on_duckdb:
            self.disk = open_telemetry(f"duckdb:{self.ground.home / 'telemetry.duckdb'}")
        self.service = Service(self.ground.home, self.database, self.disk, self.post, self.wire, self.fate, self.clock,
                               lambda: self.now, self.pace)  # fmt: skip
        for checker in self.checkers:
            self._say_where(checker, checker.at_start)

    def _die(self) -> None:
        """Everything in memory is gone."""
        self.deaths += 1
        self.note("died")
        service, self.service = self.service, None
        if service is not None:
            service.kill()
        else:
            self.ground.engine.dispose()
        if self._on_duckdb:
            self.disk.close()
        self.broker.cut()
        stays = self.fate.strikes("stays_dead")
        self.restart_at = self.connect_at = self.now + (self.fate.rng.randrange(10_000, 900_000) if stays else 0)

    def _command(self, address: str, payload: bytes) -> None:
        link = self.links.get(address.split("/")[3])
        if link is not None:
            link.command(payload, self.now)

    # --- the end ---

    def heal(self) -> None:
        """Nothing goes wrong any more, nobody does anything, and time passes."""
        self.note("heals")
        self.fate.spares()
        self.skew_ms = 0
        self.restart_at = self.connect_at = min(self.restart_at, self.now)
        self.post_until = self.now
        self._crew = Crew(Random(0), 0.0, ())
        for link in self.links.values():
            link.heal(self.now)
        self._edge_at = self.now + HEALING_MS
        while self.now < self._edge_at:
            self.step()
        self._come_to_rest()
        self._empty_the_outbox()

    def _come_to_rest(self) -> None:
        """The machines say no more, and whatever was said or is due is dealt with."""
        for link in self.links.values():
            link.mute = True
        for _ in range(4):
            self._edge_at = self.now + 5_000
            if self.service is not None:
                self.service.scheduler.hurry()
            self.step()

    def _empty_the_outbox(self) -> None:
        """Notices may wait for the morning, or for the day's list: only their time goes on."""
        assert self.service is not None
        at = self.clock()
        for _ in range(60):
            waiting = self.ask("SELECT min(max(next_try_at, coalesce(claimed_until, 0))) FROM notice "
                               "WHERE status = 'queued' AND gathered_in IS NULL")[0][0]  # fmt: skip
            if waiting is None:
                return
            at = max(at, waiting)
            self.service.outbox.deliver_due(at)

    def _close_book(self) -> None:
        for table, columns in BOOK.items():
            for row in self.ask(f"SELECT {columns} FROM {table} ORDER BY {columns}"):  # noqa: S608
                self.note(table, *row)

    def close(self) -> None:
        if self.service is not None:
            self.service.kill()
        self.reader.close()
        with suppress(Exception):
            self.disk.close()

    # --- what went wrong ---

    def _say_where(self, checker: Checker, look: Any) -> None:
        try:
            look(self)
        except Broken as broken:
            if broken.where:
                raise
            hours, rest = divmod((self.now - T0) // 1000, 3600)
            at = f"{hours:02}:{rest // 60:02}:{rest % 60:02}"
            where = f"invariant {checker.number} broken at {at}, seed {self.seed}, step {self.step_number}"
            raise Broken(f"{where}: {broken}", checker.number, where) from None

    @contextmanager
    def _listening_to_the_log(self) -> Iterator[None]:
        before = structlog.get_config()
        structlog.configure(processors=[self._hear], cache_logger_on_first_use=False)
        try:
            yield
        finally:
            structlog.configure(**before)

    def _hear(self, _logger: object, level: str, event: dict[str, Any]) -> dict[str, Any]:
        error = sys.exc_info()[1] if event.get("exc_info") else None
        if error is not None and not made_to_fail(error):
            what = f"{event['event']} {event.get('tick') or event.get('part') or ''}: {type(error).__name__}: {error}"
            self.failures.append(what)
        elif level == "error" and event["event"] in ("notice_send_broke", "telemetry_refused"):
            self.failures.append(str(event))
        raise structlog.DropEvent


def run(seed: int, *, hours: float = 6.0, trace: bool = False) -> World:
    """Live through a seed, gentle ones beside a calm world. Raises Broken; answers the world that was."""
    world = World(seed, hours=hours, trace=trace)
    if world.gentle:
        world.close()
        calm = World(seed, hours=hours, calm=True)
        calm.run()
        world = World(seed, hours=hours, trace=trace, beside=calm.state)
    world.run()
    return world


def made_to_fail(error: BaseException) -> bool:
    """Whether this is what the world wanted, or follows from it."""
    if isinstance(error, OperationalError):
        return isinstance(error.orig, MadeToFail)
    return isinstance(error.__cause__, MadeToFail)


BOOK = {
    "fault": "device_id, kind, subject, severity, occurred_at, opened_at, cleared_at, ticket_id, evidence",
    "ticket": "id, device_id, kind, subject, severity, status, opened_at, cleared_at, revision, evidence",
    "commitment": "ticket_id, kind, turn, started_at, due_at, warned_at, met_at, breached_at, voided_at",
    "notice": "cause, kind, status, tries, queued_at, sent_at, body",
    "fleet_interval": "device_id, from_at, to_at, condition, place, superseded_at",
    "seen": "device_id, generation, boot, next_seq, received, gaps",
    "step": "ticket_id, event, from_status, to_status, actor, happened_at",
}
"""What of the record belongs to the trace: all but ids that are made by chance."""


def month(seed: int, *, trace: bool = False) -> World:
    """One machine for thirty days. Raises Broken; answers the world that was."""
    world = World(seed, hours=30 * 24, gentle=False, trace=trace, machines=MACHINES[:1], pace=2.5)
    world.run()
    return world
