"""What a channel is given to carry, and how it says that it could not."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """A notice on its way. `cause` is the same at every try: receivers can tell a repetition by it."""

    notice_id: int
    cause: str
    kind: str
    ticket_id: int | None
    recipient: str
    lang: str
    subject: str
    body: str
    queued_at: int


class Undelivered(Exception):
    """A notice that did not go out. The text is for operators; it holds no secret.

    Undelivered
     ├ Refused        never will: this recipient or message is not taken (an SMTP 5xx, an HTTP 4xx)
     └ NotNow         may later: a time-out, a 4xx of SMTP, an HTTP 5xx. It may have arrived all the same
        └ Unreachable the channel as a whole is down: its other notices need not be tried this round
    """


class Refused(Undelivered):
    """Trying again is of no use."""


class NotNow(Undelivered):
    """Trying again later may help."""


class Unreachable(NotNow):
    """The channel itself is down, whatever the message."""
