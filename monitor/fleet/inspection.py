"""Safety inspections (E2, E3, E6): what is looked at, and whether it is in order. Pure; the lists are checklists.toml.

An inspector says what they see and measure. Whether that is in order is judged here, by the limits: nobody's word
makes a measured value good, and what was not looked at is not in order either.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Annotated

import msgspec

PHOTO_LENGTH = 400
REASON_LENGTH = 500
LARGEST = 1e12
"""No measured value is larger; beyond it there is a slip of the pen."""

_FILE_NAME = re.compile(r"\w[\w .()+-]*")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+(/[!-~]*)?")


class Kind(StrEnum):
    """What an inspection is for."""

    HAND_OVER = "hand_over"
    RETURN = "return"
    SPOT_CHECK = "spot_check"


class What(StrEnum):
    """What an item asks for."""

    CHECK = "check"
    VALUE = "value"
    PHOTO = "photo"


class Says(StrEnum):
    """What an inspector says of an item that is looked at."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    NOT_APPLICABLE = "not_applicable"


class Verdict(StrEnum):
    """What an item turned out to be."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    NOT_APPLICABLE = "not_applicable"
    LEFT_OUT = "left_out"
    """Nothing was said of an item that may be left out."""


class Why(StrEnum):
    """Why an item fails."""

    FOUND = "found"
    """The inspector found it not in order."""
    MISSING = "missing"
    """It is required, and nothing was said, measured or shown."""
    TOO_LOW = "too_low"
    TOO_HIGH = "too_high"
    NOT_A_NUMBER = "not_a_number"
    MUST_APPLY = "must_apply"
    """It applies to every machine of the model."""
    NO_REASON = "no_reason"
    """That it does not apply needs a reason."""
    NO_REFERENCE = "no_reference"
    """What stands for a photo is neither a file name nor an http(s) address."""


# --- the checklists ------------------------------------------------------------------------------------------------


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a checklist."""

    code: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    what: What
    title: str
    title_zh: str
    kinds: tuple[Kind, ...] = ()
    profiles: tuple[str, ...] = ()
    required: bool = True
    may_not_apply: bool = False
    unit: str = ""
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.what is not What.VALUE and (self.unit or self.low is not None or self.high is not None):
            raise ValueError(f"{self.code}: unit, low and high belong to a value")
        if self.what is What.VALUE and self.low is None and self.high is None:
            raise ValueError(f"{self.code}: a value needs low, high or both: without them nothing could judge it")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"{self.code}: low {self.low} lies above high {self.high}")

    def belongs(self, profile: str, kind: Kind) -> bool:
        return (not self.kinds or kind in self.kinds) and (not self.profiles or profile in self.profiles)


class Checklists(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"items": "item"}):
    """All checklists, in one version."""

    version: str
    items: tuple[Item, ...]

    def __post_init__(self) -> None:
        twice = [code for code, count in Counter(item.code for item in self.items).items() if count > 1]
        if twice:
            raise ValueError(f"item {twice[0]} stands there twice")

    def of(self, profile: str, kind: Kind) -> "Checklist":
        """What is looked at on a machine of this model. A model that no item names has those for all."""
        return Checklist(self.version, tuple(item for item in self.items if item.belongs(profile, kind)))


@dataclass(frozen=True, slots=True)
class Checklist:
    """What is looked at on one machine, in this order."""

    version: str
    items: tuple[Item, ...]


@cache
def shipped_checklists() -> Checklists:
    """The checklists that ship with the program."""
    return checklists_from(files("monitor.fleet").joinpath("checklists.toml").read_bytes())


def checklists_from(text: bytes) -> Checklists:
    """Checklists as a file like checklists.toml puts them; ValueError says what is wrong with it."""
    return msgspec.toml.decode(text, type=Checklists)


