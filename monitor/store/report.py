"""What the monthly report is made from (monitor/fleet/report.py): the SQL, inside its caller's transaction.

Everything is asked as of a moment. The ledger keeps what it said; clocks are as their row has them, unless a step of
their ticket was recorded after that moment, and then they are reckoned from what was recorded before it; of everything
else what was recorded later is left out. Sums are made by the database; no interval is loaded.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.commitments import Commitment, Ledger, Pause, reckon
from monitor.desk.tickets import Outcome, Status, Taken, Verb, ended_at, turns
from monitor.desk.working_time import Calendar
from monitor.fleet.availability import Spent
from monitor.fleet.ledger import Condition, Place
from monitor.fleet.maintenance import SERVICE
from monitor.fleet.report import BREACHES_NAMED, CLOCKS, Breach, Facts, Line, Months, Reason, Tally
from monitor.store import schema
from monitor.store.ledger import known_end, said_at

Row = sa.Row[*tuple[Any, ...]]
Clause = sa.ColumnElement[bool]

KEPT, MISSED, OPEN, VOID = "kept", "missed", "open", "void"
TICKETS_AT_ONCE = 400
REASONS_NAMED, NOTE_CHARS = 8, 200
LINES_NAMED = 15

c, t, p, w = schema.commitment.c, schema.ticket.c, schema.step.c, schema.pause.c
f, r, h, i = schema.fleet_interval.c, schema.rental.c, schema.hand_over.c, schema.inspection.c
d, o = schema.device.c, schema.work_order.c


CalendarOf = Callable[[str, str], Calendar]
"""Answers the calendar of a clock, by (name, time zone)."""


@dataclass(frozen=True)
class Asked:
    """Which months, as of when."""

    over: Months
    as_of: int
    quarter_ms: int
    """How long a machine may be without service (E4)."""

    @property
    def edges(self) -> tuple[int, ...]:
        return self.over.edges

    def within(self, column: sa.ColumnElement[Any]) -> Clause:
        """In any of the months."""
        return sa.and_(column >= self.edges[0], column < self.edges[-1])

    def told(self, column: sa.ColumnElement[Any]) -> Clause:
        """In the month that is told of."""
        return sa.and_(column >= self.over.from_at, column < self.over.to_at)

    def place(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
        """The number of the month that a moment lies in."""
        return sa.case(*((column < edge, n) for n, edge in enumerate(self.edges[1:-1])), else_=len(self.edges) - 2)

    def number(self, at: int) -> int:
        return bisect_right(self.edges, at) - 1


class Case(NamedTuple):
    """One of the cases that a row counts. `key`: pages go on after it."""

    key: int | str
    verdict: str
    at: int
    ticket_id: int | None = None
    device_id: str | None = None
    due_at: int | None = None
    met_at: int | None = None
    what: str = ""
    turn: int = 0


def facts(connection: Connection, asked: Asked, calendar: CalendarOf) -> Facts:
    """All that a report is made from."""
    reckoned = _reckoned(connection, asked, calendar)
    tallies = {code: _clock_tallies(connection, asked, code, reckoned) for code in CLOCKS}
    tallies |= _availability(connection, asked) | _hand_overs(connection, asked)
    tallies |= {
        "E4": _maintenance(connection, asked), "E5": _files(connection, asked),
        "E6.spot_checks": _spot_checks(connection, asked), "E6.damage": _damage(connection, asked),
        "P1": _certified(connection, asked), "P2": _satisfaction(connection, asked),
    }  # fmt: skip
    breaches = {
        code: _breaches(connection, asked, code, reckoned)
        for code, found in tallies.items() if not code.startswith("E1") and found[-1].kept < found[-1].n
    }  # fmt: skip
    breaches |= {code: _worst(connection, asked, hired=code == "E1.on_hire") for code in ("E1.fleet", "E1.on_hire")}
    return Facts(tallies, breaches, {"E6.damage": _lines(connection, asked)})


def cases(
    connection: Connection, asked: Asked, code: str, calendar: CalendarOf, *, after: int | str | None, limit: int,
    missed: bool = False,
) -> list[Case]:  # fmt: skip
    """The cases of a row in the month that is told of, by their keys."""
    if code in CLOCKS:
        return _clock_cases(
            connection, asked, code, _reckoned(connection, asked, calendar), after=after, limit=limit, missed=missed
        )
    return CASES[code](connection, asked, after, limit, missed)


# --- clocks (R7, R8, R9) -------------------------------------------------------------------------------------------


def _verdict(asked: Asked) -> sa.ColumnElement[str]:
    return sa.case(
        (c.voided_at.is_not(None), VOID),
        (sa.and_(c.met_at.is_not(None), c.met_at <= c.due_at), KEPT),
        (sa.and_(c.paused_since.is_(None), c.due_at <= asked.as_of), MISSED),
        else_=OPEN,
    )


def verdict_of(clock: Commitment, as_of: int) -> str:
    """What a clock came to, as of a moment; the same as `_verdict` asks of the database."""
    if clock.voided_at is not None:
        return VOID
    if clock.met_at is not None and clock.met_at <= clock.due_at:
        return KEPT
    return MISSED if clock.paused_since is None and clock.due_at <= as_of else OPEN


def _touched(asked: Asked) -> sa.Select[Any]:
    """Tickets of which something was recorded later."""
    return sa.select(p.ticket_id).where(p.recorded_at > asked.as_of)


def _of(code: str) -> Clause:
    standard_id, kind = CLOCKS[code]
    return sa.and_(c.standard_id == standard_id, c.kind == kind)


class _Clock(NamedTuple):
    id: int
    commitment: Commitment
    device_id: str | None


def _reckoned(connection: Connection, asked: Asked, calendar: CalendarOf) -> list[_Clock]:
    """Clocks of the months whose tickets went on after `as_of`, as they stood then."""
    rows = connection.execute(
        sa.select(schema.commitment, t.device_id).join(schema.ticket, t.id == c.ticket_id)
        .where(asked.within(c.started_at), c.ticket_id.in_(_touched(asked))).order_by(c.id)
    ).all()  # fmt: skip
    ids = sorted({row.ticket_id for row in rows})
    found: list[_Clock] = []
    for start in range(0, len(ids), TICKETS_AT_ONCE):
        some = set(ids[start : start + TICKETS_AT_ONCE])
        ledgers = _ledgers(connection, some, asked.as_of)
        for row in rows:
            if row.ticket_id in some:
                clock = _commitment(row)
                ledger = ledgers.get((row.ticket_id, row.turn), Ledger())
                there = reckon(clock, ledger, calendar(clock.calendar, clock.timezone))
                found.append(_Clock(row.id, there, row.device_id))
    return sorted(found)


def _commitment(row: Row) -> Commitment:
    return Commitment(**{name: getattr(row, name) for name in Commitment.__slots__} | {"warns": tuple(row.warns)})


def _known_steps(connection: Connection, ids: Iterable[int], as_of: int) -> dict[tuple[int, int], list[Row]]:
    """The steps recorded by then, by (ticket, turn); those that were corrected by then are left out."""
    by = schema.step.alias("by")
    rows = connection.execute(
        sa.select(schema.step).outerjoin(by, by.c.id == p.corrected_by)
        .where(p.ticket_id.in_(list(ids)), p.recorded_at <= as_of, p.event != Verb.CORRECT,
               sa.or_(by.c.id.is_(None), by.c.recorded_at > as_of))
        .order_by(p.id)
    )  # fmt: skip
    found: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        found[row.ticket_id, row.turn].append(row)
    return found


def _known_pauses(connection: Connection, ids: Iterable[int], as_of: int) -> dict[tuple[int, int], list[Pause]]:
    """The waits recorded by then, by (ticket, turn); one whose end was recorded later still lasted."""
    left: dict[int, set[int]] = defaultdict(set)
    leaving = sa.select(p.ticket_id, p.happened_at).where(
        p.ticket_id.in_(list(ids)), p.recorded_at <= as_of, p.from_status == Status.WAITING,
        p.to_status != Status.WAITING,
    )  # fmt: skip
    for row in connection.execute(leaving):
        left[row.ticket_id].add(row.happened_at)
    rows = connection.execute(
        sa.select(schema.pause).where(w.ticket_id.in_(list(ids)), w.recorded_at <= as_of).order_by(w.from_at, w.id)
    )
    found: dict[tuple[int, int], list[Pause]] = defaultdict(list)
    for row in rows:
        ended = row.to_at is not None and any(max(at, row.from_at) == row.to_at for at in left[row.ticket_id])
        to_at = row.to_at if ended else None
        found[row.ticket_id, row.turn].append(
            Pause(row.from_at, to_at, row.reason, row.actor, row.stops_clocks, row.until_at)
        )
    return found


def _ledgers(connection: Connection, ids: Iterable[int], as_of: int) -> dict[tuple[int, int], Ledger]:
    """What clocks were reckoned from at a moment, by (ticket, turn)."""
    steps, pauses = _known_steps(connection, ids, as_of), _known_pauses(connection, ids, as_of)
    found = {}
    for key in steps.keys() | pauses.keys():
        taken = [
            Taken(one.id, one.event, Status(one.from_status), Status(one.to_status), one.happened_at, one.recorded_at,
                  one.technician_id, one.note, one.actor)
            for one in steps.get(key, ())
        ]  # fmt: skip
        found[key] = Ledger(tuple(turns(taken)), tuple(pauses.get(key, ())), ended_at(taken))
    return found


def _clock_tallies(connection: Connection, asked: Asked, code: str, reckoned: Sequence[_Clock]) -> list[Tally]:
    """By the month in which a clock began."""
    counts: dict[tuple[int, str], int] = defaultdict(int)
    rows = (
        sa.select(asked.place(c.started_at).label("month"), _verdict(asked).label("verdict"))
        .where(_of(code), asked.within(c.started_at), c.ticket_id.not_in(_touched(asked))).subquery()
    )  # fmt: skip
    grouped = sa.select(rows.c.month, rows.c.verdict, sa.func.count()).group_by(rows.c.month, rows.c.verdict)
    for number, verdict, count in connection.execute(grouped):
        counts[number, verdict] += count
    for clock in _those(reckoned, code):
        counts[asked.number(clock.commitment.started_at), verdict_of(clock.commitment, asked.as_of)] += 1
    return [
        Tally(counts[n, KEPT] + counts[n, MISSED], counts[n, KEPT], counts[n, OPEN])
        for n in range(len(asked.over.names))
    ]  # fmt: skip


def _those(reckoned: Iterable[_Clock], code: str) -> Iterator[_Clock]:
    return (one for one in reckoned if (one.commitment.standard_id, one.commitment.kind) == CLOCKS[code])


def _clock_cases(
    connection: Connection, asked: Asked, code: str, reckoned: Sequence[_Clock], *, after: int | str | None,
    limit: int, missed: bool,
) -> list[Case]:  # fmt: skip
    above = after if isinstance(after, int) else 0
    verdict = _verdict(asked)
    wanted = [_of(code), asked.told(c.started_at), c.id > above, c.ticket_id.not_in(_touched(asked))]
    if missed:
        wanted.append(verdict == MISSED)
    rows = connection.execute(
        sa.select(c.id, verdict, c.started_at, c.ticket_id, t.device_id, c.due_at, c.met_at, c.kind, c.turn)
        .join(schema.ticket, t.id == c.ticket_id).where(*wanted).order_by(c.id).limit(limit)
    )  # fmt: skip
    found = [Case(*row) for row in rows]
    for one in _those(reckoned, code):
        clock, said = one.commitment, verdict_of(one.commitment, asked.as_of)
        told = asked.over.from_at <= clock.started_at < asked.over.to_at
        if told and one.id > above and (said == MISSED or not missed):
            found.append(Case(one.id, said, clock.started_at, clock.ticket_id, one.device_id, clock.due_at,
                              clock.met_at, clock.kind, clock.turn))  # fmt: skip
    return sorted(found, key=lambda case: case.key)[:limit]


def _reasons(connection: Connection, some: Sequence[Case], as_of: int) -> dict[tuple[int, int, str], list[Reason]]:
    """What is on record of why, by (ticket, turn, clock): waits, what somebody wrote, and amendments."""
    ids = sorted({case.ticket_id for case in some if case.ticket_id is not None})
    steps, pauses = _known_steps(connection, ids, as_of), _known_pauses(connection, ids, as_of)
    a = schema.amendment.c
    amended: dict[tuple[int, str], list[Reason]] = defaultdict(list)
    rows = connection.execute(
        sa.select(schema.amendment).where(a.ticket_id.in_(ids), a.recorded_at <= as_of).order_by(a.id)
    )
    for row in rows:
        amended[row.ticket_id, row.kind].append(Reason("amended", row.breached_at, row.due_at))
    found = {}
    for case in some:
        key = (case.ticket_id or 0, case.turn)
        told = [Reason("wait", one.from_at, one.to_at, one.reason) for one in pauses.get(key, ())]
        told += [
            Reason(one.event, one.happened_at, reason=one.reason, note=" ".join(one.note.split())[:NOTE_CHARS])
            for one in steps.get(key, ())
            if one.event == Verb.DECLINE or ((one.reason or one.note.strip()) and one.event != Verb.PAUSE)
        ]
        found[*key, case.what] = [*told[:REASONS_NAMED], *amended[key[0], case.what]]
    return found


# --- availability (E1) ---------------------------------------------------------------------------------------------


def _availability(connection: Connection, asked: Asked) -> dict[str, list[Tally]]:
    """Machine time by month and condition: one pass over the ledger. The database sums beginnings and ends of the
    intervals that touch the same months; what each month has of them follows."""
    base, last = asked.edges[0], asked.edges[-1]
    ends = known_end(asked.as_of, last)
    since = sa.case((f.from_at > base, f.from_at), else_=base)
    cut = (
        sa.select(f.condition, f.rental_id.is_not(None).label("hired"), since.label("since"), ends.label("until"))
        .where(said_at(asked.as_of), f.from_at < last, ends > base, f.place != Place.RETIRED.value).subquery()
    )  # fmt: skip
    first, final = asked.place(cut.c.since), asked.place(cut.c.until - 1)
    placed = sa.select(
        cut.c.condition, cut.c.hired, first.label("first"), final.label("final"), (cut.c.since - base).label("since"),
        (cut.c.until - base).label("until"),
    ).subquery()  # fmt: skip
    keys = placed.c.condition, placed.c.hired, placed.c.first, placed.c.final
    summed = sa.select(*keys, sa.func.sum(placed.c.since), sa.func.sum(placed.c.until), sa.func.count())
    spent = {hired: [Spent()] * len(asked.over.names) for hired in (False, True)}
    for condition, hired, begun, ended, sum_since, sum_until, number in connection.execute(summed.group_by(*keys)):
        for n in range(begun, ended + 1):
            from_ms = int(sum_since) if n == begun else number * (asked.edges[n] - base)
            to_ms = int(sum_until) if n == ended else number * (asked.edges[n + 1] - base)
            of = spent[bool(hired)]
            of[n] = of[n].plus(Spent(**{Condition(condition).value: to_ms - from_ms}))
    whole = [one.plus(other) for one, other in zip(spent[False], spent[True], strict=True)]
    return {"E1.fleet": [_time(one) for one in whole], "E1.on_hire": [_time(one) for one in spent[True]]}


def _time(spent: Spent) -> Tally:
    return Tally(spent.total, spent.good, may=spent.good + spent.unknown)


def _bad(asked: Asked, *, hired: bool) -> list[Clause]:
    ends = known_end(asked.as_of, asked.over.to_at)
    wanted = [
        f.condition == Condition.BAD.value, f.place != Place.RETIRED.value, said_at(asked.as_of),
        f.from_at < asked.over.to_at, ends > asked.over.from_at,
    ]  # fmt: skip
    return [*wanted, f.rental_id.is_not(None)] if hired else wanted


def _bad_ms(asked: Asked) -> sa.ColumnElement[int]:
    since = sa.case((f.from_at > asked.over.from_at, f.from_at), else_=asked.over.from_at)
    return sa.func.sum(known_end(asked.as_of, asked.over.to_at) - since)


def _worst(connection: Connection, asked: Asked, *, hired: bool) -> list[Breach]:
    """The machines that were bad for longest, and what each had."""
    ms = _bad_ms(asked).label("ms")
    wanted = _bad(asked, hired=hired)
    rows = connection.execute(
        sa.select(f.device_id, ms).where(*wanted).group_by(f.device_id).order_by(ms.desc(), f.device_id)
        .limit(BREACHES_NAMED)
    ).all()  # fmt: skip
    fault = schema.fault.c
    kinds = connection.execute(
        sa.select(f.device_id, fault.kind, fault.subject, ms, sa.func.min(f.from_at))
        .join(schema.fault, fault.id == f.fault_id)
        .where(*wanted, f.device_id.in_([row.device_id for row in rows]))
        .group_by(f.device_id, fault.kind, fault.subject).order_by(f.device_id, ms.desc(), fault.kind, fault.subject)
    )  # fmt: skip
    why: dict[str, list[Reason]] = defaultdict(list)
    for device_id, kind, subject, spent, since in kinds:
        why[device_id].append(Reason(f"fault:{kind}", since, note=subject, ms=int(spent)))
    return [
        Breach(f"/machines/{row.device_id}", device_id=row.device_id, ms=int(row.ms),
               why=tuple(why[row.device_id][:REASONS_NAMED]))
        for row in rows
    ]  # fmt: skip


# --- hand-overs (E2, E3) and files (E5) ----------------------------------------------------------------------------


def _holds(asked: Asked, table: Any) -> Clause:
    """An inspection that was on file at the moment."""
    return sa.and_(
        table.c.recorded_at <= asked.as_of, sa.or_(table.c.voided_at.is_(None), table.c.voided_at > asked.as_of)
    )


def _rentals(asked: Asked) -> sa.Subquery:
    """Rentals that the ledger knew, with when their machine went out and which inspections are on file for them."""
    other, back = schema.inspection.alias("other"), schema.inspection.alias("back")
    known = sa.exists().where(f.rental_id == r.id, said_at(asked.as_of))
    out_at = sa.func.coalesce(h.at, r.starts_at)
    gate = sa.and_(i.id.is_not(None), i.passed)
    own = other.c.rental_id == r.id, other.c.kind == "hand_over", _holds(asked, other)
    inspected = sa.or_(gate, sa.exists().where(*own, other.c.passed, other.c.at <= out_at))
    # Nobody was asked to inspect what its customer had already.
    filed = sa.or_(r.taken_over, i.id.is_not(None), sa.exists().where(*own))
    returned = sa.exists().where(back.c.rental_id == r.id, back.c.kind == "return", _holds(asked, back))
    through = sa.and_(h.rental_id == r.id, h.at <= asked.as_of)
    return (
        sa.select(r.id, r.device_id, out_at.label("out_at"), known.label("known"), r.taken_over,
                  gate.label("gate"), inspected.label("inspected"), filed.label("filed"), returned.label("returned"))
        .outerjoin(schema.hand_over, through)
        .outerjoin(schema.inspection, sa.and_(i.id == h.inspection_id, _holds(asked, schema.inspection)))
        .subquery()
    )  # fmt: skip


def _ended(asked: Asked) -> sa.Subquery:
    """Rentals that were over, and when, as the ledger said it then: a rental's own row may say another end by now.
    `history`: taken over when that was past already, so that nobody could inspect anything of ours."""
    some, said = _rentals(asked), said_at(asked.as_of)
    running = sa.func.sum(sa.case((f.end_recorded_at <= asked.as_of, 0), else_=1))
    spell = (
        sa.select(f.rental_id, sa.func.max(f.to_at).label("ended_at")).where(f.rental_id.is_not(None), said)
        .group_by(f.rental_id).having(running == 0).subquery()
    )  # fmt: skip
    lived = sa.exists().where(f.rental_id == some.c.id, f.recorded_at <= asked.as_of, f.recorded_at < spell.c.ended_at)
    return (
        sa.select(some, spell.c.ended_at, sa.and_(some.c.taken_over, ~lived).label("history"))
        .join(spell, spell.c.rental_id == some.c.id).subquery()
    )  # fmt: skip


def _counted(connection: Connection, asked: Asked, at: Any, wanted: Clause, out: Any, *kept: Any) -> list[list[Tally]]:
    """Tallies by month: for each of `kept` how many of the cases it is true of. What is `out` is no case, and counted
    beside them."""
    rows = sa.select(asked.place(at).label("month"), out, *kept).where(wanted, asked.within(at)).subquery()
    month, left, *others = rows.c
    sums = [sa.func.sum(sa.case((one, 1), else_=0)) for one in (left, *(sa.and_(~left, one) for one in others))]
    found = {n: [Tally()] * len(kept) for n in range(len(asked.over.names))}
    for number, count, taken, *true in connection.execute(sa.select(month, sa.func.count(), *sums).group_by(month)):
        found[number] = [Tally(count - int(taken), int(one), taken_over=int(taken)) for one in true]
    return [[found[n][place] for n in found] for place in range(len(kept))]


def _hand_overs(connection: Connection, asked: Asked) -> dict[str, list[Tally]]:
    some = _rentals(asked).c
    inspected, gate = _counted(connection, asked, some.out_at, some.known, some.taken_over, some.inspected, some.gate)
    return {"E2": inspected, "E3": gate}


def _files(connection: Connection, asked: Asked) -> list[Tally]:
    some = _ended(asked).c
    whole = sa.and_(some.filed, some.returned).label("whole")
    return _counted(connection, asked, some.ended_at, sa.true(), some.history, whole)[0]


def _rental_cases(
    code: str, connection: Connection, asked: Asked, after: int | str | None, limit: int, missed: bool
) -> list[Case]:  # fmt: skip
    some = (_ended(asked) if code == "E5" else _rentals(asked)).c
    at, out = (some.ended_at, some.history) if code == "E5" else (some.out_at, some.taken_over)
    kept = {"E2": some.inspected, "E3": some.gate, "E5": sa.and_(some.filed, some.returned)}[code]
    wanted = [asked.told(at), some.known, ~out, some.id > (after if isinstance(after, int) else 0)]
    if missed:
        wanted.append(sa.not_(kept))
    rows = connection.execute(
        sa.select(some.id, kept.label("kept"), at.label("at"), some.device_id, some.filed, some.returned)
        .where(*wanted).order_by(some.id).limit(limit)
    )  # fmt: skip
    found = []
    for row in rows:
        lacks = [name for name, there in (("hand_over", row.filed), ("return", row.returned)) if not there]
        what = "no_inspection" if code != "E5" else f"lacks:{','.join(lacks)}"
        found.append(Case(row.id, KEPT if row.kept else MISSED, row.at, device_id=row.device_id,
                          what="" if row.kept else "not_through_gate" if code == "E3" else what))  # fmt: skip
    return found


# --- maintenance (E4) ----------------------------------------------------------------------------------------------


def _served(asked: Asked) -> sa.Subquery:
    """Of each machine that the ledger knew: when it was added or served, and when it was served next."""
    known = sa.exists().where(f.device_id == d.device_id, f.recorded_at <= asked.as_of)
    added = sa.select(d.device_id, d.added_at.label("at")).where(known)
    done = sa.select(o.device_id, o.done_at).where(
        o.kind == "maintenance", o.plan == SERVICE, o.status == "done", o.recorded_at <= asked.as_of
    )
    each = sa.union_all(added, done).subquery()
    following = sa.func.lead(each.c.at).over(partition_by=each.c.device_id, order_by=each.c.at)
    turned = sa.select(each.c.device_id, each.c.at, following.label("next_at")).subquery()
    return (
        sa.select(turned, d.added_at, d.retired_at).join(schema.device, d.device_id == turned.c.device_id).subquery()
    )  # fmt: skip


def _last_before(asked: Asked, some: Any, at: int) -> tuple[Clause, Clause]:
    """(this was the last service of a machine in the fleet for a quarter at `at`, it was within the quarter)."""
    quarter = at - asked.quarter_ms
    last = sa.and_(
        some.added_at <= quarter, sa.or_(some.retired_at.is_(None), some.retired_at > at), some.at <= at,
        sa.or_(some.next_at.is_(None), some.next_at > at),
    )  # fmt: skip
    return last, some.at >= quarter


def _maintenance(connection: Connection, asked: Asked) -> list[Tally]:
    """At the end of each month: the machines that have been in the fleet for a quarter, and were served within it."""
    some = _served(asked).c
    sums = []
    for at in asked.edges[1:]:
        last, kept = _last_before(asked, some, at)
        sums += [sa.func.sum(sa.case((last, 1), else_=0)),
                 sa.func.sum(sa.case((sa.and_(last, kept), 1), else_=0))]  # fmt: skip
    found = [int(one or 0) for one in connection.execute(sa.select(*sums)).one()]
    return [Tally(*pair) for pair in zip(found[::2], found[1::2], strict=True)]


def _maintenance_cases(
    connection: Connection, asked: Asked, after: int | str | None, limit: int, missed: bool
) -> list[Case]:  # fmt: skip
    some, at = _served(asked).c, asked.over.to_at
    last, kept = _last_before(asked, some, at)
    wanted = [last, some.device_id > (after if isinstance(after, str) else "")]
    if missed:
        wanted.append(sa.not_(kept))
    rows = connection.execute(
        sa.select(some.device_id, kept.label("kept"), some.at, some.added_at).where(*wanted)
        .order_by(some.device_id).limit(limit)
    )  # fmt: skip
    return [
        Case(row.device_id, KEPT if row.kept else MISSED, row.at, device_id=row.device_id,
             due_at=row.at + asked.quarter_ms,
             what="" if row.kept else "never_served" if row.at == row.added_at else "served_last")
        for row in rows
    ]  # fmt: skip


# --- spot checks and damage (E6) -----------------------------------------------------------------------------------


def _drawn(connection: Connection, asked: Asked, month: str) -> list[Case]:
    """The machines drawn for a month, and whether each was inspected since."""
    s = schema.spot_check_draw.c
    row = connection.execute(
        sa.select(schema.spot_check_draw).where(s.month == month, s.at <= asked.as_of)
    ).first()  # fmt: skip
    if row is None:
        return []
    # The first one since; more of them are later months'.
    first = sa.select(i.device_id, sa.func.min(i.at)).where(
        i.device_id.in_(row.machines), i.kind == "spot_check", i.at >= row.at, _holds(asked, schema.inspection)
    )
    done: dict[str, int] = {one: at for one, at in connection.execute(first.group_by(i.device_id))}  # noqa: C416
    following = connection.execute(sa.select(sa.func.min(s.at)).where(s.at > row.at)).scalar()
    # What was inspected after the next draw is that one's result.
    end_at = asked.as_of + 1 if following is None else min(following, asked.as_of + 1)
    return [
        Case(one, KEPT if done.get(one, end_at) < end_at else MISSED, row.at, device_id=one, met_at=done.get(one),
             what="" if done.get(one, end_at) < end_at else "not_inspected")
        for one in sorted(row.machines)
    ]  # fmt: skip


def _spot_checks(connection: Connection, asked: Asked) -> list[Tally]:
    found = []
    for name in asked.over.names:
        some = _drawn(connection, asked, name)
        found.append(Tally(len(some), sum(case.verdict == KEPT for case in some)))
    return found


def _drawn_cases(
    connection: Connection, asked: Asked, after: int | str | None, limit: int, missed: bool
) -> list[Case]:  # fmt: skip
    above = after if isinstance(after, str) else ""
    some = [case for case in _drawn(connection, asked, asked.over.names[-1]) if str(case.key) > above]
    return [case for case in some if case.verdict == MISSED or not missed][:limit]


def _damaged(asked: Asked) -> sa.Subquery:
    """The faults that made machines bad, each with when it first did."""
    return (
        sa.select(f.fault_id, sa.func.min(f.from_at).label("at"))
        .where(f.condition == Condition.BAD.value, f.fault_id.is_not(None), f.place != Place.RETIRED.value,
               said_at(asked.as_of))
        .group_by(f.fault_id).subquery()
    )  # fmt: skip


def _damage(connection: Connection, asked: Asked) -> list[Tally]:
    some = _damaged(asked).c
    month = sa.select(asked.place(some.at).label("month")).where(asked.within(some.at)).subquery().c.month
    grouped = sa.select(month, sa.func.count()).group_by(month)
    counts: dict[int, int] = {number: count for number, count in connection.execute(grouped)}  # noqa: C416
    return [Tally(counts.get(n, 0), counts.get(n, 0)) for n in range(len(asked.over.names))]


def _lines(connection: Connection, asked: Asked) -> list[Line]:
    """The month's bad machine time by what was wrong, the most first, with how many faults it were."""
    fault, ms = schema.fault.c, _bad_ms(asked).label("ms")
    rows = connection.execute(
        sa.select(fault.kind, fault.subject, sa.func.count(sa.distinct(f.fault_id)), ms)
        .join(schema.fault, fault.id == f.fault_id).where(*_bad(asked, hired=False))
        .group_by(fault.kind, fault.subject).order_by(ms.desc(), fault.kind, fault.subject).limit(LINES_NAMED)
    )  # fmt: skip
    return [Line(kind, subject, int(count), int(spent)) for kind, subject, count, spent in rows]


