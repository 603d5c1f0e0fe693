"""A technician's jobs: what comes next, what is on record for it, the steps without scripts, and the phone's worker."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from api.pages import job
from api.shapes import rfc3339
from monitor.store import jobs, schema
from monitor.store.access import Role
from tests.api_world import DAY, HOUR, MINUTE, World, furnish, world

BEGAN = 1_795_000_000_000
NUMBERS = count(1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("job"), at=BEGAN) as company:
        furnish(company, readings=False)
        yield company


@pytest.fixture
def company(shared: World) -> World:
    """A company whose clock the test sets; each test has technicians and machines of its own in it."""
    shared.at = BEGAN
    return shared


@dataclass
class Hand:
    """A technician of one test."""

    company: World
    name: str
    person_id: int

    def client(self) -> httpx.Client:
        return self.company.client(self.name)

    def browser(self) -> httpx.Client:
        """With a session, as a phone comes; the cookie is sent on by hand, for httpx keeps it from plain http."""
        with self.company.client() as client:
            answer = client.post("/sign-in", data={"secret": self.company.link(Role.TECHNICIAN, self.person_id)})
        browser = self.company.client()
        browser.headers["Cookie"] = answer.headers["set-cookie"].partition(";")[0]
        return browser

    def carries(self, status: str, *, due_ms: int | None = None, device_id: str = "", **how: Any) -> int:
        clocks = (("R9", "repair_start", due_ms),) if due_ms else ()
        return self.company.ticket(
            device_id or machine(self.company), "startup_failure", status=status, technician_id=self.person_id,
            ago_ms=0, clocks=clocks, **how,
        )  # fmt: skip


def hand(company: World) -> Hand:
    name = f"Hand {next(NUMBERS)}"
    person_id = company.insert(
        schema.person, name=name, role="technician", email=f"{name[5:]}@example.com", lang="en", added_at=BEGAN
    )
    company.tokens[name] = company.token(Role.TECHNICIAN, name)
    return Hand(company, name, person_id)


@pytest.fixture
def tang(company: World) -> Hand:
    return hand(company)


def machine(company: World, profile: str = "diesel_generator", site_id: int | None = 1) -> str:
    device_id = f"job-{next(NUMBERS)}"
    company.machine(device_id, profile, site_id=site_id)
    return device_id


def change(company: World, table: sa.Table, key: int, **values: object) -> None:
    with company.database.begin() as connection:
        connection.execute(sa.update(table).where(table.c.id == key).values(**values))


def rows(company: World, table: sa.Table, **where: object) -> list[Any]:
    with company.database.connect() as connection:
        clauses = [table.c[name] == value for name, value in where.items()]
        return list(connection.execute(sa.select(table).where(*clauses).order_by(table.c.id)))


def asked(technician: Hand, until_at: int | None, *, alone: bool = True) -> int:
    """A ticket that the desk's paging has asked somebody to take."""
    company = technician.company
    ticket_id = company.ticket(machine(company), "limit", "oil_pressure_bar", clocks=(("R7", "dispatch", HOUR),))
    company.insert(
        schema.paging, ticket_id=ticket_id, round=1, phase="seeking", since_at=BEGAN, next_at=None
    )  # fmt: skip
    company.insert(
        schema.move, ticket_id=ticket_id, round=1, level=1, what="ask", who="next", person_id=technician.person_id,
        due_at=BEGAN, until_at=until_at, made_at=BEGAN,
    )  # fmt: skip
    change(
        company, schema.ticket, ticket_id, status="dispatched", technician_id=technician.person_id if alone else None
    )
    return ticket_id


def repaired(
    company: World, device_id: str, days_ago: int, *parts: str, cause: str = "battery", **other: object
) -> None:
    at = BEGAN - days_ago * DAY
    company.insert(schema.ticket, **{
        "device_id": device_id, "kind": "fault_code", "subject": "SPN 7", "severity": "urgent", "status": "closed",
        "opened_at": at, "occurred_at": at, "closed_at": at + HOUR, "resolved_at": at + HOUR, "evidence": {},
        "resolution_cause": cause, "resolution_action": "replaced", "borne_by": "wear", "parts": list(parts),
        "outcome": "real", "standard_version": "test", **other,
    })  # fmt: skip


