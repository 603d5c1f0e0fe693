"""The lists that operators keep: causes, actions, who bears it, what was wrong with an alarm."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from api.access import ForOps, ForStaff, KnownQuery
from api.context import Api, Parts
from api.problems import Problem, documented
from api.refusals import IfMatch, give_tag, refusals_told, seen_tag
from api.shapes import Given, Moment, Shape
from monitor.desk.choices import CODE, Choice
from monitor.store import choices
from monitor.store.choices import MAX_CHOICES, Choices

router = APIRouter(prefix="/api/v1/choices", tags=["tickets"], dependencies=[KnownQuery])

ListName = Literal["cause", "action", "borne_by", "false_alarm"]
Code = Annotated[str, Path(pattern=f"^{CODE.pattern}$")]


class ChoiceShape(Shape):
    code: str
    title_en: str
    title_zh: str
    retired_at: Moment | None = Field(None, description="Since when nobody can choose it any more.")


class ListsShape(BaseModel):
    """Each list in its order. Few enough to be given whole."""

    cause: list[ChoiceShape]
    action: list[ChoiceShape]
    borne_by: list[ChoiceShape]
    false_alarm: list[ChoiceShape]


class NewChoice(Given):
    code: str = Field(pattern=f"^{CODE.pattern}$", description="Stays for ever; tickets and figures keep it.")
    title_en: str = Field(min_length=1, max_length=120)
    title_zh: str = Field(min_length=1, max_length=120)
    position: int | None = Field(None, ge=0, lt=MAX_CHOICES, description="Its place; without it where it was, or last.")


@router.get("", responses=documented(401, 403))
def list_choices(api: Parts, _: ForStaff, response: Response) -> ListsShape:
    """What a resolution, and a cancellation, may name; with the ETag that a change may name."""
    return _lists(api, response)


@router.post("/{which}", responses=documented(401, 403, 409, 412, 422))
def put_choice(
    api: Parts, visitor: ForOps, response: Response, which: ListName, body: NewChoice, if_match: IfMatch = None
) -> ListsShape:
    """Add an entry, or change the one with this code; one that was retired is in use again."""
    try:
        choice = Choice(body.code, body.title_en, body.title_zh)
    except ValueError as error:
        raise Problem(422, "The request is not valid", str(error)) from error
    with refusals_told("list"):
        Choices(api.database, visitor.actor).put(which, choice, body.position, api.clock(), seen=seen_tag(if_match))
    return _lists(api, response)


@router.post("/{which}/{code}/retire", responses=documented(401, 403, 404, 409, 412, 422))
def retire_choice(
    api: Parts, visitor: ForOps, response: Response, which: ListName, code: Code, if_match: IfMatch = None
) -> ListsShape:
    """Nobody can choose it any more; tickets that named it keep it."""
    with refusals_told("choice"):
        Choices(api.database, visitor.actor).retire(which, code, api.clock(), seen=seen_tag(if_match))
    return _lists(api, response)


def _lists(api: Api, response: Response) -> ListsShape:
    with api.reading() as connection:
        found = choices.listed(connection)
    give_tag(response, choices.lists_tag(found))
    return ListsShape.model_validate({
        which: [ChoiceShape.model_validate(one) for one in entries] for which, entries in found.items()
    })  # fmt: skip
