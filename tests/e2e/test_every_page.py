"""Every page there is, by the routes of the app itself: it fits, says nothing to the console, asks no other machine for
anything, and axe finds no barrier; in English by day and in Chinese by night, on a desk and on a phone.

Pictures are left in the test's temporary folder, or in FETTLE_SCREENSHOTS where that is set.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from api.access import Allowed, declared, routes_of
from api.app import create_app
from monitor.engine.paging import ANSWER, LINK_LASTS_MS
from monitor.store import schema
from monitor.store.access import Role
from tests.api_world import HOUR, World, furnish, world
from tests.browsing import NARROW, WANTED, WIDE, Visit, pictures_in
from tests.e2e.test_page import bustle, hot_ticket, overheat
from tests.test_api_access import MATRIX
from tests.test_customer_pages import label_of, page_of, signer

NOT_PAGES = {"/openapi.json", "/sw.js", "/start"}
"""What a browser is answered that is no page: data, a script, a way on."""
PEOPLE = {Role.TECHNICIAN: 1, Role.OPS: 3, Role.CUSTOMER: 4}


@dataclass(frozen=True)
class Look:
    lang: str
    scheme: str
    size: dict[str, int]


LOOKS = [Look("en", "light", WIDE), Look("zh", "dark", NARROW)]
OTHER = {"light": "dark", "dark": "light"}
"""A page says the same in the other theme: only its colours are looked at there."""


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("pages")) as company:
        furnish(company)
        with company.at_once():
            bustle(company)
            furnish_pages(company)
        overheat(company)
        company.keep_books()
        yield company


def furnish_pages(company: World) -> None:
    """What the addresses of the role matrix name, and what fills a page."""
    company.insert(
        schema.maintenance_window, device_id="gen-yard", what="transport", starts_at=company.began,
        ends_at=company.began + HOUR, declared_by="person:3", declared_at=company.began,
    )  # fmt: skip
    company.insert(
        schema.work_order, kind="maintenance", device_id="gen-a", plan="service", title_en="Quarterly service",
        title_zh="季度保养", reason="by_hand", due_at=company.began - HOUR, opened_at=company.began - HOUR,
        opened_by="person:3", recorded_at=company.began - HOUR,
        checklist=[{"code": "oil", "title_en": "Oil changed", "title_zh": "更换机油"}],
    )  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures_in(tmp_path_factory.mktemp("pictures"))


def pages_of(company: World) -> list[tuple[str, Role]]:
    """An address of every page that needs a sign-in, with the role that looks at it: whose page it is first of all."""
    app = create_app(replace(company.api, registry=type(company.api.registry)()))
    addresses = {path: address for method, path, address, _ in MATRIX if method == "GET"}
    found = []
    for route in routes_of(app):
        who = declared(route)
        if route.include_in_schema or "GET" not in route.methods or not isinstance(who, Allowed):
            continue
        if route.path in NOT_PAGES or route.path.startswith("/api/"):
            continue
        role = next((role for role in (Role.OPS, Role.TECHNICIAN, Role.CUSTOMER) if role in who.roles), Role.MANAGER)
        found.append((addresses[route.path], role))
    # A ticket with drawings, and a record with a gap.
    return sorted([*found, (hot_ticket(company), Role.OPS), ("/machines/gen-yard", Role.OPS)])


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: f"{look.lang}-{look.scheme}-{look.size['width']}")
def test_every_page_is_fit_to_be_seen(company: World, browser: Browser, pictures: Path, look: Look) -> None:
    wrong: dict[str, object] = {}
    for role in (Role.OPS, Role.TECHNICIAN, Role.CUSTOMER, Role.MANAGER):
        context = browser.new_context(viewport=look.size, color_scheme=look.scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        visit = Visit(company, context).sign_in(role, PEOPLE.get(role), look.lang)
        for address, whose in pages_of(company):
            if whose is not role:
                continue
            found = seen(visit, address, look, pictures)
            if any(found.values()):
                wrong[f"{role} {address}"] = {what: how for what, how in found.items() if how}
        context.close()
    assert wrong == {}


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: f"{look.lang}-{look.scheme}-{look.size['width']}")
def test_what_a_link_opens_is_fit_to_be_seen(company: World, browser: Browser, pictures: Path, look: Look) -> None:
    context = browser.new_context(viewport=look.size, color_scheme=look.scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    visit = Visit(company, context)
    ours = page_of(company)
    answer = signer(company).sign(ANSWER, (1, 1), company.now() + LINK_LASTS_MS)
    addresses = {
        "customer": ours, "customer-notice": f"{ours}/1", "how": f"{ours}/1/how", "machine-label": label_of(company),
        "answer": f"/answer/{answer}", "sign-in": "/sign-in", "no-such-link": "/c/forged",
    }  # fmt: skip
    wrong = {
        name: {
            what: how for what, how in seen(visit, f"{address}?lang={look.lang}", look, pictures, name).items() if how
        }
        for name, address in addresses.items()
    }
    context.close()
    assert {name: found for name, found in wrong.items() if found} == {}


def seen(visit: Visit, address: str, look: Look, pictures: Path, name: str = "") -> dict[str, object]:
    """What is wrong with a page, by what it is."""
    visit.complaints.clear()
    page = visit.open(address)
    name = name or address.partition("?")[0].strip("/").replace("/", "-") or "fleet"
    if WANTED:
        page.screenshot(path=pictures / f"{name}-{look.lang}-{look.scheme}-{look.size['width']}.png", full_page=True)
    on_a_phone = look.size is NARROW
    filled = page.locator("main .btn.first:visible").count()
    # What is folded away is to be within reach too.
    page.evaluate("document.querySelectorAll('main details').forEach((fold) => { fold.open = true; })")
    barriers = visit.barriers()
    page.emulate_media(color_scheme=OTHER[look.scheme])  # type: ignore[arg-type]
    other = visit.barriers(["color-contrast"])
    page.emulate_media(color_scheme=look.scheme)  # type: ignore[arg-type]
    return {
        "sideways": visit.sideways_px(),
        "barriers": barriers,
        f"in {OTHER[look.scheme]}": other,
        "console": [one for one in visit.complaints if "404" not in one and "409" not in one],
        "elsewhere": visit.asked_elsewhere,
        "too small": visit.too_small() if on_a_phone else [],
        "filled buttons": filled if filled > 1 else 0,
        "headings": page.locator("h1").count() != 1,
        "language": page.get_attribute("html", "lang") != {"en": "en", "zh": "zh-Hans"}[look.lang],
    }
