"""People, who is on call, whom to send, and answering by link, through the real server."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from monitor.store import people, schema
from monitor.store.access import Role
from tests.api_world import DAY, HOUR, MINUTE, World, furnish, world
from tests.patience import PATIENCE_S

NOW = 1_795_000_000_000
TANG, WEBER = 1, 2
ALWAYS = [{"weekday": day, "from_minute": 0, "until_minute": 1440} for day in range(7)]


@pytest.fixture
def company(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, at=NOW) as company:
        furnish(company)
        with company.database.begin() as connection:
            # Somebody is at work on what is open already, so that nobody is sought for it.
            connection.execute(sa.update(schema.ticket).values(status="on_site"))
        yield company


@pytest.fixture
def ops(company: World) -> Iterator[httpx.Client]:
    with company.client("ops") as client:
        yield client


def post(client: httpx.Client, path: str, body: object = None, status: int = 200) -> dict:  # type: ignore[type-arg]
    answer = client.post(f"/api/v1{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()  # type: ignore[no-any-return]


def staff(client: httpx.Client, person_id: int, lat_deg: float = 52.5, lon_deg: float = 13.4) -> None:
    post(client, f"/people/{person_id}/certificates", {"certificates": [{"profile": "diesel_generator"}]})
    post(client, f"/people/{person_id}/hours", {"hours": ALWAYS})
    post(client, f"/people/{person_id}/home", {"lat_deg": lat_deg, "lon_deg": lon_deg})


def emergency(company: World) -> int:
    """Somebody says that gen-a stands still; the desk looks at it once."""
    with company.client("ops") as client:
        answer = client.post("/api/v1/tickets", json={"device_id": "gen-a", "text": "it died", "stopped": True})
        assert answer.status_code == 201, answer.text
    company.at = company.now() + 20_000
    company.api.desk.tick(company.now())
    ticket_id: int = answer.json()["id"]
    return ticket_id


def alerts(company: World) -> list[sa.Row]:  # type: ignore[type-arg]
    n = schema.notice.c
    with company.database.connect() as connection:
        return list(connection.execute(
            sa.select(schema.notice).where(n.kind == "dispatch_alert", n.id > 1).order_by(n.id)
        ))  # fmt: skip


def link_in(alert: sa.Row) -> str:  # type: ignore[type-arg]
    found = re.search(r"http://\S+(/answer/\S+)", alert.body)
    assert found, alert.body
    return found[1]


# --- people --------------------------------------------------------------------------------------------------------


def test_all_that_is_kept_of_a_person_is_given_part_by_part(ops: httpx.Client) -> None:
    added = post(ops, "/people", {"name": "Ada", "role": "technician", "email": "ada@example.com", "lang": "en"}, 201)
    path = f"/people/{added['id']}"
    certificate = {"profile": "diesel_generator", "until_at": "2030-01-01T00:00:00Z"}
    post(ops, f"{path}/certificates", {"certificates": [certificate]})
    post(ops, f"{path}/hours", {"hours": [{"weekday": 0, "from_minute": 1320, "until_minute": 360}]})
    contact = {"channel": "sms", "address": "+4915112345678", "quiet_from_minute": 1320, "quiet_until_minute": 360}
    post(ops, f"{path}/contacts", {"contacts": [contact, {"channel": "email", "address": "ada@home.example"}]})
    post(ops, f"{path}/home", {"lat_deg": 52.5, "lon_deg": 13.4, "timezone": "Europe/Berlin"})
    away = post(ops, f"{path}/absences", {"from_at": NOW, "until_at": NOW + DAY, "reason": "leave"}, 201)
    found = ops.get(f"/api/v1{path}").json()
    assert found == away
    assert [one["until_at"] for one in found["certificates"]] == ["2030-01-01T00:00:00.000Z"]
    assert found["hours"] == [{"weekday": 0, "from_minute": 1320, "until_minute": 360}]
    assert [(one["channel"], one["address"]) for one in found["contacts"]] == [
        ("sms", "+4915112345678"), ("email", "ada@home.example"),
    ]  # fmt: skip
    assert (found["lat_deg"], found["timezone"]) == (52.5, "Europe/Berlin")
    (absence,) = found["absences"]
    assert post(ops, f"{path}/absences/{absence['id']}/remove")["absences"] == []
    assert post(ops, f"{path}/hours", {"hours": []})["hours"] == []
    assert post(ops, f"{path}/disable")["disabled_at"] is not None


@pytest.mark.parametrize(
    ("who", "role", "status"),
    [("service", "admin", 403), ("service", "ops", 403), ("service", "technician", 201), ("ops", "admin", 403),
     ("ops", "manager", 201), ("admin", "admin", 201)],
)  # fmt: skip
def test_nobody_makes_or_ends_somebody_who_may_do_more_than_they(
    company: World, who: str, role: str, status: int
) -> None:
    body = {"name": f"New {role} by {who}", "role": role, "email": "new@example.com", "lang": "en"}
    with company.client(who) as client:
        answer = client.post("/api/v1/people", json=body)
        assert answer.status_code == status, answer.text
        if status == 403:
            assert "role: as" in answer.json()["detail"]
            other = company.insert(
                schema.person, name=f"{role} not for {who}", role=role, email="o@example.com", lang="en", added_at=1
            )
            assert client.post(f"/api/v1/people/{other}/disable", json={}).status_code == 403
            shown = client.get("/settings/people", headers={"Accept": "text/html"}).text
            assert f'<option value="{role}"' not in shown


def test_of_who_has_left_nothing_is_kept_that_would_let_them_in(company: World, ops: httpx.Client) -> None:
    person = post(ops, "/people", {"name": "Leaver", "role": "technician", "email": "l@example.com"}, 201)["id"]
    company.insert(schema.password, person_id=person, hash="x", set_at=1)
    company.insert(schema.recovery_code, person_id=person, hash="y")
    post(ops, f"/people/{person}/disable")
    with company.database.connect() as connection:
        for table in (schema.password, schema.recovery_code, schema.second_factor):
            there = sa.select(sa.func.count()).select_from(table).where(table.c.person_id == person)
            assert connection.execute(there).scalar_one() == 0, table.name


@pytest.mark.parametrize(
    ("part", "body", "says"),
    [
        ("certificates", {"certificates": [{"profile": "no_such_model"}]}, "no_such_model"),
        ("certificates", {"certificates": [{"profile": "water_pump"}, {"profile": "water_pump"}]}, "once"),
        ("certificates", {"certificates": [{"profile": "water_pump", "until_at": NOW - 1}]}, "end"),
        ("hours", {"hours": [{"weekday": 0, "from_minute": 480, "until_minute": 480}]}, "480"),
        ("hours", {"hours": [{"weekday": 7, "from_minute": 0, "until_minute": 1}]}, "weekday"),
        ("contacts", {"contacts": [{"channel": "pigeon", "address": "x"}]}, "pigeon"),
        ("contacts", {"contacts": [{"channel": "email", "address": "no address"}]}, "e-mail"),
        ("contacts", {"contacts": [{"channel": "sms", "address": " "}]}, "sms"),
        ("home", {"lat_deg": 91, "lon_deg": 0}, "lat_deg"),
        ("home", {"lat_deg": 1}, "together"),
        ("home", {"timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ("absences", {"from_at": NOW, "until_at": NOW}, "end"),
        ("absences", {"from_at": NOW, "until_at": NOW + 1, "why": "x"}, "why"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_what_was_wrong(
    ops: httpx.Client, part: str, body: object, says: str
) -> None:  # fmt: skip
    refusal = post(ops, f"/people/{TANG}/{part}", body, 422)
    assert says in str(refusal)
    assert post(ops, "/people/999/home", {}, 404)


def test_the_audit_names_who_changed_whom_and_keeps_nothing_personal(company: World, ops: httpx.Client) -> None:
    post(ops, f"/people/{TANG}/contacts", {"contacts": [{"channel": "sms", "address": "+4915112345678"}]})
    post(ops, f"/people/{TANG}/home", {"lat_deg": 52.51234, "lon_deg": 13.41234})
    post(ops, f"/people/{TANG}/absences", {"from_at": NOW, "until_at": NOW + DAY, "reason": "surgery"}, 201)
    with company.database.connect() as connection:
        rows = list(connection.execute(sa.select(schema.audit).where(schema.audit.c.subject == f"person:{TANG}")))
    assert [row.what for row in rows] == ["contacts_set", "home_set", "absence_added"]
    assert all(row.actor.startswith("token:") for row in rows)
    assert not re.search(r"\+4915|52\.51|13\.41|surgery|Tang", str([tuple(row) for row in rows]))


# --- on call -------------------------------------------------------------------------------------------------------


def test_who_is_on_call_follows_turns_overrides_and_absences(ops: httpx.Client) -> None:
    rotation = {"name": "First line", "people": [TANG, WEBER], "shift_h": 24, "handover_minute": 480,
                "timezone": "Europe/Berlin"}  # fmt: skip
    (made,) = post(ops, "/rotations", rotation, 201)["items"]
    spells = ops.get(f"/api/v1/rota?from={NOW}&to={NOW + 3 * DAY}").json()["items"]
    assert {one["person_name"] for one in spells} == {"Tang", "Weber"}
    assert {one["because"] for one in spells} == {"turn"}
    first = spells[0]
    other = WEBER if first["person_id"] == TANG else TANG
    given = {"person_id": other, "from_at": first["from_at"], "until_at": first["until_at"]}
    (changed,) = post(ops, f"/rotations/{made['id']}/overrides", given, 201)["items"]
    taken = ops.get(f"/api/v1/rota?from={NOW}&to={NOW + 3 * DAY}").json()["items"][0]
    assert (taken["person_id"], taken["because"]) == (other, "override")
    override_id = changed["overrides"][0]["id"]
    assert post(ops, f"/rotations/{made['id']}/overrides/{override_id}/remove")["items"][0]["overrides"] == []
    post(ops, f"/people/{first['person_id']}/absences", {"from_at": NOW, "until_at": NOW + 30 * DAY}, 201)
    alone = ops.get(f"/api/v1/rota?from={NOW}&to={NOW + 3 * DAY}").json()["items"]
    assert {one["person_id"] for one in alone} == {other}
    post(ops, f"/rotations/{made['id']}/end")
    assert ops.get(f"/api/v1/rota?from={NOW + HOUR}&to={NOW + DAY}").json()["items"] == []


def test_a_rotation_that_nobody_can_take_turns_in_is_refused(ops: httpx.Client) -> None:
    rotation = {"name": "x", "people": [TANG], "shift_h": 24}
    assert "999" in str(post(ops, "/rotations", rotation | {"people": [999]}, 422))
    assert "nobody of the company" in str(post(ops, "/rotations", rotation | {"people": [4]}, 422))
    assert "Mars" in str(post(ops, "/rotations", rotation | {"timezone": "Mars/Olympus"}, 422))
    post(ops, "/rotations", rotation, 201)
    assert "exists" in str(post(ops, "/rotations", rotation, 422))
    assert ops.get(f"/api/v1/rota?from={NOW}&to={NOW - 1}").status_code == 422
    assert ops.get(f"/api/v1/rota?from={NOW}&to={NOW + 400 * DAY}").status_code == 422


# --- whom to send --------------------------------------------------------------------------------------------------


def test_P1_the_proposal_ranks_with_reasons_and_says_who_cannot_go(company: World, ops: httpx.Client) -> None:  # noqa: N802
    post(ops, f"/people/{TANG}/hours", {"hours": ALWAYS})
    staff(ops, WEBER)
    found = ops.get("/api/v1/tickets/1/proposal").json()
    assert [one["name"] for one in found["ranked"]] == ["Weber"]
    assert {"certified", "working", "free"} <= {one["code"] for one in found["ranked"][0]["reasons"]}
    (excluded,) = found["excluded"]
    assert (excluded["name"], excluded["reasons"][0]["text"]) == ("Tang", "not certified for this model")
    assert found["keeps_rota"] is True
    zh = company.client("ops")
    zh.headers["Accept-Language"] = "zh"
    with zh:
        assert zh.get("/api/v1/tickets/1/proposal").status_code == 200


def test_a_ticket_tells_what_is_at_risk_and_what_would_help(company: World, ops: httpx.Client) -> None:
    post(ops, f"/people/{TANG}/certificates", {"certificates": [{"profile": "diesel_generator"}]})
    post(ops, f"/people/{TANG}/hours", {"hours": [{"weekday": 0, "from_minute": 0, "until_minute": 1}]})
    ticket_id = emergency(company)
    (risk, *_) = ops.get(f"/api/v1/tickets/{ticket_id}").json()["risk"]
    assert (risk["kind"], risk["outlook"], risk["reasons"][0]["code"]) == ("dispatch", "at_risk", "nobody_on_duty")
    company.at = company.now() + 30_000
    company.api.desk.tick(company.now())
    with company.database.connect() as connection:
        told = list(connection.execute(sa.select(schema.notice).where(schema.notice.c.kind == "at_risk")))
    assert told, "operations hear of it"
    assert len(told) == len({row.cause for row in told})
    before = len(told)
    for _ in range(8):
        company.at = company.now() + 61_000
        company.api.desk.tick(company.now())
    with company.database.connect() as connection:
        rows = connection.execute(sa.select(schema.notice).where(schema.notice.c.kind == "at_risk")).all()
    assert len(rows) == before, "once a clock"
    post(ops, f"/people/{TANG}/hours", {"hours": ALWAYS})
    assert [one["kind"] for one in ops.get(f"/api/v1/tickets/{ticket_id}").json()["risk"] if one["outlook"] == "at_risk"
            and one["reasons"][0]["code"] == "nobody_on_duty"] == []  # fmt: skip
    with company.client("customer") as client:
        mine = client.get(f"/api/v1/tickets/{ticket_id}").json()
    assert (mine["risk"], mine["asked"]) == ([], [])
    assert client.is_closed


# --- answering by link ---------------------------------------------------------------------------------------------


def test_a_link_shows_two_buttons_and_only_a_button_answers(company: World, ops: httpx.Client) -> None:
    staff(ops, TANG)
    with company.database.begin() as connection:
        connection.execute(sa.update(schema.site).values(access_notes="Gate code 4711"))
        connection.execute(sa.update(schema.ticket).where(schema.ticket.c.id == 1).values(site_id=1))
    ticket_id = emergency(company)
    (alert,) = alerts(company)
    link = link_in(alert)
    with company.client() as phone:
        page = phone.get(link)
        assert (page.status_code, page.headers["referrer-policy"]) == (200, "no-referrer")
        assert page.text.count('name="says"') == 2
        assert "Gate code 4711" in page.text
        assert ops.get(f"/api/v1/tickets/{ticket_id}").json()["status"] == "dispatched"
        assert phone.post(link, data={"says": "maybe"}).status_code == 422
        yes = phone.post(link, data={"says": "yes"})
        assert (yes.status_code, yes.text.count('name="says"')) == (200, 0)
        assert "It is yours" in yes.text
        assert phone.post(link, data={"says": "yes"}).status_code == 409
    found = ops.get(f"/api/v1/tickets/{ticket_id}").json()
    assert (found["status"], found["technician_name"]) == ("accepted", "Tang")
    assert [one["name"] for one in found["asked"]] == ["Tang"]
    assert found["steps"][-1]["actor"] == f"person:{TANG}"


def test_a_no_by_link_goes_on_to_the_next(company: World, ops: httpx.Client) -> None:
    staff(ops, TANG)
    staff(ops, WEBER, 53.5, 10.0)
    ticket_id = emergency(company)
    link = link_in(alerts(company)[0])
    with company.client() as phone:
        no = phone.post(link, data={"says": "no"})
        assert no.status_code == 200
        assert 'value="no"' not in no.text
    company.at = company.now() + 1000
    company.api.desk.tick(company.now())
    assert [row.person_id for row in alerts(company)] == [TANG, WEBER]
    assert ops.get(f"/api/v1/tickets/{ticket_id}").json()["technician_id"] == WEBER
    with company.client() as phone:
        assert phone.post(link, data={"says": "yes"}).status_code == 409, "it is offered to somebody else now"


def test_a_link_that_is_not_ours_or_of_somebody_who_left_shows_nothing(company: World, ops: httpx.Client) -> None:
    staff(ops, TANG)
    emergency(company)
    link = link_in(alerts(company)[0])
    with company.client() as phone:
        for wrong in (link[:-1] + ("A" if link[-1] != "A" else "B"), "/answer/x", f"/answer/{'A' * 400}"):
            answer = phone.get(wrong)
            assert answer.status_code == 404
            assert "gen-a" not in answer.text
            assert phone.post(wrong, data={"says": "yes"}).status_code == 404
        post(ops, f"/people/{TANG}/disable")
        assert phone.get(link).status_code == 404
        company.at = company.now() + 13 * HOUR
        assert phone.get(link).status_code == 404


def test_of_ten_technicians_who_accept_at_the_same_moment_one_succeeds_and_nine_get_a_409(
    company: World, ops: httpx.Client
) -> None:
    with company.at_once():
        people = [
            company.insert(schema.person, name=f"T{n}", role="technician", email=f"t{n}@example.com", lang="en",
                           added_at=NOW)
            for n in range(10)
        ]  # fmt: skip
        tokens = [company.token(Role.TECHNICIAN, f"T{n}") for n in range(10)]
    for person_id in people:
        staff(ops, person_id)
    post(ops, "/rotations", {"name": "All", "people": people, "shift_h": 24}, 201)
    for n, person_id in enumerate(people):
        post(ops, "/rotations", {"name": f"Line {n}", "people": [person_id], "shift_h": 24}, 201)
    ticket_id = emergency(company)
    for _ in range(2):
        company.at = company.now() + 5 * MINUTE
        company.api.desk.tick(company.now())
    assert {row.person_id for row in alerts(company)} == set(people)
    start, answers = threading.Barrier(10), {}

    def accept(n: int) -> None:
        headers = {"Authorization": f"Bearer {tokens[n]}"}
        with httpx.Client(base_url=company.url, headers=headers, timeout=PATIENCE_S) as client:
            start.wait()
            answers[n] = client.post(f"/api/v1/tickets/{ticket_id}/accept").status_code

    threads = [threading.Thread(target=accept, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers.values()) == [200] + [409] * 9
    winner = people[next(n for n, status in answers.items() if status == 200)]
    assert ops.get(f"/api/v1/tickets/{ticket_id}").json()["technician_id"] == winner
    with company.database.connect() as connection:
        n = schema.notice.c
        told = connection.execute(sa.select(n.person_id).where(n.kind == "taken")).scalars().all()
    assert sorted(told) == sorted(set(people) - {winner})


# --- hand-over -----------------------------------------------------------------------------------------------------


def test_the_hand_over_tells_what_happened_what_is_open_and_what_is_promised(company: World, ops: httpx.Client) -> None:
    ticket_id = emergency(company)
    found = ops.get("/api/v1/handover").json()
    assert found["tally"]["open"] == 3
    assert found["promised"][0]["outlook"] in ("running", "at_risk", "missed")
    assert ticket_id in [one["case"]["ticket_id"] for one in found["happened"]]
    past = ops.get(f"/api/v1/handover?shift={NOW - 30 * DAY}").json()
    assert past["happened"] == []
    page = ops.get("/handover")
    assert page.status_code == 200
    assert f'href="/tickets/{ticket_id}"' in page.text
    assert ops.get("/api/v1/handover?shift=yesterday").status_code == 422


def test_a_rotation_far_off_keeps_nobody_from_being_told(company: World, ops: httpx.Client) -> None:
    rotation = {"name": "ever", "people": [TANG, WEBER], "shift_h": 8784, "starts_at": "9999-12-31T00:00:00Z"}
    refusal = post(ops, "/rotations", rotation, 422)
    assert "starts_at" in refusal["detail"]
    # One that stands in the record all the same.
    values = {"people": [TANG, WEBER], "timezone": "Europe/Berlin", "handover_weekday": 0, "handover_minute": 480}
    for name, starts_at in (("ever", 253_402_214_400_000), ("long ago", -253_402_214_400_000)):
        company.insert(
            schema.rotation, name=name, shift_h=8784, starts_at=starts_at, ends_at=None, handed_over_at=NOW, **values
        )  # fmt: skip
    for person_id in (TANG, WEBER):
        staff(ops, person_id)
    emergency(company)
    assert alerts(company)
    with company.database.connect() as connection:
        assert [one.rotation_id for one in people.load_rotations(connection, NOW)] == [2]
    assert ops.get("/api/v1/rota", params={"from": "9999-12-30T00:00:00Z"}).json()["items"] == []
    assert ops.get("/api/v1/handover").status_code == 200
    post(ops, "/rotations/1/end")
