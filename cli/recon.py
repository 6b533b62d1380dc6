"""`refundry recon`: ours against the provider's and the settlement file's, and the books."""

import asyncio
import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import openpyxl
import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from cli.accounts import the_account
from cli.command import command, group
from cli.errors import Status, Unusable
from cli.output import Row, make_console
from cli.picture import moment
from cli.refunds import the_refund
from cli.session import Session
from cli.times import money, since
from domain.errors import NotFound
from domain.reconcile import Kind, Reason, Standing, Way
from domain.words import harmless
from engine import books, differences, reconcile, schedule, settle
from engine.people import Actor, Verb
from engine.reconcile import Reconciler
from engine.view import difference_view, run_view, side_by_side
from ledger import reconcile as runs
from ledger import settlement
from ledger.reconcile import Difference, Run
from providers.transport import Transport

app = group("Reconciliation: ours against the provider's, differences with an owner, the books.")
books_app = group("The books: postings that sum to zero, open money by age, a month for finance.")
app.add_typer(books_app, name="books")

AccountName = Annotated[str, typer.Option("--account", help="The account.")]
Accounts = Annotated[list[str] | None, typer.Option("--account", help="Only this account; may be repeated.")]
From = Annotated[str | None, typer.Option("--from", help="From this day or moment on (ISO 8601, UTC).")]
To = Annotated[str | None, typer.Option("--to", help="Until before this day or moment (ISO 8601, UTC).")]
ReasonText = Annotated[str, typer.Option("--reason", help="Why; it stays on record.")]
PAGE = 500


# -- runs ------------------------------------------------------------------------------------------------------------


@command(app, "run")
def run_now(session: Session, *, account: AccountName, start: From = None, end: To = None) -> int | None:
    """Ask the provider about every refund that is open, or was final in the window, and compare its lists with ours.

    Without a window it is that of the schedule. A run that is going on, or was broken off, is carried on with.
    """
    who = session.actor(Verb.ACT)
    engine = session.engine
    the_account(session, account)
    started = schedule.run_now(engine, who, account, window_from=_moment(start), window_to=_moment(end))
    with _progress() as heard:
        asyncio.run(_carry_on(session, account, [each.id for each in started], heard))
    with engine.ledger.read() as connection:
        done = [found for each in started if (found := runs.get(connection, each.id)) is not None]
    session.out.rows(map(run_view, done), RUN_COLUMNS, empty="nothing to compare")
    if any(each.state != "complete" for each in done):
        return Status.REFUSED

    return _open_ones(session)


async def _carry_on(session: Session, account: str, ids: list[str], heard: Callable[[str, int], None]) -> None:
    """Until these runs have ended, here or in a worker that has taken them up."""
    configured = session.engine.account(account)
    network = Transport(connect_timeout=configured.connect_timeout, read_timeout=configured.read_timeout)
    reconciler = Reconciler(
        configured, session.engine, network=network, heard=lambda run: heard(run.source, run.compared)
    )
    try:
        while await asyncio.to_thread(_running, session, ids):
            more = await reconciler.turn()
            await asyncio.sleep(0 if more else 0.2)
    finally:
        await network.close()


def _running(session: Session, ids: list[str]) -> bool:
    with session.engine.ledger.read() as connection:
        found = [runs.get(connection, each) for each in ids]

    return any(each is not None and each.state == "running" for each in found)


@command(app, "upload")
def upload_file(
    session: Session,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A settlement file, CSV or XLSX.")],
    account: AccountName,
    start: From = None,
    end: To = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only read it, and say what it holds.")] = False,
) -> int | None:
    """Compare a settlement file with the ledger. Lines that cannot be read are reported, the others are kept.

    The same content is taken once; where its reading was broken off, the same command goes on with it. The window is
    what the file covers: by default the days of its lines.
    """
    who = session.actor(Verb.ACT)
    the_account(session, account)
    if not file.is_file():
        raise Unusable(f"{file}: there is no such file")
    act = settle.read if dry_run else settle.upload
    with _progress() as heard:
        run = act(
            session.engine,
            who,
            account,
            file,
            window_from=_moment(start),
            window_to=_moment(end),
            progress=heard,
        )
    _report_bad(session, run)
    if dry_run:
        _report_read(session, settle.put_aside(session.engine, who, run.id))
        return Status.REFUSED if run.bad else None
    session.out.one(run_view(run), lambda: _told(run))

    return Status.REFUSED if run.state != "complete" else _open_ones(session)


