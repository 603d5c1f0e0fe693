"""Registers in and out as CSV: every bad line named, nothing half-imported, and what goes out comes in as it was."""

import json
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle import importing
from fettle.house import house
from fettle.settings import read_settings
from monitor.fleet import sheets as csv_sheets
from monitor.fleet.maintenance import Plan
from monitor.fleet.sheets import guarded, unguarded
from monitor.store import schema, sheets
from monitor.store.database import Database, open_database, witnessed
from monitor.store.maintenance import put_plan
from monitor.store.profiles import load_profiles
from monitor.store.sheets import Intake, Register
from tests.standard.world import fresh_database
from tests.test_cli import Fettle, fettle

__all__ = ["fettle"]

ZONE = ZoneInfo("Asia/Shanghai")
NOW = 1_795_000_000_000
PROFILES = load_profiles()
DAY = 86_400_000


def company(folder: Path) -> Intake:
    (folder / "fettle.db").write_bytes(fresh_database())
    return Intake(open_database(f"sqlite:///{folder / 'fettle.db'}"), ZONE, PROFILES)


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    """A company with a site, a customer, and a machine on hire since yesterday."""
    found = company(tmp_path)
    take(found, "sites", "name\nYard\n")
    take(found, "customers", "name,email,lang\nMetro JV,site@metro.example,en\n")
    take(found, "devices", "device_id,profile,site\nGX-1,diesel_generator,Yard\nGX-2,diesel_generator,\n")
    take(found, "rentals", "device_id,customer,starts_at\nGX-1,Metro JV,2026-11-01\n")
    yield found
    found.database.close()


def take(intake: Intake, kind: str, text: str) -> list[str]:
    return [one.said for one in intake.take(Register(kind), text.encode(), NOW).wrong]


def rows(database: Database, table: sa.Table) -> list[dict[str, object]]:
    with database.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(table))]


def exported(intake: Intake, kind: Register) -> str:
    with intake.database.connect() as connection:
        return "".join(sheets.export(connection, kind, ZONE, PROFILES))


# --- the form ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b'name,remote,access_notes\nNorth,yes,"gate 7\nring"\n',
        b'\xef\xbb\xbfname,remote,access_notes\r\nNorth,yes,"gate 7\r\nring"\r\n',
        b'Access_Notes; NAME ;remote\r\n"gate 7\nring";North;TRUE\r\n;;\r\n',
        b'\n\nremote;name;access_notes\n1;North;"gate 7\nring"',
    ],
)
def test_every_usual_form_of_csv_is_read(tmp_path: Path, data: bytes) -> None:
    found = company(tmp_path)
    assert found.take(Register.SITES, data, NOW).wrong == []
    (site,) = rows(found.database, schema.site)
    assert (site["name"], site["remote"], site["access_notes"]) == ("North", True, "gate 7\nring")
    assert site["timezone"] == "Asia/Shanghai"
    found.database.close()


DATES = """device_id,profile,added_at,retired_at
N1,diesel_generator,2077-01-01,
N2,diesel_generator,2026-01-02,2026-01-01
N3,diesel_generator,soon,
N4,diesel_generator,1999-1-1,
"""
OVERLAPPING = """device_id,customer,starts_at,ends_at
GX-1,Metro JV,2026-11-05,2026-11-06
GX-2,Metro JV,2026-01-01,2026-02-01
GX-2,Metro JV,2026-01-31,
GX-2,Metro JV,2025-01-01,2026-01-01
GX-2,Metro JV,2024-01-01,2024-12-31
GX-2,Metro JV,2024-02-01,2024-03-01
GX-2,Metro JV,2024-05-01,2024-06-01
"""
ODD = """device_id,done_at,plan,title
GX-1,2026-01-01,,Oil
GX-1,2026-02-01,no_such,Oil
GX-1,2026-01-01,service,Filter
GX-1,2026-01-01,(none),Paint
GX-1,2026-01-01,(none),Lamp
GX-1,2026-01-01,(none),Paint
"""


