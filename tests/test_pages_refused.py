"""Forms that are refused, over HTTP: what was typed is there again, and the refusal beside its field, in the reader's
language."""

import html
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.pages.refilling import Refusal, refilled
from api.pages.refused import in_words
from api.words import words_in
from monitor.store import schema
from monitor.store.access import Role
from tests.api_world import DAY, World, furnish, world
from tests.test_pages_tickets import signed_in

NOW = 1_795_000_000_000
TANG, WEBER, OLGA = 1, 2, 3


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("refused"), at=NOW) as company:
        furnish(company, readings=False)
        with company.at_once():
            company.machine("own-1")
            company.ticket("own-1", "limit", "coolant_temp_c", status="repairing", technician_id=TANG,
                           rental_id=company.hire("own-1", 1, NOW - DAY))  # fmt: skip
        yield company


@pytest.fixture(scope="module")
def ops(company: World) -> Iterator[httpx.Client]:
    with signed_in(company, Role.OPS, OLGA) as client:
        yield client


@pytest.fixture(scope="module")
def tang(company: World) -> Iterator[httpx.Client]:
    with signed_in(company, Role.TECHNICIAN, TANG) as client:
        yield client


def refused(client: httpx.Client, path: str, status: int = 422, **fields: object) -> str:
    """What a Chinese reader is shown: no English in it."""
    data = {name.replace("__", "."): value for name, value in fields.items()}
    cookie = "; ".join(filter(None, (client.headers.get("cookie"), "fettle_lang=zh")))
    answer = client.post(path, data=data, headers={"Cookie": cookie})  # type: ignore[arg-type]
    assert answer.status_code == status, answer.text
    alert = answer.text[answer.text.index('class="refusal" role="alert"') :].partition("</p>")[0]
    assert 'lang="en"' not in alert, alert
    assert re.search("[一-鿿]", alert)
    return html.unescape(answer.text)


def field(text: str, action: str, name: str) -> str:
    """A field of a form with what stands beside it."""
    form = text[text.index(f'action="{action}"') :].partition("</form>")[0]
    return form[form.index(f'name="{name}"') :].partition("</label>")[0]


def folds(text: str, action: str) -> list[str]:
    """The folds that a form lies in, as their tags."""
    found: list[str] = []
    for tag in re.findall(r"<details[^>]*>|</details>", text[: text.index(f'action="{action}"')]):
        found = found[:-1] if tag == "</details>" else [*found, tag]
    return found


# --- the form again ------------------------------------------------------------------------------------------------

PAGE = """<p class="refusal" role="alert">No.</p>
<details class="step"><summary>a</summary><form method="post" action="/a" data-edits>
<input type="hidden" name="seen" value="new"><input type="hidden" name="n" value="1">
<label>Name <input name="name" value="kept" required></label>
<label><input type="checkbox" name="on" value="true" checked> On</label>
<fieldset><legend>Which</legend><label><input type="radio" name="one" value="x"> X</label>
<label><input type="radio" name="one" value="y"> Y</label></fieldset>
<label>Zone <select name="zone"><option value="">-</option><option selected>A &amp; B</option><option>C</option>
</select></label>
<label>Turn <select name="turn"><option>1</option><option>2</option></select></label>
<label>Turn <select name="turn"><option>1</option><option>2</option></select></label>
<label>Words <textarea name="text">old</textarea></label>
<input type="password" name="secret">
</form></details>
<form method="post" action="/a"><input type="hidden" name="n" value="2"><input name="name" value="other"></form>"""


def test_a_form_is_filled_in_as_it_was_sent() -> None:
    sent = {"n": ["1"], "seen": ["old"], "name": ['<"&'], "one": ["y"], "zone": ["C"], "turn": ["2", "1"],
            "text": ["a\r\n</textarea>"], "secret": ["s3"]}  # fmt: skip
    shown = refilled(PAGE, "/a", sent, Refusal("Not like that.", "name"))
    assert '<details class="step" open>' in shown
    assert '<input type="hidden" name="seen" value="old">' in shown, "they decide by what they had read"
    assert 'name="name" value="&lt;&quot;&amp;" required id="refused" aria-invalid="true"><small' in shown
    assert '<small class="wrong">Not like that.</small></label>' in shown
    assert 'No. <a class="tap" href="#refused">Name</a></p>' in shown
    assert '<input type="checkbox" name="on" value="true"> On' in shown
    assert '<input type="radio" name="one" value="y" checked>' in shown
    assert "<option>A &amp; B</option><option selected>C</option>" in shown
    assert shown.index("<option selected>2") < shown.index("<option selected>1")
    assert "\na\n&lt;/textarea&gt;</textarea>" in shown
    assert "s3" not in shown
    assert '<input name="name" value="other">' in shown, "another form of the same address stays as it was"


