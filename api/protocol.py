"""HTTP/1.1 as uvicorn speaks it, with an end to patience: slow or endless headers, and errors as problems."""

import asyncio
import secrets
from http import HTTPStatus

import msgspec
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.problems import MEDIA_TYPE
from engine.problems import Problem

HEADER_BYTES = 32_768
HEADER_SECONDS = 10.0


class PatientProtocol(HttpToolsProtocol):
    """Each request's headers arrive within ten seconds and 32 KiB, or the connection ends."""

    _deadline: asyncio.TimerHandle | None = None
    _before_body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection that says nothing at all is no better."""
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes before the headers end."""
        if self._deadline is not None:
            self._before_body += len(data)
            if self._before_body > HEADER_BYTES and not self._ends_within(data):
                self._refuse(431, "headers-too-large", f"at most {HEADER_BYTES} bytes of headers are taken")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """The clock runs until the headers are complete."""
        super().on_message_begin()
        if self._deadline is None:
            self._await_headers()

    def on_headers_complete(self) -> None:
        """From here on the application counts and waits; where too many are connected, it is not asked."""
        self._forget()
        limit, self.limit_concurrency = self.config.limit_concurrency, None
        crowded = limit is not None and len(self.connections) > limit
        self.app = _crowded if crowded else self.config.loaded_app
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so like everything else."""
        self._refuse(400, "bad-request", msg)

    def _ends_within(self, data: bytes) -> bool:
        """Whether this piece brings the headers' end, so that most of it is body."""
        end = data.find(b"\r\n\r\n")

        return end >= 0 and self._before_body - len(data) + end <= HEADER_BYTES

    def _await_headers(self) -> None:
        self._before_body = 0
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

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


async def _crowded(_scope: Scope, _receive: Receive, send: Send) -> None:
    body = _problem(503, "overloaded", "too many connections")
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", b"1"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
