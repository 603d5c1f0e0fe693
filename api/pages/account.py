"""Somebody's own account: how they read, how they are told, how they sign in, and where they are signed in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal
from urllib.parse import urlsplit

import segno
from fastapi import Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import Field
from sqlalchemy import Connection

from api import account as accounts
from api.access import ForAll
from api.account import AccountShape, Reading
from api.context import Api, Parts
from api.labels import CHANNELS, N_, ROLES
from api.pages.sessions import LONGEST_GIVEN, give_session
from api.pages.shell import pages, render
from api.problems import Problem, not_found
from api.shapes import Given
from api.sign_in import address_of, device_of, doors_of, note_failure, sealing_key, tell_of_change
from api.words import LANG_COOKIE, LANGS, wanted_lang
from api.zones import zones
from monitor.store import passwords, second_factor
from monitor.store.access import (
    By,
    Proof,
    Role,
    Visitor,
    begin_session,
    end_other_sessions,
    end_own_session,
    hold,
    needed_proof,
    open_sessions,
)
from monitor.store.passwords import Busy, Weak
from monitor.store.people import MAX_CONTACTS, Reached
from monitor.store.registry import Refused

router = pages()

DONE = {
    "reading": N_("Saved."),
    "contacts": N_("Saved. It counts from the next notice on."),
    "password": N_("Your password is set. Everywhere else you were signed out."),
    "second_factor_off": N_("The second factor is off. Everywhere else you were signed out."),
    "ended": N_("Signed out there."),
}
REFUSED = {
    "present": N_("That is not your present password."),
    "wait": N_("Too many wrong tries. Wait a while, or sign in again with a link: then no present password is needed."),
    "busy": N_("Too many people sign in at this moment. Try again."),
    "link": N_("You have come in too long ago for this. Have a link sent, and sign in with it."),
    "code": N_("That code is not right, or was used. Wait for the next one, and look at the phone's clock."),
    "shared": N_(
        "Somebody else with the same e-mail address has a password. Ask operations for an address of your own."
    ),
    "contacts": N_("Your contacts have changed in the meantime. Look at them again."),
    "contact": N_("A contact is not taken as it is any more. Ask operations to mend it."),
    Weak.SHORT: N_("Take at least 12 characters. A few words that nobody would put together are good."),
    Weak.LONG: N_("Take at most 128 characters."),
    Weak.SIMPLE: N_("That is a few characters again and again, or in their order. Take something less even."),
    Weak.COMMON: N_("That is among the first that anybody would try. Take something of your own."),
    Weak.KNOWN: N_("Do not take your name, your address or that of this service."),
}
WRONG = {"present": 403, "wait": 429, "busy": 503, "link": 403, "contacts": 409}
"""By which status a refusal is told; the others are 422."""

Present = Annotated[str, Field(max_length=LONGEST_GIVEN)]
ClockTime = Annotated[str, Field(pattern=r"^(([01]\d|2[0-3]):[0-5]\d)?$")]
MoreIds = Annotated[list[int], Field(max_length=MAX_CONTACTS)]
ClockTimes = Annotated[list[ClockTime], Field(max_length=MAX_CONTACTS)]


class ReadingForm(Given):
    lang: Literal["zh", "en"]
    timezone: str = Field("", max_length=64)


class ProofForm(Given):
    present: Present = ""


class NewPasswordForm(ProofForm):
    password: str = Field(max_length=LONGEST_GIVEN)


class ConfirmForm(Given):
    code: str = Field(max_length=60)


class ContactsForm(Given):
    """One of each a contact, in the order in which the page shows them; `place`: where it is to stand."""

    address: list[str] = Field(max_length=MAX_CONTACTS)
    place: MoreIds
    quiet_from: ClockTimes
    quiet_until: ClockTimes


class EndForm(Given):
    handle: str = Field("", max_length=64, description="'': all but this one.")


class _NotTaken(Exception):
    """Why something is not done: a key of REFUSED."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def _own(visitor: Visitor) -> int:
    """Whose account the page is; it takes a session of one's own to change it."""
    if visitor.via != "session" or visitor.person_id is None:
        raise not_found("account")
    return visitor.person_id


