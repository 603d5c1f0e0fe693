"""Recorded rows through the very detectors that live telemetry runs through, one row at a time: `fettle detect`.

Every recording is a machine of its own in one bank, and a model of its own too, so that no recording knows of another.
The k-th rows of all recordings step together, as the machines of a batch do.
"""

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from monitor.detect import Bank, Finding
from monitor.devices import Device, FaultKind, Profile
from monitor.readings import STATE_CODE, Batch, Floats, Ints, What
from monitor.store.profiles import BadProfile, parse_profile
from monitor.store.registry import Refused

LABELS = frozenset({"anomaly", "changepoint"})
"""Columns that say what is true. Nothing here may look at them."""
ORIGIN_AT = 2_600 * 7 * 86_400_000
"""Where a time column of numbers begins to count: whole weeks after 1970, as far as hours and weekdays matter."""
UNIT_S = {
    "minute": 60.0,
    "minutes": 60.0,
    "min": 60.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "h": 3600.0,
    "ms": 0.001,
}
"""What a time column of numbers counts, by its header; seconds under any other."""
MOST = 1e11
"""The largest number that a time column may hold."""
FEWEST = 2
"""The shortest warm-up: of one row there is no spread."""


@dataclass(frozen=True)
class Recording:
    """One CSV file: N rows of the K sensors of its profile; NaN where a row, or the file, does not have one."""

    path: Path
    at: Ints  # (N,) epoch ms
    value: Floats  # (N, K)

    def __len__(self) -> int:
        return len(self.at)


@dataclass(frozen=True)
class WarmUp:
    """How many rows of a recording are known to be healthy: `rows`, or the smaller of a share of them and a count."""

    rows: int
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> "WarmUp":
        """`400`, or `15%,750`: min(15 % of the rows, 750)."""
        found = re.fullmatch(r"(?:(\d{1,3}(?:\.\d+)?)%,)?(\d{1,9})", text.replace(" ", ""))
        share = float(found[1]) / 100 if found and found[1] else None
        if not found or int(found[2]) < 1 or (share is not None and not 0 < share <= 1):
            raise Refused(
                f"--warmup {text!r}: allowed are a number of rows from 1 up (400), "
                "or a share of the rows and the most it may be (15%,750)"
            )
        return cls(int(found[2]), share)

    def of(self, rows: int) -> int:
        """The length of the warm-up of a recording of so many rows."""
        if self.share is None:
            return self.rows
        # 0.15 * n of a whole n may come out a hair below the whole number that is meant.
        return min(math.floor(round(self.share * rows, 6)), self.rows)


class Judged(NamedTuple):
    """What the detectors said of each row of a recording."""

    score: Floats
    """(N,) from 0.5 up on rows on which an alarm was newly raised, the surer the higher; 0 on all others."""
    anomaly: npt.NDArray[np.bool_]
    """(N,) whether any fault stood open after the row."""

    @property
    def raised(self) -> int:
        """Rows on which an alarm was newly raised."""
        return int(np.count_nonzero(self.score))


@dataclass(frozen=True)
class Rules:
    """A profile as its file has it."""

    profile: Profile
    interval_given: bool
    """Whether the file says how often the machine reports; where it does not, the warm-up shows it."""

    @classmethod
    def read(cls, path: Path) -> "Rules":
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadProfile(f"{path}: cannot be read: {error}") from None
        profile = parse_profile(str(path), text)
        return cls(profile, "report_interval_s" in msgspec.toml.decode(text))

    def of(self, name: str, warmup: int, interval_s: float) -> Profile:
        """The profile under another name, for one recording."""
        changed = msgspec.structs.replace(self.profile, name=name)
        if self.profile.learn is not None:
            learn = msgspec.structs.replace(self.profile.learn, warmup_samples=warmup)
            changed = msgspec.structs.replace(changed, learn=learn)
        if not self.interval_given:
            changed = msgspec.structs.replace(changed, report_interval_s=interval_s)
        return changed


