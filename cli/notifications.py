"""`refundry webhooks received`, `replay`, `link` and `verify`: what providers told us."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cli.errors import Status, Unusable
from cli.output import Row
from cli.refunds import the_refund
from cli.session import Session
from engine import notifications
from engine.people import Verb
from engine.view import stamp
from ledger import notification
from providers.base import NotificationRefused

Account = Annotated[str | None, typer.Option("--account", metavar="NAME", help="Only of this account.")]


def list_received(
    session: Session,
    *,
    account: Account = None,
    unmatched: Annotated[
        bool, typer.Option("--unmatched", help="Only those that no refund was found for, yet or at all.")
    ] = False,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Only those that are not shown to be the provider's.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
) -> None:
    """List what providers told us, newest first, and what came of it."""
    session.actor(Verb.SEE)
    with session.engine.ledger.read() as connection:
        found = notification.listed(
            connection, limit=limit, account=account, unmatched=unmatched, unverified=unverified
        )
    session.out.rows(map(_row, found), COLUMNS, empty="nothing was received")


def _row(kept: Row) -> Row:
    times = ("received_at", "last_at", "processed_at", "due_at")
    shown = {name: stamp(kept[name]) for name in times}

    return {"object": "notification", **kept, **shown, "verified": bool(kept["verified"])}


COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Id": lambda row: row["id"],
    "At": lambda row: row["last_at"],
    "Account": lambda row: row["account"],
    "Kind": lambda row: row["kind"],
    "Verified": lambda row: "yes" if row["verified"] else f"no: {row['why']}",
    "State": lambda row: row["state"],
    "Result": lambda row: row["result"],
    "Times": lambda row: row["deliveries"],
}


def replay_notification(
    session: Session,
    *,
    notification_id: Annotated[str, typer.Argument(metavar="ID", help="As `webhooks received` says: nt_….")],
) -> None:
    """Have a notification looked at once more: the provider is asked again, and nothing is done twice."""
    who = session.actor(Verb.ACT)
    found = notifications.replay(session.engine, who, notification_id)
    session.out.say(f"{found['id']} is looked at again", id=found["id"], account=found["account"], state="received")


def link_notification(
    session: Session,
    *,
    notification_id: Annotated[str, typer.Argument(metavar="ID", help="One that no refund was found for: nt_….")],
    refund: Annotated[str, typer.Option("--refund", help="The refund that it is about, by any kind of id.")],
    reason: Annotated[str, typer.Option("--reason", help="How you know; it stays on record.")] = "",
) -> None:
    """Say which refund a notification is about: the provider is asked about that one."""
    who = session.actor(Verb.ACT)
    found = notifications.link(session.engine, who, notification_id, the_refund(session, refund).id, reason=reason)
    session.out.say(f"{found['id']} is looked at again", id=found["id"], account=found["account"], state="received")


def verify_notification(
    session: Session,
    *,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Headers, an empty line and the body, as they came; - for stdin.")
    ],
    account: Annotated[str, typer.Option("--account", metavar="NAME", help="Whose provider is said to have sent it.")],
    at: Annotated[
        float | None, typer.Option("--at", metavar="SECONDS", help="When it came, in epoch seconds; else now.")
    ] = None,
) -> int | None:
    """Check a notification's signature without a network; nothing is kept. Exit status 1 if it does not hold."""
    session.actor(Verb.SEE)
    headers, body = _message(file)
    try:
        hint = notifications.verify(session.engine, account, headers, body, at)
    except NotificationRefused as refused:
        session.out.say(f"refused: {refused}", verified=False, why=str(refused))
        return Status.REFUSED
    words = "the signature holds" if hint.proven else notifications.UNPROVEN
    session.out.say(words, verified=hint.proven, hint=msgspec.to_builtins(hint))

    return None


def _message(file: str) -> tuple[dict[str, str], bytes]:
    """A message as HTTP writes it, without the request line or with it; the body is kept byte for byte."""
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from None
    for blank in (b"\r\n\r\n", b"\n\n"):
        head, found, body = raw.partition(blank)
        if found and (blank == b"\r\n\r\n" or b"\r\n\r\n" not in raw):
            lines = (line.partition(":") for line in head.decode("latin-1").splitlines())
            return {name.strip(): value.strip() for name, colon, value in lines if colon}, body
    raise Unusable(f"{file}: expected headers, an empty line and the body")
