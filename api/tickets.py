"""Tickets: their list, one with its whole course, its clocks, and the steps that people take."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field
from sqlalchemy import Connection

from api import commands, evidence, risk
from api.access import ForAll, ForDoers, KnownQuery
from api.context import Api, Parts
from api.evidence import Evidence
from api.labels import Labels, labels_of
from api.paging import Cursor, Limit, cut, key_of
from api.problems import Problem, documented, not_found
from api.refusals import IfMatch, give_tag, refusals_told, seen_tag
from api.shapes import (
    Act,
    AmendmentShape,
    AskedShape,
    ExplainedClock,
    FaultShape,
    LinkShape,
    NoticeShape,
    Page,
    PauseShape,
    ReportBody,
    ResolutionShape,
    Shape,
    StepShape,
    TicketDetail,
    TicketShape,
    plain,
)
from monitor.desk.commitments import Commitment, Ledger, explain
from monitor.desk.notices import headline
from monitor.desk.tickets import (
    ARRANGED,
    MAX_BACKDATING_MS,
    Incomplete,
    NotPossible,
    Status,
    Step,
    Ticket,
    Verb,
    allowed,
    had_gone_on,
)
from monitor.devices import Severity
from monitor.engine import NoSuchTicket
from monitor.engine.desk import Changed, Report
from monitor.engine.paging import TRIES, Offered
from monitor.store import cases, paging, queries
from monitor.store.access import Role, Visitor
from monitor.store.queries import Wanted

router = APIRouter(prefix="/api/v1", tags=["tickets"], dependencies=[KnownQuery])

TicketId = Annotated[int, Path(ge=1, lt=2**63)]

# What a technician does; the rest is the desk's.
ON_THE_JOB = (
    Verb.ACCEPT, Verb.DECLINE, Verb.DEPART, Verb.ARRIVE, Verb.START_REPAIR, Verb.RESOLVE, Verb.PAUSE, Verb.RESUME,
    Verb.CORRECT,
)  # fmt: skip


@router.get("/tickets", responses=documented(401, 403, 422))
def list_tickets(
    api: Parts,
    visitor: ForAll,
    device_id: Annotated[str | None, Query(max_length=64)] = None,
    status: Annotated[
        str | None, Query(max_length=200, description="One status, or several with commas between: open,verified")
    ] = None,
    severity: Annotated[Severity | None, Query()] = None,
    site_id: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    technician_id: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    unassigned: Annotated[bool, Query(description="Only those that nobody has, and that are not resolved.")] = False,
    due_within_s: Annotated[
        int | None,
        Query(ge=0, le=31 * 86_400, description="Only those whose first running clock is due by then, or was."),
    ] = None,
    sort: Annotated[
        Literal["newest", "time_left"], Query(description="time_left: open tickets only, at most `limit`.")
    ] = "newest",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[TicketShape]:
    """Tickets with their clocks, the newest first. A customer sees those of the rentals that run now.

    With `sort=time_left` the open ones, the one with the least time left first, those without a running clock last. An
    order that changes by the second has no pages: `next` is null, and beyond `limit` nothing is given. It takes no
    `cursor`.
    """
    due_until = None if due_within_s is None else api.clock() + due_within_s * 1000
    wanted = Wanted(device_id, _statuses(status), severity, site_id, technician_id, unassigned, due_until)
    if sort == "time_left":
        if cursor is not None:
            raise Problem(422, "The request is not valid", "sort: time_left takes no cursor")
        return Page(items=by_time_left(api, visitor, wanted, limit), next=None)
    return newest(api, visitor, wanted, limit, cursor)


def newest(api: Api, visitor: Visitor, wanted: Wanted, limit: int, cursor: str | None) -> Page[TicketShape]:
    """Tickets with their clocks, the newest first."""
    with api.reading() as connection:
        rows = queries.tickets(
            connection, api.scope(visitor), wanted=wanted, before=key_of(cursor, int), limit=limit + 1
        )
        items, following = cut(with_clocks(connection, rows), limit, "id")
    return Page(items=items, next=following)


def by_time_left(api: Api, visitor: Visitor, wanted: Wanted, limit: int) -> list[TicketShape]:
    """Open tickets with their clocks, the one with the least time left first."""
    with api.reading() as connection:
        rows = queries.pressing_tickets(connection, api.scope(visitor), wanted=wanted, limit=limit)
        return with_clocks(connection, rows)


class TicketTally(Shape):
    """So many open tickets are alike."""

    status: str
    severity: str
    place_id: int | None = Field(serialization_alias="site_id", description="null: they stand at no known site.")
    site_name: str | None
    technician_id: int | None = Field(description="null: nobody has them.")
    count: int


@router.get("/tickets/counts", responses=documented(401, 403))
def count_tickets(api: Parts, visitor: ForAll) -> Page[TicketTally]:
    """How many tickets are open, by status, severity, site and technician together; sums of them are any of these."""
    with api.reading() as connection:
        rows = queries.tally_tickets(connection, api.scope(visitor))
    return Page(items=[TicketTally.model_validate(row) for row in rows], next=None)


@router.get("/tickets/{ticket_id}", responses=documented(401, 403, 404, 422))
def one_ticket(
    request: Request,
    response: Response,
    api: Parts,
    visitor: ForAll,
    ticket_id: TicketId,
    readings: Annotated[bool, Query(description="Whether the evidence brings the readings along.")] = True,
) -> TicketDetail:
    """One ticket with everything that belongs to it: what happened and how we know, its clocks, its steps, who was
    told."""
    detail = ticket_detail(api, visitor, ticket_id, labels_of(request, "en"), with_readings=readings)[0]
    give_tag(response, detail.revision)
    return detail


@router.get("/tickets/{ticket_id}/commitments", responses=documented(401, 403, 404))
def ticket_commitments(api: Parts, visitor: ForAll, ticket_id: TicketId) -> Page[ExplainedClock]:
    """The clocks of one ticket, the first due first, each with how its due time came about."""
    return Page(items=explained_clocks(api, visitor, ticket_id), next=None)


def explained_clocks(api: Api, visitor: Visitor, ticket_id: int) -> list[ExplainedClock]:
    """Raises the 404 Problem where the visitor may not see the ticket."""
    with api.reading() as connection:
        row = visible(connection, api, visitor, ticket_id)
        clocks, ledger = cases.load_commitments(connection, row.id), cases.load_ledger(connection, row)
    return [_explained(api, clock, ledger if clock.turn == row.turn else Ledger()) for clock in clocks]


def _explained(api: Api, clock: Commitment, ledger: Ledger) -> ExplainedClock:
    parts = explain(clock, ledger, api.desk.calendar(clock.calendar, clock.timezone))
    return ExplainedClock.model_validate({
        **{name: getattr(clock, name) for name in clock.__slots__},
        "parts": [{**part._asdict(), "ran_s": part.ran_ms / 1000} for part in parts],
    })  # fmt: skip


@router.post("/tickets", status_code=201, responses=documented(401, 403, 404, 409, 422))
def report(request: Request, api: Parts, visitor: ForDoers, body: ReportBody) -> TicketDetail:
    """Somebody told us that a machine has a fault: a ticket with the same clocks, or the one that is open on it. 409
    where the machine left the fleet."""
    _check_began(body.occurred_at, api.clock())
    report = Report(body.device_id, body.text, body.origin, body.reported_by, body.stopped, body.occurred_at)
    with refusals_told("machine"):
        ticket_id = api.desk.report(report, visitor.actor, api.clock())
    return ticket_detail(api, visitor, ticket_id, labels_of(request, "en"), with_readings=False)[0]


def _check_began(occurred_at: int | None, now: int) -> None:
    """The machine counts as bad from then on (E1), by somebody's word alone: so no farther back than the standard lets
    any step be entered. A slip of the year would ruin the figures of all months since."""
    if occurred_at is not None and occurred_at < now - MAX_BACKDATING_MS:
        hours = MAX_BACKDATING_MS // 3_600_000
        raise Problem(
            422, "The request is not valid", f"occurred_at: lies more than {hours} h back; leave it out, and say in "
            "the text since when it is so"
        )  # fmt: skip


@router.post("/tickets/{ticket_id}/{verb}", responses=documented(401, 403, 404, 409, 412, 422))
def act(
    request: Request,
    response: Response,
    api: Parts,
    visitor: ForDoers,
    ticket_id: TicketId,
    verb: Verb,
    body: Act | None = None,
    if_match: IfMatch = None,
) -> TicketDetail:
    """Take one step with a ticket. A step that is not possible now answers 409 and names those that are; one that was
    decided on an older reading of the ticket (If-Match) answers 412.

    A technician takes their own tickets, or accepts one that nobody has.
    """
    take_step(api, visitor, ticket_id, verb, body or Act(), revision_of(if_match))
    detail = ticket_detail(api, visitor, ticket_id, labels_of(request, "en"), with_readings=False)[0]
    give_tag(response, detail.revision)
    return detail


def revision_of(if_match: str | None) -> int | None:
    """The revision that an If-Match names; None: any will do."""
    given = seen_tag(if_match)
    if given is None:
        return None
    if not given.isdecimal() or len(given) > 18:
        raise Problem(422, "The request is not valid", 'If-Match: must be the ETag of the ticket, such as "3", or *')
    return int(given)


def take_step(
    api: Api, visitor: Visitor, ticket_id: int, verb: Verb, step: Act, revision: int | None = None
) -> None:  # fmt: skip
    """Hand one step to the desk. Raises the Problem to answer by where it cannot be taken."""
    for _ in range(TRIES):
        with api.reading() as connection:
            row = visible(connection, api, visitor, ticket_id)
        technician_id, seen = step.technician_id, revision
        if visitor.role is Role.TECHNICIAN:
            asked = _asked(api, visitor, ticket_id)
            if _had_gone_on(api, visitor, row, verb, step):
                technician_id = visitor.person_id
            else:
                technician_id = _check_own(visitor, row, verb, technician_id, asked=asked)
            if verb is Verb.DECLINE and asked and row.technician_id != visitor.person_id:
                _decline_ask(api, visitor, ticket_id, step.note)
                return
            # Theirs it was in this revision; in another one it may be somebody else's.
            seen = row.revision if revision is None else revision
        elif technician_id is not None:
            _check_technician(api, technician_id)
        try:
            _act(api, visitor, ticket_id, verb, step, technician_id, seen)
        except Changed as newer:
            if revision is not None:
                raise Problem(
                    412, "The ticket has changed", str(newer), headers={"ETag": f'"{newer.revision}"'}
                ) from newer  # fmt: skip
        else:
            return
    raise Problem(409, "This step is not possible now", f"Ticket {ticket_id} is being changed by others", allowed=[])


def _act(
    api: Api, visitor: Visitor, ticket_id: int, verb: Verb, step: Act, technician_id: int | None, revision: int | None
) -> None:  # fmt: skip
    try:
        api.desk.act(
            ticket_id,
            verb,
            visitor.actor,
            api.clock(),
            happened_at=step.happened_at,
            revision=revision,
            technician_id=technician_id,
            note=step.note,
            reason=step.reason,
            until_at=step.until_at,
            visit_at=step.visit_at,
            other_id=step.other_id,
            resolution=step.resolution,
            outcome=step.outcome,
        )
    except Incomplete as lacking:
        raise Problem(422, "The request is not valid", _lacks(lacking, verb, step)) from lacking
    except NotPossible as refusal:
        possible = [str(choice) for choice in refusal.allowed]
        raise Problem(409, "This step is not possible now", refusal.detail, allowed=possible) from refusal
    except NoSuchTicket as missing:
        raise not_found("ticket") from missing


def _lacks(lacking: Incomplete, verb: Verb, step: Act) -> str:
    """The desk's words. That no part was needed is to be said too: what is not said may have been forgotten."""
    unsaid = verb is Verb.RESOLVE and step.parts is None
    return f"{lacking}; and parts, [] where none was needed" if unsaid else str(lacking)


