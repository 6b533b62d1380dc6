"""The Redis connection: bounded in time, so that a silent server cannot hold anybody."""

import redis


def connect(url: str, *, timeout: float = 10.0) -> "redis.Redis":
    """A client whose every call ends within seconds."""
    if url.startswith("unix://"):
        return redis.Redis.from_url(url, socket_timeout=timeout)

    return redis.Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=min(timeout, 2),
        socket_keepalive=True,
        health_check_interval=25,
    )
