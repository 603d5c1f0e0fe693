"""A small rental company behind a real server: SQLite, DuckDB, the real desk, uvicorn on a port of its own."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import sqlalchemy as sa
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.context import Api
from monitor.desk.commitments import service_standard
from monitor.engine import Desk
from monitor.engine.desk import Addresses
from monitor.links import Signer
from monitor.readings import Batch, Message, Reading
from monitor.store import cases, schema
from monitor.store.access import Role, create_login_link, create_token
from monitor.store.database import Database, open_database
from monitor.store.profiles import load_profiles
from monitor.store.telemetry import Telemetry
from monitor.store.telemetry_opening import open_telemetry
from tests.patience import PATIENCE_S, until
from tests.programs import free_port

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def wall_clock() -> int:
    return int(time.time() * 1000)


STOPS = {
    "dispatch": "technician_arranged", "remote_diagnosis": "diagnosis_given", "repair_start": "repair_begun",
}  # fmt: skip


@dataclass
class World:
    """The company's record, and a clock that a test may set: `at` None is the wall clock."""

    database: Database
    telemetry: Telemetry
    api: Api
    began: int
    at: int | None = None
    tokens: dict[str, str] = field(default_factory=dict)
    url: str = ""
    open: sa.Connection | None = None
    app: FastAPI | None = None

    def now(self) -> int:
        return wall_clock() if self.at is None else self.at

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        if self.open:
            yield self.open
            return
        with self.database.begin() as connection:
            yield connection

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is written within is one transaction: a disk's sync for each row would be most of the tests' time."""
        with self.database.begin() as self.open:
            yield
        self.open = None

    def insert(self, table: sa.Table, **values: object) -> int:
        with self._writing() as connection:
            key = connection.execute(sa.insert(table).values(**values)).inserted_primary_key
        return key[0] if key and isinstance(key[0], int) else 0

    def token(self, role: Role, name: str, customer_id: int | None = None) -> str:
        with self._writing() as connection:
            return create_token(connection, role, name, self.now(), customer_id=customer_id)

    def link(self, role: Role, person_id: int | None = None) -> str:
        with self.database.begin() as connection:
            return create_login_link(connection, role, self.now(), person_id=person_id)

    def client(self, who: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        kept = {"request": [lambda _request: self.keep_books()]}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S, event_hooks=kept)

    def keep_books(self) -> None:
        """The fleet's ledger follows what was written since, as the desk's tick makes it."""
        self.api.desk.books.keep(self.now())

    # --- what stands in the record ---

    def machine(self, device_id: str, profile: str = "diesel_generator", **values: object) -> None:
        facts = {
            "added_at": self.began - 40 * DAY,
            "first_heard_at": self.began - 40 * DAY,
            "last_heard_at": self.began,
            "connection": "online",
            "firmware": "2.4.1",
        }
        self.insert(schema.device, device_id=device_id, profile=profile, **facts | values)

    def hire(self, device_id: str, customer_id: int, starts_at: int, ends_at: int | None = None) -> int:
        return self.insert(
            schema.rental, device_id=device_id, customer_id=customer_id, starts_at=starts_at, ends_at=ends_at
        )

    def ticket(
        self, device_id: str, kind: str, subject: str = "", *, severity: str = "urgent", status: str = "open",
        ago_ms: int = 5 * MINUTE, rental_id: int | None = None, evidence: dict[str, object] | None = None,
        clocks: tuple[tuple[str, str, int], ...] = (), technician_id: int | None = None, cleared: bool = False,
    ) -> int:  # fmt: skip
        """An open ticket with its fault and its clocks `(row, kind, length_ms)`."""
        opened_at = self.began - ago_ms
        cleared_at = self.began if cleared else None
        common = {
            "device_id": device_id, "kind": kind, "subject": subject, "severity": severity, "opened_at": opened_at,
            "occurred_at": opened_at - 2_000, "cleared_at": cleared_at, "evidence": evidence or {},
        }  # fmt: skip
        ticket_id = self.insert(
            schema.ticket, **common, status=status, rental_id=rental_id, technician_id=technician_id,
            standard_version="test",
        )  # fmt: skip
        self.insert(schema.fault, **common, ticket_id=ticket_id)
        for standard_id, clock, length_ms in clocks:
            self.insert(
                schema.commitment, ticket_id=ticket_id, standard_id=standard_id, kind=clock, started_at=opened_at,
                due_at=opened_at + length_ms, warn_before_s=900.0, stop=STOPS[clock], length_s=length_ms / 1000,
                calendar="always", timezone="Asia/Shanghai", warns=["technician", "ops"],
            )  # fmt: skip
        self.note_due(ticket_id)
        return ticket_id

    def note_due(self, ticket_id: int) -> None:
        """After a ticket's clocks were changed past the desk."""
        with self._writing() as connection:
            cases.note_due(connection, ticket_id)

    def measure(
        self, device_id: str, *, since: int, until: int, step_ms: int = 10_000, gap: range = range(0),
        heat: Callable[[int], float] = lambda _: 0.0,
    ) -> None:  # fmt: skip
        """Readings of a generator that runs warm, one each step; none within the gap. `heat` warms its coolant."""
        messages = [
            Message(device_id, 0, at, False, Reading(1, n, at, "running", _generator(at - since, heat(at))))
            for n, at in enumerate(range(since, until, step_ms))
            if at not in gap
        ]
        number = self.telemetry_batches = getattr(self, "telemetry_batches", 0) + 1
        self.telemetry.store(Batch.of(number, messages))


