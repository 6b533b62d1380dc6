"""The round: ring whoever has something due, and keep house. Harmless when it runs twice or late."""

import structlog
from sqlalchemy import Connection

from domain.refund import moved
from domain.state import State
from engine import fanout, notifications
from engine.bootstrap import Engine
from engine.bulk import LANE as BULK
from ledger import approvals, bulk, deliveries, journal, notification, queries, refunds, sessions, webhooks, workers
from ledger.approvals import SEND
from ledger.refunds import Change

log = structlog.get_logger(__name__)

BEAT = "beat"
BEAT_SILENT = 3.0
# Past its lifetime a handle cannot be replayed: people hear of it this many seconds before.
EXPIRY_WARNING = 3600.0


def tick(engine: Engine) -> list[tuple[str, str]]:
    """Ring every (account, lane) that has work due, every webhook endpoint and bulk operation; answers whom it rang."""
    due = due_work(engine)
    with engine.ledger.read() as connection:
        due += [(endpoint, fanout.LANE) for endpoint in webhooks.due_endpoints(connection, engine.clock())]
        due += [(operation, BULK) for operation in bulk.due(connection, engine.clock())]
    for account, lane in due:
        engine.ring(lane, account)

    return due


def due_work(engine: Engine) -> list[tuple[str, str]]:
    """Which (account, lane) have something due: refunds, and notifications to be looked at."""
    now, accounts = engine.clock(), list(engine.accounts)
    with engine.ledger.read() as connection:
        told = [(account, notifications.LANE) for account in notification.due_accounts(connection, accounts, now)]
        return refunds.due_lanes(connection, accounts, now) + told


def beat(engine: Engine) -> None:
    """What beat does each second: say that it lives, then the round."""
    now = engine.clock()
    engine.ledger.run(lambda connection: workers.beat(connection, BEAT, BEAT, now, {}))
    tick(engine)


def beat_is_silent(engine: Engine) -> bool:
    """Whether nobody has beaten lately, so that workers must make the round themselves."""
    with engine.ledger.read() as connection:
        last = workers.last_beat(connection, BEAT)

    return last is None or engine.clock() - last > BEAT_SILENT


def housekeep(engine: Engine) -> None:
    """Expire requests nobody decided, cast an anchor over the journal, forget old workers, sessions and deliveries."""
    engine.ledger.run(lambda connection: _expire(connection, engine))
    engine.ledger.run(lambda connection: _anchor(connection, engine))
    engine.ledger.run(lambda connection: workers.forget(connection, engine.clock() - 86_400))
    engine.ledger.run(lambda connection: sessions.forget(connection, engine.clock() - 86_400, engine.clock()))
    _forget_deliveries(engine)
    notifications.housekeep(engine)
    with engine.ledger.read() as connection:
        for account, count in queries.expiring(connection, engine.clock() + EXPIRY_WARNING).items():
            log.error("handles.expiring", account=account, refunds=count, within_seconds=EXPIRY_WARNING)


def _forget_deliveries(engine: Engine) -> None:
    before = engine.clock() - engine.settings.webhooks.retention
    while engine.ledger.run(lambda connection: deliveries.forget(connection, before)):
        pass


def _expire(connection: Connection, engine: Engine) -> None:
    now = engine.clock()
    for request in approvals.overdue(connection, now):
        if not approvals.close(connection, request, status="expired", actor="system", now=now):
            continue
        journal.append(
            connection,
            f"approval/{request.id}",
            "approval.expired",
            actor="system",
            now=now,
            data={"kind": request.kind},
        )
        refund = refunds.get(connection, request.refund_id, lock=True) if request.refund_id else None
        if request.kind == SEND and refund is not None and refund.state is State.AWAITING_APPROVAL:
            after = moved(refund, State.CANCELLED, now, due_at=None, note="nobody approved it in time")
            change = Change(
                before=refund,
                after=after,
                type="refund.cancelled",
                actor="system",
                data={"why": "the request for approval expired"},
                fenced=False,
            )
            refunds.apply(connection, [change])


def _anchor(connection: Connection, engine: Engine) -> None:
    count = journal.cast_anchor(connection, engine.clock())
    if count:
        log.info("audit.anchored", heads=count)
