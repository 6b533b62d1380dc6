"""HTTP/1.1 as uvicorn speaks it, with an end to patience: slow, endless or unfinished requests. Errors as problems."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from engine.problems import Problem

MEDIA_TYPE = "application/problem+json"
HEADER_BYTES = 32_768
HEADER_SECONDS = 10.0

# As ASGI has them.
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[Any, Any, Any], Awaitable[None]]


class PatientProtocol(HttpToolsProtocol):
    """Each request's headers arrive within ten seconds and 32 KiB, or the connection ends.

    So it does when a request is answered before its body is there, and where more than 32 KiB come that are no body:
    trailers, which nobody reads here, and the like.
    """

    _deadline: asyncio.TimerHandle | None = None
    _beside_body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection that says nothing at all is no better."""
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what is no body; whatever comes after an answer begins the wait for the next headers."""
        self._beside_body += len(data)
        if self._deadline is not None and self._beside_body > HEADER_BYTES and not self._ends_within(data):
            self._too_much()
            return
        super().data_received(data)
        if self._deadline is not None or self.transport.is_closing():
            return
        if self._beside_body > HEADER_BYTES:
            self._too_much()
        elif self.cycle.response_complete:
            self._await_headers()

    def on_message_begin(self) -> None:
        """The clock runs until the headers are complete."""
        super().on_message_begin()
        if self._deadline is None:
            self._await_headers()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Trailers come when nobody waits for headers any more, and are let go."""
        if self._deadline is not None:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """From here on the application counts and waits; where too many are connected, it is not asked."""
        self._forget()
        self._beside_body = 0
        limit, self.limit_concurrency = self.config.limit_concurrency, None
        crowded = limit is not None and len(self.connections) > limit
        self.app = self._closing(_crowded if crowded else self.config.loaded_app)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """The application counts these bytes."""
        self._beside_body = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so like everything else."""
        self._refuse(400, "bad-request", msg)

    def _closing(self, app: _App) -> _App:
        """The application; an answer that does not wait for the whole request is the connection's last."""

        async def run(scope: Any, receive: _Receive, send: _Send) -> None:
            async def sending(message: _Message) -> None:
                # A request that is not the latest one has been read to its end.
                unread = self.cycle.scope is scope and self.cycle.more_body
                if message["type"] == "http.response.start" and unread:
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
                await send(message)

            await app(scope, receive, sending)

        return run

    def _ends_within(self, data: bytes) -> bool:
        """Whether this piece brings the headers' end, so that most of it is body."""
        end = data.find(b"\r\n\r\n")

        return end >= 0 and self._beside_body - len(data) + end <= HEADER_BYTES

    def _await_headers(self) -> None:
        self._beside_body = 0
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_much(self) -> None:
        self._refuse(431, "headers-too-large", f"at most {HEADER_BYTES} bytes of headers are taken")

    def _too_slow(self) -> None:
        self._refuse(408, "request-timeout", f"the headers did not arrive within {HEADER_SECONDS:g} seconds")

    def _refuse(self, status: int, code: str, detail: str) -> None:
        self._forget()
        if self.transport.is_closing():
            return
        body = _problem(status, code, detail)
        head = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()


def _problem(status: int, code: str, detail: str) -> bytes:
    problem = Problem(status=status, code=code, title=HTTPStatus(status).phrase, detail=detail)

    return msgspec.json.encode({**problem.document(), "request_id": f"req_{secrets.token_hex(12)}"})


async def _crowded(_scope: Any, _receive: _Receive, send: _Send) -> None:
    body = _problem(503, "overloaded", "too many connections")
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", b"1"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
