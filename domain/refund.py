"""The refund as a value, and how a decision changes it."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from domain.decision import Case, Cause, Decision
from domain.outcome import DeclineClass
from domain.private import masked
from domain.state import FINAL, Hold, State, advance, hold


class Settlement:
    """How a refund was closed by hand."""

    RETURNED = "returned"
    NOT_RETURNED = "not_returned"
    RETURNED_ELSEWHERE = "returned_elsewhere"


class Refund(Struct, frozen=True, kw_only=True, gc=False):
    """One refund: the ledger's row. Amounts in minor units, times in epoch seconds.

    `resolved`: payment and amount are known, so it can be sent. `holds`: it is the only one under way for its payment.
    `ambiguous`: some attempt may have moved the money. `fence`: grows with every claim; a worker with an older one
    has lost its lease. `since`: when `state` was entered.
    """

    id: str
    account: str
    provider: str
    reference: str
    payment_ref: str
    payment_id: str | None
    order_id: str | None
    state: State
    amount: int | None
    currency: str | None
    resolved: bool
    whole: bool
    holds: bool
    handle: str
    handle_no: int
    job: str
    personal: bytes | None
    due_at: float | None
    leased_by: str | None
    fence: int
    lost_leases: int
    version: int
    chain: str
    attempts: int
    uncounted: int
    replays: int
    checks: int
    polls: int
    ambiguous: bool
    absent: bool
    last_send_end: float
    replay_until: float | None
    since: float
    provider_refund_id: str | None
    provider_status: str | None
    reconciliation_id: str | None
    failure_code: str | None
    failure_class: DeclineClass | None
    failure_message: str | None
    cause: Cause | None
    note: str | None
    settlement: str | None
    assignee: str | None
    traceparent: str | None
    created_at: float
    updated_at: float
    final_at: float | None

    @property
    def hold(self) -> Hold:
        """What this refund does to its payment's money."""
        if self.state is State.SETTLED:
            return Hold.RELEASED if self.settlement == Settlement.NOT_RETURNED else Hold.REFUNDED

        return hold(self.state)

    @property
    def outcome_certain(self) -> bool:
        """Whether it is known if the money moved."""
        open_question = self.state in (State.SENDING, State.UNKNOWN, State.PENDING)

        return self.state in FINAL or not (self.ambiguous or open_question)

    def case(self, *, ambiguous: bool | None = None, fingerprint_matches: bool = True) -> Case:
        """What the rules read of it."""
        return Case(
            state=self.state,
            amount=self.amount,
            currency=self.currency,
            ambiguous=self.ambiguous if ambiguous is None else ambiguous,
            attempts=self.attempts - self.uncounted,
            replays=self.replays,
            checks=self.checks,
            polls=self.polls,
            replay_until=self.replay_until,
            last_send_end=self.last_send_end,
            since=self.since,
            provider_refund_id=self.provider_refund_id,
            absent=self.absent,
            fingerprint_matches=fingerprint_matches,
            people_only=self.state is State.REVIEW and self.cause is Cause.TWO_HANDLES,
        )


# Columns that a change of state may write; the rest is fixed when the refund is accepted.
MUTABLE = (
    "payment_ref",
    "payment_id",
    "state",
    "amount",
    "currency",
    "resolved",
    "whole",
    "holds",
    "handle",
    "handle_no",
    "due_at",
    "leased_by",
    "lost_leases",
    "attempts",
    "uncounted",
    "replays",
    "checks",
    "polls",
    "ambiguous",
    "absent",
    "last_send_end",
    "replay_until",
    "since",
    "provider_refund_id",
    "provider_status",
    "reconciliation_id",
    "failure_code",
    "failure_class",
    "failure_message",
    "cause",
    "note",
    "settlement",
    "assignee",
    "updated_at",
    "final_at",
)


def leased(refund: Refund, worker: str, until: float, *, holds: bool) -> Refund:
    """The refund in the hands of `worker` until its lease ends; who had it before has lost it."""
    return replace(
        refund,
        due_at=until,
        leased_by=worker,
        fence=refund.fence + 1,
        lost_leases=refund.lost_leases + (refund.leased_by is not None),
        holds=refund.holds or holds,
    )


def moved(refund: Refund, state: State, now: float, **changes: Any) -> Refund:
    """The refund in `state` at `now`: the one way in which a state changes. The lease ends with it."""
    advance(refund.state, state) if state is not refund.state else None
    entered = {} if state is refund.state else {"since": now, "polls": 0, "checks": 0}
    final: dict[str, Any] = {"final_at": now if state in FINAL else None} if state is not refund.state else {}
    if state in FINAL:
        final["holds"] = False

    return replace(
        refund,
        **{"state": state, "leased_by": None, "lost_leases": 0, "updated_at": now, **entered, **final, **changes},
    )


def decided(refund: Refund, decision: Decision, now: float, *, alone: bool) -> Refund:
    """The refund after `decision`. `alone`: its provider wants one refund per payment at a time."""
    facts = decision.facts
    failure = decision.failure
    words = said(decision.note or facts.alert)
    # What waits for a person, or is over, stands as it was explained until an answer explains it anew.
    stays = decision.state is refund.state and (refund.state is State.REVIEW or refund.state in FINAL)
    after = moved(
        refund,
        decision.state,
        now,
        due_at=decision.due_at,
        ambiguous=decision.ambiguous,
        absent=decision.absent,
        provider_refund_id=refund.provider_refund_id or clean(facts.provider_refund_id, 255),
        provider_status=clean(facts.status, 255) or refund.provider_status,
        reconciliation_id=clean(facts.reconciliation_id, 255) or refund.reconciliation_id,
        note=words or (refund.note if stays and decision.cause is None else None),
        cause=decision.cause or (refund.cause if stays else None),
        # Only a refund that is proven unsent starts a new lifetime; a pending one may come to be replayed.
        replay_until=None if decision.state is State.QUEUED else refund.replay_until,
    )
    if failure is not None:
        after = replace(
            after,
            failure_code=clean(failure.code, 128),
            failure_class=failure.kind,
            failure_message=said(failure.message),
        )
    elif decision.state is State.SUCCEEDED:
        after = replace(after, failure_code=None, failure_class=None, failure_message=None)

    return replace(after, holds=holds_payment(after, alone=alone))


def clean(words: str | None, limit: int) -> str | None:
    """A provider's words as any database can keep them: no NUL, no half characters, at most `limit`; "" is None."""
    if not words:
        return None

    return words.replace("\x00", "").encode("utf-8", "replace").decode()[:limit] or None


def said(words: str | None) -> str | None:
    """A provider's sentence as it is kept and shown: clean, short, and without what is private."""
    return clean(masked(words), 512) if words else None


def holds_payment(refund: Refund, *, alone: bool) -> bool:
    """Whether `refund` keeps others of its payment from being sent."""
    at_provider = refund.state in (State.SENDING, State.UNKNOWN, State.PENDING) or (
        refund.state is State.REVIEW and (refund.ambiguous or refund.provider_refund_id is not None)
    )

    return alone and at_provider


def personal_parts(personal: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Customer and bank account of the sealed part of a job."""
    return personal.get("customer", {}), personal.get("bank_account", {})
