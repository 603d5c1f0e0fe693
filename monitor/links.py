"""Signed links: a few facts in an address that only this company can have written, good until a moment. Pure.

A link is no secret kept in the database: whoever holds it may do the one thing that it is for. `purpose` keeps a link
of one kind from being taken for another.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

import msgspec

from monitor.devices import DEVICE_ID

MIN_SECRET_BYTES = 32
LONGEST = 400
_SIGNATURE_BYTES = 16
CUSTOMER_LINK_MS = 30 * 86_400_000
"""How long a link to a customer's page is good; every notice brings a new one."""
NEVER = 2**63 - 1
"""When a label on a machine expires."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs and reads links with the company's secret (FETTLE_LINK_SECRET)."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) < MIN_SECRET_BYTES:
            raise ValueError(f"the secret of links needs {MIN_SECRET_BYTES} bytes or more, not {len(self.secret)}")

    @classmethod
    def passing(cls) -> "Signer":
        """With a secret of its own: what it signs is worth nothing after this process."""
        return cls(secrets.token_bytes(MIN_SECRET_BYTES))

    def sign(self, purpose: str, facts: tuple[int, ...], expires_at: int) -> str:
        """A token for an address. `expires_at`: epoch ms, from which on it is worth nothing."""
        body = msgspec.msgpack.encode((expires_at, *facts))
        return _text(body + self._signature(purpose, body))

    def read(self, purpose: str, token: str, now: int) -> tuple[int, ...] | None:
        """The facts of a token; None where it is not ours, of another purpose, or too old."""
        if len(token) > LONGEST:
            return None
        try:
            signed = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            return None
        body, signature = signed[:-_SIGNATURE_BYTES], signed[-_SIGNATURE_BYTES:]
        # One link has one spelling: the last character may hold bits that mean nothing. And only what we have signed is
        # ever decoded.
        if _text(signed) != token or not hmac.compare_digest(signature, self._signature(purpose, body)):
            return None
        expires_at, *facts = msgspec.msgpack.decode(body, type=tuple[int, ...])
        return tuple(facts) if now < expires_at else None

    def key(self, purpose: str) -> bytes:
        """A key of 32 bytes to seal by what is kept; it signs nothing, and no signature tells it."""
        return hmac.digest(self.secret, b"\0key " + purpose.encode(), hashlib.sha256)

    def _signature(self, purpose: str, body: bytes) -> bytes:
        return hmac.digest(self.secret, purpose.encode() + b"\0" + body, hashlib.sha256)[:_SIGNATURE_BYTES]


def _text(signed: bytes) -> str:
    return base64.urlsafe_b64encode(signed).rstrip(b"=").decode()


# --- what is linked ------------------------------------------------------------------------------------------------

# Both carry the epoch that stands in the record: raise that, and every link handed out before has ended.


def customer_token(signer: Signer, customer_id: int, epoch: int, now: int) -> str:
    """Opens a customer's page (`/c/…`)."""
    return signer.sign("customer", (customer_id, epoch), now + CUSTOMER_LINK_MS)


def read_customer(signer: Signer, token: str, now: int) -> tuple[int, int] | None:
    """(customer, epoch) of a token; None where it is not one, or too old."""
    facts = signer.read("customer", token, now)
    return (facts[0], facts[1]) if facts else None


def label_token(signer: Signer, device_id: str, epoch: int) -> str:
    """Opens the page of one machine (`/m/…`), from the label on it. Its id stands before the dot, and is signed along;
    a label does not expire."""
    return f"{device_id}.{signer.sign(_label_of(device_id), (epoch,), NEVER)}"


def read_label(signer: Signer, token: str, now: int) -> tuple[str, int] | None:
    """(machine, epoch) of a label's token; None where it is not one."""
    device_id, _, signed = token[: LONGEST + 1].partition(".")
    if len(token) > LONGEST or not DEVICE_ID.fullmatch(device_id):
        return None
    facts = signer.read(_label_of(device_id), signed, now)
    return (device_id, facts[0]) if facts else None


def _label_of(device_id: str) -> str:
    return f"label {device_id}"
