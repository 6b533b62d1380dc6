"""Known bugs put back one at a time: how long the simulator needs to find each.

`python -m tests.simulation.mutants [--seeds N] [NAME ...]`. A mutant that survives is a hole in the simulator.
"""

import argparse
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from dataclasses import replace as copied
from multiprocessing import get_context
from typing import Any
from unittest.mock import patch

from msgspec.structs import force_setattr, replace
from sqlalchemy import FromClause, Update, text, update

import engine.about
import engine.look
import engine.steps
import engine.submit
import engine.writer
from domain import money, state
from domain.decision import Decision
from domain.outcome import Absent, Declined, NotSent, NotSentReason, Outcome, Pending, Succeeded, Unknown
from domain.reconcile import Verdict, evidence
from domain.refund import MUTABLE, Refund
from domain.state import Hold, State
from engine.steps import Steps
from ledger import external, intake, refunds
from ledger.models import refund
from ledger.refunds import _TYPES
from ledger.session import OverRows
from tests.simulation.command import say
from tests.simulation.run import simulate

ENOUGH = 3000
BROKEN = re.compile(r"(Type|Attribute|Name|Import)Error")
steps_module: Any = engine.steps


def outcomes(change: Callable[[Any, Any, Outcome], Outcome]) -> AbstractContextManager[Any]:
    """Every outcome of a conversation, changed: (steps, sent, outcome) -> outcome."""
    real = Steps._converse

    async def changed(self: Steps, *given: Any, **named: Any) -> Any:
        sent, outcome = await real(self, *given, **named)
        return sent, change(self, sent, outcome)

    return patch.object(Steps, "_converse", changed)


@contextmanager
def new_handle_on_retry() -> Iterator[None]:
    """The retry after a lost answer goes out under a key of its own."""
    real = Steps._converse

    async def changed(self: Steps, refund: Any, conversation: Any, frozen: Any = None, **named: Any) -> Any:
        if frozen is not None:
            conversation.close()
            refund = replace(refund, handle=self.account.provider.handle(uuid.uuid4()))
            conversation, frozen = self._refund_conversation(refund, None), None
        return await real(self, refund, conversation, frozen, **named)

    moves = state.MOVES | {State.UNKNOWN: state.MOVES[State.UNKNOWN] | {State.SENDING}}
    with patch.object(Steps, "_converse", changed), patch.dict(state.MOVES, moves):
        yield


def _http_says_no(_steps: Any, sent: Any, outcome: Outcome) -> Outcome:
    status = sent.answer.status_code if sent.answer is not None else 0
    if status in (408, 409, 429):
        return Declined(code=str(status), own_record=True)

    return outcome


def _server_error_is_no(_steps: Any, sent: Any, outcome: Outcome) -> Outcome:
    failed = sent.answer is not None and sent.answer.status_code >= 500

    return Declined(code="5xx", own_record=True) if failed else outcome


def _unknown_is_not_sent(_steps: Any, sent: Any, outcome: Outcome) -> Outcome:
    lost = sent.no is not None and isinstance(outcome, Unknown)

    return NotSent(reason=NotSentReason.CONNECTION) if lost else outcome


def _accepted_is_done(_steps: Any, _sent: Any, outcome: Outcome) -> Outcome:
    return Succeeded(facts=outcome.facts) if isinstance(outcome, Pending) else outcome


def _pending_is_failed(_steps: Any, _sent: Any, outcome: Outcome) -> Outcome:
    return Declined(code="pending", own_record=True) if isinstance(outcome, Pending) else outcome


def _refused_is_refunded(_steps: Any, _sent: Any, outcome: Outcome) -> Outcome:
    return Succeeded(facts=outcome.facts) if isinstance(outcome, Declined) else outcome


@contextmanager
def sent_before_committed() -> Iterator[None]:
    """The attempt is written after the answer has come."""
    freeze, send = Steps._freeze, Steps._send_move
    waiting: dict[int, Any] = {}

    async def later(self: Steps, refund: Any, move: Any, frozen: Any) -> Any:
        lease = self.engine.clock() + self.account.policy.lease
        sent = steps_module._Sent(replace(refund, due_at=lease), refund.attempts + 1)
        waiting[id(sent)] = (refund, move, frozen)
        return sent

    async def first(self: Steps, sent: Any, request: Any) -> Any:
        refund, move, kept = waiting.pop(id(sent))
        answer = await send(self, sent, request)
        written = await freeze(self, refund, move, kept)
        force_setattr(sent, "refund", written.refund)
        return answer

    asked_first = patch.object(Steps, "begin", lambda _self, _refund: None)
    with asked_first, patch.object(Steps, "_freeze", later), patch.object(Steps, "_send_move", first):
        yield


def _unguarded(values: FromClause) -> Update:
    return (
        update(refund)
        .values({name: values.c[name] for name in MUTABLE})
        .values(version=refund.c.version + (values.c.next_version - values.c.expected_version))
        .values(chain=values.c.chain)
        .where(refund.c.id == values.c.id)
        .returning(refund.c.id)
    )


