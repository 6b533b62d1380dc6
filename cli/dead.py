"""`refundry dead`: what automation has stopped at, and what a person may do about it."""

import sys
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cli import bulk
from cli.command import command, group
from cli.errors import Status, Unusable
from cli.output import Row
from cli.picture import EMPTY_VIEW, moment
from cli.refunds import the_refund
from cli.session import Session
from cli.times import money, since
from domain.bulk import PACE, STOP_AT, Kind
from domain.refund import Settlement
from domain.words import advice_in_words, cause_in_words
from engine import review
from engine.bulk_plan import Selection
from engine.people import Actor, Verb
from engine.review import Asked
from engine.view import dead_view, refund_view, stamp
from ledger import external, queries, rejected

app = group("Refunds that need a person, and jobs that were refused.")

Evidence = Annotated[
    str | None, typer.Option("--evidence", metavar="FILE", help="What shows it (a file, - for stdin), kept encrypted.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stays in the refund's story.")]


class Outcome(StrEnum):
    """How a refund is closed by hand."""

    RETURNED = Settlement.RETURNED
    NOT_RETURNED = Settlement.NOT_RETURNED
    RETURNED_ELSEWHERE = Settlement.RETURNED_ELSEWHERE


@command(app, "groups")
def list_groups(session: Session) -> None:
    """Dead letters by cause, failure and provider, and how many came lately."""
    session.actor(Verb.SEE)
    with session.engine.ledger.read() as connection:
        found = queries.dead_groups(connection, session.engine.clock())
    rows = [{**each, "first": stamp(each["first"]), "last": stamp(each["last"])} for each in found]
    session.out.rows(rows, GROUP_COLUMNS, empty="no dead letters")


GROUP_COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Count": lambda row: row["count"],
    "Why": lambda row: cause_in_words(row["cause"]),
    "Failure": lambda row: row["failure_code"],
    "Account": lambda row: f"{row['account']} ({row['provider']})",
    "Amount": lambda row: money(row["amount"], row["currency"]),
    "1 h": lambda row: row["1h"],
    "24 h": lambda row: row["24h"],
    "7 d": lambda row: row["7d"],
    "Since": lambda row: row["first"],
}


@command(app, "list")
def list_dead(
    session: Session,
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many of each kind.")] = 100,
) -> None:
    """List dead letters with their cause, what may be done, and since when they wait."""
    session.actor(Verb.SEE)
    session.out.rows(_dead(session, limit), DEAD_COLUMNS, empty="no dead letters", csv_like=CSV_LIKE)


def _dead(session: Session, limit: int) -> Iterator[Row]:
    with session.engine.ledger.read() as connection:
        refunds = queries.dead(connection, limit=limit)
        jobs = rejected.listed(connection, limit=limit)
        others = external.listed(connection, limit=limit, open_only=True)
    for each in refunds:
        yield dead_view(session.engine, each)
    for job in jobs:
        yield _job(job)
    yield from map(_external, others)


def _job(job: Row) -> Row:
    problem = msgspec.json.decode(job["errors"])
    kept = ("id", "source", "account", "reference", "size", "body_hash")

    return {
        "object": "rejected_job",
        **{name: job[name] for name in kept},
        "code": problem["code"],
        "errors": problem["errors"],
        "at": stamp(job["at"]),
        "age_seconds": round(time.time() - job["at"], 3),
    }


def _external(row: Row) -> Row:
    """What others moved, with what is wrong about it."""
    kept = ("id", "account", "kind", "provider_refund_id", "payment_ref", "amount", "currency", "source", "alert")

    return {
        "object": "external",
        "reference": None,
        **{name: row[name] for name in kept},
        "at": stamp(row["first_seen"]),
        "age_seconds": round(time.time() - row["first_seen"], 3),
    }


def _why(row: Row) -> str:
    if row["object"] == "external":
        return f"a {row['kind']} made elsewhere: {row['alert']}"
    if row["object"] == "rejected_job":
        return "not accepted: " + "; ".join(f"{each['pointer']} {each['detail']}" for each in row["errors"])

    return cause_in_words((row["review"] or {}).get("cause"))


def _verdict(row: Row) -> str:
    if row["object"] == "rejected_job":
        return "correct it and submit it again, then close this"
    if row["object"] == "external":
        return "see at the provider what became of the money, then close this"
    found = (row["review"] or {}).get("verdict")

    return f"{advice_in_words(found['advice'])}: {'; '.join(found['reasons'])}" if found else ""


def _age(row: Row) -> str:
    entered = row["at"] if "at" in row else (row["review"] or {}).get("since")

    return since(moment(entered))


DEAD_COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Id": lambda row: row["id"],
    "Reference": lambda row: row["reference"],
    "Account": lambda row: row["account"],
    "Amount": lambda row: money(row["amount"], row["currency"]) if "amount" in row else "",
    "Why": _why,
    "Verdict": _verdict,
    "Age": _age,
    "Note": lambda row: row.get("note"),
}


