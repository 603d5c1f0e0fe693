"""Triage: whether a fault deserves a ticket, and which one. Pure; all numbers stand in `triage.toml`.

A fault that is certain has a ticket at once. A weak sign is held until it persists, gets stronger, or other signs that
are independent of it make the same machine suspect. What is one job is one ticket: consequences belong to the ticket of
their cause, whichever of them showed first. What a person has begun to work on stays as it is.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from importlib.resources import files

import msgspec

from monitor.devices import DEFAULT_SEVERITY, FaultKind, Profile, Severity

Key = tuple[str, str]
"""(kind, subject): with the device it names a fault while that is open."""

Evidence = Mapping[str, object]
"""Facts for people, as JSON. Its keys are those of monitor.detect."""

_GRAVITY = {Severity.NOTE: 0, Severity.ROUTINE: 1, Severity.URGENT: 2, Severity.EMERGENCY: 3}
_ORDER = {kind: place for place, kind in enumerate(FaultKind)}
SIGNS_A_KIND = 8
"""So many weak signs of one kind are looked at when signs are put together, the surest first."""
PATIENT_RETURNS = 3
"""A fault that came back more often than this is taken for one that flaps."""
MOST_DOUBLINGS = 20


# --- the policy ----------------------------------------------------------------------------------------------------


class About(StrEnum):
    """What a consequence has to do with its cause."""

    SENSOR = "sensor"
    SUPPLY = "supply"
    ANY = "any"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"about": "on"}):
    """Faults of kind `cause` bring those in `takes` with them."""

    cause: FaultKind
    takes: tuple[FaultKind, ...]
    about: About
    before_s: float
    after_s: float
    explains: bool = False


class SitePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When machines that fall silent together are one outage of their site, and when that is over."""

    machines: int
    share: float
    window_s: float
    back_share: float
    settle_s: float


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"rules": "consequence"}):
    """The triage, in one version (triage.toml)."""

    version: str
    certain: float
    raise_within_s: float
    alert_wait_s: float
    settle_s: float
    longest_settle_s: float
    learnt: tuple[FaultKind, ...]
    alone: tuple[FaultKind, ...]
    persist_s: dict[FaultKind, float]
    site: SitePolicy
    rules: tuple[Rule, ...]

    def settle_ms(self, recurrences: int) -> int:
        """How long a fault that has come back so often must stay away before it is called resolved."""
        doublings = min(max(recurrences - PATIENT_RETURNS, 0), MOST_DOUBLINGS)
        return round(min(self.settle_s * (1 << doublings), self.longest_settle_s) * 1000)


@cache
def shipped_policy() -> Policy:
    """The triage that ships with the program."""
    text = files("monitor.desk").joinpath("triage.toml").read_bytes()
    return msgspec.toml.decode(text, type=Policy)


