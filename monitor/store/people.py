"""People who carry tickets: what they may work on, when they are there, how they are reached; and who is on call.

Commands raise the registry's version and are audited. The audit keeps nothing personal: no address, no place, no reason
for being away.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk import rota
from monitor.desk.dispatch import Certificate, Position, position_of
from monitor.desk.rota import Absence, Override, Rotation, Worker, WorkingHours
from monitor.store import passwords, schema, second_factor
from monitor.store.access import end_other_sessions
from monitor.store.database import Database
from monitor.store.registry import (
    LANGS,
    ROLES,
    Conflict,
    Refused,
    check_email,
    check_text,
    raise_version,
    refuse_stale,
    tag_of,
    write_audit,
)

Row = sa.Row[*tuple[Any, ...]]

MAX_PARTS = 100
"""So many certificates, hours or absences one person may have."""
MAX_CONTACTS = 10
MAX_TURNS = 100
DAY_MIN = 1440
TECHNICIAN = "technician"


@dataclass(frozen=True, slots=True)
class Certified:
    """P1: somebody may work on a model, from `since_at` until `until_at` (None: without end)."""

    profile: str
    since_at: int
    until_at: int | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """A way to reach somebody, with the local minutes of the day in which only emergencies may use it (equal: none)."""

    channel: str
    address: str
    quiet_from_minute: int = 0
    quiet_until_minute: int = 0


CheckContact = Callable[[str, str], str]
"""(channel, address) → the address as it is kept. Raises ValueError where it is none of that channel."""


def plain_address(channel: str, address: str) -> str:
    """What any contact must be. Which addresses a channel takes is known to the channels (monitor/notify/channels.py),
    which the API asks."""
    check_text("channel", channel, 16)
    check_text(f"{channel} address", address, 400)
    return address.strip()


class People:
    """Commands about people, each one transaction. `actor` is who gives them. Those about one person raise LookupError
    where there is nobody, and Stale where `seen`, their tag as it was read, is not their tag any more."""

    def __init__(
        self, database: Database, actor: str, check_contact: CheckContact = plain_address,
        profiles: Collection[str] | None = None,
    ) -> None:  # fmt: skip
        self.database = database
        self.actor = actor
        self.check_contact = check_contact
        self.profiles = profiles
        """Models that a certificate may name; None: any."""

    # --- one person ---

    def certify(
        self, person_id: int, certificates: Sequence[Certified], now: int, *, seen: str | None = None
    ) -> None:  # fmt: skip
        """These are the models that somebody may work on, from now on."""
        _check_number("certificates", len(certificates), MAX_PARTS)
        names = [one.profile for one in certificates]
        if len(set(names)) < len(names):
            raise Refused("certificates: each model once")
        for one in certificates:
            check_text("profile", one.profile, 64)
            if self.profiles is not None and one.profile not in self.profiles:
                raise Refused(f"profile {one.profile!r}: known are {', '.join(sorted(self.profiles))}")
            if one.until_at is not None:
                _check_order(one.since_at, one.until_at)
        values = [{"profile": o.profile, "since_at": o.since_at, "until_at": o.until_at} for o in certificates]
        self._replace(schema.certificate, person_id, values, "certified", values, now, seen)

    def set_hours(
        self, person_id: int, hours: Sequence[WorkingHours], now: int, *, seen: str | None = None
    ) -> None:  # fmt: skip
        """Somebody's week, from now on."""
        _check_number("hours", len(hours), MAX_PARTS)
        values = [
            {"weekday": one.weekday, "from_minute": one.start_min, "until_minute": one.end_min} for one in hours
        ]  # fmt: skip
        self._replace(schema.working_hours, person_id, values, "hours_set", values, now, seen)

    def set_contacts(
        self, person_id: int, contacts: Sequence[Reached], now: int, *, seen: str | None = None
    ) -> None:  # fmt: skip
        """How somebody is reached, the first choice first. One that had bounced and is given again is tried again."""
        _check_number("contacts", len(contacts), MAX_CONTACTS)
        wanted = {
            (one.channel, self._address(one)): {
                "position": position, "quiet_from_minute": _minute(one.quiet_from_minute),
                "quiet_until_minute": _minute(one.quiet_until_minute), "bounced_at": None, "bounce": "",
            }
            for position, one in enumerate(contacts)
        }  # fmt: skip
        if len(wanted) < len(contacts):
            raise Refused("contacts: each address once")
        with self.database.begin() as connection:
            _existing(connection, person_id, seen)
            _replace_contacts(connection, person_id, wanted)
            quiet = [
                {"channel": channel, "quiet": [one["quiet_from_minute"], one["quiet_until_minute"]]}
                for (channel, _), one in wanted.items()
            ]
            self._note(connection, "contacts_set", person_id, {"now": quiet}, now)

    def _address(self, contact: Reached) -> str:
        try:
            return self.check_contact(contact.channel, contact.address)
        except Refused:
            raise
        except ValueError as error:
            raise Refused(f"{contact.channel}: {error}") from error

    def set_home(
        self, person_id: int, home: Position | None, timezone: str, now: int, *, seen: str | None = None
    ) -> None:  # fmt: skip
        """Where somebody sets out from, and the zone of their hours ('': the company's)."""
        if timezone:
            _check_zone(timezone)
        with self.database.begin() as connection:
            _existing(connection, person_id, seen)
            connection.execute(
                sa.update(schema.person).where(schema.person.c.id == person_id).values(
                    lat_deg=home.lat_deg if home else None, lon_deg=home.lon_deg if home else None, timezone=timezone
                )
            )  # fmt: skip
            after = {"timezone": timezone, "home_known": home is not None}
            self._note(connection, "home_set", person_id, after, now)

    def set_reading(
        self, person_id: int, now: int, *, lang: str | None = None, timezone: str | None = None
    ) -> None:  # fmt: skip
        """How somebody wants to read and be told: the language, and the zone ('': the company's) which is also that of
        their hours. None: as it was."""
        if lang is not None and lang not in LANGS:
            raise Refused(f"lang {lang!r}: allowed are {', '.join(LANGS)}")
        if timezone:
            _check_zone(timezone)
        wished = {"lang": lang, "timezone": timezone}
        values = {name: value for name, value in wished.items() if value is not None}
        with self.database.begin() as connection:
            _existing(connection, person_id, None)
            if values:
                connection.execute(sa.update(schema.person).where(schema.person.c.id == person_id).values(**values))
                self._note(connection, "reading_set", person_id, values, now)

    def add_absence(
        self, person_id: int, from_at: int, until_at: int, reason: str, now: int, *, seen: str | None = None
    ) -> int:  # fmt: skip
        """Somebody is away. Answers the absence."""
        _check_order(from_at, until_at)
        if reason:
            check_text("reason", reason, 120)
        with self.database.begin() as connection:
            _existing(connection, person_id, seen)
            values = {"person_id": person_id, "from_at": from_at, "until_at": until_at, "reason": reason}
            absence_id = _insert(connection, schema.absence, values)
            self._note(connection, "absence_added", person_id, {"from_at": from_at, "until_at": until_at}, now)
        return absence_id

    def remove_absence(self, person_id: int, absence_id: int, now: int, *, seen: str | None = None) -> None:
        c = schema.absence.c
        with self.database.begin() as connection:
            _existing(connection, person_id, seen)
            gone = connection.execute(sa.delete(schema.absence).where(c.id == absence_id, c.person_id == person_id))
            if gone.rowcount == 0:
                raise LookupError(f"person {person_id} has no absence {absence_id}")
            self._note(connection, "absence_removed", person_id, {"absence_id": absence_id}, now)

    def change(self, person_id: int, changes: Mapping[str, str], now: int, *, seen: str | None = None) -> None:
        """Change some of name, email, phone, lang and role. Whoever gets another role or address signs in anew."""
        _check_card(changes)
        with self.database.begin() as connection:
            _existing(connection, person_id, seen)
            row = person_row(connection, person_id)
            changed = {name: value for name, value in changes.items() if row and row._mapping[name] != value}
            if row is None or not changed:
                return
            _check_change(connection, row, changed)
            connection.execute(sa.update(schema.person).where(schema.person.c.id == person_id).values(**changed))
            if changed.keys() & {"role", "email"}:
                end_other_sessions(connection, person_id, "", self.actor, now)
            role = {"role": changed["role"], "was": row.role} if "role" in changed else {}
            self._note(connection, "person_changed", person_id, {"fields": sorted(changed), **role}, now)

    def enable(self, person_id: int, now: int, *, seen: str | None = None) -> None:
        """Somebody is back: they may sign in again, by a link, and are told things. What else let them in stays
        ended."""
        with self.database.begin() as connection:
            _existing(connection, person_id, seen)
            row = person_row(connection, person_id)
            if row is None or row.disabled_at is None:
                return
            connection.execute(sa.update(schema.person).where(schema.person.c.id == person_id).values(disabled_at=None))
            t = schema.token.c
            theirs = t.name == row.name, t.role == TECHNICIAN, t.revoked_at.is_(None)
            if row.role == TECHNICIAN:
                connection.execute(sa.update(schema.token).where(*theirs).values(revoked_at=now))
            self._note(connection, "person_enabled", person_id, {}, now)

    def disable(self, person_id: int, now: int, *, seen: str | None = None) -> None:
        """Somebody has left: they sign in no more, and nobody tells or asks them anything."""
        with self.database.begin() as connection:
            _existing(connection, person_id, seen)
            c = schema.person.c
            connection.execute(
                sa.update(schema.person).where(c.id == person_id, c.disabled_at.is_(None)).values(disabled_at=now)
            )
            # Nothing of how they came in is kept of who comes in no more.
            passwords.remove_password(connection, person_id)
            second_factor.turn_off(connection, person_id, now, self.actor)
            end_other_sessions(connection, person_id, "", self.actor, now)
            self._note(connection, "person_disabled", person_id, {}, now)

    def _replace(
        self, table: sa.Table, person_id: int, values: Sequence[Mapping[str, Any]], what: str, kept: object, now: int,
        seen: str | None,
    ) -> None:  # fmt: skip
        with self.database.begin() as connection:
            _existing(connection, person_id, seen)
            connection.execute(sa.delete(table).where(table.c.person_id == person_id))
            if values:
                connection.execute(sa.insert(table), [{"person_id": person_id, **one} for one in values])
            self._note(connection, what, person_id, {"now": kept}, now)

    def _note(self, connection: Connection, what: str, person_id: int, after: dict[str, Any], now: int) -> None:
        write_audit(connection, now, self.actor, what, f"person:{person_id}", after=after)
        raise_version(connection)

    # --- who is on call in turn ---

    def add_rotation(self, name: str, rotation: Rotation, now: int) -> int:
        """People take turns at being on call. Another order of people is another rotation. Answers its id."""
        check_text("rotation name", name, 120)
        _check_number("people", len(rotation.people), MAX_TURNS)
        with self.database.begin() as connection:
            c = schema.rotation.c
            if connection.execute(sa.select(c.id).where(c.name == name)).first():
                raise Refused(f"rotation {name!r} exists already")
            for person_id in rotation.people:
                _check_can_go(connection, person_id)
            values = {
                "name": name, "timezone": rotation.timezone, "shift_h": rotation.shift_h,
                "handover_weekday": rotation.handover_weekday, "handover_minute": rotation.handover_min,
                "people": list(rotation.people), "starts_at": rotation.start_at, "ends_at": rotation.ends_at,
            }  # fmt: skip
            # What lies before its beginning is nobody's shift.
            told_at = max(now, rotation.start_at) - 1
            rotation_id = _insert(connection, schema.rotation, {**values, "handed_over_at": told_at})
            write_audit(connection, now, self.actor, "rotation_added", f"rotation:{rotation_id}", after=values)
            raise_version(connection)
        return rotation_id

    def end_rotation(self, rotation_id: int, now: int, *, seen: str | None = None) -> None:
        """Nobody takes turns in it any more; one that has not begun yet never does."""
        with self.database.begin() as connection:
            row = _rotation(connection, rotation_id, seen)
            ends_at = max(now, row.starts_at + 1)
            if row.ends_at is not None and row.ends_at <= ends_at:
                return
            connection.execute(
                sa.update(schema.rotation).where(schema.rotation.c.id == rotation_id).values(ends_at=ends_at)
            )
            before, after = {"ends_at": row.ends_at}, {"ends_at": ends_at}
            write_audit(connection, now, self.actor, "rotation_ended", f"rotation:{rotation_id}", before, after)
            raise_version(connection)

    def override(
        self, rotation_id: int, person_id: int, from_at: int, until_at: int, now: int, *, seen: str | None = None
    ) -> int:  # fmt: skip
        """Somebody else takes a shift, or a part of it. Answers the override."""
        _check_order(from_at, until_at)
        with self.database.begin() as connection:
            _rotation(connection, rotation_id, seen)
            _check_can_go(connection, person_id)
            values = {"rotation_id": rotation_id, "person_id": person_id, "from_at": from_at, "until_at": until_at}
            override_id = _insert(connection, schema.duty_override, values)
            write_audit(connection, now, self.actor, "duty_taken_over", f"rotation:{rotation_id}", after=values)
            raise_version(connection)
        return override_id

    def remove_override(self, rotation_id: int, override_id: int, now: int, *, seen: str | None = None) -> None:
        """The rotation goes on as it would have."""
        c = schema.duty_override.c
        with self.database.begin() as connection:
            _rotation(connection, rotation_id, seen)
            gone = connection.execute(
                sa.delete(schema.duty_override).where(c.id == override_id, c.rotation_id == rotation_id)
            )
            if gone.rowcount == 0:
                raise LookupError(f"rotation {rotation_id} has no override {override_id}")
            before = {"override_id": override_id}
            write_audit(connection, now, self.actor, "duty_given_back", f"rotation:{rotation_id}", before)
            raise_version(connection)


