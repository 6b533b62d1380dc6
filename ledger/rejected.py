"""Jobs that could not be accepted: dead letters with their reasons, kept until a person closes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ledger.models import rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A refused job. `body` is sealed; `head` is the beginning, redacted, for the Redis stream only."""

    id: str
    at: float
    source: str
    account: str | None
    reference: str | None
    errors: str
    body: bytes
    size: int
    body_hash: str
    head: bytes = b""


def keep(connection: Connection, refused: Sequence[Rejection]) -> None:
    """Store them; a source that is known already is left as it is."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    names = ("id", "at", "source", "account", "reference", "errors", "body", "size", "body_hash")
    connection.execute(
        dialect.insert(rejected).on_conflict_do_nothing(index_elements=["source"]),
        [{name: getattr(each, name) for name in names} for each in refused],
    )


def listed(connection: Connection, *, limit: int = 100, open_only: bool = True) -> list[dict[str, Any]]:
    """Rejected jobs, newest first, without their bodies."""
    columns = [column for column in rejected.c if column.name != "body"]
    query = select(*columns).order_by(rejected.c.at.desc()).limit(limit)
    if open_only:
        query = query.where(rejected.c.closed_at.is_(None))

    return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - the documented way


def get(connection: Connection, rejection_id: str) -> dict[str, Any] | None:
    """One rejected job with its sealed body."""
    row = connection.execute(select(rejected).where(rejected.c.id == rejection_id)).first()

    return None if row is None else dict(row._mapping)  # noqa: SLF001


def close(connection: Connection, rejection_id: str, *, actor: str, reason: str, now: float) -> bool:
    """Close an open one; False if it is not open."""
    done = connection.execute(
        update(rejected)
        .where(rejected.c.id == rejection_id, rejected.c.closed_at.is_(None))
        .values(closed_at=now, closed_by=actor, closed_reason=reason[:512])
    )

    return done.rowcount == 1


def count_open(connection: Connection) -> int:
    """How many wait for a person."""
    query = select(func.count()).select_from(rejected).where(rejected.c.closed_at.is_(None))

    return int(connection.execute(query).scalar_one())