def _report_read(session: Session, run: Run) -> None:
    with session.engine.ledger.read() as connection:
        totals = settlement.totals(connection, run.id)
    lines = [
        f"{each['lines']} lines, {money(each['amount'], each['currency'])}; {each['known']} name a refund of ours"
        for each in totals
    ]
    session.out.one({**run_view(run), "totals": totals}, lambda: [*lines, "read, and not compared"])


def _report_bad(session: Session, run: Run) -> None:
    if not session.out.for_people or not run.bad:
        return
    with session.engine.ledger.read() as connection:
        bad = runs.bad_lines(connection, run.id)
    for no, fault in bad:
        sys.stderr.write(f"line {no}: {fault}\n")
    if run.bad > len(bad):
        sys.stderr.write(f"and {run.bad - len(bad)} more lines: refundry recon show {run.id} -o json\n")


def _told(run: Run) -> Iterable[str]:
    yield f"{run.id}: {run.state}; {run.compared} compared, {run.matched} equal, {run.differing} differing"
    if run.bad:
        yield f"{run.bad} lines could not be read: this file is not compared as a whole"
    if run.unanswered:
        yield f"{run.unanswered} questions got no answer: run it again"
    if run.note:
        yield run.note


@command(app, "list")
def list_runs(
    session: Session,
    *,
    account: Accounts = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
) -> None:
    """List runs, the newest first."""
    session.actor(Verb.SEE)
    with session.engine.ledger.read() as connection:
        found = runs.runs(connection, limit=limit, accounts=account or ())
    session.out.rows(map(run_view, found), RUN_COLUMNS, empty="no run yet: refundry recon run --account NAME")


RUN_COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Id": lambda row: row["id"],
    "Account": lambda row: row["account"],
    "Source": lambda row: row["source"],
    "State": lambda row: row["state"],
    "Compared": lambda row: row["compared"],
    "Equal": lambda row: row["matched"],
    "Differing": lambda row: row["differing"],
    "Unanswered": lambda row: row["unanswered"],
    "Bad lines": lambda row: row["bad_lines"],
    "Started": lambda row: since(moment(row["started_at"])),
    "By": lambda row: row["started_by"],
}


@command(app, "show")
def show_one(
    session: Session, *, wanted: Annotated[str, typer.Argument(metavar="ID", help="A run rc_… or a difference rd_…")]
) -> None:
    """Show a run with its lines that could not be read, or a difference, ours and theirs side by side."""
    session.actor(Verb.SEE)
    if wanted.startswith("rd_"):
        found = differences.get(session.engine, wanted)
        session.out.one(difference_view(found), lambda: _side_by_side(difference_view(found)))
        return
    with session.engine.ledger.read() as connection:
        run = runs.get(connection, wanted)
        bad = runs.bad_lines(connection, wanted, limit=100_000)
    if run is None:
        raise NotFound("not-found", f"there is no run {wanted!r}")
    faults = [{"line": no, "fault": fault} for no, fault in bad]
    shown = [*_told(run), *(f"line {each['line']}: {each['fault']}" for each in faults)]
    session.out.one({**run_view(run), "faults": faults}, lambda: shown)


# -- differences -----------------------------------------------------------------------------------------------------


@command(app, "diffs")
def list_differences(
    session: Session,
    *,
    open_only: Annotated[bool, typer.Option("--open", help="Only those that are open.")] = False,
    account: Accounts = None,
    kind: Annotated[list[Kind] | None, typer.Option("--kind", help="Only this kind; may be repeated.")] = None,
    run: Annotated[str | None, typer.Option("--run", help="Only what this run saw.")] = None,
) -> int | None:
    """List differences, the oldest first. Exit status 0: none is open, 1: some are, 2: money may have moved twice."""
    session.actor(Verb.SEE)
    found = _differences(session, (Standing.OPEN,) if open_only else (), account or (), kind or (), run)
    session.out.rows(map(difference_view, found), DIFFERENCE_COLUMNS, empty="no differences")

    return _open_ones(session, red=True)


