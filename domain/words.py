"""Why a refund needs a person, and what may be done, in words; and words that no spreadsheet runs."""

import re
from typing import Any

from domain.decision import Cause
from domain.verdict import Advice

CAUSES: dict[str, str] = {
    Cause.ATTEMPTS_EXHAUSTED: "every attempt that is allowed was made",
    Cause.HANDLE_EXPIRED: "an answer was lost, and the handle's lifetime is over",
    Cause.HORIZON_PASSED: "the provider has not decided in time",
    Cause.CANNOT_REPEAT: "an answer was lost, and a repeat could pay again",
    Cause.FINGERPRINT_CHANGED: "the account's identity has changed since it was sent",
    Cause.FIXABLE_DECLINE: "refused for a reason that can be mended",
    Cause.STORED_REFUSAL: "refused, and the provider repeats its refusal for this handle",
    Cause.MISMATCH: "the provider answers another amount or currency",
    Cause.CONTRADICTION: "the provider's answer contradicts itself",
    Cause.TWO_HANDLES: "the provider speaks of a handle that had been given up",
    Cause.LEASES_LOST: "too many workers were lost while they had it",
    Cause.REVERSED: "it had succeeded, then the provider took it back",
    Cause.OVER_REFUNDED: "more has gone back than was captured",
}

ADVICE: dict[str, str] = {
    Advice.SAFE: "safe to retry",
    Advice.CHECK_FIRST: "check at the provider first",
    Advice.NEW_HANDLE: "needs a new handle",
    Advice.HUMAN_ONLY: "a person must decide",
}

# Spreadsheets pass over blanks and what is not seen, and take full-width signs for the plain ones.
_FORMULA = re.compile(r"[\s\x00-\x1f\u200b-\u200f\u2060\ufeff]*[=+\-@\u2212\uff0b\uff0d\uff1d\uff20]|[\t\r\n]")


def cause_in_words(cause: str | None) -> str:
    """A cause as a person would say it."""
    return CAUSES.get(cause, cause) if cause is not None else "not in review"


def advice_in_words(advice: str) -> str:
    """A verdict as a person would say it."""
    return ADVICE.get(advice, advice)


def ago(seconds: float) -> str:
    """An age in its two largest units."""
    whole = max(0, int(seconds))
    for size, unit, smaller, name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {name}" if rest else f"{whole // size} {unit}"

    return f"{whole} s"


def harmless(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula, with an apostrophe before it; anything else as it is."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value