def ids(found: list[dict[str, Any]]) -> list[int]:
    return [one["id"] for one in found]


def headline(page: httpx.Response) -> str:
    found = re.search(r"<h1>(.*?)<", page.text)
    assert found, page.text[:500]
    return found[1]


def filled(page: httpx.Response) -> list[str]:
    """What the filled buttons that are seen say."""
    seen = re.sub(r"<(form|button|section)[^>]* hidden>.*?</\1>", "", page.text, flags=re.DOTALL)
    return re.findall(r'class="btn first"[^>]*>([^<]*)<', seen)


# --- which job comes next ------------------------------------------------------------------------------------------


def test_the_job_in_hand_goes_before_others_and_these_by_time_left(company: World, tang: Hand) -> None:
    later, sooner = tang.carries("accepted", due_ms=5 * HOUR), tang.carries("accepted", due_ms=HOUR)
    in_hand = tang.carries("on_the_way", due_ms=9 * HOUR)
    with tang.client() as phone, hand(company).client() as other:
        assert ids(phone.get("/api/v1/jobs").json()["mine"]) == [in_hand, sooner, later]
        page = phone.get("/job").text
        places = [page.index(f'href="/{kind}/{one}"') for kind, one in
                  (("tickets", in_hand), ("job", sooner), ("job", later))]  # fmt: skip
        assert places == sorted(places)
        assert other.get("/api/v1/jobs").json()["mine"] == []


def test_what_waits_comes_last(company: World, tang: Hand) -> None:
    waiting = tang.carries("accepted", due_ms=MINUTE)
    change(company, schema.ticket, waiting, status="waiting", resumes_to="accepted")
    taken = tang.carries("accepted", due_ms=HOUR)
    with tang.client() as phone:
        assert ids(phone.get("/api/v1/jobs").json()["mine"]) == [taken, waiting]
        assert filled(phone.get(f"/job/{waiting}")) == ["I go on"]
        assert phone.post(f"/job/{waiting}/resume", follow_redirects=False).status_code == 303
        assert filled(phone.get(f"/job/{waiting}")) == ["I am on my way"]


def test_who_is_asked_sees_it_with_until_when_and_who_said_no_does_not(company: World, tang: Hand) -> None:
    until_at = BEGAN + 5 * MINUTE
    ticket_id = asked(tang, until_at)
    with tang.client() as phone, hand(company).client() as other:
        (offer,) = phone.get("/api/v1/jobs").json()["offered"]
        assert (offer["id"], offer["until_at"]) == (ticket_id, rfc3339(until_at))
        page = phone.get("/job")
        assert filled(page) == ["I take it"]
        assert "Your answer is awaited until" in page.text
        company.at = until_at + MINUTE
        assert "nobody else has taken it yet" in phone.get("/job").text
        assert other.get("/api/v1/jobs").json()["offered"] == []
        assert phone.post(f"/job/{ticket_id}/decline", data={"why": "too_far"}).status_code == 303
        assert phone.get("/api/v1/jobs").json()["offered"] == []


def test_of_several_who_are_asked_each_sees_it(tang: Hand) -> None:
    ticket_id = asked(tang, None, alone=False)
    with tang.client() as phone:
        assert ids(phone.get("/api/v1/jobs").json()["offered"]) == [ticket_id]
        assert phone.post(f"/job/{ticket_id}/accept").status_code == 303
        found = phone.get("/api/v1/jobs").json()
        assert (ids(found["mine"]), found["offered"]) == ([ticket_id], [])