def _damage_cases(
    connection: Connection, asked: Asked, after: int | str | None, limit: int, missed: bool
) -> list[Case]:  # fmt: skip
    some, fault = _damaged(asked).c, schema.fault.c
    above = after if isinstance(after, int) else 0
    rows = connection.execute(
        sa.select(some.fault_id, some.at, fault.device_id, fault.kind, fault.subject)
        .join(schema.fault, fault.id == some.fault_id).where(asked.told(some.at), some.fault_id > above)
        .order_by(some.fault_id).limit(0 if missed else limit)
    )  # fmt: skip
    return [
        Case(row.fault_id, KEPT, row.at, device_id=row.device_id, what=f"fault:{row.kind} {row.subject}".strip())
        for row in rows
    ]  # fmt: skip


# --- certificates (P1) ---------------------------------------------------------------------------------------------

Spans = Mapping[tuple[int, str], Sequence[tuple[int, int | None]]]


def _certificates(connection: Connection, as_of: int) -> Spans:
    """Who was certified for what, as it stood in the record then: the audit keeps every list that was given."""
    a, own = schema.audit.c, schema.certificate.c
    rows = connection.execute(sa.select(a.at, a.subject, a.after).where(a.what == "certified").order_by(a.id)).all()
    told: dict[int, list[Any]] = {int(row.subject.removeprefix("person:")): [] for row in rows}
    for row in rows:
        if row.at <= as_of:
            told[int(row.subject.removeprefix("person:"))] = row.after["now"]
    found: dict[tuple[int, str], list[tuple[int, int | None]]] = defaultdict(list)
    for person_id, some in told.items():
        for one in some:
            found[person_id, one["profile"]].append((one["since_at"], one["until_at"]))
    # Those that no audit tells of have stood since before there was one.
    for row in connection.execute(sa.select(schema.certificate).where(own.person_id.not_in(list(told)))):
        found[row.person_id, row.profile].append((row.since_at, row.until_at))
    return found


