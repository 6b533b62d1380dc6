"""Figures for people: what waits, how old it is, what came of the latest. Counted where an index bounds the work."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, case, func, select, text, union_all

from domain.state import State
from ledger.models import FOR_PEOPLE, LANES, attempt, lane_predicate, refund

#: More than so many of one state are not counted on.
MOST = 10_000
AGES = {"under 1 h": 3600.0, "1 h to 24 h": 86_400.0, "1 d to 7 d": 604_800.0}
OLDEST = "over 7 d"
BY_AGE = (*AGES, OLDEST)


def standing(connection: Connection, now: float) -> list[dict[str, Any]]:
    """What is not final: count, sum and oldest change by state, currency and age (how long ago it was accepted).

    What waits for a worker or a provider may be all there is: of those two states MOST + 1 refunds are looked at.
    """
    age = case(*((refund.c.created_at > now - seconds, name) for name, seconds in AGES.items()), else_=OLDEST)
    columns = refund.c.state, refund.c.currency, age.label("age"), refund.c.amount, refund.c.since
    parts = [
        select(*columns).where(text(lane_predicate("send"))).limit(MOST + 1),
        select(*columns).where(text(lane_predicate("poll")), refund.c.state == State.PENDING).limit(MOST + 1),
        select(*columns).where(text(lane_predicate("recover"))),
        select(*columns).where(text(FOR_PEOPLE)),
    ]
    one = union_all(*(select(each.subquery()) for each in parts)).subquery()
    key = one.c.state, one.c.currency, one.c.age
    query = select(
        *key,
        func.count().label("count"),
        func.sum(func.coalesce(one.c.amount, 0)).label("amount"),
        func.min(one.c.since).label("oldest"),
    ).group_by(*key)

    return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - the documented way


def count_due(connection: Connection, accounts: Sequence[str], now: float) -> int:
    """How many refunds are due, each lane counted up to MOST."""
    lanes = [
        select(refund.c.id)
        .where(text(lane_predicate(lane)), refund.c.account.in_(accounts), refund.c.due_at <= now)
        .limit(MOST)
        .subquery()
        for lane in LANES
    ]

    return sum(connection.execute(select(func.count()).select_from(lane)).scalar_one() for lane in lanes)


def answers(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """The attempts of the latest refunds with their account: what was answered, and how quickly."""
    latest = (
        select(attempt.c.refund_id, attempt.c.outcome, attempt.c.http_status, attempt.c.started_at, attempt.c.ended_at)
        .order_by(attempt.c.refund_id.desc())
        .limit(limit)
        .subquery()
    )
    query = select(refund.c.account, refund.c.failure_class, latest).join(refund, refund.c.id == latest.c.refund_id)

    return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001
