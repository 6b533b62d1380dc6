"""What happened in each minute, counted once, so that a chart reads few rows however many refunds there are."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, case, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from domain.histogram import BOUNDS
from domain.state import FINAL, State
from ledger.models import attempt, event, refund, sample

MINUTE = 60
#: The name under which each minute that was counted is written down, whether anything happened in it or not.
COUNTED = "counted"
#: What an event of this state counts as.
FLOW: dict[str, str] = {
    "refund.accepted": "accepted",
    **{f"refund.{state}": "failed" for state in FINAL},
    "refund.succeeded": "succeeded",
    **{f"refund.{state}": "uncertain" for state in (State.UNKNOWN, State.REVIEW, State.REVERSED)},
}
TOOK, ANSWERED = "took", "answered"

Row = dict[str, Any]


def last(connection: Connection) -> int | None:
    """The newest minute that was counted."""
    query = select(func.max(sample.c.at)).where(sample.c.name == COUNTED, sample.c.account == "")
    found: int | None = connection.execute(query).scalar()

    return found


def counted(connection: Connection, minute: int) -> list[Row]:
    """What the journal says of a minute: changes by kind, how long refunds took, how quickly providers answered."""
    return [*_flow(connection, minute), *_took(connection, minute), *_answered(connection, minute)]


def _flow(connection: Connection, minute: int) -> Iterable[Row]:
    query = select(event.c.type, func.count()).where(*_within(minute), event.c.type.in_(FLOW)).group_by(event.c.type)
    sums: dict[str, int] = {}
    for kind, count in connection.execute(query):
        sums[FLOW[kind]] = sums.get(FLOW[kind], 0) + count

    return (row(name, minute, count) for name, count in sums.items())


def _took(connection: Connection, minute: int) -> Iterable[Row]:
    """From acceptance until paid."""
    place = _class_of(event.c.at - refund.c.created_at)
    query = (
        select(place, func.count())
        .join(refund, refund.c.id == event.c.subject)
        .where(*_within(minute), event.c.type == "refund.succeeded")
        .group_by(place)
    )

    return (row(TOOK, minute, count, bucket=bucket) for bucket, count in connection.execute(query))


def _answered(connection: Connection, minute: int) -> Iterable[Row]:
    """The attempts that ended then: each of them has left an event."""
    place = _class_of(attempt.c.ended_at - attempt.c.started_at)
    moved = select(event.c.subject).where(*_within(minute), event.c.type.like("refund.%")).distinct().subquery()
    query = (
        select(refund.c.account, place, func.count())
        .select_from(moved.join(attempt, attempt.c.refund_id == moved.c.subject))
        .join(refund, refund.c.id == moved.c.subject)
        .where(attempt.c.ended_at >= minute, attempt.c.ended_at < minute + MINUTE)
        .group_by(refund.c.account, place)
    )

    return (
        row(ANSWERED, minute, count, account=account, bucket=bucket)
        for account, bucket, count in connection.execute(query)
    )


def _within(minute: int) -> tuple[Any, ...]:
    return event.c.at >= minute, event.c.at < minute + MINUTE


def _class_of(seconds: Any) -> Any:
    return case(*((seconds <= bound, place) for place, bound in enumerate(BOUNDS)), else_=len(BOUNDS))


def row(name: str, minute: int, value: int, *, account: str = "", bucket: int = 0) -> Row:
    """A figure of a minute."""
    return {"name": name, "account": account, "at": minute, "bucket": bucket, "value": value}


def keep(connection: Connection, rows: Iterable[Row], *, forget_before: float) -> None:
    """Write figures down, each once; whoever counted the same minute at the same time has counted the same."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    ordered = sorted(rows, key=lambda each: (each["name"], each["account"], each["at"], each["bucket"]))
    if ordered:
        connection.execute(dialect.insert(sample).on_conflict_do_nothing(), ordered)
    connection.execute(delete(sample).where(sample.c.at < forget_before))


def sums(
    connection: Connection, names: Sequence[str], since: int, step: int, *, account: str = ""
) -> dict[tuple[int, str], dict[int, int]]:
    """By step of time and name, the sums by class."""
    return _read(connection, func.sum(sample.c.value).cast(sample.c.value.type), names, since, step, account)


def peaks(
    connection: Connection, names: Sequence[str], since: int, step: int, *, account: str = ""
) -> dict[tuple[int, str], int]:
    """By step of time and name, the largest figure of its minutes."""
    found = _read(connection, func.max(sample.c.value), names, since, step, account)

    return {key: values[0] for key, values in found.items()}


def _read(
    connection: Connection, value: Any, names: Sequence[str], since: int, step: int, account: str
) -> dict[tuple[int, str], dict[int, int]]:
    slot = sample.c.at - sample.c.at % step
    query = (
        select(slot, sample.c.name, sample.c.bucket, value)
        .where(sample.c.name.in_(names), sample.c.account == account, sample.c.at >= since)
        .group_by(slot, sample.c.name, sample.c.bucket)
    )
    found: dict[tuple[int, str], dict[int, int]] = {}
    for at, name, bucket, figure in connection.execute(query):
        found.setdefault((int(at), str(name)), {})[int(bucket)] = int(figure)

    return found
