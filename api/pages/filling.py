"""Forms as browsers send them, made into what the API takes: times by the reader's clock, lists by numbered fields; and
one that was refused, to be shown again as it was sent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

from fastapi import Depends, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ValidationError

from api.context import api_of
from api.labels import N_
from api.pages.refilling import Refusal, refilled
from api.pages.refused import Refused, in_words
from api.problems import Problem
from api.words import Words, wanted_lang, words_of

FIELDS = 1000
"""So many fields a form may have."""

Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True)
class Form:
    """What somebody filled in, each field without the blanks around it, and the clock that they read."""

    fields: Mapping[str, str]
    lists: Mapping[str, list[str]]
    zone: ZoneInfo

    def text(self, name: str) -> str:
        return self.fields.get(name, "")

    def all(self, name: str) -> list[str]:
        return self.lists.get(name, [])

    def lines(self, name: str) -> list[str]:
        """What stands in its lines, without those that are empty."""
        return [" ".join(line.split()) for line in self.text(name).splitlines() if line.strip()]

    def number(self, name: str) -> float | None:
        """People write a comma where others write a point. Raises the 422 Problem where it is no number."""
        text = self.text(name).replace(",", ".")
        try:
            return float(text) if text else None
        except ValueError as error:
            raise Wrong(name, N_("%(text)s is no number."), text=repr(text[:20])) from error

    def whole(self, name: str) -> int | None:
        text = self.text(name)
        if text and not is_whole(text):
            raise Wrong(name, N_("%(text)s is no whole number."), text=repr(text[:20]))
        return int(text) if text else None

    def minute(self, name: str) -> int | None:
        """Minutes after midnight of a time of the day such as 08:30; None where there is none."""
        text = self.text(name)
        if not text:
            return None
        try:
            when = datetime.strptime(text[:5], "%H:%M")  # noqa: DTZ007 (a time of any day)
        except ValueError as error:
            raise Wrong(name, N_("%(text)s is no time of the day."), text=repr(text[:20])) from error
        return when.hour * 60 + when.minute

    def moment(self, name: str) -> int | None:
        """Epoch ms of a day and time by the reader's clock; None where there is none."""
        text = self.text(name)
        return None if not text else _epoch_ms(name, text, self.zone)

    def day(self, name: str, *, end: bool = False) -> int | None:
        """When a day begins by the reader's clock, or (`end`) when it is over."""
        text = self.text(name)
        if not text:
            return None
        try:
            found = date.fromisoformat(text)
            return _epoch_ms(name, f"{found + timedelta(days=int(end))}", self.zone)
        except (ValueError, OverflowError) as error:
            raise Wrong(name, N_("%(text)s is no day."), text=repr(text[:20])) from error

    @property
    def tag(self) -> str | None:
        """What they had read when they began, as an If-Match."""
        return self.text("seen") or None


def is_whole(text: str) -> bool:
    """Whether this is a number that the database can hold, in plain digits."""
    return text.isascii() and text.isdigit() and len(text) < 19


