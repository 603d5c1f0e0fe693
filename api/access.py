"""Who may do what: roles stand at each route, and one guard stands before all of them."""

import time
from collections import OrderedDict
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

import structlog
from anyio import to_thread
from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy import Connection
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.context import Api, api_of
from api.denials import note_denial, stranger
from api.problems import Problem, problem_response
from api.shapes import has_controls
from monitor.store.access import Role, Visitor, hashed, visitor_of_session, visitor_of_token

log = structlog.get_logger()

SESSION_COOKIE = "fettle_session"
SUBJECT_CHARS = 80
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="fettle"'}


def session_cookie_name(api: Api) -> str:
    """`__Host-` binds the cookie to this host and to secure transport. Browsers allow it over https, and Chromium
    and Firefox on their own machine; over plain http to another machine only a plain name gets through at all."""
    return f"__Host-{SESSION_COOKIE}" if api.secure_cookies else SESSION_COOKIE


class Allowed:
    """A route's declaration of the roles it is open to; answers the visitor.

    401 where nobody has shown who they are, 403 where they may not.
    """

    def __init__(self, *roles: Role) -> None:
        self.roles = frozenset(roles)

    def __call__(self, request: Request) -> Visitor:
        visitor = visitor_of(request)
        if visitor.role not in self.roles:
            log.warning("access_denied", actor=visitor.actor, path=request.url.path)
            # The route as it is declared: not what somebody wrote in its place.
            subject = f"{request.method} {request.scope['route'].path}"
            note_denial(request, api_of(request), visitor.actor, "access_denied", subject[:SUBJECT_CHARS])
            raise Problem(403, "Not allowed", f"Your role, {visitor.role}, does not include this.")
        return visitor


class Everybody:
    """A route's declaration that it needs no sign-in."""

    def __call__(self) -> None:
        return None


Open = Depends(Everybody())


def refuse_unknown_query(request: Request) -> None:
    """A misspelt filter must not quietly answer with everything. Raises the 422 Problem."""
    route: APIRoute = request.scope["route"]
    known = {field.alias for field in route.dependant.query_params}
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        allowed = ", ".join(sorted(known)) or "none"
        raise Problem(422, "The request is not valid", f"{unknown[0][:40]}: no such parameter; known are: {allowed}")


KnownQuery = Depends(refuse_unknown_query)

DESK = (Role.OPS, Role.SERVICE, Role.ADMIN)
DOERS = (*DESK, Role.TECHNICIAN)
OFFICE = (*DESK, Role.MANAGER)
STAFF = (*OFFICE, Role.TECHNICIAN)
ERASERS = (Role.MANAGER, Role.ADMIN)
"""Those who answer for what is kept of people."""

ForAll = Annotated[Visitor, Depends(Allowed(*Role))]
ForStaff = Annotated[Visitor, Depends(Allowed(*STAFF))]
ForOffice = Annotated[Visitor, Depends(Allowed(*OFFICE))]
ForDesk = Annotated[Visitor, Depends(Allowed(*DESK))]
ForOps = Annotated[Visitor, Depends(Allowed(Role.OPS, Role.ADMIN))]
ForErasing = Annotated[Visitor, Depends(Allowed(*ERASERS))]
ForDoers = Annotated[Visitor, Depends(Allowed(*DOERS))]


def declared(route: APIRoute) -> Allowed | Everybody | None:
    """What a route says about who may use it."""
    pending = [route.dependant]
    while pending:
        dependant = pending.pop()
        if isinstance(dependant.call, Allowed | Everybody):
            return dependant.call
        pending.extend(dependant.dependencies)
    return None


def routes_of(app: FastAPI) -> list[APIRoute]:
    """Every route of ours, those of included routers too."""
    originals = (context.original_route for context in iter_route_contexts(app.routes))
    return [route for route in originals if isinstance(route, APIRoute)]


def check_declared(app: FastAPI) -> None:
    """A route that forgot to say who may use it does not start. Raises TypeError."""
    silent = [f"{','.join(route.methods or ())} {route.path}" for route in routes_of(app) if not declared(route)]
    if silent:
        raise TypeError(f"these routes declare no roles: {'; '.join(silent)}")


def visitor_of(request: Request) -> Visitor:
    """Who asks, by bearer token or session cookie. Raises the 401 or 429 Problem where that is nobody."""
    api = api_of(request)
    token = _bearer(request)
    secret = token or request.cookies.get(session_cookie_name(api), "")
    if not secret:
        raise Problem(
            401, "Sign in first", "Send a bearer token, or sign in with a link: fettle login-link", headers=CHALLENGE
        )
    with api.reading() as connection:
        visitor = _known(connection, api, secret, by_token=bool(token))
    if visitor is None:
        if token:
            note_denial(request, api, stranger(request), "token_refused")
        guesses_of(request).refuse(_address(request))
        raise Problem(401, "Sign in again", "This token or session is not valid, or no longer.", headers=CHALLENGE)
    request.state.reader_lang, request.state.reader_zone = visitor.lang, visitor.timezone
    return visitor


