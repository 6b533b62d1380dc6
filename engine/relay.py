"""State changes out: from the ledger's outbox to the stream `refundry:events`, at least once and in order."""

import redis
from sqlalchemy import Connection, delete, select

from engine.bootstrap import Engine
from ledger.models import outbox
from signals.stream import publish_events

MOST = 1000


def relay(engine: Engine, client: "redis.Redis") -> int:
    """Publish what waits; an entry leaves the outbox only after Redis has it. Answers how many.

    One relay at a time holds the rows, and the others wait for it: so the order is kept however many workers there are.
    """

    def work(connection: Connection) -> int:
        query = select(outbox).order_by(outbox.c.no).limit(MOST).with_for_update()
        rows = connection.execute(query).all()
        if not rows:
            return 0
        changes = [
            {
                "refund_id": row.refund_id,
                "reference": row.reference,
                "account": row.account,
                "state": row.state,
                "version": row.version,
            }
            for row in rows
        ]
        publish_events(client, changes, max_age=engine.settings.events.max_age, now=engine.clock())
        connection.execute(delete(outbox).where(outbox.c.no.in_([row.no for row in rows])))
        return len(rows)

    return engine.ledger.run(work)
