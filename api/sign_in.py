"""What signing in needs beside the record: how often somebody may try, links by mail, and word of what was changed.

Guessing is limited by address, by account, and by both together, and locks nobody out: who comes from an address that
has done no harm may always try and may have links mailed, ten in a quarter of an hour, and a recovery code is never
counted.
"""

import secrets
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from threading import Lock

from fastapi import Request
from sqlalchemy import Connection

from api.context import Api
from api.denials import note_denial, stranger
from api.problems import Problem
from monitor.desk import notices
from monitor.desk.notices import Kind, Person, Recipient, addressed, letter_to
from monitor.devices import Severity
from monitor.engine.telling import Telling
from monitor.store import passwords, second_factor
from monitor.store.access import LINK_MINUTES, LINKS_AT_ONCE, Role, create_login_link, links_waiting
from monitor.store.passwords import Account, Hashing
from monitor.store.registry import write_audit

MINUTE_MS = 60_000
KEYS = 10_000


class Tries:
    """Counts by key: at most `limit` within the window that the first of them began. Bounded to the latest keys."""

    def __init__(self, limit: int, window_ms: int) -> None:
        self.limit = limit
        self.window_ms = window_ms
        self._counts: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def wait_ms(self, key: str, now: int) -> int:
        """How long until another try may be made; 0: it may be made now."""
        began_at, count = self._counts.get(key, (now, 0))
        left_ms = began_at + self.window_ms - now
        return left_ms if count >= self.limit and left_ms > 0 else 0

    def note(self, key: str, now: int) -> None:
        began_at, count = self._counts.pop(key, (now, 0))
        if now - began_at >= self.window_ms:
            began_at, count = now, 0
        self._counts[key] = (began_at, count + 1)
        if len(self._counts) > KEYS:
            self._counts.popitem(last=False)

    def take_back(self, key: str) -> None:
        """One of them was none."""
        if key in self._counts:
            began_at, count = self._counts[key]
            self._counts[key] = (began_at, max(0, count - 1))

    def forget(self, key: str) -> None:
        self._counts.pop(key, None)


class Doors:
    """How often somebody may try to come in. One a process; a try counts before it is looked at, so that many at once
    are no way round."""

    def __init__(self, hashing: Hashing | None = None) -> None:
        self.hashing = hashing or Hashing()
        self._lock = Lock()
        self._address = Tries(30, 15 * MINUTE_MS)
        self._pair = Tries(10, 15 * MINUTE_MS)
        # Of strangers only: addresses from which this account was opened lately are not among them.
        self._account = Tries(50, 60 * MINUTE_MS)
        self._codes = Tries(10, 60 * MINUTE_MS)
        self._links = Tries(10, 15 * MINUTE_MS)
        self._friends: OrderedDict[str, None] = OrderedDict()

    def try_password(self, name: str, address: str, now: int) -> int:
        """Count a try of a password. Answers for how long (ms) none is taken; 0: look at it."""
        name, pair = _name(name), f"{address} {_name(name)}"
        with self._lock:
            waits = [self._address.wait_ms(address, now), self._pair.wait_ms(pair, now)]
            if pair not in self._friends:
                waits.append(self._account.wait_ms(name, now))
            if not any(waits):
                for tries, key in ((self._address, address), (self._pair, pair), (self._account, name)):
                    tries.note(key, now)
        return max(waits)

    def password_fitted(self, name: str, address: str) -> None:
        name, pair = _name(name), f"{address} {_name(name)}"
        with self._lock:
            self._address.take_back(address)
            self._account.take_back(name)
            self._pair.forget(pair)
            self._friends.pop(pair, None)
            self._friends[pair] = None
            if len(self._friends) > KEYS:
                self._friends.popitem(last=False)

    def try_code(self, person_id: int, code: str, now: int) -> int:
        """The same for a code of the second factor. Recovery codes are not counted: nobody guesses 120 bits."""
        if second_factor.is_recovery_code(code):
            return 0
        with self._lock:
            wait_ms = self._codes.wait_ms(str(person_id), now)
            if not wait_ms:
                self._codes.note(str(person_id), now)
        return wait_ms

    def code_fitted(self, person_id: int) -> None:
        with self._lock:
            self._codes.take_back(str(person_id))

    def ask_link(self, address: str, now: int) -> int:
        """The same for links by e-mail."""
        with self._lock:
            wait_ms = self._links.wait_ms(address, now)
            if not wait_ms:
                self._links.note(address, now)
        return wait_ms


