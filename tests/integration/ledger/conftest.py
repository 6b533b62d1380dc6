from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, event

from ledger.migrate import upgrade
from ledger.models import metadata
from ledger.session import Ledger
from tests.support.servers import Databases


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A migrated SQLite database."""
    path = tmp_path_factory.mktemp("template") / "refundry.db"
    upgrade(f"sqlite:///{path}")

    return path.read_bytes()


@pytest.fixture
def sqlite_ledger(tmp_path: Path, sqlite_template: bytes) -> Iterator[Ledger]:
    path = tmp_path / "refundry.db"
    path.write_bytes(sqlite_template)
    ledger = Ledger(f"sqlite:///{path}", pool_size=12)
    yield ledger
    ledger.dispose()


@pytest.fixture(scope="session")
def shared_postgres_ledger(postgres: Databases) -> Iterator[Ledger]:
    """A migrated PostgreSQL database for all tests: making one takes longer than most of them."""
    url = postgres.create(template=postgres.template("refundry_ledger", upgrade))
    ledger = Ledger(url, pool_size=12)
    yield ledger
    ledger.dispose()
    postgres.drop(url)


@pytest.fixture
def postgres_ledger(shared_postgres_ledger: Ledger) -> Iterator[Ledger]:
    yield shared_postgres_ledger
    with shared_postgres_ledger.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """An empty, migrated ledger of either kind."""
    name = "sqlite_ledger" if request.param == "sqlite" else "postgres_ledger"
    found: Ledger = request.getfixturevalue(name)

    return found


@pytest.fixture
def second(ledger: Ledger) -> Iterator[Ledger]:
    """Another process's view of the same ledger."""
    other = Ledger(ledger.url.render_as_string(hide_password=False))
    yield other
    other.dispose()


@pytest.fixture
def count_statements(postgres_ledger: Ledger) -> Iterator[Callable[[Callable[[], object]], int]]:
    """Counts the round trips that some work makes."""
    seen: list[str] = []

    def note(*arguments: Any) -> None:
        seen.append(arguments[2])

    def count(work: Callable[[], object]) -> int:
        seen.clear()
        work()
        return len(seen)

    event.listen(postgres_ledger.engine, "before_cursor_execute", note)
    yield count
    event.remove(postgres_ledger.engine, "before_cursor_execute", note)
