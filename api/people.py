"""The people who carry tickets: what they may work on, when they are there, how they are reached, who is on call."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from api.access import ERASERS, ForDesk, ForErasing, ForOffice, ForStaff, KnownQuery
from api.context import Api, Parts
from api.problems import Problem, documented, not_found
from api.refusals import IfMatch, give_tag, refusals_told, seen_tag
from api.shapes import AskedMoment, Given, GivenMoment, Moment, Page, PersonShape, PlannedMoment, Shape
from monitor.desk.dispatch import position_of
from monitor.desk.notices import ROLES, Kind
from monitor.desk.rota import Rotation, WorkingHours
from monitor.notify.channels import CONTACTS, contact_address
from monitor.store import people, queries
from monitor.store.access import Role, Visitor
from monitor.store.erasure import Erasure
from monitor.store.people import Certified, People, Reached
from monitor.store.registry import Refused, Registry

router = APIRouter(prefix="/api/v1", tags=["people"], dependencies=[KnownQuery])

PersonId = Annotated[int, Path(ge=1, lt=2**63)]
RotationId = Annotated[int, Path(ge=1, lt=2**63)]
PartId = Annotated[int, Path(ge=1, lt=2**63)]
DayMinute = Annotated[int, Field(ge=0, le=1439)]
Id = Annotated[int, Field(ge=1, lt=2**63)]

ROTA_DAYS = 14
MAX_ROTA_DAYS = 366


# --- shapes --------------------------------------------------------------------------------------------------------


class CertificateShape(Shape):
    """P1: a model that somebody may work on."""

    profile: str
    since_at: Moment
    until_at: Moment | None


class HoursShape(Shape):
    """One spell of work a week, by the clock on the wall where they live."""

    weekday: int = Field(description="0 is Monday.")
    from_minute: int
    until_minute: int = Field(description="Not after the beginning: on the next day.")


class AbsenceShape(Shape):
    id: int
    from_at: Moment
    until_at: Moment
    reason: str


class ContactShape(Shape):
    channel: str
    address: str
    quiet_from_minute: int
    quiet_until_minute: int
    bounced_at: Moment | None = Field(description="Since when it does not work; given again it is tried again.")
    bounce: str


class ReachedShape(Shape):
    """By which channels something so grave is tried, the first first; a contact in its quiet hours is passed over by
    all but emergencies."""

    severity: str
    channels: list[str]


class PersonDetail(PersonShape):
    lat_deg: float | None
    lon_deg: float | None
    timezone: str = Field(description="'': the company's.")
    certificates: list[CertificateShape]
    hours: list[HoursShape]
    absences: list[AbsenceShape]
    contacts: list[ContactShape]
    hears: list[str] = Field(description="The kinds of notices that people of this role are told.")
    reached: list[ReachedShape] = Field(description="Empty where nothing is told to them any more.")


class OverrideShape(Shape):
    id: int
    person_id: int
    from_at: Moment
    until_at: Moment


class RotationShape(Shape):
    id: int
    name: str
    timezone: str
    people: list[int] = Field(description="In the order of their turns.")
    shift_h: int
    handover_weekday: int
    handover_minute: int
    starts_at: Moment
    ends_at: Moment | None
    overrides: list[OverrideShape]
    tag: str = Field(description="What an If-Match may name.")


class OnCallShape(BaseModel):
    """Who is on call from..until, and why it is them."""

    rotation_id: int
    rotation: str
    person_id: int
    person_name: str
    from_at: Moment
    until_at: Moment
    because: Literal["turn", "override", "stand_in"]


# --- what is given -------------------------------------------------------------------------------------------------


class NewPerson(Given):
    name: str = Field(min_length=1, max_length=200)
    role: Literal["ops", "technician", "customer", "service", "manager", "admin"]
    email: str = Field(max_length=254)
    phone: str = Field("", max_length=40)
    lang: Literal["zh", "en"] = "zh"
    customer: str | None = Field(None, max_length=200, description="Of role customer: whom they are with.")


class PersonChange(Given):
    """What is to change of somebody; what is left out stays."""

    name: str = Field("", min_length=1, max_length=200)
    role: Literal["ops", "technician", "customer", "service", "manager", "admin"] = Field(
        "technician", description="One that the visitor may give. A customer's account stays one."
    )
    email: str = Field("", max_length=254)
    phone: str = Field("", max_length=40)
    lang: Literal["zh", "en"] = "zh"


class NewCertificate(Given):
    profile: str = Field(min_length=1, max_length=64)
    since_at: GivenMoment | None = Field(None, description="Now, without it.")
    until_at: PlannedMoment | None = None


class Certificates(Given):
    certificates: list[NewCertificate] = Field(max_length=people.MAX_PARTS)


class Spell(Given):
    weekday: int = Field(ge=0, le=6, description="0 is Monday.")
    from_minute: DayMinute
    until_minute: int = Field(ge=0, le=1440, description="Not after the beginning: on the next day.")


class Hours(Given):
    hours: list[Spell] = Field(max_length=people.MAX_PARTS)


class NewContact(Given):
    channel: Annotated[str, Field(max_length=16, description=f"One of: {', '.join(CONTACTS)}.")]
    address: str = Field(min_length=1, max_length=400)
    quiet_from_minute: DayMinute = Field(0, description="Between these only emergencies use it; equal: none.")
    quiet_until_minute: DayMinute = 0


class Contacts(Given):
    contacts: list[NewContact] = Field(max_length=people.MAX_CONTACTS, description="The first choice first.")


class Home(Given):
    lat_deg: float | None = Field(None, ge=-90, le=90, allow_inf_nan=False)
    lon_deg: float | None = Field(None, ge=-180, le=180, allow_inf_nan=False)
    timezone: str = Field("", max_length=64, description="IANA name; '': the company's.")


class NewAbsence(Given):
    from_at: PlannedMoment
    until_at: PlannedMoment
    reason: str = Field("", max_length=120)


class NewRotation(Given):
    name: str = Field(min_length=1, max_length=120)
    people: list[Id] = Field(min_length=1, max_length=people.MAX_TURNS, description="In the order of their turns.")
    shift_h: int = Field(ge=1, le=8784, description="Hours of the clock on the wall that one turn lasts.")
    handover_weekday: int = Field(0, ge=0, le=6)
    handover_minute: DayMinute = 480
    timezone: str | None = Field(None, max_length=64, description="The company's, without it.")
    starts_at: PlannedMoment | None = Field(None, description="Now, without it.")
    ends_at: PlannedMoment | None = None


class NewOverride(Given):
    person_id: Id
    from_at: PlannedMoment
    until_at: PlannedMoment


class Confirmed(Given):
    confirm: str = Field(max_length=200, description="Their name as it stands here: what is erased does not come back.")


ROLES_GIVEN: dict[Role, tuple[Role, ...]] = {
    Role.ADMIN: tuple(Role),
    Role.OPS: (Role.OPS, Role.MANAGER, Role.SERVICE, Role.TECHNICIAN, Role.CUSTOMER),
    Role.SERVICE: (Role.SERVICE, Role.TECHNICIAN, Role.CUSTOMER),
}
"""Which roles whoever keeps the people may give and end: none that may do more than their own."""


def check_may_give(visitor: Visitor, role: str) -> None:
    """Raises the 403 Problem where the visitor would make, or unmake, somebody who may do more than themselves."""
    given = ROLES_GIVEN.get(visitor.role, ())
    if role not in given:
        allowed = ", ".join(given) or "none"
        raise Problem(403, "Not allowed", f"role: as {visitor.role} you may keep people of these: {allowed}")


# --- one person ----------------------------------------------------------------------------------------------------


@router.post("/people", status_code=201, responses=documented(401, 403, 422))
def add_person(api: Parts, visitor: ForDesk, response: Response, body: NewPerson) -> PersonDetail:
    """Somebody who signs in or is told things, in a role that the visitor may give."""
    check_may_give(visitor, body.role)
    with refusals_told("person"):
        person_id = Registry(api.database, visitor.actor).add_person(
            body.name, body.role, body.email, phone=body.phone, lang=body.lang, customer=body.customer, now=api.clock()
        )
    return person_detail(api, response, person_id)


@router.get("/people/{person_id}", responses=documented(401, 403, 404))
def one_person(api: Parts, _: ForOffice, response: Response, person_id: PersonId) -> PersonDetail:
    """One person with all that is kept of them, and the ETag that a change may name."""
    return person_detail(api, response, person_id)


@router.patch("/people/{person_id}", responses=documented(401, 403, 404, 409, 412, 422))
def change_person(
    api: Parts, visitor: ForDesk, response: Response, person_id: PersonId, body: PersonChange, if_match: IfMatch = None
) -> PersonDetail:
    """Change somebody's name, address, telephone, language or role. Only who may give both the role that they have and
    the one that they get; whoever gets another role or e-mail address signs in anew."""
    changes = body.model_dump(exclude_unset=True)
    _check_may_change(api, visitor, person_id)
    if "role" in changes:
        check_may_give(visitor, changes["role"])
    with refusals_told("person"):
        _commands(api, visitor.actor).change(person_id, changes, api.clock(), seen=seen_tag(if_match))
    return person_detail(api, response, person_id)


@router.post("/people/{person_id}/enable", responses=documented(401, 403, 404, 412, 422))
def enable(
    api: Parts, visitor: ForDesk, response: Response, person_id: PersonId, if_match: IfMatch = None
) -> PersonDetail:
    """They are back: they sign in by a link, and are told things again. Only who may give somebody's role."""
    _check_may_change(api, visitor, person_id)
    with refusals_told("person"):
        _commands(api, visitor.actor).enable(person_id, api.clock(), seen=seen_tag(if_match))
    return person_detail(api, response, person_id)


