"""Times as people write and read them."""

import time

import typer

from config.values import parse_duration
from domain.money import to_major
from domain.words import ago


def duration(text: str) -> float:
    """Seconds of "30m" or "24h". Raises BadParameter."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"expected {error}") from None


def since(moment: float | None) -> str:
    """How long ago an epoch time is, or how far ahead."""
    if moment is None:
        return ""
    gone = time.time() - moment

    return ago(gone) if gone >= 0 else f"in {ago(-gone)}"


def money(amount: int | None, currency: str | None) -> str:
    """`12.50 EUR`; what is not known yet is said to be everything."""
    if amount is None or currency is None:
        return "the rest"

    return f"{to_major(amount, currency)} {currency}"
