"""One box for everything."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.access import OFFICE, ForAll, KnownQuery
from api.context import Api, Parts
from api.problems import documented
from api.shapes import Shape
from monitor.store import search as store
from monitor.store.access import Visitor

router = APIRouter(prefix="/api/v1", tags=["search"], dependencies=[KnownQuery], responses=documented(401, 403, 422))

FOUND = 20
Wanted = Annotated[str, Query(max_length=120, description="Part of a name or id, or a ticket's number.")]


class MachineFound(Shape):
    device_id: str
    profile: str
    condition: str
    site_name: str | None
    customer_name: str | None


class TicketFound(Shape):
    id: int
    device_id: str | None
    kind: str
    subject: str
    severity: str
    status: str


class NameFound(Shape):
    id: int
    name: str


class FoundShape(BaseModel):
    """What was found, the best first, at most 20 of each kind."""

    machines: list[MachineFound]
    tickets: list[TicketFound]
    customers: list[NameFound]
    sites: list[NameFound]
    people: list[NameFound]


@router.get("/search")
def search(api: Parts, visitor: ForAll, q: Wanted) -> FoundShape:
    """Machines, tickets, customers, sites and people with these words in their name or number. Customers find their own
    machines and tickets."""
    return FoundShape.model_validate(find(api, visitor, q), from_attributes=True)


def find(api: Api, visitor: Visitor, wanted: str) -> store.Found:
    """What this visitor may find by these words."""
    with api.reading() as connection:
        return store.search(connection, api.scope(visitor), wanted, limit=FOUND, people=visitor.role in OFFICE)
