"""E2: every machine is inspected before every use, with a report; through the real server, in virtual time."""

# ruff: noqa: N802, N999 (the names begin with the row of the standard)
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypdf
import pytest
import sqlalchemy as sa

from monitor.store import schema
from tests.api_world import DAY, HOUR, MINUTE, World, furnish, world
from tests.inspecting import answers, inspect
from tests.standard.world import World as OfficeWorld

AT = 1_795_000_000_000


@pytest.fixture
def company(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, at=AT) as company:
        furnish(company, readings=False)
        yield company


def text_of(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages)


def audited(company: World) -> list[tuple[str, str, str]]:
    a = schema.audit.c
    with company.database.connect() as connection:
        rows = connection.execute(sa.select(a.what, a.subject, a.actor).where(a.subject.like("inspection:%")))
        return [tuple(row) for row in rows]


def test_E2_the_checklist_is_the_models_and_judges_by_its_limits(company: World) -> None:
    with company.client("technician") as tang:
        listed = tang.get("/api/v1/checklists/diesel_generator/hand_over").json()
        assert {"emergency_stop", "insulation_mohm"} <= {item["code"] for item in listed["items"]}
        assert tang.get("/api/v1/checklists/no_such/hand_over").status_code == 404
        good = inspect(tang, "gen-yard")
        assert (good.status_code, good.json()["passed"], good.json()["fails"]) == (201, True, [])
        # The inspector calls it good; the limit does not.
        low = answers("diesel_generator", "hand_over", insulation_mohm={"value": 0.4, "says": "pass"}, guards=None)
        bad = inspect(tang, "gen-yard", items=low).json()
        assert (bad["passed"], bad["fails"]) == (False, ["guards", "insulation_mohm"])
        found = {item["code"]: item for item in bad["items"]}
        assert (found["insulation_mohm"]["why"], found["insulation_mohm"]["low"]) == ("too_low", 1.0)
        assert found["guards"]["why"] == "missing"
        listed = tang.get("/api/v1/inspections?device_id=gen-yard").json()["items"]
        assert [(one["id"], one["passed"]) for one in listed] == [(bad["id"], False), (good.json()["id"], True)]
        assert tang.get("/api/v1/inspections?device_id=gen-yard&kind=return").json()["items"] == []
        assert good.headers["Location"] == f"/api/v1/inspections/{good.json()['id']}"


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"signature": "Weber"}, 422, "your own name"),
    ({"signature": " "}, 422, "signature"),
    ({"device_id": "no-such"}, 404, "machine"),
    ({"items": [{"code": "wings", "says": "pass"}]}, 422, "wings"),
    ({"items": [{"code": "outside", "says": "pass"}] * 2}, 422, "twice"),
    ({"items": [{"code": "photo_front", "photo": "../../x"}]}, 422, "name of a file"),
    ({"items": [{"code": "output_v", "value": 1e300}]}, 422, "value"),
    ({"items": [{"code": "output_v", "volts": 3}]}, 422, "volts"),
    ({"items": [{"code": "x"}] * 201}, 422, "items"),
    ({"at": AT - 2 * DAY}, 422, "within 24 h"),
    ({"at": AT + HOUR}, 422, "within 24 h"),
    ({"rental_id": 1}, 422, "no rental of gen-yard"),
    ({"kind": "return"}, 409, "on hire to nobody"),
    ({"kind": "spot_check"}, 409, "not on hire"),
    ({"passed": True}, 422, "passed"),
]


def test_E2_what_cannot_be_signed(company: World) -> None:
    given = {"kind": "hand_over", "device_id": "gen-yard", "signature": "Tang", "items": []}
    with company.client("technician") as tang:
        for said, status, word in REFUSED:
            refused = tang.post("/api/v1/inspections", json=given | said)
            assert (refused.status_code, word in refused.json()["detail"]) == (status, True), (said, refused.text)
        assert tang.get("/api/v1/inspections").json()["items"] == []


def test_E2_only_a_certified_person_signs_and_by_their_own_account(company: World) -> None:
    with company.client("ops") as shared:
        refused = inspect(shared, "gen-yard", signature="the ops")
        assert (refused.status_code, "own account" in refused.json()["detail"]) == (403, True)
    # From the first certificate on the company keeps them: Tang has none for generators.
    tang = {"person_id": 1, "since_at": AT - DAY}
    company.insert(schema.certificate, profile="water_pump", until_at=None, **tang)
    with company.client("technician") as client:
        refused = inspect(client, "gen-yard")
        assert (refused.status_code, "(P1)" in refused.json()["detail"]) == (422, True)
        assert inspect(client, "gen-mute", profile="water_pump").status_code == 201
        company.insert(schema.certificate, profile="diesel_generator", until_at=AT + DAY, **tang)
        assert inspect(client, "gen-yard", signature="  TANG ").status_code == 201
        company.at = AT + DAY
        assert inspect(client, "gen-yard").status_code == 422
    with company.client("customer") as customer:
        assert customer.get("/api/v1/inspections").status_code == 403


def test_E2_a_wrong_inspection_is_voided_and_stays(company: World) -> None:
    with company.client("technician") as tang, company.client("other technician") as weber:
        first = inspect(tang, "gen-yard").json()["id"]
        address = f"/api/v1/inspections/{first}/void"
        assert weber.post(address, json={"reason": "not mine"}).status_code == 403
        assert tang.post(address, json={"reason": ""}).status_code == 422
        assert tang.post(address, json={}).status_code == 422
        company.at = AT + MINUTE
        voided = tang.post(address, json={"reason": "the wrong machine"}).json()
        assert (voided["voided_at"] is not None, voided["void_reason"]) == (True, "the wrong machine")
        assert tang.post(address, json={"reason": "again"}).status_code == 409
        assert tang.get(f"/api/v1/inspections/{first}").json()["passed"] is True
        second = inspect(tang, "gen-yard").json()["id"]
    with company.client("ops") as ops:
        assert ops.post(f"/api/v1/inspections/{second}/void", json={"reason": "x"}).status_code == 200
        assert ops.post("/api/v1/inspections/999/void", json={"reason": "x"}).status_code == 404
    assert [what for what, _, _ in audited(company)] == [
        "inspection_signed", "inspection_voided", "inspection_signed", "inspection_voided",
    ]  # fmt: skip


