"""How people are told: through which contact, at once or gathered, now or after the quiet hours."""

from collections import Counter
from datetime import datetime
from importlib.resources import files
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.desk.telling import (
    Channel,
    Contact,
    Delivery,
    Hearer,
    How,
    Item,
    deliveries,
    read_policy,
    shipped_policy,
)
from monitor.devices import Severity

POLICY = shipped_policy()
ANNA, BO = 1, 2
SHANGHAI, BERLIN = "Asia/Shanghai", "Europe/Berlin"
MAIL, SMS, ROBOT = Contact(10, Channel.EMAIL), Contact(11, Channel.SMS), Contact(12, Channel.ROBOT)
NIGHT = {"quiet_from_min": 22 * 60, "quiet_until_min": 7 * 60}
SHIPPED = files("monitor.desk").joinpath("telling.toml").read_text()
DIGEST_MS, WINDOW_MS = round(POLICY.digest_s * 1000), round(POLICY.window_s * 1000)


def at(clock: str, day: str = "2026-03-10", zone: str = SHANGHAI, fold: int = 0) -> int:
    local = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=ZoneInfo(zone), fold=fold)
    return round(local.timestamp() * 1000)


NOON = at("12:00")


def item(name: str, severity: Severity = Severity.URGENT, when: int = NOON, person_id: int = ANNA) -> Item:
    return Item(name, person_id, severity, when)


def tell(
    items: list[Item], contacts: tuple[Contact, ...] = (MAIL,), lately: tuple[Delivery, ...] = (), now: int = NOON,
    zone: str = SHANGHAI,
) -> list[Delivery]:  # fmt: skip
    return deliveries(items, {ANNA: Hearer(ANNA, zone, contacts)}, lately, POLICY, now)


def only(items: list[Item], contacts: tuple[Contact, ...] = (MAIL,), **known: object) -> Delivery:
    [one] = tell(items, contacts, **known)
    return one


# --- which contact -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severity", "contacts", "contact"),
    [
        (Severity.EMERGENCY, (MAIL, ROBOT, SMS), SMS),
        (Severity.URGENT, (MAIL, ROBOT, SMS), ROBOT),
        (Severity.ROUTINE, (SMS, ROBOT, MAIL), MAIL),
        (Severity.ROUTINE, (SMS,), SMS),
        (Severity.EMERGENCY, (Contact(20, Channel.SMS, rank=2), SMS), SMS),
        (Severity.EMERGENCY, (Contact(9, Channel.SMS, rank=1), SMS), SMS),
        (Severity.EMERGENCY, (Contact(11, Channel.SMS, bounced_at=NOON), MAIL), MAIL),
    ],
)  # fmt: skip
def test_severity_chooses_the_contact(severity, contacts, contact):
    assert only([item("a", severity)], contacts).contact_id == contact.id


@pytest.mark.parametrize("contacts", [(), (Contact(11, Channel.SMS, bounced_at=NOON),)])
def test_whoever_cannot_be_reached_is_told_of_to_operations(contacts):
    found = tell([item("a"), item("b", Severity.ROUTINE)], contacts)
    assert [(one.how, one.deliver_at, one.contact_id, one.causes) for one in found] == [
        (How.UNREACHABLE, NOON, None, ("a",)),
        (How.UNREACHABLE, NOON, None, ("b",)),
    ]


def test_a_person_that_nobody_knows_is_told_of_to_operations():
    assert [one.how for one in deliveries([item("a")], {}, [], POLICY, NOON)] == [How.UNREACHABLE]


def test_a_message_that_bounced_is_told_again_through_the_next_contact():
    first = only([item("a", Severity.EMERGENCY)], (SMS, MAIL))
    again = only([item("a", Severity.EMERGENCY)], (Contact(SMS.id, Channel.SMS, bounced_at=NOON), MAIL))
    assert (first.contact_id, again.contact_id) == (SMS.id, MAIL.id)


# --- quiet hours and the day ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clock", "severity", "how", "until"),
    [
        ("21:59", Severity.URGENT, How.AT_ONCE, "21:59"),
        ("22:00", Severity.URGENT, How.AFTER_QUIET, "07:00 next"),
        ("03:00", Severity.URGENT, How.AFTER_QUIET, "07:00"),
        ("07:00", Severity.URGENT, How.AT_ONCE, "07:00"),
        ("03:00", Severity.EMERGENCY, How.AT_ONCE, "03:00"),
        ("03:00", Severity.ROUTINE, How.DAILY, "08:00"),
        ("08:00", Severity.ROUTINE, How.DAILY, "08:00 next"),
        ("12:00", Severity.NOTE, How.DAILY, "08:00 next"),
    ],
)
def test_quiet_hours_and_the_daily_message(clock, severity, how, until):
    one = only([item("a", severity, at(clock))], (Contact(10, Channel.EMAIL, **NIGHT),), now=at(clock))
    day = "2026-03-11" if until.endswith("next") else "2026-03-10"
    assert (one.how, one.deliver_at) == (how, at(until.split()[0], day))


