"""The database's schema: brought up to date, and asked how far it is."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from ledger.session import Ledger

# Any number will do, as long as nobody else locks it: "refundry" in ASCII.
_LOCK = 0x726566756E647279


def upgrade(url: str) -> None:
    """Bring the database to the newest schema. Callers at once wait for each other; the last of them find it done."""
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


def is_current(engine: Engine) -> bool:
    """Whether the database has the schema that this code was written for."""
    with engine.connect().execution_options(refundry_read=True) as connection:
        return _revision(connection) == head()


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Held to the end of the transaction. On SQLite the transaction itself is the lock.
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
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
