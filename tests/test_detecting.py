"""`fettle detect`: recordings through the live detectors, row by row, with nothing seen that comes later."""

import csv
import json
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from fettle.cli import app
from fettle.detecting import ORIGIN_AT, Recording, Rules, WarmUp, detect, detect_files, read_recording
from monitor.devices import Channel, Joint, Learn, Limits, Profile, Sensor
from monitor.store.profiles import BadProfile
from monitor.store.registry import Refused

FAMILIES = Path(__file__).parent.parent / "bench" / "profiles"

OVEN = Profile(
    name="oven", title="Oven", title_zh="炉", report_interval_s=60,
    sensors=(Sensor("heat_c", limits=Limits(high=100, clear_margin=5)), Sensor("fan_rpm")),
)  # fmt: skip
RULES = Rules(OVEN, interval_given=True)


def recording(
    sensors: int, rows: int, seed: int, *, spacing_ms: int = 60_000, fault_at: int | None = None
) -> Recording:
    """A machine that breathes a little and is noisy, and from `fault_at` on runs away."""
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(rows)[:, None] / 17 + np.arange(sensors))
    value = 50 + 0.2 * wave + rng.normal(0, 1, (rows, sensors))
    if fault_at is not None:
        value[fault_at:] += 15 + 0.05 * np.arange(rows - fault_at)[:, None]
    return Recording(Path(f"{seed}.csv"), ORIGIN_AT + spacing_ms * np.arange(rows), value)


def cut(whole: Recording, rows: int) -> Recording:
    return Recording(whole.path, whole.at[:rows], whole.value[:rows])


def test_an_alarm_is_raised_on_one_row_and_stands_until_it_is_over() -> None:
    heat = [90, 90, 101, 102, 99, 94, 94, 94, 103, 90]
    value = np.column_stack([heat, np.full(len(heat), np.nan)])
    [judged] = detect(RULES, [Recording(Path("a.csv"), ORIGIN_AT + 60_000 * np.arange(len(heat)), value)])

    assert judged.score.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 1, 0]
    # Two samples inside by the margin of 5 clear it: the rows of 94.
    assert judged.anomaly.astype(int).tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 1, 1]
    assert judged.raised == 2


