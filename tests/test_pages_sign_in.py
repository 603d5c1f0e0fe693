"""Signing in and one's own account, through the real server: passwords, links by mail, the second factor, guessing."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pyotp
import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher

from api.denials import KEYS, OTHERS, WINDOW_MS, Denials, network_of
from api.sign_in import Doors, Tries
from api.zones import zones
from monitor.links import Signer
from monitor.notify.message import Bounced, Message
from monitor.notify.outbox import Outbox
from monitor.store import passwords, schema, second_factor
from monitor.store.access import LINK_MINUTES, LINKS_AT_ONCE, By, Role, begin_session, end_other_sessions
from monitor.store.passwords import AT_ONCE, NOBODYS, WAITING, Busy, Hashing, Weak, weakness
from monitor.store.registry import Refused
from tests.api_world import HOUR, MINUTE, World, world
from tests.patience import PATIENCE_S, until

GOOD = "umbrella seven lantern"
OTHER = "gravel orchid tuesdayish"
BEGAN = 1_795_000_000_000


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("sign-in"), at=BEGAN) as company:
        yield company


@pytest.fixture(autouse=True)
def later(company: World) -> None:
    """Each test has its own time: what was counted or mailed before is over."""
    assert company.at is not None
    company.at += 2 * HOUR


_numbers = count(1)
PLAIN = httpx.Client(timeout=PATIENCE_S)


@cache
def kept_of_good() -> str:
    """Made once: each costs as much as many requests."""
    return Hashing().hash(GOOD)


class Somebody:
    """A person and their browser: the cookie is sent by hand, because httpx keeps secure ones from plain http."""

    def __init__(self, company: World, role: Role = Role.OPS) -> None:
        self.company = company
        self.name = f"Person {next(_numbers)}"
        self.email = f"{self.name.lower().replace(' ', '.')}@example.com"
        self.id = company.insert(
            schema.person, name=self.name, role=role, email=self.email, lang="en", added_at=company.now()
        )
        self.role = role
        self.cookie = ""

    def ask(self, method: str, path: str, data: dict[str, object] | None = None, address: str = "") -> httpx.Response:
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if address:
            headers["X-Forwarded-For"] = address
        answer = PLAIN.request(method, self.company.url + path, data=data, headers=headers)
        if "__Host-fettle_session" in answer.headers.get("set-cookie", ""):
            self.cookie = re.search(r"__Host-fettle_session=[^;]*", answer.headers["set-cookie"])[0]  # type: ignore[index]
        return answer

    def get(self, path: str) -> httpx.Response:
        return self.ask("GET", path)

    def post(self, path: str, **data: object) -> httpx.Response:
        return self.ask("POST", path, data)

    def by_link(self) -> "Somebody":
        answer = self.post("/sign-in", secret=self.company.link(self.role, self.id))
        assert answer.status_code == 303
        return self

    def with_password(self) -> "Somebody":
        """Whose password is GOOD, signed in by it."""
        now = self.company.now()
        with self.company.database.begin() as connection:
            passwords.set_password(connection, self.id, kept_of_good(), now, "test")
            session = begin_session(connection, self.role, self.id, By.PASSWORD, now)
        self.cookie = f"__Host-fettle_session={session}"
        return self

    def sign_in(self, password: str = GOOD, address: str = "") -> httpx.Response:
        return self.ask("POST", "/sign-in/password", {"email": self.email, "password": password}, address)

    def with_second_factor(self) -> tuple[pyotp.TOTP, list[str]]:
        """Come by link and switch it on."""
        self.by_link().post("/account/second-factor")
        app = pyotp.TOTP(key_on(self.get("/account/second-factor").text))
        page = self.post("/account/second-factor/confirm", code=self.code(app))
        assert page.status_code == 200
        return app, re.findall(r"<li><code>([A-Z0-9-]+)</code>", page.text)

    def code(self, app: pyotp.TOTP, later_s: int = 0) -> str:
        return app.at(self.company.now() // 1000 + later_s)


def key_on(page: str) -> str:
    found = re.search(r"<code>([A-Z2-7 ]{39})</code>", page)
    assert found
    return found[1].replace(" ", "")


def step_in(page: httpx.Response) -> str:
    """The secret of the step that asks for a code."""
    found = re.search(r'name="secret" value="([^"]+)"', page.text)
    assert found
    return found[1]


def rows(company: World, table: sa.Table, *which: sa.ColumnElement[bool]) -> list[sa.Row]:
    with company.database.connect() as connection:
        return list(connection.execute(sa.select(table).where(*which)))


def stored(company: World) -> str:
    return repr([rows(company, table) for table in schema.metadata.sorted_tables])


def audited(company: World, somebody: Somebody) -> list[str]:
    names = rows(company, schema.audit, schema.audit.c.subject == f"person:{somebody.id}")
    return [row.what for row in names]


class Post:
    """A channel that keeps what it was given, or fails."""

    name = "email"

    def __init__(self, failure: Exception | None = None) -> None:
        self.sent: list[Message] = []
        self.failure = failure

    def send(self, message: Message, now: int) -> None:  # noqa: ARG002
        if self.failure:
            raise self.failure
        self.sent.append(message)


def mailed(company: World, somebody: Somebody, kind: str) -> list[sa.Row]:
    n = schema.notice.c
    mine = sa.or_(n.person_id == somebody.id, n.recipient == somebody.email)
    return rows(company, schema.notice, mine, n.kind == kind)


# --- passwords -----------------------------------------------------------------------------------------------------


def test_a_password_is_set_by_whoever_came_by_link_and_signs_in_from_then_on(company: World) -> None:
    olga, elsewhere = Somebody(company).by_link(), ""
    elsewhere = olga.cookie
    olga.by_link()
    before = olga.cookie
    answer = olga.post("/account/password", password=GOOD)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account?told=password")
    assert olga.cookie != before  # another secret
    assert olga.get("/account?told=password").status_code == 200
    for old in (before, elsewhere):
        olga.cookie = old
        assert olga.get("/account").status_code == 303
    olga.cookie = ""
    answer = olga.sign_in()
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    told = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert {"secure", "httponly", "path=/", "samesite=lax"} <= told
    assert olga.get("/").status_code == 200
    assert "password_changed" in audited(company, olga)
    (notice,) = mailed(company, olga, "sign_in_changed")
    assert notice.subject == "Your password was changed"
    assert GOOD not in stored(company)


def test_passwords_are_kept_as_argon2id_and_kept_anew_when_that_changes(company: World) -> None:
    olga = Somebody(company).with_password()
    (kept,) = rows(company, schema.password, schema.password.c.person_id == olga.id)
    assert kept.hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    old = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(GOOD)
    with company.database.begin() as connection:
        connection.execute(sa.update(schema.password).where(schema.password.c.person_id == olga.id).values(hash=old))
    assert olga.sign_in().status_code == 303
    (kept,) = rows(company, schema.password, schema.password.c.person_id == olga.id)
    assert kept.hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert Hashing().fits(kept.hash, GOOD)


def test_a_stranger_is_told_the_same_whether_there_is_such_an_account(company: World) -> None:
    olga, without = Somebody(company).with_password(), Somebody(company)
    pages = []
    for email in (olga.email, without.email, "nobody@example.com"):
        stranger = Somebody(company)
        answer = stranger.post("/sign-in/password", email=email, password="quite another thing")
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
        pages.append(answer.text.replace(email, "EMAIL"))
    assert pages[0] == pages[1] == pages[2]
    assert "do not go together" in pages[0]


def test_a_wrong_password_costs_the_same_where_there_is_none() -> None:
    hashing, kept = Hashing(), kept_of_good()

    def cost(hash: str | None) -> float:  # noqa: A002
        began = time.process_time()
        assert not hashing.fits(hash, OTHER)
        return time.process_time() - began

    assert not hashing.is_outdated(NOBODYS)
    known, unknown = (min(cost(one) for _ in range(2)) for one in (kept, None))
    assert 0.5 < unknown / known < 2
    assert not hashing.fits("not a hash", GOOD)


def test_few_passwords_are_looked_at_at_once() -> None:
    hashing, working, done = Hashing(), threading.Semaphore(0), threading.Event()

    def work() -> None:
        with hashing._turn():
            working.release()
            done.wait(PATIENCE_S)

    with ThreadPoolExecutor(AT_ONCE + WAITING) as crowd:
        asked = [crowd.submit(work) for _ in range(AT_ONCE + WAITING)]
        for _ in range(AT_ONCE):
            assert working.acquire(timeout=PATIENCE_S)
        until(lambda: hashing._room._value == 0)
        with pytest.raises(Busy):
            hashing.fits(None, GOOD)
        with pytest.raises(Busy):
            hashing.hash(GOOD)
        assert not working.acquire(blocking=False)  # the others wait
        done.set()
        assert [one.result() for one in asked] == [None] * len(asked)
    assert hashing._room._value == AT_ONCE + WAITING


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("elevenchars", Weak.SHORT),
        ("x" * 100 + GOOD * 2, Weak.LONG),
        ("aaaaaaaaaaaaaa", Weak.SIMPLE),
        ("121212121212", Weak.SIMPLE),
        ("123456789012", Weak.SIMPLE),
        ("98765432109876", Weak.SIMPLE),
        ("abcdefghijklmnop", Weak.SIMPLE),
        ("password1234", Weak.COMMON),
        ("P@ssw0rd!2026", Weak.COMMON),
        ("Welcome-Welcome", Weak.COMMON),
        ("qwertyuiop123", Weak.COMMON),
        ("correct horse battery staple", Weak.COMMON),
        ("Olga Petrowa 1", Weak.KNOWN),
        ("olga.p@rental.example", Weak.KNOWN),
        ("petrowa-2026!", Weak.KNOWN),
        ("Fettle!Fettle7", Weak.KNOWN),
        ("Fettle.Rental.Example", Weak.KNOWN),
        (GOOD, None),
        ("839201748563", None),
        ("长江后浪推前浪一代新人换旧人", None),
        ("olga likes gravel", None),
        ("x" * 90 + "abcdefgh 12 other", None),
    ],
)
def test_what_is_easy_to_guess_is_not_taken(password: str, why: Weak | None) -> None:
    assert weakness(password, ("Olga Petrowa", "olga.p@rental.example", "fettle.rental.example", "fettle")) is why


def test_a_weak_password_is_explained_on_the_page(company: World) -> None:
    olga = Somebody(company).by_link()
    answer = olga.post("/account/password", password="password1234")
    assert answer.status_code == 422
    assert "among the first that anybody would try" in answer.text
    assert olga.post("/account/password", password=f"{olga.name} 12345").status_code == 422
    assert rows(company, schema.password, schema.password.c.person_id == olga.id) == []


def test_however_a_keyboard_composes_letters_it_is_the_same_password(company: World) -> None:
    olga = Somebody(company).by_link()
    assert olga.post("/account/password", password="gru\u0308ne Laterne am Kai").status_code == 303
    assert olga.sign_in("grüne Laterne am Kai").status_code == 303


def test_changing_a_password_takes_the_present_one(company: World) -> None:
    olga = Somebody(company).with_password()
    assert olga.post("/account/password", password=OTHER).status_code == 403
    assert olga.post("/account/password", present="not that one", password=OTHER).status_code == 403
    assert "present password" in olga.post("/account/password", present="", password=OTHER).text
    assert olga.post("/account/password", present=GOOD, password=OTHER).status_code == 303
    assert olga.sign_in(GOOD).status_code == 403
    assert olga.sign_in(OTHER).status_code == 303


def test_a_link_s_session_needs_none_but_only_while_it_is_young(company: World) -> None:
    assert company.at is not None
    olga = Somebody(company).with_password()
    olga.by_link()
    company.at += 14 * MINUTE
    assert olga.post("/account/password", password=OTHER).status_code == 303
    olga.by_link()
    company.at += 15 * MINUTE
    assert olga.post("/account/password", password=GOOD).status_code == 403
    without = Somebody(company).by_link()
    company.at += 15 * MINUTE
    answer = without.post("/account/password", password=GOOD)
    assert answer.status_code == 403
    assert "Have a link sent" in answer.text


def test_an_address_and_a_password_name_one_person(company: World) -> None:
    one, two = Somebody(company).with_password(), Somebody(company)
    with company.database.begin() as connection:
        connection.execute(sa.update(schema.person).where(schema.person.c.id == two.id).values(email=one.email.upper()))
    answer = two.by_link().post("/account/password", password=OTHER)
    assert answer.status_code == 422
    assert "same e-mail address" in answer.text
    one.email = one.email.upper()
    assert one.sign_in().status_code == 303


def test_of_two_who_share_an_address_one_has_a_password_and_the_other_reads_why(company: World) -> None:
    one, two = Somebody(company).with_password(), Somebody(company).by_link()
    with company.database.begin() as connection:
        connection.execute(sa.update(schema.person).where(schema.person.c.id == two.id).values(email=f" {one.email}"))
    page = two.get("/account").text
    assert "Somebody else with the same e-mail address has a password" in page
    assert 'action="/account/password"' not in page
    assert 'action="/account/password"' in one.get("/account").text


def test_whoever_has_the_password_comes_in_however_many_share_the_address(company: World) -> None:
    crowd = [Somebody(company) for _ in range(7)]
    c = schema.person.c
    with company.database.begin() as connection:
        connection.execute(
            sa.update(schema.person).where(c.id.in_([one.id for one in crowd])).values(email="crew@example.com")
        )
    last = crowd[-1].with_password()
    last.email = "crew@example.com"
    assert last.sign_in().status_code == 303
    with company.database.begin() as connection, pytest.raises(Refused):
        passwords.set_password(connection, crowd[0].id, kept_of_good(), company.now(), "test")


class Interrupted(Hashing):
    """In the moment in which a password is looked at, or made, something else happens."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self.happens = happens

    def hash(self, password: str) -> str:
        self.happens()
        return super().hash(password)

    def fits(self, hash: str | None, password: str) -> bool:  # noqa: A002
        self.happens()
        return super().fits(hash, password)


