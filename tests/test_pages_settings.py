"""Settings, rentals, rejected messages, reliability: forms that need no scripts, through the real server."""

import html
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
import sqlalchemy as sa

from api.pages.filling import Form, clock_of, date_input, local_input
from api.problems import Problem
from monitor.devices import Severity
from monitor.notify.message import Bounced, Message, Undelivered
from monitor.notify.outbox import Outbox
from monitor.store import schema
from monitor.store.access import Role
from tests.api_world import DAY, HOUR, MINUTE, World, furnish, world

NOW = 1_795_000_000_000
TANG, WEBER, OLGA = 1, 2, 3


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """For all that leaves the others alone."""
    with world(tmp_path_factory.mktemp("settings"), at=NOW) as company:
        furnish(company, readings=False)
        yield company


@pytest.fixture(scope="module")
def ops(company: World) -> Iterator[httpx.Client]:
    with olga(company) as client:
        yield client


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[World]:
    """A company of its own, whose clock the test sets."""
    with world(tmp_path, at=NOW) as company:
        furnish(company, readings=False)
        yield company


@contextmanager
def olga(company: World) -> Iterator[httpx.Client]:
    """Olga of operations, signed in to an account of her own."""
    with company.client() as client:
        answer = client.post("/sign-in", data={"secret": company.link(Role.OPS, OLGA)})
        # By hand: httpx keeps secure cookies from plain http.
        client.headers["Cookie"] = answer.headers["set-cookie"].partition(";")[0]
        yield client


def page(client: httpx.Client, path: str) -> str:
    answer = client.get(path, headers={"Accept-Language": "en"})
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


def send(client: httpx.Client, path: str, status: int = 303, **fields: object) -> str:
    data = {name.replace("__", "."): value for name, value in fields.items()}
    answer = client.post(path, data=data, headers={"Accept-Language": "en"})  # type: ignore[arg-type]
    assert answer.status_code == status, answer.text
    return answer.headers.get("location", "") if status == 303 else html.unescape(answer.text)


def seen(text: str) -> str:
    found = re.search(r'name="seen" value="([^"]+)"', text)
    assert found
    return found[1]


def rows(company: World, table: sa.Table) -> list[sa.Row]:  # type: ignore[type-arg]
    with company.database.connect() as connection:
        return list(connection.execute(sa.select(table)))


# --- the overview --------------------------------------------------------------------------------------------------


def test_an_empty_company_is_told_what_is_missing(tmp_path: Path) -> None:
    with world(tmp_path, at=NOW) as company:
        company.tokens["ops"] = company.token(Role.OPS, "the ops")
        with company.client("ops") as client:
            codes = {gap["code"] for gap in client.get("/api/v1/settings").json()["gaps"]}
            text = page(client, "/settings")
            for path in ("people", "rotations", "sites", "customers", "models", "notices", "standard"):
                page(client, f"/settings/{path}")
    assert codes == {"no_technician", "nobody_in_charge", "no_rota", "no_channels"}
    assert "4 things need somebody." in text
    assert "No rota is kept: all technicians are alerted at once." in text


def test_what_is_missing_is_named(fresh: World) -> None:
    with olga(fresh) as ops:
        ops.post(f"/api/v1/people/{TANG}/certificates", json={"certificates": [{"profile": "diesel_generator"}]})
        found = {gap["code"]: gap["facts"] for gap in ops.get("/api/v1/settings").json()["gaps"]}
        assert found["nobody_certified"] == {"profile": "water_pump", "number": 1}
        assert found["sites_nowhere"] == {"number": 2}
        assert "Nobody is certified for Dewatering pump" in page(ops, "/settings")
        # A rotation that runs out within the fortnight leaves a gap.
        ops.post("/api/v1/rotations", json={"name": "nights", "people": [TANG], "shift_h": 24, "starts_at": NOW - DAY,
                                            "ends_at": NOW + 3 * DAY})  # fmt: skip
        found = {gap["code"]: gap["facts"] for gap in ops.get("/api/v1/settings").json()["gaps"]}
        assert "no_rota" not in found
        assert found["on_call_gap"] == {"from_at": NOW + 3 * DAY}


