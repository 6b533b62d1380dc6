"""What an outcome means for a refund: pure rules, one answer for every (state, outcome)."""

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from domain.outcome import (
    NO_FACTS,
    Absent,
    DeclineClass,
    Declined,
    Facts,
    NotSent,
    NotSentReason,
    Outcome,
    Pending,
    Succeeded,
    Unknown,
    facts_of,
)
from domain.policy import Policy, Recovery, absence_counts_from, backoff, poll_delay
from domain.state import FINAL, State


class Call(StrEnum):
    """What was asked of the provider."""

    MOVE = "move"
    STATUS = "status"
    LOOKUP = "lookup"


class Cause(StrEnum):
    """Why a refund is in front of a person."""

    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    HANDLE_EXPIRED = "handle_expired"
    HORIZON_PASSED = "horizon_passed"
    CANNOT_REPEAT = "cannot_repeat"
    FINGERPRINT_CHANGED = "fingerprint_changed"
    FIXABLE_DECLINE = "fixable_decline"
    STORED_REFUSAL = "stored_refusal"
    MISMATCH = "mismatch"
    CONTRADICTION = "contradiction"
    TWO_HANDLES = "two_handles"
    LEASES_LOST = "leases_lost"
    REVERSED = "reversed"
    OVER_REFUNDED = "over_refunded"


class Case(Struct, frozen=True, kw_only=True, gc=False):
    """What the rules read of a refund. Times in epoch seconds, amounts in minor units.

    `ambiguous`: an attempt before the one now judged may have moved the money. `last_send_end`: after this moment
    no worker can still be about to send. `since`: when the refund entered `state`. `people_only`: two handles may both
    have been paid, and no answer about one of them can tell.
    """

    state: State
    amount: int | None
    currency: str | None
    ambiguous: bool = False
    attempts: int = 0
    replays: int = 0
    checks: int = 0
    polls: int = 0
    replay_until: float | None = None
    last_send_end: float = 0.0
    since: float = 0.0
    provider_refund_id: str | None = None
    absent: bool = False
    fingerprint_matches: bool = True
    people_only: bool = False


class Failure(Struct, frozen=True, kw_only=True, gc=False):
    """A refusal, as the shop is told."""

    code: str
    kind: DeclineClass
    message: str


class Decision(Struct, frozen=True, kw_only=True, gc=False):
    """The next step of a refund. `due_at` None: nothing more to do by itself."""

    state: State
    due_at: float | None
    ambiguous: bool
    facts: Facts = NO_FACTS
    cause: Cause | None = None
    failure: Failure | None = None
    alert: str | None = None
    pause_account: bool = False
    renew_handle: bool = False
    absent: bool = False
    counts: bool = True
    note: str = ""


class Step(StrEnum):
    """What recovery does next."""

    REPLAY = "replay"
    STATUS = "status"
    LOOKUP = "lookup"
    REVIEW = "review"


def decide(case: Case, outcome: Outcome, now: float, policy: Policy, jitter: float) -> Decision:
    """The next step after `outcome`. Total: every state and every outcome has an answer."""
    if case.state in FINAL:
        return _late(case, outcome)
    if case.state in (State.AWAITING_APPROVAL, State.QUEUED):
        return _before_sending(case, outcome, now, policy, jitter)
    if case.people_only:
        return Decision(state=case.state, due_at=None, ambiguous=True, counts=False)

    return _at_provider(case, outcome, now, policy, jitter)


def _at_provider(case: Case, outcome: Outcome, now: float, policy: Policy, jitter: float) -> Decision:
    facts = facts_of(outcome)
    mismatch = _mismatch(case, facts)
    if mismatch:
        return _review(case, Cause.MISMATCH, now, policy, facts=facts, note=mismatch)

    match outcome:
        case Succeeded():
            return Decision(state=State.SUCCEEDED, due_at=None, ambiguous=False, facts=facts, alert=facts.alert)
        case Pending():
            return _pending(case, facts, now, policy)
        case Declined():
            return _declined(case, outcome, now, policy, jitter)
        case NotSent():
            return _not_sent(case, outcome, now, policy, jitter)
        case Absent():
            return _absent(case, now, policy, jitter)
        case Unknown():
            return _unknown(case, outcome, now, policy, jitter)


