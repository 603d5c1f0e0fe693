"""The monthly spot check (E6): on the first working day of each month machines in use are drawn, and each is a work
order. Once a month, whoever ticks and however often; a service that was down then draws when it is back."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import structlog
from sqlalchemy.engine import Connection

from monitor.desk.working_time import Calendar, calendar_named
from monitor.desk.working_time import shipped_policy as shipped_hours
from monitor.fleet.spot_checks import DAY_MS, Draw, Policy, draw, shipped_policy
from monitor.store import cases, inspections, maintenance
from monitor.store.database import Database
from monitor.store.registry import write_audit

log = structlog.get_logger()

SPOT_CHECKS = "spot-checks"
"""The actor of what the draw does."""
TITLE_EN, TITLE_ZH = "Spot check where it works", "在用抽查"


@dataclass
class SpotChecking:
    """Draws what is due. `timezone`: the company's; its months and working days are meant."""

    database: Database
    timezone: str
    policy: Policy = field(default_factory=shipped_policy)
    _drawn: str = ""
    """The month that is known to be drawn: nothing is asked of the database until the next one."""

    def tick(self, now: int) -> int:
        """Draw the month's spot check, once its first working day has begun. Answers how many orders were opened."""
        calendar = calendar_named("working", shipped_hours(), self.timezone)
        month = month_of(calendar, now)
        if month == self._drawn:
            return 0
        opens = opens_at(calendar, month)
        if opens is None or now < opens:
            return 0
        with self.database.begin() as connection:
            opened = self._draw(connection, month, now) if inspections.drawn(connection, month) is None else 0
        self._drawn = month
        return opened

    def _draw(self, connection: Connection, month: str, now: int) -> int:
        found = draw(inspections.in_use(connection, now), month, now, self.policy)
        draw_id = inspections.insert_draw(connection, found)
        for device_id in found.machines:
            maintenance.insert_order(connection, **self._order(device_id, draw_id, now))
            cases.note_change(connection, now, "work_order", device_id, None)
        write_audit(connection, now, SPOT_CHECKS, "spot_check_drawn", f"spot_check:{month}", after={
            "frame": found.frame, "drawn": len(found.machines), "fingerprint": found.fingerprint,
        })  # fmt: skip
        log.info("spot_check_drawn", month=month, frame=found.frame, drawn=len(found.machines))
        return len(found.machines)

    def _order(self, device_id: str, draw_id: int, now: int) -> dict[str, object]:
        return {
            "kind": inspections.SPOT_CHECK, "device_id": device_id, "title_en": TITLE_EN, "title_zh": TITLE_ZH,
            "reason": "draw", "due_at": now + self.policy.within_days * DAY_MS, "opened_at": now,
            "opened_by": SPOT_CHECKS, "checklist": [], "draw_id": draw_id, "recorded_at": now,
        }  # fmt: skip


def drawn_again(connection: Connection, recorded: inspections.Row, policy: Policy) -> Draw:
    """The same month drawn anew from what the record says now of that moment. Where it is another sample, rentals of
    that time were changed since, or somebody tampered with it: the fingerprint tells which."""
    return draw(inspections.in_use(connection, recorded.at), recorded.month, recorded.at, policy)


def month_of(calendar: Calendar, at: int) -> str:
    """The month (`2026-11`) on the wall of a working calendar."""
    return next(f"{day.on:%Y-%m}" for day in calendar.days(at, at))


def opens_at(calendar: Calendar, month: str) -> int | None:
    """When the first working day of a month opens; None: it has none."""
    first = date.fromisoformat(f"{month}-01")
    # A day to either side, whatever the calendar's zone; the days themselves say which month they are of.
    from_at = int(datetime(first.year, first.month, 1, tzinfo=UTC).timestamp() * 1000) - DAY_MS
    days = calendar.days(from_at, from_at + 33 * DAY_MS)
    return next((day.spells[0].opens_at for day in days if day.spells and f"{day.on:%Y-%m}" == month), None)
