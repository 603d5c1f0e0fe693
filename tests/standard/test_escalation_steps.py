# ruff: noqa: N802 (the names begin with the row of the standard)
"""R7, R9, P1: somebody who may and can is asked to take a ticket, and who next, step by step in virtual time."""

import random
import re
from collections import Counter

import pytest

from monitor.desk.dispatch import Code, Position
from monitor.desk.notices import moment
from monitor.desk.rota import EVERY_DAY, Rotation, WorkingHours
from monitor.desk.tickets import NotPossible
from monitor.detect import Finding
from monitor.devices import FaultKind, Severity
from monitor.engine.desk import Report
from monitor.engine.paging import Offered
from monitor.store import cases, schema
from monitor.store.people import Certified, People
from tests.standard.world import DAY, HOUR, MINUTE, T0, WELL, World

TIAN = 1
OPS, MANAGER = "olga@example.com", "mei@example.com"
ROUND_THE_CLOCK = [WorkingHours(day, 0, 1440) for day in EVERY_DAY]
SITE, NEAR, FAR = Position(31.23, 121.47), Position(31.24, 121.48), Position(31.60, 121.90)


def people(world: World) -> People:
    return People(world.database, "test")


def at_work(world: World, name: str, home: Position | None = None, *, certified: bool = True) -> int:
    """A technician who is there day and night."""
    known = [row.id for row in world.rows(schema.person, name=name)]
    person_id: int = known[0] if known else world.person(name, "technician")
    people(world).set_hours(person_id, ROUND_THE_CLOCK, world.now)
    people(world).set_home(person_id, home, "", world.now)
    if certified:
        people(world).certify(person_id, [Certified("rig", T0 - DAY)], world.now)
    return person_id


def on_call(world: World, *turns: int) -> int:
    rotation = Rotation(0, "Asia/Shanghai", turns, 24, 0, 480, world.now - DAY)
    return people(world).add_rotation("First line", rotation, world.now)


@pytest.fixture
def staffed(world: World) -> World:
    """Tian is near, Bo further away, both at work; Chen is on call."""
    at_work(world, "Tian", NEAR)
    at_work(world, "Bo", FAR)
    chen = world.person("Chen", "technician")
    people(world).certify(chen, [Certified("rig", T0 - DAY)], world.now)
    on_call(world, chen)
    world.site("Port", remote=False)
    with world.database.begin() as connection:
        connection.execute(schema.site.update().values(lat_deg=SITE.lat_deg, lon_deg=SITE.lon_deg))
    return world


def dead(world: World) -> int:
    """The ticket of a machine that did not start: an emergency."""
    site = "Port" if world.rows(schema.site) else None
    world.machine(site=site).fails_to_start()
    ticket_id: int = world.ticket("startup_failure").id
    world.forward(seconds=2, every_s=1)
    return ticket_id


def hot(world: World, *, on_hire: bool = True) -> int:
    world.machine(site="Port", on_hire=on_hire).goes_hot()
    ticket_id: int = world.ticket("limit").id
    world.forward(seconds=2, every_s=1)
    return ticket_id


def asked(world: World) -> list[str]:
    """The names in the addresses of those who were asked, in the order of asking."""
    rows = world.rows(schema.notice, kind="dispatch_alert")
    return [row.recipient.partition("@")[0] for row in rows if row.status != "withdrawn"]


def to(world: World, kind: str) -> list[str]:
    return [address for _, address in world.told(kind)]


def status(world: World, ticket_id: int) -> tuple[str, int | None]:
    (row,) = world.rows(schema.ticket, id=ticket_id)
    return row.status, row.technician_id


def moves(world: World, *what: str) -> list[object]:
    return [row for row in world.rows(schema.move) if row.what in what]


# --- who is asked --------------------------------------------------------------------------------------------------


def test_R9_an_emergency_dispatches_itself_to_the_nearest_who_is_free(staffed: World) -> None:
    ticket_id = dead(staffed)
    assert asked(staffed) == ["tian"]
    assert status(staffed, ticket_id) == ("dispatched", TIAN)
    assert staffed.clocks(ticket_id)["dispatch"].met_at is None
    assert to(staffed, "fault_noticed") == ["site@metro.example"]