@contextmanager
def _held(api: Api, visitor: Visitor, now: int) -> Iterator[Connection]:
    """A transaction in which the visitor's session still lasts: it may have been ended while a password was looked at.
    Raises the 401 Problem where it was."""
    with api.database.begin() as connection:
        if not hold(connection, visitor, now):
            raise Problem(401, "Sign in again", "This session was ended in the meantime; nothing was changed.")
        yield connection


# --- the page ------------------------------------------------------------------------------------------------------


@router.get("/account")
def account_page(request: Request, api: Parts, visitor: ForAll, told: str = "") -> HTMLResponse:
    if visitor.via != "session" or visitor.person_id is None:
        return render(request, "account_of_nobody.html", visitor=visitor, role=ROLES[visitor.role])
    return _page(request, api, visitor, done=DONE.get(told, ""))


def _page(request: Request, api: Api, visitor: Visitor, *, done: str = "", why: str = "") -> HTMLResponse:
    own, now = accounts.own_account(api, visitor), api.clock()
    with api.reading() as connection:
        sessions = open_sessions(connection, visitor, now)
        proof = needed_proof(connection, visitor, has_password=own.password_set_at is not None, now=now)
        taken = passwords.is_taken(connection, own.person_id)
    return render(
        request, "account.html", visitor=visitor, status=WRONG.get(why, 422) if why else 200, own=own,
        role=ROLES[Role(own.role)], channels=CHANNELS, sessions=sessions, proof=proof, taken=taken,
        done=done, first=_first(own, taken=taken),
        refused=REFUSED.get(why, ""), company_zone=api.timezone, langs=LANGS,
        zones=zones(wanted_lang(request, api.lang), now), seals=api.desk.addresses.signer is not None,
        shortest=passwords.SHORTEST,
    )  # fmt: skip


def _first(own: AccountShape, *, taken: bool) -> str:
    """What of the page is the next right step."""
    if own.password_set_at is None and not taken:
        return "password"
    return "reading" if own.second_factor_since_at else "second_factor"


def _done(what: str) -> Response:
    return RedirectResponse(f"/account?told={what}", 303)


def _tell(api: Api, connection: Connection, person_id: int, what: str, now: int) -> None:
    tell_of_change(
        api.desk.telling, connection, person_id, what, now, timezone=api.timezone, public_url=api.public_url
    )  # fmt: skip


# --- reading and being told ----------------------------------------------------------------------------------------


@router.post("/account/reading")
def set_reading(api: Parts, visitor: ForAll, form: Annotated[ReadingForm, Form()]) -> Response:
    _own(visitor)
    accounts.set_reading(api, visitor, Reading(lang=form.lang, timezone=form.timezone))
    response = _done("reading")
    # What was chosen for this browser at some time counts more; and this was chosen now.
    response.delete_cookie(LANG_COOKIE, secure=api.secure_cookies, httponly=True, samesite="lax")
    return response


@router.post("/account/contacts")
def set_contacts(request: Request, api: Parts, visitor: ForAll, form: Annotated[ContactsForm, Form()]) -> Response:
    _own(visitor)
    there = accounts.own_account(api, visitor).contacts
    same = [f"{one.channel}:{one.address}" for one in there] == form.address
    if not same or {len(form.place), len(form.quiet_from), len(form.quiet_until)} != {len(there)}:
        return _page(request, api, visitor, why="contacts")
    quiet = zip(form.quiet_from, form.quiet_until, strict=True)
    wanted = [
        (place, n, Reached(one.channel, one.address, _minute(since), _minute(until)))
        for n, (one, place, (since, until)) in enumerate(zip(there, form.place, quiet, strict=True))
    ]
    try:
        accounts.set_quiet_hours(api, visitor, [one for _, _, one in sorted(wanted, key=lambda one: one[:2])])
    except Problem as problem:
        if problem.status != 422:
            raise
        return _page(request, api, visitor, why="contact")
    return _done("contacts")


