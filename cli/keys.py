"""`refundry keys`: what machines open the API with, and what encrypts customers' data."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cli.command import command, group
from cli.errors import Status
from cli.output import Row
from cli.progress import counted
from cli.session import Session
from cli.times import duration
from engine import keys, rotation
from engine.keys import Scope
from engine.people import Verb
from engine.view import stamp
from ledger.keys import ApiKey

app = group("API keys of machines; the keys that encrypt customers' data.")

Name = Annotated[
    str, typer.Option("--name", help="The client that it belongs to; two keys of one name may live, for a change.")
]
Scopes = Annotated[list[Scope], typer.Option("--scope", help="What it opens; may be repeated.")]
Accounts = Annotated[
    list[str] | None, typer.Option("--account", help="The only account that it sees; may be repeated. Without: all.")
]
Expires = Annotated[
    float | None, typer.Option("--expires", parser=duration, metavar="DURATION", help="How long it lives, like 90d.")
]

COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Id": lambda row: row["id"],
    "Name": lambda row: row["name"],
    "Scopes": lambda row: " ".join(row["scopes"]),
    "Accounts": lambda row: "all" if row["accounts"] is None else " ".join(row["accounts"]),
    "State": lambda row: row["state"],
    "Expires": lambda row: row["expires_at"],
    "Last used": lambda row: row["last_used_at"],
}


@command(app, "create")
def create_key(
    session: Session, *, name: Name, scope: Scopes, account: Accounts = None, expires: Expires = None
) -> None:
    """Make a key and show it, this once: only its hash is kept."""
    who = session.actor(Verb.ADMINISTER)
    made, text = keys.create(session.engine, who, name, scopes=scope, accounts=account or (), lifetime=expires)
    view = {**_view(session, made), "key": text}

    session.out.one(view, lambda: [text, f"{made.id} of {name}: {' '.join(made.scopes)}; it is not shown again"])


@command(app, "list")
def list_keys(session: Session) -> None:
    """List keys, newest first; without what opens."""
    session.actor(Verb.ADMINISTER)
    session.out.rows((_view(session, each) for each in keys.everything(session.engine)), COLUMNS, empty="no keys yet")


@command(app, "revoke")
def revoke_key(
    session: Session, *, key_id: Annotated[str, typer.Argument(metavar="ID", help="Like rk_4fK2m9Qx.")]
) -> None:
    """End a key at once."""
    who = session.actor(Verb.ADMINISTER)
    ended = keys.revoke(session.engine, who, key_id)

    session.out.one(_view(session, ended), lambda: [f"{ended.id} of {ended.name} opens nothing any more"])


TALLY_COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Column": lambda row: row["column"],
    "Values": lambda row: row["values"],
    "Older key": lambda row: row["older"],
    "Unreadable": lambda row: row["unreadable"],
}


@command(app, "rotate-encryption")
def rotate_encryption(
    session: Session,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what older keys have sealed.")] = False,
) -> int | None:
    """Encrypt everything with the first of security.encryption_keys, beside running workers.

    May be stopped and run again: it goes on where it was. Exit status 1 while older keys are needed, or no key opens a
    value.
    """
    who = session.actor(Verb.ADMINISTER)
    work, walks = (rotation.survey, 1) if dry_run else (rotation.rotate, 2)
    with counted(lambda: walks * rotation.expected(session.engine)) as heard:
        found = work(session.engine, who, heard)
    session.out.rows((asdict(each) for each in found), TALLY_COLUMNS, empty="")

    return Status.REFUSED if any(each.older or each.unreadable for each in found) else None


def _view(session: Session, key: ApiKey) -> dict[str, Any]:
    now = session.engine.clock()
    state = "live" if key.live(now) else "revoked" if key.revoked_at is not None else "expired"

    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "accounts": None if key.accounts is None else list(key.accounts),
        "state": state,
        "created_by": key.created_by,
        "created_at": stamp(key.created_at),
        "expires_at": stamp(key.expires_at),
        "last_used_at": stamp(key.last_used_at),
        "revoked_at": stamp(key.revoked_at),
        "revoked_by": key.revoked_by,
    }
