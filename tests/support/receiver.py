"""A receiver of webhooks on a port of 127.0.0.1 that answers as a test wants it to."""

import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Got:
    """One request, and the status that it was answered with."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int = 0

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def event(self) -> tuple[str, int]:
        """Refund and version."""
        return self.json["data"]["id"], self.json["data"]["version"]


Answer = tuple[int, Mapping[str, str]]


class Receiver:
    """Keeps every request. `answers` gives status and headers of each; while `hanging`, none is answered."""

    def __init__(
        self,
        answers: Callable[[Got], Answer] = lambda _got: (204, {}),
        body: bytes = b"",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.got: list[Got] = []
        self.answers = answers
        self.body = body
        self._free = threading.Event()
        self._free.set()
        self._server = _Server(self)
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}/hooks"

    @property
    def good(self) -> list[Got]:
        """Requests that were answered with 2xx."""
        return [got for got in self.got if 200 <= got.status < 300]

    def fail(self, status: int = 500, **headers: str) -> None:
        """From now on every answer is this one."""
        self.answers = lambda _got: (status, headers)

    def work(self) -> None:
        """From now on everything is taken."""
        self.answers = lambda _got: (204, {})
        self._free.set()

    def hang(self) -> None:
        """Take requests and do not answer them."""
        self._free.clear()

    def close(self) -> None:
        self._free.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """One request."""
        length = int(handler.headers.get("Content-Length", 0))
        got = Got(handler.path, {k.lower(): v for k, v in handler.headers.items()}, handler.rfile.read(length))
        status, headers = self.answers(got)
        self.got.append(replace(got, status=status))
        self._free.wait(60)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(self.body)))
        handler.end_headers()
        handler.wfile.write(self.body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, receiver: Receiver) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.answer(self)

            def log_message(self, *_arguments: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *_arguments: Any) -> None:
        """A sender that has given up is no error of the receiver's."""
