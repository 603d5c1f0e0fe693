"""The pages in a real browser (Debian's Chromium): sign in, watch, act; wide, narrow, light, dark, zh, en.

Pictures are left in the test's temporary folder, or in FETTLE_SCREENSHOTS where that is set.
"""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser

from monitor.engine import Copyist
from monitor.store import schema
from tests.api_world import DAY, HOUR, MINUTE, World, furnish, world
from tests.browsing import Visit
from tests.patience import until


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("page")) as company:
        furnish(company)
        with company.at_once():
            bustle(company)
        gap = range(company.began - 30 * MINUTE, company.began - 20 * MINUTE)
        company.measure("gen-yard", since=company.began - HOUR, until=company.began, gap=gap)
        overheat(company)
        yield company


def bustle(company: World) -> None:
    """A fleet of forty with a past, one clock that is over and one with little time left."""
    sites = [
        company.insert(schema.site, name=name, remote=False, timezone="Europe/Berlin")
        for name in ("Harbour East", "City Works")
    ]
    lindqvist = company.insert(schema.customer, name="Lindqvist Bau", email="l@example.com", lang="en")
    for n in range(35):
        device_id = f"m-{n:04}"
        company.machine(device_id, ("diesel_generator", "air_compressor", "water_pump")[n % 3], site_id=sites[n % 2])
        if n % 5:
            company.hire(device_id, lindqvist, company.began - 20 * DAY)
        failed_at = company.began - (n % 9 + 2) * DAY
        company.insert(
            schema.fault, device_id=device_id, kind="limit", subject="", severity="urgent" if n % 2 else "routine",
            opened_at=failed_at, occurred_at=failed_at, cleared_at=failed_at + (n % 7) * 5 * HOUR, evidence={},
        )  # fmt: skip
    company.ticket(
        "m-0001", "startup_failure", severity="emergency", status="on_the_way", technician_id=1,
        ago_ms=4 * HOUR + 7 * MINUTE, rental_id=4, clocks=(("R9", "repair_start", 4 * HOUR),),
        evidence={"reason": "attempts", "attempts": 3, "battery_crank_low": 9.8, "fuel_last": 71.0},
    )  # fmt: skip
    company.ticket(
        "m-0002", "limit", "motor_current_a", ago_ms=48 * MINUTE, rental_id=5, clocks=(("R7", "dispatch", HOUR),)
    )


def overheat(company: World) -> None:
    """A machine that went beyond its limit half an hour ago, fell silent for a while, and is well again; its ticket
    keeps the readings."""
    hot_since = company.began - 30 * MINUTE
    gap = range(hot_since - 9 * MINUTE, hot_since - 6 * MINUTE)
    with company.at_once():
        company.machine("gen-hot")
        company.ticket(
            "gen-hot", "limit", "coolant_temp_c", ago_ms=30 * MINUTE, cleared=True,
            evidence={"value": 104.2, "limit": 100.0, "side": "above", "hold_s": 15.0, "unit": "°C", "rule": "limits/1",
                      "confidence": 1.0, "since_at": hot_since},
        )  # fmt: skip
    company.measure(
        "gen-hot", since=company.began - HOUR, until=company.began + 6 * MINUTE, gap=gap,
        heat=lambda at: min(max(at - hot_since + 5 * MINUTE, 0) / MINUTE * 4, 25) if at < company.began else 0,
    )  # fmt: skip
    copyist = Copyist(company.database, company.telemetry, company.api.profiles, retention_days=90)
    copyist.tick(company.began + 6 * MINUTE)


def hot_ticket(company: World) -> str:
    with company.client("ops") as client:
        (found,) = client.get("/api/v1/tickets", params={"device_id": "gen-hot"}).json()["items"]
    return f"/tickets/{found['id']}"


@pytest.fixture
def visit(company: World, browser: Browser) -> Iterator[Callable[..., Visit]]:
    contexts = []

    def begin(lang: str = "en", **options: object) -> Visit:
        contexts.append(browser.new_context(**options))  # type: ignore[arg-type]
        return Visit(company, contexts[-1]).sign_in(lang=lang)

    yield begin
    for context in contexts:
        context.close()


def test_360_pixels_are_enough(company: World, visit: Callable[..., Visit]) -> None:
    here = visit(viewport={"width": 360, "height": 740})
    for path in ("/", "/machines/gen-a", "/tickets/4", hot_ticket(company), "/tickets", "/machines"):
        here.open(path)
        assert here.sideways_px() == 0, path
        assert here.too_small() == [], path


def test_no_english_is_left_on_a_chinese_page(visit: Callable[..., Visit]) -> None:
    page = visit("zh").open("/")
    words = page.evaluate("""() => [...document.querySelectorAll("h1, h2, th, main dt, header nav a, .key span, .btn")]
        .map((one) => one.textContent.trim())""")
    left = [word for word in words if re.search("[A-Za-z]{3}", word)]
    assert left == []


def test_clocks_count_and_say_so_with_a_mark(visit: Callable[..., Visit]) -> None:
    page = visit().open("/")
    first, second = page.locator("#pressing tbody tr").nth(0), page.locator("#pressing tbody tr").nth(1)
    assert first.locator(".clock.late time").inner_text().startswith("\u22120:0")
    assert "Overdue" in first.inner_text()
    clock = second.locator(".clock.soon time")
    before = clock.inner_text()
    until(lambda: clock.inner_text() != before)
    mark = second.locator(".clock i").evaluate("(one) => getComputedStyle(one, '::before').content")
    assert mark not in ("none", '""')


