"""Every process, wired top-down on one page.

`up` is the whole service in one process; `ingest`, `monitor`, `api` and `broker` are its parts on many machines.
"""

import fcntl
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import BaseScheduler
from pydantic import SecretStr

from api.app import create_app
from api.context import Api
from fettle.house import CannotStart, House, broker_address, clock, house, link_signer
from fettle.metrics import watch_metrics
from fettle.probing import Checks, answering_probes, signs_in
from fettle.serving import serve
from fettle.settings import Settings
from ingest.broker import Broker, BrokerFailed, Tls
from ingest.subscriber import Subscriber
from monitor.desk import diagnosis as self_tests
from monitor.desk.commitments import service_standard
from monitor.engine import Copyist, Desk, Watch, diagnosis
from monitor.engine.desk import Addresses
from monitor.engine.meters import MeterReader
from monitor.engine.spot_checking import SpotChecking
from monitor.notify.channels import Settings as Channels
from monitor.notify.channels import channels, introduce
from monitor.notify.outbox import Outbox
from monitor.store import notices, registry
from monitor.store.database import Database
from monitor.store.telemetry import Telemetry, TelemetryUnavailable
from monitor.store.telemetry_opening import open_telemetry

log = structlog.get_logger()

BACKLOG = 2048
"""So many connections may wait for the HTTP server to take them up (its own default)."""

LATE_S = 120
"""A tick that has not succeeded for so long, or a message that has waited so long, makes a process not ready."""
REPORT_LATE_S = 3600
"""The monthly report of a large fleet takes a while, and nothing waits for it."""


def desk_of(rooms: House) -> Desk:
    settings = rooms.settings
    webhook = "operations" if settings.webhook_url else ""
    addresses = Addresses(settings.public, settings.timezone, webhook, signer=link_signer(settings))
    return Desk(rooms.database, service_standard(), rooms.profiles, addresses)


def up(settings: Settings, announce: Callable[[House, Broker | None], Callable[[], None]]) -> None:
    """The complete service in one process, until a signal ends it.

    `announce` is called when everything runs; what it returns is called before anything is stopped.
    """
    with ExitStack() as parts:
        parts.enter_context(only_one(settings, "up"))
        port = parts.enter_context(http_port(settings))
        rooms = parts.enter_context(house(settings))
        telemetry = parts.enter_context(telemetry_of(settings))
        broker = parts.enter_context(broker_running(rooms)) if settings.mqtt_url is None else None
        desk = desk_of(rooms)
        watch = Watch(rooms.database, telemetry, desk, rooms.profiles,
                      retention_days=settings.telemetry_days, now=clock())  # fmt: skip
        subscriber = parts.enter_context(listening(rooms, watch))
        ticks = parts.enter_context(ticking())
        tick_watch(ticks, watch, subscriber)
        tick_commands(ticks, rooms, subscriber)
        tick_copyist(ticks, rooms, telemetry)
        tick_meters(ticks, rooms, telemetry)
        tick_desk(ticks, rooms, desk)
        application = Api(
            rooms.database, telemetry, desk, rooms.profiles, clock, settings.public, settings.lang,
            settings.timezone, ready=hearing(subscriber, ticks),
            registry=watch_metrics(watch, subscriber), hotline=settings.hotline,
        )  # fmt: skip
        serve(create_app, application, port, settings.trusted_proxies, lambda: announce(rooms, broker))


def ingest(settings: Settings) -> None:
    """What machines say, taken in and judged; owns the detectors."""
    needs_shared_telemetry(settings, "ingest")
    with ExitStack() as parts:
        parts.enter_context(only_one(settings, "ingest"))
        rooms = parts.enter_context(house(settings))
        telemetry = parts.enter_context(telemetry_of(settings))
        desk = desk_of(rooms)
        watch = Watch(rooms.database, telemetry, desk, rooms.profiles,
                      retention_days=settings.telemetry_days, now=clock())  # fmt: skip
        subscriber = parts.enter_context(listening(rooms, watch))
        ticks = parts.enter_context(ticking())
        tick_watch(ticks, watch, subscriber)
        tick_commands(ticks, rooms, subscriber)
        tick_copyist(ticks, rooms, telemetry)
        tick_meters(ticks, rooms, telemetry)
        checks: Checks = {**hearing(subscriber, ticks), "telemetry": lambda: telemetry.latest("-") or True}
        parts.enter_context(answering_probes(settings, checks, watch_metrics(watch, subscriber)))
        until_signal("ingest")