# --- what is read --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Staff:
    """Everybody's times, and what each technician may do and where they set out from. `kept`: whether the company
    keeps a rota at all, that is, has said who may work on what, and when anybody is there."""

    rota: rota.Rota
    technicians: Mapping[int, tuple[tuple[Certificate, ...], Position | None]]
    kept: bool


def load_staff(
    connection: Connection, timezone: str, special_days: Mapping[Any, int | None], now: int
) -> Staff:  # fmt: skip
    """`timezone`: the company's, for people who have none of their own."""
    people = _enabled(connection)
    zones = {row.id: _zone(row.timezone or timezone) for row in people}
    workers = _workers(connection, zones)
    rotations = load_rotations(connection, now)
    certificates = load_certificates(connection, now)
    technicians = {
        row.id: (certificates.get(row.id, ()), position_of(row.lat_deg, row.lon_deg))
        for row in people if row.role == TECHNICIAN
    }  # fmt: skip
    kept = bool(certificates) and bool(rotations or any(worker.hours for worker in workers))
    return Staff(rota.Rota(workers, rotations, special_days), technicians, kept)


def may_work_on(connection: Connection, person_id: int, profile: str, now: int) -> bool:
    """Whether this person is certified for the model (P1); everybody is, where the company keeps no certificates."""
    c = schema.certificate.c
    lasts = sa.or_(c.until_at.is_(None), c.until_at > now)
    valid = sa.exists().where(c.person_id == person_id, c.profile == profile, c.since_at <= now, lasts)
    return bool(connection.execute(sa.select(sa.or_(valid, ~sa.exists().where(c.id > 0)))).scalar())