def test_what_somebody_else_wrote_stands_beside_what_was_typed() -> None:
    sent = {"n": ["1"], "seen": ["old"], "name": ["mine"], "zone": ["C"], "text": ["old"], "turn": ["1", "1"]}
    shown = refilled(PAGE, "/a", sent, Refusal("", stale=True, newer="Now: %(now)s", yes="yes", no="no"))
    assert re.findall(r'<small class="newer">([^<]*)</small>', shown) == ["Now: kept", "Now: yes", "Now: A &amp; B"]
    assert '<input type="hidden" name="seen" value="new">' in shown, "who is shown it has seen it"


def test_words_of_a_form_that_is_gone_are_not_lost() -> None:
    shown = refilled(PAGE, "/gone", {"note": ["what I <saw>"]}, Refusal("", wrote="You wrote:"))
    assert "You wrote:</p><blockquote" in shown
    assert "what I &lt;saw&gt;" in shown
    assert refilled("<p>no form</p>", "/gone", {"note": ["x"]}, Refusal("no")) == "<p>no form</p>"


def test_a_refusal_that_nobody_translated_is_shown_all_the_same() -> None:
    assert in_words("something: new happened", words_in("zh", "UTC")).known is False
    found = in_words("ends_at: must lie after starts_at", words_in("zh", "UTC"))
    assert (found.field, found.known) == ("ends_at", True)


# --- page by page --------------------------------------------------------------------------------------------------


def test_a_resolution_is_shown_again(ops: httpx.Client) -> None:
    text = refused(ops, "/tickets/4/resolve", cause="coolant", action="", borne_by="wear", parts="Hose\r\nClamp",
                   outcome="wrong_cause", note="took an hour")  # fmt: skip
    assert "took an hour" in field(text, "/tickets/4/resolve", "note")
    assert "Hose\nClamp" in field(text, "/tickets/4/resolve", "parts")
    assert '<option value="wrong_cause" selected>' in field(text, "/tickets/4/resolve", "outcome")
    assert '<small class="wrong">' in field(text, "/tickets/4/resolve", "cause")


@pytest.mark.parametrize(
    ("verb", "fields", "wrong"),
    [
        ("pause", {"reason": "no_access", "note": "the gate is shut"}, "wait_h"),
        ("pause", {"reason": "parts", "until": "2020-01-01T10:00", "note": "the gate is shut"}, "until"),
        ("pause", {"reason": "parts", "until": "no time", "note": "the gate is shut"}, "until"),
        ("merge", {"other_id": "0", "note": "the gate is shut"}, "other_id"),
        ("merge", {"other_id": "x", "note": "the gate is shut"}, "other_id"),
        ("cancel", {"reason": "no_such", "note": "the gate is shut"}, "reason"),
    ],
)
def test_a_step_is_shown_again(ops: httpx.Client, verb: str, fields: dict[str, str], wrong: str) -> None:
    text = refused(ops, f"/tickets/4/{verb}", **fields)
    assert 'value="the gate is shut"' in field(text, f"/tickets/4/{verb}", "note")
    assert '<small class="wrong">' in field(text, f"/tickets/4/{verb}", wrong)
    assert [" open" in one for one in folds(text, f"/tickets/4/{verb}")] == [True, True]


def test_a_diagnosis_and_a_step_that_is_not_possible_any_more(ops: httpx.Client) -> None:
    assert '<small class="wrong">' in field(refused(ops, "/tickets/4/verify", note=" "), "/tickets/4/verify", "note")
    gone = refused(ops, "/tickets/4/accept", 409, note="I go, \nand take a hose", technician_id="1")
    assert "I go, \nand take a hose</blockquote>" in gone


def test_a_new_ticket_and_the_dispatch_are_shown_again(ops: httpx.Client) -> None:
    text = refused(ops, "/tickets/new", device_id="no-such", text="it\r\nsmokes", stopped="true", origin="office")
    assert '<small class="wrong">' in field(text, "/tickets/new", "device_id")
    assert "it\nsmokes" in field(text, "/tickets/new", "text")
    assert "checked" in field(text, "/tickets/new", "stopped")
    sent = refused(ops, "/tickets/1/dispatch", visit="2020-01-01T10:00", note="by the north gate", technician_id="1")
    assert '<small class="wrong">' in field(sent, "/tickets/1/dispatch", "visit")
    assert 'value="by the north gate"' in field(sent, "/tickets/1/dispatch", "note")


