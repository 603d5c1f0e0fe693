"""A quarter of a company of 200 machines, seeded: what goes through the desk is cheap enough to go through it, the rest
are rows as the record keeps them. Everything happens in the order of time, and the ledger follows each of it."""

import heapq
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import sqlalchemy as sa

from monitor.desk.tickets import Incomplete, NotPossible, Resolution, Verb
from monitor.engine import satisfaction
from monitor.engine.satisfaction import Answer
from monitor.engine.spot_checking import SpotChecking
from monitor.store import schema
from monitor.store.people import Certified, People
from tests.office import T0, Office

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
ENDS = 1_767_196_800_000
"""Midnight of New Year 2026 in Shanghai: October (since the 9th), November and December are simulated."""
MORNING = ENDS + 3 * DAY + 6 * HOUR
"""06:00 on 4 January 2026, a Sunday on which China works: the first working day."""
RESOLUTION = Resolution("other", "repaired", "wear")


class Quarter(Office):
    """The company, and its quarter up to New Year. `happen` runs it."""

    def __init__(self, seed: int = 5, machines: int = 200, busy: float = 1, url: str = "sqlite://") -> None:
        super().__init__((("North", machines * 3 // 4), ("Far", machines // 4)), remote=("Far",), url=url)
        self.dice = random.Random(seed)
        self.checks = SpotChecking(self.database, "Asia/Shanghai")
        self.busy = busy
        self.gone: set[str] = set()
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        self.registry.add_person("Mei", "manager", "mei@example.com", phone="", lang="en", customer=None, now=T0)
        people = People(self.database, "test")
        people.certify(1, [Certified("diesel_generator", T0 - DAY, None)], T0)
        # Most of the fleet is older than the quarter that we see of it.
        for device in self.machines[: machines * 2 // 3]:
            since = T0 - self.dice.randrange(60, 200) * DAY
            self.change(schema.device, device, added_at=since, first_heard_at=since)
        self._plan()

    # --- time ---

    def at(self, moment: int, what: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._queue, (moment, self._number, what))

    def happen(self, until: int = ENDS + 3 * DAY) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.now, _, what = heapq.heappop(self._queue)
            what()
            self.desk._cross_due(self.now)
            self.desk.books.keep(self.now)
        self.now = until

    def moments(self, number: int, until: int = ENDS - DAY) -> Iterator[int]:
        return (self.dice.randrange(T0 + HOUR, until) for _ in range(round(number * self.busy)))

    # --- what is to happen ---

    def _plan(self) -> None:
        for moment in self.moments(100):
            self.at(moment, self._breaks)
        for moment in self.moments(40):
            self.at(moment, self._falls_silent)
        for moment in self.moments(60):
            self.at(moment, self._changes_hands)
        for moment in self.moments(110):
            self.at(moment, self._is_served)
        for moment in self.moments(6):
            self.at(moment, self._retires)
        for moment in self.moments(60):
            self.at(moment, self._is_checked)
        for day in range(90):
            self.at(T0 + day * DAY + HOUR, self._draws)
        for rental in self.rows(schema.rental):
            if self.dice.random() < 0.8:
                self._inspects(rental.device_id, "hand_over", rental.id, at=T0 - HOUR)

    def _machine(self) -> str:
        """One that is in the fleet."""
        return self.dice.choice([one for one in self.machines if one not in self.gone])

    # --- faults and tickets, through the desk ---

    def _breaks(self) -> None:
        device = self._machine()
        kind, subject, severity = self.dice.choice([
            ("limit", "coolant_temp_c", "urgent"), ("limit", "oil_pressure_bar", "urgent"),
            ("startup_failure", "", "emergency"), ("fault_code", "110/0", "emergency"),
        ])  # fmt: skip
        self.finds(kind, subject, device=device, severity=severity)
        rows = self.rows(schema.ticket, device_id=device, kind=kind, subject=subject)
        if rows and rows[-1].opened_at == self.now:
            self._handle(rows[-1].id, self.now)
        self.at(self.now + round(self.dice.uniform(0.5, 60) * HOUR), lambda: self.clears(kind, subject, device))

    def _handle(self, ticket_id: int, opened_at: int) -> None:
        """A course of a ticket: mostly in time; some late, waiting, written down late, given back, called off."""
        way, moment = self.dice.random(), opened_at
        if way < 0.08:
            self.at(opened_at + 20 * MINUTE, lambda: self._step(ticket_id, "cancel", reason="other"))
            return
        if way > 0.85:
            self.at(opened_at + 10 * MINUTE, lambda: self._step(ticket_id, "pause", reason="no_access",
                                                                until_at=opened_at + 30 * HOUR))  # fmt: skip
            moment += round(self.dice.uniform(0.5, 9) * HOUR)
            self.at(moment, lambda: self._step(ticket_id, "resume"))
        if self.dice.random() < 0.7:
            self.at(moment + 15 * MINUTE, lambda: self._step(ticket_id, "verify", note="looked at from afar"))
        quick = self.dice.random() < 0.75
        accepted_at = moment + round(self.dice.uniform(0.3, 0.9 if quick else 6) * HOUR)
        late_by = 3 * HOUR if self.dice.random() < 0.2 else 0
        self.at(accepted_at + late_by, lambda: self._step(ticket_id, "accept", happened_at=accepted_at,
                                                          technician_id=1))  # fmt: skip
        if self.dice.random() < 0.1:
            self.at(accepted_at + late_by + 10 * MINUTE, lambda: self._step(ticket_id, "decline", note="no way there"))
            self.at(accepted_at + late_by + 2 * HOUR, lambda: self._step(ticket_id, "accept", technician_id=1))
        begun_at = accepted_at + late_by + round(self.dice.uniform(0.2, 3) * HOUR)
        for wait, verb in ((0, "depart"), (0, "arrive"), (5 * MINUTE, "start-repair"), (2 * HOUR, "resolve")):
            begun_at += wait
            self.at(begun_at, lambda verb=verb: self._step(ticket_id, verb))  # type: ignore[misc]

    def _step(self, ticket_id: int, verb: str, **how: Any) -> None:
        """A step, where it is possible now: tickets end, and machines are served, behind our back."""
        if verb == "resolve":
            how["resolution"] = RESOLUTION
        with suppress(NotPossible, Incomplete):
            self.desk.act(ticket_id, Verb(verb), "test", self.now, **how)
            if verb == "resolve":
                self._is_asked_how_it_was(ticket_id)

    def _is_asked_how_it_was(self, ticket_id: int) -> None:
        """Two in three answer within some days; some of them have second thoughts."""
        mood = random.Random(ticket_id)
        at = self.now
        for likely in (0.66, 0.2):
            if mood.random() > likely:
                return
            at += round(mood.uniform(0.1, 40) * HOUR)
            self.at(at, partial(self._answers, ticket_id, satisfied=mood.random() < 0.8))

    def _answers(self, ticket_id: int, *, satisfied: bool) -> None:
        for row in self.rows(schema.satisfaction, ticket_id=ticket_id, replaced_at=None):
            said = Answer(ticket_id, row.customer_id, satisfied, "", "en")
            satisfaction.answer(self.database, said, f"customer:{row.customer_id}", self.now)

    # --- the rest, as rows ---

    def put(self, table: sa.Table, **values: Any) -> int:
        with self.database.begin() as connection:
            key = connection.execute(sa.insert(table).values(**values)).inserted_primary_key
        return int(key[0]) if key and isinstance(key[0], int) else 0

    def change(self, table: sa.Table, row_id: object, **values: Any) -> None:
        key = table.c.device_id if table is schema.device else table.c.id
        with self.database.begin() as connection:
            connection.execute(sa.update(table).where(key == row_id).values(**values))

    def _falls_silent(self) -> None:
        device = self._machine()
        if self.rows(schema.fault, device_id=device, kind="silent", cleared_at=None):
            return
        fault = self.put(
            schema.fault, device_id=device, kind="silent", severity="routine", opened_at=self.now,
            occurred_at=self.now - self.dice.randrange(10 * MINUTE), evidence={},
        )  # fmt: skip
        self.at(self.now + self.dice.randrange(HOUR, 4 * DAY),
                lambda: self.change(schema.fault, fault, cleared_at=self.now))  # fmt: skip

    def _inspects(self, device: str, kind: str, rental_id: int | None, *, at: int | None = None) -> int:
        moment = self.now if at is None else at
        return self.put(
            schema.inspection, kind=kind, device_id=device, rental_id=rental_id, checklist_version="test", items=[],
            passed=self.dice.random() < 0.95, inspector_id=1, signature="Tian", signed_at=moment, at=moment,
            recorded_at=moment,
        )  # fmt: skip

    def _changes_hands(self) -> None:
        """A machine comes back, is inspected or not, and goes to the next customer, by the gate or not."""
        running = [one for one in self.rows(schema.rental, ends_at=None) if one.starts_at < self.now]
        rental = self.dice.choice(running)
        if rental.device_id in self.gone:
            return
        self.change(schema.rental, rental.id, ends_at=self.now, returned_at=self.now)
        if self.dice.random() < 0.75:
            self.at(self.now + self.dice.randrange(HOUR, 3 * DAY),
                    partial(self._sees_back, rental))  # fmt: skip
        self.at(self.now + self.dice.randrange(4 * DAY, 9 * DAY), lambda: self._goes_out(rental.device_id))

    def _sees_back(self, rental: Any) -> None:
        self._inspects(rental.device_id, "return", rental.id)

    def _goes_out(self, device: str) -> None:
        if device in self.gone:
            return
        by_gate = self.dice.random() < 0.8
        inspection = self._inspects(device, "hand_over", None) if by_gate else 0
        rental = self.put(schema.rental, device_id=device, customer_id=1, starts_at=self.now)
        if by_gate and self.rows(schema.inspection, id=inspection)[0].passed:
            self.put(schema.hand_over, rental_id=rental, inspection_id=inspection, command_id="c", at=self.now,
                     actor="test", gate={})  # fmt: skip
            if self.dice.random() < 0.1:
                # Later it turns out that it was signed for another machine.
                voided = {"voided_by": "test", "void_reason": "another machine"}
                self.at(self.now + 20 * DAY, lambda: self.change(schema.inspection, inspection, voided_at=self.now,
                                                                 **voided))  # fmt: skip

    def _is_served(self) -> None:
        done_at = self.now - self.dice.randrange(5 * DAY)
        self.put(
            schema.work_order, kind="maintenance", device_id=self._machine(), plan="service", title_en="Service",
            title_zh="保养", reason="calendar", due_at=self.now, opened_at=done_at, opened_by="test", status="done",
            checklist=[], done_at=max(T0, done_at), done_by="test", recorded_at=self.now,
        )  # fmt: skip

    def _retires(self) -> None:
        device = self._machine()
        self.gone.add(device)
        self.change(schema.device, device, retired_at=self.now)

    def _draws(self) -> None:
        self.checks.tick(self.now)

    def _is_checked(self) -> None:
        """Somebody looks at one of the machines that were drawn for the spot check."""
        draws = self.rows(schema.spot_check_draw)
        if draws:
            self._inspects(self.dice.choice(draws[-1].machines), "spot_check", None)
