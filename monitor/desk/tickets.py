"""The life of a ticket: one table of transitions, and one pure step through it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from monitor.desk.commitments import Turn, Turned


class Status(StrEnum):
    """Where a ticket stands. Closed and cancelled are the ends; every other status is an open ticket."""

    OPEN = "open"
    VERIFIED = "verified"
    DISPATCHED = "dispatched"
    ACCEPTED = "accepted"
    ON_THE_WAY = "on_the_way"
    ON_SITE = "on_site"
    REPAIRING = "repairing"
    WAITING = "waiting"
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
    PAUSE = "pause"
    RESUME = "resume"
    REOPEN = "reopen"
    MERGE = "merge"
    LINK = "link"
    CORRECT = "correct"


S, V = Status, Verb
ARRANGED = (S.ACCEPTED, S.ON_THE_WAY, S.ON_SITE, S.REPAIRING)
AT_WORK = (S.OPEN, S.VERIFIED, S.DISPATCHED, *ARRANGED)

# verb: (statuses it is possible in, status it leads to; None: the step itself says where). Forward steps may be skipped
# where a person can be further than the record (a technician who is already there); none is invented. A technician may
# accept straight from the alert: that verifies and dispatches the ticket too. What somebody writes of the trouble later
# (verify) is a diagnosis still (R8), and changes nothing else; who has begun may give it back for another to go on.
TRANSITIONS: dict[Verb, tuple[tuple[Status, ...], Status | None]] = {
    V.VERIFY: ((*AT_WORK, S.WAITING), None),
    V.DISPATCH: ((S.OPEN, S.VERIFIED, S.DISPATCHED), S.DISPATCHED),
    V.ACCEPT: ((S.OPEN, S.VERIFIED, S.DISPATCHED), S.ACCEPTED),
    V.DECLINE: ((S.DISPATCHED, *ARRANGED), S.VERIFIED),
    V.DEPART: ((S.ACCEPTED,), S.ON_THE_WAY),
    V.ARRIVE: ((S.ACCEPTED, S.ON_THE_WAY), S.ON_SITE),
    V.START_REPAIR: ((S.ACCEPTED, S.ON_THE_WAY, S.ON_SITE), S.REPAIRING),
    V.RESOLVE: ((S.VERIFIED, *ARRANGED), S.RESOLVED),
    V.CLOSE: ((S.RESOLVED,), S.CLOSED),
    V.CANCEL: ((*AT_WORK, S.WAITING, S.RESOLVED), S.CANCELLED),
    V.PAUSE: (AT_WORK, S.WAITING),
    V.RESUME: ((S.WAITING,), None),
    V.REOPEN: ((S.RESOLVED, S.CLOSED, S.CANCELLED), S.OPEN),
    V.MERGE: ((*AT_WORK, S.WAITING), S.CANCELLED),
    V.LINK: (tuple(Status), None),
    V.CORRECT: ((S.VERIFIED, S.DISPATCHED, *ARRANGED, S.RESOLVED), None),
}
CORRECTABLE = (
    V.VERIFY, V.DISPATCH, V.ACCEPT, V.DECLINE, V.DEPART, V.ARRIVE, V.START_REPAIR, V.RESOLVE,
)  # fmt: skip
"""A mistaken tap of these is undone by `correct`; what was paused is resumed, what was ended is reopened."""
GOES_ON = (V.DEPART, V.ARRIVE, V.START_REPAIR, V.RESOLVE)
"""What whoever has accepted does next."""
DESK = "desk"
"""The actor of what the desk does by itself."""

MAX_BACKDATING_MS = 12 * 3600 * 1000
MAX_AHEAD_MS = 92 * 86_400_000
"""So far ahead at most a visit is agreed, or a ticket waits before somebody looks at it again: a quarter."""
REOPEN_WITHIN_MS = 72 * 3600 * 1000
"""So long after its end a ticket may be reopened, when the fault returns; later it is a new one."""

CUSTOMER_REASONS = ("no_access", "customer_asked")
WAIT_REASONS = (*CUSTOMER_REASONS, "parts", "weather", "other")
"""Why a ticket waits. Only reasons on the customer's side stop its clocks (service standard, fault clocks)."""


class Outcome(StrEnum):
    """What a ticket turned out to have been: what the quality of the rules is measured by."""

    REAL = "real"
    NUISANCE = "nuisance"
    WRONG_CAUSE = "wrong_cause"
    """There was something, but not what the ticket said."""


