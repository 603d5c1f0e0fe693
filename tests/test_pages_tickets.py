"""The tickets' pages over HTTP: list, board, one ticket and its course, dispatch dialogue, wall, hand-over."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from html import unescape
from itertools import count
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
import sqlalchemy as sa

from monitor.store import schema
from monitor.store.access import Role
from tests.api_world import DAY, HOUR, MINUTE, World, furnish, world

NOW = 1_795_000_000_000
BERLIN = ZoneInfo("Europe/Berlin")
TANG, WEBER = 1, 2
NUMBERS = count()
ALWAYS = [{"weekday": day, "from_minute": 0, "until_minute": 1440} for day in range(7)]


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, at=NOW) as company:
        furnish(company, readings=False)
        yield company


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """To look at only: ticket 3 waits, 4 is late and Tang's, 5 has a week; beside those that are furnished."""
    with world(tmp_path_factory.mktemp("tickets"), at=NOW) as company:
        furnish(company, readings=False)
        with company.at_once():
            company.ticket("gen-old", "startup_failure", severity="emergency", status="on_the_way", technician_id=TANG,
                           ago_ms=2 * HOUR, clocks=(("R9", "repair_start", HOUR),))  # fmt: skip
            company.ticket("gen-mute", "limit", "flow_l_min", clocks=(("R7", "dispatch", 7 * DAY),))
        with company.client("ops") as ops:
            done(ops.post("/api/v1/tickets/3/pause", json={"reason": "parts", "note": "A hose is on order"}))
        yield company


@pytest.fixture(scope="module")
def staffed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Tang is there and may work on generators and pumps; Weber may work on pumps, and is off duty."""
    with world(tmp_path_factory.mktemp("staffed"), at=NOW) as company:
        furnish(company, readings=False)
        with company.client("ops") as ops:
            done(ops.post(f"/api/v1/people/{TANG}/hours", json={"hours": ALWAYS}))
            for person, profiles in ((TANG, ("diesel_generator", "water_pump")), (WEBER, ("water_pump",))):
                held = {"certificates": [{"profile": profile} for profile in profiles]}
                done(ops.post(f"/api/v1/people/{person}/certificates", json=held))
        yield company


@pytest.fixture
def desk(staffed: World) -> Iterator[World]:
    """The same, for tests that change tickets of their own."""
    staffed.at = NOW
    yield staffed
    staffed.at = NOW


@pytest.fixture
def ops(desk: World) -> Iterator[httpx.Client]:
    with desk.client("ops") as client:
        yield client


def opened(company: World, profile: str = "diesel_generator") -> int:
    """A ticket five minutes old on a machine of its own that customer A has on hire, with an hour to send somebody."""
    device_id = f"own-{next(NUMBERS)}"
    with company.at_once():
        company.machine(device_id, profile)
        hire = company.hire(device_id, 1, NOW - DAY)
        return company.ticket(device_id, "limit", "coolant_temp_c", rental_id=hire, clocks=(("R7", "dispatch", HOUR),))


@contextmanager
def signed_in(company: World, role: Role, person_id: int | None = None) -> Iterator[httpx.Client]:
    """A browser's worth: what a program is answered with problem details, a person is shown."""
    with company.client() as client:
        signed = client.post("/sign-in", data={"secret": company.link(role, person_id)})
        client.headers["Cookie"] = signed.headers["set-cookie"].partition(";")[0]
        client.headers["Sec-Fetch-Site"] = "same-origin"
        yield client


def done(answer: httpx.Response) -> httpx.Response:
    assert answer.status_code < 400, answer.text
    return answer


def page(client: httpx.Client, path: str) -> str:
    return unescape(done(client.get(path)).text)


def listed(html: str) -> list[int]:
    """The tickets that a page leads to in its list, in its order."""
    return [int(one) for one in re.findall(r'<a class="what" href="/tickets/(\d+)"', html)]


def part(html: str, ident: str) -> str:
    return html[html.index(f'id="{ident}"') :].partition("</section>")[0]


