"""Upkeep: opens a work order when a machine's maintenance comes due, and says every day what is overdue (E4).

What is due follows from plans, meters, orders and faults (monitor/fleet/maintenance.py); it is kept beside them, and
reckoned anew when its time comes or something happened. So a tick after a crash finds what the one before would have.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from monitor.desk import notices
from monitor.desk.notices import Kind
from monitor.devices import Severity
from monitor.fleet.maintenance import (
    DAY_MS,
    SERVICE,
    Anchor,
    Course,
    Doubt,
    Plan,
    Policy,
    Reading,
    State,
    based,
    completed,
    doubt,
    forecast,
    plans_of,
    read_on,
    shipped_policy,
)
from monitor.store import cases, people
from monitor.store import maintenance as store
from monitor.store.registry import Conflict, Refused, refuse_stale, write_audit, write_audits

if TYPE_CHECKING:
    from monitor.engine.desk import Desk

PACE_MS = 10 * 60_000
"""So often it is looked for what nothing marks: trends that began or ended, machines that were retired."""
MACHINES_A_TICK = 100
"""So many machines are reckoned in one go, some 20 ms; what is left comes with the next tick, a second later."""
LOOKED_BACK = 1000
BACKDATED_MS = 31 * DAY_MS
"""What was done longer ago than that is no work order any more, but history."""
OVERDUE_NAMED = 200
SOON_MS = DAY_MS
"""Who is given an order that is due within this time hears of it at once; else with the day's message."""
RESULTS = ("ok", "not_ok", "not_applicable")
DOUBTS = {
    Doubt.BACK: "lies below what the meter showed before; say replaced where there is another meter",
    Doubt.FAST: "shows more hours than have passed; say replaced where there is another meter",
}


@dataclass(frozen=True, slots=True)
class Done:
    """What was done with a work order. `results`: {code, result, note} of each thing of its checklist."""

    done_at: int
    results: Sequence[Mapping[str, str]] = ()
    parts: Sequence[str] = ()
    note: str = ""
    meter_hours: float | None = None
    replaced: bool = False
    """The meter was replaced: `meter_hours` is what the new one shows."""


