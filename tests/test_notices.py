"""Notices: who hears what, and in which words. `python -m tests.test_notices` writes the snapshots anew."""

# ruff: noqa: E501, RUF001 (Chinese has its own punctuation; a table's row stays one line)

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.desk import notices
from monitor.desk.commitments import promised, service_standard
from monitor.desk.handover import Case, Handover, handover
from monitor.desk.handover import Clock as OfTicket
from monitor.desk.letter import letter
from monitor.desk.notices import (
    LANGS,
    Customer,
    Event,
    Facts,
    Happening,
    Kind,
    Person,
    Recipient,
    Text,
    about,
    gather,
    headline,
    language,
    moment,
    notices_for,
    plain,
    sensor_title,
    write,
    write_availability,
    write_bounced,
    write_handover,
    write_maintenance_overdue,
    write_monthly_report,
    write_sign_in_changed,
    write_sign_in_link,
    write_test,
    write_unreachable,
    write_work_assigned,
)
from monitor.desk.tickets import Status
from monitor.desk.working_time import Always
from monitor.detect import Reason
from monitor.devices import FaultKind, Limits, Profile, Sensor, Severity

SNAPSHOTS = Path(__file__).parent / "snapshots" / "notices"
AT = 1_763_877_900_000  # 2025-11-23 06:05 UTC, 14:05 in Shanghai
GENERATOR = Profile(
    name="diesel_generator",
    title="Diesel generator 100 kVA",
    title_zh="100 kVA 柴油发电机",
    sensors=(
        Sensor("coolant_temp_c", "°C", title_zh="冷却液温度", limits=Limits(high=98, hold_s=30)),
        Sensor("oil_pressure_bar", "bar", title_zh="机油压力", limits=Limits(low=1.5)),
        Sensor("battery_v", "V", title_zh="蓄电池电压"),
        Sensor("fuel_pct", "%", title_zh="油位"),
    ),
    battery_sensor="battery_v",
    fuel_sensor="fuel_pct",
)
PROMISES = tuple(
    promised(service_standard(), 231, Severity.EMERGENCY, lambda _: Always(), on_hire=True, remote=False, opened_at=AT)
)  # dispatch by 15:05, repair by 18:05
STARTLESS = Facts(
    ticket_id=231,
    device_id="GEN-014",
    kind="startup_failure",
    severity=Severity.EMERGENCY,
    opened_at=AT,
    timezone="Asia/Shanghai",
    evidence={"reason": "attempts", "attempts": 3, "battery_last": 12.1, "battery_crank_low": 7.84, "fuel_last": 62},
    profile=GENERATOR,
    site="North pier",
    customer="Harbour Works",
    promises=PROMISES,
    resolved_at=AT + 5_400_000,
    ticket_url="https://fettle.example.com/tickets/231",
    machine_url="https://fettle.example.com/machines/GEN-014",
    technician="Ada Lin",
    arrives=(AT + 1_800_000, AT + 3_600_000),
)
OVERHEATED = replace(
    STARTLESS,
    kind="limit",
    subject="coolant_temp_c",
    severity=Severity.URGENT,
    evidence={"value": 103.44, "limit": 98, "unit": "°C"},
    remote=True,
    promises=tuple(
        promised(service_standard(), 231, Severity.URGENT, lambda _: Always(), on_hire=True, remote=True, opened_at=AT)
    ),
)
CASES = {"startless": STARTLESS, "overheated": OVERHEATED}
OF_NO_TICKET = {
    Kind.UNREACHABLE, Kind.CONTACT_BOUNCED, Kind.DIGEST, Kind.HANDOVER, Kind.MAINTENANCE_OVERDUE, Kind.WORK_ASSIGNED,
    Kind.AVAILABILITY_AT_RISK, Kind.MONTHLY_REPORT, Kind.SIGN_IN_LINK, Kind.SIGN_IN_CHANGED,
    Kind.TEST,
}  # fmt: skip
"""What is not about one ticket has a case of its own."""
OF_TICKETS = [kind for kind in Kind if kind not in OF_NO_TICKET]


