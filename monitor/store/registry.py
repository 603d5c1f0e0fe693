"""What operators keep: sites, machines, people, rentals. Every change is audited and raises the version that every
process polls, so that it takes effect at once everywhere."""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.devices import DEVICE_ID, Device
from monitor.store import schema
from monitor.store.database import Database, runs

ROLES = ("ops", "technician", "customer", "service", "manager", "admin")
LANGS = ("zh", "en")
SITE_FIELDS = ("name", "lat_deg", "lon_deg", "access_notes", "remote", "timezone")
NOTES_LENGTH = 2000


class Refused(ValueError):
    """An operator's input that cannot be taken; the message says what was wrong and what is allowed."""


class Conflict(Refused):
    """What cannot be taken because of what stands in the record; the message names that."""


class Stale(Conflict):
    """It was decided on an older reading; `tag` is the thing's now."""

    def __init__(self, detail: str, tag: str) -> None:
        super().__init__(detail)
        self.tag = tag


def raise_version(connection: Connection) -> None:
    changed = connection.execute(
        sa.update(schema.version).where(schema.version.c.name == "registry").values(number=schema.version.c.number + 1)
    )
    if changed.rowcount == 0:
        connection.execute(sa.insert(schema.version).values(name="registry", number=1))


def version(connection: Connection) -> int:
    """The number that every change of the registry raises."""
    found = connection.execute(sa.select(schema.version.c.number).where(schema.version.c.name == "registry")).scalar()
    return found or 0


