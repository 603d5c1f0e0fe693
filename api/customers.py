"""What customers are told of their machines and of a ticket's course, in plain words; and what they tell us.

Pages by a signed link and pages of customers who signed in ask the same here. Nobody sees more than their own machines,
in their own rental's period.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from api import commands
from api.context import Api
from api.devices import device_shape
from api.labels import N_, Labels
from api.problems import not_found
from api.refusals import refusals_told
from api.shapes import DeviceShape, plain
from monitor.desk import notices
from monitor.desk.tickets import Outcome, Status, Verb
from monitor.devices import Severity
from monitor.engine.desk import Report
from monitor.fleet.satisfaction import ASKED_MS, WORDS_CHARS, may_answer
from monitor.store import queries, satisfaction
from monitor.store.queries import Scope

MACHINES_SHOWN = 200
TICKETS_SHOWN = 500
QUESTIONS_SHOWN = 1
TEXT_CHARS, NAME_CHARS, PHONE_CHARS = 2000, 80, 40
THEIR_WORDS = ("customer", "label")
REPORTED = ("customer", "label", "phone", "office")
"""Origins of what somebody told us; the rest we noticed ourselves."""


class ReportForm(BaseModel):
    """A problem with a machine, as the pages send it. Browsers send line breaks as two characters."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field("", max_length=2 * TEXT_CHARS)
    stopped: bool = False
    name: str = Field("", max_length=NAME_CHARS)
    phone: str = Field("", max_length=PHONE_CHARS)

    @property
    def words(self) -> str:
        return cleaned(self.text)[:TEXT_CHARS].strip()

    @property
    def by(self) -> str:
        return ", ".join(filter(None, (_one_line(self.name), _one_line(self.phone))))


class CustomerForm(ReportForm):
    device_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")


class HowForm(BaseModel):
    """An answer to "how was it?", as the pages send it."""

    model_config = ConfigDict(extra="forbid")

    satisfied: Literal["yes", "no"]
    words: str = Field("", max_length=2 * WORDS_CHARS)

    @property
    def said(self) -> str:
        return cleaned(self.words)[:WORDS_CHARS].strip()


@dataclass(frozen=True)
class Promise:
    """What is promised, and by when, in words; `late`: it was not kept."""

    words: str
    due: str
    late: bool


@dataclass(frozen=True)
class Told:
    """A ticket as its customer reads it: no codes, no notes, nobody's address."""

    id: int
    what: str
    status: str
    opened_at: int
    technician: str
    promises: list[Promise]
    said: str
    """What was reported, where that is in the words of those who stood before the machine, and not in the office's."""
    cleared: bool


@dataclass(frozen=True)
class Machine:
    device: DeviceShape
    tickets: list[Told]


@dataclass(frozen=True)
class Stage:
    """One stage of a ticket's course. `at`: since when; `note`: by when, where it is still to come."""

    words: str
    state: Literal["done", "now", "later"]
    at: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Question:
    """One ticket's "how was it?"."""

    ticket_id: int
    what: str
    device_id: str
    profile: str
    score: int | None
    words: str
    open: bool
    """Whether an answer may be given, or changed."""


@dataclass(frozen=True)
class Notice:
    """A ticket's own page for its customer."""

    told: Told
    machine: DeviceShape
    headline: str
    stages: list[Stage]
    expected: tuple[int, int] | None
    """Between when and when the technician is expected."""
    advice: str
    """What to do meanwhile, where the machine's self-test says more than the ordinary."""
    ended: bool
    question: Question | None


# --- what they see -------------------------------------------------------------------------------------------------


def machines_of(api: Api, customer_id: int, labels: Labels) -> list[Machine]:
    """A customer's machines on hire with what is open on them; those that are not well first."""
    scope, lang = Scope(api.clock(), customer_id), labels.words.lang
    with api.reading() as connection:
        devices = [device_shape(row) for row in queries.devices(connection, scope, limit=MACHINES_SHOWN)]
        tickets = queries.pressing_tickets(connection, scope, limit=TICKETS_SHOWN)
        clocks = queries.commitments(connection, [row.id for row in tickets])
    by_machine: dict[str, list[Told]] = {}
    for row in tickets:
        if row.severity != Severity.NOTE:
            by_machine.setdefault(row.device_id, []).append(_told(api, row, clocks[row.id], lang))
    machines = [Machine(device, by_machine.get(device.device_id, [])) for device in devices]
    return sorted(machines, key=lambda one: (not one.tickets, one.device.condition != "bad"))


def summary(machines: Sequence[Machine], labels: Labels) -> str:
    """How a customer's machines are, in one sentence."""
    say, ngettext = labels.words.say, labels.words.translations.ngettext
    faulty = sum(one.device.condition == "bad" or bool(one.tickets) for one in machines)
    unheard = sum(one.device.condition == "unknown" and not one.tickets for one in machines)
    if not machines:
        return say("No machine is on hire to you at present.")
    if len(machines) == 1:
        return say("Something is wrong with your machine; we take care of it.") if faulty else (
            say("We get no signal from your machine, and look into that.") if unheard
            else say("Your machine is in order.")
        )  # fmt: skip
    if faulty:
        return ngettext(
            "Something is wrong with %(count)s of your machines; we take care of it.",
            "Something is wrong with %(count)s of your machines; we take care of them.", faulty,
        ) % {"count": faulty}  # fmt: skip
    if unheard:
        return say("We get no signal from %(count)s of your machines, and look into that.", count=unheard)
    return say("All %(count)s of your machines are in order.", count=len(machines))