@pytest.mark.parametrize(
    ("path", "given"),
    [("password", {"password": OTHER, "present": GOOD}), ("second-factor/off", {"present": GOOD}),
     ("second-factor", {"present": GOOD}), ("second-factor/codes", {"present": GOOD})],
)  # fmt: skip
def test_what_a_session_began_is_not_done_once_it_was_ended(company: World, path: str, given: dict[str, str]) -> None:
    """Somebody ends all sessions while a stranger in one of them changes how they sign in."""
    olga = Somebody(company)
    olga.with_second_factor()
    olga.with_password()
    before = rows(company, schema.password), rows(company, schema.second_factor), rows(company, schema.recovery_code)

    def ended() -> None:
        with company.database.begin() as connection:
            end_other_sessions(connection, olga.id, "", "test", company.now())

    assert company.app is not None
    doors = company.app.state.doors
    whole, doors.hashing = doors.hashing, Interrupted(ended)
    try:
        answer = olga.post(f"/account/{path}", **given)
    finally:
        doors.hashing = whole
    assert answer.status_code == 401
    assert "nothing was changed" in answer.text
    assert before == (
        rows(company, schema.password), rows(company, schema.second_factor), rows(company, schema.recovery_code)
    )  # fmt: skip
    running = schema.session.c.person_id == olga.id, schema.session.c.ended_at.is_(None)
    assert rows(company, schema.session, *running) == []


