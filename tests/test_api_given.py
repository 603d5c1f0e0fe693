"""What strangers can send, field by field as OpenAPI has it: no control character and no moment thousands of years off
gets past the shapes, and nothing that is asked for by a parameter is answered by a failure of ours."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from monitor.store import schema
from tests.api_world import World, furnish, world

NOW = 1_795_000_000_000
MOMENT = "2026-11-23T14:06:00Z"
FAR = "9999-12-31T23:59:59.999Z"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("given"), at=NOW) as company:
        furnish(company, readings=False)
        yield company


@pytest.fixture(scope="module")
def admin(company: World) -> Iterator[httpx.Client]:
    with company.client("admin") as client:
        yield client


@pytest.fixture(scope="module")
def openapi(admin: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = admin.get("/api/v1/openapi.json").json()
    return found


# --- the description, read as a caller reads it --------------------------------------------------------------------

Schema = dict[str, Any]


def resolved(openapi: Schema, told: Schema) -> Schema:
    """A schema without references, and of several the first that is not null."""
    while "$ref" in told or "anyOf" in told:
        if "anyOf" in told:
            told = next(one for one in told["anyOf"] if one.get("type") != "null")
        else:
            told = openapi["components"]["schemas"][told["$ref"].rpartition("/")[2]]
    return told


def is_moment(told: Schema) -> bool:
    return told.get("type") == "string" and told.get("examples", [""])[0][:2] == "20"


def example(openapi: Schema, told: Schema) -> Any:
    """The least that the shape takes."""
    told = resolved(openapi, told)
    if "enum" in told or "const" in told:
        return told.get("const", told.get("enum", [None])[0])
    if is_moment(told):
        return MOMENT
    if told["type"] == "object":
        return {name: example(openapi, told["properties"][name]) for name in told.get("required", [])}
    if told["type"] == "array":
        return [example(openapi, told["items"])] * told.get("minItems", 0)
    plain = {"string": "x", "integer": told.get("minimum", 1), "number": 1.0, "boolean": False}
    return plain[told["type"]]


def bodies(openapi: Schema, told: Schema, sent: Any, *, moments: bool) -> Iterator[tuple[str, Any]]:
    """The example of a shape with one text (or moment) in it replaced, for each that there is, and the field's name."""
    told = resolved(openapi, told)
    if told["type"] == "object":
        whole = example(openapi, told)
        for name, part in told.get("properties", {}).items():
            for field, value in bodies(openapi, part, sent, moments=moments):
                yield (field or name), {**whole, name: value}
    elif told["type"] == "array":
        yield from ((field, [value]) for field, value in bodies(openapi, told["items"], sent, moments=moments))
    elif told["type"] == "string" and "enum" not in told and "const" not in told and is_moment(told) is moments:
        yield "", sent


def operations(openapi: Schema) -> Iterator[tuple[str, str, Schema, dict[str, str]]]:
    """Method, path, operation, and values for what is in the path; a step once for each of its verbs."""
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            parts = {one["name"]: one["schema"] for one in operation.get("parameters", []) if one["in"] == "path"}
            fixed = {name: str(example(openapi, told)) for name, told in parts.items()}
            choices = [name for name, told in parts.items() if "enum" in resolved(openapi, told)]
            for value in resolved(openapi, parts[choices[0]])["enum"] if choices else [""]:
                yield method, path, operation, fixed | ({choices[0]: value} if choices else {})


def posts(openapi: Schema, sent: Any, *, moments: bool) -> Iterator[tuple[str, str, str, Any]]:
    """Method, address, field and body of every request with one text (or moment) replaced."""
    for method, path, operation, parts in operations(openapi):
        told = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if told:
            for field, body in bodies(openapi, told["schema"], sent, moments=moments):
                yield method, path.format(**parts), field, body


