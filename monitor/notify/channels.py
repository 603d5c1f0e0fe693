"""Notice channels: what carries a notice to its reader. One file a channel, one line in CONTACTS and `channels` below.

People choose a channel by its name and never type a notifier's address: those can reach inside the network. What a
contact's address may look like stands here, by channel; where a gateway is, and how we sign in there, are settings.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from monitor.notify import mail, robot, sms
from monitor.notify.logfile import LogFile
from monitor.notify.mail import Mail, parse_smtp_url
from monitor.notify.message import Message
from monitor.notify.outward import Outward
from monitor.notify.webhook import Webhook, parse_webhook_url

OPERATIONS = "operations"
"""The one webhook there is: FETTLE_WEBHOOK_URL."""

# channel: (what an address must look like, the same in words)
CONTACTS: dict[str, tuple[re.Pattern[str], str]] = {
    "email": (mail.ADDRESS, "an e-mail address"),
    "sms": (sms.NUMBER, "a number in the international form, such as +8613800000000"),
    "dingtalk": (robot.ADDRESS_AT, "a room of FETTLE_DINGTALK, or room@phone to point at somebody"),
    "wecom": (robot.ADDRESS, "a room of FETTLE_WECOM"),
    "feishu": (robot.ADDRESS, "a room of FETTLE_FEISHU"),
    "webhook": (re.compile(OPERATIONS), f"{OPERATIONS!r}"),
}


def contact_address(channel: str, address: str) -> str:
    """The address of a contact as it is kept. Raises ValueError with a sentence where it is none of that channel."""
    if channel not in CONTACTS:
        raise ValueError(f"there is no channel {channel!r}; there are {', '.join(CONTACTS)}")
    pattern, wanted = CONTACTS[channel]
    address = re.sub(r"[ ()-]", "", address) if channel == "sms" else address.strip()
    if not pattern.fullmatch(address):
        raise ValueError(f"the address must be {wanted}")
    return address


class Channel(Protocol):
    """Carries one message at a time, from a thread of its own for each name it stands under."""

    @property
    def name(self) -> str:
        """What `channel` of a sent notice says: how it really went out."""

    def send(self, message: Message, now: int) -> None:
        """Carry the message, or raise Undelivered (monitor/notify/message.py says which). `now` is epoch ms UTC."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where notices go out (FETTLE_SMTP_URL, FETTLE_WEBHOOK_URL, …); '' where there is no such way."""

    home: Path
    smtp_url: str = ""
    sender: str = ""
    """Whom e-mail comes from where the URL does not say so."""
    webhook_url: str = ""
    webhook_secret: str = ""
    webhook_inside: bool = False
    """Whether the webhook may lie inside: on this machine or in a private network."""
    sms_url: str = ""
    sms_token: str = ""
    sms_inside: bool = False
    """The same for the SMS gateway."""
    dingtalk: str = ""
    wecom: str = ""
    feishu: str = ""
    """The robots' rooms with their tokens (monitor/notify/robot.py)."""


def channels(settings: Settings) -> Mapping[str, Channel]:
    """The channels by the name that notices are queued for. Without an SMTP server the log takes e-mail notices.

    Raises ValueError with a sentence for the operator where a setting is wrong.
    """
    log = LogFile(settings.home / "notices.log")
    found: dict[str, Channel] = {"log": log, "email": log}
    if settings.smtp_url:
        found["email"] = Mail(parse_smtp_url(settings.smtp_url, settings.sender))
    if settings.webhook_url:
        target = parse_webhook_url(settings.webhook_url, inside=settings.webhook_inside)
        found["webhook"] = Webhook(target, settings.webhook_secret)
    if settings.sms_url:
        gateway = sms.parse_sms_url(settings.sms_url, settings.sms_token, inside=settings.sms_inside)
        found["sms"] = sms.Sms(gateway)
    for make, text in zip(robot.MAKES, (settings.dingtalk, settings.wecom, settings.feishu), strict=True):
        if text:
            found[make.name] = robot.Robot(make, robot.parse_rooms(make, text), Outward())
    # What Apprise has to say of a failure holds addresses, and comes with the failure itself.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    return found


def introduce(ways: Mapping[str, Channel]) -> dict[str, tuple[str, Sequence[str]]]:
    """What other processes may know of the ways: by name what carries it, and the rooms that people can choose."""
    return {
        name: (way.name, sorted(way.rooms) if isinstance(way, robot.Robot) else ())
        for name, way in ways.items() if name != "log"
    }  # fmt: skip