# --- what was refused ----------------------------------------------------------------------------------------------


def refused(company: World, *which: sa.ColumnElement[bool]) -> list[tuple[str, str, str, int]]:
    """Of the present test: who, what, of what, the how manieth time."""
    found = rows(company, schema.audit, schema.audit.c.at >= company.now(), *which)
    whats = ("access_denied", "link_refused", "sign_in_failed", "token_refused")
    return [(row.actor, row.what, row.subject, row.after["times"]) for row in found if row.what in whats]


def test_what_was_refused_stands_in_the_audit_and_fills_it_with_nothing(company: World) -> None:
    ivo = Somebody(company, Role.CUSTOMER).by_link()
    for _ in range(12):
        assert ivo.get("/settings/people").status_code == 403
        for path in ("/sign-in", "/sign-in/code"):
            data = {"secret": "x" * 43, "code": "1"}
            sent = {"secret": data["secret"]} if path == "/sign-in" else data
            assert ivo.ask("POST", path, sent, "203.0.113.50").status_code == 403
    PLAIN.get(f"{company.url}/api/v1/devices", headers={"Authorization": "Bearer no", "X-Forwarded-For": "2001:db8::1"})
    PLAIN.get(f"{company.url}/c/abc", headers={"X-Forwarded-For": "198.51.100.200"})
    PLAIN.post(f"{company.url}/sign-in", headers={"Sec-Fetch-Site": "cross-site", "X-Forwarded-For": "192.0.2.1"})
    net = "address:203.0.113.0/24"
    assert sorted(refused(company)) == sorted([
        *[(f"person:{ivo.id}", "access_denied", "GET /settings/people", times) for times in (1, 10)],
        *[(net, "link_refused", subject, times) for subject in ("sign_in", "code") for times in (1, 10)],
        ("address:2001:db8::/48", "token_refused", "", 1),
        ("address:198.51.100.0/24", "link_refused", "customer", 1),
        ("address:192.0.2.0/24", "access_denied", "from_elsewhere", 1),
    ])  # fmt: skip