def test_P1_an_uncertified_technician_is_never_proposed(world: World) -> None:
    near = at_work(world, "Tian", NEAR, certified=False)
    lapsed = at_work(world, "Bo", NEAR, certified=False)
    people(world).certify(lapsed, [Certified("rig", T0 - DAY, world.now + MINUTE)], world.now)
    other_model = at_work(world, "Chen", NEAR, certified=False)
    people(world).certify(other_model, [Certified("crane", T0 - DAY)], world.now)
    certified = at_work(world, "Dana", FAR)
    on_call(world, near)
    world.now += 2 * MINUTE
    ticket_id = dead(world)
    world.forward(hours=2, every_s=300)
    assert {row.person_id for row in moves(world, "ask")} == {certified}
    with world.database.connect() as connection:
        row = cases.load_ticket(connection, ticket_id)
        proposal = world.desk.dispatching.propose(
            connection, row, world.desk.dispatching.crew(connection, world.now), world.now
        )
    assert [one.person_id for one in proposal.ranked] == [certified]
    why = {one.person_id: one.reasons[0].code for one in proposal.excluded}
    assert why == {near: Code.NOT_CERTIFIED, lapsed: Code.CERTIFICATE_LAPSED, other_model: Code.NOT_CERTIFIED}


def test_P1_where_nobody_who_is_certified_is_there_the_manager_hears_at_once(world: World) -> None:
    at_work(world, "Tian", certified=False)
    bo = world.person("Bo", "technician")
    people(world).certify(bo, [Certified("rig", T0 - DAY)], world.now)
    dead(world)
    assert asked(world) == []
    assert to(world, "untaken") == [MANAGER, OPS]
    assert "Nobody could be asked" in world.rows(schema.notice, kind="untaken")[0].body


def test_R7_a_company_without_a_rota_alerts_all_its_technicians(world: World) -> None:
    world.person("Bo", "technician")
    dead(world)
    world.forward(minutes=14, every_s=60)
    assert (asked(world), to(world, "untaken")) == (["tian", "bo"], [])
    world.forward(minutes=16, every_s=60)
    assert asked(world) == ["tian", "bo"]
    assert to(world, "untaken") == [MANAGER, OPS]


def test_R7_of_an_urgent_ticket_operators_hear_first_and_then_people_are_asked(staffed: World) -> None:
    hot(staffed)
    assert (to(staffed, "untaken"), asked(staffed)) == ([OPS], [])
    staffed.forward(minutes=10, every_s=30)
    assert asked(staffed) == ["tian"]
    staffed.forward(minutes=10, every_s=30)
    assert asked(staffed) == ["tian", "chen"]
    staffed.forward(minutes=10, every_s=30)
    assert to(staffed, "untaken") == [MANAGER, OPS, OPS]


def test_R7_in_the_yard_operators_plan_it_and_nobody_is_asked(staffed: World) -> None:
    hot(staffed, on_hire=False)
    staffed.forward(hours=7, every_s=600)
    assert (to(staffed, "untaken"), asked(staffed)) == ([OPS], [])
    staffed.forward(hours=2, every_s=600)
    assert to(staffed, "untaken") == [MANAGER, OPS, OPS]


# --- who next ------------------------------------------------------------------------------------------------------


def test_R9_without_an_answer_it_goes_to_the_next_then_to_those_on_call_then_to_the_manager(staffed: World) -> None:
    ticket_id = dead(staffed)
    opened_at = staffed.ticket("startup_failure").opened_at
    staffed.forward(minutes=4.5, every_s=30)
    assert asked(staffed) == ["tian"]
    staffed.forward(minutes=1, every_s=10)
    assert asked(staffed) == ["tian", "bo"]
    assert status(staffed, ticket_id)[0] == "dispatched"
    staffed.forward(minutes=5, every_s=30)
    assert asked(staffed) == ["tian", "bo", "chen"]
    assert to(staffed, "untaken") == []
    staffed.forward(minutes=5, every_s=30)
    assert to(staffed, "untaken") == [MANAGER, OPS]
    assert [(row.due_at - opened_at) / MINUTE for row in staffed.rows(schema.move)] == [0, 5, 10, 15]
    staffed.forward(hours=3, every_s=600)
    assert len(asked(staffed)) == 3
    assert len(to(staffed, "untaken")) == 2


def test_R9_a_decline_goes_on_at_once(staffed: World) -> None:
    ticket_id = dead(staffed)
    staffed.forward(minutes=1)
    staffed.act(ticket_id, "decline")
    staffed.forward(seconds=2, every_s=1)
    assert asked(staffed) == ["tian", "bo"]
    assert status(staffed, ticket_id)[0] == "dispatched"


