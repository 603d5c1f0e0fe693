"""Links for those who have no account, made and ended: to a customer's page, and the label on a machine."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from api.access import ForDesk, KnownQuery
from api.context import Api, Parts
from api.devices import DeviceId
from api.problems import Problem, documented
from api.refusals import refusals_told
from api.shapes import Given, Moment
from monitor.links import CUSTOMER_LINK_MS, Signer, customer_token, label_token
from monitor.store.links import Links

router = APIRouter(prefix="/api/v1", tags=["links"], dependencies=[KnownQuery])

CustomerId = Annotated[int, Path(ge=1, lt=2**63)]


class LinkWish(Given):
    renew: bool = Field(False, description="End every one that was handed out before.")


class LinkMade(BaseModel):
    url: str = Field(description="Whoever holds it may use it: it is not kept here, and not shown again.")
    expires_at: Moment | None = Field(description="null: it does not expire, until it is ended.")


@router.post("/customers/{customer_id}/link", status_code=201, responses=documented(401, 403, 404, 422))
def make_customer_link(api: Parts, visitor: ForDesk, customer_id: CustomerId, body: LinkWish | None = None) -> LinkMade:
    """A link to a customer's page: their machines on hire, what is promised, and a form to report a problem."""
    signer, now = signer_of(api), api.clock()
    with refusals_told("customer"):
        epoch = Links(api.database, visitor.actor).customer(customer_id, now, renew=bool(body and body.renew))
    token = customer_token(signer, customer_id, epoch, now)
    return LinkMade(url=f"{api.public_url}/c/{token}", expires_at=now + CUSTOMER_LINK_MS)


@router.post("/devices/{device_id}/label", status_code=201, responses=documented(401, 403, 404, 422))
def make_label(api: Parts, visitor: ForDesk, device_id: DeviceId, body: LinkWish | None = None) -> LinkMade:
    """The address on a machine's label: whoever stands before it can report a problem with it."""
    signer = signer_of(api)
    with refusals_told("machine"):
        epoch = Links(api.database, visitor.actor).label(device_id, api.clock(), renew=bool(body and body.renew))
    return LinkMade(url=label_url(api, signer, device_id, epoch), expires_at=None)


def signer_of(api: Api) -> Signer:
    """Raises the 404 Problem where this service signs no links."""
    signer = api.desk.addresses.signer
    if signer is None:
        raise Problem(404, "Not found", "This service hands out no links.")
    return signer


def label_url(api: Api, signer: Signer, device_id: str, epoch: int) -> str:
    return f"{api.public_url}/m/{label_token(signer, device_id, epoch)}"
