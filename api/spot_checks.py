"""The monthly spot check of machines in use (E6): what was drawn, how, and what was found."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field

from api.access import ForStaff, KnownQuery
from api.context import Parts
from api.paging import Cursor, Limit, cut, key_of
from api.problems import documented, not_found
from api.shapes import Moment, Page, Shape
from monitor.engine.spot_checking import drawn_again
from monitor.fleet.spot_checks import shipped_policy
from monitor.store import inspections

router = APIRouter(prefix="/api/v1/spot-checks", tags=["inspections"], dependencies=[KnownQuery])


class StratumShape(Shape):
    """Machines that were drawn from together: of one model, and of like age."""

    profile: str
    from_days: int = Field(description="The age band begins at so many days since the machine was added.")
    frame: int = Field(description="So many machines were in use.")
    drawn: int


class CheckShape(Shape):
    """One drawn machine, its work order, and the inspection that is its result."""

    device_id: str
    profile: str
    site_name: str | None
    assignee_name: str | None = Field(description="null: nobody yet.")
    work_order_id: int
    status: str
    due_at: Moment
    done_at: Moment | None
    inspection_id: int | None
    passed: bool | None
    fails: list[str]


class SpotCheckShape(Shape):
    month: str
    at: Moment
    seed: str
    policy_version: str
    frame: int = Field(description="How many machines were in use at that moment.")
    fingerprint: str = Field(description="SHA-256 of their ids, sorted, one a line.")
    drawn_again: bool = Field(description="Whether drawing again, from what the record says now, gives the same.")
    strata: list[StratumShape]
    done: int
    passed: int
    machines: list[CheckShape]


class DrawShape(Shape):
    month: str
    at: Moment
    frame: int = Field(description="How many machines were in use at that moment.")
    drawn: int


@router.get("", responses=documented(401, 403, 422))
def list_draws(api: Parts, _: ForStaff, limit: Limit = 50, cursor: Cursor = None) -> Page[DrawShape]:
    """The months in which machines were drawn, the newest first."""
    with api.reading() as connection:
        rows = inspections.draws(connection, before=key_of(cursor, str), limit=limit + 1)
    shapes = [DrawShape(month=row.month, at=row.at, frame=row.frame, drawn=len(row.machines)) for row in rows]
    items, following = cut(shapes, limit, "month")
    return Page(items=items, next=following)


@router.get("/{month}", responses=documented(401, 403, 404))
def one_month(
    api: Parts, _: ForStaff, month: Annotated[str, Path(pattern=r"^20\d\d-(0[1-9]|1[0-2])$", examples=["2026-11"])]
) -> SpotCheckShape:
    """A month's draw, with all that it takes to draw it again, and what the checks found."""
    with api.reading() as connection:
        row = inspections.drawn(connection, month)
        if row is None:
            raise not_found("spot check")
        again = drawn_again(connection, row, shipped_policy())
        checks = [_check(order, inspections.outcome(connection, order))
                  for order in inspections.orders_of(connection, row.id)]  # fmt: skip
    same = again.fingerprint == row.fingerprint and list(again.machines) == row.machines
    return SpotCheckShape.model_validate({
        **row._mapping, "machines": checks, "drawn_again": same,
        "done": sum(check.inspection_id is not None for check in checks),
        "passed": sum(check.passed is True for check in checks),
    })  # fmt: skip


def _check(order: inspections.Row, outcome: inspections.Outcome | None) -> CheckShape:
    return CheckShape(
        device_id=order.device_id, profile=order.profile, site_name=order.site_name,
        assignee_name=order.assignee_name, work_order_id=order.id, status=order.status, due_at=order.due_at,
        done_at=order.done_at, inspection_id=outcome.inspection_id if outcome else None,
        passed=outcome.passed if outcome else None, fails=list(outcome.fails) if outcome else [],
    )  # fmt: skip
