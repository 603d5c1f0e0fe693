"""Anything that can happen to tickets, in any order: what must hold of faults, tickets, clocks and notices afterwards.

Invariants 2, 3 and 4: one open fault of a kind on a machine and one open ticket for it; each promise with at most one
stop, one breach or one void, a breach stamped when it was due and never early; each notice queued once.
"""

from contextlib import suppress

import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from monitor.desk.commitments import Commitment, reckon
from monitor.desk.tickets import CUSTOMER_REASONS, WAIT_REASONS, Incomplete, NotPossible, Resolution, Status, Verb
from monitor.engine.desk import Changed, NoSuchTicket, Report
from monitor.store import cases, schema
from tests.office import T0, Office

MINUTE, HOUR = 60_000, 3_600_000
MACHINES = ("GX-1", "GX-2", "GX-3")
FAULTS = st.sampled_from([
    ("startup_failure", "", {}), ("limit", "coolant_temp_c", {}), ("limit", "battery_voltage_v", {}),
    ("fault_code", "P1", {"spn": 168}), ("weak_battery", "battery_voltage_v", {}), ("trend", "coolant_temp_c", {}),
    ("silent", "", {}),
])  # fmt: skip


class Life(RuleBasedStateMachine):
    """A company with three machines at one site, all on hire, and whatever befalls them."""

    def __init__(self) -> None:
        super().__init__()
        self.office = Office([("Quarry", 3)])

    def teardown(self) -> None:
        self.office.close()

    def one_ticket(self, number: int) -> int | None:
        tickets = self.office.rows(schema.ticket)
        return tickets[number % len(tickets)].id if tickets else None

    # --- what happens ---

    @rule(fault=FAULTS, device=st.sampled_from(MACHINES), confidence=st.sampled_from([0.5, 1.0, 1.0]))
    def a_fault_is_found(self, fault: tuple[str, str, dict[str, int]], device: str, confidence: float) -> None:
        kind, subject, facts = fault
        self.office.finds(kind, subject, device=device, confidence=confidence, **facts)

    @rule(fault=FAULTS, device=st.sampled_from(MACHINES))
    def a_fault_clears(self, fault: tuple[str, str, dict[str, int]], device: str) -> None:
        self.office.clears(fault[0], fault[1], device)

    @rule(device=st.sampled_from(MACHINES), stopped=st.booleans())
    def somebody_reports(self, device: str, stopped: bool) -> None:
        self.office.desk.report(Report(device, "It smokes", "phone", "Mr Li", stopped), "test", self.office.now)

    @rule(minutes=st.sampled_from([1, 7, 20, 61, 250]))
    def time_passes(self, minutes: int) -> None:
        self.office.forward(minutes * 60, every_s=minutes * 20)

    @rule()
    def the_service_restarts(self) -> None:
        self.office.open()

    @rule(device=st.sampled_from(MACHINES), hours=st.integers(1, 5))
    def maintenance_is_declared(self, device: str, hours: int) -> None:
        now = self.office.now
        with self.office.database.begin() as connection:
            connection.execute(sa.insert(schema.maintenance_window).values(
                device_id=device, what="maintenance", starts_at=now, ends_at=now + hours * HOUR, declared_by="test",
                declared_at=now,
            ))  # fmt: skip

    @precondition(lambda self: self.office.rows(schema.ticket))
    @rule(
        number=st.integers(0, 30), verb=st.sampled_from(Verb), back=st.sampled_from([0, 0, 5, 45, 600]),
        reason=st.sampled_from([*WAIT_REASONS, "sensor_wrong", "moon", ""]), note=st.sampled_from(["", "Starter"]),
        technician_id=st.sampled_from([None, 1]), until=st.sampled_from([None, 30]), other=st.integers(0, 30),
        revision=st.sampled_from([None, None, 0]),
    )  # fmt: skip
    def somebody_acts(
        self, number: int, verb: Verb, back: int, reason: str, note: str, technician_id: int | None, until: int | None,
        other: int, revision: int | None,
    ) -> None:  # fmt: skip
        now = self.office.now
        ticket_id = self.one_ticket(number)
        assert ticket_id is not None
        before = self.office.rows(schema.ticket, id=ticket_id)[0]
        try:
            self.office.desk.act(
                ticket_id, verb, "test", now, happened_at=now - back * MINUTE, technician_id=technician_id, note=note,
                reason=reason, until_at=None if until is None else now + until * MINUTE,
                other_id=self.one_ticket(other), revision=revision,
                resolution=Resolution("battery", "repaired", "wear") if note else None,
            )  # fmt: skip
        except (NotPossible, Incomplete, Changed, NoSuchTicket):
            # What is refused changes nothing.
            assert self.office.rows(schema.ticket, id=ticket_id)[0] == before
        else:
            assert self.office.rows(schema.ticket, id=ticket_id)[0].revision == before.revision + 1

    # --- what must hold ---

    @invariant()
    def faults_and_tickets_hold(self) -> None:
        self.office.check()
        for ticket in self.office.rows(schema.ticket):
            waits = [row for row in self.office.rows(schema.pause, ticket_id=ticket.id) if row.to_at is None]
            assert len(waits) == (ticket.status == Status.WAITING)

    @invariant()
    def clocks_hold(self) -> None:
        self.office.desk.tick(self.office.now)
        now, desk = self.office.now, self.office.desk
        for ticket in self.office.rows(schema.ticket):
            with self.office.database.connect() as connection:
                clocks, ledger = cases.load_commitments(connection, ticket.id), cases.load_ledger(connection, ticket)
            ended = not Status(ticket.status).is_open
            for clock in clocks:
                self.one_clock_holds(clock, now)
                assert not (ended and clock.running and clock.breached_at is None), "a promise outlives its ticket"
                if clock.turn == ticket.turn:
                    calendar = desk.calendar(clock.calendar, clock.timezone)
                    assert reckon(clock, ledger, calendar) == clock, "a clock says what its ledger does not"
            waits = any(one.to_at is None and one.reason in CUSTOMER_REASONS for one in ledger.pauses)
            assert waits or all(clock.paused_since is None for clock in clocks)

    def one_clock_holds(self, clock: Commitment, now: int) -> None:
        assert clock.met_at is None or clock.voided_at is None
        assert clock.breached_at in (None, clock.due_at)
        assert clock.breached_at is None or clock.breached_at <= now, "broken before it was due"
        if clock.running and clock.paused_since is None and clock.due_at <= now:
            assert clock.breached_at == clock.due_at, "broken, and nobody noted it"
        if clock.met_at is not None and clock.met_at <= clock.due_at:
            assert clock.breached_at is None, "met in time, and called broken"

    @invariant()
    def notices_hold(self) -> None:
        notices = self.office.rows(schema.notice)
        assert len({row.cause for row in notices}) == len(notices)
        amended = self.office.rows(schema.amendment)
        assert all(one.met_at is None or one.met_at <= one.due_at for one in amended)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)


def test_a_lost_update_is_refused_and_says_what_stands_now() -> None:
    office = Office()
    office.finds("limit", "coolant_temp_c")
    office.desk.act(1, Verb.VERIFY, "person:1", T0, revision=0)
    with suppress(Changed):
        office.desk.act(1, Verb.CANCEL, "person:2", T0, reason="other", revision=0)
    assert office.rows(schema.ticket)[0].status == "verified"
    office.close()