def test_the_page_follows_its_own_jobs_and_who_is_asked(tang: Hand) -> None:
    mine, offered = tang.carries("on_site"), asked(tang, None)
    with tang.client() as phone:
        page = phone.get("/job").text
    (device_id,) = [row.device_id for row in rows(tang.company, schema.ticket, id=mine)]
    assert re.findall(r'data-follows="(.*?)"', page) == [
        f"what:asked ticket:{mine} ticket:{offered} device:{device_id}"
    ]  # fmt: skip


def test_who_is_sent_hears_of_it_as_being_asked(company: World, tang: Hand) -> None:
    ticket_id = company.ticket(machine(company), "limit", "oil_pressure_bar")
    with company.client("ops") as ops:
        for verb, body in (("verify", {}), ("dispatch", {"technician_id": tang.person_id}), ("accept", {})):
            assert ops.post(f"/api/v1/tickets/{ticket_id}/{verb}", json=body).status_code == 200
    told = [row.what for row in rows(company, schema.change, ticket_id=ticket_id)]
    assert told == ["ticket", "asked", "ticket"]


def test_what_a_phone_asks_for_is_read_by_an_index(company: World) -> None:
    """However many tickets and moves there are: none of these tables is read through."""
    asked_for: list[tuple[str, Any]] = []
    with company.database.connect() as connection:
        sa.event.listen(
            connection,
            "before_cursor_execute",
            lambda _c, _k, statement, given, *_: asked_for.append((statement, given)),
        )
        jobs.held(connection, 1, BEGAN, 10)
        jobs.offered(connection, 1, BEGAN, 10)
        jobs.like_it(connection, "diesel_generator", "limit", "oil", 1)
        plans = [
            line[-1] for statement, given in list(asked_for)
            for line in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given)
        ]  # fmt: skip
    assert [line for line in plans if line.startswith("SCAN") and "anon" not in line] == [], plans
    for index in ("ix_ticket_technician (technician_id=? AND status=?)", "ix_move_person (person_id=? AND ticket_id=?)",
                  "ix_ticket_repair (kind=? AND subject=?"):  # fmt: skip
        assert any(index in line for line in plans), plans


def test_an_offer_beside_a_job_is_said_at_the_top(tang: Hand) -> None:
    tang.carries("on_site")
    asked(tang, None)
    with tang.client() as phone:
        page = phone.get("/job").text
    assert page.index("You are asked to take another job.") < page.index("<h1>")


def test_a_job_that_is_not_theirs_is_shown_as_a_ticket(tang: Hand) -> None:
    with tang.client() as phone:
        answer = phone.get("/job/1")
        assert (answer.status_code, answer.headers["location"]) == (303, "/tickets/1")
        assert phone.get("/api/v1/jobs/999999").status_code == 404


def test_without_a_job_the_page_says_what_to_do(tang: Hand) -> None:
    with tang.client() as phone:
        page = phone.get("/job")
    assert headline(page) == "No job for you now"
    assert 'class="btn" href="/tickets"' in page.text
    assert 'id="bar"' not in page.text


def test_an_account_that_is_no_persons_has_no_jobs(company: World) -> None:
    company.tokens["nameless"] = company.token(Role.TECHNICIAN, "the workshop")
    with company.client("nameless") as client:
        assert client.get("/api/v1/jobs").json()["person_id"] is None
        assert "sign in as a technician by name" in client.get("/job").text


def test_each_role_begins_where_its_work_is(company: World, tang: Hand) -> None:
    for role, person_id, home in (
        (Role.TECHNICIAN, tang.person_id, "/job"), (Role.OPS, 3, "/"), (Role.TECHNICIAN, None, "/")
    ):  # fmt: skip
        with company.client() as client:
            answer = client.post("/sign-in", data={"secret": company.link(role, person_id)})
            assert (answer.status_code, answer.headers["location"]) == (303, home)
            client.headers["Cookie"] = answer.headers["set-cookie"].partition(";")[0]
            assert client.get("/start").headers["location"] == home
            entries = re.findall(r"<nav.*?</nav>", client.get("/tickets").text, re.DOTALL)[0]
            assert ("My job" in entries) is (home == "/job")


