"""The fleet's ledger (E1): tables of what becomes of intervals, and that nothing of a machine's time is lost or said
twice, however it comes about."""

from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.desk.tickets import Incomplete, NotPossible, Outcome, Resolution, Verb
from monitor.engine.bookkeeping import Bookkeeping
from monitor.fleet.availability import (
    Running,
    Spent,
    Sums,
    by_day,
    day_of,
    days,
    kept_since,
    month,
    month_course,
    month_pace,
    pace,
    spent_by_day,
    window,
)
from monitor.fleet.ledger import (
    Condition,
    Declared,
    Facts,
    Hire,
    Interval,
    Kept,
    Place,
    Span,
    Stay,
    Wrong,
    amend,
    course,
    next_turn,
)
from monitor.store import ledger, schema
from tests.office import T0, Office

HOUR, DAY = 3_600_000, 86_400_000
GOOD, BAD, UNKNOWN = Condition
NOW = T0 + 40 * DAY
MACHINE = Facts("pump", T0, first_heard_at=T0, stays=[Stay(T0, 1)])


def hours(*spans: tuple[float, float | None]) -> list[tuple[int, int | None]]:
    return [(T0 + round(a * HOUR), None if b is None else T0 + round(b * HOUR)) for a, b in spans]


def wrong(*spans: tuple[float, float | None], gravity: int = 1) -> list[Wrong]:
    return [Wrong(a, b, place + 1, gravity) for place, (a, b) in enumerate(hours(*spans))]


def told(facts: Facts, now: int = NOW) -> list[tuple[float, float | None, str, str]]:
    """(from, to, condition, place) in hours after the machine was added."""
    return [
        ((one.from_at - T0) / HOUR, None if one.to_at is None else (one.to_at - T0) / HOUR, one.condition, one.place)
        for one in course(facts, now)
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [(0, None, "good", "yard")]),
        ({"first_heard_at": None}, [(0, None, "unknown", "yard")]),
        ({"first_heard_at": T0 + HOUR}, [(0, 1, "unknown", "yard"), (1, None, "good", "yard")]),
        ({"wrong": wrong((5, 8))}, [(0, 5, "good", "yard"), (5, 8, "bad", "yard"), (8, None, "good", "yard")]),
        ({"wrong": wrong((5, None))}, [(0, 5, "good", "yard"), (5, None, "bad", "yard")]),
        # One within another, one beside it, one that was over before the machine was there, one of no length.
        (
            {"wrong": wrong((5, 20), (8, 9), (20, 22), (-9, -1), (30, 30))},
            [(0, 5, "good", "yard"), (5, 20, "bad", "yard"), (20, 22, "bad", "yard"), (22, None, "good", "yard")],
        ),
        # Silence is unknown, unless it is known to be bad; what came late was no silence.
        (
            {"silent": [Span(*span) for span in hours((2, 10))], "wrong": wrong((4, 6)),
             "heard_late": [Span(*span) for span in hours((7, 8))]},
            [(0, 2, "good", "yard"), (2, 4, "unknown", "yard"), (4, 6, "bad", "yard"), (6, 7, "unknown", "yard"),
             (7, 8, "good", "yard"), (8, 10, "unknown", "yard"), (10, None, "good", "yard")],
        ),
        (
            {"hires": [Hire(*span, 3, 4) for span in hours((1, 9))],
             "declared": [Declared(*span, "transport") for span in hours((0, 2))]},
            [(0, 1, "good", "transport"), (1, 2, "good", "transport"), (2, 9, "good", "on_hire"),
             (9, None, "good", "yard")],
        ),
        (
            {"wrong": wrong((5, None)), "retired_at": T0 + 7 * HOUR},
            [(0, 5, "good", "yard"), (5, 7, "bad", "yard"), (7, None, "unknown", "retired")],
        ),
        # Declared for a site: it holds while the machine stands there.
        (
            {"stays": [Stay(T0, 1), Stay(T0 + 3 * HOUR, 2)],
             "declared": [Declared(*span, "maintenance", 1) for span in hours((1, 9))]},
            [(0, 1, "good", "yard"), (1, 3, "good", "maintenance"), (3, None, "good", "yard")],
        ),
        # A device whose clock was wrong: the fault began before the machine was added.
        ({"wrong": wrong((-50, 2))}, [(0, 2, "bad", "yard"), (2, None, "good", "yard")]),
        # A rental that is planned changes nothing yet.
        ({"hires": [Hire(NOW + HOUR, None, 3, 4)]}, [(0, None, "good", "yard")]),
    ],
)  # fmt: skip
def test_a_course_is_gapless_and_says_what_was(changes, expected):
    assert told(replace(MACHINE, **changes)) == expected


