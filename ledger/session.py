"""Connections: one code for PostgreSQL and SQLite, durable on both."""

import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import msgspec
import psycopg
from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    FromClause,
    LargeBinary,
    Result,
    Select,
    Table,
    Text,
    TextClause,
    Update,
    bindparam,
    cast,
    column,
    create_engine,
    event,
    func,
    insert,
    literal,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.types import TypeEngine

T = TypeVar("T")

# serialization_failure, deadlock_detected: the database undid everything and asks to try again.
_RETRIED = frozenset({"40001", "40P01"})
#: The database restarts, fails over, is read-only for a moment, or has no connection left.
AWAY = (OperationalError, InternalError, InterfaceError, PoolTimeoutError)
# Read-only, idle in a transaction for too long, in one for too long: what psycopg calls internal, and is everybody's.
_PASSING = frozenset({"25006", "25P03", "25P04"})


def is_away(error: BaseException) -> bool:
    """Whether it is one of AWAY, and surely about the database: the others of its internal errors may be one row's."""
    if isinstance(error, InternalError):
        return getattr(error.orig, "sqlstate", None) in _PASSING

    return isinstance(error, AWAY)


class Overtaken(Exception):
    """Raised by work that must be done again, over what others have committed meanwhile."""


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
        """`work` in one transaction, done again when others have overtaken it, or the database broke a deadlock."""
        for left in range(tries - 1, -1, -1):
            try:
                with self.write() as connection:
                    return work(connection)
            except Overtaken:
                if left == 0:
                    raise
            except DBAPIError as error:
                if left == 0 or getattr(error.orig, "sqlstate", None) not in _RETRIED:
                    raise
        raise AssertionError("unreachable")

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()


# Every write finds its rows by an index, whatever the planner believes of the table's size; so the plan is always the
# same, and making it once is enough. Planning anew took a third of what PostgreSQL spent on a batch. Reading a row too
# many is dear, or a table that was empty then would be walked through for every batch until somebody analyses it.
_WRITING = (
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; "
    "SET cpu_tuple_cost = 1; SET plan_cache_mode = force_generic_plan"
)
# A machine that is cut off in the middle of a transaction leaves its locks behind: the server gives it ten seconds, and
# none of ours waits that long for anything but the server. A connection whose machine is gone ends too, instead of
# taking a place for two hours.
_CUT_OFF = (
    "SET idle_in_transaction_session_timeout = '10s'; "
    "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
)
# The same seen from here: a server that is gone without a word is an error after half a minute, and not after a quarter
# of an hour.
_GONE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 30_000}
# Whatever the server's default: what was committed before a request left must outlive a crash, or the request leaves
# again as if for the first time.
_DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', false) "
    "WHERE current_setting('synchronous_commit') IN ('off', 'local')"
)
# A question that was planned once and for all while the tables were small would walk through them for ever. It locks
# nothing, so an export may wait for a slow reader.
_READING = (
    "SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on; "
    "SET LOCAL enable_material = on; SET LOCAL cpu_tuple_cost = 0.01; "
    "SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL idle_in_transaction_session_timeout = '10min'"
)
# A connection that was used so many seconds ago is there. Asking before every transaction is a round trip of its own.
_SURELY_THERE = 1.0
# A plan made while statistics call a table empty, as of an outbox that a vacuum found so, begins with all of its rows,
# for they are none. Made anew, it sees how large the table is by then.
_PLANS_LAST = 5.0


