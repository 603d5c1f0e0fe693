"""The fleet, the machines and the search, as they are read without scripts: for whom, how fresh, and how much of it."""

import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import httpx
import pytest
import sqlalchemy as sa

from api.pages.fleet import SQUARES_A_SITE, Burn
from api.pages.shell import BYTES_KEPT, Shared
from api.shapes import PaceShape
from monitor.store import schema
from tests.api_world import DAY, HOUR, MINUTE, World, furnish, world
from tests.patience import PATIENCE_S

ZONE = "Europe/Berlin"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("fleet")) as company:
        furnish(company, readings=False)
        company.insert(schema.customer, name="100% Hire_Co", email="", lang="en")
        yield company


def page(company: World, who: str, path: str = "/", **headers: str) -> str:
    with company.client(who) as client:
        answer = client.get(path, headers={"Accept-Language": "en", "Accept": "text/html", **headers})
    assert answer.status_code == 200, answer.text
    return answer.text


# --- pages that many have open -------------------------------------------------------------------------------------


def test_what_changed_is_on_the_page_of_whoever_asks_next(company: World) -> None:
    assert "SPN 4711" not in page(company, "ops")
    ticket_id = company.ticket("gen-old", "fault_code", "SPN 4711", evidence={"code": "SPN 4711", "text": "starter"})
    company.insert(schema.change, at=company.now(), what="ticket", ticket_id=ticket_id)
    assert "SPN 4711" in page(company, "ops")
    assert "SPN 4711" in page(company, "ops", **{"Accept-Encoding": "identity"})


@pytest.mark.parametrize(
    ("who", "theirs", "others"), [("customer", "gen-a", "gen-b"), ("customer b", "gen-b", "gen-a")]
)
def test_what_was_laid_out_for_one_is_not_shown_to_another(
    company: World, who: str, theirs: str, others: str
) -> None:  # fmt: skip
    for reader in ("ops", "customer", "customer b", "technician"):
        page(company, reader)
    shown = page(company, who)
    assert theirs in shown
    assert others not in shown
    assert "/maintenance" not in shown, "ways that a customer may not go"
    assert 'lang="zh-Hans"' in page(company, who, **{"Accept-Language": "zh"})


def test_a_page_is_laid_out_once_for_all_who_ask_and_anew_after_a_change() -> None:
    shared, made = Shared(), list[int]()

    def lay_out() -> str:
        made.append(len(made))
        return f"page {made[-1]}"

    def ask(key: str, now: int, newest: int, *, aged: bool = False) -> str:
        return shared.page(key, now, lambda: newest, lay_out, aged=aged).html

    assert [ask("fleet", 1, 7) for _ in range(3)] == ["page 0"] * 3
    assert ask("fleet", 2, 8) == "page 1"
    assert ask("wall", 2, 8) == "page 2"
    assert ask("fleet", 2001, 8) == "page 1"
    assert ask("fleet", 2002, 8) == "page 3", "after a while, also where nothing changed"
    assert ask("fleet", 2003, 9, aged=True) == "page 3", "a little old"
    assert ask("fleet", 2003, 9) == "page 4"
    assert ask("fleet", 4003, 9, aged=True) == "page 5", "but it is never older than that"


def test_who_takes_an_older_page_does_not_wait_for_the_new_one() -> None:
    shared, laying_out, may_go_on = Shared(), threading.Event(), threading.Event()

    def slowly() -> str:
        laying_out.set()
        assert may_go_on.wait(PATIENCE_S)
        return "new"

    shared.page("fleet", 1, lambda: 1, lambda: "old")
    first = threading.Thread(target=shared.page, args=("fleet", 5000, lambda: 2, slowly))
    first.start()
    assert laying_out.wait(PATIENCE_S)
    found = shared.page("fleet", 5000, lambda: 2, slowly, aged=True)
    may_go_on.set()
    first.join(PATIENCE_S)
    assert (found.html, found.shown) == ("old", 1)
    assert shared.page("fleet", 5000, lambda: 2, slowly).html == "new"


def test_a_page_says_up_to_which_change_it_shows(company: World) -> None:
    with company.client("ops") as client:
        fresh = int(client.get("/").headers["X-Shown"])
        company.insert(schema.change, at=company.now(), what="device")
        aged = client.get("/", headers={"Cache-Control": "max-age=2"}).headers["X-Shown"]
        assert int(aged) == fresh
        assert int(client.get("/").headers["X-Shown"]) == fresh + 1


