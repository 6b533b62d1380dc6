from collections.abc import Iterator

import pytest
import redis

from signals.client import connect
from tests.support.servers import RedisServer


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all who do not harm it."""
    server = RedisServer(tmp_path_factory.mktemp("signals") / "redis")
    try:
        server.start()
        yield server
    finally:
        server.process.remove()


@pytest.fixture
def client(shared_redis: RedisServer) -> Iterator["redis.Redis"]:
    """A client of an empty Redis."""
    with connect(shared_redis.url) as connected:
        connected.flushall()
        yield connected