# --- what is on record ---------------------------------------------------------------------------------------------


def test_the_record_says_where_whom_to_call_and_what_was_put_in_before(company: World, tang: Hand) -> None:
    site_id = company.insert(
        schema.site, name="Pier 4", remote=False, timezone="Europe/Berlin", lat_deg=53.5, lon_deg=9.98,
        access_notes="Gate code 12 <b>with</b> the foreman",
    )  # fmt: skip
    customer_id = company.insert(schema.customer, name="Lindqvist", email="l@example.com", lang="en")
    company.insert(
        schema.person, name="Foreman", role="customer", email="f@example.com", phone="+46 (70) 12-3", lang="en",
        added_at=1, customer_id=customer_id,
    )  # fmt: skip
    here, alike = machine(company, site_id=site_id), machine(company)
    rental_id = company.hire(here, customer_id, BEGAN - DAY)
    ticket_id = company.ticket(
        here, "fault_code", "SPN 7", status="accepted", technician_id=tang.person_id, rental_id=rental_id
    )
    repaired(company, here, 40, "Battery 180 Ah", "Jump leads")
    repaired(company, alike, 50, "battery 180 ah")
    repaired(company, alike, 500, "Starter", cause="starter")
    repaired(company, alike, 60, "Left by mistake", outcome="nuisance")
    repaired(company, alike, 70, "Another fault's", subject="SPN 8")
    repaired(company, machine(company, "water_pump"), 80, "Another model's")
    company.insert(
        schema.step, ticket_id=ticket_id, event="verify", from_status="open", to_status="verified", actor="person:3",
        note="Ask for Ek", happened_at=BEGAN, recorded_at=BEGAN,
    )  # fmt: skip
    with tang.client() as phone:
        found = phone.get(f"/api/v1/jobs/{ticket_id}").json()
        page = phone.get("/job").text
    assert [(one["name"].casefold(), one["times"], one["of"]) for one in found["parts"]] == [
        ("battery 180 ah", 2, 3), ("jump leads", 1, 3), ("starter", 1, 3)
    ]  # fmt: skip
    assert found["causes"] == ["battery", "starter"]
    assert [(one["cause"], one["parts"]) for one in found["earlier"]] == [("battery", ["Battery 180 Ah", "Jump leads"])]
    assert found["same_in_a_year"] == 1
    assert [(note["by"], note["text"]) for note in found["notes"]] == [("Olga", "Ask for Ek")]
    for shown in (
        "Gate code 12 &lt;b&gt;with", 'href="tel:+4670123"', 'href="tel:+49301234567"', "put in at 2 of 3 such repairs",
        'href="geo:53.50000,9.98000?q=53.50000,9.98000"', "<code>53.50000, 9.98000</code>", "Ask for Ek",
    ):  # fmt: skip
        assert shown in page, shown


def test_nothing_is_invented_where_nothing_is_on_record(company: World, tang: Hand) -> None:
    ticket_id = tang.carries("accepted", device_id=machine(company, "air_compressor", site_id=None))
    with tang.client() as phone:
        found = phone.get(f"/api/v1/jobs/{ticket_id}").json()
        page = phone.get("/job").text
    assert (found["place"], found["parts"], found["earlier"], found["calls"]) == (None, [], [], [])
    assert "Nothing is on record for this fault of this model." in page
    assert "Where it stands is not known." in page
    assert "geo:" not in page


# --- steps without scripts -----------------------------------------------------------------------------------------

RESOLVED = {"cause": "battery", "action": "repaired", "borne_by": "wear", "outcome": "real"}


