"""The people of the simulated company: they take tickets on, arrive, repair, close, and now and then report something.

They act through the desk as the API does. What the database refuses them they have to do again some other time; what
is not possible (any more) they let be.
"""

from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from monitor.desk.tickets import Incomplete, NotPossible, Outcome, Resolution, Verb, allowed
from monitor.engine.desk import Changed, NoSuchTicket, Report
from monitor.engine.paging import Offered
from monitor.store import cases, schema
from monitor.store.hire import Hire
from monitor.store.registry import Conflict, Refused
from tests.simulation.lives import HOUR, MINUTE

if TYPE_CHECKING:
    from tests.simulation.service import Service

ONWARD = (
    Verb.VERIFY,
    Verb.DISPATCH,
    Verb.ACCEPT,
    Verb.DEPART,
    Verb.ARRIVE,
    Verb.START_REPAIR,
    Verb.RESOLVE,
    Verb.CLOSE,
)
ASIDE = (Verb.DECLINE, Verb.PAUSE, Verb.RESUME, Verb.CORRECT, Verb.CANCEL, Verb.REOPEN)
HOW: dict[Verb, dict[str, Any]] = {
    Verb.RESOLVE: {"resolution": Resolution("battery", "repaired", "wear")}, Verb.CANCEL: {"reason": "other"},
    Verb.VERIFY: {"note": "The starter"}, Verb.CLOSE: {"outcome": Outcome.REAL},
}  # fmt: skip
LET_BE = (NotPossible, Incomplete, Changed, NoSuchTicket, Conflict, Refused, LookupError, OperationalError)


class Crew:
    """Does something now and then. `share`: at how many steps of the world."""

    def __init__(self, rng: Random, share: float, machines: Sequence[str]) -> None:
        self._machines = machines
        self._rng = rng
        self._share = share

    def work(self, service: "Service", now: int) -> None:
        """Maybe do something, now (the service's clock)."""
        if self._rng.random() >= self._share:
            return
        doing = self._rng.choice(
            (self._go_on, self._go_on, self._go_on, self._answer, self._aside, self._aside, self._report, self._hire)
        )
        with suppress(*LET_BE):
            doing(service, now)

    def _go_on(self, service: "Service", now: int) -> None:
        self._step(service, now, ONWARD, closed=False)

    def _aside(self, service: "Service", now: int) -> None:
        self._step(service, now, ASIDE, closed=self._rng.random() < 0.2)

    def _step(self, service: "Service", now: int, verbs: tuple[Verb, ...], *, closed: bool) -> None:
        tickets = self._tickets(service, closed=closed)
        if not tickets:
            return
        row = self._rng.choice(tickets)
        with service.database.connect() as connection:
            found = cases.load_ticket(connection, row.id)
            possible = allowed(cases.ticket_of(connection, found), now) if found else []
        verb = next((one for one in verbs if one in possible), None) if verbs is ONWARD else self._any(verbs, possible)
        if verb is None:
            return
        how = dict(HOW.get(verb, {}))
        if verb in (Verb.DISPATCH, Verb.ACCEPT):
            how["technician_id"] = self._rng.randrange(1, 4)
        if verb is Verb.PAUSE:
            how |= {"reason": self._rng.choice(("no_access", "parts")), "until_at": now + 40 * MINUTE}
        service.desk.act(row.id, verb, "crew", now, **how)

    def _any(self, verbs: tuple[Verb, ...], possible: list[Verb]) -> Verb | None:
        found = [one for one in verbs if one in possible]
        return self._rng.choice(found) if found else None

    def _answer(self, service: "Service", now: int) -> None:
        c = schema.move.c
        with service.database.connect() as connection:
            asked = connection.execute(
                sa.select(c.ticket_id, c.person_id).where(c.what == "ask", c.person_id.is_not(None))
                .order_by(c.id.desc()).limit(5)
            ).all()  # fmt: skip
        if not asked:
            return
        one = self._rng.choice(asked)
        if self._rng.random() < 0.7:
            service.desk.paging.accept(Offered(one.ticket_id, one.person_id), now)
        else:
            service.desk.paging.decline(Offered(one.ticket_id, one.person_id), f"person:{one.person_id}", now)

    def _report(self, service: "Service", now: int) -> None:
        told = Report(self._rng.choice(self._machines), "It smokes", "phone", "Mr Li", self._rng.random() < 0.3)
        service.desk.report(told, "crew", now)

    def _hire(self, service: "Service", now: int) -> None:
        hire, device_id = Hire(service.database, "crew"), self._rng.choice(self._machines)
        c = schema.rental.c
        with service.database.connect() as connection:
            running = connection.execute(sa.select(c.id).where(c.device_id == device_id, c.ends_at.is_(None))).scalar()
        if running is None:
            hire.add_rental(device_id, now, None, now, customer_id=self._rng.randrange(1, 4))
        elif self._rng.random() < 0.3:
            hire.end_rental(running, now + self._rng.choice((0, HOUR)), now)

    def _tickets(self, service: "Service", *, closed: bool) -> list[Any]:
        c = schema.ticket.c
        ended = c.status.in_(("closed", "cancelled"))
        with service.database.connect() as connection:
            return list(connection.execute(sa.select(c.id).where(ended if closed else ~ended).order_by(c.id)))
