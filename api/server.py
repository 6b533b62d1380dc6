"""The process: settings in, uvicorn in front of the application."""

import signal
import socket
import sys
from dataclasses import replace

import structlog
import uvicorn

from api.app import build
from api.bells import Bells
from config import RELEASE
from config.logging import configure as configure_logging
from config.settings import Settings
from engine import tracing
from engine.bootstrap import bootstrap
from engine.patience import PatientProtocol
from tasks.app import configure
from tasks.bells import ring

log = structlog.get_logger(__name__)

KEEP_ALIVE = 30
GRACE = 30


def run(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished first."""
    listening = _listen(host, port)
    if settings.redis.url is not None:
        configure(settings)
    configure_logging(settings.logging.level)
    tracing.start("api", RELEASE)
    engine = bootstrap(settings, pool_size=settings.api.threads)
    bells = Bells(lambda lane, account: ring(engine, lane, account))
    serving = replace(engine, ring=bells.ring)
    serving.meter.start()
    config = uvicorn.Config(
        build(serving),
        http=PatientProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=2048,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        limit_concurrency=settings.api.connections,
    )
    sys.stderr.write(f"refundry: API on {address(listening)}\n")
    sys.stderr.flush()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises it once more when it has finished
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        log.info("api.stopped")
    finally:
        bells.close()
        serving.meter.close()
        engine.close()
        tracing.stop()


def _listen(host: str, port: int) -> socket.socket:
    """Bound before anything else, so that a port in use is told at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=2048)
    listening.set_inheritable(True)

    return listening


def address(listening: socket.socket) -> str:
    """Where it listens, as a URL."""
    host, port = listening.getsockname()[:2]

    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
