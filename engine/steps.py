"""One refund's step: sent, recovered or asked about, and what was answered written down.

The intent is committed before the socket opens, and the transaction is closed during the call. What to do is decided by
the pure rules of `domain.decision`.
"""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy.exc import IntegrityError

from domain.decision import Call, Case, Cause, Decision, Step, decide, plan_recovery
from domain.errors import NewerForm
from domain.outcome import NotSent, NotSentReason, Outcome, Unknown
from domain.policy import replay_until
from domain.refund import Refund, decided, holds_payment, moved
from domain.state import FINAL, State
from engine import tracing
from engine.account import Account
from engine.bootstrap import Engine
from engine.evidence import announce, bring_evidence, judged, note_of, pause_for_credentials
from engine.order import order_of
from engine.redact import redacted
from engine.resolve import Resolved, resolve_payment
from engine.writer import Answer, Writer
from ledger import payments, refunds
from ledger.payments import Standing
from ledger.refunds import AttemptEnd, AttemptStart, Change, Frozen
from providers.base import Ask, Conversation, Move, Question
from providers.messages import Request
from providers.transport import Network

log = structlog.get_logger(__name__)

Blocking = Callable[..., Any]


class LeaseLost(Exception):
    """Somebody else has taken this refund over: leave it to them."""


class _Sent(Struct, frozen=True):
    """What the conversation has done so far: the refund as it stands, its running attempt and that one's answer."""

    refund: Refund
    no: int | None = None
    answer: httpx.Response | None = None


class Begun(Struct, frozen=True):
    """A sending that stands before its Move: the intent to commit, and how it goes on."""

    intent: Change
    conversation: Conversation
    request: httpx.Request


