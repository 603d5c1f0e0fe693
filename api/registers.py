"""What the desk looks up: rentals, sites, people, who was told, and what came in broken."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from api.access import ForAll, ForOffice, ForOps, ForStaff, KnownQuery
from api.context import Parts
from api.paging import Cursor, Limit, cut, key_of
from api.problems import documented
from api.shapes import Moment, NoticeShape, Page, PersonShape, RejectedShape, RentalShape, Shape, SiteShape
from monitor.store import people, queries

router = APIRouter(prefix="/api/v1", tags=["registers"], dependencies=[KnownQuery], responses=documented(401, 403, 422))

EXCERPT_BYTES = 500
DAY_MS = 86_400_000
COUNTED = 100_000


@router.get("/rentals")
def list_rentals(
    api: Parts,
    visitor: ForAll,
    customer_id: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    device_id: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[RentalShape]:
    """Rentals, the newest first. A customer sees their own that run now."""
    with api.reading() as connection:
        rows = queries.rentals(
            connection, api.scope(visitor), customer_id=customer_id, device_id=device_id,
            before=key_of(cursor, int), limit=limit + 1,
        )  # fmt: skip
    items, following = cut([RentalShape.of(row, api.clock()) for row in rows], limit, "id")
    return Page(items=items, next=following)


@router.get("/sites")
def list_sites(api: Parts, _: ForStaff, limit: Limit = 50, cursor: Cursor = None) -> Page[SiteShape]:
    """Places where machines stand."""
    with api.reading() as connection:
        rows = queries.sites(connection, after=key_of(cursor, int) or 0, limit=limit + 1)
    items, following = cut([SiteShape.model_validate(row) for row in rows], limit, "id")
    return Page(items=items, next=following)


class PersonListed(PersonShape):
    """Somebody in the list, with how they stand now."""

    certified: list[str] = Field([], description="The models that they may work on now (P1).")
    lapses_at: Moment | None = Field(None, description="When the first of their certificates ends, or ended.")
    contacts: int = 0
    bounced: int = Field(0, description="Contacts that do not work.")
    absent_until: Moment | None = Field(None, description="null: they are not away now.")


@router.get("/people")
def list_people(api: Parts, _: ForOffice, limit: Limit = 50, cursor: Cursor = None) -> Page[PersonListed]:
    """Those who sign in or are told things."""
    with api.reading() as connection:
        rows = queries.people(connection, after=key_of(cursor, int) or 0, limit=limit + 1)
        standings = people.standings(connection, api.clock())
    nothing = people.Standing()
    items, following = cut(
        [PersonListed.model_validate({**row._mapping, **asdict(standings.get(row.id, nothing))}) for row in rows],
        limit, "id",
    )  # fmt: skip
    return Page(items=items, next=following)


@router.get("/notices")
def list_notices(
    api: Parts,
    _: ForOps,
    ticket_id: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[NoticeShape]:
    """Who was told what, and how far it got; the newest first."""
    with api.reading() as connection:
        rows = queries.notices(connection, ticket_id=ticket_id, before=key_of(cursor, int), limit=limit + 1)
    items, following = cut([NoticeShape.model_validate(row) for row in rows], limit, "id")
    return Page(items=items, next=following)


@router.get("/rejected")
def list_rejected(
    api: Parts,
    _: ForOps,
    device_id: Annotated[str | None, Query(max_length=64)] = None,
    reason: Annotated[str | None, Query(max_length=40)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[RejectedShape]:
    """Messages that broke the wire contract, each with its reason; the newest first."""
    with api.reading() as connection:
        rows = queries.rejections(
            connection,
            device_id=device_id,
            reason=reason,
            before=key_of(cursor, int),
            limit=limit + 1,
            excerpt_bytes=EXCERPT_BYTES,
        )
    shapes = [
        RejectedShape.model_validate({**row._mapping, "payload": bytes(row.excerpt or b"").decode(errors="replace")})
        for row in rows
    ]
    items, following = cut(shapes, limit, "id")
    return Page(items=items, next=following)


class RejectedCount(Shape):
    reason: str
    number: int
    machines: int = Field(description="Of how many machines that are known.")
    last_at: Moment


class RejectedCounts(Shape):
    """What was rejected in the last 24 hours, the commonest reason first."""

    since_at: Moment
    items: list[RejectedCount]


@router.get("/rejected/counts")
def count_rejected(api: Parts, _: ForOps) -> RejectedCounts:
    """How many messages broke the wire contract in the last 24 hours, by reason; at most the newest 100,000."""
    since_at = api.clock() - DAY_MS
    with api.reading() as connection:
        rows = queries.rejections_by_reason(connection, since_at, COUNTED)
    return RejectedCounts(since_at=since_at, items=[RejectedCount.model_validate(row) for row in rows])
