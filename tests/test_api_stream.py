"""The change stream, read off the wire as a browser would."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from monitor.store import schema
from monitor.store.access import revoke_token
from tests.api_world import World, furnish, world
from tests.patience import PATIENCE_S


@pytest.fixture
def company(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as company:
        furnish(company)
        yield company


def change(company: World, what: str, device_id: str | None = None, ticket_id: int | None = None) -> int:
    return company.insert(schema.change, at=company.now(), what=what, device_id=device_id, ticket_id=ticket_id)


def events(answer: httpx.Response) -> Iterator[tuple[str, int | None, dict[str, object]]]:
    """(event, id, data) of each event, as it arrives."""
    name, number = "", None
    deadline = time.monotonic() + PATIENCE_S
    for line in answer.iter_lines():
        assert time.monotonic() < deadline, "nothing but heartbeats"
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "id":
            number = int(value)
        elif field == "data":
            yield name, number, json.loads(value)
            name, number = "", None


def stream(company: World, who: str, last: int | None = None) -> AbstractContextManager[httpx.Response]:
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    return company.client(who).stream("GET", "/api/v1/stream", headers=headers)


def test_it_goes_on_where_it_was(company: World) -> None:
    first = change(company, "fault_opened", "gen-b", 2)
    change(company, "ticket", None, 2)
    with stream(company, "ops", last=first - 1) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = events(answer)
        name, number, data = next(found)
        assert (name, number, data["what"], data["device_id"], data["ticket_id"]) == (
            "change", first, "fault_opened", "gen-b", 2,
        )  # fmt: skip
        assert next(found)[2]["what"] == "ticket"
        third = change(company, "fault_cleared", "gen-a")
        assert next(found)[1] == third
    with stream(company, "ops", last=third - 1) as answer:
        assert next(events(answer))[1] == third


def test_without_a_last_id_it_begins_now(company: World) -> None:
    change(company, "old news", "gen-a")
    heard = threading.Event()

    def tell() -> None:
        # The stream may not have found its place yet: tell it things until it tells them.
        while not heard.wait(0.2):
            change(company, "news", "gen-a")

    teller = threading.Thread(target=tell)
    with stream(company, "ops") as answer:
        teller.start()
        try:
            assert next(events(answer))[2]["what"] == "news"
        finally:
            heard.set()
            teller.join()


def test_a_customer_hears_of_their_own_machines_only(company: World) -> None:
    start = change(company, "mark", "gen-yard")
    for device_id, ticket_id in (("gen-b", 2), ("gen-yard", 3), (None, 2), ("gen-old", None), (None, None)):
        change(company, "not theirs", device_id, ticket_id)
    change(company, "theirs", "gen-a", 1)
    change(company, "their ticket", None, 1)
    with stream(company, "customer", last=start - 1) as answer:
        found = events(answer)
        assert [next(found)[2]["what"] for _ in range(2)] == ["theirs", "their ticket"]


def test_it_ends_with_the_token(company: World) -> None:
    with stream(company, "ops", last=0) as answer:
        change(company, "news", "gen-a")
        found = events(answer)
        assert next(found)[0] == "change"
        with company.database.begin() as connection:
            revoke_token(connection, "the ops", company.now())
        assert next(found)[0] == "end"
        assert next(found, None) is None


def test_what_happened_between_two_rentals_is_told_to_neither(company: World) -> None:
    def changed(what: str, at: int) -> None:
        company.insert(schema.change, at=at, what=what, device_id="gen-a")

    began = company.began
    with company.database.begin() as connection:
        connection.execute(sa.update(schema.rental).where(schema.rental.c.id == 1).values(ends_at=began - 50))
    company.hire("gen-a", 1, began - 10)
    for what, at in (("first rental", began - 60), ("in the yard", began - 20), ("second rental", began - 10)):
        changed(what, at)
    with stream(company, "customer", last=0) as answer:
        assert next(events(answer))[2]["what"] == "second rental"


def test_it_falls_silent_with_the_rental(company: World) -> None:
    with stream(company, "customer", last=0) as answer:
        change(company, "during", "gen-a")
        found = events(answer)
        assert next(found)[2]["what"] == "during"
        with company.database.begin() as connection:
            connection.execute(sa.update(schema.rental).values(ends_at=company.now()))
        change(company, "afterwards", "gen-a")
        company.hire("gen-mute", 1, company.began)
        change(company, "of another machine of theirs", "gen-mute")
        assert next(found)[2]["what"] == "of another machine of theirs"


def test_one_account_cannot_take_all_the_streams(company: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.stream.STREAMS_EACH", 1)
    with stream(company, "customer", last=0) as first:
        assert first.status_code == 200
        change(company, "news", "gen-a")
        told = events(first)
        assert next(told)[0] == "change"
        with stream(company, "customer", last=0) as second:
            assert second.status_code == 503
        with stream(company, "ops", last=0) as other:
            assert other.status_code == 200
