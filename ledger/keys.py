"""Keys of machines, what they said under an Idempotency-Key, and what they used of their quotas."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from ledger.models import api_key, idempotency_key, quota_use


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One key, without its secret. `accounts` None: all of them. Times are epoch seconds."""

    id: str
    name: str
    secret_hash: str
    scopes: tuple[str, ...]
    accounts: tuple[str, ...] | None
    created_by: str
    created_at: float
    expires_at: float | None
    last_used_at: float | None = None
    revoked_at: float | None = None
    revoked_by: str | None = None

    def live(self, now: float) -> bool:
        """Whether it opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def add(connection: Connection, key: ApiKey) -> None:
    """Insert a key."""
    accounts = None if key.accounts is None else msgspec.json.encode(key.accounts).decode()
    connection.execute(
        insert(api_key).values(
            id=key.id,
            name=key.name,
            secret_hash=key.secret_hash,
            scopes=" ".join(key.scopes),
            accounts=accounts,
            created_by=key.created_by,
            created_at=key.created_at,
            expires_at=key.expires_at,
        )
    )


def get(connection: Connection, ids: Collection[str]) -> dict[str, ApiKey]:
    """The keys of these ids, live or not."""
    return {row.id: _load(row) for row in connection.execute(select(api_key).where(api_key.c.id.in_(ids)))}


def listed(connection: Connection) -> list[ApiKey]:
    """All keys, newest first."""
    return [_load(row) for row in connection.execute(select(api_key).order_by(api_key.c.created_at.desc()))]


def of_client(connection: Connection, name: str) -> list[ApiKey]:
    """A client's keys; whoever asks in a transaction that writes is alone with that client until its end."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"api_key/{name}"})

    return [_load(row) for row in connection.execute(select(api_key).where(api_key.c.name == name))]


def used(connection: Connection, key_id: str, moment: float) -> None:
    """Note that it was used; an earlier moment than the one known changes nothing."""
    last = api_key.c.last_used_at
    connection.execute(
        update(api_key).where(api_key.c.id == key_id, or_(last.is_(None), last < moment)).values(last_used_at=moment)
    )


def revoke(connection: Connection, key_id: str, *, actor: str, now: float) -> bool:
    """End a key; False if it has ended already."""
    done = connection.execute(
        update(api_key)
        .where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None))
        .values(revoked_at=now, revoked_by=actor)
    )

    return done.rowcount == 1


def _load(row: Any) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        secret_hash=row.secret_hash,
        scopes=tuple(row.scopes.split()),
        accounts=None if row.accounts is None else tuple(msgspec.json.decode(row.accounts)),
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
        revoked_by=row.revoked_by,
    )


def said(connection: Connection, client: str, names: Collection[str], *, since: float) -> dict[str, str]:
    """By Idempotency-Key, the fingerprint of what the client said under it, if that was after `since`."""
    table = idempotency_key
    found = select(table.c.key, table.c.fingerprint).where(
        table.c.client == client, table.c.key.in_(names), table.c.at >= since
    )

    return {row.key: row.fingerprint for row in connection.execute(found)}


def say(connection: Connection, client: str, told: Mapping[str, str], *, now: float, since: float) -> bool:
    """Remember these fingerprints by their Idempotency-Keys. Concurrent callers wait.

    False if something else was said under one of them after `since`.
    """
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(idempotency_key)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["client", "key"],
            set_={"fingerprint": statement.excluded.fingerprint, "at": statement.excluded.at},
            where=idempotency_key.c.at < since,
        ),
        [{"client": client, "key": key, "fingerprint": told[key], "at": now} for key in sorted(told)],
    )

    return said(connection, client, told, since=since) == told


def quota(connection: Connection, client: str, hour: int) -> dict[str, int]:
    """What the client has used in that hour; nobody else of it changes that before this transaction ends."""
    _charge(connection, client, hour, {"": 0})
    # The row of the jobs is there now, and is locked by that statement.
    found = select(quota_use.c.currency, quota_use.c.used).where(quota_use.c.client == client, quota_use.c.hour == hour)

    return {str(row.currency): int(row.used) for row in connection.execute(found)}


def charge(connection: Connection, client: str, hour: int, more: Mapping[str, int]) -> None:
    """Add to what the client has used; to be called under the lock of `quota`."""
    _charge(connection, client, hour, {currency: count for currency, count in more.items() if count})


def _charge(connection: Connection, client: str, hour: int, more: Mapping[str, int]) -> None:
    if not more:
        return
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(quota_use)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["client", "hour", "currency"],
            set_={"used": quota_use.c.used + statement.excluded.used},
        ),
        [{"client": client, "hour": hour, "currency": each, "used": count} for each, count in more.items()],
    )


def forget(connection: Connection, *, before: float, hour: int) -> None:
    """Drop idempotency keys older than `before`, and quotas of hours before `hour`."""
    connection.execute(delete(idempotency_key).where(idempotency_key.c.at < before))
    connection.execute(delete(quota_use).where(quota_use.c.hour < hour))
