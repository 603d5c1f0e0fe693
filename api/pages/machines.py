"""The machines, and one of them: what it says now, what it said, what is open on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Request, Response
from fastapi.responses import HTMLResponse

from api.access import DESK, DOERS, ForAll, ForDesk
from api.context import Api, Parts
from api.devices import (
    HOUR_MS,
    DeviceId,
    Retirement,
    device_detail,
    faults_in,
    list_devices,
    profile_shape,
    retire_machine,
    series,
)
from api.pages.filling import Complaint, Sent, done_or_told, made
from api.pages.shell import pages, render
from api.pages.ticking import open_tickets
from api.shapes import Condition, DeviceShape, ReadingShape, SensorShape, SeriesShape
from monitor.devices import Profile
from monitor.store import inspections, ledger, queries
from monitor.store.access import Role, Visitor

router = pages()

RANGES = {"15m": 15 * 60_000, "1h": HOUR_MS, "6h": 6 * HOUR_MS, "24h": 24 * HOUR_MS, "7d": 168 * HOUR_MS,
          "30d": 720 * HOUR_MS}  # fmt: skip
INSPECTIONS_LOOKED_AT = 10
STRIP_MS = 30 * 24 * HOUR_MS
STRIP_WIDTH = 300
THINNEST = 1.5
"""A fault of minutes is drawn all the same."""
FAULTS_NAMED = 12


# --- all of them ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stretch:
    """A part of a machine's last 30 days, for a drawing `STRIP_WIDTH` wide."""

    condition: str
    x: float
    width: float


