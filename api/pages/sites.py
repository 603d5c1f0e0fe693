"""The places where machines stand."""

from typing import Annotated, Any

from fastapi import Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api import hire
from api.access import DESK, ForDesk, ForStaff
from api.context import Api, Parts
from api.hire import NewSite, SiteChange, SiteId
from api.pages.filling import Complaint, Form, Sent, complaint_of, done_or_told, made, tag_in, words_for
from api.pages.shell import pages, render
from api.problems import Problem
from api.registers import list_sites
from api.zones import zones
from monitor.store import settings
from monitor.store.access import Visitor

router = pages()

SHOWN = 200


@router.get("/settings/sites")
def sites_page(
    request: Request, api: Parts, visitor: ForStaff, cursor: Annotated[str | None, Query(max_length=200)] = None
) -> HTMLResponse:
    return _sites_page(request, api, visitor, cursor=cursor)


@router.post("/settings/sites")
def add_site_by_form(request: Request, api: Parts, visitor: ForDesk, form: Sent) -> Response:
    try:
        body = made(NewSite, {"name": form.text("name"), **_given(form)})
        site = hire.add_site(api, visitor, Response(), body)
    except Problem as problem:
        return _sites_page(request, api, visitor, complaint_of(problem))
    return RedirectResponse(f"/settings/sites/{site.id}", 303)


@router.get("/settings/sites/{site_id}")
def site_page(request: Request, api: Parts, visitor: ForStaff, site_id: SiteId) -> HTMLResponse:
    return _site_page(request, api, visitor, site_id)


@router.post("/settings/sites/{site_id}")
def change_site_by_form(request: Request, api: Parts, visitor: ForDesk, site_id: SiteId, form: Sent) -> Response:
    def change() -> None:
        name = {"name": form.text("name")} if "name" in form.fields else {}
        body = made(SiteChange, {**name, **_given(form)})
        hire.change_site(api, visitor, Response(), site_id, body, form.tag)

    again = f"/settings/sites/{site_id}"
    return done_or_told(change, again, lambda told: _site_page(request, api, visitor, site_id, told))


def _given(form: Form) -> dict[str, Any]:
    place = {"lat_deg": form.number("lat_deg"), "lon_deg": form.number("lon_deg")}
    # Browsers end lines as the network does.
    notes = form.text("access_notes").replace("\r\n", "\n")
    return {**place, "remote": form.text("remote") == "true", "timezone": form.text("timezone"), "access_notes": notes}


def _sites_page(
    request: Request, api: Api, visitor: Visitor, complaint: Complaint | None = None, cursor: str | None = None
) -> HTMLResponse:
    found = list_sites(api, visitor, limit=SHOWN, cursor=cursor)
    with api.reading() as connection:
        machines = settings.machines_by_site(connection)
    return render(
        request, "settings_sites.html", visitor=visitor,
        complaint=complaint, sites=found.items, following=found.next, machines=machines,
        may_change=visitor.role in DESK, **_zones(request, api),
    )  # fmt: skip


def _site_page(
    request: Request, api: Api, visitor: Visitor, site_id: int, complaint: Complaint | None = None
) -> HTMLResponse:  # fmt: skip
    kept = Response()
    site = hire.one_site(api, visitor, kept, site_id)
    with api.reading() as connection:
        machines = settings.machines_by_site(connection).get(site_id, 0)
    return render(
        request, "settings_site.html", visitor=visitor,
        complaint=complaint, site=site, seen=tag_in(kept), machines=machines, may_change=visitor.role in DESK,
        **_zones(request, api),
    )  # fmt: skip


def _zones(request: Request, api: Api) -> dict[str, Any]:
    return {"zones": zones(words_for(request).lang, api.clock()), "company_zone": api.timezone}
