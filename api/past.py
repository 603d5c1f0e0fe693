"""The thirty days behind the fleet's figures: costly to work out, and hardly other from one second to the next."""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Lock

from sqlalchemy import Connection

from monitor.fleet.availability import DAY_MS, WINDOW_DAYS, Availability, availability, by_day
from monitor.store import queries

KEPT_MS = 5_000
SCOPES_KEPT = 200


@dataclass(frozen=True)
class Past:
    """Availability over the window that ended at `as_of`, up to KEPT_MS ago. For this moment count the machines."""

    as_of: int
    on_hire: Availability
    fleet: Availability
    days: list[tuple[float | None, float | None]]
    """Of the machines on hire, day by day: (lower, upper), oldest first."""

    @classmethod
    def read(cls, connection: Connection, scope: queries.Scope) -> "Past":
        history = queries.fleet_history(connection, scope, scope.now - WINDOW_DAYS * DAY_MS)
        on_hire, fleet = (availability(group, scope.now) for group in (history.on_hire, history.fleet))
        return cls(scope.now, on_hire, fleet, by_day(history.on_hire, scope.now))


class Pasts:
    """The past of each scope, kept for a few seconds; of the last SCOPES_KEPT scopes asked for."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int | None, Past] = OrderedDict()
        self._one_at_a_time = Lock()

    def of(self, scope: queries.Scope, reading: Callable[[], AbstractContextManager[Connection]]) -> Past:
        """Those who ask at the same moment wait for one answer. Call it with no connection in hand."""
        with self._one_at_a_time:
            past = self._kept.pop(scope.customer_id, None)
            if past is None or not 0 <= scope.now - past.as_of < KEPT_MS:
                with reading() as connection:
                    past = Past.read(connection, scope)
            self._kept[scope.customer_id] = past
            if len(self._kept) > SCOPES_KEPT:
                self._kept.popitem(last=False)
        return past
