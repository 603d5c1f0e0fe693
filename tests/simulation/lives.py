"""Machines of firmware_sim and what they say, lived once and told in many worlds.

A life is recorded as a broker would hear it over a good network: telemetry, events, greetings, wills and goodbyes,
each with its true moment. Living it costs more than everything that the service does with it, so the worlds draw their
machines from a fixed number of lives; what differs is what the wire does to them (wire.py).
"""

import json
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, NamedTuple

from firmware_sim.failures import Injection
from firmware_sim.simulate import connected
from firmware_sim.wire import Box, Suffix

T0 = 1_760_000_000_000
"""When the worlds begin: a Thursday in October 2025, 17:33 in Shanghai."""
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
REPORT_S = 300.0
LIVES = 72
LIFE_MS = 9 * HOUR
MODELS = ("diesel_generator", "air_compressor", "water_pump")
FAILURES = (
    "dead_starter", "blocked_start", "fuel_valve_shut", "output_loss", "coolant_leak", "oil_leak", "weak_battery",
    "broken_wire", "stuck_sensor", "boot_loop", "radio_outage", "wrong_clock", "duplicate", "reorder", "transport",
    "service_visit", "dead_controller", "mute_controller",
)  # fmt: skip
"""What befalls a life, one in two."""


class Said(NamedTuple):
    """One message of a machine. `at` is true time, `clock_at` what the machine took it for."""

    at: int
    clock_at: int
    boot: int
    suffix: Suffix
    payload: bytes
    retain: bool


@dataclass(frozen=True)
class Life:
    """All that a machine says, in order, and a box that answers for it."""

    number: int
    profile: str
    said: tuple[Said, ...]
    injections: tuple[Injection, ...]

    def answer(self, raw: bytes, at: int) -> list[bytes]:
        """The replies to a command, given at this moment."""
        box = _box(self.number, self.profile)
        box.machine.at = at
        return [message.payload for message in box.answer(raw)]


@cache
def life(number: int, duration_ms: int = LIFE_MS) -> Life:
    """One of the lives: always the same under its number. Whatever befalls it is over after five hours."""
    profile, injections = MODELS[number % len(MODELS)], tuple(_befalls(Random(f"life/{number}")))
    box = _box(number, profile)
    box.injections = list(injections)
    hello = box.online(box.clock())
    said = [_said(hello.at, box.clock(), box.boot, hello.suffix, hello.payload, retain=True)]
    heard = connected(box, T0 + duration_ms, box.advance)
    said += [_said(one.at, None, box.boot, one.suffix, one.payload, retain=one.retain) for one in heard]
    return Life(number, profile, tuple(said), injections)


def _box(number: int, profile: str) -> Box:
    duty = ("day", "always", "site", "day")[number % 4]
    return Box.fresh(f"life-{number}", profile, number, T0, report_s=REPORT_S, duty=duty)  # type: ignore[arg-type]


def _befalls(rng: Random) -> list[Injection]:
    found = []
    for _ in range(rng.choice((0, 0, 0, 0, 1, 1, 2))):
        failure = rng.choice(FAILURES)
        from_at = T0 + rng.randrange(15 * MINUTE, 3 * HOUR)
        lasts_ms = 10 * MINUTE if failure == "boot_loop" else rng.randrange(20 * MINUTE, 2 * HOUR)
        size = rng.choice((1.0, -1.0)) if failure == "wrong_clock" else 1.0
        found.append(Injection(failure, from_at, from_at + lasts_ms, size, rng.choice((0.0, 1200.0))))
    return found


def _said(at: int, clock_at: int | None, boot: int, suffix: Suffix, payload: bytes, *, retain: bool) -> Said:
    if clock_at is None:
        body: Any = json.loads(payload)
        body = body[-1] if isinstance(body, list) else body
        clock_at, boot = body["at"], body.get("boot", boot)
    return Said(at, clock_at, boot, suffix, payload, retain)
