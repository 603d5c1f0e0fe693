"""The box on a machine: it turns what the machine does into the messages of the wire contract.

`Box` counts `boot` and `seq`, stamps messages with its own (perhaps wrong) clock, keeps a backlog while its radio is
out, and answers commands. It knows no MQTT: simulate.py lives it in virtual time, fleet.py in real time.
"""

from collections import deque
from random import Random
from typing import Any, Literal, NamedTuple

import msgspec

from firmware_sim.device import Duty, Events, Machine, Model, halt, longest_step_s, measure, request_start, settle, step
from firmware_sim.failures import HEALTHY, Ailments, Injection, ailments
from firmware_sim.models import MODELS

BACKLOG_LIMIT = 20_000
"""Messages a box remembers while its radio is out; the oldest go first. Ten seconds apart: over two days."""
ARRAY_LIMIT = 250
"""Readings in one array payload: about 80 KB, far below the contract's 200 KB."""
COMMAND_LIMIT = 4096

Suffix = Literal["telemetry", "event", "status", "reply"]


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


class Box:
    """Controller and radio of one machine. The same arguments and calls give the same bytes."""

    def __init__(
        self, device_id: str, model: Model, machine: Machine, seed: int | str, *, report_s: float, boot: int
    ) -> None:
        self.device_id = device_id
        self.model = model
        self.machine = machine
        self.boot = boot
        self.injections: list[Injection] = []
        # Two sources of chance, so that what a bad radio does leaves the machine's own course as it was.
        self.nature = Random(f"{seed}/{device_id}/nature")
        self._ether = Random(f"{seed}/{device_id}/ether")
        self._report_ms = round(report_s * 1000)
        self._report_at = machine.at + self._ether.randrange(self._report_ms)
        self._booted_at = machine.at
        self._seq = 0
        self._shown: dict[str, float] = {}
        self._backlog: deque[tuple[Suffix, bytes]] = deque(maxlen=BACKLOG_LIMIT)
        self._overtaken: tuple[Suffix, bytes] | None = None

    @classmethod
    def fresh(
        cls, device_id: str, profile: str, seed: int | str, start_at: int, *, report_s: float = 10.0, boot: int = 1,
        duty: Duty = "day", climate_c: float = 15.0, fixed_load: float | None = None,
    ) -> "Box":  # fmt: skip
        """A box on a new machine of this profile; its tank, its hours and its first plans follow from the seed."""
        model, rng = MODELS[profile], Random(f"{seed}/{device_id}/birth")
        machine = Machine(start_at, climate_c=climate_c, fixed_load=fixed_load)
        machine.fuel_pct, machine.hours = rng.uniform(45, 90), rng.uniform(150, 4000)
        settle(model, machine, rng, duty)
        return cls(device_id, model, machine, seed, report_s=report_s, boot=boot)

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
        return self.hurt.radio_out

    def advance(self, until_at: int) -> list[Message]:
        """Live on until then and say what there is to say; a reboot ends it early, with `boot` one higher."""
        said: list[Message] = []
        while self.at < until_at:
            hurt = self.hurt
            if hurt.reboot_every_s and self.at - self._booted_at >= hurt.reboot_every_s * 1000:
                self._reboot()
                return said
            said += self._live(min(until_at, self._report_at), hurt)
        return said

    def _live(self, until_at: int, hurt: Ailments) -> list[Message]:
        """One step of the machine, and one reading where it is due."""
        dt_s = min((until_at - self.at) / 1000, longest_step_s(self.machine))
        self.machine, events = step(self.model, self.machine, dt_s, self.nature, hurt)
        if hurt.reboot_every_s:
            halt(self.machine)
        said = self._tell(events, hurt)
        if self.at >= self._report_at:
            self._report_at += self._report_ms
            said += self._report(hurt)
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
        return self._tell(request_start(self.machine, self.nature), self.hurt)

    def _head(self, hurt: Ailments) -> dict[str, Any]:
        head = {"boot": self.boot, "seq": self._seq, "at": self.at + hurt.clock_ahead_ms}
        self._seq += 1
        return head

    def _report(self, hurt: Ailments) -> list[Message]:
        self._shown = measure(self.model, self.machine, self.nature, hurt, self._shown)
        reading = self._head(hurt) | {"state": self.machine.mode, "values": self._shown}
        return self._send("telemetry", _encode(reading), hurt)

    def _tell(self, events: Events, hurt: Ailments) -> list[Message]:
        said: list[Message] = []
        for event, detail in events:
            body = self._head(hurt) | {"event": event, "detail": detail}
            said += self._send("event", _encode(body), hurt)
        return said

    # The radio

    def _send(self, suffix: Suffix, payload: bytes, hurt: Ailments) -> list[Message]:
        if hurt.radio_out:
            self._backlog.append((suffix, payload))
            return []
        said = [*self._stored(), *self._muddled(suffix, payload, hurt)]
        return [Message(self.at, what, body) for what, body in said]

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
        return ended

    def standing(self) -> list[Injection]:
        """The failures that are happening now."""
        return [injection for injection in self.injections if injection.from_at <= self.at < injection.to_at]


def _array(payloads: list[bytes]) -> bytes:
    return b"[" + b",".join(payloads) + b"]"
