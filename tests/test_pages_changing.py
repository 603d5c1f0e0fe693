"""What the settings change, by API and by form: people, sites, customers, machines that leave, machines that are
exchanged."""

import html
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from monitor.fleet.gate import FIRST_THINGS_FIRST, Code, Obstacle, first, stands
from monitor.store import schema
from monitor.store.access import Role
from tests.api_world import World, furnish, world
from tests.test_pages_refused import field, seen
from tests.test_pages_tickets import signed_in

NOW = 1_795_000_000_000
TANG, WEBER, OLGA, ANNA = 1, 2, 3, 4


@pytest.fixture
def company(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, at=NOW) as company:
        furnish(company, readings=False)
        yield company


@pytest.fixture
def ops(company: World) -> Iterator[httpx.Client]:
    with signed_in(company, Role.OPS, OLGA) as client:
        yield client


def audits(company: World, what: str) -> list[tuple[str, object]]:
    with company.database.connect() as connection:
        a = schema.audit.c
        rows = connection.execute(sa.select(a.subject, a.after).where(a.what == what)).all()
    return [(row.subject, row.after) for row in rows]


# --- people --------------------------------------------------------------------------------------------------------


def test_a_persons_card_is_changed(company: World, ops: httpx.Client) -> None:
    before = ops.get("/api/v1/people/2")
    assert ops.patch("/api/v1/people/2", json={"phone": "+491701"}).json()["phone"] == "+491701"
    stale = ops.patch("/api/v1/people/2", json={"phone": "1"}, headers={"If-Match": before.headers["ETag"]})
    assert stale.status_code == 412
    for body, status in (
        ({"email": "nobody"}, 422), ({"name": ""}, 422), ({"name": "Olga"}, 422), ({"role": "customer"}, 422),
        ({"role": "emperor"}, 422), ({"lang": "de"}, 422), ({"salary": 1}, 422),
    ):  # fmt: skip
        assert ops.patch("/api/v1/people/2", json=body).status_code == status, body
    assert ops.patch("/api/v1/people/4", json={"role": "technician"}).status_code == 422, "a customer stays one"
    assert ops.patch("/api/v1/people/999", json={"phone": "1"}).status_code == 404
    ops.patch("/api/v1/people/2", json={"email": "w@example.com", "lang": "zh"})
    assert audits(company, "person_changed") == [
        ("person:2", {"fields": ["phone"]}), ("person:2", {"fields": ["email", "lang"]})
    ], "nothing personal is kept in it"  # fmt: skip


def test_who_gets_another_role_signs_in_anew(company: World, ops: httpx.Client) -> None:
    ops.post("/api/v1/people", json={"name": "Mei", "role": "service", "email": "mei@example.com", "lang": "en"})
    with signed_in(company, Role.SERVICE, 5) as mei:
        assert mei.get("/settings").status_code == 200
        ops.patch("/api/v1/people/5", json={"phone": "+491701"})
        assert mei.get("/settings").status_code == 200, "a telephone number is no reason"
        assert ops.patch("/api/v1/people/5", json={"role": "technician"}).json()["role"] == "technician"
        assert mei.get("/settings").status_code == 303
    assert audits(company, "person_changed")[-1][1] == {"fields": ["role"], "role": "technician", "was": "service"}


@pytest.mark.parametrize(
    ("who", "theirs", "wanted", "status"),
    [
        ("service", "service", "technician", 200), ("service", "technician", "ops", 403),
        ("service", "ops", "technician", 403), ("service", "technician", "manager", 403),
        ("ops", "technician", "admin", 403), ("ops", "admin", "technician", 403), ("ops", "technician", "ops", 200),
        ("admin", "technician", "admin", 200), ("manager", "technician", "technician", 403),
        ("technician", "technician", "ops", 403),
    ],
)  # fmt: skip
def test_nobody_gives_a_role_beyond_their_own(
    company: World, who: str, theirs: str, wanted: str, status: int
) -> None:  # fmt: skip
    person = company.insert(schema.person, name="X", role=theirs, email="x@example.com", lang="en", added_at=1)
    with company.client(who) as client:
        assert client.patch(f"/api/v1/people/{person}", json={"role": wanted}).status_code == status
        by_form = client.post(f"/settings/people/{person}/card", data={
            "name": "X", "role": wanted, "email": "evil@example.com", "phone": "", "lang": "en"
        })  # fmt: skip
        assert by_form.status_code == (303 if status == 200 else 403)
    with company.client("ops") as ops:
        found = ops.get(f"/api/v1/people/{person}").json()
    assert found["role"] == (wanted if status == 200 else theirs)
    assert (found["email"] == "evil@example.com") is (status == 200), "an address would let them in as somebody else"


