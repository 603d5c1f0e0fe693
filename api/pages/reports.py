"""The monthly report as a page, and the API's routes that may answer by that page."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import HTMLResponse

from api.access import KnownQuery
from api.context import Parts, api_of
from api.labels import labels_of
from api.pages.shell import pages, render
from api.papers import PaperLang
from api.problems import Problem, documented
from api.reports import (
    NO_CASE_WORDS,
    OFFERED,
    ROWS,
    AsOf,
    Drawn,
    ForChiefs,
    Month,
    ReportShape,
    negotiated,
    paper,
    row_cases,
    sheet,
    told_of,
)
from api.words import wanted_lang
from monitor.fleet.availability import DAY_MS, month_of
from monitor.fleet.report import Report
from monitor.store import report as store
from monitor.store.access import Visitor

router = APIRouter()
page_router = pages()
CASES_SHOWN = 100
MONTHS_OFFERED = 24
api_router = APIRouter(prefix="/api/v1", tags=["reports"], dependencies=[KnownQuery])


@api_router.get("/reports/{month}.html", responses=documented(401, 403, 404, 422), response_class=HTMLResponse)
def report_html(
    request: Request,
    api: Parts,
    visitor: ForChiefs,
    month: Month,
    as_of: AsOf = None,
    lang: PaperLang = None,  # noqa: ARG001 (render reads it)
) -> HTMLResponse:
    """The report as a page."""
    return _page(request, visitor, told_of(request, api, month, as_of))


@api_router.get("/reports/{month}", responses=documented(401, 403, 404, 406, 422), response_model=ReportShape)
def one_report(
    request: Request, api: Parts, visitor: ForChiefs, month: Month, as_of: AsOf = None
) -> ReportShape | Response:
    """The month against every row of the service standard: as JSON, or as the `Accept` header has it (text/html,
    text/csv, application/pdf)."""
    wanted = negotiated(request.headers.get("accept", ""))
    if wanted is None:
        raise Problem(406, "Not acceptable", f"Offered are {', '.join(OFFERED)}.")
    told = told_of(request, api, month, as_of)
    if wanted == "html":
        return _page(request, visitor, told)
    if wanted == "pdf":
        return paper(request, told, None)
    return sheet(told) if wanted == "csv" else ReportShape.model_validate(told)


@page_router.get("/reports")
def newest_page(request: Request, api: Parts, visitor: ForChiefs) -> HTMLResponse:
    """The report that was built last; before the first one, the month that runs."""
    with api.reading() as connection:
        newest = store.listed(connection, before=None, limit=1)
    month = newest[0].month if newest else month_of(api.clock(), api.timezone)
    return _page(request, visitor, told_of(request, api, month, None))


@page_router.get("/reports/{month}")
def report_page(
    request: Request, api: Parts, visitor: ForChiefs, month: Month, as_of: AsOf = None
) -> HTMLResponse:  # fmt: skip
    return _page(request, visitor, told_of(request, api, month, as_of))


@page_router.get("/reports/{month}/rows/{code}")
def cases_page(
    request: Request, api: Parts, visitor: ForChiefs, month: Month, code: Annotated[str, Path(max_length=20)],
    as_of: AsOf = None, cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> HTMLResponse:  # fmt: skip
    """The cases that one figure came from."""
    moment = min(api.clock(), api.clock() if as_of is None else as_of)
    found = row_cases(api, visitor, month, code, moment, limit=CASES_SHOWN, cursor=cursor)
    return render(
        request, "report_cases.html", visitor=visitor, month=month, code=code, as_of=moment, cases=found.items,
        following=found.next, title=ROWS[code], no_case=NO_CASE_WORDS,
    )  # fmt: skip


def _page(request: Request, visitor: Visitor, told: Report) -> HTMLResponse:
    api = api_of(request)
    labels = labels_of(request, wanted_lang(request, api.lang))
    before, after = month_of(told.from_at - 1, told.timezone), month_of(told.from_at + 32 * DAY_MS, told.timezone)
    with api.reading() as connection:
        kept = store.listed(connection, before=None, limit=MONTHS_OFFERED)
    return render(
        request, "report.html", visitor=visitor, told=told, drawn=Drawn(labels, told), before=before,
        after=after if after <= month_of(api.clock(), told.timezone) else "", kept=kept,
    )  # fmt: skip


router.include_router(api_router)
router.include_router(page_router)
