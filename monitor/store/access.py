"""Who may come in: bearer tokens, one-time sign-in links, and the sessions they begin.

Secrets are 256 random bits, given out once and kept only as their SHA-256: they need no slow hash, because there is
nothing to guess. `now` is epoch milliseconds.
"""

import hashlib
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, insert, or_, select, update

from monitor.store.registry import Refused, check_text, write_audit
from monitor.store.schema import customer, login_link, person, session, token

LINK_MINUTES = 15
SESSION_HOURS = 12


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


def redeem_login_link(connection: Connection, secret: str, now: int) -> str | None:
    """Use a link up and begin a session: the session's secret, or None where the link is unknown, used or too old.

    One conditional UPDATE claims the link, so that of two clicks at once only one signs in.
    """
    claim = (
        update(login_link)
        .where(login_link.c.hash == hashed(secret), login_link.c.used_at.is_(None), login_link.c.expires_at > now)
        .values(used_at=now)
        .returning(login_link.c.role, login_link.c.person_id)
    )
    link = connection.execute(claim).one_or_none()
    if link is None or not _may_enter(connection, link.person_id):
        return None
    begun = secrets.token_urlsafe(32)
    values = {
        "hash": hashed(begun),
        "role": link.role,
        "person_id": link.person_id,
        "created_at": now,
        "expires_at": now + SESSION_HOURS * 3_600_000,
    }
    connection.execute(insert(session).values(values))
    write_audit(connection, now, _session_actor(link), "signed_in", "session")
    return begun


def end_session(connection: Connection, visitor: Visitor, now: int) -> None:
    """Sign out: the session is worth nothing from now on."""
    running = update(session).where(session.c.hash == visitor.key_hash, session.c.ended_at.is_(None))
    if connection.execute(running.values(ended_at=now)).rowcount:
        write_audit(connection, now, visitor.actor, "signed_out", "session")


def visitor_of_token(connection: Connection, key_hash: str) -> Visitor | None:
    """Who comes with this bearer token. A technician's token is the technician's of the same name, if there is one."""
    found = connection.execute(_VALID_TOKEN.where(token.c.hash == key_hash)).one_or_none()
    if found is None:
        return None
    role = Role(found.role)
    person_id = found.person_id if role is Role.TECHNICIAN else None
    return Visitor(role, f"token:{found.id}", "token", key_hash, found.customer_id, person_id)


def visitor_of_session(connection: Connection, key_hash: str, now: int) -> Visitor | None:
    """Who comes with this session; nobody once it ended or expired, or the person was disabled."""
    statement = _RUNNING_SESSION.where(session.c.hash == key_hash, session.c.expires_at > now)
    found = connection.execute(statement).one_or_none()
    if found is None:
        return None
    return Visitor(
        Role(found.role), _session_actor(found), "session", key_hash, found.customer_id, found.person_id
    )  # fmt: skip


def still_valid(connection: Connection, visitor: Visitor, now: int) -> bool:
    """Whether what the visitor came with holds now as it did then."""
    if visitor.via == "token":
        return visitor_of_token(connection, visitor.key_hash) == visitor
    return visitor_of_session(connection, visitor.key_hash, now) == visitor


_VALID_TOKEN: Select[*tuple[Any, ...]] = (
    select(token.c.id, token.c.role, token.c.customer_id, person.c.id.label("person_id"))
    .outerjoin(
        person, (person.c.name == token.c.name) & (person.c.role == token.c.role) & person.c.disabled_at.is_(None)
    )
    .outerjoin(customer, customer.c.id == token.c.customer_id)
    .where(token.c.revoked_at.is_(None))
)

_RUNNING_SESSION: Select[*tuple[Any, ...]] = (
    select(session.c.role, session.c.person_id, person.c.customer_id)
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
