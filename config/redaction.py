"""What a log line must not say: secrets, bank details, cards, e-mail addresses, whole documents."""

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from uuid import UUID

from structlog.typing import EventDict, WrappedLogger

from domain.private import without_cards, without_ibans

MASK = "[redacted]"
#: Under these keys words are shown, cleaned; under any other only their type. Numbers may stand anywhere.
SHOWN = frozenset(
    {
        *("event", "level", "timestamp", "logger", "exception", "stack", "exception_type"),
        *("account", "accounts", "provider", "endpoint", "lane", "loop", "source", "queue", "queues", "worker", "task"),
        *("refund_id", "id", "ids", "delivery_id", "order_id", "handle", "idempotency_key", "key", "payment"),
        *("reference", "request", "request_id", "trace_id", "span_id", "traceparent", "method", "route", "path", "url"),
        *("actor", "alert", "at", "cause", "code", "error", "fault", "faults", "kind", "name", "note", "outcome"),
        *("operation", "reason", "signal", "state", "states", "status", "version", "what", "why"),
    }
)
#: Keys whose values may be tables or lists; anywhere else these are left out.
NESTED = frozenset({"accounts", "counts", "faults", "outcomes", "queues", "states"})
#: Keys whose values may be long; anywhere else the tail is cut.
LONG = frozenset({"event", "exception", "faults", "stack"})
_SHORT_LENGTH = 256
_LONG_LENGTH = 16_384

_SECRET_KEY = re.compile(
    r"secret|passw|token|authori[sz]ation|credential|signature|cookie|bearer"
    r"|(api|private|encryption|index|merchant|authentication)_?key"
    r"|e?mail|phone|(first|last|full)_?name|holder|address|document"
    r"|iban|\bbic\b|bank|sort_?code|account_?(number|type)|agency_?code|\bcard|\bpan\b|cvv|cvc",
    re.IGNORECASE,
)
#: A long number under such a key is an identifier and no card.
_IDENTIFIER_KEY = re.compile(r"(^|_)(id|ids|handle|reference|offset|version|amount)$")
_PATTERNS = (
    (re.compile(r"(://[^/\s:@]*):[^/\s@]+@"), rf"\1:{MASK}@"),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1 {MASK}"),
    # Tried only where a word begins: from each of its letters anew, a long text would take the square of its length.
    (re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+\.[\w.-]*\w"), MASK),
)


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The same line with every value cleaned; keys stay, so that a reader sees that something was there."""
    return {key: clean(key, value) for key, value in event.items()}


def clean(key: str, value: object) -> object:
    """The value as it may be shown under this key."""
    words = not isinstance(value, bool | int | float | Mapping | list | tuple | set | frozenset | None)
    if words and key not in SHOWN and not _is_secret(key):
        return f"[{type(value).__name__}]"

    return _cleaned(key, value)


def _cleaned(key: str, value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return MASK if _is_secret(key) and value not in (None, True, False) else value
    if _is_secret(key):
        return MASK
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _nested(key, value) if key in NESTED else f"[{type(value).__name__}]"
    return _text(key, value)


def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _nested(key: str, value: object) -> object:
    if isinstance(value, Mapping):
        return {str(inner): _inner(str(inner), item) for inner, item in value.items()}
    assert isinstance(value, list | tuple | set | frozenset)
    return [_inner(key, item) for item in value]


def _inner(key: str, value: object) -> object:
    """Inside an allowed value further tables and words are allowed too."""
    if isinstance(value, Mapping | list | tuple | set | frozenset) and not _is_secret(key):
        return _nested(key, value)
    return _cleaned(key, value)


def _text(key: str, value: object) -> str:
    if isinstance(value, Enum):
        value = value.value
    if not isinstance(value, str | date | UUID | Decimal | PurePath | BaseException):
        return f"[{type(value).__name__}]"  # its repr may say anything
    text = str(value)
    limit = _LONG_LENGTH if key in LONG else _SHORT_LENGTH
    cut = text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
    return _masked(cut, identifier=_IDENTIFIER_KEY.search(key) is not None)


def _masked(text: str, *, identifier: bool) -> str:
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    text = without_ibans(text, MASK)
    return text if identifier else without_cards(text, MASK)
