"""How customers found what we did (P2): what they answered, and what the answers come to."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field
from sqlalchemy import Connection

from api.access import DESK, Allowed, ForOffice, KnownQuery, reports_of
from api.context import Api, Parts
from api.paging import Cursor, Limit, cut, key_of
from api.problems import Problem, documented, not_found
from api.quality import ShareShape
from api.refusals import refusals_told
from api.shapes import AskedMoment, Given, Moment, Shape
from monitor.engine import satisfaction
from monitor.fleet.satisfaction import DAY_MS, TARGET, WORDS_CHARS, summed
from monitor.store import satisfaction as store
from monitor.store.access import Role, Visitor

router = APIRouter(prefix="/api/v1/satisfaction", tags=["tickets"], dependencies=[KnownQuery])

ForCustomers = Annotated[Visitor, Depends(Allowed(Role.CUSTOMER))]
ForAsking = Annotated[Visitor, Depends(Allowed(Role.CUSTOMER, *DESK))]
DEFAULT_MS = 90 * DAY_MS


class AnswerShape(Shape):
    """What a customer said of a ticket; `score` null: they were asked, and have not answered."""

    id: int
    ticket_id: int
    device_id: str | None
    customer_id: int
    customer_name: str
    score: int | None = Field(description="1: satisfied, 0: not.")
    words: str = Field(description="Their own, where they wrote any.")
    asked_at: Moment
    answered_at: Moment | None
    lang: str


class SatisfactionShape(Shape):
    """Those who were asked in `[start_at, end_at)`, and the answers that stand now."""

    start_at: Moment
    end_at: Moment
    asked: int
    answered: int
    satisfied: ShareShape = Field(description="Of those who answered.")
    response: float | None = Field(description="The share of those asked that answered; null: nobody was asked.")
    target: float
    met: bool | None
    items: list[AnswerShape]
    next: str | None = Field(description="`cursor` of the next page of answers; null: that was all.")


class AnswerGiven(Given):
    in_lines = frozenset({"words"})

    satisfied: bool
    words: str = Field("", max_length=WORDS_CHARS)


@router.get("", responses=documented(401, 403, 422))
def list_satisfaction(
    api: Parts,
    _: ForOffice,
    start: Annotated[AskedMoment | None, Query(alias="from", description="Default: 90 days before `to`.")] = None,
    end: Annotated[AskedMoment | None, Query(alias="to", description="Default: now.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> SatisfactionShape:
    """How satisfied customers are (P2): so many asked, answered and satisfied, and the answers, the newest first."""
    end_at = api.clock() + 1 if end is None else end
    start_at = max(0, end_at - DEFAULT_MS) if start is None else start
    if start_at >= end_at:
        raise Problem(422, "The request is not valid", "from must lie before to")
    with api.reading() as connection:
        counts = store.counts(connection, start_at, end_at)
        rows = store.answers(connection, start_at, end_at, before=key_of(cursor, int), limit=limit + 1)
    items, following = cut([AnswerShape.model_validate(row) for row in rows], limit, "id")
    found = summed(*counts)
    return SatisfactionShape(
        start_at=start_at, end_at=end_at, asked=found.asked, answered=found.answered,
        satisfied=ShareShape.model_validate(found.satisfied), response=found.response, target=TARGET, met=found.met,
        items=items, next=following,
    )  # fmt: skip


@router.post("/{ticket_id}", status_code=204, responses=documented(401, 403, 404, 409, 422))
def say_how_it_was(
    request: Request, api: Parts, visitor: ForAsking, ticket_id: Annotated[int, Path(ge=1, lt=2**63)],
    body: AnswerGiven,
) -> None:  # fmt: skip
    """A customer's answer about a ticket they were asked about, from themselves or as they told the desk. The same
    again changes nothing; another one takes its place for seven days."""
    asked = _asked(api, ticket_id)
    customer_id = visitor.customer_id if visitor.role is Role.CUSTOMER else asked[-1] if asked else None
    if customer_id not in asked:
        raise not_found("ticket")
    reports_of(request).refuse(f"how:{customer_id} {ticket_id}")
    lang = visitor.lang or api.lang
    take(api, satisfaction.Answer(ticket_id, customer_id, body.satisfied, body.words, lang), visitor.actor)


def _asked(api: Api, ticket_id: int) -> list[int]:
    """Which customers were asked about a ticket, in that order."""
    with api.reading() as connection:
        return [int(row.customer_id) for row in store.of_ticket(connection, ticket_id)]


def take(api: Api, answer: satisfaction.Answer, actor: str) -> None:
    """Keep an answer. Raises the 404 Problem where this customer was not asked, the 409 one where it is too late."""
    with refusals_told("ticket"):
        satisfaction.answer(api.database, answer, actor, api.clock())


def of_ticket(connection: Connection, ticket_id: int) -> list[AnswerShape]:
    """What a ticket's customer was asked and answers, for the ticket's page (`_satisfaction.html`)."""
    return [AnswerShape.model_validate(row) for row in store.of_ticket(connection, ticket_id)]
