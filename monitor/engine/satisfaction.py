"""A customer says how it was (P2): audited and told to the pages, in one transaction."""

from typing import NamedTuple

from monitor.fleet.satisfaction import may_answer
from monitor.store import cases, queries
from monitor.store import satisfaction as store
from monitor.store.database import Database
from monitor.store.queries import Scope
from monitor.store.registry import Conflict, write_audit


class Answer(NamedTuple):
    """Of one ticket, by the customer who was asked."""

    ticket_id: int
    customer_id: int
    satisfied: bool
    words: str
    lang: str


def answer(database: Database, said: Answer, actor: str, now: int) -> None:
    """Keep it. The same again changes nothing; another one within a week takes its place.

    Raises LookupError where this customer was not asked about the ticket, and Conflict where it is too late.
    """
    with database.begin() as connection:
        row = store.one(connection, said.ticket_id, said.customer_id, lock=True)
        ticket = queries.ticket_row(connection, Scope(now), said.ticket_id)
        if row is None or ticket is None:
            raise LookupError(f"customer {said.customer_id} was not asked about ticket {said.ticket_id}")
        score = int(said.satisfied)
        if (row.score, row.words) == (score, said.words):
            return
        if not may_answer(row.first_at, row.dealt_with_at, now):
            raise Conflict("an answer can be changed for seven days")
        store.answer(connection, row, score, said.words, said.lang, now)
        # Their words stand in one place only, where they can be taken out.
        write_audit(connection, now, actor, "satisfaction", f"ticket:{said.ticket_id}", {"score": row.score},
                    {"score": score})  # fmt: skip
        cases.note_change(connection, now, "ticket", ticket.device_id, said.ticket_id)
