"""E3: a machine goes to its customer only when it is safe, served, sound and alive; through the real server, in virtual
time."""

# ruff: noqa: N802, N999 (the names begin with the row of the standard)
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from monitor.store import schema
from monitor.store.registry import Registry
from tests.api_world import DAY, HOUR, MINUTE, World, furnish, world
from tests.inspecting import answers, answers_self_test, inspect

AT = 1_795_000_000_000


@pytest.fixture
def company(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, at=AT) as company:
        furnish(company, readings=False)
        yield company


@pytest.fixture
def ops(company: World) -> Iterator[httpx.Client]:
    with company.client("ops") as client:
        yield client


def hired(ops: httpx.Client, device_id: str = "gen-yard", **period: Any) -> int:
    added = ops.post("/api/v1/rentals", json={"device_id": device_id, "customer_id": 1, **period})
    assert added.status_code == 201, added.text
    assert added.json()["handed_over_at"] is None
    return int(added.json()["id"])


def codes(answer: httpx.Response) -> list[str]:
    return [one["code"] for one in answer.json()["obstacles"]]


def gate(ops: httpx.Client, rental_id: int) -> list[str]:
    return codes(ops.get(f"/api/v1/rentals/{rental_id}/hand-over"))


def make_ready(company: World, ops: httpx.Client, device_id: str = "gen-yard") -> None:
    """Inspect the machine, and let it answer a self-test."""
    with company.client("technician") as tang:
        assert inspect(tang, device_id).json()["passed"] is True
    assert ops.post(f"/api/v1/devices/{device_id}/diagnose").status_code == 202
    answers_self_test(company, device_id)


def test_E3_all_that_stands_in_the_way_is_named_at_once(company: World, ops: httpx.Client) -> None:
    rental_id = hired(ops)
    company.at = AT + HOUR
    refused = ops.post(f"/api/v1/rentals/{rental_id}/hand-over")
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    problem = refused.json()
    assert codes(refused) == ["no_inspection", "no_self_test", "not_heard"]
    assert problem["title"] == "It cannot be handed over now"
    assert "There is no inspection for hand-over since" in problem["obstacles"][0]["words"]
    assert problem["obstacles"][0]["facts"]["since_at"].endswith("Z")
    assert all(one["words"] in problem["detail"] for one in problem["obstacles"])
    in_chinese = ops.post(f"/api/v1/rentals/{rental_id}/hand-over", headers={"Accept-Language": "zh-CN"}).json()
    assert "没有交付前检查" in in_chinese["obstacles"][0]["words"]
    # To look changes nothing.
    seen = ops.get(f"/api/v1/rentals/{rental_id}/hand-over").json()
    assert (seen["open"], seen["handed_over_at"], len(seen["obstacles"])) == (False, None, 3)
    assert ops.get(f"/api/v1/rentals/{rental_id}").json()["handed_over_at"] is None


def test_E3_a_machine_that_is_ready_goes_and_the_record_says_why(company: World, ops: httpx.Client) -> None:
    rental_id = hired(ops)
    make_ready(company, ops)
    company.at = AT + 4 * MINUTE
    assert gate(ops, rental_id) == []
    done = ops.post(f"/api/v1/rentals/{rental_id}/hand-over")
    assert done.status_code == 200, done.text
    told = done.json()
    assert (told["inspection_id"], told["obstacles"], told["handed_over_by"]) == (1, [], "token:1")
    rental = ops.get(f"/api/v1/rentals/{rental_id}").json()
    assert rental["handed_over_at"] == told["handed_over_at"] is not None
    with company.database.connect() as connection:
        (row,) = connection.execute(sa.select(schema.hand_over)).all()
        (audit,) = connection.execute(sa.select(schema.audit).where(schema.audit.c.what == "handed_over")).all()
    assert row.gate["standing"]["for_hand_over"] == {"id": 1, "at": AT, "passed": True}
    assert row.gate["standing"]["self_test"]["command_id"] == row.command_id == told["command_id"]
    assert (audit.subject, audit.after) == (f"rental:{rental_id}", {"device_id": "gen-yard", "inspection_id": 1})
    # Once: a second time is refused, and says when it was.
    assert codes(ops.post(f"/api/v1/rentals/{rental_id}/hand-over")) == ["handed_over"]


