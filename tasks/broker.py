"""Celery's Redis transport without three of kombu's faults (seen in 5.6), each of which ends a worker for good.

An acknowledgement that Redis did not take keeps its place in the consumer's window for ever: when as many have failed
as the pool has processes, nothing is read any more and the lost connection is never noticed. A Redis that refuses
writes, being full or read-only for a moment, ends the worker instead of being waited for. So does an element of a
queue's list that is not JSON.
"""

from queue import Empty
from typing import Any

import redis.exceptions
import structlog
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as kombu_redis

log = structlog.get_logger(__name__)


class QoS(kombu_redis.QoS):
    """The window of messages under way."""

    def ack(self, delivery_tag: Any) -> None:
        """Give the place back whatever Redis says: a doorbell that comes again does no harm, a lost place does."""
        try:
            super().ack(delivery_tag)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """As `ack`."""
        try:
            super().reject(delivery_tag, requeue)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise


class Channel(kombu_redis.Channel):
    """A channel with that window, which an element of a list that is no message does not end."""

    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except (ValueError, KeyError, TypeError) as error:
            log.warning("broker.no_message", error=type(error).__name__)
            raise Empty from None


class Transport(kombu_redis.Transport):
    """A transport that waits for a Redis that takes no writes as for one that is away."""

    Channel = Channel
    connection_errors = (
        *kombu_redis.Transport.connection_errors,
        redis.exceptions.OutOfMemoryError,
        redis.exceptions.ReadOnlyError,
    )


def install() -> None:
    """Use it for every Redis URL of this process."""
    ours = f"{__name__}:Transport"
    TRANSPORT_ALIASES.update(redis=ours, rediss=ours)
