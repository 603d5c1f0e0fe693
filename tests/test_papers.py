"""PDF: the same bytes for the same page, nothing fetched, and a clear word where it is not installed."""

import http.server
import io
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pypdf
import pytest

from monitor.papers import pdf as room
from monitor.papers.pdf import INSTALL, LONGEST_CHARS, CannotPrint, TooLong, pdf, stylesheet
from tests.api_world import furnish, world
from tests.inspecting import inspect

AT = 1_795_000_000_000
PAGE = '<!doctype html><html lang="zh-Hans"><head><title>报告</title><style>{}</style></head><body>{}</body></html>'


def page(body: str) -> str:
    return PAGE.format(stylesheet(), body)


def read(printed: bytes) -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(printed))


def test_chinese_and_english_are_drawn_and_the_date_is_that_of_the_figures() -> None:
    made = read(pdf(page("<h1>设备档案 Machine file</h1><p>冷却液温度 83.2 °C, 10 MΩ, ≥ 90 %</p>"), as_of=AT))
    text = made.pages[0].extract_text()
    assert all(word in text for word in ("设备档案 Machine file", "冷却液温度 83.2 °C, 10 MΩ, ≥ 90 %"))
    assert made.metadata is not None
    assert (made.metadata.title, made.metadata["/CreationDate"]) == ("报告", "D:20261118110640Z")
    # A font is embedded in which there are those signs: no reader needs one of its own.
    fonts = made.pages[0]["/Resources"]["/Font"]  # type: ignore[index]
    assert any("Noto" in font.get_object()["/BaseFont"] for font in fonts.values())


def test_the_same_page_is_the_same_file() -> None:
    first = pdf(page("<p>一</p>"), as_of=AT)
    assert pdf(page("<p>一</p>"), as_of=AT + 999) == first
    assert pdf(page("<p>一</p>"), as_of=AT + 1000) != first
    assert pdf(page("<p>二</p>"), as_of=AT) != first


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server that notes what it is asked for."""
    paths: list[str] = []

    class Noting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

    server = http.server.HTTPServer(("127.0.0.1", 0), Noting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()


def test_nothing_is_fetched_and_no_file_is_read(asked: tuple[str, list[str]], tmp_path: Path) -> None:
    url, paths = asked
    (tmp_path / "secret.css").write_text("p::after { content: 'sesame' }")
    (tmp_path / "secret.txt").write_text("sesame")
    picture = f"data:image/svg+xml;utf8,<svg xmlns='http://www.w3.org/2000/svg'><image href='{url}/c.png'/></svg>"
    local = f"file://{tmp_path}/secret"
    body = f"""
      <p>still here</p><img src="{url}/a.png"><img src="/a.png"><link rel="stylesheet" href="{url}/b.css">
      <link rel="stylesheet" href="{local}.css"><link rel="attachment" href="{local}.txt">
      <style>@import url({url}/d.css); @font-face {{ font-family: x; src: url({url}/e.ttf) }} p {{ font-family: x;
      background: url({url}/f.png) }}</style><img src="{picture}"><object data="{url}/g.svg"></object>
      <img src="ftp://127.0.0.1/h"><embed src="file:///etc/passwd">"""
    made = read(pdf(page(body)))
    assert "still here" in made.pages[0].extract_text()
    assert "sesame" not in made.pages[0].extract_text()
    assert (made.attachments, paths) == ({}, [])


def test_a_paper_is_bounded() -> None:
    with pytest.raises(TooLong, match="at most 2000000 characters"):
        pdf("x" * (LONGEST_CHARS + 1))


def test_where_a_library_is_missing_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the import itself fails where Pango is not there: the package cannot open its library."""
    for name in [name for name in sys.modules if name.split(".")[0] == "weasyprint"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "weasyprint.py").write_text("raise OSError('cannot load library libpango-1.0-0')")
    with world(tmp_path, at=AT) as company:
        furnish(company, readings=False)
        with company.client("technician") as tang:
            inspection_id = inspect(tang, "gen-yard").json()["id"]
            monkeypatch.syspath_prepend(str(tmp_path))
            with pytest.raises(CannotPrint, match=INSTALL.replace(".", "[.]")):
                room.pdf(page("x"))
            refused = tang.get(f"/api/v1/inspections/{inspection_id}.pdf")
            assert (refused.status_code, INSTALL in refused.json()["detail"]) == (503, True)
            assert tang.get(f"/api/v1/inspections/{inspection_id}").status_code == 200