def plan_recovery(case: Case, now: float, policy: Policy) -> tuple[Step, Cause | None]:
    """How to find out about a refund whose answer was lost: replay, ask, look up, or hand over to a person.

    A replay needs all of: a provider that de-duplicates, the same account fingerprint, a living handle, and either
    a provider whose replay is the documented recovery or a look-up that came back empty after it could count.
    """
    if case.provider_refund_id is not None:
        passed = now >= case.since + policy.recovery_horizon
        return (Step.REVIEW, Cause.HORIZON_PASSED) if passed else (Step.STATUS, None)
    alive = case.replay_until is None or now < case.replay_until
    may_replay = policy.deduplicates and alive and case.fingerprint_matches
    replays_left = policy.max_replays is None or case.replays < policy.max_replays
    replays_first = policy.recovery is Recovery.REPLAY and (replays_left or not policy.can_lookup)
    if may_replay and case.attempts < policy.max_attempts and (replays_first or case.absent):
        return Step.REPLAY, None
    if policy.can_lookup and not case.absent and now < case.since + policy.recovery_horizon:
        return Step.LOOKUP, None

    return Step.REVIEW, _why_stuck(case, now, policy, alive=alive)


def _why_stuck(case: Case, now: float, policy: Policy, *, alive: bool) -> Cause:
    if not case.fingerprint_matches:
        return Cause.FINGERPRINT_CHANGED
    if not alive:
        return Cause.HANDLE_EXPIRED
    if case.attempts >= policy.max_attempts:
        return Cause.ATTEMPTS_EXHAUSTED
    if now >= case.since + policy.recovery_horizon:
        return Cause.HORIZON_PASSED

    return Cause.CANNOT_REPEAT


def _mismatch(case: Case, facts: Facts) -> str:
    if facts.amount is not None and case.amount is not None and facts.amount != case.amount:
        return f"asked for {case.amount}, the provider answers {facts.amount}"
    if facts.currency is not None and case.currency is not None and facts.currency != case.currency:
        return f"asked in {case.currency}, the provider answers {facts.currency}"

    return ""


def _review(
    case: Case,
    cause: Cause,
    now: float,
    policy: Policy,
    *,
    facts: Facts = NO_FACTS,
    failure: Failure | None = None,
    ambiguous: bool = True,
    note: str = "",
) -> Decision:
    """Hand over to a person; what can still be asked is asked on, slowly."""
    known = facts.provider_refund_id or case.provider_refund_id
    can_ask = known is not None or (policy.can_lookup and ambiguous)

    return Decision(
        state=State.REVIEW,
        due_at=now + policy.review_poll if can_ask else None,
        ambiguous=ambiguous,
        facts=facts,
        cause=cause,
        failure=failure,
        alert=facts.alert,
        absent=case.absent,
        note=note,
    )


def _pending(case: Case, facts: Facts, now: float, policy: Policy) -> Decision:
    since = case.since if case.state is State.PENDING else now
    if case.state is State.REVIEW and case.provider_refund_id is not None:
        return _asked_on(case, now, policy, facts=facts)
    if now >= since + policy.poll_horizon:
        # Accepted and never decided. Without an id nothing proves to a person that it is there: that stays uncertain.
        known = facts.provider_refund_id or case.provider_refund_id
        return _review(case, Cause.HORIZON_PASSED, now, policy, facts=facts, ambiguous=known is None)
    polls = case.polls if case.state is State.PENDING else 0

    return Decision(
        state=State.PENDING,
        due_at=now + poll_delay(policy, polls),
        ambiguous=False,
        facts=facts,
        alert=facts.alert,
    )


