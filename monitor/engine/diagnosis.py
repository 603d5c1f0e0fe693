"""Remote diagnosis: machines are asked to test themselves, and what they answer is put on the ticket (R8).

Asking is a row, written in the transaction of what caused it. Whoever holds the MQTT session sends what is due, again
and again until it is answered or given up; a machine carries each `id` out once. A crash anywhere sends at least once
and records the answer once.
"""

from collections.abc import Callable, Sequence

import msgspec
import structlog
from sqlalchemy.engine import Connection

from monitor.desk.diagnosis import Policy, Why, kept, read, summary
from monitor.desk.tickets import SELF_TEST, Status
from monitor.devices import Device, FaultKind, topic
from monitor.readings import Reply
from monitor.store import cases, commands
from monitor.store.database import Database
from monitor.store.registry import write_audit

log = structlog.get_logger()

MACHINE = "self-test"
"""The actor of what a machine's own test did with a ticket."""
DESK = "desk"
NOTHING_TOLD, NO_ANSWER = "diagnose_failed", "no_answer"
"""Events of the steps by which a ticket tells that a machine could not test itself, or did not answer. One that did is
tickets.SELF_TEST."""
SENDS_A_TICK = 50
GIVEN_UP_A_TICK = 200

_encode = msgspec.json.Encoder().encode

Publish = Callable[[str, bytes], bool]
"""Hands a payload to the broker for a topic; True once the broker has it."""

Reckon = Callable[[Connection, int, str, int], None]
"""Reckons the clocks of a ticket anew, after a step of it was noted: (connection, ticket_id, actor, now)."""


class CannotAsk(Exception):
    """The machine cannot be asked; the message says why."""


# --- asking --------------------------------------------------------------------------------------------------------


def ask(connection: Connection, ticket_id: int, device_id: str | None, now: int) -> None:
    """Ask the machine of a ticket to test itself, in the transaction that opens the ticket or raises it.

    Nothing where it is being asked already, where it cannot be spoken to, and where its silence is what is wrong.
    """
    found = commands.machine(connection, device_id, ticket_id) if device_id is not None else None
    if device_id is None or found is None or not found.speaks or found.kind == FaultKind.SILENT:
        return
    # Where it is being asked for this ticket already, that question stands: the database keeps one.
    commands.insert(connection, device_id, found.generation, ticket_id, DESK, now)


def request(database: Database, device_id: str, ticket_id: int | None, actor: str, now: int) -> commands.Row:
    """Somebody asks a machine to test itself, for a ticket of it or without one. Answers the command; where one is
    under way already, that one.

    Raises CannotAsk.
    """
    with database.begin() as connection:
        found = commands.machine(connection, device_id, ticket_id)
        if found is None or not found.speaks:
            raise CannotAsk(f"{device_id} cannot be reached: it is retired, or its credentials were ended")
        if ticket_id is not None and (found.status is None or not Status(found.status).is_open):
            raise CannotAsk(f"Ticket {ticket_id} is not an open ticket of {device_id}")
        there = commands.under_way(connection, device_id, ticket_id)
        if there is not None:
            return there
        commands.insert(connection, device_id, found.generation, ticket_id, actor, now)
        asked = commands.under_way(connection, device_id, ticket_id)
        if asked is None:
            # Two asked at the same moment, and the machine has answered the other one already.
            raise CannotAsk(f"{device_id} has just been asked, and has answered")
        write_audit(connection, now, actor, "diagnose_asked", f"device:{device_id}",
                    after={"command": asked.id, "ticket_id": ticket_id})  # fmt: skip
        cases.note_change(connection, now, "command", device_id, ticket_id)
        return asked


# --- sending -------------------------------------------------------------------------------------------------------


def send_due(database: Database, publish: Publish, policy: Policy, now: int) -> int:
    """Send what is due; answers how much the broker took.

    It is noted after the broker has it: who crashes in between sends it once more. No transaction is open meanwhile.
    """
    with database.connect() as connection:
        waiting = commands.due(connection, now, SENDS_A_TICK)
    sent: dict[str, int] = {}
    refused = ""
    for row in waiting:
        # The same bytes each time, so that a copy is known for one.
        payload = _encode({"id": row.id, "at": row.asked_at, "command": row.command, "args": row.args})
        if not publish(f"{topic(row.device_id)}/command", payload):
            # Whoever comes after it would wait as long in vain.
            refused = row.id
            break
        sent[row.id] = now + policy.pause_ms(row.sends + 1)
    if sent or refused:
        with database.begin() as connection:
            commands.note_sent(connection, sent, now)
            if refused:
                commands.postpone(connection, refused, now + policy.pause_ms(1))
    return len(sent)


def give_up(database: Database, policy: Policy, now: int) -> int:
    """Stop asking who has not answered in time, or cannot any more, and say so on their tickets. Answers how many."""
    with database.connect() as connection:
        found = commands.hopeless(connection, now - policy.give_up_ms, GIVEN_UP_A_TICK)
    return sum(_give_up(database, row, Why(row.why), now) for row in found)


def _give_up(database: Database, row: commands.Row, why: Why, now: int) -> bool:
    with database.begin() as connection:
        if not commands.give_up(connection, row.id, why, now):
            return False
        log.warning("no_answer", device=row.device_id, ticket=row.ticket_id, why=why, sends=row.sends)
        ticket = _ticket(connection, row) if why is not Why.TICKET_ENDED else None
        if ticket is not None and Status(ticket.status).is_open:
            cases.note_step(connection, ticket, NO_ANSWER, MACHINE, why, now)
        cases.note_change(connection, now, "command", row.device_id, row.ticket_id)
    return True


# --- answers -------------------------------------------------------------------------------------------------------


def take_answers(
    connection: Connection, replies: Sequence[tuple[Device, int, Reply]], policy: Policy, reckon: Reckon, now: int
) -> None:
    """Put on their tickets what machines answered, in the transaction that stores the replies. An answer of another
    machine, to nothing that was asked, or for the second time changes nothing."""
    for device, received_at, reply in replies:
        result = kept(reply.result)
        row = commands.answer(connection, reply.id, device, received_at, reply.ok, result)
        if row is None:
            continue
        ticket = _ticket(connection, row)
        cases.note_change(connection, now, "command", device.device_id, ticket.id if ticket else None)
        if ticket is None or not Status(ticket.status).is_open:
            continue
        test = read(result, policy)
        # An answer that says nothing is none: nobody could advise anybody by it.
        given = reply.ok and not test.empty
        event = SELF_TEST if given else NOTHING_TOLD
        cases.note_step(connection, ticket, event, MACHINE, summary(test), now, happened_at=received_at)
        if given:
            reckon(connection, ticket.id, MACHINE, now)


def _ticket(connection: Connection, row: commands.Row) -> cases.Row | None:
    """The ticket that a command is for: of one that was merged, the one that it went into."""
    if row.ticket_id is None:
        return None
    ticket = cases.load_ticket(connection, row.ticket_id)
    for _ in range(commands.MERGES_FOLLOWED):
        if ticket is None or ticket.merged_into is None:
            break
        ticket = cases.load_ticket(connection, ticket.merged_into)
    if ticket is not None and ticket.id != row.ticket_id:
        commands.move(connection, row.id, ticket.id)
    return ticket