def local(at: int) -> str:
    """As a form's field sends it."""
    return datetime.fromtimestamp(at / 1000, BERLIN).strftime("%Y-%m-%dT%H:%M")


# --- list and board ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [4, 2, 1, 5, 3]),
        ("whose=nobody", [2, 1, 5, 3]),
        ("severity=emergency", [4, 2]),
        ("severity=emergency&whose=nobody", [2]),
        ("stage=waiting", [3]),
        ("stage=there", [4]),
        ("site=2", [2]),
        ("site=2&severity=urgent", []),
        ("show=all", [5, 4, 3, 2, 1]),
        ("show=all&severity=emergency", [4, 2]),
    ],
)
def test_the_list_is_narrowed_by_links(company: World, query: str, found: list[int]) -> None:
    with company.client("ops") as client:
        html = page(client, f"/tickets?{query}")
    assert listed(html) == found
    assert ("No ticket is like that." in html) is (not found)


def test_each_link_says_how_many_it_leads_to(company: World) -> None:
    with company.client("ops") as client:
        html = page(client, "/tickets?whose=nobody")
        links = re.findall(r'<a class="tap" href="([^"]+)"[^>]*>[^<]*<span class="quiet">(\d+)</span>', html)
        assert len(links) > 8
        for href, count in links:
            assert len(listed(page(client, href))) == int(count), href


def test_a_chosen_site_stays_chosen_where_nothing_is_open(fresh: World) -> None:
    quiet = fresh.insert(schema.site, name="Quiet Harbour", remote=False, timezone="Europe/Berlin")
    with fresh.client("ops") as client:
        for path in ("/tickets", "/tickets/board"):
            html = page(client, f"{path}?site={quiet}")
            assert re.search(r'aria-current="(page|true)"[^>]*>Quiet Harbour', html), path
        assert "Quiet Harbour" not in page(client, "/tickets")
    with fresh.client("customer") as client:
        assert "Quiet Harbour" not in page(client, f"/tickets?site={quiet}"), "whose places are no customer's to know"


def test_mine_are_the_technicians_own(company: World) -> None:
    with signed_in(company, Role.TECHNICIAN, TANG) as client:
        html = page(client, "/tickets?whose=mine")
    assert listed(html) == [4]
    assert "whose=mine" in html
    with company.client("ops") as client:
        assert "whose=mine" not in page(client, "/tickets"), "who does not go out has no tickets of their own"


def test_customers_see_theirs_and_no_board(company: World) -> None:
    with company.client("customer") as client:
        html = page(client, "/tickets")
        assert listed(html) == [1]
        assert "/tickets/board" not in html
        assert "1 ticket is open." in html
        assert [one["count"] for one in client.get("/api/v1/tickets/counts").json()["items"]] == [1]
        for path in ("/tickets/board", "/wall", "/handover", "/tickets/1/dispatch"):
            assert client.get(path).status_code == 403


@pytest.mark.parametrize("query", ["severity=dire", "whose=theirs", "stage=closed", "site=0"])
def test_what_cannot_be_asked_for_is_refused(company: World, query: str) -> None:
    with company.client("ops") as client:
        assert client.get(f"/tickets?{query}").status_code == 422
        assert client.get(f"/tickets/board?{query}").status_code == 422


def test_the_board_has_each_ticket_once_in_its_column(company: World) -> None:
    with company.client("ops") as client:
        html = page(client, "/tickets/board")
    columns = {
        code: listed(html[html.index(f'id="of-{code}"') :].partition("</section>")[0])
        for code in ("open", "verified", "sent", "there", "repairing", "waiting", "resolved")
    }
    assert columns == {
        "open": [2, 1, 5], "verified": [], "sent": [], "there": [4], "repairing": [], "waiting": [3], "resolved": []
    }  # fmt: skip


