"""Shift hand-over: what happened, what is open and what is promised."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api.access import ForStaff, KnownQuery
from api.context import Api, Parts
from api.problems import documented
from api.shapes import AskedMoment, Moment, Shape
from monitor.desk.handover import Handover
from monitor.engine.shifts import Shift
from monitor.store import people

router = APIRouter(prefix="/api/v1", tags=["tickets"], dependencies=[KnownQuery])


class TallyShape(Shape):
    """The shift in figures. met and missed count promises, the others tickets."""

    opened: int
    resolved: int
    closed: int
    cancelled: int
    open: int
    unassigned: int
    waiting: int
    met: int
    missed: int
    at_risk: int


class CaseShape(Shape):
    ticket_id: int
    device_id: str = Field(description="'': a whole site.")
    site: str
    kind: str
    severity: str
    status: str
    opened_at: Moment
    technician_id: int | None
    waits_for: str
    waits_until: Moment | None


class ClockShape(Shape):
    standard_id: str
    kind: str
    due_at: Moment
    met_at: Moment | None


class PromisedShape(Shape):
    clock: ClockShape
    outlook: str = Field(description="missed, at_risk, running or paused")
    case: CaseShape


class DoneShape(Shape):
    verb: str
    actor: str
    happened_at: Moment
    recorded_at: Moment


class HappenedInShift(Shape):
    case: CaseShape
    opened: bool
    steps: list[DoneShape]
    missed: list[ClockShape]


class HandoverShape(BaseModel):
    """The shift [start_at, end_at); lists with the most pressing first."""

    start_at: Moment
    end_at: Moment
    person_id: int | None = Field(description="Who was on call; null where nobody is in turn.")
    person_name: str
    tally: TallyShape
    promised: list[PromisedShape]
    open: list[CaseShape]
    happened: list[HappenedInShift]
    left_out: int


@router.get("/handover", responses=documented(401, 403, 422))
def handover(
    api: Parts,
    _: ForStaff,
    shift: Annotated[
        AskedMoment | None,
        Query(description="A moment in the shift; without it: from the beginning of the last shift until now."),
    ] = None,
) -> HandoverShape:
    """What whoever comes on takes over."""
    found, told, name = told_of_shift(api, shift)
    lists = {name: getattr(told, name) for name in ("tally", "promised", "open", "happened", "left_out")}
    return HandoverShape.model_validate(
        {"start_at": told.start_at, "end_at": told.end_at, "person_id": found.person_id, "person_name": name, **lists},
        from_attributes=True,
    )


def told_of_shift(api: Api, moment: int | None) -> tuple[Shift, Handover, str]:
    """The shift that a moment lies in (None: from the beginning of the last one until now), what is told of it, and the
    name of who was on call."""
    now, shifts = api.clock(), api.desk.shifts
    with api.reading() as connection:
        found = shifts.since_last(connection, now) if moment is None else shifts.shift_at(connection, moment)
        told = shifts.told_of(connection, Shift(found.start_at, min(found.end_at, max(now, found.start_at))))
        named = people.names(connection, [found.person_id] if found.person_id is not None else [])
    return found, told, next(iter(named.values()), "")
