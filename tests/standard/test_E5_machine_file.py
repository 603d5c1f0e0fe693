# ruff: noqa: N802, N999 (names begin with the row of the standard)
"""E5: each machine has a file that holds everything about it: one time line, from the same record as all the rest."""

import pytest
import sqlalchemy as sa

from monitor.desk.tickets import Resolution
from monitor.engine.desk import Report
from monitor.fleet.file import Entry, Kind, place_of, written
from monitor.readings import Status
from monitor.store import file, schema
from monitor.store.file import Asked
from monitor.store.hire import Hire
from monitor.store.registry import Refused
from monitor.store.windows import Window, Windows
from tests.standard.world import DAY, HOUR, MINUTE, T0, World

ALL = Asked(0, T0 + 1000 * DAY)


def read(world: World, device_id: str = "m1", asked: Asked = ALL, limit: int = 1000) -> list[Entry]:
    with world.database.connect() as connection:
        return file.read(connection, device_id, asked, limit).entries


def told(entries: list[Entry]) -> list[str]:
    return [f"{one.kind}.{one.what}" for one in entries]


@pytest.fixture
def lived(world: World) -> World:
    """A machine's first weeks: it is moved, hired, exchanged, breaks, is repaired, reported, looked after."""
    world.site("Yard", remote=False)
    world.site("Tunnel", remote=False)
    machine = world.machine(site="Yard", on_hire=False)
    world.machine("m2", on_hire=False)
    world.now += HOUR
    machine.send(Status("online", world.now, 1, firmware="2.4.1", model="GX"))
    machine.says()
    world.now += HOUR
    machine.send(Status("online", world.now, 2, firmware="2.5.0", model="GX"))
    machine.boot, machine.seq = 2, 0
    world.now += HOUR
    world.registry.move_device("m1", 2, None, world.now)
    hire = Hire(world.database, "test")
    metro = hire.add_customer("Metro JV", "site@metro.example", "en", world.now)
    rental = hire.add_rental("m1", world.now, None, world.now, customer_id=metro)
    world.now += DAY
    machine.says()
    machine.goes_hot()
    ticket_id = world.ticket("limit").id
    world.now += HOUR
    (tian,) = [row.id for row in world.rows(schema.person) if row.name == "Tian"]
    world.act(ticket_id, "accept", technician_id=tian)
    world.now += HOUR
    world.act(ticket_id, "resolve", resolution=Resolution("cooling", "repaired", "wear", ("thermostat",)),
              note="New thermostat.")  # fmt: skip
    machine.recovers()
    world.act(ticket_id, "close")
    world.now += HOUR
    world.desk.report(Report("m1", "It smells of diesel.", "phone", "Wang"), "person:1", world.now)
    Windows(world.database, "person:2").declare(
        Window("transport", world.now + HOUR, world.now + 2 * HOUR, "to Tunnel", site_id=2), world.now
    )
    world.now += 3 * HOUR
    hire.exchange(rental, "m2", None, world.now)
    return world


def test_E5_the_file_holds_the_whole_life_in_one_line(lived: World) -> None:
    entries = read(lived)
    assert [one.place for one in entries] == [one.place for one in sorted(entries, key=lambda e: e.place[:2])][::-1]
    assert set(told(entries)) >= {
        "machine.added", "machine.first_heard", "move.stands", "firmware.runs", "rental.began", "rental.ended",
        "fault.opened", "fault.cleared", "ticket.opened", "ticket.accept", "ticket.resolve", "ticket.resolution",
        "part.fitted", "report.reported", "window.transport",
    }  # fmt: skip
    facts = {f"{one.kind}.{one.what}": one for one in entries}
    assert facts["ticket.resolution"].facts["resolution_cause"] == "cooling"
    assert facts["part.fitted"].facts["parts"] == ["thermostat"]
    assert facts["ticket.resolve"].text == "New thermostat."
    assert (facts["report.reported"].text, facts["report.reported"].facts["reported_by"]) == (
        "It smells of diesel.", "Wang",
    )  # fmt: skip
    assert facts["rental.ended"].facts["exchanged_for"] == "m2"
    assert facts["window.transport"].text == "to Tunnel"