# --- texts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("char", ["\0", "\x1b", "\x7f", "\ud800"])
def test_no_text_of_a_request_has_control_characters(admin: httpx.Client, openapi: Schema, char: str) -> None:
    looked_at = set()
    for method, address, field, body in posts(openapi, f"a{char}b", moments=False):
        answer = admin.request(
            method, address, content=json.dumps(body), headers={"Content-Type": "application/json"}
        )  # fmt: skip
        assert answer.status_code == 422, (address, field, answer.text)
        assert {one["field"].split(".")[-1] for one in answer.json()["errors"]} <= {field, "0"}, (address, answer.text)
        looked_at.add(field)
    assert {"note", "text", "device_id", "title_zh", "name", "parts", "address", "profile", "access_notes"} <= looked_at


def test_line_breaks_are_for_texts_of_several_lines(admin: httpx.Client) -> None:
    two = "one\r\n\ttwo"
    note = admin.post("/api/v1/tickets/1/link", json={"note": two, "other_id": 2})
    assert (note.status_code, note.json()["steps"][-1]["note"]) == (200, two)
    reason = admin.post("/api/v1/people/1/absences", json={"from_at": NOW, "until_at": NOW + 1, "reason": two})
    assert reason.status_code == 422
    assert "body.reason: " in reason.json()["detail"]


def test_no_parameter_has_control_characters(admin: httpx.Client, openapi: Schema) -> None:
    asked = 0
    for method, path, operation, parts in operations(openapi):
        query = [one for one in operation.get("parameters", []) if one["in"] == "query"]
        needed = {one["name"]: example(openapi, one["schema"]) for one in query if one["required"]}
        for one in query:
            answer = admin.request(method, path.format(**parts), params={**needed, one["name"]: "a\0b"})
            assert answer.status_code == 422, (path, one["name"], answer.text)
            assert one["name"] in answer.json()["detail"]
            asked += 1
        for name in parts:
            answer = admin.request(method, path.format(**{**parts, name: "a%00b"}))
            assert answer.status_code == 404, (path, name, answer.text)
            asked += 1
    assert asked > 100


@pytest.mark.parametrize("key", ["a\0b", "\ud800"])
def test_a_cursor_is_no_way_in_either(admin: httpx.Client, key: str) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")
    assert admin.get("/api/v1/devices", params={"cursor": cursor}).status_code == 422


@pytest.mark.parametrize(
    ("address", "form"),
    [
        ("/tickets/1/verify", {"note": "a\0b"}),
        ("/tickets/1/resolve", {"parts": "a\0b"}),
        ("/tickets/1/pause", {"reason": "a\0b"}),
        ("/tickets/new", {"device_id": "a\0b", "text": "x"}),
        ("/tickets/new", {"device_id": "gen-a", "text": "a\0b"}),
        ("/tickets/new", {"device_id": "gen-a", "text": "x", "reported_by": "a\0b"}),
    ],
)
def test_nor_are_the_pages_forms(admin: httpx.Client, address: str, form: dict[str, str]) -> None:
    assert admin.post(address, data=form).status_code == 422


@pytest.mark.parametrize("address", ["/tickets?show=a%00", "/machines/a%00", "/machines/gen-a?metric=%00", "/c/a%0Ab"])
def test_nor_are_their_addresses(admin: httpx.Client, address: str) -> None:
    assert admin.get(address).status_code in (404, 422)


def test_a_parts_name_is_one_line_without_tabs(admin: httpx.Client) -> None:
    for verb in ("accept", "start-repair"):
        assert admin.post(f"/tickets/3/{verb}", data={"technician_id": "1"}).status_code == 303
    what = {"cause": "battery", "action": "repaired", "borne_by": "wear"}
    assert admin.post("/tickets/3/resolve", data={**what, "parts": "Filter\t2\r\n\r\nBelt"}).status_code == 303
    assert admin.get("/api/v1/tickets/3").json()["resolution"]["parts"] == ["Filter 2", "Belt"]


