"""In which order a device's messages are taken, and which of them are missing. Pure.

`(device, generation, boot, seq)` names a message for ever. Below `next_seq` everything has been taken but the gaps;
a message ahead of a gap is parked until the gap closes or its wait is over. A broker may redeliver in any order, so
"drop what is not newer" would lose messages: only a contiguous mark with parking loses none.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from monitor.readings import Message

GAP_WAIT_MS = 6_000
"""Three times the broker's ack_wait: by then everything unacknowledged has been delivered again."""
MAX_PARKED = 2_000
MAX_GAPS = 500


class Verdict(Enum):
    """What to do with a message, by its place in its device's course."""

    TAKE = auto()
    PARK = auto()
    FILL = auto()
    """It closes (part of) a gap that was already given up: found late."""
    SEEN = auto()
    """Its name was taken before: a redelivery, or another message under a used name."""


@dataclass(slots=True)
class Course:
    """What has been taken in of one boot of one device."""

    next_seq: int = 0
    received: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)
    """Half-open ranges below next_seq that were given up."""

    @property
    def missing(self) -> int:
        return self.next_seq - self.received

    def verdict(self, seq: int) -> Verdict:
        if seq == self.next_seq:
            return Verdict.TAKE
        if seq > self.next_seq:
            return Verdict.PARK
        return Verdict.FILL if any(start <= seq < end for start, end in self.gaps) else Verdict.SEEN

    def take(self, seq: int) -> None:
        """Take the message at or beyond the mark; what lies between is given up as a gap."""
        if seq > self.next_seq:
            # The oldest gap is forgotten as a place to fill; its messages stay counted as missing.
            self.gaps = [*self.gaps, (self.next_seq, seq)][-MAX_GAPS:]
        self.next_seq = seq + 1
        self.received += 1

    def fill(self, seq: int) -> None:
        """Take a message out of a gap that had been given up."""
        self.gaps = [part for gap in self.gaps for part in _without(gap, seq)]
        self.received += 1


def _without(gap: tuple[int, int], seq: int) -> Iterator[tuple[int, int]]:
    start, end = gap
    if not start <= seq < end:
        yield gap
        return
    if start < seq:
        yield start, seq
    if seq + 1 < end:
        yield seq + 1, end


@dataclass(slots=True)
class Stream:
    """The newest boot of one device, with what is parked ahead of a gap."""

    generation: int
    boot: int = -1
    course: Course = field(default_factory=Course)
    parked: dict[int, Message] = field(default_factory=dict)
    boot_before: int = -1
    """The last boot of the box that was replaced by this generation's."""
    waiting_since: int = 0
    """When (server clock) the present gap was first seen; meaningful while something is parked."""

    def begin(self, boot: int) -> list[Message]:
        """A new boot: what was parked of the old one is taken now, in order, without waiting for its gaps."""
        left = [self.parked.pop(seq) for seq in sorted(self.parked)]
        for message in left:
            self.course.take(message.body.seq)
        self.boot, self.course = boot, Course()
        return left

    def follow(self) -> list[Message]:
        """What was parked right behind the mark, taken now."""
        out = []
        while (message := self.parked.pop(self.course.next_seq, None)) is not None:
            self.course.take(message.body.seq)
            out.append(message)
        return out

    def park(self, message: Message, now: int) -> list[Message]:
        """Keep a message that came ahead of a gap; a full park gives the gap up at once."""
        if not self.parked:
            self.waiting_since = now
        self.parked[message.body.seq] = message
        return self._pass_gap(now) if len(self.parked) > MAX_PARKED else []

    def expire(self, now: int, attended_since: int = 0) -> list[Message]:
        """Give the gap up when its wait is over; what was parked behind it goes on.

        `attended_since`: since when we listen without a gap of our own. While we did not, nothing could come again.
        """
        if self.parked and now - max(self.waiting_since, attended_since) >= GAP_WAIT_MS:
            return self._pass_gap(now)
        return []

    def _pass_gap(self, now: int) -> list[Message]:
        # A second hole behind the first has its own wait, from now on.
        self.waiting_since = now
        first = self.parked.pop(min(self.parked))
        self.course.take(first.body.seq)
        return [first, *self.follow()]
