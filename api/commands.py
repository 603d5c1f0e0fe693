"""What machines are asked: a self-test on request, what became of it, and what it means for a ticket."""

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import RedirectResponse, Response
from pydantic import Field
from sqlalchemy import Connection

from api.access import ForDoers, ForStaff, KnownQuery
from api.context import Api, Parts
from api.devices import DeviceId
from api.labels import Labels
from api.problems import Problem, documented, not_found
from api.shapes import CheckShape, CommandShape, Given, Page, SelfTestShape, TicketShape, TipShape, plain
from monitor.desk.diagnosis import Check, SelfTest, advise, read, shipped_policy, words
from monitor.desk.tickets import Status
from monitor.engine import diagnosis
from monitor.store import commands, queries
from monitor.store.access import Role, Visitor

router = APIRouter()
api_router = APIRouter(prefix="/api/v1", tags=["machines"], dependencies=[KnownQuery])

COMMANDS_TOLD = 20
TicketId = Annotated[int, Path(ge=1, lt=2**63)]


class Wish(Given):
    """For which ticket a machine is asked. A technician names one of their own."""

    ticket_id: int | None = Field(
        None, ge=1, lt=2**63, description="Its answer is the remote diagnosis of this ticket."
    )


@api_router.post("/devices/{device_id}/diagnose", status_code=202, responses=documented(401, 403, 404, 409, 422))
def diagnose(api: Parts, visitor: ForDoers, device_id: DeviceId, wish: Wish | None = None) -> CommandShape:
    """Ask a machine to test itself. It is asked again until it answers, for half an hour; while one question is under
    way the same one is answered with."""
    return command_shape(_request(api, visitor, device_id, wish.ticket_id if wish else None))


@api_router.get("/devices/{device_id}/commands", responses=documented(401, 403, 404))
def list_commands(api: Parts, visitor: ForStaff, device_id: DeviceId) -> Page[CommandShape]:
    """What a machine was asked, the newest 20 first, with what it answered."""
    with api.reading() as connection:
        if queries.device_row(connection, api.scope(visitor), device_id) is None:
            raise not_found("machine")
        rows = commands.of_device(connection, device_id, COMMANDS_TOLD)
    return Page(items=[command_shape(row) for row in rows], next=None)


@router.post("/tickets/{ticket_id}/self-test", include_in_schema=False)
def ask_from_page(api: Parts, visitor: ForDoers, ticket_id: TicketId) -> Response:
    """Ask the machine of a ticket, and show the ticket again."""
    with api.reading() as connection:
        ticket = queries.ticket_row(connection, api.scope(visitor), ticket_id)
    if ticket is None or ticket.device_id is None:
        raise not_found("ticket")
    _request(api, visitor, ticket.device_id, ticket_id)
    return RedirectResponse(f"/tickets/{ticket_id}", 303)


router.include_router(api_router)


def _request(api: Api, visitor: Visitor, device_id: str, ticket_id: int | None) -> commands.Row:
    with api.reading() as connection:
        scope = api.scope(visitor)
        if queries.device_row(connection, scope, device_id) is None:
            raise not_found("machine")
        ticket = queries.ticket_row(connection, scope, ticket_id) if ticket_id is not None else None
    if ticket_id is not None and (ticket is None or ticket.device_id != device_id):
        raise not_found("ticket of this machine")
    if visitor.role is Role.TECHNICIAN and not _own(visitor, ticket.technician_id if ticket else None):
        raise Problem(403, "Not allowed", "A technician asks the machine of a ticket of their own: name its ticket_id.")
    try:
        return diagnosis.request(api.database, device_id, ticket_id, visitor.actor, api.clock())
    except diagnosis.CannotAsk as refusal:
        raise Problem(409, "It cannot be asked now", str(refusal)) from refusal


def may_ask(visitor: Visitor, ticket: TicketShape) -> bool:
    """Whether this visitor may ask the machine of this ticket."""
    if ticket.device_id is None or not Status(ticket.status).is_open:
        return False
    if visitor.role is Role.TECHNICIAN:
        return _own(visitor, ticket.technician_id)
    return visitor.role in (Role.OPS, Role.SERVICE, Role.ADMIN)


def _own(visitor: Visitor, technician_id: int | None) -> bool:
    return visitor.person_id is not None and technician_id == visitor.person_id


def command_shape(row: commands.Row) -> CommandShape:
    return CommandShape.model_validate({**row._mapping, "status": _status(row)})


def _status(row: commands.Row) -> str:
    if row.answered_at is not None:
        return "answered" if row.ok else "failed"
    if row.given_up_at is not None:
        return "given_up"
    return "sent" if row.sends else "waiting"


# --- on a ticket ---------------------------------------------------------------------------------------------------


def self_test(connection: Connection, ticket: queries.AnyRow, labels: Labels, *, ours: bool) -> SelfTestShape | None:
    """The remote diagnosis of a ticket. A customer hears what to do, once there is an answer, and no more."""
    newest, answered = commands.of_ticket(connection, ticket.id)
    if newest is None or not (ours or (answered is not None and answered.ok)):
        return None
    policy, said = shipped_policy(), words(labels.words.lang)
    test = read(plain(answered.result), policy) if answered is not None else SelfTest()
    given = answered is not None and answered.ok and not test.empty
    advice = advise(test, ticket.kind, ticket.subject, policy) if given else None
    tips = advice.technician if advice and ours else ()
    return SelfTestShape.model_validate({
        "status": _status(newest), "asked_at": newest.asked_at, "sends": newest.sends, "reason": newest.reason,
        "reason_text": said.reason.get(newest.reason, newest.reason),
        "answered_at": answered.answered_at if answered is not None else None,
        "checks": [_check_shape(check, said.check, said.says) for check in test.checks] if ours else [],
        "codes": test.codes if ours else (),
        "facts": dict(test.rest) if ours else {},
        "technician": [
            TipShape(code=tip.code, text=labels.colon(said.technician[tip.code], tip.about)) for tip in tips
        ],
        "customer": TipShape(code=advice.customer, text=said.customer[advice.customer]) if advice else None,
    })  # fmt: skip


def _check_shape(check: Check, titles: dict[str, str], says: dict[str, str]) -> CheckShape:
    return CheckShape(
        name=check.name, title=titles.get(check.name, check.name), says=check.says,
        text=says.get(check.says, check.says), well=check.well,
    )  # fmt: skip