def test_the_api_lists_what_the_pages_ask_for(company: World) -> None:
    with company.client("ops") as client:

        def ids(**asked: object) -> list[int]:
            return [one["id"] for one in done(client.get("/api/v1/tickets", params=asked)).json()["items"]]  # type: ignore[arg-type]

        assert ids(sort="time_left", due_within_s=3600) == [4, 2, 1]
        assert ids(unassigned=True, severity="emergency") == [2]
        assert ids(technician_id=TANG) == [4]
        assert ids(site_id=2) == [2]
        assert ids(sort="time_left", status="waiting,on_the_way") == [4, 3]
        tally = client.get("/api/v1/tickets/counts").json()["items"]
    assert sum(one["count"] for one in tally) == 5
    assert {one["site_id"] for one in tally} == {None, 1, 2}


def test_one_button_is_filled_where_somebody_is_to_be_sent(company: World) -> None:
    with company.client("ops") as client:
        html = page(client, "/tickets")
    filled = re.findall(r'<a class="btn first" href="([^"]+)"', html)
    assert filled == ["/tickets/1/dispatch"]


# --- a ticket ------------------------------------------------------------------------------------------------------


def test_the_course_is_one_line_of_time(desk: World, ops: httpx.Client) -> None:
    here = f"/tickets/{opened(desk)}"
    desk.at = NOW + 5 * MINUTE
    done(ops.post(f"{here}/verify", data={"note": "Coolant on the floor"}))
    desk.at += 10 * MINUTE
    done(ops.post(f"{here}/dispatch", data={"technician_id": TANG}))
    desk.at += MINUTE
    done(ops.post(f"{here}/accept"))
    course = part(page(ops, here), "steps")
    said = ["The fault began", "Opened", "Coolant on the floor", "Assigned: Tang", "Accepted",
            "Promise kept: Technician to be arranged", "technician announced to the customer"]  # fmt: skip
    places = [course.index(words) for words in said]
    assert places == sorted(places)
    assert "queued: " in course


def test_what_was_recorded_late_says_so(desk: World, ops: httpx.Client) -> None:
    ticket_id = opened(desk)
    desk.at = NOW + 2 * HOUR
    late = {"technician_id": TANG, "happened_at": NOW + 10 * MINUTE}
    done(ops.post(f"/api/v1/tickets/{ticket_id}/accept", json=late))
    course = part(page(ops, f"/tickets/{ticket_id}"), "steps")
    assert f"recorded {datetime.fromtimestamp(desk.at / 1000, BERLIN):%-d %b, %H:%M}" in course


def test_a_breach_and_its_annulment_stand_in_the_course(desk: World, ops: httpx.Client) -> None:
    ticket_id = opened(desk)
    desk.at = NOW + 2 * HOUR
    with desk.database.begin() as connection:
        c = schema.commitment.c
        connection.execute(sa.update(schema.commitment).where(c.ticket_id == ticket_id).values(next_at=c.due_at))
    desk.api.desk.tick(desk.at)
    assert "Promise missed: Technician to be arranged" in part(page(ops, f"/tickets/{ticket_id}"), "steps")
    late = {"technician_id": TANG, "happened_at": NOW + 10 * MINUTE}
    done(ops.post(f"/api/v1/tickets/{ticket_id}/accept", json=late))
    course = part(page(ops, f"/tickets/{ticket_id}"), "steps")
    assert "Breach annulled: it had happened in time" in course
    assert "Promise missed" not in course


def test_a_breach_that_only_moved_is_told_too(desk: World, ops: httpx.Client) -> None:
    ticket_id = opened(desk)
    desk.insert(
        schema.amendment, ticket_id=ticket_id, standard_id="R7", kind="dispatch", breached_at=NOW, met_at=None,
        due_at=NOW + HOUR, recorded_at=NOW + 1, actor="desk",
    )  # fmt: skip
    assert ops.get(f"/api/v1/tickets/{ticket_id}").json()["amendments"][0]["met_at"] is None
    assert "Breach annulled: it is due later" in page(ops, f"/tickets/{ticket_id}")


