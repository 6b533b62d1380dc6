"""`refundry workers` and `refundry queues`: who works, and what waits."""

import socket
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from cli.command import command, group
from cli.errors import Unusable
from cli.output import Row
from cli.session import Session
from cli.times import duration
from config.celery import QUEUES
from domain.errors import NotFound, Refused
from domain.words import ago
from engine import operate
from engine.people import Verb
from engine.view import stamp
from ledger import workers
from ledger.session import AWAY
from signals.depths import depths

SILENT = 2


class Kind(StrEnum):
    """Who leaves heartbeats."""

    WORKER = "worker"
    BEAT = "beat"


app = group("The workers, by their heartbeats in the ledger.")
queues_app = group("The Celery queues and Redis streams.")
SEND = "refundry.send"

QueueName = Annotated[str, typer.Argument(metavar="[NAME]", help=f"Only {SEND} can be paused.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it goes into the journal.")]

COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Name": lambda row: row["name"],
    "Kind": lambda row: row["kind"],
    "Heard": lambda row: f"{ago(row['silent_seconds'])} ago",
    "Since": lambda row: row["started_at"],
    "Drains": lambda row: "yes" if row["drain"] else "",
}


@command(app, "list")
def list_workers(session: Session) -> None:
    """List workers and beat, and when they were last heard."""
    session.actor(Verb.SEE)
    now = session.engine.clock()
    with session.engine.ledger.read() as connection:
        found = workers.listed(connection)
    session.out.rows((_view(each, now) for each in found), COLUMNS, empty="nobody works: start `refundry worker`")


def _view(each: Row, now: float) -> Row:
    return {
        "name": each["name"],
        "kind": each["kind"],
        "started_at": stamp(each["started_at"]),
        "beat_at": stamp(each["beat_at"]),
        "silent_seconds": round(now - each["beat_at"], 3),
        "drain": bool(each["drain"]),
        "details": each["details"],
    }


@command(app, "alive")
def probe_worker(
    session: Session,
    *,
    kind: Annotated[Kind, typer.Option(help="The worker of this host, or whoever is beat.")] = Kind.WORKER,
    within: Annotated[str, typer.Option(help="The oldest heartbeat that counts as a sign of life.")] = "30s",
) -> int | None:
    """Tell whether this host's worker, or beat, makes progress: a probe for whoever would restart it.

    Exit status 0: its heartbeat in the ledger is recent, or the ledger cannot be asked, which no restart would mend.
    2: it is silent.
    """
    allowed = duration(within)
    engine = session.bare_engine
    try:
        with engine.ledger.read() as connection:
            found = [each["beat_at"] for each in workers.listed(connection) if each["kind"] == kind and _is_here(each)]
    except AWAY:
        session.out.say("the ledger does not answer", alive=None)
        return None
    silent = engine.clock() - max(found) if found else None
    alive = silent is not None and silent <= allowed
    words = "no heartbeat" if silent is None else f"heard {ago(silent)} ago"
    session.out.say(words, alive=alive, silent_seconds=silent)

    return None if alive else SILENT


def _is_here(each: Row) -> bool:
    """A worker is named after its host; beat's heartbeat says that somebody's round was made."""
    return each["kind"] == Kind.BEAT or str(each["name"]).rpartition(":")[0] == socket.gethostname()


@command(app, "drain")
def drain_worker(
    session: Session, *, name: Annotated[str, typer.Argument(metavar="NAME", help="As `refundry workers list` says.")]
) -> None:
    """Ask a worker to take no more jobs; what it holds is finished."""
    who = session.actor(Verb.SWITCH)
    operate.drain(session.engine, who, name)
    session.out.say(f"{name} takes no more jobs", name=name, drain=True)


@command(queues_app, "list")
def list_queues(session: Session) -> None:
    """List how many doorbells wait in each queue, and how many entries in each stream."""
    session.actor(Verb.SEE)
    client = session.engine.redis
    if client is None:
        raise Unusable("no Redis is configured")
    everywhere = operate.everywhere(session.engine)
    paused = {SEND} if everywhere is not None and everywhere.paused else set()
    found = ({**each, "paused": each["name"] in paused} for each in depths(client, QUEUES))
    session.out.rows(
        found,
        {
            "Name": lambda row: row["name"],
            "Kind": lambda row: row["kind"],
            "Count": lambda row: row["depth"],
            "In hand": lambda row: row["pending"],
            "Paused": lambda row: "yes" if row["paused"] else "",
        },
        empty="",
    )


@command(queues_app, "pause")
def pause_queue(session: Session, *, name: QueueName = SEND, reason: Reason = "") -> None:
    """Stop the first sendings of all accounts: nothing leaves that has not left before.

    Lost answers, pending refunds, notifications and webhooks go on, and jobs are accepted and wait. One account alone
    is stopped by `refundry accounts pause`.
    """
    who = session.actor(Verb.SWITCH)
    _only_send(name)
    changed = operate.pause_sending(session.engine, who, reason=reason or "no reason given")
    session.out.say(f"{name} {'paused' if changed else 'was paused already'}", name=name, paused=True, changed=changed)


@command(queues_app, "resume")
def resume_queue(session: Session, *, name: QueueName = SEND, reason: Reason = "") -> None:
    """Let accounts send again, but for those that are paused themselves."""
    who = session.actor(Verb.SWITCH)
    _only_send(name)
    operate.resume_sending(session.engine, who, reason=reason)
    session.out.say(f"{name} goes on", name=name, paused=False)


def _only_send(name: str) -> None:
    if name not in QUEUES:
        raise NotFound("not-found", f"there is no queue {name!r}; there are {', '.join(QUEUES)}")
    if name != SEND:
        raise Refused(
            "never-paused", f"{name} is never paused, for what may have been paid is always asked after; {SEND} is"
        )
