"""The pump: claims due refunds of one account, runs their conversations side by side, records what was answered.

Three lanes: `send` (first sendings), `recover` (lost answers), `poll` (waiting for the provider). Each step is decided
by pure rules in `domain.decision`; here they are carried out. Nothing is sent that is not committed first.
"""

import asyncio
import hashlib
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx
import msgspec
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from domain.decision import Call, Case, Cause, Decision, Step, decide, plan_recovery
from domain.outcome import NO_FACTS, Declined, NotSent, NotSentReason, Outcome, Pending, Succeeded, Unknown
from domain.policy import replay_until
from domain.refund import Refund, clean, decided, holds_payment, moved
from domain.state import FINAL, MOVES, State
from engine.account import Account
from engine.bootstrap import Engine
from engine.operate import pause
from engine.order import order_of
from engine.redact import redacted
from engine.resolve import Resolved, resolve_payment
from engine.writer import Answer, Writer
from ledger import refunds
from ledger.accounts import switch
from ledger.refunds import AttemptEnd, AttemptStart, Change, Frozen
from providers.base import Ask, Conversation, Health, Move, Question
from providers.transport import Network
from signals.limits import Admission, Breaker

log = structlog.get_logger(__name__)

SLICE = 3.0
LINGER = 0.025
WINDOW = 256
FEW = 5


@dataclass(frozen=True, slots=True)
class _Sent:
    """What the conversation has done so far: the refund as it stands, its running attempt and that one's answer."""

    refund: Refund
    no: int | None = None
    answer: httpx.Response | None = None


_FAULTS = (NotSentReason.CONNECTION, NotSentReason.ASK_FAILED)


class LeaseLost(Exception):
    """Somebody else has taken this refund over: leave it to them."""


