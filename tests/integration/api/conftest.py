from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger.migrate import upgrade
from tests.support.api import ApiServer
from tests.support.processes import free_port
from tests.support.servers import Databases, RedisServer


@pytest.fixture(scope="module")
def ledger_url(postgres: Databases) -> Iterator[str]:
    """A migrated PostgreSQL database of this module's own."""
    url = postgres.create(template=postgres.template("refundry_ledger", upgrade))
    yield url
    postgres.drop(url)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, ledger_url: str) -> Iterator[ApiServer]:
    """One server for all tests of a module: each has a client, a key and references of its own. Redis is away."""
    server = ApiServer(tmp_path_factory.mktemp("api"), ledger_url, f"redis://127.0.0.1:{free_port()}/0")
    yield server.start()
    server.stop()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of this test's own, for clients and references."""
    return f"t{abs(hash(request.node.nodeid)) % 10**12}"


@pytest.fixture
def client(api: ApiServer, name: str) -> Iterator[httpx.Client]:
    """A client that may write and read."""
    with api.client(api.key(name)) as made:
        yield made


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ApiServer]]:
    """Starts further servers, with settings of their own."""
    made: list[ApiServer] = []

    def start(database_url: str, redis_url: str | None = None, **sections: Any) -> ApiServer:
        away = f"redis://127.0.0.1:{free_port()}/0"
        server = ApiServer(tmp_path / f"api{len(made)}", database_url, redis_url or away, **sections)
        made.append(server)
        return server.start()

    yield start
    for server in made:
        server.stop()


@pytest.fixture
def own_redis(redis_server: RedisServer) -> RedisServer:
    """A Redis that the test may end."""
    return redis_server