def _minute(clock_time: str) -> int:
    hour, _, minute = (clock_time or "00:00").partition(":")
    return int(hour) * 60 + int(minute)


# --- the password --------------------------------------------------------------------------------------------------


@router.post("/account/password")
def set_password(request: Request, api: Parts, visitor: ForAll, form: Annotated[NewPasswordForm, Form()]) -> Response:
    """Set it or change it. Every other session of this person ends, and this one gets another secret."""
    _own(visitor)
    try:
        _prove(request, api, visitor, form.present)
        begun = _take_password(request, api, visitor, form.password)
    except _NotTaken as refusal:
        return _page(request, api, visitor, why=refusal.why)
    response = _done("password")
    give_session(api, response, begun)
    return response


def _take_password(request: Request, api: Api, visitor: Visitor, password: str) -> str:
    own, person_id, now = accounts.own_account(api, visitor), _own(visitor), api.clock()
    host = urlsplit(api.public_url).hostname or ""
    weak = passwords.weakness(password, (own.name, own.email, host, "fettle"))
    if weak is not None:
        raise _NotTaken(weak)
    try:
        kept = doors_of(request).hashing.hash(password)
        with _held(api, visitor, now) as connection:
            passwords.set_password(connection, person_id, kept, now, visitor.actor)
            end_other_sessions(connection, person_id, "", visitor.actor, now)
            _tell(api, connection, person_id, "password", now)
            return begin_session(connection, visitor.role, person_id, By.PASSWORD, now, device_of(request))
    except Busy:
        raise _NotTaken("busy") from None
    except Refused:
        raise _NotTaken("shared") from None


def _prove(request: Request, api: Api, visitor: Visitor, present: str) -> None:
    """Raises _NotTaken where somebody has not shown what it takes to change how they sign in."""
    person_id, now, doors = _own(visitor), api.clock(), doors_of(request)
    with api.reading() as connection:
        account = passwords.account(connection, person_id)
        has_password = account is not None and account.hash is not None
        proof = needed_proof(connection, visitor, has_password=has_password, now=now)
    if proof is Proof.NOTHING:
        return
    if account is None or proof is Proof.LINK:
        raise _NotTaken("link")
    # No address that somebody types at the sign-in can be this one.
    name, address = f"\0person {person_id}", address_of(request)
    if doors.try_password(name, address, now):
        raise _NotTaken("wait")
    try:
        fits = doors.hashing.fits(account.hash, present)
    except Busy:
        raise _NotTaken("busy") from None
    if not fits:
        note_failure(request, api, person_id, "present password")
        raise _NotTaken("present")
    doors.password_fitted(name, address)


# --- the second factor ---------------------------------------------------------------------------------------------


@router.post("/account/second-factor")
def begin_second_factor(request: Request, api: Parts, visitor: ForAll, form: Annotated[ProofForm, Form()]) -> Response:
    """Make a secret for an app; it counts once the app has shown a code."""
    person_id = _own(visitor)
    try:
        _prove(request, api, visitor, form.present)
    except _NotTaken as refusal:
        return _page(request, api, visitor, why=refusal.why)
    with _held(api, visitor, api.clock()) as connection:
        second_factor.begin(connection, person_id, sealing_key(api), api.clock())
    return RedirectResponse("/account/second-factor", 303)


@router.get("/account/second-factor")
def second_factor_page(request: Request, api: Parts, visitor: ForAll) -> HTMLResponse:
    return _setup_page(request, api, visitor)


