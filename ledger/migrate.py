"""The database's schema: brought up to date, and asked how far it is."""

from enum import StrEnum
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from ledger.session import Ledger

# Any number will do, as long as nobody else locks it: "refundry" in ASCII.
_LOCK = 0x726566756E647279


class Fit(StrEnum):
    """How the database's schema stands to the one that this program was written for.

    AHEAD: a newer program has upgraded it. What it added leaves room for this one, which may go on meanwhile.
    """

    CURRENT = "current"
    BEHIND = "behind"
    AHEAD = "ahead"


def upgrade(url: str) -> None:
    """Bring the database to the newest schema that this program knows; one that is ahead of it stays as it is.

    Callers at once wait for each other; the last of them find it done.
    """
    ledger = Ledger(url, pool_size=1)
    try:
        ledger.run(_upgrade)
    finally:
        ledger.dispose()


def current(url: str) -> str | None:
    """The database's revision; None where nothing was ever made."""
    ledger = Ledger(url, pool_size=1)
    try:
        if ledger.sqlite and not _exists(ledger.url.database):
            return None
        with ledger.read() as connection:
            return _revision(connection)
    finally:
        ledger.dispose()


def head() -> str:
    """The newest revision that this code knows."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    assert newest is not None

    return newest


def fit(engine: Engine) -> Fit:
    """How the database's schema stands to this program's."""
    with engine.connect().execution_options(refundry_read=True) as connection:
        return fits(_revision(connection))


def fits(revision: str | None) -> Fit:
    """How this revision stands to this program's: one that it does not know is a newer one's."""
    known = {each.revision for each in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision == head():
        return Fit.CURRENT

    return Fit.BEHIND if revision is None or revision in known else Fit.AHEAD


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Held to the end of the transaction. On SQLite the transaction itself is the lock.
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    if fits(_revision(connection)) is Fit.BEHIND:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "ledger:migrations")

    return config


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _exists(database: str | None) -> bool:
    return database is not None and Path(database).exists()
