"""What a provider's answer proves about one refund: values, never exceptions.

Only an explicit yes is `Succeeded`, only an explicit no is `Declined`; whatever else an answer is, it is one of
the others. Each outcome judges one attempt, or one question about the refund.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class DeclineClass(StrEnum):
    """Whether a refusal is the end, or something a person can mend."""

    FINAL = "final"
    FIXABLE = "fixable"


class NotSentReason(StrEnum):
    """Why nothing was done."""

    CONNECTION = "connection"
    THROTTLED = "throttled"
    CREDENTIALS = "credentials"
    PAUSED = "paused"
    BUSY = "busy"
    ASK_FAILED = "ask_failed"
    LEASE = "lease"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the provider's own record of our refund says; absent is None. Amounts: minor units, ISO 4217."""

    provider_refund_id: str | None = None
    status: str | None = None
    amount: int | None = None
    currency: str | None = None
    reconciliation_id: str | None = None
    alert: str | None = None


NO_FACTS = Facts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The provider says that the money has gone back."""

    facts: Facts = NO_FACTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The provider has our refund, and has not decided it yet."""

    facts: Facts = NO_FACTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """An explicit no. `own_record`: the provider's record of this very handle, not a verdict on the payment."""

    code: str
    message: str = ""
    kind: DeclineClass = DeclineClass.FINAL
    own_record: bool = False
    facts: Facts = NO_FACTS


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """This request never left, or the provider documents that it did nothing with it. Seconds in `retry_after`.

    `stored`: the provider keeps this refusal under the handle, so the same handle will only repeat it.
    `renew_handle`: the provider's own list proves that this handle moved nothing and can move nothing any more
    (Smart2Pay, reasons 134 and 2207), so the next attempt takes a new one.
    """

    reason: NotSentReason
    detail: str = ""
    retry_after: float | None = None
    stored: bool = False
    renew_handle: bool = False


@dataclass(frozen=True, slots=True)
class Absent:
    """A look-up by our handle found nothing. No proof by itself: see `decision`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """The answer, or the lack of one, proves nothing. `contradiction`: a person must look, asking again is no use."""

    reason: str
    contradiction: bool = False
    facts: Facts = field(default=NO_FACTS)


Outcome = Succeeded | Pending | Declined | NotSent | Absent | Unknown


def facts_of(outcome: Outcome) -> Facts:
    """What an outcome shows of the provider's record of our refund."""
    return NO_FACTS if isinstance(outcome, (NotSent, Absent)) else outcome.facts
