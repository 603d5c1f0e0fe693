"""A machine's label, to be printed."""

from typing import Annotated

import segno
from fastapi import Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from api.access import ForDesk
from api.context import Parts
from api.devices import DeviceId, device_detail
from api.links import LinkWish, label_url, make_label, signer_of
from api.pages.shell import pages, render
from api.problems import not_found
from monitor.store import links

router = pages()


@router.get("/machines/{device_id}/label")
def label_page(request: Request, api: Parts, visitor: ForDesk, device_id: DeviceId) -> HTMLResponse:
    """The label that counts now, with its QR code."""
    machine = device_detail(api, visitor, device_id)
    signer = signer_of(api)
    with api.reading() as connection:
        epoch = links.label_epoch(connection, device_id)
    if epoch is None:
        raise not_found("machine")
    url = label_url(api, signer, device_id, epoch)
    return render(request, "label.html", visitor=visitor, machine=machine, url=url, code=qr_code(url))


@router.post("/machines/{device_id}/label")
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
