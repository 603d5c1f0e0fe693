"""Inspections, hand-overs and the draws of spot checks, inside their caller's transaction."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.fleet.gate import Inspected, SelfTest
from monitor.fleet.inspection import Finding, Kind, fails
from monitor.fleet.spot_checks import Draw, InUse
from monitor.store import schema
from monitor.store.database import runs
from monitor.store.registry import rental_between

Row = sa.Row[*tuple[Any, ...]]

SPOT_CHECK = "spot_check"
_CRITICAL = ("emergency", "urgent")
_RESULT = "inspection"
MOST_NAMED = 20
"""So many faults are named as obstacles, the gravest first."""


# --- inspections ---------------------------------------------------------------------------------------------------


def insert(connection: Connection, values: Mapping[str, Any], findings: Sequence[Finding]) -> int:
    items = msgspec.to_builtins(findings)
    key = connection.execute(sa.insert(schema.inspection).values(**values, items=items)).inserted_primary_key
    assert key is not None  # noqa: S101 (a table with a serial id always answers with it)
    return int(key[0])


def findings_of(row: Row) -> tuple[Finding, ...]:
    """What an inspection found, item by item."""
    return msgspec.convert(row.items, tuple[Finding, ...])


def one(connection: Connection, inspection_id: int, *, locked: bool = False) -> Row | None:
    """An inspection with its machine's model and its inspector's name."""
    statement = _beside().where(schema.inspection.c.id == inspection_id)
    return connection.execute(statement.with_for_update(of=schema.inspection) if locked else statement).first()


def listed(
    connection: Connection, *, device_id: str | None = None, rental_id: int | None = None, kind: Kind | None = None,
    passed: bool | None = None, before: int | None = None, limit: int,
) -> list[Row]:  # fmt: skip
    """Inspections, the newest first; voided ones too, but where it is asked whether they were `passed`."""
    c = schema.inspection.c
    wanted = [column == value for column, value in ((c.device_id, device_id), (c.rental_id, rental_id), (c.kind, kind))
              if value is not None]  # fmt: skip
    if passed is not None:
        wanted += [c.passed.is_(passed), c.voided_at.is_(None)]
    statement = _beside().where(*wanted).order_by(c.id.desc()).limit(limit)
    return list(connection.execute(statement if before is None else statement.where(c.id < before)))


def void(connection: Connection, inspection_id: int, actor: str, reason: str, now: int) -> None:
    c = schema.inspection.c
    voided = {"voided_at": now, "voided_by": actor, "void_reason": reason}
    connection.execute(sa.update(schema.inspection).where(c.id == inspection_id).values(**voided))


def _beside() -> sa.Select[*tuple[Any, ...]]:
    i, d, p = schema.inspection.c, schema.device.c, schema.person.c
    return (
        sa.select(schema.inspection, d.profile, p.name.label("inspector_name"))
        .join(schema.device, d.device_id == i.device_id).join(schema.person, p.id == i.inspector_id)
    )  # fmt: skip


# --- what the gate looks at ----------------------------------------------------------------------------------------


def since_at(connection: Connection, device_id: str, added_at: int, now: int, *, but: int) -> int:
    """When a machine last left or was given back, by any rental other than `but`; or when it was added."""
    c = schema.rental.c
    # A rental that ended when it began covers no moment. Whether its machine left, only the hand-over says.
    ended_at = sa.case((sa.and_(c.ends_at <= now, c.ends_at > c.starts_at), c.ends_at))
    moments = c.handed_over_at, sa.func.coalesce(c.returned_at, ended_at)
    others = c.device_id == device_id, c.id != but
    latest = connection.execute(sa.select(*(sa.func.max(one) for one in moments)).where(*others)).one()
    return max(added_at, *(at or 0 for at in latest))


def newest(connection: Connection, device_id: str, since: int, *, kind: Kind | None = None) -> Inspected | None:
    """The newest inspection of a machine since then that was not voided."""
    c = schema.inspection.c
    wanted = [c.device_id == device_id, c.at >= since, c.voided_at.is_(None), *([c.kind == kind] if kind else [])]
    row = connection.execute(
        sa.select(c.id, c.at, c.passed).where(*wanted).order_by(c.at.desc(), c.id.desc()).limit(1)
    ).first()
    return Inspected(row.id, row.at, row.passed) if row else None


def self_test(connection: Connection, device_id: str, generation: int) -> SelfTest | None:
    """The newest self-test that the box on this machine answered."""
    c = schema.command.c
    row = connection.execute(
        sa.select(c.id, c.answered_at, c.ok)
        .where(c.device_id == device_id, c.generation == generation, c.command == "diagnose",
               c.answered_at.is_not(None))
        .order_by(c.answered_at.desc(), c.id).limit(1)
    ).first()  # fmt: skip
    return SelfTest(row.id, row.answered_at, row.ok) if row else None


def critical_faults(connection: Connection, device_id: str) -> list[dict[str, int | str]]:
    """Open faults that make the machine bad (E1), the gravest first."""
    c = schema.fault.c
    rows = connection.execute(
        sa.select(c.id, c.kind, c.subject, c.severity, c.opened_at, c.ticket_id)
        .where(c.device_id == device_id, c.cleared_at.is_(None), c.severity.in_(_CRITICAL))
        .order_by(c.severity, c.opened_at).limit(MOST_NAMED)
    )  # fmt: skip
    return [{"fault_id": row.id, **{k: v for k, v in row._mapping.items() if k != "id" and v is not None}}
            for row in rows]  # fmt: skip


def other_rental(connection: Connection, device_id: str, now: int, *, but: int) -> int | None:
    """Another rental by which the machine is out, or that runs now."""
    out = out_by(connection, device_id, now)
    if out not in (None, but):
        return out
    row = rental_between(connection, device_id, now, now + 1, but=but)
    return int(row.id) if row else None


def out_by(connection: Connection, device_id: str, at: int) -> int | None:
    """The rental by which a machine was out at a moment: that of its newest hand-over, until it came back from it,
    whatever the rental's period says. A machine that one rental took over from another is out by the later one."""
    row = _last_handed_over(connection, device_id, at)
    return int(row.id) if row and (row.returned_at is None or row.returned_at > at) else None


