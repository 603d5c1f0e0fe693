"""What every page has: the frame around it, in the reader's language and zone."""

import gzip
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute

from api.access import OFFICE, STAFF
from api.context import Api, api_of
from api.labels import N_, Labels
from api.pages.filling import Complaint, shown_again
from api.words import LANG_COOKIE, Words, wanted_lang, words_of
from monitor.store import queries
from monitor.store.access import Role, Visitor

EVERYBODY = tuple(Role)
OF_THEIR_OWN = (Role.TECHNICIAN, Role.CUSTOMER)
"""Roles whose people are shown each their own."""
KEPT_S = 2
PAGES_KEPT = 200
BYTES_KEPT = 32 * 2**20
"""So much all of them take together, packed and plain: a page of ten thousand machines is long."""
NOW_HEADER = "X-Now"
"""Of every page: the server's time in epoch ms."""
SHOWN_HEADER = "X-Shown"
"""Of a page that many share: the number of the newest change that it shows."""
CHIEFS = (Role.MANAGER, Role.OPS, Role.ADMIN)


@dataclass(frozen=True)
class Entry:
    """A way to a page, for those whose page it is. `first`: it stands in the bar itself where there is room."""

    path: str
    label: str
    roles: tuple[Role, ...]
    first: bool = False
    own: bool = False
    """Only of people, not of built-in accounts."""

    def leads_to(self, path: str) -> bool:
        """Whether a page lies behind it."""
        return path == self.path or (self.path != "/" and path.startswith(f"{self.path}/"))


ENTRIES = (
    Entry("/job", N_("My job"), (Role.TECHNICIAN,), first=True, own=True),
    Entry("/", N_("Fleet"), STAFF, first=True),
    Entry("/", N_("Your machines"), (Role.CUSTOMER,), first=True),
    Entry("/tickets", N_("Tickets"), EVERYBODY, first=True),
    Entry("/machines", N_("Machines"), EVERYBODY, first=True),
    Entry("/maintenance", N_("Maintenance"), STAFF, first=True),
    Entry("/reports", N_("Monthly report"), CHIEFS, first=True),
    Entry("/inspections", N_("Inspections"), STAFF),
    Entry("/spot-checks", N_("Spot checks"), STAFF),
    Entry("/handover", N_("Hand-over"), STAFF),
    Entry("/rentals", N_("Rentals"), STAFF),
    Entry("/reliability", N_("Reliability"), OFFICE),
    Entry("/rejected", N_("Rejected messages"), (Role.OPS, Role.ADMIN)),
    Entry("/settings", N_("Settings"), OFFICE),
    Entry("/wall", N_("Wall"), STAFF),
    Entry("/account", N_("Account"), EVERYBODY, own=True),
)


def pages() -> APIRouter:
    """A router whose routes are pages: none stands in the API's own description."""
    return APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


def render(
    request: Request, template: str, *, visitor: Visitor | None = None, status: int = 200, **known: object
) -> HTMLResponse:
    """Answer by a page in the reader's language; where it shows a `complaint`, with its status, and with the form as it
    was sent."""
    words = _words(request)
    html = _html(request, template, visitor, words, known)
    complaint = known.get("complaint")
    if isinstance(complaint, Complaint):
        return _answer(request, shown_again(request, html, complaint), words, complaint.status)
    return _answer(request, html, words, status)


def render_shared(
    request: Request, template: str, visitor: Visitor, known: Callable[[], Mapping[str, object]]
) -> HTMLResponse:
    """The same of a page that looks alike for all who have the same rights to it, which many may have open at once: it
    is laid out anew for the first who asks after something changed, and every KEPT_S.

    `known` answers what the template shows; nothing of it may depend on who reads, but on their role and customer.
    """
    api = api_of(request)
    words = _words(request)
    own = visitor.person_id if visitor.role in OF_THEIR_OWN else visitor.person_id is not None
    eyes = (visitor.role, visitor.customer_id, own, words.lang, str(words.zone))
    shared: Shared = request.app.state.shared
    page = shared.page(
        (template, str(request.url.query), *eyes), api.clock(), lambda: _newest(api),
        lambda: _html(request, template, visitor, words, known()), aged=_may_be_aged(request),
    )  # fmt: skip
    packed = "gzip" in request.headers.get("accept-encoding", "")
    answer = _answer(request, page.packed if packed else page.html, words, 200)
    answer.headers.update({SHOWN_HEADER: str(page.shown), "Vary": "Accept-Encoding"})
    if packed:
        answer.headers["Content-Encoding"] = "gzip"
    return answer


