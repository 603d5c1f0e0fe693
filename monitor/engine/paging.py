"""Paging: people are asked to take a ticket, one after the other, until somebody does (monitor/desk/escalation.py).

The search for a ticket's technician is a row with the moment at which it is looked at next. Each look saves its moves
together with their notices, so that a restart asks nobody twice and forgets nobody. A company that keeps no rota has
nobody to propose: then there is no search, all technicians hear of a ticket when it opens, and those in charge when
nobody has taken it for as long as a search would have lasted.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.engine import Connection

from monitor.desk import notices
from monitor.desk.escalation import Job, Move, Phase, Policy, What, Who, next_at, next_moves, shipped_policy, unanswered
from monitor.desk.notices import Facts, Kind, Person, say
from monitor.desk.tickets import ARRANGED, NotPossible, Status, Step, Ticket, Verb, allowed
from monitor.devices import Severity
from monitor.engine.dispatching import Crew, Dispatching, askable, on_call_for
from monitor.store import cases, people
from monitor.store import paging as store
from monitor.store.paging import BEFORE_ANY_ROUND, Search
from monitor.store.registry import write_audit

if TYPE_CHECKING:
    from monitor.engine.desk import Desk

log = structlog.get_logger()

LOOKS_A_TICK = 25
TRY_AGAIN_MS = 60_000
"""What could not be looked at for an error of ours is looked at again so much later, behind everything else."""
UNSOUGHT_EVERY_MS = 60_000
"""So often it is looked whether there is somebody to seek for tickets that nobody was sought for."""
TRIES = 3
"""So often a step is tried anew because its ticket changed between the look and the step."""
LINK_LASTS_MS = 12 * 3_600_000
"""A late yes is better than none, as long as nobody else has said it."""
DESK = "desk"
ASKED, WOULD_NOT = "ask", "decline_ask"
"""Events of the steps by which a ticket tells who was asked, and who of several would not."""
ANSWER = "answer"
"""The purpose of the links that people answer by."""

_PHASES = {
    Status.OPEN: Phase.SEEKING,
    Status.VERIFIED: Phase.SEEKING,
    Status.DISPATCHED: Phase.SEEKING,
    Status.ACCEPTED: Phase.ACCEPTED,
    Status.ON_THE_WAY: Phase.ON_THE_WAY,
}


def phase_of(status: Status) -> Phase:
    return _PHASES.get(status, Phase.STOPPED)


@dataclass(frozen=True, slots=True)
class Offered:
    """A ticket that somebody was asked to take, as their link says."""

    ticket_id: int
    person_id: int


class Paging:
    """Runs the escalation of the desk's tickets."""

    def __init__(self, desk: "Desk", dispatching: Dispatching, policy: Policy | None = None) -> None:
        self.desk = desk
        self.dispatching = dispatching
        self.policy = policy or shipped_policy()
        self._unsought_at = 0

    # --- what happens to a ticket ---

    def begin(self, connection: Connection, row: cases.Row, since_at: int) -> bool:
        """Somebody is sought for a ticket that has just been opened, from that moment on; False where nobody keeps a
        rota, so that all technicians hear of it instead."""
        if not people.keeps_rota(connection):
            return False
        self._save(connection, Search(row.id, 1, Phase.SEEKING, since_at), row)
        return True

    def _anew(self, connection: Connection, ticket_id: int, since_at: int, named_id: int | None = None) -> None:
        """Somebody is sought for a ticket in a round of its own, from that moment on."""
        there = store.load(connection, ticket_id)
        if there is None and not people.keeps_rota(connection):
            return
        round_ = there.round + 1 if there else 1
        self._save(connection, Search(ticket_id, round_, Phase.SEEKING, since_at, named_id))

    def raised(self, connection: Connection, ticket_id: int, now: int) -> None:
        """A ticket matters more than it did: whoever is sought is sought anew; whoever has it has less time."""
        search = store.load(connection, ticket_id)
        if search is None or search.phase is Phase.SEEKING:
            self._anew(connection, ticket_id, now, search.named_id if search else None)
        else:
            self._save(connection, search)

    def stop(self, connection: Connection, ticket_id: int, now: int) -> None:
        """A ticket went into another one: nobody is sought for it any more."""
        search = store.load(connection, ticket_id)
        if search is not None and search.phase is not Phase.STOPPED:
            self._release(connection, search, None, now)
            self._save(connection, replace(search, phase=Phase.STOPPED, since_at=now))

    def seeks(self, connection: Connection, ticket_id: int) -> bool:
        """Whether people are asked for this ticket one after the other, so that nobody else is alerted."""
        search = store.load(connection, ticket_id)
        return search is not None and search.phase is Phase.SEEKING

    def stepped(self, connection: Connection, before: Ticket, after: Ticket, step: Step, now: int) -> None:
        """Go on after a step of a ticket that has just been saved, in its transaction."""
        search = store.load(connection, before.id)
        if step.verb is Verb.DISPATCH:
            if search is not None:
                self._release(connection, search, after.technician_id, now)
            self._anew(connection, before.id, now, after.technician_id)
        elif search is not None and step.verb is Verb.DECLINE:
            self._given_back(connection, search, before, step, now)
        elif search is not None:
            self._moved_on(connection, search, before, after, step, now)

    def _given_back(self, connection: Connection, search: Search, before: Ticket, step: Step, now: int) -> None:
        if step.actor == DESK:
            self._anew(connection, before.id, step.happened_at)
            return
        if before.technician_id is not None:
            store.decline(connection, before.id, search.round, before.technician_id, now)
        if search.phase is Phase.SEEKING:
            self._save(connection, search)
        else:
            self._anew(connection, before.id, now)

    def _moved_on(
        self, connection: Connection, search: Search, before: Ticket, after: Ticket, step: Step, now: int
    ) -> None:  # fmt: skip
        was, phase = phase_of(before.status), phase_of(after.status)
        if phase is Phase.SEEKING:
            if was is not Phase.SEEKING or step.verb is Verb.CORRECT:
                still_named = search.named_id if after.technician_id == search.named_id else None
                self._anew(connection, before.id, now, still_named)
        elif phase is not was:
            if was is Phase.SEEKING:
                taken_by = after.technician_id if after.status in ARRANGED else None
                self._release(connection, search, taken_by, now)
            self._save(connection, replace(search, phase=phase, since_at=now))

    def _release(self, connection: Connection, search: Search, taken_by: int | None, now: int) -> None:
        """Whoever was asked and has not answered hears that they need not any more; alerts that wait are not sent."""
        row = self._row(connection, search.ticket_id)
        waiting = unanswered(self._job(connection, row, search), store.moves(connection, search.ticket_id))
        if search.phase is not Phase.SEEKING or not waiting:
            return
        cases.withdraw_notices(connection, search.ticket_id, Kind.DISPATCH_ALERT)
        told = [person for person in self._people(connection, waiting) if person.id != taken_by]
        self._tell(connection, row, told, Kind.TAKEN, str(search.round), now)

    def _save(self, connection: Connection, search: Search, row: cases.Row | None = None) -> None:
        """Keep how the search stands, with when it is to be looked at again. `row`: its ticket, where that is known."""
        row = row or self._row(connection, search.ticket_id)
        job = self._job(connection, row, search)
        found = next_at(job, store.moves(connection, search.ticket_id), self.policy)
        store.save(connection, replace(search, next_at=found))

    def _row(self, connection: Connection, ticket_id: int) -> cases.Row:
        row = cases.load_ticket(connection, ticket_id)
        assert row is not None  # noqa: S101 (a search without a ticket breaks a foreign key)
        return row

    def _job(self, connection: Connection, row: cases.Row, search: Search) -> Job:
        under_way = search.phase in (Phase.ACCEPTED, Phase.ON_THE_WAY)
        return Job(
            row.id, Severity(row.severity), row.rental_id is not None, search.phase, search.round, search.since_at,
            named_id=search.named_id, technician_id=row.technician_id, visit_at=row.visit_at,
            travel_s=self.dispatching.travel_s(connection, row, row.technician_id) if under_way else None,
        )  # fmt: skip

    # --- time goes on ---

    def tick(self, now: int) -> None:
        """Look at every search that is due, each in a transaction of its own."""
        self._mind_unsought(now)
        with self.desk.database.connect() as connection:
            due = store.due(connection, now, LOOKS_A_TICK)
        if not due:
            return
        with self.desk.database.connect() as connection:
            crew = self.dispatching.crew(connection, now)
        self._each(due, partial(self._look, crew=crew, now=now), now)

    def _each(self, ticket_ids: Iterable[int], do: Callable[[int], None], now: int) -> None:
        for ticket_id in ticket_ids:
            try:
                do(ticket_id)
            except Exception:
                # One ticket that cannot be looked at must not keep all others from being paged for.
                log.exception("paging_failed", ticket=ticket_id)
                with self.desk.database.begin() as connection:
                    store.postpone(connection, ticket_id, now + TRY_AGAIN_MS)

    def _mind_unsought(self, now: int) -> None:
        """Once a rota is kept, seek for what was opened before; as long as none is, tell those in charge what nobody
        has taken."""
        if now < self._unsought_at:
            return
        self._unsought_at = now + UNSOUGHT_EVERY_MS
        with self.desk.database.connect() as connection:
            kept = people.keeps_rota(connection)
            found = (
                store.unsought(connection, LOOKS_A_TICK) if kept
                else store.untold(connection, self._patience(now), LOOKS_A_TICK)
            )  # fmt: skip
        self._each(found, partial(self._seek_after_all if kept else self._tell_unsought, now=now), now)

    def _patience(self, now: int) -> dict[tuple[Severity, bool], int]:
        """Until when a ticket must have been opened for its ladder to be climbed to the end by now."""
        pairs = [(one, on_hire) for one in Severity if one.makes_bad for on_hire in (True, False)]
        ladders = {(one, on_hire): self.policy.ladder(one, on_hire=on_hire) for one, on_hire in pairs}
        return {
            pair: now - round(1000 * sum(level.wait_s or 0 for level in ladder.levels))
            for pair, ladder in ladders.items() if ladder is not None
        }  # fmt: skip

    def _seek_after_all(self, ticket_id: int, now: int) -> None:
        with self.desk.database.begin() as connection:
            row = self._row(connection, ticket_id)
            status = Status(row.status)
            if phase_of(status) is Phase.SEEKING and store.load(connection, ticket_id) is None:
                self._anew(connection, ticket_id, now, row.technician_id if status is Status.DISPATCHED else None)

    def _tell_unsought(self, ticket_id: int, now: int) -> None:
        with self.desk.database.begin() as connection:
            row = self._row(connection, ticket_id)
            there = store.load(connection, ticket_id) is not None or store.moves(connection, ticket_id)
            if there or phase_of(Status(row.status)) is not Phase.SEEKING:
                return
            told = Move(BEFORE_ANY_ROUND, 1, What.TELL, now, Who.MANAGER)
            store.add_moves(connection, ticket_id, [told], now)
            self._tell_untaken(connection, row, told, [], now)

    def _look(self, ticket_id: int, crew: Crew, now: int) -> None:
        with self.desk.database.begin() as connection:
            row, search = self._row(connection, ticket_id), store.load(connection, ticket_id)
            if search is None or search.next_at is None or search.next_at > now:
                return
            expired = self._make_moves(connection, row, search, crew, now)
            if expired is not None:
                self.desk.withdraw(connection, row, expired.due_at, now)
                row, search = self._row(connection, ticket_id), store.load(connection, ticket_id)
                assert search is not None  # noqa: S101 (it was there, and nothing deletes it)
                self._make_moves(connection, row, search, crew, now)
            found = store.load(connection, ticket_id)
            self._save(connection, found or search)

    def _make_moves(self, connection: Connection, row: cases.Row, search: Search, crew: Crew, now: int) -> Move | None:
        """Do what is due; answers the end of an acceptance, if that is among it."""
        job = self._job(connection, row, search)
        if job.phase is Phase.SEEKING:
            proposal = self.dispatching.propose(connection, row, crew, now)
            job = replace(job, proposed=askable(proposal), on_call=on_call_for(proposal, crew.on_call))
        before = store.moves(connection, row.id)
        made = next_moves(job, before, self.policy, now)
        store.add_moves(connection, row.id, made, now)
        self._ask(connection, row, [move for move in made if move.what is What.ASK], now)
        for move in made:
            if move.what is What.TELL:
                self._tell_untaken(connection, row, move, [*before, *made], now)
            elif move.what in (What.REMIND_TO_DEPART, What.REMIND_TO_ARRIVE, What.EXPIRE):
                self._tell_holder(connection, row, move, now)
        return next((move for move in made if move.what is What.EXPIRE), None)

    # --- people are asked and told ---

    def _ask(self, connection: Connection, row: cases.Row, asks: Sequence[Move], now: int) -> None:
        """Offer the ticket, and send each who is asked a link to answer by."""
        if not asks:
            return
        alone = asks[-1].person_id if asks[-1].who is not Who.ON_CALL else None
        before = {"status": row.status, "technician_id": row.technician_id}
        store.offer(connection, row.id, alone)
        row = self._row(connection, row.id)
        after = {"status": row.status, "technician_id": row.technician_id, "asked": [one.person_id for one in asks]}
        write_audit(connection, now, DESK, "ticket_ask", f"ticket:{row.id}", before, after)
        known = {person.id: person for person in self._people(connection, [a.person_id for a in asks])}
        for move in asks:
            # A person's own dispatch stands in the record already.
            if move.who is not Who.NAMED:
                cases.note_step(connection, row, ASKED, DESK, "", now, technician_id=move.person_id)
            if move.person_id not in known:
                continue
            link = self._answer_link(row.id, move.person_id, move.due_at)
            extra = {"answer_by": move.until_at, **({"ticket_url": link} if link else {})}
            name = f"{move.round}-{move.level}"
            self._tell(connection, row, [known[move.person_id]], Kind.DISPATCH_ALERT, name, now, **extra)
        cases.note_change(connection, now, cases.ASKED, row.device_id, row.id)

    def _answer_link(self, ticket_id: int, person_id: int, asked_at: int) -> str:
        signer = self.desk.addresses.signer
        if signer is None:
            return ""
        token = signer.sign(ANSWER, (ticket_id, person_id), asked_at + LINK_LASTS_MS)
        return f"{self.desk.addresses.public_url}/answer/{token}"

    def _tell_untaken(self, connection: Connection, row: cases.Row, move: Move, made: Sequence[Move], now: int) -> None:
        roles = ("ops",) if move.who is Who.OPS else ("manager", "ops")
        staff = cases.load_people(connection)
        hearers = [person for person in staff if person.role in roles]
        # Somebody has to hear it, whoever there is; without a rota all technicians have.
        hearers = hearers or [person for person in staff if person.role in ("manager", "service", "admin")]
        unsought = move.round == BEFORE_ANY_ROUND
        hearers = hearers or [person for person in staff if person.role == "technician" and not unsought]
        asked = dict.fromkeys(
            one.person_id for one in made
            if one.round == move.round and one.what is What.ASK and one.person_id is not None
        )  # fmt: skip
        found = people.names(connection, asked)
        names = ", ".join(found[one] for one in asked if one in found)
        what = "paging.no_rota" if unsought else "paging.asked" if names else "paging.nobody"
        said = {lang: [say(lang, what, names=names)] for lang in notices.LANGS}
        self._tell(connection, row, hearers, Kind.UNTAKEN, f"{move.round}-{move.level}", now, said=said)

    def _tell_holder(self, connection: Connection, row: cases.Row, move: Move, now: int) -> None:
        """Whoever has accepted is reminded, or hears that it is offered to others again."""
        kind = Kind.EXPIRED if move.what is What.EXPIRE else Kind.REMINDER
        awaits = "arrive" if move.what is What.REMIND_TO_ARRIVE else "depart"
        holder = self._people(connection, [move.person_id])
        self._tell(connection, row, holder, kind, f"{move.round}-{move.what}", now, awaits=awaits,
                   answer_by=move.until_at)  # fmt: skip

    def _people(self, connection: Connection, wanted: Iterable[int | None]) -> list[Person]:
        """Those of these people who may be told, in this order."""
        known = {person.id: person for person in cases.load_people(connection)}
        return [known[one] for one in wanted if one is not None and one in known]

    def _tell(
        self, connection: Connection, row: cases.Row, hearers: Sequence[Person], kind: Kind, name: str, now: int,
        **extra: object,
    ) -> None:  # fmt: skip
        if not hearers:
            return
        facts: Facts = replace(self.desk.ticket_facts(connection, row, now)[0], **extra)  # type: ignore[arg-type]
        told = [notices.notice_to(person, kind, name, facts, now) for person in hearers]
        self.desk.telling.tell(connection, told, now)

    # --- answers ---

    def offered(self, token: str, now: int) -> Offered | None:
        """What a link offers to whom; None where it is not ours, or too old."""
        signer = self.desk.addresses.signer
        facts = signer.read(ANSWER, token, now) if signer else None
        return Offered(*facts) if facts and len(facts) == len(Offered.__slots__) else None

    def accept(self, offered: Offered, now: int) -> None:
        """Somebody says yes by their link. Raises NotPossible where the ticket is taken, or offered to others now."""
        for _ in range(TRIES):
            with self.desk.database.connect() as connection:
                # Read first: what changes after that is refused with the step.
                revision = store.revision(connection, offered.ticket_id)
                if store.is_elsewhere(connection, offered.ticket_id, offered.person_id):
                    raise NotPossible(f"Ticket {offered.ticket_id} is offered to somebody else now", [])
            if self._answer(offered, Verb.ACCEPT, f"person:{offered.person_id}", revision, now, offered.person_id):
                return
        raise NotPossible(f"Ticket {offered.ticket_id} is being changed by others", [])

    def _answer(
        self, offered: Offered, verb: Verb, actor: str, revision: int, now: int, technician_id: int | None = None,
        note: str = "",
    ) -> bool:  # fmt: skip
        """Take a step with a ticket that stands as it was looked at; False where it does not any more."""
        from monitor.engine.desk import Changed  # The desk is made of this module.

        try:
            self.desk.act(
                offered.ticket_id, verb, actor, now, revision=revision, technician_id=technician_id, note=note
            )
        except Changed:
            return False
        return True

    def decline(self, offered: Offered, actor: str, now: int, note: str = "") -> None:
        """Somebody who was asked says no. Raises NotPossible where nobody asks them any more."""
        for _ in range(TRIES):
            revision = self._decline_ask(offered, actor, now, note)
            if revision is None or self._answer(offered, Verb.DECLINE, actor, revision, now, note=note):
                return
        raise NotPossible(f"Ticket {offered.ticket_id} is being changed by others", [])

    def _decline_ask(self, offered: Offered, actor: str, now: int, note: str) -> int | None:
        """One of several says no. Of a ticket that is theirs already: its revision, for them to give it back."""
        with self.desk.database.begin() as connection:
            row, search = self._row(connection, offered.ticket_id), store.load(connection, offered.ticket_id)
            if row.technician_id == offered.person_id:
                return int(row.revision)
            asked = store.is_asked(connection, offered.ticket_id, offered.person_id)
            if search is None or search.phase is not Phase.SEEKING or not asked:
                raise NotPossible(f"Ticket {row.id} is not offered to this person now",
                                  allowed(cases.ticket_of(connection, row), now))  # fmt: skip
            store.decline(connection, row.id, search.round, offered.person_id, now)
            cases.note_step(connection, row, WOULD_NOT, actor, note, now, technician_id=offered.person_id)
            write_audit(connection, now, actor, "ticket_decline_ask", f"ticket:{row.id}",
                        {"asked": offered.person_id}, {"declined": offered.person_id})  # fmt: skip
            cases.note_change(connection, now, "ticket", row.device_id, row.id)
            self._save(connection, search)
        return None