def written(kind: Kind, lang: str, case: str) -> Text:
    facts = CASES[case]
    return write(kind, lang, facts, facts.promises[0] if kind in notices.ABOUT_A_PROMISE else None)


def shift() -> Handover:
    """One ticket that waits to be taken, and twelve others."""
    cases = [Case(231 + n, f"GEN-{n:03}", "", "limit", Severity.URGENT, Status.OPEN, AT - 3_600_000) for n in range(13)]
    clocks = [OfTicket(231, "R7", "dispatch", AT + 900_000, risk="feared"), OfTicket(232, "R7", "dispatch", AT - 1)]
    return handover(cases, [], clocks, AT - 86_400_000, AT)


SHIFT = shift()
SERVICE = {"en": "Regular service", "zh": "定期保养"}


def of_no_ticket(lang: str) -> dict[Kind, Text]:
    one, two = written(Kind.BREACH, lang, "startless"), written(Kind.DISPATCH_ALERT, lang, "overheated")
    return {
        Kind.UNREACHABLE: write_unreachable(lang, "Ada Lin", one),
        Kind.CONTACT_BOUNCED: write_bounced(lang, "Ada Lin", "sms", "+8613800000000", "HTTP 400, code 21614"),
        Kind.DIGEST: gather(lang, [one, two, *[two] * 100]),
        Kind.HANDOVER: write_handover(
            lang, SHIFT, AT + 86_400_000, "Asia/Shanghai", "https://fettle.example.com/handover"
        ),
        Kind.MAINTENANCE_OVERDUE: write_maintenance_overdue(
            lang,
            [(f"GEN-{n:03}", SERVICE[lang], AT - n * 86_400_000) for n in (14, 3)],
            more=False,
            timezone="Asia/Shanghai",
            link="https://fettle.example.com/maintenance?state=overdue",
        ),
        Kind.AVAILABILITY_AT_RISK: write_availability(
            lang,
            "on_hire",
            "2026-11",
            target=0.9,
            lower=0.871,
            left=0.31,
            burn=1.29,
            link="https://fettle.example.com/",
        ),
        Kind.MONTHLY_REPORT: write_monthly_report(
            lang,
            "2026-10",
            [
                notices.Figure("R7", 0.98999, 1.0, False, 412),
                notices.Figure("R9", None, 1.0, None, 0),
                notices.Figure("E1.on_hire", 0.9, 0.9, True, 6012),
                notices.Figure("E6.damage", 31.0, None, None, 31),
            ],
            "https://fettle.example.com/reports/2026-10",
        ),
        Kind.SIGN_IN_LINK: write_sign_in_link(lang, "Ada Lin", 15, "https://fettle.example.com/sign-in/Ks8Jd0x"),
        Kind.SIGN_IN_CHANGED: write_sign_in_changed(
            lang, "Ada Lin", "password", AT, "Asia/Shanghai", "https://fettle.example.com/sign-in"
        ),
        Kind.TEST: write_test(lang, "Ada Lin", AT, "Asia/Shanghai", "https://fettle.example.com/settings/notices"),
        Kind.WORK_ASSIGNED: write_work_assigned(
            lang,
            "GEN-014",
            SERVICE[lang],
            "North pier",
            AT,
            timezone="Asia/Shanghai",
            link="https://fettle.example.com/maintenance/12",
        ),
    }


def plain_of(text: Text) -> str:
    return f"{text.subject}\n\n{text.body}"


def snapshots() -> Iterator[tuple[str, str]]:
    """Every notice in every language, as plain text and as a page: name of the file, and what stands in it."""
    for lang in LANGS:
        texts = {f"{kind}.{case}": written(kind, lang, case) for kind in OF_TICKETS for case in CASES}
        for name, text in {**texts, **of_no_ticket(lang)}.items():
            yield f"{name}.{lang}.txt", plain_of(text)
            yield f"{name}.{lang}.html", text.html


