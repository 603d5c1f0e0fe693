"""Text messages through a gateway: any that takes a signed-in JSON post, or one that Apprise knows.

FETTLE_SMS_URL is `http(s)://HOST/PATH` (with FETTLE_SMS_TOKEN as the bearer token), which gets
`{"to": "+8613800000000", "text": "…", "id": "…"}` and the id as Idempotency-Key as well; or an address of Apprise's of
the closed list below, without a recipient. Recipients are numbers in the international form.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from apprise import AppriseAsset
from apprise.plugins.infobip import NotifyInfobip
from apprise.plugins.plivo import NotifyPlivo
from apprise.plugins.sinch import NotifySinch
from apprise.plugins.twilio import NotifyTwilio

from monitor.notify.message import Bounced, Message, Refused, Undelivered, Unreachable
from monitor.notify.outward import Answer, Outward, is_inside
from monitor.notify.plugin import by_status, deliver

NUMBER = re.compile(r"\+[1-9][0-9]{7,14}")
# Two parts of a long message in Chinese (67 characters each); the link is what must not be lost.
TEXT_CHARS = 134
# Vonage, MessageBird and others are left out: they answer 200 whatever becomes of the message.
GATEWAYS: Mapping[str, Any] = {
    "twilio": NotifyTwilio, "sinch": NotifySinch, "plivo": NotifyPlivo, "infobip": NotifyInfobip,
}  # fmt: skip
# Twilio's codes for a number that never will: invalid, not reachable from here, unsubscribed, blocked, a landline.
NO_NUMBER = (21211, 21214, 21217, 21408, 21421, 21610, 21612, 21614, 30006)


class Gateway(Protocol):
    """Takes one text for one number, or raises Undelivered."""

    def send(self, number: str, text: str, key: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Sms:
    """Sends the subject and the link: there is no room for more."""

    gateway: Gateway

    @property
    def name(self) -> str:
        return "sms"

    def send(self, message: Message, now: int) -> None:  # noqa: ARG002 (the gateway tells the time)
        if not NUMBER.fullmatch(message.recipient):
            raise Bounced("the recipient is not a number in the international form")
        # Causes name people and tickets by number, and still are nobody's business out there.
        key = hashlib.sha256(message.cause.encode()).hexdigest()[:32]
        self.gateway.send(message.recipient, _short(message), key)


def _short(message: Message) -> str:
    room = TEXT_CHARS - (len(message.link) + 1 if message.link else 0)
    subject = message.subject if len(message.subject) <= room else message.subject[: max(room - 1, 40)] + "…"
    return "\n".join(filter(None, (subject, message.link)))


def parse_sms_url(url: str, token: str = "", *, inside: bool = False) -> Gateway:
    """The gateway that a setting names. Raises ValueError with a sentence that holds no secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("FETTLE_SMS_URL: it is no URL") from None
    if parts.scheme in GATEWAYS:
        if token:
            raise ValueError(f"FETTLE_SMS_TOKEN: {parts.scheme}:// holds its own credentials")
        return AppriseGateway(parts.scheme, _arguments(parts.scheme, url), Outward(inside=inside))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"FETTLE_SMS_URL: the scheme must be http, https or one of {', '.join(GATEWAYS)}")
    if parts.username or parts.password:
        raise ValueError("FETTLE_SMS_URL: no user or password may stand in it; FETTLE_SMS_TOKEN signs in")
    if not inside and is_inside(parts.hostname):
        raise ValueError(f"FETTLE_SMS_URL: {parts.hostname} lies inside the network; FETTLE_SMS_INSIDE=1 allows it")
    return HttpGateway(url, token, Outward(inside=inside))


def _arguments(scheme: str, url: str) -> dict[str, Any]:
    """What the plugin is made with for each number. Apprise's own options (verify, redirect, …) are not taken."""
    found: dict[str, Any] | None = GATEWAYS[scheme].parse_url(url)
    if parse_qs(urlsplit(url).query).keys() - {"from"} or not found or found.get("targets"):
        raise ValueError(
            f"FETTLE_SMS_URL: it is not {scheme}://…/ as Apprise has it, without a recipient and options but from"
        )
    try:
        GATEWAYS[scheme](**{**found, "targets": ["+15005550006"]})
    except TypeError as error:
        # Apprise's own text may hold the credentials.
        raise ValueError(f"FETTLE_SMS_URL: Apprise does not take it as {scheme}://") from error
    return found


@dataclass(frozen=True, slots=True)
class HttpGateway:
    """A gateway that takes JSON."""

    url: str = field(repr=False)
    token: str = field(repr=False)
    outward: Outward

    def send(self, number: str, text: str, key: str) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": "fettle", "Idempotency-Key": key}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        body = json.dumps({"to": number, "text": text, "id": key}, ensure_ascii=False).encode()
        status = self.outward.post(self.url, body, headers).status_code
        if status in (401, 403):
            raise Unreachable(f"sign-in refused: HTTP {status}")
        if status in (404, 410, 422):
            raise Bounced(f"HTTP {status}")
        error = by_status(status)
        if error is not None:
            raise error


@dataclass(frozen=True, slots=True)
class AppriseGateway:
    """A gateway that Apprise knows."""

    scheme: str
    arguments: Mapping[str, Any] = field(repr=False)
    outward: Outward

    def send(self, number: str, text: str, key: str) -> None:  # noqa: ARG002 (none of them knows an idempotency key)
        plugin = GATEWAYS[self.scheme](**{**self.arguments, "targets": [number]}, asset=AppriseAsset())
        taken, answer = deliver(plugin, text, self.outward)
        error = _judge(self.scheme, answer, taken=taken)
        if error is not None:
            raise error


def _judge(scheme: str, answer: Answer, *, taken: bool) -> Undelivered | None:
    status = answer.status_code
    if status in (401, 403):
        return Unreachable(f"sign-in refused: HTTP {status}")
    if scheme == "twilio" and status == 400:
        code = _code(answer)
        return (Bounced if code in NO_NUMBER else Refused)(f"HTTP 400, code {code}")
    error = by_status(status)
    return error if error is not None or taken else Refused("the gateway took it and will not send it")


def _code(answer: Answer) -> object:
    try:
        found: Any = json.loads(answer.content)
    except ValueError:
        return None
    return found.get("code") if isinstance(found, dict) else None
