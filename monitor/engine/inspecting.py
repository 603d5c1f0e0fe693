"""Inspections and hand-overs: what people sign is judged and kept; a machine goes out only through the gate (E2, E3).

An inspection is written once. A wrong one is voided, with the reason, and stays in the record.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog
from sqlalchemy.engine import Connection

from monitor.engine.upkeep import Upkeep
from monitor.fleet import gate, inspection
from monitor.fleet.gate import Obstacle, Standing
from monitor.fleet.inspection import Answer, Change, Checklists, Finding, Kind
from monitor.store import cases, hire, inspections, maintenance, people, windows
from monitor.store.database import Database
from monitor.store.registry import Conflict, Refused, check_text, lock_machines, refuse_stale, tag_of, write_audit

log = structlog.get_logger()

NOTE_LENGTH = 2000
SIGNATURE_LENGTH = 200
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
AHEAD_MS = 5 * MINUTE_MS
"""By so much the clock of a tablet may be ahead of ours."""


@dataclass(frozen=True, slots=True)
class Inspector:
    """Who signs: a person by their own account."""

    person_id: int
    actor: str


@dataclass(frozen=True, slots=True)
class Report:
    """What an inspector hands in. `at`: when they looked (None: now); `rental_id` None: the one that it must be."""

    kind: Kind
    device_id: str
    answers: Sequence[Answer]
    signature: str
    rental_id: int | None = None
    at: int | None = None
    note: str = ""


class Blocked(Exception):
    """A machine may not be handed over now; `obstacles` says all that stands in the way."""

    def __init__(self, obstacles: tuple[Obstacle, ...]) -> None:
        super().__init__(", ".join(obstacle.code for obstacle in obstacles))
        self.obstacles = obstacles


# --- inspections ---------------------------------------------------------------------------------------------------


def inspect(database: Database, report: Report, inspector: Inspector, checklists: Checklists, now: int) -> int:
    """Judge and keep what an inspector signed; answers its id. A spot check that was asked for is done by it.

    Raises LookupError where there is no such machine, Conflict or Refused.
    """
    at = min(now, now if report.at is None else report.at)
    _check_said(report, now)
    with database.begin() as connection:
        machine = lock_machines(connection, [report.device_id]).get(report.device_id)
        if machine is None:
            raise LookupError(f"there is no machine {report.device_id}")
        if machine.retired_at is not None:
            raise Conflict(f"machine {report.device_id} is retired")
        _check_inspector(connection, report, inspector, machine.profile, at)
        checklist = checklists.of(machine.profile, report.kind)
        if unknown := inspection.unknown_codes(checklist, report.answers):
            raise Refused(f"items: {unknown[0]} is not on the checklist, or stands there twice")
        findings = inspection.judge(checklist, report.answers)
        values = {
            "kind": report.kind, "device_id": report.device_id,
            "rental_id": _rental_of(connection, report, at), "checklist_version": checklist.version,
            "passed": inspection.passed(findings), "inspector_id": inspector.person_id,
            "signature": " ".join(report.signature.split()), "signed_at": now, "at": at, "recorded_at": now,
            "note": report.note,
        }  # fmt: skip
        inspection_id = inspections.insert(connection, values, findings)
        _note_signed(connection, inspection_id, report, findings, inspector.actor, now)
        if report.kind is Kind.SPOT_CHECK:
            _end_spot_check(connection, inspection_id, report.device_id, findings, inspector.actor, at, now)
    return inspection_id


def void(database: Database, inspection_id: int, reason: str, actor: str, now: int) -> None:
    """It was wrong: it stays, and counts for nothing. A spot check that it ended is open again. Raises LookupError,
    Conflict or Refused."""
    check_text("reason", reason, 500)
    with database.begin() as connection:
        there = inspections.one(connection, inspection_id)
        if there is None:
            raise LookupError(f"there is no inspection {inspection_id}")
        # A hand-over that is being decided by it is decided first.
        lock_machines(connection, [there.device_id])
        row = inspections.one(connection, inspection_id, locked=True) or there
        if row.voided_at is not None:
            raise Conflict(f"inspection {inspection_id} is voided already")
        inspections.void(connection, inspection_id, actor, reason, now)
        order = inspections.closed_by(connection, row.device_id, inspection_id)
        if order is not None:
            maintenance.save_order(connection, order, status="open", done_at=None, done_by="", results=[],
                                   recorded_at=now)  # fmt: skip
        write_audit(connection, now, actor, "inspection_voided", f"inspection:{inspection_id}",
                    {"passed": row.passed}, {"reason": reason})  # fmt: skip
        cases.note_change(connection, now, "inspection", row.device_id, None)


def compared(connection: Connection, row: inspections.Row) -> tuple[Change, ...] | None:
    """A return inspection beside the one with which the machine went out; None where there is nothing to compare."""
    if row.kind != Kind.RETURN or row.rental_id is None:
        return None
    before = inspections.went_out_with(connection, row.rental_id)
    if before is None:
        return None
    return inspection.compare(inspections.findings_of(before), inspections.findings_of(row))


def _check_said(report: Report, now: int) -> None:
    check_text("signature", report.signature, SIGNATURE_LENGTH)
    if len(report.note) > NOTE_LENGTH:
        raise Refused(f"note: at most {NOTE_LENGTH} characters are allowed")
    within_ms = round(gate.shipped_policy().recorded_within_h * HOUR_MS)
    if report.at is not None and not now - within_ms <= report.at <= now + AHEAD_MS:
        raise Refused(f"at: an inspection is written down within {within_ms // HOUR_MS} h, and not before it happened")


def _check_inspector(connection: Connection, report: Report, who: Inspector, profile: str, at: int) -> None:
    """P1: nobody inspects a model without the training for it. The name is typed, and their own."""
    name = people.names(connection, [who.person_id]).get(who.person_id)
    if name is None or _plain(report.signature) != _plain(name):
        raise Refused("signature: sign with your own name, as it is known here")
    if not people.may_work_on(connection, who.person_id, profile, at):
        raise Refused(f"inspector: person {who.person_id} has no valid certificate for {profile} (P1)")


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def _rental_of(connection: Connection, report: Report, at: int) -> int | None:
    if report.rental_id is not None:
        row = hire.rental(connection, report.rental_id)
        if row is None or row.device_id != report.device_id:
            raise Refused(f"rental_id: {report.rental_id} is no rental of {report.device_id}")
        if report.kind is Kind.RETURN:
            _check_went_out(row, at)
        return int(row.id)
    if report.kind is Kind.HAND_OVER:
        return None
    if report.kind is Kind.RETURN:
        found = inspections.returned_by(connection, report.device_id, at)
        missing = f"machine {report.device_id} is on hire to nobody, and was not"
    else:
        found = inspections.rental_at(connection, report.device_id, at)
        missing = f"machine {report.device_id} is not on hire at that moment"
    if found is None:
        raise Conflict(missing)
    return found


def _check_went_out(rental: hire.Row, at: int) -> None:
    """A machine that has not gone out yet comes back from nothing. Where no hand-over is on record, the rental's
    beginning stands for it."""
    if rental.handed_over_at is None and at < rental.starts_at:
        raise Refused(f"at: rental {rental.id} had not begun by then, and no hand-over for it is on record")
    if rental.handed_over_at is not None and at < rental.handed_over_at:
        raise Refused(f"at: the machine was handed over for rental {rental.id} only after that")


def _note_signed(
    connection: Connection, inspection_id: int, report: Report, findings: Sequence[Finding], actor: str, now: int
) -> None:  # fmt: skip
    failing = [finding.code for finding in inspection.fails(findings)]
    after = {"device_id": report.device_id, "kind": report.kind, "passed": inspection.passed(findings),
             "fails": failing}  # fmt: skip
    write_audit(connection, now, actor, "inspection_signed", f"inspection:{inspection_id}", after=after)
    cases.note_change(connection, now, "inspection", report.device_id, None)
    log.info("inspected", device=report.device_id, kind=report.kind, fails=failing)


def _end_spot_check(
    connection: Connection, inspection_id: int, device_id: str, findings: Sequence[Finding], actor: str, at: int,
    now: int,
) -> None:  # fmt: skip
    """E6: the inspection is the result of the work order, passed or not."""
    order = inspections.open_spot_check(connection, device_id)
    if order is None or order.opened_at > at:
        return
    results = inspections.result(inspection_id, passed=inspection.passed(findings))
    maintenance.save_order(
        connection, order, status="done", done_at=at, done_by=actor, results=results, recorded_at=now
    )
    write_audit(connection, now, actor, "work_order_done", f"work_order:{order.id}", {"status": "open"},
                {"status": "done", "inspection_id": inspection_id})  # fmt: skip


# --- the gate ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gate:
    """What stands in the way of a hand-over at a moment, and what that was judged by."""

    rental: hire.Row
    at: int
    standing: Standing
    obstacles: tuple[Obstacle, ...]


def look(connection: Connection, upkeep: Upkeep, rental_id: int, now: int) -> Gate:
    """The gate of a rental as it is now; nothing changes. Raises LookupError."""
    rental = hire.rental(connection, rental_id)
    machine = inspections.machine(connection, rental.device_id) if rental is not None else None
    if rental is None or machine is None:
        raise LookupError(f"there is no rental {rental_id}")
    standing = _standing(connection, upkeep, rental, machine, now)
    return Gate(rental, now, standing, gate.obstacles(standing, gate.shipped_policy(), now))


def hand_over(
    database: Database, upkeep: Upkeep, rental_id: int, actor: str, now: int, *, seen: str | None = None
) -> Gate:  # fmt: skip
    """The machine of a rental goes to its customer; answers the gate that it passed.

    Raises Blocked with all obstacles, LookupError, or Stale where the rental was read as `seen` and is another now.
    """
    with database.begin() as connection:
        rental = hire.rental(connection, rental_id)
        if rental is None:
            raise LookupError(f"there is no rental {rental_id}")
        # Whoever else changes the machine's rentals or inspections waits until this is decided.
        lock_machines(connection, [rental.device_id])
        passed = look(connection, upkeep, rental_id, now)
        refuse_stale(f"rental {rental_id}", seen, tag_of(passed.rental))
        if passed.obstacles:
            raise Blocked(passed.obstacles)
        _go(connection, passed, actor, now)
    return passed


def _go(connection: Connection, passed: Gate, actor: str, now: int) -> None:
    standing = passed.standing
    assert standing.for_hand_over is not None  # noqa: S101 (else it would have been in the way)
    assert standing.self_test is not None  # noqa: S101
    record = {"policy": gate.shipped_policy().version, "standing": msgspec.to_builtins(standing)}
    inspections.insert_hand_over(connection, {
        "rental_id": passed.rental.id, "inspection_id": standing.for_hand_over.id,
        "command_id": standing.self_test.command_id, "at": now, "actor": actor, "gate": record,
    })  # fmt: skip
    after = {"device_id": passed.rental.device_id, "inspection_id": standing.for_hand_over.id}
    write_audit(connection, now, actor, "handed_over", f"rental:{passed.rental.id}", after=after)
    cases.note_change(connection, now, "rental", passed.rental.device_id, None)
    log.info("handed_over", device=passed.rental.device_id, rental=passed.rental.id)


def _standing(
    connection: Connection, upkeep: Upkeep, rental: hire.Row, machine: inspections.Row, now: int
) -> Standing:  # fmt: skip
    device_id = rental.device_id
    since = inspections.since_at(connection, device_id, machine.added_at, now, but=rental.id)
    return Standing(
        rental.id, rental.starts_at, rental.ends_at, rental.handed_over_at, since, machine.retired_at,
        machine.revoked_at,
        inspections.newest(connection, device_id, since, kind=Kind.HAND_OVER),
        inspections.newest(connection, device_id, since),
        inspections.self_test(connection, device_id, machine.generation),
        machine.live_at,
        inspections.other_rental(connection, device_id, now, but=rental.id),
        tuple(
            {"window_id": row.id, "what": row.what, "ends_at": row.ends_at}
            for row in windows.listed(connection, device_id=device_id, at=now, limit=inspections.MOST_NAMED)
        ),
        tuple(one._asdict() for one in upkeep.overdue(connection, machine, now)),
        tuple(inspections.critical_faults(connection, device_id)),
    )  # fmt: skip
