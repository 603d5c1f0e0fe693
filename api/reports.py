"""The monthly report: the month against the service standard, as JSON, CSV, page and PDF, with the cases behind it."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field

from api.access import Allowed, KnownQuery
from api.context import Api, Parts, api_of
from api.labels import N_, WAITS, Labels, labels_of
from api.paging import Cursor, Limit, cursor_of, cut, key_of
from api.papers import RESPONSES, PaperLang, printed
from api.problems import documented, not_found
from api.shapes import AskedMoment, Moment, Page, Shape, rfc3339
from api.turns import turns_of
from api.words import NOTHING, wanted_lang
from monitor.engine import reporting
from monitor.fleet.report import CODES, Breach, Measure, Point, Reason, Report, Row, from_json
from monitor.store import report as store
from monitor.store.access import Role, Visitor

router = APIRouter(prefix="/api/v1", tags=["reports"], dependencies=[KnownQuery])

ForChiefs = Annotated[Visitor, Depends(Allowed(Role.MANAGER, Role.OPS, Role.ADMIN))]
Month = Annotated[str, Path(pattern=r"^20\d\d-(0[1-9]|1[0-2])$", examples=["2026-10"])]
AsOf = Annotated[
    AskedMoment | None,
    Query(description="As it was known then. Without it: the report that managers were sent, or as it is known now."),
]
WAIT_S = 60.0
TEXT_KEYS = ("E4", "E6.spot_checks")
"""Rows whose cases go by machine; the others' go by a number."""
CSV = "text/csv; charset=utf-8"
CSV_RESPONSE: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}
OFFERED = {"application/json": "json", "text/html": "html", "text/csv": "csv", "application/pdf": "pdf"}
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class ReasonShape(Shape):
    """Something on record that says why."""

    what: str
    at: Moment | None
    to_at: Moment | None
    reason: str
    note: str
    ms: int | None


class BreachShape(Shape):
    """A case in which the standard was not kept; of availability, a machine that was bad for long."""

    link: str
    ticket_id: int | None
    device_id: str | None
    clock: str
    due_at: Moment | None
    met_at: Moment | None = Field(description="When it was done after all; null: not by `as_of`.")
    ms: int | None = Field(description="Of availability: for how long the machine was bad.")
    why: list[ReasonShape]


class PointShape(Shape):
    month: str
    figure: float | None
    n: int


class LineShape(Shape):
    what: str
    subject: str
    count: int
    ms: int


class RowShape(Shape):
    """A row of the service standard; without data `measure` is `none` and all figures are null."""

    code: str
    standard_id: str
    measure: Measure
    target: float | None
    figure: float | None = Field(description="What is certain; null: no cases, or no data.")
    upper: float | None = Field(description="Of availability: what is possible.")
    n: int = Field(description="How many cases were decided.")
    n_of: str
    kept: int
    open: int = Field(description="Cases that were not decided by `as_of`; they count in nothing.")
    taken_over: int = Field(description="Rentals that ran already when they were taken over; they count in nothing.")
    met: bool | None
    breaches: list[BreachShape] = Field(description="At most 50; `link` of the row lists all cases.")
    breaches_left_out: int
    trend: list[PointShape] = Field(description="The twelve months before and this one, as of the same moment.")
    before: float | None
    change: float | None = Field(description="Against the month before.")
    lines: list[LineShape]
    link: str = Field(description="Where the cases are that the figure came from.")


class ReportShape(Shape):
    """The same month as of the same moment is the same report, whenever it is built."""

    month: str
    from_at: Moment
    to_at: Moment = Field(description="The month's end, or `as_of` where that lay before it.")
    as_of: Moment
    timezone: str
    rows: list[RowShape]
    newly_missed: list[str]
    newly_met: list[str]


class ListedShape(Shape):
    """A report that was built on a first working day and sent to managers."""

    id: int
    month: str
    as_of: Moment
    built_at: Moment
    sent_at: Moment | None
    link: str


