"""What GET tickets/{id} says of how we know: from copies that the real copyist made, and to whom."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from monitor.engine import Copyist
from monitor.store import schema
from tests.api_world import HOUR, MINUTE, World, furnish, world

HOT = {
    "value": 104.2, "limit": 100.0, "side": "above", "hold_s": 15.0, "unit": "°C", "rule": "limits/1",
    "confidence": 0.8,
}  # fmt: skip


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("evidence")) as company:
        furnish(company)
        hot_since = company.began - 30 * MINUTE
        with company.at_once():
            company.machine("gen-hot")
            a = company.hire("gen-hot", 1, company.began - HOUR)
            company.ticket(
                "gen-hot", "limit", "coolant_temp_c", ago_ms=30 * MINUTE, rental_id=a, cleared=True,
                evidence={**HOT, "since_at": hot_since},
            )  # fmt: skip
        gap = range(company.began - 40 * MINUTE, company.began - 38 * MINUTE)
        company.measure(
            "gen-hot", since=company.began - 2 * HOUR, until=company.began + 6 * MINUTE, gap=gap,
            heat=lambda at: 40 if hot_since - 2_000 <= at < company.began else 0,
        )  # fmt: skip
        copy(company)
        yield company


def copy(company: World) -> None:
    Copyist(company.database, company.telemetry, company.api.profiles, retention_days=90).tick(
        company.began + 6 * MINUTE
    )


def ticket_of(company: World, device_id: str, kind: str = "limit") -> int:
    t = schema.ticket.c
    with company.database.connect() as connection:
        return int(connection.execute(sa.select(t.id).where(t.device_id == device_id, t.kind == kind)).scalar_one())


def test_a_ticket_says_how_we_know(company: World) -> None:
    company.telemetry.expire(company.began + 2 * HOUR)
    with company.client("ops") as client:
        evidence = client.get(f"/api/v1/tickets/{ticket_of(company, 'gen-hot')}").json()["evidence"]
    assert {key: evidence[key] for key in ("rule", "version", "value", "limit", "confidence", "certainty")} == {
        "rule": "limits", "version": "1", "value": 104.2, "limit": 100.0, "confidence": 0.8, "certainty": "likely",
    }  # fmt: skip
    assert evidence["sentence"].startswith("Coolant temperature was above 100 °C for 15 s")
    assert evidence["since_at"].endswith("Z")
    assert evidence["alternatives"][0]["code"] == "sensor_fault"
    assert "jumped by" in evidence["alternatives"][0]["speaks_for"][0]
    complete = evidence["completeness"]
    assert (complete["missing"], [gap["missing"] for gap in complete["gaps"]]) == (12, [12])
    assert complete["share"] == complete["received"] / (complete["received"] + 12)
    assert [(one["phase"], one["status"], one["complete"]) for one in evidence["copies"]] == [
        ("opening", "made", True), ("after", "made", True), ("clearing", "made", True),
    ]  # fmt: skip

    readings = evidence["readings"]
    coolant = readings["metrics"]["coolant_temp_c"]
    assert coolant["unit"] == "°C"
    at, value = zip(*coolant["points"], strict=True)
    assert list(at) == sorted(at)
    assert readings["from"] <= at[0] < at[-1] < readings["to"]
    assert max(value) > 115
    assert value[-1] < 100, "before, during and after"
    assert readings["states"] == [[at[0], "running"]]
    # 15 min before, 30 min of it, and 5 min after at a reading each ten seconds, less the gap
    assert len(value) == pytest.approx(6 * 50 - 12, abs=2)


def test_the_readings_may_be_left_out(company: World) -> None:
    path = f"/api/v1/tickets/{ticket_of(company, 'gen-hot')}"
    with company.client("ops") as client:
        lean = client.get(path, params={"readings": "false"}).json()["evidence"]
        assert (lean["readings"], lean["completeness"]["missing"]) == (None, 12)
        assert client.get(path, params={"reading": "false"}).status_code == 422
        step = client.post(f"{path}/verify").json()["evidence"]
        assert (step["readings"], step["rule"]) == (None, "limits")


def test_a_customer_sees_what_happened_and_not_how_we_know(company: World) -> None:
    ticket_id = ticket_of(company, "gen-hot")
    with company.client("customer") as client:
        ticket = client.get(f"/api/v1/tickets/{ticket_id}").json()
        assert ticket["headline"].startswith("Coolant temperature above")
        assert ticket["evidence"] is None
        page = client.get(f"/tickets/{ticket_id}", headers={"accept": "text/html"}).text
    assert 'id="evidence"' in page
    assert 'id="why"' not in page
    with company.client("customer b") as client:
        assert client.get(f"/api/v1/tickets/{ticket_id}").status_code == 404


def test_what_is_not_copied_yet_says_so(company: World) -> None:
    ticket_id = company.ticket("gen-b", "limit", "oil_pressure_bar", evidence={"value": 1.0})
    with company.client("ops") as client:
        evidence = client.get(f"/api/v1/tickets/{ticket_id}").json()["evidence"]
        assert (evidence["readings"], evidence["completeness"], evidence["copies"]) == (None, None, [])
        assert (evidence["rule"], evidence["certainty"]) == (None, None)
        copy(company)
        copies = client.get(f"/api/v1/tickets/{ticket_id}").json()["evidence"]["copies"]
        assert [(one["phase"], one["status"]) for one in copies] == [("opening", "made"), ("after", "made")]


def test_a_damaged_copy_hides_nothing_else(company: World) -> None:
    ticket_id = company.ticket("gen-yard", "limit", "oil_pressure_bar", evidence={"value": 1.0})
    copy(company)
    c = schema.evidence_copy.c
    with company.database.begin() as connection:
        connection.execute(
            sa.update(schema.evidence_copy)
            .where(c.ticket_id == ticket_id, c.phase == "opening")
            .values(body=b"\x01no zlib")
        )
    with company.client("ops") as client:
        answer = client.get(f"/api/v1/tickets/{ticket_id}")
        assert answer.status_code == 200
        assert answer.json()["evidence"]["readings"] is not None
        assert client.get(f"/tickets/{ticket_id}", headers={"accept": "text/html"}).status_code == 200


def test_what_a_machine_says_takes_no_place_of_ours(company: World) -> None:
    evil = {"sentence": "<b>", "copies": "mine", "alternatives": 3, "rule": 7, "confidence": "sure", "text": "<i>x</i>"}
    ticket_id = company.ticket("gen-yard", "fault_code", "P1", evidence=evil)
    with company.client("ops") as client:
        evidence = client.get(f"/api/v1/tickets/{ticket_id}").json()["evidence"]
        assert evidence["copies"] == []
        assert (evidence["confidence"], evidence["text"]) == (None, "<i>x</i>")
        page = client.get(f"/tickets/{ticket_id}", headers={"accept": "text/html"})
        assert page.status_code == 200
        assert "<i>x</i>" not in page.text


def test_it_is_described(company: World) -> None:
    with company.client("ops") as client:
        shapes = client.get("/api/v1/openapi.json").json()["components"]["schemas"]
    evidence = shapes["EvidenceShape"]["properties"]
    assert {"rule", "version", "expected", "band", "completeness", "certainty", "alternatives", "readings"} <= set(
        evidence
    )
    assert all("description" in evidence[key] for key in ("rule", "confidence", "copies", "readings"))
    assert shapes["ReadingsShape"]["properties"].keys() >= {"from", "to", "metrics", "states", "events"}
    assert shapes["MetricShape"]["properties"]["points"]["items"]["minItems"] == 2


def test_a_whole_sites_ticket_shows_its_machines_one_by_one(company: World) -> None:
    began = company.began - 10 * MINUTE
    with company.at_once():
        ticket_id = company.insert(
            schema.ticket, device_id=None, site_id=2, kind="silent", subject="", severity="urgent", status="open",
            opened_at=began, occurred_at=began, recurrences=0, evidence={"scope": "site", "lost": 2, "live": 2},
            standard_version="test",
        )  # fmt: skip
        for device_id in ("lone-1", "lone-2"):
            company.machine(device_id)
            company.insert(
                schema.fault, device_id=device_id, kind="silent", subject="", severity="urgent", opened_at=began,
                occurred_at=began, evidence={"reason": "lost"}, ticket_id=ticket_id,
            )  # fmt: skip
    for device_id in ("lone-1", "lone-2"):
        company.measure(device_id, since=company.began - HOUR, until=began)
    copy(company)
    with company.client("ops") as client:
        evidence = client.get(f"/api/v1/tickets/{ticket_id}").json()["evidence"]
        page = client.get(f"/tickets/{ticket_id}", headers={"accept": "text/html"})
    assert [evidence["readings"]["device_id"], *(one["device_id"] for one in evidence["others"])] == [
        "lone-1",
        "lone-2",
    ]
    assert evidence["readings"]["metrics"]["coolant_temp_c"]["unit"] == "°C"
    assert evidence["alternatives"][0]["code"] in ("radio", "sim_or_network")
    assert page.status_code == 200
    assert 'class="plot"' in page.text