def test_a_notice_that_failed_says_why(desk: World, ops: httpx.Client) -> None:
    ticket_id = opened(desk)
    desk.insert(
        schema.notice, cause="t", kind="fault_noticed", ticket_id=ticket_id, channel="email",
        recipient="a@example.com", lang="en", subject="x", body="y", status="failed", tries=5, queued_at=NOW,
        next_try_at=NOW, last_error="550 no such mailbox",
    )  # fmt: skip
    assert "failed: a@example.com · 550 no such mailbox" in part(page(ops, f"/tickets/{ticket_id}"), "steps")
    with desk.client("service") as service:
        assert "a@example.com" not in page(service, f"/tickets/{ticket_id}"), "addresses are for operations"


def test_a_customer_reads_the_course_without_names(desk: World, ops: httpx.Client) -> None:
    here = f"/tickets/{opened(desk)}"
    done(ops.post(f"{here}/verify", data={"note": "They drove it dry"}))
    with desk.client("customer") as customer:
        html = page(customer, here)
    assert "Verified" in part(html, "steps")
    assert "dry" not in html
    assert "Told" not in part(html, "steps")
    with desk.client("customer b") as other:
        assert other.get(here).status_code == 404


def test_a_due_time_is_explained_with_its_pauses(desk: World, ops: httpx.Client) -> None:
    here = f"/tickets/{opened(desk)}"
    desk.at = NOW + 5 * MINUTE
    done(ops.post(f"{here}/pause", data={"reason": "no_access", "wait_h": "2", "note": "Gate shut"}))
    desk.at += 30 * MINUTE
    done(ops.post(f"{here}/resume"))
    clocks = part(page(ops, here), "clocks")
    how = clocks[clocks.index("How these times came about") :]
    assert "1:00:00 h, around the clock" in how
    assert re.findall(r"ran ([\d:]+)|(stood still)", how) == [("0:10:00", ""), ("", "stood still"), ("0:50:00", "")]


def test_it_waits_until_a_day_and_time_of_the_reader(desk: World, ops: httpx.Client) -> None:
    ticket_id, until = opened(desk), NOW + 26 * HOUR
    said = {"reason": "customer_asked", "wait_h": "1", "until": local(until)}
    done(ops.post(f"/tickets/{ticket_id}/pause", data=said))
    waiting = ops.get(f"/api/v1/tickets/{ticket_id}").json()["waiting"]
    assert datetime.fromisoformat(waiting["until_at"]).timestamp() * 1000 == until // MINUTE * MINUTE


def test_a_time_that_cannot_be_is_refused(desk: World, ops: httpx.Client) -> None:
    ticket_id = opened(desk)
    for until in (
        "2020-01-01T00:00", "9999-12-31T23:59", "0001-01-01T00:00", "2026-13-40T99:99", "tomorrow", "2027-02-30T08:00"
    ):  # fmt: skip
        answer = ops.post(f"/tickets/{ticket_id}/pause", data={"reason": "customer_asked", "until": until})
        assert answer.status_code == 422, until
    assert ops.get(f"/api/v1/tickets/{ticket_id}").json()["status"] == "open"


def test_seldom_steps_stand_under_one_fold_and_the_likely_one_is_filled(desk: World, ops: httpx.Client) -> None:
    ticket_id = opened(desk)

    def ways() -> tuple[list[str], list[str]]:
        """(what is filled, what stands under the fold)."""
        html = page(ops, f"/tickets/{ticket_id}")
        far = part(html, "next").partition("More steps")[2]
        filled = re.findall(r'class="btn first"[^>]*>([^<]+)<', html)
        return filled, re.findall(r"<summary>([^<]+)</summary>", far)

    seldom = ["Wait", "Cancel ticket", "Merge into another ticket", "Link with another ticket"]
    assert ways() == (["Verify"], seldom)
    done(ops.post(f"/tickets/{ticket_id}/verify"))
    filled, folded = ways()
    assert (filled, folded[0]) == (["Send technician"], "Write a diagnosis")
    done(ops.post(f"/api/v1/tickets/{ticket_id}/accept", json={"technician_id": TANG}))
    done(ops.post(f"/tickets/{ticket_id}/start-repair"))
    filled, folded = ways()
    assert (filled, folded[0]) == (["Resolved"], "Cannot go")
    assert "Resolved" not in folded