def _last_handed_over(connection: Connection, device_id: str, at: int) -> Row | None:
    c = schema.rental.c
    newest = sa.select(c.id, c.returned_at).where(c.device_id == device_id, c.handed_over_at <= at)
    return connection.execute(newest.order_by(c.handed_over_at.desc(), c.id.desc()).limit(1)).first()


def machine(connection: Connection, device_id: str) -> Row | None:
    c = schema.device.c
    return connection.execute(sa.select(schema.device).where(c.device_id == device_id)).first()


# --- hand-overs and returns ----------------------------------------------------------------------------------------


def insert_hand_over(connection: Connection, values: Mapping[str, Any]) -> None:
    """A machine went out: the hand-over, and its moment on the rental."""
    connection.execute(sa.insert(schema.hand_over).values(**values))
    c = schema.rental.c
    connection.execute(
        sa.update(schema.rental).where(c.id == values["rental_id"]).values(handed_over_at=values["at"])
    )  # fmt: skip


def hand_over_of(connection: Connection, rental_id: int) -> Row | None:
    c = schema.hand_over.c
    return connection.execute(sa.select(schema.hand_over).where(c.rental_id == rental_id)).first()


def rental_at(connection: Connection, device_id: str, at: int) -> int | None:
    """The rental of a machine that runs at a moment."""
    c = schema.rental.c
    found: int | None = connection.execute(sa.select(c.id).where(c.device_id == device_id, runs(c, at))).scalar()
    return found


def returned_by(connection: Connection, device_id: str, at: int) -> int | None:
    """The rental that a machine which is inspected at its return comes back from: that of its newest hand-over, while
    it is out by it or was not inspected since; else the last one that had begun."""
    last = _last_handed_over(connection, device_id, at)
    if last is not None:
        i = schema.inspection.c
        done = i.rental_id == last.id, i.kind == Kind.RETURN, i.voided_at.is_(None)
        if last.returned_at is None or connection.execute(sa.select(i.id).where(*done).limit(1)).first() is None:
            return int(last.id)
    c = schema.rental.c
    went_at = sa.func.coalesce(c.handed_over_at, c.starts_at)
    went = sa.or_(c.handed_over_at.is_not(None), c.ends_at.is_(None), c.ends_at > c.starts_at)
    wanted = c.device_id == device_id, went_at <= at, went
    found: int | None = connection.execute(sa.select(c.id).where(*wanted).order_by(went_at.desc()).limit(1)).scalar()
    return found


def went_out_with(connection: Connection, rental_id: int) -> Row | None:
    """The inspection with which a rental's machine was handed over; else the newest for its hand-over."""
    i, h = schema.inspection.c, schema.hand_over.c
    handed = sa.exists().where(h.inspection_id == i.id, h.rental_id == rental_id)
    meant = sa.and_(i.rental_id == rental_id, i.kind == Kind.HAND_OVER)
    return connection.execute(
        _beside().where(sa.or_(handed, meant), i.voided_at.is_(None)).order_by(handed.desc(), i.id.desc()).limit(1)
    ).first()  # fmt: skip