def keeps_rota(connection: Connection) -> bool:
    """Whether the company has said who may work on what, and when anybody is there."""
    return bool(connection.execute(_rota_kept()).scalar())


@cache
def _rota_kept() -> sa.Select[Any]:
    times = sa.or_(sa.exists().where(schema.working_hours.c.id > 0), sa.exists().where(schema.rotation.c.id > 0))
    return sa.select(sa.and_(sa.exists().where(schema.certificate.c.id > 0), times))


def _enabled(connection: Connection) -> Sequence[Row]:
    c = schema.person.c
    return connection.execute(
        sa.select(c.id, c.role, c.lat_deg, c.lon_deg, c.timezone).where(c.disabled_at.is_(None)).order_by(c.id)
    ).all()


def _workers(connection: Connection, zones: Mapping[int, str]) -> tuple[Worker, ...]:
    """Those with hours of their own or absences: of everybody else only the rotations say when they are there."""
    h, a = schema.working_hours.c, schema.absence.c
    hours: dict[int, list[WorkingHours]] = {}
    for row in connection.execute(sa.select(schema.working_hours).order_by(h.person_id, h.weekday, h.from_minute)):
        hours.setdefault(row.person_id, []).append(WorkingHours(row.weekday, row.from_minute, row.until_minute))
    absences: dict[int, list[Absence]] = {}
    for row in connection.execute(sa.select(schema.absence).order_by(a.person_id, a.from_at)):
        absences.setdefault(row.person_id, []).append(Absence(row.from_at, row.until_at))
    return tuple(
        Worker(one, zones[one], tuple(hours.get(one, ())), tuple(absences.get(one, ())))
        for one in sorted({*hours, *absences} & set(zones))
    )


