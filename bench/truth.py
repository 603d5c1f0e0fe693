"""How far a dispatcher can trust the tickets: simulated fleets in virtual time, through the service's own path.

Run A: rented machines in their ordinary life, failures at about real rates. Counted: false tickets.
Run B: machines that go from failure to failure. Counted: what was found, how soon, and how long before the breakdown.
docs/detection.md says how; what is not injected is not known here to any detector.
"""

import argparse
import json
import math
import multiprocessing
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.lives import (
    BEGIN_AT,
    DAY_MS,
    HOUR_MS,
    SITE_MACHINES,
    Fleet,
    Group,
    Struck,
    gradual_fleet,
    ordinary_fleet,
    sudden_fleet,
)
from bench.stream import heard
from firmware_sim.failures import Truth
from monitor.devices import Device, FaultKind, Profile
from monitor.engine.rehearsal import Company, Hire, Rehearsal, TicketTold

PROFILES = Path(__file__).parent.parent / "monitor" / "profiles"
REPORT_S = 10.0
ORDINARY_REPORT_S = 60.0
"""Run A's machines report less often, so that it ends in time; their profiles say so."""
SUDDEN_S = 60.0
ALLOWED_S: dict[str, float] = {"silence": 900.0, "sensor": 86_400.0}
AFTERMATH_MS = 12 * HOUR_MS
"""So long after a repair a ticket may still be the failure's."""
CLOSES_AFTER_MS = DAY_MS
AWAY = ("transport", "service_visit")
SITE_TICKET_FROM = 3
RECOVERY_MS = 20 * 60_000
"""So long after a radio came back a ticket may still be its outage's."""

MOVES: dict[str, frozenset[str]] = {
    "weak_battery": frozenset({"battery_voltage_v"}),
    "alternator_failing": frozenset({"battery_voltage_v"}),
    "dead_starter": frozenset({"battery_voltage_v"}),
    "blocked_start": frozenset(),
    "fuel_starved": frozenset(
        {"fuel_level_pct", "engine_speed_rpm", "oil_pressure_bar", "output_voltage_v", "output_frequency_hz",
         "discharge_pressure_bar", "suction_pressure_bar", "flow_m3_h"}
    ),
    "fuel_valve_shut": frozenset(
        {"engine_speed_rpm", "oil_pressure_bar", "output_voltage_v", "output_frequency_hz", "discharge_pressure_bar",
         "suction_pressure_bar", "flow_m3_h"}
    ),
    "coolant_leak": frozenset({"coolant_temp_c", "oil_pressure_bar", "discharge_temp_c"}),
    "clogged_radiator": frozenset({"coolant_temp_c", "oil_pressure_bar", "discharge_temp_c"}),
    "oil_leak": frozenset({"oil_pressure_bar"}),
    "bearing_wear": frozenset(
        {"vibration_mm_s", "oil_pressure_bar", "coolant_temp_c", "bearing_temp_c", "engine_speed_rpm"}
    ),
    "clogged_filter": frozenset(
        {"winding_temp_c", "discharge_pressure_bar", "discharge_temp_c", "separator_drop_bar", "suction_pressure_bar",
         "flow_m3_h"}
    ),
    "output_loss": frozenset(
        {"output_voltage_v", "discharge_pressure_bar", "suction_pressure_bar", "flow_m3_h"}
    ),
    "dead_controller": frozenset(),
}  # fmt: skip
"""What sensors each failure of a machine moves: a ticket on another sensor is not explained by it."""
CODES = {
    "SPN110-FMI0": "coolant_temp_c",
    "SPN100-FMI1": "oil_pressure_bar",
    "SPN111-FMI1": "coolant_temp_c",
    "SPN168-FMI1": "battery_voltage_v",
    "SPN96-FMI1": "fuel_level_pct",
}
SENSOR_FAILURES = frozenset({"stuck_sensor", "broken_wire", "drifting_sensor"})


