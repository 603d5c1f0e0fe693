"""Paging in virtual time: who is sought after all, who hears that nobody is, what stands in the audit, and answers that
come at the wrong moment."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from monitor.desk.rota import EVERY_DAY, WorkingHours
from monitor.desk.tickets import NotPossible, Verb
from monitor.engine.desk import Report
from monitor.engine.paging import Offered
from monitor.store import schema
from monitor.store.database import Database
from monitor.store.people import Certified, People
from tests.api_world import World, furnish, world
from tests.office import T0, Office

TIAN, BO = 1, 2
MINUTE_S, DAY = 60, 86_400_000


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(url=f"sqlite:///{tmp_path / 'fettle.db'}")
    for name, role in (("Bo", "technician"), ("Olga", "ops"), ("Mei", "manager")):
        office.registry.add_person(name, role, f"{name.lower()}@example.com", phone="", lang="en", customer=None,
                                   now=T0)  # fmt: skip
    yield office
    office.close()


def keep_rota(office: Office, *technicians: int) -> None:
    people = People(office.database, "test")
    for person_id in technicians:
        people.certify(person_id, [Certified("diesel_generator", T0 - DAY)], office.now)
        people.set_hours(person_id, [WorkingHours(day, 0, 1440) for day in EVERY_DAY], office.now)


def died(office: Office) -> int:
    return office.desk.report(Report("GX-1", "it died", "phone", stopped=True), "test", office.now)


def told(office: Office, kind: str) -> list[tuple[str, str]]:
    return [(row.recipient.partition("@")[0], row.body) for row in office.rows(schema.notice, kind=kind)]


def before_write(database: Database, do: Callable[[], object], number: int = 1) -> None:
    """Somebody else is quicker: between what was looked at and the next transaction for writing (or one after it)."""
    waits = [number]

    def quicker(connection: sa.Connection) -> None:
        if waits and connection.get_execution_options().get("writes"):
            waits[0] -= 1
            if not waits[0]:
                waits.clear()
                do()

    sa.event.listen(database.engine, "engine_connect", quicker)


# --- tickets that nobody was sought for ----------------------------------------------------------------------------


def test_somebody_is_sought_for_what_was_opened_before_the_rota_was_kept(office: Office) -> None:
    ticket_id = died(office)
    office.forward(5)
    assert office.rows(schema.move) == []
    keep_rota(office, TIAN)
    office.forward(61)
    assert [(row.what, row.person_id) for row in office.rows(schema.move, ticket_id=ticket_id)] == [("ask", TIAN)]


def test_nobody_is_sought_for_what_somebody_has_or_what_is_routine(office: Office) -> None:
    office.act(died(office), "dispatch", "accept")
    office.finds("silent", device="GX-1")
    keep_rota(office, TIAN, BO)
    office.forward(3 * MINUTE_S)
    assert office.rows(schema.move) == []


def test_whoever_was_sent_before_the_rota_is_asked_first(office: Office) -> None:
    office.act(died(office), "dispatch")
    keep_rota(office, TIAN, BO)
    office.forward(61)
    assert [(row.who, row.person_id) for row in office.rows(schema.move)] == [("named", TIAN)]


def test_without_a_rota_those_in_charge_hear_once_of_an_emergency_that_nobody_takes(office: Office) -> None:
    died(office)
    office.forward(14 * MINUTE_S, every_s=10)
    assert told(office, "untaken") == []
    office.forward(3 * MINUTE_S, every_s=10)
    office.open()
    office.forward(3 * MINUTE_S, every_s=10)
    heard = told(office, "untaken")
    assert sorted(name for name, _ in heard) == ["mei", "olga"]
    assert all("No rota is kept" in body for _, body in heard)


def test_without_a_rota_nobody_in_charge_is_bothered_with_what_was_taken(office: Office) -> None:
    office.act(died(office), "dispatch", "accept")
    office.forward(20 * MINUTE_S, every_s=10)
    assert told(office, "untaken") == []


# --- the audit -----------------------------------------------------------------------------------------------------


def audited(office: Office, what: str) -> list[tuple[str, str, object, object]]:
    return [(row.actor, row.subject, row.before, row.after) for row in office.rows(schema.audit, what=what)]


def test_whom_the_desk_asks_and_who_would_not_stands_in_the_audit(office: Office) -> None:
    keep_rota(office, TIAN, BO)
    ticket_id = died(office)
    office.forward(20)
    (first,) = [row.person_id for row in office.rows(schema.move, what="ask")]
    assert audited(office, "ticket_ask") == [(
        "desk", f"ticket:{ticket_id}", {"status": "open", "technician_id": None},
        {"status": "dispatched", "technician_id": first, "asked": [first]},
    )]  # fmt: skip
    office.forward(5 * MINUTE_S)
    second = TIAN + BO - first
    assert audited(office, "ticket_ask")[1][3] == {"status": "dispatched", "technician_id": second, "asked": [second]}
    office.desk.paging.decline(Offered(ticket_id, first), f"person:{first}", office.now)
    assert audited(office, "ticket_decline_ask") == [
        (f"person:{first}", f"ticket:{ticket_id}", {"asked": first}, {"declined": first})
    ]


# --- answers that come too late by a moment ------------------------------------------------------------------------


def offered(office: Office) -> Offered:
    keep_rota(office, TIAN)
    ticket_id = died(office)
    office.forward(20)
    return Offered(ticket_id, TIAN)


def send_bo(office: Office, ticket_id: int) -> Callable[[], None]:
    def send() -> None:
        keep_rota(office, BO)
        office.desk.act(ticket_id, Verb.DISPATCH, "test", office.now, technician_id=BO)

    return send


def test_a_yes_to_a_ticket_that_has_just_gone_to_somebody_else_is_none(office: Office) -> None:
    offer = offered(office)
    before_write(office.database, send_bo(office, offer.ticket_id))
    with pytest.raises(NotPossible, match="somebody else"):
        office.desk.paging.accept(offer, office.now)
    (ticket,) = office.tickets()
    assert (ticket.status, ticket.technician_id) == ("dispatched", BO)


def test_a_yes_stands_where_only_something_else_of_the_ticket_has_changed(office: Office) -> None:
    offer = offered(office)
    before_write(office.database, lambda: note(office, offer.ticket_id))
    office.desk.paging.accept(offer, office.now)
    (ticket,) = office.tickets()
    assert (ticket.status, ticket.technician_id) == ("accepted", TIAN)


def note(office: Office, ticket_id: int) -> None:
    with office.database.begin() as connection:
        c = schema.ticket.c
        connection.execute(sa.update(schema.ticket).where(c.id == ticket_id).values(revision=c.revision + 1))


def test_a_no_to_a_ticket_that_has_just_gone_to_somebody_else_takes_it_from_nobody(office: Office) -> None:
    offer = offered(office)
    # The first transaction finds that it is theirs, the second one is to give it back.
    before_write(office.database, send_bo(office, offer.ticket_id), number=2)
    with pytest.raises(NotPossible):
        office.desk.paging.decline(offer, f"person:{TIAN}", office.now)
    (ticket,) = office.tickets()
    assert (ticket.status, ticket.technician_id) == ("dispatched", BO)


@pytest.fixture
def company(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, at=T0) as company:
        furnish(company, readings=False)
        yield company


def test_a_technician_takes_no_step_with_a_ticket_that_has_just_gone_to_another(company: World) -> None:
    with company.client("technician") as tang, company.client("ops") as ops:
        assert tang.post("/api/v1/tickets/1/accept").status_code == 200

        def send_weber() -> None:
            assert ops.post("/api/v1/tickets/1/decline").status_code == 200
            assert ops.post("/api/v1/tickets/1/dispatch", json={"technician_id": 2}).status_code == 200

        before_write(company.database, send_weber)
        refused = tang.post("/api/v1/tickets/1/decline")
        assert refused.status_code == 403, refused.text
        row = ops.get("/api/v1/tickets/1").json()
        assert (row["status"], row["technician_id"]) == ("dispatched", 2)


def test_their_own_step_is_taken_though_the_ticket_has_changed_otherwise(company: World) -> None:
    with company.client("technician") as tang, company.client("ops") as ops:
        assert tang.post("/api/v1/tickets/1/accept").status_code == 200

        def link() -> None:
            assert ops.post("/api/v1/tickets/1/link", json={"other_id": 3}).status_code == 200

        before_write(company.database, link)
        assert tang.post("/api/v1/tickets/1/depart").status_code == 200
        tag = ops.get("/api/v1/tickets/1").headers["etag"]
        before_write(company.database, lambda: ops.post("/api/v1/tickets/1/link", json={"other_id": 2}))
        stale = tang.post("/api/v1/tickets/1/arrive", headers={"If-Match": tag})
        assert stale.status_code == 412
        assert ops.get("/api/v1/tickets/1").json()["status"] == "on_the_way"


def test_whether_a_rota_is_kept_is_said(company: World) -> None:
    with company.client("ops") as ops, company.client("customer") as customer, company.client() as nobody:
        assert ops.get("/api/v1/fleet/health").json()["rota_kept"] is False
        assert "fettle_rota_kept 0.0" in nobody.get("/metrics").text
        ops.post("/api/v1/people/1/certificates", json={"certificates": [{"profile": "diesel_generator"}]})
        ops.post("/api/v1/people/1/hours", json={"hours": [{"weekday": 0, "from_minute": 480, "until_minute": 960}]})
        assert ops.get("/api/v1/fleet/health").json()["rota_kept"] is True
        assert customer.get("/api/v1/fleet/health").json()["rota_kept"] is None
        assert "fettle_rota_kept 1.0" in nobody.get("/metrics").text
