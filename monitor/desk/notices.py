"""Notices: who hears what about a ticket, and in which words. Pure.

The words themselves stand in `texts/{lang}.toml`, one file a language, all with the same keys.
"""

import math
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

import jinja2
from babel import Locale
from babel.dates import format_datetime, get_timezone
from babel.numbers import format_decimal, format_percent

from monitor.desk.commitments import Commitment
from monitor.desk.handover import Case, Handover
from monitor.desk.letter import letter
from monitor.devices import FaultKind, Limits, Profile, Sensor, Severity

LANGS = ("zh", "en")
DEFAULT_LANG = "zh"
SUBJECT_CHARS = 160
VALUE_CHARS = 120


class Kind(StrEnum):
    """What a notice is for."""

    DISPATCH_ALERT = "dispatch_alert"
    BREACH_WARNING = "breach_warning"
    BREACH = "breach"
    FAULT_NOTICED = "fault_noticed"
    FAULT_RESOLVED = "fault_resolved"
    TECHNICIAN_ARRANGED = "technician_arranged"
    TECHNICIAN_ON_SITE = "technician_on_site"
    HOW_WAS_IT = "how_was_it"
    ROUTINE_OPENED = "routine_opened"
    """For the day's list of those who plan."""
    UNREACHABLE = "unreachable"
    """To operations: somebody could not be told something."""
    CONTACT_BOUNCED = "contact_bounced"
    """To operations: an address is dead."""
    DIGEST = "digest"
    """Carries several notices to one person."""
    TAKEN = "taken"
    """Whoever was asked need not answer any more."""
    REMINDER = "reminder"
    """Whoever has accepted should be on the way, or on site, by now."""
    EXPIRED = "expired"
    """The acceptance led nowhere, and the ticket is offered again."""
    UNTAKEN = "untaken"
    """Nobody has taken it yet."""
    AT_RISK = "at_risk"
    """A promise will hardly be kept, as it stands."""
    HANDOVER = "handover"
    """What whoever comes on takes over."""
    MAINTENANCE_OVERDUE = "maintenance_overdue"
    """Once a day: which machines' maintenance is overdue."""
    AVAILABILITY_AT_RISK = "availability_at_risk"
    """At its pace the month will miss its availability."""
    WORK_ASSIGNED = "work_assigned"
    """Somebody is to do a work order."""
    MONTHLY_REPORT = "monthly_report"
    """The month against the service standard."""
    SIGN_IN_LINK = "sign_in_link"
    """A link that signs somebody in once; they have asked for it."""
    SIGN_IN_CHANGED = "sign_in_changed"
    """To somebody: how they sign in has been changed."""
    TEST = "test"
    """Whoever asks for it sees whether a way works."""


SECRET = (Kind.SIGN_IN_LINK,)
"""What these say is kept no longer than it takes to send them."""
ABOUT_A_PROMISE = (Kind.BREACH_WARNING, Kind.BREACH, Kind.AT_RISK)


class Happening(StrEnum):
    """What happened to a ticket, as far as anybody is told."""

    OPENED = "opened"
    DISPATCHED = "dispatched"
    """A technician was asked to take it."""
    RECURRED = "recurred"
    """It came back after the customer was told that it is resolved."""
    RAISED = "raised"
    """It turned out to be graver than it was."""
    HIRED = "hired"
    """Somebody took the machine on hire while it was open."""
    RAISED_UNHEARD = "raised_unheard"
    """The same, before its customer had heard anything of it."""
    WARNED = "warned"
    BREACHED = "breached"
    RESOLVED = "resolved"
    ARRANGED = "arranged"
    """A technician has taken it."""
    ON_SITE = "on_site"
    CLOSED = "closed"


TOLD = {
    Happening.OPENED: (Kind.DISPATCH_ALERT, Kind.FAULT_NOTICED),
    Happening.DISPATCHED: (Kind.DISPATCH_ALERT,),
    Happening.RECURRED: (Kind.FAULT_NOTICED,),
    Happening.RAISED: (Kind.DISPATCH_ALERT,),
    Happening.HIRED: (Kind.FAULT_NOTICED,),
    Happening.RAISED_UNHEARD: (Kind.DISPATCH_ALERT, Kind.FAULT_NOTICED),
    Happening.WARNED: (Kind.BREACH_WARNING,),
    Happening.BREACHED: (Kind.BREACH,),
    Happening.RESOLVED: (Kind.FAULT_RESOLVED,),
    Happening.ARRANGED: (Kind.TECHNICIAN_ARRANGED,),
    Happening.ON_SITE: (Kind.TECHNICIAN_ON_SITE,),
    Happening.CLOSED: (Kind.HOW_WAS_IT,),
}
# Of a routine ticket, those who plan hear once a day that it is there; it pages nobody.
TOLD_OF_ROUTINE = {Happening.OPENED: (Kind.ROUTINE_OPENED,)}

