"""The Redis connection: bounded in time, so that a silent server cannot hold anybody."""

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

_CONNECTING = 2.0


def connect(url: str, *, timeout: float = 10.0) -> "redis.Redis":
    """A client whose every call ends within twice the `timeout` (seconds) and connecting, two seconds at most.

    A call is made once more at once, for the connection that ended while it rested; redis-py itself would make it three
    times more, with pauses.
    """
    once_more = Retry(NoBackoff(), 1)
    if url.startswith("unix://"):
        return redis.Redis.from_url(url, socket_timeout=timeout, retry=once_more)

    return redis.Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=min(timeout, _CONNECTING),
        socket_keepalive=True,
        health_check_interval=25,
        retry=once_more,
    )
