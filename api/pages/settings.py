"""What the company has set up, at a glance; and what only files change: the models and the service standard."""

from typing import Annotated

from fastapi import Path, Request
from fastapi.responses import HTMLResponse

from api.access import OFFICE, ForOffice
from api.context import Api, Parts
from api.devices import profile_shape
from api.labels import CHANNELS, ROLES, labels_of
from api.pages.filling import words_for
from api.pages.shell import pages, render
from api.problems import not_found
from api.settings import settings_overview
from api.standard import ClauseShape, service_standard
from monitor.fleet.maintenance import Plan, plans_of
from monitor.store import maintenance
from monitor.store.access import Role

router = pages()

AREAS = ("people", "rotations", "sites", "models", "notices")
MAY_SEE_NOTICES = tuple(role for role in OFFICE if role is not Role.MANAGER)


@router.get("/settings")
def overview_page(request: Request, api: Parts, visitor: ForOffice) -> HTMLResponse:
    """Every area in a sentence, and what is missing in it."""
    found = settings_overview(api, visitor)
    gaps = {area: [gap for gap in found.gaps if gap.area == area] for area in AREAS}
    return render(
        request, "settings.html", visitor=visitor, found=found, gaps=gaps, roles=ROLES, channels=CHANNELS,
        may_see_notices=visitor.role in MAY_SEE_NOTICES,
    )  # fmt: skip


@router.get("/settings/standard")
def standard_page(request: Request, api: Parts, visitor: ForOffice) -> HTMLResponse:
    found = service_standard(api, visitor)
    labels = labels_of(request, words_for(request).lang)

    def severities(clause: ClauseShape) -> list[str]:
        return [labels.severity(one) for one in clause.severities]

    def warned(clause: ClauseShape) -> list[str]:
        return [labels.words.say(ROLES[Role(one)]) for one in clause.warns]

    return render(
        request, "settings_standard.html", visitor=visitor, standard=found, severities=severities, warned=warned
    )


@router.get("/settings/models")
def models_page(request: Request, api: Parts, visitor: ForOffice) -> HTMLResponse:
    found = settings_overview(api, visitor)
    return render(
        request, "settings_models.html", visitor=visitor, models=found.models, profiles=api.profiles,
        gaps=[gap for gap in found.gaps if gap.area == "models"],
    )  # fmt: skip


@router.get("/settings/models/{name}")
def model_page(
    request: Request, api: Parts, visitor: ForOffice, name: Annotated[str, Path(max_length=64)]
) -> HTMLResponse:
    """A model as people read it; its file is what changes it."""
    profile = api.profiles.get(name)
    if profile is None:
        raise not_found("profile")
    labels = labels_of(request, words_for(request).lang)
    return render(
        request, "settings_model.html", visitor=visitor, model=profile_shape(profile), plans=_plans(api, name),
        states=lambda sensor: [labels.machine_state(state) for state in sensor.states],
    )  # fmt: skip


def _plans(api: Api, name: str) -> tuple[Plan, ...]:
    """The maintenance plans of a model's machines, but for what is kept of a single machine."""
    with api.reading() as connection:
        own = maintenance.own_plans(connection)
    return plans_of(name, api.profiles.get(name), own.of("", name), api.desk.upkeep.policy)
