"""What changed, as it changes: server-sent events from the change log."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
from anyio import to_thread
from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from api.access import ForAll, KnownQuery
from api.context import Api, Parts
from api.problems import Problem, documented
from api.shapes import rfc3339
from monitor.store import queries
from monitor.store.access import Role, Visitor, still_valid

router = APIRouter(prefix="/api/v1", tags=["stream"], dependencies=[KnownQuery])

POLL_S = 0.5
VALID_S = 3.0
"""So often the staff's streams ask whether they may go on; customers' do before each thing they tell."""
HEARTBEAT_S = 15.0
AT_ONCE = 500
STREAMS = 500
STREAMS_EACH = 50
"""So many pages one account may have open; a wall, a board and a phone are a few."""


Events = list[tuple[int, str]]
"""Numbered, as they go over the wire."""


class Board:
    """What all streams of a process share: one looks for the newest change for all of them, and what the staff is told
    is read once, so that it costs the same for one open page and for hundreds."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._reading = anyio.Lock()
        self._newest = 0
        self._news = anyio.Event()
        self._looker: asyncio.Task[None] | None = None
        self._followers = 0
        self._told: tuple[int, int, Events] = (-1, -1, [])
        self._valid: dict[Visitor, float] = {}

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """For as long as somebody follows, somebody looks."""
        self._followers += 1
        try:
            if self._looker is None or self._looker.done():
                self._newest = await to_thread.run_sync(self._look)
                self._looker = asyncio.create_task(self._keep_looking())
            yield
        finally:
            self._followers -= 1

    async def newest(self, known: int | None) -> int:
        """The number of the newest change: at once where it is another than is known, else after a while. Raises what
        the database did."""
        looker = self._looker
        if self._newest == known and not self._api.stopping():
            with anyio.move_on_after(VALID_S):
                await self._news.wait()
        if looker is not None and looker.done():
            looker.result()
        return self._newest

    async def _keep_looking(self) -> None:
        try:
            while self._followers and not self._api.stopping():
                await anyio.sleep(POLL_S)
                newest = await to_thread.run_sync(self._look)
                if newest != self._newest:
                    self._newest = newest
                    self._wake()
        finally:
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def events(self, visitor: Visitor, last: int) -> Events:
        """What came after `last` that is for this visitor, at most AT_ONCE."""
        if visitor.role is Role.CUSTOMER:
            return await to_thread.run_sync(self._read, self._api.scope(visitor), last, self._newest)
        async with self._reading:
            newest = self._newest
            if self._told[:2] != (last, newest):
                found = await to_thread.run_sync(self._read, self._api.scope(visitor), last, newest)
                self._told = last, newest, found
            return self._told[2]

    async def may_follow(self, visitor: Visitor, *, at_once: bool) -> bool:
        """False once the visitor's right to it has ended: `at_once`, or within VALID_S. However many pages one session
        has open, it is asked about once."""
        async with self._reading:
            now = time.monotonic()
            if not at_once and now - self._valid.get(visitor, -VALID_S) < VALID_S:
                return True
            self._valid = {known: at for known, at in self._valid.items() if now - at < VALID_S}
            if not await to_thread.run_sync(self._may_follow, visitor):
                return False
            self._valid[visitor] = now
            return True

    def _may_follow(self, visitor: Visitor) -> bool:
        with self._api.reading() as connection:
            return still_valid(connection, visitor, self._api.clock())

    def _look(self) -> int:
        with self._api.reading() as connection:
            return queries.last_change(connection)

    def _read(self, scope: queries.Scope, last: int, newest: int) -> Events:
        """What came in between; what is newer still is told with the next look, or it would be told twice."""
        with self._api.reading() as connection:
            rows = queries.changes(connection, scope, after=last, limit=AT_ONCE)
        return [(row.id, _event(row)) for row in rows if row.id <= newest]


@router.get("/stream", responses=documented(401, 403, 503), response_class=StreamingResponse)
async def stream(
    api: Parts,
    request: Request,
    visitor: ForAll,
    last_event_id: Annotated[int | None, Header(alias="Last-Event-ID", ge=0, lt=2**63)] = None,
) -> StreamingResponse:
    """Events named `change` with `{"what", "device_id", "ticket_id", "at"}`, from Last-Event-ID on, else from now.

    A customer hears of the machines on hire to them. The stream ends when the session, token or rental does.
    """
    open_streams: Counter[str] = request.app.state.streams
    if open_streams.total() >= STREAMS or open_streams[visitor.actor] >= STREAMS_EACH:
        raise Problem(503, "Too many open streams", "Try again later.", headers={"Retry-After": "10"})

    async def events() -> AsyncIterator[str]:
        open_streams[visitor.actor] += 1
        try:
            async for event in follow(api, visitor, last_event_id, request.app.state.board):
                yield event
        finally:
            open_streams[visitor.actor] -= 1
            if not open_streams[visitor.actor]:
                del open_streams[visitor.actor]

    return StreamingResponse(events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def follow(api: Api, visitor: Visitor, last: int | None, board: Board) -> AsyncIterator[str]:
    """The visitor's events for as long as they may have them, with a heartbeat while nothing happens."""
    # Said at once, so that the reader knows the stream stands; and how soon to come back when it breaks.
    yield "retry: 2000\n\n"
    told_at = time.monotonic()
    async with board.followed():
        while not api.stopping():
            newest = await board.newest(last)
            if not await board.may_follow(visitor, at_once=visitor.role is Role.CUSTOMER and newest != last):
                yield "event: end\ndata: {}\n\n"
                return
            # A number that is still to come (the record was brought back from a copy) must not keep the news before it.
            last = newest if last is None else min(last, newest)
            events = await board.events(visitor, last) if newest > last else []
            for number, event in events:
                last = number
                yield event
            if events:
                told_at = time.monotonic()
                continue
            last = newest
            if time.monotonic() - told_at >= HEARTBEAT_S:
                told_at = time.monotonic()
                yield ": still here\n\n"


def _event(row: queries.AnyRow) -> str:
    data = {"what": row.what, "device_id": row.device_id, "ticket_id": row.ticket_id, "at": rfc3339(row.at)}
    return f"id: {row.id}\nevent: change\ndata: {json.dumps(data)}\n\n"