#: Refunds and jobs in one table of CSV.
CSV_LIKE: dict[str, Any] = {
    **EMPTY_VIEW,
    **dict.fromkeys(("note", "assignee", "replay_until", "source", "size", "body_hash", "code", "errors", "at")),
    **dict.fromkeys(("kind", "payment_ref", "alert")),
    "age_seconds": None,
}


@command(app, "retry")
def retry_dead(
    session: Session,
    *,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Refunds in review, by any kind of id.")
    ] = None,
    query: bulk.Query = None,
    everything: bulk.Everything = False,
    new_handle: Annotated[
        bool, typer.Option("--new-handle", help="Under a new handle: takes evidence and a second person.")
    ] = False,
    evidence: Evidence = None,
    dry_run: bulk.DryRun = False,
    confirm: bulk.Confirm = None,
    pace: bulk.Pace = PACE,
    stop_at: bulk.StopAt = STOP_AT,
    reason: Reason = "",
) -> int | None:
    """Try again what the verdict calls safe, with the same handle and bytes.

    Those named by ID go at once, and each result is told. --query and --all make a bulk operation: look with --dry-run,
    then start it; --all takes --confirm N and --reason, and a terminal asks for the count.
    """
    if new_handle:
        return _new_handle(session, session.actor(Verb.ACT), ids, evidence, reason)
    if sum((bool(ids), query is not None, everything)) != 1:
        raise typer.BadParameter("name refunds, give a --query or say --all, one of them")
    if ids:
        return _retry_named(session, ids, reason)
    bulk.launch(
        session,
        Kind.RETRY,
        Selection(query=query or ""),
        dry_run=dry_run,
        confirm=confirm,
        reason=reason or (f"refundry dead retry --query {query!r}" if query else ""),
        pace=pace,
        stop_at=stop_at,
        named=bool(query),
    )

    return None


def _retry_named(session: Session, ids: list[str], reason: str) -> int | None:
    who = session.actor(Verb.ACT)
    if len(ids) == 1:
        _retry_one(session, who, ids[0], reason)
        return None
    chosen = [the_refund(session, each).id for each in ids]
    results = review.retry_many(session.engine, who, chosen, reason=reason)
    rows = [{"id": refund_id, "result": result} for refund_id, result in results.items()]
    session.out.rows(rows, {"Refund": lambda row: row["id"], "Result": lambda row: row["result"]}, empty="")

    return Status.REFUSED if any(result.startswith("skipped") for result in results.values()) else None


def _retry_one(session: Session, who: Actor, word: str, reason: str) -> None:
    refund = review.retry(session.engine, who, the_refund(session, word).id, reason=reason)
    session.out.one(refund_view(session.engine, refund), lambda: [f"{refund.id} goes again ({refund.state})"])


def _new_handle(session: Session, who: Actor, ids: list[str] | None, evidence: str | None, reason: str) -> int:
    if ids is None or len(ids) != 1:
        raise typer.BadParameter("--new-handle takes one refund at a time")
    refund = the_refund(session, ids[0])
    asked = review.ask_new_handle(session.engine, who, refund.id, reason=reason, evidence=_read(evidence))

    return _waits(session, asked, "a new handle")


@command(app, "settle")
def settle_dead(
    session: Session,
    *,
    refund_id: Annotated[str, typer.Argument(metavar="ID", help="The refund, by any kind of id.")],
    outcome: Annotated[Outcome, typer.Option(help="What the evidence shows about the money.")],
    evidence: Evidence = None,
    reason: Reason = "",
) -> int | None:
    """Close a refund by hand: takes evidence and a second person."""
    who = session.actor(Verb.ACT)
    refund = the_refund(session, refund_id)
    asked = review.ask_settle(session.engine, who, refund.id, outcome=outcome, reason=reason, evidence=_read(evidence))

    return _waits(session, asked, f"settling as {outcome}")


def _waits(session: Session, asked: Asked, what: str) -> int:
    session.out.say(
        f"{asked.approval_id}: {what} of {asked.refund.id} now waits for another person: "
        f"refundry approvals approve {asked.approval_id}",
        approval=asked.approval_id,
        refund=asked.refund.id,
        status="open",
    )

    return Status.WAITS


@command(app, "close")
def close_item(
    session: Session,
    *,
    item_id: Annotated[
        str, typer.Argument(metavar="ID", help="A rejected job, rj_…, or what was made elsewhere, ex_….")
    ],
    reason: Reason = "",
) -> None:
    """Close a job that could not be accepted, or what others refunded once that was looked into."""
    who = session.actor(Verb.ACT)
    close = review.close_external if item_id.startswith("ex_") else review.close_rejected
    close(session.engine, who, item_id, reason=reason)
    session.out.say(f"{item_id} closed", id=item_id, status="closed")


def _read(evidence: str | None) -> bytes:
    if evidence is None:
        raise typer.BadParameter("--evidence FILE is required: what shows that this is right")
    try:
        return sys.stdin.buffer.read() if evidence == "-" else Path(evidence).read_bytes()
    except OSError as error:
        raise Unusable(f"{evidence}: {error.strerror}") from None
