"""Fleets for the truth bench: what befalls which machine when, drawn from a seed.

`ordinary_fleet` lives as rented machines do, with failures at about the rate of real ones; `sudden_fleet` and
`gradual_fleet` only go from one failure to the next. Nothing here looks at what the service finds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal, NamedTuple

import msgspec

from bench.stream import Source
from firmware_sim.device import Duty, settle
from firmware_sim.failures import Injection
from firmware_sim.models import MODELS
from firmware_sim.wire import Box

BEGIN_AT = 1_764_518_400_000
"""A Monday, 00:00 in China (30 November 2025, 16:00 UTC)."""
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
SITE_MACHINES = 5
COLDEST_C, WARMEST_C = -20.0, 35.0
"""Means of the places of the ordinary fleet: Harbin in January, and a summer in Chongqing. Weather and day come on
top: 11 °C more either way."""
DAYS_BETWEEN_FAILURES = 90.0
"""Of one machine, in the ordinary fleet: four failures a year."""
PROFILES = tuple(sorted(MODELS))

LEAKS = ("coolant_leak", "oil_leak")

Group = Literal["start", "stop", "loss", "silence", "gradual", "sensor"]


class Recipe(NamedTuple):
    """How a failure is drawn: its group, size and time to full size (hours), both from a range, and its weight."""

    group: Group
    size: tuple[float, float] = (1.0, 1.0)
    ramp_h: tuple[float, float] = (0.0, 0.0)
    weight: float = 1.0
    sensors: tuple[str, ...] = ()


RECIPES: dict[str, dict[str, Recipe]] = {
    "sudden": {
        "dead_starter": Recipe("start"),
        "blocked_start": Recipe("start"),
        "weak_battery": Recipe("start", (0.8, 1.0)),
        "fuel_starved": Recipe("start", (1.0, 1.0), (0.1, 0.5)),
        "fuel_valve_shut": Recipe("stop"),
        "coolant_leak": Recipe("stop", (0.9, 1.0), (0.005, 0.05)),
        "oil_leak": Recipe("stop", (0.9, 1.0), (0.005, 0.05)),
        "output_loss": Recipe("loss", (0.7, 1.0)),
        "dead_controller": Recipe("silence"),
    },
    "gradual": {
        "coolant_leak": Recipe("gradual", (1.0, 1.2), (3, 72)),
        "oil_leak": Recipe("gradual", (1.0, 1.2), (4, 96)),
        "bearing_wear": Recipe("gradual", (1.0, 1.4), (24, 144)),
        "clogged_filter": Recipe("gradual", (1.0, 1.2), (24, 144)),
        "clogged_radiator": Recipe("gradual", (1.0, 1.2), (18, 120)),
        "weak_battery": Recipe("gradual", (1.0, 1.2), (36, 144)),
        "alternator_failing": Recipe("gradual", (1.0, 1.2), (18, 120)),
        "drifting_sensor": Recipe(
            "gradual", (1.0, 1.3), (18, 120), 1.0, ("oil_pressure_bar", "coolant_temp_c", "vibration_mm_s")
        ),
    },
    "sensor": {
        "stuck_sensor": Recipe("sensor", sensors=("coolant_temp_c", "oil_pressure_bar", "vibration_mm_s")),
        "broken_wire": Recipe("sensor", sensors=("coolant_temp_c", "oil_pressure_bar", "vibration_mm_s")),
    },
}


class Struck(NamedTuple):
    """A failure that was injected, and what kind of course it was meant to take."""

    device_id: str
    group: Group
    injection: Injection


@dataclass
class Life:
    """One machine of a fleet, with all that will befall it."""

    source: Source
    profile: str
    site_id: int
    struck: list[Struck] = field(default_factory=list)


class SiteOutage(NamedTuple):
    """A gateway that was dead: none of its site's machines could be heard."""

    site_id: int
    from_at: int
    to_at: int


@dataclass
class Fleet:
    lives: list[Life]
    end_at: int
    outages: list[SiteOutage] = field(default_factory=list)


def draw(rng: Random, name: str, recipe: Recipe, from_at: int, to_at: int) -> Struck:
    """One failure of this recipe; sizes are even over their range, speeds even over its logarithm."""
    low_h, high_h = recipe.ramp_h
    ramp_h = math.exp(rng.uniform(math.log(max(low_h, 1e-3)), math.log(high_h))) if high_h else 0.0
    sensor = rng.choice(recipe.sensors) if recipe.sensors else ""
    size = rng.uniform(*recipe.size) * (rng.choice((1, -1)) if name == "drifting_sensor" else 1)
    return Struck("", recipe.group, Injection(name, from_at, to_at, size, ramp_h * 3600, sensor))