def test_however_many_are_refused_the_audit_grows_by_a_bounded_number_of_rows() -> None:
    denials = Denials()
    noted = [denials.count(f"address:10.0.{n}.0/24", "link_refused", "sign_in", BEGAN) for n in range(5_000)]
    told = [one for one in noted if one]
    assert len(told) == KEYS + 4, "a hundred by themselves; the 1st, 10th, 100th and 1000th of all others"
    assert told[-1] == (OTHERS, 1000)
    assert denials.count("address:10.9.9.0/24", "link_refused", "sign_in", BEGAN + WINDOW_MS) == (
        "address:10.9.9.0/24", 1
    )  # fmt: skip


@pytest.mark.parametrize(
    ("host", "network"),
    [("203.0.113.9", "203.0.113.0/24"), ("::ffff:203.0.113.9", "203.0.113.0/24"),
     ("2001:db8:1:2::3", "2001:db8:1::/48"), ("fe80::1%eth0", "fe80::/48"), ("testclient", ""), ("", "")],
)  # fmt: skip
def test_a_stranger_is_noted_by_their_network(host: str, network: str) -> None:
    assert network_of(host) == network


def test_pages_with_a_secret_are_not_packed_and_not_kept(company: World) -> None:
    olga = Somebody(company).by_link()
    olga.post("/account/second-factor")
    for path, packed in (("/account/second-factor", None), (f"/sign-in/{'x' * 43}", None), ("/account", None),
                         ("/settings/people", "gzip")):  # fmt: skip
        answer = olga.get(path)
        assert (answer.headers.get("content-encoding"), answer.headers["cache-control"]) == (packed, "no-store"), path


# --- guessing ------------------------------------------------------------------------------------------------------


def test_a_hundred_wrong_tries_from_one_address_lock_nobody_out(company: World) -> None:
    olga, thief = Somebody(company).with_password(), Somebody(company)
    thief.email = olga.email
    answers = [thief.sign_in(f"guess number {n}", "203.0.113.9").status_code for n in range(100)]
    assert answers == [403] * 10 + [429] * 90
    # Not even the right one is looked at from there.
    refused = thief.sign_in(GOOD, "203.0.113.9")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, str(15 * 60 + 1))
    assert olga.sign_in(GOOD, "198.51.100.4").status_code == 303
    noted = schema.audit.c.subject == f"person:{olga.id}", schema.audit.c.what == "sign_in_failed"
    until(lambda: len(rows(company, schema.audit, *noted)) == 2)
    assert [(row.actor, row.after) for row in rows(company, schema.audit, *noted)] == [
        ("address:203.0.113.0/24", {"times": times, "by": "password"}) for times in (1, 10)
    ]  # fmt: skip
    assert company.at is not None
    company.at += 15 * MINUTE
    assert olga.sign_in(GOOD, "203.0.113.9").status_code == 303


def test_one_address_tries_so_many_accounts_and_no_more(company: World) -> None:
    with httpx.Client(base_url=company.url, headers={"X-Forwarded-For": "203.0.113.77"}, timeout=PATIENCE_S) as client:
        doors = company_doors = Doors()
        waits = [doors.try_password(f"a{n}@example.com", "203.0.113.77", BEGAN) for n in range(31)]
        assert waits == [0] * 30 + [15 * MINUTE]
        assert company_doors.try_password("a0@example.com", "203.0.113.78", BEGAN) == 0
        assert client.get("/sign-in").status_code == 200