def _newest(api: Api) -> int:
    with api.reading() as connection:
        return queries.last_change(connection)


def _may_be_aged(request: Request) -> bool:
    """Whether whoever asks takes a page that is a little old: a page left open does, and asks again where it has heard
    of more than it was shown; somebody who comes from a form wants to see what they did."""
    return f"max-age={KEPT_S}" in request.headers.get("cache-control", "")


class Page(NamedTuple):
    """A page as it was laid out: plain, as gzip, and the number of the newest change that it shows."""

    html: str
    packed: bytes
    shown: int


class Shared:
    """Pages that were laid out a moment ago, for the next who asks for the same."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()

    def page(
        self, key: Hashable, now: int, newest: Callable[[], int], lay_out: Callable[[], str], *, aged: bool = False
    ) -> Page:
        """The page of this key, with every change until `newest()`, and laid out less than KEPT_S ago; `aged`: some of
        these changes may be missing. Of several who ask at once one lays it out, and the others wait for it, unless
        they take what there is."""
        with self._guard:
            kept = self._kept.setdefault(key, _Kept())
            self._kept.move_to_end(key)
            if len(self._kept) > PAGES_KEPT:
                self._kept.popitem(last=False)
        if aged and kept.page and (now < kept.until or kept.guard.locked()):
            return kept.page
        with kept.guard:
            number = newest()
            if kept.page is None or now >= kept.until or kept.page.shown != number:
                html = lay_out()
                kept.page = Page(html, gzip.compress(html.encode(), compresslevel=5, mtime=0), number)
                kept.until = now + KEPT_S * 1000
                self._make_room(key)
            return kept.page

    def _make_room(self, newest: Hashable) -> None:
        """Those go that were asked for longest ago; the one that was just laid out stays."""
        with self._guard:
            total = sum(one.bytes for one in self._kept.values())
            for key in [key for key in self._kept if key != newest]:
                if total <= BYTES_KEPT:
                    return
                total -= self._kept.pop(key).bytes


class _Kept:
    def __init__(self) -> None:
        self.guard = Lock()
        self.page: Page | None = None
        self.until = 0

    @property
    def bytes(self) -> int:
        return len(self.page.html) + len(self.page.packed) if self.page else 0


def _words(request: Request) -> Words:
    """The reader's."""
    api = api_of(request)
    return words_of(request, wanted_lang(request, api.lang), api.timezone)


def _answer(request: Request, html: str | bytes, words: Words, status: int) -> HTMLResponse:
    api = api_of(request)
    # What the page's clocks follow, also where the page was laid out a moment ago.
    response = HTMLResponse(html, status, headers={NOW_HEADER: str(api.clock())})
    if request.query_params.get("lang") == words.lang:
        response.set_cookie(
            LANG_COOKIE, words.lang, max_age=365 * 86_400, samesite="lax", httponly=True, secure=api.secure_cookies
        )
    return response


def _html(
    request: Request, template: str, visitor: Visitor | None, words: Words, known: Mapping[str, object]
) -> str:  # fmt: skip
    api = api_of(request)
    other = "en" if words.lang == "zh" else "zh"
    return words.environment.get_template(template).render(
        known,
        labels=Labels(words, api.profiles),
        now=api.clock(),
        visitor=visitor,
        entries=entries_for(visitor),
        path=request.url.path,
        other_lang="?" + urlencode([*_kept(request), ("lang", other)]),
        open_count=_open_count(api, visitor),
        hotline=api.hotline,
    )  # fmt: skip


def entries_for(visitor: Visitor | None) -> list[Entry]:
    """The ways that stand open to somebody."""
    if visitor is None:
        return []
    is_person = visitor.person_id is not None
    return [entry for entry in ENTRIES if visitor.role in entry.roles and (is_person or not entry.own)]


def home_of(visitor: Visitor | None) -> str:
    """Where somebody begins: a technician with their own job, everybody else with the fleet."""
    technician = visitor is not None and visitor.role is Role.TECHNICIAN and visitor.person_id is not None
    return "/job" if technician else "/"


def _kept(request: Request) -> list[tuple[str, str]]:
    """What the route itself was asked for: nothing that somebody else has put into an address comes back on a page."""
    route = request.scope.get("route")
    asked = {field.alias for field in route.dependant.query_params} if isinstance(route, APIRoute) else set()
    return [(name, value) for name, value in request.query_params.multi_items() if name in asked - {"lang"}]


def _open_count(api: Api, visitor: Visitor | None) -> int:
    if visitor is None:
        return 0
    with api.reading() as connection:
        return queries.open_tickets(connection, api.scope(visitor)).open
