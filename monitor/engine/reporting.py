"""The monthly report: built on the first working day of the month after, at 06:00 of the company's day, and told to
managers. Once a month, whoever ticks and however often; a service that was down then builds it when it is back.
Building takes long where the fleet is large: it has a tick of its own, so that no clock waits for it.

It is as of 06:00 and built a minute later, when whatever was being written then stands in the record: so it comes out
the same whenever it is built again.
"""

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.engine import Connection

from monitor.desk import notices
from monitor.desk.notices import Kind
from monitor.devices import Severity
from monitor.engine.spot_checking import month_of, opens_at
from monitor.fleet.maintenance import DAY_MS
from monitor.fleet.maintenance import shipped_policy as shipped_maintenance
from monitor.fleet.report import Report, as_json, months, report
from monitor.store import cases
from monitor.store import report as store

if TYPE_CHECKING:
    from monitor.engine.desk import Desk

log = structlog.get_logger()

REPORT_HOUR = 6
SETTLED_MS = 60_000
"""By then a transaction that was under way has ended, so nothing more comes to be recorded before it."""
CAUGHT_UP_MS = 10 * 60_000
"""After an outage the ledger is worked out anew first."""


def build(connection: Connection, month: str, as_of: int, desk: "Desk") -> Report:
    """A month's report as of a moment. Raises ValueError where there is no such month, or it had not begun then."""
    timezone = desk.addresses.timezone
    asked = asked_of(month, as_of, timezone)
    return report(asked.over, as_of, timezone, store.facts(connection, asked, desk.calendar))


def asked_of(month: str, as_of: int, timezone: str) -> store.Asked:
    """What is asked of the record for a month. Raises ValueError, as `build` does."""
    return store.Asked(months(month, as_of, timezone), as_of, shipped_maintenance().quarter_days * DAY_MS)


class Reporting:
    """Builds what is due. Everything takes `now` (epoch ms UTC)."""

    def __init__(self, desk: "Desk") -> None:
        self.desk = desk
        self._zone = ZoneInfo(desk.addresses.timezone)
        self._since: int | None = None
        """The first tick: what was to be built before it was missed."""
        self._done = ""
        """The month in which nothing is left to be built."""

    def tick(self, now: int) -> None:
        """Build the report of the month before, once the first working day's morning has come."""
        self._since = now if self._since is None else self._since
        calendar = self.desk.calendar("working", self.desk.addresses.timezone)
        month = month_of(calendar, now)
        if month == self._done:
            return
        opens = opens_at(calendar, month)
        as_of = None if opens is None else self._as_of(opens, now)
        if as_of is None:
            return
        self._build(self._month_before(month), as_of, now)
        self._done = month

    def _as_of(self, opens: int, now: int) -> int | None:
        """As of when the report is to be built now; None: not yet."""
        assert self._since is not None  # noqa: S101 (tick has set it)
        day = datetime.fromtimestamp(opens / 1000, UTC).astimezone(self._zone).date()
        morning = self._at(day)
        if now < morning + SETTLED_MS:
            return None
        if self._since <= morning:
            return morning
        return now - SETTLED_MS if now >= self._since + CAUGHT_UP_MS else None

    def _at(self, day: date) -> int:
        return round(datetime.combine(day, time(REPORT_HOUR), self._zone).timestamp() * 1000)

    @staticmethod
    def _month_before(month: str) -> str:
        year, number = map(int, month.split("-"))
        return f"{year - 1}-12" if number == 1 else f"{year}-{number - 1:02}"

    def _build(self, month: str, as_of: int, now: int) -> None:
        with self.desk.database.connect() as connection:
            start_at = months(month, as_of, self.desk.addresses.timezone).to_at
            if store.built(connection, month) or not store.had_machines(connection, start_at):
                return
            # What is read is as of a moment that is past: nobody need wait meanwhile.
            told = build(connection, month, as_of, self.desk)
        with self.desk.database.begin() as connection:
            if store.built(connection, month):
                return
            queued = self._notices(connection, told, now)
            store.insert(connection, month, as_of, as_json(told), now, sent=bool(queued))
            self.desk.telling.tell(connection, queued, now)
        log.info("report_built", month=month, as_of=as_of)

    def _notices(self, connection: Connection, told: Report, now: int) -> list[notices.Notice]:
        link = f"{self.desk.addresses.public_url}/reports/{told.month}"
        hearers = notices.recipients(Kind.MONTHLY_REPORT, cases.load_people(connection), None)
        figures = [
            notices.Figure(row.code, row.figure, row.target, row.met, row.n)
            for row in told.rows if row.measure != "none"
        ]  # fmt: skip
        texts = {lang: notices.write_monthly_report(lang, told.month, figures, link) for lang in notices.LANGS}
        return [
            notices.addressed(one, f"{Kind.MONTHLY_REPORT}:{told.month}:{one.key}", Kind.MONTHLY_REPORT,
                              texts[notices.language(one.lang)], now, severity=Severity.URGENT)
            for one in hearers
        ]  # fmt: skip