class Case(NamedTuple):
    """One injected failure and what came of it. Moments in epoch ms; `struck_at`: when it was first felt."""

    failure: str
    group: Group
    device_id: str
    size: float
    ramp_s: float
    from_at: int
    struck_at: int | None
    breakdown_at: int | None
    found_at: int | None
    found_by: str


class False_(NamedTuple):  # noqa: N801
    """A ticket that nothing explains."""

    device_id: str
    kind: str
    subject: str
    opened_at: int
    standing: str


class Outcome(msgspec.Struct):
    """What one fleet came to."""

    name: str
    machine_days: float
    cases: list[Case]
    false_tickets: list[False_]
    tickets: int
    took_s: float


@dataclass(frozen=True)
class Job:
    """One fleet, to be lived in a process of its own. `days`: of run A, or of health before the first failure of B."""

    run: str
    seed: int
    machines: int
    days: float = 0.0
    failures: int = 0
    report_s: float = field(default=REPORT_S)

    @property
    def name(self) -> str:
        return f"{self.run} {self.seed}"


# Living a fleet


def profiles(report_s: float) -> dict[str, Profile]:
    found = [
        msgspec.toml.decode(path.read_bytes(), type=Profile)
        for path in sorted(PROFILES.glob("*.toml"))
        if path.stem in ("diesel_generator", "air_compressor", "water_pump")
    ]
    return {made.name: msgspec.structs.replace(made, report_interval_s=report_s) for made in found}


def lived(job: Job) -> Outcome:
    """Live one fleet, and hold its tickets against the truth."""
    began = time.monotonic()
    if job.run == "A":
        fleet = ordinary_fleet(job.seed, job.machines, job.days, job.report_s)
    elif job.run == "sudden":
        fleet = sudden_fleet(str(job.seed), job.machines, job.failures, job.report_s, job.days)
    else:
        fleet = gradual_fleet(str(job.seed), job.machines, job.days, job.report_s)
    tickets = _tickets(fleet, job.report_s)
    struck = [each for life in fleet.lives for each in life.struck]
    cases = [_case(fleet, each, tickets) for each in struck]
    machine_days = sum((life.source.end_at - BEGIN_AT) / DAY_MS for life in fleet.lives)
    return Outcome(
        job.name, machine_days, cases, _false(fleet, struck, tickets), len(tickets), time.monotonic() - began
    )


def _tickets(fleet: Fleet, report_s: float) -> list[TicketTold]:
    devices = [Device(life.source.box.device_id, life.profile, site_id=life.site_id) for life in fleet.lives]
    hires = [Hire(device.device_id, BEGIN_AT) for device in devices]
    company = Company(profiles(report_s), devices, hires=hires)
    tick_ms = round(report_s * 1000)
    with Rehearsal(company, BEGIN_AT, tick_ms=tick_ms, closes_after_ms=CLOSES_AFTER_MS) as rehearsal:
        for one in heard([life.source for life in fleet.lives], BEGIN_AT, fleet.end_at):
            rehearsal.hear(one)
        rehearsal.until(fleet.end_at)
        return rehearsal.tickets()


# Holding tickets against the truth


def explains(failure: str, sensor: str, kind: str, subject: str) -> bool:
    """Whether a fault of this kind and subject can stem from that failure."""
    if failure in SENSOR_FAILURES:
        # The controller's own switches are wired apart: a sensor's failure sets no code and stops no machine.
        return kind in ("sensor", "limit", "trend", "anomaly", "peer") and subject in ("", sensor)
    if kind == FaultKind.SILENT:
        return failure == "dead_controller"
    if kind in (FaultKind.SENSOR, FaultKind.WRONG_CLOCK):
        return False
    if kind == FaultKind.FAULT_CODE:
        return CODES.get(subject, "") in MOVES[failure]
    if kind in (FaultKind.LIMIT, FaultKind.TREND, FaultKind.ANOMALY, FaultKind.PEER, FaultKind.WEAK_BATTERY):
        return not subject or subject in MOVES[failure]
    return True  # it does not start, or has stopped: any failure of a machine may come to that


