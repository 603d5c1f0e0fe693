"""What the company has set up, in figures, and what is missing."""

from collections import Counter
from collections.abc import Iterator

from fastapi import APIRouter
from pydantic import Field

from api.access import ForOffice, KnownQuery
from api.context import Api, Parts
from api.problems import documented
from api.shapes import Moment, Shape
from monitor.desk.rota import Rota
from monitor.store import notices, people, settings
from monitor.store.settings import DAY_MS

router = APIRouter(prefix="/api/v1", tags=["registers"], dependencies=[KnownQuery])

LAPSES_SOON_DAYS = 30


class GapShape(Shape):
    """Something that is missing, or soon will be."""

    code: str
    area: str = Field(description="people, rotations, sites, models or notices")
    facts: dict[str, int | str]


class ModelCount(Shape):
    profile: str
    machines: int
    certified: int = Field(description="Technicians who may work on it now (P1).")


class SettingsShape(Shape):
    people: dict[str, int] = Field(description="Who has not left, by role.")
    sessions: int = Field(description="How many are signed in now.")
    tokens: int = Field(description="How many programs may sign in.")
    rotations: int
    on_call: list[str] = Field(description="Who is on call now.")
    sites: int
    remote_sites: int
    models: list[ModelCount]
    standard_version: str
    clauses: int
    channels: list[str] = Field(description="The ways by which notices go out.")
    customers: int
    as_of: Moment
    gaps: list[GapShape]


@router.get("/settings", responses=documented(401, 403))
def settings_overview(api: Parts, _: ForOffice) -> SettingsShape:
    """How much is set up, and what is missing."""
    now = api.clock()
    with api.reading() as connection:
        counts = settings.counts(connection, now)
        machines, certified = settings.machines_by_profile(connection), settings.certified(connection, now)
        staff = people.load_staff(connection, api.timezone, {}, now)
        on_call = staff.rota.on_call_at(now)
        names = people.names(connection, on_call)
        channels = [row.name for row in notices.channels(connection)]
        bounced, lapsing = notices.bounced(connection, 1000), settings.lapsing(connection, now, LAPSES_SOON_DAYS)
    keeps_certificates = settings.ANY in certified
    models = [
        ModelCount(profile=name, machines=machines.get(name, 0), certified=certified.get(name, 0))
        for name in sorted({*api.profiles, *machines})
    ]
    shape = SettingsShape(
        people=counts.people, sessions=counts.sessions, tokens=counts.tokens,
        rotations=len(staff.rota.rotations), on_call=[names.get(one, "") for one in on_call], sites=counts.sites,
        remote_sites=counts.remote_sites, models=models, standard_version=api.desk.standard.version,
        clauses=len(api.desk.standard.clauses), channels=channels, customers=counts.customers, as_of=now, gaps=[],
    )  # fmt: skip
    found = _gaps(
        api, shape, staff.rota, counts, len(bounced), lapsing, now, keeps_certificates=keeps_certificates
    )  # fmt: skip
    return shape.model_copy(update={"gaps": list(found)})


def _gaps(
    api: Api, shape: SettingsShape, rota: Rota, counts: settings.Counts, bounced: int, lapsing: int, now: int, *,
    keeps_certificates: bool,
) -> Iterator[GapShape]:  # fmt: skip
    def gap(code: str, area: str, **facts: int | str) -> GapShape:
        return GapShape(code=code, area=area, facts=facts)

    if not shape.people.get("technician"):
        yield gap("no_technician", "people")
    if not (shape.people.get("ops") or shape.people.get("manager") or shape.people.get("admin")):
        yield gap("nobody_in_charge", "people")
    if bounced:
        yield gap("contacts_bounced", "people", number=bounced)
    if keeps_certificates:
        yield from (gap("nobody_certified", "people", profile=one.profile, number=one.machines)
                    for one in shape.models if one.machines and not one.certified)  # fmt: skip
    elif shape.people.get("technician"):
        yield gap("no_certificates", "people")
    if lapsing:
        yield gap("certificates_lapse", "people", number=lapsing, days=LAPSES_SOON_DAYS)
    if not (rota.rotations or any(worker.hours for worker in rota.workers)):
        yield gap("no_rota", "rotations")
    elif not rota.rotations:
        yield gap("no_rotation", "rotations")
    else:
        yield from _uncovered(gap("on_call_gap", "rotations"), rota, now)
    if counts.sites_nowhere:
        yield gap("sites_nowhere", "sites", number=counts.sites_nowhere)
    unknown = Counter({one.profile: one.machines for one in shape.models if one.profile not in api.profiles})
    yield from (gap("model_unknown", "models", profile=name, number=number) for name, number in unknown.items())
    if not shape.channels:
        yield gap("no_channels", "notices")


def _uncovered(gap: GapShape, rota: Rota, now: int) -> Iterator[GapShape]:
    """A fortnight in which nobody is on call now and then."""
    until, at = now + 14 * DAY_MS, now
    for start_at, end_at in sorted((one.start_at, one.end_at) for one in rota.on_call(now, until)):
        if start_at > at:
            break
        at = max(at, end_at)
    if at < until:
        yield gap.model_copy(update={"facts": {"from_at": at}})
