"""Dead letters: what stands, what may be done about it, and the two people that overriding evidence takes."""

import hashlib
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from domain.errors import Conflict, Forbidden, NotFound, Refused
from domain.refund import Refund, Settlement, moved
from domain.state import State
from domain.verdict import Advice, Verdict, verdict
from engine import differences
from engine.account import Account
from engine.bootstrap import Engine
from engine.ids import new_id
from engine.people import Actor, Verb, require
from ledger import approvals, external, journal, payments, refunds, rejected
from ledger.approvals import NEW_HANDLE, SEND, SETTLE, Approval
from ledger.reconcile import Difference
from ledger.refunds import Change

log = structlog.get_logger(__name__)

MAX_EVIDENCE = 5 * 1024 * 1024
OUTCOMES = (Settlement.RETURNED, Settlement.NOT_RETURNED, Settlement.RETURNED_ELSEWHERE)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that now waits for a second person."""

    approval_id: str
    refund: Refund


def judge(engine: Engine, refund: Refund, fingerprint: str | None) -> Verdict | None:
    """What may be done about a refund in review (or reversed); None in any other state.

    `fingerprint`: of its last attempt, None where there was none.
    """
    if refund.state not in (State.REVIEW, State.REVERSED) or refund.cause is None:
        return None
    account = engine.accounts.get(refund.account)
    if account is None:
        return Verdict(Advice.HUMAN_ONLY, ("its account is no longer configured",))
    matches = fingerprint is None or fingerprint == account.provider.fingerprint

    return verdict(refund.case(fingerprint_matches=matches), refund.cause, engine.clock(), account.policy)


def verdict_of(engine: Engine, refund: Refund) -> Verdict | None:
    """`judge`, reading the last attempt."""
    with engine.ledger.read() as connection:
        fingerprint = refunds.last_fingerprints(connection, [refund.id]).get(refund.id)

    return judge(engine, refund, fingerprint)


def retry(engine: Engine, actor: Actor, refund_id: str, *, reason: str) -> Refund:
    """Try again with the same handle and the same bytes. Refused where the verdict does not call it safe."""
    return _act(engine, actor, lambda connection: retried(connection, engine, actor, refund_id, reason=reason))


def cancel(engine: Engine, actor: Actor, refund_id: str, *, reason: str) -> Refund:
    """Withdraw a refund that was certainly never sent."""
    return _act(engine, actor, lambda connection: cancelled(connection, engine, actor, refund_id, reason=reason))


def check(engine: Engine, actor: Actor, refund_id: str) -> Refund:
    """Have the provider asked now; the answer moves the refund by itself."""
    return _act(engine, actor, lambda connection: checked(connection, engine, actor, refund_id))


def _act(engine: Engine, actor: Actor, work: Callable[[Connection], Refund]) -> Refund:
    require(actor, Verb.ACT)
    refund = engine.ledger.run(work)
    ring_for(engine, refund)

    return refund


_LANES = {State.QUEUED: "send", State.UNKNOWN: "recover", State.PENDING: "poll", State.REVIEW: "poll"}


def ring_for(engine: Engine, refund: Refund) -> None:
    """Call a worker to what has just become due."""
    if refund.state in _LANES:
        engine.ring(_LANES[refund.state], refund.account)


# -- the same inside a transaction: by `more` the event says what else it belongs to --------------------------------


def retried(
    connection: Connection,
    engine: Engine,
    actor: Actor,
    refund_id: str,
    *,
    reason: str,
    more: Mapping[str, Any] | None = None,
) -> Refund:
    """`retry`, by somebody who may."""
    refund = _in_review(connection, refund_id)
    account = _account(engine, refund)
    refuse_retry(engine, refund, refunds.last_fingerprints(connection, [refund.id]).get(refund.id))
    now = engine.clock()
    if not refund.ambiguous:
        _covered(connection, refund)
    # What may have been sent is recovered (same bytes, same handle); what certainly was not is sent.
    state = State.UNKNOWN if refund.ambiguous else State.QUEUED
    after = moved(
        refund,
        state,
        now,
        due_at=now,
        cause=None,
        note=None,
        absent=refund.ambiguous,
        uncounted=refund.attempts,
        holds=account.alone and refund.ambiguous,
    )
    data = {"reason": reason, "handle": refund.handle, **(more or {})}

    return _apply(connection, refund, after, "refund.retried", actor, data)


def refuse_retry(engine: Engine, refund: Refund, fingerprint: str | None) -> None:
    """Raises Conflict or Refused where another try with the same handle is not possible, or not called safe."""
    if refund.state is not State.REVIEW:
        raise Conflict("not-in-review", f"the refund is {refund.state}")
    found = judge(engine, refund, fingerprint)
    if found is None or found.advice is not Advice.SAFE:
        advice = found.advice if found else "none"
        raise Refused("not-safe-to-retry", f"verdict: {advice}; {'; '.join(found.reasons) if found else ''}")


def cancelled(
    connection: Connection,
    engine: Engine,
    actor: Actor,
    refund_id: str,
    *,
    reason: str,
    more: Mapping[str, Any] | None = None,
) -> Refund:
    """`cancel`, by somebody who may."""
    refund = _get(connection, refund_id)
    refuse_cancel(refund)
    after = moved(refund, State.CANCELLED, engine.clock(), due_at=None, holds=False, cause=None)
    done = _apply(connection, refund, after, "refund.cancelled", actor, {"reason": reason, **(more or {})})
    for request in approvals.open_for(connection, refund.id):
        approvals.close(connection, request, status="withdrawn", actor=actor.name, now=engine.clock(), reason=reason)

    return done


def refuse_cancel(refund: Refund) -> None:
    """Raises Conflict where a refund may have been sent, or is final."""
    if refund.state not in (State.QUEUED, State.AWAITING_APPROVAL, State.REVIEW):
        raise Conflict("refund-not-cancellable", f"the refund is {refund.state}")
    if refund.ambiguous or refund.provider_refund_id is not None:
        raise Conflict("refund-not-cancellable", "it may have been sent: only proof that it was not allows this")


def checked(
    connection: Connection, engine: Engine, actor: Actor, refund_id: str, *, more: Mapping[str, Any] | None = None
) -> Refund:
    """`check`, by somebody who may."""
    refund = _get(connection, refund_id)
    refuse_check(engine, refund)
    now = engine.clock()
    after = replace(refund, due_at=now, updated_at=now)

    return _apply(connection, refund, after, "refund.check_asked", actor, more or {})


def refuse_check(engine: Engine, refund: Refund) -> None:
    """Raises Conflict or Refused where there is nothing to ask, or nobody who could be asked."""
    if refund.state not in (State.UNKNOWN, State.PENDING, State.REVIEW, State.SENDING):
        raise Conflict("nothing-to-ask", f"the refund is {refund.state}")
    if refund.state is State.SENDING or refund.leased_by is not None:
        raise Conflict("in-hand", "a worker is at it right now")
    if refund.provider_refund_id is None and not _account(engine, refund).policy.can_lookup:
        raise Refused("cannot-ask", f"{refund.provider} cannot be asked about a refund whose id is not known")


def comment(engine: Engine, actor: Actor, refund_id: str, text: str) -> None:
    """Leave a note on a refund."""
    require(actor, Verb.ACT)

    def work(connection: Connection) -> None:
        refund = _get(connection, refund_id)
        now = engine.clock()
        _apply(connection, refund, replace(refund, updated_at=now), "refund.noted", actor, {"note": text[:2000]})

    engine.ledger.run(work)


# -- what takes two people -------------------------------------------------------------------------------------------


def ask_new_handle(engine: Engine, actor: Actor, refund_id: str, *, reason: str, evidence: bytes) -> Asked:
    """Ask for another attempt under a new handle: the evidence shows that the earlier ones moved nothing."""
    return _ask(
        engine,
        actor,
        refund_id,
        kind=NEW_HANDLE,
        rule="a new handle, or a re-send after the handle's lifetime",
        params={},
        reason=reason,
        evidence=evidence,
    )


def ask_settle(engine: Engine, actor: Actor, refund_id: str, *, outcome: str, reason: str, evidence: bytes) -> Asked:
    """Ask to close a refund by hand; `outcome` is one of returned, not_returned, returned_elsewhere."""
    if outcome not in OUTCOMES:
        raise Refused("outcome-invalid", f"outcome must be one of {', '.join(OUTCOMES)}")

    return _ask(
        engine,
        actor,
        refund_id,
        kind=SETTLE,
        rule="settling by hand",
        params={"outcome": outcome},
        reason=reason,
        evidence=evidence,
    )


def _ask(
    engine: Engine,
    actor: Actor,
    refund_id: str,
    *,
    kind: str,
    rule: str,
    params: Mapping[str, Any],
    reason: str,
    evidence: bytes,
) -> Asked:
    require(actor, Verb.ACT)
    _well_founded(reason, evidence)
    approval_id = new_id("ap", engine.clock())

    def work(connection: Connection) -> Asked:
        refund = _get(connection, refund_id)
        allowed = (State.REVIEW,) if kind == NEW_HANDLE else (State.REVIEW, State.REVERSED)
        if refund.state not in allowed:
            raise Conflict("not-in-review", f"the refund is {refund.state}")
        digest = hashlib.sha256(evidence).hexdigest()
        now = engine.clock()
        data = {"approval": approval_id, "kind": kind, **params, "reason": reason, "evidence": digest}
        asked = _apply(connection, refund, replace(refund, updated_at=now), "approval.requested", actor, data)
        approvals.ask(
            connection,
            refund_id=asked.id,
            snapshot=approvals.snapshot(asked),
            approval_id=approval_id,
            kind=kind,
            rule=rule,
            params=params,
            reason=reason[:1000],
            actor=actor.name,
            now=now,
            expires=engine.settings.approvals.expires,
            evidence=engine.vault.seal(evidence),
            evidence_hash=digest,
        )
        return Asked(approval_id, asked)

    try:
        return engine.ledger.run(work)
    except IntegrityError:
        raise Conflict("already-asked", "this refund has an open request already") from None


def evidence_of(engine: Engine, actor: Actor, approval_id: str) -> bytes:
    """What was given with a request; who looked is on record. Raises NotFound."""
    require(actor, Verb.REVEAL)

    def work(connection: Connection) -> bytes | None:
        sealed = approvals.evidence(connection, approval_id)
        subject = f"approval/{approval_id}"
        if sealed is not None:
            journal.append(connection, subject, "evidence.read", actor=actor.name, now=engine.clock(), data={})
        return sealed

    sealed = engine.ledger.run(work)
    if sealed is None:
        raise NotFound("not-found", f"there is no evidence with a request {approval_id!r}")

    return engine.vault.open(sealed)


def _well_founded(reason: str, evidence: bytes) -> None:
    if not reason.strip():
        raise Refused("reason-required", "a reason is required")
    if not evidence.strip():
        raise Refused("evidence-required", "the evidence is empty")
    if len(evidence) > MAX_EVIDENCE:
        raise Refused("evidence-too-large", f"the evidence has {len(evidence)} bytes, at most {MAX_EVIDENCE} are taken")


def look_at(engine: Engine, approval_id: str) -> tuple[Approval, str]:
    """A request, and what its snapshot would be if it were asked now. Raises NotFound."""
    with engine.ledger.read() as connection:
        request = approvals.get(connection, approval_id)
        if request is None:
            raise NotFound("not-found", f"there is no request {approval_id!r}")
        if request.refund_id is not None:
            return request, approvals.snapshot(_get(connection, request.refund_id))

    return request, differences.snapshot(differences.get(engine, request.difference_id or ""))


def approve(engine: Engine, actor: Actor, approval_id: str) -> Refund | Difference:
    """Say yes to another person's request, and carry it out. What it is about must stand as it was asked about."""
    require(actor, Verb.DECIDE)

    def work(connection: Connection) -> Refund | Difference:
        request = _open_request(connection, approval_id)
        if request.requested_by == actor.name or actor.alone:
            raise Forbidden("same-person", "you asked for this; another approver must decide")
        now = engine.clock()
        if now >= request.expires_at:
            raise Conflict("request-expired", "the request has expired; ask again")
        if request.refund_id is None:
            _won(approvals.close(connection, request, status="approved", actor=actor.name, now=now))
            return differences.carry_out(connection, engine, request, actor)
        refund = _get(connection, request.refund_id)
        if not approvals.stands_as(request, refund):
            raise Conflict("changed-since", f"the refund has changed since it was asked about: it is {refund.state}")
        if request.kind == NEW_HANDLE:
            _last_send_over(engine, refund, now)
        _won(approvals.close(connection, request, status="approved", actor=actor.name, now=now))
        return _carry_out(connection, engine, refund, request, actor)

    decided = engine.ledger.run(work)
    if decided.state is State.QUEUED:
        engine.ring("send", decided.account)

    return decided


