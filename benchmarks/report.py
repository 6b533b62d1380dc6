"""The table on the terminal; the pages and charts in the documentation, made of docs/performance.json and nothing else.

python -m benchmarks.report     makes them again without measuring
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import scaling
from benchmarks.environments import NotInstalled, python_of
from benchmarks.measured import Spread

DATA = Path("docs/performance.json")
PAGE = Path("docs/performance.md")
SCALING = Path("docs/scaling.md")
CHARTS = Path("docs/charts")
OPENING = (
    "Made of `performance.json`, which `make bench` and `make bench-full` write; do not edit. Each figure is the "
    "median of some rounds, with the lowest and the highest behind it. The rounds of all sides alternate on one "
    "machine, so ratios count more than absolute figures. `make bench ARGS='--only NAME'` measures one part again."
)
CONDITIONS = (
    "PostgreSQL with `fsync` and `synchronous_commit` on, Redis with its append-only file, a provider that answers "
    "after 50 ms, one refund per payment with the captured amount given."
)
#: The charts: file, caption, and the parts that they are made of, any of which will do.
PICTURES = (
    ("throughput.svg", "Refunds per second on one machine, all processes included", ("throughput", "peers")),
    ("latency.svg", "From commit to provider call, by load and way in", ("ways",)),
    ("growth.svg", "Cost as the ledger grows", ("growth",)),
    ("accounts.svg", "The healthy accounts' throughput beside a hanging and a throttled one", ("accounts",)),
    ("scaling.svg", "The model of docs/scaling.md", ("scaleout",)),
)
Kept = dict[str, Any]


# -- the terminal --------------------------------------------------------------------------------------------------


def show(measured: Mapping[str, Kept], failed: Mapping[str, str]) -> None:
    """Print every figure of this run, the bars last."""
    console = Console()
    for row in _rows(measured):
        console.print(f"{row['what']}: {row['figure']}", highlight=False)
        for name, figure in row["details"].items():
            console.print(f"  {name}: {Spread(**figure)}", highlight=False)
    table = Table("measured", "figure", "bar", "")
    for row in (row for row in _rows(measured) if row["bar"]):
        table.add_row(row["what"], row["figure"], row["bar"], "[green]held[/]" if row["holds"] else "[red]missed[/]")
    console.print(table)
    for name, why in failed.items():
        console.print(f"[red]{name} failed[/]: {why.strip().splitlines()[-1]}", highlight=False)


def missed(measured: Mapping[str, Kept]) -> list[str]:
    """The bars that do not hold."""
    return [row["what"] for row in _rows(measured) if row["holds"] is False]


def _rows(parts: Mapping[str, Kept]) -> Iterator[Kept]:
    return (row for part in parts.values() for row in part["rows"])


# -- the files -----------------------------------------------------------------------------------------------------


def keep(name: str, measured: Kept, data: Path = DATA) -> None:
    """Merge what one part has measured into the data."""
    kept = load(data)
    kept["parts"][name] = measured
    data.parent.mkdir(exist_ok=True)
    draft = data.with_suffix(".new")
    draft.write_text(json.dumps(kept, indent=1) + "\n")
    draft.replace(data)


def load(data: Path = DATA) -> Kept:
    """The data; empty where nothing has been measured."""
    return dict(json.loads(data.read_text())) if data.exists() else {"parts": {}}


def make() -> None:
    """Write pages and charts from the data."""
    kept = load()
    _draw()
    PAGE.write_text(rendered(kept, [name for name, *_ in PICTURES if (CHARTS / name).exists()]))
    if scaling.measured(kept):
        SCALING.write_text(scaling.rendered(kept))


def _draw() -> None:
    try:
        command = [python_of("charts"), "-m", "benchmarks.charts", str(DATA), str(CHARTS)]
        subprocess.run(command, check=True, env={"PYTHONPATH": ".", "PATH": "/usr/bin:/bin"})
    except (NotInstalled, subprocess.CalledProcessError) as error:
        print(f"the charts could not be drawn: {error}", flush=True)


def rendered(kept: Kept, charts: list[str]) -> str:
    """The page."""
    parts = kept["parts"]
    lines = ["# Performance", "", OPENING, "", *_conditions(parts), "", "## The bars", ""]
    lines += ["| measured | figure | bar | |", "|---|---|---|---|"]
    lines += [_bar(row) for row in _rows(parts) if row["bar"]]
    explained: set[str] = set()
    for name, part in parts.items():
        lines += ["", f"## {part['title']}", ""]
        lines += [] if part["how"] in explained else [part["how"], ""]
        explained.add(part["how"])
        for file, caption, _ in (each for each in PICTURES if each[0] in charts and each[2][0] == name):
            lines += [f"![{caption}](charts/{file})", ""]
        lines += [line for row in part["rows"] for line in _table(row)]

    return "\n".join(lines).rstrip() + "\n"


def _conditions(parts: Mapping[str, Kept]) -> list[str]:
    """The machine; where parts were measured on different ones, each with its parts."""
    machines: dict[str, list[str]] = {}
    for name, part in parts.items():
        machines.setdefault(_machine(part["machine"]), []).append(name)
    told = [
        f"Measured on {each}." if len(machines) == 1 else f"{', '.join(names)}: measured on {each}."
        for each, names in machines.items()
    ]

    return [*told, CONDITIONS]


def _machine(about: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    memory = f", {about['memory']}" if "memory" in about else ""

    return (
        f"{about['cores']} cores ({about['cpu']}){memory}, {about['kernel']}, Python {about['python']}, "
        f"SQLite {about['sqlite']}; {packages}"
    )


def _bar(row: Kept) -> str:
    return f"| {row['what']} | {row['figure']} | {row['bar']} | {'held' if row['holds'] else '**missed**'} |"


def _table(row: Kept) -> list[str]:
    lines = [f"**{row['what'][0].upper()}{row['what'][1:]}**: {row['figure']}", ""]
    if row["details"]:
        lines += ["| | median (lowest to highest) |", "|---|---|"]
        lines += [f"| {name} | {Spread(**figure)} |" for name, figure in row["details"].items()]
        lines += [""]

    return [*lines, *(part for note in row["notes"] for part in (note, ""))]


if __name__ == "__main__":
    make()
