"""Encryption keys renewed: everything that is sealed is sealed anew with the first key, beside the running system."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import Column, Connection

from domain.errors import ConfigurationError
from engine.bootstrap import Engine
from engine.people import Actor, Verb, require
from ledger import journal, sealed
from ledger.sealed import COLUMNS, Key, Place, Value, name_of

log = structlog.get_logger(__name__)

SUBJECT = "keys/encryption"
#: So many of each column's newest values tell whether somebody still seals with an older key.
NEWEST = 200

#: Hears of each batch: the column, and how many values.
Heard = Callable[[str, int], None]


@dataclass(slots=True)
class Tally:
    """A column's values: how many there are, how many of them an older key sealed, how many no key opens."""

    column: str
    values: int = 0
    older: int = 0
    unreadable: int = 0


def expected(engine: Engine) -> int:
    """How many values there are to be looked at."""
    with engine.ledger.read() as connection:
        return sum(sealed.count(connection, column) for column in COLUMNS)


def survey(engine: Engine, actor: Actor, heard: Heard) -> list[Tally]:
    """What is sealed with which key, by column; every value is opened and none is changed."""
    require(actor, Verb.ADMINISTER)

    return _survey(engine, heard)


def rotate(engine: Engine, actor: Actor, heard: Heard) -> list[Tally]:
    """Seal everything with the first key, then look at all of it once more; answers what that look has found.

    It may be killed and run again: it goes on where the last committed batch ended. A value that changes meanwhile
    stays as it was changed, and nothing else of its row is written.
    """
    require(actor, Verb.ADMINISTER)
    for column, after in _left(engine):
        for batch in _batches(engine, column, after):
            _reseal(engine, column, batch)
            heard(name_of(column), len(batch))
    found = _survey(engine, heard)
    if not any(each.older for each in found):
        _finish(engine, actor, found)

    return found


def _left(engine: Engine) -> list[tuple[Column[bytes], Key | None]]:
    """The columns that are still to be walked; the first from where an interrupted walk with this key has come."""
    with engine.ledger.read() as connection:
        known = sealed.place(connection)
    names = [name_of(column) for column in COLUMNS]
    if known is None or known[1].key != engine.vault.key_name or known[1].column not in names:
        return [(column, None) for column in COLUMNS]
    where = known[1]
    first = names.index(str(where.column))

    return [(column, where.after if column is COLUMNS[first] else None) for column in COLUMNS[first:]]


def _batches(engine: Engine, column: Column[bytes], after: Key | None) -> Iterator[list[Value]]:
    while True:
        with engine.ledger.read() as connection:
            batch = sealed.page(connection, column, after)
        if not batch:
            return
        yield batch
        after = batch[-1][0]


def _reseal(engine: Engine, column: Column[bytes], batch: Sequence[Value]) -> None:
    """Opened and sealed outside of the transaction, which is as short as the writing."""
    changes = [
        (key, value, new)
        for key, value in batch
        if not engine.vault.is_fresh(value) and (new := _resealed(engine, value)) is not None
    ]
    where = Place(key=engine.vault.key_name, column=name_of(column), after=tuple(batch[-1][0]))

    def work(connection: Connection) -> None:
        sealed.replace(connection, column, changes)
        sealed.note_place(connection, where, engine.clock())

    engine.ledger.run(work)


def _resealed(engine: Engine, value: bytes) -> bytes | None:
    try:
        return engine.vault.rotate(value)
    except ConfigurationError:
        return None


def _survey(engine: Engine, heard: Heard) -> list[Tally]:
    found = []
    for column in COLUMNS:
        tally = Tally(name_of(column))
        for batch in _batches(engine, column, None):
            _count(engine, tally, [value for _, value in batch])
            heard(tally.column, len(batch))
        found.append(tally)

    return found


def _count(engine: Engine, tally: Tally, values: Sequence[bytes]) -> None:
    tally.values += len(values)
    for value in values:
        if engine.vault.is_fresh(value):
            continue
        if _resealed(engine, value) is None:
            tally.unreadable += 1
        else:
            tally.older += 1


def _finish(engine: Engine, actor: Actor, found: Sequence[Tally]) -> None:
    now, key = engine.clock(), engine.vault.key_name
    data = {"key": key, "values": sum(each.values for each in found)}

    def work(connection: Connection) -> None:
        sealed.note_place(connection, Place(key=key), now)
        journal.append(connection, SUBJECT, "encryption.rotated", actor=actor.name, now=now, data=data)

    engine.ledger.run(work)
    log.info("encryption.rotated", **data)


@dataclass(frozen=True, slots=True)
class Keys:
    """How many older keys are set, since when the first has sealed everything, and what sealed the newest values."""

    older: int
    done_at: float | None
    lately: Tally


def standing(engine: Engine) -> Keys:
    """Told without walking through the ledger: by the last rotation, and by the newest values."""
    lately = Tally("newest")
    with engine.ledger.read() as connection:
        known = sealed.place(connection)
        for column in COLUMNS:
            _count(engine, lately, sealed.newest(connection, column, NEWEST))
    done = known is not None and known[1] == Place(key=engine.vault.key_name)

    return Keys(engine.vault.older_keys, known[0] if known is not None and done else None, lately)
