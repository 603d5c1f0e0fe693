"""Passwords: which are taken, how they are kept (argon2id), and whose they are.

A hash costs a tenth of a second and 64 MiB on purpose, so few are worked on at once, whoever asks.
"""

import re
import threading
import unicodedata
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import NamedTuple

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY
from sqlalchemy.engine import Connection

from monitor.store.registry import Refused, write_audit
from monitor.store.schema import password as kept
from monitor.store.schema import person

SHORTEST, LONGEST = 12, 128
AT_ONCE = 2
"""So many hashes are worked on at once: 64 MiB and a core each."""
WAITING = 8
"""So many more may wait for their turn, for about a second; who comes then is sent away."""
MIN_DIFFERENT = 5
"""So many different characters a password has at least."""
PEOPLE_AN_ADDRESS = 5


# --- which are taken -----------------------------------------------------------------------------------------------


class Weak(StrEnum):
    """Why a password is not taken."""

    SHORT = "short"
    LONG = "long"
    SIMPLE = "simple"
    """A few characters again and again, or in their order."""
    COMMON = "common"
    KNOWN = "known"
    """The person's name, their address, or that of the service."""


class WeakPassword(Refused):
    """A password that is too easy to guess."""

    def __init__(self, why: Weak) -> None:
        super().__init__(f"the password cannot be taken: {why}")
        self.why = why


def normal(password: str) -> str:
    """However a keyboard composes its letters, it is the same password."""
    return unicodedata.normalize("NFKC", password)


def weakness(password: str, known: Collection[str] = ()) -> Weak | None:
    """Why this password cannot be taken; None: it can. There are no rules of what it is composed of.

    `known`: names and addresses that anybody would try first.
    """
    password = normal(password)
    if len(password) < SHORTEST:
        return Weak.SHORT
    if len(password) > LONGEST:
        return Weak.LONG
    folded = password.casefold()
    if len(set(folded)) < MIN_DIFFERENT or _in_order(folded):
        return Weak.SIMPLE
    cores = set(_cores(folded))
    if cores & _common():
        return Weak.COMMON
    if cores & {
        core for one in known for part in (one, *re.split(r"[@.\s/:-]+", one)) for core in _cores(part) if len(core) > 2
    }:
        return Weak.KNOWN
    return None


_LEET = str.maketrans("013457@$!", "oleastasi")
_NO_LETTERS = re.compile(r"[\W\d_]+")
_ENDS = re.compile(r"^[\W\d_]+|[\W\d_]+$")


