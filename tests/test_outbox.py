"""The outbox and its channels, against real SMTP and HTTP servers and a real database."""

import asyncio
import base64
import email
import email.policy
import hashlib
import hmac
import json
import random
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa
import urllib3
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from monitor.notify.channels import Channel, Settings, channels
from monitor.notify.logfile import LogFile
from monitor.notify.mail import Mail, Relay, parse_smtp_url
from monitor.notify.message import Bounced, Message, NotNow, Refused, Undelivered, Unreachable
from monitor.notify.outbox import CLAIM_MS, MAX_TRIES, Delivered, Outbox, setback, wait_ms
from monitor.notify.webhook import Target, Webhook, is_inside, parse_webhook_url
from monitor.store.database import Database, open_database
from monitor.store.schema import metadata, notice
from tests.patience import PATIENCE_S
from tests.programs import free_port, needs

NOW = 1_763_877_900_000
SUBJECT = "紧急｜GEN-014｜设备无法启动"  # noqa: RUF001
BODY = "设备无法启动\n\nMachine: GEN-014\n.\nGrüße\n"
MESSAGE = Message(7, "breach:231:dispatch:person-4", "breach", 231, "tech@example.com", "zh", SUBJECT, BODY, NOW)


# --- the SMTP side -------------------------------------------------------------------------------------------------