def monitor(settings: Settings) -> None:
    """The desk's clocks and the outbox."""
    needs_shared_telemetry(settings, "monitor")
    with ExitStack() as parts:
        parts.enter_context(only_one(settings, "monitor"))
        rooms = parts.enter_context(house(settings))
        ticks = parts.enter_context(ticking())
        tick_desk(ticks, rooms, desk_of(rooms))
        parts.enter_context(answering_probes(settings, {"ticks": ticks.in_time}))
        until_signal("monitor")


def api(settings: Settings) -> None:
    """API and pages."""
    needs_shared_telemetry(settings, "api")
    with ExitStack() as parts:
        port = parts.enter_context(http_port(settings))
        rooms = parts.enter_context(house(settings))
        telemetry = parts.enter_context(telemetry_of(settings))
        application = Api(rooms.database, telemetry, desk_of(rooms), rooms.profiles, clock, settings.public,
                          settings.lang, settings.timezone, hotline=settings.hotline)  # fmt: skip
        serve(create_app, application, port, settings.trusted_proxies, lambda: lambda: None)


def broker(settings: Settings) -> None:
    """The embedded broker alone, for the other processes to share."""
    with ExitStack() as parts:
        rooms = parts.enter_context(house(settings))
        child = parts.enter_context(broker_running(rooms))
        # Without the database it would not hear of a revoked credential.
        checks = {"broker": lambda: signs_in(child.service(clock())[0]), "database": lambda: answers(rooms.database)}
        parts.enter_context(answering_probes(settings, checks))
        until_signal("broker")


# --- the parts ---


