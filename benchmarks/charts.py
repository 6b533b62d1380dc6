"""The charts of docs/: SVG from docs/performance.json, the same bytes for the same data, legible on light and dark.

    python -m benchmarks.charts docs/performance.json docs/charts

Runs in the environment `charts`, which has matplotlib and nothing of the project.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks import scaling

#: Greys and colours that stand out from white and from near-black alike.
INK, FAINT = "#808890", "#80889040"
OURS, OTHERS = "#d9722b", "#4c8fd0"
COLOURS = (OURS, OTHERS, "#3aa37a", "#a678d1", "#c9a227", "#d1637f", "#5fb3b3", "#8c8c5a")
Kept = dict[str, Any]

mpl.rcParams.update(
    {
        "svg.hashsalt": "refundry",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": FAINT,
        "legend.frameon": False,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    }
)


def throughput(kept: Kept, axes: Axes) -> None:
    """A bar for each side, its whiskers from the slowest to the fastest round."""
    rates: dict[str, list[float]] = {}
    for part in ("peers", "throughput"):
        for each in raw(kept, part):
            rates.setdefault(each["side"], []).append(each["wall_rate"])
    named = sorted(rates.items(), key=lambda item: median(item[1]))
    middles = [median(values) for _, values in named]
    ends = [
        [middle - min(values) for middle, (_, values) in zip(middles, named, strict=True)],
        [max(values) - middle for middle, (_, values) in zip(middles, named, strict=True)],
    ]
    colours = [OURS if name == "refundry" else INK if "no-op" in name else OTHERS for name, _ in named]
    axes.barh([name for name, _ in named], middles, color=colours, xerr=ends, ecolor=INK)
    axes.set_xlabel("refunds (no-op: empty messages) per second")
    axes.grid(visible=False, axis="y")


def latency(kept: Kept, axes: Axes) -> None:
    """The median and the 99th percentile of each way in, by load."""
    rows = [each for each in raw(kept, "ways") if each["since"] == "call"]
    loads, ways = unique(rows, "load"), unique(rows, "way")
    for colour, way in zip(COLOURS, ways, strict=False):
        for percent, style in ((50, "-"), (99, ":")):
            values = [
                median([e["ms"] for e in rows if (e["way"], e["load"], e["p"]) == (way, load, percent)])
                for load in loads
            ]
            axes.plot(loads, values, style, marker="o", color=colour, label=f"{way}, p{percent}")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylabel("ms from commit to provider call")
    axes.legend(ncols=len(ways), loc="upper left", fontsize=9)


def growth(kept: Kept, axes: Axes) -> None:
    """Each cost at each size, over its cost at the smallest."""
    rows = raw(kept, "growth")
    sizes = unique(rows, "rows")
    for number, what in enumerate(unique(rows, "what")):
        colour, style = COLOURS[number % len(COLOURS)], "-" if number < len(COLOURS) else ":"
        costs = [median([e["ms"] for e in rows if (e["what"], e["rows"]) == (what, size)]) for size in sizes]
        axes.plot(sizes, [cost / costs[0] for cost in costs], style, marker="o", color=colour, label=what)
    axes.axhline(1.2, color=INK, linestyle="--", linewidth=1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("refunds in the ledger")
    axes.set_ylabel(f"cost, {sizes[0]} = 1")
    axes.legend(ncols=2, fontsize=9, loc="lower left")


def accounts(kept: Kept, axes: Axes) -> None:
    """The healthy accounts' rate, with and without the ill ones."""
    rows = raw(kept, "accounts")
    counts = unique(rows, "accounts")
    for ill, label, colour in ((0, "alone", OTHERS), (1, "beside a hanging and a throttled one", OURS)):
        values = [median([e["rate"] for e in rows if (e["accounts"], e["ill"]) == (count, ill)]) for count in counts]
        axes.plot([f"{count}" for count in counts], values, marker="o", color=colour, label=label)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("healthy accounts")
    axes.set_ylabel("their refunds per second")
    axes.legend()


def scaled(kept: Kept, axes: Axes) -> None:
    """The model's rate by machines, and the nearer ceilings of what is shared."""
    plant = scaling.plant_of(kept)
    curve = scaling.curve(plant)
    top = max(curve.values())
    axes.plot(list(curve), list(curve.values()), marker="o", color=OURS, label="refunds per second")
    for colour, station in zip(COLOURS[1:], plant.stations()[1:], strict=False):
        if station.capacity < 3 * top:
            axes.axhline(station.capacity, color=colour, linestyle="--", label=f"{station.name} full")
    axes.set_xscale("log")
    axes.set_xticks(list(curve), [str(count) for count in curve])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("worker machines")
    axes.legend(fontsize=9)


def raw(kept: Kept, part: str) -> list[Kept]:
    """Every round of a part."""
    return [each for row in kept["parts"].get(part, {"rows": []})["rows"] for each in row["raw"]]


def unique(rows: list[Kept], name: str) -> list[Any]:
    """The values of a column, in the order in which they come."""
    return list(dict.fromkeys(row[name] for row in rows))


def median(values: list[float]) -> float:
    """The middle of an odd number of values, the mean of the two in the middle of an even one."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


#: File, what draws it, the parts that it needs, size in inches.
CHARTS: tuple[tuple[str, Callable[[Kept, Axes], None], tuple[str, ...], tuple[float, float]], ...] = (
    ("throughput.svg", throughput, ("throughput",), (8, 5)),
    ("latency.svg", latency, ("ways",), (8, 4)),
    ("growth.svg", growth, ("growth",), (8, 5)),
    ("accounts.svg", accounts, ("accounts",), (8, 4)),
    ("scaling.svg", scaled, ("scaleout", "limits"), (8, 4.5)),
)


def main() -> None:
    """Draw what the data have."""
    kept = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw, parts, size in CHARTS:
        if not all(raw(kept, part) for part in parts if part != "limits") or not set(parts) <= set(kept["parts"]):
            continue
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        draw(kept, axes)
        figure.savefig(folder / name, transparent=True, metadata={"Date": None, "Creator": None})
        plt.close(figure)


if __name__ == "__main__":
    main()