@dataclass
class Postbox:
    """What an SMTP server took in, and how it answers: by recipient, and to the text."""

    letters: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    refuses: dict[str, str] = field(default_factory=dict)
    to_data: str = "250 OK"
    dies: bool = False

    async def handle_RCPT(  # noqa: N802 (aiosmtpd's name)
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        if self.dies:
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        if self.to_data.startswith("250"):
            letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
            assert isinstance(letter, EmailMessage)
            self.letters.append((list(envelope.rcpt_tos), letter))
        return self.to_data


@contextmanager
def serving(postbox: Postbox) -> Iterator[Relay]:
    port = free_port()
    server = Controller(postbox, hostname="127.0.0.1", port=port)
    server.start()
    try:
        yield parse_smtp_url(f"smtp://127.0.0.1:{port}?from=Fettle%20%E5%B7%A5%E5%8D%95%20%3Cfettle@example.com%3E")
    finally:
        server.stop()


def send(channel: Channel, message: Message = MESSAGE) -> None:
    channel.send(message, NOW)


def failing(channel: Channel, message: Message = MESSAGE) -> Undelivered:
    with pytest.raises(Undelivered) as caught:
        channel.send(message, NOW)
    return caught.value


def test_a_letter_arrives_as_it_was_written() -> None:
    postbox = Postbox()
    with serving(postbox) as relay:
        send(Mail(relay))
        send(Mail(relay))
    (recipients, letter), (_, again) = postbox.letters
    assert recipients == ["tech@example.com"]
    assert letter["Subject"] == SUBJECT
    assert letter.get_content().replace("\r\n", "\n").rstrip("\n") == BODY.rstrip("\n")
    assert letter.get_content_type() == "text/plain"
    assert letter["To"] == "tech@example.com"
    assert letter["From"].addresses[0].addr_spec == "fettle@example.com"
    assert letter["From"].addresses[0].display_name == "Fettle 工单"
    assert letter["X-Fettle-Cause"] == "breach:231:dispatch:person-4"
    assert letter["Auto-Submitted"] == "auto-generated"
    # The same at every try, once, and in a form that RFC 5322 allows.
    (message_id,) = letter.get_all("Message-ID", [])
    assert message_id == again["Message-ID"]
    assert message_id.startswith("<fettle.7.")
    assert message_id.endswith("@example.com>")


def test_a_letter_with_html_has_the_plain_text_too() -> None:
    postbox, page = Postbox(), '<!DOCTYPE html>\n<html lang="zh"><p>设备 &lt;GEN-014&gt;</p></html>\n'
    with serving(postbox) as relay:
        send(Mail(relay), replace(MESSAGE, html=page))
    ((_, letter),) = postbox.letters
    assert letter.get_content_type() == "multipart/alternative"
    # The last one is the one that is shown where it can be (RFC 2046).
    plain, html = letter.iter_parts()
    assert [part.get_content_type() for part in (plain, html)] == ["text/plain", "text/html"]
    assert plain.get_content().replace("\r\n", "\n") == BODY
    assert html.get_content().replace("\r\n", "\n") == page
    assert letter["Subject"] == SUBJECT


@pytest.mark.parametrize(
    "recipient",
    ["", "nobody", "a@b.c, d@e.f", "a@b.c\nBcc: all@example.com", "A <a@b.c>", "a b@c.d", "a@", "a@-b", "名@例.公司"],
)
def test_what_is_no_address_is_refused_before_anything_is_sent(recipient: str) -> None:
    message = Message(1, "c", "breach", 1, recipient, "en", "s", "b", NOW)
    assert type(failing(Mail(Relay("127.0.0.1", 9, "none", "f@example.com")), message)) is Bounced


@pytest.mark.parametrize(
    ("postbox", "error", "words"),
    [
        (Postbox(refuses={"tech@example.com": "550 no such user"}), Bounced, "550 no such user"),
        (Postbox(refuses={"tech@example.com": "450 greylisted"}), NotNow, "450 greylisted"),
        (Postbox(to_data="554 spam"), Refused, "554 spam"),
        (Postbox(to_data="451 later"), NotNow, "451 later"),
        (Postbox(dies=True), Unreachable, ""),
    ],
)
def test_the_server_s_answer_decides_what_a_failure_means(
    postbox: Postbox, error: type[Undelivered], words: str
) -> None:
    with serving(postbox) as relay:
        failure = failing(Mail(relay))
    assert type(failure) is error
    assert words in str(failure)


def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        relay = Relay("127.0.0.1", mute.getsockname()[1], "none", "f@example.com")
        assert type(failing(Mail(relay, timeout_s=0.2))) is Unreachable


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
def test_no_server_at_all_is_unreachable(tls: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert type(failing(Mail(Relay("127.0.0.1", port, tls, "f@example.com")))) is Unreachable


def test_a_server_without_tls_gets_no_password() -> None:
    postbox = Postbox()
    with serving(postbox) as plain:
        relay = Relay(plain.host, plain.port, "starttls", plain.sender, user="u", password="secret")
        failure = failing(Mail(relay))
    assert type(failure) is Unreachable
    assert postbox.letters == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 with its key beside it (key.pem), signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
    subprocess.run(
        [needs("openssl"), *command.split(), "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "cert.pem"


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_password_goes_only_to_a_server_that_proves_itself(
    tls: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    postbox, port, seen = Postbox(), free_port(), []

    def sign_in(_server: object, _session: object, _envelope: object, _way: str, data: LoginPassword) -> AuthResult:
        seen.append((data.login, data.password))
        return AuthResult(success=data.password == b"s3cret", handled=False)

    implicit = tls == "implicit"
    server = Controller(
        postbox, hostname="127.0.0.1", port=port, ssl_context=context if implicit else None,
        tls_context=None if implicit else context, authenticator=sign_in, auth_required=not implicit,
        auth_require_tls=not implicit,
    )  # fmt: skip
    server.start()
    try:
        relay = Relay("127.0.0.1", port, tls, "f@example.com", user="u", password="s3cret")
        assert type(failing(Mail(relay))) is Unreachable
        assert seen == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        send(Mail(relay))
        wrong = failing(Mail(replace(relay, password="guess")))
    finally:
        server.stop()
    assert len(postbox.letters) == 1
    assert (type(wrong), str(wrong)) == (Unreachable, "sign-in refused: 535")


@pytest.mark.parametrize(
    ("url", "relay"),
    [
        ("smtp://mail.example.com?from=f@e.com", ("mail.example.com", 25, "none", "", "")),
        ("smtp://localhost:2525?from=F%20<f@e.com>", ("localhost", 2525, "none", "", "")),
        ("smtp://u:p%40ss@mail.example.com?from=f@e.com", ("mail.example.com", 587, "starttls", "u", "p@ss")),
        ("smtp://u:p@mail.example.com:25?from=f@e.com&tls=none", ("mail.example.com", 25, "none", "u", "p")),
        ("smtp://u:p@127.0.0.1:25?from=f@e.com", ("127.0.0.1", 25, "none", "u", "p")),
        ("smtps://u@e.com:p@mail.example.com?from=f@e.com", ("mail.example.com", 465, "implicit", "u@e.com", "p")),
    ],
)
def test_smtp_urls(url: str, relay: tuple[str, int, str, str, str]) -> None:
    read = parse_smtp_url(url)
    assert (read.host, read.port, read.tls, read.user, read.password) == relay
    assert read.sender == "f@e.com"
    assert "password" not in repr(read)


def test_the_sender_is_another_s_word_where_the_url_has_none() -> None:
    assert parse_smtp_url("smtp://127.0.0.1:2525", "fettle@rent.example").sender == "fettle@rent.example"
    assert parse_smtp_url("smtp://h?from=f@e.com", "fettle@rent.example").sender == "f@e.com"
    with pytest.raises(ValueError, match="from=ADDRESS is missing or no e-mail address"):
        parse_smtp_url("smtp://h?from=", "fettle@rent.example")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mailto://u:hunter2@h?from=f@e.com", "scheme must be smtp or smtps"),
        ("smtp://?from=f@e.com", "a host is missing"),
        ("smtp://u:hunter2@h", "from=ADDRESS is missing"),
        ("smtp://u:hunter2@h?from=f@e.com%0aBcc:x@y.z", "from=ADDRESS is missing or no e-mail address"),
        ("smtp://hunter2@h?from=f@e.com", "belong together"),
        ("smtp://u:hunter2@h:mail?from=f@e.com", "port"),
        ("smtp://u:hunter2@[::1?from=f@e.com", "no URL"),
        ("smtp://u:hunter2@h?from=f@e.com&verify=no", "verify is not known"),
        ("smtp://u:hunter2@h?from=f@e.com&tls=maybe", "tls must be none or starttls"),
        ("smtp://u:hunter2@h/tech@example.com?from=f@e.com", "nothing may stand between"),
    ],
)
def test_wrong_smtp_urls_are_named_without_their_password(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"^FETTLE_SMTP_URL: ") as caught:
        parse_smtp_url(url)
    assert why in str(caught.value)
    assert "hunter2" not in str(caught.value)


# --- the HTTP side -------------------------------------------------------------------------------------------------


@dataclass
class Hook:
    """What an HTTP server was posted, and the status it answers with."""

    status: int = 204
    posts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0


@contextmanager
def hooked(status: int = 204) -> Iterator[Hook]:
    hook = Hook(status)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.posts.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(hook.status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_post_says_what_happened_and_is_signed() -> None:
    key = b"0123456789abcdef01234567"
    with hooked() as hook:
        target = Target(f"http://127.0.0.1:{hook.port}/room?x=1", inside=True)
        send(Webhook(target, "whsec_" + base64.b64encode(key).decode()))
    ((headers, body),) = hook.posts
    posted = json.loads(body)
    assert (posted["title"], posted["message"], posted["kind"]) == (SUBJECT, BODY, "breach")
    assert posted["ticket_id"] == 231
    assert "tech@example.com" not in body.decode()
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (MESSAGE.cause, str(NOW // 1000))
    signed = f"{MESSAGE.cause}.{NOW // 1000}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, NotNow), (503, NotNow), (429, NotNow), (408, NotNow), (400, Refused), (410, Refused), (302, Refused)],
)
def test_the_answer_s_status_decides(status: int, error: type[Undelivered]) -> None:
    with hooked(status) as hook:
        failure = failing(Webhook(Target(f"http://127.0.0.1:{hook.port}/", inside=True)))
    assert type(failure) is error
    assert len(hook.posts) == 1, "a redirect is not followed, nothing is sent twice"


def test_a_hook_that_hangs_or_is_gone_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/secret-path"
        hanging = failing(Webhook(Target(url, inside=True), timeout=urllib3.Timeout(0.2)))
    gone = failing(Webhook(Target(url, inside=True)))
    assert (type(hanging), type(gone)) == (Unreachable, Unreachable)
    assert "secret-path" not in f"{hanging}{gone}"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "::1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0",  # noqa: S104
        "224.0.0.1", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_addresses_inside_are_not_configured(host: str) -> None:
    assert is_inside(host)
    url = f"http://[{host}]/" if ":" in host else f"http://{host}/"
    with pytest.raises(ValueError, match="inside the network"):
        parse_webhook_url(url)
    assert parse_webhook_url(url, inside=True) == Target(url, inside=True)


@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "hooks.example.com"])
def test_addresses_outside_are_taken(host: str) -> None:
    assert not is_inside(host)


@pytest.mark.parametrize("url", ["ftp://example.com", "json://example.com", "http://", "https://u:p@example.com/", ""])
def test_other_addresses_are_not_taken(url: str) -> None:
    with pytest.raises(ValueError, match=r"^FETTLE_WEBHOOK_URL: "):
        parse_webhook_url(url)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "localhost", "[::ffff:127.0.0.1]"])
def test_a_name_that_leads_inside_is_refused_at_the_connection(host: str) -> None:
    """Whatever the name looked like when it was set, the peer itself counts: 127.1 and rebinding too."""
    with hooked() as hook:
        failure = failing(Webhook(Target(f"http://{host}:{hook.port}/")))
    assert type(failure) is Refused
    assert "inside the network" in str(failure)
    assert hook.posts == []


# --- the log -------------------------------------------------------------------------------------------------------


def test_the_log_is_readable_for_its_owner_and_bounded(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "notices.log", max_bytes=400)
    send(log)
    line = log.path.read_text("utf-8")
    assert json.loads(line)["subject"] == SUBJECT
    assert SUBJECT in line, "Chinese stays readable"
    assert json.loads(line)["sent_at"] == "2025-11-23T06:05:00+00:00"
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    for _ in range(9):
        send(log)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notices.log", "notices.log.1"]
    assert log.path.stat().st_size < 1200


def test_a_log_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "notices.log").mkdir()
    assert type(failing(LogFile(tmp_path / "notices.log"))) is NotNow


