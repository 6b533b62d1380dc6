"""Runs of reconciliation: started on schedule or by a person, one of a source and account at a time."""

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from domain.errors import Conflict, Refused
from domain.reconcile import Source
from engine import books
from engine.account import Account
from engine.bootstrap import Engine
from engine.ids import new_id
from engine.people import Actor, Verb, require
from ledger import reconcile
from ledger.reconcile import AUTOMATIC, Run
from providers.base import Lists

log = structlog.get_logger(__name__)

LONGEST_WINDOW = 31 * 86_400.0


def begin(
    engine: Engine,
    account: str,
    source: Source,
    *,
    started_by: str,
    window_from: float | None = None,
    window_to: float | None = None,
) -> Run:
    """A new run over what was final in the window, and all that is open. Raises Conflict where one is going on."""
    now = engine.clock()
    run_id = new_id("rc", now)
    since = now - engine.settings.reconcile.watch if window_from is None else window_from

    def work(connection: Connection) -> Run:
        reconcile.start(
            connection,
            id=run_id,
            account=account,
            source=source,
            phase="ask" if source is Source.STATUS else "list",
            bookmark="",
            window_from=since,
            window_to=window_to,
            started_by=started_by,
            started_at=now,
        )
        started = reconcile.get(connection, run_id)
        assert started is not None
        return started

    try:
        return engine.ledger.run(work)
    except IntegrityError:
        raise Conflict("run-going-on", f"a {source} run of {account} is going on already") from None


def sources(account: Account) -> tuple[Source, ...]:
    """How an account can be compared without a file."""
    lists = account.capabilities.lists & {Lists.ACCOUNT, Lists.PAYMENT}

    return (Source.STATUS, Source.LIST) if lists else (Source.STATUS,)


def start_due(engine: Engine) -> list[str]:
    """Start what the schedule says, and call a worker to every account with a run to go on with; answers whom."""
    rung = []
    for name, account in engine.accounts.items():
        for source in sources(account):
            _start_if_due(engine, name, source)
        with engine.ledger.read() as connection:
            waiting = reconcile.running(connection, name, engine.clock())
        if waiting:
            engine.ring("reconcile", name)
            rung.append(name)
    books.derive_if_due(engine)

    return rung


def _start_if_due(engine: Engine, account: str, source: Source) -> None:
    settings = engine.settings.reconcile
    every = settings.every if source is Source.STATUS else settings.lists_every
    with engine.ledger.read() as connection:
        last = reconcile.last_started(connection, account, source)
    if every and (last is None or engine.clock() - last >= every):
        try:
            begin(engine, account, source, started_by=AUTOMATIC)
        except Conflict:
            log.info("recon.still_running", account=account, source=source)


def run_now(
    engine: Engine, actor: Actor, account: str, *, window_from: float | None, window_to: float | None
) -> list[Run]:
    """Start a run of each source that the account has; one that is going on is taken as it is."""
    require(actor, Verb.ACT)
    configured = engine.account(account)
    _bounded(engine, window_from, window_to)
    started = []
    for source in sources(configured):
        try:
            started.append(
                begin(engine, account, source, started_by=actor.name, window_from=window_from, window_to=window_to)
            )
        except Conflict:
            with engine.ledger.read() as connection:
                found = reconcile.runs(connection, limit=1, accounts=(account,), source=source, state="running")
            started += found

    return started


def _bounded(engine: Engine, window_from: float | None, window_to: float | None) -> None:
    if window_from is None:
        return
    seconds = (engine.clock() if window_to is None else window_to) - window_from
    if not 0 < seconds <= LONGEST_WINDOW:
        days = f"{LONGEST_WINDOW / 86_400:g}"
        raise Refused("window-invalid", f"window: expected its start before its end, {days} days at most")