def _epoch_ms(name: str, text: str, zone: ZoneInfo) -> int:
    try:
        when = datetime.fromisoformat(text)
        local = when if when.tzinfo else when.replace(tzinfo=zone)
        return round(local.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise Wrong(name, N_("%(text)s is no day and time."), text=repr(text[:20])) from error


class Wrong(Problem):
    """422: a field of a form that cannot be taken. `message` is one of the catalogue, with `facts` in its gaps."""

    def __init__(self, field: str, message: str, **facts: object) -> None:
        super().__init__(422, "The request is not valid", f"{field}: {message % facts if facts else message}")
        self.field = field
        self.message = message
        self.facts = facts


async def _sent(request: Request) -> Form:
    form = await request.form(max_files=0, max_fields=FIELDS)
    lists: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            lists.setdefault(name, []).append(value.strip())
    sent = Form({name: values[-1] for name, values in lists.items()}, lists, words_for(request).zone)
    # Where it is refused, the page shows it again (`shown_again`).
    request.state.sent = sent
    return sent


Sent = Annotated[Form, Depends(_sent)]


def words_for(request: Request) -> Words:
    """The reader's language and clock."""
    api = api_of(request)
    return words_of(request, wanted_lang(request, api.lang), api.timezone)


def made(body: type[Body], values: Mapping[str, Any], at: Mapping[str, str] | None = None) -> Body:
    """What the API takes, of these values. Raises the 422 Problem that names the field; `at` says what the form calls
    it, by the API's name or by what that begins with."""
    try:
        return body.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise Problem(
            422, "The request is not valid",
            f"{(at or {}).get(field, field)}: {first['msg'].removeprefix('Value error, ')}",
        ) from error  # fmt: skip


SAID = {
    409: N_("This is not possible as things stand."),
    412: N_(
        "Somebody else changed this meanwhile. What you see now is as it is, and what you had filled in is kept: "
        "look, and send it again."
    ),
    422: N_("This cannot be taken as it is."),
    429: N_("Not so fast: one a minute."),
}


@dataclass(frozen=True)
class Complaint:
    """Why a form was not taken: a sentence of the catalogue, and what exactly (`problem`)."""

    status: int
    sentence: str
    problem: Problem
    said: str = ""
    """What exactly, where the page has words of its own for it, in the reader's language; they need no sentence before
    them, but for that somebody else was faster."""

    @property
    def leads(self) -> str:
        """The sentence that stands before it."""
        return "" if self.said and self.status != 412 else self.sentence

    def told(self, words: Words) -> Refused:
        """What exactly, and of which field, as the reader reads it."""
        if self.said or self.status == 412:
            return Refused(self.said)
        if isinstance(self.problem, Wrong):
            return Refused(words.say(self.problem.message, **self.problem.facts), self.problem.field)
        if "obstacles" in self.problem.more:
            # The gate's own words are the reader's already.
            return Refused(self.problem.detail)
        return in_words(self.problem.detail, words)


def lines_sent(request: Request, prefix: str) -> int:
    """So many lines of fields `prefix` and a number, from 0, were sent in a form that is shown again."""
    sent: Form | None = getattr(request.state, "sent", None)
    numbers = (name.removeprefix(prefix) for name in (sent.fields if sent else ()) if name.startswith(prefix))
    return max((int(one) + 1 for one in numbers if is_whole(one) and len(one) < 4), default=0)


def complaint_of(problem: Problem, said: str = "") -> Complaint:
    """What is shown above the form again; the Problem itself where the page is none to be shown any more."""
    if problem.status not in SAID:
        raise problem
    return Complaint(problem.status, SAID[problem.status], problem, said)


def shown_again(request: Request, html: str, complaint: Complaint) -> str:
    """A page with the form that was sent to this address as it was sent, and the refusal beside its field."""
    sent: Form | None = getattr(request.state, "sent", None)
    if sent is None:
        return html
    words = words_for(request)
    told = complaint.told(words)
    refusal = Refusal(
        told.words, told.field, stale=complaint.status == 412, newer=words.say("Now: %(now)s", now="%(now)s"),
        wrote=words.say("What you had written:"), yes=words.say("yes"), no=words.say("no"),
    )  # fmt: skip
    return refilled(html, request.url.path, sent.lists, refusal)


def done_or_told(
    do: Callable[[], object], there: str, again: Callable[[Complaint], Response]
) -> Response:  # fmt: skip
    """Do it and go on to `there`; where it is refused, the page again with why."""
    try:
        do()
    except Problem as problem:
        return again(complaint_of(problem))
    return RedirectResponse(there, 303)


def tag_in(response: Response) -> str:
    """The ETag that the API would have given."""
    return response.headers.get("ETag", "").strip('"')


def clock_of(minute: int) -> str:
    """A minute of the day as clocks show it; the end of the day is midnight."""
    return f"{minute // 60 % 24:02}:{minute % 60:02}"


def local_input(at: int, zone: ZoneInfo) -> str:
    """A moment as an input of day and time takes it."""
    return f"{datetime.fromtimestamp(at / 1000, zone):%Y-%m-%dT%H:%M}"


def date_input(at: int, zone: ZoneInfo) -> str:
    """The day of a moment as an input takes it; '' where no calendar has it."""
    try:
        return f"{datetime.fromtimestamp(at / 1000, zone):%Y-%m-%d}"
    except (OverflowError, ValueError, OSError):
        return ""
