"""The console's process: settings in, a server out."""

import argparse
import os
import sys
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

import uvicorn

from config import RELEASE
from config.logging import configure as configure_logging
from config.settings import load_settings
from console.app import create_app
from console.guard import is_loopback
from domain.errors import Forbidden
from engine import tracing
from engine.bootstrap import Engine
from engine.patience import PatientProtocol
from engine.sessions import offer_link
from tasks.app import configure
from tasks.runtime import engine_with_bells

#: What is under way when the console ends has so long to be answered.
GRACE = 5
#: Open at once.
CONNECTIONS = 200


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m console")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--link", action="store_true", default=sys.stderr.isatty(), help="print a link to sign in")
    given = parser.parse_args()
    settings = load_settings()
    configure_logging(settings.logging.level)
    if settings.redis.url is not None:
        configure(settings)
    tracing.start("console", RELEASE)
    engine = engine_with_bells(settings)
    engine.meter.start()
    _introduce(engine, given.host, given.port, link=given.link)
    try:
        uvicorn.run(
            create_app(engine, host=given.host),
            host=given.host,
            port=given.port,
            http=PatientProtocol,
            ws="none",
            limit_concurrency=CONNECTIONS,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=settings.console.url is not None,
            forwarded_allow_ips=_listed(settings.console.trusted_proxies),
            timeout_graceful_shutdown=GRACE,
        )
    finally:
        engine.close()
        tracing.stop()


def _listed(networks: Sequence[IPv4Network | IPv6Network] | None) -> list[str] | None:
    """As uvicorn takes them; None leaves it to FORWARDED_ALLOW_IPS, else this machine's own addresses."""
    return None if networks is None else [str(each) for each in networks]


def _introduce(engine: Engine, host: str, port: int, *, link: bool) -> None:
    """Say where it is; whoever holds this terminal may sign in once without a password, from this machine.

    `link`: somebody reads along. A journal must not keep what signs in.
    """
    address = engine.settings.console.url or f"http://{host}:{port}"
    sys.stderr.write(f"refundry: console   {address}\n")
    if not link or not is_loopback(host):
        return
    try:
        secret = offer_link(engine, os.environ.get("REFUNDRY_ACTOR"))
    except Forbidden:
        return
    sys.stderr.write(f"refundry: sign in   {address}/sign-in/link?secret={secret}  (once, within 10 minutes)\n")


if __name__ == "__main__":
    main()
