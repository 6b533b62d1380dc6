"""Ours against theirs: what a provider's record of a refund says about ours, and what may be done where they differ."""

import hashlib
from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from domain.job import canonical
from domain.outcome import Declined, Facts, Outcome, Pending, Succeeded
from domain.refund import Refund, Settlement
from domain.state import Hold, State


class Source(StrEnum):
    """Where theirs comes from."""

    STATUS = "status"
    LIST = "list"
    FILE = "file"


class Kind(StrEnum):
    """How ours and theirs differ."""

    MISSING_AT_PROVIDER = "missing_at_provider"
    MISSING_HERE = "missing_here"
    AMOUNT_MISMATCH = "amount_mismatch"
    CURRENCY_MISMATCH = "currency_mismatch"
    STATE_MISMATCH = "state_mismatch"
    DUPLICATE_AT_PROVIDER = "duplicate_at_provider"
    LATE = "late"


class Standing(StrEnum):
    """Where a difference stands. `explained`: its cause is known and somebody looks after it, but it is not over."""

    OPEN = "open"
    EXPLAINED = "explained"
    CLOSED = "closed"


class Verdict(StrEnum):
    """What the provider says of a refund; a word that nobody knows is no verdict."""

    SUCCEEDED = "succeeded"
    PENDING = "pending"
    FAILED = "failed"


class Way(StrEnum):
    """What a person may do about a difference."""

    ADOPT = "adopt"
    LINK = "link"
    RECHECK = "recheck"
    ACCEPT = "accept"
    DUPLICATE = "duplicate"
    EXTERNAL = "external"
    ACKNOWLEDGE = "acknowledge"


class Reason(StrEnum):
    """Why a difference is accepted."""

    FEE = "fee"
    ROUNDING = "rounding"
    TIMING = "timing"
    WRITE_OFF = "write_off"


_KNOWN = frozenset({Way.RECHECK, Way.ACCEPT})

WAYS: dict[Kind, frozenset[Way]] = {
    Kind.MISSING_AT_PROVIDER: _KNOWN,
    Kind.MISSING_HERE: frozenset({Way.LINK, Way.EXTERNAL, Way.DUPLICATE, Way.ACCEPT, Way.ACKNOWLEDGE}),
    Kind.AMOUNT_MISMATCH: _KNOWN,
    Kind.CURRENCY_MISMATCH: _KNOWN,
    Kind.STATE_MISMATCH: _KNOWN | {Way.ADOPT, Way.ACKNOWLEDGE},
    Kind.DUPLICATE_AT_PROVIDER: frozenset({Way.LINK, Way.DUPLICATE, Way.EXTERNAL, Way.ACCEPT}),
    Kind.LATE: _KNOWN,
}


class Listed(Struct, frozen=True, kw_only=True, gc=False):
    """One refund or chargeback as the provider shows it; absent is None. Amounts in minor units, `at` in epoch seconds.

    `amount` -1: there is one, and it cannot be read. `handle`, `refund_id`: our own names, where the provider repeats
    them. `alert`: what a person must know of it.
    """

    provider_refund_id: str | None = None
    reconciliation_id: str | None = None
    handle: str | None = None
    refund_id: str | None = None
    payment_id: str | None = None
    order_id: str | None = None
    amount: int | None = None
    currency: str | None = None
    verdict: Verdict | None = None
    status: str | None = None
    chargeback: bool = False
    at: float | None = None
    alert: str | None = None


def listed(outcome: Outcome, refund: Refund) -> Listed | None:
    """What an answer about `refund` shows of it; None where it proves nothing about the provider's record."""
    match outcome:
        case Succeeded(facts=facts):
            verdict = Verdict.SUCCEEDED
        case Pending(facts=facts):
            verdict = Verdict.PENDING
        case Declined(facts=facts, own_record=True):
            verdict = Verdict.FAILED
        case _:
            return None

    return Listed(
        provider_refund_id=facts.provider_refund_id or refund.provider_refund_id,
        reconciliation_id=facts.reconciliation_id,
        handle=refund.handle,
        payment_id=refund.payment_id,
        amount=facts.amount,
        currency=facts.currency,
        verdict=verdict,
        status=facts.status,
        alert=facts.alert,
    )


