"""The world behind the five providers: payments, refunds, the money ledger and the clock.

Nothing here knows HTTP. Time comes from the injected clock; what is due is evaluated whenever
somebody asks, in the order in which it fell due.
"""

import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sandbox.faults import Fault, FaultPlan, Rule

if TYPE_CHECKING:
    from sandbox.edge import Reply

Json = dict[str, Any]
Clock = Callable[[], float]

DEFAULT_PENDING_SECONDS = 0.5
REQUESTS_KEPT = 10_000


class RefundState(StrEnum):
    """A refund in the sandbox's own words; each provider has its own for them."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"


@dataclass(slots=True)
class Entry:
    """Money that moved, once."""

    provider: str
    payment: str
    handle: str | None
    refund_id: str
    amount: int
    currency: str
    at: float
    external: bool
    reversed_at: float | None = None


@dataclass(slots=True, eq=False)
class Payment:
    """A captured payment of one merchant account."""

    provider: str
    account: str
    id: str
    number: int
    amount: int
    currency: str
    created_at: float
    state: str
    order_id: str | None = None
    method: str | None = None
    captures: dict[str, int] = field(default_factory=dict)
    partial_refunds: bool = True
    pending_seconds: float | None = None
    echo_metadata: bool = True
    split_error: bool = False
    charged_back: bool = False
    refunds: list["Refund"] = field(default_factory=list)

    @property
    def reference(self) -> str:
        """The merchant's own id of the payment."""
        return f"sale-{self.number}"

    def refunded(self, capture: str | None = None) -> int:
        """Sum of what is refunded or on its way, of one capture or of all."""
        return sum(
            refund.amount
            for refund in self.refunds
            if refund.state is not RefundState.DECLINED and capture in (None, refund.capture_id)
        )

    def remaining(self, capture: str | None = None) -> int:
        """What may still be refunded, of one capture or of all."""
        captured = self.amount if capture is None else self.captures[capture]

        return max(0, captured - self.refunded(capture))

    def has_open_refund(self) -> bool:
        """Whether a refund of this payment has no outcome yet."""
        return any(refund.state is RefundState.PENDING for refund in self.refunds)


@dataclass(slots=True, eq=False)
class Refund:
    """One refund, from acceptance to its outcome and, with a late flip, beyond."""

    payment: Payment
    id: str
    number: int
    amount: int
    created_at: float
    updated_at: float
    handle: str | None = None
    asked: Json = field(default_factory=dict)
    capture_id: str | None = None
    external: bool = False
    chargeback: bool = False
    state: RefundState = RefundState.PENDING
    reason: str | None = None
    due_at: float | None = None
    verdict: RefundState = RefundState.SUCCEEDED
    flips_after: float | None = None
    entry: Entry | None = None
    answer_with: Fault | None = None

    @property
    def provider(self) -> str:
        """The provider it was made at."""
        return self.payment.provider

    @property
    def currency(self) -> str:
        """Always the payment's."""
        return self.payment.currency

    @property
    def final(self) -> bool:
        """Whether it has an outcome."""
        return self.state is not RefundState.PENDING

    @property
    def flipped(self) -> bool:
        """Whether a success was taken back."""
        return self.entry is not None and self.entry.reversed_at is not None


@dataclass(slots=True)
class Stored:
    """An answer kept under an idempotency key."""

    fingerprint: str
    reply: "Reply"
    expires_at: float


@dataclass(slots=True)
class Received:
    """One request as it arrived, and what became of it."""

    provider: str
    call: str
    method: str
    path: str
    payment: str | None
    handle: str | None
    sha256: str
    at: float
    answered: int | str | None = None
    fault: str | None = None


