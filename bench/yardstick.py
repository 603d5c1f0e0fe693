"""How well the detectors find what is wrong, on public recordings that nobody here made, beside what is published.

The recordings lie outside the project, with the scorers of their families. They go through `fettle.detecting`, as
`fettle detect` sends them: the detectors of live telemetry, one row at a time, one profile for all files of a family.
What is tuned on which files stands in docs/detection.md.

An F1 says nothing alone, so false alarms stand beside it; and healthy stretches are judged by themselves, for that is
where a machine spends its days.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fettle.detecting import Judged, Recording, Rules, WarmUp, detect, detect_files, read_recording

PROFILES = Path(__file__).parent / "profiles"
SKAB_WARMUP = 400


class Score(NamedTuple):
    """What a family came to. `figures` are the scorer's own words and those of the healthy stretches."""

    rows: int
    us_per_row: float
    figures: dict[str, float]


@dataclass(frozen=True)
class Row:
    """One line of a table: who, and the figures under its columns."""

    name: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """A family of recordings: how it is run, and what others reached on all of it."""

    name: str
    title: str
    columns: tuple[str, ...]
    published: tuple[Row, ...]
    levels: tuple[Row, ...]
    run: Callable[[Path, Path], Score]
    cells: Callable[[dict[str, float]], tuple[str, ...]]


# --- running ---


def _timed(rules: Rules, files: Sequence[Path], root: Path, out: Path, **warm: Any) -> tuple[int, float]:
    """Judge files into `out`; rows judged, and CPU µs for each of them (reading and writing included)."""
    begun = time.process_time()
    found = detect_files(rules, files, root, out, **warm)
    rows = sum(len(judged.score) for judged in found.values())
    return rows, (time.process_time() - begun) * 1e6 / max(1, rows)


