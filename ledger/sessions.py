"""Who is signed in: sessions, one-time links and tries, each under a hash of the secret that its owner holds."""

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, delete, insert, select, text, update

from ledger.models import session, sign_in_link, sign_in_try


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One browser that somebody signed in with."""

    digest: str
    person: str
    created_at: float
    seen_at: float
    address: str
    agent: str


_COLUMNS = tuple(session.c[spec.name] for spec in fields(Session))


def start(connection: Connection, one: Session) -> None:
    """Insert a session."""
    values: dict[str, Any] = {spec.name: getattr(one, spec.name) for spec in fields(Session)}
    connection.execute(insert(session).values(**values))


def get(connection: Connection, digest: str) -> Session | None:
    """The session of that secret."""
    row = connection.execute(select(*_COLUMNS).where(session.c.digest == digest)).first()

    return None if row is None else Session(**row._mapping)  # noqa: SLF001 - the documented way


def listed(connection: Connection, since: float, person: str | None = None) -> list[Session]:
    """Sessions that were used after `since`, the latest first."""
    query = select(*_COLUMNS).where(session.c.seen_at > since).order_by(session.c.seen_at.desc())
    if person is not None:
        query = query.where(session.c.person == person)

    return [Session(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001


def touch(connection: Connection, digest: str, now: float) -> None:
    """Somebody clicked."""
    connection.execute(update(session).where(session.c.digest == digest).values(seen_at=now))


def end(connection: Connection, digest: str) -> None:
    """End one session."""
    connection.execute(delete(session).where(session.c.digest == digest))


def end_all(connection: Connection, person: str) -> int:
    """End all sessions of a person; answers how many."""
    return connection.execute(delete(session).where(session.c.person == person)).rowcount


def forget(connection: Connection, before: float, now: float) -> None:
    """Drop sessions, links and tries that are long over."""
    connection.execute(delete(session).where(session.c.seen_at < before))
    connection.execute(delete(sign_in_link).where(sign_in_link.c.expires_at < now))
    connection.execute(delete(sign_in_try).where(sign_in_try.c.free_at < now))


def offer_link(connection: Connection, digest: str, person: str, expires_at: float) -> None:
    """Keep a link that signs `person` in once."""
    connection.execute(insert(sign_in_link).values(digest=digest, person=person, expires_at=expires_at))


def take_link(connection: Connection, digest: str, now: float) -> str | None:
    """Whom the link signs in; it is used up by this."""
    taken = connection.execute(
        delete(sign_in_link)
        .where(sign_in_link.c.digest == digest, sign_in_link.c.expires_at > now)
        .returning(sign_in_link.c.person)
    )
    person: str | None = taken.scalar()

    return person


def count_try(connection: Connection, key: str, now: float, lasting: float) -> float:
    """One more try of `key`, to be forgotten `lasting` seconds after those before it: answers when. One statement."""
    counted = connection.execute(
        text(
            "INSERT INTO sign_in_try (key, free_at) VALUES (:key, :first) ON CONFLICT (key) DO UPDATE SET free_at = "
            "CASE WHEN sign_in_try.free_at > :now THEN sign_in_try.free_at + :lasting ELSE :first END "
            "RETURNING free_at"
        ),
        {"key": key, "now": now, "lasting": lasting, "first": now + lasting},
    )

    return float(counted.scalar_one())


def forgive_try(connection: Connection, key: str, lasting: float) -> None:
    """The last try of `key` was no vain one."""
    less = {"free_at": sign_in_try.c.free_at - lasting}
    connection.execute(update(sign_in_try).where(sign_in_try.c.key == key).values(less))
