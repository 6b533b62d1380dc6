"""The sandbox as a server of its own, or in a thread beside a test."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sandbox.app import create_app
from sandbox.core import DEFAULT_PENDING_SECONDS
from sandbox.edge import CUT_EXTENSION
from sandbox.faults import load_plan

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8090
START_SECONDS = 10.0


class CuttableProtocol(HttpToolsProtocol):
    """Hands each request the means of cutting its connection."""

    def on_message_begin(self) -> None:
        """Add the extension to the new scope."""
        super().on_message_begin()
        self.scope["extensions"] = {CUT_EXTENSION: {"abort": self.transport.abort}}


class SandboxServer(uvicorn.Server):
    """Says on stdout where it listens, once it really does."""

    url = ""
    announce = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell."""
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        if self.announce:
            print(f"sandbox listening on {self.url}", flush=True)  # noqa: T201


def build(host: str, port: int, **options: Any) -> SandboxServer:
    """A server that has not started; the options are create_app's."""
    config = uvicorn.Config(
        create_app(**options),
        host=host,
        port=port,
        http=CuttableProtocol,
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )

    return SandboxServer(config)


def run(
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    faults_file: str | Path | None = None,
    seed: int | None = None,
    pending_seconds: float = DEFAULT_PENDING_SECONDS,
) -> None:
    """Serve until interrupted. Raises FieldError or OSError for a faults file that is wrong."""
    plan = load_plan(Path(faults_file), seed) if faults_file else None
    build(host, port, seed=seed, faults=plan, pending_seconds=pending_seconds).run()


@contextmanager
def background(port: int = 0, **options: Any) -> Iterator[str]:
    """Serve from a thread; gives the URL and stops at the end."""
    server = build(DEFAULT_HOST, port, **options)
    server.announce = False
    thread = threading.Thread(target=server.run, name="sandbox", daemon=True)
    thread.start()
    deadline = time.monotonic() + START_SECONDS
    while not server.url:
        if not thread.is_alive() or time.monotonic() > deadline:
            message = "the sandbox did not start"
            raise RuntimeError(message)
        time.sleep(0.005)
    try:
        yield server.url
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)