def test_the_log_takes_e_mail_where_no_server_is_set(tmp_path: Path) -> None:
    without = channels(Settings(tmp_path))
    assert {name: channel.name for name, channel in without.items()} == {"log": "log", "email": "log"}
    complete = channels(Settings(tmp_path, smtp_url="smtp://h?from=f@e.com", webhook_url="https://hooks.example.com/x"))
    assert {name: channel.name for name, channel in complete.items()} == {
        "log": "log", "email": "email", "webhook": "webhook",
    }  # fmt: skip


# --- the outbox ----------------------------------------------------------------------------------------------------


class Wire:
    """A channel of the tests: remembers what it carried and fails as it is told."""

    def __init__(self, fails: Callable[[Message], Exception | None] = lambda _: None) -> None:
        self.fails = fails
        self.carried: list[int] = []

    name = "email"

    def send(self, message: Message, now: int) -> None:  # noqa: ARG002
        error = self.fails(message)
        if error:
            raise error
        self.carried.append(message.notice_id)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path / 'fettle.db'}")
    metadata.create_all(opened.engine)
    yield opened
    opened.close()


@dataclass
class Fallen:
    """What the outbox says that it gave up, or that it fails to send for now."""

    ids: list[tuple[int, bool]] = field(default_factory=list)

    def __call__(self, connection: sa.Connection, notice_id: int, error: Undelivered, now: int, *, final: bool) -> None:
        # Within the transaction that gives it up.
        assert connection.in_transaction()
        assert isinstance(error, Undelivered)
        assert now >= NOW
        self.ids.append((notice_id, final))


