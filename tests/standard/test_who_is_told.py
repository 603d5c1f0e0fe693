# ruff: noqa: N802 (the names begin with the row of the standard)
"""R7 to R9, K8: who hears what about a fault, each of them once, whatever happens to the service meanwhile."""

import random

import pytest
import sqlalchemy as sa

from monitor.notify.mail import Mail
from monitor.notify.outbox import Outbox
from monitor.store import schema
from tests.office import finding
from tests.standard.test_escalation_steps import FAR, SITE, at_work
from tests.standard.world import World
from tests.test_outbox import Postbox, serving

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
        *to("breach", OPS, MANAGER), *to("fault_resolved", CUSTOMER), *to("technician_arranged", CUSTOMER),
        *to("technician_on_site", CUSTOMER), *to("untaken", MANAGER, OPS),
    ])  # fmt: skip


def test_R7_the_customer_hears_once_of_each_turn_of_events(world: World) -> None:
    world.machine().fails_to_start()
    ticket_id = world.ticket("startup_failure").id
    course = ["fault_noticed"]
    for verb, told in (
        ("accept", "technician_arranged"), ("depart", None), ("arrive", "technician_on_site"), ("start-repair", None),
        ("resolve", "fault_resolved"), ("close", "how_was_it"),
    ):  # fmt: skip
        if verb == "resolve":
            world.machines["m1"].says()
        world.act(ticket_id, verb, technician_id=1)
        world.forward(minutes=3, every_s=30)
        course += [told] if told else []
        assert world.told_to(CUSTOMER) == course, verb
    arranged = world.letters("technician_arranged")[0]
    assert "Technician: Tian" in arranged["body"]


def test_R7_the_customer_is_told_between_when_and_when_the_technician_comes(world: World) -> None:
    at_work(world, "Tian", FAR)
    world.site("Port", remote=False)
    with world.database.begin() as connection:
        connection.execute(schema.site.update().values(lat_deg=SITE.lat_deg, lon_deg=SITE.lon_deg))
    world.machine(site="Port").goes_hot()
    world.act(world.ticket("limit").id, "accept", technician_id=1)
    world.forward(seconds=5)
    (arranged,) = world.letters("technician_arranged")
    # 58 km at the detour and speed that the policy reckons with are two hours: 18:50, told in quarters of an hour.
    assert [line for line in arranged["body"].splitlines() if line.startswith(("Expected", "Until"))] == [
        "Expected from: Thu 9 Oct 2025, 18:45 (China Standard Time)",
        "Until: Thu 9 Oct 2025, 20:00 (China Standard Time)",
    ]


def test_R7_another_technician_is_told_of_and_a_false_alarm_asks_nothing(world: World) -> None:
    other = world.person("Wang", "technician")
    world.machine().goes_hot()
    ticket_id = world.ticket("limit").id
    world.act(ticket_id, "accept", technician_id=1)
    world.act(ticket_id, "decline")
    world.act(ticket_id, "accept", technician_id=other)
    world.act(ticket_id, "cancel")
    world.forward(seconds=5)
    assert world.told_to(CUSTOMER) == ["fault_noticed", "technician_arranged", "technician_arranged"]
    assert [letter["subject"].split()[0] for letter in world.letters("technician_arranged")] == ["Tian", "Wang"]


def test_R7_a_routine_ticket_is_on_the_day_s_list_of_operations_and_pages_nobody(world: World) -> None:
    for name in ("m1", "m2"):
        world.machine(name)
        with world.database.begin() as connection:
            world.desk.record(connection, [finding("weak_battery", device=name, at=world.now)], world.now)
    world.forward(hours=25, every_s=600)
    assert world.told() == [("digest", OPS)]
    assert world.letters("digest")[0]["subject"].startswith("2 notices: To plan · m1 · ")


def test_R7_a_site_without_signal_is_one_notice_with_a_list(world: World) -> None:
    site = world.site("North pier", remote=False)
    machines = [world.machine(f"m{n}", on_hire=False, site=site) for n in range(5)]
    for machine in machines:
        machine.says()
    world.forward(seconds=3)
    for machine in machines:
        machine.status("lost")
    world.forward(minutes=10, every_s=10)
    assert world.told() == [("routine_opened", OPS)]
    (told,) = world.letters()
    assert [line for line in told["body"].splitlines() if line.startswith("- m")] == [f"- m{n}" for n in range(5)]


def test_R7_a_dead_address_is_told_to_operations_and_the_alert_goes_another_way(world: World) -> None:
    """Through a mail server that really listens and does not know the technician's address."""
    postbox = Postbox(refuses={TECHNICIAN: "550 no such user"})
    with world.database.begin() as connection:
        connection.execute(sa.insert(schema.contact), [
            {"person_id": 1, "channel": "email", "address": address, "position": position, "bounce": ""}
            for position, address in enumerate((TECHNICIAN, "tian@home.example"))
        ])  # fmt: skip
    with serving(postbox) as relay:
        world.outbox = Outbox(world.database, {"email": Mail(relay)}, given_up=world.desk.telling.given_up)
        world.machine().goes_hot()
        world.forward(seconds=10)
    told = sorted((str(letter["X-Fettle-Kind"]), to[0]) for to, letter in postbox.letters)
    assert told == [("contact_bounced", OPS), ("dispatch_alert", "tian@home.example"), ("fault_noticed", CUSTOMER)]
    assert [row.bounce for row in world.rows(schema.contact)] == ["550 no such user", ""]
    assert {row.status for row in world.rows(schema.notice)} == {"sent"}
    assert {letter.get_content_type() for _, letter in postbox.letters} == {"multipart/alternative"}


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
            piece_s = min(left_s, rng.choice([20, 300, 900, 1800]))
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
        *to("breach", OPS, MANAGER), *to("fault_resolved", CUSTOMER), *to("technician_arranged", CUSTOMER),
        *to("technician_on_site", CUSTOMER), *to("untaken", MANAGER, OPS),
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
    assert world.told() == [
        *to("dispatch_alert", TECHNICIAN),
        *to("fault_noticed", CUSTOMER),
        *to("untaken", MANAGER, OPS),
    ]
