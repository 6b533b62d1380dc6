"""Small questions about values that arrived as JSON."""

import re
from decimal import Decimal
from typing import TypeGuard

PLACES = 18


def is_text(value: object, low: int = 0, high: int | None = None) -> TypeGuard[str]:
    """A string of `low` to `high` characters."""
    return isinstance(value, str) and len(value) >= low and (high is None or len(value) <= high)


def is_match(value: object, pattern: re.Pattern[str]) -> TypeGuard[str]:
    """A string that matches as a whole."""
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def is_integer(value: object, low: int | None = None) -> TypeGuard[int]:
    """An integer (true and false are none), at least `low`."""
    return isinstance(value, int) and not isinstance(value, bool) and (low is None or value >= low)


def exact_number(value: object) -> Decimal | None:
    """A JSON number as Decimal; None for anything else, and for the absurdly long."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)

    return number if abs(number.adjusted()) <= PLACES and len(number.as_tuple().digits) <= PLACES else None


def is_texts(value: object) -> TypeGuard[list[str]]:
    """A list of strings."""
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