# --- what is known of a machine ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of one machine as triage sees it. `id` 0: not recorded yet.

    `severity` is what it matters once it has a ticket. `channels` are the sensors that it speaks of.
    """

    id: int
    kind: FaultKind
    subject: str
    severity: Severity
    confidence: float
    occurred_at: int
    ticket_id: int | None = None
    is_open: bool = True
    channels: frozenset[str] = frozenset()
    state: str = ""
    evidence: Evidence = field(default_factory=dict, compare=False)

    @property
    def key(self) -> Key:
        return self.kind, self.subject

    @property
    def held(self) -> bool:
        return self.is_open and self.ticket_id is None


@dataclass(frozen=True, slots=True)
class Case:
    """An open ticket of the machine. `untouched`: nobody has taken a step with it."""

    id: int
    kind: FaultKind
    subject: str
    severity: Severity
    opened_at: int
    untouched: bool

    @property
    def key(self) -> Key:
        return self.kind, self.subject


@dataclass(frozen=True, slots=True)
class Standing:
    """What the desk knows of a machine when a finding comes in.

    `faults` holds those that are open and the latest of each kind and subject in the open tickets. `site_machines`
    counts the live machines of its site (0: not asked), `site_ticket` is the site's outage that stands, if any.
    """

    device_id: str
    site_id: int | None
    remote: bool
    rental_id: int | None
    profile: Profile | None
    faults: tuple[Fault, ...] = ()
    tickets: tuple[Case, ...] = ()
    site_machines: int = 0
    site_ticket: int | None = None
    timezone: str = ""
    """Of its site; '': it stands at none."""
    window_until: int | None = None
    """The end of the declared maintenance or transport that it is in, if it is in one."""

    @property
    def on_hire(self) -> bool:
        return self.rental_id is not None

    def open_fault(self, kind: str, subject: str) -> Fault | None:
        return next((one for one in self.faults if one.is_open and one.key == (kind, subject)), None)

    def of_ticket(self, ticket_id: int) -> list[Fault]:
        return [one for one in self.faults if one.ticket_id == ticket_id]


def severity_of(kind: FaultKind, found: Severity | None, *, on_hire: bool) -> Severity:
    """How much a fault matters: as the detector says, else by its kind.

    What is an emergency on hire is urgent in the yard: nobody stands before a dead machine there (R9 speaks of
    customers), but the machine is bad all the same (E1).
    """
    severity = found or DEFAULT_SEVERITY[kind]
    return Severity.URGENT if severity is Severity.EMERGENCY and not on_hire else severity


def channels_of(kind: str, subject: str, evidence: Evidence, profile: Profile | None) -> frozenset[str]:
    """The sensors that a fault speaks of: its subject; those of its code's SPN; those that stood out together."""
    if kind == FaultKind.FAULT_CODE:
        spn = evidence.get("spn")
        sensors = profile.sensors if profile and isinstance(spn, int) else ()
        return frozenset(sensor.name for sensor in sensors if sensor.spn == spn)
    signs = evidence.get("signs")
    if not subject and isinstance(signs, list):
        return frozenset(str(sign["sensor"]) for sign in signs if isinstance(sign, dict) and "sensor" in sign)
    return frozenset((subject,)) if subject else frozenset()


# --- where a fault goes --------------------------------------------------------------------------------------------


class Why(StrEnum):
    """Why a fault has a ticket, or has none yet."""

    CERTAIN = "certain"
    PERSISTED = "persisted"
    COMBINED = "combined"
    CONSEQUENCE = "consequence"
    RECURRENCE = "recurrence"
    SITE = "site"
    """Its whole site is silent."""
    WEAK = "weak"
    """Held: it may be nothing."""
    SITE_WINDOW = "site_window"
    """Held: its whole site may be falling silent."""
    DECLARED = "declared"
    """Held: maintenance or transport was declared, and it calls nobody."""
    OTHER_STATE = "other_state"
    """Held: its sensor means nothing in what the machine was doing."""
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Placing:
    """Where a fault goes: onto `ticket_id`, onto a new ticket (`opens`), or nowhere yet.

    `severity` is the fault's from now on; `along` are the faults, held so far, that come with it, each with its
    severity; `merges` are tickets that nobody has touched and that dissolve into this one. `lead` names the ticket
    from now on, None where it keeps its name; `ticket_severity` is the least that it has from now on.
    """

    why: Why
    severity: Severity = Severity.NOTE
    ticket_id: int | None = None
    opens: bool = False
    lead: Fault | None = None
    ticket_severity: Severity = Severity.NOTE
    along: tuple[tuple[int, Severity], ...] = ()
    merges: tuple[int, ...] = ()
    held_until: int | None = None
    confidence: float = 1.0


def place(fault: Fault, standing: Standing, policy: Policy, now: int, *, persisted: bool = False) -> Placing:
    """Decide where a fault goes that just began, got stronger, or (`persisted`) was held for long enough."""
    others = replace(standing, faults=tuple(one for one in standing.faults if one.id != fault.id or not one.id))
    former = _former(fault, others)
    if former is not None:
        return _joined(Why.RECURRENCE, fault, former, others, policy)
    if fault.severity is Severity.NOTE:
        return Placing(Why.NOTE)
    if standing.window_until is not None:
        return Placing(Why.DECLARED, held_until=standing.window_until)
    if out_of_state(fault, standing.profile, policy):
        return Placing(Why.OTHER_STATE)
    if fault.kind is FaultKind.REPORTED and (case := _gravest(others.tickets)) is not None:
        # It keeps the name and the evidence of what was found; people's words stand in its course.
        return replace(_joined(Why.CONSEQUENCE, fault, case, others, policy), lead=None)
    return (
        _as_consequence(fault, others, policy, now)
        or _of_site(fault, others, policy, now, persisted=persisted)
        or _by_itself(fault, others, policy, now, persisted=persisted)
    )


