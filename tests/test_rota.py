"""Who works when: working times, absences, turns at being on call, quiet hours; on the clock on the wall."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.desk.rota import (
    FIRST_AT,
    LAST_AT,
    Absence,
    Because,
    Duty,
    Override,
    Rota,
    Rotation,
    Span,
    Worker,
    WorkingHours,
    moment_of,
    wall_clock,
    zone_named,
)

CHINA, BERLIN, LORD_HOWE, APIA = "Asia/Shanghai", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"
LI, WANG, ZHAO = 1, 2, 3
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def at(text: str, zone: str = CHINA, fold: int = 0) -> int:
    """A moment by the zone's wall clock, worked out by the standard library alone."""
    wall = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return (wall - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def weekdays(start_min: int, end_min: int) -> tuple[WorkingHours, ...]:
    return tuple(WorkingHours(day, start_min, end_min) for day in range(5))


def shown(spans, zone: str = CHINA) -> list[tuple[str, str]]:
    """Spans as the wall shows them."""
    return [tuple(f"{wall_clock(moment, zone_named(zone)):%m-%d %H:%M}" for moment in span[:2]) for span in spans]


def worker(zone: str = CHINA, hours=None, absences=(), person_id: int = LI) -> Worker:
    return Worker(person_id, zone, weekdays(480, 1020) if hours is None else hours, tuple(absences))


def weekly(**changes) -> Rotation:
    """Li, Wang, Zhao, a week each, from Monday 08:00."""
    facts = {"rotation_id": 7, "timezone": CHINA, "people": (LI, WANG, ZHAO), "shift_h": 168, "handover_weekday": 0,
             "handover_min": 480, "start_at": at("2026-03-02T08:00")} | changes  # fmt: skip
    return Rotation(**facts)


def test_a_week_of_work():
    spans = Rota(()).working(worker(), at("2026-03-06T10:00"), at("2026-03-10T09:00"))
    assert shown(spans) == [
        ("03-06 10:00", "03-06 17:00"), ("03-09 08:00", "03-09 17:00"), ("03-10 08:00", "03-10 09:00"),
    ]  # fmt: skip


def test_a_lunch_break_and_a_night_shift():
    hours = (WorkingHours(0, 480, 720), WorkingHours(0, 780, 1020), WorkingHours(6, 1320, 360))
    spans = Rota(()).working(worker(hours=hours), at("2026-03-09T00:00"), at("2026-03-10T00:00"))
    # The night shift of Sunday reaches into Monday.
    assert shown(spans) == [
        ("03-09 00:00", "03-09 06:00"),
        ("03-09 08:00", "03-09 12:00"),
        ("03-09 13:00", "03-09 17:00"),
    ]


def test_an_absence_takes_its_part_out():
    away = [
        Absence(at("2026-03-09T12:00"), at("2026-03-10T08:30")),
        Absence(at("2026-03-10T10:00"), at("2026-03-10T11:00")),
    ]
    spans = Rota(()).working(worker(absences=away), at("2026-03-09T00:00"), at("2026-03-11T00:00"))
    assert shown(spans) == [
        ("03-09 08:00", "03-09 12:00"), ("03-10 08:30", "03-10 10:00"), ("03-10 11:00", "03-10 17:00"),
    ]  # fmt: skip


def test_the_companys_special_days():
    """The Saturday before the Spring Festival is worked like a Friday, and the festival's Monday is not."""
    days = {date(2026, 2, 14): 4, date(2026, 2, 16): None}
    here, guard = worker(), Worker(WANG, CHINA, weekdays(480, 1020), keeps_holidays=False)
    rota = Rota((here, guard), special_days=days)
    window = at("2026-02-14T00:00"), at("2026-02-17T00:00")
    assert shown(rota.working(here, *window)) == [("02-14 08:00", "02-14 17:00")]
    assert shown(rota.working(guard, *window)) == [("02-16 08:00", "02-16 17:00")]


# --- when the clocks change ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "day", "start_min", "end_min", "hours"),
    [
        (BERLIN, "2026-03-28", 1320, 360, 7.0),  # the night of the change to summer time
        (BERLIN, "2026-10-24", 1320, 360, 9.0),  # and back
        (BERLIN, "2026-03-29", 150, 240, 1.0),  # begins at 02:30, which there is not: at the change
        (BERLIN, "2026-03-29", 135, 165, 0.0),  # lies wholly in what is left out
        (BERLIN, "2026-10-25", 150, 240, 2.5),  # begins at the first 02:30
        (BERLIN, "2026-10-25", 60, 150, 2.5),  # ends at the last 02:30
        (BERLIN, "2026-10-25", 0, 1440, 25.0),
        (LORD_HOWE, "2026-10-04", 0, 1440, 23.5),  # half an hour
        (APIA, "2011-12-30", 480, 1020, 0.0),  # a day that was left out
        (CHINA, "2026-03-29", 480, 1020, 9.0),
    ],
)
def test_hours_are_those_of_the_wall(zone, day, start_min, end_min, hours):
    hours_of_day = (WorkingHours(date.fromisoformat(day).weekday(), start_min, end_min),)
    around = at(f"{day}T12:00", zone)
    spans = Rota(()).working(worker(zone, hours_of_day), around - 2 * DAY_MS, around + 2 * DAY_MS)
    assert sum(span.end_at - span.start_at for span in spans) == hours * HOUR_MS