@pytest.mark.parametrize(
    ("part", "fields", "wrong", "kept"),
    [
        ("contacts", {"channel__0": "email", "address__0": "a@example.com", "channel__1": "sms", "address__1": "12"},
         "address.1", 'value="12"'),
        ("contacts", {"channel__0": "email", "address__0": "a@example.com", "from__0": "25:00"}, "from.0", "25:00"),
        ("hours", {"from__2__0": "08:00", "until__2__0": "12:00", "from__2__1": "13:00", "until__2__1": ""},
         "until.2.1", "星期三第 2 行"),
        ("hours", {"from__6__0": "", "until__6__0": "12:00"}, "from.6.0", "星期日第 1 行"),
        ("home", {"lat_deg": "52.5", "lon_deg": "", "timezone": "Europe/Paris"}, "lat_deg", 'value="52.5"'),
        ("absences", {"from": "2026-12-02", "until": "2026-12-01", "reason": "leave"}, "until", "2026-12-01"),
        ("certificates", {"model": "water_pump", "until.water_pump": "never"}, "until.water_pump", "never"),
    ],
)  # fmt: skip
def test_people(ops: httpx.Client, part: str, fields: dict[str, str], wrong: str, kept: str) -> None:
    path = f"/settings/people/{WEBER}/{part}"
    text = refused(ops, path, **fields)
    beside = field(text, path, wrong)
    assert '<small class="wrong">' in beside
    assert kept in beside
    assert folds(text, path) == ['<details class="step" open>']
    for name, value in fields.items():
        assert name == "model" or value in field(text, path, name.replace("__", ".")), name


def test_empty_lines_of_working_hours_are_none(ops: httpx.Client) -> None:
    path = f"/settings/people/{WEBER}/hours"
    fields = {"from.0.0": "08:00", "until.0.0": "17:00", "from.0.1": "", "until.0.1": "", "from.3.0": ""}
    assert ops.post(path, data=fields).status_code == 303
    assert len(ops.get(f"/api/v1/people/{WEBER}").json()["hours"]) == 1


def test_sites_rotations_customers_and_rentals(ops: httpx.Client) -> None:
    text = refused(
        ops, "/settings/sites/1", timezone="Europe/Berlin", remote="true", lat_deg="1", access_notes="a\r\nb"
    )
    assert "a\nb" in field(text, "/settings/sites/1", "access_notes")
    assert '<small class="wrong">' in field(text, "/settings/sites/1", "lat_deg")
    turns = [str(OLGA), str(TANG), ""]
    text = refused(ops, "/settings/rotations", name="Nights", person=turns, shift_h="24", handover="08:00",
                   starts_at="tomorrow", timezone="Europe/Paris")  # fmt: skip
    assert 'value="Nights"' in field(text, "/settings/rotations", "name")
    assert '<small class="wrong">' in field(text, "/settings/rotations", "starts_at")
    assert re.findall(r'<option value="(\d)" selected>', text[text.index('class="turns"') :]) == ["3", "1"]
    text = refused(ops, "/settings/customers", name="Nord", email="nord", lang="en")
    assert '<small class="wrong">' in field(text, "/settings/customers", "email")
    text = refused(ops, "/settings/customers/1/contracts", number="2026/1", signed="yesterday")
    assert 'value="2026/1"' in field(text, "/settings/customers/1/contracts", "number")
    text = refused(ops, "/rentals/new", 409, device_id="gen-a", customer_id="1", starts_at="2026-11-18T14:00")
    assert '<small class="wrong">' in field(text, "/rentals/new", "device_id")
    text = refused(ops, "/rentals/1/end", at="some day")
    assert 'value="some day"' in field(text, "/rentals/1/end", "at")


