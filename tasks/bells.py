"""Doorbells as Celery messages."""

from functools import cache
from typing import Any

import redis
import structlog
from kombu import pools
from kombu.exceptions import OperationalError

from config.celery import RINGING, ROUTES
from engine.bootstrap import Engine
from signals.bell import Bell
from tasks.app import app

log = structlog.get_logger(__name__)


def ring(engine: Engine, lane: str, account: str) -> None:
    """Call a worker to an account's lane, unless one has been called already.

    The ledger has the work: a bell that cannot be rung costs a second, until the next round.
    """
    if engine.bell is None:
        return
    try:
        if engine.bell.taken(lane, account):
            _send(engine.bell, lane, account)
    except (redis.RedisError, OperationalError, OSError) as error:
        log.warning("bell.unheard", lane=lane, account=account, error=type(error).__name__)


def _send(bell: Bell, lane: str, account: str) -> None:
    task = f"refunds.{lane}"
    try:
        with _producers(app.conf.broker_write_url).acquire(block=True) as producer:
            app.send_task(task, args=[account], queue=ROUTES[task], retry=False, producer=producer)
    except Exception:
        # Nobody comes: the next one may ring again.
        bell.free(lane, account)
        raise


@cache
def _producers(url: str) -> Any:
    """Connections of their own: what Celery keeps for producing has a consumer's patience."""
    return pools.producers[app.connection_for_write(url, transport_options=RINGING)]
