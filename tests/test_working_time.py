"""Working time: named examples from the State Council's notices, the laws of a calendar, and clocks that change."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from time import perf_counter
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.desk.working_time import (
    BeyondCalendar,
    Calendar,
    DayKind,
    Working,
    calendar_named,
    first_instant,
    policy_from,
    public_days,
    shipped_policy,
)

SHANGHAI = "Asia/Shanghai"
HOUR, DAY = 3_600_000, 86_400_000
WEEK = "[hours]\n" + "\n".join(
    f'{day} = ["09:00-18:00"]' for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "made_up")
)
LUNCH = WEEK.replace('"09:00-18:00"', '"09:00-12:00", "13:00-18:00"')
NIGHT_AND_DAY = "[hours]\n" + "\n".join(
    f'{day} = ["00:00-02:10", "02:20-05:00", "22:00-24:00"]'
    for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
)


def working(hours: str = WEEK, zone: str = SHANGHAI, region: str = "CN", more: str = "") -> Working:
    text = f'version = "t"\npublic_holidays = "{region}"\n{hours}\n{more}'
    calendar = calendar_named("working", policy_from(text.encode()), zone)
    assert isinstance(calendar, Working)
    return calendar


def at(text: str, zone: str = SHANGHAI, fold: int = 0) -> int:
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return (local - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def wall(moment: int, zone: str = SHANGHAI) -> str:
    return datetime.fromtimestamp(moment / 1000, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


# --- named examples ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "hours", "due"),
    [
        ("2026-11-23 10:00", 3, "2026-11-23 13:00"),
        ("2026-11-23 09:00", 9, "2026-11-23 18:00"),  # a whole day ends with it, not with the next one's beginning
        ("2026-12-31 17:00", 1, "2026-12-31 18:00"),
        ("2026-11-23 17:00", 2, "2026-11-24 10:00"),
        ("2026-11-23 03:00", 1, "2026-11-23 10:00"),  # before opening
        ("2026-11-23 18:00", 1, "2026-11-24 10:00"),  # at closing time it is closed
        ("2026-11-27 17:59", 1, "2026-11-30 09:59"),  # Friday evening
        ("2026-11-28 12:00", 1, "2026-11-30 10:00"),  # a plain Saturday
        # Spring Festival 2026: off 15 to 23 February, worked Saturdays 14 and 28.
        ("2026-02-13 17:30", 1, "2026-02-14 09:30"),
        ("2026-02-14 17:00", 2, "2026-02-24 10:00"),
        ("2026-02-27 17:00", 2, "2026-02-28 10:00"),
        # National Day 2025: off 1 to 8 October (with Mid-Autumn), worked 28 September (a Sunday) and 11 October.
        ("2025-09-26 17:00", 2, "2025-09-28 10:00"),
        ("2025-09-30 17:00", 2, "2025-10-09 10:00"),
        ("2025-10-10 17:00", 2, "2025-10-11 10:00"),
        # National Day 2026: off 1 to 7 October, worked 20 September (a Sunday) and 10 October.
        ("2026-09-18 17:00", 2, "2026-09-20 10:00"),
        ("2026-09-30 17:00", 2, "2026-10-08 10:00"),
        ("2026-10-09 17:00", 2, "2026-10-10 10:00"),
        ("2025-12-31 17:00", 2, "2026-01-04 10:00"),  # across the year: off 1 to 3 January, worked Sunday the 4th
    ],
)
def test_working_hours(start, hours, due):
    assert wall(working().after(at(start), hours * HOUR)) == due


@pytest.mark.parametrize(
    ("start", "days", "due"),
    [
        ("2026-11-23 10:00", 1, "2026-11-24 18:00"),
        ("2026-11-23 00:00", 3, "2026-11-26 18:00"),
        ("2026-11-23 23:59", 3, "2026-11-26 18:00"),  # the day of the start never counts, whatever its hour
        ("2026-11-27 17:59", 3, "2026-12-02 18:00"),  # Friday evening: Monday, Tuesday, Wednesday
        ("2026-11-28 12:00", 3, "2026-12-02 18:00"),
        ("2026-02-12 09:00", 3, "2026-02-24 18:00"),  # Fri 13, worked Sat 14, Tue 24
        ("2026-02-26 09:00", 3, "2026-03-02 18:00"),  # Fri 27, worked Sat 28, Mon 2
        ("2025-09-29 09:00", 3, "2025-10-10 18:00"),  # Tue 30, Thu 9, Fri 10 October
        ("2026-09-29 09:00", 3, "2026-10-09 18:00"),  # Wed 30, Thu 8, Fri 9 October
        ("2026-12-30 09:00", 2, "2027-01-04 18:00"),  # Thu 31; 1 January is off by law, then a weekend
    ],
)
def test_working_days(start, days, due):
    assert wall(working().days_after(at(start), days)) == due


def test_hours_are_half_open():
    opens, closes, calendar = at("2026-11-23 09:00"), at("2026-11-23 18:00"), working()
    assert [calendar.is_open(one) for one in (opens - 1, opens, closes - 1, closes)] == [False, True, True, False]
    assert list(calendar.spells(closes, closes + 15 * HOUR)) == []
    assert calendar.between(closes, closes + 15 * HOUR) == 0


@pytest.mark.parametrize(
    ("start", "hours", "due"),
    [
        ("2026-11-23 11:00", 1, "2026-11-23 12:00"),
        ("2026-11-23 11:00", 2, "2026-11-23 14:00"),
        ("2026-11-23 12:30", 1, "2026-11-23 14:00"),
        ("2026-11-27 17:59", 8, "2026-11-30 17:59"),
    ],
)
def test_a_lunch_break_does_not_count(start, hours, due):
    assert wall(working(LUNCH).after(at(start), hours * HOUR)) == due


def test_a_warning_comes_in_working_time_before_the_due_time():
    lunch = working(LUNCH)
    assert wall(lunch.before(at("2026-11-30 09:30"), HOUR)) == "2026-11-27 17:30"
    assert wall(lunch.before(at("2026-11-30 14:00"), HOUR)) == "2026-11-30 13:00", "the last such moment"
    assert wall(lunch.before(at("2026-01-04 10:00"), 2 * HOUR)) == "2025-12-31 17:00"


def test_days_that_the_company_declares_go_before_all_others():
    declared = """
        [[day]]
        first = 2026-02-12
        last = 2026-02-14
        [[day]]
        first = 2026-02-18
        hours = ["10:00-12:00"]
    """
    calendar = working(more=declared)
    assert wall(calendar.after(at("2026-02-11 17:00"), 2 * HOUR)) == "2026-02-18 11:00"
    assert wall(calendar.days_after(at("2026-02-11 17:00"), 1)) == "2026-02-18 12:00"
    kinds = [day.kind for day in calendar.days(at("2026-02-13 00:00"), at("2026-02-18 23:59"))]
    assert kinds == ["declared_off", "declared_off", "rest", "holiday", "holiday", "declared_worked"]


def test_a_due_time_can_be_told_day_by_day():
    start, calendar = at("2026-02-13 17:00"), working()
    due = calendar.days_after(start, 2)
    told = [(day.on.isoformat(), day.kind.value, len(day.spells)) for day in calendar.days(start, due)]
    assert told[:2] == [("2026-02-13", "workday", 1), ("2026-02-14", "made_up", 1)]
    # The notice begins its holiday with a Sunday, which is a rest day anyway.
    assert told[2:4] == [("2026-02-15", "rest", 0), ("2026-02-16", "holiday", 0)]
    assert told[-1] == ("2026-02-24", "workday", 1)
    assert [wall(spell.opens_at) for spell in calendar.spells(start, due)] == [
        "2026-02-13 17:00", "2026-02-14 09:00", "2026-02-24 09:00",
    ]  # fmt: skip


def test_made_up_days_have_hours_of_their_own():
    short = WEEK.replace('made_up = ["09:00-18:00"]', 'made_up = ["10:00-15:00"]\nsaturday = ["09:00-12:00"]')
    assert wall(working(short).after(at("2026-02-13 18:00"), HOUR)) == "2026-02-14 11:00"
    assert wall(working(short).after(at("2026-11-27 18:00"), HOUR)) == "2026-11-28 10:00"


def test_another_country_and_none():
    bavaria = working(region="DE-BY", zone="Europe/Berlin")
    assert wall(bavaria.after(at("2026-01-05 18:00", "Europe/Berlin"), HOUR), "Europe/Berlin") == "2026-01-07 10:00"
    assert wall(working(region="").after(at("2026-10-01 08:00"), HOUR)) == "2026-10-01 10:00"


def test_always_is_plain_arithmetic():
    always = calendar_named("always", shipped_policy(), SHANGHAI)
    start = at("2026-02-14 17:00")
    assert always.after(start, 7) == start + 7
    assert always.before(start, 7) == start - 7
    assert always.between(start, start - 5) == -5
    assert always.days_after(start, 3) == start + 3 * DAY
    assert always.is_open(start)
    assert [(one.opens_at, one.closes_at) for one in always.spells(start, start + 9)] == [(start, start + 9)]


# --- the public calendar -------------------------------------------------------------------------------------------

OFF_2026 = """01-01 01-02 01-03 02-15 02-16 02-17 02-18 02-19 02-20 02-21 02-22 02-23 04-04 04-05 04-06
    05-01 05-02 05-03 05-04 05-05 06-19 06-20 06-21 09-25 09-26 09-27 10-01 10-02 10-03 10-04 10-05 10-06 10-07"""
WORKED_2026 = "01-04 02-14 02-28 05-09 09-20 10-10"
OFF_2025 = """01-01 01-28 01-29 01-30 01-31 02-01 02-02 02-03 02-04 04-04 04-05 04-06 05-01 05-02 05-03 05-04 05-05
    05-31 06-01 06-02 10-01 10-02 10-03 10-04 10-05 10-06 10-07 10-08"""
WORKED_2025 = "01-26 02-08 04-27 09-28 10-11"


@pytest.mark.parametrize(("year", "off", "made_up"), [(2025, OFF_2025, WORKED_2025), (2026, OFF_2026, WORKED_2026)])
def test_the_whole_year_is_as_the_notice_says(year, off, made_up):
    noticed_off = {date.fromisoformat(f"{year}-{one}") for one in off.split()}
    noticed_made_up = {date.fromisoformat(f"{year}-{one}") for one in made_up.split()}
    for day in working().days(at(f"{year}-01-01 00:00"), at(f"{year}-12-31 23:59")):
        worked = day.on in noticed_made_up or (day.on.weekday() < 5 and day.on not in noticed_off)
        assert bool(day.spells) is worked, day


def test_a_day_moved_by_the_next_years_notice_is_known():
    assert date(2011, 12, 31) in public_days("CN").worked
    assert date(2005, 12, 31) in public_days("CN").worked


def test_years_not_yet_announced_are_said_to_be_estimates():
    calendar = working()
    known_until = calendar.announced_until
    assert known_until is not None
    assert known_until >= 2026
    assert not calendar.estimated(at(f"{known_until}-12-31 23:59"))
    assert calendar.estimated(at(f"{known_until + 1}-01-01 00:00"))
    # What the law fixes is known all the same.
    labour_day = next(calendar.days(at("2060-05-01 12:00"), at("2060-05-01 12:00")))
    assert labour_day.kind is DayKind.HOLIDAY
    assert working(more="", region="DE").announced_until is None


def test_the_operator_can_be_ahead_of_the_library():
    text = 'version = "t"\nannounced_until = 2098\npublic_holidays = "CN"\n' + WEEK
    calendar = calendar_named("working", policy_from(text.encode()), SHANGHAI)
    assert calendar.announced_until == 2098
    assert not calendar.estimated(at("2098-12-31 12:00"))


# --- clocks that change --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "day", "minutes"),
    [
        # Open 00:00-02:10, 02:20-05:00, 22:00-24:00: 410 min where no clock changes.
        ("Asia/Shanghai", "2026-03-29", 410),
        ("Europe/Berlin", "2026-03-28", 410),
        ("Europe/Berlin", "2026-03-29", 120 + 120 + 120),  # 02:00 to 03:00 is skipped, the break with it
        ("Europe/Berlin", "2026-10-25", 410 + 60),  # 02:00 to 03:00 comes twice, the break once
        ("America/New_York", "2026-03-08", 120 + 120 + 120),
        ("America/New_York", "2026-11-01", 410 + 60),  # 01:00 to 02:00 comes twice
        ("Australia/Lord_Howe", "2026-10-04", 120 + 150 + 120),  # 02:00 to 02:30 is skipped
        ("Australia/Lord_Howe", "2026-04-05", 410 + 30),  # 01:30 to 02:00 comes twice
        ("Pacific/Apia", "2011-12-30", 0),  # a day that was left out
    ],
)
def test_open_time_lasts_as_long_as_it_really_does(zone, day, minutes):
    start, end = (first_instant(date.fromisoformat(day), minute, ZoneInfo(zone)) for minute in (0, 24 * 60))
    assert working(NIGHT_AND_DAY, zone, "").between(start, end) == minutes * 60_000


def test_a_day_that_was_left_out_is_no_working_day():
    samoa = working(NIGHT_AND_DAY, "Pacific/Apia", "")
    assert wall(samoa.days_after(at("2011-12-29 10:00", "Pacific/Apia"), 1), "Pacific/Apia") == "2012-01-01 00:00"


def test_hours_are_those_of_the_wall_whatever_the_offset():
    berlin = working(zone="Europe/Berlin", region="DE-BE")
    for start, due in (("2026-03-27 17:00", "2026-03-30 10:00"), ("2026-10-23 17:00", "2026-10-26 10:00")):
        assert wall(berlin.after(at(start, "Europe/Berlin"), 2 * HOUR), "Europe/Berlin") == due


def test_an_hour_that_comes_twice_begins_once_and_a_skipped_one_with_the_change():
    berlin = ZoneInfo("Europe/Berlin")
    assert first_instant(date(2026, 10, 25), 150, berlin) == at("2026-10-25 02:30", "Europe/Berlin", fold=0)
    change = at("2026-03-29 03:00", "Europe/Berlin")
    assert [first_instant(date(2026, 3, 29), minute, berlin) for minute in (120, 121, 150, 179, 180)] == [change] * 5
    assert first_instant(date(2026, 3, 29), 119, berlin) == change - 60_000


# --- laws ----------------------------------------------------------------------------------------------------------

ZONES = (SHANGHAI, "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
PLACES = dict(zip(ZONES, ("CN", "DE-BE", "US", "AU"), strict=True))
calendars = st.builds(
    lambda zone, hours: working(hours, zone, PLACES[zone]),
    st.sampled_from(ZONES),
    st.sampled_from((WEEK, LUNCH, NIGHT_AND_DAY)),
) | st.just(calendar_named("always", shipped_policy(), SHANGHAI))
# Near the changes of the clocks, in breaks and holidays, and anywhere.
moments = st.integers(at("2024-12-01 00:00"), at("2027-02-01 00:00")) | st.builds(
    lambda day, offset: at(f"2026-{day} 00:00", "UTC") + offset,
    st.sampled_from(("03-08", "03-29", "04-05", "10-04", "10-25", "11-01", "02-13", "09-30")),
    st.integers(-DAY, 2 * DAY),
)
lengths = st.integers(0, 40 * HOUR) | st.integers(0, 800 * DAY)


@given(calendars, moments, lengths)
def test_a_length_passes_between_its_start_and_its_end(calendar: Calendar, start, length):
    due = calendar.after(start, length)
    assert calendar.between(start, due) == length
    assert length == 0 or calendar.between(start, due - 1) == length - 1, "and no sooner"
    assert length == 0 or calendar.is_open(due - 1), "a clock ends in open time"


@given(calendars, moments, lengths)
def test_before_looks_back_as_after_looks_ahead(calendar: Calendar, due, length):
    warn = calendar.before(due, length)
    assert calendar.between(warn, due) == length
    assert length == 0 or calendar.is_open(warn)


@given(calendars, moments, lengths, lengths)
def test_lengths_add_up(calendar: Calendar, start, one, other):
    assert calendar.after(calendar.after(start, one), other) == calendar.after(start, one + other)


@given(calendars, moments, moments, moments)
def test_time_between_adds_up_and_runs_both_ways(calendar: Calendar, a, b, c):
    assert calendar.between(a, b) + calendar.between(b, c) == calendar.between(a, c)
    assert calendar.between(a, b) == -calendar.between(b, a)
    assert 0 <= calendar.between(min(a, b), max(a, b)) <= abs(b - a)


@given(calendars, moments, moments, lengths, lengths)
def test_a_later_start_or_a_greater_length_never_ends_sooner(calendar: Calendar, a, b, one, other):
    assert calendar.after(min(a, b), one) <= calendar.after(max(a, b), one)
    assert calendar.after(a, min(one, other)) <= calendar.after(a, max(one, other))


@given(calendars.filter(lambda one: isinstance(one, Working)), moments)
def test_it_is_open_when_the_wall_says_so(calendar: Working, moment):
    shown = datetime.fromtimestamp(moment / 1000, calendar.zone)
    minute = shown.hour * 60 + shown.minute
    says = any(begin <= minute < end for begin, end in calendar.hours(shown.date())[1])
    # A break within an hour that comes twice is held once.
    twice = shown.replace(fold=0).utcoffset() != shown.replace(fold=1).utcoffset()
    assert twice or calendar.is_open(moment) is says


@given(calendars, moments, st.integers(0, 60 * DAY))
def test_spells_are_the_open_time(calendar: Calendar, start, elapsed):
    spells = list(calendar.spells(start, start + elapsed))
    assert sum(one.closes_at - one.opens_at for one in spells) == calendar.between(start, start + elapsed)
    assert all(start <= one.opens_at < one.closes_at <= start + elapsed for one in spells)
    assert all(one.closes_at <= following.opens_at for one, following in pairwise(spells))
    assert all(calendar.is_open(one.opens_at) and calendar.is_open(one.closes_at - 1) for one in spells)


@given(calendars.filter(lambda one: isinstance(one, Working)), moments, st.integers(1, 300), st.integers(1, 300))
def test_working_days_add_up_and_end_with_the_close_of_business(calendar: Working, start, one, other):
    due = calendar.days_after(start, one)
    last_day = calendar.day(datetime.fromtimestamp((due - 1) / 1000, calendar.zone).date())
    assert due == last_day.spells[-1].closes_at
    assert calendar.days_after(due - 1, other) == calendar.days_after(start, one + other)


# --- what is refused, and what it costs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[hours]", "on no weekday"),
        ('[hours]\nmonday = ["9-18"]', 'must be as "09:00-18:00"'),
        ('[hours]\nmonday = ["18:00-09:00"]', "must begin before they end"),
        ('[hours]\nmonday = ["09:00-24:01"]', "must begin before they end"),
        ('[hours]\nmonday = ["09:00-12:00", "11:00-18:00"]', "after the one before has ended"),
        ('[hours]\nmonday = ["09:00-12:00", "12:00-18:00"]', "after the one before has ended"),
        ('[hours]\nmonday = ["09:00-18:00"]\nmoonday = []', "unknown field"),
        (WEEK + "\n[[day]]\nfirst = 2026-02-02\nlast = 2026-02-01", "0 to 365 days"),
        (WEEK + "\n[[day]]\nfirst = 2026-02-02\nlast = 2027-02-03", "0 to 365 days"),
        (
            WEEK + "\n[[day]]\nfirst = 2026-02-01\nlast = 2026-02-03\n[[day]]\nfirst = 2026-02-02",
            "2026-02-02 is declared twice",
        ),
        (WEEK + "\n[[day]]\nfirst = 2026-01-01\nlast = 2026-12-31", "never open in 2026"),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused(text, says):
    with pytest.raises(ValueError, match=says):
        calendar_named("working", policy_from(f'version = "t"\n{text}'.encode()), SHANGHAI)


@pytest.mark.parametrize(
    ("region", "zone"), [("XX", SHANGHAI), ("DE-XX", SHANGHAI), ("CN", "Mars/Base"), ("CN", "../x")]
)
def test_an_unknown_country_or_zone_is_refused(region, zone):
    with pytest.raises(ValueError, match=f"{region}|{zone}"):
        working(region=region, zone=zone)


def test_a_refused_file_says_where():
    with pytest.raises(msgspec.ValidationError, match=r"at `\$.hours`"):
        policy_from(b'version = "t"\n[hours]\nmonday = ["9-18"]')


def test_what_lies_beyond_the_calendar_is_refused_not_searched_for():
    calendar = working()
    for ask in (
        lambda: calendar.after(at("2099-12-31 17:00"), 2 * HOUR),
        lambda: calendar.after(at("2026-01-01 00:00"), 10**18),
        lambda: calendar.before(at("2000-01-04 09:00"), 9 * HOUR),
        lambda: calendar.days_after(at("2026-01-01 00:00"), 10**6),
        lambda: calendar.between(0, at("2026-01-01 00:00")),
        lambda: calendar.is_open(10**15),
        lambda: calendar.is_open(10**30),
    ):
        with pytest.raises(BeyondCalendar, match="covers 2000 to 2099"):
            ask()


@pytest.mark.parametrize("name", ["always", "working"])
def test_a_length_is_never_negative(name):
    calendar = calendar_named(name, shipped_policy(), SHANGHAI)
    for ask in (
        lambda: calendar.after(0, -1),
        lambda: calendar.before(0, -1),
        lambda: calendar.days_after(DAY * 20000, 0),
    ):
        with pytest.raises(ValueError, match="must"):
            ask()


def test_a_calendar_is_laid_out_once():
    assert calendar_named("working", shipped_policy(), SHANGHAI) is calendar_named(
        "working", shipped_policy(), SHANGHAI
    )


def test_seventy_years_cost_no_more_than_their_number():
    calendar = working()
    first, last = at("2005-03-01 10:00"), at("2075-03-01 10:00")
    open_ms = calendar.between(first, last)
    begun = perf_counter()
    for _ in range(100):
        assert calendar.after(first, open_ms) == last
        assert calendar.between(first, last) == open_ms
    # A walk over 25,000 days would take about 100 times as long.
    assert perf_counter() - begun < 1
