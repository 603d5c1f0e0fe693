"""Who may come in: bearer tokens, one-time sign-in links, and the sessions that they and passwords begin.

Secrets are 256 random bits, given out once and kept only as their SHA-256: they need no slow hash, because there is
nothing to guess (passwords do: passwords.py). `now` is epoch milliseconds.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, Select, func, insert, or_, select, update
from sqlalchemy.sql import ColumnElement

from monitor.store.registry import Refused, check_text, write_audit
from monitor.store.schema import customer, login_link, person, second_factor, session, token

LINK_MINUTES = 15
SESSION_HOURS = 12
CODE_MINUTES = 5
"""How long somebody may take to give the code of their second factor."""
YOUNG_MS = LINK_MINUTES * 60_000
"""So long a session that a link began stands for the present password: whoever has forgotten it comes by link."""
LINKS_AT_ONCE = 3
"""So many links that still work are mailed to one person."""
HANDLE_CHARS = 16


class Role(StrEnum):
    """What somebody is here for. Every route names the roles it is open to."""

    OPS = "ops"
    TECHNICIAN = "technician"
    CUSTOMER = "customer"
    SERVICE = "service"
    MANAGER = "manager"
    ADMIN = "admin"


@dataclass(frozen=True)
class Visitor:
    """Somebody who has shown a valid token or session."""

    role: Role
    actor: str
    """What the ledger and the audit keep: `person:7`, `token:3`, `role:ops`; never a name."""
    via: Literal["token", "session"]
    key_hash: str
    """Of the secret they came with, so that a long connection can ask again whether it still holds."""
    customer_id: int | None = None
    person_id: int | None = None
    name: str = field(default="", compare=False)
    """For the pages, where a person comes with a session of their own."""
    lang: str = field(default="", compare=False)
    timezone: str = field(default="", compare=False)
    """How they want to read; '': they have not said."""


class By(StrEnum):
    """What a session began by."""

    LINK = "link"
    PASSWORD = "password"  # noqa: S105 (a word)


class Entry(NamedTuple):
    """What a link or a password leads to: a session, or (not `complete`) the step that asks for a code."""

    secret: str
    complete: bool


class Proof(StrEnum):
    """What somebody has to show once more before they change how they sign in."""

    NOTHING = "nothing"
    PASSWORD = "password"  # noqa: S105 (a word)
    LINK = "link"


class OpenSession(NamedTuple):
    """`handle` names it to its owner; it is of no use to anybody else."""

    handle: str
    began_by: By
    device: str
    created_at: int
    expires_at: int
    is_this: bool


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def create_token(connection: Connection, role: Role, name: str, now: int, *, customer_id: int | None = None) -> str:
    """A new bearer token. It is shown once; the database keeps its hash.

    Raises Refused where a customer's token names no customer (it would see nothing, or worse), and where a valid token
    has the name already.
    """
    check_text("token name", name, 120)
    if (role is Role.CUSTOMER) != (customer_id is not None):
        raise Refused("a token names a customer (--customer NAME) when its role is customer, and only then")
    if connection.execute(select(token.c.id).where(token.c.name == name, token.c.revoked_at.is_(None))).first():
        raise Refused(f"there is a valid token named {name!r} already; fettle token revoke ends it")
    secret = f"fettle_{secrets.token_urlsafe(32)}"
    values = {"hash": hashed(secret), "role": role, "name": name, "customer_id": customer_id, "created_at": now}
    token_id = connection.execute(insert(token).values(values).returning(token.c.id)).scalar_one()
    write_audit(connection, now, "command", "token_created", f"token:{token_id}", after={"role": role})
    return secret


def revoke_token(connection: Connection, name: str, now: int) -> bool:
    """Whether there was a valid token of this name to revoke."""
    statement = update(token).where(token.c.name == name, token.c.revoked_at.is_(None)).values(revoked_at=now)
    token_id = connection.execute(statement.returning(token.c.id)).scalar_one_or_none()
    if token_id is not None:
        write_audit(connection, now, "command", "token_revoked", f"token:{token_id}")
    return token_id is not None


def create_login_link(connection: Connection, role: Role, now: int, *, person_id: int | None = None) -> str:
    """The secret of a link that signs in once within 15 minutes: as this person, or as a built-in account."""
    secret = secrets.token_urlsafe(32)
    values = {
        "hash": hashed(secret),
        "role": role,
        "person_id": person_id,
        "expires_at": now + LINK_MINUTES * 60_000,
    }
    connection.execute(insert(login_link).values(values))
    return secret


def links_waiting(connection: Connection, person_id: int, now: int) -> int:
    """How many links of this person still work."""
    c = login_link.c
    working = c.person_id == person_id, c.after == "", c.used_at.is_(None), c.expires_at > now
    return int(connection.execute(select(func.count()).where(*working)).scalar_one())


def redeem_login_link(connection: Connection, secret: str, now: int, device: str = "") -> Entry | None:
    """Use a link up: what it leads to, or None where the link is unknown, used or too old.

    One conditional UPDATE claims the link, so that of two clicks at once only one signs in.
    """
    claim = (
        update(login_link)
        .where(
            login_link.c.hash == hashed(secret), login_link.c.after == "", login_link.c.used_at.is_(None),
            login_link.c.expires_at > now,
        )
        .values(used_at=now)
        .returning(login_link.c.role, login_link.c.person_id)
    )  # fmt: skip
    link = connection.execute(claim).one_or_none()
    if link is None or not _may_enter(connection, link.person_id):
        return None
    return enter(connection, Role(link.role), link.person_id, By.LINK, now, device)


def enter(connection: Connection, role: Role, person_id: int | None, by: By, now: int, device: str = "") -> Entry:
    """Go on from what was shown: to a session, or to the code where that person has a second factor."""
    if person_id is None or not has_second_factor(connection, person_id):
        return Entry(begin_session(connection, role, person_id, by, now, device), complete=True)
    secret = secrets.token_urlsafe(32)
    values = {
        "hash": hashed(secret), "role": role, "person_id": person_id, "after": by,
        "expires_at": now + CODE_MINUTES * 60_000,
    }  # fmt: skip
    connection.execute(insert(login_link).values(values))
    return Entry(secret, complete=False)


def begin_session(
    connection: Connection, role: Role, person_id: int | None, by: By, now: int, device: str = ""
) -> str:  # fmt: skip
    """A new session, under a secret that nobody has seen before."""
    begun = secrets.token_urlsafe(32)
    values = {
        "hash": hashed(begun), "role": role, "person_id": person_id, "began_by": by, "device": device[:60],
        "created_at": now, "expires_at": now + SESSION_HOURS * 3_600_000,
    }  # fmt: skip
    row = connection.execute(insert(session).values(values).returning(session.c.role, session.c.person_id)).one()
    write_audit(connection, now, _session_actor(row), "signed_in", "session", after={"by": by})
    return begun


def has_second_factor(connection: Connection, person_id: int) -> bool:
    c = second_factor.c
    return (
        connection.execute(select(c.person_id).where(c.person_id == person_id, c.since_at.is_not(None))).first()
        is not None
    )


# --- the sessions of one person ------------------------------------------------------------------------------------


def hold(connection: Connection, visitor: Visitor, now: int) -> bool:
    """Whether a visitor's session still lasts. Until the transaction ends nobody ends it, or begins one by the old
    password: what somebody changes of how they sign in takes the place of whatever was going on."""
    _lock(connection, visitor.person_id)
    return still_valid(connection, visitor, now)


def _lock(connection: Connection, person_id: int | None) -> None:
    """One at a time changes how somebody signs in (SQLite has one writer anyway)."""
    connection.execute(select(person.c.id).where(person.c.id == person_id).with_for_update())


def open_sessions(connection: Connection, visitor: Visitor, now: int, limit: int = 50) -> list[OpenSession]:
    """Where this person is signed in, the newest first."""
    c = session.c
    running = c.person_id == visitor.person_id, c.ended_at.is_(None), c.expires_at > now
    rows = connection.execute(select(session).where(*running).order_by(c.created_at.desc(), c.hash).limit(limit))
    return [
        OpenSession(row.hash[:HANDLE_CHARS], By(row.began_by), row.device, row.created_at, row.expires_at,
                    row.hash == visitor.key_hash)
        for row in rows
    ]  # fmt: skip


def end_own_session(connection: Connection, visitor: Visitor, handle: str, now: int) -> bool:
    """End one of this person's sessions; whether there was such a one."""
    c = session.c
    named = func.substr(c.hash, 1, HANDLE_CHARS) == handle
    _lock(connection, visitor.person_id)
    return _end_some(connection, visitor.person_id, named, visitor.actor, now) > 0


