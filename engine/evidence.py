"""What an answer does to a refund: the change that a decision asks for, and evidence that comes late."""

import uuid
from enum import StrEnum
from typing import Any

import structlog
from msgspec.structs import replace
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from domain.decision import Cause, Decision, decide
from domain.outcome import Declined, NotSent, Outcome, Pending, Succeeded, Unknown, facts_of
from domain.refund import Refund, decided, said
from domain.state import FINAL, MOVES, Hold, State
from engine.account import Account
from engine.bootstrap import Engine
from engine.operate import pause_by_itself
from ledger import journal, refunds
from ledger.refunds import AttemptEnd, Change

log = structlog.get_logger(__name__)

ANOTHERS_ID = "the provider's refund id belongs to another refund"


def judged(
    before: Refund,
    counted: Refund,
    decision: Decision,
    outcome: Outcome,
    now: float,
    account: Account,
    *,
    actor: str,
    fenced: bool = True,
) -> Change:
    """The change that a decision asks for; one that alters nothing but clocks and counters is no event."""
    after = decided(counted, decision, now, alone=account.alone)
    if not decision.counts and before.state is State.SENDING:
        after = replace(after, uncounted=after.uncounted + 1)
    if decision.renew_handle:
        after = replace(after, handle=account.provider.handle(uuid.uuid4()), handle_no=after.handle_no + 1, replays=0)
    quiet = _same(before, after) and decision.alert is None
    kind = f"refund.{after.state}" if after.state is not before.state else "refund.answered"

    return Change(
        before=before,
        after=after,
        type=None if quiet else kind,
        actor=actor,
        data={} if quiet else _evidence(outcome, decision, before.attempts),
        fenced=fenced,
    )


def _same(before: Refund, after: Refund) -> bool:
    return (
        before.state is after.state
        and before.provider_status == after.provider_status
        and before.provider_refund_id == after.provider_refund_id
        and before.ambiguous == after.ambiguous
        and before.absent == after.absent
        and before.cause == after.cause
        and before.handle == after.handle
    )


def note_of(outcome: Outcome) -> str | None:
    """What an outcome says for itself, as it is kept beside the attempt."""
    match outcome:
        case Declined():
            return said(f"{outcome.code} {outcome.message}".strip())
        case NotSent():
            return said(f"{outcome.reason} {outcome.detail}".strip())
        case Unknown():
            return said(outcome.reason)
        case _:
            return None


def _evidence(outcome: Outcome, decision: Decision, attempts: int) -> dict[str, Any]:
    facts = decision.facts
    given = {
        "outcome": type(outcome).__name__.lower(),
        "attempts": attempts,
        "why": note_of(outcome) or decision.note or None,
        "cause": decision.cause,
        "provider_refund_id": facts.provider_refund_id,
        "provider_status": facts.status,
        "answered_amount": facts.amount,
        "answered_currency": facts.currency,
        "alert": decision.alert,
        "new_handle": True if decision.renew_handle else None,
    }

    return {key: value for key, value in given.items() if value is not None}


def announce(engine: Engine, refund: Refund, decision: Decision) -> None:
    """What people must know is a log line of its own; what became final or stands in review is counted."""
    if refund.state is State.SUCCEEDED and refund.amount is not None:
        engine.meter.count("succeeded_amount", refund.account, refund.provider, refund.currency or "", by=refund.amount)
    if decision.alert:
        log.error("refund.alert", refund_id=refund.id, account=refund.account, alert=decision.alert)
    if refund.state is State.REVIEW and decision.cause is not None:
        log.warning("refund.review", refund_id=refund.id, account=refund.account, cause=decision.cause)
        engine.meter.count("dead", refund.account, refund.provider, decision.cause)


class Brought(StrEnum):
    """What became of evidence."""

    MOVED = "moved"
    KEPT = "kept"
    CLAIMED = "claimed"


def bring_evidence(
    engine: Engine,
    account: Account,
    asked: Refund,
    outcome: Outcome,
    *,
    end: AttemptEnd | None = None,
    actor: str | None = None,
) -> Brought:
    """Book what a provider has said about a refund that others may have moved meanwhile: see `place`.

    Nothing that was answered is dropped: what cannot be a step is an event, once while it is all that is heard, and the
    attempt `end`s in any case. CLAIMED: kept, for the provider's refund id belongs to another refund of ours.
    """
    who = actor or engine.worker
    try:
        moved = engine.ledger.run(
            lambda connection: place(connection, engine, account, asked, outcome, end=end, actor=who)
        )
    except IntegrityError:
        engine.ledger.run(
            lambda connection: _keep(connection, engine, asked, outcome, end=end, actor=who, why=ANOTHERS_ID)
        )
    else:
        return Brought.MOVED if moved else Brought.KEPT
    log.error("evidence.claimed", refund_id=asked.id, account=asked.account, handle=asked.handle)

    return Brought.CLAIMED


