"""Robots and SMS gateways, against HTTP servers that really listen."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3
from apprise.plugins.dingtalk import NotifyDingTalk
from apprise.plugins.feishu import NotifyFeishu
from apprise.plugins.infobip import NotifyInfobip
from apprise.plugins.plivo import NotifyPlivo
from apprise.plugins.sinch import NotifySinch
from apprise.plugins.twilio import NotifyTwilio
from apprise.plugins.wecombot import NotifyWeComBot

from monitor.notify.channels import CONTACTS, Channel, Settings, channels, contact_address
from monitor.notify.message import Bounced, Message, NotNow, Refused, Undelivered, Unreachable
from monitor.notify.outward import ANSWER_BYTES, Outward
from monitor.notify.robot import DINGTALK, FEISHU, MAKES, WECOM, Make, Robot, parse_rooms
from monitor.notify.sms import Sms, parse_sms_url

NOW = 1_763_877_900_000
LINK = "https://fettle.example.com/tickets/231"
SUBJECT = "紧急｜GEN-014｜设备无法启动"  # noqa: RUF001
BODY = f"设备无法启动\n\n工单 #231\n{LINK}\n"
MESSAGE = Message(
    7, "dispatch_alert:231:0:person-4", "dispatch_alert", 231, "yard", "zh", SUBJECT, BODY, NOW, link=LINK
)
NUMBER = "+8613800000000"
TOKEN = "0123456789abcdef"
WELL = {"dingtalk": '{"errcode": 0, "errmsg": "ok"}', "wecom": '{"errcode": 0, "errmsg": "ok"}',
        "feishu": '{"code": 0, "msg": "success", "data": {}}'}  # fmt: skip


@dataclass
class Post:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """What an HTTP server was posted, and how it answers."""

    status: int = 200
    answer: str = "{}"
    posts: list[Post] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(status: int = 200, answer: str = "{}") -> Iterator[Server]:
    server = Server(status, answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.posts.append(Post(self.path, {name.lower(): text for name, text in self.headers.items()}, body))
            self.send_response(server.status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(server.answer.encode())))
            self.end_headers()
            self.wfile.write(server.answer.encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listening.server_address[1]}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def failing(channel: Channel, message: Message = MESSAGE) -> Undelivered:
    with pytest.raises(Undelivered) as caught:
        channel.send(message, NOW)
    return caught.value


# --- robots --------------------------------------------------------------------------------------------------------

PLUGINS = {"dingtalk": NotifyDingTalk, "wecom": NotifyWeComBot, "feishu": NotifyFeishu}
PATHS = {"dingtalk": "/robot/send?access_token={token}", "wecom": "/send?key={key}", "feishu": "/hook/{token}/"}


def robot(make: Make, *, rooms: str = f"yard={TOKEN}") -> Robot:
    return Robot(make, parse_rooms(make, rooms), Outward(inside=True, timeout=urllib3.Timeout(0.5)))


@contextmanager
def maker(make: Make, patch: pytest.MonkeyPatch, status: int = 200, answer: str | None = None) -> Iterator[Server]:
    """The maker's own server; where it stands is all that is different."""
    with serving(status, WELL[make.name] if answer is None else answer) as server:
        patch.setattr(PLUGINS[make.name], "notify_url", server.url + PATHS[make.name])
        yield server


