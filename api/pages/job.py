"""The technician's phone: their own next job, the step that comes next, and what it takes to work in a dead spot."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api import jobs, tickets
from api.access import ForAll, Open
from api.context import Api, Parts
from api.jobs import ForTechnician, JobShape, JobsShape
from api.labels import CANNOT, N_, STATUSES, TAPS, Labels, labels_of
from api.pages.filling import SAID, Complaint, Form, Sent, Wrong
from api.pages.refused import NO_SUCH_CHOICE
from api.pages.shell import home_of, pages, render
from api.pages.tickets import act_of
from api.pages.ticking import ticking
from api.problems import Problem, is_api
from api.shapes import Act, TicketDetail, TicketShape
from api.words import wanted_lang
from monitor.desk.choices import LISTS
from monitor.desk.tickets import MAX_BACKDATING_MS, Status, Verb
from monitor.store import cases
from monitor.store.access import Visitor
from monitor.store.cases import ASKED

router = pages()

STATIC = Path(__file__).parents[1] / "static"
KEPT = ("fettle.css", "live.js", "keys.js", "job.js", "icon.svg", "icons/192.png", "manifest.webmanifest")
"""What a phone keeps of /static, so that the job's page stands without a signal."""

FORWARD = {
    Status.DISPATCHED: Verb.ACCEPT, Status.ACCEPTED: Verb.DEPART, Status.ON_THE_WAY: Verb.ARRIVE,
    Status.ON_SITE: Verb.START_REPAIR, Status.REPAIRING: Verb.RESOLVE, Status.WAITING: Verb.RESUME,
}  # fmt: skip
COURSE = (Verb.ACCEPT, Verb.DEPART, Verb.ARRIVE, Verb.START_REPAIR, Verb.RESOLVE)
"""One after the other: a phone without a signal goes on by itself."""
USUAL_FIRST = 3
MOST_PARTS, PART_CHARS = 50, 120


def job_act_of(form: Form, verb: Verb, now: int, labels: Labels) -> Act:
    """A step as the phone's page sends it where no script does, as the API knows it. Raises the 422 Problem where
    something cannot be."""
    why, note = form.text("why"), form.text("note")
    if why not in ("", *CANNOT):
        raise Wrong("why", NO_SUCH_CHOICE)
    act = act_of(form, verb, now)
    hindrance = labels.cannot(why) if verb is Verb.DECLINE and why else ""
    return act.model_copy(update={
        "note": labels.colon(hindrance, note) if hindrance else note, "parts": _parts(form),
    })  # fmt: skip


def _parts(form: Form) -> list[str] | None:
    """What was put in; None where nobody said whether anything was."""
    said = form.text("parts_said")
    found = list(dict.fromkeys(part for part in (*form.all("part"), *form.lines("parts")) if part))
    if said != "some":
        return [] if said == "none" else None
    if len(found) > MOST_PARTS or any(len(part) > PART_CHARS for part in found):
        raise Wrong("parts", N_("At most 50 parts, each of at most 120 characters."))
    return found or None


@router.get("/start")
def start(visitor: ForAll) -> Response:
    """Where the installed page begins."""
    return RedirectResponse(home_of(visitor), 303)


@router.get("/job")
def job_page(request: Request, api: Parts, visitor: ForTechnician) -> HTMLResponse:
    """The job that comes next."""
    return _show(request, api, visitor, jobs.jobs_of(api, visitor))


@router.get("/job/{ticket_id}")
def one_job_page(request: Request, api: Parts, visitor: ForTechnician, ticket_id: tickets.TicketId) -> Response:
    """Another one of theirs; what is not theirs is shown as everybody sees it."""
    found = jobs.jobs_of(api, visitor)
    if ticket_id not in {one.id for one in (*found.mine, *found.offered)}:
        return RedirectResponse(f"/tickets/{ticket_id}", 303)
    page: HTMLResponse = _show(request, api, visitor, found, ticket_id)
    return page


@router.post("/job/{ticket_id}/{verb}")
def job_step(
    request: Request, api: Parts, visitor: ForTechnician, ticket_id: tickets.TicketId, verb: Verb,
    form: Sent,
) -> Response:  # fmt: skip
    """Take the step and show what comes next; a step that was refused is explained."""
    labels = labels_of(request, wanted_lang(request, api.lang))
    try:
        tickets.take_step(api, visitor, ticket_id, verb, job_act_of(form, verb, api.clock(), labels))
    except Problem as problem:
        if problem.status not in (403, 409, 422) or is_api(request):
            raise
        return _refused(request, api, visitor, ticket_id, problem)
    return RedirectResponse("/job", 303)


def _refused(
    request: Request, api: Api, visitor: Visitor, ticket_id: int, problem: Problem
) -> HTMLResponse:  # fmt: skip
    labels = labels_of(request, wanted_lang(request, api.lang))
    found = jobs.jobs_of(api, visitor)
    said = ""
    if problem.status != 422:
        with api.reading() as connection:
            row = tickets.visible(connection, api, visitor, ticket_id)
        theirs = row.technician_id not in (None, visitor.person_id)
        said = (
            labels.words.say("Somebody was faster: %(name)s has the job.", name=row.technician_name or "") if theirs
            else labels.words.say("This step is not possible now. The ticket stands at: %(status)s.",
                                  status=labels.status(row.status))
        )  # fmt: skip
    still = ticket_id if ticket_id in {one.id for one in (*found.mine, *found.offered)} else None
    complaint = Complaint(problem.status, SAID.get(problem.status, ""), problem, said)
    return _show(request, api, visitor, found, still, complaint=complaint)


