"""Who is asked to take a ticket, who next, and when an acceptance that leads nowhere expires."""

from dataclasses import dataclass, field, replace
from importlib.resources import files

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.desk.escalation import (
    Job,
    Move,
    Phase,
    Policy,
    What,
    Who,
    next_at,
    next_moves,
    read_policy,
    shipped_policy,
    unanswered,
)
from monitor.devices import Severity

POLICY = shipped_policy()
T0 = 1_763_864_214_120
MIN = 60_000
ANNA, BO, CHEN, DANA = 1, 2, 3, 4


def job(severity: Severity = Severity.EMERGENCY, **known: object) -> Job:
    facts = {"on_hire": True, "phase": Phase.SEEKING, "round": 1, "since_at": T0,
             "proposed": (ANNA, BO, CHEN), "on_call": (ANNA, BO, CHEN, DANA), **known}  # fmt: skip
    return Job(231, severity, **facts)


def told(moves: list[Move]) -> list[tuple[int, str, int | None]]:
    """(minutes after T0, what, person) of each move."""
    return [((move.due_at - T0) // MIN, move.what.value, move.person_id) for move in moves]


def declined(moves: list[Move], person_id: int, at: int) -> list[Move]:
    return [replace(one, declined_at=at) if one.person_id == person_id else one for one in moves]


def looks(facts: Job, minutes: list[float], policy: Policy = POLICY) -> list[Move]:
    """All moves, when somebody looks at these minutes."""
    made: list[Move] = []
    for minute in minutes:
        made += next_moves(facts, made, policy, T0 + round(minute * MIN))
    return made


# --- the ladder ----------------------------------------------------------------------------------------------------

EMERGENCY = [
    (0, "ask", ANNA), (5, "ask", BO),
    (10, "ask", ANNA), (10, "ask", BO), (10, "ask", CHEN), (10, "ask", DANA), (15, "tell", None),
]  # fmt: skip


def test_an_emergency_goes_from_person_to_person_to_the_manager():
    made = looks(job(), [0, 1, 5, 7, 10, 14.9, 15, 16, 500])
    assert told(made) == EMERGENCY
    assert made[-1].who is Who.MANAGER
    assert [move.until_at for move in made[:2]] == [T0 + 5 * MIN, T0 + 10 * MIN]


@pytest.mark.parametrize(
    ("severity", "on_hire", "first", "who"),
    [
        (Severity.EMERGENCY, False, "ask", [Who.NEXT, Who.NEXT, *[Who.ON_CALL] * 4, Who.MANAGER]),
        (Severity.URGENT, True, "tell", [Who.OPS, Who.NEXT, *[Who.ON_CALL] * 4, Who.MANAGER]),
        (Severity.URGENT, False, "tell", [Who.OPS, Who.MANAGER]),
        (Severity.ROUTINE, True, None, []),
        (Severity.NOTE, True, None, []),
    ],
)
def test_severity_and_rental_choose_the_ladder(severity, on_hire, first, who):
    made = looks(job(severity, on_hire=on_hire), [*range(0, 600, 2)])
    assert [move.who for move in made] == who
    assert (made[0].what.value if made else None) == first


def test_without_auto_dispatch_operators_are_told_and_nobody_is_asked_until_somebody_is_named():
    shipped = files("monitor.desk").joinpath("escalation.toml").read_bytes()
    careful = read_policy(shipped.replace(b"auto_dispatch = true", b"auto_dispatch = false"))
    made = looks(job(), [0, 5, 10, 15, 500], careful)
    assert [(move.due_at - T0) // MIN for move in made] == [0, 5]
    assert [(move.what, move.who) for move in made] == [(What.TELL, Who.OPS), (What.TELL, Who.MANAGER)]
    named = looks(job(named_id=DANA), [0, 5, 10], careful)
    assert told(named) == [(0, "ask", DANA), (5, "ask", ANNA), (10, "ask", BO)]


def test_r7_leaves_the_manager_half_of_its_hour():
    for severity in (Severity.EMERGENCY, Severity.URGENT):
        managers = [move for move in looks(job(severity), [*range(60)]) if move.who is Who.MANAGER]
        assert managers[0].due_at - T0 <= 30 * MIN, severity


def test_a_decline_goes_on_at_once():
    made = declined(looks(job(), [0]), ANNA, T0 + 2 * MIN)
    assert told(next_moves(job(), made, POLICY, T0 + 2 * MIN)) == [(2, "ask", BO)]


def test_the_manager_hears_at_once_when_everybody_has_declined():
    facts = job(proposed=(ANNA,), on_call=(ANNA, DANA))
    made = declined(looks(facts, [0]), ANNA, T0 + MIN)
    made += next_moves(facts, made, POLICY, T0 + MIN)
    assert told(made[1:]) == [(1, "skip_nobody", None), (1, "ask", DANA)]
    made = declined(made, DANA, T0 + 3 * MIN)
    assert told(next_moves(facts, made, POLICY, T0 + 3 * MIN)) == [(3, "tell", None)]


def test_of_several_only_the_last_decline_ends_a_level():
    made = looks(job(), [0, 5, 10])
    for person in (ANNA, BO, CHEN):
        made = declined(made, person, T0 + 11 * MIN)
    assert next_moves(job(), made, POLICY, T0 + 12 * MIN) == []
    assert unanswered(job(), made) == [DANA]
    made = declined(made, DANA, T0 + 12 * MIN)
    assert told(next_moves(job(), made, POLICY, T0 + 12 * MIN)) == [(12, "tell", None)]


def test_a_decline_that_is_noted_late_moves_no_later_level():
    made = declined(looks(job(), [0, 5]), ANNA, T0 + 3 * MIN)
    assert next_at(job(), made, POLICY) == T0 + 10 * MIN


@pytest.mark.parametrize(("minute", "due"), [(-3, 0), (3, 3), (7, 5)])
def test_the_next_is_due_between_the_ask_and_the_end_of_its_time(minute, due):
    made = declined(looks(job(), [0]), ANNA, T0 + minute * MIN)
    assert told(next_moves(job(), made, POLICY, T0 + 8 * MIN))[0][0] == due


def test_whoever_declined_is_not_asked_with_everybody():
    made = declined(looks(job(), [0]), ANNA, T0 + MIN)
    for minute in (1, 6):
        made += next_moves(job(), made, POLICY, T0 + minute * MIN)
    assert [move.person_id for move in made if move.who is Who.ON_CALL] == [BO, CHEN, DANA]


def test_with_nobody_on_duty_the_manager_hears_at_once():
    made = next_moves(job(proposed=(), on_call=()), [], POLICY, T0)
    assert told(made) == [*[(0, "skip_nobody", None)] * 3, (0, "tell", None)]


@pytest.mark.parametrize("phase", [Phase.ACCEPTED, Phase.ON_THE_WAY, Phase.STOPPED])
def test_paging_stops(phase):
    made = looks(job(), [0])
    later = job(phase=phase, technician_id=ANNA, since_at=T0 + MIN)
    assert [move for move in next_moves(later, made, POLICY, T0 + 20 * MIN) if move.what in (What.ASK, What.TELL)] == []


def test_no_more_people_are_asked_than_the_policy_allows():
    crowd = tuple(range(100, 200))
    made = looks(job(on_call=crowd), [0, 5, 10])
    assert sum(move.who is Who.ON_CALL for move in made) == POLICY.most_asked


# --- looks that come late ------------------------------------------------------------------------------------------


def test_a_late_look_asks_for_the_level_that_is_due_now_and_notes_the_others():
    made = next_moves(job(), [], POLICY, T0 + 7 * MIN)
    assert told(made) == [(0, "skip_late", None), (5, "ask", ANNA)]
    assert made[1].until_at == T0 + 10 * MIN


def test_a_look_after_all_levels_tells_the_manager_and_those_on_call():
    made = next_moves(job(), [], POLICY, T0 + 100 * MIN)
    assert told(made)[:4] == [
        (0, "skip_late", None),
        (5, "skip_late", None),
        (10, "skip_late", None),
        (15, "tell", None),
    ]
    assert [move.person_id for move in made if move.what is What.ASK] == [ANNA, BO, CHEN, DANA]


def test_whoever_was_slept_over_is_asked_beside_the_manager():
    assert told(looks(job(), [0, 100])) == [
        (0, "ask", ANNA), (5, "skip_late", None), (10, "skip_late", None),
        (15, "tell", None), (15, "ask", BO), (15, "ask", CHEN), (15, "ask", DANA),
    ]  # fmt: skip
    alone = looks(job(on_call=(), proposed=(ANNA, BO)), [0, 100])
    assert told(alone)[-2:] == [(10, "tell", None), (10, "ask", BO)]


def test_operators_are_told_late_rather_than_never():
    made = next_moves(job(Severity.URGENT), [], POLICY, T0 + 12 * MIN)
    assert told(made) == [(0, "tell", None), (10, "ask", ANNA)]


# --- dispatched by a person ----------------------------------------------------------------------------------------


def test_a_dispatch_by_a_person_replaces_the_running_ask():
    before = looks(job(), [0])
    again = job().sought_again(T0 + 2 * MIN, named_id=CHEN)
    made = [*before, *next_moves(again, before, POLICY, T0 + 2 * MIN)]
    assert told(made[1:]) == [(2, "ask", CHEN)]
    assert unanswered(again, made) == [CHEN]
    assert next_moves(again, made, POLICY, T0 + 6 * MIN) == []
    assert told(next_moves(again, made, POLICY, T0 + 7 * MIN)) == [(7, "ask", ANNA)]


def test_routine_work_is_offered_once_somebody_is_named():
    named = job(Severity.ROUTINE, named_id=BO)
    made = looks(named, [0, 239, 240])
    assert told(made) == [(0, "ask", BO), (240, "tell", None)]
    assert made[-1].who is Who.OPS


# --- acceptances that lead nowhere ---------------------------------------------------------------------------------


def accepted(**known: object) -> Job:
    return job(phase=Phase.ACCEPTED, technician_id=ANNA, **known)


def test_an_acceptance_without_progress_is_reminded_of_and_expires():
    assert told(looks(accepted(), [0, 19, 20, 21, 29, 30, 31])) == [
        (20, "remind_to_depart", ANNA), (30, "expire", ANNA),
    ]  # fmt: skip


def test_on_the_way_gives_the_next_stretch_of_time():
    departed = replace(accepted(), phase=Phase.ON_THE_WAY, since_at=T0 + 25 * MIN)
    made = looks(accepted(), [20])
    assert next_at(departed, made, POLICY) == T0 + (25 + 80) * MIN
    for minute in (30, 105, 115):
        made += next_moves(departed, made, POLICY, T0 + minute * MIN)
    assert told(made) == [(20, "remind_to_depart", ANNA), (105, "remind_to_arrive", ANNA), (115, "expire", ANNA)]


@pytest.mark.parametrize(
    ("facts", "minute"),
    [
        (accepted(visit_at=T0 + 180 * MIN), 180),
        (accepted(visit_at=T0 + 10 * MIN), 30),
        (accepted(travel_s=4 * 3600), 30),
        (replace(accepted(travel_s=4 * 3600), phase=Phase.ON_THE_WAY), 360),
        (replace(accepted(travel_s=600), phase=Phase.ON_THE_WAY), 90),
    ],
)
def test_an_agreed_visit_or_a_long_way_gives_more_time(facts, minute):
    assert told(looks(facts, [minute - 0.1]))[-1][1].startswith("remind")
    assert told(looks(facts, [minute])) == [(minute, "expire", ANNA)]


def test_an_expired_ticket_is_offered_again_to_somebody_else_first():
    before = looks(job(), [0])
    made = [*before, *next_moves(accepted(), before, POLICY, T0 + 31 * MIN)]
    again = accepted().sought_again(made[-1].due_at)
    made += next_moves(again, made, POLICY, T0 + 31 * MIN)
    assert told(made[1:]) == [(30, "expire", ANNA), (30, "ask", BO)]
    made += next_moves(again, made, POLICY, T0 + 35 * MIN)
    assert made[-1].person_id == CHEN


def test_whoever_gave_the_ticket_back_is_still_asked_before_nobody():
    facts = job(proposed=(ANNA,), on_call=())
    made = declined(looks(facts, [0]), ANNA, T0 + 20 * MIN)
    again = facts.sought_again(T0 + 20 * MIN)
    assert told(next_moves(again, made, POLICY, T0 + 20 * MIN)) == [(20, "ask", ANNA)]


# --- the data ------------------------------------------------------------------------------------------------------

LADDER = """
version = "x"
most_asked = 5
travel_factor = 1.5
progress = []
[[ladder]]
severities = ["emergency", "urgent"]
starts = "opening"
named_answer_s = 60
level = [LEVELS]
"""


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ('{who = "next", wait_s = 60}', "last level tells manager and has no wait_s"),
        ('{who = "manager", wait_s = 60}', "last level tells manager and has no wait_s"),
        ('{who = "ops"}', "last level tells manager"),
        ('{who = "next"}, {who = "manager"}', "every level before the last has a wait_s"),
        ('{who = "next", wait_s = -1}, {who = "manager"}', "> 0"),
        ('{who = "boss"}', "Invalid enum value 'boss'"),
        ('{who = "manager", colour = 3}', "unknown field `colour`"),
    ],
)
def test_a_wrong_policy_says_what_is_wrong(levels, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        read_policy(LADDER.replace("LEVELS", levels).encode())


def test_a_policy_must_have_a_ladder_for_whatever_pages():
    text = LADDER.replace("LEVELS", '{who = "manager"}')
    assert read_policy(text.encode()).version == "x"
    with pytest.raises(msgspec.ValidationError, match="no ladder starts when a ticket opens: urgent, on hire"):
        read_policy(text.replace(', "urgent"', "").encode())
    with pytest.raises(msgspec.ValidationError, match="emergency, on hire"):
        read_policy(text.replace('"opening"', '"dispatch"').encode())


# --- any course of events ------------------------------------------------------------------------------------------


@dataclass
class Course:
    """A ticket in the hands of a shell that keeps nothing but what it saved, and hears answers."""

    facts: Job
    made: list[Move] = field(default_factory=list)

    def look(self, now: int) -> None:
        new = next_moves(self.facts, self.made, POLICY, now)
        assert all(move.due_at <= now for move in new)
        asks = [move for move in new if move.what is What.ASK]
        assert not asks or self.facts.phase is Phase.SEEKING
        self.made += new
        assert next_moves(self.facts, self.made, POLICY, now) == []
        due_at = next_at(self.facts, self.made, POLICY)
        assert due_at is None or due_at > now
        if any(move.what is What.EXPIRE for move in new):
            self.facts = self.facts.sought_again(new[-1].due_at)
            self.look(now)

    def go(self, start_at: int, end_at: int, every_ms: int) -> None:
        """Look whenever something is due, and so often besides."""
        for until in [*range(start_at, end_at, every_ms), end_at]:
            while (due_at := next_at(self.facts, self.made, POLICY)) is not None and due_at <= until:
                self.look(max(due_at, start_at))
            self.look(until)

    def decline(self, person_id: int, now: int) -> None:
        here = [move for move in self.made if move.round == self.facts.round and move.declined_at is None]
        open_asks = [move for move in here if move.person_id == person_id and move.what is What.ASK]
        self.made = [replace(one, declined_at=now) if one in open_asks else one for one in self.made]

    def accept(self, person_id: int, now: int) -> None:
        if self.facts.phase is Phase.SEEKING and person_id in unanswered(self.facts, self.made):
            self.facts = replace(self.facts, phase=Phase.ACCEPTED, technician_id=person_id, since_at=now)

    def dispatch(self, person_id: int, now: int) -> None:
        if self.facts.phase is not Phase.STOPPED:
            self.facts = self.facts.sought_again(now, named_id=person_id)

    def check(self) -> None:
        keys = [(move.round, move.level, move.what, move.person_id) for move in self.made]
        assert len(keys) == len(set(keys))
        rounds = [move.round for move in self.made]
        assert rounds == sorted(rounds)
        for number in set(rounds):
            due = [move.due_at for move in self.made if move.round == number and move.who is not None]
            assert due == sorted(due)


PEOPLE = st.sampled_from([ANNA, BO, CHEN, DANA])
SOME = st.lists(PEOPLE, max_size=4).map(tuple)
SEARCHES = st.builds(
    job, st.sampled_from([Severity.EMERGENCY, Severity.URGENT]), on_hire=st.booleans(), proposed=SOME, on_call=SOME
)
ACTS = st.sampled_from(["look", "look", "decline", "accept", "dispatch"])
EVENTS = st.lists(st.tuples(st.integers(0, 40 * MIN), ACTS, PEOPLE), max_size=25)


@given(SEARCHES, EVENTS)
def test_any_course_asks_once_and_ends_at_a_manager_or_an_acceptance(facts, events):
    course, now = Course(facts), T0
    for wait_ms, act, person_id in events:
        now += wait_ms
        if act != "look":
            getattr(course, act)(person_id, now)
        course.look(now)
        course.check()
    ends = course.facts.phase is Phase.ACCEPTED
    course.look(now + 24 * 3600_000)
    course.check()
    here = [move for move in course.made if move.round == course.facts.round]
    assert Who.MANAGER in [move.who for move in here]
    assert not ends or What.EXPIRE in [move.what for move in course.made]


@given(SEARCHES, EVENTS)
def test_additional_looks_change_nothing(facts, events):
    """Against a course that is looked at exactly when something is due or happens."""
    exact, often, now = Course(facts), Course(facts), T0
    for wait_ms, act, person_id in events:
        exact.go(now, now + wait_ms, every_ms=wait_ms + 1)
        often.go(now, now + wait_ms, every_ms=2 * MIN)
        now += wait_ms
        for course in (exact, often) if act != "look" else ():
            getattr(course, act)(person_id, now)
            course.look(now)
    assert often.made == exact.made


@given(SEARCHES, st.lists(st.integers(0, 12 * 60 * MIN), min_size=1, max_size=30))
def test_any_grid_of_looks_reaches_the_same_levels_at_the_same_moments(facts, grid):
    end = 24 * 60 * MIN
    coarse, fine = looks(facts, []), looks(facts, [*range(0, 24 * 60, 1)])
    for at in [*sorted(grid), end]:
        coarse += next_moves(facts, coarse, POLICY, T0 + at)

    def reached(moves: list[Move]) -> dict[int, int]:
        return {move.level: move.due_at for move in moves}

    # One person alone fills one level: which of the two is asked depends on which of them was slept over.
    if len(set(facts.proposed)) != 1:
        assert reached(coarse) == reached(fine)
    assert {move.level for move in coarse} == {move.level for move in fine}
