"""`refundry audit`: the journal, read and verified."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from cli.command import command, group
from cli.errors import Status
from cli.output import Row, dumps
from cli.session import Session
from engine.people import Verb
from engine.view import stamp
from ledger import journal

app = group("The journal: who did what, and is it unchanged.")


@command(app, "list")
def list_events(
    session: Session,
    *,
    subject: Annotated[
        str | None, typer.Option(help="Only of this refund (rf_…), account/…, user/… or worker/….")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
) -> None:
    """List the newest events."""
    session.actor(Verb.SEE)
    with session.engine.ledger.read() as connection:
        found = journal.recent(connection, limit=limit, now=session.engine.clock(), subject=subject)
    rows = ({**each, "at": stamp(each["at"])} for each in found)
    session.out.rows(rows, COLUMNS, empty="nothing has happened yet")


COLUMNS: dict[str, Callable[[Row], Any]] = {
    "At": lambda row: row["at"],
    "Subject": lambda row: row["subject"],
    "What": lambda row: row["type"],
    "Who": lambda row: row["actor"],
    "More": lambda row: dumps(row["data"]),
}


@command(app, "verify")
def verify_journal(session: Session) -> int | None:
    """Walk every chain and every anchor; exit status 1 if anything was changed, is missing or was added."""
    session.actor(Verb.SEE)
    with session.engine.ledger.read() as connection:
        events, flaws = journal.verify(connection)
    view = {
        "events": events,
        "clean": not flaws,
        "flaws": [{"subject": each.subject, "seq": each.seq, "what": each.what} for each in flaws],
    }
    session.out.one(view, lambda: _words(events, view["flaws"]))

    return Status.REFUSED if flaws else None


def _words(events: int, flaws: Any) -> list[str]:
    lines = [f"{each['subject']} #{each['seq']}: {each['what']}" for each in flaws]

    return [*lines, f"{events} events, {len(flaws)} flaws" if flaws else f"{events} events, all as they were written"]