def test_maintenance(company: World, ops: httpx.Client) -> None:
    company.api.desk.upkeep.tick(NOW)
    order = ops.post("/api/v1/maintenance", json={"device_id": "gen-yard", "plan": "service"}).json()
    path = f"/maintenance/{order['id']}"
    codes = [one["code"] for one in order["checklist"]]
    fields = {f"result.{code}": "ok" for code in codes} | {f"result.{codes[1]}": "not_ok", "meter_hours": "12,5"}
    text = refused(ops, f"{path}/done", **fields, note="a\r\nb")
    assert '<small class="wrong">' in field(text, f"{path}/done", f"note.{codes[1]}")
    assert 'value="12,5"' in field(text, f"{path}/done", "meter_hours")
    assert "a\nb" in field(text, f"{path}/done", "note")
    assert "many" in field(refused(ops, f"{path}/done", **fields | {"meter_hours": "many"}), f"{path}/done",
                           "meter_hours")  # fmt: skip
    text = refused(ops, f"{path}/cancel", reason="")
    assert '<small class="wrong">' in field(text, f"{path}/cancel", "reason")
    refused(ops, f"{path}/assign", assignee_id="999")


def test_an_inspection(tang: httpx.Client) -> None:
    fields = {"device_id": "gen-yard", "kind": "hand_over", "signature": "Tang", "value.fuel_pct": "half",
              "note": "cold", "says.outside": "fail", "reason.outside": "a dent"}  # fmt: skip
    text = refused(tang, "/inspections/new", **fields)
    assert 'value="Tang"' in field(text, "/inspections/new", "signature")
    assert 'value="a dent"' in field(text, "/inspections/new", "reason.outside")
    assert 'value="fail" required checked' in field(text, "/inspections/new", "says.outside") or "checked" in text
    assert '<small class="wrong">' in text


def test_the_phone(tang: httpx.Client) -> None:
    text = refused(tang, "/job/4/resolve", cause="coolant", action="", borne_by="wear", parts_said="some",
                   parts="Hose", note="hot")  # fmt: skip
    assert "Hose" in field(text, "/job/4/resolve", "parts")
    assert re.search(r'value="wear"[^>]* checked', text)
    assert 'value="hot"' in field(text, "/job/4/resolve", "note")
    long = refused(tang, "/job/4/resolve", cause="coolant", action="", borne_by="wear", parts_said="some",
                   parts="x" * 121)  # fmt: skip
    assert '<small class="wrong">' in field(long, "/job/4/resolve", "parts")


def test_customers(company: World) -> None:
    with signed_in(company, Role.CUSTOMER, 4) as anna:
        text = refused(anna, "/mine", device_id="gen-a", text=" ", name="Anna", phone="555", stopped="true")
        assert 'value="Anna"' in field(text, "/mine", "name")
        assert "checked" in field(text, "/mine", "stopped")
        assert '<small class="wrong">' in field(text, "/mine", "text")
        refused(anna, "/mine", device_id="gen-a", text="x" * 4001)


# --- two at once ---------------------------------------------------------------------------------------------------


def seen(text: str, action: str) -> dict[str, str]:
    """The hidden fields by which a form says what was read."""
    form = text[text.index(f'action="{action}"') :].partition("</form>")[0]
    return dict(re.findall(r'type="hidden" name="(seen|read_at)" value="([^"]*)"', form))


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, at=NOW) as company:
        furnish(company, readings=False)
        yield company


def test_two_dispatchers_do_not_overwrite_each_other(fresh: World) -> None:
    with signed_in(fresh, Role.OPS, OLGA) as ops:
        read = seen(ops.get("/tickets/1").text, "/tickets/1/verify")
        asked = seen(ops.get("/tickets/1/dispatch").text, "/tickets/1/dispatch")
        fresh.at = NOW + 1000
        ops.post("/api/v1/tickets/1/dispatch", json={"technician_id": WEBER})
        sent = refused(ops, "/tickets/1/dispatch", 412, technician_id=str(TANG), note="by the north gate", **asked)
        assert "Weber" in sent.partition('class="refusal" role="alert"')[2].partition("</p>")[0]
        assert ops.get("/api/v1/tickets/1").json()["technician_id"] == WEBER
        text = refused(ops, "/tickets/1/cancel", 412, reason="ordinary_operation", note="it was a drill", **read)
        assert 'value="it was a drill"' in field(text, "/tickets/1/cancel", "note")
        assert "newer" not in text, "a note is no change of what is kept"
        again = seen(text, "/tickets/1/cancel")
        assert again != read, "they have seen it now"
        answer = ops.post("/tickets/1/cancel", data={"reason": "ordinary_operation", **again})
        assert (answer.status_code, answer.headers["location"]) == (303, "/tickets/1")


def test_a_form_that_lacks_something_still_says_what_was_read(fresh: World) -> None:
    with signed_in(fresh, Role.OPS, OLGA) as ops:
        read = seen(ops.get("/tickets/1").text, "/tickets/1/pause")
        ops.post("/api/v1/tickets/1/verify", json={"note": "hot"})
        text = refused(ops, "/tickets/1/pause", reason="parts", until="no time", **read)
        assert seen(text, "/tickets/1/pause") == read
        assert ops.post("/tickets/1/pause", data={"reason": "parts", **read}).status_code == 412