def test_managers_read_and_change_nothing_but_erase(company: World) -> None:
    with company.client("manager") as client:
        for path in (
            "",
            "/people",
            f"/people/{TANG}",
            "/sites",
            "/sites/1",
            "/rotations",
            "/customers",
            "/customers/1",
        ):
            text = page(client, f"/settings{path}").partition("<main")[2]
            forms = re.findall(r'<form[^>]*action="([^"]*)"', text.partition("<footer")[0])
            erased = [f"/settings{path}/erase"] if path in (f"/people/{TANG}", "/customers/1") else []
            assert forms == erased, path
        assert "/settings/notices" not in page(client, "/settings")


# --- people --------------------------------------------------------------------------------------------------------


def test_somebody_new(ops: httpx.Client) -> None:
    there = send(ops, "/settings/people", name="Mei", role="technician", email="mei@example.com", lang="zh")
    assert "Mei" in page(ops, there)
    again = send(ops, "/settings/people", 422, name="Mei", role="technician", email="mei@example.com", lang="zh")
    assert "exists already" in again
    assert 'value="mei@example.com"' in again, "what was filled in is kept"


def test_contacts_by_form(ops: httpx.Client) -> None:
    path = f"/settings/people/{TANG}"
    send(ops, f"{path}/contacts", seen=seen(page(ops, path)),
         channel__0="email", address__0="tang@example.com", order__0="2",
         channel__1="sms", address__1="+49 170 0000000", order__1="1", from__1="22:00", until__1="06:30")  # fmt: skip
    found = ops.get(f"/api/v1/people/{TANG}").json()
    kept = [(one["channel"], one["address"], one["quiet_from_minute"], one["quiet_until_minute"])
            for one in found["contacts"]]  # fmt: skip
    assert kept == [("sms", "+491700000000", 1320, 390), ("email", "tang@example.com", 0, 0)]
    assert {one["severity"]: one["channels"] for one in found["reached"]}["emergency"] == ["sms", "email"]
    assert {one["severity"]: one["channels"] for one in found["reached"]}["routine"] == ["email", "sms"]
    text = page(ops, path)
    assert "Emergencies by text message, else e-mail, at any hour." in text
    assert "quiet 22:00 to 06:30" in text
    assert "dispatch alert" in text or "alert" in text


def test_two_who_edit_at_once_do_not_overwrite_one_another(ops: httpx.Client) -> None:
    path = f"/settings/people/{TANG}"
    tag = seen(page(ops, path))
    send(ops, f"{path}/home", seen=tag, lat_deg="52,5", lon_deg="13.4")
    told = send(ops, f"{path}/home", 412, seen=tag, lat_deg="1", lon_deg="1")
    assert "Somebody else changed this meanwhile." in told
    assert ops.get(f"/api/v1/people/{TANG}").json()["lat_deg"] == 52.5
    assert seen(told) != tag, "the page shown again has what is there now"
    site = page(ops, "/settings/sites/1")
    send(
        ops, "/settings/sites/1", seen=seen(site), timezone="Europe/Berlin", remote="true", access_notes="gate\r\n4711"
    )
    assert ops.get("/api/v1/sites/1").json()["access_notes"] == "gate\n4711"
    send(ops, "/settings/sites/1", 412, seen=seen(site), timezone="Europe/Berlin")
    assert ops.get("/api/v1/sites/1").json()["remote"] is True


def test_certificates_by_form_keep_what_they_do_not_change(ops: httpx.Client) -> None:
    path = f"/settings/people/{TANG}"
    given = [{"profile": "diesel_generator", "since_at": NOW - 9 * DAY, "until_at": NOW + 3 * DAY + 7 * MINUTE}]
    ops.post(f"/api/v1/people/{TANG}/certificates", json={"certificates": given})
    before = ops.get(f"/api/v1/people/{TANG}").json()["certificates"][0]
    text = page(ops, path)
    until = re.search(r'name="until.diesel_generator" value="([^"]+)"', text)
    assert until
    assert f"until {until[1]}" in text, "its end is near, and said"
    send(ops, f"{path}/certificates", seen=seen(text), model=["diesel_generator", "water_pump"],
         until__diesel_generator=until[1], until__water_pump="2027-06-30")  # fmt: skip
    diesel, pump = ops.get(f"/api/v1/people/{TANG}").json()["certificates"]
    assert diesel == before
    assert pump["until_at"] == "2027-06-30T22:00:00.000Z", "the last day counts, by the clock in Berlin"
    listed = page(ops, "/settings/people")
    assert "a certificate ends" in listed


