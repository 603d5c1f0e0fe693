"""Registers, the machine's file and reliability say the same on PostgreSQL."""

from zoneinfo import ZoneInfo

import sqlalchemy as sa

from monitor.fleet.reliability import reliability, shipped_policy
from monitor.store import file, schema, sheets
from monitor.store import reliability as store
from monitor.store.database import Database, migrate, open_database
from monitor.store.file import Asked, Found
from monitor.store.profiles import load_profiles
from monitor.store.reliability import By, Period
from monitor.store.sheets import Intake, Register
from tests.e2e.postgres import postgresql

NOW, DAY = 1_795_000_000_000, 86_400_000
ZONE, PROFILES = ZoneInfo("Asia/Shanghai"), load_profiles()
FILES = {
    Register.SITES: 'name,access_notes\nYard,"=gate\n7"\n',
    Register.CUSTOMERS: "name\n+Metro\n",
    Register.DEVICES: "device_id,profile,site,added_at\nG1,diesel_generator,Yard,2026-01-01\nG2,water_pump,,\n",
    Register.RENTALS: "device_id,customer,contract,starts_at\nG1,+Metro,K1,2026-02-01\n",
    Register.MAINTENANCE: "device_id,done_at,title,meter_h,parts\nG1,2026-03-01,Oil,5,belt\n",
}


def live(database: Database) -> None:
    """A failure that was repaired, with a number that no database has room for, meter readings and a site's window."""
    with database.begin() as connection:
        ticket_id = connection.execute(
            sa.insert(schema.ticket).values(
                device_id="G1", kind="fault_code", subject="x", severity="urgent", status="resolved",
                opened_at=NOW - 9 * DAY, occurred_at=1, resolved_at=NOW - 8 * DAY, resolution_cause="cooling",
                parts=["pump"], evidence={"spn": 10**30, "text": "hm"}, standard_version="t", origin="phone",
            ).returning(schema.ticket.c.id)
        ).scalar_one()  # fmt: skip
        connection.execute(sa.insert(schema.step).values(
            ticket_id=ticket_id, event="resolve", from_status="open", to_status="resolved", actor="x",
            happened_at=NOW - 8 * DAY, recorded_at=1))  # fmt: skip
        for ago, hours in ((10, 1.0), (1, 9.0)):
            connection.execute(sa.insert(schema.meter_reading).values(
                device_id="G1", at=NOW - ago * DAY, hours=hours, total_h=hours, source="manual", actor="x",
                recorded_at=1))  # fmt: skip
        connection.execute(sa.insert(schema.maintenance_window).values(
            site_id=1, what="transport", starts_at=NOW, ends_at=NOW + 5, declared_by="x", declared_at=1))  # fmt: skip


def pages(database: Database, size: int) -> list[Found]:
    found, asked = [], Asked(0, 2**53)
    with database.connect() as connection:
        for _ in range(100):
            found.append(file.read(connection, "G1", asked, size))
            following = found[-1].following
            if following is None:
                return found
            asked = Asked(0, 2**53, before=following)
    raise AssertionError("pages without an end")


def told(url: str) -> list[object]:
    database = open_database(url)
    migrate(database)
    intake = Intake(database, ZONE, PROFILES)
    for kind, text in FILES.items():
        assert intake.take(kind, text.encode(), NOW).wrong == []
    again = intake.take(Register.RENTALS, FILES[Register.RENTALS].encode(), NOW)
    live(database)
    (whole,), small = pages(database, 1000), pages(database, 3)
    assert [entry for one in small for entry in one.entries] == whole.entries
    with database.connect() as connection:
        figures = [
            reliability(
                store.load(connection, Period(NOW - 300 * DAY, NOW, NOW), by, shipped_policy(), PROFILES),
                shipped_policy(), NOW,
            )
            for by in By
        ]  # fmt: skip
        out = ["".join(sheets.export(connection, kind, ZONE, PROFILES)) for kind in Register]
        months = file.months(connection, "G1", ZONE, 0)
    database.close()
    entries = [(one.at, one.kind, one.what, one.text, one.facts) for one in whole.entries]
    return [[one.said for one in again.wrong], entries, figures, out, months]


def test_records_are_the_same_on_postgresql(tmp_path: object) -> None:
    with postgresql() as url:
        there = told(url)
    here = told(f"sqlite:///{tmp_path}/fettle.db")
    assert there == here
    assert there[0] == ["line 2, device_id: 'G1': it is on hire in this period already: rental 1"]