def _known(connection: Connection, api: Api, secret: str, *, by_token: bool) -> Visitor | None:
    if by_token:
        return visitor_of_token(connection, hashed(secret))
    return visitor_of_session(connection, hashed(secret), api.clock())


def _bearer(request: Request) -> str:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


class Guesses:
    """Counts wrong secrets by address: after 30 within a minute the answer is 429.

    Right ones still pass, whoever else sits behind the same address: with 256 random bits there is nothing to guess,
    and this only keeps the trying from costing anything. Bounded to the last 10,000 addresses.
    """

    LIMIT = 30
    WINDOW_S = 60.0
    ADDRESSES = 10_000

    def __init__(self) -> None:
        self._tries: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def refuse(self, address: str) -> None:
        """Note a wrong secret. Raises the 429 Problem once there were too many."""
        now = time.monotonic()
        began, count = self._tries.pop(address, (now, 0))
        if now - began > self.WINDOW_S:
            began, count = now, 0
        self._tries[address] = (began, count + 1)
        if len(self._tries) > self.ADDRESSES:
            self._tries.popitem(last=False)
        if count >= self.LIMIT:
            wait_s = int(self.WINDOW_S - (now - began)) + 1
            raise Problem(
                429, "Too many tries", f"Try again in {wait_s} s.", headers={"Retry-After": str(wait_s), **CHALLENGE}
            )


class Reports(Guesses):
    """The same for what comes by signed links: so many reports of one machine within ten minutes are no reports."""

    LIMIT = 12
    WINDOW_S = 600.0


def reports_of(request: Request) -> Reports:
    reports: Reports = request.app.state.reports
    return reports


def guesses_of(request: Request) -> Guesses:
    guesses: Guesses = request.app.state.guesses
    return guesses


BY_LINK = ("/c/", "/m/", "/answer/", "/calendar/")
"""Pages that a signed link opens: the link is in their address, and shows who asks."""
BY_LINK_HEADERS = {"Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex, nofollow"}

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "manifest-src 'self'; worker-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # not no-referrer: with it browsers send `Origin: null` on our own forms
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Stands before every route: refuses what another site's page sends in the visitor's name, and addresses that no
    text could be made of, and puts the security headers on every answer. Pure ASGI, so that streams pass through
    unbuffered."""

    def __init__(self, app: ASGIApp, https: bool) -> None:
        self.app = app
        self.headers = SECURITY_HEADERS | ({"Strict-Transport-Security": "max-age=31536000"} if https else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(MutableHeaders(scope=message), scope["path"])
            await send(message)

        refused = _refused(scope)
        if refused is not None and refused.status == 403:
            await to_thread.run_sync(_note_from_elsewhere, scope)
        answer = self.app if refused is None else problem_response(refused)
        await answer(scope, receive, send_guarded)

    def _add_headers(self, headers: MutableHeaders, path: str) -> None:
        for name, value in (BY_LINK_HEADERS if path.startswith(BY_LINK) else {}).items():
            headers.setdefault(name, value)
        for name, value in self.headers.items():
            headers.setdefault(name, value)
        headers.setdefault("Cache-Control", "no-cache" if path.startswith("/static/") else "no-store")


def _note_from_elsewhere(scope: Scope) -> None:
    request = Request(scope)
    note_denial(request, api_of(request), stranger(request), "access_denied", "from_elsewhere")


def _refused(scope: Scope) -> Problem | None:
    """Why a request is not even looked at. What its body says is for the shapes to judge."""
    if from_elsewhere(scope["method"], Headers(scope=scope), scope["path"]):
        return Problem(403, "Not from here", "This request came from another site's page.")
    if has_controls(scope["path"]):
        return Problem(404, "Not found", "There are control characters in this address.")
    asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    wrong = next((name for name, value in asked if has_controls(name + value)), None)
    if wrong is None:
        return None
    shown = "".join(char for char in wrong[:40] if char.isprintable())
    return Problem(
        422, "The request is not valid", f"{shown}: no control characters (such as U+0000) are allowed in it"
    )


def from_elsewhere(method: str, headers: Headers, path: str = "") -> bool:
    """Whether an unsafe request was sent by another site's page (V3.5.1).

    Every browser says where a POST comes from, in Sec-Fetch-Site or in Origin; what says neither is no browser and
    carries nobody's cookies by accident. Bearer tokens are never sent by accident either.
    """
    if method in ("GET", "HEAD", "OPTIONS") or headers.get("authorization", "").lower().startswith("bearer "):
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin == "null" and path.startswith(BY_LINK):
        # A page that sends no referrer names no origin with its own forms either. Nothing here is sent by accident:
        # whoever can write the address holds the link.
        return False
    return origin is not None and urlsplit(origin).netloc != headers.get("host")
