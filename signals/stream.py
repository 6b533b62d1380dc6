"""The streams: jobs in, refused jobs kept, state changes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import redis

INTAKE = "refundry:intake"
REJECTED = "refundry:rejected"
EVENTS = "refundry:events"
GROUP = "refundry"
_FEW = 16
_SMALL = 1_048_576


@dataclass(frozen=True, slots=True)
class Entry:
    """One job as it lies in the stream; `form` where a producer says that it is not the usual one."""

    id: str
    job: bytes
    traceparent: str | None
    form: str | None = None


class Intake:
    """The intake stream, read by a consumer group: an entry leaves it only after the ledger has it."""

    def __init__(self, client: "redis.Redis", consumer: str) -> None:
        self._redis = client
        self._consumer = consumer
        self._few = _FEW

    def prepare(self) -> None:
        """Make stream and group; harmless when they exist. Also after Redis has forgotten them."""
        try:
            self._redis.xgroup_create(INTAKE, GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def read(self, count: int, *, block: int) -> list[Entry]:
        """New entries, waiting up to `block` milliseconds for the first."""
        count = min(count, self._few)
        answer: Any = self._redis.xreadgroup(GROUP, self._consumer, {INTAKE: ">"}, count=count, block=block)
        entries = [_entry(number, fields) for _, entries in answer or () for number, fields in entries]
        # Redis counts entries, not bytes: as long as they are small, more are read at once.
        small = sum(len(entry.job) for entry in entries) < _SMALL
        self._few = 2 * self._few if small and len(entries) == count else _FEW if not small else self._few

        return entries

    def mine(self, count: int) -> list[Entry]:
        """Entries that this consumer read and never acknowledged."""
        answer: Any = self._redis.xreadgroup(GROUP, self._consumer, {INTAKE: "0"}, count=count)
        return [_entry(number, fields) for _, entries in answer or () for number, fields in entries if fields]

    def abandoned(self, count: int, *, idle: int) -> list[Entry]:
        """Entries of consumers that have not answered for `idle` milliseconds; they are ours now."""
        answer: Any = self._redis.xautoclaim(INTAKE, GROUP, self._consumer, min_idle_time=idle, count=count)
        return [_entry(number, fields) for number, fields in answer[1] if fields]

    def done(self, ids: Sequence[str], rejected: Sequence[Mapping[str, str | bytes]] = ()) -> None:
        """Acknowledge and remove what the ledger has committed; keep a copy of what was refused."""
        if not ids:
            return
        with self._redis.pipeline(transaction=True) as pipe:
            for each in rejected:
                fields: Any = dict(each)
                pipe.xadd(REJECTED, fields, maxlen=100_000, approximate=True)
            pipe.xack(INTAKE, GROUP, *ids)
            pipe.xdel(INTAKE, *ids)
            pipe.execute()

    def waiting(self) -> int:
        """Entries in the stream."""
        length: Any = self._redis.xlen(INTAKE)

        return int(length)


def _entry(number: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    return Entry(
        number.decode(),
        fields.get(b"job", b""),
        _short(fields.get(b"traceparent")),
        _short(fields.get(b"form")),
    )


def _short(value: bytes | None) -> str | None:
    return value.decode("ascii", "replace")[:64] if value else None


def publish_job(client: "redis.Redis", job: bytes, traceparent: str | None = None) -> str:
    """What any producer does: XADD to the intake stream."""
    fields: dict[Any, Any] = {"job": job, **({"traceparent": traceparent} if traceparent else {})}
    number: Any = client.xadd(INTAKE, fields)

    return str(number.decode())


# One command for a batch: an XADD for each would cost the sender ten times as much.
_PUBLISH = """
local names, changes = unpack(cjson.decode(ARGV[2]))
for _, change in ipairs(changes) do
  local fields = {}
  for i, name in ipairs(names) do fields[2 * i - 1] = name; fields[2 * i] = change[i] end
  redis.call('XADD', KEYS[1], '*', unpack(fields))
end
redis.call('XTRIM', KEYS[1], 'MINID', '~', ARGV[1])
"""


def publish_events(client: "redis.Redis", changes: Sequence[Mapping[str, Any]], *, max_age: float, now: float) -> None:
    """Tell the world: one entry per change, in order; entries older than `max_age` seconds are trimmed.

    All changes have the same members.
    """
    if not changes:
        return
    oldest = int((now - max_age) * 1000)
    names = list(changes[0])
    told = [names, [[str(change[name]) for name in names] for change in changes]]
    client.eval(_PUBLISH, 1, EVENTS, str(oldest), msgspec.json.encode(told).decode())