class Pump:
    """One lane of one account in one process. Built and run on one event loop."""

    def __init__(
        self,
        lane: str,
        account: Account,
        engine: Engine,
        *,
        network: Network,
        writer: Writer,
        run_blocking: Callable[..., Any] = asyncio.to_thread,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        window: int = WINDOW,
    ) -> None:
        self.lane = lane
        self.account = account
        self.engine = engine
        self._network = network
        self._writer = writer
        self._blocking = run_blocking
        self._monotonic = monotonic
        self._jitter = jitter
        self._window = min(window, account.limit.concurrency)
        self._flying: set[asyncio.Task[None]] = set()
        self._good = 0
        self._bad = 0
        self._stopping = False
        self._settling: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    # -- the slice ---------------------------------------------------------------------------------------------------

    async def turn(self, slice_seconds: float = SLICE) -> bool:
        """Work until nothing is due or the slice is over; True when more is waiting. What is in flight flies on."""
        if self._turn.locked():
            return False
        async with self._turn:
            return await self._slice(self._monotonic() + slice_seconds)

    async def _slice(self, until: float) -> bool:
        looked_again = False
        while not self._stopping:
            room = self._window - len(self._flying)
            if room < max(1, self._window // 4):
                await asyncio.wait(
                    self._flying, timeout=max(0.0, until - self._monotonic()), return_when="FIRST_COMPLETED"
                )
                if self._monotonic() >= until:
                    return True
                continue
            claimed, breaker = await self._blocking(self._claim, room, hold=not looked_again)
            probed = breaker is Breaker.HALF_OPEN and self.lane == "send" and await self._probe()
            if probed and self._monotonic() < until:
                continue
            for refund, frozen in claimed:
                self._start(refund, frozen)
            if self._monotonic() >= until:
                return bool(claimed)
            if claimed:
                looked_again = False
            elif looked_again:
                return False
            else:
                await self._pause()
                looked_again = True

        return False

    async def _pause(self) -> None:
        """Let a few arrivals gather before the last look."""
        if self._flying:
            await asyncio.wait(self._flying, timeout=LINGER, return_when="FIRST_COMPLETED")
        else:
            await asyncio.sleep(LINGER)

    def _start(self, refund: Refund, frozen: Frozen | None) -> None:
        task = asyncio.get_running_loop().create_task(self._step(refund, frozen))
        self._flying.add(task)
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        if not self._flying and not self._turn.locked() and not self._stopping:
            # The last one of a turn that is over: its place in the shared limits is given back.
            self._settling = asyncio.get_running_loop().create_task(self._settle())

    async def _settle(self) -> None:
        await self._blocking(lambda: self._admit(want=0))

    async def stop(self, patience: float) -> None:
        """Claim nothing more; give what is in flight `patience` seconds, then leave it to its leases."""
        self._stopping = True
        if self._flying:
            await asyncio.wait(self._flying, timeout=patience)
        for task in self._flying:
            task.cancel()

    @property
    def in_flight(self) -> int:
        """Conversations under way."""
        return len(self._flying)

    # -- claiming ----------------------------------------------------------------------------------------------------

    def _claim(self, room: int, *, hold: bool) -> tuple[list[tuple[Refund, Frozen | None]], Breaker]:
        """Blocking: ask the limits, then claim. Pause and breaker stop first sendings only."""
        engine, account = self.engine, self.account
        if engine.bell is not None:
            engine.bell.hold(self.lane, account.name) if hold else engine.bell.free(self.lane, account.name)
        self._report()
        admission = self._admit(want=room)
        granted = self._allowed(room, admission)
        claimed = engine.ledger.run(lambda c: self._claim_rows(c, granted, admission)) if granted else []
        unused = admission.granted - len(claimed)
        if admission.granted:
            # What was taken is kept, what nobody takes belongs to the other workers at once.
            self._admit(want=0, unused=max(0, unused), taken=len(claimed))

        return claimed, admission.breaker

    def _admit(self, *, want: int, unused: int = 0, taken: int = 0) -> Admission:
        return self.engine.limits.admit(
            self.account.name,
            self.account.limit,
            in_flight=len(self._flying) + taken,
            want=want,
            unused=unused,
            lane=self.lane,
        )

    def _allowed(self, room: int, admission: Admission) -> int:
        """First sendings rest while the breaker is open; questions about lost answers always go on, if slowly."""
        closed = admission.breaker is Breaker.CLOSED
        if self.lane == "send":
            return admission.granted if closed else 0
        few = max(0, min(room, FEW - len(self._flying)))

        return max(admission.granted, few) if closed else few

    def _claim_rows(
        self, connection: Connection, limit: int, admission: Admission
    ) -> list[tuple[Refund, Frozen | None]]:
        now = self.engine.clock()
        if self.lane == "send" and self._switched_off(connection, now):
            return []
        claimed = refunds.claim(
            connection,
            self.lane,
            self.account.name,
            limit=limit,
            now=now,
            until=now + self.account.policy.lease,
            worker=self.engine.worker,
            alone=self.account.alone,
            urgent=self.lane == "recover" and admission.breaker is not Breaker.CLOSED,
        )
        if self.lane != "recover" or not claimed:
            return [(refund, None) for refund in claimed]
        frozen = refunds.last_attempts(connection, [refund.id for refund in claimed])

        return [(refund, frozen.get(refund.id)) for refund in claimed]

    def _switched_off(self, connection: Connection, now: float) -> bool:
        found = switch(connection, self.account.name)

        return found is not None and found.stops_sending(now)

    def _report(self) -> None:
        good, bad, self._good, self._bad = self._good, self._bad, 0, 0
        if good or bad:
            state = self.engine.limits.report(self.account.name, self.account.limit, good=good, bad=bad)
            if state is Breaker.OPEN and bad:
                log.warning("breaker.open", account=self.account.name, faults=bad)

    async def _probe(self) -> bool:
        """Once the cooldown is over, a harmless call tells whether the provider is back; never a new refund.

        Where no such call exists the breaker closes, and the next faults open it again.
        """
        health = await ping(self.account, self._network)
        good = health is not Health.UNREACHABLE
        state = await self._blocking(
            lambda: self.engine.limits.report(self.account.name, self.account.limit, good=int(good), bad=int(not good))
        )

        return bool(state is Breaker.CLOSED)

    # -- one refund --------------------------------------------------------------------------------------------------

    async def _step(self, refund: Refund, frozen: Frozen | None) -> None:
        try:
            match self.lane:
                case "send":
                    await self._send(refund)
                case "recover":
                    await self._recover(refund, frozen)
                case _:
                    await self._poll(refund)
        except LeaseLost:
            log.info("lease.lost", refund_id=refund.id, account=refund.account, lane=self.lane)
        except asyncio.CancelledError:
            raise
        except Exception:
            # The lease runs out and recovery takes over; a refund that does this again and again ends in review.
            log.exception("step.failed", refund_id=refund.id, account=refund.account, lane=self.lane)

    async def _send(self, refund: Refund) -> None:
        if refund.lost_leases > self.account.policy.max_lost_leases:
            await self._give_to_review(refund, Cause.LEASES_LOST)
            return
        if not refund.resolved:
            resolved = await self._resolve(refund)
            if resolved is None:
                return
            refund = resolved
        sent, outcome = await self._converse(refund, self._refund_conversation(refund, None), None)
        await self._record(sent, outcome, Call.MOVE, earlier_ambiguous=refund.ambiguous)

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
            sent, outcome = await self._converse(refund, self._refund_conversation(refund, frozen), frozen)
            await self._record(sent, outcome, Call.MOVE, earlier_ambiguous=True, matches=matches)
            return
        question = provider.status(order) if step is Step.STATUS else provider.lookup(order)
        call = Call.STATUS if step is Step.STATUS else Call.LOOKUP
        sent, outcome = await self._converse(refund, question, None)
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
        sent, outcome = await self._converse(refund, question, None)
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
        self, refund: Refund, conversation: Conversation | Question, frozen: Frozen | None
    ) -> tuple[_Sent, Outcome]:
        """Run a conversation to its end. A `frozen` request takes the place of the Move, byte for byte."""
        sent = _Sent(refund)
        response: httpx.Response | None = None
        while True:
            try:
                step = next(conversation) if response is None else conversation.send(response)
            except StopIteration as end:
                return sent, end.value
            except Exception as error:
                log.exception("adapter.failed", refund_id=refund.id, provider=refund.provider)
                return sent, _broken(sent, error)
            if isinstance(step, Move):
                sent = await self._freeze(refund, step, frozen)
                answer = await self._send_move(sent, step.request, frozen)
            else:
                answer = await self._network.send(self.account.provider.authorize(step.request))
            if not isinstance(answer, httpx.Response):
                conversation.close()
                return sent, _faulted(sent, step, answer)
            if isinstance(step, Move):
                sent = replace(sent, answer=answer)
            response = answer

    async def _freeze(self, refund: Refund, move: Move, frozen: Frozen | None) -> _Sent:
        """Commit the intent: attempt number, handle, and the very bytes, before a socket opens."""
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
        refund = await self._change(refund, after, kind, data, start=start)

        return _Sent(refund, no)

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
        headers = [(k, v) for k, v in request.headers.items() if k not in ("host", "content-length")]

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

    async def _send_move(self, sent: _Sent, request: httpx.Request, frozen: Frozen | None) -> Any:
        """The socket, if the lease and the handle still outlast the call: a frozen worker wakes up here."""
        if frozen is not None:
            request = self._thaw(frozen)
        now = self.engine.clock()
        refund, timeout = sent.refund, self.account.policy.total_timeout
        if refund.due_at is None or refund.due_at - now < timeout:
            return NotSent(reason=NotSentReason.LEASE, detail="the lease ran out before sending")
        if refund.replay_until is not None and now >= refund.replay_until:
            return NotSent(reason=NotSentReason.LEASE, detail="the handle's lifetime ran out before sending")

        return await self._network.send(self.account.provider.authorize(request))

    def _thaw(self, frozen: Frozen) -> httpx.Request:
        return httpx.Request(
            frozen.method,
            frozen.url,
            headers=msgspec.json.decode(frozen.headers),
            content=self.engine.vault.open(frozen.body),
        )

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
        self._count(outcome)
        now = self.engine.clock()
        refund = _counted(sent.refund, call, now)
        case = refund.case(ambiguous=earlier_ambiguous, fingerprint_matches=matches)
        decision = decide(case, outcome, now, self.account.policy, self._jitter())
        change = judged(sent.refund, refund, decision, outcome, now, self.account, actor=self.engine.worker)
        end = None if sent.no is None else self._end(sent.no, sent.answer, outcome, now)
        change = replace(change, end=end)
        if retried:
            change = replace(change, after=replace(change.after, holds=False))
        try:
            won = await self._execute(change)
        except IntegrityError:
            if retried:
                raise
            # The database keeps each refund id of the provider for one refund: this answer speaks of another one's.
            claimed = Unknown(reason="the provider's refund id belongs to another refund", contradiction=True)
            await self._record(sent, claimed, call, earlier_ambiguous=True, matches=matches, retried=True)
            return
        if won is None:
            await self._blocking(bring_evidence, self.engine, self.account, refund, outcome, end=end)
            return
        self._after(won.after, decision)

    def _end(self, no: int, answer: httpx.Response | None, outcome: Outcome, now: float) -> AttemptEnd:
        return AttemptEnd(
            no=no,
            ended_at=now,
            outcome=type(outcome).__name__.lower(),
            http_status=None if answer is None else answer.status_code,
            answer=None if answer is None else self.engine.vault.seal(redacted(answer)),
            note=_note(outcome),
        )

    def _count(self, outcome: Outcome) -> None:
        bad = isinstance(outcome, Unknown) or (isinstance(outcome, NotSent) and outcome.reason in _FAULTS)
        self._bad += bad
        self._good += not bad

    def _after(self, refund: Refund, decision: Decision) -> None:
        announce(refund, decision)
        if decision.pause_account:
            self._blocking_soon(pause_for_credentials, self.engine, self.account.name, decision.note)
        if refund.state in FINAL and self.account.alone:
            self._blocking_soon(self.engine.ring, "send", self.account.name)

    def _blocking_soon(self, work: Callable[..., Any], *arguments: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._blocking(work, *arguments))
        self._flying.add(task)
        task.add_done_callback(self._flying.discard)

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
        announce(after, decision)

    async def _change(
        self,
        before: Refund,
        after: Refund,
        kind: str,
        data: dict[str, Any],
        *,
        start: AttemptStart | None = None,
        end: AttemptEnd | None = None,
    ) -> Refund:
        change = Change(
            before=before, after=after, type=kind, actor=self.engine.worker, data=data, start=start, end=end
        )
        won = await self._execute(change)
        if won is None:
            raise LeaseLost

        return refunds.after(won)

    async def _execute(self, change: Change) -> Change | None:
        """The change that won. A note that somebody wrote meanwhile is no reason to lose a step, or an answer."""
        if await _answered(self._writer.execute(change)):
            return change
        fresh = await self._blocking(self._reload, change.before.id)
        if fresh is None or not _only_noted(change.before, fresh):
            return None
        again = replace(change, before=fresh, after=replace(change.after, assignee=fresh.assignee))

        return again if await _answered(self._writer.execute(again)) else None

    def _reload(self, refund_id: str) -> Refund | None:
        with self.engine.ledger.read() as connection:
            return refunds.get(connection, refund_id)


