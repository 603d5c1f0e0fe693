"""What every telemetry store promises, on each of them: DuckDB, DuckDB while it sorts all the time, InfluxDB."""

import itertools
import math
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.readings import EVENTS, STATES, Batch, Event, Message, Reading
from monitor.store.telemetry import (
    Name,
    Series,
    Telemetry,
    TelemetryRefused,
    TelemetryUnavailable,
    in_slices,
    spans,
)
from monitor.store.telemetry_address import influx_address
from monitor.store.telemetry_duckdb import DuckDBTelemetry
from monitor.store.telemetry_opening import open_telemetry
from tests.contract.influx import Influx

T0 = 1_763_864_000_000
NASTY = [
    "Volume Flow RateRMS", 'say "hi"', "a,b=c", "back\\slash\\", "\\,", "'; DROP DATABASE x; --", "冷却液温度", "100%",
    "%41", "tab\there", "new\nline", "time", "batch", "v:x", " edge ", "é\u2028",
]  # fmt: skip
numbers = itertools.count()

Open = Callable[[], Telemetry]


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    server = Influx(tmp_path_factory.mktemp("influx"))
    yield server
    server.close()


@pytest.fixture(params=["duckdb", "duckdb-sorting", "influxdb"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the store of this test, as often as asked: always the same data."""
    stores: list[Telemetry] = []
    if request.param == "influxdb":
        url = request.getfixturevalue("influx").database(f"contract_{next(numbers)}")
    else:
        url = f"duckdb:{tmp_path}/telemetry.duckdb"

    def make() -> Telemetry:
        if request.param == "duckdb-sorting":
            stores.append(DuckDBTelemetry(tmp_path / "telemetry.duckdb", run_samples=3))
        else:
            stores.append(open_telemetry(url))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Open) -> Telemetry:
    return opened()


def reading(
    seq: int, at: int = T0, device: str = "gen-1", late: bool = False, boot: int = 1, **values: float
) -> Message:
    return Message(device, 0, T0 + 90_000, late, Reading(boot, seq, at, "running", values))


def everything(store: Telemetry, device_id: str = "gen-1") -> list[Message]:
    return store.messages(device_id, 0, T0 * 2)


def name_of(message: Message) -> Name:
    return (*message.name, message.body.at)


# --- what goes in comes out ---------------------------------------------------------------------------------------

int64 = st.integers(-(2**63), 2**63 - 1)
count64 = st.integers(0, 2**63 - 1)
metric_names = st.one_of(st.sampled_from(NASTY), st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
values = st.dictionaries(metric_names, st.floats(allow_nan=False, allow_infinity=False), max_size=3)
details = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=9),
    st.none()
    | st.booleans()
    | int64
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.lists(st.integers(0, 9)),
    max_size=4,
)
moments = st.integers(T0 - 10**9, T0 + 10**9)
readings = st.builds(Reading, count64, count64, moments, st.sampled_from(STATES), values)
events = st.builds(Event, count64, count64, moments, st.sampled_from(EVENTS), details)
device_ids = st.sampled_from(["gen-1", "PUMP_2", "x" * 50])
messages = st.builds(
    Message, device_ids, st.integers(0, 2**31), count64.filter(lambda ms: ms < 2**42), st.booleans(), readings | events
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(messages, min_size=1, max_size=6, unique_by=lambda m: (m.device_id, m.body.at, m.body.seq % 10**6)))
def test_everything_comes_back_as_it_was(store: Telemetry, drawn: list[Message]) -> None:
    number = next(numbers)
    sent = [message._replace(device_id=f"{message.device_id}-{number}") for message in drawn]
    store.store(Batch.of(number, sent))
    (batch,) = store.replay(number - 1)
    assert batch.number == number
    assert list(batch.messages()) == sent
    assert store.find([name_of(message) for message in sent]) == {name_of(message): message for message in sent}
    of_one = [message for message in sent if message.device_id == sent[0].device_id]
    of_one.sort(key=lambda message: (message.body.at, message.body.boot, message.body.seq))
    assert everything(store, sent[0].device_id) == of_one


@pytest.mark.parametrize("metric", NASTY)
def test_a_metric_of_any_name_is_a_series_of_its_own(store: Telemetry, metric: str) -> None:
    message = Message("gen-1", 0, T0, False, Reading(1, 0, T0, "running", {metric: 1.5, "other": 2.0}))
    store.store(Batch.of(1, [message]))
    assert store.series("gen-1", metric, T0, T0 + 1).mean.tolist() == [1.5]
    assert store.metrics("gen-1") == sorted([metric, "other"])
    assert len(store.series("gen-1' OR 'a'='a", metric, T0, T0 + 1)) == 0
    assert len(store.series("gen-1", metric + "'", T0, T0 + 1)) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(store: Telemetry, value: float) -> None:
    with pytest.raises(TelemetryRefused, match="'temp' of 'gen-1'"):
        store.store(Batch.of(1, [reading(0, temp=value)]))
    assert everything(store) == []


# --- a batch again, a batch forgotten, a batch found --------------------------------------------------------------


def test_the_same_batch_again_changes_nothing(opened: Open) -> None:
    store = opened()
    batches = [Batch.of(n, [reading(2 * n, T0 + n, temp=n), reading(2 * n + 1, T0 + n, temp=-n)]) for n in range(4)]
    for batch in [*batches, batches[1], batches[3]]:
        store.store(batch)
    store.close()
    store = opened()
    store.store(batches[2])
    assert [list(batch.messages()) for batch in store.replay(-1)] == [list(batch.messages()) for batch in batches]
    assert len(everything(store)) == 8
    assert store.series("gen-1", "temp", 0, T0 * 2).count.sum() == 8


def test_two_messages_of_one_millisecond_stay_two(store: Telemetry) -> None:
    pair = [reading(7, temp=1), reading(8, temp=2)]
    store.store(Batch.of(1, pair))
    assert everything(store) == pair
    assert store.series("gen-1", "temp", T0, T0 + 1).mean.tolist() == [1, 2]


def test_replay_gives_batches_in_order_and_rows_as_they_were_stored(store: Telemetry) -> None:
    rng = np.random.default_rng(3)
    stored = []
    for number in range(1, 30):
        # Out of time order inside and across batches, devices interleaved; number 9 holds an old backlog.
        at = T0 - (10**9 if number == 9 else 0) + rng.permutation(20) * 1000
        rows = [reading(number * 20 + n, int(at[n]), f"gen-{n % 3}", late=number == 9, temp=n) for n in range(20)]
        stored.append(Batch.of(number, rows))
        store.store(stored[-1])
    again = list(store.replay(after=4))
    assert [batch.number for batch in again] == list(range(5, 30))
    assert [list(batch.messages()) for batch in again] == [list(batch.messages()) for batch in stored[4:]]
    assert again[0].device_ids == stored[4].device_ids
    assert list(store.replay(after=29)) == []


def test_history_gives_all_devices_slice_after_slice_in_the_order_of_storing(store: Telemetry) -> None:
    """Eleven hours at such a rate that slices grow, with an hour of nothing in between."""
    hour = 3_600_000
    stored = []
    for number in range(1, 40):
        start_at = T0 + number * hour // 4 + (hour if number > 20 else 0)
        rows = [
            reading(20 * number + n, start_at + 40_000 * (n ^ 1), f"gen-{n % 2}", temp=n)._replace(
                received_at=start_at + hour // 4
            )
            for n in range(20)
        ]
        stored += rows
        store.store(Batch.of(number, rows))
    start_at, end_at = stored[40].body.at, stored[-40].body.at

    slices = list(store.history(start_at, end_at))
    batches = [batch for batch in slices if len(batch)]

    assert 1 < len(batches) < 39
    found = [message for batch in batches for message in batch.messages()]
    expected = [message for message in stored if start_at <= message.body.at < end_at]
    # Where a slice ends, it cuts through the order of storing.
    assert sorted(found, key=stored.index) == expected
    for batch in batches:
        assert [*batch.messages()] == sorted(batch.messages(), key=stored.index)
        assert batch.number == 0
    edges = [(batch.at.min(), batch.at.max()) for batch in batches]
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(edges))
    assert [list(batch.messages()) for batch in store.history(T0 - 60_000, T0)] == [[]]


@pytest.mark.parametrize(("rate_ms", "slices"), [(1, range(20, 30)), (3_600_000, range(1, 80))])
def test_slices_hold_handy_numbers_of_messages(rate_ms: int, slices: range) -> None:
    """Twenty minutes of a message each millisecond, and a week of one an hour: neither one gulp, nor thousands."""
    read: list[tuple[int, int]] = []

    def between(start_at: int, end_at: int) -> Batch:
        read.append((start_at, end_at))
        number = (end_at - 1) // rate_ms - (start_at - 1) // rate_ms
        return Batch.of(0, [reading(0)]) if number < 2 else _long(number)

    whole = 1_200_000 if rate_ms == 1 else 7 * 86_400_000
    for batch in in_slices(between, T0, T0 + whole):
        assert len(batch) <= 60_000
    assert len(read) in slices
    assert (read[0][0], read[-1][1]) == (T0, T0 + whole)
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(read))


def _long(messages: int) -> Batch:
    one = Batch.of(0, [reading(0)])
    return replace(one, at=np.zeros(messages, dtype=np.int64))


def test_an_empty_batch_leaves_no_trace(store: Telemetry) -> None:
    store.store(Batch.of(5, []))
    assert list(store.replay(0)) == []


def test_forgotten_batches_come_again_under_other_numbers(opened: Open) -> None:
    store = opened()
    for number in range(1, 6):
        store.store(Batch.of(number, [reading(2 * number, temp=1), reading(2 * number + 1)]))
    store.store(Batch.of(2, [reading(4, temp=1), reading(5)]))
    store.close()
    store = opened()
    store.forget_after(3)
    assert [batch.number for batch in store.replay(0)] == [1, 2, 3]
    # What was in 4 and 5 is redelivered and heard later: one message of 5 alone first, then the others.
    again = {seq: reading(seq)._replace(received_at=T0 + 95_000) for seq in (8, 9, 10, 11)}
    store.store(Batch.of(4, [again[11]]))
    assert [list(batch.messages()) for batch in store.replay(3)] == [[again[11]]]
    store.store(Batch.of(5, [again[10], again[8], again[9]]))
    assert [m.body.seq for batch in store.replay(1) for m in batch.messages()] == [4, 5, 6, 7, 11, 10, 8, 9]
    assert [m.body.seq for m in everything(store)] == list(range(2, 12))


def test_find_knows_exactly_these_names(store: Telemetry) -> None:
    rows = [reading(seq, T0 + seq * 60_000, f"gen-{seq % 7}", boot=seq % 2, temp=seq) for seq in range(3000)]
    store.store(Batch.of(1, rows))
    wanted = [name_of(message) for message in rows[::2]]
    near = [
        ("gen-0", 0, 0, 0, T0 + 1),
        ("gen-0", 1, 0, 0, T0),
        ("gen-0", 0, 1, 0, T0),
        ("gen-9", 0, 0, 0, T0),
        ("?", 0, 0, 0, 0),
    ]
    assert store.find([*wanted, *near]) == {name_of(message): message for message in rows[::2]}
    assert store.find([]) == {}


# --- time --------------------------------------------------------------------------------------------------------


def test_ranges_are_half_open(store: Telemetry) -> None:
    rows = [reading(seq, T0 + seq, temp=seq) for seq in range(10)]
    store.store(Batch.of(1, rows))
    assert store.messages("gen-1", T0 + 2, T0 + 5) == rows[2:5]
    assert store.series("gen-1", "temp", T0 + 2, T0 + 5).at.tolist() == [T0 + 2, T0 + 3, T0 + 4]
    assert store.messages("gen-1", T0 + 2, T0 + 9, limit=3) == rows[2:5]
    assert store.messages("gen-1", T0 + 5, T0 + 5) == []


def test_latest_goes_by_the_devices_clock(store: Telemetry) -> None:
    newest = reading(90, T0 + 5_000, temp=90)
    stopped = Message("gen-1", 0, T0, False, Event(1, 91, T0 + 6_000, "stopped", {}))
    store.store(Batch.of(1, [newest, stopped, reading(0, T0 + 9_000, "gen-2")]))
    store.store(Batch.of(2, [reading(seq, T0 - 10**8 + seq, late=True, old=1) for seq in range(50)]))
    assert store.latest("gen-1") == newest
    assert store.latest("never-heard") is None
    assert store.metrics("never-heard") == []


def test_starts_are_counted_by_machine_and_time(store: Telemetry) -> None:
    said = ["start_requested", "started", "stopped", "start_requested", "start_failed", "started"]
    rows = [Message("gen-1", 0, T0, False, Event(1, n, T0 + n, name, {})) for n, name in enumerate(said)]  # type: ignore[arg-type]
    store.store(
        Batch.of(1, [*rows, reading(90, T0 + 3), Message("gen-2", 0, T0, False, Event(1, 1, T0, "started", {}))])
    )
    assert store.starts("gen-1", T0, T0 + 6) == 2
    assert (store.starts("gen-1", T0 + 1, T0 + 5), store.starts("gen-1", T0 + 2, T0 + 5)) == (1, 0)
    assert store.starts("never-heard", T0, T0 + 6) == 0


def test_expire_goes_by_device_time_and_counts(store: Telemetry) -> None:
    hour = 3_600_000
    rows = [reading(seq, T0 + seq * hour, temp=seq) for seq in range(20)]
    store.store(Batch.of(1, rows))
    assert store.expire(T0 + 12 * hour) == 12
    assert store.expire(T0 + 12 * hour) == 0
    assert everything(store) == rows[12:]
    assert store.series("gen-1", "temp", 0, T0 * 2).mean.tolist() == list(range(12, 20))
    assert store.expire(T0 * 2) == 8
    assert store.latest("gen-1") is None


# --- series -------------------------------------------------------------------------------------------------------


def buckets(samples: list[tuple[int, float]], start_at: int, end_at: int, points: int) -> list[tuple[float, ...]]:
    """Down-sampling as one would do it by hand: (at, low, mean, high, count) for each bucket."""
    inside = [(at, value) for at, value in samples if start_at <= at < end_at]
    if len(inside) <= points:
        return [(at, value, value, value, 1) for at, value in sorted(inside)]
    width = math.ceil((end_at - start_at) / points)
    found = []
    for edge in range(start_at, end_at, width):
        here = [value for at, value in inside if edge <= at < edge + width]
        if here:
            found.append((edge, min(here), sum(here) / len(here), max(here), len(here)))
    return found


def as_rows(series: Series) -> list[tuple[float, ...]]:
    columns = (series.at, series.low, series.mean, series.high, series.count)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("points", [1, 2, 7, 100, 299, 300, 2000])
def test_series_are_what_one_would_compute_by_hand(store: Telemetry, points: int) -> None:
    rng = np.random.default_rng(points)
    # Half a day with a hole in it, in the order of arrival, beside another device and another metric.
    at = T0 + rng.choice(43_200_000, 300, replace=False)
    at = at[(at < T0 + 10_000_000) | (at > T0 + 15_000_000)]
    samples = [(int(moment), round(float(rng.normal(50, 9)), 2)) for moment in at]
    rows = [reading(seq, moment, temp=value, rpm=1.0) for seq, (moment, value) in enumerate(samples)]
    rows += [reading(seq, moment, "gen-2", temp=-1.0) for seq, (moment, _) in enumerate(samples)]
    store.store(Batch.of(1, rows))
    for start_at, end_at in [(T0, T0 + 43_200_000), (T0 + 1_234_567, T0 + 30_000_001), (T0 - 7, T0 + 3)]:
        found = store.series("gen-1", "temp", start_at, end_at, max_points=points)
        by_hand = buckets(samples, start_at, end_at, points)
        assert len(found) <= points
        assert [row[::4] for row in as_rows(found)] == [row[::4] for row in by_hand]
        np.testing.assert_allclose(as_rows(found) or [()], by_hand or [()], rtol=1e-12)
        inside = sum(start_at <= moment < end_at for moment, _ in samples)
        assert (found.bucket_ms == 0) == (inside <= points)


def test_the_mean_lies_between_low_and_high_where_the_sum_overflows(tmp_path: Path) -> None:
    store = open_telemetry(f"duckdb:{tmp_path}/x.duckdb")
    store.store(Batch.of(1, [reading(seq, T0 + seq, temp=1.7e308) for seq in range(3)]))
    found = store.series("gen-1", "temp", T0, T0 + 3, max_points=1)
    assert as_rows(found) == [(T0, 1.7e308, 1.7e308, 1.7e308, 3)]
    store.close()


# --- many at once, and after a stop -------------------------------------------------------------------------------


def test_readers_read_while_one_writes(store: Telemetry) -> None:
    counts: list[list[int]] = [[], []]
    done = threading.Event()

    def read(seen: list[int]) -> None:
        while not done.is_set():
            seen.append(len(everything(store)))
            store.series("gen-1", "temp", 0, T0 * 2, max_points=5)

    readers = [threading.Thread(target=read, args=(seen,)) for seen in counts]
    for reader in readers:
        reader.start()
    for number in range(30):
        store.store(
            Batch.of(number, [reading(number * 10 + n, T0 + number * 10 + n, temp=n, rpm=1) for n in range(10)])
        )
    done.set()
    for reader in readers:
        reader.join()
    for seen in counts:
        assert seen
        assert seen == sorted(seen)
        # InfluxDB shows a batch while it is being written; DuckDB shows whole ones.
        assert not isinstance(store, DuckDBTelemetry) or all(count % 10 == 0 for count in seen)
    assert len(everything(store)) == 300


def test_what_was_stored_is_there_after_a_restart(opened: Open) -> None:
    store = opened()
    rows = [reading(seq, T0 + seq, f"gen-{seq % 2}", **{f"m{seq}": seq}) for seq in range(6)]
    store.store(Batch.of(1, rows[:3]))
    store.close()
    store = opened()
    store.store(Batch.of(2, rows[3:]))
    store.close()
    assert [m for batch in opened().replay(0) for m in batch.messages()] == rows


WRITER = """
import sys, itertools
from pathlib import Path
from monitor.readings import Batch, Message, Reading
from monitor.store.telemetry_duckdb import DuckDBTelemetry
store = DuckDBTelemetry(Path(sys.argv[1]), run_samples=2000)
for number in itertools.count():
    said = [Reading(1, number * 50 + n, 1_763_864_000_000 + number, "running", {"a": n, "b": 1}) for n in range(50)]
    store.store(Batch.of(number, [Message(f"gen-{body.seq % 5}", 0, 1, False, body) for body in said]))
    print(number, flush=True)
"""


@pytest.mark.parametrize("after", [3, 120])
def test_a_killed_writer_leaves_whole_batches(tmp_path: Path, after: int) -> None:
    path = tmp_path / "telemetry.duckdb"
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = [child.stdout.readline() for _ in range(after)]
    with pytest.raises(TelemetryUnavailable, match=r"in use by another process.*influxdb:"):
        open_telemetry(f"duckdb:{path}")
    child.send_signal(signal.SIGKILL)
    said += child.stdout.readlines()
    child.wait()
    child.stdout.close()
    store = open_telemetry(f"duckdb:{path}")
    batches = list(store.replay(-1))
    confirmed = max(int(line) for line in said if line.endswith("\n"))
    assert [batch.number for batch in batches] == list(range(len(batches)))
    assert len(batches) > confirmed
    for batch in batches:
        seqs = [message.body.seq for message in batch.messages()]
        assert seqs == list(range(batch.number * 50, batch.number * 50 + 50))
        assert len(batch.value) == 100
    store.close()


def test_sorting_makes_the_log_go_into_the_file(tmp_path: Path) -> None:
    """A read left half done would keep every later checkpoint from happening, and the log would grow for ever."""
    store = DuckDBTelemetry(tmp_path / "x.duckdb", run_samples=20_000)
    for number in range(40):
        rows = [reading(number * 500 + n, T0 + number, f"gen-{n}", a=n, b=1, c=2, d=3, e=4, f=5) for n in range(500)]
        store.store(Batch.of(number, rows))
        store.latest("gen-1")
        store.expire(T0 - 1)
    log = tmp_path / "x.duckdb.wal"
    assert not log.exists() or log.stat().st_size < 20_000_000
    assert len(list(store.replay(-1))) == 40
    store.close()


# --- the world fails ----------------------------------------------------------------------------------------------


def test_a_stopped_influxdb_is_unavailable_and_then_goes_on(tmp_path: Path) -> None:
    server = Influx(tmp_path / "influx")
    url = server.database("here")
    store = open_telemetry(url)
    store.store(Batch.of(1, [reading(0, temp=1)]))
    server.stop()
    with pytest.raises(TelemetryUnavailable, match=r"cannot write at .*/here"):
        store.store(Batch.of(2, [reading(1, temp=2)]))
    with pytest.raises(TelemetryUnavailable, match="cannot read"):
        store.latest("gen-1")
    server.start()
    store.store(Batch.of(2, [reading(1, temp=2)]))
    assert [batch.number for batch in store.replay(0)] == [1, 2]
    store.close()
    server.close()
    with pytest.raises(TelemetryUnavailable):
        open_telemetry(url).store(Batch.of(3, [reading(2)]))


def test_a_missing_database_holds_data_back_and_bad_data_is_refused(influx: Influx) -> None:
    missing = open_telemetry(f"influxdb:{influx.base}/nowhere")
    with pytest.raises(TelemetryUnavailable, match="404"):
        missing.store(Batch.of(1, [reading(0)]))
    store = open_telemetry(influx.database("refusing"))
    with pytest.raises(TelemetryRefused, match="400"):
        store.store(Batch.of(1, [reading(0, device="x" * 70_000)]))
    missing.close()
    store.close()


def test_each_owner_replays_its_own_batches(influx: Influx) -> None:
    url = influx.database("owners")
    one, two = open_telemetry(url, owner="ingest 1"), open_telemetry(url, owner="ingest 2")
    one.store(Batch.of(1, [reading(0, device="gen-1")]))
    two.store(Batch.of(1, [reading(0, device="gen-2")]))
    assert [m.device_id for batch in one.replay(0) for m in batch.messages()] == ["gen-1"]
    assert [m.device_id for batch in two.replay(0) for m in batch.messages()] == ["gen-2"]
    assert two.latest("gen-1") is not None
    one.close()
    two.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("influx://db", "the scheme must be duckdb: or influxdb:"),
        ("/some/path", "the scheme must be duckdb: or influxdb:"),
        ("duckdb:", "names no file"),
        ("influxdb:http://db:8086", "must name one database"),
        ("influxdb:db/telemetry", "must be influxdb:http://host:port/database"),
        ("influxdb:http://db:x/telemetry?token=secret", "port"),
        ("influxdb:http://db/telemetry?tokn=secret", "'tokn': allowed are org, password_file, token, token_file"),
        ("influxdb:http://db/telemetry?token_file=/nowhere/at/all", "token_file .* cannot be read: No such file"),
    ],
)
def test_a_wrong_address_says_what_is_allowed_and_no_secret(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        open_telemetry(url)
    assert "secret" not in str(error.value)


def test_secrets_come_from_files_and_stay_out_of_sight(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n", encoding="utf-8")
    by_token = influx_address(f"https://db:8086/telemetry?org=acme&token_file={tmp_path}/token")
    by_user = influx_address(f"http://me@db/telemetry?password_file={tmp_path}/token")
    assert (by_token.base, by_token.database, by_token.org, by_token.token) == (
        "https://db:8086",
        "telemetry",
        "acme",
        "s3cret",
    )
    assert (by_user.base, by_user.user, by_user.password) == ("http://db", "me", "s3cret")
    assert "s3cret" not in repr(by_token) + str(by_user)


@given(st.lists(st.integers(0, 500)), st.integers(1, 50))
def test_spans_hold_every_moment_and_skip_every_gap(at: list[int], gap_ms: int) -> None:
    found = spans(at, gap_ms)
    assert all(any(low <= moment < high for low, high in found) for moment in at)
    assert all(low in at and high - 1 in at for low, high in found)
    assert all(later[0] - earlier[1] >= gap_ms for earlier, later in itertools.pairwise(found))
