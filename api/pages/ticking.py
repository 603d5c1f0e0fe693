"""Open tickets as the lists show them: each with its most pressing clock."""

from dataclasses import dataclass

from fastapi import Request

from api import tickets
from api.access import DESK
from api.context import Api
from api.labels import Labels, labels_of
from api.shapes import TicketShape
from api.words import wanted_lang
from monitor.desk.tickets import Status
from monitor.store.access import Visitor
from monitor.store.queries import Wanted

OPEN_SHOWN = 200
TO_SEND = (Status.OPEN, Status.VERIFIED)


@dataclass(frozen=True)
class Ticking:
    """An open ticket as the lists show it: with its most pressing clock."""

    ticket: TicketShape
    headline: str
    due_at: int | None
    started_at: int
    warn_ms: int
    urgency: str
    """late, soon or calm; none where no clock runs."""
    step: str
    sends: bool = False
    """Somebody is to be sent, and the reader is to choose whom."""


def open_tickets(
    api: Api, visitor: Visitor, request: Request, device_id: str | None = None, limit: int = OPEN_SHOWN
) -> list[Ticking]:
    """Open tickets by time left; those without a running clock last."""
    found = tickets.by_time_left(api, visitor, Wanted(device_id=device_id), limit)
    return ticking(api, visitor, found, request)


def ticking(api: Api, visitor: Visitor, found: list[TicketShape], request: Request) -> list[Ticking]:
    """Tickets as lists show them, in the reader's words."""
    labels = labels_of(request, wanted_lang(request, api.lang))
    return [_ticking(api, visitor, one, labels) for one in found]


def _ticking(api: Api, visitor: Visitor, one: TicketShape, labels: Labels) -> Ticking:
    clock, headline = one.next_clock, labels.headline(one)
    promised = one.status == Status.VERIFIED or (clock is not None and clock.kind == "dispatch")
    free = one.technician_id is None and one.status in TO_SEND and one.cleared_at is None
    sends = visitor.role in DESK and free and promised
    if clock is None:
        step = labels.next_step(one.status, None)
        return Ticking(one, headline, None, one.opened_at, 0, "none", step, sends)
    warn_ms = int(clock.warn_before_s * 1000)
    step = labels.next_step(one.status, clock.kind)
    urgency = "calm" if clock.paused_since else urgency_of(clock.due_at - api.clock(), warn_ms)
    return Ticking(one, headline, clock.due_at, clock.started_at, warn_ms, urgency, step, sends)


def urgency_of(left_ms: int, warn_ms: int) -> str:
    """How a clock is drawn with so much time left: late, soon or calm."""
    return "late" if left_ms <= 0 else "soon" if left_ms <= warn_ms else "calm"
