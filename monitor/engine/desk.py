"""The desk: opens and clears faults, walks tickets, notes what their clocks run into. Each in one transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk import notices, triage
from monitor.desk.commitments import Commitment, Crossing, Standard, crossings, promised, stopped_by
from monitor.desk.notices import Event, Facts, Happening
from monitor.desk.tickets import Status, Step, Ticket, Verb, advance
from monitor.desk.triage import Fault, Placing, Policy, Standing, Why
from monitor.detect import Finding
from monitor.devices import DEFAULT_SEVERITY, FaultKind, Profile, Severity
from monitor.store import cases, schema
from monitor.store.database import Database

CROSSINGS_A_TICK = 1_000
HOLDS_A_TICK = 200
ENDED = (Status.RESOLVED, Status.CLOSED, Status.CANCELLED)
"""Statuses in which a ticket takes no fault in any more: what comes back is a ticket of its own."""


class NoSuchTicket(LookupError):
    """There is no ticket of this number."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where notices point to, and where operations as a whole is told (a webhook), if anywhere."""

    public_url: str
    timezone: str
    webhook: str = ""


class Desk:
    """Keeps tickets. Everything takes `now` (epoch ms UTC)."""

    def __init__(
        self, database: Database, standard: Standard, profiles: Mapping[str, Profile], addresses: Addresses,
        policy: Policy | None = None,
    ) -> None:  # fmt: skip
        self.database = database
        self.standard = standard
        self.triage = policy or triage.shipped_policy()
        self.profiles = profiles
        self.addresses = addresses

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
    ) -> None:  # fmt: skip
        """A fault that was held gets its ticket, if it deserves one now."""
        placing = triage.place(fault, standing, self.triage, now, persisted=persisted)
        ticket_id = self._ticket_for(connection, fault, placing, standing, now)
        if ticket_id is not None:
            cases.give_ticket(connection, fault.id, ticket_id, placing.severity)
            cases.note_change(connection, now, "fault_opened", standing.device_id, ticket_id)

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
        self._promise(connection, ticket_id, severity, standing, now)
        wait_ms = triage.alert_wait_ms(replace(lead, severity=severity), standing.profile, self.triage)
        self._tell(connection, ticket_id, Event(Happening.OPENED), now, now + wait_ms)
        return ticket_id

    def _promise(
        self, connection: Connection, ticket_id: int, severity: Severity, standing: Standing, now: int
    ) -> None:  # fmt: skip
        """Start the clocks of this severity that do not run yet."""
        there = {clock.kind for clock in cases.load_commitments(connection, ticket_id)}
        clocks = promised(
            self.standard, ticket_id, severity, on_hire=standing.on_hire, remote=standing.remote, opened_at=now
        )
        cases.insert_commitments(connection, [clock for clock in clocks if clock.kind not in there])

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
        unheard = cases.withdraw_notices(connection, row.id, notices.Kind.FAULT_NOTICED) or not before.makes_bad
        what = Happening.RAISED_UNHEARD if unheard else Happening.RAISED
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

    def _end_holds(self, due: Sequence[tuple[str, int]], now: int) -> None:
        """Give their tickets to faults that were held for long enough: each machine in a transaction of its own, so
        that it waits for nobody but its own watch (PostgreSQL)."""
        for device_id, fault_id in due:
            with self.database.begin() as connection:
                standing = self._standing(connection, device_id, now)
                fault = next((one for one in standing.faults if one.id == fault_id and one.held), None)
                if fault is not None:
                    self._promote(connection, fault, standing, now, persisted=True)

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
        machines, silent = cases.silent_at(connection, site_id)
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

    # --- people walk tickets ---

    def act(
        self, ticket_id: int, verb: Verb, actor: str, now: int,
        *, technician_id: int | None = None, happened_at: int | None = None, note: str = "",
    ) -> None:  # fmt: skip
        """Take one step with a ticket.

        Raises NotPossible (with what is allowed) or NoSuchTicket.
        """
        step = Step(verb, actor, now if happened_at is None else happened_at, technician_id, note)
        with self.database.begin() as connection:
            before = cases.ticket_of(connection, _existing(cases.load_ticket(connection, ticket_id), ticket_id))
            walked = advance(before, step, now)
            self._note_breaches(connection, ticket_id, step.happened_at, now)
            step_id = cases.save_step(connection, before, walked.ticket, step, now)
            cases.meet(connection, ticket_id, stopped_by(self.standard, walked.reached), step.happened_at)
            if cases.annul_breaches(connection, ticket_id, step, now):
                cases.withdraw_notices(connection, ticket_id, notices.Kind.BREACH)
            cases.withdraw(connection, ticket_id, stopped_by(self.standard, walked.withdrawn))
            if walked.voids_clocks:
                cases.void(connection, ticket_id, now)
                cases.end_faults(connection, ticket_id, now)
            if _repaired(before, walked.ticket):
                self._learn_anew(connection, ticket_id, now)
            self._tell_of_step(connection, ticket_id, verb, step_id, now)
            cases.note_change(connection, now, "ticket", None, ticket_id)

    def _learn_anew(self, connection: Connection, ticket_id: int, now: int) -> None:
        """A repaired machine may behave in another way, and rightly so."""
        device_id = _existing(cases.load_ticket(connection, ticket_id), ticket_id).device_id
        if device_id is not None:
            self._void(connection, cases.note_service(connection, device_id, self.triage.learnt, now), now)

    def _note_breaches(self, connection: Connection, ticket_id: int, until: int, now: int) -> None:
        """What was due before a step happened was breached, though the step came before the tick: a clock that the
        step stops or voids would not be looked at again."""
        for commitment in cases.load_commitments(connection, ticket_id):
            if commitment.due_at < until:
                self._cross(connection, commitment, now)

    def _tell_of_step(self, connection: Connection, ticket_id: int, verb: Verb, step_id: int, now: int) -> None:
        if verb is Verb.DISPATCH:
            self._tell(connection, ticket_id, Event(Happening.DISPATCHED, turn=step_id), now)
        elif verb is Verb.RESOLVE:
            self._tell_resolved(connection, ticket_id, now, now)

    # --- clocks run ---

    def tick(self, now: int) -> None:
        """What the time itself brings: tickets for what was held, and the warnings and breaches until `now`, each
        once, each stamped with its own moment."""
        with self.database.connect() as connection:
            falling, silent = cases.falling_sites(connection), list(cases.site_tickets(connection))
            held = cases.due_faults(connection, now, HOLDS_A_TICK)
            due = cases.crossing_commitments(connection, now, CROSSINGS_A_TICK)
        self._judge_sites(falling, silent, now)
        self._end_holds(held, now)
        if not due:
            return
        with self.database.begin() as connection:
            for commitment in cases.crossing_commitments(connection, now, CROSSINGS_A_TICK):
                self._cross(connection, commitment, now)

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
                warns = self.standard.warns(commitment.standard_id, commitment.kind)
                self._tell(connection, commitment.ticket_id, Event(happening, commitment, warns=warns), now)

    # --- people are told ---

    def _tell_resolved(self, connection: Connection, ticket_id: int, now: int, next_try_at: int) -> None:
        turn = cases.load_turns(connection, ticket_id)
        self._tell(connection, ticket_id, Event(Happening.RESOLVED, turn=turn), now, next_try_at)

    def _tell(
        self, connection: Connection, ticket_id: int, event: Event, now: int, next_try_at: int | None = None
    ) -> None:
        """Queue the notices of an event, in the transaction of what caused it."""
        ticket = _existing(cases.load_ticket(connection, ticket_id), ticket_id)
        if not Severity(ticket.severity).makes_bad:
            return
        facts, customer = self._facts(connection, ticket, now)
        room = self.addresses.webhook
        queued = notices.notices_for(
            event, facts, cases.load_people(connection), customer, now if next_try_at is None else next_try_at,
            notices.Recipient("room", "webhook", room, notices.DEFAULT_LANG) if room else None,
        )  # fmt: skip
        rows = [{**notice._asdict(), "status": "queued", "tries": 0, "queued_at": now, "last_error": ""}
                for notice in queued]  # fmt: skip
        cases.insert_notices(connection, rows)

    def _facts(self, connection: Connection, ticket: cases.Row, now: int) -> tuple[Facts, notices.Customer | None]:
        s = schema.site.c
        site = connection.execute(sa.select(s.name, s.remote, s.timezone).where(s.id == ticket.site_id)).first()
        customer = cases.load_customer(connection, ticket.rental_id)
        profile = cases.profile_name(connection, ticket.device_id)
        base = self.addresses.public_url
        facts = Facts(
            ticket.id, ticket.device_id or "", ticket.kind, Severity(ticket.severity), ticket.opened_at,
            site.timezone if site else self.addresses.timezone, ticket.subject, ticket.evidence,
            self.profiles.get(profile), site.name if site else "", bool(site and site.remote),
            customer.name if customer else "", tuple(cases.load_commitments(connection, ticket.id)), now,
            ticket.technician_id, f"{base}/tickets/{ticket.id}",
            f"{base}/machines/{ticket.device_id}" if ticket.device_id else "",
        )  # fmt: skip
        return facts, notices.Customer(customer.id, customer.email, customer.lang) if customer else None


def _existing(row: cases.Row | None, ticket_id: int) -> cases.Row:
    if row is None:
        raise NoSuchTicket(f"there is no ticket {ticket_id}")
    return row


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