def write_audit(
    connection: Connection, now: int, actor: str, what: str, subject: str,
    before: dict[str, Any] | None = None, after: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Note who changed what; the database lets nobody change or remove the note."""
    connection.execute(
        sa.insert(schema.audit).values(at=now, actor=actor, what=what, subject=subject, before=before, after=after)
    )


def write_audits(
    connection: Connection, now: int, actor: str, what: str, done: Iterable[tuple[str, dict[str, Any]]]
) -> None:
    """The same of many (subject, after) at once."""
    rows = [
        {"at": now, "actor": actor, "what": what, "subject": subject, "before": None, "after": after}
        for subject, after in done
    ]
    if rows:
        connection.execute(sa.insert(schema.audit), rows)


@contextmanager
def changing(database: Database) -> Iterator[Connection]:
    """A transaction that changes what operators keep: every process hears of it."""
    with database.begin() as connection:
        yield connection
        raise_version(connection)


def tag_of(*rows: Iterable[Any]) -> str:
    """What these rows say, as a short hash: another one after every change (ETag)."""
    said = json.dumps([list(row) for row in rows], ensure_ascii=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def refuse_stale(what: str, seen: str | None, tag: str) -> None:
    """Raises Stale where something is to be changed by somebody who read it as `seen` (None: whatever it is), and its
    tag is another one now. To be asked once it is locked."""
    if seen not in (None, tag):
        raise Stale(f"{what} has changed since you read it", tag)


class Registry:
    """Commands of operators, each one transaction. `actor` is who gives them (`cli`, `person:7`, `token:3`)."""

    def __init__(self, database: Database, actor: str = "cli") -> None:
        self.database = database
        self.actor = actor

    def _change(self) -> AbstractContextManager[Connection]:
        return changing(self.database)

    def add_site(
        self, name: str, *, remote: bool, timezone: str, now: int, place: tuple[float, float] | None = None,
        access_notes: str = "",
    ) -> int:  # fmt: skip
        """Add a site. `timezone` is an IANA name; `place` is (lat_deg, lon_deg), WGS 84."""
        check_text("site name", name, 120)
        lat_deg, lon_deg = place or (None, None)
        values = {
            "name": name, "remote": remote, "timezone": timezone, "lat_deg": lat_deg, "lon_deg": lon_deg,
            "access_notes": access_notes,
        }  # fmt: skip
        _check_site(values)
        with self._change() as connection:
            _refuse_existing(connection, schema.site, "site", name)
            site_id = _insert(connection, schema.site, values)
            write_audit(connection, now, self.actor, "site_added", f"site:{site_id}", after=_discreet(values))
        return site_id

    def change_site(self, site_id: int, changes: Mapping[str, Any], now: int, *, seen: str | None = None) -> None:
        """Change some of name, lat_deg, lon_deg, access_notes, remote and timezone. `seen` is the tag that was read.

        What was promised for open tickets stays as it was promised. Raises LookupError, Stale or Refused.
        """
        if unknown := changes.keys() - SITE_FIELDS:
            raise Refused(f"{min(unknown)}: of a site only {', '.join(SITE_FIELDS)} can be changed")
        with self._change() as connection:
            c = schema.site.c
            row = connection.execute(sa.select(schema.site).where(c.id == site_id).with_for_update()).first()
            if row is None:
                raise LookupError(f"there is no site {site_id}")
            refuse_stale(f"site {site_id}", seen, tag_of(row))
            before = {name: row._mapping[name] for name in changes}
            if before == dict(changes):
                return
            _check_site({**row._mapping, **changes})
            if changes.get("name", row.name) != row.name:
                check_text("site name", changes["name"], 120)
                _refuse_existing(connection, schema.site, "site", changes["name"])
            connection.execute(sa.update(schema.site).where(c.id == site_id).values(**changes))
            write_audit(connection, now, self.actor, "site_changed", f"site:{site_id}", _discreet(before),
                        _discreet(changes))  # fmt: skip

    def add_device(self, device_id: str, profile: str, site: str | None, now: int) -> Device:
        """Add a machine; the credential is the broker's matter."""
        if not DEVICE_ID.fullmatch(device_id):
            raise Refused(f"device id {device_id!r}: allowed are 1 to 64 of A-Z a-z 0-9 _ -")
        with self._change() as connection:
            if connection.execute(sa.select(schema.device).where(schema.device.c.device_id == device_id)).first():
                raise Refused(f"device {device_id} exists already; fettle device renew gives it a new credential")
            site_id = _site_id(connection, site) if site else None
            values = {"device_id": device_id, "profile": profile, "site_id": site_id, "generation": 0, "added_at": now}
            connection.execute(sa.insert(schema.device).values(**values))
            _note_stay(connection, device_id, site_id, now, now, self.actor)
            write_audit(connection, now, self.actor, "device_added", f"device:{device_id}", after=values)
        return Device(device_id, profile, 0, site_id)

    def move_device(self, device_id: str, site_id: int | None, at: int | None, now: int) -> None:
        """A machine stands at this site from `at` on (None: now), or at none that is known. Moves are told in their
        order: `at` lies neither ahead nor before the last one. Raises LookupError, Conflict or Refused."""
        moment = now if at is None else at
        with self._change() as connection:
            row = lock_machines(connection, [device_id]).get(device_id)
            if row is None:
                raise LookupError(f"there is no machine {device_id}")
            if row.retired_at is not None:
                raise Conflict(f"machine {device_id} is retired")
            s = schema.site.c
            if site_id is not None and connection.execute(sa.select(s.id).where(s.id == site_id)).first() is None:
                raise Refused(f"site_id: there is no site {site_id}")
            since = _stands_since(connection, row)
            if not since <= moment <= now:
                raise Refused("at: must lie between the machine's last move and now")
            if site_id == row.site_id:
                return
            c = schema.device.c
            connection.execute(sa.update(schema.device).where(c.device_id == device_id).values(site_id=site_id))
            _note_stay(connection, device_id, site_id, moment, now, self.actor)
            write_audit(connection, now, self.actor, "device_moved", f"device:{device_id}",
                        {"site_id": row.site_id}, {"site_id": site_id, "from_at": moment})  # fmt: skip

    def move_device_to(self, device_id: str, site: str | None, now: int) -> None:
        """The same from now on, to the site of this name. Raises Refused where there is no such machine or site."""
        with self.database.connect() as connection:
            _device(connection, device_id)
            site_id = _site_id(connection, site) if site else None
        self.move_device(device_id, site_id, None, now)

    def cut_off(self, device_id: str, now: int) -> None:
        """Refuse all credentials that a machine has; it stays known, and a new card lets it in again."""
        with self._change() as connection:
            _in_use(connection, device_id)
            _end_credentials(connection, device_id, now)
            write_audit(connection, now, self.actor, "device_cut_off", f"device:{device_id}")

    def renew_device(self, device_id: str, now: int) -> Device:
        """The box on a machine was replaced: a new generation begins, credentials of earlier ones are refused.

        Whatever the old box still says from now on would be taken for the new one's: cut it off first.
        """
        with self._change() as connection:
            row = _in_use(connection, device_id)
            generation = row.generation + 1
            connection.execute(
                sa.update(schema.device)
                .where(schema.device.c.device_id == device_id)
                .values(generation=generation, revoked_at=None, renewed_at=now)
            )
            _end_credentials(connection, device_id, now)
            write_audit(
                connection, now, self.actor, "device_renewed", f"device:{device_id}",
                {"generation": row.generation}, {"generation": generation},
            )  # fmt: skip
        return Device(device_id, row.profile, generation, row.site_id, now)

    def revoke_device(self, device_id: str, now: int) -> None:
        """Refuse all of a machine's credentials; a connected one is cut off."""
        with self._change() as connection:
            _device(connection, device_id)
            connection.execute(
                sa.update(schema.device).where(schema.device.c.device_id == device_id).values(revoked_at=now)
            )
            _end_credentials(connection, device_id, now)
            write_audit(connection, now, self.actor, "device_revoked", f"device:{device_id}")

    def device(self, device_id: str) -> Device:
        with self.database.connect() as connection:
            row = _device(connection, device_id)
        return Device(row.device_id, row.profile, row.generation, row.site_id)

    def note_credential(self, device: Device, public_key: str, username: str, now: int) -> None:
        """Remember an issued credential, so that it can be refused later. The secret itself is not kept."""
        with self._change() as connection:
            note_credentials(connection, [Issued(device.device_id, device.generation, public_key, username)],
                             self.actor, now)  # fmt: skip

    def end_credential(self, public_key: str, now: int) -> None:
        """Refuse one credential; the machine's others stay good."""
        c = schema.credential.c
        with self._change() as connection:
            connection.execute(
                sa.update(schema.credential)
                .where(c.public_key == public_key, c.revoked_at.is_(None))
                .values(revoked_at=now)
            )
            write_audit(connection, now, self.actor, "credential_ended", f"credential:{public_key}")

    def add_person(
        self, name: str, role: str, email: str, *, phone: str, lang: str, customer: str | None, now: int
    ) -> int:
        """Add somebody who signs in or is told things."""
        check_text("name", name, 200)
        _check_choice("role", role, ROLES)
        _check_choice("lang", lang, LANGS)
        check_email(email)
        if phone:
            check_text("phone", phone, 40)
        if customer is not None:
            check_text("customer", customer, 200)
        if (role == "customer") != (customer is not None):
            raise Refused("--customer NAME belongs to role customer, and role customer needs it")
        with self._change() as connection:
            _refuse_existing(connection, schema.person, "person", name)
            customer_id = _customer(connection, customer, email, lang) if customer else None
            person_id = _insert(connection, schema.person, {
                "name": name, "role": role, "email": email, "phone": phone, "lang": lang,
                "customer_id": customer_id, "added_at": now,
            })  # fmt: skip
            write_audit(connection, now, self.actor, "person_added", f"person:{person_id}", after={"role": role})
        return person_id

    def add_rental(self, device_id: str, customer: str, email: str, *, lang: str, now: int) -> int:
        """Put a machine on hire at once. A rental that runs already is taken over: it ends now, audited."""
        check_text("customer", customer, 200)
        _check_choice("lang", lang, LANGS)
        check_email(email)
        with self._change() as connection:
            lock_machines(connection, [device_id])
            _in_use(connection, device_id)
            customer_id = _customer(connection, customer, email, lang)
            # The machines' notices go to whom the newest rental names.
            c = schema.customer.c
            connection.execute(sa.update(schema.customer).where(c.id == customer_id).values(email=email, lang=lang))
            before = self._end_rental(connection, device_id, now)
            if other := rental_between(connection, device_id, now, None):
                raise Conflict(f"device {device_id} is on hire in this period already: rental {other.id}")
            rental_id = _insert(
                connection,
                schema.rental,
                # The customer has the machine: it goes through no gate any more.
                {"device_id": device_id, "customer_id": customer_id, "starts_at": now, "handed_over_at": now,
                 "taken_over": True},
            )  # fmt: skip
            after = {"rental_id": rental_id, "customer_id": customer_id, "starts_at": now}
            write_audit(connection, now, self.actor, "rental_added", f"device:{device_id}", before, after)
        return rental_id

    def _end_rental(self, connection: Connection, device_id: str, now: int) -> dict[str, Any] | None:
        c = schema.rental.c
        running = c.device_id == device_id, runs(c, now)
        row = connection.execute(sa.select(schema.rental).where(*running)).first()
        if row is None:
            return None
        connection.execute(sa.update(schema.rental).where(*running).values(ends_at=max(now, row.starts_at)))
        return {"rental_id": row.id, "customer_id": row.customer_id, "starts_at": row.starts_at, "ends_at": now}


def lock_machines(connection: Connection, device_ids: Collection[str]) -> dict[str, sa.Row[*tuple[Any, ...]]]:
    """Those of these machines that there are, by id, locked until the transaction ends (PostgreSQL): of two rentals of
    a machine that are written at the same moment the second one sees the first."""
    c = schema.device.c
    # Always in the same order, so that two who lock the same machines do not wait for each other.
    locked = sa.select(schema.device).where(c.device_id.in_(device_ids)).order_by(c.device_id).with_for_update()
    return {row.device_id: row for row in connection.execute(locked)}


def rental_between(
    connection: Connection, device_id: str, starts_at: int, ends_at: int | None, *, but: int = 0
) -> sa.Row[*tuple[Any, ...]] | None:
    """A rental of the machine within [starts_at, ends_at), other than `but`."""
    c = schema.rental.c
    begun = sa.true() if ends_at is None else c.starts_at < ends_at
    # What ended when it began covers no moment.
    lasts = sa.or_(c.ends_at.is_(None), sa.and_(c.ends_at > starts_at, c.ends_at > c.starts_at))
    return connection.execute(
        sa.select(schema.rental).where(c.device_id == device_id, c.id != but, begun, lasts).order_by(c.starts_at)
    ).first()


def devices(connection: Connection) -> list[Device]:
    """The machines whose messages are taken: not retired, not revoked."""
    c = schema.device.c
    rows = connection.execute(
        sa.select(c.device_id, c.profile, c.generation, c.site_id, sa.func.coalesce(c.renewed_at, 0))
        .where(c.retired_at.is_(None), c.revoked_at.is_(None))
    )  # fmt: skip
    return [Device(*row) for row in rows]


class Issued(NamedTuple):
    """A credential as it is remembered."""

    device_id: str
    generation: int
    public_key: str
    username: str


def note_credentials(connection: Connection, issued: Sequence[Issued], actor: str, now: int) -> None:
    """Remember issued credentials, so that they can be refused later. The secrets themselves are not kept."""
    if not issued:
        return
    connection.execute(sa.insert(schema.credential), [{**one._asdict(), "issued_at": now} for one in issued])
    told = [(f"device:{one.device_id}", {"public_key": one.public_key, "generation": one.generation}) for one in issued]
    write_audits(connection, now, actor, "credential_issued", told)


def set_retired(connection: Connection, device_id: str, now: int) -> None:
    """A machine is out of the fleet, and none of its credentials is taken any more."""
    c = schema.device.c
    connection.execute(sa.update(schema.device).where(c.device_id == device_id).values(retired_at=now))
    _end_credentials(connection, device_id, now)


def ended_credentials(connection: Connection) -> dict[str, int]:
    """Every credential that is refused, by its public key: since when (epoch ms)."""
    c = schema.credential.c
    rows = connection.execute(sa.select(c.public_key, c.revoked_at).where(c.revoked_at.is_not(None)))
    return {row.public_key: row.revoked_at for row in rows}


def _end_credentials(connection: Connection, device_id: str, now: int) -> None:
    c = schema.credential.c
    connection.execute(
        sa.update(schema.credential).where(c.device_id == device_id, c.revoked_at.is_(None)).values(revoked_at=now)
    )


def _check_site(values: Mapping[str, Any]) -> None:
    """Raises Refused where a site cannot be like that."""
    try:
        ZoneInfo(values["timezone"])
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise Refused(
            f"timezone {values['timezone']!r} is not known; use an IANA name such as Asia/Shanghai"
        ) from error
    lat_deg, lon_deg = values["lat_deg"], values["lon_deg"]
    if (lat_deg is None) != (lon_deg is None):
        raise Refused("lat_deg and lon_deg: both or none are known")
    if lat_deg is not None and not (-90 <= lat_deg <= 90 and -180 <= lon_deg <= 180):
        raise Refused("lat_deg lies between -90 and 90, lon_deg between -180 and 180")
    notes = values["access_notes"]
    if len(notes) > NOTES_LENGTH or not notes.replace("\n", "").isprintable():
        raise Refused(f"access_notes: at most {NOTES_LENGTH} printable characters are allowed")


def _discreet(values: Mapping[str, Any]) -> dict[str, Any]:
    """For the audit, which is kept for ever: that the notes changed, and not a gate's code or somebody's number."""
    notes = {"access_notes": f"{len(values['access_notes'])} characters"} if "access_notes" in values else {}
    return {**values, **notes}


def _insert(connection: Connection, table: sa.Table, values: dict[str, Any]) -> int:
    key = connection.execute(sa.insert(table).values(**values)).inserted_primary_key
    assert key is not None  # noqa: S101 (a table with a serial id always answers with it)
    return int(key[0])


def _device(connection: Connection, device_id: str) -> sa.Row[*tuple[Any, ...]]:
    row = connection.execute(sa.select(schema.device).where(schema.device.c.device_id == device_id)).first()
    if row is None:
        raise Refused(f"device {device_id!r} is not known; fettle device add {device_id} --profile NAME adds it")
    return row


def _in_use(connection: Connection, device_id: str) -> sa.Row[*tuple[Any, ...]]:
    row = _device(connection, device_id)
    if row.retired_at is not None:
        raise Conflict(f"machine {device_id} is retired")
    return row


def _note_stay(
    connection: Connection, device_id: str, site_id: int | None, from_at: int, now: int, actor: str
) -> None:  # fmt: skip
    connection.execute(
        sa.insert(schema.stay).values(
            device_id=device_id, site_id=site_id, from_at=from_at, recorded_at=now, actor=actor
        )
    )


def _stands_since(connection: Connection, row: sa.Row[*tuple[Any, ...]]) -> int:
    """When a machine came to where it stands."""
    c = schema.stay.c
    latest = connection.execute(sa.select(sa.func.max(c.from_at)).where(c.device_id == row.device_id)).scalar()
    return int(row.added_at if latest is None else latest)


def _site_id(connection: Connection, name: str) -> int:
    found = connection.execute(sa.select(schema.site.c.id).where(schema.site.c.name == name)).scalar()
    if found is None:
        known = connection.execute(sa.select(schema.site.c.name).order_by(schema.site.c.name).limit(10)).scalars().all()
        raise Refused(f"site {name!r} is not known; known are: {', '.join(known) or 'none yet (fettle site add)'}")
    return int(found)


def _customer(connection: Connection, name: str, email: str, lang: str) -> int:
    """The customer of this name; one who is new is added with this address and language."""
    c = schema.customer.c
    found = connection.execute(sa.select(c.id).where(c.name == name)).scalar()
    if found is None:
        return _insert(connection, schema.customer, {"name": name, "email": email, "lang": lang})
    return int(found)


def customer_id(connection: Connection, name: str) -> int:
    """The customer of this name; Refused where there is none."""
    found = connection.execute(sa.select(schema.customer.c.id).where(schema.customer.c.name == name)).scalar()
    if found is None:
        raise Refused(f"customer {name!r} is not known; fettle rental add or person add brings a customer in")
    return int(found)


def person_id(connection: Connection, name: str) -> int:
    """The person of this name; Refused where there is none."""
    found = connection.execute(sa.select(schema.person.c.id).where(schema.person.c.name == name)).scalar()
    if found is None:
        raise Refused(f"person {name!r} is not known; fettle person add brings one in")
    return int(found)


def _refuse_existing(connection: Connection, table: sa.Table, what: str, name: str) -> None:
    if connection.execute(sa.select(table.c.id).where(table.c.name == name)).first():
        raise Refused(f"{what} {name!r} exists already")


def check_text(what: str, text: str, longest: int) -> None:
    if not text.strip() or len(text) > longest or not text.isprintable():
        raise Refused(f"{what}: 1 to {longest} printable characters are allowed, not {text[:longest]!r}")


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise Refused(f"{what} {value!r}: allowed are {', '.join(choices)}")


def check_email(email: str) -> None:
    local, at, domain = email.partition("@")
    if not (local and at and domain) or len(email) > 254 or not email.isprintable() or set(email) & set(" ,;<>\"'"):
        raise Refused(f"e-mail {email!r}: one plain address such as name@example.com is allowed")