def test_hours_absences_and_leaving_by_form(ops: httpx.Client) -> None:
    path = f"/settings/people/{WEBER}"
    send(ops, f"{path}/hours", seen=seen(page(ops, path)), from__0__0="08:00", until__0__0="12:00",
         from__0__1="13:00", until__0__1="17:00", from__5__0="22:00", until__5__0="00:00",
         from__6__0="", until__6__0="")  # fmt: skip
    hours = ops.get(f"/api/v1/people/{WEBER}").json()["hours"]
    assert [(one["weekday"], one["from_minute"], one["until_minute"]) for one in hours] == [
        (0, 480, 720), (0, 780, 1020), (5, 1320, 1440)
    ]  # fmt: skip
    assert "08:00\u201312:00, 13:00\u201317:00" in page(ops, path)
    send(ops, f"{path}/absences", seen=seen(page(ops, path)), **{"from": "2026-12-01", "until": "2026-12-02"})
    (away,) = ops.get(f"/api/v1/people/{WEBER}").json()["absences"]
    assert (away["from_at"], away["until_at"]) == ("2026-11-30T23:00:00.000Z", "2026-12-02T23:00:00.000Z")
    assert "2026-12-01 \u2013 2026-12-02" in page(ops, path)
    send(ops, f"{path}/absences/{away['id']}/remove", seen=seen(page(ops, path)))
    assert ops.get(f"/api/v1/people/{WEBER}").json()["absences"] == []
    send(ops, f"{path}/disable", seen=seen(page(ops, path)))
    assert "They left on" in page(ops, path)
    assert "Those who have left" in page(ops, "/settings/people")


@pytest.mark.parametrize(
    ("part", "fields", "said"),
    [
        ("contacts", {"channel__0": "sms", "address__0": "12"}, "international form"),
        ("contacts", {"channel__0": "json://10.0.0.1", "address__0": "x"}, "channel"),
        ("contacts", {"channel__0": "email", "address__0": "a@example.com", "from__0": "25:00"}, "no time of the day"),
        ("home", {"lat_deg": "north"}, "no number"),
        ("home", {"lat_deg": "52"}, "go together"),
        ("absences", {"from": "2026-12-02", "until": "2026-11-01"}, "end must lie after"),
        ("absences", {"from": "soon", "until": "2026-11-01"}, "no day"),
        ("certificates", {"model": "jet"}, "known are"),
    ],
)
def test_what_cannot_be_taken_is_said_on_the_page(
    ops: httpx.Client, part: str, fields: dict[str, str], said: str
) -> None:
    told = send(ops, f"/settings/people/{TANG}/{part}", 422, **fields)
    assert 'role="alert"' in told
    assert said in told


# --- on call -------------------------------------------------------------------------------------------------------


