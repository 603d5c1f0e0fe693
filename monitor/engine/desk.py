"""The desk: opens and clears faults, walks tickets, notes what their clocks run into. Each in one transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypedDict, Unpack

import structlog
from sqlalchemy.engine import Connection

from monitor.desk import dispatch, escalation, notices, triage
from monitor.desk.commitments import Commitment, Crossing, Standard, crossings, promised, reckon
from monitor.desk.notices import Event, Facts, Happening
from monitor.desk.tickets import (
    DESK,
    MAX_BACKDATING_MS,
    REOPEN_WITHIN_MS,
    Advance,
    Incomplete,
    NotPossible,
    Outcome,
    Resolution,
    Status,
    Step,
    Ticket,
    Verb,
    advance,
    give_again,
    had_gone_on,
)
from monitor.desk.triage import Fault, Placing, Policy, Standing, Why
from monitor.desk.working_time import Calendar, calendar_named
from monitor.desk.working_time import Policy as WorkingTime
from monitor.desk.working_time import shipped_policy as shipped_working_time
from monitor.detect import Finding
from monitor.devices import DEFAULT_SEVERITY, FaultKind, Profile, Severity
from monitor.engine import diagnosis
from monitor.engine.bookkeeping import Bookkeeping
from monitor.engine.budget import Budget
from monitor.engine.dispatching import Dispatching
from monitor.engine.foreseeing import Foreseeing
from monitor.engine.paging import Paging
from monitor.engine.reporting import Reporting
from monitor.engine.shifts import Shifts
from monitor.engine.telling import Telling
from monitor.engine.upkeep import Upkeep
from monitor.links import Signer, customer_token
from monitor.store import cases, people, satisfaction
from monitor.store.database import Database
from monitor.store.registry import Conflict, write_audit

CROSSINGS_A_TICK = 500
HOLDS_A_TICK = 200
TOLD_TWICE_MS = 10 * 60_000
"""The same words within this time are the same report, sent once more."""
BESIDE = (Verb.MERGE, Verb.LINK)
"""Steps that concern another ticket too."""
ENDED = (Status.RESOLVED, Status.CLOSED, Status.CANCELLED)
"""Statuses in which a ticket takes no fault in any more: what comes back is a ticket of its own."""
DEALT_WITH = (Status.RESOLVED, Status.CLOSED)
"""Statuses in which the customer is asked how it was (P2)."""


COURSE = {
    Verb.ACCEPT: Happening.ARRANGED, Verb.DEPART: Happening.ARRANGED, Verb.ARRIVE: Happening.ON_SITE,
    Verb.START_REPAIR: Happening.ON_SITE, Verb.CLOSE: Happening.CLOSED,
}  # fmt: skip
"""What a step means to the customer; skipped ones are told with the next."""


log = structlog.get_logger()


class NoSuchTicket(LookupError):
    """There is no ticket of this number."""


class Changed(Exception):
    """Somebody else was faster; `revision` is the ticket's now."""

    def __init__(self, detail: str, revision: int) -> None:
        super().__init__(detail)
        self.revision = revision


class How(TypedDict, total=False):
    """What belongs to some steps (tickets.Step)."""

    technician_id: int | None
    note: str
    reason: str
    until_at: int | None
    other_id: int | None
    resolution: Resolution | None
    outcome: Outcome | None
    visit_at: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """What somebody says of a machine. `origin`: how it came to us (phone, customer, label, office); `by`: who said it,
    in words; `stopped`: the machine does not run, or does not start."""

    device_id: str
    text: str
    origin: str
    by: str = ""
    stopped: bool = False
    occurred_at: int | None = None


