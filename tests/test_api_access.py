"""Who may see and do what, through the real server: roles, customers, sign-in, other sites' pages, guessing."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from fastapi import APIRouter, FastAPI

from api.access import Allowed, Everybody, Guesses, check_declared, declared, routes_of
from api.app import create_app
from api.shapes import rfc3339
from monitor.store import schema
from monitor.store.access import Role
from tests.api_world import DAY, HOUR, World, furnish, world

# A signed link is its own proof of who asks (docs/adr/0018-links.md): /c/… and /m/…
OPEN_TO_ALL = {
    "/healthz",
    "/readyz",
    "/metrics",
    "/sign-in",
    "/sign-in/{secret}",
    "/sign-in/password",
    "/sign-in/link",
    "/sign-in/code",
    "/c/{token}",
    "/c/{token}/{ticket_id}",
    "/c/{token}/{ticket_id}/how",
    "/m/{token}",
    "/answer/{token}",
    "/calendar/{token}.ics",
    # the worker of a technician's phone: code, and nobody's data
    "/sw.js",
}

ALL = set(Role)
OFFICE = {Role.OPS, Role.SERVICE, Role.ADMIN, Role.MANAGER}
STAFF = OFFICE | {Role.TECHNICIAN}
OPS = {Role.OPS, Role.ADMIN}
CHIEFS = OPS | {Role.MANAGER}
ERASERS = {Role.MANAGER, Role.ADMIN}
DESK = {Role.OPS, Role.SERVICE, Role.ADMIN}
DOERS = {Role.OPS, Role.SERVICE, Role.ADMIN, Role.TECHNICIAN}

# Every route that needs a sign-in, with an address of it and the roles it is open to.
MATRIX: list[tuple[str, str, str, set[Role]]] = [
    ("GET", "/api/v1/fleet/health", "/api/v1/fleet/health", ALL),
    ("GET", "/api/v1/devices", "/api/v1/devices", ALL),
    ("GET", "/api/v1/devices/{device_id}", "/api/v1/devices/gen-a", ALL),
    ("GET", "/api/v1/devices/{device_id}/telemetry", "/api/v1/devices/gen-a/telemetry?metric=coolant_temp_c", ALL),
    ("GET", "/api/v1/profiles/{name}", "/api/v1/profiles/diesel_generator", ALL),
    ("GET", "/api/v1/tickets", "/api/v1/tickets", ALL),
    ("GET", "/api/v1/tickets/counts", "/api/v1/tickets/counts", ALL),
    ("GET", "/api/v1/tickets/{ticket_id}", "/api/v1/tickets/1", ALL),
    ("GET", "/api/v1/tickets/{ticket_id}/commitments", "/api/v1/tickets/1/commitments", ALL),
    ("POST", "/api/v1/tickets", "/api/v1/tickets", DOERS),
    ("POST", "/api/v1/tickets/{ticket_id}/{verb}", "/api/v1/tickets/999/verify", DOERS),
    ("POST", "/api/v1/devices/{device_id}/diagnose", "/api/v1/devices/no-such/diagnose", DOERS),
    ("GET", "/api/v1/devices/{device_id}/commands", "/api/v1/devices/gen-a/commands", STAFF),
    ("POST", "/tickets/{ticket_id}/self-test", "/tickets/999/self-test", DOERS),
    ("POST", "/api/v1/backtests", "/api/v1/backtests", OPS | {Role.MANAGER}),
    ("POST", "/api/v1/customers/{customer_id}/link", "/api/v1/customers/999/link", DESK),
    ("POST", "/api/v1/devices/{device_id}/label", "/api/v1/devices/no-such/label", DESK),
    ("GET", "/machines/{device_id}/label", "/machines/gen-a/label", DESK),
    ("POST", "/machines/{device_id}/retire", "/machines/no-such/retire", DESK),
    ("POST", "/machines/{device_id}/label", "/machines/no-such/label", DESK),
    ("GET", "/tickets/new", "/tickets/new", DOERS),
    ("POST", "/tickets/new", "/tickets/new", DOERS),
    ("GET", "/api/v1/rentals", "/api/v1/rentals", ALL),
    ("GET", "/api/v1/sites", "/api/v1/sites", STAFF),
    ("POST", "/api/v1/sites", "/api/v1/sites", DESK),
    ("GET", "/api/v1/sites/{site_id}", "/api/v1/sites/1", STAFF),
    ("PATCH", "/api/v1/sites/{site_id}", "/api/v1/sites/999", DESK),
    ("GET", "/api/v1/customers", "/api/v1/customers", OFFICE),
    ("POST", "/api/v1/customers", "/api/v1/customers", DESK),
    ("GET", "/api/v1/contracts", "/api/v1/contracts", OFFICE),
    ("POST", "/api/v1/contracts", "/api/v1/contracts", DESK),
    ("POST", "/api/v1/rentals", "/api/v1/rentals", DESK),
    ("GET", "/api/v1/rentals/{rental_id}", "/api/v1/rentals/1", STAFF),
    ("POST", "/api/v1/rentals/{rental_id}/end", "/api/v1/rentals/999/end", DESK),
    ("POST", "/api/v1/rentals/{rental_id}/exchange", "/api/v1/rentals/999/exchange", DESK),
    ("GET", "/api/v1/rentals/{rental_id}/hand-over", "/api/v1/rentals/1/hand-over", STAFF),
    ("POST", "/api/v1/rentals/{rental_id}/hand-over", "/api/v1/rentals/999/hand-over", DOERS),
    ("POST", "/api/v1/rentals/{rental_id}/return", "/api/v1/rentals/999/return", DOERS),
    ("GET", "/api/v1/checklists/{profile}/{kind}", "/api/v1/checklists/water_pump/hand_over", STAFF),
    ("GET", "/api/v1/inspections", "/api/v1/inspections", STAFF),
    ("POST", "/api/v1/inspections", "/api/v1/inspections", DOERS),
    ("GET", "/api/v1/inspections/due", "/api/v1/inspections/due", STAFF),
    ("GET", "/api/v1/inspections/{inspection_id}", "/api/v1/inspections/1", STAFF),
    ("GET", "/api/v1/inspections/{inspection_id}.pdf", "/api/v1/inspections/1.pdf", STAFF),
    ("POST", "/api/v1/inspections/{inspection_id}/void", "/api/v1/inspections/999/void", DOERS),
    ("GET", "/api/v1/spot-checks/{month}", "/api/v1/spot-checks/2026-11", STAFF),
    ("GET", "/api/v1/spot-checks", "/api/v1/spot-checks", STAFF),
    ("GET", "/spot-checks", "/spot-checks", STAFF),
    ("GET", "/spot-checks/{month}", "/spot-checks/2026-11", STAFF),
    ("GET", "/api/v1/satisfaction", "/api/v1/satisfaction", OFFICE),
    ("POST", "/api/v1/satisfaction/{ticket_id}", "/api/v1/satisfaction/999", DESK | {Role.CUSTOMER}),
    ("GET", "/mine", "/mine", {Role.CUSTOMER}),
    ("POST", "/mine", "/mine", {Role.CUSTOMER}),
    ("GET", "/mine/{ticket_id}", "/mine/1", {Role.CUSTOMER}),
    ("GET", "/mine/{ticket_id}/how", "/mine/999/how", {Role.CUSTOMER}),
    ("POST", "/mine/{ticket_id}/how", "/mine/999/how", {Role.CUSTOMER}),
    ("GET", "/inspections", "/inspections", STAFF),
    ("GET", "/inspections/new", "/inspections/new?device_id=gen-a", DOERS),
    ("POST", "/inspections/new", "/inspections/new", DOERS),
    ("GET", "/inspections/{inspection_id}", "/inspections/1", STAFF),
    ("POST", "/inspections/{inspection_id}/void", "/inspections/999/void", DOERS),
    ("GET", "/api/v1/maintenance", "/api/v1/maintenance", STAFF),
    ("POST", "/api/v1/maintenance", "/api/v1/maintenance", DESK),
    ("POST", "/api/v1/maintenance/trips", "/api/v1/maintenance/trips", DESK),
    ("GET", "/api/v1/maintenance/{order_id}", "/api/v1/maintenance/1", STAFF),
    ("POST", "/api/v1/maintenance/{order_id}/assign", "/api/v1/maintenance/999/assign", DESK),
    ("POST", "/api/v1/maintenance/{order_id}/done", "/api/v1/maintenance/999/done", DOERS),
    ("POST", "/api/v1/maintenance/{order_id}/cancel", "/api/v1/maintenance/999/cancel", DESK),
    ("POST", "/api/v1/maintenance/calendars", "/api/v1/maintenance/calendars", STAFF),
    ("POST", "/api/v1/maintenance/calendars/{feed_id}/end", "/api/v1/maintenance/calendars/999/end", STAFF),
    ("GET", "/api/v1/work-orders", "/api/v1/work-orders", STAFF),
    ("GET", "/api/v1/maintenance-plans", "/api/v1/maintenance-plans", STAFF),
    ("PUT", "/api/v1/maintenance-plans/{code}", "/api/v1/maintenance-plans/service", OPS),
    ("DELETE", "/api/v1/maintenance-plans/{code}", "/api/v1/maintenance-plans/no_such", OPS),
    ("GET", "/api/v1/devices/{device_id}/meter-readings", "/api/v1/devices/gen-a/meter-readings", STAFF),
    ("POST", "/api/v1/devices/{device_id}/meter-readings", "/api/v1/devices/no-such/meter-readings", DOERS),
    ("GET", "/maintenance", "/maintenance", STAFF),
    ("POST", "/maintenance", "/maintenance", DESK),
    ("GET", "/maintenance/{order_id}", "/maintenance/1", STAFF),
    ("POST", "/maintenance/{order_id}/assign", "/maintenance/999/assign", DESK),
    ("POST", "/maintenance/{order_id}/done", "/maintenance/999/done", DOERS),
    ("POST", "/maintenance/{order_id}/cancel", "/maintenance/999/cancel", DESK),
    ("POST", "/maintenance/trips", "/maintenance/trips", DESK),
    ("POST", "/maintenance/calendars", "/maintenance/calendars", STAFF),
    ("POST", "/maintenance/calendars/{feed_id}/end", "/maintenance/calendars/999/end", STAFF),
    ("GET", "/api/v1/maintenance-windows", "/api/v1/maintenance-windows", STAFF),
    ("POST", "/api/v1/maintenance-windows", "/api/v1/maintenance-windows", DESK),
    ("GET", "/api/v1/maintenance-windows/{window_id}", "/api/v1/maintenance-windows/1", STAFF),
    ("POST", "/api/v1/maintenance-windows/{window_id}/cancel", "/api/v1/maintenance-windows/999/cancel", DESK),
    ("POST", "/api/v1/maintenance-windows/{window_id}/end-now", "/api/v1/maintenance-windows/999/end-now", DESK),
    ("GET", "/api/v1/choices", "/api/v1/choices", STAFF),
    ("POST", "/api/v1/choices/{which}", "/api/v1/choices/cause", OPS),
    ("POST", "/api/v1/choices/{which}/{code}/retire", "/api/v1/choices/cause/no_such/retire", OPS),
    ("GET", "/api/v1/rules/quality", "/api/v1/rules/quality", OFFICE),
    ("GET", "/api/v1/fleet/reliability", "/api/v1/fleet/reliability", OFFICE),
    ("GET", "/api/v1/fleet/availability", "/api/v1/fleet/availability", STAFF),
    ("GET", "/api/v1/devices/{device_id}/intervals", "/api/v1/devices/gen-a/intervals", STAFF),
    ("GET", "/api/v1/devices/{device_id}/file", "/api/v1/devices/gen-a/file", STAFF),
    ("GET", "/api/v1/devices/{device_id}/file.json", "/api/v1/devices/gen-a/file.json", STAFF),
    ("GET", "/api/v1/devices/{device_id}/file.pdf", "/api/v1/devices/gen-a/file.pdf", STAFF),
    ("GET", "/machines/{device_id}/file", "/machines/gen-a/file", STAFF),
    ("POST", "/api/v1/devices/{device_id}/retire", "/api/v1/devices/no-such/retire", DESK),
    ("POST", "/api/v1/devices/{device_id}/move", "/api/v1/devices/no-such/move", DESK),
    ("GET", "/api/v1/reports", "/api/v1/reports", CHIEFS),
    ("GET", "/api/v1/reports/{month}", "/api/v1/reports/2019-01", CHIEFS),
    ("GET", "/api/v1/reports/{month}.html", "/api/v1/reports/2019-01.html", CHIEFS),
    ("GET", "/api/v1/reports/{month}.csv", "/api/v1/reports/2019-01.csv", CHIEFS),
    ("GET", "/api/v1/reports/{month}.pdf", "/api/v1/reports/2019-01.pdf", CHIEFS),
    ("GET", "/api/v1/reports/{month}/rows/{code}", "/api/v1/reports/2019-01/rows/R7", CHIEFS),
    ("GET", "/reports", "/reports", CHIEFS),
    ("GET", "/reports/{month}", "/reports/2019-01", CHIEFS),
    ("GET", "/reports/{month}/rows/{code}", "/reports/2019-01/rows/R7", CHIEFS),
    ("GET", "/api/v1/exports/{kind}.csv", "/api/v1/exports/devices.csv", OFFICE),
    ("GET", "/api/v1/people", "/api/v1/people", OFFICE),
    ("POST", "/api/v1/people", "/api/v1/people", DESK),
    ("GET", "/api/v1/people/{person_id}", "/api/v1/people/1", OFFICE),
    ("PATCH", "/api/v1/people/{person_id}", "/api/v1/people/999", DESK),
    ("POST", "/api/v1/people/{person_id}/enable", "/api/v1/people/999/enable", DESK),
    ("POST", "/api/v1/people/{person_id}/certificates", "/api/v1/people/999/certificates", DESK),
    ("POST", "/api/v1/people/{person_id}/hours", "/api/v1/people/999/hours", DESK),
    ("POST", "/api/v1/people/{person_id}/contacts", "/api/v1/people/999/contacts", DESK),
    ("POST", "/api/v1/people/{person_id}/home", "/api/v1/people/999/home", DESK),
    ("POST", "/api/v1/people/{person_id}/absences", "/api/v1/people/999/absences", DESK),
    ("POST", "/api/v1/people/{person_id}/absences/{part_id}/remove", "/api/v1/people/999/absences/1/remove", DESK),
    ("POST", "/api/v1/people/{person_id}/disable", "/api/v1/people/999/disable", DESK),
    ("POST", "/api/v1/people/{person_id}/erase", "/api/v1/people/999/erase", ERASERS),
    ("POST", "/api/v1/customers/{customer_id}/erase", "/api/v1/customers/999/erase", ERASERS),
    ("GET", "/api/v1/rotations", "/api/v1/rotations", STAFF),
    ("GET", "/api/v1/rotations/{rotation_id}", "/api/v1/rotations/1", STAFF),
    ("POST", "/api/v1/rotations", "/api/v1/rotations", DESK),
    ("POST", "/api/v1/rotations/{rotation_id}/end", "/api/v1/rotations/999/end", DESK),
    ("POST", "/api/v1/rotations/{rotation_id}/overrides", "/api/v1/rotations/999/overrides", DESK),
    (
        "POST",
        "/api/v1/rotations/{rotation_id}/overrides/{part_id}/remove",
        "/api/v1/rotations/9/overrides/9/remove",
        DESK,
    ),
    ("GET", "/api/v1/rota", "/api/v1/rota", STAFF),
    ("GET", "/api/v1/tickets/{ticket_id}/proposal", "/api/v1/tickets/1/proposal", OFFICE),
    ("GET", "/api/v1/handover", "/api/v1/handover", STAFF),
    ("GET", "/handover", "/handover", STAFF),
    ("GET", "/api/v1/notices", "/api/v1/notices", OPS),
    ("GET", "/api/v1/rejected", "/api/v1/rejected", OPS),
    ("GET", "/api/v1/rejected/counts", "/api/v1/rejected/counts", OPS),
    ("GET", "/api/v1/settings", "/api/v1/settings", OFFICE),
    ("GET", "/api/v1/service-standard", "/api/v1/service-standard", STAFF),
    ("GET", "/api/v1/notice-channels", "/api/v1/notice-channels", DESK),
    ("POST", "/api/v1/notices/test", "/api/v1/notices/test", DESK),
    ("GET", "/api/v1/customers/{customer_id}", "/api/v1/customers/1", OFFICE),
    ("PATCH", "/api/v1/customers/{customer_id}", "/api/v1/customers/999", DESK),
    ("GET", "/settings", "/settings", OFFICE),
    ("GET", "/settings/standard", "/settings/standard", OFFICE),
    ("GET", "/settings/models", "/settings/models", OFFICE),
    ("GET", "/settings/models/{name}", "/settings/models/diesel_generator", OFFICE),
    ("GET", "/settings/people", "/settings/people", OFFICE),
    ("POST", "/settings/people", "/settings/people", DESK),
    ("GET", "/settings/people/{person_id}", "/settings/people/1", OFFICE),
    ("POST", "/settings/people/{person_id}/card", "/settings/people/999/card", DESK),
    ("POST", "/settings/people/{person_id}/enable", "/settings/people/999/enable", DESK),
    ("POST", "/settings/people/{person_id}/contacts", "/settings/people/999/contacts", DESK),
    ("POST", "/settings/people/{person_id}/certificates", "/settings/people/999/certificates", DESK),
    ("POST", "/settings/people/{person_id}/hours", "/settings/people/999/hours", DESK),
    ("POST", "/settings/people/{person_id}/home", "/settings/people/999/home", DESK),
    ("POST", "/settings/people/{person_id}/absences", "/settings/people/999/absences", DESK),
    ("POST", "/settings/people/{person_id}/absences/{part_id}/remove", "/settings/people/999/absences/1/remove", DESK),
    ("POST", "/settings/people/{person_id}/disable", "/settings/people/999/disable", DESK),
    ("POST", "/settings/people/{person_id}/erase", "/settings/people/999/erase", ERASERS),
    ("POST", "/settings/customers/{customer_id}/erase", "/settings/customers/999/erase", ERASERS),
    ("GET", "/settings/rotations", "/settings/rotations", STAFF),
    ("POST", "/settings/rotations", "/settings/rotations", DESK),
    ("POST", "/settings/rotations/{rotation_id}/end", "/settings/rotations/999/end", DESK),
    ("POST", "/settings/rotations/{rotation_id}/overrides", "/settings/rotations/999/overrides", DESK),
    (
        "POST",
        "/settings/rotations/{rotation_id}/overrides/{part_id}/remove",
        "/settings/rotations/9/overrides/9/remove",
        DESK,
    ),
    ("GET", "/settings/sites", "/settings/sites", STAFF),
    ("POST", "/settings/sites", "/settings/sites", DESK),
    ("GET", "/settings/sites/{site_id}", "/settings/sites/1", STAFF),
    ("POST", "/settings/sites/{site_id}", "/settings/sites/999", DESK),
    ("GET", "/settings/notices", "/settings/notices", DESK),
    ("POST", "/settings/notices/test", "/settings/notices/test", DESK),
    ("GET", "/settings/customers", "/settings/customers", OFFICE),
    ("POST", "/settings/customers", "/settings/customers", DESK),
    ("GET", "/settings/customers/{customer_id}", "/settings/customers/1", OFFICE),
    ("POST", "/settings/customers/{customer_id}", "/settings/customers/999", DESK),
    ("POST", "/settings/customers/{customer_id}/link", "/settings/customers/999/link", DESK),
    ("POST", "/settings/customers/{customer_id}/contracts", "/settings/customers/999/contracts", DESK),
    ("GET", "/rentals", "/rentals", STAFF),
    ("GET", "/rentals/new", "/rentals/new", DESK),
    ("POST", "/rentals/new", "/rentals/new", DESK),
    ("GET", "/rentals/{rental_id}", "/rentals/1", STAFF),
    ("POST", "/rentals/{rental_id}/hand-over", "/rentals/999/hand-over", DOERS),
    ("POST", "/rentals/{rental_id}/return", "/rentals/999/return", DOERS),
    ("POST", "/rentals/{rental_id}/end", "/rentals/999/end", DESK),
    ("POST", "/rentals/{rental_id}/exchange", "/rentals/999/exchange", DESK),
    ("POST", "/rentals/{rental_id}/self-test", "/rentals/999/self-test", DESK),
    ("GET", "/rejected", "/rejected", OPS),
    ("GET", "/reliability", "/reliability", OFFICE),
    ("GET", "/api/v1/stream", "/api/v1/stream", ALL),
    ("GET", "/api/v1/openapi.json", "/api/v1/openapi.json", ALL),
    ("GET", "/openapi.json", "/openapi.json", ALL),
    ("GET", "/", "/", ALL),
    ("GET", "/search", "/search?q=gen", ALL),
    ("GET", "/api/v1/search", "/api/v1/search?q=gen", ALL),
    ("GET", "/api/v1/devices/{device_id}/faults", "/api/v1/devices/gen-a/faults", ALL),
    ("GET", "/machines", "/machines", ALL),
    ("GET", "/machines/{device_id}", "/machines/gen-a", ALL),
    ("GET", "/tickets", "/tickets", ALL),
    ("GET", "/tickets/board", "/tickets/board", STAFF),
    ("GET", "/wall", "/wall", STAFF),
    ("GET", "/tickets/{ticket_id}/dispatch", "/tickets/1/dispatch", DESK),
    ("GET", "/tickets/{ticket_id}", "/tickets/1", ALL),
    ("POST", "/tickets/{ticket_id}/{verb}", "/tickets/999/verify", DOERS),
    ("POST", "/sign-out", "/sign-out", ALL),
    ("GET", "/start", "/start", ALL),
    ("GET", "/api/v1/jobs", "/api/v1/jobs", {Role.TECHNICIAN}),
    ("GET", "/api/v1/jobs/{ticket_id}", "/api/v1/jobs/1", STAFF),
    ("GET", "/job", "/job", {Role.TECHNICIAN}),
    ("GET", "/job/{ticket_id}", "/job/1", {Role.TECHNICIAN}),
    ("POST", "/job/{ticket_id}/{verb}", "/job/999/verify", {Role.TECHNICIAN}),
    ("GET", "/api/v1/account", "/api/v1/account", ALL),
    ("PATCH", "/api/v1/account", "/api/v1/account", ALL),
    ("GET", "/account", "/account", ALL),
    ("POST", "/account/reading", "/account/reading", ALL),
    ("POST", "/account/contacts", "/account/contacts", ALL),
    ("POST", "/account/password", "/account/password", ALL),
    ("POST", "/account/second-factor", "/account/second-factor", ALL),
    ("GET", "/account/second-factor", "/account/second-factor", ALL),
    ("POST", "/account/second-factor/confirm", "/account/second-factor/confirm", ALL),
    ("POST", "/account/second-factor/codes", "/account/second-factor/codes", ALL),
    ("POST", "/account/second-factor/off", "/account/second-factor/off", ALL),
    ("POST", "/account/sessions/end", "/account/sessions/end", ALL),
]


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("access")) as company:
        furnish(company)
        company.insert(
            schema.maintenance_window, device_id="gen-yard", what="transport", starts_at=company.began,
            ends_at=company.began + 1, declared_by="test", declared_at=company.began,
        )  # fmt: skip
        company.insert(
            schema.work_order, kind="maintenance", device_id="gen-a", title_en="Service", title_zh="保养",
            reason="by_hand", due_at=company.began, opened_at=company.began, opened_by="test", checklist=[],
            recorded_at=company.began,
        )  # fmt: skip
        company.insert(
            schema.inspection, kind="hand_over", device_id="gen-yard", checklist_version="1", items=[], passed=False,
            inspector_id=1, signature="Tang", signed_at=1, at=1, recorded_at=1,
        )  # fmt: skip
        company.insert(
            schema.rotation, name="Nights", timezone="Europe/Berlin", people=[1], shift_h=24, handover_weekday=0,
            handover_minute=480, starts_at=company.began, ends_at=company.began + 1, handed_over_at=company.began,
        )  # fmt: skip
        company.insert(
            schema.spot_check_draw, month="2026-11", at=1, seed="", policy_version="1", frame=0, fingerprint="",
            strata=[], machines=[],
        )  # fmt: skip
        yield company


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[World]:
    """A company of its own whose clock the test sets."""
    with world(tmp_path, at=1_795_000_000_000) as company:
        furnish(company)
        yield company


def status(client: httpx.Client, method: str, address: str) -> int:
    """The status alone: a stream would never end."""
    with client.stream(method, address) as answer:
        return answer.status_code


# --- roles ---------------------------------------------------------------------------------------------------------


def test_every_route_declares_its_roles(company: World) -> None:
    app = create_app(company.api.__class__(**{**vars(company.api), "registry": type(company.api.registry)()}))
    found = {(next(iter(route.methods)), route.path): declared(route) for route in routes_of(app)}
    assert {path for (_, path), who in found.items() if isinstance(who, Everybody)} == OPEN_TO_ALL
    roles = {key: set(who.roles) for key, who in found.items() if isinstance(who, Allowed)}
    assert roles == {(method, path): allowed for method, path, _, allowed in MATRIX}


def test_a_route_without_roles_does_not_start() -> None:
    app, router = FastAPI(openapi_url=None), APIRouter()
    router.get("/forgotten")(lambda: None)
    app.include_router(router)
    with pytest.raises(TypeError, match="/forgotten"):
        check_declared(app)


@pytest.mark.parametrize("role", list(Role))
def test_roles_and_routes(company: World, role: Role) -> None:
    with company.client(role) as client:
        found = {(method, path): status(client, method, address) for method, path, address, _ in MATRIX}
    for method, path, _, allowed in MATRIX:
        refused = found[method, path] == 403
        # A technician is refused `verify` by the verb, not by the route.
        if role is Role.TECHNICIAN and method == "POST" and "{verb}" in path:
            assert found[method, path] == 404
            continue
        assert refused is (role not in allowed), f"{role} {method} {path}: {found[method, path]}"


def test_nothing_is_told_without_sign_in(company: World) -> None:
    with company.client() as client:
        for method, path, address, _ in MATRIX:
            answer = client.request(method, address, follow_redirects=False)
            if path.startswith("/api/") or path == "/openapi.json":
                assert answer.status_code == 401, path
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert answer.headers["content-type"] == "application/problem+json"
            elif method == "GET":
                assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
            else:
                assert answer.status_code == 401, path
        for path in ("/docs", "/redoc", "/api/v1/docs"):
            assert client.get(path).status_code == 404
        told = "".join(client.get(path).text for path in ("/healthz", "/readyz", "/metrics", "/sign-in"))
    assert not re.search("gen-a|gen-b|Customer|Tang|example.com|Quarry", told)


# --- customers -----------------------------------------------------------------------------------------------------


def test_a_customer_sees_their_own_machine_and_no_other(company: World) -> None:
    with company.client("customer") as client:
        assert [item["device_id"] for item in client.get("/api/v1/devices").json()["items"]] == ["gen-a"]
        assert [item["device_id"] for item in client.get("/api/v1/tickets").json()["items"]] == ["gen-a"]
        assert [item["device_id"] for item in client.get("/api/v1/rentals").json()["items"]] == ["gen-a"]
        health = client.get("/api/v1/fleet/health").json()
        assert (health["devices"]["total"], health["tickets"]["open"]) == (1, 1)
        assert [site["site_name"] for site in health["by_site"]] == ["Tunnel North"]
        for address in (
            "/api/v1/devices/{}", "/api/v1/devices/{}/telemetry?metric=coolant_temp_c", "/machines/{}",
        ):  # fmt: skip
            assert client.get(address.format("gen-a")).status_code == 200
            for other in ("gen-b", "gen-yard", "gen-old", "no-such"):
                assert client.get(address.format(other)).status_code == 404, (address, other)
        for address in ("/api/v1/tickets/2", "/api/v1/tickets/2/commitments", "/tickets/2", "/api/v1/tickets/3"):
            assert client.get(address).status_code == 404
        assert client.get("/api/v1/profiles/water_pump").status_code == 404
        assert client.get("/api/v1/tickets?device_id=gen-b").json()["items"] == []
        pages = "".join(client.get(path).text for path in ("/", "/machines", "/tickets", "/tickets?show=all"))
    assert "gen-a" in pages
    assert not re.search("gen-b|gen-yard|gen-old|Customer B|Quarry", pages)


def test_a_refused_machine_answers_like_one_that_is_not_there(company: World) -> None:
    with company.client("customer") as client:
        hidden, missing = client.get("/api/v1/devices/gen-b"), client.get("/api/v1/devices/no-such")
    assert hidden.json() == missing.json()


def test_a_customer_gets_no_reading_from_before_the_rental(company: World) -> None:
    hired_at = company.began - 2 * HOUR
    span = f"from={company.began - 4 * HOUR}&to={company.began}"
    with company.client("customer") as client, company.client("ops") as ops:
        address = f"/api/v1/devices/gen-a/telemetry?metric=coolant_temp_c&{span}"
        mine, all_of_it = client.get(address).json()["items"], ops.get(address).json()["items"]
        earlier = client.get(
            f"/api/v1/devices/gen-a/telemetry?metric=coolant_temp_c&from={hired_at - HOUR}&to={hired_at}"
        )
        detail = client.get("/api/v1/devices/gen-a").json()
    assert len(mine) == 720
    assert len(all_of_it) == 1440
    assert mine == all_of_it[720:]
    assert earlier.json()["items"] == []
    assert detail["data"] is None  # counts over the machine's whole life
    assert detail["rental"]["customer_name"] == "Customer A"


def test_buckets_do_not_reach_over_the_beginning_of_the_rental(fresh: World) -> None:
    """So many samples that they are bucketed: the first bucket must hold nothing measured before the rental."""
    a = 1
    fresh.machine("hot-before")
    hired_at = fresh.began - 6 * HOUR + 3_333
    fresh.hire("hot-before", a, hired_at)
    fresh.measure("hot-before", since=fresh.began - 12 * HOUR, until=fresh.began, step_ms=5_000)
    with fresh.client("customer") as client, fresh.client("ops") as ops:
        span = f"metric=fuel_level_pct&from={fresh.began - 12 * HOUR}&to={fresh.began}"
        mine = client.get(f"/api/v1/devices/hot-before/telemetry?{span}").json()
        exact = ops.get(
            f"/api/v1/devices/hot-before/telemetry?metric=fuel_level_pct&from={hired_at}&to={hired_at + HOUR}"
        ).json()
    assert mine["bucket_s"] > 0
    # Fuel only falls: the highest value of all is the first one of the rental.
    assert max(point["max"] for point in mine["items"]) == exact["items"][0]["max"]
    assert mine["items"][0]["at"] >= rfc3339(hired_at)


@pytest.mark.parametrize(
    ("moment_ms", "seen"),
    [(-1_000, False), (0, True), (DAY - 1_000, True), (DAY, False), (DAY + 1_000, False)],
)
def test_the_rental_period_is_half_open(fresh: World, moment_ms: int, seen: bool) -> None:
    starts_at = fresh.began + HOUR
    fresh.machine("gen-c")
    rental_id = fresh.hire("gen-c", 1, starts_at, starts_at + DAY)
    ticket_id = fresh.ticket("gen-c", "limit", "oil_pressure_bar", rental_id=rental_id)
    fresh.at = starts_at + moment_ms
    with fresh.client("customer") as client:
        for address in ("/api/v1/devices/gen-c", "/machines/gen-c", f"/api/v1/tickets/{ticket_id}"):
            assert (client.get(address).status_code == 200) is seen


def test_answers_are_shaped_by_role(company: World) -> None:
    with company.client("customer") as client:
        ticket = client.get("/api/v1/tickets/1").json()
        assert (ticket["evidence"], ticket["notices"], ticket["allowed"]) == (None, None, [])
        assert ticket["headline"].startswith("Coolant temperature above")
        assert ticket["faults"][0]["evidence"] is None
    with company.client("technician") as client:
        ticket = client.get("/api/v1/tickets/1").json()
        assert ticket["evidence"]["value"] == 104.2
        assert ticket["notices"] is None
    with company.client("ops") as client:
        assert client.get("/api/v1/tickets/1").json()["notices"][0]["recipient"] == "tang@example.com"


# --- technicians ---------------------------------------------------------------------------------------------------


def test_a_technician_acts_on_their_own_tickets(fresh: World) -> None:
    with fresh.client("technician") as tang, fresh.client("other technician") as weber, fresh.client("ops") as ops:
        assert tang.post("/api/v1/tickets/1/cancel").status_code == 403  # the desk's
        assert tang.post("/api/v1/tickets/1/depart").status_code == 403  # nobody's yet
        assert tang.post("/api/v1/tickets/1/accept", json={"technician_id": 2}).status_code == 403
        assert tang.post("/api/v1/tickets/1/accept").json()["technician_name"] == "Tang"
        assert weber.post("/api/v1/tickets/1/accept").status_code == 409
        assert weber.post("/api/v1/tickets/1/depart").status_code == 403
        assert weber.get("/api/v1/tickets/1").json()["allowed"] == []
        assert tang.post("/api/v1/tickets/1/depart").json()["status"] == "on_the_way"
        ops.post("/api/v1/tickets/2/verify")
        assert ops.post("/api/v1/tickets/2/dispatch", json={"technician_id": 2}).json()["technician_name"] == "Weber"
        assert tang.post("/api/v1/tickets/2/accept").status_code == 403
        assert weber.post("/api/v1/tickets/2/accept").json()["status"] == "accepted"


# --- coming in -----------------------------------------------------------------------------------------------------


def secret_in(page: str) -> str:
    found = re.search(r'name="secret" value="([^"]+)"', page)
    assert found
    return found[1]


def signed_in(company: World, role: Role = Role.OPS) -> httpx.Client:
    """A browser's worth: the cookie is sent on by hand, because httpx keeps secure cookies from plain http."""
    with company.client() as first:
        answer = first.post("/sign-in", data={"secret": company.link(role)})
    assert answer.status_code == 303
    client = company.client()
    client.headers["Cookie"] = answer.headers["set-cookie"].partition(";")[0]
    return client


