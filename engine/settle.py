"""Settlement files: read once, line by line, matched in the ledger, and compared both ways.

Memory holds one batch of lines, whatever the size of the file. Good lines are kept whatever stands in the others.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection

from domain.errors import Conflict, NotFound, Refused
from domain.reconcile import Kind, Listed, Source, compare, stranger
from domain.refund import Refund
from domain.settlement import BadLine
from engine import files
from engine.account import Account
from engine.bootstrap import Engine
from engine.differences import Found, close_agreeing, close_overtaken, record
from engine.ids import new_id
from engine.people import Actor, Verb, require
from ledger import journal, reconcile, settlement
from ledger.reconcile import READ, Run

log = structlog.get_logger(__name__)

LOAD = 5_000
STRETCH = 20_000
PAIRS = 2_000
MISSING = 1_000
LEASE = 600.0
DAY = 86_400.0
LONGEST = 60 * DAY

Progress = Callable[[str, int], None]


def upload(
    engine: Engine,
    actor: Actor,
    account: str,
    path: Path,
    *,
    window_from: float | None = None,
    window_to: float | None = None,
    progress: Progress = lambda _phase, _done: None,
) -> Run:
    """Read a file and compare it. The same content is refused, unless its reading broke off: then it goes on.

    `window_from`, `window_to`: what the file covers, where its dates do not say it. Raises Refused, Conflict.
    """
    require(actor, Verb.ACT)
    configured = engine.account(account)
    run = _read(engine, actor, configured, path, window_from, window_to, progress)
    if run.phase == READ:
        run = _confirmed(engine, actor, run.id)
    while not go_on(engine, configured, run):
        run = _again(engine, run.id)
        progress(run.phase, run.compared)

    return _again(engine, run.id)


def read(
    engine: Engine,
    actor: Actor,
    account: str,
    path: Path,
    *,
    window_from: float | None = None,
    window_to: float | None = None,
    progress: Progress = lambda _phase, _done: None,
) -> Run:
    """Read a file, and leave it at that until somebody has looked at what was read: `confirm`, or `put_aside`."""
    require(actor, Verb.ACT)
    run = _read(engine, actor, engine.account(account), path, window_from, window_to, progress)
    with engine.ledger.write() as connection:
        reconcile.advance(connection, run, leased_by=None, lease_until=0.0)

    return _again(engine, run.id)


def confirm(
    engine: Engine,
    actor: Actor,
    run_id: str,
    *,
    window_from: float | None = None,
    window_to: float | None = None,
) -> Run:
    """Have a file that was read compared, by a worker. A window that is given takes the place of the file's own."""
    require(actor, Verb.ACT)
    run = _confirmed(engine, actor, run_id, window_from=window_from, window_to=window_to)
    engine.ring("reconcile", run.account)

    return run


def put_aside(engine: Engine, actor: Actor, run_id: str) -> Run:
    """Compare nothing of a file that was read: none of its lines counts. Its content may be read again."""
    require(actor, Verb.ACT)

    def work(connection: Connection) -> None:
        run = _waiting(connection, run_id)
        moves = {"state": "partial", "ended_at": engine.clock(), "note": f"put aside by {actor.name}: not compared"}
        _won(reconcile.advance(connection, run, leased_by=None, lease_until=0.0, **moves))
        _told(connection, engine, run_id, "file.put_aside", actor, {})

    engine.ledger.run(work)

    return _again(engine, run_id)


def _confirmed(engine: Engine, actor: Actor, run_id: str, **window: float | None) -> Run:
    def work(connection: Connection) -> None:
        run = _waiting(connection, run_id)
        given = {name: moment for name, moment in window.items() if moment is not None}
        _won(reconcile.advance(connection, run, phase="pair", bookmark="0", **given))
        _told(connection, engine, run_id, "file.confirmed", actor, given)

    engine.ledger.run(work)

    return _again(engine, run_id)


def _waiting(connection: Connection, run_id: str) -> Run:
    run = reconcile.get(connection, run_id)
    if run is None:
        raise NotFound("not-found", f"there is no run {run_id!r}")
    _won(run.phase == READ and run.state == "running")

    return run


def _won(waited: bool) -> None:  # noqa: FBT001 - an answer, not a switch
    if not waited:
        raise Conflict("not-waiting", "this file does not wait for a decision: look again how it stands")


def _told(
    connection: Connection, engine: Engine, run_id: str, kind: str, actor: Actor, data: Mapping[str, Any]
) -> None:
    journal.append(connection, f"recon/{run_id}", kind, actor=actor.name, now=engine.clock(), data=data)


def _read(
    engine: Engine,
    actor: Actor,
    account: Account,
    path: Path,
    window_from: float | None,
    window_to: float | None,
    progress: Progress,
) -> Run:
    run = _opened(engine, actor, account, path, window_from, window_to)

    return _load(engine, account, run, path, progress) if run.phase == "load" else run


