"""Credentials for an outside Mosquitto: the password and acl files that its operator points it to.

Mosquitto reads both at its start and at SIGHUP; whoever runs it sends that after a change (docs/wire-contract.md).
"""

import base64
import hashlib
import secrets
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import msgspec

from ingest.connection import Address
from ingest.credentials import Credential, locked, private_folder, write_private
from ingest.message import KINDS
from ingest.subscriber import TOPICS
from monitor.devices import DEVICE_ID, topic

# The passwords are 192 random bits, so guessing is hopeless at any count; mosquitto's own default keeps sign-in cheap.
ITERATIONS = 101


class Card(msgspec.Struct, frozen=True):
    """One login of the files: a device's, or the service's own (device_id '')."""

    device_id: str
    hash: str


class PasswordFiles:
    """The folder {home}/mosquitto: logins.json is the truth, passwd and acl are written from it."""

    def __init__(self, home: Path) -> None:
        self.folder = home.absolute() / "mosquitto"
        self.passwd = self.folder / "passwd"
        self.acl = self.folder / "acl"
        private_folder(self.folder)

    def mint(self, device_id: str, now: int) -> Credential:  # noqa: ARG002 - as the embedded broker mints
        """A new login for a device, beside those that it has already; good after Mosquitto's next SIGHUP."""
        if not DEVICE_ID.fullmatch(device_id):
            raise ValueError(f"device_id {device_id!r} must be 1 to 64 of A-Z a-z 0-9 _ -")
        # One name for login and client: `use_username_as_clientid true` then ties the client id to the credential.
        key, password = secrets.token_hex(16), secrets.token_urlsafe(24)
        name = f"{device_id}-{key}"
        with locked(self.folder / "lock"):
            self._write(self._logins() | {name: Card(device_id, hashed(password))})
        return Credential(device_id, key, name, name, password, topic(device_id))

    def revoke(self, usernames: Collection[str]) -> None:
        """These logins are gone; Mosquitto refuses them from its next SIGHUP on."""
        with locked(self.folder / "lock"):
            self._write({name: card for name, card in self._logins().items() if name not in usernames})

    def service(self, address: Address) -> tuple[Address, str]:
        """The address with the service's sign-in there, and its secret client id.

        The sign-in is the one that the address names, else one of our own; either way the files know it.
        """
        path = self.folder / "service.json"
        with locked(self.folder / "lock"):
            if not path.exists():
                write_private(path, msgspec.json.encode([f"fettle-{secrets.token_hex(16)}", secrets.token_urlsafe(24)]))
            own_name, own_password = msgspec.json.decode(path.read_bytes(), type=tuple[str, str])
            if not address.username:
                address = replace(address, username=own_name, password=own_password)
            logins = self._logins()
            known = logins.get(address.username)
            if known is None or not _opens(known.hash, address.password):
                self._write(logins | {address.username: Card("", hashed(address.password))})
        return address, own_name

    def _logins(self) -> dict[str, Card]:
        path = self.folder / "logins.json"
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Card]) if path.exists() else {}

    def _write(self, logins: dict[str, Card]) -> None:
        write_private(self.folder / "logins.json", msgspec.json.encode(logins))
        self._publish(self.passwd, "".join(f"{name}:{card.hash}\n" for name, card in logins.items()))
        self._publish(self.acl, "".join(_rights(name, card) for name, card in logins.items()))

    def _publish(self, path: Path, text: str) -> None:
        """Owner only, until the operator lets mosquitto's group read the file (chgrp, chmod g+r): that is kept."""
        path.touch(0o600)
        with path.open("r+") as file:
            file.write(text)
            file.truncate()


def hashed(password: str) -> str:
    """Mosquitto 2's form of a password: `$7$iterations$salt$hash`, PBKDF2 over SHA-512."""
    return _derived(password, secrets.token_bytes(12))


def _derived(password: str, salt: bytes) -> str:
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return f"$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def _opens(kept: str, password: str) -> bool:
    return secrets.compare_digest(kept, _derived(password, base64.b64decode(kept.split("$")[3])))


def _rights(name: str, card: Card) -> str:
    if card.device_id:
        below = topic(card.device_id)
        lines = [*(f"topic write {below}/{kind}" for kind in KINDS), f"topic read {below}/command"]
    else:
        lines = [*(f"topic read {heard}" for heard in TOPICS), "topic write fettle/v1/+/+/command"]
    return "\n".join([f"user {name}", *lines, "", ""])