# --- judging -------------------------------------------------------------------------------------------------------


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an inspector says of one item: a word, a measured value (in the item's unit), a photo's reference."""

    code: str
    says: Says | None = None
    value: float | None = None
    photo: str = ""
    reason: str = ""


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One item as it was inspected, whole: it means the same when the checklist has long become another one."""

    code: str
    what: What
    title: str
    title_zh: str
    verdict: Verdict
    required: bool = True
    unit: str = ""
    low: float | None = None
    high: float | None = None
    why: Why | None = None
    value: float | None = None
    photo: str = ""
    reason: str = ""


def judge(checklist: Checklist, answers: Sequence[Answer]) -> tuple[Finding, ...]:
    """Every item of the checklist with its verdict, whatever was answered. Of two answers to an item the last counts;
    answers to what is not on the list say nothing."""
    given = {answer.code: answer for answer in answers}
    return tuple(_finding(item, given.get(item.code) or Answer(item.code)) for item in checklist.items)


def passed(findings: Sequence[Finding]) -> bool:
    """E2: every required item is there and in order, and nothing else was found that is not."""
    return bool(findings) and not fails(findings)


def fails(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if finding.verdict is Verdict.FAIL)


def unknown_codes(checklist: Checklist, answers: Sequence[Answer]) -> list[str]:
    """Answers to what is not on the checklist, and second answers to the same item."""
    known = {item.code for item in checklist.items}
    counts = Counter(answer.code for answer in answers)
    return sorted(code for code, count in counts.items() if code not in known or count > 1)


def is_photo(text: str) -> bool:
    """Whether a text can stand for a photo: an http(s) address, or the bare name of a file."""
    if not 0 < len(text) <= PHOTO_LENGTH:
        return False
    return bool(_ADDRESS.fullmatch(text) or _FILE_NAME.fullmatch(text))


def _finding(item: Item, answer: Answer) -> Finding:
    verdict, why = _verdict(item, answer)
    # JSON has no NaN, and neither has the record: that there was no number is what `why` says.
    value = answer.value if answer.value is not None and math.isfinite(answer.value) else None
    return Finding(
        item.code, item.what, item.title, item.title_zh, verdict, item.required, item.unit, item.low, item.high, why,
        value if item.what is What.VALUE else None, answer.photo, answer.reason,
    )  # fmt: skip


def _verdict(item: Item, answer: Answer) -> tuple[Verdict, Why | None]:
    if answer.photo and not is_photo(answer.photo):
        return Verdict.FAIL, Why.NO_REFERENCE
    if answer.says is Says.NOT_APPLICABLE:
        return _not_applicable(item, answer)
    if answer.says is Says.FAIL:
        return Verdict.FAIL, Why.FOUND
    why = _JUDGES[item.what](item, answer)
    if why is Why.MISSING and not item.required:
        return Verdict.LEFT_OUT, None
    return (Verdict.PASS if why is None else Verdict.FAIL), why


def _not_applicable(item: Item, answer: Answer) -> tuple[Verdict, Why | None]:
    if not item.may_not_apply:
        return Verdict.FAIL, Why.MUST_APPLY
    if not answer.reason.strip():
        return Verdict.FAIL, Why.NO_REASON
    return Verdict.NOT_APPLICABLE, None


def _check(_: Item, answer: Answer) -> Why | None:
    return None if answer.says is Says.PASS else Why.MISSING


def _value(item: Item, answer: Answer) -> Why | None:
    """Measured is measured: that the inspector calls it good makes no difference."""
    if answer.value is None:
        return Why.MISSING
    if not math.isfinite(answer.value) or abs(answer.value) > LARGEST:
        return Why.NOT_A_NUMBER
    if item.low is not None and answer.value < item.low:
        return Why.TOO_LOW
    return Why.TOO_HIGH if item.high is not None and answer.value > item.high else None


def _photo(_: Item, answer: Answer) -> Why | None:
    return None if answer.photo else Why.MISSING


_JUDGES = {What.CHECK: _check, What.VALUE: _value, What.PHOTO: _photo}


# --- comparing -----------------------------------------------------------------------------------------------------


class Course(StrEnum):
    """What became of an item between hand-over and return."""

    SAME = "same"
    CHANGED = "changed"
    """Still in order, and measured otherwise."""
    DAMAGE = "damage"
    """In order when it went out, and not when it came back."""
    FAULTY_BEFORE = "faulty_before"
    MENDED = "mended"
    NOT_COMPARED = "not_compared"
    """It was looked at only once, so that nobody can say since when it is as it is."""


@dataclass(frozen=True, slots=True)
class Change:
    """One item beside itself: at hand-over and at return. `difference` in the item's unit, return less hand-over."""

    code: str
    course: Course
    before: Finding | None
    after: Finding | None
    difference: float | None = None


def compare(before: Sequence[Finding], after: Sequence[Finding]) -> tuple[Change, ...]:
    """Every item of either inspection beside itself, in the order of the later one."""
    out: Mapping[str, Finding] = {finding.code: finding for finding in before}
    back: Mapping[str, Finding] = {finding.code: finding for finding in after}
    codes = [*back, *(code for code in out if code not in back)]
    return tuple(_change(code, out.get(code), back.get(code)) for code in codes)


def damage(changes: Sequence[Change]) -> tuple[Change, ...]:
    """What was in order when the machine went out, and is not any more: somebody bears it."""
    return tuple(change for change in changes if change.course is Course.DAMAGE)


def _change(code: str, before: Finding | None, after: Finding | None) -> Change:
    if before is None or after is None or not (_seen(before) and _seen(after)):
        return Change(code, Course.NOT_COMPARED, before, after)
    difference = None
    if before.value is not None and after.value is not None and before.unit == after.unit:
        difference = round(after.value - before.value, 9)
    return Change(code, _course(before, after, difference), before, after, difference)


def _course(before: Finding, after: Finding, difference: float | None) -> Course:
    was_bad, is_bad = before.verdict is Verdict.FAIL, after.verdict is Verdict.FAIL
    if is_bad:
        return Course.FAULTY_BEFORE if was_bad else Course.DAMAGE
    if was_bad:
        return Course.MENDED
    return Course.CHANGED if difference or before.verdict is not after.verdict else Course.SAME


def _seen(finding: Finding) -> bool:
    """Whether somebody looked at it. Nobody did where nothing was said, whatever that makes of the whole."""
    return finding.verdict is not Verdict.LEFT_OUT and finding.why is not Why.MISSING