def test_recordings_judged_together_are_judged_as_each_by_itself() -> None:
    learn = Learn(warmup_samples=50, joint=Joint(hold_samples=5, threshold_sigma=5), channel=Channel())
    rules = Rules(Profile("oven", "Oven", "炉", (Sensor("heat_c"), Sensor("fan_rpm")), learn=learn), False)
    made = [
        recording(2, rows, seed, spacing_ms=1000 * seed, fault_at=rows * 3 // 4)
        for seed, rows in enumerate([300, 180, 240], start=1)
    ]
    together = detect(rules, made, warm_up=WarmUp(100, share=0.3))

    assert sum(judged.raised for judged in together) > 0
    for one, judged in zip(made, together, strict=True):
        [alone] = detect(rules, [one], warm_up=WarmUp(100, share=0.3))
        assert alone.score.tolist() == judged.score.tolist()
        assert alone.anomaly.tolist() == judged.anomaly.tolist()


def _family(name: str) -> Rules:
    return Rules.read(FAMILIES / f"{name}.toml")


@pytest.mark.parametrize("family", ["skab", "nab", "tep"])
def test_no_row_is_judged_by_a_later_one(family: str) -> None:
    rules = _family(family)
    sensors, rows = len(rules.profile.sensors), 800
    wholes = [recording(sensors, rows, seed, fault_at=440) for seed in (1, 2)]
    firsts = [cut(whole, rows * 6 // 10) for whole in wholes]
    if family == "tep":
        healthy = recording(sensors, 300, 99)
        of_wholes, of_firsts = detect(rules, wholes, learn=healthy), detect(rules, firsts, learn=healthy)
    else:
        warmup = WarmUp.parse({"skab": "400", "nab": "15%,750"}[family])
        of_wholes = detect(rules, wholes, warm_up=warmup)
        of_firsts = detect(rules, firsts, warm_up=WarmUp(warmup.of(rows)))

    for of_whole, of_first in zip(of_wholes, of_firsts, strict=True):
        assert of_first.score.tolist() == of_whole.score[:480].tolist()
        assert of_first.anomaly.tolist() == of_whole.anomaly[:480].tolist()
        assert of_first.raised > 0, "a recording on which nothing is found proves nothing"


@pytest.mark.parametrize("family", ["skab", "nab", "tep"])
def test_rows_that_were_judged_do_not_change_with_what_follows(family: str) -> None:
    """Not only a cut: other rows after it, wild ones and days apart, change nothing before."""
    rules = _family(family)
    whole = recording(len(rules.profile.sensors), 440, 3, fault_at=330)
    value = np.concatenate([whole.value[:400], -1e6 * whole.value[400:]])
    # So many rows days apart that the usual spacing of the whole file would be another.
    at = np.concatenate([whole.at[:400], whole.at[400] + 86_400_000 * np.arange(500)])
    other = Recording(whole.path, at, np.concatenate([value, np.repeat(value[-1:], 460, axis=0)]))
    judged, changed = detect(rules, [whole, other], warm_up=WarmUp(200))

    assert judged.score[:400].tolist() == changed.score[:400].tolist()
    assert judged.anomaly[:400].tolist() == changed.anomaly[:400].tolist()


def test_how_often_rows_come_is_learnt_from_the_warm_up_alone() -> None:
    """Rows 20 s apart make a pause of 90 s a gap, over which no hold reaches; that later ones are days apart does not
    matter."""
    profile = Profile("oven", "Oven", "炉", (Sensor("heat_c", limits=Limits(high=100, hold_s=60)),))
    seconds = np.array([*range(0, 240, 20), *range(310, 470, 20), *(86_400 * np.arange(1, 60))])
    heat = np.where((seconds >= 200) & (seconds < 86_400), 101.0, 90.0)
    one = Recording(Path("a.csv"), ORIGIN_AT + 1000 * seconds, heat[:, None])

    [learnt] = detect(Rules(profile, interval_given=False), [one], warm_up=WarmUp(5))
    [given] = detect(Rules(profile, interval_given=True), [one], warm_up=WarmUp(5))

    assert seconds[learnt.score > 0].tolist() == [370]
    # The profile's own interval is 10 s: every pause of 20 s is within it, and 90 s are not.
    assert seconds[given.score > 0].tolist() == [370]
    slower = msgspec.structs.replace(profile, report_interval_s=60)
    [given] = detect(Rules(slower, interval_given=True), [one], warm_up=WarmUp(5))
    assert seconds[given.score > 0].tolist() == [310]


def test_a_healthy_recording_comes_first_and_its_time_is_moved() -> None:
    """A limit that is only just beyond in both: the fault of the healthy rows goes on, for time did not jump."""
    hot = np.column_stack([np.full(5, 101.0), np.zeros(5)])
    healthy = Recording(Path("h.csv"), ORIGIN_AT + 60_000 * np.arange(5), hot)
    [judged] = detect(RULES, [Recording(Path("a.csv"), ORIGIN_AT + 60_000 * np.arange(5), hot)], learn=healthy)

    assert len(judged.score) == 5
    assert judged.score.tolist() == [0] * 5, "it was raised among the healthy rows already"
    assert judged.anomaly.all()


@pytest.mark.parametrize(
    ("text", "rows", "warmup"),
    [("400", 1147, 400), ("15%,750", 1000, 150), ("15%,750", 10_320, 750), ("15%, 750", 1001, 150), ("10%,9", 30, 3)],
)
def test_the_length_of_the_warm_up(text: str, rows: int, warmup: int) -> None:
    assert WarmUp.parse(text).of(rows) == warmup


@pytest.mark.parametrize("text", ["", "0", "-3", "15%", "750,15%", "200%,5", "0%,5", "many", "1e3"])
def test_a_warm_up_that_cannot_be_understood_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="15%,750"):
        WarmUp.parse(text)


# --- files ---


def _file(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("text", "at_s", "heat"),
    [
        ("time,heat_c\n2020-03-09 10:14:33,1\n2020-03-09 10:14:35,2\n", [0, 2], [1, 2]),
        ("datetime;heat_c;anomaly\n2020-03-09 10:14:33;1;1.0\n\n2020-03-09 10:14:34.5;;0.0\n", [0, 1.5], [1, np.nan]),
        ("t;fan_rpm;heat_c\n2020-03-09T10:14:33+08:00;9;1\n2020-03-09T02:14:34Z;9;nan\n", [0, 1], [1, np.nan]),
        ("minute,heat_c\n0,1\n3,2\n", [0, 180], [1, 2]),
        ("seconds,heat_c\n5,1\n5.25,2\n", [0, 0.25], [1, 2]),
    ],
)
def test_what_a_file_says(tmp_path: Path, text: str, at_s: list[float], heat: list[float]) -> None:
    read = read_recording(_file(tmp_path / "a.csv", text), OVEN)

    assert ((read.at - read.at[0]) / 1000).tolist() == at_s
    np.testing.assert_array_equal(read.value[:, 0], heat)


def test_labels_are_not_looked_at(tmp_path: Path) -> None:
    """Even where a profile names them."""
    named = Profile("odd", "Odd", "", (Sensor("heat_c"), Sensor("anomaly", limits=Limits(high=0.5))))
    file = _file(tmp_path / "a.csv", "time,heat_c,anomaly\n1,1,1\n2,1,1\n")

    assert np.isnan(read_recording(file, named).value[:, 1]).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: none of the columns is a sensor of oven: heat_c, fan_rpm"),
        ("time,other\n1,1\n", "line 1: none of the columns"),
        ("time,heat_c\n", "no rows"),
        ("time,heat_c\n1,1\nsoon,1\n", "line 3: the time 'soon' is neither"),
        ("time,heat_c\n1,1\nnan,1\n", "line 3: the time nan is no moment"),
        ("time,heat_c\n1e300,1\n", "line 2: the time 1e300 is no moment"),
        ("time,heat_c\n1,1\n2,warm\n", "line 3: heat_c is 'warm'"),
        ("time,heat_c\n1,1\n2\n", "line 3: 1 columns, the header has 2"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        read_recording(_file(tmp_path / "a.csv", text), OVEN)
    assert said in str(refused.value)
    assert "a.csv" in str(refused.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"time,heat_c\n1,\xff\xfe\n")
    with pytest.raises(Refused, match="UTF-8"):
        read_recording(tmp_path / "a.csv", OVEN)


def test_answers_never_land_on_their_questions(tmp_path: Path) -> None:
    file = _file(tmp_path / "data" / "a.csv", "time,heat_c\n1,1\n")
    with pytest.raises(Refused, match="write over"):
        detect_files(RULES, [file], tmp_path / "data", tmp_path / "data")
    with pytest.raises(Refused, match="below --root"):
        detect_files(RULES, [file], tmp_path / "elsewhere", tmp_path / "out")
    with pytest.raises(Refused, match="more than once"):
        detect_files(RULES, [file, tmp_path / "data" / ".." / "data" / "a.csv"], tmp_path, tmp_path / "out")
    assert file.read_text() == "time,heat_c\n1,1\n"


# --- the command ---

TOML = """
name = "oven"
title = "Oven"
title_zh = "炉"

[[sensor]]
name = "heat_c"
limits = { high = 100, hold_s = 30 }
"""


def _run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["detect", *map(str, arguments)], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return 2, str(result.exception)
    return result.exit_code, result.output


@pytest.fixture
def ovens(tmp_path: Path) -> Path:
    _file(tmp_path / "oven.toml", TOML)
    rows: npt.NDArray[np.int64] = np.arange(30)
    heat = np.where(rows >= 20, 101, 90)
    for name in ("north/1.csv", "south/1.csv"):
        _file(
            tmp_path / "data" / name, "s,heat_c\n" + "".join(f"{20 * k},{v}\n" for k, v in zip(rows, heat, strict=True))
        )
    return tmp_path


def test_every_row_has_its_line_under_the_path_of_its_file(ovens: Path) -> None:
    files = sorted((ovens / "data").glob("*/*.csv"))
    code, said = _run("--profile", ovens / "oven.toml", "--warmup", "10", "--root", ovens / "data",
                      "--out", ovens / "out", *files, "--json")  # fmt: skip

    assert code == 0, said
    assert json.loads(said) == {"files": 2, "rows": 60, "raised": 2, "out": str(ovens / "out")}
    for name in ("north/1.csv", "south/1.csv"):
        lines = _lines(ovens / "out" / name)
        # Spaced by 20 s, as the warm-up shows: 30 s beyond the limit are over with the third row.
        assert [k for k, line in enumerate(lines) if float(line["score"]) >= 0.5] == [22]
        assert [int(line["anomaly"]) for line in lines] == [0] * 22 + [1] * 8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "either --warmup"),
        (["--warmup", "10", "--learn", "data/north/1.csv"], "either --warmup"),
        (["--warmup", "some"], "15%,750"),
        (["--learn", "data/none.csv"], "none.csv"),
    ],
)
def test_what_is_healthy_must_be_said_once(ovens: Path, monkeypatch: pytest.MonkeyPatch, options: list[str],
                                           said: str) -> None:  # fmt: skip
    monkeypatch.chdir(ovens)
    code, answer = _run("--profile", "oven.toml", *options, "--root", "data", "--out", "out", "data/north/1.csv")

    assert code != 0
    assert said in answer


def test_a_profile_that_is_none_is_refused_with_its_file_and_reason(tmp_path: Path) -> None:
    with pytest.raises(BadProfile, match=r"bad\.toml.*hold"):
        Rules.read(_file(tmp_path / "bad.toml", TOML.replace("hold_s", "hold")))
    with pytest.raises(BadProfile, match="cannot be read"):
        Rules.read(tmp_path / "none.toml")
