"""`refundry submit`: files of jobs, good ones in, bad ones reported, none stopped by another."""

import itertools
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from cli.errors import Status, Unusable
from cli.jobs import FileFormat, Line, format_of, read
from cli.output import Row, make_console
from cli.session import Session
from domain.errors import InvalidJob, Refused
from domain.state import State
from engine.people import Actor, Verb
from engine.problems import problem_of
from engine.submit import Receipt, submit_by
from engine.view import refund_view

BATCH = 500
Advance = Callable[[], None]

File = Annotated[str, typer.Argument(metavar="FILE", help="The jobs; - for stdin.")]
How = Annotated[FileFormat | None, typer.Option("--format", help="By default the file's suffix says it, else json.")]
Account = Annotated[str | None, typer.Option("--account", help="For jobs that name none.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Report only; nothing is accepted.")]


def submit_file(
    session: Session, *, file: File, how: How = None, account: Account = None, dry_run: DryRun = False
) -> int | None:
    """Hand in a file of refund jobs.

    JSON (one job or a list), JSON lines, or CSV with a line of names, dotted for nested ones: payment.id. A bad job is
    reported with its line and does not stop the good ones. A job that was accepted before under the same reference is
    the same refund: handing in a file twice pays nothing twice.
    """
    who = session.actor(Verb.CREATE)
    counts: Counter[str] = Counter()
    with _opened(file) as stream, _progress(file, stream) as advance:
        results = _results(session, read(stream, how or format_of(file), account), who, dry_run=dry_run)
        told = _told(session, results, counts, advance)
        if session.out.for_people:
            for _ in told:
                pass
        else:
            session.out.rows(told, {}, empty="", csv_like=CSV_LIKE)
    if session.out.for_people:
        session.out.console.print(_summary(counts, dry_run=dry_run), highlight=False)
    if counts["rejected"]:
        return Status.REFUSED

    return Status.WAITS if counts["waits"] and not dry_run else None


#: Results differ by their kind; CSV wants one set of columns.
CSV_LIKE: dict[str, Any] = {
    "line": None,
    "status": None,
    **{f"refund.{name}": None for name in ("id", "account", "reference", "state", "amount", "currency")},
    **{f"problem.{name}": None for name in ("code", "detail")},
}


def _results(session: Session, lines: Iterator[Line], who: Actor, *, dry_run: bool) -> Iterator[tuple[Line, Receipt]]:
    """Batches of jobs, accepted in one transaction each."""
    while batch := list(itertools.islice(lines, BATCH)):
        bodies = [each.body for each in batch if each.body is not None]
        receipts = iter(submit_by(session.engine, who, bodies, via="cli", dry_run=dry_run) if bodies else ())
        for each in batch:
            yield each, (next(receipts) if each.body is not None else Receipt(problem=each.problem))


def _told(
    session: Session, results: Iterator[tuple[Line, Receipt]], counts: Counter[str], advance: Advance
) -> Iterator[Row]:
    for line, receipt in results:
        row = _row(session, line, receipt)
        counts[row["status"]] += 1
        counts["waits"] += _waits(receipt)
        advance()
        if session.out.for_people and receipt.problem is not None:
            sys.stderr.write(f"line {line.number}: {receipt.problem}\n")
        yield row


def _waits(receipt: Receipt) -> bool:
    return receipt.refund is not None and not receipt.replayed and receipt.refund.state is State.AWAITING_APPROVAL


def _row(session: Session, line: Line, receipt: Receipt) -> dict[str, Any]:
    if receipt.refund is None:
        return {"line": line.number, "status": "rejected", "problem": _problem(receipt.problem)}
    status = "replayed" if receipt.replayed else "accepted"
    if session.out.for_people:
        return {"line": line.number, "status": status}

    return {"line": line.number, "status": status, "refund": refund_view(session.engine, receipt.refund)}


def _problem(error: InvalidJob | Refused | None) -> dict[str, Any] | None:
    problem = problem_of(error) if error is not None else None

    return None if problem is None else problem.document()


def _summary(counts: Counter[str], *, dry_run: bool) -> str:
    accepted = "would be accepted" if dry_run else "accepted"
    parts = [
        f"{counts['accepted']} {accepted}",
        f"{counts['replayed']} accepted before",
        f"{counts['rejected']} refused",
    ]
    if counts["waits"]:
        parts.append(f"{counts['waits']} {'would wait' if dry_run else 'wait'} for approval")

    return ", ".join(parts)


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 - closed below, but not every error here is about opening
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from None
    with stream:
        yield stream


@contextmanager
def _progress(file: str, stream: BinaryIO) -> Iterator[Advance]:
    """A bar on stderr, on a terminal only: how much of the file has been read."""
    if not sys.stderr.isatty() or file == "-" or not stream.seekable():
        yield lambda: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=make_console(stderr=True), transient=True) as bar:
        task = bar.add_task(Path(file).name, total=os.fstat(stream.fileno()).st_size)
        yield lambda: bar.update(task, completed=stream.tell())