def _check_may_change(api: Api, visitor: Visitor, person_id: int) -> None:
    """Raises the 403 Problem where there is somebody who may do more than the visitor."""
    with api.reading() as connection:
        there = people.person_row(connection, person_id)
    if there is not None:
        check_may_give(visitor, there.role)


@router.post("/people/{person_id}/certificates", responses=documented(401, 403, 404, 412, 422))
def set_certificates(
    api: Parts, visitor: ForDesk, response: Response, person_id: PersonId, body: Certificates, if_match: IfMatch = None
) -> PersonDetail:
    """What they may work on, in the place of what was there (P1)."""
    now = api.clock()
    given = [Certified(one.profile, now if one.since_at is None else one.since_at, one.until_at)
             for one in body.certificates]  # fmt: skip
    with refusals_told("person"):
        _commands(api, visitor.actor).certify(person_id, given, now, seen=seen_tag(if_match))
    return person_detail(api, response, person_id)


@router.post("/people/{person_id}/hours", responses=documented(401, 403, 404, 412, 422))
def set_hours(
    api: Parts, visitor: ForDesk, response: Response, person_id: PersonId, body: Hours, if_match: IfMatch = None
) -> PersonDetail:
    """Their week, in the place of what was there."""
    with refusals_told("person"), _words_of_the_rota():
        given = [WorkingHours(one.weekday, one.from_minute, one.until_minute) for one in body.hours]
        _commands(api, visitor.actor).set_hours(person_id, given, api.clock(), seen=seen_tag(if_match))
    return person_detail(api, response, person_id)


