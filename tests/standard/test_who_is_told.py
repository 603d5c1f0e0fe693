# ruff: noqa: N802 (the names begin with the row of the standard)
"""R7 to R9, K8: who hears what about a fault, each of them once, whatever happens to the service meanwhile."""

import random

import pytest

from monitor.store import schema
from tests.standard.world import World

TECHNICIAN, OPS, MANAGER = "tian@example.com", "olga@example.com", "mei@example.com"
CUSTOMER = "site@metro.example"


def to(kind: str, *addresses: str) -> list[tuple[str, str]]:
    return sorted((kind, address) for address in addresses)


def test_R7_an_urgent_fault_alerts_the_technicians_and_tells_the_customer(world: World) -> None:
    world.machine().goes_hot()
    world.forward(seconds=5)
    assert world.told() == [("dispatch_alert", TECHNICIAN), ("fault_noticed", CUSTOMER)]


def test_R7_a_fault_in_the_yard_alerts_the_technicians_and_no_customer(world: World) -> None:
    world.machine(on_hire=False).goes_hot()
    world.forward(seconds=5)
    assert world.told() == [("dispatch_alert", TECHNICIAN)]


def test_R7_the_whole_course_of_a_ticket_that_nobody_takes_in_time(world: World) -> None:
    world.machine().fails_to_start()
    ticket_id = world.ticket("startup_failure").id
    world.forward(minutes=70, every_s=60)
    world.act(ticket_id, "accept", technician_id=1)
    world.act(ticket_id, "start-repair")
    world.machines["m1"].says()
    world.act(ticket_id, "resolve")
    world.forward(minutes=300, every_s=300)
    assert world.told() == sorted([
        *to("dispatch_alert", TECHNICIAN), *to("fault_noticed", CUSTOMER), *to("breach_warning", TECHNICIAN, OPS),
        *to("breach", OPS, MANAGER), *to("fault_resolved", CUSTOMER),
    ])  # fmt: skip


def test_R9_once_a_technician_has_taken_it_the_warning_pages_no_other(world: World) -> None:
    other = world.person("Wang", "technician")
    world.machine().fails_to_start()
    world.act(world.ticket("startup_failure").id, "accept", technician_id=other)
    world.forward(minutes=226, every_s=120)
    assert world.told("breach_warning") == to("breach_warning", "wang@example.com", OPS)


def test_R7_a_technician_who_is_sent_is_told(world: World) -> None:
    other = world.person("Wang", "technician")
    world.machine().goes_hot()
    world.act(world.ticket("limit").id, "dispatch", technician_id=other)
    world.forward(seconds=5)
    assert world.told("dispatch_alert") == to("dispatch_alert", TECHNICIAN, "wang@example.com", "wang@example.com")


def test_K8_a_fault_that_flickers_tells_its_customer_once_that_all_is_well(world: World) -> None:
    machine = world.machine()
    for _ in range(4):
        machine.goes_hot()
        machine.recovers()
        world.forward(seconds=30)
    assert world.told("fault_resolved") == []
    world.forward(minutes=3)
    assert world.told() == [
        ("dispatch_alert", TECHNICIAN), ("fault_noticed", CUSTOMER), ("fault_resolved", CUSTOMER),
    ]  # fmt: skip


def test_K8_a_fault_that_returns_after_the_all_clear_is_told_again(world: World) -> None:
    machine = world.machine()
    for _ in range(2):
        machine.goes_hot()
        machine.recovers()
        world.forward(minutes=3)
    assert world.told("fault_noticed") == to("fault_noticed", CUSTOMER, CUSTOMER)
    assert world.told("fault_resolved") == to("fault_resolved", CUSTOMER, CUSTOMER)
    assert world.told("dispatch_alert") == to("dispatch_alert", TECHNICIAN)


@pytest.mark.parametrize("seed", range(2))
def test_R7_R9_restarts_at_any_point_send_nothing_twice_and_forget_nothing(world: World, seed: int) -> None:
    rng = random.Random(seed)

    def on(minutes: int) -> None:
        """Time goes on, in pieces with a restart between them."""
        left_s = minutes * 60
        while left_s > 0:
            piece_s = min(left_s, rng.choice([1, 20, 300, 900]))
            world.forward(seconds=piece_s, every_s=60)
            left_s -= piece_s
            if rng.random() < 0.7:
                world.restart()

    machine = world.machine()
    world.restart()
    machine.says({}, state="off")
    machine.event("start_requested")
    world.restart()
    world.forward(seconds=35)
    ticket_id = world.ticket("startup_failure").id
    on(70)
    world.act(ticket_id, "accept", technician_id=1)
    on(10)
    world.act(ticket_id, "start-repair")
    machine.says()
    world.restart()
    on(1)
    world.act(ticket_id, "resolve")
    on(200)
    assert world.told() == sorted([
        *to("dispatch_alert", TECHNICIAN), *to("fault_noticed", CUSTOMER), *to("breach_warning", TECHNICIAN, OPS),
        *to("breach", OPS, MANAGER), *to("fault_resolved", CUSTOMER),
    ])  # fmt: skip
    assert {notice.status for notice in world.rows(schema.notice)} == {"sent"}


def test_R7_a_notice_waits_for_a_channel_that_is_away_and_goes_out_once(world: World) -> None:
    file = world.home / "notices.log"
    file.mkdir()
    world.machine().goes_hot()
    world.forward(minutes=10, every_s=60)
    assert {notice.status for notice in world.rows(schema.notice)} == {"queued"}
    file.rmdir()
    world.restart(away_s=60)
    world.forward(minutes=20, every_s=60)
    assert world.told() == [("dispatch_alert", TECHNICIAN), ("fault_noticed", CUSTOMER)]