def _name(text: str) -> str:
    return text.strip().casefold()[:254]


def doors_of(request: Request) -> Doors:
    doors: Doors = request.app.state.doors
    return doors


def address_of(request: Request) -> str:
    """Where a request comes from; of IPv6 the network, for anybody has all addresses of theirs."""
    host = request.client.host if request.client else ""
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(found, IPv6Address):
        return str(found)
    return str(found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64))


BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("MicroMessenger", "WeChat"), ("Firefox", "Firefox"),
            ("FxiOS", "Firefox"), ("Chrom", "Chrome"), ("CriOS", "Chrome"), ("Safari", "Safari"))  # fmt: skip
SYSTEMS = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS", "macOS"),
           ("CrOS", "ChromeOS"), ("Linux", "Linux"))  # fmt: skip


def device_of(request: Request) -> str:
    """A browser roughly, so that its owner knows it again: "Firefox, Android"; '' where it does not say."""
    agent = request.headers.get("user-agent", "")[:400]
    found = [next((name for mark, name in marks if mark in agent), "") for marks in (BROWSERS, SYSTEMS)]
    return ", ".join(filter(None, found))


# --- the second factor's key ---------------------------------------------------------------------------------------


def sealing_key(api: Api) -> bytes:
    """What secrets of second factors are sealed with. Raises the 404 Problem where this service has no secret of its
    own to make it from."""
    signer = api.desk.addresses.signer
    if signer is None:
        raise Problem(404, "Not found", "This service keeps no second factors.")
    return signer.key(second_factor.PURPOSE)


# --- what is told --------------------------------------------------------------------------------------------------


def send_links(api: Api, email: str) -> None:
    """Mail whoever has this address a link that signs them in: to that address and by no other way, for other
    contacts may be a room that many read."""
    now = api.clock()
    with api.reading() as connection:
        known = bool(passwords.accounts_at(connection, email))
    if not known:
        return
    with api.database.begin() as connection:
        for account in passwords.accounts_at(connection, email):
            if links_waiting(connection, account.id, now) < LINKS_AT_ONCE:
                _send_link(api, connection, account, now)


def _send_link(api: Api, connection: Connection, account: Account, now: int) -> None:
    secret = create_login_link(connection, Role(account.role), now, person_id=account.id)
    lang = notices.language(account.lang)
    text = notices.write_sign_in_link(lang, account.name, LINK_MINUTES, f"{api.public_url}/sign-in/{secret}")
    recipient = Recipient(f"person-{account.id}", "email", account.email.strip(), lang)
    cause = f"{Kind.SIGN_IN_LINK}:{secrets.token_hex(8)}:{recipient.key}"
    notice = addressed(recipient, cause, Kind.SIGN_IN_LINK, text, now, severity=Severity.URGENT)
    api.desk.telling.tell(connection, [notice], now)
    write_audit(connection, now, "sign_in", "sign_in_link_sent", f"person:{account.id}")


def tell_of_change(
    telling: Telling, connection: Connection, person_id: int, what: str, now: int, *, timezone: str, public_url: str
) -> None:
    """Tell somebody that how they sign in was changed, in the transaction that changes it."""
    account = passwords.account(connection, person_id)
    if account is None:
        return
    person = Person(account.id, account.role, account.email, account.lang)
    text = notices.write_sign_in_changed(account.lang, account.name, what, now, timezone, f"{public_url}/sign-in")
    name = f"{now}-{secrets.token_hex(4)}"
    telling.tell(
        connection, [letter_to(person, Kind.SIGN_IN_CHANGED, name, text, now, severity=Severity.URGENT)], now
    )  # fmt: skip


def note_failure(request: Request, api: Api, person_id: int | None, by: str) -> None:
    """For the audit, where it is bounded: somebody did not come in. None: to an address that is nobody's."""
    subject = "sign_in" if person_id is None else f"person:{person_id}"
    note_denial(request, api, stranger(request), "sign_in_failed", subject, by)
