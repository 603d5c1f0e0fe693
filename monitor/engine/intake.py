"""Sorting arrivals: what is new, what waits, what was seen before, what breaks the contract. No input or output but
the look at an older boot's course, which is rare."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from monitor.devices import Device, FaultKind
from monitor.readings import Arrival, Event, Message, Reading, Rejected, Reply, Status
from monitor.sequence import Course, Stream, Verdict

AHEAD_MS = 5 * 60 * 1000
"""A device clock may run ahead of ours by this much (wire contract)."""
LATE_MS = 5 * 60 * 1000
"""What is older than this belongs to the past: it amends the history and pages nobody."""

_encode = msgspec.json.Encoder().encode

CourseKey = tuple[str, int, int]
"""(device_id, generation, boot)"""


@dataclass(slots=True)
class Sorted:
    """One observation's arrivals, sorted. Lists keep the order in which they are to be taken."""

    taken: list[Message] = field(default_factory=list)
    parked: dict[tuple[str, int, int, int], Message] = field(default_factory=dict)
    unparked: list[tuple[str, int, int, int]] = field(default_factory=list)
    seen: list[Message] = field(default_factory=list)
    rejected: list[Arrival] = field(default_factory=list)
    statuses: list[tuple[Device, int, Status]] = field(default_factory=list)
    replies: list[tuple[Device, int, Reply]] = field(default_factory=list)
    ahead: list[tuple[str, int, int]] = field(default_factory=list)
    """(device_id, at, received_at) of what came from the future."""
    released: int = 0
    """Faults that the desk ended, up to this row, are let go of with this commit."""
    serviced: int = 0
    """Machines that were repaired, up to this row, are learnt anew from this commit on."""
    unseeded: dict[str, frozenset[FaultKind]] = field(default_factory=dict)
    """Machines of which detectors of these kinds begin without memory: what they had found is no longer theirs."""
    courses: dict[CourseKey, Course] = field(default_factory=dict)
    """The courses that changed, to be saved."""


