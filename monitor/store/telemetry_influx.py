"""Telemetry in InfluxDB, for many processes: written by influxdb-client, read by InfluxQL over /query (v1, v2, v3).

Layout: a message is one point of `message`, tagged with its device, its values as fields `v:METRIC` beside its name
(boot, seq, …) as integer fields. Its timestamp is `at` in ns + seq modulo 10^6: two messages of one millisecond stay
two, and the same message overwrites itself. A batch is complete when its point in `journal` is there, written last;
that point says at which times the batch's messages lie, since nothing here can be looked up by batch number.
"""

# ruff: noqa: S608  (InfluxQL has no parameters for names: what strangers wrote goes through _identifier, the rest are integers)

import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple

import msgspec
import numpy as np
import urllib3
from influxdb_client.client.exceptions import InfluxDBError
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision

from monitor.readings import EVENTS, STATES, Batch, Event, Message, Reading, What
from monitor.store.telemetry import (
    Name,
    Series,
    TelemetryRefused,
    TelemetryUnavailable,
    in_slices,
    refuse_what_is_no_number,
    spans,
)
from monitor.store.telemetry_address import InfluxAddress

# What InfluxDB will never take. Anything else (401 and 404 too: a wrong password, a missing database) is put right
# by people while the data waits.
REFUSALS = (400, 413, 422)
CONNECT_S, ANSWER_S = 3.0, 30.0
LINES_A_WRITE = 5_000
JOURNAL_PAGE = 1_000
STATEMENTS_A_QUERY = 200
NS = 1_000_000  # nanoseconds in a millisecond

HEAD = ("generation", "boot", "seq", "received_at", "what", "state", "batch", "row", "run", "late", "owner", "detail")
_UNSAFE = re.compile(r"""[\x00-\x1f\x7f-\x9f"'\\%,=\u2028\u2029]""")


class _Table(NamedTuple):
    """One series of an answer: rows of values under columns."""

    columns: list[str]
    rows: list[list[Any]]


class _Entry(NamedTuple):
    """One stored batch as the journal has it."""

    number: int
    run: int
    messages: int
    spans: list[tuple[int, int]]


class _Series(msgspec.Struct):
    columns: list[str]
    values: list[list[Any]] = []


class _Result(msgspec.Struct):
    series: list[_Series] = []
    error: str = ""
    partial: bool = False


class _Answer(msgspec.Struct):
    results: list[_Result] = []
    error: str = ""


