"""What is to be delivered to webhook endpoints: made of the outbox, claimed, settled, sent again, forgotten."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Connection,
    Double,
    Executable,
    FromClause,
    Integer,
    RowMapping,
    Text,
    Update,
    and_,
    case,
    delete,
    func,
    or_,
    select,
    text,
    true,
    update,
)

from domain.webhook import Reply, Told
from ledger.models import outbox, refund, webhook_attempt, webhook_delivery, webhook_endpoint
from ledger.session import OverRows, insert_rows, update_rows
from ledger.webhooks import Endpoint

_delivery = webhook_delivery.c

# -- from the outbox ---------------------------------------------------------------------------------------------------

_NEWS = ("no", "refund_id", "reference", "account", "state", "version", "at", "heard")
# Numbers are given before the commit: one that is smaller than what was heard may still appear.
_LATE = 10_000
_MOST = 1000


def take(connection: Connection, numbers: Sequence[int]) -> list[Any]:
    """Remove these rows of the outbox; answers those of which no delivery has been made yet, in order."""
    removed = _TAKE.run(connection, [{"no": no} for no in numbers])

    return sorted((row for row in removed if not row.heard), key=lambda row: row.no)


def _taken(values: FromClause) -> Executable:
    return delete(outbox).where(outbox.c.no.in_(select(values.c.no))).returning(*(outbox.c[name] for name in _NEWS))


_TAKE = OverRows({"no": BigInteger()}, _taken)


def hear(connection: Connection) -> list[Any]:
    """The next rows of the outbox of which no delivery has been made; they stay there, for the stream."""
    last = select(outbox.c.no).where(outbox.c.heard).order_by(outbox.c.no.desc()).limit(1).scalar_subquery()
    query = (
        select(*(outbox.c[name] for name in _NEWS))
        .where(outbox.c.no > func.coalesce(last, 0) - _LATE, ~outbox.c.heard)
        .order_by(outbox.c.no)
        .limit(_MOST)
    )
    rows = list(connection.execute(query.with_for_update()))
    update_rows(connection, outbox, [{"no": row.no, "heard": True} for row in rows], keys=("no",))

    return rows


_SUBJECT = ("order_id", "payment_id", "amount", "currency")
_SUBJECTS = OverRows(
    {"id": Text()},
    lambda values: select(refund.c.id, *(refund.c[name] for name in _SUBJECT)).where(
        refund.c.id.in_(select(values.c.id))
    ),
)


def subjects(connection: Connection, refund_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What a delivery tells of its refund besides its state."""
    found = _SUBJECTS.run(connection, [{"id": each} for each in dict.fromkeys(refund_ids)])

    return {row.id: {name: getattr(row, name) for name in _SUBJECT} for row in found}


def traces(connection: Connection, refund_ids: Sequence[str]) -> dict[str, str]:
    """The `traceparent` of those refunds that came with one."""
    query = select(refund.c.id, refund.c.traceparent).where(
        refund.c.id.in_(refund_ids), refund.c.traceparent.is_not(None)
    )

    return {row.id: row.traceparent for row in connection.execute(query)}


class Delivery(Struct, frozen=True, kw_only=True):
    """One event for one endpoint; `id` is its webhook-id."""

    id: str
    endpoint: str
    refund_id: str
    version: int
    type: str
    payload: str
    created_at: float
    due_at: float
    attempts: int = 0


def add(connection: Connection, deliveries: Sequence[Delivery]) -> None:
    """Insert deliveries."""
    rows = [
        {name: getattr(each, name) for name in Delivery.__struct_fields__} | {"touched_at": each.created_at}
        for each in deliveries
    ]
    insert_rows(connection, webhook_delivery, rows)


# -- what is due -------------------------------------------------------------------------------------------------------


# So many more than are wanted are looked at, for the sake of those that wait behind others.
_BEHIND = 100


