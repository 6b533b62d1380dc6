"""New identifiers, which sort by time of making."""

import secrets

from domain.ids import made_of


def new_id(prefix: str, now: float, entropy: bytes | None = None) -> str:
    """`prefix_` and 26 characters, by the time and by chance."""
    return made_of(prefix, now, entropy or secrets.token_bytes(10))
