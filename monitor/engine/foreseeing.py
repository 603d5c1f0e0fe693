"""Foreseeing: which promises will hardly be kept as things stand, told to operations once, before they are broken."""

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from monitor.desk import notices
from monitor.desk.feasibility import Forecast, Outlook
from monitor.desk.notices import Kind
from monitor.desk.reasons import exchange_in_words, in_words, other_in_words
from monitor.engine.dispatching import Dispatching
from monitor.store import cases, paging, people

if TYPE_CHECKING:
    from monitor.engine.desk import Desk

PACE_MS = 10_000
CLOCKS_A_LOOK = 20
"""So many clocks are looked at every PACE_MS, those that were not looked at for the longest first."""
LOOK_EVERY_MS = 60_000


class Foreseeing:
    """Looks at running promises again and again."""

    def __init__(self, desk: "Desk", dispatching: Dispatching) -> None:
        self.desk = desk
        self.dispatching = dispatching
        self._looked_at = 0

    def tick(self, now: int) -> None:
        """Warn operations of promises that are newly in doubt. A company that keeps no rota has nothing to tell by."""
        if abs(now - self._looked_at) < PACE_MS:
            return
        self._looked_at = now
        with self.desk.database.connect() as connection:
            if not people.keeps_rota(connection):
                return
            found = paging.to_foresee(connection, now - LOOK_EVERY_MS, now, CLOCKS_A_LOOK)
            if not found:
                return
            feared = self._feared(connection, {ticket_id for ticket_id, _, _ in found}, now)
        with self.desk.database.begin() as connection:
            paging.note_foreseen(connection, found, now)
            for ticket_id, turn, forecast in feared:
                row = cases.load_ticket(connection, ticket_id)
                if row is not None and paging.note_feared(connection, ticket_id, forecast.clock.kind, turn, now):
                    self._warn(connection, row, forecast, now)

    def _feared(
        self, connection: Connection, ticket_ids: Collection[int], now: int
    ) -> list[tuple[int, int, Forecast]]:  # fmt: skip
        """(ticket, turn, forecast) of the promises that will hardly be kept."""
        crew = self.dispatching.crew(connection, now)
        rows = paging.read_tickets(connection, ticket_ids)
        foreseen = [(row, one) for row in rows for one in self.dispatching.foresee(connection, row, crew, now)]
        return [(row.id, row.turn, one) for row, one in foreseen if one.outlook is Outlook.AT_RISK]

    def _warn(self, connection: Connection, row: cases.Row, forecast: Forecast, now: int) -> None:
        clocks = cases.load_commitments(connection, row.id)
        promise = next(one for one in clocks if (one.kind, one.turn) == (forecast.clock.kind, row.turn))
        facts = self.desk.ticket_facts(connection, row, now)[0]
        names = people.names(connection, [one.person_id for one in forecast.others])
        said = {lang: _lines(forecast, names, lang, facts.timezone) for lang in notices.LANGS}
        hearers = [person for person in cases.load_people(connection) if person.role == "ops"]
        name = f"{promise.kind}-{row.turn}"
        told = [
            notices.notice_to(person, Kind.AT_RISK, name, replace(facts, said=said), now, promise) for person in hearers
        ]
        self.desk.telling.tell(connection, told, now)
        cases.note_change(connection, now, "ticket", row.device_id, row.id)


def _lines(forecast: Forecast, names: dict[int, str], lang: str, timezone: str) -> list[str]:
    reasons = [in_words(reason, lang, timezone) for reason in forecast.reasons]
    others = [other_in_words(one, names.get(one.person_id, f"#{one.person_id}"), lang) for one in forecast.others]
    return [*reasons, *others, *(exchange_in_words(one, lang) for one in forecast.exchanges)]