def update_without_version() -> AbstractContextManager[Any]:
    """UPDATE ... WHERE id = ?"""
    return patch.object(refunds, "_UPDATE", OverRows(_TYPES, _unguarded))


@contextmanager
def lease_not_checked() -> Iterator[None]:
    """A worker that wakes up sends what it had in hand."""

    async def changed(self: Steps, _sent: Any, request: Any) -> Any:
        return await self._network.send(self.account.provider.authorize(request))

    with patch.object(Steps, "_send_move", changed):
        yield


@contextmanager
def absent_is_proof() -> Iterator[None]:
    """Not found once: never sent, so the next attempt takes a new key."""
    real = steps_module.decide

    def changed(case: Any, outcome: Outcome, now: float, policy: Any, jitter: float) -> Decision:
        if isinstance(outcome, Absent) and case.state in (State.SENDING, State.UNKNOWN):
            return Decision(state=State.QUEUED, due_at=now, ambiguous=False, renew_handle=True)
        decision: Decision = real(case, outcome, now, policy, jitter)
        return decision

    with patch.object(steps_module, "decide", changed):
        yield


def handle_never_expires() -> AbstractContextManager[Any]:
    """A handle is replayed however old it is."""
    return patch.object(steps_module, "replay_until", lambda _policy, _at: None)


def lost_lease_is_not_sent() -> AbstractContextManager[Any]:
    """The row of a worker that died says "not sent": released, and sent under a new key."""

    async def changed(self: Steps, refund: Any) -> Any:
        now = self.engine.clock()
        decision = Decision(state=State.QUEUED, due_at=now, ambiguous=False, renew_handle=True)
        outcome = NotSent(reason=NotSentReason.CONNECTION)
        before = refund
        change = steps_module.judged(before, refund, decision, outcome, now, self.account, actor=self.engine.worker)
        await self._execute(change)
        raise steps_module.LeaseLost

    return patch.object(Steps, "_lease_ran_out", changed)


@contextmanager
def claimed_is_done() -> Iterator[None]:
    """Work is acknowledged when it is taken: a worker that dies takes it along."""
    real = refunds.leased

    def acknowledged(*given: Any, **named: Any) -> Refund:
        return replace(real(*given, **named), due_at=None)

    first = patch.object(Steps, "begin", lambda _self, _refund: None)
    with first, patch.object(refunds, "leased", acknowledged):
        yield


@contextmanager
def lost_without_id_is_forgotten() -> Iterator[None]:
    """Only a refund whose id at the provider is known is asked about."""
    real = steps_module.decide

    def changed(case: Any, outcome: Outcome, now: float, policy: Any, jitter: float) -> Decision:
        decision: Decision = real(case, outcome, now, policy, jitter)
        forgotten = decision.state is State.UNKNOWN and case.provider_refund_id is None
        return replace(decision, due_at=None) if forgotten else decision

    with patch.object(steps_module, "decide", changed):
        yield


def one_key_for_two_partials() -> AbstractContextManager[Any]:
    """The idempotency key is made of the payment."""

    def keyed(**values: Any) -> Refund:
        key = uuid.uuid5(uuid.NAMESPACE_URL, f"{values['account']}/{values['payment_ref']}")
        return Refund(**{**values, "handle": str(key)})

    return patch.object(engine.submit, "Refund", keyed)


def cap_forgets_others() -> AbstractContextManager[Any]:
    """The cap looks at the captured amount only."""
    real = intake._lock_payments

    def blind(*given: Any) -> Any:
        return {key: copied(purse, used=0) for key, purse in real(*given).items()}

    return patch.object(intake, "_lock_payments", blind)


def holder_waits() -> AbstractContextManager[Any]:
    """A claimed refund whose worker died waits for the next one of its payment, and that one for it."""
    old = refunds._FREE.replace("(r.holds OR (NOT :alone", "((NOT :alone")
    assert old != refunds._FREE
    with patch.object(refunds, "_FREE", old):
        claims = {
            key: text(refunds._due_statement(key[0], sqlite=key[1], urgent=key[2])).columns(*refunds.COLUMNS)
            for key in refunds._DUE
        }

    return patch.dict(refunds._DUE, claims)


def webhook_books_a_second_refund() -> AbstractContextManager[Any]:
    """A notification is matched by the provider's id alone: before our own answer it is somebody else's refund."""
    return patch.object(engine.about, "_by_own_names", lambda *_: [])


def webhook_is_a_verdict() -> AbstractContextManager[Any]:
    """What a signed notification claims is written down, and nobody is asked."""

    async def believed(self: Any, refund: Any, _handle: str, hint: Any) -> None:
        claims = [each for each in hint.claims if each.verdict in (Verdict.SUCCEEDED, Verdict.FAILED)]
        if len(claims) == 1 and refund.leased_by is None:
            await self._evidence(refund, evidence(claims[0]))

    return patch.object(engine.look.Look, "_about", believed)


def external_twice() -> AbstractContextManager[Any]:
    """Every report of a refund made elsewhere is booked."""

    def again(connection: Any, seen: Any, **named: Any) -> Any:
        external._count(connection, seen, seen.amount)
        return book(connection, seen, **named)

    book = external.book

    return patch.object(external, "book", again)


