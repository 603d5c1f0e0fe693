"""The machine's file: complete by construction, read by index, told by API, page and paper to those who may."""

import io
from collections.abc import Iterator

import pypdf
import pytest
import sqlalchemy as sa

from api import file as api_file
from api import labels
from api.paging import cursor_of
from api.shapes import rfc3339
from monitor.fleet.file import Entry, Kind, matches
from monitor.store import file, schema
from monitor.store.file import SOURCES, Asked
from tests.api_world import DAY, HOUR, World, furnish, world


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("file"), at=1_795_000_000_000) as company:
        furnish(company, readings=False)
        company.insert(schema.stay, device_id="gen-a", site_id=1, from_at=company.began - 9 * DAY,
                       recorded_at=company.began, actor="cli")  # fmt: skip
        company.insert(schema.meter_reading, device_id="gen-a", at=company.began - 40 * DAY, hours=100.0, total_h=100.0,
                       source="telemetry", actor="desk", recorded_at=1)  # fmt: skip
        for ago, hours in ((33, 112.5), (1, 130.0)):
            company.insert(
                schema.meter_reading, device_id="gen-a", at=company.began - ago * DAY, hours=hours, total_h=hours,
                source="manual", actor="person:1", recorded_at=1,
            )  # fmt: skip
        company.insert(
            schema.inspection, device_id="gen-a", kind="hand_over", checklist_version="1", items=[], passed=True,
            inspector_id=1, signature="Tang", signed_at=company.began - DAY, at=company.began - DAY,
            recorded_at=company.began,
        )  # fmt: skip
        company.insert(
            schema.work_order, kind="maintenance", device_id="gen-a", plan="service", title_en="Big service",
            title_zh="大保养", reason="by_hand", due_at=company.began, opened_at=company.began - 2 * DAY,
            opened_by="person:3", status="done", done_at=company.began - DAY, done_by="person:1", checklist=[],
            parts=["filter <b>"], meter_hours=130.0, recorded_at=company.began,
        )  # fmt: skip
        for kind, title in (("maintenance", "Belt"), ("spot_check", "Spot check")):
            company.insert(
                schema.work_order, kind=kind, device_id="gen-a", plan="", title_en=title, title_zh=title,
                reason="by_hand", due_at=company.began, opened_at=company.began - 4 * DAY, opened_by="person:3",
                status="cancelled", done_by="person:3", note="given back before", checklist=[],
                recorded_at=company.began - 3 * DAY,
            )  # fmt: skip
        yield company


# --- complete ------------------------------------------------------------------------------------------------------


def test_every_table_that_names_a_machine_is_told_or_said_why_not() -> None:
    """Complete by construction: a new table with a device_id is a source, or somebody says why it is none."""
    naming = {table.name for table in schema.metadata.tables.values() if "device_id" in table.c}
    told = {source.table for source in SOURCES}
    assert naming - told - file.TECHNICAL.keys() == set(), "tables that the machine's file forgets"
    assert file.TECHNICAL.keys() - naming == set(), "tables that are not there any more"
    assert told & file.TECHNICAL.keys() == set()
    assert all(file.TECHNICAL.values())


def test_every_kind_is_told_and_has_its_words() -> None:
    assert {source.kind for source in SOURCES} == set(Kind) == set(api_file.DETAILS)
    assert {str(kind) for kind in Kind} == set(labels.FILE_KINDS)
    assert {f"{one.kind}.{one.what}" for one in SOURCES if one.what} <= set(labels.FILED)


@pytest.mark.parametrize("number", range(len(SOURCES)))
def test_each_source_is_read_by_an_index(company: World, number: int) -> None:
    """A machine among a hundred thousand: no table is read through. What is sorted is one machine's."""
    statement = file._part(SOURCES[number].select("gen-a"), number, Asked(0, 2**50, before=(5, 3, "x")), 10)
    with company.database.connect() as connection:
        compiled = statement.compile(connection.engine, compile_kwargs={"literal_binds": True})
        plan = [row[-1] for row in connection.execute(sa.text(f"EXPLAIN QUERY PLAN {compiled}"))]
    assert [line for line in plan if line.startswith("SCAN")] == [], plan


# --- told ----------------------------------------------------------------------------------------------------------


