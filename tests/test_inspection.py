"""Checklists and their judging (E2, E3, E6), as tables, and over whatever anybody could answer."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.fleet.inspection import (
    PHOTO_LENGTH,
    Answer,
    Checklist,
    Course,
    Finding,
    Item,
    Kind,
    Says,
    Verdict,
    What,
    Why,
    checklists_from,
    compare,
    damage,
    fails,
    is_photo,
    judge,
    passed,
    shipped_checklists,
    unknown_codes,
)
from monitor.store.profiles import load_profiles

BRAKE = Item("brake", What.CHECK, "Brake", "制动")
FIRE = Item("fire", What.CHECK, "Extinguisher", "灭火器", may_not_apply=True)
VOLT = Item("volt", What.VALUE, "Voltage", "电压", unit="V", low=12.4, high=13.2)
EARTH = Item("earth", What.VALUE, "Earth", "接地", unit="Ω", high=0.3)
FRONT = Item("front", What.PHOTO, "Front", "正面")
EXTRA = Item("extra", What.PHOTO, "Extra", "其他", required=False)
LIST = Checklist("t", (BRAKE, FIRE, VOLT, EARTH, FRONT, EXTRA))
WELL = (
    Answer("brake", Says.PASS), Answer("fire", Says.PASS), Answer("volt", value=12.6), Answer("earth", value=0.1),
    Answer("front", photo="front.jpg"),
)  # fmt: skip


def inspected(*changed: Answer) -> tuple[Finding, ...]:
    """All in order but for what is answered otherwise."""
    return judge(LIST, [*WELL, *changed])


def of(code: str, findings: tuple[Finding, ...]) -> tuple[Verdict, Why | None]:
    found = next(finding for finding in findings if finding.code == code)
    return found.verdict, found.why


# --- judging -------------------------------------------------------------------------------------------------------


def test_all_in_order_is_passed() -> None:
    assert passed(inspected())
    assert of("extra", inspected()) == (Verdict.LEFT_OUT, None)
    assert not passed(())


@pytest.mark.parametrize(
    ("answer", "verdict", "why"),
    [
        (Answer("brake", Says.FAIL), Verdict.FAIL, Why.FOUND),
        (Answer("brake"), Verdict.FAIL, Why.MISSING),
        (Answer("brake", value=1.0), Verdict.FAIL, Why.MISSING),
        (Answer("brake", Says.NOT_APPLICABLE, reason="none fitted"), Verdict.FAIL, Why.MUST_APPLY),
        (Answer("fire", Says.NOT_APPLICABLE), Verdict.FAIL, Why.NO_REASON),
        (Answer("fire", Says.NOT_APPLICABLE, reason="  "), Verdict.FAIL, Why.NO_REASON),
        (Answer("fire", Says.NOT_APPLICABLE, reason="the site's own"), Verdict.NOT_APPLICABLE, None),
        (Answer("volt", value=12.4), Verdict.PASS, None),
        (Answer("volt", value=13.2), Verdict.PASS, None),
        (Answer("volt", value=12.399), Verdict.FAIL, Why.TOO_LOW),
        (Answer("volt", value=13.201), Verdict.FAIL, Why.TOO_HIGH),
        # The inspector's word makes no measured value good, and a bad word is believed.
        (Answer("volt", Says.PASS, value=11.0), Verdict.FAIL, Why.TOO_LOW),
        (Answer("volt", Says.PASS), Verdict.FAIL, Why.MISSING),
        (Answer("volt", Says.FAIL, value=12.6), Verdict.FAIL, Why.FOUND),
        (Answer("volt", value=math.nan), Verdict.FAIL, Why.NOT_A_NUMBER),
        (Answer("volt", value=math.inf), Verdict.FAIL, Why.NOT_A_NUMBER),
        (Answer("earth", value=-5.0), Verdict.PASS, None),
        (Answer("earth", value=-1e13), Verdict.FAIL, Why.NOT_A_NUMBER),
        (Answer("front"), Verdict.FAIL, Why.MISSING),
        (Answer("front", photo="../etc/passwd"), Verdict.FAIL, Why.NO_REFERENCE),
        (Answer("extra", photo="javascript:alert(1)"), Verdict.FAIL, Why.NO_REFERENCE),
        (Answer("extra", Says.FAIL), Verdict.FAIL, Why.FOUND),
        (Answer("extra", photo="https://photos.example/1.jpg"), Verdict.PASS, None),
    ],
)
def test_one_item(answer: Answer, verdict: Verdict, why: Why | None) -> None:
    findings = inspected(answer)
    assert of(answer.code, findings) == (verdict, why)
    assert passed(findings) is (verdict is not Verdict.FAIL)
    assert [finding.code for finding in fails(findings)] == ([answer.code] if verdict is Verdict.FAIL else [])


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("IMG_2041.jpg", True), ("照片 1 (左).jpg", True), ("https://photos.example/a/b?c=d", True),
        ("http://10.0.0.5:8080/x.png", True), ("", False), ("a/b.jpg", False), ("..", False), (".hidden", False),
        ("file:///etc/passwd", False), ("javascript:alert(1)", False), ("data:image/png;base64,AA", False),
        ("https://", False), ("https://photos.example/a b", False), ("https://x.example/" + "a" * 400, False),
        ("a" * PHOTO_LENGTH, True), ("a" * (PHOTO_LENGTH + 1), False), ("a\nb.jpg", False), ("<img>.jpg", False),
    ],
)  # fmt: skip
def test_what_can_stand_for_a_photo(text: str, good: bool) -> None:
    assert is_photo(text) is good


def test_answers_beside_the_list_are_named() -> None:
    answers = [*WELL, Answer("brake", Says.FAIL), Answer("wings", Says.PASS)]
    assert unknown_codes(LIST, answers) == ["brake", "wings"]
    assert unknown_codes(LIST, WELL) == []


ANYTHING = st.lists(
    st.builds(
        Answer,
        code=st.sampled_from([item.code for item in LIST.items] + ["wings", ""]),
        says=st.sampled_from([None, *Says]),
        value=st.none() | st.floats(),
        photo=st.text(max_size=20) | st.just("a.jpg"),
        reason=st.text(max_size=5),
    ),
    max_size=12,
)


@given(ANYTHING)
def test_whatever_is_answered_each_item_has_one_verdict(answers: list[Answer]) -> None:
    findings = judge(LIST, answers)
    assert [finding.code for finding in findings] == [item.code for item in LIST.items]
    assert all((finding.verdict is Verdict.FAIL) == (finding.why is not None) for finding in findings)
    for finding in findings:
        if finding.verdict is Verdict.PASS and finding.what is What.VALUE:
            assert finding.value is not None
            assert (finding.low or -math.inf) <= finding.value <= (finding.high or math.inf)
        if finding.required:
            assert finding.verdict is not Verdict.LEFT_OUT
    assert passed(findings) is all(finding.verdict is not Verdict.FAIL for finding in findings)
    assert compare(findings, findings) == compare(findings, judge(LIST, answers))
    assert damage(compare(findings, findings)) == ()


# --- comparing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "back", "course", "difference"),
    [
        (Answer("brake", Says.PASS), Answer("brake", Says.FAIL), Course.DAMAGE, None),
        (Answer("brake", Says.FAIL), Answer("brake", Says.FAIL), Course.FAULTY_BEFORE, None),
        (Answer("brake", Says.FAIL), Answer("brake", Says.PASS), Course.MENDED, None),
        (Answer("brake", Says.PASS), Answer("brake", Says.PASS), Course.SAME, None),
        (Answer("brake"), Answer("brake", Says.FAIL), Course.NOT_COMPARED, None),
        (Answer("brake", Says.PASS), Answer("brake"), Course.NOT_COMPARED, None),
        (Answer("volt", value=12.6), Answer("volt", value=12.8), Course.CHANGED, 0.2),
        (Answer("volt", value=12.6), Answer("volt", value=12.6), Course.SAME, 0.0),
        (Answer("volt", value=12.6), Answer("volt", value=11.6), Course.DAMAGE, -1.0),
        (Answer("fire", Says.NOT_APPLICABLE, reason="own"), Answer("fire", Says.PASS), Course.CHANGED, None),
        (Answer("extra"), Answer("extra", Says.FAIL), Course.NOT_COMPARED, None),
    ],
)
def test_what_became_of_an_item(out: Answer, back: Answer, course: Course, difference: float | None) -> None:
    changes = compare(inspected(out), inspected(back))
    change = next(change for change in changes if change.code == out.code)
    assert (change.course, change.difference) == (course, difference)
    assert [one.code for one in damage(changes)] == ([out.code] if course is Course.DAMAGE else [])
    assert {one.course for one in changes if one.code not in (out.code, "extra")} <= {Course.SAME}


def test_an_item_that_only_one_list_has_is_not_compared() -> None:
    shorter = judge(Checklist("t", (BRAKE,)), [Answer("brake", Says.PASS)])
    assert [(one.code, one.course) for one in compare(inspected(), shorter)][:2] == [
        ("brake", Course.SAME), ("fire", Course.NOT_COMPARED),
    ]  # fmt: skip
    assert [one.code for one in compare(shorter, inspected())] == [item.code for item in LIST.items]


# --- the lists -----------------------------------------------------------------------------------------------------


def test_every_model_has_a_checklist_for_each_kind() -> None:
    for profile in [*load_profiles(), "some_other_model"]:
        for kind in Kind:
            items = shipped_checklists().of(profile, kind).items
            assert {"guards", "emergency_stop"} <= {item.code for item in items}
            assert any(item.required for item in items)
    generator = {item.code for item in shipped_checklists().of("diesel_generator", Kind.HAND_OVER).items}
    assert "insulation_mohm" in generator
    assert "safety_valve" not in generator


def test_every_model_that_an_item_names_is_one() -> None:
    named = {profile for item in shipped_checklists().items for profile in item.profiles}
    assert named <= set(load_profiles())
    assert all(item.title and item.title_zh for item in shipped_checklists().items)


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        ('code = "a"\nwhat = "value"', "without them nothing could judge it"),
        ('code = "a"\nwhat = "check"\nhigh = 3', "belong to a value"),
        ('code = "a"\nwhat = "value"\nlow = 3\nhigh = 2', "lies above"),
        ('code = "A b"\nwhat = "check"', "matching regex"),
        ('code = "a"\nwhat = "smell"', "Invalid enum value"),
        ('code = "a"\nwhat = "check"\nlimit = 3', "unknown field"),
        ('code = "a"\nwhat = "check"\ntitle = ""\ntitle_zh = ""\n[[item]]\ncode = "a"\nwhat = "check"', "twice"),
    ],
)
def test_a_wrong_list_is_refused(item: str, complaint: str) -> None:
    title = "" if "title" in item else 'title = ""\ntitle_zh = ""\n'
    last = '\ntitle = ""\ntitle_zh = ""' if "title" in item else ""
    text = f'version = "1"\n[[item]]\n{title}{item}{last}'
    with pytest.raises(ValueError, match=complaint):
        checklists_from(text.encode())
