"""HTML to PDF with WeasyPrint, which draws with the system's Pango and the fonts that are installed.

What is printed is all in the HTML: no address is opened and no file is read for it, whatever somebody wrote into a
name. The same HTML gives the same bytes on the same machine.
"""

from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weasyprint import HTML, URLFetcher

INSTALL = "libpango-1.0-0 libpangoft2-1.0-0 fonts-noto-cjk"
"""Debian's names of what printing needs of the system."""
LONGEST_CHARS = 2_000_000
"""A longer paper would keep a core busy for minutes."""


class CannotPrint(Exception):
    """What printing needs is not installed; the message says what to install."""


class TooLong(Exception):
    """The paper has more in it than anybody prints; the message says how much there may be."""


def pdf(html: str, *, as_of: int | None = None) -> bytes:
    """A whole HTML page as PDF. `as_of` (ms) is when the file says that it was made: the moment that its figures are
    of, so that printing it again gives the same file.

    Raises CannotPrint and TooLong.
    """
    if len(html) > LONGEST_CHARS:
        raise TooLong(f"at most {LONGEST_CHARS} characters can be printed at once, and this has {len(html)}")
    page, fetcher = _printer()
    # Relative addresses lead nowhere (no base_url), and of the others only `data:` is opened.
    document = page(string=html, url_fetcher=fetcher(allowed_protocols=("data",), allow_redirects=False)).render()
    document.metadata.generator = "fettle"
    if as_of is not None:
        made = datetime.fromtimestamp(as_of // 1000, UTC).isoformat().replace("+00:00", "Z")
        document.metadata.created = document.metadata.modified = made
    printed: bytes = document.write_pdf()
    return printed


@cache
def stylesheet() -> str:
    """What papers wear. It goes into the page itself, in `<style>`, so that nothing need be fetched for it."""
    return files("monitor.papers").joinpath("paper.css").read_text("utf-8")


def _printer() -> "tuple[type[HTML], type[URLFetcher]]":
    """WeasyPrint opens its libraries when it is imported: only here, so that all else works without them."""
    try:
        from weasyprint import HTML, URLFetcher
    except OSError as error:
        raise CannotPrint(f"PDF needs system libraries that are missing here: install {INSTALL}") from error
    return HTML, URLFetcher
