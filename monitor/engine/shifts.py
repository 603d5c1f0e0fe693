"""Shifts: what whoever comes on takes over, for a page at any time and one message at the change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from monitor.desk import notices
from monitor.desk.handover import Case, Clock, Done, Handover, handover
from monitor.desk.notices import Kind
from monitor.desk.rota import OnCall, Rota
from monitor.desk.tickets import Status
from monitor.devices import Severity
from monitor.engine.dispatching import Dispatching
from monitor.store import cases, paging, people, registry

if TYPE_CHECKING:
    from monitor.engine.desk import Desk

LOOK_MS = 8 * 86_400_000
"""So far a shift is looked for, back and ahead: a week's shift, and a day."""
SHIFT_MS = 12 * 3_600_000
"""How long a shift is taken to be where nobody is on call in turn."""


@dataclass(frozen=True, slots=True)
class Shift:
    """[start_at, end_at) of somebody on call; of nobody, where the company has no rotation."""

    start_at: int
    end_at: int
    person_id: int | None = None


class Shifts:
    """Tells whoever comes on what they take over."""

    def __init__(self, desk: "Desk", dispatching: Dispatching) -> None:
        self.desk = desk
        self.dispatching = dispatching
        # When the next change of shift is, as of this version of the registry.
        self._version, self._next_at = -1, 0

    def shift_at(self, connection: Connection, at: int) -> Shift:
        """The shift that this moment lies in: the first rotation's, or the hours before where nobody is on call."""
        spell = next((one for one in self._spells(connection, at) if one.start_at <= at < one.end_at), None)
        return Shift(spell.start_at, spell.end_at, spell.person_id) if spell else Shift(at - SHIFT_MS, at)

    def since_last(self, connection: Connection, now: int) -> Shift:
        """From the beginning of the shift before this one until now: what somebody who has just come on asks for."""
        here = self.shift_at(connection, now)
        before = self.shift_at(connection, here.start_at - 1) if here.person_id is not None else here
        return Shift(before.start_at, now, before.person_id)

    def told_of(self, connection: Connection, shift: Shift) -> Handover:
        """What happened in a shift, what is open now, and what is promised."""
        tickets, steps, clocks = paging.handover_facts(connection, shift.start_at, shift.end_at)
        return handover(
            map(_case, tickets), map(_done, steps), map(_clock, clocks), shift.start_at, shift.end_at
        )  # fmt: skip

    def tick(self, now: int) -> None:
        """Tell whoever has come on since the last look; after an absence only those who are on call now."""
        with self.desk.database.connect() as connection:
            version = registry.version(connection)
            if version == self._version and now < self._next_at:
                return
            due = paging.to_hand_over(connection, now)
            spells = self._rota(connection, now).on_call(now - LOOK_MS, now + LOOK_MS)
        for rotation_id, told_at in due.items():
            spell = _came_on(spells, rotation_id, max(told_at, now - LOOK_MS), now)
            if spell is None:
                continue
            with self.desk.database.begin() as connection:
                if paging.note_handed_over(connection, rotation_id, told_at, now):
                    self._tell(connection, spell, now)
        changes = [at for one in spells for at in (one.start_at, one.end_at) if at > now]
        self._version, self._next_at = version, min(changes, default=now + LOOK_MS)

    def _rota(self, connection: Connection, at: int) -> Rota:
        """Who is on call, as far as a change of shift is concerned: holidays move none."""
        return people.load_staff(connection, self.dispatching.timezone, {}, at).rota

    def _spells(self, connection: Connection, at: int) -> list[OnCall]:
        spells = self._rota(connection, at).on_call(at - LOOK_MS, at + LOOK_MS)
        first = min((one.rotation_id for one in spells), default=None)
        return [one for one in spells if one.rotation_id == first]

    def _tell(self, connection: Connection, spell: OnCall, now: int) -> None:
        people_known = {person.id: person for person in cases.load_people(connection)}
        person = people_known.get(spell.person_id)
        if person is None:
            return
        before = self.shift_at(connection, spell.start_at - 1)
        told = self.told_of(connection, Shift(before.start_at, spell.start_at))
        row = people.person_row(connection, spell.person_id)
        timezone = (row.timezone if row else "") or self.desk.addresses.timezone
        link = f"{self.desk.addresses.public_url}/handover"
        text = notices.write_handover(person.lang, told, spell.end_at, timezone, link)
        notice = notices.letter_to(
            person, Kind.HANDOVER, f"{spell.rotation_id}-{spell.start_at}", text, now, severity=Severity.URGENT
        )
        self.desk.telling.tell(connection, [notice], now)


def _came_on(spells: Sequence[OnCall], rotation_id: int, from_at: int, now: int) -> OnCall | None:
    """Whoever came on since then, and is on call now."""
    theirs = [one for one in spells if one.rotation_id == rotation_id]
    return next((one for one in theirs if from_at < one.start_at <= now < one.end_at), None)


def _case(row: cases.Row) -> Case:
    return Case(row.id, row.device_id or "", row.site_name, row.kind, Severity(row.severity), Status(row.status),
                row.opened_at, row.technician_id, row.waits_for or "", row.waits_until)  # fmt: skip


def _done(row: cases.Row) -> Done:
    return Done(row.ticket_id, row.event, row.actor, row.happened_at, row.recorded_at)


def _clock(row: cases.Row) -> Clock:
    feared = "feared" if row.feared_at is not None and row.met_at is None else ""
    return Clock(row.ticket_id, row.standard_id, row.kind, row.due_at, row.met_at, row.paused_since is not None, feared)
