"""The outbox: takes queued notices (`schema.notice`) out to their channels, backs off, and gives up visibly.

Several processes may deliver from one database. A row is claimed by one conditional UPDATE, so none goes out twice,
but for one case: who dies between sending and marking leaves a claim that runs out, and that one notice is sent
again under the same Message-ID and cause.

A row may carry others (`gathered_in`): its words are theirs, put together when it goes out, so that what was withdrawn
meanwhile is not told; they share its fate.
"""

import random
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from monitor.desk import notices
from monitor.devices import Severity
from monitor.notify.channels import Channel
from monitor.notify.message import Message, NotNow, Refused, Undelivered, Unreachable
from monitor.store import notices as store
from monitor.store.access import LINK_MINUTES
from monitor.store.database import Database
from monitor.store.schema import notice

MAX_TRIES = 8
# 15 s, 45 s, 2 min, 7 min, 20 min, 1 h, 1 h: two and a half hours until the last try.
FIRST_WAIT_MS = 15_000
WAIT_FACTOR = 3
LONGEST_WAIT_MS = 3_600_000
# After so many, within a minute or so, an emergency looks for another way.
HASTE_TRIES = 3
# A round takes no new row after ROUND_S, so a claim outlasts the round and one send at its slowest.
ROUND_S = 30.0
CLAIM_MS = 300_000
ERROR_CHARS = 300
HOPELESS_A_ROUND = 200

log = structlog.get_logger()


class Delivered(NamedTuple):
    """What a round did, by number of notices."""

    sent: int = 0
    retried: int = 0
    failed: int = 0


class Backlog(NamedTuple):
    """How the outbox stands. `overdue_ms`: for how long the oldest due notice has waited."""

    queued: int
    failed: int
    overdue_ms: int


@dataclass(frozen=True, slots=True)
class Setback:
    """What follows from a try that failed."""

    gives_up: bool
    next_try_at: int
    error: str


def wait_ms(tries: int, jitter: float) -> int:
    """The wait after so many tries (from 1): exponential, bounded, and spread by `jitter` in [0, 1) over its upper
    half, so that a crowd that failed together does not come back together."""
    whole: int = min(FIRST_WAIT_MS * WAIT_FACTOR ** min(tries - 1, MAX_TRIES), LONGEST_WAIT_MS)
    return round(whole * (0.5 + 0.5 * jitter))


def setback(tries: int, error: Undelivered, now: int, jitter: float) -> Setback:
    """Whether a notice is tried again after its `tries`-th try failed, and when."""
    gives_up = isinstance(error, Refused) or tries >= MAX_TRIES
    return Setback(gives_up, now + wait_ms(tries, jitter), " ".join(str(error).split())[:ERROR_CHARS])


class GivenUp(Protocol):
    """Told of every notice that is given up, in the transaction that gives it up: what follows from it. Also (not
    `final`) of each that has failed a few times and will be tried again: an emergency may have another way."""

    def __call__(
        self, connection: Connection, notice_id: int, error: Undelivered, now: int, *, final: bool
    ) -> None: ...


def _nothing(connection: Connection, notice_id: int, error: Undelivered, now: int, *, final: bool) -> None:
    """Nothing follows."""


class _Claimed(NamedTuple):
    message: Message
    tries: int
    until: int
    carried: tuple[int, ...] = ()
    """The notices that the message carries."""


