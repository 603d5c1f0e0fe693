"""What keeps a core busy for seconds is done for one asker at a time, kind by kind."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from fastapi import Request

from api.problems import Problem


class OneAtATime:
    """Takes one in, and lets others wait at the door."""

    def __init__(self) -> None:
        self._lock = Lock()

    @contextmanager
    def turn(self, wait_s: float, refusal: str, *, status: int = 503, again_s: int = 30) -> Iterator[None]:
        """Within, nobody else is at it. Raises the Problem of this status where others are for longer than `wait_s`."""
        if not self._lock.acquire(timeout=wait_s):
            raise Problem(status, "Not now", refusal, headers={"Retry-After": str(again_s)})
        try:
            yield
        finally:
            self._lock.release()


@dataclass(frozen=True)
class Turns:
    """One of each kind a process: a core that is busy with one leaves the others for everybody else."""

    papers: OneAtATime = field(default_factory=OneAtATime)
    backtests: OneAtATime = field(default_factory=OneAtATime)
    reliability: OneAtATime = field(default_factory=OneAtATime)
    reports: OneAtATime = field(default_factory=OneAtATime)


def turns_of(request: Request) -> Turns:
    turns: Turns = request.app.state.turns
    return turns