@pytest.mark.parametrize(
    ("kind", "text", "wrong"),
    [
        ("sites", "name,colour\nA,red\n", ["line 1, header: 'colour': there is no such column; known are: name"]),
        ("sites", "remote\nyes\n", ["line 1, header: 'name': this column is missing"]),
        ("sites", "name,name\nA,B\n", ["line 1, header: 'name': this column stands more than once"]),
        ("sites", "", ["line 1, header: 'name': this column is missing"]),
        ("sites", "name,remote\nA\n", ["line 2: this line has 1 cells, and the header has 2"]),
        ("sites", "name,access_notes\nA,\"x\ny\"\nA,\n", ["line 4, name: 'A': line 2 has it already"]),
        ("sites", "name,remote\nA,maybe\n", ["line 2, remote: 'maybe': yes or no is allowed"]),
        ("sites", "name,lat_deg,lon_deg\nA,91,0\nB,1,\nC,nan,1\n", [
            "line 2, lat_deg: '91': a number between -90 and 90 is allowed",
            "line 3, lat_deg: '1': lat_deg and lon_deg: both or none are known",
            "line 4, lat_deg: 'nan': a number between -90 and 90 is allowed",
        ]),
        ("sites", "name,timezone\nA,Moon/Tycho\n", ["line 2, timezone: 'Moon/Tycho': an IANA name such as"]),
        ("sites", "name\nYard\n", ["line 2, name: 'Yard': there is a site of this name already"]),
        ("sites", "name\nA\n\"B\" x\n", ["line 3: this is no CSV"]),
        ("sites", "name\n\"never ends\n", ["line 2: this is no CSV"]),
        ("sites", "name\na\x00b\n", ["line 2, name: 'a\\x00b': 1 to 120 printable characters are allowed"]),
        ("sites", "name\n" + "x" * 9000 + "\n", ["line 2, name: 'xxx"]),
        ("customers", "name,email,lang\nB,nobody,fr\n", [
            "line 2, email: 'nobody': one plain address such as name@example.com is allowed",
            "line 2, lang: 'fr': allowed are en, zh",
        ]),
        ("customers", "name\nMetro JV\n", ["line 2, name: 'Metro JV': there is a customer of this name already"]),
        ("devices", "device_id,profile,site\na/b,toaster,Yard\nGX-1,diesel_generator,\nGX-3,diesel_generator,Moon\n", [
            "line 2, device_id: 'a/b': 1 to 64 of A-Z a-z 0-9 _ - are allowed",
            "line 2, profile: 'toaster': allowed are air_compressor, ",
            "line 3, device_id: 'GX-1': there is a machine of this id already",
            "line 4, site: 'Moon': there is no site of this name",
        ]),
        ("devices", DATES, [
            "line 2, added_at: '2077-01-01': must not lie ahead",
            "line 3, retired_at: '2026-01-01': must lie after added_at",
            "line 4, added_at: 'soon': a time such as 2026-11-23 14:06",
            "line 5, added_at: '1999-1-1': a time in the years 2000 to 2099",
        ]),
        ("rentals", "device_id,customer,starts_at,ends_at\nGX-9,Nobody,2026-01-01,2025-01-01\n", [
            "line 2, device_id: 'GX-9': there is no machine of this id",
            "line 2, customer: 'Nobody': there is no customer of this name",
            "line 2, ends_at: '2025-01-01': must not lie before starts_at",
        ]),
        ("rentals", OVERLAPPING, [
            "line 2, device_id: 'GX-1': it is on hire in this period already: rental 1",
            "line 4, device_id: 'GX-2': it is on hire in this period already: line 3",
            "line 7, device_id: 'GX-2': it is on hire in this period already: line 6",
            "line 8, device_id: 'GX-2': it is on hire in this period already: line 6",
        ]),
        ("maintenance", "device_id,done_at,title\nGX-9,2026-01-01,Oil\nGX-1,2077-01-01,Oil\n", [
            "line 2, device_id: 'GX-9': there is no machine of this id",
            "line 3, done_at: '2077-01-01': must not lie ahead",
        ]),
        ("maintenance", ODD, [
            "line 3, plan: 'no_such': allowed on this machine are service, and (none)",
            "line 4, device_id: 'GX-1': line 2 has it already",
            "line 7, device_id: 'GX-1': line 5 has it already",
        ]),
    ],
)  # fmt: skip
def test_every_bad_line_is_named_and_nothing_is_taken(intake: Intake, kind: str, text: str, wrong: list[str]) -> None:
    before = {name: rows(intake.database, table) for name, table in schema.metadata.tables.items()}
    looked = intake.look(Register(kind), text.encode(), NOW)
    found = take(intake, kind, text)
    assert [one.said for one in looked.wrong] == found
    assert len(found) == len(wrong)
    for said, begins in zip(found, wrong, strict=True):
        assert said.startswith(begins), said
    assert {name: rows(intake.database, table) for name, table in schema.metadata.tables.items()} == before


