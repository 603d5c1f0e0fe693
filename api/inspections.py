"""Safety inspections and the hand-over gate (E2, E3): checklists, what was signed, and whether a machine may go out."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field, field_validator

from api.access import DESK, ForDoers, ForStaff, KnownQuery
from api.context import Api, Parts
from api.labels import Labels, labels_of
from api.paging import Cursor, Limit, cut, key_of
from api.papers import RESPONSES, PaperLang, printed
from api.problems import Problem, documented, not_found
from api.refusals import IfMatch, give_tag, refusals_told, seen_tag
from api.shapes import Given, GivenMoment, Moment, Page, PlannedMoment, RentalShape, Shape, rfc3339
from api.words import wanted_lang
from monitor.engine import inspecting
from monitor.engine.inspecting import Blocked, Gate, Inspector, Report
from monitor.fleet import gate
from monitor.fleet.inspection import (
    LARGEST,
    PHOTO_LENGTH,
    REASON_LENGTH,
    Answer,
    Change,
    Finding,
    Kind,
    Says,
    damage,
    fails,
    is_photo,
    shipped_checklists,
)
from monitor.store import hire, inspections, queries
from monitor.store.access import Visitor
from monitor.store.hire import Hire
from monitor.store.registry import tag_of

router = APIRouter(prefix="/api/v1", tags=["inspections"], dependencies=[KnownQuery])

InspectionId = Annotated[int, Path(ge=1, lt=2**63)]
RentalId = Annotated[int, Path(ge=1, lt=2**63)]
DeviceName = Annotated[str, Field(min_length=1, max_length=64)]
HOUR_MS = 3_600_000
MOST_ITEMS = 200


# --- shapes --------------------------------------------------------------------------------------------------------


class ItemShape(Shape):
    """One line of a checklist."""

    code: str
    what: str = Field(description="check, value or photo")
    title: str
    title_zh: str
    required: bool
    may_not_apply: bool
    unit: str
    low: float | None
    high: float | None


class ChecklistShape(Shape):
    profile: str
    kind: str
    version: str
    items: list[ItemShape]


class FindingShape(Shape):
    """One item as it was inspected, with the limits that it was judged by."""

    code: str
    what: str
    title: str
    title_zh: str
    verdict: str = Field(description="pass, fail, not_applicable or left_out")
    why: str | None = Field(description="Why it fails.")
    required: bool
    unit: str
    low: float | None
    high: float | None
    value: float | None
    photo: str
    reason: str


class ChangeShape(Shape):
    """An item at hand-over and at return."""

    code: str
    course: str = Field(description="same, changed, damage, faulty_before, mended or not_compared")
    before: FindingShape | None
    after: FindingShape | None
    difference: float | None = Field(description="In the item's unit: return less hand-over.")


class InspectionShape(Shape):
    id: int
    kind: str
    device_id: str
    profile: str
    rental_id: int | None
    checklist_version: str
    passed: bool
    inspector_id: int
    inspector_name: str
    signature: str
    signed_at: Moment
    at: Moment
    recorded_at: Moment
    note: str
    voided_at: Moment | None
    void_reason: str
    fails: list[str] = Field(description="Codes of the items that are not in order.")


class InspectionDetail(InspectionShape):
    items: list[FindingShape]
    comparison: list[ChangeShape] | None = Field(
        description="Of a return: beside the inspection that it went out with."
    )
    damage: list[str] = Field(description="Codes of what was in order when the machine went out, and is not any more.")


class ItemGiven(Given):
    code: str = Field(max_length=40)
    says: Says | None = None
    value: float | None = Field(None, ge=-LARGEST, le=LARGEST, allow_inf_nan=False, description="In the item's unit.")
    photo: str = Field("", max_length=PHOTO_LENGTH, description="A file's name, or an http(s) address.")
    reason: str = Field("", max_length=REASON_LENGTH)

    @field_validator("photo")
    @classmethod
    def _refuse_paths(cls, photo: str) -> str:
        if photo and not is_photo(photo):
            raise ValueError("must be the name of a file, or an http(s) address")
        return photo


class NewInspection(Given):
    """What an inspector signs. Whether it is passed is judged by the checklist."""

    in_lines = frozenset({"note"})

    kind: Kind
    device_id: DeviceName
    rental_id: int | None = Field(None, ge=1, lt=2**63, description="Without it: the rental that it must be.")
    items: list[ItemGiven] = Field(max_length=MOST_ITEMS)
    signature: str = Field(min_length=1, max_length=inspecting.SIGNATURE_LENGTH, description="Your name, as typed.")
    at: GivenMoment | None = Field(None, description="When you looked; now, without it. At most a day ago.")
    note: str = Field("", max_length=inspecting.NOTE_LENGTH)


class Void(Given):
    reason: str = Field(min_length=1, max_length=500)


class DueShape(Shape):
    """A machine that came back and was not inspected yet."""

    id: int = Field(serialization_alias="rental_id")
    device_id: str
    customer_id: int
    returned_at: Moment
    due_at: Moment


class ObstacleShape(Shape):
    code: str
    words: str = Field(description="In the reader's language.")
    facts: dict[str, int | str]


class HandOverShape(Shape):
    """The gate of a rental: open, or all that stands in the way; and the hand-over, once it was done."""

    rental_id: int
    device_id: str
    as_of: Moment
    open: bool = Field(description="Whether the machine may be handed over now.")
    handed_over_at: Moment | None
    handed_over_by: str | None
    inspection_id: int | None
    command_id: str | None = Field(description="The self-test.")
    obstacles: list[ObstacleShape]
    first: ObstacleShape | None = Field(description="What of them is best cleared first.")


class ReturnGiven(Given):
    at: PlannedMoment | None = Field(None, description="Now, without it.")


class ReturnShape(Shape):
    rental: RentalShape
    inspection_due_at: Moment = Field(description="Until then its return inspection is to be done.")


# --- checklists and inspections ------------------------------------------------------------------------------------


@router.get("/checklists/{profile}/{kind}", responses=documented(401, 403, 404))
def one_checklist(
    api: Parts, _: ForStaff, profile: Annotated[str, Path(max_length=64)], kind: Kind
) -> ChecklistShape:  # fmt: skip
    """What is looked at on a machine of this model, in this order."""
    if profile not in api.profiles:
        raise not_found("profile")
    found = shipped_checklists().of(profile, kind)
    items = [ItemShape.model_validate(item) for item in found.items]
    return ChecklistShape(profile=profile, kind=kind, version=found.version, items=items)


@router.get("/inspections", responses=documented(401, 403, 422))
def list_inspections(
    api: Parts,
    _: ForStaff,
    device_id: Annotated[str | None, Query(max_length=64)] = None,
    rental_id: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    kind: Kind | None = None,
    passed: Annotated[bool | None, Query(description="Without those that were voided.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[InspectionShape]:
    """Inspections, the newest first; voided ones say so."""
    with api.reading() as connection:
        rows = inspections.listed(
            connection, device_id=device_id, rental_id=rental_id, kind=kind, passed=passed,
            before=key_of(cursor, int), limit=limit + 1,
        )  # fmt: skip
    items, following = cut([_brief(row) for row in rows], limit, "id")
    return Page(items=items, next=following)


@router.get("/inspections/due", responses=documented(401, 403, 422))
def list_due(api: Parts, _: ForStaff, limit: Limit = 50, cursor: Cursor = None) -> Page[DueShape]:
    """Machines that came back and wait for their return inspection, the newest first."""
    with api.reading() as connection:
        rows = inspections.uninspected(connection, before=key_of(cursor, int), limit=limit + 1)
    shapes = [DueShape.model_validate({**row._mapping, "due_at": _due_at(row.returned_at)}) for row in rows]
    items, following = cut(shapes, limit, "id")
    return Page(items=items, next=following)


@router.post("/inspections", status_code=201, responses=documented(401, 403, 404, 409, 422))
def add_inspection(api: Parts, visitor: ForDoers, response: Response, body: NewInspection) -> InspectionDetail:
    """Sign an inspection, by your own account: certified people inspect (P1). It is judged by the checklist, kept, and
    never changed."""
    inspection_id = sign(api, visitor, body)
    response.headers["Location"] = f"/api/v1/inspections/{inspection_id}"
    return detail(api, inspection_id)


@router.get("/inspections/{inspection_id}.pdf", responses=RESPONSES | documented(401, 403, 404, 422, 503),
                response_class=Response)  # fmt: skip
def inspection_paper(
    request: Request, api: Parts, _: ForStaff, inspection_id: InspectionId, lang: PaperLang = None
) -> Response:
    """The inspection report as PDF."""
    found = detail(api, inspection_id)
    as_of = max(found.recorded_at, found.voided_at or 0)
    return printed(request, "inspection.html", name=f"inspection-{found.id}", as_of=as_of, lang=lang, inspection=found)


@router.get("/inspections/{inspection_id}", responses=documented(401, 403, 404))
def one_inspection(api: Parts, _: ForStaff, inspection_id: InspectionId) -> InspectionDetail:
    """One inspection, item by item; of a return also what changed since the machine went out."""
    return detail(api, inspection_id)


@router.post("/inspections/{inspection_id}/void", responses=documented(401, 403, 404, 409, 422))
def void_inspection(
    api: Parts, visitor: ForDoers, inspection_id: InspectionId, body: Void
) -> InspectionDetail:  # fmt: skip
    """It was wrong: it stays, and counts for nothing. Technicians void their own."""
    before = detail(api, inspection_id)
    if not may_void(visitor, before):
        raise Problem(403, "Not allowed", "A technician voids their own inspections.")
    with refusals_told("inspection"):
        inspecting.void(api.database, inspection_id, body.reason, visitor.actor, api.clock())
    return detail(api, inspection_id)


def sign(api: Api, visitor: Visitor, body: NewInspection) -> int:
    """Keep what somebody signs; answers its id. Raises Problem."""
    if visitor.person_id is None:
        raise Problem(403, "Not allowed", "An inspection is signed by a person: sign in with your own account.")
    report = Report(
        body.kind, body.device_id, [Answer(**item.model_dump()) for item in body.items], body.signature,
        body.rental_id, body.at, body.note,
    )  # fmt: skip
    who = Inspector(visitor.person_id, visitor.actor)
    with refusals_told("machine"):
        return inspecting.inspect(api.database, report, who, shipped_checklists(), api.clock())


def detail(api: Api, inspection_id: int) -> InspectionDetail:
    """Raises the 404 Problem where there is none."""
    with api.reading() as connection:
        row = inspections.one(connection, inspection_id)
        changes = inspecting.compared(connection, row) if row is not None else None
    if row is None:
        raise not_found("inspection")
    return InspectionDetail.model_validate({
        **row._mapping,
        "items": inspections.findings_of(row),
        "fails": [finding.code for finding in fails(inspections.findings_of(row))],
        "comparison": None if changes is None else [_change(change) for change in changes],
        "damage": [change.code for change in damage(changes or ())],
    })  # fmt: skip


def _brief(row: inspections.Row) -> InspectionShape:
    failing = [finding.code for finding in fails(inspections.findings_of(row))]
    return InspectionShape.model_validate({**row._mapping, "fails": failing})


def _change(change: Change) -> ChangeShape:
    def side(finding: Finding | None) -> FindingShape | None:
        return FindingShape.model_validate(finding) if finding else None

    return ChangeShape(code=change.code, course=change.course, before=side(change.before), after=side(change.after),
                       difference=change.difference)  # fmt: skip


def may_void(visitor: Visitor, found: InspectionShape) -> bool:
    return visitor.role in DESK or visitor.person_id == found.inspector_id


def _due_at(returned_at: int) -> int:
    return returned_at + round(gate.shipped_policy().return_inspection_h * HOUR_MS)


# --- the gate ------------------------------------------------------------------------------------------------------


@router.get("/rentals/{rental_id}/hand-over", responses=documented(401, 403, 404))
def show_gate(request: Request, api: Parts, _: ForStaff, response: Response, rental_id: RentalId) -> HandOverShape:
    """Whether the machine may be handed over now, and all that stands in the way. Nothing changes."""
    with api.reading() as connection, refusals_told("rental"):
        found = inspecting.look(connection, api.desk.upkeep, rental_id, api.clock())
    give_tag(response, tag_of(found.rental))
    return _gate(request, api, found)


@router.post("/rentals/{rental_id}/hand-over", responses=documented(401, 403, 404, 409, 412))
def hand_over(
    request: Request, api: Parts, visitor: ForDoers, response: Response, rental_id: RentalId, if_match: IfMatch = None
) -> HandOverShape:
    """Hand the machine over. 409 names everything that stands in the way, in `obstacles`."""
    with refusals_told("rental"):
        try:
            inspecting.hand_over(
                api.database, api.desk.upkeep, rental_id, visitor.actor, api.clock(), seen=seen_tag(if_match)
            )
        except Blocked as blocked:
            told = _obstacles(request, api, rental_id, blocked.obstacles)
            raise Problem(
                409, "It cannot be handed over now", " ".join(one.words for one in told),
                obstacles=[one.model_dump(mode="json") for one in told],
            ) from blocked  # fmt: skip
        with api.reading() as connection:
            found = inspecting.look(connection, api.desk.upkeep, rental_id, api.clock())
    give_tag(response, tag_of(found.rental))
    return _gate(request, api, found)


@router.post("/rentals/{rental_id}/return", responses=documented(401, 403, 404, 409, 412, 422))
def take_back(
    api: Parts, visitor: ForDoers, response: Response, rental_id: RentalId, body: ReturnGiven | None = None,
    if_match: IfMatch = None,
) -> ReturnShape:  # fmt: skip
    """The machine came back: its rental ends, and its return inspection is due."""
    with refusals_told("rental"):
        Hire(api.database, visitor.actor).take_back(
            rental_id, body.at if body else None, api.clock(), seen=seen_tag(if_match)
        )
    with api.reading() as connection:
        kept, row = hire.rental(connection, rental_id), queries.rental_row(connection, rental_id)
    if kept is None or row is None:
        raise not_found("rental")
    give_tag(response, tag_of(kept))
    return ReturnShape(rental=RentalShape.of(row, api.clock()), inspection_due_at=_due_at(row.returned_at))


def _gate(request: Request, api: Api, found: Gate) -> HandOverShape:
    with api.reading() as connection:
        done = inspections.hand_over_of(connection, found.rental.id)
    shown = _obstacles(request, api, found.rental.id, found.obstacles) if not done else []
    first = gate.first(found.obstacles) if not done else None
    return HandOverShape(
        rental_id=found.rental.id, device_id=found.rental.device_id, as_of=found.at, open=not found.obstacles,
        handed_over_at=found.rental.handed_over_at, handed_over_by=done.actor if done else None,
        inspection_id=done.inspection_id if done else None, command_id=done.command_id if done else None,
        obstacles=shown, first=shown[found.obstacles.index(first)] if first else None,
    )  # fmt: skip


def _obstacles(
    request: Request, api: Api, rental_id: int, found: tuple[gate.Obstacle, ...]
) -> list[ObstacleShape]:  # fmt: skip
    with api.reading() as connection:
        rental = hire.rental(connection, rental_id)
        machine = inspections.machine(connection, rental.device_id) if rental else None
    labels, profile = _labels(request, api), machine.profile if machine else ""
    return [
        ObstacleShape(
            code=one.code, words=labels.obstacle(one.code, one.facts, profile),
            facts={key: rfc3339(value) if key.endswith("_at") and isinstance(value, int) else value
                   for key, value in one.facts.items()},
        )
        for one in found
    ]  # fmt: skip


def _labels(request: Request, api: Api) -> Labels:
    return labels_of(request, wanted_lang(request, api.lang))
