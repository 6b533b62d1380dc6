"""What a measurement answers: figures with their spread, and how they stand to the bar."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: what was measured, its figure, the bar, and whether it holds.

    `bar` and `holds`: None for what has no bar. `details`: the figures behind it, each a median with the lowest and the
    highest of its rounds. `raw`: every round as it was measured.
    """

    what: str
    figure: str
    bar: str | None = None
    holds: bool | None = None
    details: Mapping[str, "Spread"] = field(default_factory=dict)
    notes: Sequence[str] = ()
    raw: Sequence[Mapping[str, float | str]] = ()


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, and their ends."""

    median: float
    low: float
    high: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{short(self.median)} {self.unit}".rstrip() + f" ({short(self.low)} to {short(self.high)})"


def spread(values: Sequence[float], unit: str = "") -> Spread:
    """The median of the values, and their ends."""
    return Spread(statistics.median(values), min(values), max(values), unit)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def short(value: float) -> str:
    """Three figures that mean something."""
    if value == 0 or abs(value) >= 100:  # noqa: PLR2004 - three digits
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
