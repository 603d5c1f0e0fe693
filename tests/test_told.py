"""Telling on a real database and through a real outbox: who hears what by which of their contacts, whatever fails."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.desk.notices import Kind, Recipient, Text, addressed
from monitor.devices import Severity
from monitor.engine.telling import CHANNELS, Telling
from monitor.notify.channels import CONTACTS
from monitor.notify.message import Bounced, Message, NotNow, Refused, Undelivered
from monitor.notify.outbox import Outbox
from monitor.store.database import open_database
from monitor.store.schema import contact, customer, metadata, notice, person

SHANGHAI = ZoneInfo("Asia/Shanghai")
NOON = round(datetime(2026, 3, 10, 12, tzinfo=SHANGHAI).timestamp() * 1000)
MINUTE, HOUR = 60_000, 3_600_000
TIAN, OLGA, PIA = 1, 2, 3
EMERGENCY, URGENT, ROUTINE = Severity.EMERGENCY, Severity.URGENT, Severity.ROUTINE
ROOM = Recipient("room", "webhook", "operations", "en")
Fails = Callable[[Message], Undelivered | None]


class Wire:
    """A channel of the tests: remembers what it carried, and fails as it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.carried: list[Message] = []
        self.fails: Fails = lambda _: None

    def send(self, message: Message, now: int) -> None:  # noqa: ARG002
        error = self.fails(message)
        if error is not None:
            raise error
        self.carried.append(message)


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / 'fettle.db'}"


