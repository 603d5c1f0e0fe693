"""Wire format v1: a topic and a payload become arrivals. Pure; nothing a stranger can send makes it raise.

What breaks the contract (docs/wire-contract.md) becomes a Rejected with its reason. Whether the device is known,
whether its clock is right and whether the message was seen before is not decided here.
"""

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec

from monitor.devices import DEVICE_ID, shard
from monitor.readings import Arrival, Event, Reading, Rejected, Reply, Status

KINDS = ("telemetry", "event", "status", "reply")

MAX_PAYLOAD = 200 * 1024
MAX_KEPT = 4 * 1024
"""So many bytes of a rejected payload are kept as evidence."""
MAX_TOPIC_KEPT = 400
MAX_VALUES = 256
MAX_NAME = 64
MAX_TEXT = 500
MAX_DETAIL = 4 * 1024
MAX_RESULT = 64 * 1024
MAX_DEPTH = 16
MAX_REJECTED = 20
"""So many bad elements of one array are kept each for itself; one message must not fill the dead-letter table."""
LIMIT = 2**53
"""Numbers from here on are not exact in every JSON implementation."""


class Refused(Exception):
    """A message, or one element of an array, breaks the contract: why in a word, and in a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


Body = Reading | Event | Status | Reply


def parse(topic: str, payload: bytes, received_at: int) -> list[Arrival]:
    """Everything one MQTT message holds: usually one arrival, several when a device sends a backlog as an array."""
    try:
        device_id, read = _address(topic)
    except Refused as wrong:
        return [_rejected("", received_at, wrong, topic, payload)]
    if len(payload) > MAX_PAYLOAD:
        size = Refused("too_large", f"the payload has {len(payload)} bytes; at most {MAX_PAYLOAD} are allowed")
        return [_rejected(device_id, received_at, size, topic, payload)]
    if payload[:1] == b"[" and read is _reading:
        return list(_elements(device_id, topic, payload, received_at))
    return [_one(read, device_id, topic, payload, received_at)]


def unreadable(topic: str, payload: bytes, received_at: int) -> Arrival:
    """What becomes of a message at which reading itself broke: kept as evidence, so that somebody can mend it."""
    return _rejected("", received_at, Refused("unreadable", "the service could not read this message"), topic, payload)


def _one(read: Callable[[bytes], Body], device_id: str, topic: str, payload: bytes, received_at: int) -> Arrival:
    try:
        return Arrival(device_id, received_at, read(payload))
    except Refused as wrong:
        return _rejected(device_id, received_at, wrong, topic, payload)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        return _rejected(device_id, received_at, _why(error, payload), topic, payload)


_split = msgspec.json.Decoder(list[msgspec.Raw])


def _elements(device_id: str, topic: str, payload: bytes, received_at: int) -> Iterator[Arrival]:
    """A backlog: each element stands for itself, so one bad reading does not cost the good ones."""
    try:
        elements = _split.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        yield _rejected(device_id, received_at, _why(error, payload), topic, payload)
        return
    if not elements:
        nothing = Refused("bad_value", "the array is empty; it must hold at least one reading")
        yield _rejected(device_id, received_at, nothing, topic, payload)
    bad = 0
    for element in elements:
        arrival = _one(_reading, device_id, topic, bytes(element), received_at)
        bad += isinstance(arrival.body, Rejected)
        if bad <= MAX_REJECTED or not isinstance(arrival.body, Rejected):
            yield arrival
    if bad > MAX_REJECTED:
        more = f"{bad - MAX_REJECTED} more elements of this array of {len(elements)} break the contract"
        yield _rejected(device_id, received_at, Refused("too_many_bad", more), topic, payload)


def _rejected(device_id: str, received_at: int, wrong: Refused, topic: str, payload: bytes) -> Arrival:
    # A copy: a slice of a view would keep the whole message alive.
    kept = bytes(payload[:MAX_KEPT])
    body = Rejected(wrong.reason, wrong.detail, _printable(topic, MAX_TOPIC_KEPT), kept, len(payload))
    return Arrival(device_id, received_at, body)


def _printable(text: str, length: int) -> str:
    """For people and databases: no control characters, no lone surrogates, not longer than this."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:length])


