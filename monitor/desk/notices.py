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
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import jinja2
from babel.dates import format_datetime, get_timezone
from babel.numbers import format_decimal

from monitor.desk.commitments import Commitment
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


class Happening(StrEnum):
    """What happened to a ticket, as far as anybody is told."""

    OPENED = "opened"
    DISPATCHED = "dispatched"
    """A technician was asked to take it."""
    RECURRED = "recurred"
    """It came back after the customer was told that it is resolved."""
    RAISED = "raised"
    """It turned out to be graver than it was."""
    RAISED_UNHEARD = "raised_unheard"
    """The same, before its customer had heard anything of it."""
    WARNED = "warned"
    BREACHED = "breached"
    RESOLVED = "resolved"


TOLD = {
    Happening.OPENED: (Kind.DISPATCH_ALERT, Kind.FAULT_NOTICED),
    Happening.DISPATCHED: (Kind.DISPATCH_ALERT,),
    Happening.RECURRED: (Kind.FAULT_NOTICED,),
    Happening.RAISED: (Kind.DISPATCH_ALERT,),
    Happening.RAISED_UNHEARD: (Kind.DISPATCH_ALERT, Kind.FAULT_NOTICED),
    Happening.WARNED: (Kind.BREACH_WARNING,),
    Happening.BREACHED: (Kind.BREACH,),
    Happening.RESOLVED: (Kind.FAULT_RESOLVED,),
}

# The customer of the rental, and nobody else, hears the kinds that are not named here.
ROLES = {
    Kind.DISPATCH_ALERT: ("technician",),
    Kind.BREACH_WARNING: ("technician", "ops"),
    Kind.BREACH: ("ops", "manager"),
}


@dataclass(frozen=True, slots=True)
class Event:
    """A turn of a ticket that people hear of. A warning or breach names its `promise`; `turn` counts how often
    the ticket has been (re)opened or resolved, so that each time is told once."""

    what: Happening
    promise: Commitment | None = None
    turn: int = 0
    warns: tuple[str, ...] = ()
    """The roles that the standard's clause warns; none: those that a warning is for anyway."""

    @property
    def name(self) -> str:
        """What tells this event from the others of its ticket."""
        if self.promise:
            return self.promise.kind
        return f"raised-{self.turn}" if self.what in (Happening.RAISED, Happening.RAISED_UNHEARD) else str(self.turn)


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
    ticket_url: str = ""
    machine_url: str = ""


class Text(NamedTuple):
    """A notice's words: a subject of one line, a body of short ones."""

    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may be told (a row of `person`)."""

    id: int
    role: str
    email: str
    lang: str
    customer_id: int | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Customer:
    """Who has the machine on hire (a row of `customer`)."""

    id: int
    email: str
    lang: str


class Recipient(NamedTuple):
    """One who hears a notice. `key` names them in the cause without giving their address away."""

    key: str
    channel: str
    address: str
    lang: str


class Notice(NamedTuple):
    """A row of the outbox to be. `cause` is its idempotency key: the same cause is queued once."""

    cause: str
    kind: Kind
    ticket_id: int
    channel: str
    recipient: str
    lang: str
    subject: str
    body: str
    next_try_at: int


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

    Routine tickets and mere notes page nobody and tell the customer nothing.
    """
    if not facts.severity.makes_bad:
        return []
    people = list(people)
    texts: dict[tuple[Kind, str], Text] = {}
    queued: list[Notice] = []
    for kind in TOLD[event.what]:
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
    there = [person for person in people if person.email.strip() and not person.disabled]
    if kind not in ROLES:
        return _each_once(_customers(there, customer))
    hearers = [person for role in roles or ROLES[kind] for person in _in_role(role, there, technician_id)]
    if kind is Kind.DISPATCH_ALERT and not hearers:
        # Without any technician the alert must not go unheard.
        hearers = _in_role("ops", there, None)
    return _each_once([*map(_recipient, hearers), *([room] if room else [])])


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
    return Recipient(f"person-{person.id}", "email", person.email.strip(), language(person.lang))


def _each_once(hearers: Iterable[Recipient]) -> list[Recipient]:
    return list({(one.channel, one.address.casefold()): one for one in reversed(list(hearers))}.values())[::-1]


def _notice(event: Event, kind: Kind, facts: Facts, recipient: Recipient, text: Text, now: int) -> Notice:
    return Notice(
        cause=f"{kind}:{facts.ticket_id}:{event.name}:{recipient.key}",
        kind=kind,
        ticket_id=facts.ticket_id,
        channel=recipient.channel,
        recipient=recipient.address,
        lang=recipient.lang,
        subject=text.subject,
        body=text.body,
        next_try_at=now,
    )


# --- in which words ------------------------------------------------------------------------------------------------


def write(kind: Kind, lang: str, facts: Facts, promise: Commitment | None = None) -> Text:
    """The words of a notice. Warnings and breaches need the `promise` they are about.

    Whatever comes from outside is one clean line before it enters the text, so nobody can add lines or headers.
    """
    lang = language(lang)
    known = _known(lang, facts, kind)
    if promise is not None:
        known["promise"] = _in_words(promise, lang, facts.timezone)
    subject = _say(lang, f"notice.{kind}.subject", **known)
    return Text(_one_line(subject, SUBJECT_CHARS), _say(lang, f"notice.{kind}.body", **known).strip() + "\n")


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
    """A time as people at a site read it, its zone named. `at` is epoch ms UTC."""
    lang, when = language(lang), datetime.fromtimestamp(at / 1000, UTC)
    pattern, locale = _text(lang, "format.moment"), _text(lang, "format.locale")
    try:
        return format_datetime(when, pattern, tzinfo=get_timezone(timezone), locale=locale)
    except (LookupError, ValueError, OSError):
        # A zone that this system no longer knows must not keep an alert from going out; UTC is shown as such.
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
        "resolved": moment(facts.resolved_at, facts.timezone, lang) if facts.resolved_at is not None else "",
        "due": [_in_words(one, lang, facts.timezone) for one in running],
        "link": "".join((facts.machine_url if for_customer else facts.ticket_url).split()),
    }


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


def _figure(number: float | None, lang: str) -> str:
    """Four significant digits, as the language writes them; '' for nothing or zero."""
    return format_decimal(float(f"{number:.4g}"), locale=_text(lang, "format.locale")) if number else ""


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


def _text(lang: str, key: str) -> str:
    return _texts(lang)[key]


@cache
def _template(lang: str, key: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(_text(lang, key))


def _say(lang: str, key: str, **known: object) -> str:
    return _template(lang, key).render(known)
