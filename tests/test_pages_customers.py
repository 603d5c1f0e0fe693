"""Customers' pages: a ticket's course in their words, "how was it?", and the same for those who signed in."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from monitor.desk.notices import Facts, Kind, write
from monitor.desk.tickets import Outcome, Resolution, Verb
from monitor.devices import Severity
from monitor.links import Signer, customer_token
from monitor.store import satisfaction, schema
from monitor.store.access import Role
from tests.api_world import DAY, HOUR, World, furnish, world

NOON = 1_795_000_000_000
DONE = Resolution("other", "repaired", "wear")


@pytest.fixture
def company(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, at=NOON) as company:
        furnish(company, readings=False)
        yield company


@pytest.fixture
def visitor(company: World) -> Iterator[httpx.Client]:
    with company.client() as client:
        yield client


def link_of(company: World, customer_id: int = 1) -> str:
    signer = company.api.desk.addresses.signer
    assert isinstance(signer, Signer)
    return f"/c/{customer_token(signer, customer_id, 0, company.now())}"


def signed_in(company: World, role: Role, person_id: int | None = None) -> httpx.Client:
    with company.client() as first:
        answer = first.post("/sign-in", data={"secret": company.link(role, person_id)})
    client = company.client()
    client.headers["Cookie"] = answer.headers["set-cookie"].partition(";")[0]
    return client


ANNA = 4


def was(outcome: Outcome) -> Resolution:
    return replace(DONE, outcome=outcome)


def walk(company: World, *verbs: str, ticket_id: int = 1, done: Resolution = DONE) -> None:
    """Tang takes these steps, a minute apart."""
    for verb in verbs:
        assert company.at is not None
        company.at += 60_000
        how = {"technician_id": 1} if verb == "accept" else {"resolution": done} if verb == "resolve" else {}
        company.api.desk.act(ticket_id, Verb(verb), "person:1", company.now(), **how)  # type: ignore[arg-type]


def repair(company: World, ticket_id: int = 1, outcome: Outcome = Outcome.REAL) -> None:
    walk(company, "accept", "depart", "arrive", "start-repair", "resolve", ticket_id=ticket_id, done=was(outcome))


def answers(company: World) -> list[tuple[int, int | None, str]]:
    with company.database.connect() as connection:
        s = schema.satisfaction.c
        rows = connection.execute(sa.select(s.customer_id, s.score, s.words).where(s.replaced_at.is_(None)))
        return [(row.customer_id, row.score, row.words) for row in rows]


def stages(page: str) -> list[tuple[str, str]]:
    """(state, words) of each stage of a course."""
    found = re.findall(r'<li class="(done|now|later)"[^>]*><span>([^<]*)', page)
    return [(state, words) for state, words in found]


# --- the course ----------------------------------------------------------------------------------------------------


def test_a_ticket_is_followed_from_noticed_to_repaired_in_plain_words(company: World, visitor: httpx.Client) -> None:
    page = visitor.get(f"{link_of(company)}/1").text
    assert "We know of it, and find a technician for you." in page
    assert stages(page)[:2] == [("done", "We noticed it"), ("now", "We find a technician for you")]
    assert "A technician is arranged for you" in page
    assert "Tang" not in page
    walk(company, "accept", "depart")
    page = visitor.get(f"{link_of(company)}/1").text
    assert stages(page) == [
        ("done", "We noticed it"), ("done", "Tang will come"), ("done", "On the way to you"),
        ("now", "The technician arrives"), ("later", "The repair begins"), ("later", "Repaired"),
    ]  # fmt: skip
    walk(company, "arrive", "start-repair")
    assert "It is being repaired." in visitor.get(f"{link_of(company)}/1").text
    walk(company, "resolve")
    page = visitor.get(f"{link_of(company)}/1").text
    assert {state for state, _ in stages(page)} == {"done"}
    assert "What we have promised" not in page
    assert not re.search("104|coolant_temp_c|R7|@example|person:", page)


def test_who_reported_it_reads_that_they_did_and_a_skipped_stage_is_left_out(
    company: World, visitor: httpx.Client
) -> None:
    company.machine("gen-c")
    company.hire("gen-c", 1, company.began - HOUR)
    sent = visitor.post(link_of(company), data={"device_id": "gen-c", "text": "It <b>smokes</b>"})
    ticket_id = int(sent.headers["location"].partition("told=")[2])
    thanks = visitor.get(sent.headers["location"]).text
    assert f'/{ticket_id}">Follow what happens' in thanks
    page = visitor.get(f"{link_of(company)}/{ticket_id}").text
    assert "It &lt;b&gt;smokes&lt;/b&gt;" in page
    walk(company, "accept", "resolve", ticket_id=ticket_id)
    assert stages(visitor.get(f"{link_of(company)}/{ticket_id}").text) == [
        ("done", "You told us"), ("done", "Tang will come"), ("done", "Repaired")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ended", "says"),
    [({"outcome": "real", "resolved_at": None}, "The machine is well again."),
     ({"outcome": "nuisance", "resolved_at": 1}, "We looked into it: nothing is wrong.")],
)  # fmt: skip
def test_what_was_never_repaired_is_not_called_repaired(
    company: World, visitor: httpx.Client, ended: dict[str, object], says: str
) -> None:
    t = schema.ticket
    with company.database.begin() as connection:
        done = sa.update(t).where(t.c.id == 1).values(status="closed", closed_at=company.began, **ended)
        connection.execute(done)
    page = visitor.get(f"{link_of(company)}/1").text
    assert says in page
    assert "epaired" not in page


def test_a_course_is_shown_to_nobody_else(company: World, visitor: httpx.Client) -> None:
    for path in ("/2", "/3", "/999", "/2/how"):
        assert visitor.get(f"{link_of(company)}{path}").status_code == 404
    assert visitor.get(f"{link_of(company, 2)}/1").status_code == 404
    assert visitor.get("/c/forged/1").status_code == 404
    with signed_in(company, Role.CUSTOMER, ANNA) as anna:
        assert anna.get("/mine/1").status_code == 200
        assert anna.get("/mine/2").status_code == 404
        assert anna.post("/mine/2/how", data={"satisfied": "yes"}).status_code == 404


def test_a_page_that_is_left_open_asks_again_and_leaves_forms_alone(company: World, visitor: httpx.Client) -> None:
    page = visitor.get(link_of(company)).text
    assert 'data-refresh-s="60"' in page
    assert "data-stream" not in page
    live = re.findall(r'<div id="([^"]+)" data-live>', page)
    assert live == ["summary", "questions", "of-gen-a"]
    assert "<form" in page.partition('id="of-gen-a"')[2].partition("</div>\n  <details")[2]


# --- how was it? ---------------------------------------------------------------------------------------------------


def test_a_customer_is_asked_once_when_it_is_repaired_and_one_tap_answers(
    company: World, visitor: httpx.Client
) -> None:  # fmt: skip
    assert "How was it?" not in visitor.get(link_of(company)).text
    assert answers(company) == []
    repair(company)
    assert answers(company) == [(1, None, "")]
    page = visitor.get(link_of(company)).text
    (action,) = re.findall(r'action="([^"]+/how)"', page)
    assert visitor.get(action).status_code == 200
    assert answers(company) == [(1, None, "")], "looking answers nothing"
    assert visitor.post(action, data={"satisfied": "yes"}).status_code == 303
    assert visitor.post(action, data={"satisfied": "yes"}).status_code == 303
    assert answers(company) == [(1, 1, "")]
    assert "How was it?" not in visitor.get(link_of(company)).text
    walk(company, "close")
    assert answers(company) == [(1, 1, "")]
    with company.database.connect() as connection:
        audited = connection.execute(sa.select(schema.audit).where(schema.audit.c.what == "satisfaction")).all()
        told = connection.execute(sa.select(schema.notice.c.kind).where(schema.notice.c.kind == "how_was_it")).all()
    assert [(row.actor, row.before, row.after) for row in audited] == [("customer:1", {"score": None}, {"score": 1})]
    assert told == [], "who has answered is not asked again"


def test_an_answer_can_be_changed_for_a_week_and_its_words_go_with_it(company: World, visitor: httpx.Client) -> None:
    repair(company)
    address = f"{link_of(company)}/1/how"
    visitor.post(address, data={"satisfied": "no", "words": "too <i>slow</i>\r\n\u202eand \x07late"})
    assert answers(company) == [(1, 0, "too <i>slow</i>\nand late")]
    page = visitor.get(address).text
    assert "too &lt;i&gt;slow" in page
    assert "Not satisfied" in page
    company.at = company.now() + 7 * DAY - 1
    assert visitor.post(address, data={"satisfied": "yes"}).status_code == 303
    company.at += 1
    late = visitor.post(address, data={"satisfied": "no"})
    assert late.status_code == 409
    assert "can be changed for seven days" in late.text
    assert answers(company) == [(1, 1, "")]
    with company.database.connect() as connection:
        kept = connection.execute(sa.select(schema.satisfaction).order_by(schema.satisfaction.c.id)).all()
    assert [(row.score, row.words) for row in kept] == [(0, ""), (1, "")]


def test_what_is_no_answer_is_refused(company: World, visitor: httpx.Client) -> None:
    repair(company)
    too_long = {"satisfied": "yes", "words": "x" * 2001}
    for sent in ({}, {"satisfied": "maybe"}, {"satisfied": "yes", "ticket_id": "2"}, too_long):
        assert visitor.post(f"{link_of(company)}/1/how", data=sent).status_code == 422
    assert answers(company) == [(1, None, "")]


def test_it_can_be_answered_after_the_machine_went_back_but_not_followed(
    company: World, visitor: httpx.Client
) -> None:  # fmt: skip
    repair(company)
    with company.database.begin() as connection:
        connection.execute(sa.update(schema.rental).where(schema.rental.c.id == 1).values(ends_at=company.now()))
    page = visitor.get(f"{link_of(company)}/1").text
    assert stages(page) == []
    assert "How was it?" in page
    assert visitor.post(f"{link_of(company)}/1/how", data={"satisfied": "yes"}).status_code == 303


def test_nobody_is_asked_about_what_was_none_or_is_open_again(company: World, visitor: httpx.Client) -> None:
    walk(company, "verify")
    company.api.desk.act(1, Verb.CANCEL, "person:3", company.now(), reason="other")
    assert answers(company) == []
    ticket_id = company.ticket("gen-a", "limit", "oil_pressure_bar", rental_id=1)
    repair(company, ticket_id)
    company.api.desk.act(ticket_id, Verb.REOPEN, "person:3", company.now(), note="still leaks")
    assert "How was it?" not in visitor.get(link_of(company)).text
    assert visitor.get(f"{link_of(company)}/{ticket_id}/how").status_code == 404


def test_after_it_came_back_the_week_begins_with_the_last_end(company: World, visitor: httpx.Client) -> None:
    repair(company)
    address = f"{link_of(company)}/1/how"
    assert visitor.post(address, data={"satisfied": "yes"}).status_code == 303
    company.at = company.now() + 2 * DAY
    company.api.desk.act(1, Verb.REOPEN, "person:3", company.now(), note="still leaks")
    company.at += 5 * DAY + 1
    repair(company)
    ended_at = company.at
    company.at += 7 * DAY - 1
    assert visitor.post(address, data={"satisfied": "no"}).status_code == 303
    assert answers(company) == [(1, 0, "")]
    company.at = ended_at + 7 * DAY
    assert visitor.post(address, data={"satisfied": "yes"}).status_code == 409


def test_nobody_is_asked_about_a_false_alarm(company: World) -> None:
    repair(company, outcome=Outcome.NUISANCE)
    assert answers(company) == []
    walk(company, "close")
    assert answers(company) == []
    with company.database.connect() as connection:
        told = connection.execute(sa.select(schema.notice.c.kind, schema.notice.c.body)).all()
    assert "how_was_it" not in [kind for kind, _ in told]
    assert not [body for _, body in told if "/how" in body]


def test_what_turned_out_to_be_a_false_alarm_counts_no_more(company: World, visitor: httpx.Client) -> None:
    repair(company)
    address = f"{link_of(company)}/1/how"
    assert visitor.post(address, data={"satisfied": "no", "words": "for nothing"}).status_code == 303
    with company.client("manager") as manager:
        assert manager.get("/api/v1/satisfaction").json()["asked"] == 1
        company.api.desk.act(1, Verb.CORRECT, "person:3", company.now())
        company.api.desk.act(1, Verb.RESOLVE, "person:3", company.now(), resolution=was(Outcome.NUISANCE))
        found = manager.get("/api/v1/satisfaction").json()
    assert (found["asked"], found["answered"], found["items"]) == (0, 0, [])
    assert visitor.get(address).status_code == 404
    assert "How was it?" not in visitor.get(link_of(company)).text


def test_the_notice_that_says_it_is_repaired_leads_to_the_question() -> None:
    facts = Facts(
        1, "gen-a", "limit", Severity.URGENT, NOON, "Europe/Berlin", customer_url="https://f.example/c/x/1",
        rating_url="https://f.example/c/x/1/how", resolved_at=NOON,
    )  # fmt: skip
    for kind in (Kind.FAULT_RESOLVED, Kind.HOW_WAS_IT):
        for lang in ("en", "zh"):
            text = write(kind, lang, facts)
            assert "https://f.example/c/x/1/how\n" in text.body
            assert 'href="https://f.example/c/x/1/how"' in text.html


def test_notices_lead_to_the_tickets_own_page(company: World) -> None:
    repair(company)
    with company.database.connect() as connection:
        n = schema.notice.c
        links = connection.execute(sa.select(n.link, n.body).where(n.kind == "fault_resolved")).all()
    assert links
    with company.client() as client:
        for link, body in links:
            path = link.removeprefix(company.url)
            assert client.get(path).status_code == 200
            assert f"{link}/how" in body


# --- signed in -----------------------------------------------------------------------------------------------------


def test_a_customer_who_signed_in_has_the_same_in_the_frame_of_the_pages(company: World) -> None:
    repair(company)
    with signed_in(company, Role.CUSTOMER, ANNA) as anna:
        page = anna.get("/").text
        assert "Your machines" in page
        assert "gen-a" in page
        assert "gen-b" not in page
        assert "/sign-out" in page
        assert anna.post("/mine/1/how", data={"satisfied": "no"}).headers["location"] == "/mine/1/how"
        assert "Not satisfied" in anna.get("/mine/1/how").text
        assert anna.post("/mine", data={"device_id": "gen-b", "text": "smokes"}).status_code == 404
        assert anna.post("/mine", data={"device_id": "gen-a", "text": " "}).status_code == 422
        told = anna.post("/mine", data={"device_id": "gen-a", "text": "It smokes"}).headers["location"]
        assert "Your report has arrived" in anna.get(told).text
    with company.client("customer") as token:
        assert token.get("/mine").status_code == 200


# --- what it comes to ----------------------------------------------------------------------------------------------


def test_what_the_answers_come_to(company: World) -> None:
    with company.database.begin() as connection:
        for n in range(20):
            ticket_id = connection.execute(
                sa.insert(schema.ticket).values(
                    device_id="gen-a", kind="limit", subject=f"s{n}", severity="urgent", status="closed",
                    opened_at=NOON, occurred_at=NOON, resolved_at=NOON, closed_at=NOON, evidence={},
                    standard_version="test",
                )
            ).inserted_primary_key[0]  # fmt: skip
            satisfaction.ask(connection, ticket_id, 1, "en", NOON - n - 1)
            row = satisfaction.one(connection, ticket_id, 1)
            assert row is not None
            if n < 10:
                satisfaction.answer(connection, row, int(n != 0), "slow" if n == 0 else "", "en", NOON)
    with company.client("manager") as manager:
        found = manager.get("/api/v1/satisfaction", params={"limit": 4}).json()
        assert (found["asked"], found["answered"], found["response"]) == (20, 10, 0.5)
        assert (found["satisfied"]["count"], found["satisfied"]["share"]) == (9, 0.9)
        assert found["satisfied"]["lower"] < 0.85 < found["satisfied"]["upper"]
        assert (found["target"], found["met"]) == (0.85, True)
        items = found["items"]
        while found["next"]:
            found = manager.get("/api/v1/satisfaction", params={"limit": 4, "cursor": found["next"]}).json()
            items += found["items"]
        assert len({one["id"] for one in items}) == len(items) == 10
        assert [one["words"] for one in items if one["score"] == 0] == ["slow"]
        nothing = manager.get("/api/v1/satisfaction", params={"to": NOON - DAY}).json()
        assert (nothing["asked"], nothing["response"], nothing["met"]) == (0, None, None)
        month = manager.get("/api/v1/reports/2026-11").json()
        (p2,) = (row for row in month["rows"] if row["code"] == "P2")
        assert (p2["figure"], p2["n"], p2["kept"], p2["open"], p2["met"]) == (0.9, 10, 9, 10, True)
        cases = manager.get("/reports/2026-11/rows/P2").text
        assert "not satisfied" in cases


def test_the_desk_writes_down_what_a_customer_said_by_phone(company: World) -> None:
    with company.client("ops") as ops, company.client("customer b") as other, company.client("customer") as own:
        assert ops.post("/api/v1/satisfaction/1", json={"satisfied": True}).status_code == 404, "not asked yet"
        repair(company)
        assert other.post("/api/v1/satisfaction/1", json={"satisfied": False}).status_code == 404
        assert own.post("/api/v1/satisfaction/1", json={"satisfied": True, "words": "fine"}).status_code == 204
        assert ops.post("/api/v1/satisfaction/1", json={"satisfied": False}).status_code == 204
    assert answers(company) == [(1, 0, "")]
