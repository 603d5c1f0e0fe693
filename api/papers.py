"""Papers: a template of `templates/papers/`, in the reader's words, as PDF."""

from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response

from api.context import api_of
from api.labels import Labels
from api.problems import Problem
from api.turns import turns_of
from api.words import wanted_lang, words_in
from monitor.papers.pdf import CannotPrint, TooLong, pdf, stylesheet

PaperLang = Annotated[Literal["zh", "en"] | None, Query(description="Its language; without it, the reader's.")]
WAIT_S = 30.0
PDF = "application/pdf"
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {PDF: {"schema": {"type": "string", "format": "binary"}}}}
}
"""For OpenAPI: what a route that prints answers."""


def printed(
    request: Request, template: str, *, name: str, as_of: int, lang: str | None = None, **known: object
) -> Response:
    """`papers/{template}` as PDF, to be shown by the browser and saved as `{name}.pdf`.

    `as_of` (ms) is the moment that it tells of, which is also the file's own date; `known` is what the template reads.
    Raises the 503 Problem where printing is not installed, or others print for too long.
    """
    api = api_of(request)
    # A paper lies in the company's folder: its times are the company's, whoever prints it.
    words = words_in(lang or wanted_lang(request, api.lang), api.timezone)
    html = words.environment.get_template(f"papers/{template}").render(
        known, labels=Labels(words, api.profiles), as_of=as_of, stylesheet=stylesheet(),
    )  # fmt: skip
    try:
        with turns_of(request).papers.turn(WAIT_S, "Other papers are being printed."):
            body = pdf(html, as_of=as_of)
    except CannotPrint as missing:
        raise Problem(503, "PDF is not installed here", str(missing)) from missing
    except TooLong as long:
        raise Problem(422, "Too long to print", str(long)) from long
    headers = {"Content-Disposition": f'inline; filename="{name}.pdf"'}
    return Response(body, media_type=PDF, headers=headers)
