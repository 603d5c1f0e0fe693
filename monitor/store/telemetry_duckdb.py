"""Telemetry in one DuckDB file, for one process.

Layout: `message` (one row a message) and `sample` (one row a value), bound by a `serial` that counts messages.
Devices and metrics stand there as small integers, because DuckDB skips row groups by their lowest and highest value
and sees only eight bytes of a string. New rows lie in the order of arrival, which interleaves all devices; each time
enough have come, a thread sorts them by device and metric (a *run*), so that a chart of one metric reads a sliver of
each run instead of everything.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import groupby, pairwise
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from monitor.readings import Batch, Ints, Message, What
from monitor.store.telemetry import Name, Series, TelemetryUnavailable, in_slices, refuse_what_is_no_number, spans

log = logging.getLogger(__name__)

# `at` is a word of DuckDB's own, hence at_ms. `tidied` is one row: every message below `serial` lies in sorted runs,
# and `batch` is the highest batch among them.
SCHEMA = """
CREATE TABLE IF NOT EXISTS device (id INTEGER NOT NULL, name VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS metric (id INTEGER NOT NULL, name VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS message (
    serial BIGINT NOT NULL, batch BIGINT NOT NULL, device INTEGER NOT NULL, generation BIGINT NOT NULL,
    boot BIGINT NOT NULL, seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, received_ms BIGINT NOT NULL,
    what TINYINT NOT NULL, state TINYINT NOT NULL, late BOOLEAN NOT NULL, detail VARCHAR);
CREATE TABLE IF NOT EXISTS sample (
    serial BIGINT NOT NULL, device INTEGER NOT NULL, metric INTEGER NOT NULL, at_ms BIGINT NOT NULL,
    value DOUBLE NOT NULL);
CREATE TABLE IF NOT EXISTS tidied (serial BIGINT NOT NULL, batch BIGINT NOT NULL);
INSERT INTO tidied SELECT 0, -1 WHERE NOT EXISTS (FROM tidied);
"""
SORTED_BY = {"message": "device, at_ms, boot, seq", "sample": "device, metric, at_ms, serial"}

WORLD_FAULTS = (duckdb.OperationalError, duckdb.InternalError, duckdb.FatalException)

Columns = dict[str, np.ndarray]


class DuckDBTelemetry:
    """See monitor.store.telemetry.Telemetry. Threads may use one object; each call has a cursor of its own."""

    def __init__(
        self, path: Path, *, memory_limit: str = "512MB", threads: int = 2, run_samples: int = 4_000_000
    ) -> None:
        """`run_samples`: after so many new samples they are sorted. Larger runs read faster and sort longer."""
        self._path = path
        self._run_samples = run_samples
        # Who moves or deletes rows holds _moving; who appends holds _appending; both in this order.
        self._moving = threading.Lock()
        self._appending = threading.Lock()
        self._tidying: threading.Thread | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "threads": threads,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        with self._reaching("open"):
            self._db = duckdb.connect(str(path), config=config)
            self._db.execute(SCHEMA)
            self._devices = dict(self._db.execute("SELECT name, id FROM device ORDER BY id").fetchall())
            self._metrics = dict(self._db.execute("SELECT name, id FROM metric ORDER BY id").fetchall())
            self._count_up()

    def _count_up(self) -> None:
        """Where numbering goes on. Only the rows not yet sorted are looked at, however long the history is."""
        below, batch = self._one("SELECT serial, batch FROM tidied")
        top, last = self._one("SELECT max(serial), max(batch) FROM message WHERE serial >= ?", below)
        self._next_serial = below if top is None else top + 1
        self._last_batch = batch if last is None else max(last, batch)
        (self._untidy,) = self._one("SELECT count(*) FROM sample WHERE serial >= ?", below)

    def _one(self, sql: str, *values: int) -> tuple[int, ...]:
        # Fetched to the end: a result half read keeps its transaction open, and then no checkpoint comes through.
        with self._reading() as cursor:
            row: tuple[int, ...] = cursor.execute(sql, values).fetchall()[0]
        return row

    # --- writing -------------------------------------------------------------------------------------------------

    def store(self, batch: Batch) -> None:
        refuse_what_is_no_number(batch)
        if not len(batch):
            return
        again = batch.number <= self._last_batch
        with self._moving if again else nullcontext(), self._appending:
            with self._transaction("store") as cursor:
                if again:
                    _delete_batches(cursor, "batch = ?", batch.number)
                devices = _ids(cursor, "device", self._devices, batch.device_ids)
                metrics = _ids(cursor, "metric", self._metrics, batch.metrics)
                serial = np.arange(self._next_serial, self._next_serial + len(batch))
                _append(cursor, batch, serial, devices, metrics)
            self._remember(batch.device_ids, devices, self._devices)
            self._remember(batch.metrics, metrics, self._metrics)
            self._next_serial += len(batch)
            self._last_batch = max(self._last_batch, batch.number)
            self._untidy += len(batch.value)
        if self._untidy >= self._run_samples:
            self._tidy_beside()

    @staticmethod
    def _remember(names: list[str], ids: Ints, known: dict[str, int]) -> None:
        # Only now: ids given in a transaction that was rolled back must not be used again.
        known.update(zip(names, ids.tolist(), strict=True))

    def forget_after(self, batch_number: int) -> None:
        if batch_number >= self._last_batch:
            return
        with self._moving, self._appending:
            with self._transaction("forget") as cursor:
                _delete_batches(cursor, "batch > ?", batch_number)
                cursor.execute("UPDATE tidied SET batch = least(batch, ?)", [batch_number])
            self._last_batch = batch_number

    def expire(self, before_at: int) -> int:
        # In slices of device time, so that the log of one transaction stays small.
        gone = 0
        while (oldest := self._oldest_before(before_at)) is not None:
            until = min(before_at, oldest + 6 * 3_600_000)
            with self._moving, self._transaction("expire") as cursor:
                cursor.execute("DELETE FROM sample WHERE at_ms < ?", [until])
                gone += int(cursor.execute("DELETE FROM message WHERE at_ms < ?", [until]).fetchall()[0][0])
        return gone

    def _oldest_before(self, before_at: int) -> int | None:
        (oldest,) = self._one("SELECT min(at_ms) FROM message WHERE at_ms < ?", before_at)
        return oldest

    # --- sorting what has come -----------------------------------------------------------------------------------

    def _tidy_beside(self) -> None:
        if self._tidying is None or not self._tidying.is_alive():
            self._tidying = threading.Thread(target=self._tidy_and_survive, name="telemetry-tidy", daemon=True)
            self._tidying.start()

    def _tidy_and_survive(self) -> None:
        try:
            self.tidy()
        except TelemetryUnavailable as error:
            log.warning("telemetry stays unsorted for now: %s", error)

    def tidy(self) -> None:
        """Sort what came since the last run by device, so that reading one device skips the others."""
        with self._moving:
            with self._appending:
                until, batch, samples = self._next_serial, self._last_batch, self._untidy
            with self._transaction("tidy") as cursor:
                below = cursor.execute("SELECT serial FROM tidied").fetchall()[0][0]
                for table, order in SORTED_BY.items():
                    rows = f"{table} WHERE serial >= {below:d} AND serial < {until:d}"
                    cursor.execute(f"CREATE TEMP TABLE run AS FROM {rows} ORDER BY {order}")
                    cursor.execute(f"DELETE FROM {rows}")  # noqa: S608  (table names of our own and integers)
                    cursor.execute(f"INSERT INTO {table} FROM run; DROP TABLE run")
                cursor.execute("UPDATE tidied SET serial = ?, batch = ?", [until, batch])
            with self._appending:
                self._untidy -= samples

    # --- reading -------------------------------------------------------------------------------------------------

    def find(self, names: Sequence[Name]) -> dict[Name, Message]:
        known = [name for name in names if name[0] in self._devices]
        found: dict[Name, Message] = {}
        with self._reading() as cursor:
            for start_at, end_at in spans([name[4] for name in known], gap_ms=3_600_000):
                here = [name for name in known if start_at <= name[4] < end_at]
                for message in self._find_between(cursor, here, start_at, end_at):
                    found[(*message.name, message.body.at)] = message
        return found

    def _find_between(
        self, cursor: duckdb.DuckDBPyConnection, names: list[Name], start_at: int, end_at: int
    ) -> Iterator[Message]:
        columns = np.array([(self._devices[name[0]], *name[1:]) for name in names], dtype=np.int64).T
        wanted = pa.table(dict(zip(("device", "generation", "boot", "seq", "at_ms"), columns, strict=True)))
        cursor.register("wanted", wanted)
        heads = _columns(
            cursor,
            "SELECT message.* FROM message SEMI JOIN wanted USING (device, generation, boot, seq, at_ms) "
            "WHERE at_ms >= ? AND at_ms < ? ORDER BY serial",
            start_at, end_at,
        )  # fmt: skip
        cursor.register("serials", pa.table({"serial": heads["serial"]}))
        samples = _columns(
            cursor,
            "SELECT sample.serial, metric, value FROM sample SEMI JOIN serials USING (serial) "
            "WHERE at_ms >= ? AND at_ms < ? ORDER BY serial, metric",
            start_at, end_at,
        )  # fmt: skip
        return self._batch(0, heads, samples).messages()

    def replay(self, after: int) -> Iterator[Batch]:
        with self._reading() as cursor:
            stored = cursor.execute(
                "SELECT batch, min(serial), max(serial) FROM message WHERE batch > ? GROUP BY batch ORDER BY batch",
                [after],
            ).fetchall()
        for chunk in _chunks(stored, rows=20_000):
            yield from self._replay_chunk(chunk)

    def _replay_chunk(self, chunk: list[tuple[int, int, int]]) -> Iterator[Batch]:
        first, last = min(low for _, low, _ in chunk), max(high for _, _, high in chunk)
        with self._reading() as cursor:
            heads = _columns(
                cursor,
                "FROM message WHERE serial BETWEEN ? AND ? AND batch BETWEEN ? AND ? ORDER BY batch, serial",
                first, last, chunk[0][0], chunk[-1][0],
            )  # fmt: skip
            samples = _columns(
                cursor,
                "SELECT serial, metric, value FROM sample WHERE serial BETWEEN ? AND ? ORDER BY serial, metric",
                first, last,
            )  # fmt: skip
        edges = np.flatnonzero(np.diff(heads["batch"], prepend=-1, append=-1))
        for start, end in pairwise(edges.tolist()):
            part = {name: column[start:end] for name, column in heads.items()}
            low, high = np.searchsorted(samples["serial"], [part["serial"][0], part["serial"][-1] + 1])
            yield self._batch(int(part["batch"][0]), part, {name: column[low:high] for name, column in samples.items()})

    def series(self, device_id: str, metric: str, start_at: int, end_at: int, max_points: int = 2000) -> Series:
        where = "FROM sample WHERE device = ? AND metric = ? AND at_ms >= ? AND at_ms < ?"
        place = (self._devices.get(device_id, -1), self._metrics.get(metric, -1), start_at, end_at)
        with self._reading() as cursor:
            few = _columns(cursor, f"SELECT at_ms, value, serial {where} LIMIT {max_points + 1:d}", *place)
            if len(few["at_ms"]) <= max_points:
                order = np.lexsort((few["serial"], few["at_ms"]))
                return Series.raw(few["at_ms"][order], few["value"][order])
            bucket_ms = -(-(end_at - start_at) // max_points)
            found = _columns(
                cursor,
                f"SELECT (at_ms - {start_at:d}) // {bucket_ms:d} AS bucket, min(value) AS low, avg(value) AS mean, "
                f"max(value) AS high, count(*) AS n {where} GROUP BY bucket ORDER BY bucket",
                *place,
            )
        low, high = found["low"], found["high"]
        # A sum of enormous values may overflow; their mean still lies between the lowest and the highest.
        mean = np.clip(found["mean"], low, high)
        return Series(bucket_ms, start_at + found["bucket"] * bucket_ms, low, mean, high, found["n"])

    def messages(self, device_id: str, start_at: int, end_at: int, limit: int = 10_000) -> list[Message]:
        return self._messages(
            device_id, "at_ms >= ? AND at_ms < ? ORDER BY at_ms, boot, seq LIMIT ?", start_at, end_at, limit
        )

    def history(self, start_at: int, end_at: int) -> Iterator[Batch]:
        return in_slices(self._history, start_at, end_at)

    def _history(self, start_at: int, end_at: int) -> Batch:
        here = start_at, end_at
        with self._reading() as cursor:
            heads = _columns(cursor, "FROM message WHERE at_ms >= ? AND at_ms < ? ORDER BY batch, serial", *here)
            samples = _columns(
                cursor,
                "SELECT serial, metric, value FROM sample WHERE at_ms >= ? AND at_ms < ? ORDER BY serial, metric",
                *here,
            )
        return self._batch(0, heads, samples)

    def latest(self, device_id: str) -> Message | None:
        found = self._messages(device_id, "what = 0 ORDER BY at_ms DESC, boot DESC, seq DESC LIMIT 1")
        return found[0] if found else None

    def starts(self, device_id: str, start_at: int, end_at: int) -> int:
        place = self._devices.get(device_id, -1), int(What.STARTED), start_at, end_at
        with self._reading() as cursor:
            found = _columns(
                cursor, "SELECT count(*) AS n FROM message WHERE device = ? AND what = ? AND at_ms >= ? AND at_ms < ?",
                *place,
            )  # fmt: skip
        return int(found["n"][0])

    def metrics(self, device_id: str) -> list[str]:
        measured: set[str] = set()
        for message in self._messages(device_id, "what = 0 ORDER BY at_ms DESC LIMIT 100"):
            measured.update(getattr(message.body, "values", ()))
        return sorted(measured)

    def _messages(self, device_id: str, which: str, *values: int) -> list[Message]:
        device = self._devices.get(device_id, -1)
        with self._reading() as cursor:
            heads = _columns(cursor, f"FROM message WHERE device = ? AND {which}", device, *values)
            if not len(heads["serial"]):
                return []
            at, serial = heads["at_ms"], heads["serial"]
            samples = _columns(
                cursor,
                "SELECT serial, metric, value FROM sample WHERE device = ? AND at_ms BETWEEN ? AND ? "
                "AND serial BETWEEN ? AND ? ORDER BY serial, metric",
                device, at.min(), at.max(), serial.min(), serial.max(),
            )  # fmt: skip
        return list(self._batch(0, heads, samples).messages())

    def _batch(self, number: int, heads: Columns, samples: Columns) -> Batch:
        """Rows as a batch again: heads in their order, samples to the heads that are there."""
        device_ids, device = _localised(heads["device"], self._devices)
        order = np.argsort(heads["serial"], kind="stable")
        place = np.searchsorted(heads["serial"][order], samples["serial"])
        here = np.isin(samples["serial"], heads["serial"])
        metrics, metric = _localised(samples["metric"][here], self._metrics)
        detail = [None if text is None else msgspec.json.decode(text) for text in heads["detail"].tolist()]
        whole = {name: heads[name].astype(np.int64) for name in ("generation", "boot", "seq", "what", "state")}
        return Batch(
            number, device_ids, metrics, device, whole["generation"], whole["boot"], whole["seq"], heads["at_ms"],
            heads["received_ms"], whole["what"], whole["state"], heads["late"], detail,
            order[place[here]].astype(np.int64), metric, samples["value"][here],
        )  # fmt: skip

    def close(self) -> None:
        tidying = self._tidying
        if tidying is not None:
            tidying.join()
        with self._moving, self._appending:
            self._db.close()

    # --- cursors -------------------------------------------------------------------------------------------------

    @contextmanager
    def _reaching(self, what: str) -> Iterator[None]:
        try:
            yield
        except WORLD_FAULTS as error:
            if "lock" in str(error) and what == "open":
                raise TelemetryUnavailable(
                    f"{self._path} is in use by another process, and a DuckDB file belongs to one process at a time "
                    f"(several processes need influxdb:): {error}"
                ) from error
            raise TelemetryUnavailable(f"cannot {what} in DuckDB file {self._path}: {error}") from error

    @contextmanager
    def _transaction(self, what: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor whose work is kept as a whole or not at all: closing it without commit rolls back."""
        with self._reaching(what), self._db.cursor() as cursor:
            cursor.execute("BEGIN")
            yield cursor
            cursor.execute("COMMIT")

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor that sees one state of the file, whatever is written or sorted meanwhile."""
        with self._transaction("read") as cursor:
            yield cursor


def _columns(cursor: duckdb.DuckDBPyConnection, sql: str, *values: int) -> Columns:
    table = cursor.sql(sql, params=[int(value) for value in values]).to_arrow_table()
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _ids(cursor: duckdb.DuckDBPyConnection, table: str, known: dict[str, int], names: list[str]) -> Ints:
    """The small integers these names stand for; new ones are given and stored."""
    new = [name for name in names if name not in known]
    ids = {**known, **{name: len(known) + n for n, name in enumerate(new)}} if new else known
    if new:
        cursor.executemany(f"INSERT INTO {table} VALUES (?, ?)", [(ids[name], name) for name in new])  # noqa: S608
    return np.array([ids[name] for name in names], dtype=np.int64)


def _append(cursor: duckdb.DuckDBPyConnection, batch: Batch, serial: Ints, devices: Ints, metrics: Ints) -> None:
    device = devices[batch.device].astype(np.int32)
    detail = [None if one is None else msgspec.json.encode(one).decode() for one in batch.detail]
    # DuckDB finds these tables by the names of the variables, which costs a third of registering them.
    heads = pa.table({  # noqa: F841
        "serial": serial, "batch": np.full(len(batch), batch.number), "device": device, "generation": batch.generation,
        "boot": batch.boot, "seq": batch.seq, "at_ms": batch.at, "received_ms": batch.received_at,
        "what": batch.what.astype(np.int8), "state": batch.state.astype(np.int8), "late": batch.late,
        "detail": pa.array(detail, pa.string()),
    })  # fmt: skip
    cursor.execute("INSERT INTO message FROM heads")
    if len(batch.value):
        row = batch.row
        metric = metrics[batch.metric].astype(np.int32)
        samples = pa.table({  # noqa: F841
            "serial": serial[row], "device": device[row], "metric": metric, "at_ms": batch.at[row],
            "value": batch.value,
        })  # fmt: skip
        cursor.execute("INSERT INTO sample FROM samples")


def _delete_batches(cursor: duckdb.DuckDBPyConnection, which: str, number: int) -> None:
    """A batch's serials are contiguous, but a batch stored again has newer ones than its successors."""
    ranges = cursor.execute(
        f"SELECT min(serial), max(serial) FROM message WHERE {which} GROUP BY batch ORDER BY 1",  # noqa: S608
        [number],
    ).fetchall()
    if not ranges:
        return
    edges = np.array(ranges, dtype=np.int64)
    breaks = np.flatnonzero(edges[1:, 0] != edges[:-1, 1] + 1)
    for low, high in zip(edges[[0, *(breaks + 1)], 0], edges[[*breaks, -1], 1], strict=True):
        cursor.execute("DELETE FROM sample WHERE serial BETWEEN ? AND ?", [int(low), int(high)])
    cursor.execute(f"DELETE FROM message WHERE {which}", [number])  # noqa: S608


def _localised(ids: np.ndarray, known: dict[str, int]) -> tuple[list[str], Ints]:
    """Names in the order of first appearance, and where each row's name stands among them."""
    distinct, first, place = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    names = list(known)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return [names[i] for i in distinct[order].tolist()], rank[place].astype(np.int64)


def _chunks(stored: list[tuple[int, int, int]], rows: int) -> Iterator[list[tuple[int, int, int]]]:
    total = np.cumsum([high - low + 1 for _, low, high in stored]) // rows
    for _, chunk in groupby(zip(total.tolist(), stored, strict=True), key=lambda pair: pair[0]):
        yield [entry for _, entry in chunk]
