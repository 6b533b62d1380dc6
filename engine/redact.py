"""Provider answers as evidence: kept, without what nobody needs to see."""

import re
from functools import lru_cache
from typing import Any

import httpx
import msgspec

from domain.private import MASK, masked, without_emails, without_ibans

MAX_KEPT = 4096
#: Bytes that are kept of what is not JSON.
HEAD = 256
#: Lists and objects in a body that is taken apart: more are millions of steps, and nobody's answer.
MAX_PARTS = 4096
#: Letters in a member's name; what is longer is nobody's name for anything, and is not remembered.
_MAX_NAME = 64
# Members of the providers' answers that carry people's or banks' data, by the words in their names.
_PRIVATE = re.compile(
    r"mail|phone|bank.?(name|account)|^name$|(first|last|full|given|family).?name|surname|customer(?!.?id)|holder|iban|swift|bic$|branch"
    r"|account.?number|sort.?code|agency|security.?number|birth|document|address|street|card.?number|\bpan\b|secret"
    r"|token|authorization|signature",
    re.IGNORECASE,
)
# The same in what cannot be taken apart: members as they stand in JSON, long numbers.
_MEMBER = re.compile(r'"([^"\\]*)"\s*:\s*("(?:[^"\\]|\\.)*"?|[^\s",\[\]{}]+)')
_NUMBER = re.compile(r"\d(?:[ -]?\d){7,}")


def redacted(answer: httpx.Response) -> bytes:
    """At most 4 KiB of the answer; private members are masked, and of what is not JSON only the head is kept."""
    return redacted_body(answer.content)


def redacted_body(content: bytes, most: int = MAX_KEPT) -> bytes:
    """The same of a body alone, and at most so much of it."""
    if content.count(b"[") + content.count(b"{") > MAX_PARTS:
        return redacted_head(content)
    try:
        return msgspec.json.encode(_masked(msgspec.json.decode(content)))[:most]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return redacted_head(content)


def redacted_head(content: bytes, most: int = HEAD) -> bytes:
    """At most so much of what is not taken apart, as UTF-8; what looks private is masked."""
    # Twice as much is looked at, so that nothing is cut before it can be recognised.
    text = content[: 2 * most].decode("utf-8", "replace")
    text = _MEMBER.sub(_masked_member, text)

    return _NUMBER.sub(MASK, without_ibans(without_emails(text, MASK), MASK)).encode()[:most]


def _masked_member(match: re.Match[str]) -> str:
    return f'"{match[1]}":"{MASK}"' if _is_private(match[1]) else match[0]


def _is_private(name: str) -> bool:
    return len(name) > _MAX_NAME or _sounds_private(name)


@lru_cache(maxsize=1024)
def _sounds_private(name: str) -> bool:
    return _PRIVATE.search(name) is not None


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: MASK if inner is not None and _is_private(key) else _masked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    if isinstance(value, str):
        return masked(value)

    return value
