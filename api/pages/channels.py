"""The ways by which notices go out, how they do, and a test of one's own."""

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from api import channels
from api.access import ForDesk
from api.channels import TestWish
from api.context import Api, Parts
from api.labels import CHANNELS
from api.pages.filling import Complaint, Sent, done_or_told, made
from api.pages.shell import pages, render
from monitor.store.access import Visitor

router = pages()

SETTINGS = {
    "email": "FETTLE_SMTP_URL", "sms": "FETTLE_SMS_URL", "dingtalk": "FETTLE_DINGTALK", "wecom": "FETTLE_WECOM",
    "feishu": "FETTLE_FEISHU", "webhook": "FETTLE_WEBHOOK_URL",
}  # fmt: skip
"""What sets each of them up."""


@router.get("/settings/notices")
def channels_page(request: Request, api: Parts, visitor: ForDesk) -> HTMLResponse:
    return _page(request, api, visitor)


@router.post("/settings/notices/test")
def test_by_form(request: Request, api: Parts, visitor: ForDesk, form: Sent) -> Response:
    """`contact_id`: one of one's own contacts (0: one's e-mail); or `room`."""

    def send() -> None:
        wish = {"contact_id": form.whole("contact_id"), "room": form.text("room") == "true"}
        channels.send_test(api, visitor, made(TestWish, wish))

    return done_or_told(send, "/settings/notices#tests", lambda told: _page(request, api, visitor, told))


def _page(request: Request, api: Api, visitor: Visitor, complaint: Complaint | None = None) -> HTMLResponse:
    found = channels.list_channels(api, visitor)
    ways = channels.own_ways(api, visitor)
    return render(
        request, "settings_notices.html", visitor=visitor,
        complaint=complaint, found=found, names=CHANNELS, settings=SETTINGS,
        own={name: [way for way in ways if way.channel == name] for name in CHANNELS},
    )  # fmt: skip
