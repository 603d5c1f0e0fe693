"""What changed, as it changes: server-sent events from the change log."""

import json
from collections.abc import AsyncIterator
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
from monitor.store.access import Visitor, still_valid

router = APIRouter(prefix="/api/v1", tags=["stream"], dependencies=[KnownQuery])

POLL_S = 0.5
HEARTBEAT_S = 15.0
AT_ONCE = 500
STREAMS = 500


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
    open_streams = request.app.state.streams
    if len(open_streams) >= STREAMS:
        raise Problem(503, "Too many open streams", "Try again later.", headers={"Retry-After": "10"})

    async def events() -> AsyncIterator[str]:
        ticket = object()
        open_streams.add(ticket)
        try:
            async for event in follow(api, visitor, last_event_id):
                yield event
        finally:
            open_streams.discard(ticket)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def follow(api: Api, visitor: Visitor, last: int | None) -> AsyncIterator[str]:
    """The visitor's events for as long as they may have them, with a heartbeat while nothing happens."""
    # Said at once, so that the reader knows the stream stands; and how soon to come back when it breaks.
    yield "retry: 2000\n\n"
    quiet_s = 0.0
    while not api.stopping():
        found = await to_thread.run_sync(_look, api, visitor, last)
        if found is None:
            yield "event: end\ndata: {}\n\n"
            return
        last, rows = found
        for row in rows:
            yield _event(row)
        quiet_s = 0.0 if rows else quiet_s + POLL_S
        if quiet_s >= HEARTBEAT_S:
            quiet_s = 0.0
            yield ": still here\n\n"
        if len(rows) < AT_ONCE:
            await anyio.sleep(POLL_S)


def _look(api: Api, visitor: Visitor, last: int | None) -> tuple[int, queries.Rows] | None:
    """What came since `last`; None once the visitor's right to it has ended."""
    with api.reading() as connection:
        if not still_valid(connection, visitor, api.clock()):
            return None
        newest = queries.last_change(connection)
        # A number that is still to come (the record was brought back from a copy) must not keep the news before it.
        last = newest if last is None else min(last, newest)
        if last == newest:
            return last, []
        rows = queries.changes(connection, api.scope(visitor), after=last, limit=AT_ONCE)
    return (rows[-1].id if rows else last), rows


def _event(row: queries.AnyRow) -> str:
    data = {"what": row.what, "device_id": row.device_id, "ticket_id": row.ticket_id, "at": rfc3339(row.at)}
    return f"id: {row.id}\nevent: change\ndata: {json.dumps(data)}\n\n"
