"""Whom to send to a ticket, with the reasons in words."""

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from api import tickets
from api.access import ForOffice, KnownQuery
from api.context import Api, Parts
from api.labels import Labels, labels_of
from api.problems import documented
from api.risk import reasons_told
from api.shapes import Moment, ReasonShape
from monitor.desk.notices import moment
from monitor.desk.reasons import Written
from monitor.engine.dispatching import UNCERTIFIED
from monitor.store import people
from monitor.store.access import Visitor

router = APIRouter(prefix="/api/v1", tags=["tickets"], dependencies=[KnownQuery])


class CandidateShape(BaseModel):
    """Somebody who could go."""

    person_id: int
    name: str
    duty: str | None = Field(description="working or on_call; null: only once their duty begins.")
    carries: int = Field(description="Tickets that they have already.")
    distance_km: float | None = Field(description="Straight line; null where a position is not known.")
    travel_s: float | None
    arrives_at: Moment | None
    ready_at: Moment | None = Field(description="When the repair could begin.")
    reasons: list[ReasonShape]


class ExcludedShape(BaseModel):
    """Somebody who cannot go, and all that is against it."""

    person_id: int
    name: str
    may_be_sent: bool = Field(description="Whether the desk may send them all the same: nothing but P1 forbids it.")
    reasons: list[ReasonShape]


class ProposalShape(BaseModel):
    """Who should go, the best first, and who cannot."""

    ticket_id: int
    made_at: Moment
    keeps_rota: bool = Field(description="False: nobody has said yet who may work on what, and when they are there.")
    ranked: list[CandidateShape]
    excluded: list[ExcludedShape]


@router.get("/tickets/{ticket_id}/proposal", responses=documented(401, 403, 404))
def proposal(request: Request, api: Parts, visitor: ForOffice, ticket_id: tickets.TicketId) -> ProposalShape:
    """Whom to send, as things stand now, each with why. Who is not certified for the model is never proposed (P1)."""
    return proposed(api, visitor, ticket_id, labels_of(request, "en"))


def proposed(
    api: Api, visitor: Visitor, ticket_id: int, labels: Labels, written: Written = moment
) -> ProposalShape:  # fmt: skip
    """The same in the reader's words, its moments written as asked. Raises the 404 Problem where the visitor may not
    see the ticket."""
    lang, zone = labels.words.lang, str(labels.words.zone)
    now = api.clock()
    with api.reading() as connection:
        row = tickets.visible(connection, api, visitor, ticket_id)
        crew = api.desk.dispatching.crew(connection, now)
        found = api.desk.dispatching.propose(connection, row, crew, now)
        looked_at = {one.person_id for one in found.ranked} | {one.person_id for one in found.excluded}
        names = people.names(connection, looked_at)
    # Where no certificate is kept at all, nobody lacks one.
    barred = UNCERTIFIED if any(one.certificates for one in crew.technicians) else frozenset()
    ranked = [
        CandidateShape(
            person_id=one.person_id, name=names.get(one.person_id, ""), duty=one.duty, carries=one.carries,
            distance_km=one.reach.distance_km, travel_s=one.reach.travel_s, arrives_at=one.reach.arrives_at,
            ready_at=one.reach.ready_at, reasons=reasons_told(one.reasons, lang, zone, written),
        )
        for one in found.ranked
    ]  # fmt: skip
    excluded = [
        ExcludedShape(
            person_id=one.person_id, name=names.get(one.person_id, ""),
            may_be_sent=barred.isdisjoint(reason.code for reason in one.reasons),
            reasons=reasons_told(one.reasons, lang, zone, written),
        )
        for one in found.excluded
    ]  # fmt: skip
    return ProposalShape(
        ticket_id=ticket_id, made_at=now, keeps_rota=crew.keeps_rota, ranked=ranked, excluded=excluded
    )  # fmt: skip