def test_a_technicians_token_becomes_nobody_elses(ops: httpx.Client) -> None:
    refused = ops.patch("/api/v1/people/1", json={"name": "Tang Wei"})
    assert (refused.status_code, "token" in refused.json()["detail"]) == (409, True)
    assert ops.patch("/api/v1/people/3", json={"name": "Olga Maria"}).status_code == 200


def test_an_address_with_a_password_is_one_persons(company: World, ops: httpx.Client) -> None:
    for person in (WEBER, OLGA):
        company.insert(schema.password, person_id=person, hash="x", set_at=1)
    assert ops.patch("/api/v1/people/2", json={"email": "olga@example.com"}).status_code == 422
    assert ops.patch("/api/v1/people/1", json={"email": "olga@example.com"}).status_code == 200, "Tang has none"


def test_the_card_by_form(company: World, ops: httpx.Client) -> None:
    path = "/settings/people/5"
    ops.post("/api/v1/people", json={"name": "Mei", "role": "service", "email": "mei@example.com", "lang": "en"})
    text = ops.get(path).text
    assert "customer" not in field(text, f"{path}/card", "role")
    assert "admin" not in field(text, f"{path}/card", "role")
    read = seen(text, f"{path}/card")
    card = {"name": "Mei Lin", "role": "technician", "email": "lin@example.com", "phone": "555", "lang": "zh"}
    assert ops.post(f"{path}/card", data={**card, **read}).status_code == 303
    assert {key: ops.get("/api/v1/people/5").json()[key] for key in card} == card
    stale = ops.post(f"{path}/card", data={**card, "phone": "777", **read})
    assert stale.status_code == 412
    assert 'value="777"' in field(stale.text, f"{path}/card", "phone")
    assert "555</small>" in field(stale.text, f"{path}/card", "phone")
    wrong = ops.post(f"{path}/card", data={**card, "email": "lin"})
    assert (wrong.status_code, 'class="wrong"' in field(wrong.text, f"{path}/card", "email")) == (422, True)
    with company.client("service") as service:
        assert "/card" not in service.get("/settings/people/3").text, "operations is beyond them"
        assert "/disable" not in service.get("/settings/people/3").text


def test_who_left_comes_back(company: World, ops: httpx.Client) -> None:
    path = f"/settings/people/{TANG}"
    ops.post(f"/api/v1/people/{TANG}/disable")
    assert ops.patch(f"/api/v1/people/{TANG}", json={"phone": "1"}).status_code == 409
    assert ops.post(f"{path}/enable", data=seen(ops.get(path).text, f"{path}/enable")).status_code == 303
    assert ops.get(f"/api/v1/people/{TANG}").json()["disabled_at"] is None
    assert ops.post(f"/api/v1/people/{TANG}/enable").status_code == 200, "again is harmless"
    assert audits(company, "person_enabled") == [("person:1", {})]
    with company.client("technician") as tang:
        assert tang.get("/api/v1/tickets").status_code == 401, "the token of that time stays ended"
    with signed_in(company, Role.TECHNICIAN, TANG) as tang:
        assert tang.get("/job").status_code == 200
    boss = company.insert(schema.person, name="B", role="admin", email="b@example.com", added_at=1, disabled_at=NOW)
    assert ops.post(f"/api/v1/people/{boss}/enable").status_code == 403
    assert ops.post(f"/settings/people/{boss}/enable").status_code == 403


# --- sites and customers -------------------------------------------------------------------------------------------


