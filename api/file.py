"""The machine's file (E5): everything on record about one machine, on one time line, as a page, JSON and PDF.

For our own people only: a file names other customers, and what was said between ourselves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field, JsonValue
from sqlalchemy import Connection

from api.access import ForStaff, KnownQuery
from api.context import Api, Parts
from api.devices import DeviceId
from api.labels import Labels, labels_of
from api.paging import Cursor, Limit, cursor_of, key_of
from api.papers import RESPONSES, PaperLang, printed
from api.problems import Problem, documented, not_found
from api.shapes import AskedMoment, Moment, rfc3339
from api.words import wanted_lang
from monitor.desk.choices import LISTS
from monitor.fleet.file import Entry, Kind, Place, place_of, written
from monitor.store import cases, file
from monitor.store.queries import AnyRow

router = APIRouter(prefix="/api/v1", tags=["machines"], dependencies=[KnownQuery])

DAY_MS = 86_400_000
MOST_EXPORTED, MOST_PRINTED = 20_000, 1_000
SUMMED_MS = 731 * DAY_MS
"""Hours are told by month for so long."""

PAGES = (("ticket_id", "tickets"), ("inspection_id", "inspections"), ("work_order_id", "maintenance"))
"""Facts that have a page of their own."""

From = Annotated[AskedMoment | None, Query(alias="from", description="Without it, from the beginning.")]
To = Annotated[AskedMoment | None, Query(alias="to", description="Default: now. Later: what is planned, too.")]
Words = Annotated[str, Query(max_length=200, description="Words that an entry must have, in any order.")]
Kinds = Annotated[list[Kind], Query(description="Only entries of these kinds; none: all of them.")]


class HeardShape(BaseModel):
    """What came of its messages since it was added."""

    first_at: Moment | None
    last_at: Moment | None
    received: int
    missing: int = Field(description="Numbers that never came.")
    completeness: float | None = Field(description="The share that came; null where nothing did.")


class MonthShape(BaseModel):
    month: str
    hours: float = Field(description="What the hour meter ran.")


class EntryShape(BaseModel):
    at: Moment
    kind: Kind
    what: str
    source: str = Field(description="The row that says so: `ticket:12`.")
    actor: str
    text: str = Field(description="In somebody's own words.")
    facts: dict[str, JsonValue]
    words: str = Field(description="The line as the page has it, in the reader's language.")


class FileShape(BaseModel):
    """A machine's file, or a page of it, the newest first."""

    device_id: str
    profile: str
    site_name: str | None
    added_at: Moment
    retired_at: Moment | None
    as_of: Moment
    readings: HeardShape
    months: list[MonthShape]
    items: list[EntryShape]
    next: str | None = Field(description="`cursor` of the next page; null: that was all.")


@dataclass(frozen=True)
class Line:
    """An entry as it is read: a title, and what there is to say beside it."""

    entry: Entry
    title: str
    details: list[str]
    link: str

    @property
    def words(self) -> str:
        return " · ".join([self.title, *self.details])


# --- the API -------------------------------------------------------------------------------------------------------