def gathered(database: Database, number: int) -> None:
    """A message that carries so many notices: the first row."""
    queue(database, cause="gathered:4:10:0", kind="digest", subject="", body="", link="https://fettle.example/tickets")
    rows = [
        {
            "cause": f"breach:{n}:dispatch:person-4", "kind": "breach", "channel": "email", "ticket_id": None,
            "recipient": "tech@example.com", "lang": "en", "subject": f"Promise {n} missed", "body": f"It is {n}.\n",
            "link": f"https://fettle.example/tickets/{n}", "status": "queued", "tries": 0, "queued_at": NOW,
            "next_try_at": NOW, "gathered_in": 1, "severity": "emergency" if n == number else "urgent",
        }
        for n in range(1, number + 1)
    ]  # fmt: skip
    with database.begin() as connection:
        connection.execute(sa.insert(notice), rows)


def queue(database: Database, number: int = 1, who: str = "person-4", **columns: object) -> None:
    rows = [
        {
            "cause": f"breach:{n}:dispatch:{who}", "kind": "breach", "channel": "email",
            "recipient": "tech@example.com", "lang": "zh", "subject": SUBJECT, "body": BODY, "status": "queued",
            "tries": 0, "queued_at": NOW, "next_try_at": NOW, **columns,
        }
        for n in range(number)
    ]  # fmt: skip
    with database.begin() as connection:
        connection.execute(sa.insert(notice), rows)