@dataclass(slots=True)
class Intake:
    """Sorts one observation. It changes `streams` in place: if the commit fails, they must be loaded again."""

    devices: Mapping[str, Device]
    streams: dict[str, Stream]
    older_course: Callable[[CourseKey], Course]
    now: int
    late_before: int
    oldest: int
    """Older than this is past the retention and rejected."""
    out: Sorted = field(default_factory=Sorted)

    def sort(self, arrivals: Iterable[Arrival]) -> Sorted:
        for arrival in arrivals:
            self._sort(arrival)
        return self.out

    def expire(self, device_ids: Iterable[str], attended_since: int = 0) -> None:
        """Let go on what was parked behind a gap whose wait is over."""
        for device_id in device_ids:
            stream = self.streams[device_id]
            self._unpark(stream.expire(self.now, attended_since), stream.course)

    def _sort(self, arrival: Arrival) -> None:
        device_id, received_at, body = arrival
        device = self.devices.get(device_id)
        if isinstance(body, Rejected):
            self.out.rejected.append(arrival)
        elif device is None:
            why = f"device {device_id} is not known here, or its access has ended"
            self.out.rejected.append(dead_letter(arrival, "unknown_device", why))
        elif body.at > received_at + AHEAD_MS and not isinstance(body, Reading | Event):
            self.out.rejected.append(dead_letter(arrival, "clock_ahead", _ahead(body.at, received_at)))
            self.out.ahead.append((device_id, body.at, received_at))
        elif isinstance(body, Reading | Event):
            generation = device.generation - self._is_of_the_box_before(device, received_at, body)
            self._place(Message(device_id, generation, received_at, body.at < self.late_before, body))
        elif isinstance(body, Status):
            self.out.statuses.append((device, received_at, body))
        else:
            self.out.replies.append((device, received_at, body))

    def _reject(self, message: Message, reason: str, detail: str) -> None:
        self.out.rejected.append(dead_letter(message, reason, detail))

    def _place(self, message: Message) -> None:
        device_id, generation, _, _, body = message
        stream = self.streams.get(device_id)
        if stream is None or stream.generation < generation:
            stream = self._new_generation(stream, message)
        if generation < self.devices[device_id].generation:
            self._place_older(message)
            return
        if body.boot > stream.boot:
            course = stream.course
            self._unpark(stream.begin(body.boot), course)
        if body.boot < stream.boot:
            self._place_older(message)
            return
        course = stream.course
        verdict = course.verdict(body.seq)
        if verdict is Verdict.TAKE:
            course.take(body.seq)
            self._accept(message, course)
            if stream.parked:
                self._unpark(stream.follow(), course)
        elif verdict is Verdict.PARK:
            self._park(stream, message)
        elif verdict is Verdict.FILL:
            course.fill(body.seq)
            self._accept(message._replace(late=True), course)
        else:
            self.out.seen.append(message)

    def _new_generation(self, old: Stream | None, message: Message) -> Stream:
        if old is not None:
            course = old.course
            self._unpark(old.begin(old.boot), course)
        stream = self.streams[message.device_id] = Stream(message.generation, boot_before=old.boot if old else -1)
        return stream

    def _is_of_the_box_before(self, device: Device, received_at: int, body: Reading | Event) -> bool:
        """Whether the replaced box said this: before it was replaced, or queued in the broker when it was."""
        if received_at < device.renewed_at:
            return device.generation > 0
        stream = self.streams.get(device.device_id)
        if stream is None or body.at >= device.renewed_at:
            return False
        return body.boot == (stream.boot if stream.generation < device.generation else stream.boot_before)

    def _park(self, stream: Stream, message: Message) -> None:
        already = stream.parked.get(message.body.seq)
        if already is None:
            self.out.parked[message.name] = message
            self._unpark(stream.park(message, self.now), stream.course)
        elif already.body != message.body:
            self.reject_reused(message)

    def _unpark(self, messages: list[Message], course: Course) -> None:
        for message in messages:
            if self.out.parked.pop(message.name, None) is None:
                self.out.unparked.append(message.name)
            self._accept(message, course)

    def _place_older(self, message: Message) -> None:
        """A message of a boot that a newer one has overtaken belongs to the past."""
        key = message.name[:3]
        course = self.out.courses.get(key) or self.older_course(key)
        seq = message.body.seq
        verdict = course.verdict(seq)
        if verdict is Verdict.SEEN:
            self.out.seen.append(message)
            return
        if verdict is Verdict.FILL:
            course.fill(seq)
        else:
            course.take(seq)
        self._accept(message._replace(late=True), course)

    def _accept(self, message: Message, course: Course) -> None:
        self.out.courses[message.name[:3]] = course
        at = message.body.at
        if at > message.received_at + AHEAD_MS:
            self.out.ahead.append((message.device_id, at, message.received_at))
            self._reject(message, "clock_ahead", _ahead(at, message.received_at))
        elif at < self.oldest:
            self._reject(message, "too_old", f"at = {at} is older than what is kept (since {self.oldest})")
        else:
            self.out.taken.append(message)

    def in_time(self, message: Message) -> bool:
        """Whether a message of this time could have been taken at all."""
        return self.oldest <= message.body.at <= message.received_at + AHEAD_MS

    def reject_reused(self, message: Message) -> None:
        """The same name with other content: the device has counted `boot` or `seq` twice."""
        boot, seq = message.body.boot, message.body.seq
        why = f"boot {boot}, seq {seq} was taken before with other content; boot must grow with each start"
        self._reject(message, "boot_reused", why)


def _ahead(at: int, received_at: int) -> str:
    return f"at = {at} lies more than 5 min ahead of the server's clock ({received_at})"


def dead_letter(of: Arrival | Message, reason: str, detail: str) -> Arrival:
    """What was understood but cannot be taken, with the words for why."""
    kind = type(of.body).__name__.lower()
    return Arrival(of.device_id, of.received_at, Rejected(reason, detail, f"{of.device_id}/{kind}", _encode(of.body)))