def test_a_file_that_is_not_utf8_or_too_long_is_refused(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    (wrong,) = intake.take(Register.SITES, "name\nA\n北京\n".encode("gbk"), NOW).wrong
    assert wrong.said.startswith("line 3: this is not UTF-8")
    monkeypatch.setattr(csv_sheets, "MAX_LINES", 2)
    assert take(intake, "sites", "name\nA\nB\nC\n") == ["line 4: at most 2 lines are allowed; the rest was not read"]
    monkeypatch.setattr(csv_sheets, "MAX_BYTES", 5)
    assert take(intake, "sites", "name\nA\n") == ["line 1: the file has 7 bytes; at most 5 are allowed"]
    assert [site["name"] for site in rows(intake.database, schema.site)] == ["Yard"]


def test_one_bad_line_among_many_keeps_all_of_them_out(intake: Intake) -> None:
    good = "".join(f"N-{n},diesel_generator,Yard\n" for n in range(3_000))
    assert len(take(intake, "devices", f"device_id,profile,site\n{good}N-7,diesel_generator,Yard\n")) == 1
    assert len(rows(intake.database, schema.device)) == 2
    assert take(intake, "devices", f"device_id,profile,site\n{good}") == []
    assert len(rows(intake.database, schema.device)) == 3_002


def test_a_contract_is_one_customers(intake: Intake) -> None:
    take(intake, "customers", "name\nTunnel AG\n")
    both = "device_id,customer,contract,starts_at,ends_at\nGX-2,Metro JV,K-1,2026-01-01,2026-02-01\n"
    other = "GX-2,Tunnel AG,K-1,2026-03-01,2026-04-01\n"
    assert take(intake, "rentals", both + other) == ["line 3, contract: 'K-1': this contract is another customer's"]
    assert take(intake, "rentals", both) == []
    head = both.splitlines()[0]
    assert take(intake, "rentals", f"{head}\n{other}") == [
        "line 2, contract: 'K-1': this contract is another customer's"
    ]
    assert [one["number"] for one in rows(intake.database, schema.contract)] == ["K-1"]


def test_a_time_without_an_offset_is_the_companys(intake: Intake) -> None:
    text = "device_id,profile,added_at\n"
    for n, said in enumerate(("2026/3/1", "2026-03-01 00:00", "2026-02-28T16:00:00Z", "2026-03-01T00:00:00+08:00")):
        text += f"T-{n},diesel_generator,{said}\n"
    assert take(intake, "devices", text) == []
    found = {one["added_at"] for one in rows(intake.database, schema.device) if str(one["device_id"]).startswith("T-")}
    assert found == {1_772_294_400_000}


def test_what_is_taken_in_is_audited_and_begins_a_stay(intake: Intake) -> None:
    told = {(one["what"], one["subject"]) for one in rows(intake.database, schema.audit)}
    assert {("site_added", "site:1"), ("customer_added", "customer:1"), ("device_added", "device:GX-2"),
            ("rental_added", "rental:1")} <= told  # fmt: skip
    assert "site@metro.example" not in json.dumps([one["after"] for one in rows(intake.database, schema.audit)])
    assert [(one["device_id"], one["site_id"]) for one in rows(intake.database, schema.stay)] == [
        ("GX-1", 1), ("GX-2", None),
    ]  # fmt: skip


def test_maintenance_becomes_done_work_orders(intake: Intake) -> None:
    text = 'device_id,done_at,title,meter_h,parts,done_by\nGX-1,2026-10-01,Oil,1200.5,"filter\nbelt",Tian\n'
    assert take(intake, "maintenance", text) == []
    (order,) = rows(intake.database, schema.work_order)
    assert (order["status"], order["plan"], order["parts"], order["from_at"], order["from_h"], order["done_by"]) == (
        "done", "service", ["filter", "belt"], order["done_at"], 1200.5, "Tian",
    )  # fmt: skip
    assert take(intake, "maintenance", text) == ["line 2, done_at: '2026-10-01': this is on record already"]


def test_maintenance_may_name_the_plans_that_its_machine_has(intake: Intake) -> None:
    own = Plan("winter", "Winter", "冬季", every_days=365, additional=True)
    with intake.database.begin() as connection:
        put_plan(connection, own, "device", "GX-1", "test", NOW)
    text = "device_id,done_at,plan,title\nGX-1,2026-10-01,winter,Coolant\nGX-2,2026-10-01,winter,Coolant\n"
    assert take(intake, "maintenance", text) == [
        "line 3, plan: 'winter': allowed on this machine are service, and (none)"
    ]
    assert take(intake, "maintenance", text.replace("GX-2", "GX-1").replace("10-01", "10-02", 1)) == []


# --- there and back ------------------------------------------------------------------------------------------------

CELLS = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=12) | st.sampled_from(
    [
        "=1+1",
        "+49 30",
        "-x",
        "@sum",
        "'=x",
        "''x",
        "'",
        "'abc",
        'a"b',
        "a;b",
        "a,b",
        " lead",
        "trail ",
        "北京",
        "=",
        "''",
    ]
)
CELLS = CELLS.filter(str.isprintable)
NAMES = CELLS.filter(lambda name: bool(name.strip()))


