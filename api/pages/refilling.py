"""A form that was refused, shown again as it was sent: with what somebody had filled in, its folds open, and the
refusal beside the field that it is about. Pure: the page's own HTML in, HTML out; no template has to know of it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser

from api.words import NOTHING

SEEN, READ_AT = "seen", "read_at"
"""Hidden fields: the tag of what somebody had read, and when the latest of it was done."""
KEPT_TYPES = ("hidden", "submit", "button", "image", "reset", "file", "password")
"""Inputs that nobody writes in, or that are never sent back."""
WRITTEN = ("note", "parts", "text", "access_notes", "reason")
"""Fields of what somebody wrote in words of their own: not lost where their form stands on the page no more."""

CODE = re.compile(r"[a-z_]+")
"""What a choice sends is nobody's words."""

Edit = tuple[int, int, str]
Lists = Mapping[str, Sequence[str]]
Attributes = dict[str, str | None]


@dataclass(frozen=True)
class Refusal:
    """Why a form was not taken, in the reader's words. `field`: what of the form it is about, '' where that is not
    known; `stale`: somebody else changed it meanwhile; `newer` then says what stands there now, beside each field of a
    form that edits what is kept (data-edits)."""

    words: str
    field: str = ""
    stale: bool = False
    newer: str = ""
    wrote: str = ""
    """What stands above the words that would be lost."""
    yes: str = ""
    no: str = ""


@dataclass
class Control:
    """A field of a form. `start`, `end`: its tag; `inner`: what stands between it and its closing tag."""

    kind: str
    name: str
    attributes: Attributes
    start: int
    end: int
    nth: int
    """Which of its name it is in the form, from 0."""
    inner: tuple[int, int] = (0, 0)
    beside_at: int = 0
    """Where its label ends."""
    title: str = ""
    """What stands beside it: of boxes to tick, above them."""
    options: "list[Option]" = field(default_factory=list)

    @property
    def ident(self) -> str:
        return self.attributes.get("id") or "refused"

    @property
    def ticked(self) -> bool:
        return self.attributes.get("type") in ("checkbox", "radio")


@dataclass
class Option:
    attributes: Attributes
    start: int
    end: int
    text: str = ""

    @property
    def value(self) -> str:
        given = self.attributes.get("value")
        return self.text.strip() if given is None else given


@dataclass
class FormFound:
    """A form of the page. `folds`: the opening tags of the folds that it lies in, from the outermost."""

    start: int
    end: int
    actions: set[str]
    folds: list[tuple[int, int, Attributes]]
    edits: bool
    controls: list[Control] = field(default_factory=list)

    def hidden(self) -> Iterator[tuple[str, str]]:
        for one in self.controls:
            if one.attributes.get("type") == "hidden" and one.name not in (SEEN, READ_AT):
                yield one.name, one.attributes.get("value") or ""


def refilled(html: str, action: str, sent: Lists, refusal: Refusal) -> str:
    """The page with the form for `action` as it was sent. Where that stands on it no more, what somebody wrote is shown
    below the refusal."""
    reader = _Reader(html)
    reader.feed(html)
    fits = [one for one in reader.forms if action in one.actions]
    ours = [one for one in fits if all(value in sent.get(name, ()) for name, value in one.hidden())]
    edits = list(_of_form(html, ours[0], sent, refusal)) if ours else list(_wrote(html, sent, refusal))
    for start, end, text in sorted(edits, reverse=True):
        html = html[:start] + text + html[end:]
    return html


