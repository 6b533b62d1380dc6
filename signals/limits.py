"""How much an account may take at once, shared by all workers: rate, concurrency, rest, circuit breaker.

Redis holds the shared figures. Without it each process falls back to a fraction of the limits on its own: slower, and
never wrong, for none of this decides whether money moves.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import redis


class Breaker(StrEnum):
    """Whether the provider looks able to work."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One account's limits. `rate` per second or None; breaker: `failures` within `window` open it for `cooldown`."""

    rate: float | None = None
    concurrency: int = 200
    failures: int = 20
    window: float = 30.0
    cooldown: float = 30.0


@dataclass(frozen=True, slots=True)
class Admission:
    """How many may start now, and how the breaker stands. `full`: with these, every place of the account is taken."""

    granted: int
    breaker: Breaker
    full: bool = False


# One round trip for everything: tokens, the places of other workers, the breaker. Redis' clock is everybody's clock.
_ADMIT = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local rate, concurrency = tonumber(ARGV[1]), tonumber(ARGV[2])
local worker, mine, want = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local unused, cooldown = tonumber(ARGV[6]), tonumber(ARGV[7])
-- While the provider is to be left in peace, nothing is granted.
if redis.call('EXISTS', KEYS[4]) == 1 then want = 0 end
-- What was only asked for lapses soon: a process may be killed before it takes it.
local ttl = want > 0 and tonumber(ARGV[8]) or tonumber(ARGV[9])

local busy = 0
local places = redis.call('HGETALL', KEYS[2])
for i = 1, #places, 2 do
  if places[i] ~= worker then
    local n, till = string.match(places[i + 1], '(%d+):(%d+)')
    if tonumber(till) > now then busy = busy + tonumber(n) else redis.call('HDEL', KEYS[2], places[i]) end
  end
end
local free = math.max(0, concurrency - busy - mine)
local grant = math.min(want, free)

if rate > 0 then
  local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
  local burst = math.max(1, rate)
  local tokens = tonumber(bucket[1]) or burst
  tokens = math.min(burst, tokens + unused + (now - (tonumber(bucket[2]) or now)) * rate / 1000)
  grant = math.min(grant, math.floor(tokens))
  redis.call('HSET', KEYS[1], 'tokens', tostring(tokens - grant), 'at', now)
  redis.call('PEXPIRE', KEYS[1], 60000)
end
redis.call('HSET', KEYS[2], worker, (mine + grant) .. ':' .. (now + ttl))
redis.call('PEXPIRE', KEYS[2], math.max(ttl, redis.call('PTTL', KEYS[2])))

local opened = tonumber(redis.call('HGET', KEYS[3], 'opened') or '0')
local breaker = 'closed'
if opened > 0 then breaker = (now - opened < cooldown) and 'open' or 'half_open' end
return {grant, breaker, grant == free and 1 or 0}
"""

_REPORT = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local good, bad = tonumber(ARGV[1]), tonumber(ARGV[2])
local failures, window, cooldown = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local opened = tonumber(redis.call('HGET', KEYS[1], 'opened') or '0')
if opened > 0 then
  if bad > 0 and now - opened >= cooldown then redis.call('HSET', KEYS[1], 'opened', now)
  elseif good > 0 and bad == 0 and now - opened >= cooldown then redis.call('DEL', KEYS[1]) return 'closed' end
  return 'open'
end
local since = tonumber(redis.call('HGET', KEYS[1], 'since') or '0')
if now - since > window then
  redis.call('HSET', KEYS[1], 'since', now, 'good', 0, 'bad', 0)
end
local sum = redis.call('HINCRBY', KEYS[1], 'bad', bad)
local fine = redis.call('HINCRBY', KEYS[1], 'good', good)
redis.call('PEXPIRE', KEYS[1], math.max(window, cooldown) * 10)
if sum >= failures and sum >= fine then redis.call('HSET', KEYS[1], 'opened', now, 'since', 0) return 'open' end
return 'closed'
"""


# How long a process keeps its places without a word: one that was killed must not hold them for long.
_ASKED_TTL_MS = 2_000
_TAKEN_TTL_MS = 15_000


