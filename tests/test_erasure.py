"""Erasing people and customers: nothing of theirs is left anywhere in the record, and what they did stays."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from monitor.store import erasure, passwords, schema
from monitor.store.access import By, Role, begin_session
from monitor.store.people import People, Reached
from tests.api_world import DAY, HOUR, World, furnish, world

BEGAN = 1_795_000_000_000
NAME, EMAIL, PHONE, ROOM = "Zhenya Ölmüller", "zhenya.o@example.com", "+49 170 5550123", "nightcrew@13855501234"


@pytest.fixture
def company(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, at=BEGAN) as company:
        furnish(company, readings=False)
        yield company


def add(company: World, role: str = "technician", customer_id: int | None = None) -> int:
    return company.insert(
        schema.person, name=NAME, role=role, email=EMAIL, phone=PHONE, lang="en", added_at=BEGAN,
        lat_deg=52.517, lon_deg=13.389, customer_id=customer_id,
    )  # fmt: skip


def stored(company: World) -> str:
    with company.database.connect() as connection:
        tables = [table for table in schema.metadata.sorted_tables if table is not schema.change]
        return repr([connection.execute(sa.select(table)).all() for table in tables])


def row(company: World, table: sa.Table, number: int) -> sa.Row:
    with company.database.connect() as connection:
        return connection.execute(sa.select(table).where(table.c.id == number)).one()


def live(company: World, person_id: int) -> int:
    """Everything that somebody leaves behind; answers a ticket that they worked on."""
    with company.database.begin() as connection:
        passwords.set_password(connection, person_id, "$argon2id$x", BEGAN, "test")
        begin_session(connection, Role.TECHNICIAN, person_id, By.LINK, BEGAN, "Firefox, Android")
    crew = People(company.database, "test")
    crew.set_contacts(person_id, [Reached("dingtalk", ROOM), Reached("sms", PHONE)], BEGAN)
    crew.add_absence(person_id, BEGAN, BEGAN + DAY, "a broken leg", BEGAN)
    company.tokens["theirs"] = company.token(Role.TECHNICIAN, NAME)
    with company.client("ops") as ops:
        for verb, body in (("verify", {"note": f"{NAME} says it is the starter, call {PHONE}"}),
                           ("dispatch", {"technician_id": person_id})):  # fmt: skip
            assert ops.post(f"/api/v1/tickets/3/{verb}", json=body).status_code == 200
    for n, (to, text) in enumerate(((ROOM, f"<p>{NAME}</p>"), ("office@example.com", f"{NAME} ({EMAIL}) is coming"))):
        company.insert(
            schema.notice, cause=f"erase:{n}", kind="dispatch_alert", ticket_id=3, channel="email", recipient=to,
            lang="en", subject=f"For {NAME}", body=text, html=text, status="queued" if n == 0 else "sent",
            queued_at=BEGAN, next_try_at=BEGAN, person_id=person_id if n == 0 else None,
        )  # fmt: skip
    return 3


def erase(company: World, what: str, number: int, confirm: str, who: str = "manager") -> httpx.Response:
    with company.client(who) as client:
        return client.post(f"/api/v1/{what}/{number}/erase", json={"confirm": confirm})


def test_of_a_person_who_was_erased_nothing_is_left_but_what_they_did(company: World) -> None:
    person_id = add(company)
    ticket_id = live(company, person_id)
    refused = erase(company, "people", person_id, NAME)
    assert (refused.status_code, f"open work: ticket {ticket_id}" in refused.json()["detail"]) == (409, True)
    with company.client("ops") as ops:
        for verb in ("decline", "dispatch"):
            ops.post(f"/api/v1/tickets/{ticket_id}/{verb}", json={"technician_id": 1} if verb == "dispatch" else {})
    assert EMAIL in stored(company)

    assert erase(company, "people", person_id, NAME.upper()).status_code == 422, "another name confirms nothing"
    answer = erase(company, "people", person_id, NAME)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["name"], answer.json()["email"]) == (f"person {person_id} (erased)", "")
    left = stored(company)
    for theirs in (NAME, "Zhenya", EMAIL, PHONE, ROOM, "broken leg", "$argon2id$x", "13.389", "Firefox, Android"):
        assert theirs not in left, theirs
    with company.client("theirs") as client:
        assert client.get("/api/v1/jobs").status_code == 401
    with company.client("ops") as ops:
        course = ops.get(f"/tickets/{ticket_id}").text
    assert f"person {person_id} (erased)" in course
    with company.database.connect() as connection:
        n = schema.notice.c
        notices = connection.execute(
            sa.select(n.recipient, n.status, n.subject).where(n.cause.like("erase:%")).order_by(n.cause)
        ).all()  # fmt: skip
        audited = connection.execute(sa.select(schema.audit).where(schema.audit.c.what == "person_erased")).all()
    pseudonym = f"person {person_id} (erased)"
    assert notices == [("", "withdrawn", f"For {pseudonym}"), ("office@example.com", "sent", f"For {pseudonym}")]
    assert [(one.subject, one.actor.partition(":")[0]) for one in audited] == [(f"person:{person_id}", "token")]
    assert erase(company, "people", person_id, "anything").status_code == 200, "once more changes nothing"


def test_of_a_customer_their_people_and_words_go_too(company: World) -> None:
    person_id = add(company, "customer", 1)
    refused = erase(company, "customers", 1, "Customer A")
    assert refused.status_code == 409
    assert "rental 1" in refused.json()["detail"]
    with company.database.begin() as connection:
        connection.execute(sa.update(schema.customer).where(schema.customer.c.id == 1).values(email="hq@a.example"))
        connection.execute(sa.update(schema.rental).values(ends_at=BEGAN - HOUR, returned_at=BEGAN - HOUR))
    assert "ticket 1" in erase(company, "customers", 1, "Customer A").json()["detail"]
    with company.database.begin() as connection:
        connection.execute(sa.update(schema.ticket).where(schema.ticket.c.id == 1).values(
            status="closed", reported_by=f"{NAME}, {PHONE}",
            evidence={"text": f"{NAME} heard a bang; hq@a.example, Customer Abroad"},
        ))  # fmt: skip
    company.insert(
        schema.satisfaction, ticket_id=1, customer_id=1, asked_at=BEGAN, score=0, answered_at=BEGAN, lang="en",
        words="as ever, Anna",
    )  # fmt: skip
    answer = erase(company, "customers", 1, "Customer A")
    assert (answer.status_code, answer.json()["name"]) == (200, "customer 1 (erased)")
    left = stored(company)
    for theirs in (NAME, EMAIL, PHONE, "hq@a.example", "as ever", "anna@example.com", "'Customer A'"):
        assert theirs not in left, theirs
    assert row(company, schema.ticket, 1).evidence["text"] == (
        f"person {person_id} (erased) heard a bang; …, Customer Abroad"
    ), "a longer word is another word"
    assert row(company, schema.customer, 1).link_epoch == 1
    with company.client("ops") as ops:
        again = ops.post(
            "/api/v1/rentals", json={"device_id": "gen-a", "customer_id": 1, "starts_at": "2027-01-01T00:00:00Z"}
        )
    assert (again.status_code, "was erased" in again.text) == (422, True)


def test_who_was_erased_stays_so(company: World) -> None:
    person_id = add(company)
    customer_id = company.insert(schema.customer, name="Gone Ltd", email="gone@example.com", lang="en")
    assert erase(company, "people", person_id, NAME, "admin").status_code == 200
    assert erase(company, "customers", customer_id, "Gone Ltd", "admin").status_code == 200
    with company.client("admin") as admin:
        for path, name in ((f"people/{person_id}", NAME), (f"customers/{customer_id}", "Gone Ltd")):
            again = admin.patch(f"/api/v1/{path}", json={"name": name})
            assert (again.status_code, "was erased" in again.text) == (409, True)
        assert admin.post(f"/api/v1/people/{person_id}/enable", json={}).status_code == 409
    assert NAME not in stored(company)
    assert "Gone Ltd" not in stored(company)


def test_who_shares_a_mailbox_is_told_as_before(company: World) -> None:
    person_id = add(company)
    company.insert(schema.person, name="Yara", role="ops", email=EMAIL.upper(), lang="en", added_at=BEGAN)
    company.insert(
        schema.notice, cause="shared", kind="dispatch_alert", channel="email", recipient=EMAIL, lang="en",
        subject=f"{NAME} is coming", body="", status="queued", queued_at=BEGAN, next_try_at=BEGAN,
    )  # fmt: skip
    assert erase(company, "people", person_id, NAME).status_code == 200
    with company.database.connect() as connection:
        n = schema.notice.c
        (told,) = connection.execute(sa.select(n.recipient, n.status, n.subject).where(n.cause == "shared")).all()
    assert told == (EMAIL, "queued", f"person {person_id} (erased) is coming")


def test_nobody_erases_themselves_or_who_may_do_more(company: World) -> None:
    boss = company.insert(schema.person, name="Boss", role="admin", email="b@example.com", lang="en", added_at=BEGAN)
    mona = company.insert(schema.person, name="Mona", role="manager", email="m@example.com", lang="en", added_at=BEGAN)
    with company.client() as client:
        cookie = client.post("/sign-in", data={"secret": company.link(Role.MANAGER, mona)}).headers["set-cookie"]
        client.headers["Cookie"] = cookie.partition(";")[0]
        for person_id, name in ((boss, "Boss"), (mona, "Mona")):
            assert client.post(f"/api/v1/people/{person_id}/erase", json={"confirm": name}).status_code == 403
            assert "Erase for good" not in client.get(f"/settings/people/{person_id}").text
        page = client.get("/settings/people/1")
        assert "Erase for good" in page.text
        wrong = client.post("/settings/people/1/erase", data={"confirm": "Somebody"})
        assert (wrong.status_code, "confirm" in wrong.text) == (422, True)
        assert client.post("/settings/people/1/erase", data={"confirm": "Tang"}).status_code == 303
        assert "person 1 (erased)" in client.get("/settings/people").text
    assert erase(company, "people", boss, "Boss", "admin").status_code == 200


@pytest.mark.parametrize(
    ("text", "left"),
    [("Li is here", "X is here"), ("Call B@Example.com, not li", "Call W, not li"),
     ("Lindqvist's Liane", "Lindqvist's Liane"), ("a&amp;b said", "Y said"), ("请王伟前往", "请Z前往")],
)  # fmt: skip
def test_words_go_whole(text: str, left: str) -> None:
    assert erasure._without(text, {"Li": "X", "a&b": "Y", "王伟": "Z", "b@example.com": "W"}) == left


@pytest.mark.parametrize(
    ("address", "theirs"),
    [("zoe@example.com", ["zoe@example.com"]), ("+49 170 5550123", ["+49 170 5550123"]), ("yard", []),
     ("yard@13800000000", ["yard@13800000000", "13800000000"]), ("operations", []), ("", []), ("110", [])],
)  # fmt: skip
def test_a_room_that_many_read_stays_in_what_is_kept(address: str, theirs: list[str]) -> None:
    assert erasure._personal(address) == theirs
