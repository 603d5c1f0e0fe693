"""Somebody's own account: how they read, how they are told things, and how they sign in."""

from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from api.access import ForAll, KnownQuery
from api.context import Api, Parts
from api.people import ContactShape
from api.problems import documented, not_found
from api.refusals import refusals_told
from api.shapes import Given, Moment, Shape
from monitor.notify.channels import contact_address
from monitor.store import passwords, people, second_factor
from monitor.store.access import Visitor
from monitor.store.people import People, Reached

router = APIRouter(prefix="/api/v1", tags=["account"], dependencies=[KnownQuery])


class AccountShape(Shape):
    person_id: int
    name: str
    role: str
    email: str
    phone: str
    lang: Literal["zh", "en"]
    timezone: str = Field(description="'': the company's.")
    contacts: list[ContactShape] = Field(description="The first choice first. Without any it is by e-mail.")
    password_set_at: Moment | None = Field(description="null: signs in by links alone.")
    second_factor_since_at: Moment | None = Field(description="null: it is off.")
    recovery_codes: int = Field(description="How many were not used yet.")


class Reading(Given):
    lang: Literal["zh", "en"] | None = Field(None, description="null: as it was.")
    timezone: str | None = Field(None, max_length=64, description="IANA name; '': the company's; null: as it was.")


def person_of(visitor: Visitor) -> int:
    """Whose account it is. Raises the 404 Problem for built-in accounts and tokens, which are nobody's."""
    if visitor.person_id is None:
        raise not_found("account")
    return visitor.person_id


@router.get("/account", responses=documented(401, 403, 404))
def own_account(api: Parts, visitor: ForAll) -> AccountShape:
    """What is kept of whoever asks."""
    person_id = person_of(visitor)
    with api.reading() as connection:
        row = people.person_row(connection, person_id)
        if row is None:
            raise not_found("account")
        contacts = people.parts_of(connection, person_id)["contacts"]
        password_set_at = passwords.set_at(connection, person_id)
        factor = second_factor.state(connection, person_id)
    return AccountShape(
        person_id=row.id, name=row.name, role=row.role, email=row.email, phone=row.phone, lang=row.lang,
        timezone=row.timezone, contacts=[ContactShape.model_validate(one) for one in contacts],
        password_set_at=password_set_at, second_factor_since_at=factor.since_at, recovery_codes=factor.codes_left,
    )  # fmt: skip


@router.patch("/account", responses=documented(401, 403, 404, 422))
def set_reading(api: Parts, visitor: ForAll, body: Reading) -> AccountShape:
    """In which language, and by which clock, they want to read."""
    person_id = person_of(visitor)
    with refusals_told("account"):
        People(api.database, visitor.actor).set_reading(
            person_id, api.clock(), lang=body.lang, timezone=body.timezone
        )  # fmt: skip
    return own_account(api, visitor)


def set_quiet_hours(api: Api, visitor: Visitor, contacts: list[Reached]) -> None:
    """Order and quiet hours of somebody's own contacts. Raises the 422 Problem where one cannot be as it is."""
    with refusals_told("account"):
        People(api.database, visitor.actor, contact_address).set_contacts(person_of(visitor), contacts, api.clock())