# --- moments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [FAR, "1999-12-31T23:59:59Z", "2100-01-01T00:00:00Z", str(10**14)])
def test_no_moment_that_is_kept_lies_far_off(admin: httpx.Client, openapi: Schema, moment: str) -> None:
    looked_at = set()
    for method, address, field, body in posts(openapi, moment, moments=True):
        answer = admin.request(method, address, json=body)
        assert answer.status_code == 422, (address, field, answer.text)
        assert [one["field"].split(".")[-1] for one in answer.json()["errors"]] == [field], (address, answer.text)
        looked_at.add(field)
    assert {"happened_at", "until_at", "occurred_at", "starts_at", "ends_at", "from_at", "since_at", "at"} <= looked_at


@pytest.mark.parametrize("moment", [FAR, "0", "9999-12-31T00:00:00Z", "2026-11-23T14:06:00Z"])
def test_whatever_moment_is_asked_about_is_answered(admin: httpx.Client, openapi: Schema, moment: str) -> None:
    asked = 0
    for method, path, operation, parts in operations(openapi):
        query = [one for one in operation.get("parameters", []) if one["in"] == "query"]
        needed = {one["name"]: example(openapi, one["schema"]) for one in query if one["required"]}
        for one in query:
            if is_moment(resolved(openapi, one["schema"])):
                answer = admin.request(method, path.format(**parts), params={**needed, one["name"]: moment})
                assert answer.status_code < 500, (path, one["name"], answer.text)
                asked += 1
    assert asked >= 7
    assert admin.get("/handover", params={"shift": moment}).status_code == 200


def test_plans_lie_within_ten_years(admin: httpx.Client) -> None:
    plan = {"from_at": NOW, "until_at": "2040-01-01T00:00:00Z"}
    refused = admin.post("/api/v1/people/1/absences", json=plan)
    assert (refused.status_code, "ten years" in refused.json()["detail"]) == (422, True)
    # What was lies further back.
    certificate = {"profile": "water_pump", "since_at": "2004-05-01T00:00:00Z"}
    assert admin.post("/api/v1/people/1/certificates", json={"certificates": [certificate]}).status_code == 200


def test_what_stands_in_the_record_all_the_same_is_shown(company: World, admin: httpx.Client) -> None:
    """Rows that were written before there were bounds, or by hand."""
    far = 253_402_300_799_999
    company.insert(
        schema.pause, ticket_id=2, turn=0, from_at=NOW, until_at=far, to_at=None, recorded_at=NOW, reason="parts",
        actor="x", stops_clocks=False,
    )  # fmt: skip
    company.insert(
        schema.step, ticket_id=2, event="verify", from_status="open", to_status="verified", happened_at=10**17,
        recorded_at=NOW, actor="token:x", note="", reason="",
    )  # fmt: skip
    rotation = {
        "timezone": "Europe/Berlin", "people": [1, 2], "handover_weekday": 0, "handover_minute": 480,
        "ends_at": None, "handed_over_at": NOW,
    }  # fmt: skip
    for n, (starts_at, shift_h) in enumerate(((far - 1000, 12), (far - 86_400_000 * 300, 8784), (10**17, 1))):
        company.insert(schema.rotation, name=f"far {n}", starts_at=starts_at, shift_h=shift_h, **rotation)
    company.insert(schema.rotation, name="lost", starts_at=NOW, shift_h=1, **rotation | {"timezone": "Mars/Olympus"})
    company.insert(schema.certificate, person_id=2, profile="diesel_generator", since_at=NOW - 1, until_at=far)
    for address in (
        "rotations", "rota", "rota?from=9999-12-30T00:00:00Z", "handover", "tickets/2", "tickets/2/proposal", "people/2"
    ):  # fmt: skip
        answer = admin.get(f"/api/v1/{address}")
        assert answer.status_code == 200, (address, answer.text)
    for address in ("/tickets/2", "/handover", "/tickets"):
        for lang in ("en", "zh"):
            assert admin.get(f"{address}?lang={lang}").status_code == 200, address
    company.api.desk.paging.tick(NOW + 1000)
    company.api.desk.shifts.tick(NOW + 1000)