async def ping(account: Account, network: Network) -> Health:
    """Run the provider's harmless call."""
    conversation = account.provider.ping()
    response: httpx.Response | None = None
    while True:
        try:
            step = next(conversation) if response is None else conversation.send(response)
        except StopIteration as end:
            health: Health = end.value
            return health
        answer = await network.send(account.provider.authorize(step.request))
        if not isinstance(answer, httpx.Response):
            return Health.UNREACHABLE
        response = answer


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


async def _answered(answer: Answer) -> bool:
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


def _note(outcome: Outcome) -> str | None:
    match outcome:
        case Declined():
            return clean(f"{outcome.code} {outcome.message}".strip(), 512)
        case NotSent():
            return clean(f"{outcome.reason} {outcome.detail}".strip(), 512)
        case Unknown():
            return clean(outcome.reason, 512)
        case _:
            return None


def _evidence(outcome: Outcome, decision: Decision, attempts: int) -> dict[str, Any]:
    facts = decision.facts
    given = {
        "outcome": type(outcome).__name__.lower(),
        "attempts": attempts,
        "why": _note(outcome) or decision.note or None,
        "cause": decision.cause,
        "provider_refund_id": facts.provider_refund_id,
        "provider_status": facts.status,
        "answered_amount": facts.amount,
        "answered_currency": facts.currency,
        "alert": decision.alert,
        "new_handle": True if decision.renew_handle else None,
    }

    return {key: value for key, value in given.items() if value is not None}


