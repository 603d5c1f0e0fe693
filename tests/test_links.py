"""Signed links: what they carry, what is refused, and where their secret is kept."""

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from fettle import cli
from fettle.house import CannotStart, link_signer
from fettle.settings import BadSettings, Settings, read_settings
from monitor.links import CUSTOMER_LINK_MS, Signer, customer_token, label_token, read_customer, read_label

NOW = 1_795_000_000_000
OURS, THEIRS = Signer(b"o" * 32), Signer(b"t" * 32)


@given(st.integers(1, 2**62), st.integers(0, 2**31), st.integers(0, 2**50))
def test_what_was_signed_is_read(customer_id: int, epoch: int, now: int) -> None:
    token = customer_token(OURS, customer_id, epoch, now)
    assert read_customer(OURS, token, now) == (customer_id, epoch)
    assert token.replace("-", "").replace("_", "").isalnum(), "it stands in an address as it is"
    assert len(token) < 80


@given(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), st.integers(0, 2**31))
def test_a_label_never_expires(device_id: str, epoch: int) -> None:
    token = label_token(OURS, device_id, epoch)
    assert read_label(OURS, token, NOW) == read_label(OURS, token, NOW + 10**12) == (device_id, epoch)
    assert len(token) < 120


@pytest.mark.parametrize(("later_ms", "good"), [(CUSTOMER_LINK_MS - 1, True), (CUSTOMER_LINK_MS, False)])
def test_a_customers_link_expires(later_ms: int, good: bool) -> None:
    assert (read_customer(OURS, customer_token(OURS, 7, 0, NOW), NOW + later_ms) is not None) is good


@given(st.text(max_size=600))
def test_what_is_not_ours_is_refused_whatever_it_is(text: str) -> None:
    assert read_customer(OURS, text, NOW) is None
    assert read_label(OURS, text, NOW) is None
    assert read_label(OURS, f"GX-1.{text}", NOW) is None


@given(st.data())
def test_one_other_bit_and_it_is_refused(data: st.DataObject) -> None:
    token = customer_token(OURS, 7, 0, NOW)
    signed = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    bit = data.draw(st.integers(0, len(signed) * 8 - 1))
    signed[bit // 8] ^= 1 << bit % 8
    forged = base64.urlsafe_b64encode(bytes(signed)).rstrip(b"=").decode()
    assert read_customer(OURS, forged, NOW) is None


def test_a_link_is_good_for_its_own_purpose_machine_and_company_only() -> None:
    customer, label = customer_token(OURS, 7, 0, NOW), label_token(OURS, "GX-1", 0)
    assert read_label(OURS, customer, NOW) is None
    assert read_label(OURS, f"GX-1.{customer}", NOW) is None
    assert read_customer(OURS, label, NOW) is None
    assert read_customer(OURS, label.partition(".")[2], NOW) is None
    assert read_label(OURS, label.replace("GX-1", "GX-2"), NOW) is None
    assert read_customer(THEIRS, customer, NOW) is None
    assert read_label(THEIRS, label, NOW) is None


def test_too_long_is_refused_unread() -> None:
    assert read_customer(OURS, customer_token(OURS, 7, 0, NOW) + "A" * 400, NOW) is None
    assert read_label(OURS, "G" * 100_000 + "." + "A" * 100_000, NOW) is None


def test_the_secret_is_never_shown() -> None:
    assert "oooo" not in repr(OURS)
    with pytest.raises(ValueError, match="32 bytes"):
        Signer(b"short")


# --- where the secret is kept --------------------------------------------------------------------------------------


def test_the_key_in_the_home_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with ThreadPoolExecutor(8) as pool:
        signers = list(pool.map(lambda _: link_signer(settings), range(8)))
    assert len({signer.secret for signer in signers}) == 1
    assert stat.S_IMODE((tmp_path / "links.key").stat().st_mode) == 0o600
    assert len(signers[0].secret) == 64


def test_several_processes_share_a_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s" * 40 + "\n")
    by_file = link_signer(Settings(home=tmp_path, link_secret_file=tmp_path / "secret"))
    assert by_file == link_signer(Settings(home=tmp_path / "other", link_secret=SecretStr("s" * 40)))
    assert not (tmp_path / "links.key").exists()


def test_a_file_that_is_missing_or_short_says_so_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("geheim")
    for name in ("short", "missing"):
        with pytest.raises(CannotStart, match="FETTLE_LINK_SECRET_FILE") as refusal:
            link_signer(Settings(home=tmp_path, link_secret_file=tmp_path / name))
        assert "geheim" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FETTLE_LINK_SECRET", "geheim", "32 characters"),
        ("FETTLE_HOTLINE", "call us <b>", "telephone number"),
        ("FETTLE_HOTLINE", "javascript:1", "telephone number"),
    ],
)
def test_settings(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=name) as refusal:
        read_settings()
    assert said in str(refusal.value)
    assert "geheim" not in str(refusal.value)


def test_the_command_line_makes_links_and_ends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FETTLE_HOME", str(tmp_path / "home"))

    def fettle(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            cli.run(list(arguments))
        said = capsys.readouterr()
        return (said.out + said.err).strip()

    fettle("device", "add", "GX-1", "--profile", "diesel_generator")
    fettle("rental", "add", "GX-1", "--customer", "Metro JV", "--email", "a@b.example")
    token = fettle("customer", "link", "Metro JV").rpartition("/c/")[2]
    labels = [
        fettle("device", "label", "GX-1").rpartition("/m/")[2],
        fettle("device", "label", "GX-1", "--renew").rpartition("/m/")[2],
    ]
    assert "not known" in fettle("device", "label", "GX-2")
    signer = link_signer(Settings(home=tmp_path / "home"))
    assert [read_label(signer, label, NOW) for label in labels] == [("GX-1", 0), ("GX-1", 1)]
    assert read_customer(signer, token, NOW) == (1, 0)
