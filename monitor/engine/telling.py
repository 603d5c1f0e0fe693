"""Telling: from what somebody is to hear to rows of the outbox, by their own contacts.

The one door for notices is `Telling.tell(connection, notices, now)`: the desk and the paging both queue through it
(`Desk.telling`), in the transaction of what caused the notices. `Telling.given_up` is the outbox's way back: what could
not be told by one contact is told by the next, and operations hear of a dead address at once.

A cause has one row, wherever it goes and however often. It is sent on its own, or carried by a gathered message
(`gathered_in`), and shares its fate.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.engine import Connection

from monitor.desk import notices
from monitor.desk.notices import Kind, Notice, Recipient, Text, addressed
from monitor.desk.telling import (
    Channel,
    Contact,
    Delivery,
    Hearer,
    How,
    Item,
    Policy,
    deliveries,
    in_order,
    shipped_policy,
)
from monitor.devices import Severity
from monitor.notify.message import Bounced, Undelivered
from monitor.store import notices as store
from monitor.store.notices import Told, Way

OWN = 0
"""In place of a contact's number: the e-mail of the person's own row."""
CHANNELS = {
    "email": Channel.EMAIL, "sms": Channel.SMS, "webhook": Channel.WEBHOOK,
    "dingtalk": Channel.ROBOT, "wecom": Channel.ROBOT, "feishu": Channel.ROBOT,
}  # fmt: skip
"""What the policy (telling.toml) calls the channels that contacts are of."""
ABOUT_TELLING = (Kind.UNREACHABLE, Kind.CONTACT_BOUNCED)
"""When these cannot be told, nobody is told of that: the row says it, and the log."""
ERROR_CHARS = 300

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Pending:
    """A cause that looks for its way: a notice that is new, or (`id`) one whose last way was none."""

    cause: str
    person_id: int
    severity: Severity
    at: int
    values: Mapping[str, Any]
    id: int | None = None
    tried: tuple[int, ...] = ()


class Telling:
    """Tells people by their contacts. `timezone`: of people who have named none. `room`: where operations as a whole
    is told. `overview`: the page with everything, for messages that have to be cut."""

    def __init__(
        self, timezone: str, room: Recipient | None = None, overview: str = "", policy: Policy | None = None
    ) -> None:
        self._timezone = timezone
        self._room = room
        self._overview = overview
        self._policy = policy or shipped_policy()

    # --- the door ---

    def tell(self, connection: Connection, queued: Sequence[Notice], now: int) -> None:
        """Put notices into the outbox, by the ways of those whom they are for; causes that are there stay as they are.

        A notice's `next_try_at` may lie ahead: until then it can still be withdrawn.
        """
        known = store.known_causes(connection, {one.cause for one in queued})
        fresh = {one.cause: one for one in queued if one.cause not in known}
        pending: dict[int, list[_Pending]] = {}
        new: list[Mapping[str, Any]] = []
        for one in fresh.values():
            values = _columns(one, now)
            if one.person_id is None:
                new.append({**values, "deliver_at": one.next_try_at})
            else:
                found = _Pending(one.cause, one.person_id, one.severity, one.next_try_at, values)
                pending.setdefault(one.next_try_at, []).append(found)
        for at, some in sorted(pending.items()):
            new += self._place(connection, some, at, now)
        # What goes out at the same moment goes out in the order in which it was said.
        said = {cause: place for place, cause in enumerate(fresh)}
        store.insert(connection, sorted(new, key=lambda row: said[row["cause"]]))

    def test(
        self, connection: Connection, to: Recipient, contact_id: int | None, text: Text, by: str, now: int
    ) -> int:  # fmt: skip
        """Queue a test by exactly this way, whatever the hour, and look for no other when it fails. `by`: who asked for
        it (an actor). Answers the notice."""
        one = addressed(to, f"{test_causes(by)}{now}", Kind.TEST, text, now, severity=Severity.ROUTINE)
        how = "" if to.person_id is None else How.AT_ONCE
        store.insert(connection, [{**_columns(one, now), "contact_id": contact_id, "how": how, "deliver_at": now}])
        return store.of_cause(connection, one.cause)

    def reach(self, connection: Connection, person_id: int) -> dict[Severity, list[Way]]:
        """The ways to somebody that work, by how grave a matter is in the order in which they are tried."""
        person = store.people(connection, [person_id]).get(person_id)
        if person is None:
            return {severity: [] for severity in Severity}
        ways = self._ways(person, ())
        contacts = self._hearer(person, ways.values()).contacts
        return {
            severity: [ways[one.id] for one in in_order(contacts, severity, self._policy)] for severity in Severity
        }  # fmt: skip

    def given_up(
        self, connection: Connection, notice_id: int, error: Undelivered, now: int, *, final: bool = True
    ) -> None:
        """A notice, or a message with several, was given up on its way: the people hear by their next contact.

        With a `Bounced` error its contact is dead: what waits for it goes elsewhere too, and operations hear of it.
        Not `final`: it fails for now; only an emergency leaves a way that may come back, and only for one that works.
        """
        row = store.load(connection, notice_id)
        if not final and not self._has_other_way(connection, row):
            return
        why = " ".join(str(error).split())[:ERROR_CHARS]
        if row.person_id is None:
            self._report_dead(connection, row, why, now)
            return
        # Whoever asked for a test sees that it failed: by another way it would say nothing of this one.
        lost = store.carried(connection, notice_id) if row.kind == Kind.DIGEST else [row] if _is_told(row) else []
        if isinstance(error, Bounced) and store.note_bounce(connection, row, why, now):
            lost += filter(_is_told, store.waiting_for(connection, row.person_id, row.contact_id, now))
            self._report_dead(connection, row, why, now)
        way = OWN if row.contact_id is None else row.contact_id
        pending = [_again(one, way, why) for one in {one.id: one for one in lost}.values()]
        # What failed together has been tried alike, but what was only waiting has not.
        for tried in sorted({one.tried for one in pending}):
            store.insert(connection, self._place(connection, [o for o in pending if o.tried == tried], now, now))

    def _has_other_way(self, connection: Connection, row: Any) -> bool:
        person = store.people(connection, [row.person_id]).get(row.person_id) if row.person_id is not None else None
        if person is None or row.severity != Severity.EMERGENCY or row.kind == Kind.DIGEST:
            return False
        ways = self._ways(person, (*row.tried, row.contact_id or OWN))
        return any(way.bounced_at is None for way in ways.values())

    # --- which way ---

    def _place(
        self, connection: Connection, pending: Sequence[_Pending], at: int, now: int
    ) -> list[Mapping[str, Any]]:  # fmt: skip
        """Give causes that were tried alike their way, as it is from `at` on. Answers the rows of the new ones."""
        people = store.people(connection, {one.person_id for one in pending})
        ways = {one.id: self._ways(one, pending[0].tried) for one in people.values()}
        # An emergency goes at once, whatever they have heard.
        restrained = {one.person_id for one in pending if one.severity is not Severity.EMERGENCY} & people.keys()
        lately = store.heard_since(
            connection, restrained, at - round(self._policy.window_s * 1000), self._policy.limit,
            [one.id for one in pending if one.id is not None],
        )  # fmt: skip
        items = [Item(one.cause, one.person_id, one.severity, min(one.at, at)) for one in pending]
        hearers = {one.id: self._hearer(one, ways[one.id].values()) for one in people.values()}
        by_cause = {one.cause: one for one in pending}
        new: list[Mapping[str, Any]] = []
        for delivery in deliveries(items, hearers, lately, self._policy, at):
            some = [by_cause[cause] for cause in delivery.causes]
            if delivery.contact_id is None:
                self._report_unreachable(connection, some, people.get(delivery.person_id), now)
            else:
                new += self._send(connection, some, delivery, ways[delivery.person_id][delivery.contact_id], now)
        return new

    def _ways(self, person: Told, tried: Sequence[int]) -> dict[int, Way]:
        """What is left of a person's contacts. Their own e-mail is the only one where there is no other, and the last
        resort where none of the others works."""
        ways = {way.id: way for way in person.ways if way.channel in CHANNELS and way.id not in tried}
        own = person.email.strip()
        is_contact = any(way.channel == "email" and way.address == own for way in person.ways)
        works = any(way.bounced_at is None for way in ways.values())
        if own and not is_contact and not works and OWN not in tried:
            ways[OWN] = Way(OWN, "email", own)
        return ways

    def _hearer(self, person: Told, ways: Iterable[Way]) -> Hearer:
        contacts = tuple(
            Contact(way.id, CHANNELS[way.channel], way.rank, way.quiet_from_minute, way.quiet_until_minute,
                    way.bounced_at)
            for way in ways
        )  # fmt: skip
        return Hearer(person.id, person.timezone or self._timezone, contacts)

    def _send(
        self, connection: Connection, pending: Sequence[_Pending], delivery: Delivery, way: Way, now: int
    ) -> list[Mapping[str, Any]]:  # fmt: skip
        carrier = None if delivery.how is How.AT_ONCE else self._carrier(connection, pending, delivery, way, now)
        placed = {**_placed(delivery, way), "gathered_in": carrier}
        for one in pending:
            if one.id is not None:
                store.move(connection, one.id, {**one.values, **placed})
        return [{**one.values, **placed} for one in pending if one.id is None]

    def _carrier(
        self, connection: Connection, pending: Sequence[_Pending], delivery: Delivery, way: Way, now: int
    ) -> int:  # fmt: skip
        """The row of the message that these are gathered in. Its words are put together when it goes out."""
        order = list(Severity)
        values = {
            "cause": delivery.key, "kind": Kind.DIGEST, "ticket_id": None, "person_id": delivery.person_id,
            "severity": min((one.severity for one in pending), key=order.index), "subject": "", "body": "", "html": "",
            "link": self._overview, "lang": pending[0].values["lang"], "status": "queued", "tries": 0,
            "queued_at": now, "last_error": "", "tried": [],
        }  # fmt: skip
        return store.carrier(connection, {**values, **_placed(delivery, way)})

    # --- operations hear what does not reach people ---

    def _report_unreachable(
        self, connection: Connection, pending: Sequence[_Pending], person: Told | None, now: int
    ) -> None:
        """No contact is left: what somebody should have heard fails visibly, and those in charge hear it instead."""
        for one in pending:
            gone = {"channel": "none", "recipient": "", "contact_id": None, "how": How.UNREACHABLE, "deliver_at": now,
                    "next_try_at": now, "gathered_in": None, "status": "failed"}  # fmt: skip
            error = one.values["last_error"] or "no contact is left"
            if one.id is None:
                store.insert(connection, [{**one.values, **gone, "last_error": error}])
            else:
                store.move(connection, one.id, {**one.values, **gone, "last_error": error})
            log.error("person_unreachable", person=one.person_id, kind=one.values["kind"])
            if one.values["kind"] in ABOUT_TELLING:
                continue
            missed = Text(one.values["subject"], one.values["body"], link=one.values["link"])
            texts = {lang: notices.write_unreachable(lang, person.name if person else f"#{one.person_id}", missed)
                     for lang in notices.LANGS}  # fmt: skip
            self._tell_in_charge(connection, Kind.UNREACHABLE, one.cause, texts, one.severity, one.person_id, now)

    def _report_dead(self, connection: Connection, row: Any, why: str, now: int) -> None:
        """An address that cannot be reached, shown to operations at once."""
        log.error("contact_dead", notice=row.id, person=row.person_id, channel=row.channel)
        if row.kind in (*ABOUT_TELLING, Kind.TEST) and row.person_id is None:
            return
        told = store.people(connection, [row.person_id]) if row.person_id is not None else {}
        name = told[row.person_id].name if told else store.customer_at(connection, row.recipient)
        texts = {lang: notices.write_bounced(lang, name, row.channel, row.recipient, why) for lang in notices.LANGS}
        about = f"{row.id}" if row.person_id is None else f"{row.person_id}-{row.contact_id or OWN}-{now}"
        self._tell_in_charge(connection, Kind.CONTACT_BOUNCED, about, texts, Severity.URGENT, None, now)

    def _tell_in_charge(
        self, connection: Connection, kind: Kind, about: str, texts: Mapping[str, Text], severity: Severity,
        but: int | None, now: int,
    ) -> None:  # fmt: skip
        hearers = [Recipient(f"person-{row.id}", "email", "", notices.language(row.lang), row.id)
                   for row in store.in_charge(connection, but)]  # fmt: skip
        hearers += [self._room] if self._room else []
        told = [addressed(hearer, f"{kind}:{about}:{hearer.key}", kind, texts[hearer.lang], now, severity=severity)
                for hearer in hearers]  # fmt: skip
        self.tell(connection, told, now)


def test_causes(by: str) -> str:
    """What the causes of somebody's tests begin with."""
    return f"{Kind.TEST}:{by}:"


def _is_told(row: Any) -> bool:
    """Whether a notice is to reach its reader by whatever way."""
    return bool(row.kind != Kind.TEST)


def _columns(one: Notice, now: int) -> dict[str, Any]:
    return {**one._asdict(), "status": "queued", "tries": 0, "queued_at": now, "last_error": "", "tried": [],
            "contact_id": None, "how": "", "gathered_in": None}  # fmt: skip


def _placed(delivery: Delivery, way: Way) -> dict[str, Any]:
    return {
        "channel": way.channel, "recipient": way.address, "contact_id": way.id or None, "how": delivery.how,
        "deliver_at": delivery.deliver_at, "next_try_at": delivery.deliver_at,
    }  # fmt: skip


def _again(row: Any, way: int, why: str) -> _Pending:
    """A row whose way was none, as if it were new. What the last way said stays with it."""
    tried = (*row.tried, way)
    values = {**row._mapping, "status": "queued", "tries": 0, "claimed_until": None, "tried": list(tried),
              "last_error": f"{row.channel}: {why}"}  # fmt: skip
    values.pop("id")
    return _Pending(row.cause, row.person_id, Severity(row.severity), row.queued_at, values, row.id, tried)
