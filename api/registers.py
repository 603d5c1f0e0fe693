"""What the desk looks up: rentals, sites, people, who was told, and what came in broken."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.access import ForAll, ForOffice, ForOps, ForStaff, KnownQuery
from api.context import Parts
from api.paging import Cursor, Limit, cut, key_of
from api.problems import documented
from api.shapes import NoticeShape, Page, PersonShape, RejectedShape, RentalShape, SiteShape
from monitor.store import queries

router = APIRouter(prefix="/api/v1", tags=["registers"], dependencies=[KnownQuery], responses=documented(401, 403, 422))

EXCERPT_BYTES = 500


@router.get("/rentals")
def list_rentals(api: Parts, visitor: ForAll, limit: Limit = 50, cursor: Cursor = None) -> Page[RentalShape]:
    """Rentals, the newest first. A customer sees their own that run now."""
    with api.reading() as connection:
        rows = queries.rentals(connection, api.scope(visitor), before=key_of(cursor, int), limit=limit + 1)
    items, following = cut([RentalShape.model_validate(row) for row in rows], limit, "id")
    return Page(items=items, next=following)


@router.get("/sites")
def list_sites(api: Parts, _: ForStaff, limit: Limit = 50, cursor: Cursor = None) -> Page[SiteShape]:
    """Places where machines stand."""
    with api.reading() as connection:
        rows = queries.sites(connection, after=key_of(cursor, int) or 0, limit=limit + 1)
    items, following = cut([SiteShape.model_validate(row) for row in rows], limit, "id")
    return Page(items=items, next=following)


@router.get("/people")
def list_people(api: Parts, _: ForOffice, limit: Limit = 50, cursor: Cursor = None) -> Page[PersonShape]:
    """Those who sign in or are told things."""
    with api.reading() as connection:
        rows = queries.people(connection, after=key_of(cursor, int) or 0, limit=limit + 1)
    items, following = cut([PersonShape.model_validate(row) for row in rows], limit, "id")
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
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[RejectedShape]:
    """Messages that broke the wire contract, each with its reason; the newest first."""
    with api.reading() as connection:
        rows = queries.rejections(
            connection,
            device_id=device_id,
            before=key_of(cursor, int),
            limit=limit + 1,
            excerpt_bytes=EXCERPT_BYTES,
        )
    shapes = [
        RejectedShape.model_validate({**row._mapping, "payload": bytes(row.excerpt).decode(errors="replace")})
        for row in rows
    ]
    items, following = cut(shapes, limit, "id")
    return Page(items=items, next=following)
