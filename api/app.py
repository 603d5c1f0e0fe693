"""The API and the pages as one ASGI app."""

from collections import Counter
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Receive, Scope, Send

from api import (
    account,
    backtests,
    calendar,
    channels,
    choices,
    commands,
    devices,
    dispatching,
    exports,
    file,
    fleet,
    handover,
    hire,
    inspections,
    jobs,
    links,
    maintenance,
    moves,
    people,
    probes,
    quality,
    registers,
    reliability,
    reports,
    satisfaction,
    search,
    settings,
    spot_checks,
    standard,
    stream,
    tickets,
    windows,
)
from api.access import BY_LINK, BY_LINK_HEADERS, SECURITY_HEADERS, ForAll, Guard, Guesses, Reports, check_declared
from api.context import Api
from api.denials import Denials
from api.idempotency import OnceOnly, tell_key
from api.pages.routes import routers
from api.pages.shell import Shared, render
from api.problems import Problem, is_api, not_found, of_status, of_validation, problem_response
from api.sign_in import Doors
from api.turns import Turns
from monitor.store.telemetry import TelemetryUnavailable

STATIC = Path(__file__).parent / "static"
MAX_BODY_BYTES = 64 * 1024
PARTS = (
    fleet, devices, tickets, jobs, commands, backtests, registers, settings, standard, channels, people,
    dispatching, handover, hire, inspections, spot_checks, windows, maintenance, calendar, choices, quality,
    reliability, reports, search, file, moves, exports, stream, probes, links, satisfaction, account,
)  # fmt: skip
"""What the API is made of, each with its router."""


class Packed(GZipMiddleware):
    """What goes out is made smaller, but for the pages that show or carry a secret: the length of what was packed tells
    whoever may put something beside a secret what it is, try by try (BREACH)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        secret = path.startswith(("/account", "/sign-in")) or path.endswith("/label")
        await (self.app if secret else super().__call__)(scope, receive, send)


def create_app(api: Api) -> FastAPI:
    """The app over these parts. Raises TypeError where a route declares no roles.

    Run it with the access log off: a sign-in link carries its secret in the path.
    """
    # Its own addresses for OpenAPI would need no sign-in; ours below does.
    app = FastAPI(
        title="fettle",
        version="1",
        description="Device health for companies that rent out equipment.",
        openapi_url=None,
        max_body_size=MAX_BODY_BYTES,
    )
    _remember(app, api)
    # Not include_router: it would make every route anew, which takes longer than all else here.
    for router in (*(part.router for part in PARTS), *routers):
        app.router.routes.extend(router.routes)
    _serve_openapi(app)
    app.mount("/static", StaticFiles(directory=STATIC), "static")
    app.add_exception_handler(Problem, answer_problem)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(TelemetryUnavailable, answer_unavailable)
    app.add_exception_handler(Exception, answer_failure)
    app.add_middleware(OnceOnly, api=api)
    app.add_middleware(Packed, minimum_size=1000, compresslevel=5)
    app.add_middleware(Guard, https=api.public_url.startswith("https:"))
    app.add_middleware(probes.Measured, api=api)
    api.registry.register(probes.FleetFigures(api))
    check_declared(app)
    return app


def _remember(app: FastAPI, api: Api) -> None:
    """What a process keeps in mind from one request to the next."""
    app.state.api = api
    app.state.guesses = Guesses()
    app.state.doors = Doors()
    app.state.denials = Denials()
    app.state.reports = Reports()
    app.state.streams = Counter()
    app.state.board = stream.Board(api)
    app.state.shared = Shared()
    app.state.turns = Turns()


def _serve_openapi(app: FastAPI) -> None:
    @app.get("/openapi.json", include_in_schema=False)
    @app.get("/api/v1/openapi.json", include_in_schema=False)
    def openapi(_: ForAll) -> JSONResponse:
        return JSONResponse(tell_key(app.openapi()))


def answer(request: Request, problem: Problem) -> Response:
    """Programs get problem details, people a page, and people who have not signed in the way to do so."""
    if is_api(request):
        return problem_response(problem)
    if problem.status == 401 and request.method == "GET":
        return RedirectResponse("/sign-in", 303)
    template = "by_link_problem.html" if request.url.path.startswith(BY_LINK) else "problem.html"
    page = render(request, template, status=problem.status, problem=problem)
    page.headers.update(problem.headers)
    return page


def answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 as registered
    return answer(request, error)


def answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 as registered
    problem = of_status(error.status_code, error.detail)
    problem.headers.update(error.headers or {})
    return answer(request, problem)


def answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 as registered
    return answer(request, _nowhere(request, error) or of_validation(error))


# What an id in a path names. A step that there is not is told with those that there are, not as missing.
NAMED = {
    "device_id": "machine", "ticket_id": "ticket", "name": "profile", "site_id": "site", "rental_id": "rental",
    "window_id": "maintenance window", "person_id": "person", "rotation_id": "rotation", "customer_id": "customer",
    "inspection_id": "inspection", "order_id": "work order", "feed_id": "calendar", "month": "month",
}  # fmt: skip


def _nowhere(request: Request, error: RequestValidationError) -> Problem | None:
    """An id that nothing can have is one that nothing has."""
    wrong = [str(found["loc"][-1]) for found in error.errors() if found["loc"][0] == "path"]
    missing = next((NAMED[name] for name in wrong if name in NAMED), None)
    if missing:
        return not_found(missing)
    return of_status(404, "") if wrong and not is_api(request) else None


def answer_unavailable(request: Request, _: Exception) -> Response:
    return answer(request, Problem(503, "Not now", "The readings cannot be reached now.", headers={"Retry-After": "5"}))


def answer_failure(request: Request, _: Exception) -> Response:
    """The server's log has the rest; strangers learn nothing from it."""
    response = answer(request, Problem(500, "Something went wrong here", "It was written down; try again."))
    # This answer is given outside the guard.
    response.headers.update(SECURITY_HEADERS)
    if request.url.path.startswith(BY_LINK):
        response.headers.update(BY_LINK_HEADERS)
    return response