def end_other_sessions(connection: Connection, person_id: int, but: str, actor: str, now: int) -> int:
    """End all sessions of this person but the one with this hash ('': all), and the links and steps that would begin
    others. Answers how many sessions ended."""
    c = login_link.c
    _lock(connection, person_id)
    connection.execute(update(login_link).where(c.person_id == person_id, c.used_at.is_(None)).values(used_at=now))
    return _end_some(connection, person_id, session.c.hash != but, actor, now)


def _end_some(
    connection: Connection, person_id: int | None, which: ColumnElement[bool], actor: str, now: int
) -> int:  # fmt: skip
    c = session.c
    running = c.person_id == person_id, c.ended_at.is_(None), c.expires_at > now
    ended = connection.execute(update(session).where(*running, which).values(ended_at=now)).rowcount
    if ended:
        write_audit(connection, now, actor, "sessions_ended", f"person:{person_id}", after={"number": ended})
    return ended


def needed_proof(connection: Connection, visitor: Visitor, *, has_password: bool, now: int) -> Proof:
    """What this visitor has to show before they change how they sign in."""
    c = session.c
    found = connection.execute(select(c.began_by, c.created_at).where(c.hash == visitor.key_hash)).one_or_none()
    if found is not None and found.began_by == By.LINK and now - found.created_at < YOUNG_MS:
        return Proof.NOTHING
    return Proof.PASSWORD if has_password else Proof.LINK


