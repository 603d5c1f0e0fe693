"""E6: machines in use are checked by a monthly sample that nobody chooses; through the real server, in virtual time."""

# ruff: noqa: N802, N999 (the names begin with the row of the standard)
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa

from monitor.engine.spot_checking import SpotChecking
from monitor.fleet.spot_checks import shipped_policy
from monitor.store import schema
from tests.api_world import DAY, HOUR, World, furnish, world
from tests.inspecting import answers, inspect


def at(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+08:00").timestamp() * 1000)


OPENS = at("2026-10-08T09:00")
"""The first working day of October 2026 (after National Day), in Shanghai."""


@pytest.fixture
def company(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, at=OPENS - 8 * DAY) as company:
        furnish(company, readings=False)
        with company.at_once():
            for n in range(30):
                profile = "air_compressor" if n < 6 else "diesel_generator"
                company.machine(f"m{n:02}", profile, added_at=company.began - (800 if n % 3 == 0 else 10) * DAY)
                company.hire(f"m{n:02}", 1, company.began, OPENS + HOUR if n == 0 else None)
            company.machine("idle")
            company.machine("gone", retired_at=company.began)
        yield company


def drawing(company: World) -> SpotChecking:
    return SpotChecking(company.database, "Asia/Shanghai")


def orders(company: World) -> list[sa.Row]:  # type: ignore[type-arg]
    with company.database.connect() as connection:
        return list(connection.execute(sa.select(schema.work_order).order_by(schema.work_order.c.id)))


def test_E6_once_a_month_on_the_first_working_day(company: World) -> None:
    checks = drawing(company)
    # September's first working day is long over: a service that was away draws when it is back.
    assert checks.tick(company.began) == 5
    assert [checks.tick(moment) for moment in range(at("2026-10-01T00:00"), OPENS, 3 * HOUR)] == [0] * 59
    assert checks.tick(OPENS - 1) == 0
    assert checks.tick(OPENS) == 5
    assert [drawing(company).tick(OPENS + n) for n in (0, 1, DAY, 20 * DAY)] == [0] * 4
    assert drawing(company).tick(at("2026-11-02T09:00")) == 5
    assert len(orders(company)) == 15
    assert {order.kind for order in orders(company)} == {"spot_check"}
    assert {order.due_at - order.opened_at for order in orders(company)} == {14 * DAY}


def test_E6_the_draw_is_recorded_so_that_anybody_can_draw_it_again(company: World) -> None:
    drawing(company).tick(OPENS)
    company.at = OPENS + 1
    with company.client("manager") as manager:
        told = manager.get("/api/v1/spot-checks/2026-10").json()
        assert manager.get("/api/v1/spot-checks/2026-09").status_code == 404
        assert manager.get("/api/v1/spot-checks/2026-13").status_code == 404
    drawn = [one["device_id"] for one in told["machines"]]
    # On hire: m00 to m29, gen-a, gen-b; not what stands in the yard, came back, or is retired.
    in_use = sorted([f"m{n:02}" for n in range(30)] + ["gen-a", "gen-b"])
    assert (told["frame"], told["drawn_again"], len(set(drawn))) == (32, True, 5)
    assert told["fingerprint"] == sha256("\n".join(in_use).encode()).hexdigest()
    assert told["seed"] == f"2026-10 {shipped_policy().constant}"
    assert [(one["profile"], one["from_days"], one["frame"], one["drawn"]) for one in told["strata"]] == [
        ("air_compressor", 0, 4, 1), ("air_compressor", 365, 2, 1), ("diesel_generator", 0, 18, 2),
        ("diesel_generator", 365, 8, 1),
    ]  # fmt: skip
    young = [f"m{n:02}" for n in range(6, 30) if n % 3] + ["gen-a", "gen-b"]
    by_hand = sorted(young, key=lambda one: sha256(f"{told['seed']}\n{one}".encode()).hexdigest())[:2]
    assert set(drawn) & set(young) == set(by_hand)
    assert [order.device_id for order in orders(company)] == sorted(drawn)
    with company.database.begin() as connection:
        connection.execute(sa.delete(schema.rental).where(schema.rental.c.device_id == drawn[0]))
    with company.client("manager") as manager:
        assert manager.get("/api/v1/spot-checks/2026-10").json()["drawn_again"] is False


def test_E6_an_inspection_is_the_result(company: World) -> None:
    drawing(company).tick(OPENS)
    first, second = [(order.device_id, order.id) for order in orders(company)][:2]
    profile = {row.device_id: row.profile for row in _machines(company)}
    company.at = OPENS + HOUR // 2
    with company.client("technician") as tang, company.client("ops") as ops:
        # What was looked at before the draw is no result of it, and an inspection for another purpose is none either.
        early = inspect(tang, first[0], "spot_check", profile=profile[first[0]], at=OPENS - 1)
        other = inspect(tang, first[0], "hand_over", profile=profile[first[0]])
        assert (early.status_code, other.status_code) == (201, 201)
        assert {order.status for order in orders(company)} == {"open"}
        good = inspect(tang, first[0], "spot_check", profile=profile[first[0]]).json()
        worn = answers(profile[second[0]], "spot_check", belt_and_hoses={"says": "fail", "reason": "cracked"})
        bad = inspect(tang, second[0], "spot_check", profile=profile[second[0]], items=worn).json()
        told = ops.get("/api/v1/spot-checks/2026-10").json()
        found = {one["device_id"]: one for one in told["machines"]}
        assert (told["done"], told["passed"]) == (2, 1)
        assert (found[first[0]]["status"], found[first[0]]["inspection_id"], found[first[0]]["passed"]) == (
            "done", good["id"], True)  # fmt: skip
        assert (found[second[0]]["passed"], found[second[0]]["fails"]) == (False, ["belt_and_hoses"])
        assert [one["status"] for one in told["machines"]].count("open") == 3
        # Voided, it is no result: the check is open again.
        ops.post(f"/api/v1/inspections/{bad['id']}/void", json={"reason": "the neighbour's machine"})
        told = ops.get("/api/v1/spot-checks/2026-10").json()
        assert (told["done"], [one["status"] for one in told["machines"]].count("open")) == (1, 4)
        ops.post(f"/api/v1/inspections/{early.json()['id']}/void", json={"reason": "x"})
        assert ops.get("/api/v1/spot-checks/2026-10").json()["done"] == 1


def _machines(company: World) -> list[sa.Row]:  # type: ignore[type-arg]
    with company.database.connect() as connection:
        return list(connection.execute(sa.select(schema.device.c.device_id, schema.device.c.profile)))