def test_a_fault_shows_without_reloading(company: World, visit: Callable[..., Visit]) -> None:
    page = visit().open("/")
    page.wait_for_function("performance.getEntriesByType('resource').some((one) => one.name.endsWith('live.js'))")
    page.evaluate("window.notReloaded = true")
    company.ticket("m-0007", "fault_code", "SPN 100", evidence={"code": "SPN 100", "text": "oil pressure low"})
    row = page.locator("#pressing", has_text="SPN 100: oil pressure low")

    def told() -> bool:
        company.insert(schema.change, at=company.now(), what="fault_opened", device_id="m-0007", ticket_id=None)
        return row.count() == 1

    until(told)
    assert page.evaluate("window.notReloaded") is True


def test_a_gap_in_the_record_is_a_gap_in_the_chart(visit: Callable[..., Visit]) -> None:
    page = visit().open("/machines/gen-yard?metric=coolant_temp_c&range=1h")
    page.wait_for_selector("#chart[data-points]")
    points = int(page.get_attribute("#chart", "data-points") or 0)
    # one point each 10 s of 50 minutes (some seconds may have left the hour), and one that breaks the line
    assert 290 <= points <= 301
    assert page.locator("#chart canvas").count() == 1
    assert page.locator("#chart-summary").inner_text().startswith("lowest")


def test_a_ticket_draws_how_we_know(company: World, visit: Callable[..., Visit]) -> None:
    """Without scripts: the limit that was crossed, when, what was missing, how sure that is, what else it may be."""
    page = visit(java_script_enabled=False).open(hot_ticket(company))
    why = page.locator("#why")
    assert why.locator(".sentence").inner_text().startswith("Coolant temperature was above 100 °C for 15 s")
    drawing = why.locator(".plot").first
    assert drawing.locator("polyline").count() == 2, "the line breaks where nothing came"
    for what, count in ((".gap", 1), (".limit", 1), (".moment", 3), ("text", 2)):
        assert drawing.locator(what).count() >= count, what
    box, limit = drawing.locator("svg").first.bounding_box(), drawing.locator(".limit").bounding_box()
    assert box is not None
    assert limit is not None
    assert box["height"] > 150
    assert box["y"] < limit["y"] < box["y"] + box["height"]
    said = why.inner_text() + page.locator("#evidence").inner_text()
    for words in ("limit 100 °C", "nothing came", "it ended", "certain (100", "limits, version 1", "18 missing"):
        assert words in said, words
    assert page.locator("#else li").count() == 3
    assert page.locator("#copies li").all_inner_texts() == [
        "until the opening\ncomplete", "the minutes after\ncomplete", "until after the end\ncomplete"
    ]  # fmt: skip


def test_a_ticket_in_chinese_explains_in_chinese(company: World, visit: Callable[..., Visit]) -> None:
    page = visit("zh").open(hot_ticket(company))
    parts = "#why h2, #why li, #why .sentence, #else :is(h2, li), #evidence dt, #copies li"
    words = page.evaluate(
        """(parts) => [...document.querySelectorAll(parts)]
        .map((one) => one.textContent.trim())""",
        parts,
    )
    assert len(words) > 10
    assert [word for word in words if re.search("[A-Za-z]{3}", word)] == []


def test_a_ticket_is_walked_by_hand(company: World, visit: Callable[..., Visit]) -> None:
    here = visit()
    ticket_id = company.ticket("m-0011", "limit", "oil_pressure_bar", rental_id=8)
    page = here.open(f"/tickets/{ticket_id}")
    page.fill("input[name=note]", "called the site")
    page.get_by_role("button", name="Verify").click()
    page.wait_for_selector("text=called the site")
    page.get_by_role("link", name="Send technician").click()
    page.select_option("select[name=technician_id]", label="Tang")
    page.get_by_role("button", name="Send technician").click()
    page.wait_for_selector("h1 small:has-text('Tang')")
    assert page.locator(".verbs .first").inner_text() == "Accept"
    assert here.complaints == []


def test_a_step_that_came_too_late_is_explained(company: World, visit: Callable[..., Visit]) -> None:
    ticket_id = company.ticket("m-0012", "limit", "oil_pressure_bar")
    page = visit().open(f"/tickets/{ticket_id}")
    company.api.desk.act(ticket_id, "cancel", "person:3", company.now(), reason="other")  # type: ignore[arg-type]
    page.get_by_role("button", name="Verify").click()
    assert "Since then: Cancelled" in page.locator("[role=alert]").inner_text()


def test_without_scripts_the_pages_say_the_same(company: World, visit: Callable[..., Visit]) -> None:
    here = visit(java_script_enabled=False)
    page = here.open("/")
    assert "machines on hire are in good order." in page.locator("h1").inner_text()
    assert page.locator("#pressing .clock.late").count() == 1
    page = here.open("/machines/gen-a")
    assert page.locator("#chart-summary").inner_text().startswith("lowest")
    ticket_id = company.ticket("m-0013", "limit", "oil_pressure_bar")
    page = here.open(f"/tickets/{ticket_id}")
    page.get_by_role("button", name="Verify").click()
    assert "verified" in page.locator("h1").inner_text()


def test_a_session_that_ended_leads_to_the_sign_in(visit: Callable[..., Visit]) -> None:
    page = visit().open("/")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    page.goto(page.url.replace("/sign-in", "/machines"))
    assert page.url.endswith("/sign-in")
