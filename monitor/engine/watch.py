"""The watch: takes in what machines say. Store, decide, save in one transaction; the caller acks after it returns."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog
from sqlalchemy.engine import Connection

from monitor.desk.diagnosis import shipped_policy
from monitor.detect import EVERY_KIND, Bank, Finding
from monitor.devices import Device, FaultKind, Profile
from monitor.engine import diagnosis
from monitor.engine.desk import Desk
from monitor.engine.intake import LATE_MS, CourseKey, Intake, Sorted, dead_letter
from monitor.readings import Arrival, Batch, Message
from monitor.sequence import Course, Stream
from monitor.store import ledger, registry, watching
from monitor.store.database import Database
from monitor.store.telemetry import Telemetry, TelemetryRefused
from monitor.store.watching import Progress

log = structlog.get_logger()

SNAPSHOT_EVERY_MS = 5_000
HELD_BACK_MS = 30_000
"""What comes later than that after it was said may have been missed meanwhile."""
LATE_APART_MS = 300_000
"""What came late and lies no further apart is one span of time in which the machine was heard after all."""
OWN_GAP_MS = 5_000
"""Not listening for longer than this is a gap of our own, which is no machine's fault."""
LONGEST_EXCUSE_MS = 3_600_000
"""After a gap of our own, messages up to this old still count as news; older ones belong to the past."""
BACKLOG_GRACE_MS = 600_000
"""So long after our own gap messages may still be late through us."""
PRUNE_EVERY_MS = 3_600_000
PRUNE_AFTER_REJECTED = 20_000
"""A flood of dead letters must not fill the disk until the hour is over."""


@dataclass(slots=True)
class Counters:
    """What the watch has done since it started, for /metrics."""

    accepted: int = 0
    late: int = 0
    redelivered: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    batches: int = 0
    findings: int = 0


@dataclass(slots=True)
class Attention:
    """Since when, and until when, the service has been listening without a gap. All epoch ms."""

    since: int
    until: int
    away_from: int | None = None
    gap_ms: int = OWN_GAP_MS
    late_ms: int = LATE_MS

    @property
    def away_ms(self) -> int:
        """How long the last gap of our own was."""
        return 0 if self.away_from is None else self.since - self.away_from

    def note(self, now: int) -> None:
        if now - self.until > self.gap_ms:
            self.away_from, self.since = self.until, now
        self.until = now

    def late_before(self, now: int) -> int:
        """What is older than this is late. Our own gap excuses the machines that spoke into it."""
        if self.away_from is not None and now < self.since + BACKLOG_GRACE_MS:
            return max(min(now, self.away_from), now - LONGEST_EXCUSE_MS) - self.late_ms
        return now - self.late_ms


