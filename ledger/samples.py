"""What happened in each minute, counted once and summed up by hour: a chart reads few rows of however many refunds."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, case, delete, func, select, union_all
from sqlalchemy.dialects import postgresql, sqlite

from domain.histogram import BOUNDS
from domain.state import FINAL, State
from ledger.models import attempt, event, refund, sample, sample_hour

MINUTE, HOUR = 60, 3600
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
WAITING, OVERDUE, STREAM, BREAKER = "waiting", "overdue", "stream", "breaker"
#: Of these the largest counts; everything else adds up.
STANDING = (WAITING, OVERDUE, STREAM, BREAKER)

Row = dict[str, Any]


def last(connection: Connection) -> int | None:
    """The newest minute that was counted."""
    return _last(connection, sample)


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


def keep(connection: Connection, rows: Iterable[Row]) -> None:
    """Write figures down, each once; whoever counted the same minute at the same time has counted the same."""
    ordered = sorted(rows, key=lambda each: (each["name"], each["account"], each["at"], each["bucket"]))
    if ordered:
        connection.execute(_once(connection, sample), ordered)


def hours(connection: Connection, over: int) -> range:
    """The hours that ended by `over` and have no sums yet."""
    done = _last(connection, sample_hour)
    first = connection.execute(select(func.min(sample.c.at))).scalar() if done is None else done + HOUR

    return range(over if first is None else first // HOUR * HOUR, over - HOUR + 1, HOUR)


def sum_up(connection: Connection, *, hour: int) -> None:
    """Write down what an hour's minutes came to, once."""
    figures = _figures(sample, HOUR).where(sample.c.at >= hour, sample.c.at < hour + HOUR)
    connection.execute(_once(connection, sample_hour).from_select([each.name for each in sample_hour.c], figures))


def forget(connection: Connection, before: float) -> None:
    """Remove older figures."""
    for table in (sample, sample_hour):
        connection.execute(delete(table).where(table.c.at < before))


def read(
    connection: Connection, names: Sequence[str], since: int, step: int, *, account: str = ""
) -> dict[tuple[int, str], dict[int, int]]:
    """By step of time and name, the figures by class: sums, or the largest of what stands."""
    source: Any = select(sample).where(*_wanted(sample, names, since, account))
    if step % HOUR == 0:
        # What has no sums yet is read by the minute.
        newest = select(func.max(sample_hour.c.at) + HOUR).where(*_counted_at_all(sample_hour)).scalar_subquery()
        source = union_all(
            select(sample_hour).where(*_wanted(sample_hour, names, since, account)),
            source.where(sample.c.at >= func.coalesce(newest, 0)),
        )
    found: dict[tuple[int, str], dict[int, int]] = {}
    for name, _account, at, bucket, value in connection.execute(_figures(source.subquery(), step)):
        found.setdefault((int(at), str(name)), {})[int(bucket)] = int(value)

    return found


def _figures(source: Any, step: int) -> Select[Any]:
    """The figures of `source` by steps of time."""
    at = source.c.at - source.c.at % step
    value = case((source.c.name.in_(STANDING), func.max(source.c.value)), else_=func.sum(source.c.value))
    known = source.c.name, source.c.account, at, source.c.bucket

    return select(*known, value.cast(sample.c.value.type)).group_by(*known)


def _wanted(table: Table, names: Sequence[str], since: int, account: str) -> tuple[Any, ...]:
    return table.c.name.in_(names), table.c.account == account, table.c.at >= since


def _counted_at_all(table: Table) -> tuple[Any, ...]:
    return table.c.name == COUNTED, table.c.account == ""


def _last(connection: Connection, table: Table) -> int | None:
    found: int | None = connection.execute(select(func.max(table.c.at)).where(*_counted_at_all(table))).scalar()

    return found


def _once(connection: Connection, table: Table) -> Any:
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql

    return dialect.insert(table).on_conflict_do_nothing()
