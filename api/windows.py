"""Maintenance windows: time declared beforehand in which a machine's faults, or a site's, call nobody."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from api.access import ForDesk, ForStaff, KnownQuery
from api.context import Api, Parts
from api.paging import Cursor, Limit, cut, key_of
from api.problems import documented, not_found
from api.refusals import IfMatch, give_tag, refusals_told, seen_tag
from api.shapes import Given, Moment, Page, PlannedMoment, Shape
from monitor.store import windows
from monitor.store.registry import tag_of
from monitor.store.windows import Window, Windows

router = APIRouter(prefix="/api/v1/maintenance-windows", tags=["maintenance"], dependencies=[KnownQuery])

WindowId = Annotated[int, Path(ge=1, lt=2**63)]


class NewWindow(Given):
    """[starts_at, ends_at) of one machine, or of all machines of a site."""

    device_id: str | None = Field(None, min_length=1, max_length=64)
    site_id: int | None = Field(None, ge=1, lt=2**63)
    what: Literal["maintenance", "transport"]
    starts_at: PlannedMoment | None = Field(None, description="Now, without it.")
    ends_at: PlannedMoment
    reason: str = Field("", max_length=200)


class WindowShape(Shape):
    id: int
    device_id: str | None
    site_id: int | None
    what: str
    starts_at: Moment
    ends_at: Moment
    reason: str
    declared_by: str
    declared_at: Moment
    cancelled_at: Moment | None
    state: Literal["planned", "running", "over", "cancelled"]


@router.get("", responses=documented(401, 403, 422))
def list_windows(
    api: Parts,
    _: ForStaff,
    device_id: Annotated[str | None, Query(max_length=64, description="Those of its site too.")] = None,
    site_id: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    now: Annotated[bool, Query(description="Only those that count at this moment.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[WindowShape]:
    """Windows that were declared, the newest first."""
    moment = api.clock()
    with api.reading() as connection:
        rows = windows.listed(
            connection, device_id=device_id, site_id=site_id, at=moment if now else None, before=key_of(cursor, int),
            limit=limit + 1,
        )  # fmt: skip
    items, following = cut([_shape(row, moment) for row in rows], limit, "id")
    return Page(items=items, next=following)


@router.post("", status_code=201, responses=documented(401, 403, 422))
def declare(api: Parts, visitor: ForDesk, response: Response, body: NewWindow) -> WindowShape:
    """Declare maintenance or transport: faults found meanwhile are noted, and call nobody. Those that still stand at
    its end get their tickets then, with clocks from then on. A ticket that is open already goes on."""
    now = api.clock()
    window = Window(
        body.what, now if body.starts_at is None else body.starts_at, body.ends_at, body.reason, body.device_id,
        body.site_id,
    )  # fmt: skip
    with refusals_told("maintenance window"):
        window_id = Windows(api.database, visitor.actor).declare(window, now)
    return _one(api, response, window_id)


@router.get("/{window_id}", responses=documented(401, 403, 404))
def one_window(api: Parts, _: ForStaff, response: Response, window_id: WindowId) -> WindowShape:
    """One window, with the ETag that a change may name."""
    return _one(api, response, window_id)


@router.post("/{window_id}/cancel", responses=documented(401, 403, 404, 409, 412))
def cancel(
    api: Parts, visitor: ForDesk, response: Response, window_id: WindowId, if_match: IfMatch = None
) -> WindowShape:  # fmt: skip
    """It was declared by mistake, or will not be. What it held back is looked at again at once."""
    with refusals_told("maintenance window"):
        Windows(api.database, visitor.actor).cancel(window_id, api.clock(), seen=seen_tag(if_match))
    return _one(api, response, window_id)


@router.post("/{window_id}/end-now", responses=documented(401, 403, 404, 409, 412))
def end_now(
    api: Parts, visitor: ForDesk, response: Response, window_id: WindowId, if_match: IfMatch = None
) -> WindowShape:  # fmt: skip
    """It is over sooner than was thought. What it held back is looked at again at once."""
    with refusals_told("maintenance window"):
        Windows(api.database, visitor.actor).end_now(window_id, api.clock(), seen=seen_tag(if_match))
    return _one(api, response, window_id)


def _one(api: Api, response: Response, window_id: int) -> WindowShape:
    with api.reading() as connection:
        row = windows.one(connection, window_id)
    if row is None:
        raise not_found("maintenance window")
    give_tag(response, tag_of(row))
    return _shape(row, api.clock())


def _shape(row: windows.Row, now: int) -> WindowShape:
    return WindowShape.model_validate({**row._mapping, "state": _state(row, now)})


def _state(row: windows.Row, now: int) -> str:
    if row.cancelled_at is not None:
        return "cancelled"
    if now < row.starts_at:
        return "planned"
    return "running" if now < row.ends_at else "over"