@contextmanager
def only_one(settings: Settings, process: str) -> Iterator[None]:
    """One process of a kind in a data folder."""
    settings.prepare_home()
    with (settings.home / f"{process}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CannotStart(f"another fettle {process} runs in {settings.home} already") from error
        yield


@contextmanager
def telemetry_of(settings: Settings) -> Iterator[Telemetry]:
    try:
        telemetry = open_telemetry(settings.telemetry)
    except (TelemetryUnavailable, ValueError) as error:
        raise CannotStart(f"FETTLE_TELEMETRY_URL: {error}") from None
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
    try:
        child.start()
    except BrokerFailed as error:
        raise CannotStart(f"the broker cannot start: {error}") from None
    try:
        with ticking() as ticks:
            ticks.every(1.0, "refuse_credentials", refuse)
            yield child
    finally:
        child.stop()


def answers(database: Database) -> bool:
    with database.connect() as connection:
        return registry.version(connection) >= 0


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


@contextmanager
def http_port(settings: Settings) -> Iterator[socket.socket]:
    """The port of API and pages, taken before anything else is started."""
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    with socket.socket(family) as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            port.bind((settings.bind, settings.http_port))
            # A bound port alone could still be taken by another. Who comes before the server is up waits for it.
            port.listen(BACKLOG)
        except OSError as error:
            where = f"{settings.bind}:{settings.http_port}"
            raise CannotStart(f"FETTLE_BIND, FETTLE_HTTP_PORT: cannot listen on {where}: {error.strerror}") from None
        yield port


@contextmanager
def listening(rooms: House, watch: Watch) -> Iterator[Subscriber]:
    address, client_id = broker_address(rooms.settings)
    subscriber = Subscriber(address, client_id, watch.observe)
    subscriber.start()
    try:
        yield subscriber
    finally:
        subscriber.stop()


class Ticks:
    """A scheduler that only ticks (what is due is a row in the database, never a timer), and when it last did.

    `clock` is what every tick takes for now (epoch ms).
    """

    def __init__(self, scheduler: BaseScheduler | None = None, clock: Callable[[], int] = clock) -> None:
        self.clock = clock
        self._scheduler = scheduler or BackgroundScheduler(timezone=UTC)
        self._scheduler.start()
        self._done_at: dict[str, int] = {}
        self._late_s: dict[str, float] = {}
        self._stopping = threading.Event()

    def every(self, seconds: float, name: str, tick: Callable[[], object], *, late_s: float | None = None) -> None:
        """Call `tick` again and again. A tick that fails is logged, and the next one comes all the same. `late_s`: as
        LATE_S, where it may take longer."""
        self._done_at[name] = self.clock()
        if late_s is not None:
            self._late_s[name] = late_s

        def survive() -> None:
            try:
                tick()
            except Exception:
                log.exception("tick_failed", tick=name)
            else:
                self._done_at[name] = self.clock()

        self._scheduler.add_job(
            survive, "interval", seconds=seconds, id=name, coalesce=True, max_instances=1, misfire_grace_time=None,
            next_run_time=datetime.now(UTC),
        )  # fmt: skip

    def in_time(self) -> bool:
        """Whether every tick has succeeded not long ago."""
        now = self.clock()
        return all(now - at < self._late_s.get(name, LATE_S) * 1000 for name, at in self._done_at.items())

    def stopping(self) -> bool:
        """What a long tick asks now and then, to end early."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Waits for the ticks that are under way."""
        self._stopping.set()
        self._scheduler.shutdown()


@contextmanager
def ticking() -> Iterator[Ticks]:
    ticks = Ticks()
    try:
        yield ticks
    finally:
        ticks.stop()


def hearing(subscriber: Subscriber, ticks: Ticks) -> dict[str, Callable[[], bool]]:
    """What has to work where machines are listened to."""
    return {
        "broker": lambda: subscriber.connected,
        "intake": lambda: subscriber.lag_ms(clock()) < LATE_S * 1000,
        "ticks": ticks.in_time,
    }


def tick_watch(ticks: Ticks, watch: Watch, subscriber: Subscriber) -> None:
    ticks.every(0.5, "watch", lambda: watch.tick(ticks.clock(), attending=subscriber.attending(ticks.clock())))


def tick_commands(ticks: Ticks, rooms: House, subscriber: Subscriber) -> None:
    """Where the MQTT session is held: what machines are asked goes out."""
    policy = self_tests.shipped_policy()

    def send() -> None:
        # What is due stays due while there is no connection.
        if subscriber.connected:
            diagnosis.send_due(rooms.database, subscriber.publish, policy, ticks.clock())

    ticks.every(1.0, "commands", send)


def tick_copyist(ticks: Ticks, rooms: House, telemetry: Telemetry) -> None:
    """Where telemetry is at hand; the desk's own process has none. Several may: each copy is claimed by one."""
    days = rooms.settings.telemetry_days
    copyist = Copyist(rooms.database, telemetry, rooms.profiles, retention_days=days, stopping=ticks.stopping)
    ticks.every(2.0, "evidence", lambda: copyist.tick(ticks.clock()))


def tick_meters(ticks: Ticks, rooms: House, telemetry: Telemetry) -> None:
    """Where telemetry is at hand, as the copyist; two that read the same meter keep the same reading once."""
    reader = MeterReader(rooms.database, telemetry, rooms.profiles, stopping=ticks.stopping)
    ticks.every(10.0, "meters", lambda: reader.tick(ticks.clock()))


def outbox_of(rooms: House, desk: Desk, ticks: Ticks) -> Outbox:
    try:
        ways = channels(channel_settings(rooms.settings))
    except ValueError as error:
        raise CannotStart(str(error)) from None
    with rooms.database.begin() as connection:
        notices.say_channels(connection, introduce(ways), ticks.clock())
    return Outbox(rooms.database, ways, stopping=ticks.stopping, given_up=desk.telling.given_up)


def tick_desk(ticks: Ticks, rooms: House, desk: Desk, outbox: Outbox | None = None) -> None:
    outbox = outbox or outbox_of(rooms, desk, ticks)
    policy = self_tests.shipped_policy()
    spot_checks = SpotChecking(rooms.database, rooms.settings.timezone)
    ticks.every(1.0, "desk", lambda: desk.tick(ticks.clock()))
    ticks.every(10.0, "reporting", lambda: desk.reporting.tick(ticks.clock()), late_s=REPORT_LATE_S)
    ticks.every(60.0, "spot_checks", lambda: spot_checks.tick(ticks.clock()))
    ticks.every(5.0, "unanswered", lambda: diagnosis.give_up(rooms.database, policy, ticks.clock()))
    ticks.every(1.0, "outbox", lambda: outbox.deliver_due(ticks.clock()))


def channel_settings(settings: Settings) -> Channels:
    def revealed(secret: SecretStr | None) -> str:
        return secret.get_secret_value() if secret else ""

    return Channels(
        home=settings.home,
        smtp_url=revealed(settings.smtp_url),
        sender=settings.sender,
        webhook_url=revealed(settings.webhook_url),
        webhook_secret=revealed(settings.webhook_secret),
        webhook_inside=settings.webhook_inside,
        sms_url=revealed(settings.sms_url),
        sms_token=revealed(settings.sms_token),
        sms_inside=settings.sms_inside,
        dingtalk=revealed(settings.dingtalk),
        wecom=revealed(settings.wecom),
        feishu=revealed(settings.feishu),
    )


def until_signal(process: str) -> None:
    """Wait for SIGINT or SIGTERM."""
    done = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: done.set())
    log.info("running", process=process)
    done.wait()
