"""The desk: opens and clears faults, walks tickets, notes what their clocks run into. Each in one transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk import faults, notices
from monitor.desk.commitments import Commitment, Crossing, Standard, crossings, promised, stopped_by
from monitor.desk.faults import Opening, Standing
from monitor.desk.notices import Event, Facts, Happening
from monitor.desk.tickets import Status, Step, Verb, advance
from monitor.detect import Finding
from monitor.devices import Profile, Severity
from monitor.store import cases, schema
from monitor.store.database import Database

SETTLE_MS = 120_000
"""A fault that cleared by itself must stay away this long before its customer hears that all is well."""
CROSSINGS_A_TICK = 1_000
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
        self, database: Database, standard: Standard, profiles: Mapping[str, Profile], addresses: Addresses
    ) -> None:
        self.database = database
        self.standard = standard
        self.profiles = profiles
        self.addresses = addresses

    # --- findings become faults and tickets ---

    def record(self, connection: Connection, findings: Sequence[Finding], now: int) -> None:
        """Open and clear what the detectors found, within the transaction that stores what they found it in."""
        for finding in findings:
            standing = cases.load_standing(connection, finding.device_id, now)
            if finding.opened:
                self._open(connection, finding, standing, now)
            else:
                self._clear(connection, finding, standing, now)

    def _open(self, connection: Connection, finding: Finding, standing: Standing, now: int) -> None:
        opening = faults.opening(finding.kind, finding.subject, finding.severity, standing)
        if opening is None:
            return
        ticket_id = opening.joins_ticket
        # Between two statements somebody may have ended the ticket that the fault was to join (PostgreSQL).
        if opening.opens_ticket or (ticket_id is not None and not self._rejoin(connection, ticket_id, finding, now)):
            ticket_id = self._open_ticket(connection, finding, standing, opening, now)
        cases.insert_fault(
            connection, device_id=finding.device_id, kind=finding.kind, subject=finding.subject,
            severity=opening.severity, opened_at=now, occurred_at=finding.occurred_at,
            evidence=_facts(finding), ticket_id=ticket_id,
        )  # fmt: skip
        cases.note_change(connection, now, "fault_opened", finding.device_id, ticket_id)

    def _open_ticket(
        self, connection: Connection, finding: Finding, standing: Standing, opening: Opening, now: int
    ) -> int:
        ticket_id = cases.insert_ticket(
            connection, device_id=finding.device_id, site_id=standing.site_id, rental_id=standing.rental_id,
            kind=finding.kind, subject=finding.subject, severity=opening.severity, status=Status.OPEN,
            opened_at=now, occurred_at=finding.occurred_at, recurrences=0, evidence=_facts(finding),
            standard_version=self.standard.version,
        )  # fmt: skip
        clocks = promised(
            self.standard, ticket_id, opening.severity,
            on_hire=standing.on_hire, remote=standing.remote, opened_at=now,
        )  # fmt: skip
        cases.insert_commitments(connection, clocks)
        self._tell(connection, ticket_id, Event(Happening.OPENED), now)
        return ticket_id

    def _rejoin(self, connection: Connection, ticket_id: int, finding: Finding, now: int) -> bool:
        """A fault joins a ticket that is still open; a customer who was told that all is well hears again.

        False where the ticket has ended meanwhile.
        """
        row = _existing(cases.load_ticket(connection, ticket_id), ticket_id)
        if row.status in ENDED:
            return False
        if (row.kind, row.subject) != (finding.kind, finding.subject):
            return True
        cases.mark_recurred(connection, ticket_id)
        told = cases.withdraw_notices(connection, ticket_id, notices.Kind.FAULT_RESOLVED)
        if not told and row.cleared_at is not None:
            self._tell(connection, ticket_id, Event(Happening.RECURRED, turn=row.recurrences + 1), now)
        return True

    def _clear(self, connection: Connection, finding: Finding, standing: Standing, now: int) -> None:
        fault_id = standing.open_faults.get((finding.kind, finding.subject))
        if fault_id is None:
            return
        ticket_id = cases.clear_fault(connection, fault_id, finding.occurred_at, now)
        cases.note_change(connection, now, "fault_cleared", finding.device_id, ticket_id)
        if ticket_id is not None and cases.mark_cleared(connection, ticket_id, now):
            self._tell_resolved(connection, ticket_id, now, now + SETTLE_MS)

    def forget(self, connection: Connection, device_ids: Collection[str], now: int) -> None:
        """Detectors begin anew on these machines (another version, a machine that came back): what they had found is
        cleared, and found again if it is still there. Nobody is told that all is well."""
        if not device_ids:
            return
        for fault in cases.forget_faults(connection, device_ids, now):
            if fault.ticket_id is not None:
                cases.mark_cleared(connection, fault.ticket_id, now)
            cases.note_change(connection, now, "fault_cleared", fault.device_id, fault.ticket_id)

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
            self._tell_of_step(connection, ticket_id, verb, step_id, now)
            cases.note_change(connection, now, "ticket", None, ticket_id)

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
        """Note the warnings and breaches until `now`: each once, each stamped with its own moment."""
        with self.database.connect() as connection:
            due = cases.crossing_commitments(connection, now, CROSSINGS_A_TICK)
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
        turn = cases.load_recurrences(connection, ticket_id)
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
            ticket.technician_id, f"{base}/tickets/{ticket.id}", f"{base}/machines/{ticket.device_id}",
        )  # fmt: skip
        return facts, notices.Customer(customer.id, customer.email, customer.lang) if customer else None


def _existing(row: cases.Row | None, ticket_id: int) -> cases.Row:
    if row is None:
        raise NoSuchTicket(f"there is no ticket {ticket_id}")
    return row


def _facts(finding: Finding) -> dict[str, object]:
    """What a fault keeps of its finding: the evidence, and by which rule in which version."""
    return {**finding.evidence, "rule": finding.rule}