class CaseShape(Shape):
    """A case that a row counts."""

    key: int | str
    verdict: Literal["kept", "missed", "open", "void"]
    at: Moment
    ticket_id: int | None
    device_id: str | None
    due_at: Moment | None
    met_at: Moment | None
    what: str


# --- the API -------------------------------------------------------------------------------------------------------


@router.get("/reports", responses=documented(401, 403, 422))
def list_reports(api: Parts, _: ForChiefs, limit: Limit = 50, cursor: Cursor = None) -> Page[ListedShape]:
    """The reports that were built on first working days, the newest first."""
    with api.reading() as connection:
        rows = store.listed(connection, before=key_of(cursor, int), limit=limit + 1)
    items = [
        ListedShape.model_validate({**row._mapping, "link": f"/api/v1/reports/{row.month}?as_of={row.as_of}"})
        for row in rows
    ]  # fmt: skip
    page, following = cut(items, limit, "id")
    return Page(items=page, next=following)


@router.get(
    "/reports/{month}.pdf", responses={**RESPONSES, **documented(401, 403, 404, 422, 503)}, response_class=Response
)
def report_pdf(
    request: Request, api: Parts, _: ForChiefs, month: Month, as_of: AsOf = None, lang: PaperLang = None
) -> Response:
    """The report on paper."""
    return paper(request, told_of(request, api, month, as_of), lang)


@router.get(
    "/reports/{month}.csv", responses={**CSV_RESPONSE, **documented(401, 403, 404, 422)}, response_class=Response
)
def report_csv(request: Request, api: Parts, _: ForChiefs, month: Month, as_of: AsOf = None) -> Response:
    """The report for a spreadsheet: a line a row, and below each its trend, its breaches and its statistic."""
    return sheet(told_of(request, api, month, as_of))


@router.get("/reports/{month}/rows/{code}", responses=documented(401, 403, 404, 422))
def row_cases(
    api: Parts, _: ForChiefs, month: Month, code: Annotated[str, Path(max_length=20, examples=["R7"])],
    as_of: AsOf = None, limit: Limit = 50, cursor: Cursor = None,
) -> Page[CaseShape]:  # fmt: skip
    """The cases that a row's figure came from, kept and missed; of availability see `fleet/availability`."""
    if code not in CODES or code.startswith("E1"):
        raise not_found("row")
    moment = min(api.clock(), api.clock() if as_of is None else as_of)
    asked = _asked(api, month, moment)
    after: int | str | None = key_of(cursor, str) if code in TEXT_KEYS else key_of(cursor, int)
    with api.reading() as connection:
        found = store.cases(connection, asked, code, api.desk.calendar, after=after, limit=limit + 1)
    items = [CaseShape.model_validate(case) for case in found[:limit]]
    return Page(items=items, next=cursor_of(items[-1].key) if len(found) > limit else None)


# --- what it is made from ------------------------------------------------------------------------------------------


def _asked(api: Api, month: str, as_of: int) -> store.Asked:
    try:
        return reporting.asked_of(month, as_of, api.timezone)
    except ValueError:
        raise not_found("report") from None


def told_of(request: Request, api: Api, month: str, as_of: int | None) -> Report:
    """The report that was sent, where it is asked for; else it is built. Raises the 404 and the 503 Problem."""
    now = api.clock()
    as_of = None if as_of is None else min(now, as_of)
    with api.reading() as connection:
        kept = store.body(connection, month, as_of)
    if kept is not None:
        return from_json(kept)
    _asked(api, month, now if as_of is None else as_of)
    # Of a large fleet it takes a core for many seconds.
    turn = turns_of(request).reports.turn(WAIT_S, "Other reports are being built.", again_s=60)
    with turn, api.reading() as connection:
        return reporting.build(connection, month, now if as_of is None else as_of, api.desk)