@router.get("/devices/{device_id}/file", responses=documented(401, 403, 404, 422))
def machine_file(
    request: Request,
    api: Parts,
    _: ForStaff,
    device_id: DeviceId,
    q: Words = "",
    kind: Kinds = [],  # noqa: B006 a list parameter's default; nobody writes to it
    start: From = None,
    end: To = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> FileShape:
    """Everything on record about a machine, the newest first: hire, inspections, faults, tickets and their steps,
    parts, maintenance, firmware, moves. A retired machine has its file still."""
    asked = file.Asked(start or 0, until(api, end), kind, q, place(cursor))
    return _shape(request, api, device_id, asked, limit)


@router.get("/devices/{device_id}/file.json", responses=documented(401, 403, 404, 422))
def machine_file_json(
    request: Request, api: Parts, _: ForStaff, response: Response, device_id: DeviceId, start: From = None,
    end: To = None,
) -> FileShape:  # fmt: skip
    """The whole file to keep, up to 20,000 entries; where it has more, `next` goes on in the paged one."""
    response.headers["Content-Disposition"] = f'attachment; filename="{device_id}-file.json"'
    return _shape(request, api, device_id, file.Asked(start or 0, until(api, end)), MOST_EXPORTED)


@router.get(
    "/devices/{device_id}/file.pdf", response_class=Response, responses={**documented(401, 403, 404, 422), **RESPONSES}
)
def machine_file_pdf(
    request: Request, api: Parts, _: ForStaff, device_id: DeviceId, start: From = None, end: To = None,
    lang: PaperLang = None,
) -> Response:  # fmt: skip
    """The file on paper: at most the newest 1,000 entries of the period, and it says how many it leaves out."""
    asked = file.Asked(start or 0, until(api, end))
    with api.reading() as connection:
        row = known(connection, device_id)
        teller = Teller.of(connection, labels_of(request, lang or wanted_lang(request, api.lang)), row)
        found = file.read(connection, device_id, asked, MOST_PRINTED)
        left_out = 0 if found.following is None else file.number(
            connection, device_id, replace(asked, before=found.following)
        )  # fmt: skip
        heard = file.heard(connection, device_id)
        months = file.months(connection, device_id, api.zone, api.clock() - SUMMED_MS)
    lines = [teller.line(entry) for entry in found.entries]
    return printed(
        request, "file.html", name=f"{device_id}-file", as_of=api.clock(), lang=lang, machine=row, lines=lines,
        heard=heard, months=months, left_out=left_out, start_at=start, end_at=end,
    )  # fmt: skip


# --- what it is made from ------------------------------------------------------------------------------------------


def until(api: Api, end: int | None) -> int:
    return api.clock() + 1 if end is None else end


def place(cursor: str | None) -> Place | None:
    text = key_of(cursor, str)
    if text is None:
        return None
    try:
        return place_of(text, file.key_of_source)
    except ValueError as error:
        raise Problem(
            422, "The request is not valid", "cursor: take it unchanged from `next` of the previous page"
        ) from error


def cursor_at(place: Place | None) -> str | None:
    return None if place is None else cursor_of(written(place))


def known(connection: Connection, device_id: str) -> AnyRow:
    row = file.machine(connection, device_id)
    if row is None:
        raise not_found("machine")
    return row


def _shape(request: Request, api: Api, device_id: str, asked: file.Asked, limit: int) -> FileShape:
    if asked.from_at >= asked.to_at:
        raise Problem(422, "The request is not valid", "from must lie before to")
    with api.reading() as connection:
        row = known(connection, device_id)
        teller = Teller.of(connection, labels_of(request, wanted_lang(request, api.lang)), row)
        found = file.read(connection, device_id, asked, limit, teller.words)
        heard = file.heard(connection, device_id)
        months = file.months(connection, device_id, api.zone, api.clock() - SUMMED_MS)
    return FileShape(
        device_id=device_id, profile=row.profile, site_name=row.site_name, added_at=row.added_at,
        retired_at=row.retired_at, as_of=api.clock(),
        readings=HeardShape(
            first_at=heard.first_at, last_at=heard.last_at, received=heard.received, missing=heard.missing,
            completeness=heard.completeness,
        ),
        months=[MonthShape(month=one.month, hours=one.hours) for one in months],
        items=[_entry_shape(entry, teller) for entry in found.entries],
        next=cursor_at(found.following),
    )  # fmt: skip


def _entry_shape(entry: Entry, teller: "Teller") -> EntryShape:
    facts = _told("", dict(entry.facts))
    return EntryShape(
        at=entry.at, kind=entry.kind, what=entry.what, source=entry.source, actor=entry.actor, text=entry.text,
        facts=facts if isinstance(facts, dict) else {}, words=teller.words(entry),
    )  # fmt: skip


def _told(name: str, value: object) -> JsonValue:
    """Facts as the API writes them: moments in RFC 3339, however deep they lie."""
    if isinstance(value, Mapping):
        return {str(key): _told(str(key), one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_told(name, one) for one in value]
    if name.endswith("_at") and isinstance(value, int) and not isinstance(value, bool):
        return rfc3339(value)
    return value  # type: ignore[return-value]


# --- in words ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Teller:
    """Says entries of one machine's file in one language."""

    labels: Labels
    profile: str
    titles: Mapping[str, str]
    """Of the codes that resolutions are made from."""
    people: Mapping[str, str]
    """Names by `person:7`."""

    @classmethod
    def of(cls, connection: Connection, labels: Labels, row: AnyRow) -> "Teller":
        lang = labels.words.lang
        lists = [cases.choices(connection, name) for name in LISTS]
        titles = {one.code: one.title(lang) for some in lists for one in some}
        return cls(labels, row.profile, titles, file.names(connection))

    def words(self, entry: Entry) -> str:
        return self.line(entry).words

    def line(self, entry: Entry) -> Line:
        facts = entry.facts
        details = [*DETAILS[entry.kind](self, entry), entry.text, self.actor(entry)]
        pages = (f"/{page}/{facts[name]}" for name, page in PAGES if facts.get(name) is not None)
        link = next(pages, "")
        return Line(entry, self.labels.filed(entry.kind, entry.what), [one for one in details if one], link)

    def actor(self, entry: Entry) -> str:
        """Who did it: a person by name; of imported history whatever stands there."""
        kind, named, _ = entry.actor.partition(":")
        return self.people.get(entry.actor) or self.labels.actor(entry.actor) or ("" if named else kind)

    # Facts as text; '' where there is none.

    def fact(self, entry: Entry, name: str) -> str:
        value = entry.facts.get(name)
        return "" if value is None else str(value)

    def moment(self, entry: Entry, name: str, before: str = "") -> str:
        value = entry.facts.get(name)
        return f"{before}{self.labels.words.stamp(value)}" if isinstance(value, int) else ""

    def fault(self, entry: Entry) -> str:
        evidence = entry.facts.get("evidence")
        return self.labels.fault(
            self.fact(entry, "fault"), self.fact(entry, "subject"), evidence if isinstance(evidence, dict) else None,
            self.profile,
        )  # fmt: skip

    def severity(self, entry: Entry) -> str:
        return self.labels.severity(self.fact(entry, "severity"))

    def ticket(self, entry: Entry) -> str:
        number = self.fact(entry, "ticket_id")
        return self.labels.words.say("Ticket %(number)s", number=number) if number else ""

    def choice(self, entry: Entry, name: str) -> str:
        code = self.fact(entry, name)
        return self.titles.get(code, code)

    def title_of(self, entry: Entry) -> str:
        return self.fact(entry, "title_zh" if self.labels.words.lang == "zh" else "title_en")

    def parts(self, entry: Entry) -> str:
        parts = entry.facts.get("parts")
        return ", ".join(_part(part) for part in parts) if isinstance(parts, list) else ""

    def hours(self, entry: Entry, name: str) -> str:
        value = entry.facts.get(name)
        return f"{value:.1f} h" if isinstance(value, int | float) else ""


def _part(part: object) -> str:
    """A part by its name, however it is kept."""
    if isinstance(part, Mapping):
        return " ".join(str(one) for one in part.values())
    return str(part)


def _machine(teller: Teller, entry: Entry) -> list[str]:
    return [teller.labels.model(teller.fact(entry, "profile"))]


def _move(teller: Teller, entry: Entry) -> list[str]:
    return [teller.fact(entry, "site_name") or teller.labels.words.say("no site")]


def _firmware(teller: Teller, entry: Entry) -> list[str]:
    return [teller.fact(entry, "firmware"), teller.fact(entry, "model")]


def _credential(_: Teller, __: Entry) -> list[str]:
    return []


def _rental(teller: Teller, entry: Entry) -> list[str]:
    say = teller.labels.words.say
    said = [teller.fact(entry, "customer_name"), teller.fact(entry, "contract")]
    if instead := teller.fact(entry, "instead_of"):
        said.append(say("in exchange for %(machine)s", machine=instead))
    if exchanged := teller.fact(entry, "exchanged_for"):
        said.append(say("exchanged for %(machine)s", machine=exchanged))
    return said


def _inspection(teller: Teller, entry: Entry) -> list[str]:
    say = teller.labels.words.say
    return [say("passed") if entry.facts.get("passed") else say("not passed"), teller.fact(entry, "inspector")]


def _fault(teller: Teller, entry: Entry) -> list[str]:
    return [teller.fault(entry), teller.severity(entry), teller.ticket(entry)]


def _ticket(teller: Teller, entry: Entry) -> list[str]:
    if entry.what == "opened":
        return [teller.fault(entry), teller.severity(entry), teller.ticket(entry)]
    if entry.what == "resolution":
        return [
            teller.choice(entry, "resolution_cause"), teller.choice(entry, "resolution_action"),
            teller.labels.outcome(teller.fact(entry, "outcome")), teller.ticket(entry),
        ]  # fmt: skip
    taken_back = teller.labels.words.say("taken back") if entry.facts.get("corrected_by") is not None else ""
    return [teller.fact(entry, "technician"), taken_back, teller.ticket(entry)]


def _part_fitted(teller: Teller, entry: Entry) -> list[str]:
    return [teller.parts(entry), teller.ticket(entry)]


def _report(teller: Teller, entry: Entry) -> list[str]:
    return [teller.labels.origin(teller.fact(entry, "origin")), teller.fact(entry, "reported_by"), teller.ticket(entry)]


def _maintenance(teller: Teller, entry: Entry) -> list[str]:
    due = teller.moment(entry, "due_at")
    by = teller.labels.words.say("due %(moment)s", moment=due) if due else ""
    return [teller.title_of(entry), by, teller.hours(entry, "meter_hours"), teller.parts(entry)]


def _meter(teller: Teller, entry: Entry) -> list[str]:
    return [teller.hours(entry, "hours")]


def _window(teller: Teller, entry: Entry) -> list[str]:
    until = teller.labels.words.say("until %(moment)s", moment=teller.moment(entry, "ends_at"))
    cancelled = teller.labels.words.say("cancelled") if entry.facts.get("cancelled_at") is not None else ""
    return [until, cancelled]


def _self_test(teller: Teller, entry: Entry) -> list[str]:
    answered = teller.moment(entry, "answered_at")
    say = teller.labels.words.say
    return [say("answered %(moment)s", moment=answered) if answered else say("no answer"), teller.ticket(entry)]


DETAILS: dict[Kind, Callable[[Teller, Entry], list[str]]] = {
    Kind.MACHINE: _machine,
    Kind.MOVE: _move,
    Kind.FIRMWARE: _firmware,
    Kind.CREDENTIAL: _credential,
    Kind.RENTAL: _rental,
    Kind.INSPECTION: _inspection,
    Kind.FAULT: _fault,
    Kind.TICKET: _ticket,
    Kind.PART: _part_fitted,
    Kind.REPORT: _report,
    Kind.MAINTENANCE: _maintenance,
    Kind.SPOT_CHECK: _maintenance,
    Kind.METER: _meter,
    Kind.WINDOW: _window,
    Kind.SELF_TEST: _self_test,
}
