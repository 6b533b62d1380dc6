"""Provider answers as evidence: kept, without what nobody needs to see."""

import re
from functools import lru_cache
from typing import Any

import httpx
import msgspec

MAX_KEPT = 4096
MASK = "***"
# Members of the providers' answers that carry people's or banks' data, by the words in their names.
_PRIVATE = re.compile(
    r"mail|phone|first.?name|last.?name|customer(?!.?id)|holder|iban|swift|bic$|account.?number|branch|sort.?code|agency"
    r"|security.?number|birth|document|address|street|card.?number|\bpan\b|secret|token|authorization|signature",
    re.IGNORECASE,
)


def redacted(answer: httpx.Response) -> bytes:
    """At most 4 KiB of the answer; private members are masked, and of what is not JSON only the head is kept."""
    return redacted_body(answer.content)


def redacted_body(content: bytes, most: int = MAX_KEPT) -> bytes:
    """The same of a body alone, and at most so much of it."""
    try:
        return msgspec.json.encode(_masked(msgspec.json.decode(content)))[:most]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return content[:256]


@lru_cache(maxsize=1024)
def _is_private(name: str) -> bool:
    return _PRIVATE.search(name) is not None


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: MASK if inner is not None and _is_private(key) else _masked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner) for inner in value]

    return value