def _opened(
    engine: Engine, actor: Actor, account: Account, path: Path, window_from: float | None, window_to: float | None
) -> Run:
    """The run of this file: a new one, or the one that broke off."""
    content = files.digest(path)
    now = engine.clock()

    def work(connection: Connection) -> str:
        known = reconcile.file_of(connection, account.name, content)
        if known is not None:
            reconcile.take_up(connection, str(known.run_id))
            return str(known.run_id)
        run_id = new_id("rc", now)
        reconcile.start(
            connection,
            id=run_id,
            account=account.name,
            source=Source.FILE,
            phase="load",
            bookmark="",
            window_from=window_from,
            window_to=window_to,
            started_by=actor.name,
            started_at=now,
        )
        reconcile.add_file(
            connection,
            account=account.name,
            hash=content,
            run_id=run_id,
            name=path.name[:255],
            size=path.stat().st_size,
            read_at=now,
        )
        data = {"account": account.name, "file": path.name[:255], "hash": content}
        _told(connection, engine, run_id, "file.uploaded", actor, data)
        return run_id

    run_id = engine.ledger.run(work)
    with engine.ledger.write() as connection:
        run = reconcile.lease(connection, run_id, engine.worker, now, now + LEASE)
    if run is None:
        raise Conflict("file-known", f"{path.name}: this content was compared before, or is just now: run {run_id}")

    return run


def _again(engine: Engine, run_id: str) -> Run:
    with engine.ledger.read() as connection:
        run = reconcile.get(connection, run_id)
    assert run is not None

    return run


# -- read ------------------------------------------------------------------------------------------------------------


def _load(engine: Engine, account: Account, run: Run, path: Path, progress: Progress) -> Run:
    done = int(run.bookmark or 0)
    lines = itertools.dropwhile(lambda line: line["no"] <= done, _lines(account, run, path))
    try:
        while batch := list(itertools.islice(lines, LOAD)):
            _keep(engine, account, run, batch)
            progress("load", batch[-1]["no"])
    except Refused as error:
        with engine.ledger.write() as connection:
            reconcile.advance(connection, run, unanswered=1)
            reconcile.finish(connection, run, now=engine.clock(), note=str(error)[:512])
        raise
    with engine.ledger.write() as connection:
        first, last = settlement.window(connection, run.id)
        covers = {
            "window_from": run.window_from if run.window_from is not None else first and first - first % DAY,
            "window_to": run.window_to if run.window_to is not None else last and last - last % DAY + DAY,
        }
        reconcile.advance(connection, run, phase=READ, **covers)
        settlement.analyse(connection)

    return _again(engine, run.id)


def _lines(account: Account, run: Run, path: Path) -> Iterator[dict[str, Any]]:
    """Every line that is about a refund, or that cannot be read. Raises Refused where the headings are not right."""
    rows = files.rows(path, account.notation)
    _, headings = next(rows, (0, []))
    try:
        read = account.notation.reader(headings)
    except BadLine as error:
        raise Refused("file-unreadable", f"{path.name}: {error}") from None
    for no, cells in rows:
        try:
            theirs = read([_decoded(cell) for cell in cells])
        except BadLine as error:
            yield settlement.row(run.id, no, None, _printable(str(error)))
        else:
            if theirs is not None:
                yield settlement.row(run.id, no, theirs)


def _decoded(cell: str) -> str:
    """The cell, if any database can keep it."""
    if not cell.isascii():
        try:
            cell.encode()
        except UnicodeEncodeError:
            raise BadLine("it cannot be read in the file's encoding") from None
    if "\x00" in cell or len(cell) > files.MAX_CELL:
        raise BadLine("a column holds what is no text")

    return cell


def _printable(fault: str) -> str:
    return fault.encode("ascii", "backslashreplace").decode()[:255]


def _keep(engine: Engine, account: Account, run: Run, batch: Sequence[dict[str, Any]]) -> None:
    bad = sum(line["fault"] is not None for line in batch)

    def work(connection: Connection) -> None:
        settlement.write_lines(connection, account.name, batch)
        _advance(connection, engine, run, bad=bad, bookmark=str(batch[-1]["no"]))

    engine.ledger.run(work)


# -- compared --------------------------------------------------------------------------------------------------------


def go_on(engine: Engine, account: Account, run: Run) -> bool:
    """One step of a file that was read; True when its run has ended."""
    match run.phase:
        case "pair":
            _pair(engine, account, run)
        case "compare":
            _compare(engine, account, run)
        case _:
            return _missing(engine, account, run)

    return False


def _pair(engine: Engine, account: Account, run: Run) -> None:
    """Lines without an id that we know: by payment and amount, within days."""

    def work(connection: Connection) -> None:
        lines = settlement.unmatched(connection, run.id, int(run.bookmark), PAIRS)
        if not lines:
            _advance(connection, engine, run, phase="compare", bookmark="0")
            return
        payments = sorted({theirs.payment_id for _, theirs in lines if theirs.payment_id})
        ours = settlement.unmatched_refunds(connection, run.id, run.account, payments)
        settlement.pair(connection, run.id, pairs(lines, ours, account.notation.days))
        _advance(connection, engine, run, bookmark=str(lines[-1][0]))

    engine.ledger.run(work)


