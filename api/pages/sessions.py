"""Coming in and going out: by e-mail and password, or by a link that works once; then, for those who have switched it
on, by the code of a second factor.

What a stranger is told is the same whether an account exists or not, and takes as long: whatever differs is done after
the answer.
"""

from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import Field
from starlette.background import BackgroundTask

from api.access import ForAll, Open, guesses_of, session_cookie_name
from api.context import Api, Parts
from api.denials import note_denial, stranger
from api.pages.shell import home_of, pages, render
from api.shapes import Given
from api.sign_in import address_of, device_of, doors_of, note_failure, sealing_key, send_links
from monitor.store import passwords, second_factor
from monitor.store.access import (
    LINK_MINUTES,
    SESSION_HOURS,
    By,
    Entry,
    Role,
    end_presented,
    end_session,
    enter,
    hashed,
    redeem_login_link,
    visitor_of_session,
)
from monitor.store.passwords import Account, Busy

router = pages()

Email = Annotated[str, Field(max_length=254)]
LONGEST_GIVEN = 400


class PasswordForm(Given):
    email: Email
    password: str = Field(max_length=LONGEST_GIVEN)


class LinkForm(Given):
    email: Email
    password: str = Field("", max_length=LONGEST_GIVEN, description="Of the same form; not looked at.")


class CodeForm(Given):
    secret: str = Field(max_length=200)
    code: str = Field(max_length=60)


@router.get("/sign-in/password", dependencies=[Open])
@router.get("/sign-in/link", dependencies=[Open])
@router.get("/sign-in/code", dependencies=[Open])
def begin_again() -> Response:
    """These take forms; whoever comes back to their address begins anew."""
    return RedirectResponse("/sign-in", 303)


@router.get("/sign-in", dependencies=[Open])
@router.get("/sign-in/{secret}", dependencies=[Open])
def sign_in_page(request: Request, secret: str = "") -> HTMLResponse:
    """Shows a form, or for a link one button, and changes nothing: programs that scan mail open links too."""
    return _page(request, secret=secret[:200])


@router.post("/sign-in", dependencies=[Open])
def sign_in(request: Request, api: Parts, secret: Annotated[str, Form(max_length=200)]) -> Response:
    """Use the link up and begin a session; from here on its secret is only in the cookie."""
    with api.database.begin() as connection:
        entry = redeem_login_link(connection, secret.strip(), api.clock(), device_of(request))
    if entry is None:
        note_denial(request, api, stranger(request), "link_refused", "sign_in")
        guesses_of(request).refuse(request.client.host if request.client else "")
        return _page(request, 403, told="link")
    return _come_in(request, api, entry)


@router.post("/sign-in/password", dependencies=[Open])
def sign_in_by_password(request: Request, api: Parts, form: Annotated[PasswordForm, Form()]) -> Response:
    """Begin a session, or go on to the code."""
    doors, address = doors_of(request), address_of(request)
    wait_ms = doors.try_password(form.email, address, api.clock())
    if wait_ms:
        return _page(request, 429, told="wait", wait_ms=wait_ms, email=form.email)
    with api.reading() as connection:
        found = _account_of(passwords.accounts_at(connection, form.email))
    try:
        fits = doors.hashing.fits(found.hash if found else None, form.password)
        entry = _enter(request, api, found, form.password) if fits and found else None
    except Busy:
        return _page(request, 503, told="busy", email=form.email)
    if entry is None:
        page = _page(request, 403, told="password", email=form.email)
        page.background = BackgroundTask(note_failure, request, api, found.id if found else None, "password")
        return page
    doors.password_fitted(form.email, address)
    return _come_in(request, api, entry)


def _account_of(accounts: list[Account]) -> Account | None:
    """Whose password is meant: an address has one, and it may have people without."""
    return next((one for one in accounts if one.hash), accounts[0] if accounts else None)


def _enter(request: Request, api: Api, found: Account, password: str) -> Entry | None:
    """Into the account whose password was right a moment ago, if it still is."""
    hashing, now = doors_of(request).hashing, api.clock()
    anew = hashing.hash(password) if found.hash and hashing.is_outdated(found.hash) else None
    with api.database.begin() as connection:
        present = passwords.account(connection, found.id, lock=True)
        if present is None or present.hash is None or present.hash != found.hash:
            return None
        if anew is not None:
            passwords.keep_anew(connection, found.id, present.hash, anew)
        return enter(connection, Role(present.role), present.id, By.PASSWORD, now, device_of(request))


