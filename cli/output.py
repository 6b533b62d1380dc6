"""Results on stdout in the format that was asked for; a pipe never changes it."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from rich import box
from rich.console import Console, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from domain.words import harmless

Row = Mapping[str, Any]
Columns = Mapping[str, Callable[[Row], Any]]
WIDE = 160
#: Members whose own members differ from row to row: one column of JSON.
WHOLE = frozenset({"metadata", "customer", "bank_account", "data", "details"})
#: Columns whose words are copied, so that they stand in one line.
UNBROKEN = frozenset({"Id", "Refund", "Request", "Amount"})
JUSTIFIED: Mapping[str, JustifyMethod] = {"Amount": "right", "Count": "right"}


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


class Printer:
    """Writes one command's results."""

    def __init__(self, chosen: Format) -> None:
        self.format = chosen
        self.console = make_console()

    @property
    def for_people(self) -> bool:
        """Whether tables and sentences are wanted."""
        return self.format is Format.TABLE

    def rows(
        self,
        rows: Iterable[Row],
        columns: Columns,
        *,
        empty: str,
        title: str | None = None,
        csv_like: Row | None = None,
    ) -> int:
        """A list; answers how many. Tables show `columns`, the other formats every member.

        `csv_like`: a row whose members give CSV its columns, where the first row may lack some.
        """
        match self.format:
            case Format.TABLE:
                return self._table(rows, columns, empty, title)
            case Format.JSON:
                return _json(rows)
            case Format.JSONL:
                return _jsonl(rows)
            case Format.CSV:
                return _csv(rows, csv_like)

    def one(self, value: Row, shown: Callable[[], Iterable[RenderableType]]) -> None:
        """One thing; `shown` gives what people see of it."""
        if self.for_people:
            for part in shown():
                self.console.print(part, soft_wrap=isinstance(part, str | Text), highlight=False)
        elif self.format is Format.JSON:
            write(dumps(value, indent=2))
        else:
            self.rows([value], {}, empty="")

    def say(self, words: str, **members: Any) -> None:
        """What was done: a sentence for people, `members` for programs."""
        self.one(members, lambda: [Text(words)])

    def _table(self, rows: Iterable[Row], columns: Columns, empty: str, title: str | None) -> int:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, title=title, title_justify="left", pad_edge=False)
        for name in columns:
            table.add_column(name, overflow="fold", no_wrap=name in UNBROKEN, justify=JUSTIFIED.get(name, "left"))
        count = 0
        for count, row in enumerate(rows, 1):  # noqa: B007 - the count is what is wanted
            table.add_row(*(Text(_cell(show(row))) for show in columns.values()))
        self.console.print(table if count else Text(empty))

        return count


def make_console(*, stderr: bool = False) -> Console:
    """A console that is wide where nobody looks at it; NO_COLOR is Rich's own habit."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDE

    return Console(file=stream, width=width)


def write(text: str) -> None:
    """One line of machine-readable output."""
    sys.stdout.write(text + "\n")


def dumps(value: Any, *, indent: int | None = None) -> str:
    """JSON with the members in their own order."""
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _json(rows: Iterable[Row]) -> int:
    """An array, written as its members come."""
    count = 0
    for count, row in enumerate(rows, 1):
        sys.stdout.write(("[\n" if count == 1 else ",\n") + dumps(row))
    write("\n]" if count else "[]")

    return count


def _jsonl(rows: Iterable[Row]) -> int:
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007
        write(dumps(row))

    return count


def _csv(rows: Iterable[Row], like: Row | None) -> int:
    """Nested members get dotted names, lists are JSON; what a spreadsheet would run as a formula gets an apostrophe."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names: Sequence[str] = list(dict(_flat(like))) if like is not None else ()
    count = 0
    for count, row in enumerate(rows, 1):
        flat = dict(_flat(row))
        if count == 1:
            names = names or list(flat)
            writer.writerow(names)
        writer.writerow([harmless(flat.get(name)) for name in names])
    if count == 0 and names:
        writer.writerow(names)

    return count


def _flat(row: Row, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping) and value and name not in WHOLE:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", dumps(value) if isinstance(value, Mapping | list | tuple) else value