def notice_of(api: Api, customer_id: int, ticket_id: int, labels: Labels) -> Notice | None:
    """A ticket of theirs with its course; None where there is none that they may see."""
    now, lang = api.clock(), labels.words.lang
    scope = Scope(now, customer_id)
    with api.reading() as connection:
        row = queries.ticket_row(connection, scope, ticket_id)
        if row is None or row.device_id is None or row.severity == Severity.NOTE:
            return None
        machine = queries.device_row(connection, scope, row.device_id)
        if machine is None:
            return None
        told = _told(api, row, queries.commitments(connection, [row.id])[row.id], lang)
        steps = [one for one in queries.steps(connection, row.id) if one.turn == row.turn and not one.corrected]
        test = commands.self_test(connection, row, labels, ours=False) if _is_open(row) else None
        expected = api.desk.dispatching.arrival(connection, row, now) if row.status in COMING else None
    stages = list(_stages(row, steps, told, expected, labels))
    return Notice(
        told, device_shape(machine), _headline(row, told, labels), stages, expected,
        test.customer.text if test and test.customer else "", not _is_open(row),
        question_of(api, customer_id, ticket_id, labels),
    )  # fmt: skip


def questions_of(api: Api, customer_id: int, labels: Labels) -> list[Question]:
    """What they are still to be asked, the newest first."""
    with api.reading() as connection:
        rows = satisfaction.unanswered(connection, customer_id, api.clock() - ASKED_MS, QUESTIONS_SHOWN)
    return [
        Question(row.id, _what(api, row, labels.words.lang), row.device_id or "", row.profile or "", None, "", True)
        for row in rows
    ]  # fmt: skip


def question_of(api: Api, customer_id: int, ticket_id: int, labels: Labels) -> Question | None:
    """What they were asked about a ticket that is dealt with, and what they answered; None: they were not asked.

    It may be answered after the machine went back: whoever had it was told of all that the page says.
    """
    now = api.clock()
    with api.reading() as connection:
        asked = satisfaction.one(connection, ticket_id, customer_id)
        row = queries.ticket_row(connection, Scope(now), ticket_id) if asked else None
    if asked is None or row is None or row.status not in (Status.RESOLVED, Status.CLOSED):
        return None
    return Question(
        row.id, _what(api, row, labels.words.lang), row.device_id or "", row.profile or "", asked.score, asked.words,
        may_answer(asked.first_at, asked.dealt_with_at, now),
    )  # fmt: skip


def _told(api: Api, row: queries.AnyRow, clocks: queries.Rows, lang: str) -> Told:
    promised_to_come = row.status not in (Status.OPEN, Status.VERIFIED, Status.DISPATCHED)
    return Told(
        row.id, _what(api, row, lang), row.status, row.opened_at,
        row.technician_name or "" if promised_to_come else "", promises_of(clocks, api.clock(), lang),
        str(row.evidence.get("text", "")) if row.origin in THEIR_WORDS else "", row.cleared_at is not None,
    )  # fmt: skip


def _what(api: Api, row: queries.AnyRow, lang: str) -> str:
    what = notices.plain(row.kind, row.subject, plain(row.evidence), api.profiles.get(row.profile or ""), lang)
    return _capital(what)


def promises_of(clocks: queries.Rows, now: int, lang: str) -> list[Promise]:
    """What is still to come of what was promised. A clock that waits for the customer has no due time for now."""
    running = [one for one in clocks if one.met_at is None and one.voided_at is None and one.paused_since is None]
    return [
        Promise(_capital(notices.say(lang, f"promise.{one.kind}")), notices.moment(one.due_at, one.timezone, lang),
                one.due_at <= now)
        for one in running
    ]  # fmt: skip


# --- a ticket's course ---------------------------------------------------------------------------------------------