# The customer of the rental, and nobody else, hears the kinds that are not named here.
ROLES = {
    Kind.DISPATCH_ALERT: ("technician",),
    Kind.BREACH_WARNING: ("technician", "ops"),
    Kind.BREACH: ("ops", "manager"),
    Kind.TAKEN: ("technician",),
    Kind.REMINDER: ("technician",),
    Kind.EXPIRED: ("technician",),
    Kind.UNTAKEN: ("ops", "manager"),
    Kind.AT_RISK: ("ops",),
    Kind.HANDOVER: ("technician",),
    Kind.ROUTINE_OPENED: ("ops",),
    Kind.UNREACHABLE: ("ops",),
    Kind.CONTACT_BOUNCED: ("ops",),
    Kind.MAINTENANCE_OVERDUE: ("ops",),
    Kind.AVAILABILITY_AT_RISK: ("ops", "manager"),
    Kind.WORK_ASSIGNED: ("technician",),
    Kind.MONTHLY_REPORT: ("manager",),
    # Whoever it concerns, by name.
    Kind.SIGN_IN_LINK: (),
    Kind.SIGN_IN_CHANGED: (),
    Kind.TEST: (),
}
# What is no emergency, whatever the ticket is: it waits for the end of quiet hours, or for the day's message.
AT_MOST = {
    Kind.TECHNICIAN_ARRANGED: Severity.URGENT,
    Kind.TECHNICIAN_ON_SITE: Severity.URGENT,
    Kind.FAULT_RESOLVED: Severity.URGENT,
    Kind.CONTACT_BOUNCED: Severity.URGENT,
    Kind.HOW_WAS_IT: Severity.ROUTINE,
}
MACHINES_LISTED = 20
NOTICES_LISTED = 100
HANDOVER_LINES = 8


class Figure(NamedTuple):
    """A row of the service standard in a month's report. `figure` None: nothing to count; `target` None: it has none,
    and then the number of cases is what counts."""

    code: str
    figure: float | None
    target: float | None
    met: bool | None
    n: int


@dataclass(frozen=True, slots=True)
class Event:
    """A turn of a ticket that people hear of. `name` tells it from the others of its ticket that mean the same, so
    that each is told once; a warning or breach is told once for its `promise` and what that is due."""

    what: Happening
    name: str = "0"
    promise: Commitment | None = None
    warns: tuple[str, ...] = ()
    """The roles that the standard's clause warns; none: those that a warning is for anyway."""


def about(what: Happening, promise: Commitment) -> Event:
    """The warning or breach of a promise, for those whom its clause warns."""
    return Event(what, name_of(promise), promise, promise.warns)


def name_of(promise: Commitment) -> str:
    """What tells a clock, due when it is, from all others of its ticket: reopened tickets promise anew, and pauses move
    what is due."""
    return f"{promise.kind}-{promise.turn}-{promise.due_at}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a ticket when a notice is written. Times are epoch ms UTC; unknown: '' or None."""

    ticket_id: int
    device_id: str
    kind: str
    severity: Severity
    opened_at: int
    timezone: str
    subject: str = ""
    evidence: Mapping[str, object] | None = None
    profile: Profile | None = None
    site: str = ""
    remote: bool = False
    customer: str = ""
    promises: tuple[Commitment, ...] = ()
    resolved_at: int | None = None
    technician_id: int | None = None
    """The technician who has taken the ticket: warnings then page no other technician."""
    technician: str = ""
    """Their name, as the customer is told."""
    arrives: tuple[int, int] | None = None
    """Between when and when the technician is expected, where that is known."""
    machines: tuple[str, ...] = ()
    """The machines of a ticket that concerns several (a site without signal)."""
    ticket_url: str = ""
    machine_url: str = ""
    customer_url: str = ""
    """The ticket's page for its customer, where they need no account (monitor/links.py); without one they are sent to
    the machine's."""
    rating_url: str = ""
    """Where the customer says how it was, once the ticket is dealt with."""
    answer_by: int | None = None
    """Until when somebody who is asked has to answer, or has to be further, so far as it ends by itself."""
    awaits: str = ""
    """Of a reminder: what is awaited, `depart` or `arrive`."""
    said: Mapping[str, Sequence[str]] | None = None
    """Further lines, by language."""


