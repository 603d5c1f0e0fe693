"""Remote diagnosis: what the answer to a self-test means for the technician and for the customer. Pure.

A self-test comes from a machine that may be anybody's: only `checks` and `codes` are understood, by `diagnosis.toml`;
the rest is shown as it is. All of it is cut to a size that a page can show.
"""

import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import NamedTuple, TypeAlias

import msgspec

from monitor.devices import FaultKind

Scalar: TypeAlias = str | int | float | bool | None
Json: TypeAlias = "Scalar | list[Json] | dict[str, Json]"

VALUES_KEPT = 64
DEPTH_KEPT = 4
TEXT_KEPT = 120
NAME_KEPT = 64
NOTE_CHARS = 400
EXACT = 2**53
CUT = "…"


class Why(StrEnum):
    """Why a command was given up."""

    NO_ANSWER = "no_answer"
    NOT_SENT = "not_sent"
    """The broker was never reached."""
    CUT_OFF = "cut_off"
    """The machine was retired, or its credentials were ended."""
    BOX_REPLACED = "box_replaced"
    TICKET_ENDED = "ticket_ended"


class ForTechnician(StrEnum):
    """What to take along, and what to look at first."""

    TAKE_BATTERY = "take_battery"
    TAKE_STARTER = "take_starter"
    TAKE_FUEL = "take_fuel"
    TAKE_COOLANT = "take_coolant"
    TAKE_OIL = "take_oil"
    TAKE_SENSOR = "take_sensor"
    LOOK_AT_EMERGENCY_STOP = "look_at_emergency_stop"
    LOOK_AT_FUEL_SUPPLY = "look_at_fuel_supply"
    LOOK_AT_COOLING = "look_at_cooling"
    READ_CODES = "read_codes"
    """Followed by the codes."""
    LOOK_AT = "look_at"
    """Something that we have no rule for; followed by what the machine calls it."""
    NOTHING_FOUND = "nothing_found"
    UNKNOWN_RESULT = "unknown_result"


class ForCustomer(StrEnum):
    """The one thing that a customer is asked to do until somebody comes."""

    DO_NOT_START = "do_not_start"
    COOL_DOWN = "cool_down"
    SWITCH_OFF = "switch_off"
    REFUEL = "refuel"
    LEAVE_IT = "leave_it"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a finding, or a fault, means (the fields are told in diagnosis.toml)."""

    technician: tuple[ForTechnician, ...]
    customer: ForCustomer | None = None
    check: str = ""
    says: tuple[str, ...] = ()
    kinds: tuple[FaultKind, ...] = ()
    subjects: tuple[str, ...] = ()
    clean: bool = False

    def __post_init__(self) -> None:
        if self.clean and self.check:
            raise ValueError(f"a rule of check {self.check!r} cannot be clean: it stands for what the check found")
        if not (self.check or self.kinds):
            raise ValueError("a rule needs a check or kinds")


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"rules": "rule"}):
    """How machines are asked, and what they answer means, in one version (diagnosis.toml)."""

    version: str
    resend_s: tuple[float, ...]
    give_up_s: float
    well: tuple[str, ...]
    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        if not self.resend_s or min(self.resend_s) < 1 or self.give_up_s <= 0:
            raise ValueError("resend_s needs pauses of at least 1 s, and give_up_s must be above 0")

    @property
    def give_up_ms(self) -> int:
        return round(self.give_up_s * 1000)

    def pause_ms(self, sends: int) -> int:
        """How long an answer is waited for after so many sends (1: the first)."""
        return round(self.resend_s[min(max(sends, 1), len(self.resend_s)) - 1] * 1000)


@cache
def shipped_policy() -> Policy:
    """The policy that ships with the program."""
    text = files("monitor.desk").joinpath("diagnosis.toml").read_bytes()
    return msgspec.toml.decode(text, type=Policy)


# --- what came back ------------------------------------------------------------------------------------------------


class Check(NamedTuple):
    """One thing that a machine looked at, and what it says of it."""

    name: str
    says: str
    well: bool


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What a machine answered: what we understand of it, and the rest by its path (`tank.level`)."""

    checks: tuple[Check, ...] = ()
    codes: tuple[str, ...] = ()
    rest: tuple[tuple[str, Scalar], ...] = ()

    @property
    def empty(self) -> bool:
        """Whether it says nothing at all: no diagnosis, whatever the machine calls it."""
        return not (self.checks or self.codes or self.rest)

    @property
    def findings(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.well)


def kept(result: Mapping[str, object]) -> dict[str, Json]:
    """What is kept of a result: the first VALUES_KEPT values, DEPTH_KEPT levels deep, in short clean texts.

    Whatever a stranger sends, this is small, JSON, and fit for a page.
    """
    return _kept_dict(result, 1, [VALUES_KEPT])