class Watch:
    """Owner of the detectors of its machines. Thread-safe: observations and ticks take turns."""

    def __init__(
        self, database: Database, telemetry: Telemetry, desk: Desk, profiles: Mapping[str, Profile],
        *, retention_days: int, now: int, owner: str = "watch", own_gap_ms: int = OWN_GAP_MS,
        late_ms: int = LATE_MS,
    ) -> None:  # fmt: skip
        """`own_gap_ms`: not ticking for longer than this is a gap of our own; `late_ms`: what is older when it is taken
        in is late. Whoever ticks or takes in more seldom says so."""
        self.database = database
        self.telemetry = telemetry
        self.desk = desk
        self.profiles = profiles
        self.retention_ms = retention_days * 86_400_000
        self.owner = owner
        self.self_tests = shipped_policy()
        self.counters = Counters()
        self._lock = threading.RLock()
        self._stale = False
        self._attending = False
        self._prune_at = now + 60_000
        self._rejected = 0
        self._snapshot_at = now
        self._devices: dict[str, Device] = {}
        self._streams: dict[str, Stream] = {}
        self._parked_ids: set[str] = set()
        self._heard: set[str] = set()
        self._last_heard: dict[str, int] = {}
        self._live: dict[str, int] = {}
        self._version = -1
        self._unseeded: dict[str, frozenset[FaultKind]] = {}
        self.bank = Bank(profiles)
        with database.begin() as connection:
            self._progress = watching.take_over(connection, owner)
        attended_at = self._progress.attended_at
        self.attention = Attention(since=now, until=now, away_from=attended_at, gap_ms=own_gap_ms,
                                   late_ms=late_ms)  # fmt: skip
        self._recover(now)

    # --- what comes in ---

    def observe(self, arrivals: Sequence[Arrival], now: int) -> None:
        """Take arrivals in: when this returns, they are stored and decided, and may be acknowledged.

        Raises where a store is away (TelemetryUnavailable, sqlalchemy's OperationalError): then nothing has been
        taken, and the same arrivals may be given again.
        """
        with self._lock:
            self._ready(now)
            self._stale = True
            self._observe(arrivals, now)
            self._stale = False

    def tick(self, now: int, *, attending: bool) -> None:
        """What the passing of time brings: silence, start time-outs, gaps given up, snapshots.

        `attending` says whether the service is listening now; while it is not, nothing is concluded from silence.
        """
        with self._lock:
            self._ready(now)
            self._stale = True
            self._refresh(now)
            if attending:
                self.attention.note(now)
            self._attending = attending
            if any(stream.parked for stream in self._waiting()):
                self._observe([], now)
            findings = self.bank.tick(now, self.attention.since, self.attention.away_ms) if attending else []
            if findings or now >= self._snapshot_at:
                self._commit(Sorted(), [], findings, now, snapshot=True)
            self._stale = False
        self._prune(now)

    def _observe(self, arrivals: Sequence[Arrival], now: int) -> None:
        # Before each batch: what a replaced box says first must not be taken for its predecessor's.
        self._refresh(now)
        intake = Intake(
            self._devices, self._streams, self._older_course, now,
            late_before=self.attention.late_before(now), oldest=now - self.retention_ms,
        )  # fmt: skip
        found = intake.sort(arrivals)
        if self._attending:
            intake.expire(list(self._parked_ids), self.attention.since)
        self._check_seen(intake, found)
        if not (arrivals or found.unparked):
            return
        batch = self._store(found)
        findings = self._step(batch, found, now)
        # What comes in by no replay changes detectors all the same, so their state is saved with it.
        told = bool(found.statuses or found.replies or found.rejected)
        self._commit(found, found.taken, findings, now, snapshot=told)

    def _store(self, found: Sorted) -> Batch:
        """Store what is taken. What the store will never take is a dead letter, and no reason to stop."""
        batch = Batch.of(self._progress.last_batch + 1, found.taken)
        if not found.taken:
            return batch
        try:
            self.telemetry.store(batch)
        except TelemetryRefused as refusal:
            log.error("telemetry_refused", messages=len(batch), reason=str(refusal))
            found.rejected += [dead_letter(message, "store_refused", str(refusal)) for message in found.taken]
            found.taken.clear()
            return Batch.of(batch.number, [])
        return batch

    def _step(self, batch: Batch, found: Sorted, now: int) -> list[Finding]:
        findings = self.bank.step(batch) if len(batch) else []
        known = {arrival.device_id for arrival in found.rejected if arrival.device_id in self._devices}
        known.update(device.device_id for device, _, _ in found.replies)
        if known:
            self.bank.alive(sorted(known), now)
        for device_id, at, received_at in found.ahead:
            findings += self.bank.clock_ahead(device_id, at, received_at)
        for device, received_at, status in found.statuses:
            findings += self.bank.status(device.device_id, status, received_at)
        return findings

    def _commit(
        self, found: Sorted, taken: Sequence[Message], findings: Sequence[Finding], now: int, *, snapshot: bool
    ) -> None:
        progress = Progress(self._progress.last_batch + bool(taken), self._progress.epoch, self.attention.until)
        self._last_heard |= {message.device_id: message.received_at for message in taken}
        self._last_heard |= {device.device_id: at for device, at, _ in found.statuses}
        # What waited in the broker while we were away is news, and no sign that its machine still sends.
        self._live |= {
            one.device_id: one.received_at for one in taken if one.received_at - one.body.at <= self.attention.late_ms
        }
        snapshot = snapshot or bool(findings) or now >= self._snapshot_at
        # Who is heard for the first time is saved at once, everybody else with the next snapshot.
        heard = {
            device_id: at for device_id, at in self._last_heard.items() if snapshot or device_id not in self._heard
        }
        with self.database.begin() as connection:
            watching.save_progress(connection, self.owner, progress)
            watching.save_courses(connection, found.courses)
            watching.save_parked(connection, found.parked.values(), found.unparked)
            watching.save_rejected(connection, found.rejected)
            watching.save_statuses(connection, found.statuses)
            watching.save_replies(connection, found.replies)
            watching.save_heard(connection, heard, self._live)
            watching.drop_released(connection, found.released)
            watching.drop_serviced(connection, found.serviced)
            self.desk.forget(connection, found.unseeded, now)
            self.desk.record(connection, findings, now)
            for device_id, from_at, to_at in _late_spans(taken):
                ledger.note_heard_late(connection, device_id, from_at, to_at, LATE_APART_MS, now)
            diagnosis.take_answers(connection, found.replies, self.self_tests, self.desk.reckon_clocks, now)
            if snapshot:
                watching.save_snapshots(connection, progress.last_batch, self.bank.snapshot())
        if snapshot:
            self._snapshot_at = now + SNAPSHOT_EVERY_MS
        self._progress = progress
        self._note(found, taken, findings, heard)

    def _note(
        self, found: Sorted, taken: Sequence[Message], findings: Sequence[Finding], heard: Mapping[str, int]
    ) -> None:
        """After the commit: what is parked now, who has been heard, and the counters."""
        for name in found.parked:
            self._parked_ids.add(name[0])
        self._parked_ids = {device_id for device_id in self._parked_ids if self._streams[device_id].parked}
        self._heard.update(heard)
        self._last_heard = {device_id: at for device_id, at in self._last_heard.items() if device_id not in heard}
        self._live = {device_id: at for device_id, at in self._live.items() if device_id not in heard}
        counters = self.counters
        counters.batches += bool(taken)
        counters.accepted += len(taken)
        counters.late += sum(message.late for message in taken)
        counters.findings += len(findings)
        self._rejected += len(found.rejected)
        for _, _, body in found.rejected:
            reason = body.reason  # type: ignore[union-attr]
            counters.rejected[reason] = counters.rejected.get(reason, 0) + 1

    def _check_seen(self, intake: Intake, found: Sorted) -> None:
        """Tell a redelivery (nothing happens) from a name used twice (rejected)."""
        if not found.seen:
            return
        stored = {message.name: message for message in found.taken}
        asked = [m for m in found.seen if m.name not in stored]
        in_store = self.telemetry.find([(*m.name, m.body.at) for m in asked])
        stored |= {name[:4]: message for name, message in in_store.items()}
        for message in found.seen:
            first = stored.get(message.name)
            if first is not None and first.body == message.body:
                self.counters.redelivered += 1
            elif first is not None or (intake.in_time(message) and not self._is_dead_letter(message)):
                intake.reject_reused(message)

    def _is_dead_letter(self, message: Message) -> bool:
        # What was rejected (a clock ahead, say) has used its name up, and may come again before it was acknowledged.
        _, _, letter = dead_letter(message, "", "")
        with self.database.connect() as connection:
            return watching.is_dead_letter(connection, message.device_id, letter.payload)  # type: ignore[union-attr]

    # --- what it knows ---

    def _ready(self, now: int) -> None:
        if self._stale:
            log.warning("watch_recovers", last_batch=self._progress.last_batch)
            with self.database.connect() as connection:
                self._check_owner(connection)
            self._recover(now)

    def _check_owner(self, connection: Connection) -> None:
        last_batch = watching.last_batch(connection, self.owner, self._progress.epoch)
        self._progress = self._progress._replace(last_batch=last_batch)

    def _recover(self, now: int) -> None:
        """Stand exactly where the last commit was: snapshots, and the telemetry stored since."""
        self.telemetry.forget_after(self._progress.last_batch)
        with self.database.connect() as connection:
            self._devices = {device.device_id: device for device in registry.devices(connection)}
            self._streams = watching.load_streams(connection, self._devices)
            self._heard = watching.first_heard(connection)
            generations = watching.heard_generations(connection)
            snapshot_batch, states = watching.load_snapshots(connection)
        self._parked_ids = {device_id for device_id, stream in self._streams.items() if stream.parked}
        self.bank = Bank(self.profiles)
        self.bank.place(_as_heard(device, generations) for device in self._devices.values())
        fresh = self.bank.restore({device_id: states[device_id] for device_id in states if device_id in self._devices})
        if fresh:
            log.warning("detectors_start_fresh", devices=len(fresh), reason="snapshot of another version")
        replayed = 0
        for batch in self.telemetry.replay(snapshot_batch):
            self.bank.step(batch)
            replayed += 1
        self._unseeded = dict.fromkeys(self._devices.keys() - states.keys(), EVERY_KIND) | fresh
        # What operators and the desk changed since is followed before anything else: a box that was replaced while
        # we were away and has not been heard yet begins anew only then.
        self._version = -1
        self._snapshot_at = now
        self._stale = False
        log.info("watch_ready", devices=len(self._devices), last_batch=self._progress.last_batch, replayed=replayed)

    def _refresh(self, now: int) -> None:
        """Follow what operators changed, let go of faults that the desk ended, learn repaired machines anew."""
        with self.database.connect() as connection:
            version = registry.version(connection)
            if version == self._version:
                return
            devices = {device.device_id: device for device in registry.devices(connection)}
            released, serviced = watching.load_released(connection), watching.load_serviced(connection)
        self.bank.remove(self._devices.keys() - devices.keys())
        self.bank.place(devices.values())
        for ended in released:
            self.bank.release(ended.device_id, FaultKind(ended.kind), ended.subject)
        for repaired in serviced:
            self.bank.serviced(repaired.device_id)
        unseeded = self._unseeded | dict.fromkeys(devices.keys() - self._devices.keys(), EVERY_KIND)
        # Streams of machines that are gone stay: what is parked of them was acknowledged, and is still taken in.
        self._devices, self._version = devices, version
        # All this changes detectors, and no replay does it again: saved before anything more is taken in.
        found = Sorted(
            released=released[-1].id if released else 0, serviced=serviced[-1].id if serviced else 0, unseeded=unseeded
        )  # fmt: skip
        self._commit(found, [], [], now, snapshot=True)
        self._unseeded = {}

    def _waiting(self) -> list[Stream]:
        return [self._streams[device_id] for device_id in self._parked_ids]

    def _older_course(self, key: CourseKey) -> Course:
        with self.database.connect() as connection:
            return watching.load_course(connection, *key)

    def _prune(self, now: int) -> None:
        if now < self._prune_at and self._rejected < PRUNE_AFTER_REJECTED:
            return
        self._rejected = 0
        self._prune_at = now + PRUNE_EVERY_MS
        with self.database.begin() as connection:
            watching.prune(connection, now)
        expired = self.telemetry.expire(now - self.retention_ms)
        if expired:
            log.info("telemetry_expired", messages=expired)


def _late_spans(taken: Sequence[Message]) -> list[tuple[str, int, int]]:
    """(device, from, to) of what came well after it was said."""
    late = sorted((one.device_id, one.body.at) for one in taken if one.received_at - one.body.at > HELD_BACK_MS)
    spans: list[tuple[str, int, int]] = []
    for device_id, at in late:
        if spans and spans[-1][0] == device_id and at - spans[-1][2] <= LATE_APART_MS:
            spans[-1] = (device_id, spans[-1][1], at)
        else:
            spans.append((device_id, at, at))
    return spans


def _as_heard(device: Device, generations: Mapping[str, int]) -> Device:
    """A machine as its detectors last knew it: of the generation that was last heard."""
    return msgspec.structs.replace(device, generation=generations.get(device.device_id, device.generation))