def detect(
    rules: Rules, recordings: Sequence[Recording], *, warm_up: WarmUp | None = None, learn: Recording | None = None
) -> list[Judged]:
    """Judge recordings, each by itself. Its own first rows are the warm-up, or all rows of another that is healthy."""
    if learn is not None:
        courses = [_taught(rules, f"recording-{n}", learn, one) for n, one in enumerate(recordings)]
    else:
        warmed = warm_up or WarmUp(rules.profile.learn.warmup_samples if rules.profile.learn else FEWEST)
        courses = [_warmed(rules, f"recording-{n}", one, warmed.of(len(one))) for n, one in enumerate(recordings)]
    judged = _judge(courses, [sensor.name for sensor in rules.profile.sensors])
    before = len(learn) if learn is not None else 0
    return [Judged(found.score[before:], found.anomaly[before:]) for found in judged]


class _Course(NamedTuple):
    """The rows that one machine of the bank goes through."""

    profile: Profile
    at: Ints
    value: Floats


def _warmed(rules: Rules, name: str, recording: Recording, warmup: int) -> _Course:
    warmup = max(FEWEST, warmup)
    profile = rules.of(name, warmup, _spacing_ms(recording.at[:warmup]) / 1000)
    return _Course(profile, recording.at, recording.value)


def _taught(rules: Rules, name: str, learn: Recording, recording: Recording) -> _Course:
    """The healthy rows first, moved in time so that they end just before the recording begins."""
    spacing_ms = _spacing_ms(learn.at)
    profile = rules.of(name, max(FEWEST, len(learn)), spacing_ms / 1000)
    moved = learn.at - learn.at.max(initial=0) + recording.at[0] - spacing_ms
    return _Course(profile, np.r_[moved, recording.at], np.concatenate([learn.value, recording.value]))


def _spacing_ms(at: Ints) -> int:
    """How far apart rows usually are."""
    steps = np.diff(at)
    steps = steps[steps > 0]
    return max(1, int(np.median(steps))) if len(steps) else 1000


def _judge(courses: Sequence[_Course], metrics: list[str]) -> list[Judged]:
    """Step all courses together, one row of each at a time."""
    bank = Bank({course.profile.name: course.profile for course in courses})
    bank.place(Device(course.profile.name, course.profile.name) for course in courses)
    judged = {
        course.profile.name: Judged(np.zeros(len(course.at)), np.zeros(len(course.at), dtype=np.bool_))
        for course in courses
    }
    standing: dict[str, set[tuple[FaultKind, str]]] = {name: set() for name in judged}
    longest_first = sorted(courses, key=lambda course: -len(course.at))
    for k in range(len(longest_first[0].at) if courses else 0):
        while len(longest_first[-1].at) <= k:
            longest_first.pop()
        for finding in bank.step(_round(longest_first, k, metrics)):
            _note(finding, judged[finding.device_id].score, k, standing[finding.device_id])
        for course in longest_first:
            judged[course.profile.name].anomaly[k] = bool(standing[course.profile.name])
    return list(judged.values())


def _note(finding: Finding, score: Floats, k: int, standing: set[tuple[FaultKind, str]]) -> None:
    if not finding.opened:
        standing.discard((finding.kind, finding.subject))
        return
    standing.add((finding.kind, finding.subject))
    score[k] = max(score[k], 0.5 + finding.confidence / 2)


def _round(courses: Sequence[_Course], k: int, metrics: list[str]) -> Batch:
    """The k-th rows of all courses as a batch, heard as they were measured."""
    n = len(courses)
    value = np.stack([course.value[k] for course in courses])
    at = np.array([course.at[k] for course in courses], dtype=np.int64)
    row, metric = np.nonzero(~np.isnan(value))
    zeros = np.zeros(n, dtype=np.int64)
    return Batch(
        k + 1, [course.profile.name for course in courses], metrics, np.arange(n), zeros, zeros, np.full(n, k), at, at,
        np.full(n, int(What.READING)), np.full(n, STATE_CODE["running"]), np.zeros(n, dtype=np.bool_), [None] * n,
        row, metric, value[row, metric],
    )  # fmt: skip


# --- files ---


