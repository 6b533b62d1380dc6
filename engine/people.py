"""Who may do what. Roles are checked here, in the use case, wherever the request came from."""

import re
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection

from domain.errors import Forbidden, NotFound, Refused
from engine.bootstrap import Engine
from ledger import journal, people
from ledger.people import Person

SYSTEM = "system"
# One spelling for one person: what looks alike must not count as two.
NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}", re.ASCII)


class Role(StrEnum):
    """Additive roles of a person."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"


class Verb(StrEnum):
    """What a role may do; whatever is not listed for a role is off."""

    SEE = "see"
    REVEAL = "reveal"
    ACT = "act"
    CREATE = "create"
    DECIDE = "decide"
    SWITCH = "switch"
    ADMINISTER = "administer"


ALLOWED: dict[Role, frozenset[Verb]] = {
    Role.VIEWER: frozenset({Verb.SEE}),
    Role.OPERATOR: frozenset({Verb.SEE, Verb.REVEAL, Verb.ACT, Verb.CREATE, Verb.SWITCH}),
    Role.APPROVER: frozenset({Verb.SEE, Verb.REVEAL, Verb.DECIDE}),
    Role.ADMIN: frozenset({Verb.SEE, Verb.REVEAL, Verb.SWITCH, Verb.ADMINISTER}),
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who has been recognised. `alone`: no user exists, so the system may do what one person may do."""

    name: str
    roles: frozenset[Role]
    alone: bool = False


def recognise(engine: Engine, name: str | None) -> Actor:
    """The person of that name, or the system user while no user exists at all. Raises Forbidden."""
    with engine.ledger.read() as connection:
        if name is None or name == SYSTEM:
            return _system(people.listed(connection))
        found = people.get(connection, name)
    if found is None or not found.active:
        raise Forbidden("unknown-actor", f"there is no user {name!r}")

    return Actor(found.name, frozenset(Role(role) for role in found.roles))


def _system(everyone: list[Person]) -> Actor:
    """The system user: all that one person may do while nobody else exists; only adding users while no admin does."""
    if not everyone:
        return Actor(SYSTEM, frozenset(Role), alone=True)
    if not any(Role.ADMIN in each.roles and each.active for each in everyone):
        return Actor(SYSTEM, frozenset({Role.ADMIN}), alone=True)

    raise Forbidden("actor-required", "users exist: say who acts with --actor or REFUNDRY_ACTOR")


def require(actor: Actor, verb: Verb) -> None:
    """Raises Forbidden, naming the roles that would do."""
    if any(verb in ALLOWED[role] for role in actor.roles):
        return
    able = ", ".join(role for role in Role if verb in ALLOWED[role])

    raise Forbidden("forbidden", f"{actor.name} may not do this: it takes the role {able}")


def refused(engine: Engine, actor: Actor, what: str, error: Forbidden) -> None:
    """Put on record that somebody tried what they may not."""
    data = {"what": what[:200], "code": error.code}
    engine.ledger.run(
        lambda connection: journal.append(
            connection, f"user/{actor.name}", "user.refused", actor=actor.name, now=engine.clock(), data=data
        )
    )


def create(engine: Engine, actor: Actor, name: str, roles: frozenset[Role]) -> None:
    """Add a person; the first one may be made by the system."""
    require(actor, Verb.ADMINISTER)
    if name == SYSTEM or not NAME.fullmatch(name):
        raise Refused("name-invalid", "a user's name is 1 to 64 of a-z, 0-9, dot, @, _ and -, and not 'system'")

    def work(connection: Connection) -> None:
        if people.get(connection, name) is not None:
            raise Refused("user-exists", f"there is a user {name!r} already")
        people.add(
            connection, Person(name=name, roles=tuple(sorted(roles)), disabled=False), actor.name, engine.clock()
        )
        _told(connection, engine, name, "user.created", actor, roles)

    engine.ledger.run(work)


def change_roles(engine: Engine, actor: Actor, name: str, *, grant: frozenset[Role], revoke: frozenset[Role]) -> None:
    """Give and take roles; nobody changes their own, and the last admin stays one.

    Whom an admin leaves without any stays disabled until an admin gives one, whatever the identity provider says.
    """
    require(actor, Verb.ADMINISTER)
    if name == actor.name:
        raise Forbidden("own-roles", "nobody changes their own roles")

    def work(connection: Connection) -> None:
        found = people.get(connection, name)
        if found is None:
            raise NotFound("not-found", f"there is no user {name!r}")
        roles = (frozenset(Role(role) for role in found.roles) | grant) - revoke
        people.set_roles(connection, name, tuple(sorted(roles)))
        people.set_disabled(connection, name, disabled=not roles)
        _told(connection, engine, name, "user.changed", actor, roles)

    engine.ledger.run(work)


def _told(connection: Connection, engine: Engine, name: str, kind: str, actor: Actor, roles: frozenset[Role]) -> None:
    journal.append(
        connection, f"user/{name}", kind, actor=actor.name, now=engine.clock(), data={"roles": sorted(roles)}
    )


def everybody(engine: Engine) -> list[Person]:
    """All users."""
    with engine.ledger.read() as connection:
        return people.listed(connection)