def _covered(spans: Spans, person_id: int, profile: str, at: int) -> bool:
    return any(since <= at and (until is None or at < until) for since, until in spans.get((person_id, profile), ()))


def _jobs(asked: Asked) -> tuple[sa.FromClause, list[Clause]]:
    """Steps by which somebody was sent to a machine, or took its ticket, and that nobody took back."""
    by = schema.step.alias("by")
    joined = (
        schema.step.join(schema.ticket, t.id == p.ticket_id).join(schema.device, d.device_id == t.device_id)
        .outerjoin(by, by.c.id == p.corrected_by)
    )  # fmt: skip
    return joined, [
        p.event.in_((Verb.DISPATCH, Verb.ACCEPT)), p.technician_id.is_not(None), p.recorded_at <= asked.as_of,
        sa.or_(by.c.id.is_(None), by.c.recorded_at > asked.as_of),
    ]  # fmt: skip


def _certified(connection: Connection, asked: Asked) -> list[Tally]:
    """By month: jobs given to somebody, and those of them who were certified for the model when they got it."""
    spans = _certificates(connection, asked.as_of)
    tallies = [Tally()] * len(asked.over.names)
    if not spans:
        return tallies
    joined, wanted = _jobs(asked)
    rows = sa.select(asked.place(p.happened_at).label("month"), p.technician_id, d.profile, p.happened_at).select_from(
        joined).where(*wanted, asked.within(p.happened_at)).subquery().c  # fmt: skip
    keys = rows.month, rows.technician_id, rows.profile
    first, last = sa.func.min(rows.happened_at), sa.func.max(rows.happened_at)
    for number, person_id, profile, begun, ended, count in connection.execute(
        sa.select(*keys, first, last, sa.func.count()).group_by(*keys)
    ):
        mine = spans.get((person_id, profile), ())
        if any(since <= begun and (until is None or ended < until) for since, until in mine):
            kept = count
        else:
            each = sa.select(rows.happened_at).where(
                rows.month == number, rows.technician_id == person_id, rows.profile == profile
            )
            kept = sum(_covered(spans, person_id, profile, at) for at in connection.execute(each).scalars())
        tallies[number] = Tally(tallies[number].n + count, tallies[number].kept + kept)
    return tallies


