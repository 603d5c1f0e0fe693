"""The month's spot check: which machines were drawn, how, and what was found."""

from typing import Annotated

from fastapi import Path, Request
from fastapi.responses import HTMLResponse

from api.access import DOERS, ForStaff
from api.context import Api, Parts
from api.pages.shell import pages, render
from api.problems import Problem
from api.spot_checks import SpotCheckShape, list_draws, one_month
from monitor.fleet.availability import month_of
from monitor.store.access import Visitor

router = pages()

MONTHS_OFFERED = 13
Month = Annotated[str, Path(pattern=r"^20\d\d-(0[1-9]|1[0-2])$")]


@router.get("/spot-checks")
def newest_page(request: Request, api: Parts, visitor: ForStaff) -> HTMLResponse:
    """The newest draw; before the first one, the month that runs."""
    draws = list_draws(api, visitor, limit=1).items
    return _page(request, api, visitor, draws[0].month if draws else month_of(api.clock(), api.timezone))


@router.get("/spot-checks/{month}")
def month_page(request: Request, api: Parts, visitor: ForStaff, month: Month) -> HTMLResponse:
    return _page(request, api, visitor, month)


def _page(request: Request, api: Api, visitor: Visitor, month: str) -> HTMLResponse:
    return render(
        request, "spot_checks.html", visitor=visitor, month=month, check=_drawn(api, visitor, month),
        draws=list_draws(api, visitor, limit=MONTHS_OFFERED).items, may_inspect=visitor.role in DOERS,
    )  # fmt: skip


def _drawn(api: Api, visitor: Visitor, month: str) -> SpotCheckShape | None:
    """None: nothing was drawn in that month."""
    try:
        return one_month(api, visitor, month)
    except Problem as problem:
        if problem.status != 404:
            raise
        return None
