"""The life of a ticket and its clocks, from the service standard's own words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.desk.commitments import Commitment, Crossing, Turn, crossings, promised, service_standard, stopped_by
from monitor.desk.tickets import TRANSITIONS, NotPossible, Status, Step, Ticket, Verb, advance, allowed
from monitor.devices import Severity

OPENED = 1_800_000_000_000
MINUTE, HOUR = 60_000, 3_600_000
STANDARD = service_standard()


def ticket(status=Status.OPEN, technician_id=None, cleared_at=None) -> Ticket:
    return Ticket(231, status, technician_id, OPENED, OPENED, cleared_at)


def walk(start: Ticket, *verbs: Verb, technician_id=7) -> list[Status]:
    """The statuses that these steps lead through."""
    seen = []
    for place, verb in enumerate(verbs, start=1):
        now = OPENED + place * MINUTE
        start = advance(start, Step(verb, "person:1", now, technician_id), now).ticket
        seen.append(start.status)
    return seen


def test_a_ticket_walks_its_whole_life():
    assert walk(
        ticket(), Verb.VERIFY, Verb.DISPATCH, Verb.ACCEPT, Verb.DEPART, Verb.ARRIVE, Verb.START_REPAIR,
        Verb.RESOLVE, Verb.CLOSE,
    ) == ["verified", "dispatched", "accepted", "on_the_way", "on_site", "repairing", "resolved", "closed"]  # fmt: skip


def test_a_technician_accepts_straight_from_the_alert_and_may_be_there_already():
    assert walk(ticket(), Verb.ACCEPT, Verb.START_REPAIR) == ["accepted", "repairing"]


@pytest.mark.parametrize(
    ("status", "verb", "possible"),
    [
        (Status.OPEN, Verb.START_REPAIR, ["verify", "dispatch", "accept", "cancel"]),
        (Status.CLOSED, Verb.ACCEPT, []),
        (Status.CANCELLED, Verb.CLOSE, []),
        (Status.REPAIRING, Verb.DISPATCH, ["resolve", "cancel"]),
    ],
)
def test_a_step_that_is_not_possible_says_what_is(status, verb, possible):
    with pytest.raises(NotPossible) as refused:
        advance(ticket(status, 7), Step(verb, "person:1", OPENED, 7), OPENED)
    assert refused.value.allowed == possible
    assert f"Ticket 231 is {status}" in refused.value.detail


def test_nobody_can_be_sent_without_a_name():
    with pytest.raises(NotPossible, match="technician_id"):
        advance(ticket(), Step(Verb.DISPATCH, "person:1", OPENED), OPENED)


@pytest.mark.parametrize("happened_at", [OPENED - 1, OPENED + HOUR + 1])
def test_a_step_happened_between_the_previous_one_and_now(happened_at):
    with pytest.raises(NotPossible, match="happened_at"):
        advance(ticket(), Step(Verb.VERIFY, "person:1", happened_at), OPENED + HOUR)


def test_a_step_reaches_at_most_twelve_hours_back():
    now = OPENED + 20 * HOUR
    advance(ticket(), Step(Verb.VERIFY, "person:1", now - 12 * HOUR), now)
    with pytest.raises(NotPossible):
        advance(ticket(), Step(Verb.VERIFY, "person:1", now - 12 * HOUR - 1), now)


def test_a_fault_that_cleared_by_itself_is_closed_by_a_person_from_anywhere():
    assert walk(ticket(cleared_at=OPENED + 1), Verb.CLOSE) == ["closed"]
    with pytest.raises(NotPossible):
        walk(ticket(), Verb.CLOSE)


@pytest.mark.parametrize(
    ("before", "verb", "reached", "withdrawn"),
    [
        (Status.OPEN, Verb.VERIFY, (), ()),
        (Status.OPEN, Verb.DISPATCH, (), ()),
        (Status.DISPATCHED, Verb.ACCEPT, (Turn.TECHNICIAN_ARRANGED,), ()),
        (Status.ACCEPTED, Verb.DECLINE, (), (Turn.TECHNICIAN_ARRANGED,)),
        (Status.DISPATCHED, Verb.DECLINE, (), ()),
        (Status.ACCEPTED, Verb.START_REPAIR, (Turn.REPAIR_BEGUN,), ()),
    ],
)
def test_only_an_acceptance_arranges_and_only_a_withdrawal_takes_it_back(before, verb, reached, withdrawn):
    walked = advance(ticket(before, 7), Step(verb, "person:7", OPENED + 1, 7), OPENED + 1)
    assert (walked.reached, walked.withdrawn) == (reached, withdrawn)


@given(verbs=st.lists(st.sampled_from(Verb), max_size=12), cleared=st.booleans())
def test_what_is_allowed_is_exactly_what_is_possible(verbs, cleared):
    here = ticket(cleared_at=OPENED if cleared else None)
    for verb in verbs:
        step = Step(verb, "person:1", here.last_step_at, 7)
        if verb in allowed(here):
            here = advance(here, step, here.last_step_at).ticket
        else:
            with pytest.raises(NotPossible):
                advance(here, step, here.last_step_at)


@pytest.mark.parametrize(("note", "reached"), [("", ()), ("  ", ()), ("Starter dead", (Turn.DIAGNOSIS_GIVEN,))])
def test_a_written_verification_is_the_remote_diagnosis(note, reached):
    walked = advance(ticket(), Step(Verb.VERIFY, "person:1", OPENED + 1, note=note), OPENED + 1)
    assert walked.reached == reached


def test_every_status_but_the_ends_can_be_left():
    reachable = {to for _, to in TRANSITIONS.values()} | {Status.OPEN}
    assert reachable == set(Status)
    for status in reachable:
        assert bool(allowed(ticket(status, 7))) == status.is_open


# --- clocks ---


@pytest.mark.parametrize(
    ("severity", "on_hire", "remote", "clocks"),
    [
        ("emergency", True, False, {("R7", "dispatch", 1), ("R9", "repair_start", 4)}),
        ("emergency", True, True, {("R8", "remote_diagnosis", 1), ("R8", "dispatch", 4), ("R9", "repair_start", 4)}),
        ("urgent", True, False, {("R7", "dispatch", 1)}),
        ("urgent", True, True, {("R8", "remote_diagnosis", 1), ("R8", "dispatch", 4)}),
        ("routine", True, False, set()),
        ("emergency", False, False, set()),
        ("urgent", False, True, set()),
    ],
)
def test_fault_clocks_combine_as_the_standard_says(severity, on_hire, remote, clocks):
    made = promised(STANDARD, 1, Severity(severity), on_hire=on_hire, remote=remote, opened_at=OPENED)
    assert {(c.standard_id, c.kind, (c.due_at - OPENED) / HOUR) for c in made} == clocks


DISPATCH = Commitment(1, "R7", "dispatch", OPENED, OPENED + HOUR, 900.0)


@pytest.mark.parametrize(
    ("minutes", "found"),
    [
        (44.9, []),
        (45, [(Crossing.WARNING, 45)]),
        (59.9, [(Crossing.WARNING, 45)]),
        (60, [(Crossing.WARNING, 45), (Crossing.BREACH, 60)]),
        (600, [(Crossing.WARNING, 45), (Crossing.BREACH, 60)]),
    ],
)
def test_a_crossing_carries_its_own_moment_however_late_it_is_noticed(minutes, found):
    crossed = [(what, (moment - OPENED) / MINUTE) for what, moment in crossings(DISPATCH, OPENED + minutes * MINUTE)]
    assert crossed == found


@pytest.mark.parametrize("stopped", [{"met_at": OPENED + 1}, {"voided_at": OPENED + 1}])
def test_a_stopped_clock_runs_into_nothing(stopped):
    clock = Commitment(1, "R7", "dispatch", OPENED, OPENED + HOUR, 900.0, **stopped)
    assert list(crossings(clock, OPENED + 9 * HOUR)) == []


def test_turns_stop_the_clocks_that_wait_for_them():
    assert stopped_by(STANDARD, [Turn.TECHNICIAN_ARRANGED]) == {"dispatch"}
    assert stopped_by(STANDARD, [Turn.REPAIR_BEGUN, Turn.DIAGNOSIS_GIVEN]) == {"repair_start", "remote_diagnosis"}


def test_the_standard_says_who_is_warned():
    assert STANDARD.warns("R9", "repair_start") == ("technician", "ops")
    assert STANDARD.warns("R7", "repair_start") == ()