def _job_cases(
    connection: Connection, asked: Asked, after: int | str | None, limit: int, missed: bool
) -> list[Case]:  # fmt: skip
    spans, found = _certificates(connection, asked.as_of), []
    if not spans:
        return []
    joined, wanted = _jobs(asked)
    rows = connection.execute(
        sa.select(p.id, p.happened_at, p.ticket_id, t.device_id, p.technician_id, d.profile).select_from(joined)
        .where(*wanted, asked.told(p.happened_at), p.id > (after if isinstance(after, int) else 0)).order_by(p.id)
    )  # fmt: skip
    for row in rows:
        covered = _covered(spans, row.technician_id, row.profile, row.happened_at)
        if missed and covered:
            continue
        found.append(Case(row.id, KEPT if covered else MISSED, row.happened_at, row.ticket_id, row.device_id,
                          what=f"person:{row.technician_id}"))  # fmt: skip
        if len(found) == limit:
            break
    return found


# --- satisfaction (P2) ---------------------------------------------------------------------------------------------


def _answers(asked: Asked, *wanted: Clause) -> sa.Select[Any]:
    """Who was asked in the months, each with the answer as it stood at `as_of`: one that came later, or took another's
    place later, was not there yet. What was known to be a false alarm by then does not count."""
    own, before = schema.satisfaction.c, schema.satisfaction.alias("before").c
    another = sa.exists().where(
        before.ticket_id == own.ticket_id, before.customer_id == own.customer_id, before.id < own.id
    )
    stood = sa.and_(own.answered_at <= asked.as_of, sa.or_(own.replaced_at.is_(None), own.replaced_at > asked.as_of))
    awaited = sa.and_(sa.or_(own.answered_at.is_(None), own.answered_at > asked.as_of), sa.not_(another))
    verdict = sa.case((awaited, OPEN), (own.score == 1, KEPT), else_=MISSED)
    return sa.select(
        own.id, verdict.label("verdict"), own.asked_at, own.ticket_id, t.device_id
    ).join(schema.ticket, t.id == own.ticket_id).where(
        sa.or_(stood, awaited), sa.not_(_was_nuisance(asked.as_of)), *wanted
    )  # fmt: skip


