"""SQLite in memory: one database, a connection for each simulated process, commits that fail before or after."""

import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, SADeprecationWarning

from ledger.migrate import upgrade
from ledger.models import metadata
from ledger.session import Ledger

T = TypeVar("T")

URL = "sqlite:///file:refundry_simulation?mode=memory&cache=shared&uri=true"
FILE = "file:refundry_simulation?mode=memory&cache=shared"
SLOTS = 8


class Gate(Protocol):
    """Where a simulated process may die, or find its database away."""

    def before_commit(self) -> None:
        """May raise: nothing is written."""

    def after_commit(self) -> None:
        """May raise: it is written, and nobody hears of it."""

    def reading(self) -> None:
        """May raise."""


class Database:
    """Made once per interpreter and emptied for every run: compiled statements stay."""

    def __init__(self) -> None:
        self.judge = sqlite3.connect(FILE, uri=True, isolation_level=None)
        with warnings.catch_warnings():
            # One connection for one thread is what is wanted here.
            warnings.simplefilter("ignore", SADeprecationWarning)
            upgrade(URL)
            self._ledgers = [Ledger(URL) for _ in range(SLOTS)]
        names = [table.name for table in reversed(metadata.sorted_tables)]
        self._emptying = [f"DELETE FROM {name}" for name in names]
        kept = self.judge.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone()
        if kept:
            self._emptying.append("DELETE FROM sqlite_sequence")

    def clear(self) -> None:
        """Forget everything."""
        self.judge.execute("BEGIN IMMEDIATE")
        for statement in self._emptying:
            self.judge.execute(statement)
        self.judge.execute("COMMIT")

    def ledger(self, slot: int) -> Ledger:
        """The connection of one machine."""
        return self._ledgers[slot]

    def rows(self, query: str, *values: object) -> list[Any]:
        """What the judge reads: its own connection, its own SQL."""
        return self.judge.execute(query, values).fetchall()


class SimLedger(Ledger):
    """The production ledger with a gate around every transaction."""

    def __init__(self, real: Ledger, gate: Gate) -> None:
        self.url, self.sqlite, self.engine = real.url, real.sqlite, real.engine
        self._gate = gate

    def run(self, work: Callable[[Connection], T], *, tries: int = 1) -> T:
        self._gate.before_commit()
        result = super().run(work, tries=tries)
        self._gate.after_commit()

        return result

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._gate.reading()
        with super().read() as connection:
            yield connection

    def dispose(self) -> None:
        """The connections belong to all runs."""


def away(words: str) -> OperationalError:
    """The database is not there."""
    return OperationalError(words, None, sqlite3.OperationalError(words))


_made: list[Database] = []


def database() -> Database:
    """The one of this interpreter."""
    if not _made:
        _made.append(Database())

    return _made[0]