@given(st.text(max_size=6, alphabet="'=+-@\t\rx"))
def test_a_guarded_cell_is_no_formula_and_comes_back(cell: str) -> None:
    assert unguarded(guarded(cell)) == cell
    assert not guarded(cell).startswith(csv_sheets.FORMULA)


@settings(max_examples=40, deadline=None)
@given(
    sites=st.lists(st.tuples(NAMES, st.booleans(), st.none() | st.floats(-90, 90), CELLS), unique_by=lambda s: s[0],
                   max_size=4),
    customers=st.lists(NAMES, unique=True, min_size=1, max_size=4),
    stays=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 40), st.integers(0, 9)), max_size=8),
    parts=st.lists(NAMES, max_size=3),
)  # fmt: skip
def test_what_is_exported_is_read_into_an_empty_company_as_it_was(
    sites: list[tuple[str, bool, float | None, str]], customers: list[str],
    stays: list[tuple[int, int, int, int]], parts: list[str],
) -> None:  # fmt: skip
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        first, second = company(Path(one)), company(Path(other))
        with closing(first.database), closing(second.database):
            _live(first, sites, customers, stays, parts)
            for kind in Register:
                content = exported(first, kind)
                assert second.take(kind, content.encode(), NOW).wrong == []
                assert exported(second, kind) == content
            for table in (schema.site, schema.customer, schema.rental):
                assert rows(second.database, table) == rows(first.database, table)
            kept = [(one["plan"], one["title_en"], one["parts"], one["from_at"])
                    for one in rows(second.database, schema.work_order)]  # fmt: skip
            assert kept == [("service", "Oil", parts, NOW - 5), ("", "Paint", parts, None), ("", "Lamp", parts, None)]


def _live(
    first: Intake, sites: list[tuple[str, bool, float | None, str]], customers: list[str],
    stays: list[tuple[int, int, int, int]], parts: list[str],
) -> None:  # fmt: skip
    with first.database.begin() as connection:
        for name, remote, lat_deg, notes in sites:
            connection.execute(sa.insert(schema.site).values(
                name=name, remote=remote, timezone="Europe/Berlin", lat_deg=lat_deg, lon_deg=lat_deg,
                access_notes=f"{notes}\n{notes}"))  # fmt: skip
        for name in customers:
            connection.execute(sa.insert(schema.customer).values(name=name, email="", lang="zh"))
        for n in range(4):
            connection.execute(sa.insert(schema.device).values(
                device_id=f"-{n}", profile="water_pump", site_id=1 + n % len(sites) if sites else None,
                added_at=NOW - n))  # fmt: skip
        taken: dict[int, int] = {}
        for machine, of, gap, length in stays:
            starts_at = taken.get(machine, NOW - 400 * DAY) + gap * DAY
            taken[machine] = starts_at + length * DAY
            # What is over when it is read in is history.
            connection.execute(sa.insert(schema.rental).values(
                device_id=f"-{machine}", customer_id=1 + of % len(customers), starts_at=starts_at,
                ends_at=starts_at + length * DAY, taken_over=True))  # fmt: skip
        for plan, title in (("service", "Oil"), ("", "Paint"), ("", "Lamp")):
            connection.execute(sa.insert(schema.work_order).values(
                kind="maintenance", device_id="-1", plan=plan, title_en=title, title_zh="机油", reason="imported",
                due_at=1, opened_at=1, opened_by="x", status="done", checklist=[], parts=parts, note=" n ",
                done_at=NOW - 5, done_by="", recorded_at=1))  # fmt: skip


