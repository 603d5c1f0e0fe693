"""The parts of a process, put together: ports, readiness, and a stop that does not wait for a slow world."""

import asyncio
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from fettle import wiring
from fettle.house import CannotStart, clock, house
from fettle.settings import Settings
from fettle.wiring import Ticks, desk_of, hearing, http_port, tick_desk, ticking
from ingest.subscriber import Subscriber, begin_session
from monitor.devices import topic
from monitor.readings import Arrival
from monitor.store.registry import Registry
from monitor.store.schema import monthly_report, notice
from tests.brokers import as_device, nats_broker, now_ms
from tests.patience import PATIENCE_S, until
from tests.programs import free_port


def test_nobody_else_gets_the_http_port(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, http_port=free_port())
    with http_port(settings) as held:
        taken = f"FETTLE_HTTP_PORT: cannot listen on 127.0.0.1:{settings.http_port}: Address already in use"
        with pytest.raises(CannotStart, match=taken), http_port(settings):
            pass
        # Who comes early is kept waiting, not turned away.
        with socket.create_connection(("127.0.0.1", settings.http_port), timeout=PATIENCE_S):
            held.accept()[0].close()


def test_a_process_that_has_just_started_and_hears_its_broker_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = {"now": True}

    def observe(_arrivals: Sequence[Arrival], _now: int) -> None:
        if not stored["now"]:
            raise RuntimeError("the disk is full")

    def failing(ticks: Ticks, subscriber: Subscriber) -> list[str]:
        return [name for name, check in hearing(subscriber, ticks).items() if not check()]

    with nats_broker(tmp_path) as broker, ticking() as ticks:
        address, client_id = broker.service(now_ms())
        begin_session(address, client_id, 10)
        subscriber = Subscriber(address, client_id, observe)
        ticks.every(0.05, "watch", lambda: stored["now"] or 1 / 0)
        assert failing(ticks, subscriber) == ["broker"]
        subscriber.start()
        try:
            until(lambda: failing(ticks, subscriber) == [], what="it is ready")
            # What is late is measured in seconds here, so that the test need not take minutes.
            monkeypatch.setattr(wiring, "LATE_S", 1)
            stored["now"] = False
            with as_device(broker, broker.mint("GX-1", now_ms())) as device:
                device.publish(f"{topic('GX-1')}/telemetry", b"{}")
            until(lambda: failing(ticks, subscriber) == ["intake", "ticks"], what="it says what does not work")
            stored["now"] = True
            until(lambda: failing(ticks, subscriber) == [], what="it is ready again")
        finally:
            subscriber.stop()


def test_the_months_report_is_built_and_no_tick_of_the_desk_does_it(tmp_path: Path) -> None:
    morning = 1_762_120_800_000  # Monday, 3 November 2025, 06:00 in Shanghai
    with house(Settings(home=tmp_path, timezone="Asia/Shanghai")) as rooms, ticking() as ticks:
        registry = Registry(rooms.database)
        registry.add_device("m1", "water_pump", None, morning - 30 * 86_400_000)
        desk = desk_of(rooms)
        desk.reporting.tick(morning)
        desk.tick(morning + 60_000)

        def months() -> list[str]:
            with rooms.database.connect() as connection:
                return list(connection.execute(sa.select(monthly_report.c.month)).scalars())

        assert months() == []
        ticks.clock = lambda: morning + 60_000
        tick_desk(ticks, rooms, desk)
        until(months, what="the report")
        assert months() == ["2025-10"]


def test_a_report_may_take_longer_than_others() -> None:
    now = {"is": 0}
    ticks = Ticks(clock=lambda: now["is"])
    try:
        ticks.every(3600, "reporting", lambda: 1 / 0, late_s=wiring.REPORT_LATE_S)
        now["is"] = wiring.LATE_S * 1000
        assert ticks.in_time()
        now["is"] = wiring.REPORT_LATE_S * 1000
        assert not ticks.in_time()
    finally:
        ticks.stop()


class SlowServer:
    """An SMTP server that takes half a second to each letter."""

    def __init__(self) -> None:
        self.letters = 0

    async def handle_DATA(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802
        await asyncio.sleep(0.5)
        self.letters += 1
        return "250 OK"


def test_a_stop_waits_for_one_letter_and_not_for_all(tmp_path: Path) -> None:
    post, port = SlowServer(), free_port()
    server = Controller(post, hostname="127.0.0.1", port=port)
    server.start()
    try:
        with house(Settings(home=tmp_path, smtp_url=f"smtp://127.0.0.1:{port}")) as rooms:
            rows = [
                {"cause": f"c:{n}", "kind": "breach", "channel": "email", "recipient": "t@example.com", "lang": "en",
                 "subject": "s", "body": "b", "status": "queued", "tries": 0, "queued_at": 1, "next_try_at": clock()}
                for n in range(40)
            ]  # fmt: skip
            with rooms.database.begin() as connection:
                connection.execute(sa.insert(notice), rows)
            ticks = Ticks()
            tick_desk(ticks, rooms, desk_of(rooms))
            until(lambda: post.letters, what="the first letter")
            begun = time.monotonic()
            ticks.stop()
            assert time.monotonic() - begun < 5
            with rooms.database.connect() as connection:
                c = notice.c
                left = sa.select(sa.func.count()).where(c.status == "queued", c.tries == 0, c.claimed_until.is_(None))
                # What went out is marked so, and the rest waits untouched for the next start.
                assert connection.execute(left).scalar_one() == 40 - post.letters
                assert post.letters < 10
    finally:
        server.stop()