def test_many_addresses_together_try_one_account_so_often_and_its_own_may_go_on() -> None:
    doors = Doors()
    assert doors.try_password("olga@example.com", "home", BEGAN) == 0
    doors.password_fitted("Olga@example.com ", "home")
    waits = [doors.try_password("olga@example.com", f"bot {n}", BEGAN) for n in range(60)]
    assert waits == [0] * 50 + [60 * MINUTE] * 10
    assert doors.try_password("olga@example.com", "home", BEGAN) == 0
    assert doors.try_password("else@example.com", "bot 0", BEGAN) == 0
    assert doors.try_password("olga@example.com", "bot 99", BEGAN + 60 * MINUTE) == 0


def test_tries_are_counted_in_bounds() -> None:
    tries = Tries(2, MINUTE)
    for n in range(12_000):
        tries.note(f"{n}", BEGAN)
    assert len(tries._counts) == 10_000
    tries.note("11999", BEGAN)
    assert tries.wait_ms("11999", BEGAN + 20_000) == 40_000
    tries.take_back("11999")
    assert tries.wait_ms("11999", BEGAN) == 0


def test_another_sites_form_signs_nobody_in(company: World) -> None:
    olga = Somebody(company).with_password()
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        with httpx.Client(base_url=company.url) as client:
            for path in ("/sign-in/password", "/sign-in/link", "/sign-in/code", "/account/password"):
                answer = client.post(path, data={"email": olga.email, "password": GOOD}, headers=headers)
                assert answer.status_code == 403
                assert "set-cookie" not in answer.headers


def test_unknown_fields_are_refused(company: World) -> None:
    olga = Somebody(company)
    assert olga.post("/sign-in/password", email=olga.email, password=GOOD, role="admin").status_code == 422
    assert olga.by_link().post("/account/reading", lang="en", timezone="", role="admin").status_code == 422


# --- links by mail -------------------------------------------------------------------------------------------------


def link_for(company: World, somebody: Somebody) -> sa.Row:
    """Ask for a link, and wait for its notice: it is made after the answer."""
    before = len(mailed(company, somebody, "sign_in_link"))
    page = Somebody(company).post("/sign-in/link", email=somebody.email, password="")
    assert page.status_code == 200
    until(lambda: len(mailed(company, somebody, "sign_in_link")) > before)
    return mailed(company, somebody, "sign_in_link")[-1]


def test_a_mailed_link_signs_in_once_and_is_not_kept(company: World) -> None:
    olga, post = Somebody(company, Role.TECHNICIAN), Post()
    # However else they are told: a link goes to their address alone.
    company.insert(schema.contact, person_id=olga.id, channel="dingtalk", address="room", position=0)
    notice = link_for(company, olga)
    assert (notice.channel, notice.recipient, notice.status) == ("email", olga.email, "queued")
    secret = notice.link.rpartition("/")[2]
    assert secret in notice.body
    Outbox(company.database, {"email": post}).deliver_due(company.now())
    (letter,) = [one for one in post.sent if one.recipient == olga.email]
    assert f"{company.url}/sign-in/{secret}" in letter.body
    assert secret in letter.html
    assert secret not in stored(company)
    (kept,) = mailed(company, olga, "sign_in_link")
    assert (kept.status, kept.body, kept.html, kept.link) == ("sent", "", "", "")
    page = olga.get(f"/sign-in/{secret}")
    assert page.text.count("<button") == 1
    assert olga.post("/sign-in", secret=step_in(page)).status_code == 303
    assert olga.get("/account").status_code == 200
    assert olga.post("/sign-in", secret=secret).status_code == 403
    assert "sign_in_link_sent" in audited(company, olga)


@pytest.mark.parametrize("fate", ["withdrawn", "failed", "failed at once"])
def test_a_link_that_could_not_be_sent_is_not_kept_either(company: World, fate: str) -> None:
    assert company.at is not None
    olga = Somebody(company)
    secret = link_for(company, olga).link.rpartition("/")[2]
    if fate == "withdrawn":
        post = Post()
        outbox = Outbox(company.database, {"email": post})
        company.at += LINK_MINUTES * MINUTE
        outbox.deliver_due(company.now())
        assert [one for one in post.sent if one.recipient == olga.email] == []
    elif fate == "failed":
        given_up = company.api.desk.telling.given_up
        Outbox(company.database, {"email": Post(Bounced("no such box"))}, given_up=given_up).deliver_due(company.now())
    else:
        Outbox(company.database, {}).deliver_due(company.now())
    (kept,) = mailed(company, olga, "sign_in_link")
    assert kept.status == fate.partition(" ")[0]
    assert secret not in stored(company)


def test_asking_for_a_link_tells_nobody_who_is_there(company: World) -> None:
    olga, gone = Somebody(company), Somebody(company)
    with company.database.begin() as connection:
        connection.execute(sa.update(schema.person).where(schema.person.c.id == gone.id).values(disabled_at=1))
    notices = len(rows(company, schema.notice))
    pages = [
        Somebody(company).post("/sign-in/link", email=email, password="").text.replace(email, "EMAIL")
        for email in ("nobody@example.com", gone.email, olga.email)
    ]
    assert pages[0] == pages[1] == pages[2]
    until(lambda: len(rows(company, schema.notice)) > notices)
    assert len(rows(company, schema.notice)) == notices + 1
    assert mailed(company, gone, "sign_in_link") == []


