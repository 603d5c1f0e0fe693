"""The second factor (TOTP, RFC 6238) of those who switch it on, and the recovery codes that stand in for it.

An app's secret must be known here to check its codes, so it is kept sealed, with a key that is not in the database
(`Signer.key`). Recovery codes have 120 random bits and are kept as their SHA-256.
"""

import hmac
import secrets
from typing import NamedTuple

import pyotp
import sqlalchemy as sa
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from sqlalchemy.engine import Connection

from monitor.store.access import By, Role, begin_session, hashed
from monitor.store.registry import write_audit
from monitor.store.schema import login_link, person, recovery_code
from monitor.store.schema import second_factor as kept

PURPOSE = "second factor"
"""What the key is for (`Signer.key`)."""
STEP_S = 30
DIGITS = 6
DRIFT = 1
"""So many steps a phone's clock may be off."""
CODES = 10
TRIES = 5
"""So many wrong codes end a sign-in; it has to begin anew."""
SETUP_MINUTES = 15
ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
CODE_CHARS = 24


class State(NamedTuple):
    """How somebody's second factor stands. `since_at` None: it is off."""

    since_at: int | None = None
    codes_left: int = 0


def state(connection: Connection, person_id: int) -> State:
    since_at = connection.execute(sa.select(kept.c.since_at).where(kept.c.person_id == person_id)).scalar()
    if since_at is None:
        return State()
    c = recovery_code.c
    left = sa.select(sa.func.count()).where(c.person_id == person_id, c.used_at.is_(None))
    return State(since_at, connection.execute(left).scalar_one())


# --- on and off ----------------------------------------------------------------------------------------------------


def begin(connection: Connection, person_id: int, key: bytes, now: int) -> None:
    """A new secret for an app, which counts for nothing until `confirm`. One that is in use stays as it is."""
    connection.execute(sa.delete(kept).where(kept.c.person_id == person_id, kept.c.since_at.is_(None)))
    if state(connection, person_id).since_at is None:
        sealed = _seal(key, person_id, pyotp.random_base32(32))
        connection.execute(sa.insert(kept).values(person_id=person_id, sealed=sealed, begun_at=now))


def begun(connection: Connection, person_id: int, key: bytes, now: int) -> str | None:
    """The secret that waits to be confirmed; None where none does, or not any more."""
    since = now - SETUP_MINUTES * 60_000
    waiting = kept.c.person_id == person_id, kept.c.since_at.is_(None), kept.c.begun_at > since
    sealed = connection.execute(sa.select(kept.c.sealed).where(*waiting)).scalar()
    return None if sealed is None else _open(key, person_id, sealed)


def confirm(connection: Connection, person_id: int, key: bytes, code: str, now: int, actor: str) -> list[str] | None:
    """Switch it on, as the app shows the right code: the recovery codes, which are told once. None: a wrong code."""
    secret = begun(connection, person_id, key, now)
    step = _step_of(secret, code, now) if secret else None
    if step is None:
        return None
    on = sa.update(kept).where(kept.c.person_id == person_id, kept.c.since_at.is_(None))
    if connection.execute(on.values(since_at=now, last_step=step)).rowcount == 0:
        return None
    write_audit(connection, now, actor, "second_factor_on", f"person:{person_id}")
    return _new_codes(connection, person_id)


def renew_codes(connection: Connection, person_id: int, now: int, actor: str) -> list[str]:
    """Other recovery codes in the place of those that there were; none where the second factor is off."""
    if state(connection, person_id).since_at is None:
        return []
    write_audit(connection, now, actor, "recovery_codes_renewed", f"person:{person_id}")
    return _new_codes(connection, person_id)


def turn_off(connection: Connection, person_id: int, now: int, actor: str) -> bool:
    """Whether it was on."""
    was_on = state(connection, person_id).since_at is not None
    connection.execute(sa.delete(recovery_code).where(recovery_code.c.person_id == person_id))
    connection.execute(sa.delete(kept).where(kept.c.person_id == person_id))
    if was_on:
        write_audit(connection, now, actor, "second_factor_off", f"person:{person_id}")
    return was_on


