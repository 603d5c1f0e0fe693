"""A real browser (Debian's Chromium) before the pages: who visits, what the console said, what axe found.

Pictures go to a temporary folder, or to FETTLE_SCREENSHOTS where that is set.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

from monitor.store.access import Role
from tests.api_world import World
from tests.patience import PATIENCE_S
from tests.programs import needs

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WANTED = "FETTLE_SCREENSHOTS" in os.environ
"""Pictures cost time, and are taken only where somebody wants to look at them."""
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SMALL = """() => [...document.querySelectorAll("main :is(a, button, select, summary), header :is(a, summary)")]
    .filter((one) => one.getClientRects().length && one.getBoundingClientRect().height < 43.5)
    .map((one) => one.outerHTML.slice(0, 100))"""
"""What is too small for a thumb."""


@contextmanager
def chromium() -> Iterator[Browser]:
    found = needs("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


def pictures_in(folder: Path) -> Path:
    """Where pictures go: to the folder that was asked for, else to this one."""
    wanted = Path(os.environ.get("FETTLE_SCREENSHOTS") or folder)
    wanted.mkdir(parents=True, exist_ok=True)
    return wanted


class Visit:
    """Somebody's own browser, which remembers what its console complained of and what it asked of other machines."""

    def __init__(self, company: World, context: BrowserContext) -> None:
        self.company = company
        self.context = context
        context.set_default_timeout(1000 * PATIENCE_S)
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.asked_elsewhere: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)

    def _asked(self, request: Request) -> None:
        if urlsplit(request.url).netloc not in (urlsplit(self.company.url).netloc, ""):
            self.asked_elsewhere.append(request.url)

    def sign_in(self, role: Role = Role.OPS, person_id: int | None = None, lang: str = "en") -> "Visit":
        self.page.goto(f"{self.company.url}/sign-in/{self.company.link(role, person_id)}?lang={lang}")
        self.page.click("main button")
        self.page.wait_for_url(lambda url: "/sign-in" not in url)
        return self

    def open(self, path: str) -> Page:
        self.page.goto(self.company.url + path)
        return self.page

    # --- what is wrong with what they see ---

    def sideways_px(self) -> int:
        """By how much the page would have to be moved sideways."""
        moved: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )  # fmt: skip
        return max(moved, 0)

    def too_small(self) -> list[str]:
        found: list[str] = self.page.evaluate(SMALL)
        return found

    def barriers(self, rules: Sequence[str] = RULES) -> list[str]:
        """What axe finds: the rule, and the first place that breaks it."""
        found = Axe().run(self.page, options={"runOnly": list(rules), "resultTypes": ["violations"]})
        return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found.response["violations"]]
