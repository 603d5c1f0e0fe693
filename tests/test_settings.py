"""Settings: what is refused before anything starts, and what follows from one setting for another."""

import os
from pathlib import Path

import pytest

from fettle.settings import BadSettings, Settings, read_settings
from fettle.wiring import channel_settings
from monitor.notify.mail import parse_smtp_url
from tests.programs import free_port


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("FETTLE_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("public_url", "sender"),
    [
        (None, "fettle@localhost"),
        ("http://localhost:8000", "fettle@localhost"),
        ("http://192.0.2.7:8000", "fettle@localhost"),
        ("https://[2001:db8::7]/", "fettle@localhost"),
        ("https://fettle.example.com/", "fettle@fettle.example.com"),
        ("https://Rent.Example.com:8443", "fettle@rent.example.com"),
        ("http://machines", "fettle@machines"),
        ("http://the_machines/", "fettle@localhost"),
    ],
)
def test_mail_comes_from_where_the_pages_are(public_url: str | None, sender: str) -> None:
    settings = Settings(public_url=public_url, smtp_url="smtp://127.0.0.1:2525")
    given = channel_settings(settings)
    assert parse_smtp_url(given.smtp_url, given.sender).sender == sender
    assert parse_smtp_url(f"{given.smtp_url}?from=desk@example.com", given.sender).sender == "desk@example.com"


def test_two_servers_cannot_share_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETTLE_HTTP_PORT", "7001")
    monkeypatch.setenv("FETTLE_MQTT_PORT", "7001")
    with pytest.raises(BadSettings, match=r"^FETTLE_HTTP_PORT and FETTLE_MQTT_PORT are both 7001; each needs its own$"):
        read_settings()
    # Without a broker of our own its port means nothing.
    monkeypatch.setenv("FETTLE_MQTT_URL", "mqtt://broker.example.com")
    assert read_settings().http_port == 7001


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("FETTLE_HTTP_PORT", "0", "greater than or equal to 1"),
        ("FETTLE_PUBLIC_URL", "fettle.example.com", "it must begin with http:// or https:// and name a host"),
        ("FETTLE_PUBLIC_URL", "http:///tickets", "name a host"),
        ("FETTLE_PUBLIC_URL", "http://[::1", "name a host"),
        ("FETTLE_TIMEZONE", "Mars/Olympus", "IANA time zone"),
        ("FETTLE_MQTT_URL", "amqp://u:hunter2@host", "it must begin with mqtt://"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=f"^{name}: ") as caught:
        read_settings()
    assert why in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadSettings, match=r"^FETTLE_HOME: .*/file/var cannot be a data folder: Not a directory$"):
        Settings(home=tmp_path / "file" / "var").prepare_home()


def test_no_port_is_drawn_twice() -> None:
    ports = [free_port() for _ in range(1000)]
    assert len(set(ports)) == len(ports)