def _won(first: bool) -> None:  # noqa: FBT001 - an answer, not a switch
    if not first:
        raise Conflict("already-decided", "somebody else was first")


def _carry_out(connection: Connection, engine: Engine, refund: Refund, request: Approval, actor: Actor) -> Refund:
    now = engine.clock()
    params = msgspec.json.decode(request.params)
    data = {"approval": request.id, "requested_by": request.requested_by, "reason": request.reason, **params}
    match request.kind:
        case "send":
            _covered(connection, refund)
            job = msgspec.json.decode(refund.job)
            after = moved(refund, State.QUEUED, now, due_at=max(now, not_before(job) or now))
        case "new_handle":
            _covered(connection, refund)
            after = _renewed(engine, refund, now)
            data["handle"] = after.handle
        case _:
            after = moved(
                refund,
                State.SETTLED,
                now,
                due_at=None,
                settlement=params["outcome"],
                ambiguous=False,
                holds=False,
                cause=None,
            )

    return _apply(connection, refund, after, "approval.approved", actor, data)


def _last_send_over(engine: Engine, refund: Refund, now: float) -> None:
    """A new handle must not overtake a request of the old one that may still be on its way."""
    until = refund.last_send_end + _account(engine, refund).policy.total_timeout
    if now < until:
        raise Conflict("too-early", f"a request under the old handle may still be on its way for {until - now:.0f} s")


