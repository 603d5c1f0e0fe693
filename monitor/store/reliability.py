"""What the figures of reliability are reckoned from (monitor/fleet/reliability.py): the SQL."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.tickets import ARRANGED, Outcome, Status, Verb
from monitor.devices import Profile, Severity
from monitor.fleet.reliability import (
    DAY_MS,
    NONE,
    Facts,
    Failure,
    Fault,
    InService,
    Metered,
    Policy,
    Repair,
    component_of,
    in_service,
)
from monitor.store import schema

Row = sa.Row[*tuple[Any, ...]]

t, p, d, y, r = schema.ticket.c, schema.step.c, schema.device.c, schema.stay.c, schema.rental.c
IS_FAILURE = (
    t.device_id.is_not(None),
    t.severity.in_([severity.value for severity in Severity if severity.makes_bad]),
    t.status != Status.CANCELLED,
    t.merged_into.is_(None),
    sa.or_(t.outcome.is_(None), t.outcome != Outcome.NUISANCE),
)
"""Of severity urgent or higher, neither cancelled nor merged away, and not a nuisance."""
COUNTED = (Verb.ACCEPT, Verb.DECLINE, Verb.START_REPAIR, Verb.RESOLVE, Verb.REOPEN)
"""The steps that figures are reckoned from."""


class By(StrEnum):
    """What figures are told by."""

    PROFILE = "profile"
    SITE = "site"
    CUSTOMER = "customer"


@dataclass(frozen=True)
class Period:
    """[from_at, to_at), asked at `as_of`: what lies after that has not been."""

    from_at: int
    to_at: int
    as_of: int

    @property
    def end_at(self) -> int:
        return min(self.to_at, self.as_of)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a ticket that counts (none that was taken back), in the order in which they were taken."""

    verb: str
    to_status: str
    turn: int
    happened_at: int


@dataclass(frozen=True, slots=True)
class Course:
    """What a ticket's steps tell: when a technician was arranged, its repairs (begun, resolved), its reopenings."""

    arranged_at: int | None = None
    repairs: Sequence[tuple[int | None, int]] = ()
    reopened: Sequence[int] = ()


def load(
    connection: Connection, period: Period, by: By, policy: Policy, profiles: Mapping[str, Profile]
) -> Facts:  # fmt: skip
    """All that the figures of a period are reckoned from."""
    sensors = {name: _sensors(profile) for name, profile in profiles.items()}
    courses, untouched = _courses(connection, period), Course()
    failures: list[Failure] = []
    repairs: list[Repair] = []
    openings = _openings(connection, period, policy)
    for row in _tickets(connection, period):
        course = courses.get(row.id, untouched)
        if period.from_at <= row.opened_at < period.end_at:
            failures.append(_failure(row, course, by, sensors, period.as_of))
        repairs += [
            Repair(row.id, _fault(row), _group(row, by), resolved_at, begun_at)
            for begun_at, resolved_at in course.repairs if period.from_at <= resolved_at < period.end_at
        ]  # fmt: skip
        # A ticket that was opened again is its fault come back, too.
        openings += [(_fault(row), at) for at in course.reopened]
    service = list(_service(connection, period, by))
    return Facts(failures, repairs, service, list(_metered(connection, period, service)), openings)


def names(connection: Connection, by: By) -> dict[str, str]:
    """What the groups are called, by their key."""
    if by is By.PROFILE:
        return {}
    table = schema.site if by is By.SITE else schema.customer
    return {str(row.id): row.name for row in connection.execute(sa.select(table.c.id, table.c.name))}


# --- tickets -------------------------------------------------------------------------------------------------------


def _within(column: sa.ColumnElement[Any], from_at: int, to_at: int) -> sa.ColumnElement[bool]:
    return sa.and_(column >= from_at, column < to_at)


def _wanted(period: Period) -> tuple[sa.ColumnElement[bool], ...]:
    """Failures that were opened or resolved in the period; those that were reopened may have been resolved before.
    Each of them is found by an index of its own."""
    found = sa.union(
        sa.select(t.id).where(_within(t.opened_at, period.from_at, period.end_at)),
        sa.select(t.id).where(_within(t.resolved_at, period.from_at, period.end_at)),
        sa.select(t.id).where(t.turn > 0),
    )
    return (*IS_FAILURE, t.opened_at < period.end_at, t.id.in_(found))


