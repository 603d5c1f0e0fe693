"""The life of a ticket and its clocks, from the service standard's own words."""

from dataclasses import replace
from datetime import datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.desk.commitments import (
    Clause,
    Commitment,
    Crossing,
    Ledger,
    Pause,
    Turn,
    Turned,
    crossings,
    explain,
    promised,
    reckon,
    service_standard,
)
from monitor.desk.tickets import (
    DESK,
    TRANSITIONS,
    Incomplete,
    NotPossible,
    Resolution,
    Status,
    Step,
    Taken,
    Ticket,
    Verb,
    advance,
    allowed,
    give_again,
    had_gone_on,
    turns,
)
from monitor.desk.working_time import Always, calendar_named, shipped_policy
from monitor.devices import Severity

OPENED = 1_800_000_000_000
MINUTE, HOUR = 60_000, 3_600_000
STANDARD = service_standard()


def ticket(status=Status.OPEN, technician_id=None, cleared_at=None) -> Ticket:
    return Ticket(231, status, technician_id, OPENED, OPENED, cleared_at)


RESOLUTION = Resolution("battery", "part_replaced", "wear", ("Battery 12 V 100 Ah",))


def step(verb: Verb, at: int, technician_id: int | None = 7, **how) -> Step:
    """A complete step of this verb; `technician_id`: whom one that sends somebody sends."""
    if verb not in (Verb.DISPATCH, Verb.ACCEPT):
        technician_id = None
    belongs = {
        Verb.RESOLVE: {"resolution": RESOLUTION}, Verb.CANCEL: {"reason": "sensor_wrong"}, Verb.MERGE: {"other_id": 9},
        Verb.PAUSE: {"reason": "no_access", "until_at": at + HOUR}, Verb.LINK: {"other_id": 9},
        Verb.VERIFY: {"note": "It is dead"},
    }  # fmt: skip
    return Step(verb, "person:1", at, technician_id, **belongs.get(verb, {}) | how)


def take(here: Ticket, taken: Step, now: int | None = None) -> Ticket:
    """The ticket after a step, with the step in its record, as the store loads it."""
    at = taken.happened_at if now is None else now
    walked = advance(here, taken, at)
    after = walked.ticket
    if walked.undoes is not None:
        return after
    record = Taken(len(here.taken) + 1, taken.verb, here.status, after.status, taken.happened_at, at,
                   taken.technician_id, taken.note)  # fmt: skip
    before = () if taken.verb is Verb.REOPEN else here.taken
    kept = before if taken.verb in (Verb.LINK, Verb.REOPEN) else (*before, record)
    ended = at if not after.status.is_open or after.status is Status.RESOLVED else None
    return replace(after, taken=kept, ended_at=ended)


def walk(start: Ticket, *verbs: Verb, technician_id=7) -> list[Status]:
    """The statuses that these steps lead through."""
    seen = []
    for place, verb in enumerate(verbs, start=1):
        start = take(start, step(verb, OPENED + place * MINUTE, technician_id))
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
        (Status.OPEN, Verb.START_REPAIR, ["verify", "dispatch", "accept", "cancel", "pause", "merge", "link"]),
        (Status.CLOSED, Verb.ACCEPT, ["reopen", "link"]),
        (Status.CANCELLED, Verb.CLOSE, ["reopen", "link"]),
        (Status.REPAIRING, Verb.DISPATCH, ["verify", "decline", "resolve", "cancel", "pause", "merge", "link"]),
        (Status.WAITING, Verb.ARRIVE, ["verify", "cancel", "resume", "merge", "link"]),
    ],
)
def test_a_step_that_is_not_possible_says_what_is(status, verb, possible):
    with pytest.raises(NotPossible) as refused:
        advance(ticket(status, 7), Step(verb, "person:1", OPENED, 7), OPENED)
    assert refused.value.allowed == possible
    assert f"Ticket 231 is {status}" in refused.value.detail


