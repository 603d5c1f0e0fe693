"""The life of a ticket: one table of transitions, and one pure step through it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from monitor.desk.commitments import Turn


class Status(StrEnum):
    """Where a ticket stands. Closed and cancelled are the ends; every other status is an open ticket."""

    OPEN = "open"
    VERIFIED = "verified"
    DISPATCHED = "dispatched"
    ACCEPTED = "accepted"
    ON_THE_WAY = "on_the_way"
    ON_SITE = "on_site"
    REPAIRING = "repairing"
    RESOLVED = "resolved"
    CLOSED = "closed"
    CANCELLED = "cancelled"

    @property
    def is_open(self) -> bool:
        return self not in (Status.CLOSED, Status.CANCELLED)


class Verb(StrEnum):
    """What a person can do with a ticket; also the last part of its HTTP route."""

    VERIFY = "verify"
    DISPATCH = "dispatch"
    ACCEPT = "accept"
    DECLINE = "decline"
    DEPART = "depart"
    ARRIVE = "arrive"
    START_REPAIR = "start-repair"
    RESOLVE = "resolve"
    CLOSE = "close"
    CANCEL = "cancel"


S, V = Status, Verb
ARRANGED = (S.ACCEPTED, S.ON_THE_WAY, S.ON_SITE, S.REPAIRING)

# verb: (statuses it is possible in, status it leads to). Forward steps may be skipped where a person can be further
# than the record (a technician who is already there); none is invented. A technician may accept straight from the
# alert: that verifies and dispatches the ticket too.
TRANSITIONS: dict[Verb, tuple[tuple[Status, ...], Status]] = {
    V.VERIFY: ((S.OPEN,), S.VERIFIED),
    V.DISPATCH: ((S.OPEN, S.VERIFIED, S.DISPATCHED), S.DISPATCHED),
    V.ACCEPT: ((S.OPEN, S.VERIFIED, S.DISPATCHED), S.ACCEPTED),
    V.DECLINE: ((S.DISPATCHED, S.ACCEPTED, S.ON_THE_WAY), S.VERIFIED),
    V.DEPART: ((S.ACCEPTED,), S.ON_THE_WAY),
    V.ARRIVE: ((S.ACCEPTED, S.ON_THE_WAY), S.ON_SITE),
    V.START_REPAIR: ((S.ACCEPTED, S.ON_THE_WAY, S.ON_SITE), S.REPAIRING),
    V.RESOLVE: ((S.VERIFIED, *ARRANGED), S.RESOLVED),
    V.CLOSE: ((S.RESOLVED,), S.CLOSED),
    V.CANCEL: ((S.OPEN, S.VERIFIED, S.DISPATCHED, *ARRANGED, S.RESOLVED), S.CANCELLED),
}

MAX_BACKDATING_MS = 12 * 3600 * 1000


class NotPossible(Exception):
    """A step that the ticket does not allow now.

    `detail` says why in a sentence, `allowed` names the verbs that are possible instead.
    """

    def __init__(self, detail: str, allowed: Sequence[Verb]) -> None:
        super().__init__(detail)
        self.detail = detail
        self.allowed = list(allowed)


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a step through a ticket's life depends on. `last_step_at` is when the previous step happened."""

    id: int
    status: Status
    technician_id: int | None
    opened_at: int
    last_step_at: int
    cleared_at: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """What a person did: who, when it happened (epoch ms), and whom a dispatch sends."""

    verb: Verb
    actor: str
    happened_at: int
    technician_id: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Advance:
    """Where a step leads: the ticket after it, and the turns that stop or restart clocks."""

    ticket: Ticket
    reached: tuple[Turn, ...] = ()
    withdrawn: tuple[Turn, ...] = ()
    voids_clocks: bool = False


def allowed(ticket: Ticket) -> list[Verb]:
    """The verbs that this ticket allows now, in the order of its life."""
    return [verb for verb in Verb if _possible(ticket, verb)]


def _possible(ticket: Ticket, verb: Verb) -> bool:
    # A fault that cleared by itself leaves nothing to repair: a person closes its ticket from wherever it stands.
    if verb is V.CLOSE and ticket.cleared_at is not None:
        return ticket.status.is_open
    return ticket.status in TRANSITIONS[verb][0]


def advance(ticket: Ticket, step: Step, now: int) -> Advance:
    """Take one step.

    Raises NotPossible where the table does not have it, where nobody is named to be sent, or where `happened_at`
    lies outside its bounds: between the previous step and now, at most 12 h back (service standard, fault clocks).
    """
    if not _possible(ticket, step.verb):
        raise NotPossible(_refusal(ticket, step.verb), allowed(ticket))
    _check_moment(ticket, step, now)
    technician_id = _technician(ticket, step)
    if step.verb in (V.DISPATCH, V.ACCEPT) and technician_id is None:
        raise NotPossible(f"Ticket {ticket.id}: {step.verb} needs technician_id, the person who goes", allowed(ticket))
    status = TRANSITIONS[step.verb][1]
    return Advance(
        replace(ticket, status=status, technician_id=technician_id, last_step_at=step.happened_at),
        reached=_reached(ticket.status, status, step),
        withdrawn=(Turn.TECHNICIAN_ARRANGED,) if step.verb is V.DECLINE and ticket.status in ARRANGED else (),
        voids_clocks=not status.is_open,
    )


def _technician(ticket: Ticket, step: Step) -> int | None:
    if step.verb is V.DECLINE:
        return None
    return step.technician_id if step.technician_id is not None else ticket.technician_id


def _reached(before: Status, after: Status, step: Step) -> tuple[Turn, ...]:
    turns = []
    if step.verb is V.VERIFY and step.note.strip():
        # What somebody wrote when they verified the problem from afar is the diagnosis that R8 promises.
        turns.append(Turn.DIAGNOSIS_GIVEN)
    if after in ARRANGED and before not in ARRANGED:
        turns.append(Turn.TECHNICIAN_ARRANGED)
    if after is S.REPAIRING:
        turns.append(Turn.REPAIR_BEGUN)
    return tuple(turns)


def _check_moment(ticket: Ticket, step: Step, now: int) -> None:
    earliest = max(ticket.last_step_at, now - MAX_BACKDATING_MS)
    if not earliest <= step.happened_at <= now:
        where = "in the future" if step.happened_at > now else "before the previous step or more than 12 h back"
        raise NotPossible(f"Ticket {ticket.id}: happened_at lies {where}", allowed(ticket))


def _refusal(ticket: Ticket, verb: Verb) -> str:
    after = ", ".join(TRANSITIONS[verb][0])
    return f"Ticket {ticket.id} is {ticket.status}; {verb} is possible after: {after}"