def columns(line: str) -> int:
    """The width of a line as it is seen: Chinese characters take two columns."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in line)


# --- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text"), [pytest.param(*one, id=one[0]) for one in snapshots()])
def test_every_notice_reads_as_written_down(name: str, text: str) -> None:
    assert text == (SNAPSHOTS / name).read_text("utf-8")
    if name.endswith(".txt"):
        # A list holds the subjects of others, and their links.
        lines = [] if name.startswith(Kind.DIGEST) else text.splitlines()[1:]
        assert max(map(columns, lines), default=0) <= 66, "too wide for a phone"


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("kind", OF_TICKETS)
def test_a_page_says_what_the_plain_text_says(kind: Kind, lang: str) -> None:
    text = written(kind, lang, "startless")
    page = Page()
    page.feed(text.html)
    # Every word of the text is there in its order, but for marks of lists, colons of tables, and links that are buttons.
    said = [line.strip("-· ") for line in text.body.splitlines() if not line.startswith("http")]
    assert squeezed("".join(page.said)) == squeezed(text.subject * 2 + "".join(said))
    assert page.links == [line for line in text.body.splitlines() if line.startswith("http")]


def squeezed(text: str) -> str:
    """Without spaces, colons and the words of the buttons."""
    for left_out in ("Open the page", "打开页面"):
        text = text.replace(left_out, "")
    return re.sub(r"[\s::\uff1a]", "", text)


class Page(HTMLParser):
    """What a reader of an HTML letter sees."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.said.append(data)


EVIL = '<img src=x onerror=alert(1)>"\'><a href="https://evil.example/">here</a> https://evil.example/'


@pytest.mark.parametrize("kind", OF_TICKETS)
def test_a_page_shows_nothing_from_outside_and_escapes_everything(kind: Kind) -> None:
    nasty = replace(
        STARTLESS, site=EVIL, customer=EVIL, device_id=EVIL, technician=EVIL, kind="fault_code", subject=EVIL,
        machines=(EVIL, EVIL), evidence={"text": EVIL},
    )  # fmt: skip
    text = write(kind, "en", nasty, PROMISES[0])
    page = Page()
    page.feed(text.html)
    assert page.tags <= {
        "html", "head", "meta", "title", "body", "div", "h1", "table", "tr", "td", "ul", "li", "p", "br", "a",
    }  # fmt: skip
    assert page.names <= {"lang", "charset", "name", "content", "style", "role", "href"}
    assert all(link.startswith("https://fettle.example.com/") for link in page.links)


def test_only_links_of_ours_are_links() -> None:
    body = "https://evil.example/\n\n- x\n  https://evil.example/\n\nhttps://fettle.example.com/tickets/1\n"
    page = Page()
    page.feed(letter("en", "s", body, {"https://fettle.example.com/tickets/1"}, "Open"))
    assert page.links == ["https://fettle.example.com/tickets/1"]
    assert page.said.count("https://evil.example/") == 2


def test_a_list_of_notices_is_bounded_and_leads_to_each() -> None:
    text = of_no_ticket("en")[Kind.DIGEST]
    assert text.subject.startswith("102 notices: Promise missed")
    assert text.body.count("\n- ") == notices.NOTICES_LISTED
    assert "… and 2 more" in text.body
    assert text.body.count("https://fettle.example.com/tickets/231") == notices.NOTICES_LISTED


def test_one_notice_alone_is_no_list() -> None:
    text = written(Kind.BREACH, "en", "startless")
    assert gather("en", [text]) is text


def test_a_site_s_outage_is_one_notice_with_a_list() -> None:
    names = tuple(f"GX-{n}" for n in range(1, 31))
    facts = replace(STARTLESS, kind="silent", device_id="", profile=None, evidence={"scope": "site"}, machines=names)
    body = write(Kind.DISPATCH_ALERT, "en", facts).body
    assert [line for line in body.splitlines() if line.startswith("- GX")] == [f"- {one}" for one in names[:20]]
    assert "- … and 10 more" in body
    assert [one.kind for one in notices_for(OPENED, facts, [TECHNICIAN], None, AT)] == ["dispatch_alert"]
    # Mostly it is routine, and then operations hear of it at once all the same: we are blind there.
    (told,) = notices_for(OPENED, replace(facts, severity=Severity.ROUTINE), [TECHNICIAN, OPS], None, AT)
    assert (told.kind, told.severity, told.body.count("- GX")) == ("routine_opened", Severity.URGENT, 20)