def _kept_dict(given: Mapping[str, object], depth: int, left: list[int]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name, value in given.items():
        if left[0] <= 0:
            break
        found[_clean(str(name), NAME_KEPT)] = _kept(value, depth, left)
    return found


def _kept(value: object, depth: int, left: list[int]) -> Json:
    """`left`: how many more values may be kept. Whatever is empty counts for one, so that nothing is endless."""
    nested = isinstance(value, Mapping | list)
    if nested and value and depth < DEPTH_KEPT:
        if isinstance(value, Mapping):
            return _kept_dict(value, depth + 1, left)
        return _kept_list(value, depth + 1, left)  # type: ignore[arg-type]
    left[0] -= 1
    return CUT if nested and value else None if nested else _scalar(value)


def _kept_list(given: Iterable[object], depth: int, left: list[int]) -> list[Json]:
    found: list[Json] = []
    for value in given:
        if left[0] <= 0:
            break
        found.append(_kept(value, depth, left))
    return found


def _scalar(value: object) -> Scalar:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if -EXACT < value < EXACT else CUT
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _clean(str(value), TEXT_KEPT)


def _clean(text: str, chars: int) -> str:
    """One printable line of at most so many characters."""
    short = " ".join(text[: 4 * chars].split())
    line = "".join(char for char in short if char.isprintable())
    return line if len(line) <= chars else line[: chars - 1] + CUT


def read(result: Mapping[str, Json], policy: Policy) -> SelfTest:
    """Understand what was kept of a result, as far as it has `checks` (name: word) and `codes`."""
    checks, codes = result.get("checks"), result.get("codes")
    understood = isinstance(checks, dict) and all(isinstance(said, str | bool) for said in checks.values())
    listed = isinstance(codes, list) and all(isinstance(code, str | int) for code in codes)
    rest = {
        name: value for name, value in result.items()
        if not (name == "checks" and understood) and not (name == "codes" and listed)
    }  # fmt: skip
    return SelfTest(
        tuple(_check(name, said, policy) for name, said in checks.items()) if isinstance(checks, dict) and understood
        else (),
        tuple(str(code) for code in codes) if isinstance(codes, list) and listed else (),
        tuple(_leaves(rest, "")),
    )  # fmt: skip


def _check(name: str, said: Json, policy: Policy) -> Check:
    word = str(said).lower() if isinstance(said, bool) else str(said)
    return Check(name, word, word.lower() in policy.well)


def _leaves(value: Json, path: str) -> Iterator[tuple[str, Scalar]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{place}")
    else:
        yield path, value


def summary(test: SelfTest) -> str:
    """A self-test in one line for the ticket's course, in the machine's own words; what it found stands first."""
    checks = sorted(test.checks, key=lambda check: check.well)
    said = [f"{check.name}: {check.says}" for check in checks]
    said += [f"codes: {', '.join(test.codes)}"] if test.codes else []
    said += [f"{path}: {value}" for path, value in test.rest if value is not None]
    return _clean(" · ".join(said), NOTE_CHARS)


# --- what it means -------------------------------------------------------------------------------------------------


class Tip(NamedTuple):
    """One piece of advice for the technician, and what it is about where the code alone does not say it."""

    code: ForTechnician
    about: str = ""


@dataclass(frozen=True, slots=True)
class Advice:
    """What a self-test and the fault together mean: all that the technician should know, one thing for the customer."""

    technician: tuple[Tip, ...]
    customer: ForCustomer


def advise(test: SelfTest, kind: str, subject: str, policy: Policy) -> Advice:
    """What follows from a self-test for a fault of this kind and subject (a sensor, or '')."""
    rules = [rule for rule in policy.rules if _applies(rule, test, kind, subject)]
    tips = [Tip(code) for rule in rules for code in rule.technician]
    known = {rule.check for rule in rules}
    tips += [Tip(ForTechnician.LOOK_AT, f"{one.name}: {one.says}") for one in test.findings if one.name not in known]
    tips += [Tip(ForTechnician.READ_CODES, ", ".join(test.codes))] if test.codes else []
    if not test.checks and not test.codes:
        tips.append(Tip(ForTechnician.UNKNOWN_RESULT))
    elif not test.findings and not test.codes:
        tips.append(Tip(ForTechnician.NOTHING_FOUND))
    customer = next((rule.customer for rule in rules if rule.customer), ForCustomer.LEAVE_IT)
    return Advice(tuple(dict.fromkeys(tips)), customer)


def _applies(rule: Rule, test: SelfTest, kind: str, subject: str) -> bool:
    if rule.kinds and kind not in rule.kinds:
        return False
    if rule.subjects and not subject.startswith(rule.subjects):
        return False
    if rule.clean:
        return bool(test.checks) and not test.findings and not test.codes
    if not rule.check:
        return True
    return any(found.name == rule.check and (not rule.says or found.says in rule.says) for found in test.findings)


# --- in which words ------------------------------------------------------------------------------------------------


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The words of one language (texts/*.toml, self_test)."""

    technician: dict[ForTechnician, str]
    customer: dict[ForCustomer, str]
    reason: dict[Why, str]
    check: dict[str, str]
    says: dict[str, str]


@cache
def words(lang: str) -> Words:
    """The words of a language; `lang` is one of those in texts/."""
    source = files("monitor.desk").joinpath("texts", f"{lang}.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(source)["self_test"], Words)