def detect_files(
    rules: Rules, files: Sequence[Path], root: Path, out: Path,
    *, warm_up: WarmUp | None = None, learn: Path | None = None,
) -> dict[Path, Judged]:  # fmt: skip
    """Judge CSV files below `root`, and write what was found of each row below `out`, under the same path."""
    targets = [_target(file, root, out) for file in files]
    if len(set(targets)) < len(targets):
        twice = next(file for file, target in zip(files, targets, strict=True) if targets.count(target) > 1)
        raise Refused(f"{twice} is named more than once")
    healthy = read_recording(learn, rules.profile) if learn is not None else None
    recordings = [read_recording(file, rules.profile) for file in files]
    found = detect(rules, recordings, warm_up=warm_up, learn=healthy)
    for target, judged in zip(targets, found, strict=True):
        _write(target, judged)
    return dict(zip(files, found, strict=True))


def _target(file: Path, root: Path, out: Path) -> Path:
    resolved = file.resolve()
    if not resolved.is_relative_to(root.resolve()):
        raise Refused(f"{file} does not lie below --root {root}")
    target = out.resolve() / resolved.relative_to(root.resolve())
    if target == resolved:
        raise Refused(f"--out {out} would write over {file}; name another folder")
    return target


def _write(target: Path, judged: Judged) -> None:
    lines = (f"{score:.4f},{int(anomaly)}\n" for score, anomaly in zip(*judged, strict=True))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("score,anomaly\n" + "".join(lines), encoding="utf-8")
    except OSError as error:
        raise Refused(f"{target} cannot be written: {error.strerror}") from None


def read_recording(path: Path, profile: Profile) -> Recording:
    """A CSV file in UTF-8, separated by `,` or `;`: a header, the first column time, then values by sensor name."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = ";" if ";" in file.readline() else ","
            file.seek(0)
            return _read(path, csv.reader(file, delimiter=delimiter), profile)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"{path} cannot be read as CSV in UTF-8: {error}") from None


def _read(path: Path, reader: Iterator[list[str]], profile: Profile) -> Recording:
    header = [name.strip() for name in next(reader, [])]
    names = [sensor.name for sensor in profile.sensors]
    columns = [(names.index(name), place) for place, name in enumerate(header)
               if place and name in names and name not in LABELS]  # fmt: skip
    if not columns:
        raise Refused(f"{path}, line 1: none of the columns is a sensor of {profile.name}: {', '.join(names)}")
    unit_s = UNIT_S.get(header[0].lower(), 1.0)
    at: list[int] = []
    values: list[list[float]] = []
    for number, row in enumerate(reader, start=2):
        if not any(row):
            continue
        if len(row) != len(header):
            raise Refused(f"{path}, line {number}: {len(row)} columns, the header has {len(header)}")
        at.append(_at(path, number, row[0], unit_s))
        values.append([_number(path, number, row[place], names[sensor]) for sensor, place in columns])
    if not at:
        raise Refused(f"{path} has no rows below its header")
    value = np.full((len(at), len(names)), np.nan)
    value[:, [sensor for sensor, _ in columns]] = values
    return Recording(path, np.array(at, dtype=np.int64), value)


def _at(path: Path, number: int, text: str, unit_s: float) -> int:
    """A moment as epoch ms. Dates without a zone are UTC: the same rows mean the same wherever they are judged."""
    try:
        count = float(text)
    except ValueError:
        return _moment(path, number, text)
    if not abs(count) < MOST:
        raise Refused(f"{path}, line {number}: the time {text} is no moment; allowed are numbers below {MOST:.0e}")
    return ORIGIN_AT + round(count * unit_s * 1000)


def _moment(path: Path, number: int, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise Refused(
            f"{path}, line {number}: the time {text!r} is neither a number nor a date and time (2025-11-23 10:14:33)"
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _number(path: Path, number: int, text: str, name: str) -> float:
    """A value; NaN where the row has none."""
    try:
        return float(text) if text.strip() else math.nan
    except ValueError:
        raise Refused(f"{path}, line {number}: {name} is {text!r}, and not a number") from None
