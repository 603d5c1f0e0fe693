"""A fleet of simulated machines in real time, over MQTT, all in one thread."""

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import msgspec

from firmware_sim.demo import KEY_AFTER_S, Act, story
from firmware_sim.device import NEVER, Duty, Machine, park, warm
from firmware_sim.failures import FOR_EVER, Injection, Truth
from firmware_sim.link import Card, Link
from firmware_sim.models import MODELS
from firmware_sim.wire import Box

STEP_MS = 250
POLL_MS = 100
TICK_S = 1.0
SAVE_S = 60.0
FAREWELL_S = 2.0

log = logging.getLogger("firmware_sim")


class Kept(msgspec.Struct, frozen=True):
    """What a machine keeps over a stop of the program: like a real one, its boot count and its own state."""

    profile: str
    boot: int
    machine: Machine


class Unit:
    """One machine of the fleet: its box and its connection."""

    def __init__(self, box: Box, link: Link) -> None:
        self.box = box
        self.link = link


class Fleet:
    """Lives the machines of the given cards until stopped. Everything it keeps lies in `home`: `machines.json`
    (boot counts, hours, tanks: the next start goes on from there) and `truth.jsonl` (see failures.Truth).

    `cards` are what `fettle device add --json` prints, with the `profile`. `scenario` "demo" plays demo.story, whose
    first machine is that of the first card; None lets only what is injected go wrong. Errors in cards are ValueErrors.
    """

    def __init__(
        self,
        cards: Sequence[Mapping[str, Any] | Card],
        *,
        home: Path,
        seed: int = 1,
        report_s: float = 10.0,
        scenario: Literal["demo"] | None = None,
        duty: Duty = "always",
    ) -> None:
        self._home = home
        self._seed = seed
        self._report_s = report_s
        self._scenario = scenario
        self._duty: Duty = duty
        self._stop = threading.Event()
        self._orders: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._acts: Iterator[Act] = iter(())
        self._next_act: Act | None = None
        self._tick_at_s = self._save_at_s = 0.0
        home.mkdir(parents=True, exist_ok=True)
        self._units = self._assemble([_card(card) for card in cards])

    # What others may call, from any thread

    def start(self) -> None:
        """Power up; returns at once. Machines connect as soon as their broker answers."""
        self._begin_story()
        self._save()
        self._thread = threading.Thread(target=self._run, name="firmware-sim", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Say goodbye to the broker, keep the machines' state, end the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def inject(
        self, device_id: str, failure: str, *, size: float = 1.0, ramp_s: float | None = None,
        lasts_s: float | None = None, sensor: str = "",
    ) -> None:  # fmt: skip
        """Let a failure of failures.FAILURES begin now on one machine."""
        unit, now = self._units[device_id], _now()
        to_at = FOR_EVER if lasts_s is None else now + round(lasts_s * 1000)
        injection = Injection(failure, now, to_at, size, ramp_s, sensor)
        self._orders.put(lambda: self._strike(unit, injection))

    def heal(self, device_id: str, failure: str) -> None:
        """Repair a failure now."""
        unit = self._units[device_id]
        self._orders.put(lambda: self._repair(unit, failure))

    def turn_key(self, device_id: str) -> None:
        """Ask a standing machine to start."""
        unit = self._units[device_id]
        self._orders.put(lambda: unit.link.offer(unit.box.start()))

    @property
    def connected(self) -> int:
        """How many machines the broker has accepted at the moment."""
        return sum(unit.link.up for unit in self._units.values())

    @property
    def waiting(self) -> int:
        """How many messages have no PUBACK yet."""
        return sum(unit.link.waiting for unit in self._units.values())

    # Putting it together

    def _assemble(self, cards: Sequence[Card]) -> dict[str, Unit]:
        kept, now = self._kept(), _now()
        return {card.device_id: Unit(self._box(card, kept.get(card.device_id), now), Link(card)) for card in cards}

    def _box(self, card: Card, kept: Kept | None, now: int) -> Box:
        seed = f"{self._seed}/{kept.boot + 1 if kept else 1}"
        box = Box.fresh(
            card.device_id, card.profile, seed, now, report_s=self._report_s, boot=kept.boot + 1 if kept else 1,
            duty=self._duty,
        )  # fmt: skip
        if kept is not None and kept.profile == card.profile:
            box.machine = _woken(kept.machine, now, self._duty)
        if self._scenario == "demo":
            warm(box.model, box.machine, box.nature)
        return box

    def _kept(self) -> dict[str, Kept]:
        path = self._home / "machines.json"
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Kept]) if path.exists() else {}

    def _save(self) -> None:
        """Write the machines' state so that a crash leaves the old or the new file, and no boot is used twice."""
        kept = self._kept() | {
            device_id: Kept(unit.box.model.profile, unit.box.boot, unit.box.machine)
            for device_id, unit in self._units.items()
        }
        path = self._home / "machines.json"
        draft = path.with_suffix(".new")
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        self._save_at_s = time.monotonic() + SAVE_S

    # The story, and what strikes

    def _begin_story(self) -> None:
        if self._scenario == "demo" and self._units:
            self._acts = story(list(self._units), self._seed, _now())
            self._next_act = next(self._acts)

    def _play(self, now: int) -> None:
        while self._next_act is not None and self._next_act.injection.from_at <= now:
            act, self._next_act = self._next_act, next(self._acts)
            unit = self._units[act.device_id]
            self._strike(unit, act.injection)
            if act.key:
                park(unit.box.machine, now + round(KEY_AFTER_S * 1000))

    def _strike(self, unit: Unit, injection: Injection) -> None:
        unit.box.inject(injection)
        self._write_truth(unit, injection)

    def _repair(self, unit: Unit, failure: str) -> None:
        for injection in unit.box.heal(failure):
            self._write_truth(unit, injection)

    def _write_truth(self, unit: Unit, injection: Injection) -> None:
        with (self._home / "truth.jsonl").open("ab") as file:
            file.write(Truth.of(unit.box.device_id, injection, unit.box.broke.get(injection)).line())

    def _close_truth(self) -> None:
        """Failures are not kept over a stop, so whatever still stands ends here."""
        for unit in self._units.values():
            for injection in unit.box.standing():
                self._write_truth(unit, msgspec.structs.replace(injection, to_at=unit.box.at))

    # The loop

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._turn()
            except Exception:  # The edge of the loop: one machine's trouble must not end the fleet.
                log.exception("the simulated fleet stumbled and goes on")
                self._stop.wait(1.0)
        self._farewell()
        self._save()
        self._close_truth()

    def _turn(self) -> None:
        """One round: orders, the machines' lives, their connections, the network."""
        now, now_s = _now(), time.monotonic()
        while not self._orders.empty():
            self._orders.get_nowait()()
        self._play(now)
        boots = sum(unit.box.boot for unit in self._units.values())
        for unit in self._units.values():
            self._live(unit, now)
        if boots != sum(unit.box.boot for unit in self._units.values()) or now_s >= self._save_at_s:
            self._save()
        self._connect(now, now_s)
        self._network(POLL_MS)

    def _live(self, unit: Unit, now: int) -> None:
        box, link = unit.box, unit.link
        if now - box.at >= STEP_MS:
            known = set(box.broke)
            link.offer(box.advance(now))
            for injection in box.broke.keys() - known:
                self._write_truth(unit, injection)
        while link.inbox:
            link.offer(box.answer(link.inbox.popleft()))
        if box.radio_out or link.boot != box.boot:
            link.cut()
        link.fill()

    def _connect(self, now: int, now_s: float) -> None:
        for unit in self._units.values():
            if unit.box.radio_out or not unit.link.may_connect(now_s):
                continue
            at = now + unit.box.hurt.clock_ahead_ms
            if not unit.link.connect(unit.box.online(at), unit.box.will(at), unit.box.boot, now_s):
                # The others have the same broker: one failed try a round, so that a dead network cannot hold us up.
                return

    def _network(self, timeout_ms: int) -> None:
        poll, by_socket = select.poll(), {}
        for unit in self._units.values():
            descriptor = unit.link.fileno()
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN | (select.POLLOUT if unit.link.wants_write() else 0))
                by_socket[descriptor] = unit.link
        for descriptor, ready in poll.poll(timeout_ms):
            readable = bool(ready & (select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL))
            by_socket[descriptor].serve(readable, bool(ready & select.POLLOUT))
        if time.monotonic() >= self._tick_at_s:
            self._tick_at_s = time.monotonic() + TICK_S
            for link in by_socket.values():
                link.tick()

    def _farewell(self) -> None:
        """A polite goodbye of every connected machine, and a moment for the last PUBACKs."""
        links = [unit.link for unit in self._units.values() if unit.link.up]
        for unit in self._units.values():
            if unit.link.up:
                unit.link.offer([unit.box.goodbye("powered_off")])
        until_s = time.monotonic() + FAREWELL_S
        while any(link.up and link.waiting for link in links) and time.monotonic() < until_s:
            for link in links:
                link.fill()
            self._network(20)
        for link in links:
            link.part()


def _now() -> int:
    return time.time_ns() // 1_000_000


def _card(card: Mapping[str, Any] | Card) -> Card:
    card = card if isinstance(card, Card) else msgspec.convert(card, Card)
    if card.profile not in MODELS:
        raise ValueError(f"no simulated model for profile {card.profile!r}; there are: {', '.join(sorted(MODELS))}")
    return card


def _woken(machine: Machine, now: int, duty: Duty) -> Machine:
    """A machine as it was kept, its plans moved to today; what it did in between nobody simulates."""
    later_ms = now - machine.at
    machine.at, machine.duty = now, duty
    machine.load_at += later_ms
    if machine.switch_at != NEVER:
        machine.switch_at += later_ms
    return machine
