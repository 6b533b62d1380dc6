"""The door for providers as a real server, in a thread beside a test."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from api.app import build
from engine.bootstrap import Engine
from tests.support.processes import wait_until


@contextmanager
def door(engine: Engine) -> Iterator[str]:
    """Serves the API over this engine; the address below which the accounts' paths stand."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(build(engine), log_level="warning", access_log=False, ws="none", lifespan="off")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, timeout=10, what="the door is open")
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1/webhooks"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listening.close()