def claim(
    connection: Connection, holder: Endpoint, *, limit: int, now: float, until: float, lease: str
) -> tuple[list[Delivery], bool]:
    """Lease up to `limit` due deliveries of an endpoint that is held; and whether all that is due has been looked at.

    A refund's events go one after the other: what has an earlier one before it is put behind that one.
    """
    claimed: list[Delivery] = []
    while len(claimed) < limit:
        rows = connection.execute(_due(holder, now, limit + _BEHIND)).all()
        free = [row for row in rows if row.behind is None][: limit - len(claimed)]
        _touch(connection, [{"id": row.id, "due_at": until, "touched_at": now, "lease": lease} for row in free])
        blocked = [row for row in rows if row.behind is not None]
        _touch(connection, [{"id": row.id, "due_at": row.behind, "touched_at": now, "lease": None} for row in blocked])
        claimed += [Delivery(**{name: getattr(row, name) for name in Delivery.__struct_fields__}) for row in free]
        if len(rows) < limit + _BEHIND and len(free) + len(blocked) == len(rows):
            return claimed, True

    return claimed, False


def _due(holder: Endpoint, now: float, limit: int) -> Any:
    earlier = webhook_delivery.alias()
    behind = (
        select(func.max(earlier.c.due_at))
        .where(
            earlier.c.refund_id == _delivery.refund_id,
            earlier.c.endpoint == _delivery.endpoint,
            earlier.c.version < _delivery.version,
            earlier.c.state == "waiting",
        )
        .scalar_subquery()
    )
    missed = and_(_delivery.lease.is_(None), _delivery.touched_at < (holder.recovered_at or 0.0))

    return (
        select(*(_delivery[name] for name in Delivery.__struct_fields__), behind.label("behind"))
        .where(
            _delivery.endpoint == holder.id,
            _delivery.state == "waiting",
            or_(_delivery.due_at <= now, missed) if holder.recovered_at else _delivery.due_at <= now,
        )
        .order_by(_delivery.due_at, _delivery.version)
        .limit(limit)
    )


def _touch(connection: Connection, values: Sequence[Mapping[str, Any]]) -> None:
    update_rows(connection, webhook_delivery, values, keys=("id",))


class Sent(Struct, frozen=True, kw_only=True):
    """What came of an attempt: how the delivery stands now, after how many. `answer` is redacted and sealed."""

    delivery: Delivery
    lease: str
    reply: Reply
    state: Told
    due_at: float
    attempts: int
    answer: bytes | None


def settle(connection: Connection, results: Sequence[Sent]) -> list[Sent]:
    """Write down what came of attempts; answers those whose lease still held. What waited behind them is due."""
    insert_rows(connection, webhook_attempt, [_attempt(each) for each in results])
    kept = {
        row.id
        for row in _SETTLE.run(
            connection,
            [
                {
                    "id": each.delivery.id,
                    "lease": each.lease,
                    "state": each.state,
                    "due_at": each.due_at,
                    "attempts": each.attempts,
                    "at": each.reply.at,
                    "status": each.reply.status,
                    "ms": each.reply.ms,
                    "error": each.reply.error,
                }
                for each in results
            ],
        )
    }
    held = [each for each in results if each.delivery.id in kept]
    done = [each for each in held if each.state != Told.WAITING]
    if done:
        _RELEASE.run(
            connection,
            [
                {
                    "refund_id": each.delivery.refund_id,
                    "endpoint": each.delivery.endpoint,
                    "version": each.delivery.version,
                    "at": each.reply.at,
                }
                for each in done
            ],
        )

    return held


def _attempt(sent: Sent) -> dict[str, Any]:
    reply = sent.reply

    return {
        "delivery": sent.delivery.id,
        "at": reply.at,
        "status": reply.status,
        "ms": reply.ms,
        "error": reply.error,
        "answer": sent.answer,
    }


def _settled(values: FromClause) -> Update:
    return (
        update(webhook_delivery)
        .values(
            state=values.c.state,
            due_at=values.c.due_at,
            touched_at=values.c.at,
            lease=None,
            attempts=values.c.attempts,
            last_at=values.c.at,
            last_status=values.c.status,
            last_ms=values.c.ms,
            last_error=values.c.error,
        )
        .where(_delivery.id == values.c.id, _delivery.lease == values.c.lease)
        .returning(_delivery.id)
    )


_SETTLE = OverRows(
    {
        "id": Text(),
        "lease": Text(),
        "state": Text(),
        "due_at": Double(),
        "attempts": Integer(),
        "at": Double(),
        "status": Integer(),
        "ms": Integer(),
        "error": Text(),
    },
    _settled,
)


