"""How far long work has come, on stderr, on a terminal only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.output import make_console


@contextmanager
def counted(total: Callable[[], int | None]) -> Iterator[Callable[[str, int], None]]:
    """A bar over `total` things, asked only where somebody looks; it is told what is at work, and how many more."""
    if not sys.stderr.isatty():
        yield lambda _what, _more: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=make_console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total())
        yield lambda what, more: bar.update(task, description=what, advance=more)