@router.post("/people/{person_id}/contacts", responses=documented(401, 403, 404, 412, 422))
def set_contacts(
    api: Parts, visitor: ForDesk, response: Response, person_id: PersonId, body: Contacts, if_match: IfMatch = None
) -> PersonDetail:
    """How they are reached, in the place of what was there. Without any it is by their e-mail."""
    given = [Reached(one.channel, one.address, one.quiet_from_minute, one.quiet_until_minute) for one in body.contacts]
    with refusals_told("person"):
        _commands(api, visitor.actor).set_contacts(person_id, given, api.clock(), seen=seen_tag(if_match))
    return person_detail(api, response, person_id)


@router.post("/people/{person_id}/home", responses=documented(401, 403, 404, 412, 422))
def set_home(
    api: Parts, visitor: ForDesk, response: Response, person_id: PersonId, body: Home, if_match: IfMatch = None
) -> PersonDetail:
    """Where they set out from; nulls: not known."""
    if (body.lat_deg is None) != (body.lon_deg is None):
        raise Problem(422, "The request is not valid", "lat_deg and lon_deg go together")
    with refusals_told("person"):
        home = position_of(body.lat_deg, body.lon_deg)
        _commands(api, visitor.actor).set_home(person_id, home, body.timezone, api.clock(), seen=seen_tag(if_match))
    return person_detail(api, response, person_id)


@router.post("/people/{person_id}/absences", status_code=201, responses=documented(401, 403, 404, 412, 422))
def add_absence(
    api: Parts, visitor: ForDesk, response: Response, person_id: PersonId, body: NewAbsence, if_match: IfMatch = None
) -> PersonDetail:
    """They are away: on leave, ill, at a training. Somebody else takes their turns on call."""
    with refusals_told("person"):
        _commands(api, visitor.actor).add_absence(
            person_id, body.from_at, body.until_at, body.reason, api.clock(), seen=seen_tag(if_match)
        )
    return person_detail(api, response, person_id)