def test_languages_have_the_same_texts_with_the_same_names_in_them() -> None:
    variables = re.compile(r"{{\s*(\w+(?:\.\w+)?)|{%-?\s*(?:el)?if (\w+)")

    def named(text: str) -> set[str]:
        return {one or other for one, other in variables.findall(text)}

    zh, en = notices._texts("zh"), notices._texts("en")
    assert zh.keys() == en.keys()
    assert {key for key in zh if not zh[key].strip()} == set()
    assert {key for key in zh if named(zh[key]) != named(en[key])} == set()


@pytest.mark.parametrize("lang", LANGS)
def test_everything_that_can_happen_has_words(lang: str) -> None:
    texts = notices._texts(lang)
    for clause in service_standard().clauses:
        assert {f"{part}.{clause.kind}" for part in ("pending", "missed", "task", "promise")} <= texts.keys()
    assert {f"severity.{severity}" for severity in Severity} <= texts.keys()
    for kind in FaultKind:
        for evidence in ({}, {"reason": "unheard of", "value": None, "limit": "x"}):
            assert headline(kind, "x", evidence, None, lang)
            assert plain(kind, "", evidence, GENERATOR, lang)
    # Silence, and an anomaly of one sensor, are told in the same words whatever gave them away.
    unsaid = {Reason.LOST, Reason.MISSED_REPORTS, Reason.SENSOR_REMOVED, Reason.LEVEL, Reason.HOUR, Reason.LASTING}
    for reason in set(Reason) - unsaid:
        said = {f"headline.{kind}_{reason}" for kind in ("startup_failure", "wrong_clock", "sensor")}
        assert said & texts.keys(), reason


@pytest.mark.parametrize(
    ("kind", "subject", "evidence", "en", "zh"),
    [
        ("startup_failure", "", {"reason": "attempts", "attempts": 3}, "Does not start: third attempt", "设备无法启动（第三次尝试）"),
        ("startup_failure", "", {"reason": "attempts", "attempts": 12}, "Does not start: attempt 12", "设备无法启动（第 12 次尝试）"),
        ("startup_failure", "", {"reason": "timeout"}, "Does not start: not running within 30 s", "设备无法启动（30 秒内未能运转）"),
        ("startup_failure", "", {}, "Does not start", "设备无法启动"),
        ("startup_failure", "", {"reason": "shut_down"}, "Stopped by itself while running", "设备运行中自行停机"),
        ("sensor", "coolant_temp_c", {"reason": "stuck"}, "Coolant temperature: the sensor stands still", "冷却液温度传感器读数停滞不变"),
        ("limit", "coolant_temp_c", {"value": 103, "limit": 98}, "Coolant temperature above 98 °C for 30 s", "冷却液温度高于 98 °C，持续 30 秒"),
        ("limit", "oil_pressure_bar", {"value": 0.93, "limit": 1.5, "unit": "bar"}, "Oil pressure below 1.5 bar", "机油压力低于 1.5 bar"),
        ("limit", "oil_pressure_bar", {"value": 9, "limit": 9.5, "side": "above"}, "Oil pressure above 9.5 bar", "机油压力高于 9.5 bar"),
        ("wrong_clock", "", {"reason": "clock_behind", "lag_s": 400}, "The machine's clock is behind", "设备时钟偏慢"),
        ("limit", "vibration_mm_s", {"value": 9, "limit": 0}, "Vibration above 0", "Vibration高于 0"),
        ("limit", "coolant_temp_c", {"value": float("nan")}, "Coolant temperature outside its limits", "冷却液温度超出正常范围"),
        ("fault_code", "110/0", {"text": "Engine coolant\nhot"}, "Fault code 110/0: Engine coolant hot", "故障码 110/0：Engine coolant hot"),
        ("fault_code", "7", {"code": 7}, "Fault code 7", "故障码 7"),
        ("anomaly", "", {}, "Runs unlike itself when healthy", "设备运行状态异常"),
        ("reported", "", {"text": "Smoke"}, "Reported: Smoke", "报修：Smoke"),
        ("silent", "", {"scope": "site"}, "No signal from the whole site", "整个场地无信号"),
    ],
)  # fmt: skip
def test_a_fault_in_one_line(kind: str, subject: str, evidence: dict[str, object], en: str, zh: str) -> None:
    assert headline(kind, subject, evidence, GENERATOR, "en") == en
    assert headline(kind, subject, evidence, GENERATOR, "zh") == zh