def _tickets(connection: Connection, period: Period) -> Iterator[Row]:
    # As text: what a controller says is its number need not fit into one of the database's.
    spn = t.evidence["spn"].as_string().label("spn")
    yield from connection.execute(
        sa.select(t.id, t.device_id, t.kind, t.subject, t.opened_at, t.cleared_at, t.resolved_at, t.site_id,
                  t.resolution_cause, spn, r.customer_id, d.profile)
        .join(schema.device, d.device_id == t.device_id)
        .outerjoin(schema.rental, r.id == t.rental_id)
        .where(*_wanted(period))
    )  # fmt: skip


def _courses(connection: Connection, period: Period) -> dict[int, Course]:
    """By ticket, from the steps that count; one ticket's steps are in hand at a time."""
    rows = connection.execute(
        sa.select(p.ticket_id, p.event, p.to_status, p.turn, p.happened_at)
        .join(schema.ticket, t.id == p.ticket_id)
        .where(*_wanted(period), p.corrected_by.is_(None), p.event.in_(COUNTED), p.happened_at < period.as_of)
        .order_by(p.ticket_id, p.id)
    )  # fmt: skip
    found = {}
    for ticket_id, own in groupby(rows, key=itemgetter(0)):
        steps = [Step(*row[1:]) for row in own]
        reopened = [step.happened_at for step in steps if step.verb == Verb.REOPEN]
        found[ticket_id] = Course(arranged_at(steps), repairs_of(steps), reopened)
    return found


def arranged_at(steps: Iterable[Step]) -> int | None:
    """When the technician who came was first arranged: who gave the ticket back does not count. Only its first turn:
    whoever reopens a ticket has waited already."""
    found: int | None = None
    for step in steps:
        if step.turn:
            break
        if step.verb == Verb.DECLINE:
            found = None
        elif found is None and step.to_status in ARRANGED:
            found = step.happened_at
    return found


def repairs_of(steps: Iterable[Step]) -> list[tuple[int | None, int]]:
    """(begun, resolved) of each time that a ticket was resolved."""
    begun: int | None = None
    found: list[tuple[int | None, int]] = []
    for step in steps:
        if step.verb == Verb.START_REPAIR and begun is None:
            begun = step.happened_at
        elif step.verb == Verb.RESOLVE:
            found.append((begun, step.happened_at))
            begun = None
    return found


def _failure(row: Row, course: Course, by: By, sensors: Mapping[str, Mapping[int, str]], as_of: int) -> Failure:
    """As it stood at `as_of`, as far as the record still tells."""
    ends = [at for at in (row.cleared_at, row.resolved_at) if at is not None and at < as_of]
    known = row.resolved_at is not None and row.resolved_at < as_of
    return Failure(
        row.id, _fault(row), _group(row, by), row.profile,
        component_of(row.kind, row.subject, _number(row.spn), sensors.get(row.profile, {})), row.opened_at,
        row.resolution_cause if known else None, course.arranged_at, min(ends) if ends else None,
    )  # fmt: skip


def _number(said: str | None) -> int | None:
    return int(said) if said is not None and said.isascii() and said.isdigit() and len(said) < 10 else None


def _fault(row: Row) -> Fault:
    return row.device_id, row.kind, row.subject


def _group(row: Row, by: By) -> str:
    if by is By.PROFILE:
        return str(row.profile)
    key = row.site_id if by is By.SITE else row.customer_id
    return NONE if key is None else str(key)


def _openings(connection: Connection, period: Period, policy: Policy) -> list[tuple[Fault, int]]:
    until = min(period.end_at + policy.repeat_days * DAY_MS + 1, period.as_of)
    rows = connection.execute(
        sa.select(t.device_id, t.kind, t.subject, t.opened_at)
        .where(*IS_FAILURE, _within(t.opened_at, period.from_at, until))
    )  # fmt: skip
    return [(_fault(row), row.opened_at) for row in rows]


