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
    html: str = ""
    link: str = ""

    @property
    def brief(self) -> str:
        """What fits where there is little room: the subject, and where to read on."""
        return "\n".join(filter(None, (self.subject, self.link)))


class Undelivered(Exception):
    """A notice that did not go out. The text is for operators; it holds no secret.

    Undelivered
     ├ Refused        never will: this message is not taken (an SMTP 5xx about the text, an HTTP 4xx)
     │  └ Bounced     nor will any other to this recipient: there is no such address
     └ NotNow         may later: a time-out, a 4xx of SMTP, an HTTP 5xx. It may have arrived all the same
        └ Unreachable the channel as a whole is down: its other notices need not be tried this round
    """


class Refused(Undelivered):
    """Trying again is of no use."""


class Bounced(Refused):
    """There is no such recipient: the contact is of no use until somebody mends it."""


class NotNow(Undelivered):
    """Trying again later may help."""


class Unreachable(NotNow):
    """The channel itself is down, whatever the message."""
