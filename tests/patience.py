"""How tests wait for what another thread, process or browser does."""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 180.0
"""A machine that is busy with something else is no fault in the code: only what never comes true fails."""

Found = TypeVar("Found")


def until(condition: Callable[[], Found], what: str = "", every_s: float = 0.01) -> Found:
    """What `condition` answers as soon as it is true; fails with `what` when it does not come true at all."""
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:.0f} s: {what or condition} (last: {answer!r})"
        time.sleep(every_s)
    return answer
