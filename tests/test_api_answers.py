"""What the API answers, through the real server: shapes, figures, paging, refusals."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from api.shapes import epoch_ms, rfc3339
from monitor.store import schema
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
    assert health["maintenance"] == {"due_7_days": None, "overdue": None}
    assert {model["profile"]: model["total"] for model in health["by_model"]} == {
        "diesel_generator": 4, "water_pump": 1,
    }  # fmt: skip
    assert [(site["site_name"], site["bad"]) for site in health["by_site"] if site["bad"]] == [
        ("Quarry Sandberg", 1), ("Tunnel North", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("left_ms", "soon", "late"),
    [(16 * MINUTE, 0, 0), (15 * MINUTE, 1, 0), (1, 1, 0), (0, 0, 1), (-HOUR, 0, 1)],
)
def test_what_presses(fresh: World, left_ms: int, soon: int, late: int) -> None:
    fresh.at = fresh.began - 5 * MINUTE + HOUR - left_ms  # the first clocks are due an hour after opening
    with fresh.database.begin() as connection:
        connection.execute(sa.update(schema.commitment).where(schema.commitment.c.ticket_id == 2).values(met_at=1))
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
    assert alone["commitments"] == clocks == tickets[1]["commitments"]
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
    assert profile["start_timeout_s"] == 30
    sensors = {sensor["name"]: sensor for sensor in profile["sensors"]}
    assert sensors["coolant_temp_c"] == {
        "name": "coolant_temp_c", "unit": "°C", "nominal": 82.7,
        "limits": {"high": 100, "hold_s": 15, "clear_margin": 4},
    }  # fmt: skip
    assert "limits" not in sensors["engine_hours_h"]


def test_telemetry_by_default_is_the_last_hour(fresh: World) -> None:
    with fresh.client("ops") as client:
        series = client.get("/api/v1/devices/gen-a/telemetry?metric=coolant_temp_c").json()
    assert (series["bucket_s"], len(series["points"])) == (0, 359)
    first = series["points"][0]
    assert first["min"] == first["mean"] == first["max"]
    assert set(first) == {"at", "min", "max", "mean"}


def test_telemetry_is_never_more_than_a_chart_can_show(fresh: World) -> None:
    fresh.measure("gen-b", since=fresh.began - 12 * HOUR, until=fresh.began - 2 * HOUR, step_ms=2_000)
    with fresh.client("ops") as client:
        series = client.get(
            "/api/v1/devices/gen-b/telemetry",
            params={"metric": "coolant_temp_c", "from": rfc3339(fresh.began - DAY), "to": fresh.began},
        ).json()
    assert 500 < len(series["points"]) <= 2000
    assert series["bucket_s"] > 2
    assert all(point["min"] <= point["mean"] <= point["max"] for point in series["points"])


@pytest.mark.parametrize(
    "address",
    [
        "devices?colour=red",
        "devices?limit=0",
        "devices?limit=501",
        "devices?cursor=nonsense",
        "devices?cursor=MTIz",  # a number, where this list counts by id
        "devices?status=broken",
        "tickets?status=opened",
        "tickets?cursor=ImEi",
        "rejected?page=2",
        "devices/gen-a/telemetry",
        "devices/gen-a/telemetry?metric=x&from=yesterday",
        "devices/gen-a/telemetry?metric=x&from=2026-01-01T00:00:00",
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
        assert set(refusal.json()["allowed"]) == {"verify", "dispatch", "accept", "cancel"}
        assert client.post("/api/v1/tickets/1/dispatch").status_code == 409  # whom?
        fresh.at = fresh.began + MINUTE
        assert client.post("/api/v1/tickets/1/verify", json={"note": "called the site"}).status_code == 200
        client.post("/api/v1/tickets/1/dispatch", json={"technician_id": 1})
        fresh.at += MINUTE
        ticket = client.post("/api/v1/tickets/1/accept", json={"technician_id": 1}).json()
        assert ticket["commitments"][0]["met_at"] == rfc3339(fresh.at)
        for verb in ("depart", "arrive", "start-repair", "resolve"):
            fresh.at += MINUTE
            assert client.post(f"/api/v1/tickets/1/{verb}").status_code == 200
        ticket = client.post("/api/v1/tickets/1/close").json()
        assert ticket["status"] == "closed"
        assert [step["event"] for step in ticket["steps"]][:3] == ["verify", "dispatch", "accept"]
        assert ticket["steps"][0]["note"] == "called the site"
        assert ticket["allowed"] == []
        assert client.post("/api/v1/tickets/77/verify").status_code == 404
        assert client.post("/api/v1/tickets/1/explode").status_code == 422


def test_what_came_in_broken(company: World) -> None:
    with company.client("ops") as client:
        item = client.get("/api/v1/rejected").json()["items"][0]
    assert (item["reason"], item["device_id"], item["payload_bytes"]) == ("bad_json", "gen-a", 902)
    assert item["payload"] == "{\ufffd" + "x" * 498


def test_openapi_tells_every_route(company: World) -> None:
    with company.client("customer") as client:
        told = client.get("/api/v1/openapi.json").json()
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
        assert 'route="/healthz"' in figures
        fresh.api.ready["broker"] = lambda: False  # type: ignore[index]
        fresh.telemetry.close()
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["failing"]) == (503, ["telemetry", "broker"])
        assert str(fresh.database.engine.url.database) not in answer.text


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