def test_customers_read_no_codes_and_no_figures() -> None:
    evidence = {"code": "P0217", "text": "SPN 110 FMI 0", "value": 103, "limit": 98, "reason": "boot_loop"}
    for kind in FaultKind:
        for lang in LANGS:
            assert not re.search(r"\d|SPN|_", plain(kind, "coolant_temp_c", evidence, GENERATOR, lang))


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("coolant_temp_c", "Coolant temperature"),
        ("battery_v", "Battery voltage"),
        ("engine_rpm", "Engine speed"),
        ("temperature_c", "Temperature"),
        ("fuel_pct", "Fuel"),
        ("Accelerometer1RMS", "Accelerometer1RMS"),
        ("", ""),
    ],
)
def test_sensors_are_called_as_people_call_them(name: str, title: str) -> None:
    assert sensor_title(name, GENERATOR, "en") == title


@pytest.mark.parametrize(
    ("timezone", "lang", "shown"),
    [
        ("Asia/Shanghai", "en", "Sun 23 Nov 2025, 14:05 (China Standard Time)"),
        ("Asia/Shanghai", "zh", "2025年11月23日（周日）14:05（中国标准时间）"),
        ("Europe/Berlin", "en", "Sun 23 Nov 2025, 07:05 (Central European Standard Time)"),
        ("Mars/Olympus", "en", "Sun 23 Nov 2025, 06:05 (Coordinated Universal Time)"),
        ("", "zh", "2025年11月23日（周日）06:05（协调世界时）"),
    ],
)
def test_times_are_the_sites_with_their_zone(timezone: str, lang: str, shown: str) -> None:
    assert moment(AT, timezone, lang) == shown


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        (253_402_300_799_999, "Fri 31 Dec 9999, 23:59 (Coordinated Universal Time)"),
        (253_402_300_800_000, "253402300800000"),
        (10**400, "1" + 400 * "0"),
        (-(10**15), "-1000000000000000"),
    ],
)
def test_a_moment_that_no_calendar_has_keeps_no_notice_from_going_out(at: int, shown: str) -> None:
    assert moment(at, "Asia/Shanghai", "en") == shown


@pytest.mark.parametrize(
    ("wish", "lang"), [("zh", "zh"), ("zh-CN", "zh"), ("en_GB", "en"), ("EN", "en"), ("de", "zh"), ("", "zh")]
)
def test_the_nearest_language_is_taken(wish: str, lang: str) -> None:
    assert language(wish) == lang


NASTY = st.text(min_size=1) | st.sampled_from(
    ["x\r\nBcc: all@example.com", "a\u2028b", "{{ 7 * 7 }}", "\u202egnp.exe", "\x00", "长" * 500]
)


@given(
    site=NASTY,
    customer=NASTY,
    device_id=NASTY,
    text=NASTY,
    kind=st.sampled_from(OF_TICKETS),
    lang=st.sampled_from(LANGS),
)
def test_nobody_adds_lines_headers_or_templates(
    site: str, customer: str, device_id: str, text: str, kind: Kind, lang: str
) -> None:
    honest = replace(STARTLESS, kind="fault_code", subject="7", site="S", customer="C", evidence={"text": "T"})
    nasty = replace(honest, site=site, customer=customer, device_id=device_id, evidence={"text": text})
    written = write(kind, lang, nasty, PROMISES[0])
    assert len(written.subject) <= 160
    assert len((written.subject + "x").splitlines()) == 1
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs") for char in written.subject)
    # An empty name may take its own line away; none ever adds one.
    assert len(written.body.splitlines()) <= len(write(kind, lang, honest, PROMISES[0]).body.splitlines())
    assert "49" not in written.body or any("49" in given for given in (site, customer, device_id, text))


