"""The machine's file (E5, 设备档案): everything that is on record about one machine, as one time line. Pure.

An entry is no record of its own: it says what a row of some table says, in `facts`, and names that row (`source`). So
there is no second bookkeeping, and nothing that can contradict the first. Times are epoch milliseconds.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

JsonValue = object
"""A fact, as JSON has it."""


class Kind(StrEnum):
    """What an entry is about; the file can be read by these."""

    MACHINE = "machine"
    """Added, retired, refused."""
    MOVE = "move"
    FIRMWARE = "firmware"
    CREDENTIAL = "credential"
    RENTAL = "rental"
    INSPECTION = "inspection"
    FAULT = "fault"
    TICKET = "ticket"
    PART = "part"
    REPORT = "report"
    """What a person said of it."""
    MAINTENANCE = "maintenance"
    METER = "meter"
    WINDOW = "window"
    """Maintenance or transport that was declared beforehand."""
    SELF_TEST = "self_test"
    SPOT_CHECK = "spot_check"


Key = int | str
Place = tuple[int, int, Key]
"""Where an entry stands in the file: (at, rank of its source, key of its row). Two entries never share one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the file."""

    at: int
    kind: Kind
    what: str
    """A code: what happened (`opened`, `moved`, …)."""
    source: str
    """The table that says so, and the row's key there: `ticket:12`."""
    place: Place
    facts: Mapping[str, JsonValue] = field(default_factory=dict)
    actor: str = ""
    text: str = ""
    """In somebody's own words."""
    link: str = ""
    """The page of what it is about."""


def newest_first(entries: Iterable[Entry]) -> list[Entry]:
    """By moment and source. Those of one source and moment stay as they came: keys are the database's to order."""
    return sorted(entries, key=lambda one: one.place[:2], reverse=True)


def written(place: Place) -> str:
    """A place as text, for a cursor."""
    return ":".join(map(str, place))


def place_of(text: str, key_of: Callable[[int, str], Key]) -> Place:
    """The place that was `written`; `key_of` makes a key of (rank, text). Raises ValueError where it is none."""
    at, rank, key = text.split(":", 2)
    place = int(at), int(rank), key_of(int(rank), key)
    if not all(abs(part) < 2**63 for part in place if isinstance(part, int)):
        raise ValueError("a place has numbers of 64 bits")
    return place


def matches(entry: Entry, asked: str, said: Callable[[Entry], str]) -> bool:
    """Whether every word that was asked for stands in the entry: in its codes, its facts, its words, or in what is
    `said` of it on the page. Case does not matter."""
    hay = " ".join(
        (entry.kind, entry.what, entry.source, entry.actor, entry.text, *_words(entry.facts), said(entry))
    ).casefold()
    return all(word in hay for word in asked.casefold().split())


def _words(value: object) -> Collection[str]:
    if isinstance(value, Mapping):
        return [word for key, one in value.items() for word in (str(key), *_words(one))]
    if isinstance(value, list | tuple):
        return [word for one in value for word in _words(one)]
    return () if value is None else (str(value),)
