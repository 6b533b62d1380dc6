"""What every test may rely on: a clean environment, real servers, and no network in unit tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.servers import Databases, PostgresServer, RedisServer
from tests.support.shared_postgres import SharedPostgres

pytest_plugins = ["tests.support.celery_fixtures"]

TESTS = Path(__file__).parent
BY_FOLDER = {"integration": "integration", "e2e": "e2e", "chaos": "chaos", "unit": "disable_socket"}

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folder says what a test needs: its mark, and for unit tests that no socket may be opened."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        if folder in BY_FOLDER:
            item.add_marker(BY_FOLDER[folder])


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the tests are not those of the tests."""
    for name in os.environ:
        if name.startswith("REFUNDRY_"):
            monkeypatch.delenv(name)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A running Redis of the test's own, which it may kill."""
    server = RedisServer(tmp_path / "redis")
    try:
        server.start()
        yield server
    finally:
        server.process.remove()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty Redis."""
    return redis_server.url


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Databases]:
    """The databases of the one PostgreSQL of this test run."""
    base = tmp_path_factory.getbasetemp()
    shared = SharedPostgres(base if worker_id == "master" else base.parent)
    yield shared.join()
    shared.leave()


@pytest.fixture
def postgres_url(postgres: Databases) -> Iterator[str]:
    """An empty PostgreSQL database."""
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL of the test's own, which it may end."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'refundry.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database of either kind."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(name)
    return url
