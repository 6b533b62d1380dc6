"""What may be done with a dead letter, and why: computed, never guessed by a person at night."""

from dataclasses import dataclass
from enum import StrEnum

from domain.decision import Case, Cause
from domain.policy import Policy, absence_counts_from


class Advice(StrEnum):
    """The four answers."""

    SAFE = "safe_to_retry"
    CHECK_FIRST = "check_first"
    NEW_HANDLE = "new_handle_needed"
    HUMAN_ONLY = "human_only"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The advice with its reasons, in words an operator can act on."""

    advice: Advice
    reasons: tuple[str, ...]


def verdict(case: Case, cause: Cause, now: float, policy: Policy) -> Verdict:
    """What a person may do about a refund in review.

    `SAFE`: the same bytes under the same handle, inside its lifetime. `CHECK_FIRST`: ask the provider.
    `NEW_HANDLE`: refused for certain, and only a new handle can succeed; two people. `HUMAN_ONLY`: evidence from the
    provider's own portal, then two people.
    """
    if cause is Cause.OVER_REFUNDED:
        return Verdict(Advice.HUMAN_ONLY, ("others have returned money of this payment: cancel it, or submit it anew",))
    if cause in (Cause.MISMATCH, Cause.CONTRADICTION):
        return Verdict(Advice.HUMAN_ONLY, ("the provider's answer contradicts what was asked",))
    if cause is Cause.TWO_HANDLES:
        return Verdict(Advice.HUMAN_ONLY, ("the provider paid, or may pay, under two handles: look at both",))
    if cause is Cause.REVERSED:
        return Verdict(Advice.HUMAN_ONLY, ("the provider took the refund back: the customer is unpaid",))
    if not case.ambiguous:
        return _certain(case, cause)

    return _uncertain(case, now, policy)


def _certain(case: Case, cause: Cause) -> Verdict:
    if cause in (Cause.FIXABLE_DECLINE, Cause.STORED_REFUSAL):
        return Verdict(
            Advice.NEW_HANDLE,
            ("the provider refused for certain, so no money moved", "it would repeat its refusal for this handle"),
        )
    if case.provider_refund_id is not None:
        return Verdict(Advice.CHECK_FIRST, ("the provider has this refund and has not decided it",))

    return Verdict(Advice.SAFE, ("every attempt is proven unsent",))


def _uncertain(case: Case, now: float, policy: Policy) -> Verdict:
    alive = case.replay_until is None or now < case.replay_until
    if case.provider_refund_id is not None:
        return Verdict(Advice.CHECK_FIRST, ("an answer was lost; the provider's refund id is known",))
    if not case.fingerprint_matches:
        return Verdict(Advice.HUMAN_ONLY, ("the account's identity has changed: a replay would be a new refund",))
    if policy.can_lookup and not case.absent:
        return Verdict(Advice.CHECK_FIRST, ("an answer was lost; the provider can be asked by our handle",))
    if alive and policy.deduplicates and now >= absence_counts_from(policy, case.last_send_end):
        return Verdict(
            Advice.SAFE,
            ("an answer was lost", "the provider still remembers the handle, so the same bytes cannot pay twice"),
        )
    if not alive:
        return Verdict(
            Advice.HUMAN_ONLY,
            ("an answer was lost", "the handle's lifetime is over: the same request could be paid again"),
        )

    if policy.deduplicates:
        return Verdict(
            Advice.CHECK_FIRST,
            ("an answer was lost", "the last request may still be on its way: look again later"),
        )

    return Verdict(Advice.HUMAN_ONLY, ("an answer was lost", "the provider does not tell a repeat from a new refund"))