def announce(refund: Refund, decision: Decision) -> None:
    """What people must know is a log line of its own."""
    if decision.alert:
        log.error("refund.alert", refund_id=refund.id, account=refund.account, alert=decision.alert)
    if refund.state is State.REVIEW and decision.cause is not None:
        log.warning("refund.review", refund_id=refund.id, account=refund.account, cause=decision.cause)


def bring_evidence(
    engine: Engine,
    account: Account,
    asked: Refund,
    outcome: Outcome,
    *,
    end: AttemptEnd | None = None,
    actor: str | None = None,
) -> bool:
    """Book what a provider has said about a refund that others may have moved meanwhile; True when it changed it.

    `asked`: the refund as it stood when the provider was asked. What is said about an earlier handle, or about a refund
    that waits to be sent again, is no step of its course: if money may have moved, a person sees it before more does.
    Nothing that was answered is dropped: what cannot be a step is an event, and the attempt `end`s in any case.
    """

    def work(connection: Connection) -> bool:
        now = engine.clock()
        refund = refunds.get(connection, asked.id, lock=True)
        if refund is None:
            return False
        decision = _on_evidence(refund, asked, outcome, now, account)
        change = (
            judged(refund, refund, decision, outcome, now, account, actor=actor or engine.worker, fenced=False)
            if decision is not None
            else Change(
                before=refund,
                after=replace(refund, updated_at=now),
                type="refund.evidence",
                actor=actor or engine.worker,
                data={"handle": asked.handle, "outcome": type(outcome).__name__.lower(), "why": _note(outcome)},
                fenced=False,
            )
        )
        won = bool(refunds.apply(connection, [replace(change, end=end)]))
        if won and decision is not None:
            announce(change.after, decision)
        return won and change.after.state is not refund.state

    return engine.ledger.run(work)


def _on_evidence(refund: Refund, asked: Refund, outcome: Outcome, now: float, account: Account) -> Decision | None:
    """The step that evidence asks for; None: it is kept as an event, and nothing moves."""
    same = refund.handle == asked.handle
    tells = isinstance(outcome, (Succeeded, Pending)) or (isinstance(outcome, Declined) and outcome.own_record and same)
    if not tells or refund.case().people_only:
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
        facts=outcome.facts if isinstance(outcome, (Succeeded, Pending)) else NO_FACTS,
        cause=Cause.CONTRADICTION if same else Cause.TWO_HANDLES,
        alert=f"the provider speaks of {asked.handle}, which had been given up: money may have moved under it",
    )


def pause_for_credentials(engine: Engine, account: str, why: str) -> None:
    """A refused key stops first sendings until a person resumes them; it must not kill a queue."""
    pause(engine, account, reason=f"the provider refused the credentials: {why}", actor="system")
    log.error("account.paused", account=account, reason="credentials")