class Steps:
    """The steps of one account's refunds on one event loop. `soon(work, *arguments)` runs work after the step."""

    def __init__(
        self,
        account: Account,
        engine: Engine,
        *,
        network: Network,
        writer: Writer,
        run_blocking: Blocking,
        jitter: Callable[[], float],
        heard: Callable[[Outcome], None],
        soon: Callable[..., None],
    ) -> None:
        self.account = account
        self.engine = engine
        self._network = network
        self._writer = writer
        self._blocking = run_blocking
        self._jitter = jitter
        self._heard = heard
        self._soon = soon

    def begin(self, refund: Refund) -> Begun | None:
        """The first sending of a leased refund, up to its intent, where nothing has to be asked before.

        The intent is committed with the claim: one transaction less than claiming first and freezing then.
        """
        if not refund.resolved or refund.attempts or refund.lost_leases > self.account.policy.max_lost_leases:
            return None
        try:
            conversation = self._refund_conversation(refund, None)
            step = next(conversation)
        except Exception:  # noqa: BLE001 - it fails again in its own step, where that is dealt with
            return None
        if not isinstance(step, Move):
            conversation.close()
            return None

        return Begun(self._intent(refund, step, None), conversation, step.request)

    async def take(self, lane: str, refund: Refund, frozen: Frozen | None, begun: Begun | None = None) -> None:
        """Do what is due. Never raises for one refund's trouble: its lease runs out and recovery takes over."""
        try:
            with tracing.step(lane, refund, earlier=refund.attempts - (begun is not None)):
                await self._taken(lane, refund, frozen, begun)
        except LeaseLost:
            log.info("lease.lost", refund_id=refund.id, account=refund.account, lane=lane)
        except NewerForm as error:
            # A worker of that program claims it when this lease has run out; where there is none, a person gets it.
            log.warning("refund.newer_form", refund_id=refund.id, account=refund.account, lane=lane, error=error)
        except asyncio.CancelledError:
            raise
        except Exception:
            # A refund that does this again and again ends in review.
            log.exception("step.failed", refund_id=refund.id, account=refund.account, lane=lane)

    async def _taken(self, lane: str, refund: Refund, frozen: Frozen | None, begun: Begun | None) -> None:
        match lane:
            case "send":
                await self._send(refund, begun)
            case "recover":
                await self._recover(refund, frozen)
            case _:
                await self._poll(refund)

    async def _send(self, refund: Refund, begun: Begun | None) -> None:
        if begun is not None:
            sent, outcome = await self._converse(refund, begun.conversation, begun=begun)
            await self._record(sent, outcome, Call.MOVE, earlier_ambiguous=refund.ambiguous)
            return
        if refund.lost_leases > self.account.policy.max_lost_leases:
            await self._give_to_review(refund, Cause.LEASES_LOST)
            return
        if not refund.resolved:
            resolved = await self._resolve(refund)
            if resolved is None:
                return
            refund = resolved
        if refund.attempts and await self._overtaken(refund):
            return
        sent, outcome = await self._converse(refund, self._refund_conversation(refund, None), None, may_move=True)
        await self._record(sent, outcome, Call.MOVE, earlier_ambiguous=refund.ambiguous)

    async def _overtaken(self, refund: Refund) -> bool:
        """Whether others took money of its payment since it was first sent, so that a person must decide.

        Before that the cap was a condition of reserving, and whoever books an excess holds back what waits.
        """
        purse = await self._blocking(self._purse, refund)
        if purse is None or not purse.excess:
            return False
        await self._give_to_review(refund, Cause.OVER_REFUNDED)

        return True

    def _purse(self, refund: Refund) -> Standing | None:
        with self.engine.ledger.read() as connection:
            return payments.standing(connection, refund.account, refund.payment_ref)

    async def _resolve(self, refund: Refund) -> Refund | None:
        """Learn payment, amount and cap; None when that ended the step."""
        result: Resolved = await resolve_payment(self.engine, self.account, refund, self._network, self._blocking)
        if result.outcome is not None:
            await self._record(_Sent(refund), result.outcome, Call.STATUS, earlier_ambiguous=refund.ambiguous)
            return None
        if result.refund is None:
            raise LeaseLost

        return result.refund

    async def _recover(self, refund: Refund, frozen: Frozen | None) -> None:
        if refund.state is State.SENDING:
            refund = await self._lease_ran_out(refund)
        if refund.lost_leases > self.account.policy.max_lost_leases:
            await self._give_to_review(refund, Cause.LEASES_LOST)
            return
        if frozen is not None and frozen.handle != refund.handle:
            frozen = None
        matches = frozen is not None and frozen.fingerprint == self.account.provider.fingerprint
        case = refund.case(fingerprint_matches=matches)
        step, cause = plan_recovery(case, self.engine.clock(), self.account.policy)
        if step is Step.REVIEW or (step is Step.REPLAY and frozen is None):
            await self._give_to_review(refund, cause or Cause.CANNOT_REPEAT)
            return
        order = order_of(self.engine.vault, refund, seen=_seen(frozen))
        provider = self.account.provider
        if step is Step.REPLAY:
            if await self._overtaken(refund):
                return
            conversation = self._refund_conversation(refund, frozen)
            sent, outcome = await self._converse(refund, conversation, frozen, may_move=True)
            await self._record(sent, outcome, Call.MOVE, earlier_ambiguous=True, matches=matches)
            return
        question = provider.status(order) if step is Step.STATUS else provider.lookup(order)
        call = Call.STATUS if step is Step.STATUS else Call.LOOKUP
        sent, outcome = await self._converse(refund, question)
        await self._record(sent, outcome, call, earlier_ambiguous=True, matches=matches)

    async def _lease_ran_out(self, refund: Refund) -> Refund:
        """A worker wrote the attempt and was never heard of again: that is unknown, never "not sent"."""
        now = self.engine.clock()
        after = moved(
            refund,
            State.UNKNOWN,
            now,
            due_at=refund.due_at,
            leased_by=refund.leased_by,
            lost_leases=refund.lost_leases,
            ambiguous=True,
            note="the worker was lost",
        )
        end = AttemptEnd(no=refund.attempts, ended_at=now, outcome="unknown", note="the worker was lost")

        return await self._change(refund, after, "refund.unknown", {"why": "the worker was lost"}, end=end)

    async def _poll(self, refund: Refund) -> None:
        if refund.lost_leases > self.account.policy.max_lost_leases:
            await self._stop_asking(refund, Cause.LEASES_LOST)
            return
        order = order_of(self.engine.vault, refund, seen=await self._seen_before(refund))
        provider = self.account.provider
        if refund.provider_refund_id is not None:
            question, call = provider.status(order), Call.STATUS
        elif self.account.policy.can_lookup:
            question, call = provider.lookup(order), Call.LOOKUP
        else:
            await self._stop_asking(refund, Cause.CANNOT_REPEAT)
            return
        sent, outcome = await self._converse(refund, question)
        await self._record(sent, outcome, call, earlier_ambiguous=refund.ambiguous)

    async def _stop_asking(self, refund: Refund, cause: Cause) -> None:
        """Nothing more comes of asking. What a person has already keeps its cause: the verdict stands on it."""
        if refund.state is State.REVIEW:
            after = replace(refund, due_at=None, leased_by=None, lost_leases=0)
            await self._execute(Change(before=refund, after=after, type=None, actor=self.engine.worker))
        else:
            await self._give_to_review(refund, cause)

    async def _seen_before(self, refund: Refund) -> frozenset[str] | None:
        """What the payment's refunds were before our first sending, where only that tells ours from others."""
        if self.account.capabilities.matches_handle or refund.provider_refund_id is not None:
            return None
        frozen = await self._blocking(self._last_attempt, refund.id)

        return _seen(frozen)

    def _last_attempt(self, refund_id: str) -> Frozen | None:
        with self.engine.ledger.read() as connection:
            return refunds.last_attempts(connection, [refund_id]).get(refund_id)

    # -- the conversation --------------------------------------------------------------------------------------------

    def _refund_conversation(self, refund: Refund, frozen: Frozen | None) -> Conversation:
        return self.account.provider.refund(order_of(self.engine.vault, refund, seen=_seen(frozen)))

    async def _converse(
        self,
        refund: Refund,
        conversation: Conversation | Question,
        frozen: Frozen | None = None,
        *,
        may_move: bool = False,
        begun: Begun | None = None,
    ) -> tuple[_Sent, Outcome]:
        """Run a conversation to its end. A `frozen` request takes the place of the Move, byte for byte.

        Whatever an adapter yields, at most one request that moves money is sent, and none by a question. What is
        `begun` has its intent committed, and goes on with its Move.
        """
        sent = _Sent(refund)
        response: httpx.Response | None = None
        if begun is not None:
            sent = _Sent(refund, refund.attempts)
            answer = await self._send_move(sent, begun.request)
            if not isinstance(answer, httpx.Response):
                conversation.close()
                return sent, answer
            sent, response = replace(sent, answer=answer), answer
        while True:
            try:
                step = next(conversation) if response is None else conversation.send(response)
            except StopIteration as end:
                return sent, end.value
            except Exception as error:
                log.exception("adapter.failed", refund_id=refund.id, provider=refund.provider)
                return sent, _broken(sent, error)
            if isinstance(step, Move) and (sent.no is not None or not may_move):
                conversation.close()
                return sent, Unknown(reason="adapter: a Move where none may be", contradiction=True)
            if isinstance(step, Move):
                request = step.request if frozen is None else self._thaw(frozen)
                sent = await self._freeze(refund, step, frozen)
                answer = await self._send_move(sent, request)
            else:
                answer = await self._network.send(self.account.provider.authorize(step.request))
            if not isinstance(answer, httpx.Response):
                conversation.close()
                return sent, _faulted(sent, step, answer)
            if isinstance(step, Move):
                sent = replace(sent, answer=answer)
            response = answer

    async def _freeze(self, refund: Refund, move: Move, frozen: Frozen | None) -> _Sent:
        """Commit the intent before a socket opens."""
        stands = await self._execute(self._intent(refund, move, frozen))
        if stands is None:
            raise LeaseLost

        return _Sent(stands, stands.attempts)

    def _intent(self, refund: Refund, move: Move, frozen: Frozen | None) -> Change:
        """What is about to be sent: attempt number, handle, and the very bytes."""
        now = self.engine.clock()
        policy = self.account.policy
        no = refund.attempts + 1
        until = refund.replay_until if refund.ambiguous else replay_until(policy, now)
        replay = frozen is not None
        after = moved(
            refund,
            State.UNKNOWN if replay else State.SENDING,
            now,
            due_at=now + policy.lease,
            leased_by=self.engine.worker,
            lost_leases=refund.lost_leases,
            attempts=no,
            replays=refund.replays + replay,
            replay_until=until,
            last_send_end=now + policy.lease,
            ambiguous=refund.ambiguous,
        )
        after = replace(after, holds=holds_payment(after, alone=self.account.alone))
        start = self._attempt(no, refund, move, frozen, until, now)
        kind = "refund.replayed" if replay else "refund.sending"
        data = {"attempt": no, "handle": start.handle, "request": start.body_hash}

        return Change(before=refund, after=after, type=kind, actor=self.engine.worker, data=data, start=start)

    def _attempt(
        self, no: int, refund: Refund, move: Move, frozen: Frozen | None, until: float | None, now: float
    ) -> AttemptStart:
        if frozen is not None:
            return AttemptStart(
                no=no,
                handle=frozen.handle,
                method=frozen.method,
                url=frozen.url,
                headers=frozen.headers,
                body=frozen.body,
                body_hash=frozen.body_hash,
                fingerprint=frozen.fingerprint,
                seen=frozen.seen,
                replay_until=until,
                started_at=now,
                worker=self.engine.worker,
            )
        request = move.request
        headers = [(k, v) for k, v in request.headers.multi_items() if k not in ("host", "content-length")]

        return AttemptStart(
            no=no,
            handle=refund.handle,
            method=request.method,
            url=str(request.url),
            headers=msgspec.json.encode(headers).decode(),
            body=self.engine.vault.seal(request.content),
            body_hash=hashlib.sha256(request.content).hexdigest(),
            fingerprint=self.account.provider.fingerprint,
            seen=None if move.seen is None else msgspec.json.encode(sorted(move.seen)).decode(),
            replay_until=until,
            started_at=now,
            worker=self.engine.worker,
        )

    async def _send_move(self, sent: _Sent, request: httpx.Request) -> Any:
        """The socket, if the lease and the handle still outlast the call: a frozen worker wakes up here."""
        now = self.engine.clock()
        refund, timeout = sent.refund, self.account.policy.total_timeout
        if refund.due_at is None or refund.due_at - now < timeout:
            return NotSent(reason=NotSentReason.LEASE, detail="the lease ran out before sending")
        if refund.replay_until is not None and now >= refund.replay_until:
            return NotSent(reason=NotSentReason.LEASE, detail="the handle's lifetime ran out before sending")

        with tracing.attempt(refund, refund.attempts):
            return await self._network.send(self.account.provider.authorize(request))

    def _thaw(self, frozen: Frozen) -> httpx.Request:
        """The request as it was sent. Raises NewerForm: in this one the headers are a list of pairs."""
        headers = msgspec.json.decode(frozen.headers)
        if not isinstance(headers, list):
            raise NewerForm("a frozen request of another form")

        return Request(frozen.method, frozen.url, headers, self.engine.vault.open(frozen.body))

    # -- recording ---------------------------------------------------------------------------------------------------

    async def _record(
        self,
        sent: _Sent,
        outcome: Outcome,
        call: Call,
        *,
        earlier_ambiguous: bool,
        matches: bool = True,
        retried: bool = False,
    ) -> None:
        """Decide and commit. Evidence that comes after the lease was lost is brought to the refund as it stands now."""
        self._heard(outcome)
        now = self.engine.clock()
        refund = _counted(sent.refund, call, now)
        case = refund.case(ambiguous=earlier_ambiguous, fingerprint_matches=matches)
        decision = decide(case, outcome, now, self.account.policy, self._jitter())
        change = judged(sent.refund, refund, decision, outcome, now, self.account, actor=self.engine.worker)
        end = None if sent.no is None else self._end(sent.no, sent.answer, outcome, now)
        change = replace(change, end=end)
        if end is not None and not retried:
            self._count(sent.refund, end)
        if retried:
            change = replace(change, after=replace(change.after, holds=False))
        try:
            stands = await self._execute(change)
        except IntegrityError:
            if retried:
                raise
            # The database keeps each refund id of the provider for one refund: this answer speaks of another one's.
            claimed = Unknown(reason="the provider's refund id belongs to another refund", contradiction=True)
            await self._record(sent, claimed, call, earlier_ambiguous=True, matches=matches, retried=True)
            return
        if stands is None:
            await self._blocking(bring_evidence, self.engine, self.account, refund, outcome, end=end)
            return
        self._after(stands, decision)

    def _end(self, no: int, answer: httpx.Response | None, outcome: Outcome, now: float) -> AttemptEnd:
        return AttemptEnd(
            no=no,
            ended_at=now,
            outcome=type(outcome).__name__.lower(),
            http_status=None if answer is None else answer.status_code,
            answer=None if answer is None else self.engine.vault.seal(redacted(answer)),
            note=note_of(outcome),
        )

    def _count(self, refund: Refund, end: AttemptEnd) -> None:
        """The attempt began with the commit that last changed the refund."""
        seconds = max(0.0, end.ended_at - refund.updated_at)
        self.engine.meter.attempt(refund.account, refund.provider, end.outcome, seconds)

    def _after(self, refund: Refund, decision: Decision) -> None:
        announce(self.engine, refund, decision)
        if decision.pause_account:
            self._soon(pause_for_credentials, self.engine, self.account.name, decision.note)
        if refund.state in FINAL and self.account.alone:
            self._soon(self.engine.ring, "send", self.account.name)

    async def _give_to_review(self, refund: Refund, cause: Cause) -> None:
        case = refund.case()
        decision = Decision(
            state=State.REVIEW,
            due_at=self.engine.clock() + self.account.policy.review_poll if _askable(case, self.account) else None,
            ambiguous=refund.ambiguous or (refund.state is State.PENDING and refund.provider_refund_id is None),
            cause=cause,
            absent=refund.absent,
            counts=False,
        )
        now = self.engine.clock()
        after = decided(refund, decision, now, alone=self.account.alone)
        await self._change(refund, after, "refund.review", {"cause": cause})
        announce(self.engine, after, decision)

    async def _change(
        self,
        before: Refund,
        after: Refund,
        kind: str,
        data: dict[str, Any],
        *,
        end: AttemptEnd | None = None,
    ) -> Refund:
        change = Change(before=before, after=after, type=kind, actor=self.engine.worker, data=data, end=end)
        stands = await self._execute(change)
        if stands is None:
            raise LeaseLost

        return stands

    async def _execute(self, change: Change) -> Refund | None:
        """The refund after the change. A note that somebody wrote meanwhile is no reason to lose a step, or an answer.

        None: the lease is lost, or somebody has moved the refund.
        """
        stands = await _answered(self._writer.execute(change))
        if stands is not None:
            return stands
        fresh = await self._blocking(self._reload, change.before.id)
        if fresh is None or not _only_noted(change.before, fresh):
            return None
        again = replace(change, before=fresh, after=replace(change.after, assignee=fresh.assignee))

        return await _answered(self._writer.execute(again))

    def _reload(self, refund_id: str) -> Refund | None:
        with self.engine.ledger.read() as connection:
            return refunds.get(connection, refund_id)