def test_a_rotation_by_form_and_its_fortnight(ops: httpx.Client) -> None:
    send(ops, "/settings/rotations", name="Nights", person=[str(TANG), str(OLGA), "", ""], shift_h="24",
         handover_weekday="0", handover="08:00", timezone="Europe/Berlin", starts_at="2026-11-17T08:00")  # fmt: skip
    text = page(ops, "/settings/rotations")
    assert text.count('<th scope="row">') == 14
    assert "On call now: " in text
    (rotation,) = ops.get("/api/v1/rotations").json()["items"]
    assert (rotation["people"], rotation["starts_at"]) == ([TANG, OLGA], "2026-11-17T07:00:00.000Z")
    override = f"/settings/rotations/{rotation['id']}/overrides"
    send(ops, override, person_id=str(OLGA), **{"from": "2026-11-20T08:00", "until": "2026-11-21T08:00"})
    assert "Olga takes over" in page(ops, "/settings/rotations")
    (other,) = ops.get("/api/v1/rotations").json()["items"][0]["overrides"]
    send(ops, f"{override}/{other['id']}/remove")
    assert ops.get("/api/v1/rotations").json()["items"][0]["overrides"] == []
    assert "no such rotation" in send(ops, "/settings/rotations/99/end", 404)
    send(ops, f"/settings/rotations/{rotation['id']}/end")
    assert "There is no rotation" in page(ops, "/settings/rotations")
    assert "people" in send(ops, "/settings/rotations", 422, name="Empty", shift_h="24", handover="08:00")


def test_a_stretch_without_anybody_is_shown(fresh: World) -> None:
    with olga(fresh) as ops:
        ops.post("/api/v1/rotations", json={"name": "short", "people": [TANG], "shift_h": 24, "starts_at": NOW - DAY,
                                            "ends_at": NOW + 3 * DAY})  # fmt: skip
        assert page(ops, "/settings/rotations").count("spell nobody") >= 10


# --- sites, models, the standard -----------------------------------------------------------------------------------


def test_a_new_site(ops: httpx.Client) -> None:
    there = send(ops, "/settings/sites", name="Harbour <East>", timezone="Europe/Berlin", lat_deg="53.5", lon_deg="9.9")
    text = ops.get(there).text
    assert "Harbour &lt;East&gt;" in text
    assert "Harbour <East>" not in text
    assert "exists already" in send(ops, "/settings/sites", 422, name="Tunnel North", timezone="Europe/Berlin")


def test_a_model_and_the_standard_as_people_read_them(company: World, ops: httpx.Client) -> None:
    model = page(ops, "/settings/models/diesel_generator")
    assert "Coolant temperature" in model
    assert "≤ 100 °C" in model
    assert "Regular service" in model
    assert "profiles/diesel_generator.toml" in model
    standard = page(ops, "/settings/standard")
    assert "A technician is arranged within 1 h." in standard
    assert standard.count("<b>R8</b>") == 2
    assert company.api.desk.standard.version in standard
    clauses = ops.get("/api/v1/service-standard").json()["clauses"]
    assert [one["standard_id"] for one in clauses] == ["R7", "R8", "R8", "R9"]


# --- notices -------------------------------------------------------------------------------------------------------


class Wire:
    """A way out that takes what it is given, or fails as it is told to."""

    name = "email"

    def __init__(self, fails: Undelivered | None = None) -> None:
        self.fails = fails
        self.carried: list[Message] = []

    def send(self, message: Message, now: int) -> None:  # noqa: ARG002 (the outbox's way to call it)
        if self.fails:
            raise self.fails
        self.carried.append(message)


def deliver(company: World, wire: Wire) -> None:
    outbox = Outbox(company.database, {"email": wire, "sms": wire}, random.Random(1),
                    given_up=company.api.desk.telling.given_up)  # fmt: skip
    outbox.deliver_due(company.now())


def test_a_test_goes_out_and_its_fate_is_shown(fresh: World) -> None:
    with olga(fresh) as ops:
        fresh.insert(schema.notice_channel, name="email", carrier="email", rooms=[], since_at=NOW)
        text = page(ops, "/settings/notices")
        assert "Notices go out by 1 channel" in text
        assert "not set up: FETTLE_DINGTALK" in text
        send(ops, "/settings/notices/test", contact_id="0")
        assert "waiting" in page(ops, "/settings/notices")
        told = send(ops, "/settings/notices/test", 429, contact_id="0")
        assert "one a minute" in told
        fresh.at = NOW + 2_000
        wire = Wire()
        deliver(fresh, wire)
        (sent,) = [one for one in wire.carried if one.kind == "test"]
        assert (sent.recipient, sent.subject) == ("olga@example.com", "Test: this way works")
        (test,) = ops.get("/api/v1/notice-channels").json()["tests"]
        assert test["status"] == "sent"
        fresh.at = NOW + MINUTE
        send(ops, "/settings/notices/test", contact_id="0")