@router.get("/machines")
def machines_page(
    request: Request,
    api: Parts,
    visitor: ForAll,
    site: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    profile: Annotated[str, Query(max_length=64)] = "",
    status: Condition | None = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> HTMLResponse:
    listed = list_devices(api, visitor, site=site, profile=profile or None, status=status, limit=100, cursor=cursor)
    kept = {name: value for name, value in (("site", site), ("profile", profile), ("status", status)) if value}
    return render(
        request, "machines.html", visitor=visitor, machines=listed.items,
        strips=_strips(api, visitor, listed.items), strip_width=STRIP_WIDTH, site=site, profile=profile,
        condition=status, conditions=("bad", "unknown", "good"), profiles=sorted(api.profiles),
        sites=_sites(api, visitor),
        link=lambda **other: "?" + urlencode({name: value for name, value in (kept | other).items() if value}),
        following=listed.next,
    )  # fmt: skip


def _sites(api: Api, visitor: Visitor) -> Sequence[queries.AnyRow]:
    """To choose from; customers know their own places."""
    if visitor.role is Role.CUSTOMER:
        return []
    with api.reading() as connection:
        return queries.sites(connection, after=0, limit=500)


def _strips(api: Api, visitor: Visitor, machines: Sequence[DeviceShape]) -> dict[str, list[Stretch]]:
    """How each of these machines was over the last 30 days. A customer sees nothing of the time before their rental."""
    now = api.clock()
    with api.reading() as connection:
        known = ledger.lately(connection, [one.device_id for one in machines], now - STRIP_MS)
    ours = visitor.role is not Role.CUSTOMER
    since = {one.device_id: now - STRIP_MS if ours or one.rental is None else one.rental.starts_at for one in machines}
    return {
        device_id: [_stretch(row, max(since[device_id], now - STRIP_MS), now) for row in rows
                    if row.to_at is None or row.to_at > since[device_id]]
        for device_id, rows in known.items()
    }  # fmt: skip


def _stretch(row: Any, since: int, now: int) -> Stretch:
    scale = STRIP_WIDTH / STRIP_MS
    from_at, to_at = max(row.from_at, since), min(now if row.to_at is None else row.to_at, now)
    width = max((to_at - from_at) * scale, THINNEST)
    x = min((from_at - (now - STRIP_MS)) * scale, STRIP_WIDTH - width)
    return Stretch(row.condition, round(x, 1), round(width, 1))


# --- one of them ---------------------------------------------------------------------------------------------------


@router.get("/machines/{device_id}")
def machine_page(
    request: Request,
    api: Parts,
    visitor: ForAll,
    device_id: DeviceId,
    metric: Annotated[str, Query(max_length=64)] = "",
    span: Annotated[str, Query(alias="range", max_length=3)] = "1h",
) -> HTMLResponse:
    return _machine_page(request, api, visitor, device_id, metric, span)


@router.post("/machines/{device_id}/retire")
def retire_by_form(request: Request, api: Parts, visitor: ForDesk, device_id: DeviceId, form: Sent) -> Response:
    """It leaves the fleet for good; what keeps it is said."""
    return done_or_told(
        lambda: retire_machine(api, visitor, device_id, made(Retirement, {"reason": form.text("reason")})),
        f"/machines/{device_id}",
        lambda told: _machine_page(request, api, visitor, device_id, complaint=told),
    )


def _machine_page(
    request: Request, api: Api, visitor: Visitor, device_id: str, metric: str = "", span: str = "1h",
    complaint: Complaint | None = None,
) -> HTMLResponse:  # fmt: skip
    machine = device_detail(api, visitor, device_id)
    profile = api.profiles.get(machine.profile)
    sensors = _sensors(api, machine.profile, machine.latest.values if machine.latest else {})
    chosen = next((sensor for sensor in sensors if sensor.name == metric), sensors[0] if sensors else None)
    span = span if span in RANGES else "1h"
    now = api.clock()
    found = series(api, visitor, device_id, chosen.name, now - RANGES[span], now + 1) if chosen else None
    return render(
        request,
        "machine.html",
        visitor=visitor,
        machine=machine,
        complaint=complaint,
        may_retire=visitor.role in DESK and machine.retired_at is None,
        sensors=sensors,
        chosen=chosen,
        beyond=_beyond(profile, machine.latest),
        ranges=RANGES,
        span=span,
        summary=_summary(found),
        faults=faults_in(api, visitor, device_id, now - RANGES[span], now + 1)[:FAULTS_NAMED],
        strip_of=_strips(api, visitor, [machine]).get(device_id, []),
        strip_width=STRIP_WIDTH,
        may_label=visitor.role in DESK,
        may_inspect=visitor.role in DOERS,
        inspected=_last_inspection(api, visitor, device_id),
        max_gap_s=profile.max_gap_s if profile else 30,
        tickets=open_tickets(api, visitor, request, device_id),
    )


def _last_inspection(api: Api, visitor: Visitor, device_id: str) -> inspections.Row | None:
    """The newest that counts, for those who inspect."""
    if visitor.role not in DOERS:
        return None
    with api.reading() as connection:
        found = inspections.listed(connection, device_id=device_id, limit=INSPECTIONS_LOOKED_AT)
    return next((row for row in found if row.voided_at is None), None)


def _sensors(api: Api, profile_name: str, values: dict[str, float]) -> list[SensorShape]:
    """The model's sensors in its own order, and whatever else the machine sends."""
    profile = api.profiles.get(profile_name)
    known = profile_shape(profile).sensors if profile else []
    names = {sensor.name for sensor in known}
    return known + [SensorShape(name=name) for name in sorted(values) if name not in names]


def _beyond(profile: Profile | None, latest: ReadingShape | None) -> dict[str, str]:
    """Which sensors lie beyond their limits now, and on which side. Limits mean something in certain states only."""
    beyond: dict[str, str] = {}
    for sensor in profile.sensors if profile and latest else ():
        value, limits = latest.values.get(sensor.name) if latest else None, sensor.limits
        idle = bool(sensor.states) and latest is not None and latest.state not in sensor.states
        if value is None or limits is None or idle:
            continue
        if limits.high is not None and value > limits.high:
            beyond[sensor.name] = "high"
        elif limits.low is not None and value < limits.low:
            beyond[sensor.name] = "low"
    return beyond


def _summary(found: SeriesShape | None) -> tuple[float, float, float] | None:
    """Lowest, mean and highest of a chart: what it says to those who do not see it."""
    if found is None or not found.items:
        return None
    points = found.items
    mean = sum(point.mean for point in points) / len(points)
    return min(point.min for point in points), mean, max(point.max for point in points)
