"""The service under simulation: fettle/wiring.py's parts with the wire, the stores, the post and the clock of a world.

Nothing of the product is replaced but what stands outside of it. A start builds everything anew from the files, as a
process does; a death throws it away wherever it stands.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from fettle.house import House
from fettle.settings import Settings
from fettle.wiring import Ticks, desk_of, tick_commands, tick_copyist, tick_desk, tick_meters, tick_watch
from ingest.connection import Address
from ingest.subscriber import Subscriber
from monitor.devices import Profile
from monitor.engine import Watch
from monitor.notify.message import Message, NotNow, Refused, Unreachable
from monitor.notify.outbox import Outbox
from monitor.store.profiles import load_profiles
from monitor.store.telemetry import Telemetry
from tests.simulation.lives import MINUTE, MODELS, REPORT_S
from tests.simulation.perils import Fate
from tests.simulation.stores import Brittle, Died, MortalDatabase
from tests.simulation.wire import Wire

TEMPO = {"watch": 0, "commands": 15, "desk": 50, "outbox": 40, "evidence": 90, "meters": 90, "unanswered": 40,
         "reporting": 90, "spot_checks": 90}  # fmt: skip
"""How seldom jobs run in a world, in minutes at most: a scheduler that is late by so much must come to the same end."""
STRIDE_MS = 15 * MINUTE
"""How long a stride of a world may be: messages are taken in, and the watch ticks, once in each."""


@cache
def profiles() -> dict[str, Profile]:
    """The shipped models, reporting as seldom as the simulated machines do."""
    shipped = load_profiles()
    return {name: msgspec.structs.replace(shipped[name], report_interval_s=REPORT_S) for name in MODELS}


@cache
def settings(home: Path) -> Settings:
    return Settings(home=home, timezone="Asia/Shanghai", link_secret="s" * 40, public_url="http://fettle.example")


class Scheduler:
    """What fettle.wiring.Ticks takes for its scheduler: jobs that are run when their time comes in the world."""

    def __init__(self, steady: Callable[[], int], fate: Fate, pace: float) -> None:
        self._steady = steady
        self._pace = pace
        self._fate = fate
        self._rng = Random(fate.rng.random())
        self._jobs: dict[str, tuple[Callable[[], object], float]] = {}
        self._due_at: dict[str, int] = {}
        self.running = ""
        """The job that was begun last."""

    def start(self) -> None:
        """The world runs it."""

    def add_job(self, job: Callable[[], object], _trigger: str, *, seconds: float, id: str, **_how: object) -> None:  # noqa: A002
        self._jobs[id], self._due_at[id] = (job, seconds), 0

    def run_due(self) -> None:
        """Run every job whose time has come, once however late it is, in the order in which they were added."""
        for name, (job, seconds) in self._jobs.items():
            now = self._steady()
            # As in the real one, what is due is told by a clock that nobody sets.
            if now >= self._due_at[name]:
                self.running = name
                self._due_at[name] = now + round(
                    seconds * 1000 + self._rng.random() * TEMPO[name] * self._pace * MINUTE
                )
                if self._fate.strikes("dies_in_tick"):
                    raise Died
                job()
        self.running = ""

    def hurry(self) -> None:
        """Everything is due now."""
        self._due_at = dict.fromkeys(self._due_at, 0)

    def shutdown(self) -> None:
        """Nothing runs by itself."""


class Post:
    """Carries e-mail. It outlives the process, as a mail server does, and counts what it took."""

    name = "email"

    def __init__(self, fate: Fate) -> None:
        self.fate = fate
        self.down = False
        self.taken: Counter[str] = Counter()
        self.confirmed: Counter[str] = Counter()
        self.log: list[tuple[int, str, str]] = []
        """(when, cause, recipient) of everything that was taken."""

    def send(self, message: Message, now: int) -> None:
        if self.down:
            raise Unreachable("the server does not answer")
        if self.fate.strikes("post_refuses"):
            raise Refused("no, and never")
        self.taken[message.cause] += 1
        self.log.append((now, message.cause, message.recipient))
        if self.fate.strikes("dies_sending"):
            raise Died
        if self.fate.strikes("post_slow"):
            raise NotNow("timed out")
        self.confirmed[message.cause] += 1


class Service:
    """One process, from its start to its death. `wire` is its connection to the broker."""

    def __init__(
        self, home: Path, database: MortalDatabase, telemetry: Telemetry, post: Post, wire: Wire, fate: Fate,
        clock: Callable[[], int], steady: Callable[[], int], pace: float,
    ) -> None:  # fmt: skip
        """`steady`: a clock that nobody sets; `pace`: how many times longer than in a short world everything waits."""
        self.database = database
        self.rooms = House(settings(home), database, profiles())
        self.desk = desk_of(self.rooms)
        brittle: Any = Brittle(telemetry, fate)
        # To take in and to tick once a stride is in time here, and no gap.
        in_time_ms = round(2.5 * STRIDE_MS * pace)
        self.watch = Watch(database, brittle, self.desk, self.rooms.profiles, retention_days=400, now=clock(),
                           own_gap_ms=in_time_ms, late_ms=in_time_ms)  # fmt: skip
        client: Any = wire
        self.subscriber = Subscriber(Address("sim"), "fettle", self.watch.observe, now=clock, client=client)
        self.scheduler = Scheduler(steady, fate, pace)
        base: Any = self.scheduler
        self.ticks = Ticks(base, clock)
        ways: Mapping[str, Post] = {"email": post}
        self.outbox = Outbox(database, ways, Random(fate.rng.random()), given_up=self.desk.telling.given_up,
                             in_turn=True)  # fmt: skip
        tick_watch(self.ticks, self.watch, self.subscriber)
        tick_commands(self.ticks, self.rooms, self.subscriber)
        tick_copyist(self.ticks, self.rooms, brittle)
        tick_meters(self.ticks, self.rooms, brittle)
        tick_desk(self.ticks, self.rooms, self.desk, self.outbox)

    def kill(self) -> None:
        """Without a goodbye: only what the operating system would close is closed."""
        with suppress(OSError):
            self.subscriber.stop()
        self.database.engine.dispose()