def test_the_api_tells_the_file(company: World) -> None:
    with company.client("ops") as client:
        answer = client.get("/api/v1/devices/gen-a/file").json()
        assert {f"{one['kind']}.{one['what']}" for one in answer["items"]} >= {
            "machine.added", "move.stands", "rental.began", "ticket.opened", "fault.opened", "inspection.hand_over",
            "maintenance.ordered", "maintenance.done", "meter.read",
        }  # fmt: skip
        moments = [one["at"] for one in answer["items"]]
        assert moments == sorted(moments, reverse=True)
        assert (answer["readings"]["received"], answer["readings"]["missing"]) == (95, 5)
        assert answer["readings"]["completeness"] == 0.95
        assert [one["hours"] for one in answer["months"]] == [17.5, 12.5]
        (done,) = [one for one in answer["items"] if one["what"] == "done"]
        assert (done["source"], done["facts"]["parts"], done["words"].split(" · ")[:2]) == (
            "work_order:1", ["filter <b>"], ["Maintenance done", "Big service"],
        )  # fmt: skip
        assert done["words"].endswith(" · Tang")
        (opened,) = [one for one in answer["items"] if one["kind"] == "fault"]
        assert opened["facts"]["occurred_at"].endswith("Z")
        assert "Coolant temperature" in opened["words"]


def test_what_was_called_off_and_came_back_is_told(company: World) -> None:
    company.machine("gen-back")
    company.insert(
        schema.rental, device_id="gen-back", customer_id=1, starts_at=company.began - 9 * DAY,
        ends_at=company.began - 5 * DAY, returned_at=company.began - 4 * DAY,
    )  # fmt: skip
    with company.client("ops") as client:
        kinds = "kind=maintenance&kind=spot_check"
        items = client.get(f"/api/v1/devices/gen-a/file?{kinds}").json()["items"]
        called_off = [one for one in items if one["what"] == "cancelled"]
        hire = client.get("/api/v1/devices/gen-back/file?kind=rental").json()["items"]
    assert {one["words"].split(" · ")[0] for one in called_off} == {"Maintenance cancelled", "Spot check cancelled"}
    assert {one["text"] for one in called_off} == {"given back before"}
    assert [(one["what"], one["at"]) for one in hire] == [
        (what, rfc3339(company.began - days * DAY)) for what, days in (("returned", 4), ("ended", 5), ("began", 9))
    ]
    assert hire[0]["words"].startswith("Came back from the customer · Customer A")


def test_pages_searches_and_kinds(company: World) -> None:
    with company.client("service") as client:
        whole = client.get("/api/v1/devices/gen-a/file", params={"limit": 500}).json()["items"]
        listed, cursor = [], None
        for _ in range(100):
            page = client.get(
                "/api/v1/devices/gen-a/file", params={"limit": 4, **({"cursor": cursor} if cursor else {})}
            )
            listed += page.json()["items"]
            cursor = page.json()["next"]
            if cursor is None:
                break
        assert listed == whole
        found = client.get("/api/v1/devices/gen-a/file", params={"q": "coolant temperature"}).json()["items"]
        assert {one["kind"] for one in found} == {"fault", "ticket"}
        kinds = client.get("/api/v1/devices/gen-a/file?kind=meter&kind=move").json()["items"]
        assert {one["kind"] for one in kinds} == {"meter", "move"}
        late = client.get("/api/v1/devices/gen-a/file", params={"from": company.began - 2 * HOUR}).json()["items"]
        assert {one["kind"] for one in late} == {"rental", "fault", "ticket"}
        stay = [one.table for one in SOURCES].index("stay")
        cursors = [f"?cursor={cursor_of(text)}" for text in ("1", "1:999:1", f"1:{stay}:x", f"{2**64}:{stay}:1")]
        for bad in (*cursors, "?cursor=abc", "?kind=magic", "?from=3&to=2", "?x=1"):
            assert client.get(f"/api/v1/devices/gen-a/file{bad}").status_code == 422, bad
        assert client.get("/api/v1/devices/no-such/file").status_code == 404


def test_the_file_is_kept_as_json_and_on_paper(company: World) -> None:
    with company.client("manager") as client:
        kept = client.get("/api/v1/devices/gen-a/file.json")
        assert kept.headers["content-disposition"] == 'attachment; filename="gen-a-file.json"'
        assert kept.json()["items"] == client.get("/api/v1/devices/gen-a/file?limit=500").json()["items"]
        paper = client.get("/api/v1/devices/gen-a/file.pdf?lang=zh")
        assert (paper.status_code, paper.headers["content-type"]) == (200, "application/pdf")
        text = "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(paper.content)).pages)
        assert "设备档案 gen-a" in text
        assert "大保养" in text
        assert "filter <b>" in text


