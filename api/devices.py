"""Machines: their list, one of them, its readings over time, and what its model measures."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field
from sqlalchemy import Connection

from api.access import ForAll, ForDesk, KnownQuery
from api.context import Api, Parts
from api.paging import Cursor, Limit, cut, key_of
from api.problems import Problem, documented, not_found
from api.refusals import refusals_told
from api.shapes import (
    AskedMoment,
    Condition,
    DataShape,
    DeviceDetail,
    DeviceShape,
    FaultShape,
    Given,
    HireShape,
    LimitsShape,
    Page,
    PointShape,
    ProfileShape,
    ReadingShape,
    SensorShape,
    SeriesShape,
)
from monitor.devices import Profile, Sensor
from monitor.engine import retiring
from monitor.readings import Reading
from monitor.store import queries
from monitor.store.access import Role, Visitor

router = APIRouter(prefix="/api/v1", tags=["machines"], dependencies=[KnownQuery])

DeviceId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Metric = Annotated[str, Query(min_length=1, max_length=64, description="Sensor name, such as coolant_temp_c.")]

HOUR_MS = 3_600_000
FAULTS_SHOWN = 200


@router.get("/devices", responses=documented(401, 403, 422))
def list_devices(
    api: Parts,
    visitor: ForAll,
    site: Annotated[int | None, Query(ge=1, lt=2**63, description="Site id.")] = None,
    profile: Annotated[str | None, Query(max_length=64)] = None,
    status: Annotated[Condition | None, Query(description="Condition of the machine.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DeviceShape]:
    """Machines that are not retired, by id. A customer sees the machines on hire to them now."""
    with api.reading() as connection:
        rows = queries.devices(
            connection,
            api.scope(visitor),
            site_id=site,
            profile=profile,
            condition=status,
            after=key_of(cursor, str),
            limit=limit + 1,
        )
    items, following = cut([device_shape(row) for row in rows], limit, "device_id")
    return Page(items=items, next=following)


@router.get("/devices/{device_id}", responses=documented(401, 403, 404))
def one_device(api: Parts, visitor: ForAll, device_id: DeviceId) -> DeviceDetail:
    """One machine as it stands: condition, connection, newest reading, open faults, completeness of its record."""
    return device_detail(api, visitor, device_id)


class Retirement(Given):
    reason: str = Field(min_length=1, max_length=retiring.REASON_LENGTH, description="Sold, scrapped, …")


@router.post("/devices/{device_id}/retire", responses=documented(401, 403, 404, 409, 422))
def retire_machine(api: Parts, visitor: ForDesk, device_id: DeviceId, body: Retirement) -> DeviceDetail:
    """A machine leaves the fleet for good: it is refused, its open work orders are cancelled, and it counts nowhere.
    409 while a rental of it runs or is agreed, or a ticket of it is not resolved; its record stays."""
    with refusals_told("machine"):
        retiring.retire(api.database, device_id, body.reason, visitor.actor, api.clock())
    return device_detail(api, visitor, device_id)


@router.get("/devices/{device_id}/telemetry", responses=documented(401, 403, 404, 422))
def telemetry(
    api: Parts,
    visitor: ForAll,
    device_id: DeviceId,
    metric: Metric,
    start: Annotated[AskedMoment | None, Query(alias="from", description="Default: an hour before `to`.")] = None,
    end: Annotated[AskedMoment | None, Query(alias="to", description="Default: now.")] = None,
) -> SeriesShape:
    """One sensor over `[from, to)`, in at most 2,000 points of min, max and mean. Where nothing came, no point is.

    A customer gets what was measured since the rental that runs now began.
    """
    end_at = api.clock() + 1 if end is None else end
    start_at = end_at - HOUR_MS if start is None else start
    if start_at >= end_at:
        raise Problem(422, "The request is not valid", "from must lie before to")
    return series(api, visitor, device_id, metric, start_at, end_at)


@router.get("/devices/{device_id}/faults", responses=documented(401, 403, 404, 422))
def faults_of(
    api: Parts,
    visitor: ForAll,
    device_id: DeviceId,
    start: Annotated[AskedMoment | None, Query(alias="from", description="Default: a day before `to`.")] = None,
    end: Annotated[AskedMoment | None, Query(alias="to", description="Default: now.")] = None,
) -> Page[FaultShape]:
    """Faults that were open within `[from, to)`, the newest first; at most the newest 200. A customer gets those of
    their rental that somebody sees to."""
    end_at = api.clock() + 1 if end is None else end
    start_at = end_at - 24 * HOUR_MS if start is None else start
    return Page(items=faults_in(api, visitor, device_id, start_at, end_at), next=None)


@router.get("/profiles/{name}", responses=documented(401, 403, 404), response_model_exclude_none=True)
def one_profile(api: Parts, visitor: ForAll, name: Annotated[str, Path(max_length=64)]) -> ProfileShape:
    """What machines of this model measure, with their limits. What does not apply is left out."""
    profile = api.profiles.get(name)
    if profile is None or not _knows(api, visitor, name):
        raise not_found("profile")
    return profile_shape(profile)


def device_shape(row: queries.AnyRow) -> DeviceShape:
    return DeviceShape.model_validate({**row._mapping, "rental": _hire(row)})


def device_detail(api: Api, visitor: Visitor, device_id: str) -> DeviceDetail:
    """Raises the 404 Problem where there is none that the visitor may see."""
    ours = visitor.role is not Role.CUSTOMER
    with api.reading() as connection:
        row = _visible(connection, api, visitor, device_id)
        since = 0 if ours else row.starts_at
        found = queries.open_faults(connection, device_id, since)
        # What may be nothing is for us to find out; a customer hears of what somebody is to see to.
        faults = [FaultShape.model_validate(fault) for fault in found if ours or fault.ticket_id is not None]
        received, missing = queries.completeness(connection, device_id)
    heard_at = row.last_heard_at if row.last_heard_at is not None and row.last_heard_at >= since else None
    return DeviceDetail.model_validate({
        **row._mapping,
        "rental": _hire(row),
        "last_heard_at": heard_at,
        "latest": _latest(api, device_id, since),
        "faults": faults if ours else [fault.model_copy(update={"evidence": None}) for fault in faults],
        "data": DataShape(received=received, missing=missing) if ours else None,
    })  # fmt: skip


def faults_in(api: Api, visitor: Visitor, device_id: str, start_at: int, end_at: int) -> list[FaultShape]:
    """Raises the 404 Problem for a machine that the visitor may not see."""
    ours = visitor.role is not Role.CUSTOMER
    with api.reading() as connection:
        row = _visible(connection, api, visitor, device_id)
        since = start_at if ours else max(start_at, row.starts_at)
        found = queries.faults_between(connection, device_id, since, end_at, FAULTS_SHOWN)
    faults = [FaultShape.model_validate(one) for one in found]
    if ours:
        return faults
    # What may be nothing is for us to find out; what began before the rental is nobody's but ours.
    theirs = [one for one in faults if one.ticket_id is not None and one.opened_at >= row.starts_at]
    return [one.model_copy(update={"evidence": None}) for one in theirs]


def series(
    api: Api, visitor: Visitor, device_id: str, metric: str, start_at: int, end_at: int, max_points: int = 2000
) -> SeriesShape:
    """A sensor's readings as far as the visitor may see them. Raises the 404 Problem for a machine they may not."""
    with api.reading() as connection:
        row = _visible(connection, api, visitor, device_id)
    if visitor.role is Role.CUSTOMER:
        start_at = max(start_at, row.starts_at)
        end_at = end_at if row.ends_at is None else min(end_at, row.ends_at)
    unit = _unit(api, row.profile, metric)
    if start_at >= end_at:
        return SeriesShape(device_id=device_id, metric=metric, unit=unit, bucket_s=0, items=[])
    found = api.telemetry.series(device_id, metric, start_at, end_at, max_points)
    columns = (found.at.tolist(), found.low.tolist(), found.high.tolist(), found.mean.tolist())
    # A bucket may begin before the range that it was asked for; what it holds does not.
    points = [
        PointShape(at=max(at, start_at), min=low, max=high, mean=mean)
        for at, low, high, mean in zip(*columns, strict=True)
    ]
    return SeriesShape(
        device_id=device_id, metric=metric, unit=unit, bucket_s=found.bucket_ms / 1000, items=points
    )  # fmt: skip


