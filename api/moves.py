"""Moves: another site is where a machine stands from now on."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from api.access import ForDesk, KnownQuery
from api.context import Parts
from api.devices import DeviceId, device_detail
from api.problems import documented
from api.refusals import refusals_told
from api.shapes import DeviceDetail, Given, GivenMoment
from monitor.store.registry import Registry

router = APIRouter(prefix="/api/v1", tags=["machines"], dependencies=[KnownQuery])


class Move(Given):
    site_id: Annotated[int, Field(ge=1, lt=2**63)] | None = Field(description="null: at none that is known.")
    at: GivenMoment | None = Field(None, description="When it came there; now, without it. Not before its last move.")


@router.post("/devices/{device_id}/move", responses=documented(401, 403, 404, 409, 422))
def move_machine(api: Parts, visitor: ForDesk, device_id: DeviceId, body: Move) -> DeviceDetail:
    """A machine stands somewhere else; where it stood before is kept, in its file and in every figure by site."""
    with refusals_told("machine"):
        Registry(api.database, visitor.actor).move_device(device_id, body.site_id, body.at, api.clock())
    return device_detail(api, visitor, device_id)