def test_links_are_bounded_by_person_and_by_address(company: World) -> None:
    olga = Somebody(company)
    for _ in range(LINKS_AT_ONCE):
        link_for(company, olga)
    answers = [olga.ask("POST", "/sign-in/link", {"email": olga.email}, "203.0.113.50").status_code for _ in range(12)]
    assert answers == [200] * 10 + [429] * 2
    other = Somebody(company)
    link_for(company, other)  # whatever was asked before it has been dealt with
    assert len(mailed(company, olga, "sign_in_link")) == LINKS_AT_ONCE


# --- the second factor ---------------------------------------------------------------------------------------------


def test_with_a_second_factor_a_password_is_not_enough(company: World) -> None:
    assert company.at is not None
    olga = Somebody(company).with_password()
    app, codes = olga.with_second_factor()
    assert len(set(codes)) == 10
    assert app.secret not in stored(company)
    assert not any(code.replace("-", "") in stored(company) for code in codes)
    company.at += MINUTE
    olga.cookie = ""
    page = olga.sign_in()
    assert page.status_code == 200
    assert "set-cookie" not in page.headers
    step = step_in(page)
    assert olga.post("/sign-in/code", secret=step, code="000000").status_code == 403
    code = olga.code(app)
    assert olga.post("/sign-in/code", secret=step, code=f"{code[:3]} {code[3:]}").status_code == 303
    assert olga.get("/account").status_code == 200
    # Neither the step nor the code works again.
    assert olga.post("/sign-in/code", secret=step, code=code).status_code == 403
    assert olga.post("/sign-in/code", secret=step_in(olga.sign_in()), code=code).status_code == 403
    assert audited(company, olga).count("second_factor_on") == 1
    assert [one.subject for one in mailed(company, olga, "sign_in_changed")][-1].endswith("switched on")


def test_a_link_is_not_enough_either_and_a_recovery_code_works_once(company: World) -> None:
    olga = Somebody(company)
    _, codes = olga.with_second_factor()
    olga.cookie = ""
    step = step_in(olga.post("/sign-in", secret=company.link(Role.OPS, olga.id)))
    assert olga.cookie == ""
    assert olga.get("/account").status_code == 303
    assert olga.post("/sign-in", secret=step).status_code == 403  # a step is no link
    assert olga.post("/sign-in/code", secret=step, code=codes[0].lower()).status_code == 303
    assert "9 recovery codes are left" in olga.get("/account").text
    step = step_in(olga.post("/sign-in", secret=company.link(Role.OPS, olga.id)))
    assert olga.post("/sign-in/code", secret=step, code=codes[0]).status_code == 403
    assert olga.post("/sign-in/code", secret=step, code=codes[1]).status_code == 303


def test_codes_are_guessed_a_few_times_only(company: World) -> None:
    olga = Somebody(company)
    app, codes = olga.with_second_factor()

    def step() -> str:
        return step_in(olga.post("/sign-in", secret=company.link(Role.OPS, olga.id)))

    first, second = step(), step()
    assert [olga.post("/sign-in/code", secret=first, code=f"00000{n}").status_code for n in range(6)] == [403] * 6
    assert "too many wrong codes" in olga.post("/sign-in/code", secret=first, code=olga.code(app)).text
    answers = [olga.post("/sign-in/code", secret=second, code=f"00000{n}").status_code for n in range(4)]
    assert answers == [403] * 4
    third = step()
    assert olga.post("/sign-in/code", secret=third, code="000009").status_code in (403, 429)
    assert olga.post("/sign-in/code", secret=third, code="000009").status_code == 429
    assert olga.post("/sign-in/code", secret=third, code=codes[3]).status_code == 303


def test_a_step_expires_and_dies_with_its_person(company: World) -> None:
    assert company.at is not None
    olga = Somebody(company)
    app, codes = olga.with_second_factor()
    step = step_in(olga.post("/sign-in", secret=company.link(Role.OPS, olga.id)))
    other = step_in(olga.post("/sign-in", secret=company.link(Role.OPS, olga.id)))
    company.at += 5 * MINUTE
    assert olga.post("/sign-in/code", secret=step, code=codes[0]).status_code == 403
    company.at -= 5 * MINUTE
    with company.database.begin() as connection:
        connection.execute(sa.update(schema.person).where(schema.person.c.id == olga.id).values(disabled_at=1))
    assert olga.post("/sign-in/code", secret=other, code=olga.code(app, 30)).status_code == 403


def test_it_is_on_only_when_the_app_has_shown_a_code(company: World) -> None:
    assert company.at is not None
    olga = Somebody(company).by_link()
    assert "Nothing waits" in olga.get("/account/second-factor").text
    olga.post("/account/second-factor")
    page = olga.get("/account/second-factor")
    assert 'src="data:image/svg+xml' in page.text
    app = pyotp.TOTP(key_on(page.text))
    wrong = olga.post("/account/second-factor/confirm", code=olga.code(app, 3600))
    assert wrong.status_code == 422
    assert olga.post("/sign-in", secret=company.link(Role.OPS, olga.id)).status_code == 303
    company.at += 15 * MINUTE
    assert "Nothing waits" in olga.get("/account/second-factor").text
    assert olga.post("/account/second-factor/confirm", code=olga.code(app)).status_code == 422