def end_session(connection: Connection, visitor: Visitor, now: int) -> None:
    """Sign out: the session is worth nothing from now on."""
    running = update(session).where(session.c.hash == visitor.key_hash, session.c.ended_at.is_(None))
    if connection.execute(running.values(ended_at=now)).rowcount:
        write_audit(connection, now, visitor.actor, "signed_out", "session")


def end_presented(connection: Connection, secret: str, now: int) -> None:
    """A browser that signs in anew leaves the session that it came with."""
    running = update(session).where(session.c.hash == hashed(secret), session.c.ended_at.is_(None))
    connection.execute(running.values(ended_at=now))


def visitor_of_token(connection: Connection, key_hash: str) -> Visitor | None:
    """Who comes with this bearer token. A technician's token is the technician's of the same name, if there is one, and
    nobody's once they have left."""
    found = connection.execute(_VALID_TOKEN.where(token.c.hash == key_hash)).one_or_none()
    if found is None:
        return None
    role = Role(found.role)
    if role is Role.TECHNICIAN and found.disabled_at is not None:
        return None
    person_id = found.person_id if role is Role.TECHNICIAN else None
    return Visitor(role, f"token:{found.id}", "token", key_hash, found.customer_id, person_id)


def visitor_of_session(connection: Connection, key_hash: str, now: int) -> Visitor | None:
    """Who comes with this session; nobody once it ended or expired, or the person was disabled."""
    statement = _RUNNING_SESSION.where(session.c.hash == key_hash, session.c.expires_at > now)
    found = connection.execute(statement).one_or_none()
    if found is None:
        return None
    return Visitor(
        Role(found.role), _session_actor(found), "session", key_hash, found.customer_id, found.person_id,
        found.name or "", found.lang or "", found.timezone or "",
    )  # fmt: skip


def still_valid(connection: Connection, visitor: Visitor, now: int) -> bool:
    """Whether what the visitor came with holds now as it did then."""
    if visitor.via == "token":
        return visitor_of_token(connection, visitor.key_hash) == visitor
    return visitor_of_session(connection, visitor.key_hash, now) == visitor


_VALID_TOKEN: Select[*tuple[Any, ...]] = (
    select(token.c.id, token.c.role, token.c.customer_id, person.c.id.label("person_id"), person.c.disabled_at)
    .outerjoin(person, (person.c.name == token.c.name) & (person.c.role == token.c.role))
    .outerjoin(customer, customer.c.id == token.c.customer_id)
    .where(token.c.revoked_at.is_(None))
)

_RUNNING_SESSION: Select[*tuple[Any, ...]] = (
    select(session.c.role, session.c.person_id, person.c.customer_id, person.c.name, person.c.lang, person.c.timezone)
    .outerjoin(person, person.c.id == session.c.person_id)
    .where(session.c.ended_at.is_(None), or_(session.c.person_id.is_(None), person.c.disabled_at.is_(None)))
)


def role_now(connection: Connection, actor: str) -> Role | None:
    """The role of who acts by this name (`Visitor.actor`); None: they come in no more."""
    kind, _, name = actor.partition(":")
    if kind == "role":
        return Role(name)
    if kind == "person":
        wanted = select(person.c.role).where(person.c.id == int(name))
    else:
        # A token is that of the person of the same name and role, if there is one.
        of = (person.c.name == token.c.name) & (person.c.role == token.c.role)
        wanted = select(token.c.role).outerjoin(person, of).where(token.c.id == int(name), token.c.revoked_at.is_(None))
    found = connection.execute(wanted.where(person.c.disabled_at.is_(None))).scalar_one_or_none()
    return None if found is None else Role(found)


def _may_enter(connection: Connection, person_id: int | None) -> bool:
    if person_id is None:
        return True
    enabled = select(person.c.id).where(person.c.id == person_id, person.c.disabled_at.is_(None))
    return connection.execute(enabled).one_or_none() is not None


def _session_actor(row: Row[*tuple[Any, ...]]) -> str:
    return f"role:{row.role}" if row.person_id is None else f"person:{row.person_id}"
