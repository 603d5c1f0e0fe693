"""Maintenance windows: time declared beforehand in which faults of a machine, or of a site's machines, call nobody."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.store import schema
from monitor.store.database import Database
from monitor.store.registry import Conflict, Refused, changing, check_text, refuse_stale, tag_of, write_audit

Row = sa.Row[*tuple[Any, ...]]

KINDS = ("maintenance", "transport")
LONGEST_MS = 92 * 86_400_000
"""A slip of the pen must not silence a machine for years."""


@dataclass(frozen=True, slots=True)
class Window:
    """[starts_at, ends_at) of one machine, or of all machines of one site."""

    what: str
    starts_at: int
    ends_at: int
    reason: str = ""
    device_id: str | None = None
    site_id: int | None = None


class Windows:
    """Commands about windows, each one transaction. `actor` is who gives them.

    What is held because of a window that ends early is looked at again with the next tick of the desk.
    """

    def __init__(self, database: Database, actor: str) -> None:
        self.database = database
        self.actor = actor

    def declare(self, window: Window, now: int) -> int:
        """Faults that are found within it are noted, and call nobody before its end. Answers its id."""
        _check(window, now)
        with changing(self.database) as connection:
            _check_place(connection, window)
            values = {
                "device_id": window.device_id, "site_id": window.site_id, "what": window.what,
                "starts_at": window.starts_at, "ends_at": window.ends_at,
            }  # fmt: skip
            kept = {**values, "reason": window.reason, "declared_by": self.actor, "declared_at": now}
            key = connection.execute(sa.insert(schema.maintenance_window).values(**kept)).inserted_primary_key
            window_id = int(key[0]) if key else 0
            write_audit(connection, now, self.actor, "window_declared", f"window:{window_id}", after=values)
            _tell_pages(connection, window.device_id, now)
        return window_id

    def cancel(self, window_id: int, now: int, *, seen: str | None = None) -> None:
        """It was declared by mistake, or will not be: one that is not over does not count any more."""
        with changing(self.database) as connection:
            row = _standing(connection, window_id, now, seen)
            self._change(connection, row, "window_cancelled", {"cancelled_at": now}, now)

    def end_now(self, window_id: int, now: int, *, seen: str | None = None) -> None:
        """The work is done, or the machine has arrived, sooner than was thought."""
        with changing(self.database) as connection:
            row = _standing(connection, window_id, now, seen)
            if row.starts_at >= now:
                raise Conflict(f"maintenance window {window_id} has not begun; it can be cancelled")
            self._change(connection, row, "window_ended", {"ends_at": now}, now)

    def _change(self, connection: Connection, row: Row, what: str, after: Mapping[str, Any], now: int) -> None:
        c = schema.maintenance_window.c
        connection.execute(sa.update(schema.maintenance_window).where(c.id == row.id).values(**after))
        before = {name: row._mapping[name] for name in after}
        write_audit(connection, now, self.actor, what, f"window:{row.id}", before, dict(after))
        _look_again(connection, row, now)
        _tell_pages(connection, row.device_id, now)


def _look_again(connection: Connection, row: Row, now: int) -> None:
    """What was held until the window's end is due now."""
    d, f = schema.device.c, schema.fault.c
    place = d.device_id == row.device_id if row.device_id is not None else d.site_id == row.site_id
    machines = sa.select(d.device_id).where(place)
    held = f.held_until == row.ends_at, f.cleared_at.is_(None), f.device_id.in_(machines)
    connection.execute(sa.update(schema.fault).where(*held).values(held_until=now))


# --- what is read --------------------------------------------------------------------------------------------------


def listed(
    connection: Connection, *, device_id: str | None = None, site_id: int | None = None, at: int | None = None,
    before: int | None = None, limit: int,
) -> list[Row]:  # fmt: skip
    """Windows, the newest first: those that concern a machine (its site's too), of a site, that count at a moment."""
    w, d = schema.maintenance_window.c, schema.device.c
    statement = sa.select(schema.maintenance_window).order_by(w.id.desc()).limit(limit)
    if device_id is not None:
        its_site = sa.select(d.site_id).where(d.device_id == device_id).scalar_subquery()
        statement = statement.where(sa.or_(w.device_id == device_id, w.site_id == its_site))
    if site_id is not None:
        statement = statement.where(w.site_id == site_id)
    if at is not None:
        statement = statement.where(w.starts_at <= at, w.ends_at > at, w.cancelled_at.is_(None))
    if before is not None:
        statement = statement.where(w.id < before)
    return list(connection.execute(statement))


def one(connection: Connection, window_id: int) -> Row | None:
    w = schema.maintenance_window
    return connection.execute(sa.select(w).where(w.c.id == window_id)).first()


# --- what is refused -----------------------------------------------------------------------------------------------


def _check(window: Window, now: int) -> None:
    if window.what not in KINDS:
        raise Refused(f"what {window.what!r}: allowed are {', '.join(KINDS)}")
    if window.reason:
        check_text("reason", window.reason, 200)
    if (window.device_id is None) == (window.site_id is None):
        raise Refused("device_id or site_id: exactly one of them is needed")
    if window.starts_at >= window.ends_at:
        raise Refused("ends_at: must lie after starts_at")
    if window.ends_at <= now:
        raise Refused("ends_at: must lie in the future")
    if window.ends_at - window.starts_at > LONGEST_MS:
        raise Refused(f"ends_at: a window lasts {LONGEST_MS // 86_400_000} days at most")


def _check_place(connection: Connection, window: Window) -> None:
    d, s = schema.device.c, schema.site.c
    machine = sa.select(d.device_id).where(d.device_id == window.device_id, d.retired_at.is_(None))
    site = sa.select(s.id).where(s.id == window.site_id)
    if connection.execute(machine if window.device_id is not None else site).first() is None:
        raise Refused(
            f"device_id: there is no machine {window.device_id!r}"
            if window.device_id is not None
            else f"site_id: there is no site {window.site_id}"
        )


def _standing(connection: Connection, window_id: int, now: int, seen: str | None) -> Row:
    """A window that is to come or runs. Raises LookupError, Conflict, or Stale where it was read as `seen`, and its tag
    is another one now."""
    w = schema.maintenance_window
    row = connection.execute(sa.select(w).where(w.c.id == window_id).with_for_update()).first()
    if row is None:
        raise LookupError(f"there is no maintenance window {window_id}")
    refuse_stale(f"maintenance window {window_id}", seen, tag_of(row))
    if row.cancelled_at is not None or row.ends_at <= now:
        raise Conflict(f"maintenance window {window_id} is {'cancelled' if row.cancelled_at is not None else 'over'}")
    return row


def _tell_pages(connection: Connection, device_id: str | None, now: int) -> None:
    connection.execute(sa.insert(schema.change).values(at=now, what="window", device_id=device_id, ticket_id=None))