def _sensors(profile: Profile) -> dict[int, str]:
    return {sensor.spn: sensor.name for sensor in profile.sensors if sensor.spn is not None}


# --- time in service -----------------------------------------------------------------------------------------------


def _service(connection: Connection, period: Period, by: By) -> Iterator[InService]:
    """Every machine's calendar time from its adding to its retirement, within the period, by group."""
    parts = _stood(connection, period) if by is By.SITE else _hired(connection, period) if by is By.CUSTOMER else {}
    rows = connection.execute(
        sa.select(d.device_id, d.profile, d.added_at, d.retired_at, d.site_id).where(
            d.added_at < period.end_at, sa.or_(d.retired_at.is_(None), d.retired_at > period.from_at)
        )
    )
    for row in rows:
        ends = period.end_at if row.retired_at is None else min(row.retired_at, period.end_at)
        owned = max(row.added_at, period.from_at), ends
        if by is By.PROFILE:
            own = [(*owned, str(row.profile))]
        elif by is By.SITE and row.device_id not in parts and row.site_id is not None:
            own = [(*owned, str(row.site_id))]
        else:
            own = parts.get(row.device_id, [])
        yield from in_service(row.device_id, owned, own)


def _stood(connection: Connection, period: Period) -> dict[str, list[tuple[int, int, str]]]:
    """Where machines stood: each stay ends where the next one begins."""
    rows = connection.execute(
        sa.select(y.device_id, y.site_id, y.from_at)
        .where(y.from_at < period.end_at).order_by(y.device_id, y.from_at.desc(), y.id.desc())
    )  # fmt: skip
    found: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    ends: dict[str, int] = {}
    for row in rows:
        until = ends.get(row.device_id, period.end_at)
        found[row.device_id].append((row.from_at, until, NONE if row.site_id is None else str(row.site_id)))
        ends[row.device_id] = row.from_at
    return found


def _hired(connection: Connection, period: Period) -> dict[str, list[tuple[int, int, str]]]:
    rows = connection.execute(
        sa.select(r.device_id, r.customer_id, r.starts_at, r.ends_at).where(
            r.starts_at < period.end_at, sa.or_(r.ends_at.is_(None), r.ends_at > period.from_at)
        )
    )
    found: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for row in rows:
        until = period.end_at if row.ends_at is None else row.ends_at
        found[row.device_id].append((row.starts_at, until, str(row.customer_id)))
    return found


# --- by the hour meter ---------------------------------------------------------------------------------------------


def _metered(connection: Connection, period: Period, service: Iterable[InService]) -> Iterator[Metered]:
    """What each machine's meter ran between its first and its last reading of the period that is not in doubt. One
    that was under several groups meanwhile counts in none of them, but in the whole."""
    groups: dict[str, set[str]] = defaultdict(set)
    for one in service:
        groups[one.device_id].add(one.group)
    first, last = (schema.meter_reading.alias(name) for name in ("first", "last"))
    rows = connection.execute(
        sa.select(d.device_id, first.c.at, last.c.at, last.c.total_h - first.c.total_h)
        .select_from(schema.device)
        .join(first, first.c.id == _reading(period, latest=False))
        .join(last, last.c.id == _reading(period, latest=True))
        .where(first.c.at < last.c.at)
    )  # fmt: skip
    for device_id, from_at, to_at, hours in rows:
        of = groups.get(device_id, set())
        yield Metered(device_id, next(iter(of)) if len(of) == 1 else "", from_at, to_at, max(0.0, hours))


def _reading(period: Period, *, latest: bool) -> sa.ScalarSelect[int]:
    """A machine's first or last reading of the period: two steps of an index, however many readings there are."""
    m = schema.meter_reading.c
    return (
        sa.select(m.id)
        .where(m.device_id == d.device_id, _within(m.at, period.from_at, period.end_at), m.doubt == "")
        .order_by(m.at.desc() if latest else m.at).limit(1).correlate(schema.device).scalar_subquery()
    )  # fmt: skip
