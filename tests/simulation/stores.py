"""The stores of the simulated service: the real database, mortal at its commits, and telemetry that outlives a process.

SQLite is the real one, on a file in memory. Telemetry is a shelf that keeps what the protocol promises
(monitor/store/telemetry.py) at a hundredth of DuckDB's cost, because a world commits a batch every few minutes and
DuckDB is made for thousands a second; some worlds use DuckDB itself.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import OperationalError

from monitor.readings import Batch, Event, Message, Reading
from monitor.store.database import Database, open_database
from monitor.store.telemetry import Name, Series, Telemetry, TelemetryUnavailable, in_slices, refuse_what_is_no_number
from tests.simulation.perils import Fate


class Died(BaseException):
    """The process ends here. Nothing catches it: what was in memory is gone."""


class Ground:
    """The folder that a process's worlds stand in, one after the other. Its engine is kept, for what it knows of
    statements; every connection is a new one."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")  # noqa: S108 (what a crash leaves behind there is gone with the next boot)
        self._folder = tempfile.TemporaryDirectory(prefix="fettle-sim-", dir=memory if memory.is_dir() else None)
        self.home = Path(self._folder.name)
        self.engine: Engine = open_database(f"sqlite:///{self.file}").engine

    @property
    def file(self) -> Path:
        return self.home / "fettle.db"

    def clear(self, database: bytes) -> None:
        """Nothing is left of the world before; the database is this one."""
        self.engine.dispose()
        for path in self.home.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.file.write_bytes(database)

    def reader(self) -> sqlite3.Connection:
        """For those who only look."""
        connection = sqlite3.connect(self.file, isolation_level=None)
        connection.row_factory = sqlite3.Row
        return connection


class MortalDatabase(Database):
    """The database of a process that may die, or be refused, at any commit."""

    def __init__(self, engine: Engine, fate: Fate) -> None:
        super().__init__(engine)
        self._fate = fate
        self.unsure = 0
        """Commits of which the service does not know, or did not live to know, that they are there."""

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        with super().begin() as connection:
            yield connection
            if self._fate.strikes("dies_before_commit"):
                raise Died
            if self._fate.strikes("commit_refused"):
                raise refusal("database or disk is full")
        if self._fate.strikes("dies_after_commit"):
            self.unsure += 1
            raise Died
        if self._fate.strikes("commit_unsaid"):
            self.unsure += 1
            raise refusal("the connection was lost")


class MadeToFail(Exception):
    """Marks what fails because the world wanted it to."""


def refusal(words: str) -> OperationalError:
    return OperationalError("COMMIT", {}, MadeToFail(words))


