"""Connections: one code for PostgreSQL and SQLite, durable on both."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    Connection,
    Engine,
    FromClause,
    Text,
    bindparam,
    cast,
    column,
    create_engine,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

T = TypeVar("T")

# serialization_failure, deadlock_detected: the database undid everything and asks to try again.
_RETRIED = frozenset({"40001", "40P01"})


class Ledger:
    """The database. `write()` holds one transaction; `read()` sees one consistent state and changes nothing."""

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        self.url = make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite(url) if self.sqlite else _postgresql(url, pool_size)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end of the block, or leaves no trace."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for questions."""
        with self.engine.connect().execution_options(refundry_read=True) as connection, connection.begin():
            yield connection

    def run(self, work: Callable[[Connection], T], *, tries: int = 5) -> T:
        """`work` in one transaction, done again when the database undid it to break a deadlock."""
        for left in range(tries - 1, -1, -1):
            try:
                with self.write() as connection:
                    return work(connection)
            except DBAPIError as error:
                if left == 0 or getattr(error.orig, "sqlstate", None) not in _RETRIED:
                    raise
        raise AssertionError("unreachable")

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _postgresql(url: str, pool_size: int) -> Engine:
    return create_engine(
        url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True, connect_args={"connect_timeout": 5}
    )


def _sqlite(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes its lock at once: a lock that is upgraded later fails instead of waiting.
        reading = connection.get_execution_options().get("refundry_read")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def rows(connection: Connection, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
    """A table of the rows in the parameter `rows` (see `packed`): one statement text for any number of rows."""
    if connection.dialect.name == "sqlite":
        each = func.json_each(bindparam("rows", type_=Text)).table_valued("value")
        fields = [func.json_extract(each.c.value, f"$.{name}").label(name) for name in columns]
        return select(*fields).cte("v")

    return (
        func.jsonb_to_recordset(cast(bindparam("rows", type_=Text), JSONB))
        .table_valued(*(column(name, type_) for name, type_ in columns.items()))
        .render_derived(name="v", with_types=True)
    )


def packed(values: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The parameter that `rows` reads."""
    return {"rows": msgspec.json.encode(values).decode()}
