"""A notice's plain text in HTML clothes: the same lines, as paragraphs, a table, lists and a button. Pure.

The words are written once (texts/{lang}.toml); only their looks stand in texts/letter.html. Everything is escaped, and
nothing is fetched from elsewhere. A line becomes a link only where it is one of our own.
"""

import re
from collections.abc import Collection, Iterator
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import NamedTuple

import jinja2

# "Machine: GX-1" and its Chinese counterpart: what the text itself sets apart as a name and a value.
FACT = re.compile(r"([^\s:][^:]{0,30}): (\S.*)|([^\s\uff1a][^\uff1a]{0,15})\uff1a(\S.*)")
BULLETS = ("- ", "· ")
INDENT = "  "


class Line(NamedTuple):
    """A line and what it is: text, fact (`name`, `value`), item (`more`: the lines below it), link or blank."""

    what: str
    text: str = ""
    name: str = ""
    value: str = ""
    more: tuple["Line", ...] = ()


def letter(lang: str, subject: str, body: str, links: Collection[str], opens: str) -> str:
    """The page for a body. `links`: the lines that are ours to lead somewhere; `opens`: what the button says."""
    lines = list(_lines(body, links))
    blocks = [_block(what, list(some)) for what, some in groupby(lines, key=lambda line: line.what) if what != "blank"]
    page: str = _template().render(lang=lang, subject=subject, blocks=blocks, opens=opens)
    return page


def _block(what: str, lines: list[Line]) -> tuple[str, list[Line]]:
    """A table has two rows at least: what stands alone is a sentence ("Does not start: third attempt")."""
    return ("text" if what == "fact" and len(lines) == 1 else what), lines


def _lines(body: str, links: Collection[str]) -> Iterator[Line]:
    item: Line | None = None
    for text in body.splitlines():
        if item is not None and text.startswith(INDENT):
            item = item._replace(more=(*item.more, _line(text.strip(), links, alone=False)))
            continue
        if item is not None:
            yield item
            item = None
        if text.startswith(BULLETS):
            item = Line("item", text[2:])
        else:
            yield _line(text, links, alone=True)
    if item is not None:
        yield item


def _line(text: str, links: Collection[str], *, alone: bool) -> Line:
    if text in links:
        return Line("link", text)
    if not text:
        return Line("blank")
    found = FACT.fullmatch(text) if alone else None
    if found:
        return Line("fact", text, found[1] or found[3], found[2] or found[4])
    return Line("text", text)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(files("monitor.desk").joinpath("texts", "letter.html").read_text("utf-8"))