def test_R9_of_several_who_are_asked_one_who_declines_leaves_it_to_the_others(staffed: World) -> None:
    dana = at_work(staffed, "Dana", FAR)
    rotation = Rotation(0, "Asia/Shanghai", (dana,), 24, 0, 480, staffed.now - DAY)
    people(staffed).add_rotation("Second line", rotation, staffed.now)
    ticket_id = dead(staffed)
    staffed.forward(minutes=10.5, every_s=30)
    assert set(asked(staffed)) == {"tian", "bo", "chen", "dana"}
    assert status(staffed, ticket_id) == ("dispatched", None)
    staffed.desk.paging.decline(Offered(ticket_id, dana), f"person:{dana}", staffed.now)
    with pytest.raises(NotPossible):
        staffed.desk.paging.decline(Offered(ticket_id, dana), f"person:{dana}", staffed.now)
    staffed.forward(seconds=5)
    assert status(staffed, ticket_id) == ("dispatched", None)
    assert to(staffed, "untaken") == []
    chen = staffed.rows(schema.person, name="Chen")[0].id
    staffed.desk.paging.decline(Offered(ticket_id, chen), f"person:{chen}", staffed.now)
    staffed.forward(seconds=5)
    assert to(staffed, "untaken") == [MANAGER, OPS]


def test_R7_a_person_who_dispatches_replaces_whoever_is_being_asked(staffed: World) -> None:
    ticket_id = dead(staffed)
    bo = staffed.rows(schema.person, name="Bo")[0].id
    staffed.forward(minutes=1)
    staffed.act(ticket_id, "dispatch", technician_id=bo)
    staffed.forward(seconds=2, every_s=1)
    assert asked(staffed) == ["tian", "bo"]
    assert to(staffed, "taken") == ["tian@example.com"]
    assert status(staffed, ticket_id) == ("dispatched", bo)
    staffed.forward(minutes=6, every_s=30)
    assert asked(staffed) == ["tian", "bo", "tian"], "who does not answer is not waited for"


def test_R7_who_is_dispatched_to_routine_work_is_asked_and_nobody_else(staffed: World) -> None:
    staffed.machine(site="Port").says()
    staffed.forward(minutes=2)
    ticket_id = staffed.ticket("silent").id
    staffed.forward(hours=1, every_s=300)
    assert staffed.rows(schema.move) == []
    staffed.act(ticket_id, "dispatch", technician_id=TIAN)
    staffed.forward(seconds=2, every_s=1)
    assert [row.person_id for row in moves(staffed, "ask")] == [TIAN]
    staffed.forward(hours=5, every_s=300)
    assert [row.who for row in moves(staffed, "tell")] == ["ops"]


# --- it is taken ---------------------------------------------------------------------------------------------------


def test_R7_an_acceptance_stops_the_paging_and_the_others_hear_that_it_is_taken(staffed: World) -> None:
    ticket_id = dead(staffed)
    staffed.forward(minutes=6, every_s=30)
    staffed.act(ticket_id, "accept", technician_id=TIAN)
    staffed.forward(minutes=25, every_s=60)
    assert asked(staffed) == ["tian", "bo"]
    assert to(staffed, "taken") == ["bo@example.com"]
    assert to(staffed, "untaken") == []
    assert staffed.clocks(ticket_id)["dispatch"].met_at is not None


@pytest.mark.parametrize("how", ["cancel", "pause", "close"])
def test_R7_what_ends_or_waits_pages_nobody(staffed: World, how: str) -> None:
    ticket_id = dead(staffed)
    staffed.machines["m1"].says(WELL)
    staffed.act(ticket_id, how, **({"reason": "no_access"} if how == "pause" else {}))
    staffed.forward(hours=1, every_s=300)
    assert asked(staffed) == ["tian"]
    assert to(staffed, "taken") == ["tian@example.com"]


def test_R7_after_a_wait_somebody_is_sought_again(staffed: World) -> None:
    ticket_id = dead(staffed)
    staffed.act(ticket_id, "pause", reason="no_access", until_at=staffed.now + HOUR)
    staffed.forward(minutes=59, every_s=300)
    assert asked(staffed) == ["tian"]
    staffed.forward(minutes=2, every_s=10)
    assert asked(staffed) == ["tian", "tian"]


def test_R7_a_merged_ticket_pages_nobody(staffed: World) -> None:
    machine = staffed.machine(site="Port")
    told = staffed.desk.report(Report("m1", "smokes", "phone", stopped=True), "test", staffed.now)
    machine.fails_to_start()
    ticket_id = staffed.ticket("startup_failure").id
    assert told != ticket_id
    staffed.forward(seconds=20)
    staffed.act(ticket_id, "accept", technician_id=TIAN)
    before = asked(staffed)
    staffed.act(told, "merge", other_id=ticket_id)
    staffed.forward(minutes=20, every_s=60)
    assert asked(staffed) == before
    assert to(staffed, "untaken") == []