def _cores(text: str) -> Iterator[str]:
    """What is left of a text without figures and signs, as it stands and with letters in the place of look-alikes; of
    one that is repeated, once."""
    folded = text.casefold()
    for one in (folded, folded.translate(_LEET), _ENDS.sub("", folded).translate(_LEET)):
        core = _NO_LETTERS.sub("", one)
        yield core
        for size in range(1, len(core) // 2 + 1):
            if core == core[:size] * (len(core) // size):
                yield core[:size]
                break


def _in_order(text: str) -> bool:
    """Whether nearly all of it counts up or down: 123456789012, abcdefghijkl."""
    steps = [ord(after) - ord(before) for before, after in pairwise(text)]
    # From 9 to 0 and back it goes on.
    steps = [{-9: 1, 9: -1}.get(step, step) for step in steps]
    return any(steps.count(way) >= len(steps) - 1 for way in (1, -1))


@cache
def _common() -> frozenset[str]:
    lines = files("monitor.store").joinpath("common_passwords.txt").read_text("utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


# --- how they are kept ---------------------------------------------------------------------------------------------


NOBODYS = "$argon2id$v=19$m=65536,t=3,p=4$ihhfhXNTd/iowwtSM4fCgg$BewmM2L/Ig4wwC7XZQbrPUwykrkr+SjZyZF9BxYHgsI"
"""What a password is compared with where there is none, so that it costs the same. Nobody knows what it is of."""


class Busy(Exception):
    """More passwords are waiting to be looked at than there is room for."""


class Hashing:
    """argon2id by RFC 9106 for little memory (64 MiB, three passes, four lanes). One a process: it keeps strangers from
    eating memory and cores."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._working = threading.BoundedSemaphore(AT_ONCE)
        self._room = threading.BoundedSemaphore(AT_ONCE + WAITING)

    def hash(self, password: str) -> str:
        """What is kept of a password. Raises Busy."""
        with self._turn():
            return self._hasher.hash(normal(password))

    def fits(self, hash: str | None, password: str) -> bool:  # noqa: A002
        """Whether this is the password that was kept. With None, too, it costs what it costs. Raises Busy."""
        with self._turn():
            try:
                self._hasher.verify(hash or NOBODYS, normal(password))
            except (VerificationError, InvalidHashError):
                return False
        return hash is not None

    def is_outdated(self, hash: str) -> bool:  # noqa: A002
        """Whether it was made with other parameters than are used now."""
        return self._hasher.check_needs_rehash(hash)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._room.acquire(blocking=False):
            raise Busy("too many passwords at once")
        try:
            with self._working:
                yield
        finally:
            self._room.release()


# --- whose they are ------------------------------------------------------------------------------------------------


class Account(NamedTuple):
    """Somebody who may sign in. `hash` None: without a password."""

    id: int
    name: str
    role: str
    email: str
    lang: str
    hash: str | None


def accounts_at(connection: Connection, email: str) -> list[Account]:
    """The people with this address who have not left, whoever has a password first; mostly one."""
    wanted = email.strip().lower()
    return _accounts(connection, sa.func.lower(person.c.email) == wanted) if wanted else []


def account(connection: Connection, person_id: int, *, lock: bool = False) -> Account | None:
    """The person with this number, unless they have left. `lock`: nobody changes how they sign in meanwhile."""
    if lock:
        connection.execute(sa.select(person.c.id).where(person.c.id == person_id).with_for_update())
    return next(iter(_accounts(connection, person.c.id == person_id)), None)


def _accounts(connection: Connection, which: sa.ColumnElement[bool]) -> list[Account]:
    c = person.c
    rows = connection.execute(
        sa.select(c.id, c.name, c.role, c.email, c.lang, kept.c.hash)
        .outerjoin(kept, kept.c.person_id == c.id)
        .where(which, c.disabled_at.is_(None))
        .order_by(kept.c.hash.is_(None), c.id)
        .limit(PEOPLE_AN_ADDRESS)
    )
    return [Account(*row) for row in rows]


def set_at(connection: Connection, person_id: int) -> int | None:
    """Since when this person has the password that they have; None: they have none."""
    return connection.execute(sa.select(kept.c.set_at).where(kept.c.person_id == person_id)).scalar()


def set_password(connection: Connection, person_id: int, hash: str, now: int, actor: str) -> None:  # noqa: A002
    """This is the person's password from now on. Raises Refused where somebody else with the same address has one: an
    address and a password must name one person."""
    if account(connection, person_id) is None:
        raise LookupError(f"there is no person {person_id}")
    if is_taken(connection, person_id, lock=True):
        raise Refused("somebody else with the same e-mail address has a password")
    there = connection.execute(sa.update(kept).where(kept.c.person_id == person_id).values(hash=hash, set_at=now))
    if there.rowcount == 0:
        connection.execute(sa.insert(kept).values(person_id=person_id, hash=hash, set_at=now))
    write_audit(connection, now, actor, "password_changed", f"person:{person_id}")


def is_taken(connection: Connection, person_id: int, *, lock: bool = False) -> bool:
    """Whether somebody else with this person's address has a password, so that this one can have none. `lock`: of two
    who set one at the same moment one waits for the other."""
    mine = sa.select(sa.func.lower(sa.func.trim(person.c.email))).where(person.c.id == person_id).scalar_subquery()
    here = sa.func.lower(sa.func.trim(person.c.email)) == mine
    if lock:
        connection.execute(sa.select(person.c.id).where(here).order_by(person.c.id).with_for_update())
    others = sa.select(person.c.id).join(kept, kept.c.person_id == person.c.id)
    found = others.where(here, person.c.id != person_id, person.c.disabled_at.is_(None)).limit(1)
    return connection.execute(found).first() is not None


def keep_anew(connection: Connection, person_id: int, old: str, new: str) -> None:
    """The same password, kept with the parameters of today."""
    connection.execute(
        sa.update(kept).where(kept.c.person_id == person_id, kept.c.hash == old).values(hash=new)
    )  # fmt: skip


def remove_password(connection: Connection, person_id: int) -> bool:
    """Whether there was one."""
    return connection.execute(sa.delete(kept).where(kept.c.person_id == person_id)).rowcount > 0
