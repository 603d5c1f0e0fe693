"""The checklist's page and an inspection's page, as a phone without scripts sends and reads them."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from monitor.fleet.inspection import Kind, What, shipped_checklists
from monitor.store import schema
from monitor.store.access import Role
from tests.api_world import World, furnish, world
from tests.inspecting import MEASURED

AT = 1_795_000_000_000
NAMES = {What.CHECK: "says", What.VALUE: "value", What.PHOTO: "photo"}
NEW = "/inspections/new?device_id=gen-yard&kind=hand_over"


@pytest.fixture
def company(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, at=AT) as company:
        furnish(company, readings=False)
        yield company


def signed_in(company: World, role: Role, person_id: int | None = None) -> httpx.Client:
    """The cookie is sent on by hand, because httpx keeps secure cookies from plain http."""
    with company.client() as first:
        answer = first.post("/sign-in", data={"secret": company.link(role, person_id)})
    client = company.client()
    client.headers["Cookie"] = answer.headers["set-cookie"].partition(";")[0]
    return client


@pytest.fixture
def tang(company: World) -> Iterator[httpx.Client]:
    """Signed in to the pages as Tang."""
    with signed_in(company, Role.TECHNICIAN, 1) as client:
        yield client


def form(**otherwise: str) -> dict[str, str]:
    """The form as it is sent when all is in order."""
    sent = {"device_id": "gen-yard", "kind": "hand_over", "rental_id": "", "note": "", "signature": "Tang"}
    for item in shipped_checklists().of("diesel_generator", Kind.HAND_OVER).items:
        name, value = {What.CHECK: ("says", "pass"), What.PHOTO: ("photo", "a.jpg"),
                       What.VALUE: ("value", f"{MEASURED.get(item.code, 1)}".replace(".", ","))}[item.what]  # fmt: skip
        sent[f"{name}.{item.code}"] = value
        if item.what is not What.PHOTO:
            sent |= {f"reason.{item.code}": "", f"photo.{item.code}": ""}
    return sent | otherwise


def test_the_checklist_asks_for_every_item(tang: httpx.Client) -> None:
    page = tang.get(NEW).text
    for item in shipped_checklists().of("diesel_generator", Kind.HAND_OVER).items:
        assert item.title in page
        assert f'name="{NAMES[item.what]}.{item.code}"' in page
    assert "12.4 \u2013 13.2 V" in page
    assert "<script>" not in page
    assert "style=" not in page
    assert tang.get("/inspections/new?device_id=no-such").status_code == 404
    assert tang.get("/inspections/new?device_id=gen-yard&kind=smell").status_code == 422


def test_what_is_signed_is_shown_with_its_verdict(tang: httpx.Client) -> None:
    odd = {"says.outside": "fail", "reason.outside": "<img src=x onerror=alert(1)>", "value.insulation_mohm": "0,4"}
    answer = tang.post("/inspections/new", data=form(**odd))
    assert (answer.status_code, answer.headers["location"]) == (303, "/inspections/1")
    page = tang.get("/inspections/1").text
    assert all(word in page for word in ("Not passed", "found by the inspector", "below what is allowed", "0.4 MΩ"))
    assert "&lt;img src=x" in page
    assert "<img src=x" not in page
    assert "未通过" in tang.get("/inspections/1?lang=zh").text
    machine = tang.get("/machines/gen-yard?lang=en").text
    assert 'href="/inspections/new?device_id=gen-yard"' in machine
    assert 'href="/inspections/1"' in machine
    assert tang.post("/inspections/1/void", data={"reason": ""}).status_code == 422
    assert tang.post("/inspections/1/void", data={"reason": "other machine"}).status_code == 303
    assert "other machine" in tang.get("/inspections/1").text
    assert 'href="/inspections/1"' not in tang.get("/machines/gen-yard").text
    assert "void" not in tang.get("/inspections/1").text.lower().replace("voided", "")


WRONG = [
    ({"signature": "Weber"}, "your own name"),
    ({"signature": ""}, "This is needed."),
    ({"value.output_v": "many"}, "This is needed."),
    ({"photo.photo_front": "a/b/c"}, "Give the name of a file"),
    ({"says.wings": "pass"}, "The checklist has changed"),
]


def test_what_cannot_be_taken_is_said_and_nothing_is_lost(tang: httpx.Client) -> None:
    for wrong, word in WRONG:
        answer = tang.post("/inspections/new", data=form(**{"reason.outside": "a dent, left", **wrong}))
        assert (answer.status_code, 'role="alert"' in answer.text, word in answer.text) == (422, True, True), wrong
        assert 'value="a dent, left"' in answer.text
        assert answer.text.count(" checked") >= 9
    answer = tang.post("/inspections/new", data=form(kind="return"))
    assert (answer.status_code, "is on hire to nobody" in answer.text) == (409, True)


def test_a_shared_account_is_told_before_it_fills_anything_in(company: World) -> None:
    with signed_in(company, Role.OPS) as shared:
        page = shared.get(NEW).text
        assert "sign in with your own account" in page
        assert "disabled" in page
        assert shared.post("/inspections/new", data=form()).status_code == 403
    with company.database.connect() as connection:
        assert connection.execute(schema.inspection.select()).all() == []
