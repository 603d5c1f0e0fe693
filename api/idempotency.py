"""Idempotency-Key: a request that is sent again is not done again, and is answered as it was the first time."""

import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from anyio import to_thread
from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import visitor_of
from api.context import Api
from api.problems import Problem, problem_response
from monitor.store import idempotency
from monitor.store.access import Visitor
from monitor.store.database import witnessed
from monitor.store.idempotency import Answer, Attempt, Found, TakenOver

log = structlog.get_logger()

METHODS = ("POST", "PUT", "PATCH", "DELETE")
KEY = re.compile(r"[\x21-\x7e]{1,80}")
MAX_ANSWER_BYTES = 256 * 1024
KEPT_HEADERS = ("content-type", "etag", "location")
"""What belongs to an answer's meaning; the rest is put on anew."""
SHOWN_ONCE = re.compile(r"/api/v1/(customers/[^/]+/link|devices/[^/]+/label|maintenance/calendars)")
"""Routes whose answers hold a signed address that is shown once."""


class OnceOnly:
    """Stands before every route below /api/v1 that changes something, for requests that carry an Idempotency-Key.

    The same actor with the same key and the same request (method, address, If-Match, body, and the actor's role) gets
    the same status, headers and body for a day, whichever process and whichever start of it answers. While the first
    one is under way the answer is 409 with Retry-After; the same key with another request is a 422.

    What is guaranteed: the first transaction of a request and the mark that it was done are one commit, and an attempt
    that was taken over cannot commit. So after a crash at any moment the request was either not done, and the next
    attempt does it (30 s later, when the lease of the dead one is over), or done, and never done again. In the second
    case the answer may have been lost with the process: then it is a 409 that says `"done": true`. A failure of ours
    (5xx) is not kept: what was not done may be tried again at once. Answers above 256 KiB are not kept either, nor
    those that hold a signed address: the same again is told that it was done, or made again where nothing was.
    Requests whose work is several transactions are finished by the ticks; nothing of them is done twice.
    """

    def __init__(self, app: ASGIApp, api: Api) -> None:
        self.app = app
        self.api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _concerns(scope):
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            key = _key(request.headers)
            visitor = await to_thread.run_sync(visitor_of, request)
            body = await request.body()
            attempt = Attempt(visitor.actor, key, secrets.token_hex(16))
            kept = await to_thread.run_sync(self._claim, attempt, fingerprint(request, visitor, body))
            await self._say(kept, send) if kept else await self._do(attempt, body, scope, receive, send)
        except Problem as problem:
            await problem_response(problem)(scope, receive, send)
        except ClientDisconnect:
            return

    def _claim(self, attempt: Attempt, request: str) -> Answer | None:
        """The answer that was kept; None where this attempt is the one to find it. Raises the Problem otherwise."""
        with self.api.database.begin() as connection:
            found, answer = idempotency.claim(connection, attempt, request, self.api.clock())
        if found is Found.ANOTHER:
            raise Problem(422, "The request is not valid", "Idempotency-Key: it was used for another request")
        if found is Found.UNDER_WAY:
            raise _under_way()
        if found is Found.LOST:
            raise Problem(
                409, "Done already", "It was done, and its answer was lost: read how things stand now.", done=True
            )  # fmt: skip
        return answer

    async def _do(self, attempt: Attempt, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        heard = _Heard()
        try:
            with witnessed(lambda connection: idempotency.mark_done(connection, attempt, self.api.clock())):
                await self.app(scope, _again(body, receive), heard)
        except TakenOver:
            raise _under_way() from None
        except Exception:
            await to_thread.run_sync(self._note, attempt, None)
            raise
        answer = heard.answer()
        if answer is not None and SHOWN_ONCE.fullmatch(scope["path"]):
            # What is shown once is kept nowhere: the same again is told that it was done.
            answer = None
        await to_thread.run_sync(self._note, attempt, answer)
        for message in heard.messages:
            await send(message)

    def _note(self, attempt: Attempt, answer: Answer | None) -> None:
        """Keep the answer; without one, let the next attempt try if nothing was done."""
        try:
            with self.api.database.begin() as connection:
                if answer is None:
                    idempotency.release(connection, attempt)
                else:
                    idempotency.keep(connection, attempt, answer)
        except SQLAlchemyError as error:
            # It is done: whoever asked is told so, even where it could not be noted.
            log.error("answer_not_kept", actor=attempt.actor, error=type(error).__name__)

    async def _say(self, answer: Answer, send: Send) -> None:
        headers = MutableHeaders(dict(answer.headers))
        headers["content-length"] = str(len(answer.body))
        headers["idempotency-replayed"] = "true"
        await send({"type": "http.response.start", "status": answer.status, "headers": headers.raw})
        await send({"type": "http.response.body", "body": answer.body})


class _Heard:
    """Takes an answer in, to be sent once it is noted."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    def answer(self) -> Answer | None:
        """What is to be kept; None where nothing is."""
        start = next((one for one in self.messages if one["type"] == "http.response.start"), None)
        body = b"".join(one.get("body", b"") for one in self.messages if one["type"] == "http.response.body")
        if start is None or start["status"] >= 500 or len(body) > MAX_ANSWER_BYTES:
            return None
        headers = Headers(raw=start["headers"])
        return Answer(start["status"], {name: headers[name] for name in KEPT_HEADERS if name in headers}, body)


def fingerprint(request: Request, visitor: Visitor, body: bytes) -> str:
    """A request as one hash: two that ask for the same have the same."""
    parts = (
        request.method, request.url.path, request.url.query, visitor.role, request.headers.get("if-match", ""),
        request.headers.get("content-type", ""),
    )  # fmt: skip
    digest = hashlib.sha256()
    for part in (*(part.encode() for part in parts), body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def tell_key(openapi: dict[str, Any]) -> dict[str, Any]:
    """The API's description, which says of every request that changes something that it takes a key."""
    parameter = {
        "name": "Idempotency-Key", "in": "header", "required": False,
        "schema": {"type": "string", "minLength": 1, "maxLength": 80},
        "description": "Any unique text: the same request with the same key is done once, and answered alike for a "
        "day. 409 with Retry-After while the first is under way, 422 where the key was used for another request.",
    }  # fmt: skip

    def told(method: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
        if not _takes_key(method.upper(), path):
            return operation
        return {**operation, "parameters": [*operation.get("parameters", []), parameter]}

    paths = {
        path: {method: told(method, path, operation) for method, operation in operations.items()}
        for path, operations in openapi["paths"].items()
    }
    return {**openapi, "paths": paths}


def _takes_key(method: str, path: str) -> bool:
    return method in METHODS and path.startswith("/api/v1/")


def _concerns(scope: Scope) -> bool:
    return _takes_key(scope["method"], scope["path"]) and "idempotency-key" in Headers(scope=scope)


def _key(headers: Headers) -> str:
    given = headers.getlist("idempotency-key")
    if len(given) != 1 or not KEY.fullmatch(given[0]):
        raise Problem(422, "The request is not valid", "Idempotency-Key: one of 1 to 80 visible ASCII characters")
    return given[0]


def _under_way() -> Problem:
    return Problem(
        409, "Under way", "The same request is being carried out: ask again for its answer.",
        headers={"Retry-After": "1"},
    )  # fmt: skip


def _again(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """Gives the body that was read already, and after it what comes."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again