def test_E2_nobody_changes_what_was_signed(tmp_path: Path) -> None:
    """The database itself refuses it."""
    office = OfficeWorld(tmp_path / "home")
    person_id = office.person("Tian", "technician")
    office.machine("m1", on_hire=False)
    signed = {"kind": "hand_over", "device_id": "m1", "checklist_version": "1", "items": [], "passed": False,
              "inspector_id": person_id, "signature": "Tian", "signed_at": 5, "at": 5, "recorded_at": 5}  # fmt: skip
    i = schema.inspection
    with office.database.begin() as connection:
        connection.execute(sa.insert(i).values(**signed))
    for statement in (
        sa.update(i).values(passed=True), sa.update(i).values(items=[{}]), sa.update(i).values(at=4), sa.delete(i),
        sa.update(i).values(voided_at=6), sa.insert(i).values(**{**signed, "at": 6}),
    ):  # fmt: skip
        with pytest.raises(sa.exc.IntegrityError), office.database.begin() as connection:
            connection.execute(statement)
    with office.database.begin() as connection:
        connection.execute(sa.update(i).values(voided_at=6, voided_by="person:1", void_reason="wrong"))
    with pytest.raises(sa.exc.IntegrityError), office.database.begin() as connection:
        connection.execute(sa.update(i).values(voided_at=None, voided_by="", void_reason=""))
    office.close()


TOLD = {
    "en": ["Inspection for hand-over 1, gen-yard", "Not passed", "Insulation of the windings at 500 V",
           "0.4 MΩ (≥ 1 MΩ)", "below what is allowed", "Inspector Tang", "1 / 2", "door <b>bent</b> 左门凹陷"],
    "zh": ["交付前检查 1", "未通过", "绕组绝缘电阻", "低于允许范围", "检查人 Tang", "柴油发电机组", "左门凹陷",
           "检查人以本人账号签字"],
}  # fmt: skip


def test_E2_the_report_is_a_paper_in_the_readers_language(company: World) -> None:
    items = answers("diesel_generator", "hand_over", insulation_mohm={"value": 0.4},
                    outside={"says": "fail", "reason": "door <b>bent</b> 左门凹陷"})  # fmt: skip
    with company.client("technician") as tang:
        assert inspect(tang, "gen-yard", items=items).json()["id"] == 1
        papers = {lang: tang.get(f"/api/v1/inspections/1.pdf?lang={lang}") for lang in TOLD}
        for lang, paper in papers.items():
            assert (paper.status_code, paper.headers["content-type"]) == (200, "application/pdf")
            told = text_of(paper.content)
            assert [word for word in TOLD[lang] if word not in told] == [], told
        assert papers["en"].headers["content-disposition"] == 'inline; filename="inspection-1.pdf"'
        company.at = AT + DAY
        assert tang.get("/api/v1/inspections/1.pdf", headers={"Accept-Language": "en"}).content == papers["en"].content
        assert tang.get("/api/v1/inspections/999.pdf").status_code == 404


def test_E2_a_return_is_compared_with_the_hand_over(company: World) -> None:
    with company.client("ops") as ops, company.client("technician") as tang:
        customer = {"customer_id": 1, "device_id": "gen-yard"}
        rental_id = ops.post("/api/v1/rentals", json=customer).json()["id"]
        out = answers("diesel_generator", "hand_over", extinguisher={"says": "fail"})
        assert inspect(tang, "gen-yard", items=out, rental_id=rental_id).json()["comparison"] is None
        company.at = AT + DAY
        ended = ops.post(f"/api/v1/rentals/{rental_id}/return").json()
        assert ended["rental"]["ends_at"] == ended["rental"]["returned_at"] is not None
        (due,) = ops.get("/api/v1/inspections/due").json()["items"]
        assert (due["rental_id"], due["device_id"], due["due_at"]) == (rental_id, "gen-yard",
                                                                       ended["inspection_due_at"])  # fmt: skip
        company.at = AT + DAY + HOUR
        back = answers("diesel_generator", "return", extinguisher={"says": "fail"}, outside={"says": "fail"},
                       earth_ohm={"value": 0.5}, fuel_pct={"value": 20})  # fmt: skip
        found = inspect(tang, "gen-yard", "return", items=back).json()
        assert (found["rental_id"], found["damage"]) == (rental_id, ["outside", "earth_ohm"])
        courses = {one["code"]: (one["course"], one["difference"]) for one in found["comparison"]}
        assert courses["extinguisher"] == ("faulty_before", None)
        assert courses["fuel_pct"] == ("changed", -68)
        assert courses["earth_ohm"] == ("damage", 0.38)
        assert courses["guards"] == ("same", None)
        assert ops.get("/api/v1/inspections/due").json()["items"] == []
        told = text_of(tang.get(f"/api/v1/inspections/{found['id']}.pdf?lang=en").content)
        assert "damage (+0.38 Ω)" in told
        # Voided, it is due again.
        ops.post(f"/api/v1/inspections/{found['id']}/void", json={"reason": "x"})
        assert len(ops.get("/api/v1/inspections/due").json()["items"]) == 1
