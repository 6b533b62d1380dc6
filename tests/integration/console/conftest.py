"""A console over real sockets: a ledger, a Redis, a sandbox, and nobody who works."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.support.console import PASSWORD, ConsoleServer, add_people
from tests.support.servers import RedisServer
from tests.support.stack import Stack


@dataclass
class Visitor:
    """Somebody's browser, without the browser."""

    client: httpx.Client

    def get(self, path: str, **options: object) -> httpx.Response:
        return self.client.get(path, **options)

    def post(self, path: str, data: dict[str, object] | None = None, **options: object) -> httpx.Response:
        """With the token of a page of this session, as a form has it."""
        found = re.search(r'name="csrf" value="(\w+)"', self.get("/settings").text)
        assert found
        headers = options.pop("headers", {"sec-fetch-site": "same-origin"})
        return self.client.post(path, data={"csrf": found[1], **(data or {})}, headers=headers, **options)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("console")
    redis = RedisServer(folder / "redis")
    redis.start()
    stack = Stack(folder / "stack", f"sqlite:///{folder / 'refundry.db'}", redis)
    try:
        yield stack.start(workers=0, beats=0)
    finally:
        stack.stop()
        redis.process.remove()


@pytest.fixture(scope="module")
def console(system: Stack) -> ConsoleServer:
    return ConsoleServer(system).start()


@pytest.fixture(scope="module")
def staffed(console: ConsoleServer) -> ConsoleServer:
    add_people(console.stack)
    return console


@pytest.fixture(scope="module")
def known() -> dict[str, str]:
    """The sessions of those who signed in already."""
    return {}


@pytest.fixture
def visitor(console: ConsoleServer, known: dict[str, str]) -> Iterator[Callable[..., Visitor]]:
    """Somebody who signed in with a password, some time before or `fresh`; `None` has not."""
    clients: list[httpx.Client] = []

    def come(name: str | None = "oli", *, fresh: bool = False) -> Visitor:
        client = httpx.Client(base_url=console.url, timeout=20)
        clients.append(client)
        if name is not None and (fresh or name not in known):
            form = {"name": name, "password": PASSWORD}
            answer = client.post("/sign-in", data=form, headers={"sec-fetch-site": "same-origin"})
            assert answer.status_code == 303, answer.text
            known.setdefault(name, client.cookies["refundry"])
        elif name is not None:
            client.cookies.set("refundry", known[name])
        return Visitor(client)

    yield come
    for client in clients:
        client.close()
