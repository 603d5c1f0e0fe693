"""Every process, wired top-down on one page.

`up` is the whole service in one process; `ingest`, `monitor`, `api` and `broker` are its parts on many machines.
"""

import fcntl
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from pydantic import SecretStr

from api.app import create_app
from api.context import Api
from fettle.metrics import watch_metrics
from fettle.serving import serve
from fettle.settings import Settings
from ingest.broker import Broker, Tls
from ingest.connection import Address
from ingest.credentials import Keyring
from ingest.passwords import PasswordFiles
from ingest.subscriber import Subscriber
from monitor.desk.commitments import service_standard
from monitor.devices import Profile
from monitor.engine import Desk, Watch
from monitor.engine.desk import Addresses
from monitor.notify.channels import Settings as Channels
from monitor.notify.channels import channels
from monitor.notify.outbox import Outbox
from monitor.store import registry
from monitor.store.database import Database, migrate, open_database
from monitor.store.profiles import load_profiles
from monitor.store.telemetry import Telemetry, open_telemetry

log = structlog.get_logger()


class CannotStart(Exception):
    """Why a process cannot start as it is set up, in words for the operator."""


def clock() -> int:
    """Now, in epoch milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class House:
    """The rooms that every process has: settings, database, profiles, desk."""

    settings: Settings
    database: Database
    profiles: dict[str, Profile]
    desk: Desk


@contextmanager
def house(settings: Settings) -> Iterator[House]:
    """Open the data folder and the database, brought to the newest schema."""
    settings.prepare_home()
    database = open_database(settings.database)
    try:
        migrate(database)
        profiles = load_profiles(settings.home / "profiles")
        addresses = Addresses(settings.public, settings.timezone, "operations" if settings.webhook_url else "")
        yield House(settings, database, profiles, Desk(database, service_standard(), profiles, addresses))
    finally:
        database.close()


def up(settings: Settings, announce: Callable[[House, Broker | None], Callable[[], None]]) -> None:
    """The complete service in one process, until a signal ends it.

    `announce` is called when everything runs; what it returns is called before anything is stopped.
    """
    with ExitStack() as parts:
        parts.enter_context(only_one(settings))
        rooms = parts.enter_context(house(settings))
        telemetry = parts.enter_context(telemetry_of(settings))
        broker = parts.enter_context(broker_running(rooms)) if settings.mqtt_url is None else None
        watch = Watch(rooms.database, telemetry, rooms.desk, rooms.profiles,
                      retention_days=settings.telemetry_days, now=clock())  # fmt: skip
        subscriber = parts.enter_context(listening(rooms, watch))
        scheduler = parts.enter_context(ticking())
        tick_watch(scheduler, watch, subscriber)
        tick_desk(scheduler, rooms)
        application = Api(
            rooms.database, telemetry, rooms.desk, rooms.profiles, clock, settings.public, settings.lang,
            settings.timezone, ready={"broker": lambda: subscriber.connected},
            registry=watch_metrics(watch, subscriber),
        )  # fmt: skip
        serve(create_app, application, settings, lambda: announce(rooms, broker))


def ingest(settings: Settings) -> None:
    """What machines say, taken in and judged; owns the detectors."""
    needs_shared_telemetry(settings, "ingest")
    with ExitStack() as parts:
        rooms = parts.enter_context(house(settings))
        telemetry = parts.enter_context(telemetry_of(settings))
        watch = Watch(rooms.database, telemetry, rooms.desk, rooms.profiles,
                      retention_days=settings.telemetry_days, now=clock())  # fmt: skip
        subscriber = parts.enter_context(listening(rooms, watch))
        tick_watch(parts.enter_context(ticking()), watch, subscriber)
        until_signal("ingest")


def monitor(settings: Settings) -> None:
    """The desk's clocks and the outbox."""
    with ExitStack() as parts:
        rooms = parts.enter_context(house(settings))
        tick_desk(parts.enter_context(ticking()), rooms)
        until_signal("monitor")


def api(settings: Settings) -> None:
    """API and pages."""
    needs_shared_telemetry(settings, "api")
    with ExitStack() as parts:
        rooms = parts.enter_context(house(settings))
        telemetry = parts.enter_context(telemetry_of(settings))
        application = Api(rooms.database, telemetry, rooms.desk, rooms.profiles, clock, settings.public,
                          settings.lang, settings.timezone)  # fmt: skip
        serve(create_app, application, settings, lambda: lambda: None)


def broker(settings: Settings) -> None:
    """The embedded broker alone, for the other processes to share."""
    with ExitStack() as parts:
        rooms = parts.enter_context(house(settings))
        parts.enter_context(broker_running(rooms))
        until_signal("broker")


# --- the parts ---


@contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """One service a data folder."""
    settings.prepare_home()
    with (settings.home / "running.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CannotStart(f"another fettle runs in {settings.home} already") from error
        yield


@contextmanager
def telemetry_of(settings: Settings) -> Iterator[Telemetry]:
    telemetry = open_telemetry(settings.telemetry)
    try:
        yield telemetry
    finally:
        telemetry.close()


def needs_shared_telemetry(settings: Settings, process: str) -> None:
    """A DuckDB file belongs to one process; separate processes need a telemetry server."""
    if settings.telemetry.startswith("duckdb:"):
        raise CannotStart(
            f"fettle {process} is one of several processes, and a DuckDB file belongs to one: "
            "set FETTLE_TELEMETRY_URL to influxdb:http://host:port/database, or start everything with fettle up"
        )


@contextmanager
def broker_running(rooms: House) -> Iterator[Broker]:
    """The embedded broker, with the credentials that were ended since its last start refused."""
    settings = rooms.settings
    tls = None
    if settings.mqtt_tls_cert or settings.mqtt_tls_key:
        if not (settings.mqtt_tls_cert and settings.mqtt_tls_key):
            raise CannotStart("FETTLE_MQTT_TLS_CERT and FETTLE_MQTT_TLS_KEY go together; one of them is missing")
        tls = Tls(settings.mqtt_tls_cert, settings.mqtt_tls_key)
    child = Broker(settings.home, settings.mqtt_port, settings.bind, program=settings.nats_server, tls=tls)
    refuse = refusing(rooms.database, child)
    refuse()
    child.start()
    scheduler = BackgroundScheduler(timezone=UTC)
    every(scheduler, 1.0, "refuse_credentials", refuse)
    scheduler.start()
    try:
        yield child
    finally:
        scheduler.shutdown()
        child.stop()


def refusing(database: Database, child: Broker) -> Callable[[], None]:
    """Tell the broker whom to refuse, whenever that has changed."""
    told: dict[str, int] | None = None

    def refuse() -> None:
        nonlocal told
        with database.connect() as connection:
            ended = {key: at // 1000 + 1 for key, at in registry.ended_credentials(connection).items()}
        if ended != told:
            child.revoke(ended)
            told = ended

    return refuse


def broker_address(settings: Settings) -> tuple[Address, str]:
    """Where and as whom the service listens: the address with its sign-in, and its secret client id."""
    if not settings.own_broker and settings.mqtt_url is not None:
        outside = Address.parse(settings.mqtt_url.get_secret_value(), settings.mqtt_ca)
        return PasswordFiles(settings.home).service(outside)
    own = Keyring(settings.home.absolute() / "broker").service(clock())
    if settings.mqtt_url is not None:
        there = Address.parse(settings.mqtt_url.get_secret_value().replace("own://", "mqtt://", 1))
        return replace(there, username=own.username, password=own.password), own.client_id
    pinned = settings.mqtt_tls_cert
    here = Address(settings.broker_host, settings.mqtt_port, own.username, own.password, pinned is not None, pinned,
                   pinned=pinned is not None)  # fmt: skip
    return here, own.client_id


@contextmanager
def listening(rooms: House, watch: Watch) -> Iterator[Subscriber]:
    address, client_id = broker_address(rooms.settings)
    subscriber = Subscriber(address, client_id, watch.observe)
    subscriber.start()
    try:
        yield subscriber
    finally:
        subscriber.stop()


@contextmanager
def ticking() -> Iterator[BackgroundScheduler]:
    """A scheduler that only ticks: what is due is a row in the database, never a timer."""
    scheduler = BackgroundScheduler(timezone=UTC)
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.shutdown()


def every(scheduler: BackgroundScheduler, seconds: float, name: str, tick: Callable[[], object]) -> None:
    """Call `tick` again and again. A tick that fails is logged, and the next one comes all the same."""

    def survive() -> None:
        try:
            tick()
        except Exception:
            log.exception("tick_failed", tick=name)

    scheduler.add_job(
        survive, "interval", seconds=seconds, id=name, coalesce=True, max_instances=1, misfire_grace_time=None,
        next_run_time=datetime.now(UTC),
    )  # fmt: skip


def tick_watch(scheduler: BackgroundScheduler, watch: Watch, subscriber: Subscriber) -> None:
    every(scheduler, 0.5, "watch", lambda: watch.tick(clock(), attending=subscriber.attending(clock())))


def tick_desk(scheduler: BackgroundScheduler, rooms: House) -> None:
    settings = rooms.settings
    outbox = Outbox(rooms.database, channels(channel_settings(settings)))
    every(scheduler, 1.0, "desk", lambda: rooms.desk.tick(clock()))
    every(scheduler, 1.0, "outbox", lambda: outbox.deliver_due(clock()))


def channel_settings(settings: Settings) -> Channels:
    def revealed(secret: SecretStr | None) -> str:
        return secret.get_secret_value() if secret else ""

    return Channels(
        home=settings.home,
        smtp_url=revealed(settings.smtp_url),
        webhook_url=revealed(settings.webhook_url),
        webhook_secret=revealed(settings.webhook_secret),
        webhook_inside=settings.webhook_inside,
    )


def until_signal(process: str) -> None:
    """Wait for SIGINT or SIGTERM."""
    done = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: done.set())
    log.info("running", process=process)
    done.wait()