def _explained(struck: Struck, ticket: TicketTold) -> bool:
    injection = struck.injection
    if struck.device_id != ticket.device_id or ticket.opened_at < injection.from_at:
        return False
    if ticket.opened_at > injection.to_at + AFTERMATH_MS:
        return False
    named = [(ticket.kind, ticket.subject), *((fault.kind, fault.subject) for fault in ticket.faults)]
    sensor = Truth.of(struck.device_id, injection).sensor
    return any(explains(injection.failure, sensor, kind, subject) for kind, subject in named)


def _case(fleet: Fleet, struck: Struck, tickets: Sequence[TicketTold]) -> Case:
    box = next(life.source.box for life in fleet.lives if life.source.box.device_id == struck.device_id)
    injection = struck.injection
    truth = Truth.of(struck.device_id, injection, box.broke.get(injection))
    found = next((ticket for ticket in tickets if _explained(struck, ticket)), None)
    if found is not None and found.opened_at >= injection.to_at:
        found = None
    return Case(
        injection.failure, struck.group, struck.device_id, injection.size, injection.speed_s, injection.from_at,
        _struck_at(struck, box.asked.get(injection), truth.breakdown_at), truth.breakdown_at,
        found.opened_at if found else None, f"{found.kind} {found.subject}".strip() if found else "",
    )  # fmt: skip


def _struck_at(struck: Struck, asked_at: int | None, breakdown_at: int | None) -> int | None:
    """When people first felt it: the key that was turned in vain, the stop, the loss; None: it never came to that."""
    if struck.injection.failure == "dead_controller" or struck.group == "sensor":
        return struck.injection.from_at
    if breakdown_at is None:
        return None
    # Three attempts take 23 s: an older turn of the key was a start that succeeded, and the machine stopped later.
    vain = asked_at is not None and 0 <= breakdown_at - asked_at < 30_000
    return asked_at if vain and struck.group in ("start", "stop") else breakdown_at


def _false(fleet: Fleet, struck: Sequence[Struck], tickets: Iterable[TicketTold]) -> list[False_]:
    of_device: dict[str, list[Struck]] = {}
    for each in struck:
        of_device.setdefault(each.device_id, []).append(each)
    out = []
    for ticket in tickets:
        mine = of_device.get(ticket.device_id or "", [])
        if any(_explained(each, ticket) for each in mine) or _site_is_dead(fleet, ticket):
            continue
        standing = [s.injection.failure for s in mine
                    if s.injection.from_at <= ticket.opened_at <= s.injection.to_at + AFTERMATH_MS]  # fmt: skip
        out.append(
            False_(ticket.device_id or f"site {ticket.site_id}", ticket.kind, ticket.subject, ticket.opened_at,
                   ", ".join(standing))
        )  # fmt: skip
    return out


def _site_is_dead(fleet: Fleet, ticket: TicketTold) -> bool:
    """A site's own ticket while its gateway was dead; a single machine's only where too few others were awake."""
    site_id = ticket.site_id
    dead = any(o.site_id == site_id and o.from_at <= ticket.opened_at <= o.to_at + RECOVERY_MS for o in fleet.outages)
    if not dead or ticket.kind != FaultKind.SILENT:
        return False
    return ticket.device_id is None or _awake(fleet, site_id, ticket.opened_at) < SITE_TICKET_FROM


def _awake(fleet: Fleet, site_id: int, at: int) -> int:
    """How many of a site's machines could be missed: those that are not switched off for the night, or taken away."""
    there = [life.source.box for life in fleet.lives if life.site_id == site_id and not life.source.box.machine.sleeps]
    return sum(not any(each.failure in AWAY and each.from_at <= at <= each.to_at for each in box.injections)
               for box in there)  # fmt: skip


