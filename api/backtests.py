"""Backtests: what other rules would have made of the telemetry that is stored (monitor.engine.backtest)."""

import asyncio
import time
from collections.abc import Mapping
from threading import Event
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from api.access import Allowed, KnownQuery
from api.context import Api, Parts
from api.problems import Problem, documented
from api.shapes import Given, GivenMoment, Moment, Shape
from api.turns import turns_of
from monitor.detect import Bank
from monitor.devices import Profile
from monitor.engine.backtest import NOT_COMPARED, Against, Answer, Question, Stopped, backtest
from monitor.store.access import Role, Visitor
from monitor.store.profiles import BadProfile, parse_profile

log = structlog.get_logger()

router = APIRouter(prefix="/api/v1", tags=["backtests"], dependencies=[KnownQuery])

ForRules = Annotated[Visitor, Depends(Allowed(Role.OPS, Role.MANAGER, Role.ADMIN))]

DAY_MS = 86_400_000
MOST_DAYS = 92
LEARN_DAYS, MOST_LEARN_DAYS = 14, 31
LONGEST_S = 900.0
"""A backtest that takes longer is given up; whoever asked may ask for less."""
LOOK_EVERY_S = 0.5


class BacktestGiven(Given):
    """What is asked."""

    model_config = ConfigDict(populate_by_name=True)
    in_lines = frozenset({"profile"})

    start: GivenMoment = Field(alias="from", description="Tickets opened from then on count.")
    end: GivenMoment | None = Field(None, alias="to", description="Until then; default: now.")
    profile: str | None = Field(
        None, max_length=20_000, description="The changed rules: a profile in TOML, in place of that of its name."
    )
    against: Against = Field(Against.HAPPENED, description="What they are compared with.")
    learn_days: int = Field(
        LEARN_DAYS, ge=0, le=MOST_LEARN_DAYS, description="So long before `from` whatever learns has learnt."
    )


class RehearsedShape(Shape):
    """A ticket that was, or would have been."""

    device_id: str | None
    kind: str
    subject: str
    severity: str
    opened_at: Moment
    occurred_at: Moment
    cleared_at: Moment | None
    recurrences: int


class MovedShape(Shape):
    """One ticket under both rules, at another time or of another severity."""

    before: RehearsedShape
    after: RehearsedShape


class BacktestShape(BaseModel):
    """What the changed rules would have done otherwise, and how much was looked at."""

    start: Moment = Field(alias="from")
    end: Moment = Field(alias="to")
    profile: str | None = Field(description="Name of the changed profile.")
    against: Against
    opened: list[RehearsedShape] = Field(description="Only under the changed rules.")
    moved: list[MovedShape]
    vanished: list[RehearsedShape] = Field(description="Only under what they are compared with.")
    unchanged: int
    not_compared: list[str] = Field(description="Kinds of faults that stored telemetry alone does not show.")
    machines: int
    messages: int


@router.post("/backtests", responses=documented(401, 403, 409, 422, 503))
async def run_backtest(request: Request, api: Parts, visitor: ForRules, given: BacktestGiven) -> BacktestShape:
    """Run stored telemetry through changed rules, and tell which tickets would have opened, moved or vanished.

    Nothing changes, and nobody is told. One at a time; it ends when nobody waits for the answer any more.
    """
    try:
        question = question_of(given, api.profiles, api.clock())
    except ValueError as error:
        raise Problem(422, "The request is not valid", str(error)) from None
    with turns_of(request).backtests.turn(0, "A backtest is running; one runs at a time.", status=409, again_s=60):
        log.info("backtest", actor=visitor.actor, start=question.from_at, end=question.to_at)
        return shape(question, await _beside(request, api, question))


async def _beside(request: Request, api: Api, question: Question) -> Answer:
    """Run it on a thread of its own, until it is done, takes too long, or nobody waits for it."""
    gone, deadline = Event(), time.monotonic() + LONGEST_S

    def stopping() -> bool:
        return gone.is_set() or api.stopping() or time.monotonic() > deadline

    looking = asyncio.create_task(_note_when_gone(request, gone))
    try:
        return await run_in_threadpool(backtest, question, api.database, api.telemetry, api.profiles, stopping)
    except Stopped as stopped:
        raise _given_up(stopped, question) from None
    finally:
        looking.cancel()


async def _note_when_gone(request: Request, gone: Event) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(LOOK_EVERY_S)
    gone.set()


def _given_up(stopped: Stopped, question: Question) -> Problem:
    share = (stopped.at - question.learn_from) / max(1, question.to_at - question.learn_from)
    return Problem(
        503, "Given up", f"It was stopped at {share:.0%} of the telemetry (a backtest may take {LONGEST_S:.0f} s); "
        "ask for a shorter time, or for fewer learn_days.",
    )  # fmt: skip


def question_of(given: BacktestGiven, profiles: Mapping[str, Profile], now: int) -> Question:
    """What is asked, checked. Raises ValueError with what was wrong and what is allowed."""
    to_at = min(given.end if given.end is not None else now, now)
    if given.start >= to_at:
        raise ValueError("from must lie before to, and before now")
    if to_at - given.start > MOST_DAYS * DAY_MS:
        raise ValueError(f"from and to may lie at most {MOST_DAYS} days apart")
    if given.profile is None and given.against is Against.CURRENT:
        raise ValueError("against current needs a profile: without one nothing is changed")
    changed = None if given.profile is None else _changed(given.profile, profiles)
    return Question(given.start - given.learn_days * DAY_MS, given.start, to_at, changed, given.against)


def _changed(text: str, profiles: Mapping[str, Profile]) -> Profile:
    try:
        profile = parse_profile("profile", text)
    except BadProfile as error:
        raise ValueError(str(error)) from None
    if profile.name not in profiles:
        raise ValueError(f"profile: {profile.name!r} replaces none; known are: {', '.join(sorted(profiles))}")
    try:
        Bank({profile.name: profile})
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"profile: a figure in it is out of all range ({error})") from None
    return profile


def shape(question: Question, answer: Answer) -> BacktestShape:
    found = answer.differences
    return BacktestShape.model_validate({
        "from": question.from_at, "to": question.to_at, "against": question.against,
        "profile": question.profile.name if question.profile else None,
        "opened": [RehearsedShape.model_validate(ticket) for ticket in found.opened],
        "moved": [MovedShape.model_validate(pair) for pair in found.moved],
        "vanished": [RehearsedShape.model_validate(ticket) for ticket in found.vanished],
        "unchanged": found.unchanged, "not_compared": [str(kind) for kind in NOT_COMPARED],
        "machines": answer.machines, "messages": answer.messages,
    })  # fmt: skip
