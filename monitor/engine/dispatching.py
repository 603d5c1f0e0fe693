"""Whom to send: the facts of dispatch and feasibility from the record, decided by the pure rooms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from sqlalchemy.engine import Connection

from monitor.desk.commitments import Commitment, Turn
from monitor.desk.dispatch import (
    Code,
    Excluded,
    Job,
    Policy,
    Proposal,
    Technician,
    consider,
    distance_km,
    position_of,
    propose,
    window,
)
from monitor.desk.feasibility import Clock, Forecast, Spare, foresee
from monitor.desk.rota import Rota
from monitor.desk.working_time import DayKind, calendar_named
from monitor.desk.working_time import Policy as WorkingTime
from monitor.devices import Severity
from monitor.store import cases, paging, people

DAY_MS = 86_400_000
VISIT_MS = 3_600_000
"""Within so long of an agreed moment somebody is expected."""
UNCERTIFIED = frozenset((Code.NOT_CERTIFIED, Code.CERTIFICATE_LAPSED, Code.CERTIFICATE_LAPSES))


@dataclass(frozen=True, slots=True)
class Crew:
    """Everybody as they stand now: who is on call, and who could be sent, with what they carry. `keeps_rota`: whether
    the company has said who may work on what, and when anybody is there; where it has not, nobody can be proposed."""

    rota: Rota
    technicians: tuple[Technician, ...]
    on_call: tuple[int, ...]
    keeps_rota: bool
    spares: dict[str, list[Spare]] = field(default_factory=dict)
    """Exchange machines by model, as they are looked up."""


@dataclass(frozen=True, slots=True)
class Dispatching:
    """How people are found. `timezone`: the company's, for people and sites that have none of their own."""

    policy: Policy
    working_time: WorkingTime
    timezone: str

    def crew(self, connection: Connection, now: int) -> Crew:
        """Loaded once for as many tickets as are looked at at one time."""
        ahead_ms = round(self.policy.look_ahead_s * 1000)
        special = self.special_days(now - DAY_MS, now + ahead_ms + DAY_MS)
        staff = people.load_staff(connection, self.timezone, special, now)
        duties = staff.rota.duties(now, now + ahead_ms)
        loads = paging.loads(connection)
        technicians = tuple(
            Technician(person_id, certificates, home, loads.get(person_id, ()), duties.get(person_id, ()))
            for person_id, (certificates, home) in staff.technicians.items()
        )
        return Crew(staff.rota, technicians, tuple(staff.rota.on_call_at(now)), staff.kept)

    def special_days(self, from_at: int, until_at: int) -> Mapping[date, int | None]:
        """The company's holidays, and the rest days that are worked instead, like a Monday."""
        days = calendar_named("working", self.working_time, self.timezone).days(from_at, until_at)
        worked = {DayKind.MADE_UP: 0, DayKind.DECLARED_WORKED: 0, DayKind.HOLIDAY: None, DayKind.DECLARED_OFF: None}
        return {day.on: worked[day.kind] for day in days if day.kind in worked}

    def job(self, connection: Connection, row: cases.Row) -> Job:
        """A ticket as the dispatch sees it."""
        clocks = [one for one in cases.load_commitments(connection, row.id) if one.turn == row.turn]
        begin = next((one.due_at for one in clocks if one.stop == Turn.REPAIR_BEGUN and one.running), None)
        profile = cases.profile_name(connection, row.device_id) or None
        place = paging.place_of(connection, row.site_id)
        return Job(row.id, profile, place, Severity(row.severity), row.opened_at, begin,
                   paging.declines(connection, row.id))  # fmt: skip

    def propose(self, connection: Connection, row: cases.Row, crew: Crew, now: int) -> Proposal:
        """Who should go, the best first, each with why; and who cannot, each with why not."""
        return propose(self.job(connection, row), crew.technicians, self.policy, now)

    def foresee(self, connection: Connection, row: cases.Row, crew: Crew, now: int) -> list[Forecast]:
        """What becomes of a ticket's running clocks, the first due first."""
        clocks = [
            Clock(one.standard_id, one.kind, Turn(one.stop), one.due_at)
            for one in cases.load_commitments(connection, row.id)
            if one.turn == row.turn and _runs(one)
        ]
        if not clocks:
            return []
        job = self.job(connection, row)
        if job.profile is not None and job.profile not in crew.spares:
            crew.spares[job.profile] = paging.spares(connection, job.profile, now)
        spares = crew.spares.get(job.profile or "", [])
        return foresee(job, clocks, row.technician_id, crew.technicians, spares, self.policy, now)

    def travel_s(self, connection: Connection, row: cases.Row, person_id: int | None) -> float | None:
        """How long somebody's way from home to a ticket's site takes, where both are known."""
        there = paging.place_of(connection, row.site_id)
        person = people.person_row(connection, person_id) if person_id is not None else None
        home = position_of(person.lat_deg, person.lon_deg) if person else None
        return None if there is None or home is None else self.policy.travel_s(distance_km(home, there))

    def arrival(self, connection: Connection, row: cases.Row, now: int) -> tuple[int, int] | None:
        """Between when and when the ticket's technician is expected at its site, as customers are told: as was agreed
        with them, else as can be reckoned; None where that cannot be known (nobody has it, or a place is not known)."""
        if row.visit_at is not None:
            return row.visit_at, row.visit_at + VISIT_MS
        technicians = self.crew(connection, now).technicians
        theirs = next((one for one in technicians if one.person_id == row.technician_id), None)
        if theirs is None:
            return None
        found = consider(replace(self.job(connection, row), declines=()), theirs, self.policy, now)
        return None if isinstance(found, Excluded) else window(found.reach)


def askable(proposal: Proposal) -> tuple[int, ...]:
    """Who can be asked now, the best first: whoever is on duty only later cannot."""
    return tuple(one.person_id for one in proposal.ranked if one.duty is not None)


def on_call_for(proposal: Proposal, on_call: Sequence[int]) -> tuple[int, ...]:
    """Who of those on call may be asked for this ticket: technicians who are certified for it (P1)."""
    barred = {one.person_id for one in proposal.excluded if UNCERTIFIED.intersection(r.code for r in one.reasons)}
    known = barred | {one.person_id for one in proposal.ranked} | {one.person_id for one in proposal.excluded}
    return tuple(one for one in on_call if one in known - barred)


def _runs(clock: Commitment) -> bool:
    return clock.running and clock.paused_since is None