def _asked(api: Api, visitor: Visitor, ticket_id: int) -> bool:
    """Whether this technician was asked to take the ticket, maybe one of several."""
    if visitor.role is not Role.TECHNICIAN or visitor.person_id is None:
        return False
    with api.reading() as connection:
        return paging.is_asked(connection, ticket_id, visitor.person_id)


def _had_gone_on(api: Api, visitor: Visitor, row: queries.AnyRow, verb: Verb, given: Act) -> bool:
    """Whether they had gone on with a ticket before the desk took it from them, and only now can say so."""
    if visitor.person_id is None or given.happened_at is None or given.technician_id not in (None, visitor.person_id):
        return False
    step = Step(verb, visitor.actor, given.happened_at, technician_id=visitor.person_id)
    with api.reading() as connection:
        return had_gone_on(cases.ticket_of(connection, row), step)


def _decline_ask(api: Api, visitor: Visitor, ticket_id: int, note: str) -> None:
    """One of several who were asked says no; the others still may say yes."""
    try:
        api.desk.paging.decline(Offered(ticket_id, visitor.person_id or 0), visitor.actor, api.clock(), note)
    except NotPossible as refusal:
        possible = [str(choice) for choice in refusal.allowed]
        raise Problem(409, "This step is not possible now", refusal.detail, allowed=possible) from refusal


