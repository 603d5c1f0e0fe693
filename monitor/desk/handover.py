"""Shift hand-over: what happened in a shift, what is open and what is promised, as a value for words. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from monitor.desk.tickets import Status
from monitor.devices import Severity

_GRAVEST_FIRST = list(Severity)
MOST_LINES = 200


# --- what it is made from ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """A ticket as it stands now: every open one, and each that changed in the shift. `device_id` '': of a whole site.

    `waits_for`: why it waits ('' where it does not), `waits_until`: until when, where that was said.
    """

    ticket_id: int
    device_id: str
    site: str
    kind: str
    severity: Severity
    status: Status
    opened_at: int
    technician_id: int | None = None
    waits_for: str = ""
    waits_until: int | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """A step of a ticket. One that was recorded late belongs to the shift that recorded it: no earlier one told it."""

    ticket_id: int
    verb: str
    actor: str
    happened_at: int
    recorded_at: int


@dataclass(frozen=True, slots=True)
class Clock:
    """A promise of a ticket that has not been voided. `risk`: why it is feared to be missed, '' where it is not."""

    ticket_id: int
    standard_id: str
    kind: str
    due_at: int
    met_at: int | None = None
    paused: bool = False
    risk: str = ""


# --- what it says --------------------------------------------------------------------------------------------------


class Outlook(StrEnum):
    """How a promise stands, the most pressing first."""

    MISSED = "missed"
    """Its time is over, and what was promised is still to be done."""
    AT_RISK = "at_risk"
    RUNNING = "running"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Promised:
    """A promise that the next shift has to keep."""

    clock: Clock
    outlook: Outlook
    case: Case


@dataclass(frozen=True, slots=True)
class Happened:
    """A ticket that something happened to: it opened in this shift, or steps were recorded, oldest first, or promises
    were missed (each once, in the shift of its due time)."""

    case: Case
    opened: bool
    steps: tuple[Done, ...]
    missed: tuple[Clock, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """The shift in figures. `met` and `missed` count promises, the others tickets; `unassigned`: open, nobody goes."""

    opened: int = 0
    resolved: int = 0
    closed: int = 0
    cancelled: int = 0
    open: int = 0
    unassigned: int = 0
    waiting: int = 0
    met: int = 0
    missed: int = 0
    at_risk: int = 0


@dataclass(frozen=True, slots=True)
class Handover:
    """The shift [start_at, end_at), for those who take over. Lists are most pressing first; `left_out`: lines beyond
    what is shown, which the tally still counts."""

    start_at: int
    end_at: int
    tally: Tally
    promised: tuple[Promised, ...]
    open: tuple[Case, ...]
    happened: tuple[Happened, ...]
    left_out: int = 0

    def shortened(self, lines: int) -> "Handover":
        """With so many lines at most in each list: what fits a message."""
        lists = (self.promised, self.open, self.happened)
        left_out = self.left_out + sum(max(0, len(one) - lines) for one in lists)
        return replace(
            self, promised=self.promised[:lines], open=self.open[:lines], happened=self.happened[:lines],
            left_out=left_out,
        )  # fmt: skip


def handover(
    cases: Iterable[Case], steps: Iterable[Done], clocks: Iterable[Clock], start_at: int, end_at: int
) -> Handover:
    """What to say when the shift [start_at, end_at) ends. A page of at most MOST_LINES a list; `shortened` for less.

    Steps and clocks of tickets that are not among the cases are left aside.
    """
    known = {case.ticket_id: case for case in cases}
    recent = [one for one in steps if one.ticket_id in known and start_at <= one.recorded_at < end_at]
    theirs = [one for one in clocks if one.ticket_id in known]
    still = sorted((case for case in known.values() if case.status.is_open), key=_pressing)
    promised = _promised(known, theirs, end_at)
    happened = _happened(known.values(), recent, theirs, start_at, end_at)
    tally = _tally(still, happened, promised, theirs, start_at, end_at)
    return Handover(start_at, end_at, tally, promised, tuple(still), happened).shortened(MOST_LINES)


def _pressing(case: Case) -> tuple[int, int, int]:
    return _GRAVEST_FIRST.index(case.severity), case.opened_at, case.ticket_id


def _promised(cases: Mapping[int, Case], clocks: Iterable[Clock], now: int) -> tuple[Promised, ...]:
    """The promises of open tickets that are still to be kept: what is missed or at risk first, then by due time."""
    running = [one for one in clocks if one.met_at is None and cases[one.ticket_id].status.is_open]
    found = [Promised(one, _outlook(one, now), cases[one.ticket_id]) for one in running]
    order = list(Outlook)
    return tuple(sorted(found, key=lambda one: (order.index(one.outlook), one.clock.due_at, one.clock.ticket_id)))


def _outlook(clock: Clock, now: int) -> Outlook:
    if clock.paused:
        return Outlook.PAUSED
    if clock.due_at <= now:
        return Outlook.MISSED
    return Outlook.AT_RISK if clock.risk else Outlook.RUNNING


def _missed(clock: Clock, start_at: int, end_at: int) -> bool:
    """Whether this promise was broken in the shift, be it kept later or not."""
    late = clock.met_at is None or clock.met_at > clock.due_at
    return late and not clock.paused and start_at <= clock.due_at < end_at


def _happened(
    cases: Iterable[Case], steps: Sequence[Done], clocks: Sequence[Clock], start_at: int, end_at: int
) -> tuple[Happened, ...]:
    by_ticket: dict[int, list[Done]] = {}
    for step in sorted(steps, key=lambda one: (one.happened_at, one.recorded_at)):
        by_ticket.setdefault(step.ticket_id, []).append(step)
    broken: dict[int, list[Clock]] = {}
    for clock in (one for one in clocks if _missed(one, start_at, end_at)):
        broken.setdefault(clock.ticket_id, []).append(clock)
    found = []
    for case in sorted(cases, key=_pressing):
        opened, did = start_at <= case.opened_at < end_at, tuple(by_ticket.get(case.ticket_id, ()))
        missed = tuple(sorted(broken.get(case.ticket_id, ()), key=lambda one: one.due_at))
        if opened or did or missed:
            found.append(Happened(case, opened, did, missed))
    return tuple(found)


def _tally(
    still: Sequence[Case], happened: Sequence[Happened], promised: Sequence[Promised], clocks: Iterable[Clock],
    start_at: int, end_at: int,
) -> Tally:  # fmt: skip
    """Tickets are counted by how they stand now, so one that was resolved and came back is open, not both."""
    changed = Counter(one.case.status for one in happened if one.steps)
    return Tally(
        opened=sum(one.opened for one in happened),
        resolved=changed[Status.RESOLVED],
        closed=changed[Status.CLOSED],
        cancelled=changed[Status.CANCELLED],
        open=len(still),
        unassigned=sum(case.technician_id is None and case.status is not Status.RESOLVED for case in still),
        waiting=sum(bool(case.waits_for) for case in still),
        met=sum(one.met_at is not None and start_at <= one.met_at < end_at for one in clocks),
        missed=sum(len(one.missed) for one in happened),
        at_risk=sum(one.outlook is Outlook.AT_RISK for one in promised),
    )