class Opening(NamedTuple):
    """What is known of a ticket that has just been opened: its clocks, and whether somebody is sought for it."""

    clocks: Sequence[Commitment]
    seeks: bool


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where notices point to, and where operations as a whole is told (a webhook), if anywhere. `signer`: of the links
    that people answer by; without one they have to sign in."""

    public_url: str
    timezone: str
    webhook: str = ""
    signer: Signer | None = None

    @property
    def room(self) -> notices.Recipient | None:
        return notices.Recipient("room", "webhook", self.webhook, notices.DEFAULT_LANG) if self.webhook else None


class Desk:
    """Keeps tickets. Everything takes `now` (epoch ms UTC)."""

    def __init__(
        self, database: Database, standard: Standard, profiles: Mapping[str, Profile], addresses: Addresses,
        policy: Policy | None = None, working_time: WorkingTime | None = None,
        paging_policy: escalation.Policy | None = None,
    ) -> None:  # fmt: skip
        self.database = database
        self.working_time = working_time or shipped_working_time()
        self.standard = standard
        self.triage = policy or triage.shipped_policy()
        self.profiles = profiles
        self.addresses = addresses
        self.telling = Telling(addresses.timezone, addresses.room, f"{addresses.public_url}/tickets")
        self.dispatching = Dispatching(dispatch.shipped_policy(), self.working_time, addresses.timezone)
        self.paging = Paging(self, self.dispatching, paging_policy)
        self.foreseeing = Foreseeing(self, self.dispatching)
        self.shifts = Shifts(self, self.dispatching)
        self.upkeep = Upkeep(self)
        self.reporting = Reporting(self)
        self.books = Bookkeeping(database, addresses.timezone)
        self.budget = Budget(self)

    # --- findings become faults and tickets ---

    def record(self, connection: Connection, findings: Sequence[Finding], now: int) -> None:
        """Open and clear what the detectors found, within the transaction that stores what they found it in."""
        if not findings:
            return
        standings = cases.load_standings(connection, {one.device_id for one in findings}, self.profiles, now)
        sites = self._sites(connection, findings, standings, now)
        for finding in findings:
            # What one finding changed, the machine's next one has to see.
            standing = standings.pop(finding.device_id, None) or self._standing(connection, finding.device_id, now)
            if finding.opened:
                self._open(connection, finding, _at_site(standing, sites), now)
            else:
                self._clear(connection, finding, standing, now)

    def _ticket(self, connection: Connection, ticket_id: int) -> cases.Row:
        """A ticket as it is now. Raises NoSuchTicket."""
        row = cases.load_ticket(connection, ticket_id)
        if row is None:
            raise NoSuchTicket(f"there is no ticket {ticket_id}")
        return row

    def _standing(self, connection: Connection, device_id: str, now: int) -> Standing:
        return cases.load_standings(connection, [device_id], self.profiles, now)[device_id]

    def _sites(
        self, connection: Connection, findings: Sequence[Finding], standings: Mapping[str, Standing], now: int
    ) -> dict[int, tuple[int, int | None]]:
        """Of each site where a machine fell silent: how many are live, and the ticket of its outage that stands."""
        falling = {one.device_id for one in findings if one.kind is FaultKind.SILENT and one.opened}
        ids = {site_id for one in falling if (site_id := standings[one].site_id) is not None}
        if not ids:
            return {}
        window_ms = round(self.triage.site.window_s * 1000)
        live = cases.live_machines(connection, ids, now - window_ms)
        tickets = cases.site_tickets(connection, ids)
        stands = {site_id: row.id for site_id, row in tickets.items() if row.cleared_at is None}
        return {site_id: (live.get(site_id, 0), stands.get(site_id)) for site_id in ids}

    def _open(self, connection: Connection, finding: Finding, standing: Standing, now: int) -> None:
        fault = _fault(finding, standing)
        known = standing.open_fault(finding.kind, finding.subject)
        if known is not None:
            self._strengthen(connection, known, fault, standing, now)
            return
        placing = triage.place(fault, standing, self.triage, now)
        ticket_id = self._ticket_for(connection, fault, placing, standing, now)
        held = ticket_id is None and placing.severity is not fault.severity
        cases.insert_fault(
            connection, device_id=finding.device_id, kind=finding.kind, subject=finding.subject,
            severity=placing.severity, held_severity=fault.severity if held else None,
            held_until=placing.held_until, confidence=finding.confidence, opened_at=now,
            occurred_at=finding.occurred_at, evidence=fault.evidence, ticket_id=ticket_id,
        )  # fmt: skip
        cases.note_change(connection, now, "fault_opened", finding.device_id, ticket_id)

    def _strengthen(self, connection: Connection, known: Fault, found: Fault, standing: Standing, now: int) -> None:
        """A fault that is open already is found again: surer or graver, or as it was, and then nothing changes."""
        is_graver = triage.graver(found.severity, known.severity)
        if not is_graver and found.confidence <= known.confidence:
            return
        stronger = replace(
            known, severity=found.severity if is_graver else known.severity, state=found.state,
            confidence=max(found.confidence, known.confidence), evidence=found.evidence, channels=found.channels,
        )  # fmt: skip
        column = "held_severity" if known.held else "severity"
        cases.strengthen_fault(connection, known.id, confidence=stronger.confidence, evidence=stronger.evidence,
                               **{column: stronger.severity})  # fmt: skip
        if known.held:
            self._promote(connection, stronger, standing, now, persisted=False)
        elif known.ticket_id is not None and is_graver:
            row = self._ticket(connection, known.ticket_id)
            if row.status not in ENDED:
                self._raise(connection, row, None, stronger.severity, standing, now)
        cases.note_change(connection, now, "fault_opened", standing.device_id, known.ticket_id)

    def _promote(
        self, connection: Connection, fault: Fault, standing: Standing, now: int, *, persisted: bool
    ) -> Placing:  # fmt: skip
        """A fault that was held gets its ticket, if it deserves one now; answers what was decided."""
        placing = triage.place(fault, standing, self.triage, now, persisted=persisted)
        ticket_id = self._ticket_for(connection, fault, placing, standing, now)
        if ticket_id is not None:
            cases.give_ticket(connection, fault.id, ticket_id, placing.severity)
            cases.note_change(connection, now, "fault_opened", standing.device_id, ticket_id)
        return placing

    def _ticket_for(
        self, connection: Connection, fault: Fault, placing: Placing, standing: Standing, now: int
    ) -> int | None:
        """Do with tickets what triage decided; answers the fault's, if it has one."""
        ticket_id = placing.ticket_id
        if ticket_id is None and not placing.opens:
            return None
        # Between two statements somebody may have ended the ticket that the fault was to join (PostgreSQL).
        if ticket_id is None or not self._join(connection, ticket_id, fault, placing, standing, now):
            ticket_id = self._open_ticket(connection, fault, placing, standing, now)
        for merged in placing.merges:
            row = self._ticket(connection, merged)
            if row.status == Status.OPEN:
                self._merge(connection, row, ticket_id, now)
        for fault_id, severity in placing.along:
            cases.give_ticket(connection, fault_id, ticket_id, severity)
        return ticket_id

    def _merge(self, connection: Connection, row: cases.Row, into: int, now: int) -> None:
        running = self._running(connection, row, now)
        cases.merge_ticket(connection, row, into, now)
        write_audit(connection, now, "triage", "ticket_merge", f"ticket:{row.id}", {"status": row.status},
                    {"status": Status.CANCELLED, "merged_into": into})  # fmt: skip
        self.paging.stop(connection, row.id, now)
        self.reckon_clocks(connection, row.id, "triage", now)
        self._carry_on(connection, running, into, "triage", now)
        cases.note_change(connection, now, "ticket", row.device_id, row.id)

    def _open_ticket(self, connection: Connection, fault: Fault, placing: Placing, standing: Standing, now: int) -> int:
        lead, severity = placing.lead or fault, placing.ticket_severity
        if severity is Severity.NOTE:
            severity = fault.severity
        row = cases.insert_ticket(
            connection, device_id=standing.device_id, site_id=standing.site_id, rental_id=standing.rental_id,
            kind=lead.kind, subject=lead.subject, severity=severity, status=Status.OPEN,
            opened_at=now, occurred_at=lead.occurred_at, recurrences=0, evidence=_deserved(lead, placing),
            standard_version=self.standard.version,
        )  # fmt: skip
        self._link_return(connection, row.id, lead, standing, now)
        clocks = self._promise(connection, row, severity, standing, now, anew=True)
        wait_ms = triage.alert_wait_ms(replace(lead, severity=severity), standing.profile, self.triage)
        seeks = self.paging.begin(connection, row, now + wait_ms)
        self._tell(connection, row, Event(Happening.OPENED), now, now + wait_ms, opening=Opening(clocks, seeks))
        return int(row.id)

    def _link_return(self, connection: Connection, ticket_id: int, lead: Fault, standing: Standing, now: int) -> None:
        """A fault that comes back soon after its ticket was resolved is a ticket anew (ADR 9), and names the other."""
        since = now - REOPEN_WITHIN_MS
        earlier = cases.ended_lately(connection, standing.device_id, lead.kind, lead.subject, since)
        if earlier is not None:
            cases.link_tickets(connection, ticket_id, earlier, "returned", "desk", now)

    def _promise(
        self, connection: Connection, row: cases.Row, severity: Severity, standing: Standing, now: int, *,
        anew: bool = False,
    ) -> list[Commitment]:  # fmt: skip
        """Start the clocks of this severity that do not run yet in the ticket's present turn, and answer them; `anew`:
        it has just begun, and none can."""
        before = [] if anew else cases.load_commitments(connection, row.id)
        there = {clock.kind for clock in before if clock.turn == row.turn}
        timezone = standing.timezone or self.addresses.timezone
        clocks = promised(
            self.standard, row.id, severity, lambda name: self.calendar(name, timezone), on_hire=standing.on_hire,
            remote=standing.remote, opened_at=now, timezone=timezone, turn=row.turn,
        )  # fmt: skip
        new = [clock for clock in clocks if clock.kind not in there]
        if new:
            cases.insert_commitments(connection, new)
            cases.note_due(connection, row.id)
        if standing.remote:
            diagnosis.ask(connection, row.id, standing.device_id, now)
        if new and not anew:
            # What was done for the lesser fault may have kept a promise of the graver one already.
            self.reckon_clocks(connection, row.id, "desk", now)
        return new

    def _join(
        self, connection: Connection, ticket_id: int, fault: Fault, placing: Placing, standing: Standing, now: int
    ) -> bool:
        """A fault joins a ticket that is still open. False where that has ended meanwhile."""
        row = self._ticket(connection, ticket_id)
        if row.status in ENDED:
            return False
        cases.note_return(connection, ticket_id, fault.id, standing.device_id, fault.kind, fault.subject)
        self._raise(connection, row, placing.lead, placing.ticket_severity, standing, now)
        # A customer who was told that all is well hears again; one who was about to be told is not.
        told = cases.withdraw_notices(connection, ticket_id, notices.Kind.FAULT_RESOLVED)
        if not told and row.cleared_at is not None:
            name = f"returned-{cases.load_turns(connection, ticket_id) + 1}"
            self._tell(connection, self._ticket(connection, ticket_id), Event(Happening.RECURRED, name), now)
        return True

    def _raise(
        self, connection: Connection, row: cases.Row, lead: Fault | None, least: Severity, standing: Standing, now: int
    ) -> None:
        """Name a ticket by what leads it now, and let it matter no less than that. What was promised stays; what is
        promised beyond that runs from now."""
        before = Severity(row.severity)
        severity = least if triage.graver(least, before) else before
        if severity is before and (lead is None or row.status != Status.OPEN):
            return
        named = {} if lead is None else {
            "kind": lead.kind, "subject": lead.subject, "evidence": lead.evidence, "occurred_at": lead.occurred_at
        }  # fmt: skip
        was = " ".join(filter(None, (row.severity, row.kind, row.subject)))
        step_id = cases.raise_ticket(connection, row, was, now, severity=severity, **named)
        write_audit(
            connection, now, "triage", "ticket_raised", f"ticket:{row.id}",
            {"severity": row.severity, "kind": row.kind, "subject": row.subject},
            {"severity": severity, "kind": named.get("kind", row.kind), "subject": named.get("subject", row.subject)},
        )  # fmt: skip
        cases.note_change(connection, now, "ticket", row.device_id, row.id)
        if severity is before:
            return
        self._promise(connection, row, severity, standing, now)
        # Who has not heard of the lesser fault yet hears of the graver one only, and the customer once.
        cases.withdraw_notices(connection, row.id, notices.Kind.DISPATCH_ALERT)
        cases.withdraw_notices(connection, row.id, notices.Kind.ROUTINE_OPENED)
        unheard = cases.withdraw_notices(connection, row.id, notices.Kind.FAULT_NOTICED) or not before.makes_bad
        what = Happening.RAISED_UNHEARD if unheard else Happening.RAISED
        self.paging.raised(connection, row.id, now)
        self._tell(connection, self._ticket(connection, row.id), Event(what, f"raised-{step_id}"), now)

    def _clear(self, connection: Connection, finding: Finding, standing: Standing, now: int) -> None:
        fault = standing.open_fault(finding.kind, finding.subject)
        if fault is None:
            return
        ticket_id = cases.clear_fault(connection, fault.id, finding.occurred_at, now)
        cases.note_change(connection, now, "fault_cleared", finding.device_id, ticket_id)
        if ticket_id is not None and cases.mark_cleared(connection, ticket_id, now):
            row = self._ticket(connection, ticket_id)
            self._tell_resolved(connection, row, now, now + self.triage.settle_ms(row.recurrences))

    def forget(self, connection: Connection, kinds: Mapping[str, Collection[FaultKind]], now: int) -> None:
        """Detectors of these kinds begin anew, machine by machine (another version, a machine that came back): what
        they had found is cleared, and found again if it is still there. Nobody is told that all is well."""
        if kinds:
            self._void(connection, cases.forget_faults(connection, kinds, now), now)

    def _void(self, connection: Connection, faults: Sequence[cases.Row], now: int) -> None:
        for fault in faults:
            if fault.ticket_id is not None:
                cases.mark_cleared(connection, fault.ticket_id, now)
            cases.note_change(connection, now, "fault_cleared", fault.device_id, fault.ticket_id)

    # --- what was held ---

    def _end_holds(self, now: int) -> None:
        """Give their tickets to faults that were held for long enough: each machine in a transaction of its own, so
        that it waits for nobody but its own watch (PostgreSQL)."""
        with self.database.connect() as connection:
            due = cases.due_faults(connection, now, HOLDS_A_TICK)
        for device_id, fault_id, opened_at in due:
            with self.database.begin() as connection:
                standing = self._standing(connection, device_id, now)
                fault = next((one for one in standing.faults if one.id == fault_id and one.held), None)
                if fault is None:
                    continue
                # What was held for a declared window only need not have lasted.
                lasted = triage.has_lasted(fault, now - opened_at, self.triage)
                placing = self._promote(connection, fault, standing, now, persisted=lasted)
                if placing.ticket_id is None and not placing.opens:
                    cases.hold_fault(connection, fault_id, placing.held_until)

    def _judge_sites(self, now: int) -> None:
        """Open the ticket of a site that fell silent as a whole; take leave of one that is back."""
        with self.database.connect() as connection:
            falling, silent = cases.falling_sites(connection, now), list(cases.site_tickets(connection))
        for site_id in falling:
            with self.database.begin() as connection:
                self._judge_falling(connection, site_id, now)
        for site_id in silent:
            with self.database.begin() as connection:
                self._judge_outage(connection, site_id, now)

    def _judge_falling(self, connection: Connection, site_id: int, now: int) -> None:
        cases.lock_site(connection, site_id)
        machines, silent = cases.silent_at(connection, site_id, now)
        found = triage.outage(machines, [row.occurred_at for row in silent], self.triage.site)
        held = [row for row in silent if row.held_until is not None]
        if found is None or not held:
            return
        ticket_id = self._site_ticket(connection, site_id, found, now)
        for row in held:
            if cases.give_ticket(connection, row.id, ticket_id, DEFAULT_SEVERITY[FaultKind.SILENT]):
                cases.note_return(connection, ticket_id, row.id, row.device_id, FaultKind.SILENT, "")
                cases.note_change(connection, now, "fault_opened", row.device_id, ticket_id)
        for row in silent:
            # Its own ticket, opened before it was clear that this is the site's, unless somebody is at work on it.
            if row.status == Status.OPEN and row.kind == FaultKind.SILENT and row.ticket_of and (
                row.occurred_at >= found.since
            ):  # fmt: skip
                self._merge(connection, self._ticket(connection, row.ticket_id),
                            ticket_id, now)  # fmt: skip

    def _site_ticket(self, connection: Connection, site_id: int, found: triage.Outage, now: int) -> int:
        """The site's open ticket, or a new one."""
        there = cases.site_tickets(connection, [site_id]).get(site_id)
        if there is not None:
            return int(there.id)
        evidence = {"scope": "site", "since_at": found.since, "lost": found.lost, "live": found.live,
                    "rule": f"triage/{self.triage.version}", "confidence": 1.0}  # fmt: skip
        row = cases.insert_ticket(
            connection, device_id=None, site_id=site_id, rental_id=None, kind=FaultKind.SILENT, subject="",
            severity=DEFAULT_SEVERITY[FaultKind.SILENT], status=Status.OPEN, opened_at=now, occurred_at=found.since,
            recurrences=0, evidence=evidence, standard_version=self.standard.version,
        )  # fmt: skip
        self._tell(connection, row, Event(Happening.OPENED), now)
        return int(row.id)

    def _judge_outage(self, connection: Connection, site_id: int, now: int) -> None:
        """Once the site is back, machines that are still silent have a trouble of their own."""
        cases.lock_site(connection, site_id)
        ticket = cases.site_tickets(connection, [site_id]).get(site_id)
        if ticket is None:
            return
        taken, silent, changed_at = cases.course_of_outage(connection, ticket.id)
        if not triage.site_is_back(taken, len(silent), changed_at, now, self.triage.site):
            return
        for row in silent:
            standing = self._standing(connection, row.device_id, now)
            fault = next(one for one in standing.faults if one.id == row.id)
            placing = triage.place(replace(fault, ticket_id=None), standing, self.triage, now, persisted=True)
            own = self._ticket_for(connection, fault, placing, standing, now)
            if own is not None:
                cases.move_fault(connection, row.id, own)
        cases.mark_cleared(connection, ticket.id, now)
        cases.note_change(connection, now, "ticket", None, ticket.id)

    # --- people report what machines cannot ---

    def report(self, reported: Report, actor: str, now: int) -> int:
        """Somebody says that a machine has a fault: it opens a ticket, or joins the one that is open on the machine.

        Answers the ticket. Raises LookupError where there is no such machine, and Conflict where it left the fleet.
        """
        with self.database.begin() as connection:
            standings = cases.load_standings(connection, [reported.device_id], self.profiles, now)
            if reported.device_id not in standings:
                raise LookupError(f"there is no machine {reported.device_id}")
            if cases.is_retired(connection, reported.device_id):
                raise Conflict(f"machine {reported.device_id} is retired")
            # Who takes the trouble to tell us is not put off by a window that was declared.
            standing = replace(standings[reported.device_id], window_until=None)
            fault = _reported(reported, standing, now)
            ticket_id = self._reported_before(connection, fault, standing, now)
            if ticket_id is None:
                ticket_id = self._report_anew(connection, fault, standing, now)
            row = self._ticket(connection, ticket_id)
            cases.note_report(connection, row, reported.origin, reported.by)
            self._promise_if_hired_since(connection, row, standing, actor, now)
            if cases.was_told(connection, row, reported.text, reported.origin, now - TOLD_TWICE_MS):
                return ticket_id
            cases.note_step(connection, row, "report", actor, reported.text, now, reason=reported.origin)
            told = {"origin": reported.origin, "device_id": reported.device_id, "stopped": reported.stopped}
            write_audit(connection, now, actor, "ticket_reported", f"ticket:{ticket_id}", after=told)
            cases.note_change(connection, now, "ticket", reported.device_id, ticket_id)
            return ticket_id

    def _reported_before(self, connection: Connection, fault: Fault, standing: Standing, now: int) -> int | None:
        """The ticket that people reported this machine's fault to already, made graver where they now say worse. None
        where there is none, or it has ended: what is said after that is a promise of its own (ADR 9)."""
        known = standing.open_fault(FaultKind.REPORTED, "")
        if known is None or known.ticket_id is None:
            return None
        row = self._ticket(connection, known.ticket_id)
        if row.status in ENDED:
            self._void(connection, cases.forget_faults(connection, {standing.device_id: [known.kind]}, now), now)
            return None
        self._strengthen(connection, known, fault, standing, now)
        return int(row.id)

    def _take_on_hire(self, ticket_id: int, now: int) -> None:
        with self.database.begin() as connection:
            cases.lock_tickets(connection, [ticket_id])
            row = self._ticket(connection, ticket_id)
            standing = self._standing(connection, row.device_id, now)
            # What was declared for the machine holds whoever has it: it is looked at again when that ends.
            if row.status not in ENDED and not standing.window_until:
                self._promise_if_hired_since(connection, row, standing, "desk", now)

    def _promise_if_hired_since(
        self, connection: Connection, row: cases.Row, standing: Standing, actor: str, now: int
    ) -> None:  # fmt: skip
        """The machine went on hire while this ticket was open: from now on it has its clocks, matters as it does to a
        customer, and they hear of it."""
        if row.rental_id is not None or standing.rental_id is None:
            return
        self._give_rental(connection, row, standing.rental_id, actor, now)
        row = self._ticket(connection, row.id)
        least = Severity(row.severity)
        if row.kind == FaultKind.STARTUP_FAILURE:
            least = DEFAULT_SEVERITY[FaultKind.STARTUP_FAILURE]
        self._promise(connection, row, Severity(row.severity), standing, now)
        if least == row.severity:
            self.paging.raised(connection, row.id, now)
        self._raise(connection, row, None, least, standing, now)
        name = f"hired-{standing.rental_id}"
        self._tell(connection, self._ticket(connection, row.id), Event(Happening.HIRED, name), now)
        cases.note_change(connection, now, "ticket", row.device_id, row.id)

    def _report_anew(self, connection: Connection, fault: Fault, standing: Standing, now: int) -> int:
        others = tuple(one for one in standing.faults if not (one.is_open and one.kind is FaultKind.REPORTED))
        standing = replace(standing, faults=others)
        ticket_id = self._ticket_for(connection, fault, triage.place(fault, standing, self.triage, now), standing, now)
        assert ticket_id is not None  # noqa: S101 (what a person says is certain)
        cases.insert_fault(
            connection, device_id=standing.device_id, kind=fault.kind, subject="", severity=fault.severity,
            confidence=1.0, opened_at=now, occurred_at=fault.occurred_at, evidence=fault.evidence,
            ticket_id=ticket_id,
        )  # fmt: skip
        return ticket_id

    # --- people walk tickets ---

    def act(
        self, ticket_id: int, verb: Verb, actor: str, now: int, *, happened_at: int | None = None,
        revision: int | None = None, **how: Unpack[How],
    ) -> None:  # fmt: skip
        """Take one step with a ticket, now or at `happened_at`. `revision` is the one that the actor has seen.

        Raises NotPossible (with what is allowed), Incomplete (with what is missing), Changed where `revision` is not
        the ticket's any more, or NoSuchTicket.
        """
        step = Step(verb, actor, now if happened_at is None else happened_at, **how)
        with self.database.begin() as connection:
            cases.lock_tickets(connection, [one for one in (ticket_id, step.other_id) if one is not None])
            row = self._ticket(connection, ticket_id)
            if revision is not None and revision != row.revision:
                raise Changed(f"ticket {ticket_id} has changed since you read it", row.revision)
            before = cases.ticket_of(connection, row)
            if had_gone_on(before, step):
                row, before = self._give_again(connection, row, before, step, now)
            walked = advance(before, step, now)
            self._check(connection, row, step)
            self._check_alone(connection, row, walked)
            self._take(connection, row, before, walked, step, now)

    def _give_again(
        self, connection: Connection, row: cases.Row, before: Ticket, step: Step, now: int
    ) -> tuple[cases.Row, Ticket]:
        """An acceptance had not expired after all: its end is taken back, and whoever is asked meanwhile hears so."""
        undo = Step(Verb.CORRECT, step.actor, now)
        self._take(connection, row, before, give_again(before), undo, now)
        row = self._ticket(connection, row.id)
        return row, cases.ticket_of(connection, row)

    def _check(self, connection: Connection, row: cases.Row, step: Step) -> None:
        """What only the record knows: codes among the choices in use, and the other ticket."""
        found = step.resolution
        coded = [("cause", found.cause), ("action", found.action), ("borne_by", found.borne_by)] if found else []
        if step.verb is Verb.CANCEL:
            coded.append(("false_alarm", step.reason))
        for name, code in coded:
            known = [choice.code for choice in cases.choices(connection, name)]
            if code not in known:
                field = "reason" if name == "false_alarm" else name
                raise Incomplete(f"{field} {code!r} is not among: {', '.join(known)}")
        if step.verb in (Verb.DISPATCH, Verb.ACCEPT) and row.device_id is not None:
            self._check_certified(connection, row, step)
        if step.other_id is not None and step.verb in BESIDE:
            other = self._ticket(connection, step.other_id)
            if step.verb is Verb.MERGE and other.status in ENDED:
                raise Incomplete(f"other_id: ticket {other.id} is {other.status}; merge into one that is open")
            if step.verb is Verb.MERGE and other.device_id != row.device_id:
                raise Incomplete(f"other_id: ticket {other.id} is of another machine; link them instead")

    def _check_alone(self, connection: Connection, row: cases.Row, walked: Advance) -> None:
        """Nothing has two open tickets: one that comes back (reopened, or its resolution taken back) finds no other."""
        comes_back = row.status in ENDED and walked.ticket.status not in ENDED
        if comes_back and (there := cases.reopenable(connection, row)):
            raise NotPossible(f"Ticket {there} is open for this fault already; link them instead", [Verb.LINK])

    def _check_certified(self, connection: Connection, row: cases.Row, step: Step) -> None:
        """P1: nobody works on a model without the training for it."""
        person_id = step.technician_id if step.technician_id is not None else row.technician_id
        profile = cases.profile_name(connection, row.device_id)
        if person_id is not None and not people.may_work_on(connection, person_id, profile, step.happened_at):
            raise Incomplete(f"technician_id: person {person_id} has no valid certificate for {profile} (P1)")

    def _take(
        self, connection: Connection, row: cases.Row, before: Ticket, walked: Advance, step: Step, now: int
    ) -> None:  # fmt: skip
        ticket_id, verb = row.id, step.verb
        turn = row.turn + (verb is Verb.REOPEN)
        if verb is Verb.PAUSE:
            cases.begin_pause(connection, ticket_id, turn, step, now, stops_clocks=walked.stops_clocks)
        elif before.status is Status.WAITING and walked.ticket.status is not Status.WAITING:
            cases.end_pause(connection, ticket_id, step.happened_at)
        step_id = cases.save_step(connection, before, walked, step, turn, now)
        self.paging.stepped(connection, before, walked.ticket, step, now)
        self._note_outcome(connection, ticket_id, walked, step)
        if step.other_id is not None and verb in BESIDE:
            kind = "merged" if verb is Verb.MERGE else "related"
            cases.link_tickets(connection, ticket_id, step.other_id, kind, step.actor, now)
            cases.note_change(connection, now, "ticket", None, step.other_id)
        if verb is Verb.MERGE and step.other_id is not None:
            self._hand_over_faults(connection, row, step, step.other_id, now)
        if verb is Verb.REOPEN:
            self._reopen(connection, row, now)
        else:
            self.reckon_clocks(connection, ticket_id, step.actor, now)
        if not walked.ticket.status.is_open and before.status.is_open:
            cases.end_faults(connection, ticket_id, now)
        if _repaired(before, walked.ticket):
            self._learn_anew(connection, ticket_id, now)
        write_audit(
            connection, now, step.actor, f"ticket_{verb}".replace("-", "_"), f"ticket:{ticket_id}",
            _audited(before), _audited(walked.ticket),
        )  # fmt: skip
        self._tell_of_step(connection, ticket_id, verb, step_id, now)
        given = walked.ticket.technician_id not in (None, before.technician_id)
        cases.note_change(connection, now, cases.ASKED if given else "ticket", row.device_id, ticket_id)

    def _note_outcome(self, connection: Connection, ticket_id: int, walked: Advance, step: Step) -> None:
        undone = walked.undoes is not None and walked.undoes.verb == Verb.RESOLVE
        if step.resolution is not None or undone or step.verb is Verb.REOPEN:
            cases.resolve(connection, ticket_id, step.resolution)
        elif step.verb is Verb.CANCEL:
            cases.judge(connection, ticket_id, Outcome.NUISANCE)
        elif step.verb is Verb.CLOSE and step.outcome is not None:
            cases.judge(connection, ticket_id, step.outcome)

    def _hand_over_faults(self, connection: Connection, row: cases.Row, step: Step, into: int, now: int) -> None:
        """A merged ticket gives its faults to the other, which matters no less than it did."""
        running = self._running(connection, row, step.happened_at)
        cases.give_faults(connection, row.id, into)
        other = self._ticket(connection, into)
        if row.device_id is not None:
            standing = self._standing(connection, row.device_id, now)
            self._raise(connection, other, None, Severity(row.severity), standing, now)
        self._carry_on(connection, running, into, step.actor, now)
        cases.note_change(connection, now, "ticket", other.device_id, into)

    def _running(self, connection: Connection, row: cases.Row, at: int) -> dict[str, Commitment]:
        """The clocks of a ticket that could still be kept then, by their kind; that may be before a breach which has
        been noted since."""
        return {
            clock.kind: clock
            for clock in cases.load_commitments(connection, row.id)
            if clock.turn == row.turn and clock.running and (clock.breached_at is None or clock.breached_at > at)
        }

    def _carry_on(
        self, connection: Connection, running: Mapping[str, Commitment], into: int, actor: str, now: int
    ) -> None:  # fmt: skip
        """What a customer was promised earlier is not promised later because two tickets are one."""
        turn = self._ticket(connection, into).turn
        for clock in cases.load_commitments(connection, into):
            was = running.get(clock.kind)
            if was is not None and clock.turn == turn and was.started_at < clock.started_at:
                cases.save_commitment(connection, replace(clock, started_at=was.started_at, warned_at=None))
        self.reckon_clocks(connection, into, actor, now)

    def _reopen(self, connection: Connection, row: cases.Row, now: int) -> None:
        """The fault is back, and so is what was promised for it: its clocks begin again, from now."""
        ticket = self._ticket(connection, row.id)
        if ticket.device_id is None:
            return
        standing = self._standing(connection, ticket.device_id, now)
        if standing.rental_id != ticket.rental_id:
            # Whoever had the machine then is not promised anything now.
            self._give_rental(connection, ticket, standing.rental_id, "desk", now)
            ticket = self._ticket(connection, row.id)
        self._promise(connection, ticket, Severity(ticket.severity), standing, now, anew=True)
        for what in (Happening.RECURRED, Happening.DISPATCHED):
            self._tell(connection, ticket, Event(what, f"reopened-{ticket.turn}"), now)

    def _give_rental(
        self, connection: Connection, row: cases.Row, rental_id: int | None, actor: str, now: int
    ) -> None:  # fmt: skip
        cases.give_rental(connection, row.id, rental_id)
        write_audit(connection, now, actor, "ticket_rental", f"ticket:{row.id}", {"rental_id": row.rental_id},
                    {"rental_id": rental_id})  # fmt: skip

    def _learn_anew(self, connection: Connection, ticket_id: int, now: int) -> None:
        """A repaired machine may behave in another way, and rightly so."""
        device_id = self._ticket(connection, ticket_id).device_id
        if device_id is not None:
            self._void(connection, cases.note_service(connection, device_id, self.triage.learnt, now), now)

    def _tell_of_step(self, connection: Connection, ticket_id: int, verb: Verb, step_id: int, now: int) -> None:
        row = self._ticket(connection, ticket_id)
        if verb is Verb.DISPATCH:
            self._tell(connection, row, Event(Happening.DISPATCHED, str(step_id)), now)
        elif verb is Verb.RESOLVE:
            self._tell_resolved(connection, row, now, now)
        elif verb in COURSE:
            self._tell_course(connection, row, COURSE[verb], now)

    def _tell_course(self, connection: Connection, row: cases.Row, what: Happening, now: int) -> None:
        """The customer hears of each turn of events once, and of another technician again."""
        if what is Happening.CLOSED and not self._is_to_be_asked(connection, row):
            return
        if what is Happening.ARRANGED and row.technician_id is None:
            return
        name = str(row.turn)
        if what is not Happening.CLOSED:
            # Another technician is news, and so is the same one who comes after all.
            name += f"-{row.technician_id}-{cases.given_back(connection, row)}"
        self._tell(connection, row, Event(what, name), now)

    def _is_to_be_asked(self, connection: Connection, row: cases.Row) -> bool:
        """Nobody is asked how a false alarm was dealt with, nor who has said it already."""
        judged = row.resolved_at is not None and row.outcome != Outcome.NUISANCE
        return judged and not satisfaction.answered(connection, row.id)

    # --- clocks run ---

    def calendar(self, name: str, timezone: str) -> Calendar:
        """The time that a clause counts, at a place."""
        return calendar_named("working" if name == "working" else "always", self.working_time, timezone)

    def reckon_clocks(self, connection: Connection, ticket_id: int, actor: str, now: int) -> None:
        """Reckon a ticket's clocks from its ledger, and note what that changed: a breach that was none is annulled, one
        that a step came after, though no tick had noted it, is one."""
        row = self._ticket(connection, ticket_id)
        ledger = cases.load_ledger(connection, row)
        for was in cases.load_commitments(connection, ticket_id):
            if was.turn != row.turn:
                continue
            found = reckon(was, ledger, self.calendar(was.calendar, was.timezone))
            if was.breached_at is not None and found.breached_at is None:
                cases.amend(connection, was, found, actor, now)
                cases.withdraw_notices(connection, ticket_id, notices.Kind.BREACH, notices.name_of(was))
            if found != was:
                cases.save_commitment(connection, replace(found, met_at=None))
            # A clock that is met late was breached first.
            self._cross_late(connection, found, now)
            if found.met_at is not None:
                cases.save_met(connection, found)
        cases.note_due(connection, ticket_id)

    def _cross_late(self, connection: Connection, found: Commitment, now: int) -> None:
        late = found.met_at is not None and found.met_at > found.due_at
        if (found.met_at is None or late) and found.voided_at is None and found.due_at <= now:
            self._cross(connection, replace(found, met_at=None), now)

    def tick(self, now: int) -> None:
        """What the time itself brings: tickets for what was held, the end of what waited, and the warnings and
        breaches until `now`, each once, each stamped with its own moment."""
        with self.database.connect() as connection:
            waiting = cases.waiting(connection, now)
        parts = [self.paging.tick, self.foreseeing.tick, self.shifts.tick]
        parts += [part for is_due, part in (
            (waiting.courses, self.books.tick), (waiting.sites, self._judge_sites), (waiting.holds, self._end_holds),
            (waiting.hired, self._take_hired), (waiting.waits, self._end_waits),
        ) if is_due]  # fmt: skip
        # What goes before may have set a clock running.
        parts += [self._cross_due, self.upkeep.tick, self.budget.tick]
        # Whatever is wrong with one part of it, the clocks go on.
        for part in parts:
            try:
                part(now)
            except Exception:
                log.exception("desk_tick_failed", part=part.__qualname__)

    def _take_hired(self, now: int) -> None:
        with self.database.connect() as connection:
            hired = cases.hired_since(connection, now, HOLDS_A_TICK)
        for ticket_id in hired:
            self._take_on_hire(ticket_id, now)

    def _cross_due(self, now: int) -> None:
        """Each in a transaction of its own, so that none waits for a ticket while it holds another (PostgreSQL)."""
        with self.database.connect() as connection:
            due = cases.crossing_commitments(connection, now, CROSSINGS_A_TICK)
        for commitment in due:
            with self.database.begin() as connection:
                self._cross(connection, commitment, now)

    def _end_waits(self, now: int) -> None:
        with self.database.connect() as connection:
            waited = cases.pauses_over(connection, now, HOLDS_A_TICK)
        for ticket_id in waited:
            self._end_waiting(ticket_id, now)

    def _end_waiting(self, ticket_id: int, now: int) -> None:
        """It was agreed to wait until then: it goes on by itself, from that moment."""
        with self.database.begin() as connection:
            cases.lock_tickets(connection, [ticket_id])
            row = self._ticket(connection, ticket_id)
            before, until_at = cases.ticket_of(connection, row), cases.pause_over(connection, ticket_id, now)
            if before.status is not Status.WAITING or until_at is None:
                return
            at = max(until_at, before.last_step_at)
            step = Step(Verb.RESUME, "desk", at)
            walked = Advance(replace(before, status=before.resumes_to or Status.OPEN, resumes_to=None, last_step_at=at))
            self._take(connection, row, before, walked, step, now)

    def withdraw(self, connection: Connection, row: cases.Row, at: int, now: int) -> None:
        """An acceptance led nowhere until then: the ticket is offered again, and its clocks run on as promised."""
        before = cases.ticket_of(connection, row)
        step = Step(Verb.DECLINE, DESK, min(now, max(at, before.last_step_at, now - MAX_BACKDATING_MS)))
        self._take(connection, row, before, advance(before, step, now), step, now)

    def _cross(self, connection: Connection, commitment: Commitment, now: int) -> None:
        found = dict(crossings(commitment, now))
        if not found:
            return
        noted = replace(
            commitment, warned_at=found.get(Crossing.WARNING, commitment.warned_at),
            breached_at=found.get(Crossing.BREACH, commitment.breached_at),
        )  # fmt: skip
        if not cases.note_crossing(connection, commitment, noted):
            return
        for what in found:
            cases.note_change(connection, now, what, None, commitment.ticket_id)
        # "15 minutes left" would be untrue when the breach has come already (we were away); that is told instead.
        happening = Happening.BREACHED if Crossing.BREACH in found else Happening.WARNED
        row = self._ticket(connection, commitment.ticket_id)
        self._tell(connection, row, notices.about(happening, commitment), now)

    # --- people are told ---

    def _tell_resolved(self, connection: Connection, row: cases.Row, now: int, next_try_at: int) -> None:
        name = f"{row.turn}-{cases.load_turns(connection, row.id)}"
        self._tell(connection, row, Event(Happening.RESOLVED, name), now, next_try_at)

    def _tell(
        self, connection: Connection, ticket: cases.Row, event: Event, now: int, next_try_at: int | None = None, *,
        opening: Opening | None = None,
    ) -> None:  # fmt: skip
        """Queue the notices of an event, in the transaction of what caused it. `ticket`: as it is now; `opening`: where
        it has just been opened."""
        if Severity(ticket.severity) is Severity.NOTE:
            return
        facts, customer = self.ticket_facts(connection, ticket, now, opening.clocks if opening else None)
        if event.what is Happening.ARRANGED and customer is not None:
            facts = replace(facts, arrives=self.dispatching.arrival(connection, ticket, now))
        dealt_with = event.what in (Happening.RESOLVED, Happening.CLOSED) and ticket.status in DEALT_WITH
        if dealt_with and customer is not None and ticket.outcome != Outcome.NUISANCE:
            satisfaction.ask(connection, ticket.id, customer.id, customer.lang, now)
        queued = notices.notices_for(
            event, facts, cases.load_people(connection), customer, now if next_try_at is None else next_try_at,
            self.addresses.room,
        )  # fmt: skip
        alerts = any(one.kind == notices.Kind.DISPATCH_ALERT for one in queued)
        if alerts and (opening.seeks if opening else self.paging.seeks(connection, ticket.id)):
            # People are asked one after the other (paging); operations as a whole hear of it all the same.
            queued = [one for one in queued if one.kind != notices.Kind.DISPATCH_ALERT or one.person_id is None]
        self.telling.tell(connection, queued, now)

    def ticket_facts(
        self, connection: Connection, ticket: cases.Row, now: int, clocks: Sequence[Commitment] | None = None
    ) -> tuple[Facts, notices.Customer | None]:  # fmt: skip
        """What notices say of a ticket, and who its customer is. `clocks`: its own, where they are known already."""
        clocks = cases.load_commitments(connection, ticket.id) if clocks is None else clocks
        known = cases.about(connection, ticket)
        base = self.addresses.public_url
        facts = Facts(
            ticket.id, ticket.device_id or "", ticket.kind, Severity(ticket.severity), ticket.opened_at,
            known.timezone or self.addresses.timezone, ticket.subject, ticket.evidence,
            self.profiles.get(known.profile), known.site or "", bool(known.remote), known.customer or "",
            tuple(clocks), now,
            ticket.technician_id, technician=known.technician or "", machines=self._machines(connection, ticket, now),
            ticket_url=f"{base}/tickets/{ticket.id}",
            machine_url=f"{base}/machines/{ticket.device_id}" if ticket.device_id else "",
            customer_url=(page := self._customer_url(known, ticket.id, now)),
            rating_url=f"{page}/how" if page and _is_judged(ticket) else "",
        )  # fmt: skip
        has_customer = known.customer_id is not None
        return facts, notices.Customer(known.customer_id, known.email, known.lang) if has_customer else None

    def _customer_url(self, known: cases.Row, ticket_id: int, now: int) -> str:
        signer = self.addresses.signer
        if known.customer_id is None or signer is None:
            return ""
        token = customer_token(signer, known.customer_id, known.link_epoch, now)
        return f"{self.addresses.public_url}/c/{token}/{ticket_id}"

    def _machines(self, connection: Connection, ticket: cases.Row, now: int) -> tuple[str, ...]:
        """Of a whole site's ticket: the machines that are silent."""
        if ticket.device_id is not None or ticket.site_id is None:
            return ()
        return tuple(row.device_id for row in cases.silent_at(connection, ticket.site_id, now)[1])