class Outbox:
    """Delivers from one database through the channels, by the name a notice is queued for."""

    def __init__(
        self,
        database: Database,
        channels: Mapping[str, Channel],
        rng: random.Random | None = None,
        stopping: Callable[[], bool] = lambda: False,
        given_up: GivenUp = _nothing,
        in_turn: bool = False,
    ) -> None:
        """`stopping`: asked before every send; once it is true, a round begins no other and ends. `in_turn`: one
        channel after the other in the caller's thread, so that the same rows always go out in the same order."""
        self._given_up = given_up
        self._database = database
        self._channels = channels
        self._rng = rng or random.Random()  # noqa: S311 (spreads retries, guards nothing)
        self._stopping = stopping
        self._in_turn = in_turn

    def deliver_due(self, now: int, limit: int = 200) -> Delivered:
        """Send what is due at `now` (epoch ms), at most `limit` a channel. Blocks: call it off the event loop.

        Channels work side by side, so a slow webhook delays no e-mail.
        """
        orphaned = self._give_up_hopeless(now)
        self._withdraw_stale(now)
        rounds = self._side_by_side(lambda name: self._deliver(name, now, limit))
        return Delivered(*map(sum, zip(Delivered(failed=orphaned), *rounds, strict=True)))

    def _side_by_side(self, deliver: Callable[[str], Delivered]) -> list[Delivered]:
        if self._in_turn:
            return list(map(deliver, self._channels))
        with ThreadPoolExecutor(len(self._channels) or 1, "notices") as threads:
            return list(threads.map(deliver, self._channels))

    def backlog(self, now: int) -> Backlog:
        """Counts for /metrics and the operators' page."""
        queued = notice.c.status == "queued"
        query = sa.select(
            sa.func.count().filter(queued),
            sa.func.count().filter(notice.c.status == "failed"),
            sa.func.min(notice.c.next_try_at).filter(queued),
        )
        with self._database.connect() as connection:
            waiting, failed, oldest = connection.execute(query.where(notice.c.gathered_in.is_(None))).one()
        return Backlog(waiting, failed, max(0, now - oldest) if oldest is not None else 0)

    def _deliver(self, channel: str, now: int, limit: int) -> Delivered:
        done = {"sent": 0, "retried": 0, "failed": 0}
        ends = time.monotonic() + ROUND_S
        for notice_id in self._due(channel, now, limit):
            if self._stopping():
                break
            claimed = self._claim(notice_id, now)
            if claimed is None:
                continue
            error = self._send(self._channels[channel], claimed.message, now)
            done[self._mark(claimed, channel, error, now)] += 1
            if isinstance(error, Unreachable) or time.monotonic() > ends:
                break
        return Delivered(**done)

    def _send(self, channel: Channel, message: Message, now: int) -> Undelivered | None:
        try:
            channel.send(message, now)
        except Undelivered as error:
            return error
        except Exception as error:  # noqa: BLE001
            # The loop's edge: one bad notice must not stop the others. The error's own text may hold an address.
            place = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
            log.error("notice_send_broke", notice=message.notice_id, what=what)
            return NotNow(what)
        return None

    # --- rows ---

    def _due(self, channel: str, now: int, limit: int) -> list[int]:
        query = (
            sa.select(notice.c.id)
            .where(_free(now), notice.c.channel == channel, notice.c.next_try_at <= now)
            .order_by(notice.c.next_try_at, notice.c.id)
            .limit(limit)
        )
        with self._database.connect() as connection:
            return list(connection.scalars(query))

    def _claim(self, notice_id: int, now: int) -> _Claimed | None:
        """Make a row ours until the claim runs out. The try counts from here on: a notice that kills its sender
        would otherwise be tried for ever."""
        until = now + CLAIM_MS
        claim = (
            sa.update(notice)
            .where(notice.c.id == notice_id, _free(now), notice.c.next_try_at <= now, notice.c.tries < MAX_TRIES)
            .values(claimed_until=until, tries=notice.c.tries + 1)
        )
        with self._database.begin() as connection:
            if connection.execute(claim).rowcount != 1:
                return None
            row = connection.execute(sa.select(notice).where(notice.c.id == notice_id)).one()
            if row.kind != notices.Kind.DIGEST:
                return _Claimed(_message(row), row.tries, until)
            load = self._load(connection, notice_id)
            if not load:
                # All that it was to tell has been withdrawn, or went another way.
                empty = sa.update(notice).where(notice.c.id == notice_id)
                connection.execute(empty.values(status="withdrawn", claimed_until=None))
                return None
        return _Claimed(_gathered(row, load), row.tries, until, tuple(one.id for one in load))

    def _load(self, connection: Connection, notice_id: int) -> list[sa.Row[*tuple[Any, ...]]]:
        query = sa.select(notice).where(notice.c.gathered_in == notice_id, notice.c.status == "queued")
        order = list(Severity)
        return sorted(connection.execute(query), key=lambda row: (order.index(Severity(row.severity)), row.id))

    def _mark(self, claimed: _Claimed, channel: str, error: Undelivered | None, now: int) -> str:
        ours = sa.update(notice).where(
            notice.c.id == claimed.message.notice_id, notice.c.claimed_until == claimed.until
        )
        if error is None:
            # Withdrawn while it was on its way, it was sent all the same, and the row says so.
            told = ours.values(
                status="sent", sent_at=now, claimed_until=None, last_error="", channel=self._channels[channel].name
            )
        else:
            after = setback(claimed.tries, error, now, self._rng.random())
            told = ours.where(notice.c.status == "queued").values(
                status="failed" if after.gives_up else "queued",
                next_try_at=after.next_try_at,
                claimed_until=None,
                last_error=after.error,
            )
        with self._database.begin() as connection:
            ours_still = connection.execute(told).rowcount == 1
            store.forget_secrets(connection, claimed.message.notice_id)
            self._mark_carried(connection, claimed, channel, error, now)
            if error is not None and ours_still and (after.gives_up or claimed.tries == HASTE_TRIES):
                self._given_up(connection, claimed.message.notice_id, error, now, final=after.gives_up)
        return _report(claimed, error)

    def _mark_carried(
        self, connection: Connection, claimed: _Claimed, channel: str, error: Undelivered | None, now: int
    ) -> None:
        if not claimed.carried:
            return
        theirs = sa.update(notice).where(
            notice.c.id.in_(claimed.carried), notice.c.gathered_in == claimed.message.notice_id
        )
        if error is None:
            name = self._channels[channel].name
            connection.execute(theirs.values(status="sent", sent_at=now, last_error="", channel=name))
        elif _is_last(claimed, error):
            connection.execute(theirs.where(notice.c.status == "queued").values(status="failed"))

    def _withdraw_stale(self, now: int) -> None:
        """A link that signs in is sent no more, and not kept, once it has expired."""
        since = now - LINK_MINUTES * 60_000
        with self._database.connect() as connection:
            if not store.stale_secrets(connection, since, now):
                return
        with self._database.begin() as connection:
            number = store.withdraw_stale_secrets(connection, since, now)
        log.warning("sign_in_links_not_sent", number=number)

    def _give_up_hopeless(self, now: int) -> int:
        """Fail what no round would ever take: channels that are not there any more, and notices whose senders died
        at the last try."""
        lost = notice.c.tries >= MAX_TRIES
        nowhere = notice.c.channel.not_in(list(self._channels))
        hopeless = _free(now), sa.or_(lost, nowhere)
        with self._database.connect() as connection:
            ids = list(connection.scalars(sa.select(notice.c.id).where(*hopeless).limit(HOPELESS_A_ROUND)))
        given_up = sum(self._give_up(notice_id, hopeless, now) for notice_id in ids)
        if given_up:
            log.error("notices_given_up", number=given_up)
        return given_up

    def _give_up(self, notice_id: int, hopeless: tuple[sa.ColumnElement[bool], ...], now: int) -> int:
        with self._database.begin() as connection:
            row = connection.execute(sa.select(notice).where(notice.c.id == notice_id, *hopeless)).first()
            if row is None:
                return 0
            why = "the sender died at the last try" if row.tries >= MAX_TRIES else "there is no such channel"
            failed = sa.update(notice).where(
                sa.or_(notice.c.id == notice_id, notice.c.gathered_in == notice_id), notice.c.status == "queued"
            )
            connection.execute(failed.values(status="failed", claimed_until=None, last_error=why))
            store.forget_secrets(connection, notice_id)
            self._given_up(connection, notice_id, Refused(why), now, final=True)
        return 1


