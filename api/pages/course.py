"""A ticket's course: all that happened with it in one line of time, whoever or whatever did it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

from api.labels import Labels
from api.shapes import NoticeShape, StepShape, TicketDetail

LATE_MS = 60_000
"""What was recorded so much later than it happened says so."""
AT_ONCE_MS = 60_000
"""Notices of one kind that were queued within this time are one entry."""
SILENT = ("self-test", "triage")
"""Actors whose notes are for programs."""


@dataclass(frozen=True)
class Entry:
    """Something that happened. `sort`: step, fault, clock, notice or test, which has a mark of its own."""

    at: int
    sort: str
    title: str
    notes: tuple[str, ...] = ()
    recorded_at: int | None = None
    """Where it was recorded much later than it happened."""
    other_id: int | None = None
    struck: bool = False
    bad: bool = False
    """A broken promise, or a notice that did not arrive."""


def course(ticket: TicketDetail, labels: Labels, chosen: Callable[[str], str]) -> list[Entry]:
    """In the order of happening; at one moment causes before what followed from them."""
    rank = ("fault", "test", "step", "clock", "notice")
    entries = [
        *_faults(ticket, labels),
        *(_step(one, labels, chosen) for one in ticket.steps),
        *_clocks(ticket, labels),
        *_amendments(ticket, labels),
        *_self_test(ticket, labels),
        *_notices(ticket.notices or [], labels),
    ]
    return sorted(entries, key=lambda one: (one.at, rank.index(one.sort)))


def _faults(ticket: TicketDetail, labels: Labels) -> Iterator[Entry]:
    say = labels.words.say
    several = len(ticket.faults) > 1
    for fault in ticket.faults:
        name = labels.fault(fault.kind, fault.subject, fault.evidence, ticket.profile or "") if several else ""
        late = fault.opened_at if fault.opened_at - fault.occurred_at > LATE_MS else None
        yield Entry(fault.occurred_at, "fault", labels.colon(say("The fault began"), name), recorded_at=late)
        if fault.cleared_at is not None:
            yield Entry(fault.cleared_at, "fault", labels.colon(say("The fault cleared"), name))
    yield Entry(ticket.opened_at, "step", say("Opened"))
    if not ticket.faults and ticket.cleared_at is not None:
        yield Entry(ticket.cleared_at, "fault", say("The fault cleared"))


def _step(step: StepShape, labels: Labels, chosen: Callable[[str], str]) -> Entry:
    notes = (
        labels.words.say("taken back") if step.corrected else "",
        step.actor_name or labels.actor(step.actor),
        labels.step_reason(step.event, step.reason, chosen),
        "" if step.actor in SILENT else step.note,
    )
    return Entry(
        step.happened_at,
        "step",
        labels.colon(labels.done(step.event), step.technician_name or ""),
        tuple(filter(None, notes)),
        step.recorded_at if step.recorded_at - step.happened_at > LATE_MS else None,
        step.other_id,
        step.corrected,
    )


def _clocks(ticket: TicketDetail, labels: Labels) -> Iterator[Entry]:
    say = labels.words.say
    for clock in ticket.commitments:
        what, notes = labels.clock(clock.kind), (clock.standard_id,)
        if clock.breached_at is not None:
            yield Entry(clock.breached_at, "clock", labels.colon(say("Promise missed"), what), notes, bad=True)
        if clock.met_at is not None:
            kept = say("Promise kept late") if clock.breached_at is not None else say("Promise kept")
            yield Entry(clock.met_at, "clock", labels.colon(kept, what), notes)


def _amendments(ticket: TicketDetail, labels: Labels) -> Iterator[Entry]:
    say = labels.words.say
    for one in ticket.amendments:
        in_time = one.met_at is not None
        said = say("Breach annulled: it had happened in time") if in_time else say("Breach annulled: it is due later")
        moment = labels.words.moment(one.met_at if in_time else one.due_at)
        notes = (one.standard_id, labels.clock(one.kind), moment, labels.actor(one.actor))
        yield Entry(one.recorded_at, "clock", said, tuple(filter(None, notes)))


def _self_test(ticket: TicketDetail, labels: Labels) -> Iterator[Entry]:
    test = ticket.self_test
    if test is not None:
        tries = labels.words.say("tries: %(number)s", number=test.sends) if test.sends > 1 else ""
        notes = tuple(filter(None, (tries, test.reason_text)))
        yield Entry(test.asked_at, "test", labels.words.say("The machine was asked to test itself"), notes)


def _notices(told: list[NoticeShape], labels: Labels) -> Iterator[Entry]:
    """One entry for what several were told together, with whom it reached and whom it did not."""
    in_order = sorted(told, key=lambda one: (one.kind, one.queued_at, one.id))
    for _, alike in groupby(in_order, key=lambda one: (one.kind, one.queued_at // AT_ONCE_MS)):
        group = list(alike)
        notes = []
        for status, same in groupby(sorted(group, key=lambda one: one.status), key=lambda one: one.status):
            these = list(same)
            errors = sorted({one.last_error for one in these if one.last_error})
            who = ", ".join(dict.fromkeys(one.recipient for one in these))
            notes.append(" · ".join(filter(None, (labels.colon(labels.notice_status(status), who), *errors))))
        failed = any(one.status == "failed" for one in group)
        title = labels.colon(labels.words.say("Told"), labels.notice_kind(group[0].kind))
        yield Entry(group[0].queued_at, "notice", title, tuple(notes), bad=failed)