class NotPossible(Exception):
    """A step that the ticket does not allow now.

    `detail` says why in a sentence, `allowed` names the verbs that are possible instead.
    """

    def __init__(self, detail: str, allowed: Sequence[Verb]) -> None:
        super().__init__(detail)
        self.detail = detail
        self.allowed = list(allowed)


class Incomplete(ValueError):
    """A step that lacks something, or says what is not among the choices; the message names it."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What it was: codes from the lists that operators keep (`cause`, `action`, `borne_by`), and parts by name."""

    cause: str
    action: str
    borne_by: str
    parts: tuple[str, ...] = ()
    outcome: Outcome = Outcome.REAL


@dataclass(frozen=True, slots=True)
class Taken:
    """A step as it was recorded: what ledger and corrections are made from."""

    id: int
    verb: str
    from_status: Status
    to_status: Status
    happened_at: int
    recorded_at: int
    technician_id: int | None = None
    note: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a step through a ticket's life depends on. `last_step_at` is when the previous step happened."""

    id: int
    status: Status
    technician_id: int | None
    opened_at: int
    last_step_at: int
    cleared_at: int | None
    resumes_to: Status | None = None
    """Of a waiting ticket: where it goes on."""
    ended_at: int | None = None
    merged_into: int | None = None
    resolved_at: int | None = None
    taken: tuple[Taken, ...] = ()
    """The steps since it was opened, or last reopened, without those that were corrected."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a person did: who, when it happened (epoch ms), and what belongs to the verb.

    `technician_id`: whom a dispatch sends. `reason`: why it waits, or what was wrong with a cancelled one; `until_at`:
    until when it waits. `other_id`: the ticket that it is merged into or linked with. `visit_at`: of a dispatch or an
    acceptance, when the customer was promised that somebody comes.
    """

    verb: Verb
    actor: str
    happened_at: int
    technician_id: int | None = None
    note: str = ""
    reason: str = ""
    until_at: int | None = None
    other_id: int | None = None
    resolution: Resolution | None = None
    outcome: Outcome | None = None
    visit_at: int | None = None


@dataclass(frozen=True, slots=True)
class Advance:
    """Where a step leads: the ticket after it, and what else changes with it."""

    ticket: Ticket
    undoes: Taken | None = None
    """The step that a correction takes back."""
    stops_clocks: bool = False
    """Of a pause: whether its reason is on the customer's side."""


def allowed(ticket: Ticket, now: int | None = None) -> list[Verb]:
    """The verbs that this ticket allows now, in the order of its life."""
    return [verb for verb in Verb if _possible(ticket, verb, now)]


def _possible(ticket: Ticket, verb: Verb, now: int | None) -> bool:
    # A fault that cleared by itself leaves nothing to repair: a person closes its ticket from wherever it stands.
    if verb is V.CLOSE and ticket.cleared_at is not None:
        return ticket.status.is_open
    if verb is V.CORRECT and last_correctable(ticket) is None:
        return False
    if verb is V.REOPEN and (ticket.merged_into is not None or _too_late(ticket, now)):
        return False
    return ticket.status in TRANSITIONS[verb][0]


def _too_late(ticket: Ticket, now: int | None) -> bool:
    return now is not None and ticket.ended_at is not None and now - ticket.ended_at > REOPEN_WITHIN_MS


def last_correctable(ticket: Ticket) -> Taken | None:
    """The latest step, if it can be taken back."""
    last = ticket.taken[-1] if ticket.taken else None
    return last if last is not None and last.verb in CORRECTABLE else None


def had_gone_on(ticket: Ticket, step: Step) -> bool:
    """Whether a step shows that an acceptance had led somewhere when the desk ended it: whoever had the ticket had gone
    on before that, where their phone could not say so. Only as long as nobody else has done anything since; what
    somebody wrote of the trouble stands in nobody's way."""
    ended = _expired(ticket)
    if ended is None:
        return False
    theirs = step.technician_id is not None and step.technician_id == sent(_before(ticket, ended))
    return theirs and step.verb in GOES_ON and step.happened_at < ended.happened_at


def give_again(ticket: Ticket) -> Advance:
    """Take back that the desk ended an acceptance (`had_gone_on`), and that alone: what was written since stays."""
    ended = _expired(ticket)
    assert ended is not None  # noqa: S101 (somebody had gone on)
    rest = tuple(step for step in ticket.taken if step is not ended)
    technician_id = sent(_before(ticket, ended))
    return Advance(replace(ticket, status=ended.from_status, technician_id=technician_id, taken=rest), undoes=ended)