class Shelf:
    """Telemetry in memory: it keeps every promise of monitor.store.telemetry.Telemetry, and outlives the process."""

    def __init__(self) -> None:
        self._batches: dict[int, tuple[Message, ...]] = {}
        self._named: dict[tuple[str, int, int, int], list[Message]] = {}
        self._of: dict[str, list[Message]] = {}

    def store(self, batch: Batch) -> None:
        refuse_what_is_no_number(batch)
        if not len(batch) or batch.number in self._batches:
            self._drop(batch.number)
        if not len(batch):
            return
        messages = tuple(batch.messages())
        self._batches[batch.number] = messages
        for message in messages:
            self._named.setdefault(message.name, []).append(message)
            self._of.setdefault(message.device_id, []).append(message)

    def _drop(self, number: int) -> None:
        for message in self._batches.pop(number, ()):
            self._named[message.name].remove(message)
            self._of[message.device_id].remove(message)

    def forget_after(self, batch_number: int) -> None:
        for number in [one for one in self._batches if one > batch_number]:
            self._drop(number)

    def find(self, names: Sequence[Name]) -> dict[Name, Message]:
        wanted = set(names)
        found = (one for name in wanted for one in self._named.get(name[:4], ()))
        return {key: one for one in found if (key := (*one.name, one.body.at)) in wanted}

    def replay(self, after: int) -> Iterator[Batch]:
        for number in sorted(one for one in self._batches if one > after):
            yield Batch.of(number, self._batches[number])

    def count(self, name: tuple[str, int, int, int]) -> int:
        """How often a message is stored."""
        return len(self._named.get(name, ()))

    def series(self, device_id: str, metric: str, start_at: int, end_at: int, max_points: int = 2000) -> Series:
        found = [(one.body.at, one.body.values[metric]) for one in self._between(device_id, start_at, end_at)
                 if isinstance(one.body, Reading) and metric in one.body.values]  # fmt: skip
        at = np.array([moment for moment, _ in found], dtype=np.int64)
        value = np.array([number for _, number in found], dtype=np.float64)
        if len(at) <= max_points:
            return Series.raw(at, value)
        bucket_ms = -(-(end_at - start_at) // max_points)
        bucket = (at - start_at) // bucket_ms
        first = np.flatnonzero(np.diff(bucket, prepend=-1))
        count = np.diff(np.append(first, len(at)))
        low, high = np.minimum.reduceat(value, first), np.maximum.reduceat(value, first)
        # Halves, since a sum of enormous values overflows; their mean lies between the lowest and the highest.
        mean = np.clip(2 * (np.add.reduceat(value / 2 / np.repeat(count, count), first)), low, high)
        return Series(bucket_ms, start_at + bucket[first] * bucket_ms, low, mean, high, count.astype(np.int64))

    def _between(self, device_id: str, start_at: int, end_at: int) -> list[Message]:
        found = [one for one in self._of.get(device_id, ()) if start_at <= one.body.at < end_at]
        return sorted(found, key=lambda one: (one.body.at, one.body.boot, one.body.seq))

    def messages(self, device_id: str, start_at: int, end_at: int, limit: int = 10_000) -> list[Message]:
        return self._between(device_id, start_at, end_at)[:limit]

    def history(self, start_at: int, end_at: int) -> Iterator[Batch]:
        return in_slices(self._slice, start_at, end_at)

    def _slice(self, start_at: int, end_at: int) -> Batch:
        stored = (one for number in sorted(self._batches) for one in self._batches[number])
        return Batch.of(0, [one for one in stored if start_at <= one.body.at < end_at])

    def latest(self, device_id: str) -> Message | None:
        readings = (one for one in self._of.get(device_id, ()) if isinstance(one.body, Reading))
        return max(readings, key=lambda one: (one.body.at, one.body.boot, one.body.seq), default=None)

    def starts(self, device_id: str, start_at: int, end_at: int) -> int:
        found = self._between(device_id, start_at, end_at)
        return sum(isinstance(one.body, Event) and one.body.event == "started" for one in found)

    def metrics(self, device_id: str) -> list[str]:
        readings = [one.body for one in self._of.get(device_id, ()) if isinstance(one.body, Reading)]
        latest = sorted(readings, key=lambda one: one.at)[-100:]
        return sorted({name for one in latest for name in one.values})

    def expire(self, before_at: int) -> int:
        before = sum(map(len, self._batches.values()))
        for number, messages in list(self._batches.items()):
            kept = tuple(one for one in messages if one.body.at >= before_at)
            if len(kept) < len(messages):
                self._drop(number)
                if kept:
                    self.store(Batch.of(number, kept))
        return before - sum(map(len, self._batches.values()))

    def close(self) -> None:
        """There is nothing to let go of."""


class Brittle:
    """A telemetry store that cannot always be reached, and under which the process may die."""

    def __init__(self, inner: Telemetry, fate: Fate) -> None:
        self._inner = inner
        self._fate = fate
        names = [name for name in vars(Telemetry) if not name.startswith("_") and name != "store"]
        for name in names:
            setattr(self, name, getattr(inner, name))

    def store(self, batch: Batch) -> None:
        if self._fate.strikes("telemetry_away"):
            raise TelemetryUnavailable("away") from MadeToFail()
        self._inner.store(batch)
        if self._fate.strikes("dies_storing"):
            raise Died
        if self._fate.strikes("telemetry_unsaid"):
            raise TelemetryUnavailable("no answer") from MadeToFail()


Look = Callable[..., list[sqlite3.Row]]
"""A question to the database: SQL and its values."""

decode = msgspec.json.decode
