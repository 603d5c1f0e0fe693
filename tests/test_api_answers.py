"""What the API answers, through the real server: shapes, figures, paging, refusals."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from api.pages.fleet import Course
from api.paging import MAX_ITEMS
from api.shapes import epoch_ms, rfc3339
from ingest.message import parse
from monitor.readings import Arrival, Rejected
from monitor.store import schema, watching
from monitor.store.access import Role
from tests.api_world import DAY, HOUR, MINUTE, World, furnish, world

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("answers")) as company:
        furnish(company)
        yield company


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, at=1_795_000_000_000) as company:
        furnish(company)
        yield company


def test_fleet_health(fresh: World) -> None:
    with fresh.client("ops") as client:
        health = client.get("/api/v1/fleet/health").json()
    assert health["as_of"] == rfc3339(fresh.began)
    assert health["devices"] == {"total": 5, "good": 1, "bad": 2, "unknown": 2, "on_hire": 2, "good_on_hire": 0}
    on_hire = health["availability"]["on_hire"]
    # gen-a hired for 2 h, gen-b for 3 d, gen-old for 8 d; two bad for 5 min and 2 s
    total_ms, bad_ms = 2 * HOUR + 3 * DAY + 8 * DAY, 2 * (5 * MINUTE + 2_000)
    assert on_hire == {
        "now": 0.0, "window_days": 30, "lower": pytest.approx(1 - bad_ms / total_ms),
        "upper": pytest.approx(1 - bad_ms / total_ms), "target": 0.9, "met": True,
    }  # fmt: skip
    fleet = health["availability"]["fleet"]
    assert fleet["now"] == 0.2
    assert fleet["lower"] == pytest.approx(0.8, abs=0.001)  # one of five was never heard
    assert fleet["met"] is False
    assert health["tickets"] == {"open": 3, "emergency": 1, "due_within_15_min": 0, "breached": 0}
    assert health["maintenance"] == {"due_7_days": 0, "overdue": 0}
    assert {model["profile"]: model["total"] for model in health["by_model"]} == {
        "diesel_generator": 4, "water_pump": 1,
    }  # fmt: skip
    assert [(site["site_name"], site["bad"]) for site in health["by_site"] if site["bad"]] == [
        ("Quarry Sandberg", 1), ("Tunnel North", 1),
    ]  # fmt: skip


def test_the_figures_follow_what_turns_out_to_have_been(fresh: World) -> None:
    with fresh.client("ops") as ops, fresh.client("customer") as customer:
        address = "/api/v1/fleet/health"
        before, theirs = ops.get(address).json(), customer.get(address).json()
        with fresh.database.begin() as connection:
            connection.execute(sa.update(schema.fault).values(cleared_at=fresh.began))
            connection.execute(
                sa.update(schema.fault).values(occurred_at=fresh.began - DAY, opened_at=fresh.began - DAY)
            )
        later = ops.get(address).json()
    assert later["devices"]["good_on_hire"] == 2
    shares = [health["availability"]["on_hire"] for health in (before, later)]
    assert [share["now"] for share in shares] == [0.0, 1.0]
    assert shares[0]["lower"] > shares[1]["lower"]
    assert theirs["availability"]["on_hire"]["lower"] != before["availability"]["on_hire"]["lower"]
    assert (theirs["budget"], theirs["devices"]["total"]) == (None, 1)


def test_a_bad_machine_that_is_silent_does_not_report(fresh: World) -> None:
    with fresh.client("ops") as client:
        assert "2 machines are silent or were never heard" in client.get("/").text
        fresh.ticket("gen-a", "silent", severity="routine")
        fresh.insert(schema.change, at=fresh.now(), what="ticket")
        assert client.get("/api/v1/fleet/health").json()["devices"]["unknown"] == 2
        assert "3 machines are silent or were never heard" in client.get("/").text
        with fresh.database.begin() as connection:
            connection.execute(sa.delete(schema.fault).where(schema.fault.c.kind == "silent"))
            connection.execute(sa.update(schema.device).values(first_heard_at=1))
        fresh.insert(schema.change, at=fresh.now(), what="fault_cleared")
        assert "Every machine reports." in client.get("/").text


@pytest.mark.parametrize(
    ("lang", "on_hire_ms", "words"),
    [
        ("en", None, "The line begins once a machine is on hire."),
        ("zh", None, "有设备在租后开始显示曲线。"),
        ("en", HOUR, "One point a day: the line begins after the first full day."),
        ("zh", HOUR, "每天一个点：满一天后开始连成曲线。"),  # noqa: RUF001
        ("en", 25 * HOUR, ""),
    ],
)
def test_a_course_that_has_not_begun_says_so(fresh: World, lang: str, on_hire_ms: int | None, words: str) -> None:
    with fresh.database.begin() as connection:
        connection.execute(sa.delete(schema.commitment))
        connection.execute(sa.update(schema.ticket).values(rental_id=None))
        connection.execute(sa.delete(schema.rental))
    if on_hire_ms:
        fresh.hire("gen-b", 2, fresh.began - on_hire_ms)
    with fresh.client("ops") as client:
        page = client.get(f"/?lang={lang}").text
    begins = re.search('<p class="begins">(.*?)</p>', page)
    assert (begins[1] if begins else "") == words
    drawn = re.search('<polyline points="([^"]+)"', page)
    assert (len(drawn[1].split()) if drawn else 0) == (2 if on_hire_ms else 0)


def test_a_day_alone_is_a_dash() -> None:
    known, nothing = (0.9, 1.0), (None, None)
    course = Course.of([nothing, known, nothing, known, known])
    assert course.line == ["100.0,25.0 200.0,25.0", "450.0,25.0 600.0,25.0"]
    assert course.known == 3


REFUSED = {
    "zh": (
        (
            "目前无法执行此步骤。工单状态为：已核实。现在可以：核实、派工、接单、已解决、取消工单、"  # noqa: RUF001
            "暂停等待、并入另一工单、关联其他工单、撤回上一步。"
        ),
        "填写的内容无法接受。请选择前往的技术人员。",
        "目前无法执行此步骤。工单状态为：已取消。现在可以：重新打开、关联其他工单。",  # noqa: RUF001
    ),
    "en": (
        (
            "This step is not possible now. The ticket stands at: verified. Possible now: Verify, Send technician, "
            "Accept, Resolved, Cancel ticket, Wait, Merge into another ticket, Link with another ticket, Take back "
            "the last step."
        ),
        "This cannot be taken as it is. Choose the technician who goes.",
        (
            "This step is not possible now. The ticket stands at: cancelled. Possible now: Reopen, Link with another "
            "ticket."
        ),
    ),
}


@pytest.mark.parametrize("lang", list(REFUSED))
def test_a_refused_step_is_explained_in_the_pages_language(fresh: World, lang: str) -> None:
    with fresh.client() as client:
        signed_in = client.post("/sign-in", data={"secret": fresh.link(Role.OPS)})
        client.headers["Cookie"] = f"{signed_in.headers['set-cookie'].partition(';')[0]}; fettle_lang={lang}"
        verbs = ("verify", "arrive", "dispatch", "cancel", "verify")
        pages = [client.post(f"/tickets/1/{verb}", data={"reason": "other"}) for verb in verbs]
    assert [page.status_code for page in pages] == [303, 409, 422, 303, 409]
    told = 'role="alert">(.*?)(?: <a [^>]*>.*?</a>)?</p>'
    refusals = [found for page in pages for found in re.findall(told, page.text)]
    assert refusals == list(REFUSED[lang])


def test_a_program_that_posts_to_a_page_is_refused_as_a_program(company: World) -> None:
    with company.client("ops") as client:
        answer = client.post("/tickets/1/arrive")
    assert answer.status_code == 409
    assert "verify" in answer.json()["allowed"]


@pytest.mark.parametrize(
    ("left_ms", "soon", "late"),
    [(16 * MINUTE, 0, 0), (15 * MINUTE, 1, 0), (1, 1, 0), (0, 0, 1), (-HOUR, 0, 1)],
)
def test_what_presses(fresh: World, left_ms: int, soon: int, late: int) -> None:
    fresh.at = fresh.began - 5 * MINUTE + HOUR - left_ms  # the first clocks are due an hour after opening
    with fresh.database.begin() as connection:
        connection.execute(sa.update(schema.commitment).where(schema.commitment.c.ticket_id == 2).values(met_at=1))
    fresh.note_due(2)
    with fresh.client("ops") as client:
        tickets = client.get("/api/v1/fleet/health").json()["tickets"]
    assert (tickets["due_within_15_min"], tickets["breached"]) == (soon, late)


def test_a_company_without_machines(tmp_path: Path) -> None:
    with world(tmp_path) as company:
        company.tokens["ops"] = company.token(Role.OPS, "desk")
        with company.client("ops") as client:
            share = client.get("/api/v1/fleet/health").json()["availability"]["on_hire"]
            page = client.get("/").text
    assert (share["now"], share["lower"], share["met"]) == (None, None, None)
    assert "No machines yet." in page
    assert "fettle device add" in page
    assert "Nothing is open." in page


def test_a_machine(company: World) -> None:
    with company.client("ops") as client:
        machine = client.get("/api/v1/devices/gen-a").json()
    assert machine["condition"] == "bad"
    assert machine["data"] == {"received": 95, "missing": 5}
    assert (machine["connection"], machine["firmware"], machine["site_name"]) == ("online", "2.4.1", "Tunnel North")
    assert machine["rental"]["customer_name"] == "Customer A"
    assert machine["latest"]["state"] == "running"
    assert machine["latest"]["values"]["battery_voltage_v"] == 13.6
    fault = machine["faults"][0]
    assert (fault["kind"], fault["subject"], fault["ticket_id"]) == ("limit", "coolant_temp_c", 1)
    assert RFC3339.fullmatch(machine["latest"]["at"])


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["gen-a", "gen-b", "gen-mute", "gen-old", "gen-yard"]),
        ("?status=bad", ["gen-a", "gen-b"]),
        ("?status=unknown", ["gen-mute", "gen-yard"]),
        ("?status=good", ["gen-old"]),
        ("?profile=water_pump", ["gen-mute"]),
        ("?site=2", ["gen-b"]),
        ("?site=1&status=bad", ["gen-a"]),
        ("?site=77", []),
    ],
)
def test_machines_by_site_model_and_condition(company: World, query: str, ids: list[str]) -> None:
    with company.client("ops") as client:
        assert [item["device_id"] for item in client.get(f"/api/v1/devices{query}").json()["items"]] == ids


@pytest.mark.parametrize("path", ["devices", "tickets", "rentals", "sites", "people"])
def test_pages_of_a_list_are_the_list(company: World, path: str) -> None:
    with company.client("ops") as client:
        whole = client.get(f"/api/v1/{path}?limit=500").json()
        assert whole["next"] is None
        found, cursor = [], ""
        while cursor is not None:
            page = client.get(f"/api/v1/{path}", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
            assert 0 < len(page["items"]) <= 2
            found += page["items"]
            cursor = page["next"]
    assert found == whole["items"]


def test_tickets_carry_their_clocks_in_lists_too(company: World) -> None:
    with company.client("ops") as client:
        tickets = client.get("/api/v1/tickets").json()["items"]
        alone = client.get("/api/v1/tickets/2").json()
        clocks = client.get("/api/v1/tickets/2/commitments").json()["items"]
    assert [ticket["id"] for ticket in tickets] == [3, 2, 1]
    kinds = [(clock["standard_id"], clock["kind"]) for clock in tickets[1]["commitments"]]
    assert kinds == [("R8", "remote_diagnosis"), ("R8", "dispatch"), ("R9", "repair_start")]
    assert tickets[0]["commitments"] == []
    assert alone["commitments"] == tickets[1]["commitments"]
    assert all(clock.items() >= told.items() for clock, told in zip(clocks, alone["commitments"], strict=True))
    assert [(part["ran_s"], part["to_at"]) for part in clocks[0]["parts"]] == [(3600, clocks[0]["due_at"])]
    assert clocks[0]["due_at"] == rfc3339(company.began + 55 * MINUTE)
    assert "facts" not in tickets[0]
    assert alone["headline"] == "Does not start: not running within 30 s"


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("device_id=gen-a", [1]),
        ("status=open", [3, 2, 1]),
        ("status=closed,verified", []),
        ("status=open,closed&device_id=gen-b", [2]),
    ],
)
def test_tickets_by_machine_and_status(company: World, query: str, ids: list[int]) -> None:
    with company.client("ops") as client:
        assert [item["id"] for item in client.get(f"/api/v1/tickets?{query}").json()["items"]] == ids


def test_a_profile_leaves_out_what_it_has_not(company: World) -> None:
    with company.client("ops") as client:
        profile = client.get("/api/v1/profiles/diesel_generator").json()
    assert (profile["start_timeout_s"], profile["report_interval_s"]) == (30, 10)
    sensors = {sensor["name"]: sensor for sensor in profile["sensors"]}
    assert sensors["coolant_temp_c"] == {
        "name": "coolant_temp_c", "unit": "°C", "nominal": 82.7,
        "limits": {"high": 100, "hold_s": 15, "clear_margin": 4}, "states": ["running"],
    }  # fmt: skip
    assert "limits" not in sensors["engine_hours_h"]


def test_telemetry_by_default_is_the_last_hour(fresh: World) -> None:
    with fresh.client("ops") as client:
        series = client.get("/api/v1/devices/gen-a/telemetry?metric=coolant_temp_c").json()
    assert (series["bucket_s"], len(series["items"])) == (0, 359)
    told = (series["device_id"], series["metric"], series["unit"], series["next"])
    assert told == ("gen-a", "coolant_temp_c", "°C", None)
    first = series["items"][0]
    assert first["min"] == first["mean"] == first["max"]
    assert set(first) == {"at", "min", "max", "mean"}


def test_telemetry_is_never_more_than_a_chart_can_show(fresh: World) -> None:
    fresh.measure("gen-b", since=fresh.began - 12 * HOUR, until=fresh.began - 2 * HOUR, step_ms=2_000)
    with fresh.client("ops") as client:
        series = client.get(
            "/api/v1/devices/gen-b/telemetry",
            params={"metric": "coolant_temp_c", "from": rfc3339(fresh.began - DAY), "to": fresh.began},
        ).json()
    assert 500 < len(series["items"]) <= 2000
    assert series["bucket_s"] > 2
    assert all(point["min"] <= point["mean"] <= point["max"] for point in series["items"])


@pytest.mark.parametrize(
    "address",
    [
        "devices?colour=red",
        "devices?limit=0",
        "devices?limit=-1",
        "devices?limit=many",
        "devices?cursor=nonsense",
        "devices?cursor=MTIz",  # a number, where this list counts by id
        "devices?status=broken",
        "tickets?status=opened",
        "tickets?cursor=ImEi",
        "rejected?page=2",
        "devices/gen-a/telemetry",
        "devices/gen-a/telemetry?metric=x&from=yesterday",
        "devices/gen-a/telemetry?metric=x&from=2026-01-01T00:00:00",
        "devices/gen-a/telemetry?metric=x&from=2026-01-01%2000:00:00",
        "devices/gen-a/telemetry?metric=x&from=2026-01-01%2008:00",
        "devices/gen-a/telemetry?metric=x&from=2000&to=1000",
        "devices/gen-a/telemetry?metric=x&from=99999999999999999",
    ],
)
def test_what_is_not_valid_is_refused_with_a_reason(company: World, address: str) -> None:
    with company.client("ops") as client:
        answer = client.get(f"/api/v1/{address}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"colour": "red"}, 422),
        ({"note": "x" * 2001}, 422),
        ({"technician_id": 0}, 422),
        ({"technician_id": 3}, 422),  # Olga is no technician
        ({"happened_at": "soon"}, 422),
        ({"happened_at": "2020-01-01T00:00:00Z"}, 409),
    ],
)
def test_a_step_that_cannot_be_taken(company: World, body: dict[str, object], status: int) -> None:
    with company.client("ops") as client:
        answer = client.post("/api/v1/tickets/1/verify", json=body)
        assert answer.status_code == status, answer.text
        assert client.get("/api/v1/tickets/1").json()["status"] == "open"


def test_a_ticket_walks_its_life(fresh: World) -> None:
    with fresh.client("ops") as client:
        refusal = client.post("/api/v1/tickets/1/arrive")
        assert refusal.status_code == 409
        assert refusal.json()["title"] == "This step is not possible now"
        assert set(refusal.json()["allowed"]) == {"verify", "dispatch", "accept", "cancel", "pause", "merge", "link"}
        whom = client.post("/api/v1/tickets/1/dispatch")
        assert (whom.status_code, whom.json()["detail"]) == (422, "dispatch needs technician_id, the person who goes")
        fresh.at = fresh.began + MINUTE
        assert client.post("/api/v1/tickets/1/verify", json={"note": "called the site"}).status_code == 200
        client.post("/api/v1/tickets/1/dispatch", json={"technician_id": 1})
        fresh.at += MINUTE
        ticket = client.post("/api/v1/tickets/1/accept", json={"technician_id": 1}).json()
        assert ticket["commitments"][0]["met_at"] == rfc3339(fresh.at)
        for verb in ("depart", "arrive", "start-repair"):
            fresh.at += MINUTE
            assert client.post(f"/api/v1/tickets/1/{verb}").status_code == 200
        lacking = client.post("/api/v1/tickets/1/resolve", json={"cause": "battery"})
        needed = "resolve needs cause, action and borne_by; and parts, [] where none was needed"
        assert (lacking.status_code, lacking.json()["detail"]) == (422, needed)
        was = {"cause": "moon", "action": "part_replaced", "borne_by": "wear", "parts": ["Battery 12 V"]}
        wrong = client.post("/api/v1/tickets/1/resolve", json=was)
        assert wrong.status_code == 422
        assert wrong.json()["detail"].startswith("cause 'moon' is not among: battery, starter, fuel")
        silent = {"cause": "battery", "action": "part_replaced", "borne_by": "wear"}
        assert client.post("/api/v1/tickets/1/resolve", json=silent).json()["detail"] == needed
        assert client.post("/api/v1/tickets/1/resolve", json=was | {"cause": "battery"}).status_code == 200
        ticket = client.post("/api/v1/tickets/1/close").json()
        assert ticket["resolution"] == was | {"cause": "battery", "outcome": "real"}
        assert ticket["status"] == "closed"
        assert [step["event"] for step in ticket["steps"]][:3] == ["verify", "dispatch", "accept"]
        assert ticket["steps"][0]["note"] == "called the site"
        assert ticket["allowed"] == ["reopen", "link"]
        assert client.post("/api/v1/tickets/77/verify").status_code == 404
        assert client.post("/api/v1/tickets/1/explode").status_code == 422


def test_tickets_by_time_left(fresh: World) -> None:
    with fresh.client("ops") as client, fresh.client("customer") as customer:
        found = client.get("/api/v1/tickets", params={"sort": "time_left"}).json()
        due = [min((one["due_at"] for one in ticket["commitments"]), default="9") for ticket in found["items"]]
        assert (len(due), sorted(due), found["next"]) == (3, due, None)
        first = client.get("/api/v1/tickets", params={"sort": "time_left", "limit": 1}).json()
        assert (first["items"], first["next"]) == (found["items"][:1], None)
        (one,) = client.get("/api/v1/tickets", params={"sort": "time_left", "device_id": "gen-yard"}).json()["items"]
        assert (one["id"], one["commitments"]) == (3, [])
        theirs = customer.get("/api/v1/tickets", params={"sort": "time_left"}).json()["items"]
        assert [ticket["device_id"] for ticket in theirs] == ["gen-a"]
        client.post("/api/v1/tickets/1/cancel", json={"reason": "other"})
        left = client.get("/api/v1/tickets", params={"sort": "time_left"}).json()["items"]
        assert [ticket["id"] for ticket in left] == [ticket["id"] for ticket in found["items"] if ticket["id"] != 1]
        for wrong in ({"status": "explode"}, {"cursor": "MQ"}, {"sort": "severity"}):
            assert client.get("/api/v1/tickets", params={"sort": "time_left"} | wrong).status_code == 422


@pytest.mark.parametrize("address", ["devices", "tickets", "rentals", "sites", "people", "notices", "rejected"])
def test_more_than_a_page_holds_is_a_full_page(company: World, address: str) -> None:
    with company.client("ops") as client:
        full, more = (client.get(f"/api/v1/{address}?limit={limit}") for limit in (MAX_ITEMS, 10**30))
    assert (full.status_code, more.status_code) == (200, 200)
    assert more.json() == full.json()


def test_a_full_page_holds_no_more_than_it_may(fresh: World) -> None:
    with fresh.at_once():
        for n in range(MAX_ITEMS + 1):
            fresh.insert(schema.site, name=f"site {n}", timezone="UTC")
    with fresh.client("ops") as client:
        page = client.get("/api/v1/sites?limit=9999").json()
    assert len(page["items"]) == MAX_ITEMS
    assert page["next"]


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("devices/gen%20a", "machine"),
        ("devices/" + "x" * 65, "machine"),
        ("devices/gen.a/telemetry?metric=coolant_temp_c", "machine"),
        ("tickets/0", "ticket"),
        ("tickets/first", "ticket"),
        (f"tickets/{2**63}/commitments", "ticket"),
        ("profiles/" + "x" * 65, "profile"),
    ],
)
def test_an_id_that_nothing_can_have_is_one_that_nothing_has(company: World, address: str, what: str) -> None:
    with company.client("ops") as client:
        answer = client.get(f"/api/v1/{address}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == f"There is no such {what} here."


@pytest.mark.parametrize(
    ("path", "token", "is_problem"),
    [
        ("/api", False, True),
        ("/api/nothing", False, True),
        ("/api/v1/devices/gen-a/nothing", True, True),
        ("/nothing", True, True),
        ("/machines/no-such", True, True),
        ("/machines/x.y", True, True),
        ("/nothing", False, False),
        ("/apinothing", False, False),
    ],
)
def test_programs_are_told_of_unknown_paths_as_programs(
    company: World, path: str, token: bool, is_problem: bool
) -> None:
    with company.client("ops" if token else "") as client:
        answer = client.get(path)
    assert answer.status_code == 404
    assert (answer.headers["content-type"] == "application/problem+json") is is_problem


def test_a_plus_that_was_not_encoded(fresh: World) -> None:
    at = f"{fresh.began // 1000 * 1000}"
    with fresh.client("ops") as client:

        def asked(to: str) -> object:
            answer = client.get(f"/api/v1/devices/gen-a/telemetry?metric=coolant_temp_c&from=1794990000000&to={to}")
            assert answer.status_code == 200, answer.text
            return answer.json()["items"]

        whole = asked(at)
        local = datetime.fromtimestamp(int(at) / 1000, timezone(timedelta(hours=8))).isoformat()
        assert local.endswith("+08:00")
        assert asked(local) == asked(local.replace("+", "%2B")) == asked(local.replace("T", " ")) == whole


def test_what_came_in_broken(company: World) -> None:
    with company.client("ops") as client:
        item = client.get("/api/v1/rejected").json()["items"][0]
    assert (item["reason"], item["device_id"], item["payload_bytes"]) == ("bad_json", "gen-a", 902)
    assert item["payload"] == "{\ufffd" + "x" * 498


def test_a_dead_letter_tells_how_long_it_was(fresh: World) -> None:
    arrivals = parse("fettle/v1/00/gen-a/telemetry", b"x" * 300_000, fresh.began)
    short = Arrival("gen-a", fresh.began, Rejected("bad_json", "no JSON", "gen-a/telemetry", b"{"))
    with fresh.database.begin() as connection:
        watching.save_rejected(connection, [*arrivals, short])
    with fresh.client("ops") as client:
        items = client.get("/api/v1/rejected").json()["items"]
    assert [(item["reason"], item["payload_bytes"]) for item in items[:2]] == [("bad_json", 1), ("bad_topic", 300_000)]


def test_what_grows_by_itself_is_bounded(fresh: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_REPLIES", 3)
    now = fresh.began
    with fresh.at_once():
        for n, age in enumerate((0, 1, 2, 3, 4, 31 * DAY)):
            at = now - age
            fresh.insert(schema.reply, device_id="gen-a", command_id=f"c{n}", at=at, received_at=at, ok=True, result={})
        for n, age in enumerate((-HOUR, DAY - 1, DAY + 1)):
            old = {"hash": f"{n}", "role": "ops", "expires_at": now - age}
            fresh.insert(schema.login_link, **old)
            fresh.insert(schema.session, **old, created_at=now - 2 * DAY)
    with fresh.database.begin() as connection:
        watching.prune(connection, now)
        kept = [
            set(connection.execute(sa.select(column)).scalars())
            for column in (schema.reply.c.command_id, schema.login_link.c.hash, schema.session.c.hash)
        ]
    assert kept == [{"c0", "c1", "c2"}, {"0", "1"}, {"0", "1"}]
    monkeypatch.undo()
    with fresh.database.begin() as connection:
        watching.prune(connection, now + 30 * DAY + 1)
        left = connection.execute(sa.select(schema.reply.c.command_id)).scalars().all()
    assert left == []


@pytest.mark.parametrize("address", ["/api/v1/openapi.json", "/openapi.json"])
def test_openapi_tells_every_route(company: World, address: str) -> None:
    with company.client("customer") as client:
        told = client.get(address).json()
    operations = [operation for path in told["paths"].values() for operation in path.values()]
    assert len(operations) >= 15
    assert all(operation.get("description") for operation in operations)
    assert "ProblemDetails" in told["components"]["schemas"]


def test_probes(fresh: World) -> None:
    with fresh.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").status_code == 200
        figures = client.get("/metrics").text
        assert 'fettle_machines{condition="bad"} 2.0' in figures
        assert "fettle_tickets_open 3.0" in figures
        assert "fettle_notices_queued 0.0" in figures
        assert 'route="/healthz"' in figures
        fresh.api.ready["broker"] = lambda: False  # type: ignore[index]
        fresh.telemetry.close()
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["failing"]) == (503, ["telemetry", "broker"])
        assert str(fresh.database.engine.url.database) not in answer.text


def test_metrics_tell_how_the_outbox_stands_and_name_nobody(fresh: World) -> None:
    common = {
        "kind": "breach", "ticket_id": 1, "channel": "email", "recipient": "tang@example.com", "lang": "en",
        "subject": "gen-a", "body": "gen-a at Tunnel North", "queued_at": fresh.began,
    }  # fmt: skip
    for n, (status, due_ms) in enumerate((("queued", -90_500), ("queued", HOUR), ("failed", -DAY), ("sent", -DAY))):
        fresh.insert(schema.notice, cause=f"m{n}", status=status, next_try_at=fresh.began + due_ms, **common)
    with fresh.client() as client:
        figures = client.get("/metrics").text
    for line in ("queued 2.0", "failed 1.0", "overdue_seconds 90.5"):
        assert f"\nfettle_notices_{line}\n" in figures
    assert not re.search("gen-a|tang|Tunnel", figures)


def test_a_failure_tells_strangers_nothing(fresh: World) -> None:
    with fresh.database.begin() as connection:
        connection.execute(sa.text("DROP TABLE seen"))
    for path in ("/api/v1/devices/gen-a", "/machines/gen-a"):
        with fresh.client("ops") as client:
            answer = client.get(path)
        assert answer.status_code == 500
        assert not re.search("no such table|sqlite|Traceback|SELECT", answer.text, re.IGNORECASE)
        assert "content-security-policy" in answer.headers


def test_without_readings_the_rest_goes_on(fresh: World) -> None:
    fresh.telemetry.close()
    with fresh.client("ops") as client:
        answer = client.get("/api/v1/devices/gen-a/telemetry?metric=coolant_temp_c")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "duckdb" not in answer.text.lower()
        assert client.get("/").status_code == 200
        assert client.get("/api/v1/tickets/1").status_code == 200


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-11-23T14:06:00Z", 1_795_442_760_000),
        ("2026-11-23T14:06:00.120+08:00", 1_795_413_960_120),
        ("1795442760000", 1_795_442_760_000),
        (1_795_442_760_000, 1_795_442_760_000),
    ],
)
def test_moments(given: object, moment: int) -> None:
    assert epoch_ms(given) == moment
    assert epoch_ms(rfc3339(moment)) == moment
