"""The people: who they are, what they may work on, when they are there, how they are reached."""

from collections.abc import Sequence
from typing import Annotated, Any

from babel.dates import get_day_names
from fastapi import Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api import people
from api.access import DESK, ForDesk, ForErasing, ForOffice
from api.channels import list_channels
from api.context import Api, Parts
from api.hire import list_customers
from api.labels import CHANNELS, N_, ROLES, labels_of
from api.pages.filling import (
    Complaint,
    Form,
    Sent,
    Wrong,
    clock_of,
    complaint_of,
    date_input,
    done_or_told,
    lines_sent,
    made,
    tag_in,
    words_for,
)
from api.pages.shell import pages, render
from api.paging import MAX_ITEMS
from api.people import (
    Certificates,
    Confirmed,
    Contacts,
    Home,
    Hours,
    NewAbsence,
    NewPerson,
    PartId,
    PersonChange,
    PersonDetail,
    PersonId,
    may_erase,
    person_detail,
)
from api.problems import Problem
from api.registers import list_people
from api.words import Words
from api.zones import zones
from monitor.desk.telling import shipped_policy
from monitor.notify.channels import contact_address
from monitor.store.access import Role, Visitor
from monitor.store.people import MAX_CONTACTS, MAX_PARTS

router = pages()

DAY_MS = 86_400_000
LAPSES_SOON_MS = 30 * DAY_MS
MORE_CONTACTS = 2
"""So many empty lines stand below the contacts that there are."""
WEEK = range(7)


# --- all of them ---------------------------------------------------------------------------------------------------


@router.get("/settings/people")
def people_page(
    request: Request, api: Parts, visitor: ForOffice, cursor: Annotated[str | None, Query(max_length=200)] = None
) -> HTMLResponse:
    return _people_page(request, api, visitor, cursor=cursor)


@router.post("/settings/people")
def add_person_by_form(request: Request, api: Parts, visitor: ForDesk, form: Sent) -> Response:
    """Somebody new, whose page comes next."""
    try:
        given = {name: form.text(name) for name in ("name", "role", "email", "phone", "lang")}
        body = made(NewPerson, {**given, "customer": form.text("customer") or None})
        added = people.add_person(api, visitor, Response(), body)
    except Problem as problem:
        return _people_page(request, api, visitor, complaint_of(problem))
    return RedirectResponse(f"/settings/people/{added.id}", 303)


def _people_page(
    request: Request, api: Api, visitor: Visitor, complaint: Complaint | None = None, cursor: str | None = None
) -> HTMLResponse:
    found = list_people(api, visitor, limit=MAX_ITEMS, cursor=cursor)
    now = api.clock()
    by_role = {role: [one for one in found.items if one.role == role and one.disabled_at is None] for role in ROLES}
    return render(
        request, "settings_people.html", visitor=visitor,
        complaint=complaint, by_role=by_role, roles=ROLES,
        given={role: ROLES[role] for role in people.ROLES_GIVEN.get(visitor.role, ())}, following=found.next,
        gone=[one for one in found.items if one.disabled_at is not None], soon_at=now + LAPSES_SOON_MS,
        may_change=visitor.role in DESK,
        models_of=lambda names: [labels_of(request, words_for(request).lang).model(one) for one in names],
        customers=list_customers(api, visitor, limit=MAX_ITEMS).items if visitor.role in DESK else [],
    )  # fmt: skip


# --- one of them ---------------------------------------------------------------------------------------------------


@router.get("/settings/people/{person_id}")
def person_page(request: Request, api: Parts, visitor: ForOffice, person_id: PersonId) -> HTMLResponse:
    return _person_page(request, api, visitor, person_id)


@router.post("/settings/people/{person_id}/card")
def change_person_by_form(
    request: Request, api: Parts, visitor: ForDesk, person_id: PersonId, form: Sent
) -> Response:  # fmt: skip
    """`name`, `email`, `phone`, `lang`, and `role` where it may be given."""

    def change() -> None:
        given = {name: form.text(name) for name in ("name", "email", "phone", "lang", "role") if name in form.fields}
        people.change_person(api, visitor, Response(), person_id, made(PersonChange, given), form.tag)

    return _changed(request, api, visitor, person_id, change, "card")


@router.post("/settings/people/{person_id}/enable")
def enable_by_form(request: Request, api: Parts, visitor: ForDesk, person_id: PersonId, form: Sent) -> Response:
    def change() -> None:
        people.enable(api, visitor, Response(), person_id, form.tag)

    return _changed(request, api, visitor, person_id, change, "")