COMING = (Status.ACCEPTED, Status.ON_THE_WAY)
WALK = (Status.ACCEPTED, Status.ON_THE_WAY, Status.ON_SITE, Status.REPAIRING, Status.RESOLVED)
"""What a customer sees of a ticket's life beyond its beginning, in this order."""
TAKEN_BY = {
    Status.ACCEPTED: (Verb.ACCEPT,), Status.ON_THE_WAY: (Verb.DEPART,), Status.ON_SITE: (Verb.ARRIVE,),
    Status.REPAIRING: (Verb.START_REPAIR,), Status.RESOLVED: (Verb.RESOLVE, Verb.CLOSE),
}  # fmt: skip
DONE = {
    Status.ACCEPTED: N_("A technician will come"),
    Status.ON_THE_WAY: N_("On the way to you"),
    Status.ON_SITE: N_("At the machine"),
    Status.REPAIRING: N_("The repair has begun"),
    Status.RESOLVED: N_("Repaired"),
}
TO_COME = {
    Status.ACCEPTED: N_("We find a technician for you"),
    Status.ON_THE_WAY: N_("The technician sets out"),
    Status.ON_SITE: N_("The technician arrives"),
    Status.REPAIRING: N_("The repair begins"),
    Status.RESOLVED: N_("Repaired"),
}
HEADLINES = {
    Status.OPEN: N_("We know of it, and find a technician for you."),
    Status.VERIFIED: N_("We know of it, and find a technician for you."),
    Status.DISPATCHED: N_("We know of it, and have asked a technician."),
    Status.ACCEPTED: N_("A technician will come."),
    Status.ON_THE_WAY: N_("The technician is on the way."),
    Status.ON_SITE: N_("The technician is there."),
    Status.REPAIRING: N_("It is being repaired."),
    Status.WAITING: N_("It has to wait for the moment."),
    Status.RESOLVED: N_("It is repaired."),
    Status.CLOSED: N_("It is repaired."),
    Status.CANCELLED: N_("We looked into it: nothing is wrong."),
}


WELL_AGAIN = N_("The machine is well again.")
NOTHING_WRONG = HEADLINES[Status.CANCELLED]


def _ending(row: queries.AnyRow) -> str | None:
    """What to say of a ticket that ended without a repair; None of any other."""
    if row.status not in (Status.RESOLVED, Status.CLOSED):
        return None
    if row.outcome == Outcome.NUISANCE:
        return NOTHING_WRONG
    return WELL_AGAIN if row.resolved_at is None else None


def _headline(row: queries.AnyRow, told: Told, labels: Labels) -> str:
    if (ending := _ending(row)) is not None:
        return labels.words.say(ending)
    if told.cleared and row.status in (Status.OPEN, Status.VERIFIED, Status.DISPATCHED):
        return labels.words.say("The machine is well again. We keep an eye on it.")
    return labels.words.say(HEADLINES[Status(row.status)])


def _stages(
    row: queries.AnyRow, steps: queries.Rows, told: Told, expected: tuple[int, int] | None, labels: Labels
) -> Iterator[Stage]:
    """From "we noticed it" to "repaired": what was, what is, what is still to come. What was skipped is left out."""
    say = labels.words.say
    yield Stage(say("You told us") if row.origin in REPORTED else say("We noticed it"), "done", row.opened_at)
    if row.status == Status.CANCELLED:
        yield Stage(say("We looked into it: nothing is wrong."), "done", row.closed_at)
        return
    reached = _reached(row)
    now_shown = False
    for place, status in enumerate(WALK):
        if place <= reached:
            at = next((one.happened_at for one in reversed(steps) if one.event in TAKEN_BY[status]), None)
            if at is not None or place == reached:
                words = say(_ending(row) or DONE[status] if status is Status.RESOLVED else DONE[status])
                if status is Status.ACCEPTED and told.technician:
                    words = say("%(name)s will come", name=told.technician)
                yield Stage(words, "done", at)
            continue
        yield Stage(say(TO_COME[status]), "later" if now_shown else "now", None, _by_when(status, expected, labels))
        now_shown = True


def _reached(row: queries.AnyRow) -> int:
    """How far along the walk it is; -1: nobody has taken it yet."""
    status = Status(row.resumes_to) if row.status == Status.WAITING and row.resumes_to else Status(row.status)
    status = Status.RESOLVED if status is Status.CLOSED else status
    return WALK.index(status) if status in WALK else -1


def _by_when(status: Status, expected: tuple[int, int] | None, labels: Labels) -> str:
    if status is Status.ON_SITE and expected:
        words = labels.words
        return words.say("expected between %(start)s and %(end)s", start=words.moment(expected[0]),
                         end=words.hour(expected[1]))  # fmt: skip
    return ""


def _is_open(row: queries.AnyRow) -> bool:
    return Status(row.status).is_open and row.status != Status.RESOLVED


# --- what they tell us ---------------------------------------------------------------------------------------------


def report(api: Api, customer_id: int, form: CustomerForm, name: str, actor: str) -> int:
    """A customer says that a machine of theirs has a fault; answers the ticket. `name`: whose words they are where the
    form does not say. Raises the 404 Problem where the machine is not on hire to them."""
    now = api.clock()
    with api.reading() as connection:
        machine = queries.device_row(connection, Scope(now, customer_id), form.device_id)
    if machine is None:
        raise not_found("machine")
    said = Report(machine.device_id, form.words, "customer", form.by or name, form.stopped)
    with refusals_told("machine"):
        return api.desk.report(said, actor, now)


def cleaned(text: str) -> str:
    """Text from anywhere without control characters and those that turn the writing round; lines stay lines."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char for char in lines if char == "\n" or unicodedata.category(char)[0] != "C")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _one_line(text: str) -> str:
    return " ".join(cleaned(text).split())