def test_E3_each_obstacle_stands_alone(company: World, ops: httpx.Client) -> None:
    rental_id = hired(ops)
    make_ready(company, ops)
    d, f = schema.device.c, schema.fault.c

    def write(statement: sa.Executable) -> None:
        with company.database.begin() as connection:
            connection.execute(statement)

    ours = sa.update(schema.device).where(d.device_id == "gen-yard")
    assert gate(ops, rental_id) == []
    for severity, found in (("note", []), ("routine", []), ("urgent", ["critical_fault"]),
                            ("emergency", ["critical_fault"])):  # fmt: skip
        write(sa.update(schema.fault).where(f.device_id == "gen-yard").values(severity=severity))
        assert gate(ops, rental_id) == found
    write(sa.update(schema.fault).where(f.device_id == "gen-yard").values(cleared_at=AT))
    window = {"device_id": "gen-yard", "what": "transport", "ends_at": "2099-01-01T00:00:00Z"}
    assert ops.post("/api/v1/maintenance-windows", json=window).status_code == 422
    company.insert(schema.maintenance_window, device_id="gen-yard", what="transport", starts_at=AT - 1,
                   ends_at=AT + HOUR, declared_by="t", declared_at=AT)  # fmt: skip
    (obstacle,) = ops.get(f"/api/v1/rentals/{rental_id}/hand-over").json()["obstacles"]
    assert (obstacle["code"], "(transport)" in obstacle["words"]) == ("in_window", True)
    write(sa.update(schema.maintenance_window).values(cancelled_at=AT))
    write(ours.values(retired_at=AT, revoked_at=AT))
    assert gate(ops, rental_id) == ["retired", "cut_off"]
    write(ours.values(retired_at=None, revoked_at=None, generation=1))
    # Another box: what the old one answered proves nothing of it.
    assert gate(ops, rental_id) == ["no_self_test"]
    write(ours.values(generation=0))
    company.at = AT + 29 * MINUTE
    write(ours.values(live_at=company.at))
    assert gate(ops, rental_id) == []
    company.at = AT + 31 * MINUTE
    assert gate(ops, rental_id) == ["no_self_test"]
    company.at = AT + 36 * MINUTE
    assert gate(ops, rental_id) == ["no_self_test", "not_heard"]
    assert ops.post("/api/v1/devices/gen-yard/diagnose").status_code == 202
    answers_self_test(company, "gen-yard", ok=False)
    assert gate(ops, rental_id) == ["self_test_failed"]
    company.at = AT + 7 * DAY + MINUTE
    assert gate(ops, rental_id) == ["inspection_old", "no_self_test", "not_heard"]


def test_E3_maintenance_that_is_overdue_keeps_it_back(company: World, ops: httpx.Client) -> None:
    with company.database.begin() as connection:
        long_ago = sa.update(schema.device).where(schema.device.c.device_id == "gen-yard")
        connection.execute(long_ago.values(added_at=AT - 300 * DAY))
    rental_id = hired(ops)
    make_ready(company, ops)
    # Nobody has reckoned it yet: the gate does so itself.
    (obstacle,) = ops.get(f"/api/v1/rentals/{rental_id}/hand-over").json()["obstacles"]
    assert (obstacle["code"], obstacle["facts"]["plan"]) == ("maintenance_overdue", "service")
    assert "Maintenance is overdue since" in obstacle["words"]
    assert ops.post(f"/api/v1/rentals/{rental_id}/hand-over").status_code == 409


def test_E3_what_is_kept_of_its_maintenance_may_be_hours_old(company: World, ops: httpx.Client) -> None:
    rental_id = hired(ops)
    make_ready(company, ops)
    company.api.desk.upkeep.tick(AT)
    company.insert(
        schema.work_order, kind="maintenance", device_id="gen-yard", plan="service", title_en="S", title_zh="S",
        reason="calendar", due_at=AT, opened_at=AT, opened_by="t", status="done", checklist=[], done_at=AT - 90 * DAY,
        done_by="t", from_at=AT - 100 * DAY, recorded_at=AT,
    )  # fmt: skip
    with company.database.connect() as connection:
        kept = connection.execute(sa.select(schema.maintenance_due.c.overdue_at)).scalars()
        assert min(kept) > AT
    assert gate(ops, rental_id) == ["maintenance_overdue"]
    assert codes(ops.post(f"/api/v1/rentals/{rental_id}/hand-over")) == ["maintenance_overdue"]


