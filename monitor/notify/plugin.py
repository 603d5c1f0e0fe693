"""Apprise's plugins for robots and SMS gateways, on a line of ours.

A plugin knows its gateway: address, fields, signature. But it follows redirects, lets nobody look at its peer, keeps
the answer to itself, and takes any HTTP 200 for delivered, though DingTalk, WeCom and Feishu answer 200 to a message
that they refuse. Plugins post through the name `requests` of their own module; the line below stands there instead, and
hands back what was answered.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Protocol

import requests
from apprise.plugins import dingtalk, feishu, infobip, plivo, sinch, twilio, wecombot

from monitor.notify.message import NotNow, Refused, Undelivered
from monitor.notify.outward import Answer, Outward

_MODULES: tuple[ModuleType, ...] = (dingtalk, feishu, infobip, plivo, sinch, twilio, wecombot)


class Plugin(Protocol):
    """What is used of Apprise's NotifyBase."""

    request_rate_per_sec: float

    def send(self, body: str, title: str = "") -> bool: ...


class _Post:
    """One message on its way out: how it may leave, and what came of it."""

    def __init__(self, outward: Outward) -> None:
        self.outward = outward
        self.answer: Answer | None = None
        self.failure: Undelivered | None = None


_post: ContextVar[_Post] = ContextVar("post")


class _Line:
    """Stands where a plugin says `requests`. It has what the plugins above use of it, and no more."""

    codes = requests.codes
    RequestException = requests.RequestException

    @staticmethod
    def post(
        url: str, *, data: Any = None, headers: Any = None, params: Any = None, auth: Any = None, **_: object
    ) -> Answer:  # fmt: skip
        """As `requests.post`, whose `verify`, `timeout` and `allow_redirects` are not the plugin's to choose."""
        ready = requests.Request("POST", url, data=data, headers=headers, params=params, auth=auth).prepare()
        body = ready.body if isinstance(ready.body, bytes) else str(ready.body or "").encode()
        post = _post.get()
        try:
            post.answer = post.outward.post(str(ready.url), body, _plain(ready.headers), reads=True)
        except Undelivered as error:
            post.failure = error
            raise requests.ConnectionError from error
        return post.answer


def _plain(headers: Mapping[str, str | bytes]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value.decode("latin-1") for name, value in headers.items()}


for _module in _MODULES:
    _module.requests = _Line  # type: ignore[attr-defined]


def deliver(plugin: Plugin, body: str, outward: Outward) -> tuple[bool, Answer]:
    """Send through a plugin: whether that takes it for delivered, and what was answered.

    Raises Undelivered where nobody answered, or the plugin did not even ask.
    """
    # What is sent, and how fast, the outbox decides; a plugin would sleep for seconds between two messages.
    plugin.request_rate_per_sec = 0
    post = _Post(outward)
    token = _post.set(post)
    try:
        taken = plugin.send(body)
    finally:
        _post.reset(token)
    if post.failure is not None:
        raise post.failure
    if post.answer is None:
        raise Refused("Apprise's plugin would not send it")
    return taken, post.answer


def by_status(status: int) -> Undelivered | None:
    """What a gateway's status says of one message."""
    if 200 <= status < 300:
        return None
    words = f"HTTP {status}"
    return NotNow(words) if status >= 500 or status in (408, 425, 429) else Refused(words)