def _show(
    request: Request, api: Api, visitor: Visitor, found: JobsShape, ticket_id: int | None = None, *,
    complaint: Complaint | None = None,
) -> HTMLResponse:  # fmt: skip
    labels = labels_of(request, wanted_lang(request, api.lang))
    wanted = found.next_id if ticket_id is None else ticket_id
    chosen = next((one for one in (*found.mine, *found.offered) if one.id == wanted), None)
    mine = [one for one in found.mine if chosen is None or one.id != chosen.id]
    offered = [one for one in found.offered if chosen is None or one.id != chosen.id]
    known: dict[str, Any] = {}
    if chosen is not None:
        detail, _ = tickets.ticket_detail(api, visitor, chosen.id, labels, with_readings=False)
        job = jobs.job_of(api, visitor, chosen.id, labels)
        known = {"ticket": detail, "brief": job} | _forms(api, detail, job, labels)
    return render(
        request, "job.html", visitor=visitor, complaint=complaint, jobs=found,
        until_at=next((one.until_at for one in found.offered if chosen and one.id == chosen.id), None),
        mine=ticking(api, visitor, mine, request), offered=ticking(api, visitor, list(offered), request),
        awaited={one.id: one.until_at for one in found.offered}, said=_said(labels), oldest_ms=MAX_BACKDATING_MS,
        follows=_follows(found, chosen),
        **{"ticket": None, **known},
    )  # fmt: skip


def _follows(found: JobsShape, chosen: TicketShape | None) -> str:
    """Which changes the page is about: those of its jobs and of the machine that is shown, and that somebody is asked
    or sent (it may be them). What happens to the rest of the fleet is none of a phone's business."""
    shown = [f"ticket:{one.id}" for one in (*found.mine, *found.offered)]
    machine = [f"device:{chosen.device_id}"] if chosen and chosen.device_id else []
    return " ".join([f"what:{ASKED}", *shown, *machine])


def _forms(api: Api, ticket: TicketDetail, job: JobShape, labels: Labels) -> dict[str, object]:
    """What the next steps ask for."""
    with api.reading() as connection:
        lists = {name: cases.choices(connection, name) for name in LISTS}
    titles = {choice.code: choice.title(labels.words.lang) for some in lists.values() for choice in some}
    usual = [choice for code in job.causes for choice in lists["cause"] if choice.code == code][:USUAL_FIRST]
    forward = FORWARD.get(Status(ticket.status))
    return {
        "forward": forward if forward in ticket.allowed else None,
        "course": COURSE, "choices": lists, "usual": usual, "titled": lambda code: titles.get(code, code),
        "bearers": [(choice.code, choice.title(labels.words.lang)) for choice in lists["borne_by"]],
        "hindrances": [(code, labels.cannot(code)) for code in CANNOT],
        "waits": [(code, labels.wait_reason(code)) for code in labels.wait_reasons if Verb.PAUSE in ticket.allowed],
    }  # fmt: skip


def _said(labels: Labels) -> dict[str, object]:
    """What the page's script has to say, in the reader's words; it has none of its own."""
    say = labels.words.say
    return {
        "taps": {code: say(text) for code, text in TAPS.items()},
        "cannot": {code: say(text) for code, text in CANNOT.items()},
        "statuses": {code: say(text) for code, text in STATUSES.items()},
        "colon": labels.colon("", "x")[:-1],
        "ticket": say(N_("Ticket")),
        "kept": say(N_("kept here, not sent yet")),
        "sending": say(N_("being sent")),
        "refused": say(N_("not taken")),
        "dismiss": say(N_("Dismiss")),
        "faster": say("Somebody was faster: %(name)s has the job."),
        "theirs": say(N_("The job is not yours any more.")),
        "stands": say("This step is not possible now. The ticket stands at: %(status)s."),
        "old": say(N_("It was too long ago: only steps of the last 12 hours are taken.")),
        "gone": say(N_("There is no such job any more.")),
        "lacks": say(N_("Something is missing or not allowed in it.")),
        "as_of": say(N_("As it was at %(when)s.")),
        "parts": say(N_("Name the parts, or choose that none was put in.")),
    }


@router.get("/sw.js", dependencies=[Open])
def worker() -> Response:
    """The page's worker, which may care for all addresses because it lies at the root. Its text names the version of
    what it keeps: any change makes a new worker of it."""
    headers = {"Service-Worker-Allowed": "/", "Cache-Control": "no-cache"}
    return Response(_worker(), media_type="text/javascript", headers=headers)


@cache
def _worker() -> str:
    return worker_text()


def worker_text() -> str:
    """The worker, with its version and what it keeps put in."""
    digest = hashlib.sha256()
    for name in ("sw.js", *KEPT):
        digest.update((STATIC / name).read_bytes())
    text = (STATIC / "sw.js").read_text()
    kept = ", ".join(f'"/static/{name}"' for name in KEPT)
    return text.replace('"VERSION"', f'"{digest.hexdigest()[:16]}"').replace('"KEPT"', kept)