@pytest.mark.parametrize(
    ("lacking", "status", "complaint"),
    [
        (Step(Verb.DISPATCH, "person:1", OPENED), Status.OPEN, "dispatch needs technician_id"),
        (Step(Verb.CANCEL, "person:1", OPENED), Status.OPEN, "cancel needs reason"),
        (Step(Verb.RESOLVE, "person:1", OPENED), Status.VERIFIED, "resolve needs cause, action and borne_by"),
        (Step(Verb.PAUSE, "person:1", OPENED, reason="tea"), Status.OPEN, "one of: no_access, customer_asked, parts"),
        (Step(Verb.PAUSE, "person:1", OPENED, reason="parts", until_at=OPENED), Status.OPEN, "in the future"),
        (Step(Verb.PAUSE, "person:1", OPENED, reason="parts", until_at=OPENED + 93 * 24 * HOUR), Status.OPEN, "92 d"),
        (Step(Verb.ACCEPT, "person:1", OPENED, 7, visit_at=OPENED), Status.OPEN, "visit_at: it must lie in the future"),
        (Step(Verb.VERIFY, "person:1", OPENED, visit_at=OPENED + HOUR), Status.OPEN, "verify agrees on no visit"),
        (Step(Verb.PAUSE, "person:1", OPENED, reason="no_access"), Status.OPEN, "pause needs until_at"),
        (Step(Verb.VERIFY, "person:1", OPENED), Status.ACCEPTED, "verify needs note"),
        (Step(Verb.ARRIVE, "person:1", OPENED, 8), Status.ACCEPTED, "arrive sends nobody else"),
        (Step(Verb.LINK, "person:1", OPENED, 8, other_id=9), Status.OPEN, "link sends nobody else"),
        (Step(Verb.MERGE, "person:1", OPENED, other_id=231), Status.OPEN, "another ticket"),
        (Step(Verb.LINK, "person:1", OPENED), Status.CLOSED, "another ticket"),
    ],
)
def test_a_step_that_lacks_something_says_what(lacking, status, complaint):
    with pytest.raises(Incomplete, match=complaint):
        advance(ticket(status), lacking, OPENED)


def test_a_pause_that_was_said_late_may_be_over_by_then():
    pause = Step(Verb.PAUSE, "person:1", OPENED, reason="parts", until_at=OPENED + HOUR)
    walked = advance(ticket(), pause, OPENED + 3 * HOUR)
    assert walked.ticket.status is Status.WAITING


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


def meant(before: Status, verb: Verb, note: str = "") -> list[tuple[Turn, bool]]:
    """What a step means for the clocks: the turns, and whether each is taken back."""
    after = advance(ticket(before, 7), step(verb, OPENED + 1, note=note), OPENED + 1).ticket
    record = Taken(1, verb, before, after.status, OPENED + 1, OPENED + 1, 7, note)
    return [(turned.turn, turned.taken_back) for turned in turns([record])]


@pytest.mark.parametrize(
    ("before", "verb", "expected"),
    [
        (Status.OPEN, Verb.DISPATCH, []),
        (Status.DISPATCHED, Verb.ACCEPT, [(Turn.TECHNICIAN_ARRANGED, False)]),
        (Status.ACCEPTED, Verb.DECLINE, [(Turn.TECHNICIAN_ARRANGED, True)]),
        (Status.DISPATCHED, Verb.DECLINE, []),
        (Status.REPAIRING, Verb.DECLINE, []),  # they came, as promised; another one goes on
        (Status.ACCEPTED, Verb.START_REPAIR, [(Turn.REPAIR_BEGUN, False)]),
        (Status.ON_SITE, Verb.RESOLVE, [(Turn.REPAIR_BEGUN, False)]),  # who has repaired it has begun to
        (Status.VERIFIED, Verb.RESOLVE, []),  # from afar
    ],
)
def test_only_an_acceptance_arranges_and_only_a_withdrawal_takes_it_back(before, verb, expected):
    assert meant(before, verb) == expected


@given(verbs=st.lists(st.sampled_from(Verb), max_size=14), cleared=st.booleans())
def test_what_is_allowed_is_exactly_what_is_possible(verbs, cleared):
    here = ticket(cleared_at=OPENED if cleared else None)
    for verb in verbs:
        now = here.last_step_at
        taken = step(verb, now)
        if verb in allowed(here, now):
            here = take(here, taken, now)
        else:
            with pytest.raises(NotPossible):
                advance(here, taken, now)


@pytest.mark.parametrize(
    ("note", "expected"), [("", []), ("  ", []), ("Starter dead", [(Turn.DIAGNOSIS_GIVEN, False)])]
)
def test_a_written_verification_is_the_remote_diagnosis(note, expected):
    assert meant(Status.OPEN, Verb.VERIFY, note) == expected