def load_rotations(connection: Connection, now: int, back_ms: int = 0) -> tuple[Rotation, ...]:
    """Those that have not ended, or ended at most so long ago, and that begin within the longest window that duty is
    worked out for. Who has left takes no turn."""
    c, o = schema.rotation.c, schema.duty_override.c
    there = {row.id for row in _enabled(connection)}
    lasts = sa.or_(c.ends_at.is_(None), c.ends_at > now - back_ms)
    begins = c.starts_at < now + rota.MAX_WINDOW_MS
    rows = connection.execute(sa.select(schema.rotation).where(lasts, begins).order_by(c.id)).all()
    overrides: dict[int, list[Override]] = {}
    for row in connection.execute(sa.select(schema.duty_override).order_by(o.id)):
        if row.person_id in there:
            overrides.setdefault(row.rotation_id, []).append(Override(row.person_id, row.from_at, row.until_at))
    return tuple(
        Rotation(
            row.id, _zone(row.timezone), tuple(people), row.shift_h, row.handover_weekday, row.handover_minute,
            row.starts_at, row.ends_at, tuple(overrides.get(row.id, ())),
        )
        for row in rows if (people := [one for one in row.people if one in there])
    )  # fmt: skip


def _zone(name: str) -> str:
    """A zone that this system no longer knows must not keep everybody from being found."""
    try:
        rota.zone_named(name)
    except ValueError:
        return "UTC"
    return name


