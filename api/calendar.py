"""Calendars: what is due, for the calendar programs of those who do it, by a signed address, without sign-in."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from icalendar import Calendar, Event
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from api.access import DESK, STAFF, ForStaff, KnownQuery, Open
from api.context import Api, Parts
from api.denials import note_denial, stranger
from api.links import signer_of
from api.problems import Problem, documented, not_found
from api.refusals import refusals_told
from api.shapes import Given, Moment
from api.words import Words
from monitor.links import Signer
from monitor.store import maintenance as store
from monitor.store.access import Visitor, role_now
from monitor.store.registry import write_audit

router = APIRouter()
api_router = APIRouter(prefix="/api/v1", tags=["maintenance"], dependencies=[KnownQuery])

PURPOSE = "calendar"
GOOD_FOR_MS = 366 * 86_400_000
EVENTS = 2_000
"""So much a calendar shows: what is due first."""
MEDIA_TYPE = "text/calendar; charset=utf-8"

FeedId = Annotated[int, Path(ge=1, lt=2**63)]


class NewFeed(Given):
    """Whose calendar: all that is due, a site's, or the work orders that were given to you."""

    site_id: int | None = Field(None, ge=1, lt=2**63)
    mine: bool = False


class FeedMade(BaseModel):
    id: int
    url: str = Field(description="Whoever holds it may read it: it is not kept here, and not shown again.")
    expires_at: Moment


@api_router.post("/maintenance/calendars", status_code=201, responses=documented(401, 403, 404, 422))
def make_feed(api: Parts, visitor: ForStaff, body: NewFeed) -> FeedMade:
    """The address of a calendar, for a year; it can be ended before."""
    signer, now = signer_of(api), api.clock()
    if body.mine and (visitor.person_id is None or body.site_id is not None):
        raise Problem(422, "The request is not valid", "mine: belongs to a person who signed in, and to no site")
    values = {"person_id": visitor.person_id if body.mine else None, "site_id": body.site_id, "lang": api.lang,
              "made_at": now, "made_by": visitor.actor, "expires_at": now + GOOD_FOR_MS}  # fmt: skip
    with refusals_told("site"), api.database.begin() as connection:
        feed_id = store.insert_feed(connection, **values)
        write_audit(connection, now, visitor.actor, "calendar_made", f"calendar:{feed_id}",
                    after={"person_id": values["person_id"], "site_id": body.site_id})  # fmt: skip
    return FeedMade(id=feed_id, url=_url(api, signer, feed_id, now + GOOD_FOR_MS), expires_at=now + GOOD_FOR_MS)


@api_router.post("/maintenance/calendars/{feed_id}/end", status_code=204, responses=documented(401, 403, 404))
def end_feed(api: Parts, visitor: ForStaff, feed_id: FeedId) -> None:
    """Its address answers no more. The desk ends any, others those that they made."""
    now = api.clock()
    with api.database.begin() as connection:
        row = store.feed_row(connection, feed_id, now)
        if row is None or not _may_end(visitor, row):
            raise not_found("calendar")
        store.end_feed(connection, feed_id, now)
        write_audit(connection, now, visitor.actor, "calendar_ended", f"calendar:{feed_id}")


def _may_end(visitor: Visitor, row: store.Row) -> bool:
    return visitor.role in DESK or bool(row.made_by == visitor.actor)


def _url(api: Api, signer: Signer, feed_id: int, expires_at: int) -> str:
    return f"{api.public_url}/calendar/{signer.sign(PURPOSE, (feed_id,), expires_at)}.ics"


# --- the calendar itself -------------------------------------------------------------------------------------------


@router.get("/calendar/{token}.ics", include_in_schema=False, dependencies=[Open])
def calendar(request: Request, api: Parts, token: Annotated[str, Path(max_length=500)]) -> Response:
    """All-day entries on the days when something is due. Forecasts move; their entries keep their names."""
    now = api.clock()
    signer = api.desk.addresses.signer
    facts = signer.read(PURPOSE, token, now) if signer else None
    with api.reading() as connection:
        feed = store.feed_row(connection, facts[0], now) if facts else None
        # Who has left, or may not see it any more, took the address along.
        known = feed is not None and role_now(connection, feed.made_by) in STAFF
        entries = list(_entries(api, connection, feed, now)) if feed is not None and known else []
    if feed is None or not known:
        note_denial(request, api, stranger(request), "link_refused", "calendar")
        raise not_found("calendar")
    made = Calendar()
    for name, value in (("prodid", "-//fettle//maintenance//"), ("version", "2.0"), ("method", "PUBLISH")):
        made.add(name, value)
    said = Words(feed.lang, api.zone).say
    made.add("x-wr-calname", said("Maintenance"))
    made.add("x-wr-timezone", api.timezone)
    made.add("x-published-ttl", "PT1H")
    for entry in entries:
        made.add_component(entry)
    return Response(made.to_ical(), media_type=MEDIA_TYPE, headers={"Cache-Control": "private, no-store"})


def _entries(api: Api, connection: Connection, feed: store.Row, now: int) -> Iterator[Event]:
    title = "title_zh" if feed.lang == "zh" else "title_en"
    if feed.person_id is None:
        for row in store.listed(connection, now, site_id=feed.site_id, limit=EVENTS):
            uid = f"{row.device_id}.{row.plan}.{row.cycle_at}"
            path = f"/maintenance/{row.order_id}" if row.order_id else "/maintenance"
            yield _entry(api, uid, row, getattr(row, title), path, row.computed_at)
    orders = store.orders(
        connection, status="open", site_id=feed.site_id, assignee_id=feed.person_id, limit=EVENTS
    )  # fmt: skip
    for row in orders:
        # What a plan asks for stands there already, by the plan.
        if feed.person_id is not None or not row.plan:
            yield _entry(api, f"order.{row.id}", row, getattr(row, title), f"/maintenance/{row.id}", row.recorded_at)


def _entry(api: Api, uid: str, row: store.Row, title: str, path: str, changed_at: int) -> Event:
    day = _day(api, row.due_at)
    entry = Event()
    entry.add("uid", f"{uid}@fettle")
    entry.add("dtstamp", datetime.fromtimestamp(changed_at / 1000, UTC))
    entry.add("dtstart", day)
    entry.add("dtend", day + timedelta(days=1))
    entry.add("summary", f"{title} · {row.device_id}")
    entry.add("url", f"{api.public_url}{path}")
    entry.add("transp", "TRANSPARENT")
    if row.site_name:
        entry.add("location", row.site_name)
    return entry


def _day(api: Api, at: int) -> date:
    return datetime.fromtimestamp(at / 1000, UTC).astimezone(api.zone).date()


router.include_router(api_router)