ZONES = st.sampled_from([CHINA, BERLIN, "America/New_York", LORD_HOWE, "America/Santiago", APIA])
FIRST_WALL = datetime.fromisoformat("2010-01-01T00:00")
WALLS = st.integers(0, 20 * 365 * 86_400).map(lambda passed_s: FIRST_WALL + timedelta(seconds=passed_s))


@settings(max_examples=200, deadline=None)
@given(ZONES, WALLS, st.integers(0, 3 * 86_400))
def test_the_wall_clock_never_takes_a_later_reading_for_an_earlier_moment(name, wall, further_s):
    zone, later = zone_named(name), wall + timedelta(seconds=further_s)
    assert moment_of(wall, zone) <= moment_of(later, zone)
    assert moment_of(wall, zone, last=True) <= moment_of(later, zone, last=True)
    assert moment_of(wall, zone) <= moment_of(wall, zone, last=True)


@settings(max_examples=200, deadline=None)
@given(ZONES, WALLS)
def test_a_reading_leads_back_to_itself_or_to_the_change_that_left_it_out(name, wall):
    zone = zone_named(name)
    moment = moment_of(wall, zone)
    if wall_clock(moment, zone) != wall:
        assert wall_clock(moment - 1, zone) < wall < wall_clock(moment, zone)


HOURS = st.builds(
    lambda day, start, length: WorkingHours(day, start, (start + length) % 1440),
    st.integers(0, 6), st.integers(0, 1439), st.integers(1, 1439),
)  # fmt: skip
MOMENTS = st.integers(at("2026-01-01T00:00"), at("2027-01-01T00:00"))


@settings(max_examples=100, deadline=None)
@given(ZONES, st.lists(HOURS, max_size=6), MOMENTS, st.integers(1, 10 * DAY_MS), st.data())
def test_a_window_shows_the_same_whole_or_in_parts(zone, hours, start, length, data):
    rota, someone = Rota(()), worker(zone, tuple(hours))
    cut = data.draw(st.integers(start, start + length))
    whole = rota.working(someone, start, start + length)
    parts = rota.working(someone, start, cut) + rota.working(someone, cut, start + length)
    assert sum(end - begin for begin, end in whole) == sum(end - begin for begin, end in parts)
    assert all(one.end_at < other.start_at for one, other in pairwise(whole))


# --- on call -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "person"),
    [
        ("2026-03-02T07:59", None),  # not begun
        ("2026-03-02T08:00", LI),
        ("2026-03-09T07:59", LI),
        ("2026-03-09T08:00", WANG),
        ("2026-03-16T08:00", ZHAO),
        ("2026-03-23T08:00", LI),
        ("2027-03-01T08:00", WANG),  # 52 weeks later
    ],
)
def test_who_is_on_call(moment, person):
    assert Rota((), (weekly(),)).on_call_at(at(moment)) == ([person] if person else [])