def _of_form(html: str, form: FormFound, sent: Lists, refusal: Refusal) -> Iterator[Edit]:
    for start, end, attributes in form.folds:
        if "open" not in attributes:
            yield start, end, _tag("details", attributes | {"open": None})
    about = _about(form, refusal.field)
    for one in form.controls:
        yield from _of_control(one, sent, refusal, wrong=one is about)
        if refusal.stale and form.edits and one.attributes.get("type") not in KEPT_TYPES:
            now = _now(html, one, sent.get(one.name, ()), refusal)
            if now:
                beside = f'<small class="newer">{escape(refusal.newer % {"now": now})}</small>'
                yield one.beside_at, one.beside_at, beside
    if not refusal.words:
        return
    if about is None:
        yield form.end, form.end, f'<p class="wrong">{escape(refusal.words)}</p>'
        return
    yield about.beside_at, about.beside_at, f'<small class="wrong">{escape(refusal.words)}</small>'
    at = _alert_ends(html)
    if at and about.title:
        yield at, at, f' <a class="tap" href="#{about.ident}">{escape(about.title)}</a>'


def _about(form: FormFound, name: str) -> Control | None:
    """The field that a refusal is about: by its name, or as the API has it (`until_at` for `until`, `parts.0`)."""
    if not name:
        return None
    stem = name.split(".")[0] if name.rpartition(".")[2].isdigit() else name
    names = (name, name.removesuffix("_at"), stem, stem.removesuffix("_at"))
    shown = [one for one in form.controls if one.attributes.get("type") != "hidden"]
    return next((one for wanted in names for one in shown if one.name == wanted), None)


def _of_control(one: Control, sent: Lists, refusal: Refusal, *, wrong: bool) -> Iterator[Edit]:
    if one.name in (SEEN, READ_AT):
        # Who is shown what somebody else did has seen it; else they still decide by what they had read.
        if not refusal.stale and sent.get(one.name):
            yield one.start, one.end, _tag("input", one.attributes | {"value": sent[one.name][-1]})
        return
    if one.attributes.get("type") in KEPT_TYPES or not one.name:
        return
    marks: Attributes = {"id": one.ident, "aria-invalid": "true"} if wrong else {}
    given = sent.get(one.name, ())
    if one.ticked:
        chosen = (one.attributes.get("value") or "on") in given
        yield one.start, one.end, _tag(one.kind, _set(one.attributes, "checked", chosen) | marks)
    elif one.nth >= len(given):
        if marks:
            yield one.start, one.end, _tag(one.kind, one.attributes | marks)
    elif one.kind == "select":
        yield one.start, one.end, _tag(one.kind, one.attributes | marks)
        for option in one.options:
            chosen = option.value == given[one.nth]
            yield option.start, option.end, _tag("option", _set(option.attributes, "selected", chosen))
    elif one.kind == "textarea":
        yield one.start, one.end, _tag(one.kind, one.attributes | marks)
        yield *one.inner, "\n" + escape(given[one.nth].replace("\r\n", "\n"))
    else:
        yield one.start, one.end, _tag(one.kind, one.attributes | marks | {"value": given[one.nth]})


def _now(html: str, one: Control, given: Sequence[str], refusal: Refusal) -> str:
    """What the record has in a field, as it is shown, where somebody sent something else; '' where it is the same."""
    if one.ticked:
        if one.attributes.get("type") == "radio":
            return ""
        there = "checked" in one.attributes
        return "" if there == ((one.attributes.get("value") or "on") in given) else refusal.yes if there else refusal.no
    if one.nth >= len(given):
        return ""
    if one.kind == "select":
        chosen = next((option for option in one.options if "selected" in option.attributes), None)
        chosen = chosen or next(iter(one.options), None)
        return "" if chosen is None or chosen.value == given[one.nth] else chosen.text.strip() or NOTHING
    if one.kind == "textarea":
        there_now = _plain(html[slice(*one.inner)])
        return "" if there_now == given[one.nth].replace("\r\n", "\n").strip() else there_now or NOTHING
    value = one.attributes.get("value") or ""
    return "" if value == given[one.nth] else value or NOTHING


def _wrote(html: str, sent: Lists, refusal: Refusal) -> Iterator[Edit]:
    """The form is gone; the words that somebody wrote in it are not."""
    words = [text for name in WRITTEN for text in sent.get(name, ()) if text and not CODE.fullmatch(text)]
    at = _alert_ends(html)
    if words and at:
        at += len("</p>")
        shown = "".join(f'<blockquote class="written">{escape(text)}</blockquote>' for text in words)
        yield at, at, f'<div class="wrote"><p>{escape(refusal.wrote)}</p>{shown}</div>'


