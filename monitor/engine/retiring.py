"""Retiring a machine: it leaves the fleet for good, with nothing left open on it. Its record stays."""

from sqlalchemy.engine import Connection

from monitor.devices import FaultKind
from monitor.store import cases, inspections, maintenance
from monitor.store.database import Database
from monitor.store.registry import (
    Conflict,
    changing,
    check_text,
    lock_machines,
    rental_between,
    set_retired,
    write_audit,
)

REASON_LENGTH = 500
TICKETS_NAMED = 20
EVERY_FAULT = frozenset(FaultKind)


def retire(database: Database, device_id: str, reason: str, actor: str, now: int) -> None:
    """A machine is out of the fleet from now on: its credentials end, its open work orders and faults with it.

    Raises LookupError where there is no such machine, and Conflict where it is retired already, is with a customer or
    promised to one, or has tickets that somebody still works on.
    """
    check_text("reason", reason, REASON_LENGTH)
    with changing(database) as connection:
        machine = lock_machines(connection, [device_id]).get(device_id)
        if machine is None:
            raise LookupError(f"there is no machine {device_id}")
        if machine.retired_at is not None:
            raise Conflict(f"machine {device_id} is retired already")
        _refuse_hired(connection, device_id, now)
        _refuse_ticketed(connection, device_id)
        set_retired(connection, device_id, now)
        for order in maintenance.open_orders_of(connection, [device_id]):
            _cancel(connection, order, actor, now)
        _end_faults(connection, device_id, now)
        write_audit(connection, now, actor, "device_retired", f"device:{device_id}", after={"reason": reason})
        cases.note_change(connection, now, "device", device_id, None)


def _refuse_hired(connection: Connection, device_id: str, now: int) -> None:
    out = inspections.out_by(connection, device_id, now)
    if out is not None:
        raise Conflict(f"machine {device_id} is with its customer by rental {out}: it has to come back first")
    rental = rental_between(connection, device_id, now, None)
    if rental is not None:
        course = "runs" if rental.starts_at <= now else "is agreed for later"
        raise Conflict(f"rental {rental.id} of machine {device_id} {course}: end it first")


def _refuse_ticketed(connection: Connection, device_id: str) -> None:
    tickets = cases.tickets_at_work(connection, device_id)
    if tickets:
        named = ", ".join(str(one) for one in tickets[:TICKETS_NAMED])
        raise Conflict(f"machine {device_id} has tickets that are not resolved: {named}; resolve or cancel them first")


def _cancel(connection: Connection, order: maintenance.Row, actor: str, now: int) -> None:
    maintenance.save_order(connection, order, status="cancelled", note="retired", done_by=actor, recorded_at=now)
    write_audit(connection, now, actor, "work_order_cancelled", f"work_order:{order.id}", {"status": "open"},
                {"status": "cancelled"})  # fmt: skip
    cases.note_change(connection, now, "maintenance", order.device_id, None)


def _end_faults(connection: Connection, device_id: str, now: int) -> None:
    """What is held would open its ticket in time."""
    for fault in cases.forget_faults(connection, {device_id: EVERY_FAULT}, now):
        if fault.ticket_id is not None:
            cases.mark_cleared(connection, fault.ticket_id, now)
        cases.note_change(connection, now, "fault_cleared", device_id, fault.ticket_id)