# --- an acceptance that leads nowhere ------------------------------------------------------------------------------


def test_R8_a_visit_that_was_agreed_is_told_to_the_customer_and_awaited_until_then(staffed: World) -> None:
    ticket_id = dead(staffed)
    visit_at = staffed.now + 20 * HOUR
    staffed.act(ticket_id, "accept", technician_id=TIAN, visit_at=visit_at)
    staffed.forward(hours=19, every_s=600)
    (ticket,) = staffed.rows(schema.ticket, id=ticket_id)
    assert (ticket.status, ticket.technician_id, ticket.visit_at) == ("accepted", TIAN, visit_at)
    (told,) = staffed.letters("technician_arranged")
    when = [moment(at, "Asia/Shanghai", "en") for at in (visit_at, visit_at + HOUR)]
    assert all(one in told["body"] for one in when)
    staffed.forward(hours=2, every_s=60)
    assert staffed.rows(schema.ticket, id=ticket_id)[0].visit_at is None, "it was agreed with somebody who did not come"


def test_R9_an_acceptance_without_progress_is_reminded_of_and_expires(staffed: World) -> None:
    ticket_id = dead(staffed)
    opened_at = staffed.ticket("startup_failure").opened_at
    staffed.act(ticket_id, "accept", technician_id=TIAN)
    accepted_at = staffed.now
    staffed.forward(minutes=21, every_s=30)
    assert to(staffed, "reminder") == ["tian@example.com"]
    assert to(staffed, "expired") == []
    staffed.forward(minutes=10, every_s=30)
    assert to(staffed, "expired") == ["tian@example.com"]
    assert asked(staffed) == ["tian", "bo"], "somebody else is asked first"
    clock = staffed.clocks(ticket_id)["dispatch"]
    assert (clock.due_at, clock.met_at) == (opened_at + HOUR, None)
    (step,) = staffed.rows(schema.step, ticket_id=ticket_id, event="decline")
    assert (step.actor, step.to_status, step.happened_at) == ("desk", "verified", accepted_at + 30 * MINUTE)
    staffed.forward(minutes=30, every_s=120)
    assert staffed.clocks(ticket_id)["dispatch"].breached_at == opened_at + HOUR


def test_R9_who_is_on_the_way_has_time_to_arrive(staffed: World) -> None:
    ticket_id = dead(staffed)
    staffed.act(ticket_id, "accept", technician_id=TIAN)
    staffed.forward(minutes=25, every_s=60)
    staffed.act(ticket_id, "depart")
    staffed.forward(minutes=79, every_s=120)
    assert [row.what for row in moves(staffed, "remind_to_depart", "remind_to_arrive")] == ["remind_to_depart"]
    staffed.forward(minutes=2, every_s=60)
    assert [row.what for row in moves(staffed, "remind_to_arrive")] == ["remind_to_arrive"]
    staffed.act(ticket_id, "arrive")
    staffed.forward(hours=3, every_s=600)
    assert to(staffed, "expired") == []


def test_R7_who_gives_it_back_is_asked_again_last(staffed: World) -> None:
    ticket_id = dead(staffed)
    staffed.act(ticket_id, "accept", technician_id=TIAN)
    staffed.forward(minutes=5, every_s=60)
    staffed.act(ticket_id, "decline")
    staffed.forward(minutes=1)
    assert asked(staffed) == ["tian", "bo"]


def test_R9_what_becomes_graver_is_asked_anew_and_sooner(staffed: World) -> None:
    hot(staffed)
    assert asked(staffed) == []
    graver = Finding("m1", FaultKind.LIMIT, "temp_c", True, staffed.now, "test/1", Severity.EMERGENCY)
    with staffed.database.begin() as connection:
        staffed.desk.record(connection, [graver], staffed.now)
    staffed.forward(seconds=2, every_s=1)
    assert staffed.ticket("limit").severity == "emergency"
    assert asked(staffed) == ["tian"]


# --- by link -------------------------------------------------------------------------------------------------------


def link(world: World, number: int = -1) -> str:
    body = world.rows(schema.notice, kind="dispatch_alert")[number].body
    found = re.search(r"http://fettle.example/answer/(\S+)", body)
    assert found, body
    return found[1]


