"""A small rental company in virtual time: real engine, database, telemetry, outbox and channel, and a clock that
stands wherever the test puts it. Machines say things, people do things, time goes forward in ticks."""

import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from monitor.desk import diagnosis as self_tests
from monitor.desk.commitments import Commitment, service_standard
from monitor.desk.tickets import Resolution, Verb
from monitor.engine import Desk, Watch, diagnosis
from monitor.engine.desk import Addresses
from monitor.links import Signer
from monitor.notify.channels import Settings, channels
from monitor.notify.outbox import Outbox
from monitor.readings import Arrival, Event, Message, Reading, Reply, Status
from monitor.store import cases, schema
from monitor.store.database import migrate, open_database
from monitor.store.profiles import load_profiles
from monitor.store.registry import Registry
from monitor.store.telemetry_opening import open_telemetry

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
T0 = 1_760_000_000_000
"""When the tests begin: a Thursday in October 2025."""

RIG = """
name = "rig"
title = "Test rig"
title_zh = "试验台"
report_interval_s = 10
start_timeout_s = 30
[[sensor]]
name = "temp_c"
unit = "°C"
limits = { high = 100, clear_margin = 5 }
[[sensor]]
name = "pressure_bar"
unit = "bar"
limits = { low = 2, clear_margin = 0.5, hold_s = 20 }
"""
RESOLUTION = Resolution("other", "repaired", "wear")
WELL = {"temp_c": 60.0, "pressure_bar": 5.0}
HOT = {"temp_c": 120.0, "pressure_bar": 5.0}


