"""`refundry bulk`: one act on many refunds, previewed, started, followed, stopped."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich import box
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cli.command import command, group
from cli.errors import Status
from cli.output import Row, make_console
from cli.picture import moment
from cli.refunds import COLUMNS as REFUND_COLUMNS
from cli.session import Session
from cli.times import money, since
from domain.bulk import FASTEST, IN_WORDS, PACE, STOP_AT, Kind, Lot, Phase, Result
from domain.words import ago
from engine import bulk
from engine.assign import assign, meant
from engine.bulk_plan import Plan, Selection, preview
from engine.people import Verb
from engine.view import dead_views
from ledger.bulk import Operation

app = group("Bulk operations: one act on many refunds, after a preview.")
EVERY = 1.0

OperationId = Annotated[str, typer.Argument(metavar="ID", help="The operation, bo_…")]
Query = Annotated[str | None, typer.Option("--query", help="All that fit, such as cause:cannot_repeat account:shop.")]
Everything = Annotated[bool, typer.Option("--all", help="All of them.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only the preview: what would be done, what not, and why.")]
Confirm = Annotated[int | None, typer.Option("--confirm", metavar="N", help="How many will be done, as previewed.")]
Pace = Annotated[int, typer.Option("--pace", min=1, max=FASTEST, help="Refunds per second.")]
StopAt = Annotated[
    int, typer.Option("--stop-at", min=0, max=100, metavar="PERCENT", help="Stop when more than this have failed.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stays in the story of each refund.")]


@command(app, "list")
def list_operations(
    session: Session, *, limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50
) -> None:
    """List bulk operations, the newest first."""
    session.actor(Verb.SEE)
    session.out.rows(bulk.listed(session.engine, limit=limit), COLUMNS, empty="no bulk operations")


COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Id": lambda row: row["id"],
    "What": lambda row: row["kind"],
    "Which": lambda row: row["query"] or "all",
    "State": lambda row: row["state"],
    "Done": lambda row: row["done"],
    "Failed": lambda row: row["failed"],
    "Skipped": lambda row: row["skipped"],
    "Not yet": lambda row: row["waiting"] + row["left"],
    "By": lambda row: row["created_by"],
    "Because": lambda row: row["reason"],
    "Age": lambda row: since(moment(row["created_at"])),
}


@command(app, "start")
def start_operation(
    session: Session,
    *,
    kind: Annotated[Kind, typer.Argument(help="What is done to each.")],
    query: Query = None,
    everything: Everything = False,
    again: Annotated[
        str | None, typer.Option("--again", metavar="ID", help="What another operation has not done.")
    ] = None,
    dry_run: DryRun = False,
    confirm: Confirm = None,
    reason: Reason = "",
    pace: Pace = PACE,
    stop_at: StopAt = STOP_AT,
) -> None:
    """Retry, check or cancel many: look with --dry-run, then start with --confirm N and a --reason."""
    if sum((query is not None, everything, again is not None)) != 1:
        raise typer.BadParameter("say which: --query, --all or --again, one of them")
    chosen = Selection(query=query or "", again=again or "")
    launch(session, kind, chosen, dry_run=dry_run, confirm=confirm, reason=reason, pace=pace, stop_at=stop_at)


@command(app, "assign")
def assign_many(
    session: Session,
    *,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Who looks after them.")] = None,
    nobody: Annotated[bool, typer.Option("--nobody", help="Nobody any more.")] = False,
    query: Query = None,
    everything: Everything = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
) -> None:
    """Say who looks after many refunds; it is done at once."""
    if (query is None) is not everything:
        raise typer.BadParameter("say which: --query or --all, one of them")
    if (name is None) is not nobody and not dry_run:
        raise typer.BadParameter("say who: a NAME or --nobody, one of them")
    who, chosen = session.actor(Verb.ACT), Selection(query=query or "")
    if dry_run:
        found = meant(session.engine, who, chosen)
        session.out.rows(dead_views(session.engine, found), ASSIGN_COLUMNS, empty="nothing fits")
        return
    count = assign(session.engine, who, chosen, name)
    session.out.one({"assigned": count, "assignee": name}, lambda: [f"{count} refunds assigned to {name or 'nobody'}"])


_SHOWN = ("Refund", "Reference", "Account", "Amount", "State")
ASSIGN_COLUMNS: dict[str, Callable[[Row], Any]] = {
    **{name: REFUND_COLUMNS[name] for name in _SHOWN},
    "With": lambda row: row["assignee"],
}


def launch(
    session: Session,
    kind: Kind,
    selection: Selection,
    *,
    dry_run: bool,
    confirm: int | None,
    reason: str,
    pace: int,
    stop_at: int,
    named: bool = False,
) -> None:
    """Show the preview of an operation, or start it; `named`: the count need not be given."""
    who = session.actor(Verb.ACT)
    plan = preview(session.engine, who, kind, selection)
    if dry_run or (named and not plan.planned):
        _show(session, plan)
        return
    if confirm is None:
        confirm = _confirmed(session, plan, named=named)
    operation = bulk.start(
        session.engine, who, kind, selection, count=confirm, reason=reason, pace=pace, stop_at=stop_at
    )
    told = f"{operation.id}: {operation.left} refunds, {pace} a second: refundry bulk show {operation.id} --follow"
    session.out.one(bulk.view(operation), lambda: [told])


def _confirmed(session: Session, plan: Plan, *, named: bool) -> int | None:
    """The count, as a person types it. What a script has named by a query is meant as it is."""
    if sys.stdin.isatty() and session.out.for_people:
        session.out.console.print(Text(_summary(plan)))
        return int(typer.prompt("How many will be done", type=int))

    return plan.count if named else None


def _show(session: Session, plan: Plan) -> None:
    rows = [
        {
            "lot": each.lot,
            "id": each.refund.id,
            **{name: getattr(each.refund, name) for name in ("reference", "account", "amount", "currency")},
            "why": each.why,
        }
        for each in plan.planned
    ]
    session.out.rows(rows, PREVIEW_COLUMNS, empty="nothing fits")
    if session.out.for_people and rows:
        session.out.console.print(Text(_summary(plan)))


PREVIEW_COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Refund": lambda row: row["id"],
    "Reference": lambda row: row["reference"],
    "Account": lambda row: row["account"],
    "Amount": lambda row: money(row["amount"], row["currency"]),
    "What": lambda row: row["lot"].replace("_", " "),
    "Why": lambda row: row["why"],
}


def _summary(plan: Plan) -> str:
    sums = ", ".join(f"{money(each['amount'], each['currency'])} at {each['provider']}" for each in _known(plan))
    first, skipped = len(plan.of(Lot.CHECK_FIRST)), len(plan.of(Lot.SKIPPED))
    done = f"{plan.count} will be done ({sums}): --confirm {plan.count}" if plan.count else "none will be done"

    return f"{IN_WORDS[plan.kind]}: {done}; {first} to be checked first, {skipped} skipped"


def _known(plan: Plan) -> list[dict[str, Any]]:
    return [each if each["currency"] else {**each, "amount": None} for each in plan.sums(Lot.WILL_BE_DONE)]


@command(app, "show")
def show_operation(
    session: Session,
    *,
    operation_id: OperationId,
    follow: Annotated[bool, typer.Option("--follow", help="Wait until it has ended.")] = False,
    result: Annotated[Result | None, typer.Option(help="Only refunds with this result.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many refunds.")] = 1000,
) -> int | None:
    """Show an operation and what became of each refund.

    With --follow: 0 when all was done, 1 when some failed or it was stopped.
    """
    session.actor(Verb.SEE)
    operation = _followed(session, operation_id) if follow else bulk.get(session.engine, operation_id)
    items = bulk.report(session.engine, operation, limit=limit, result=result)
    shown = {**bulk.view(operation), "came_back": bulk.came_back(session.engine, operation), "items": items}
    session.out.one(shown, lambda: _pictured(shown))
    whole = operation.state is Phase.DONE and not operation.failed

    return Status.REFUSED if follow and not whole else None


def _followed(session: Session, operation_id: str) -> Operation:
    operation = bulk.get(session.engine, operation_id)
    with _progress(operation) as heard:
        while operation.state is Phase.RUNNING:
            heard(operation.tried)
            time.sleep(EVERY)
            operation = bulk.get(session.engine, operation_id)

    return operation


@contextmanager
def _progress(operation: Operation) -> Iterator[Callable[[int], None]]:
    """How far it has come, on stderr, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _tried: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=make_console(stderr=True), transient=True) as bar:
        task = bar.add_task(operation.id, total=operation.tried + operation.left)
        yield lambda tried: bar.update(task, completed=tried)


