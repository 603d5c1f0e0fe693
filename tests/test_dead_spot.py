"""Steps that were taken where a phone has no signal: the time of the step counts, not that of the sending."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.desk.rota import EVERY_DAY, WorkingHours
from monitor.desk.tickets import NotPossible, Verb
from monitor.engine.desk import Report
from monitor.engine.paging import Offered
from monitor.store import schema
from monitor.store.people import Certified, People
from tests.office import T0, Office

TIAN, BO = 1, 2
MINUTE, MINUTE_S, DAY = 60_000, 60, 86_400_000


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(url=f"sqlite:///{tmp_path / 'fettle.db'}")
    office.registry.add_person("Bo", "technician", "bo@example.com", phone="", lang="en", customer=None, now=T0)
    people = People(office.database, "test")
    for person_id in (TIAN, BO):
        people.certify(person_id, [Certified("diesel_generator", T0 - DAY)], office.now)
        people.set_hours(person_id, [WorkingHours(day, 0, 1440) for day in EVERY_DAY], office.now)
    yield office
    office.close()


def accepted(office: Office) -> tuple[int, int, int]:
    """An emergency that somebody has accepted: the ticket, who did, and who else there is."""
    ticket_id = office.desk.report(Report("GX-1", "it died", "phone", stopped=True), "test", office.now)
    office.forward(20)
    (first,) = [row.person_id for row in office.rows(schema.move, what="ask")]
    office.desk.paging.accept(Offered(ticket_id, first), office.now)
    return ticket_id, first, TIAN + BO - first


def stands(office: Office) -> tuple[str, int | None]:
    (ticket,) = office.tickets()
    return ticket.status, ticket.technician_id


def says(office: Office, ticket_id: int, verb: Verb, person_id: int, happened_at: int) -> None:
    office.desk.act(
        ticket_id, verb, f"person:{person_id}", office.now, happened_at=happened_at, technician_id=person_id
    )


def test_who_had_gone_before_the_acceptance_expired_keeps_the_ticket(office: Office) -> None:
    ticket_id, first, other = accepted(office)
    left_at = office.now + 10 * MINUTE
    office.forward(31 * MINUTE_S, every_s=600)
    assert stands(office) == ("dispatched", other), "the desk has heard nothing, and asks somebody else"
    says(office, ticket_id, Verb.DEPART, first, left_at)
    assert stands(office) == ("on_the_way", first)
    (left,) = office.rows(schema.step, event="depart")
    assert (left.happened_at, left.recorded_at) == (left_at, office.now)
    (expired,) = office.rows(schema.step, event="decline")
    (undone,) = office.rows(schema.step, event="correct")
    assert expired.corrected_by == undone.id, "the record keeps both"
    (dispatch,) = office.rows(schema.commitment, kind="dispatch")
    assert dispatch.met_at is not None, "somebody was arranged all the time"
    assert [row.recipient.partition("@")[0] for row in office.rows(schema.notice, kind="taken")] == [
        {TIAN: "tian", BO: "bo"}[other]
    ]
    office.forward(60 * MINUTE_S, every_s=600)
    assert stands(office) == ("on_the_way", first), "the time to arrive begins with what is known now"


def test_a_breach_that_was_none_is_taken_back(office: Office) -> None:
    ticket_id, first, _other = accepted(office)
    left_at = office.now + 10 * MINUTE
    office.forward(62 * MINUTE_S, every_s=600)
    (dispatch,) = office.rows(schema.commitment, kind="dispatch")
    assert dispatch.breached_at is not None
    says(office, ticket_id, Verb.ARRIVE, first, left_at)
    (dispatch,) = office.rows(schema.commitment, kind="dispatch")
    assert (dispatch.breached_at, dispatch.met_at is None) == (None, False)
    assert len(office.rows(schema.amendment)) == 1


def test_who_went_only_after_it_had_expired_has_it_no_more(office: Office) -> None:
    ticket_id, first, other = accepted(office)
    (accept,) = office.rows(schema.step, event="accept")
    office.forward(31 * MINUTE_S, every_s=600)
    for late in (accept.happened_at + 30 * MINUTE, office.now):
        with pytest.raises((NotPossible, ValueError)):
            says(office, ticket_id, Verb.DEPART, first, late)
    assert stands(office) == ("dispatched", other)


def test_nobody_takes_a_ticket_back_from_who_has_accepted_it_since(office: Office) -> None:
    ticket_id, first, other = accepted(office)
    left_at = office.now + 10 * MINUTE
    office.forward(31 * MINUTE_S, every_s=600)
    office.desk.paging.accept(Offered(ticket_id, other), office.now)
    with pytest.raises((NotPossible, ValueError)):
        says(office, ticket_id, Verb.DEPART, first, left_at)
    assert stands(office) == ("accepted", other)


def test_nobody_else_goes_on_with_an_acceptance_that_was_not_theirs(office: Office) -> None:
    ticket_id, _first, other = accepted(office)
    left_at = office.now + 10 * MINUTE
    office.forward(31 * MINUTE_S, every_s=600)
    with pytest.raises((NotPossible, ValueError)):
        says(office, ticket_id, Verb.DEPART, other, left_at)


def test_an_answer_counts_from_when_it_was_given_though_others_were_asked_since(office: Office) -> None:
    ticket_id = office.desk.report(Report("GX-1", "it died", "phone", stopped=True), "test", office.now)
    office.forward(20)
    (first,) = [row.person_id for row in office.rows(schema.move, what="ask")]
    said_at = office.now
    office.forward(6 * MINUTE_S, every_s=10)
    assert stands(office) == ("dispatched", TIAN + BO - first)
    says(office, ticket_id, Verb.ACCEPT, first, said_at)
    assert stands(office) == ("accepted", first)
    (dispatch,) = office.rows(schema.commitment, kind="dispatch")
    assert dispatch.met_at == said_at


def test_a_diagnosis_that_was_written_meanwhile_stands_in_nobodys_way(office: Office) -> None:
    ticket_id, first, _other = accepted(office)
    left_at = office.now + 5 * MINUTE
    office.forward(8 * MINUTE_S, every_s=600)
    office.desk.act(ticket_id, Verb.VERIFY, "person:3", office.now, note="it is the starter, take one along")
    office.forward(60)
    says(office, ticket_id, Verb.DEPART, first, left_at)
    assert stands(office) == ("on_the_way", first)


def test_a_diagnosis_that_was_written_after_the_expiry_stands_in_nobodys_way_either(office: Office) -> None:
    ticket_id, first, other = accepted(office)
    left_at = office.now + 10 * MINUTE
    office.forward(31 * MINUTE_S, every_s=600)
    assert stands(office) == ("dispatched", other)
    office.desk.act(ticket_id, Verb.VERIFY, "person:3", office.now, note="it is the starter, take one along")
    says(office, ticket_id, Verb.DEPART, first, left_at)
    assert stands(office) == ("on_the_way", first)
    (undone,) = office.rows(schema.step, event="correct")
    (expired,) = office.rows(schema.step, event="decline")
    (written,) = office.rows(schema.step, event="verify")
    assert (expired.corrected_by, written.corrected_by) == (undone.id, None), "the diagnosis is kept"


def test_taking_back_a_diagnosis_brings_back_nothing_that_was_taken_back_before(office: Office) -> None:
    ticket_id, first, _other = accepted(office)
    left_at = office.now + 10 * MINUTE
    office.forward(31 * MINUTE_S, every_s=600)
    office.desk.act(ticket_id, Verb.VERIFY, "person:3", office.now, note="it is the starter, take one along")
    says(office, ticket_id, Verb.DEPART, first, left_at)
    for _ in range(2):
        office.desk.act(ticket_id, Verb.CORRECT, "person:3", office.now)
    assert stands(office) == ("accepted", first)
