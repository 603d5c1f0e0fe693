"""Each role does its main job from start to end, on the real program beside the simulated fleet: a machine will not
start; the dispatcher sees it and sends somebody; the technician takes it, drives and repairs it by phone; the customer
follows it by the link in the message, and says how it was; the manager finds all that in the figures."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, BrowserContext, Page, expect

from monitor.store import schema
from monitor.store.access import Role, create_login_link
from monitor.store.database import open_database
from monitor.store.registry import Registry
from tests.browsing import NARROW, WIDE
from tests.e2e.service import BareDevice, Service, now_ms
from tests.e2e.test_first_light import impatient_generator
from tests.patience import until

CUSTOMER = "site@lindqvist.example"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("home") / "var"
    impatient_generator(home)
    with Service(home, FETTLE_LANG="en") as running:
        people = Registry(database := open_database(f"sqlite:///{home / 'fettle.db'}"))
        for name, role in (("Ada", "technician"), ("Olu", "ops"), ("Mia", "manager")):
            people.add_person(
                name, role, f"{name.lower()}@example.com", phone="", lang="en", customer=None, now=now_ms()
            )
        database.close()
        yield running


def come_in(service: Service, context: BrowserContext, name: str) -> Page:
    """The link is made here and not by the command line, which a test of its own has, for it is soon read."""
    database = open_database(f"sqlite:///{service.home / 'fettle.db'}")
    with database.begin() as connection:
        of = sa.select(schema.person.c.id, schema.person.c.role).where(schema.person.c.name == name)
        person = connection.execute(of).one()
        secret = create_login_link(connection, Role(person.role), now_ms(), person_id=person.id)
    database.close()
    page = context.new_page()
    page.goto(f"{service.url}/sign-in/{secret}")
    page.click("main button")
    page.wait_for_url(lambda url: "/sign-in" not in url)
    return page


def fails_to_start(machine: BareDevice) -> None:
    """Somebody turns the key, and nothing happens."""
    machine.tell({"battery_voltage_v": 12.6}, state="stopped")
    machine.event("start_requested")
    for _ in range(3):
        machine.tell({"battery_voltage_v": 9.6}, state="cranking")


def told(service: Service, address: str) -> str:
    """The link in the newest message to somebody."""
    lines = (service.home / "notices.log").read_text().splitlines() if (service.home / "notices.log").exists() else []
    texts = [line for line in lines if address in line]
    found = re.findall(r"https?://[^\s\"\\]+/c/[^\s\"\\]+", " ".join(texts))
    return found[-1] if found else ""


def test_from_a_machine_that_will_not_start_to_a_customer_who_says_how_it_was(
    service: Service, browser: Browser
) -> None:  # fmt: skip
    machine = service.add_device("GX-0417", "impatient_generator")
    service.run("rental", "add", "GX-0417", "--customer", "Lindqvist Bau", "--email", CUSTOMER, "--lang", "en")
    machine.connect()
    desk, phone = browser.new_context(viewport=WIDE), browser.new_context(viewport=NARROW, has_touch=True)
    hers = browser.new_context(viewport=NARROW)

    # The dispatcher has the fleet open, and does nothing.
    office = come_in(service, desk, "Olu")
    expect(office.locator("h1")).to_contain_text("in good order")
    fails_to_start(machine)
    row = office.locator("#pressing tr", has_text="GX-0417")
    expect(row).to_contain_text("Does not start")
    row.get_by_role("link", name="Does not start").click()
    expect(office.locator("#clocks")).to_contain_text("Technician")

    # They send somebody.
    ticket_id = int(office.url.rpartition("/")[2])
    office.goto(f"{service.url}/tickets/{ticket_id}/dispatch")
    office.select_option("select[name=technician_id]", label="Ada")
    office.get_by_role("button", name="Send technician").click()
    expect(office.locator("h1")).to_contain_text("Ada")

    # The technician has a phone in one hand.
    job = come_in(service, phone, "Ada")
    assert job.url.endswith("/job")
    expect(job.locator("h1")).to_contain_text("Does not start")
    for says in ("I take it", "I am on my way", "I have arrived", "Repair begins"):
        job.locator("#bar").get_by_role("button", name=says).tap()
    expect(job.locator("#bar")).to_contain_text("It is repaired")
    job.select_option("select[name=cause]", "battery")
    job.select_option("select[name=action]", "part_replaced")
    job.locator("input[name=borne_by][value=wear]").check()
    job.locator("input[name=parts_said]").first.check()
    job.locator("#bar").get_by_role("button", name="It is repaired").tap()
    until(lambda: service.get(f"tickets/{ticket_id}")["status"] == "resolved", "it is repaired")

    # The customer opens the link of the message that came before they called.
    link = until(lambda: told(service, CUSTOMER), "the customer has a link")
    page = hers.new_page()
    page.goto(link)
    expect(page.locator("main")).to_contain_text("GX-0417")
    page.get_by_role("button", name="Satisfied", exact=True).first.click()
    expect(page.locator("main")).to_contain_text("Thank you")

    # The office knows it; so does the manager.
    office.goto(f"{service.url}/tickets/{ticket_id}")
    expect(office.locator("h1")).to_contain_text("resolved")
    expect(office.locator("#satisfaction")).to_contain_text("Satisfied")
    said = service.get("satisfaction")
    assert (said["asked"], said["answered"]) == (1, 1)
    manager = come_in(service, desk, "Mia")
    manager.goto(f"{service.url}/reliability")
    expect(manager.locator("h1")).to_be_visible()
    for context in (desk, phone, hers):
        context.close()
    machine.disconnect()


def test_beside_the_simulated_fleet_the_pages_are_live(browser: Browser, tmp_path: Path) -> None:
    """`fettle up --sim`: machines that nobody added by hand report, and their values move on the page by themselves."""
    running = Service(tmp_path / "sim", FETTLE_LANG="en").start("--sim", "3")
    try:
        context = browser.new_context(viewport=WIDE)
        page = context.new_page()
        link = re.search(r"http://\S+/sign-in/\S+", running.log.read_text())
        assert link, "fettle up says how to come in"
        page.goto(link[0])
        page.click("main button")
        expect(page.locator("h1")).to_contain_text("machines on hire are in good order")
        page.locator(".square").first.click()
        values = page.locator("#values tbody")
        expect(values).to_contain_text("°C")
        before = values.inner_text()
        until(lambda: values.inner_text() != before, "the values move by themselves")
        context.close()
    finally:
        running.kill()