@router.post("/settings/people/{person_id}/contacts")
def set_contacts_by_form(
    request: Request, api: Parts, visitor: ForDesk, person_id: PersonId, form: Sent
) -> Response:  # fmt: skip
    """`channel.N`, `address.N`, `from.N`, `until.N` in the order of `order.N`; without an address it is none."""

    def change() -> None:
        lines = [n for n in range(MAX_CONTACTS + MORE_CONTACTS) if form.text(f"address.{n}")]
        lines.sort(key=lambda n: (form.whole(f"order.{n}") or n + 1, n))
        _check_addresses(form, lines)
        at = {
            f"contacts.{place}.{name}": f"{name}.{n}"
            for place, n in enumerate(lines)
            for name in ("channel", "address")
        }
        body = made(Contacts, {"contacts": [_contact(form, n) for n in lines]}, at)
        people.set_contacts(api, visitor, Response(), person_id, body, form.tag)

    return _changed(request, api, visitor, person_id, change, "contacts")


def _check_addresses(form: Form, lines: Sequence[int]) -> None:
    """Raises the 422 Problem that names the line; what an address may be is said by the channels alone."""
    for n in lines:
        try:
            contact_address(form.text(f"channel.{n}"), form.text(f"address.{n}"))
        except ValueError as error:
            raise Problem(422, "The request is not valid", f"address.{n}: {error}") from error


def _contact(form: Form, n: int) -> dict[str, Any]:
    return {
        "channel": form.text(f"channel.{n}"), "address": form.text(f"address.{n}"),
        "quiet_from_minute": form.minute(f"from.{n}") or 0, "quiet_until_minute": form.minute(f"until.{n}") or 0,
    }  # fmt: skip


@router.post("/settings/people/{person_id}/certificates")
def set_certificates_by_form(
    request: Request, api: Parts, visitor: ForDesk, person_id: PersonId, form: Sent
) -> Response:  # fmt: skip
    """`model`: each that they may work on; `until.MODEL`: the last day, if there is one. What is kept of the beginning
    stays."""

    def change() -> None:
        known = {one.profile: one for one in person_detail(api, Response(), person_id).certificates}
        body = made(Certificates, {"certificates": [_certificate(form, name, known.get(name)) for name in
                                                    dict.fromkeys(form.all("model"))]})  # fmt: skip
        people.set_certificates(api, visitor, Response(), person_id, body, form.tag)

    return _changed(request, api, visitor, person_id, change, "certificates")


def _certificate(form: Form, name: str, known: Any) -> dict[str, Any]:
    until_at = form.day(f"until.{name}", end=True)
    same = known is not None and known.until_at is not None and form.text(f"until.{name}") == _last_day(known, form)
    return {
        "profile": name, "since_at": known.since_at if known else None, "until_at": known.until_at if same else until_at
    }  # fmt: skip


def _last_day(certificate: Any, form: Form) -> str:
    return date_input(certificate.until_at - 1, form.zone)


@router.post("/settings/people/{person_id}/hours")
def set_hours_by_form(
    request: Request, api: Parts, visitor: ForDesk, person_id: PersonId, form: Sent
) -> Response:  # fmt: skip
    """`from.DAY.N` and `until.DAY.N`: the spells of each weekday; a line with nothing in it is none. Midnight ends a
    day."""

    def change() -> None:
        days = weekdays(words_for(request))
        spells = [spell for day in WEEK for n in range(MAX_PARTS) if (spell := _spell(form, day, n, days[day]))]
        people.set_hours(api, visitor, Response(), person_id, made(Hours, {"hours": spells}), form.tag)

    return _changed(request, api, visitor, person_id, change, "hours")


def _spell(form: Form, day: int, n: int, name: str) -> dict[str, int] | None:
    """A line of working hours. Raises the 422 Problem where only one half of it is filled in."""
    begins, ends = f"from.{day}.{n}", f"until.{day}.{n}"
    from_minute, until_minute = form.minute(begins), form.minute(ends)
    if from_minute is None and until_minute is None:
        return None
    if from_minute is None:
        raise Wrong(begins, N_("%(weekday)s, line %(line)s: when does it begin?"), weekday=name, line=n + 1)
    if until_minute is None:
        raise Wrong(ends, N_("%(weekday)s, line %(line)s: when does it end?"), weekday=name, line=n + 1)
    return {"weekday": day, "from_minute": from_minute, "until_minute": until_minute or 1440}


@router.post("/settings/people/{person_id}/home")
def set_home_by_form(
    request: Request, api: Parts, visitor: ForDesk, person_id: PersonId, form: Sent
) -> Response:  # fmt: skip
    def change() -> None:
        place = {"lat_deg": form.number("lat_deg"), "lon_deg": form.number("lon_deg")}
        body = made(Home, {**place, "timezone": form.text("timezone")})
        people.set_home(api, visitor, Response(), person_id, body, form.tag)

    return _changed(request, api, visitor, person_id, change, "home")


