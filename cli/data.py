"""`refundry data`: personal data goes, the ledger stays."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from cli.command import command, group
from cli.errors import Status
from cli.output import Row
from cli.progress import counted
from cli.session import Session
from engine import erasure
from engine.erasure import Erased
from engine.people import Verb

app = group("Personal data: erased when its time is over, or when somebody asks.")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count what would be erased.")]

KEPT_COLUMNS: dict[str, Callable[[Row], Any]] = {"Id": lambda row: row["id"], "Why": lambda row: row["why"]}


@command(app, "purge")
def purge_data(session: Session, *, dry_run: DryRun = False) -> None:
    """Erase what has been final for retention.personal now; beat does the same bit by bit."""
    who = session.actor(Verb.ADMINISTER)
    with counted(lambda: None) as heard:
        done = erasure.purge_now(session.engine, who, lambda count: heard("refunds", count), dry_run=dry_run)
    session.out.one(_view(done), lambda: [_words(done, dry_run=dry_run)])


@command(app, "erase")
def erase_customer(
    session: Session,
    *,
    customer: Annotated[str, typer.Option("--customer", help="An e-mail address, or the shop's reference of them.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is on record for ever, so without their name.")],
    dry_run: DryRun = False,
) -> int | None:
    """Erase a customer's data, however lately their refunds were final.

    What is open stays and is listed with the reason, exit status 1; ask again when it is final.
    """
    who = session.actor(Verb.ADMINISTER)
    done = erasure.erase(session.engine, who, customer, reason=reason, dry_run=dry_run)
    session.out.one(_view(done), lambda: [_words(done, dry_run=dry_run)])
    if done.kept and session.out.for_people:
        session.out.rows(_view(done)["kept"], KEPT_COLUMNS, empty="")

    return Status.REFUSED if done.kept else None


def _view(done: Erased) -> dict[str, Any]:
    return {
        "refunds": done.refunds,
        "rejected_jobs": done.rejected_jobs,
        "kept": [{"id": each, "why": why} for each, why in done.kept.items()],
    }


def _words(done: Erased, *, dry_run: bool) -> str:
    kept = f"; {len(done.kept)} stay" if done.kept else ""

    return f"{'would erase' if dry_run else 'erased'} {done.refunds} refunds, {done.rejected_jobs} rejected jobs{kept}"
