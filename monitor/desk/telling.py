"""Telling people: through which of their contacts, at once or gathered, now or after the quiet hours. Pure.

The policy stands in `telling.toml`. What is to be told is an item; a delivery carries one or several of them. Nothing
is dropped here: an item is told at once, in a gathered message at a time that is known now, or operations hear that
this person cannot be reached.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import StrEnum
from functools import cache, lru_cache
from importlib.resources import files
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from monitor.devices import Severity

DAY_MIN = 24 * 60
Minutes = Annotated[int, msgspec.Meta(ge=0, lt=DAY_MIN)]

_GRAVEST_FIRST = list(Severity)


# --- the policy ----------------------------------------------------------------------------------------------------


class Channel(StrEnum):
    """How a contact is reached."""

    EMAIL = "email"
    SMS = "sms"
    ROBOT = "robot"
    WEBHOOK = "webhook"


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How people are told, in one version (telling.toml)."""

    version: str
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    window_s: Annotated[float, msgspec.Meta(gt=0, le=86400)]
    digest_s: Annotated[float, msgspec.Meta(gt=0, le=900)]
    daily_at_min: Minutes
    channels: dict[Severity, tuple[Channel, ...]]

    def __post_init__(self) -> None:
        """Raises ValueError where a severity has no order of channels."""
        missing = ", ".join(one for one in Severity if one not in self.channels)
        if missing:
            raise ValueError(f"no channels for: {missing}")

    def place(self, channel: Channel, severity: Severity) -> int:
        """How early such a contact is tried; a channel that is not named comes last, but comes."""
        order = self.channels[severity]
        return order.index(channel) if channel in order else len(order)


def read_policy(text: bytes) -> Policy:
    """A policy from its TOML. Raises msgspec.ValidationError, which says what is wrong and where."""
    return msgspec.toml.decode(text, type=Policy)


@cache
def shipped_policy() -> Policy:
    """The policy that ships with the program."""
    return read_policy(files("monitor.desk").joinpath("telling.toml").read_bytes())


# --- what is to be told, and to whom -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item:
    """Something that one person is to hear. `cause` is what makes it unique for that person; `at`: when it arose."""

    cause: str
    person_id: int
    severity: Severity
    at: int


@dataclass(frozen=True, slots=True)
class Contact:
    """One way to reach a person. `rank` orders those of one channel, the lowest first.

    Quiet hours are minutes after midnight of the person's own day, from inclusive, until exclusive, over midnight
    where `quiet_until_min` is the smaller; equal: none.
    """

    id: int
    channel: Channel
    rank: int = 0
    quiet_from_min: int = 0
    quiet_until_min: int = 0
    bounced_at: int | None = None


@dataclass(frozen=True, slots=True)
class Hearer:
    """A person with their contacts and the time zone that they live in."""

    person_id: int
    timezone: str
    contacts: tuple[Contact, ...]


class How(StrEnum):
    """In what manner something is told, and why so."""

    AT_ONCE = "at_once"
    GATHERED = "gathered"
    """Too much came at once: one message with a list, in a few minutes."""
    AFTER_QUIET = "after_quiet"
    """One message with a list when the quiet hours end."""
    DAILY = "daily"
    """Routine: one message a day."""
    UNREACHABLE = "unreachable"
    """No contact is left: operations are told instead, at once."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one person: to be sent at `deliver_at` through `contact_id`, with what these causes have to say.

    Items that join a message which still waits come as a delivery with the same `key`.
    """

    person_id: int
    how: How
    deliver_at: int
    contact_id: int | None
    causes: tuple[str, ...]

    @property
    def key(self) -> str:
        """What makes this message unique: the same key is sent once."""
        if self.how in (How.AT_ONCE, How.UNREACHABLE):
            return f"{self.how}:{self.person_id}:{self.causes[0]}"
        return f"{self.how}:{self.person_id}:{self.contact_id}:{self.deliver_at}"


# --- how it is told ------------------------------------------------------------------------------------------------


def deliveries(
    items: Iterable[Item], hearers: Mapping[int, Hearer], lately: Sequence[Delivery], policy: Policy, now: int
) -> list[Delivery]:
    """How these items are told, by person, each in exactly one delivery.

    `lately`: the deliveries to these people that still wait, and those of the last `window_s` (not the failed ones: a
    message whose contact bounced is told again by giving its items once more). An item whose cause is among them is
    told already. Whoever is not in `hearers` has no contact.
    """
    by_person: dict[int, list[Item]] = {}
    for item in sorted(items, key=lambda one: (_GRAVEST_FIRST.index(one.severity), one.at, one.cause)):
        by_person.setdefault(item.person_id, []).append(item)
    told: list[Delivery] = []
    for person_id, theirs in by_person.items():
        hearer = hearers.get(person_id) or Hearer(person_id, "UTC", ())
        before = {one.key: one for one in lately if one.person_id == person_id}
        known = {cause for one in lately if one.person_id == person_id for cause in one.causes}
        told += _Telling(hearer, before, known, policy, now).told(theirs)
    return told


