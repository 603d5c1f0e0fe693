"""Links for those who have no account, made and ended: to a customer's page, and the label on a machine."""

from typing import Annotated

import segno
from fastapi import APIRouter, Form, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup
from pydantic import BaseModel, Field

from api.access import ForDesk, KnownQuery
from api.context import Api, Parts
from api.devices import DeviceId, device_detail
from api.pages import render
from api.problems import Problem, documented, not_found
from api.refusals import refusals_told
from api.shapes import Given, Moment
from monitor.links import CUSTOMER_LINK_MS, Signer, customer_token, label_token
from monitor.store import links
from monitor.store.links import Links

commands = APIRouter(prefix="/api/v1", tags=["links"], dependencies=[KnownQuery])
pages = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

CustomerId = Annotated[int, Path(ge=1, lt=2**63)]


class LinkWish(Given):
    renew: bool = Field(False, description="End every one that was handed out before.")


class LinkMade(BaseModel):
    url: str = Field(description="Whoever holds it may use it: it is not kept here, and not shown again.")
    expires_at: Moment | None = Field(description="null: it does not expire, until it is ended.")


@commands.post("/customers/{customer_id}/link", status_code=201, responses=documented(401, 403, 404, 422))
def make_customer_link(api: Parts, visitor: ForDesk, customer_id: CustomerId, body: LinkWish | None = None) -> LinkMade:
    """A link to a customer's page: their machines on hire, what is promised, and a form to report a problem."""
    signer, now = signer_of(api), api.clock()
    with refusals_told("customer"):
        epoch = Links(api.database, visitor.actor).customer(customer_id, now, renew=bool(body and body.renew))
    token = customer_token(signer, customer_id, epoch, now)
    return LinkMade(url=f"{api.public_url}/c/{token}", expires_at=now + CUSTOMER_LINK_MS)


@commands.post("/devices/{device_id}/label", status_code=201, responses=documented(401, 403, 404, 422))
def make_label(api: Parts, visitor: ForDesk, device_id: DeviceId, body: LinkWish | None = None) -> LinkMade:
    """The address on a machine's label: whoever stands before it can report a problem with it."""
    signer = signer_of(api)
    with refusals_told("machine"):
        epoch = Links(api.database, visitor.actor).label(device_id, api.clock(), renew=bool(body and body.renew))
    return LinkMade(url=_label_url(api, signer, device_id, epoch), expires_at=None)


def signer_of(api: Api) -> Signer:
    """Raises the 404 Problem where this service signs no links."""
    signer = api.desk.addresses.signer
    if signer is None:
        raise Problem(404, "Not found", "This service hands out no links.")
    return signer


def _label_url(api: Api, signer: Signer, device_id: str, epoch: int) -> str:
    return f"{api.public_url}/m/{label_token(signer, device_id, epoch)}"


# --- the label, to be printed --------------------------------------------------------------------------------------


@pages.get("/machines/{device_id}/label")
def label_page(request: Request, api: Parts, visitor: ForDesk, device_id: DeviceId) -> HTMLResponse:
    """The label that counts now, with its QR code."""
    machine = device_detail(api, visitor, device_id)
    signer = signer_of(api)
    with api.reading() as connection:
        epoch = links.label_epoch(connection, device_id)
    if epoch is None:
        raise not_found("machine")
    url = _label_url(api, signer, device_id, epoch)
    return render(request, "label.html", visitor=visitor, machine=machine, url=url, code=qr_code(url))


@pages.post("/machines/{device_id}/label")
def renew_label(
    api: Parts, visitor: ForDesk, device_id: DeviceId, renew: Annotated[bool, Form()] = False
) -> Response:  # fmt: skip
    make_label(api, visitor, device_id, LinkWish(renew=renew))
    return RedirectResponse(f"/machines/{device_id}/label", 303)


def qr_code(text: str) -> Markup:
    """A QR code as SVG of its own size, black on white in any light, with the quiet zone that readers need."""
    # A label outside gets scratched: a quarter of it may be gone.
    code = segno.make(text, error="q", micro=False)
    return Markup(code.svg_inline(border=4, omitsize=True, dark="black", light="white", svgclass="qr", lineclass=None))  # noqa: S704 (the library's own shapes, nothing of the text)


router = APIRouter()
router.include_router(commands)
router.include_router(pages)