def _unit(api: Api, profile_name: str, metric: str) -> str | None:
    profile = api.profiles.get(profile_name)
    sensors = profile.sensors if profile else ()
    return next((sensor.unit or None for sensor in sensors if sensor.name == metric), None)


def profile_shape(profile: Profile) -> ProfileShape:
    return ProfileShape(
        name=profile.name,
        title=profile.title,
        title_zh=profile.title_zh,
        start_timeout_s=profile.start_timeout_s,
        report_interval_s=profile.report_interval_s,
        start_attempts=profile.start_attempts,
        service_interval_days=profile.service_interval_days,
        service_interval_h=profile.service_interval_h,
        sensors=[_sensor_shape(sensor) for sensor in profile.sensors],
    )


def _sensor_shape(sensor: Sensor) -> SensorShape:
    limits = sensor.limits and LimitsShape(
        low=sensor.limits.low,
        high=sensor.limits.high,
        hold_s=sensor.limits.hold_s,
        clear_margin=sensor.limits.clear_margin,
    )
    return SensorShape(
        name=sensor.name, unit=sensor.unit or None, nominal=sensor.nominal, limits=limits, states=list(sensor.states)
    )


def _visible(connection: Connection, api: Api, visitor: Visitor, device_id: str) -> queries.AnyRow:
    row = queries.device_row(connection, api.scope(visitor), device_id)
    if row is None:
        raise not_found("machine")
    return row


def _knows(api: Api, visitor: Visitor, profile: str) -> bool:
    """A customer knows the models of the machines on hire to them."""
    if visitor.role is not Role.CUSTOMER:
        return True
    with api.reading() as connection:
        return bool(queries.devices(connection, api.scope(visitor), profile=profile, limit=1))


def _hire(row: queries.AnyRow) -> HireShape | None:
    if row.rental_id is None:
        return None
    return HireShape(
        id=row.rental_id,
        customer_id=row.customer_id,
        customer_name=row.customer_name,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
    )


def _latest(api: Api, device_id: str, since: int) -> ReadingShape | None:
    message = api.telemetry.latest(device_id)
    if message is None or not isinstance(message.body, Reading) or message.body.at < since:
        return None
    return ReadingShape(at=message.body.at, state=message.body.state, values=message.body.values)