def moved(step: Taken) -> bool:
    """Whether a step led anywhere; a link, or a diagnosis that was written meanwhile, does not."""
    return step.verb != V.LINK and (step.verb != V.VERIFY or step.from_status is not step.to_status)


def _expired(ticket: Ticket) -> Taken | None:
    """The end of an acceptance by the desk, where that is the last thing that led anywhere."""
    last = next((step for step in reversed(ticket.taken) if moved(step)), None)
    return last if last is not None and last.verb == V.DECLINE and last.actor == DESK else None


def _before(ticket: Ticket, step: Taken) -> tuple[Taken, ...]:
    return ticket.taken[: ticket.taken.index(step)]


def advance(ticket: Ticket, step: Step, now: int) -> Advance:
    """Take one step.

    Raises NotPossible where the table does not have it, or where `happened_at` lies outside its bounds: between the
    previous step and now, at most 12 h back (service standard, fault clocks). Raises Incomplete where the step lacks
    what its verb needs: somebody to send, a reason, a resolution, another ticket.
    """
    if not _possible(ticket, step.verb, now):
        raise NotPossible(_refusal(ticket, step.verb), allowed(ticket, now))
    _check_complete(ticket, step, now)
    _check_moment(ticket, step, now)
    if step.verb is V.CORRECT:
        return _corrected(ticket)
    status = _leads_to(ticket, step.verb)
    after = replace(
        ticket, status=status, technician_id=_technician(ticket, step), last_step_at=step.happened_at,
        resumes_to=ticket.status if step.verb is V.PAUSE else ticket.resumes_to if status is S.WAITING else None,
        merged_into=step.other_id if step.verb is V.MERGE else None,
        cleared_at=None if step.verb is V.REOPEN else ticket.cleared_at,
    )  # fmt: skip
    return Advance(after, stops_clocks=step.verb is V.PAUSE and step.reason in CUSTOMER_REASONS)


def _leads_to(ticket: Ticket, verb: Verb) -> Status:
    if verb is V.RESUME:
        return ticket.resumes_to or S.OPEN
    if verb is V.VERIFY and ticket.status is S.OPEN:
        return S.VERIFIED
    return TRANSITIONS[verb][1] or ticket.status


def _corrected(ticket: Ticket) -> Advance:
    undone = last_correctable(ticket)
    assert undone is not None  # noqa: S101 (it was possible)
    rest = ticket.taken[:-1]
    technician_id = sent(rest)
    # What led nowhere leads nowhere back: what stood then may have been taken back since.
    status = undone.from_status if moved(undone) else ticket.status
    return Advance(replace(ticket, status=status, technician_id=technician_id, taken=rest), undoes=undone)


def sent(taken: Iterable[Taken]) -> int | None:
    """Who has the ticket after these steps."""
    technician_id = None
    for step in taken:
        if step.verb == V.DECLINE:
            technician_id = None
        elif step.technician_id is not None:
            technician_id = step.technician_id
    return technician_id


def _technician(ticket: Ticket, step: Step) -> int | None:
    if step.verb in (V.DECLINE, V.REOPEN):
        return None
    return step.technician_id if step.technician_id is not None else ticket.technician_id


def turns(taken: Iterable[Taken]) -> list[Turned]:
    """What these steps mean for the clocks: which of them they stop, and which they set running again."""
    found: list[Turned] = []
    for step in taken:
        found += [Turned(turn, step.happened_at, step.recorded_at) for turn in _reached(step)]
        # Who has been there has kept what was promised of their coming.
        if step.verb == V.DECLINE and step.from_status in (S.ACCEPTED, S.ON_THE_WAY):
            found.append(Turned(Turn.TECHNICIAN_ARRANGED, step.happened_at, step.recorded_at, taken_back=True))
    return found


def ended_at(taken: Iterable[Taken]) -> int | None:
    """When nothing was promised any more: the ticket was closed, cancelled or merged, or solved from afar."""
    ended = None
    for step in taken:
        if step.verb == V.LINK:
            continue
        solved = step.verb == V.RESOLVE and step.from_status not in ARRANGED
        over = not step.to_status.is_open or solved or (ended is not None and step.to_status is S.RESOLVED)
        ended = (step.happened_at if ended is None else ended) if over else None
    return ended