def test_a_site_is_renamed(company: World, ops: httpx.Client) -> None:
    text = ops.get("/settings/sites/1").text
    form = {"name": "Tunnel South", "timezone": "Europe/Berlin", "access_notes": "", **seen(text, "/settings/sites/1")}
    assert ops.post("/settings/sites/1", data=form).status_code == 303
    assert ops.get("/api/v1/devices/gen-a").json()["site_name"] == "Tunnel South"
    taken = ops.patch("/api/v1/sites/1", json={"name": "Quarry Sandberg"})
    assert (taken.status_code, "exists already" in taken.json()["detail"]) == (422, True)
    assert ops.patch("/api/v1/sites/1", json={"name": " "}).status_code == 422
    assert ops.patch("/api/v1/sites/1", json={"remote": True}).json()["name"] == "Tunnel South"
    assert "site:1" in [subject for subject, _ in audits(company, "site_changed")]


def test_a_customer_is_changed(company: World, ops: httpx.Client) -> None:
    read = ops.get("/api/v1/customers/1")
    match = {"If-Match": read.headers["ETag"]}
    changed = ops.patch("/api/v1/customers/1", json={"name": "Nord Bau", "lang": "zh"}, headers=match)
    assert (changed.status_code, changed.json()["name"], changed.json()["email"]) == (200, "Nord Bau", "a@example.com")
    assert ops.patch("/api/v1/customers/1", json={"name": "X"}, headers=match).status_code == 412
    for body, status in (({"name": "Customer B"}, 409), ({"email": "nobody"}, 422), ({"lang": "de"}, 422)):
        assert ops.patch("/api/v1/customers/1", json=body).status_code == status
    assert audits(company, "customer_changed") == [("customer:1", {"fields": ["lang", "name"]})]
    path = "/settings/customers/1"
    form = {"name": "Nord Bau AG", "email": "", "lang": "en", **seen(ops.get(path).text, path)}
    assert ops.post(path, data=form).status_code == 303
    now = {"id": 1, "name": "Nord Bau AG", "email": "", "lang": "en", "erased_at": None}
    assert ops.get("/api/v1/customers/1").json() == now
    stale = ops.post(path, data={**form, "name": "Süd Bau"})
    assert stale.status_code == 412
    assert "Nord Bau AG</small>" in field(stale.text, path, "name")


def test_a_new_link_of_theirs_is_no_change_of_a_customer(ops: httpx.Client) -> None:
    before = ops.get("/api/v1/customers/1").headers["ETag"]
    assert ops.post("/api/v1/customers/1/link", json={"renew": True}).status_code < 300
    assert ops.get("/api/v1/customers/1").headers["ETag"] == before


# --- machines ------------------------------------------------------------------------------------------------------


def test_a_machine_is_retired_from_its_page_and_what_keeps_it_is_said(company: World, ops: httpx.Client) -> None:
    kept = ops.post("/machines/gen-a/retire", data={"reason": "sold to a dealer"})
    assert kept.status_code == 409
    assert "on hire, or will be, by rental 1: end it first" in html.unescape(kept.text)
    assert 'value="sold to a dealer"' in field(kept.text, "/machines/gen-a/retire", "reason")
    silent = ops.post("/machines/gen-yard/retire", data={"reason": "scrapped"})
    assert "tickets that are not resolved: 3." in silent.text
    assert ops.post("/machines/gen-mute/retire", data={"reason": ""}).status_code == 422
    done = ops.post("/machines/gen-mute/retire", data={"reason": "scrapped"})
    assert (done.status_code, done.headers["location"]) == (303, "/machines/gen-mute")
    text = ops.get("/machines/gen-mute").text
    assert "It left the fleet on" in text
    assert "/retire" not in text
    with company.client("manager") as manager:
        assert "/retire" not in manager.get("/machines/gen-a").text
        assert manager.post("/machines/gen-a/retire", data={"reason": "x"}).status_code == 403


