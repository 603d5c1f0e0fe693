"""Posts that leave the house: bounded in time and size, without redirects and proxies, and never to an address inside
the network unless that was allowed.

The peer itself is looked at, after connecting and before a byte is sent: no second look-up can lead elsewhere.
"""

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from monitor.notify.message import Refused, Unreachable

TIMEOUT = urllib3.Timeout(connect=4, read=10)
ANSWER_BYTES = 65_536
ANSWER_S = 10.0
NAT64 = IPv6Network("64:ff9b::/96")


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
    peer = connected.getpeername()[0].partition("%")[0]
    if is_inside(peer):
        connected.close()
        raise InsideError(f"the name leads to {peer}, inside the network")
    return connected


class _OutwardHTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _OutwardHTTP


class _OutwardHTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _OutwardHTTPS


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side answered: its status, and the beginning of its body where that was asked for.

    The names of the fields are those that Apprise's plugins ask a response for.
    """

    status_code: int
    content: bytes = b""


class Outward:
    """Posts to whatever address it is given. `inside`: the peer may lie on this machine or in a private network."""

    def __init__(self, *, inside: bool = False, timeout: urllib3.Timeout = TIMEOUT) -> None:
        self._http = urllib3.PoolManager(timeout=timeout, retries=False, maxsize=1)
        if not inside:
            self._http.pool_classes_by_scheme = {"http": _OutwardHTTPPool, "https": _OutwardHTTPSPool}

    def post(self, url: str, body: bytes, headers: Mapping[str, str], *, reads: bool = False) -> Answer:
        """Post, and read the answer's body where `reads` says so; otherwise it may be as long as it likes.

        Raises Refused where the name leads inside, and Unreachable where nobody answers.
        """
        try:
            answer = self._http.request("POST", url, body=body, headers=headers, redirect=False, preload_content=False)
            content = _beginning(answer) if reads else b""
        except InsideError as error:
            raise Refused(str(error)) from error
        except urllib3.exceptions.HTTPError as error:
            # Not the error's own text: that names the address, whose path may be a secret.
            raise Unreachable(type(error).__name__) from error
        answer.close()
        return Answer(answer.status, content)


def _beginning(answer: urllib3.BaseHTTPResponse) -> bytes:
    """As much of a body as a robot's answer may have; the rest is not waited for."""
    found, ends = b"", time.monotonic() + ANSWER_S
    while len(found) < ANSWER_BYTES and time.monotonic() < ends:
        some = answer.read1(ANSWER_BYTES - len(found))
        if not some:
            break
        found += some
    return found