def _generator(t_ms: int, heat: float = 0.0) -> dict[str, float]:
    swing = math.sin(t_ms / 400_000)
    return {
        "coolant_temp_c": heat + 86 + 7 * swing + 0.3 * math.sin(t_ms / 9_000),
        "oil_pressure_bar": 4.1 - 0.2 * swing,
        "engine_speed_rpm": 1500 + 4 * math.sin(t_ms / 7_000),
        "battery_voltage_v": 13.6,
        "fuel_level_pct": 71 - t_ms / 1_200_000,
    }


@contextmanager
def world(folder: Path, *, lang: str = "en", at: int | None = None) -> Iterator[World]:
    """An empty company with its server up."""
    database = open_database(f"sqlite:///{folder / 'fettle.db'}")
    with database.begin() as connection:
        schema.metadata.create_all(connection)
    telemetry = open_telemetry(f"duckdb:{folder / 'telemetry.duckdb'}")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    profiles = load_profiles()
    desk = Desk(database, service_standard(), profiles, Addresses(url, "Europe/Berlin", signer=Signer(bytes(32))))
    ours: list[World] = []
    going_down = threading.Event()
    api = Api(
        database=database, telemetry=telemetry, desk=desk, profiles=profiles, clock=lambda: ours[0].now(),
        public_url=url, lang=lang, timezone="Europe/Berlin", ready={"broker": lambda: True},
        stopping=going_down.is_set, hotline="+49 30 1234567",
    )  # fmt: skip
    began = wall_clock() if at is None else at
    app = create_app(api)
    ours.append(World(database, telemetry, api, began, at, url=url, app=app))
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=port, log_level="warning", access_log=False, ws="none",
            timeout_graceful_shutdown=2,
        )
    )  # fmt: skip
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started, "the server has started")
        yield ours[0]
    finally:
        going_down.set()
        server.should_exit = True
        thread.join(PATIENCE_S)
        telemetry.close()
        database.close()


def furnish(world: World, *, readings: bool = True) -> None:
    """Two customers with a machine each, one machine in the yard, one given back, a token for each role."""
    with world.at_once():
        _furnish(world)
    if not readings:
        return
    world.measure("gen-a", since=world.began - 4 * HOUR, until=world.began)
    world.measure("gen-b", since=world.began - HOUR, until=world.began)


def _furnish(world: World) -> None:
    began = world.began
    north = world.insert(schema.site, name="Tunnel North", remote=False, timezone="Europe/Berlin")
    quarry = world.insert(schema.site, name="Quarry Sandberg", remote=True, timezone="Europe/Berlin")
    a = world.insert(schema.customer, name="Customer A", email="a@example.com", lang="en")
    b = world.insert(schema.customer, name="Customer B", email="b@example.com", lang="zh")
    for name, role, customer_id in (
        ("Tang", "technician", None), ("Weber", "technician", None), ("Olga", "ops", None), ("Anna", "customer", a)
    ):  # fmt: skip
        world.insert(
            schema.person, name=name, role=role, email=f"{name.lower()}@example.com", lang="en", added_at=began,
            customer_id=customer_id,
        )  # fmt: skip
    world.machine("gen-a", site_id=north)
    world.machine("gen-b", site_id=quarry)
    world.machine("gen-yard", site_id=north)
    world.machine("gen-old", site_id=north)
    world.machine("gen-mute", profile="water_pump", first_heard_at=None, last_heard_at=None, connection=None)
    at_a = world.hire("gen-a", a, began - 2 * HOUR)
    at_b = world.hire("gen-b", b, began - 3 * DAY)
    world.hire("gen-old", a, began - 9 * DAY, began - DAY)
    world.ticket(
        "gen-a", "limit", "coolant_temp_c", rental_id=at_a, clocks=(("R7", "dispatch", HOUR),),
        evidence={"value": 104.2, "limit": 100.0, "side": "above", "hold_s": 15.0, "unit": "°C"},
    )  # fmt: skip
    world.ticket(
        "gen-b", "startup_failure", severity="emergency", rental_id=at_b, evidence={"reason": "timeout"},
        clocks=(("R8", "remote_diagnosis", HOUR), ("R8", "dispatch", 4 * HOUR), ("R9", "repair_start", 4 * HOUR)),
    )  # fmt: skip
    world.ticket("gen-yard", "silent", severity="routine")
    world.insert(
        schema.seen, device_id="gen-a", generation=0, boot=1, next_seq=100, received=95, gaps=[[10, 13], [40, 42]]
    )
    world.insert(
        schema.notice, cause="test:1", kind="dispatch_alert", ticket_id=1, channel="email",
        recipient="tang@example.com", lang="en", subject="Ticket 1", body="…", status="sent", tries=1,
        queued_at=began, next_try_at=began, sent_at=began,
    )  # fmt: skip
    world.insert(
        schema.rejected, received_at=began, device_id="gen-a", topic="fettle/v1/00/gen-a/telemetry",
        reason="bad_json", detail="not JSON", payload=b"{\xff" + b"x" * 900, payload_bytes=902,
    )  # fmt: skip
    for role in Role:
        if role not in (Role.CUSTOMER, Role.TECHNICIAN):
            world.tokens[role] = world.token(role, f"the {role}")
    world.tokens["technician"] = world.token(Role.TECHNICIAN, "Tang")
    world.tokens["other technician"] = world.token(Role.TECHNICIAN, "Weber")
    world.tokens["customer"] = world.token(Role.CUSTOMER, "the customer A", a)
    world.tokens["customer b"] = world.token(Role.CUSTOMER, "the customer B", b)
