from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.migrate import upgrade
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


@pytest.fixture
def postgres_ledger(postgres: Databases) -> Iterator[Ledger]:
    url = postgres.create(template=postgres.template("refundry_ledger", upgrade))
    ledger = Ledger(url, pool_size=12)
    yield ledger
    ledger.dispose()
    postgres.drop(url)


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
