"""Before the first sending: which payment, how much of it, under which cap."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from domain.outcome import DeclineClass, Declined, NotSent, NotSentReason, Outcome
from domain.refund import Refund
from engine.account import Account
from engine.ask import ask_payment
from engine.bootstrap import Engine
from ledger import payments, refunds
from ledger.payments import Obstacle
from ledger.refunds import Change
from providers.base import PaymentFacts
from providers.transport import Network

# Seconds before a refund looks again whether another one of its payment has ended.
WAIT = 2.0


@dataclass(frozen=True, slots=True)
class Resolved:
    """The refund ready to be sent; or the outcome that stops it; or neither, when the lease was lost."""

    refund: Refund | None
    outcome: Outcome | None = None


async def resolve_payment(
    engine: Engine, account: Account, refund: Refund, network: Network, run_blocking: Callable[..., Any]
) -> Resolved:
    """Ask the provider and book what it says."""
    facts = await ask_payment(engine, account, refund, network)
    problem = _problem(refund, facts)
    if problem is not None:
        return Resolved(None, problem)
    resolved: Resolved = await run_blocking(_book, engine, refund, facts)

    return resolved


def _problem(refund: Refund, facts: PaymentFacts) -> Outcome | None:
    if facts.credentials_refused:
        return NotSent(reason=NotSentReason.CREDENTIALS, detail=facts.problem or "")
    if facts.problem is not None and facts.final:
        return Declined(code=facts.problem_code or "payment-not-refundable", message=facts.problem)
    if facts.problem is not None:
        return NotSent(reason=NotSentReason.ASK_FAILED, detail=facts.problem)
    if refund.payment_id is None and len(facts.payment_ids) != 1:
        named = ", ".join(facts.payment_ids) or "none"
        return Declined(
            code="payment-ambiguous", message=f"the order has {len(facts.payment_ids)} payments: {named}; name one"
        )

    return None


def _book(engine: Engine, refund: Refund, facts: PaymentFacts) -> Resolved:
    payment_id = refund.payment_id or facts.payment_ids[0]
    payment_ref = refund.payment_ref if refund.payment_id is not None else payment_id
    expected = msgspec.json.decode(refund.job).get("expect_refundable")

    def work(connection: Connection) -> Resolved:
        now = engine.clock()
        result = payments.resolve(
            connection,
            refund,
            payment_ref=payment_ref,
            payment_id=payment_id,
            captured=facts.captured,
            refunded=facts.refunded,
            currency=facts.currency,
            expect_refundable=expected,
            now=now,
        )
        if isinstance(result, tuple):
            return Resolved(None, _obstacle(*result))
        data = {"payment": payment_ref, "amount": result.amount, "captured": facts.captured}
        change = Change(before=refund, after=result, type="refund.resolved", actor=engine.worker, data=data)
        (stands,) = refunds.apply(connection, [change])
        return Resolved(stands)

    try:
        return engine.ledger.run(work)
    except IntegrityError:
        # The order turned out to be a payment that another refund holds at this moment.
        return Resolved(
            None, NotSent(reason=NotSentReason.BUSY, detail="its payment is being resolved", retry_after=WAIT)
        )


def _obstacle(obstacle: Obstacle, words: str) -> Outcome:
    if obstacle is Obstacle.BUSY:
        return NotSent(reason=NotSentReason.BUSY, detail=words, retry_after=WAIT)
    fixable = obstacle is Obstacle.AMOUNT_UNKNOWN

    return Declined(code=obstacle, message=words, kind=DeclineClass.FIXABLE if fixable else DeclineClass.FINAL)
