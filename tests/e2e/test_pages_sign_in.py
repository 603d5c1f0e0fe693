"""Signing in and one's own account in a real browser: the way in by every door, and nothing that keeps anybody out."""

from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Browser

from monitor.store import schema
from monitor.store.access import Role
from tests.api_world import DAY, World, world
from tests.browsing import NARROW, Visit, pictures_in

PASSWORD = "umbrella seven lantern"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("sign-in")) as company:
        yield company


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures_in(tmp_path_factory.mktemp("pictures"))


def somebody(company: World, name: str, lang: str) -> int:
    """A technician who is reached in three ways, one of which does not work."""
    facts = {"role": "technician", "email": f"{name.lower()}@example.com", "phone": "+86 138 0000", "lang": lang}
    person_id = company.insert(
        schema.person, name=name, **facts, added_at=company.began, timezone="Asia/Shanghai"
    )  # fmt: skip
    ways = (
        ("dingtalk", "night-shift", None), ("sms", "+8613800000000", company.began - DAY),
        ("email", "x@example.com", None),
    )  # fmt: skip
    for place, (channel, address, bounced) in enumerate(ways):
        company.insert(
            schema.contact, person_id=person_id, channel=channel, address=address, position=place, bounced_at=bounced,
            bounce="", quiet_from_minute=22 * 60 if channel == "email" else 0,
            quiet_until_minute=390 if channel == "email" else 0,
        )  # fmt: skip
    return person_id


BEYOND = """() => [...document.querySelectorAll("main input:not([type=hidden]), main select, main .btn")]
    .filter((one) => one.getBoundingClientRect().right > document.querySelector("main").getBoundingClientRect().right)
    .map((one) => one.outerHTML.slice(0, 80))"""
"""What sticks out of the page to the right."""


LONG = ("form", "account-new", "second-factor", "codes", "account")


class Looking:
    """What is wrong with each page that somebody passes, and its picture."""

    def __init__(self, visit: Visit, pictures: Path, name: str, *, narrow: bool) -> None:
        self.visit, self.pictures, self.name, self.narrow = visit, pictures, name, narrow

    def look(self, what: str) -> None:
        page = self.visit.page
        page.screenshot(path=self.pictures / f"sign-in-{what}-{self.name}.png", full_page=True)
        assert self.visit.sideways_px() == 0, what
        # The short ones are made of the same parts: looked at once is enough.
        assert not (self.narrow or what in LONG) or self.visit.barriers() == [], what
        assert page.locator("main .btn.first:visible").count() <= 1, what
        assert page.evaluate(BEYOND) == [], what
        if self.narrow:
            assert self.visit.too_small() == [], what


@pytest.mark.parametrize(("lang", "scheme", "size"), [("zh", "dark", NARROW)], ids=["zh-dark-narrow"])
def test_from_a_mailed_link_to_a_password_and_a_second_factor(
    company: World, browser: Browser, pictures: Path, lang: str, scheme: str, size: dict[str, int]
) -> None:
    name = {"en": "Weber", "zh": "Tang"}[lang]
    person_id = somebody(company, name, lang)
    context = browser.new_context(viewport=size, color_scheme=scheme, locale={"en": "en-GB", "zh": "zh-CN"}[lang])  # type: ignore[arg-type]
    here = Visit(company, context)
    looking = Looking(here, pictures, f"{lang}-{scheme}-{size['width']}", narrow=size is NARROW)
    page = here.open("/sign-in")
    looking.look("form")
    page.fill("[name=email]", f"{name.lower()}@example.com")
    page.click("[formaction='/sign-in/link']")
    looking.look("sent")
    here.open(f"/sign-in/{company.link(Role.TECHNICIAN, person_id)}")
    looking.look("link")
    page.click("main button")
    here.open("/account")
    looking.look("account-new")
    page.fill("[name=password]", PASSWORD)
    page.click("[action='/account/password'] button")
    page.wait_for_url("**/account?told=password")
    page.fill("[action='/account/second-factor'] [name=present]", PASSWORD)
    page.click("[action='/account/second-factor'] button")
    looking.look("second-factor")
    app = pyotp.TOTP(page.locator("main code").inner_text().replace(" ", ""))
    assert page.evaluate("document.querySelector('.scan img').naturalWidth") > 100
    page.fill("[name=code]", app.now())
    page.click("[action='/account/second-factor/confirm'] button")
    looking.look("codes")
    codes = page.locator(".codes code").all_inner_texts()
    here.open("/account")
    looking.look("account")
    page.click("footer form button")
    page.fill("[name=email]", f"{name.lower()}@example.com")
    page.fill("[name=password]", "not that one")
    page.press("[name=password]", "Enter")
    page.wait_for_selector("#told")
    looking.look("wrong")
    page.fill("[name=password]", PASSWORD)
    page.press("[name=password]", "Enter")
    page.wait_for_selector("[name=code]")
    looking.look("code")
    page.fill("[name=code]", codes[0])
    page.press("[name=code]", "Enter")
    page.wait_for_url(lambda url: "/sign-in" not in url)
    assert [text for text in here.complaints if "403" not in text] == []
    assert here.asked_elsewhere == []
    context.close()


def test_a_built_in_account_s_page_and_360_pixels(company: World, browser: Browser, pictures: Path) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740})
    here = Visit(company, context).sign_in()
    looking = Looking(here, pictures, "en-light-360", narrow=True)
    for what, path in (("nobody", "/account"), ("nothing", "/account/second-factor")):
        here.open(path)
        looking.look(what)
    context.close()