def takes(cause: Fault, effect: Fault, standing: Standing, policy: Policy) -> Rule | None:
    """The rule by which one fault brings the other with it, if there is one."""
    if cause.key == effect.key:
        return None
    return next((rule for rule in policy.rules if _fits(rule, cause, effect, standing.profile)), None)


def alert_wait_ms(fault: Fault, profile: Profile | None, policy: Policy) -> int:
    """How long the alert of a new ticket waits for the emergency that may stand behind it."""
    behind = FaultKind.STARTUP_FAILURE
    may = any(
        rule.cause is behind and fault.kind in rule.takes and _supplies(fault, profile)
        for rule in policy.rules
        if rule.about is About.SUPPLY
    )
    return round(policy.alert_wait_s * 1000) if may and fault.severity is Severity.URGENT else 0


def has_lasted(fault: Fault, open_ms: int, policy: Policy) -> bool:
    """Whether a fault that has been open for so long deserves its ticket for that, or needs no time to pass."""
    return fault.confidence >= policy.certain or open_ms >= round(policy.persist_s[fault.kind] * 1000)


def graver(one: Severity, other: Severity) -> bool:
    return _GRAVITY[one] > _GRAVITY[other]


def out_of_state(fault: Fault, profile: Profile | None, policy: Policy) -> bool:
    """Whether a learnt judgement was made in a state in which none of its sensors means anything: no oil pressure
    while the engine is off."""
    if fault.kind not in policy.learnt or not fault.state or not fault.channels or profile is None:
        return False
    states = [sensor.states for sensor in profile.sensors if sensor.name in fault.channels]
    return bool(states) and all(known and fault.state not in known for known in states)


def _former(fault: Fault, standing: Standing) -> Case | None:
    """The open ticket that this very fault belonged to, when it was last open."""
    mine = {one.ticket_id for one in standing.faults if one.key == fault.key}
    return next((case for case in standing.tickets if case.id in mine or case.key == fault.key), None)


def _gravest(tickets: Sequence[Case]) -> Case | None:
    """The ticket for which somebody is sent to the machine anyway: what people say of it is the same job."""
    bad = [case for case in tickets if case.severity.makes_bad]
    return max(bad, key=lambda case: (_GRAVITY[case.severity], -case.opened_at), default=None)


def _fits(rule: Rule, cause: Fault, effect: Fault, profile: Profile | None) -> bool:
    if rule.cause is not cause.kind or effect.kind not in rule.takes:
        return False
    if rule.about is About.SENSOR and not cause.channels & effect.channels:
        return False
    if rule.about is About.SUPPLY and not _supplies(effect, profile):
        return False
    until = math.inf if cause.is_open else cause.occurred_at + rule.after_s * 1000
    return cause.occurred_at - rule.before_s * 1000 <= effect.occurred_at <= until


def _supplies(fault: Fault, profile: Profile | None) -> bool:
    supply = {profile.battery_sensor, profile.fuel_sensor} if profile else set()
    return not fault.channels or bool(fault.channels & supply)


def _as_consequence(fault: Fault, standing: Standing, policy: Policy, now: int) -> Placing | None:
    """It joins the ticket of its cause, if it is no graver than that, or if that ticket may still be raised."""
    for case in _by_age(standing.tickets):
        causes = [one for one in standing.of_ticket(case.id) if takes(one, fault, standing, policy)]
        if not causes:
            continue
        joined = _joined(Why.CONSEQUENCE, fault, case, standing, policy)
        weak = fault.confidence < policy.certain
        if weak and graver(joined.severity, case.severity):
            # A weak sign is welcome as one more, but raises nobody's alarm.
            return replace(joined, severity=case.severity, ticket_severity=case.severity, lead=None)
        if not graver(joined.severity, case.severity) or _may_rise(case, policy, now):
            return joined
    return None


def _of_site(fault: Fault, standing: Standing, policy: Policy, now: int, *, persisted: bool) -> Placing | None:
    """Silence joins its site's outage, or waits whether there is one."""
    if fault.kind is not FaultKind.SILENT or persisted:
        return None
    if standing.site_ticket is not None:
        return Placing(Why.SITE, fault.severity, standing.site_ticket)
    if standing.site_machines < policy.site.machines:
        return None
    # A gap of the radio takes longer to tell from a silence than a gateway's death does.
    wait_s = policy.site.window_s if fault.confidence >= policy.certain else policy.persist_s[fault.kind]
    return Placing(Why.SITE_WINDOW, held_until=now + round(max(wait_s, policy.site.window_s) * 1000))