def test_R7_an_alert_carries_a_link_that_accepts_and_one_that_is_tampered_with_is_none(staffed: World) -> None:
    ticket_id = dead(staffed)
    token = link(staffed)
    offered = staffed.desk.paging.offered(token, staffed.now)
    assert offered == Offered(ticket_id, TIAN)
    other = "A" if token[5] != "A" else "B"
    for wrong in (token[:5] + other + token[6:], token[:-3], "", "x" * 5000, "ü", token + "AAAA"):
        assert staffed.desk.paging.offered(wrong, staffed.now) is None
    assert staffed.desk.paging.offered(token, staffed.now + 13 * HOUR) is None
    staffed.desk.paging.accept(offered, staffed.now)
    assert status(staffed, ticket_id) == ("accepted", TIAN)
    assert staffed.rows(schema.step, event="accept")[0].actor == f"person:{TIAN}"


def test_R7_a_late_yes_counts_until_somebody_else_is_offered_the_ticket(staffed: World) -> None:
    ticket_id = dead(staffed)
    late = staffed.desk.paging.offered(link(staffed), staffed.now)
    assert late is not None
    bo = staffed.rows(schema.person, name="Bo")[0].id
    staffed.act(ticket_id, "dispatch", technician_id=bo)
    staffed.forward(seconds=5)
    with pytest.raises(NotPossible):
        staffed.desk.paging.accept(late, staffed.now)
    staffed.forward(minutes=5.5, every_s=10)
    staffed.desk.paging.accept(late, staffed.now)
    assert status(staffed, ticket_id) == ("accepted", TIAN)


# --- the change of shift -------------------------------------------------------------------------------------------


def test_R7_whoever_comes_on_hears_once_what_they_take_over_over_restarts(staffed: World) -> None:
    bo, chen = (staffed.rows(schema.person, name=name)[0].id for name in ("Bo", "Chen"))
    turns = Rotation(0, "Asia/Shanghai", (bo, chen), 24, 0, 480, staffed.now - DAY)
    people(staffed).add_rotation("Second line", turns, staffed.now)
    dead(staffed)
    staffed.forward(hours=26, every_s=1800)
    told = staffed.rows(schema.notice, kind="handover")
    # The first line is Chen's alone: nobody comes on there.
    assert len(told) == 1
    assert told[0].person_id in (bo, chen)
    assert "Hand-over: 1 open" in told[0].subject
    assert "http://fettle.example/handover" in told[0].body
    staffed.restart(away_s=23 * 3600)
    staffed.tick()
    staffed.restart()
    staffed.tick()
    again = staffed.rows(schema.notice, kind="handover")
    assert len(again) == 2
    assert {row.person_id for row in again} == {bo, chen}


def test_R7_who_stands_in_for_somebody_absent_hears_it_too(staffed: World) -> None:
    chen = staffed.rows(schema.person, name="Chen")[0].id
    bo = staffed.rows(schema.person, name="Bo")[0].id
    (rotation,) = staffed.rows(schema.rotation)
    staffed.forward(minutes=5, every_s=60)
    people(staffed).override(rotation.id, bo, staffed.now + HOUR, staffed.now + 3 * HOUR, staffed.now)
    staffed.forward(hours=4, every_s=300)
    assert [row.person_id for row in staffed.rows(schema.notice, kind="handover")] == [bo, chen]


# --- whatever happens to the service -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_R7_R9_a_restart_at_any_point_sends_nothing_twice_and_forgets_nothing(staffed: World, seed: int) -> None:
    rng = random.Random(seed)

    def on(minutes: float) -> None:
        end = staffed.now + round(minutes * MINUTE)
        while staffed.now < end:
            staffed.forward(seconds=min(rng.choice([5, 60, 180]), (end - staffed.now) / 1000), every_s=20)
            if rng.random() < 0.4:
                staffed.restart()

    ticket_id = dead(staffed)
    on(16)
    staffed.act(ticket_id, "accept", technician_id=TIAN)
    on(31)
    on(6)
    assert asked(staffed) == ["tian", "bo", "chen", "bo", "chen"]
    assert to(staffed, "expired") == to(staffed, "reminder") == ["tian@example.com"]
    assert to(staffed, "taken") == ["bo@example.com", "chen@example.com"]
    causes = Counter(row.cause for row in staffed.rows(schema.notice))
    assert max(causes.values()) == 1
    assert {row.status for row in staffed.rows(schema.notice)} == {"sent"}


def test_R9_a_service_that_was_away_asks_nobody_for_a_time_that_is_over(staffed: World) -> None:
    dead(staffed)
    staffed.restart(away_s=11 * 60)
    staffed.forward(seconds=5)
    assert asked(staffed) == ["tian", "chen"]
    assert [row.what for row in staffed.rows(schema.move)] == ["ask", "skip_late", "ask"]
