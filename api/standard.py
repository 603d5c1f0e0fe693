"""The service standard as the desk keeps it."""

from fastapi import APIRouter
from pydantic import Field

from api.access import ForStaff, KnownQuery
from api.context import Parts
from api.problems import documented
from api.shapes import Shape

router = APIRouter(prefix="/api/v1", tags=["tickets"], dependencies=[KnownQuery])


class ClauseShape(Shape):
    """One promise: from which turn of a ticket to which, within what time, and for which tickets."""

    standard_id: str = Field(description="Row of the service standard, such as R7.")
    kind: str = Field(description="dispatch, remote_diagnosis or repair_start")
    start: str
    stop: str
    length_s: float | None = Field(description="null: it ends with the `length_days`-th working day.")
    length_days: int | None
    calendar: str = Field(description="always: round the clock; working: the company's working time")
    remote: bool | None = Field(description="true: at remote sites only; false: elsewhere only; null: everywhere")
    severities: list[str]
    warn_before_s: float
    warns: list[str] = Field(description="The roles that are warned.")


class StandardShape(Shape):
    version: str = Field(description="Every ticket keeps the version that it was opened under.")
    clauses: list[ClauseShape]


@router.get("/service-standard", responses=documented(401, 403))
def service_standard(api: Parts, _: ForStaff) -> StandardShape:
    """The clocks of a fault, as monitor/desk/service_standard.toml has them."""
    return StandardShape.model_validate(api.desk.standard)
