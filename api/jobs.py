"""A technician's jobs: what they carry, what they are asked to take, and what is known of one before they go."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from api import tickets
from api.access import Allowed, ForStaff, KnownQuery
from api.context import Api, Parts
from api.labels import Labels, labels_of
from api.problems import documented
from api.shapes import Moment, Shape, TicketShape
from api.tickets import TicketId
from monitor.desk.tickets import Status
from monitor.store import jobs
from monitor.store.access import Role, Visitor

router = APIRouter(prefix="/api/v1/jobs", tags=["tickets"], dependencies=[KnownQuery])

ForTechnician = Annotated[Visitor, Depends(Allowed(Role.TECHNICIAN))]

MOST_JOBS = 50
PARTS_TOLD, BEFORE_TOLD = 6, 4
YEAR_MS = 365 * 86_400_000
BEGUN = (Status.REPAIRING, Status.ON_SITE, Status.ON_THE_WAY)
"""A job in hand goes before any other."""


class OfferShape(TicketShape):
    """A ticket that waits for somebody's yes or no."""

    until_at: Moment | None = Field(description="Until when the answer is awaited; null: it does not end by itself.")


class JobsShape(BaseModel):
    """What somebody has to do."""

    person_id: int | None = Field(description="Whose jobs they are; null: this account is no person's.")
    at: Moment = Field(description="The server's time, for phones whose clock is wrong.")
    mine: list[TicketShape] = Field(description="What they have taken: the one in hand first, then by time left.")
    offered: list[OfferShape] = Field(description="What they are asked to take, by time left.")
    next_id: int | None = Field(
        description="What comes next: what is in hand or taken, else what waits for an answer, else what has to wait."
    )


class PlaceShape(Shape):
    """Where a job is."""

    name: str
    access_notes: str
    lat_deg: float | None
    lon_deg: float | None


class CallShape(Shape):
    """Somebody of the customer's who can be called."""

    name: str
    phone: str


class PartUsedShape(BaseModel):
    """A part that was put in before for the same fault of the same model."""

    name: str
    times: int
    of: int = Field(description="Of so many repairs.")


class EarlierShape(TicketShape):
    """An earlier ticket of the machine."""

    headline: str
    cause: str | None = Field(description="Code of the list cause.")
    action: str | None = Field(description="Code of the list action.")
    parts: list[str]


class NoteShape(Shape):
    """What somebody wrote on a ticket."""

    at: Moment
    event: str
    by: str
    text: str


class JobShape(BaseModel):
    """What a technician wants to know of a job beside its ticket."""

    ticket_id: int
    place: PlaceShape | None = Field(description="null: where it stands is not known.")
    calls: list[CallShape]
    parts: list[PartUsedShape] = Field(description="Put in before for the same fault of the same model.")
    causes: list[str] = Field(description="Codes of what it was before, the most frequent first.")
    earlier: list[EarlierShape] = Field(description="The machine's earlier tickets, the newest first.")
    same_in_a_year: int = Field(description="So many of those of the last 365 days were the same fault.")
    notes: list[NoteShape]


@router.get("", responses=documented(401, 403))
def list_jobs(api: Parts, visitor: ForTechnician) -> JobsShape:
    """What a technician has taken and what they are asked to take."""
    return jobs_of(api, visitor)


def jobs_of(api: Api, visitor: Visitor) -> JobsShape:
    now, person_id = api.clock(), visitor.person_id
    if person_id is None:
        return JobsShape(person_id=None, at=now, mine=[], offered=[], next_id=None)
    with api.reading() as connection:
        mine = tickets.with_clocks(connection, jobs.held(connection, person_id, now, MOST_JOBS))
        rows = jobs.offered(connection, person_id, now, MOST_JOBS)
        shown = tickets.with_clocks(connection, rows)
    offered = [
        OfferShape.model_validate({**dict(one), "until_at": row.until_at})
        for one, row in zip(shown, rows, strict=True)
    ]  # fmt: skip
    mine = sorted(mine, key=_in_hand)
    return JobsShape(person_id=person_id, at=now, mine=mine, offered=offered, next_id=_next(mine, offered))


def _next(mine: Sequence[TicketShape], offered: Sequence[TicketShape]) -> int | None:
    taken = [one for one in mine if one.status != Status.WAITING]
    return next((one.id for one in (*taken, *offered, *mine)), None)


def _in_hand(job: TicketShape) -> int:
    """The order is kept among those that are alike."""
    if job.status in BEGUN:
        return BEGUN.index(Status(job.status))
    return len(BEGUN) + (job.status == Status.WAITING)


@router.get("/{ticket_id}", responses=documented(401, 403, 404))
def one_job(request: Request, api: Parts, visitor: ForStaff, ticket_id: TicketId) -> JobShape:
    """What is on record for whoever goes there."""
    return job_of(api, visitor, ticket_id, labels_of(request, "en"))


def job_of(api: Api, visitor: Visitor, ticket_id: int, labels: Labels) -> JobShape:
    """Raises the 404 Problem where there is no such ticket."""
    now = api.clock()
    with api.reading() as connection:
        row = tickets.visible(connection, api, visitor, ticket_id)
        place = jobs.place(connection, row.id)
        calls = jobs.to_call(connection, row.id)
        repairs = jobs.like_it(connection, row.profile, row.kind, row.subject, row.id) if row.profile else []
        rows = jobs.before(connection, row.device_id, row.id, now) if row.device_id else []
        earlier = tickets.with_clocks(connection, rows)
        notes = jobs.notes(connection, row.id)
    alike = [
        one for one in earlier
        if (one.kind, one.subject) == (row.kind, row.subject) and one.opened_at > row.opened_at - YEAR_MS
    ]  # fmt: skip
    told = [
        EarlierShape.model_validate({
            **dict(one), "headline": labels.headline(one), "cause": of.resolution_cause,
            "action": of.resolution_action, "parts": of.parts or [],
        })
        for one, of in zip(earlier[:BEFORE_TOLD], rows, strict=False)
    ]  # fmt: skip
    return JobShape(
        ticket_id=row.id, place=PlaceShape.model_validate(place) if place else None,
        calls=[CallShape.model_validate(one) for one in calls], parts=_parts(repairs),
        causes=[code for code, _ in Counter(one.resolution_cause for one in repairs).most_common()],
        earlier=told, same_in_a_year=len(alike), notes=[NoteShape.model_validate(one) for one in notes],
    )  # fmt: skip


def _parts(repairs: Sequence[jobs.Row]) -> list[PartUsedShape]:
    """What was put in, the most frequent first. The same part written in another case is the same part."""
    written: dict[str, str] = {}
    times: Counter[str] = Counter()
    for repair in repairs:
        names = {name.casefold(): name for name in repair.parts or []}
        times.update(names.keys())
        written = {**names, **written}
    return [
        PartUsedShape(name=written[key], times=count, of=len(repairs))
        for key, count in times.most_common(PARTS_TOLD)
    ]  # fmt: skip