def test_opening_a_link_uses_nothing_up(company: World) -> None:
    link = company.link(Role.OPS)
    with company.client() as client:
        for _ in range(3):
            page = client.get(f"/sign-in/{link}")
            assert page.status_code == 200
            assert page.text.count("<button") == 1
            assert "set-cookie" not in page.headers
        assert client.post("/sign-in", data={"secret": secret_in(page.text)}).status_code == 303
        again = client.post("/sign-in", data={"secret": link})
    assert again.status_code == 403
    assert "set-cookie" not in again.headers


def test_the_cookie_is_bound_to_its_host(company: World) -> None:
    with company.client() as client:
        cookie = client.post("/sign-in", data={"secret": company.link(Role.OPS)}).headers["set-cookie"]
    name, _, attributes = cookie.partition("=")
    assert name == "__Host-fettle_session"
    told = {part.strip().lower() for part in attributes.split(";")[1:]}
    assert {"secure", "httponly", "path=/", "samesite=lax"} <= told
    assert not any(part.startswith("domain") for part in told)


def test_each_sign_in_is_a_session_of_its_own_and_signing_out_ends_it(company: World) -> None:
    with signed_in(company) as one, signed_in(company) as other:
        assert one.headers["Cookie"] != other.headers["Cookie"]
        assert one.get("/").status_code == 200
        assert one.post("/sign-out", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303
        assert one.get("/", follow_redirects=False).status_code == 303
        assert other.get("/").status_code == 200


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({}, False),
    ],
)
def test_another_sites_page_cannot_act_in_my_name(company: World, headers: dict[str, str], refused: bool) -> None:
    with signed_in(company) as client:
        answer = client.post("/api/v1/tickets/999/verify", headers=headers)
    assert answer.status_code == (403 if refused else 404)