@router.post("/people/{person_id}/absences/{part_id}/remove", responses=documented(401, 403, 404, 412, 422))
def remove_absence(
    api: Parts, visitor: ForDesk, response: Response, person_id: PersonId, part_id: PartId, if_match: IfMatch = None
) -> PersonDetail:
    """They are there after all."""
    with refusals_told("absence"):
        _commands(api, visitor.actor).remove_absence(person_id, part_id, api.clock(), seen=seen_tag(if_match))
    return person_detail(api, response, person_id)


@router.post("/people/{person_id}/disable", responses=documented(401, 403, 404, 412, 422))
def disable(
    api: Parts, visitor: ForDesk, response: Response, person_id: PersonId, if_match: IfMatch = None
) -> PersonDetail:
    """They have left: no sign-in, no notices, no turns. Only who may give somebody's role may end it."""
    _check_may_change(api, visitor, person_id)
    with refusals_told("person"):
        _commands(api, visitor.actor).disable(person_id, api.clock(), seen=seen_tag(if_match))
    return person_detail(api, response, person_id)


@router.post("/people/{person_id}/erase", responses=documented(401, 403, 404, 409, 422))
def erase_person(
    api: Parts, visitor: ForErasing, response: Response, person_id: PersonId, body: Confirmed
) -> PersonDetail:  # fmt: skip
    """What is known of them goes, for good; what they did stays under a number. Not while they carry open work (409),
    and nobody erases themselves."""
    with api.reading() as connection:
        there = people.person_row(connection, person_id)
    if there is not None and not may_erase(visitor, there):
        raise Problem(
            403, "Not allowed", "Nobody erases themselves, and only an administrator erases an administrator."
        )
    with refusals_told("person"):
        Erasure(api.database, visitor.actor).person(person_id, body.confirm, api.clock())
    return person_detail(api, response, person_id)


def may_erase(visitor: Visitor, person: queries.AnyRow | PersonShape) -> bool:
    """Nobody erases themselves, nor somebody who may do more."""
    more = person.role == Role.ADMIN and visitor.role is not Role.ADMIN
    return visitor.role in ERASERS and not more and person.id != visitor.person_id


def _commands(api: Api, actor: str) -> People:
    return People(api.database, actor, contact_address, profiles=set(api.profiles))


def person_detail(api: Api, response: Response, person_id: int) -> PersonDetail:
    """Raises the 404 Problem where there is nobody."""
    with api.reading() as connection:
        row = people.person_row(connection, person_id)
        parts = people.parts_of(connection, person_id)
        reach = api.desk.telling.reach(connection, person_id)
    if row is None:
        raise not_found("person")
    give_tag(response, people.person_tag(row, parts))
    reached = [ReachedShape(severity=severity, channels=list(dict.fromkeys(way.channel for way in ways)))
               for severity, ways in reach.items() if ways]  # fmt: skip
    return PersonDetail.model_validate({**row._mapping, **parts, "hears": heard_by(row.role), "reached": reached})


def heard_by(role: str) -> list[str]:
    """The kinds of notices that people of a role are told."""
    told = Kind if role == "customer" else ROLES
    return [kind for kind in told if (kind not in ROLES if role == "customer" else role in ROLES[kind])]


# --- on call -------------------------------------------------------------------------------------------------------


@router.get("/rotations", responses=documented(401, 403))
def list_rotations(api: Parts, _: ForStaff) -> Page[RotationShape]:
    """Who takes turns with whom; at most 100."""
    with api.reading() as connection:
        rows = people.rotation_rows(connection)
        overrides = people.override_rows(connection, [row.id for row in rows])
    items = [_rotation_shape(row, [one for one in overrides if one.rotation_id == row.id]) for row in rows]
    return Page(items=items, next=None)


@router.get("/rotations/{rotation_id}", responses=documented(401, 403, 404))
def one_rotation(api: Parts, _: ForStaff, response: Response, rotation_id: RotationId) -> RotationShape:
    """One rotation, with the ETag that a change may name."""
    with api.reading() as connection:
        row = people.rotation_row(connection, rotation_id)
        overrides = people.override_rows(connection, [rotation_id])
    if row is None:
        raise not_found("rotation")
    shape = _rotation_shape(row, overrides)
    give_tag(response, shape.tag)
    return shape


