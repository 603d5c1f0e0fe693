"""Pages for those who have no account, through the real server: by a customer's link, and by a machine's label."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from api.access import Guesses, Reports
from monitor.links import CUSTOMER_LINK_MS, Signer, customer_token, label_token
from monitor.store import schema
from monitor.store.access import Role
from tests.api_world import DAY, HOUR, World, furnish, world
from tests.test_api_access import signed_in

NOON = 1_795_000_000_000


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """For what changes nothing."""
    with world(tmp_path_factory.mktemp("customers")) as company:
        furnish(company)
        yield company


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, at=NOON) as company:
        furnish(company)
        yield company


def signer(company: World) -> Signer:
    found = company.api.desk.addresses.signer
    assert found is not None
    return found


def page_of(company: World, customer_id: int = 1, epoch: int = 0) -> str:
    return f"/c/{customer_token(signer(company), customer_id, epoch, company.now())}"


def label_of(company: World, device_id: str = "gen-b", epoch: int = 0) -> str:
    return f"/m/{label_token(signer(company), device_id, epoch)}"


def rows(company: World, table: sa.Table, **where: object) -> list[sa.Row[tuple[object, ...]]]:
    clauses = [table.c[name] == value for name, value in where.items()]
    with company.database.connect() as connection:
        return list(connection.execute(sa.select(table).where(*clauses).order_by(table.c.id)))


def report(client: httpx.Client, address: str, text: str = "It smokes", **fields: str) -> httpx.Response:
    return client.post(address, data={"text": text, **fields})


# --- what a link shows ---------------------------------------------------------------------------------------------


def test_a_customer_sees_their_machines_in_plain_words_and_nothing_else(company: World) -> None:
    with company.client() as client:
        page = client.get(page_of(company)).text
    assert "Customer A" in page
    assert "gen-a" in page
    assert "Coolant temperature too high" in page
    assert "has a fault; we take care of it" in page
    assert "A technician is arranged for you" in page
    assert "+49 30 1234567" in page
    assert not re.search("gen-b|gen-yard|gen-old|Customer B|Quarry|Tang|@example|104|coolant_temp_c|R7", page)
    assert page.count("<form") == 1
    assert "/sign-out" not in page


def test_a_stranger_at_the_machine_sees_which_one_it_is_and_nothing_else(company: World) -> None:
    with company.client() as client:
        page = client.get(label_of(company)).text
    assert "gen-b" in page
    assert "Diesel generator" in page
    assert "+49 30 1234567" in page
    assert not re.search("Customer|Quarry|has a fault|in order|Tang|@example|technician|reference", page)


@pytest.mark.parametrize(("wish", "said"), [("zh-CN,zh;q=0.9", "报修"), ("en", "Report a problem"), ("fr", "Report")])
def test_in_the_readers_language(company: World, wish: str, said: str) -> None:
    with company.client() as client:
        assert said in client.get(page_of(company), headers={"Accept-Language": wish}).text
        switched = client.get(f"{page_of(company)}?lang=zh", headers={"Accept-Language": wish})
    assert 'lang="zh-Hans"' in switched.text
    assert "您的设备" in switched.text


def test_the_period_of_the_rental_is_what_counts(fresh: World) -> None:
    fresh.machine("gen-c")
    fresh.hire("gen-c", 1, fresh.began + HOUR, fresh.began + DAY)
    with fresh.client() as client:
        for at, seen in ((HOUR - 1, False), (HOUR, True), (DAY - 1, True), (DAY, False)):
            fresh.at = fresh.began + at
            assert ("gen-c" in client.get(page_of(fresh)).text) is seen
            answer = report(client, page_of(fresh), f"at {at}", device_id="gen-c")
            assert answer.status_code == (303 if seen else 404)


def test_nothing_that_a_link_opens_goes_further(company: World) -> None:
    with company.client() as client:
        answers = [client.get(path) for path in (page_of(company), label_of(company), "/c/forged", "/m/forged")]
    for answer in answers:
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "noindex" in answer.headers["x-robots-tag"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "set-cookie" not in answer.headers


def test_opening_changes_nothing(company: World) -> None:
    def everything() -> str:
        with company.database.connect() as connection:
            return repr([connection.execute(sa.select(table)).all() for table in schema.metadata.sorted_tables])

    before = everything()
    with company.client() as client:
        for path in (page_of(company), f"{page_of(company)}?told=2", label_of(company)):
            assert client.get(path).status_code == 200
            assert client.head(path).status_code in (200, 405)
    assert everything() == before


# --- what a link is refused for ------------------------------------------------------------------------------------


def dead_links(company: World) -> dict[str, str]:
    ours, other, now = signer(company), Signer(b"x" * 32), company.now()
    return {
        "expired": f"/c/{customer_token(ours, 1, 0, now - CUSTOMER_LINK_MS)}",
        "revoked": page_of(company, epoch=1),
        "of nobody": page_of(company, customer_id=999),
        "forged": f"/c/{customer_token(other, 1, 0, now)}",
        "too long": f"/c/{'A' * 5000}",
        "no token": "/c/x",
        "another purpose": f"/c/{label_token(ours, 'gen-b', 0).partition('.')[2]}",
        "label revoked": label_of(company, epoch=1),
        "label of no machine": label_of(company, "no-such"),
        "label forged": f"/m/{label_token(other, 'gen-b', 0)}",
        "label too long": f"/m/gen-b.{'A' * 5000}",
        "label of another": label_of(company).replace("gen-b", "gen-a"),
        "label for a customer": page_of(company).replace("/c/", "/m/"),
    }


def test_a_dead_link_says_nothing_of_why(company: World) -> None:
    with company.client() as client:
        for method in ("GET", "POST"):
            answers = {}
            for why, path in dead_links(company).items():
                fields = {"text": "x"} | ({"device_id": "gen-a"} if path.startswith("/c/") else {})
                answers[why] = client.request(method, path, data=fields if method == "POST" else None)
            assert {why: answer.status_code for why, answer in answers.items()} == dict.fromkeys(answers, 404)
            pages = {re.sub(r'data-(now|wall)="\d+"|/[cm]/[^"?]*', "", answer.text) for answer in answers.values()}
            assert len(pages) == 1, "they differ"
            assert "This link does not work" in pages.pop()
    assert rows(company, schema.step) == []


def test_a_machine_that_is_retired_has_no_label(fresh: World) -> None:
    with fresh.database.begin() as connection:
        connection.execute(sa.update(schema.device).where(schema.device.c.device_id == "gen-b").values(retired_at=1))
    with fresh.client() as client:
        assert client.get(label_of(fresh)).status_code == 404


def test_guessing_is_limited_and_keeps_no_good_link_out(fresh: World) -> None:
    with fresh.client() as client:
        answers = [client.get(f"/c/guess-{n}").status_code for n in range(Guesses.LIMIT + 3)]
        assert answers == [404] * Guesses.LIMIT + [429] * 3
        last = client.get("/m/guess")
        assert (last.status_code, last.headers["retry-after"].isdigit()) == (429, True)
        assert client.get(page_of(fresh)).status_code == 200


def test_no_log_line_has_a_token(
    company: World, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:  # type: ignore[type-arg]
    good, forged = page_of(company), f"/c/{customer_token(Signer(b'x' * 32), 1, 0, company.now())}"
    with caplog.at_level(logging.DEBUG), company.client() as client:
        logging.getLogger("httpx").setLevel(logging.WARNING)
        logging.getLogger("httpcore").setLevel(logging.WARNING)
        for path in (good, forged, label_of(company)):
            client.get(path)
        metrics = client.get("/metrics").text
    told = caplog.text + "".join(capfd.readouterr()) + metrics
    assert "link_refused" in told
    assert "/c/{token}" in metrics
    for path in (good, forged, label_of(company)):
        assert path[3:] not in told


# --- reporting -----------------------------------------------------------------------------------------------------


def test_a_customer_reports_a_problem_and_reads_the_promise_at_once(fresh: World) -> None:
    fresh.machine("gen-c", site_id=1)
    fresh.hire("gen-c", 1, fresh.began - HOUR)
    with fresh.client() as client:
        answer = report(client, page_of(fresh), "It smokes\r\na lot", device_id="gen-c", name="Li", phone="555 12")
        assert answer.status_code == 303
        page = client.get(answer.headers["location"]).text
    (ticket,) = rows(fresh, schema.ticket, device_id="gen-c")
    assert (ticket.origin, ticket.reported_by, ticket.severity) == ("customer", "Li, 555 12", "urgent")
    (step,) = rows(fresh, schema.step, ticket_id=ticket.id)
    assert (step.note, step.actor) == ("It smokes\na lot", "customer:1")
    thanks = page[page.index("thanks") : page.index("<section")]
    assert f"Our reference: {ticket.id}" in re.sub(r"\s+", " ", re.sub("<[^>]*>", "", thanks))
    assert "A technician is arranged for you" in thanks
    assert re.search(r"at the latest .*Central European", thanks)
    assert "It smokes\na lot" in page
    assert "555 12" not in page


def test_a_stranger_reports_a_problem_on_the_machine(fresh: World) -> None:
    with fresh.client() as client:
        page = report(client, label_of(fresh, "gen-a"), "It leaks", stopped="true")
        yard = report(client, label_of(fresh, "gen-yard"), "It leaks", stopped="true")
    assert (page.status_code, yard.status_code) == (200, 200)
    assert "A technician begins the repair" in page.text
    # The open ticket of gen-a takes it in, and becomes an emergency.
    (joined,) = rows(fresh, schema.ticket, device_id="gen-a")
    assert (joined.severity, joined.kind, joined.origin) == ("emergency", "limit", "detected")
    (new,) = rows(fresh, schema.ticket, device_id="gen-yard", origin="label")
    assert f"Our reference:</b> {new.id}" in yard.text or f"Our reference: {new.id}" in yard.text
    assert rows(fresh, schema.commitment, ticket_id=new.id) == []
    assert new.severity == "urgent"
    assert {step.actor for step in rows(fresh, schema.step, event="report")} == {"label:gen-a", "label:gen-yard"}


def test_sent_twice_it_is_one_report(fresh: World) -> None:
    with fresh.client() as client:
        first, second = (report(client, page_of(fresh), device_id="gen-a") for _ in range(2))
    assert first.headers["location"].partition("?")[2] == second.headers["location"].partition("?")[2]
    assert len(rows(fresh, schema.step, event="report")) == 1


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"text": "x", "device_id": "gen-b"}, 404),  # another customer's
        ({"text": "x", "device_id": "gen-old"}, 404),  # given back
        ({"text": "x", "device_id": "no-such"}, 404),
        ({"text": "x"}, 422),
        ({"text": "x", "device_id": "gen-a", "origin": "office"}, 422),
        ({"text": "x", "device_id": "gen-a", "stopped": "perhaps"}, 422),
        ({"text": " \r\n\u200b ", "device_id": "gen-a"}, 422),
        ({"text": "x" * 4001, "device_id": "gen-a"}, 422),
        ({"text": "x", "device_id": "gen-a", "name": "n" * 81}, 422),
        ({"text": "x", "device_id": "gen-a" + "x" * 100}, 422),
    ],
)
def test_what_is_not_taken(company: World, fields: dict[str, str], status: int) -> None:
    with company.client() as client:
        answer = client.post(page_of(company), data=fields)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert rows(company, schema.step) == []


def test_what_strangers_write_is_only_text(fresh: World) -> None:
    evil = "<img src=x onerror=alert(1)>\x00\u202e\x1b[31m"
    with fresh.client() as client, fresh.client("ops") as ops:
        for address in (label_of(fresh, "gen-yard"), label_of(fresh, "gen-mute")):
            assert report(client, address, evil, name=evil, phone="1\r\n2").status_code == 200
        (ticket,) = rows(fresh, schema.ticket, device_id="gen-mute")
        page = ops.get(f"/tickets/{ticket.id}").text
    assert "<img" not in page
    assert "&lt;img" in page
    (step,) = rows(fresh, schema.step, ticket_id=ticket.id)
    assert step.note == "<img src=x onerror=alert(1)>[31m"
    assert ticket.reported_by == "<img src=x onerror=alert(1)>[31m, 1 2"


def test_so_many_reports_of_a_machine_are_no_reports(fresh: World) -> None:
    with fresh.client() as client:
        answers = [report(client, label_of(fresh), f"say {n}") for n in range(Reports.LIMIT + 2)]
        assert [answer.status_code for answer in answers] == [200] * Reports.LIMIT + [429] * 2
        assert "So much at once" in answers[-1].text
        assert report(client, label_of(fresh, "gen-a")).status_code == 200, "other machines are heard"
    assert len(rows(fresh, schema.step, actor="label:gen-b")) == Reports.LIMIT


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "null"}, 200),  # a page without referrer, and a browser that tells no more
        ({"Sec-Fetch-Site": "cross-site", "Origin": "null"}, 403),
        ({"Origin": "https://evil.example"}, 403),
    ],
)
def test_another_sites_page_cannot_report(fresh: World, headers: dict[str, str], status: int) -> None:
    with fresh.client() as client:
        assert client.post(label_of(fresh), data={"text": "x"}, headers=headers).status_code == status


# --- making and ending links ---------------------------------------------------------------------------------------


def test_a_customers_link_is_made_and_ended(fresh: World) -> None:
    with fresh.client("service") as desk, fresh.client() as client:
        made = desk.post("/api/v1/customers/1/link")
        assert made.status_code == 201
        assert made.json()["expires_at"] == "2026-12-18T11:06:40.000Z"
        url = made.json()["url"]
        assert client.get(url).status_code == 200
        renewed = desk.post("/api/v1/customers/1/link", json={"renew": True}).json()["url"]
        assert [client.get(one).status_code for one in (url, renewed)] == [404, 200]
        assert desk.post("/api/v1/customers/99/link").status_code == 404
        assert desk.post("/api/v1/customers/1/link", json={"days": 900}).status_code == 422
    audited = [
        (row.what, row.subject, row.before, row.after) for row in rows(fresh, schema.audit) if "link" in row.what
    ]
    assert audited == [
        ("link_made", "customer:1", None, {"link_epoch": 0}),
        ("links_ended", "customer:1", {"link_epoch": 0}, {"link_epoch": 1}),
        ("link_refused", "customer", None, {"times": 1}),
    ]


def test_a_label_is_printed_and_ended(fresh: World) -> None:
    with signed_in(fresh, Role.OPS) as desk, fresh.client() as client:
        page = desk.get("/machines/gen-b/label")
        assert "<svg" in page.text
        assert 'class="qr"' in page.text
        old = label_of(fresh)
        assert client.get(old).status_code == 200
        answer = desk.post("/machines/gen-b/label", data={"renew": "true"}, headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 303
        assert client.get(old).status_code == 404
        assert client.get(label_of(fresh, epoch=1)).status_code == 200
        assert client.get(label_of(fresh, "gen-a")).status_code == 200
        assert desk.get("/machines/no-such/label").status_code == 404
    with fresh.client("ops") as ops:
        assert ops.post("/api/v1/devices/gen-b/label").json() == {
            "url": f"{fresh.url}{label_of(fresh, epoch=1)}",
            "expires_at": None,
        }


# --- the office ----------------------------------------------------------------------------------------------------


def test_the_office_opens_a_ticket_by_hand(fresh: World) -> None:
    with signed_in(fresh, Role.SERVICE) as desk:
        assert 'href="/tickets/new"' in desk.get("/tickets").text
        assert "gen-yard" in desk.get("/tickets/new").text
        answer = desk.post(
            "/tickets/new",
            data={"device_id": " gen-old ", "text": "It rattles", "origin": "phone", "reported_by": "Mr Li, 555"},
        )
        assert answer.status_code == 303
        assert "It rattles" in desk.get(answer.headers["location"]).text
    (ticket,) = rows(fresh, schema.ticket, device_id="gen-old")
    assert (ticket.origin, ticket.reported_by) == ("phone", "Mr Li, 555")


@pytest.mark.parametrize(
    ("lang", "words", "done"), [("en", "by telephone", "Verified"), ("zh", "电话", "已核实")]
)  # fmt: skip
def test_a_tickets_course_is_told_in_words_and_not_in_codes(fresh: World, lang: str, words: str, done: str) -> None:
    with fresh.client("ops") as ops:
        told = {"device_id": "gen-old", "text": "It rattles", "origin": "phone", "reported_by": "Mr Li, 555"}
        ticket_id = ops.post("/api/v1/tickets", json=told).json()["id"]
        ops.post(f"/api/v1/tickets/{ticket_id}/verify", json={})
        fresh.at += 1000
        page = ops.get(f"/tickets/{ticket_id}?lang={lang}").text
        listed = ops.get(f"/handover?lang={lang}").text
    assert "Mr Li, 555" in page
    course = page[page.index('id="steps"') :].partition("</section>")[0]
    assert f"<span>{done}<" in course
    assert f"{done} " in listed
    assert f" · {words} · It rattles" in course
    assert "token:" not in course


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"device_id": "no-such", "text": "x"}, "There is no such machine."),
        ({"device_id": "gen-a", "text": "  "}, "Name the machine, and say what is wrong"),
        ({"device_id": "", "text": "x"}, "Name the machine, and say what is wrong"),
    ],
)
def test_what_was_typed_is_kept_where_something_lacks(company: World, fields: dict[str, str], complaint: str) -> None:
    with signed_in(company) as desk:
        answer = desk.post("/tickets/new", data={**fields, "reported_by": "Mr Li", "origin": "office"})
    assert answer.status_code == 422
    assert complaint in answer.text
    assert 'value="Mr Li"' in answer.text
    assert '<option value="office" selected>' in answer.text


def test_who_may_not_report_is_not_offered_to(company: World) -> None:
    with company.client("manager") as manager:
        assert "/tickets/new" not in manager.get("/tickets").text
        assert "/machines/gen-a/label" not in manager.get("/machines/gen-a").text