def _differences(
    session: Session, states: tuple[str, ...], accounts: Iterable[str], kinds: Iterable[Kind], run: str | None
) -> Iterator[Difference]:
    """Page by page, so that any number can be listed."""
    after = ""
    while True:
        with session.engine.ledger.read() as connection:
            page = runs.differences(
                connection,
                limit=PAGE,
                after=after,
                states=states,
                accounts=tuple(accounts),
                kinds=tuple(kinds),
                run_id=run,
            )
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].id


def _money(row: Row) -> str:
    known = row["amount"] is not None and row["amount"] >= 0 and row["currency"]

    return money(row["amount"], row["currency"]) if known else ""


DIFFERENCE_COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Id": lambda row: row["id"],
    "Kind": lambda row: row["kind"],
    "Account": lambda row: row["account"],
    "Amount": _money,
    "Ours": lambda row: _short(row["ours"], "state"),
    "Theirs": lambda row: _short(row["theirs"], "verdict"),
    "State": lambda row: row["state"],
    "Owner": lambda row: row["owner"],
    "Age": lambda row: since(moment(row["found_at"])),
    "Note": lambda row: row["note"],
}


def _short(side: Row | None, word: str) -> str:
    if side is None:
        return ""

    return " ".join(filter(None, (_money(side), side.get(word) or side.get("status"))))


def _side_by_side(row: Row) -> Iterator[Any]:
    yield Text(f"{row['id']}: {row['kind']}, {row['state']}")
    for name, ours, theirs, differs in side_by_side(row):
        yield Text(f"{'≠' if differs else ' '} {name:20} {_cell(ours):40} {_cell(theirs)}")
    if row["note"]:
        yield Text(row["note"])
    if row["resolutions"]:
        yield Text("may be resolved by: " + ", ".join(row["resolutions"]))


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


@command(app, "resolve")
def resolve(
    session: Session,
    *,
    difference: Annotated[str, typer.Argument(metavar="ID", help="The difference, rd_…")],
    resolution: Annotated[Way, typer.Option("--resolution", help="How; `recon show ID` says what is allowed.")],
    reason: ReasonText = "",
    code: Annotated[Reason | None, typer.Option("--code", help="For accept: why it can be lived with.")] = None,
    refund: Annotated[str | None, typer.Option("--refund", help="For link: our refund, by any kind of id.")] = None,
) -> int | None:
    """Resolve a difference: re-check it, adopt, link, book or report it; accepting one takes a second person."""
    who = session.actor(Verb.ACT)
    if resolution is Way.ACCEPT:
        if code is None:
            raise typer.BadParameter("--code is required: fee, rounding, timing or write_off")
        approval = differences.ask_accept(session.engine, who, difference, code=code, reason=reason)
        session.out.say(
            f"{approval}: accepting {difference} now waits for another person: refundry approvals approve {approval}",
            approval=approval,
            difference=difference,
            status="open",
        )
        return Status.WAITS
    found = _resolved(session, who, difference, resolution, reason, refund)
    session.out.one(difference_view(found), lambda: [f"{found.id} is {found.state}: {found.note or ''}"])

    return Status.REFUSED if found.state is Standing.OPEN else None


def _resolved(session: Session, who: Actor, difference: str, way: Way, reason: str, refund: str | None) -> Difference:
    engine = session.engine
    match way:
        case Way.LINK:
            if refund is None:
                raise typer.BadParameter("--refund is required: the refund that it is")
            return differences.link(engine, who, difference, the_refund(session, refund).id, reason=reason)
        case Way.RECHECK:
            return asyncio.run(_recheck(session, who, difference))
        case Way.ADOPT:
            return differences.adopt(engine, who, difference, reason=reason)
        case Way.EXTERNAL:
            return differences.book(engine, who, difference, reason=reason)
        case Way.DUPLICATE:
            return differences.report_duplicate(engine, who, difference, reason=reason)
        case _:
            return differences.acknowledge(engine, who, difference, reason=reason)


async def _recheck(session: Session, who: Actor, difference: str) -> Difference:
    account = session.engine.account(differences.get(session.engine, difference).account)
    network = Transport(connect_timeout=account.connect_timeout, read_timeout=account.read_timeout)
    try:
        return await reconcile.recheck(session.engine, who, difference, network)
    finally:
        await network.close()


@command(app, "assign")
def assign(
    session: Session,
    *,
    difference: Annotated[str, typer.Argument(metavar="ID", help="The difference, rd_…")],
    owner: Annotated[str | None, typer.Option("--to", help="Who looks after it; left out: nobody.")] = None,
) -> None:
    """Say who looks after a difference."""
    who = session.actor(Verb.ACT)
    differences.assign(session.engine, who, difference, owner)
    session.out.say(f"{difference} is with {owner or 'nobody'}", id=difference, owner=owner)


