"""The answer to what somebody typed into the box."""

from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api.access import ForAll
from api.context import Parts
from api.pages.shell import pages, render
from api.search import find
from api.tickets import with_clocks

router = pages()


@router.get("/search")
def search_page(
    request: Request, api: Parts, visitor: ForAll, q: Annotated[str, Query(max_length=120)] = ""
) -> Response:
    """A machine's id or a ticket's number typed out leads straight there."""
    found = find(api, visitor, q)
    typed = " ".join(q.split()).casefold()
    for machine in found.machines:
        if machine.device_id.casefold() == typed:
            return RedirectResponse(f"/machines/{machine.device_id}", 303)
    for ticket in found.tickets:
        if typed.removeprefix("#") == str(ticket.id):
            return RedirectResponse(f"/tickets/{ticket.id}", 303)
    with api.reading() as connection:
        shown = with_clocks(connection, found.tickets)
    page: HTMLResponse = render(request, "search.html", visitor=visitor, asked=q, found=found, tickets=shown)
    return page
