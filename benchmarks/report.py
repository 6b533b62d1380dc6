"""The table on the terminal, and the page in the documentation."""

import json
import platform
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measured import Row, Spread

DATA = Path("docs/performance.json")
PAGE = Path("docs/performance.md")
OPENING = (
    "Written by `make bench` from `performance.json`; do not edit. Each figure is the median of some rounds, with the "
    "lowest and the highest behind it. The rounds of all sides alternate on one machine, so ratios count more than "
    "absolute figures."
)
CONDITIONS = (
    "PostgreSQL with `fsync` and `synchronous_commit` on, Redis with its append-only file, a provider that answers "
    "after 50 ms, one refund per payment with the captured amount given."
)
PACKAGES = ("celery", "kombu", "redis", "sqlalchemy", "psycopg", "aiohttp", "uvloop")


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    table = Table("measured", "figure", "bar", "")
    for row in rows:
        table.add_row(row.what, row.figure, row.bar, "[green]holds[/]" if row.holds else "[red]missed[/]")
    console = Console()
    console.print(table)
    for row in rows:
        for name, figure in row.details.items():
            console.print(f"  {name}: {figure}", highlight=False)


def write(rows: Sequence[Row], *, data: Path = DATA, page: Path = PAGE) -> None:
    """Keep the figures, and the page made of them."""
    kept = {"machine": machine(), "rows": [asdict(row) for row in rows]}
    data.parent.mkdir(exist_ok=True)
    data.write_text(json.dumps(kept, indent=2) + "\n")
    page.write_text(rendered(kept))


def machine() -> dict[str, Any]:
    """What the figures were taken on; nothing that names the machine."""
    return {
        "cores": len(cores := processors()),
        "cpu": cores[0] if cores else platform.machine(),
        "kernel": f"{platform.system()} {kernel(platform.release())}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: version(name) for name in PACKAGES},
    }


def processors() -> list[str]:
    """The model of each processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]


def kernel(release: str) -> str:
    """The version's numbers; what a builder appended to them stays out."""
    found = re.match(r"[0-9]+(\.[0-9]+)*", release)
    return found[0] if found else ""


def rendered(kept: dict[str, Any]) -> str:
    """The page, from what was kept."""
    about = kept["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    lines = [
        "# Performance",
        "",
        OPENING,
        "",
        f"Measured on {about['cores']} cores ({about['cpu']}), {about['kernel']}, Python {about['python']}.",
        f"{CONDITIONS} Packages: {packages}.",
        "",
        "| measured | figure | bar | |",
        "|---|---|---|---|",
        *(f"| {row['what']} | {row['figure']} | {row['bar']} | {_word(row)} |" for row in kept["rows"]),
    ]
    for row in kept["rows"]:
        lines += [
            "",
            f"## {row['what'][0].upper()}{row['what'][1:]}",
            "",
            "| | median (lowest to highest) |",
            "|---|---|",
        ]
        lines += [f"| {name} | {Spread(**figure)} |" for name, figure in row["details"].items()]
        lines += ["", *row["notes"]] if row["notes"] else []

    return "\n".join(lines) + "\n"


def _word(row: dict[str, Any]) -> str:
    return "holds" if row["holds"] else "**missed**"
