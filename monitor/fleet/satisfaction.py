"""How customers found what we did (P2): the target, and until when an answer may be given or changed. Pure."""

from dataclasses import dataclass

from monitor.fleet.quality import Share, share_of

DAY_MS = 86_400_000
TARGET = 0.85
"""P2: so many of those who answer are satisfied."""
ASKED_MS = 30 * DAY_MS
"""So long a customer's page goes on asking."""
CHANGE_MS = 7 * DAY_MS
"""So long after the first answer another one may take its place; where it came back and was dealt with once more, so
long after that."""
WORDS_CHARS = 1000


def may_answer(first_answered_at: int | None, dealt_with_at: int | None, now: int) -> bool:
    """Whether an answer may be given, or another one in its place. `dealt_with_at`: when the ticket was last resolved
    or closed."""
    if first_answered_at is None:
        return True
    return now < max(first_answered_at, dealt_with_at or 0) + CHANGE_MS


@dataclass(frozen=True, slots=True)
class Satisfaction:
    """What the answers of a period come to."""

    asked: int
    answered: int
    satisfied: Share
    """Of those who answered, with the 95 % interval."""
    response: float | None
    met: bool | None
    """Whether the share reaches the target; None: nobody answered."""


def summed(asked: int, answered: int, satisfied: int) -> Satisfaction:
    """From so many asked, answered and satisfied."""
    share = share_of(satisfied, answered)
    met = None if share.share is None else share.share >= TARGET
    return Satisfaction(asked, answered, share, answered / asked if asked else None, met)
