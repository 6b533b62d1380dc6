"""Payments: what was captured, and the refund that had to be resolved before it could be sent."""

from dataclasses import dataclass
from enum import StrEnum

from msgspec.structs import replace
from sqlalchemy import Connection, or_, select, text, update

from domain.refund import Refund
from domain.state import State
from ledger import models
from ledger.models import payment


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A payment's money in minor units; `captured` None: not known."""

    ref: str
    currency: str | None
    captured: int | None
    reserved: int
    refunded: int
    over_refunded: bool

    @property
    def refundable(self) -> int | None:
        """What may still be refunded."""
        return None if self.captured is None else max(self.captured - self.reserved - self.refunded, 0)

    @property
    def excess(self) -> int:
        """How much more than was captured is refunded or on its way, as far as that is known."""
        return 0 if self.captured is None else max(self.reserved + self.refunded - self.captured, 0)


class Obstacle(StrEnum):
    """Why a resolved order cannot be sent."""

    OVER_CAP = "amount-exceeds-refundable"
    CURRENCY = "currency-mismatch"
    EXPECTATION = "expect-refundable-differs"
    AMOUNT_UNKNOWN = "amount-unknown"
    BUSY = "another-refund-open"


def standing(connection: Connection, account: str, ref: str, *, lock: bool = False) -> Standing | None:
    """One payment's money."""
    query = select(payment).where(payment.c.account == account, payment.c.ref == ref)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        return None

    return Standing(
        ref=row.ref,
        currency=row.currency,
        captured=row.captured,
        reserved=row.reserved,
        refunded=row.refunded,
        over_refunded=bool(row.over_refunded),
    )


def _held(connection: Connection, refund: Refund, payment_ref: str) -> bool:
    """Whether another refund of that payment keeps this one from being sent."""
    other = select(models.refund.c.id).where(
        models.refund.c.account == refund.account,
        models.refund.c.payment_ref == payment_ref,
        or_(models.refund.c.holds, models.refund.c.state == State.UNKNOWN),
        models.refund.c.id != refund.id,
    )

    return connection.execute(other.limit(1)).first() is not None


def _captured(connection: Connection, refund: Refund, purse: Standing) -> int | None:
    """What is known of the capture: of an order, what the shop said of it, for that is about its one payment."""
    if purse.captured is not None or purse.ref == refund.payment_ref:
        return purse.captured
    order = standing(connection, refund.account, refund.payment_ref)

    return None if order is None else order.captured


def resolve(
    connection: Connection,
    refund: Refund,
    *,
    payment_ref: str,
    payment_id: str,
    captured: int | None,
    refunded: int | None,
    currency: str | None,
    expect_refundable: int | None,
    now: float,
) -> Refund | tuple[Obstacle, str]:
    """The refund with payment, amount and cap known, or why it cannot be sent; the caller carries the change out.

    `refunded`: what the provider has refunded of this payment, ours included. What exceeds our own books was refunded
    elsewhere and counts against the cap; of our open refunds nobody can say whether they are in that figure.
    """
    connection.execute(
        text("INSERT INTO payment (account, ref, created_at) VALUES (:account, :ref, :now) ON CONFLICT DO NOTHING"),
        {"account": refund.account, "ref": payment_ref, "now": now},
    )
    purse = standing(connection, refund.account, payment_ref, lock=True)
    assert purse is not None
    if payment_ref != refund.payment_ref and _held(connection, refund, payment_ref):
        return Obstacle.BUSY, "another refund of its payment must end first"
    known = purse.currency or currency
    for theirs in (known, currency):
        if theirs and theirs != (refund.currency or known):
            return Obstacle.CURRENCY, f"the payment is in {theirs}"
    caps = [each for each in (_captured(connection, refund, purse), captured) if each is not None]
    cap = min(caps, default=None)
    if cap is None and refund.amount is None:
        return Obstacle.AMOUNT_UNKNOWN, "neither the shop nor the provider says what was captured"
    ours = (refund.amount or 0) if payment_ref == refund.payment_ref else 0
    others = purse.reserved + purse.refunded - ours
    elsewhere = max((refunded or 0) - others, 0)
    available = None if cap is None else cap - others - elsewhere
    if expect_refundable is not None and available is not None and available != expect_refundable:
        return Obstacle.EXPECTATION, f"{available} is refundable, {expect_refundable} was expected"
    amount = refund.amount if refund.amount is not None else available
    if amount is None or amount <= 0 or (available is not None and amount > available):
        return Obstacle.OVER_CAP, f"{max(available or 0, 0)} is refundable"
    if purse.captured is None and cap is not None:
        connection.execute(
            update(payment)
            .where(payment.c.account == refund.account, payment.c.ref == payment_ref)
            .values(captured=cap, currency=known)
        )

    return replace(
        refund,
        payment_ref=payment_ref,
        payment_id=payment_id,
        amount=amount,
        currency=refund.currency or known,
        resolved=True,
        # Only where the shop wants everything, and the provider itself says how much that is.
        whole=refund.amount is None and available == amount == captured and all(each == amount for each in caps),
        updated_at=now,
    )
