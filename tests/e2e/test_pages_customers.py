"""Customers' pages in a real browser: a link that is left open, one tap, without scripts; wide, narrow, zh, en."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from monitor.desk.tickets import Resolution, Verb
from tests.api_world import World, furnish, world
from tests.browsing import NARROW, WANTED, WIDE, Visit, pictures_in
from tests.test_pages_customers import link_of

"""Pictures take time, and are for those who ask for them."""


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("customers")) as company:
        furnish(company, readings=False)
        yield company


def step(company: World, verb: Verb, **how: object) -> None:
    company.api.desk.act(1, verb, "person:1", company.now(), **how)  # type: ignore[arg-type]


def test_from_the_link_over_the_course_to_the_answer(
    company: World, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:  # fmt: skip
    pictures = pictures_in(tmp_path_factory.mktemp("pictures"))
    wide = Visit(company, browser.new_context(viewport=WIDE, color_scheme="light"))  # type: ignore[arg-type]
    narrow = Visit(company, browser.new_context(viewport=NARROW, color_scheme="dark", java_script_enabled=True))  # type: ignore[arg-type]
    home = link_of(company)

    def look(name: str, path: str) -> None:
        for visit, lang in ((wide, "en"), (narrow, "zh")):
            page = visit.open(f"{path}?lang={lang}")
            if WANTED:
                page.screenshot(path=pictures / f"customers-{name}-{lang}.png", full_page=True)
            assert visit.sideways_px() == 0, path
            assert visit.barriers() == [], path
        assert narrow.too_small() == [], path

    look("home", home)
    look("course", f"{home}/1")
    # Left open: it says by itself what happens, and keeps what is being typed.
    page = wide.open(f"{home}?lang=en")
    page.locator("summary", has_text="Report a problem").click()
    page.fill("textarea", "It smokes")
    step(company, Verb.ACCEPT, technician_id=1)
    step(company, Verb.DEPART)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_selector(".known:has-text('The technician is on the way. (Tang)')")
    assert page.input_value("textarea") == "It smokes"
    step(company, Verb.RESOLVE, resolution=Resolution("other", "repaired", "wear"))
    look("repaired", f"{home}/1")
    look("how", f"{home}/1/how")
    narrow.page.click("button[value=no]")
    narrow.page.wait_for_selector(".thanks")
    narrow.page.fill("textarea", "来得太晚")
    narrow.page.click(".btn.first")
    narrow.page.wait_for_selector("blockquote:has-text('来得太晚')")
    look("answered", f"{home}/1/how")
    assert wide.complaints + narrow.complaints == []
    assert wide.asked_elsewhere + narrow.asked_elsewhere == []


def test_without_scripts_everything_can_be_said(company: World, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, java_script_enabled=False)
    visit = Visit(company, context)
    page = visit.open(f"{link_of(company, 2)}?lang=en")
    page.locator("summary").first.click()
    page.fill("textarea", "It smokes")
    page.get_by_role("button", name="Report it").click()
    assert "Your report has arrived" in page.locator("[role=status]").first.inner_text()
    page.get_by_role("link", name="Follow what happens").first.click()
    assert page.locator(".stages li.now").count() == 1
    assert page.locator("[aria-current=step]").count() == 1
    context.close()
