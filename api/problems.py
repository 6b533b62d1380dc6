"""Every error of this door as a problem (RFC 9457): ours, the framework's and the server's."""

from typing import Any

import msgspec
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.envelope import request_id_of
from domain.errors import FieldError, RefundError
from engine.patience import MEDIA_TYPE
from engine.problems import Problem, problem_of

log = structlog.get_logger(__name__)

_CODES = {
    400: ("bad-request", "Cannot be read"),
    401: ("unauthenticated", "Who is asking?"),
    403: ("forbidden", "Not allowed"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Not done here"),
    408: ("request-timeout", "Too slow"),
    413: ("body-too-large", "Too large"),
    415: ("unsupported-media-type", "Not understood"),
    422: ("validation-failed", "Cannot be accepted"),
    503: ("overloaded", "Busy"),
}


class Faulty(Exception):
    """A request that the door itself turns away."""

    def __init__(self, status: int, detail: str, *, code: str | None = None, retry_after: float | None = None) -> None:
        own, title = _CODES[status]
        self.problem = Problem(status=status, code=code or own, title=title, detail=detail, retry_after=retry_after)
        super().__init__(detail)


def handle_errors(app: FastAPI) -> None:
    """Have every exception answered as a problem."""
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(RequestValidationError, _parameters)
    for kind in (Faulty, RefundError):
        app.add_exception_handler(kind, _known)
    app.add_exception_handler(Exception, _known)


def document(problem: Problem, request: Request) -> dict[str, Any]:
    """A problem as it is answered here."""
    return {**problem.document(), "instance": request.url.path, "request_id": request_id_of(request.scope)}


def answer(problem: Problem, request: Request, headers: dict[str, str] | None = None) -> Response:
    """The response."""
    known = dict(headers or {})
    if problem.retry_after is not None:
        known["Retry-After"] = str(max(1, round(problem.retry_after)))
    if problem.status == 401:  # noqa: PLR2004
        known["WWW-Authenticate"] = "Bearer"

    return Response(
        msgspec.json.encode(document(problem, request)), problem.status, headers=known, media_type=MEDIA_TYPE
    )


def of_error(error: Exception) -> Problem:
    """The problem that an exception stands for; a defect of ours is told to the log alone."""
    problem = error.problem if isinstance(error, Faulty) else problem_of(error)
    if problem is None:
        log.error("http.failed", exc_info=error)
        problem = Problem(status=500, code="internal-error", title="Our fault", detail="this should not have happened")
    elif problem.status == 503:  # noqa: PLR2004
        log.warning("http.unavailable", code=problem.code)
        # What a driver says names hosts and users: that is for the log of whoever runs this.
        problem = Problem(status=503, code=problem.code, title=problem.title, detail="not at the moment", retry_after=1)

    return problem


async def _known(request: Request, error: Exception) -> Response:
    return answer(of_error(error), request)


async def _framework(request: Request, error: Exception) -> Response:
    """What Starlette and FastAPI refuse by themselves; OPTIONS on a path that exists is told what may be done there."""
    assert isinstance(error, HTTPException)
    if error.status_code != 405:  # noqa: PLR2004
        code, title = _CODES.get(error.status_code, _CODES[400])
        return answer(Problem(status=error.status_code, code=code, title=title, detail=str(error.detail)), request)
    allow = {"Allow": ", ".join(_methods(request))}
    if request.method == "OPTIONS":
        return Response(status_code=204, headers=allow)
    code, title = _CODES[405]
    detail = f"{request.method} is not done here; {allow['Allow']} may be"

    return answer(Problem(status=405, code=code, title=title, detail=detail), request, allow)


def _methods(request: Request) -> list[str]:
    """What may be done at a path, over all routes that know it."""
    path = request.url.path
    known = [each for each in request.app.state.routes if each.path_regex.match(path)]
    exact = [each for each in known if each.path == path]  # "batch" is no refund's id
    methods = {"OPTIONS"}.union(*(each.methods for each in exact or known))
    methods |= {"HEAD"} if "GET" in methods else set()

    return sorted(methods)


async def _parameters(request: Request, error: Exception) -> Response:
    """Query and path parameters: each fault with the parameter's name."""
    assert isinstance(error, RequestValidationError)
    faults = tuple(
        FieldError("#/" + "/".join(map(str, each["loc"][1:])), str(each["msg"]).removeprefix("Value error, ")[:300])
        for each in error.errors()
    )
    detail = "; ".join(map(str, faults))

    return answer(
        Problem(status=422, code="validation-failed", title=_CODES[422][1], detail=detail, errors=faults), request
    )
