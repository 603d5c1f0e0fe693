"""Codes: what a machine's own controller says is wrong."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, ClassVar, Literal

import numpy as np

from monitor.detect.detector import Detector, Ended, Fields, Rows, State
from monitor.detect.finding import Evidence, Report
from monitor.devices import FaultKind, Severity
from monitor.readings import What

OPEN_CODES = 32
CODE_CHARS = 64
TEXT_CHARS = 200

_BY_LAMP = (
    (("red", "stop"), Severity.EMERGENCY),
    (("amber", "warning"), Severity.URGENT),
    (("protect", "mil", "malfunction"), Severity.ROUTINE),
)


class Codes(Detector):
    """`fault_set` opens, `fault_cleared` clears; a code said again while it stands is nothing new.

    At most 32 codes of one machine stand open at a time: a controller that invents codes opens no ticket for each.
    They are remembered as hashes; the event itself names the code again when it clears.

    A code that is taken back is said once. So it counts where it is found late, too, unless the code was set again
    after it.
    """

    name: ClassVar[str] = "codes"
    version: ClassVar[int] = 2
    kind: ClassVar[FaultKind | None] = FaultKind.FAULT_CODE
    takes_late: ClassVar[bool] = True
    device_fields: ClassVar[Fields] = [
        ("open", "<u8", (OPEN_CODES,)),
        ("set_at", "<i8", (OPEN_CODES,)),  # device, when each was last set
    ]

    def step(self, state: State, rows: Rows, report: Report) -> None:
        for i in np.flatnonzero(
            (rows.what == What.FAULT_SET) & ~rows.late | (rows.what == What.FAULT_CLEARED)
        ).tolist():
            position, row, at = int(rows.position[i]), int(rows.device[i]), int(rows.at[i])
            detail = rows.detail[position] or {}
            code = code_of(detail)
            opened = rows.what[i] == What.FAULT_SET
            if rows.late[i] and self._set_at(state, row, code) > at:
                continue
            if not code or not self._remember(state, row, code, at, opened):
                continue
            severity = severity_of(detail.get("lamp")) if opened else None
            evidence = _evidence(code, detail)
            report.add(
                row, position, FaultKind.FAULT_CODE, code, opened, at, self.rule, evidence, severity
            )  # fmt: skip

    def release(self, state: State, ended: Ended) -> None:
        self._remember(state, ended.row, ended.subject, 0, opened=False)

    def _set_at(self, state: State, row: int, code: str) -> int:
        """When a code that stands was last set (device clock); 0 where it does not stand."""
        stands = np.flatnonzero(state.device["open"][row] == _mark(code))
        return int(state.device["set_at"][row][stands[0]]) if len(stands) else 0

    def _remember(self, state: State, row: int, code: str, at: int, opened: bool) -> bool:
        """Whether this is news: a code that did not stand and now does, or the other way round."""
        slots, set_at, mark = state.device["open"][row], state.device["set_at"][row], _mark(code)
        stands, free = np.flatnonzero(slots == mark), np.flatnonzero(slots == 0)
        if opened and len(stands):
            set_at[stands[0]] = at
        if opened == bool(len(stands)) or (opened and not len(free)):
            return False
        slot = free[0] if opened else stands[0]
        slots[slot], set_at[slot] = (mark, at) if opened else (0, 0)
        return True


def _mark(code: str) -> np.uint64:
    digest = blake2b(code.encode(errors="replace"), digest_size=8).digest()
    return np.uint64(max(1, int.from_bytes(digest, "little")))  # 0 is the empty slot


def code_of(detail: Mapping[str, Any]) -> str:
    """The subject under which a code's fault stands; '' where the event names none."""
    code = detail.get("code")
    if isinstance(code, int) and not isinstance(code, bool) and abs(code) < 10**CODE_CHARS:
        return str(code)
    return code[:CODE_CHARS] if isinstance(code, str) else ""


def severity_of(lamp: object) -> Severity | None:
    """How much a code matters by the lamp it lights; None where no lamp is named that we know."""
    said = lamp.lower() if isinstance(lamp, str) else ""
    return next((severity for words, severity in _BY_LAMP if any(word in said for word in words)), None)


def _evidence(code: str, detail: Mapping[str, Any]) -> Evidence:
    evidence = Evidence(code=code)
    numbers: tuple[Literal["spn"], Literal["fmi"]] = ("spn", "fmi")
    words: tuple[Literal["text"], Literal["lamp"]] = ("text", "lamp")
    for number in numbers:
        if isinstance(detail.get(number), int):
            evidence[number] = detail[number]
    for word in words:
        if isinstance(detail.get(word), str):
            evidence[word] = detail[word][:TEXT_CHARS]
    return evidence