def negotiated(accept: str) -> str | None:
    """What the header prefers of what is offered, the first of equals; None: nothing of it."""
    best: tuple[float, str] | None = None
    for part in accept.split(",")[:20] if accept.strip() else ["*/*"]:
        name, *rest = (piece.strip().lower() for piece in part.split(";"))
        weight = next((_weight(one) for one in rest if one.startswith("q=")), 1.0)
        kind = "json" if name in ("*/*", "application/*") else "html" if name == "text/*" else OFFERED.get(name)
        if kind and weight > 0 and (best is None or weight > best[0]):
            best = weight, kind
    return best[1] if best else None


def _weight(text: str) -> float:
    try:
        return float(text.removeprefix("q="))
    except ValueError:
        return 0.0


def paper(request: Request, told: Report, lang: str | None) -> Response:
    labels = labels_of(request, lang or wanted_lang(request, api_of(request).lang))
    return printed(
        request, "report.html", name=f"report-{told.month}", as_of=told.as_of, lang=lang, told=told,
        drawn=Drawn(labels, told),
    )  # fmt: skip


# --- as a sheet ----------------------------------------------------------------------------------------------------

COLUMNS = (
    "line", "row", "standard_id", "month", "target", "figure", "upper", "n", "n_of", "kept", "open", "taken_over",
    "met", "change", "ticket_id", "device_id", "clock", "due_at", "met_at", "ms", "why", "link",
)  # fmt: skip


def sheet(told: Report) -> Response:
    """Lines of four kinds: row, trend, breach and statistic."""
    text = io.StringIO()
    # A spreadsheet reads the mark at the beginning as UTF-8.
    text.write("\ufeff")
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for row in told.rows:
        for line in _lines(told, row):
            writer.writerow({name: _cell(value) for name, value in line.items()})
    headers = {"Content-Disposition": f'attachment; filename="report-{told.month}.csv"'}
    return Response(text.getvalue(), media_type=CSV, headers=headers)


def _lines(told: Report, row: Row) -> Iterator[dict[str, object]]:
    of: dict[str, object] = {"row": row.code, "standard_id": row.standard_id}
    if row.measure == "none":
        yield of | {"line": "row", "month": told.month, "figure": "no data"}
        return
    yield of | {
        "line": "row", "month": told.month, "target": row.target, "figure": row.figure, "upper": row.upper, "n": row.n,
        "n_of": row.n_of, "kept": row.kept, "open": row.open, "taken_over": row.taken_over, "met": row.met,
        "change": row.change, "link": row.link,
    }  # fmt: skip
    for point in row.trend:
        yield of | {"line": "trend", "month": point.month, "figure": point.figure, "n": point.n}
    for breach in row.breaches:
        yield of | {
            "line": "breach", "month": told.month, "ticket_id": breach.ticket_id, "device_id": breach.device_id,
            "clock": breach.clock, "due_at": _moment(breach.due_at), "met_at": _moment(breach.met_at), "ms": breach.ms,
            "why": "; ".join(_plain(one) for one in breach.why), "link": breach.link,
        }  # fmt: skip
    for line in row.lines:
        yield of | {"line": "statistic", "month": told.month, "n": line.count, "ms": line.ms,
                    "why": f"fault:{line.what} {line.subject}".strip()}  # fmt: skip


def _plain(why: Reason) -> str:
    at = _moment(why.at)
    return " ".join(filter(None, [why.what, at, why.reason, why.note]))


def _moment(at: int | None) -> str:
    return "" if at is None else rfc3339(at)