def test_a_work_order_is_not_overwritten(fresh: World) -> None:
    fresh.api.desk.upkeep.tick(NOW)
    with signed_in(fresh, Role.OPS, OLGA) as ops:
        order = ops.post("/api/v1/maintenance", json={"device_id": "gen-yard", "plan": "service"}).json()
        path = f"/maintenance/{order['id']}"
        read = seen(ops.get(path).text, f"{path}/assign")
        ops.post(f"/api/v1{path}/assign", json={"assignee_id": WEBER})
        text = refused(ops, f"{path}/assign", 412, assignee_id=str(TANG), **read)
        assert "Weber" in text.partition('role="alert"')[2].partition("</p>")[0]
        assert f'<option value="{TANG}" selected>' in field(text, f"{path}/assign", "assignee_id")
        assert ops.get(f"/api/v1{path}").json()["assignee_id"] == WEBER
        refused(ops, f"{path}/cancel", 412, reason="sold", **read)
        refused(ops, f"{path}/done", 412, note="x", **read)
        assert ops.post(f"{path}/assign", data={"assignee_id": "1", **seen(text, f"{path}/assign")}).status_code == 303


def test_what_is_kept_of_a_person_stands_beside_what_was_typed(fresh: World) -> None:
    with signed_in(fresh, Role.OPS, OLGA) as ops:
        path = f"/settings/people/{WEBER}"
        read = seen(ops.get(path).text, f"{path}/home")
        ops.post(f"/api/v1/people/{WEBER}/home", json={"lat_deg": 52.5, "lon_deg": 13.4})
        text = refused(ops, f"{path}/home", 412, lat_deg="48.1", lon_deg="13.4", **read)
        beside = field(text, f"{path}/home", "lat_deg")
        assert 'value="48.1"' in beside
        assert "52.5</small>" in beside
        assert "newer" not in field(text, f"{path}/home", "lon_deg")


def test_rotations_are_changed_as_they_were_read(fresh: World) -> None:
    with signed_in(fresh, Role.OPS, OLGA) as ops:
        made = {"name": "Nights", "people": [TANG, WEBER], "shift_h": 24, "starts_at": NOW - DAY}
        assert ops.post("/api/v1/rotations", json=made).status_code == 201
        first = ops.get("/api/v1/rotations/1")
        assert first.headers["ETag"].strip('"') == first.json()["tag"]
        text = ops.get("/settings/rotations").text
        spell = {"person_id": OLGA, "from_at": NOW + DAY, "until_at": NOW + 2 * DAY}
        match = {"If-Match": first.headers["ETag"]}
        assert ops.post("/api/v1/rotations/1/overrides", json=spell, headers=match).status_code == 201
        assert ops.post("/api/v1/rotations/1/overrides", json=spell, headers=match).status_code == 412
        assert ops.post("/api/v1/rotations/1/overrides/1/remove", headers=match).status_code == 412
        assert ops.post("/api/v1/rotations/1/end", headers=match).status_code == 412
        action = "/settings/rotations/1/overrides"
        shown = refused(ops, action, 412, person_id=str(WEBER), until="2026-11-21T08:00",
                        **{"from": "2026-11-20T08:00"}, **seen(text, action))  # fmt: skip
        assert 'value="2026-11-21T08:00"' in field(shown, action, "until")
        assert len(ops.get("/api/v1/rotations/1").json()["overrides"]) == 1
        assert ops.post("/settings/rotations/1/end", data=seen(text, "/settings/rotations/1/end")).status_code == 412
        again = seen(shown, action)
        assert ops.post("/settings/rotations/1/end", data=again).status_code == 303


def test_a_shift_that_is_handed_over_changes_no_rotation(fresh: World) -> None:
    with signed_in(fresh, Role.OPS, OLGA) as ops:
        made = {"name": "Nights", "people": [TANG, WEBER], "shift_h": 24, "starts_at": NOW - DAY}
        ops.post("/api/v1/rotations", json=made)
        before = ops.get("/api/v1/rotations/1").json()["tag"]
        with fresh.database.begin() as connection:
            connection.execute(schema.rotation.update().values(handed_over_at=NOW))
        assert ops.get("/api/v1/rotations/1").json()["tag"] == before
