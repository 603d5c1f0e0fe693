"""Settings, rentals, rejected messages and reliability in a real browser: nobody is kept out, and every page can be
filled in by hand."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from monitor.desk.rota import Rotation
from monitor.notify.message import Message
from monitor.notify.outbox import Outbox
from monitor.store import schema
from monitor.store.access import Role
from monitor.store.people import Certified, People, Reached
from tests.api_world import DAY, HOUR, World, furnish, world
from tests.browsing import NARROW, WIDE, Visit, pictures_in

TANG, WEBER, OLGA = 1, 2, 3
PAGES = {
    "overview": "/settings", "people": "/settings/people", "person": f"/settings/people/{OLGA}",
    "rotations": "/settings/rotations", "sites": "/settings/sites", "site": "/settings/sites/2",
    "models": "/settings/models", "model": "/settings/models/diesel_generator", "standard": "/settings/standard",
    "notices": "/settings/notices", "customers": "/settings/customers", "customer": "/settings/customers/1",
    "rentals": "/rentals", "rental": "/rentals/1", "rental-new": "/rentals/new", "rejected": "/rejected",
    "reliability": "/reliability",
}  # fmt: skip
LIKE_OTHERS = ("site", "models", "customers", "rentals", "rental-new")
LIKE_OTHERS_ON_A_PHONE = ("people", "sites", "model", "standard", "customer")
"""Made of what others are made of: looked at where pictures are asked for."""
"""Pictures take as long as everything else together."""


def set_up(company: World) -> None:
    """A rota, certificates, contacts that work and one that does not, and what came in broken."""
    began, people = company.began, People(company.database, "test")
    people.certify(
        TANG, [Certified("diesel_generator", began, began + 12 * DAY), Certified("water_pump", began)], began
    )
    people.set_contacts(OLGA, [Reached("sms", "+491700000000", 1320, 360), Reached("email", "olga@example.com")], began)
    people.set_contacts(WEBER, [Reached("dingtalk", "depot")], began)
    rotation = Rotation(0, "Europe/Berlin", (TANG, WEBER), 168, 0, 480, began - 3 * DAY)
    people.override(people.add_rotation("Nights and weekends", rotation, began), OLGA, began + DAY,
                    began + DAY + 12 * HOUR, began)  # fmt: skip
    with company.at_once():
        for name, rooms in (("email", []), ("dingtalk", ["depot", "night"])):
            company.insert(schema.notice_channel, name=name, carrier=name, rooms=rooms, since_at=began)
        for n, reason in enumerate(("unknown_device", "clock_ahead", "clock_ahead", "bad_value")):
            company.insert(
                schema.rejected, received_at=began - n * HOUR, device_id="gen-b" if n else "", reason=reason,
                topic="fettle/v1/00/gen-b/telemetry", detail="at = 1 lies more than 5 min ahead", payload_bytes=60,
                payload=b'{"boot": 1, "values": {"<b>coolant</b>": NaN}}',
            )  # fmt: skip
        for n in range(14):
            kind, subject = (("limit", "coolant_temp_c"), ("startup_failure", ""), ("limit", "oil_pressure_bar"))[
                n % 5 % 3
            ]
            at = began - (n + 3) * 9 * DAY
            company.insert(
                schema.ticket, device_id=("gen-a", "gen-b", "gen-yard")[n % 3], kind=kind, subject=subject,
                severity="urgent", status="closed", opened_at=at, occurred_at=at, resolved_at=at + (n % 4 + 1) * HOUR,
                closed_at=at + DAY, resolution_cause=("wear", "fuel", "wear", "electrical")[n % 4], evidence={},
                standard_version="test",
            )  # fmt: skip
        company.machine("gen-next", site_id=1)
        company.hire("gen-next", 1, began - HOUR)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("settings")) as company:
        furnish(company, readings=False)
        set_up(company)
        yield company


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures_in(tmp_path_factory.mktemp("pictures"))


class Wire:
    """A way out that takes everything."""

    name = "email"

    def send(self, message: Message, now: int) -> None:
        """Nothing to do."""


def test_the_fate_of_a_test_shows_by_itself(company: World, browser: Browser) -> None:
    context = browser.new_context(viewport=WIDE)  # type: ignore[arg-type]
    visit = Visit(company, context).sign_in(Role.OPS, OLGA)
    page = visit.open("/settings/notices")
    page.get_by_role("button", name="To olga@example.com").click()
    page.wait_for_selector("#tests :text('queued'), #tests :text('waiting')")
    Outbox(company.database, {"email": Wire()}, random.Random(1)).deliver_due(company.now())
    page.wait_for_selector("#tests :text('sent')")
    assert visit.complaints == []
    context.close()


def test_contacts_without_scripts(company: World, browser: Browser) -> None:
    context = browser.new_context(viewport=NARROW, java_script_enabled=False)  # type: ignore[arg-type]
    visit = Visit(company, context).sign_in(Role.OPS, OLGA)
    page = visit.open(f"/settings/people/{WEBER}")
    page.get_by_text("Change the contacts").click()
    page.locator("select[name='channel.1']").select_option("email")
    page.locator("input[name='address.1']").fill("weber@example.com")
    page.get_by_role("button", name="Save the contacts").click()
    assert page.url.endswith(f"/settings/people/{WEBER}#contacts")
    assert "weber@example.com" in page.locator("#contacts ol").inner_text()
    context.close()
