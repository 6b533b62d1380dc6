"""Doorbells: one message per account and lane while somebody is about to look, however many commits ring."""

import time
from collections.abc import Callable

import redis

_HELD = 1000
_PAUSE = 1.0


class Bell:
    """Debounces doorbells. Whoever gets `taken()` sends the message; a pump that is looking `hold`s the bell."""

    def __init__(self, client: "redis.Redis", *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis = client
        self._now = monotonic
        self._silent_until = float("-inf")

    def taken(self, lane: str, account: str) -> bool:
        """Whether the caller should ring. Raises RedisError when nobody can tell; for a moment after that, none should.

        Who rings for many accounts waits for a silent Redis only once.
        """
        if self._now() < self._silent_until:
            return False
        try:
            return bool(self._redis.set(_key(lane, account), b"1", nx=True, px=_HELD))
        except redis.RedisError:
            self._silent_until = self._now() + _PAUSE
            raise

    def hold(self, lane: str, account: str) -> None:
        """A pump is at work: others need not ring. Lost quietly when Redis is away."""
        try:
            self._redis.set(_key(lane, account), b"1", px=_HELD)
        except redis.RedisError:
            return

    def free(self, lane: str, account: str) -> None:
        """The pump will look once more and then go: rings count again."""
        try:
            self._redis.delete(_key(lane, account))
        except redis.RedisError:
            return


def _key(lane: str, account: str) -> str:
    return f"refundry:bell:{lane}:{account}"