def test_a_test_that_fails_is_told_nobody_else_by_another_way(fresh: World) -> None:
    with olga(fresh) as ops:
        given = [("sms", "+491700000000"), ("email", "olga@example.com")]
        contacts = [{"channel": channel, "address": address} for channel, address in given]
        ops.post(f"/api/v1/people/{OLGA}/contacts", json={"contacts": contacts})
        ways = {row.channel: row.id for row in rows(fresh, schema.contact)}
        send(ops, "/settings/notices/test", contact_id=str(ways["sms"]))
        deliver(fresh, Wire(Bounced("no such number")))
        tests = [row for row in rows(fresh, schema.notice) if row.kind == "test"]
        assert [(row.channel, row.status, row.severity) for row in tests] == [("sms", "failed", Severity.ROUTINE)]
        found = ops.get("/api/v1/notice-channels").json()
        assert [(one["person_id"], one["channel"]) for one in found["bounced"]] == [(OLGA, "sms")]
        text = page(ops, "/settings/notices")
        assert "no such number" in text
        assert "does not work since" in page(ops, f"/settings/people/{OLGA}")


def test_a_test_goes_to_oneself_only(fresh: World) -> None:
    with olga(fresh) as ops:
        ops.post(f"/api/v1/people/{TANG}/contacts", json={"contacts": [{"channel": "sms", "address": "+491700000001"}]})
        (theirs,) = rows(fresh, schema.contact)
        assert ops.post("/api/v1/notices/test", json={"contact_id": theirs.id}).status_code == 404
        assert ops.post("/api/v1/notices/test", json={"address": "json://10.0.0.1"}).status_code == 422
        assert ops.post("/api/v1/notices/test", json={"room": True}).status_code == 409, "there is no webhook"
        fresh.insert(schema.notice_channel, name="webhook", carrier="webhook", rooms=[], since_at=NOW)
        made = ops.post("/api/v1/notices/test", json={"room": True})
        assert (made.status_code, made.json()["recipient"], made.json()["person_id"]) == (201, "operations", None)
        with fresh.client("ops") as nobody:
            assert nobody.post("/api/v1/notices/test", json={"contact_id": 0}).status_code == 404


# --- customers and rentals -----------------------------------------------------------------------------------------


def test_a_customer_with_link_contract_and_rental(company: World, ops: httpx.Client) -> None:
    there = send(ops, "/settings/customers", name="Nord Bau", email="nord@example.com", lang="en")
    customer_id = there.rpartition("/")[2]
    linked = send(ops, f"{there}/link", 200)
    link = re.search(r'value="(http[^"]+/c/[^"]+)"', linked)
    assert link
    with company.client() as anybody:
        assert anybody.get(link[1]).status_code == 200
        send(ops, f"{there}/link", 200, renew="true")
        assert anybody.get(link[1]).status_code != 200, "a new one ends those before"
    send(ops, f"{there}/contracts", number="2026/17", signed="2026-11-01")
    assert "signed 2026-11-01" in page(ops, there)
    rental = send(ops, "/rentals/new", device_id="gen-yard", customer_id=customer_id, starts_at="2026-11-18T14:00")
    assert "gen-yard may not go out yet" in page(ops, rental)
    assert "Nord Bau" in page(ops, "/rentals")
    taken = send(ops, "/rentals/new", 409, device_id="gen-a", customer_id=customer_id, starts_at="2026-11-18T14:00")
    assert "is on hire in this period already" in taken
    assert 'value="gen-a"' in taken