def _by_itself(fault: Fault, standing: Standing, policy: Policy, now: int, *, persisted: bool) -> Placing:
    if persisted or fault.confidence >= policy.certain:
        return _deserving(Why.PERSISTED if persisted else Why.CERTAIN, fault, standing, policy, now)
    combined = _combined(fault, standing, policy, now)
    return combined or Placing(Why.WEAK, held_until=now + round(policy.persist_s[fault.kind] * 1000))


def _deserving(why: Why, fault: Fault, standing: Standing, policy: Policy, now: int) -> Placing:
    """A ticket of its own; or the one of its consequences, where nobody has touched that."""
    effects = [one for one in standing.faults if takes(fault, one, standing, policy)]
    theirs = [
        case for case in _by_age(standing.tickets)
        if case.untouched and (of := standing.of_ticket(case.id)) and all(one in effects for one in of)
    ]  # fmt: skip
    # Promises keep their due times: the oldest ticket that carries some goes on, before one that is merely young.
    rising = [case for case in theirs if case.severity.makes_bad] or [
        case for case in theirs if _may_rise(case, policy, now)
    ]
    merges = tuple(case.id for case in theirs if case not in rising[:1])
    if rising:
        return replace(_joined(why, fault, rising[0], standing, policy), merges=merges)
    along = _along(fault, standing, policy)
    return Placing(
        why, fault.severity, opens=True, lead=fault, ticket_severity=fault.severity, along=along, merges=merges
    )  # fmt: skip


def _joined(why: Why, fault: Fault, case: Case, standing: Standing, policy: Policy) -> Placing:
    """The fault on this ticket, which is named by what leads it, and never matters less than it did."""
    group = [*(one for one in standing.of_ticket(case.id) if one.key != fault.key), fault]
    lead = _lead(group, standing, policy)
    counted = _counted(fault, group, standing, policy)
    severities = [case.severity, *(_counted(one, group, standing, policy) for one in group if one.is_open)]
    return Placing(
        why, counted, case.id,
        lead=lead if case.untouched and lead.key != case.key else None,
        ticket_severity=max(severities, key=_GRAVITY.__getitem__),
        along=_along(fault, standing, policy),
    )  # fmt: skip


def _along(fault: Fault, standing: Standing, policy: Policy) -> tuple[tuple[int, Severity], ...]:
    """The consequences of this fault that were held so far."""
    held = [one for one in standing.faults if one.held and takes(fault, one, standing, policy)]
    return tuple((one.id, _least(_counted(one, [one, fault], standing, policy), fault.severity)) for one in held)


def _lead(group: Sequence[Fault], standing: Standing, policy: Policy) -> Fault:
    """What names a ticket: the gravest, then what brings the others with it, then the surest. Whoever came first
    does not matter."""

    def rank(one: Fault) -> tuple[float, ...]:
        brings = sum(takes(one, other, standing, policy) is not None for other in group)
        severity = _counted(one, group, standing, policy)
        return (-_GRAVITY[severity], -brings, -one.confidence, _ORDER[one.kind])

    return min(group, key=lambda one: (rank(one), one.subject))


def _counted(fault: Fault, group: Sequence[Fault], standing: Standing, policy: Policy) -> Severity:
    """What a fault matters among these: what another of them explains matters no more than that."""
    severity = fault.severity
    for one in group:
        rule = takes(one, fault, standing, policy)
        if rule and rule.explains and one.is_open:
            severity = _least(severity, one.severity)
    return severity


def _least(one: Severity, other: Severity) -> Severity:
    return min(one, other, key=_GRAVITY.__getitem__)


def _may_rise(case: Case, policy: Policy, now: int) -> bool:
    return case.untouched and (case.severity.makes_bad or now - case.opened_at <= policy.raise_within_s * 1000)


def _by_age(cases: Iterable[Case]) -> list[Case]:
    return sorted(cases, key=lambda case: (case.opened_at, case.id))


# --- weak signs ----------------------------------------------------------------------------------------------------


