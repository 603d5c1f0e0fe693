"""Who is on call: the next fortnight as a calendar, and the rotations that it follows from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from api import people
from api.access import DESK, ForDesk, ForStaff
from api.context import Api, Parts
from api.pages.filling import Complaint, Sent, clock_of, done_or_told, is_whole, local_input, made, words_for
from api.pages.people import weekdays
from api.pages.shell import pages, render
from api.people import ROTA_DAYS, NewOverride, NewRotation, OnCallShape, PartId, RotationId, RotationShape
from api.zones import zones
from monitor.store import queries
from monitor.store.access import Visitor

router = pages()

TURNS = 8
"""So many people can be put in order by the form."""
PEOPLE = 500
SHIFTS = (12, 24, 48, 168, 336)


@dataclass(frozen=True)
class Spell:
    """Who is on call within a day; `person_id` None: nobody."""

    person_id: int | None
    name: str
    from_at: int
    until_at: int
    because: str
    whole: bool
    """From the beginning of the day to its end."""


@dataclass(frozen=True)
class Day:
    at: int
    spells: dict[int, list[Spell]]
    """By rotation."""


@router.get("/settings/rotations")
def rotations_page(request: Request, api: Parts, visitor: ForStaff) -> HTMLResponse:
    return _page(request, api, visitor)


@router.post("/settings/rotations")
def add_rotation_by_form(request: Request, api: Parts, visitor: ForDesk, form: Sent) -> Response:
    """`person` again and again, in the order of turns."""

    def add() -> None:
        turns = [int(one) for one in form.all("person") if is_whole(one)]
        body = made(NewRotation, {
            "name": form.text("name"), "people": turns, "shift_h": form.whole("shift_h"),
            "handover_weekday": form.whole("handover_weekday") or 0, "handover_minute": form.minute("handover") or 0,
            "timezone": form.text("timezone") or None, "starts_at": form.moment("starts_at"),
        })  # fmt: skip
        people.add_rotation(api, visitor, body)

    return _changed(request, api, visitor, add)


@router.post("/settings/rotations/{rotation_id}/end")
def end_rotation_by_form(
    request: Request, api: Parts, visitor: ForDesk, rotation_id: RotationId, form: Sent
) -> Response:  # fmt: skip
    return _changed(request, api, visitor, lambda: people.end_rotation(api, visitor, rotation_id, form.tag))


@router.post("/settings/rotations/{rotation_id}/overrides")
def override_by_form(
    request: Request, api: Parts, visitor: ForDesk, rotation_id: RotationId, form: Sent
) -> Response:  # fmt: skip
    def add() -> None:
        spell = {"from_at": form.moment("from"), "until_at": form.moment("until")}
        body = made(NewOverride, {"person_id": form.whole("person_id"), **spell})
        people.override(api, visitor, rotation_id, body, form.tag)

    return _changed(request, api, visitor, add)


@router.post("/settings/rotations/{rotation_id}/overrides/{part_id}/remove")
def remove_override_by_form(
    request: Request, api: Parts, visitor: ForDesk, rotation_id: RotationId, part_id: PartId, form: Sent
) -> Response:  # fmt: skip
    return _changed(request, api, visitor, lambda: people.remove_override(api, visitor, rotation_id, part_id, form.tag))


def _changed(request: Request, api: Api, visitor: Visitor, change: Any) -> Response:
    return done_or_told(change, "/settings/rotations", lambda told: _page(request, api, visitor, told))


def _page(request: Request, api: Api, visitor: Visitor, complaint: Complaint | None = None) -> HTMLResponse:
    words, now = words_for(request), api.clock()
    begin_at, end_at = _fortnight(now, words.zone)
    # What has ended lies behind this page; the API has it all.
    lasting = [one for one in people.list_rotations(api, visitor).items if one.ends_at is None or one.ends_at > now]
    spells = people.rota(api, visitor, begin_at, end_at).items
    with api.reading() as connection:
        staff = [row for row in queries.people(connection, after=0, limit=PEOPLE)
                 if row.role != "customer" and row.disabled_at is None]  # fmt: skip
    return render(
        request, "settings_rotations.html", visitor=visitor,
        complaint=complaint, rotations=lasting, days=list(_days(lasting, spells, now, words.zone)), staff=staff,
        names={row.id: row.name for row in staff}, on_call=[one for one in spells if one.from_at <= now < one.until_at],
        may_change=visitor.role in DESK, weekdays=weekdays(words), clock_of=clock_of, shifts=SHIFTS, turns=TURNS,
        zones=zones(words.lang, now), company_zone=api.timezone, starts=local_input(now, words.zone),
    )  # fmt: skip


def _fortnight(now: int, zone: ZoneInfo) -> tuple[int, int]:
    edges = _midnights(now, zone)
    return edges[0], edges[-1]


def _midnights(now: int, zone: ZoneInfo) -> list[int]:
    today = datetime.fromtimestamp(now / 1000, UTC).astimezone(zone).date()
    days = (today + timedelta(days=n) for n in range(ROTA_DAYS + 1))
    return [round(datetime(one.year, one.month, one.day, tzinfo=zone).timestamp() * 1000) for one in days]


def _days(
    rotations: Sequence[RotationShape], spells: Sequence[OnCallShape], now: int, zone: ZoneInfo
) -> Iterator[Day]:  # fmt: skip
    edges = _midnights(now, zone)
    for begin_at, end_at in pairwise(edges):
        yield Day(begin_at, {one.id: list(_within(one, spells, begin_at, end_at)) for one in rotations})


def _within(rotation: RotationShape, spells: Sequence[OnCallShape], begin_at: int, end_at: int) -> Iterator[Spell]:
    """Who has a day, one after the other, with the stretches that nobody has."""
    at = begin_at
    own = [one for one in spells if one.rotation_id == rotation.id and one.from_at < end_at and one.until_at > begin_at]
    for one in sorted(own, key=lambda one: one.from_at):
        from_at, until_at = max(one.from_at, begin_at), min(one.until_at, end_at)
        if from_at > at:
            yield Spell(None, "", at, from_at, "", whole=False)
        whole = (from_at, until_at) == (begin_at, end_at)
        yield Spell(one.person_id, one.person_name, from_at, until_at, one.because, whole=whole)
        at = until_at
    if at < end_at:
        yield Spell(None, "", at, end_at, "", whole=at == begin_at)