def _pictured(shown: Row) -> Iterator[RenderableType]:
    yield Text(f"{shown['id']}  {IN_WORDS[shown['kind']]}: {shown['query'] or 'all'}  {shown['state']}", style="bold")
    yield f"By {shown['created_by']}: {shown['reason']}"
    counts = f"{shown['done']} done, {shown['failed']} failed, {shown['skipped']} skipped"
    rest = f"{shown['waiting']} waiting, {shown['left']} left, {shown['came_back']} came back"
    yield f"{shown['total']} refunds: {counts}, {rest}"
    if shown["eta_seconds"] is not None:
        yield f"{shown['pace']} a second, done in about {ago(shown['eta_seconds'])}"
    else:
        yield f"Ended by {shown['ended_by']}: {shown['end_reason']}"
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ITEM_COLUMNS:
        table.add_column(name, overflow="fold")
    for item in shown["items"]:
        table.add_row(*(Text(str(each(item) or "")) for each in ITEM_COLUMNS.values()))
    yield table


ITEM_COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Refund": lambda row: row["refund_id"],
    "Reference": lambda row: row["reference"],
    "Amount": lambda row: money(row["amount"], row["currency"]),
    "Result": lambda row: row["result"],
    "Why": lambda row: row["reason"],
    "Now": lambda row: row["now"],
}


@command(app, "stop")
def stop_operation(session: Session, *, operation_id: OperationId, reason: Reason = "") -> None:
    """Let nothing more begin; the refund in hand is finished, the others are left."""
    who = session.actor(Verb.ACT)
    stopped = bulk.stop(session.engine, who, operation_id, reason=reason)
    session.out.one(
        bulk.view(stopped), lambda: [f"{stopped.id} stopped: {stopped.tried} had their turn, {stopped.left} left"]
    )
