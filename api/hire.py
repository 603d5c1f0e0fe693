"""Who has which machine, and where it stands: sites, customers, contracts, rentals."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from api.access import ForDesk, ForErasing, ForOffice, ForStaff, KnownQuery
from api.context import Api, Parts
from api.paging import Cursor, Limit, cut, key_of
from api.people import Confirmed
from api.problems import documented, not_found
from api.refusals import IfMatch, give_tag, refusals_told, seen_tag
from api.shapes import Given, GivenMoment, Moment, Page, PlannedMoment, RentalShape, Shape, SiteShape
from monitor.store import hire, queries
from monitor.store.erasure import Erasure
from monitor.store.hire import Hire
from monitor.store.registry import NOTES_LENGTH, Registry, tag_of

router = APIRouter(prefix="/api/v1", tags=["registers"], dependencies=[KnownQuery])

Id = Annotated[int, Field(ge=1, lt=2**63)]
SiteId = Annotated[int, Path(ge=1, lt=2**63)]
CustomerId = Annotated[int, Path(ge=1, lt=2**63)]
RentalId = Annotated[int, Path(ge=1, lt=2**63)]
DeviceName = Annotated[str, Field(min_length=1, max_length=64)]
LatDeg = Annotated[float | None, Field(ge=-90, le=90, allow_inf_nan=False)]
LonDeg = Annotated[float | None, Field(ge=-180, le=180, allow_inf_nan=False)]


# --- sites ---------------------------------------------------------------------------------------------------------


class SiteChange(Given):
    """What is to change of a site; what is left out stays."""

    in_lines = frozenset({"access_notes"})

    name: str = Field("", min_length=1, max_length=120)
    lat_deg: LatDeg = Field(None, description="WGS 84; null with lon_deg: not known any more.")
    lon_deg: LonDeg = None
    access_notes: str = Field("", max_length=NOTES_LENGTH)
    remote: bool = Field(False, description="R8 and R9 give remote sites their own clocks; running ones stay.")
    timezone: str = Field("", max_length=64, description="IANA name, such as Asia/Shanghai.")


class NewSite(Given):
    in_lines = frozenset({"access_notes"})

    name: str = Field(min_length=1, max_length=120)
    remote: bool = False
    timezone: str | None = Field(None, max_length=64, description="IANA name; the company's own without it.")
    lat_deg: LatDeg = None
    lon_deg: LonDeg = None
    access_notes: str = Field("", max_length=NOTES_LENGTH)


@router.post("/sites", status_code=201, responses=documented(401, 403, 422))
def add_site(api: Parts, visitor: ForDesk, response: Response, body: NewSite) -> SiteShape:
    """A place where machines stand."""
    with refusals_told("site"):
        site_id = Registry(api.database, visitor.actor).add_site(
            body.name, remote=body.remote, timezone=api.timezone if body.timezone is None else body.timezone,
            now=api.clock(), access_notes=body.access_notes,
            place=None if body.lat_deg is None or body.lon_deg is None else (body.lat_deg, body.lon_deg),
        )  # fmt: skip
    return _site(api, response, site_id)


@router.get("/sites/{site_id}", responses=documented(401, 403, 404))
def one_site(api: Parts, _: ForStaff, response: Response, site_id: SiteId) -> SiteShape:
    """One site, with the ETag that a change may name."""
    return _site(api, response, site_id)


@router.patch("/sites/{site_id}", responses=documented(401, 403, 404, 412, 422))
def change_site(
    api: Parts, visitor: ForDesk, response: Response, site_id: SiteId, body: SiteChange, if_match: IfMatch = None
) -> SiteShape:
    """Change some of a site. With If-Match, only if nobody else did meanwhile (412)."""
    with refusals_told("site"):
        Registry(api.database, visitor.actor).change_site(
            site_id, body.model_dump(exclude_unset=True), api.clock(), seen=seen_tag(if_match)
        )
    return _site(api, response, site_id)


def _site(api: Api, response: Response, site_id: int) -> SiteShape:
    with api.reading() as connection:
        row = queries.site_row(connection, site_id)
    if row is None:
        raise not_found("site")
    give_tag(response, tag_of(row))
    return SiteShape.model_validate(row)


# --- customers and contracts ---------------------------------------------------------------------------------------


class CustomerShape(Shape):
    id: int
    name: str
    email: str
    lang: str
    erased_at: Moment | None = Field(None, description="Since when nothing is known of them: their name is a number.")


class CustomerListed(CustomerShape):
    on_hire: int = Field(description="How many machines they have on hire now.")


class NewCustomer(Given):
    name: str = Field(min_length=1, max_length=200)
    email: str = Field(max_length=254, description="Where notices of their machines go.")
    lang: Literal["zh", "en"] = "zh"


class CustomerChange(Given):
    """What is to change of a customer; what is left out stays."""

    name: str = Field("", min_length=1, max_length=200)
    email: str = Field("", max_length=254, description="Where notices of their machines go; '': nowhere.")
    lang: Literal["zh", "en"] = "zh"


class ContractShape(Shape):
    id: int
    number: str
    customer_id: int
    customer_name: str
    signed_at: Moment | None
    added_at: Moment


class NewContract(Given):
    number: str = Field(min_length=1, max_length=60, description="As it stands on the paper.")
    customer_id: Id
    signed_at: GivenMoment | None = None


@router.get("/customers", responses=documented(401, 403, 422))
def list_customers(api: Parts, _: ForOffice, limit: Limit = 50, cursor: Cursor = None) -> Page[CustomerListed]:
    """Who rents machines, the oldest first."""
    with api.reading() as connection:
        rows = hire.customers(connection, after=key_of(cursor, int) or 0, limit=limit + 1)
        on_hire = hire.on_hire(connection, api.clock())
    shapes = [CustomerListed.model_validate({**row._mapping, "on_hire": on_hire.get(row.id, 0)}) for row in rows]
    items, following = cut(shapes, limit, "id")
    return Page(items=items, next=following)


@router.get("/customers/{customer_id}", responses=documented(401, 403, 404))
def one_customer(api: Parts, _: ForOffice, response: Response, customer_id: CustomerId) -> CustomerShape:
    """One of those who rent machines, with the ETag that a change may name."""
    return _customer(api, response, customer_id)


@router.patch("/customers/{customer_id}", responses=documented(401, 403, 404, 409, 412, 422))
def change_customer(
    api: Parts, visitor: ForDesk, response: Response, customer_id: CustomerId, body: CustomerChange,
    if_match: IfMatch = None,
) -> CustomerShape:  # fmt: skip
    """Change some of a customer. With If-Match, only if nobody else did meanwhile (412)."""
    with refusals_told("customer"):
        Hire(api.database, visitor.actor).change_customer(
            customer_id, body.model_dump(exclude_unset=True), api.clock(), seen=seen_tag(if_match)
        )
    return _customer(api, response, customer_id)


def _customer(api: Api, response: Response, customer_id: int) -> CustomerShape:
    with api.reading() as connection:
        row = hire.customer(connection, customer_id)
    if row is None:
        raise not_found("customer")
    give_tag(response, hire.customer_tag(row))
    return CustomerShape.model_validate(row)


@router.post("/customers", status_code=201, responses=documented(401, 403, 409, 422))
def add_customer(api: Parts, visitor: ForDesk, body: NewCustomer) -> CustomerShape:
    """Somebody who rents machines."""
    with refusals_told("customer"):
        customer_id = Hire(api.database, visitor.actor).add_customer(body.name, body.email, body.lang, api.clock())
    return CustomerShape(id=customer_id, **body.model_dump())


@router.post("/customers/{customer_id}/erase", responses=documented(401, 403, 404, 409, 422))
def erase_customer(
    api: Parts, visitor: ForErasing, response: Response, customer_id: CustomerId, body: Confirmed
) -> CustomerShape:  # fmt: skip
    """What is known of a customer and of their people goes, for good; rentals and tickets stay under a number. Not
    while they have a machine on hire, or an open ticket (409)."""
    with refusals_told("customer"):
        Erasure(api.database, visitor.actor).customer(customer_id, body.confirm, api.clock())
    return _customer(api, response, customer_id)


@router.get("/contracts", responses=documented(401, 403, 422))
def list_contracts(
    api: Parts,
    _: ForOffice,
    customer_id: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ContractShape]:
    """Contracts, the newest first."""
    with api.reading() as connection:
        rows = hire.contracts(connection, customer_id=customer_id, before=key_of(cursor, int), limit=limit + 1)
    items, following = cut([ContractShape.model_validate(row) for row in rows], limit, "id")
    return Page(items=items, next=following)


@router.post("/contracts", status_code=201, responses=documented(401, 403, 409, 422))
def add_contract(api: Parts, visitor: ForDesk, body: NewContract) -> ContractShape:
    """A contract with a customer; rentals name it."""
    with refusals_told("contract"):
        contract_id = Hire(api.database, visitor.actor).add_contract(
            body.number, body.customer_id, body.signed_at, api.clock()
        )
    with api.reading() as connection:
        (row,) = hire.contracts(connection, before=contract_id + 1, limit=1)
    return ContractShape.model_validate(row)


# --- rentals -------------------------------------------------------------------------------------------------------


class NewRental(Given):
    """A machine's time with a customer: [starts_at, ends_at)."""

    device_id: DeviceName
    contract_id: Id | None = Field(None, description="Its customer is the rental's.")
    customer_id: Id | None = Field(None, description="Where there is no contract.")
    starts_at: PlannedMoment | None = Field(None, description="Now, without it.")
    ends_at: PlannedMoment | None = Field(None, description="Without it the rental runs until it is ended.")