@pytest.mark.parametrize("make", MAKES, ids=lambda make: make.name)
def test_a_robot_writes_subject_and_text_into_its_room(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with maker(make, monkeypatch) as server:
        robot(make).send(MESSAGE, NOW)
    (post,) = server.posts
    assert TOKEN in post.path
    said = json.loads(post.body)
    text = said["content"]["text"] if make is FEISHU else said["text"]["content"]
    assert text == f"{SUBJECT}\n\n{BODY}".strip()


def test_dingtalk_points_at_a_phone_and_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    with maker(DINGTALK, monkeypatch) as server:
        robot(DINGTALK, rooms=f"yard={TOKEN}:SEC{TOKEN}").send(replace(MESSAGE, recipient="yard@13800000000"), NOW)
    (post,) = server.posts
    assert json.loads(post.body)["at"]["atMobiles"] == ["13800000000"]
    assert {"access_token", "timestamp", "sign"} <= parse_qs(urlsplit(post.path).query).keys()


@pytest.mark.parametrize(
    ("make", "answer", "error"),
    [
        (DINGTALK, '{"errcode": 310000, "errmsg": "sign not match"}', Refused),
        (DINGTALK, '{"errcode": 130101, "errmsg": "send too fast"}', NotNow),
        (DINGTALK, '{"errcode": 300001, "errmsg": "token is not exist"}', Bounced),
        (WECOM, '{"errcode": 93000, "errmsg": "invalid webhook url"}', Bounced),
        (WECOM, '{"errcode": 45009, "errmsg": "api freq out of limit"}', NotNow),
        (WECOM, '{"errcode": 40058, "errmsg": "invalid Request Parameter"}', Refused),
        (FEISHU, '{"code": 19001, "msg": "param invalid: incoming webhook access token invalid"}', Bounced),
        (FEISHU, '{"code": 11232, "msg": "frequency limited"}', NotNow),
        (FEISHU, '{"code": 19024, "msg": "Key Words Not Found"}', Refused),
        (FEISHU, "<html>Bad gateway</html>", NotNow),
        (FEISHU, "[]", NotNow),
    ],
)
def test_a_robot_s_200_may_be_a_no(
    make: Make, answer: str, error: type[Undelivered], monkeypatch: pytest.MonkeyPatch
) -> None:
    with maker(make, monkeypatch, answer=answer) as server:
        failure = failing(robot(make))
    assert type(failure) is error
    assert TOKEN not in str(failure)
    assert len(server.posts) == 1


@pytest.mark.parametrize(("status", "error"), [(500, NotNow), (429, NotNow), (302, Refused), (404, Refused)])
def test_a_robot_s_status_counts_and_redirects_are_not_followed(
    status: int, error: type[Undelivered], monkeypatch: pytest.MonkeyPatch
) -> None:
    with maker(WECOM, monkeypatch, status) as server:
        assert type(failing(robot(WECOM))) is error
    assert [urlsplit(post.path).path for post in server.posts] == ["/send"]


@pytest.mark.parametrize("make", MAKES, ids=lambda make: make.name)
def test_a_robot_that_hangs_or_is_gone_is_unreachable(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setattr(
            PLUGINS[make.name], "notify_url", f"http://127.0.0.1:{mute.getsockname()[1]}{PATHS[make.name]}"
        )
        hanging = failing(robot(make))
    gone = failing(robot(make))
    assert (type(hanging), type(gone)) == (Unreachable, Unreachable)
    assert TOKEN not in f"{hanging}{gone}"


def test_a_robot_s_name_that_leads_inside_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with maker(WECOM, monkeypatch) as server:
        failure = failing(Robot(WECOM, parse_rooms(WECOM, f"yard={TOKEN}"), Outward()))
    assert type(failure) is Refused
    assert "inside the network" in str(failure)
    assert server.posts == []


def test_an_endless_answer_is_read_only_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    with maker(WECOM, monkeypatch, answer=" " * 3 * ANSWER_BYTES + WELL["wecom"]):
        assert type(failing(robot(WECOM))) is NotNow


@pytest.mark.parametrize("make", MAKES, ids=lambda make: make.name)
def test_what_does_not_fit_is_cut_and_the_link_stays(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with maker(make, monkeypatch) as server:
        robot(make).send(replace(MESSAGE, body="设备\n" * 10_000), NOW)
    said = json.loads(server.posts[0].body)
    text = said["content"]["text"] if make is FEISHU else said["text"]["content"]
    assert len(text.encode()) <= make.most_bytes
    assert text.startswith(SUBJECT)
    assert text.endswith(LINK)


@pytest.mark.parametrize("recipient", ["kitchen", "", "yard@13800000000", "https://evil.example/", "yard\n"])
def test_a_room_that_is_not_set_is_no_address(recipient: str) -> None:
    assert type(failing(robot(WECOM), replace(MESSAGE, recipient=recipient))) is Bounced


@pytest.mark.parametrize(
    ("make", "text", "why"),
    [
        (DINGTALK, "yard", "entry 1 is not ROOM=TOKEN or ROOM=TOKEN:SECRET"),
        (DINGTALK, f"yard={TOKEN} Yard={TOKEN}", "entry 2 is not ROOM="),
        (WECOM, f"yard={TOKEN}:SEC{TOKEN}", "entry 1 is not ROOM=TOKEN "),
        (WECOM, f"yard={TOKEN} yard={TOKEN}", "room yard is there twice"),
        (FEISHU, f"yard=https://open.feishu.cn/{TOKEN}", "entry 1 is not ROOM=TOKEN"),
        (FEISHU, f"-yard={TOKEN}", "entry 1 is not ROOM=TOKEN"),
    ],
)
def test_wrong_rooms_are_named_without_their_tokens(make: Make, text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^FETTLE_{make.name.upper()}: ") as caught:
        parse_rooms(make, text)
    assert why in str(caught.value)
    assert TOKEN not in str(caught.value)


# --- text messages -------------------------------------------------------------------------------------------------

TO_NUMBER = replace(MESSAGE, recipient=NUMBER)


def sms(url: str, token: str = "") -> Sms:
    return Sms(parse_sms_url(url, token, inside=True))


def test_a_gateway_gets_the_number_the_brief_text_and_a_key() -> None:
    with serving(202) as server:
        channel = sms(f"{server.url}/send", "s3cret")
        channel.send(TO_NUMBER, NOW)
        channel.send(TO_NUMBER, NOW + 60_000)
    first, again = server.posts
    posted = json.loads(first.body)
    assert (posted["to"], posted["text"]) == (NUMBER, f"{SUBJECT}\n{LINK}")
    assert first.headers["authorization"] == "Bearer s3cret"
    # The same at every try, and nobody's name in it.
    assert first.headers["idempotency-key"] == again.headers["idempotency-key"] == posted["id"]
    assert "person" not in first.body.decode()


def test_a_text_is_two_parts_long_at_most_and_keeps_its_link() -> None:
    with serving() as server:
        sms(server.url).send(replace(TO_NUMBER, subject="长" * 200), NOW)
    text = json.loads(server.posts[0].body)["text"]
    assert len(text) <= 134
    assert text.endswith(f"…\n{LINK}")


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, NotNow), (429, NotNow), (401, Unreachable), (403, Unreachable), (422, Bounced), (404, Bounced),
     (400, Refused), (307, Refused)],
)  # fmt: skip
def test_what_a_gateway_s_status_means(status: int, error: type[Undelivered]) -> None:
    with serving(status) as server:
        assert type(failing(sms(server.url), TO_NUMBER)) is error
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    "number", ["13800000000", "+86 138", "+0138000000000", "+1", "yard", NUMBER + "\n", "+\uff11" * 9]
)
def test_what_is_no_number_is_refused_before_anything_is_sent(number: str) -> None:
    with serving() as server:
        assert type(failing(sms(server.url), replace(MESSAGE, recipient=number))) is Bounced
    assert server.posts == []


