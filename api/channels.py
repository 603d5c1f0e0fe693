"""The ways by which notices go out: which there are, how they do, and a test of one's own."""

from typing import Any

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import Connection

from api.access import ForDesk, KnownQuery
from api.context import Api, Parts
from api.problems import Problem, documented, not_found
from api.shapes import Given, Moment, NoticeShape, Shape
from monitor.desk import notices as words
from monitor.desk.notices import Recipient
from monitor.engine.telling import test_causes
from monitor.notify.channels import CONTACTS, OPERATIONS
from monitor.store import notices, people
from monitor.store.access import Visitor

router = APIRouter(prefix="/api/v1", tags=["notices"], dependencies=[KnownQuery])

DAY_MS, MINUTE_MS = 86_400_000, 60_000
TALLY_DAYS = 7
NEWEST = 20_000
"""So many notices are looked back at, however many there are in all."""
BOUNCED_SHOWN, TESTS_SHOWN = 50, 5


class ChannelShape(Shape):
    """One way, and what became of what was to go by it in the last 7 days."""

    name: str = Field(description=f"One of: {', '.join(CONTACTS)}.")
    configured: bool = Field(description="Whether the process that delivers has it.")
    carrier: str = Field(
        description="What really carries it: `log` where e-mail has no server; '' where there is none."
    )
    rooms: list[str] = Field(description="Of a robot: the rooms that a contact can name.")
    contacts: int = Field(description="How many people have such a contact that works.")
    sent: int
    failed: int = Field(description="Given up.")
    queued: int
    sent_at: Moment | None = Field(description="When it last carried something.")
    last_error: str = Field(description="What it last complained of, '' if nothing.")
    failed_at: Moment | None = Field(description="When what it complained of was queued.")


class BouncedShape(Shape):
    """A contact that does not work until somebody mends it."""

    person_id: int
    name: str
    channel: str
    address: str
    bounced_at: Moment
    bounce: str


class ChannelsShape(Shape):
    channels: list[ChannelShape]
    bounced: list[BouncedShape] = Field(description="The latest first, at most 50.")
    tests: list[NoticeShape] = Field(description="Your own last tests, the newest first.")


class TestWish(Given):
    """By which of your ways."""

    contact_id: int | None = Field(None, ge=0, lt=2**63, description="One of your contacts; 0: your own e-mail.")
    room: bool = Field(False, description="Operations' webhook instead.")


@router.get("/notice-channels", responses=documented(401, 403))
def list_channels(api: Parts, visitor: ForDesk) -> ChannelsShape:
    """Every way there can be, with those that are not set up."""
    now = api.clock()
    with api.reading() as connection:
        there = {row.name: row for row in notices.channels(connection)}
        tally = {row.channel: row for row in notices.tally(connection, now - TALLY_DAYS * DAY_MS, NEWEST)}
        failures = notices.last_failures(connection, NEWEST)
        reached = people.contacts_by_channel(connection)
        bounced = notices.bounced(connection, BOUNCED_SHOWN)
        tests = notices.begun_with(connection, test_causes(visitor.actor), NEWEST, TESTS_SHOWN)
    return ChannelsShape(
        channels=[_channel(name, there.get(name), tally, failures, reached.get(name, 0)) for name in CONTACTS],
        bounced=[BouncedShape.model_validate(row) for row in bounced],
        tests=[NoticeShape.model_validate(row) for row in tests],
    )


def _channel(name: str, row: Any, tally: dict[str, Any], failures: dict[str, Any], contacts: int) -> ChannelShape:
    # What was sent stands under what carried it; the log carries for e-mail alone.
    carrier = row.carrier if row else ""
    parts = [tally[key] for key in {name, carrier} if key in tally]
    wrong = failures.get(name)
    return ChannelShape(
        name=name, configured=row is not None, carrier=carrier, rooms=row.rooms if row else [], contacts=contacts,
        sent=sum(one.sent for one in parts), failed=sum(one.failed for one in parts),
        queued=sum(one.queued for one in parts),
        sent_at=max((one.sent_at for one in parts if one.sent_at is not None), default=None),
        last_error=wrong.last_error if wrong else "", failed_at=wrong.queued_at if wrong else None,
    )  # fmt: skip


@router.post("/notices/test", status_code=201, responses=documented(401, 403, 404, 409, 422, 429))
def send_test(api: Parts, visitor: ForDesk, body: TestWish) -> NoticeShape:
    """Queue a real notice to yourself by one of your own ways, or to operations' webhook; one a minute. What becomes of
    it shows in GET notice-channels."""
    now = api.clock()
    with api.database.begin() as connection:
        if visitor.person_id is not None:
            people.lock(connection, visitor.person_id)
        _refuse_too_many(connection, visitor, now)
        to, contact_id = _room(connection) if body.room else _own_way(connection, visitor, body.contact_id)
        text = words.write_test(to.lang, visitor.name, now, api.timezone, f"{api.public_url}/settings/notices")
        notice_id = api.desk.telling.test(connection, to, contact_id, text, visitor.actor, now)
        row = notices.load(connection, notice_id)
    return NoticeShape.model_validate(row)


def _refuse_too_many(connection: Connection, visitor: Visitor, now: int) -> None:
    last = notices.begun_with(connection, test_causes(visitor.actor), NEWEST, 1)
    wait_ms = last[0].queued_at + MINUTE_MS - now if last else 0
    if wait_ms > 0:
        wait_s = -(-wait_ms // 1000)
        raise Problem(
            429, "One test a minute", f"You sent one a moment ago: try again in {wait_s} s.",
            headers={"Retry-After": str(wait_s)},
        )  # fmt: skip


def _room(connection: Connection) -> tuple[Recipient, int | None]:
    if not any(row.name == "webhook" for row in notices.channels(connection)):
        raise Problem(409, "There is no such way", "Operations has no webhook: FETTLE_WEBHOOK_URL is not set.")
    return Recipient("room", "webhook", OPERATIONS, words.DEFAULT_LANG), None


def _own_way(connection: Connection, visitor: Visitor, contact_id: int | None) -> tuple[Recipient, int | None]:
    """Raises the 404 Problem for what is no way to the asker."""
    told = notices.people(connection, [visitor.person_id or 0]).get(visitor.person_id or 0)
    if told is None or contact_id is None:
        raise not_found("contact of yours")
    if contact_id == 0:
        channel, address = "email", told.email
    else:
        way = next((one for one in told.ways if one.id == contact_id), None)
        if way is None:
            raise not_found("contact of yours")
        channel, address = way.channel, way.address
    lang = words.language(told.lang)
    return Recipient(f"person-{told.id}", channel, address, lang, told.id), contact_id or None


def own_ways(api: Api, visitor: Visitor) -> list[notices.Way]:
    """The ways to whoever asks, their own e-mail (0) last where it is no contact."""
    if visitor.person_id is None:
        return []
    with api.reading() as connection:
        told = notices.people(connection, [visitor.person_id]).get(visitor.person_id)
    if told is None:
        return []
    is_contact = any(way.channel == "email" and way.address == told.email for way in told.ways)
    return [*told.ways, *([] if is_contact or not told.email else [notices.Way(0, "email", told.email)])]