def _cell(value: object) -> object:
    """What a spreadsheet would run as a formula has an apostrophe before it; numbers stay numbers."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return "" if value is None else value


# --- as it is read -------------------------------------------------------------------------------------------------

ROWS = {
    "R1": N_("Hotline answered within 30 s"),
    "R2": N_("Emergency consultation responded to within 5 min"),
    "R3": N_("Online chat: first reply within 30 s"),
    "R4": N_("Delivery plan sent within 2 h"),
    "R5": N_("Expedited delivery offered with its fee"),
    "R6": N_("Delivery window confirmed by the customer"),
    "R7": N_("Technician arranged within 1 h"),
    "R8.diagnosis": N_("Remote area: diagnosis given within 1 h"),
    "R8.visit": N_("Remote area: visit arranged within 4 h"),
    "R9": N_("Emergency: repair begun within 4 h"),
    "E1.fleet": N_("Machine time in good order, whole fleet"),
    "E1.on_hire": N_("Machine time in good order, on hire"),
    "E2": N_("Inspected before hand-over"),
    "E3": N_("Handed over through the gate: functions normal, outside undamaged"),
    "E4": N_("Served within the quarter"),
    "E5": N_("Files with every inspection"),
    "E6.spot_checks": N_("Spot checks done"),
    "E6.damage": N_("Faults that made machines bad"),
    "P1": N_("Jobs by people with a certificate"),
    "P2": N_("Customer satisfaction"),
    "P3": N_("Prices published"),
    "C1": N_("Contract signed within 3 working days"),
    "C2": N_("Delivered at the agreed time"),
    "C3": N_("Early termination: penalty of a tenth at most"),
    "K1": N_("Complaints by telephone, e-mail and online"),
    "K2": N_("Complaints recorded within 24 h"),
    "K3": N_("Complaints recorded in full"),
    "K4": N_("Complaints investigated within 48 h"),
    "K5": N_("One named person for each complaint"),
    "K6": N_("A solution proposed"),
    "K7": N_("Solution carried out within 3 working days"),
    "K8": N_("Result reported back"),
    "K9": N_("Complaints archived"),
    "K10": N_("Complaints analysed every month"),
    "K11": N_("Complainants called again"),
    "K12": N_("Records audited every month"),
    "K13": N_("Roles in complaints"),
}

CASES_OF = {
    "promises": N_("promises"),
    "machine_days": N_("machine days"),
    "hand_overs": N_("hand-overs"),
    "machines": N_("machines"),
    "ended_rentals": N_("rentals that ended"),
    "drawn_machines": N_("machines drawn"),
    "faults": N_("faults"),
    "jobs": N_("jobs given out"),
    "answers": N_("answers"),
}

NO_CASE_WORDS = {
    "no_inspection": N_("no passed inspection on file"),
    "not_through_gate": N_("did not go out through the hand-over gate"),
    "never_served": N_("never served"),
    "served_last": N_("served last on %(at)s"),
    "not_inspected": N_("drawn on %(at)s, not inspected"),
    "not_satisfied": N_("asked on %(at)s, not satisfied"),
    "amended": N_("a breach was annulled by an amendment"),
    "lacks:hand_over": N_("no hand-over inspection on file"),
    "lacks:return": N_("no return inspection on file"),
    "lacks:hand_over,return": N_("neither a hand-over nor a return inspection on file"),
}


@dataclass(frozen=True)
class Spark:
    """A trend laid out for a drawing 120 wide and 30 high: one line for each stretch of months with a figure."""

    lines: tuple[str, ...]
    last: tuple[float, float] | None
    target_y: float | None
    low: float
    high: float

    WIDTH, HEIGHT, EDGE = 120, 30, 3

    @classmethod
    def of(cls, trend: tuple[Point, ...], target: float | None) -> "Spark":
        known = [one.figure for one in trend if one.figure is not None] + ([] if target is None else [target])
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        if high - low < 1e-9:
            low, high = low - 0.05, high + 0.05
        step = (cls.WIDTH - 2 * cls.EDGE) / max(len(trend) - 1, 1)

        def y(figure: float) -> float:
            return round(cls.EDGE + (cls.HEIGHT - 2 * cls.EDGE) * (high - figure) / (high - low), 1)

        stretches: list[list[tuple[float, float]]] = [[]]
        for place, one in enumerate(trend):
            if one.figure is None:
                stretches.append([])
            else:
                stretches[-1].append((round(cls.EDGE + place * step, 1), y(one.figure)))
        last = stretches[-1][-1] if stretches[-1] else None
        lines = tuple(" ".join(f"{x},{h}" for x, h in one) for one in stretches if len(one) > 1)
        return cls(lines, last, None if target is None else y(target), low, high)


@dataclass(frozen=True)
class Drawn:
    """A report in one language's words, for templates."""

    labels: Labels
    told: Report

    def cases_link(self, row: Row) -> str:
        """Where the cases of a figure are listed, for people; of availability the machines that cost most of it."""
        if row.code.startswith("E1"):
            return f"#why-{row.code}" if row.breaches else ""
        return f"/reports/{self.told.month}/rows/{row.code}?as_of={self.told.as_of}"

    @property
    def with_data(self) -> list[Row]:
        return [row for row in self.told.rows if row.measure != "none"]

    @property
    def without_data(self) -> list[Row]:
        return [row for row in self.told.rows if row.measure == "none"]

    def title(self, code: str) -> str:
        return self.labels.words.say(ROWS[code])

    def cases(self, row: Row) -> str:
        """How many of what."""
        words = self.labels.words
        return f"{words.count(row.n)} {words.say(CASES_OF[row.n_of])}"

    def spark(self, row: Row) -> Spark:
        return Spark.of(row.trend, row.target)

    def figure(self, row: Row, figure: float | None) -> str:
        words = self.labels.words
        if figure is None:
            return words.say("no cases")
        return words.count(int(figure)) if row.measure == "count" else words.percent(figure)

    def change(self, row: Row) -> str:
        """Against the month before, with its sign: in percentage points, or in cases."""
        if row.change is None:
            return ""
        words = self.labels.words
        if row.measure == "count":
            return f"{row.change:+.0f}".replace("-", "\u2212")
        return words.say("%(change)s points", change=f"{row.change * 100:+.1f}".replace("-", "\u2212"))

    def sensor(self, name: str) -> str:
        """What a fault is about: a sensor by what people call it, in whichever model it is; codes stay as they are."""
        models = self.labels.profiles.items()
        of = next((code for code, model in models if any(one.name == name for one in model.sensors)), None)
        return name if of is None else self.labels.sensor(name, of)

    def subject(self, breach: Breach) -> str:
        named = []
        if breach.ticket_id is not None:
            named.append(self.labels.words.say("Ticket %(number)s", number=breach.ticket_id))
        return " · ".join([*named, breach.device_id or ""]).strip(" ·")

    def facts(self, breach: Breach) -> str:
        """When it was due, and when it was done after all."""
        words = self.labels.words
        if breach.ms is not None:
            return words.say("bad for %(hours)s h", hours=words.figure(breach.ms / 3_600_000))
        told = [words.say("due %(at)s", at=words.stamp(breach.due_at))] if breach.due_at is not None else []
        if breach.clock:
            met = breach.met_at
            told.append(words.say("not met") if met is None else words.say("met %(at)s", at=words.stamp(met)))
        return ", ".join(told)

    def why(self, reason: Reason) -> str:
        """What is on record of why, in words; people's own stay as they wrote them."""
        words, labels = self.labels.words, self.labels
        at = words.stamp(reason.at)
        if reason.what.startswith("fault:"):
            kind = labels.kind(reason.what.removeprefix("fault:"))
            hours = "" if reason.ms is None else f"{words.figure(reason.ms / 3_600_000)} h"
            return " ".join(filter(None, [kind, self.sensor(reason.note), hours]))
        if reason.what.startswith("person:"):
            return words.say("person %(number)s had no certificate for it", number=reason.what.partition(":")[2])
        if reason.what == "wait":
            waited = words.say(WAITS.get(reason.reason, reason.reason))
            return f"{waited} {at} {NOTHING} {words.stamp(reason.to_at)}".rstrip()
        if reason.what in NO_CASE_WORDS:
            return words.say(NO_CASE_WORDS[reason.what], **({"at": at} if "%(" in NO_CASE_WORDS[reason.what] else {}))
        return " ".join(filter(None, [labels.done(reason.what), at, reason.reason, reason.note]))