def _free(now: int) -> sa.ColumnElement[bool]:
    return sa.and_(
        notice.c.status == "queued",
        notice.c.gathered_in.is_(None),
        sa.or_(notice.c.claimed_until.is_(None), notice.c.claimed_until <= now),
    )


def _message(row: sa.Row[*tuple[Any, ...]]) -> Message:
    return Message(
        row.id, row.cause, row.kind, row.ticket_id, row.recipient, row.lang, row.subject, row.body, row.queued_at,
        row.html, row.link,
    )  # fmt: skip


def _gathered(row: sa.Row[*tuple[Any, ...]], load: Sequence[sa.Row[*tuple[Any, ...]]]) -> Message:
    """What a row carries, as one message under its own cause; a single notice goes as it is."""
    text = notices.gather(row.lang, [notices.Text(one.subject, one.body, one.html, one.link) for one in load])
    alone = load[0] if len(load) == 1 else row
    return Message(
        row.id, row.cause, alone.kind, alone.ticket_id, row.recipient, row.lang, text.subject, text.body,
        row.queued_at, text.html, text.link or row.link,
    )  # fmt: skip


def _is_last(claimed: _Claimed, error: Undelivered) -> bool:
    return isinstance(error, Refused) or claimed.tries >= MAX_TRIES


def _report(claimed: _Claimed, error: Undelivered | None) -> str:
    """Log a try by the notice's id alone: neither address nor text belongs into a log."""
    if error is None:
        return "sent"
    fate = "failed" if _is_last(claimed, error) else "retried"
    log.warning("notice_undelivered", notice=claimed.message.notice_id, fate=fate, reason=type(error).__name__)
    return fate