# --- the command line ----------------------------------------------------------------------------------------------


def test_the_commands_import_and_export(fettle: Fettle, tmp_path: Path) -> None:
    file, bad, cards = tmp_path / "devices.csv", tmp_path / "bad.csv", tmp_path / "cards"
    file.write_text("device_id;profile\nGX-1;diesel_generator\nGX-2;water_pump\n")
    bad.write_text("device_id,profile\nGX-3,toaster\na b,water_pump\n")
    dry = fettle("import", str(file), "--kind", "devices", "--dry-run", "--json").data
    assert (dry["lines"], dry["added"], dry["wrong"]) == (2, 0, [])
    wrong = fettle("import", str(bad), "--kind", "devices", "--json")
    assert wrong.status == 2
    assert [(one["line"], one["column"], one["value"]) for one in wrong.data["wrong"]] == [
        (2, "profile", "toaster"), (3, "device_id", "a b"),
    ]  # fmt: skip
    assert [line.partition(":")[0] for line in wrong.err.splitlines()] == ["fettle", "fettle"]
    assert fettle("export", "--kind", "devices", "--json").data["csv"].count("\r\n") == 1
    done = fettle("import", str(file), "--kind", "devices", "--cards", str(cards), "--json").data
    assert (done["added"], done["cards"]) == (2, 2)
    card = json.loads((cards / "GX-1.json").read_text())
    assert card["device_id"] == "GX-1"
    assert card["mqtt"]["password"]
    assert stat.S_IMODE((cards / "GX-1.json").stat().st_mode) == 0o600
    out = tmp_path / "out.csv"
    assert fettle("export", "--kind", "devices", "--out", str(out)).status == 0
    assert out.read_text("utf-8-sig").splitlines()[1].startswith("GX-1,diesel_generator,,20")
    again = fettle("import", str(out), "--kind", "devices")
    assert (again.status, len(again.err.splitlines())) == (2, 2)
    assert sorted(one.name for one in cards.iterdir()) == ["GX-1.json", "GX-2.json"]
    sites = fettle("import", str(file), "--kind", "sites", "--cards", str(cards))
    assert "--cards belongs to --kind devices" in sites.err
    assert fettle("site", "add", "Yard").status == 0
    assert fettle("device", "move", "GX-1", "--site", "Yard", "--json").data["site"] == "Yard"


def test_cards_are_on_disk_before_their_machines_are_on_record(fettle: Fettle, tmp_path: Path) -> None:  # noqa: ARG001
    file, cards = tmp_path / "devices.csv", tmp_path / "cards"
    file.write_text(
        "device_id,profile,added_at,retired_at\nGX-1,water_pump,,\nGX-2,water_pump,,\nGX-3,water_pump,2020-01-01,2021-01-01\n"
    )
    lying: dict[str, str] = {}

    def power_cut(connection: sa.Connection) -> None:
        noted = connection.execute(sa.select(schema.credential.c.device_id)).scalars()
        lying.update({one: json.loads((cards / f"{one}.json.new").read_text())["device_id"] for one in noted})
        raise InterruptedError

    with house(read_settings()) as rooms:
        with witnessed(power_cut), pytest.raises(InterruptedError):
            importing.take(rooms, file, Register.DEVICES, dry_run=False, cards=cards)
        # Of a machine that was retired before, nobody needs a card.
        assert lying == {"GX-1": "GX-1", "GX-2": "GX-2"}
        assert rows(rooms.database, schema.device) == []
        done = importing.take(rooms, file, Register.DEVICES, dry_run=False, cards=cards)
        assert (done["added"], done["cards"]) == (3, 2)
        assert sorted(one.name for one in cards.iterdir()) == ["GX-1.json", "GX-2.json"]
        assert len(rows(rooms.database, schema.credential)) == 2
        # What is wrong leaves no card behind.
        assert importing.take(rooms, file, Register.DEVICES, dry_run=False, cards=tmp_path / "no")["wrong"]
        assert list((tmp_path / "no").iterdir()) == []