def test_a_site_without_signal_has_no_machine() -> None:
    facts = replace(STARTLESS, kind="silent", device_id="", profile=None, promises=(), evidence={"scope": "site"})
    assert write(Kind.DISPATCH_ALERT, "en", facts).subject == "Emergency · All machines · No signal from the whole site"
    assert "Promised" not in write(Kind.DISPATCH_ALERT, "en", facts).body


# --- who -----------------------------------------------------------------------------------------------------------

TECHNICIAN = Person(1, "technician", "tech@example.com", "zh")
OTHER_TECHNICIAN = Person(2, "technician", "tech2@example.com", "en")
OPS = Person(3, "ops", "ops@example.com", "en")
MANAGER = Person(4, "manager", "boss@example.com", "zh")
GONE = Person(5, "technician", "gone@example.com", "zh", disabled=True)
MUTE = Person(6, "ops", " ", "zh")
CONTACT = Person(7, "customer", "site@customer.example", "en", customer_id=70)
STRANGER = Person(8, "customer", "x@other.example", "en", customer_id=71)
CLERK = Person(9, "service", "desk@example.com", "zh")
EVERYBODY = [TECHNICIAN, OTHER_TECHNICIAN, OPS, MANAGER, GONE, MUTE, CONTACT, STRANGER, CLERK]
CUSTOMER = Customer(70, "office@customer.example", "zh")
OPENED, RESOLVED = Event(Happening.OPENED), Event(Happening.RESOLVED)
DISPATCHED, RECURRED = Event(Happening.DISPATCHED, "17"), Event(Happening.RECURRED, "1")
ARRANGED, ON_SITE, CLOSED = (Event(what) for what in (Happening.ARRANGED, Happening.ON_SITE, Happening.CLOSED))
WARNED, BREACHED = (about(what, PROMISES[0]) for what in (Happening.WARNED, Happening.BREACHED))
ROOM = Recipient("room", "webhook", "ops", "zh")


def told(event: Event, people: list[Person] = EVERYBODY, facts: Facts = STARTLESS, **also: object) -> set[str]:
    customer = also.pop("customer", CUSTOMER)
    queued = notices_for(event, facts, people, customer, AT, **also)  # type: ignore[arg-type]
    return {f"{one.kind} {one.recipient.split('@')[0]}" for one in queued}


@pytest.mark.parametrize(
    ("event", "hearers"),
    [
        (OPENED, {"dispatch_alert tech", "dispatch_alert tech2", "fault_noticed office", "fault_noticed site"}),
        (DISPATCHED, {"dispatch_alert tech", "dispatch_alert tech2"}),
        (RECURRED, {"fault_noticed office", "fault_noticed site"}),
        (WARNED, {"breach_warning tech", "breach_warning tech2", "breach_warning ops"}),
        (BREACHED, {"breach ops", "breach boss"}),
        (RESOLVED, {"fault_resolved office", "fault_resolved site"}),
        (ARRANGED, {"technician_arranged office", "technician_arranged site"}),
        (ON_SITE, {"technician_on_site office", "technician_on_site site"}),
        (CLOSED, {"how_was_it office", "how_was_it site"}),
    ],
)
def test_each_hears_what_is_theirs(event: Event, hearers: set[str]) -> None:
    assert told(event) == hearers


def test_an_alert_goes_to_operators_where_no_technician_is() -> None:
    assert told(OPENED, [OPS, GONE, MANAGER], customer=None) == {"dispatch_alert ops"}


def test_a_machine_not_on_hire_tells_no_customer() -> None:
    assert told(OPENED, customer=None) == {"dispatch_alert tech", "dispatch_alert tech2"}
    assert told(RESOLVED, customer=None) == set()


@pytest.mark.parametrize("event", [OPENED, RESOLVED, DISPATCHED, ARRANGED, CLOSED])
def test_routine_pages_nobody_and_notes_tell_nobody(event: Event) -> None:
    assert told(event, facts=replace(STARTLESS, severity=Severity.NOTE), room=ROOM) == set()
    routine = {"routine_opened ops"} if event is OPENED else set()
    assert told(event, facts=replace(STARTLESS, severity=Severity.ROUTINE), room=ROOM) == routine