def test_our_own_origin_may(company: World) -> None:
    with signed_in(company) as client:
        assert client.post("/api/v1/tickets/999/verify", headers={"Origin": company.url}).status_code == 404


def test_guessing_is_limited_and_locks_nobody_out(fresh: World) -> None:
    with fresh.client() as client, fresh.client("ops") as ops:
        answers = [
            client.get("/api/v1/devices", headers={"Authorization": f"Bearer guess-{n}"})
            for n in range(Guesses.LIMIT + 3)
        ]
        assert [answer.status_code for answer in answers] == [401] * Guesses.LIMIT + [429] * 3
        assert int(answers[-1].headers["retry-after"]) <= 61
        assert client.post("/sign-in", data={"secret": "guess"}).status_code == 429
        assert ops.get("/api/v1/devices").status_code == 200


def test_headers(company: World) -> None:
    with company.client("ops") as client:
        answers = [client.get(path) for path in ("/", "/api/v1/devices", "/static/live.js", "/nope", "/healthz")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
    assert answers[0].headers["cache-control"] == "no-store"


def test_reading_changes_nothing(company: World) -> None:
    def everything() -> str:
        with company.database.connect() as connection:
            return repr([connection.execute(sa.select(table)).all() for table in schema.metadata.sorted_tables])

    with signed_in(company) as client:
        before = everything()
        for method, path, address, allowed in MATRIX:
            if method == "GET" and path != "/api/v1/stream" and Role.OPS in allowed:
                # A built-in account is nobody's, and the start leads on.
                wanted = {"/api/v1/account": 404, "/start": 303}.get(path, 200)
                assert client.get(address).status_code == wanted, path
        client.get(f"/sign-in/{'x' * 43}")
        assert everything() == before


def test_what_stands_in_the_record_is_only_text_on_the_page(fresh: World) -> None:
    evil = "<img src=x onerror=alert(1)>"
    fresh.insert(schema.site, name=evil, remote=False, timezone="UTC")
    fresh.machine("gen-evil", site_id=3, firmware=evil)
    fresh.ticket("gen-evil", "fault_code", "P1", evidence={"code": evil, "text": evil, "reason": evil})
    with fresh.client("ops") as client:
        pages = [client.get(path).text for path in ("/", "/machines", "/machines/gen-evil", "/tickets/4", "/tickets")]
    assert all("<img" not in page for page in pages)
    assert all("&lt;img" in page for page in pages)
