from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import RedisServer


@pytest.fixture(scope="module")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for a module's many examples."""
    server = RedisServer(Path(tmp_path_factory.mktemp("hostile") / "redis"))
    try:
        server.start()
        yield server
    finally:
        server.process.remove()
