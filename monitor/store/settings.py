"""How much the company has set up: counts over its registers. Read-only."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.store import schema

DAY_MS = 86_400_000
ANY = ""
"""In place of a model: certificates are kept at all."""


@dataclass(frozen=True, slots=True)
class Counts:
    """People who have not left by role, sites, customers."""

    people: dict[str, int]
    sites: int
    remote_sites: int
    sites_nowhere: int
    """Of which it is not known where on earth they are, though machines stand there."""
    customers: int
    sessions: int
    tokens: int


def counts(connection: Connection, now: int) -> Counts:
    p, s, d = schema.person.c, schema.site.c, schema.device.c
    people = connection.execute(sa.select(p.role, sa.func.count()).where(p.disabled_at.is_(None)).group_by(p.role))
    used = sa.exists().where(d.site_id == s.id, d.retired_at.is_(None))
    nowhere = sa.or_(s.lat_deg.is_(None), s.lon_deg.is_(None))
    sites, remote, lost = connection.execute(
        sa.select(sa.func.count(), sa.func.count().filter(s.remote), sa.func.count().filter(nowhere, used))
        .select_from(schema.site)
    ).one()  # fmt: skip
    w, t = schema.session.c, schema.token.c
    customers, sessions, tokens = connection.execute(
        sa.select(
            _number(schema.customer), _number(schema.session, w.ended_at.is_(None), w.expires_at > now),
            _number(schema.token, t.revoked_at.is_(None)),
        )
    ).one()  # fmt: skip
    return Counts({row[0]: row[1] for row in people}, sites, remote, lost, customers, sessions, tokens)


def _number(table: sa.Table, *clauses: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(table).where(*clauses).scalar_subquery()


def machines_by_profile(connection: Connection) -> dict[str, int]:
    """Machines in use, by model."""
    d = schema.device.c
    rows = connection.execute(
        sa.select(d.profile, sa.func.count()).where(d.retired_at.is_(None)).group_by(d.profile)
    )  # fmt: skip
    return {row[0]: row[1] for row in rows}


def machines_by_site(connection: Connection) -> dict[int, int]:
    """Machines in use, by site."""
    d = schema.device.c
    there = d.retired_at.is_(None), d.site_id.is_not(None)
    rows = connection.execute(sa.select(d.site_id, sa.func.count()).where(*there).group_by(d.site_id))
    return {row[0]: row[1] for row in rows}


def certified(connection: Connection, now: int) -> dict[str, int]:
    """How many technicians may work on each model now; under `ANY` where certificates are kept at all."""
    c, p = schema.certificate.c, schema.person.c
    there = p.role == "technician", p.disabled_at.is_(None)
    rows = connection.execute(
        sa.select(c.profile, sa.func.count().filter(c.since_at <= now, sa.or_(c.until_at.is_(None), c.until_at > now)))
        .join(schema.person, p.id == c.person_id).where(*there).group_by(c.profile)
    )  # fmt: skip
    found: dict[str, int] = {row[0]: row[1] for row in rows}
    kept = connection.execute(sa.select(c.id).limit(1)).first()
    return found | ({ANY: 0} if kept else {})


def lapsing(connection: Connection, now: int, days: int) -> int:
    """Certificates of people who have not left that end within so many days, or have ended."""
    c, p = schema.certificate.c, schema.person.c
    soon = p.disabled_at.is_(None), c.until_at <= now + days * DAY_MS
    found: int = connection.execute(
        sa.select(sa.func.count()).select_from(schema.certificate).join(schema.person, p.id == c.person_id).where(*soon)
    ).scalar_one()
    return found
