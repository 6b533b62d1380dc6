"""`refundry keys`: what machines open the API with."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from cli.command import command, group
from cli.output import Row
from cli.session import Session
from cli.times import duration
from engine import keys
from engine.keys import Scope
from engine.people import Verb
from engine.view import stamp
from ledger.keys import ApiKey

app = group("API keys of machines.")

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
