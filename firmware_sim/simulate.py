"""Machines in virtual time: a week in seconds, for benches and tests."""

from collections.abc import Iterator, Sequence

from firmware_sim.device import Duty
from firmware_sim.failures import Injection
from firmware_sim.wire import Box, Message, Suffix

LOST_AFTER_MS = 45_000
"""One and a half keep-alives of 30 s: so long after the radio went the broker publishes the will."""


def simulate(
    profile: str, device_id: str, seed: int, start_at: int, duration_s: float, report_s: float = 10.0,
    failures: Sequence[Injection] = (), *, boot: int = 1, duty: Duty = "day", climate_c: float = 15.0,
    load: float | None = None, key_at: int | None = None,
) -> Iterator[tuple[int, Suffix, bytes]]:  # fmt: skip
    """What a broker would hear of one machine: (epoch ms, last part of the topic, payload), in order of hearing.

    `duty`: "day" works in the daytime, "always" without nights, "hand" only from `key_at` on. `load` (0 to 1) fixes
    the work, `climate_c` is the mean temperature. The wills of broken connections are among what is heard.
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
    )
    box.injections = list(failures)
    if key_at is not None:
        box.machine.switch_at = key_at
    for at, suffix, payload, _retain in _heard(box, start_at + round(duration_s * 1000), round(report_s * 1000)):
        yield at, suffix, payload


def _heard(box: Box, end_at: int, stride_ms: int) -> Iterator[Message]:
    """Everything said, with what the connection itself says: greeting, will, greeting again, goodbye."""
    heard_boot, will, connected = box.boot, box.will(box.clock()), True
    yield box.online(box.clock())
    last_heard_at = box.at
    while box.at < end_at:
        said = box.advance(min(end_at, box.at + stride_ms))
        last_heard_at = last_heard_at if box.radio_out else box.at
        broken = box.at - last_heard_at >= LOST_AFTER_MS if box.radio_out else box.boot != heard_boot
        if broken and connected:
            yield from said
            yield will._replace(at=box.at)
            said, connected = [], False
        if not connected and not box.radio_out:
            heard_boot, will, connected = box.boot, box.will(box.clock()), True
            yield box.online(box.clock())
        yield from said
    yield box.goodbye("powered_off")