@dataclass(slots=True)
class _Telling:
    """What one person hears, as it is being decided. `before`: messages that they had lately or will have, by key;
    `known`: the causes in them."""

    hearer: Hearer
    before: dict[str, Delivery]
    known: set[str]
    policy: Policy
    now: int

    def told(self, items: Iterable[Item]) -> list[Delivery]:
        new: dict[str, list[str]] = {}
        for item in items:
            if item.cause in self.known:
                continue
            self.known.add(item.cause)
            one = self._delivery(item)
            self.before.setdefault(one.key, one)
            new.setdefault(one.key, []).append(item.cause)
        return [replace(self.before[key], causes=tuple(causes)) for key, causes in new.items()]

    def _delivery(self, item: Item) -> Delivery:
        tried = in_order(self.hearer.contacts, item.severity, self.policy)
        if not tried:
            return self._one(item, How.UNREACHABLE, self.now, None)
        if item.severity is Severity.EMERGENCY:
            return self._one(item, How.AT_ONCE, self.now, tried[0])
        if not item.severity.makes_bad:
            at, contact = self._heard_from(tried, self._daily_at())
            return self._one(item, How.DAILY, at, contact)
        at, contact = self._heard_from(tried, self.now)
        if at > self.now:
            return self._one(item, How.AFTER_QUIET, at, contact)
        return self._limited(item, contact, {one.id for one in tried})

    def _limited(self, item: Item, contact: Contact, working: set[int]) -> Delivery:
        """At once while that is little; else in the message that is being gathered, or in a new one.

        What was gathered before quiet hours began still goes out: it is minutes old, and was promised.
        """
        due_at = max(self.now, item.at + round(self.policy.digest_s * 1000))
        gathered = [
            one for one in self.before.values() if one.how is How.GATHERED and self.now < one.deliver_at <= due_at
        ]
        for one in gathered:
            if one.contact_id in working:
                return replace(one, causes=(item.cause,))
        if self._heard_lately() < self.policy.limit:
            return self._one(item, How.AT_ONCE, self.now, contact)
        return self._one(item, How.GATHERED, due_at, contact)

    def _heard_lately(self) -> int:
        """Messages within the window that ends now."""
        since = self.now - round(self.policy.window_s * 1000)
        sent = [one for one in self.before.values() if one.contact_id is not None]
        return sum(since < one.deliver_at <= self.now for one in sent)

    def _heard_from(self, contacts: Sequence[Contact], at: int) -> tuple[int, Contact]:
        """When, from `at` on, this person may be told, and through what: the first contact that is not in its quiet
        hours, else the one whose quiet hours end first."""
        zone = _zone(self.hearer.timezone)
        ends = [(_quiet_until(one, zone, at), one) for one in contacts]
        return min(ends, key=lambda end: end[0])

    def _daily_at(self) -> int:
        return _next_local(self.policy.daily_at_min, _zone(self.hearer.timezone), self.now)

    def _one(self, item: Item, how: How, deliver_at: int, contact: Contact | None) -> Delivery:
        return Delivery(self.hearer.person_id, how, deliver_at, contact.id if contact else None, (item.cause,))


def in_order(contacts: Iterable[Contact], severity: Severity, policy: Policy) -> list[Contact]:
    """The contacts that work, in the order in which they are tried."""
    working = [one for one in contacts if one.bounced_at is None]
    return sorted(working, key=lambda one: (policy.place(one.channel, severity), one.rank, one.id))


# --- a person's own day --------------------------------------------------------------------------------------------


def _quiet_until(contact: Contact, zone: tzinfo, at: int) -> int:
    """When the quiet hours that hold at this moment end; this moment itself where none do."""
    start, end = contact.quiet_from_min, contact.quiet_until_min
    local = datetime.fromtimestamp(at / 1000, zone)
    minute = local.hour * 60 + local.minute
    quiet = start <= minute < end if start <= end else minute >= start or minute < end
    return _next_local(end, zone, at) if quiet else at


@lru_cache(maxsize=1024)
def _next_local(minute: int, zone: tzinfo, after: int) -> int:
    """The next moment after this one at which clocks in the zone show this minute of the day."""
    date, clock = datetime.fromtimestamp(after / 1000, zone).date(), time(minute // 60, minute % 60)
    days = [date + timedelta(days=days) for days in (-1, 0, 1, 2)]
    moments = [datetime.combine(day, clock.replace(fold=fold), zone).timestamp() for day in days for fold in (0, 1)]
    # A clock that is set back shows the hour twice, and both count; one that is set forward leaves it out, and then the
    # moment counts at which it already shows more.
    shown = (round(at * 1000) for at in sorted(moments) if datetime.fromtimestamp(at, zone).time() >= clock)
    return next(at for at in shown if at > after)


@cache
def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # A zone that this system no longer knows must not keep anybody from being told.
        return UTC