def _renewed(engine: Engine, refund: Refund, now: float) -> Refund:
    """Two people vouch that nothing moved under the old handle: the new one starts with a clean record."""
    account = _account(engine, refund)
    token = uuid.UUID(bytes=secrets.token_bytes(16), version=4)

    return moved(
        refund,
        State.QUEUED,
        now,
        due_at=now,
        handle=account.provider.handle(token),
        handle_no=refund.handle_no + 1,
        ambiguous=False,
        absent=False,
        replay_until=None,
        replays=0,
        uncounted=refund.attempts,
        provider_refund_id=None,
        provider_status=None,
        reconciliation_id=None,
        failure_code=None,
        failure_class=None,
        failure_message=None,
        cause=None,
        note=None,
        holds=False,
    )


def deny(engine: Engine, actor: Actor, approval_id: str, *, reason: str) -> Refund | Difference:
    """Say no; a refund that waited for its first sending is cancelled."""
    require(actor, Verb.DECIDE)
    if not reason.strip():
        raise Refused("reason-required", "a reason is required")

    return _end_request(engine, actor, approval_id, status="denied", reason=reason)


def withdraw(engine: Engine, actor: Actor, approval_id: str) -> Refund | Difference:
    """Take one's own request back."""
    return _end_request(engine, actor, approval_id, status="withdrawn", reason="withdrawn by the requester")