def _was_nuisance(as_of: int) -> sa.ColumnElement[bool]:
    """Whether a ticket had ended by then as a false alarm: until it ends, somebody may judge it otherwise."""
    p = schema.step.c
    said = sa.exists().where(
        p.ticket_id == t.id, p.turn == t.turn, p.event.in_((Verb.CLOSE, Verb.CANCEL)), p.recorded_at <= as_of
    )
    return sa.and_(sa.func.coalesce(t.outcome, "") == Outcome.NUISANCE.value, said)


def _satisfaction(connection: Connection, asked: Asked) -> list[Tally]:
    """By the month in which a customer was asked: those who answered, and those of them who are satisfied."""
    each = _answers(asked, asked.within(schema.satisfaction.c.asked_at)).subquery().c
    rows = sa.select(asked.place(each.asked_at).label("month"), each.verdict).subquery().c
    grouped = sa.select(rows.month, rows.verdict, sa.func.count()).group_by(rows.month, rows.verdict)
    counts: dict[tuple[int, str], int] = {
        (number, verdict): count for number, verdict, count in connection.execute(grouped)
    }
    return [
        Tally(counts.get((n, KEPT), 0) + counts.get((n, MISSED), 0), counts.get((n, KEPT), 0), counts.get((n, OPEN), 0))
        for n in range(len(asked.over.names))
    ]  # fmt: skip


