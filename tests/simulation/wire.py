"""The way to the provider: the sandbox called in process, with everything that a network does to a request."""

import asyncio
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

import httpx

from domain.outcome import NotSent, NotSentReason, Unknown
from providers.transport import Answer
from sandbox.app import create_app
from tests.simulation.judge import Violation

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

ORIGIN = "http://sandbox.test"


class Provider:
    """The sandbox's application, made once; its world is emptied for every run."""

    def __init__(self) -> None:
        self.app = create_app(seed=0)
        self.world = self.app.state.world

    async def call(self, request: httpx.Request, gone: asyncio.Event) -> httpx.Response | None:
        """One exchange; None when the connection was cut without a byte of an answer."""
        inbox: list[dict[str, Any]] = [{"type": "http.request", "body": request.content, "more_body": False}]
        answer: dict[str, Any] = {"body": b""}

        async def receive() -> dict[str, Any]:
            if inbox:
                return inbox.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer["status"], answer["headers"] = message["status"], message["headers"]
            else:
                answer["body"] += message.get("body", b"")

        try:
            await self.app.router(_scope(request), receive, send)
        except httpx.RemoteProtocolError:
            return None

        return httpx.Response(answer["status"], headers=answer["headers"], content=answer["body"], request=request)

    async def control(self, method: str, path: str, body: Any) -> Any:
        """The sandbox's own interface."""
        request = httpx.Request(method, f"{ORIGIN}/_sandbox{path}", json=body)
        response = await self.call(request, asyncio.Event())
        assert response is not None

        return response


def _scope(request: httpx.Request) -> dict[str, Any]:
    url = request.url

    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path,
        "query_string": url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("10.0.0.1", 1),
        "server": ("sandbox.test", 80),
        "extensions": {},
    }


_made: list[Provider] = []


def provider() -> Provider:
    """The one of this interpreter."""
    if not _made:
        _made.append(Provider())

    return _made[0]


class SimNetwork:
    """The port `Network` of one process and account, in virtual time."""

    def __init__(self, world: "World", process: "Process", account: str, total: float) -> None:
        self._world = world
        self._process = process
        self._account = account
        self._total = total

    async def close(self) -> None:
        """Nothing was opened."""

    async def send(self, request: httpx.Request) -> Answer:
        """See `Network`."""
        world = self._world
        moving = request.method == "POST"
        world.flying[self._account] += moving
        try:
            if moving:
                self._leased(request)
            await self._process.at("send", short=True)
            return await self._exchange(request)
        finally:
            world.flying[self._account] -= moving

    def _leased(self, request: httpx.Request) -> None:
        said = request.content + b" ".join(value for _, value in request.headers.raw)
        try:
            self._world.judge.sends(said, self._process.name, self._process.clock())
        except Violation as violation:
            self._world.fail(violation)

    async def _exchange(self, request: httpx.Request) -> Answer:
        world, faults = self._world, self._world.faults
        chance = faults.stream("way")
        patience = asyncio.get_running_loop().time() + self._total
        if world.outage(self._account) and chance.random() < 0.7:
            return NotSent(reason=NotSentReason.CONNECTION, detail="ConnectionRefusedError")
        if faults.strikes("refused"):
            return NotSent(reason=NotSentReason.CONNECTION, detail="ConnectionRefusedError")
        if world.outage(self._account) or faults.strikes("lost_before"):
            await self._sleep_until(patience)
            return Unknown(reason="no answer: ServerTimeoutError")
        if faults.strikes("late_arrival"):
            gone = asyncio.Event()
            world.background(self._arrive(request, self._total + chance.random() * self._total * 0.9, gone))
            await self._sleep_until(patience)
            gone.set()
            return Unknown(reason="no answer: ServerTimeoutError")
        gone = asyncio.Event()
        exchange = world.background(self._arrive(request, 0.005 + chance.random() * 0.1, gone))
        done, _ = await asyncio.wait({exchange}, timeout=self._total)
        gone.set()
        if not done:
            return Unknown(reason="no answer: ServerTimeoutError")
        response: httpx.Response | None = exchange.result()
        if faults.strikes("slow_answer"):
            left = patience - asyncio.get_running_loop().time()
            await asyncio.sleep(left * chance.random())
        await self._process.at("receive")
        if response is None or faults.strikes("lost_after"):
            return Unknown(reason="no answer: ServerDisconnectedError")

        return response

    async def _arrive(self, request: httpx.Request, delay: float, gone: asyncio.Event) -> httpx.Response | None:
        world = self._world
        world.flying[self._account] += 1
        try:
            await asyncio.sleep(delay)
            response = await world.execute(self._account, request, gone)
        finally:
            world.flying[self._account] -= 1

        return response

    async def _sleep_until(self, when: float) -> None:
        await asyncio.sleep(max(0.0, when - asyncio.get_running_loop().time()))
