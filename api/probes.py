"""For machines that watch this one: alive, ready, and figures. No sign-in, no names."""

import time
from collections.abc import Callable, Iterable

import structlog
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import text
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import Open
from api.context import Api, Parts
from api.fleet import counts
from monitor.notify.outbox import Outbox
from monitor.store import ledger, people, queries

log = structlog.get_logger()

router = APIRouter(tags=["probes"], dependencies=[Open])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process runs and answers."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(api: Parts) -> JSONResponse:
    """Whether everything behind it works; 503 names what does not."""
    checks: dict[str, Callable[[], object]] = {
        "database": lambda: _ask_database(api),
        "telemetry": lambda: api.telemetry.latest("-") or True,
        **api.ready,
    }
    failing = [name for name, check in checks.items() if not _works(name, check)]
    if failing:
        return JSONResponse({"status": "not ready", "failing": failing}, 503)
    return JSONResponse({"status": "ready"})


@router.get("/metrics")
def metrics(api: Parts) -> Response:
    """Figures for Prometheus."""
    return Response(generate_latest(api.registry), media_type=CONTENT_TYPE_LATEST)


def _ask_database(api: Api) -> bool:
    with api.reading() as connection:
        return bool(connection.execute(text("SELECT 1")).scalar_one())


def _works(name: str, check: Callable[[], object]) -> bool:
    try:
        return bool(check())
    except Exception as error:  # noqa: BLE001 whatever is wrong behind it, the probe answers; strangers learn no more
        log.warning("not_ready", part=name, error=repr(error))
        return False


class FleetFigures(Collector):
    """Counts of machines, tickets and notices, read when they are asked for."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        scope = queries.Scope(self.api.clock())
        with self.api.reading() as connection:
            machines = counts(ledger.machines_now(connection))
            pressing = queries.open_tickets(connection, scope)
            rota_kept = people.keeps_rota(connection)
        waiting = Outbox(self.api.database, {}).backlog(scope.now)
        by_condition = GaugeMetricFamily("fettle_machines", "Machines by condition", labels=["condition"])
        for condition in ("good", "bad", "unknown"):
            by_condition.add_metric([condition], getattr(machines, condition))
        yield by_condition
        yield GaugeMetricFamily("fettle_tickets_open", "Open tickets", pressing.open)
        yield GaugeMetricFamily("fettle_tickets_breached", "Open tickets past a due time", pressing.breached)
        yield GaugeMetricFamily("fettle_rota_kept", "1: technicians are asked in turn; 0: all are alerted", rota_kept)
        yield GaugeMetricFamily("fettle_notices_queued", "Notices that wait to be sent", waiting.queued)
        yield GaugeMetricFamily("fettle_notices_failed", "Notices that were given up", waiting.failed)
        yield GaugeMetricFamily(
            "fettle_notices_overdue_seconds", "So long the oldest due notice has waited", waiting.overdue_ms / 1000
        )


class Measured:
    """Counts and times requests, by route and never by address."""

    def __init__(self, app: ASGIApp, api: Api) -> None:
        self.app = app
        self.requests = Counter(
            "fettle_http_requests", "Requests answered", ["method", "route", "status"], registry=api.registry
        )
        self.seconds = Histogram(
            "fettle_http_request_seconds", "Time to the first byte of the answer", ["route"], registry=api.registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()

        async def send_measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self.requests.labels(scope["method"], route, str(message["status"])).inc()
                self.seconds.labels(route).observe(time.perf_counter() - began)
            await send(message)

        await self.app(scope, receive, send_measured)
