"""The search box: words and `name:value` parts in, what the ledger filters by out."""

import math
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from domain.errors import FieldError, InvalidJob
from domain.money import EXPONENTS
from domain.private import masked
from domain.state import State
from ledger.queries import AmountRange, Filter
from ledger.vault import Vault

T = TypeVar("T")

LISTS = {
    "state": "states",
    "account": "accounts",
    "provider": "providers",
    "cause": "causes",
    "failure": "failure_codes",
    "currency": "currencies",
}
TEXTS = {"ref": "reference", "payment": "payment_id", "order": "order_id", "assignee": "assignee"}
HASHED = {"email": "email_hash", "name": "name_hash", "customer": "customer_hash"}
SPANS = ("amount", "created", "attempts")
NAMES = (*LISTS, *TEXTS, *HASHED, *SPANS)


def parse(words: str, vault: Vault, narrowed: Filter | None = None) -> Filter:
    """`order:123 state:review lin@example.com`; a bare word is any kind of id, an e-mail address, a name.

    Words without any `name:` are one text, such as a full name. Different names mean both. The same name twice means
    either where it is a list (state, account, provider, cause, failure, currency), else the last one counts.
    Raises InvalidJob naming the part that is wrong.
    """
    if "\x00" in words:
        raise _wrong(words, "no text has such a sign")
    wanted = narrowed or Filter()
    for part in _split(words):
        name, colon, value = part.partition(":")
        wanted = _narrowed(wanted, name, value, vault) if colon and value else _any(wanted, part, vault)

    return wanted


def names_people(words: str) -> bool:
    """Whether a query may hold a customer's name, address or reference, as far as that can be seen."""
    parts = (part.partition(":") for part in _split(words))

    return masked(words) != words or any(not (colon and value) or name in HASHED for name, colon, value in parts)


def written(**parts: str | Sequence[str]) -> str:
    """The query that `parse` reads these parts from, several values of a name too; empty ones are left out."""
    listed = {name: [given] if isinstance(given, str) else given for name, given in parts.items()}

    return shlex.join(f"{name}:{value}" for name, values in listed.items() for value in values if value)


def _split(words: str) -> list[str]:
    if not any(mark in words for mark in ":\"'"):
        return [words.strip()] if words.strip() else []
    try:
        return shlex.split(words)
    except ValueError as error:
        raise _wrong(words, str(error).lower()) from None


def _narrowed(wanted: Filter, name: str, value: str, vault: Vault) -> Filter:
    change: dict[str, Any]
    if name in LISTS:
        if name == "state" and value not in set(State):
            raise _wrong(f"{name}:{value}", f"there is no such state; there are {', '.join(State)}")
        value = value.upper() if name == "currency" else value
        change = {LISTS[name]: (*getattr(wanted, LISTS[name]), value)}
    elif name in TEXTS:
        change = {TEXTS[name]: value}
    elif name in HASHED:
        change = {HASHED[name]: vault.index(name, value)}
    elif name == "created":
        after, before = _span(f"{name}:{value}", value, _day)
        change = {"created_after": after or wanted.created_after, "created_before": before or wanted.created_before}
    elif name == "attempts":
        change = {"attempts": _span(f"{name}:{value}", value, _whole)}
    elif name == "amount":
        change = {"amounts": tuple(_amounts(value))}
    else:
        raise _wrong(f"{name}:{value}", f"there is no {name!r}; there are {', '.join(NAMES)}")

    return replace(wanted, **change)


_SIGNED = re.compile(r"(>=|<=|>|<)(.+)")


def _span(part: str, value: str, read: Callable[[str], tuple[T, T]]) -> tuple[T | None, T | None]:
    """From what on and below what: `5`, `>5`, `<=5`, `5..9`, `5..`, `..9`. `read`: where a value begins and ends."""
    try:
        if signed := _SIGNED.fullmatch(value):
            begins, ends = read(signed[2])
            return {">": (ends, None), ">=": (begins, None), "<": (None, begins), "<=": (None, ends)}[signed[1]]
        low, to, high = value.partition("..")
        first = read(low) if low else None
        last = read(high) if high else first if not to else None
    except (ValueError, ArithmeticError):
        raise _wrong(part, "expected a value, `>` or `<` before one, or two with `..` between them") from None

    return first and first[0], last and last[1]


def _day(text: str) -> tuple[float, float]:
    begins = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)

    return begins.timestamp(), (begins + timedelta(days=1)).timestamp()


def _whole(text: str) -> tuple[int, int]:
    if not _COUNT.fullmatch(text):
        raise ValueError(text)

    return int(text), int(text) + 1


_COUNT = re.compile(r"\d{1,9}", re.ASCII)


def _amounts(value: str) -> Iterator[AmountRange]:
    """As people write amounts; what that is in minor units depends on the currency."""
    for digits in sorted(set(EXPONENTS.values())):

        def read(text: str, digits: int = digits) -> tuple[int, int]:
            if not _AMOUNT.fullmatch(text):
                raise ValueError(text)
            minor = Decimal(text.replace(",", ".")).scaleb(digits)
            return math.ceil(minor), math.floor(minor) + 1

        currencies = tuple(name for name, exponent in EXPONENTS.items() if exponent == digits)
        yield AmountRange(currencies, *_span(f"amount:{value}", value, read))


_AMOUNT = re.compile(r"\d{1,15}([.,]\d{1,4})?", re.ASCII)


def _any(wanted: Filter, word: str, vault: Vault) -> Filter:
    if "@" in word:
        return replace(wanted, email_hash=vault.index("email", word))

    found = tuple(digest for kind in ("name", "customer") if (digest := vault.index(kind, word)) is not None)

    return replace(wanted, anything=(*wanted.anything, word), hashes={**wanted.hashes, word: found})


def _wrong(part: str, why: str) -> InvalidJob:
    return InvalidJob(FieldError("#/query", f"{part[:80]!r}: {why}", "query-invalid"), code="query-invalid")