@router.post("/sign-in/link", dependencies=[Open])
def mail_link(request: Request, api: Parts, form: Annotated[LinkForm, Form()]) -> Response:
    """Mail a link to whoever has this address; the answer does not tell whether anybody has."""
    wait_ms = doors_of(request).ask_link(address_of(request), api.clock())
    if wait_ms:
        return _page(request, 429, told="wait_link", wait_ms=wait_ms, email=form.email)
    if not form.email.strip():
        return _page(request, 422, told="email")
    page = _page(request, told="sent", email=form.email)
    page.background = BackgroundTask(send_links, api, form.email)
    return page


@router.post("/sign-in/code", dependencies=[Open])
def sign_in_by_code(request: Request, api: Parts, form: Annotated[CodeForm, Form()]) -> Response:
    """The last step, for those with a second factor."""
    doors, now = doors_of(request), api.clock()
    with api.reading() as connection:
        person_id = second_factor.person_of_step(connection, form.secret, now)
    if person_id is None:
        note_denial(request, api, stranger(request), "link_refused", "code")
        guesses_of(request).refuse(request.client.host if request.client else "")
        return _page(request, 403, told="step")
    wait_ms = doors.try_code(person_id, form.code, now)
    if wait_ms:
        return _code_page(request, form.secret, 429, told="wait", wait_ms=wait_ms)
    with api.database.begin() as connection:
        begun = second_factor.enter_by_code(
            connection, form.secret, form.code, sealing_key(api), now, device_of(request)
        )  # fmt: skip
    if begun is None:
        page = _code_page(request, form.secret, 403, told="wrong")
        page.background = BackgroundTask(note_failure, request, api, person_id, "code")
        return page
    doors.code_fitted(person_id)
    return _come_in(request, api, Entry(begun, complete=True))


@router.post("/sign-out")
def sign_out(api: Parts, visitor: ForAll) -> Response:
    if visitor.via == "session":
        with api.database.begin() as connection:
            end_session(connection, visitor, api.clock())
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(session_cookie_name(api), path="/", secure=api.secure_cookies, httponly=True)
    return response


def _come_in(request: Request, api: Api, entry: Entry) -> Response:
    if not entry.complete:
        return _code_page(request, entry.secret)
    before = request.cookies.get(session_cookie_name(api), "")
    if before:
        with api.database.begin() as connection:
            end_presented(connection, before, api.clock())
    with api.reading() as connection:
        home = home_of(visitor_of_session(connection, hashed(entry.secret), api.clock()))
    response = RedirectResponse(home, 303)
    give_session(api, response, entry.secret)
    return response


def give_session(api: Api, response: Response, secret: str) -> None:
    """Put a session into the browser's cookie, in the place of the one before."""
    response.set_cookie(
        session_cookie_name(api),
        secret,
        max_age=SESSION_HOURS * 3600,
        path="/",
        secure=api.secure_cookies,
        httponly=True,
        samesite="lax",
    )


def _page(
    request: Request, status: int = 200, *, secret: str = "", told: str = "", wait_ms: int = 0, email: str = ""
) -> HTMLResponse:
    page = render(
        request, "sign_in.html", status=status, secret=secret, told=told, minutes=_minutes(wait_ms),
        email=email.strip(), link_minutes=LINK_MINUTES,
    )  # fmt: skip
    return _to_be_waited(page, wait_ms)


def _code_page(request: Request, secret: str, status: int = 200, *, told: str = "", wait_ms: int = 0) -> HTMLResponse:
    page = render(
        request, "sign_in_code.html", status=status, secret=secret, told=told, minutes=_minutes(wait_ms)
    )  # fmt: skip
    return _to_be_waited(page, wait_ms)


def _to_be_waited(page: HTMLResponse, wait_ms: int) -> HTMLResponse:
    if wait_ms:
        page.headers["Retry-After"] = str(wait_ms // 1000 + 1)
    return page


def _minutes(wait_ms: int) -> int:
    return -(-wait_ms // 60_000)
