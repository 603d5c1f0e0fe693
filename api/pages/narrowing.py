"""Which of the tickets are shown: what the address asks for, and the links that ask for others, each with how many."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import Depends, Query

from api.labels import N_, STAGES, Labels
from api.tickets import TicketTally
from monitor.desk.tickets import Status
from monitor.devices import Severity
from monitor.store.access import Role, Visitor
from monitor.store.queries import Wanted

SITES_NAMED = 12
Whose = Literal["", "nobody", "mine"]
WHOSE = {"": N_("everybody's"), "nobody": N_("nobody's yet"), "mine": N_("mine")}
STAGE_OF = {
    Status.OPEN: "open",
    Status.VERIFIED: "verified",
    Status.DISPATCHED: "sent",
    Status.ACCEPTED: "sent",
    Status.ON_THE_WAY: "there",
    Status.ON_SITE: "there",
    Status.REPAIRING: "repairing",
    Status.WAITING: "waiting",
    Status.RESOLVED: "resolved",
}
"""The columns of the board, by what stands in them."""


@dataclass(frozen=True)
class Narrowed:
    """What the address asks for. Empty: all."""

    whose: str = ""
    severity: str = ""
    stage: str = ""
    site: int | None = None

    def link(self, base: str, **more: str) -> str:
        """The address of a page with these tickets."""
        asked = {"whose": self.whose, "severity": self.severity, "stage": self.stage, "site": self.site, **more}
        query = urlencode({name: value for name, value in asked.items() if value})
        return f"{base}?{query}" if query else base

    def at(self, stage: str) -> "Narrowed":
        return replace(self, stage=stage)

    def wanted(self, visitor: Visitor) -> Wanted:
        return Wanted(
            statuses=tuple(status for status, of in STAGE_OF.items() if of == self.stage),
            severity=self.severity or None,
            site_id=self.site,
            technician_id=(visitor.person_id or 0) if self.whose == "mine" else None,
            unassigned=self.whose == "nobody",
        )

    @property
    def anything(self) -> bool:
        return self != Narrowed()


def narrowed(
    whose: Annotated[Whose, Query()] = "",
    severity: Annotated[Severity | Literal[""], Query()] = "",
    stage: Annotated[
        Literal["", "open", "verified", "sent", "there", "repairing", "waiting", "resolved"], Query()
    ] = "",
    site: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
) -> Narrowed:
    return Narrowed(whose, str(severity), stage, site)


Asked = Annotated[Narrowed, Depends(narrowed)]


@dataclass(frozen=True)
class Choice:
    """A link to other tickets."""

    label: str
    href: str
    count: int
    chosen: bool


@dataclass(frozen=True)
class Facet:
    """Links that differ in one thing."""

    title: str
    choices: list[Choice]


def whose_facet(
    asked: Narrowed, tally: Sequence[TicketTally], visitor: Visitor, labels: Labels, base: str
) -> Facet:  # fmt: skip
    """Everybody's, nobody's, and for who goes out, their own."""
    codes = [code for code in WHOSE if code != "mine" or _goes_out(visitor)]
    ways = [(replace(asked, whose=code), labels.words.say(WHOSE[code])) for code in codes]
    return Facet(labels.words.say("Whose tickets"), _choices(ways, asked, tally, visitor, base, always=True))


def facets(
    asked: Narrowed, tally: Sequence[TicketTally], visitor: Visitor, labels: Labels, base: str, *, staged: bool,
    site_name: str | None = None,
) -> list[Facet]:  # fmt: skip
    """The other ways to narrow what is shown; sites only where something is open, the most first, and the one that is
    asked for, whose `site_name` is known to who may see it."""
    say = labels.words.say
    grave = [("", say("every severity")), *((one.value, labels.severity(one)) for one in Severity)]
    ways = {say("Severity"): [(replace(asked, severity=code), word) for code, word in grave]}
    if staged:
        stages = [("", say("every stage")), *((code, say(title)) for code, title in STAGES.items())]
        ways[say("Stage")] = [(replace(asked, stage=code), word) for code, word in stages]
    sites = _sites(tally, asked.site, site_name)
    if len(sites) > 1 or asked.site is not None:
        named = [(None, say("every site")), *sites[:SITES_NAMED]]
        ways[say("Site")] = [(replace(asked, site=key), name) for key, name in named]
    return [Facet(title, _choices(some, asked, tally, visitor, base)) for title, some in ways.items()]


def _sites(tally: Sequence[TicketTally], chosen: int | None, name: str | None) -> list[tuple[int, str]]:
    """The chosen site, also where nothing is open; then those where something is, the one with the most first."""
    numbers: Counter[tuple[int, str]] = Counter()
    for one in tally:
        if one.place_id is not None:
            numbers[one.place_id, one.site_name or ""] += one.count
    if chosen is not None and name is not None:
        numbers[chosen, name] += 0
    return sorted(numbers, key=lambda site: (site[0] != chosen, -numbers[site], site[1]))


def _choices(
    ways: Sequence[tuple[Narrowed, str]], asked: Narrowed, tally: Sequence[TicketTally], visitor: Visitor, base: str,
    *, always: bool = False,
) -> list[Choice]:  # fmt: skip
    """Links to these; one that leads to nothing only where it is the first, which asks for all, or the present one."""
    found = [Choice(word, other.link(base), shown(other, tally, visitor), other == asked) for other, word in ways]
    return [one for n, one in enumerate(found) if one.count or one.chosen or n == 0 or always]


def shown(asked: Narrowed, tally: Sequence[TicketTally], visitor: Visitor) -> int:
    """How many open tickets are asked for."""
    return sum(one.count for one in tally if _fits(asked, one, visitor))


def unassigned(tally: Sequence[TicketTally]) -> int:
    """How many open tickets nobody has."""
    return sum(one.count for one in tally if _nobodys(one))


def _fits(asked: Narrowed, one: TicketTally, visitor: Visitor) -> bool:
    theirs: dict[str, Callable[[], bool]] = {
        "": lambda: True,
        "nobody": lambda: _nobodys(one),
        "mine": lambda: one.technician_id is not None and one.technician_id == visitor.person_id,
    }
    return (
        theirs[asked.whose]()
        and asked.severity in ("", one.severity)
        and asked.stage in ("", STAGE_OF.get(Status(one.status)))
        and asked.site in (None, one.place_id)
    )


def _nobodys(one: TicketTally) -> bool:
    return one.technician_id is None and one.status != Status.RESOLVED


def _goes_out(visitor: Visitor) -> bool:
    return visitor.role is Role.TECHNICIAN and visitor.person_id is not None