def _new_codes(connection: Connection, person_id: int) -> list[str]:
    connection.execute(sa.delete(recovery_code).where(recovery_code.c.person_id == person_id))
    codes = ["".join(secrets.choice(ALPHABET) for _ in range(CODE_CHARS)) for _ in range(CODES)]
    connection.execute(sa.insert(recovery_code), [{"hash": hashed(one), "person_id": person_id} for one in codes])
    return ["-".join(one[n : n + 4] for n in range(0, CODE_CHARS, 4)) for one in codes]


def address_of(secret: str, account: str) -> str:
    """What an app reads from the QR code (`otpauth://`)."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name="fettle")


# --- signing in with it --------------------------------------------------------------------------------------------


def is_recovery_code(code: str) -> bool:
    """Whether somebody gave one of these, right or wrong; an app's codes are short."""
    return len(_squeezed(code)) > DIGITS


def person_of_step(connection: Connection, secret: str, now: int) -> int | None:
    """Whose sign-in waits for a code under this secret; None: nobody's, or not any more."""
    found: int | None = connection.execute(sa.select(login_link.c.person_id).where(*_waits(secret, now))).scalar()
    return found


def enter_by_code(
    connection: Connection, secret: str, code: str, key: bytes, now: int, device: str = ""
) -> str | None:  # fmt: skip
    """The last step of a sign-in: the session's secret; None where the code is wrong, was used, or comes too late."""
    # Of two that try at once with the same step both count.
    tried = sa.update(login_link).where(*_waits(secret, now)).values(tries=login_link.c.tries + 1)
    step = connection.execute(
        tried.returning(login_link.c.role, login_link.c.person_id, login_link.c.after)
    ).one_or_none()  # fmt: skip
    if step is None or not spend(connection, step.person_id, code, key, now):
        return None
    connection.execute(sa.update(login_link).where(login_link.c.hash == hashed(secret)).values(used_at=now))
    return begin_session(connection, Role(step.role), step.person_id, By(step.after), now, device)


def _waits(secret: str, now: int) -> tuple[sa.ColumnElement[bool], ...]:
    c = login_link.c
    there = sa.exists().where(person.c.id == c.person_id, person.c.disabled_at.is_(None))
    return c.hash == hashed(secret), c.after != "", c.used_at.is_(None), c.expires_at > now, c.tries < TRIES, there


def spend(connection: Connection, person_id: int, code: str, key: bytes, now: int) -> bool:
    """Use a code up, of the app or a recovery code; whether it was good. Each is good once."""
    if is_recovery_code(code):
        c = recovery_code.c
        mine = c.hash == hashed(_squeezed(code).upper()), c.person_id == person_id, c.used_at.is_(None)
        if connection.execute(sa.update(recovery_code).where(*mine).values(used_at=now)).rowcount != 1:
            return False
        write_audit(connection, now, f"person:{person_id}", "recovery_code_used", f"person:{person_id}")
        return True
    on = kept.c.person_id == person_id, kept.c.since_at.is_not(None)
    row = connection.execute(sa.select(kept.c.sealed).where(*on)).one_or_none()
    secret = _open(key, person_id, row.sealed) if row else None
    step = _step_of(secret, code, now) if secret else None
    if step is None:
        return False
    newer = sa.update(kept).where(*on, kept.c.last_step < step).values(last_step=step)
    return connection.execute(newer).rowcount == 1


def _step_of(secret: str, code: str, now: int) -> int | None:
    """The step of the clock whose code this is, near now."""
    given, totp, current = _squeezed(code), pyotp.TOTP(secret), now // 1000 // STEP_S
    steps = range(current - DRIFT, current + DRIFT + 1)
    fitting = [step for step in steps if hmac.compare_digest(totp.generate_otp(step).encode(), given.encode())]
    return fitting[-1] if fitting else None


def _squeezed(code: str) -> str:
    """Without what people put between for reading."""
    return "".join(code.split()).replace("-", "")


# --- sealed --------------------------------------------------------------------------------------------------------


def _seal(key: bytes, person_id: int, secret: str) -> bytes:
    # Whose it is stands inside, so that a row that is moved to another person opens nothing.
    return bytes(SecretBox(key).encrypt(f"{person_id}:{secret}".encode()))


def _open(key: bytes, person_id: int, sealed: bytes) -> str | None:
    """None where it was sealed with another key: then only recovery codes let that person in."""
    try:
        owner, _, secret = SecretBox(key).decrypt(bytes(sealed)).decode().partition(":")
    except CryptoError:
        return None
    return secret if owner == str(person_id) else None
