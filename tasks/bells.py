"""Doorbells as Celery messages."""

import redis
import structlog
from kombu.exceptions import OperationalError

from config.celery import ROUTES
from engine.bootstrap import Engine
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
            app.send_task(f"refunds.{lane}", args=[account], queue=ROUTES[f"refunds.{lane}"], retry=False)
    except (redis.RedisError, OperationalError, OSError) as error:
        # Nobody comes: the next one may ring again.
        engine.bell.free(lane, account)
        log.warning("bell.unheard", lane=lane, account=account, error=type(error).__name__)