def test_pages_that_are_kept_take_so_much_room_and_no_more() -> None:
    shared, made = Shared(), list[int]()
    noise = Random(7)

    def long() -> str:
        made.append(1)
        return noise.randbytes(BYTES_KEPT // 16).hex()

    for key in range(8):
        shared.page(key, 1, lambda: 1, long)
    assert len(made) == 8
    shared.page(7, 1, lambda: 1, long)
    assert len(made) == 8, "the newest is kept"
    shared.page(0, 1, lambda: 1, long)
    assert len(made) == 9, "the oldest had to go"
    whole = shared.page("whole", 1, lambda: 1, lambda: BYTES_KEPT * "x")
    assert shared.page("whole", 1, lambda: 1, str) is whole, "one that fills it all stays"


def test_every_page_says_what_time_it_is_here(company: World) -> None:
    with company.client("ops") as client:
        for path in ("/", "/machines"):
            assert abs(int(client.get(path).headers["X-Now"]) - company.now()) < MINUTE


# --- the fleet -----------------------------------------------------------------------------------------------------


def test_of_a_large_site_the_worst_machines_are_drawn_and_the_rest_are_counted(tmp_path: Path) -> None:
    with world(tmp_path) as company:
        with company.at_once():
            site_id = company.insert(schema.site, name="Depot", remote=False, timezone=ZONE)
            customer = company.insert(schema.customer, name="Hirer", email="", lang="en")
            for n in range(SQUARES_A_SITE + 15):
                company.machine(f"m-{n:03}", site_id=site_id)
                if n != 3:
                    company.hire(f"m-{n:03}", customer, company.began - DAY)
            company.ticket(f"m-{SQUARES_A_SITE + 5:03}", "limit", "coolant_temp_c")
            company.tokens["ops"] = company.token("ops", "ops")  # type: ignore[arg-type]
        shown = page(company, "ops")
    assert shown.count('class="square ') == SQUARES_A_SITE
    assert shown.index(f"m-{SQUARES_A_SITE + 5:03}") < shown.index("m-000")
    assert "and 15 more" in shown
    assert 'href="/machines/m-003"' not in shown, "those not on hire come last"


def test_the_months_budget_is_drawn_from_full_to_what_is_left() -> None:
    pace = PaceShape(month="2026-11", target=0.9, lower=0.98, budget_ms=1, spent_ms=1, left_share=0.6, burn_rate=1,
                     misses=False, course=[0.9, 0.8, 0.6])  # fmt: skip
    burn = Burn.of(pace, ZONE)
    assert burn.line == "0.0,0.0 20.0,10.0 40.0,20.0 60.0,40.0"
    assert Burn.of(pace.model_copy(update={"course": [-0.5]}), ZONE).end == (20.0, 100.0)
    assert Burn.of(pace.model_copy(update={"course": []}), ZONE).line == ""


# --- the machines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "shown", "left_out"),
    [
        ("status=bad", "gen-b", "gen-mute"),
        ("status=unknown", "gen-mute", "gen-b"),
        ("profile=water_pump", "gen-mute", "gen-a"),
        ("site=2", "gen-b", "gen-a"),
    ],
)
def test_machines_can_be_narrowed(company: World, query: str, shown: str, left_out: str) -> None:
    table = page(company, "ops", f"/machines?{query}").partition("<tbody>")[2]
    assert f"/machines/{shown}" in table
    assert f"/machines/{left_out}" not in table


def test_a_customer_sees_nothing_of_a_machines_time_before_their_rental(company: World) -> None:
    with company.at_once():
        for ago, cleared in ((DAY, HOUR), (HOUR, 0)):
            company.insert(
                schema.fault, device_id="gen-a", kind="fault_code", subject=f"ago-{ago}", severity="urgent",
                opened_at=company.began - ago, occurred_at=company.began - ago, ticket_id=1,
                cleared_at=company.began - ago + cleared if cleared else None, evidence={"code": "secret"},
            )  # fmt: skip
    asked = f"/api/v1/devices/gen-a/faults?from={company.began - 2 * DAY}"
    with company.client("customer") as theirs, company.client("ops") as ours, company.client("customer b") as others:
        subjects = {one["subject"] for one in theirs.get(asked).json()["items"]}
        assert subjects == {"coolant_temp_c", f"ago-{HOUR}"}
        assert all(one["evidence"] is None for one in theirs.get(asked).json()["items"])
        assert {f"ago-{DAY}", f"ago-{HOUR}"} <= {one["subject"] for one in ours.get(asked).json()["items"]}
        assert others.get(asked).status_code == 404


