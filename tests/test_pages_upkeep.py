"""The pages of upkeep: the week's plan, inspections, spot checks, and the report's months and cases."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import httpx
import pytest
import sqlalchemy as sa

from api.maintenance import DueShape
from api.pages.maintenance import Job, Trip, _stretches
from api.words import words_in
from monitor.engine.spot_checking import SpotChecking
from monitor.fleet.maintenance import State
from monitor.store import schema
from monitor.store.access import Role
from tests.api_world import DAY, HOUR, World, furnish, world
from tests.inspecting import answers, inspect
from tests.test_pages_customers import signed_in

NOW = 1_795_000_000_000
TANG = 1


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three machines at one site whose service is overdue, one due soon, the others later; a draw, and inspections."""
    with world(tmp_path_factory.mktemp("upkeep"), at=NOW) as company:
        furnish(company, readings=False)
        with company.at_once():
            for n in range(3):
                company.machine(f"late-{n}", site_id=1, added_at=NOW - (95 + n) * DAY)
            company.machine("soon-0", site_id=2, added_at=NOW - 84 * DAY)
        company.api.desk.upkeep.tick(NOW)
        SpotChecking(company.database, "Europe/Berlin").tick(NOW)
        with signed_in(company, Role.TECHNICIAN, TANG) as tang:
            assert inspect(tang, "gen-yard").status_code == 201
            wrong = answers("diesel_generator", "spot_check", outside={"says": "fail", "reason": "dented"})
            assert inspect(tang, "gen-a", "spot_check", items=wrong).status_code == 201
        yield company


@pytest.fixture
def ops(company: World) -> Iterator[httpx.Client]:
    with company.client("ops") as client:
        yield client


def sections(page: str) -> dict[str, str]:
    """The parts of the plan by their code, in their order."""
    return dict(re.findall(r'<section class="stretch (\w+)"(.*?)</section>', page, re.S))


# --- the week's plan -----------------------------------------------------------------------------------------------


def test_what_is_overdue_comes_first_and_one_trip_does_a_site(ops: httpx.Client) -> None:
    page = ops.get("/maintenance").text
    assert "3 machines are overdue for maintenance." in page
    found = sections(page)
    assert next(iter(found)) == "overdue"
    assert found["overdue"].count('class="trip"') == 1
    assert re.findall("· (late-[0-9])", found["overdue"]) == ["late-2", "late-1", "late-0"]
    assert "Tunnel North" in found["overdue"]
    assert "by the calendar" in found["overdue"]
    assert "soon-0" in found.get("this", "") + found.get("next", "")
    assert page.count("btn first") <= 1


def test_it_is_narrowed_to_a_state_a_site_or_a_model(ops: httpx.Client) -> None:
    assert list(sections(ops.get("/maintenance?state=overdue").text)) == ["overdue"]
    assert "late-0" not in "".join(sections(ops.get("/maintenance?site=2").text).values())
    assert "gen-mute" in "".join(sections(ops.get("/maintenance?profile=water_pump").text).values())
    nothing = ops.get("/maintenance?profile=air_compressor").text
    assert "Nothing like this is due." in nothing
    assert ops.get("/maintenance?site=x").status_code == 422


def due(device_id: str, at: datetime, state: State, site: str | None = "A", **more: object) -> DueShape:
    known = dict.fromkeys(("left_h", "left_starts", "use_h_per_day", "meter_h", "done_at", "order_id", "assignee_id",
                           "assignee_name", "site_id"))  # fmt: skip
    return DueShape.model_validate({
        **known, "device_id": device_id, "profile": "p", "site_name": site, "plan": "service", "title_en": "S",
        "title_zh": "S", "state": state, "due_at": round(at.timestamp() * 1000), "overdue_at": 0, "sure": "known",
        "trigger": "calendar", **more,
    })  # fmt: skip


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/Los_Angeles"])
def test_weeks_begin_on_monday_where_the_reader_is(zone: str) -> None:
    there = ZoneInfo(zone)
    wednesday = datetime(2026, 11, 25, 12, tzinfo=there)
    plan = list(_stretches(
        [
            due("gone", datetime(2026, 11, 1, tzinfo=there), State.OVERDUE),
            due("sunday", datetime(2026, 11, 29, 23, 59, tzinfo=there), State.DUE_SOON, None),
            due("monday", datetime(2026, 11, 30, 0, 0, tzinfo=there), State.NOT_DUE, sure="by_use"),
            due("after", datetime(2026, 12, 7, 0, 0, tzinfo=there), State.NOT_DUE),
        ],
        round(wednesday.timestamp() * 1000), words_in("en", zone),
    ))  # fmt: skip
    assert [(one.code, [job.due.device_id for trip in one.trips for job in trip.jobs]) for one in plan] == [
        ("overdue", ["gone"]), ("this", ["sunday"]), ("next", ["monday"]), ("later", ["after"])
    ]  # fmt: skip
    assert [job.forecast for one in plan for trip in one.trips for job in trip.jobs] == [False, False, True, False]
    assert plan[2].from_at == round(datetime(2026, 11, 30, tzinfo=there).astimezone(UTC).timestamp() * 1000)