def _released(values: FromClause) -> Update:
    # As conditions of their own they would have PostgreSQL read all that waits, or all that its endpoint was ever sent.
    waits = and_(_delivery.endpoint == values.c.endpoint, _delivery.state == "waiting", _delivery.lease.is_(None))

    return (
        update(webhook_delivery)
        .values(due_at=values.c.at)
        .where(
            _delivery.refund_id == values.c.refund_id,
            case((waits, _delivery.version)) > values.c.version,
            _delivery.due_at > values.c.at,
        )
    )


_RELEASE = OverRows({"refund_id": Text(), "endpoint": Text(), "version": Integer(), "at": Double()}, _released)


# -- for people --------------------------------------------------------------------------------------------------------

_SHOWN = tuple(each for each in webhook_delivery.columns if each.name not in ("touched_at", "lease"))


def get(connection: Connection, delivery_id: str) -> RowMapping | None:
    """One delivery."""
    return connection.execute(select(*_SHOWN).where(_delivery.id == delivery_id)).mappings().first()


def listed(connection: Connection, *, limit: int, before: str | None = None, **equal: str | None) -> list[RowMapping]:
    """The newest deliveries, older than the id `before`, whose columns `equal` these values; None leaves one open."""
    wanted = [_delivery[name] == value for name, value in equal.items() if value is not None]
    wanted += [] if before is None else [_delivery.id < before]

    return list(
        connection.execute(select(*_SHOWN).where(true(), *wanted).order_by(_delivery.id.desc()).limit(limit)).mappings()
    )


def attempts(connection: Connection, delivery_id: str) -> list[RowMapping]:
    """A delivery's attempts in order; answers are sealed."""
    query = select(webhook_attempt).where(webhook_attempt.c.delivery == delivery_id).order_by(webhook_attempt.c.no)

    return list(connection.execute(query).mappings())


def again(
    connection: Connection,
    name: str,
    now: float,
    *,
    delivery_id: str | None = None,
    since: float | None = None,
    until: float | None = None,
    state: Told | None = None,
) -> int:
    """Make deliveries of an endpoint that is held due once more, under the ids they had; answers how many.

    What is being sent at the moment is left to that attempt.
    """
    free = or_(_delivery.lease.is_(None), _delivery.state != Told.WAITING, _delivery.due_at <= now)
    chosen = [
        _delivery.id == delivery_id if delivery_id is not None else None,
        _delivery.created_at >= since if since is not None else None,
        _delivery.created_at <= until if until is not None else None,
        _delivery.state == state if state is not None else None,
    ]

    return connection.execute(
        update(webhook_delivery)
        .values(state=Told.WAITING, due_at=now, attempts=0, lease=None)
        .where(_delivery.endpoint == name, free, *(each for each in chosen if each is not None))
    ).rowcount


def counts(connection: Connection, name: str) -> dict[str, int]:
    """How many deliveries of an endpoint wait, and how many were given up."""
    counted = select(func.count()).select_from(webhook_delivery).where(_delivery.endpoint == name)
    # In the words of the partial indexes, so that each is seen to be one.
    found = {
        str(state): int(connection.execute(counted.where(text(f"state = '{state}'"))).scalar_one())
        for state in (Told.WAITING, Told.UNDELIVERED)
    }

    return {state: count for state, count in found.items() if count}


def forget(connection: Connection, before: float, *, most: int = _MOST) -> int:
    """Remove up to `most` deliveries that were made before then, with their attempts; answers how many."""
    old = list(connection.scalars(_old(before, most)))
    if old:
        connection.execute(delete(webhook_attempt).where(webhook_attempt.c.delivery.in_(old)))
        connection.execute(delete(webhook_delivery).where(_delivery.id.in_(old)))

    return len(old)


def _old(before: float, most: int) -> Any:
    """By the index of each endpoint, those that are deleted included."""
    return (
        select(_delivery.id)
        .join(webhook_endpoint, webhook_endpoint.c.id == _delivery.endpoint)
        .where(_delivery.created_at < before)
        .limit(most)
    )
