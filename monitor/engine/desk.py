"""The desk: opens and clears faults, walks tickets, notes what their clocks run into. Each in one transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk import dispatch, escalation, notices, triage
from monitor.desk.commitments import Commitment, Crossing, Standard, crossings, promised, reckon
from monitor.desk.notices import Event, Facts, Happening
from monitor.desk.tickets import (
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
)
from monitor.desk.triage import Fault, Placing, Policy, Standing, Why
from monitor.desk.working_time import Calendar, calendar_named
from monitor.desk.working_time import Policy as WorkingTime
from monitor.desk.working_time import shipped_policy as shipped_working_time
from monitor.detect import Finding
from monitor.devices import DEFAULT_SEVERITY, FaultKind, Profile, Severity
from monitor.engine import diagnosis
from monitor.engine.dispatching import Dispatching
from monitor.engine.foreseeing import Foreseeing
from monitor.engine.paging import Paging
from monitor.engine.shifts import Shifts
from monitor.engine.telling import Telling
from monitor.links import Signer, customer_token
from monitor.store import cases, people, schema
from monitor.store.database import Database
from monitor.store.registry import write_audit

CROSSINGS_A_TICK = 1_000
HOLDS_A_TICK = 200
TOLD_TWICE_MS = 10 * 60_000
"""The same words within this time are the same report, sent once more."""
BESIDE = (Verb.MERGE, Verb.LINK)
"""Steps that concern another ticket too."""
ENDED = (Status.RESOLVED, Status.CLOSED, Status.CANCELLED)
"""Statuses in which a ticket takes no fault in any more: what comes back is a ticket of its own."""


COURSE = {
    Verb.ACCEPT: Happening.ARRANGED, Verb.DEPART: Happening.ARRANGED, Verb.ARRIVE: Happening.ON_SITE,
    Verb.START_REPAIR: Happening.ON_SITE, Verb.CLOSE: Happening.CLOSED,
}  # fmt: skip
"""What a step means to the customer; skipped ones are told with the next."""


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
            row = _existing(cases.load_ticket(connection, known.ticket_id), known.ticket_id)
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
            row = _existing(cases.load_ticket(connection, merged), merged)
            if row.status == Status.OPEN:
                self._merge(connection, row, ticket_id, now)
        for fault_id, severity in placing.along:
            cases.give_ticket(connection, fault_id, ticket_id, severity)
        return ticket_id

    def _merge(self, connection: Connection, row: cases.Row, into: int, now: int) -> None:
        cases.merge_ticket(connection, row, into, now)
        self.paging.stop(connection, row.id, now)
        cases.note_change(connection, now, "ticket", row.device_id, row.id)

    def _open_ticket(self, connection: Connection, fault: Fault, placing: Placing, standing: Standing, now: int) -> int:
        lead, severity = placing.lead or fault, placing.ticket_severity
        if severity is Severity.NOTE:
            severity = fault.severity
        ticket_id = cases.insert_ticket(
            connection, device_id=standing.device_id, site_id=standing.site_id, rental_id=standing.rental_id,
            kind=lead.kind, subject=lead.subject, severity=severity, status=Status.OPEN,
            opened_at=now, occurred_at=lead.occurred_at, recurrences=0, evidence=_deserved(lead, placing),
            standard_version=self.standard.version,
        )  # fmt: skip
        self._link_return(connection, ticket_id, lead, standing, now)
        self._promise(connection, ticket_id, severity, standing, now)
        wait_ms = triage.alert_wait_ms(replace(lead, severity=severity), standing.profile, self.triage)
        self.paging.begin(connection, ticket_id, now + wait_ms)
        self._tell(connection, ticket_id, Event(Happening.OPENED), now, now + wait_ms)
        return ticket_id

    def _link_return(self, connection: Connection, ticket_id: int, lead: Fault, standing: Standing, now: int) -> None:
        """A fault that comes back soon after its ticket was resolved is a ticket anew (ADR 9), and names the other."""
        since = now - REOPEN_WITHIN_MS
        earlier = cases.ended_lately(connection, standing.device_id, lead.kind, lead.subject, since)
        if earlier is not None:
            cases.link_tickets(connection, ticket_id, earlier, "returned", "desk", now)

    def _promise(
        self, connection: Connection, ticket_id: int, severity: Severity, standing: Standing, now: int
    ) -> None:  # fmt: skip
        """Start the clocks of this severity that do not run yet in the ticket's present turn."""
        row = _existing(cases.load_ticket(connection, ticket_id), ticket_id)
        there = {clock.kind for clock in cases.load_commitments(connection, ticket_id) if clock.turn == row.turn}
        timezone = standing.timezone or self.addresses.timezone
        clocks = promised(
            self.standard, ticket_id, severity, lambda name: self.calendar(name, timezone), on_hire=standing.on_hire,
            remote=standing.remote, opened_at=now, timezone=timezone, turn=row.turn,
        )  # fmt: skip
        new = [clock for clock in clocks if clock.kind not in there]
        cases.insert_commitments(connection, new)
        if standing.remote:
            diagnosis.ask(connection, ticket_id, standing.device_id, now)
        if there and new:
            # What was done for the lesser fault may have kept a promise of the graver one already.
            self.reckon_clocks(connection, ticket_id, "desk", now)

    def _join(
        self, connection: Connection, ticket_id: int, fault: Fault, placing: Placing, standing: Standing, now: int
    ) -> bool:
        """A fault joins a ticket that is still open. False where that has ended meanwhile."""
        row = _existing(cases.load_ticket(connection, ticket_id), ticket_id)
        if row.status in ENDED:
            return False
        cases.note_return(connection, ticket_id, fault.id, standing.device_id, fault.kind, fault.subject)
        self._raise(connection, row, placing.lead, placing.ticket_severity, standing, now)
        # A customer who was told that all is well hears again; one who was about to be told is not.
        told = cases.withdraw_notices(connection, ticket_id, notices.Kind.FAULT_RESOLVED)
        if not told and row.cleared_at is not None:
            turn = cases.load_turns(connection, ticket_id) + 1
            self._tell(connection, ticket_id, Event(Happening.RECURRED, turn=turn), now)
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
        turn = cases.raise_ticket(connection, row, was, now, severity=severity, **named)
        cases.note_change(connection, now, "ticket", row.device_id, row.id)
        if severity is before:
            return
        self._promise(connection, row.id, severity, standing, now)
        # Who has not heard of the lesser fault yet hears of the graver one only, and the customer once.
        cases.withdraw_notices(connection, row.id, notices.Kind.DISPATCH_ALERT)
        cases.withdraw_notices(connection, row.id, notices.Kind.ROUTINE_OPENED)
        unheard = cases.withdraw_notices(connection, row.id, notices.Kind.FAULT_NOTICED) or not before.makes_bad
        what = Happening.RAISED_UNHEARD if unheard else Happening.RAISED
        self.paging.raised(connection, row.id, now)
        self._tell(connection, row.id, Event(what, turn=turn), now)

    def _clear(self, connection: Connection, finding: Finding, standing: Standing, now: int) -> None:
        fault = standing.open_fault(finding.kind, finding.subject)
        if fault is None:
            return
        ticket_id = cases.clear_fault(connection, fault.id, finding.occurred_at, now)
        cases.note_change(connection, now, "fault_cleared", finding.device_id, ticket_id)
        if ticket_id is not None and cases.mark_cleared(connection, ticket_id, now):
            row = _existing(cases.load_ticket(connection, ticket_id), ticket_id)
            self._tell_resolved(connection, ticket_id, now, now + self.triage.settle_ms(row.recurrences))

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

    def _end_holds(self, due: Sequence[tuple[str, int, int]], now: int) -> None:
        """Give their tickets to faults that were held for long enough: each machine in a transaction of its own, so
        that it waits for nobody but its own watch (PostgreSQL)."""
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

    def _judge_sites(self, falling: Sequence[int], silent: Sequence[int], now: int) -> None:
        """Open the ticket of a site that fell silent as a whole; take leave of one that is back."""
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
                self._merge(connection, _existing(cases.load_ticket(connection, row.ticket_id), row.ticket_id),
                            ticket_id, now)  # fmt: skip

    def _site_ticket(self, connection: Connection, site_id: int, found: triage.Outage, now: int) -> int:
        """The site's open ticket, or a new one."""
        there = cases.site_tickets(connection, [site_id]).get(site_id)
        if there is not None:
            return int(there.id)
        evidence = {"scope": "site", "since_at": found.since, "lost": found.lost, "live": found.live,
                    "rule": f"triage/{self.triage.version}", "confidence": 1.0}  # fmt: skip
        ticket_id = cases.insert_ticket(
            connection, device_id=None, site_id=site_id, rental_id=None, kind=FaultKind.SILENT, subject="",
            severity=DEFAULT_SEVERITY[FaultKind.SILENT], status=Status.OPEN, opened_at=now, occurred_at=found.since,
            recurrences=0, evidence=evidence, standard_version=self.standard.version,
        )  # fmt: skip
        self._tell(connection, ticket_id, Event(Happening.OPENED), now)
        return ticket_id

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

        Answers the ticket. Raises LookupError where there is no such machine.
        """
        with self.database.begin() as connection:
            standings = cases.load_standings(connection, [reported.device_id], self.profiles, now)
            if reported.device_id not in standings:
                raise LookupError(f"there is no machine {reported.device_id}")
            # Who takes the trouble to tell us is not put off by a window that was declared.
            standing = replace(standings[reported.device_id], window_until=None)
            fault = _reported(reported, standing, now)
            ticket_id = self._reported_before(connection, fault, standing, now)
            if ticket_id is None:
                ticket_id = self._report_anew(connection, fault, standing, now)
            row = _existing(cases.load_ticket(connection, ticket_id), ticket_id)
            cases.note_report(connection, row, reported.origin, reported.by)
            self._promise_if_hired_since(connection, row, standing, now)
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
        row = _existing(cases.load_ticket(connection, known.ticket_id), known.ticket_id)
        if row.status in ENDED:
            self._void(connection, cases.forget_faults(connection, {standing.device_id: [known.kind]}, now), now)
            return None
        self._strengthen(connection, known, fault, standing, now)
        return int(row.id)

    def _promise_if_hired_since(self, connection: Connection, row: cases.Row, standing: Standing, now: int) -> None:
        """The machine went on hire while this ticket was open: from what people now say of it, it has its clocks."""
        if row.rental_id is None and standing.rental_id is not None:
            cases.give_rental(connection, row.id, standing.rental_id)
            self._promise(connection, row.id, Severity(row.severity), standing, now)

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
            row = _existing(cases.load_ticket(connection, ticket_id), ticket_id)
            if revision is not None and revision != row.revision:
                raise Changed(f"ticket {ticket_id} has changed since you read it", row.revision)
            before = cases.ticket_of(connection, row)
            walked = advance(before, step, now)
            self._check(connection, row, step)
            self._take(connection, row, before, walked, step, now)

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
            other = _existing(cases.load_ticket(connection, step.other_id), step.other_id)
            if step.verb is Verb.MERGE and other.status in ENDED:
                raise Incomplete(f"other_id: ticket {other.id} is {other.status}; merge into one that is open")
            if step.verb is Verb.MERGE and other.device_id != row.device_id:
                raise Incomplete(f"other_id: ticket {other.id} is of another machine; link them instead")
        if step.verb is Verb.REOPEN and (there := cases.reopenable(connection, row)):
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
            self._hand_over_faults(connection, row, step.other_id, now)
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
        cases.note_change(connection, now, "ticket", row.device_id, ticket_id)

    def _note_outcome(self, connection: Connection, ticket_id: int, walked: Advance, step: Step) -> None:
        undone = walked.undoes is not None and walked.undoes.verb == Verb.RESOLVE
        if step.resolution is not None or undone or step.verb is Verb.REOPEN:
            cases.resolve(connection, ticket_id, step.resolution)
        elif step.verb is Verb.CANCEL:
            cases.judge(connection, ticket_id, Outcome.NUISANCE)
        elif step.verb is Verb.CLOSE and step.outcome is not None:
            cases.judge(connection, ticket_id, step.outcome)

    def _hand_over_faults(self, connection: Connection, row: cases.Row, into: int, now: int) -> None:
        """A merged ticket gives its faults to the other, which matters no less than it did."""
        cases.give_faults(connection, row.id, into)
        other = _existing(cases.load_ticket(connection, into), into)
        if row.device_id is not None:
            standing = self._standing(connection, row.device_id, now)
            self._raise(connection, other, None, Severity(row.severity), standing, now)
        cases.note_change(connection, now, "ticket", other.device_id, into)

    def _reopen(self, connection: Connection, row: cases.Row, now: int) -> None:
        """The fault is back, and so is what was promised for it: its clocks begin again, from now."""
        ticket = _existing(cases.load_ticket(connection, row.id), row.id)
        if ticket.device_id is None:
            return
        standing = self._standing(connection, ticket.device_id, now)
        self._promise(connection, ticket.id, Severity(ticket.severity), standing, now)
        self._tell(connection, ticket.id, Event(Happening.RECURRED, turn=ticket.turn), now)
        self._tell(connection, ticket.id, Event(Happening.DISPATCHED, turn=ticket.turn), now)

    def _learn_anew(self, connection: Connection, ticket_id: int, now: int) -> None:
        """A repaired machine may behave in another way, and rightly so."""
        device_id = _existing(cases.load_ticket(connection, ticket_id), ticket_id).device_id
        if device_id is not None:
            self._void(connection, cases.note_service(connection, device_id, self.triage.learnt, now), now)

    def _tell_of_step(self, connection: Connection, ticket_id: int, verb: Verb, step_id: int, now: int) -> None:
        if verb is Verb.DISPATCH:
            self._tell(connection, ticket_id, Event(Happening.DISPATCHED, turn=step_id), now)
        elif verb is Verb.RESOLVE:
            self._tell_resolved(connection, ticket_id, now, now)
        elif verb in COURSE:
            self._tell_course(connection, ticket_id, COURSE[verb], now)

    def _tell_course(self, connection: Connection, ticket_id: int, what: Happening, now: int) -> None:
        """The customer hears of each turn of events once, and of another technician again."""
        row = _existing(cases.load_ticket(connection, ticket_id), ticket_id)
        if what is Happening.CLOSED and row.resolved_at is None:
            return
        who = row.technician_id if what is Happening.ARRANGED else None
        if what is Happening.ARRANGED and who is None:
            return
        self._tell(connection, ticket_id, Event(what, turn=row.turn, who=who), now)

    # --- clocks run ---

    def calendar(self, name: str, timezone: str) -> Calendar:
        """The time that a clause counts, at a place."""
        return calendar_named("working" if name == "working" else "always", self.working_time, timezone)

    def reckon_clocks(self, connection: Connection, ticket_id: int, actor: str, now: int) -> None:
        """Reckon a ticket's clocks from its ledger, and note what that changed: a breach that was none is annulled, one
        that a step came after, though no tick had noted it, is one."""
        row = _existing(cases.load_ticket(connection, ticket_id), ticket_id)
        ledger = cases.load_ledger(connection, row)
        for was in cases.load_commitments(connection, ticket_id):
            if was.turn != row.turn:
                continue
            found = reckon(was, ledger, self.calendar(was.calendar, was.timezone))
            if was.breached_at is not None and found.breached_at is None:
                cases.amend(connection, was, found, actor, now)
                cases.withdraw_notices(connection, ticket_id, notices.Kind.BREACH)
            if found != was:
                cases.save_commitment(connection, replace(found, met_at=None))
            # A clock that is met late was breached first.
            self._cross_late(connection, found, now)
            if found.met_at is not None:
                cases.save_met(connection, found)

    def _cross_late(self, connection: Connection, found: Commitment, now: int) -> None:
        late = found.met_at is not None and found.met_at > found.due_at
        if (found.met_at is None or late) and found.voided_at is None and found.due_at <= now:
            self._cross(connection, replace(found, met_at=None), now)

    def tick(self, now: int) -> None:
        """What the time itself brings: tickets for what was held, the end of what waited, and the warnings and
        breaches until `now`, each once, each stamped with its own moment."""
        with self.database.connect() as connection:
            falling, silent = cases.falling_sites(connection, now), list(cases.site_tickets(connection))
            held = cases.due_faults(connection, now, HOLDS_A_TICK)
            waited = cases.pauses_over(connection, now, HOLDS_A_TICK)
            due = cases.crossing_commitments(connection, now, CROSSINGS_A_TICK)
        self.paging.tick(now)
        self.foreseeing.tick(now)
        self.shifts.tick(now)
        self._judge_sites(falling, silent, now)
        self._end_holds(held, now)
        for ticket_id, until_at in waited:
            self._end_waiting(ticket_id, until_at, now)
        if not due and not waited:
            return
        with self.database.begin() as connection:
            for commitment in cases.crossing_commitments(connection, now, CROSSINGS_A_TICK):
                self._cross(connection, commitment, now)

    def _end_waiting(self, ticket_id: int, until_at: int, now: int) -> None:
        """It was agreed to wait until then: it goes on by itself, from that moment."""
        with self.database.begin() as connection:
            row = _existing(cases.load_ticket(connection, ticket_id), ticket_id)
            before = cases.ticket_of(connection, row)
            if before.status is not Status.WAITING:
                return
            at = max(until_at, before.last_step_at)
            step = Step(Verb.RESUME, "desk", at)
            walked = Advance(replace(before, status=before.resumes_to or Status.OPEN, resumes_to=None, last_step_at=at))
            self._take(connection, row, before, walked, step, now)

    def withdraw(self, connection: Connection, row: cases.Row, at: int, now: int) -> None:
        """An acceptance led nowhere until then: the ticket is offered again, and its clocks run on as promised."""
        before = cases.ticket_of(connection, row)
        step = Step(Verb.DECLINE, "desk", min(now, max(at, before.last_step_at, now - MAX_BACKDATING_MS)))
        self._take(connection, row, before, advance(before, step, now), step, now)

    def _cross(self, connection: Connection, commitment: Commitment, now: int) -> None:
        found = dict(crossings(commitment, now))
        for what, moment in found.items():
            column = "warned_at" if what is Crossing.WARNING else "breached_at"
            if not cases.note_crossing(connection, commitment, column, moment):
                continue
            cases.note_change(connection, now, what, None, commitment.ticket_id)
            # "15 minutes left" would be untrue when the breach has come already (we were away); that is told instead.
            if what is Crossing.BREACH or Crossing.BREACH not in found:
                happening = Happening.BREACHED if what is Crossing.BREACH else Happening.WARNED
                event = Event(happening, commitment, warns=commitment.warns)
                self._tell(connection, commitment.ticket_id, event, now)

    # --- people are told ---

    def _tell_resolved(self, connection: Connection, ticket_id: int, now: int, next_try_at: int) -> None:
        turn = cases.load_turns(connection, ticket_id)
        self._tell(connection, ticket_id, Event(Happening.RESOLVED, turn=turn), now, next_try_at)

    def _tell(
        self, connection: Connection, ticket_id: int, event: Event, now: int, next_try_at: int | None = None
    ) -> None:
        """Queue the notices of an event, in the transaction of what caused it."""
        ticket = _existing(cases.load_ticket(connection, ticket_id), ticket_id)
        if Severity(ticket.severity) is Severity.NOTE:
            return
        facts, customer = self.ticket_facts(connection, ticket, now)
        if event.what is Happening.ARRANGED and customer is not None:
            facts = replace(facts, arrives=self.dispatching.arrival(connection, ticket, now))
        queued = notices.notices_for(
            event, facts, cases.load_people(connection), customer, now if next_try_at is None else next_try_at,
            self.addresses.room,
        )  # fmt: skip
        if any(one.kind == notices.Kind.DISPATCH_ALERT for one in queued) and self.paging.seeks(connection, ticket_id):
            # People are asked one after the other (paging); operations as a whole hear of it all the same.
            queued = [one for one in queued if one.kind != notices.Kind.DISPATCH_ALERT or one.person_id is None]
        self.telling.tell(connection, queued, now)

    def ticket_facts(
        self, connection: Connection, ticket: cases.Row, now: int
    ) -> tuple[Facts, notices.Customer | None]:  # fmt: skip
        """What notices say of a ticket, and who its customer is."""
        s = schema.site.c
        site = connection.execute(sa.select(s.name, s.remote, s.timezone).where(s.id == ticket.site_id)).first()
        p = schema.person.c
        technician = connection.execute(sa.select(p.name).where(p.id == ticket.technician_id)).scalar()
        customer = cases.load_customer(connection, ticket.rental_id)
        profile = cases.profile_name(connection, ticket.device_id)
        base = self.addresses.public_url
        facts = Facts(
            ticket.id, ticket.device_id or "", ticket.kind, Severity(ticket.severity), ticket.opened_at,
            site.timezone if site else self.addresses.timezone, ticket.subject, ticket.evidence,
            self.profiles.get(profile), site.name if site else "", bool(site and site.remote),
            customer.name if customer else "", tuple(cases.load_commitments(connection, ticket.id)), now,
            ticket.technician_id, technician=technician or "", machines=self._machines(connection, ticket, now),
            ticket_url=f"{base}/tickets/{ticket.id}",
            machine_url=f"{base}/machines/{ticket.device_id}" if ticket.device_id else "",
            customer_url=self._customer_url(customer, now),
        )  # fmt: skip
        return facts, notices.Customer(customer.id, customer.email, customer.lang) if customer else None

    def _customer_url(self, customer: cases.Row | None, now: int) -> str:
        signer = self.addresses.signer
        if customer is None or signer is None:
            return ""
        return f"{self.addresses.public_url}/c/{customer_token(signer, customer.id, customer.link_epoch, now)}"

    def _machines(self, connection: Connection, ticket: cases.Row, now: int) -> tuple[str, ...]:
        """Of a whole site's ticket: the machines that are silent."""
        if ticket.device_id is not None or ticket.site_id is None:
            return ()
        return tuple(row.device_id for row in cases.silent_at(connection, ticket.site_id, now)[1])


def _existing(row: cases.Row | None, ticket_id: int) -> cases.Row:
    if row is None:
        raise NoSuchTicket(f"there is no ticket {ticket_id}")
    return row


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
