from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.migrate import upgrade  # noqa: F401 - a missing migration shows at import
from tests.support.servers import RedisServer
from tests.support.stack import Stack

PROVIDERS = ("smartpay", "smartretry", "jpm_smartpay", "smart2pay", "smart2pay_card", "smart_glocal")


@pytest.fixture
def stack(tmp_path: Path, database_url: str, redis_server: RedisServer) -> Iterator[Callable[..., Stack]]:
    """Starts a whole system on either database."""
    made: list[Stack] = []

    def start(*, workers: int = 1, beats: int = 1, sections: Any = {}, **accounts: Any) -> Stack:  # noqa: B006
        system = Stack(tmp_path / "stack", database_url, redis_server, accounts=accounts, sections=sections)
        made.append(system)
        return system.start(workers=workers, beats=beats)

    yield start
    for system in made:
        system.stop()