def test_switching_it_off_takes_the_password_and_ends_other_sessions(company: World) -> None:
    olga = Somebody(company).with_password()
    assert olga.post("/account/second-factor").status_code == 403
    assert olga.post("/account/second-factor", present=GOOD).status_code == 303
    app = pyotp.TOTP(key_on(olga.get("/account/second-factor").text))
    olga.post("/account/second-factor/confirm", code=olga.code(app))
    assert olga.post("/account/second-factor/off", present="no").status_code == 403
    fresh = olga.post("/account/second-factor/codes", present=GOOD)
    (recovery,) = re.findall(r"<li><code>([A-Z0-9-]+)</code>", fresh.text)[:1]
    here, olga.cookie = olga.cookie, ""
    olga.post("/sign-in/code", secret=step_in(olga.sign_in()), code=recovery)
    there, olga.cookie = olga.cookie, here
    assert olga.post("/account/second-factor/off", present=GOOD).status_code == 303
    assert olga.get("/account").status_code == 200
    olga.cookie = there
    assert olga.get("/account").status_code == 303
    assert olga.sign_in().status_code == 303
    assert rows(company, schema.recovery_code, schema.recovery_code.c.person_id == olga.id) == []
    assert "second_factor_off" in audited(company, olga)


def test_what_another_key_has_sealed_opens_nothing(company: World) -> None:
    olga, weber = Somebody(company), Somebody(company)
    app, codes = olga.with_second_factor()
    weber.with_second_factor()
    s = schema.second_factor.c
    (hers,) = rows(company, schema.second_factor, s.person_id == olga.id)
    with company.database.begin() as connection:
        # Her row in the place of his: the secret inside names its owner.
        connection.execute(sa.update(schema.second_factor).where(s.person_id == weber.id).values(sealed=hers.sealed))
    step = step_in(weber.post("/sign-in", secret=company.link(Role.OPS, weber.id)))
    assert weber.post("/sign-in/code", secret=step, code=weber.code(app, 30)).status_code == 403
    assert Signer(bytes(32)).key("second factor") != Signer(bytes(31) + b"1").key("second factor")
    assert len(codes) == 10


def test_the_qr_code_holds_what_an_app_reads() -> None:
    secret = "JBSWY3DPEHPK3PXP" * 2
    address = urlsplit(second_factor.address_of(secret, "olga@example.com"))
    assert (address.scheme, address.netloc) == ("otpauth", "totp")
    assert parse_qs(address.query) == {"secret": [secret], "issuer": ["fettle"]}


# --- sessions ------------------------------------------------------------------------------------------------------


def test_signing_in_again_leaves_the_session_before(company: World) -> None:
    olga = Somebody(company).with_password()
    before = olga.cookie
    assert olga.sign_in().status_code == 303
    after, olga.cookie = olga.cookie, before
    assert before != after
    assert olga.get("/account").status_code == 303


def test_somebody_who_has_left_is_out_at_once_and_does_not_come_in(company: World) -> None:
    olga = Somebody(company).with_password()
    assert olga.get("/").status_code == 200
    with company.database.begin() as connection:
        connection.execute(sa.update(schema.person).where(schema.person.c.id == olga.id).values(disabled_at=1))
    assert olga.get("/").status_code == 303
    assert olga.sign_in().status_code == 403


def test_sessions_are_listed_and_ended_by_their_owner_alone(company: World) -> None:
    olga, weber = Somebody(company).by_link(), Somebody(company).by_link()
    phone = olga.cookie
    olga.by_link()  # the browser leaves the one before
    olga.cookie = ""
    olga.by_link()
    third, olga.cookie = olga.cookie, ""
    olga.by_link()
    page = olga.get("/account").text
    handles = re.findall(r'name="handle" value="([^"]+)"', page)
    assert len(handles) == 2
    assert not any(handle in phone for handle in handles)
    for handle in handles:
        weber.post("/account/sessions/end", handle=handle)
    assert len(re.findall('name="handle"', olga.get("/account").text)) == 2
    assert olga.post("/account/sessions/end", handle=handles[0]).status_code == 303
    assert len(re.findall('name="handle"', olga.get("/account").text)) == 1
    assert olga.post("/account/sessions/end", handle="").status_code == 303
    mine, olga.cookie = olga.cookie, third
    assert olga.get("/account").status_code == 303
    olga.cookie = mine
    assert olga.get("/account").status_code == 200
    assert weber.get("/account").status_code == 200


# --- reading and being told ----------------------------------------------------------------------------------------


