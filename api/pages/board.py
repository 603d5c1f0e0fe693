"""The tickets as a board: a column for each stage of their life."""

from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import HTMLResponse

from api import tickets
from api.access import DOERS, ForStaff
from api.context import Parts
from api.labels import STAGES, labels_of
from api.pages.narrowing import Asked, facets, shown, unassigned, whose_facet
from api.pages.shell import pages, render
from api.pages.ticking import Ticking, ticking
from api.words import wanted_lang
from monitor.store import queries

router = pages()

CARDS = 12
"""So many stand in a column at most; the rest is a link."""


@dataclass(frozen=True)
class Column:
    """A stage with its tickets, the most pressing first."""

    code: str
    title: str
    cards: list[Ticking]
    count: int
    href: str


@router.get("/tickets/board")
def board_page(request: Request, api: Parts, visitor: ForStaff, asked: Asked) -> HTMLResponse:
    labels = labels_of(request, wanted_lang(request, api.lang))
    tally = tickets.count_tickets(api, visitor).items
    columns = []
    for code, title in STAGES.items():
        staged = asked.at(code)
        count = shown(staged, tally, visitor)
        found = tickets.by_time_left(api, visitor, staged.wanted(visitor), CARDS) if count else []
        columns.append(
            Column(code, labels.words.say(title), ticking(api, visitor, found, request), count, staged.link("/tickets"))
        )
    with api.reading() as connection:
        open_now = queries.open_tickets(connection, api.scope(visitor))
        site_name = queries.site_name(connection, asked.site)
    return render(
        request, "board.html", visitor=visitor, columns=columns, asked=asked, total=sum(one.count for one in columns),
        open_now=open_now, nobodys=unassigned(tally), may_report=visitor.role in DOERS,
        whose=whose_facet(asked, tally, visitor, labels, "/tickets/board"),
        facets=facets(asked, tally, visitor, labels, "/tickets/board", staged=False, site_name=site_name),
        list_href=asked.link("/tickets"), board_href=asked.link("/tickets/board"),
        past_href=asked.link("/tickets", show="all"),
    )  # fmt: skip
