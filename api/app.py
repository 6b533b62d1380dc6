"""The application: routers, errors and what surrounds every request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from api import documents, notifications, probes, refunds
from api.bodies import TURNS
from api.envelope import Envelope
from api.figures import Figures
from api.problems import handle_errors
from api.together import Together
from engine.bootstrap import Engine
from engine.keys import authenticate

VERSION = "1"
#: Requests that share a transaction; as in a batch, a small one keeps others from waiting for its locks.
_AT_ONCE = 100
#: Everything that this door answers.
ROUTERS = (refunds.router, notifications.router, probes.router)


def build(engine: Engine) -> ASGIApp:
    """The whole door over this engine."""
    app = application(engine.settings.api.threads)
    app.state.engine = engine
    app.state.figures = Figures(engine)
    app.state.gate = Together(partial(authenticate, engine), most=_AT_ONCE)
    app.state.intake = Together(partial(refunds.accept, engine), most=_AT_ONCE)

    return Envelope(app, app.state.figures.watch)


def application(threads: int = 1) -> FastAPI:
    """The routes, without anything behind them. `threads`: endpoints at work at once."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = threads
        yield

    app = FastAPI(title="Refundry", version=VERSION, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.turns = asyncio.Semaphore(TURNS)
    app.router.redirect_slashes = False
    handle_errors(app)
    for router in ROUTERS:
        app.include_router(router)
    app.state.routes = [route for router in ROUTERS for route in router.routes]

    return app


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    app = application()
    document = get_openapi(
        title="Refundry",
        version=VERSION,
        openapi_version="3.1.0",
        summary="Refund jobs in, outcomes out.",
        description=documents.DESCRIPTION,
        routes=app.routes,
        tags=documents.TAGS,
    )
    known = document["components"].get("schemas", {})
    known = {name: each for name, each in known.items() if "ValidationError" not in name}  # ours are problems
    document["components"]["schemas"] = {**known, **documents.schemas()}

    return document
