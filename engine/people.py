"""Who may do what. Roles are checked here, in the use case, wherever the request came from."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection

from domain.errors import Forbidden, NotFound, Refused
from engine.bootstrap import Engine
from ledger import journal, people
from ledger.people import Person

SYSTEM = "system"


class Role(StrEnum):
    """Additive roles of a person."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"


class Verb(StrEnum):
    """What a role may do; whatever is not listed for a role is off."""

    SEE = "see"
    ACT = "act"
    CREATE = "create"
    DECIDE = "decide"
    SWITCH = "switch"
    ADMINISTER = "administer"


ALLOWED: dict[Role, frozenset[Verb]] = {
    Role.VIEWER: frozenset({Verb.SEE}),
    Role.OPERATOR: frozenset({Verb.SEE, Verb.ACT, Verb.CREATE, Verb.SWITCH}),
    Role.APPROVER: frozenset({Verb.SEE, Verb.DECIDE}),
    Role.ADMIN: frozenset({Verb.SEE, Verb.SWITCH, Verb.ADMINISTER}),
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
            if people.any_person(connection):
                raise Forbidden("actor-required", "users exist: say who acts with --actor or REFUNDRY_ACTOR")
            return Actor(SYSTEM, frozenset(Role), alone=True)
        found = people.get(connection, name)
    if found is None or found.disabled:
        raise Forbidden("unknown-actor", f"there is no user {name!r}")

    return Actor(found.name, frozenset(Role(role) for role in found.roles))


def require(actor: Actor, verb: Verb) -> None:
    """Raises Forbidden, naming the roles that would do."""
    if any(verb in ALLOWED[role] for role in actor.roles):
        return
    able = ", ".join(role for role in Role if verb in ALLOWED[role])

    raise Forbidden("forbidden", f"{actor.name} may not do this: it takes the role {able}")


def create(engine: Engine, actor: Actor, name: str, roles: frozenset[Role]) -> None:
    """Add a person; the first one may be made by the system."""
    require(actor, Verb.ADMINISTER)
    if name == SYSTEM or not name.strip():
        raise Refused("name-invalid", f"{name!r} cannot be a user's name")
    if actor.alone and Role.ADMIN not in roles:
        raise Refused("first-user-admin", "the first user must be an admin, or nobody could add another")

    def work(connection: Connection) -> None:
        if people.get(connection, name) is not None:
            raise Refused("user-exists", f"there is a user {name!r} already")
        people.add(
            connection, Person(name=name, roles=tuple(sorted(roles)), disabled=False), actor.name, engine.clock()
        )
        _told(connection, engine, name, "user.created", actor, roles)

    engine.ledger.run(work)


def change_roles(engine: Engine, actor: Actor, name: str, *, grant: frozenset[Role], revoke: frozenset[Role]) -> None:
    """Give and take roles; nobody changes their own, and the last admin stays one."""
    require(actor, Verb.ADMINISTER)
    if name == actor.name:
        raise Forbidden("own-roles", "nobody changes their own roles")

    def work(connection: Connection) -> None:
        found = people.get(connection, name)
        if found is None:
            raise NotFound("not-found", f"there is no user {name!r}")
        roles = (frozenset(Role(role) for role in found.roles) | grant) - revoke
        people.set_roles(connection, name, tuple(sorted(roles)))
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
