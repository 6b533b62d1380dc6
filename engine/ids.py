"""Identifiers that sort by time of making."""

import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str, now: float, entropy: bytes | None = None) -> str:
    """`prefix_` and 26 characters: 48 bits of milliseconds, 80 bits of chance."""
    number = int(now * 1000) << 80 | int.from_bytes(entropy or secrets.token_bytes(10))

    return prefix + "_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def first_id(prefix: str, moment: float) -> str:
    """The smallest id that can be made at `moment`."""
    return new_id(prefix, moment, bytes(10))
