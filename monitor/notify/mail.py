"""The e-mail channel: plain text and HTML in one letter. Apprise speaks TLS and sign-in; the letter, the reasons of a
failure, which it keeps to itself, and a Message-ID that is the same at every try are ours.
"""

import hashlib
import re
import smtplib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr, parseaddr
from ipaddress import ip_address
from typing import NoReturn
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from apprise.plugins.email.smtp import SMTP_DEFAULT_PORTS, AppriseSMTPController, SMTPSecureMode

from monitor.notify.message import Bounced, Message, NotNow, Refused, Unreachable

TIMEOUT_S = 10
# What an address may look like: one of them, in ASCII, with no room for a second recipient or header.
ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,186}[A-Za-z0-9])?")
TLS = {"none": SMTPSecureMode.INSECURE, "starttls": SMTPSecureMode.STARTTLS, "implicit": SMTPSecureMode.SSL}


@dataclass(frozen=True, slots=True)
class Relay:
    """The SMTP server that takes our mail, and whom it comes from. `tls`: none, starttls or implicit."""

    host: str
    port: int
    tls: str
    sender: str
    sender_name: str = "fettle"
    user: str = ""
    password: str = field(default="", repr=False)


def parse_smtp_url(url: str, sender: str = "") -> Relay:
    """`smtp[s]://[USER:PASSWORD@]HOST[:PORT][?from=ADDRESS][&tls=none|starttls]`; without
    `from`, mail comes from `sender`.

    smtps is TLS from the first byte. smtp asks for STARTTLS where it signs in at another machine, and is plain
    where it does not sign in; `tls` says otherwise. Raises ValueError with a sentence that holds no password.
    """
    parts, given_port = _split(url)
    if parts.scheme not in ("smtp", "smtps"):
        _wrong(f"the scheme must be smtp or smtps, not {parts.scheme!r}")
    if not parts.hostname:
        _wrong("a host is missing (smtp://HOST:PORT)")
    if parts.path.strip("/"):
        _wrong("nothing may stand between host and '?'")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if bool(user) != bool(password):
        _wrong("a user and a password belong together")
    query = _query(parts.query)
    given = query.get("from", sender)
    name, sender = parseaddr(given)
    if not ADDRESS.fullmatch(sender) or not given.isprintable():
        _wrong("from=ADDRESS is missing or no e-mail address")
    tls = "implicit" if parts.scheme == "smtps" else _tls(query.get("tls", ""), parts.hostname, signs_in=bool(user))
    port = given_port or SMTP_DEFAULT_PORTS[TLS[tls]]
    return Relay(parts.hostname, port, tls, sender, " ".join(name.split()) or "fettle", user, password)


def _query(text: str) -> dict[str, str]:
    query = {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()}
    unknown = sorted(query.keys() - {"from", "tls"})
    if unknown:
        _wrong(f"{', '.join(unknown)} is not known; allowed are from and tls")
    return query


def _tls(wish: str, host: str, *, signs_in: bool) -> str:
    if wish not in ("", "none", "starttls"):
        _wrong(f"tls must be none or starttls, not {wish!r} (smtps:// is TLS from the first byte)")
    # A password never crosses a network in the clear unless somebody says so.
    return wish or ("starttls" if signs_in and not _is_this_machine(host) else "none")


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:
        # The error's own text may hold the password.
        raise ValueError("FETTLE_SMTP_URL: it is no URL, or its port no number up to 65535") from None


def _wrong(why: str) -> NoReturn:
    raise ValueError(f"FETTLE_SMTP_URL: {why}")


class Mail:
    """Sends e-mail through one relay, one recipient a message."""

    def __init__(self, relay: Relay, timeout_s: float = TIMEOUT_S) -> None:
        self._relay = relay
        self._timeout_s = timeout_s

    @property
    def name(self) -> str:
        return "email"

    def send(self, message: Message, now: int) -> None:  # noqa: ARG002 (the Date header is the time of sending)
        if not ADDRESS.fullmatch(message.recipient):
            raise Bounced("the recipient is not an e-mail address")
        text = self._text(message)
        try:
            with self._connection() as connection:
                connection.hand_over(self._relay.sender, message.recipient, text)
        except smtplib.SMTPAuthenticationError as error:
            # A wrong password is ours, not this notice's: once it is put right, everything goes out.
            raise Unreachable(f"sign-in refused: {error.smtp_code}") from error
        except (OSError, smtplib.SMTPException) as error:
            raise _undelivered(error) from error

    def _connection(self) -> "_Connection":
        relay = self._relay
        return _Connection(
            host=relay.host,
            port=relay.port,
            secure_mode=TLS[relay.tls],
            user=relay.user or None,
            password=relay.password or None,
            socket_connect_timeout=self._timeout_s,  # type: ignore[arg-type]  # it goes to socket.settimeout
        )

    def _text(self, message: Message) -> str:
        letter = EmailMessage(SMTP)
        letter["Subject"] = message.subject
        letter["From"] = formataddr((self._relay.sender_name, self._relay.sender))
        letter["To"] = message.recipient
        letter["Date"] = format_datetime(datetime.now(UTC))
        letter["Message-ID"] = _message_id(message, self._relay.sender)
        for name, value in _headers(message).items():
            letter[name] = value
        letter.set_content(message.body, cte="base64")
        if message.html:
            letter.add_alternative(message.html, subtype="html", cte="base64")
        return letter.as_string()


class _Connection(AppriseSMTPController):
    """Apprise's SMTP session, whose own `sendmail` tells no more than that it failed."""

    def __enter__(self) -> "_Connection":
        super().__enter__()
        return self

    def hand_over(self, sender: str, recipient: str, text: str) -> None:
        """Raises what smtplib raises."""
        session: smtplib.SMTP = self._socket  # type: ignore[assignment]
        session.sendmail(sender, [recipient], text)


def _headers(message: Message) -> dict[str, str]:
    # Auto-Submitted keeps holiday replies and mail loops away (RFC 3834).
    return {"X-Fettle-Cause": message.cause, "X-Fettle-Kind": message.kind, "Auto-Submitted": "auto-generated"}


def _message_id(message: Message, sender: str) -> str:
    digest = hashlib.sha256(message.cause.encode()).hexdigest()[:24]
    return f"<fettle.{message.notice_id}.{digest}@{sender.rpartition('@')[2]}>"


def _undelivered(error: OSError | smtplib.SMTPException) -> Refused | NotNow:
    """What an SMTP failure means for this notice: 5xx about its recipient or its text is for ever. All else (no
    greeting, our sender refused) concerns every notice alike and can be put right."""
    reply: bytes | str
    forever = Refused
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        forever = Bounced
        code, reply = next(iter(error.recipients.values()))
    elif isinstance(error, smtplib.SMTPDataError):
        code, reply = error.smtp_code, error.smtp_error
    else:
        return Unreachable(f"{type(error).__name__}: {error}")
    words = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
    return (forever if code >= 500 else NotNow)(f"{code} {words}")