def _declined(case: Case, outcome: Declined, now: float, policy: Policy, jitter: float) -> Decision:
    if case.ambiguous and not outcome.own_record:
        if case.state in (State.PENDING, State.REVIEW):
            return _asked_on(case, now, policy, facts=outcome.facts)
        return _still_unknown(case, now, policy, jitter, note=f"declined ({outcome.code}) after a lost answer")
    failure = Failure(code=outcome.code, kind=outcome.kind, message=outcome.message)
    if outcome.kind is DeclineClass.FIXABLE:
        return _review(case, Cause.FIXABLE_DECLINE, now, policy, facts=outcome.facts, failure=failure, ambiguous=False)

    return Decision(
        state=State.FAILED,
        due_at=None,
        ambiguous=False,
        facts=outcome.facts,
        failure=failure,
        alert=outcome.facts.alert,
    )


def _not_sent(case: Case, outcome: NotSent, now: float, policy: Policy, jitter: float) -> Decision:
    pause = outcome.reason is NotSentReason.CREDENTIALS
    if case.state in (State.PENDING, State.REVIEW):
        return _asked_on(case, now, policy, wait=outcome.retry_after, pause=pause)
    if case.ambiguous and outcome.stored:
        review = _review(case, Cause.STORED_REFUSAL, now, policy, note=outcome.detail)
        return replace(review, pause_account=pause)
    if case.ambiguous:
        return _still_unknown(
            case, now, policy, jitter, retry_after=outcome.retry_after, pause=pause, note=outcome.detail
        )
    if outcome.stored:
        failure = Failure(code=outcome.reason, kind=DeclineClass.FIXABLE, message=outcome.detail)
        review = _review(case, Cause.STORED_REFUSAL, now, policy, failure=failure, ambiguous=False)
        return replace(review, pause_account=pause)

    waits = outcome.reason is NotSentReason.BUSY and not outcome.renew_handle
    free = pause or waits or outcome.reason in (NotSentReason.PAUSED, NotSentReason.LEASE)
    # Before the first sending only questions were tried, and these come to an end as well.
    tried = case.attempts + (case.checks if case.state is State.QUEUED else 0)
    if not free and tried >= policy.max_attempts:
        return _review(case, Cause.ATTEMPTS_EXHAUSTED, now, policy, ambiguous=False, note=outcome.detail)

    return Decision(
        state=State.QUEUED,
        due_at=now + _wait(case, policy, outcome.retry_after, jitter),
        ambiguous=False,
        pause_account=pause,
        renew_handle=outcome.renew_handle,
        counts=not free,
        note=f"{outcome.reason}: {outcome.detail}" if outcome.detail else outcome.reason,
    )


def _absent(case: Case, now: float, policy: Policy, jitter: float) -> Decision:
    counts_from = absence_counts_from(policy, case.last_send_end)
    if case.state in (State.PENDING, State.REVIEW):
        return _asked_on(replace(case, absent=case.absent or now >= counts_from), now, policy)
    if now < counts_from:
        wait = min(backoff(policy, case.checks + 1, jitter), counts_from - now)
        return _still_unknown(case, now, policy, jitter, retry_after=wait, note="not found yet")
    case = replace(case, ambiguous=True, absent=True)
    step, cause = plan_recovery(case, now, policy)
    if step is Step.REPLAY:
        return Decision(
            state=State.UNKNOWN, due_at=now, ambiguous=True, absent=True, note="not found: the same bytes go again"
        )

    return _review(case, cause or Cause.CANNOT_REPEAT, now, policy, note="the look-up finds nothing")


def _unknown(case: Case, outcome: Unknown, now: float, policy: Policy, jitter: float) -> Decision:
    if outcome.contradiction:
        return _review(case, Cause.CONTRADICTION, now, policy, facts=outcome.facts, note=outcome.reason)
    if case.state in (State.PENDING, State.REVIEW):
        return _asked_on(case, now, policy, facts=outcome.facts, note=outcome.reason)

    return _still_unknown(case, now, policy, jitter, facts=outcome.facts, note=outcome.reason)


def _still_unknown(
    case: Case,
    now: float,
    policy: Policy,
    jitter: float,
    *,
    retry_after: float | None = None,
    facts: Facts = NO_FACTS,
    pause: bool = False,
    note: str = "",
) -> Decision:
    return Decision(
        state=State.UNKNOWN,
        due_at=now + _wait(case, policy, retry_after, jitter),
        ambiguous=True,
        facts=facts,
        alert=facts.alert,
        pause_account=pause,
        absent=False,
        note=note,
    )