def test_a_week_with_a_change_of_the_clock_is_a_week() -> None:
    there = ZoneInfo("Europe/Berlin")
    # The clocks go back on Sunday: seven times 24 h from now is Sunday still.
    now = datetime(2026, 10, 19, 0, 30, tzinfo=there)
    plan = list(_stretches(
        [
            due("this", datetime(2026, 10, 25, 23, 59, tzinfo=there), State.DUE_SOON),
            due("next", datetime(2026, 10, 26, 0, 0, tzinfo=there), State.NOT_DUE),
        ],
        round(now.timestamp() * 1000), words_in("en", "Europe/Berlin"),
    ))  # fmt: skip
    assert [(one.code, one.trips[0].jobs[0].due.device_id) for one in plan] == [("this", "this"), ("next", "next")]


def test_a_trip_counts_its_machines_and_who_is_still_to_go() -> None:
    at = datetime(2026, 11, 30, tzinfo=UTC)
    given = due("a", at, State.DUE, assignee_id=1)
    trip = Trip("A", [Job(given, forecast=False), Job(due("a", at, State.DUE), forecast=False)])
    assert (trip.machines, len(trip.unassigned)) == (1, 1)


def test_a_trip_is_given_to_one_person_and_what_cannot_be_is_said(company: World, ops: httpx.Client) -> None:
    jobs = ["soon-0 service", "gen-b service"]
    given = ops.post("/maintenance/trips", data={"assignee_id": "1", "job": jobs})
    assert given.status_code == 303
    orders = ops.get("/api/v1/work-orders", params={"assignee_id": 1, "status": "open"}).json()["items"]
    assert {one["device_id"] for one in orders} == {"soon-0", "gen-b"}
    assert ops.post("/maintenance/trips", data={"assignee_id": "1", "job": jobs}).status_code == 303
    assert len(ops.get("/api/v1/work-orders", params={"assignee_id": 1, "status": "open"}).json()["items"]) == 2
    refused = ops.post("/maintenance/trips", data={"assignee_id": "999", "job": ["gen-b service"]})
    assert refused.status_code == 409
    assert "Somebody else was given this meanwhile" in refused.text
    assert ops.post("/maintenance/trips", data={"assignee_id": "1", "job": ["../x y"]}).status_code == 404
    with signed_in(company, Role.TECHNICIAN, TANG) as tang:
        mine = "".join(sections(tang.get("/maintenance?mine=true").text).values())
    assert "gen-b" in mine
    assert "late-0" not in mine


# --- inspections and spot checks -----------------------------------------------------------------------------------


def test_inspections_are_listed_and_narrowed(ops: httpx.Client) -> None:
    page = ops.get("/inspections").text
    assert page.index("gen-a</a>") < page.index("gen-yard</a>")
    assert "✗ Not passed" in page
    assert "1 item not in order" in page
    failed = ops.get("/inspections?passed=false").text
    assert "gen-a</a>" in failed
    assert "gen-yard</a>" not in failed
    assert "No inspection is like this." in ops.get("/inspections?device_id=no-such").text
    assert "gen-yard</a>" in ops.get("/inspections?kind=hand_over&device_id=gen-yard").text


def test_a_machine_that_came_back_is_the_first_thing_said(company: World, ops: httpx.Client) -> None:
    r = schema.rental.c
    with company.database.begin() as connection:
        back = connection.execute(
            sa.update(schema.rental).where(r.device_id == "gen-old").values(handed_over_at=1, returned_at=NOW - HOUR)
        )
        assert back.rowcount == 1
    page = ops.get("/inspections").text
    assert "1 machine came back and waits for its inspection." in page
    assert "device_id=gen-old&amp;kind=return" in page
    with company.client("manager") as manager:
        assert "Inspect it" not in manager.get("/inspections").text


def test_the_draw_says_who_where_and_how(ops: httpx.Client) -> None:
    page = ops.get("/spot-checks").text
    assert "1 of 2 machines drawn for 2026-11 are inspected." in page
    assert "2026-11 fettle spot check" in page
    assert "Drawing again gives the same machines." in page
    assert "Quarry Sandberg" in page
    assert page.count("btn first") == 1
    assert "Nothing was drawn for 2026-01." in ops.get("/spot-checks/2026-01").text
    assert ops.get("/spot-checks/2026-13").status_code == 404
    listed = ops.get("/api/v1/spot-checks").json()["items"]
    assert [(one["month"], one["drawn"], one["frame"]) for one in listed] == [("2026-11", 2, 2)]


# --- the report ----------------------------------------------------------------------------------------------------


def test_the_report_leads_to_the_months_beside_it_and_to_its_cases(ops: httpx.Client) -> None:
    page = ops.get("/reports/2026-10").text
    assert 'href="/reports/2026-09"' in page
    assert 'href="/reports/2026-11"' in page
    now = ops.get("/reports/2026-11").text
    assert 'href="/reports/2026-12"' not in now
    assert page.count("btn first") == 1
    (link,) = re.findall(r'href="(/reports/2026-11/rows/E6.spot_checks[^"]*)"', now)
    cases = ops.get(link.replace("&amp;", "&")).text
    assert "✓ kept" in cases
    assert "✗ not kept" in cases
    assert "gen-b" in cases
    assert ops.get("/reports/2026-11/rows/E1.fleet").status_code == 404
    assert "There was no case in this month." in ops.get("/reports/2026-10/rows/R7").text