class Upkeep:
    """Keeps what is due and the work orders of it. Everything takes `now` (epoch ms UTC)."""

    def __init__(self, desk: "Desk", policy: Policy | None = None) -> None:
        self.desk = desk
        self.policy = policy or shipped_policy()
        self._zone = ZoneInfo(desk.addresses.timezone)
        # The next tick that looks for everything, and what was told: a restart looks it up in the outbox.
        self._last, self._next_at, self._told = 0, 0, ""
        self._stay_id = 0
        """Machines that were known by this entry of where they stand are no news."""

    # --- time passes ---

    def tick(self, now: int) -> None:
        """Reckon what has to be, open the orders that it asks for, and tell what is overdue."""
        everything = not self._last <= now < self._next_at
        with self.desk.database.connect() as connection:
            machines, stay_id = self._to_look_at(connection, now, everything=everything)
        if machines:
            with self.desk.database.begin() as connection:
                self.reckon(connection, machines, now)
        self._stay_id = stay_id
        if not everything or len(machines) >= MACHINES_A_TICK:
            return
        self._tell_overdue(now)
        with self.desk.database.begin() as connection:
            store.forget_readings(connection, now)
        self._last, self._next_at = now, min(now + PACE_MS, self._next_moment(now))

    def _to_look_at(self, connection: Connection, now: int, *, everything: bool) -> tuple[list[str], int]:
        """Whose maintenance is to be reckoned anew, new machines first, and how far those have been looked for then."""
        news, found, stay_id = store.news(connection, now), dict[str, None](), self._stay_id
        if everything:
            # One that began to be written earlier may have come later.
            stay_id = max(0, stay_id - LOOKED_BACK)
        if news.stay_id > stay_id:
            new = store.machines_since(connection, stay_id, MACHINES_A_TICK)
            found = dict.fromkeys(device_id for _, device_id in new)
            stay_id = new[-1][0] if len(new) == MACHINES_A_TICK else news.stay_id
        if news.due and len(found) < MACHINES_A_TICK:
            found |= dict.fromkeys(store.machines_due(connection, now, MACHINES_A_TICK))
        if everything and len(found) < MACHINES_A_TICK:
            found |= dict.fromkeys(store.machines_changed(connection, MACHINES_A_TICK))
        if not self._last and len(found) < MACHINES_A_TICK:
            found |= dict.fromkeys(store.machines_unknown(connection, MACHINES_A_TICK))
        return list(found)[:MACHINES_A_TICK], stay_id

    def _next_moment(self, now: int) -> int:
        """When the company's day begins next, or its overdue machines are told."""
        today = self._day(now)
        moments = [self._at(today + timedelta(days=n), minute) for n in (0, 1) for minute in (0, self._told_at_min)]
        return min(at for at in moments if at > now)

    @property
    def _told_at_min(self) -> int:
        return self.policy.overdue_at_min

    def _day(self, at: int) -> date:
        return datetime.fromtimestamp(at / 1000, UTC).astimezone(self._zone).date()

    def _at(self, day: date, minute: int) -> int:
        return round(datetime.combine(day, time(minute // 60, minute % 60), self._zone).timestamp() * 1000)

    # --- what is due ---

    def reckon(self, connection: Connection, device_ids: Sequence[str], now: int) -> None:
        """Reckon what is due on these machines from what stands in the record, and open what that asks for."""
        rows = store.machines(connection, device_ids)
        before = store.due_rows(connection, device_ids)
        found = self.found_due(connection, [row for row in rows if row.retired_at is None], now)
        store.save_due(connection, found, now)
        store.drop_due(connection, before.keys() - {(one.device_id, one.plan.code) for one in found})
        self._cancel_retired(connection, [row.device_id for row in rows if row.retired_at is not None], now)
        self._open_asked(connection, found, now)
        cases.note_changes(connection, now, "maintenance", _changed(before, found, now))

    def found_due(self, connection: Connection, rows: Sequence[store.Row], now: int) -> list[store.DueRow]:
        """When each plan of these machines (device_id, profile, added_at) is due, by what stands in the record now.
        Nothing changes."""
        ids = [row.device_id for row in rows]
        done, trends = store.anchors(connection, ids), store.open_trends(connection, ids)
        own = store.own_plans(connection)
        anchored = [
            (row.device_id, plan, done.get((row.device_id, plan.code)) or Anchor(row.added_at))
            for row in rows
            for plan in self.plans(row, own)
        ]
        # Earlier ones tell nothing: neither of what was used since a plan was last done, nor of the pace of late.
        since = min(now - self.policy.use_days * DAY_MS, *(anchor.at for _, _, anchor in anchored)) if anchored else now
        oldest_at = now - store.READINGS_KEPT_MS
        readings = store.readings_of(connection, ids, max(since, oldest_at), oldest_at=oldest_at)
        return [
            self._due(device_id, plan, anchor, readings.get(device_id, []), trends.get(device_id, []), now)
            for device_id, plan, anchor in anchored
        ]

    def overdue(self, connection: Connection, machine: store.Row, now: int) -> list[store.Overdue]:
        """What is overdue on one machine, the longest overdue first: each of it keeps it from being handed over (E4).
        Reckoned on the spot: what is kept may be missing of a new machine, and hours old of any."""
        machines = [machine] if machine.retired_at is None else []
        late = [
            store.Overdue(one.device_id, one.plan.code, one.plan.title_en, one.plan.title_zh, one.due.certain_at,
                          one.due.overdue_at)
            for one in self.found_due(connection, machines, now) if one.due.state(now) is State.OVERDUE
        ]  # fmt: skip
        return sorted(late, key=lambda one: (one.overdue_at, one.plan))

    def plans(self, machine: store.Row, own: store.OwnPlans) -> tuple[Plan, ...]:
        """The plans of a machine (device_id, profile)."""
        mine = own.of(machine.device_id, machine.profile)
        return plans_of(machine.profile, self.desk.profiles.get(machine.profile), mine, self.policy)

    def _due(
        self, device_id: str, plan: Plan, anchor: Anchor, readings: Sequence[Reading], trends: Sequence[int], now: int
    ) -> store.DueRow:
        since = based(anchor, readings)
        fresh = [at for at in trends if since.done_at is None or at > since.done_at]
        due = forecast(plan, since, Course(readings, min(fresh, default=None)), self.policy, now)
        return store.DueRow(device_id, plan, since, due, readings[-1].hours if readings else None)

    def _open_asked(self, connection: Connection, found: Sequence[store.DueRow], now: int) -> None:
        """Open an order for what is due soon, once each time, and let open ones say when they are due."""
        speaking = [one for one in found if one.due.state(now) is not State.NOT_DUE]
        asked = store.asked_for(connection, {one.device_id for one in speaking})
        new: list[dict[str, Any]] = []
        for one in speaking:
            place = one.device_id, one.plan.code
            if (*place, one.anchor.at) not in asked and (*place, -1) not in asked:
                new.append(_order(one.device_id, one.plan, one.due.trigger, one.due.due_at, "upkeep", now)
                           | {"cycle_at": one.anchor.at})  # fmt: skip
        store.insert_asked(connection, new)
        store.move_due(connection, [(one.device_id, one.plan.code, one.due.due_at) for one in speaking])
        about = ({name: values[name] for name in ("device_id", "plan", "reason", "due_at")} for values in new)
        opened = ((f"device:{one['device_id']}", one) for one in about)
        write_audits(connection, now, "upkeep", "work_order_opened", opened)

    def _cancel_retired(self, connection: Connection, retired: Sequence[str], now: int) -> None:
        for row in store.open_orders_of(connection, retired):
            self._cancel(connection, row, "retired", "upkeep", now)

    # --- people are told ---

    def _tell_overdue(self, now: int) -> None:
        """Once a day: what was overdue at that moment of the company's day, and still is, in one message."""
        day = self._day(now)
        at = self._at(day, self._told_at_min)
        if now < at or self._told == str(day):
            return
        with self.desk.database.begin() as connection:
            late = store.overdue_machines(connection, at, limit=OVERDUE_NAMED + 1)
            if late:
                self.desk.telling.tell(connection, self._overdue_notices(connection, day, late, now), now)
        self._told = str(day)

    def _overdue_notices(
        self, connection: Connection, day: date, late: Sequence[store.Overdue], now: int
    ) -> list[notices.Notice]:  # fmt: skip
        addresses = self.desk.addresses
        link = f"{addresses.public_url}/maintenance?state=overdue"
        texts = {
            lang: notices.write_maintenance_overdue(
                lang, [(one.device_id, _title(one, lang), one.due_at) for one in late[:OVERDUE_NAMED]],
                more=len(late) > OVERDUE_NAMED, timezone=addresses.timezone, link=link,
            )
            for lang in notices.LANGS
        }  # fmt: skip
        hearers = notices.recipients(Kind.MAINTENANCE_OVERDUE, cases.load_people(connection), None, room=addresses.room)
        return [
            notices.addressed(one, f"{Kind.MAINTENANCE_OVERDUE}:{day}:{one.key}", Kind.MAINTENANCE_OVERDUE,
                              texts[one.lang], now, severity=Severity.URGENT)
            for one in hearers
        ]  # fmt: skip

    def _tell_assigned(self, connection: Connection, row: store.Row, person_id: int, now: int) -> None:
        person = next((one for one in cases.load_people(connection) if one.id == person_id), None)
        if person is None or not person.can_be_told:
            return
        link = f"{self.desk.addresses.public_url}/maintenance/{row.id}"
        text = notices.write_work_assigned(
            person.lang, row.device_id, _title(row, notices.language(person.lang)), row.site_name or "", row.due_at,
            timezone=self.desk.addresses.timezone, link=link,
        )  # fmt: skip
        severity = Severity.URGENT if row.due_at <= now + SOON_MS else Severity.ROUTINE
        name = f"{row.id}-{row.revision + 1}"
        told = notices.letter_to(person, Kind.WORK_ASSIGNED, name, text, now, severity=severity)
        self.desk.telling.tell(connection, [told], now)

    # --- people do it ---

    def open_by_hand(
        self, device_id: str, actor: str, now: int, *, due_at: int, plan_code: str = "", title: str = ""
    ) -> int:  # fmt: skip
        """An order that nobody's plan asks for yet, or that is none of a plan's (`title`). Answers its id.

        Raises LookupError where there is no such machine, or Refused.
        """
        if bool(plan_code) == bool(title):
            raise Refused("plan or title: exactly one of them is needed")
        with self.desk.database.begin() as connection:
            machine = self._machine(connection, device_id)
            plan = self._plan(connection, machine, plan_code) if plan_code else Plan("by_hand", title, title)
            return self._open(connection, device_id, plan, plan_code, due_at, actor, now)

    def _open(
        self, connection: Connection, device_id: str, plan: Plan, code: str, due_at: int, actor: str, now: int
    ) -> int:  # fmt: skip
        values = _order(device_id, plan, "by_hand", due_at, actor, now) | {"plan": code}
        order_id = store.insert_order(connection, **values)
        self._note(connection, "work_order_opened", order_id, device_id, actor, now,
                   after={"device_id": device_id, "plan": code, "due_at": due_at})  # fmt: skip
        return order_id

    def give_trip(self, jobs: Collection[tuple[str, str]], person_id: int, actor: str, now: int) -> list[int]:
        """All these (machine, plan) are one person's to do, or none is; what has no order yet gets one that is due now.
        Answers the orders. Raises LookupError, Refused, or Conflict where somebody else was given one of them."""
        with self.desk.database.begin() as connection:
            # Machines before orders, and always in the same order (PostgreSQL).
            wanted = sorted(set(jobs))
            machines = {device_id: self._machine(connection, device_id) for device_id, _ in wanted}
            return [self._give(connection, machines[device_id], code, person_id, actor, now)
                    for device_id, code in wanted]  # fmt: skip

    def _give(
        self, connection: Connection, machine: store.Row, code: str, person_id: int, actor: str, now: int
    ) -> int:  # fmt: skip
        device_id = machine.device_id
        order_id = store.open_order(connection, device_id, code)
        if order_id is None:
            plan = self._plan(connection, machine, code)
            order_id = self._open(connection, device_id, plan, code, now, actor, now)
        row = self._open_order(connection, order_id, None)
        if row.assignee_id not in (None, person_id):
            raise Conflict(f"work order {order_id} on {device_id} was given to somebody else")
        self._assign(connection, row, person_id, actor, now)
        return order_id

    def assign(self, order_id: int, person_id: int | None, actor: str, now: int, *, seen: str | None = None) -> None:
        """Somebody is to do it (P1: who is certified for the model); None: nobody any more."""
        with self.desk.database.begin() as connection:
            self._assign(connection, self._open_order(connection, order_id, seen), person_id, actor, now)

    def _assign(self, connection: Connection, row: store.Row, person_id: int | None, actor: str, now: int) -> None:
        if person_id == row.assignee_id:
            return
        if person_id is not None:
            self._check_can_do(connection, row, person_id, now)
        store.save_order(connection, row, assignee_id=person_id, recorded_at=now)
        if person_id is not None:
            self._tell_assigned(connection, row, person_id, now)
        self._note(connection, "work_order_assigned", row.id, row.device_id, actor, now,
                   {"assignee_id": row.assignee_id}, {"assignee_id": person_id})  # fmt: skip

    def finish(
        self, order_id: int, done: Done, actor: str, now: int, *, by: int | None = None, seen: str | None = None
    ) -> None:  # fmt: skip
        """It is done, with how each thing was found; its plan is reckoned from then on. `by`: the technician who says
        so, who has to be certified for the model (P1); None: the office."""
        with self.desk.database.begin() as connection:
            row = self._open_order(connection, order_id, seen)
            if row.kind != "maintenance":
                raise Conflict(f"work order {order_id} is a spot check: its inspection ends it")
            if by is not None:
                self._check_certified(connection, row, by, done.done_at)
            _check_done(row, done, now)
            if done.meter_hours is not None:
                self._read_meter(connection, row.device_id, done.done_at, done.meter_hours, actor, now,
                                 replaced=done.replaced)  # fmt: skip
            anchor = self._completed(connection, row, done.done_at, now)
            store.save_order(
                connection, row, status="done", results=[dict(one) for one in done.results], parts=list(done.parts),
                note=done.note, done_at=done.done_at, done_by=actor, meter_hours=done.meter_hours,
                recorded_at=now, **anchor,
            )  # fmt: skip
            self._note(connection, "work_order_done", order_id, row.device_id, actor, now, {"status": "open"},
                       {"status": "done", "done_at": done.done_at, "meter_hours": done.meter_hours})  # fmt: skip
            self.reckon(connection, [row.device_id], now)

    def _completed(self, connection: Connection, row: store.Row, done_at: int, now: int) -> dict[str, Any]:
        """From when the order's plan is reckoned once it is done. Raises Refused where it was done later already."""
        if not row.plan:
            return {}
        machine = self._machine(connection, row.device_id)
        plan = self._plan(connection, machine, row.plan, or_service=True)
        anchor = store.anchors(connection, [row.device_id]).get((row.device_id, row.plan))
        if anchor is not None and anchor.done_at is not None and done_at <= anchor.done_at:
            raise Refused("done_at: the same plan was done later than that already")
        oldest_at = now - store.READINGS_KEPT_MS
        readings = store.readings_of(connection, [row.device_id], oldest_at, oldest_at=oldest_at).get(row.device_id, [])
        before = based(anchor or Anchor(min(machine.added_at, done_at)), readings)
        last = store.neighbours(connection, row.device_id, done_at)[0]
        since = completed(plan, before, self.policy, done_at, last)
        return {"from_at": since.at, "from_h": since.total_h, "from_starts": since.starts}

    def cancel(self, order_id: int, reason: str, actor: str, now: int, *, seen: str | None = None) -> None:
        """It is not to be done. What is due stays due, but no order is opened for this time of it again."""
        with self.desk.database.begin() as connection:
            row = self._open_order(connection, order_id, seen)
            self._cancel(connection, row, reason, actor, now)

    def _cancel(self, connection: Connection, row: store.Row, reason: str, actor: str, now: int) -> None:
        store.save_order(connection, row, status="cancelled", note=reason, done_by=actor, recorded_at=now)
        self._note(connection, "work_order_cancelled", row.id, row.device_id, actor, now, {"status": "open"},
                   {"status": "cancelled"})  # fmt: skip

    def read_meter(
        self, device_id: str, at: int, hours: float, actor: str, now: int, *, replaced: bool = False
    ) -> None:  # fmt: skip
        """Somebody read a machine's hour meter. `replaced`: there is another one since the last reading, and the sum of
        hours goes on. Raises LookupError, or Refused where no meter can have shown that."""
        with self.desk.database.begin() as connection:
            self._machine(connection, device_id)
            self._read_meter(connection, device_id, at, hours, actor, now, replaced=replaced)
            self.reckon(connection, [device_id], now)
            write_audit(connection, now, actor, "meter_read", f"device:{device_id}",
                        after={"at": at, "hours": hours, "replaced": replaced})  # fmt: skip

    def can_show(self, before: Reading, at: int, hours: float) -> bool:
        """Whether a meter that showed that before can show this now."""
        return doubt(before, None, at, hours) is None

    def _read_meter(
        self, connection: Connection, device_id: str, at: int, hours: float, actor: str, now: int, *, replaced: bool
    ) -> None:  # fmt: skip
        before, after = store.neighbours(connection, device_id, at)
        if before is not None and (before.at, before.hours) == (at, hours):
            return
        if replaced and after is not None:
            raise Refused("at: there are later readings; a replaced meter is told before what it shows afterwards")
        if not replaced and (wrong := doubt(before, after, at, hours)):
            raise Refused(f"hours {hours:g}: {DOUBTS[wrong]}")
        if before is not None and before.at == at:
            raise Refused("at: there is a reading of this very moment")
        starts = before.starts if before else None
        reading = read_on(before, at, hours, starts, replaced=replaced)
        store.insert_reading(connection, device_id, reading, now, source="manual", actor=actor, replaced=replaced)

    # --- plans ---

    def put_plan(
        self, plan: Plan, scope: str, of: str, actor: str, now: int, *, seen: str | None = None
    ) -> None:  # fmt: skip
        """Put a plan in the place of what was there. Raises Refused where it would be less often than E4 has it."""
        try:
            self.policy.check(plan)
        except ValueError as error:
            raise Refused(str(error)) from error
        with self.desk.database.begin() as connection:
            if scope == "device":
                self._machine(connection, of)
            elif scope == "profile" and of not in self.desk.profiles:
                raise Refused(f"of: there is no profile {of!r}; known are {', '.join(sorted(self.desk.profiles))}")
            before = store.plan_row(connection, plan.code, scope, of, lock=True)
            refuse_stale(f"plan {plan.code!r}", seen, store.plan_tag(before))
            store.put_plan(connection, plan, scope, of, actor, now)
            write_audit(connection, now, actor, "maintenance_plan_set", _subject(plan.code, scope, of),
                        before.plan if before else None, store.as_kept(plan))  # fmt: skip

    def remove_plan(self, code: str, scope: str, of: str, actor: str, now: int, *, seen: str | None = None) -> None:
        """Go back to what counts further out: the model's, all machines', or what ships. Raises LookupError."""
        with self.desk.database.begin() as connection:
            before = store.plan_row(connection, code, scope, of, lock=True)
            if before is None:
                raise LookupError(f"there is no plan {code!r}")
            refuse_stale(f"plan {code!r}", seen, store.plan_tag(before))
            store.remove_plan(connection, code, scope, of)
            write_audit(connection, now, actor, "maintenance_plan_removed", _subject(code, scope, of), before.plan)

    # --- what is asked on the way ---

    def _machine(self, connection: Connection, device_id: str) -> store.Row:
        """A machine in use, locked. Raises LookupError."""
        rows = store.machines(connection, [device_id])
        if not rows or rows[0].retired_at is not None:
            raise LookupError(f"there is no machine {device_id!r} in use")
        return rows[0]

    def _plan(self, connection: Connection, machine: store.Row, code: str, *, or_service: bool = False) -> Plan:
        there = {plan.code: plan for plan in self.plans(machine, store.own_plans(connection))}
        if code not in there and not or_service:
            raise Refused(f"plan {code!r}: on this machine there are {', '.join(there)}")
        return there.get(code, there[SERVICE])

    def _open_order(self, connection: Connection, order_id: int, seen: str | None) -> store.Row:
        row = store.order_row(connection, order_id)
        if row is None:
            raise LookupError(f"there is no work order {order_id}")
        # Machine before order, as everywhere: then nobody waits for each other (PostgreSQL).
        store.machines(connection, [row.device_id])
        row = store.order_row(connection, order_id, lock=True) or row
        refuse_stale(f"work order {order_id}", seen, str(row.revision))
        if row.status != "open":
            raise Conflict(f"work order {order_id} is {row.status}")
        return row

    def _check_can_do(self, connection: Connection, row: store.Row, person_id: int, now: int) -> None:
        person = people.person_row(connection, person_id)
        if person is None or person.disabled_at is not None or person.role == "customer":
            raise Refused(f"assignee_id: there is nobody {person_id} who could do it")
        if person.role == "technician":
            self._check_certified(connection, row, person_id, now)

    def _check_certified(self, connection: Connection, row: store.Row, person_id: int, at: int) -> None:
        """P1: nobody works on a model without the training for it."""
        if not people.may_work_on(connection, person_id, row.profile, at):
            raise Refused(f"person {person_id} has no valid certificate for {row.profile} (P1)")

    def _note(
        self, connection: Connection, what: str, order_id: int, device_id: str, actor: str, now: int,
        before: dict[str, Any] | None = None, after: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        write_audit(connection, now, actor, what, f"work_order:{order_id}", before, after)
        cases.note_change(connection, now, "maintenance", device_id, None)


def _order(device_id: str, plan: Plan, reason: str, due_at: int, actor: str, now: int) -> dict[str, Any]:
    return {
        "kind": "maintenance", "device_id": device_id, "plan": plan.code, "title_en": plan.title_en,
        "title_zh": plan.title_zh, "reason": reason, "due_at": due_at, "opened_at": now, "opened_by": actor,
        "status": "open", "recorded_at": now, "results": [], "parts": [], "note": "", "done_by": "", "revision": 0,
        "checklist": [{"code": one.code, "title_en": one.title_en, "title_zh": one.title_zh} for one in plan.checklist],
    }  # fmt: skip


def _check_done(row: store.Row, done: Done, now: int) -> None:
    """Raises Refused where something is missing, or cannot be."""
    if not now - BACKDATED_MS <= done.done_at <= now:
        raise Refused(f"done_at: lies within the last {BACKDATED_MS // DAY_MS} days")
    wanted = [one["code"] for one in row.checklist]
    given = {one["code"]: one for one in done.results}
    if unknown := sorted(given.keys() - set(wanted)):
        raise Refused(f"results: {', '.join(unknown)}: not on the checklist of this order")
    if missing := [code for code in wanted if code not in given]:
        raise Refused(f"results: missing is how these were found: {', '.join(missing)}")
    if odd := sorted(code for code, one in given.items() if one["result"] not in RESULTS):
        raise Refused(f"results: {', '.join(odd)}: allowed are {', '.join(RESULTS)}")
    if bare := sorted(code for code, one in given.items() if one["result"] == "not_ok" and not one.get("note")):
        raise Refused(f"results: {', '.join(bare)}: what is not in order needs a note of what is wrong")


def _changed(before: Mapping[tuple[str, str], store.Row], found: Sequence[store.DueRow], now: int) -> list[str]:
    """Machines of which a plan stands in another state than when it was last reckoned."""
    was = {place: store.due_of(row).state(row.computed_at) for place, row in before.items()}
    other = (one.device_id for one in found if was.get((one.device_id, one.plan.code)) != one.due.state(now))
    return list(dict.fromkeys(other))


def _title(one: Any, lang: str) -> str:
    return str(one.title_zh if lang == "zh" else one.title_en)


def _subject(code: str, scope: str, of: str) -> str:
    return f"plan:{code}:{scope}{':' if of else ''}{of}"