def test_pages_are_read_in_ones_own_language_and_zone(company: World) -> None:
    olga = Somebody(company).by_link()
    assert 'data-zone="Europe/Berlin"' in olga.get("/").text
    answer = olga.post("/account/reading", lang="zh", timezone="Asia/Tokyo")
    assert answer.status_code == 303
    # What was chosen on this browser before must not count more than what was chosen now.
    assert 'fettle_lang=""' in answer.headers["set-cookie"]
    page = olga.get("/").text
    assert 'data-zone="Asia/Tokyo"' in page
    assert 'lang="zh-Hans"' in page
    assert olga.post("/account/reading", lang="zh", timezone="Mars/Olympus").status_code == 422
    assert "reading_set" in audited(company, olga)


def test_the_api_knows_ones_own_account(company: World) -> None:
    tang = Somebody(company, Role.TECHNICIAN)
    secret = company.token(Role.TECHNICIAN, tang.name)
    with httpx.Client(base_url=company.url, headers={"Authorization": f"Bearer {secret}"}) as client:
        found = client.get("/api/v1/account").json()
        assert (found["name"], found["password_set_at"], found["recovery_codes"]) == (tang.name, None, 0)
        assert client.patch("/api/v1/account", json={"lang": "zh"}).json()["lang"] == "zh"
        assert client.patch("/api/v1/account", json={"timezone": "Asia/Tokyo"}).json()["timezone"] == "Asia/Tokyo"
        assert client.patch("/api/v1/account", json={"role": "admin"}).status_code == 422
        # A token changes nothing of how its person signs in.
        assert client.post("/account/password", data={"password": GOOD}).status_code == 404
    nobodys = company.token(Role.OPS, "a script")
    with httpx.Client(base_url=company.url, headers={"Authorization": f"Bearer {nobodys}"}) as client:
        assert client.get("/api/v1/account").status_code == 404


def test_quiet_hours_and_order_are_ones_own_to_set(company: World) -> None:
    olga = Somebody(company).by_link()
    assert "By e-mail to" in olga.get("/account").text
    for place, (channel, address) in enumerate((("email", "o@example.com"), ("sms", "+8613800000000"))):
        company.insert(schema.contact, person_id=olga.id, channel=channel, address=address, position=place,
                       bounced_at=company.now() if channel == "sms" else None)  # fmt: skip
    assert "does not work since" in olga.get("/account").text
    form = {"address": ["email:o@example.com", "sms:+8613800000000"], "place": ["2", "1"],
            "quiet_from": ["22:00", ""], "quiet_until": ["06:30", ""]}  # fmt: skip
    assert olga.post("/account/contacts", **form).status_code == 303
    c = schema.contact.c
    kept = sorted(rows(company, schema.contact, c.person_id == olga.id), key=lambda row: row.position)
    assert [(row.channel, row.quiet_from_minute, row.quiet_until_minute) for row in kept] == [
        ("sms", 0, 0), ("email", 22 * 60, 6 * 60 + 30)
    ]  # fmt: skip
    # The page with the old order, sent again; and an address that is not theirs.
    assert olga.post("/account/contacts", **form).status_code == 409
    other = {**form, "address": ["sms:+8613800000000", "email:thief@example.com"]}
    assert olga.post("/account/contacts", **other).status_code == 409
    wrong = {**form, "quiet_from": ["25:00", ""]}
    assert olga.post("/account/contacts", **wrong).status_code == 422


def test_every_zone_that_is_offered_is_one(company: World) -> None:
    olga, offered = Somebody(company).by_link(), zones("zh", BEGAN)
    page = olga.get("/account?lang=zh").text
    assert '<option value="Asia/Shanghai">上海 (UTC+8)</option>' in page
    assert '<option value="Asia/Kolkata">加尔各答 (UTC+5:30)</option>' in page
    assert sum(map(len, offered.values())) > 400


def test_a_built_in_account_has_nothing_to_set(company: World) -> None:
    olga = Somebody(company)
    assert olga.post("/sign-in", secret=company.link(Role.OPS)).status_code == 303
    page = olga.get("/account")
    assert page.status_code == 200
    assert "fettle person add" in page.text
    assert 'href="/account"' not in olga.get("/").text
    assert olga.post("/account/password", password=GOOD).status_code == 404
    assert 'href="/account"' in Somebody(company).by_link().get("/").text


def test_forms_addresses_lead_back_to_the_beginning(company: World) -> None:
    with company.client() as client:
        for path in ("password", "link", "code"):
            answer = client.get(f"/sign-in/{path}?lang=zh", follow_redirects=False)
            assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")


def test_a_lost_sign_in_is_reset_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fettle import cli
    from fettle.house import house
    from fettle.settings import read_settings

    monkeypatch.setenv("FETTLE_HOME", str(tmp_path / "var"))

    def fettle(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            cli.run(list(arguments))
        return int(ended.value.code or 0)

    assert fettle("person", "add", "Olga", "--role", "ops", "--email", "olga@example.com") == 0
    with house(read_settings()) as rooms, rooms.database.begin() as connection:
        passwords.set_password(connection, 1, NOBODYS, BEGAN, "test")
    assert fettle("person", "reset", "Olga") == 0
    assert "no password" in capsys.readouterr().out
    assert fettle("person", "reset", "Nobody") == 2
    with house(read_settings()) as rooms, rooms.database.connect() as connection:
        assert passwords.set_at(connection, 1) is None
        (told,) = connection.execute(sa.select(schema.notice)).all()
    assert (told.kind, told.subject) == ("sign_in_changed", "Your password and second factor were removed")