def _open_ones(session: Session, *, red: bool = False) -> int | None:
    with session.engine.ledger.read() as connection:
        duplicates = runs.open_count(connection, (Kind.DUPLICATE_AT_PROVIDER,)) if red else 0
        count = runs.open_count(connection)

    return Status.USAGE if duplicates else Status.REFUSED if count else None


# -- the books -------------------------------------------------------------------------------------------------------


@command(books_app, "check")
def check_books(session: Session) -> int | None:
    """Derive the postings that are due, and compare them with the payments. Exit status 1 where they do not agree."""
    session.actor(Verb.SEE)
    flaws = books.check(session.engine)
    rows = [
        {
            "account": each.account,
            "payment": each.payment_ref,
            "what": each.what,
            "booked": each.booked,
            "stands": each.stands,
        }
        for each in flaws
    ]
    session.out.rows(rows, FLAW_COLUMNS, empty="the books are right")

    return Status.REFUSED if flaws else None


FLAW_COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Account": lambda row: row["account"],
    "Payment": lambda row: row["payment_ref"],
    "What": lambda row: row["what"],
    "Booked": lambda row: row["booked"],
    "Payment says": lambda row: row["stands"],
}


@command(books_app, "ageing")
def show_ageing(session: Session) -> None:
    """Money of refunds that are not final, by account, currency and how long ago they were accepted."""
    session.actor(Verb.SEE)
    session.out.rows(books.ageing(session.engine), AGEING_COLUMNS, empty="no money is open")


def _aged(name: str) -> Callable[[Row], str]:
    return lambda row: money(row[name], row["currency"]) if row[name] else ""


AGEING_COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Account": lambda row: row["account"],
    "Currency": lambda row: row["currency"],
    "Count": lambda row: row["count"],
    "Amount": _aged("amount"),
    "below 1 h": _aged("1h"),
    "to 1 d": _aged("1d"),
    "to 5 d": _aged("5d"),
    "to 30 d": _aged("30d"),
    "older": _aged("older"),
}


@command(books_app, "export")
def export_books(
    session: Session,
    *,
    month: Annotated[str, typer.Option("--month", help="Which month, like 2026-11 (UTC).")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where to: a name ending in .csv or .xlsx.")],
    account: Accounts = None,
) -> None:
    """Write a month's postings to a file, for finance. Texts that a spreadsheet would run get an apostrophe."""
    session.actor(Verb.SEE)
    books.month(month)
    rows = books.export(session.engine, month, account or ())
    match to.suffix.lower():
        case ".csv":
            count = _write_csv(to, rows)
        case ".xlsx":
            count = _write_xlsx(to, rows)
        case _:
            raise typer.BadParameter(f"{to.name}: expected a name ending in .csv or .xlsx")
    session.out.say(f"{count} postings of {month} in {to}", file=str(to), postings=count)


def _write_csv(to: Path, rows: Iterable[Row]) -> int:
    """UTF-8 with a byte order mark, which spreadsheets want to see."""
    count = 0
    with _writing(to), to.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(books.COLUMNS)
        for count, row in enumerate(rows, 1):  # noqa: B007 - the count is what is wanted
            writer.writerow(_cells(row))

    return count


def _write_xlsx(to: Path, rows: Iterable[Row]) -> int:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("postings")
    sheet.append(books.COLUMNS)
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007
        sheet.append(_cells(row))
    with _writing(to):
        book.save(to)

    return count


def _cells(row: Row) -> list[Any]:
    """An amount is no formula, whatever its sign; it stays the text that it is, to the last digit."""
    return [row[name] if name == "amount" else harmless(row[name]) for name in books.COLUMNS]


@contextmanager
def _writing(to: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unusable(f"{to}: {error.strerror}") from None


# -- helpers ---------------------------------------------------------------------------------------------------------


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"expected a day or a moment like 2026-11-30, found {text[:40]!r}") from None

    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """How far each part has come, on stderr, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _what, _done: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"), TimeElapsedColumn())
    with Progress(*columns, console=make_console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def heard(what: str, done: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=None)
            bar.update(tasks[what], completed=done)

        yield heard
