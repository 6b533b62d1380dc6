"""The application: screens, errors as pages, static files, all behind the guard."""

from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from console.guard import Guard
from console.pages import HERE, bare, page
from console.screens import (
    accounts,
    approvals,
    audit,
    bulk,
    create,
    dead,
    overview,
    queues,
    recon,
    refund,
    refunds,
    settings,
    sign_in,
    webhooks,
)
from console.session import NotSignedIn, engine_of
from domain.errors import Conflict, Forbidden, InvalidJob, NotFound, Refused
from engine import people
from engine.bootstrap import Engine
from engine.ids import new_id
from engine.sessions import recognised

log = structlog.get_logger(__name__)

SCREENS = (
    *(sign_in, overview, refunds, create, refund, dead, bulk, approvals, recon),
    *(accounts, queues, webhooks, audit, settings),
)


class _Static(StaticFiles):
    """Their addresses change with their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file that browsers may keep."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"

        return response


def create_app(engine: Engine, *, host: str = "127.0.0.1") -> ASGIApp:
    """The console over an engine, listening on `host`."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.engine = engine
    for screen in SCREENS:
        app.include_router(screen.router)
    app.mount("/static", _Static(directory=HERE / "static"))
    handlers: dict[Any, Any] = {
        NotSignedIn: _sign_in_first,
        Forbidden: _forbidden,
        NotFound: _missing,
        Refused: _refused,
        InvalidJob: _refused,
        RequestValidationError: _unreadable,
        HTTPException: _other,
        DBAPIError: _broken,
        Exception: _broken,
    }
    for error, handler in handlers.items():
        app.add_exception_handler(error, handler)

    def known(secret: str) -> bool:
        return recognised(engine, secret, clicked=False) is not None

    return _Probe(
        Guard(GZipMiddleware(app, minimum_size=1000), url=engine.settings.console.url, host=host, known=known)
    )


class _Probe:
    """Outside the guard: whether this process answers, under whatever name it is asked. It tells nothing else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        probed = scope["type"] == "http" and scope["path"] == "/healthz" and scope["method"] in ("GET", "HEAD")
        answer = JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"}) if probed else self._app
        await answer(scope, receive, send)


def _sign_in_first(request: Request, _error: NotSignedIn) -> Response:
    """To the page that asks who it is, and back; a page's own refresh is only told."""
    if "hx-request" in request.headers:
        return Response(status_code=401)

    return sign_in.ask(request)


def _forbidden(request: Request, error: Forbidden) -> Response:
    """A refused attempt is on record too."""
    signed = getattr(request.state, "signed", None)
    if signed is None:
        return bare(request, "stop.html", status=403, title="Not allowed", words=str(error))
    people.refused(engine_of(request), signed.actor, f"{request.method} {request.url.path}", error)

    return _problem(request, 403, "Not allowed", str(error), error.code)


def _missing(request: Request, error: NotFound) -> Response:
    return _problem(request, 404, "Not found", str(error), error.code)


def _refused(request: Request, error: Refused | InvalidJob) -> Response:
    status = 409 if isinstance(error, Conflict) else 422
    title = "It has changed meanwhile" if isinstance(error, Conflict) else "Refused"

    return _problem(request, status, title, str(error), error.code)


def _unreadable(request: Request, error: RequestValidationError) -> Response:
    named = ", ".join(str(each["loc"][-1]) for each in error.errors())

    return _problem(request, 422, "Refused", f"something is missing or cannot be read: {named}", "unreadable")


def _other(request: Request, error: HTTPException) -> Response:
    return _problem(request, error.status_code, "Not found", str(error.detail), "http")


def _broken(request: Request, error: Exception) -> Response:
    """What failed here names itself by an id that the log has too."""
    number = new_id("rq", engine_of(request).clock())
    log.error("console.failed", request=number, path=request.url.path, error=type(error).__name__)
    words = (
        "This page could not be made. What you sent may have been recorded: look before you do it again."
        if request.method == "POST"
        else "This page could not be made. Nothing was changed."
    )

    return bare(request, "stop.html", status=500, title="Something failed", words=f"{words} Request {number}.")


def _problem(request: Request, status: int, title: str, words: str, code: str) -> Response:
    if not hasattr(request.state, "signed"):
        return bare(request, "stop.html", status=status, title=title, words=words)

    return page(request, "problem.html", status=status, title=title, words=words, code=code)