def _full_at(struck: Struck) -> int:
    injection = struck.injection
    return injection.from_at + round(injection.speed_s / max(abs(injection.size), 1.0) * 1000)


def _box(
    device_id: str, profile: str, seed: str, duty: Duty, climate_c: float, report_s: float, rng: Random,
    *, habits: bool,
) -> Box:  # fmt: skip
    box = Box.fresh(device_id, profile, seed, BEGIN_AT, report_s=report_s, duty=duty, climate_c=climate_c)
    box.machine.usual_load = rng.uniform(0.35, 0.65)
    if habits:
        box.machine.fickle = rng.choice((0.0, 0.02, 0.08))
        box.machine.sleeps = duty != "always" and rng.random() < 0.4
    return box


# The ordinary fleet


def ordinary_fleet(seed: int, machines: int, days: float, report_s: float) -> Fleet:
    """Rented machines on sites of five: nights and weekends off, transports, service, radio gaps, dead gateways."""
    rng = Random(f"{seed}/fleet")
    end_at = BEGIN_AT + round(days * DAY_MS)
    sites = math.ceil(machines / SITE_MACHINES)
    outages = [outage for site in range(1, sites + 1) for outage in _outages(rng, site, end_at)]
    lives = []
    climates = [rng.uniform(-12, 30) for _ in range(sites)]
    for number in range(machines):
        own = Random(f"{seed}/{number}")
        site_id, profile = number // SITE_MACHINES + 1, PROFILES[number % len(PROFILES)]
        duty: Duty = own.choices(("site", "day", "always"), (60, 25, 15))[0]
        device_id = f"A{seed}-{number:03d}"
        box = _box(device_id, profile, f"{seed}", duty, climates[site_id - 1], report_s, own, habits=True)
        dead = [o for o in outages if o.site_id == site_id]
        lives.append(_ordinary_life(own, box, profile, site_id, end_at, dead))
    return Fleet(lives, end_at, outages)


def _ordinary_life(
    rng: Random, box: Box, profile: str, site_id: int, end_at: int, outages: Sequence[SiteOutage]
) -> Life:
    struck = _failures(rng, box.device_id, end_at)
    repaired = [each.injection.to_at for each in struck if each.injection.to_at < end_at]
    visits = _spread(rng, 40 * DAY_MS, end_at)
    visits = [at for at in visits if not any(s.injection.from_at <= at <= s.injection.to_at for s in struck)]
    services = [Injection("service_visit", at, at + round(rng.uniform(1, 4) * HOUR_MS)) for at in visits]
    transports = _transports(rng, box.machine.climate_c, services, end_at)
    # Half a minute here and some minutes there: halls, cellars, a cell that is full. What lasts longer is a failure.
    gaps = [
        Injection("radio_outage", at, at + round(min(rng.lognormvariate(math.log(60), 0.9), 480) * 1000))
        for at in _spread(rng, DAY_MS, end_at)
    ]
    dead = [Injection("radio_outage", outage.from_at, outage.to_at) for outage in outages]
    box.injections = sorted(
        [*(each.injection for each in struck), *services, *transports, *gaps, *dead],
        key=lambda each: each.from_at,
    )
    repaired += [each.to_at for each in services]
    return Life(Source(box, end_at, sorted(repaired)), profile, site_id, struck)


def _transports(rng: Random, climate_c: float, services: Sequence[Injection], end_at: int) -> list[Injection]:
    """Every other week to a place up to 15 °C colder or warmer, within the climates that people build in."""
    moves = [Injection("transport", at, at + round(rng.uniform(2, 12) * HOUR_MS)) for at in
             _spread(rng, 15 * DAY_MS, end_at)]  # fmt: skip
    transports = []
    for move in _apart(moves, services):
        there_c = min(max(climate_c + rng.uniform(-15, 15), COLDEST_C), WARMEST_C)
        transports.append(msgspec.structs.replace(move, size=there_c - climate_c))
        climate_c = there_c
    return transports


def _apart(some: Sequence[Injection], others: Sequence[Injection]) -> list[Injection]:
    """Those that do not overlap any of the others."""
    return [a for a in some if not any(a.from_at < b.to_at and b.from_at < a.to_at for b in others)]