def _only_noted(before: Refund, fresh: Refund) -> bool:
    """Whether nothing but notes, requests and the assignee differ: the same lease, state, handle, counters."""
    plain = replace(
        fresh,
        version=before.version,
        chain=before.chain,
        updated_at=before.updated_at,
        assignee=before.assignee,
    )

    return plain == before


async def _answered(answer: Answer) -> Refund | None:
    return await answer if isinstance(answer, asyncio.Future) else answer.result()


def _seen(frozen: Frozen | None) -> frozenset[str] | None:
    if frozen is None:
        return None

    return frozenset(msgspec.json.decode(frozen.seen)) if frozen.seen is not None else None


def _askable(case: Case, account: Account) -> bool:
    return case.provider_refund_id is not None or (account.policy.can_lookup and case.ambiguous)


def _faulted(sent: _Sent, step: Ask | Move, answer: NotSent | Unknown) -> Outcome:
    """A request that got no answer: before the Move nothing was sent, after it a question proves nothing."""
    if sent.no is None:
        detail = answer.detail if isinstance(answer, NotSent) else answer.reason
        return NotSent(reason=NotSentReason.ASK_FAILED, detail=detail)
    if isinstance(step, Move):
        return answer

    return Unknown(reason="the question after the refund got no answer")


def _broken(sent: _Sent, error: Exception) -> Outcome:
    """An adapter that fails proves nothing; before its Move, that nothing was sent."""
    if sent.no is None:
        return NotSent(reason=NotSentReason.ASK_FAILED, detail=f"adapter: {type(error).__name__}")

    return Unknown(reason=f"adapter: {type(error).__name__}")


def _counted(refund: Refund, call: Call, now: float) -> Refund:
    """The counters after a call; our own sending is over as soon as we judge it."""
    if call is Call.MOVE and refund.state is State.QUEUED:
        return replace(refund, checks=refund.checks + 1)
    if call is Call.MOVE:
        return replace(refund, last_send_end=now if refund.attempts else refund.last_send_end)
    if refund.state in (State.PENDING, State.REVIEW):
        return replace(refund, polls=refund.polls + 1)

    return replace(refund, checks=refund.checks + 1)
