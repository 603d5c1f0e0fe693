"""The tickets' pages in a real browser: no barrier in both languages and themes, by keyboard alone, live, and loud
where the connection is gone."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from monitor.store import schema
from tests.api_world import HOUR, MINUTE, World, furnish, world
from tests.browsing import NARROW, WIDE, Visit
from tests.patience import until

WALL = {"width": 1920, "height": 1080}
PAGES = ("/tickets", "/tickets/board", "/tickets/4", "/tickets/1/dispatch")


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("tickets")) as company:
        furnish(company, readings=False)
        with company.at_once():
            for n, status in enumerate(("on_the_way", "repairing", "dispatched", "verified", "resolved")):
                company.machine(f"m-{n}", site_id=1)
                company.ticket(
                    f"m-{n}", "startup_failure", severity="emergency", status=status, technician_id=1 + n % 2,
                    ago_ms=3 * HOUR + n * 13 * MINUTE, clocks=(("R9", "repair_start", 4 * HOUR),) if n < 4 else (),
                    evidence={"reason": "attempts", "attempts": 3},
                )  # fmt: skip
        yield company


def a_visit(company: World, browser: Browser, lang: str, **options: object) -> tuple[Visit, BrowserContext]:
    context = browser.new_context(**options)  # type: ignore[arg-type]
    return Visit(company, context).sign_in(lang=lang), context


@pytest.mark.parametrize(
    ("lang", "scheme", "size", "others"),
    [("zh", "dark", NARROW, ("/wall", "/wall?theme=light"))],
    ids=["zh-narrow"],
)
def test_nothing_is_in_anybodys_way(
    company: World, browser: Browser, lang: str, scheme: str, size: dict[str, int], others: tuple[str, ...]
) -> None:
    here, context = a_visit(company, browser, lang, color_scheme=scheme, viewport=size)
    for path in (*PAGES, *others):
        page = here.open(path)
        for fold in page.locator("main details").all():
            fold.evaluate("(one) => { one.open = true; }")
        assert here.sideways_px() == 0, path
        assert here.barriers() == [], path
        if size is NARROW:
            assert here.too_small() == [], path
    assert here.complaints == []
    assert here.asked_elsewhere == []
    context.close()


def test_somebody_is_sent_by_keyboard_alone_and_the_board_follows(company: World, browser: Browser) -> None:
    here, context = a_visit(company, browser, "en", viewport=WIDE)
    page = here.open("/tickets/board")
    page.wait_for_function("performance.getEntriesByType('resource').some((one) => one.name.endsWith('keys.js'))")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.closest('#board') !== null")
    page.goto(f"{company.url}/tickets/1")
    page.get_by_role("button", name="Verify").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("h1 small:has-text('verified')")
    page.get_by_role("link", name="Send technician").focus()
    page.keyboard.press("Enter")
    page.locator("select[name=technician_id]").focus()
    page.keyboard.press("T")
    page.get_by_role("button", name="Send technician").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("h1 small:has-text('Tang')")
    page.goto(f"{company.url}/tickets/board")
    column = page.locator("section", has=page.locator("#of-sent"))
    assert "gen-a" in column.inner_text()
    page.evaluate("window.notReloaded = true")
    company.machine("m-late")
    company.ticket("m-late", "fault_code", "SPN 100", evidence={"code": "SPN 100", "text": "oil pressure low"})

    def told() -> bool:
        company.insert(schema.change, at=company.now(), what="ticket", device_id="m-late", ticket_id=None)
        return page.locator("#board", has_text="m-late").count() == 1

    until(told)
    assert page.evaluate("window.notReloaded") is True
    assert here.complaints == []
    context.close()


def test_the_wall_is_read_from_afar_and_says_when_it_is_old(company: World, browser: Browser) -> None:
    here, context = a_visit(company, browser, "en", viewport=WALL)
    for n in range(14):
        company.machine(f"wall-{n}", site_id=1)
        company.ticket(
            f"wall-{n}", "limit", "coolant_temp_c", ago_ms=n * MINUTE, clocks=(("R7", "dispatch", HOUR),),
            evidence={"value": 104.2, "limit": 100.0, "side": "above", "hold_s": 15.0, "unit": "°C"},
        )  # fmt: skip
    page = here.open("/wall")
    assert page.locator(".wall-table tbody tr").count() == 11
    assert page.evaluate("document.documentElement.scrollHeight") <= WALL["height"], "all of it is on the screen"
    smallest = page.evaluate("""() => Math.min(...[...document.querySelectorAll(".wall-table :is(td > div, time)")]
        .map((one) => parseFloat(getComputedStyle(one).fontSize)))""")
    assert smallest >= 26
    paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert paper == "rgb(16, 18, 16)"
    lost = page.locator(".wall-lost")
    assert not lost.is_visible()
    context.set_offline(True)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    lost.wait_for(state="visible")
    assert "Not connected" in lost.inner_text()
    context.set_offline(False)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    lost.wait_for(state="hidden")
    context.close()
