"""A backtest: stored telemetry through other rules, and which tickets would have opened, moved or vanished.

The rules are rehearsed (monitor.engine.rehearsal) over what machines said from `learn_from` to `to_at`; what learns has
learnt until `from_at`, and from there on tickets count. Beside them stand the tickets that really were, or those of a
rehearsal of the present rules over the same telemetry. What people did to tickets happens to rehearsed ones too: where
a ticket was ended, the rehearsed ticket of the same fault ends.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.tickets import Status
from monitor.devices import Device, FaultKind, Profile
from monitor.engine.rehearsal import (
    TICK_MS,
    Company,
    Heard,
    Hire,
    Place,
    Rehearsal,
    Repaired,
    TicketTold,
    load_tickets,
    slices,
)
from monitor.readings import Batch
from monitor.store import registry, schema
from monitor.store.database import Database
from monitor.store.telemetry import Telemetry

NOT_COMPARED = (FaultKind.SILENT, FaultKind.WRONG_CLOCK, FaultKind.REPORTED)
"""What hangs on more than stored telemetry: on what was said of connections, on rejected messages, on people."""
SAME_MS = 60_000
"""Opened within so little of each other, two tickets are the same: ticks fall at other moments."""
NEAR_MS = 7 * 86_400_000
"""Further apart than this, two tickets of one fault are two occasions."""
ENDED = (Status.RESOLVED, Status.CLOSED, Status.CANCELLED)


class Against(StrEnum):
    """What changed rules are compared with."""

    HAPPENED = "happened"
    """The tickets that really were."""
    CURRENT = "current"
    """A rehearsal of the present rules over the same telemetry."""


class Stopped(Exception):
    """It was told to stop. `at`: how far it had come, in the time of the telemetry."""

    def __init__(self, at: int) -> None:
        super().__init__(f"stopped at {at}")
        self.at = at


@dataclass(frozen=True)
class Question:
    """What is asked: [from_at, to_at), with whatever learns having learnt since `learn_from`."""

    learn_from: int
    from_at: int
    to_at: int
    profile: Profile | None = None
    """The changed rules, in place of the profile of the same name; None: the present ones."""
    against: Against = Against.HAPPENED


class Moved(NamedTuple):
    """One ticket under both rules, at another time or of another severity."""

    before: TicketTold
    after: TicketTold


@dataclass(frozen=True)
class Differences:
    """What the changed rules would have done otherwise."""

    opened: list[TicketTold]
    moved: list[Moved]
    vanished: list[TicketTold]
    unchanged: int


@dataclass(frozen=True)
class Answer:
    """The differences, and how much was looked at."""

    differences: Differences
    machines: int
    messages: int


def backtest(
    question: Question, database: Database, telemetry: Telemetry, profiles: Mapping[str, Profile],
    stopping: Callable[[], bool] = lambda: False,
) -> Answer:  # fmt: skip
    """Run it, on this thread. `stopping` is asked all the time; raises Stopped where it says so."""
    with database.connect() as connection:
        company = _company(connection, profiles)
        ends = _ends(connection, question.learn_from, question.to_at)
        real = load_tickets(connection, question.learn_from, question.to_at)
    # Machines that are not watched any more are rehearsed under no rules.
    watched = {device.device_id for device in company.devices}
    real = [ticket for ticket in real if ticket.device_id in watched]
    changed = company
    if question.profile is not None:
        changed = replace(company, profiles={**profiles, question.profile.name: question.profile})
    companies = [changed, company] if question.against is Against.CURRENT else [changed]
    heard = _in_time(_messages(telemetry, question, stopping), ends)
    tickets, messages = _rehearse(companies, heard, question, stopping)
    before = tickets[1] if question.against is Against.CURRENT else real
    return Answer(differences(before, tickets[0], question.from_at, question.to_at), len(company.devices), messages)


def _rehearse(
    companies: Sequence[Company], heard: Iterable[Heard], question: Question, stopping: Callable[[], bool]
) -> tuple[list[list[TicketTold]], int]:
    """The same telemetry, read once, for each of these."""
    rehearsals = [Rehearsal(company, question.learn_from) for company in companies]
    messages = 0
    try:
        for one in heard:
            for rehearsal in rehearsals:
                rehearsal.hear(one)
            if stopping():
                raise Stopped(rehearsals[0].now)
            messages += len(one) if isinstance(one, Batch) else 0
            # It may run beside a service that has messages to take in: whoever waits for the interpreter goes first.
            time.sleep(0)
        for rehearsal in rehearsals:
            rehearsal.until(question.to_at)
        return [rehearsal.tickets() for rehearsal in rehearsals], messages
    finally:
        for rehearsal in rehearsals:
            rehearsal.close()


def differences(before: Sequence[TicketTold], after: Sequence[TicketTold], from_at: int, to_at: int) -> Differences:
    """Compare tickets of two rules. Pairs are of one machine, kind and subject, the nearest in time first; only what
    has a side in [from_at, to_at) is told."""
    pairs, opened, vanished = _paired(_comparable(before), _comparable(after))

    def told(ticket: TicketTold) -> bool:
        return from_at <= ticket.opened_at < to_at

    pairs = [pair for pair in pairs if told(pair.before) or told(pair.after)]
    moved = [pair for pair in pairs if _differ(pair)]
    return Differences(
        [ticket for ticket in opened if told(ticket)],
        sorted(moved, key=lambda pair: pair.before.opened_at),
        [ticket for ticket in vanished if told(ticket)],
        len(pairs) - len(moved),
    )


def _comparable(tickets: Iterable[TicketTold]) -> list[TicketTold]:
    return [ticket for ticket in tickets if ticket.kind not in NOT_COMPARED]


def _differ(pair: Moved) -> bool:
    apart_ms = abs(pair.before.opened_at - pair.after.opened_at)
    return apart_ms > SAME_MS or pair.before.severity != pair.after.severity


def _paired(
    before: Sequence[TicketTold], after: Sequence[TicketTold]
) -> tuple[list[Moved], list[TicketTold], list[TicketTold]]:
    """Pairs, and what of each side found no partner: only after, only before."""
    candidates: dict[tuple[str | None, str, str], list[TicketTold]] = defaultdict(list)
    for ticket in after:
        candidates[ticket.device_id, ticket.kind, ticket.subject].append(ticket)
    near = [
        (abs(old.opened_at - new.opened_at), n, old, new)
        for n, old in enumerate(before)
        for new in candidates[old.device_id, old.kind, old.subject]
        if abs(old.opened_at - new.opened_at) <= NEAR_MS
    ]
    pairs: list[Moved] = []
    taken_before: set[int] = set()
    taken_after: set[int] = set()
    for _, _, old, new in sorted(near, key=lambda pair: pair[:2]):
        if old.ticket_id not in taken_before and new.ticket_id not in taken_after:
            taken_before.add(old.ticket_id)
            taken_after.add(new.ticket_id)
            pairs.append(Moved(old, new))
    opened = [ticket for ticket in after if ticket.ticket_id not in taken_after]
    return pairs, opened, [ticket for ticket in before if ticket.ticket_id not in taken_before]


# --- what there is to look at ---


def _messages(telemetry: Telemetry, question: Question, stopping: Callable[[], bool]) -> Iterator[Batch]:
    """What was heard in time. What was found late steps no detector; what came after the end had not been heard."""
    read_until = question.learn_from
    for batch in telemetry.history(question.learn_from, question.to_at):
        if stopping():
            raise Stopped(read_until)
        read_until = int(batch.at.max(initial=read_until))
        yield kept(batch, ~batch.late & (batch.received_at < question.to_at))


def kept(batch: Batch, which: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Batch:
    """These messages of a batch, with their samples in the order of the messages."""
    place = np.cumsum(which) - 1
    samples = np.flatnonzero(which[batch.row])
    samples = samples[np.argsort(batch.row[samples], kind="stable")]
    columns = {
        name: getattr(batch, name)[which]
        for name in ("device", "generation", "boot", "seq", "at", "received_at", "what", "state", "late")
    }
    detail = [batch.detail[row] for row in np.flatnonzero(which).tolist()]
    return replace(
        batch, **columns, detail=detail, row=place[batch.row[samples]], metric=batch.metric[samples],
        value=batch.value[samples],
    )  # fmt: skip


def _in_time(batches: Iterable[Batch], ends: Sequence[Repaired]) -> Iterator[Heard]:
    """What machines said, tick by tick, with what people did in between."""
    waiting = list(reversed(ends))
    for batch in batches:
        for moment, part in slices(batch, TICK_MS):
            while waiting and waiting[-1].at <= moment:
                yield waiting.pop()
            yield part
    while waiting:
        yield waiting.pop()


def _company(connection: Connection, profiles: Mapping[str, Profile]) -> Company:
    s, r = schema.site.c, schema.rental.c
    sites = [Place(*row) for row in connection.execute(sa.select(s.id, s.name, s.remote, s.timezone))]
    hires = [Hire(*row) for row in connection.execute(sa.select(r.device_id, r.starts_at, r.ends_at))]
    devices = registry.devices(connection)
    known = {device.device_id for device in devices}
    # Each begins with its first box: later ones come with what they say.
    first = [Device(device.device_id, device.profile, 0, device.site_id) for device in devices]
    return Company(profiles, first, sites, [hire for hire in hires if hire.device_id in known])


def _ends(connection: Connection, from_at: int, to_at: int) -> list[Repaired]:
    """When the tickets of this time were ended, in the order of time, and whether by a repair."""
    t, s = schema.ticket.c, schema.step.c
    rows = connection.execute(
        sa.select(t.device_id, s.recorded_at, t.kind, t.subject, s.from_status)
        .join_from(schema.step, schema.ticket, s.ticket_id == t.id)
        .where(s.to_status.in_(ENDED), s.from_status.not_in(ENDED), t.device_id.is_not(None),
               s.recorded_at >= from_at, s.recorded_at < to_at)
        .order_by(s.recorded_at, s.id)
    )  # fmt: skip
    return [
        Repaired(row.device_id, row.recorded_at, row.kind, row.subject, serviced=row.from_status == Status.REPAIRING)
        for row in rows
    ]
