"""What others did, as a notification had us ask for it: counted against its payment, or why it is not, or not yet."""

from dataclasses import dataclass
from enum import StrEnum

import structlog

from domain.reconcile import Listed, Verdict
from engine.about import number
from engine.account import Account
from engine.bootstrap import Engine
from engine.ids import new_id
from ledger import external
from ledger.external import Booking, Kind, Result, Sighting
from providers.base import Lists

log = structlog.get_logger(__name__)


class Fate(StrEnum):
    """Whether it is dealt with, may be later, or is for a person."""

    DONE = "done"
    LATER = "later"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Counts what the provider shows of others' doing. `told_by`: the notification."""

    engine: Engine
    account: Account
    told_by: str

    def place(self, theirs: Listed, payment_ref: str | None) -> tuple[Fate, str]:
        """Book what is not ours, or say why not."""
        name, ref = number(theirs), payment_ref or theirs.payment_id
        if theirs.verdict is Verdict.FAILED:
            gone = self._withdraw(name)
            return Fate.DONE, f"{name} came to nothing{', and is counted no more' if gone else ''}"
        if theirs.verdict is not Verdict.SUCCEEDED:
            return Fate.LATER, f"{name} is not done yet"
        if ref is None or theirs.amount is None or theirs.amount <= 0:
            return Fate.OPEN, f"{name}: its payment or its amount is not known"
        unnamed = self._unnamed(theirs, ref, theirs.amount)
        if unnamed is not None:
            return Fate.OPEN, f"{name} may be {unnamed}, whose id there nobody knows: a list run shows it to link"
        booking = self._book(theirs, ref, theirs.amount)

        return Fate.DONE, f"{name} {booking.result} as {booking.id}"

    def _withdraw(self, name: str) -> bool:
        why, now = "the provider says that it came to nothing", self.engine.clock()

        return self.engine.ledger.run(
            lambda connection: external.withdraw(
                connection, self.account.name, name, why=why, actor=self.engine.worker, now=now
            )
        )

    def _unnamed(self, theirs: Listed, ref: str, amount: int) -> str | None:
        if theirs.chargeback:
            return None
        with self.engine.ledger.read() as connection:
            return external.unnamed(connection, self.account.name, number(theirs), ref, amount)

    def _book(self, theirs: Listed, ref: str, amount: int) -> Booking:
        engine, now = self.engine, self.engine.clock()
        asked = bool(self.account.capabilities.lists & {Lists.REFUND, Lists.PAYMENT})
        seen = Sighting(
            account=self.account.name,
            provider_refund_id=number(theirs),
            payment_ref=ref,
            kind=Kind.CHARGEBACK if theirs.chargeback else Kind.REFUND,
            amount=amount,
            currency=theirs.currency,
            source="notification",
            evidence={"notification": self.told_by, "the_provider_was_asked": asked},
        )
        booking = engine.ledger.run(
            lambda connection: external.book(connection, seen, row_id=new_id("ex", now), actor=engine.worker, now=now)
        )
        if booking.result is Result.BOOKED:
            log.warning("external.booked", account=self.account.name, id=booking.id, alert=booking.alert)

        return booking
