"""The pages in both languages: nothing missing in the catalogue, nothing untranslated on the page."""

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from starlette.requests import Request

from api import labels
from api.shapes import rfc3339
from api.words import LANGS, MINUS, NOTHING, Words, iso, span, wanted_lang
from monitor.desk.notices import Kind
from monitor.desk.tickets import Status, Verb
from monitor.detect.finding import Evidence, Reason
from monitor.devices import Severity
from monitor.readings import STATES

HERE = Path(labels.__file__).parent
TEMPLATES = "templates/**.html"


def messages() -> set[str | tuple[str, ...]]:
    """Every message in templates and code."""
    found = extract_from_dir(
        HERE,
        method_map=[("**.py", "python"), (TEMPLATES, "jinja2")],
        options_map={TEMPLATES: {"trim_blocks": "true", "lstrip_blocks": "true", "newstyle_gettext": "true"}},
        keywords={"N_": None, "say": None, "_": None, "gettext": None, "ngettext": (1, 2)},
    )
    return {message for _, _, message, _, _ in found}


@pytest.mark.parametrize("lang", [lang for lang in LANGS if lang != "en"])
def test_every_message_is_translated_and_no_other_is_kept(lang: str) -> None:
    with (HERE / "locale" / lang / "messages.po").open("rb") as source:
        catalogue = {message.id: message for message in read_po(source, locale=lang) if message.id}
    wanted = messages()
    assert len(wanted) > 150
    assert sorted(map(str, wanted - set(catalogue))) == [], "missing"
    assert sorted(map(str, set(catalogue) - wanted)) == [], "left over"
    assert [message.id for message in catalogue.values() if message.fuzzy or not all(message.string)] == []


@pytest.mark.parametrize("lang", [lang for lang in LANGS if lang != "en"])
def test_gaps_are_the_same_in_both_languages(lang: str) -> None:
    with (HERE / "locale" / lang / "messages.po").open("rb") as source:
        assert [list(message.check()) for message in read_po(source, locale=lang) if list(message.check())] == []


@pytest.mark.parametrize(
    ("codes", "table"),
    [
        (list(Status), "STATUSES"),
        (list(Verb), "VERBS"),
        (list(Severity), "SEVERITIES"),
        (list(STATES), "MACHINE_STATES"),
        (list(Kind), "NOTICE_KINDS"),
        (list(Reason), "REASONS"),
        ([status for status in Status if status.is_open], "NEXT_STEPS"),
        ([key for key in Evidence.__annotations__ if key not in ("side", "unit", "signs")], "EVIDENCE"),
    ],
)
def test_every_code_has_a_word(codes: list[str], table: str) -> None:
    assert set(map(str, codes)) <= set(getattr(labels, table))
    assert getattr(labels, table) in labels.TABLES


def request(query: str = "", cookie: str = "", accept: str = "") -> Request:
    headers = [(b"cookie", f"fettle_lang={cookie}".encode()), (b"accept-language", accept.encode())]
    return Request({"type": "http", "query_string": query.encode(), "headers": headers})


@pytest.mark.parametrize(
    ("query", "cookie", "accept", "lang"),
    [
        ("", "", "", "zh"),
        ("", "", "en-GB,en;q=0.9,zh;q=0.5", "en"),
        ("", "", "zh-CN,zh;q=0.9,en;q=0.5", "zh"),
        ("", "", "fr,de;q=0.5", "zh"),
        ("", "", "x_y-;;,*,," + "a" * 500, "zh"),
        ("", "en", "zh-CN", "en"),
        ("lang=zh", "en", "en", "zh"),
        ("lang=xx", "", "en", "en"),
    ],
)
def test_which_language(query: str, cookie: str, accept: str, lang: str) -> None:
    assert wanted_lang(request(query, cookie, accept), "zh") == lang


@pytest.mark.parametrize(
    ("share", "zh", "en"),
    [
        (None, NOTHING, NOTHING),
        (1.0, "100%", "100\u202f%"),
        (0.8999, "89.9%", "89.9\u202f%"),
        (0.9, "90%", "90\u202f%"),
    ],
)
def test_a_share_is_never_rounded_up_to_its_target(share: float | None, zh: str, en: str) -> None:
    assert Words("zh", ZoneInfo("Asia/Shanghai")).percent(share) == zh
    assert Words("en", ZoneInfo("Asia/Shanghai")).percent(share) == en


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (0, "0:00:00"),
        (59_999, "0:00:59"),
        (3_600_000, "1:00:00"),
        (-1, f"{MINUS}0:00:00"),
        (-427_000, f"{MINUS}0:07:07"),
    ],
)
def test_time_left(ms: int, shown: str) -> None:
    assert span(ms) == shown


@pytest.mark.parametrize("at", [253_402_300_799_999, 253_402_300_800_000, 10**17, 10**400, -(10**14), -(10**400)])
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "UTC", "America/Los_Angeles"])
@pytest.mark.parametrize("lang", LANGS)
def test_a_moment_that_no_calendar_has_is_shown_all_the_same(at: int, zone: str, lang: str) -> None:
    words = Words(lang, ZoneInfo(zone))
    shown = [say(at) for say in (words.moment, words.hour, words.clock_time, words.day, words.today, iso, rfc3339)]
    assert all(shown)
    assert shown[0] != str(at) or shown[:5] == [iso(at)] * 5