def test_what_waits_for_the_morning_is_one_message():
    night = (Contact(10, Channel.EMAIL, **NIGHT),)
    first = tell([item("a", when=at("23:00")), item("b", when=at("23:00"))], night, now=at("23:00"))
    second = tell(
        [item("c", when=at("02:00", "2026-03-11"))], night, lately=tuple(first), now=at("02:00", "2026-03-11")
    )
    assert [one.causes for one in (*first, *second)] == [("a", "b"), ("c",)]
    assert first[0].key == second[0].key


def test_a_contact_without_quiet_hours_goes_before_one_that_sleeps():
    sleeping = Contact(12, Channel.ROBOT, **NIGHT)
    one = only([item("a", when=at("23:00"))], (sleeping, MAIL), now=at("23:00"))
    assert (one.contact_id, one.how) == (MAIL.id, How.AT_ONCE)


def test_if_all_sleep_the_first_to_wake_is_told():
    early = Contact(13, Channel.EMAIL, quiet_from_min=22 * 60, quiet_until_min=6 * 60)
    one = only([item("a")], (Contact(12, Channel.ROBOT, **NIGHT), early), now=at("23:00"))
    assert (one.contact_id, one.deliver_at) == (13, at("06:00", "2026-03-11"))


def test_the_daily_message_does_not_disturb_a_late_sleeper():
    late = Contact(10, Channel.EMAIL, quiet_from_min=0, quiet_until_min=9 * 60)
    assert only([item("a", Severity.ROUTINE)], (late,)).deliver_at == at("09:00", "2026-03-11")


@pytest.mark.parametrize(
    ("day", "clock", "fold", "until"),
    [
        ("2026-03-28", "23:00", 0, 8),  # the night is an hour shorter: 23:00 to 08:00 are 8 h
        ("2026-10-24", "23:00", 0, 10),  # and longer
        ("2026-03-27", "23:00", 0, 9),
    ],
)
def test_nights_on_which_clocks_are_set(day, clock, fold, until):
    contact = Contact(10, Channel.EMAIL, quiet_from_min=22 * 60, quiet_until_min=8 * 60)
    now = at(clock, day, BERLIN, fold)
    assert only([item("a")], (contact,), now=now, zone=BERLIN).deliver_at == now + until * 3600_000


@pytest.mark.parametrize(
    ("day", "clock", "fold", "end"),
    [
        # 02:30 comes twice: what is asked during its second half hour does not wait for another day.
        ("2026-10-25", "02:10", 0, ("02:30", 0)),
        ("2026-10-25", "02:10", 1, ("02:30", 1)),
        # 02:30 does not come at all: the clock shows 03:30 then.
        ("2026-03-29", "01:10", 0, ("03:30", 0)),
    ],
)
def test_quiet_hours_that_end_while_clocks_are_set(day, clock, fold, end):
    contact = Contact(10, Channel.EMAIL, quiet_from_min=60, quiet_until_min=150)
    one = only([item("a")], (contact,), now=at(clock, day, BERLIN, fold), zone=BERLIN)
    assert one.deliver_at == at(end[0], day, BERLIN, end[1])


def test_a_zone_that_is_not_known_keeps_nobody_from_being_told():
    assert only([item("a")], zone="Mars/Olympus").how is How.AT_ONCE
    assert only([item("a")], zone="../../etc/passwd").how is How.AT_ONCE


# --- storms --------------------------------------------------------------------------------------------------------


def test_a_storm_is_gathered_into_one_message_with_a_list():
    found = tell([item(f"{n:02d}") for n in range(POLICY.limit + 30)])
    assert Counter(one.how for one in found) == {How.AT_ONCE: POLICY.limit, How.GATHERED: 1}
    assert found[-1].deliver_at == NOON + DIGEST_MS
    assert len(found[-1].causes) == 30


def test_an_emergency_goes_at_once_in_any_storm():
    storm = tell([item(f"{n:02d}") for n in range(100)])
    one = only([item("fire", Severity.EMERGENCY)], lately=tuple(storm))
    assert (one.how, one.deliver_at) == (How.AT_ONCE, NOON)


def test_what_comes_while_a_message_is_gathered_joins_it():
    storm = tell([item(f"{n:02d}") for n in range(POLICY.limit + 1)])
    one = only([item("later", when=NOON + 60_000)], lately=tuple(storm), now=NOON + 60_000)
    assert one.key == storm[-1].key
    assert one.causes == ("later",)


def test_what_is_gathered_does_not_wait_for_a_contact_that_bounced():
    storm = tell([item(f"{n:02d}") for n in range(POLICY.limit + 1)])
    left = (Contact(10, Channel.EMAIL, bounced_at=NOON), SMS)
    one = only([item("later")], left, lately=tuple(storm))
    assert one.contact_id == SMS.id