def _postgresql(url: str, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        hide_parameters=True,
        connect_args={"connect_timeout": 5, **_GONE},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:
        record.info["planned_at"] = time.monotonic()
        _alone(connection, f"{_WRITING}; {_CUT_OFF}; {_DURABLE}")

    @event.listens_for(engine, "checkin")
    def _rest(_connection: Any, record: Any) -> None:
        record.info["rested_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _wake(connection: Any, record: Any, _proxy: object) -> None:
        now = time.monotonic()
        try:
            if now - record.info["planned_at"] >= _PLANS_LAST:
                record.info["planned_at"] = now
                _alone(connection, "DISCARD PLANS")
            elif now - record.info.get("rested_since", math.inf) >= _SURELY_THERE:
                engine.dialect.do_ping(connection)
        except psycopg.Error:
            raise InvalidatePoolError from None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("refundry_read"):
            connection.exec_driver_sql(_READING)

    return engine


def _alone(connection: Any, statements: str) -> None:
    """Outside of a transaction."""
    connection.autocommit = True
    connection.execute(statements)
    connection.autocommit = False


_BUSY_SECONDS = 30


def _sqlite(url: str) -> Engine:
    engine = create_engine(
        url, hide_parameters=True, connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for pragma in ("synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_SECONDS * 1000}"):
            connection.execute(f"PRAGMA {pragma}")
        _write_ahead(connection)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes its lock at once: a lock that is upgraded later fails instead of waiting.
        reading = connection.get_execution_options().get("refundry_read")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch the file to its write-ahead log, which it then keeps.

    SQLite does not wait for its busy time here: of two processes that open a new file at once one is refused.
    """
    given_up = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > given_up:
                raise
            time.sleep(0.01)
        else:
            return


def _table(columns: Mapping[str, TypeEngine[Any]], *, sqlite: bool, parameter: str = "rows") -> FromClause:
    """A table of the rows in a parameter (see `packed`): one statement text for any number of rows."""
    if sqlite:
        each = func.json_each(bindparam(parameter, type_=Text)).table_valued("value")
        fields = [func.json_extract(each.c.value, f"$.{name}").label(name) for name in columns]
        return select(*fields).cte("v")

    # As `jsonb`, which is sorted and packed before it is read, the same rows take twice the time.
    return (
        func.json_to_recordset(cast(bindparam(parameter, type_=Text), JSON))
        .table_valued(*(column(name, type_) for name, type_ in columns.items()))
        .render_derived(name="v", with_types=True)
    )


def packed(values: Sequence[Mapping[str, Any]], parameter: str = "rows") -> dict[str, str]:
    """The parameter that `OverRows` reads."""
    return {parameter: msgspec.json.encode(values).decode()}


class OverRows:
    """A statement over many rows, built once: `build` receives the table of rows and answers the statement."""

    def __init__(self, columns: Mapping[str, TypeEngine[Any]], build: Callable[[FromClause], Executable]) -> None:
        self._columns, self._build = columns, build
        self._built = {sqlite: build(_table(columns, sqlite=sqlite)) for sqlite in (True, False)}

    def run(self, connection: Connection, values: Sequence[Mapping[str, Any]], **given: Any) -> Result[Any]:
        """Execute it with these values, and what else its parameters are `given`."""
        return connection.execute(self._built[connection.dialect.name == "sqlite"], {**packed(values), **given})

    def reading(self, parameter: str) -> Executable:
        """PostgreSQL: the statement over the rows in this parameter."""
        return self._build(_table(self._columns, sqlite=False, parameter=parameter))


class Writes:
    """Writes that belong together: on PostgreSQL one statement and one round trip, on SQLite one after the other.

    On PostgreSQL none of them sees what the others write: no row may be written by two of them.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sqlite = connection.dialect.name == "sqlite"
        self._shapes: list[tuple[Any, ...]] = []
        self._parameters: dict[str, str] = {}

    def insert(self, table: Table, values: Sequence[Mapping[str, Any]]) -> None:
        """Like `insert_rows`."""
        if self._sqlite:
            insert_rows(self._connection, table, values)
        elif values:
            self._add(values, _insert_packed, table, tuple(values[0]))

    def update(self, table: Table, values: Sequence[Mapping[str, Any]], *, keys: tuple[str, ...]) -> None:
        """Like `update_rows`."""
        if self._sqlite:
            update_rows(self._connection, table, values, keys=keys)
        elif values:
            self._add(values, _update_packed, table, tuple(values[0]), keys)

    def over(self, statement: OverRows, values: Sequence[Mapping[str, Any]]) -> None:
        """Like `OverRows.run`, without an answer; nothing for no values."""
        if self._sqlite and values:
            statement.run(self._connection, values)
        elif values:
            self._add(values, statement.reading)

    def carry_out(self) -> None:
        """Send what is not written yet."""
        if self._shapes:
            self._connection.execute(_together(tuple(self._shapes)), self._parameters)

    def _add(self, values: Sequence[Mapping[str, Any]], *shape: Any) -> None:
        self._parameters |= packed(values, f"rows{len(self._shapes)}")
        self._shapes.append(shape)


@cache
def _together(shapes: tuple[tuple[Any, ...], ...]) -> Select[Any]:
    """One statement of those that each shape's first member builds out of the others."""
    writes = (build(*told, f"rows{number}") for number, (build, *told) in enumerate(shapes))

    return select(literal(1)).add_cte(*(write.cte(f"write{number}") for number, write in enumerate(writes)))


def insert_rows(connection: Connection, table: Table, values: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns; on PostgreSQL in one round trip however many there are."""
    if not values:
        return
    if connection.dialect.name == "sqlite":
        connection.execute(insert(table), values)
    else:
        connection.execute(_insert_packed(table, tuple(values[0])), packed(values))


def insert_new(
    connection: Connection,
    table: Table,
    values: Sequence[Mapping[str, Any]],
    unique: tuple[str, ...],
    returning: ColumnElement[T],
) -> set[T]:
    """Like `insert_rows`, leaving those whose `unique` columns are there already; answers the new ones' column."""
    if not values:
        return set()
    if connection.dialect.name == "sqlite":
        statement = sqlite.insert(table).on_conflict_do_nothing(index_elements=unique)
        return set(connection.scalars(statement.returning(returning), values))

    return set(connection.scalars(_insert_new_packed(table, tuple(values[0]), unique, returning), packed(values)))


@cache
def _insert_new_packed(
    table: Table, names: tuple[str, ...], unique: tuple[str, ...], returning: ColumnElement[Any]
) -> Executable:
    statement = _insert_packed(table, names).on_conflict_do_nothing(index_elements=unique)

    return statement.returning(returning)


@cache
def _insert_packed(table: Table, names: tuple[str, ...], parameter: str = "rows") -> postgresql.Insert:
    """INSERT of the rows in the parameter, built once; bytes travel in base64, as `packed` writes them."""
    columns = _columns(table, names, parameter)

    return postgresql.insert(table).from_select(list(names), select(*columns.values()))


def update_rows(
    connection: Connection, table: Table, values: Sequence[Mapping[str, Any]], *, keys: tuple[str, ...]
) -> None:
    """Update the rows named by `keys`; on PostgreSQL in one round trip however many there are."""
    if not values:
        return
    names = tuple(values[0])
    if connection.dialect.name == "sqlite":
        connection.execute(_update_each(table, names, keys), values)
    else:
        connection.execute(_update_packed(table, names, keys), packed(values))


@cache
def _update_each(table: Table, names: tuple[str, ...], keys: tuple[str, ...]) -> TextClause:
    changes = ", ".join(f"{name} = :{name}" for name in names if name not in keys)

    wanted = " AND ".join(f"{key} = :{key}" for key in keys)

    return text(f"UPDATE {table.name} SET {changes} WHERE {wanted}")  # noqa: S608 - names of our own tables


@cache
def _update_packed(table: Table, names: tuple[str, ...], keys: tuple[str, ...], parameter: str = "rows") -> Update:
    columns = _columns(table, names, parameter)

    return (
        update(table)
        .values({name: columns[name] for name in names if name not in keys})
        .where(*(table.c[key] == columns[key] for key in keys))
    )


def _columns(table: Table, names: tuple[str, ...], parameter: str) -> dict[str, ColumnElement[Any]]:
    """PostgreSQL: the columns of the parameter; bytes come in base64, as `packed` writes them."""
    binary = {name for name in names if isinstance(table.c[name].type, LargeBinary)}
    types = {name: Text() if name in binary else table.c[name].type for name in names}
    values = _table(types, sqlite=False, parameter=parameter)

    return {name: func.decode(values.c[name], "base64") if name in binary else values.c[name] for name in names}