def test_a_technician_finds_no_step_with_anothers_ticket(desk: World, ops: httpx.Client) -> None:
    ticket_id = opened(desk, "water_pump")
    done(ops.post(f"/api/v1/tickets/{ticket_id}/accept", json={"technician_id": WEBER}))
    with signed_in(desk, Role.TECHNICIAN, TANG) as tang:
        assert 'id="next"' not in page(tang, f"/tickets/{ticket_id}")
        assert tang.get(f"/tickets/{ticket_id}/dispatch").status_code == 403
        assert tang.post(f"/tickets/{ticket_id}/arrive").status_code == 403


# --- whom to send --------------------------------------------------------------------------------------------------


def test_the_dialogue_ranks_with_reasons_and_says_why_others_are_not_proposed(desk: World, ops: httpx.Client) -> None:
    ticket_id = opened(desk)
    html = page(ops, f"/tickets/{ticket_id}/dispatch")
    assert re.findall(r'<button class="btn first"[^>]*>([^<]+)<', html) == ["Send Tang"]
    assert "certified" in part(html, "ranked")
    others = part(html, "excluded")
    assert "not certified for this model" in others
    assert "may not be sent" in others
    assert f'value="{WEBER}"' not in html
    proposal = ops.get(f"/api/v1/tickets/{ticket_id}/proposal").json()
    assert [(one["name"], one["may_be_sent"]) for one in proposal["excluded"]] == [("Weber", False)]


def test_somebody_is_sent_with_an_agreed_visit_and_is_asked(desk: World, ops: httpx.Client) -> None:
    ticket_id, visit = opened(desk), NOW + 3 * HOUR
    sent = {"technician_id": TANG, "visit": local(visit), "note": "Ring first"}
    done(ops.post(f"/tickets/{ticket_id}/dispatch", data=sent))
    ticket = ops.get(f"/api/v1/tickets/{ticket_id}").json()
    assert (ticket["status"], ticket["technician_name"]) == ("dispatched", "Tang")
    assert datetime.fromisoformat(ticket["visit_at"]).timestamp() * 1000 == visit // MINUTE * MINUTE
    assert "Visit agreed for" in page(ops, f"/tickets/{ticket_id}")
    desk.at = NOW + 30_000
    desk.api.desk.tick(desk.at)
    asked = part(page(ops, f"/tickets/{ticket_id}/dispatch"), "asked")
    assert "Tang" in asked
    assert "is being asked" in asked


def test_who_has_said_yes_already_is_not_asked(desk: World, ops: httpx.Client) -> None:
    ticket_id = opened(desk)
    done(ops.post(f"/tickets/{ticket_id}/dispatch", data={"technician_id": TANG, "agreed": "true"}))
    assert ops.get(f"/api/v1/tickets/{ticket_id}").json()["status"] == "accepted"
    html = page(ops, f"/tickets/{ticket_id}/dispatch")
    assert "Tang has it." in html
    assert 'class="send"' not in html


def test_who_may_not_go_is_refused_and_what_was_typed_is_kept(desk: World) -> None:
    ticket_id = opened(desk)
    with signed_in(desk, Role.OPS) as client:
        answer = client.post(f"/tickets/{ticket_id}/dispatch", data={"technician_id": WEBER, "note": "Ring first"})
    assert answer.status_code == 422
    assert "no valid certificate" in answer.text
    assert 'value="Ring first"' in answer.text


def test_without_a_rota_one_chooses(company: World) -> None:
    with company.client("ops") as client:
        html = page(client, "/tickets/1/dispatch")
    assert "Choose who goes." in html
    assert re.findall(r"<option[^>]*>([^<]+)</option>", html) == ["Tang", "Weber"]
    assert html.count('class="btn first"') == 1


def test_who_is_off_duty_may_be_sent_all_the_same(desk: World, ops: httpx.Client) -> None:
    ticket_id = opened(desk, "water_pump")
    assert "Send Weber all the same" in page(ops, f"/tickets/{ticket_id}/dispatch")
    done(ops.post(f"/tickets/{ticket_id}/dispatch", data={"technician_id": WEBER}))
    assert ops.get(f"/api/v1/tickets/{ticket_id}").json()["technician_name"] == "Weber"


