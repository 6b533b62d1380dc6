"""Durations counted in classes: what adds up over minutes and accounts, and still tells a median."""

from collections.abc import Mapping
from itertools import pairwise

#: The upper ends of the classes, in seconds; what took longer is in one more.
BOUNDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
_ENDS = list(pairwise((0.0, *BOUNDS, BOUNDS[-1])))


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """Below how many seconds that share of what was counted by class lies, as if each class was evenly filled."""
    wanted = share * sum(counts.values())
    seen = 0
    for place, (low, high) in enumerate(_ENDS):
        count = counts.get(place, 0)
        if count and seen + count >= wanted:
            return low + (high - low) * max(0.0, wanted - seen) / count
        seen += count

    return None
