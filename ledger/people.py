"""Users and their roles."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from ledger.models import person


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One user. `disabled`: by an admin; `subject`: who they are for the identity provider, if they come from one."""

    name: str
    roles: tuple[str, ...]
    disabled: bool
    subject: str | None = None

    @property
    def active(self) -> bool:
        """Whether they may do anything: somebody with a role, whom no admin has disabled."""
        return bool(self.roles) and not self.disabled


# Named one by one: who may read no passwords may still read who there is.
_COLUMNS = (person.c.name, person.c.roles, person.c.disabled, person.c.subject)


def any_person(connection: Connection) -> bool:
    """Whether there is a user at all."""
    return connection.execute(select(person.c.name).limit(1)).first() is not None


def get(connection: Connection, name: str) -> Person | None:
    """The user of that name."""
    row = connection.execute(select(*_COLUMNS).where(person.c.name == name)).first()

    return None if row is None else _load(row)


def listed(connection: Connection) -> list[Person]:
    """All users by name."""
    return [_load(row) for row in connection.execute(select(*_COLUMNS).order_by(person.c.name))]


def add(connection: Connection, someone: Person, actor: str, now: float) -> None:
    """Insert a user."""
    connection.execute(
        insert(person).values(name=someone.name, roles=" ".join(someone.roles), created_by=actor, created_at=now)
    )


def set_roles(connection: Connection, name: str, roles: tuple[str, ...]) -> None:
    """Replace a user's roles; without any they may do nothing."""
    connection.execute(update(person).where(person.c.name == name).values(roles=" ".join(roles)))


def set_disabled(connection: Connection, name: str, *, disabled: bool) -> None:
    """Note what an admin wants of a user, whatever roles come from elsewhere."""
    connection.execute(update(person).where(person.c.name == name).values(disabled=disabled))


def password(connection: Connection, name: str) -> str | None:
    """The hash of a user's password."""
    found: str | None = connection.execute(select(person.c.password).where(person.c.name == name)).scalar()

    return found


def set_password(connection: Connection, name: str, hashed: str) -> None:
    """Replace the hash of a user's password."""
    connection.execute(update(person).where(person.c.name == name).values(password=hashed))


def of_subject(connection: Connection, subject: str) -> Person | None:
    """Whom the identity provider means."""
    row = connection.execute(select(person).where(person.c.subject == subject)).first()

    return None if row is None else _load(row)


def bind_subject(connection: Connection, name: str, subject: str) -> None:
    """Say who a user is for the identity provider."""
    connection.execute(update(person).where(person.c.name == name).values(subject=subject))


def _load(row: Any) -> Person:
    return Person(name=row.name, roles=tuple(row.roles.split()), disabled=bool(row.disabled), subject=row.subject)
