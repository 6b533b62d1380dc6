"""State changes out: from the ledger's outbox to the stream `refundry:events`, at least once and in order."""

from collections.abc import Sequence
from typing import Any

import redis
from sqlalchemy import BigInteger, Connection, delete, select

from engine.bootstrap import Engine
from ledger.models import outbox
from ledger.session import OverRows
from signals.stream import publish_events

MOST = 1000


def relay(engine: Engine, client: "redis.Redis") -> int:
    """Publish what waits; an entry leaves the outbox only after Redis has it. Answers how many.

    One relay at a time holds the rows, and the others wait for it: so the order is kept however many workers there are.
    """
    if engine.ledger.sqlite:
        return _relay_unlocked(engine, client)

    def work(connection: Connection) -> int:
        rows = connection.execute(_WAITING.with_for_update()).all()
        _publish(engine, client, rows)

        return _forget(connection, rows)

    return engine.ledger.run(work)


_NAMES = ("refund_id", "reference", "account", "state", "version")
_WAITING = select(outbox.c.no, *(outbox.c[name] for name in _NAMES)).order_by(outbox.c.no).limit(MOST)
_DELETE = OverRows({"no": BigInteger()}, lambda values: delete(outbox).where(outbox.c.no.in_(select(values.c.no))))


def _relay_unlocked(engine: Engine, client: "redis.Redis") -> int:
    """SQLite has one write lock, which must not wait for Redis; two relays at once may tell the same change twice."""
    with engine.ledger.read() as connection:
        rows = connection.execute(_WAITING).all()
    if not rows:
        return 0
    _publish(engine, client, rows)

    return engine.ledger.run(lambda connection: _forget(connection, rows))


def _publish(engine: Engine, client: "redis.Redis", rows: Sequence[Any]) -> None:
    changes = [dict(zip(_NAMES, told, strict=True)) for _, *told in rows]
    publish_events(client, changes, max_age=engine.settings.events.max_age, now=engine.clock())


def _forget(connection: Connection, rows: Sequence[Any]) -> int:
    if rows:
        _DELETE.run(connection, [{"no": no} for no, *_ in rows])

    return len(rows)
