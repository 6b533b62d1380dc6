"""What every adapter needs to read and write its provider's wire: exact JSON, and the answers that prove nothing."""

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Context, Decimal, Inexact
from typing import Any

import httpx
import msgspec

from domain.money import EXPONENTS, MAX_MINOR, exponent, to_major
from domain.outcome import Outcome, Unknown
from domain.reconcile import Verdict
from providers.base import Ask, Conversation, Move, Question
from providers.messages import Request

_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(float_hook=Decimal)

# No amount of money has more digits; what has is not read as a number.
_MAX_DIGITS = 30
_HUGE = 10**_MAX_DIGITS
_NUMBER = re.compile(r"\s*-?[0-9]{1,30}(\.[0-9]{1,30})?\s*", re.ASCII)
_SECONDS = re.compile(r"[0-9]+", re.ASCII)
_STAMP = re.compile(r"[0-9]{1,15}", re.ASCII)
# Raises where a number has to be rounded; the usual context would round after 28 digits and say nothing.
_EXACT = Context(prec=2 * _MAX_DIGITS, traps=[Inexact])

# What stands for an amount and for a currency that are present but cannot be read: they match none of ours, so that a
# person looks at the refund. None would count as "not said", and the rest of the answer would be believed.
NO_AMOUNT = -1
NO_CURRENCY = "?"

# Nothing can be concluded from these, whatever the body says: a proxy may have answered, or the provider half-way.
AMBIGUOUS_STATUS = frozenset({408, 409, 425, 429}) | frozenset(range(500, 600)) | frozenset(range(300, 400))


def post(url: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> httpx.Request:
    """A POST of exactly these bytes; members that are None are left out, Decimals are written as JSON numbers."""
    content = _encoder.encode({key: value for key, value in body.items() if value is not None})
    given = {"Content-Type": "application/json", **(headers or {})}

    return Request("POST", url, given.items(), content)


def get(url: str, headers: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None) -> httpx.Request:
    """A GET."""
    return httpx.Request("GET", url, headers=dict(headers or {}), params=dict(params) if params else None)


def json_object(content: bytes) -> dict[str, Any] | None:
    """The body as a JSON object with exact decimals, or None if it is anything else."""
    try:
        value = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError, ValueError):
        return None

    return value if isinstance(value, dict) else None


def text(value: object, limit: int = 255) -> str | None:
    """A provider's value as a short text of ours; None and containers are None."""
    if isinstance(value, str):
        return value[:limit]
    if isinstance(value, int) and abs(value) < _HUGE:
        return str(value)
    if isinstance(value, Decimal):
        return str(value)[:limit]

    return None


def integer(value: object) -> int | None:
    """An integer that came as a number or as digits; anything else is None."""
    if isinstance(value, bool):
        return None
    number = decimal(value)
    if number is None or number != number.to_integral_value() or (isinstance(value, str) and "." in value):
        return None

    return int(number)


def decimal(value: object) -> Decimal | None:
    """A decimal that came as a number or as text; anything else is None."""
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    if isinstance(value, int) and abs(value) >= _HUGE:
        return None
    number = Decimal(value)

    return number if number.is_finite() and (number == 0 or abs(number.adjusted()) <= _MAX_DIGITS) else None


def minor(value: object, digits: int) -> int | None:
    """A major-unit amount, number or text, as minor units of `digits` decimals. Never raises.

    None where it is absent (null); NO_AMOUNT where it is no number, or has a fraction of a minor unit.
    """
    if value is None:
        return None
    number = decimal(value)
    if number is None:
        return NO_AMOUNT
    try:
        scaled = number.scaleb(digits, _EXACT)
    except Inexact:
        return NO_AMOUNT

    return int(scaled) if scaled == scaled.to_integral_value() else NO_AMOUNT


def major_amount(value: object, code: str | None) -> int | None:
    """An amount in major units of the currency `code`, number or text, as ISO minor units. Never raises.

    None where the amount is absent; NO_AMOUNT where it cannot be read, in that currency or at all.
    """
    if value is None:
        return None

    return minor(value, EXPONENTS[code]) if code in EXPONENTS else NO_AMOUNT


def minor_amount(value: object, code: str | None, decimals: int | None = None) -> int | None:
    """An amount in the provider's smallest unit of the currency `code`, a whole number, as ISO minor units.

    `decimals`: how many the provider counts, None for those of ISO 4217. None where the amount is absent; NO_AMOUNT
    where it cannot be read, as a text or a fraction, or is none of ours. Never raises.
    """
    if value is None:
        return None
    number = None if isinstance(value, str) else integer(value)
    if number is None or abs(number) > MAX_MINOR or code not in EXPONENTS:
        return NO_AMOUNT

    return minor(to_major(number, code, decimals=decimals), exponent(code))


def currency(value: object) -> str | None:
    """A currency as the provider writes it: None where it is absent (null), NO_CURRENCY where it is no word."""
    return None if value is None else text(value, 8) or NO_CURRENCY


def retry_after(response: httpx.Response) -> float | None:
    """Seconds of a `Retry-After` header, bounded to an hour; dates and nonsense are None."""
    value = response.headers.get("retry-after", "")

    return min(float(value), 3600.0) if _SECONDS.fullmatch(value) else None


def stamp(value: str) -> int | None:
    """A time stamp of seconds or milliseconds; what is not up to 15 ASCII digits is None."""
    return int(value) if _STAMP.fullmatch(value) else None


def octets(value: str) -> bytes:
    """A header's value for a comparison of bytes; half a character in it, which UTF-8 has not, raises nothing."""
    return value.encode(errors="surrogatepass")


def matches(given: bytes, expected: Iterable[str]) -> bool:
    """Whether one of the signatures is the given one; how long that takes tells nothing of what would have been."""
    return any(hmac.compare_digest(given, each.encode()) for each in expected)


def verdict(word: str | None) -> Verdict | None:
    """What an adapter's word for a status says of a refund; one that is neither yes, no nor under way says nothing."""
    return Verdict(word) if word in tuple(Verdict) else None


def unreadable(response: httpx.Response) -> Unknown:
    """The outcome of an answer that cannot be understood."""
    kind = response.headers.get("content-type", "no content type").split(";")[0]

    return Unknown(reason=f"HTTP {response.status_code} with an unreadable body ({kind})")


def ambiguous(response: httpx.Response) -> Unknown:
    """The outcome of a status that proves nothing."""
    return Unknown(reason=f"HTTP {response.status_code}")


def drive(conversation: Conversation | Question, answer: Callable[[httpx.Request], httpx.Response]) -> Outcome:
    """Run a conversation to its end with `answer` as the network: for tests and tools."""
    response: httpx.Response | None = None
    while True:
        try:
            step: Ask | Move = next(conversation) if response is None else conversation.send(response)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        response = answer(step.request)