def _answer_cases(
    connection: Connection, asked: Asked, after: int | str | None, limit: int, missed: bool
) -> list[Case]:  # fmt: skip
    own = schema.satisfaction.c
    above = after if isinstance(after, int) else 0
    rows = _answers(asked, asked.told(own.asked_at), own.id > above).subquery().c
    statement = sa.select(*rows).order_by(rows.id).limit(limit)
    found = connection.execute(statement.where(rows.verdict == MISSED) if missed else statement)
    return [
        Case(row.id, row.verdict, row.asked_at, row.ticket_id, row.device_id,
             what="not_satisfied" if row.verdict == MISSED else "")
        for row in found
    ]  # fmt: skip


# --- cases by row --------------------------------------------------------------------------------------------------

CASES: Mapping[str, Callable[[Connection, Asked, int | str | None, int, bool], list[Case]]] = {
    "E2": partial(_rental_cases, "E2"), "E3": partial(_rental_cases, "E3"), "E5": partial(_rental_cases, "E5"),
    "E4": _maintenance_cases, "E6.spot_checks": _drawn_cases, "E6.damage": _damage_cases, "P1": _job_cases,
    "P2": _answer_cases,
}  # fmt: skip


def _breaches(connection: Connection, asked: Asked, code: str, reckoned: Sequence[_Clock]) -> list[Breach]:
    """The first of a row's breaches, with what is on record of why."""
    if code in CLOCKS:
        some = _clock_cases(connection, asked, code, reckoned, after=None, limit=BREACHES_NAMED, missed=True)
        why = _reasons(connection, some, asked.as_of)
        return [
            Breach(f"/tickets/{one.ticket_id}", one.ticket_id, one.device_id, one.what, one.due_at, one.met_at,
                   why=tuple(why[one.ticket_id or 0, one.turn, one.what]))
            for one in some
        ]  # fmt: skip
    return [
        Breach(f"/tickets/{one.ticket_id}" if one.ticket_id else f"/machines/{one.device_id}", one.ticket_id,
               one.device_id, due_at=one.due_at, met_at=one.met_at, why=(Reason(one.what, one.at),))
        for one in CASES[code](connection, asked, None, BREACHES_NAMED, True)
    ]  # fmt: skip