def _is_judged(ticket: cases.Row) -> bool:
    return ticket.status in DEALT_WITH and ticket.outcome != Outcome.NUISANCE


def _audited(ticket: Ticket) -> dict[str, object]:
    """What of a ticket a step changes; why, and with what, stands in the step itself."""
    return {"status": ticket.status, "technician_id": ticket.technician_id, "merged_into": ticket.merged_into}


def _repaired(before: Ticket, after: Ticket) -> bool:
    return before.status is Status.REPAIRING and after.status in (Status.RESOLVED, Status.CLOSED)


def _at_site(standing: Standing, sites: Mapping[int, tuple[int, int | None]]) -> Standing:
    live, ticket_id = sites.get(standing.site_id, (0, None)) if standing.site_id is not None else (0, None)
    return replace(standing, site_machines=live, site_ticket=ticket_id)


def _fault(finding: Finding, standing: Standing) -> Fault:
    facts = _facts(finding)
    return Fault(
        0, finding.kind, finding.subject,
        triage.severity_of(finding.kind, finding.severity, on_hire=standing.on_hire), finding.confidence,
        finding.occurred_at, channels=triage.channels_of(finding.kind, finding.subject, facts, standing.profile),
        state=finding.state, evidence=facts,
    )  # fmt: skip


def _reported(reported: Report, standing: Standing, now: int) -> Fault:
    severity = triage.severity_of(
        FaultKind.REPORTED, Severity.EMERGENCY if reported.stopped else None, on_hire=standing.on_hire
    )
    occurred_at = min(now, now if reported.occurred_at is None else reported.occurred_at)
    facts = {"text": reported.text, "rule": "reported/1", "confidence": 1.0, "origin": reported.origin}
    return Fault(0, FaultKind.REPORTED, "", severity, 1.0, occurred_at, evidence=facts)


def _deserved(lead: Fault, placing: Placing) -> dict[str, object]:
    """A ticket's evidence: that of the fault that leads it, and why it deserves one where that is not plain."""
    if placing.why not in (Why.PERSISTED, Why.COMBINED):
        return dict(lead.evidence)
    sure = {"combined_confidence": round(placing.confidence, 3)} if placing.why is Why.COMBINED else {}
    return {**lead.evidence, "deserved": placing.why, **sure}


def _facts(finding: Finding) -> dict[str, object]:
    """What a fault keeps of its finding: the evidence, by which rule in which version, and how sure that was."""
    state = {"state": finding.state} if finding.state else {}
    return {**finding.evidence, **state, "rule": finding.rule, "confidence": finding.confidence}