def pairs(lines: Sequence[tuple[int, Listed]], ours: Sequence[Refund], days: float) -> list[tuple[int, str]]:
    """Which refund each line is about: the nearest in time of equal payment, amount and currency, each taken once."""
    free: dict[Any, list[Refund]] = defaultdict(list)
    for each in ours:
        free[each.payment_ref, each.amount, each.currency].append(each)
    found = []
    for no, theirs in lines:
        fitting = [
            each
            for each in free[theirs.payment_id, theirs.amount, theirs.currency]
            if _apart(theirs, each) <= days * DAY and None in (theirs.provider_refund_id, each.provider_refund_id)
        ]
        if fitting:
            nearest = min(fitting, key=lambda each, theirs=theirs: (_apart(theirs, each), each.id))  # type: ignore[misc]
            free[theirs.payment_id, theirs.amount, theirs.currency].remove(nearest)
            found.append((no, nearest.id))

    return found


def _apart(theirs: Listed, ours: Refund) -> float:
    """Seconds between a line and our refund; a date stands for its whole day."""
    if theirs.at is None:
        return 0.0
    late = DAY if theirs.at % DAY == 0 else 0.0
    moment = ours.final_at or ours.since

    return max(theirs.at - moment, moment - theirs.at - late, 0.0)


def _compare(engine: Engine, account: Account, run: Run) -> None:
    after = int(run.bookmark)
    to = after + STRETCH

    def work(connection: Connection) -> None:
        if after >= settlement.last_no(connection, run.id):
            _advance(connection, engine, run, phase="missing", bookmark="")
            return
        doubtful = settlement.may_differ(connection, run.id, after, to)
        found = _differing(connection, run, doubtful, account.notation.days)
        again = settlement.with_open_difference(connection, run.id, after, to)
        record(connection, engine, run, found)
        agreed = [ours for theirs, ours in again if compare(ours, theirs) is None]
        close_agreeing(connection, engine, run.source, agreed)
        compared = settlement.counted(connection, run.id, after, to)
        _advance(
            connection,
            engine,
            run,
            compared=compared,
            matched=compared - len(found),
            differing=len(found),
            bookmark=str(to),
        )

    engine.ledger.run(work)


def _differing(
    connection: Connection, run: Run, doubtful: Sequence[tuple[Listed, Refund | None, bool]], days: float
) -> list[Found]:
    strangers = [theirs for theirs, ours, _ in doubtful if ours is None]
    siblings: dict[str, list[Refund]] = defaultdict(list)
    named = [Listed(payment_id=each.payment_id) for each in strangers if each.payment_id]
    for each in reconcile.ours_among(connection, run.account, named):
        siblings[each.payment_ref].append(each)
    found = []
    for theirs, ours, again in doubtful:
        if ours is None:
            kind = stranger(theirs, siblings[theirs.payment_id or ""], days)
        elif again and theirs.verdict == "succeeded":
            kind = Kind.DUPLICATE_AT_PROVIDER
        else:
            kind = compare(ours, theirs)
        if kind is not None:
            found.append(Found(kind, ours, theirs))

    return found


def _missing(engine: Engine, account: Account, run: Run) -> bool:
    """What we say was paid in the time that the file covers, and no file shows; True when there is no more."""
    days = account.notation.days * DAY

    def work(connection: Connection) -> bool:
        unseen = _unseen(connection, run, days)
        note = f"no line in the file, nor in an earlier one, {account.notation.days:g} days after it was paid"
        record(connection, engine, run, [Found(Kind.MISSING_AT_PROVIDER, each, Listed(), note=note) for each in unseen])
        if unseen:
            _advance(connection, engine, run, differing=len(unseen), bookmark=unseen[-1].id)
        return len(unseen) < MISSING

    ended = engine.ledger.run(work)
    if ended:
        close_overtaken(engine, run.account)
        covered = "the file covers no time: what is missing in it was not looked for"
        with engine.ledger.write() as connection:
            reconcile.finish(connection, run, now=engine.clock(), note=None if run.window_to is not None else covered)
        log.info("recon.ended", id=run.id, account=run.account, source=run.source)

    return ended


def _unseen(connection: Connection, run: Run, days: float) -> list[Refund]:
    """Files that follow each other leave no gap: what was paid in a file's last days is looked for in the next."""
    if run.window_from is None or run.window_to is None:
        return []
    before = days if settlement.earlier_file(connection, run.account, run.id) else 0.0

    return reconcile.unseen(
        connection,
        run,
        created_from=new_id("rf", max(0.0, run.window_from - LONGEST), bytes(10)),
        final_from=run.window_from - before,
        final_to=run.window_to - days,
        after=run.bookmark,
        limit=MISSING,
        any_run=True,
    )


def _advance(connection: Connection, engine: Engine, run: Run, **moves: Any) -> None:
    if not reconcile.advance(connection, run, lease_until=engine.clock() + LEASE, **moves):
        raise Conflict("run-taken-over", f"somebody else goes on with run {run.id}")
