"""Theirs against ours: what the provider's word of a refund differs in, after it has had its effect on the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace
from sqlalchemy import Connection

from domain.outcome import Absent, NotSent, Outcome, Unknown
from domain.reconcile import Kind, Listed, Verdict, compare, evidence, listed, stranger
from domain.refund import Refund
from domain.state import FINAL, State
from engine.account import Account
from engine.bootstrap import Engine
from engine.differences import ADOPTED, EXTERNAL, Found, book_stranger
from engine.evidence import ANOTHERS_ID, Brought, bring_evidence
from ledger import external, reconcile, refunds
from ledger.external import Booking

# What was only just confirmed may not be in a list yet.
FRESH = 900.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compares what the provider of one account says with the ledger."""

    account: Account
    engine: Engine

    def of_answer(self, asked: Refund, outcome: Outcome) -> list[Found] | None:
        """What differs, after an answer has had its effect; None where it is none."""
        if isinstance(outcome, NotSent | Unknown) and not _contradicts(outcome):
            return None
        if isinstance(outcome, Absent):
            gone = Found(Kind.MISSING_AT_PROVIDER, asked, Listed(), note="the provider has no such refund")
            return [gone] if asked.state is State.SUCCEEDED else self._late(asked)
        theirs = listed(outcome, asked)
        if theirs is None:
            why = outcome.reason if isinstance(outcome, Unknown) else None
            return [Found(Kind.STATE_MISMATCH, asked, Listed(), note=why)]

        return self._follow(asked, theirs, outcome)

    def of_listed(self, theirs: Listed, ours: Refund | None, known: Sequence[Refund]) -> list[Found]:
        """What one of a list differs in; where it is none of ours, what it is. `known`: ours that it could resemble."""
        return self._follow(ours, theirs, evidence(theirs)) if ours is not None else self._stranger(theirs, known)

    def of_unlisted(self, refund: Refund) -> list[Found]:
        """What the list of its payment does not show, and should."""
        if refund.state is not State.SUCCEEDED or (refund.final_at or self.settled) >= self.settled:
            return []

        return [Found(Kind.MISSING_AT_PROVIDER, refund, Listed(), note="the provider's list does not show it")]

    @property
    def settled(self) -> float:
        """What was final before then is in a list by now."""
        return self.engine.clock() - self.account.policy.lookup_delay - FRESH

    def fresh(self, refund: Refund) -> Refund:
        """The refund as it stands."""
        with self.engine.ledger.read() as connection:
            return refunds.get(connection, refund.id) or refund

    def _follow(self, asked: Refund, theirs: Listed, outcome: Outcome | None) -> list[Found]:
        """Bring the evidence where it may move something; what a shop had been told is over and is not, is told."""
        kind = compare(asked, theirs)
        if kind is None:
            return self._late(asked)
        disputed = kind in (Kind.AMOUNT_MISMATCH, Kind.CURRENCY_MISMATCH) and asked.state in FINAL
        if kind is Kind.DUPLICATE_AT_PROVIDER or disputed or outcome is None:
            return [Found(kind, asked, theirs)]
        if bring_evidence(self.engine, self.account, asked, outcome, actor="reconciliation") is Brought.CLAIMED:
            return [Found(kind, asked, theirs, note=ANOTHERS_ID)]
        stands = self.fresh(asked)
        if compare(stands, theirs) is not None:
            return [Found(kind, stands, theirs)]
        if asked.state not in FINAL:
            return self._late(stands)
        note = f"{asked.state} here, {theirs.verdict} there: the ledger has followed, see that the customer is served"

        return [Found(Kind.STATE_MISMATCH, asked, theirs, resolution=ADOPTED, note=note)]

    def _late(self, refund: Refund) -> list[Found]:
        open_too_long = self.engine.clock() - refund.since > self.engine.settings.reconcile.late_after
        if refund.state not in (State.UNKNOWN, State.PENDING, State.REVIEW) or not open_too_long:
            return []

        return [Found(Kind.LATE, refund, Listed(), note=f"{refund.state} for too long")]

    def _stranger(self, theirs: Listed, known: Sequence[Refund]) -> list[Found]:
        """A refund that is not ours: booked as a fact, and shown to a person; one that looks like ours, at once."""
        siblings = [each for each in known if theirs.payment_id in (each.payment_id, None)]
        with self.engine.ledger.read() as connection:
            sent = reconcile.earlier_handles(connection, [each.id for each in siblings])
            known_as = external.get(connection, self.account.name, theirs.provider_refund_id or "")
        ours = next((each for each in siblings if sent.get(theirs.handle or "") == each.id), None)
        outcome = evidence(theirs)
        if ours is not None and outcome is not None and theirs.verdict is not Verdict.FAILED:
            earlier = replace(ours, handle=theirs.handle or "")
            bring_evidence(self.engine, self.account, earlier, outcome, actor="reconciliation")
            return [Found(Kind.DUPLICATE_AT_PROVIDER, ours, theirs, note="paid under a handle that was given up")]
        kind = stranger(theirs, siblings, self.account.notation.days)
        if theirs.verdict is Verdict.FAILED:
            self.engine.ledger.run(lambda connection: self._came_to_nothing(connection, theirs))
        linked = known_as is not None and known_as["refund_id"] is not None
        if kind is None or linked or any(_may_be(theirs, each) for each in siblings):
            return []
        booked, note = self.engine.ledger.run(lambda connection: self._count(connection, theirs))

        return [Found(kind, None, theirs, resolution=None if booked is None else EXTERNAL, note=note)]

    def _came_to_nothing(self, connection: Connection, theirs: Listed) -> None:
        """What was counted and has failed since is counted no more."""
        why, now = "the provider says that it came to nothing", self.engine.clock()
        number = theirs.provider_refund_id or ""
        external.withdraw(connection, self.account.name, number, why=why, actor="reconciliation", now=now)

    def _count(self, connection: Connection, theirs: Listed) -> tuple[Booking | None, str]:
        """Count what others have moved, unless it has not happened yet or may be ours; and what is to be said of it."""
        what = "a chargeback" if theirs.chargeback else "a refund made elsewhere"
        if not theirs.chargeback and theirs.verdict is not Verdict.SUCCEEDED:
            return None, f"{what}; not done yet, and not counted"
        ours = self._unnamed(connection, theirs)
        if ours is not None:
            return None, f"it may be {ours}, whose id there nobody knows: link it, or count it as external"
        booked = book_stranger(connection, self.engine, self.account.name, theirs, actor="reconciliation")

        return booked, what if booked is None else f"{what}; counted against its payment. {booked.alert or ''}".strip()

    def _unnamed(self, connection: Connection, theirs: Listed) -> str | None:
        number, payment, amount = theirs.provider_refund_id, theirs.payment_id, theirs.amount
        if number is None or payment is None or amount is None or theirs.chargeback:
            return None

        return external.unnamed(connection, self.account.name, number, payment, amount)


def match(shown: Sequence[Listed], known: Sequence[Refund]) -> list[tuple[Listed, Refund | None]]:
    """Each of theirs with ours: by the provider's id, the reconciliation id, our handle."""
    by_id = {each.provider_refund_id: each for each in known if each.provider_refund_id}
    by_reference = {each.reconciliation_id: each for each in known if each.reconciliation_id}
    by_handle = {each.handle: each for each in known}

    return [
        (
            theirs,
            by_id.get(theirs.provider_refund_id or "")
            or by_reference.get(theirs.reconciliation_id or "")
            or by_handle.get(theirs.handle or ""),
        )
        for theirs in shown
    ]


def _may_be(theirs: Listed, ours: Refund) -> bool:
    """One of ours whose answer is still looked for: recovery finds out, and the next run sees it."""
    sought = ours.state in (State.SENDING, State.UNKNOWN, State.PENDING, State.REVIEW)

    return sought and ours.provider_refund_id is None and theirs.amount in (None, ours.amount)


def _contradicts(outcome: Outcome) -> bool:
    return isinstance(outcome, Unknown) and outcome.contradiction
