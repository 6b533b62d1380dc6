"""All that is sealed in the ledger, walked in bounded batches, and replaced where nobody else has meanwhile."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Column, Connection, LargeBinary, Select, bindparam, func, insert, select, tuple_, update

from ledger.models import bookmark, metadata

#: Every column of bytes is sealed; what was erased is empty.
COLUMNS: tuple[Column[bytes], ...] = tuple(
    column for table in metadata.sorted_tables for column in table.c if isinstance(column.type, LargeBinary)
)
#: A batch has at most so many values, and so many bytes unless one value alone has more.
MOST = 500
MOST_BYTES = 8 * 1024 * 1024

Key = Sequence[Any]
Value = tuple[Key, bytes]


def name_of(column: Column[bytes]) -> str:
    """Like `refund.personal`."""
    return f"{column.table.name}.{column.name}"


def page(connection: Connection, column: Column[bytes], after: Key | None) -> list[Value]:
    """The next values by their rows' primary keys; none where the walk has ended."""
    keys = _keys(column)
    sizes = connection.execute(_there(column, after).add_columns(*keys, func.length(column)).limit(MOST))
    last, total = None, 0
    for *key, size in sizes:
        total += size
        if last is not None and total > MOST_BYTES:
            break
        last = key
    if last is None:
        return []
    query = _there(column, after).add_columns(*keys, column).where(tuple_(*keys) <= tuple_(*last))

    return [(tuple(key), bytes(value)) for *key, value in connection.execute(query)]


def newest(connection: Connection, column: Column[bytes], most: int) -> list[bytes]:
    """The values of the rows that were made last: keys grow with time."""
    latest = select(column.label("value")).select_from(column.table).order_by(*(key.desc() for key in _keys(column)))
    found = connection.execute(latest.limit(most)).scalars()

    return [bytes(value) for value in found if value]


def count(connection: Connection, column: Column[bytes]) -> int:
    """How many values there are."""
    query = select(func.count()).select_from(column.table).where(column.is_not(None), func.length(column) > 0)

    return int(connection.execute(query).scalar_one())


def replace(connection: Connection, column: Column[bytes], changes: Sequence[tuple[Key, bytes, bytes]]) -> None:
    """Put the third in the place of the second: a row that says something else by now stays as it is."""
    if not changes:
        return
    keys = _keys(column)
    statement = (
        update(column.table)
        .values({column.name: bindparam("new", type_=LargeBinary)})
        .where(
            column == bindparam("old", type_=LargeBinary),
            *(key == bindparam(f"key{place}") for place, key in enumerate(keys)),
        )
    )
    connection.execute(
        statement,
        [
            {"old": old, "new": new, **{f"key{place}": part for place, part in enumerate(key)}}
            for key, old, new in changes
        ],
    )


def _there(column: Column[bytes], after: Key | None) -> Select[Any]:
    keys = _keys(column)
    query = select().where(column.is_not(None), func.length(column) > 0).order_by(*keys)

    return query if after is None else query.where(tuple_(*keys) > tuple_(*after))


def _keys(column: Column[bytes]) -> list[Column[Any]]:
    return list(column.table.primary_key.columns)


# -- how far a walk has come -----------------------------------------------------------------------------------------

NAME = "rotate-encryption"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Up to where values are sealed with the key of this name; `column` None: all of them are."""

    key: str
    column: str | None = None
    after: tuple[str | int, ...] | None = None


def place(connection: Connection) -> tuple[float, Place] | None:
    """When the last walk came how far."""
    row = connection.execute(select(bookmark.c.at, bookmark.c.place).where(bookmark.c.name == NAME)).first()

    return None if row is None else (row.at, msgspec.json.decode(row.place, type=Place))


def note_place(connection: Connection, where: Place, now: float) -> None:
    """The walk has come so far, as soon as this transaction is committed."""
    values = {"at": now, "place": msgspec.json.encode(where).decode()}
    if connection.execute(update(bookmark).where(bookmark.c.name == NAME).values(values)).rowcount == 0:
        connection.execute(insert(bookmark).values(name=NAME, **values))