# --- what was reported ---------------------------------------------------------------------------------------------


class Kept(NamedTuple):
    """A report that was built by the scheduler."""

    month: str
    as_of: int
    built_at: int
    sent_at: int | None


def insert(connection: Connection, month: str, as_of: int, body: bytes, now: int, *, sent: bool) -> None:
    values = {"month": month, "as_of": as_of, "built_at": now, "body": body.decode(), "sent_at": now if sent else None}
    connection.execute(sa.insert(schema.monthly_report).values(**values))


def body(connection: Connection, month: str, as_of: int | None = None) -> bytes | None:
    """A report as it was built; without `as_of` the newest of the month."""
    m = schema.monthly_report.c
    wanted = [m.month == month, *([] if as_of is None else [m.as_of == as_of])]
    found = connection.execute(sa.select(m.body).where(*wanted).order_by(m.as_of.desc()).limit(1)).scalar()
    return None if found is None else str(found).encode()


def built(connection: Connection, month: str) -> bool:
    m = schema.monthly_report.c
    return connection.execute(sa.select(m.id).where(m.month == month).limit(1)).first() is not None


def listed(connection: Connection, *, before: int | None, limit: int) -> Sequence[Row]:
    """The newest first."""
    m = schema.monthly_report.c
    columns = sa.select(m.id, m.month, m.as_of, m.built_at, m.sent_at)
    return connection.execute(
        (columns if before is None else columns.where(m.id < before)).order_by(m.id.desc()).limit(limit)
    ).all()  # fmt: skip


def had_machines(connection: Connection, before: int) -> bool:
    """Whether there was any machine to report of before a moment."""
    return connection.execute(sa.select(d.device_id).where(d.added_at < before).limit(1)).first() is not None