class Text(NamedTuple):
    """A notice's words: a subject of one line, a body of short ones, and the same as a simple HTML page. `link`: where
    it points to, which also stands in the body."""

    subject: str
    body: str
    html: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may be told (a row of `person`)."""

    id: int
    role: str
    email: str
    lang: str
    customer_id: int | None = None
    disabled: bool = False
    has_contact: bool = False
    """Whether there is a way to them beside their e-mail (a row of `contact`)."""

    @property
    def can_be_told(self) -> bool:
        return not self.disabled and (self.has_contact or bool(self.email.strip()))


@dataclass(frozen=True, slots=True)
class Customer:
    """Who has the machine on hire (a row of `customer`)."""

    id: int
    email: str
    lang: str


class Recipient(NamedTuple):
    """One who hears a notice. `key` names them in the cause without giving their address away. How a person is told is
    decided when it is queued (monitor/engine/telling.py); without contacts it is by their e-mail, named here."""

    key: str
    channel: str
    address: str
    lang: str
    person_id: int | None = None


class Notice(NamedTuple):
    """A row of the outbox to be. `cause` is its idempotency key: the same cause is queued once. With a `person_id`
    it is told by that person's contacts (monitor/engine/telling.py), and `channel` and `recipient` say nothing yet."""

    cause: str
    kind: str
    ticket_id: int | None
    channel: str
    recipient: str
    lang: str
    subject: str
    body: str
    next_try_at: int
    html: str = ""
    link: str = ""
    person_id: int | None = None
    severity: Severity = Severity.URGENT


# --- who hears what ------------------------------------------------------------------------------------------------


def notices_for(
    event: Event,
    facts: Facts,
    people: Iterable[Person],
    customer: Customer | None,
    now: int,
    room: Recipient | None = None,
) -> list[Notice]:
    """The notices that an event causes. `room` is the operators' webhook, where there is one.

    Routine tickets page nobody and tell the customer nothing; mere notes tell nobody anything.
    """
    told = TOLD if facts.severity.makes_bad else TOLD_OF_ROUTINE if facts.severity is Severity.ROUTINE else {}
    people = list(people)
    texts: dict[tuple[Kind, str], Text] = {}
    queued: list[Notice] = []
    for kind in told.get(event.what, ()):
        roles = event.warns if kind is Kind.BREACH_WARNING else ()
        for recipient in recipients(kind, people, customer, roles, technician_id=facts.technician_id, room=room):
            said = (kind, recipient.lang)
            if said not in texts:
                texts[said] = write(kind, recipient.lang, facts, event.promise)
            queued.append(_notice(event, kind, facts, recipient, texts[said], now))
    return queued


def recipients(
    kind: Kind,
    people: Sequence[Person],
    customer: Customer | None,
    roles: Sequence[str] = (),
    *,
    technician_id: int | None = None,
    room: Recipient | None = None,
) -> list[Recipient]:
    """Who hears a notice of this kind, each address once: these roles, or those that the kind is for.

    `customer` is None where the machine is not on hire.
    """
    there = [person for person in people if person.can_be_told]
    if kind not in ROLES:
        return _each_once(_customers(there, customer))
    hearers = [person for role in roles or ROLES[kind] for person in _in_role(role, there, technician_id)]
    if kind is Kind.DISPATCH_ALERT and not hearers:
        # Without any technician the alert must not go unheard.
        hearers = _in_role("ops", there, None)
    shown = [room] if room and kind is not Kind.ROUTINE_OPENED else []
    return _each_once([*map(_recipient, hearers), *shown])


def _in_role(role: str, people: Sequence[Person], technician_id: int | None) -> list[Person]:
    hearers = [person for person in people if person.role == role]
    if role == "technician":
        # The one who has taken the ticket; all of them again where that one can no longer be told.
        return [person for person in hearers if person.id == technician_id] or hearers
    return hearers


def _customers(people: Sequence[Person], customer: Customer | None) -> Iterator[Recipient]:
    if customer is None:
        return
    if customer.email.strip():
        yield Recipient(f"customer-{customer.id}", "email", customer.email.strip(), language(customer.lang))
    for person in people:
        if person.role == "customer" and person.customer_id == customer.id:
            yield _recipient(person)


