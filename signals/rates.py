"""How often somebody may ask: so many times in a window, counted by Redis for all processes.

Without Redis each process counts for itself, and does not ask again for a moment: a limit is no reason to wait.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

# The window begins with its first request. Redis' clock is everybody's clock.
_TAKE = """
local used = redis.call('INCR', KEYS[1])
if used == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return {used, redis.call('PTTL', KEYS[1])}
"""
_PAUSE = 2.0
_MOST_CALLERS = 10_000


@dataclass(frozen=True, slots=True)
class Taken:
    """What a request found: whether it may go on, how many more may, and in how many seconds the window ends."""

    granted: bool
    left: int
    reset: float


class Rates:
    """Counts requests by caller."""

    def __init__(self, client: "redis.Redis | None", *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._take = None if client is None else client.register_script(_TAKE)
        self._silent_until = float("-inf")
        self._alone: dict[str, tuple[int, float]] = {}

    def take(self, caller: str, *, count: int, seconds: float) -> Taken:
        """One request of `caller`, who may make `count` within `seconds`."""
        used, reset = self._shared(caller, seconds) or self._local(caller, seconds)

        return Taken(granted=used <= count, left=max(count - used, 0), reset=reset)

    def _shared(self, caller: str, seconds: float) -> tuple[int, float] | None:
        if self._take is None or self._now() < self._silent_until:
            return None
        try:
            used, left = self._answer(caller, seconds)
        except redis.RedisError:
            self._silent_until = self._now() + _PAUSE
            return None

        return int(used), max(int(left), 0) / 1000

    def _answer(self, caller: str, seconds: float) -> Any:
        assert self._take is not None

        return self._take(keys=[f"refundry:asked:{caller}"], args=[int(seconds * 1000)])

    def _local(self, caller: str, seconds: float) -> tuple[int, float]:
        now = self._now()
        used, ends = self._alone.get(caller, (0, now + seconds))
        if ends <= now:
            used, ends = 0, now + seconds
        if len(self._alone) > _MOST_CALLERS:
            self._alone.clear()
        self._alone[caller] = used + 1, ends

        return used + 1, ends - now
