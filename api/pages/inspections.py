"""Inspections: a machine's checklist, filled in beside it, and what was signed."""

from typing import Annotated

from fastapi import Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import ValidationError
from starlette.datastructures import FormData

from api.access import DOERS, ForDoers, ForStaff
from api.context import Api, Parts
from api.inspections import (
    InspectionId,
    NewInspection,
    Void,
    detail,
    list_due,
    list_inspections,
    may_void,
    sign,
    void_inspection,
)
from api.labels import labels_of
from api.pages.shell import pages, render
from api.problems import Problem, not_found
from api.words import wanted_lang
from monitor.fleet.inspection import Kind, shipped_checklists
from monitor.store import queries
from monitor.store.access import Visitor

router = pages()

FORM_FIELDS = 1000
LISTED = 50


async def _sent(request: Request) -> FormData:
    return await request.form(max_files=0, max_fields=FORM_FIELDS)


Sent = Annotated[FormData, Depends(_sent)]
FIELDS = ("says", "value", "photo", "reason")


@router.get("/inspections")
def inspections_page(
    request: Request,
    api: Parts,
    visitor: ForStaff,
    passed: Annotated[str, Query(pattern="^(true|false)?$")] = "",
    kind: Annotated[str, Query(max_length=20)] = "",
    device_id: Annotated[str, Query(max_length=64)] = "",
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> HTMLResponse:
    """What was signed, the newest first, and the machines that wait for it."""
    chosen = Kind(kind) if kind in set(Kind) else None
    listed = list_inspections(
        api, visitor, device_id=device_id.strip() or None, kind=chosen, limit=LISTED, cursor=cursor,
        passed=None if passed == "" else passed == "true",
    )  # fmt: skip
    return render(
        request, "inspections.html", visitor=visitor, items=listed.items, following=listed.next, passed=passed,
        kind=chosen or "", kinds=list(Kind), device_id=device_id.strip(), filtered=bool(passed or chosen or device_id),
        waiting=list_due(api, visitor, limit=LISTED).items, may_inspect=visitor.role in DOERS,
    )  # fmt: skip


@router.get("/inspections/new")
def new_inspection_page(
    request: Request,
    api: Parts,
    visitor: ForDoers,
    device_id: Annotated[str, Query(max_length=64)],
    kind: Kind = Kind.HAND_OVER,
    rental_id: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
) -> HTMLResponse:
    """The checklist of a machine, to be filled in beside it."""
    return _new_page(request, api, visitor, device_id, kind, {"rental_id": str(rental_id or "")})


@router.post("/inspections/new")
def sign_from_page(request: Request, api: Parts, visitor: ForDoers, form: Sent) -> Response:
    """Keep it and show it; where something is wrong, the page again with all that was filled in."""
    filled = {name: str(value).strip() for name, value in form.items()}
    kind = Kind(filled["kind"]) if filled.get("kind") in set(Kind) else Kind.HAND_OVER
    device_id = filled.get("device_id", "")
    try:
        inspection_id = sign(api, visitor, _given(filled))
    except ValidationError as wrong:
        words = labels_of(request, wanted_lang(request, api.lang)).words
        field = str(wrong.errors()[0]["loc"][-1])
        complaint = words.say("Something in the form cannot be taken: %(field)s.", field=field)
    except Problem as problem:
        if problem.status not in (409, 422):
            raise
        complaint = problem.detail
    else:
        return RedirectResponse(f"/inspections/{inspection_id}", 303)
    return _new_page(request, api, visitor, device_id, kind, filled, complaint)


@router.get("/inspections/{inspection_id}")
def inspection_page(request: Request, api: Parts, visitor: ForStaff, inspection_id: InspectionId) -> HTMLResponse:
    return _inspection_page(request, api, visitor, inspection_id)


@router.post("/inspections/{inspection_id}/void")
def void_from_page(
    request: Request, api: Parts, visitor: ForDoers, inspection_id: InspectionId, form: Sent
) -> Response:
    try:
        body = Void(reason=str(form.get("reason", "")).strip())
        void_inspection(api, visitor, inspection_id, body)
    except (ValidationError, Problem) as wrong:
        if isinstance(wrong, Problem) and wrong.status not in (409, 422):
            raise
        complaint = (
            wrong.detail
            if isinstance(wrong, Problem)
            else labels_of(request, wanted_lang(request, api.lang)).words.say("Say why.")
        )
        return _inspection_page(request, api, visitor, inspection_id, complaint)
    return RedirectResponse(f"/inspections/{inspection_id}", 303)


def _given(filled: dict[str, str]) -> NewInspection:
    """The form as the API knows it: `says.outside`, `value.fuel_pct`, …; what was left empty is not there."""
    items: dict[str, dict[str, str]] = {}
    for name, text in filled.items():
        what, _, code = name.partition(".")
        if what in FIELDS and code and text:
            # People write a comma where others write a point.
            items.setdefault(code, {"code": code})[what] = text.replace(",", ".") if what == "value" else text
    rest = {name: filled[name] for name in ("kind", "device_id", "rental_id", "signature", "note") if filled.get(name)}
    # By its rules everything is checked; what it makes of texts is its own matter.
    return NewInspection.model_validate({**rest, "signature": filled.get("signature", ""), "items": [*items.values()]})


def _new_page(
    request: Request, api: Api, visitor: Visitor, device_id: str, kind: Kind, filled: dict[str, str],
    complaint: str = "",
) -> HTMLResponse:  # fmt: skip
    with api.reading() as connection:
        machine = queries.device_row(connection, api.scope(visitor), device_id)
    if machine is None:
        raise not_found("machine")
    return render(
        request, "inspection_new.html", visitor=visitor, status=422 if complaint else 200, machine=machine, kind=kind,
        kinds=list(Kind), checklist=shipped_checklists().of(machine.profile, kind), filled=filled,
        complaint=complaint, may_sign=visitor.person_id is not None,
    )  # fmt: skip


def _inspection_page(
    request: Request, api: Api, visitor: Visitor, inspection_id: int, complaint: str = ""
) -> HTMLResponse:  # fmt: skip
    found = detail(api, inspection_id)
    return render(
        request, "inspection.html", visitor=visitor, status=422 if complaint else 200, inspection=found,
        may_void=found.voided_at is None and visitor.role in DOERS and may_void(visitor, found), complaint=complaint,
    )  # fmt: skip
