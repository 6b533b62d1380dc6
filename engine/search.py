"""The search box: words and `name:value` parts in, what the ledger filters by out."""

import shlex
from dataclasses import replace
from typing import Any

from domain.errors import FieldError, InvalidJob
from domain.state import State
from ledger.queries import Filter
from ledger.vault import Vault

LISTS = {
    "state": "states",
    "account": "accounts",
    "provider": "providers",
    "cause": "causes",
    "failure": "failure_codes",
}
TEXTS = {"ref": "reference", "payment": "payment_id", "order": "order_id", "assignee": "assignee"}
HASHED = {"email": "email_hash", "name": "name_hash", "customer": "customer_hash"}
NAMES = (*LISTS, *TEXTS, *HASHED)


def parse(words: str, vault: Vault, narrowed: Filter | None = None) -> Filter:
    """`order:123 state:review lin@example.com`; a bare word is any kind of id, an e-mail address, a name.

    Words without any `name:` are one text, such as a full name.
    The same name twice means either; different ones mean both. Raises InvalidJob naming the part that is wrong.
    """
    wanted = narrowed or Filter()
    for part in _split(words):
        name, colon, value = part.partition(":")
        wanted = _narrowed(wanted, name, value, vault) if colon and value else _any(wanted, part, vault)

    return wanted


def names_people(words: str) -> bool:
    """Whether a query may hold a customer's name, address or reference."""
    parts = (part.partition(":") for part in _split(words))

    return any(not (colon and value) or name in HASHED for name, colon, value in parts)


def written(**parts: str) -> str:
    """The query that `parse` reads these parts from; empty ones are left out."""
    return shlex.join(f"{name}:{value}" for name, value in parts.items() if value)


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
        change = {LISTS[name]: (*getattr(wanted, LISTS[name]), value)}
    elif name in TEXTS:
        change = {TEXTS[name]: value}
    elif name in HASHED:
        change = {HASHED[name]: vault.index(name, value)}
    else:
        raise _wrong(f"{name}:{value}", f"there is no {name!r}; there are {', '.join(NAMES)}")

    return replace(wanted, **change)


def _any(wanted: Filter, word: str, vault: Vault) -> Filter:
    if "@" in word:
        return replace(wanted, email_hash=vault.index("email", word))

    found = tuple(digest for kind in ("name", "customer") if (digest := vault.index(kind, word)) is not None)

    return replace(wanted, anything=(*wanted.anything, word), hashes={**wanted.hashes, word: found})


def _wrong(part: str, why: str) -> InvalidJob:
    return InvalidJob(FieldError("#/query", f"{part[:80]!r}: {why}", "query-invalid"), code="query-invalid")
