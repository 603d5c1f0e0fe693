"""Inspections: a machine's checklist, filled in beside it, and what was signed."""

from typing import Annotated

from fastapi import Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

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
from api.pages.filling import Complaint, Form, Sent, complaint_of, done_or_told, made
from api.pages.shell import pages, render
from api.problems import Problem, not_found
from monitor.fleet.inspection import Kind, shipped_checklists
from monitor.store import queries
from monitor.store.access import Visitor

router = pages()

LISTED = 50
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
    return _new_page(request, api, visitor, device_id, kind, str(rental_id or ""))


@router.post("/inspections/new")
def sign_from_page(request: Request, api: Parts, visitor: ForDoers, form: Sent) -> Response:
    """Keep it and show it; where something is wrong, the page again with all that was filled in."""
    try:
        inspection_id = sign(api, visitor, _given(form))
    except Problem as problem:
        kind = Kind(form.text("kind")) if form.text("kind") in set(Kind) else Kind.HAND_OVER
        return _new_page(
            request, api, visitor, form.text("device_id"), kind, form.text("rental_id"), complaint_of(problem)
        )
    return RedirectResponse(f"/inspections/{inspection_id}", 303)


@router.get("/inspections/{inspection_id}")
def inspection_page(request: Request, api: Parts, visitor: ForStaff, inspection_id: InspectionId) -> HTMLResponse:
    return _inspection_page(request, api, visitor, inspection_id)


@router.post("/inspections/{inspection_id}/void")
def void_from_page(
    request: Request, api: Parts, visitor: ForDoers, inspection_id: InspectionId, form: Sent
) -> Response:
    return done_or_told(
        lambda: void_inspection(api, visitor, inspection_id, made(Void, {"reason": form.text("reason")})),
        f"/inspections/{inspection_id}",
        lambda told: _inspection_page(request, api, visitor, inspection_id, told),
    )


def _given(form: Form) -> NewInspection:
    """The form as the API knows it: `says.outside`, `value.fuel_pct`, …; what was left empty is not there. Raises the
    422 Problem that names the field."""
    items: dict[str, dict[str, str]] = {}
    for name, text in form.fields.items():
        what, _, code = name.partition(".")
        if what in FIELDS and code and text:
            # People write a comma where others write a point.
            items.setdefault(code, {"code": code})[what] = text.replace(",", ".") if what == "value" else text
    rest = {name: form.text(name) for name in ("kind", "device_id", "rental_id", "note") if form.text(name)}
    at = {f"items.{n}.{what}": f"{what}.{code}" for n, code in enumerate(items) for what in FIELDS}
    return made(NewInspection, {**rest, "signature": form.text("signature"), "items": [*items.values()]}, at)


def _new_page(
    request: Request, api: Api, visitor: Visitor, device_id: str, kind: Kind, rental_id: str,
    complaint: Complaint | None = None,
) -> HTMLResponse:  # fmt: skip
    with api.reading() as connection:
        machine = queries.device_row(connection, api.scope(visitor), device_id)
    if machine is None:
        raise not_found("machine")
    return render(
        request, "inspection_new.html", visitor=visitor, machine=machine, kind=kind, kinds=list(Kind),
        checklist=shipped_checklists().of(machine.profile, kind), rental_id=rental_id, complaint=complaint,
        may_sign=visitor.person_id is not None,
    )  # fmt: skip


def _inspection_page(
    request: Request, api: Api, visitor: Visitor, inspection_id: int, complaint: Complaint | None = None
) -> HTMLResponse:
    found = detail(api, inspection_id)
    return render(
        request, "inspection.html", visitor=visitor, inspection=found, complaint=complaint,
        may_void=found.voided_at is None and visitor.role in DOERS and may_void(visitor, found),
    )  # fmt: skip
