"""A technician's phone in a real browser: a whole job with a dead spot in its middle, with and without scripts."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Error, Page

from api.pages import job
from monitor.store import schema
from monitor.store.access import Role
from tests.api_world import HOUR, MINUTE, World, furnish, wall_clock, world
from tests.browsing import NARROW, Visit, pictures_in
from tests.patience import until

TANG, WEBER = 1, 2
BEHIND_MS = 5 * HOUR
"""So far the phone's clock is behind the server's in all of these tests."""


class Company:
    """A company whose server's time a test may let pass."""

    def __init__(self, record: World) -> None:
        self.record = record
        self.passed_ms = 0
        record.now = self.now  # type: ignore[method-assign]

    def now(self) -> int:
        return wall_clock() + BEHIND_MS + self.passed_ms

    def rows(self, table: sa.Table, **where: object) -> list[Any]:
        with self.record.database.connect() as connection:
            clauses = [table.c[name] == value for name, value in where.items()]
            return list(connection.execute(sa.select(table).where(*clauses).order_by(table.c.id)))

    def status(self, ticket_id: int) -> str:
        status: str = self.rows(schema.ticket, id=ticket_id)[0].status
        return status

    def steps(self, ticket_id: int) -> list[Any]:
        return self.rows(schema.step, ticket_id=ticket_id)

    def job(self, status: str, technician_id: int | None = TANG) -> int:
        """A machine that does not start, in a technician's hands; what they had before is done."""
        c = schema.ticket.c
        with self.record.database.begin() as connection:
            connection.execute(sa.update(schema.ticket).where(c.technician_id.is_not(None)).values(status="cancelled"))
        number = len(self.rows(schema.ticket))
        self.record.machine(f"gx-{number}", site_id=1)
        return self.record.ticket(
            f"gx-{number}", "startup_failure", severity="emergency", status=status, technician_id=technician_id,
            ago_ms=30 * MINUTE, clocks=(("R9", "repair_start", 4 * HOUR),),
            evidence={"reason": "attempts", "attempts": 3, "battery_crank_low": 9.8, "fuel_last": 71.0},
        )  # fmt: skip


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    with world(tmp_path_factory.mktemp("job"), at=wall_clock() + BEHIND_MS) as record:
        furnish(record, readings=False)
        with record.at_once():
            record.insert(
                schema.ticket, device_id="gen-a", kind="startup_failure", subject="", severity="urgent",
                status="closed", opened_at=1, occurred_at=1, closed_at=2, resolved_at=2, resolution_cause="battery",
                resolution_action="part_replaced", borne_by="wear", parts=["Battery 180 Ah"], outcome="real",
                evidence={}, standard_version="test",
            )  # fmt: skip
        yield Company(record)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures_in(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def visit(company: Company, browser: Browser) -> Iterator[Callable[..., Visit]]:
    contexts = []

    def begin(lang: str = "en", person_id: int = TANG, **options: Any) -> Visit:
        contexts.append(browser.new_context(**{"viewport": NARROW, **options}))
        return Visit(company.record, contexts[-1]).sign_in(Role.TECHNICIAN, person_id, lang=lang)

    yield begin
    for context in contexts:
        context.close()


def tap(page: Page, said: str) -> None:
    page.locator("#bar .first", has_text=said).locator("visible=true").click()


def says(page: Page, said: str) -> None:
    """The bar's button says this, before long."""
    page.locator("#bar .first", has_text=said).locator("visible=true").wait_for()


def kept(page: Page) -> list[dict[str, Any]]:
    """What the phone keeps."""
    found: list[dict[str, Any]] = page.evaluate("""() => new Promise((resolve) => {
        const opening = indexedDB.open("fettle", 1);
        opening.onsuccess = () => {
            const all = opening.result.transaction("step").objectStore("step").getAll();
            all.onsuccess = () => resolve(all.result);
        };
    })""")
    return found


def keep_again(page: Page, steps: list[dict[str, Any]]) -> None:
    page.evaluate(
        """(steps) => new Promise((resolve) => {
        const opening = indexedDB.open("fettle", 1);
        opening.onsuccess = () => {
            const writing = opening.result.transaction("step", "readwrite");
            for (const step of steps) writing.objectStore("step").put(step);
            writing.oncomplete = () => resolve();
        };
    })""",
        steps,
    )


def all_sent(page: Page) -> bool:
    try:
        return kept(page) == []
    except Error:
        # The page is just drawn anew.
        return False


def cached(page: Page) -> list[str]:
    found: list[str] = page.evaluate("""async () => {
        const all = [];
        for (const name of await caches.keys()) {
            for (const one of await (await caches.open(name)).keys()) all.push(new URL(one.url).pathname);
        }
        return all;
    }""")
    return sorted(found)


def jobs_kept(page: Page) -> list[str]:
    """What the worker keeps beside files."""
    return [path for path in cached(page) if not path.startswith("/static/")]


def age(page: Page, hours: float) -> None:
    """What the worker keeps is older by so many hours."""
    page.evaluate(
        """async (ms) => {
        const jobs = await caches.open("fettle-jobs-1");
        for (const path of await jobs.keys()) {
            const kept = await jobs.match(path);
            const headers = new Headers(kept.headers);
            headers.set("X-Fettle-Kept-At", String(Number(headers.get("X-Fettle-Kept-At")) - ms));
            await jobs.put(path, new Response(await kept.text(), { headers }));
        }
    }""",
        hours * HOUR,
    )


def ready(page: Page) -> None:
    """The worker is at work."""
    page.wait_for_selector("#job[data-worker=ready]")


def resolve(page: Page) -> None:
    page.select_option("select[name=cause]", "battery")
    page.select_option("select[name=action]", "part_replaced")
    page.locator("input[name=borne_by][value=wear]").check()
    page.locator("input[name=parts_said][value=some]").check()
    page.locator("input[name=part]").first.check()
    page.fill("textarea[name=parts]", "Clamp\n\n M8  bolt")
    tap(page, "It is repaired")


def test_a_job_goes_on_in_a_dead_spot_and_is_sent_once(
    company: Company, visit: Callable[..., Visit], pictures: Path
) -> None:  # fmt: skip
    ticket_id = company.job("dispatched")
    here = visit()
    page = here.page
    assert page.url.endswith("/job"), "a technician begins with their own job"
    ready(page)
    tap(page, "I take it")
    says(page, "I am on my way")
    until(lambda: company.status(ticket_id) == "accepted")
    page.wait_for_selector("h1:has-text('accepted')")
    tap(page, "I am on my way")
    says(page, "I have arrived")
    page.wait_for_selector("h1:has-text('on the way')")

    here.context.set_offline(True)
    gone_at = company.now()
    tap(page, "I have arrived")
    says(page, "Repair begins")
    assert page.locator(".no-signal").inner_text().startswith("No signal. Your steps are kept")
    page.screenshot(path=pictures / "job-no-signal-en-light-390.png")
    tap(page, "Repair begins")
    says(page, "It is repaired")
    page.reload()
    says(page, "It is repaired")
    assert page.get_attribute("body", "data-kept-at"), "the page is the one that the phone keeps"
    assert page.locator(".no-signal").is_visible()
    assert [one.split("\n")[0] for one in page.locator("#kept li").all_inner_texts()] == [
        "I have arrived", "Repair begins"
    ]  # fmt: skip
    resolve(page)
    page.locator("#kept li", has_text="It is repaired").wait_for()
    assert page.locator("#bar .first").locator("visible=true").count() == 0
    assert company.status(ticket_id) == "on_the_way", "nobody has heard anything yet"
    back_at, waiting = company.now(), kept(page)
    assert len(waiting) == 3

    company.passed_ms += 40 * MINUTE
    here.context.set_offline(False)
    until(lambda: company.status(ticket_id) == "resolved")
    page.locator("h1", has_text="No job for you now").wait_for()
    assert kept(page) == []
    taken = [step for step in company.steps(ticket_id) if step.recorded_at > back_at + 30 * MINUTE]
    assert [step.event for step in taken] == ["arrive", "start-repair", "resolve"]
    for step in taken:
        assert gone_at - 2_000 <= step.happened_at <= back_at + 2_000, "the moment of the tap, by the server's clock"
    (ticket,) = company.rows(schema.ticket, id=ticket_id)
    assert (ticket.resolution_cause, ticket.parts) == ("battery", ["Battery 180 Ah", "Clamp", "M8 bolt"])

    # The whole queue twice again, as a phone sends it that heard no answer.
    before = len(company.steps(ticket_id))
    keep_again(page, [{name: step[name] for name in step if name != "n"} for step in (*waiting, *waiting)])
    page.reload()
    until(lambda: all_sent(page))
    assert len(company.steps(ticket_id)) == before == 5
    refused = [text for text in here.complaints if "ERR_INTERNET_DISCONNECTED" not in text]
    assert refused == []
    assert here.asked_elsewhere == []


def test_whoever_was_slower_reads_why_and_puts_it_away(
    company: Company, visit: Callable[..., Visit], pictures: Path
) -> None:  # fmt: skip
    ticket_id = company.job("dispatched")
    here = visit()
    says(here.page, "I take it")
    here.context.set_offline(True)
    tap(here.page, "I take it")
    says(here.page, "I am on my way")
    with company.record.client("ops") as ops:
        ops.post(f"/api/v1/tickets/{ticket_id}/dispatch", json={"technician_id": WEBER})
        assert ops.post(f"/api/v1/tickets/{ticket_id}/accept").status_code == 200
    here.context.set_offline(False)
    line = here.page.locator("#kept li.refused")
    line.wait_for()
    assert "not taken: Somebody was faster: Weber has the job." in line.inner_text()
    here.page.screenshot(path=pictures / "job-refused-en-light-390.png")
    assert here.barriers() == []
    line.get_by_role("button", name="Dismiss").click()
    here.page.locator("#kept").wait_for(state="hidden")
    assert kept(here.page) == []


def test_a_session_that_ended_keeps_the_steps_until_they_sign_in_again(
    company: Company, visit: Callable[..., Visit], pictures: Path
) -> None:  # fmt: skip
    ticket_id = company.job("accepted")
    here = visit()
    page = here.page
    ready(page)
    with company.record.database.begin() as connection:
        connection.execute(sa.update(schema.session).values(ended_at=company.now()))
    tapped_at = company.now()
    tap(page, "I am on my way")
    page.locator(".sign-in-again").wait_for()
    until(lambda: not jobs_kept(page))
    page.screenshot(path=pictures / "job-sign-in-again-en-light-390.png")
    assert company.status(ticket_id) == "accepted"
    company.passed_ms += 3 * MINUTE
    # Another technician signs in on the same phone: what is kept is neither shown to them nor sent for them.
    here.sign_in(Role.TECHNICIAN, WEBER)
    page.locator("h1", has_text="No job for you now").wait_for()
    ready(page)
    assert page.locator("#kept li").count() == 0
    assert (company.status(ticket_id), len(kept(page))) == ("accepted", 1)
    here.sign_in(Role.TECHNICIAN, TANG)
    until(lambda: company.status(ticket_id) == "on_the_way")
    (step,) = company.steps(ticket_id)
    assert (step.actor, abs(step.happened_at - tapped_at) < 2_000) == (f"person:{TANG}", True)


def test_nothing_but_the_job_is_kept_and_signing_out_takes_it_along(
    company: Company, visit: Callable[..., Visit]
) -> None:  # fmt: skip
    ticket_id = company.job("accepted")
    here = visit()
    page = here.page
    ready(page)
    for path in ("/", "/tickets", f"/tickets/{ticket_id}", "/machines", "/job"):
        here.open(path)
    ready(page)
    assert jobs_kept(page) == ["/job"]
    tap(page, "I am on my way")
    page.wait_for_selector("h1:has-text('on the way')")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    until(lambda: not jobs_kept(page))
    assert kept(page) == []
    here.context.set_offline(True)
    with pytest.raises(Error, match="ERR_"):
        here.open("/job")


def test_a_new_worker_takes_neither_the_job_nor_a_step_that_waits(
    company: Company, visit: Callable[..., Visit], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    ticket_id = company.job("accepted")
    here = visit()
    page = here.page
    ready(page)
    # The server takes no steps while it is made anew, as with any new version of it.
    page.route("**/api/v1/**", lambda route: route.abort())
    tap(page, "I am on my way")
    says(page, "I have arrived")
    (waiting,) = kept(page)
    files = page.evaluate("caches.keys()")
    later = re.sub(r'"[0-9a-f]{16}"', '"later"', job.worker_text())
    monkeypatch.setattr(job, "_worker", lambda: later)
    page.evaluate("navigator.serviceWorker.getRegistration().then((there) => there.update())")
    until(lambda: page.evaluate("caches.keys()") != files)
    until(lambda: len(page.evaluate("caches.keys()")) == 2)
    assert any("later" in name for name in page.evaluate("caches.keys()")), "another worker is at work"
    here.context.set_offline(True)
    page.reload()
    says(page, "I have arrived")
    assert page.get_attribute("body", "data-kept-at"), "the page is the one that the phone kept before"
    assert [one["key"] for one in kept(page)] == [waiting["key"]]
    page.unroute("**/api/v1/**")
    here.context.set_offline(False)
    until(lambda: company.status(ticket_id) == "on_the_way")


def test_a_job_page_is_kept_for_twelve_hours(company: Company, visit: Callable[..., Visit]) -> None:
    company.job("accepted")
    here = visit()
    page = here.page
    ready(page)
    age(page, 11.9)
    here.context.set_offline(True)
    page.reload()
    says(page, "I am on my way")
    age(page, 0.2)
    with pytest.raises(Error, match="ERR_"):
        here.open("/job")
    here.context.set_offline(False)
    here.open("/sign-in")
    assert jobs_kept(page) == []


def test_who_is_asked_sees_it_on_the_phone_that_shows_another_job(
    company: Company, visit: Callable[..., Visit]
) -> None:  # fmt: skip
    company.job("accepted")
    here = visit()
    # Only what the stream tells leads to another look.
    here.page.add_init_script(
        "document.addEventListener('readystatechange', () => { document.body.dataset.refreshS = '86400'; })"
    )
    page = here.open("/job")
    with page.expect_response("**/api/v1/stream"):
        page.reload()
    assert page.locator("#offered").is_hidden()
    record = company.record
    record.machine("gx-asked", site_id=1)
    ticket_id = record.ticket("gx-asked", "limit", "oil_pressure_bar", status="dispatched", technician_id=TANG)
    record.insert(schema.change, at=company.now(), what="asked", device_id="gx-asked", ticket_id=ticket_id)
    page.locator("#offered").wait_for(timeout=60_000)


def test_without_scripts_the_forms_do_the_same(company: Company, visit: Callable[..., Visit]) -> None:
    ticket_id = company.job("dispatched")
    page = visit(java_script_enabled=False).page
    for said in ("I take it", "I am on my way", "I have arrived", "Repair begins"):
        tap(page, said)
    resolve(page)
    assert "No job for you now" in page.locator("h1").inner_text()
    assert company.status(ticket_id) == "resolved"


def test_who_cannot_go_says_why_with_a_thumb(company: Company, visit: Callable[..., Visit]) -> None:
    ticket_id = company.job("accepted")
    page = visit().page
    assert page.locator("#cannot").is_hidden()
    page.get_by_role("link", name="I cannot").click()
    page.get_by_label("I have not the tools or the parts").check()
    page.get_by_role("button", name="Give the job back").click()
    until(lambda: company.status(ticket_id) == "verified")
    assert company.steps(ticket_id)[-1].note == "I have not the tools or the parts"


@pytest.mark.parametrize(("size", "scheme", "lang"), [(NARROW, "dark", "zh")], ids=["narrow-dark-zh"])
def test_the_page_fits_and_nothing_complains(
    company: Company, visit: Callable[..., Visit], pictures: Path, size: dict[str, int], scheme: str, lang: str
) -> None:
    company.job("repairing")
    here = visit(lang, viewport=size, color_scheme=scheme)
    page = here.page
    here.open("/job#cannot")
    page.locator("input[name=parts_said][value=some]").check()
    page.screenshot(path=pictures / f"job-{lang}-{scheme}-{size['width']}.png", full_page=True)
    assert here.barriers() == []
    assert here.sideways_px() == 0
    words = page.evaluate("""() => [...document.querySelectorAll("main :is(h2, dt, legend, label, .btn, small)")]
        .map((one) => one.textContent.trim())""")
    english = [word for word in words if re.search("[A-Za-z]{4}", word)]
    assert lang == "en" or set(english) <= {"Battery 180 Ah", "Clamp", "M8 bolt"}, json.dumps(english)
    page.set_viewport_size({"width": 360, "height": 740})
    assert here.sideways_px() == 0
    assert here.too_small() == []
    company.job("verified", None)
    here.open("/job")
    assert here.barriers() == []
    assert here.complaints == []