def test_the_gate_shows_the_next_step_and_opens(fresh: World) -> None:
    with olga(fresh) as ops:
        with fresh.database.begin() as connection:
            connection.execute(sa.update(schema.fault).values(cleared_at=NOW))
        rental = send(ops, "/rentals/new", device_id="gen-yard", customer_id="1", starts_at="2026-11-18T12:00")
        text = page(ops, rental)
        assert "There is no inspection for hand-over" in text
        assert f"/inspections/new?device_id=gen-yard&kind=hand_over&rental_id={rental.rpartition('/')[2]}" in text
        assert "Hand over</button>" not in text
        blocked = send(ops, f"{rental}/hand-over", 409, seen=seen(text))
        assert "This is not possible as things stand." in blocked
        fresh.insert(
            schema.inspection, kind="hand_over", device_id="gen-yard", checklist_version="1", items=[], passed=True,
            inspector_id=TANG, signature="Tang", signed_at=NOW - HOUR, at=NOW - HOUR, recorded_at=NOW - HOUR,
        )  # fmt: skip
        assert "Ask for a self-test" in page(ops, rental)
        send(ops, f"{rental}/self-test")
        assert "its answer shows here" in page(ops, rental)
        with fresh.database.begin() as connection:
            connection.execute(sa.update(schema.command).values(
                answered_at=NOW - 1, ok=True, result={}, next_send_at=None, sends=1, sent_at=NOW - 2))  # fmt: skip
        text = page(ops, rental)
        assert "gen-yard may go out" in text
        send(ops, f"{rental}/hand-over", seen=seen(text))
        assert "gen-yard is with its customer" in page(ops, rental)
        fresh.at = NOW + HOUR
        send(ops, f"{rental}/return", seen=seen(page(ops, rental)), at="")
        text = page(ops, rental)
        assert "gen-yard came back" in text
        assert "kind=return" in text


def test_who_may_not_acts_not(company: World, ops: httpx.Client) -> None:
    rental = send(ops, "/rentals/new", device_id="gen-mute", customer_id="1", starts_at="2026-11-18T12:00")
    with company.client("technician") as tang:
        text = page(tang, rental)
        assert "/settings/customers" not in text
        assert "self-test</button>" not in text
        assert tang.post(f"{rental}/end").status_code == 403
    with company.client("customer") as anna:
        assert anna.get(rental).status_code == 403


# --- rejected messages ---------------------------------------------------------------------------------------------


def test_rejected_messages_by_reason_and_machine(fresh: World) -> None:
    with olga(fresh) as ops:
        evil = b'<script>alert(1)</script> {"values": 1}'
        for n in range(3):
            fresh.insert(
                schema.rejected, received_at=NOW - n * HOUR, device_id="gen-b", topic="fettle/v1/00/gen-b/telemetry",
                reason="unknown_device", detail="its access has ended", payload=evil, payload_bytes=len(evil),
            )  # fmt: skip
        fresh.insert(
            schema.rejected, received_at=NOW - 2 * DAY, device_id="gen-b", topic="t", reason="too_large", detail="big",
            payload=b"", payload_bytes=300_000,
        )  # fmt: skip
        counts = ops.get("/api/v1/rejected/counts").json()["items"]
        assert [(one["reason"], one["number"], one["machines"]) for one in counts] == [
            ("unknown_device", 3, 1), ("bad_json", 1, 1)
        ]  # fmt: skip
        raw = ops.get("/rejected").text
        assert "<script>alert" not in raw
        assert "&lt;script&gt;alert(1)" in raw
        text = page(ops, "/rejected")
        assert "4 messages were rejected in the last 24 hours" in text
        assert "renew its card (fettle device renew)" in text
        only = page(ops, "/rejected?reason=too_large&device_id=gen-b")
        assert only.partition('id="messages"')[2].count("<li>") == 1
        assert "None like that." in page(ops, "/rejected?reason=too_large&device_id=gen-a")


# --- reliability ---------------------------------------------------------------------------------------------------


def fail(company: World, kind: str, subject: str, cause: str, days_ago: int) -> None:
    at = NOW - days_ago * DAY
    company.insert(
        schema.ticket, device_id="gen-a", kind=kind, subject=subject, severity="urgent", status="closed",
        opened_at=at, occurred_at=at, resolved_at=at + 2 * HOUR, closed_at=at + DAY, resolution_cause=cause,
        evidence={}, standard_version="test",
    )  # fmt: skip