def load_certificates(connection: Connection, now: int) -> dict[int, tuple[Certificate, ...]]:
    """What each person may work on by now, lapsed certificates too: who is looked for hears why it is not them."""
    c = schema.certificate.c
    found: dict[int, tuple[Certificate, ...]] = {}
    rows = connection.execute(sa.select(schema.certificate).where(c.since_at <= now).order_by(c.person_id, c.profile))
    for row in rows:
        found[row.person_id] = (*found.get(row.person_id, ()), Certificate(row.profile, row.until_at))
    return found


def parts_of(connection: Connection, person_id: int) -> dict[str, Sequence[Row]]:
    """All that is kept of one person beside their row, by the name of the part."""
    order = {
        "certificates": (schema.certificate, "profile"), "hours": (schema.working_hours, "weekday"),
        "absences": (schema.absence, "from_at"), "contacts": (schema.contact, "position"),
    }  # fmt: skip
    return {
        name: connection.execute(
            sa.select(table).where(table.c.person_id == person_id).order_by(table.c[by], table.c.id)
        ).all()
        for name, (table, by) in order.items()
    }


def person_tag(row: Row | None, parts: Mapping[str, Sequence[Row]]) -> str:
    """A person with all that is kept of them, as a short hash (ETag)."""
    return tag_of(row or (), *(one for part in parts.values() for one in part))


@dataclass(frozen=True, slots=True)
class Standing:
    """How somebody stands now, for a list of people."""

    certified: tuple[str, ...] = ()
    """The models that they may work on."""
    lapses_at: int | None = None
    """When the first of their certificates ends, or ended."""
    contacts: int = 0
    bounced: int = 0
    absent_until: int | None = None


