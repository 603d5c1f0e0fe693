"""The pages of upkeep in a real browser: the plan, an order on a tablet, inspections, the draw, a file, the report."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from monitor.engine.spot_checking import SpotChecking
from monitor.store.access import Role
from tests.api_world import DAY, World, furnish, world
from tests.browsing import NARROW, WANTED, WIDE, Visit, pictures_in
from tests.inspecting import answers, inspect
from tests.test_pages_customers import signed_in

TANG = 1
TABLET = {"width": 820, "height": 1180}
"""Pictures take time, and are for those who ask for them."""


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    # In November, so that the month has its draw.
    with world(tmp_path_factory.mktemp("upkeep"), at=1_795_000_000_000) as company:
        furnish(company, readings=False)
        with company.at_once():
            for n in range(4):
                company.machine(f"late-{n}", site_id=1 + n % 2, added_at=company.began - (80 + 8 * n) * DAY)
        company.api.desk.upkeep.tick(company.began)
        SpotChecking(company.database, "Europe/Berlin").tick(company.began)
        with signed_in(company, Role.TECHNICIAN, TANG) as tang:
            wrong = answers("diesel_generator", "spot_check", outside={"says": "fail", "reason": "dented"})
            assert inspect(tang, "gen-a", "spot_check", items=wrong).status_code == 201
        yield company


PATHS = (
    "/maintenance", "/maintenance/1", "/inspections", "/inspections/1", "/inspections/new?device_id=gen-b",
    "/spot-checks", "/machines/gen-a/file", "/reports/2026-11", "/reports/2026-11/rows/E2",
)  # fmt: skip


@pytest.mark.parametrize(("size", "scheme", "lang"), [(NARROW, "dark", "zh")], ids=["zh"])
def test_every_page_fits_and_nothing_complains(
    company: World, browser: Browser, tmp_path_factory: pytest.TempPathFactory, size: dict[str, int], scheme: str,
    lang: str,
) -> None:  # fmt: skip
    pictures: Path = pictures_in(tmp_path_factory.mktemp("pictures"))
    context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    visit = Visit(company, context).sign_in(Role.OPS, lang=lang)
    for path in PATHS:
        page = visit.open(path)
        name = path.strip("/").replace("/", "-").partition("?")[0]
        if WANTED:
            page.screenshot(path=pictures / f"upkeep-{name}-{lang}.png", full_page=True)
        assert visit.sideways_px() == 0, path
        assert visit.barriers() == [], path
        assert page.locator("h1").count() == 1, path
        assert page.locator(".btn.first:visible").count() <= 1, path
        if size is NARROW:
            assert visit.too_small() == [], path
    assert visit.complaints == []
    assert visit.asked_elsewhere == []
    context.close()


def test_a_trip_is_given_and_its_order_done_on_a_tablet(company: World, browser: Browser) -> None:
    desk = Visit(company, browser.new_context(viewport=WIDE)).sign_in(Role.OPS)  # type: ignore[arg-type]
    page = desk.open("/maintenance?site=1&state=due_soon")
    page.locator(".give summary").first.click()
    page.select_option(".give select", label="Tang")
    page.get_by_role("button", name="Give it to them").first.click()
    page.wait_for_url("**/maintenance")
    tablet = Visit(company, browser.new_context(viewport=TABLET)).sign_in(Role.TECHNICIAN, TANG)  # type: ignore[arg-type]
    page = tablet.open("/maintenance?mine=true")
    assert tablet.sideways_px() == 0
    page.locator(".jobs a.what").first.click()
    assert tablet.sideways_px() == 0
    for item in page.locator(".says").all():
        item.locator("label").first.click()
    page.get_by_role("button", name="It is done").click()
    page.wait_for_selector(".facts dd:has-text('done')")
    assert page.locator("form[action$='/done']").count() == 0
    assert desk.complaints + tablet.complaints == []
    for visit in (desk, tablet):
        visit.context.close()
