"""The words of tests about inspections: an inspector's answers, and a machine's self-test."""

from typing import Any

import httpx
import sqlalchemy as sa

from monitor.fleet.inspection import Kind, What, shipped_checklists
from monitor.store import schema
from tests.api_world import World

MEASURED = {
    "battery_rest_v": 12.7, "fuel_pct": 88, "earth_ohm": 0.12, "insulation_mohm": 42, "rcd_trip_ms": 28,
    "output_v": 401, "output_hz": 50.4, "discharge_bar": 7.2,
}  # fmt: skip


def answers(profile: str, kind: str, **otherwise: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Every item in order, but for what is said otherwise; None: nothing is said of it."""
    said: list[dict[str, Any]] = []
    for item in shipped_checklists().of(profile, Kind(kind)).items:
        well = {What.CHECK: {"says": "pass"}, What.PHOTO: {"photo": f"{item.code}.jpg"},
                What.VALUE: {"value": MEASURED.get(item.code, 1)}}[item.what]  # fmt: skip
        answer = otherwise.get(item.code, well)
        if answer is not None:
            said.append({"code": item.code, **answer})
    return said


def inspect(
    client: httpx.Client, device_id: str, kind: str = "hand_over", *, profile: str = "diesel_generator",
    signature: str = "Tang", items: list[dict[str, Any]] | None = None, **more: Any,
) -> httpx.Response:  # fmt: skip
    """Hand in an inspection: all in order, unless `items` says otherwise."""
    given = {"kind": kind, "device_id": device_id, "signature": signature, **more}
    return client.post("/api/v1/inspections", json={**given, "items": items or answers(profile, kind)})


def answers_self_test(world: World, device_id: str, *, ok: bool = True) -> None:
    """The machine answers what it was asked, and is heard."""
    c, d = schema.command.c, schema.device.c
    with world.database.begin() as connection:
        connection.execute(
            sa.update(schema.command).where(c.device_id == device_id, c.answered_at.is_(None))
            .values(answered_at=world.now(), ok=ok, result={"checks": {}}, next_send_at=None)
        )  # fmt: skip
        connection.execute(sa.update(schema.device).where(d.device_id == device_id).values(live_at=world.now()))