class RentalEnd(Given):
    at: PlannedMoment | None = Field(None, description="Now, without it.")


class Exchange(Given):
    device_id: DeviceName = Field(description="The machine that takes over.")
    at: PlannedMoment | None = Field(None, description="Now, without it.")


@router.post("/rentals", status_code=201, responses=documented(401, 403, 409, 422))
def add_rental(api: Parts, visitor: ForDesk, response: Response, body: NewRental) -> RentalShape:
    """Put a machine on hire. It has one rental at a time: 409 names the other."""
    now = api.clock()
    with refusals_told("rental"):
        rental_id = Hire(api.database, visitor.actor).add_rental(
            body.device_id, now if body.starts_at is None else body.starts_at, body.ends_at, now,
            contract_id=body.contract_id, customer_id=body.customer_id,
        )  # fmt: skip
    return _rental(api, response, rental_id)


@router.get("/rentals/{rental_id}", responses=documented(401, 403, 404))
def one_rental(api: Parts, _: ForStaff, response: Response, rental_id: RentalId) -> RentalShape:
    """One rental, with the ETag that a change may name."""
    return _rental(api, response, rental_id)


@router.post("/rentals/{rental_id}/end", responses=documented(401, 403, 404, 409, 412, 422))
def end_rental(
    api: Parts, visitor: ForDesk, response: Response, rental_id: RentalId, body: RentalEnd | None = None,
    if_match: IfMatch = None,
) -> RentalShape:  # fmt: skip
    """End a rental, or say when it will end; one that has not begun by then never does."""
    with refusals_told("rental"):
        Hire(api.database, visitor.actor).end_rental(
            rental_id, body.at if body else None, api.clock(), seen=seen_tag(if_match)
        )
    return _rental(api, response, rental_id)


@router.post("/rentals/{rental_id}/exchange", status_code=201, responses=documented(401, 403, 404, 409, 412, 422))
def exchange(
    api: Parts, visitor: ForDesk, response: Response, rental_id: RentalId, body: Exchange, if_match: IfMatch = None
) -> RentalShape:
    """Another machine takes a rental's place, for the rest of its period; answers the rental of the one that comes.
    Open tickets of the machine that goes stay, and their clocks go on."""
    with refusals_told("rental"):
        new_id = Hire(api.database, visitor.actor).exchange(
            rental_id, body.device_id, body.at, api.clock(), seen=seen_tag(if_match)
        )
    return _rental(api, response, new_id)


def _rental(api: Api, response: Response, rental_id: int) -> RentalShape:
    with api.reading() as connection:
        kept, row = hire.rental(connection, rental_id), queries.rental_row(connection, rental_id)
    if kept is None or row is None:
        raise not_found("rental")
    give_tag(response, tag_of(kept))
    return RentalShape.of(row, api.clock())