def test_E5_where_it_stood_and_what_it_ran_with(lived: World) -> None:
    entries = read(lived)
    assert [one.facts["site_name"] for one in entries if one.kind is Kind.MOVE] == ["Tunnel", "Yard"]
    assert [one.facts["firmware"] for one in entries if one.kind is Kind.FIRMWARE] == ["2.5.0", "2.4.1"]


def test_E5_the_same_firmware_said_again_is_nothing_new(world: World) -> None:
    machine = world.machine()
    for _ in range(3):
        world.now += MINUTE
        machine.send(Status("online", world.now, 1, firmware="2.4.1", model="GX"))
    assert [(row.firmware, row.from_at) for row in world.rows(schema.firmware_seen)] == [("2.4.1", T0 + MINUTE)]
    assert [(row.site_id, row.from_at, row.actor) for row in world.rows(schema.stay)] == [(None, T0, "cli")]


def test_E5_another_machines_file_is_another_one(lived: World) -> None:
    assert sorted(told(read(lived, "m2"))) == ["machine.added", "move.stands", "rental.began"]
    (began,) = [one for one in read(lived, "m2") if one.kind is Kind.RENTAL]
    assert began.facts["instead_of"] == "m1"


@pytest.mark.parametrize("size", [1, 2, 7])
def test_E5_pages_lose_nothing_and_repeat_nothing(lived: World, size: int) -> None:
    entries, asked = [], ALL
    with lived.database.connect() as connection:
        for _ in range(200):
            found = file.read(connection, "m1", asked, size)
            assert len(found.entries) <= size
            entries += found.entries
            if found.following is None:
                break
            before = place_of(written(found.following), file.key_of_source)
            assert before == found.following
            asked = Asked(ALL.from_at, ALL.to_at, before=before)
    assert entries == read(lived)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("thermostat", {"ticket.resolve", "part.fitted"}),
        ("DIESEL", {"report.reported", "ticket.report", "fault.opened"}),
        ("metro jv", {"rental.began", "rental.ended"}),
        ("2.5.0", {"firmware.runs"}),
        ("nothing like it", set()),
    ],
)
def test_E5_it_can_be_searched(lived: World, words: str, expected: set[str]) -> None:
    assert set(told(read(lived, asked=Asked(ALL.from_at, ALL.to_at, words=words)))) == expected


def test_E5_it_can_be_asked_for_kinds_and_periods(lived: World) -> None:
    assert set(told(read(lived, asked=Asked(0, ALL.to_at, [Kind.MOVE, Kind.PART])))) == {"move.stands", "part.fitted"}
    first_hours = read(lived, asked=Asked(T0, T0 + 3 * HOUR))
    assert [one.at for one in first_hours] == [T0 + 2 * HOUR, T0 + HOUR, T0 + HOUR, T0, T0]


def test_E5_a_window_of_a_site_is_told_of_those_who_stood_there(lived: World) -> None:
    windows = Windows(lived.database, "test")
    windows.declare(Window("maintenance", lived.now + HOUR, lived.now + 2 * HOUR, site_id=1), lived.now)
    assert [one for one in told(read(lived)) if one.startswith("window")] == ["window.transport"]


def test_E5_what_was_declared_for_later_is_no_history_yet(lived: World) -> None:
    Windows(lived.database, "test").declare(
        Window("maintenance", lived.now + HOUR, lived.now + 2 * HOUR, device_id="m1"), lived.now
    )
    assert "window.maintenance" not in told(read(lived, asked=Asked(0, lived.now + 1)))
    assert "window.maintenance" in told(read(lived))


def test_E5_moves_are_told_in_their_order(lived: World) -> None:
    for at in (T0, lived.now + 1):
        with pytest.raises(Refused, match="must lie between"):
            lived.registry.move_device("m1", 1, at, lived.now)
    with pytest.raises(Refused, match="there is no site 99"):
        lived.registry.move_device("m1", 99, None, lived.now)
    lived.registry.move_device("m1", None, lived.now - HOUR, lived.now)
    with lived.database.connect() as connection:
        at_present = connection.execute(sa.select(schema.device.c.site_id).where(schema.device.c.device_id == "m1"))
        assert at_present.scalar() is None
    assert read(lived)[-1].what == "added"