class House:
    """A technician, an operator and a customer's clerk, each with an e-mail of their own and no other contact."""

    def __init__(self, url: str, *, room: Recipient | None = None, channels: tuple[str, ...] = tuple(CONTACTS)) -> None:
        self.now = NOON
        self.database = open_database(url)
        # Nothing here is about power cuts, and the disk's time is most of these tests'.
        if url.startswith("sqlite"):
            sa.event.listen(self.database.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF"))
        metadata.create_all(self.database.engine)
        self.wires = {name: Wire(name) for name in channels}
        self.room = room
        self.start()
        people = ((TIAN, "Tian", "technician"), (OLGA, "Olga", "ops"), (PIA, "Pia", "customer"))
        with self.database.begin() as connection:
            connection.execute(sa.insert(customer).values(id=7, name="Metro JV", email="office@metro.example"))
            connection.execute(sa.insert(person), [
                {"id": one, "name": name, "role": role, "email": f"{name.lower()}@example.com", "lang": "en",
                 "added_at": 0, "customer_id": 7 if role == "customer" else None}
                for one, name, role in people
            ])  # fmt: skip

    def start(self) -> None:
        """As a fresh process: all that is known stands in the database."""
        self.telling = Telling("Asia/Shanghai", self.room, "https://fettle.example/tickets")
        self.outbox = Outbox(self.database, self.wires, random.Random(1), given_up=self.telling.given_up)

    def contact(self, person_id: int, channel: str, address: str, quiet: tuple[int, int] = (0, 0)) -> None:
        with self.database.begin() as connection:
            position = connection.execute(sa.select(sa.func.count()).select_from(contact)).scalar_one()
            connection.execute(sa.insert(contact).values(
                person_id=person_id, channel=channel, address=address, position=position,
                quiet_from_minute=quiet[0] * 60, quiet_until_minute=quiet[1] * 60, bounce="",
            ))  # fmt: skip

    def tell(self, *causes: str, severity: Severity = URGENT, who: int = TIAN) -> None:
        told = [
            addressed(
                Recipient(f"person-{who}", "email", "", "en", who), cause, Kind.DISPATCH_ALERT,
                Text(f"About {cause}.", f"All about {cause}.\n", link=f"https://fettle.example/{cause}"),
                self.now, severity=severity,
            )
            for cause in causes
        ]  # fmt: skip
        with self.database.begin() as connection:
            self.telling.tell(connection, told, self.now)

    def deliver(self) -> None:
        self.outbox.deliver_due(self.now)

    def settle(self, hours: float = 80) -> None:
        """Let time pass until nothing waits any more."""
        end = self.now + round(hours * HOUR)
        while self.now <= end:
            self.deliver()
            waiting = [row.next_try_at for row in self.rows() if row.status == "queued" and row.gathered_in is None]
            if not waiting:
                return
            self.now = max(self.now + 1000, min(waiting))

    def rows(self, **where: object) -> list[Any]:
        clauses = [notice.c[name] == value for name, value in where.items()]
        with self.database.connect() as connection:
            return list(connection.execute(sa.select(notice).where(*clauses).order_by(notice.c.id)))

    def row(self, cause: str) -> Any:
        (found,) = self.rows(cause=cause)
        return found

    def contacts(self, person_id: int = TIAN) -> list[Any]:
        with self.database.connect() as connection:
            query = sa.select(contact).where(contact.c.person_id == person_id).order_by(contact.c.position)
            return list(connection.execute(query))

    def heard(self) -> list[tuple[str, str, str]]:
        """(channel, address, kind) of everything that went out."""
        return sorted(
            (name, one.recipient, one.kind) for name, wire in self.wires.items() for one in wire.carried
        )  # fmt: skip


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(sqlite(tmp_path))
    yield house
    house.database.close()


@pytest.fixture
def reached(house: House) -> House:
    """Tian has a phone, a group and an e-mail."""
    house.contact(TIAN, "sms", "+8613800000000")
    house.contact(TIAN, "dingtalk", "yard@13800000000")
    house.contact(TIAN, "email", "tian@home.example")
    return house


SMS, ROBOT = ("sms", "+8613800000000"), ("dingtalk", "yard@13800000000")
HOME, OWN = ("email", "tian@home.example"), ("email", "tian@example.com")


def no_such_number(_: Message) -> Undelivered:
    return Bounced("HTTP 400, code 21614")


# --- by which contact ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("severity", "way"), [(EMERGENCY, SMS), (URGENT, ROBOT)])
def test_severity_chooses_the_contact_and_it_goes_at_once(
    reached: House, severity: Severity, way: tuple[str, str]
) -> None:
    reached.tell("a", severity=severity)
    reached.deliver()
    assert reached.heard() == [(*way, "dispatch_alert")]
    assert (reached.row("a").status, reached.row("a").how) == ("sent", "at_once")


def test_whoever_has_no_contact_is_told_by_their_own_e_mail(house: House) -> None:
    house.tell("a", severity=EMERGENCY)
    house.deliver()
    assert house.heard() == [(*OWN, "dispatch_alert")]


def test_routine_comes_once_a_day_as_a_list(reached: House) -> None:
    reached.tell("a", "b", severity=ROUTINE)
    reached.now += HOUR
    reached.tell("c", severity=ROUTINE)
    reached.settle()
    assert datetime.fromtimestamp(reached.now / 1000, SHANGHAI).isoformat() == "2026-03-11T08:00:00+08:00"
    assert reached.heard() == [(*HOME, "digest")]
    (message,) = reached.wires["email"].carried
    assert [line for line in message.body.splitlines() if line.startswith("- ")] == [
        "- About a.",
        "- About b.",
        "- About c.",
    ]
    assert {row.status for row in reached.rows()} == {"sent"}


def test_quiet_hours_hold_for_what_is_urgent_and_an_emergency_overrides_them(house: House) -> None:
    house.contact(TIAN, "sms", "+8613800000000", quiet=(22, 7))
    house.now = NOON + 11 * HOUR
    house.tell("a", "b")
    house.tell("fire", severity=EMERGENCY)
    house.deliver()
    assert [one.subject for one in house.wires["sms"].carried] == ["About fire."]
    house.settle()
    assert datetime.fromtimestamp(house.now / 1000, SHANGHAI).hour == 7
    assert [one.kind for one in house.wires["sms"].carried] == ["dispatch_alert", "digest"]


def test_a_storm_is_a_few_messages_and_a_list(reached: House) -> None:
    for n in range(40):
        reached.tell(f"{n:02}")
    reached.settle()
    kinds = Counter(kind for _, _, kind in reached.heard())
    assert kinds == {"dispatch_alert": 6, "digest": 1}
    assert reached.now - NOON == 3 * MINUTE
    assert {row.status for row in reached.rows()} == {"sent"}


def test_the_same_cause_is_told_once_also_after_a_restart(reached: House) -> None:
    for n in range(8):
        reached.tell(*(f"{n}" for n in range(n + 1)))
        reached.start()
    reached.tell("0", "7")
    reached.settle()
    assert Counter(row.cause for row in reached.rows() if row.kind != "digest") == {f"{n}": 1 for n in range(8)}
    assert Counter(kind for _, _, kind in reached.heard()) == {"dispatch_alert": 6, "digest": 1}


def test_what_is_withdrawn_before_the_list_goes_out_is_not_in_it(reached: House) -> None:
    reached.tell("a", "b", severity=ROUTINE)
    with reached.database.begin() as connection:
        connection.execute(sa.update(notice).where(notice.c.cause == "a").values(ticket_id=None, status="withdrawn"))
    reached.settle()
    assert [one.subject for one in reached.wires["email"].carried] == ["About b."]


# --- what does not arrive ------------------------------------------------------------------------------------------


def test_a_dead_contact_is_marked_operations_hear_and_the_next_contact_is_used(reached: House) -> None:
    reached.wires["sms"].fails = no_such_number
    reached.tell("a", severity=EMERGENCY)
    reached.deliver()
    dead, *others = reached.contacts()
    assert (dead.bounced_at, dead.bounce) == (NOON, "HTTP 400, code 21614")
    assert [one.bounced_at for one in others] == [None, None]
    # In the same round's aftermath, not hours later; and the row says what happened before.
    assert (reached.row("a").status, reached.row("a").channel) == ("queued", "dingtalk")
    assert reached.row("a").last_error == "sms: HTTP 400, code 21614"
    reached.deliver()
    assert reached.heard() == [(*ROBOT, "dispatch_alert"), ("email", "olga@example.com", "contact_bounced")]
    (told,) = reached.wires["email"].carried
    assert {"Name: Tian", "Channel: text message", "Address: +8613800000000"} <= set(told.body.splitlines())
    # From now on nobody tries the number.
    reached.tell("b", severity=EMERGENCY)
    reached.deliver()
    assert reached.row("b").channel == "dingtalk"
    assert len(reached.rows(kind="contact_bounced")) == 1


def test_what_waited_for_a_dead_contact_goes_another_way_too(house: House) -> None:
    house.contact(TIAN, "sms", "+8613800000000", quiet=(22, 7))
    house.wires["sms"].fails = no_such_number
    house.now = NOON + 11 * HOUR
    house.tell("a", "b")
    house.tell("fire", severity=EMERGENCY)
    house.deliver()
    house.deliver()
    # Their own e-mail knows no quiet hours.
    assert Counter(house.heard()) == {
        (*OWN, "dispatch_alert"): 3, ("email", "olga@example.com", "contact_bounced"): 1,
    }  # fmt: skip
    house.settle()
    assert {(row.kind, row.status) for row in house.rows()} == {
        ("dispatch_alert", "sent"), ("contact_bounced", "sent"), ("digest", "withdrawn"),
    }  # fmt: skip


def test_a_list_whose_contact_is_dead_is_told_by_the_next(reached: House) -> None:
    reached.wires["email"].fails = lambda one: Bounced("550 no such user") if "home" in one.recipient else None
    reached.tell("a", "b", severity=ROUTINE)
    reached.settle()
    assert (*ROBOT, "digest") in reached.heard()
    assert {reached.row(cause).status for cause in "ab"} == {"sent"}


def test_a_person_s_own_e_mail_that_is_dead_is_shown_among_their_contacts(house: House) -> None:
    house.wires["email"].fails = lambda one: Bounced("550 no such user") if "tian" in one.recipient else None
    house.tell("a")
    house.settle()
    (dead,) = house.contacts()
    assert (dead.channel, dead.address, dead.bounce) == ("email", "tian@example.com", "550 no such user")
    assert (house.row("a").status, house.row("a").last_error) == ("failed", "email: 550 no such user")
    assert house.heard() == [
        ("email", "olga@example.com", "contact_bounced"), ("email", "olga@example.com", "unreachable"),
    ]  # fmt: skip
    # The next thing is known to have no way, and operations hear of it at once.
    house.tell("b", severity=EMERGENCY)
    house.deliver()
    assert (house.row("b").status, house.row("b").how) == ("failed", "unreachable")
    assert house.wires["email"].carried[-1].subject == "Tian could not be told: About b."
    assert "https://fettle.example/b" in house.wires["email"].carried[-1].body


@pytest.mark.parametrize("error", [Refused("554 spam"), NotNow("421 busy")])
def test_what_one_contact_does_not_take_the_next_is_told(reached: House, error: Undelivered) -> None:
    """Nobody says that the address is dead: it is used again for the next notice."""
    reached.wires["dingtalk"].fails = lambda _: error
    reached.tell("a")
    reached.settle()
    assert (reached.row("a").status, reached.row("a").channel) == ("sent", "sms")
    assert [one.bounced_at for one in reached.contacts()] == [None] * 3
    reached.wires["dingtalk"].fails = lambda _: None
    reached.now += HOUR
    reached.tell("b")
    reached.deliver()
    assert reached.row("b").channel == "dingtalk"


def test_what_the_only_contact_does_not_take_is_tried_no_second_time(house: House) -> None:
    tried: list[Message] = []

    def spam(message: Message) -> Undelivered | None:
        tried.append(message)
        return Refused("554 spam") if "tian" in message.recipient else None

    house.wires["email"].fails = spam
    house.tell("a")
    house.settle(hours=0.1)
    assert [one.recipient for one in tried] == ["tian@example.com", "olga@example.com"]
    assert (house.row("a").status, house.row("a").last_error) == ("failed", "email: 554 spam")
    assert house.heard() == [("email", "olga@example.com", "unreachable")]


def test_an_emergency_does_not_wait_hours_for_a_channel_that_is_away(reached: House) -> None:
    reached.wires["sms"].fails = reached.wires["dingtalk"].fails = lambda _: NotNow("time-out")
    reached.tell("fire", severity=EMERGENCY)
    reached.tell("a")
    reached.settle(hours=0.1)
    fire, calm = reached.row("fire"), reached.row("a")
    assert (fire.status, fire.channel, fire.recipient) == ("sent", "email", "tian@home.example")
    assert fire.sent_at - NOON <= 3 * MINUTE
    assert (calm.status, calm.channel) == ("queued", "dingtalk")


def test_an_emergency_with_one_contact_keeps_trying_it(house: House) -> None:
    house.wires["email"].fails = lambda _: NotNow("421 busy")
    house.tell("fire", severity=EMERGENCY)
    house.settle(hours=0.5)
    assert house.row("fire").status == "queued"
    house.wires["email"].fails = lambda _: None
    house.settle()
    assert (house.row("fire").status, house.row("fire").channel) == ("sent", "email")


def test_a_channel_that_is_not_set_up_here_is_no_way(tmp_path: Path) -> None:
    house = House(sqlite(tmp_path), channels=("email",))
    house.contact(TIAN, "sms", "+8613800000000")
    house.contact(TIAN, "email", "tian@home.example")
    house.tell("fire", severity=EMERGENCY)
    house.deliver()
    assert house.heard() == [(*HOME, "dispatch_alert")]
    assert house.contacts()[0].bounced_at is None
    house.database.close()


def test_if_operations_cannot_be_told_either_their_room_still_hears(tmp_path: Path) -> None:
    house = House(sqlite(tmp_path), room=ROOM)
    house.wires["email"].fails = lambda _: Bounced("550 no such user")
    house.tell("fire", severity=EMERGENCY)
    house.settle()
    assert Counter(kind for _, _, kind in house.heard()) == {"contact_bounced": 2, "unreachable": 1}
    assert {row.status for row in house.rows(kind="dispatch_alert")} == {"failed"}
    house.database.close()


def test_a_customer_s_dead_address_is_shown_to_operations(house: House) -> None:
    office = Recipient("customer-7", "email", "office@metro.example", "en")
    text = Text("We noticed a fault", "…\n")
    house.wires["email"].fails = lambda one: Bounced("550 no such user") if "metro" in one.recipient else None
    with house.database.begin() as connection:
        told = addressed(office, "fault_noticed:1:0:customer-7", Kind.FAULT_NOTICED, text, NOON, severity=EMERGENCY)
        house.telling.tell(connection, [told], NOON)
    house.settle()
    assert house.heard() == [("email", "olga@example.com", "contact_bounced")]
    assert "Metro JV" in house.wires["email"].carried[0].subject
    assert house.row("fault_noticed:1:0:customer-7").status == "failed"


def test_whoever_has_left_is_not_told_and_operations_are(house: House) -> None:
    with house.database.begin() as connection:
        connection.execute(sa.update(person).where(person.c.id == TIAN).values(disabled_at=NOON))
    house.tell("a")
    house.deliver()
    assert house.heard() == [("email", "olga@example.com", "unreachable")]


def test_bounce_and_next_way_are_one_transaction(reached: House) -> None:
    """What breaks between them leaves neither: the claim runs out, and it is tried again."""
    reached.wires["sms"].fails = no_such_number
    reached.tell("a", severity=EMERGENCY)
    with reached.database.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER broken BEFORE UPDATE OF bounced_at ON contact BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    with pytest.raises(sa.exc.DBAPIError):
        reached.deliver()
    assert (reached.row("a").status, reached.row("a").channel) == ("queued", "sms")
    with reached.database.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER broken")
    reached.now += 10 * MINUTE
    reached.settle()
    assert (reached.row("a").status, reached.row("a").channel) == ("sent", "dingtalk")
    assert reached.contacts()[0].bounced_at is not None


def test_the_policy_knows_every_channel_that_contacts_are_of() -> None:
    assert CHANNELS.keys() == CONTACTS.keys()


# --- any course of events ------------------------------------------------------------------------------------------

FATES = st.sampled_from(["sent", "sent", "sent", "not now", "refused", "bounced"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from([EMERGENCY, URGENT, URGENT, ROUTINE]), st.integers(1, 4), st.integers(0, 90), st.booleans(),
        st.sampled_from([TIAN, PIA]),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(STEPS, st.lists(FATES, max_size=30), st.integers(0, 23), st.integers(0, 3))
def test_in_any_course_every_cause_is_told_once_or_fails_before_everybody_s_eyes(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Severity, int, int, bool, int]], fates: list[str],
    hour: int, contacts: int,
) -> None:  # fmt: skip
    house = House(sqlite(tmp_path_factory.mktemp("course")))
    house.now += hour * HOUR
    for channel, address in (SMS, ROBOT, HOME)[:contacts]:
        house.contact(TIAN, channel, address, quiet=(22, 7) if channel == "sms" else (0, 0))
    coming = iter(fates)

    def fails(message: Message) -> Undelivered | None:
        fate = "sent" if message.recipient.startswith("olga") else next(coming, "sent")
        return {"sent": None, "not now": NotNow("x"), "refused": Refused("x"), "bounced": Bounced("x")}[fate]

    for wire in house.wires.values():
        wire.fails = fails
    causes: dict[str, Severity] = {}
    for number, (severity, many, minutes, restarts, who) in enumerate(steps):
        some = [f"{number}-{n}" for n in range(many)]
        causes |= dict.fromkeys(some, severity)
        house.tell(*some, severity=severity, who=who)
        house.deliver()
        house.now += minutes * MINUTE
        if restarts:
            house.start()
            house.tell(*some, severity=severity, who=who)
    house.settle()
    check(house, causes)
    house.database.close()


def check(house: House, causes: dict[str, Severity]) -> None:
    rows = Counter(row.cause for row in house.rows(kind="dispatch_alert"))
    assert rows == dict.fromkeys(causes, 1)
    said = [one for wire in house.wires.values() for one in wire.carried]
    for cause, severity in causes.items():
        row = house.row(cause)
        told = [one for one in said if f"About {cause}." in f"{one.subject}\n{one.body}"]
        to_them = [one for one in told if one.kind != "unreachable" and not one.recipient.startswith("olga")]
        assert (row.status, len(to_them)) in (("sent", 1), ("failed", 0)), cause
        if row.status == "failed" and severity is not ROUTINE:
            assert any(one.recipient.startswith("olga") for one in told), f"operations never heard of {cause}"
        if severity is EMERGENCY:
            assert row.how in ("at_once", "unreachable")
    assert {row.status for row in house.rows()} <= {"sent", "failed", "withdrawn"}
