"""The wire format: what the contract allows comes through, everything else is rejected with its reason."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.message import MAX_KEPT, MAX_PAYLOAD, MAX_REJECTED, MAX_VALUES, parse
from monitor.devices import topic
from monitor.readings import Arrival, Event, Reading, Rejected, Reply, Status

NOW = 1_763_864_214_500
AT = 1_763_864_214_120
HERE = topic("gen-7")
READING: dict[str, Any] = {"boot": 12, "seq": 3041, "at": AT, "state": "running", "values": {"coolant_temp_c": 83.2}}
EVENT: dict[str, Any] = {"boot": 12, "seq": 3042, "at": AT, "event": "started", "detail": {}}


def said(kind: str, message: object, where: str = HERE) -> Arrival:
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    (arrival,) = parse(f"{where}/{kind}", payload, NOW)
    assert arrival.received_at == NOW
    return arrival


def reason(kind: str, message: object, where: str = HERE) -> str:
    body = said(kind, message, where).body
    assert isinstance(body, Rejected), body
    assert body.detail.isprintable()
    assert len(body.payload) <= MAX_KEPT
    return body.reason


def test_a_reading_comes_through() -> None:
    assert said("telemetry", READING) == Arrival(
        "gen-7", NOW, Reading(12, 3041, AT, "running", {"coolant_temp_c": 83.2})
    )


def test_unknown_fields_are_ignored() -> None:
    assert isinstance(said("telemetry", READING | {"rssi": -71, "extra": {"a": [None]}}).body, Reading)


@pytest.mark.parametrize("name", ["Volume Flow RateRMS", "Accelerometer1RMS", "油压", "x" * 64, "$MQTT/#"])
def test_metric_names_are_anything_printable(name: str) -> None:
    assert said("telemetry", READING | {"values": {name: 1}}).body.values == {name: 1.0}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"values": {"": 1}}, "bad_name"),
        ({"values": {"x" * 65: 1}}, "bad_name"),
        ({"values": {"a\nb": 1}}, "bad_name"),
        ({"values": {"a\0": 1}}, "bad_name"),
        ({"values": {"a": float("nan")}}, "bad_value"),
        ({"values": {"a": float("-inf")}}, "bad_value"),
        ({"values": {"a": 10**400}}, "bad_value"),
        ({"values": {"a": "83"}}, "bad_type"),
        ({"values": {"a": None}}, "bad_type"),
        ({"values": {"a": True}}, "bad_type"),
        ({"values": [1, 2]}, "bad_type"),
        ({"values": {f"m{n}": n for n in range(MAX_VALUES + 1)}}, "too_many_values"),
        ({"state": "flying"}, "bad_value"),
        ({"state": 1}, "bad_type"),
        ({"boot": -1}, "out_of_range"),
        ({"boot": 2**53}, "out_of_range"),
        ({"seq": -1}, "out_of_range"),
        ({"seq": 2**53}, "out_of_range"),
        ({"at": -1}, "out_of_range"),
        ({"at": 2**64}, "out_of_range"),
        ({"at": "2026-01-01T00:00:00Z"}, "bad_type"),
        ({"seq": 1.5}, "bad_type"),
        ({"boot": True}, "bad_type"),
    ],
)
def test_a_reading_is_bounded(change: dict[str, Any], expected: str) -> None:
    assert reason("telemetry", READING | change) == expected


@pytest.mark.parametrize("number", [0, 2**53 - 1])
def test_numbers_at_the_bounds_pass(number: int) -> None:
    body = said("telemetry", READING | {"boot": number, "seq": number, "at": number}).body
    assert body == Reading(number, number, number, "running", {"coolant_temp_c": 83.2})


@pytest.mark.parametrize("name", ["boot", "seq", "at", "state", "values"])
def test_every_field_of_a_reading_is_needed(name: str) -> None:
    without = {key: value for key, value in READING.items() if key != name}
    assert reason("telemetry", without) == "missing_field"
    assert name in said("telemetry", without).body.detail  # type: ignore[union-attr]


def test_a_rejection_names_the_culprit() -> None:
    body = said("telemetry", READING | {"values": {"rpm": 1500, "oil_bar": "low"}}).body
    assert isinstance(body, Rejected)
    assert "values['oil_bar']" in body.detail
    assert body.topic == f"{HERE}/telemetry"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b"\xff\xfe", "bad_json"),
        (b'\xef\xbb\xbf{"boot":1}', "bad_json"),
        (b'{"boot":1,"\\ud800":1}', "bad_json"),
        (b"12", "bad_type"),
        (b"null", "bad_type"),
        (b"[]", "bad_value"),
        (b"[" * 50_000, "too_deep"),
        (b'{"x":' * 30_000, "too_deep"),
        (b"[" + b"1," * 110_000 + b"1]", "too_large"),
    ],
)
def test_bytes_that_are_no_reading(payload: bytes, expected: str) -> None:
    assert reason("telemetry", payload) == expected


def test_the_size_limit_is_exact() -> None:
    just = json.dumps(READING).encode().ljust(MAX_PAYLOAD)
    assert isinstance(said("telemetry", just).body, Reading)
    assert reason("telemetry", just + b" ") == "too_large"


def test_a_backlog_keeps_its_good_readings() -> None:
    backlog = [READING | {"seq": n} for n in range(5)]
    backlog[2] = {"seq": 2}
    arrivals = parse(f"{HERE}/telemetry", json.dumps(backlog).encode(), NOW)
    assert [getattr(arrival.body, "seq", "rejected") for arrival in arrivals] == [0, 1, "rejected", 3, 4]
    assert isinstance(arrivals[2].body, Rejected)
    assert arrivals[2].body.payload == b'{"seq": 2}'


def test_one_message_cannot_fill_the_dead_letter_table() -> None:
    payload = b"[" + b"1," * 50_000 + json.dumps(READING).encode() + b"]"
    arrivals = parse(f"{HERE}/telemetry", payload, NOW)
    assert [type(arrival.body) for arrival in arrivals] == [Rejected] * MAX_REJECTED + [Reading, Rejected]
    last = arrivals[-1].body
    assert isinstance(last, Rejected)
    assert last.reason == "too_many_bad"
    assert f"{50_000 - MAX_REJECTED} more" in last.detail


def test_only_telemetry_comes_as_an_array() -> None:
    assert reason("event", [EVENT]) == "bad_type"


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (f"{topic('gen-8').rsplit('/', 1)[0]}/gen-7/telemetry", "bad_topic"),
        (f"fettle/v2/{HERE.split('/', 2)[2]}/telemetry", "bad_topic"),
        (f"{HERE}/weather", "bad_topic"),
        (f"{HERE}/command", "bad_topic"),
        (f"{HERE}", "bad_topic"),
        (f"{HERE}/telemetry/x", "bad_topic"),
        ("fettle/v1/00//telemetry", "bad_topic"),
        ("fettle/v1/00/../telemetry", "bad_topic"),
        ("fettle/v1/00/a b/telemetry", "bad_topic"),
        ("fettle/v1/00/" + "x" * 65 + "/telemetry", "bad_topic"),
        ("x\x01" * 400, "bad_topic"),
    ],
)
def test_topics_are_strict(where: str, expected: str) -> None:
    (arrival,) = parse(where, json.dumps(READING).encode(), NOW)
    assert isinstance(arrival.body, Rejected)
    assert (arrival.device_id, arrival.body.reason) == ("", expected)
    assert len(arrival.body.topic) <= 400
    assert arrival.body.topic.isprintable()


@pytest.mark.parametrize(
    ("given_detail", "kept"),
    [
        ({"code": "P0217"}, {"code": "P0217"}),
        ({"code": 110, "spn": 110, "fmi": 0}, {"code": "110", "spn": 110, "fmi": 0}),
        ({"code": "x", "text": "冷却液温度过高", "lamp": "red", "vendor": {"a": [1]}},
         {"code": "x", "text": "冷却液温度过高", "lamp": "red"}),
    ],
)  # fmt: skip
def test_a_fault_keeps_what_the_contract_names(given_detail: dict[str, Any], kept: dict[str, Any]) -> None:
    for event in ("fault_set", "fault_cleared"):
        body = said("event", EVENT | {"event": event, "detail": given_detail}).body
        assert isinstance(body, Event)
        assert body.detail == kept


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ({}, "missing_field"),
        ({"code": ""}, "bad_value"),
        ({"code": "x" * 65}, "bad_value"),
        ({"code": "a\0"}, "bad_value"),
        ({"code": 1.5}, "bad_type"),
        ({"code": None}, "bad_type"),
        ({"code": True}, "bad_type"),
        ({"code": 10**30}, "bad_value"),
        ({"code": "x", "spn": -1}, "out_of_range"),
        ({"code": "x", "spn": "110"}, "bad_type"),
        ({"code": "x", "text": "x" * 501}, "bad_value"),
        ({"code": "x", "lamp": "\x1b[31m"}, "bad_value"),
    ],
)
def test_a_fault_detail_is_bounded(detail: dict[str, Any], expected: str) -> None:
    assert reason("event", EVENT | {"event": "fault_set", "detail": detail}) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"detail": {"note": "x" * 5000}}, "too_large"),
        ({"detail": {"note": "a\0b"}}, "bad_value"),
        ({"detail": {"a\0b": 1}}, "bad_value"),
        ({"detail": json.loads('{"a":' * 20 + "1" + "}" * 20)}, "too_deep"),
        ({"event": "exploded"}, "bad_value"),
        ({"seq": 2**53}, "out_of_range"),
        ({"detail": "x"}, "bad_type"),
    ],
)
def test_an_event_is_bounded(change: dict[str, Any], expected: str) -> None:
    assert reason("event", EVENT | change) == expected


def test_an_event_needs_no_detail() -> None:
    bare = {key: value for key, value in EVENT.items() if key != "detail"}
    assert said("event", bare).body == Event(12, 3042, AT, "started", {})


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"state": "online", "boot": 1, "at": AT, "firmware": "2.1", "model": "G40"},
         Status("online", AT, 1, "", "2.1", "G40")),
        ({"state": "lost", "boot": 1, "at": AT}, Status("lost", AT, 1)),
        ({"state": "offline", "reason": "sleeping", "boot": 1, "at": AT}, Status("offline", AT, 1, "sleeping")),
        ({"state": "offline", "reason": "bored", "boot": 1, "at": AT}, "bad_value"),
        ({"state": "online", "boot": 1, "at": -1}, "out_of_range"),
        ({"state": "online", "boot": 1, "at": AT, "firmware": "a\0"}, "bad_value"),
        ({"state": "online", "boot": 1, "at": AT, "model": "x" * 121}, "bad_value"),
        ({"state": "online", "boot": 1}, "missing_field"),
    ],
)  # fmt: skip
def test_status(message: dict[str, Any], expected: Status | str) -> None:
    if isinstance(expected, str):
        assert reason("status", message) == expected
    else:
        assert said("status", message).body == expected


def test_reply() -> None:
    message = {"id": "c1", "at": AT, "ok": True, "result": {"rpm": 1500}}
    assert said("reply", message).body == Reply("c1", AT, True, {"rpm": 1500})
    assert reason("reply", message | {"id": ""}) == "bad_value"
    assert reason("reply", message | {"id": "x" * 65}) == "bad_value"
    assert reason("reply", message | {"ok": 1}) == "bad_type"
    assert reason("reply", message | {"result": {"log": "x" * 70_000}}) == "too_large"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
fields = st.sampled_from(["boot", "seq", "at", "state", "values", "event", "detail", "code", "id", "ok", "result"])
near_misses = st.dictionaries(fields, json_values).map(
    lambda change: json.dumps(READING | EVENT | {"id": "1", "ok": True} | change).encode()
)
kinds = st.sampled_from(["telemetry", "event", "status", "reply", "command", ""])


@given(kind=kinds, payload=st.binary(max_size=300) | json_values.map(lambda v: json.dumps(v).encode()) | near_misses)
@example(kind="event", payload=b'{"boot":1,"seq":1,"at":1,"event":"fault_set","detail":{"code":' + b"9" * 5000 + b"}}")
@example(kind="reply", payload=b'{"id":"1","at":1,"ok":true,"result":{"n":' + b"9" * 5000 + b"}}")
@example(kind="telemetry", payload=b'{"boot":' + b"9" * 5000 + b"}")
def test_nothing_raises_and_what_comes_out_can_be_stored(kind: str, payload: bytes) -> None:
    arrivals = parse(f"{HERE}/{kind}", payload, NOW)
    assert arrivals
    for arrival in arrivals:
        stored = arrival.body if not isinstance(arrival.body, Rejected) else arrival.body._asdict()
        text = json.dumps(msgspec.to_builtins(stored), allow_nan=False)
        assert "\\u0000" not in text or "\\\\u0000" in text
        text.encode()


@given(where=st.text(), payload=st.binary(max_size=50))
def test_no_topic_raises(where: str, payload: bytes) -> None:
    assert all(isinstance(arrival.body, Rejected) for arrival in parse(where, payload, NOW))