# Figures


def wilson(found: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    if not of:
        return 0.0, 1.0
    z, share = 1.96, found / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    reach = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def poisson(count: int) -> tuple[float, float]:
    """The 95 % interval of a count (Byar's approximation of the exact one)."""
    low = count * (1 - 1 / (9 * count) - 1.96 / (3 * math.sqrt(count))) ** 3 if count else 0.0
    more = count + 1
    return low, more * (1 - 1 / (9 * more) + 1.96 / (3 * math.sqrt(more))) ** 3


def in_time(case: Case) -> bool:
    """A sudden failure within a minute of being felt, a gradual one before its breakdown, a sensor's within a day.

    A dead controller cannot be told from a gap of the radio, of which there are many: it is given longer than those.
    """
    if case.found_at is None:
        return False
    if case.group == "gradual":
        return case.breakdown_at is not None and case.found_at < case.breakdown_at
    return case.struck_at is not None and case.found_at <= case.struck_at + ALLOWED_S.get(case.group, SUDDEN_S) * 1000


def counts(case: Case) -> bool:
    """Whether it came to anything: a starter nobody used before its repair was no failure to find."""
    return case.struck_at is not None


class Line(NamedTuple):
    """One failure of the table."""

    name: str
    group: str
    injected: int
    found: int
    detect_s: float | None
    lead_s: float | None


def line(name: str, group: str, cases: Sequence[Case]) -> Line:
    found = [case for case in cases if in_time(case)]
    since = [
        (case.found_at - (case.from_at if case.group == "gradual" else case.struck_at)) / 1000
        for case in cases
        if case.found_at is not None and case.struck_at is not None
    ]
    lead = [
        (case.breakdown_at - case.found_at) / 1000
        for case in found
        if case.breakdown_at is not None and case.found_at is not None
    ]
    return Line(
        name, group, len(cases), len(found), round(max(statistics.median(since), 0.0), 1) if since else None,
        round(statistics.median(lead), 1) if lead else None,
    )  # fmt: skip


def lines(outcomes: Sequence[Outcome]) -> list[Line]:
    cases = [case for out in outcomes if not out.name.startswith("A") for case in out.cases if counts(case)]
    out = []
    for group in ("start", "stop", "loss", "silence", "gradual"):
        mine = [case for case in cases if case.group == group]
        names = sorted({case.failure for case in mine})
        out += [line(name, group, [case for case in mine if case.failure == name]) for name in names]
    return out


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The figures of `--json`."""
    table = lines(outcomes)
    ordinary = [out for out in outcomes if out.name.startswith("A")]
    days = sum(out.machine_days for out in ordinary)
    wrong = sum(len(out.false_tickets) for out in ordinary)
    sudden = [each for each in table if each.group in ("start", "stop", "loss")]
    gradual = [each for each in table if each.group == "gradual"]
    sums = {name: (sum(each.found for each in some), sum(each.injected for each in some))
            for name, some in (("sudden", sudden), ("gradual", gradual))}  # fmt: skip
    return {
        "false_tickets_per_1000_machine_days": round(wrong / days * 1000, 3) if days else None,
        "false_tickets_interval": [round(end / days * 1000, 3) for end in poisson(wrong)] if days else None,
        "machine_days": round(days, 1),
        "sudden_found_share": _share(*sums["sudden"]),
        "sudden_interval": [round(end, 4) for end in wilson(*sums["sudden"])],
        "gradual_found_before_breakdown_share": _share(*sums["gradual"]),
        "gradual_interval": [round(end, 4) for end in wilson(*sums["gradual"])],
        "failures": {
            _key(each, table): {
                "injected": each.injected, "found": each.found, "median_detect_s": each.detect_s,
                "median_lead_s": each.lead_s,
            }
            for each in table
        },
        "in_ordinary_life": {
            group: dict(zip(("injected", "found"), _ordinary(ordinary, group), strict=True))
            for group in ("start", "stop", "loss", "silence", "gradual", "sensor")
        },
    }  # fmt: skip


def _share(found: int, of: int) -> float | None:
    return round(found / of, 4) if of else None


def _key(each: Line, table: Sequence[Line]) -> str:
    """Some failures come both at once and slowly."""
    twice = sum(other.name == each.name for other in table) > 1
    return f"{each.name}_{'slow' if each.group == 'gradual' else 'sudden'}" if twice else each.name


def _ordinary(outcomes: Sequence[Outcome], group: str) -> tuple[int, int]:
    cases = [case for out in outcomes for case in out.cases if case.group == group and counts(case)]
    return len(cases), sum(in_time(case) for case in cases)


def table_of(outcomes: Sequence[Outcome]) -> str:
    """The same for people."""
    figures = summary(outcomes)
    heads = ("injected", 9), ("found in time", 15), ("interval", 16), ("median to find", 16), ("median warning", 16)
    out = [f"{'failure':<26}" + "".join(f"{word:>{width}}" for word, width in heads)]
    every = lines(outcomes)
    for each in every:
        low, high = wilson(each.found, each.injected)
        out.append(
            f"{_key(each, every):<26}{each.injected:>9}{each.found / each.injected:>14.1%} "
            f"{f'{low:.1%}-{high:.1%}':>16}{_span(each.detect_s):>16}{_span(each.lead_s):>16}"
        )
    for words, key in (("sudden, within 60 s of being felt", "sudden_found_share"),
                       ("gradual, before the breakdown", "gradual_found_before_breakdown_share")):  # fmt: skip
        low, high = figures[key.split("_")[0] + "_interval"]
        share = figures[key]
        out.append(f"{words}: {'-' if share is None else f'{share:.2%}'} ({low:.2%} to {high:.2%})")
    if figures["machine_days"]:
        low, high = figures["false_tickets_interval"]
        out.append(
            f"false tickets: {figures['false_tickets_per_1000_machine_days']} per 1,000 machine-days "
            f"({low} to {high}) in {figures['machine_days']:,.0f}"
        )
        beside = [
            f"{group} {each['found']} of {each['injected']}" for group, each in figures["in_ordinary_life"].items()
        ]
        out.append(f"failures found in time in ordinary life: {', '.join(beside)}")
    return "\n".join(out)


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min" if seconds < 36_000 else (
        f"{seconds / 3600:.1f} h"
    )  # fmt: skip


def details(outcomes: Sequence[Outcome], limit: int = 25) -> str:
    """For whoever works on a detector: what was missed or late, and every kind of false ticket with examples."""
    out = ["# The truth, latest run", "", "```", table_of(outcomes), "```", ""]
    for name in ("A", "sudden", "gradual"):
        wrong = [each for o in outcomes if o.name.startswith(name) for each in o.false_tickets]
        out += [f"## False tickets in {name}: {len(wrong)}", ""]
        kinds = Counter((each.kind, each.subject, each.standing) for each in wrong)
        for (kind, subject, standing), count in kinds.most_common(limit):
            example = next(w for w in wrong if (w.kind, w.subject, w.standing) == (kind, subject, standing))
            beside = f" beside {standing}" if standing else ""
            out.append(
                f"- {count} x {kind} {subject}{beside}, e.g. {example.device_id} at {_moment(example.opened_at)}"
            )
        out.append("")
    missed = [case for o in outcomes for case in o.cases if counts(case) and not in_time(case)]
    out += [f"## Missed or late: {len(missed)}", ""]
    for group, failure in sorted({(case.group, case.failure) for case in missed}):
        some = [case for case in missed if (case.group, case.failure) == (group, failure)]
        out.append(f"### {failure} ({group}): {len(some)}")
        out += [f"- {_story(case)}" for case in some[:8]] + [""]
    by = Counter((case.failure, case.group, case.found_by) for o in outcomes for case in o.cases if in_time(case))
    out += ["## Found by", "", *(f"- {n} x {f} ({g}): {b}" for (f, g, b), n in sorted(by.items()))]
    return "\n".join(out) + "\n"


def _story(case: Case) -> str:
    felt = "" if case.struck_at is None else f", felt {_moment(case.struck_at)}"
    broke = "" if case.breakdown_at is None else f", broke {_moment(case.breakdown_at)}"
    found = f"found {_moment(case.found_at)} by {case.found_by}" if case.found_at else "never found"
    return (f"{case.device_id} size {case.size:.2f} in {_span(case.ramp_s)} from {_moment(case.from_at)}"
            f"{felt}{broke}, {found}")  # fmt: skip


def _moment(at: int) -> str:
    days, rest = divmod(at - BEGIN_AT, DAY_MS)
    return f"day {days} {rest // HOUR_MS:02d}:{rest % HOUR_MS // 60_000:02d}:{rest % 60_000 // 1000:02d}"


# Doing it


def jobs(
    seeds: int, seed_base: int, machines: int, days: float, report_s: float = ORDINARY_REPORT_S, share: float = 1.0
) -> list[Job]:
    """The longest first, so that the processes end at about the same time."""
    ordinary = [Job("A", seed_base + n, machines, days, report_s=report_s) for n in range(seeds)]
    sudden = [Job("sudden", seed_base + n, max(3, round(36 * share)), days=1.0, failures=9) for n in range(2)]
    gradual = [Job("gradual", seed_base + n, max(8, round(160 * share)), days=4.0) for n in range(2)]
    return [*gradual, *ordinary, *sudden]


def run(work: Sequence[Job], processes: int, told: Path | None = None) -> list[Outcome]:
    """Live all fleets, two at a time, and say when each is done; what is known by then is written to `told`."""
    done: dict[str, Outcome] = {}
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(lived, job) for job in work]):
            out = future.result()
            done[out.name] = out
            met = [case for case in out.cases if counts(case)]
            found = sum(in_time(case) for case in met)
            print(
                f"{out.name}: {out.machine_days:,.0f} machine-days in {out.took_s:.0f} s, {out.tickets} tickets, "
                f"{len(out.false_tickets)} false, {found} of {len(met)} failures found in time",
                file=sys.stderr,
            )  # fmt: skip
            if told:
                told.write_text(details(list(done.values())))
    return [done[job.name] for job in work]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.truth", description="Tickets against the simulator's truth.")
    parser.add_argument("--seeds", type=int, default=5, help="fleets of run A")
    parser.add_argument("--seed-base", type=int, default=1, metavar="N", help="the first of them")
    parser.add_argument("--machines", type=int, default=50, metavar="M", help="machines of each, in sites of five")
    parser.add_argument("--days", type=float, default=30.0, metavar="D")
    parser.add_argument("--report-s", type=float, default=ORDINARY_REPORT_S, help="how often run A's machines report")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of the table")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", choices=("A", "B"), help="one of the two runs")
    parser.add_argument("--details", type=Path, metavar="FILE", help="also write what was missed and what was false")
    options = parser.parse_args()
    began = time.monotonic()
    work = jobs(options.seeds, options.seed_base, options.machines, options.days, options.report_s)
    work = [job for job in work if options.only in (None, "A" if job.run == "A" else "B")]
    outcomes = run(work, options.processes, options.details)
    if options.json:
        print(json.dumps(summary(outcomes)))
    else:
        print(f"{options.seeds} fleets of {options.machines} machines (sites of {SITE_MACHINES}) for "
              f"{options.days:g} days, a report every {options.report_s:g} s; {time.monotonic() - began:.0f} s\n\n"
              f"{table_of(outcomes)}")  # fmt: skip


if __name__ == "__main__":
    main()