def _reached(step: Taken) -> list[Turn]:
    reached = []
    if step.verb == V.VERIFY and step.note.strip():
        # What somebody wrote when they verified the problem from afar is the diagnosis that R8 promises.
        reached.append(Turn.DIAGNOSIS_GIVEN)
    if step.verb == SELF_TEST:
        reached.append(Turn.DIAGNOSIS_GIVEN)
    if step.verb != V.RESUME and step.to_status in ARRANGED and step.from_status not in ARRANGED:
        reached.append(Turn.TECHNICIAN_ARRANGED)
    if step.verb != V.RESUME and step.to_status is S.REPAIRING and step.from_status is not S.REPAIRING:
        reached.append(Turn.REPAIR_BEGUN)
    if step.verb == V.RESOLVE and step.from_status in ARRANGED:
        # Who has repaired it has begun to, whether or not they said so.
        reached.append(Turn.REPAIR_BEGUN)
    return reached


SELF_TEST = "diagnose"
"""The step of a machine that answered a self-test; no person takes it."""


def _check_complete(ticket: Ticket, step: Step, now: int) -> None:
    if step.verb in (V.DISPATCH, V.ACCEPT) and _technician(ticket, step) is None:
        raise Incomplete(f"{step.verb} needs technician_id, the person who goes")
    if step.verb not in (V.DISPATCH, V.ACCEPT) and step.technician_id not in (None, ticket.technician_id):
        raise Incomplete(f"technician_id: {step.verb} sends nobody else; dispatch does")
    if step.verb is V.VERIFY and ticket.status is not S.OPEN and not step.note.strip():
        raise Incomplete("verify needs note: what is wrong, as it looks from here")
    if step.verb is V.PAUSE:
        _check_pause(step)
    _check_visit(step, now)
    if step.verb is V.CANCEL and not step.reason:
        raise Incomplete("cancel needs reason: what was wrong with the alarm")
    if step.verb is V.RESOLVE and step.resolution is None:
        raise Incomplete("resolve needs cause, action and borne_by")
    if step.verb in (V.MERGE, V.LINK) and step.other_id in (None, ticket.id):
        raise Incomplete(f"{step.verb} needs other_id, the number of another ticket")
    if step.verb not in (V.MERGE, V.LINK) and step.other_id is not None:
        raise Incomplete(f"other_id: {step.verb} concerns no other ticket; merge and link do")


def _check_pause(step: Step) -> None:
    if step.reason not in WAIT_REASONS:
        raise Incomplete(f"pause needs reason, one of: {', '.join(WAIT_REASONS)}")
    if step.until_at is None and step.reason in CUSTOMER_REASONS:
        raise Incomplete("pause needs until_at: until when the customer keeps us waiting")
    # Said later, it may be over by now; what matters is that it lay ahead when somebody said it.
    _check_ahead("until_at", step.until_at, step.happened_at)


def _check_visit(step: Step, now: int) -> None:
    if step.visit_at is not None and step.verb not in (V.DISPATCH, V.ACCEPT):
        raise Incomplete(f"visit_at: {step.verb} agrees on no visit; dispatch and accept do")
    _check_ahead("visit_at", step.visit_at, now)


def _check_ahead(name: str, moment: int | None, now: int) -> None:
    if moment is not None and not now < moment <= now + MAX_AHEAD_MS:
        raise Incomplete(f"{name}: it must lie in the future, at most {MAX_AHEAD_MS // 86_400_000} days ahead")


def _check_moment(ticket: Ticket, step: Step, now: int) -> None:
    # A correction says of no moment that something happened then.
    before = 0 if step.verb is V.CORRECT else ticket.last_step_at
    earliest = max(before, now - MAX_BACKDATING_MS)
    if not earliest <= step.happened_at <= now:
        where = "in the future" if step.happened_at > now else "before the previous step or more than 12 h back"
        raise NotPossible(f"Ticket {ticket.id}: happened_at lies {where}", allowed(ticket, now))


def _refusal(ticket: Ticket, verb: Verb) -> str:
    if verb is V.REOPEN and ticket.merged_into is not None:
        return f"Ticket {ticket.id} was merged into {ticket.merged_into}; that one is the job now"
    if verb is V.REOPEN and ticket.status in TRANSITIONS[verb][0]:
        hours = REOPEN_WITHIN_MS // 3_600_000
        return f"Ticket {ticket.id} ended more than {hours} h ago; a fault that returns is a new one"
    if verb is V.CORRECT:
        return f"Ticket {ticket.id} has no step to take back; possible are: {', '.join(CORRECTABLE)}"
    after = ", ".join(TRANSITIONS[verb][0])
    return f"Ticket {ticket.id} is {ticket.status}; {verb} is possible after: {after}"