def test_the_gravest_fault_is_named_and_the_oldest_of_those():
    facts = replace(MACHINE, wrong=[Wrong(T0, None, 7, 1), Wrong(T0, None, 8, 0), Wrong(T0 + 1, None, 9, 0)])
    assert [one.fault_id for one in course(facts, NOW)] == [8]


def test_a_planned_rental_and_the_end_of_a_window_are_looked_at_when_they_come():
    facts = replace(MACHINE, hires=[Hire(NOW + 5, NOW + 50, 3, 4)], declared=[Declared(NOW - 5, NOW + 3, "transport")])
    assert [next_turn(facts, at) for at in (NOW, NOW + 3, NOW + 5, NOW + 50)] == [NOW + 3, NOW + 5, NOW + 50, None]


def test_what_was_noted_before_the_clock_was_set_back_is_looked_at_when_it_comes():
    facts = replace(MACHINE, silent=[Span(NOW - 9, NOW + 4)], wrong=[Wrong(NOW - 9, NOW + 7, 1, 1)])
    assert [next_turn(facts, at) for at in (NOW, NOW + 4, NOW + 7)] == [NOW + 4, NOW + 7, None]


# --- sums ----------------------------------------------------------------------------------------------------------


def test_days_are_those_of_the_company_on_the_days_the_clock_changes():
    start_at, end_at = month("2026-03", "Europe/Berlin")
    edges = [*days(start_at, end_at, "Europe/Berlin"), end_at]
    lengths = [(b - a) // HOUR for a, b in pairwise(edges)]
    assert (len(lengths), lengths[28], set(lengths[:28])) == (31, 23, {24})
    assert sum(lengths) * HOUR == end_at - start_at
    assert day_of(start_at - 1, "Europe/Berlin") == start_at - DAY
    assert window(end_at, "Europe/Berlin")[0] == days(start_at, end_at, "Europe/Berlin")[1]


def test_an_outage_across_the_months_edge_counts_in_each_for_its_part():
    start_at, _ = month("2026-03", "Asia/Shanghai")
    parts = dict(by_day(start_at - 5 * HOUR, start_at + 3 * HOUR, "Asia/Shanghai"))
    assert parts == {start_at - DAY: 5 * HOUR, start_at: 3 * HOUR}


def test_a_months_budget_is_spent_at_its_pace():
    start_at, end_at = month("2026-11", "Asia/Shanghai")
    now = start_at + 10 * DAY
    half = pace("2026-11", Spent(95 * DAY, 3 * DAY, 2 * DAY), 10, now, end_at)
    assert (half.budget_ms, half.spent_ms, half.misses) == (30 * DAY, 5 * DAY, False)
    assert half.burn_rate == pytest.approx(0.5)
    assert half.left_share == pytest.approx(25 / 30)
    assert pace("2026-11", Spent(80 * DAY, 20 * DAY, 0), 10, now, end_at).misses
    assert pace("2026-11", Spent(), 0, now, end_at).misses is None
    assert pace("2026-11", Spent(DAY, DAY, DAY), 2, now, end_at).misses is None, "nobody can say so after a day"


@given(st.lists(st.tuples(*[st.integers(0, DAY)] * 3), min_size=31, max_size=31), st.integers(1, 5))
def test_the_course_of_a_months_budget_ends_with_what_is_left(days_spent, machines):
    lately = [Spent(*one) for one in days_spent]
    start_at, _ = month("2026-11", "Asia/Shanghai")
    for day in (0, 1, 22, 29):
        now = start_at + day * DAY + 5 * HOUR
        course = month_course(lately, machines, now, "Asia/Shanghai")
        left = month_pace(lately, machines, now, "Asia/Shanghai").left_share
        assert course[-1:] == ([] if left is None else [pytest.approx(left)])
        assert len(course) in (0, day + 1)
        assert course == sorted(course, reverse=True), "what is spent does not come back"


# --- properties ----------------------------------------------------------------------------------------------------

MOMENTS = st.integers(-10, 60).map(lambda h: T0 + h * HOUR)
ENDS = st.none() | st.integers(1, 40)


@st.composite
def spans(draw, kind, *rest):
    found = []
    for n in range(draw(st.integers(0, 4))):
        from_at, length = draw(MOMENTS), draw(ENDS)
        extra = [draw(one) if isinstance(one, st.SearchStrategy) else one for one in rest]
        found.append(kind(from_at, None if length is None else from_at + length * HOUR, *(
            [n + 1, *extra] if kind in (Wrong, Hire) else extra)))  # fmt: skip
    return found


FACTS = st.builds(
    Facts, st.just("pump"), st.just(T0), st.none() | MOMENTS.map(lambda at: max(at, T0)), st.none() | MOMENTS,
    spans(Wrong, st.integers(0, 1)), spans(Span), spans(Span), spans(Hire, st.integers(1, 3)),
    spans(Declared, st.sampled_from(["maintenance", "transport"]), st.none() | st.integers(1, 2)),
    st.lists(st.builds(Stay, MOMENTS, st.none() | st.integers(1, 2)), max_size=3),
)  # fmt: skip


def covers(some, at):
    return any(one.from_at <= at and (one.to_at is None or at < one.to_at) for one in some)


def plainly(facts: Facts, at: int) -> tuple[str, str]:
    """What holds at one moment, asked directly and not by a sweep."""
    site = max((one for one in facts.stays if max(one.from_at, T0) <= at), key=lambda s: s.from_at, default=None)
    if facts.retired_at is not None and max(facts.retired_at, T0) <= at:
        return "unknown", "retired"
    unheard = facts.first_heard_at is None or at < facts.first_heard_at
    silent = (unheard or covers(facts.silent, at)) and not covers(facts.heard_late, at)
    condition = "bad" if covers(facts.wrong, at) else "unknown" if silent else "good"
    said = {one.what for one in facts.declared
            if covers([one], at) and one.site_id in (None, site.site_id if site else None)}  # fmt: skip
    hired = "on_hire" if covers(facts.hires, at) else "yard"
    return condition, "transport" if "transport" in said else "maintenance" if said else hired


@given(FACTS, st.integers(0, 80))
def test_good_bad_and_unknown_are_the_whole_and_each_moment_has_one_place(facts, hours_on):
    now = T0 + hours_on * HOUR
    found = course(facts, now)
    assert found[0].from_at == T0
    assert found[-1].to_at is None
    assert all(a.to_at == b.from_at and a[2:] != b[2:] for a, b in pairwise(found))
    for at in range(T0, now + 1, HOUR // 2):
        (here,) = [one for one in found if one.from_at <= at and (one.to_at is None or at < one.to_at)]
        assert (here.condition, here.place) == plainly(facts, at)


@given(FACTS, FACTS, st.integers(0, 70), st.integers(0, 10))
def test_the_record_amended_says_what_a_fresh_one_would(first, second, at, later):
    before, after = course(first, T0 + at * HOUR), course(second, T0 + (at + later) * HOUR)
    kept = [Kept(place, one) for place, one in enumerate(before)]
    found = amend(kept, after)
    ended = {one.id: to_at for one, to_at in found.ended}
    gone = {one.id for one in found.superseded}
    stands = [one.interval._replace(to_at=ended.get(one.id, one.interval.to_at)) for one in kept if one.id not in gone]
    assert sorted([*stands, *found.added]) == sorted(after)
    assert amend([Kept(0, one) for one in after], after) == ([], [], [])


@given(st.lists(FACTS, max_size=4), st.integers(0, 70))
def test_sums_by_day_come_to_what_the_intervals_say(machines, at):
    now, zone = T0 + at * HOUR, "Europe/Berlin"
    intervals = [one for facts in machines for one in course(facts, now)]
    sums, midnights = Sums.none(), window(now, zone)
    for one in intervals:
        sums.add(one, zone)
    ended: dict[tuple[int, Condition], int] = {}
    for key, ms in sums.ended_ms.items():
        ended[key.day_at, key.condition] = ended.get((key.day_at, key.condition), 0) + ms
    running = [Running(key.condition, key.day_at, n, sums.running_from[key]) for key, n in sums.running.items()]
    for day, day_at, end_at in zip(
        spent_by_day(midnights, now, ended, running), midnights, [*midnights[1:], now], strict=True
    ):
        for condition in Condition:
            plain = sum(
                max(0, min(one.to_at or now, end_at) - max(one.from_at, day_at))
                for one in intervals if one.condition is condition and one.place is not Place.RETIRED
            )  # fmt: skip
            assert getattr(day, condition) == plain


# --- the record ----------------------------------------------------------------------------------------------------


class Books(Office):
    """A desk whose ledger is kept after everything that happens."""

    def kept(self) -> list[Interval]:
        self.desk.books.keep(self.now)
        with self.database.connect() as connection:
            return [one.interval for one in ledger.load_intervals(connection, ["GX-1"])["GX-1"]]

    def ends(
        self, ticket_id: int, *, reason: str = "", outcome: Outcome = Outcome.REAL, close: bool = True
    ) -> None:  # fmt: skip
        """A ticket is cancelled, for a reason, or repaired, and it turned out to have been this."""
        if reason:
            self.desk.act(ticket_id, Verb.CANCEL, "test", self.now, reason=reason)
            return
        self.desk.act(ticket_id, Verb.ACCEPT, "test", self.now, technician_id=1)
        found = Resolution("other", "repaired", "wear", outcome=outcome)
        self.desk.act(ticket_id, Verb.RESOLVE, "test", self.now, resolution=found)
        if close:
            self.desk.act(ticket_id, Verb.CLOSE, "test", self.now)

    def check(self) -> None:
        """Kept step by step, the ledger and its sums are what the record alone gives."""
        self.desk.books.keep(self.now)
        with self.database.connect() as connection:
            facts = ledger.load_facts(connection, self.machines)
            found = ledger.load_intervals(connection, self.machines)
            since_at = kept_since(self.now, self.desk.books.timezone)
            sums, anew = ledger.load_sums(connection, since_at), Sums.none(since_at)
        for device_id, known in facts.items():
            assert [one.interval for one in found[device_id]] == course(known, self.now)
            for one in found[device_id]:
                anew.add(one.interval, self.desk.books.timezone)
        assert [{k: v for k, v in one.items() if v} for one in sums[1:]] == [
            {k: v for k, v in one.items() if v} for one in anew[1:]
        ]


@pytest.fixture
def office():
    office = Books([("Quarry", 3), ("Port", 1)])
    yield office
    office.close()


def test_a_fault_a_rental_and_a_move_are_in_the_ledger_by_themselves(office):
    office.now += HOUR
    office.finds("limit", "coolant_temp_c")
    office.now += HOUR
    office.clears("limit", "coolant_temp_c")
    assert [(one.condition, one.place) for one in office.kept()] == [
        ("good", "on_hire"), ("bad", "on_hire"), ("good", "on_hire")
    ]  # fmt: skip
    office.check()


def test_a_fault_that_turns_out_graver_was_bad_from_the_first_and_both_are_kept(office):
    office.finds("fault_code", "P1", severity="routine")
    assert [one.condition for one in office.kept()] == ["good"]
    office.now += HOUR
    asked_at = office.now
    office.now += HOUR
    office.finds("fault_code", "P1", severity="urgent")
    assert [one.condition for one in office.kept()] == ["bad"]
    with office.database.connect() as connection:
        then, since = (ledger.spent(connection, T0, asked_at, at)[None] for at in (asked_at, office.now))
    assert (then.bad, since.bad) == (0, HOUR)
    assert then.total == since.total == 4 * HOUR


def test_what_came_late_amends_the_silence_and_is_seen_to(office):
    office.finds("silent", "")
    office.now += 5 * HOUR
    office.clears("silent", "")
    assert [one.condition for one in office.kept()] == ["unknown", "good"]
    asked_at = office.now
    office.now += HOUR
    with office.database.begin() as connection:
        for first in (1, 3, 2):
            ledger.note_heard_late(
                connection, "GX-1", T0 + first * HOUR, T0 + first * HOUR + HOUR, 300_000, office.now
            )  # fmt: skip
        assert len(connection.execute(sa.select(schema.heard_late)).all()) <= 2
        ledger.note_heard_late(connection, "GX-2", T0, T0 + HOUR, 300_000, office.now)
    assert [(one.condition, one.to_at) for one in office.kept()] == [
        ("unknown", T0 + HOUR), ("good", T0 + 4 * HOUR), ("unknown", T0 + 5 * HOUR), ("good", None)
    ]  # fmt: skip
    with office.database.connect() as connection:
        before, now = (ledger.spent(connection, T0, asked_at, at)[None] for at in (asked_at, office.now))
        listed = [len(ledger.intervals(connection, "GX-1", T0, asked_at, at, 99)) for at in (asked_at, office.now)]
    assert now.unknown == before.unknown - 3 * HOUR
    assert listed == [1, 3]
    office.check()


FAULTS = st.sampled_from([("limit", "coolant_temp_c"), ("startup_failure", ""), ("silent", ""), ("trend", "x")])


@pytest.mark.parametrize(
    ("how", "was_bad"),
    [
        ({"reason": "sensor_wrong"}, False),
        ({"reason": "duplicate"}, True),
        ({"outcome": Outcome.NUISANCE}, False),
        ({"outcome": Outcome.WRONG_CAUSE}, True),
        ({"outcome": Outcome.REAL}, True),
    ],
)
def test_a_false_alarm_made_no_machine_bad_and_what_was_said_before_stays_on_record(office, how, was_bad):
    office.finds("limit", "coolant_temp_c")
    assert [one.condition for one in office.kept()] == [BAD]
    office.now += 2 * HOUR
    asked_at = office.now
    office.now += HOUR
    (ticket,) = office.tickets()
    office.ends(ticket.id, **how)
    office.kept()
    with office.database.connect() as connection:
        then, since = (ledger.spent(connection, T0, asked_at, at)[None].bad for at in (asked_at, office.now))
        assert (then, since) == (2 * HOUR, 2 * HOUR if was_bad else 0)
        ahead = ledger.spent(connection, T0, office.now, asked_at)[None]
        assert ahead.total == 4 * 2 * HOUR, "what came after had not been"
    office.check()
    office.desk.act(ticket.id, Verb.REOPEN, "test", office.now)
    assert office.kept()[0].condition == BAD, "it is a fault again"
    # What was resolved by mistake, and is cancelled, says anew what it was.
    office.ends(ticket.id, outcome=Outcome.NUISANCE, close=False)
    assert office.kept()[0].condition == GOOD
    office.desk.act(ticket.id, Verb.CANCEL, "test", office.now, reason="duplicate")
    assert office.kept()[0].condition == BAD
    office.check()


KINDS = st.sampled_from([
    "finds", "clears", "hires", "returns", "window", "moves", "retires", "late", "judged", "duplicate", "reopens",
])  # fmt: skip
HAPPENINGS = st.lists(st.tuples(KINDS, FAULTS, st.integers(1, 4), st.integers(1, 30)), max_size=10)


@settings(max_examples=12, deadline=None)
@given(HAPPENINGS, st.booleans())
def test_kept_step_by_step_it_is_what_a_whole_recomputation_gives(happenings, restarts):
    office = Books([("Quarry", 3), ("Port", 1)])
    try:
        for what, (kind, subject), number, hours_on in happenings:
            device = f"GX-{number}"
            office.now += hours_on * HOUR
            if what == "finds":
                office.finds(kind, subject, device=device)
            elif what == "clears":
                office.clears(kind, subject, device)
            elif what in ("judged", "duplicate", "reopens"):
                _judges(office, what, device, hours_on)
            else:
                _changes(office, what, device, hours_on)
            if restarts and hours_on % 2:
                office.open()
            else:
                office.check()
        office.check()
        Bookkeeping(office.database, office.desk.books.timezone).rebuild(office.now)
        office.check()
    finally:
        office.close()


def _judges(office: Books, what: str, device: str, hours_on: int) -> None:
    """Somebody says what the newest ticket of a machine was, or takes it up again, where that is possible."""
    for ticket in office.rows(schema.ticket, device_id=device)[-1:]:
        with suppress(NotPossible, Incomplete):
            if what == "reopens":
                office.desk.act(ticket.id, Verb.REOPEN, "test", office.now)
            elif what == "duplicate":
                office.ends(ticket.id, reason="duplicate")
            else:
                office.ends(ticket.id, outcome=list(Outcome)[hours_on % 3], close=hours_on % 2 == 0)


def _changes(office: Books, what: str, device: str, hours_on: int) -> None:
    now, t = office.now, schema
    with office.database.begin() as connection:
        running = sa.select(t.rental.c.id).where(t.rental.c.device_id == device, t.rental.c.ends_at.is_(None))
        rental_id = connection.execute(running).scalar()
        if what == "returns" and rental_id:
            connection.execute(sa.update(t.rental).where(t.rental.c.id == rental_id).values(ends_at=now))
        elif what == "hires" and not rental_id:
            connection.execute(
                sa.insert(t.rental).values(device_id=device, customer_id=1, starts_at=now + (hours_on - 9) * HOUR)
            )
        elif what == "window":
            connection.execute(sa.insert(t.maintenance_window).values(
                site_id=1, what="maintenance", starts_at=now - HOUR, ends_at=now + hours_on * HOUR, declared_by="test",
                declared_at=now,
            ))  # fmt: skip
        elif what == "moves":
            connection.execute(sa.insert(t.stay).values(
                device_id=device, site_id=hours_on % 2 + 1, from_at=now, recorded_at=now, actor="test"
            ))  # fmt: skip
        elif what == "retires" and hours_on > 25:
            connection.execute(sa.update(t.device).where(t.device.c.device_id == device).values(retired_at=now))
        elif what == "late":
            ledger.note_heard_late(connection, device, now - hours_on * HOUR, now, 300_000, now)
