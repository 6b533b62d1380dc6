"""`refundry users`: people and their roles."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.command import command, group
from cli.errors import Unusable
from cli.output import Row
from cli.session import Session
from engine import people, sessions
from engine.people import Role, Verb

app = group("Users: viewer, operator, approver, admin.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user.")]
Roles = Annotated[list[Role], typer.Option("--role", help="A role; may be repeated.")]

PasswordFile = Annotated[
    str | None, typer.Option("--password-file", metavar="FILE", help="What has the password (a file, - for stdin).")
]

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
def create_user(session: Session, *, name: Name, role: Roles, password_file: PasswordFile = None) -> None:
    """Add a user. Once there is an admin, everybody says who they are: --actor or REFUNDRY_ACTOR.

    With a password the user can sign in to the console.
    """
    who = session.actor(Verb.ADMINISTER)
    password = None if password_file is None else _password(password_file)
    people.create(session.engine, who, name, frozenset(role))
    if password is not None:
        sessions.set_password(session.engine, who, name, password)

    _told(session, name, "created")


@command(app, "password")
def give_password(session: Session, *, name: Name, password_file: PasswordFile = None) -> None:
    """Give a user a password for the console; their sessions end. It is asked for unless a file has it."""
    who = session.actor(Verb.SEE)
    sessions.set_password(session.engine, who, name, _password(password_file))
    session.out.say(f"{name} has a new password", name=name)


def _password(path: str | None) -> str:
    """From a file, stdin or a person; Unusable where it cannot be read."""
    if path is None:
        given: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return given
    try:
        words = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Unusable(f"{path}: cannot be read: {type(error).__name__}") from None

    return words.rstrip("\r\n")


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