def _check_own(
    visitor: Visitor, row: queries.AnyRow, verb: Verb, named: int | None, *, asked: bool
) -> int | None:  # fmt: skip
    """A technician acts for nobody else; answers the technician that the step names."""
    if verb not in ON_THE_JOB:
        raise Problem(403, "Not allowed", f"{verb} is for the desk; a technician can {', '.join(ON_THE_JOB)}.")
    if visitor.person_id is None:
        raise Problem(403, "Not allowed", "This account is no person's: sign in as a technician by name.")
    # Of several who may take it one is the first: the others hear from the desk that it is taken (409).
    free = row.technician_id is None or asked or row.status in ARRANGED
    may_take = verb is Verb.ACCEPT and free
    may_say_no = verb is Verb.DECLINE and asked
    if not may_take and not may_say_no and row.technician_id != visitor.person_id:
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
        links, waiting = queries.links(connection, row.id), queries.pause_now(connection, row.id)
        now_allowed = []
        if ours:
            asked_me = visitor.person_id is not None and paging.is_asked(connection, row.id, visitor.person_id)
            now_allowed = possible_for(visitor, cases.ticket_of(connection, row), api.clock(), asked=asked_me)
        told = queries.notices(connection, ticket_id=row.id, limit=200)
        found = evidence.load(connection, row, api.profiles) if ours else None
        self_test = commands.self_test(connection, row, labels, ours=ours)
        at_risk = risk.risks(connection, api, row, labels.words.lang) if ours else []
        asked = paging.asked(connection, row.id) if ours else []
    detail = TicketDetail.model_validate({
        **row._mapping,
        "commitments": clocks,
        "headline": headline(row.kind, row.subject, plain(row.evidence), api.profiles.get(row.profile or ""),
                             labels.words.lang),
        "allowed": now_allowed,
        "evidence": evidence.shape(found, labels, with_readings=with_readings) if found else None,
        "facts": plain(row.evidence) if ours else {},
        "faults": [FaultShape.model_validate(fault) for fault in faults],
        "steps": [StepShape.model_validate(step) for step in steps],
        "amendments": [AmendmentShape.model_validate(one) for one in amended],
        "links": [LinkShape.model_validate(one) for one in links],
        "waiting": PauseShape.model_validate(waiting) if waiting else None,
        "resolution": _resolution(row),
        "notices": [NoticeShape.model_validate(notice) for notice in told] if sees_addresses(visitor) else None,
        "self_test": self_test,
        "risk": at_risk,
        "asked": [AskedShape.model_validate(one) for one in asked],
    })  # fmt: skip
    return (detail, found) if ours else (_for_customer(detail), None)


