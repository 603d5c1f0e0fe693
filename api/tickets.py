"""Tickets: their list, one with its whole course, its clocks, and the steps that people take."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy import Connection

from api import evidence
from api.access import ForAll, ForDoers, KnownQuery
from api.context import Api, Parts
from api.evidence import Evidence
from api.labels import Labels, labels_of
from api.paging import Cursor, Limit, cut, key_of
from api.problems import Problem, documented, not_found
from api.shapes import (
    Act,
    AmendmentShape,
    CommitmentShape,
    FaultShape,
    NoticeShape,
    Page,
    StepShape,
    TicketDetail,
    TicketShape,
    plain,
)
from monitor.desk.notices import headline
from monitor.desk.tickets import NotPossible, Status, Ticket, Verb, allowed
from monitor.engine import NoSuchTicket
from monitor.store import queries
from monitor.store.access import Role, Visitor

router = APIRouter(prefix="/api/v1", tags=["tickets"], dependencies=[KnownQuery])

TicketId = Annotated[int, Path(ge=1, lt=2**63)]

# What a technician does; the rest is the desk's.
ON_THE_JOB = (Verb.ACCEPT, Verb.DECLINE, Verb.DEPART, Verb.ARRIVE, Verb.START_REPAIR, Verb.RESOLVE)


@router.get("/tickets", responses=documented(401, 403, 422))
def list_tickets(
    api: Parts,
    visitor: ForAll,
    device_id: Annotated[str | None, Query(max_length=64)] = None,
    status: Annotated[
        str | None, Query(max_length=200, description="One status, or several with commas between: open,verified")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[TicketShape]:
    """Tickets with their clocks, the newest first. A customer sees those of the rentals that run now."""
    statuses = _statuses(status)
    with api.reading() as connection:
        rows = queries.tickets(
            connection,
            api.scope(visitor),
            device_id=device_id,
            statuses=statuses,
            before=key_of(cursor, int),
            limit=limit + 1,
        )
        items, following = cut(with_clocks(connection, rows), limit, "id")
    return Page(items=items, next=following)


@router.get("/tickets/{ticket_id}", responses=documented(401, 403, 404, 422))
def one_ticket(
    request: Request,
    api: Parts,
    visitor: ForAll,
    ticket_id: TicketId,
    readings: Annotated[bool, Query(description="Whether the evidence brings the readings along.")] = True,
) -> TicketDetail:
    """One ticket with everything that belongs to it: what happened and how we know, its clocks, its steps, who was
    told."""
    return ticket_detail(api, visitor, ticket_id, labels_of(request, "en"), with_readings=readings)[0]


@router.get("/tickets/{ticket_id}/commitments", responses=documented(401, 403, 404))
def ticket_commitments(api: Parts, visitor: ForAll, ticket_id: TicketId) -> Page[CommitmentShape]:
    """The clocks of one ticket, the first due first."""
    with api.reading() as connection:
        row = visible(connection, api, visitor, ticket_id)
        clocks = queries.commitments(connection, [row.id])[row.id]
    return Page(items=[CommitmentShape.model_validate(clock) for clock in clocks], next=None)


@router.post("/tickets/{ticket_id}/{verb}", responses=documented(401, 403, 404, 409, 422))
def act(
    request: Request, api: Parts, visitor: ForDoers, ticket_id: TicketId, verb: Verb, body: Act | None = None
) -> TicketDetail:
    """Take one step with a ticket. A step that is not possible now answers 409 and names those that are.

    A technician takes their own tickets, or accepts one that nobody has.
    """
    take_step(api, visitor, ticket_id, verb, body or Act())
    return ticket_detail(api, visitor, ticket_id, labels_of(request, "en"), with_readings=False)[0]


def take_step(api: Api, visitor: Visitor, ticket_id: int, verb: Verb, step: Act) -> None:
    """Hand one step to the desk. Raises the Problem to answer by where it cannot be taken."""
    with api.reading() as connection:
        row = visible(connection, api, visitor, ticket_id)
    technician_id = step.technician_id
    if visitor.role is Role.TECHNICIAN:
        technician_id = _check_own(visitor, row, verb, technician_id)
    elif technician_id is not None:
        _check_technician(api, technician_id)
    try:
        api.desk.act(
            ticket_id,
            verb,
            visitor.actor,
            api.clock(),
            technician_id=technician_id,
            happened_at=step.happened_at,
            note=step.note,
        )
    except NotPossible as refusal:
        possible = [str(choice) for choice in refusal.allowed]
        raise Problem(409, "This step is not possible now", refusal.detail, allowed=possible) from refusal
    except NoSuchTicket as missing:
        raise not_found("ticket") from missing


def _check_own(visitor: Visitor, row: queries.AnyRow, verb: Verb, named: int | None) -> int | None:
    """A technician acts for nobody else; answers the technician that the step names."""
    if verb not in ON_THE_JOB:
        raise Problem(403, "Not allowed", f"{verb} is for the desk; a technician can {', '.join(ON_THE_JOB)}.")
    if visitor.person_id is None:
        raise Problem(403, "Not allowed", "This account is no person's: sign in as a technician by name.")
    unclaimed = row.technician_id is None and verb is Verb.ACCEPT
    if not unclaimed and row.technician_id != visitor.person_id:
        raise Problem(403, "Not allowed", "This ticket is another technician's, or nobody's yet.")
    if named not in (None, visitor.person_id):
        raise Problem(403, "Not allowed", "technician_id: a technician can only name themselves")
    return visitor.person_id if verb is Verb.ACCEPT else None


def _check_technician(api: Api, technician_id: int) -> None:
    with api.reading() as connection:
        if technician_id not in {row.id for row in queries.technicians(connection)}:
            raise Problem(422, "The request is not valid", "technician_id: no technician has this id; see /people")


def with_clocks(connection: Connection, rows: queries.Rows) -> list[TicketShape]:
    clocks = queries.commitments(connection, [row.id for row in rows])
    return [
        TicketShape.model_validate({
            **row._mapping, "commitments": clocks.get(row.id, []), "facts": plain(row.evidence)
        })
        for row in rows
    ]  # fmt: skip


def visible(connection: Connection, api: Api, visitor: Visitor, ticket_id: int) -> queries.AnyRow:
    """Raises the 404 Problem where there is no ticket that the visitor may see."""
    row = queries.ticket_row(connection, api.scope(visitor), ticket_id)
    if row is None:
        raise not_found("ticket")
    return row


def ticket_detail(
    api: Api, visitor: Visitor, ticket_id: int, labels: Labels, *, with_readings: bool
) -> tuple[TicketDetail, Evidence | None]:
    """A ticket as this visitor may see it, and what its evidence was made from: customers read what happened and what
    is promised, not how we know."""
    ours = visitor.role is not Role.CUSTOMER
    with api.reading() as connection:
        row = visible(connection, api, visitor, ticket_id)
        clocks = queries.commitments(connection, [row.id])[row.id]
        faults = queries.faults_of_ticket(connection, row.id)
        steps = queries.steps(connection, row.id)
        amended = queries.amendments(connection, row.id)
        told = queries.notices(connection, ticket_id=row.id, limit=200)
        found = evidence.load(connection, row, api.profiles) if ours else None
    detail = TicketDetail.model_validate({
        **row._mapping,
        "commitments": clocks,
        "headline": headline(row.kind, row.subject, plain(row.evidence), api.profiles.get(row.profile or ""),
                             labels.words.lang),
        "allowed": possible_for(visitor, row) if ours else [],
        "evidence": evidence.shape(found, labels, with_readings=with_readings) if found else None,
        "facts": plain(row.evidence) if ours else {},
        "faults": [FaultShape.model_validate(fault) for fault in faults],
        "steps": [StepShape.model_validate(step) for step in steps],
        "amendments": [AmendmentShape.model_validate(one) for one in amended],
        "notices": [NoticeShape.model_validate(notice) for notice in told] if sees_addresses(visitor) else None,
    })  # fmt: skip
    return (detail, found) if ours else (_for_customer(detail), None)


def possible_for(visitor: Visitor, row: queries.AnyRow) -> list[str]:
    """The steps that this visitor could take now."""
    verbs = allowed(Ticket(row.id, Status(row.status), row.technician_id, row.opened_at, row.opened_at, row.cleared_at))
    if visitor.role is Role.MANAGER:
        return []
    if visitor.role is not Role.TECHNICIAN:
        return [str(verb) for verb in verbs]
    mine = row.technician_id is not None and row.technician_id == visitor.person_id
    free = row.technician_id is None and visitor.person_id is not None
    return [str(verb) for verb in verbs if verb in ON_THE_JOB and (mine or (free and verb is Verb.ACCEPT))]


def sees_addresses(visitor: Visitor) -> bool:
    """Whom we told, with their addresses, is for those who must find out why somebody was not reached."""
    return visitor.role in (Role.OPS, Role.ADMIN)


def _for_customer(detail: TicketDetail) -> TicketDetail:
    faults = [fault.model_copy(update={"evidence": None}) for fault in detail.faults]
    steps = [step.model_copy(update={"actor": "", "actor_name": None, "note": ""}) for step in detail.steps]
    amendments = [one.model_copy(update={"actor": ""}) for one in detail.amendments]
    return detail.model_copy(update={"faults": faults, "steps": steps, "amendments": amendments})


def _statuses(given: str | None) -> list[str]:
    statuses = [part.strip() for part in given.split(",")] if given is not None else []
    unknown = [status for status in statuses if status not in set(Status)]
    if unknown:
        raise Problem(422, "The request is not valid", f"status: must be among {', '.join(Status)}")
    return statuses