def place(
    connection: Connection,
    engine: Engine,
    account: Account,
    asked: Refund,
    outcome: Outcome,
    *,
    actor: str,
    end: AttemptEnd | None = None,
) -> bool:
    """Let evidence have its effect on the refund as it stands; True when it moved.

    `asked`: the refund as it stood when the provider was asked. What is said about an earlier handle, or about a refund
    that waits to be sent again, is no step of its course: if money may have moved, a person sees it before more does.
    Raises IntegrityError where the provider's refund id belongs to another refund of ours.
    """
    now = engine.clock()
    refund = refunds.get(connection, asked.id, lock=True)
    if refund is None:
        return False
    decision = _on_evidence(refund, asked, outcome, now, account)
    if decision is None:
        _keep(connection, engine, asked, outcome, end=end, actor=actor, why=note_of(outcome))
        return False
    change = judged(refund, refund, decision, outcome, now, account, actor=actor, fenced=False)
    (stands,) = refunds.apply(connection, [replace(change, end=end)])
    if stands is not None:
        announce(engine, stands, decision)

    return stands is not None and stands.state is not refund.state


def _keep(
    connection: Connection,
    engine: Engine,
    asked: Refund,
    outcome: Outcome,
    *,
    end: AttemptEnd | None,
    actor: str,
    why: str | None,
) -> None:
    """Evidence that moves nothing is an event of the refund; the same once more is there already."""
    refund = refunds.get(connection, asked.id, lock=True)
    if refund is None:
        return
    data = {
        "handle": asked.handle,
        "outcome": type(outcome).__name__.lower(),
        "why": why,
        "provider_refund_id": facts_of(outcome).provider_refund_id,
    }
    told = journal.newest(connection, refund.id) == (
        "refund.evidence",
        {**data, "from": refund.state, "to": refund.state},
    )
    change = Change(
        before=refund,
        after=refund if told else replace(refund, updated_at=engine.clock()),
        type=None if told else "refund.evidence",
        actor=actor,
        data=data,
        end=end,
        fenced=False,
    )
    refunds.apply(connection, [change])


def _on_evidence(refund: Refund, asked: Refund, outcome: Outcome, now: float, account: Account) -> Decision | None:
    """The step that evidence asks for; None: it is kept as an event, and nothing moves."""
    facts = facts_of(outcome)
    # Whichever handle was asked about: under this id our refund stands.
    known = facts.provider_refund_id is not None and facts.provider_refund_id == refund.provider_refund_id
    same = known or refund.handle == asked.handle
    tells = isinstance(outcome, (Succeeded, Pending)) or (isinstance(outcome, Declined) and outcome.own_record and same)
    if not tells or refund.case().people_only:
        return None
    if same and isinstance(outcome, Pending) and refund.state in FINAL:
        # No step leads back to waiting. Where the money is released it may be paid after all: a person must know.
        if refund.hold is Hold.RELEASED:
            log.error("evidence.unplaced", refund_id=refund.id, state=refund.state, handle=asked.handle)
        return None
    if same and refund.state is not State.QUEUED:
        return decide(refund.case(), outcome, now, account.policy, 0.5)
    if isinstance(outcome, Declined):
        return None
    if isinstance(outcome, Succeeded) and refund.state in FINAL - {State.SUCCEEDED}:
        return decide(refund.case(), outcome, now, account.policy, 0.5)
    if State.REVIEW not in MOVES[refund.state]:
        log.error("evidence.unplaced", refund_id=refund.id, state=refund.state, handle=asked.handle)
        return None

    return Decision(
        state=State.REVIEW,
        due_at=now + account.policy.review_poll if same else None,
        ambiguous=True,
        facts=facts,
        cause=Cause.CONTRADICTION if same else Cause.TWO_HANDLES,
        alert=f"the provider speaks of {asked.handle}, which had been given up: money may have moved under it",
    )


def pause_for_credentials(engine: Engine, account: str, why: str) -> None:
    """A refused key stops first sendings until a person resumes them; it must not kill a queue."""
    pause_by_itself(engine, account, reason=f"the provider refused the credentials: {why}")
    log.error("account.paused", account=account, reason="credentials")
