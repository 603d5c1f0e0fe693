"""Robots in the groups of DingTalk, WeCom and Feishu. A group is a room with a name; its token is a setting.

FETTLE_DINGTALK, FETTLE_WECOM and FETTLE_FEISHU hold `ROOM=TOKEN` (DingTalk also `ROOM=TOKEN:SECRET`, for a robot that
wants signatures), with spaces between them. A contact names the room, with DingTalk also whom to point at:
`night-shift@13800000000`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from apprise.plugins.dingtalk import NotifyDingTalk
from apprise.plugins.feishu import NotifyFeishu
from apprise.plugins.wecombot import NotifyWeComBot

from monitor.notify.message import Bounced, Message, NotNow, Refused, Undelivered
from monitor.notify.outward import Answer, Outward
from monitor.notify.plugin import Plugin, by_status, deliver

ROOM = r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"
ADDRESS = re.compile(f"({ROOM})")
ADDRESS_AT = re.compile(f"({ROOM})(?:@(1[0-9]{{10}}))?")
TOKEN = re.compile(r"([A-Za-z0-9_-]{8,128})")
TOKEN_SECRET = re.compile(r"([A-Za-z0-9]{8,128})(?::([A-Za-z0-9]{8,128}))?")
# Apprise's own parameters have no types.
_DINGTALK: Callable[..., Plugin] = NotifyDingTalk
_WECOM: Callable[..., Plugin] = NotifyWeComBot
_FEISHU: Callable[..., Plugin] = NotifyFeishu
TOO_FAST = "too fast"
GONE = "gone"


@dataclass(frozen=True, slots=True)
class Make:
    """A maker of robots: what its settings and answers look like. `most_bytes`: what fits into one message."""

    name: str
    plugin: Callable[[tuple[str, str], str], Plugin]
    code: str
    """Where the answer says how it went; 0 is well."""
    codes: Mapping[int, str]
    most_bytes: int
    address: re.Pattern[str] = ADDRESS
    token: re.Pattern[str] = TOKEN


DINGTALK = Make(
    "dingtalk", lambda token, at: _DINGTALK(token[0], secret=token[1] or None, targets=at), "errcode",
    {130101: TOO_FAST, 130102: TOO_FAST, 410100: TOO_FAST, -1: TOO_FAST, 300001: GONE, 400013: GONE}, 15_000,
    ADDRESS_AT, TOKEN_SECRET,
)  # fmt: skip
WECOM = Make(
    "wecom", lambda token, _: _WECOM(token[0]), "errcode",
    {45009: TOO_FAST, 45033: TOO_FAST, -1: TOO_FAST, 93000: GONE}, 2_000,
)  # fmt: skip
FEISHU = Make(
    "feishu", lambda token, _: _FEISHU(token[0]), "code",
    {11232: TOO_FAST, 11233: TOO_FAST, 19001: GONE, 19002: GONE}, 15_000,
)  # fmt: skip
MAKES = (DINGTALK, WECOM, FEISHU)


def parse_rooms(make: Make, text: str) -> dict[str, tuple[str, str]]:
    """Token and secret ('' without) of each room. Raises ValueError with a sentence that holds neither."""
    rooms: dict[str, tuple[str, str]] = {}
    for number, one in enumerate(text.split(), start=1):
        name, _, token = one.partition("=")
        found = make.token.fullmatch(token)
        if not found or not re.fullmatch(ROOM, name):
            wanted = "ROOM=TOKEN or ROOM=TOKEN:SECRET" if make is DINGTALK else "ROOM=TOKEN"
            raise ValueError(f"FETTLE_{make.name.upper()}: entry {number} is not {wanted} (ROOM: a-z, 0-9 and -)")
        if name in rooms:
            raise ValueError(f"FETTLE_{make.name.upper()}: room {name} is there twice")
        rooms[name] = (found[1], (found[2] or "") if make is DINGTALK else "")
    return rooms


@dataclass(frozen=True, slots=True)
class Robot:
    """Writes into the rooms of one make."""

    make: Make
    rooms: Mapping[str, tuple[str, str]] = field(repr=False)
    outward: Outward

    @property
    def name(self) -> str:
        return self.make.name

    def send(self, message: Message, now: int) -> None:  # noqa: ARG002 (robots tell the time themselves)
        address = self.make.address.fullmatch(message.recipient)
        if not address or address[1] not in self.rooms:
            raise Bounced(f"there is no such room: FETTLE_{self.make.name.upper()} names those that are")
        at = (address[2] or "") if self.make.address is ADDRESS_AT else ""
        plugin = self.make.plugin(self.rooms[address[1]], at)
        _, answer = deliver(plugin, _fitting(message, self.make.most_bytes), self.outward)
        error = _judge(self.make, answer)
        if error is not None:
            raise error


def _fitting(message: Message, most_bytes: int) -> str:
    """Subject and text; where that is too much, as much as fits and the link to the rest."""
    text = f"{message.subject}\n\n{message.body}".strip()
    if len(text.encode()) <= most_bytes:
        return text
    end = f"\n…\n{message.link}"
    return text.encode()[: most_bytes - len(end.encode())].decode(errors="ignore") + end


def _judge(make: Make, answer: Answer) -> Undelivered | None:
    """Robots answer HTTP 200 to what they refuse, too: the code in the answer counts."""
    error = by_status(answer.status_code)
    if error is not None:
        return error
    code, words = _said(make, answer)
    if code == 0:
        return None
    kind = make.codes.get(code) if code is not None else TOO_FAST
    said = f"{code} {words}"[:200]
    return NotNow(said) if kind == TOO_FAST else Bounced(said) if kind == GONE else Refused(said)


def _said(make: Make, answer: Answer) -> tuple[int | None, str]:
    """The code and the words of an answer; None where it is none of the robot's (a gateway's error page)."""
    try:
        found: Any = json.loads(answer.content)
    except ValueError:
        return None, "no JSON"
    if not isinstance(found, dict) or not isinstance(found.get(make.code), int):
        return None, f"no {make.code}"
    return found[make.code], str(found.get("errmsg", found.get("msg", "")))
