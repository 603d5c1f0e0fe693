"""Anything that can happen to tickets, in any order: what must hold of faults, tickets, clocks and notices afterwards.

The checks are written from the service standard (how the fault clocks combine) and from invariants 2, 3 and 4, over the
rows alone: one open fault of a kind on a machine and one open ticket for it; each promise with at most one stop, one
breach or one void, a breach stamped when it was due and never early; each notice queued once, and delivered or visibly
failed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from monitor.desk import diagnosis as self_tests
from monitor.desk.commitments import Commitment, next_at
from monitor.desk.rota import EVERY_DAY, Rotation, WorkingHours
from monitor.desk.tickets import (
    CUSTOMER_REASONS,
    WAIT_REASONS,
    Incomplete,
    NotPossible,
    Outcome,
    Resolution,
    Verb,
    allowed,
)
from monitor.engine import diagnosis
from monitor.engine.desk import Changed, NoSuchTicket, Report
from monitor.engine.paging import Offered
from monitor.notify.message import Message, NotNow, Unreachable
from monitor.notify.outbox import CLAIM_MS, Outbox
from monitor.readings import Reply
from monitor.store import cases, registry, schema
from monitor.store.hire import Hire
from monitor.store.people import Certified, People
from monitor.store.registry import Conflict
from tests.office import T0, Office

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
PLAIN, REMOTE, YARD = "GX-1", "GX-2", "GX-3"
MACHINES = st.sampled_from([PLAIN, PLAIN, REMOTE, REMOTE, YARD])
TIAN, BO, CHEN, UNTRAINED, OPS, MANAGER = 1, 2, 3, 4, 5, 6
TECHNICIANS = st.sampled_from([TIAN, BO])
ENDS = ("closed", "cancelled")
DONE = ("resolved", *ENDS)
IN_CHARGE = {OPS, MANAGER}
"""Who hears of a broken promise."""
FAULTS = st.sampled_from([
    ("startup_failure", "", {}), ("limit", "coolant_temp_c", {}), ("limit", "oil_pressure_bar", {}),
    ("fault_code", "P1", {"spn": 110}), ("weak_battery", "battery_voltage_v", {}), ("trend", "coolant_temp_c", {}),
    ("silent", "", {}),
])  # fmt: skip
ONWARD = (
    Verb.VERIFY, Verb.DISPATCH, Verb.ACCEPT, Verb.DEPART, Verb.ARRIVE, Verb.START_REPAIR, Verb.RESOLVE, Verb.DECLINE,
    Verb.RESUME,
)  # fmt: skip
RESOLUTION = Resolution("battery", "repaired", "wear")
BACK = st.sampled_from([0, 0, 0, 2, 20, 70])
NUMBERS = st.integers(0, 11)


# --- a company's post ----------------------------------------------------------------------------------------------


class Died(BaseException):
    """The process ends here."""


class Post:
    """Carries e-mail, counts what it took, and has its days: down, or slow to say that it took a letter."""

    name = "email"

    def __init__(self) -> None:
        self.mood = "well"
        self.taken: Counter[str] = Counter()
        self.confirmed: Counter[str] = Counter()

    def send(self, message: Message, _now: int) -> None:
        if self.mood == "down":
            raise Unreachable("the server does not answer")
        self.taken[message.cause] += 1
        if self.mood == "slow":
            raise NotNow("timed out")
        if self.mood == "deadly":
            raise Died
        self.confirmed[message.cause] += 1


# --- what is known -------------------------------------------------------------------------------------------------

Key = tuple[int, str, int]
"""A clock: ticket, kind, turn."""


@dataclass
class Memory:
    """What was seen before, that must be true still."""

    ended: dict[int, tuple[int, int, list[Commitment]]] = field(default_factory=dict)
    """Of each ticket that has ended: turn, when, and its clocks then."""
    begun: dict[Key, int] = field(default_factory=dict)
    broken: dict[Key, set[int]] = field(default_factory=lambda: defaultdict(set))
    """The due times for which a clock was called broken."""
    seen: dict[Key, Commitment] = field(default_factory=dict)
    """The clocks as they were a step ago: as another process may still have them."""


class Book:
    """All rows, as they are after a step and a tick."""

    def __init__(self, office: Office) -> None:
        self.now = office.now
        self.tickets = {row.id: row for row in office.rows(schema.ticket)}
        promises = office.rows(schema.commitment)
        self.clocks = {_key(row): _clock(row) for row in promises}
        self.next_at = {_key(row): row.next_at for row in promises}
        self.steps = office.rows(schema.step)
        self.pauses = office.rows(schema.pause)
        self.notices = office.rows(schema.notice)
        self.amendments = office.rows(schema.amendment)
        self.faults = office.rows(schema.fault)
        self.rentals = office.rows(schema.rental)
        self.moves = office.rows(schema.move)
        self.windows = office.rows(schema.maintenance_window)
        with office.database.connect() as connection:
            self.searches = {row.ticket_id: row for row in connection.execute(sa.select(schema.paging))}
            remote = sa.select(schema.device.c.device_id).join(schema.site).where(schema.site.c.remote)
            self.remote = set(connection.scalars(remote))

    def clocks_of(self, ticket_id: int, turn: int | None = None) -> list[Commitment]:
        return [one for key, one in self.clocks.items() if key[0] == ticket_id and turn in (None, key[2])]

    def turn_of(self, ticket_id: int, turn: int) -> list[Any]:
        """What stands of the steps of a turn: neither corrected ones nor the corrections."""
        mine = [one for one in self.steps if (one.ticket_id, one.turn) == (ticket_id, turn)]
        return [one for one in mine if one.corrected_by is None and one.event != "correct"]

    def begins(self, ticket_id: int) -> list[int]:
        """When each turn of a ticket began."""
        again = [one.recorded_at for one in self.steps if one.ticket_id == ticket_id and one.event == "reopen"]
        return [self.tickets[ticket_id].opened_at, *again]

    def declared(self, device_id: str) -> bool:
        """Whether a machine is in declared maintenance now."""
        return any(one.device_id == device_id and one.starts_at <= self.now < one.ends_at for one in self.windows)

    def hired(self, device_id: str | None, at: int) -> Any:
        """The rental of a machine at a moment."""
        return next((one for one in self.rentals if one.device_id == device_id and _covers(one, at)), None)


def _covers(rental: Any, at: int) -> bool:
    return bool(rental.starts_at <= at and (rental.ends_at is None or at < rental.ends_at))


def _key(row: Any) -> Key:
    return row.ticket_id, row.kind, row.turn


def _clock(row: Any) -> Commitment:
    named = {name: getattr(row, name) for name in Commitment.__slots__}
    return Commitment(**named | {"warns": tuple(row.warns)})


# --- the standard, in its own words --------------------------------------------------------------------------------

LENGTHS = {
    (False, "dispatch"): ("R7", HOUR), (True, "dispatch"): ("R8", 4 * HOUR), (True, "remote_diagnosis"): ("R8", HOUR),
    (False, "repair_start"): ("R9", 4 * HOUR), (True, "repair_start"): ("R9", 4 * HOUR),
}  # fmt: skip
COMING = ("accepted", "on_the_way")
THERE = ("on_site", "repairing")


def promised_kinds(severity: str, *, remote: bool) -> set[str]:
    if severity not in ("emergency", "urgent"):
        return set()
    arranged = {"dispatch", "remote_diagnosis"} if remote else {"dispatch"}
    return arranged | ({"repair_start"} if severity == "emergency" else set())


def kept_at(kind: str, steps: list[Any]) -> int | None:
    """When what a clock waits for happened, if it stands."""
    if kind == "remote_diagnosis":
        given = (one for one in steps if one.event == "diagnose" or (one.event == "verify" and one.note.strip()))
        return min((one.happened_at for one in given), default=None)
    # What leads nowhere (somebody was asked, something was written) is no step of the work.
    walked = [one for one in steps if one.from_status != one.to_status]
    if kind == "repair_start":
        return next((one.happened_at for one in walked if _repairs(one)), None)
    return _arranged_at(walked)


def _repairs(step: Any) -> bool:
    done = step.event == "resolve" and step.from_status in COMING + THERE
    return bool(done or (step.event != "resume" and step.to_status == "repairing"))


def _arranged_at(steps: list[Any]) -> int | None:
    """A technician has accepted, and has not withdrawn before they were there."""
    arranged_at = None
    for one in steps:
        if one.event == "decline" and one.from_status in COMING:
            arranged_at = None
        elif one.event != "resume" and one.to_status in COMING + THERE and arranged_at is None:
            arranged_at = one.happened_at
    return arranged_at


def over_at(steps: list[Any]) -> int | None:
    """Since when nothing is promised: closed, cancelled, merged, or solved without anybody having to come."""
    over = None
    for one in steps:
        if one.event == "link":
            continue
        afar = one.event == "resolve" and one.from_status not in COMING + THERE
        ends = one.to_status in ("closed", "cancelled") or afar or (over is not None and one.to_status == "resolved")
        over = (one.happened_at if over is None else over) if ends else None
    return over


def due_at(clock: Commitment, length_ms: int, pauses: list[Any]) -> tuple[int, bool]:
    """When a clock is due that stood still for the customer, and whether it stands still now."""
    due, counted_to = clock.started_at + length_ms, clock.started_at
    for one in sorted(pauses, key=lambda one: (one.from_at, one.id)):
        # One that was recorded late may begin before the one before it ended.
        from_at = max(one.from_at, counted_to)
        if one.reason not in CUSTOMER_REASONS or from_at >= due:
            continue
        if one.to_at is None:
            return due, True
        due += max(0, one.to_at - from_at)
        counted_to = max(one.to_at, counted_to)
    return due, False


# --- what must hold of clocks --------------------------------------------------------------------------------------


def check_each_clock_says_what_its_ledger_says(book: Book) -> None:
    for (ticket_id, kind, turn), clock in book.clocks.items():
        ticket = book.tickets[ticket_id]
        standard_id, length_ms = LENGTHS[ticket.device_id in book.remote, kind]
        assert clock.standard_id == standard_id
        pauses = [one for one in book.pauses if (one.ticket_id, one.turn) == (ticket_id, turn)]
        due, stands = due_at(clock, length_ms, pauses)
        steps = book.turn_of(ticket_id, turn)
        kept, over = kept_at(kind, steps), over_at(steps)
        met = max(kept, clock.started_at) if kept is not None and (over is None or kept <= over) else None
        void = over if met is None and over is not None and (over < due or stands) else None
        late = met is None or met > due
        broken = due if late and void is None and not (stands and met is None) and due <= book.now else None
        found = (clock.due_at, clock.met_at, clock.voided_at, clock.breached_at)
        assert found == (due, met, void, broken), f"{clock}: not {(due, met, void, broken)}"
        assert (clock.paused_since is not None) == (stands and met is None and void is None)


def check_breaches_come_when_due_and_go_only_by_an_amendment(book: Book, memory: Memory) -> None:
    for key, clock in book.clocks.items():
        assert clock.met_at is None or clock.voided_at is None, "one stop"
        assert clock.breached_at in (None, clock.due_at)
        assert clock.breached_at is None or clock.breached_at <= book.now, "never early"
        if clock.breached_at is not None:
            memory.broken[key].add(clock.breached_at)
    for (ticket_id, kind, turn), moments in memory.broken.items():
        gone = moments - {book.clocks[ticket_id, kind, turn].breached_at}
        kept = {one.breached_at for one in book.amendments if (one.ticket_id, one.kind) == (ticket_id, kind)}
        assert gone <= kept, "a breach is taken back, and nobody can see that it was said"


def check_warnings_are_noted(book: Book) -> None:
    for clock in book.clocks.values():
        warn_at = clock.due_at - 15 * MINUTE
        assert clock.warned_at in (None, warn_at)
        if clock.running and clock.paused_since is None and warn_at <= book.now:
            assert clock.warned_at == warn_at


def check_who_comes_late_notes_nothing(office: Office, book: Book, memory: Memory) -> None:
    """A process that has read a clock before it stopped or moved, or before another noted what it ran into."""
    for key, before in memory.seen.items():
        clock = book.clocks[key]
        is_as_it_was = (before.due_at, before.warned_at, before.breached_at) == (
            clock.due_at, clock.warned_at, clock.breached_at)  # fmt: skip
        if is_as_it_was and clock.running and clock.paused_since is None:
            continue
        with office.database.begin() as connection:
            noted = replace(before, warned_at=before.due_at - 15 * MINUTE, breached_at=before.due_at)
            assert not cases.note_crossing(connection, before, noted), "noted twice, or of a clock that has moved"
    memory.seen = book.clocks


def check_the_tick_looks_when_something_comes(book: Book) -> None:
    for key, clock in book.clocks.items():
        assert book.next_at[key] == next_at(clock), "the tick looks at another moment"
    for ticket in book.tickets.values():
        running = [one.due_at for one in book.clocks_of(ticket.id, ticket.turn) if one.running]
        ended = ticket.status in ("closed", "cancelled")
        assert ticket.due_at == (None if ended else min(running, default=None)), f"ticket {ticket.id}: first due"


def check_what_ended_stands_still(book: Book, memory: Memory) -> None:
    for ticket in book.tickets.values():
        if ticket.status not in ("closed", "cancelled"):
            memory.ended.pop(ticket.id, None)
            continue
        clocks = book.clocks_of(ticket.id)
        assert ticket.closed_at is not None
        for clock in clocks:
            done = clock.met_at is not None or clock.voided_at is not None
            assert done or (clock.breached_at is not None and clock.breached_at <= ticket.closed_at), "it runs on"
        before = memory.ended.setdefault(ticket.id, (ticket.turn, ticket.closed_at, clocks))
        assert (ticket.turn, ticket.closed_at, clocks) == before, "a ticket that has ended changes"


def check_promises_begin_with_the_fault_and_never_later(book: Book, memory: Memory) -> None:
    for key, clock in book.clocks.items():
        assert clock.started_at <= memory.begun.setdefault(key, clock.started_at), "a promise begins later than it did"
        memory.begun[key] = clock.started_at
    for ticket in book.tickets.values():
        if ticket.opened_at == book.now and book.hired(ticket.device_id, book.now) and ticket.turn == 0:
            assert all(one.started_at <= ticket.opened_at for one in book.clocks_of(ticket.id))
        if ticket.merged_into is None:
            continue
        for clock in book.clocks_of(ticket.id, ticket.turn):
            same = [one for one in book.clocks_of(ticket.merged_into) if one.kind == clock.kind]
            open_still = kept_at(clock.kind, book.turn_of(ticket.id, ticket.turn)) is None and clock.breached_at is None
            if open_still and same:
                assert min(one.started_at for one in same) <= clock.started_at, "merged, and promised for later"


def check_who_has_it_on_hire_has_the_promises(book: Book) -> None:
    for ticket in book.tickets.values():
        ended = ticket.status in ("resolved", "closed", "cancelled")
        if ended or ticket.device_id is None or not book.hired(ticket.device_id, book.now):
            continue
        wanted = promised_kinds(ticket.severity, remote=ticket.device_id in book.remote)
        found = {one.kind for one in book.clocks_of(ticket.id, ticket.turn)}
        if book.declared(ticket.device_id):
            # What was declared is noted, and calls nobody before it is over.
            assert found <= wanted
            continue
        assert found == wanted, f"ticket {ticket.id} promises {found}, not {wanted}"
        assert ticket.rental_id is not None, "its customer is not known"
    for ticket_id, kind, turn in book.clocks:
        device_id, began = book.tickets[ticket_id].device_id, book.begins(ticket_id)[turn]
        lasted = (one for one in book.rentals if one.device_id == device_id and _overlaps(one, began, book.now))
        assert any(lasted), f"{kind} is promised to nobody"


def _overlaps(rental: Any, from_at: int, to_at: int) -> bool:
    return bool(rental.starts_at <= to_at and (rental.ends_at is None or rental.ends_at > from_at))


# --- what must hold of faults and tickets --------------------------------------------------------------------------


def check_each_fault_has_its_ticket(book: Book) -> None:
    opened = [one for one in book.faults if one.cleared_at is None]
    assert len({(one.device_id, one.kind, one.subject) for one in opened}) == len(opened)
    for fault in opened:
        if fault.ticket_id is not None:
            assert book.tickets[fault.ticket_id].status not in ("closed", "cancelled")
            continue
        certain = fault.kind in ("startup_failure", "limit", "fault_code", "reported") and fault.confidence == 1
        assert book.declared(fault.device_id) or not certain, (
            f"{fault.kind} {fault.subject} of {fault.device_id} has no ticket"
        )


def check_a_ticket_waits_while_its_pause_lasts(book: Book) -> None:
    for ticket in book.tickets.values():
        waits = [one for one in book.pauses if one.ticket_id == ticket.id and one.to_at is None]
        assert len(waits) == (ticket.status == "waiting")
        assert all(one.until_at is None or one.until_at > book.now for one in waits), "it was agreed to wait less long"


# --- what must hold of those who are asked and told ----------------------------------------------------------------

PHASES = {"open": "seeking", "verified": "seeking", "dispatched": "seeking", "accepted": "accepted",
          "on_the_way": "on_the_way"}  # fmt: skip
PATIENCE = {"emergency": (15 * MINUTE, 5 * MINUTE), "urgent": (30 * MINUTE, 10 * MINUTE)}
"""How long somebody is sought for a machine on hire before the manager hears of it; and how long, before that, for the
answer of somebody whom a person has named."""


def check_somebody_is_sought(book: Book, *, keeps_rota: bool) -> None:
    for ticket in book.tickets.values():
        search = book.searches.get(ticket.id)
        if not keeps_rota:
            assert search is None
            continue
        if search is None:
            assert ticket.severity not in PATIENCE or ticket.device_id is None
            continue
        assert search.phase == PHASES.get(ticket.status, "stopped")
        assert search.phase != "stopped" or search.next_at is None
        patience, answer = PATIENCE.get(ticket.severity, (book.now, 0))
        patience += answer if search.named_id else 0
        rental = book.hired(ticket.device_id, book.now)
        if search.phase != "seeking" or rental is None or book.declared(ticket.device_id):
            continue
        since_at = max(search.since_at, rental.starts_at)
        if since_at + patience <= book.now:
            told = [one for one in book.notices if (one.ticket_id, one.kind, one.person_id) ==
                    (ticket.id, "untaken", MANAGER) and one.queued_at >= search.since_at]  # fmt: skip
            assert told, f"nobody takes ticket {ticket.id}, and the manager does not hear of it"


def check_only_the_trained_are_asked(book: Book, *, keeps_rota: bool) -> None:
    asked = [(one.ticket_id, one.round, one.level, one.what, one.person_id) for one in book.moves]
    assert len(set(asked)) == len(asked)
    assert not keeps_rota or UNTRAINED not in {one.person_id for one in book.moves}
    assert not keeps_rota or UNTRAINED not in {one.technician_id for one in book.steps}


def check_each_breach_is_told_once(book: Book) -> None:
    """To each of those in charge; of those that are taken back, what has not gone out is not told."""
    for ticket_id in {key[0] for key in book.clocks}:
        for kind in ("dispatch", "remote_diagnosis", "repair_start"):
            stands = [one for one in book.clocks_of(ticket_id) if one.kind == kind and one.breached_at is not None]
            back = [one for one in book.amendments if (one.ticket_id, one.kind) == (ticket_id, kind)]
            for person_id in IN_CHARGE:
                told = list(_told(book, "breach", ticket_id, kind, person_id))
                words = f"{kind} of ticket {ticket_id}: {len(stands)} stand, {len(back)} do not, told {len(told)}"
                assert len(stands) <= len(told) <= len(stands) + len(back), words
                assert all(any(one.queued_at >= due.due_at for one in told) for due in stands), words
                if not stands:
                    assert all(one.status != "queued" for one in told), "what is not true any more is told all the same"


def check_each_warning_is_told(book: Book) -> None:
    for clock in book.clocks.values():
        if not clock.running or clock.warned_at is None or clock.breached_at is not None or clock.paused_since:
            continue
        told = [one for one in _told(book, "breach_warning", clock.ticket_id, clock.kind, OPS)
                if clock.warned_at <= one.queued_at < clock.due_at]  # fmt: skip
        assert len(told) == 1, f"{clock} was warned of {len(told)} times"


def _told(book: Book, what: str, ticket_id: int, kind: str, person_id: int) -> Iterator[Any]:
    for one in book.notices:
        theirs = (one.kind, one.ticket_id, one.person_id) == (what, ticket_id, person_id)
        if theirs and one.status != "withdrawn" and one.cause.split(":")[2].startswith(kind):
            yield one


def check_customers_hear_of_what_they_have_on_hire(book: Book) -> None:
    for notice in book.notices:
        if notice.person_id is not None or notice.ticket_id is None or notice.status == "withdrawn":
            continue
        customer_id = int(notice.cause.rpartition("customer-")[2])
        began = max(at for at in book.begins(notice.ticket_id) if at <= notice.queued_at)
        device_id = book.tickets[notice.ticket_id].device_id
        theirs = [one for one in book.rentals if (one.customer_id, one.device_id) == (customer_id, device_id)]
        assert any(_overlaps(one, began, notice.queued_at) for one in theirs), f"{notice.cause}: not theirs"


def check_each_notice_goes_out_once(book: Book, post: Post) -> None:
    # What was withdrawn may come true again: it is told then, and its earlier row says so (`~`).
    causes = {one.cause.partition("~")[0] for one in book.notices}
    alone = [one for one in book.notices if one.gathered_in is None]
    sent = Counter(one.cause.partition("~")[0] for one in alone if one.status == "sent")
    told = Counter(one.cause for one in book.notices if one.status != "withdrawn")
    assert max(told.values(), default=1) == 1, "queued twice"
    assert sent == post.confirmed, f"{sent - post.confirmed} were not sent, {post.confirmed - sent} were, unnoticed"
    assert set(post.taken) <= causes, "a letter that stands in no row"
    assert all(one.last_error for one in book.notices if one.status == "failed"), "failed, and does not say why"


def check_nothing_is_left_untold(book: Book) -> None:
    """Once the post is well again and time has passed."""
    left = [one.cause for one in book.notices if one.status == "queued"]
    assert not left, f"never delivered, and never failed: {left}"


# --- a company's life ----------------------------------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """A company with a machine at a site, one far out and one in the yard, and whatever befalls them."""

    @initialize(keeps_rota=st.booleans())
    def the_company_begins(self, keeps_rota: bool) -> None:
        self.folder = TemporaryDirectory()
        url = f"sqlite:///{Path(self.folder.name) / 'fettle.db'}"
        self.office = Office([("Quarry", 1), ("Ridge", 1), ("", 1)], url=url, remote=["Ridge"])
        self.post, self.memory, self.keeps_rota = Post(), Memory(), keeps_rota
        self.hire = Hire(self.office.database, "test")
        self.office.registry.add_rental(YARD, "Port Ltd", "port@example.com", lang="en", now=T0)
        self.hire.end_rental(4, None, T0)
        for name, role in (("Bo", "technician"), ("Chen", "technician"), ("Uli", "technician"), ("Olga", "ops"),
                           ("Mei", "manager")):  # fmt: skip
            email = f"{name.lower()}@example.com"
            self.office.registry.add_person(name, role, email, phone="", lang="en", customer=None, now=T0)
        if keeps_rota:
            self.there_is_a_rota()
        self.the_outbox_opens()
        self.a_fault_is_found(("limit", "coolant_temp_c", {}), PLAIN, 1.0)
        self.somebody_reports(REMOTE, stopped=True)

    def there_is_a_rota(self) -> None:
        people = People(self.office.database, "test")
        for person_id in (TIAN, BO, CHEN):
            people.certify(person_id, [Certified("diesel_generator", T0 - DAY)], T0)
        for person_id in (TIAN, BO, UNTRAINED):
            people.set_hours(person_id, [WorkingHours(day, 0, 1440) for day in EVERY_DAY], T0)
        people.add_rotation("First line", Rotation(0, "Asia/Shanghai", (CHEN,), 24, 0, 480, T0 - DAY), T0)

    def the_outbox_opens(self) -> None:
        given_up = self.office.desk.telling.given_up
        self.outbox = Outbox(self.office.database, {"email": self.post}, given_up=given_up)

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        self.in_the_end_all_is_told()
        self.office.close()
        self.folder.cleanup()

    def in_the_end_all_is_told(self) -> None:
        self.post.mood = "well"
        for _ in range(20):
            waiting = [one for one in self.office.rows(schema.notice, status="queued") if one.gathered_in is None]
            if not waiting:
                break
            self.office.now = max(self.office.now + CLAIM_MS, min(one.next_try_at for one in waiting))
            self.outbox.deliver_due(self.office.now)
        book = Book(self.office)
        check_nothing_is_left_untold(book)
        check_each_notice_goes_out_once(book, self.post)

    def now(self) -> int:
        """No two things happen at the same moment."""
        self.office.now += SECOND
        return self.office.now

    def ticket(self, number: int, *, ended: bool = False) -> int:
        """One of those that are open, the newest first, or of those that have `ended`."""
        found = [row for row in self.office.rows(schema.ticket) if (row.status in ENDS) == ended]
        return int(found[-1 - number % len(found)].id)

    def possible(self, ticket_id: int) -> list[Verb]:
        with self.office.database.connect() as connection:
            row = cases.load_ticket(connection, ticket_id)
            assert row is not None
            return allowed(cases.ticket_of(connection, row), self.office.now)

    def last_step_at(self, ticket_id: int) -> int:
        with self.office.database.connect() as connection:
            row = cases.load_ticket(connection, ticket_id)
            assert row is not None
            return cases.ticket_of(connection, row).last_step_at

    def act(self, ticket_id: int, verb: Verb, back: int = 0, **how: Any) -> bool:
        """A step, maybe recorded some minutes late. What is refused changes nothing."""
        now = self.now()
        happened_at = min(now, max(now - back * MINUTE, self.last_step_at(ticket_id)))
        before = self.office.rows(schema.ticket, id=ticket_id)[0]
        try:
            self.office.desk.act(ticket_id, verb, "test", now, happened_at=happened_at, **how)
        except (NotPossible, Incomplete, Changed, NoSuchTicket):
            assert self.office.rows(schema.ticket, id=ticket_id)[0] == before
            return False
        assert self.office.rows(schema.ticket, id=ticket_id)[0].revision > before.revision
        return True

    # --- what happens to machines ---

    @rule(fault=FAULTS, device=MACHINES, confidence=st.sampled_from([0.5, 1.0, 1.0, 1.0]))
    def a_fault_is_found(self, fault: tuple[str, str, dict[str, int]], device: str, confidence: float) -> None:
        kind, subject, facts = fault
        self.now()
        self.office.finds(kind, subject, device=device, confidence=confidence, **facts)

    @rule(device=MACHINES, minutes=st.integers(1, 9), touched=st.sampled_from([False, False, True]))
    def a_start_fails_for_want_of_supply(self, device: str, minutes: int, touched: bool) -> None:
        for subject in ("fuel_level_pct", "battery_voltage_v"):
            self.now()
            self.office.finds("limit", subject, device=device)
        if touched and self.some_open():
            self.act(self.ticket(0), Verb.VERIFY, note="It is empty")
        self.passes(minutes, 3)
        self.now()
        self.office.finds("startup_failure", "", device=device)

    @rule(fault=FAULTS, device=MACHINES)
    def a_fault_clears(self, fault: tuple[str, str, dict[str, int]], device: str) -> None:
        self.now()
        self.office.clears(fault[0], fault[1], device)

    @rule(device=MACHINES, stopped=st.booleans())
    def somebody_reports(self, device: str, stopped: bool) -> None:
        self.office.desk.report(Report(device, "It smokes", "phone", "Mr Li", stopped), "test", self.now())

    @rule(minutes=st.sampled_from([7, 20, 46, 61, 250]))
    def time_passes(self, minutes: int) -> None:
        self.passes(minutes, 3)

    def passes(self, minutes: int, ticks: int) -> None:
        for _ in range(ticks):
            self.office.now += minutes * MINUTE // ticks
            self.office.desk.tick(self.office.now)
            self.the_post_goes()

    def the_post_goes(self) -> None:
        try:
            self.outbox.deliver_due(self.office.now)
        except Died:
            self.the_service_restarts()

    @rule()
    def the_service_restarts(self) -> None:
        self.office.open()
        self.the_outbox_opens()

    @rule(mood=st.sampled_from(["well", "slow", "down", "deadly"]))
    def the_post_is(self, mood: str) -> None:
        self.post.mood = mood

    @rule(device=MACHINES, hours=st.integers(1, 3))
    def maintenance_is_declared(self, device: str, hours: int) -> None:
        now = self.now()
        with self.office.database.begin() as connection:
            connection.execute(sa.insert(schema.maintenance_window).values(
                device_id=device, what="maintenance", starts_at=now, ends_at=now + hours * HOUR, declared_by="test",
                declared_at=now,
            ))  # fmt: skip

    # --- who has them on hire ---

    def rental(self, device: str) -> Any:
        return next((one for one in self.office.rows(schema.rental, device_id=device) if _covers(one, self.office.now)),
                    None)  # fmt: skip

    @rule(device=MACHINES, other=MACHINES, customer_id=st.sampled_from([1, 2]), ends=st.booleans(),
          minutes=st.sampled_from([0, 0, 30]), hours=st.sampled_from([None, None, 2]))  # fmt: skip
    def its_hire_changes(
        self, device: str, other: str, customer_id: int, ends: bool, minutes: int, hours: int | None
    ) -> None:
        """One that is free goes on hire, now or soon; one that is on hire comes back, or is exchanged."""
        now, running = self.now(), self.rental(device)
        at = now + minutes * MINUTE
        # What is promised to somebody for later stands in the way.
        with suppress(Conflict):
            if running is None:
                self.hire.add_rental(device, at, hours and at + hours * HOUR, now, customer_id=customer_id)
            elif ends or device == other:
                self.hire.end_rental(running.id, at, now)
            else:
                self.hire.exchange(running.id, other, None, now)

    # --- what people do ---

    def some_open(self) -> bool:
        return any(row.status not in ENDS for row in self.office.rows(schema.ticket))

    def some_ended(self) -> bool:
        return any(row.status in ENDS for row in self.office.rows(schema.ticket))

    @precondition(some_open)
    @rule(numbers=st.lists(NUMBERS, min_size=1, max_size=4), number=NUMBERS, back=BACK, technician_id=TECHNICIANS,
          minutes=st.sampled_from([0, 0, 10, 30]))  # fmt: skip
    def a_ticket_goes_on(
        self, numbers: list[int], number: int, back: int, technician_id: int, minutes: int
    ) -> None:  # fmt: skip
        ticket_id = self.ticket(number)
        for one in numbers:
            self.passes(minutes, 1)
            onward = [verb for verb in self.possible(ticket_id) if verb in ONWARD]
            if onward:
                self.goes_on(ticket_id, onward[one % len(onward)], back, technician_id)

    def goes_on(self, ticket_id: int, verb: Verb, back: int, technician_id: int) -> None:
        sends = {"technician_id": technician_id} if verb in (Verb.DISPATCH, Verb.ACCEPT) else {}
        says = {"note": "The starter"} if verb is Verb.VERIFY else {}
        ends = {"resolution": RESOLUTION} if verb is Verb.RESOLVE else {}
        taken = self.act(ticket_id, verb, back, **sends, **says, **ends)
        assert taken, f"{verb} is allowed, and refused"

    @precondition(some_open)
    @rule(number=NUMBERS, back=BACK, reason=st.sampled_from([*CUSTOMER_REASONS, *WAIT_REASONS]),
          minutes=st.sampled_from([10, 45, 300]))  # fmt: skip
    def it_waits(self, number: int, back: int, reason: str, minutes: int) -> None:
        ticket_id = self.ticket(number)
        if Verb.PAUSE in self.possible(ticket_id):
            until_at = self.office.now + minutes * MINUTE
            assert self.act(ticket_id, Verb.PAUSE, back, reason=reason, until_at=until_at)

    @precondition(some_open)
    @rule(number=NUMBERS)
    def a_step_is_taken_back(self, number: int) -> None:
        ticket_id = self.ticket(number)
        if Verb.CORRECT in self.possible(ticket_id):
            assert self.act(ticket_id, Verb.CORRECT)

    @precondition(some_open)
    @rule(number=NUMBERS, back=BACK, cancelled=st.booleans())
    def it_ends(self, number: int, back: int, cancelled: bool) -> None:
        ticket_id = self.ticket(number)
        if cancelled or Verb.CLOSE not in self.possible(ticket_id):
            assert self.act(ticket_id, Verb.CANCEL, back, reason="other")
        else:
            assert self.act(ticket_id, Verb.CLOSE, back, outcome=Outcome.REAL)

    @precondition(some_ended)
    @rule(number=NUMBERS)
    def it_comes_back(self, number: int) -> None:
        # Another may be open for the same fault by now.
        self.act(self.ticket(number, ended=True), Verb.REOPEN)

    @precondition(some_open)
    @rule(number=NUMBERS, back=BACK)
    def two_become_one(self, number: int, back: int) -> None:
        mine = self.office.rows(schema.ticket, id=self.ticket(number))[0]
        others = [row.id for row in self.office.rows(schema.ticket, device_id=mine.device_id)
                  if row.id != mine.id and row.status not in DONE]  # fmt: skip
        if others and Verb.MERGE in self.possible(mine.id):
            assert self.act(mine.id, Verb.MERGE, back, other_id=others[number % len(others)])

    @precondition(some_open)
    @rule(number=NUMBERS, other=NUMBERS, from_ended=st.booleans())
    def two_are_linked(self, number: int, other: int, from_ended: bool) -> None:
        mine = self.ticket(number, ended=from_ended and self.some_ended())
        if mine != self.ticket(other):
            assert self.act(mine, Verb.LINK, other_id=self.ticket(other))

    @precondition(lambda self: self.some_open() or self.some_ended())
    @rule(
        number=NUMBERS, verb=st.sampled_from(Verb), reason=st.sampled_from([*WAIT_REASONS, "other", "moon", ""]),
        note=st.sampled_from(["", "Starter"]), technician_id=st.sampled_from([None, BO, UNTRAINED]), other=NUMBERS,
        ended=st.booleans(), revision=st.sampled_from([None, None, 0]), back=st.sampled_from([0, 45, 800]),
    )  # fmt: skip
    def anything_is_tried(
        self, number: int, verb: Verb, reason: str, note: str, technician_id: int | None, other: int, ended: bool,
        revision: int | None, back: int,
    ) -> None:  # fmt: skip
        if not (self.some_ended() if ended else self.some_open()):
            return
        self.act(
            self.ticket(number, ended=ended), verb, back, reason=reason, note=note, technician_id=technician_id,
            revision=revision, until_at=self.office.now + HOUR if note else None, other_id=other or None,
            resolution=RESOLUTION if note else None,
        )  # fmt: skip

    @rule(says_yes=st.booleans(), number=NUMBERS)
    def somebody_who_was_asked_answers(self, says_yes: bool, number: int) -> None:
        asked = [row for row in self.office.rows(schema.move, what="ask") if row.person_id is not None]
        if not asked:
            return
        one = asked[-1 - number % min(3, len(asked))]
        now, paging = self.now(), self.office.desk.paging
        # Somebody else may have it by now.
        with suppress(NotPossible):
            if says_yes:
                paging.accept(Offered(one.ticket_id, one.person_id), now)
            else:
                paging.decline(Offered(one.ticket_id, one.person_id), f"person:{one.person_id}", now)

    @rule(number=NUMBERS)
    def a_machine_answers_its_self_test(self, number: int) -> None:
        now = self.now()
        with self.office.database.begin() as connection:
            asked = connection.execute(sa.select(schema.command).where(schema.command.c.answered_at.is_(None))).all()
            if not asked:
                return
            one = asked[number % len(asked)]
            device = next(known for known in registry.devices(connection) if known.device_id == one.device_id)
            reply = Reply(one.id, now, True, {"checks": {"starter": "fail"}, "codes": []})
            diagnosis.take_answers(
                connection, [(device, now, reply)], self_tests.shipped_policy(),
                self.office.desk.reckon_clocks, now,
            )  # fmt: skip

    # --- what must hold ---

    @invariant()
    def all_holds(self) -> None:
        self.office.desk.tick(self.office.now)
        self.the_post_goes()
        self.office.check()
        book = Book(self.office)
        check_each_clock_says_what_its_ledger_says(book)
        check_breaches_come_when_due_and_go_only_by_an_amendment(book, self.memory)
        check_warnings_are_noted(book)
        check_who_comes_late_notes_nothing(self.office, book, self.memory)
        check_the_tick_looks_when_something_comes(book)
        check_what_ended_stands_still(book, self.memory)
        check_promises_begin_with_the_fault_and_never_later(book, self.memory)
        check_who_has_it_on_hire_has_the_promises(book)
        check_each_fault_has_its_ticket(book)
        check_a_ticket_waits_while_its_pause_lasts(book)
        check_somebody_is_sought(book, keeps_rota=self.keeps_rota)
        check_only_the_trained_are_asked(book, keeps_rota=self.keeps_rota)
        check_each_breach_is_told_once(book)
        check_each_warning_is_told(book)
        check_customers_hear_of_what_they_have_on_hire(book)
        check_each_notice_goes_out_once(book, self.post)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=10, stateful_step_count=45, deadline=None)


def test_a_lost_update_is_refused_and_says_what_stands_now() -> None:
    office = Office()
    office.finds("limit", "coolant_temp_c")
    office.desk.act(1, Verb.VERIFY, "person:1", T0, revision=0)
    with pytest.raises(Changed):
        office.desk.act(1, Verb.CANCEL, "person:2", T0, reason="other", revision=0)
    assert office.rows(schema.ticket)[0].status == "verified"
    office.close()
