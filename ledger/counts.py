"""Counts that every process adds to: one row for each name and its labels."""

from collections.abc import Mapping

import msgspec
from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from ledger.models import counted

#: A name and its labels' values.
Series = tuple[str, tuple[str, ...]]


def add(connection: Connection, more: Mapping[Series, float]) -> None:
    """Add to each series, in one order, so that no two processes wait for each other."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(counted)
    rows = [
        {"name": name, "labels": msgspec.json.encode(labels).decode(), "value": value}
        for (name, labels), value in sorted(more.items())
    ]
    if rows:
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["name", "labels"], set_={"value": counted.c.value + statement.excluded.value}
            ),
            rows,
        )


def totals(connection: Connection) -> dict[Series, float]:
    """What has been counted so far."""
    rows = connection.execute(select(counted.c.name, counted.c.labels, counted.c.value))

    return {(name, tuple(msgspec.json.decode(labels))): value for name, labels, value in rows}
