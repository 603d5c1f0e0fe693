"""Paging on PostgreSQL: of many who answer or look at the same moment, one does it."""

import threading
from collections.abc import Callable, Iterator

import pytest

from monitor.desk.rota import EVERY_DAY, Rotation, WorkingHours
from monitor.desk.tickets import NotPossible, Verb
from monitor.engine.desk import Report
from monitor.store import schema
from monitor.store.people import Certified, People
from tests.e2e.postgres import postgresql
from tests.office import T0, Office

TEN = range(10)
DAY = 86_400_000


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    """Eleven technicians, each certified and at work, and each on call in a line of their own."""
    with postgresql() as url:
        office = Office(url=url)
        people = People(office.database, "test")
        for n in TEN:
            office.registry.add_person(f"T{n}", "technician", f"t{n}@example.com", phone="", lang="en", customer=None,
                                       now=T0)  # fmt: skip
        for row in office.rows(schema.person):
            people.certify(row.id, [Certified("diesel_generator", T0 - DAY)], T0)
            people.set_hours(row.id, [WorkingHours(day, 0, 1440) for day in EVERY_DAY], T0)
            people.add_rotation(f"Line {row.id}", Rotation(0, "Asia/Shanghai", (row.id,), 24, 0, 480, T0 - DAY), T0)
        yield office
        office.close()


def at_once(does: Callable[[int], None]) -> list[BaseException | None]:
    """Ten threads begin the same together; answers what each ended with."""
    start, ended = threading.Barrier(len(TEN)), dict.fromkeys(TEN)

    def run(n: int) -> None:
        start.wait()
        try:
            does(n)
        except NotPossible as refusal:
            ended[n] = refusal

    threads = [threading.Thread(target=run, args=(n,)) for n in TEN]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return list(ended.values())


def test_ten_who_look_at_the_same_moment_ask_each_once_and_ten_who_accept_are_one(office: Office) -> None:
    ticket_id = office.desk.report(Report("GX-1", "it died", "phone", stopped=True), "test", T0)
    for minute in (1, 6, 12):
        now = T0 + minute * 60_000
        assert at_once(lambda _, now=now: office.desk.paging.tick(now)) == [None] * 10
    asks = office.rows(schema.move, what="ask")
    assert len(asks) == 2 + 11
    notices = office.rows(schema.notice, kind="dispatch_alert")
    assert len(notices) == len({row.cause for row in notices}) == 13
    assert office.rows(schema.ticket, id=ticket_id)[0].status == "dispatched"

    def accept(n: int) -> None:
        office.desk.act(ticket_id, Verb.ACCEPT, f"person:{n + 1}", now, technician_id=n + 1)

    refused = [one for one in at_once(accept) if one is not None]
    assert len(refused) == 9
    (step,) = office.rows(schema.step, ticket_id=ticket_id, event="accept")
    (ticket,) = office.rows(schema.ticket, id=ticket_id)
    assert (ticket.status, ticket.technician_id) == ("accepted", step.technician_id)
    taken = office.rows(schema.notice, kind="taken")
    assert len(taken) == len({row.person_id for row in taken}) == 10
    assert step.technician_id not in {row.person_id for row in taken}