def test_the_whole_course_goes_without_scripts(company: World, tang: Hand) -> None:
    ticket_id = tang.carries("dispatched")
    with tang.client() as phone:
        for verb, said in (("accept", "I take it"), ("depart", "I am on my way"), ("arrive", "I have arrived"),
                           ("start-repair", "Repair begins")):  # fmt: skip
            assert filled(phone.get("/job")) == [said], verb
            company.at = company.now() + MINUTE
            answer = phone.post(f"/job/{ticket_id}/{verb}")
            assert (answer.status_code, answer.headers["location"]) == (303, "/job")
        assert filled(phone.get("/job")) == ["It is repaired"]
        form = RESOLVED | {"parts_said": "some", "part": "Battery 180 Ah", "parts": "Clamp\n\n  M8  bolt "}
        assert phone.post(f"/job/{ticket_id}/resolve", data=form).status_code == 303
        assert headline(phone.get("/job")) == "No job for you now"
    (ticket,) = rows(company, schema.ticket, id=ticket_id)
    assert (ticket.status, ticket.parts, ticket.resolution_cause) == (
        "resolved", ["Battery 180 Ah", "Clamp", "M8 bolt"], "battery"
    )  # fmt: skip


@pytest.mark.parametrize("form", [{}, RESOLVED, RESOLVED | {"parts_said": "some", "parts": " \n"}])
def test_a_resolution_that_lacks_something_is_asked_for_again(
    company: World, tang: Hand, form: dict[str, str]
) -> None:  # fmt: skip
    ticket_id = tang.carries("repairing")
    with tang.browser() as phone:
        page = phone.post(f"/job/{ticket_id}/resolve", data=form)
    assert page.status_code == 422
    assert "Something is missing. Say what it was" in page.text
    assert rows(company, schema.ticket, id=ticket_id)[0].status == "repairing"


def test_no_part_is_said_by_a_choice(company: World, tang: Hand) -> None:
    ticket_id = tang.carries("repairing")
    with tang.client() as phone:
        form = RESOLVED | {"parts_said": "none", "part": "not this one"}
        assert phone.post(f"/job/{ticket_id}/resolve", data=form).status_code == 303
    assert rows(company, schema.ticket, id=ticket_id)[0].parts == []


def test_why_somebody_cannot_go_stands_on_the_ticket(company: World, tang: Hand) -> None:
    ticket_id = tang.carries("accepted")
    with tang.client() as phone:
        phone.post(f"/job/{ticket_id}/decline", data={"why": "no_tools", "note": "lift needed"})
    (ticket,), (step,) = rows(company, schema.ticket, id=ticket_id), rows(company, schema.step, ticket_id=ticket_id)
    assert (ticket.status, ticket.technician_id) == ("verified", None)
    assert step.note == "I have not the tools or the parts: lift needed"


def test_a_job_that_has_to_wait_stops_for_the_customer(company: World, tang: Hand) -> None:
    ticket_id = tang.carries("on_site")
    with tang.client() as phone:
        phone.post(f"/job/{ticket_id}/pause", data={"reason": "no_access", "wait_h": "4", "note": "gate shut"})
    (pause,) = rows(company, schema.pause, ticket_id=ticket_id)
    assert (pause.reason, pause.until_at, pause.stops_clocks) == ("no_access", BEGAN + 4 * HOUR, True)


def test_who_was_too_late_reads_who_has_it(company: World, tang: Hand) -> None:
    ticket_id, other = asked(tang, None, alone=False), hand(company)
    with tang.browser() as phone, company.client("ops") as ops:
        ops.post(f"/api/v1/tickets/{ticket_id}/accept", json={"technician_id": other.person_id})
        page = phone.post(f"/job/{ticket_id}/accept")
    assert page.status_code == 409
    assert f"Somebody was faster: {other.name} has the job." in page.text


