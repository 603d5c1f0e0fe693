"""Shift hand-over: what happened, what is open, what is promised."""

import itertools
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.desk.handover import MOST_LINES, Case, Clock, Done, Outlook, Tally, handover
from monitor.desk.tickets import Status
from monitor.devices import Severity

H = 3600_000
START, END = 100 * H, 108 * H


def case(ticket_id: int, status: Status = Status.OPEN, opened_at: int = START - H, **known: object) -> Case:
    facts = {"severity": Severity.URGENT, "technician_id": 7, **known}
    return Case(ticket_id, f"gen-{ticket_id}", "Pier 4", "limit", status=status, opened_at=opened_at, **facts)


def step(ticket_id: int, verb: str, happened_at: int, recorded_at: int | None = None) -> Done:
    return Done(ticket_id, verb, "anna", happened_at, happened_at if recorded_at is None else recorded_at)


def clock(ticket_id: int, due_at: int, **known: object) -> Clock:
    return Clock(ticket_id, "R7", "dispatch", due_at, **known)


def test_promises_stand_by_due_time_those_at_risk_first():
    clocks = [
        clock(1, END + 3 * H),
        clock(1, END + 9 * H, risk="far_away"),
        clock(2, END + H),
        clock(2, END - H, paused=True),
        clock(3, END),
        clock(3, END + 8 * H, risk="nobody_free"),
        clock(3, START + H, met_at=START),
        clock(4, END + H),
    ]
    shift = handover([case(1), case(2), case(3), case(4, Status.CLOSED)], [], clocks, START, END)
    assert [(one.clock.ticket_id, one.outlook, (one.clock.due_at - END) // H) for one in shift.promised] == [
        (3, Outlook.MISSED, 0),
        (3, Outlook.AT_RISK, 8),
        (1, Outlook.AT_RISK, 9),
        (2, Outlook.RUNNING, 1),
        (1, Outlook.RUNNING, 3),
        (2, Outlook.PAUSED, -1),
    ]
    assert shift.tally.at_risk == 2


def test_open_tickets_stand_the_gravest_and_oldest_first():
    cases = [
        case(1, severity=Severity.ROUTINE, opened_at=0),
        case(2, opened_at=START),
        case(3, opened_at=START - H),
        case(4, severity=Severity.EMERGENCY, opened_at=END - 1),
        case(5, Status.CANCELLED),
    ]
    assert [one.ticket_id for one in handover(cases, [], [], START, END).open] == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("happened_at", "recorded_at", "told"),
    [
        (START, START, True),
        (END - 1, END - 1, True),
        (END, END, False),
        (START - 1, START - 1, False),
        # In a dead spot: it happened in the shift before, and nobody there could know.
        (START - 2 * H, START + H, True),
        (END - 1, END + H, False),
    ],
)
def test_a_step_belongs_to_the_shift_that_recorded_it(happened_at, recorded_at, told):
    shift = handover([case(1)], [step(1, "arrive", happened_at, recorded_at)], [], START, END)
    assert [len(one.steps) for one in shift.happened] == [1] * told


def test_what_happened_tells_each_ticket_once_its_steps_in_order():
    cases = [case(1, Status.RESOLVED), case(2, opened_at=START), case(3), case(4, opened_at=END), case(5)]
    steps = [step(1, "resolve", END - H), step(1, "arrive", START + H), step(1, "start-repair", START + 2 * H)]
    shift = handover(cases, [*steps, step(99, "arrive", START)], [clock(3, START + H)], START, END)
    told = [
        (one.case.ticket_id, one.opened, [did.verb for did in one.steps], len(one.missed)) for one in shift.happened
    ]
    assert told == [
        (1, False, ["arrive", "start-repair", "resolve"], 0),
        (3, False, [], 1),
        (2, True, [], 0),
    ]


@pytest.mark.parametrize(
    ("due_at", "met_at", "paused", "missed"),
    [
        (START, None, False, 1),
        (START, START + H, False, 1),
        (START + H, START + H, False, 0),
        (START + H, None, True, 0),
        (END, None, False, 0),
        (START - 1, None, False, 0),
    ],
)
def test_a_missed_promise_belongs_to_the_shift_of_its_due_time(due_at, met_at, paused, missed):
    shift = handover([case(1)], [], [clock(1, due_at, met_at=met_at, paused=paused)], START, END)
    assert (shift.tally.missed, sum(len(one.missed) for one in shift.happened)) == (missed, missed)


def test_the_figures_of_a_shift():
    cases = [
        case(1, opened_at=START, technician_id=None),
        case(2, Status.RESOLVED, technician_id=None),
        case(3, Status.CLOSED),
        case(4, Status.CANCELLED, opened_at=START),
        case(5, Status.VERIFIED, technician_id=None, waits_for="parts"),
        case(6, Status.RESOLVED),
    ]
    steps = [step(n, verb, START + H) for n, verb in ((2, "resolve"), (3, "close"), (4, "cancel"))]
    clocks = [clock(1, END + H, met_at=END - 1), clock(5, START + H), clock(5, END + H, risk="far_away")]
    assert asdict(handover(cases, steps, clocks, START, END).tally) == asdict(
        Tally(opened=2, resolved=1, closed=1, cancelled=1, open=4, unassigned=2, waiting=1, met=1, missed=1, at_risk=1)
    )


def test_a_message_is_short_and_says_what_it_leaves_out():
    cases = [case(n, opened_at=START + n) for n in range(MOST_LINES + 10)]
    page = handover(cases, [], [clock(n, END + n) for n in range(20)], START, END)
    assert (len(page.open), len(page.happened), len(page.promised), page.left_out) == (MOST_LINES, MOST_LINES, 20, 20)
    assert page.tally.open == MOST_LINES + 10
    message = page.shortened(3)
    assert (len(message.open), len(message.happened), len(message.promised)) == (3, 3, 3)
    assert message.left_out == 20 + 2 * (MOST_LINES - 3) + 17
    assert message.tally == page.tally


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(80 * H, 120 * H), st.integers(0, 12 * H)), max_size=20),
    st.lists(st.integers(81 * H, 130 * H), max_size=4, unique=True),
)
def test_shifts_in_a_row_tell_every_step_exactly_once(steps, turns):
    done = [step(ticket_id, "arrive", at, at + late) for ticket_id, at, late in steps]
    bounds = [0, *sorted(turns), 200 * H]
    shifts = [handover(map(case, range(1, 6)), done, [], *shift) for shift in itertools.pairwise(bounds)]
    told = [one for shift in shifts for happened in shift.happened for one in happened.steps]
    assert sorted(map(repr, told)) == sorted(map(repr, done))