@pytest.mark.parametrize("status", ["verified", "dispatched", "accepted", "on_the_way", "repairing", "waiting"])
def test_a_diagnosis_is_written_whenever_somebody_knows_it_and_changes_nothing_else(status):
    here = replace(ticket(Status(status), 7), resumes_to=Status.OPEN if status == "waiting" else None)
    found = take(here, step(Verb.VERIFY, OPENED + 1))
    assert (found.status, found.technician_id, found.resumes_to) == (here.status, 7, here.resumes_to)
    assert [one.turn for one in turns(found.taken)] == [Turn.DIAGNOSIS_GIVEN]


def test_another_ticket_is_linked_with_one_that_waits():
    waiting = replace(ticket(Status.WAITING, 7), resumes_to=Status.REPAIRING)
    linked = take(waiting, step(Verb.LINK, OPENED + 1))
    assert (linked.status, linked.resumes_to) == ("waiting", "repairing")


def test_a_correction_lies_in_the_past_and_not_far_back():
    verified = take(ticket(), step(Verb.VERIFY, OPENED + 1))
    for moment in (OPENED + 10, OPENED - 13 * HOUR):
        with pytest.raises(NotPossible, match="happened_at"):
            advance(verified, step(Verb.CORRECT, moment), OPENED + 9)


def test_every_status_can_be_left():
    reachable = {to for _, to in TRANSITIONS.values() if to} | {Status.OPEN}
    assert reachable == set(Status)
    for status in reachable:
        assert set(allowed(ticket(status, 7))) > {Verb.LINK}


@pytest.mark.parametrize("before", [Status.OPEN, Status.DISPATCHED, Status.ON_SITE, Status.REPAIRING])
def test_what_waited_goes_on_where_it_stood(before):
    assert walk(ticket(before, 7), Verb.PAUSE, Verb.RESUME) == ["waiting", before]


def test_a_resumed_repair_is_no_second_arrangement_and_no_second_beginning():
    record = Taken(1, Verb.RESUME, Status.WAITING, Status.REPAIRING, OPENED, OPENED, 7)
    assert turns([record]) == []


@given(
    st.lists(st.sampled_from([Verb.VERIFY, Verb.DISPATCH, Verb.ACCEPT, Verb.DECLINE, Verb.DEPART, Verb.ARRIVE,
                              Verb.START_REPAIR, Verb.RESOLVE]), min_size=1, max_size=10)
)  # fmt: skip
def test_a_mistaken_tap_taken_back_leaves_the_ticket_as_it_was(verbs):
    here, before = ticket(), None
    for place, verb in enumerate(verbs, start=1):
        if verb in allowed(here):
            before, here = here, take(here, step(verb, OPENED + place, 7 + place))
    if before is not None:
        back = take(here, step(Verb.CORRECT, OPENED + 99))
        assert (back.status, back.technician_id, back.taken) == (before.status, before.technician_id, before.taken)
        assert turns(back.taken) == turns(before.taken)


def test_what_ended_is_reopened_not_corrected_and_only_for_three_days():
    closed = replace(ticket(Status.CLOSED), ended_at=OPENED)
    assert take(closed, step(Verb.REOPEN, OPENED + 72 * HOUR, None)).status == "open"
    with pytest.raises(NotPossible, match="ended more than 72 h ago"):
        advance(closed, step(Verb.REOPEN, OPENED + 72 * HOUR + 1), OPENED + 72 * HOUR + 1)
    with pytest.raises(NotPossible, match="merged into 9"):
        advance(replace(closed, status=Status.CANCELLED, merged_into=9), step(Verb.REOPEN, OPENED), OPENED)
    with pytest.raises(NotPossible, match="no step to take back"):
        advance(ticket(), step(Verb.CORRECT, OPENED), OPENED)


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
    made = promised(
        STANDARD, 1, Severity(severity), lambda _: Always(), on_hire=on_hire, remote=remote, opened_at=OPENED
    )
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


# --- the ledger ----------------------------------------------------------------------------------------------------


def clock(hours: float = 1.0, stop: Turn = Turn.TECHNICIAN_ARRANGED, **how) -> Commitment:
    due_at = OPENED + round(hours * HOUR)
    return Commitment(1, "R7", "dispatch", OPENED, due_at, 900.0, stop=stop, length_s=hours * 3600, **how)


def turned(minute: float, turn=Turn.TECHNICIAN_ARRANGED, *, taken_back=False) -> Turned:
    at = OPENED + round(minute * MINUTE)
    return Turned(turn, at, at, taken_back)


