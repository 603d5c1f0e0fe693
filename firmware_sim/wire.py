"""The box on a machine: it turns what the machine does into the messages of the wire contract.

`Box` counts `boot` and `seq`, stamps messages with its own (perhaps wrong) clock, keeps a backlog while its radio is
out, and answers commands. It knows no MQTT: simulate.py lives it in virtual time, fleet.py in real time.
"""

import math
from collections import deque
from dataclasses import dataclass
from itertools import groupby
from random import Random
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from firmware_sim.device import (
    Duty,
    Events,
    Machine,
    Model,
    asleep,
    halt,
    longest_step_s,
    repair,
    request_start,
    settle,
    step,
    switch_off,
)
from firmware_sim.failures import HEALTHY, REPAIRED, Ailments, Injection, ailments
from firmware_sim.models import MODELS, individual
from firmware_sim.sensors import Floats, Run, Sensors

BACKLOG_LIMIT = 20_000
"""Messages a box remembers while its radio is out; the oldest go first. Ten seconds apart: over two days."""
ARRAY_LIMIT = 250
"""Readings in one array payload: about 80 KB, far below the contract's 200 KB."""
COMMAND_LIMIT = 4096

Suffix = Literal["telemetry", "event", "status", "reply"]
Dark = Literal["", "sleeping", "transport", "powered_off"]
Ints = npt.NDArray[np.int64]


class Message(NamedTuple):
    """One message as the box hands it to its radio. `at` is true time, whatever the box's clock says."""

    at: int
    suffix: Suffix
    payload: bytes
    retain: bool = False


class Command(msgspec.Struct, frozen=True):
    """What the service asks of a machine."""

    id: str
    at: int
    command: str
    args: dict[str, Any] = {}


_encode = msgspec.json.encode
_command = msgspec.json.Decoder(Command)


class Happened(NamedTuple):
    """An event as the controller notes it. `at` is true time, `clock_at` the box's own."""

    at: int
    clock_at: int
    boot: int
    seq: int
    event: str
    detail: dict[str, str | int | float]
    hurt: Ailments


@dataclass(frozen=True, slots=True)
class Readings:
    """Consecutive readings over which the radio does the same. `at` is true time, `clock_at` the box's own."""

    at: Ints
    clock_at: Ints
    boot: int
    seq: int
    """Of the first row; the others count on."""
    modes: list[str]
    values: Floats
    """(rows, sensors), in the order of `Box.names`."""
    hurt: Ailments

    def __len__(self) -> int:
        return len(self.at)


class _Span(NamedTuple):
    """One step of the machine with the readings that fell due in it."""

    from_at: int
    to_at: int
    first_at: int
    due: int
    mode: str
    """Up to `to_at`; a reading on that very moment shows `last_mode`."""
    last_mode: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    seq: int
    boot: int
    hurt: Ailments


