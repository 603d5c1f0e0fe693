"""Machines in virtual time: a week in a second, for benches and tests."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from firmware_sim.device import Duty
from firmware_sim.failures import Injection
from firmware_sim.wire import Box, Happened, Message, Readings, Suffix

LOST_AFTER_MS = 45_000
"""One and a half keep-alives of 30 s: so long after the radio went the broker publishes the will."""
BLOCK_MS = 3 * 3_600_000
"""So much of a machine's life is worked out at once."""

Said = TypeVar("Said")


def simulate(
    profile: str, device_id: str, seed: int, start_at: int, duration_s: float, report_s: float = 10.0,
    failures: Sequence[Injection] = (), *, boot: int = 1, duty: Duty = "day", climate_c: float = 15.0,
    load: float | None = None, key_at: int | None = None, spread: float = 1.0,
) -> Iterator[tuple[int, Suffix, bytes]]:  # fmt: skip
    """What a broker would hear of one machine: (epoch ms, last part of the topic, payload), in order of hearing.

    `duty`: "day" works in the daytime, "site" so on working days, "always" without nights, "hand" only from `key_at`
    on. `load` (0 to 1) fixes the work, `climate_c` is the mean temperature, `spread` how much the machine differs from
    others of its model (0: not at all). The wills of broken connections are among what is heard.
    """
    box = Box.fresh(
        device_id,
        profile,
        seed,
        start_at,
        report_s=report_s,
        boot=boot,
        duty=duty,
        climate_c=climate_c,
        fixed_load=load,
        spread=spread,
    )
    box.injections = list(failures)
    if key_at is not None:
        box.machine.switch_at = key_at
    end_at = start_at + round(duration_s * 1000)
    yield from greeted(box)
    for said in connected(box, end_at, box.advance):
        yield said.at, said.suffix, said.payload
    if not box.dark:
        bye = box.goodbye("powered_off")
        yield bye.at, bye.suffix, bye.payload


def greeted(box: Box) -> list[tuple[int, Suffix, bytes]]:
    """The first thing that is heard of a box."""
    hello = box.online(box.clock())
    return [(hello.at, hello.suffix, hello.payload)]


def connected(box: Box, end_at: int, speak: Callable[[int], list[Said]]) -> Iterator[Said | Message]:
    """Everything said until then, with what the connection itself says: wills, greetings, goodbyes.

    `speak` lives on and says what there is to say: Box.advance, or Box.live for the same before any radio.
    """
    heard_boot, will, up = box.boot, box.will(box.clock()), True
    last_heard_at = box.at
    while box.at < end_at:
        dark, was_out = box.dark, box.radio_out
        said = speak(_next_stop(box, end_at, last_heard_at))
        last_heard_at = last_heard_at if was_out else box.at
        if box.dark and not dark:
            yield from said
            said, up = [], False
            yield box.goodbye(box.dark)
        broken = box.at - last_heard_at >= LOST_AFTER_MS if was_out else box.boot != heard_boot
        if broken and up:
            yield from said
            yield will._replace(at=box.at)
            said, up = [], False
        if not up and not box.radio_out and not box.dark:
            heard_boot, will, up = box.boot, box.will(box.clock()), True
            yield box.online(box.clock())
        yield from said


def _next_stop(box: Box, end_at: int, last_heard_at: int) -> int:
    """The next moment at which the connection may change: none of them is lived over."""
    edges = [edge for each in box.injections for edge in (each.from_at, each.to_at) if edge > box.at]
    if box.radio_out and last_heard_at + LOST_AFTER_MS > box.at:
        edges.append(last_heard_at + LOST_AFTER_MS)
    return min([end_at, box.at + BLOCK_MS, *edges])


def course(box: Box, end_at: int) -> Iterator[tuple[int, Readings | Happened | Message]]:
    """What is heard of a box until then without any encoding: (when heard, what), blocks of readings as they are.

    While its radio is out nothing is heard; what was noted meanwhile comes in one go after it. The radio's other
    failures (doubling, overtaking) are those of single messages and do not show here.
    """
    waiting: list[Readings | Happened] = []
    for item in connected(box, end_at, box.live):
        if isinstance(item, Message):
            yield item.at, item
        elif item.hurt.radio_out:
            waiting.append(item)
        else:
            at = int(item.at[0]) if isinstance(item, Readings) else item.at
            yield from ((at, kept) for kept in waiting)
            waiting.clear()
            yield at, item