def row(database: Database, notice_id: int = 1) -> sa.Row[tuple[object, ...]]:
    with database.connect() as connection:
        return connection.execute(sa.select(notice).where(notice.c.id == notice_id)).one()


def box(database: Database, wire: Channel) -> Outbox:
    return Outbox(database, {"email": wire}, random.Random(1))


def test_a_due_notice_is_sent_once_and_says_how(database: Database, tmp_path: Path) -> None:
    queue(database)
    outbox = Outbox(database, channels(Settings(tmp_path)))
    assert outbox.deliver_due(NOW - 1) == Delivered()
    assert outbox.deliver_due(NOW + 5) == Delivered(sent=1)
    assert outbox.deliver_due(NOW + 10) == Delivered()
    sent = row(database)
    assert (sent.status, sent.channel, sent.sent_at, sent.tries) == ("sent", "log", NOW + 5, 1)
    assert sent.claimed_until is None
    assert len((tmp_path / "notices.log").read_text("utf-8").splitlines()) == 1


def test_a_letter_goes_all_the_way(database: Database) -> None:
    postbox = Postbox(refuses={"gone@example.com": "550 no such user"})
    queue(database)
    queue(database, who="person-5", recipient="gone@example.com")
    with serving(postbox) as relay:
        assert box(database, Mail(relay)).deliver_due(NOW) == Delivered(sent=1, failed=1)
    assert [recipients for recipients, _ in postbox.letters] == [["tech@example.com"]]
    refused = row(database, 2)
    assert (refused.status, refused.tries, refused.last_error) == ("failed", 1, "550 no such user")


def test_a_round_ends_between_two_letters_when_it_is_to_stop(database: Database) -> None:
    postbox = Postbox()
    queue(database, 5)
    with serving(postbox) as relay:
        outbox = Outbox(database, {"email": Mail(relay)}, stopping=lambda: len(postbox.letters) >= 2)
        assert outbox.deliver_due(NOW) == Delivered(sent=2)
        assert outbox.deliver_due(NOW) == Delivered()
    assert len(postbox.letters) == 2
    # The others were not even begun.
    assert [(row(database, n).status, row(database, n).tries) for n in (3, 4, 5)] == [("queued", 0)] * 3
    assert row(database, 3).claimed_until is None


@pytest.mark.parametrize("status", ["withdrawn", "sent", "failed"])
def test_only_queued_notices_go_out(database: Database, status: str) -> None:
    queue(database, status=status)
    wire = Wire()
    assert box(database, wire).deliver_due(NOW) == Delivered()
    assert wire.carried == []


def test_a_notice_withdrawn_while_it_fails_stays_withdrawn(database: Database) -> None:
    queue(database)

    def withdraw(_: Message) -> Exception:
        with database.begin() as connection:
            connection.execute(sa.update(notice).values(status="withdrawn"))
        return NotNow("later")

    box(database, Wire(withdraw)).deliver_due(NOW)
    assert row(database).status == "withdrawn"


def test_what_fails_is_tried_again_ever_later_and_given_up_visibly(database: Database) -> None:
    queue(database)
    outbox, now, waits = box(database, Wire(lambda _: NotNow("421 busy"))), NOW, []
    for tries in range(1, MAX_TRIES):
        assert outbox.deliver_due(now) == Delivered(retried=1)
        waiting = row(database)
        assert (waiting.status, waiting.tries, waiting.last_error) == ("queued", tries, "421 busy")
        assert outbox.deliver_due(waiting.next_try_at - 1) == Delivered()
        waits.append((waiting.next_try_at - now) / 1000)
        now = waiting.next_try_at
    assert outbox.deliver_due(now) == Delivered(failed=1)
    assert (row(database).status, row(database).tries) == ("failed", MAX_TRIES)
    assert outbox.deliver_due(now + 10**9) == Delivered()
    whole = [15, 45, 135, 405, 1215, 3600, 3600]
    assert all(full / 2 <= wait <= full for wait, full in zip(waits, whole, strict=True))
    assert outbox.backlog(now) == (0, 1, 0)