def _asked_on(
    case: Case,
    now: float,
    policy: Policy,
    *,
    wait: float | None = None,
    facts: Facts = NO_FACTS,
    pause: bool = False,
    note: str = "",
) -> Decision:
    """It waits for the provider, or for a person, and nothing was learned: ask again at its pace, to the horizon.

    `note`: what a person is told who gets it then. Whoever has it already keeps the words that it came with.
    """
    if case.state is State.PENDING and now >= case.since + policy.poll_horizon:
        return _review(
            case, Cause.HORIZON_PASSED, now, policy, facts=facts, note=note, ambiguous=case.provider_refund_id is None
        )
    if wait is None:
        wait = poll_delay(policy, case.polls) if case.state is State.PENDING else policy.review_poll

    return Decision(
        state=case.state,
        due_at=now + wait,
        ambiguous=case.ambiguous,
        facts=facts,
        alert=facts.alert,
        pause_account=pause,
        absent=case.absent,
        counts=False,
    )


def _before_sending(case: Case, outcome: Outcome, now: float, policy: Policy, jitter: float) -> Decision:
    """Nothing was sent yet: only the questions before the first sending have been answered."""
    if case.state is State.AWAITING_APPROVAL:
        return Decision(state=case.state, due_at=None, ambiguous=case.ambiguous, counts=False)
    if case.ambiguous:
        return _review(case, Cause.CONTRADICTION, now, policy, note="queued, but an attempt may have moved the money")
    match outcome:
        case Declined():
            failure = Failure(code=outcome.code, kind=outcome.kind, message=outcome.message)
            if outcome.kind is DeclineClass.FIXABLE:
                return _review(case, Cause.FIXABLE_DECLINE, now, policy, failure=failure, ambiguous=False)
            return Decision(state=State.FAILED, due_at=None, ambiguous=False, failure=failure)
        case NotSent():
            return _not_sent(case, outcome, now, policy, jitter)
        case Succeeded(facts=facts) | Pending(facts=facts):
            note = "the provider has a refund under a handle that we never sent"
            return _review(case, Cause.CONTRADICTION, now, policy, facts=facts, note=note)
        case Absent() | Unknown():
            return _not_sent(
                case, NotSent(reason=NotSentReason.ASK_FAILED, detail=_words(outcome)), now, policy, jitter
            )


def _late(case: Case, outcome: Outcome) -> Decision:
    """Evidence about a refund that was final already: a success is booked, a reversal too; the rest is noise."""
    match outcome:
        case Succeeded(facts=facts) if mismatch := _mismatch(case, facts):
            alert = f"the provider answers a success that does not fit: {mismatch}"
            return Decision(state=case.state, due_at=None, ambiguous=case.ambiguous, alert=alert, counts=False)
        case Succeeded(facts=facts) if case.state is not State.SUCCEEDED:
            return Decision(
                state=State.SUCCEEDED,
                due_at=None,
                ambiguous=False,
                facts=facts,
                alert=f"the provider paid a refund that stood as {case.state}",
            )
        case Declined(own_record=True) if case.state is State.SUCCEEDED:
            return Decision(
                state=State.REVERSED,
                due_at=None,
                ambiguous=False,
                facts=outcome.facts,
                cause=Cause.REVERSED,
                failure=Failure(code=outcome.code, kind=outcome.kind, message=outcome.message),
                alert="the provider took back a refund that had succeeded",
            )
        case _:
            return Decision(state=case.state, due_at=None, ambiguous=case.ambiguous, counts=False)


def _wait(case: Case, policy: Policy, retry_after: float | None, jitter: float) -> float:
    if retry_after is not None:
        return retry_after

    return backoff(policy, max(case.attempts, case.checks, 1), jitter)


def _words(outcome: Outcome) -> str:
    return outcome.reason if isinstance(outcome, Unknown) else type(outcome).__name__.lower()
