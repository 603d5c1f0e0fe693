"""How good the rules are, as far as people have judged what they found."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from api.access import ForOffice, KnownQuery
from api.context import Parts
from api.problems import Problem, documented
from api.shapes import AskedMoment, Moment, Shape
from monitor.fleet.quality import qualities
from monitor.store import queries

router = APIRouter(prefix="/api/v1", tags=["tickets"], dependencies=[KnownQuery])

DEFAULT_MS = 90 * 86_400_000


class ShareShape(Shape):
    """So many of those that were judged, with the 95 % interval of the share (Wilson): of three cases it is wide."""

    count: int
    share: float | None = Field(description="null where nothing was judged")
    lower: float
    upper: float


class RuleQualityShape(Shape):
    rule: str = Field(description="The rule and its version, as the evidence names it.")
    tickets: int
    judged: int = Field(description="Tickets with an outcome.")
    not_judged: int
    real: ShareShape
    nuisance: ShareShape
    wrong_cause: ShareShape


class QualityShape(Shape):
    start_at: Moment
    end_at: Moment
    rules: list[RuleQualityShape]


@router.get("/rules/quality", responses=documented(401, 403, 422))
def rule_quality(
    api: Parts,
    _: ForOffice,
    start: Annotated[AskedMoment | None, Query(alias="from", description="Default: 90 days before `to`.")] = None,
    end: Annotated[AskedMoment | None, Query(alias="to", description="Default: now.")] = None,
) -> QualityShape:
    """By rule: the tickets opened in `[from, to)`, and what people said they were. A ticket counts for each rule that
    found one of its faults."""
    end_at = api.clock() if end is None else end
    start_at = max(0, end_at - DEFAULT_MS) if start is None else start
    if start_at >= end_at:
        raise Problem(422, "The request is not valid", "from must lie before to")
    with api.reading() as connection:
        found = qualities(queries.rule_outcomes(connection, start_at, end_at))
    return QualityShape(
        start_at=start_at, end_at=end_at, rules=[RuleQualityShape.model_validate(one) for one in found]
    )  # fmt: skip