def _rotation_shape(row: people.Row, overrides: Sequence[people.Row]) -> RotationShape:
    tag = people.rotation_tag(row, overrides)
    return RotationShape.model_validate({**row._mapping, "overrides": overrides, "tag": tag})


@router.post("/rotations", status_code=201, responses=documented(401, 403, 422))
def add_rotation(api: Parts, visitor: ForDesk, body: NewRotation) -> Page[RotationShape]:
    """People take turns at being on call. Another order of people is another rotation."""
    now = api.clock()
    with refusals_told("rotation"), _words_of_the_rota():
        rotation = Rotation(
            0, api.timezone if body.timezone is None else body.timezone, tuple(body.people), body.shift_h,
            body.handover_weekday, body.handover_minute, now if body.starts_at is None else body.starts_at,
            body.ends_at,
        )  # fmt: skip
        People(api.database, visitor.actor).add_rotation(body.name, rotation, now)
    return list_rotations(api, visitor)


@router.post("/rotations/{rotation_id}/end", responses=documented(401, 403, 404, 412, 422))
def end_rotation(
    api: Parts, visitor: ForDesk, rotation_id: RotationId, if_match: IfMatch = None
) -> Page[RotationShape]:  # fmt: skip
    """Nobody takes turns in it from now on."""
    with refusals_told("rotation"):
        People(api.database, visitor.actor).end_rotation(rotation_id, api.clock(), seen=seen_tag(if_match))
    return list_rotations(api, visitor)


@router.post("/rotations/{rotation_id}/overrides", status_code=201, responses=documented(401, 403, 404, 412, 422))
def override(
    api: Parts, visitor: ForDesk, rotation_id: RotationId, body: NewOverride, if_match: IfMatch = None
) -> Page[RotationShape]:
    """Somebody else takes a shift, or a part of it."""
    with refusals_told("rotation"):
        People(api.database, visitor.actor).override(
            rotation_id, body.person_id, body.from_at, body.until_at, api.clock(), seen=seen_tag(if_match)
        )
    return list_rotations(api, visitor)


@router.post("/rotations/{rotation_id}/overrides/{part_id}/remove", responses=documented(401, 403, 404, 412, 422))
def remove_override(
    api: Parts, visitor: ForDesk, rotation_id: RotationId, part_id: PartId, if_match: IfMatch = None
) -> Page[RotationShape]:
    """The rotation goes on as it would have."""
    with refusals_told("override"):
        People(api.database, visitor.actor).remove_override(
            rotation_id, part_id, api.clock(), seen=seen_tag(if_match)
        )  # fmt: skip
    return list_rotations(api, visitor)


@router.get("/rota", responses=documented(401, 403, 422))
def rota(
    api: Parts,
    _: ForStaff,
    from_at: Annotated[AskedMoment | None, Query(alias="from", description="Now, without it.")] = None,
    until_at: Annotated[AskedMoment | None, Query(alias="to", description="A fortnight, without it.")] = None,
) -> Page[OnCallShape]:
    """Who is on call, rotation by rotation. Where a stretch is missing, nobody is."""
    day_ms = 86_400_000
    start_at = api.clock() if from_at is None else from_at
    end_at = start_at + ROTA_DAYS * day_ms if until_at is None else until_at
    if not 0 < end_at - start_at <= MAX_ROTA_DAYS * day_ms:
        raise Problem(422, "The request is not valid", f"from, to: at most {MAX_ROTA_DAYS} days, in this order")
    with api.reading() as connection:
        crew = people.load_staff(connection, api.timezone, {}, start_at)
        spells = crew.rota.on_call(start_at, end_at)
        names = people.names(connection, {one.person_id for one in spells})
        rotations = {row.id: row.name for row in people.rotation_rows(connection)}
    items = [
        OnCallShape(
            rotation_id=one.rotation_id, rotation=rotations.get(one.rotation_id, ""), person_id=one.person_id,
            person_name=names.get(one.person_id, ""), from_at=one.start_at, until_at=one.end_at,
            because=one.because.value,
        )
        for one in spells
    ]  # fmt: skip
    return Page(items=items, next=None)


@contextmanager
def _words_of_the_rota() -> Iterator[None]:
    """Within, what the rota's own values refuse is the caller's mistake."""
    try:
        yield
    except Refused:
        raise
    except ValueError as error:
        raise Refused(str(error)) from error