SID = "AC0123456789abcdef0123456789abcdef"
TWILIO = f"twilio://{SID}:{TOKEN * 2}@15551234567"


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (201, '{"sid": "SM1"}', None),
        (400, '{"code": 21614, "message": "not a mobile number"}', Bounced),
        (400, '{"code": 21211, "message": "invalid To"}', Bounced),
        (400, '{"code": 21606, "message": "From is not ours"}', Refused),
        (400, "oops", Refused),
        (401, '{"code": 20003}', Unreachable),
        (429, '{"code": 20429}', NotNow),
        (503, "", NotNow),
        (302, "", Refused),
    ],
)
def test_twilio_through_apprise(
    status: int, answer: str, error: type[Undelivered] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(status, answer) as server:
        monkeypatch.setattr(NotifyTwilio, "notify_sms_url", server.url + "/Accounts/{sid}/Messages.json")
        if error is None:
            sms(TWILIO).send(TO_NUMBER, NOW)
        else:
            assert type(failing(sms(TWILIO), TO_NUMBER)) is error
    (post,) = server.posts
    assert post.path == f"/Accounts/{SID}/Messages.json"
    posted = parse_qs(post.body.decode())
    assert (posted["To"], posted["From"], posted["Body"]) == ([NUMBER], ["+15551234567"], [f"{SUBJECT}\n{LINK}"])
    assert post.headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("url", "plugin", "path", "answer"),
    [
        (f"sinch://{TOKEN * 2}:{TOKEN * 2}@15551234567", NotifySinch, "/{region}/{spi}", "{}"),
        (f"plivo://{'MA' + 'A' * 23}@{'t' * 40}/15551234567", NotifyPlivo, "/{auth_id}", "{}"),
        (f"infobip://{TOKEN * 2}-{TOKEN * 2}@abcdef.api.infobip.com/?from=fettle", NotifyInfobip, "/{host}", "{}"),
    ],
)
def test_the_other_gateways_that_apprise_knows(
    url: str, plugin: type, path: str, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(200, answer) as server:
        monkeypatch.setattr(plugin, "notify_url", server.url + path)
        sms(url).send(TO_NUMBER, NOW)
    (post,) = server.posts
    assert NUMBER.lstrip("+") in post.body.decode()
    assert LINK in post.body.decode().replace("\\/", "/")


@pytest.mark.parametrize(
    ("url", "token", "why"),
    [
        ("vonage://k:hunter2@15551234567", "", "the scheme must be http, https or one of twilio"),
        ("json://hunter2@example.com", "", "the scheme must be"),
        ("https://", "", "the scheme must be"),
        ("https://u:hunter2@sms.example.com/", "", "no user or password"),
        ("http://127.0.0.1/send?k=hunter2", "", "inside the network"),
        ("http://[::1/", "", "no URL"),
        ("twilio://nonsense:hunter2@1", "", "Apprise does not take it"),
        (f"twilio://{SID}:{TOKEN * 2}@15551234567/+15557654321", "", "without a recipient"),
        (f"{TWILIO}?redirect=yes&verify=no", "", "options"),
        (TWILIO, "hunter2", "holds its own credentials"),
    ],
)
def test_wrong_gateways_are_named_without_their_secrets(url: str, token: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"^FETTLE_SMS_(URL|TOKEN): ") as caught:
        parse_sms_url(url, token)
    assert why in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_secrets_do_not_show_in_a_representation() -> None:
    shown = f"{sms('http://h/?key=hunter2', 'hunter2')}{sms(TWILIO)}{robot(WECOM)}"
    assert "hunter2" not in shown
    assert TOKEN not in shown


# --- which there are ----------------------------------------------------------------------------------------------


def test_every_channel_of_a_contact_has_a_sender_once_it_is_set(tmp_path: Path) -> None:
    rooms = f"yard={TOKEN}"
    everything = channels(
        Settings(
            tmp_path, smtp_url="smtp://h?from=f@e.com", webhook_url="https://hooks.example.com/x",
            sms_url="https://sms.example.com/", dingtalk=rooms, wecom=rooms, feishu=rooms,
        )
    )  # fmt: skip
    assert {name: channel.name for name, channel in everything.items()} == {name: name for name in (*CONTACTS, "log")}


@pytest.mark.parametrize(
    ("channel", "address", "kept"),
    [
        ("email", " ada@example.com ", "ada@example.com"),
        ("sms", "+86 138-0000 0000", NUMBER),
        ("dingtalk", "night-shift@13800000000", "night-shift@13800000000"),
        ("dingtalk", "yard", "yard"),
        ("wecom", "yard", "yard"),
        ("feishu", "yard", "yard"),
        ("webhook", "operations", "operations"),
    ],
)
def test_addresses_are_kept_in_one_form(channel: str, address: str, kept: str) -> None:
    assert contact_address(channel, address) == kept


@pytest.mark.parametrize(
    ("channel", "address"),
    [
        ("email", "Ada <ada@example.com>"), ("email", "a@b.c\nBcc: all@example.com"), ("sms", "13800000000"),
        ("sms", "twilio://x"), ("dingtalk", "dingtalk://token"), ("dingtalk", "yard@+1"), ("wecom", "yard@13800000000"),
        ("feishu", "http://169.254.169.254/"), ("feishu", "Yard"), ("webhook", "https://example.com/"),
        ("json", "yard"), ("mailto", "a@b.c"), ("log", "x"), ("", ""), ("email", ""), ("robot", "yard"),
    ],
)  # fmt: skip
def test_raw_addresses_of_notifiers_are_not_taken(channel: str, address: str) -> None:
    with pytest.raises(ValueError, match=r"^(there is no channel|the address must be)"):
        contact_address(channel, address)
