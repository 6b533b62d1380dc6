"""Bulk operations: one act on many refunds, started with a count and a reason, stopped, reported one by one."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from domain.bulk import FASTEST, PACE, STOP_AT, Kind, Lot, Phase, Result
from domain.errors import Conflict, Refused
from engine.bootstrap import Engine
from engine.bulk_plan import Plan, Selection, no_such, preview
from engine.ids import new_id
from engine.people import Actor, Verb, require
from engine.view import stamp
from ledger import bulk, journal
from ledger.bulk import Item, Operation

log = structlog.get_logger(__name__)

LANE = "bulk"
MOST_REASON = 500
_ID = re.compile(r"bo_[0-9a-z]{26}", re.ASCII)


# -- started and stopped ---------------------------------------------------------------------------------------------


def start(
    engine: Engine,
    actor: Actor,
    kind: Kind,
    selection: Selection,
    *,
    count: int | None,
    reason: str,
    digest: str | None = None,
    pace: int = PACE,
    stop_at: int = STOP_AT,
    operation_id: str | None = None,
) -> Operation:
    """Put what a preview showed into the hands of the workers.

    `count`: how many will be done, as the person typed it; `digest`: of the preview they saw, if they saw one.
    `operation_id`: made with the form, so that the same form sent twice is one operation. Raises Refused naming what is
    wrong; Conflict where the refunds have changed since.
    """
    require(actor, Verb.ACT)
    chosen_id = operation_id or new_id("bo", engine.clock())
    _well_formed(chosen_id, reason, pace, stop_at)
    # Looked at first: whoever sends the same form at the same moment finds either the same refunds, or the operation.
    plan = preview(engine, actor, kind, selection)
    there = _same(engine, actor, operation_id)
    if there is not None:
        return there
    _confirmed(plan, count, digest)
    operation = _operation(engine, actor, plan, chosen_id, reason.strip(), pace, stop_at)

    def work(connection: Connection) -> None:
        bulk.add(connection, operation, list(_items(operation.id, plan)))
        told = ("kind", "query", "digest", "reason", "pace", "stop_at", "total", "skipped")
        data = {name: value for name, value in asdict(operation).items() if name in told}
        _tell(connection, engine, operation.id, "bulk.started", actor.name, data)

    try:
        engine.ledger.run(work)
    except IntegrityError:
        there = _same(engine, actor, operation_id)
        if there is None:
            raise Conflict("changed-since", "some of these refunds were just taken into another operation") from None
        return there
    log.info("bulk.started", operation=operation.id, kind=kind, refunds=plan.count, actor=actor.name)
    engine.ring(LANE, operation.id)

    return operation


def _well_formed(operation_id: str, reason: str, pace: int, stop_at: int) -> None:
    if not _ID.fullmatch(operation_id):
        raise Refused("operation-invalid", "operation: expected an id as the form has it")
    if not reason.strip() or len(reason) > MOST_REASON:
        raise Refused("reason-required", f"reason: say why, in at most {MOST_REASON} characters")
    if not 1 <= pace <= FASTEST:
        raise Refused("pace-invalid", f"pace: expected 1 to {FASTEST} refunds a second, found {pace}")
    if not 0 <= stop_at <= 100:  # noqa: PLR2004 - percent
        raise Refused("stop-at-invalid", f"stop_at: expected 0 to 100 percent, found {stop_at}")


def _same(engine: Engine, actor: Actor, operation_id: str | None) -> Operation | None:
    """What the same form has started already."""
    if operation_id is None:
        return None
    with engine.ledger.read() as connection:
        found = bulk.get(connection, operation_id)

    return found if found is not None and found.created_by == actor.name else None


def _confirmed(plan: Plan, count: int | None, digest: str | None) -> None:
    if digest is not None and digest != plan.digest:
        raise Conflict("changed-since", "the refunds have changed since the preview; look at it again")
    if plan.count == 0:
        raise Refused("nothing-to-do", f"nothing can be done: of {len(plan.planned)} refunds none would be taken")
    if count != plan.count:
        raise Refused("not-confirmed", f"{plan.count} refunds would be taken: confirm with exactly {plan.count}")


def _operation(
    engine: Engine, actor: Actor, plan: Plan, operation_id: str, reason: str, pace: int, stop_at: int
) -> Operation:
    now = engine.clock()

    return Operation(
        id=operation_id,
        kind=plan.kind,
        query=str(plan.selection),
        digest=plan.digest,
        reason=reason,
        created_by=actor.name,
        created_at=now,
        pace=pace,
        stop_at=stop_at,
        total=len(plan.planned),
        skipped=len(plan.planned) - plan.count,
        due_at=now,
    )


def _items(operation_id: str, plan: Plan) -> Iterator[Item]:
    """All that were looked at: what is left out is in the report too."""
    for no, each in enumerate(plan.planned, 1):
        waits = each.lot is Lot.WILL_BE_DONE
        yield Item(
            operation=operation_id,
            no=no,
            refund_id=each.refund.id,
            reference=each.refund.reference,
            account=each.refund.account,
            provider=each.refund.provider,
            amount=each.refund.amount,
            currency=each.refund.currency,
            result=Result.WAITING if waits else Result.SKIPPED,
            reason=None if waits else each.why[:512],
            at=None,
        )


def stop(engine: Engine, actor: Actor, operation_id: str, *, reason: str = "") -> Operation:
    """Let nothing more begin: the refund in hand is finished, the others are left."""
    require(actor, Verb.ACT)
    words = reason.strip()[:MOST_REASON] or f"stopped by {actor.name}"

    def work(connection: Connection) -> Operation:
        stopped = ended(connection, engine, operation_id, Phase.STOPPED, by=actor.name, reason=words)
        if stopped is None:
            found = bulk.get(connection, operation_id)
            raise no_such(operation_id) if found is None else Conflict("already-ended", f"it is {found.state} already")
        return stopped

    return engine.ledger.run(work)


def ended(
    connection: Connection, engine: Engine, operation_id: str, phase: Phase, *, by: str, reason: str
) -> Operation | None:
    """End an operation and put it on record; None where it has ended already."""
    found = bulk.end(connection, operation_id, phase, by=by, reason=reason, now=engine.clock())
    if found is not None:
        data = {"reason": reason, "done": found.done, "failed": found.failed, "left": found.left}
        _tell(connection, engine, operation_id, f"bulk.{phase}", by, data)

    return found


def _tell(
    connection: Connection, engine: Engine, operation_id: str, kind: str, actor: str, data: dict[str, Any]
) -> None:
    journal.append(connection, f"bulk/{operation_id}", kind, actor=actor, now=engine.clock(), data=data)


# -- looked at -------------------------------------------------------------------------------------------------------


def get(engine: Engine, operation_id: str) -> Operation:
    """One operation. Raises NotFound."""
    with engine.ledger.read() as connection:
        found = bulk.get(connection, operation_id)
    if found is None:
        raise no_such(operation_id)

    return found


def listed(engine: Engine, *, limit: int, before: str | None = None) -> list[dict[str, Any]]:
    """Operations as they are answered, newest first."""
    with engine.ledger.read() as connection:
        found = bulk.listed(connection, limit=limit, before=before)

    return [view(each) for each in found]


def report(
    engine: Engine, operation: Operation, *, limit: int, result: Result | None = None, after: int = 0
) -> list[dict[str, Any]]:
    """What became of its refunds, and how they stand `now`."""
    with engine.ledger.read() as connection:
        found = bulk.items(connection, operation.id, limit=limit, result=result, after=after)
        states = bulk.states_now(connection, [each.refund_id for each in found])

    return [
        {**asdict(each), "result": each.result, "at": stamp(each.at), "now": states.get(each.refund_id)}
        for each in found
    ]


def came_back(engine: Engine, operation: Operation) -> int:
    """How many that were retried need a person again, or have failed for good."""
    if operation.kind is not Kind.RETRY:
        return 0
    with engine.ledger.read() as connection:
        return bulk.came_back(connection, operation.id)


def view(operation: Operation) -> dict[str, Any]:
    """An operation as it is answered. `eta_seconds`: of what waits, at its pace."""
    running = operation.state is Phase.RUNNING
    told = ("state", "query", "reason", "created_by", "pace", "stop_at", "total", "done", "failed", "skipped")

    return {
        "id": operation.id,
        "object": "bulk_operation",
        "kind": operation.kind,
        **{name: getattr(operation, name) for name in told},
        "waiting": operation.left if running else 0,
        "left": 0 if running else operation.left,
        "eta_seconds": round(operation.left / operation.pace, 1) if running else None,
        "created_at": stamp(operation.created_at),
        "ended_at": stamp(operation.ended_at),
        "ended_by": operation.ended_by,
        "end_reason": operation.end_reason,
    }
