"""Bulk operations in the ledger: what was decided about many refunds, and what became of each."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import Connection, func, insert, select, text, update

from domain.bulk import Kind, Phase, Result
from domain.state import State
from ledger.models import bulk_item, bulk_operation, refund
from ledger.session import insert_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation. `pace`: refunds per second; `stop_at`: percent of failures; `due_at`: when it may be taken up."""

    id: str
    kind: Kind
    query: str
    digest: str
    reason: str
    created_by: str
    created_at: float
    pace: int
    stop_at: int
    total: int
    skipped: int
    done: int = 0
    failed: int = 0
    state: Phase = Phase.RUNNING
    due_at: float | None
    lease: str | None = None
    ended_at: float | None = None
    ended_by: str | None = None
    end_reason: str | None = None

    @property
    def tried(self) -> int:
        """How many have had their turn."""
        return self.done + self.failed

    @property
    def left(self) -> int:
        """How many have not: they wait, or will never have it."""
        return self.total - self.skipped - self.tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One refund of an operation as it was when that was asked for, and its result."""

    operation: str
    no: int
    refund_id: str
    reference: str
    account: str
    provider: str
    amount: int | None
    currency: str | None
    result: Result
    reason: str | None
    at: float | None


_OPERATION = tuple(bulk_operation.c[each.name] for each in fields(Operation))
_ITEM = tuple(bulk_item.c[each.name] for each in fields(Item))


def _load(row: Any) -> Operation:
    return Operation(**{**row._mapping, "kind": Kind(row.kind), "state": Phase(row.state)})  # noqa: SLF001 - documented


def add(connection: Connection, operation: Operation, items: Sequence[Item]) -> None:
    """A new operation. IntegrityError where one of its refunds waits in another, or the id is taken."""
    connection.execute(insert(bulk_operation).values(**asdict(operation)))
    insert_rows(connection, bulk_item, [asdict(each) for each in items])


def get(connection: Connection, operation_id: str) -> Operation | None:
    """One operation."""
    row = connection.execute(select(*_OPERATION).where(bulk_operation.c.id == operation_id)).first()

    return None if row is None else _load(row)


def listed(connection: Connection, *, limit: int, before: str | None = None) -> list[Operation]:
    """Operations, newest first, older than the id `before`."""
    query = select(*_OPERATION).order_by(bulk_operation.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(bulk_operation.c.id < before)

    return [_load(row) for row in connection.execute(query)]


def due(connection: Connection, now: float) -> list[str]:
    """Operations that nobody is at: new ones, and those whose worker was lost."""
    query = select(bulk_operation.c.id).where(text("state = 'running'"), bulk_operation.c.due_at <= now)

    return list(connection.scalars(query))


def claim(connection: Connection, operation_id: str, lease: str, *, now: float, until: float) -> Operation | None:
    """Take an operation up; None where another has it, or it has ended."""
    return _changed(connection, operation_id, bulk_operation.c.due_at <= now, due_at=until, lease=lease)


def hold(connection: Connection, operation_id: str, lease: str, *, until: float) -> Operation | None:
    """Keep an operation for this transaction and until then; None where the lease is another's, or it has ended."""
    return _changed(connection, operation_id, bulk_operation.c.lease == lease, due_at=until)


def end(
    connection: Connection, operation_id: str, state: Phase, *, by: str, reason: str, now: float
) -> Operation | None:
    """End an operation; what still waits is left. None where it has ended already."""
    ended = _changed(
        connection, operation_id, state=state, due_at=None, lease=None, ended_at=now, ended_by=by, end_reason=reason
    )
    if ended is not None:
        waiting = (bulk_item.c.operation == operation_id, bulk_item.c.result == Result.WAITING)
        connection.execute(update(bulk_item).where(*waiting).values(result=Result.LEFT))

    return ended


def _changed(connection: Connection, operation_id: str, *conditions: Any, **values: Any) -> Operation | None:
    """A running operation with these values; its row is locked until the transaction ends."""
    wanted = (bulk_operation.c.id == operation_id, bulk_operation.c.state == Phase.RUNNING, *conditions)
    row = connection.execute(update(bulk_operation).where(*wanted).values(**values).returning(*_OPERATION)).first()

    return None if row is None else _load(row)


# -- its refunds -----------------------------------------------------------------------------------------------------


def next_item(connection: Connection, operation_id: str) -> Item | None:
    """The next refund that waits for its turn."""
    found = items(connection, operation_id, result=Result.WAITING, limit=1)

    return found[0] if found else None


def items(
    connection: Connection, operation_id: str, *, limit: int, result: Result | None = None, after: int = 0
) -> list[Item]:
    """Refunds of an operation in their order, beyond the number `after`."""
    query = select(*_ITEM).where(bulk_item.c.operation == operation_id, bulk_item.c.no > after)
    if result is not None:
        query = query.where(bulk_item.c.result == result)

    return [_item(row) for row in connection.execute(query.order_by(bulk_item.c.no).limit(limit))]


def _item(row: Any) -> Item:
    return Item(**{**row._mapping, "result": Result(row.result)})  # noqa: SLF001 - the documented way


def settle(connection: Connection, item: Item, result: Result, *, reason: str, now: float) -> None:
    """Write down that a refund was done or failed, and count it."""
    wanted = (bulk_item.c.operation == item.operation, bulk_item.c.no == item.no)
    connection.execute(update(bulk_item).where(*wanted).values(result=result, reason=reason, at=now))
    counter = bulk_operation.c[str(result)]
    connection.execute(
        update(bulk_operation).where(bulk_operation.c.id == item.operation).values({counter: counter + 1})
    )


def not_done(connection: Connection, operation_id: str) -> list[str]:
    """The refunds that failed or were left, in their order."""
    query = select(bulk_item.c.refund_id).where(
        bulk_item.c.operation == operation_id, bulk_item.c.result.in_((Result.FAILED, Result.LEFT))
    )

    return list(connection.scalars(query.order_by(bulk_item.c.no)))


def waiting_in(connection: Connection, refund_ids: Sequence[str]) -> dict[str, str]:
    """The operation in which each of these refunds waits; those that wait in none are left out."""
    query = select(bulk_item.c.refund_id, bulk_item.c.operation).where(
        text("result = 'waiting'"), bulk_item.c.refund_id.in_(refund_ids)
    )

    return {row.refund_id: row.operation for row in connection.execute(query)}


# Where a refund stands that was retried in vain.
_BACK = (State.REVIEW, State.FAILED)


def came_back(connection: Connection, operation_id: str) -> int:
    """How many that were done need a person again, or have failed for good."""
    query = (
        select(func.count())
        .select_from(bulk_item.join(refund, refund.c.id == bulk_item.c.refund_id))
        .where(bulk_item.c.operation == operation_id, bulk_item.c.result == Result.DONE, refund.c.state.in_(_BACK))
    )

    return int(connection.execute(query).scalar_one())


def states_now(connection: Connection, refund_ids: Sequence[str]) -> dict[str, State]:
    """How these refunds stand now."""
    query = select(refund.c.id, refund.c.state).where(refund.c.id.in_(refund_ids))

    return {row.id: State(row.state) for row in connection.execute(query)}