class Box:
    """Controller and radio of one machine. The same arguments and calls give the same bytes."""

    def __init__(
        self, device_id: str, model: Model, machine: Machine, seed: int | str, *, report_s: float, boot: int,
        spread: float = 1.0,
    ) -> None:  # fmt: skip
        self.device_id = device_id
        self.model = model
        self.machine = machine
        self.boot = boot
        self.dark: Dark = ""
        """Why it is switched off, after a goodbye; '' while it is on."""
        self.injections: list[Injection] = []
        self.asked: dict[Injection, int] = {}
        """When the key was last turned under each failure, up to its breakdown."""
        self.broke: dict[Injection, int] = {}
        """When each failure first stopped the machine, kept it from starting, or did it damage."""
        # Two sources of chance, so that what a bad radio does leaves the machine's own course as it was.
        self.nature = Random(f"{seed}/{device_id}/nature")
        self._ether = Random(f"{seed}/{device_id}/ether")
        self._report_ms = round(report_s * 1000)
        self._report_at = machine.at + self._ether.randrange(self._report_ms)
        self._booted_at = machine.at
        self._seq = 0
        self.names = tuple(model.show(machine))
        self._sensors = Sensors(model, self.names, f"{seed}/{device_id}", spread)
        self._spans: list[_Span] = []
        self._moved_c = 0.0
        self._dead = False
        self._backlog: deque[tuple[Suffix, bytes]] = deque(maxlen=BACKLOG_LIMIT)
        self._overtaken: tuple[Suffix, bytes] | None = None

    @classmethod
    def fresh(
        cls, device_id: str, profile: str, seed: int | str, start_at: int, *, report_s: float = 10.0, boot: int = 1,
        duty: Duty = "day", climate_c: float = 15.0, fixed_load: float | None = None, spread: float = 1.0,
    ) -> "Box":  # fmt: skip
        """A box on a new machine of this profile; its make, its tank, its hours and its first plans follow from the
        seed. `spread`: how much it differs from others of its model, and its sensors from the truth (0: not at all)."""
        model = individual(MODELS[profile], Random(f"{device_id}/make"), spread)
        rng = Random(f"{seed}/{device_id}/birth")
        machine = Machine(start_at, climate_c=climate_c, fixed_load=fixed_load)
        machine.fuel_pct, machine.hours = rng.uniform(45, 90), rng.uniform(150, 4000)
        machine.warmth = 1 + spread * Random(f"{device_id}/warmth").gauss(0.0, 0.04)
        settle(model, machine, rng, duty)
        return cls(device_id, model, machine, seed, report_s=report_s, boot=boot, spread=spread)

    # Time

    @property
    def at(self) -> int:
        return self.machine.at

    @property
    def hurt(self) -> Ailments:
        """What is wrong with this machine now."""
        return ailments(self.injections, self.machine.at) if self.injections else HEALTHY

    @property
    def radio_out(self) -> bool:
        hurt = self.hurt
        return hurt.radio_out or hurt.box_dead

    def advance(self, until_at: int) -> list[Message]:
        """Live on until then and say what there is to say, as the radio passes it on. A reboot, a goodbye or waking up
        ends it early, with `boot` or `dark` changed."""
        said: list[Message] = []
        for item in self.live(until_at):
            if isinstance(item, Happened):
                said += self._send("event", _encode_event(item), item)
            else:
                for row in range(len(item)):
                    said += self._send("telemetry", _encode_reading(item, row, self.names), item, row)
        return said

    def live(self, until_at: int) -> list[Readings | Happened]:
        """The same before it goes over any radio: what the controller has to say, typed and in blocks."""
        noted: list[Readings | Happened] = []
        while self.at < until_at:
            hurt = self.hurt
            dark: Dark = hurt.away or ("sleeping" if asleep(self.machine) else "")
            revived, self._dead = self._dead and not hurt.box_dead, hurt.box_dead
            if revived:
                self._reboot()
                break
            if dark != self.dark:
                self._darken(dark, hurt, noted)
                break
            if hurt.reboot_every_s and self.at - self._booted_at >= hurt.reboot_every_s * 1000:
                self._reboot()
                break
            noted += self._live(until_at, hurt)
        return noted + self._collect()

    def _live(self, until_at: int, hurt: Ailments) -> list[Readings | Happened]:
        """One step of the machine, and the readings that are due in it."""
        before = self.machine
        dt_s = min((until_at - before.at) / 1000, longest_step_s(before, hurt), self._unhurt_s(before.at, hurt))
        self.machine, events = step(self.model, before, max(dt_s, 0.001), self.nature, hurt)
        if hurt.reboot_every_s or hurt.box_dead or self.dark:
            halt(self.machine)
        to_at = self.machine.at
        if any(each.to_at == to_at and each.failure in REPAIRED for each in self.injections):
            repair(self.machine, self.nature)
        if self.dark or hurt.box_dead:
            skipped = max(0, (to_at - self._report_at) // self._report_ms + 1)
            self._report_at += skipped * self._report_ms
            return []
        self._note(events, hurt)
        if events and not hurt.mute:
            # What was due before this moment was said before it.
            self._due(to_at - 1, before, hurt)
            said: list[Readings | Happened] = [*self._collect(), *self._tell(events, hurt)]
        else:
            said = []
        self._due(to_at, before, hurt)
        return said

    def _due(self, until_at: int, before: Machine, hurt: Ailments) -> None:
        """Take down the readings that are due until then, within the step that the machine was taken through."""
        due = (until_at - self._report_at) // self._report_ms + 1
        if due > 0:
            after, show = self.machine, self.model.show
            shown, then = tuple(show(before).values()), tuple(show(after).values())
            first_at, seq = self._report_at, self._seq
            self._spans.append(
                _Span(before.at, after.at, first_at, due, before.mode, after.mode, shown, then, seq, self.boot, hurt)
            )
            self._seq += due
            self._report_at += due * self._report_ms

    def _unhurt_s(self, at: int, hurt: Ailments) -> float:
        """How long until something begins or ends to be wrong: no step goes over that moment."""
        edges = [edge for each in self.injections for edge in (each.from_at, each.to_at) if edge > at]
        if hurt.reboot_every_s:
            edges.append(self._booted_at + round(hurt.reboot_every_s * 1000))
        return (min(edges) - at) / 1000 if edges else math.inf

    def _note(self, events: Events, hurt: Ailments) -> None:
        """Keep when failures were felt, for whoever wants to know how soon they were found."""
        if not self.injections:
            return
        running = self.machine.mode == "running"
        broken = hurt.output_lost > 0.5 and running
        if running:
            self.broke |= {
                each: self.at for each in self.injections if each not in self.broke and each.worn_out(self.at)
            }
        for event, detail in events:
            if event == "start_requested":
                self.asked |= {each: self.at for each in self.standing() if each not in self.broke}
            broken |= event == "start_failed" or (event == "stopped" and detail["reason"] != "operator")
            broken |= event == "start_requested" and hurt.start_blocked
        if broken:
            for each in self.standing():
                self.broke.setdefault(each, self.at)

    def _darken(self, dark: Dark, hurt: Ailments, noted: list[Readings | Happened]) -> None:
        """Switch the box off after a goodbye, or on again."""
        if dark:
            to_at = max((each.to_at for each in self.standing()), default=0)
            if dark != "sleeping":
                noted += self._collect()
                noted += self._tell(switch_off(self.machine, to_at + 120_000), hurt)
            self._moved_c = hurt.moved_c
        else:
            self.machine.climate_c += self._moved_c
            self._moved_c = 0.0
            self._reboot()
        self.dark = dark

    def _collect(self) -> list[Readings | Happened]:
        """The readings taken down since this was last asked, as blocks over which boot and radio stay the same."""
        spans, self._spans = self._spans, []
        return [self._block(list(group)) for _, group in groupby(spans, _radio)]

    def _block(self, spans: list[_Span]) -> Readings:
        counts = [span.due for span in spans]
        of = np.repeat(np.arange(len(spans)), counts)
        ends = np.cumsum(counts)
        nth = np.arange(ends[-1], dtype=np.int64) - (ends - counts)[of]
        first_at = np.array([span.first_at for span in spans], dtype=np.int64)[of]
        at: Ints = np.asarray(first_at + nth * self._report_ms, dtype=np.int64)
        from_at, to_at = (
            np.array([getattr(span, name) for span in spans], dtype=np.int64)[of] for name in ("from_at", "to_at")
        )
        share = ((at - from_at) / (to_at - from_at))[:, None]
        before = np.array([span.before for span in spans])[of]
        truth = before + (np.array([span.after for span in spans])[of] - before) * share
        modes = [mode for span in spans for mode in [span.mode] * span.due]
        for end, span in zip(ends.tolist(), spans, strict=True):
            if span.last_mode != span.mode and at[end - 1] == span.to_at:
                modes[end - 1] = span.last_mode
        runs = [Run(end - span.due, end, span.hurt) for end, span in zip(ends.tolist(), spans, strict=True)
                if span.hurt is not HEALTHY]  # fmt: skip
        values = self._sensors.read(at, truth, runs)
        first = spans[0]
        return Readings(at, at + first.hurt.clock_ahead_ms, first.boot, first.seq, modes, values, first.hurt)

    def _tell(self, events: Events, hurt: Ailments) -> list[Happened]:
        said: list[Happened] = []
        for event, detail in events:
            said.append(Happened(self.at, self.at + hurt.clock_ahead_ms, self.boot, self._seq, event, detail, hurt))
            self._seq += 1
        return said

    def _reboot(self) -> None:
        # A controller that falls over lets go of the fuel valve, and forgets what it knew but the boot count.
        halt(self.machine)
        self.boot += 1
        self._seq, self._booted_at = 0, self.at
        self._report_at = self.at + min(self._report_ms, 3000)

    # What it says

    def clock(self) -> int:
        """What this box believes the time is (epoch ms)."""
        return self.at + self.hurt.clock_ahead_ms

    def online(self, at: int) -> Message:
        """The greeting after a connect at `at`; it carries the same time as that connection's will."""
        body = {
            "state": "online",
            "boot": self.boot,
            "at": at,
            "firmware": self.model.firmware,
            "model": self.model.title,
        }
        return Message(self.at, "status", _encode(body), retain=True)

    def will(self, at: int) -> Message:
        """What the broker is to say should the connection made at `at` break."""
        return Message(self.at, "status", _encode({"state": "lost", "boot": self.boot, "at": at}), retain=True)

    def goodbye(self, reason: Literal["powered_off", "sleeping", "transport"]) -> Message:
        body = {"state": "offline", "reason": reason, "boot": self.boot, "at": self.clock()}
        return Message(self.at, "status", _encode(body), retain=True)

    def start(self) -> list[Message]:
        """Somebody turns the key now."""
        told = self._tell(request_start(self.machine, self.nature), self.hurt)
        return [message for item in told for message in self._send("event", _encode_event(item), item)]

    # The radio

    def _send(self, suffix: Suffix, payload: bytes, item: "Readings | Happened", row: int = 0) -> list[Message]:
        if item.hurt.radio_out:
            self._backlog.append((suffix, payload))
            return []
        at = int(item.at[row]) if isinstance(item, Readings) else item.at
        said = [*self._stored(), *self._muddled(suffix, payload, item.hurt)]
        return [Message(at, what, body) for what, body in said]

    def _stored(self) -> list[tuple[Suffix, bytes]]:
        """The backlog, oldest first: runs of readings as arrays, events one by one between them."""
        if not self._backlog:
            return []
        out: list[tuple[Suffix, bytes]] = []
        run: list[bytes] = []
        while self._backlog:
            suffix, payload = self._backlog.popleft()
            if suffix == "telemetry":
                run.append(payload)
            if run and (suffix != "telemetry" or len(run) == ARRAY_LIMIT):
                out.append(("telemetry", _array(run)))
                run = []
            if suffix != "telemetry":
                out.append((suffix, payload))
        return [*out, ("telemetry", _array(run))] if run else out

    def _muddled(self, suffix: Suffix, payload: bytes, hurt: Ailments) -> list[tuple[Suffix, bytes]]:
        """The message as a bad radio passes it on: perhaps twice, perhaps only after the next one."""
        times = 2 if hurt.duplicate_share and self._ether.random() < hurt.duplicate_share else 1
        before, self._overtaken = self._overtaken, None
        if before is None and hurt.reorder_share and self._ether.random() < hurt.reorder_share:
            self._overtaken = (suffix, payload)
            return []
        return [(suffix, payload)] * times + ([before] if before else [])

    # Commands

    def answer(self, raw: bytes) -> list[Message]:
        """The reply to what came on the command topic; nothing where that is no command."""
        if len(raw) > COMMAND_LIMIT:
            return []
        try:
            command = _command.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return []
        known = command.command == "diagnose"
        result = self._self_test() if known else {"error": f"no such command: {command.command[:40]}"}
        body = {"id": command.id, "at": self.clock(), "ok": known, "result": result}
        return [Message(self.at, "reply", _encode(body))]

    def _self_test(self) -> dict[str, Any]:
        """What a technician would look at first: battery, fuel, starter, levels, sensors, codes."""
        machine, hurt = self.machine, self.hurt
        checks = {
            "battery": "ok" if machine.battery_v >= 12.0 else "weak",
            "fuel": "ok" if machine.fuel_pct >= 5 else "empty",
            "starter": "no_current" if hurt.starter_dead else "ok",
            "coolant_level": "ok" if machine.coolant_level >= 0.5 else "low",
            "sensors": "implausible" if hurt.stuck else "ok",
        }
        return {
            "state": machine.mode,
            "checks": checks,
            "codes": list(machine.codes),
            "battery_voltage_v": round(machine.battery_v, 2),
            "fuel_level_pct": round(machine.fuel_pct, 1),
            "engine_hours_h": round(machine.hours, 1),
            "firmware": self.model.firmware,
        }

    # Failures

    def inject(self, injection: Injection) -> None:
        """Let this failure happen. Repaired ones are forgotten, so that the list stays short."""
        self.injections = [old for old in self.injections if old.to_at > self.at] + [injection]

    def heal(self, failure: str) -> list[Injection]:
        """Repair a failure now; answers with the injections as they really were."""
        ended = [
            msgspec.structs.replace(old, to_at=self.at)
            for old in self.injections
            if old.failure == failure and old.from_at <= self.at < old.to_at
        ]
        self.injections = [old for old in self.injections if old.failure != failure]
        if ended and failure in REPAIRED:
            repair(self.machine, self.nature)
        return ended

    def standing(self) -> list[Injection]:
        """The failures that are happening now."""
        return [injection for injection in self.injections if injection.from_at <= self.at < injection.to_at]


def _radio(span: _Span) -> tuple[object, ...]:
    """What must be the same over a block of readings."""
    hurt = span.hurt
    return span.boot, hurt.radio_out, hurt.clock_ahead_ms, hurt.duplicate_share, hurt.reorder_share


def _encode_event(item: Happened) -> bytes:
    return _encode(
        {"boot": item.boot, "seq": item.seq, "at": item.clock_at, "event": item.event, "detail": item.detail}
    )


def _encode_reading(item: Readings, row: int, names: tuple[str, ...]) -> bytes:
    values = dict(zip(names, item.values[row].tolist(), strict=True))
    head = {"boot": item.boot, "seq": item.seq + row, "at": int(item.clock_at[row]), "state": item.modes[row]}
    return _encode(head | {"values": values})


def _array(payloads: list[bytes]) -> bytes:
    return b"[" + b",".join(payloads) + b"]"