# --- the wall and the hand-over ------------------------------------------------------------------------------------


def test_the_wall_shows_what_needs_a_person_within_the_hour(company: World) -> None:
    with company.client("manager") as client:
        html = page(client, "/wall")
    assert "3 tickets need a person within the hour" in html
    rows = re.findall(r'<tr class="(\w+)">\s*<td><span class="clock \w+" data-due="(\d+)"', html)
    assert [urgency for urgency, _ in rows] == ["late", "calm", "calm"]
    assert [int(due) for _, due in rows] == sorted(int(due) for _, due in rows)
    assert re.findall(r"<(?:button|input|select|nav)", html) == []
    counts = re.findall(r"<dt>([^<]+)</dt><dd>(?:<i[^>]*>.</i> )?(\d+)</dd>", html)
    assert dict(counts) == {"Open now": "5", "overdue": "1", "due within 15 min": "0", "nobody's yet": "4"}
    assert 'data-stream="/api/v1/stream"' in html


def test_the_wall_is_calm_where_nothing_presses_and_bounded_where_much_does(fresh: World) -> None:
    with fresh.client("ops") as client:
        done(client.post("/tickets/1/pause", data={"reason": "no_access", "wait_h": "24"}))
        assert "1 ticket needs a person within the hour" in page(client, "/wall"), "a clock that stands still does not"
        with fresh.database.begin() as connection:
            connection.execute(sa.update(schema.commitment).values(due_at=NOW + 5 * HOUR))
        fresh.note_due(2)
        fresh.insert(schema.change, at=NOW, what="ticket", ticket_id=2)
        html = page(client, "/wall")
        assert "Nothing needs a person within the hour" in html
        assert "The next promise is due" in html
        for ticket_id in (1, 2, 3):
            done(client.post(f"/api/v1/tickets/{ticket_id}/cancel", json={"reason": "other"}))
        assert "Nothing is open." in page(client, "/wall")
        assert "No ticket is open." in page(client, "/tickets")
        assert "Nothing is open." in page(client, "/tickets/board")
        assert "Nothing is left open." in page(client, "/handover")
        with fresh.at_once():
            for n in range(14):
                fresh.machine(f"w-{n}")
                fresh.ticket(f"w-{n}", "limit", "coolant_temp_c", clocks=(("R7", "dispatch", 30 * MINUTE),))
            fresh.insert(schema.change, at=NOW, what="ticket")
        html = page(client, "/wall")
    assert "14 tickets need a person" in html
    assert html.count('data-due="') == 11
    assert "and 3 more" in html


def test_the_hand_over_names_what_is_promised_and_what_waits(company: World) -> None:
    with company.client("technician") as client:
        html = page(client, "/handover")
        assert "5 tickets are handed over." in html
        assert "Waits for parts" in part(html, "over-waits")
        assert listed(part(html, "over-open").replace(" tap", "")) == [4, 2, 1, 5], "the gravest first, none twice"
        assert "Coolant temperature above 100" in part(html, "promised")
        assert "Promise missed" in part(html, "over-happened")
        earlier = re.search(r'href="(\?shift=\d+)"', html)
        assert earlier
        before = page(client, f"/handover{earlier[1]}")
    assert "The shift after" in before
    assert "Until now" in before


def test_in_chinese_nothing_is_left_in_english(company: World) -> None:
    with company.client("ops") as client:
        for path in ("/tickets", "/tickets/board", "/tickets/1/dispatch", "/wall", "/handover", "/tickets/1"):
            html = page(client, f"{path}?lang=zh")
            words = re.findall(r"<(?:h1|h2|th|dt|summary|button)[^>]*>([^<]*)<", html.partition("<main")[2])
            left = [one for one in words if re.search("[A-Za-z]{4}", one.replace("Tang", "").replace("Weber", ""))]
            assert left == [], path
