"""Errors as RFC 9457 problem details: what, where, and what is allowed instead."""

from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field


class Problem(Exception):
    """Something the asker has to know, with the status to answer by. Further facts go in as `more`."""

    def __init__(
        self, status: int, title: str, detail: str = "", *, headers: dict[str, str] | None = None, **more: object
    ) -> None:
        super().__init__(detail or title)
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = headers or {}
        self.more = more


def not_found(what: str) -> Problem:
    """There is none, or none that the asker may see: the same answer, so that it tells nothing."""
    return Problem(404, "Not found", f"There is no such {what} here.")


def problem_response(problem: Problem) -> JSONResponse:
    body: dict[str, object] = {"type": "about:blank", "title": problem.title, "status": problem.status}
    if problem.detail:
        body["detail"] = problem.detail
    return JSONResponse(
        body | problem.more, problem.status, problem.headers, media_type="application/problem+json"
    )  # fmt: skip


def of_validation(error: RequestValidationError) -> Problem:
    """What was wrong with a request, field by field, without repeating what was sent."""
    errors = [{"field": ".".join(map(str, found["loc"])), "detail": found["msg"]} for found in error.errors()]
    detail = "; ".join(f"{found['field']}: {found['detail']}" for found in errors)
    return Problem(422, "The request is not valid", detail, errors=errors)


def of_status(status: int, detail: object) -> Problem:
    phrase = HTTPStatus(status).phrase
    return Problem(status, phrase, "" if detail == phrase else str(detail))


def is_api(request: Request) -> bool:
    """Whether a program asks: below /api, or anywhere with a bearer token."""
    path = request.url.path
    by_token = request.headers.get("authorization", "").lower().startswith("bearer ")
    return by_token or path.startswith("/api/") or path in ("/api", "/openapi.json")


class ProblemDetails(BaseModel):
    """The shape of every error (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str = Field(examples=["This step is not possible now"])
    status: int
    detail: str = ""


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: the errors that a route can answer by."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "model": ProblemDetails, "content": content}
        for status in statuses
    }