def test_E3_a_machine_that_is_out_goes_to_nobody_else(company: World, ops: httpx.Client) -> None:
    first = hired(ops)
    make_ready(company, ops)
    assert ops.post(f"/api/v1/rentals/{first}/hand-over").status_code == 200
    company.at = AT + MINUTE
    assert ops.post(f"/api/v1/rentals/{first}/end").status_code == 200
    # Its rental is over, and it is with the customer still.
    second = hired(ops)
    assert gate(ops, second) == ["on_hire", "no_inspection"]
    # Who inspects it at its return looks at what the first rental gives back.
    with company.client("technician") as tang:
        assert inspect(tang, "gen-yard", "return").json()["rental_id"] == first
    make_ready(company, ops)
    (obstacle,) = ops.get(f"/api/v1/rentals/{second}/hand-over").json()["obstacles"]
    assert (obstacle["code"], obstacle["facts"]["rental_id"]) == ("on_hire", first)
    assert codes(ops.post(f"/api/v1/rentals/{second}/hand-over")) == ["on_hire"]
    assert ops.post(f"/api/v1/rentals/{first}/return").status_code == 200
    company.at = AT + 2 * MINUTE
    make_ready(company, ops)
    assert ops.post(f"/api/v1/rentals/{second}/hand-over").status_code == 200


@pytest.mark.parametrize("ended", [True, False])
def test_E3_a_machine_comes_back_before_its_rental_was_to_begin(
    company: World, ops: httpx.Client, ended: bool
) -> None:  # fmt: skip
    early = hired(ops, starts_at=AT + DAY)
    make_ready(company, ops)
    assert ops.post(f"/api/v1/rentals/{early}/hand-over").status_code == 200
    company.at = AT + HOUR
    if ended:
        # The customer wants it no more: the rental never begins, and the machine is out all the same.
        assert ops.post(f"/api/v1/rentals/{early}/end").status_code == 200
    other = hired(ops, ends_at=AT + 5 * HOUR)
    assert "on_hire" in gate(ops, other)
    for at, status in ((AT - 1, 422), (AT + HOUR + 1, 422), (AT + HOUR, 200)):
        back = ops.post(f"/api/v1/rentals/{early}/return", json={"at": at})
        assert back.status_code == status
    rental = back.json()["rental"]
    assert rental["returned_at"] < rental["starts_at"] == rental["ends_at"]
    since = [one["facts"].get("since_at") for one in ops.get(f"/api/v1/rentals/{other}/hand-over").json()["obstacles"]]
    assert rental["returned_at"] in since
    with company.client("technician") as tang:
        assert inspect(tang, "gen-yard", "return").json()["rental_id"] == early
    # It was on hire by that rental at no moment.
    company.at = AT + 3 * DAY
    places = {one["rental_id"] for one in ops.get("/api/v1/devices/gen-yard/intervals").json()["items"]}
    assert places == {None, other}


def test_E3_a_return_is_inspected_after_the_machine_went_out(company: World, ops: httpx.Client) -> None:
    rental_id = hired(ops, starts_at=AT - HOUR)
    with company.client("technician") as tang:
        never = inspect(tang, "gen-yard", "return", rental_id=rental_id, at=AT - 2 * HOUR)
        assert never.status_code == 422
        assert "no hand-over for it is on record" in never.json()["detail"]
        make_ready(company, ops)
        assert ops.post(f"/api/v1/rentals/{rental_id}/hand-over").status_code == 200
        company.at = AT + HOUR
        before = inspect(tang, "gen-yard", "return", rental_id=rental_id, at=AT - 1)
        assert before.status_code == 422
        assert f"handed over for rental {rental_id} only after that" in before.json()["detail"]
        assert inspect(tang, "gen-yard", "return", rental_id=rental_id, at=AT).status_code == 201


