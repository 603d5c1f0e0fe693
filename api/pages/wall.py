"""The wall of the dispatch room: what needs a person within the hour, to be read from across the room."""

from typing import Annotated, Literal

from fastapi import Query, Request
from fastapi.responses import HTMLResponse

from api import tickets
from api.access import ForStaff
from api.context import Api, Parts
from api.pages.narrowing import unassigned
from api.pages.shell import pages, render_shared
from api.pages.ticking import ticking
from monitor.store import queries
from monitor.store.access import Visitor
from monitor.store.queries import Wanted

router = pages()

AHEAD_MS = 3_600_000
ROWS = 11
LOOKED_AT = 200


@router.get("/wall")
def wall_page(
    request: Request,
    api: Parts,
    visitor: ForStaff,
    theme: Annotated[Literal["dark", "light", "auto"], Query()] = "dark",
) -> HTMLResponse:
    """Dark unless the address asks for another theme: most screens cannot be asked which one their room wants."""
    return render_shared(request, "wall.html", visitor, lambda: {"theme": theme, **_shown(request, api, visitor)})


def _shown(request: Request, api: Api, visitor: Visitor) -> dict[str, object]:
    due = tickets.by_time_left(api, visitor, Wanted(due_until=api.clock() + AHEAD_MS), LOOKED_AT)
    pressing = [one for one in due if one.next_clock and not one.next_clock.paused_since]
    later = None
    if not pressing:
        first = tickets.by_time_left(api, visitor, Wanted(), len(due) + 1)
        later = next((one for one in first if one.next_clock and not one.next_clock.paused_since), None)
    with api.reading() as connection:
        open_now = queries.open_tickets(connection, api.scope(visitor))
        # Beyond what was looked at, those that wait are counted along: a room with so many knows that it is late.
        beyond = queries.due_by(connection, api.clock() + AHEAD_MS) - LOOKED_AT if len(due) == LOOKED_AT else 0
    more = max(len(pressing) - ROWS, 0) + max(beyond, 0)
    return {
        "open_now": open_now, "nobodys": unassigned(tickets.count_tickets(api, visitor).items), "later": later,
        "rows": ticking(api, visitor, pressing[:ROWS], request), "more": more,
    }  # fmt: skip
