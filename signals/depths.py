"""How much waits in Redis: doorbells in queues, entries in streams."""

from collections.abc import Iterable
from typing import Any

import redis

from signals.stream import EVENTS, GROUP, INTAKE, REJECTED


def depths(client: "redis.Redis", queues: Iterable[str]) -> list[dict[str, Any]]:
    """Each queue and stream with its depth; `pending`: entries that a worker has read and not yet acknowledged."""
    return [
        *({"name": name, "kind": "queue", "depth": client.llen(name), "pending": None} for name in queues),
        *(
            {"name": name, "kind": "stream", "depth": client.xlen(name), "pending": _pending(client, name)}
            for name in (INTAKE, REJECTED, EVENTS)
        ),
    ]


def _pending(client: "redis.Redis", name: str) -> int | None:
    if name != INTAKE:
        return None
    try:
        summary: Any = client.xpending(name, GROUP)
    except redis.ResponseError:  # nobody has ever read it
        return 0

    return int(summary["pending"])