@router.post("/settings/people/{person_id}/absences")
def add_absence_by_form(
    request: Request, api: Parts, visitor: ForDesk, person_id: PersonId, form: Sent
) -> Response:  # fmt: skip
    """Whole days, the last one too."""

    def change() -> None:
        spell = {"from_at": form.day("from"), "until_at": form.day("until", end=True)}
        body = made(NewAbsence, {**spell, "reason": form.text("reason")})
        people.add_absence(api, visitor, Response(), person_id, body, form.tag)

    return _changed(request, api, visitor, person_id, change, "absences")


@router.post("/settings/people/{person_id}/absences/{part_id}/remove")
def remove_absence_by_form(
    request: Request, api: Parts, visitor: ForDesk, person_id: PersonId, part_id: PartId, form: Sent
) -> Response:  # fmt: skip
    def change() -> None:
        people.remove_absence(api, visitor, Response(), person_id, part_id, form.tag)

    return _changed(request, api, visitor, person_id, change, "absences")


@router.post("/settings/people/{person_id}/disable")
def disable_by_form(request: Request, api: Parts, visitor: ForDesk, person_id: PersonId, form: Sent) -> Response:
    def change() -> None:
        people.disable(api, visitor, Response(), person_id, form.tag)

    return _changed(request, api, visitor, person_id, change, "")


@router.post("/settings/people/{person_id}/erase")
def erase_by_form(request: Request, api: Parts, visitor: ForErasing, person_id: PersonId, form: Sent) -> Response:
    def change() -> None:
        people.erase_person(api, visitor, Response(), person_id, made(Confirmed, {"confirm": form.text("confirm")}))

    return _changed(request, api, visitor, person_id, change, "")


def _changed(request: Request, api: Api, visitor: Visitor, person_id: int, change: Any, part: str) -> Response:
    there = f"/settings/people/{person_id}{f'#{part}' if part else ''}"
    return done_or_told(change, there, lambda told: _person_page(request, api, visitor, person_id, told))


def _person_page(
    request: Request, api: Api, visitor: Visitor, person_id: int, complaint: Complaint | None = None
) -> HTMLResponse:  # fmt: skip
    kept = Response()
    person = person_detail(api, kept, person_id)
    words, now = words_for(request), api.clock()
    labels = labels_of(request, words.lang)
    ways = list_channels(api, visitor).channels if visitor.role in DESK else []
    given = people.ROLES_GIVEN.get(visitor.role, ())
    spells = {day: [one for one in person.hours if one.weekday == day] for day in WEEK}
    return render(
        request, "settings_person.html", visitor=visitor,
        complaint=complaint, person=person, seen=tag_in(kept),
        may_change=visitor.role in DESK and person.disabled_at is None,
        may_erase=may_erase(visitor, person) and person.erased_at is None,
        may_give=person.role in given, given=_roles_given(person.role, given),
        hears=[labels.notice_kind(one) for one in person.hears],
        roles=ROLES, channels=CHANNELS, ways=ways, lines=_lines(request, person), weekdays=weekdays(words),
        spells=spells, spell_lines={day: _spell_lines(request, day, len(some)) for day, some in spells.items()},
        models=_models(api, person), soon_at=now + LAPSES_SOON_MS, daily=clock_of(shipped_policy().daily_at_min),
        zones=zones(words.lang, now), company_zone=api.timezone, clock_of=clock_of,
        last_day=lambda at: date_input(at - 1, words.zone),
    )  # fmt: skip


def _lines(request: Request, person: PersonDetail) -> int:
    """How many lines the form for contacts has."""
    there = min(len(person.contacts) + MORE_CONTACTS, MAX_CONTACTS)
    return max(there, min(lines_sent(request, "address."), MAX_CONTACTS + MORE_CONTACTS))


def _roles_given(role: str, given: Sequence[Role]) -> dict[Role, str]:
    """The roles that somebody of this one may get by whoever gives these: a customer's account stays one."""
    if role == Role.CUSTOMER:
        return {Role.CUSTOMER: ROLES[Role.CUSTOMER]}
    return {one: ROLES[one] for one in given if one is not Role.CUSTOMER}


def _spell_lines(request: Request, day: int, there: int) -> int:
    """How many lines of working hours the form has for a weekday."""
    return min(max(there + 1, lines_sent(request, f"from.{day}.")), MAX_PARTS)


def _models(api: Api, person: PersonDetail) -> dict[str, Any]:
    """Every model with their certificate for it; one without a file comes last."""
    known = {one.profile: one for one in person.certificates}
    return {name: known.get(name) for name in (*sorted(api.profiles), *sorted(known.keys() - api.profiles.keys()))}


def weekdays(words: Words) -> Sequence[str]:
    """Their names, Monday first."""
    names = get_day_names("wide", "stand-alone", words.locale)
    return [names[day] for day in WEEK]