def test_what_is_older_than_the_gathered_message_does_not_wait_for_it():
    storm = tell([item(f"{n:02d}") for n in range(POLICY.limit + 1)])
    one = only([item("older", when=NOON - 120_000)], lately=tuple(storm))
    assert (one.how, one.deliver_at) == (How.GATHERED, NOON - 120_000 + DIGEST_MS)


def test_after_the_window_things_go_at_once_again():
    storm = tell([item(f"{n:02d}") for n in range(POLICY.limit)])
    for later, how in ((WINDOW_MS - 1, How.GATHERED), (WINDOW_MS, How.AT_ONCE)):
        assert only([item("z", when=NOON + later)], lately=tuple(storm), now=NOON + later).how is how


def test_what_was_told_is_not_told_again():
    found = tell([item("a"), item("b", Severity.ROUTINE), item("a")])
    assert [one.causes for one in found] == [("a",), ("b",)]
    assert tell([item("a"), item("b", Severity.ROUTINE)], lately=tuple(found)) == []


def test_people_do_not_use_up_each_others_share():
    hearers = {one: Hearer(one, SHANGHAI, (MAIL,)) for one in (ANNA, BO)}
    storm = deliveries([item(str(n)) for n in range(50)], hearers, [], POLICY, NOON)
    [one] = deliveries([item("0", person_id=BO)], hearers, storm, POLICY, NOON)
    assert one.how is How.AT_ONCE


# --- the data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "wrong", "message"),
    [
        ("limit = 6", "limit = 0", ">= 1"),
        ("daily_at_min = 480", "daily_at_min = 1440", "<= 1439"),
        ("digest_s = 180", "digest_s = 7200", "<= 900"),
        ('note = ["email", "robot", "webhook"]', "", "no channels for: note"),
        ('note = ["email"', 'note = ["pigeon"', "Invalid enum value 'pigeon'"),
    ],
)
def test_a_wrong_policy_says_what_is_wrong(line, wrong, message):
    text = SHIPPED.replace(line, wrong)
    assert text != SHIPPED
    with pytest.raises(msgspec.ValidationError, match=message):
        read_policy(text.encode())


# --- any course of events ------------------------------------------------------------------------------------------

CONTACTS = st.builds(
    Contact, st.integers(10, 13), st.sampled_from(Channel), st.integers(0, 2),
    st.integers(0, 1439), st.integers(0, 1439), st.none() | st.just(NOON),
)  # fmt: skip
HEARERS = st.builds(
    Hearer, st.just(ANNA), st.sampled_from([SHANGHAI, BERLIN, "America/St_Johns"]),
    st.lists(CONTACTS, max_size=3, unique_by=lambda one: one.id).map(tuple),
)  # fmt: skip
ITEMS = st.lists(st.tuples(st.integers(0, 12 * 60_000), st.sampled_from(Severity)), max_size=40)


@given(HEARERS, ITEMS, st.integers(0, 366 * 24))
def test_in_any_course_everything_is_told_once_and_in_time(hearer, coming, hours):
    now, told, items = NOON + hours * 3600_000, [], {}
    for n, (wait_ms, severity) in enumerate(coming):
        now += wait_ms if n % 3 == 0 else 0
        items[str(n)] = (item(str(n), severity, now), now)
        # Each look is a restart: it knows what was saved, and is given everything that was ever to be told.
        told += deliveries([one for one, _ in items.values()], {ANNA: hearer}, told, POLICY, now)
    assert Counter(cause for one in told for cause in one.causes) == dict.fromkeys(items, 1)
    for one in told:
        for cause in one.causes:
            what, since = items[cause]
            check_in_time(what, one, since, hearer)
    check_rate(told, items)


def check_in_time(what: Item, told: Delivery, since: int, hearer: Hearer) -> None:
    assert told.deliver_at >= since
    late_ms = told.deliver_at - since
    working = [one for one in hearer.contacts if one.bounced_at is None]
    assert (told.how is How.UNREACHABLE) == (not working)
    if what.severity is Severity.EMERGENCY or not working:
        assert late_ms == 0
    elif any(one.quiet_from_min == one.quiet_until_min for one in working) and what.severity is Severity.URGENT:
        assert late_ms <= DIGEST_MS
    else:
        # The longest wait: for the day's message, and then for the end of the quiet hours (25 h where clocks are set).
        assert late_ms <= (DIGEST_MS if told.how is How.GATHERED else 50 * 3600_000)


def check_rate(told: list[Delivery], items: dict[str, tuple[Item, int]]) -> None:
    """Of what is not an emergency, no more goes out at once in any window than the policy allows."""
    calm = [one for one in told if one.how is How.AT_ONCE and items[one.causes[0]][0].severity is Severity.URGENT]
    for one in calm:
        window = [other for other in calm if one.deliver_at - WINDOW_MS < other.deliver_at <= one.deliver_at]
        assert len(window) <= POLICY.limit
