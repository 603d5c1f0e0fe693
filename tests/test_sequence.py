"""In which order a device's messages are taken: nothing lost, nothing twice, whatever the wire does."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.devices import Device
from monitor.engine.intake import AHEAD_MS, LATE_MS, Intake, Sorted
from monitor.readings import Arrival, Message, Reading, Rejected
from monitor.sequence import GAP_WAIT_MS, MAX_GAPS, MAX_PARKED, Course, Stream

NOW = 1_800_000_000_000
PUMP = Device("P-1", "water_pump")


class Desk:
    """One device's intake over several observations, as the watch keeps it between commits."""

    def __init__(self):
        self.streams: dict[str, Stream] = {}
        self.older: dict[tuple[str, int, int], Course] = {}
        self.devices = {"P-1": PUMP}

    def observe(self, *readings: Reading, now: int = NOW, expire: bool = False) -> Sorted:
        intake = Intake(
            self.devices, self.streams, lambda key: self.older.get(key, Course()), now,
            late_before=now - LATE_MS, oldest=now - 86_400_000,
        )  # fmt: skip
        found = intake.sort([Arrival("P-1", now, reading) for reading in readings])
        if expire:
            intake.expire(["P-1"])
        self.older |= found.courses
        return found


def reading(seq: int, boot: int = 1, at: int = NOW, value: float = 1.0) -> Reading:
    return Reading(boot, seq, at, "running", {"flow": value})


def seqs(messages: list[Message]) -> list[int]:
    return [message.body.seq for message in messages]


@pytest.mark.parametrize(
    ("arriving", "taken", "parked"),
    [
        ([0, 1, 2], [0, 1, 2], []),
        ([1, 0, 2], [0, 1, 2], []),
        ([0, 2, 3], [0], [2, 3]),
        ([0, 2, 3, 1], [0, 1, 2, 3], []),
        ([0, 0, 1, 1], [0, 1], []),
        ([4, 0], [0], [4]),
    ],
)
def test_messages_are_taken_in_order_and_wait_behind_a_gap(arriving, taken, parked):
    found = Desk().observe(*map(reading, arriving))
    assert seqs(found.taken) == taken
    assert sorted(seqs(list(found.parked.values()))) == parked


def test_a_gap_is_given_up_after_its_wait_and_counted():
    desk = Desk()
    desk.observe(reading(0), reading(2), reading(3))
    assert desk.observe(now=NOW + GAP_WAIT_MS - 1, expire=True).taken == []
    assert seqs(desk.observe(now=NOW + GAP_WAIT_MS, expire=True).taken) == [2, 3]
    assert desk.streams["P-1"].course == Course(next_seq=4, received=3, gaps=[(1, 2)])
    assert desk.streams["P-1"].course.missing == 1


def test_a_message_that_fills_a_gap_given_up_is_late_and_no_longer_missing():
    desk = Desk()
    desk.observe(reading(0), reading(2))
    desk.observe(now=NOW + GAP_WAIT_MS, expire=True)
    found = desk.observe(reading(1))
    assert [(message.body.seq, message.late) for message in found.taken] == [(1, True)]
    assert desk.streams["P-1"].course.missing == 0


def test_a_full_park_gives_its_gap_up_at_once():
    desk = Desk()
    found = desk.observe(*(reading(seq) for seq in range(1, MAX_PARKED + 2)))
    assert len(found.taken) == MAX_PARKED + 1
    assert not desk.streams["P-1"].parked


def test_a_new_boot_does_not_wait_for_the_old_one():
    desk = Desk()
    found = desk.observe(reading(0), reading(2), reading(0, boot=2))
    assert [(message.body.boot, message.body.seq) for message in found.taken] == [(1, 0), (1, 2), (2, 0)]


def test_an_older_boot_amends_the_history_and_steps_nothing():
    desk = Desk()
    desk.observe(reading(0), reading(0, boot=2))
    found = desk.observe(reading(1))
    assert [(message.body.boot, message.late) for message in found.taken] == [(1, True)]


def test_a_new_generation_begins_again_and_leaves_nothing_behind():
    desk = Desk()
    desk.observe(reading(0, boot=7), reading(2, boot=7))
    desk.devices = {"P-1": Device("P-1", "water_pump", generation=1)}
    found = desk.observe(reading(0, boot=0))
    assert [(message.generation, message.body.boot, message.body.seq) for message in found.taken] == [
        (0, 7, 2),
        (1, 0, 0),
    ]


@pytest.mark.parametrize(
    ("at", "reason"),
    [(NOW + AHEAD_MS, None), (NOW + AHEAD_MS + 1, "clock_ahead"), (NOW - 86_400_001, "too_old")],
)
def test_a_time_beyond_its_bounds_is_a_dead_letter_and_leaves_no_gap(at, reason):
    desk = Desk()
    found = desk.observe(reading(0, at=at), reading(1))
    rejected = [arrival.body.reason for arrival in found.rejected if isinstance(arrival.body, Rejected)]
    assert rejected == ([reason] if reason else [])
    assert seqs(found.taken) == ([1] if reason else [0, 1])


def test_gaps_remembered_are_bounded_and_still_counted():
    course = Course()
    for seq in range(0, 4 * MAX_GAPS, 2):
        course.take(seq + 1)
    assert len(course.gaps) == MAX_GAPS
    assert course.missing == 2 * MAX_GAPS


@settings(max_examples=200, deadline=None)
@given(data=st.data(), count=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_any_order_within_the_wait_ends_in_the_same_state(data, count, seed):
    """Redelivery, duplication and reordering, cut into observations anywhere: the same messages, in order, once."""
    rng = random.Random(seed)
    arriving = [seq for seq in range(count) for _ in range(rng.choice((1, 1, 2)))]
    rng.shuffle(arriving)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(arriving)), max_size=4)))
    desk, taken = Desk(), []
    for start, end in zip([0, *cuts], [*cuts, len(arriving)], strict=True):
        taken += desk.observe(*map(reading, arriving[start:end])).taken
    assert seqs(taken) == list(range(count))
    assert not any(message.late for message in taken)
    assert desk.streams["P-1"].course == Course(count, count, [])


@settings(max_examples=200, deadline=None)
@given(arriving=st.lists(st.integers(0, 30), max_size=60), waits=st.sets(st.integers(0, 60)))
def test_each_message_is_taken_once_whenever_gaps_are_given_up(arriving, waits):
    desk, taken, now = Desk(), [], NOW
    for place, seq in enumerate(arriving):
        taken += desk.observe(reading(seq), now=now).taken
        if place in waits:
            now += GAP_WAIT_MS
            taken += desk.observe(now=now, expire=True).taken
    for _ in range(len(arriving)):
        now += GAP_WAIT_MS
        taken += desk.observe(now=now, expire="P-1" in desk.streams).taken
    assert sorted(seqs(taken)) == sorted(set(arriving))
    in_time = [message.body.seq for message in taken if not message.late]
    assert in_time == sorted(in_time)