def _recipient(person: Person) -> Recipient:
    return Recipient(f"person-{person.id}", "email", person.email.strip(), language(person.lang), person.id)


def _each_once(hearers: Iterable[Recipient]) -> list[Recipient]:
    def address(one: Recipient) -> tuple[str, str]:
        return one.channel, one.address.casefold() or one.key

    return list({address(one): one for one in reversed(list(hearers))}.values())[::-1]


def _notice(event: Event, kind: Kind, facts: Facts, recipient: Recipient, text: Text, now: int) -> Notice:
    cause = f"{kind}:{facts.ticket_id}:{event.name}:{recipient.key}"
    # Where a whole site is silent we are blind: those who plan hear it now, though nobody has to drive.
    blind = kind is Kind.ROUTINE_OPENED and not facts.device_id
    severity = Severity.URGENT if blind else facts.severity
    return addressed(recipient, cause, kind, text, now, severity=severity, ticket_id=facts.ticket_id)


def addressed(
    recipient: Recipient, cause: str, kind: Kind, text: Text, now: int, *, severity: Severity,
    ticket_id: int | None = None,
) -> Notice:  # fmt: skip
    """A notice to one recipient, to go out at `now` or later. `severity` is that of what it is about."""
    return Notice(
        cause=cause, kind=kind, ticket_id=ticket_id, channel=recipient.channel, recipient=recipient.address,
        lang=recipient.lang, subject=text.subject, body=text.body, next_try_at=now, html=text.html, link=text.link,
        person_id=recipient.person_id, severity=_at_most(severity, AT_MOST.get(kind)),
    )  # fmt: skip


def _at_most(severity: Severity, most: Severity | None) -> Severity:
    order = list(Severity)
    return severity if most is None or order.index(severity) > order.index(most) else most


def notice_to(
    person: Person, kind: Kind, name: str, facts: Facts, now: int, promise: Commitment | None = None
) -> Notice:
    """One notice to one person, whatever the severity. `name` tells this one from others of its kind and ticket."""
    recipient = _recipient(person)
    text = write(kind, recipient.lang, facts, promise)
    cause = f"{kind}:{facts.ticket_id}:{name}:{recipient.key}"
    return addressed(recipient, cause, kind, text, now, severity=facts.severity, ticket_id=facts.ticket_id)


def letter_to(person: Person, kind: Kind, name: str, text: Text, now: int, *, severity: Severity) -> Notice:
    """What one person is to hear that is about no ticket. `name` tells it from others of its kind."""
    recipient = _recipient(person)
    return addressed(recipient, f"{kind}:{name}:{recipient.key}", kind, text, now, severity=severity)


# --- in which words ------------------------------------------------------------------------------------------------


def write(kind: Kind, lang: str, facts: Facts, promise: Commitment | None = None) -> Text:
    """The words of a notice. Those ABOUT_A_PROMISE need the `promise` they are about.

    Whatever comes from outside is one clean line before it enters the text, so nobody can add lines or headers.
    """
    lang = language(lang)
    known = _known(lang, facts, kind)
    if promise is not None:
        known["promise"] = _in_words(promise, lang, facts.timezone)
    return _text_of(lang, kind, known, [str(known["rating"])])


def write_unreachable(lang: str, name: str, missed: Text) -> Text:
    """To operations: what somebody was to be told, and could not be."""
    known = {"name": _one_line(name), "missed": _one_line(missed.subject, SUBJECT_CHARS), "link": missed.link}
    return _text_of(language(lang), Kind.UNREACHABLE, known)


def write_bounced(lang: str, name: str, channel: str, address: str, why: str) -> Text:
    """To operations: an address is dead. `name`: whose it is, '' where that is not known."""
    lang = language(lang)
    called = _texts(lang).get(f"channel.{channel}", _one_line(channel))
    known = {"name": _one_line(name), "channel": called, "address": _one_line(address), "why": _one_line(why)}
    return _text_of(lang, Kind.CONTACT_BOUNCED, known)