class Limits:
    """Admits work for this process (`worker`), and hears how it went."""

    def __init__(
        self,
        client: "redis.Redis | None",
        worker: str,
        *,
        share: int = 4,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = client
        self._worker = worker
        self._alone = _Local(share, monotonic)
        self._admit = client.register_script(_ADMIT) if client is not None else None
        self._report = client.register_script(_REPORT) if client is not None else None

    def admit(
        self, account: str, limit: Limit, *, in_flight: int, want: int, unused: int = 0, lane: str = "send"
    ) -> Admission:
        """Up to `want` more beside `in_flight` of ours; `unused` grants of the last call go back."""
        if self._admit is not None:
            try:
                granted, breaker, full = self._admit(
                    keys=[f"refundry:{each}:{account}" for each in ("rate", "places", "breaker", "rest")],
                    args=[
                        limit.rate or 0,
                        limit.concurrency,
                        f"{self._worker}:{lane}",
                        in_flight,
                        want,
                        unused,
                        limit.cooldown * 1000,
                        _ASKED_TTL_MS,
                        _TAKEN_TTL_MS,
                    ],
                )
                return Admission(int(granted), Breaker(breaker.decode()), full=bool(full))
            except redis.RedisError:
                pass

        return self._alone.admit(account, limit, in_flight=in_flight, want=want, unused=unused)

    def rest(self, account: str, limit: Limit, seconds: float) -> None:
        """The provider says that it is asked too often: nothing is granted for so long, in any process."""
        try:
            if self._redis is not None:
                self._redis.set(f"refundry:rest:{account}", 1, px=max(1, int(seconds * 1000)))
            else:
                self._alone.rest(account, limit, seconds)
        except redis.RedisError:
            self._alone.rest(account, limit, seconds)

    def report(self, account: str, limit: Limit, *, good: int, bad: int) -> Breaker:
        """How calls went: `bad` are faults of the provider or the way to it, never declined refunds."""
        if self._report is not None:
            try:
                state = self._report(
                    keys=[f"refundry:breaker:{account}"],
                    args=[good, bad, limit.failures, limit.window * 1000, limit.cooldown * 1000],
                )
                return Breaker(state.decode())
            except redis.RedisError:
                pass

        return self._alone.report(account, limit, good=good, bad=bad)

    def breaker(self, account: str, limit: Limit) -> Breaker:
        """How the breaker stands, for people."""
        return self.admit(account, limit, in_flight=0, want=0, lane="look").breaker


@dataclass(slots=True)
class _Account:
    tokens: float
    at: float
    faults: deque[float] = field(default_factory=deque)
    opened: float | None = None
    rests_until: float = 0.0


class _Local:
    """The same rules inside one process, with a share of the limits."""

    def __init__(self, share: int, monotonic: Callable[[], float]) -> None:
        self._share = share
        self._now = monotonic
        self._accounts: dict[str, _Account] = {}

    def admit(self, account: str, limit: Limit, *, in_flight: int, want: int, unused: int) -> Admission:
        state = self._state(account, limit)
        free = max(0, max(1, limit.concurrency // self._share) - in_flight)
        grant = 0 if self._now() < state.rests_until else min(want, free)
        if limit.rate is not None:
            rate = limit.rate / self._share
            now = self._now()
            state.tokens = min(max(1.0, rate), state.tokens + unused + (now - state.at) * rate)
            state.at = now
            grant = min(grant, int(state.tokens))
            state.tokens -= grant

        return Admission(grant, self._breaker(state, limit), full=grant == free)

    def rest(self, account: str, limit: Limit, seconds: float) -> None:
        self._state(account, limit).rests_until = self._now() + seconds

    def report(self, account: str, limit: Limit, *, good: int, bad: int) -> Breaker:
        state = self._state(account, limit)
        now = self._now()
        if state.opened is not None:
            if now - state.opened >= limit.cooldown:
                state.opened = now if bad else None if good else state.opened
            return self._breaker(state, limit)
        state.faults.extend([now] * bad)
        while state.faults and now - state.faults[0] > limit.window:
            state.faults.popleft()
        if len(state.faults) >= limit.failures:
            state.opened = now
            state.faults.clear()

        return self._breaker(state, limit)

    def _state(self, account: str, limit: Limit) -> _Account:
        if account not in self._accounts:
            self._accounts[account] = _Account(max(1.0, (limit.rate or 0) / self._share), self._now())

        return self._accounts[account]

    def _breaker(self, state: _Account, limit: Limit) -> Breaker:
        if state.opened is None:
            return Breaker.CLOSED

        return Breaker.OPEN if self._now() - state.opened < limit.cooldown else Breaker.HALF_OPEN
