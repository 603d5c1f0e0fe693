"""The webhook channel: a signed JSON POST to the operators' address, which must not lie inside the network.

The fields are those of Apprise's json:// (version, title, message, type) and ours beside them, so what reads that
reads this. Apprise's own sender is not used: it follows redirects, asks the environment for proxies, hides the
answer's code, and lets nobody look at the address it has connected to.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import urllib3

from monitor.notify.message import Message, NotNow, Refused
from monitor.notify.outward import TIMEOUT, Outward, is_inside

TRY_AGAIN = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Target:
    """Where the webhook goes. `inside`: it may lie on this machine or in a private network."""

    url: str
    inside: bool = False


def parse_webhook_url(url: str, *, inside: bool = False) -> Target:
    """An http(s) address. Raises ValueError where it is none, carries a password, or names an inside address.

    A name's addresses are looked at when it is connected to, not here: they may change.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("FETTLE_WEBHOOK_URL: it must be http://HOST/… or https://HOST/…")
    if parts.username or parts.password:
        raise ValueError("FETTLE_WEBHOOK_URL: no user or password may stand in it; FETTLE_WEBHOOK_SECRET signs")
    if not inside and is_inside(parts.hostname):
        raise ValueError(
            f"FETTLE_WEBHOOK_URL: {parts.hostname} lies inside the network; FETTLE_WEBHOOK_INSIDE=1 allows it"
        )
    return Target(url, inside)


class Webhook:
    """Posts to one address. With a secret each post is signed (Standard Webhooks: id.timestamp.body)."""

    def __init__(self, target: Target, secret: str = "", timeout: urllib3.Timeout = TIMEOUT) -> None:
        self._url = target.url
        self._secret = _key(secret)
        self._outward = Outward(inside=target.inside, timeout=timeout)

    @property
    def name(self) -> str:
        return "webhook"

    def send(self, message: Message, now: int) -> None:
        body = _body(message)
        headers = {"Content-Type": "application/json", "User-Agent": "fettle", **self._signed(message.cause, now, body)}
        # The answer's body is never read: it may be endless.
        judge(self._outward.post(self._url, body, headers).status_code)

    def _signed(self, cause: str, now: int, body: bytes) -> Mapping[str, str]:
        named = {"webhook-id": cause, "webhook-timestamp": str(now // 1000)}
        if not self._secret:
            return named
        signed = b".".join((cause.encode(), named["webhook-timestamp"].encode(), body))
        signature = base64.b64encode(hmac.digest(self._secret, signed, hashlib.sha256)).decode()
        return {**named, "webhook-signature": f"v1,{signature}"}


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError as error:
        raise ValueError("FETTLE_WEBHOOK_SECRET: after whsec_ it must be base64") from error


def _body(message: Message) -> bytes:
    fields = {
        "version": "1.0",
        "title": message.subject,
        "message": message.body,
        "type": "info",
        "cause": message.cause,
        "kind": message.kind,
        "link": message.link,
        "ticket_id": message.ticket_id,
        "lang": message.lang,
    }
    return json.dumps(fields, ensure_ascii=False).encode()


def judge(status: int) -> None:
    """What an HTTP status means for a notice: nothing, Refused, or NotNow."""
    if 200 <= status < 300:
        return
    if status >= 500 or status in TRY_AGAIN:
        raise NotNow(f"HTTP {status}")
    # A redirect is not followed: it could lead inside, and it takes the signature elsewhere.
    raise Refused(f"HTTP {status}")