def uninspected(connection: Connection, *, before: int | None = None, limit: int) -> list[Row]:
    """Rentals whose machine came back and was not inspected since, the newest first."""
    r, i = schema.rental.c, schema.inspection.c
    done = sa.exists().where(i.rental_id == r.id, i.kind == Kind.RETURN, i.voided_at.is_(None))
    statement = sa.select(r.id, r.device_id, r.customer_id, r.returned_at).where(r.returned_at.is_not(None), ~done)
    if before is not None:
        statement = statement.where(r.id < before)
    return list(connection.execute(statement.order_by(r.id.desc()).limit(limit)))


# --- spot checks ---------------------------------------------------------------------------------------------------


def in_use(connection: Connection, at: int) -> list[InUse]:
    """The machines on hire at a moment, as far as they are not retired."""
    d, r = schema.device.c, schema.rental.c
    rows = connection.execute(
        sa.select(d.device_id, d.profile, d.added_at).join(schema.rental, r.device_id == d.device_id)
        .where(runs(r, at), sa.or_(d.retired_at.is_(None), d.retired_at > at))
    )  # fmt: skip
    return [InUse(*row) for row in rows]


def drawn(connection: Connection, month: str) -> Row | None:
    c = schema.spot_check_draw.c
    return connection.execute(sa.select(schema.spot_check_draw).where(c.month == month)).first()


def draws(connection: Connection, *, before: str | None = None, limit: int) -> list[Row]:
    """(month, at, frame, machines) of the draws that there were, the newest first."""
    c = schema.spot_check_draw.c
    statement = sa.select(c.month, c.at, c.frame, c.machines).order_by(c.month.desc()).limit(limit)
    return list(connection.execute(statement if before is None else statement.where(c.month < before)))


def insert_draw(connection: Connection, draw: Draw) -> int:
    d = schema.spot_check_draw
    values = {
        "month": draw.month, "at": draw.at, "seed": draw.seed, "policy_version": draw.policy_version,
        "frame": draw.frame, "fingerprint": draw.fingerprint, "strata": msgspec.to_builtins(draw.strata),
        "machines": list(draw.machines),
    }  # fmt: skip
    return int(connection.execute(sa.insert(d).values(**values).returning(d.c.id)).scalar_one())


def orders_of(connection: Connection, draw_id: int) -> list[Row]:
    """The work orders of a draw by machine, each with its model, where it stands, and who is to look at it."""
    w, d, s, p = schema.work_order.c, schema.device.c, schema.site.c, schema.person.c
    return list(connection.execute(
        sa.select(schema.work_order, d.profile, s.name.label("site_name"), p.name.label("assignee_name"))
        .join(schema.device, d.device_id == w.device_id).outerjoin(schema.site, s.id == d.site_id)
        .outerjoin(schema.person, p.id == w.assignee_id).where(w.draw_id == draw_id).order_by(w.device_id)
    ))  # fmt: skip


def open_spot_check(connection: Connection, device_id: str) -> Row | None:
    """The spot check that a machine waits for longest."""
    w = schema.work_order.c
    wanted = w.device_id == device_id, w.kind == SPOT_CHECK, w.status == "open"
    statement = sa.select(schema.work_order).where(*wanted).order_by(w.due_at, w.id).limit(1).with_for_update()
    return connection.execute(statement).first()


def closed_by(connection: Connection, device_id: str, inspection_id: int) -> Row | None:
    """The spot check that an inspection was the result of."""
    w = schema.work_order.c
    wanted = w.device_id == device_id, w.kind == SPOT_CHECK, w.status == "done"
    rows = connection.execute(sa.select(schema.work_order).where(*wanted).order_by(w.id.desc()).with_for_update())
    return next((row for row in rows if inspection_of(row) == inspection_id), None)


def inspection_of(order: Row) -> int | None:
    """The inspection that a work order ended with, as `result` has it."""
    noted = [one["note"] for one in order.results if one.get("code") == _RESULT]
    return int(noted[-1].removeprefix("inspection:")) if noted else None


class Outcome(NamedTuple):
    """What a spot check found."""

    inspection_id: int
    passed: bool
    fails: tuple[str, ...]


def outcome(connection: Connection, order: Row) -> Outcome | None:
    """What the inspection found that a work order ended with."""
    inspection_id = inspection_of(order)
    row = one(connection, inspection_id) if inspection_id is not None else None
    return Outcome(row.id, row.passed, tuple(one.code for one in fails(findings_of(row)))) if row else None


def result(inspection_id: int, *, passed: bool) -> list[dict[str, str]]:
    """What a work order keeps of the inspection that is its result."""
    return [{"code": _RESULT, "result": "ok" if passed else "not_ok", "note": f"inspection:{inspection_id}"}]