def write_handover(lang: str, told: Handover, until_at: int | None, timezone: str, link: str) -> Text:
    """To whoever comes on, until that moment: what happened in the shift before, what is open, what is promised."""
    lang = language(lang)
    short = told.shortened(HANDOVER_LINES)

    def named(case: Case) -> str:
        where = _one_line(case.device_id or case.site, 40) or _text(lang, "word.everything")
        return f"#{case.ticket_id} {where}"

    known = {
        "tally": short.tally, "starts": moment(told.end_at, timezone, lang),
        "until": moment(until_at, timezone, lang) if until_at is not None else "", "left_out": short.left_out,
        "promised": [
            {"what": named(one.case), "pending": _text(lang, f"pending.{one.clock.kind}"),
             "standard_id": one.clock.standard_id, "outlook": _text(lang, f"outlook.{one.outlook}"),
             "due": moment(one.clock.due_at, timezone, lang)}
            for one in short.promised
        ],
        "open": [
            {"what": named(case), "severity": _text(lang, f"severity.{case.severity}"),
             "opened": moment(case.opened_at, timezone, lang)}
            for case in short.open
        ],
        "link": link,
    }  # fmt: skip
    return _text_of(lang, Kind.HANDOVER, known)


def write_maintenance_overdue(
    lang: str, late: Sequence[tuple[str, str, int]], *, more: bool, timezone: str, link: str
) -> Text:
    """To operations, once a day: (machine, what is to be done, since when it was due); `more`: there are others."""
    items = [
        {"machine": _one_line(device_id, 40), "title": _one_line(title), "due": day(due_at, timezone, lang)}
        for device_id, title, due_at in late
    ]  # fmt: skip
    known = {"number": len(items), "items": items, "more": more, "link": link}
    return _text_of(language(lang), Kind.MAINTENANCE_OVERDUE, known)


def write_availability(
    lang: str, of: str, month: str, *, target: float, lower: float, left: float, burn: float, link: str
) -> Text:
    """To those in charge: a month that will miss its target. `of`: fleet or on_hire; shares are 0 to 1, `burn` is how
    many times as fast as it may be its budget is spent."""
    lang = language(lang)
    locale = _locale(lang)
    known = {
        "of": _text(lang, f"of.{of}"), "month": month, "target": format_percent(target, locale=locale),
        "lower": format_percent(lower, "0.0%", locale=locale), "left": format_percent(max(0.0, left), locale=locale),
        "burn": format_decimal(round(burn, 1), locale=locale), "link": link,
    }  # fmt: skip
    return _text_of(lang, Kind.AVAILABILITY_AT_RISK, known)


def write_work_assigned(
    lang: str, device_id: str, title: str, site: str, due_at: int, *, timezone: str, link: str
) -> Text:
    """To whoever is to do a work order."""
    known = {"machine": _one_line(device_id, 40), "title": _one_line(title), "site": _one_line(site),
             "due": day(due_at, timezone, lang), "link": link}  # fmt: skip
    return _text_of(language(lang), Kind.WORK_ASSIGNED, known)


def write_monthly_report(lang: str, month: str, figures: Sequence[Figure], link: str) -> Text:
    """To managers: the month against the service standard, row by row."""
    lang = language(lang)
    items = [
        {"row": one.code.partition(".")[0], "title": _text(lang, f"row.{one.code.replace('.', '_')}"),
         "figure": _share(one.figure, lang), "target": _share(one.target, lang), "met": one.met, "number": one.n}
        for one in figures
    ]  # fmt: skip
    missed = sum(one.met is False for one in figures)
    return _text_of(lang, Kind.MONTHLY_REPORT, {"month": month, "items": items, "missed": missed, "link": link})


def write_sign_in_link(lang: str, name: str, minutes: int, link: str) -> Text:
    """To whoever asked for it: a link that signs them in, once and so many minutes."""
    known = {"name": _one_line(name), "minutes": minutes, "link": link}
    return _text_of(language(lang), Kind.SIGN_IN_LINK, known)


def write_sign_in_changed(lang: str, name: str, what: str, at: int, timezone: str, link: str) -> Text:
    """To somebody whose sign-in was changed. `what`: password, second_factor_on, second_factor_off, codes or reset."""
    lang = language(lang)
    known = {
        "name": _one_line(name), "what": _text(lang, f"changed.{what}"), "at": moment(at, timezone, lang), "link": link,
    }  # fmt: skip
    return _text_of(lang, Kind.SIGN_IN_CHANGED, known)


def write_test(lang: str, name: str, at: int, timezone: str, link: str) -> Text:
    """To whoever wants to see that a way works. `name`: who asked for it, '' where nobody in particular did."""
    lang = language(lang)
    known = {"name": _one_line(name), "at": moment(at, timezone, lang), "link": link}
    return _text_of(lang, Kind.TEST, known)


def _share(share: float | None, lang: str) -> str:
    """In per cent, rounded down, so that what misses its target never looks as if it met it."""
    return "" if share is None else format_percent(math.floor(share * 1000 + 1e-9) / 1000, "0.#%", locale=_locale(lang))