def test_a_machine_is_exchanged_from_its_rental(ops: httpx.Client) -> None:
    text = ops.get("/rentals/1").text
    read = seen(text, "/rentals/1/exchange")
    wrong = ops.post("/rentals/1/exchange", data={"device_id": "gen-b", "at": "", **read})
    assert wrong.status_code == 409
    assert 'value="gen-b"' in field(wrong.text, "/rentals/1/exchange", "device_id")
    assert 'class="wrong"' in field(wrong.text, "/rentals/1/exchange", "device_id")
    done = ops.post("/rentals/1/exchange", data={"device_id": "gen-yard", "at": "", **read})
    assert (done.status_code, done.headers["location"]) == (303, "/rentals/4")
    new = ops.get("/api/v1/rentals/4").json()
    assert (new["device_id"], new["customer_id"], new["replaces_id"]) == ("gen-yard", 1, 1)
    assert ops.get("/api/v1/rentals/1").json()["ends_at"] is not None
    assert ops.post("/rentals/1/exchange", data={"device_id": "gen-old", "at": "", **read}).status_code == 412
    assert re.search('/rentals/1"', ops.get("/rentals/4").text)


def test_a_machine_that_left_has_no_new_tickets(company: World, ops: httpx.Client) -> None:
    assert ops.post("/api/v1/devices/gen-mute/retire", json={"reason": "sold"}).status_code == 200
    body = {"device_id": "gen-mute", "text": "It smokes"}
    told = ops.post("/api/v1/tickets", json=body)
    assert (told.status_code, told.json()["detail"]) == (409, "machine gen-mute is retired")
    form = ops.post("/tickets/new", data=body)
    assert form.status_code == 409
    assert "Machine gen-mute is retired." in form.text
    assert 'class="wrong"' in field(form.text, "/tickets/new", "device_id")
    assert "It smokes" in field(form.text, "/tickets/new", "text")
    with company.database.connect() as connection:
        rows = sa.select(sa.func.count()).where(schema.ticket.c.device_id == "gen-mute")
        assert connection.execute(rows).scalar_one() == 0


# --- what the API says of the next step ----------------------------------------------------------------------------


def test_the_api_says_how_a_rental_stands_and_what_comes_first(ops: httpx.Client) -> None:
    listed = {one["device_id"]: one["stands"] for one in ops.get("/api/v1/rentals").json()["items"]}
    assert listed == {"gen-a": "waiting", "gen-b": "waiting", "gen-old": "never"}
    gate = ops.get("/api/v1/rentals/1/hand-over").json()
    codes = [one["code"] for one in gate["obstacles"]]
    assert codes[0] == "no_inspection"
    assert gate["first"] == next(one for one in gate["obstacles"] if one["code"] == "critical_fault")
    assert f"/tickets/{gate['first']['facts']['ticket_id']}" in ops.get("/rentals/1").text


@pytest.mark.parametrize(
    ("starts_at", "ends_at", "out_at", "back_at", "how"),
    [
        (11, None, None, None, "coming"), (10, None, None, None, "waiting"), (5, 11, 6, None, "out"),
        (5, 10, 6, None, "over"), (5, 10, None, None, "never"), (5, 10, 6, 9, "back"), (5, 5, None, None, "never"),
    ],
)  # fmt: skip
def test_how_a_rental_stands(
    starts_at: int, ends_at: int | None, out_at: int | None, back_at: int | None, how: str
) -> None:  # fmt: skip
    assert stands(starts_at, ends_at, out_at, back_at, 10) == how


def test_every_obstacle_has_its_place() -> None:
    assert sorted(FIRST_THINGS_FIRST) == sorted(Code)
    assert first([Obstacle(Code.NO_SELF_TEST), Obstacle(Code.ON_HIRE), Obstacle(Code.NOT_HEARD)]) == Obstacle(
        Code.ON_HIRE
    )
    assert first([]) is None


def test_the_api_says_which_job_comes_next(company: World) -> None:
    def jobs() -> tuple[object, str]:
        with signed_in(company, Role.TECHNICIAN, TANG) as tang:
            found = tang.get("/api/v1/jobs").json()
            about = re.search(r'data-about="(\d*)"', tang.get("/job").text)
            return found["next_id"], about[1] if about else ""

    assert jobs() == (None, "")
    with company.client("ops") as desk:
        desk.post("/api/v1/tickets/1/dispatch", json={"technician_id": TANG})
        assert jobs() == (1, "1"), "what waits for an answer"
        desk.post("/api/v1/tickets/3/accept", json={"technician_id": TANG})
        assert jobs() == (3, "3"), "what was taken goes before it"
        desk.post("/api/v1/tickets/3/pause", json={"reason": "parts"})
        assert jobs() == (1, "1"), "what has to wait comes last"
