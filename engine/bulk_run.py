"""A bulk operation carried out: one refund after the other, each in one transaction with its result and its event."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from domain.bulk import Kind, Phase, Result, too_many_failed
from domain.errors import Forbidden, Refused
from domain.refund import Refund
from engine import review
from engine.bootstrap import Engine
from engine.bulk import ended
from engine.people import SYSTEM, Actor, Verb, recognise, require
from ledger import bulk
from ledger.bulk import Item, Operation
from ledger.session import is_away

log = structlog.get_logger(__name__)

#: Longer than a refund and the pause after it take; so long after a worker was killed another goes on.
LEASE = 15.0


@dataclass(frozen=True, slots=True)
class Step:
    """What one step came to: the refund that was done, if one was."""

    refund: Refund | None = None
    last: bool = False


async def carry_out(
    engine: Engine,
    operation_id: str,
    run_blocking: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Go on with an operation at its pace until it has ended or is another's; nothing where another has it."""
    lease = secrets.token_hex(16)
    operation = await run_blocking(take, engine, operation_id, lease)
    while operation is not None:
        begun = monotonic()
        if (await run_blocking(step, engine, operation, lease)).last:
            return
        await sleep(max(0.0, 1 / operation.pace - (monotonic() - begun)))


def take(engine: Engine, operation_id: str, lease: str) -> Operation | None:
    """Claim an operation that nobody is at."""
    now = engine.clock()

    return engine.ledger.run(lambda connection: bulk.claim(connection, operation_id, lease, now=now, until=now + LEASE))


def step(engine: Engine, operation: Operation, lease: str) -> Step:
    """The next refund, or the end. Whoever lost the lease changes nothing."""
    try:
        actor = recognise(engine, operation.created_by)
        require(actor, Verb.ACT)
    except Forbidden as error:
        return _stop(engine, operation, lease, f"{operation.created_by} may not act any more: {error}")

    done = engine.ledger.run(lambda connection: _step(connection, engine, actor, operation.id, lease))
    if done.refund is not None:
        review.ring_for(engine, done.refund)

    return done


def _step(connection: Connection, engine: Engine, actor: Actor, operation_id: str, lease: str) -> Step:
    held = bulk.hold(connection, operation_id, lease, until=engine.clock() + LEASE)
    if held is None:
        return Step(last=True)
    item = bulk.next_item(connection, operation_id)
    if item is None:
        ended(connection, engine, operation_id, Phase.DONE, by=SYSTEM, reason="every refund has had its turn")
        return Step(last=True)
    result, words, refund = _carried_out(connection, engine, actor, held, item)
    bulk.settle(connection, item, result, reason=words[:512], now=engine.clock())

    return Step(refund, last=_given_up(connection, engine, held, failed=held.failed + (result is Result.FAILED)))


def _given_up(connection: Connection, engine: Engine, held: Operation, *, failed: int) -> bool:
    tried, failed = held.tried + 1, failed + _came_back(connection, held)
    if not too_many_failed(tried, failed, held.stop_at):
        return False
    words = f"{failed} of {tried} failed or came back, more than {held.stop_at} %"
    ended(connection, engine, held.id, Phase.STOPPED, by=SYSTEM, reason=words)
    log.error("bulk.stopped", operation=held.id, reason=words)

    return True


def _carried_out(
    connection: Connection, engine: Engine, actor: Actor, held: Operation, item: Item
) -> tuple[Result, str, Refund | None]:
    """The single act; what it refuses leaves no trace but the result."""
    try:
        with connection.begin_nested():
            refund = _act(connection, engine, actor, held, item.refund_id)
    except Refused as error:
        return Result.FAILED, str(error), None
    except IntegrityError:
        return Result.FAILED, "another refund holds its payment; try it again later", None
    except Exception as error:
        if is_away(error):
            raise
        # One that cannot be done must not keep the others from being done.
        log.exception("bulk.item_failed", operation=held.id, refund_id=item.refund_id)
        return Result.FAILED, f"something failed here, the log says what: {type(error).__name__}", None

    return Result.DONE, f"{held.kind}: {refund.state}", refund


def _act(connection: Connection, engine: Engine, actor: Actor, held: Operation, refund_id: str) -> Refund:
    more = {"bulk": held.id}
    match held.kind:
        case Kind.RETRY:
            return review.retried(connection, engine, actor, refund_id, reason=held.reason, more=more)
        case Kind.CHECK:
            return review.checked(connection, engine, actor, refund_id, more={**more, "reason": held.reason})
        case Kind.CANCEL:
            return review.cancelled(connection, engine, actor, refund_id, reason=held.reason, more=more)


def _came_back(connection: Connection, held: Operation) -> int:
    """Counted about once a second: it reads all that has been done."""
    if held.kind is not Kind.RETRY or held.tried % held.pace:
        return 0

    return bulk.came_back(connection, held.id)


def _stop(engine: Engine, operation: Operation, lease: str, words: str) -> Step:
    def work(connection: Connection) -> None:
        if bulk.hold(connection, operation.id, lease, until=engine.clock() + LEASE) is not None:
            ended(connection, engine, operation.id, Phase.STOPPED, by=SYSTEM, reason=words[:512])

    engine.ledger.run(work)
    log.error("bulk.stopped", operation=operation.id, reason=words)

    return Step(last=True)