def _resolution(row: queries.AnyRow) -> ResolutionShape | None:
    if row.outcome is None:
        return None
    return ResolutionShape(
        cause=row.resolution_cause, action=row.resolution_action, borne_by=row.borne_by, parts=row.parts or [],
        outcome=row.outcome,
    )  # fmt: skip


def possible_for(visitor: Visitor, ticket: Ticket, now: int, *, asked: bool = False) -> list[str]:
    """The steps that this visitor could take now."""
    verbs = allowed(ticket, now)
    if visitor.role is Role.MANAGER:
        return []
    if visitor.role is not Role.TECHNICIAN:
        return [str(verb) for verb in verbs]
    mine = ticket.technician_id is not None and ticket.technician_id == visitor.person_id
    free = asked or (ticket.technician_id is None and visitor.person_id is not None)
    may_say_no = asked and ticket.status is Status.DISPATCHED
    others = {verb for verb, may in ((Verb.ACCEPT, free), (Verb.DECLINE, may_say_no)) if may}
    return [str(verb) for verb in verbs if verb in ON_THE_JOB and (mine or verb in others)]


def sees_addresses(visitor: Visitor) -> bool:
    """Whom we told, with their addresses, is for those who must find out why somebody was not reached."""
    return visitor.role in (Role.OPS, Role.ADMIN)


def _for_customer(detail: TicketDetail) -> TicketDetail:
    faults = [fault.model_copy(update={"evidence": None}) for fault in detail.faults]
    steps = [step.model_copy(update={"actor": "", "actor_name": None, "note": ""}) for step in detail.steps]
    amendments = [one.model_copy(update={"actor": ""}) for one in detail.amendments]
    waiting = detail.waiting and detail.waiting.model_copy(update={"actor": ""})
    return detail.model_copy(update={
        "faults": faults, "steps": steps, "amendments": amendments, "waiting": waiting, "links": [], "reported_by": "",
        "resolution": None,
    })  # fmt: skip


def _statuses(given: str | None) -> list[str]:
    statuses = [part.strip() for part in given.split(",")] if given is not None else []
    unknown = [status for status in statuses if status not in set(Status)]
    if unknown:
        raise Problem(422, "The request is not valid", f"status: must be among {', '.join(Status)}")
    return statuses
