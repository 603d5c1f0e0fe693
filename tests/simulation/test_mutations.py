"""The checkers see: the service, broken on purpose in one place, is caught by the invariant that it breaks."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from ingest.subscriber import Subscriber
from monitor.desk import commitments
from monitor.detect.bank import Bank
from monitor.detect.silence import Silence
from monitor.engine import bookkeeping
from monitor.engine import desk as desks
from monitor.engine.desk import Desk
from monitor.notify.outbox import Outbox
from monitor.sequence import Course, Verdict
from monitor.store import cases
from tests.simulation.invariants import Broken
from tests.simulation.world import GENTLE_EVERY, run

Break = Callable[[pytest.MonkeyPatch], None]


def acks_what_is_not_stored(patch: pytest.MonkeyPatch) -> None:
    """A batch that could not be stored is acknowledged all the same."""
    observed = Subscriber._observed
    patch.setattr(Subscriber, "_observed", lambda self, arrivals: observed(self, arrivals) or True)


def acks_on_another_connection(patch: pytest.MonkeyPatch) -> None:
    """An ack of the connection before is sent on the next one, where its packet id is another message's."""
    forget = Subscriber._forget_connection

    def forget_all_but_the_number(self: Subscriber) -> None:
        forget(self)
        self._generation = 0

    patch.setattr(Subscriber, "_forget_connection", forget_all_but_the_number)


def stores_what_it_has_seen(patch: pytest.MonkeyPatch) -> None:
    """A message that comes again is taken for a new one."""
    verdict = Course.verdict
    patch.setattr(Course, "verdict", lambda self, seq: Verdict.FILL if seq < self.next_seq else verdict(self, seq))


def opens_no_ticket_for_codes(patch: pytest.MonkeyPatch) -> None:
    """What a controller says is noted, and nobody hears of it."""
    ticket_for = Desk._ticket_for

    def forgetful(self: Desk, connection: Any, fault: Any, *rest: Any) -> int | None:
        return None if fault.kind == "fault_code" else ticket_for(self, connection, fault, *rest)

    patch.setattr(Desk, "_ticket_for", forgetful)


def leaves_faults_open_on_ended_tickets(patch: pytest.MonkeyPatch) -> None:
    """A ticket is closed or cancelled, and its faults stay open on it."""
    patch.setattr(cases, "end_faults", lambda *_: None)


def never_voids_a_clock(patch: pytest.MonkeyPatch) -> None:
    """What nothing is promised for any more runs on."""
    patch.setattr(desks, "reckon", lambda *known: replace(commitments.reckon(*known), voided_at=None))


def calls_a_promise_broken_early(patch: pytest.MonkeyPatch) -> None:
    """A breach is noted half an hour before it is due."""
    patch.setattr(desks, "crossings", lambda clock, now: commitments.crossings(clock, now + 30 * 60_000))


def sends_twice(patch: pytest.MonkeyPatch) -> None:
    """A letter that was taken is sent once more."""
    send = Outbox._send
    patch.setattr(Outbox, "_send", lambda *how: send(*how) or send(*how))


def keeps_no_books(patch: pytest.MonkeyPatch) -> None:
    """The ledger is not worked out when something changes."""
    patch.setattr(bookkeeping.Bookkeeping, "tick", lambda *_: None)


def forgets_what_detectors_knew(patch: pytest.MonkeyPatch) -> None:
    """After a death the detectors begin anew."""
    patch.setattr(Bank, "restore", lambda *_: {})


def gives_gaps_up_at_once(patch: pytest.MonkeyPatch) -> None:
    """Who is overtaken on the way is late."""
    verdict = Course.verdict
    patch.setattr(Course, "verdict", lambda *of: Verdict.TAKE if (found := verdict(*of)) is Verdict.PARK else found)


def never_takes_silence_back(patch: pytest.MonkeyPatch) -> None:
    """A machine that is heard again stays silent."""
    patch.setattr(Silence, "_clear", lambda *_: None)


class Mutation(NamedTuple):
    """`numbers`: the invariants that may catch it."""

    breaks: Break
    numbers: tuple[int, ...]
    gentle: bool = False


SEEDS = 8
"""So many worlds at most; docs/simulation.md says in which one each was caught."""
MUTATIONS = [
    Mutation(acks_what_is_not_stored, (1,)),
    Mutation(acks_on_another_connection, (1,)),
    Mutation(stores_what_it_has_seen, (1,)),
    Mutation(opens_no_ticket_for_codes, (2,)),
    Mutation(leaves_faults_open_on_ended_tickets, (2,)),
    Mutation(never_voids_a_clock, (3,)),
    Mutation(calls_a_promise_broken_early, (3,)),
    Mutation(sends_twice, (4,)),
    Mutation(keeps_no_books, (5,)),
    Mutation(forgets_what_detectors_knew, (6,), gentle=True),
    Mutation(gives_gaps_up_at_once, (6,), gentle=True),
    Mutation(never_takes_silence_back, (7,)),
]


def seeds(mutation: Mutation) -> Iterator[int]:
    every = GENTLE_EVERY if mutation.gentle else 1
    yield from range(every, SEEDS * every + 1, every)


def caught(mutation: Mutation) -> tuple[int, Broken]:
    """The number of worlds it took, and what was said."""
    for number, seed in enumerate(seeds(mutation), 1):
        try:
            run(seed)
        except Broken as broken:
            return number, broken
    pytest.fail(f"{mutation.breaks.__name__} was not seen in {SEEDS} worlds")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.breaks.__name__)
def test_what_is_broken_on_purpose_is_seen(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.breaks(monkeypatch)
    _, broken = caught(mutation)
    assert broken.number in mutation.numbers, str(broken)
    assert broken.where in str(broken)