@cache
def fresh_database() -> bytes:
    """A database as the migrations make it, made once for all worlds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fettle.db"
        database = open_database(f"sqlite:///{path}")
        migrate(database)
        database.close()
        return path.read_bytes()


class World:
    """The company. `now` (epoch ms) moves only forward, by `forward` or by being set."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now = T0
        (home / "profiles").mkdir(parents=True)
        (home / "profiles" / "rig.toml").write_text(RIG)
        self.machines: dict[str, Machine] = {}
        self.radio = Radio()
        (home / "fettle.db").write_bytes(fresh_database())
        self.open()
        self.registry = Registry(self.database)

    # --- the service ---

    def open(self) -> None:
        """Start the service, on the files as they are."""
        self.database = open_database(f"sqlite:///{self.home / 'fettle.db'}")
        self.telemetry = open_telemetry(f"duckdb:{self.home / 'telemetry.duckdb'}")
        profiles = load_profiles(self.home / "profiles")
        addresses = Addresses("http://fettle.example", "Asia/Shanghai", signer=Signer(bytes(32)))
        self.desk = Desk(self.database, service_standard(), profiles, addresses)
        self.outbox = Outbox(self.database, channels(Settings(self.home)), given_up=self.desk.telling.given_up)
        self.watch = Watch(self.database, self.telemetry, self.desk, profiles, retention_days=400, now=self.now)

    def close(self) -> None:
        self.telemetry.close()
        self.database.close()

    def restart(self, away_s: float = 0) -> None:
        """End without a goodbye, stay away, and start again on the same files."""
        self.close()
        self.now += round(away_s * 1000)
        self.open()
        self.registry = Registry(self.database)

    def tick(self, *, attending: bool = True) -> None:
        """What the scheduler does each second."""
        self.watch.tick(self.now, attending=attending)
        self.desk.tick(self.now)
        self.desk.reporting.tick(self.now)
        self.outbox.deliver_due(self.now)
        diagnosis.send_due(self.database, self.radio.publish, self_tests.shipped_policy(), self.now)
        diagnosis.give_up(self.database, self_tests.shipped_policy(), self.now)

    def forward(
        self, *, hours: float = 0, minutes: float = 0, seconds: float = 0, every_s: float = 5, attending: bool = True
    ) -> None:  # fmt: skip
        """Let time pass, with a tick every so often; after a minute four times as seldom, where no machine is `talking`
        (those report at their interval)."""
        began, end = self.now, self.now + round(hours * HOUR + minutes * MINUTE + seconds * 1000)
        talks = any(machine.talking is not None for machine in self.machines.values())
        while self.now < end:
            apart_s = every_s if talks or self.now - began < MINUTE else max(every_s, 20)
            self.now = min(end, self.now + round(apart_s * 1000))
            if attending:
                for machine in self.machines.values():
                    machine.report_if_due()
            self.tick(attending=attending)

    # --- people and places ---

    def person(self, name: str, role: str) -> int:
        return self.registry.add_person(
            name, role, f"{name.lower()}@example.com", phone="", lang="en", customer=None, now=self.now
        )

    def machine(
        self, device_id: str = "m1", profile: str = "rig", *, on_hire: bool = True, site: str | None = None
    ) -> "Machine":
        self.registry.add_device(device_id, profile, site, self.now)
        if on_hire:
            self.registry.add_rental(device_id, "Metro JV", "site@metro.example", lang="en", now=self.now)
        return self.known(device_id)

    def known(self, device_id: str) -> "Machine":
        """A machine as it speaks, whether the company knows it or not."""
        return self.machines.setdefault(device_id, Machine(self, device_id))

    def site(self, name: str, *, remote: bool) -> str:
        self.registry.add_site(name, remote=remote, timezone="Asia/Shanghai", now=self.now)
        return name

    def act(self, ticket_id: int, verb: str, **how: Any) -> None:
        """A step; a resolution and a reason are of the commonest kind, where the test does not care."""
        if verb == "resolve":
            how.setdefault("resolution", RESOLUTION)
        if verb == "cancel":
            how.setdefault("reason", "other")
        if verb == "pause":
            how.setdefault("until_at", self.now + 48 * 3_600_000)
        self.desk.act(ticket_id, Verb(verb), "test", self.now, **how)

    def observe(self, *arrivals: Arrival) -> None:
        self.watch.observe(arrivals, self.now)

    # --- what stands in the record ---

    def rows(self, table: sa.Table, **where: object) -> list[Any]:
        order = table.c.id if "id" in table.c else next(iter(table.primary_key.columns))
        query = sa.select(table).where(*(table.c[name] == value for name, value in where.items())).order_by(order)
        with self.database.connect() as connection:
            return list(connection.execute(query))

    def tickets(self, kind: str | None = None) -> list[Any]:
        return self.rows(schema.ticket, **({"kind": kind} if kind else {}))

    def ticket(self, kind: str) -> Any:
        """The one ticket of this kind."""
        (found,) = self.tickets(kind)
        return found

    def faults(self, kind: str, **where: object) -> list[Any]:
        return self.rows(schema.fault, kind=kind, **where)

    def clocks(self, ticket_id: int) -> dict[str, Commitment]:
        """A ticket's clocks by their kind."""
        with self.database.connect() as connection:
            return {clock.kind: clock for clock in cases.load_commitments(connection, ticket_id)}

    def rejected(self) -> list[str]:
        return [row.reason for row in self.rows(schema.rejected)]

    def seen(self, device_id: str) -> list[tuple[int, int, int, int]]:
        """(generation, boot, received, missing) of every boot of a machine."""
        found = self.rows(schema.seen, device_id=device_id)
        return sorted((row.generation, row.boot, row.received, row.next_seq - row.received) for row in found)

    def history(self, device_id: str) -> list[Message]:
        """A machine's stored messages in the order of taking."""
        batches = self.telemetry.replay(0)
        return [message for batch in batches for message in batch.messages() if message.device_id == device_id]

    def told(self, kind: str | None = None) -> list[tuple[str, str]]:
        """(kind, address) of every notice that went out, as the channel's own file has it."""
        return sorted((n["kind"], n["recipient"]) for n in self.letters() if kind in (None, n["kind"]))

    def told_to(self, address: str) -> list[str]:
        """The kinds of the notices to an address, in the order in which they went out."""
        return [n["kind"] for n in self.letters() if n["recipient"] == address]

    def letters(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The notices themselves, in the order in which they went out."""
        lines: list[str] = []
        with suppress(FileNotFoundError):
            lines = (self.home / "notices.log").read_text().splitlines()
        return [n for n in map(json.loads, lines) if kind in (None, n["kind"])]


class Machine:
    """One machine's voice: it numbers what it says, and says it into the world at once unless told otherwise."""

    def __init__(self, world: World, device_id: str) -> None:
        self.world = world
        self.device_id = device_id
        self.boot, self.seq = 1, 0
        self.talking: Mapping[str, float] | None = None
        """The values that it reports by itself every ten seconds; None: it says nothing by itself."""
        self.state = "running"
        self._reported_at = 0

    def reading(
        self, values: Mapping[str, float] = WELL, *, state: str | None = None, at: int | None = None
    ) -> Reading:
        moment = self.world.now if at is None else at
        made = Reading(self.boot, self.seq, moment, state or self.state, dict(values))  # type: ignore[arg-type]
        self.seq += 1
        return made

    def event(self, name: str, **detail: object) -> None:
        said = Event(self.boot, self.seq, self.world.now, name, detail)  # type: ignore[arg-type]
        self.seq += 1
        self.send(said)

    def send(self, *bodies: Reading | Event | Status | Reply) -> None:
        self.world.observe(*(Arrival(self.device_id, self.world.now, body) for body in bodies))

    def says(self, values: Mapping[str, float] = WELL, *, state: str | None = None, at: int | None = None) -> Reading:
        body = self.reading(values, state=state, at=at)
        self.send(body)
        return body

    def status(self, state: str, at: int | None = None) -> None:
        said = Status(state, self.world.now if at is None else at, self.boot)  # type: ignore[arg-type]
        self.send(said)

    def report_if_due(self) -> None:
        if self.talking is not None and self.world.now - self._reported_at >= 10_000:
            self._reported_at = self.world.now
            self.says(self.talking)

    def goes_hot(self) -> None:
        """Beyond its limit, whose hold is 0 s."""
        self.says(HOT)

    def recovers(self) -> None:
        """Two samples inside the limit by its margin."""
        self.says(WELL)
        self.world.now += 1000
        self.says(WELL)

    def fails_to_start(self) -> None:
        """Asked to start, and nothing after."""
        self.says({}, state="off")
        self.event("start_requested")
        self.world.forward(seconds=35)


class Radio:
    """The way to the machines: what was sent to them, while the broker takes it."""

    def __init__(self) -> None:
        self.up = True
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def publish(self, topic: str, payload: bytes) -> bool:
        if self.up:
            self.sent.append((topic, json.loads(payload)))
        return self.up


class Broken:
    """Makes the database fail for real: every write to `table` is refused by a trigger until it is mended."""

    def __init__(self, world: World, table: str) -> None:
        self.world = world
        self.table = table

    def __enter__(self) -> "Broken":
        for verb in ("INSERT", "UPDATE"):
            self._execute(
                f"CREATE TRIGGER broken_{verb} BEFORE {verb} ON {self.table} "
                "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
            )
        return self

    def __exit__(self, *_: object) -> None:
        for verb in ("INSERT", "UPDATE"):
            self._execute(f"DROP TRIGGER broken_{verb}")

    def _execute(self, statement: str) -> None:
        with self.world.database.begin() as connection:
            connection.exec_driver_sql(statement)


__all__ = ["HOT", "HOUR", "MINUTE", "T0", "WELL", "Broken", "Machine", "OperationalError", "World"]