def test_failures_are_drawn_and_told(fresh: World) -> None:
    with olga(fresh) as ops:
        with fresh.at_once():
            for n in range(8):
                kind, subject = ("limit", "coolant_temp_c") if n < 6 else ("startup_failure", "")
                fail(fresh, kind, subject, "wear" if n < 5 else "fuel", 3 + 3 * n)
        found = ops.get("/api/v1/fleet/reliability").json()
        (component,) = [one for one in found["paretos"] if one["by"] == "component"]
        text = page(ops, "/reliability")
        assert text.count("<rect ") == sum(len(one["lines"]) for one in found["paretos"])
        assert text.count("<polyline ") == 3
        drawing = text.partition("By component")[2].partition("</figure>")[0]
        heights = [float(one) for one in re.findall(r'height="([\d.]+)"></rect>', drawing)]
        assert heights == [
            pytest.approx(200 * line["count"] / component["count"], abs=0.1) for line in component["lines"]
        ]
        assert re.findall(r'points="([^"]+)"', drawing)[0].endswith(",0.0"), "the shares add up to all of it"
        assert "Coolant temperature" in text
        assert "Does not start" in text
        assert "A machine fails once in" in text


def test_too_few_is_said(ops: httpx.Client) -> None:
    text = page(ops, "/reliability?period=90d&by=site")
    assert "too few to say" in text
    assert "Tunnel North" in text
    assert "at no site" in text
    assert page(ops, "/reliability?period=nonsense")
    assert ops.get("/reliability?by=nonsense").status_code in (404, 422)


# --- the ways there ------------------------------------------------------------------------------------------------


def test_search_leads_to_customers_sites_and_people(company: World, ops: httpx.Client) -> None:
    text = page(ops, "/search?q=t")
    assert '<a class="what" href="/settings/sites/1">Tunnel North</a>' in text
    assert f'<a class="what" href="/settings/people/{TANG}">Tang</a>' in text
    assert '<a class="what" href="/settings/customers/1">Customer A</a>' in text
    with company.client("technician") as tang:
        text = page(tang, "/search?q=t")
    assert "/settings/customers" not in text
    assert '<a class="what" href="/settings/sites/1">' in text


def test_the_menu_offers_what_stands_open(company: World, ops: httpx.Client) -> None:
    menu = page(ops, "/")
    assert all(f'href="{path}"' in menu for path in ("/settings", "/rejected", "/reliability", "/rentals"))
    with company.client("manager") as manager, company.client("technician") as tang:
        of_manager, of_technician = page(manager, "/"), page(tang, "/rentals")
    assert 'href="/settings"' in of_manager
    assert 'href="/rejected"' not in of_manager
    assert 'href="/settings"' not in of_technician
    assert 'href="/rentals"' in of_technician


# --- forms as browsers send them -----------------------------------------------------------------------------------


def form(**fields: str) -> Form:
    return Form(fields, {name: [value] for name, value in fields.items()}, ZoneInfo("Europe/Berlin"))


def test_times_are_the_readers() -> None:
    given = form(at="2026-07-01T12:00", day="2026-03-29", clock="23:59", utc="2026-07-01T12:00+00:00")
    assert given.moment("at") == 1_782_900_000_000
    assert given.moment("utc") == 1_782_907_200_000
    assert (given.day("day"), given.day("day", end=True)) == (1_774_738_800_000, 1_774_821_600_000), "23 h long"
    assert (given.minute("clock"), given.minute("none"), given.moment("none"), given.day("none")) == (1439, *[None] * 3)
    assert local_input(1_782_900_000_000, given.zone) == "2026-07-01T12:00"
    assert (clock_of(1440), clock_of(390)) == ("00:00", "06:30")
    assert date_input(10**17, given.zone) == ""


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "x" * 500, "99999-01-01", "12:00"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    given = form(at=text)
    for read in (given.moment, given.day):
        with pytest.raises(Problem) as refused:
            read("at")
        assert refused.value.status == 422
        assert len(refused.value.detail) < 80


def test_the_last_day_of_the_calendar_breaks_nothing() -> None:
    with pytest.raises(Problem):
        form(at="9999-12-31").day("at", end=True)