def _spread(rng: Random, every_ms: float, end_at: int) -> list[int]:
    """Moments at random, so far apart on average."""
    moments, at = [], BEGIN_AT + rng.expovariate(1 / every_ms)
    while at < end_at:
        moments.append(round(at))
        at += rng.expovariate(1 / every_ms)
    return moments


def _outages(rng: Random, site_id: int, end_at: int) -> list[SiteOutage]:
    return [
        SiteOutage(site_id, at, at + round(rng.uniform(0.2, 4) * HOUR_MS)) for at in _spread(rng, 20 * DAY_MS, end_at)
    ]


def _failures(rng: Random, device_id: str, end_at: int) -> list[Struck]:
    """A machine's failures, each repaired some hours after it has come to its full size."""
    struck: list[Struck] = []
    free_at = BEGIN_AT
    for at in _spread(rng, DAYS_BETWEEN_FAILURES * DAY_MS, end_at):
        if at < free_at:
            continue
        recipes = RECIPES[rng.choices(("sudden", "gradual", "sensor"), (45, 40, 15))[0]]
        name = rng.choice(tuple(recipes))
        made = draw(rng, name, recipes[name], at, 2**62)
        to_at = _full_at(made) + round(rng.uniform(4, 30) * HOUR_MS)
        injection = Injection(
            name, at, to_at, made.injection.size, made.injection.ramp_s, made.injection.sensor
        )  # fmt: skip
        struck.append(Struck(device_id, made.group, injection))
        free_at = to_at + DAY_MS
    return struck


# From failure to failure


def sudden_fleet(
    seed: str, machines: int, failures_each: int, report_s: float, healthy_days: float = 1.0
) -> Fleet:  # fmt: skip
    """Machines that run nearly always, and break down again some hours after each repair."""
    lives = []
    for number in range(machines):
        rng = Random(f"{seed}/{number}")
        profile, device_id = PROFILES[number % len(PROFILES)], f"S{seed}-{number:03d}"
        box = _box(device_id, profile, seed, "always", rng.uniform(-8, 28), report_s, rng, habits=False)
        names = list(RECIPES["sudden"])
        at, to_at, struck = BEGIN_AT + round(healthy_days * rng.uniform(0.8, 1.2) * DAY_MS), 0, []
        for turn in range(failures_each):
            name = names[(number + turn) % len(names)]
            to_at = at + round(rng.uniform(4.5, 6) * HOUR_MS)
            made = draw(rng, name, RECIPES["sudden"][name], at, to_at)
            struck.append(made._replace(device_id=device_id))
            # One controller in five shows its state and says nothing beside it.
            if rng.random() < 0.2 and name != "blocked_start":
                box.injections.append(Injection("mute_controller", at - HOUR_MS, to_at))
            box.injections.append(made.injection)
            at = to_at + round(rng.uniform(2, 6) * HOUR_MS)
        lives.append(
            Life(Source(box, to_at + HOUR_MS, [each.injection.to_at for each in struck]), profile, number + 1, struck)
        )
    return Fleet(lives, max(life.source.end_at for life in lives))


def gradual_fleet(seed: str, machines: int, healthy_days: float, report_s: float) -> Fleet:
    """Machines that are healthy for some days, and then one thing goes wrong slowly until it breaks."""
    lives = []
    for number in range(machines):
        rng = Random(f"{seed}/{number}")
        profile, device_id = PROFILES[(number // len(RECIPES["gradual"])) % len(PROFILES)], f"G{seed}-{number:03d}"
        duty: Duty = rng.choice(("always", "day"))
        box = _box(device_id, profile, seed, duty, rng.uniform(-8, 28), report_s, rng, habits=False)
        name = list(RECIPES["gradual"])[number % len(RECIPES["gradual"])]
        from_at = BEGIN_AT + round((healthy_days + rng.uniform(0, 1)) * DAY_MS)
        made = draw(rng, name, RECIPES["gradual"][name], from_at, 2**62)._replace(device_id=device_id)
        if name in LEAKS and made.injection.speed_s < 86_400:
            # Nothing shows in an engine that stands: what runs dry in a night cannot be told before the morning.
            settle(box.model, box.machine, box.nature, "always")
        box.injections = [made.injection]
        end_at = _full_at(made) + 14 * HOUR_MS
        lives.append(Life(Source(box, end_at), profile, number + 1, [made]))
    return Fleet(lives, max(life.source.end_at for life in lives))