@given(tries=st.integers(1, 1000), jitter=st.floats(0, 1, exclude_max=True))
def test_the_wait_is_bounded_and_grows(tries: int, jitter: float) -> None:
    wait = wait_ms(tries, jitter)
    assert 7_500 <= wait <= 3_600_000
    assert wait_ms(tries, 0.0) <= wait <= wait_ms(tries, 0.0) * 2
    assert wait <= wait_ms(tries + 1, jitter)


@pytest.mark.parametrize(
    ("tries", "error", "gives_up"),
    [
        (1, NotNow("x"), False),
        (1, Refused("x"), True),
        (MAX_TRIES - 1, NotNow("x"), False),
        (MAX_TRIES, NotNow("x"), True),
    ],
)
def test_when_to_give_up(tries: int, error: Undelivered, gives_up: bool) -> None:
    assert setback(tries, error, NOW, 0.5).gives_up is gives_up


def test_errors_are_kept_short_and_on_one_line() -> None:
    assert setback(1, NotNow("a\nb" + "c" * 999), NOW, 0).error.startswith("a bccc")
    assert len(setback(1, NotNow("c" * 999), NOW, 0).error) == 300


def test_two_outboxes_send_each_notice_once(database: Database, tmp_path: Path) -> None:
    queue(database, 50)
    together, first = threading.Barrier(2), threading.local()

    def meet(_: Message) -> None:
        """Each outbox holds its first claim until the other has one too."""
        if not getattr(first, "met", False):
            first.met = True
            together.wait(PATIENCE_S)

    wire = Wire(meet)
    other = open_database(f"sqlite:///{tmp_path / 'fettle.db'}")
    done: list[Delivered] = []

    def deliver(one: Database) -> None:
        done.append(Outbox(one, {"email": wire}).deliver_due(NOW))

    threads = [threading.Thread(target=deliver, args=(one,)) for one in (database, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    other.close()
    assert sorted(wire.carried) == list(range(1, 51))
    assert sum(one.sent for one in done) == 50
    assert all(one.sent for one in done), "both took part"


def test_a_claim_is_held_while_it_lasts_and_runs_out_after_a_crash(database: Database) -> None:
    queue(database)

    def crash(_: Message) -> Exception:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        box(database, Wire(crash)).deliver_due(NOW)
    wire = Wire()
    assert box(database, wire).deliver_due(NOW + CLAIM_MS - 1) == Delivered()
    assert box(database, wire).deliver_due(NOW + CLAIM_MS) == Delivered(sent=1)
    assert (row(database).tries, wire.carried) == (2, [1])


def test_a_notice_that_kills_its_sender_is_given_up_in_the_end(database: Database) -> None:
    queue(database, tries=MAX_TRIES, claimed_until=NOW)
    wire = Wire()
    assert box(database, wire).deliver_due(NOW - 1) == Delivered()
    assert box(database, wire).deliver_due(NOW) == Delivered(failed=1)
    assert (row(database).status, wire.carried) == ("failed", [])
    assert "died" in row(database).last_error


def test_a_channel_that_is_not_there_fails_visibly(database: Database) -> None:
    queue(database, channel="pigeon")
    assert box(database, Wire()).deliver_due(NOW) == Delivered(failed=1)
    assert "no such channel" in row(database).last_error


def test_a_dead_channel_is_asked_once_a_round_and_holds_up_no_other(database: Database) -> None:
    queue(database, 20, channel="webhook")
    queue(database, 3, who="person-5")
    asked: list[int] = []

    def dead(message: Message) -> Exception:
        asked.append(message.notice_id)
        return Unreachable("connection refused")

    mail = Wire()
    both = Outbox(database, {"email": mail, "webhook": Wire(dead)})
    assert both.deliver_due(NOW) == Delivered(sent=3, retried=1)
    assert (len(asked), len(mail.carried)) == (1, 3)
    assert both.backlog(NOW + 60_000) == (20, 0, 60_000)


def test_one_bad_notice_does_not_stop_the_others(database: Database) -> None:
    queue(database, 3)
    wire = Wire(lambda message: RuntimeError("tech@example.com broke it") if message.notice_id == 2 else None)
    with capture_logs() as logs:
        assert box(database, wire).deliver_due(NOW) == Delivered(sent=2, retried=1)
    assert wire.carried == [1, 3]
    assert {entry["notice"] for entry in logs} == {2}
    assert "tech@example.com" not in str(logs)


def test_logs_name_the_notice_and_nobody(database: Database) -> None:
    queue(database)
    with capture_logs() as logs:
        box(database, Wire(lambda _: Refused("550 tech@example.com unknown"))).deliver_due(NOW)
    assert [(entry["notice"], entry["fate"]) for entry in logs] == [(1, "failed")]
    assert "example.com" not in str(logs)


# --- messages that carry several -----------------------------------------------------------------------------------


def statuses(database: Database) -> list[str]:
    with database.connect() as connection:
        return list(connection.scalars(sa.select(notice.c.status).order_by(notice.c.id)))


def test_what_is_gathered_goes_as_one_list_the_gravest_first(database: Database) -> None:
    gathered(database, 3)
    sent: list[Message] = []
    outbox = box(database, Wire(lambda message: sent.append(message)))
    assert outbox.backlog(NOW) == (1, 0, 0)
    assert outbox.deliver_due(NOW) == Delivered(sent=1)
    assert [line for line in sent[0].body.splitlines() if line.startswith("·")] == [
        "· Promise 3 missed", "· Promise 1 missed", "· Promise 2 missed",
    ]  # fmt: skip
    assert "https://fettle.example/tickets/2" in sent[0].body
    assert (sent[0].cause, sent[0].kind, sent[0].link) == (
        "gathered:4:10:0",
        "digest",
        "https://fettle.example/tickets",
    )
    assert statuses(database) == ["sent"] * 4
    assert outbox.deliver_due(NOW + 10**9) == Delivered()


def test_what_was_withdrawn_meanwhile_is_not_in_the_list(database: Database) -> None:
    gathered(database, 2)
    with database.begin() as connection:
        connection.execute(sa.update(notice).where(notice.c.id == 2).values(status="withdrawn"))
    sent: list[Message] = []
    box(database, Wire(lambda message: sent.append(message))).deliver_due(NOW)
    # One alone needs no list: it goes as it was written.
    assert [(one.subject, one.body, one.kind) for one in sent] == [("Promise 2 missed", "It is 2.\n", "breach")]
    assert statuses(database) == ["sent", "withdrawn", "sent"]


def test_a_list_of_which_nothing_is_left_is_not_sent(database: Database) -> None:
    gathered(database, 2)
    with database.begin() as connection:
        connection.execute(sa.update(notice).where(notice.c.id > 1).values(status="withdrawn"))
    wire = Wire()
    assert box(database, wire).deliver_due(NOW) == Delivered()
    assert (wire.carried, statuses(database)) == ([], ["withdrawn"] * 3)


def test_what_is_gathered_never_goes_by_itself(database: Database) -> None:
    gathered(database, 3)
    tried: list[int] = []

    def later(message: Message) -> Exception:
        tried.append(message.notice_id)
        return NotNow("421 busy")

    assert box(database, Wire(later)).deliver_due(NOW) == Delivered(retried=1)
    assert (tried, statuses(database)) == ([1], ["queued"] * 4)


def test_a_list_that_is_given_up_takes_its_load_with_it(database: Database) -> None:
    gathered(database, 2)
    fallen = Fallen()
    outbox = Outbox(database, {"email": Wire(lambda _: Refused("554 spam"))}, given_up=fallen)
    assert outbox.deliver_due(NOW) == Delivered(failed=1)
    assert (statuses(database), fallen.ids) == (["failed"] * 3, [(1, True)])


def test_who_asked_is_told_what_fails_for_now_and_what_is_given_up(database: Database) -> None:
    queue(database)
    queue(database, channel="pigeon", who="person-5")
    fallen = Fallen()
    outbox, now = Outbox(database, {"email": Wire(lambda _: NotNow("later"))}, random.Random(1), given_up=fallen), NOW
    for _ in range(MAX_TRIES):
        outbox.deliver_due(now)
        now = row(database).next_try_at
    # The channel that is not there at once, the other after three tries and at the end.
    assert fallen.ids == [(2, True), (1, False), (1, True)]
