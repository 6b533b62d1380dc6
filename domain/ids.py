"""How identifiers are written: they sort by the time of their making."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def made_of(prefix: str, moment: float, chance: bytes) -> str:
    """`prefix_` and 26 characters: 48 bits of milliseconds, 80 bits of chance."""
    number = int(moment * 1000) << 80 | int.from_bytes(chance)

    return prefix + "_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def first_id(prefix: str, moment: float) -> str:
    """The smallest id that can be made at `moment`."""
    return made_of(prefix, max(0.0, moment), bytes(10))