def test_the_first_turn_is_shorter_where_it_does_not_start_at_a_handover():
    rota = Rota((), (weekly(start_at=at("2026-03-05T12:00")),))
    spells = rota.on_call(at("2026-03-01T00:00"), at("2026-03-17T00:00"))
    assert [spell.person_id for spell in spells] == [LI, WANG, ZHAO]
    assert shown(spells)[:2] == [("03-05 12:00", "03-09 08:00"), ("03-09 08:00", "03-16 08:00")]


def test_a_rotation_that_starts_just_before_a_handover():
    rota = Rota((), (weekly(start_at=at("2026-03-02T07:00")),))
    spells = rota.on_call(at("2026-03-02T00:00"), at("2026-03-03T00:00"))
    assert [spell.person_id for spell in spells] == [LI, WANG]
    assert shown(spells) == [("03-02 07:00", "03-02 08:00"), ("03-02 08:00", "03-03 00:00")]


def test_two_handovers_a_day():
    rota = Rota((), (weekly(people=(LI, WANG), shift_h=12),))
    spells = rota.on_call(at("2026-03-03T00:00"), at("2026-03-04T00:00"))
    assert [(spell.person_id, *times) for spell, times in zip(spells, shown(spells), strict=True)] == [
        (WANG, "03-03 00:00", "03-03 08:00"), (LI, "03-03 08:00", "03-03 20:00"), (WANG, "03-03 20:00", "03-04 00:00"),
    ]  # fmt: skip


def test_a_handover_stays_at_its_hour_when_the_clocks_change():
    rotation = weekly(timezone=BERLIN, shift_h=24, start_at=at("2026-03-23T08:00", BERLIN))
    spells = Rota((), (rotation,)).on_call(at("2026-03-27T08:00", BERLIN), at("2026-03-31T08:00", BERLIN))
    assert {start[-5:] for start, _ in shown(spells, BERLIN)} == {"08:00"}
    assert [(spell.end_at - spell.start_at) / HOUR_MS for spell in spells] == [24, 23, 24, 24]
    # At 02:30, which that Sunday has not, the handover is at the change; when it has two, at the first.
    night = weekly(timezone=BERLIN, shift_h=24, handover_min=150, start_at=at("2026-03-23T02:30", BERLIN))
    on = [
        spell.start_at
        for spell in Rota((), (night,)).on_call(at("2026-03-28T12:00", BERLIN), at("2026-10-26T00:00", BERLIN))
    ]
    assert at("2026-03-29T03:00", BERLIN) in on
    assert at("2026-10-25T02:30", BERLIN) in on
    assert at("2026-10-25T02:30", BERLIN, fold=1) not in on
    before, after = (Rota((), (night,)).on_call_at(at("2026-10-25T02:10", BERLIN, fold)) for fold in (0, 1))
    assert before != after == Rota((), (night,)).on_call_at(at("2026-10-25T12:00", BERLIN))


def test_an_override_the_last_one_counts():
    overrides = (
        Override(ZHAO, at("2026-03-03T00:00"), at("2026-03-05T00:00")),
        Override(WANG, at("2026-03-04T00:00"), at("2026-03-04T12:00")),
    )
    spells = Rota((), (weekly(overrides=overrides),)).on_call(at("2026-03-02T08:00"), at("2026-03-06T00:00"))
    assert [(spell.person_id, spell.because, times[0]) for spell, times in zip(spells, shown(spells), strict=True)] == [
        (LI, Because.TURN, "03-02 08:00"),
        (ZHAO, Because.OVERRIDE, "03-03 00:00"),
        (WANG, Because.OVERRIDE, "03-04 00:00"),
        (ZHAO, Because.OVERRIDE, "03-04 12:00"),
        (LI, Because.TURN, "03-05 00:00"),
    ]