def test_faults_are_those_that_were_open_in_the_time_asked_for(company: World) -> None:
    with company.client("ops") as client:

        def told(since: int, until: int) -> list[str]:
            asked = {"from": company.began + since, "to": company.began + until}
            items = client.get("/api/v1/devices/gen-yard/faults", params=asked).json()["items"]
            return [one["kind"] for one in items]

        company.insert(
            schema.fault, device_id="gen-yard", kind="anomaly", subject="", severity="routine", evidence={},
            opened_at=company.began - 3 * DAY, occurred_at=company.began - 3 * DAY, cleared_at=company.began - 2 * DAY,
        )  # fmt: skip
        assert told(-4 * DAY, -3 * DAY) == []
        assert told(-3 * DAY, -3 * DAY + 1) == ["anomaly"]
        assert told(-2 * DAY, -DAY) == []
        assert told(-4 * DAY, HOUR) == ["silent", "anomaly"]


# --- search --------------------------------------------------------------------------------------------------------


def found(company: World, who: str, wanted: str) -> dict[str, list[str]]:
    with company.client(who) as client:
        answer = client.get("/api/v1/search", params={"q": wanted}).raise_for_status().json()
    return {kind: [str(one.get("name") or one.get("device_id") if kind != "tickets" else one["id"]) for one in items]
            for kind, items in answer.items() if items}  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "kind", "first"),
    [
        ("gen-A", "machines", "gen-a"),
        ("quarry", "machines", "gen-b"),
        ("customer b", "machines", "gen-b"),
        ("quarry", "sites", "Quarry Sandberg"),
        ("customer a", "customers", "Customer A"),
        ("olga", "people", "Olga"),
        ("2", "tickets", "2"),
        ("#2", "tickets", "2"),
        ("gen-b", "tickets", "2"),
        ("100%", "customers", "100% Hire_Co"),
        ("e_c", "customers", "100% Hire_Co"),
    ],
)
def test_one_box_finds_everything(company: World, wanted: str, kind: str, first: str) -> None:
    assert found(company, "ops", wanted)[kind][0] == first


@pytest.mark.parametrize("wanted", ["", "   ", "%", "_", "\\", "' OR 1=1 --", "9" * 100])
def test_whatever_somebody_types_is_text(company: World, wanted: str) -> None:
    everything = found(company, "ops", wanted)
    assert set(everything) <= {"customers"}, "only a name that has the sign itself"


@pytest.mark.parametrize("wanted", ["gen", "customer", "quarry", "olga", "2", "tunnel"])
def test_a_customer_finds_only_what_is_theirs(company: World, wanted: str) -> None:
    seen = found(company, "customer", wanted)
    assert set(seen) <= {"machines", "tickets"}
    assert set(seen.get("machines", [])) <= {"gen-a"}
    assert set(seen.get("tickets", [])) <= {"1"}


def test_an_id_typed_out_leads_straight_there(company: World) -> None:
    with company.client("ops") as client:
        for typed, place in (("GEN-B", "/machines/gen-b"), (" #2 ", "/tickets/2"), ("2", "/tickets/2")):
            answer: httpx.Response = client.get("/search", params={"q": typed})
            assert (answer.status_code, answer.headers["location"]) == (303, place)
    with company.client("customer") as client:
        assert client.get("/search", params={"q": "gen-b"}).status_code == 200, "not theirs: nothing is found"


def test_those_who_left_are_not_found(company: World) -> None:
    person = company.insert(
        schema.person, name="Gone Girl", role="ops", email="gone@example.com", lang="en", added_at=1,
        disabled_at=2,
    )  # fmt: skip
    assert person
    assert found(company, "ops", "gone girl") == {}
    with company.database.begin() as connection:
        connection.execute(sa.update(schema.device).where(schema.device.c.device_id == "gen-mute").values(retired_at=1))
    assert found(company, "ops", "gen-mute") == {}


def test_nothing_that_a_stranger_put_into_an_address_comes_back_on_a_page(company: World) -> None:
    shown = page(company, "ops", "/machines?status=bad&x=STRANGE")
    assert "STRANGE" not in shown
    assert "?status=bad&amp;lang=zh" in shown
