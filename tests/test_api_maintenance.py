"""Maintenance over the API and its pages: what is due, orders, plans, meters, and the calendar by a signed address."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from icalendar import Calendar

from monitor.store import schema
from monitor.store.access import Role
from tests.api_world import DAY, HOUR, World, furnish, world

NOW = 1_795_000_000_000
OK = "ok"


@pytest.fixture
def company(tmp_path: Path) -> Iterator[World]:
    """Machines that were added forty days ago, one of them ninety-five days ago, as the desk's tick has left them."""
    with world(tmp_path, at=NOW) as company:
        furnish(company, readings=False)
        company.machine("gen-late", site_id=1, added_at=NOW - 95 * DAY)
        company.machine("gen-soon", site_id=2, added_at=NOW - 80 * DAY)
        company.api.desk.upkeep.tick(NOW)
        yield company


@pytest.fixture
def ops(company: World) -> Iterator[httpx.Client]:
    with company.client("ops") as client:
        yield client


def listed(client: httpx.Client, **asked: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/api/v1/maintenance", params=asked).json()["items"]  # type: ignore[arg-type]
    return found


def order_of(client: httpx.Client, device_id: str) -> int:
    (one,) = listed(client, device_id=device_id)
    return int(one["order_id"])


def results(client: httpx.Client, order_id: int, result: str = OK) -> list[dict[str, str]]:
    order = client.get(f"/api/v1/maintenance/{order_id}").json()
    return [{"code": one["code"], "result": result} for one in order["checklist"]]


def test_what_is_due_is_listed_by_when_and_filtered(ops: httpx.Client) -> None:
    everything = listed(ops)
    assert [(one["device_id"], one["state"]) for one in everything[:2]] == [
        ("gen-late", "overdue"), ("gen-soon", "due_soon")
    ]  # fmt: skip
    assert len(everything) == 7
    assert [one["due_at"] for one in everything] == sorted(one["due_at"] for one in everything)
    assert [one["device_id"] for one in listed(ops, state="overdue")] == ["gen-late"]
    assert {one["state"] for one in listed(ops, state="not_due")} == {"not_due"}
    assert sum(len(listed(ops, state=state)) for state in ("not_due", "due_soon", "due", "overdue")) == 7
    assert {one["site_name"] for one in listed(ops, site_id=2)} == {"Quarry Sandberg"}
    assert [one["device_id"] for one in listed(ops, profile="water_pump")] == ["gen-mute"]
    assert ops.get("/api/v1/maintenance", params={"state": "late"}).status_code == 422
    assert ops.get("/api/v1/maintenance", params={"cursor": "xx"}).status_code == 422


def test_the_list_comes_in_pages_without_a_gap(ops: httpx.Client) -> None:
    pages, cursor = [], {}
    while True:
        page = ops.get("/api/v1/maintenance", params={"limit": 2, **cursor}).json()
        pages += page["items"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert pages == listed(ops)


def test_an_order_is_given_to_somebody_done_and_reckoned_anew(company: World, ops: httpx.Client) -> None:
    order_id = order_of(ops, "gen-late")
    order = ops.get(f"/api/v1/maintenance/{order_id}")
    assert (order.json()["status"], order.json()["reason"]) == ("open", "calendar")
    given = ops.post(
        f"/api/v1/maintenance/{order_id}/assign", json={"assignee_id": 1}, headers={"If-Match": order.headers["etag"]}
    )
    assert given.json()["assignee_name"] == "Tang"
    stale = ops.post(
        f"/api/v1/maintenance/{order_id}/assign", json={"assignee_id": 2}, headers={"If-Match": order.headers["etag"]}
    )
    assert stale.status_code == 412
    missing = ops.post(f"/api/v1/maintenance/{order_id}/done", json={})
    assert (missing.status_code, "missing is how these were found" in missing.json()["detail"]) == (422, True)
    with company.client("technician") as tang:
        body = {"results": results(tang, order_id), "meter_hours": 812.5, "parts": ["oil filter"], "note": "well"}
        done = tang.post(f"/api/v1/maintenance/{order_id}/done", json=body)
    assert (done.status_code, done.json()["status"], done.json()["meter_hours"]) == (200, "done", 812.5)
    assert ops.post(f"/api/v1/maintenance/{order_id}/done", json=body).status_code == 409
    (due,) = listed(ops, device_id="gen-late")
    assert (due["state"], due["left_h"], due["order_id"]) == ("not_due", 250, None)
    assert ops.get("/api/v1/work-orders", params={"status": "done"}).json()["items"][0]["id"] == order_id


def test_a_technician_needs_the_certificate(company: World, ops: httpx.Client) -> None:
    company.insert(schema.certificate, person_id=2, profile="diesel_generator", since_at=NOW - DAY)
    order_id = order_of(ops, "gen-late")
    with company.client("technician") as tang, company.client("other technician") as weber:
        body = {"results": results(tang, order_id)}
        refused = tang.post(f"/api/v1/maintenance/{order_id}/done", json=body)
        assert (refused.status_code, "P1" in refused.json()["detail"]) == (422, True)
        assert weber.post(f"/api/v1/maintenance/{order_id}/done", json=body).status_code == 200


def test_a_trip_is_given_whole_or_not_at_all(ops: httpx.Client) -> None:
    def trip(person_id: int, *machines: str) -> httpx.Response:
        jobs = [{"device_id": one, "plan": "service"} for one in machines]
        return ops.post("/api/v1/maintenance/trips", json={"assignee_id": person_id, "jobs": jobs})

    def given() -> dict[str, object]:
        rows = ops.get("/api/v1/work-orders", params={"status": "open"}).json()["items"]
        return {one["device_id"]: one["assignee_id"] for one in rows}

    before = given()
    assert "gen-yard" not in before
    assert trip(1, "gen-yard", "no-such").status_code == 404
    assert trip(999, "gen-yard", "gen-soon").status_code == 422
    assert given() == before, "no order was opened for the one that could have been given"
    orders = trip(1, "gen-yard", "gen-soon").json()["items"]
    assert {one["device_id"]: one["assignee_id"] for one in orders} == {"gen-yard": 1, "gen-soon": 1}
    taken = trip(2, "gen-late", "gen-soon")
    assert (taken.status_code, "was given to somebody else" in taken.json()["detail"]) == (409, True)
    assert given()["gen-late"] == before["gen-late"], "nothing of the trip was given"
    assert trip(1, "gen-soon", "gen-soon").status_code == 200, "again is harmless"
    assert trip(1).status_code == 422


def test_orders_by_hand_are_cancelled_with_a_reason(ops: httpx.Client) -> None:
    made = ops.post("/api/v1/maintenance", json={"device_id": "gen-a", "title": "Paint the frame"})
    assert (made.status_code, made.json()["plan"]) == (201, "")
    again = ops.post("/api/v1/maintenance", json={"device_id": "gen-late", "plan": "service"})
    assert again.status_code == 409
    assert ops.post("/api/v1/maintenance", json={"device_id": "gen-a"}).status_code == 422
    assert ops.post("/api/v1/maintenance", json={"device_id": "no-such", "title": "x"}).status_code == 404
    address = f"/api/v1/maintenance/{made.json()['id']}/cancel"
    assert ops.post(address, json={}).status_code == 422
    assert ops.post(address, json={"reason": "sold"}).json()["note"] == "sold"


def test_plans_are_put_refused_and_taken_back(company: World, ops: httpx.Client) -> None:
    body = {"title_en": "Service", "title_zh": "保养", "every_days": 120, "checklist": []}
    refused = ops.put("/api/v1/maintenance-plans/service", json=body)
    assert refused.status_code == 422
    assert "at least once a quarter (E4)" in refused.json()["detail"]
    made = ops.put("/api/v1/maintenance-plans/service?scope=device&of=gen-a", json=body | {"every_days": 30})
    assert (made.status_code, made.json()["scope"], made.json()["every_days"]) == (200, "device", 30)
    company.api.desk.upkeep.tick(NOW)
    (due,) = listed(ops, device_id="gen-a")
    assert (due["title_en"], due["state"]) == ("Service", "overdue")
    assert [one["scope"] for one in ops.get("/api/v1/maintenance-plans").json()["items"]] == ["shipped", "device"]
    stale = ops.delete("/api/v1/maintenance-plans/service?scope=device&of=gen-a", headers={"If-Match": '"0"'})
    assert stale.status_code == 412
    assert ops.delete("/api/v1/maintenance-plans/service?scope=device&of=gen-a").status_code == 204
    assert ops.delete("/api/v1/maintenance-plans/service?scope=device&of=gen-a").status_code == 404
    assert (
        ops.put("/api/v1/maintenance-plans/x?scope=profile&of=none", json=body | {"every_days": 9}).status_code == 422
    )


def test_meters_are_read_and_what_cannot_be_is_refused(company: World, ops: httpx.Client) -> None:
    address = "/api/v1/devices/gen-a/meter-readings"
    assert ops.post(address, json={"hours": 100}).status_code == 201
    company.at = NOW + HOUR
    back = ops.post(address, json={"hours": 12})
    assert (back.status_code, "below" in back.json()["detail"]) == (422, True)
    made = ops.post(address, json={"hours": 12, "replaced": True}).json()
    assert (made["hours"], made["total_h"], made["source"]) == (12, 100, "manual")
    assert ops.post(address, json={"hours": 12, "at": company.at + DAY}).status_code == 422
    assert [one["hours"] for one in ops.get(address).json()["items"]] == [12, 100]
    assert ops.get("/api/v1/devices/no-such/meter-readings").status_code == 404


# --- the calendar --------------------------------------------------------------------------------------------------


def entries(company: World, url: str) -> dict[str, Any]:
    answer = company.client().get(url)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/calendar")
    return {str(event["uid"]): event for event in Calendar.from_ical(answer.content).walk("VEVENT")}


def feed(client: httpx.Client, **asked: object) -> dict[str, Any]:
    made = client.post("/api/v1/maintenance/calendars", json=asked)
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


def test_a_calendar_shows_all_day_entries_with_names_that_stay(company: World, ops: httpx.Client) -> None:
    url = feed(ops)["url"]
    before = entries(company, url)
    assert len(before) == 7
    late = next(event for event in before.values() if "gen-late" in str(event["summary"]))
    assert str(late["summary"]) == "Regular service · gen-late"
    assert str(late["location"]) == "Tunnel North"
    assert late["dtstart"].params["value"] == "DATE"
    assert (late["dtend"].dt - late["dtstart"].dt).days == 1
    assert str(late["url"]).endswith(f"/maintenance/{order_of(ops, 'gen-late')}")
    company.at = NOW + DAY
    company.api.desk.upkeep.tick(company.at)
    assert entries(company, url).keys() == before.keys()
    told = company.client().get(url).text
    assert not any(secret in told for secret in ("Customer", "@example.com", "Tang", "+49"))


def test_a_calendar_is_a_sites_or_a_persons(company: World, ops: httpx.Client) -> None:
    of_site = entries(company, feed(ops, site_id=2)["url"])
    assert sorted(str(event["summary"]) for event in of_site.values()) == [
        "Regular service · gen-b", "Regular service · gen-soon"
    ]  # fmt: skip
    ops.post(f"/api/v1/maintenance/{order_of(ops, 'gen-late')}/assign", json={"assignee_id": 1})
    with company.client("technician") as tang:
        mine = entries(company, feed(tang, mine=True)["url"])
    assert [str(event["summary"]) for event in mine.values()] == ["Regular service · gen-late"]
    assert ops.post("/api/v1/maintenance/calendars", json={"site_id": 99}).status_code == 422
    assert ops.post("/api/v1/maintenance/calendars", json={"mine": True}).status_code == 422


def test_a_calendar_ends_when_it_is_ended_when_it_is_old_and_when_its_person_leaves(
    company: World, ops: httpx.Client
) -> None:
    made, other = feed(ops), feed(ops)
    with company.client("technician") as tang:
        mine = feed(tang, mine=True)
        assert tang.post(f"/api/v1/maintenance/calendars/{made['id']}/end").status_code == 404
        assert ops.post(f"/api/v1/maintenance/calendars/{made['id']}/end").status_code == 204
    with company.client() as nobody:
        assert [nobody.get(one["url"]).status_code for one in (made, other, mine)] == [404, 200, 200]
        with company.database.begin() as connection:
            connection.execute(schema.person.update().where(schema.person.c.id == 1).values(disabled_at=NOW))
        assert nobody.get(mine["url"]).status_code == 404
        company.at = NOW + 367 * DAY
        assert nobody.get(other["url"]).status_code == 404


def test_a_calendar_ends_with_the_account_that_made_it(company: World, ops: httpx.Client) -> None:
    person, token = schema.person.c, schema.token.c
    with company.client() as olga, company.client("technician") as tang:
        signed = olga.post("/sign-in", data={"secret": company.link(Role.OPS, 3)})
        # By hand: httpx keeps secure cookies from plain http.
        olga.headers.update({"Cookie": signed.headers["set-cookie"].partition(";")[0], "Sec-Fetch-Site": "same-origin"})
        made = {"olga": feed(olga), "tang": feed(tang, site_id=2), "token": feed(ops)}
        # The desk sees everybody's, to end them; others their own.
        assert [page.text.count("/end") for page in (ops.get("/maintenance"), tang.get("/maintenance"))] == [3, 1]

    def answers() -> dict[str, int]:
        with company.client() as nobody:
            return {who: nobody.get(one["url"]).status_code for who, one in made.items()}

    def change(table: Any, *where: Any, **values: Any) -> None:
        with company.database.begin() as connection:
            connection.execute(table.update().where(*where).values(**values))

    assert answers() == {"olga": 200, "tang": 200, "token": 200}
    change(schema.person, person.id.in_((1, 3)), disabled_at=NOW)
    assert answers() == {"olga": 404, "tang": 404, "token": 200}
    change(schema.person, person.id == 3, disabled_at=None)
    change(schema.token, token.name == "the ops", revoked_at=NOW)
    assert answers() == {"olga": 200, "tang": 404, "token": 404}
    change(schema.person, person.id == 3, role="customer")
    assert answers()["olga"] == 404


def test_nobody_writes_an_address_of_a_calendar(company: World, ops: httpx.Client) -> None:
    url = feed(ops)["url"]
    head, _, token = url.rpartition("/")
    token = token.removesuffix(".ics")
    signer = company.api.desk.addresses.signer
    assert signer is not None
    forged = [
        ("B" if token[0] != "B" else "C") + token[1:], token[:-2], "x", signer.sign("customer", (1, 0), NOW + DAY),
        signer.sign("calendar", (999,), NOW + DAY),
    ]  # fmt: skip
    with company.client() as nobody:
        assert {nobody.get(f"{head}/{one}.ics").status_code for one in forged} == {404}
        assert nobody.get(f"{head}/{token}.ics").headers["x-robots-tag"].startswith("noindex")


# --- pages ---------------------------------------------------------------------------------------------------------


def test_the_page_leads_from_what_is_due_to_its_order_and_through_the_checklist(
    company: World, ops: httpx.Client
) -> None:
    page = ops.get("/maintenance?state=overdue").text
    order_id = order_of(ops, "gen-late")
    assert f'href="/maintenance/{order_id}"' in page
    assert "gen-soon" not in page
    form = ops.get(f"/maintenance/{order_id}").text
    codes = [one["code"] for one in results(ops, order_id)]
    assert all(f'name="result.{code}"' in form for code in codes)
    sent = {f"result.{code}": "ok" for code in codes} | {"meter_hours": "812,5", "parts": "oil\nfilter\n"}
    bad = ops.post(f"/maintenance/{order_id}/done", data=sent | {f"result.{codes[0]}": "not_ok"})
    assert (bad.status_code, 'class="refusal"' in bad.text) == (422, True)
    assert ops.post(f"/maintenance/{order_id}/done", data=sent | {"meter_hours": "x"}).status_code == 422
    with company.client("technician") as tang:
        assert tang.post(f"/maintenance/{order_id}/done", data=sent).status_code == 303
    done = ops.get(f"/maintenance/{order_id}").text
    assert "filter" in done
    assert "gen-late" not in ops.get("/maintenance?state=overdue").text


def test_the_page_opens_assigns_cancels_and_hands_out_a_calendar(company: World, ops: httpx.Client) -> None:
    opened = ops.post("/maintenance", data={"device_id": "gen-a", "plan": "service"})
    address = opened.headers["location"]
    assert opened.status_code == 303
    assert ops.post(f"{address}/assign", data={"assignee_id": "1"}).status_code == 303
    assert ops.post(f"{address}/assign", data={"assignee_id": "4"}).status_code == 422
    assert ops.post(f"{address}/cancel", data={"reason": "not now"}).status_code == 303
    assert ops.post(f"{address}/cancel", data={"reason": "not now"}).status_code == 409
    made = ops.post("/maintenance/calendars", data={})
    assert "/calendar/" in made.text
    feeds = company.database.connect
    with feeds() as connection:
        (feed_id,) = connection.execute(schema.calendar_feed.select()).scalars()
    assert ops.post(f"/maintenance/calendars/{feed_id}/end").status_code == 303
