"""What callers can get wrong.

RefundError
├── InvalidMoney        an amount or a currency that cannot be
├── InvalidJob          a job refused at the door; carries one FieldError per fault
├── Refused             a rule says no (over the cap, wrong state); carries a stable code
│   ├── Conflict        something else already stands there (same reference, other content)
│   ├── NotFound        no such refund, account, request
│   ├── Forbidden       the actor lacks the role, or is the requester
│   ├── Unauthenticated nobody we know; which part was wrong is not said
│   └── QuotaExceeded   too much in too short a time; carries when to come back
├── NewerForm           written by a newer program, in a form that this one must not guess at
├── IllegalMove         a state change that the table does not allow: a defect, never an answer
└── ConfigurationError  settings that cannot work
"""

from dataclasses import dataclass


class RefundError(Exception):
    """Base of everything Refundry raises on purpose."""


class InvalidMoney(RefundError, ValueError):
    """An amount or currency that breaks a rule; the message names it."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of a job: JSON pointer of the field, the rule it breaks, a stable code."""

    pointer: str
    detail: str
    code: str = "invalid"

    def __str__(self) -> str:
        return f"{self.pointer}: {self.detail}"


# More faults of one job help nobody, and would take more room than the job.
MOST_FAULTS = 20


class InvalidJob(RefundError, ValueError):
    """A job that cannot be accepted; `errors` names field and rule of each fault, or of the first 20 and how many."""

    def __init__(self, *errors: FieldError, code: str = "validation-failed") -> None:
        left = len(errors) - MOST_FAULTS
        more = (FieldError("#", f"and {left} more faults"),) if left > 0 else ()
        self.errors = (*errors[:MOST_FAULTS], *more)
        self.code = code
        super().__init__("; ".join(map(str, self.errors)))


class Refused(RefundError):
    """A rule says no. `code` is stable, the message says which rule."""

    def __init__(self, code: str, message: str, *, errors: tuple[FieldError, ...] = ()) -> None:
        self.code = code
        self.errors = errors
        super().__init__(message)


class Conflict(Refused):
    """Another content already stands under this name, or the object has moved on."""


class NotFound(Refused):
    """There is no such object."""


class Forbidden(Refused):
    """The actor may not do this."""


class Unauthenticated(Refused):
    """Nobody we know; which part was wrong is not said."""


class QuotaExceeded(Refused):
    """Too much in too short a time: `policy` names the limit, `retry_after` says in how many seconds it is over."""

    def __init__(self, policy: str, message: str, *, retry_after: float) -> None:
        self.policy = policy
        self.retry_after = retry_after
        super().__init__("quota-exceeded", message)


class NewerForm(RefundError):
    """What a newer program wrote in a form that this one does not know: left to that one, or to a person."""


class IllegalMove(RefundError):
    """A state change that the table of moves does not hold."""


class ConfigurationError(RefundError):
    """Settings that cannot work; `lines` has one sentence per fault."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines
        super().__init__("\n".join(lines))