def test_who_has_a_contact_is_told_even_without_e_mail() -> None:
    assert told(OPENED, [replace(MUTE, has_contact=True)], customer=None) == {"dispatch_alert "}
    two = [Person(n, "technician", "", "en", has_contact=True) for n in (1, 2)]
    assert [one.person_id for one in notices_for(OPENED, STARTLESS, two, None, AT)] == [1, 2]


@pytest.mark.parametrize(
    ("event", "severity", "told_as"),
    [
        (OPENED, Severity.EMERGENCY, {Severity.EMERGENCY}),
        (OPENED, Severity.ROUTINE, {Severity.ROUTINE}),
        (RESOLVED, Severity.EMERGENCY, {Severity.URGENT}),
        (CLOSED, Severity.EMERGENCY, {Severity.ROUTINE}),
        (ARRANGED, Severity.URGENT, {Severity.URGENT}),
    ],
)
def test_good_news_is_no_emergency(event: Event, severity: Severity, told_as: set[Severity]) -> None:
    queued = notices_for(event, replace(STARTLESS, severity=severity), EVERYBODY, CUSTOMER, AT)
    assert {one.severity for one in queued} == told_as


def test_another_technician_is_another_turn_of_events() -> None:
    names = ("0-1-0", "0-2-1", "0-1-0")
    causes = [notices_for(replace(ARRANGED, name=one), STARTLESS, [], CUSTOMER, AT)[0].cause for one in names]
    assert (len(set(causes)), causes[0]) == (2, causes[2])


def test_who_has_taken_a_ticket_is_warned_alone() -> None:
    assert told(WARNED, facts=replace(STARTLESS, technician_id=2)) == {"breach_warning tech2", "breach_warning ops"}
    assert told(DISPATCHED, facts=replace(STARTLESS, technician_id=2)) == {"dispatch_alert tech2"}
    assert "breach_warning tech" in told(WARNED, facts=replace(STARTLESS, technician_id=GONE.id))


def test_a_clause_of_the_standard_names_whom_it_warns() -> None:
    assert told(replace(WARNED, warns=("manager",))) == {"breach_warning boss"}


def test_an_address_hears_a_notice_once() -> None:
    twin = replace(CONTACT, id=12, email="Office@customer.example")
    queued = notices_for(OPENED, STARTLESS, [twin], CUSTOMER, AT)
    assert [one.recipient for one in queued] == ["office@customer.example"]


def test_the_operators_room_hears_what_is_internal() -> None:
    assert "dispatch_alert ops" in told(OPENED, room=ROOM)
    assert told(RESOLVED, room=ROOM, customer=None) == set()


def test_a_notice_carries_its_cause_language_and_time() -> None:
    (queued,) = notices_for(BREACHED, STARTLESS, [MANAGER], None, AT)
    assert queued.cause == "breach:231:dispatch-0-1763881500000:person-4"
    assert (queued.channel, queued.recipient, queued.lang, queued.next_try_at) == (
        "email",
        "boss@example.com",
        "zh",
        AT,
    )
    assert queued.subject == "承诺逾期｜GEN-014｜未按时安排技术人员（#231）"


def test_causes_differ_by_kind_turn_promise_and_hearer_and_hold_no_address() -> None:
    events = [OPENED, DISPATCHED, RECURRED, RESOLVED, *(about(what, one) for what in (Happening.WARNED, Happening.BREACHED) for one in PROMISES)]  # fmt: skip
    causes = [one.cause for event in events for one in notices_for(event, STARTLESS, EVERYBODY, CUSTOMER, AT)]
    assert len(causes) == len(set(causes)) == 4 + 2 + 2 + 2 + 6 + 4
    assert not any("@" in cause for cause in causes)


if __name__ == "__main__":
    for name, text in snapshots():
        SNAPSHOTS.joinpath(name).write_text(text, "utf-8")