def _end_request(engine: Engine, actor: Actor, approval_id: str, *, status: str, reason: str) -> Refund | Difference:
    def work(connection: Connection) -> Refund | Difference:
        request = _open_request(connection, approval_id)
        own = request.requested_by == actor.name
        if status == "withdrawn" and not own:
            raise Forbidden("not-yours", "only the requester takes a request back")
        if status == "denied" and own:
            raise Forbidden("same-person", "you asked for this: withdraw it instead")
        now = engine.clock()
        _won(approvals.close(connection, request, status=status, actor=actor.name, now=now, reason=reason[:1000]))
        if request.refund_id is None:
            return differences.ended_request(connection, engine, request, actor, status=status, reason=reason)
        refund = _get(connection, request.refund_id)
        after = replace(refund, updated_at=now)
        if request.kind == SEND and refund.state is State.AWAITING_APPROVAL:
            after = moved(refund, State.CANCELLED, now, due_at=None, note=reason[:512])
        return _apply(
            connection, refund, after, f"approval.{status}", actor, {"approval": request.id, "reason": reason}
        )

    return engine.ledger.run(work)


# -- rejected jobs ---------------------------------------------------------------------------------------------------


def close_rejected(engine: Engine, actor: Actor, rejection_id: str, *, reason: str) -> None:
    """Close a job that could never be accepted: nothing was sent, so one person may."""
    require(actor, Verb.ACT)
    if not reason.strip():
        raise Refused("reason-required", "a reason is required")

    def work(connection: Connection) -> None:
        now = engine.clock()
        if not rejected.close(connection, rejection_id, actor=actor.name, reason=reason, now=now):
            raise NotFound("not-found", f"there is no open rejected job {rejection_id!r}")
        data = {"reason": reason}
        journal.append(connection, f"rejected/{rejection_id}", "job.closed", actor=actor.name, now=now, data=data)

    engine.ledger.run(work)