# --- topics --------------------------------------------------------------------------------------------------------


class _Address(NamedTuple):
    device_id: str
    read: Callable[[bytes], Body]


@lru_cache(maxsize=65536)
def _address(topic: str) -> _Address:
    """Which device speaks, and what about. Cached: a fleet has few topics and each carries very many messages."""
    parts = topic.split("/")
    if len(parts) != 5 or parts[:2] != ["fettle", "v1"]:
        raise Refused("bad_topic", "the topic must be fettle/v1/{shard}/{device_id}/{kind}")
    _, _, given, device_id, kind = parts
    if not DEVICE_ID.fullmatch(device_id):
        raise Refused("bad_topic", "the device_id in the topic must be 1 to 64 of A-Z a-z 0-9 _ -")
    if given != shard(device_id):
        raise Refused("bad_topic", f"the shard of {device_id} is {shard(device_id)}, not {_printable(given, 20)!r}")
    if kind not in _READ:
        raise Refused("bad_topic", f"the last part of the topic must be one of {', '.join(KINDS)}")
    return _Address(device_id, _READ[kind])


# --- payloads ------------------------------------------------------------------------------------------------------

# Typed decoders refuse wrong types, unknown states, infinities and numbers that no float holds.
_decode_reading = msgspec.json.Decoder(Reading).decode
_decode_event = msgspec.json.Decoder(Event).decode
_decode_status = msgspec.json.Decoder(Status).decode
_decode_reply = msgspec.json.Decoder(Reply).decode
_encode = msgspec.json.Encoder().encode


def _reading(payload: bytes) -> Reading:
    reading = _decode_reading(payload)
    values = reading.values
    if len(values) > MAX_VALUES:
        raise Refused("too_many_values", f"values holds {len(values)} values; at most {MAX_VALUES} are allowed")
    if wrong := _wrong_name(tuple(values)):
        raise Refused("bad_name", wrong)
    if not (0 <= reading.boot < LIMIT and 0 <= reading.seq < LIMIT and 0 <= reading.at < LIMIT):
        raise _out_of_range(reading)
    return reading


@lru_cache(maxsize=1024)
def _wrong_name(names: tuple[str, ...]) -> str:
    """What is wrong with the first bad metric name, or ''. Cached: a machine sends the same names each time."""
    for name in names:
        if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
            shown = _printable(name, MAX_NAME)
            return f"the metric name {shown!r} must be 1 to {MAX_NAME} characters, none of them control characters"
    return ""


class FaultDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a fault_set or fault_cleared says of its fault; unknown fields are dropped."""

    code: str | int
    spn: int | None = None
    fmi: int | None = None
    text: str = ""
    lamp: str = ""


def _event(payload: bytes) -> Event:
    event = _decode_event(payload)
    _check_range(event, "boot", "seq", "at")
    if event.event in ("fault_set", "fault_cleared"):
        return msgspec.structs.replace(event, detail=_fault_detail(event.detail))
    _check_freight("detail", event.detail, MAX_DETAIL)
    return event


def _fault_detail(given: dict[str, Any]) -> dict[str, Any]:
    try:
        fault = msgspec.convert(given, FaultDetail)
    except msgspec.ValidationError as error:
        raise _invalid(str(error).replace("$", "$.detail"), "detail.code") from None
    code = str(fault.code) if -LIMIT < _as_int(fault.code) < LIMIT else ""
    _check_text("detail.code", code, MAX_NAME, least=1)
    _check_text("detail.text", fault.text, MAX_TEXT)
    _check_text("detail.lamp", fault.lamp, MAX_NAME)
    for name, number in (("spn", fault.spn), ("fmi", fault.fmi)):
        if number is not None and not 0 <= number < LIMIT:
            raise Refused("out_of_range", f"detail.{name} must be at least 0 and below 2^53")
    detail: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(fault, code=code))
    return detail


def _as_int(code: str | int) -> int:
    """Guards str(): Python refuses to print integers of thousands of digits."""
    return code if isinstance(code, int) else 0


def _status(payload: bytes) -> Status:
    status = _decode_status(payload)
    _check_range(status, "boot", "at")
    _check_text("firmware", status.firmware, 120)
    _check_text("model", status.model, 120)
    return status


def _reply(payload: bytes) -> Reply:
    reply = _decode_reply(payload)
    _check_range(reply, "at")
    _check_text("id", reply.id, MAX_NAME, least=1)
    _check_freight("result", reply.result, MAX_RESULT)
    return reply


_READ: dict[str, Callable[[bytes], Body]] = {
    "telemetry": _reading,
    "event": _event,
    "status": _status,
    "reply": _reply,
}


# --- what is allowed -----------------------------------------------------------------------------------------------


def _check_range(body: Event | Status | Reply, *names: Literal["boot", "seq", "at"]) -> None:
    if not all(0 <= getattr(body, name) < LIMIT for name in names):
        raise _out_of_range(body)


def _out_of_range(body: Body) -> Refused:
    given = [(name, getattr(body, name, 0)) for name in ("boot", "seq", "at")]
    wrong = next(name for name, number in given if not 0 <= number < LIMIT)
    return Refused("out_of_range", f"{wrong} must be at least 0 and below 2^53")


def _check_text(where: str, text: str, most: int, least: int = 0) -> None:
    if not least <= len(text) <= most or not text.isprintable():
        raise Refused("bad_value", f"{where} must be {least} to {most} characters, none of them control characters")


def _check_freight(where: str, freight: dict[str, Any], most: int) -> None:
    """Free-form content is stored as JSON: bounded in size and depth, and without what a database cannot hold."""
    size = len(_encode(freight))
    if size > most:
        raise Refused("too_large", f"{where} has {size} bytes; at most {most} are allowed")
    level: list[Any] = [freight]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(where, outer)]
    if level:
        raise Refused("too_deep", f"{where} is nested deeper than {MAX_DEPTH} levels")


def _inside(where: str, outer: Any) -> list[Any]:
    if isinstance(outer, str) and "\0" in outer:
        raise Refused("bad_value", f"{where} holds a NUL character")
    if isinstance(outer, dict):
        return [*outer.keys(), *outer.values()]
    return outer if isinstance(outer, list) else []


# --- what went wrong, in words -------------------------------------------------------------------------------------


def _why(error: Exception, payload: bytes) -> Refused:
    if isinstance(error, RecursionError):
        return Refused("too_deep", f"the JSON is nested deeper than {MAX_DEPTH} levels")
    if isinstance(error, msgspec.ValidationError):
        return _invalid(str(error), _culprit(payload))
    if constant := _not_a_number(payload):
        return Refused("bad_value", f"{constant} is not a number in JSON; leave out what was not measured")
    return Refused("bad_json", f"the payload is not UTF-8 JSON: {_printable(str(error), 200)}")


def _invalid(message: str, culprit: str) -> Refused:
    """Turns the decoder's words for a well-formed but wrong JSON into a reason and a sentence."""
    said = _printable(message, 200).replace("`$", "`payload")
    about = f" ({culprit})" if culprit else ""
    if "missing required field" in said:
        return Refused("missing_field", f"{said}; see the wire contract for the fields of this topic")
    if "out of range" in said:
        return Refused("bad_value", f"{said}{about}; it must be a finite number")
    if "Invalid enum value" in said:
        return Refused("bad_value", f"{said}; see the wire contract for the allowed words")
    return Refused("bad_type", f"{said}{about}")


def _culprit(payload: bytes) -> str:
    """The metric whose value is not a number, where that is what is wrong: the decoder does not name it."""
    try:
        values = json.loads(payload).get("values", {}).items()
    except (ValueError, RecursionError, AttributeError):
        return ""
    wrong = (name for name, value in values if isinstance(value, bool) or not isinstance(value, int | float))
    return next((f"values[{_printable(name, MAX_NAME)!r}]" for name in wrong), "")


def _not_a_number(payload: bytes) -> str:
    """NaN, Infinity or -Infinity where the payload would be JSON but for them: Python's json writes such."""
    found: list[str] = []
    try:
        json.loads(payload, parse_constant=found.append)
    except (ValueError, RecursionError):
        return ""
    return found[0] if found else ""
