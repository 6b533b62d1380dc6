"""`refundry users`: people and their roles."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from cli.command import command, group
from cli.output import Row
from cli.session import Session
from engine import people
from engine.people import Role, Verb

app = group("Users: viewer, operator, approver, admin.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user.")]
Roles = Annotated[list[Role], typer.Option("--role", help="A role; may be repeated.")]

COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Name": lambda row: row["name"],
    "Roles": lambda row: ", ".join(row["roles"]),
    "Disabled": lambda row: "yes" if row["disabled"] else "",
}


@command(app, "list")
def list_users(session: Session) -> None:
    """List users."""
    session.actor(Verb.SEE)
    session.out.rows(_everybody(session), COLUMNS, empty="no users yet: the system user may do what one person may do")


@command(app, "create")
def create_user(session: Session, *, name: Name, role: Roles) -> None:
    """Add a user. Once there is an admin, everybody says who they are: --actor or REFUNDRY_ACTOR."""
    who = session.actor(Verb.ADMINISTER)
    people.create(session.engine, who, name, frozenset(role))

    _told(session, name, "created")


@command(app, "grant")
def grant_roles(session: Session, *, name: Name, role: Roles) -> None:
    """Give roles to a user."""
    who = session.actor(Verb.ADMINISTER)
    people.change_roles(session.engine, who, name, grant=frozenset(role), revoke=frozenset())

    _told(session, name, "changed")


@command(app, "revoke")
def revoke_roles(session: Session, *, name: Name, role: Roles) -> None:
    """Take roles from a user; without any the user is disabled."""
    who = session.actor(Verb.ADMINISTER)
    people.change_roles(session.engine, who, name, grant=frozenset(), revoke=frozenset(role))

    _told(session, name, "changed")


def _everybody(session: Session) -> list[dict[str, Any]]:
    return [
        {"name": each.name, "roles": list(each.roles), "disabled": each.disabled}
        for each in people.everybody(session.engine)
    ]


def _told(session: Session, name: str, done: str) -> None:
    view = next(each for each in _everybody(session) if each["name"] == name)
    session.out.one(view, lambda: [f"{name} {done}: {', '.join(view['roles']) or 'no role, disabled'}"])
