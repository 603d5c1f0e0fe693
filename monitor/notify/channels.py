"""Notice channels: what carries a notice to its reader. One file a channel, one line in `channels` below.

People choose a channel by its name and never type a notifier's address: those can reach inside the network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from monitor.notify.logfile import LogFile
from monitor.notify.mail import Mail, parse_smtp_url
from monitor.notify.message import Message
from monitor.notify.webhook import Webhook, parse_webhook_url


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
    return found