def gather(lang: str, texts: Sequence[Text]) -> Text:
    """Several notices to one person as one message with a list, in the order in which they come."""
    if len(texts) == 1:
        return texts[0]
    listed = texts[:NOTICES_LISTED]
    known = {
        "number": len(texts), "first": _one_line(texts[0].subject, SUBJECT_CHARS),
        "items": [{"subject": _one_line(one.subject, SUBJECT_CHARS), "link": one.link} for one in listed],
        "more": len(texts) - len(listed),
    }  # fmt: skip
    return _text_of(language(lang), Kind.DIGEST, known, [one.link for one in listed])


def _text_of(lang: str, kind: Kind, known: Mapping[str, object], links: Sequence[str] = ()) -> Text:
    link = str(known.get("link", ""))
    subject = _one_line(_say(lang, f"notice.{kind}.subject", **known), SUBJECT_CHARS)
    body = _say(lang, f"notice.{kind}.body", **known).strip() + "\n"
    ours = {one for one in (link, *links) if one}
    return Text(subject, body, letter(lang, subject, body, ours, _text(lang, "word.open")), link)


def headline(kind: str, subject: str, evidence: Mapping[str, object] | None, profile: Profile | None, lang: str) -> str:
    """A fault in one line for technicians, operators and pages: "Coolant temperature above 98 °C for 30 s"."""
    return _fault("headline", kind, subject, evidence or {}, profile, language(lang))


def plain(kind: str, subject: str, evidence: Mapping[str, object] | None, profile: Profile | None, lang: str) -> str:
    """A fault in a customer's words, without numbers and codes: "coolant temperature too high"."""
    return _fault("plain", kind, subject, evidence or {}, profile, language(lang))


def language(lang: str) -> str:
    """The language of ours nearest to a wish such as `zh-CN`; Chinese where there is none."""
    wish = lang.replace("_", "-").split("-")[0].lower()
    return wish if wish in LANGS else DEFAULT_LANG


def moment(at: int, timezone: str, lang: str) -> str:
    """A time as people at a site read it, its zone named. `at` is epoch ms UTC; one that no calendar has is shown as
    that bare number, for it must not keep a notice from going out."""
    return _moment(at, timezone, language(lang), "format.moment")


def day(at: int, timezone: str, lang: str) -> str:
    """The day of a moment, as `moment` has it."""
    return _moment(at, timezone, language(lang), "format.day")


