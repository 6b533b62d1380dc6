"""`refundry views`: searches kept under names."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from cli.command import command, group
from cli.output import Row
from cli.session import Session
from engine import saved
from engine.people import Verb
from ledger.saved import SavedView

app = group("Saved views: searches under names; `refundry refunds list --view NAME` shows what fits.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The view.")]

COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Name": lambda row: row["name"],
    "Query": lambda row: row["query"],
    "Of": lambda row: row["owner"],
    "Shared": lambda row: "yes" if row["shared"] else "",
}


@command(app, "list")
def list_views(session: Session) -> None:
    """List one's own views, then what others share."""
    who = session.actor(Verb.SEE)
    session.out.rows(map(_view, saved.listed(session.engine, who)), COLUMNS, empty="no saved views")


@command(app, "save")
def save_view(
    session: Session,
    *,
    name: Name,
    query: Annotated[list[str], typer.Argument(metavar="QUERY", help="As for refunds list; not about a person.")],
    shared: Annotated[bool, typer.Option("--shared", help="Everybody sees it.")] = False,
) -> None:
    """Keep a search, in place of one's own of that name."""
    who = session.actor(Verb.SEE)
    view = saved.save(session.engine, who, name, " ".join(query), shared=shared)
    session.out.one(_view(view), lambda: [f"{view.name} saved{', for everybody' if shared else ''}: {view.query}"])


@command(app, "remove")
def remove_view(
    session: Session,
    *,
    name: Name,
    owner: Annotated[str | None, typer.Option(help="Whose; for admins, of what others share.")] = None,
) -> None:
    """Forget a view; the refunds it showed are not touched."""
    who = session.actor(Verb.SEE)
    saved.remove(session.engine, who, name, owner)
    session.out.say(f"{name} removed", name=name)


def _view(view: SavedView) -> dict[str, Any]:
    return {"name": view.name, "query": view.query, "owner": view.owner, "shared": view.shared}