def _alert_ends(html: str) -> int:
    """Where the words above the forms end; 0 where there are none."""
    alert = html.find('class="refusal" role="alert"')
    return html.find("</p>", alert) if alert >= 0 else 0


def _plain(text: str) -> str:
    reader = _Text()
    reader.feed(text)
    return "".join(reader.found).replace("\r\n", "\n").strip()


def _set(attributes: Attributes, name: str, on: bool) -> Attributes:
    rest = {key: value for key, value in attributes.items() if key != name}
    return rest | {name: None} if on else rest


def _tag(kind: str, attributes: Attributes) -> str:
    said = "".join(f" {name}" if value is None else f' {name}="{escape(value)}"' for name, value in attributes.items())
    return f"<{kind}{said}>"


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)


class _Reader(HTMLParser):
    """Finds the forms of a page with their fields, and where each stands in its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[FormFound] = []
        self._lines = [0]
        for line in html.split("\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)
        self._folds: list[tuple[int, int, Attributes]] = []
        self._form: FormFound | None = None
        self._open: Control | None = None
        self._option: Option | None = None
        self._labelled: list[Control] = []
        self._words: list[str] | None = None
        """Of the label or the legend that is being read."""
        self._legend = ""

    def _place(self) -> int:
        line, offset = self.getpos()
        return self._lines[line - 1] + offset

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        start, attributes = self._place(), dict(attrs)
        end = start + len(self.get_starttag_text() or "")
        if tag == "details":
            self._folds.append((start, end, attributes))
        elif tag == "form":
            self._form = FormFound(
                start, end, {attributes.get("action") or ""}, list(self._folds), "data-edits" in attributes
            )
            self.forms.append(self._form)
        elif self._form is None:
            return
        elif tag in ("label", "legend"):
            self._labelled, self._words = [], []
        elif tag == "fieldset":
            self._legend = ""
        elif tag == "button":
            self._form.actions.add(attributes.get("formaction") or "")
        elif tag == "option" and self._open is not None:
            self._option = Option(attributes, start, end)
            self._open.options.append(self._option)
        elif tag in ("input", "select", "textarea"):
            self._add(self._form, tag, attributes, start, end)

    def _add(self, form: FormFound, tag: str, attributes: Attributes, start: int, end: int) -> None:
        name = attributes.get("name") or ""
        # Of boxes to tick each has a value of its own; of other fields of one name each has its place.
        nth = sum(one.name == name for one in form.controls)
        control = Control(tag, name, attributes, start, end, nth, (end, end), end)
        form.controls.append(control)
        self._labelled.append(control)
        control.title = self._legend
        self._open = control if tag in ("select", "textarea") else None

    def handle_endtag(self, tag: str) -> None:
        at = self._place()
        if tag == "details" and self._folds:
            self._folds.pop()
        elif tag == "form":
            self._form = None
        elif tag == "option":
            self._option = None
        elif tag in ("select", "textarea") and self._open is not None:
            self._open.inner = (self._open.end, at)
            self._open.beside_at = at + len(tag) + 3
            self._open = None
        elif tag == "label":
            for one in self._labelled:
                one.beside_at = at
                one.title = self._title(one)
            self._labelled, self._words = [], None
        elif tag == "legend":
            self._legend, self._words = self._said(), None
        elif tag == "fieldset":
            self._legend = ""

    def _title(self, one: Control) -> str:
        said, above = self._said(), self._legend
        if one.ticked and above:
            return above
        return said if said.startswith(above) else f"{above}: {said}"

    def _said(self) -> str:
        return " ".join("".join(self._words or ()).split())

    def handle_data(self, data: str) -> None:
        if self._option is not None:
            self._option.text += data
        elif self._words is not None and self._open is None:
            self._words.append(data)