def facts(theirs: Listed) -> Facts:
    """What the provider's record shows, as an answer has it."""
    return Facts(**{name: getattr(theirs, name) for name in Facts.__slots__})


def evidence(theirs: Listed) -> Outcome | None:
    """The provider's own record as the answer it stands for; None where it says nothing."""
    match theirs.verdict:
        case Verdict.SUCCEEDED:
            return Succeeded(facts=facts(theirs))
        case Verdict.PENDING:
            return Pending(facts=facts(theirs))
        case Verdict.FAILED:
            return Declined(code=theirs.status or "failed", own_record=True, facts=facts(theirs))
        case _:
            return None


def compare(ours: Refund, theirs: Listed) -> Kind | None:
    """How the provider's record of our refund differs from ours, the gravest first; None where they agree."""
    if _another(ours, theirs):
        return None if theirs.verdict is Verdict.FAILED else Kind.DUPLICATE_AT_PROVIDER
    if theirs.verdict is Verdict.FAILED and _agree(ours, theirs.verdict):
        return None
    if None not in (ours.currency, theirs.currency) and ours.currency != theirs.currency:
        return Kind.CURRENCY_MISMATCH
    if None not in (ours.amount, theirs.amount) and ours.amount != theirs.amount:
        return Kind.AMOUNT_MISMATCH
    if theirs.chargeback or not _agree(ours, theirs.verdict):
        return Kind.STATE_MISMATCH

    return None


def _another(ours: Refund, theirs: Listed) -> bool:
    return None not in (ours.provider_refund_id, theirs.provider_refund_id) and (
        ours.provider_refund_id != theirs.provider_refund_id
    )


def _agree(ours: Refund, verdict: Verdict | None) -> bool:
    match verdict:
        case Verdict.SUCCEEDED:
            return ours.state is State.SUCCEEDED or ours.settlement == Settlement.RETURNED
        case Verdict.FAILED:
            return ours.hold is Hold.RELEASED or ours.settlement == Settlement.RETURNED_ELSEWHERE
        case Verdict.PENDING:
            return ours.state in (State.SENDING, State.UNKNOWN, State.PENDING, State.REVIEW)
        case _:
            return True


def stranger(theirs: Listed, siblings: Iterable[Refund], days: float) -> Kind | None:
    """What a refund is that the provider has and we do not know; None where it moved nothing, or nothing yet.

    `siblings`: our refunds of its payment. One of equal amount that we paid, within `days`, is ours paid twice: that is
    told while it is pending, too.
    """
    if theirs.verdict is Verdict.FAILED:
        return None
    if theirs.chargeback:
        return Kind.MISSING_HERE
    if any(_twin(theirs, each, days * 86_400) for each in siblings):
        return Kind.DUPLICATE_AT_PROVIDER

    return None if theirs.verdict is Verdict.PENDING else Kind.MISSING_HERE


def _twin(theirs: Listed, ours: Refund, seconds: float) -> bool:
    near = theirs.at is None or abs(theirs.at - (ours.final_at or ours.since)) <= seconds

    return near and ours.hold is Hold.REFUNDED and (ours.amount, ours.currency) == (theirs.amount, theirs.currency)


def identity(kind: Kind, account: str, refund_id: str | None, theirs: Listed) -> str:
    """The cause of a difference: found again in another run, it is the same one."""
    who = theirs.provider_refund_id or theirs.reconciliation_id
    named: list[object] = (
        [who] if who else [theirs.handle, theirs.payment_id, theirs.amount, theirs.currency, theirs.at]
    )
    said: dict[Kind, list[object]] = {
        Kind.AMOUNT_MISMATCH: [theirs.amount],
        Kind.CURRENCY_MISMATCH: [theirs.currency],
        Kind.STATE_MISMATCH: [theirs.verdict, theirs.chargeback],
        Kind.DUPLICATE_AT_PROVIDER: named,
        Kind.MISSING_HERE: named,
    }

    # A second refund at the provider is known by the provider's name for it, whichever of ours it resembles.
    subject = None if kind is Kind.DUPLICATE_AT_PROVIDER else refund_id

    return hashlib.sha256(canonical([kind, account, subject, *said.get(kind, [])])).hexdigest()