class World:
    """All state of one sandbox."""

    def __init__(
        self,
        *,
        clock: Clock = time.time,
        plan: FaultPlan | None = None,
        pending_seconds: float = DEFAULT_PENDING_SECONDS,
    ) -> None:
        """Begin empty; `pending_seconds` is how long asynchronous refunds stay pending."""
        self.clock = clock
        self.plan = plan or FaultPlan()
        self.pending_seconds = pending_seconds
        self.ids = random.Random()  # noqa: S311 - identifiers, not secrets
        self._numbers = itertools.count(self.ids.randrange(10**7, 10**8))
        self._begin()

    def clear(self) -> None:
        """Forget payments, refunds, ledger, faults and counters; ids are never given twice."""
        self.plan = FaultPlan(seed=self.plan.seed)
        self._begin()

    def _begin(self) -> None:
        self.payments: dict[tuple[str, str], Payment] = {}
        self.orders: dict[tuple[str, str], list[Payment]] = {}
        self.refunds: dict[tuple[str, str], Refund] = {}
        self.made: dict[str, list[Refund]] = {}
        self.answers: dict[tuple[str, str], Stored] = {}
        self.handles: dict[tuple[str, str], Refund] = {}
        self.ledger: list[Entry] = []
        self.requests: deque[Received] = deque(maxlen=REQUESTS_KEPT)
        self.finished: deque[Refund] = deque()
        self._due: list[tuple[float, int, Refund]] = []
        self._payment_count = 0
        self._sequence = itertools.count()

    # Identifiers

    def next_number(self) -> int:
        """An integer never given before by this process."""
        return next(self._numbers)

    def token(self, alphabet: str, length: int) -> str:
        """Random characters for an identifier."""
        return "".join(self.ids.choices(alphabet, k=length))

    # Payments

    def add_payment(self, payment: Payment) -> None:
        """Make a payment known; its number is its place in the order of creation."""
        self._payment_count += 1
        payment.number = self._payment_count
        self.payments[payment.provider, payment.id] = payment
        if payment.order_id is not None:
            self.orders.setdefault((payment.provider, payment.order_id), []).append(payment)

    def payment(self, provider: str, payment_id: object) -> Payment | None:
        """The payment with this id, if there is one."""
        return self.payments.get((provider, payment_id)) if isinstance(payment_id, str) else None

    def refund(self, provider: str, refund_id: object) -> Refund | None:
        """The refund with this id, if there is one."""
        return self.refunds.get((provider, refund_id)) if isinstance(refund_id, str) else None

    # Refunds

    def draft(
        self,
        payment: Payment,
        refund_id: str,
        amount: int,
        *,
        handle: str | None = None,
        asked: Json | None = None,
        capture_id: str | None = None,
    ) -> Refund:
        """A refund not yet accepted or refused."""
        now = self.clock()

        return Refund(
            payment=payment,
            id=refund_id,
            number=self.next_number(),
            amount=amount,
            created_at=now,
            updated_at=now,
            handle=handle,
            asked=asked or {},
            capture_id=capture_id,
        )

    def open_refund(self, refund: Refund, rule: Rule | None = None, *, at_once: bool) -> Refund:
        """Accept a refund; `at_once` unless the payment says otherwise, else after a while.

        A decline, a stuck or a late-flip fault takes effect here.
        """
        self._add_refund(refund)
        fault = rule.fault if rule else None
        if fault is Fault.DECLINE:
            refund.verdict = RefundState.DECLINED
        if fault is Fault.LATE_FLIP and rule:
            refund.flips_after = rule.duration
        if fault is Fault.STUCK:
            return refund
        wait = refund.payment.pending_seconds
        if wait is None:
            wait = 0.0 if at_once else self.pending_seconds
        if wait <= 0:
            self._finish(refund, refund.created_at)
        else:
            self._wait(refund, refund.created_at + wait)

        return refund

    def refuse_refund(self, refund: Refund, reason: str) -> Refund:
        """Record a refund that failed as it was made; no money moves and nobody is notified."""
        self._add_refund(refund)
        refund.state = RefundState.DECLINED
        refund.reason = reason

        return refund

    def add_external(self, refund: Refund) -> Refund:
        """Record a dashboard refund or a chargeback; its money has moved."""
        refund.external = True
        self._add_refund(refund)
        self._finish(refund, refund.created_at)
        refund.payment.charged_back = refund.payment.charged_back or refund.chargeback

        return refund

    def _add_refund(self, refund: Refund) -> None:
        refund.payment.refunds.append(refund)
        self.refunds[refund.provider, refund.id] = refund
        self.made.setdefault(refund.payment.account, []).append(refund)

    def bend(self, refund: Refund, rule: Rule | None) -> None:
        """Apply a decline, stuck or late-flip fault of a status or look-up call."""
        if rule is None:
            return
        pending = refund.state is RefundState.PENDING
        if rule.fault is Fault.DECLINE and pending:
            refund.verdict = RefundState.DECLINED
            self._finish(refund, self.clock())
        elif rule.fault is Fault.STUCK and pending:
            refund.due_at = None
        elif rule.fault is Fault.LATE_FLIP and refund.flips_after is None:
            refund.flips_after = rule.duration
            if refund.state is RefundState.SUCCEEDED:
                self._wait(refund, self.clock() + rule.duration)

    def finish_now(self, refund: Refund) -> None:
        """Give a waiting refund its outcome early; a stuck one stays stuck."""
        if refund.state is RefundState.PENDING and refund.due_at is not None:
            self._finish(refund, self.clock())

    def settle(self) -> None:
        """Evaluate everything that is due by now."""
        now = self.clock()
        while self._due and self._due[0][0] <= now:
            at, _, refund = heapq.heappop(self._due)
            if refund.due_at != at:
                continue
            if refund.state is RefundState.PENDING:
                self._finish(refund, at)
            else:
                self._flip(refund, at)

    def next_due(self) -> float | None:
        """When the next refund changes by itself."""
        return self._due[0][0] if self._due else None

    def _wait(self, refund: Refund, until: float) -> None:
        refund.due_at = until
        heapq.heappush(self._due, (until, next(self._sequence), refund))

    def _finish(self, refund: Refund, at: float) -> None:
        refund.due_at = None
        refund.state = refund.verdict
        refund.updated_at = at
        if refund.state is RefundState.SUCCEEDED:
            self._move_money(refund, at)
            if refund.flips_after is not None:
                self._wait(refund, at + refund.flips_after)
        self.finished.append(refund)

    def _flip(self, refund: Refund, at: float) -> None:
        refund.due_at = None
        refund.state = RefundState.DECLINED
        refund.updated_at = at
        if refund.entry:
            refund.entry.reversed_at = at
        self.finished.append(refund)

    def _move_money(self, refund: Refund, at: float) -> None:
        payment = refund.payment
        refund.entry = Entry(
            provider=payment.provider,
            payment=payment.id,
            handle=refund.handle,
            refund_id=refund.id,
            amount=refund.amount,
            currency=payment.currency,
            at=at,
            external=refund.external,
        )
        self.ledger.append(refund.entry)

    # Idempotency

    def stored(self, scope: str, key: str) -> Stored | None:
        """The answer kept under a key, unless its time is over."""
        found = self.answers.get((scope, key))
        if found and found.expires_at <= self.clock():
            del self.answers[scope, key]
            return None

        return found

    def store(self, scope: str, key: str, stored: Stored) -> Stored:
        """Keep an answer under a key."""
        self.answers[scope, key] = stored

        return stored

    # Reading

    def movements(self) -> Iterator[Entry]:
        """The ledger, with everything that is due evaluated first."""
        self.settle()

        return iter(self.ledger)
