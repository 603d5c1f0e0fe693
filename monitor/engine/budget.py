"""Warns in time that a month will miss its availability (E1): while there is still something to be done about it."""

from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from monitor.desk import notices
from monitor.desk.notices import Kind
from monitor.devices import Severity
from monitor.fleet.availability import Pace, month_pace
from monitor.store import cases, ledger

if TYPE_CHECKING:
    from monitor.engine.desk import Desk

PACE_MS = 3_600_000


class Budget:
    """Looks once an hour at how the month goes; those in charge hear of each group once a month."""

    def __init__(self, desk: "Desk") -> None:
        self.desk = desk
        self._looked_at = 0

    def tick(self, now: int) -> None:
        if abs(now - self._looked_at) < PACE_MS:
            return
        self._looked_at = now
        with self.desk.database.connect() as connection:
            paces = {of: self._pace(connection, now, hired=of == "on_hire") for of in ("fleet", "on_hire")}
        for of, found in paces.items():
            if found.misses:
                self._warn(of, found, now)

    def _pace(self, connection: Connection, now: int, *, hired: bool) -> Pace:
        timezone = self.desk.addresses.timezone
        lately = ledger.spent_lately(connection, now, timezone, hired=hired)
        return month_pace(lately, ledger.machines(connection, hired=hired), now, timezone)

    def _warn(self, of: str, found: Pace, now: int) -> None:
        addresses = self.desk.addresses
        with self.desk.database.begin() as connection:
            hearers = notices.recipients(Kind.AVAILABILITY_AT_RISK, cases.load_people(connection), None)
            texts = {
                lang: notices.write_availability(
                    lang, of, found.month, target=found.target, lower=found.lower or 0.0, left=found.left_share or 0.0,
                    burn=found.burn_rate or 0.0, link=f"{addresses.public_url}/",
                )
                for lang in notices.LANGS
            }  # fmt: skip
            told = [
                notices.addressed(one, f"{Kind.AVAILABILITY_AT_RISK}:{found.month}:{of}:{one.key}",
                                  Kind.AVAILABILITY_AT_RISK, texts[one.lang], now, severity=Severity.URGENT)
                for one in hearers
            ]  # fmt: skip
            self.desk.telling.tell(connection, told, now)
