"""Figures for people: what waits, how old it is, what came of the latest. Counted where an index bounds the work."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, case, func, or_, select, text

from domain.state import State
from ledger.models import FOR_PEOPLE, LANES, attempt, lane_predicate, refund

#: More than so many of one state are not counted on.
MOST = 10_000
AGES = {"under 1 h": 3600.0, "1 h to 24 h": 86_400.0, "1 d to 7 d": 604_800.0}
OLDEST = "over 7 d"


def open_states(connection: Connection) -> dict[str, int]:
    """How many refunds stand in each state that is not final, each counted up to MOST."""
    counts = {
        state: _counted(connection, f"{lane_predicate(lane)}", state)
        for lane, states in LANES.items()
        for state in states
    }
    for state in (State.AWAITING_APPROVAL, State.REVIEW, State.REVERSED):
        counts[state] = _counted(connection, FOR_PEOPLE, state)

    return {str(state): count for state, count in counts.items()}


def _counted(connection: Connection, predicate: str, state: State) -> int:
    some = select(refund.c.id).where(text(predicate), refund.c.state == state).limit(MOST + 1).subquery()

    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


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


def waiting(connection: Connection, states: tuple[State, ...]) -> list[dict[str, Any]]:
    """Count, sum and oldest by currency of what stands in `states` (unknown, or what waits for people)."""
    query = (
        select(refund.c.currency, func.count().label("count"), _sum(), func.min(refund.c.since).label("oldest"))
        .where(_of(states), refund.c.state.in_(states))
        .group_by(refund.c.currency)
        .order_by(refund.c.currency)
    )

    return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - the documented way


def ages(connection: Connection, now: float) -> list[dict[str, Any]]:
    """Open money by how long it has been open: one row for each age and currency."""
    bucket = case(*((refund.c.created_at > now - seconds, name) for name, seconds in AGES.items()), else_=OLDEST).label(
        "age"
    )
    query = (
        select(bucket, refund.c.currency, func.count().label("count"), _sum())
        .where(_open(), refund.c.state != State.REVERSED)
        .group_by(bucket, refund.c.currency)
        .order_by(refund.c.currency)
    )

    return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001


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


def _sum() -> Any:
    return func.sum(func.coalesce(refund.c.amount, 0)).label("amount")


def _of(states: tuple[State, ...]) -> Any:
    """The index of what is unknown, or of what waits for people."""
    return text(lane_predicate("recover")) if State.UNKNOWN in states else text(FOR_PEOPLE)


def _open() -> Any:
    return or_(text(FOR_PEOPLE), *(and_(text(lane_predicate(lane))) for lane in LANES))
