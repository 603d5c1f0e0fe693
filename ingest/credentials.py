"""Who may speak to the embedded broker: NATS keys and tokens, minted on this machine, without a network.

A token is a NATS JWT (version 2). The operator signs the account, the account's signing key signs its users. A user's
token carries its permissions, so the broker needs no list of devices; revoking needs only the account's token anew.
"""

import base64
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import nkeys

from ingest.message import KINDS
from monitor.devices import DEVICE_ID, topic

EVERYTHING = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
STORAGE = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


@dataclass(frozen=True)
class Credential:
    """The card that a firmware needs besides the broker's address. The password is shown once and never kept."""

    device_id: str
    public_key: str
    """What names this credential when it is revoked."""
    client_id: str
    username: str
    password: str = field(repr=False)
    topic: str = ""


class Keys(msgspec.Struct, frozen=True):
    """The seeds of everything: whoever reads them can be any device. Kept 0600 in {home}/broker/keys.json."""

    operator: str
    account: str
    signing: str
    system: str
    service: str
    made_at: int
    """The issue date of tokens that must not change: nats-server reloads nothing when its operator's token did."""
    service_client_id: str
    """A secret: whoever connects with it takes over the session that holds what is not yet stored."""


class Keyring:
    """Mints tokens with the keys of one data folder; makes them on first use, whichever process comes first."""

    def __init__(self, folder: Path) -> None:
        private_folder(folder)
        path = folder / "keys.json"
        # What is there needs no lock: processes that only use the keys may have the folder read-only.
        if not path.exists():
            with locked(folder / "keys.lock"):
                if not path.exists():
                    write_private(path, msgspec.json.encode(_new_keys()))
        self._keys = msgspec.json.decode(path.read_bytes(), type=Keys)

    @property
    def account(self) -> str:
        return _public(self._keys.account)

    @property
    def system_account(self) -> str:
        return _public(self._keys.system)

    def operator_token(self) -> str:
        claims = {"type": "operator", "version": 2}
        return _token(self._keys.operator, _public(self._keys.operator), "fettle", claims, self._keys.made_at)

    def account_token(self, revocations: Mapping[str, int], now: int) -> str:
        """The account of all devices and the service. `revocations`: public key → tokens issued until then (s) end."""
        claims = {
            "type": "account",
            "version": 2,
            "limits": EVERYTHING | STORAGE | {"wildcards": True},
            "signing_keys": [_public(self._keys.signing)],
            "revocations": dict(revocations),
        }
        return _token(self._keys.operator, self.account, "fettle", claims, now)

    def system_token(self) -> str:
        """JetStream wants a system account; nobody has a user in it."""
        claims = {"type": "account", "version": 2, "limits": EVERYTHING | {"wildcards": True}}
        return _token(self._keys.operator, self.system_account, "system", claims, self._keys.made_at)

    def mint(self, device_id: str, now: int) -> Credential:
        """A new credential for a device, beside those that it has already."""
        if not DEVICE_ID.fullmatch(device_id):
            raise ValueError(f"device_id {device_id!r} must be 1 to 64 of A-Z a-z 0-9 _ -")
        below = topic(device_id).replace("/", ".")
        seed = _seed(nkeys.PREFIX_BYTE_USER)
        publish = [f"{below}.{kind}" for kind in KINDS]
        token = self._user_token(seed, device_id, publish, [f"{below}.command"], now)
        # NATS cannot tie a client id to a token, and a second login throws the first one out: so it is unguessable.
        client_id = f"{device_id}-{secrets.token_hex(16)}"
        return Credential(device_id, _public(seed), client_id, device_id, token, topic(device_id))

    def service(self, now: int) -> Credential:
        """The service's own credential: hears every device, commands every device."""
        heard = [f"fettle.v1.*.*.{kind}" for kind in KINDS]
        token = self._user_token(self._keys.service, "service", ["fettle.v1.*.*.command"], heard, now)
        return Credential("", _public(self._keys.service), self._keys.service_client_id, "service", token)

    def _user_token(self, seed: str, name: str, publish: list[str], subscribe: list[str], now: int) -> str:
        claims = {
            "type": "user",
            "version": 2,
            "issuer_account": self.account,
            "pub": {"allow": publish},
            "sub": {"allow": subscribe},
            "subs": -1,
            "data": -1,
            "payload": -1,
            # An MQTT client cannot sign the server's challenge, so the token itself is the secret; over MQTT only.
            "bearer_token": True,
            "allowed_connection_types": ["MQTT"],
        }
        return _token(self._keys.signing, _public(seed), name, claims, now)


def _new_keys() -> Keys:
    account = nkeys.PREFIX_BYTE_ACCOUNT
    return Keys(
        operator=_seed(nkeys.PREFIX_BYTE_OPERATOR),
        account=_seed(account),
        signing=_seed(account),
        system=_seed(account),
        service=_seed(nkeys.PREFIX_BYTE_USER),
        made_at=time.time_ns() // 1_000_000,
        service_client_id=f"fettle-{secrets.token_hex(16)}",
    )


def _seed(prefix: int) -> str:
    return str(nkeys.encode_seed(secrets.token_bytes(32), prefix).decode())


def _public(seed: str) -> str:
    return str(nkeys.from_seed(seed.encode()).public_key.decode()).rstrip("=")


def _token(signing_seed: str, subject: str, name: str, nats: Mapping[str, object], now: int) -> str:
    """A NATS JWT, laid out as github.com/nats-io/jwt (v2) reads it."""
    claims = {"iss": _public(signing_seed), "sub": subject, "name": name, "iat": now // 1000, "nats": nats}
    claims["jti"] = base64.b32encode(hashlib.sha256(_json(claims)).digest()).decode().rstrip("=")
    signed = f"{_part(_json({'typ': 'JWT', 'alg': 'ed25519-nkey'}))}.{_part(_json(claims))}"
    return f"{signed}.{_part(nkeys.from_seed(signing_seed.encode()).sign(signed.encode()))}"


def _json(claims: Mapping[str, object]) -> bytes:
    return json.dumps(claims, separators=(",", ":")).encode()


def _part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# --- files with secrets --------------------------------------------------------------------------------------------


def private_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """The new content or the old one, never half of it, and never readable by others in between."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock ends with the process that holds it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
