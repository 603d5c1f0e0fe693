"""Customers with their pages, and rentals: agreed, handed over through the gate, and back."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api import commands, hire, inspections
from api.access import DESK, DOERS, ERASERS, ForDesk, ForDoers, ForErasing, ForOffice, ForStaff
from api.context import Api, Parts
from api.hire import CustomerChange, CustomerId, Exchange, NewContract, NewCustomer, NewRental, RentalEnd
from api.inspections import HandOverShape, RentalId, ReturnGiven
from api.links import LinkMade, LinkWish, make_customer_link
from api.pages.filling import (
    Complaint,
    Sent,
    complaint_of,
    done_or_told,
    is_whole,
    local_input,
    made,
    tag_in,
    words_for,
)
from api.pages.shell import pages, render
from api.paging import MAX_ITEMS
from api.people import Confirmed
from api.problems import Problem
from api.registers import list_rentals
from monitor.store.access import Visitor

router = pages()

LISTED = 100
SHOWN_OF_CUSTOMER = 50


# --- customers -----------------------------------------------------------------------------------------------------


@router.get("/settings/customers")
def customers_page(
    request: Request, api: Parts, visitor: ForOffice, cursor: Annotated[str | None, Query(max_length=200)] = None
) -> HTMLResponse:
    return _customers_page(request, api, visitor, cursor=cursor)


@router.post("/settings/customers")
def add_customer_by_form(request: Request, api: Parts, visitor: ForDesk, form: Sent) -> Response:
    try:
        body = made(NewCustomer, {name: form.text(name) for name in ("name", "email", "lang")})
        added = hire.add_customer(api, visitor, body)
    except Problem as problem:
        return _customers_page(request, api, visitor, complaint_of(problem))
    return RedirectResponse(f"/settings/customers/{added.id}", 303)


def _customers_page(
    request: Request, api: Api, visitor: Visitor, complaint: Complaint | None = None, cursor: str | None = None
) -> HTMLResponse:
    found = hire.list_customers(api, visitor, limit=LISTED, cursor=cursor)
    return render(
        request, "settings_customers.html", visitor=visitor,
        complaint=complaint, customers=found.items, following=found.next,
        may_change=visitor.role in DESK,
    )  # fmt: skip


@router.get("/settings/customers/{customer_id}")
def customer_page(request: Request, api: Parts, visitor: ForOffice, customer_id: CustomerId) -> HTMLResponse:
    return _customer_page(request, api, visitor, customer_id)


@router.post("/settings/customers/{customer_id}")
def change_customer_by_form(
    request: Request, api: Parts, visitor: ForDesk, customer_id: CustomerId, form: Sent
) -> Response:
    def change() -> None:
        body = made(CustomerChange, {name: form.text(name) for name in ("name", "email", "lang")})
        hire.change_customer(api, visitor, Response(), customer_id, body, form.tag)

    again = f"/settings/customers/{customer_id}"
    return done_or_told(change, again, lambda told: _customer_page(request, api, visitor, customer_id, told))


@router.post("/settings/customers/{customer_id}/link")
def make_link_by_form(
    request: Request, api: Parts, visitor: ForDesk, customer_id: CustomerId, form: Sent
) -> HTMLResponse:
    """The link is shown on the answer, once: it is kept nowhere."""
    link = make_customer_link(api, visitor, customer_id, LinkWish(renew=form.text("renew") == "true"))
    return _customer_page(request, api, visitor, customer_id, link=link)


@router.post("/settings/customers/{customer_id}/contracts")
def add_contract_by_form(
    request: Request, api: Parts, visitor: ForDesk, customer_id: CustomerId, form: Sent
) -> Response:
    def add() -> None:
        signed = {"customer_id": customer_id, "signed_at": form.day("signed")}
        hire.add_contract(api, visitor, made(NewContract, {"number": form.text("number"), **signed}))

    again = f"/settings/customers/{customer_id}"
    return done_or_told(add, again, lambda told: _customer_page(request, api, visitor, customer_id, told))


@router.post("/settings/customers/{customer_id}/erase")
def erase_by_form(request: Request, api: Parts, visitor: ForErasing, customer_id: CustomerId, form: Sent) -> Response:
    def erase() -> None:
        hire.erase_customer(api, visitor, Response(), customer_id, made(Confirmed, {"confirm": form.text("confirm")}))

    again = f"/settings/customers/{customer_id}"
    return done_or_told(erase, again, lambda told: _customer_page(request, api, visitor, customer_id, told))


def _customer_page(
    request: Request, api: Api, visitor: Visitor, customer_id: int, complaint: Complaint | None = None,
    link: LinkMade | None = None,
) -> HTMLResponse:  # fmt: skip
    kept = Response()
    customer = hire.one_customer(api, visitor, kept, customer_id)
    rentals = list_rentals(api, visitor, customer_id=customer_id, limit=SHOWN_OF_CUSTOMER)
    contracts = hire.list_contracts(api, visitor, customer_id=customer_id, limit=SHOWN_OF_CUSTOMER)
    return render(
        request, "settings_customer.html", visitor=visitor, complaint=complaint, customer=customer, seen=tag_in(kept),
        rentals=rentals.items, more=rentals.next, contracts=contracts.items, link=link,
        may_change=visitor.role in DESK and customer.erased_at is None,
        may_erase=visitor.role in ERASERS and customer.erased_at is None,
        signs=api.desk.addresses.signer is not None,
    )  # fmt: skip


# --- rentals -------------------------------------------------------------------------------------------------------


@router.get("/rentals")
def rentals_page(
    request: Request,
    api: Parts,
    visitor: ForStaff,
    customer_id: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    device_id: Annotated[str | None, Query(max_length=64)] = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> HTMLResponse:
    found = list_rentals(api, visitor, customer_id, device_id or None, LISTED, cursor)
    return render(
        request, "rentals.html", visitor=visitor, rentals=found.items, following=found.next,
        customer_id=customer_id, device_id=device_id, may_add=visitor.role in DESK,
    )  # fmt: skip


@router.get("/rentals/new")
def new_rental_page(
    request: Request,
    api: Parts,
    visitor: ForDesk,
    customer_id: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    device_id: Annotated[str | None, Query(max_length=64)] = None,
) -> HTMLResponse:
    return _new_rental_page(request, api, visitor, customer_id, device_id or "")


@router.post("/rentals/new")
def add_rental_by_form(request: Request, api: Parts, visitor: ForDesk, form: Sent) -> Response:
    """Agree a rental; the machine goes out by its page."""
    try:
        body = made(NewRental, {
            "device_id": form.text("device_id"), "contract_id": form.whole("contract_id"),
            "customer_id": form.whole("customer_id"), "starts_at": form.moment("starts_at"),
            "ends_at": form.moment("ends_at"),
        })  # fmt: skip
        added = hire.add_rental(api, visitor, Response(), body)
    except Problem as problem:
        chosen = form.text("customer_id")
        customer_id = int(chosen) if is_whole(chosen) else None
        return _new_rental_page(request, api, visitor, customer_id, "", complaint_of(problem))
    return RedirectResponse(f"/rentals/{added.id}", 303)


def _new_rental_page(
    request: Request, api: Api, visitor: Visitor, customer_id: int | None, device_id: str,
    complaint: Complaint | None = None,
) -> HTMLResponse:  # fmt: skip
    contracts = hire.list_contracts(api, visitor, customer_id=customer_id, limit=LISTED)
    return render(
        request, "rental_new.html", visitor=visitor, complaint=complaint, customer_id=customer_id, device_id=device_id,
        customers=hire.list_customers(api, visitor, limit=MAX_ITEMS).items,
        contracts=contracts.items, starts=local_input(api.clock(), words_for(request).zone),
    )  # fmt: skip


@dataclass(frozen=True)
class Step:
    """The next right step before a machine can go out: a way there, or (`asks`) a self-test."""

    code: str
    path: str
    asks: bool = False


@router.get("/rentals/{rental_id}")
def rental_page(request: Request, api: Parts, visitor: ForStaff, rental_id: RentalId) -> HTMLResponse:
    return _rental_page(request, api, visitor, rental_id)


@router.post("/rentals/{rental_id}/hand-over")
def hand_over_by_form(
    request: Request, api: Parts, visitor: ForDoers, rental_id: RentalId, form: Sent
) -> Response:  # fmt: skip
    def hand_over() -> None:
        inspections.hand_over(request, api, visitor, Response(), rental_id, form.tag)

    return _moved_on(request, api, visitor, rental_id, hand_over)


@router.post("/rentals/{rental_id}/return")
def take_back_by_form(
    request: Request, api: Parts, visitor: ForDoers, rental_id: RentalId, form: Sent
) -> Response:  # fmt: skip
    def take_back() -> None:
        body = made(ReturnGiven, {"at": form.moment("at")})
        inspections.take_back(api, visitor, Response(), rental_id, body, form.tag)

    return _moved_on(request, api, visitor, rental_id, take_back)


@router.post("/rentals/{rental_id}/end")
def end_by_form(request: Request, api: Parts, visitor: ForDesk, rental_id: RentalId, form: Sent) -> Response:
    def end() -> None:
        body = made(RentalEnd, {"at": form.moment("at")})
        hire.end_rental(api, visitor, Response(), rental_id, body, form.tag)

    return _moved_on(request, api, visitor, rental_id, end)


@router.post("/rentals/{rental_id}/exchange")
def exchange_by_form(request: Request, api: Parts, visitor: ForDesk, rental_id: RentalId, form: Sent) -> Response:
    """Another machine takes over; its rental comes next."""
    try:
        body = made(Exchange, {"device_id": form.text("device_id"), "at": form.moment("at")})
        other = hire.exchange(api, visitor, Response(), rental_id, body, form.tag)
    except Problem as problem:
        return _rental_page(request, api, visitor, rental_id, complaint_of(problem))
    return RedirectResponse(f"/rentals/{other.id}", 303)


@router.post("/rentals/{rental_id}/self-test")
def ask_by_form(request: Request, api: Parts, visitor: ForDesk, rental_id: RentalId) -> Response:
    """Ask the machine to test itself, as the gate wants it."""

    def ask() -> None:
        rental = hire.one_rental(api, visitor, Response(), rental_id)
        commands.diagnose(api, visitor, rental.device_id)

    return _moved_on(request, api, visitor, rental_id, ask)


def _moved_on(request: Request, api: Api, visitor: Visitor, rental_id: int, do: Any) -> Response:
    return done_or_told(
        do, f"/rentals/{rental_id}", lambda told: _rental_page(request, api, visitor, rental_id, told)
    )  # fmt: skip


def _rental_page(
    request: Request, api: Api, visitor: Visitor, rental_id: int, complaint: Complaint | None = None
) -> HTMLResponse:
    kept, now = Response(), api.clock()
    rental = hire.one_rental(api, visitor, kept, rental_id)
    how = rental.stands
    gate = inspections.show_gate(request, api, visitor, Response(), rental_id) if how in ("coming", "waiting") else None
    step = next_step(gate, visitor) if gate else None
    asked = commands.list_commands(api, visitor, rental.device_id).items if gate else []
    looked = inspections.list_inspections(api, visitor, rental_id=rental_id, limit=10).items
    return render(
        request, "rental.html", visitor=visitor, complaint=complaint,
        rental=rental, stands=how, gate=gate, step=step, seen=tag_in(kept), inspections=looked,
        asked=next((one for one in asked if one.command == "diagnose" and one.status in ("waiting", "sent")), None),
        back_inspected=any(one.kind == "return" and one.voided_at is None for one in looked),
        may_do=visitor.role in DOERS, may_end=visitor.role in DESK and how in ("coming", "waiting", "out"),
        at_now=local_input(now, words_for(request).zone),
    )  # fmt: skip


def next_step(gate: HandOverShape, visitor: Visitor) -> Step | None:
    """Where the first thing that stands in the way is cleared, for who may; None where nothing can be done here."""
    first = gate.first
    if first is None:
        return None
    machine, facts = f"/machines/{gate.device_id}", first.facts
    inspect = f"/inspections/new?device_id={gate.device_id}&kind=hand_over&rental_id={gate.rental_id}"
    match first.code:
        case "on_hire":
            return Step(first.code, f"/rentals/{facts['rental_id']}")
        case "critical_fault":
            return Step(first.code, f"/tickets/{facts['ticket_id']}" if "ticket_id" in facts else machine)
        case "maintenance_overdue":
            return Step(first.code, "/maintenance?state=overdue")
        case "no_inspection" | "inspection_old" | "inspection_failed":
            return Step(first.code, inspect) if visitor.role in DOERS else None
        case "in_window" | "not_heard":
            return Step(first.code, machine)
        case "no_self_test" | "self_test_failed":
            return Step(first.code, "", asks=True) if visitor.role in DESK else None
    return None