def standings(connection: Connection, now: int) -> dict[int, Standing]:
    """How everybody stands; who has nothing of all this is not there."""
    c, k, a = schema.certificate.c, schema.contact.c, schema.absence.c
    models: dict[int, list[Row]] = {}
    for row in connection.execute(sa.select(schema.certificate).order_by(c.person_id, c.profile)):
        models.setdefault(row.person_id, []).append(row)
    ways = connection.execute(
        sa.select(k.person_id, sa.func.count(), sa.func.count(k.bounced_at)).group_by(k.person_id)
    )
    contacts = {person_id: (number, bounced) for person_id, number, bounced in ways}
    rows = connection.execute(
        sa.select(a.person_id, sa.func.max(a.until_at)).where(a.from_at <= now, a.until_at > now).group_by(a.person_id)
    )
    absent = {row[0]: row[1] for row in rows}
    return {
        one: Standing(
            tuple(row.profile for row in models.get(one, ()) if _is_valid(row, now)),
            min((row.until_at for row in models.get(one, ()) if row.until_at is not None), default=None),
            *contacts.get(one, (0, 0)), absent.get(one),
        )
        for one in {*models, *contacts, *absent}
    }  # fmt: skip


def _is_valid(certificate: Row, now: int) -> bool:
    return certificate.since_at <= now and (certificate.until_at is None or certificate.until_at > now)


def contacts_by_channel(connection: Connection) -> dict[str, int]:
    """How many contacts that work people who have not left have, by channel."""
    k, p = schema.contact.c, schema.person.c
    working = k.bounced_at.is_(None), p.disabled_at.is_(None)
    rows = connection.execute(
        sa.select(k.channel, sa.func.count()).join(schema.person, p.id == k.person_id).where(*working)
        .group_by(k.channel)
    )  # fmt: skip
    return {row[0]: row[1] for row in rows}


def lock(connection: Connection, person_id: int) -> None:
    """One at a time does something for this person."""
    connection.execute(sa.select(schema.person.c.id).where(schema.person.c.id == person_id).with_for_update())


def person_row(connection: Connection, person_id: int) -> Row | None:
    return connection.execute(sa.select(schema.person).where(schema.person.c.id == person_id)).first()


def rotation_rows(connection: Connection, *, after: int = 0, limit: int = 100) -> Sequence[Row]:
    c = schema.rotation.c
    return connection.execute(sa.select(schema.rotation).where(c.id > after).order_by(c.id).limit(limit)).all()


def rotation_row(connection: Connection, rotation_id: int, *, lock: bool = False) -> Row | None:
    statement = sa.select(schema.rotation).where(schema.rotation.c.id == rotation_id)
    return connection.execute(statement.with_for_update() if lock else statement).first()


def rotation_tag(row: Row, overrides: Sequence[Row]) -> str:
    """A rotation with what is taken over in it, as a short hash (ETag). That a shift was handed over is no change of
    it."""
    kept = [value for name, value in row._mapping.items() if name != "handed_over_at"]
    return tag_of(kept, *overrides)


def override_rows(connection: Connection, rotation_ids: Collection[int]) -> Sequence[Row]:
    c = schema.duty_override.c
    return connection.execute(
        sa.select(schema.duty_override).where(c.rotation_id.in_(rotation_ids)).order_by(c.id)
    ).all()  # fmt: skip


def names(connection: Connection, person_ids: Collection[int]) -> dict[int, str]:
    c = schema.person.c
    return {row.id: row.name for row in connection.execute(sa.select(c.id, c.name).where(c.id.in_(person_ids)))}


# --- what is refused -----------------------------------------------------------------------------------------------


def _existing(connection: Connection, person_id: int, seen: str | None) -> None:
    """Whoever is to be changed, locked: one change of a person at a time."""
    c = schema.person.c
    found = connection.execute(sa.select(c.erased_at).where(c.id == person_id).with_for_update()).first()
    if found is None:
        raise LookupError(f"there is no person {person_id}")
    if found.erased_at is not None:
        raise Conflict(f"person {person_id} was erased")
    if seen is not None:
        row = person_row(connection, person_id)
        refuse_stale(f"person {person_id}", seen, person_tag(row, parts_of(connection, person_id)))


CARD = ("name", "email", "phone", "lang", "role")


def _check_card(values: Mapping[str, str]) -> None:
    if unknown := values.keys() - set(CARD):
        raise Refused(f"{min(unknown)}: of a person only {', '.join(CARD)} can be changed")
    if "name" in values:
        check_text("name", values["name"], 200)
    if "email" in values:
        check_email(values["email"])
    if values.get("phone"):
        check_text("phone", values["phone"], 40)
    for field, allowed in (("role", ROLES), ("lang", LANGS)):
        if field in values and values[field] not in allowed:
            raise Refused(f"{field} {values[field]!r}: allowed are {', '.join(allowed)}")


