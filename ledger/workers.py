"""Heartbeats: who works here, and who has been asked to stop taking work."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, select, text, update

from ledger.models import heartbeat


def beat(connection: Connection, name: str, kind: str, now: float, details: Mapping[str, Any]) -> None:
    """Say that `name` lives."""
    connection.execute(
        text(
            "INSERT INTO heartbeat (name, kind, started_at, beat_at, details) "
            "VALUES (:name, :kind, :now, :now, :details) "
            "ON CONFLICT (name) DO UPDATE SET beat_at = :now, details = :details"
        ),
        {"name": name, "kind": kind, "now": now, "details": msgspec.json.encode(details).decode()},
    )


def last_beat(connection: Connection, kind: str) -> float | None:
    """When somebody of `kind` was last heard."""
    query = select(heartbeat.c.beat_at).where(heartbeat.c.kind == kind).order_by(heartbeat.c.beat_at.desc()).limit(1)
    value: float | None = connection.execute(query).scalar()

    return value


def listed(connection: Connection) -> list[dict[str, Any]]:
    """Everybody, by name."""
    rows = connection.execute(select(heartbeat).order_by(heartbeat.c.kind, heartbeat.c.name))

    return [{**row._mapping, "details": msgspec.json.decode(row.details)} for row in rows]  # noqa: SLF001


def drain(connection: Connection, name: str) -> bool:
    """Ask a worker to take nothing more; False if nobody has that name."""
    return connection.execute(update(heartbeat).where(heartbeat.c.name == name).values(drain=True)).rowcount == 1


def is_draining(connection: Connection, name: str) -> bool:
    """Whether `name` was asked to stop taking work."""
    return bool(connection.execute(select(heartbeat.c.drain).where(heartbeat.c.name == name)).scalar())


def leave(connection: Connection, name: str) -> None:
    """`name` ends in good order."""
    connection.execute(delete(heartbeat).where(heartbeat.c.name == name))


def forget(connection: Connection, before: float) -> None:
    """Drop those who were not heard since `before`."""
    connection.execute(delete(heartbeat).where(heartbeat.c.beat_at < before))