def _scored(data: Path, scorer: str, *arguments: str | Path) -> dict[str, Any]:
    """The answer of one of the folder's own scorers."""
    command = [sys.executable, str(data / scorer), *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench.yardstick: {scorer} says: {done.stderr.strip()[-500:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _healthy(found: Sequence[Judged], skip: Sequence[int]) -> dict[str, float]:
    """False alarms where nothing is wrong: share of rows in alarm, and alarms raised, after each one's warm-up."""
    alarms = np.concatenate([judged.anomaly[after:] for judged, after in zip(found, skip, strict=True)])
    raised = sum(int(np.count_nonzero(judged.score[after:])) for judged, after in zip(found, skip, strict=True))
    return {
        "healthy_rows": len(alarms),
        "healthy_alarm_pct": round(100 * float(alarms.mean()), 2) if len(alarms) else 0.0,
        "healthy_raised": raised,
    }


def _cut(recording: Recording, rows: slice) -> Recording:
    return Recording(recording.path, recording.at[rows], recording.value[rows])


def run_skab(data: Path, out: Path) -> Score:
    """The runs of `files.json`; healthy: the rig's run without a fault where it is there, else the rows of each run
    before its fault begins."""
    rules, root = Rules.read(PROFILES / "skab.toml"), data / "skab" / "data"
    names: list[str] = json.loads((data / "skab" / "files.json").read_text())
    warm_up = WarmUp(SKAB_WARMUP)
    rows, cost = _timed(rules, [root / name for name in names], root, out, warm_up=warm_up)
    answer = _scored(data, "score_skab.py", "--skab", data / "skab", "--out", out, "--files", data / "skab/files.json")
    whole = sorted((root / "anomaly-free").glob("*.csv"))
    healthy = [read_recording(file, rules.profile) for file in whole] or _before_the_fault(rules, root, names)
    found = detect(rules, healthy, warm_up=warm_up)
    figures = {key: answer[key] for key in ("F1", "FAR", "MAR", "faults_found", "files", "false_alarm_episodes")}
    return Score(rows, cost, figures | _healthy(found, [SKAB_WARMUP] * len(found)))


def _before_the_fault(rules: Rules, root: Path, names: Sequence[str]) -> list[Recording]:
    stretches = []
    for name in names:
        lines = (root / name).read_text().splitlines()
        label = lines[0].split(";").index("anomaly")
        truth = np.array([float(line.split(";")[label]) for line in lines[1:]])
        recording = read_recording(root / name, rules.profile)
        stretches.append(_cut(recording, slice(0, int(np.argmax(truth > 0)) if truth.any() else len(truth))))
    return [stretch for stretch in stretches if len(stretch) > SKAB_WARMUP]


def run_nab(data: Path, out: Path) -> Score:
    """All series; healthy: each up to its first labelled window, or whole where it has none."""
    rules, root = Rules.read(PROFILES / "nab.toml"), data / "nab" / "data"
    windows: dict[str, list[list[str]]] = json.loads((data / "nab" / "labels" / "combined_windows.json").read_text())
    names, warm_up = sorted(windows), WarmUp(750, 0.15)
    rows, cost = _timed(rules, [root / name for name in names], root, out, warm_up=warm_up)
    answer = _scored(data, "score_nab.py", "--nab", data / "nab", "--out", out, "--threshold", "0.5")
    found, skip = [], []
    for name in names:
        lines = (root / name).read_text().splitlines()[1:]
        until = next((k for k, line in enumerate(lines) if windows[name] and line[:19] >= windows[name][0][0][:19]),
                     len(lines))  # fmt: skip
        found.append(_read_back(out / name, until))
        skip.append(min(until, warm_up.of(len(lines))))
    figures = {"score": answer["standard"]["score"], "low_fp": answer["reward_low_FP_rate"]["score"],
               "low_fn": answer["reward_low_FN_rate"]["score"], **answer["counts_at_standard"]}  # fmt: skip
    return Score(rows, cost, figures | _healthy(found, skip))


def _read_back(file: Path, rows: int) -> Judged:
    """What was written of the first rows of a file: no later row has any part in it."""
    table = np.loadtxt(file, delimiter=",", skiprows=1, ndmin=2)[:rows]
    return Judged(np.where(table[:, 0] >= 0.5, table[:, 0], 0), table[:, 1] > 0)


def run_tep(data: Path, out: Path) -> Score:
    """All fault runs; healthy: `d00_te.csv` where it is there, else the second half of d00 learnt from its first."""
    rules, root = Rules.read(PROFILES / "tep.toml"), data / "tep"
    files = sorted(root.glob("d??_te.csv"))
    rows, cost = _timed(rules, files, root, out, learn=root / "d00.csv")
    faults = ",".join(str(int(file.name[1:3])) for file in files if file.name != "d00_te.csv")
    answer = _scored(data, "score_tep.py", "--out", out, "--faults", faults)
    d00 = read_recording(root / "d00.csv", rules.profile)
    half = len(d00) // 2
    found = detect(rules, [_cut(d00, slice(half, None))], learn=_cut(d00, slice(0, half)))
    figures = {key: answer[key] for key in ("found", "faults", "far", "mdr")}
    far0 = {} if answer["far0"] is None else {"far0": answer["far0"]}
    return Score(rows, cost, figures | far0 | _healthy(found, [0]))


# --- the tables ---


def _skab_cells(of: dict[str, float]) -> tuple[str, ...]:
    return (f"{of['F1']:.3f}", f"{of['FAR']:.1f}", f"{of['MAR']:.1f}", f"{of['healthy_alarm_pct']:.1f}",
            f"{of['healthy_raised']:.0f}")  # fmt: skip


def _nab_cells(of: dict[str, float]) -> tuple[str, ...]:
    return (f"{of['score']:.1f}", f"{of['low_fp']:.1f}", f"{of['low_fn']:.1f}", f"{of['hit']:.0f}/{of['windows']:.0f}",
            f"{of['fp_rows']:.0f}", f"{of['healthy_alarm_pct']:.1f}", f"{of['healthy_raised']:.0f}")  # fmt: skip


def _tep_cells(of: dict[str, float]) -> tuple[str, ...]:
    far0 = f"{100 * of['far0']:.1f}" if "far0" in of else "-"
    return (f"{of['found']:.0f}/{of['faults']:.0f}", f"{100 * of['far']:.1f}", far0, f"{100 * of['mdr']:.1f}",
            f"{of['healthy_alarm_pct']:.1f}", f"{of['healthy_raised']:.0f}")  # fmt: skip


FAMILIES = (
    Family(
        "skab", "SKAB: water-pump rig (published: all 34 runs)",
        ("F1", "FAR %", "MAR %", "healthy %", "raised"),
        (
            Row("Conv-AE", (".78", "13.6", "28.0")), Row("MSET", (".78", "39.7", "14.1")),
            Row("T²+Q", (".76", "26.6", "24.9")), Row("T²", (".66", "19.2", "42.6")),
            Row("Isolation forest", (".29", "2.6", "82.9")), Row("always alarm", (".70", "100", "0")),
        ),
        (Row("level: pass", ("≥ .77", "≤ 30", "", "≤ 10")), Row("level: target", ("≥ .80", "≤ 20", "", "≤ 2", "≤ 3")),
         Row("level: beyond", ("≥ .84", "≤ 12", "", "", "≤ 1"))),
        run_skab, _skab_cells,
    ),
    Family(
        "nab", "NAB: single series (published: all 58 files, standard profile)",
        ("standard", "low FP", "low FN", "windows", "FP rows", "healthy %", "raised"),
        (
            Row("ARTime", ("74.9",)), Row("Numenta HTM", ("70.5",)), Row("CAD OSE", ("69.9",)),
            Row("KNN CAD", ("58.0",)), Row("running min/max alone", ("57.9",)), Row("Random Cut Forest", ("51.7",)),
            Row("Windowed Gaussian", ("39.6",)),
        ),
        (Row("level: pass", ("≥ 60",)), Row("level: target", ("≥ 66",)), Row("level: beyond", ("≥ 72",))),
        run_nab, _nab_cells,
    ),
    Family(
        "tep", "TEP: Tennessee Eastman process",
        ("found", "FAR %", "far0 %", "missed %", "healthy %", "raised"),
        (Row("weighted T², 9.6 % false", ("21/21", "9.6")), Row("weighted T², 1 % false", ("20/21", "1.0"))),
        (Row("level: pass", ("≥ 10/13", "", "≤ 5")), Row("level: target", ("11/13", "", "≤ 2")),
         Row("level: beyond", ("13/13", "", "≤ 1"))),
        run_tep, _tep_cells,
    ),
)  # fmt: skip


def table(family: Family, score: Score) -> str:
    """Ours above, the published results and the levels below; what nobody published stays empty."""
    head = Row(family.title, family.columns)
    ours = Row(f"fettle, {score.rows} rows, {score.us_per_row:.0f} µs a row", family.cells(score.figures))
    return "\n".join(
        f"{row.name:<46}" + "".join(f"{cell:>11}" for cell in row.cells)
        for row in (Row(head.name, ()), Row("", head.cells), ours, *family.published, *family.levels)
    )


def summary(scores: dict[str, Score]) -> dict[str, dict[str, float]]:
    """The figures of `--json`."""
    return {
        name: {"rows": score.rows, "us_per_row": round(score.us_per_row, 1), **score.figures}
        for name, score in scores.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.yardstick", description="Detection on public recordings.")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="recordings, labels and scorers")
    parser.add_argument("--family", choices=[family.name for family in FAMILIES], action="append", help="only this one")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of the tables")
    options = parser.parse_args()
    if not (options.data / "score_nab.py").is_file():
        parser.error(f"--data {options.data} holds no scorers (score_skab.py, score_nab.py, score_tep.py)")
    chosen = [family for family in FAMILIES if not options.family or family.name in options.family]
    scores = {}
    with tempfile.TemporaryDirectory(prefix="fettle-yardstick-") as folder:
        for family in chosen:
            scores[family.name] = family.run(options.data, Path(folder) / family.name)
    if options.json:
        print(json.dumps(summary(scores)))
        return
    print("healthy %, raised: share of rows in alarm and alarms raised on stretches where nothing is wrong\n")
    print("\n\n".join(table(family, scores[family.name]) for family in chosen))


if __name__ == "__main__":
    main()