@lru_cache(maxsize=1024)
def _moment(at: int, timezone: str, lang: str, key: str) -> str:
    try:
        when = datetime.fromtimestamp(at / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(at)
    pattern, locale = _text(lang, key), _locale(lang)
    try:
        return format_datetime(when, pattern, tzinfo=get_timezone(timezone), locale=locale)
    except (LookupError, ValueError, OSError, OverflowError):
        # A zone that this system no longer knows, or in which it is the year 10000 already, must not keep an alert from
        # going out; UTC is shown as such.
        return format_datetime(when, pattern, tzinfo=UTC, locale=locale)


def sensor_title(name: str, profile: Profile | None, lang: str) -> str:
    """What people call a sensor: its title in the profile, in English made from its name (`coolant_temp_c`)."""
    sensor = _sensor(name, profile)
    if language(lang) == "zh" and sensor and sensor.title_zh:
        return _one_line(sensor.title_zh)
    return _spelled_out(_one_line(name))


def _known(lang: str, facts: Facts, kind: Kind) -> dict[str, object]:
    """Everything that a template may name."""
    about = (facts.kind, facts.subject, facts.evidence, facts.profile, lang)
    for_customer = kind not in ROLES
    machine_id = _one_line(facts.device_id) or _text(lang, "word.everything")
    running = sorted((one for one in facts.promises if one.running), key=lambda one: one.due_at)
    return {
        "ticket_id": facts.ticket_id,
        "severity": _text(lang, f"severity.{facts.severity}"),
        "machine_id": machine_id,
        "machine": _say(lang, "word.machine", model=_model(facts.profile, lang), device_id=machine_id),
        "site": _one_line(facts.site),
        "remote": facts.remote,
        "customer": _one_line(facts.customer),
        "reported": facts.kind == FaultKind.REPORTED,
        "headline": headline(*about),
        "plain": plain(*about),
        "particulars": _particulars(facts, lang),
        "opened": moment(facts.opened_at, facts.timezone, lang),
        "technician": _one_line(facts.technician),
        "arrives": [moment(at, facts.timezone, lang) for at in facts.arrives or ()],
        "machines": [_one_line(one) for one in facts.machines[:MACHINES_LISTED]],
        "machines_more": max(0, len(facts.machines) - MACHINES_LISTED),
        "resolved": moment(facts.resolved_at, facts.timezone, lang) if facts.resolved_at is not None else "",
        "due": [_in_words(one, lang, facts.timezone) for one in running],
        "link": "".join((_customer_link(facts) if for_customer else facts.ticket_url).split()),
        "answer_by": moment(facts.answer_by, facts.timezone, lang) if facts.answer_by is not None else "",
        "awaits": facts.awaits,
        "said": (facts.said or {}).get(lang, ()),
        "rating": "".join(facts.rating_url.split()),
    }


def _customer_link(facts: Facts) -> str:
    return facts.customer_url or facts.machine_url


def _in_words(promise: Commitment, lang: str, timezone: str) -> dict[str, str]:
    words = {name: _text(lang, f"{name}.{promise.kind}") for name in ("pending", "missed", "task", "promise")}
    return {**words, "due": moment(promise.due_at, timezone, lang), "standard_id": promise.standard_id}


def _fault(
    manner: str, kind: str, subject: str, evidence: Mapping[str, object], profile: Profile | None, lang: str
) -> str:
    sensor = _sensor(subject, profile)
    limits = sensor.limits if sensor else None
    limit, attempts = _number(evidence, "limit"), _number(evidence, "attempts")
    hold_s = _number(evidence, "hold_s")
    said = _say(
        lang,
        _phrase(lang, manner, kind, _variant(kind, subject, evidence, limits)),
        title=sensor_title(subject, profile, lang),
        limit=_quantity(limit, _unit(evidence, sensor), lang) if limit is not None else "",
        hold=_figure(hold_s if hold_s is not None else limits.hold_s if limits else None, lang),
        within=_figure(_number(evidence, "timeout_s") or (profile.start_timeout_s if profile else None), lang),
        nth=_texts(lang).get(f"ordinal.{attempts:g}", "") if attempts else "",
        attempts=_figure(attempts, lang),
        code=_words(evidence, "code") or _one_line(subject),
        text=_words(evidence, "text"),
    )
    return _one_line(said, SUBJECT_CHARS)


def _variant(kind: str, subject: str, evidence: Mapping[str, object], limits: Limits | None) -> str:
    """What the evidence says beyond the kind; '' where it says nothing that we have words for."""
    if kind in (FaultKind.STARTUP_FAILURE, FaultKind.WRONG_CLOCK, FaultKind.SENSOR):
        return _words(evidence, "reason")
    if kind == FaultKind.LIMIT:
        if _number(evidence, "limit") is not None and _words(evidence, "side") in ("above", "below"):
            return _words(evidence, "side")
        return _side(_number(evidence, "value"), _number(evidence, "limit"), limits)
    if kind == FaultKind.ANOMALY:
        return "sensor" if subject else ""
    if kind == FaultKind.SILENT:
        return _words(evidence, "scope")
    return ""


def _side(value: float | None, limit: float | None, limits: Limits | None) -> str:
    """On which side of its limit a value lay; '' where the limit is not known."""
    if limit is None:
        return ""
    if limits and limit in (limits.low, limits.high):
        return "above" if limit == limits.high else "below"
    if value is None or value == limit:
        return ""
    return "above" if value > limit else "below"


def _phrase(lang: str, manner: str, kind: str, variant: str) -> str:
    """The key of the words that fit best; customers are told the kind where there is no plain word for more."""
    exact = f"{manner}.{kind}_{variant}"
    return exact if variant and exact in _texts(lang) else f"{manner}.{kind}"


def _particulars(facts: Facts, lang: str) -> list[dict[str, str]]:
    """What else the evidence holds that helps the technician to pack the right things."""
    evidence, profile = facts.evidence or {}, facts.profile
    battery = _sensor(profile.battery_sensor, profile) if profile else None
    sensors = {
        "value": _sensor(facts.subject, profile),
        "battery_last": battery,
        "battery_crank_low": battery,
        "fuel_last": _sensor(profile.fuel_sensor, profile) if profile else None,
        "attempts": None,
        "boots": None,
    }
    found = ((name, _number(evidence, name), sensor) for name, sensor in sensors.items())
    return [
        {"title": _text(lang, f"particular.{name}"), "value": _quantity(number, _unit_of(name, evidence, sensor), lang)}
        for name, number, sensor in found
        if number is not None
    ]


def _unit_of(name: str, evidence: Mapping[str, object], sensor: Sensor | None) -> str:
    # The evidence's unit is that of its value; battery and fuel have their own sensors.
    return _unit(evidence, sensor) if name == "value" else sensor.unit if sensor else ""


def _unit(evidence: Mapping[str, object], sensor: Sensor | None) -> str:
    return _words(evidence, "unit") or (sensor.unit if sensor else "")


def _model(profile: Profile | None, lang: str) -> str:
    if profile is None:
        return ""
    return _one_line((profile.title_zh if lang == "zh" else "") or profile.title)


def _sensor(name: str, profile: Profile | None) -> Sensor | None:
    return next((one for one in profile.sensors if one.name == name), None) if profile and name else None


# --- small words ---------------------------------------------------------------------------------------------------

_QUANTITY = {"c": "temperature", "bar": "pressure", "v": "voltage", "a": "current", "rpm": "speed", "hz": "frequency",
             "kw": "power", "lpm": "flow"}  # fmt: skip
_UNITS = {*_QUANTITY, "pct", "kpa", "mpa", "psi", "kva", "l", "mm", "m3", "s", "h", "min", "g", "per"}
_IN_FULL = {"temp": "temperature", "batt": "battery", "volt": "voltage", "vib": "vibration", "amb": "ambient"}


def _spelled_out(name: str) -> str:
    """`coolant_temp_c` → "Coolant temperature", `battery_v` → "Battery voltage"; other names keep their looks."""
    words = name.split("_")
    units: list[str] = []
    while len(words) > 1 and words[-1] in _UNITS:
        units.insert(0, words.pop())
    words = [_IN_FULL.get(word, word) for word in words]
    if len(words) == 1 and len(units) == 1 and units[0] in _QUANTITY and words[0] != _QUANTITY[units[0]]:
        words.append(_QUANTITY[units[0]])
    title = " ".join(word for word in words if word)
    return title[:1].upper() + title[1:]


def _number(evidence: Mapping[str, object], key: str) -> float | None:
    value = evidence.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _words(evidence: Mapping[str, object], key: str) -> str:
    value = evidence.get(key)
    return _one_line(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else ""


@lru_cache(maxsize=1024)
def _figure(number: float | None, lang: str) -> str:
    """Four significant digits, as the language writes them; '' for nothing or zero."""
    return format_decimal(float(f"{number:.4g}"), locale=_locale(lang)) if number else ""


def _quantity(number: float, unit: str, lang: str) -> str:
    return _say(lang, "word.quantity", number=_figure(number, lang) or "0", unit=_one_line(unit))


def _one_line(text: str, chars: int = VALUE_CHARS) -> str:
    """Text from anywhere as one bounded line: no breaks, no control characters, none that turn the writing round."""
    spaced = " ".join(text.split())
    clean = "".join(char for char in spaced if unicodedata.category(char)[0] != "C")
    return clean if len(clean) <= chars else clean[: chars - 1].rstrip() + "…"


def _lower_first(text: str) -> str:
    """ "Oil pressure" → "oil pressure" amid a sentence; "CO2" stays."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


# Notices are plain text, so nothing is escaped for HTML; StrictUndefined finds a misspelt name in the tests.
_ENVIRONMENT = jinja2.Environment(
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # noqa: S701
)
_ENVIRONMENT.filters["lower_first"] = _lower_first


@cache
def _texts(lang: str) -> dict[str, str]:
    """All texts of a language by their dotted keys (`notice.breach.subject`)."""
    source = files("monitor.desk").joinpath("texts", f"{lang}.toml").read_text("utf-8")
    return dict(_flat(tomllib.loads(source), ""))


def _flat(table: Mapping[str, object], above: str) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, str(value)


@cache
def _locale(lang: str) -> Locale:
    """Read once: looked up by its name, it would be most of the time that a notice takes to write."""
    return Locale.parse(_text(lang, "format.locale"))


def _text(lang: str, key: str) -> str:
    return _texts(lang)[key]


def say(lang: str, key: str, **known: object) -> str:
    """One of the texts, by its dotted key."""
    return _say(language(lang), key, **known)


@cache
def _template(lang: str, key: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(_text(lang, key))


def _say(lang: str, key: str, **known: object) -> str:
    return _template(lang, key).render(known)
