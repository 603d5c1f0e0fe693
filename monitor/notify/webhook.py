"""The webhook channel: a signed JSON POST to the operators' address, which must not lie inside the network.

The fields are those of Apprise's json:// (version, title, message, type) and ours beside them, so what reads that
reads this. Apprise's own sender is not used: it follows redirects, asks the environment for proxies, hides the
answer's code, and lets nobody look at the address it has connected to.
"""

import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from monitor.notify.message import Message, NotNow, Refused, Unreachable

TIMEOUT = urllib3.Timeout(connect=4, read=10)
TRY_AGAIN = (408, 425, 429)
NAT64 = IPv6Network("64:ff9b::/96")


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


def is_inside(host: str) -> bool:
    """Whether an address is one that the public internet does not route (loopback, private, link-local, CGNAT, …).

    A name is not: what it stands for is only known when it is connected to.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    address = _carried(address)
    return not address.is_global or address.is_multicast


def _carried(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)


class InsideError(urllib3.exceptions.HTTPError):
    """The name led to an address inside."""


class _OutwardHTTP(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _outward(super()._new_conn())


class _OutwardHTTPS(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _outward(super()._new_conn())


def _outward(connected: socket.socket) -> socket.socket:
    """The peer itself is looked at, before a byte is sent: no second look-up can lead elsewhere (rebinding)."""
    peer = connected.getpeername()[0].partition("%")[0]
    if is_inside(peer):
        connected.close()
        raise InsideError(f"the name leads to {peer}, inside the network")
    return connected


class _OutwardHTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _OutwardHTTP


class _OutwardHTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _OutwardHTTPS


class Webhook:
    """Posts to one address. With a secret each post is signed (Standard Webhooks: id.timestamp.body)."""

    def __init__(self, target: Target, secret: str = "", timeout: urllib3.Timeout = TIMEOUT) -> None:
        self._url = target.url
        self._secret = _key(secret)
        self._http = urllib3.PoolManager(timeout=timeout, retries=False, maxsize=1)
        if not target.inside:
            self._http.pool_classes_by_scheme = {"http": _OutwardHTTPPool, "https": _OutwardHTTPSPool}

    @property
    def name(self) -> str:
        return "webhook"

    def send(self, message: Message, now: int) -> None:
        body = _body(message)
        headers = {"Content-Type": "application/json", "User-Agent": "fettle", **self._signed(message.cause, now, body)}
        try:
            answer = self._http.request(
                "POST", self._url, body=body, headers=headers, redirect=False, preload_content=False
            )
        except InsideError as error:
            raise Refused(str(error)) from error
        except urllib3.exceptions.HTTPError as error:
            # Not the error's own text: that names the address, whose path may be a secret.
            raise Unreachable(type(error).__name__) from error
        # The answer's body is never read: it may be endless.
        answer.close()
        _judge(answer.status)

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
        "ticket_id": message.ticket_id,
        "lang": message.lang,
    }
    return json.dumps(fields, ensure_ascii=False).encode()


def _judge(status: int) -> None:
    if 200 <= status < 300:
        return
    if status >= 500 or status in TRY_AGAIN:
        raise NotNow(f"HTTP {status}")
    # A redirect is not followed: it could lead inside, and it takes the signature elsewhere.
    raise Refused(f"HTTP {status}")