def test_what_does_not_fit_on_paper_is_said(company: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_file, "MOST_PRINTED", 3)
    with company.client("ops") as client:
        whole = len(client.get("/api/v1/devices/gen-a/file?limit=500").json()["items"])
        paper = client.get("/api/v1/devices/gen-a/file.pdf?lang=en").content
    text = " ".join("".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(paper)).pages).split())
    assert f"{whole - 3} earlier entries are left out here" in text


def test_the_page_shows_it_and_the_machine_leads_there(company: World) -> None:
    with company.client("technician") as client:
        page = client.get("/machines/gen-a/file?lang=en").text
        assert 'href="/machines/gen-a/file"' in client.get("/machines/gen-a").text
        found = client.get("/machines/gen-a/file", params={"q": "filter", "kind": "maintenance"}).text
    assert '<a class="tap" href="/inspections/1">Inspected before hand-over</a>' in page
    assert "filter &lt;b&gt;" in page
    assert found.partition("<main")[2].partition("</main>")[0].count("<li>") == 1


def test_customers_have_no_file(company: World) -> None:
    with company.client("customer") as client:
        for address in ("/api/v1/devices/gen-a/file", "/api/v1/devices/gen-a/file.json", "/machines/gen-a/file"):
            assert client.get(address).status_code == 403
        assert "/file" not in client.get("/machines/gen-a").text


def test_a_retired_machine_has_its_file_still(company: World) -> None:
    company.machine("gen-gone", retired_at=company.began - DAY)
    with company.client("ops") as client:
        items = client.get("/api/v1/devices/gen-gone/file").json()["items"]
    assert [one["what"] for one in items] == ["retired", "first_heard", "added"]


def test_a_machine_is_moved_over_http(company: World) -> None:
    company.machine("gen-moved", site_id=1)
    with company.client("service") as client:

        def move(**body: object) -> tuple[int, object]:
            answer = client.post("/api/v1/devices/gen-moved/move", json=body)
            return answer.status_code, answer.json().get("site_name")

        assert move(site_id=2) == (200, "Quarry Sandberg")
        assert move(site_id=2) == (200, "Quarry Sandberg")
        assert move(site_id=999)[0] == move(site_id=1, at="2001-01-01T00:00:00Z")[0] == move()[0] == 422
        assert client.post("/api/v1/devices/no-such/move", json={"site_id": 1}).status_code == 404
        moves = client.get("/api/v1/devices/gen-moved/file?kind=move").json()["items"]
    assert [one["facts"]["site_name"] for one in moves] == ["Quarry Sandberg"]


# --- reliability, over HTTP ----------------------------------------------------------------------------------------


def test_the_api_tells_reliability(company: World) -> None:
    with company.client("manager") as client:
        year = client.get("/api/v1/fleet/reliability").json()
        assert (year["whole"]["calendar"]["failures"], year["whole"]["calendar"]["mtbf_h"], year["few"]) == (2, None, 5)
        by_customer = client.get("/api/v1/fleet/reliability?by=customer").json()["groups"]
        assert {one["name"]: one["calendar"]["failures"] for one in by_customer} == {
            "Customer A": 1, "Customer B": 1, "none": 0,
        }  # fmt: skip
        hours = sum(one["calendar"]["hours"] for one in by_customer)
        assert hours == pytest.approx(year["whole"]["calendar"]["hours"])
        for bad in ("?from=5&to=4", "?by=colour", "?from=1"):
            assert client.get(f"/api/v1/fleet/reliability{bad}").status_code == 422, bad


def test_the_api_exports_registers(company: World) -> None:
    with company.client("service") as client:
        answer = client.get("/api/v1/exports/sites.csv")
        assert answer.headers["content-disposition"] == 'attachment; filename="sites.csv"'
        assert answer.text.splitlines()[0] == "\ufeffname,remote,timezone,lat_deg,lon_deg,access_notes"
        assert len(answer.text.splitlines()) == 3
        assert client.get("/api/v1/exports/people.csv").status_code == 422


def test_words_are_found_wherever_they_stand() -> None:
    entry = Entry(1, Kind.PART, "fitted", "ticket:7", (1, 0, 7), {"parts": ["Fan belt"]}, text="Squealed")
    for words, found in (
        ("fan", True),
        ("BELT squealed", True),
        ("belt oil", False),
        ("ticket:7", True),
        ("said", True),
    ):
        assert matches(entry, words, lambda _: "as it is said") is found, words