class InfluxTelemetry:
    """See monitor.store.telemetry.Telemetry. Threads may use one object. Nothing is asked of the server before use."""

    def __init__(self, address: InfluxAddress, owner: str = "") -> None:
        self._address = address
        self._owner = owner
        # Tells what this process stores from what an earlier one stored under the same batch number and forgot.
        self._run = secrets.randbits(53)
        self._forgotten_after: int | None = None
        basic = f"{address.user}:{address.password}" if address.user else ""
        self._client = InfluxDBClient(
            address.base, token=basic or address.token, org=address.org, auth_basic=bool(basic),
            timeout=(int(CONNECT_S * 1000), int(ANSWER_S * 1000)), enable_gzip=False,
        )  # fmt: skip
        self._write = self._client.write_api(write_options=SYNCHRONOUS)
        self._http = urllib3.PoolManager(
            retries=False,
            maxsize=16,
            timeout=urllib3.Timeout(connect=CONNECT_S, read=ANSWER_S),
            headers=_sign_in(address),
        )

    # --- writing -------------------------------------------------------------------------------------------------

    def store(self, batch: Batch) -> None:
        refuse_what_is_no_number(batch)
        if not len(batch):
            return
        lines = _lines(batch, f'batch={batch.number}i,run={self._run}i,owner="{_text(self._owner)}"')
        with self._reaching("write"):
            for start in range(0, len(lines), LINES_A_WRITE):
                self._put("\n".join(lines[start : start + LINES_A_WRITE]))
            self._put(self._journal_line(batch))
        if self._forgotten_after is not None:
            self._forgotten_after = max(self._forgotten_after, batch.number)

    def _put(self, lines: str) -> None:
        self._write.write(self._address.database, record=lines.encode(), write_precision=WritePrecision.NS)  # type: ignore[arg-type]

    def _journal_line(self, batch: Batch) -> str:
        places = msgspec.json.encode(spans(batch.at.tolist(), gap_ms=600_000)).decode()
        at = int(batch.received_at.max()) * NS + batch.number % NS
        return (
            f"journal,owner=o:{_key(self._owner)} number={batch.number}i,run={self._run}i,count={len(batch)}i,"
            f'spans="{places}" {at}'
        )

    def forget_after(self, batch_number: int) -> None:
        # Deleting single points is slow here and not possible in v3. They stay until their messages, which were
        # never acknowledged, come again and overwrite them; until then no replay gives them.
        self._forgotten_after = batch_number

    def expire(self, before_at: int) -> int:
        place = f"time < {before_at * NS:d}"
        counted = self._one(f'SELECT count("batch") FROM "message" WHERE {place}')
        self._ask([f'DELETE FROM "message" WHERE {place}', f'DELETE FROM "journal" WHERE {place}'])
        return int(counted.rows[0][1]) if counted.rows else 0

    # --- reading -------------------------------------------------------------------------------------------------

    def find(self, names: Sequence[Name]) -> dict[Name, Message]:
        wanted = set(names)
        found: dict[Name, Message] = {}
        for table in self._ask(list(_statements_to_find(names))):
            for message in _messages(table):
                name = (*message.name, message.body.at)
                if name in wanted:
                    found[name] = message
        return found

    def replay(self, after: int) -> Iterator[Batch]:
        entries = sorted(self._journal(after), key=lambda entry: entry.number)
        for chunk in _chunks(entries, messages=50_000):
            yield from self._replay_chunk(chunk)

    def _journal(self, after: int) -> Iterable[_Entry]:
        """The batches above a number, each as it was stored last: newest entries first, page by page."""
        entries: dict[int, _Entry] = {}
        mine = f"\"owner\" = 'o:{_identifier(self._owner)}'"
        offset, more = 0, True
        while more:
            page = self._one(
                f'SELECT "number", "run", "count", "spans" FROM "journal" WHERE {mine} '
                f"ORDER BY time DESC LIMIT {JOURNAL_PAGE} OFFSET {offset}"
            ).rows
            for _, number, run, count, places in page:
                if after < number and (self._forgotten_after is None or number <= self._forgotten_after):
                    entries.setdefault(number, _Entry(number, run, count, msgspec.json.decode(places)))
            # A page wholly at or below the number is old enough, even where the clock was set back once.
            more = len(page) == JOURNAL_PAGE and any(row[1] > after for row in page)
            offset += JOURNAL_PAGE
        return entries.values()

    def _replay_chunk(self, chunk: list[_Entry]) -> Iterator[Batch]:
        runs = {entry.number: entry.run for entry in chunk}
        batches: dict[int, dict[int, Message]] = {number: {} for number in runs}
        for start_at, end_at in _merged(place for entry in chunk for place in entry.spans):
            table = self._one(
                f'SELECT * FROM "message" WHERE {_between(start_at, end_at)} '
                f'AND "batch" >= {chunk[0].number:d} AND "batch" <= {chunk[-1].number:d}'
            )
            for mark, message in zip(_marks(table), _messages(table), strict=True):
                if mark.run == runs.get(mark.batch) and mark.owner == self._owner:
                    batches[mark.batch][mark.row] = message
        for number, rows in batches.items():
            if rows:
                yield Batch.of(number, [rows[row] for row in sorted(rows)])

    def series(self, device_id: str, metric: str, start_at: int, end_at: int, max_points: int = 2000) -> Series:
        field = f'"v:{_identifier(metric)}"'
        place = f'FROM "message" WHERE {_of(device_id)} AND {_between(start_at, end_at)}'
        few = self._one(f"SELECT {field} {place} LIMIT {max_points + 1:d}").rows
        if len(few) <= max_points:
            at = np.array([time // NS for time, _ in few], dtype=np.int64)
            return Series.raw(at, np.array([value for _, value in few], dtype=np.float64))
        bucket_ms = -(-(end_at - start_at) // max_points)
        found = self._one(
            f"SELECT min({field}), mean({field}), max({field}), count({field}) {place} "
            f"GROUP BY time({bucket_ms:d}ms, {start_at % bucket_ms:d}ms) fill(none)"
        ).rows
        time, low, mean, high, count = (np.array(column) for column in zip(*found, strict=True))
        at = time.astype(np.int64) // NS
        low, mean, high = (column.astype(np.float64) for column in (low, mean, high))
        return Series(bucket_ms, at, low, np.clip(mean, low, high), high, count.astype(np.int64))

    def messages(self, device_id: str, start_at: int, end_at: int, limit: int = 10_000) -> list[Message]:
        table = self._one(
            f'SELECT * FROM "message" WHERE {_of(device_id)} AND {_between(start_at, end_at)} LIMIT {limit:d}'
        )
        return sorted(_messages(table), key=lambda message: (message.body.at, message.body.boot, message.body.seq))

    def history(self, start_at: int, end_at: int) -> Iterator[Batch]:
        return in_slices(self._history, start_at, end_at)

    def _history(self, start_at: int, end_at: int) -> Batch:
        table = self._one(f'SELECT * FROM "message" WHERE {_between(start_at, end_at)}')
        placed = list(zip(_marks(table), _messages(table), strict=True))
        # Owners number their batches each for itself: what puts them in one order is when they were heard.
        heard: dict[tuple[str, int, int], int] = {}
        for mark, message in placed:
            batch = (mark.owner, mark.run, mark.batch)
            heard[batch] = max(heard.get(batch, 0), message.received_at)
        placed.sort(key=lambda pair: (heard[pair[0].owner, pair[0].run, pair[0].batch], *pair[0]))
        return Batch.of(0, [message for _, message in placed])

    def latest(self, device_id: str) -> Message | None:
        return next(iter(self._latest(device_id, 1)), None)

    def starts(self, device_id: str, start_at: int, end_at: int) -> int:
        counted = self._one(
            f'SELECT count("batch") FROM "message" WHERE {_of(device_id)} AND {_between(start_at, end_at)} '
            f'AND "what" = {What.STARTED:d}'
        )
        return int(counted.rows[0][1]) if counted.rows else 0

    def metrics(self, device_id: str) -> list[str]:
        measured: set[str] = set()
        for message in self._latest(device_id, 100):
            measured.update(getattr(message.body, "values", ()))
        return sorted(measured)

    def _latest(self, device_id: str, limit: int) -> Iterator[Message]:
        return _messages(
            self._one(
                f'SELECT * FROM "message" WHERE {_of(device_id)} AND "what" = 0 ORDER BY time DESC LIMIT {limit:d}'
            )
        )

    def close(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]
        self._http.clear()

    # --- the wire ------------------------------------------------------------------------------------------------

    def _one(self, statement: str) -> _Table:
        return self._ask([statement])[0]

    def _ask(self, statements: list[str]) -> list[_Table]:
        """Each statement's answer: at most one series, since nothing here is grouped by tags."""
        tables: list[_Table] = []
        for start in range(0, len(statements), STATEMENTS_A_QUERY):
            part = statements[start : start + STATEMENTS_A_QUERY]
            answer = self._post(";".join(part))
            if len(answer.results) != len(part):
                raise TelemetryUnavailable(
                    f"{self._address!r} answered {len(answer.results)} of {len(part)} statements"
                )
            tables += [self._table(result) for result in answer.results]
        return tables

    def _post(self, text: str) -> _Answer:
        with self._reaching("read"):
            response = self._http.request(
                "POST", f"{self._address.base}/query",
                fields={"db": self._address.database, "epoch": "ns", "q": text}, encode_multipart=False,
            )  # fmt: skip
            if response.status != 200:
                raise self._fault("read", response.status, response.data.decode(errors="replace"))
            return msgspec.json.decode(response.data, type=_Answer)

    def _table(self, result: _Result) -> _Table:
        if result.error or result.partial:
            raise TelemetryUnavailable(f"{self._address!r} answered: {result.error or 'only a part of the rows'}")
        if not result.series:
            return _Table([], [])
        return _Table(result.series[0].columns, result.series[0].values)

    @contextmanager
    def _reaching(self, what: str) -> Iterator[None]:
        try:
            yield
        except InfluxDBError as error:
            status = getattr(error, "status", None) or 0
            raise self._fault(what, status, str(getattr(error, "body", None) or error.message)) from error
        except (urllib3.exceptions.HTTPError, OSError, msgspec.DecodeError) as error:
            raise TelemetryUnavailable(
                f"cannot {what} at {self._address!r}: {type(error).__name__}: {error}"
            ) from error

    def _fault(self, what: str, status: int, body: str) -> TelemetryRefused | TelemetryUnavailable:
        kind = TelemetryRefused if status in REFUSALS and what == "write" else TelemetryUnavailable
        return kind(f"cannot {what} at {self._address!r}: HTTP {status}: {body.strip()[:500]}")


def _sign_in(address: InfluxAddress) -> dict[str, str]:
    if address.user:
        return dict(urllib3.make_headers(basic_auth=f"{address.user}:{address.password}"))
    return {"Authorization": f"Token {address.token}"} if address.token else {}


def _lines(batch: Batch, common: str) -> list[str]:
    """A batch as line protocol. Text costs a sixth of what influxdb-client's Point does."""
    values: list[list[str]] = [[] for _ in range(len(batch))]
    fields = [f"v:{_key(metric)}=" for metric in batch.metrics]
    for row, metric, value in zip(batch.row.tolist(), batch.metric.tolist(), batch.value.tolist(), strict=True):
        values[row].append(f"{fields[metric]}{value!r}")
    devices = [_key(device_id) for device_id in batch.device_ids]
    stamp = batch.at * NS + batch.seq % NS
    columns = zip(
        batch.device.tolist(), batch.generation.tolist(), batch.boot.tolist(), batch.seq.tolist(),
        batch.received_at.tolist(), batch.what.tolist(), batch.state.tolist(), batch.late.tolist(), batch.detail,
        values, stamp.tolist(), strict=True,
    )  # fmt: skip
    return [
        f"message,device={devices[device]} generation={generation}i,boot={boot}i,seq={seq}i,received_at={received_at}i,"
        f'what={what}i,state={state}i,late={late},row={row}i,{common},detail="{_detail(detail)}"'
        f"{',' if measured else ''}{','.join(measured)} {at}"
        for row, (device, generation, boot, seq, received_at, what, state, late, detail, measured, at) in enumerate(
            columns
        )
    ]


def _detail(detail: dict[str, Any] | None) -> str:
    return "" if detail is None else _text(msgspec.json.encode(detail).decode())


def _text(value: str) -> str:
    """Inside the quotes of a string field."""
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _identifier(name: str) -> str:
    """A name from a stranger, as it is known to InfluxDB: what its two syntaxes use as signs is percent-encoded,
    because line protocol has no way to write every backslash. Letters of all scripts and spaces stay legible."""
    return _UNSAFE.sub(lambda sign: "".join(f"%{byte:02X}" for byte in sign[0].encode()), name)


def _key(name: str) -> str:
    """The same as a key or tag value in line protocol."""
    return _identifier(name).replace(" ", "\\ ")


def _name(identifier: str) -> str:
    return re.sub(r"(?:%[0-9A-F]{2})+", lambda run: bytes.fromhex(run[0].replace("%", "")).decode(), identifier)


def _of(device_id: str) -> str:
    return f"\"device\" = '{_identifier(device_id)}'"


def _between(start_at: int, end_at: int) -> str:
    return f"time >= {start_at * NS:d} AND time < {end_at * NS:d}"


def _statements_to_find(names: Sequence[Name]) -> Iterator[str]:
    for device_id, group in groupby(sorted(names), key=lambda name: name[0]):
        for start_at, end_at in spans([name[4] for name in group], gap_ms=60_000):
            yield f'SELECT * FROM "message" WHERE {_of(device_id)} AND {_between(start_at, end_at)}'


def _messages(table: _Table) -> Iterator[Message]:
    """Rows of `SELECT *` as messages. Columns of other devices' metrics are there too, and empty."""
    if not table.rows:
        return
    place = {name: n for n, name in enumerate(table.columns)}
    metrics = [(n, _name(name[2:])) for name, n in place.items() if name.startswith("v:")]
    device, *head = (place[name] for name in ("device", *HEAD[:6]))
    late, detail = place["late"], place["detail"]
    for row in table.rows:
        generation, boot, seq, received_at, what, state = (row[n] for n in head)
        at = row[0] // NS
        body: Reading | Event
        if what == What.READING:
            values = {name: float(row[n]) for n, name in metrics if row[n] is not None}
            body = Reading(boot, seq, at, STATES[state], values)  # type: ignore[arg-type]
        else:
            body = Event(boot, seq, at, EVENTS[what - 1], msgspec.json.decode(row[detail] or "{}"))  # type: ignore[arg-type]
        yield Message(_name(row[device]), generation, received_at, row[late], body)


class _Mark(NamedTuple):
    """Which place in which batch a point has, and who stored it there."""

    batch: int
    row: int
    run: int
    owner: str


def _marks(table: _Table) -> Iterator[_Mark]:
    if table.rows:
        place = [table.columns.index(name) for name in _Mark._fields]
        for row in table.rows:
            yield _Mark(*(row[n] for n in place))


def _merged(places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges without overlaps, so that nothing is read twice."""
    merged: list[tuple[int, int]] = []
    for start_at, end_at in sorted((start, end) for start, end in places):
        if merged and start_at <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end_at, merged[-1][1]))
        else:
            merged.append((start_at, end_at))
    return merged


def _chunks(entries: list[_Entry], messages: int) -> Iterator[list[_Entry]]:
    total = np.cumsum([entry.messages for entry in entries]) // messages
    for _, chunk in groupby(zip(total.tolist(), entries, strict=True), key=lambda pair: pair[0]):
        yield [entry for _, entry in chunk]