def close_external(engine: Engine, actor: Actor, row_id: str, *, reason: str) -> None:
    """A person has looked into money that others moved; it stays counted."""
    require(actor, Verb.ACT)
    if not reason.strip():
        raise Refused("reason-required", "a reason is required")

    def work(connection: Connection) -> None:
        if not external.close(connection, row_id, actor=actor.name, reason=reason, now=engine.clock()):
            raise NotFound("not-found", f"nothing made elsewhere is open as {row_id!r}")

    engine.ledger.run(work)


# -- in many ---------------------------------------------------------------------------------------------------------


def retry_many(engine: Engine, actor: Actor, ids: Sequence[str], *, reason: str) -> dict[str, str]:
    """Retry each that is safe; per id what was done, or the reason why not. Nothing is skipped silently."""
    results: dict[str, str] = {}
    for refund_id in ids:
        try:
            results[refund_id] = f"retried: {retry(engine, actor, refund_id, reason=reason).state}"
        except (Refused, IntegrityError) as error:
            results[refund_id] = f"skipped: {error}"

    return results


# -- helpers ---------------------------------------------------------------------------------------------------------


def _get(connection: Connection, refund_id: str) -> Refund:
    refund = refunds.get(connection, refund_id, lock=True)
    if refund is None:
        raise NotFound("not-found", f"there is no refund {refund_id!r}")

    return refund


def _in_review(connection: Connection, refund_id: str) -> Refund:
    refund = _get(connection, refund_id)
    if refund.state is not State.REVIEW:
        raise Conflict("not-in-review", f"the refund is {refund.state}")
    if approvals.open_for(connection, refund.id):
        raise Conflict("already-asked", "a request about this refund waits for a second person")

    return refund


def _account(engine: Engine, refund: Refund) -> Account:
    account = engine.accounts.get(refund.account)
    if account is None:
        raise Refused("unknown-account", f"account {refund.account!r} is not configured")

    return account


def _open_request(connection: Connection, approval_id: str) -> Approval:
    request = approvals.get(connection, approval_id)
    if request is None:
        raise NotFound("not-found", f"there is no request {approval_id!r}")
    if request.status != "open":
        raise Conflict("already-decided", f"the request is {request.status}")

    return request


def _covered(connection: Connection, refund: Refund) -> None:
    """What goes out must still be in the payment: others may have returned money of it since."""
    purse = payments.standing(connection, refund.account, refund.payment_ref, lock=True)
    if purse is not None and purse.excess:
        words = f"{purse.excess} more than was captured is refunded or on its way"
        raise Refused("amount-exceeds-refundable", words)


def not_before(job: Mapping[str, Any]) -> float | None:
    """Until when a job, as the ledger keeps it, is to wait; epoch seconds."""
    value = job.get("not_before")

    return datetime.fromisoformat(value).timestamp() if value else None


def _apply(
    connection: Connection, before: Refund, after: Refund, kind: str, actor: Actor, data: Mapping[str, Any]
) -> Refund:
    change = Change(before=before, after=after, type=kind, actor=actor.name, data=data, fenced=False)
    (stands,) = refunds.apply(connection, [change])
    if stands is None:
        raise Conflict("state-conflict", "somebody else changed this refund at the same moment; look again")
    log.info(kind, refund_id=before.id, account=before.account, actor=actor.name)

    return stands
