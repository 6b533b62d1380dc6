"""State changes to deliveries: each row of the outbox becomes one delivery for every endpoint that hears of it."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from domain.state import State
from domain.webhook import event_type, payload
from engine.bootstrap import Engine
from engine.ids import new_id
from engine.view import stamp
from ledger import deliveries, webhooks
from ledger.deliveries import Delivery
from ledger.webhooks import Endpoint

LANE = "deliver"


def fan_out(engine: Engine) -> int:
    """Make deliveries of what waits in the outbox and leave it there; answers how many rows.

    For the time in which the stream cannot have them: the endpoints need not wait for it.
    """
    with engine.ledger.read() as connection:
        if not webhooks.endpoints(connection):
            return 0
    heard = 0
    while True:
        rows, endpoints = engine.ledger.run(lambda connection: _hear(engine, connection))
        ring(engine, endpoints)
        heard += len(rows)
        if not rows:
            return heard


def _hear(engine: Engine, connection: Connection) -> tuple[Sequence[Any], set[str]]:
    rows = deliveries.hear(connection)

    return rows, make_deliveries(engine, connection, rows)


def make_deliveries(engine: Engine, connection: Connection, rows: Sequence[Any]) -> set[str]:
    """Insert the deliveries of these rows of the outbox; answers the endpoints that have something to be sent."""
    if not rows:
        return set()
    endpoints = webhooks.endpoints(connection)
    subjects = deliveries.subjects(connection, [row.refund_id for row in rows])
    made = [each for row in rows for each in _made(engine, row, subjects.get(row.refund_id, {}), endpoints)]
    deliveries.add(connection, made)

    return {each.endpoint for each in made}


def _made(engine: Engine, row: Any, subject: dict[str, Any], endpoints: Sequence[Endpoint]) -> Iterable[Delivery]:
    kind = event_type(State(row.state), row.version)
    hearing = [each for each in endpoints if each.hears(kind, row.account)]
    if not hearing:
        return
    data = {
        "id": row.refund_id,
        "state": row.state,
        "account": row.account,
        "reference": row.reference,
        **subject,
        "version": row.version,
    }
    body = payload(kind, stamp(row.at) or "", data)
    now = engine.clock()
    for each in hearing:
        yield Delivery(
            id=new_id("msg", now),
            endpoint=each.id,
            refund_id=row.refund_id,
            version=row.version,
            type=kind,
            payload=body,
            created_at=now,
            due_at=now,
        )


def ring(engine: Engine, endpoints: Iterable[str]) -> None:
    """Call a worker to each of these endpoints."""
    for name in sorted(endpoints):
        engine.ring(LANE, name)
