"""`fettle backtest`: asks the running service, or does it itself where none runs.

A DuckDB file belongs to one process, so while a service runs only the service can read it; InfluxDB is read directly.
"""

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TypedDict, cast
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from api.backtests import LONGEST_S, BacktestGiven, question_of, shape
from fettle.house import CannotStart, House, clock, house
from fettle.settings import Settings
from fettle.wiring import only_one, telemetry_of
from monitor.engine.backtest import Against, backtest
from monitor.store import access
from monitor.store.access import Role
from monitor.store.registry import Refused


class Told(TypedDict):
    """A ticket in the answer. Times are RFC 3339."""

    device_id: str | None
    kind: str
    subject: str
    severity: str
    opened_at: str


class Pair(TypedDict):
    before: Told
    after: Told


class Backtested(TypedDict):
    """The answer as the API gives it (api.backtests.BacktestShape); without `from`, `to`, which are no names here."""

    against: str
    opened: list[Told]
    moved: list[Pair]
    vanished: list[Told]
    unchanged: int
    not_compared: list[str]
    machines: int
    messages: int


def run(settings: Settings, given: BacktestGiven) -> Backtested:
    """The answer, from whoever can give it."""
    with house(settings) as rooms, ExitStack() as held:
        if settings.telemetry.startswith("duckdb:"):
            try:
                # While it is held no service starts, which would find the file taken.
                held.enter_context(only_one(settings, "up"))
            except CannotStart:
                return _ask(rooms, given)
        return _by_ourselves(rooms, given)


def asked(
    start: str, end: str | None, profile: Path | None, against: str, learn_days: int, timezone: str
) -> BacktestGiven:
    """The command's own words as a question. Times without an offset are the company's."""
    try:
        text = profile.read_text(encoding="utf-8") if profile is not None else None
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"--profile {profile}: cannot be read: {error}") from None
    facts = {
        "from": _moment("--from", start, timezone), "to": None if end is None else _moment("--to", end, timezone),
        "profile": text, "against": against, "learn_days": learn_days,
    }  # fmt: skip
    try:
        return BacktestGiven.model_validate(facts)
    except ValidationError as error:
        found = error.errors()[0]
        raise Refused(f"--{str(found['loc'][0]).replace('_', '-')}: {found['msg']}") from None


def _moment(option: str, text: str, timezone: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(
            f"{option} {text!r}: allowed is a date or a date and time, 2026-11-01 or 2026-11-01T08:00Z"
        ) from None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(timezone))
    return round(zoned.timestamp() * 1000)


def _by_ourselves(rooms: House, given: BacktestGiven) -> Backtested:
    try:
        question = question_of(given, rooms.profiles, clock())
    except ValueError as error:
        raise Refused(str(error)) from None
    with telemetry_of(rooms.settings) as telemetry:
        answer = shape(question, backtest(question, rooms.database, telemetry, rooms.profiles))
    return cast(Backtested, answer.model_dump(mode="json", by_alias=True))


def _ask(rooms: House, given: BacktestGiven) -> Backtested:
    """Ask the service of this data folder, with a token that is good for this one question."""
    settings = rooms.settings
    body = given.model_dump_json(by_alias=True).encode()
    connection = HTTPConnection(settings.broker_host, settings.http_port, timeout=LONGEST_S + 30)
    try:
        with _passing_token(rooms) as token:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            connection.request("POST", "/api/v1/backtests", body, headers)
            response = connection.getresponse()
            answer = response.read()
    except (OSError, HTTPException) as error:
        where = f"{settings.broker_host}:{settings.http_port}"
        raise Refused(f"a service runs on this data folder, and does not answer at {where}: {error}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise Refused(_detail(answer) or f"the service answered {response.status} {response.reason}")
    return cast(Backtested, json.loads(answer))


def _detail(answer: bytes) -> str:
    """What a problem says of itself; nothing where it is none."""
    try:
        problem = json.loads(answer)
    except ValueError:
        return ""
    return str(problem.get("detail", "")) if isinstance(problem, dict) else ""


@contextmanager
def _passing_token(rooms: House) -> Iterator[str]:
    """A token that is void once it was used."""
    name = f"backtest {secrets.token_hex(8)}"
    with rooms.database.begin() as connection:
        token = access.create_token(connection, Role.OPS, name, clock())
    try:
        yield token
    finally:
        with rooms.database.begin() as connection:
            access.revoke_token(connection, name, clock())


def lines(answer: Backtested) -> list[str]:
    """The answer for people, one ticket a line."""
    against = "the present rules" if answer["against"] == Against.CURRENT else "what happened"
    counts = (
        f"{len(answer['opened'])} opened, {len(answer['moved'])} moved, {len(answer['vanished'])} vanished, "
        f"{answer['unchanged']} as before"
    )
    found = [f"{answer['messages']} messages of {answer['machines']} machines, against {against}: {counts}"]
    found += [f"opened    {_line(ticket)}" for ticket in answer["opened"]]
    for pair in answer["moved"]:
        found.append(f"moved     {_line(pair['before'])} -> {pair['after']['opened_at']} {pair['after']['severity']}")
    found += [f"vanished  {_line(ticket)}" for ticket in answer["vanished"]]
    return [*found, f"not compared: {', '.join(answer['not_compared'])}"]


def _line(ticket: Told) -> str:
    what = f"{ticket['kind']} {ticket['subject']}".strip()
    return f"{ticket['device_id'] or 'a site'}  {what}  {ticket['opened_at']} {ticket['severity']}"
