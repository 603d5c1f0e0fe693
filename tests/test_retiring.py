"""A machine leaves the fleet: what keeps it there, and that nothing of it goes on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from monitor.engine import retiring
from monitor.store import schema
from monitor.store.cases import due_faults
from monitor.store.inspections import SPOT_CHECK
from monitor.store.registry import Registry, devices
from tests.api_world import DAY, HOUR, World, furnish, world
from tests.standard.world import World as Company

AT = 1_795_000_000_000


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("company"), at=AT) as company:
        furnish(company, readings=False)
        yield company


@pytest.fixture(scope="module")
def ops(company: World) -> Iterator[httpx.Client]:
    with company.client("ops") as client:
        yield client


def retire(ops: httpx.Client, device_id: str) -> httpx.Response:
    return ops.post(f"/api/v1/devices/{device_id}/retire", json={"reason": "sold"})


def rows(company: World, table: sa.Table, **where: object) -> list[Any]:
    with company.database.connect() as connection:
        clauses = [table.c[name] == value for name, value in where.items()]
        return list(connection.execute(sa.select(table).where(*clauses)))


def order(company: World, device_id: str, kind: str) -> int:
    return company.insert(
        schema.work_order, kind=kind, device_id=device_id, plan="", title_en="T", title_zh="T", reason="by_hand",
        due_at=AT + DAY, opened_at=AT, opened_by="t", status="open", checklist=[], recorded_at=AT,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("device_id", "hinder", "why"),
    [
        ("runs", lambda w: w.hire("runs", 1, AT - HOUR), "rental {} of machine runs runs: end it first"),
        ("soon", lambda w: w.hire("soon", 1, AT + DAY, AT + 2 * DAY),
         "rental {} of machine soon is agreed for later: end it first"),
        ("out", lambda w: w.insert(schema.rental, device_id="out", customer_id=1, starts_at=AT - DAY, ends_at=AT,
                                   handed_over_at=AT - DAY),
         "machine out is with its customer by rental {}: it has to come back first"),
        ("broken", lambda w: w.ticket("broken", "limit", "oil"),
         "machine broken has tickets that are not resolved: {}; resolve or cancel them first"),
    ],
)  # fmt: skip
def test_what_keeps_a_machine(
    company: World, ops: httpx.Client, device_id: str, hinder: Callable[[World], int], why: str
) -> None:
    company.machine(device_id)
    key = hinder(company)
    refused = retire(ops, device_id)
    assert (refused.status_code, refused.json()["detail"]) == (409, why.format(key))
    assert rows(company, schema.device, device_id=device_id)[0].retired_at is None
    assert rows(company, schema.audit, what="device_retired", subject=f"device:{device_id}") == []


def test_nothing_of_it_goes_on(company: World, ops: httpx.Client) -> None:
    company.machine("old")
    company.ticket("old", "limit", "oil", status="resolved")
    # What came to nothing, and what is over, keeps no machine.
    company.hire("old", 1, AT + DAY, AT + DAY)
    company.insert(schema.rental, device_id="old", customer_id=1, starts_at=AT - DAY, ends_at=AT - HOUR,
                   handed_over_at=AT - DAY, returned_at=AT - HOUR)  # fmt: skip
    company.insert(schema.fault, device_id="old", kind="silent", subject="", severity="note", occurred_at=AT,
                   opened_at=AT, evidence={}, held_until=AT + HOUR)  # fmt: skip
    company.insert(schema.credential, public_key="K", device_id="old", generation=0, username="old", issued_at=AT)
    orders = [order(company, "old", kind) for kind in ("maintenance", SPOT_CHECK)]

    done = retire(ops, "old")
    assert done.status_code == 200, done.text
    assert (done.json()["retired_at"], done.json()["faults"]) == ("2026-11-18T11:06:40.000Z", [])
    again = retire(ops, "old")
    assert (again.status_code, again.json()["detail"]) == (409, "machine old is retired already")

    assert [one.revoked_at for one in rows(company, schema.credential, device_id="old")] == [AT]
    assert {one.id: one.status for one in rows(company, schema.work_order, device_id="old")} == dict.fromkeys(
        orders, "cancelled"
    )
    with company.database.connect() as connection:
        assert "old" not in {one.device_id for one in devices(connection)}
        assert due_faults(connection, AT + DAY, 10) == []
    (audit,) = rows(company, schema.audit, what="device_retired")
    assert (audit.subject, audit.after) == ("device:old", {"reason": "sold"})
    assert "old" not in {one["device_id"] for one in ops.get("/api/v1/devices").json()["items"]}
    spells = ops.get("/api/v1/devices/old/intervals", params={"to": AT + HOUR}).json()["items"]
    (last,) = [one for one in spells if one["to_at"] is None]
    assert (last["place"], last["condition"], last["from_at"]) == ("retired", "unknown", done.json()["retired_at"])
    # Nor does anything of it begin again.
    assert ops.post("/api/v1/rentals", json={"device_id": "old", "customer_id": 1}).status_code == 409
    office = Registry(company.database)
    for command in (office.renew_device, office.cut_off):
        with pytest.raises(ValueError, match="machine old is retired"):
            command("old", AT)
    with pytest.raises(ValueError, match="machine old is retired"):
        office.add_rental("old", "Metro JV", "m@example.com", lang="en", now=AT)


def test_its_silence_is_no_fault(tmp_path: Path) -> None:
    company = Company(tmp_path)
    gone, stays = company.machine("gone", on_hire=False), company.machine("stays", on_hire=False)
    for machine in (gone, stays):
        machine.says()
    company.tick()
    retiring.retire(company.database, "gone", "sold", "test", company.now)
    company.forward(minutes=5)
    assert {one.device_id for one in company.faults("silent", cleared_at=None)} == {"stays"}
    company.close()
