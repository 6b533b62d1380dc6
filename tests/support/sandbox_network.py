"""The sandbox without a socket, for engines in one process."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from domain.outcome import Unknown
from providers.transport import Answer
from sandbox.app import create_app

PROVIDERS = ("smartpay", "smartretry", "jpm_smartpay", "smart2pay", "smart2pay_card", "smart_glocal")
CUT = Unknown(reason="no answer: cut")


class SandboxNetwork:
    """`trouble` meets refund calls in turn: an answer in the sandbox's place, or a function of the sandbox's answer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.app = create_app(clock=clock, seed=1)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1")
        self.trouble: list[Any] = []
        self.bodies: list[bytes] = []
        self.asked: list[str] = []

    async def send(self, request: httpx.Request) -> Answer:
        moves = request.method == "POST" and "refund" in request.url.path
        trouble = self.trouble.pop(0) if moves and self.trouble else None
        self.bodies.extend([request.content] if moves else [])
        self.asked.extend([] if moves else [request.url.path])
        if trouble is not None and not callable(trouble):
            answered: Answer = trouble
            return answered
        try:
            answer = await self.client.send(
                httpx.Request(request.method, request.url, headers=request.headers, content=request.content)
            )
        except httpx.TransportError:
            return CUT
        await answer.aread()

        return trouble(answer) if trouble is not None else answer

    async def close(self) -> None:
        """Nothing was opened."""

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """The sandbox's own interface."""

        async def call() -> Any:
            answer = await self.client.request(method, f"/_sandbox/{path}", json=body)
            return answer.json()

        # A loop may be running here: what is asked in the middle of a conversation is asked beside it.
        with ThreadPoolExecutor(1) as aside:
            return aside.submit(asyncio.run, call()).result()

    def accounts(self) -> dict[str, dict[str, Any]]:
        """Settings of every account."""
        given = self.control("GET", "credentials")

        return {
            name: {"provider": provider_of(name), **{key: value for key, value in keys.items() if value is not None}}
            for name, keys in given.items()
        }


def provider_of(account: str) -> str:
    return "smart2pay" if account.startswith("smart2pay") else account.removesuffix("_oauth")
