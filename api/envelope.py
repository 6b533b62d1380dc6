"""Around every request: its id and trace, how long it took, the headers every answer has, one line in the log."""

import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine import tracing
from engine.tracing import Span

log = structlog.get_logger(__name__)

_SANE_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")
_TRACE = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_ALWAYS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"x-content-type-options", b"nosniff"),
]

#: The client had gone before anything was answered.
GONE = 499
#: Hears of every answer: route, status, seconds.
Watch = Callable[[str, int, float], None]


def request_id_of(scope: Scope) -> str:
    """The id of this request."""
    return str(scope["state"]["request_id"])


def traceparent_of(scope: Scope) -> str:
    """The trace that this request belongs to, as it came or as it was begun here."""
    return str(scope["state"]["traceparent"])


class Envelope:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, watch: Watch) -> None:
        self._app = app
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _SANE_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        parent = _parent(headers.get(b"traceparent", b""))
        with tracing.request(scope["method"], parent) as span:
            trace = span.traceparent or parent or _beginning()
            inner = {
                **scope,
                # Who asks with HEAD gets the headers of GET; the server leaves the body out.
                "method": "GET" if scope["method"] == "HEAD" else scope["method"],
                "state": {**scope.get("state", {}), "request_id": request_id, "traceparent": trace},
            }
            answer_trace = (span.traceparent or _child(trace)).encode()
            added = [*_ALWAYS, (b"x-request-id", request_id.encode()), (b"traceparent", answer_trace)]
            with structlog.contextvars.bound_contextvars(request_id=request_id, trace_id=trace[3:35]):
                await self._answer(inner, receive, send, scope["method"], added, span)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, method: str, added: list[tuple[bytes, bytes]], span: Span
    ) -> None:
        start = time.perf_counter()
        status = GONE

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                rate = scope["state"].get("rate", {})
                limits = [(name.lower().encode(), value.encode()) for name, value in rate.items()]
                message["headers"] = [*message.get("headers", ()), *added, *limits]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            if status == GONE:
                raise
            # Starlette raises what it has already answered and logged.
        finally:
            seconds = time.perf_counter() - start
            route = _route(scope)
            self._watch(route, status, seconds)
            span.name(f"{method} {route}")
            span.set({"http.route": route, "http.response.status_code": status})
            client: Any = scope["state"].get("client")
            log.info("http.answered", method=method, route=route, status=status, ms=round(1000 * seconds), key=client)


def _route(scope: Scope) -> str:
    """The template of the path: never what a caller wrote into it."""
    return str(getattr(scope.get("route"), "path", "none"))


def _parent(given: bytes) -> str | None:
    """The caller's W3C traceparent, if it sent one."""
    return given.decode() if _TRACE.fullmatch(given) else None


def _beginning() -> str:
    """A trace of our own that nobody records."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def _child(trace: str) -> str:
    """The same trace, and this answer as its latest span."""
    return f"00-{trace[3:35]}-{secrets.token_hex(8)}-{trace[-2:]}"