def test_E3_the_inspection_of_an_earlier_rental_counts_for_nothing(company: World, ops: httpx.Client) -> None:
    first = hired(ops)
    make_ready(company, ops)
    assert ops.post(f"/api/v1/rentals/{first}/hand-over").status_code == 200
    company.at = AT + 10 * MINUTE
    assert ops.post(f"/api/v1/rentals/{first}/return").status_code == 200
    assert ops.post(f"/api/v1/rentals/{first}/return").status_code == 409
    second = hired(ops)
    answers_self_test(company, "gen-yard")
    assert gate(ops, second) == ["no_inspection"]
    make_ready(company, ops)
    assert gate(ops, second) == []
    # A fault that is found afterwards, whatever for, speaks against it.
    with company.client("technician") as tang:
        company.at += MINUTE
        bad = answers("diesel_generator", "return", emergency_stop={"says": "fail"})
        found = inspect(tang, "gen-yard", "return", rental_id=second, items=bad).json()
        assert gate(ops, second) == ["inspection_failed"]
        tang.post(f"/api/v1/inspections/{found['id']}/void", json={"reason": "the other machine"})
        assert gate(ops, second) == []
    assert ops.post(f"/api/v1/rentals/{second}/hand-over").status_code == 200


def test_E3_the_rental_itself_may_stand_in_the_way(company: World, ops: httpx.Client) -> None:
    # gen-a is with customer A by another rental; a planned one of it begins in a week.
    assert ops.post("/api/v1/rentals/1/end", json={"at": AT + 2 * DAY}).status_code == 200
    later = hired(ops, "gen-a", starts_at=AT + 7 * DAY)
    assert {"too_early", "on_hire"} <= set(gate(ops, later))
    over = hired(ops, ends_at=AT + HOUR)
    company.at = AT + HOUR
    assert "rental_over" in gate(ops, over)
    assert ops.get("/api/v1/rentals/999/hand-over").status_code == 404
    assert ops.post("/api/v1/rentals/999/hand-over").status_code == 404


def test_E3_a_rental_that_is_taken_over_goes_through_no_gate(company: World, ops: httpx.Client) -> None:
    office = Registry(company.database)
    rental_id = office.add_rental("gen-yard", "Metro JV", "site@metro.example", lang="en", now=AT)
    assert ops.get(f"/api/v1/rentals/{rental_id}").json()["handed_over_at"] is not None
    assert gate(ops, rental_id) == ["handed_over"]


def test_E3_who_decided_on_an_older_reading_is_told(company: World, ops: httpx.Client) -> None:
    rental_id = hired(ops)
    make_ready(company, ops)
    read = ops.get(f"/api/v1/rentals/{rental_id}/hand-over").headers["etag"]
    assert ops.post(f"/api/v1/rentals/{rental_id}/end", json={"at": AT + 3 * DAY}).status_code == 200
    address = f"/api/v1/rentals/{rental_id}/hand-over"
    assert ops.post(address, headers={"If-Match": read}).status_code == 412
    read = ops.get(address).headers["etag"]
    assert ops.post(address, headers={"If-Match": read}).status_code == 200
    assert ops.post(f"/api/v1/rentals/{rental_id}/return", headers={"If-Match": read}).status_code == 412


def test_E3_a_machine_comes_back_after_it_went(company: World, ops: httpx.Client) -> None:
    rental_id = hired(ops, starts_at=AT - HOUR)
    make_ready(company, ops)
    company.at = AT + 1
    assert ops.post(f"/api/v1/rentals/{rental_id}/hand-over").status_code == 200
    company.at = AT + HOUR
    for at, status in ((AT - 1, 422), (AT, 422), (AT + HOUR + 1, 422), (AT + 1, 200), (AT + HOUR, 409)):
        assert ops.post(f"/api/v1/rentals/{rental_id}/return", json={"at": at}).status_code == status


def test_E3_the_return_of_a_rental_that_has_ended_or_not_begun(company: World, ops: httpx.Client) -> None:
    planned = hired(ops, starts_at=AT + DAY)
    assert ops.post(f"/api/v1/rentals/{planned}/return").status_code == 409
    assert ops.post(f"/api/v1/rentals/{planned}/end").status_code == 200
    rental_id = hired(ops, starts_at=AT - HOUR, ends_at=AT + HOUR)
    company.at = AT + 5 * HOUR
    back = ops.post(f"/api/v1/rentals/{rental_id}/return").json()["rental"]
    # It ended when it was to end; the machine came late.
    assert back["ends_at"] < back["returned_at"]
    again = hired(ops)
    (since,) = [one for one in ops.get(f"/api/v1/rentals/{again}/hand-over").json()["obstacles"]
                if one["code"] == "no_inspection"]  # fmt: skip
    assert since["facts"]["since_at"] == back["returned_at"]