def _check_change(connection: Connection, row: Row, changed: Mapping[str, str]) -> None:
    """What the record says against a change of somebody's card."""
    if row.disabled_at is not None:
        raise Conflict(f"person {row.id} has left: enable the account first")
    name, role = changed.get("name", row.name), changed.get("role", row.role)
    if "customer" in (row.role, role) and role != row.role:
        raise Refused("role: a customer's account stays one, and no other becomes one")
    c, t = schema.person.c, schema.token.c
    if "name" in changed and connection.execute(sa.select(c.id).where(c.name == name)).first():
        raise Refused(f"person {name!r} exists already")
    # A technician's token is the technician's of its name (access.visitor_of_token): it must not become another's.
    named = t.name.in_({row.name, name}), t.role == TECHNICIAN, t.revoked_at.is_(None)
    moved = changed.keys() & {"name", "role"} and TECHNICIAN in (row.role, role)
    if moved and connection.execute(sa.select(t.id).where(*named)).first():
        raise Conflict("a technician's token bears this name; fettle token revoke ends it")
    if "email" in changed and passwords.set_at(connection, row.id) is not None:
        _refuse_shared(connection, row.id, changed["email"])


def _refuse_shared(connection: Connection, person_id: int, email: str) -> None:
    """An address and a password must name one person."""
    if any(one.id != person_id and one.hash for one in passwords.accounts_at(connection, email)):
        raise Refused("email: somebody else with the same e-mail address has a password")


def _check_can_go(connection: Connection, person_id: int) -> None:
    row = person_row(connection, person_id)
    if row is None or row.disabled_at is not None or row.role not in ROLES or row.role == "customer":
        raise Refused(f"person {person_id}: nobody of the company who could be on call")


def _rotation(connection: Connection, rotation_id: int, seen: str | None) -> Row:
    """A rotation, locked: one change of it at a time."""
    row = rotation_row(connection, rotation_id, lock=True)
    if row is None:
        raise LookupError(f"there is no rotation {rotation_id}")
    if seen is not None:
        refuse_stale(f"rotation {rotation_id}", seen, rotation_tag(row, override_rows(connection, [rotation_id])))
    return row


def _insert(connection: Connection, table: sa.Table, values: Mapping[str, Any]) -> int:
    key = connection.execute(sa.insert(table).values(**values)).inserted_primary_key
    assert key is not None  # noqa: S101 (a table with a serial id always answers with it)
    return int(key[0])


def _replace_contacts(
    connection: Connection, person_id: int, wanted: Mapping[tuple[str, str], Mapping[str, Any]]
) -> None:
    """What stays keeps its number, which notices that wait for it know."""
    c = schema.contact.c
    there = connection.execute(sa.select(c.id, c.channel, c.address).where(c.person_id == person_id)).all()
    known = {(row.channel, row.address): row.id for row in there}
    gone = [number for key, number in known.items() if key not in wanted]
    connection.execute(sa.delete(schema.contact).where(c.id.in_(gone)))
    for (channel, address), values in wanted.items():
        if (channel, address) in known:
            connection.execute(sa.update(schema.contact).where(c.id == known[channel, address]).values(**values))
        else:
            connection.execute(
                sa.insert(schema.contact).values(person_id=person_id, channel=channel, address=address, **values)
            )


def _check_number(what: str, number: int, most: int) -> None:
    if number > most:
        raise Refused(f"{what}: at most {most} are kept, not {number}")


def _check_order(from_at: int, until_at: int) -> None:
    if from_at >= until_at:
        raise Refused("the end must lie after the beginning")


def _minute(minute: int) -> int:
    if not 0 <= minute < DAY_MIN:
        raise Refused(f"minute {minute}: a day has 0 to {DAY_MIN - 1}")
    return minute


def _check_zone(name: str) -> None:
    try:
        rota.zone_named(name)
    except ValueError as error:
        raise Refused(str(error)) from error
