"""State changes out: from the ledger's outbox to the stream `refundry:events`, at least once and in order.

Deliveries to webhook endpoints are made in the transaction that removes the rows. While Redis cannot have the rows they
stay, marked as heard: the endpoints are told nevertheless, and once.
"""

from collections.abc import Sequence
from typing import Any

import redis
from sqlalchemy import BigInteger, Connection, delete, select

from engine.bootstrap import Engine
from engine.fanout import fan_out, make_deliveries, ring
from ledger.deliveries import take
from ledger.models import outbox
from ledger.session import OverRows
from ledger.webhooks import LISTENING
from signals.stream import publish_events

MOST = 1000


def relay(engine: Engine, client: "redis.Redis") -> int:
    """Publish what waits; an entry leaves the outbox only after Redis has it. Answers how many.

    One relay at a time holds the rows, and the others wait for it: so the order is kept however many workers there are.
    """
    try:
        count, endpoints = (_relay_unlocked if engine.ledger.sqlite else _relay)(engine, client)
    except redis.RedisError:
        fan_out(engine)
        raise
    ring(engine, endpoints)

    return count


_NAMES = ("refund_id", "reference", "account", "state", "version")
_COLUMNS = (outbox.c.no, *(outbox.c[name] for name in _NAMES), LISTENING)
_WAITING = select(*_COLUMNS).order_by(outbox.c.no).limit(MOST)
_DELETE = OverRows({"no": BigInteger()}, lambda values: delete(outbox).where(outbox.c.no.in_(select(values.c.no))))
# How many rows have gone, and which endpoints have something to be sent.
_Relayed = tuple[int, set[str]]


def _relay(engine: Engine, client: "redis.Redis") -> _Relayed:
    def work(connection: Connection) -> _Relayed:
        rows = connection.execute(_WAITING.with_for_update()).all()
        _publish(engine, client, rows)

        return _forget(engine, connection, rows)

    return engine.ledger.run(work)


def _relay_unlocked(engine: Engine, client: "redis.Redis") -> _Relayed:
    """SQLite has one write lock, which must not wait for Redis; two relays at once may tell the same change twice."""
    with engine.ledger.read() as connection:
        rows = connection.execute(_WAITING).all()
    if not rows:
        return 0, set()
    _publish(engine, client, rows)

    return engine.ledger.run(lambda connection: _forget(engine, connection, rows))


def _publish(engine: Engine, client: "redis.Redis", rows: Sequence[Any]) -> None:
    changes = [dict(zip(_NAMES, told, strict=True)) for _, *told, _ in rows]
    publish_events(client, changes, max_age=engine.settings.events.max_age, now=engine.clock())


def _forget(engine: Engine, connection: Connection, rows: Sequence[Any]) -> _Relayed:
    if not rows:
        return 0, set()
    numbers = [row.no for row in rows]
    if rows[0].listening:
        return len(rows), make_deliveries(engine, connection, take(connection, numbers))
    _DELETE.run(connection, [{"no": no} for no in numbers])

    return len(rows), set()