def pause(start: float, end: float | None, *, stops=True, reason="no_access") -> Pause:
    return Pause(OPENED + round(start * MINUTE), None if end is None else OPENED + round(end * MINUTE), reason,
                 "person:1", stops)  # fmt: skip


def told(commitment: Commitment) -> dict[str, float]:
    """What a clock says, in minutes after its opening."""
    names = ("due_at", "met_at", "voided_at", "breached_at", "paused_since")
    return {name: (at - OPENED) / MINUTE for name in names if (at := getattr(commitment, name)) is not None}


@pytest.mark.parametrize(
    ("ledger", "expected"),
    [
        (Ledger(), {"due_at": 60}),
        (Ledger((turned(50),)), {"due_at": 60, "met_at": 50}),
        (Ledger((turned(70),)), {"due_at": 60, "met_at": 70}),  # met late
        (Ledger((turned(50), turned(55, taken_back=True))), {"due_at": 60}),  # withdrawn: its original due time
        (Ledger((turned(50), turned(55, taken_back=True), turned(58))), {"due_at": 60, "met_at": 58}),
        (Ledger((turned(5, Turn.REPAIR_BEGUN),)), {"due_at": 60}),  # another clock's
        (Ledger(ended_at=OPENED + 30 * MINUTE), {"due_at": 60, "voided_at": 30}),
        (Ledger(ended_at=OPENED + 90 * MINUTE), {"due_at": 60}),  # broken before it ended
        (Ledger((turned(20),), ended_at=OPENED + 30 * MINUTE), {"due_at": 60, "met_at": 20}),
        (Ledger(pauses=(pause(10, 40),)), {"due_at": 90}),
        (Ledger(pauses=(pause(10, 40), pause(50, 55))), {"due_at": 95}),
        (Ledger(pauses=(pause(10, 40, stops=False),)), {"due_at": 60}),  # waiting for parts stops nothing
        (Ledger(pauses=(pause(60, 100),)), {"due_at": 60}),  # it was due by then
        (Ledger(pauses=(pause(10, None),)), {"due_at": 60, "paused_since": 10}),
        (Ledger(pauses=(pause(10, 40), pause(70, None))), {"due_at": 90, "paused_since": 70}),
        (Ledger(pauses=(pause(10, None),), ended_at=OPENED + 300 * MINUTE), {"due_at": 60, "voided_at": 300}),
        (Ledger((turned(80),), (pause(10, 40),)), {"due_at": 90, "met_at": 80}),  # in time, thanks to the pause
        (Ledger((turned(-5),)), {"due_at": 60, "met_at": 0}),  # kept from the first
    ],
)
def test_a_clock_is_reckoned_from_its_ledger_alone(ledger, expected):
    assert told(reckon(clock(), ledger, Always())) == expected


def test_a_breach_that_is_true_stays_and_one_that_is_not_goes():
    broken = clock(breached_at=OPENED + HOUR, warned_at=OPENED + 45 * MINUTE)
    assert told(reckon(broken, Ledger((turned(70),)), Always())) == {"due_at": 60, "met_at": 70, "breached_at": 60}
    assert told(reckon(broken, Ledger((turned(50),)), Always())) == {"due_at": 60, "met_at": 50}
    later = reckon(broken, Ledger(pauses=(pause(20, 50),)), Always())
    assert told(later) == {"due_at": 90}
    assert later.warned_at is None  # it warns again, before the new time