def test_the_next_stands_in_for_who_is_away_and_it_says_so():
    away = worker(absences=[Absence(at("2026-03-03T00:00"), at("2026-03-04T00:00"))])
    rota = Rota((away, worker(person_id=WANG)), (weekly(),))
    spells = rota.on_call(at("2026-03-02T20:00"), at("2026-03-04T20:00"))
    assert [(spell.person_id, spell.because) for spell in spells] == [
        (LI, Because.TURN), (WANG, Because.STAND_IN), (LI, Because.TURN),
    ]  # fmt: skip
    assert rota.duty_at(LI, at("2026-03-03T10:00")) is None


def test_who_took_over_and_fell_ill_is_not_on_call():
    ill = worker(person_id=ZHAO, absences=[Absence(at("2026-03-03T00:00"), at("2026-03-04T00:00"))])
    takes_over = Override(ZHAO, at("2026-03-03T00:00"), at("2026-03-04T00:00"))
    assert Rota((ill,), (weekly(overrides=(takes_over,)),)).on_call_at(at("2026-03-03T12:00")) == [LI]


def test_nobody_is_on_call_where_all_are_away_or_the_rotation_has_ended():
    away = tuple(worker(person_id=one, absences=[Absence(0, at("2026-03-04T00:00"))]) for one in (LI, WANG, ZHAO))
    rota = Rota(away, (weekly(ends_at=at("2026-03-05T00:00")),))
    assert shown(rota.on_call(at("2026-03-02T00:00"), at("2026-03-09T00:00"))) == [("03-04 00:00", "03-05 00:00")]


ROTATIONS = st.builds(
    weekly,
    timezone=ZONES,
    people=st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple),
    shift_h=st.sampled_from([6, 12, 24, 36, 168, 336]),
    handover_weekday=st.integers(0, 6),
    handover_min=st.integers(0, 1439),
    start_at=MOMENTS,
    overrides=st.lists(
        st.builds(lambda who, start, length: Override(who, start, start + length), st.integers(1, 4), MOMENTS,
                  st.integers(1, 5 * DAY_MS)), max_size=3).map(tuple),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(ROTATIONS, MOMENTS, st.integers(1, 20 * DAY_MS), st.data())