def _setup_page(request: Request, api: Api, visitor: Visitor, why: str = "") -> HTMLResponse:
    """The QR code and a field for the first code; without a secret that waits, the way back."""
    secret = None
    if visitor.via == "session" and visitor.person_id is not None:
        with api.reading() as connection:
            secret = second_factor.begun(connection, visitor.person_id, sealing_key(api), api.clock())
    qr = ""
    if secret is not None:
        address = second_factor.address_of(secret, accounts.own_account(api, visitor).email)
        qr = segno.make(address, error="m", micro=False).svg_data_uri(border=4, scale=5, dark="black", light="white")
    return render(
        request, "second_factor.html", visitor=visitor, status=WRONG.get(why, 422) if why else 200, qr=qr,
        key=" ".join(secret[n : n + 4] for n in range(0, len(secret), 4)) if secret else "",
        refused=REFUSED.get(why, ""), codes=[],
    )  # fmt: skip


@router.post("/account/second-factor/confirm")
def confirm_second_factor(
    request: Request, api: Parts, visitor: ForAll, form: Annotated[ConfirmForm, Form()]
) -> Response:  # fmt: skip
    """Switch it on, and show the recovery codes: this once, and never again."""
    person_id, doors, now = _own(visitor), doors_of(request), api.clock()
    if doors.try_code(person_id, form.code[:6], now):
        return _setup_page(request, api, visitor, "wait")
    with _held(api, visitor, now) as connection:
        codes = second_factor.confirm(connection, person_id, sealing_key(api), form.code, now, visitor.actor)
        if codes is not None:
            end_other_sessions(connection, person_id, visitor.key_hash, visitor.actor, now)
            _tell(api, connection, person_id, "second_factor_on", now)
    if codes is None:
        return _setup_page(request, api, visitor, "code")
    doors.code_fitted(person_id)
    return _codes_page(request, visitor, codes)


@router.post("/account/second-factor/codes")
def renew_codes(request: Request, api: Parts, visitor: ForAll, form: Annotated[ProofForm, Form()]) -> Response:
    """Other recovery codes in the place of those that there were."""
    person_id, now = _own(visitor), api.clock()
    try:
        _prove(request, api, visitor, form.present)
    except _NotTaken as refusal:
        return _page(request, api, visitor, why=refusal.why)
    with _held(api, visitor, now) as connection:
        codes = second_factor.renew_codes(connection, person_id, now, visitor.actor)
        if codes:
            end_other_sessions(connection, person_id, visitor.key_hash, visitor.actor, now)
            _tell(api, connection, person_id, "codes", now)
    return _codes_page(request, visitor, codes) if codes else RedirectResponse("/account", 303)


@router.post("/account/second-factor/off")
def second_factor_off(request: Request, api: Parts, visitor: ForAll, form: Annotated[ProofForm, Form()]) -> Response:
    person_id, now = _own(visitor), api.clock()
    try:
        _prove(request, api, visitor, form.present)
    except _NotTaken as refusal:
        return _page(request, api, visitor, why=refusal.why)
    with _held(api, visitor, now) as connection:
        if second_factor.turn_off(connection, person_id, now, visitor.actor):
            end_other_sessions(connection, person_id, visitor.key_hash, visitor.actor, now)
            _tell(api, connection, person_id, "second_factor_off", now)
    return _done("second_factor_off")


def _codes_page(request: Request, visitor: Visitor, codes: list[str]) -> HTMLResponse:
    return render(request, "second_factor.html", visitor=visitor, qr="", key="", refused="", codes=codes)


# --- where they are signed in --------------------------------------------------------------------------------------


@router.post("/account/sessions/end")
def end_session_elsewhere(api: Parts, visitor: ForAll, form: Annotated[EndForm, Form()]) -> Response:
    """Sign out somewhere else; one that has ended already stays so."""
    person_id = _own(visitor)
    with _held(api, visitor, api.clock()) as connection:
        if form.handle:
            end_own_session(connection, visitor, form.handle, api.clock())
        else:
            end_other_sessions(connection, person_id, visitor.key_hash, visitor.actor, api.clock())
    return _done("ended")