MOMENTS = st.integers(0, 400)
LEDGERS = st.builds(
    lambda stops, cuts, ended, open_end: Ledger(
        tuple(turned(minute, taken_back=back) for minute, back in sorted(stops)),
        tuple(pause(a, None if open_end and place == len(cuts) // 2 - 1 else b, stops=(a + b) % 3 > 0)
              for place, (a, b) in enumerate(zip(cuts[::2], cuts[1::2], strict=False))),
        None if ended is None else OPENED + ended * MINUTE,
    ),
    st.lists(st.tuples(MOMENTS, st.booleans()), max_size=4), st.lists(MOMENTS, max_size=8, unique=True).map(sorted),
    st.none() | MOMENTS, st.booleans(),
)  # fmt: skip


@given(LEDGERS, st.floats(0.1, 5))
def test_reckoning_is_total_and_the_parts_of_a_due_time_add_up(ledger, hours):
    begun = clock(hours)
    found = reckon(begun, ledger, Always())
    parts = explain(begun, ledger, Always())
    assert reckon(found, ledger, Always()) == found  # once more changes nothing
    assert (parts[0].from_at, parts[-1].to_at) == (OPENED, found.due_at)
    assert all(one.to_at == following.from_at for one, following in pairwise(parts))
    assert sum(part.ran_ms for part in parts) == round(hours * 3600 * 1000)
    assert found.due_at - OPENED == sum(part.to_at - part.from_at for part in parts)
    assert found.met_at is None or found.voided_at is None
    assert found.paused_since is None or (found.met_at is None and found.voided_at is None)


@given(LEDGERS, st.integers(0, 100), st.integers(1, 100))
def test_a_pause_on_the_customers_side_never_makes_a_clock_due_earlier(ledger, start, length):
    clear = Ledger(ledger.turned, tuple(one for one in ledger.pauses if one.from_at > OPENED + 250 * MINUTE))
    more = Ledger(ledger.turned, (pause(start, start + length), *clear.pauses))
    begun = clock(2)
    assert reckon(begun, more, Always()).due_at >= reckon(begun, clear, Always()).due_at


def test_working_days_and_working_hours():
    """National Day 2025: 1 to 8 October are off, 28 September and 11 October are worked."""
    working = calendar_named("working", shipped_policy(), "Asia/Shanghai")

    def at(text: str) -> int:
        return round(datetime.fromisoformat(f"{text}+08:00").timestamp() * 1000)

    days = Commitment(1, "K7", "solution", at("2025-09-29 10:00"), 0, 0.0, stop="agreed", length_days=3)
    assert reckon(days, Ledger(), working).due_at == at("2025-10-10 18:00")
    hours = Commitment(1, "R1", "answer", at("2025-09-30 17:00"), 0, 0.0, stop="answered", length_s=7200)
    assert reckon(hours, Ledger(), working).due_at == at("2025-10-09 10:00")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, "one of length_s and length_days"),
        ({"length_s": 60.0, "length_days": 3}, "one of length_s and length_days"),
        ({"length_days": 3}, "so calendar is working"),
        ({"length_s": -1.0}, "must be positive"),
    ],
)
def test_a_clause_says_how_long_it_is(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        Clause("R0", "x", Turn.TICKET_OPENED, Turn.REPAIR_BEGUN, 0.0, (), **change)


def expired(*after: Taken) -> Ticket:
    """Person 7 had accepted; the desk ended that in the third minute, and what is in `after` came then."""
    taken = (
        Taken(1, Verb.ACCEPT, Status.OPEN, Status.ACCEPTED, OPENED + MINUTE, OPENED + MINUTE, 7, actor="person:7"),
        Taken(2, Verb.DECLINE, Status.ACCEPTED, Status.VERIFIED, OPENED + 3 * MINUTE, OPENED + 3 * MINUTE, actor=DESK),
    )
    return replace(ticket(Status.DISPATCHED, 8), taken=(*taken, *after))


def written(number: int, status: Status) -> Taken:
    return Taken(number, Verb.VERIFY, status, status, OPENED + 4 * MINUTE, OPENED + 4 * MINUTE, note="the starter")


@pytest.mark.parametrize(
    ("after", "person", "minute", "had"),
    [
        ((), 7, 2, True),
        ((written(3, Status.VERIFIED),), 7, 2, True),
        ((written(3, Status.VERIFIED), written(4, Status.DISPATCHED)), 7, 2, True),
        ((written(3, Status.VERIFIED),), 7, 3, False),  # not before it had ended
        ((written(3, Status.VERIFIED),), 8, 2, False),  # somebody else's
        ((Taken(3, Verb.DISPATCH, Status.VERIFIED, Status.DISPATCHED, OPENED + 4 * MINUTE, 0, 8),), 7, 2, False),
    ],
)
def test_an_expiry_is_taken_back_by_who_had_gone_on_whatever_was_written_since(after, person, minute, had):
    here = expired(*after)
    assert had_gone_on(here, Step(Verb.DEPART, f"person:{person}", OPENED + minute * MINUTE, person)) is had
    if not had:
        return
    given = give_again(here)
    assert given.undoes is here.taken[1]
    assert (given.ticket.status, given.ticket.technician_id) == (Status.ACCEPTED, 7)
    assert given.ticket.taken == (here.taken[0], *after), "what was written stays"
    back = advance(given.ticket, Step(Verb.CORRECT, "person:1", OPENED + 5 * MINUTE), OPENED + 5 * MINUTE).ticket
    assert back.status is (Status.ACCEPTED if after else Status.OPEN), "what led nowhere leads nowhere back"