@dataclass(frozen=True)
class Mutant:
    """One bug of others."""

    name: str
    words: str
    put_in: Callable[[], AbstractContextManager[Any]]


MUTANTS = (
    Mutant("new_handle_on_retry", "a retry after a lost answer mints a new key", new_handle_on_retry),
    Mutant("http_says_no", "408, 409 and 429 taken as failure", lambda: outcomes(_http_says_no)),
    Mutant("server_error_is_no", "a 5xx taken as failure", lambda: outcomes(_server_error_is_no)),
    Mutant("unknown_is_not_sent", "a lost answer taken as never sent", lambda: outcomes(_unknown_is_not_sent)),
    Mutant("lost_lease_is_not_sent", "a dead worker's row says not sent", lost_lease_is_not_sent),
    Mutant("sent_before_committed", "the attempt is written after the call", sent_before_committed),
    Mutant("update_without_version", "UPDATE without the expected state", update_without_version),
    Mutant(
        "freed_on_ambiguous",
        "the reservation is released on an ambiguous answer",
        lambda: patch.dict(state._HOLDS, {State.UNKNOWN: Hold.RELEASED}),
    ),
    Mutant("absent_is_proof", "a look-up that finds nothing proves absence at once", absent_is_proof),
    Mutant("lease_not_checked", "the lease is not checked before sending", lease_not_checked),
    Mutant("handle_never_expires", "an expired handle is replayed", handle_never_expires),
    Mutant("minor_units", "a currency without decimals has two", lambda: patch.dict(money.EXPONENTS, {"JPY": 2})),
    Mutant("accepted_is_done", "accepted taken as succeeded", lambda: outcomes(_accepted_is_done)),
    Mutant("pending_is_failed", "pending taken as failed", lambda: outcomes(_pending_is_failed)),
    Mutant("refused_is_refunded", "already refunded taken as our success", lambda: outcomes(_refused_is_refunded)),
    Mutant("holder_waits", "two refunds of a payment wait for each other (was ours)", holder_waits),
    Mutant("claimed_is_done", "work is acknowledged before it runs", claimed_is_done),
    Mutant("lost_without_id_is_forgotten", "no look-up without a provider id", lost_without_id_is_forgotten),
    Mutant("one_key_for_two_partials", "two partial refunds of a payment share a key", one_key_for_two_partials),
    Mutant(
        "webhook_books_a_second_refund",
        "a webhook before the answer books a second refund",
        webhook_books_a_second_refund,
    ),
    Mutant("webhook_is_a_verdict", "a webhook's claim is taken for the outcome", webhook_is_a_verdict),
    Mutant("external_twice", "a refund made elsewhere is counted with every report", external_twice),
    Mutant("cap_forgets_others", "the cap ignores what is reserved", cap_forgets_others),
)


class _Listening:
    """The log of the steps, which notes that a mutant does not fit the code any more: it would only stand still."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.broken: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def exception(self, *given: Any, **named: Any) -> None:
        """What `take` says of a step that failed."""
        error = sys.exc_info()[1]
        if isinstance(error, TypeError | AttributeError | NameError | ImportError):
            self.broken.append(repr(error))
        self._real.exception(*given, **named)


def hunt(name: str, seeds: int, first: int = 1) -> tuple[str, int | None, float, str]:
    """Seeds and CPU seconds until a mutant is found."""
    mutant = next(each for each in MUTANTS if each.name == name)
    simulate(1)
    began = time.process_time()
    listening = _Listening(steps_module.log)
    with mutant.put_in(), patch.object(steps_module, "log", listening):
        for number in range(seeds):
            result = simulate(first + number)
            # A mutant that merely does not work shows nothing.
            assert not BROKEN.search(str(result.violation)), f"{name}: {result.violation}"
            assert not listening.broken, f"{name}: {listening.broken[0]}"
            if result.violation is not None:
                return name, number + 1, time.process_time() - began, f"{result.seed}: {result.violation}"

    return name, None, time.process_time() - began, "survived"


def main(arguments: list[str]) -> int:
    """Hunt those named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=ENOUGH)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args(arguments)
    names = asked.names or [each.name for each in MUTANTS]
    survived = 0
    say("| mutant | what it does | seeds | CPU seconds | found by |\n|---|---|---|---|---|")
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        for future in [pool.submit(hunt, name, asked.seeds) for name in names]:
            name, seeds, seconds, found = future.result()
            words = next(each.words for each in MUTANTS if each.name == name)
            survived += seeds is None
            rule = found.split(": ")[1] if seeds is not None else found
            shown = f"more than {asked.seeds}" if seeds is None else str(seeds)
            say(f"| `{name}` | {words} | {shown} | {seconds:.1f} | {rule} |")
            say(f"  {found}", sys.stderr)

    return 1 if survived else 0


if __name__ == "__main__":
    from tests.simulation.mutants import main as same  # the module that the workers import

    sys.exit(same(sys.argv[1:]))
