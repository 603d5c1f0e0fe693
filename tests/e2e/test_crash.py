"""Kill the real service again and again under load: what was PUBACKed is there once, and no ticket is there twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import psutil
import pytest
import sqlalchemy as sa

from fettle import wiring
from fettle.cards import issue_card
from fettle.settings import Settings
from monitor.store import schema
from monitor.store.database import open_database
from monitor.store.registry import Registry
from tests.e2e.numbered import RIG, Fleet, Machine, Name
from tests.e2e.service import ROOT, Service
from tests.patience import until

DEVICES = 20
KILLS = 20
BROKER_KILLS = 5
RATE_S = 12.0


class Crashing(Service):
    """The service, started without waiting until it answers over HTTP: it takes messages in before that."""

    def launch(self) -> None:
        with self.log.open("a") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "fettle", "up"],
                env=self.environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                text=True,
            )


class Stored(NamedTuple):
    """A row of the telemetry store."""

    name: Name
    late: bool
    value: float


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """FETTLE_TEST_SEED repeats a run, as far as a real machine repeats anything."""
    chosen = int(os.environ.get("FETTLE_TEST_SEED", random.SystemRandom().randrange(10**6)))
    print(f"{request.node.name}: FETTLE_TEST_SEED={chosen}")
    return chosen


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Crashing]:
    service = Crashing(tmp_path / "home")
    (service.home / "profiles").mkdir(parents=True)
    (service.home / "profiles" / "rig.toml").write_text(RIG)
    yield service
    service.kill()


def machines(service: Crashing, rng: random.Random) -> list[Machine]:
    """Twenty machines on hire: eight run into their limit and recover, four restart their controllers."""
    settings = Settings(home=service.home, http_port=service.http_port, mqtt_port=service.mqtt_port)
    made = []
    with wiring.house(settings) as rooms:
        registry, now = Registry(rooms.database), wiring.clock()
        registry.add_person("Tian", "technician", "tian@example.com", phone="", lang="zh", customer=None, now=now)
        for number in range(DEVICES):
            device = registry.add_device(f"rig-{number:02}", "rig", None, now)
            registry.add_rental(device.device_id, "Harbour", "site@example.com", lang="en", now=now)
            card: dict[str, Any] = dict(issue_card(rooms, registry, device))
            made.append(Machine(card, random.Random(rng.random()), RATE_S, limits=number < 8, reboots=number >= 16))
    return made


def test_twenty_kills_lose_nothing_and_double_nothing(service: Crashing, seed: int) -> None:
    rng = random.Random(seed)
    with Fleet(machines(service, rng)) as fleet:
        for _ in range(KILLS):
            starts = ready_count(service)
            service.launch()
            until(lambda: ready_count(service) > starts, "the service takes messages in")  # noqa: B023
            time.sleep(rng.uniform(0, 1.2))
            kill(service, rng)
        service.start()
        come_to_rest(service, fleet)
        # While the machines are still connected: a connection that just breaks would leave a last will.
        assert service.interrupt() == 0
    check(service, fleet.machines)


def test_a_broker_that_is_killed_loses_nothing(service: Crashing, seed: int) -> None:
    rng = random.Random(seed)
    with Fleet(machines(service, rng)) as fleet:
        service.start()
        for _ in range(BROKER_KILLS):
            acked = fleet.acked
            until(lambda: fleet.acked > acked + 100, "messages are PUBACKed again")  # noqa: B023
            time.sleep(rng.uniform(0, 0.7))
            broker(service).kill()
        come_to_rest(service, fleet)
        # While the machines are still connected: a connection that just breaks would leave a last will.
        assert service.interrupt() == 0
    check(service, fleet.machines)


# --- how it is done ------------------------------------------------------------------------------------------------


def ready_count(service: Crashing) -> int:
    return service.log.read_text().count("watch_ready") if service.log.exists() else 0


def broker(service: Crashing) -> psutil.Process:
    return psutil.Process(int((service.home / "broker" / "nats.pid").read_text()))


def kill(service: Crashing, rng: random.Random) -> None:
    """SIGKILL; in every third case the broker goes with it in the same moment, else it has a moment to say goodbye."""
    child = broker(service)
    if rng.random() < 1 / 3:
        child.send_signal(signal.SIGKILL)
    service.kill()


def come_to_rest(service: Crashing, fleet: Fleet) -> None:
    """The machines are well again, then silent; wait until everything is acknowledged, stored and decided."""
    fleet.calm = True
    acked = fleet.acked
    until(lambda: fleet.acked > acked + 100, "the machines are heard again")
    fleet.hush = True
    until(lambda: fleet.waiting == 0, "every message is PUBACKed")
    expected = sum(len(machine.made) for machine in fleet.machines)
    until(lambda: taken(service) >= expected, f"{expected} messages are taken in")


def taken(service: Crashing) -> int:
    return int(rows(service, sa.select(sa.func.sum(schema.seen.c.received)))[0][0] or 0)


def rows(service: Crashing, query: sa.Select[Any]) -> list[Any]:
    database = open_database(f"sqlite:///{service.home / 'fettle.db'}")
    with database.connect() as connection:
        found = list(connection.execute(query))
    database.close()
    return found


def stored(service: Crashing) -> dict[str, list[Stored]]:
    """What the telemetry store holds of each machine, in the order of taking it in."""
    with duckdb.connect(str(service.home / "telemetry.duckdb"), read_only=True) as store:
        found = store.execute(
            "SELECT device.name, boot, seq, late, value FROM message JOIN device ON device.id = message.device "
            "JOIN sample USING (serial) ORDER BY batch, serial"
        ).fetchall()
    of: dict[str, list[Stored]] = {}
    for device_id, boot, seq, late, value in found:
        of.setdefault(device_id, []).append(Stored(Name(boot, seq), late, value))
    return of


# --- what must hold ------------------------------------------------------------------------------------------------


def check(service: Crashing, fleet: list[Machine]) -> None:
    held = stored(service)
    made = sum(len(machine.made) for machine in fleet)
    print(
        f"{made} messages, {sum(machine.republished for machine in fleet)} republished, "
        f"{sum(row.late for of in held.values() for row in of)} late, "
        f"{sum(machine.excursions for machine in fleet)} excursions, {fleet[0].connects} connections a machine"
    )
    assert rows(service, sa.select(schema.rejected)) == []
    assert rows(service, sa.select(schema.parked)) == []
    for machine in fleet:
        check_messages(machine, held[machine.device_id])
    check_faults(service, fleet)
    check_tickets(service, fleet)


def check_messages(machine: Machine, held: list[Stored]) -> None:
    """Every PUBACKed message once, with its own value, in the order of making."""
    times = Counter(row.name for row in held)
    assert machine.acked == set(machine.made), machine.device_id
    assert machine.acked - set(times) == set(), f"{machine.device_id} lost messages"
    assert [name for name, count in times.items() if count > 1] == [], f"{machine.device_id} has messages twice"
    assert {row.name: row.value for row in held} == machine.made
    in_time = [row.name for row in held if not row.late]
    assert in_time == sorted(in_time), f"{machine.device_id} was taken in out of order"
    # A controller that restarts overtakes its own unacknowledged messages; only those are found late.
    newest = max(machine.made).boot
    assert [row.name for row in held if row.late and row.name.boot == newest] == []


def check_faults(service: Crashing, fleet: list[Machine]) -> None:
    """Each excursion opened a fault and cleared it; nothing else was ever wrong."""
    f = schema.fault.c
    faults = rows(service, sa.select(f.device_id, f.kind, f.subject, f.cleared_at))
    assert {(row.kind, row.subject) for row in faults} <= {("limit", "temp_c")}
    assert [row for row in faults if row.cleared_at is None] == []
    truth = {machine.device_id: machine.excursions for machine in fleet if machine.excursions}
    assert Counter(row.device_id for row in faults) == truth


def check_tickets(service: Crashing, fleet: list[Machine]) -> None:
    """One ticket for each machine that was ever in trouble, with one clock and one alert; recurrences joined it."""
    t, n = schema.ticket.c, schema.notice.c
    tickets = rows(service, sa.select(t.id, t.device_id, t.recurrences, t.cleared_at))
    truth = {machine.device_id: machine.excursions - 1 for machine in fleet if machine.excursions}
    assert {row.device_id: row.recurrences for row in tickets} == truth
    assert len(tickets) == len(truth)
    assert all(row.cleared_at is not None for row in tickets)
    ids = sorted(row.id for row in tickets)
    assert sorted(row.ticket_id for row in rows(service, sa.select(schema.commitment))) == ids
    alerts = rows(service, sa.select(n.ticket_id).where(n.kind == "dispatch_alert"))
    assert sorted(row.ticket_id for row in alerts) == ids
