"""How reliable the fleet is, and what its failures come from, drawn."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import HTMLResponse

from api.access import ForOffice
from api.context import Api, Parts
from api.labels import N_, Labels, labels_of
from api.pages.shell import pages, render
from api.reliability import LineShape, ParetoShape, fleet_reliability
from api.words import wanted_lang
from monitor.fleet.reliability import NONE, OTHERS
from monitor.store import choices
from monitor.store.reliability import By

router = pages()

DAY_MS = 86_400_000
PERIODS = {"90d": 90, "365d": 365, "1095d": 3 * 365}
WIDTH, HEIGHT = 600, 200
GROUPS = {By.PROFILE: N_("By model"), By.SITE: N_("By site"), By.CUSTOMER: N_("By customer")}


@dataclass(frozen=True)
class Bar:
    """One line of a Pareto table as a bar, for a drawing WIDTH wide and HEIGHT high."""

    number: int
    name: str
    line: LineShape
    x: float
    y: float
    width: float
    height: float
    middle: float
    """Where its name stands, in per cent of the width."""


@dataclass(frozen=True)
class Drawn:
    """A Pareto table as bars, the commonest first, and the line of their shares added up."""

    pareto: ParetoShape
    bars: list[Bar]
    cumulative: list[tuple[float, float]]

    @property
    def line(self) -> str:
        return " ".join(f"{x},{y}" for x, y in self.cumulative)


@router.get("/reliability")
def reliability_page(
    request: Request,
    api: Parts,
    visitor: ForOffice,
    period: Annotated[str, Query(max_length=8)] = "365d",
    by: By = By.PROFILE,
) -> HTMLResponse:
    period = period if period in PERIODS else "365d"
    now = api.clock()
    found = fleet_reliability(request, api, visitor, max(0, now - PERIODS[period] * DAY_MS), now, by)
    labels = labels_of(request, wanted_lang(request, api.lang))
    names = _causes(api, labels)
    return render(
        request, "reliability.html", visitor=visitor, found=found, period=period, periods=PERIODS, by=by,
        groups=GROUPS, drawn=[drawn(one, labels, names) for one in found.paretos], width=WIDTH, height=HEIGHT,
        group_name=lambda one: _group_name(one.group, one.name, by, labels),
    )  # fmt: skip


def drawn(pareto: ParetoShape, labels: Labels, causes: dict[str, str]) -> Drawn:
    """Bars of equal width, in the scale of the whole count, so that bars and line read off the same side."""
    step = WIDTH / max(len(pareto.lines), 1)
    bars, line = [], []
    for n, one in enumerate(pareto.lines):
        height = round(HEIGHT * one.count / max(pareto.count, 1), 1)
        name = named(pareto.by, one.name, labels, causes)
        bars.append(Bar(
            n + 1, name, one, round(n * step + step * 0.1, 1), round(HEIGHT - height, 1), round(step * 0.8, 1), height,
            round((n + 0.5) / len(pareto.lines) * 100, 1),
        ))  # fmt: skip
        line.append((round((n + 0.5) * step, 1), round(HEIGHT * (1 - min(one.cumulative, 1)), 1)))
    return Drawn(pareto, bars, line)


def named(by: str, name: str, labels: Labels, causes: dict[str, str]) -> str:
    """What a line of a Pareto table is called."""
    if name == OTHERS:
        return labels.words.say(N_("all others"))
    if by == "model":
        return labels.model(name)
    if by == "cause":
        return causes.get(name, name)
    what, _, code = name.partition(":")
    if what == "kind" and code:
        return labels.kind(code)
    if what in ("spn", "code") and code:
        return f"SPN {code}" if what == "spn" else code
    profile = next((one.name for one in labels.profiles.values() for sensor in one.sensors if sensor.name == name), "")
    return labels.sensor(name, profile)


def _causes(api: Api, labels: Labels) -> dict[str, str]:
    """What operators call the causes, retired ones too."""
    with api.reading() as connection:
        found = choices.listed(connection)["cause"]
    return {one.code: one.title_zh if labels.words.lang == "zh" else one.title_en for one in found}


def _group_name(group: str, name: str, by: By, labels: Labels) -> str:
    if by is By.PROFILE:
        return labels.model(group)
    if group == NONE:
        return labels.words.say(N_("at no site") if by is By.SITE else N_("on hire to nobody"))
    return name