def test_another_sites_page_takes_no_step(company: World, tang: Hand) -> None:
    ticket_id = tang.carries("accepted")
    with tang.browser() as phone:
        answer = phone.post(f"/job/{ticket_id}/depart", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert rows(company, schema.ticket, id=ticket_id)[0].status == "accepted"


# --- the time of the step, not of the sending ----------------------------------------------------------------------


def test_a_step_counts_from_when_it_was_taken_and_once(company: World, tang: Hand) -> None:
    ticket_id = tang.carries("accepted", due_ms=4 * HOUR)
    left_at = BEGAN + 3 * MINUTE
    company.at = BEGAN + 20 * MINUTE
    with tang.client() as phone:
        for _ in range(3):
            answer = phone.post(
                f"/api/v1/tickets/{ticket_id}/depart", json={"happened_at": left_at},
                headers={"Idempotency-Key": "2f1c9a52-0b9e-4f0e-9a55-3f3f0d6f7a11"},
            )  # fmt: skip
            assert answer.status_code == 200
    (step,) = rows(company, schema.step, ticket_id=ticket_id)
    assert (step.event, step.happened_at, step.recorded_at) == ("depart", left_at, company.at)


def test_an_acceptance_that_expired_in_a_dead_spot_goes_on_by_what_was_done_before(company: World, tang: Hand) -> None:
    ticket_id = tang.carries("accepted")
    accepted_at, left_at = BEGAN + MINUTE, BEGAN + 5 * MINUTE
    company.insert(
        schema.step, ticket_id=ticket_id, event="accept", from_status="open", to_status="accepted",
        actor=f"person:{tang.person_id}", technician_id=tang.person_id, happened_at=accepted_at,
        recorded_at=accepted_at,
    )  # fmt: skip
    company.at = BEGAN + 31 * MINUTE
    with company.database.begin() as connection:
        (row,) = connection.execute(sa.select(schema.ticket).where(schema.ticket.c.id == ticket_id)).all()
        company.api.desk.withdraw(connection, row, BEGAN + 30 * MINUTE, company.at)
    depart = f"/api/v1/tickets/{ticket_id}/depart"
    with tang.client() as phone, hand(company).client() as other:
        assert other.post(depart, json={"happened_at": left_at}).status_code == 403, "it was never theirs"
        assert phone.post(depart).status_code == 403, "now it is too late"
        assert phone.post(depart, json={"happened_at": left_at}).json()["status"] == "on_the_way"
        assert ids(phone.get("/api/v1/jobs").json()["mine"]) == [ticket_id]


# --- the phone's worker --------------------------------------------------------------------------------------------


def test_the_worker_may_care_for_all_pages_and_is_asked_for_anew(company: World) -> None:
    with company.client() as nobody:
        answer = nobody.get("/sw.js")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/javascript")
        assert (answer.headers["service-worker-allowed"], answer.headers["cache-control"]) == ("/", "no-cache")
        assert re.search(r'"fettle-files-" \+ "[0-9a-f]{16}"', answer.text)
        listed = re.search(r"const STATIC = \[(.*)\]", answer.text)
        assert listed
        for path in re.findall(r'"([^"]+)"', listed[1]):
            assert nobody.get(path).status_code == 200, path


def test_another_text_is_another_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("sw.js", *job.KEPT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((job.STATIC / name).read_bytes())
    monkeypatch.setattr(job, "STATIC", tmp_path)
    same = job.worker_text()
    (tmp_path / "job.js").write_text("// changed")
    assert job.worker_text() != same


def test_the_page_can_be_installed(company: World) -> None:
    with company.client() as nobody:
        manifest = nobody.get("/static/manifest.webmanifest").json()
        found = {(icon["sizes"], icon["purpose"]) for icon in manifest["icons"] if icon["type"] == "image/png"}
        assert found == {(f"{px}x{px}", purpose) for px in (192, 512) for purpose in ("any", "maskable")}
        for icon in manifest["icons"]:
            picture = nobody.get(icon["src"])
            assert picture.status_code == 200
            if icon["type"] == "image/png":
                assert int.from_bytes(picture.content[16:20], "big") == int(icon["sizes"].partition("x")[0])
    assert manifest["start_url"] == "/start"