def test_a_rotation_has_one_person_at_each_moment(rotation, start, length, data):
    """The window's answer is that of each of its moments, and there is no gap once it has begun."""
    away = worker(person_id=2, absences=[Absence(start, start + length // 2 + 1)])
    rota = Rota((away,), (rotation,))
    moment = data.draw(st.integers(start, start + length - 1))
    spells = rota.on_call(start, start + length)
    holders = [spell.person_id for spell in spells if spell.start_at <= moment < spell.end_at]
    assert holders == rota.on_call_at(moment)
    if moment >= rotation.start_at and set(rotation.people) != {2}:
        assert len(holders) == 1


# --- duty ----------------------------------------------------------------------------------------------------------


ANY_MOMENT = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(253_402_300_799_999 - 2 * 366 * DAY_MS, 253_402_300_799_999 + DAY_MS),
    st.integers(FIRST_AT - 9 * DAY_MS, FIRST_AT + 9 * DAY_MS),
    st.integers(LAST_AT - 9 * DAY_MS, LAST_AT + 9 * DAY_MS),
    st.integers(0, 2_000_000_000_000),
)
ANY_SPAN = st.tuples(ANY_MOMENT, ANY_MOMENT).filter(lambda two: two[0] != two[1]).map(sorted)


@st.composite
def stored(draw) -> tuple[Rota, int]:
    """Whatever the tables can hold, and a moment that may have to do with it."""
    start_at, ends_at = draw(ANY_SPAN)
    away = [Absence(*draw(ANY_SPAN))] if draw(st.booleans()) else []
    rotation = weekly(
        timezone=draw(st.sampled_from([CHINA, BERLIN, LORD_HOWE, APIA])), shift_h=draw(st.sampled_from([1, 12, 8784])),
        handover_weekday=draw(st.integers(0, 6)), handover_min=draw(st.integers(0, 1439)), start_at=start_at,
        ends_at=draw(st.sampled_from([None, ends_at])), overrides=(Override(WANG, *draw(ANY_SPAN)),),
    )  # fmt: skip
    worked = worker(BERLIN, (*weekdays(1320, 360), WorkingHours(6, 0, 1440)), away)
    moment = draw(st.one_of(ANY_MOMENT, st.sampled_from([start_at, start_at - 1, ends_at, ends_at - 1])))
    return Rota((worked,), (rotation,)), moment


@given(stored())
@settings(max_examples=300, deadline=None)
def test_nothing_that_can_be_stored_makes_the_rota_fail(facts):
    kept, moment = facts
    until_at = moment + 9 * DAY_MS
    for spell in kept.on_call(moment, until_at):
        assert moment <= spell.start_at < spell.end_at <= until_at
        assert kept.on_call_at(spell.start_at) == [spell.person_id]
    assert len(kept.on_call_at(moment)) <= 1
    for person_id, duties in kept.duties(moment, until_at).items():
        assert all(one.end_at <= later.start_at for one, later in pairwise(duties))
        assert duties[:1] == tuple(filter(None, [kept.next_duty(person_id, moment, until_at)]))
    assert kept.duty_at(LI, moment) in (None, Duty.WORKING, Duty.ON_CALL)
    wall_clock(moment, zone_named(CHINA))


def test_work_goes_before_being_on_call():
    rota = Rota((worker(),), (weekly(),))
    duty = rota.duties(at("2026-03-02T07:00"), at("2026-03-03T12:00"))[LI]
    assert [(span.duty, *times) for span, times in zip(duty, shown(duty), strict=True)] == [
        (Duty.WORKING, "03-02 08:00", "03-02 17:00"),
        (Duty.ON_CALL, "03-02 17:00", "03-03 08:00"),
        (Duty.WORKING, "03-03 08:00", "03-03 12:00"),
    ]
    assert [rota.duty_at(LI, at(f"2026-03-02T{hour}:00")) for hour in ("07", "12", "20")] == [
        None, Duty.WORKING, Duty.ON_CALL,
    ]  # fmt: skip


def test_the_next_duty():
    rota = Rota((worker(), worker(person_id=WANG)), (weekly(people=(LI,)),))
    friday, monday = at("2026-03-06T18:00"), at("2026-03-09T18:00")
    found = rota.next_duty(WANG, friday, monday)
    assert found is not None
    assert (shown([found]), found.duty) == ([("03-09 08:00", "03-09 17:00")], Duty.WORKING)
    assert rota.next_duty(WANG, friday, at("2026-03-08T00:00")) is None
    assert rota.next_duty(LI, friday, monday)[0] == friday


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: WorkingHours(7, 0, 60), "weekday 7"),
        (lambda: WorkingHours(0, 480, 480), "hours 480 to 480"),
        (lambda: WorkingHours(0, 1440, 60), "hours 1440 to 60"),
        (lambda: Worker(LI, "Asia/Atlantis"), "'Asia/Atlantis' is not a time zone"),
        (lambda: Worker(LI, "../etc/passwd"), "is not a time zone"),
        (lambda: Absence(5, 5), "from_at 5"),
        (lambda: Override(LI, 9, 5), "from_at 9"),
        (lambda: weekly(people=()), "nobody who could take a turn"),
        (lambda: weekly(shift_h=0), "shift_h 0"),
        (lambda: weekly(handover_min=1440), "handover"),
        (lambda: Rota((), (weekly(),)).on_call(0, 500 * DAY_MS), "500 days is too long"),
        (lambda: Rota(()).working(worker(), 0, 500 * DAY_MS), "500 days is too long"),
    ],
)
def test_nonsense_is_refused_in_words(build, complaint):
    with pytest.raises(ValueError, match=complaint):
        build()


def test_a_span_is_half_open():
    someone = worker()
    rota = Rota((someone,))
    assert rota.working(someone, at("2026-03-02T17:00"), at("2026-03-02T18:00")) == []
    assert rota.working(someone, at("2026-03-02T16:00"), at("2026-03-02T17:00")) == [
        Span(at("2026-03-02T16:00"), at("2026-03-02T17:00"))
    ]
