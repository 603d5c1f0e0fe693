"""A rehearsal comes to what the service itself comes to, and a batch may be cut anywhere."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitor.devices import Device, Limits, Profile, Sensor
from monitor.engine.rehearsal import (
    Company,
    Heard,
    Hire,
    Place,
    Rehearsal,
    Repaired,
    TicketTold,
    load_tickets,
    rehearse,
    slices,
)
from monitor.readings import Arrival, Batch, Event, Message, Reading, Status
from monitor.store import registry, schema
from tests.standard.world import HOT, HOUR, MINUTE, T0, WELL, World

RIG = Profile(
    name="rig", title="Rig", title_zh="台", report_interval_s=10, start_timeout_s=30,
    sensors=(Sensor("temp_c", limits=Limits(high=100, clear_margin=5)),),
)  # fmt: skip
COMPANY = Company({"rig": RIG}, [Device("m1", "rig"), Device("m2", "rig")], hires=[Hire("m1", T0)])


def message(seconds: float, temp_c: float, device: str = "m1", *, lag_s: float = 0) -> Message:
    at = T0 + round(seconds * 1000)
    return Message(device, 0, at + round(lag_s * 1000), False, Reading(1, 0, at, "running", {"temp_c": temp_c}))


def batch(*messages: Message) -> Batch:
    return Batch.of(1, messages)


def short(tickets: list[TicketTold]) -> list[tuple[str | None, str, str, float]]:
    return [(t.device_id, t.kind, t.severity, (t.opened_at - T0) / 1000) for t in tickets]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "home")
    yield world
    world.close()


def _a_while_with_everything(world: World) -> list[Arrival]:
    """Hot and well again, hot for good, a start that fails, a will, a site that falls silent. Answers what was said
    of connections."""
    hired, yard, gone = world.machine("m1"), world.machine("m2", on_hire=False), world.machine("m3")
    quarry = world.site("Quarry", remote=True)
    far = [world.machine(f"far{n}", site=quarry, on_hire=n == 0) for n in range(3)]
    statuses: list[Arrival] = []
    for machine in (hired, yard, gone, *far):
        machine.talking = WELL
    world.forward(minutes=1, every_s=5)
    hired.talking = yard.talking = HOT
    world.forward(minutes=1, every_s=5)
    hired.talking = WELL
    world.forward(minutes=3, every_s=5)
    hired.talking = HOT
    gone.talking = None
    gone.status("lost")
    statuses.append(Arrival("m3", world.now, Status("lost", world.now, 1)))
    world.forward(minutes=3, every_s=5)
    yard.talking = None
    yard.says({}, state="off")
    yard.event("start_requested")
    world.forward(minutes=4, every_s=5)
    gone.talking = WELL
    for machine in (hired, *far):
        machine.talking = None
    world.forward(minutes=4, every_s=5)
    return statuses


def _as_stored(world: World, statuses: list[Arrival]) -> list[Heard]:
    """What the service was told, each batch where it came, and what was said of connections between."""
    heard: list[Heard] = [*world.telemetry.replay(0), *statuses]
    return sorted(heard, key=lambda one: int(one.received_at.max()) if isinstance(one, Batch) else
                  one.received_at if isinstance(one, Arrival) else one.at)  # fmt: skip


def test_it_comes_to_the_tickets_of_the_service(world: World) -> None:
    statuses = _a_while_with_everything(world)
    with world.database.connect() as connection:
        real = load_tickets(connection)
        devices = registry.devices(connection)
    sites = [Place(row.id, row.name, row.remote) for row in world.rows(schema.site)]
    hires = [Hire(row.device_id, row.starts_at, row.ends_at) for row in world.rows(schema.rental)]
    company = Company(world.desk.profiles, devices, sites, hires)

    rehearsed = rehearse(company, _as_stored(world, statuses), T0, world.now, tick_ms=5_000)

    assert {ticket.kind for ticket in real} == {"limit", "startup_failure", "silent"}
    assert {ticket.severity for ticket in real} == {"urgent", "routine"}
    assert [len(ticket.faults) for ticket in real if ticket.device_id is None] == [3], "a site's outage is one ticket"
    assert any(ticket.recurrences for ticket in real), "one came back within its ticket"
    assert [_facts(ticket) for ticket in rehearsed] == [_facts(ticket) for ticket in real]


def _facts(ticket: TicketTold) -> TicketTold:
    return ticket._replace(ticket_id=0)


def test_the_cut_of_the_stream_changes_nothing() -> None:
    """One big batch, one a message, one a minute: the same tickets at the same moments."""
    said = [message(10 * k, 120 if 30 <= k < 40 or k > 60 else 50) for k in range(90)]
    whole = rehearse(COMPANY, [batch(*said)], T0, T0 + HOUR)
    single = rehearse(COMPANY, [batch(one) for one in said], T0, T0 + HOUR)
    minutes = rehearse(COMPANY, [batch(*said[k : k + 6]) for k in range(0, 90, 6)], T0, T0 + HOUR)

    assert short(whole) == [("m1", "limit", "urgent", 300), ("m1", "silent", "routine", 930)]
    assert whole[0].recurrences == 1
    assert whole == single == minutes


def test_time_is_never_ahead_of_what_was_heard() -> None:
    """What is heard late is found when it is heard."""
    [ticket] = rehearse(COMPANY, [batch(message(20, 120, lag_s=7))], T0, T0 + 30_000)

    assert ticket.opened_at == T0 + 27_000
    assert ticket.occurred_at == T0 + 20_000


def test_silence_is_found_in_a_tick_though_nothing_is_heard() -> None:
    tickets = rehearse(COMPANY, [batch(message(0, 50), message(0, 50, "m2"))], T0, T0 + 10 * MINUTE)

    assert short(tickets) == [("m1", "silent", "routine", 40), ("m2", "silent", "routine", 40)]


def test_a_repair_ends_tickets_and_what_is_still_wrong_is_a_new_one() -> None:
    said = [batch(message(10 * k, 120)) for k in range(12)]
    heard: list[Heard] = [*said[:6], Repaired("m1", T0 + 55_000), *said[6:]]

    with Rehearsal(COMPANY, T0) as rehearsal:
        for one in heard:
            rehearsal.hear(one)
        first, second = rehearsal.tickets()
        assert rehearsal.tickets(since_at=T0 + 55_000) == [second]

    assert (first.status, first.opened_at) == ("closed", T0)
    assert (second.status, second.opened_at) == ("open", T0 + 60_000)
    assert [fault.cleared_at for fault in first.faults] == [T0 + 55_000]


@pytest.mark.parametrize(("closes_after_ms", "tickets"), [(None, 1), (HOUR, 1), (10 * MINUTE, 2)])
def test_a_dispatcher_closes_what_cleared_by_itself(closes_after_ms: int | None, tickets: int) -> None:
    """The same fault half an hour later is one more turn of an open ticket, or a ticket of its own."""
    hot_again = [120, 50, 50] + [50] * 180 + [120, 50, 50]
    said = [batch(message(10 * k, temp_c)) for k, temp_c in enumerate(hot_again)]

    found = rehearse(COMPANY, said, T0, T0 + 1860_000, closes_after_ms=closes_after_ms)

    assert [ticket.kind for ticket in found] == ["limit"] * tickets
    assert sum(ticket.recurrences for ticket in found) == 2 - tickets


@pytest.mark.parametrize(("generation", "kinds"), [(1, ["startup_failure"]), (0, [])])
def test_a_replaced_box_counts_its_boots_from_the_beginning(generation: int, kinds: list[str]) -> None:
    """Boot after boot is a boot loop, unless these boots are older than the one known."""
    before = Message("m1", 0, T0, False, Reading(100, 0, T0, "off", {}))
    boots = [
        Message("m1", generation, T0 + 10_000 * boot, False, Reading(boot, 0, T0 + 10_000 * boot, "off", {}))
        for boot in range(1, 7)
    ]

    found = rehearse(COMPANY, [batch(one) for one in (before, *boots)], T0, T0 + 60_000)

    assert [ticket.kind for ticket in found] == kinds


def test_machines_stand_at_sites_and_those_on_hire_come_first() -> None:
    company = replace(COMPANY, devices=[Device("m1", "rig", site_id=4), Device("m2", "rig")],
                      sites=[Place(4, "Quarry", remote=True)])  # fmt: skip
    start = [Message(device, 0, T0, False, Event(1, 0, T0, "start_requested", {})) for device in ("m1", "m2")]

    found = rehearse(company, [batch(*start)], T0, T0 + MINUTE)

    assert [(t.device_id, t.site_id, t.severity) for t in found if t.kind == "startup_failure"] == [
        ("m1", 4, "emergency"), ("m2", None, "urgent"),
    ]  # fmt: skip


def test_a_batch_is_cut_at_the_edges_of_windows_and_loses_nothing() -> None:
    rng = np.random.default_rng(1)
    said = [message(float(s), float(s), rng.choice(["m1", "m2"])) for s in np.sort(rng.uniform(0, 300, 400))]
    # Two stood behind later ones: they were parked.
    said[10], said[12] = said[12], said[10]
    parts = list(slices(batch(*said), 10_000))

    assert [m for _, part in parts for m in part.messages()] == said
    assert [moment for moment, _ in parts] == sorted({moment for moment, _ in parts})
    assert all(moment // 10_000 >= int(part.received_at.max()) // 10_000 for moment, part in parts)
    assert len({moment // 10_000 for moment, _ in parts}) == len(parts) == 30
    assert list(slices(batch(), 10_000)) == []