def combined_confidence(signs: Iterable[Fault]) -> float:
    """How sure several weak signs are together: 1 - ∏(1 - c) over the best choice of independent ones.

    Two signs of one kind are not independent, for what deceives a detector deceives it on several sensors (a hot day, a
    new load). Two signs on one sensor are not, for a bad sensor makes both.
    """
    by_kind: dict[FaultKind, list[Fault]] = {}
    for sign in sorted(signs, key=lambda one: (-one.confidence, one.subject)):
        by_kind.setdefault(sign.kind, []).append(sign)
    return 1 - _doubt([most[:SIGNS_A_KIND] for most in by_kind.values()], frozenset())


def _doubt(kinds: Sequence[Sequence[Fault]], used: frozenset[str]) -> float:
    """The least doubt that one sign at most of each kind leaves, no sensor used twice."""
    if not kinds:
        return 1.0
    without = _doubt(kinds[1:], used)
    channels = {sign: sign.channels or frozenset(("",)) for sign in kinds[0]}
    with_one = [
        (1 - sign.confidence) * _doubt(kinds[1:], used | channels[sign])
        for sign in kinds[0]
        if not channels[sign] & used
    ]
    return min([without, *with_one])


def _combined(fault: Fault, standing: Standing, policy: Policy, now: int) -> Placing | None:
    """All weak signs of the machine on one ticket, if together they are certain enough."""
    if fault.kind in policy.alone:
        return None
    gathering = next((case for case in _by_age(standing.tickets) if _gathers(case, standing, policy)), None)
    signs = [one for one in standing.faults if _is_sign(one, gathering, standing, policy)]
    confidence = combined_confidence([*signs, fault])
    if confidence < policy.certain:
        return None
    along = tuple((one.id, one.severity) for one in signs if one.held)
    gravest = max((one.severity for one in (fault, *signs)), key=_GRAVITY.__getitem__)
    if gathering and (not graver(gravest, gathering.severity) or _may_rise(gathering, policy, now)):
        joined = _joined(Why.COMBINED, fault, gathering, standing, policy)
        return replace(joined, ticket_severity=gravest if graver(gravest, gathering.severity) else gathering.severity,
                       along=along, confidence=confidence)  # fmt: skip
    lead = _lead([*(one for one in signs if one.held), fault], standing, policy)
    return Placing(Why.COMBINED, fault.severity, opens=True, lead=lead, ticket_severity=gravest, along=along,
                   confidence=confidence)  # fmt: skip


def _gathers(case: Case, standing: Standing, policy: Policy) -> bool:
    """Whether a ticket stands for weak signs alone; then further ones belong to it."""
    of = standing.of_ticket(case.id)
    return bool(of) and all(one.confidence < policy.certain for one in of)


def _is_sign(fault: Fault, gathering: Case | None, standing: Standing, policy: Policy) -> bool:
    there = fault.held or (gathering is not None and fault.ticket_id == gathering.id)
    weak = fault.is_open and fault.confidence < policy.certain and fault.severity is not Severity.NOTE
    weak = weak and fault.kind not in policy.alone
    return there and weak and not out_of_state(fault, standing.profile, policy)


# --- a whole site --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outage:
    """A site that fell silent as a whole, between these moments (server, ms): so many of its live machines."""

    since: int
    until: int
    lost: int
    live: int


def outage(machines: int, fell_at: Iterable[int], policy: SitePolicy) -> Outage | None:
    """Whether a site's machines were lost together.

    `machines` counts those that are watched, were heard and have not said goodbye, silent ones too; `fell_at` says
    since when each that is silent now has been so. Machines that were silent before do not count as live.
    """
    falls = sorted(fell_at)
    window_ms, end = round(policy.window_s * 1000), 0
    for start, since in enumerate(falls):
        while end < len(falls) and falls[end] <= since + window_ms:
            end += 1
        lost, live = end - start, machines - start
        if lost >= policy.machines and lost >= policy.share * live:
            return Outage(since, falls[end - 1], lost, live)
    return None


def site_is_back(taken: int, silent: int, changed_at: int, now: int, policy: SitePolicy) -> bool:
    """Whether an outage is over though some of the machines it took along are silent still. `changed_at`: when the
    last of them fell silent or came back."""
    back = taken - silent
    return silent > 0 and back >= policy.back_share * taken and now - changed_at >= policy.settle_s * 1000
